"""Checks of the first graded set: attention and its gradient in NumPy."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from xattn_edu.exercises.guard import Guarded, Wrong
from xattn_edu.homework.cases import compare_named, compare_steps, different_sizes
from xattn_edu.homework.exercise import Exercise
from xattn_edu.models.attention_numpy import attention_backward, softmax

Steps = tuple[ndarray, ...]


def _draw(seed: int) -> Callable[..., ndarray]:
    """Normal numbers from a seed: `draw(3, 4)`."""
    normal = np.random.default_rng(seed).normal
    return lambda *shape: normal(size=shape)


# --- 1: attention over padded keys


def _padded_attention(answer: Guarded, seed: int) -> str:
    """padded_attention(query, key, value, lengths): scores, weights and output; keys from lengths[b] on are padding."""
    n, m, d, c = different_sizes(seed, 4, low=4)
    draw = _draw(seed)
    query, key, value = draw(3, n, d), draw(3, m, d), draw(3, m, c)
    some = 2 + seed % (m - 3)
    for lengths in (np.array([some, m, 1]), np.array([m - 2, 0, some])):  # a row without keys last
        real = np.arange(m) < lengths[:, None]
        far = key * np.where((np.arange(m) == m - 1) & ~real, 3000, 1)[:, :, None]  # padding may win by far
        scores = query @ far.swapaxes(1, 2) / d**0.5
        expected = _attended(scores, real[:, None], value)
        where = f"{n} queries, {m} keys of width {d}, lengths {lengths.tolist()}"
        given = answer(query.copy(), far.copy(), value.copy(), lengths.copy())
        mistakes = functools.partial(_padding_mistakes, query, far, value, real)
        compare_steps(given, dict(zip(("scores", "weights", "output"), expected)), where, mistakes)
    return "right: padding gets no weight, and a row without keys gives zeros"


def _attended(scores: ndarray, mask: ndarray, value: ndarray) -> Steps:
    weights = softmax(scores, np.broadcast_to(mask, scores.shape))
    return scores, weights, weights @ value


def _padding_mistakes(query: ndarray, key: ndarray, value: ndarray, real: ndarray) -> dict[str, Steps]:
    """The steps of known mistakes."""
    d, (_, n, _), m = query.shape[-1], query.shape, key.shape[1]
    raw, lengths, mask = query @ key.swapaxes(1, 2), real.sum(axis=1), real[:, None]
    scores = raw / d**0.5
    plain, empty = softmax(scores), (lengths == 0)[:, None, None]
    right = softmax(scores, np.broadcast_to(mask, scores.shape))
    with np.errstate(invalid="ignore"):
        afterwards = plain * mask
        renormalised = afterwards / afterwards.sum(axis=-1, keepdims=True)
    places = np.arange(m)

    def weighted(weights: ndarray) -> Steps:
        return scores, weights, weights @ value

    of_queries = np.arange(n)[:, None] < lengths[:, None, None]
    return {
        "The division by sqrt(d) is missing.": _attended(raw, mask, value),
        "The scores are divided by sqrt(d), not by d.": _attended(raw / d, mask, value),
        "d is the width of queries and keys, not the number of keys.": _attended(raw / m**0.5, mask, value),
        "d is the width of queries and keys, not that of the values.": _attended(
            raw / value.shape[-1] ** 0.5, mask, value
        ),
        "Return the scores as they are before the mask.": (np.where(mask, scores, -np.inf), *weighted(right)[1:]),
        "Padding is attended to: `lengths` has no effect.": weighted(plain),
        "The mask is inverted: only the padding is attended to.": _attended(scores, ~mask, value),
        "Weights set to zero after the softmax no longer add up to 1: mask the scores.": weighted(afterwards),
        "Masked after the softmax and divided by the new sum: where padding has won, 0/0 is left. Mask the scores.": (
            weighted(renormalised)
        ),
        "0/0 is left, and it was set to 0: where padding has won, the real keys lost their weights. Mask the scores.": (
            weighted(np.nan_to_num(renormalised))
        ),
        "A masked score must be -inf: a score of 0 still has weight, for exp(0) is 1.": weighted(
            softmax(np.where(mask, scores, 0))
        ),
        "The softmax is over the keys, the last axis.": weighted(_over_queries(scores, mask)),
        "A row without keys must give zeros: here every key got the same weight.": weighted(
            np.where(empty, 1 / m, right)
        ),
        "A row without keys must give zeros: here 0/0 gave nan.": weighted(np.where(empty, np.nan, right)),
        "One key too many: the key of number lengths[b] is padding already, for counting starts at 0.": _attended(
            scores, (places <= lengths[:, None])[:, None], value
        ),
        "One key too few: the keys 0 to lengths[b] - 1 are real.": _attended(
            scores, (places < lengths[:, None] - 1)[:, None], value
        ),
        "Each row of the batch has its own length: the first one was used for all.": _attended(
            scores, np.broadcast_to(real[:1, None], (3, 1, m)), value
        ),
        "Each row of the batch has its own length: the largest was used for all.": weighted(plain),
        "The mask is for keys, the last axis: here queries were masked.": _attended(scores, of_queries, value),
    }


def _over_queries(scores: ndarray, mask: ndarray) -> ndarray:
    turned = np.broadcast_to(mask, scores.shape).swapaxes(1, 2)
    return softmax(scores.swapaxes(1, 2), turned).swapaxes(1, 2)


# --- 2: two memories


def _merged(answer: Guarded, seed: int) -> str:
    """merged(output1, lse1, output2, lse2): what attention over both memories at once would give."""
    n, c, d, m1, m2 = different_sizes(seed, 5, low=3)
    draw = _draw(seed)
    query, value = draw(n, d), draw(m1 + m2, c)
    scores = 2 * query @ draw(d, m1 + m2) / d**0.5
    parts = [_with_total(s, v) for s, v in ((scores[:, :m1], value[:m1]), (scores[:, m1:], value[m1:]))]
    (output1, lse1), (output2, lse2) = parts
    names = ("output", "lse")
    given = answer(output1.copy(), lse1.copy(), output2.copy(), lse2.copy())
    expected = dict(zip(names, _with_total(scores, value)))
    mistakes = functools.partial(_merging_mistakes, output1, lse1, output2, lse2)
    compare_steps(given, expected, f"{n} queries, memories of {m1} and {m2} keys", mistakes)
    for kind, shift1, shift2 in (
        ("scores around 1000", 1000.0, 1001.0),
        ("scores around -1000", -1000.0, -999.0),
        ("rows whose scores are far apart", np.linspace(-2000, 2000, n), np.linspace(-1999, 1999, n)),
        ("an empty first memory", -np.inf, 0.0),
        ("an empty second memory", 0.0, -np.inf),
    ):
        _merged_far(answer, kind, output1, lse1 + shift1, output2, lse2 + shift2)
    return "right: as if the memories had never been apart, for scores of any size"


def _merged_far(answer: Guarded, kind: str, output1: ndarray, lse1: ndarray, output2: ndarray, lse2: ndarray) -> None:
    """Where exp of a log-sum-exp overflows or gives 0."""
    lse = np.logaddexp(lse1, lse2)
    expected = {"output": _mixed(output1, output2, np.exp(lse1 - lse)), "lse": lse}
    with np.errstate(all="ignore"):
        given = answer(output1.copy(), lse1.copy(), output2.copy(), lse2.copy())
    if isinstance(given, tuple | list) and not all(np.isfinite(part).all() for part in given):
        hint = "-inf less -inf is nan" if "empty" in kind else "subtract the larger of the two, row by row, before exp"
        raise Wrong(f"{kind}: nan or infinite numbers came out: {hint}")
    one_for_all = np.exp(lse1 - max(lse1.max(), lse2.max())), np.exp(lse2 - max(lse1.max(), lse2.max()))
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = np.nan_to_num(_mixed(output1, output2, one_for_all[0] / sum(one_for_all)))
    compare_steps(
        given, expected, kind, lambda: {"Subtract from each row its own larger one, not one for all.": (lost, lse)}
    )


def _with_total(scores: ndarray, value: ndarray) -> Steps:
    """Attention's output, and the logarithm of the sum of exp(score) for each query."""
    largest = scores.max(axis=-1)
    return softmax(scores) @ value, largest + np.log(np.exp(scores - largest[:, None]).sum(axis=-1))


