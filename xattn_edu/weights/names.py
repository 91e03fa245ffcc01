"""Names of tensors: what training adds to them, pairs that rename them, and the error when they do not match."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

# Where training scripts put a model's state dict, the weights before their moving averages: the published code of
# LAVT, CrossViT and Swin; timm and Lightning; PyTorch's tutorials; DeepSpeed; DeiT; timm.
_WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "model_ema", "state_dict_ema")
_PREFIXES = ("module.", "model.")  # before all names: DistributedDataParallel and AveragedModel; Lightning
_INSIDE = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # torch.compile, FSDP


def taken_out(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The state dict in a training script's dict, and the keys that lead to it; a state dict as it is, and no keys."""
    keys: list[str] = []
    while place := next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None):
        content = content[place]
        keys.append(place)
    return content, keys


def unwrapped(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state dict without what training adds: taken out of a script's dict, and without the prefixes of wrappers.

    Prefixes are "module." (DistributedDataParallel, AveragedModel, timm's moving average) and "model." (Lightning) if
    all names have them, and "_orig_mod." (torch.compile) in any place.
    """
    state, _ = taken_out(state)
    if not all(isinstance(name, str) for name in state):
        return state
    plain = [(_INSIDE.sub("", name), name) for name in state]
    plain = [names for names in plain if names[0] != "n_averaged"]  # of AveragedModel: how many weights it has seen
    while plain and (prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name, _ in plain)), None)):
        plain = [(name.removeprefix(prefix), full) for name, full in plain]
    converted = {name: state[full] for name, full in plain}
    return state if converted.keys() == state.keys() or len(converted) < len(plain) else converted


def prefix_hint(given: Collection[str], expected: Iterable[str]) -> str:
    """The likely fix if the `expected` names are all there, after a prefix that is not known; "" if they are not."""
    expected = list(expected)
    found = (name.removesuffix(expected[0]) for name in given if name.endswith(f".{expected[0]}")) if expected else ()
    for prefix in found:
        if all(prefix + name in given for name in expected):
            return f"; after {prefix!r} the names are right: pass those alone, without it"
    return ""


def both_kinds(pairs: Mapping[str, str], ours: str = "", theirs: str = "") -> Iterator[tuple[str, str]]:
    """Of modules with a weight and a bias, the names of the tensors, ours and theirs, after these prefixes."""
    for our, their in pairs.items():
        for kind in ("weight", "bias"):
            yield f"{ours}{our}.{kind}", f"{theirs}{their}.{kind}"


def count_numbers(pattern: str, names: Iterable[str]) -> int:
    """How many different numbers the group of `pattern` matches at the start of names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})


def compare_names(given: Collection[str], expected: Collection[str], whose: str, hint: str = "") -> None:
    """Raises ValueError, which names the keys and ends with the likely fix, if keys are missing or not known."""
    missing, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    wrong = {"missing": missing, "not known": unknown}
    if words := [f"{what}: {shorten(names)}" for what, names in wrong.items() if names]:
        raise ValueError(
            f"not the state dict of {whose}; {'; '.join(words)}{hint or prefix_hint(given, sorted(expected))}"
        )


def shorten(names: list[str], most: int = 8) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
