"""What models that answer with a mask share: resizing maps, a convolution with its norm, and the losses.

Logits of a mask are (batch, 2, height, width): channel 0 says background, channel 1 the thing that was named.
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
    """Maps of another size, bilinear between pixels, corners on corners (`align_corners`, as LAVT's decoder has it)."""
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
    """True where the referent's logit is the larger one."""
    return logits[:, 1] > logits[:, 0]


def check_words(images: Tensor, ids: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless there is one sentence an image, and one mask entry a word."""
    if ids.ndim != 2 or len(ids) != len(images) or mask.shape != ids.shape:
        raise ValueError(
            f"one sentence an image: expected ids and mask ({len(images)}, word), given {tuple(ids.shape)} and "
            f"{tuple(mask.shape)}"
        )
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, True where a word counts, given {mask.dtype}: write mask.bool()")
