"""Right answers to the first graded set, written in other ways than the source's."""

import math
from typing import Any

import numpy as np
from numpy import ndarray

from xattn_edu.homework.mistakes.hw1 import (
    Answer,
    counted,
    divided_again,
    heated_gradients,
    mended,
    merge,
    padded,
    traced_gradients,
)
from xattn_edu.homework.mistakes.mistake import different
from xattn_edu.models import attention_numpy
from xattn_edu.models.attention_numpy import softmax


def _padded_by_loops(query: ndarray, key: ndarray, value: ndarray, lengths: ndarray) -> list[ndarray]:
    scores = np.zeros((len(query), query.shape[1], key.shape[1]))
    weights, output = np.zeros_like(scores), np.zeros((len(query), query.shape[1], value.shape[-1]))
    for b, length in enumerate(lengths):
        for i, q in enumerate(query[b]):
            scores[b, i] = [q @ k / math.sqrt(len(q)) for k in key[b]]
            if length:
                e = np.exp(scores[b, i, :length] - scores[b, i, :length].max())
                weights[b, i, :length] = e / e.sum()
                output[b, i] = weights[b, i, :length] @ value[b, :length]
    return [scores, weights, output]


def _padded_by_einsum(query: ndarray, key: ndarray, value: ndarray, lengths: ndarray) -> tuple[ndarray, ...]:
    scores = np.einsum("bnd,bmd->bnm", query, key) * query.shape[-1] ** -0.5
    mask = np.arange(key.shape[1]) < lengths.reshape(-1, 1, 1)
    masked = np.where(mask, scores, -1e30)
    e = np.exp(masked - masked.max(axis=2, keepdims=True)) * mask
    weights = e / np.maximum(e.sum(axis=2, keepdims=True), 1e-30)
    return scores, weights, np.einsum("bnm,bmc->bnc", weights, value)


def _padded_by_library(query: ndarray, key: ndarray, value: ndarray, lengths: ndarray) -> tuple[ndarray, ...]:
    mask = (np.arange(key.shape[1]) < lengths[:, None])[:, None, :]
    output, weights = attention_numpy.attention(query, key, value, mask)
    return query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1]), weights, output


def _merge_by_sigmoid(output1: ndarray, lse1: ndarray, output2: ndarray, lse2: ndarray) -> tuple[ndarray, ndarray]:
    with np.errstate(over="ignore"):
        share = (1 / (1 + np.exp(lse2 - lse1)))[:, None]
    return share * output1 + (1 - share) * output2, np.maximum(lse1, lse2) + np.log1p(np.exp(-abs(lse1 - lse2)))


def _merge_by_softmax(output1: ndarray, lse1: ndarray, output2: ndarray, lse2: ndarray) -> list[ndarray]:
    both = np.stack([lse1, lse2], axis=-1)
    share, top = softmax(both), both.max(axis=-1)
    output = np.einsum("nk,knc->nc", share, np.stack([output1, output2]))
    return [output, top + np.log(np.exp(both - top[:, None]).sum(axis=-1))]


def _merge_by_rows(output1: ndarray, lse1: ndarray, output2: ndarray, lse2: ndarray) -> tuple[ndarray, ndarray]:
    output, total = np.zeros_like(output1), np.zeros_like(lse1)
    for i, (a, b) in enumerate(zip(lse1, lse2)):
        top = max(a, b)
        e1, e2 = math.exp(a - top), math.exp(b - top)
        output[i] = (e1 * output1[i] + e2 * output2[i]) / (e1 + e2)
        total[i] = top + math.log(e1 + e2)
    return output, total


def _temperature_by_rows(
    grad_output: ndarray, query: ndarray, key: ndarray, value: ndarray, temperature: float
) -> list[Any]:
    grad_weights = np.array([[g @ v for v in value] for g in grad_output])
    grad_scores, total = np.zeros_like(grad_weights), 0.0
    for i, q in enumerate(query):
        w = softmax(key @ q / temperature)
        grad_scores[i] = (np.diag(w) - np.outer(w, w)) @ grad_weights[i]
        total -= grad_scores[i] @ (key @ q) / temperature**2
    return [grad_weights, grad_scores, total]


def _temperature_by_scores(
    grad_output: ndarray, query: ndarray, key: ndarray, value: ndarray, temperature: float
) -> tuple[Any, ...]:
    scores = query @ key.T / temperature
    weights = softmax(scores)
    grad_weights = np.einsum("nc,mc->nm", grad_output, value)
    grad_scores = attention_numpy.softmax_backward(grad_weights, weights)
    return grad_weights, grad_scores, np.array(-np.sum(grad_scores * scores) / temperature)


def _temperature_by_differences(
    grad_output: ndarray, query: ndarray, key: ndarray, value: ndarray, temperature: float
) -> tuple[Any, ...]:
    def loss(t: float) -> float:
        return float((softmax(query @ key.T / t) @ value * grad_output).sum())

    first, second, _ = heated_gradients(grad_output, query, key, value, temperature)
    h = 1e-5
    return first, second, (loss(temperature + h) - loss(temperature - h)) / (2 * h)