def _mixed(output1: ndarray, output2: ndarray, share1: ndarray) -> ndarray:
    return share1[:, None] * output1 + (1 - share1[:, None]) * output2


def _merging_mistakes(output1: ndarray, lse1: ndarray, output2: ndarray, lse2: ndarray) -> dict[str, Steps]:
    lse, largest = np.logaddexp(lse1, lse2), np.maximum(lse1, lse2)
    share = np.exp(lse1 - lse)
    right = _mixed(output1, output2, share)
    sums = [np.exp(x - largest)[:, None] for x in (lse1, lse2)]
    return {
        "The shares are exchanged: each output is weighted by its own memory's sum.": (
            _mixed(output1, output2, 1 - share),
            lse,
        ),
        "A memory with larger scores must count more: this is the plain mean.": ((output1 + output2) / 2, lse),
        "The two outputs were added: their shares must add up to 1.": (output1 + output2, lse),
        "A share is in proportion to exp(lse), not to lse.": (_mixed(output1, output2, lse1 / (lse1 + lse2)), lse),
        "The division by the sum of both is missing: the shares must add up to 1.": (
            sums[0] * output1 + sums[1] * output2,
            lse,
        ),
        "The memory with the larger sum was taken alone: each has a share.": (
            np.where((lse1 > lse2)[:, None], output1, output2),
            lse,
        ),
        "Each query has its own shares: the first query's were used for all.": (
            _mixed(output1, output2, np.full_like(share, share[0])),
            lse,
        ),
        "lse is the logarithm of the sum of both sums: here the two logarithms were added.": (right, lse1 + lse2),
        "lse is the logarithm of the sum of both sums: here it is the larger one alone.": (right, largest),
        "lse is the logarithm of the sum of both sums: the largest was subtracted and not added again.": (
            right,
            lse - largest,
        ),
        "lse is the logarithm of the sum: here it is the sum itself.": (right, np.exp(lse)),
        "The logarithm is the natural one, not that of base 2.": (right, np.logaddexp2(lse1, lse2)),
        "lse is the logarithm of the sum of both sums: here it is the logarithm of their mean.": (
            right,
            lse - np.log(2),
        ),
    }


