"""Swin: windows, masks, biases, merging, and the whole against explicit loops over pixels and against transformers."""

import math
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import SwinBackbone, SwinConfig, SwinModel

from xattn_edu.models.positions import sincos_positions
from xattn_edu.models.swin import (
    PatchEmbedding,
    PatchMerging,
    Stage,
    Swin,
    WindowAttention,
    WindowBlock,
    cut_windows,
    join_windows,
    relative_index,
    resize_bias_table,
    shifted_mask,
)
from xattn_edu.weights import swin_from_transformers

CPU = torch.device("cpu")


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shaken(module):
    """The module in float64 with every parameter random: no bias is zero, no norm is the identity."""
    for index, parameter in enumerate(module.double().parameters()):
        parameter.data = 0.5 * draw(*parameter.shape, seed=index)
    return module.eval()


def small(**changes):
    return Swin(**({"width": 4, "depths": (2, 3), "heads": (1, 2), "window": 3, "patch": 2} | changes))


# --- a second implementation: dicts of pixels, one query at a time, no tensor operation that moves a pixel


def norm(x, state, name):
    mean = sum(x) / len(x)
    centred = x - mean
    deviation = (sum(centred**2) / len(x) + 1e-5) ** 0.5
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return state[f"{name}.weight"] @ x + state.get(f"{name}.bias", 0)


def region(place, length, window, shift):
    """The three slices of the published code, along one axis of the rolled grid."""
    return 0 if place < length - window else 1 if place < length - shift else 2


def attention_by_hand(pixels, rows, columns, state, name, heads, window, shift):
    """{place: vector} of normed pixels to the same of outputs."""
    width = len(pixels[0, 0])
    tall, wide = (math.ceil(n / window) * window for n in (rows, columns))
    zero, dim, output = torch.zeros(width, dtype=torch.float64), width // heads, {}
    table = state[f"{name}.bias_table"]
    for top, left in product(range(0, tall, window), range(0, wide, window)):
        tokens = []
        for r, c in product(range(window), range(window)):
            source = ((top + r + shift) % tall, (left + c + shift) % wide)  # what rolling brings here
            side = (region(top + r, tall, window, shift), region(left + c, wide, window, shift)) if shift else None
            tokens.append((r, c, source, side, linear(pixels.get(source, zero), state, f"{name}.qkv")))
        for r, c, source, side, mine in tokens:
            parts = []
            for head in range(heads):
                mixed, total = 0, 0
                for kr, kc, _, other, theirs in tokens:
                    if other != side:
                        continue
                    here = slice(head * dim, (head + 1) * dim)
                    query, key, value = mine[:width][here], theirs[width : 2 * width][here], theirs[2 * width :][here]
                    entry = (r - kr + window - 1) * (2 * window - 1) + c - kc + window - 1
                    share = (query @ key / math.sqrt(dim) + table[entry, head]).exp()
                    mixed, total = mixed + share * value, total + share
                parts.append(mixed / total)
            output[source] = linear(torch.cat(parts), state, f"{name}.output")
    return output


