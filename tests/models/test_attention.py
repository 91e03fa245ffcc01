"""Attention in torch: written out against fused, NumPy and torch.nn; masks, odd sizes, properties."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xattn_edu.models import attention_numpy as na
from xattn_edu.models.attention import (
    MultiHeadAttention,
    attention,
    attention_rollout,
    causal_mask,
    fused_attention,
    merge_heads,
    split_heads,
)
from xattn_edu.weights import attention_from_torch

several = settings(max_examples=30, derandomize=True)
sizes = st.integers(1, 6)
seeds = st.integers(0, 2**31 - 1)
BOTH = {"written out": lambda *args: attention(*args)[0], "fused": fused_attention}
both = pytest.mark.parametrize("attend", BOTH.values(), ids=BOTH)
either_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])

# Every mask that broadcasts to (batch 2, head 3, query 4, key 5); where there are queries, the first sees nothing.
MASK_SHAPES = [(5,), (1,), (4, 5), (1, 5), (4, 1), (3, 1, 1), (3, 4, 5), (2, 1, 1, 5), (2, 1, 4, 5), (2, 3, 4, 5)]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def qkv(dtype=torch.float64):
    return draw(2, 3, 4, 8, dtype=dtype), draw(2, 3, 5, 8, seed=1, dtype=dtype), draw(2, 3, 5, 6, seed=2, dtype=dtype)


def mask_of(shape, seed=0):
    mask = draw(*shape, seed=seed) > -0.3
    if len(shape) > 1 and shape[-2] > 1:
        mask[..., 0, :] = False
    return mask


def closeness(dtype):
    return {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}


# --- attention against its other selves


@both
@either_precision
@pytest.mark.parametrize("shape", [None, *MASK_SHAPES], ids=str)
def test_attention_equals_the_numpy_one(attend, dtype, shape):
    query, key, value = qkv(dtype)
    mask = None if shape is None else mask_of(shape)
    arrays = [x if x is None else x.numpy() for x in (query, key, value, mask)]
    output = attend(query, key, value, mask)
    assert output.dtype == dtype
    torch.testing.assert_close(output, torch.from_numpy(na.attention(*arrays)[0]), **closeness(dtype))


def test_the_weights_equal_the_numpy_ones():
    query, key, value = qkv()
    mask = mask_of((4, 5))
    weights = attention(query, key, value, mask)[1]
    expected = na.attention(query.numpy(), key.numpy(), value.numpy(), mask.numpy())[1]
    torch.testing.assert_close(weights, torch.from_numpy(expected))


@either_precision
@pytest.mark.parametrize("shape", [None, *MASK_SHAPES], ids=str)
def test_fused_gradients_equal_written_out_ones(dtype, shape):
    inputs = [x.requires_grad_() for x in qkv(dtype)]
    mask = None if shape is None else mask_of(shape)
    grads = [
        torch.autograd.grad(attend(*inputs, mask), inputs, draw(2, 3, 4, 6, dtype=dtype)) for attend in BOTH.values()
    ]
    for written, fused in zip(*grads):
        torch.testing.assert_close(written, fused, **closeness(dtype))


@both
def test_a_query_without_a_key_gives_zeros_and_finite_gradients(attend):
    inputs = [x.requires_grad_() for x in qkv(torch.float32)]
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[2] = False
    output = attend(*inputs, mask)
    assert (output[:, :, 2] == 0).all() and (output[:, :, :2] != 0).all()
    grads = torch.autograd.grad(output.sum(), inputs)
    assert all(grad.isfinite().all() for grad in grads)
    assert (grads[0][:, :, 2] == 0).all()
    assert (attend(*inputs, torch.zeros(5, dtype=torch.bool)) == 0).all()


def test_the_weights_of_a_query_without_a_key_are_zero():
    weights = attention(*qkv(), mask=torch.tensor([[False] * 5] + [[True] * 5] * 3))[1]
    assert (weights[..., 0, :] == 0).all()
    torch.testing.assert_close(weights[..., 1:, :].sum(-1), torch.ones(2, 3, 3, dtype=torch.float64))


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_huge_scores_stay_finite_and_masked_ones_out(attend, dtype, masked):
    query = torch.tensor([[240.0], [-240.0]], dtype=dtype)
    key = value = torch.tensor([[240.0], [-240.0], [0.0]], dtype=dtype)
    mask = torch.tensor([[True, True, True], [True, False, False]]) if masked else None
    expected = [[240.0], [240.0 if masked else -240.0]]
    torch.testing.assert_close(attend(query, key, value, mask), torch.tensor(expected, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 40, 300])
@pytest.mark.parametrize("masked", [False, True])
def test_in_half_precision_attention_is_the_fused_one(dtype, size, masked):
    """Of queries of size 40 and 64 channels, q k^T is above 65504, the largest number of float16."""
    query = (size * draw(1, 8, 64)).to(dtype)
    value = draw(1, 8, 64, seed=1).to(dtype)
    mask = mask_of((8, 8)) if masked else None
    output, weights = attention(query, query, value, mask)
    precise, exact = attention(*(x.double() for x in (query, query, value)), mask)
    assert output.dtype == weights.dtype == dtype
    rounding = {"rtol": 0, "atol": 4 * torch.finfo(dtype).eps}
    torch.testing.assert_close(weights.double(), exact, **rounding)
    torch.testing.assert_close(output.double(), precise, **rounding)
    torch.testing.assert_close(output, fused_attention(query, query, value, mask), **rounding)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_the_scores_are_precise(dtype):
    query, value = 40 * draw(1, 8, 64, dtype=torch.float32), draw(1, 8, 64, seed=1, dtype=torch.float32)
    expected, exact = attention(query, query, value)
    with torch.autocast("cpu", dtype):
        output, weights = attention(query, query, value)
    torch.testing.assert_close(weights.float(), exact, rtol=0, atol=4 * torch.finfo(dtype).eps)
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_keys_and_values_are_formed(dtype):
    torch.manual_seed(0)
    layer = MultiHeadAttention(64, 2)
    tokens, context = draw(2, 1, 64, dtype=torch.float32), draw(2, 6, 64, dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        assert torch.equal(layer.folded(tokens, context), layer(tokens, context))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_the_layer_is_the_same_with_weights_and_folded(dtype):
    torch.manual_seed(0)
    layer, tokens, context = MultiHeadAttention(64, 1).to(dtype), draw(2, 1, 64).to(dtype), draw(2, 6, 64).to(dtype)
    layer.query.weight.data *= 300
    layer.key.weight.data *= 300  # scores above 65504
    plain = layer(tokens, context)
    written, weights = layer(tokens, context, return_weights=True)
    assert plain.isfinite().all() and weights.isfinite().all()
    rounding = {"rtol": 0, "atol": 8 * torch.finfo(dtype).eps}
    torch.testing.assert_close(written, plain, **rounding)
    torch.testing.assert_close(layer.folded(tokens, context), plain, **rounding)


@both
@pytest.mark.parametrize(
    ("leading", "queries", "keys", "dim"),
    [((), 1, 1, 1), ((1,), 1, 1, 4), ((1, 1), 1, 50, 4), ((0, 2), 3, 5, 4), ((2,), 0, 5, 4), ((2,), 3, 0, 4)],
)
@pytest.mark.parametrize("masked", [False, True])
def test_odd_sizes(attend, leading, queries, keys, dim, masked):
    query, key, value = draw(*leading, queries, dim), draw(*leading, keys, dim), draw(*leading, keys, 3)
    mask = torch.ones(keys, dtype=torch.bool) if masked else None
    output = attend(query, key, value, mask)
    assert output.shape == (*leading, queries, 3)
    if keys == 1:
        torch.testing.assert_close(output, value)
    if keys == 0:
        assert (output == 0).all()


@both
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
def test_masks_may_be_whole_numbers(attend, dtype):
    query, key, value = qkv()
    mask = mask_of((4, 5))
    torch.testing.assert_close(attend(query, key, value, mask.to(dtype)), attend(query, key, value, mask))


# --- properties


@several
@given(queries=sizes, keys=sizes, seed=seeds)
def test_rows_sum_to_one_over_the_admitted_keys(queries, keys, seed):
    mask = draw(queries, keys, seed=seed) > 0
    weights = attention(draw(queries, 3, seed=seed), draw(keys, 3, seed=seed + 1), draw(keys, 2), mask)[1]
    assert (weights >= 0).all() and (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(-1), mask.any(-1).double())


@both
@several
@given(queries=sizes, keys=sizes, seed=seeds)
def test_the_order_of_keys_and_values_does_not_matter(attend, queries, keys, seed):
    query, key, value = draw(queries, 3, seed=seed), draw(keys, 3, seed=seed + 1), draw(keys, 2, seed=seed + 2)
    mask = draw(queries, keys, seed=seed) > 0
    order = torch.randperm(keys, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(attend(query, key[order], value[order], mask[:, order]), attend(query, key, value, mask))


@several
@given(tokens=sizes, heads=st.sampled_from([1, 2, 4]), seed=seeds)
def test_self_attention_is_permutation_equivariant(tokens, heads, seed):
    layer, z = MultiHeadAttention(8, heads).double(), draw(2, tokens, 8, seed=seed)
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(layer(z[:, order]), layer(z)[:, order])


@several
@given(queries=sizes, keys=sizes, seed=seeds)
def test_cross_attention_ignores_the_order_of_the_context(queries, keys, seed):
    layer = MultiHeadAttention(8, 2, context_width=5).double()
    tokens, context = draw(2, queries, 8, seed=seed), draw(2, keys, 5, seed=seed + 1)
    torch.testing.assert_close(layer(tokens, context.flip(1)), layer(tokens, context))


@both
@several
@given(queries=sizes, keys=sizes, seed=seeds, huge=st.sampled_from([1e4, -1e30, 1e150]))
def test_what_is_masked_never_leaks(attend, queries, keys, seed, huge):
    query, key, value = draw(queries, 3, seed=seed), draw(keys, 3, seed=seed + 1), draw(keys, 2, seed=seed + 2)
    mask = draw(keys, seed=seed) > 0
    other_key, other_value = key.clone(), value.clone()
    other_key[~mask], other_value[~mask] = huge, huge
    torch.testing.assert_close(attend(query, other_key, other_value, mask), attend(query, key, value, mask))


@several
@given(tokens=sizes, changed=sizes, seed=seeds)
def test_causal_attention_depends_on_the_prefix_alone(tokens, changed, seed):
    layer, z = MultiHeadAttention(8, 2).double(), draw(1, tokens, 8, seed=seed)
    other = z.clone()
    other[:, changed:] = draw(1, tokens, 8, seed=seed + 1)[:, changed:]
    mask = causal_mask(tokens)
    torch.testing.assert_close(layer(z, mask=mask)[:, :changed], layer(other, mask=mask)[:, :changed])
    torch.testing.assert_close(layer(z, mask=mask)[:, :1], layer(z[:, :1]))


@both
@settings(max_examples=8, derandomize=True)
@given(queries=st.integers(1, 3), keys=st.integers(1, 3), seed=seeds, masked=st.booleans())
def test_gradients_equal_finite_differences(attend, queries, keys, seed, masked):
    inputs = [draw(2, n, 3, seed=seed + i).requires_grad_() for i, n in enumerate((queries, keys, keys))]
    mask = draw(queries, keys, seed=seed) > 0 if masked else None
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, mask), inputs)


def test_the_causal_mask():
    assert causal_mask(3).tolist() == [[[True, False, False], [True, True, False], [True, True, True]]]
    assert causal_mask(1).dtype == torch.bool and causal_mask(2, "meta").device.type == "meta"


# --- heads


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_a_head_is_a_slice_of_the_channels(heads):
    tokens, dim = draw(2, 4, 6), 6 // heads
    split = split_heads(tokens, heads)
    for head in range(heads):
        torch.testing.assert_close(split[:, head], tokens[..., head * dim : (head + 1) * dim])
    torch.testing.assert_close(merge_heads(split), tokens)


def torch_layer(width, heads, context_width, bias, dtype):
    """torch's own layer with biases that are not zero, and ours with its weights."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(
        width, heads, bias=bias, kdim=context_width, vdim=context_width, batch_first=True, dtype=dtype
    )
    for name, parameter in theirs.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    ours = MultiHeadAttention(width, heads, context_width, bias).to(dtype)
    ours.load_state_dict(attention_from_torch(theirs.state_dict()))
    return theirs, ours