# --- 3: a learned temperature


def _temperature_gradient(answer: Guarded, seed: int) -> str:
    """temperature_gradient(grad_output, query, key, value, temperature): of weights, of scores, of the temperature."""
    n, m, d, c = different_sizes(seed, 4, low=3)
    draw = _draw(seed)
    query, key, value, grad_output = draw(n, d), draw(m, d), draw(m, c), draw(n, c)
    names = ("grad_weights", "grad_scores", "grad_temperature")
    for temperature in (0.55 + 0.1 * (seed % 4), 3.0):
        given = answer(grad_output.copy(), query.copy(), key.copy(), value.copy(), temperature)
        expected = dict(zip(names, _by_temperature(grad_output, query, key, value, temperature)))
        mistakes = functools.partial(_temperature_mistakes, grad_output, query, key, value, temperature)
        compare_steps(given, expected, f"{n} queries, {m} keys, temperature {temperature:.4g}", mistakes)
    return "right, all three, at two temperatures"


def _by_temperature(
    grad_output: ndarray,
    query: ndarray,
    key: ndarray,
    value: ndarray,
    temperature: float,
    average: str = "weighted",
    by_weights: bool = True,
) -> tuple[Any, ...]:
    """The three gradients; with other arguments those of a mistake in softmax's backward pass."""
    raw = query @ key.T
    weights, grad_weights = softmax(raw / temperature), grad_output @ value.T
    averages = {
        "weighted": (weights * grad_weights).sum(axis=-1, keepdims=True),
        "plain": grad_weights.mean(axis=-1, keepdims=True),
        "weighted mean": (weights * grad_weights).mean(axis=-1, keepdims=True),
        "over queries": (weights * grad_weights).sum(axis=0, keepdims=True),
        "over all": (weights * grad_weights).sum(),
        "none": 0.0,
    }
    grad_scores = grad_weights - averages[average]
    grad_scores = weights * grad_scores if by_weights else grad_scores
    return grad_weights, grad_scores, float(-(grad_scores * raw).sum() / temperature**2)


