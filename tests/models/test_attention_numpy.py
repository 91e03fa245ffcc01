"""Attention in NumPy: against loops, torch, finite differences and torch's autograd."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from xattn_edu.models import attention_numpy as na

several = settings(max_examples=40, derandomize=True)
sizes = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)

close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def differences(function, at):
    """Central differences without their h^2 error (Richardson), good to 1e-10."""
    return (4 * na.numerical_gradient(function, at, 1e-3) - na.numerical_gradient(function, at, 2e-3)) / 3


def tensors(*arrays):
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def masks(batch, queries, keys, seed=0):
    """No mask; one for all; one of each batch entry, whose first query may look at nothing; one for the keys."""
    mask = np.random.default_rng(seed).random((*batch, queries, keys)) < 0.6
    mask[..., -1] = True
    mask[..., 0, :] = False
    return [None, np.tri(queries, keys, dtype=bool), mask, mask[(0,) * len(batch)][-1].astype(int)]


# --- softmax


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shift", [0, 1e4, -1e4, 1e30, -1e30])
def test_softmax_does_not_overflow(dtype, shift):
    scores = np.array([[shift, shift, -1e4], [0, 1e4, -1e4]], dtype)
    with np.errstate(all="raise", under="ignore"):
        weights = na.softmax(scores)
    expected = torch.tensor(scores.astype(np.float64)).softmax(-1).numpy()
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_with_a_mask_does_not_overflow(dtype):
    scores = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [1e4, 1e4, 1e4]], dtype)
    mask = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0]])
    with np.errstate(all="raise", under="ignore"):
        weights = na.softmax(scores, mask)
    np.testing.assert_array_equal(weights, [[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert weights.dtype == dtype


@pytest.mark.parametrize("mask", masks((2, 3), 4, 5)[1:])
def test_softmax_with_a_mask_is_softmax_of_what_is_admitted(mask):
    scores = draw(2, 3, 4, 5)
    weights = na.softmax(scores, mask)
    for index in np.ndindex(2, 3, 4):
        admitted = np.broadcast_to(mask, scores.shape)[index].astype(bool)
        exponentials = np.exp(scores[index][admitted])
        close(weights[index][admitted], exponentials / exponentials.sum() if len(exponentials) else exponentials)
        assert (weights[index][~admitted] == 0).all()


def test_softmax_leaves_its_arguments_alone():
    scores, mask = draw(2, 3), np.array([True, False, True])
    before = scores.copy()
    na.softmax(scores, mask)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("mask", masks((2,), 3, 4))
def test_softmax_gradient(mask):
    scores, direction = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    grad = na.softmax_backward(direction, na.softmax(scores, mask))
    close(grad, differences(lambda s: (direction * na.softmax(s, mask)).sum(), scores))
    if mask is not None:
        assert (grad[~np.broadcast_to(mask, grad.shape).astype(bool)] == 0).all()


# --- attention


@several
@given(queries=sizes, keys=sizes, dim=sizes, channels=sizes, seed=seeds)
def test_attention_equals_its_definition(queries, keys, dim, channels, seed):
    query, key, value = (
        draw(queries, dim, seed=seed),
        draw(keys, dim, seed=seed + 1),
        draw(keys, channels, seed=seed + 2),
    )
    mask = np.random.default_rng(seed).random((queries, keys)) < 0.7
    output, weights = na.attention(query, key, value, mask)
    for i in range(queries):
        e = [float(mask[i, j]) * np.exp(query[i] @ key[j] / np.sqrt(dim)) for j in range(keys)]
        expected = np.array(e) / (sum(e) or 1)
        close(weights[i], expected)
        close(output[i], sum(expected[j] * value[j] for j in range(keys)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (0, 3, 5), (1, 1, 7), (2, 3, 4, 5)])
def test_attention_takes_odd_sizes_and_keeps_the_type(shape, dtype):
    *batch, tokens, width = shape
    query, key, value = draw(*batch, 1, width).astype(dtype), *draw(2, *shape).astype(dtype)
    output, weights = na.attention(query, key, value, np.ones(tokens, bool))
    assert output.shape == (*batch, 1, width) and weights.shape == (*batch, 1, tokens)
    assert output.dtype == weights.dtype == dtype
    close(weights.sum(-1), np.ones((*batch, 1)), rtol=1e-6)


@pytest.mark.parametrize("mask", masks((2,), 3, 4))
def test_attention_and_its_gradient_against_torch_and_differences(mask):
    query, key, value, direction = draw(2, 3, 5), draw(2, 4, 5, seed=1), draw(2, 4, 6, seed=2), draw(2, 3, 6, seed=3)
    output, weights = na.attention(query, key, value, mask)
    grads = na.attention_backward(direction, query, key, value, weights)

    q, k, v = tensors(query, key, value)
    scores = torch.einsum("bqd,bkd->bqk", q, k) / 5**0.5
    if mask is not None:
        admitted = torch.tensor(mask).bool().expand(scores.shape)
        scores = scores.masked_fill(~admitted & admitted.any(-1, keepdim=True), -torch.inf)
        expected = (scores.softmax(-1) * admitted.any(-1, keepdim=True)) @ v
    else:
        expected = scores.softmax(-1) @ v
    close(output, expected.detach())
    for name, grad, auto in zip("qkv", grads, torch.autograd.grad(expected, (q, k, v), torch.tensor(direction))):
        close(grad, auto, err_msg=name)

    def loss(**changed):
        return (
            direction * na.attention(**({"query": query, "key": key, "value": value} | changed), mask=mask)[0]
        ).sum()

    for name, array, grad in zip(("query", "key", "value"), (query, key, value), grads):
        close(grad, differences(lambda x, name=name: loss(**{name: x}), array), err_msg=name)


@several
@given(queries=sizes, keys=sizes, seed=seeds, huge=st.sampled_from([1e3, -1e30, 1e150]))
def test_what_is_masked_never_leaks(queries, keys, seed, huge):
    rng = np.random.default_rng(seed)
    query, key, value, mask = draw(queries, 3), draw(keys, 3), draw(keys, 2), rng.random(keys) < 0.5
    other_key, other_value = key.copy(), value.copy()
    other_key[~mask], other_value[~mask] = huge, huge
    for ours, theirs in zip(na.attention(query, key, value, mask), na.attention(query, other_key, other_value, mask)):
        np.testing.assert_array_equal(ours, theirs)


# --- heads


@pytest.mark.parametrize("batch", [(), (2,), (2, 3), (0,)])
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_a_head_is_a_slice_of_the_channels(batch, heads):
    tokens = draw(*batch, 4, 6)
    split = na.split_heads(tokens, heads)
    dim = 6 // heads
    for head in range(heads):
        np.testing.assert_array_equal(split[..., head, :, :], tokens[..., head * dim : (head + 1) * dim])
    np.testing.assert_array_equal(na.merge_heads(split), tokens)


def by_heads(tokens, context, p, heads, mask):
    """Multi-head attention in torch, a head at a time (so that autograd can say what the gradients are)."""
    p = SimpleNamespace(**dict(zip(na.Projections._fields, p)))
    dim, outputs = p.w_query.shape[1] // heads, []
    for head in range(heads):
        cut = slice(head * dim, (head + 1) * dim)
        query = tokens @ p.w_query[:, cut] + p.b_query[cut]
        key = context @ p.w_key[:, cut] + p.b_key[cut]
        value = context @ p.w_value[:, cut] + p.b_value[cut]
        scores = query @ key.mT / dim**0.5
        scores = scores if mask is None else scores + torch.where(torch.tensor(mask).bool(), 0.0, -1e9)
        outputs.append(scores.softmax(-1) @ value)
    return torch.cat(outputs, -1) @ p.w_output + p.b_output


@pytest.mark.parametrize("mask", [masks((2,), 4, 5)[i] for i in (0, 1, 3)])
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_multi_head_cross_attention_and_its_gradients(mask, heads):
    tokens, context, direction = draw(2, 4, 6), draw(2, 5, 3, seed=1), draw(2, 4, 6, seed=2)
    p = na.Projections.random(6, 3)
    output, cache = na.multi_head_attention(tokens, context, p, heads, mask)
    grad_tokens, grad_context, grad_p = na.multi_head_attention_backward(direction, p, cache)

    leaves = tensors(tokens, context, *p)
    expected = by_heads(leaves[0], leaves[1], leaves[2:], heads, mask)
    close(output, expected.detach())
    autos = torch.autograd.grad(expected, leaves, torch.tensor(direction))
    for name, grad, auto in zip(
        ("tokens", "context", *p._fields), (grad_tokens, grad_context, *grad_p), autos, strict=True
    ):
        close(grad, auto, err_msg=name)


@pytest.mark.parametrize("mask", [None, np.array([[1, 1], [0, 0], [0, 1]], bool)])
def test_multi_head_gradients_against_differences(mask):
    tokens, context, direction, p = (
        draw(1, 3, 4),
        draw(1, 2, 3, seed=1),
        draw(1, 3, 4, seed=2),
        na.Projections.random(4, 3),
    )
    _, cache = na.multi_head_attention(tokens, context, p, 2, mask)
    grad_tokens, grad_context, grad_p = na.multi_head_attention_backward(direction, p, cache)

    def loss(t, c, q):
        return (direction * na.multi_head_attention(t, c, q, 2, mask)[0]).sum()

    close(grad_tokens, differences(lambda x: loss(x, context, p), tokens))
    close(grad_context, differences(lambda x: loss(tokens, x, p), context))
    for name, grad, weight in zip(p._fields, grad_p, p):
        close(grad, differences(lambda x, n=name: loss(tokens, context, p._replace(**{n: x})), weight), err_msg=name)


def test_in_self_attention_both_gradients_add_up():
    tokens, direction, p = draw(2, 3, 4), draw(2, 3, 4, seed=1), na.Projections.random(4)
    _, cache = na.multi_head_attention(tokens, tokens, p, 2)
    as_query, as_context, _ = na.multi_head_attention_backward(direction, p, cache)
    leaf, *weights = tensors(tokens, *p)
    (auto,) = torch.autograd.grad(by_heads(leaf, leaf, weights, 2, None), leaf, torch.tensor(direction))
    close(as_query + as_context, auto)


@pytest.mark.parametrize("batch", [(), (1,), (0,), (2, 3)])
def test_multi_head_attention_takes_any_leading_axes(batch):
    tokens, context, p = draw(*batch, 3, 4), draw(*batch, 5, 6, seed=1), na.Projections.random(4, 6)
    output, cache = na.multi_head_attention(tokens, context, p, 2, np.ones(5, bool))
    assert output.shape == (*batch, 3, 4) and cache.weights.shape == (*batch, 2, 3, 5)
    for index in np.ndindex(*batch):
        close(output[index], na.multi_head_attention(tokens[index], context[index], p, 2)[0])
    grads = na.multi_head_attention_backward(np.ones_like(output), p, cache)
    assert grads[0].shape == tokens.shape and grads[1].shape == context.shape
    assert [g.shape for g in grads[2]] == [w.shape for w in p]


def test_multi_head_attention_equals_torchs_functional_one():
    tokens, context, p = draw(2, 3, 4), draw(2, 5, 6, seed=1), na.Projections.random(4, 6)
    mask = np.array([1, 0, 1, 1, 0], bool)
    t, c, *w = [torch.tensor(x).detach() for x in (tokens, context, *p)]
    expected, weights = F.multi_head_attention_forward(
        t.transpose(0, 1), c.transpose(0, 1), c.transpose(0, 1), 4, 2, None, torch.cat(w[4:7]), None, None, False, 0.0,
        w[3].T, w[7], attn_mask=~torch.tensor(mask).expand(3, 5), average_attn_weights=False,
        use_separate_proj_weight=True, q_proj_weight=w[0].T, k_proj_weight=w[1].T, v_proj_weight=w[2].T,
    )  # fmt: skip
    output, cache = na.multi_head_attention(tokens, context, p, 2, mask)
    close(output, expected.transpose(0, 1))
    close(cache.weights, weights)


def test_random_projections():
    p = na.Projections.random(64, 100, seed=3)
    assert [w.shape for w in p] == [(64, 64), (100, 64), (100, 64), (64, 64), (64,), (64,), (64,), (64,)]
    assert all(w.dtype == np.float64 for w in p)
    np.testing.assert_allclose([w.std() * w.shape[0] ** 0.5 for w in p[:4]], 1, rtol=0.05)
    assert all((a == b).all() for a, b in zip(p, na.Projections.random(64, 100, seed=3)))
    assert not (p.w_query == na.Projections.random(64, 100, seed=4).w_query).any()


# --- errors


def ones(*shape):
    return np.ones(shape)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: na.attention(ones(2, 3, 4), ones(2, 5, 3), ones(2, 5, 4)), r"(?s)(query|key).*3\b.*4\b|4\b.*3\b"),
        (lambda: na.attention(ones(2, 3, 4), ones(2, 5, 4), ones(2, 6, 4)), r"(?s)5\b.*6\b|6\b.*5\b"),
        (lambda: na.attention(ones(2, 3, 4), ones(1, 5, 4), ones(1, 5, 4)), r"(?s)2.*1|1.*2"),
        (lambda: na.softmax(ones(3, 5), ones(2, 5) > 0), r"mask \(2, 5\) .* scores \(3, 5\)"),
        (lambda: na.softmax(ones(5), ones(3, 5) > 0), r"mask \(3, 5\) .* scores \(5,\)"),
        (lambda: na.attention(*ones(3, 2, 3, 4), ones(3, 4) > 0), r"mask \(3, 4\) .* scores \(2, 3, 3\)"),
        (lambda: na.split_heads(ones(3, 8), 3), "width 8, heads 3"),
        (lambda: na.split_heads(ones(3, 8), 0), "width 8, heads 0"),
        (lambda: na.multi_head_attention(ones(3, 8), ones(3, 8), na.Projections.random(8), 3), "width 8, heads 3"),
        (lambda: na.multi_head_attention(ones(3, 7), ones(3, 8), na.Projections.random(8), 2), "tokens are 7 .* 8"),
        (lambda: na.multi_head_attention(ones(3, 8), ones(3, 8), na.Projections.random(8, 6), 2), "context are 8 .* 6"),
        (
            lambda: na.multi_head_attention(ones(3, 8), ones(5, 8), na.Projections.random(8), 2, ones(5, 3) > 0),
            r"mask \(5, 3\) .* scores \(3, 5\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("mask", [np.array([0.0, 1.0]), np.array([0.0, -np.inf], np.float32)])
def test_a_mask_to_be_added_is_refused(mask):
    with pytest.raises(TypeError, match="mask"):
        na.attention(ones(1, 3), ones(2, 3), ones(2, 3), mask)
    with pytest.raises(TypeError, match="mask"):
        na.multi_head_attention(ones(1, 4), ones(2, 4), na.Projections.random(4), 2, mask)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.int64])
def test_masks_may_be_whole_numbers(dtype):
    mask = np.array([1, 0, 1]).astype(dtype)  # the integers 0 and 1 alone
    np.testing.assert_array_equal(na.softmax(np.zeros((1, 3)), mask), [[0.5, 0, 0.5]])


# --- finite differences


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_numerical_gradient(dtype):
    at = np.array([[1, -2], [3, 0]], dtype)
    before = at.copy()
    np.testing.assert_allclose(na.numerical_gradient(lambda x: (x**3).sum(), at), 3 * before**2, atol=1e-8)
    np.testing.assert_array_equal(at, before)


@pytest.mark.parametrize("numbers", [[0, -10000, 0], [0, 2, 1], [255, 0, 1]], ids=str)
def test_integers_other_than_0_and_1_are_refused(numbers):
    mask, p = np.array(numbers), na.Projections.random(4)
    for call in (
        lambda: na.softmax(ones(2, 3), mask),
        lambda: na.attention(*ones(3, 3, 4), mask),
        lambda: na.multi_head_attention(ones(3, 4), ones(3, 4), p, 2, mask),
    ):
        with pytest.raises(ValueError, match=r"True where a query may attend.*integers from .* mask == 0"):
            call()


@pytest.mark.parametrize("low", [-2e4, -1e30, np.finfo(np.float64).min / 4])
def test_however_low_the_scores_are_masked_ones_are_lower(low):
    """A row whose only admitted scores lie far below those that are masked."""
    scores, mask = np.array([[0.0, low, low], [low, 0.0, 3.0]]), np.array([[0, 1, 1], [1, 0, 0]], bool)
    np.testing.assert_array_equal(na.softmax(scores, mask), [[0, 0.5, 0.5], [1, 0, 0]])


def test_in_half_precision_nothing_overflows():
    query = (40 * np.random.default_rng(0).normal(size=(8, 64))).astype(np.float16)  # q k^T reaches 100,000
    output, weights = na.attention(query, query, query)
    exact = na.attention(*[query.astype(float)] * 3)
    assert output.dtype == weights.dtype == np.float16
    np.testing.assert_allclose(weights, exact[1], atol=1e-3)
    np.testing.assert_allclose(output, exact[0], rtol=2e-3)
