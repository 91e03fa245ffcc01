"""Parts that the models of referring segmentation share: resizing maps, a convolution, logits to masks, a check.

Logits of a mask are (batch, 2, height, width): channel 0 is the background, channel 1 the referent, which is the thing
that the sentence names. The losses are in `losses`.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.shapes import shaped


@shaped
def resize(
    maps: Float[Tensor, "batch channel height width"], size: tuple[int, int]
) -> Float[Tensor, "batch channel new_height new_width"]:
    """Resize maps, bilinear, with corners on corners (`align_corners=True`, as in LAVT's decoder)."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)


class ConvNormReLU(nn.Sequential):
    """3x3 convolution without bias (the norm would subtract it), BatchNorm, ReLU: (batch, channel, height, width)."""

    def __init__(self, channels: int, width: int):
        super().__init__(
            nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )


@shaped
def predicted_masks(logits: Float[Tensor, "batch 2 height width"]) -> Bool[Tensor, "batch height width"]:
    """True for the pixels where the referent's logit is larger than the background's."""
    return logits[:, 1] > logits[:, 0]


def check_words(images: Tensor, ids: Tensor, word_mask: Tensor) -> None:
    """Check that there is one sentence for each image, and one entry of the mask for each word.

    Raises ValueError for other shapes, TypeError for a mask that is not boolean.
    """
    if ids.ndim != 2 or ids.shape[0] != images.shape[0] or word_mask.shape != ids.shape:
        raise ValueError(
            f"each image needs one sentence: expected ids and word_mask of shape ({images.shape[0]}, word), given "
            f"{tuple(ids.shape)} and {tuple(word_mask.shape)}"
        )
    check_word_mask(word_mask)


def check_word_mask(word_mask: Tensor) -> None:
    """Raises TypeError for a mask that is not boolean: ones and zeros, or numbers to be added to scores."""
    if word_mask.dtype != torch.bool:
        raise TypeError(
            f"word_mask must be boolean, True for words and False for padding, given {word_mask.dtype}: write "
            "mask.bool() for ones and zeros, mask == 0 for numbers that are added to scores, such as 0 and -10000"
        )