@either_precision
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("context_width", [None, 12, 7], ids=["self", "cross", "other width"])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
def test_the_layer_equals_torchs(context_width, heads, bias, masked, dtype):
    theirs, ours = torch_layer(12, heads, context_width, bias, dtype)
    tokens = draw(2, 4, 12, dtype=dtype)
    keys = 4 if context_width == 12 else 5  # 4: the context has the tokens' shape, but is not the tokens
    context = None if context_width is None else draw(2, keys, context_width, seed=1, dtype=dtype)
    source = tokens if context is None else context
    mask = draw(2, 4, source.shape[1], seed=2) > -0.5 if masked else None
    if masked:
        mask[..., 0] = True  # torch's layer gives NaN to a query without a key
    torchs_mask = ~mask.repeat_interleave(heads, 0) if masked else None  # True where a query may NOT look
    expected, weights = theirs(tokens, source, source, attn_mask=torchs_mask, average_attn_weights=False)
    atol = 1e-6 if dtype == torch.float32 else 1e-12
    output, our_weights = ours(tokens, context, mask, return_weights=True)
    torch.testing.assert_close(our_weights, weights, rtol=0, atol=atol)
    torch.testing.assert_close(output, expected, rtol=0, atol=atol)
    torch.testing.assert_close(ours(tokens, context, mask), expected, rtol=0, atol=atol)


