"""Names of tensors: pairs that rename them, numbers read off them, and the error when they do not match."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping


def both_kinds(pairs: Mapping[str, str], ours: str = "", theirs: str = "") -> Iterator[tuple[str, str]]:
    """Of modules with a weight and a bias, the names of the tensors, ours and theirs, after these prefixes."""
    for our, their in pairs.items():
        for kind in ("weight", "bias"):
            yield f"{ours}{our}.{kind}", f"{theirs}{their}.{kind}"


def count_numbers(pattern: str, names: Iterable[str]) -> int:
    """How many different numbers the group of `pattern` matches at the start of names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})


def compare_names(given: Collection[str], expected: Collection[str], whose: str, hint: str = "") -> None:
    """Raises ValueError, which names the keys and ends with `hint`, if keys are missing or not known."""
    missing, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    wrong = {"missing": missing, "not known": unknown}
    if words := [f"{what}: {shorten(names)}" for what, names in wrong.items() if names]:
        raise ValueError(f"not the state dict of {whose}; {'; '.join(words)}{hint}")


def shorten(names: list[str], most: int = 8) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
