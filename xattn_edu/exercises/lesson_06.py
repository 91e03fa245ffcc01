"""Checks of the exercises in lesson 6, training a ViT."""

import torch

from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise, refuse_none
from xattn_edu.measure.costs import vit_macs
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.models.attention import attention_rollout as reference_rollout


@exercise
def quadratic_share(answer: Answer) -> str:
    """quadratic_share(image_size, patch, width): share of a block's MACs that grows with the square of the tokens."""
    for image_size, patch, width in ((224, 16, 768), (224, 32, 768), (28, 4, 64), (1024, 16, 384)):
        blocks_only = vit_macs(image_size, patch, width, depth=1, classes=0, channels=0)
        expected = blocks_only[1] / sum(blocks_only)
        patches = (image_size // patch) ** 2
        tokens = patches + 1
        causes = {
            "A share lies between 0 and 1, this is in percent.": 100 * expected,
            "There are two products: q k^T and A v.": tokens / (tokens + 12 * width),
            "The class token is a token too.": patches / (patches + 6 * width),
            "A share is a part of the whole: divide by linear plus quadratic.": tokens / (6 * width),
            "The MLP (8 d^2 a token) belongs to the whole.": tokens / (tokens + 2 * width),
            "The four projections (4 d^2 a token) belong to the whole.": tokens / (tokens + 4 * width),
        }
        compare(answer(image_size, patch, width), expected, f"image {image_size}, patch {patch}, width {width}", causes)
    return "right"


@exercise
def rollout(answer: Answer) -> str:
    """rollout(weights): a list of (batch, head, token, token) to (batch, token, token)."""
    for layers, batch, heads, token in ((3, 2, 2, 5), (1, 1, 1, 3), (4, 1, 3, 4)):
        generator = torch.Generator().manual_seed(layers)
        weights = [torch.randn(batch, heads, token, token, generator=generator).softmax(-1) for _ in range(layers)]
        eye = torch.eye(token)
        start = eye.expand(batch, -1, -1)
        no_residual, not_halved = start, start
        for layer in weights:
            no_residual = layer.mean(1) @ no_residual
            not_halved = (layer.mean(1) + eye) @ not_halved
        causes = {
            "The residual connection is missing: rollout takes half of each token's output from itself.": no_residual,
            "Rows should sum to one: take half of each of attention and identity.": not_halved,
            "The layers are in the wrong order: a later layer stands on the left.": reference_rollout(weights[::-1]),
            "Take the mean over the heads, not the first head.": reference_rollout([w[:, :1] for w in weights]),
            "This is the last layer's attention alone.": weights[-1].mean(1),
            "Take the mean over the heads, not the largest.": reference_rollout(
                [w.amax(1, keepdim=True) for w in weights]
            ),
            "It is transposed: rows are outputs, columns are inputs.": reference_rollout(weights).transpose(1, 2),
        }
        where = f"{layers} layer{'s' * (layers > 1)}, {heads} head{'s' * (heads > 1)}, {token} tokens"
        compare(answer([layer.clone() for layer in weights]), reference_rollout(weights), where, causes)
    return "right, equal to the library's"


@exercise
def training_exaflops(answer: Answer) -> str:
    """training_exaflops(macs, epochs, images): exaFLOPs of training, from the multiply-adds of one image forward."""
    for macs, epochs, images in ((61.555e9, 7, 303e6), (4.409e9, 7, 303e6), (2.43e6, 10, 12e3)):
        once = macs * epochs * images / 1e18
        causes = {
            "A multiply-add is two FLOPs, a multiplication and an addition.": 3 * once,
            "The backward pass costs twice the forward pass: three times in all.": 2 * once,
            "Two things are missing: the two FLOPs of a multiply-add, and the backward pass.": once,
            "The backward pass costs twice the forward pass, so the sum is three times, not two.": 4 * once,
            "An exaFLOP is 10^18 FLOPs.": 6 * once * 1e18,
            "An exaFLOP is 10^18 FLOPs, not 10^15.": 6 * once * 1e3,
            "Every image is seen once in each epoch.": 6 * macs * epochs / 1e18,
            "The images are seen in several epochs.": 6 * macs * images / 1e18,
        }
        where = f"{macs:.4g} multiply-adds, {epochs} epochs, {images:.4g} images"
        compare(answer(macs, epochs, images), 6 * once, where, causes)
    return "right"


_SEEDS = (  # ours and theirs, seed by seed, in %
    ((86.7, 86.7, 87.3), (86.0, 85.6, 84.7)),  # the means lie 1.5 apart, and three seeds leave it open
    ((80.0, 84.0, 88.0, 92.0), (79.0, 82.9, 87.1, 91.0)),  # each seed is ahead by about 1; the means' intervals overlap
    ((70.0, 75.0, 72.0, 74.0, 71.0), (73.1, 77.9, 75.2, 76.8, 74.0)),
    ((85.0, 86.0, 85.5), (82.0, 84.0, 89.4)),
)


@exercise
def ahead_or_open(answer: Answer) -> str:
    """ahead_or_open(ours, theirs): 1 if the 95 % interval of the paired leads is above 0, -1 if below, else 0."""
    for ours, theirs in _SEEDS:
        lead = mean_interval(a - b for a, b in zip(ours, theirs))
        expected = _sign(lead.low, lead.high)
        means = [mean_interval(scores) for scores in (ours, theirs)]
        given = answer(list(ours), list(theirs))
        refuse_none(given)
        if given == expected:
            continue
        causes = {
            "Two overlapping intervals prove nothing: pair the runs by seed and take the leads' interval.": _sign(
                means[0].low - means[1].high, means[0].high - means[1].low
            ),
            "The sign of the mean lead is not enough: its interval must leave out 0.": _sign(lead.mean, lead.mean),
        }
        cause = next((words for words, mistake in causes.items() if mistake == given), "")
        raise Wrong(f"ours {ours}, theirs {theirs}: expected {expected}, given {given}. {cause}".rstrip())
    return "right: three answers are possible, and one of them is that the question is open"


def _sign(low: float, high: float) -> int:
    return 1 if low > 0 else -1 if high < 0 else 0
