"""Checks of the exercises in lesson 1, attention in NumPy."""

import functools
import itertools
from collections.abc import Iterator

import numpy as np
from numpy import ndarray

from xattn_edu.data import fashion_mnist
from xattn_edu.exercises.checking import Answer, Wrong, close, compare, exercise, refuse_none
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.models import attention_numpy


@exercise
def stable_softmax(answer: Answer) -> str:
    """softmax(scores) over the last axis, for scores of any size."""
    draw = np.random.default_rng(1)
    for scores in (draw.normal(size=(3, 4)), draw.normal(size=5), draw.normal(size=(2, 3, 7)) * 5):
        exponentials = np.exp(scores)
        over_all_axes = exponentials / exponentials.sum()
        over_first_axis = exponentials / exponentials.sum(axis=0)
        not_divided_after_the_maximum = np.exp(scores - scores.max(axis=-1, keepdims=True))
        divided_by_mean = exponentials / exponentials.mean(axis=-1, keepdims=True)
        causes = {
            "Each row should add up to 1: did you sum over all axes?": over_all_axes,
            "Each row should add up to 1: did you sum over the first axis, not the last?": over_first_axis,
            "Each row should add up to 1: divide by the row's sum.": exponentials,
            "The division by the row's sum is missing.": not_divided_after_the_maximum,
            "Divide by the sum of the row, not by its mean.": divided_by_mean,
            "This is the logarithm of the softmax.": np.log(attention_numpy.softmax(scores)),
        }
        compare(answer(scores.copy()), attention_numpy.softmax(scores), f"scores of shape {scores.shape}", causes)
    for size in (1e3, 1e5, -1e5):
        scores = draw.normal(size=(4, 6)) + size
        with np.errstate(all="ignore"):
            given = answer(scores.copy())
        if given is not None and not np.isfinite(given).all():
            raise Wrong(f"scores around {size:g} give {given.ravel()[0]}: subtract the row's largest score before exp")
        compare(given, attention_numpy.softmax(scores), f"scores around {size:g}")
    _rows_far_apart(answer)
    return "right, for scores of any size and any number of axes"


def _rows_far_apart(answer: Answer) -> None:
    """One maximum, subtracted from all rows, leaves nothing of the first row."""
    scores = np.array([[0.0, 1000.0], [2000.0, 0.0]])
    with np.errstate(all="ignore"):
        given = answer(scores.copy())
    if given is not None:
        not_finite = not np.isfinite(given).all()
        first_row_lost = np.shape(given) == scores.shape and (given[0] == 0).all()
        if not_finite or first_row_lost:
            raise Wrong("rows whose largest scores are far apart: subtract from each row its own largest score")
    compare(given, attention_numpy.softmax(scores), "rows whose largest scores are far apart")


@exercise
def window_mask(answer: Answer) -> str:
    """window_mask(length, reach): query i attends to the keys i - reach .. i."""
    for length, reach in ((5, 1), (6, 3), (4, 0), (1, 3), (7, 9)):
        i, j = np.arange(length)[:, None], np.arange(length)[None, :]
        expected = (j <= i) & (j >= i - reach)
        both_ways = abs(i - j) <= reach
        without_limit = j <= i
        too_narrow = (j <= i) & (j > i - reach)
        too_wide = (j <= i) & (j >= i - reach - 1)
        without_itself = (j < i) & (j >= i - reach)
        reach_of_one = (j <= i) & (j >= i - 1)
        causes = {
            "The mask is inverted: True marks a key that the query attends to.": ~expected,
            "The query attends to later keys: rows are queries, columns are keys.": expected.T,
            "The query attends to keys on both sides; later keys should be False.": both_ways,
            "The query attends to all earlier keys: those before i - reach should be False.": without_limit,
            "The window is one too narrow: the key i - reach belongs to it.": too_narrow,
            "A query attends to its own key, too.": without_itself,
            "The window has a reach of 1, whatever `reach` is.": reach_of_one,
            "The window is one too wide: no key lies further back than `reach`.": too_wide,
        }
        compare(answer(length, reach), expected, f"length {length}, reach {reach}", causes)
    return "right: each query attends to itself and to the `reach` keys before it"


