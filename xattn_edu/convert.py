"""State dicts of other libraries into ours, CrossViT's and LAVT's also back: renamed and reshaped, never changed.

(Unless asked for: Swin's tables of relative positions, for another window.)
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain, product
from typing import Any

import torch
from torch import Tensor

from xattn_edu.language import SmallBert
from xattn_edu.lavt import LAVT
from xattn_edu.swin import Swin, relative_index, resize_bias_table

# Hugging Face's names for a ViT block, as in the files on its hub (transformers 4) and since transformers 5.
_HF_BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.attention.query": "attention.query",
    "attention.attention.key": "attention.key",
    "attention.attention.value": "attention.value",
    "attention.output.dense": "attention.output",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "attention.q_proj": "attention.query",
    "attention.k_proj": "attention.key",
    "attention.v_proj": "attention.value",
    "attention.o_proj": "attention.output",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_HF_OUTSIDE = {
    "embeddings.cls_token": "class_token",
    "embeddings.position_embeddings": "positions",
    "embeddings.patch_embeddings.projection.weight": "patch_embedding.projection.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embedding.projection.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
    "classifier.weight": "head.weight",
    "classifier.bias": "head.bias",
}
_HF_LAYER = re.compile(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)")


def vit_from_transformers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `transformers`' ViTForImageClassification as one for our `ViT`.

    Published DeiT weights (deit-*-patch16-224) have this form too. Names of transformers 4 (as in files on the hub)
    and 5 are understood. Load the result with `model.load_state_dict`. Raises ValueError that names the keys it does
    not know or does not find; distilled DeiT, which has a second token, is among them.
    """
    converted, unknown = {}, []
    for name, tensor in state_dict.items():
        inner = re.sub(r"^(vit|deit)\.", "", name)
        layer = _HF_LAYER.fullmatch(inner)
        if inner in _HF_OUTSIDE:
            converted[_HF_OUTSIDE[inner]] = tensor
        elif layer and layer[2] in _HF_BLOCK:
            converted[f"blocks.{layer[1]}.{_HF_BLOCK[layer[2]]}.{layer[3]}"] = tensor
        else:
            unknown.append(name)
    if any("distillation" in name for name in unknown):
        raise ValueError(
            f"this is a distilled DeiT: {unknown} belong to a second token that our ViT (and deit_*_patch16_224) lacks"
        )
    if unknown:
        raise ValueError(f"these keys are not those of a ViTForImageClassification: {shorten(unknown)}")
    depth = 1 + max((int(name.split(".")[1]) for name in converted if name.startswith("blocks.")), default=0)
    expected = set(_HF_OUTSIDE.values()) | {
        f"blocks.{i}.{part}.{kind}"
        for i in range(depth)
        for part in set(_HF_BLOCK.values())
        for kind in ("weight", "bias")
    }
    missing = sorted(expected - set(converted))
    if missing:
        raise ValueError(f"the state dict has nothing for these keys of our ViT: {shorten(missing)}")
    return converted


