"""Checks of the exercises in lesson 1, attention in NumPy."""

import numpy as np

from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise
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
        }
        compare(answer(length, reach), expected, f"length {length}, reach {reach}", causes)
    return "right: each query attends to itself and to the `reach` keys before it"


@exercise
def grad_key(answer: Answer) -> str:
    """grad_key(grad_output, query, key, value): the gradient of attention's output with respect to the keys."""
    draw = np.random.default_rng(2).normal
    for n, m, d, c in ((4, 4, 4, 3), (3, 4, 5, 2), (1, 6, 2, 3)):
        query, key, value, grad_output = draw(size=(n, d)), draw(size=(m, d)), draw(size=(m, c)), draw(size=(n, c))
        weights = attention_numpy.attention(query, key, value)[1]
        expected = attention_numpy.attention_backward(grad_output, query, key, value, weights)[1]
        grad_weights = grad_output @ value.T
        average = (weights * grad_weights).sum(-1, keepdims=True)
        grad_scores = weights * (grad_weights - average) / np.sqrt(d)

        no_jacobian = grad_weights.T @ query / np.sqrt(d)
        no_average = (weights * grad_weights).T @ query / np.sqrt(d)
        # These two have the keys' shape only if there are as many queries as keys.
        over_keys = grad_scores @ query if n == m else None
        with_key = grad_scores.T @ key if n == m else None
        causes = {
            "In softmax's backward pass the average over the row must be subtracted.": no_average,
            "This sums over keys; a key's gradient sums over queries: transpose.": over_keys,
            "Each score is q . k: its derivative with respect to k is q, not k.": with_key,
            "The 1/sqrt(d) is missing.": expected * np.sqrt(d),
            "The 1/sqrt(d) is there twice.": expected / np.sqrt(d),
            "The gradient has not been sent back through softmax.": no_jacobian,
        }
        arguments = (array.copy() for array in (grad_output, query, key, value))
        compare(answer(*arguments), expected, f"{n} queries, {m} keys, width {d}", causes)
    return "right, equal to the library's hand-derived gradient"