def test_torchs_key_padding_mask_is_ours_inverted():
    theirs, ours = torch_layer(12, 3, None, True, torch.float64)
    tokens, padding = draw(2, 4, 12), torch.tensor([[False, False, True, True], [False, False, False, True]])
    expected = theirs(tokens, tokens, tokens, key_padding_mask=padding, need_weights=False)[0]
    torch.testing.assert_close(ours(tokens, mask=~padding[:, None, :]), expected)


@pytest.mark.parametrize("context_width", [None, 5])
@pytest.mark.parametrize("heads", [1, 2])
def test_the_layer_equals_the_numpy_one(heads, context_width):
    torch.manual_seed(0)
    layer = MultiHeadAttention(6, heads, context_width).double()
    tokens, mask = draw(2, 3, 6), mask_of((2, 3, 4 if context_width else 3))
    context = draw(2, 4, context_width, seed=1) if context_width else tokens
    linears = [layer.query, layer.key, layer.value, layer.output]
    weights = [x.weight.detach().numpy().T for x in linears] + [x.bias.detach().numpy() for x in linears]
    expected, cache = na.multi_head_attention(
        tokens.numpy(), context.numpy(), na.Projections(*weights), heads, mask.numpy()
    )
    output, shares = layer(tokens, context if context_width else None, mask, return_weights=True)
    np.testing.assert_allclose(output.detach(), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(shares.detach(), cache.weights, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 4), (2, 1, 4), (1, 4, 4), (2, 4, 1), (2, 4, 4)], ids=str)
