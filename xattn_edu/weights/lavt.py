"""LAVT's weights, from and to the published checkpoints. The names of its Swin are in `swin`, as its authors have them.

theirs                                                 | ours
backbone.layers.0.blocks.1.attn.qkv.weight             | image_encoder.stages.0.blocks.1.attention.qkv.weight
backbone.layers.0.fusion.image_lang_att.f_key.0.weight | fusions.0.key.weight
backbone.layers.0.res_gate.2.weight                    | pathways.0.gate.2.weight
classifier.conv2_4.weight (of four stages)             | decoder.levels.0.1.0.weight
text_encoder.encoder.layer.0.output.dense.bias         | language.bert.encoder.layer.0.output.dense.bias
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from xattn_edu.models.swin import relative_index
from xattn_edu.weights.names import both_kinds, compare_names, count_numbers, unwrapped
from xattn_edu.weights.swin import block_counts, microsoft_names, with_window

_PWAM = {  # modules, ours to theirs; theirs are 1x1 convolutions, whose weights have one more axis, of length 1
    "vision": "vis_project.0",
    "query": "image_lang_att.f_query.0",
    "key": "image_lang_att.f_key.0",
    "value": "image_lang_att.f_value.0",
    "language": "image_lang_att.W.0",
    "output": "project_mm.0",
}
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")  # tensors of a BatchNorm
_BERT_EMBEDDINGS = ("word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight")
_BERT_LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_IGNORED = (  # what a file may hold besides: what is computed anew, and BERT's pooler
    r"backbone\.layers\.\d+\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)"
    r"|text_encoder\.(embeddings\.position_ids|pooler\..*)"
)


class LavtSizes(NamedTuple):
    """The size of a LAVT, read off the names of its tensors."""

    depths: list[int]  # blocks in each stage of its Swin
    bert_layers: int

    @classmethod
    def of_ours(cls, names: Collection[str]) -> "LavtSizes":
        return cls._count(names, "image_encoder.stages", r"language\.bert\.encoder\.layer\.(\d+)\.")

    @classmethod
    def of_published(cls, names: Collection[str]) -> "LavtSizes":
        return cls._count(names, "backbone.layers", r"text_encoder\.encoder\.layer\.(\d+)\.")

    @classmethod
    def _count(cls, names: Collection[str], stages: str, bert_layer: str) -> "LavtSizes":
        depths = block_counts(names, stages)
        return cls(depths + [1] * (2 - len(depths)), max(1, count_numbers(bert_layer, names)))  # two stages at least


def lavt_from_published(checkpoint: Mapping[str, Any], window: int | None = None) -> dict[str, Tensor]:
    """A published LAVT as a state dict for our `LAVT` with a `language.Bert` encoder, in copies.

    `checkpoint` is what `torch.load` makes of the file: the model under "model" and its BERT under "bert_model"; or one
    model, under "model" or not, whose BERT has the prefix "text_encoder.". What else a training run saves is ignored,
    and so is BERT's pooler, which LAVT does not use. No file says how many heads PWAM has. `window` as in
    `swin_from_microsoft`. Raises ValueError, which names the keys, if keys are missing or not known.
    """
    state = unwrapped(checkpoint)
    if "bert_model" in checkpoint:
        state = {**state, **{f"text_encoder.{name}": t for name, t in unwrapped(checkpoint["bert_model"]).items()}}
    names = _lavt_names(LavtSizes.of_published(state))
    given = [name for name in state if not re.fullmatch(_IGNORED, name)]
    compare_names(given, names.values(), "a published LAVT", _lavt_hint(state))
    converted = {our: state[their].clone() for our, their in names.items()}
    for our, tensor in converted.items():
        if our.startswith("fusions.") and tensor.ndim == 3:
            converted[our] = tensor[..., 0]
    return with_window(converted, window)


def lavt_to_published(state_dict: Mapping[str, Tensor], separate: bool = True) -> dict[str, Any]:
    """The state dict of our `LAVT` as a published checkpoint: `lavt_from_published` undone, bit for bit.

    BERT is under "bert_model" and the rest under "model"; or, with separate=False, all is in one state dict. Only a
    LAVT with PWAM, language pathway and BERT was published. Raises ValueError, which names the keys, if keys are
    missing or not known.
    """
    names = _lavt_names(LavtSizes.of_ours(state_dict))
    compare_names(state_dict, names, "our LAVT with PWAM, language pathway and BERT")
    state = {}
    for our, their in names.items():
        tensor = state_dict[our]
        state[their] = (tensor[..., None] if our.startswith("fusions.") and tensor.ndim == 2 else tensor).clone()
        if our.endswith("bias_table"):
            state[their.replace("bias_table", "index")] = relative_index(_window(tensor), tensor.device).clone()
    if not separate:
        return state
    mark = "text_encoder."
    return {
        "model": {name: tensor for name, tensor in state.items() if not name.startswith(mark)},
        "bert_model": {name.removeprefix(mark): t for name, t in state.items() if name.startswith(mark)},
    }


def lavt_arguments(
    state: Mapping[str, Tensor], word_heads: int = 1, bert_heads: int | None = None
) -> dict[str, dict[str, Any]]:
    """The arguments with which `models.builders.build_model("LAVT", ...)` builds the model of these tensors, our names.

    Two numbers are in no tensor: `word_heads`, PWAM's, and `bert_heads`, by default the BERT's width / 64, as in every
    published size. Raises ValueError if `bert_heads` does not divide the width, KeyError or IndexError for tensors of
    no LAVT.
    """
    sizes = LavtSizes.of_ours(state)
    stages = range(len(sizes.depths))
    tables = [state[f"image_encoder.stages.{stage}.blocks.0.attention.bias_table"] for stage in stages]
    patches = state["image_encoder.patch_embedding.projection.weight"].shape  # (width, channel, patch, patch)
    embedding = state["language.bert.embeddings.word_embeddings.weight"].shape  # (vocabulary, width)
    words = embedding[1]
    bert_heads = max(1, words // 64) if bert_heads is None else bert_heads
    if bert_heads < 1 or words % bert_heads:
        raise ValueError(f"bert_heads must divide the BERT's width: {words} wide, {bert_heads} heads")
    return {
        "image_encoder": {
            "width": patches[0],
            "depths": sizes.depths,
            "heads": [table.shape[1] for table in tables],
            "window": _window(tables[0]),
            "patch": patches[2],
            "channels": patches[1],
        },
        "language": {
            "vocabulary_size": embedding[0],
            "width": words,
            "depth": sizes.bert_layers,
            "heads": bert_heads,
            "length": len(state["language.bert.embeddings.position_embeddings.weight"]),
        },
        "settings": {"heads": word_heads, "decoder_width": len(state["decoder.levels.0.0.0.weight"])},
    }


def _window(table: Tensor) -> int:
    """The window of a table of relative positions, which has (2 window - 1)^2 rows."""
    return (round(len(table) ** 0.5) + 1) // 2


def _lavt_names(sizes: LavtSizes) -> dict[str, str]:
    """Our name of each tensor, and theirs."""
    stages = len(sizes.depths)
    names = {f"image_encoder.{our}": f"backbone.{their}" for our, their in microsoft_names(sizes.depths).items()}
    for stage in range(stages):
        names |= both_kinds(_PWAM, f"fusions.{stage}.", f"backbone.layers.{stage}.fusion.")
        for layer in (0, 2):  # 1 is the ReLU between
            names[f"pathways.{stage}.gate.{layer}.weight"] = f"backbone.layers.{stage}.res_gate.{layer}.weight"
    for level in range(stages - 1):
        number = stages - level  # a level has the number of the coarser of the two stages that it joins, from 1 on
        for half in (0, 1):
            our = f"decoder.levels.{level}.{half}."
            names[f"{our}0.weight"] = f"classifier.conv{half + 1}_{number}.weight"
            names |= {f"{our}1.{kind}": f"classifier.bn{half + 1}_{number}.{kind}" for kind in _NORM}
    names |= both_kinds({"decoder.logits": "classifier.conv1_1"})
    bert = [f"embeddings.{name}" for name in _BERT_EMBEDDINGS]
    modules = ["embeddings.LayerNorm"]
    modules += [f"encoder.layer.{layer}.{part}" for layer in range(sizes.bert_layers) for part in _BERT_LAYER]
    bert += [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]
    return names | {f"language.bert.{name}": f"text_encoder.{name}" for name in bert}


def _lavt_hint(names: Collection[str]) -> str:
    """The likely fix for a state dict that is of another form, or not whole."""
    if any(name.startswith("image_encoder.") for name in names):
        return "; these are our own names: load_state_dict takes them as they are"
    if any(name.startswith("backbone.") for name in names) and not any(n.startswith("text_encoder.") for n in names):
        return '; its BERT is not there: pass the whole file, with "model" and "bert_model"'
    return ""
