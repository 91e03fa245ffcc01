"""LAVT against a second implementation with loops, padding, dead parameters, sizes, and that it learns to listen."""

import pytest
import torch
from helpers.slow_lavt import assert_same, draw, shaken, slow_decoder, slow_lavt
from torch import nn
from torch.nn import functional as F

from xattn_edu import create_model
from xattn_edu.measure.costs import count
from xattn_edu.models.lavt import LAVT, MaskDecoder
from xattn_edu.models.losses import mask_loss
from xattn_edu.models.masks import predicted_masks
from xattn_edu.models.pwam import PixelWordAttention, SentenceFusion
from xattn_edu.models.swin import Swin
from xattn_edu.shapes import check_shapes


class Words(nn.Module):
    """An encoder that looks words up, those of padding too: nothing but LAVT itself keeps padding out."""

    def __init__(self, width=6, vocabulary_size=30):
        super().__init__()
        self.width = width
        self.table = nn.Embedding(vocabulary_size, width)

    def forward(self, ids, mask):
        return self.table(ids)


def small(stages=4, **arguments):
    torch.manual_seed(0)
    swin = Swin(4, (2, 1, 1, 1)[:stages], (1, 2, 2, 4)[:stages], window=2, patch=2)
    return LAVT(swin, Words(), **arguments)


