"""Scaled dot-product attention, written out and fused, and the multi-head layer built on it.

In self-attention, queries, keys and values all come from the tokens. In cross-attention, the queries come from the
tokens, and keys and values from another source, the context. A mask is True (or 1) where a query may attend to a key,
and False (or 0) elsewhere; other integers and floats are refused, because masks that are added mean the opposite.

Source: Vaswani et al., "Attention Is All You Need" (2017), section 3.2; Dosovitskiy et al., "An Image is Worth 16x16
Words" (2021), appendix A.
"""

from collections.abc import Sequence
from typing import Literal, overload

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.layers import as_mask, autocasts, may_shorten
from xattn_edu.shapes import check_heads, shaped

Mask = Bool[Tensor, "..."] | Integer[Tensor, "..."]
TRUE_WHERE = "a query may attend to a key"
KeysValues = tuple[Float[Tensor, "batch head key dim"], Float[Tensor, "batch head key dim"]]


@shaped
def attention(
    query: Float[Tensor, "*batch query dim"],
    key: Float[Tensor, "*batch key dim"],
    value: Float[Tensor, "*batch key channel"],
    mask: Mask | None = None,
) -> tuple[Float[Tensor, "*batch query channel"], Float[Tensor, "*batch query key"]]:
    """softmax(q k^T / sqrt(d)) v, written out; returns the output and the weights.

    `mask` broadcasts to (..., query, key). A query that may attend to no key gets zeros. Masked keys and values must
    still be finite, because 0 times inf or NaN is NaN. Below float32 the scores and their softmax are of float32, as in
    the fused kernel. Raises ValueError for widths or token counts that do not match, for a mask that does not fit, and
    for integers other than 0 and 1 in it; TypeError for tensors of several dtypes and for a mask of floats.

    Source: Vaswani et al. (2017), section 3.2.1, equation (1).
    """
    mask = _check_attention(query, key, value, mask)
    scores = scaled_scores(query, key, query.shape[-1] ** 0.5)
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:
        # The smallest finite number, not -inf: with -inf a row without any key is 0/0, and its gradient NaN.
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)
    weights = weights.to(value.dtype)
    return weights @ value, weights


def scaled_scores(query: Tensor, key: Tensor, root: float) -> Tensor:
    """q k^T / root, (..., query, key), of float32 at least, also under autocast.

    float16 has no number above 65504 and bfloat16 has 8 bits: in them, large scores would be infinite or equal.
    """
    if autocasts(query):
        with torch.autocast(query.device.type, enabled=False):
            return scaled_scores(query, key, root)
    dtype = torch.promote_types(query.dtype, torch.float32)
    return query.to(dtype) @ key.to(dtype).transpose(-1, -2) / root


@shaped
def fused_attention(
    query: Float[Tensor, "*batch query dim"],
    key: Float[Tensor, "*batch key dim"],
    value: Float[Tensor, "*batch key channel"],
    mask: Mask | None = None,
) -> Float[Tensor, "*batch query channel"]:
    """The output of `attention` by torch's fused kernel, which never stores the (query, key) weights.

    Arguments and errors are those of `attention`, the numbers too, up to rounding. Use it where the weights are not
    needed.
    """
    mask = _check_attention(query, key, value, mask)
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value)
    # torch does not define the output of a row without any key. Such rows may attend to all keys here, and are then set
    # to zero.
    some_key = mask.any(dim=-1, keepdim=True)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask | ~some_key).masked_fill(~some_key, 0.0)


@shaped
def split_heads(tokens: Float[Tensor, "batch token width"], heads: int) -> Float[Tensor, "batch head token dim"]:
    """Cut the channels into heads: (batch, token, head*dim) -> (batch, head, token, dim).

    Raises ValueError if `heads` does not divide the width.
    """
    check_heads(tokens.shape[-1], heads)
    return rearrange(tokens, "batch token (head dim) -> batch head token dim", head=heads)