def swin_by_hand(image, state, depths, heads, window, patch):
    """For one image (channel, height, width), each stage's outputs {place: vector} and its (rows, columns)."""
    channels, height, width = image.shape
    rows, columns = math.ceil(height / patch), math.ceil(width / patch)
    kernel, pixels, outputs = state["patch_embedding.projection.weight"], {}, []
    for row, column in product(range(rows), range(columns)):
        vector = state["patch_embedding.projection.bias"].clone()
        for i, j in product(range(patch), range(patch)):
            y, x = row * patch + i, column * patch + j
            if y < height and x < width:
                vector = vector + kernel[:, :, i, j] @ image[:, y, x]
        pixels[row, column] = norm(vector, state, "patch_embedding.norm")
    for stage, (depth, stage_heads) in enumerate(zip(depths, heads)):
        if stage:
            zero = torch.zeros_like(pixels[0, 0])
            rows, columns, finer = (rows + 1) // 2, (columns + 1) // 2, pixels
            pixels = {}
            for row, column in product(range(rows), range(columns)):
                four = [finer.get((2 * row + i, 2 * column + j), zero) for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
                merged = norm(torch.cat(four), state, f"merges.{stage - 1}.norm")
                pixels[row, column] = linear(merged, state, f"merges.{stage - 1}.reduction")
        for block in range(depth):
            name, shift = f"stages.{stage}.blocks.{block}", window // 2 if block % 2 else 0
            normed = {place: norm(pixel, state, f"{name}.norm1") for place, pixel in pixels.items()}
            mixed = attention_by_hand(normed, rows, columns, state, f"{name}.attention", stage_heads, window, shift)
            for place in pixels:
                pixel = pixels[place] + mixed[place]
                hidden = linear(norm(pixel, state, f"{name}.norm2"), state, f"{name}.mlp.fc1")
                gelu = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
                pixels[place] = pixel + linear(gelu, state, f"{name}.mlp.fc2")
        outputs.append(
            (rows, columns, {place: norm(pixel, state, f"norms.{stage}") for place, pixel in pixels.items()})
        )
    return outputs


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        ((12, 24), {}),  # whole windows
        ((13, 9), {}),  # patches, windows and merging are padded
        ((9, 22), {"window": 4, "heads": (2, 4)}),
        ((7, 5), {"window": 5, "patch": 4}),  # a window larger than every grid, its shift stays
        ((6, 6), {"depths": (2, 2)}),  # a window as large as the grid
        ((1, 1), {}),
        ((3, 8), {"window": 1, "depths": (2, 1)}),  # half of it is nothing: no shift
        ((5, 9), {"window": 2, "patch": 1, "depths": (2, 1, 2), "heads": (1, 1, 4), "channels": 1}),
        ((11, 6), {"depths": (2,), "heads": (4,), "mlp_ratio": 1.5}),
    ],
    ids=str,
)
@torch.no_grad()
def test_swin_by_hand(size, changes):
    arguments = {"depths": (2, 3), "heads": (1, 2), "window": 3, "patch": 2} | changes
    model = shaken(small(**changes))
    images = draw(2, changes.get("channels", 3), *size)
    known = {name: arguments[name] for name in ("depths", "heads", "window", "patch")}
    expected = [swin_by_hand(image, model.state_dict(), **known) for image in images]
    outputs = model(images)
    assert len(outputs) == len(arguments["depths"])
    for stage, maps in enumerate(outputs):
        rows, columns, _ = expected[0][stage]
        assert maps.shape == (2, rows, columns, model.widths[stage])
        for n, row, column in product(range(2), range(rows), range(columns)):
            torch.testing.assert_close(maps[n, row, column], expected[n][stage][2][row, column], rtol=1e-8, atol=1e-8)


# --- transformers


def transformers_swin(width, depths, heads, window, patch):
    names = [f"stage{i + 1}" for i in range(len(depths))]
    config = SwinConfig(
        image_size=64, patch_size=patch, embed_dim=width, depths=list(depths), num_heads=list(heads),
        window_size=window, out_features=names, drop_path_rate=0.0, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = SwinBackbone(config).eval()
    for parameter in theirs.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data = (
            0.8 + 0.4 * torch.rand_like(parameter) if parameter.ndim == 1 else torch.randn_like(parameter) / fan_in**0.5
        )
    ours = Swin(width, depths, heads, window=window, patch=patch).eval()
    ours.load_state_dict(swin_from_transformers(theirs.state_dict()))
    return theirs, ours


@pytest.mark.parametrize(
    ("width", "depths", "heads", "window", "patch", "size"),
    [
        (8, (2, 3), (2, 4), 4, 2, (48, 64)),
        (8, (2, 2), (1, 2), 4, 2, (36, 45)),  # windows padded, and patches
        (8, (2, 2), (2, 2), 3, 4, (52, 36)),
        (8, (2, 2, 2), (2, 2, 4), 4, 2, (16, 24)),  # windows as large as the grid, and larger: a backbone keeps them
        (8, (2, 1), (2, 2), 7, 4, (5, 9)),
        (96, (2, 2), (3, 6), 7, 4, (112, 112)),
    ],
)
def test_outputs_and_gradients_are_transformers(width, depths, heads, window, patch, size):
    theirs, ours = transformers_swin(width, depths, heads, window, patch)
    images = draw(2, 3, *size, dtype=torch.float32)
    expected, outputs = theirs(images).feature_maps, ours(images)
    for stage, (their, our) in enumerate(zip(expected, outputs, strict=True)):
        torch.testing.assert_close(our, their.permute(0, 2, 3, 1), rtol=0, atol=1e-5)
        shares = draw(*our.shape, seed=stage, dtype=torch.float32) / our[0].numel()
        (our * shares).sum().backward(retain_graph=True)
        (their * shares.permute(0, 3, 1, 2)).sum().backward(retain_graph=True)
    gradients = swin_from_transformers({n: p.grad for n, p in theirs.named_parameters() if p.grad is not None})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=0, atol=1e-5, msg=name)
        assert gradients[name].abs().max() > 1e-5, name