def _temperature_mistakes(
    grad_output: ndarray, query: ndarray, key: ndarray, value: ndarray, temperature: float
) -> dict[str, tuple[Any, ...]]:
    arrays, raw, root = (grad_output, query, key, value), query @ key.T, query.shape[-1] ** 0.5
    grad_weights, grad_scores, right = _by_temperature(*arrays, temperature)
    through: list[tuple[str, dict[str, Any]]] = [
        ("In softmax's backward pass the weighted average over the row must be subtracted.", {"average": "none"}),
        ("The average over the row is weighted: sum w * grad_weights.", {"average": "plain"}),
        ("The average is the sum of w * grad_weights: the weights add up to 1.", {"average": "weighted mean"}),
        ("The average is over the keys of one query, the last axis.", {"average": "over queries"}),
        ("The average is over the keys of one query, not over the whole table.", {"average": "over all"}),
        ("In softmax's backward pass each entry is multiplied by its weight.", {"by_weights": False}),
    ]
    mistakes = {cause: _by_temperature(*arrays, temperature, **settings) for cause, settings in through}
    other = {
        "The weights are those at temperature 1: divide the scores before the softmax.": 1.0,
        "The temperature takes the place of sqrt(d): the scores are divided by it alone.": temperature * root,
        "The scores are divided by the temperature, not multiplied by it.": 1 / temperature,
    }
    for cause, wrong in other.items():
        of_weights, of_scores, total = _by_temperature(grad_output, query, key, value, wrong)
        # The last step is made with the right temperature; the second one differs and is named by itself.
        mistakes[cause] = of_weights, of_scores, total * wrong**2 / temperature**2
    last = {
        "The sign: a larger temperature makes every score smaller in size, and d(1/T)/dT = -1/T^2.": -right,
        "The derivative of 1/T is -1/T^2: here it was -1/T.": right * temperature,
        "The derivative of 1/T is -1/T^2: the factor 1/T^2 is missing.": right * temperature**2,
        "The derivative of 1/T is -1/T^2, times q . k, which is not yet divided by T.": right / temperature,
        "The derivative of 1/T is -1/T^2: the sign and one 1/T are missing.": -right * temperature,
        "The temperature acts on all scores: sum, do not average.": right / raw.size,
        "The temperature acts on all queries: sum over them, do not average.": right / len(query),
        "The temperature acts on all keys: sum over them, do not average.": right / len(key),
        "Multiply each score's gradient by its q . k before summing.": float(-grad_scores.sum() / temperature**2),
        "The gradient must go through the softmax: here q . k was multiplied by the weights' gradient.": float(
            -(grad_weights * raw).sum() / temperature**2
        ),
    }
    mistakes["S is divided by T already: grad_scores is the gradient for S, not the one for q . k."] = (
        grad_weights,
        grad_scores / temperature,
        right,
    )
    return mistakes | {cause: (grad_weights, grad_scores, value) for cause, value in last.items()}


# --- 4: back to the tokens


def _self_attention_gradients(answer: Guarded, seed: int) -> str:
    """self_attention_gradients(grad_output, tokens, w_query, w_key, w_value): for the tokens and the three matrices."""
    batch, n, width, d, c = different_sizes(seed, 5)
    draw = _draw(seed)
    tokens, grad_output = draw(batch, n, width), draw(batch, n, c)
    matrices = [draw(width, size) / width**0.5 for size in (d, d, c)]
    names = ("grad_tokens", "grad_w_query", "grad_w_key", "grad_w_value")
    expected = dict(zip(names, _to_tokens(grad_output, tokens, matrices)))
    mistakes = functools.partial(_token_mistakes, grad_output, tokens, matrices)
    where = f"batch {batch}, {n} tokens of width {width}, queries of width {d}, values of width {c}"
    compare_steps(answer(grad_output.copy(), tokens.copy(), *(w.copy() for w in matrices)), expected, where, mistakes)
    return "right: three paths lead back to a token, and every token of the batch to a matrix"


def _back(grad_output: ndarray, tokens: ndarray, matrices: list[ndarray]) -> list[ndarray]:
    """The gradients for queries, keys and values."""
    query, key, value = (tokens @ w for w in matrices)
    weights = softmax(query @ key.swapaxes(1, 2) / query.shape[-1] ** 0.5)
    return list(attention_backward(grad_output, query, key, value, weights))


