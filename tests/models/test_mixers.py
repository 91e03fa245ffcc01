"""Channel and spatial attention and the token mixers, against slow loops, and by what depends on what."""

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xattn_edu.measure.costs import count
from xattn_edu.models.mixers import (
    CBAM,
    MIXERS,
    ChannelAttention,
    FourierMixing,
    Pooling,
    SpatialAttention,
    SqueezeExcitation,
    TokenMixing,
)
from xattn_edu.models.vit import ViT

few = settings(max_examples=30, derandomize=True)
grids = st.tuples(st.integers(1, 4), st.integers(1, 4))
GRID, WIDTH = (2, 3), 4
MAKE = {  # one of each, small, on tokens (batch, 6, 4)
    "squeeze_excitation": lambda: SqueezeExcitation(WIDTH, 2),
    "channel": lambda: ChannelAttention(WIDTH, 2),
    "spatial": lambda: SpatialAttention(GRID, 3),
    "cbam": lambda: CBAM(WIDTH, GRID, 2, 3),
    "token_mlp": lambda: TokenMixing(GRID, 5),
    "pooling": lambda: Pooling(GRID),
    "fourier": FourierMixing,
    "none": nn.Identity,
}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(module):
    """The module in float64 with every parameter random: no bias is zero."""
    for index, parameter in enumerate(module.double().parameters()):
        parameter.data = draw(*parameter.shape, seed=index)
    return module


def jacobian(function, tokens):
    """How much output (token, channel) changes with input (token, channel): (token, channel, token, channel)."""
    return torch.autograd.functional.jacobian(lambda x: function(x[None])[0], tokens)


def close(given, expected):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(given.detach(), expected.detach(), rtol=1e-9, atol=1e-9)


# --- against loops over single numbers


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def bottleneck(values, mlp):
    """W_2 relu(W_1 x + b_1) + b_2, number by number."""
    (w1, b1), (w2, b2) = ((layer.weight.tolist(), layer.bias.tolist()) for layer in (mlp[0], mlp[2]))
    hidden = [max(0.0, b + sum(w * x for w, x in zip(row, values))) for row, b in zip(w1, b1)]
    return [b + sum(w * h for w, h in zip(row, hidden)) for row, b in zip(w2, b2)]


def channel_gate(image, mlp, use_max):
    """image: a list of tokens, each a list of channels."""
    channels = list(zip(*image))
    scores = bottleneck([sum(channel) / len(channel) for channel in channels], mlp)
    if use_max:
        scores = [a + b for a, b in zip(scores, bottleneck([max(channel) for channel in channels], mlp))]
    return [sigmoid(score) for score in scores]


def spatial_gate(image, kernel, grid):
    """A sum over the kernel's places that lie on the grid; kernel: (mean or max, row, column)."""
    rows, columns, half = *grid, len(kernel[0]) // 2
    pooled = [[sum(token) / len(token) for token in image], [max(token) for token in image]]
    gates = []
    for row in range(rows):
        for column in range(columns):
            score = 0.0
            for maps, weights in zip(pooled, kernel):
                for down in range(-half, half + 1):
                    for right in range(-half, half + 1):
                        r, c = row + down, column + right
                        if 0 <= r < rows and 0 <= c < columns:
                            score += weights[half + down][half + right] * maps[r * columns + c]
            gates.append(sigmoid(score))
    return gates


@few
@given(st.integers(1, 7), st.integers(1, 6), st.data(), st.integers(0, 99))
def test_channel_gates_by_loops(tokens, width, data, seed):
    reduction = data.draw(st.integers(1, width))
    images = draw(2, tokens, width, seed=seed)
    for module in (shaken(SqueezeExcitation(width, reduction)), shaken(ChannelAttention(width, reduction))):
        gates = [[channel_gate(image, module.mlp, isinstance(module, ChannelAttention))] for image in images.tolist()]
        close(module.gate(images), gates)
        close(module(images), images * torch.tensor(gates, dtype=torch.float64))


@few
@given(grids, st.integers(1, 4), st.sampled_from([1, 3, 5, 7]), st.integers(0, 99))
def test_spatial_gates_by_loops(grid, width, kernel, seed):
    module, images = shaken(SpatialAttention(grid, kernel)), draw(2, math.prod(grid), width, seed=seed)
    gates = [[[g] for g in spatial_gate(x, module.convolution.weight[0].tolist(), grid)] for x in images.tolist()]
    close(module.gate(images), gates)
    close(module(images), images * torch.tensor(gates, dtype=torch.float64))


