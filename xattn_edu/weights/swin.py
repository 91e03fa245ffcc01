"""Swin's weights, from its authors' files and from `transformers`.

microsoft                                  | ours
patch_embed.proj.weight                    | patch_embedding.projection.weight
layers.0.blocks.1.attn.qkv.weight          | stages.0.blocks.1.attention.qkv.weight
layers.0.downsample.reduction.weight       | merges.0.reduction.weight

transformers                                              | ours
encoder.layers.0.blocks.1.attention.{q,k,v}_proj.weight   | stages.0.blocks.1.attention.qkv.weight, stacked
encoder.layers.0.downsample.reduction.weight              | merges.0.reduction.weight
hidden_states_norms.stage1.weight                         | norms.0.weight
"""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from xattn_edu.models.swin import resize_bias_table
from xattn_edu.weights.names import both_kinds, compare_names, count_numbers, unwrapped


class _Form(NamedTuple):
    """How one publisher names the tensors of a Swin."""

    layers: str  # before the number of a stage
    embedding: dict[str, str]  # modules, ours to theirs
    block: dict[str, str]
    qkv: list[str]  # one module, or the three that ours stacks
    bias_table: str
    stage_norm: str
    first_norm: int  # the number of the first stage's norm
    ignored: str  # what a file may hold besides: the classifier with its norm, and what is computed anew


_FORMS = {
    "microsoft": _Form(
        layers="layers",
        embedding={"patch_embedding.projection": "patch_embed.proj", "patch_embedding.norm": "patch_embed.norm"},
        block={
            "norm1": "norm1",
            "attention.output": "attn.proj",
            "norm2": "norm2",
            "mlp.fc1": "mlp.fc1",
            "mlp.fc2": "mlp.fc2",
        },
        qkv=["attn.qkv"],
        bias_table="attn.relative_position_bias_table",
        stage_norm="norm",
        first_norm=0,
        ignored=r"(norm|head)\.(weight|bias)|layers\.\d+\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)",
    ),
    "transformers": _Form(
        layers="encoder.layers",
        embedding={
            "patch_embedding.projection": "embeddings.patch_embeddings.projection",
            "patch_embedding.norm": "embeddings.norm",
        },
        block={
            "norm1": "layernorm_before",
            "attention.output": "attention.o_proj",
            "norm2": "layernorm_after",
            "mlp.fc1": "mlp.fc1",
            "mlp.fc2": "mlp.fc2",
        },
        qkv=["attention.q_proj", "attention.k_proj", "attention.v_proj"],
        bias_table="attention.relative_position_bias.relative_position_bias_table",
        stage_norm="hidden_states_norms.stage",
        first_norm=1,
        ignored=r"(layernorm|classifier)\.(weight|bias)"
        r"|encoder\.layers\.\d+\.blocks\.\d+\.attention\.self\.relative_position_index",
    ),
}
_TRANSFORMERS_4 = {  # a part of a name in transformers 4, and in 5; in this order
    ".attention.self.query.": ".attention.q_proj.",
    ".attention.self.key.": ".attention.k_proj.",
    ".attention.self.value.": ".attention.v_proj.",
    ".attention.self.relative_position_bias_table": ".attention.relative_position_bias.relative_position_bias_table",
    ".attention.output.dense.": ".attention.o_proj.",
    ".intermediate.dense.": ".mlp.fc1.",
    ".output.dense.": ".mlp.fc2.",
}


def swin_from_microsoft(state_dict: Mapping[str, Tensor], window: int | None = None) -> dict[str, Tensor]:
    """The state dict of a Swin that its authors published as one for our `Swin`, in copies.

    The classifier (`norm`, `head`) is left out. Backbones for dense prediction have
    norms of the stages (`norm0`, `norm1`, ...), which are copied; a stage without one gets the identity.
    With `window`, the tables of relative positions are resized to that window (see `swin.resize_bias_table`).
    Raises ValueError, which names the keys, if keys are missing or not known.
    """
    return _swin_from(unwrapped(state_dict), "microsoft", window)


