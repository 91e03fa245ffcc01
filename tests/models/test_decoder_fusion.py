"""The decoder-fusion model: what reads what, padding, sizes, and that it learns to listen."""

import pytest
import torch
from helpers.random_weights import perturbed
from torch import nn
from torch.nn import functional as F

from xattn_edu import create_model
from xattn_edu.models.decoder_fusion import DecoderFusion, MaskHead, ScaleFusion
from xattn_edu.models.language import SmallBert
from xattn_edu.models.losses import mask_loss
from xattn_edu.models.masks import predicted_masks
from xattn_edu.models.positions import sincos_positions
from xattn_edu.models.swin import Swin
from xattn_edu.shapes import check_shapes


def small(**arguments) -> DecoderFusion:
    torch.manual_seed(0)
    swin = Swin(8, (1, 1, 1, 1), (1, 2, 2, 2), window=2, patch=2)
    return DecoderFusion(swin, SmallBert(30, 16, depth=1, heads=2), 16, depth=2, heads=2, **arguments).eval()


def example(batch: int = 2, size: tuple[int, int] = (32, 32), words: int = 5):
    torch.manual_seed(1)
    mask = torch.arange(words) < torch.tensor([words, words - 2, 3, 4])[:batch, None]
    return torch.randn(batch, 3, *size), torch.randint(5, 30, (batch, words)) * mask, mask


@pytest.mark.parametrize("size", [(32, 32), (48, 32), (37, 50), (16, 16)])
def test_logits_for_every_pixel_and_attention_on_the_coarse_grid(size):
    model, (images, ids, mask) = small(), example(size=size)
    logits, maps = model(images, ids, mask, return_weights=True)
    assert logits.shape == (2, 2, *size)
    torch.testing.assert_close(logits, model(images, ids, mask))
    grid = model.image_encoder(images)[-2].shape[1:3]
    assert [tuple(layer.shape) for layer in maps] == [(2, 2, *grid, 5)] * 2
    for layer in maps:
        torch.testing.assert_close(layer.sum(-1), torch.ones(2, 2, *grid))
        assert (layer[1][..., ~mask[1]] == 0).all()


def convolved(layer, maps):
    """3 x 3 convolution, BatchNorm with its stored mean and variance, ReLU."""
    convolution, norm, _ = layer
    maps = F.conv2d(maps, convolution.weight, padding=1)
    mean, variance, weight, bias = (
        x[:, None, None] for x in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return ((maps - mean) / (variance + 1e-5).sqrt() * weight + bias).relu()


def resized(maps, size):
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)


def fed_forward(layer, tokens):
    return layer.feed_forward.fc2(layer.feed_forward.fc1(tokens).relu())


def written_out(model, images, ids, mask):
    """The model in eval mode, step by step, with pre-norm residuals."""
    stages, only_words = model.image_encoder(images)[1:], mask[:, None]
    grid = stages[1].shape[1:3]
    projected = [project(maps).permute(0, 3, 1, 2) for project, maps in zip(model.scale_fusion.projections, stages)]
    maps = convolved(model.scale_fusion.mix, sum(resized(one, grid) for one in projected))
    words = model.word_projection(model.language(ids, mask))
    for layer in model.encoder.layers:
        words = words + layer.attention(layer.residual1.norm(words), mask=only_words)
        words = words + fed_forward(layer, layer.residual2.norm(words))
    words = model.encoder.norm(words)
    tokens = maps.flatten(2).transpose(1, 2) + sincos_positions((grid[0], grid[1]), maps.shape[1])
    for layer in model.decoder:
        tokens = tokens + layer.attention(layer.residual1.norm(tokens))
        tokens = tokens + layer.cross_attention(layer.residual2.norm(tokens), words, only_words)
        tokens = tokens + fed_forward(layer, layer.residual3.norm(tokens))
    maps = model.norm(tokens).transpose(1, 2).unflatten(2, grid)
    for layer in model.head.convolutions:
        maps = convolved(layer, maps)
        maps = resized(maps, (2 * maps.shape[2], 2 * maps.shape[3]))
    return resized(model.head.logits(maps), images.shape[2:])