def test_with_and_without_weights_the_output_and_gradients_agree(shape):
    torch.manual_seed(0)
    layer, tokens, mask = MultiHeadAttention(6, 2).double(), draw(2, 4, 6).requires_grad_(), mask_of(shape)
    output, weights = layer(tokens, mask=mask, return_weights=True)
    assert weights.shape == (2, 2, 4, 4)
    torch.testing.assert_close(layer(tokens, mask=mask), output)
    leaves = [tokens, *layer.parameters()]
    grads = [torch.autograd.grad(x.square().sum(), leaves) for x in (output, layer(tokens, mask=mask))]
    for written, fused in zip(*grads):
        torch.testing.assert_close(written, fused)


@pytest.mark.parametrize("shape", [(1, 1, 4), (2, 1, 4), (1, 4, 4), (2, 4, 1), (2, 4, 4)], ids=str)
@torch.no_grad()
def test_without_gradients_the_mask_counts_too(shape):
    torch.manual_seed(0)
    layer, tokens, mask = MultiHeadAttention(6, 2).double(), draw(2, 4, 6), mask_of(shape)
    query, key, value = (split_heads(part(tokens), 2) for part in (layer.query, layer.key, layer.value))
    expected = layer.output(merge_heads(attention(query, key, value, mask[:, None])[0]))
    torch.testing.assert_close(layer(tokens, mask=mask), expected)
    torch.testing.assert_close(layer(tokens, mask=mask, folded=True), expected)
    assert not torch.allclose(layer(tokens), expected)


