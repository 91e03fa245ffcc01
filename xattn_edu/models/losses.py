"""Losses: cross-entropy of the next token with label smoothing, weighted cross-entropy of masks, and the Dice loss.

Sources: Vaswani et al., "Attention Is All You Need" (2017); Yang et al., "LAVT" (2022); Milletari et al., "V-Net"
(2016).
"""

from jaxtyping import Float, Int, Integer
from torch import Tensor
from torch.nn import functional as F

from xattn_edu.shapes import shaped

CLASS_WEIGHTS = (0.9, 1.1)  # of background and referent in the published training of LAVT (Yang et al., 2022)


@shaped
def next_token_loss(
    logits: Float[Tensor, "batch token vocabulary"],
    target: Int[Tensor, "batch token"],
    pad: int = 0,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross-entropy in nats, averaged over the tokens that are not `pad`, with label smoothing of rate `smoothing`.

    Source: Vaswani et al. (2017), section 5.4.
    """
    return F.cross_entropy(logits.flatten(0, 1), target.flatten().long(), ignore_index=pad, label_smoothing=smoothing)


@shaped
def mask_loss(
    logits: Float[Tensor, "batch 2 height width"], masks: Integer[Tensor, "batch height width"]
) -> Float[Tensor, ""]:
    """Weighted mean of the pixels' cross-entropy in nats; a pixel's weight is that of its class, `CLASS_WEIGHTS`.

    `masks` holds 0 (background) and 1 (referent). Source: Yang et al. (2022), section 4.2; the weights are those of the
    published training.
    """
    return F.cross_entropy(logits, masks.long(), weight=logits.new_tensor(CLASS_WEIGHTS))


@shaped
def dice_loss(
    logits: Float[Tensor, "batch 2 height width"], masks: Integer[Tensor, "batch height width"]
) -> Float[Tensor, ""]:
    """1 minus the Dice coefficient 2 sum(p t) / sum(p^2 + t), averaged over images and both classes.

    p is the softmax over the classes, t the mask of a class. `masks` holds 0 (background) and 1 (referent). Small and
    large referents have the same weight. Later releases of LAVT train with this loss.
    Source: Milletari et al. (2016).
    """
    p = logits.softmax(dim=1).flatten(2)
    t = F.one_hot(masks.long().flatten(1), 2).transpose(1, 2).to(p)
    return (1 - 2 * (p * t).sum(dim=2) / ((p**2 + t).sum(dim=2) + 1e-6)).mean()
