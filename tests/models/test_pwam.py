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
