"""Attention and Transformer weights from torch.nn.

theirs                                             | ours
encoder.layers.0.self_attn.in_proj_weight          | layers.0.attention.{query,key,value}.weight, stacked
decoder.layers.0.multihead_attn.out_proj.weight    | layers.0.cross_attention.output.weight
encoder.layers.0.linear1.weight                    | layers.0.feed_forward.fc1.weight
decoder.norm.weight                                | norm.weight
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from xattn_edu.weights.names import prefix_hint, shorten, unwrapped


def attention_from_torch(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `torch.nn.MultiheadAttention` as one for our `MultiHeadAttention`.

    torch stacks the three projections into `in_proj_weight` (3 width, width), or keeps them apart when keys and values
    have another width. Raises ValueError, which names the keys, if keys are missing, not known or not supported.
    """
    state, converted = dict(unwrapped(state_dict)), {}
    if "in_proj_weight" in state:
        weights = state.pop("in_proj_weight").chunk(3)
    elif all(f"{part}_proj_weight" in state for part in "qkv"):
        weights = tuple(state.pop(f"{part}_proj_weight") for part in "qkv")
    else:
        hint = prefix_hint(state, ["in_proj_weight", "out_proj.weight"])
        raise ValueError(
            f"neither in_proj_weight nor q_, k_ and v_proj_weight among the keys {shorten(list(state))}{hint}"
        )
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

    torch ends both stacks with a LayerNorm, with post-norm too: build ours with `final_norm=True` (or remove `norm`
    from theirs, which the paper does not have). torch's module has no embedding. Raises ValueError, which names the
    keys, if keys are missing or not known.
    """
    converted: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    attentions: dict[tuple[str, str], dict[str, Tensor]] = {}
    unknown = []
    state_dict = unwrapped(state_dict)
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
        hint = prefix_hint(state_dict, [f"{stack}.layers.0.linear1.weight" for stack in converted])
        raise ValueError(f"these keys are not those of a torch.nn.Transformer: {shorten(unknown)}{hint}")
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
