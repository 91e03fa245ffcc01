"""Multi-head attentions with one mistake each. Each function returns a copy and leaves the layer as it is."""

import copy

import torch
from torch import nn

from xattn_edu.models.attention import MultiHeadAttention


def with_one_head(layer: MultiHeadAttention) -> MultiHeadAttention:
    """The same weights, but the channels are not split into heads."""
    one = copy.copy(layer)
    one.heads = 1
    return one


def with_scaled_query(layer: MultiHeadAttention, factor: float) -> MultiHeadAttention:
    """All scores are multiplied by `factor`: sqrt(d) takes the division by sqrt(d) away."""
    changed = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in changed.query.parameters():
            parameter.mul_(factor)
    return changed


def without_bias(layer: MultiHeadAttention, projection: str) -> MultiHeadAttention:
    """The projection, "query", "key", "value" or "output", has a bias of 0."""
    changed = copy.deepcopy(layer)
    nn.init.zeros_(getattr(changed, projection).bias)
    return changed


def with_transposed_weight(layer: MultiHeadAttention, projection: str) -> MultiHeadAttention:
    """The weight matrix of the projection, which must be square, is transposed."""
    changed = copy.deepcopy(layer)
    weight = getattr(changed, projection).weight
    with torch.no_grad():
        weight.copy_(weight.T.clone())
    return changed


def without_output_projection(layer: MultiHeadAttention) -> MultiHeadAttention:
    """The heads' outputs are returned without the last projection."""
    changed = copy.deepcopy(layer)
    nn.init.eye_(changed.output.weight)
    nn.init.zeros_(changed.output.bias)
    return changed
