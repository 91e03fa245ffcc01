"""Losses: the next token with label smoothing, a weighted cross-entropy of masks, and Dice.

Sources: Vaswani et al. (2017), section 5.4; Yang et al., "LAVT" (2022), section 4.2; Milletari et al., "V-Net" (2016).
"""

from jaxtyping import Float, Int, Integer
from torch import Tensor
from torch.nn import functional as F

from xattn_edu.shapes import shaped


@shaped
def next_token_loss(
    logits: Float[Tensor, "batch token vocabulary"],
    target: Int[Tensor, "batch token"],
    pad: int = 0,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross-entropy, averaged over the tokens that are not padding; `smoothing` is the paper's label smoothing."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten().long(), ignore_index=pad, label_smoothing=smoothing)


CLASS_WEIGHTS = (0.9, 1.1)  # background, referent: Yang et al., "LAVT" (2022), as published


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
