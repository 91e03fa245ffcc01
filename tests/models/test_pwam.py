"""PWAM, the sentence in its place and the language pathway, against a second implementation with loops."""

import pytest
import torch
from helpers.slow_lavt import assert_same, draw, shaken, slow_norm, slow_pathway, slow_pwam, slow_sentence
from torch.nn import functional as F

from xattn_edu.models.pwam import LanguagePathway, PixelWordAttention, SentenceFusion, instance_norm

# Padding in the middle, none, and nothing but padding.
MASK = torch.tensor([[True, True, False, True], [True] * 4, [False] * 4])


def test_instance_norm_is_the_slow_one():
    pixels = 3 + 2 * draw(2, 5, 4)
    torch.testing.assert_close(instance_norm(pixels)[:, :, None], slow_norm(pixels[:, :, None]))


@pytest.mark.parametrize(("heads", "grid"), [(1, (3, 2)), (2, (1, 4)), (4, (2, 1))])
def test_pwam_is_the_slow_one(heads, grid):
    module = shaken(PixelWordAttention(8, 6, heads))
    maps, words, mask = draw(3, *grid, 8).requires_grad_(), draw(3, 4, 6, seed=1).requires_grad_(), MASK
    fused, weights = module(maps, words, mask, return_weights=True)
    expected, expected_weights = slow_pwam(module, maps, words, mask)
    torch.testing.assert_close(weights, expected_weights)
    assert torch.equal(module(maps, words, mask), fused)
    assert_same(module, fused, expected, maps, words)


def test_the_sentence_in_pwams_place_is_the_slow_one():
    module = shaken(SentenceFusion(8, 6))
    maps, words, mask = draw(3, 2, 3, 8).requires_grad_(), draw(3, 4, 6, seed=1).requires_grad_(), MASK
    fused, weights = module(maps, words, mask, return_weights=True)
    assert weights.shape == (3, 1, 2, 3, 4)
    assert torch.equal(weights[0, 0, 1, 2], torch.tensor([1, 1, 0, 1]).double() / 3)
    assert torch.equal(weights[2], torch.zeros(1, 2, 3, 4))
    assert torch.equal(module(maps, words, mask), fused)
    assert_same(module, fused, slow_sentence(module, maps, words, mask)[0], maps, words)


def test_the_pathway_is_the_slow_one():
    module = shaken(LanguagePathway(8))
    maps, fused = draw(2, 2, 3, 8).requires_grad_(), draw(2, 2, 3, 8, seed=1).requires_grad_()
    assert_same(module, module(maps, fused), slow_pathway(module, maps, fused), maps, fused)


def test_without_words_pwam_says_the_same_of_every_pixel():
    """However large what stands in padding's place: its values are 0, not only the same for all pixels."""
    module, maps = shaken(PixelWordAttention(8, 6)), draw(2, 3, 4, 8)
    fused = module(maps, 1e12 * draw(2, 5, 6), torch.zeros(2, 5, dtype=torch.bool))
    torch.testing.assert_close(fused, F.gelu(module.output.bias).expand_as(fused))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_large_scores_stay_finite(dtype):
    module = shaken(PixelWordAttention(16, 6)).to(dtype)
    maps, words, mask = draw(3, 2, 3, 16).to(dtype), 8000 * draw(3, 4, 6, seed=1).to(dtype), MASK
    _, weights = module(maps, words, mask, return_weights=True)
    query, key = instance_norm(module.query(maps.flatten(1, 2))).double(), module.key(words).double()
    if dtype == torch.float16:
        assert (query @ key.mT).abs().max() > 65504
    lowest = torch.finfo(torch.float64).min
    expected = (query @ key.mT / 4).masked_fill(~mask[:, None], lowest).softmax(-1).view(weights.shape)
    torch.testing.assert_close(weights.double(), expected, rtol=0, atol=2 * torch.finfo(dtype).eps)


def test_however_low_the_scores_are_padding_has_no_weight():
    module = shaken(PixelWordAttention(8, 6))
    words = torch.cat([-1e6 * torch.ones(1, 1, 6), draw(1, 3, 6)], dim=1)  # the only word, then padding
    for sign in (1, -1):
        weights = module(draw(1, 2, 3, 8), sign * words, torch.tensor([[True] + [False] * 3]), return_weights=True)[1]
        assert torch.equal(weights[..., 0], torch.ones(1, 1, 2, 3).to(weights))


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("module", [PixelWordAttention(8, 6), SentenceFusion(8, 6)], ids=["PWAM", "sentence"])
def test_a_mask_of_numbers_is_refused(module):
    """Ones and zeros, and numbers that are added to scores: they mean the opposite of each other."""
    for layer in module.modules():
        if layer is not module:
            layer.register_forward_pre_hook(lambda *_: pytest.fail("computed"))
    for numbers in ([[1, 1, 0]], [[0, 0, -10000]], [[0.0, 0.0, -1e4]]):
        with pytest.raises(TypeError, match="mask"):
            module(torch.zeros(1, 2, 3, 8), torch.zeros(1, 3, 6), torch.tensor(numbers))