@pytest.mark.parametrize(
    ("size", "depth", "same"),
    [
        ((24, 40), 2, True),
        ((8, 8), 1, True),  # one block has no shift that could be left out
        ((8, 8), 2, False),
        ((8, 32), 2, False),
        ((6, 12), 1, False),
    ],
)
@torch.no_grad()
def test_transformers_classifier_differs_where_the_window_is_no_smaller_than_the_grid(size, depth, same):
    """It leaves out the shift there, and shrinks the window: known, and not what backbones were published with."""
    config = SwinConfig(image_size=64, patch_size=2, embed_dim=8, depths=[depth], num_heads=[2], window_size=4)
    torch.manual_seed(0)
    theirs, ours = SwinModel(config, add_pooling_layer=False).eval(), Swin(8, (depth,), (2,), window=4, patch=2).eval()
    for parameter in (p for name, p in theirs.named_parameters() if "layernorm" not in name):
        parameter.data.normal_()
    ours.load_state_dict(swin_from_transformers(theirs.state_dict()))
    images = draw(1, 3, *size, dtype=torch.float32)
    found = ours(images)[0].flatten(1, 2)
    if min(size) < 8:  # the shrunken window does not fit its own table of biases
        with pytest.raises(RuntimeError):
            theirs(images)
        assert found.isfinite().all()
    else:
        apart = (theirs(images).last_hidden_state - found).abs().max()
        assert apart < 1e-5 if same else apart > 0.1


# --- windows, masks, offsets


@pytest.mark.parametrize(("rows", "columns", "window"), [(4, 6, 2), (3, 3, 3), (2, 5, 1), (8, 4, 4)])
def test_windows_are_squares_of_the_map_row_by_row(rows, columns, window):
    maps = draw(2, rows, columns, 3)
    windows, expected = cut_windows(maps, window), []
    for one, top, left in product(maps, range(0, rows, window), range(0, columns, window)):
        expected.append(torch.stack([one[top + r, left + c] for r, c in product(range(window), range(window))]))
    assert torch.equal(windows, torch.stack(expected))
    assert torch.equal(join_windows(windows, (rows, columns)), maps)


@pytest.mark.parametrize(("rows", "columns", "window"), [(8, 12, 4), (3, 3, 3), (6, 9, 3), (14, 7, 7), (2, 2, 2)])
def test_the_mask_has_the_published_regions(rows, columns, window):
    shift = window // 2
    numbers = torch.tensor(
        [
            [3 * region(r, rows, window, shift) + region(c, columns, window, shift) for c in range(columns)]
            for r in range(rows)
        ]
    )
    windows = cut_windows(numbers[None, :, :, None].double(), window)[..., 0]
    mask = shifted_mask((rows, columns), window, CPU)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, windows[:, :, None] == windows[:, None, :])


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_every_offset_has_an_entry_of_its_own(window):
    index, seen = relative_index(window, CPU), {}
    for (q, (r, c)), (k, (kr, kc)) in product(enumerate(product(range(window), repeat=2)), repeat=2):
        assert seen.setdefault((r - kr, c - kc), index[q, k].item()) == index[q, k]
    assert [seen[offset] for offset in sorted(seen)] == list(range((2 * window - 1) ** 2))


def test_a_block_tells_which_pixels_share_a_window():
    pixels = torch.arange(1.0, 16).view(1, 3, 5, 1)
    block = WindowBlock(4, 2, window=4, shifted=True)
    assert block.windows(pixels)[..., 0].int().tolist() == [
        [13, 14, 15, 0, 0, 0, 0, 0, 3, 4, 5, 0, 8, 9, 10, 0],
        [0, 0, 11, 12, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 6, 7],
    ]
    assert torch.equal(block.unwindow(block.windows(pixels), pixels), pixels)
    assert block.mask(pixels).shape == (2, 16, 16)
    assert WindowBlock(4, 2, window=4).mask(pixels) is None and WindowBlock(4, 2, 1, shifted=True).mask(pixels) is None


