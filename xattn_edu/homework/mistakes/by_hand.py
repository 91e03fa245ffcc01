"""Multi-head attention by hand, from a layer's weights: a second way to the result of `MultiHeadAttention`."""

from einops import rearrange
from torch import Tensor

from xattn_edu.models.attention import MultiHeadAttention


def gathered(
    layer: MultiHeadAttention, tokens: Tensor, context: Tensor, heads: int | None = None, scale: float | None = None
) -> Tensor:
    """The values, averaged by each head and merged: the input of the output projection. The scale is sqrt(d)."""
    heads = heads or layer.heads
    query, key, value = (
        rearrange(projected, "b t (h d) -> b h t d", h=heads)
        for projected in (layer.query(tokens), layer.key(context), layer.value(context))
    )
    weights = (query @ key.mT / (scale or query.shape[-1] ** 0.5)).softmax(-1)
    return rearrange(weights @ value, "b h t d -> b t (h d)")


def cross_attention(layer: MultiHeadAttention, tokens: Tensor, context: Tensor) -> Tensor:
    return layer.output(gathered(layer, tokens, context))
