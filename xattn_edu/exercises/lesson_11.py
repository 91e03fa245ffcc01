"""Checks of the exercises in lesson 11, pixel-word attention."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, close, compare, exercise, two
from xattn_edu.models.attention import merge_heads, split_heads


@exercise
def gather_words(answer: Answer) -> str:
    """gather_words(query, key, value, mask, heads): G' and the weights, padding out of play, scaled as in LAVT."""
    for batch, pixels, words, width, heads in ((2, 5, 4, 6, 1), (3, 4, 6, 8, 2), (1, 6, 5, 9, 3)):
        torch.manual_seed(20)
        query, key, value = (torch.randn(batch, n, width, dtype=torch.double) for n in (pixels, words, words))
        mask = torch.arange(words) < torch.tensor([[words - 1], [words - 3], [words - 2]])[:batch]
        expected = _gather(query, key, value, mask, heads)
        mistakes = {
            "The scale is missing.": _gather(query * width**0.5, key, value, mask, heads),
            "Padding is read: the mask is missing.": _gather(query, key, value, mask | True, heads),
            "The mask is upside down: True is where a word counts.": _gather(query, key, value, ~mask, heads),
            "LAVT divides by the root of all channels C, not of those of one head.": _gather(
                query * heads**0.5, key, value, mask, heads
            ),
            "Softmax goes over the words, the last axis: each pixel divides its attention among them.": _gather(
                query, key, value, mask, heads, over=2
            ),
            "The heads are not kept apart: split the channels first.": _gather(query, key, value, mask, 1),
            "Each head works with its own channels: view alone mixes them with the tokens, see split_heads.": _gather(
                query, key, value, mask, heads, split=lambda x, h: x.view(len(x), h, x.shape[1], -1)
            ),
        }
        where = f"{pixels} pixels, {words} words, {heads} head{'s' * (heads > 1)}"
        given = two(answer(query.clone(), key.clone(), value.clone(), mask.clone(), heads), "G' and the weights")
        for number, name in enumerate(("G'", "weights")):
            causes = {cause: result[number] for cause, result in mistakes.items()}
            compare(given[number], expected[number], f"{name}, {where}", causes)

        nothing = torch.zeros_like(mask)
        given = two(answer(query.clone(), key.clone(), value.clone(), nothing, heads), "G' and the weights")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in given):
            raise Wrong("a sentence of padding alone: not finite. Masked scores must be very low, -1e4, not -inf.")
        if not close(given[0], torch.zeros_like(query)):
            raise Wrong("a sentence of padding alone: G' must be 0. The values of padding must be 0, too.")
    return "right: each pixel has asked the words, none has read padding, and nothing said is 0"


def _gather(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int, over: int = -1, split: Any = split_heads
) -> tuple[Tensor, Tensor]:
    scores = split(query, heads) @ split(key, heads).transpose(-1, -2) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask[:, None, None], -1e4).softmax(dim=over)
    return merge_heads(weights @ split(value * mask[..., None], heads)), weights


@exercise
def norm_over_pixels(answer: Answer) -> str:
    """norm_over_pixels(pixels): each channel of each image (batch, pixel, channel) to mean 0 and variance 1."""
    for batch, size, width in ((2, 6, 4), (3, 5, 5), (1, 9, 3)):
        torch.manual_seed(21)
        pixels = torch.randn(batch, size, width, dtype=torch.double) * torch.rand(width) + torch.randn(batch, 1, width)
        pixels[..., 0] = 0.003 * pixels[..., 0]  # hardly any variance: eps is seen

        def normed(axes: Any, unbiased: bool = False, eps: float = 1e-5, x: Tensor = pixels) -> Tensor:
            variance, mean = torch.var_mean(x, dim=axes, correction=int(unbiased), keepdim=True)
            return (x - mean) / (variance + eps).sqrt()

        variance, mean = torch.var_mean(pixels, dim=1, correction=0, keepdim=True)
        causes = {
            "That is a layer norm, over the channels: the norm goes over the pixels.": normed(2),
            "That is a batch norm: each image is normed by itself.": normed((0, 1)),
            "Each channel is normed by itself.": normed((1, 2)),
            "Divide by the number of pixels, not by one less: correction=0.": normed(1, unbiased=True),
            "eps = 1e-5 is missing.": normed(1, eps=0),
            "eps is added to the variance, under the root, not to the deviation.": (pixels - mean)
            / (variance.sqrt() + 1e-5),
            "The mean is still in it.": pixels / (variance + 1e-5).sqrt(),
            "The mean is gone, the deviation is not 1 yet.": pixels - mean,
            "Divide by the root of the variance.": (pixels - mean) / (variance + 1e-5),
        }
        given = answer(pixels.clone())
        compare(given, normed(1), f"(batch, pixel, channel) = {(batch, size, width)}", causes)
        same = torch.randn(batch, 1, width, dtype=torch.double).expand(-1, size, -1)
        given = answer(same.clone())
        if not bool(torch.isfinite(given).all()) or not np.allclose(given, 0, atol=1e-3):
            raise Wrong("all pixels alike: expected 0. eps keeps the division finite.")
    return "right: of each channel only what differs between the pixels is left"


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
        causes = {
            "The gate is a factor: it is multiplied by F. So it stands, it is a feed-forward layer.": maps + gate,
            "The gate is a factor of F, not of V.": maps + gate * maps,
            "V is missing: the gated F is added to it.": gate * fused,
            "The gate is missing: it weighs F.": maps + fused,
            "LAVT's gate ends in a tanh, from -1 to 1, not in a sigmoid.": maps
            + second(first(fused).relu()).sigmoid() * fused,
            "The tanh is missing.": maps + second(first(fused).relu()) * fused,
            "The ReLU between the layers is missing.": maps + second(first(fused)).tanh() * fused,
            "A ReLU, not a GELU, stands between the layers.": maps
            + second(nn.functional.gelu(first(fused))).tanh() * fused,
            "The layers are in the wrong order.": maps + first(second(fused).relu()).tanh() * fused,
            "The gate reads F, not V.": maps + second(first(maps).relu()).tanh() * fused,
            "V and F have changed places.": fused + second(first(maps).relu()).tanh() * maps,
            "The gate weighs F, and V goes on as it is: no mixing of the two.": maps * (1 - gate) + gate * fused,
        }
        where = f"maps {rows} x {columns}, width {width}"
        compare(answer(maps.clone(), fused.clone(), first, second), maps + gate * fused, where, causes)
    return "right: V goes on as it is, and of F what the gate lets through"
