"""Names of tensors: rules that rename them, numbers read off them, and what to say when they do not match."""

import re
from collections.abc import Callable, Collection

# --- Swin. Our own names, made theirs by these rules in turn, are what a file must hold.

Rules = dict[str, str | Callable[[re.Match[str]], str]]


def renamed(name: str, rules: Rules) -> str:
    for pattern, new in rules.items():
        name = re.sub(rf"\b{pattern}", new, name)
    return name


def count_numbers(pattern: str, names: Collection[str]) -> int:
    """How many different numbers `pattern` finds in names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})


def compare_names(given: Collection[str], expected: Collection[str], whose: str, hint: str = "") -> None:
    missing, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    wrong = {"missing": missing, "not known": unknown}
    if words := [f"{what}: {shorten(names)}" for what, names in wrong.items() if names]:
        raise ValueError(f"not the state dict of {whose}; {'; '.join(words)}{hint}")


def shorten(names: list[str], most: int = 8) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
