"""CrossViT's weights, from and to timm and the published checkpoints. One table of names serves both directions.

    published                               | ours
    pos_embed.0                             | small.positions
    blocks.1.blocks.0.2.attn.qkv.weight     | small.blocks.5.attention.{query,key,value}.weight, stacked (3 an encoder)
    blocks.1.projs.0.2.weight               | fusions.1.small.project.linear.weight
    blocks.1.fusion.0.attn.wq.weight        | fusions.1.small.attentions.0.query.weight

Branch 0 is S, branch 1 is L; the number of a fusion is that of the branch that provides the query. timm took the
published names, except that four end in _0 and _1 where the published ones end in .0 and .1.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from xattn_edu.weights.names import compare_names, count_numbers, unwrapped

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
_CROSSVIT_DAGGER = {"proj.0": "convolutions.0", "proj.2": "convolutions.2", "proj.4": "convolutions.4"}
_CROSSVIT_MARKS = {"timm": "_", "published": "."}


class _Sizes(NamedTuple):
    """The size of a CrossViT, read off the names of its tensors."""

    encoders: int
    depths: tuple[int, int]  # blocks of S and of L in an encoder
    fusion_layers: int
    numbered: bool  # whether the layers of a fusion have numbers in theirs: a single layer may have none
    convolutions: bool  # in the patch embedding of the models called dagger, instead of a linear layer


def crossvit_from_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of timm's CrossViT as one for our `CrossViT`, in copies.

    Load it into a model of the same shape, which `create_model` has under the same name. Raises ValueError,
    which names the keys, if keys are missing or not known.
    """
    return _crossvit_from(state_dict, "timm")


def crossvit_to_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of our `CrossViT` as one for timm's: `crossvit_from_timm` undone, bit for bit.

    A dict of the gradients of all parameters is converted as well. Raises ValueError, which names the keys, if keys are
    missing or not known, and for another fusion than cross-attention, because only that was published.
    """
    return _crossvit_to(state_dict, "timm")


def crossvit_from_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the CrossViT that Chen, Fan and Panda (2021) published as one for ours, in copies.

    Raises ValueError, which names the keys, if keys are missing or not known.
    """
    return _crossvit_from(state_dict, "published")