def _collected(grads: list[ndarray], tokens: ndarray, matrices: list[ndarray]) -> list[ndarray]:
    """From the gradients for queries, keys and values to those for tokens and matrices."""
    of_tokens = sum(grad @ w.T for grad, w in zip(grads, matrices))
    return [np.asarray(of_tokens), *(np.einsum("bni,bnj->ij", tokens, grad) for grad in grads)]


def _to_tokens(grad_output: ndarray, tokens: ndarray, matrices: list[ndarray]) -> list[ndarray]:
    return _collected(_back(grad_output, tokens, matrices), tokens, matrices)


def _token_mistakes(grad_output: ndarray, tokens: ndarray, matrices: list[ndarray]) -> dict[str, list[ndarray]]:
    grads, root = _back(grad_output, tokens, matrices), matrices[0].shape[1] ** 0.5
    right = _collected(grads, tokens, matrices)
    of_query, of_key, of_value = (grad @ w.T for grad, w in zip(grads, matrices))
    apart = [np.einsum("bni,bnj->bij", tokens, grad) for grad in grads]
    exchanged = _collected([grads[1], grads[0], grads[2]], tokens, matrices)
    no_scale = [grads[0] * root, grads[1] * root, grads[2]]
    scale_twice = [grads[0] / root, grads[1] / root, grads[2]]
    steps = {
        "The path through the queries is missing in the tokens' gradient.": [of_key + of_value, *right[1:]],
        "The path through the keys is missing in the tokens' gradient.": [of_query + of_value, *right[1:]],
        "The path through the values is missing in the tokens' gradient.": [of_query + of_key, *right[1:]],
        "Only the path through the queries reaches the tokens: add those through keys and values.": [
            of_query,
            *right[1:],
        ],
        "Only the path through the keys reaches the tokens: add those through queries and values.": [
            of_key,
            *right[1:],
        ],
        "Only the path through the values reaches the tokens: add those through queries and keys.": [
            of_value,
            *right[1:],
        ],
        "The three paths to the tokens are added, not averaged.": [right[0] / 3, *right[1:]],
        "The gradients of queries and keys are exchanged.": exchanged,
        "The 1/sqrt(d) is missing.": _collected(no_scale, tokens, matrices),
        "The 1/sqrt(d) is there twice.": _collected(scale_twice, tokens, matrices),
        "A matrix is shared by the whole batch: sum its gradient over the batch.": [right[0], *apart],
        "A matrix's gradient is summed over the batch, not averaged.": [
            right[0],
            *(w / len(tokens) for w in right[1:]),
        ],
        "A matrix's gradient is summed over all tokens of the batch: here it is the first row's alone.": [
            right[0],
            *(w[0] for w in apart),
        ],
        "A matrix's gradient is summed over all tokens, not averaged.": [
            right[0],
            *(w / (len(tokens) * tokens.shape[1]) for w in right[1:]),
        ],
        "The gradient of a matrix has the matrix's shape: tokens^T grad, not its transpose.": [
            right[0],
            *(w.T for w in right[1:]),
        ],
        "The order is: tokens, w_query, w_key, w_value. Here the matrices of queries and keys are exchanged.": [
            right[0],
            right[2],
            right[1],
            right[3],
        ],
    }
    return steps


# --- 5: a backward pass to be mended


def _mended_backward(answer: Guarded, seed: int) -> str:
    """mended_backward(grad_output, query, key, value, mask): weights, and the gradients of scores, q, k and v."""
    batch, n, m, d, c = different_sizes(seed, 5, low=3)
    draw = _draw(seed)
    arrays = draw(batch, n, c), draw(batch, n, d), draw(batch, m, d), draw(batch, m, c)
    mask = draw(batch, n, m) > -0.3
    mask[:, :, 0] |= ~mask.any(axis=-1)  # each query attends to one key at least
    names = ("weights", "grad_scores", "grad_query", "grad_key", "grad_value")
    expected = dict(zip(names, _backward(*arrays, mask)))

    def mistakes() -> dict[str, Steps]:
        return {cause: _backward(*arrays, mask, **settings) for cause, settings in FAULTS.items()}

    where = f"batch {batch}, {n} queries, {m} keys, widths {d} and {c}"
    compare_steps(answer(*(array.copy() for array in arrays), mask.copy()), expected, where, mistakes)
    return "right: all four faults are mended"