@pytest.mark.parametrize("gradients", [True, False])
def test_every_projection_is_called_as_a_layer(gradients):
    layer, tokens = MultiHeadAttention(6, 2), draw(2, 4, 6, dtype=torch.float32)
    doubled = copy.deepcopy(layer)
    for name in ("query", "key", "value", "output"):
        for parameter in getattr(doubled, name).parameters():
            parameter.data *= 2
        getattr(layer, name).register_forward_hook(lambda _, __, output: 2 * output)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(layer(tokens), doubled(tokens))


@pytest.mark.parametrize(("batch", "queries", "keys"), [(1, 1, 1), (1, 1, 50), (0, 3, 4), (3, 5, 1)])
def test_the_layer_takes_odd_sizes(batch, queries, keys):
    layer = MultiHeadAttention(6, 6, context_width=2)
    tokens, context = draw(batch, queries, 6, dtype=torch.float32), draw(batch, keys, 2, dtype=torch.float32)
    output, weights = layer(tokens, context, return_weights=True)
    assert layer(tokens, context).shape == output.shape == (batch, queries, 6)
    assert weights.shape == (batch, 6, queries, keys)


@several
@given(queries=sizes, keys=sizes, parts=sizes, seed=seeds, masked=st.booleans())
def test_keys_and_values_can_be_made_before_and_in_parts(queries, keys, parts, seed, masked):
    layer, mask = MultiHeadAttention(6, 2, context_width=5).double(), draw(2, queries, keys, seed=seed) > 0
    tokens, context, mask = draw(2, queries, 6, seed=seed), draw(2, keys, 5, seed=seed + 1), mask if masked else None
    made = [layer.keys_and_values(part) for part in context.split(parts, dim=1)]
    key, value = (torch.cat(pieces, dim=2) for pieces in zip(*made))
    assert key.shape == value.shape == (2, 2, keys, 3)
    output, weights = layer(tokens, context, mask, return_weights=True)
    with_weights, same_weights = layer.attend(tokens, key, value, mask, return_weights=True)
    without, nothing = layer.attend(tokens, key, value, mask)
    assert nothing is None
    for given_, expected in ((with_weights, output), (without, output), (same_weights, weights)):
        torch.testing.assert_close(given_, expected)


# --- rollout


def test_rollout_by_hand():
    first = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    second = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    expected = torch.tensor([[0.5, 0.5], [0.0, 1.0]]) @ torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    torch.testing.assert_close(attention_rollout([first[None, None], second[None, None]]), expected[None])


@several
@given(tokens=sizes, layers=st.integers(1, 3), seed=seeds)
def test_rows_of_a_rollout_sum_to_one(tokens, layers, seed):
    weights = [draw(2, 3, tokens, tokens, seed=seed + i).softmax(-1) for i in range(layers)]
    flow = attention_rollout(weights)
    assert (flow >= 0).all()
    torch.testing.assert_close(flow.sum(-1), torch.ones(2, tokens, dtype=torch.float64))
    torch.testing.assert_close(attention_rollout([w.mean(1, keepdim=True) for w in weights]), flow)


