"""Swin's weights, from its authors' files and from `transformers`."""

import re
from collections.abc import Collection, Mapping
from itertools import chain

import torch
from torch import Tensor

from xattn_edu.models.swin import Swin, resize_bias_table
from xattn_edu.weights.names import Rules, compare_names, count_numbers, renamed

SWIN_RULES: dict[str, Rules] = {
    "microsoft": {
        r"patch_embedding\.projection": "patch_embed.proj",
        r"patch_embedding\.norm": "patch_embed.norm",
        r"stages\.": "layers.",
        r"merges\.(\d+)": r"layers.\1.downsample",
        r"norms\.(\d+)": r"norm\1",
        r"attention\.bias_table": "attn.relative_position_bias_table",
        r"attention\.output": "attn.proj",
        r"attention\.": "attn.",
    },
    "transformers": {
        r"patch_embedding\.projection": "embeddings.patch_embeddings.projection",
        r"patch_embedding\.norm": "embeddings.norm",
        r"stages\.": "encoder.layers.",
        r"merges\.(\d+)": r"encoder.layers.\1.downsample",
        r"norms\.(\d+)": lambda found: f"hidden_states_norms.stage{int(found[1]) + 1}",
        r"attention\.bias_table": "attention.relative_position_bias.relative_position_bias_table",
        r"attention\.output": "attention.o_proj",
        r"norm1": "layernorm_before",
        r"norm2": "layernorm_after",
    },
}
# What a file may hold besides: the classifier with its norm, and what is computed anew.
_SWIN_IGNORED = {
    "microsoft": r"(norm|head)\.(weight|bias)|layers\.\d+\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)",
    "transformers": r"(layernorm|classifier)\.(weight|bias)"
    r"|encoder\.layers\.\d+\.blocks\.\d+\.attention\.self\.relative_position_index",
}
_HF_SWIN = {  # names of transformers 4 to those of 5, all without the prefix that some of its classes have
    r"^swin\.": "",
    r"\.attention\.self\.(q|k|v)(uery|ey|alue)\.": r".attention.\1_proj.",
    r"\.attention\.self\.(relative_position_bias_table)$": r".attention.relative_position_bias.\1",
    r"\.attention\.output\.dense\.": ".attention.o_proj.",
    r"\.intermediate\.dense\.": ".mlp.fc1.",
    r"\.output\.dense\.": ".mlp.fc2.",
}


def swin_from_microsoft(state_dict: Mapping[str, Tensor], window: int | None = None) -> dict[str, Tensor]:
    """The state dict of a Swin that its authors published as one for our `Swin`, in copies.

    A file holds it under "model". The classifier (`norm`, `head`) is left out. Norms of the stages (`norm0`, `norm1`,
    ...), which backbones for dense prediction have, are taken over; where there are none, ours start at the identity.
    With `window`, the tables of relative positions are resized to that window (see `swin.resize_bias_table`).
    Raises ValueError that names the keys it does not know or does not find.
    """
    return _swin_from(state_dict, "microsoft", window)


def swin_from_transformers(state_dict: Mapping[str, Tensor], window: int | None = None) -> dict[str, Tensor]:
    """The state dict of `transformers`' SwinModel, SwinBackbone or SwinForImageClassification as one for our `Swin`.

    Names of transformers 4 (as in files on the hub) and 5 are understood. The classifier (`layernorm`, `classifier`)
    is left out; norms of the stages, which a SwinBackbone has for those it puts out, are taken over, the others start
    at the identity. `window` and errors as in `swin_from_microsoft`.
    """
    renamed = {}
    for name, tensor in state_dict.items():
        for pattern, new in _HF_SWIN.items():
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    return _swin_from(renamed, "transformers", window)


def _swin_from(state: Mapping[str, Tensor], form: str, window: int | None) -> dict[str, Tensor]:
    names = _swin_names(state, form)
    given = [name for name in state if not re.fullmatch(_SWIN_IGNORED[form], name)]
    modules = {name.rpartition(".")[0] for name in given}
    fresh = [
        our for our, (their, *_) in names.items() if our.startswith("norms") and their.rpartition(".")[0] not in modules
    ]
    found = {our: theirs for our, theirs in names.items() if our not in fresh}
    compare_names(given, [*chain(*found.values())], f"a Swin with {form} names", _swin_hint(state, form))
    converted = {our: torch.cat([state[their] for their in theirs]) for our, theirs in found.items()}
    for our in fresh:
        _, stage, kind = our.split(".")
        converted[our] = torch.full_like(converted[f"stages.{stage}.blocks.0.norm1.{kind}"], float(kind == "weight"))
    return with_window(converted, window)


def _swin_names(state: Collection[str], form: str) -> dict[str, list[str]]:
    """Our name of each tensor, with theirs: one, or the three that ours stacks."""
    layers = "layers" if form == "microsoft" else r"encoder\.layers"
    stages = max(1, count_numbers(rf"{layers}\.(\d+)\.", state))
    depths = [max(1, count_numbers(rf"{layers}\.{i}\.blocks\.(\d+)\.", state)) for i in range(stages)]
    with torch.device("meta"):  # its names are all that is asked of it
        ours = Swin(1, depths, [1] * stages)
    names = {}
    for our in ours.state_dict():
        their = renamed(our, SWIN_RULES[form])
        split = form == "transformers" and ".qkv." in their
        names[our] = [their.replace(".qkv.", f".{part}_proj.") for part in "qkv"] if split else [their]
    return names


def _swin_hint(names: Collection[str], form: str) -> str:
    """What to do with a state dict that is of another form."""
    if "model" in names:
        return '; pass what is under "model" alone'
    if "patch_embedding.norm.weight" in names:
        return "; these are our own names: load_state_dict takes them as they are"
    marks = {"microsoft": "patch_embed.proj.weight", "transformers": "embeddings.patch_embeddings.projection.weight"}
    for other, mark in marks.items():
        if other != form and any(name.endswith(mark) for name in names):
            return f"; these are {other} names: take swin_from_{other}"
    return ""


def with_window(state: dict[str, Tensor], window: int | None) -> dict[str, Tensor]:
    """Swin's tables of relative positions resized, if a window is given."""
    if window is None:
        return state
    return {n: resize_bias_table(t, window) if n.endswith("bias_table") else t for n, t in state.items()}
