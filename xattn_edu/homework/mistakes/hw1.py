"""Wrong answers to the first graded set, each with its mistake."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from xattn_edu.homework.mistakes.mistake import mistakes
from xattn_edu.models.attention_numpy import softmax

Answer = Callable[..., Any]


# --- 1: attention over padded keys


def padded(
    query: ndarray,
    key: ndarray,
    value: ndarray,
    lengths: ndarray,
    *,
    root: Callable[..., float] = lambda q, k, v: q.shape[-1] ** 0.5,
    fill: float = -np.inf,
    real: Callable[[ndarray, ndarray], ndarray] = lambda places, lengths: places < lengths,
    axis: int = -1,
    afterwards: Callable[[ndarray, ndarray], ndarray] | None = None,
    empty: float = 0.0,
    masked_scores: bool = False,
) -> tuple[ndarray, ndarray, ndarray]:
    """The right answer, and with other settings a wrong one."""
    scores = query @ key.transpose(0, 2, 1) / root(query, key, value)
    mask = real(np.arange(key.shape[1])[None, None, :], lengths[:, None, None])
    mask = np.broadcast_to(mask, scores.shape)
    masked = np.where(mask, scores, fill)
    with np.errstate(all="ignore"):
        if afterwards:
            weights = afterwards(softmax(scores), mask)
        else:
            exponentials = np.exp(masked - masked.max(axis=axis, keepdims=True))
            weights = exponentials / exponentials.sum(axis=axis, keepdims=True)
            weights = np.where(~mask.any(axis=axis, keepdims=True), empty, weights)
    return masked if masked_scores else scores, weights, weights @ value


def _padded_queries(query: ndarray, key: ndarray, value: ndarray, lengths: ndarray) -> tuple[ndarray, ...]:
    scores = query @ key.transpose(0, 2, 1) / query.shape[-1] ** 0.5
    mask = np.arange(query.shape[1])[None, :, None] < lengths[:, None, None]
    weights = softmax(scores, np.broadcast_to(mask, scores.shape))
    return scores, weights, weights @ value


def divided_again(weights: ndarray, mask: ndarray) -> ndarray:
    kept = weights * mask
    return kept / kept.sum(axis=-1, keepdims=True)


def _padded_with(**settings: Any) -> Answer:
    return functools.partial(padded, **settings)


PADDED = mistakes(
    "hw1.padded_attention",
    "01, 1.5",
    {
        "no scale": ("The division by sqrt(d) is missing", _padded_with(root=lambda q, k, v: 1.0)),
        "divided by d": ("by sqrt(d), not by d", _padded_with(root=lambda q, k, v: q.shape[-1])),
        "root of the keys' count": ("not the number of keys", _padded_with(root=lambda q, k, v: k.shape[1] ** 0.5)),
        "root of the values' width": ("not that of the values", _padded_with(root=lambda q, k, v: v.shape[-1] ** 0.5)),
        "masked scores returned": ("before the mask", _padded_with(masked_scores=True)),
        "padding attended to": ("`lengths` has no effect", _padded_with(real=lambda j, n: j >= 0)),
        "inverted": ("The mask is inverted", _padded_with(real=lambda j, n: j >= n)),
        "zeros after the softmax": ("no longer add up to 1", _padded_with(afterwards=lambda w, m: w * m)),
        "divided again after the softmax": ("divided by the new sum", _padded_with(afterwards=divided_again)),
        "divided again, nan to 0": (
            "the real keys lost their weights",
            _padded_with(afterwards=lambda w, m: np.nan_to_num(divided_again(w, m))),
        ),
        "score 0 for padding": ("exp(0) is 1", lambda q, k, v, n: padded(q, k, v, n, fill=0.0, empty=1 / len(v[0]))),
        "softmax over queries": ("over the keys, the last axis", _padded_with(axis=1)),
        "empty rows even": (
            "every key got the same weight",
            lambda q, k, v, n: padded(q, k, v, n, empty=1 / len(v[0])),
        ),
        "empty rows nan": ("0/0 gave nan", _padded_with(empty=np.nan)),
        "one key too many": ("One key too many", _padded_with(real=lambda j, n: j <= n)),
        "one key too few": ("One key too few", _padded_with(real=lambda j, n: j < n - 1)),
        "the first length for all": ("the first one was used for all", _padded_with(real=lambda j, n: j < n[:1])),
        "queries masked": ("here queries were masked", _padded_queries),
    },
)


# --- 2: two memories


def merge(
    output1: ndarray,
    lse1: ndarray,
    output2: ndarray,
    lse2: ndarray,
    *,
    share: Callable[[ndarray, ndarray], ndarray] | None = None,
    total: Callable[[ndarray, ndarray], ndarray] = np.logaddexp,
) -> tuple[ndarray, ndarray]:
    """The right answer, and with another share of the first memory, or another total, a wrong one."""
    with np.errstate(all="ignore"):
        first = share(lse1, lse2) if share else np.exp(lse1 - np.logaddexp(lse1, lse2))
        output = first[:, None] * output1 + (1 - first)[:, None] * output2
        return output, total(lse1, lse2)


def _merge_with(**settings: Any) -> Answer:
    return functools.partial(merge, **settings)


def _unstable(output1: ndarray, lse1: ndarray, output2: ndarray, lse2: ndarray) -> tuple[ndarray, ndarray]:
    e1, e2 = np.exp(lse1)[:, None], np.exp(lse2)[:, None]
    return (e1 * output1 + e2 * output2) / (e1 + e2), np.log(e1 + e2)[:, 0]


def _one_maximum(output1: ndarray, lse1: ndarray, output2: ndarray, lse2: ndarray) -> tuple[ndarray, ndarray]:
    top = max(lse1.max(), lse2.max())
    e1, e2 = np.exp(lse1 - top)[:, None], np.exp(lse2 - top)[:, None]
    return (e1 * output1 + e2 * output2) / (e1 + e2), np.log(e1 + e2)[:, 0] + top


def _no_division(output1: ndarray, lse1: ndarray, output2: ndarray, lse2: ndarray) -> tuple[ndarray, ndarray]:
    top = np.maximum(lse1, lse2)
    e1, e2 = np.exp(lse1 - top)[:, None], np.exp(lse2 - top)[:, None]
    return e1 * output1 + e2 * output2, np.logaddexp(lse1, lse2)


def _not_added_again(output1: ndarray, lse1: ndarray, output2: ndarray, lse2: ndarray) -> tuple[ndarray, ndarray]:
    top = np.maximum(lse1, lse2)
    e1, e2 = np.exp(lse1 - top)[:, None], np.exp(lse2 - top)[:, None]
    return (e1 * output1 + e2 * output2) / (e1 + e2), np.log(e1 + e2)[:, 0]


MERGED = mistakes(
    "hw1.merged",
    "01, 1.2",
    {
        "shares exchanged": (
            "The shares are exchanged",
            _merge_with(share=lambda a, b: np.exp(b - np.logaddexp(a, b))),
        ),
        "plain mean": ("the plain mean", _merge_with(share=lambda a, b: np.full_like(a, 0.5))),
        "outputs added": ("two outputs were added", lambda o, a, p, b: (o + p, np.logaddexp(a, b))),
        "share by lse": ("not to lse", _merge_with(share=lambda a, b: a / (a + b))),
        "not divided": ("The division by the sum of both is missing", _no_division),
        "the larger memory alone": ("was taken alone", _merge_with(share=lambda a, b: (a > b) * 1.0)),
        "the first query's share": (
            "the first query's were used for all",
            _merge_with(share=lambda a, b: np.full_like(a, np.exp(a[0] - np.logaddexp(a[0], b[0])))),
        ),
        "logarithms added": ("the two logarithms were added", _merge_with(total=np.add)),
        "the larger logarithm": ("the larger one alone", _merge_with(total=np.maximum)),
        "maximum not added again": ("not added again", _not_added_again),
        "the sum itself": ("here it is the sum itself", _merge_with(total=lambda a, b: np.exp(a) + np.exp(b))),
        "logarithm of the mean": (
            "logarithm of their mean",
            _merge_with(total=lambda a, b: np.logaddexp(a, b) - math.log(2)),
        ),
        "exp of large numbers": ("subtract the larger of the two", _unstable),
        "one maximum for all rows": ("subtract the larger of the two", _one_maximum),
    },
)


# --- 3: a learned temperature


def heated_gradients(
    grad_output: ndarray,
    query: ndarray,
    key: ndarray,
    value: ndarray,
    temperature: float,
    *,
    forward: Callable[[float, ndarray], float] = lambda t, q: t,
    average: Callable[[ndarray, ndarray], Any] = lambda w, g: (w * g).sum(axis=1, keepdims=True),
    by_weights: bool = True,
    last: Callable[..., float] = lambda s, raw, t, g: -(s * raw).sum() / t**2,
) -> tuple[ndarray, ndarray, float]:
    """The right answer, and with other settings a wrong one."""
    raw = query @ key.T
    weights = softmax(raw / forward(temperature, query))
    grad_weights = grad_output @ value.T
    grad_scores = grad_weights - average(weights, grad_weights)
    grad_scores = weights * grad_scores if by_weights else grad_scores
    return grad_weights, grad_scores, last(grad_scores, raw, temperature, grad_weights)


def _scores_divided(*arrays: Any) -> tuple[Any, ...]:
    of_weights, of_scores, total = heated_gradients(*arrays)
    return of_weights, of_scores / arrays[-1], total


def _heated(**settings: Any) -> Answer:
    return functools.partial(heated_gradients, **settings)


TEMPERATURE = mistakes(
    "hw1.temperature_gradient",
    "01, 1.7",
    {
        "no average": ("the weighted average over the row must be subtracted", _heated(average=lambda w, g: 0)),
        "plain average": (
            "The average over the row is weighted",
            _heated(average=lambda w, g: g.mean(axis=1, keepdims=True)),
        ),
        "mean of products": (
            "the weights add up to 1",
            _heated(average=lambda w, g: (w * g).mean(axis=1, keepdims=True)),
        ),
        "average over queries": (
            "the last axis",
            _heated(average=lambda w, g: (w * g).sum(axis=0, keepdims=True)),
        ),
        "average over all": ("not over the whole table", _heated(average=lambda w, g: (w * g).sum())),
        "not by weights": ("each entry is multiplied by its weight", _heated(by_weights=False)),
        "weights at temperature 1": ("those at temperature 1", _heated(forward=lambda t, q: 1.0)),
        "sqrt(d) as well": ("by it alone", _heated(forward=lambda t, q: t * q.shape[-1] ** 0.5)),
        "sign": ("The sign: ", _heated(last=lambda s, raw, t, g: (s * raw).sum() / t**2)),
        "1/T once": ("here it was -1/T.", _heated(last=lambda s, raw, t, g: -(s * raw).sum() / t)),
        "no 1/T": ("the factor 1/T^2 is missing", _heated(last=lambda s, raw, t, g: -(s * raw).sum())),
        "1/T three times": ("not yet divided by T", _heated(last=lambda s, raw, t, g: -(s * raw / t).sum() / t**2)),
        "sign and 1/T": ("the sign and one 1/T", _heated(last=lambda s, raw, t, g: (s * raw).sum() / t)),
        "mean over all": ("sum, do not average", _heated(last=lambda s, raw, t, g: -(s * raw).mean() / t**2)),
        "mean over queries": (
            "sum over them, do not average",
            _heated(last=lambda s, raw, t, g: -(s * raw).sum(axis=1).mean() / t**2),
        ),
        "not times q . k": ("by its q . k before summing", _heated(last=lambda s, raw, t, g: -s.sum() / t**2)),
        "grad_scores divided": ("S is divided by T already", _scores_divided),
        "around the softmax": (
            "must go through the softmax",
            _heated(last=lambda s, raw, t, g: -(g * raw).sum() / t**2),
        ),
    },
)


# --- 4: back to the tokens


def traced_gradients(
    grad_output: ndarray,
    tokens: ndarray,
    w_query: ndarray,
    w_key: ndarray,
    w_value: ndarray,
    *,
    scale: float = 1.0,
    paths: tuple[int, ...] = (1, 1, 1),
    exchanged: bool = False,
    matrix: Callable[[ndarray, ndarray], ndarray] = lambda x, g: np.einsum("bni,bnj->ij", x, g),
    divided: float = 1.0,
) -> tuple[ndarray, ...]:
    """The right answer, and with other settings a wrong one."""
    query, key, value = tokens @ w_query, tokens @ w_key, tokens @ w_value
    root = query.shape[-1] ** 0.5
    weights = softmax(query @ key.swapaxes(1, 2) / root)
    grad_weights = grad_output @ value.swapaxes(1, 2)
    grad_scores = weights * (grad_weights - (weights * grad_weights).sum(axis=-1, keepdims=True))
    grad_scores = grad_scores / root**scale
    grads = [grad_scores @ key, grad_scores.swapaxes(1, 2) @ query, weights.swapaxes(1, 2) @ grad_output]
    grads = [grads[1], grads[0], grads[2]] if exchanged else grads
    backs = [on * grad @ w.T for on, grad, w in zip(paths, grads, (w_query, w_key, w_value))]
    return sum(backs) / divided, *(matrix(tokens, grad) for grad in grads)  # type: ignore[return-value]


def _traced(**settings: Any) -> Answer:
    return functools.partial(traced_gradients, **settings)


def _reordered(*arrays: ndarray) -> tuple[ndarray, ...]:
    of_tokens, of_query, of_key, of_value = traced_gradients(*arrays)
    return of_tokens, of_key, of_query, of_value


TOKENS = mistakes(
    "hw1.self_attention_gradients",
    "01, 1.7",
    {
        "no path by queries": ("The path through the queries is missing", _traced(paths=(0, 1, 1))),
        "no path by keys": ("The path through the keys is missing", _traced(paths=(1, 0, 1))),
        "no path by values": ("The path through the values is missing", _traced(paths=(1, 1, 0))),
        "queries alone": ("Only the path through the queries", _traced(paths=(1, 0, 0))),
        "values alone": ("Only the path through the values", _traced(paths=(0, 0, 1))),
        "paths averaged": ("added, not averaged", _traced(divided=3.0)),
        "gradients exchanged": ("The gradients of queries and keys are exchanged", _traced(exchanged=True)),
        "no scale": ("1/sqrt(d) is missing", _traced(scale=0)),
        "scale twice": ("1/sqrt(d) is there twice", _traced(scale=2)),
        "not over the batch": (
            "sum its gradient over the batch",
            _traced(matrix=lambda x, g: x.swapaxes(1, 2) @ g),
        ),
        "mean over the batch": (
            "summed over the batch, not averaged",
            _traced(matrix=lambda x, g: (x.swapaxes(1, 2) @ g).mean(axis=0)),
        ),
        "the first row alone": ("the first row's alone", _traced(matrix=lambda x, g: x[0].T @ g[0])),
        "mean over all tokens": (
            "over all tokens, not averaged",
            _traced(matrix=lambda x, g: np.einsum("bni,bnj->ij", x, g) / (x.shape[0] * x.shape[1])),
        ),
        "transposed": ("not its transpose", _traced(matrix=lambda x, g: np.einsum("bni,bnj->ji", x, g))),
        "another order": ("Here the matrices of queries and keys are exchanged", _reordered),
    },
)


# --- 5: a backward pass to be mended


def mended(
    grad_output: ndarray,
    query: ndarray,
    key: ndarray,
    value: ndarray,
    mask: ndarray,
    *,
    root: Callable[..., float] = lambda q, v: q.shape[-1] ** 0.5,
    weigh: Callable[[ndarray, ndarray], ndarray] = softmax,
    average: Callable[[ndarray, ndarray], Any] = lambda w, g: (w * g).sum(axis=-1, keepdims=True),
    by_weights: bool = True,
    powers: tuple[int, int] = (1, 1),
    by_scores: bool = False,
    divided: bool = False,
) -> tuple[ndarray, ...]:
    """The right answer, and with other settings a wrong one."""
    r = root(query, value)
    weights = weigh(query @ key.swapaxes(-1, -2) / r, mask)
    grad_weights = grad_output @ value.swapaxes(-1, -2)
    grad_scores = grad_weights - average(weights, grad_weights)
    grad_scores = weights * grad_scores if by_weights else grad_scores
    grad_query = grad_scores @ key / r ** powers[0]
    grad_key = grad_scores.swapaxes(-1, -2) @ query / r ** powers[1]
    grad_value = (grad_scores if by_scores else weights).swapaxes(-1, -2) @ grad_output
    return weights, grad_scores / r if divided else grad_scores, grad_query, grad_key, grad_value


def _mending(**settings: Any) -> Answer:
    return functools.partial(mended, **settings)


_broken = _mending(
    weigh=lambda s, m: softmax(s) * m,
    root=lambda q, v: v.shape[-1] ** 0.5,
    average=lambda w, g: (w * g).mean(axis=-1, keepdims=True),
    powers=(1, 0),
)

MENDED = mistakes(
    "hw1.mended_backward",
    "01, 1.7",
    {
        "nothing mended": ("All four faults are left", _broken),
        "the forward part left": (
            "Two faults are left in the weights",
            _mending(weigh=lambda s, m: softmax(s) * m, root=lambda q, v: v.shape[-1] ** 0.5),
        ),
        "mask after the softmax": ("no longer add up to 1", _mending(weigh=lambda s, m: softmax(s) * m)),
        "no mask": ("The mask has no effect", _mending(weigh=lambda s, m: softmax(s))),
        "mask inverted": ("The mask is inverted", _mending(weigh=lambda s, m: softmax(s, ~m))),
        "score 0 for masked": ("a score of 0 still has weight", _mending(weigh=lambda s, m: softmax(s * m))),
        "root of the values' width": ("not that of the values", _mending(root=lambda q, v: v.shape[-1] ** 0.5)),
        "no scale": ("The division by sqrt(d) is missing", _mending(root=lambda q, v: 1.0)),
        "divided by d": ("not by d", _mending(root=lambda q, v: q.shape[-1])),
        "mean of products": ("is the sum of w", _mending(average=lambda w, g: (w * g).mean(axis=-1, keepdims=True))),
        "plain mean": ("here it is the plain mean", _mending(average=lambda w, g: g.mean(axis=-1, keepdims=True))),
        "no average": ("the average over the row must be subtracted", _mending(average=lambda w, g: 0)),
        "average over queries": (
            "is over the keys, the last axis",
            _mending(average=lambda w, g: (w * g).sum(axis=-2, keepdims=True)),
        ),
        "not by weights": ("each entry is multiplied by its weight", _mending(by_weights=False)),
        "grad_scores divided": ("divide by sqrt(d) only afterwards", _mending(divided=True)),
        "keys without scale": ("the keys' gradient lacks", _mending(powers=(1, 0))),
        "keys' scale twice": ("has the 1/sqrt(d) twice", _mending(powers=(1, 2))),
        "queries without scale": ("The queries' gradient lacks", _mending(powers=(0, 1))),
        "neither with scale": ("both lack", _mending(powers=(0, 0))),
        "values by scores' gradient": ("made with the weights", _mending(by_scores=True)),
    },
)


# --- 6: how many keys a query uses


def counted(scores: ndarray, of_entropy: Callable[[ndarray], Any], log: Callable[..., Any] = np.log) -> Any:
    """A function of the entropy, with 0 log 0 = 0."""
    weights = softmax(scores)
    return of_entropy(-(weights * log(np.where(weights > 0, weights, 1))).sum(axis=-1))


def _raw_logs(scores: ndarray) -> Any:
    with np.errstate(all="ignore"):
        weights = softmax(scores)
        return np.exp(-(weights * np.log(weights)).sum(axis=-1))


def _of_weights(exponentials: ndarray) -> Any:
    with np.errstate(all="ignore"):
        weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
        return np.exp(-(weights * np.log(np.where(weights > 0, weights, 1))).sum(axis=-1))


def _over_first_axis(scores: ndarray) -> Any:
    weights = np.exp(scores - scores.max(axis=0)) / np.exp(scores - scores.max(axis=0)).sum(axis=0)
    return np.exp(-(weights * np.log(np.where(weights > 0, weights, 1))).sum(axis=-1))


EFFECTIVE = mistakes(
    "hw1.effective_keys",
    "01, 1.3",
    {
        "the entropy": ("This is the entropy itself", lambda s: counted(s, lambda h: h)),
        "no minus": ("The minus sign of the entropy is missing", lambda s: counted(s, lambda h: np.exp(-h))),
        "minus the entropy": ("This is minus the entropy", lambda s: counted(s, lambda h: -h)),
        "exp of bits": ("2 ** to np.log2", lambda s: counted(s, np.exp, np.log2)),
        "2 to the nats": ("here 2 ** with np.log", lambda s: counted(s, lambda h: 2**h)),
        "mean over keys": ("not the mean", lambda s: counted(s, lambda h: np.exp(h / s.shape[-1]))),
        "1 / sum of squares": ("This is 1 / sum(w^2)", lambda s: 1 / (softmax(s) ** 2).sum(axis=-1)),
        "1 / the largest": ("This is 1 / the largest weight", lambda s: 1 / softmax(s).max(axis=-1)),
        "mean of logarithms": (
            "each logarithm is multiplied by its weight.",
            lambda s: np.exp(-np.log(softmax(s)).mean(axis=-1)),
        ),
        "sum of logarithms": ("here they were only added", lambda s: np.exp(-np.log(softmax(s)).sum(axis=-1))),
        "averaged": ("here they were averaged", lambda s: np.mean(counted(s, np.exp))),
        "nan for weights of 0": ("0 log 0 counts as 0", _raw_logs),
        "a softmax that overflows": ("exp has overflowed in the softmax", lambda s: _of_weights(np.exp(s))),
        "a softmax less one number": ("exp gives 0 in the softmax", lambda s: _of_weights(np.exp(s - 700))),
        "softmax over the first axis": ("it is over the last", _over_first_axis),
    },
)


MISTAKES = (*PADDED, *MERGED, *TEMPERATURE, *TOKENS, *MENDED, *EFFECTIVE)