FAULTS: dict[str, dict[str, Any]] = {
    "All four faults are left. Begin at the weights: which scores are masked, and what are they divided by?": {
        "masked": "after",
        "root": "value",
        "average": "mean",
        "key_power": 0,
    },
    "Two faults are left in the weights: when the mask acts, and which width the scores are divided by.": {
        "masked": "after",
        "root": "value",
    },
    "A fault is left: weights set to zero after the softmax no longer add up to 1. Mask the scores.": {
        "masked": "after"
    },
    "The mask has no effect now: it must act on the scores.": {"masked": "none"},
    "The mask is inverted: True marks a key that the query attends to.": {"masked": "inverted"},
    "A masked score must be -inf: a score of 0 still has weight.": {"masked": "zero"},
    "A fault is left: d is the width of queries and keys, not that of the values.": {"root": "value"},
    "The division by sqrt(d) is missing.": {"root": "none"},
    "Divide by sqrt(d), not by d.": {"root": "square"},
    "A fault is left: the average in softmax's backward pass is the sum of w * grad_weights.": {"average": "mean"},
    "The average in softmax's backward pass is weighted: here it is the plain mean.": {"average": "plain"},
    "In softmax's backward pass the average over the row must be subtracted.": {"average": "none"},
    "The average in softmax's backward pass is over the keys, the last axis.": {"average": "queries"},
    "In softmax's backward pass each entry is multiplied by its weight.": {"by_weights": False},
    "grad_scores is the gradient for scores that are divided already: divide by sqrt(d) only afterwards.": {
        "divided": True
    },
    "A fault is left: the keys' gradient lacks the 1/sqrt(d) that the queries' has.": {"key_power": 0},
    "The keys' gradient has the 1/sqrt(d) twice.": {"key_power": 2},
    "The queries' gradient lacks its 1/sqrt(d).": {"query_power": 0},
    "Queries' and keys' gradients both lack the 1/sqrt(d).": {"query_power": 0, "key_power": 0},
    "A value's gradient is made with the weights, not with the gradient for the scores.": {"value_by": "scores"},
}


def _backward(
    grad_output: ndarray,
    query: ndarray,
    key: ndarray,
    value: ndarray,
    mask: ndarray,
    **settings: Any,
) -> Steps:
    """The five steps, right without `settings`; each setting makes a fault."""
    d, root = query.shape[-1], query.shape[-1] ** 0.5
    forward_root = {"value": value.shape[-1] ** 0.5, "none": 1.0, "square": d}.get(settings.get("root", ""), root)
    scores = query @ key.swapaxes(-1, -2) / forward_root
    weights = {
        "after": lambda: softmax(scores) * mask,
        "none": lambda: softmax(scores),
        "inverted": lambda: softmax(scores, ~mask),
        "zero": lambda: softmax(scores * mask),
    }.get(settings.get("masked", ""), lambda: softmax(scores, mask))()
    grad_weights = grad_output @ value.swapaxes(-1, -2)
    products = weights * grad_weights
    average = {
        "mean": lambda: products.mean(axis=-1, keepdims=True),
        "plain": lambda: grad_weights.mean(axis=-1, keepdims=True),
        "none": lambda: 0.0,
        "queries": lambda: products.sum(axis=-2, keepdims=True),
    }.get(settings.get("average", ""), lambda: products.sum(axis=-1, keepdims=True))()
    grad_scores = (weights if settings.get("by_weights", True) else 1.0) * (grad_weights - average)
    grad_query = grad_scores @ key / forward_root ** settings.get("query_power", 1)
    grad_key = grad_scores.swapaxes(-1, -2) @ query / forward_root ** settings.get("key_power", 1)
    by = grad_scores if settings.get("value_by") == "scores" else weights
    if settings.get("divided"):
        grad_scores = grad_scores / root
    return weights, grad_scores, grad_query, grad_key, by.swapaxes(-1, -2) @ grad_output


# --- 6: how many keys a query uses


