"""Checks of the exercises in lesson 6, training a ViT."""

import torch

from xattn_edu.exercises.checking import Answer, compare, exercise
from xattn_edu.measure.costs import vit_macs
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
            "It is transposed: rows are outputs, columns are inputs.": reference_rollout(weights).transpose(1, 2),
        }
        where = f"{layers} layer{'s' * (layers > 1)}, {heads} head{'s' * (heads > 1)}, {token} tokens"
        compare(answer([layer.clone() for layer in weights]), reference_rollout(weights), where, causes)
    return "right, equal to the library's"