def test_the_bottleneck_is_as_narrow_as_asked_and_never_empty():
    assert [SqueezeExcitation(7, r).mlp[0].out_features for r in range(1, 8)] == [7, 3, 2, 1, 1, 1, 1]


def test_cbam_scales_channels_then_positions():
    cbam, images = shaken(MAKE["cbam"]()), draw(2, 6, WIDTH)
    for image, output in zip(images.tolist(), cbam(images)):
        gate = channel_gate(image, cbam.channel.mlp, True)
        scaled = [[value * g for value, g in zip(token, gate)] for token in image]
        places = spatial_gate(scaled, cbam.spatial.convolution.weight[0].tolist(), GRID)
        close(output, [[value * place for value in token] for token, place in zip(scaled, places)])


@few
@given(grids, st.integers(1, 3), st.sampled_from([1, 3, 5]), st.integers(0, 99))
def test_pooling_by_loops(grid, width, size, seed):
    (rows, columns), half = grid, size // 2
    images = draw(2, rows * columns, width, seed=seed)
    expected = torch.empty_like(images)
    for row in range(rows):
        for column in range(columns):
            window = [
                (r, c) for r in range(row - half, row + half + 1) for c in range(column - half, column + half + 1)
            ]
            near = [r * columns + c for r, c in window if 0 <= r < rows and 0 <= c < columns]
            here = row * columns + column
            expected[:, here] = sum(images[:, place] for place in near) / len(near) - images[:, here]
    close(Pooling(grid, size)(images), expected)


@few
@given(grids, st.integers(1, 4), st.sampled_from([None, 1, 3]), st.integers(0, 99))
def test_token_mixing_by_loops(grid, width, hidden, seed):
    module, images = shaken(TokenMixing(grid, hidden)), draw(2, math.prod(grid), width, seed=seed)
    fc1, fc2 = module.mlp.fc1, module.mlp.fc2
    assert fc1.out_features == (hidden or 2 * math.prod(grid))
    output = module(images)
    for image, mixed in zip(images, output):
        for channel in range(width):
            hidden_values = (fc1.weight @ image[:, channel] + fc1.bias).tolist()
            inner = [h * (1 + math.erf(h / math.sqrt(2))) / 2 for h in hidden_values]
            close(mixed[:, channel], fc2.weight @ torch.tensor(inner, dtype=torch.float64) + fc2.bias)


@few
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_fourier_by_the_definition_of_the_transform(tokens, width, seed):
    image = draw(1, tokens, width, seed=seed)
    expected = torch.zeros(tokens, width, dtype=torch.float64)
    for k in range(tokens):
        for l in range(width):
            for i in range(tokens):
                for j in range(width):
                    wave = cmath.exp(-2j * math.pi * (k * i / tokens + l * j / width))
                    expected[k, l] += (wave * image[0, i, j].item()).real / math.sqrt(tokens * width)
    close(FourierMixing()(image)[0], expected)


@few
@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 99))
def test_fourier_keeps_what_is_even_and_drops_what_is_odd(tokens, width, seed):
    """The real part is the transform of the half that does not change when both axes are read backwards."""
    fourier, image = FourierMixing(), draw(1, tokens, width, seed=seed)
    backwards = image.flip((1, 2)).roll((1, 1), (1, 2))
    even, odd = (image + backwards) / 2, (image - backwards) / 2
    close(fourier(image), fourier(even))
    close(fourier(odd), torch.zeros_like(odd))
    close(fourier(even).norm(), even.norm())  # only an even picture keeps its length
    close(fourier(fourier(image)), even)


# --- what depends on what


@pytest.mark.parametrize("name", ["squeeze_excitation", "channel"])
def test_a_channels_gate_is_the_same_everywhere_and_sees_all_channels(name):
    module, tokens = shaken(MAKE[name]()), draw(1, 6, WIDTH).abs() + 1
    module.mlp[0].bias.data += 50  # no unit of the bottleneck is cut off: what could depend does
    module.mlp[0].weight.data.abs_()
    module.mlp[2].weight.data *= 0.01
    ratio = module(tokens) / tokens
    close(ratio, ratio[:, :1].expand_as(ratio))
    by_input = jacobian(module.gate, tokens[0])  # (1, channel, token, channel)
    assert (by_input.abs() > 0).all()
    if name == "squeeze_excitation":  # of the mean alone: no place counts more than another
        close(by_input, by_input[:, :, :1].expand_as(by_input))
    else:  # the largest value counts a second time
        assert torch.equal(by_input.abs().argmax(2)[0, 0], tokens[0].argmax(0))