def example(batch=2, size=(18, 10), words=4):
    """Images and sentences; padding stands at the end, in the middle, or nowhere."""
    mask = torch.tensor([[True, True, False, True], [True] * 4, [True, True, True, False], [True, False, False, False]])
    ids = torch.randint(30, (batch, words), generator=torch.Generator().manual_seed(2))
    return draw(batch, 3, *size, seed=1), ids, mask[:batch, :words]


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_the_decoder_is_the_slow_one(stages):
    module = shaken(MaskDecoder([3 * 2**i for i in range(stages)], 5))
    maps = [draw(2, 9 // 2**i, 11 // 2**i, 3 * 2**i, seed=i).requires_grad_() for i in range(stages)]
    logits = module(maps)
    assert logits.shape == (2, 2, 9, 11)
    assert_same(module, logits, slow_decoder(module, maps), *maps)


@pytest.mark.parametrize("pwam", [True, False])
@pytest.mark.parametrize("language_pathway", [True, False])
def test_the_whole_is_the_slow_one(pwam, language_pathway):
    model = shaken(small(heads=(1, 2, 4, 1), pwam=pwam, language_pathway=language_pathway, decoder_width=8))
    inputs = example(1)
    assert_same(model, model(*inputs), slow_lavt(model, *inputs))


# --- what reads what


def test_a_stage_reads_the_one_before_with_the_words_in_it():
    model = shaken(small())
    images, ids, mask = example()
    stages = model.stages(images, model.language(ids, mask), mask)
    swin = model.image_encoder
    torch.testing.assert_close(stages[0].vision, swin.stages[0](swin.embed(images)))
    for i, stage in enumerate(stages):
        if i:
            torch.testing.assert_close(stage.vision, swin.stages[i](swin.merges[i - 1](stages[i - 1].onward)))
        torch.testing.assert_close(stage.onward, model.pathways[i](stage.vision, stage.fused))
    others = model.stages(images, model.language(ids.flip(0), mask), mask)
    heard = [(one.vision - other.vision).abs().max() > 1e-4 for one, other in zip(stages, others)]
    assert heard == [False, True, True, True]
    unheard = shaken(small(language_pathway=False))
    one, other = (unheard.stages(images, unheard.language(some, mask), mask) for some in (ids, ids.flip(0)))
    assert all(torch.equal(a.vision, b.vision) and torch.equal(a.onward, a.vision) for a, b in zip(one, other))
    assert (one[-1].fused - other[-1].fused).abs().max() > 1e-4


def test_the_last_gate_is_there_and_idle():
    model, inputs = shaken(small()), example()
    expected = model(*inputs)
    nn.init.ones_(model.pathways[-1].gate[0].weight)
    assert torch.equal(model(*inputs), expected)
    nn.init.ones_(model.pathways[-2].gate[0].weight)
    assert not torch.equal(model(*inputs), expected)


def test_biases_inside_the_attention_have_no_effect():
    model, (images, ids, mask) = shaken(small(heads=2)), example()
    expected = model(images, ids, mask)
    direction = draw(*expected.shape, seed=3)
    gradients = dict(zip(dict(model.named_parameters()), torch.autograd.grad(
        (expected * direction).sum(), [*model.parameters()], allow_unused=True
    )))  # fmt: skip
    for number, fusion in enumerate(model.fusions):
        for part in ("query", "key", "value", "language"):
            gradient = gradients[f"fusions.{number}.{part}.bias"]
            assert gradient.abs().max() < 1e-9 * gradients[f"fusions.{number}.{part}.weight"].abs().max()
            nn.init.normal_(getattr(fusion, part).bias)
        for part in ("vision", "output"):
            assert gradients[f"fusions.{number}.{part}.bias"].abs().max() > 1e-6
    torch.testing.assert_close(model(images, ids, mask), expected)


def test_every_parameter_but_those_gets_a_gradient():
    for pwam in (True, False):
        model, inputs = small(heads=2, pwam=pwam).double(), example(4)
        mask_loss(model(*inputs), torch.randint(2, (4, 18, 10))).backward()
        idle = {n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12}
        gate = {f"pathways.3.gate.{layer}.weight" for layer in (0, 2)}
        parts = ("query", "key", "value", "language") if pwam else ()
        assert idle == gate | {f"fusions.{i}.{part}.bias" for i in range(4) for part in parts}


# --- padding


@pytest.mark.parametrize("pwam", [True, False])
def test_padding_changes_nothing(pwam):
    model, (images, ids, mask) = shaken(small(pwam=pwam)), example(4)
    expected = model(images, ids, mask)
    torch.testing.assert_close(model(images, torch.where(mask, ids, 29 - ids), mask), expected)
    torch.testing.assert_close(model(images, F.pad(ids, (2, 3), value=7), F.pad(mask, (2, 3))), expected)
    torch.testing.assert_close(model(images[3:], ids[3:, :1], mask[3:, :1]), expected[3:])


@pytest.mark.parametrize("pwam", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sentence_of_padding_alone_stays_finite(pwam, dtype):
    model, (images, ids, mask) = small(pwam=pwam).to(dtype).eval(), example()
    mask[0] = False
    images = images.to(dtype).requires_grad_()
    logits = model(images, ids, mask)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert images.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(model(images, torch.where(mask, ids, 29 - ids), mask), logits)


# --- sizes


@pytest.mark.parametrize("size", [(32, 32), (17, 1), (5, 40), (37, 50)])
@pytest.mark.parametrize("pwam", [True, False])
def test_logits_for_every_pixel_of_any_size_and_the_attention_of_each_stage(size, pwam):
    model, (images, ids, mask) = small(pwam=pwam).eval(), example(size=size)
    images = images.float()
    logits, weights = model(images, ids, mask, return_weights=True)
    assert logits.shape == (2, 2, *size)
    assert torch.equal(logits, model(images, ids, mask))
    grids = [maps.shape[1:3] for maps in model.image_encoder(images)]
    assert [tuple(layer.shape) for layer in weights] == [(2, 1, *grid, 4) for grid in grids]
    for layer in weights:
        torch.testing.assert_close(layer.sum(dim=-1), torch.ones(layer.shape[:-1]))
        assert (layer.movedim(-1, 1)[~mask] == 0).all()


def test_the_numbers_of_heads_reach_their_stages():
    _, weights = small(heads=(1, 2, 4, 8)).double()(*example(), return_weights=True)
    assert [layer.shape[1] for layer in weights] == [1, 2, 4, 8]


@pytest.mark.parametrize("pwam", [True, False])
def test_half_precision_runs(pwam):
    model, (images, ids, mask) = small(pwam=pwam).bfloat16(), example()
    logits, weights = model(images.bfloat16(), ids, mask, return_weights=True)
    assert {tensor.dtype for tensor in (logits, *weights)} == {torch.bfloat16}
    assert logits.isfinite().all()


@pytest.mark.slow
def test_it_learns_to_listen():
    """Left or right half: only the word tells which."""
    model = small(stages=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    images = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    for step in range(80):
        side = torch.randint(2, (16,), generator=torch.Generator().manual_seed(step))
        ids = torch.stack([torch.full_like(side, 2), 5 + side, torch.full_like(side, 3)], dim=1)
        masks = torch.zeros(16, 16, 16, dtype=torch.int64)
        masks[side == 0, :, :8] = 1
        masks[side == 1, :, 8:] = 1
        logits = model(images, ids, torch.ones_like(ids, dtype=torch.bool))
        mask_loss(logits, masks).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (predicted_masks(logits) == masks.bool()).float().mean() > 0.9


@pytest.mark.usefixtures("either_way")
def test_one_pixel_is_refused_with_the_smallest_size():
    module = PixelWordAttention(8, 6)
    with pytest.raises(ValueError, match=r"needs two or more, given maps \(2, 1, 1, 8\)"):
        module(torch.ones(2, 1, 1, 8), torch.ones(2, 4, 6), torch.ones(2, 4, dtype=torch.bool))
    model, (images, ids, mask) = small().double(), example(size=(16, 16))  # patch 2, four stages: 16 x 16 are one pixel
    model.language.table.weight.data.fill_(torch.nan)
    model.image_encoder.embed = None  # neither is reached
    for run in (lambda: model(images, ids, mask), lambda: model.stages(images, draw(2, 4, 6), mask)):
        with pytest.raises(ValueError, match="one pixel of 16 x 16.* must be 16 x 17 or larger, given 16 x 16$"):
            run()
    assert small(pwam=False).double()(images, ids, mask).shape == (2, 2, 16, 16)
    for size in ((16, 17), (17, 1)):
        small().double()(*example(size=size))


def test_bad_input_is_refused_before_any_work():
    swin = Swin(8, (1, 1), (1, 1), window=2)
    with pytest.raises(ValueError, match="width 8, heads 3"):
        PixelWordAttention(8, 6, heads=3)
    with pytest.raises(ValueError, match="width 8, heads 0"):
        LAVT(swin, Words(), heads=0)
    with pytest.raises(ValueError, match=r"one for each of 2 stages, given \(1, 2, 4\)"):
        LAVT(swin, Words(), heads=(1, 2, 4))
    with pytest.raises(ValueError, match=r"two stages or more, given the widths \(8,\)"):
        LAVT(Swin(8, (1,), (1,)), Words())
    model, (images, ids, mask) = small().double(), example()
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


# --- the published sizes

SIZES = {  # Swin, PWAM of each stage, gates, decoder
    "tiny": (27_520_698, (184_896, 443_520, 1_181_952, 3_543_552), 1_566_720, 11_617_538),
    "small": (48_838_602, (184_896, 443_520, 1_181_952, 3_543_552), 1_566_720, 11_617_538),
    "base": (86_880_376, (262_912, 656_896, 1_838_080, 5_773_312), 2_785_280, 20_651_010),
}
TOTALS = {"tiny": 46_058_876, "small": 67_376_780, "base": 118_847_866}


@pytest.mark.parametrize("size", SIZES)
def test_parameters_by_part(size):
    with torch.device("meta"):
        model = create_model(f"lavt_swin_{size}", language=Words(768))
    parts = (model.image_encoder, *model.fusions, model.pathways, model.decoder)
    swin, *fusions, gates, decoder = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert (swin, tuple(fusions), gates, decoder) == SIZES[size]
    assert swin + sum(fusions) + gates + decoder == TOTALS[size]
    names = ("image_encoder.", "fusions.", "pathways.", "decoder.", "language.")
    assert all(name.startswith(names) for name in model.state_dict())


@pytest.mark.parametrize(
    ("size", "total", "parts"),
    [
        ("tiny", 87.9, {"decoder": 59.7, "language": 1.7}),
        ("base", 199.0, {"decoder": 106.2, "fusions": 4.0, "pathways": 1.9, "language": 1.7}),
    ],
)
def test_multiply_accumulates_at_480_with_20_words(size, total, parts):
    with torch.device("meta"):
        model = create_model(f"lavt_swin_{size}")
    ids = torch.zeros(1, 20, dtype=torch.int64)
    costs = count(model, torch.empty(1, 3, 480, 480), ids, ids == 0)
    assert costs.macs / 1e9 == pytest.approx(total, abs=0.05)
    assert {name: round(costs.parts[name].macs / 1e9, 1) for name in parts} == parts
    if size == "base":
        backbone = sum(costs.parts[name].macs for name in ("image_encoder", "fusions", "pathways"))
        assert backbone / 1e9 == pytest.approx(91.1, abs=0.05)


def test_what_create_model_passes_on():
    language = Words()
    model = create_model(
        "lavt_swin_tiny", language=language, width=8, depths=(1, 3), heads=(1, 2), window=3, patch=2, channels=1,
        stochastic_depth=0.3, word_heads=(2, 4), pwam=True, language_pathway=False, decoder_width=12,
    )  # fmt: skip
    block = model.image_encoder.stages[1].blocks[-1]
    assert model.language is language and not model.pathways
    assert (block.window, block.drop.rate, block.attention.heads) == (3, pytest.approx(0.3), 2)
    assert [fusion.heads for fusion in model.fusions] == [2, 4]
    assert model.decoder.logits.in_channels == 12
    assert model.image_encoder.patch_embedding.projection.weight.shape == (8, 1, 2, 2)
    assert isinstance(create_model("lavt_swin_tiny", language=language, pwam=False).fusions[0], SentenceFusion)


def test_the_default_language_encoder_is_bert_base():
    with torch.device("meta"):
        config = create_model("lavt_swin_tiny").language.bert.config
    found = (config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads)
    assert (*found, config.intermediate_size, config.max_position_embeddings) == (30522, 768, 12, 12, 3072, 512)
