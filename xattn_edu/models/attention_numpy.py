"""Attention and its gradient in NumPy, every step written out.

Arrays are `(..., token, channel)`. A mask is True (or 1) where a query may attend to a key, False (or 0) elsewhere, and
broadcasts to the scores `(..., query, key)`. Weight matrices act from the right, as in the papers: q = z W_q.

Source: Vaswani et al., "Attention Is All You Need" (2017), section 3.2.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from numpy import ndarray

from xattn_edu.shapes import check_heads, shaped

Mask = Bool[ndarray, "..."] | Integer[ndarray, "..."]


@shaped
def softmax(scores: Float[ndarray, "*batch key"], mask: Mask | None = None) -> Float[ndarray, "*batch key"]:
    """exp(s_i) / sum_j exp(s_j) along the last axis, over the entries where `mask` is True.

    The largest score is subtracted first: in exact arithmetic this changes nothing, and exp cannot overflow. A row
    whose mask is False everywhere gives zeros. Raises ValueError if the mask does not broadcast to the scores
    or holds integers other than 0 and 1, TypeError for a mask of floats.
    """
    if mask is not None:
        mask = _as_mask(mask, scores.shape)
        scores = np.where(mask, scores, np.finfo(scores.dtype).min)
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    if mask is not None:
        exponentials = exponentials * mask
    total = exponentials.sum(axis=-1, keepdims=True)
    return exponentials / np.where(total == 0, 1, total)


@shaped
def softmax_backward(
    grad_weights: Float[ndarray, "*batch key"], weights: Float[ndarray, "*batch key"]
) -> Float[ndarray, "*batch key"]:
    """Gradient with respect to the scores, from the gradient with respect to the weights w = softmax(scores).

    dw_i/ds_j = w_i (1[i=j] - w_j), so ds = w * (dw - sum_i w_i dw_i). Masked entries have w = 0 and get 0.
    """
    return weights * (grad_weights - (weights * grad_weights).sum(axis=-1, keepdims=True))


@shaped
def attention(
    query: Float[ndarray, "*batch query dim"],
    key: Float[ndarray, "*batch key dim"],
    value: Float[ndarray, "*batch key channel"],
    mask: Mask | None = None,
) -> tuple[Float[ndarray, "*batch query channel"], Float[ndarray, "*batch query key"]]:
    """softmax(q k^T / sqrt(d)) v; returns the output and the weights.

    A query that may attend to no key gets zeros. float16, which has no number above 65504, is computed in float32.
    Raises ValueError for widths or token counts that do not match and for a mask that does not broadcast to (...,
    query, key) or holds integers other than 0 and 1, TypeError for a mask of floats.

    Source: Vaswani et al. (2017), section 3.2.1, equation (1).
    """
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query and key must have the same width: query {query.shape}, key {key.shape}")
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"each key needs one value: key {key.shape}, value {value.shape}")
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        raise ValueError(f"leading axes differ: query {query.shape}, key {key.shape}, value {value.shape}")
    if query.dtype == np.float16:
        single = (query.astype(np.float32), key.astype(np.float32), value.astype(np.float32))
        output, weights = attention(*single, mask)
        return output.astype(np.float16), weights.astype(np.float16)
    scores = query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5
    weights = softmax(scores, mask)
    return weights @ value, weights


@shaped
def attention_backward(
    grad_output: Float[ndarray, "*batch query channel"],
    query: Float[ndarray, "*batch query dim"],
    key: Float[ndarray, "*batch key dim"],
    value: Float[ndarray, "*batch key channel"],
    weights: Float[ndarray, "*batch query key"],
) -> tuple[Float[ndarray, "*batch query dim"], Float[ndarray, "*batch key dim"], Float[ndarray, "*batch key channel"]]:
    """Gradients with respect to query, key and value, from the gradient with respect to the output.

    The steps of the forward pass in reverse order: output = w v, w = softmax(s), s = q k^T / sqrt(d). No mask is
    needed, because masked weights are 0.
    """
    grad_value = weights.swapaxes(-1, -2) @ grad_output
    grad_weights = grad_output @ value.swapaxes(-1, -2)
    grad_scores = softmax_backward(grad_weights, weights) / query.shape[-1] ** 0.5
    return grad_scores @ key, grad_scores.swapaxes(-1, -2) @ query, grad_value


@shaped
def split_heads(tokens: Float[ndarray, "*batch token width"], heads: int) -> Float[ndarray, "*batch head token dim"]:
    """(..., token, head*dim) -> (..., head, token, dim): cut the channels into heads, then move the head axis.

    Raises ValueError if `heads` does not divide the width.
    """
    *batch, token, width = tokens.shape
    check_heads(width, heads)
    return tokens.reshape(*batch, token, heads, width // heads).swapaxes(-2, -3)


@shaped
def merge_heads(heads: Float[ndarray, "*batch head token dim"]) -> Float[ndarray, "*batch token width"]:
    """(..., head, token, dim) -> (..., token, head*dim): the inverse of `split_heads`."""
    *batch, head, token, dim = heads.shape
    return heads.swapaxes(-2, -3).reshape(*batch, token, head * dim)


class Projections(NamedTuple):
    """The weights of multi-head attention (or their gradients). Each matrix is (in, out), each bias (out,)."""

    w_query: ndarray
    w_key: ndarray
    w_value: ndarray
    w_output: ndarray
    b_query: ndarray
    b_key: ndarray
    b_value: ndarray
    b_output: ndarray

    @classmethod
    def random(cls, width: int, context_width: int | None = None, seed: int = 0) -> "Projections":
        """Normal weights of variance 1/in and small biases, in float64."""
        draw = np.random.default_rng(seed).normal
        ins = (width, context_width or width, context_width or width, width)
        matrices = [draw(size=(n, width)) / np.sqrt(n) for n in ins]
        return cls(*matrices, *[0.1 * draw(size=width) for _ in ins])


class MultiHeadCache(NamedTuple):
    """The arrays that the forward pass stores for the backward pass."""

    tokens: ndarray
    context: ndarray
    query: ndarray
    key: ndarray
    value: ndarray
    weights: ndarray
    merged: ndarray


@shaped
def multi_head_attention(
    tokens: Float[ndarray, "*batch query width"],
    context: Float[ndarray, "*batch key context_width"],
    projections: Projections,
    heads: int,
    mask: Mask | None = None,
) -> tuple[Float[ndarray, "*batch query width"], MultiHeadCache]:
    """MultiHead(Q, K, V) = Concat(head_1 .. head_h) W_O; returns the output and what the backward pass needs.

    Queries come from `tokens`, keys and values from `context`: pass the same array twice for self-attention. The mask
    broadcasts to (..., query, key) and is the same for every head. Raises ValueError for widths or a mask that do not
    fit, TypeError for a mask of floats.

    Source: Vaswani et al. (2017), section 3.2.2.
    """
    for name, array, matrix in (("tokens", tokens, projections.w_query), ("context", context, projections.w_key)):
        if array.shape[-1] != matrix.shape[0]:
            raise ValueError(f"{name} are {array.shape[-1]} wide, their projection takes {matrix.shape[0]}")
    p = projections
    query = split_heads(tokens @ p.w_query + p.b_query, heads)
    key = split_heads(context @ p.w_key + p.b_key, heads)
    value = split_heads(context @ p.w_value + p.b_value, heads)
    if mask is not None:  # one mask for all heads: put the head axis in before (query, key)
        scores_shape = (*tokens.shape[:-1], context.shape[-2])
        mask = np.expand_dims(np.broadcast_to(_as_mask(mask, scores_shape), scores_shape), -3)
    output, weights = attention(query, key, value, mask)
    merged = merge_heads(output)
    cache = MultiHeadCache(tokens, context, query, key, value, weights, merged)
    return merged @ p.w_output + p.b_output, cache


def multi_head_attention_backward(
    grad_output: ndarray, projections: Projections, cache: MultiHeadCache
) -> tuple[ndarray, ndarray, Projections]:
    """Gradients with respect to tokens, context and every weight, from the gradient with respect to the output.

    In self-attention tokens and context are one array; its gradient is the sum of the first two.
    """
    p, c = projections, cache
    heads = c.query.shape[-3]
    grad_heads = split_heads(grad_output @ p.w_output.T, heads)
    grads = attention_backward(grad_heads, c.query, c.key, c.value, c.weights)
    grad_query, grad_key, grad_value = (merge_heads(grad) for grad in grads)
    grad_projections = Projections(
        w_query=_outer(c.tokens, grad_query),
        w_key=_outer(c.context, grad_key),
        w_value=_outer(c.context, grad_value),
        w_output=_outer(c.merged, grad_output),
        b_query=_over_tokens(grad_query),
        b_key=_over_tokens(grad_key),
        b_value=_over_tokens(grad_value),
        b_output=_over_tokens(grad_output),
    )
    grad_context = grad_key @ p.w_key.T + grad_value @ p.w_value.T
    return grad_query @ p.w_query.T, grad_context, grad_projections


def numerical_gradient(function: Callable[[ndarray], float], at: ndarray, step: float = 1e-5) -> ndarray:
    """Central differences (f(x + h) - f(x - h)) / 2h, one entry of `at` at a time: slow, and easy to check."""
    at = at.astype(float)  # an array of integers could not hold x + h
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


def _as_mask(mask: ndarray, scores_shape: tuple[int, ...]) -> ndarray:
    # A mask to be added to the scores (0 and -inf, or 0 and -10000) means the opposite.
    expected = "mask must be True where a query may attend to a key, False elsewhere (or 1 and 0)"
    fix = "write mask.astype(bool) for ones and zeros, mask == 0 for numbers that are added to scores"
    if mask.dtype.kind not in "biu":
        raise TypeError(f"{expected}, given {mask.dtype}: {fix}")
    if mask.dtype.kind != "b" and not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{expected}, given integers from {mask.min()} to {mask.max()}: {fix}")
    try:
        fits = np.broadcast_shapes(mask.shape, scores_shape) == tuple(scores_shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"mask {mask.shape} does not broadcast to the scores {tuple(scores_shape)} = (..., query, key)"
        )
    return mask.astype(bool)


def _outer(inputs: ndarray, grads: ndarray) -> ndarray:
    """Gradient x^T dy of a matrix W in y = x W, summed over batch and tokens."""
    return inputs.reshape(-1, inputs.shape[-1]).T @ grads.reshape(-1, grads.shape[-1])


def _over_tokens(grads: ndarray) -> ndarray:
    """Gradient of a bias b in y = x W + b: dy, summed over batch and tokens."""
    return grads.reshape(-1, grads.shape[-1]).sum(axis=0)