@pytest.mark.parametrize("size", [(32, 32), (37, 50)])
def test_the_model_is_its_steps_written_out(size):
    model, (images, ids, mask) = perturbed(small()), example(size=size)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.5, 0.5), norm.running_var.uniform_(0.5, 2)
    torch.testing.assert_close(model(images, ids, mask), written_out(model, images, ids, mask), rtol=1e-4, atol=1e-4)


def test_the_feed_forward_layers_are_four_times_as_wide_by_default():
    for hidden, expected in ((None, 64), (24, 24)):
        model = small(hidden=hidden)
        assert {layer.feed_forward.fc1.out_features for layer in [*model.encoder.layers, *model.decoder]} == {expected}


def test_padding_changes_nothing():
    model, (images, ids, mask) = small(), example(4)
    expected = model(images, ids, mask)
    longer = F.pad(ids, (0, 3), value=7), F.pad(mask, (0, 3))
    torch.testing.assert_close(model(images, *longer), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(images[1:2], ids[1:2, :3], mask[1:2, :3]), expected[1:2], atol=1e-5, rtol=1e-5)


def test_the_image_encoder_never_hears_the_words_and_the_decoder_does():
    model, (images, ids, mask) = small(), example()
    seen = []
    model.image_encoder.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output)))
    one, other = model(images, ids, mask), model(images, ids.flip(0), mask.flip(0))
    (inputs, maps), (_, again) = seen
    assert [value.shape for value in inputs] == [images.shape]
    assert all(torch.equal(a, b) for a, b in zip(maps, again))
    assert (one - other).abs().max() > 1e-4


def test_words_reach_the_image_through_cross_attention_alone():
    model, (images, ids, mask) = small(), example()
    for layer in model.decoder:
        nn.init.zeros_(layer.cross_attention.value.weight)
    torch.testing.assert_close(model(images, ids, mask), model(images, ids.flip(0), mask), atol=1e-6, rtol=0)


def test_image_tokens_see_each_other_without_a_causal_mask():
    """A change in the last corner reaches the first one."""
    model, (images, ids, mask) = small(), example(1, size=(64, 64))
    maps = model.scale_fusion(model.image_encoder(images)).detach()
    changed = maps.clone()
    changed[..., -1, -1] += torch.randn(16)  # not the same for all channels: LayerNorm would take that out
    seen = []
    model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][..., 0, 0]))
    for version in (maps, changed):
        model.scale_fusion.forward = lambda stages, version=version: version
        model(images, ids, mask)
    assert (seen[0] - seen[1]).abs().max() > 1e-4


def test_places_differ_for_the_decoder():
    """With the same image everywhere, positions alone tell one place from another."""
    model, (_, ids, mask) = small(), example()
    model.scale_fusion.forward = lambda stages: torch.ones(2, 16, 4, 4)
    seen = []
    model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(torch.zeros(2, 3, 32, 32), ids, mask)
    assert seen[0].flatten(2).std(dim=2).mean() > 1e-2


def test_the_first_half_of_a_position_codes_the_row_and_the_second_the_column():
    """On a grid of 2 x 3, which is not the grid of 3 x 2."""
    model, (images, ids, mask) = small(), example(1)
    model.scale_fusion.forward = lambda stages: torch.zeros(1, 16, 2, 3)
    seen = []
    model.decoder[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(images, ids, mask)
    waves = [torch.tensor([place / 100 ** (i / 2) for i in range(4)]) for place in range(3)]  # 10000^(i / 4)
    for token, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]):
        expected = torch.cat([waves[row].sin(), waves[row].cos(), waves[column].sin(), waves[column].cos()])
        torch.testing.assert_close(seen[0][0, token], expected)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_transformer_has_the_dropout_it_was_given(dropout):
    model = small(dropout=dropout)
    for layers, parts in ((model.encoder.layers, 2), (model.decoder, 3)):
        rates = [module.p for module in layers.modules() if type(module) is nn.Dropout]
        assert rates == [dropout] * parts * len(layers)
    assert {module.p for module in small().modules() if type(module) is nn.Dropout} == {0.0}