def _tokens_by_library(
    grad_output: ndarray, tokens: ndarray, w_query: ndarray, w_key: ndarray, w_value: ndarray
) -> list[ndarray]:
    matrices = (w_query, w_key, w_value)
    query, key, value = (tokens @ w for w in matrices)
    weights = attention_numpy.attention(query, key, value)[1]
    grads = attention_numpy.attention_backward(grad_output, query, key, value, weights)
    flat = tokens.reshape(-1, tokens.shape[-1])
    of_tokens = np.sum([grad @ w.T for grad, w in zip(grads, matrices)], axis=0)
    return [of_tokens, *(flat.T @ grad.reshape(-1, grad.shape[-1]) for grad in grads)]


def _tokens_row_by_row(
    grad_output: ndarray, tokens: ndarray, w_query: ndarray, w_key: ndarray, w_value: ndarray
) -> tuple[ndarray, ...]:
    of_tokens, sums = np.zeros_like(tokens), [np.zeros_like(w) for w in (w_query, w_key, w_value)]
    for b, x in enumerate(tokens):
        query, key, value = x @ w_query, x @ w_key, x @ w_value
        weights = softmax(query @ key.T / query.shape[1] ** 0.5)
        grads = attention_numpy.attention_backward(grad_output[b], query, key, value, weights)
        for number, (grad, w) in enumerate(zip(grads, (w_query, w_key, w_value))):
            of_tokens[b] += grad @ w.T
            sums[number] += x.T @ grad
    return of_tokens, *sums


def _tokens_by_tensordot(*arrays: ndarray) -> tuple[ndarray, ...]:
    return traced_gradients(*arrays, matrix=lambda x, g: np.tensordot(x, g, axes=((0, 1), (0, 1))))


def _mended_by_library(
    grad_output: ndarray, query: ndarray, key: ndarray, value: ndarray, mask: ndarray
) -> list[ndarray]:
    weights = attention_numpy.attention(query, key, value, mask)[1]
    grads = attention_numpy.attention_backward(grad_output, query, key, value, weights)
    grad_scores = attention_numpy.softmax_backward(grad_output @ value.swapaxes(1, 2), weights)
    return [weights, grad_scores, *grads]


def _mended_with_infinity(*arrays: ndarray) -> tuple[ndarray, ...]:
    return mended(*arrays, weigh=lambda s, m: softmax(np.where(m, s, -np.inf)))


def _mended_by_renormalising(*arrays: ndarray) -> tuple[ndarray, ...]:
    """Right here, where no masked score is so large that nothing is left of the others."""
    return mended(*arrays, weigh=_divided_again_after_softmax)


def _divided_again_after_softmax(scores: ndarray, mask: ndarray) -> ndarray:
    return divided_again(softmax(scores), mask)


def _effective_by_logsumexp(scores: ndarray) -> Any:
    """The entropy is log sum exp(s) - sum w s."""
    largest = scores.max(axis=-1, keepdims=True)
    e = np.exp(scores - largest)
    total = e.sum(axis=-1)
    return np.exp(np.log(total) - (e * (scores - largest)).sum(axis=-1) / total)


def _effective_by_power(scores: ndarray) -> Any:
    weights = softmax(scores)
    return 1 / np.prod(weights**weights, axis=-1)


def _effective_in_bits(scores: ndarray) -> Any:
    return counted(scores, lambda h: 2**h, np.log2)


def _effective_with_epsilon(scores: ndarray) -> Any:
    weights = softmax(scores)
    return np.exp(-np.sum(weights * np.log(weights + 1e-12), axis=-1))


RIGHT: dict[str, dict[str, Answer]] = {
    "padded_attention": {
        "by loops": _padded_by_loops,
        "by einsum, a large negative score": _padded_by_einsum,
        "by the library": _padded_by_library,
        "-inf, empty rows set to zero": padded,
    },
    "merged": {
        "by a sigmoid": _merge_by_sigmoid,
        "by a softmax of two": _merge_by_softmax,
        "row by row": _merge_by_rows,
        "by logaddexp": merge,
    },
    "temperature_gradient": {
        "row by row with the Jacobian": _temperature_by_rows,
        "by the divided scores": _temperature_by_scores,
        "the last by differences": _temperature_by_differences,
        "in matrices": heated_gradients,
    },
    "self_attention_gradients": {
        "by the library, tokens in one axis": _tokens_by_library,
        "row by row of the batch": _tokens_row_by_row,
        "by tensordot": _tokens_by_tensordot,
        "all by hand": traced_gradients,
    },
    "mended_backward": {
        "by the library": _mended_by_library,
        "-inf": _mended_with_infinity,
        "divided again": _mended_by_renormalising,
        "by the library's softmax": mended,
    },
    "effective_keys": {
        "by log-sum-exp": _effective_by_logsumexp,
        "by powers": _effective_by_power,
        "in bits": _effective_in_bits,
        "with a small number in the logarithm": _effective_with_epsilon,
    },
}
DIFFERENT = different("hw1", RIGHT)
