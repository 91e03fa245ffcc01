"""Checks of the exercises in lesson 11, pixel-word attention."""

import numpy as np
import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, close, compare, exercise, refuse_none, two
from xattn_edu.models.attention import merge_heads, split_heads


@exercise
def gather_words(answer: Answer) -> str:
    """gather_words(query, key, value, mask, heads): G' and the weights, without padding, scaled as in LAVT."""
    for batch, pixels, words, width, heads in ((2, 5, 4, 6, 1), (3, 4, 6, 8, 2), (1, 6, 5, 9, 3)):
        torch.manual_seed(20)
        query, key, value = (torch.randn(batch, n, width, dtype=torch.double) for n in (pixels, words, words))
        mask = torch.arange(words) < torch.tensor([[words - 1], [words - 3], [words - 2]])[:batch]
        expected = _gather(query, key, value, mask, heads)
        mistakes = _gather_mistakes(query, key, value, mask, heads)
        where = f"{pixels} pixels, {words} words, {heads} head{'s' * (heads > 1)}"
        given = two(answer(query.clone(), key.clone(), value.clone(), mask.clone(), heads), "G' and the weights")
        for number, name in enumerate(("G'", "weights")):
            causes = {cause: result[number] for cause, result in mistakes.items()}
            compare(given[number], expected[number], f"{name}, {where}", causes)

        no_word = torch.zeros_like(mask)
        given = two(answer(query.clone(), key.clone(), value.clone(), no_word, heads), "G' and the weights")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in given):
            raise Wrong("a sentence of padding alone: not finite. Masked scores must be very low, -1e4, not -inf.")
        if not close(given[0], torch.zeros_like(query)):
            raise Wrong("a sentence of padding alone: G' must be 0. The values of padding must be 0, too.")
    return "right: each pixel attends to the words, none to padding, and without words G' is 0"