@shaped
def merge_heads(heads: Float[Tensor, "batch head token dim"]) -> Float[Tensor, "batch token width"]:
    """The heads side by side, the inverse of `split_heads`: (batch, head, token, dim) -> (batch, token, head*dim)."""
    return rearrange(heads, "batch head token dim -> batch token (head dim)")


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1 .. head_h) W_O, with head_i = attention(Q W_i^Q, K W_i^K, V W_i^V).

    Queries come from the tokens (batch, query, width). Keys and values come from the context (batch, key,
    context_width), or from the tokens if no context is given. The output is (batch, query, width).
    In ViT's symbols self-attention is [q, k, v] = z U_qkv, A = softmax(q k^T / sqrt(D_h)), SA(z) = A v.
    Raises ValueError if `heads` does not divide `width`, or for a context without channels.

    Source: Vaswani et al. (2017), section 3.2.2; Dosovitskiy et al. (2021), appendix A.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None, bias: bool = True):
        super().__init__()
        check_heads(width, heads)
        self.width, self.heads = width, heads
        self.context_width = width if context_width is None else context_width
        if self.context_width < 1:
            raise ValueError(f"a context has 1 channel or more, given context_width={context_width}")
        self.query = nn.Linear(width, width, bias)
        self.key = nn.Linear(self.context_width, width, bias)
        self.value = nn.Linear(self.context_width, width, bias)
        self.output = nn.Linear(width, width, bias)

    @overload
    def forward(
        self,
        tokens: Tensor,
        context: Tensor | None = ...,
        mask: Tensor | None = ...,
        *,
        keys_values: KeysValues | None = ...,
        folded: bool = ...,
        return_weights: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(
        self,
        tokens: Tensor,
        context: Tensor | None = ...,
        mask: Tensor | None = ...,
        *,
        keys_values: KeysValues | None = ...,
        folded: bool = ...,
        return_weights: Literal[False] = ...,
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        tokens: Tensor,
        context: Tensor | None = ...,
        mask: Tensor | None = ...,
        *,
        keys_values: KeysValues | None = ...,
        folded: bool = ...,
        return_weights: bool,
    ) -> Tensor | tuple[Tensor, Tensor]: ...
    @shaped
    def forward(
        self,
        tokens: Float[Tensor, "batch query width"],
        context: Float[Tensor, "batch key context_width"] | None = None,
        mask: Mask | None = None,
        *,
        keys_values: KeysValues | None = None,
        folded: bool = False,
        return_weights: bool = False,
    ) -> (
        Float[Tensor, "batch query width"]
        | tuple[Float[Tensor, "batch query width"], Float[Tensor, "batch head query key"]]
    ):
        """Attend from `tokens` to `context`; with `return_weights` also the weights (batch, head, query, key).

        Args:
            tokens: where the queries come from.
            context: where keys and values come from; by default the tokens.
            mask: three axes (batch or 1, query or 1, key), True where a query may attend to a key.
            keys_values: what `keys_and_values` made of a context before; instead of `context`.
            folded: compute as `folded` does, unless a mask, weights or keys and values are in play.
            return_weights: also return the weights. Without them the fused kernel is used.

        Raises ValueError for widths, batches or masks that do not fit, and for a context beside keys and values.
        """
        if keys_values is None:
            context = tokens if context is None else context
            mask = self._check_inputs(tokens, context, mask)
            if folded and mask is None and not return_weights:
                return self.folded(tokens, context)
            keys_values = self.keys_and_values(context)
        elif context is not None:
            raise ValueError("given a context and keys_values: leave out one, for keys and values are a context's")
        output, weights = self.attend(tokens, *keys_values, mask, return_weights)
        return output if weights is None else (output, weights)

    def keys_and_values(
        self, context: Float[Tensor, "batch key context_width"]
    ) -> tuple[Float[Tensor, "batch head key dim"], Float[Tensor, "batch head key dim"]]:
        """The keys and values of a context. They can be kept, as in decoding, for queries that come later."""
        self._check_tokens("context", context, self.context_width)
        return split_heads(self.key(context), self.heads), split_heads(self.value(context), self.heads)

    @shaped
    def attend(
        self,
        tokens: Float[Tensor, "batch query width"],
        key: Float[Tensor, "batch head key dim"],
        value: Float[Tensor, "batch head key dim"],
        mask: Mask | None = None,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch query width"], Float[Tensor, "batch head query key"] | None]:
        """`forward` for keys and values that exist already; the weights are None without `return_weights`.

        A hook on this layer sees a call of the layer, `layer(tokens, keys_values=...)`, but not a call of this method.
        """
        self._check_tokens("tokens", tokens, self.width)
        mask = self._check_fit(tokens, key.shape[0], key.shape[2], mask)
        query = split_heads(self.query(tokens), self.heads)
        heads, weights = _attend_with_all_heads(query, key, value, mask, return_weights)
        return self.output(merge_heads(heads)), weights

    @shaped
    def folded(
        self, tokens: Float[Tensor, "batch query width"], context: Float[Tensor, "batch key context_width"]
    ) -> Float[Tensor, "batch query width"]:
        """The output of `forward(tokens, context)`, computed without any key or value.

        A score is q . (W_k x + b_k) = (W_k^T q) . x + q . b_k. So W_k can be applied to the query, and q . b_k, which
        is the same for all keys, has no effect on the softmax. A weighted sum of W_v x + b_v is W_v (weighted sum of x)
        + b_v. So W_v can be applied after the sum. To project n keys and values costs 2 n width context_width
        multiply-adds. Here the cost is 2 width context_width for each query, but each score and each sum runs over
        context_width channels a head instead of width / heads. That is cheaper if queries are few and keys many, as
        for a class token. Raises ValueError for widths and batches that do not fit.

        Keys and values are formed all the same where the weights do not say all that the layers `key` and `value` do
        (`layers.may_shorten`: LoRA, hooks), and below float32, where the folded products are not precise enough.
        """
        self._check_inputs(tokens, context, None)
        halved = tokens.element_size() < 4 or autocasts(tokens)
        if halved or not may_shorten(self.key, self.value):
            return self.forward(tokens, context)
        query = split_heads(self.query(tokens), self.heads)
        w_k, w_v = (
            rearrange(w, "(head dim) c -> head dim c", head=self.heads) for w in (self.key.weight, self.value.weight)
        )
        folded = rearrange(query / query.shape[-1] ** 0.5 @ w_k, "batch head query c -> batch (head query) c")
        mean = (folded @ context.transpose(1, 2)).softmax(dim=-1) @ context
        mean = rearrange(mean, "batch (head query) c -> batch head query c", head=self.heads)
        output = merge_heads(mean @ w_v.transpose(1, 2))
        return self.output(output if self.value.bias is None else output + self.value.bias)

    def _check_inputs(self, tokens: Tensor, context: Tensor, mask: Tensor | None) -> Tensor | None:
        """Refuse what does not fit, before anything is computed; return the mask as booleans."""
        self._check_tokens("tokens", tokens, self.width)
        self._check_tokens("context", context, self.context_width)
        return self._check_fit(tokens, context.shape[0], context.shape[1], mask)

    def _check_tokens(self, name: str, given: Tensor, width: int) -> None:
        if given.ndim != 3 or given.shape[-1] != width:
            raise ValueError(f"{name} must be (batch, token, {width}), given {tuple(given.shape)}")

    def _check_fit(self, tokens: Tensor, batch: int, keys: int, mask: Tensor | None) -> Tensor | None:
        if tokens.shape[0] != batch:
            raise ValueError(f"tokens and context differ in batch: {tokens.shape[0]} rows of tokens, {batch} of keys")
        if mask is None:
            return None
        full, mask = (batch, tokens.shape[1], keys), as_mask(mask, TRUE_WHERE)
        if mask.ndim != 3 or any(m not in (1, n) for m, n in zip(mask.shape, full)):
            raise ValueError(
                f"mask {tuple(mask.shape)} does not fit (batch, query, key) = {full}: "
                "write mask[:, None, :] for one entry a key, mask[None] for one a query and key"
            )
        return mask


def _attend_with_all_heads(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, return_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Each head's output, under one mask (batch, query, key) for all heads; the weights only if they are returned."""
    mask = None if mask is None else mask.unsqueeze(1)
    if return_weights:
        return attention(query, key, value, mask)
    return fused_attention(query, key, value, mask), None


def causal_mask(length: int, device: torch.device | str | None = None) -> Bool[Tensor, "1 query key"]:
    """True where key j <= query i: a token may attend to itself and to the tokens before it."""
    return torch.ones(1, length, length, dtype=torch.bool, device=device).tril()


@shaped
def attention_rollout(weights: Sequence[Tensor]) -> Float[Tensor, "batch token token"]:
    """How much of each input token reaches each output token (row), through all layers.

    `weights` are each layer's (batch, head, token, token), first layer first. A layer's share matrix is half its
    attention, averaged over heads, and half the identity (the residual connection); the layers' matrices are
    multiplied. Rows sum to one. Raises ValueError if no layer is given, or layers of different batches or tokens.

    Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (2020), section 3.1.
    """
    shapes = [tuple(layer.shape) for layer in weights]
    if not shapes or any(len(s) != 4 or s[2] != s[3] or s[0::2] != shapes[0][0::2] for s in shapes):
        raise ValueError(
            "attention_rollout needs (batch, head, token, token) of at least one layer, all for the same tokens, "
            f"given {shapes}"
        )
    identity = torch.eye(weights[0].shape[-1], dtype=weights[0].dtype, device=weights[0].device)
    flow = identity.expand(weights[0].shape[0], -1, -1)
    for layer in weights:
        flow = (layer.mean(dim=1) + identity) / 2 @ flow
    return flow


def _check_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor | None:
    """Refuse what does not fit, before anything is computed; return the mask as booleans."""
    kinds = [x.dtype if isinstance(x, Tensor) else type(x).__name__ for x in (query, key, value)]
    if len(set(kinds)) > 1 or not (isinstance(query, Tensor) and query.is_floating_point()):
        raise TypeError(
            f"query, key and value must be floating tensors of one dtype, given {', '.join(map(str, kinds))}: write "
            "x.to(dtype), or torch.from_numpy(x) for an array"
        )
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ValueError(f"query, key and value need two axes at least, (..., token, channel): {shapes}")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query and key must have the same width (last axis): {shapes}")
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"each key needs one value (second last axis): {shapes}")
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        raise ValueError(f"query, key and value must agree in all leading axes: {shapes}")
    if mask is None:
        return None
    mask = as_mask(mask, TRUE_WHERE)
    scores = (*query.shape[:-1], key.shape[-2])
    if mask.ndim > len(scores) or any(m not in (1, n) for m, n in zip(mask.shape[::-1], scores[::-1])):
        raise ValueError(f"mask {tuple(mask.shape)} does not broadcast to the scores {scores} = (..., query, key)")
    return torch.atleast_2d(mask)  # a mask with one entry a key is the same for every query
