"""LAVT's weights, from and to the published checkpoints."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from xattn_edu.models.language import SmallBert
from xattn_edu.models.lavt import LAVT
from xattn_edu.models.swin import Swin, relative_index
from xattn_edu.weights.names import Rules, compare_names, count_numbers, renamed
from xattn_edu.weights.swin import (
    SWIN_RULES,
    with_window,
)

# --- LAVT. As with Swin, our own names, made theirs, are what a file must hold. The linear layers of PWAM are 1x1
# convolutions there: their weights have one more axis, of length 1.

_LAVT_RULES: Rules = {
    r"fusions\.(\d+)\.": r"backbone.layers.\1.fusion.",
    r"fusion\.vision\.": "fusion.vis_project.0.",
    r"fusion\.(query|key|value)\.": r"fusion.image_lang_att.f_\1.0.",
    r"fusion\.language\.": "fusion.image_lang_att.W.0.",
    r"fusion\.output\.": "fusion.project_mm.0.",
    r"pathways\.(\d+)\.gate": r"backbone.layers.\1.res_gate",
    r"language\.bert\.": "text_encoder.",
    r"decoder\.logits": "classifier.conv1_1",
}
_LAVT_IGNORED = (
    r"backbone\.layers\.\d+\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)"
    r"|text_encoder\.(embeddings\.position_ids|pooler\..*)"
)
# What the numbers in names tell: stages, the blocks of each, layers of BERT.
_LAVT_THEIRS = (
    r"backbone\.layers\.(\d+)\.",
    r"backbone\.layers\.{}\.blocks\.(\d+)\.",
    r"text_encoder\.encoder\.layer\.(\d+)\.",
)
_LAVT_OURS = (
    r"image_encoder\.stages\.(\d+)\.",
    r"image_encoder\.stages\.{}\.blocks\.(\d+)\.",
    r"language\.bert\.encoder\.layer\.(\d+)\.",
)


def lavt_from_published(checkpoint: Mapping[str, Any], window: int | None = None) -> dict[str, Tensor]:
    """A published LAVT as a state dict for our `LAVT` with a `language.SmallBert` or `load_bert` encoder, in copies.

    `checkpoint` is what `torch.load` makes of the file: the model under "model" and its BERT under "bert_model", or one
    model, under "model" or not, whose BERT has the prefix "text_encoder."; what else a training run saves is not
    looked at. BERT's pooler is left out: LAVT does not use it. The number of PWAM's heads is in no file. `window` as in
    `swin_from_microsoft`. Raises ValueError that names the keys it does not know or does not find.
    """
    state = checkpoint.get("model", checkpoint)
    if "bert_model" in checkpoint:
        state = {**state, **{f"text_encoder.{name}": tensor for name, tensor in checkpoint["bert_model"].items()}}
    names = _lavt_names(state, _LAVT_THEIRS)
    given = [name for name in state if not re.fullmatch(_LAVT_IGNORED, name)]
    compare_names(given, names.values(), "a published LAVT", _lavt_hint(state))
    converted = {our: state[their].clone() for our, their in names.items()}
    for our, tensor in converted.items():
        if our.startswith("fusions.") and tensor.ndim == 3:
            converted[our] = tensor[..., 0]
    return with_window(converted, window)


def lavt_to_published(state_dict: Mapping[str, Tensor], separate: bool = True) -> dict[str, Any]:
    """The state dict of our `LAVT` as a published checkpoint: `lavt_from_published` undone, bit for bit.

    With BERT under "bert_model" and the rest under "model"; or, not `separate`, as one state dict. Raises ValueError
    that names the keys it does not know or does not find: a LAVT with PWAM, language pathway and BERT is what was
    published.
    """
    names = _lavt_names(state_dict, _LAVT_OURS)
    compare_names(state_dict, names, "our LAVT with PWAM, language pathway and BERT")
    state = {}
    for our, their in names.items():
        tensor = state_dict[our]
        state[their] = (tensor[..., None] if our.startswith("fusions.") and tensor.ndim == 2 else tensor).clone()
        if our.endswith("bias_table"):
            window = (round(len(tensor) ** 0.5) + 1) // 2
            state[their.replace("bias_table", "index")] = relative_index(window, tensor.device).clone()
    if not separate:
        return state
    mark = "text_encoder."
    return {
        "model": {name: tensor for name, tensor in state.items() if not name.startswith(mark)},
        "bert_model": {name.removeprefix(mark): t for name, t in state.items() if name.startswith(mark)},
    }


def _lavt_names(state: Collection[str], numbers: tuple[str, str, str]) -> dict[str, str]:
    """Our name of each tensor, with theirs."""
    stages, blocks, layers = numbers
    depths = [max(1, count_numbers(blocks.format(i), state)) for i in range(max(2, count_numbers(stages, state)))]
    with torch.device("meta"):  # its names are all that is asked of it
        ours = LAVT(Swin(1, depths, [1] * len(depths)), SmallBert(1, 1, max(1, count_numbers(layers, state)), heads=1))
    # A level of their decoder has the number of the coarser of the two stages that it joins, from 1 on.
    levels: Rules = {
        r"decoder\.levels\.(\d+)\.(\d+)\.(\d+)": lambda at: (
            f"classifier.{('conv', 'bn')[int(at[3])]}{int(at[2]) + 1}_{len(depths) - int(at[1])}"
        )
    }
    names = {}
    for our in ours.state_dict():
        part, _, inner = our.partition(".")
        if part == "image_encoder":
            names[our] = f"backbone.{renamed(inner, SWIN_RULES['microsoft'])}"
        else:
            names[our] = renamed(our, _LAVT_RULES | levels)
    return names


def _lavt_hint(names: Collection[str]) -> str:
    """What to do with a state dict that is of another form, or not whole."""
    if any(name.startswith("image_encoder.") for name in names):
        return "; these are our own names: load_state_dict takes them as they are"
    if any(name.startswith("backbone.") for name in names) and not any(n.startswith("text_encoder.") for n in names):
        return '; its BERT is not there: pass the whole file, with "model" and "bert_model"'
    return ""