def swin_from_transformers(state_dict: Mapping[str, Tensor], window: int | None = None) -> dict[str, Tensor]:
    """The state dict of `transformers`' SwinModel, SwinBackbone or SwinForImageClassification as one for our `Swin`.

    Names of transformers 4 (as in files on the hub) and 5 are understood. The classifier (`layernorm`, `classifier`)
    is left out. A SwinBackbone has norms for the stages that it returns, which are copied; a stage without one gets the
    identity. `window` and errors as in `swin_from_microsoft`.
    """
    state = {}
    for name, tensor in unwrapped(state_dict).items():
        name = name.removeprefix("swin.")
        for old, new in _TRANSFORMERS_4.items():
            name = name.replace(old, new)
        state[name] = tensor
    return _swin_from(state, "transformers", window)


def _swin_from(state: Mapping[str, Tensor], form: str, window: int | None) -> dict[str, Tensor]:
    names = _swin_names(block_counts(state, _FORMS[form].layers), form)
    given = [name for name in state if not re.fullmatch(_FORMS[form].ignored, name)]
    modules = {name.rpartition(".")[0] for name in given}
    without_norm = [our for our, theirs in names.items() if our.startswith("norms.") and not _any_of(theirs, modules)]
    found = {our: theirs for our, theirs in names.items() if our not in without_norm}
    compare_names(given, [*chain(*found.values())], f"a Swin with {form} names", _swin_hint(state, form))
    converted = {our: torch.cat([state[their] for their in theirs]) for our, theirs in found.items()}
    for our in without_norm:
        _, stage, kind = our.split(".")
        converted[our] = torch.full_like(converted[f"stages.{stage}.blocks.0.norm1.{kind}"], float(kind == "weight"))
    return with_window(converted, window)


def _any_of(names: list[str], modules: Collection[str]) -> bool:
    return any(name.rpartition(".")[0] in modules for name in names)


def block_counts(names: Collection[str], layers: str) -> list[int]:
    """The number of blocks in each stage, 1 at least, from the names of tensors; `layers` stands before a stage."""
    place = re.escape(layers)
    stages = max(1, count_numbers(rf"{place}\.(\d+)\.", names))
    return [max(1, count_numbers(rf"{place}\.{stage}\.blocks\.(\d+)\.", names)) for stage in range(stages)]


def microsoft_names(depths: Sequence[int]) -> dict[str, str]:
    """Our name of each tensor in a Swin with norms of the stages, and the authors' name."""
    return {our: their for our, (their,) in _swin_names(depths, "microsoft").items()}


def _swin_names(depths: Sequence[int], form: str) -> dict[str, list[str]]:
    """Our name of each tensor, and theirs: one name, or the three of the tensors that ours stacks."""
    of = _FORMS[form]
    names, stacked = dict(both_kinds(of.embedding)), {}
    for stage, depth in enumerate(depths):
        for block in range(depth):
            our, their = f"stages.{stage}.blocks.{block}.", f"{of.layers}.{stage}.blocks.{block}."
            names |= both_kinds(of.block, our, their)
            names[f"{our}attention.bias_table"] = f"{their}{of.bias_table}"
            for kind in ("weight", "bias"):
                stacked[f"{our}attention.qkv.{kind}"] = [f"{their}{part}.{kind}" for part in of.qkv]
        if stage < len(depths) - 1:
            our, their = f"merges.{stage}.", f"{of.layers}.{stage}.downsample."
            names |= both_kinds({"norm": "norm"}, our, their)
            names[f"{our}reduction.weight"] = f"{their}reduction.weight"
        names |= both_kinds({f"norms.{stage}": f"{of.stage_norm}{stage + of.first_norm}"})
    return {our: [their] for our, their in names.items()} | stacked


def _swin_hint(names: Collection[str], form: str) -> str:
    """The likely fix for a state dict of another form."""
    if "patch_embedding.norm.weight" in names:
        return "; these are our own names: load_state_dict takes them as they are"
    for other, of in _FORMS.items():
        mark = f"{of.embedding['patch_embedding.projection']}.weight"
        if other != form and any(name.endswith(mark) for name in names):
            return f"; these are {other} names: take swin_from_{other}"
    return ""


def with_window(state: dict[str, Tensor], window: int | None) -> dict[str, Tensor]:
    """Swin's tables of relative positions resized, if a window is given."""
    if window is None:
        return state
    return {n: resize_bias_table(t, window) if n.endswith("bias_table") else t for n, t in state.items()}