def test_a_places_gate_is_the_same_for_all_channels_and_sees_its_neighbourhood():
    module, tokens = shaken(SpatialAttention((4, 5), 3)), draw(1, 20, 3)
    ratio = module(tokens) / tokens
    close(ratio, ratio[..., :1].expand_as(ratio))
    touched = jacobian(module.gate, tokens[0]).abs().sum((1, 3)) > 1e-12
    assert torch.equal(touched, neighbours((4, 5), 1))


def neighbours(grid, reach):
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid))
    return (places[:, None] - places).abs().amax(-1) <= reach


@pytest.mark.parametrize("size", [1, 3, 5])
def test_pooling_sees_its_neighbourhood_channel_by_channel(size):
    module, tokens = Pooling((4, 5), size), draw(20, 2)
    by_input = jacobian(module, tokens)
    assert torch.equal(by_input[:, 0, :, 0].abs() > 1e-12, neighbours((4, 5), size // 2) & torch.tensor(size > 1))
    assert (by_input[:, 0, :, 1] == 0).all() and (by_input[:, 1, :, 0] == 0).all()
    close(module(torch.ones(1, 20, 2, dtype=torch.float64)), torch.zeros(1, 20, 2))  # also at the edge


def test_token_mixing_is_one_map_for_all_channels():
    module, tokens = shaken(MAKE["token_mlp"]()), draw(6, WIDTH)
    by_input = jacobian(module, tokens)
    for a in range(WIDTH):
        for b in range(WIDTH):
            assert (by_input[:, a, :, b].abs() > 1e-9).all() if a == b else (by_input[:, a, :, b] == 0).all()
    order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(1))
    close(module(tokens[None, :, order]), module(tokens[None])[..., order])
    same = jacobian(module, tokens[:, :1].expand(-1, 3).clone())
    close(same[:, 0, :, 0], same[:, 2, :, 2])  # the same map at the same input


def test_fourier_reaches_everything_and_none_nothing():
    by_input = jacobian(FourierMixing(), draw(5, 7))
    assert (by_input.abs() > 1e-3).all()  # no cosine is 0 where neither number is a multiple of 4
    close(by_input, jacobian(FourierMixing(), draw(5, 7, seed=1)))  # and never depends on the picture
    close(jacobian(MIXERS["none"](7, (1, 5)), draw(5, 7)).reshape(35, 35), torch.eye(35))


@pytest.mark.parametrize("name", ["squeeze_excitation", "channel", "spatial"])
@pytest.mark.parametrize("scale", [0, 1, 1e6])
def test_gates_are_between_0_and_1(name, scale):
    gate = shaken(MAKE[name]()).gate(draw(3, 6, WIDTH) * scale)
    assert gate.shape == ((3, 6, 1) if name == "spatial" else (3, 1, WIDTH))
    assert ((gate >= 0) & (gate <= 1)).all() and (scale > 1 or ((gate > 0) & (gate < 1)).all())


@pytest.mark.parametrize("name", MAKE)
def test_who_minds_when_the_tokens_are_shuffled(name):
    module, tokens = shaken(MAKE[name]()), draw(2, 6, WIDTH)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    minds = name in ("spatial", "cbam", "token_mlp", "pooling", "fourier")
    assert torch.allclose(module(tokens[:, order]), module(tokens)[:, order]) != minds


@pytest.mark.parametrize("name", [name for name in MAKE if name != "fourier"])  # MKL refuses to transform nothing
def test_an_empty_batch_stays_empty(name):
    assert shaken(MAKE[name]())(draw(0, 6, WIDTH)).shape == (0, 6, WIDTH)


# --- in a ViT

DEPTH, PATCHES, CHANNELS = 2, 6, 32
OWN = {  # of one mixer on a grid of 2 x 3 and 32 channels: parameters, multiply-accumulates
    "token_mlp": (6 * 12 + 12 + 12 * 6 + 6, 2 * 6 * 12 * 32),
    "fourier": (0, round(2 * 6 * 32 * (math.log2(6) + math.log2(32)))),
    "pooling": (0, 0),
    "squeeze_excitation": (32 * 2 + 2 + 2 * 32 + 32, 2 * 2 * 32),
    "cbam": (32 * 2 + 2 + 2 * 32 + 32 + 2 * 7 * 7, 2 * 2 * 2 * 32 + 2 * 7 * 7 * 6),
    "none": (0, 0),
}


def vit(name, image_size=(8, 12), **changes):
    arguments = {"classes": 5, "channels": 1, "pool": "mean", "mixer": MIXERS[name], "mlp_ratio": 2} | changes
    return ViT(image_size, 4, CHANNELS, DEPTH, 2, **arguments)


def test_mixers_are_made_for_the_width_and_the_grid_as_their_papers_have_them():
    made = {name: make(32, GRID) for name, make in MIXERS.items()}
    assert made.keys() == OWN.keys()
    assert made["token_mlp"].grid == made["pooling"].grid == made["cbam"].spatial.grid == GRID
    assert (made["pooling"].size, made["cbam"].spatial.convolution.kernel_size) == (3, (7, 7))
    assert made["squeeze_excitation"].mlp[0].out_features == made["cbam"].channel.mlp[0].out_features == 32 // 16


@pytest.mark.parametrize("name", MIXERS)
def test_a_vit_with_a_mixer_costs_what_its_parts_cost(name):
    parameters, macs = OWN[name]
    costs = count(vit(name), torch.zeros(1, 1, 8, 12))
    mlp = 2 * CHANNELS * 2 * CHANNELS
    block = parameters + mlp + 3 * CHANNELS + 2 * 2 * CHANNELS  # two norms
    ends = 16 * CHANNELS + CHANNELS + PATCHES * CHANNELS + 2 * CHANNELS + 5 * CHANNELS + 5
    assert costs.parameters == DEPTH * block + ends
    expected = DEPTH * (macs + PATCHES * mlp) + PATCHES * 16 * CHANNELS + 5 * CHANNELS
    assert costs.macs == pytest.approx(expected, abs=DEPTH if name == "fourier" else 0)  # logarithms are rounded
    assert costs.attention_macs == 0


@pytest.mark.parametrize("size", [(8, 12), (12, 4), (4, 4)])
@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_learns_and_is_restored(name, size):
    torch.manual_seed(0)
    model, other = vit(name, size), vit(name, size)
    for key, parameter in model.named_parameters():
        if key.endswith("mlp.0.bias"):  # relu may cut off both units of so narrow a bottleneck
            nn.init.ones_(parameter)
    images = draw(3, 1, *size).float()
    logits = model(images)
    logits.square().sum().backward()
    assert logits.shape == (3, 5)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
        if size != (4, 4):  # of one token, not every number matters
            assert parameter.grad.abs().max() > 0, key
    torch.testing.assert_close(model(images[:1]), logits[:1])
    assert not torch.equal(other(images), logits)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(images), logits, rtol=0, atol=0)