def test_tokens_that_look_at_themselves_stay_themselves():
    identity = torch.eye(4).expand(2, 3, 4, 4)
    torch.testing.assert_close(attention_rollout([identity] * 5), identity[:, 0])


def test_a_rollout_needs_a_layer():
    with pytest.raises(ValueError, match="at least one layer"):
        attention_rollout([])


# --- errors


def ones(*shape):
    return torch.ones(shape)


@pytest.mark.usefixtures("either_way")
@both
@pytest.mark.parametrize(
    ("shapes", "mask", "numbers"),
    [
        ([(2, 3, 4), (2, 5, 3), (2, 5, 4)], None, "43"),
        ([(2, 3, 4), (2, 5, 4), (2, 6, 4)], None, "56"),
        ([(2, 3, 4), (1, 5, 4), (1, 5, 4)], None, "21"),
        ([(2, 3, 4), (5, 4), (5, 4)], None, "25"),
        ([(4,), (5, 4), (5, 4)], None, "4"),
        ([(2, 3, 4), (2, 5, 4), (2, 5, 4)], (5, 3), "53"),
        ([(2, 3, 4), (2, 5, 4), (2, 5, 4)], (3,), "35"),
        ([(2, 3, 4), (2, 5, 4), (2, 5, 4)], (3, 3, 5), "32"),
        ([(2, 3, 4), (2, 5, 4), (2, 5, 4)], (1, 2, 3, 5), "12"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sizes(attend, shapes, mask, numbers):
    with pytest.raises(ValueError, match=r"query|key|value|mask") as caught:
        attend(*[torch.ones(shape) for shape in shapes], None if mask is None else torch.ones(mask) > 0)
    assert all(number in str(caught.value) for number in numbers)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: MultiHeadAttention(8, 3), "width 8, heads 3"),
        (lambda: MultiHeadAttention(8, 0), "width 8, heads 0"),
        (lambda: MultiHeadAttention(0, 2), "width 0, heads 2"),
        (lambda: split_heads(ones(2, 3, 8), 3), "width 8, heads 3"),
        (lambda: split_heads(ones(2, 3, 8), 0), "width 8, heads 0"),
        (lambda: MultiHeadAttention(8, 2)(ones(2, 3, 7)), r"tokens .* 8.*\(2, 3, 7\)"),
        (lambda: MultiHeadAttention(8, 2, 6)(ones(2, 3, 8)), r"context .* 6.*\(2, 3, 8\)"),
        (lambda: MultiHeadAttention(8, 2, 6)(ones(2, 3, 8), ones(2, 5, 8)), r"context .* 6.*\(2, 5, 8\)"),
        (lambda: MultiHeadAttention(8, 2)(ones(2, 3, 8), ones(1, 5, 8)), r"batch.*(1|2).*(1|2)"),
        (lambda: MultiHeadAttention(8, 2)(ones(1, 3, 8), ones(2, 5, 8)), r"batch.*(1|2).*(1|2)"),
        (lambda: MultiHeadAttention(8, 2)(ones(3, 8)), r"\(3, 8\)"),
    ],
)
def test_the_layer_refuses_what_does_not_fit(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 5), (2, 5, 3), (3, 3, 5), (2, 2, 3, 5)], ids=str)
def test_the_layer_refuses_masks_of_another_shape(shape):
    with pytest.raises(ValueError, match="mask") as caught:
        MultiHeadAttention(8, 2)(ones(2, 3, 8), ones(2, 5, 8), torch.ones(shape) > 0)
    assert str(tuple(shape)) in str(caught.value) and "(2, 3, 5)" in str(caught.value)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
