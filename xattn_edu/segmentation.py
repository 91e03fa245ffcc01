"""What models that answer with a mask share: resizing maps, a convolution with its norm, and the losses.

Logits of a mask are (batch, 2, height, width): channel 0 says background, channel 1 the thing that was named.
"""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.shapes import shaped

CLASS_WEIGHTS = (0.9, 1.1)  # background, referent: Yang et al., "LAVT" (2022), as published


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
def mask_loss(
    logits: Float[Tensor, "batch 2 height width"], masks: Integer[Tensor, "batch height width"]
) -> Float[Tensor, ""]:
    """Cross-entropy of each pixel, the referent's pixels weighing 1.1 and the background's 0.9, over the sum of weights.

    Source: LAVT's published training. `masks` holds 0 (background) and 1.
    """
    return F.cross_entropy(logits, masks.long(), weight=logits.new_tensor(CLASS_WEIGHTS))


@shaped
def dice_loss(
    logits: Float[Tensor, "batch 2 height width"], masks: Integer[Tensor, "batch height width"]
) -> Float[Tensor, ""]:
    """1 minus the Dice coefficient 2 sum(p t) / sum(p^2 + t) of each image and each of the two classes, averaged.

    p is the softmax, t the mask; a small referent weighs as much as a large one. Source: Milletari et al., "V-Net"
    (2016); later releases of LAVT train with it.
    """
    p = logits.softmax(dim=1).flatten(2)
    t = F.one_hot(masks.long().flatten(1), 2).transpose(1, 2).to(p)
    return (1 - 2 * (p * t).sum(dim=2) / ((p**2 + t).sum(dim=2) + 1e-6)).mean()


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
