"""State dicts of other libraries into ours: tensors are renamed and reshaped, never changed in value."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

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
        raise ValueError(f"these keys are not those of a ViTForImageClassification: {_shorten(unknown)}")
    depth = 1 + max((int(name.split(".")[1]) for name in converted if name.startswith("blocks.")), default=0)
    expected = set(_HF_OUTSIDE.values()) | {
        f"blocks.{i}.{part}.{kind}"
        for i in range(depth)
        for part in set(_HF_BLOCK.values())
        for kind in ("weight", "bias")
    }
    missing = sorted(expected - set(converted))
    if missing:
        raise ValueError(f"the state dict has nothing for these keys of our ViT: {_shorten(missing)}")
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
        raise ValueError(f"neither in_proj_weight nor q_, k_ and v_proj_weight among the keys {_shorten(list(state))}")
    biases = state.pop("in_proj_bias", None)
    for index, part in enumerate(("query", "key", "value")):
        converted[f"{part}.weight"] = weights[index]
        if biases is not None:
            converted[f"{part}.bias"] = biases.chunk(3)[index]
    for kind in ("weight", "bias"):
        if f"out_proj.{kind}" in state:
            converted[f"output.{kind}"] = state.pop(f"out_proj.{kind}")
    if state or "output.weight" not in converted:
        raise ValueError(f"not the state dict of a plain torch.nn.MultiheadAttention: {_shorten(sorted(state_dict))}")
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
        raise ValueError(f"these keys are not those of a torch.nn.Transformer: {_shorten(unknown)}")
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
        raise ValueError(f"not a whole torch.nn.Transformer with biases; by our names: {_shorten(wrong)}")
    return converted["encoder"], converted["decoder"]


def _shorten(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
