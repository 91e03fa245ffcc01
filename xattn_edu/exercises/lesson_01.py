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
        causes = {
            "Each row should add up to 1: did you sum over all axes?": exponentials / exponentials.sum(),
            "Each row should add up to 1: did you sum over the first axis, not the last?": exponentials
            / exponentials.sum(0),
            "Each row should add up to 1: divide by the row's sum.": exponentials,
            "The division by the row's sum is missing.": np.exp(scores - scores.max(-1, keepdims=True)),
            "Divide by the sum of the row, not by its mean.": exponentials / exponentials.mean(-1, keepdims=True),
        }
        compare(answer(scores.copy()), attention_numpy.softmax(scores), f"scores of shape {scores.shape}", causes)
    for size in (1e3, 1e5, -1e5):
        scores = draw.normal(size=(4, 6)) + size
        with np.errstate(all="ignore"):
            given = answer(scores.copy())
        if given is not None and not np.isfinite(given).all():
            raise Wrong(f"scores around {size:g} give {given.ravel()[0]}: take out the largest score before exp")
        compare(given, attention_numpy.softmax(scores), f"scores around {size:g}")
    apart = np.array([[0.0, 1000.0], [2000.0, 0.0]])
    with np.errstate(all="ignore"):
        given = answer(apart.copy())
    if given is not None and not np.isfinite(given).all() or np.shape(given) == (2, 2) and (given[0] == 0).all():
        raise Wrong("rows whose largest scores are far apart: subtract from each row its own largest score")
    compare(given, attention_numpy.softmax(apart), "rows whose largest scores are far apart")
    return "right, for scores of any size and any number of axes"


@exercise
def window_mask(answer: Answer) -> str:
    """window_mask(length, reach): query i may look at the keys i - reach .. i."""
    for length, reach in ((5, 1), (6, 2), (4, 0), (1, 3), (7, 9)):
        i, j = np.arange(length)[:, None], np.arange(length)[None, :]
        expected = (j <= i) & (j >= i - reach)
        causes = {
            "It is upside down: True is where a key counts.": ~expected,
            "It looks into the future: rows are queries, columns are keys.": expected.T,
            "It looks both ways.": abs(i - j) <= reach,
            "It never forgets: keys before i - reach should be out.": j <= i,
            "The window is one too narrow: i - reach itself is in.": (j <= i) & (j > i - reach),
            "A query sees itself, too.": (j < i) & (j >= i - reach),
        }
        compare(answer(length, reach), expected, f"length {length}, reach {reach}", causes)
    return "right: each query sees itself and the `reach` keys before it"


@exercise
def grad_key(answer: Answer) -> str:
    """grad_key(grad_output, query, key, value): the gradient of attention's output with respect to the keys."""
    draw = np.random.default_rng(2).normal
    for n, m, d, c in ((4, 4, 4, 3), (3, 4, 5, 2), (1, 6, 2, 3)):
        query, key, value, grad_output = draw(size=(n, d)), draw(size=(m, d)), draw(size=(m, c)), draw(size=(n, c))
        weights = attention_numpy.attention(query, key, value)[1]
        expected = attention_numpy.attention_backward(grad_output, query, key, value, weights)[1]
        grad_weights = grad_output @ value.T
        no_jacobian = grad_weights.T @ query / np.sqrt(d)
        no_average = (weights * grad_weights).T @ query / np.sqrt(d)
        average = (weights * grad_weights).sum(-1, keepdims=True)
        grad_scores = weights * (grad_weights - average) / np.sqrt(d)
        causes = {
            "In softmax's backward pass the average over the row must be subtracted.": no_average,
            "This sums over keys; a key's gradient sums over queries: transpose.": grad_scores @ query
            if n == m
            else None,
            "Each score is q . k: its derivative with respect to k is q, not k.": grad_scores.T @ key
            if n == m
            else None,
            "The 1/sqrt(d) is missing.": expected * np.sqrt(d),
            "The 1/sqrt(d) is there twice.": expected / np.sqrt(d),
            "The gradient has not been sent back through softmax.": no_jacobian,
        }
        arguments = (array.copy() for array in (grad_output, query, key, value))
        compare(answer(*arguments), expected, f"{n} queries, {m} keys, width {d}", causes)
    return "right, equal to the library's hand-derived gradient"
