"""Checks of the exercises in lesson 3, encoder and decoder."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise
from xattn_edu.models import transformer
from xattn_edu.models.attention import causal_mask


@exercise
def decoder_layer(answer: Answer) -> str:
    """decoder_layer(tokens, memory, memory_mask, layer): a post-norm decoder layer from the parts of `layer`."""
    for batch, target, source, width, heads in ((2, 4, 4, 8, 2), (1, 3, 5, 8, 4), (3, 1, 2, 4, 1)):
        torch.manual_seed(6)
        layer = transformer.DecoderLayer(width, heads, 2 * width, dropout=0.0).double().eval()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
        tokens, memory = (torch.randn(batch, n, width, dtype=torch.double) for n in (target, source))
        counts = torch.ones(batch, 1, source, dtype=torch.bool)
        counts[0, :, -1] = False

        norms: list[Any] = [layer.residual1.norm, layer.residual2.norm, layer.residual3.norm]
        itself = functools.partial(layer.attention, mask=causal_mask(target))
        across = functools.partial(layer.cross_attention, context=memory, mask=counts)
        feed: Any = layer.feed_forward
        unmasked = functools.partial(layer.cross_attention, context=memory)
        traded = functools.partial(layer.cross_attention, mask=causal_mask(target))
        traded_too = functools.partial(layer.attention, context=memory, mask=counts)
        pre, bare = tokens, tokens
        right: list[Any] = [itself, across, feed]
        for norm, step in zip(norms, right):
            pre, bare = pre + step(norm(pre)), norm(step(bare))
        causes = {
            "The self-attention may look ahead: it needs a causal mask.": (norms, (layer.attention, across, feed)),
            "Padding of the memory is looked at: hand on memory_mask.": (norms, (itself, unmasked, feed)),
            "First it attends to itself, then to the memory.": (norms, (across, itself, feed)),
            "The attentions are exchanged: .cross_attention is for the memory.": (norms, (traded, traded_too, feed)),
            "The cross-attention got no context: this is self-attention.": (
                norms,
                (itself, layer.cross_attention, feed),
            ),
            "The cross-attention is missing.": (norms[::2], (itself, feed)),
            "The feed-forward network is missing.": (norms, (itself, across)),
            "Each part has its own norm, in order.": ([norms[0]] * 3, (itself, across, feed)),
        }
        results = {cause: _post_norm(tokens, *parts) for cause, parts in causes.items()}
        results |= {
            "This is pre-norm: post-norm is norm(tokens + f(tokens)).": pre,
            "The residuals are missing: norm(tokens + f(tokens)).": bare,
        }
        where = f"{target} target tokens, {source} source tokens, {heads} heads"
        expected = _post_norm(tokens, norms, right)
        compare(answer(tokens.clone(), memory.clone(), counts.clone(), layer), expected, where, results)
    return "right: queries from the answer, keys and values from the memory"


def _post_norm(tokens: Tensor, norms: Sequence[Any], steps: Sequence[Any]) -> Tensor:
    for norm, step in zip(norms, steps):
        tokens = norm(tokens + step(tokens))
    return tokens


@exercise
def three_masks(answer: Answer) -> str:
    """three_masks(source, target): masks of the encoder, the decoder's self-attention, and cross-attention."""
    for lengths, width, target_length in (((3, 5), 6, 4), ((4,), 4, 4), ((1, 2, 4), 4, 3)):
        source = torch.zeros(len(lengths), width, dtype=torch.int64)
        for row, length in enumerate(lengths):
            source[row, :length] = torch.arange(3, 3 + length)
        target = torch.arange(3, 3 + target_length).repeat(len(lengths), 1)
        given = answer(source.clone(), target.clone())
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise Wrong(f"three masks are asked for, given {'nothing' if given is None else type(given).__name__}")
        padding, causal = (source != 0)[:, None, :], causal_mask(target_length)
        no_future = "The source has no future to hide: it is all there."
        for name, mask, expected, queries, causes in (
            ("the encoder's mask", given[0], padding, width, {no_future: padding & causal_mask(width)}),
            (
                "the decoder's own mask",
                given[1],
                causal,
                target_length,
                {
                    "It looks ahead, not back.": causal.mT,
                    "A token may look at itself, too.": causal & ~causal.mT,
                },
            ),
            (
                "the mask of cross-attention",
                given[2],
                padding,
                target_length,
                {no_future: padding & causal_mask(width)[:, :target_length]},
            ),
        ):
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                raise Wrong(f"{name}: a mask is a tensor of True and False, given {getattr(mask, 'dtype', type(mask))}")
            full = (len(lengths), queries, expected.shape[-1])
            if mask.ndim != 3 or any(size not in (1, most) for size, most in zip(mask.shape, full)):
                raise Wrong(
                    f"{name} has shape {tuple(mask.shape)}, which does not fit (batch, query, key) = {full}. It needs "
                    "three axes, of size 1 where it is the same for all: write mask[:, None, :]"
                )
            shared = {
                "It is upside down: True is where a query may look.": ~expected,
                "Nothing is hidden.": torch.ones_like(expected),
            }
            known = {cause: result.expand(full) for cause, result in (causes | shared).items()}
            where = f"{name}, sentences of {', '.join(map(str, lengths))} tokens"
            compare(mask.expand(full), expected.expand(full), where, known)
    return "right: padding is hidden from both readers of the source, the future from the writer"


@exercise
def cache_numbers(answer: Answer) -> str:
    """cache_numbers(depth, width, source, target): numbers that the key-value cache of a decoder holds."""
    for depth, width, source, target in ((6, 512, 1000, 1000), (2, 64, 20, 11), (1, 8, 3, 5)):
        expected = depth * 2 * width * (source + target)
        causes = {
            "For each token a key and a value.": expected // 2,
            "Every layer has its own.": expected // depth if depth > 1 else None,
            "The keys and values of the source are kept, too.": depth * 2 * width * target,
            "The keys and values of the answer are kept, too.": depth * 2 * width * source,
            "This counts bytes; asked for are numbers.": 4 * expected,
            "The cache holds no query.": expected // 2 * 3,
            "It grows with the sum of the lengths, not with their product: weights are not kept.": depth
            * 2
            * width
            * source
            * target,
        }
        causes = {cause: number for cause, number in causes.items() if number is not None}
        where = f"{depth} layers of width {width}, {source} and {target} tokens"
        compare(answer(depth, width, source, target), expected, where, causes)
    return "right, and heads make no difference: they share the width"
