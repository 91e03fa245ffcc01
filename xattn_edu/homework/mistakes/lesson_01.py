"""Answers to the exercises of lesson 1, attention in NumPy: wrong ones, and other right ones."""

import numpy as np

from xattn_edu.homework.mistakes.mistake import Named, entries
from xattn_edu.models.attention_numpy import softmax


def over_row_sums(exponentials):
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def over_second_axis(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=min(1, scores.ndim - 1), keepdims=True)


def only_a_positive_maximum(scores):
    return over_row_sums(np.exp(scores - np.maximum(scores.max(axis=-1, keepdims=True), 0)))


def at_most_2000_subtracted(scores):
    return over_row_sums(np.exp(scores - np.minimum(scores.max(axis=-1, keepdims=True), 2000)))


def window(length, reach):
    """The right answer: the lower triangle without the lower triangle of the keys before i - reach."""
    return np.tri(length, dtype=bool) & ~np.tri(length, k=-reach - 1, dtype=bool)


def slice_before_the_row(length, reach):
    """For i < reach the slice begins at a negative number: NumPy counts from the end of the row."""
    mask = np.zeros((length, length), bool)
    for i in range(length):
        mask[i, i - reach : i + 1] = True
    return mask


def gradients(grad_output, query, key, value, average=1.0, through=True, root=None, by_weights=True):
    """The right answer, and with other arguments a wrong one."""
    root = query.shape[-1] ** 0.5 if root is None else root
    weights = softmax(query @ key.T / query.shape[-1] ** 0.5)
    back = grad_weights = grad_output @ value.T
    if through:
        back = grad_weights - average * (weights * grad_weights).sum(axis=-1, keepdims=True)
        back = weights * back if by_weights else back
    return back @ key / root, back.T @ query / root, weights.T @ grad_output


def scores_back(grad_output, query, key, value):
    """The gradient for the scores, divided by sqrt(d)."""
    root = query.shape[-1] ** 0.5
    weights, grad_weights = softmax(query @ key.T / root), grad_output @ value.T
    return weights * (grad_weights - (weights * grad_weights).sum(axis=-1, keepdims=True)) / root


def mean_of_products(grad_output, query, key, value):
    weights, grad_weights, root = pieces(grad_output, query, key, value)
    back = weights * (grad_weights - (weights * grad_weights).mean(axis=-1, keepdims=True))
    return back @ key / root, back.T @ query / root, weights.T @ grad_output


def changed(number, change):
    """The right gradients, with one changed."""

    def answer(*arrays):
        right = list(gradients(*arrays))
        right[number] = change(right[number], *arrays)
        return tuple(right)

    return answer


def distances(noisy, sharpness=5.0, nearby=0.0, reach=1):
    """Scores of the lesson's form, less with the squared distance between two pixels."""
    side = 2 * reach + 1
    tokens = np.lib.stride_tricks.sliding_window_view(np.pad(noisy, reach, mode="edge"), (side, side))
    tokens = tokens.reshape(noisy.size, -1)
    place = np.stack(np.unravel_index(np.arange(noisy.size), noisy.shape), axis=1)
    apart = ((place[:, None] - place) ** 2).sum(axis=-1)
    return sharpness * (tokens @ tokens.T - (tokens**2).sum(axis=1) / 2) - nearby * apart


def twice(noisy):
    """Queries and keys from a picture that was denoised once; values stay those of the noisy picture."""
    once = (softmax(distances(noisy)) @ noisy.ravel()).reshape(noisy.shape)
    return distances(once, 20, 0.01)


def pieces(grad_output, query, key, value):
    """Weights, their gradient, and the scale."""
    return softmax(query @ key.T / query.shape[-1] ** 0.5), grad_output @ value.T, query.shape[-1] ** 0.5


def without_average(grad_output, query, key, value):
    weights, grad_weights, scale = pieces(grad_output, query, key, value)
    return (weights * grad_weights).T @ query / scale


