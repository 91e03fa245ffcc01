"""The Vision Transformer: patches, positions, blocks, and the whole against a second implementation."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xattn_edu import attention_rollout
from xattn_edu.models.layers import MLP, StochasticDepth, grid_of
from xattn_edu.models.mixers import MIXERS
from xattn_edu.models.positions import interpolate_positions, sincos_positions
from xattn_edu.models.vit import Block, PatchEmbedding, ViT, patchify


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shaken(module):
    """The module in float64 with every parameter random: no bias is zero, no norm is the identity."""
    for index, parameter in enumerate(module.double().parameters()):
        parameter.data = 0.5 * draw(*parameter.shape, seed=index)
    return module.eval()


def small(**changes):
    arguments = {"image_size": (8, 12), "patch": 4, "width": 8, "depth": 3, "heads": 2, "classes": 5}
    return ViT(**(arguments | changes))


# --- patches


@pytest.mark.parametrize(("height", "width", "patch"), [(8, 12, 4), (6, 4, 2), (5, 5, 5), (3, 2, 1)])
def test_patches_are_squares_of_the_image_row_by_row(height, width, patch):
    images = draw(2, 3, height, width)
    patches = patchify(images, patch)
    rows, columns = grid_of((height, width), patch)
    assert patches.shape == (2, rows * columns, 3 * patch * patch)
    for row in range(rows):
        for column in range(columns):
            square = images[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            torch.testing.assert_close(patches[:, row * columns + column], square.reshape(2, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("size", "patch", "channels", "batch"), [((8, 12), 4, 3, 2), (6, 3, 1, 1), ((4, 2), 1, 2, 0)])
def test_the_three_patch_embeddings_are_one(size, patch, channels, batch, dtype):
    torch.manual_seed(0)
    embed = PatchEmbedding(size, patch, 10, channels).to(dtype)
    images = draw(batch, channels, *embed.image_size, dtype=dtype)
    tokens = embed(images)
    assert tokens.shape == (batch, math.prod(embed.grid), 10)
    torch.testing.assert_close(embed.linear(images), tokens)
    torch.testing.assert_close(embed.pointwise(images), tokens)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: patchify(torch.ones(1, 3, 8, 12), 5), "image 8x12, patch 5"),
        (lambda: patchify(torch.ones(1, 3, 8, 12), 0), "image 8x12, patch 0"),
        (lambda: grid_of((3, 8), 4), "image 3x8, patch 4"),
        (lambda: grid_of((0, 8), 4), "image 0x8, patch 4"),
        (lambda: grid_of((8, 0), 4), "image 8x0, patch 4"),
        (lambda: PatchEmbedding((8, 10), 4, 6), "image 8x10, patch 4"),
        (lambda: ViT(image_size=30, patch=16), "image 30x30, patch 16"),
        (lambda: small(heads=3), "width 8, heads 3"),
        (lambda: small(positions="rotary"), "positions must be one of learned, sincos, given 'rotary'"),
        (lambda: small(positions="sincos", width=6), "multiple of 4.* 6"),
        (lambda: sincos_positions((2, 2), 0), "multiple of 4.* 0"),
        (lambda: small(stochastic_depth=1.0), r"\[0, 1\).* 1\.0"),
        (lambda: small(pool="max"), "pool must be one of class_token, mean, given 'max'"),
        (lambda: small(pool=None), "pool must be one of class_token, mean, given None"),
        (lambda: small(mixer=MIXERS["pooling"]), 'pool="mean"'),
        (lambda: small(mixer=MIXERS["squeeze_excitation"], pool="mean"), "reduction.* 8, given 16"),
        (lambda: small(pool="mean", heads=3), "width 8, heads 3"),
        (lambda: small(pool="mean", mixer=MIXERS["none"]).resize(16), "a mixer is built for one grid"),
        (lambda: small(pool="mean", mixer=MIXERS["pooling"])(torch.ones(1, 3, 8, 12), True), "Pooling .*no weights"),
        (lambda: Block(8, 2, mixer=nn.Identity())(torch.ones(1, 6, 8), True), "Identity .*no weights"),
        (lambda: StochasticDepth(-0.1), r"\[0, 1\).* -0\.1"),
        (lambda: interpolate_positions(torch.ones(1, 9, 4), (2, 3), (4, 4)), r"\(1, 9, 4\).*\(2, 3\): 6 or 7"),
        (lambda: interpolate_positions(torch.ones(1, 5, 4), (2, 3), (2, 3)), r"\(1, 5, 4\).*\(2, 3\): 6 or 7"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("shape", [(1, 3, 12, 8), (1, 1, 8, 12), (3, 8, 12), (1, 1, 3, 8, 12), (1, 3, 16, 24)])
def test_images_that_do_not_fit_are_refused_before_any_work(shape):
    model = small()
    model.patch_embedding.projection.register_forward_pre_hook(lambda *_: pytest.fail("computed"))
    for call in (model, model.patch_embedding, model.patch_embedding.linear, model.patch_embedding.pointwise):
        with pytest.raises(ValueError, match=str(tuple(shape)).replace("(", r"\(").replace(")", r"\)")):
            call(torch.ones(shape))


# --- positions


def test_sincos_positions_by_their_formula():
    rows, columns, width = 2, 3, 8
    positions = sincos_positions((rows, columns), width)
    assert positions.shape == (1, 6, 8)
    for row in range(rows):
        for column in range(columns):
            expected = []
            for place in (row, column):
                angles = [place / 10000 ** (i / (width // 4)) for i in range(width // 4)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(positions[0, row * columns + column], torch.tensor(expected))


def test_sincos_positions_differ_and_are_fixed():
    model = small(positions="sincos")
    assert len(model.positions[0].unique(dim=0)) == 7
    assert (model.positions[0, 0] == 0).all() and not model.positions.requires_grad
    torch.testing.assert_close(model.positions[:, 1:], sincos_positions((2, 3), 8))


@pytest.mark.parametrize("prefix", [0, 1])
def test_interpolation_to_the_same_grid_changes_nothing(prefix):
    positions = draw(1, prefix + 6, 4)
    torch.testing.assert_close(interpolate_positions(positions, (2, 3), (2, 3)), positions, rtol=0, atol=0)


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("new", [(8, 12), (2, 3), (1, 1), (3, 9), (6, 4)])
def test_interpolation_keeps_the_class_token_and_the_direction(prefix, new):
    old = (4, 6)
    row, column = torch.meshgrid(*(torch.linspace(0, 1, n, dtype=torch.float64) for n in old), indexing="ij")
    image = torch.stack([row, column, torch.ones(old, dtype=torch.float64)], dim=-1)
    class_token = draw(1, prefix, 3)
    resized = interpolate_positions(torch.cat([class_token, image.reshape(1, 24, 3)], dim=1), old, new)
    torch.testing.assert_close(resized[:, :prefix], class_token, rtol=0, atol=0)
    row, column, one = resized[0, prefix:].reshape(*new, 3).unbind(-1)
    torch.testing.assert_close(one, torch.ones_like(one))  # what is constant stays so
    torch.testing.assert_close(row, row[:, :1].expand(new))  # what depends on the row depends on the row alone
    torch.testing.assert_close(column, column[:1].expand(new))
    for steps in (row.diff(dim=0), column.diff(dim=1)):  # and grows smoothly
        assert (steps > 0).all() and (steps < 1).all()


def test_interpolation_there_and_back_is_close():
    positions = sincos_positions((7, 7), 8)
    there = interpolate_positions(positions, (7, 7), (14, 14))
    assert (interpolate_positions(there, (14, 14), (7, 7)) - positions).abs().mean() < 0.05


@pytest.mark.parametrize("positions", ["learned", "sincos"])
@pytest.mark.parametrize("size", [(16, 8), (4, 4), 24])
def test_a_resized_model_takes_images_of_the_new_size_and_no_others(positions, size):
    model = small(positions=positions).eval()
    class_position = model.positions[:, 0].clone()
    model.resize(size)
    height, width = (size, size) if isinstance(size, int) else size
    images = draw(2, 3, height, width, dtype=torch.float32)
    logits, weights = model(images, return_weights=True)
    assert logits.shape == (2, 5) and logits.isfinite().all()
    assert weights[0].shape[-1] == 1 + height * width // 16
    torch.testing.assert_close(model.positions[:, 0], class_position)
    torch.testing.assert_close(model.patch_embedding.pointwise(images), model.patch_embedding(images))
    assert model.positions.requires_grad == (positions == "learned")
    with pytest.raises(ValueError, match="images must be"):
        model(torch.ones(2, 3, 8, 12))
    again = small(image_size=size, positions=positions).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(images), logits)
    model.resize((12, 20))
    assert model(torch.ones(1, 3, 12, 20)).shape == (1, 5)


def test_resizing_to_a_size_that_does_not_divide_leaves_the_model_as_it_was():
    model = small()
    with pytest.raises(ValueError, match="image 10x12, patch 4"):
        model.resize((10, 12))
    assert model(torch.ones(1, 3, 8, 12)).shape == (1, 5)


def test_resizing_to_the_same_size_changes_no_output():
    model, images = small().eval(), draw(1, 3, 8, 12, dtype=torch.float32)
    before = model(images)
    model.resize((8, 12))
    torch.testing.assert_close(model(images), before, rtol=0, atol=0)


# --- blocks


def test_stochastic_depth_keeps_the_expectation_and_drops_whole_samples():
    torch.manual_seed(0)
    branch = torch.ones(20_000, 2, 3)
    kept = StochasticDepth(0.3)(branch)
    assert sorted(kept.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert (kept == kept[:, :1, :1]).all()
    assert (kept[:, 0, 0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.015)
    assert kept.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("rate", "training"), [(0.9, False), (0.0, True)])
def test_stochastic_depth_is_the_identity_when_it_should_be(rate, training):
    branch = draw(5, 2, 3)
    assert StochasticDepth(rate).train(training)(branch) is branch


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_stochastic_depth_keeps_the_type(dtype):
    assert StochasticDepth(0.5)(torch.ones(4, 2, dtype=dtype)).dtype == dtype


def test_a_block_drops_each_branch_by_itself():
    torch.manual_seed(0)
    block = Block(8, 2, stochastic_depth=0.5)
    tokens = draw(1, 3, 8, dtype=torch.float32).expand(64, -1, -1)
    outcomes = block(tokens)[0].unique(dim=0)
    assert len(outcomes) == 4  # neither branch, one, the other, both
    assert any(torch.equal(outcome, tokens[0]) for outcome in outcomes)


@pytest.mark.parametrize(("depth", "rates"), [(1, [0]), (3, [0, 0.1, 0.2]), (5, [0, 0.05, 0.1, 0.15, 0.2])])
def test_stochastic_depth_grows_linearly(depth, rates):
    model = small(depth=depth, stochastic_depth=0.2)
    assert [block.drop.rate for block in model.blocks] == pytest.approx(rates)


def layer_norm(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def block_by_hand(z, state, heads, eps):
    """Equations (2) and (3) of Dosovitskiy et al., written a second time."""

    def norm(x, name):
        return layer_norm(x, state[f"{name}.weight"], state[f"{name}.bias"], eps)

    normed, dim = norm(z, "norm1"), z.shape[-1] // heads
    q, k, v = (linear(normed, state, f"attention.{name}") for name in ("query", "key", "value"))
    outputs, weights = [], []
    for head in range(heads):
        cut = slice(head * dim, (head + 1) * dim)
        e = torch.exp(q[..., cut] @ k[..., cut].mT / math.sqrt(dim))
        weights.append(e / e.sum(-1, keepdim=True))
        outputs.append(weights[-1] @ v[..., cut])
    z = z + linear(torch.cat(outputs, -1), state, "attention.output")
    hidden = linear(norm(z, "norm2"), state, "mlp.fc1")
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return z + linear(hidden, state, "mlp.fc2"), torch.stack(weights, 1)


def vit_by_hand(images, model, patch, heads, eps=1e-6):
    state = model.state_dict()
    kernel = state["patch_embedding.projection.weight"]
    patches = [
        (images[:, None, :, top : top + patch, left : left + patch] * kernel).sum((2, 3, 4))
        for top in range(0, images.shape[2], patch)
        for left in range(0, images.shape[3], patch)
    ]
    z = torch.stack(patches, 1) + state["patch_embedding.projection.bias"]
    z = torch.cat([state["class_token"].repeat(len(images), 1, 1), z], 1) + state["positions"]
    weights = []
    for index in range(len(model.blocks)):
        start = f"blocks.{index}."
        z, shares = block_by_hand(z, {k[len(start) :]: v for k, v in state.items() if k.startswith(start)}, heads, eps)
        weights.append(shares)
    z = layer_norm(z, state["norm.weight"], state["norm.bias"], eps)
    return linear(z[:, 0], state, "head"), weights, z


@pytest.mark.parametrize("eps", [1e-6, 1e-2])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_block_equals_its_equations(heads, eps):
    block, tokens = shaken(Block(8, heads, mlp_ratio=1.5, norm_eps=eps)), draw(2, 5, 8)
    expected, shares = block_by_hand(tokens, block.state_dict(), heads, eps)
    output, nothing = block(tokens)
    with_weights, weights = block(tokens, return_weights=True)
    assert nothing is None and block.mlp.fc1.out_features == 12
    for given in (output, with_weights):
        torch.testing.assert_close(given, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(weights, shares, rtol=1e-10, atol=1e-10)


def test_the_mlp_treats_every_token_by_itself():
    mlp, tokens = shaken(MLP(6, 9)), draw(2, 4, 6)
    torch.testing.assert_close(mlp(tokens)[:, 2], mlp(tokens[:, 2:3])[:, 0])
    torch.testing.assert_close(mlp(tokens), mlp.fc2(F.gelu(mlp.fc1(tokens))))


# --- the whole


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (8, 12)),
        ({"heads": 1, "depth": 1, "channels": 1}, (8, 12)),
        ({"image_size": 4, "positions": "sincos"}, (4, 4)),
        ({"patch": 2, "heads": 4, "mlp_ratio": 2, "norm_eps": 1e-2}, (8, 12)),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_vit_equals_a_second_implementation(changes, size, batch):
    model = shaken(small(**changes))
    images = draw(batch, changes.get("channels", 3), *size)
    eps = changes.get("norm_eps", 1e-6)
    logits, weights, tokens = vit_by_hand(images, model, changes.get("patch", 4), changes.get("heads", 2), eps)
    torch.testing.assert_close(model(images), logits, rtol=1e-9, atol=1e-9)
    with_weights, shares = model(images, return_weights=True)
    torch.testing.assert_close(with_weights, logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(shares, weights, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.encode(images)[0], tokens, rtol=1e-9, atol=1e-9)
    for share in shares:
        torch.testing.assert_close(share.sum(-1), torch.ones(share.shape[:-1], dtype=torch.float64))


def test_shuffled_patches_matter_only_through_their_positions():
    model, images = shaken(small()), draw(1, 3, 8, 12)
    shuffled = torch.cat([images[..., 8:], images[..., :8]], dim=-1)
    assert not torch.allclose(model(shuffled), model(images))
    model.positions.data[:, 1:] = 0
    torch.testing.assert_close(model(shuffled), model(images))


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_the_backward_pass_reaches_every_parameter_that_learns(positions):
    model = small(positions=positions, stochastic_depth=0.1)
    model.eval()(draw(2, 3, 8, 12, dtype=torch.float32)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name == "positions" and positions == "sincos":
            assert parameter.grad is None
        elif name.endswith("attention.key.bias"):  # the same for all keys of a query: softmax does not see it
            assert parameter.grad.abs().max() < 1e-6
        else:
            assert parameter.grad.abs().max() > 1e-6, name


def test_evaluation_is_deterministic_and_training_with_stochastic_depth_is_not():
    model, images = small(stochastic_depth=0.5), draw(16, 3, 8, 12, dtype=torch.float32)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_a_seed_gives_the_same_model_and_a_state_dict_carries_it():
    torch.manual_seed(0)
    first = small()
    torch.manual_seed(0)
    second, third = small(), small()
    images = draw(2, 3, 8, 12, dtype=torch.float32)
    torch.testing.assert_close(first(images), second(images), rtol=0, atol=0)
    assert not torch.allclose(first(images), third(images))
    third.load_state_dict(first.state_dict())
    torch.testing.assert_close(third(images), first(images), rtol=0, atol=0)


def test_initial_weights():
    torch.manual_seed(0)
    model = small(width=256, heads=4, depth=2)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            assert (module.bias == 0).all() and module.weight.abs().max() < 2, name
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all() and module.eps == 1e-6
    for parameter in (model.class_token, model.positions):
        assert parameter.std().item() == pytest.approx(0.02, rel=0.2)


def test_an_empty_batch_gives_no_logits():
    assert small()(torch.ones(0, 3, 8, 12)).shape == (0, 5)


def test_a_model_can_be_made_of_shapes_alone():
    with torch.device("meta"):
        assert small(positions="sincos")(torch.ones(2, 3, 8, 12)).shape == (2, 5)


def test_a_resized_model_can_be_trained_on():
    model = ViT(8, 4, 8, 1, 2, classes=3, channels=1)
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    model.resize(16)
    model(torch.randn(2, 1, 16, 16)).sum().backward()
    assert model.positions.grad.shape == (1, 17, 8)


def test_depth_is_a_number_of_blocks():
    with pytest.raises(ValueError, match="depth.*-1"):
        ViT(8, 4, 8, -1, 2)


# --- the mean instead of a class token, and something else instead of attention


def mean_vit_by_hand(images, model, patch, heads, eps=1e-6):
    """vit_by_hand with no class token, and the head on the mean of what comes out."""
    state = model.state_dict()
    assert "class_token" not in state
    kernel = state["patch_embedding.projection.weight"]
    squares = patchify(images, patch)
    z = squares @ kernel.flatten(1).T + state["patch_embedding.projection.bias"] + state["positions"]
    weights = []
    for index in range(len(model.blocks)):
        start = f"blocks.{index}."
        z, shares = block_by_hand(z, {k[len(start) :]: v for k, v in state.items() if k.startswith(start)}, heads, eps)
        weights.append(shares)
    z = layer_norm(z, state["norm.weight"], state["norm.bias"], eps)
    return linear(sum(z.unbind(1)) / z.shape[1], state, "head"), weights, z


@pytest.mark.parametrize("changes", [{}, {"positions": "sincos", "heads": 4}, {"image_size": (4, 12), "channels": 1}])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_mean_of_the_patches_by_hand(changes, batch):
    model = shaken(small(pool="mean", **changes))
    rows, columns = changes.get("image_size", (8, 12))
    images = draw(batch, changes.get("channels", 3), rows, columns)
    expected, weights, tokens = mean_vit_by_hand(images, model, 4, changes.get("heads", 2))
    patches = rows * columns // 16
    assert model.class_token is None and model.positions.shape == (1, patches, 8)
    torch.testing.assert_close(model(images), expected, rtol=1e-9, atol=1e-9)
    logits, shares = model(images, return_weights=True)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(shares, weights, rtol=1e-9, atol=1e-9)
    assert shares[0].shape == (batch, changes.get("heads", 2), patches, patches)
    torch.testing.assert_close(model.encode(images)[0], tokens, rtol=1e-9, atol=1e-9)
    rollout = attention_rollout(shares)
    assert rollout.shape == (batch, patches, patches)
    torch.testing.assert_close(rollout.sum(-1), torch.ones(batch, patches, dtype=torch.float64))


def test_without_a_class_token_a_vit_is_smaller_by_it_and_its_position():
    both = [sum(p.numel() for p in small(pool=pool).parameters()) for pool in ("class_token", "mean")]
    assert both[0] - both[1] == 2 * 8
    torch.testing.assert_close(small(pool="mean", positions="sincos").positions, sincos_positions((2, 3), 8))
    learned = small(pool="mean", width=256).positions
    assert learned.requires_grad and learned.std().item() == pytest.approx(0.02, rel=0.1)
    assert small().class_token is not None  # as the papers have it, unless asked otherwise


@pytest.mark.parametrize("positions", ["learned", "sincos"])
@pytest.mark.parametrize("size", [(16, 8), 4])
def test_a_model_that_reads_the_mean_can_be_resized(positions, size):
    model = small(pool="mean", positions=positions).eval()
    before = model.positions.clone()
    model.resize(size)
    height, width = (size, size) if isinstance(size, int) else size
    assert model.positions.shape == (1, height * width // 16, 8)
    torch.testing.assert_close(
        model.positions.data, interpolate_positions(before, (2, 3), (height // 4, width // 4)).data
    )
    images = draw(2, 3, height, width, dtype=torch.float32)
    again = small(pool="mean", image_size=size).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(images), model(images))


def test_shuffled_patches_do_not_matter_to_the_mean():
    model, images = shaken(small(pool="mean")), draw(1, 3, 8, 12)
    shuffled = torch.cat([images[..., 8:], images[..., :8]], dim=-1)
    assert not torch.allclose(model(shuffled), model(images))
    model.positions.data.zero_()
    torch.testing.assert_close(model(shuffled), model(images))


class Backwards(nn.Module):
    """Reads the tokens in reverse: a mixer that nobody mistakes for another."""

    def __init__(self, width, grid):
        super().__init__()
        self.made_for = (width, grid)

    def forward(self, tokens):
        return 2 * tokens.flip(1)


def test_a_mixer_stands_where_attention_stood():
    block, tokens = shaken(Block(8, 2, mixer=Backwards(8, (2, 3)))), draw(2, 6, 8)
    state = block.state_dict()
    z = tokens + 2 * layer_norm(tokens, state["norm1.weight"], state["norm1.bias"], 1e-6).flip(1)
    expected = z + block.mlp(layer_norm(z, state["norm2.weight"], state["norm2.bias"], 1e-6))
    output, weights = block(tokens)
    assert weights is None and not any(name.startswith("attention") for name in state)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)


def test_each_block_has_a_mixer_of_its_own_made_for_the_grid():
    model = small(pool="mean", mixer=Backwards, heads=3)  # heads, of which there are none, need not divide
    mixers = [block.attention for block in model.blocks]
    assert len(set(map(id, mixers))) == 3 and all(mixer.made_for == (8, (2, 3)) for mixer in mixers)
    tokens, weights = model.encode(draw(2, 3, 8, 12, dtype=torch.float32))
    assert tokens.shape == (2, 6, 8) and weights == []


def test_a_mixers_branch_is_dropped_like_any_other():
    torch.manual_seed(0)
    block = Block(8, 2, stochastic_depth=0.5, mixer=Backwards(8, (1, 3)))
    outcomes = block(draw(1, 3, 8, dtype=torch.float32).expand(64, -1, -1))[0].unique(dim=0)
    assert len(outcomes) == 4


def test_a_refused_resize_leaves_the_model_as_it_was():
    model, images = small(pool="mean", mixer=MIXERS["token_mlp"]), draw(1, 3, 8, 12, dtype=torch.float32)
    before = model(images)
    with pytest.raises(ValueError, match="a mixer"):
        model.resize(16)
    torch.testing.assert_close(model(images), before)


@pytest.mark.parametrize("mixer", ["pooling", nn.Identity()], ids=["name", "module"])
def test_a_mixer_is_a_function_that_makes_one(mixer):
    with pytest.raises(TypeError, match="mixers.MIXERS"):
        small(pool="mean", mixer=mixer)
