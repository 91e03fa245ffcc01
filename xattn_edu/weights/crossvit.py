"""CrossViT's weights, from and to timm and the published checkpoints."""

from collections.abc import Collection, Iterator, Mapping
from itertools import product

import torch
from torch import Tensor

from xattn_edu.weights.names import compare_names, count_numbers

# --- CrossViT. One table of names serves both directions. Branch 0 is S, branch 1 is L; a fusion's number is that of the
# branch that asks. timm took the published code's names, but for four that end in _0 and _1 where theirs end in .0 and .1.

_CROSSVIT_BLOCK = {
    "norm1": ["norm1"],
    "attn.qkv": ["attention.query", "attention.key", "attention.value"],  # stacked, in this order
    "attn.proj": ["attention.output"],
    "norm2": ["norm2"],
    "mlp.fc1": ["mlp.fc1"],
    "mlp.fc2": ["mlp.fc2"],
}
_CROSSVIT_FUSION = {
    "norm1": "norms.{}",
    "attn.wq": "attentions.{}.query",
    "attn.wk": "attentions.{}.key",
    "attn.wv": "attentions.{}.value",
    "attn.proj": "attentions.{}.output",
}
_CROSSVIT_LINEAR = {"proj": "projection"}
_CROSSVIT_DAGGER = {f"proj.{number}": f"convolutions.{number}" for number in (0, 2, 4)}
_CROSSVIT_MARKS = {"timm": "_", "published": "."}
# What the numbers in names tell: encoders, blocks of S, blocks of L, layers of a fusion, convolutions of an embedding.
_CROSSVIT_THEIRS = (
    r"blocks\.(\d+)\.",
    r"blocks\.\d+\.blocks\.0\.(\d+)\.",
    r"blocks\.\d+\.blocks\.1\.(\d+)\.",
    r"blocks\.\d+\.fusion\.\d+\.(\d+)\.",
    r"patch_embed\.\d+\.proj\.(\d+)\.",
)
_CROSSVIT_OURS = (
    r"fusions\.(\d+)\.(?:small|large)\.",
    r"small\.blocks\.(\d+)\.",
    r"large\.blocks\.(\d+)\.",
    r"fusions\.\d+\.\w+\.norms\.(\d+)\.",
    r"\w+\.patch_embedding\.convolutions\.(\d+)\.",
)


def crossvit_from_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of timm's CrossViT as one for our `CrossViT`, in copies.

    Load it into a model of the same shape, which `create_model` has under the same name. Raises ValueError that names
    the keys it does not know or does not find.
    """
    return _crossvit_from(state_dict, "timm")


def crossvit_to_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of our `CrossViT` as one for timm's: `crossvit_from_timm` undone, bit for bit.

    A dict of the gradients of all parameters is converted as well. Raises ValueError that names the keys it does not
    know or does not find, and for a fusion that is not cross-attention: only that was published.
    """
    return _crossvit_to(state_dict, "timm")


def crossvit_from_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the CrossViT that Chen, Fan and Panda (2021) published as one for ours, in copies.

    Raises ValueError that names the keys it does not know or does not find.
    """
    return _crossvit_from(state_dict, "published")


def crossvit_to_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of our `CrossViT` as one for the published code: `crossvit_from_published` undone, bit for bit.

    Raises ValueError as `crossvit_to_timm` does.
    """
    return _crossvit_to(state_dict, "published")


def _crossvit_from(state_dict: Mapping[str, Tensor], form: str) -> dict[str, Tensor]:
    encoders, small, large, layers, dagger = (count_numbers(pattern, state_dict) for pattern in _CROSSVIT_THEIRS)
    names = _crossvit_names(form, encoders, (small, large), layers, dagger)
    compare_names(state_dict, names, f"a CrossViT with {form} names", _crossvit_hint(state_dict, form))
    parts = {theirs: state_dict[theirs].tensor_split(len(ours)) for theirs, ours in names.items()}
    return {our: part.clone() for theirs, ours in names.items() for our, part in zip(ours, parts[theirs])}


def _crossvit_to(state_dict: Mapping[str, Tensor], form: str) -> dict[str, Tensor]:
    encoders, small, large, layers, dagger = (count_numbers(pattern, state_dict) for pattern in _CROSSVIT_OURS)
    if not encoders and any(name.startswith("small.") for name in state_dict):
        raise ValueError('only CrossViTs with fusion="cross_attention" were published: there are no names for others')
    depths = (-(-small // max(encoders, 1)), -(-large // max(encoders, 1)))  # rounded up, as some may be missing
    names = _crossvit_names(form, encoders, depths, layers if layers > 1 else 0, dagger)
    compare_names(state_dict, [our for ours in names.values() for our in ours], "our CrossViT")
    return {theirs: torch.cat([state_dict[our] for our in ours]) for theirs, ours in names.items()}


def _crossvit_names(
    form: str, encoders: int, depths: tuple[int, int], layers: int, dagger: int
) -> dict[str, list[str]]:
    """Their name of each tensor, with ours: one, or the three that theirs stacks. 0 layers are one without a number."""
    mark, names = _CROSSVIT_MARKS[form], {}
    for number, branch in enumerate(("small", "large")):
        names[f"cls_token{mark}{number}"] = [f"{branch}.class_token"]
        names[f"pos_embed{mark}{number}"] = [f"{branch}.positions"]
    for theirs, ours in _crossvit_modules(max(encoders, 1), depths, layers, dagger):
        for kind in ("weight", "bias"):
            names[f"{theirs}.{kind}"] = [f"{our}.{kind}" for our in ours]
    return names


def _crossvit_modules(
    encoders: int, depths: tuple[int, int], layers: int, dagger: int
) -> Iterator[tuple[str, list[str]]]:
    """The same for modules, each of which has a weight and a bias."""
    for b, (branch, depth) in enumerate(zip(("small", "large"), depths)):
        for theirs, our in (_CROSSVIT_DAGGER if dagger else _CROSSVIT_LINEAR).items():
            yield f"patch_embed.{b}.{theirs}", [f"{branch}.patch_embedding.{our}"]
        for part in ("norm", "head"):
            yield f"{part}.{b}", [f"{branch}.{part}"]
        for k in range(encoders):
            for j, (theirs, ours) in product(range(max(depth, 1)), _CROSSVIT_BLOCK.items()):
                yield f"blocks.{k}.blocks.{b}.{j}.{theirs}", [f"{branch}.blocks.{k * depth + j}.{our}" for our in ours]
            for number, part in ((0, "norm"), (2, "linear")):  # 1 is the GELU between
                yield f"blocks.{k}.projs.{b}.{number}", [f"fusions.{k}.{branch}.project.{part}"]
                yield f"blocks.{k}.revert_projs.{b}.{number}", [f"fusions.{k}.{branch}.back.{part}"]
            for j, (theirs, our) in product(range(max(layers, 1)), _CROSSVIT_FUSION.items()):
                place = f"blocks.{k}.fusion.{b}.{j}" if layers else f"blocks.{k}.fusion.{b}"
                yield f"{place}.{theirs}", [f"fusions.{k}.{branch}.{our.format(j)}"]


def _crossvit_hint(names: Collection[str], form: str) -> str:
    """What to do with a state dict that is of another form."""
    for other, mark in _CROSSVIT_MARKS.items():
        if other != form and f"pos_embed{mark}0" in names:
            return f"; these are {other} names: take crossvit_from_{other}"
    if "small.positions" in names:
        return "; these are our own names: load_state_dict takes them as they are"
    return '; pass what is under "model" alone' if "model" in names else ""