def crossvit_to_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of our `CrossViT` as one for the published code: `crossvit_from_published` undone, bit for bit.

    Raises ValueError as `crossvit_to_timm` does.
    """
    return _crossvit_to(state_dict, "published")


def _crossvit_from(state_dict: Mapping[str, Tensor], form: str) -> dict[str, Tensor]:
    state_dict = unwrapped(state_dict)
    names = _crossvit_names(form, _sizes_of_theirs(state_dict))
    compare_names(state_dict, names, f"a CrossViT with {form} names", _crossvit_hint(state_dict, form))
    parts = {theirs: state_dict[theirs].tensor_split(len(ours)) for theirs, ours in names.items()}
    return {our: part.clone() for theirs, ours in names.items() for our, part in zip(ours, parts[theirs])}


def _crossvit_to(state_dict: Mapping[str, Tensor], form: str) -> dict[str, Tensor]:
    fused = count_numbers(r"fusions\.(\d+)\.(?:small|large)\.", state_dict)
    if not fused and any(name.startswith("small.") for name in state_dict):
        raise ValueError('only CrossViTs with fusion="cross_attention" were published: there are no names for others')
    names = _crossvit_names(form, _sizes_of_ours(state_dict))
    compare_names(state_dict, [our for ours in names.values() for our in ours], "our CrossViT")
    return {theirs: torch.cat([state_dict[our] for our in ours]) for theirs, ours in names.items()}


def _sizes_of_theirs(names: Collection[str]) -> _Sizes:
    depths = [max(1, count_numbers(rf"blocks\.\d+\.blocks\.{branch}\.(\d+)\.", names)) for branch in (0, 1)]
    layers = count_numbers(r"blocks\.\d+\.fusion\.\d+\.(\d+)\.", names)
    return _Sizes(
        encoders=max(1, count_numbers(r"blocks\.(\d+)\.", names)),
        depths=(depths[0], depths[1]),
        fusion_layers=max(1, layers),
        numbered=layers > 0,
        convolutions=count_numbers(r"patch_embed\.\d+\.proj\.(\d+)\.", names) > 0,
    )


def _sizes_of_ours(names: Collection[str]) -> _Sizes:
    encoders = max(1, count_numbers(r"fusions\.(\d+)\.(?:small|large)\.", names))
    blocks = [count_numbers(rf"{branch}\.blocks\.(\d+)\.", names) for branch in ("small", "large")]
    depths = [max(1, -(-count // encoders)) for count in blocks]  # rounded up, as blocks may be missing
    layers = max(1, count_numbers(r"fusions\.\d+\.\w+\.norms\.(\d+)\.", names))
    return _Sizes(
        encoders=encoders,
        depths=(depths[0], depths[1]),
        fusion_layers=layers,
        numbered=layers > 1,
        convolutions=count_numbers(r"\w+\.patch_embedding\.convolutions\.(\d+)\.", names) > 0,
    )


def _crossvit_names(form: str, sizes: _Sizes) -> dict[str, list[str]]:
    """Their name of each tensor, with ours: one name, or the three of the tensors that theirs stacks."""
    mark, names = _CROSSVIT_MARKS[form], {}
    for number, branch in enumerate(("small", "large")):
        names[f"cls_token{mark}{number}"] = [f"{branch}.class_token"]
        names[f"pos_embed{mark}{number}"] = [f"{branch}.positions"]
        for theirs, ours in _branch_modules(number, branch, sizes):
            for kind in ("weight", "bias"):
                names[f"{theirs}.{kind}"] = [f"{our}.{kind}" for our in ours]
    return names


def _branch_modules(b: int, branch: str, sizes: _Sizes) -> Iterator[tuple[str, list[str]]]:
    """The modules of branch number `b`, each with a weight and a bias: their name, with ours."""
    for theirs, our in (_CROSSVIT_DAGGER if sizes.convolutions else _CROSSVIT_LINEAR).items():
        yield f"patch_embed.{b}.{theirs}", [f"{branch}.patch_embedding.{our}"]
    for part in ("norm", "head"):
        yield f"{part}.{b}", [f"{branch}.{part}"]
    depth = sizes.depths[b]
    for k in range(sizes.encoders):
        for j, (theirs, ours) in product(range(depth), _CROSSVIT_BLOCK.items()):
            yield f"blocks.{k}.blocks.{b}.{j}.{theirs}", [f"{branch}.blocks.{k * depth + j}.{our}" for our in ours]
        for number, part in ((0, "norm"), (2, "linear")):  # 1 is the GELU between
            yield f"blocks.{k}.projs.{b}.{number}", [f"fusions.{k}.{branch}.project.{part}"]
            yield f"blocks.{k}.revert_projs.{b}.{number}", [f"fusions.{k}.{branch}.back.{part}"]
        for j, (theirs, our) in product(range(sizes.fusion_layers), _CROSSVIT_FUSION.items()):
            place = f"blocks.{k}.fusion.{b}.{j}" if sizes.numbered else f"blocks.{k}.fusion.{b}"
            yield f"{place}.{theirs}", [f"fusions.{k}.{branch}.{our.format(j)}"]


def _crossvit_hint(names: Collection[str], form: str) -> str:
    """The likely fix for a state dict of another form."""
    for other, mark in _CROSSVIT_MARKS.items():
        if other != form and f"pos_embed{mark}0" in names:
            return f"; these are {other} names: take crossvit_from_{other}"
    if "small.positions" in names:
        return "; these are our own names: load_state_dict takes them as they are"
    return ""