def _gather(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    q, k, v = (split_heads(x, heads) for x in (query, key, value * mask[..., None]))
    return _gather_in_heads(q, k, v, mask, query.shape[-1] ** 0.5)


def _gather_in_heads(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, over: int = -1
) -> tuple[Tensor, Tensor]:
    """G' and the weights from queries, keys and values (batch, head, token, channel); softmax over the axis `over`."""
    scores = (query @ key.mT / scale).masked_fill(~mask[:, None, None], -1e4)
    weights = scores.softmax(dim=over)
    return merge_heads(weights @ value), weights


def _gather_mistakes(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int
) -> dict[str, tuple[Tensor, Tensor]]:
    width = query.shape[-1]
    masked = value * mask[..., None]
    q, k, v = (split_heads(x, heads) for x in (query, key, masked))
    viewed_q, viewed_k, viewed_v = (x.view(len(x), heads, x.shape[1], -1) for x in (query, key, masked))
    over_pixels = _gather_in_heads(q, k, v, mask, width**0.5, over=2)
    return {
        "The scale is missing.": _gather_in_heads(q, k, v, mask, 1),
        "The pixels attend to padding: the mask is missing.": _gather(query, key, value, mask | True, heads),
        "The mask is inverted: True marks a word, False marks padding.": _gather(query, key, value, ~mask, heads),
        "LAVT divides by the root of all channels C, not of those of one head.": (
            _gather_in_heads(q, k, v, mask, (width / heads) ** 0.5)
        ),
        "Softmax goes over the words, the last axis: each pixel divides its attention among them.": over_pixels,
        "The heads are not kept apart: split the channels first.": _gather(query, key, value, mask, 1),
        "Each head works with its own channels: view alone mixes them with the tokens, see split_heads.": (
            _gather_in_heads(viewed_q, viewed_k, viewed_v, mask, width**0.5)
        ),
    }


@exercise
def norm_over_pixels(answer: Answer) -> str:
    """norm_over_pixels(pixels): each channel of each image (batch, pixel, channel) to mean 0 and variance 1."""
    for batch, size, width in ((2, 6, 4), (3, 5, 5), (1, 9, 3)):
        torch.manual_seed(21)
        pixels = torch.randn(batch, size, width, dtype=torch.double) * torch.rand(width) + torch.randn(batch, 1, width)
        pixels[..., 0] = 0.003 * pixels[..., 0]  # so little variance that eps changes the result
        given = answer(pixels.clone())
        where = f"(batch, pixel, channel) = {(batch, size, width)}"
        compare(given, _normed(pixels, 1), where, _norm_causes(pixels))

        alike = torch.randn(batch, 1, width, dtype=torch.double).expand(-1, size, -1)
        given = answer(alike.clone())
        refuse_none(given)
        if not bool(torch.isfinite(given).all()) or not np.allclose(given, 0, atol=1e-3):
            raise Wrong("all pixels alike: expected 0. eps keeps the division finite.")
    return "right: of each channel, only the differences between the pixels are left"


def _normed(pixels: Tensor, axes: int | tuple[int, ...], correction: int = 0, eps: float = 1e-5) -> Tensor:
    variance, mean = torch.var_mean(pixels, dim=axes, correction=correction, keepdim=True)
    return (pixels - mean) / (variance + eps).sqrt()


def _norm_causes(pixels: Tensor) -> dict[str, Tensor]:
    variance, mean = torch.var_mean(pixels, dim=1, correction=0, keepdim=True)
    eps_outside_the_root = (pixels - mean) / (variance.sqrt() + 1e-5)
    return {
        "That is a layer norm, over the channels: the norm goes over the pixels.": _normed(pixels, 2),
        "That is a batch norm: each image is normed by itself.": _normed(pixels, (0, 1)),
        "Each channel is normed by itself.": _normed(pixels, (1, 2)),
        "Divide by the number of pixels, not by one less: correction=0.": _normed(pixels, 1, correction=1),
        "eps = 1e-5 is missing.": _normed(pixels, 1, eps=0),
        "eps = 1e-5 is missing, and torch's std divides by one less.": _normed(pixels, 1, correction=1, eps=0),
        "eps is added to the variance, under the root, not to the deviation.": eps_outside_the_root,
        "The mean is not subtracted.": pixels / (variance + 1e-5).sqrt(),
        "The mean is subtracted, but the standard deviation is not yet 1.": pixels - mean,
        "Divide by the root of the variance.": (pixels - mean) / (variance + 1e-5),
    }


@exercise
def gated(answer: Answer) -> str:
    """gated(maps, fused, first, second): E = V + gate(F) * F, the gate of two linear layers, a ReLU and a tanh."""
    for batch, rows, columns, width in ((2, 2, 3, 5), (1, 4, 4, 3), (3, 1, 2, 8)):
        torch.manual_seed(22)
        maps, fused = torch.randn(2, batch, rows, columns, width, dtype=torch.double)
        first, second = (nn.Linear(width, width, bias=False).double() for _ in range(2))
        for layer in (first, second):
            nn.init.normal_(layer.weight, std=0.7 / width**0.5)
        gate = second(first(fused).relu()).tanh()
        with_sigmoid = second(first(fused).relu()).sigmoid()
        without_tanh = second(first(fused).relu())
        without_relu = second(first(fused)).tanh()
        with_gelu = second(nn.functional.gelu(first(fused))).tanh()
        layers_exchanged = first(second(fused).relu()).tanh()
        of_maps = second(first(maps).relu()).tanh()
        causes = {
            "The gate is a factor of F: multiply by F. Without it this is a feed-forward layer.": maps + gate,
            "The gate is a factor of F, not of V.": maps + gate * maps,
            "V is missing: the gated F is added to it.": gate * fused,
            "The gate is missing: F is multiplied by it.": maps + fused,
            "LAVT's gate ends in a tanh, from -1 to 1, not in a sigmoid.": maps + with_sigmoid * fused,
            "The tanh is missing.": maps + without_tanh * fused,
            "The ReLU between the layers is missing.": maps + without_relu * fused,
            "A ReLU, not a GELU, stands between the layers.": maps + with_gelu * fused,
            "The layers are in the wrong order.": maps + layers_exchanged * fused,
            "The gate is computed from F, not from V.": maps + of_maps * fused,
            "V and F have changed places.": fused + of_maps * maps,
            "V is added, not F.": fused + gate * fused,
            "The gate is computed from F alone, not from V + F.": maps
            + second(first(maps + fused).relu()).tanh() * fused,
            "Only F is multiplied by the gate; V is added unchanged.": maps * (1 - gate) + gate * fused,
        }
        where = f"maps {rows} x {columns}, width {width}"
        compare(answer(maps.clone(), fused.clone(), first, second), maps + gate * fused, where, causes)
    return "right: V unchanged, plus F times its gate"