def test_the_tables_are_in_no_state_dict():
    model = small()
    model(draw(1, 3, 8, 8, dtype=torch.float32))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_what_was_first_seen_in_inference_mode_can_be_trained_on():
    model, images = small(), draw(1, 3, 20, 20, dtype=torch.float32)
    with torch.inference_mode():
        model(images)
    sum(maps.square().sum() for maps in model(images)).backward()
    assert model.stages[0].blocks[1].attention.bias_table.grad.abs().max() > 0


# --- attention


@pytest.mark.parametrize("masked", [False, True])
def test_the_fused_kernel_is_the_softmax_written_out(masked):
    attention, windows = shaken(WindowAttention(8, 2, 3)), draw(8, 9, 8)
    mask = shifted_mask((6, 6), 3, CPU) if masked else None  # four windows, two maps
    fused, none = attention(windows, mask)
    written, weights = attention(windows, mask, return_weights=True)
    assert none is None and weights.shape == (8, 2, 9, 9)
    torch.testing.assert_close(fused, written, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(weights.sum(-1), torch.ones(8, 2, 9).double())
    if masked:
        seen = mask.repeat(2, 1, 1)[:, None].expand_as(weights)
        assert (weights[~seen] == 0).all() and (weights[seen] > 0).all()
    gradients = [torch.autograd.grad(out.square().sum(), list(attention.parameters())) for out in (fused, written)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_in_half_precision_the_softmax_written_out_is_the_fused_one(dtype, masked):
    """With q k^T above 65504, the largest number of float16."""
    attention, windows = shaken(WindowAttention(64, 1, 2)).to(dtype), draw(4, 4, 64).to(dtype)
    attention.qkv.weight.data[:128] *= 20
    query, key, _ = attention.qkv(windows).double().chunk(3, dim=-1)
    assert (query @ key.mT).abs().max() > 65504
    mask = shifted_mask((4, 4), 2, CPU) if masked else None
    fused, (written, weights) = attention(windows, mask)[0], attention(windows, mask, return_weights=True)
    assert weights.dtype == written.dtype == dtype and weights.isfinite().all()
    scale = fused.abs().max().item()
    torch.testing.assert_close(written, fused, rtol=0, atol=8 * scale * torch.finfo(dtype).eps)


def test_a_mask_is_no_matter_of_degree():
    """Scores of hundreds do not look across the seam (subtracting 100 would)."""
    attention, windows, mask = shaken(WindowAttention(4, 1, 2)), draw(4, 4, 4), shifted_mask((4, 4), 2, CPU)
    attention.bias_table.data *= 1000
    output, weights = attention(windows, mask, return_weights=True)
    assert (weights[~mask[:, None]] == 0).all()
    torch.testing.assert_close(attention(windows, mask)[0], output)


def test_a_stage_returns_the_weights_of_its_blocks():
    stage, maps = shaken(Stage(8, 2, 3, stochastic_depth=[0, 0, 0])), draw(2, 5, 7, 8)
    output, weights = stage(maps, return_weights=True)
    torch.testing.assert_close(output, stage(maps))
    assert [w.shape for w in weights] == [(2 * 2 * 3, 2, 9, 9)] * 3
    assert (weights[0] > 0).all() and (weights[1] == 0).any() and (weights[2] > 0).all()


# --- biases for another window


@pytest.mark.parametrize(("old", "new"), [(7, 12), (7, 4), (2, 3), (1, 2), (12, 7)])
def test_a_resized_table_is_the_same_picture(old, new):
    table = draw((2 * old - 1) ** 2, 3)
    assert resize_bias_table(table, old) is table
    resized = resize_bias_table(table, new)
    size = 2 * new - 1
    assert resized.shape == (size**2, 3) and resized.dtype == table.dtype
    picture = table.T.reshape(3, 2 * old - 1, -1)
    for head in range(3):
        expected = F.interpolate(picture[None, head : head + 1], (size, size), mode="bicubic")[0, 0]
        torch.testing.assert_close(resized[:, head].view(size, size), expected)
    torch.testing.assert_close(resize_bias_table(table.flip(0), new), resized.flip(0))  # the middle stays the middle
    torch.testing.assert_close(resize_bias_table(torch.ones_like(table), new), torch.ones_like(resized))


# --- patches and merging


def test_four_pixels_are_merged_down_the_columns_first():
    merge, maps = PatchMerging(2), torch.arange(1.0, 13).view(1, 2, 3, 2)
    merge.norm = nn.Identity()
    merge.reduction = nn.Identity()
    assert merge(maps).int().tolist() == [[[[1, 2, 7, 8, 3, 4, 9, 10], [5, 6, 11, 12, 0, 0, 0, 0]]]]


@pytest.mark.parametrize(("size", "grid"), [((8, 8), (2, 2)), ((5, 9), (2, 3)), ((1, 4), (1, 1))])
def test_images_are_padded_to_whole_patches(size, grid):
    embed, images = PatchEmbedding(4, 6), draw(2, 3, *size, dtype=torch.float32)
    whole = torch.zeros(2, 3, 4 * grid[0], 4 * grid[1])
    whole[:, :, : size[0], : size[1]] = images
    assert embed(images).shape == (2, *grid, 6)
    torch.testing.assert_close(embed(images), embed(whole))


# --- the whole


@pytest.mark.parametrize(
    ("width", "depth", "heads", "window", "parameters"),
    [
        (96, 6, (3, 6, 12, 24), 7, 27_520_698),
        (96, 18, (3, 6, 12, 24), 7, 48_838_602),
        (128, 18, (4, 8, 16, 32), 12, 86_880_376),
        (128, 18, (4, 8, 16, 32), 7, 86_745_016),  # smaller tables: 376 heads in all have 529 - 169 entries less
    ],
)
def test_the_published_sizes(width, depth, heads, window, parameters):
    with torch.device("meta"):
        model = Swin(width, (2, 2, depth, 2), heads, window=window)
        shapes = [tuple(maps.shape) for maps in model(torch.empty(1, 3, 224, 200))]
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.widths == (width, 2 * width, 4 * width, 8 * width)
    assert shapes == [(1, 56, 50, width), (1, 28, 25, 2 * width), (1, 14, 13, 4 * width), (1, 7, 7, 8 * width)]


def test_what_the_blocks_of_a_swin_are_made_with():
    model = small(depths=(2, 1, 3), heads=(1, 2, 4), stochastic_depth=0.5, window=5, mlp_ratio=1.5)
    blocks = [block for stage in model.stages for block in stage.blocks]
    assert [block.drop.rate for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert [block.mlp.fc1.out_features for block in blocks] == [6, 6, 12, 24, 24, 24]
    assert [[block.shift for block in stage.blocks] for stage in model.stages] == [[0, 2], [0], [0, 2, 0]]
    assert (len(model.stages), len(model.merges), len(model.norms)) == (3, 2, 3)


def test_both_branches_of_a_block_can_be_left_out_for_a_whole_map():
    torch.manual_seed(0)
    block = WindowBlock(4, 2, 2, shifted=True, stochastic_depth=0.5)
    outcomes = block(draw(1, 3, 3, 4, dtype=torch.float32).expand(64, -1, -1, -1))[0]
    assert len(outcomes.unique(dim=0)) == 4


def test_the_parts_alone_make_the_whole():
    model, images = shaken(small()), draw(2, 3, 13, 10)
    maps = model.embed(images)
    assert maps.shape == (2, 7, 5, 4)
    outputs = []
    for stage, norms, merge in zip(model.stages, model.norms, [*model.merges, nn.Identity()]):
        maps = stage(maps)
        outputs.append(norms(maps))
        maps = merge(maps)
    for ours, expected in zip(model(images), outputs, strict=True):
        assert torch.equal(ours, expected)


@torch.no_grad()
def test_each_image_is_worked_on_alone():
    model, images = shaken(small()), draw(3, 3, 14, 11)
    for whole, *alone in zip(model(images), *(model(image[None]) for image in images)):
        torch.testing.assert_close(whole, torch.cat(alone))


def test_with_and_without_gradients_the_same():
    model, images = small(width=16, heads=(2, 4)).eval(), draw(2, 3, 40, 50, dtype=torch.float32)
    with torch.no_grad():
        plain = model(images)
    for one, other in zip(plain, model(images)):
        torch.testing.assert_close(one, other)


def test_the_backward_pass_reaches_every_parameter():
    model = shaken(small())
    sum((maps * draw(*maps.shape)).sum() for maps in model(draw(2, 3, 24, 36))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 1e-6, name
        if name.endswith("bias_table"):
            assert (parameter.grad.abs().amax(1) > 0).all(), name  # every offset occurs


def test_initial_weights():
    torch.manual_seed(0)
    for name, module in small(width=64, heads=(2, 4), window=7).named_modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
            assert module.bias is None or (module.bias == 0).all(), name
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all() and module.eps == 1e-5
        if isinstance(module, WindowAttention):
            assert module.bias_table.std().item() == pytest.approx(0.02, rel=0.2), name
    assert {module.eps for module in small(norm_eps=0.1).modules() if isinstance(module, nn.LayerNorm)} == {0.1}


def test_a_state_dict_carries_the_model():
    images = draw(1, 3, 9, 9, dtype=torch.float32)
    first, second = small().eval(), small().eval()
    assert not torch.equal(first(images)[0], second(images)[0])
    second.load_state_dict(first.state_dict())
    for one, other in zip(first(images), second(images), strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_an_empty_batch_and_lower_precision():
    model, images = small(width=16, heads=(2, 4)).eval(), draw(2, 3, 20, 20, dtype=torch.float32)
    assert [maps.shape for maps in model(images[:0])] == [(0, 10, 10, 16), (0, 5, 5, 32)]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(images)
    for half, low, whole in zip(model.to(torch.bfloat16)(images.bfloat16()), mixed, model.float()(images)):
        torch.testing.assert_close(half.float(), whole, rtol=0, atol=0.1)
        torch.testing.assert_close(low.float(), whole, rtol=0, atol=0.1)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: small(heads=(1,)), r"for each stage, given \(2, 3\) and \(1,\)"),
        (lambda: Swin(depths=(), heads=()), "for each stage, given"),
        (lambda: small(heads=3), r"for each stage, given \(2, 3\) and 3"),
        (lambda: small(depths=(2, 0)), r"depths\[1\] must be .* 1 or more, given 0"),
        (lambda: small(heads=(3, 2)), "width 4, heads 3"),
        (lambda: small(heads=(0, 2)), "heads must be .*given 0"),
        (lambda: small(window=0), "window must be .*given 0"),
        (lambda: small(window=3.5), r"window must be .*given 3\.5"),
        (lambda: small(patch=0), "patch must be .*given 0"),
        (lambda: small(channels=0), "channels must be .*given 0"),
        (lambda: small(width=0), "width must be .*given 0"),
        (lambda: small(stochastic_depth=1.0), r"\[0, 1\).* 1\.0"),
        (lambda: small(depths=(1, 1), stochastic_depth=-0.1), r"\[0, 1\).* -0\.1"),
        (lambda: WindowAttention(8, 3, 2), "width 8, heads 3"),
        (lambda: cut_windows(torch.ones(1, 4, 6, 2), 4), r"\(1, 4, 6, 2\), window 4"),
        (lambda: cut_windows(torch.ones(1, 4, 6, 2), 0), "window 0"),
        (lambda: resize_bias_table(torch.ones(16, 2), 3), r"169 for window 7\), this one has 16"),
        (lambda: resize_bias_table(torch.ones(170, 2), 3), "this one has 170"),
        (lambda: resize_bias_table(torch.ones(169, 2), 0), "window must be .*given 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("shape", [(1, 1, 8, 12), (3, 8, 12), (1, 1, 3, 8, 12), (1, 3, 0, 8), (1, 8, 12, 3)])
def test_images_that_do_not_fit_are_refused_before_any_work(shape):
    model = small()
    model.patch_embedding.projection.register_forward_pre_hook(lambda *_: pytest.fail("computed"))
    for call in (model, model.embed):
        with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
            call(torch.ones(shape))


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("shape", [(1, 4, 8, 12), (8, 12, 4), (1, 0, 8, 4)])
def test_maps_that_do_not_fit_are_refused_before_any_work(shape):
    for part in (PatchMerging(4), Stage(4, 2, 3, stochastic_depth=[0])):
        for module in part.modules():
            if isinstance(module, nn.LayerNorm):
                module.register_forward_pre_hook(lambda *_: pytest.fail("computed"))
        with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
            part(torch.ones(shape))


def test_positions_are_added_to_the_patches_if_asked_for():
    images = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    plain = Swin(8, (1, 1), (2, 2), window=3, patch=4).eval()
    placed = Swin(8, (1, 1), (2, 2), window=3, patch=4, positions=True).eval()
    placed.load_state_dict(plain.state_dict())  # nothing is learned of them
    added = placed.embed(images) - plain.embed(images)
    torch.testing.assert_close(added, sincos_positions((3, 5), 8).reshape(1, 3, 5, 8).expand(2, -1, -1, -1))
    assert not torch.allclose(placed(images)[-1], plain(images)[-1], atol=1e-2)
    with pytest.raises(ValueError, match="multiple of 4, given 6"):
        Swin(6, (1, 1), (2, 2), window=3, positions=True)