def _effective_keys(answer: Guarded, seed: int) -> str:
    """effective_keys(scores): exp of the entropy of the softmax over the last axis."""
    a, b, m = different_sizes(seed, 3, low=3)
    draw = _draw(seed)
    for scores in (1.5 * draw(a, m), draw(m), 2 * draw(a, b, m)):
        where = f"scores of shape {scores.shape}"
        compare_named(answer(scores.copy()), _effective(scores), where, _entropy_mistakes(scores))
    for scores, kind, hint in (  # the softmax first, where no weight is 0
        (np.full((b, m), 1000.0), "equal scores of 1000", "exp has overflowed in the softmax: use the library's"),
        (np.full((b, m), -1000.0), "equal scores of -1000", "exp gives 0 in the softmax: use the library's"),
        (-1000.0 + 1000.0 * np.eye(a, m), "rows in which one weight is exactly 1", "0 log 0 counts as 0"),
    ):
        with np.errstate(all="ignore"):
            given = answer(scores.copy())
        if isinstance(given, ndarray) and not np.isfinite(given).all():
            raise Wrong(f"{kind}: {given.ravel()[0]} came out. Here {hint}")
        compare_named(given, _effective(scores), kind, {})
    return f"right. Of 64 random keys a query uses {_measured(answer)}"


def _effective(scores: ndarray) -> Any:
    """An array, or a number for scores of one axis."""
    weights = softmax(scores)
    found = np.exp(-(weights * np.log(np.where(weights > 0, weights, 1))).sum(axis=-1))
    return found if scores.ndim > 1 else float(found)


def _entropy_mistakes(scores: ndarray) -> dict[str, Any]:
    weights, effective = softmax(scores), _effective(scores)
    logs, m = np.log(weights), scores.shape[-1]
    first = (np.exp(scores) / np.exp(scores).sum(axis=0)) if scores.ndim > 1 else None
    return {
        "This is the entropy itself: its exponential is the number of keys.": np.log(effective),
        "The minus sign of the entropy is missing.": 1 / effective,
        "This is minus the entropy: change the sign, then take the exponential.": -np.log(effective),
        "Logarithm and exponential have different bases: exp belongs to np.log, 2 ** to np.log2.": np.exp(
            np.log2(effective)
        ),
        "Logarithm and exponential have different bases: here 2 ** with np.log.": 2 ** np.log(effective),
        "The entropy is the sum over the keys, not the mean.": np.exp(np.log(effective) / m),
        "This is 1 / sum(w^2), another measure: the exponential of the entropy is demanded.": 1
        / (weights**2).sum(axis=-1),
        "This is 1 / the largest weight, another measure: the exponential of the entropy is demanded.": 1
        / weights.max(axis=-1),
        "In the entropy each logarithm is multiplied by its weight.": np.exp(-logs.mean(axis=-1)),
        "In the entropy each logarithm is multiplied by its weight: here they were only added.": np.exp(
            -logs.sum(axis=-1)
        ),
        "One number for each row: here they were averaged.": effective.mean() if scores.ndim > 1 else None,
        "The entropy was taken of the scores' softmax over the first axis: it is over the last.": None
        if first is None
        else np.exp(-(first * np.log(first)).sum(axis=-1)),
    }


def _measured(answer: Guarded, keys: int = 64) -> str:
    """What the answer finds for random queries and keys, with and without the division by sqrt(d)."""
    found = []
    for width in (16, 64, 1024):
        draw = _draw(width)
        scores = draw(100, width) @ draw(width, keys)
        divided, plain = (float(np.mean(answer(s))) for s in (scores / width**0.5, scores))
        found.append(f"width {width}: {divided:.1f} with the division by sqrt(d), {plain:.1f} without")
    return "; ".join(found)


EXERCISES: dict[str, Exercise] = {
    "padded_attention": Exercise(_padded_attention, "padded_attention", 15, 1, 15, "01, 1.5"),
    "merged": Exercise(_merged, "merged", 15, 2, 20, "01, 1.2"),
    "temperature_gradient": Exercise(_temperature_gradient, "temperature_gradient", 15, 2, 20, "01, 1.7"),
    "self_attention_gradients": Exercise(_self_attention_gradients, "self_attention_gradients", 20, 3, 25, "01, 1.7"),
    "mended_backward": Exercise(_mended_backward, "mended_backward", 15, 2, 20, "01, 1.7"),
    "effective_keys": Exercise(_effective_keys, "effective_keys", 10, 1, 15, "01, 1.3"),
}