@exercise
def attention_gradients(answer: Answer) -> str:
    """attention_gradients(grad_output, query, key, value): the gradients for query, key and value."""
    draw = np.random.default_rng(2).normal
    for n, m, d, c in ((4, 4, 4, 4), (3, 4, 5, 2), (1, 6, 2, 3)):
        query, key, value, grad_output = draw(size=(n, d)), draw(size=(m, d)), draw(size=(m, c)), draw(size=(n, c))
        weights = attention_numpy.attention(query, key, value)[1]
        expected = attention_numpy.attention_backward(grad_output, query, key, value, weights)
        given = answer(*(array.copy() for array in (grad_output, query, key, value)))
        if not isinstance(given, tuple | list) or len(given) != 3:
            refuse_none(given)
            raise Wrong(f"return three gradients, for query, key and value, given a {type(given).__name__}")
        if any(all(map(close, given, order)) for order in itertools.permutations(expected)) and not all(
            map(close, given, expected)
        ):
            raise Wrong("these are the right gradients in another order: return query's, key's, value's")
        causes = _gradient_mistakes(grad_output, query, key, value, weights)
        for name, mine, right in zip(("query", "key", "value"), given, expected):
            compare(mine, right, f"{n} queries, {m} keys, width {d}: the gradient for the {name}", causes[name])
    return "right, all three equal to the library's hand-derived gradients"


def _gradient_mistakes(
    grad_output: ndarray, query: ndarray, key: ndarray, value: ndarray, weights: ndarray
) -> dict[str, dict[str, ndarray | None]]:
    """For each gradient the results of known mistakes; None where the result would not have its shape."""
    root = np.sqrt(query.shape[1])
    grad_weights = grad_output @ value.T
    no_average = weights * grad_weights
    average = no_average.sum(-1, keepdims=True)
    scores = weights * (grad_weights - average)
    square = len(query) == len(key)
    not_by_weights = "In softmax's backward pass each entry is multiplied by its weight."
    shared = {
        "In softmax's backward pass the average over the row must be subtracted.": no_average,
        "The gradient has not been sent back through softmax.": grad_weights,
        not_by_weights: grad_weights - average,
        "In softmax's backward pass the average is the sum over the row of weight times gradient, not their mean.": (
            weights * (grad_weights - no_average.mean(-1, keepdims=True))
        ),
    }
    of_query = {cause: back @ key / root for cause, back in shared.items()}
    of_key: dict[str, ndarray | None] = {cause: back.T @ query / root for cause, back in shared.items()}
    for causes, right in ((of_query, scores @ key), (of_key, scores.T @ query)):
        causes["The 1/sqrt(d) is missing."] = right
        causes["The 1/sqrt(d) is there twice."] = right / root**2
    of_key["This sums over keys; a key's gradient sums over queries: transpose."] = (
        scores @ query / root if square else None
    )
    of_key["Each score is q . k: its derivative with respect to k is q, not k."] = (
        scores.T @ key / root if square else None
    )
    of_value = {
        "A value's gradient sums over queries: transpose the weights.": weights @ grad_output if square else None,
        "A value's gradient is the sum over the queries, not their mean.": weights.T @ grad_output / len(query),
    }
    return {"query": dict(of_query), "key": of_key, "value": of_value}


PICTURES = 24


@exercise
def denoiser(answer: Answer) -> str:
    """denoiser(noisy): scores (pixel, pixel) whose attention denoises better than the lesson's, on 24 pictures."""
    errors = []
    for noisy, clean in _pictures():
        pixels = clean.size
        scores = answer(noisy.copy())
        refuse_none(scores)
        if np.shape(scores) != (pixels, pixels) or not np.isfinite(scores).all():
            raise Wrong(f"expected {pixels} x {pixels} finite scores, given shape {np.shape(scores)}")
        errors.append(_error(noisy, clean, np.asarray(scores, dtype=float)))
    lead = mean_interval(theirs - mine for theirs, mine in zip(_lesson_errors(), errors))
    said = f"mean error {np.mean(errors):.4f}, paired lead over the lesson's scores {lead:.4f} on {PICTURES} pictures"
    if lead.low <= 0:
        where = "below" if lead.high < 0 else "around"
        raise Wrong(f"{said}: the interval lies {where} 0, so this does not show that your scores are better")
    return f"{said}: the interval lies above 0"


def _pictures() -> Iterator[tuple[ndarray, ndarray]]:
    """Noisy pictures, each with the clean one."""
    for number, image in enumerate(fashion_mnist.load("test").images[:PICTURES]):
        clean = image / 255
        yield clean + 0.2 * np.random.default_rng(number).normal(size=clean.shape), clean


@functools.cache
def _lesson_errors() -> list[float]:
    return [_error(noisy, clean, _lesson_scores(noisy)) for noisy, clean in _pictures()]


def _lesson_scores(noisy: ndarray) -> ndarray:
    """5 times (q . k - |k|^2 / 2) between the pixels' 3 x 3 neighbourhoods, as in the lesson."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(noisy, 1, mode="edge"), (3, 3))
    tokens = windows.reshape(noisy.size, 9)
    return 5 * (tokens @ tokens.T - (tokens**2).sum(axis=1) / 2)


def _error(noisy: ndarray, clean: ndarray, scores: ndarray) -> float:
    denoised = attention_numpy.softmax(scores) @ noisy.ravel()
    return float(np.sqrt(((denoised - clean.ravel()) ** 2).mean()))