def test_scales_are_fused_on_the_grid_of_the_last_but_one():
    torch.manual_seed(3)
    fusion = ScaleFusion((4, 8, 16, 32), 6).eval()
    stages = [torch.randn(2, 16 // 2**i, 16 // 2**i, 4 * 2**i) for i in range(4)]
    assert fusion(stages).shape == (2, 6, 4, 4)
    for number, counts in enumerate((False, True, True, True)):
        changed = [stage + (number == place) for place, stage in enumerate(stages)]
        assert torch.equal(fusion(changed), fusion(stages)) is not counts


def test_the_head_doubles_the_grid_three_times():
    assert MaskHead(16)(torch.randn(1, 16, 3, 5)).shape == (1, 2, 24, 40)


def test_every_parameter_but_what_cannot_matter_gets_a_gradient():
    model, (images, ids, mask) = small().train(), example()
    mask_loss(model(images, ids, mask), torch.randint(2, (2, 32, 32))).backward()
    # A bias of keys adds the same to all scores of a query (softmax forgets it); norms of stages that are not fused.
    spared = ("key.bias", "image_encoder.norms.0")
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and parameter.grad.abs().max() > 1e-9
        assert reached or any(part in name for part in spared), name


@pytest.mark.slow
def test_it_learns_to_listen():
    """Left or right half: only the word tells which."""
    model = small().train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    images = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    for step in range(120):
        side = torch.randint(2, (16,), generator=torch.Generator().manual_seed(step))
        ids = torch.stack([torch.full_like(side, 2), 5 + side, torch.full_like(side, 3)], dim=1)
        masks = torch.zeros(16, 16, 16, dtype=torch.int64)
        masks[side == 0, :, :8] = 1
        masks[side == 1, :, 8:] = 1
        logits = model(images, ids, torch.ones_like(ids, dtype=torch.bool))
        mask_loss(logits, masks).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (predicted_masks(logits) == masks.bool()).float().mean() > 0.95


def test_bad_input_is_refused_before_any_work():
    swin, language = Swin(8, (1, 1), (1, 1), window=2), SmallBert(30, 16, depth=1, heads=2)
    with pytest.raises(ValueError, match="three stages are fused, but the image encoder has 2"):
        DecoderFusion(swin, language, 16, heads=2)
    with pytest.raises(ValueError, match="multiple of 8, given 20"):
        DecoderFusion(Swin(8, (1, 1, 1), (1, 1, 1), window=2), language, 20, heads=2)
    model, (images, ids, mask) = small(), example()
    check_shapes(False)  # the library's own words, which a user without shape checks reads
    try:
        with pytest.raises(ValueError, match="each image needs one sentence"):
            model(images, ids[:1], mask[:1])
        with pytest.raises(TypeError, match="boolean"):
            model(images, ids, mask.long())
        with pytest.raises(ValueError, match=r"images must be \(batch, 3, height, width\)"):
            model(images[:, :1], ids, mask)
    finally:
        check_shapes(True)


def test_full_size():
    """Swin-B at 480 pixels and BERT-base, on torch's meta device: shapes without numbers."""
    with torch.device("meta"):
        swin = create_model("swin_base_patch4_window12_384")
        model = DecoderFusion(swin, SmallBert(30522, 768, depth=12, heads=12, length=512)).eval()
        images, ids = torch.zeros(1, 3, 480, 480), torch.zeros(1, 20, dtype=torch.int64)
        mask = torch.ones(1, 20, dtype=torch.bool)
        logits, maps = model(images, ids, mask, return_weights=True)
    assert logits.shape == (1, 2, 480, 480)
    assert [tuple(layer.shape) for layer in maps] == [(1, 8, 30, 30, 20)] * 2
    parts = {"swin": swin, "bert": model.language}
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert parameters == {"swin": 86_880_376, "bert": 108_891_648}