@pytest.mark.parametrize("numbers", [[0, 2, 1], [0, -1, 0], [100, 0, 1]], ids=str)
def test_integers_other_than_0_and_1_are_refused(dtype, numbers):
    """[0, -10000] as numbers to be added would mean the opposite of what they mean as truth values."""
    mask = torch.tensor(numbers).to(dtype)
    layer = MultiHeadAttention(4, 2)
    layer.query.register_forward_pre_hook(lambda *_: pytest.fail("computed"))
    layer.key.register_forward_pre_hook(lambda *_: pytest.fail("computed"))
    made = ones(1, 2, 3, 2), ones(1, 2, 3, 2)
    for call in (
        lambda: attention(*ones(3, 1, 3, 4), mask),
        lambda: fused_attention(*ones(3, 1, 3, 4), mask),
        lambda: layer(ones(1, 3, 4), mask=mask[None, None]),
        lambda: layer.attend(ones(1, 3, 4), *made, mask[None, None]),
    ):
        with pytest.raises(ValueError, match=r"True where a query may attend to a key.*integers from .* mask == 0"):
            call()


@both
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_ones_and_zeros_are_a_mask(attend, dtype):
    mask = mask_of((4, 5))
    assert torch.equal(attend(*qkv(), mask.to(dtype)), attend(*qkv(), mask))
    layer, tokens = MultiHeadAttention(6, 2), draw(2, 4, 6, dtype=torch.float32)
    keep = mask_of((2, 1, 4))
    assert torch.equal(layer(tokens, mask=keep.to(dtype)), layer(tokens, mask=keep))


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.complex64])
def test_a_mask_to_be_added_is_refused(dtype):
    mask = torch.zeros(1, 3, 3, dtype=dtype)
    for call in (attention, fused_attention):
        with pytest.raises(TypeError, match="mask"):
            call(*ones(3, 1, 3, 4), mask)
    with pytest.raises(TypeError, match="mask"):
        MultiHeadAttention(4, 2)(ones(1, 3, 4), mask=mask)


@pytest.mark.parametrize("function", [attention, fused_attention])
@pytest.mark.parametrize(
    "triple",
    [
        (torch.ones(2, 4), torch.ones(3, 4).double(), torch.ones(3, 4)),
        (torch.ones(2, 4).long(), torch.ones(3, 4).long(), torch.ones(3, 4).long()),
        (torch.ones(2, 4).numpy(), torch.ones(3, 4).numpy(), torch.ones(3, 4).numpy()),
    ],
    ids=["mixed", "whole numbers", "NumPy"],
)
def test_tensors_of_one_floating_dtype(function, triple, either_way):
    with pytest.raises(TypeError):
        function(*triple)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("key", "value", "mask"),
    [
        ((2, 2, 5, 4), (2, 2, 6, 4), None),
        ((1, 2, 5, 4), (1, 2, 5, 4), None),
        ((2, 1, 5, 4), (2, 1, 5, 4), None),
        ((2, 2, 5, 3), (2, 2, 5, 3), None),
        ((2, 5, 4), (2, 5, 4), None),
        ((2, 2, 5, 4), (2, 2, 5, 4), (2, 1, 4)),
        ((2, 2, 5, 4), (2, 2, 5, 4), (3, 1, 5)),
    ],
)
def test_keys_values_and_masks_of_another_shape_are_refused(key, value, mask):
    with pytest.raises(ValueError, match="key|value|mask"):
        MultiHeadAttention(8, 2).attend(
            ones(2, 3, 8), ones(*key), ones(*value), None if mask is None else ones(*mask) > 0
        )


def test_context_of_no_width_is_refused():
    with pytest.raises(ValueError, match="context_width=0"):
        MultiHeadAttention(8, 2, context_width=0)


@pytest.mark.parametrize("shapes", [[(1, 2, 3, 3), (1, 2, 4, 4)], [(1, 2, 3, 4)], [(2, 3, 3)]])
def test_rollout_of_layers_that_do_not_belong_together(shapes, either_way):
    with pytest.raises(ValueError):
        attention_rollout([torch.ones(shape) for shape in shapes])