def attention_from_torch(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `torch.nn.MultiheadAttention` as one for our `MultiHeadAttention`.

    torch stacks the three projections into `in_proj_weight` (3 width, width), or keeps them apart when keys and values
    have another width. Raises ValueError that names the keys that are missing, not known, or not supported.
    """
    state, converted = dict(state_dict), {}
    if "in_proj_weight" in state:
        weights = state.pop("in_proj_weight").chunk(3)
    elif all(f"{part}_proj_weight" in state for part in "qkv"):
        weights = tuple(state.pop(f"{part}_proj_weight") for part in "qkv")
    else:
        raise ValueError(f"neither in_proj_weight nor q_, k_ and v_proj_weight among the keys {shorten(list(state))}")
    biases = state.pop("in_proj_bias", None)
    for index, part in enumerate(("query", "key", "value")):
        converted[f"{part}.weight"] = weights[index]
        if biases is not None:
            converted[f"{part}.bias"] = biases.chunk(3)[index]
    for kind in ("weight", "bias"):
        if f"out_proj.{kind}" in state:
            converted[f"output.{kind}"] = state.pop(f"out_proj.{kind}")
    if state or "output.weight" not in converted:
        raise ValueError(f"not the state dict of a plain torch.nn.MultiheadAttention: {shorten(sorted(state_dict))}")
    return {name: torch.clone(tensor) for name, tensor in converted.items()}


_TORCH_LAYER = {  # torch's names in a Transformer layer; those of its attentions go through attention_from_torch
    "linear1": "feed_forward.fc1",
    "linear2": "feed_forward.fc2",
    "norm1": "residual1.norm",
    "norm2": "residual2.norm",
    "norm3": "residual3.norm",
}
_TORCH_ATTENTION = {"self_attn": "attention", "multihead_attn": "cross_attention"}
_PROJECTIONS = ("query", "key", "value", "output")
_PARTS = {  # what a layer of ours has
    "encoder": [f"attention.{p}" for p in _PROJECTIONS]
    + ["feed_forward.fc1", "feed_forward.fc2", "residual1.norm", "residual2.norm"],
}
_PARTS["decoder"] = [*_PARTS["encoder"], *(f"cross_attention.{p}" for p in _PROJECTIONS), "residual3.norm"]


def transformer_from_torch(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dict of `torch.nn.Transformer` as those of our `Encoder` and `Decoder`.

    torch ends both stacks with a LayerNorm, post-norm or not: build ours with `final_norm=True` (or take `norm` off
    theirs, which the paper does not have). torch has no embedding, so there is none to convert. Raises ValueError that
    names the keys it does not know, or misses.
    """
    converted: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    attentions: dict[tuple[str, str], dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in state_dict.items():
        stack, _, inner = name.partition(".")
        layer = re.fullmatch(r"(layers\.\d+)\.(\w+)\.(.+)", inner)
        if stack in converted and layer and layer[2] in _TORCH_ATTENTION:
            attentions.setdefault((stack, f"{layer[1]}.{_TORCH_ATTENTION[layer[2]]}"), {})[layer[3]] = tensor
        elif stack in converted and layer and layer[2] in _TORCH_LAYER and layer[3] in ("weight", "bias"):
            converted[stack][f"{layer[1]}.{_TORCH_LAYER[layer[2]]}.{layer[3]}"] = tensor.clone()
        elif stack in converted and inner in ("norm.weight", "norm.bias"):
            converted[stack][inner] = tensor.clone()
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f"these keys are not those of a torch.nn.Transformer: {shorten(unknown)}")
    for (stack, place), state in attentions.items():
        converted[stack] |= {f"{place}.{name}": tensor for name, tensor in attention_from_torch(state).items()}
    if empty := [stack for stack, state in converted.items() if not state]:
        raise ValueError(
            f"the state dict has nothing for the {' and '.join(empty)}: is it a whole torch.nn.Transformer?"
        )
    wrong = []
    for stack, parts in _PARTS.items():
        depth = 1 + max((int(name.split(".")[1]) for name in converted[stack] if name.startswith("layers.")), default=0)
        expected = {f"layers.{i}.{part}.{kind}" for i in range(depth) for part in parts for kind in ("weight", "bias")}
        given = {name for name in converted[stack] if not name.startswith("norm.")}
        wrong += sorted(
            f"{stack}.{name} ({'missing' if name in expected else 'too many'})" for name in expected ^ given
        )
    if wrong:
        raise ValueError(f"not a whole torch.nn.Transformer with biases; by our names: {shorten(wrong)}")
    return converted["encoder"], converted["decoder"]


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
    encoders, small, large, layers, dagger = (_count(pattern, state_dict) for pattern in _CROSSVIT_THEIRS)
    names = _crossvit_names(form, encoders, (small, large), layers, dagger)
    _compare_names(state_dict, names, f"a CrossViT with {form} names", _crossvit_hint(state_dict, form))
    parts = {theirs: state_dict[theirs].tensor_split(len(ours)) for theirs, ours in names.items()}
    return {our: part.clone() for theirs, ours in names.items() for our, part in zip(ours, parts[theirs])}


def _crossvit_to(state_dict: Mapping[str, Tensor], form: str) -> dict[str, Tensor]:
    encoders, small, large, layers, dagger = (_count(pattern, state_dict) for pattern in _CROSSVIT_OURS)
    if not encoders and any(name.startswith("small.") for name in state_dict):
        raise ValueError('only CrossViTs with fusion="cross_attention" were published: there are no names for others')
    depths = (-(-small // max(encoders, 1)), -(-large // max(encoders, 1)))  # rounded up, as some may be missing
    names = _crossvit_names(form, encoders, depths, layers if layers > 1 else 0, dagger)
    _compare_names(state_dict, [our for ours in names.values() for our in ours], "our CrossViT")
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


# --- Swin. Our own names, made theirs by these rules in turn, are what a file must hold.

_Rules = dict[str, str | Callable[[re.Match[str]], str]]
_SWIN_RULES: dict[str, _Rules] = {
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
    _compare_names(given, [*chain(*found.values())], f"a Swin with {form} names", _swin_hint(state, form))
    converted = {our: torch.cat([state[their] for their in theirs]) for our, theirs in found.items()}
    for our in fresh:
        _, stage, kind = our.split(".")
        converted[our] = torch.full_like(converted[f"stages.{stage}.blocks.0.norm1.{kind}"], float(kind == "weight"))
    return _with_window(converted, window)


def _swin_names(state: Collection[str], form: str) -> dict[str, list[str]]:
    """Our name of each tensor, with theirs: one, or the three that ours stacks."""
    layers = "layers" if form == "microsoft" else r"encoder\.layers"
    stages = max(1, _count(rf"{layers}\.(\d+)\.", state))
    depths = [max(1, _count(rf"{layers}\.{i}\.blocks\.(\d+)\.", state)) for i in range(stages)]
    with torch.device("meta"):  # its names are all that is asked of it
        ours = Swin(1, depths, [1] * stages)
    names = {}
    for our in ours.state_dict():
        their = _renamed(our, _SWIN_RULES[form])
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


# --- LAVT. As with Swin, our own names, made theirs, are what a file must hold. The linear layers of PWAM are 1x1
# convolutions there: their weights have one more axis, of length 1.

_LAVT_RULES: _Rules = {
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
    _compare_names(given, names.values(), "a published LAVT", _lavt_hint(state))
    converted = {our: state[their].clone() for our, their in names.items()}
    for our, tensor in converted.items():
        if our.startswith("fusions.") and tensor.ndim == 3:
            converted[our] = tensor[..., 0]
    return _with_window(converted, window)


def lavt_to_published(state_dict: Mapping[str, Tensor], separate: bool = True) -> dict[str, Any]:
    """The state dict of our `LAVT` as a published checkpoint: `lavt_from_published` undone, bit for bit.

    With BERT under "bert_model" and the rest under "model"; or, not `separate`, as one state dict. Raises ValueError
    that names the keys it does not know or does not find: a LAVT with PWAM, language pathway and BERT is what was
    published.
    """
    names = _lavt_names(state_dict, _LAVT_OURS)
    _compare_names(state_dict, names, "our LAVT with PWAM, language pathway and BERT")
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
    depths = [max(1, _count(blocks.format(i), state)) for i in range(max(2, _count(stages, state)))]
    with torch.device("meta"):  # its names are all that is asked of it
        ours = LAVT(Swin(1, depths, [1] * len(depths)), SmallBert(1, 1, max(1, _count(layers, state)), heads=1))
    # A level of their decoder has the number of the coarser of the two stages that it joins, from 1 on.
    levels: _Rules = {
        r"decoder\.levels\.(\d+)\.(\d+)\.(\d+)": lambda at: (
            f"classifier.{('conv', 'bn')[int(at[3])]}{int(at[2]) + 1}_{len(depths) - int(at[1])}"
        )
    }
    names = {}
    for our in ours.state_dict():
        part, _, inner = our.partition(".")
        if part == "image_encoder":
            names[our] = f"backbone.{_renamed(inner, _SWIN_RULES['microsoft'])}"
        else:
            names[our] = _renamed(our, _LAVT_RULES | levels)
    return names


def _lavt_hint(names: Collection[str]) -> str:
    """What to do with a state dict that is of another form, or not whole."""
    if any(name.startswith("image_encoder.") for name in names):
        return "; these are our own names: load_state_dict takes them as they are"
    if any(name.startswith("backbone.") for name in names) and not any(n.startswith("text_encoder.") for n in names):
        return '; its BERT is not there: pass the whole file, with "model" and "bert_model"'
    return ""


def _renamed(name: str, rules: _Rules) -> str:
    for pattern, new in rules.items():
        name = re.sub(rf"\b{pattern}", new, name)
    return name


def _with_window(state: dict[str, Tensor], window: int | None) -> dict[str, Tensor]:
    """Swin's tables of relative positions resized, if a window is given."""
    if window is None:
        return state
    return {n: resize_bias_table(t, window) if n.endswith("bias_table") else t for n, t in state.items()}


def _count(pattern: str, names: Collection[str]) -> int:
    """How many different numbers `pattern` finds in names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})


def _compare_names(given: Collection[str], expected: Collection[str], whose: str, hint: str = "") -> None:
    missing, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    wrong = {"missing": missing, "not known": unknown}
    if words := [f"{what}: {shorten(names)}" for what, names in wrong.items() if names]:
        raise ValueError(f"not the state dict of {whose}; {'; '.join(words)}{hint}")


def shorten(names: list[str], most: int = 8) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