SECTIONS = {
    "stable_softmax": "1.2",
    "window_mask": "1.5",
    "attention_gradients": "1.7",
    "denoiser": "1.9",
}
WRONG = {
    "stable_softmax": {
        "exponentials": Named("divide by the row's sum", np.exp),
        "not divided": Named("division by the row's sum is missing", lambda s: np.exp(s - s.max(-1, keepdims=True))),
        "divided by the mean": Named("not by its mean", lambda s: softmax(s) * s.shape[-1]),
        "nothing subtracted": Named("subtract the row's largest score", lambda s: over_row_sums(np.exp(s))),
        "one maximum for all rows": Named("its own largest", lambda s: over_row_sums(np.exp(s - s.max()))),
        "a constant subtracted": Named("subtract the row's largest score", lambda s: over_row_sums(np.exp(s - 700))),
        "a maximum subtracted if positive": Named("subtract the row's largest score", only_a_positive_maximum),
        "at most 2000 subtracted": Named("subtract the row's largest score", at_most_2000_subtracted),
        "the row's mean subtracted": Named(
            "its own largest", lambda s: over_row_sums(np.exp(s - s.mean(axis=-1, keepdims=True)))
        ),
        "the row's first score subtracted": Named("its own largest", lambda s: over_row_sums(np.exp(s - s[..., :1]))),
        "over the first axis": Named("over the first axis", lambda s: softmax(s.swapaxes(0, -1)).swapaxes(0, -1)),
        "over the second axis": over_second_axis,
        "the logarithm": Named("logarithm of the softmax", lambda s: np.log(softmax(s))),
        "over all axes": Named(
            "expected 0.2641, given 0.08168. Each row should add up to 1: did you sum over all axes",
            lambda s: np.exp(s - s.max()) / np.exp(s - s.max()).sum(),
        ),
        "scores cut off at 50": lambda s: softmax(np.clip(s, -50, 50)),
        "scores doubled": lambda s: softmax(2 * s),
        "a vector as a matrix": lambda s: np.atleast_2d(softmax(s)),
        "the scores": lambda s: s,
        "nothing": Named("returns None", lambda s: None),
    },
    "window_mask": {
        "all earlier keys": Named("attends to all earlier keys", lambda n, r: window(n, n)),
        "not itself": Named("its own key, too", lambda n, r: window(n, r) & ~np.eye(n, dtype=bool)),
        "later keys": Named("attends to later keys", lambda n, r: window(n, r).T),
        "one key too few": Named("one too narrow", lambda n, r: window(n, r) & ~np.eye(n, k=-r, dtype=bool)),
        "inverted": Named("inverted", lambda n, r: ~window(n, r)),
        "one key too many": Named("one too wide", lambda n, r: window(n, r + 1)),
        "0.0 and 1.0": Named("True and False", lambda n, r: window(n, r).astype(float)),
        "0 and 1": Named("True and False", lambda n, r: window(n, r).astype(int)),
        "everything": lambda n, r: np.ones((n, n), bool),
        "a reach of one": Named("a reach of 1", lambda n, r: window(n, 1)),
        "a reach of one or the whole sentence": Named(
            "a reach of 1", lambda n, r: window(n, r if r >= n else min(r, 1))
        ),
        "a reach of one at least": Named("a reach of 1", lambda n, r: window(n, max(r, 1))),
        "a reach of two at least, or none": Named("one too wide", lambda n, r: window(n, max(r, 2) if r else 0)),
        "an even reach": Named("one too narrow", lambda n, r: window(n, r // 2 * 2)),
        "everything if the reach is longer than the sentence": lambda n, r: window(n, r) | (r > n),
        "both ends alone": lambda n, r: np.eye(n, dtype=bool) | np.eye(n, k=-r, dtype=bool),
        "a slice that begins before the row": slice_before_the_row,
        "no axes for a sentence of one token": lambda n, r: window(n, r).squeeze(),
    },
    "attention_gradients": {
        "no scale": Named("1/sqrt(d) is missing", lambda *a: gradients(*a, root=1)),
        "scale twice": Named("there twice", lambda g, q, k, v: gradients(g, q, k, v, root=q.shape[-1])),
        "not through softmax": Named("sent back through softmax", lambda *a: gradients(*a, through=False)),
        "no average": Named("average over the row", lambda *a: gradients(*a, average=0)),
        "the mean of the products": Named("of weight times gradient", mean_of_products),
        "values' mean over queries": Named(
            "is the sum over the queries", changed(2, lambda right, g, q, k, v: right / len(q))
        ),
        "not by weights": Named("multiplied by its weight", lambda *a: gradients(*a, by_weights=False)),
        "over the keys": Named(
            "sums over keys",
            changed(1, lambda right, g, q, k, v: scores_back(g, q, k, v) @ q if len(q) == len(k) else right),
        ),
        "with the keys": Named(
            "is q, not k",
            changed(1, lambda right, g, q, k, v: scores_back(g, q, k, v).T @ k if len(q) == len(k) else right),
        ),
        "keys not transposed": changed(1, lambda right, g, q, k, v: np.zeros_like(right) + right.mean(axis=0)),
        "values not transposed": Named(
            "transpose the weights",
            changed(
                2, lambda right, g, q, k, v: softmax(q @ k.T / q.shape[-1] ** 0.5) @ g if len(q) == len(k) else right
            ),
        ),
        "values given equally": changed(2, lambda right, g, q, k, v: np.full_like(right, 1 / len(k)) * g.sum(axis=0)),
        "wrong sign": lambda *a: tuple(-gradient for gradient in gradients(*a)),
        "in another order": Named("in another order", lambda *a: gradients(*a)[::-1]),
        "the keys' alone": Named("return three gradients", lambda *a: gradients(*a)[1]),
        "nothing": Named("returns None", lambda *a: None),
    },
    "denoiser": {
        "the lesson's scores": Named("around 0", distances),
        "far too sharp": Named("below 0", lambda noisy: distances(noisy, sharpness=1000)),
        "all alike": Named("below 0", lambda noisy: np.zeros((784, 784))),
        "the neighbours alone": Named("below 0", lambda noisy: distances(noisy, 0, 1)),
        "near pixels a little more": Named("around 0", lambda noisy: distances(noisy, nearby=0.005)),
        "one row": Named("given shape (1, 784)", lambda noisy: np.zeros((1, 784))),
        "minus infinity": Named("given shape (784, 784)", lambda noisy: np.full((784, 784), -np.inf)),
        "nothing": Named("returns None", lambda noisy: None),
    },
}


def softmax_by_logarithm(scores):
    top = np.max(scores, axis=-1, keepdims=True)
    return np.exp(scores - top - np.log(np.exp(scores - top).sum(-1, keepdims=True)))


def softmax_row_by_row(scores):
    rows = scores.reshape(-1, scores.shape[-1])
    weights = np.zeros(rows.shape)
    for number, row in enumerate(rows):
        exponentials = np.exp(row - row.max())
        weights[number] = exponentials / exponentials.sum()
    return weights.reshape(scores.shape)


def window_by_loops(length, reach):
    mask = np.zeros((length, length), dtype=bool)
    for i in range(length):
        mask[i, max(0, i - reach) : i + 1] = True
    return mask


def gradients_row_by_row(grad_output, query, key, value):
    """With the whole matrix of softmax's derivatives."""
    root = query.shape[-1] ** 0.5
    weights = softmax(query @ key.T / root)
    grad_scores = np.empty(weights.shape)
    for i, row in enumerate(weights):
        grad_scores[i] = (np.diag(row) - np.outer(row, row)) @ (value @ grad_output[i])
    return grad_scores @ key / root, grad_scores.T @ query / root, weights.T @ grad_output


RIGHT = {
    "stable_softmax": {
        "by the logarithm of the sum": softmax_by_logarithm,
        "row by row": softmax_row_by_row,
        "the library's": softmax,
        "a little more subtracted": lambda s: over_row_sums(np.exp(s - s.max(axis=-1, keepdims=True) - 3)),
    },
    "window_mask": {
        "two triangles": window,
        "by loops": window_by_loops,
        "triangles of triu": lambda n, r: np.tril(np.triu(np.ones((n, n), bool), -r)),
        "rows of a list": lambda n, r: np.array([[0 <= i - j <= r for j in range(n)] for i in range(n)]),
    },
    "attention_gradients": {
        "a list": lambda *a: list(gradients(*a)),
        "by the matrix of derivatives": gradients_row_by_row,
        "an array for each, stacked last": lambda *a: [np.ascontiguousarray(g) for g in gradients(*a)],
    },
    "denoiser": {"keys from a first pass, and near ones": twice},
}

MISTAKES, DIFFERENT = entries(1, SECTIONS, WRONG, RIGHT)
