"""What models with masks share: resizing, a convolution, logits to masks, and which words are refused."""

import pytest
import torch
from torch import nn

from xattn_edu.models.masks import ConvNormReLU, check_words, predicted_masks, resize


def test_corners_stay_on_corners():
    """From 2 to 4 pixels: with corners at the corners' edges the second pixel would be 0.75, not 1."""
    maps = torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]])
    row = torch.arange(4.0)
    torch.testing.assert_close(resize(maps, (4, 4)), (2 * row[:, None] + row)[None, None])


def test_a_pixel_is_the_referents_if_that_logit_is_larger():
    masks = torch.randint(2, (2, 6, 6), generator=torch.Generator().manual_seed(2))
    logits = 60.0 * torch.stack([1 - masks, masks], dim=1)
    assert torch.equal(predicted_masks(logits), masks.bool())
    assert not predicted_masks(torch.zeros(1, 2, 3, 3)).any()  # neither is larger


def test_convolution_keeps_the_grid_and_has_no_bias():
    layer = ConvNormReLU(3, 8)
    assert layer(torch.randn(2, 3, 5, 7)).shape == (2, 8, 5, 7)
    assert [name for name, _ in layer.named_parameters()] == ["0.weight", "1.weight", "1.bias"]
    assert isinstance(layer[2], nn.ReLU)
    maps = torch.randn(2, 3, 5, 7)
    padded = nn.functional.pad(maps, (1, 1, 1, 1))  # by zeros
    torch.testing.assert_close(layer[0](maps), nn.functional.conv2d(padded, layer[0].weight))


def test_words_that_do_not_fit_are_refused():
    images, ids = torch.zeros(2, 3, 8, 8), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="each image needs one sentence"):
        check_words(images, ids[:1], torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="each image needs one sentence"):
        check_words(images, ids, torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"mask\.bool"):
        check_words(images, ids, torch.ones(2, 4))