@pytest.mark.parametrize("name", MIXERS)
def test_who_lets_patches_meet(name):
    model, image = shaken(vit(name)), draw(1, 1, 8, 12)
    tokens = model.encode(image)[0]
    changed = image.clone()
    changed[..., :4, :4] += 1
    moved = (model.encode(changed)[0] - tokens).abs().amax(-1)[0] > 1e-9
    assert moved.tolist() == ([True] + [False] * 5 if name == "none" else [True] * 6)


# --- what is refused


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SqueezeExcitation(8), "between 1 and the width 8, given 16"),
        (lambda: SqueezeExcitation(8, 0), "between 1 and the width 8, given 0"),
        (lambda: ChannelAttention(8, 9), "between 1 and the width 8, given 9"),
        (lambda: CBAM(8, GRID, -1), "between 1 and the width 8, given -1"),
        (lambda: SpatialAttention(GRID, 4), "kernel must be odd.* 4"),
        (lambda: CBAM(16, GRID, kernel=0), "kernel must be odd.* 0"),
        (lambda: Pooling(GRID, 2), "size must be odd.* 2"),
        (lambda: Pooling(GRID, -1), "size must be odd.* -1"),
        (lambda: Pooling(GRID)(torch.ones(1, 7, 4)), "7 tokens.* 2 x 3.*class token"),
        (lambda: TokenMixing(GRID)(torch.ones(1, 5, 4)), "5 tokens.* 2 x 3"),
        (lambda: SpatialAttention(GRID)(torch.ones(1, 7, 4)), "7 tokens.* 2 x 3"),
        (lambda: SpatialAttention(GRID).gate(torch.ones(1, 7, 4)), "7 tokens.* 2 x 3"),
        (lambda: CBAM(16, GRID)(torch.ones(1, 12, 16)), "12 tokens.* 2 x 3"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MIXERS)
def test_mixers_of_half_precision_and_of_no_image(name, dtype):
    torch.manual_seed(0)
    mixer, tokens = MIXERS[name](16, (2, 3)).eval(), torch.randn(2, 6, 16)
    expected = mixer(tokens)
    assert mixer(tokens[:0]).shape == (0, 6, 16)
    mixed = mixer.to(dtype)(tokens.to(dtype))
    assert mixed.dtype == dtype
    torch.testing.assert_close(mixed.float(), expected, rtol=0, atol=16 * torch.finfo(dtype).eps)
