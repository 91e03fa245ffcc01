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
        memory_mask = torch.ones(batch, 1, source, dtype=torch.bool)
        memory_mask[0, :, -1] = False

        norms: list[Any] = [layer.residual1.norm, layer.residual2.norm, layer.residual3.norm]
        steps = _decoder_steps(layer, memory, memory_mask, target)
        causes = _decoder_causes(layer, norms, steps, tokens, memory, memory_mask)
        where = f"{target} target tokens, {source} source tokens, {heads} heads"
        given = answer(tokens.clone(), memory.clone(), memory_mask.clone(), layer)
        compare(given, _post_norm(tokens, norms, steps), where, causes)
    return "right: queries from the answer, keys and values from the memory"


def _decoder_steps(layer: Any, memory: Tensor, memory_mask: Tensor, target: int) -> list[Any]:
    """Self-attention, cross-attention and feed-forward network, each as a function of the tokens alone."""
    itself = functools.partial(layer.attention, mask=causal_mask(target))
    across = functools.partial(layer.cross_attention, context=memory, mask=memory_mask)
    return [itself, across, layer.feed_forward]


def _decoder_causes(
    layer: Any, norms: list[Any], steps: list[Any], tokens: Tensor, memory: Tensor, memory_mask: Tensor
) -> dict[str, Tensor]:
    itself, across, feed_forward = steps
    unmasked = functools.partial(layer.cross_attention, context=memory)
    itself_by_other = functools.partial(layer.cross_attention, mask=causal_mask(tokens.shape[1]))
    across_by_other = functools.partial(layer.attention, context=memory, mask=memory_mask)
    pre_norm, no_residual = tokens, tokens
    for norm, step in zip(norms, steps):
        pre_norm, no_residual = pre_norm + step(norm(pre_norm)), norm(step(no_residual))

    looks_ahead = _post_norm(tokens, norms, [layer.attention, across, feed_forward])
    padding_read = _post_norm(tokens, norms, [itself, unmasked, feed_forward])
    wrong_order = _post_norm(tokens, norms, [across, itself, feed_forward])
    exchanged = _post_norm(tokens, norms, [itself_by_other, across_by_other, feed_forward])
    stale = norms[0](tokens + itself(tokens))
    stale = norms[1](stale + across(tokens))
    stale = norms[2](stale + feed_forward(stale))
    no_context = _post_norm(tokens, norms, [itself, layer.cross_attention, feed_forward])
    no_cross_attention = _post_norm(tokens, norms[::2], [itself, feed_forward])
    no_cross_attention_first_norms = _post_norm(tokens, norms[:2], [itself, feed_forward])
    no_feed_forward = _post_norm(tokens, norms, [itself, across])
    one_norm = _post_norm(tokens, [norms[0]] * 3, steps)
    inverted = _post_norm(
        tokens, norms, [itself, lambda z: layer.cross_attention(z, memory, ~memory_mask), feed_forward]
    )
    before_the_last = _post_norm(tokens, norms[:2], steps[:2])
    unfinished = before_the_last + feed_forward(before_the_last)
    return {
        "The self-attention may look ahead: it needs a causal mask.": looks_ahead,
        "The queries attend to padding of the memory: pass memory_mask on.": padding_read,
        "The self-attention comes first, then the attention to the memory.": wrong_order,
        "The attentions are exchanged: .cross_attention is for the memory.": exchanged,
        "The cross-attention's query is the layer's input: it is what the first part returned.": stale,
        "The cross-attention got no context: this is self-attention.": no_context,
        "The cross-attention is missing.": no_cross_attention,
        "The cross-attention is missing, and the feed-forward network has its norm.": no_cross_attention_first_norms,
        "The feed-forward network is missing.": no_feed_forward,
        "Each part has its own norm, in order.": one_norm,
        "This is pre-norm: post-norm is norm(tokens + f(tokens)).": pre_norm,
        "The mask of the memory is inverted.": inverted,
        "The last norm is missing.": unfinished,
        "The last norm is the third, not the second once more.": norms[1](unfinished),
        "The residuals are missing: norm(tokens + f(tokens)).": no_residual,
    }


def _post_norm(tokens: Tensor, norms: Sequence[Any], steps: Sequence[Any]) -> Tensor:
    for norm, step in zip(norms, steps):
        tokens = norm(tokens + step(tokens))
    return tokens


@exercise
def three_masks(answer: Answer) -> str:
    """three_masks(source, target): masks of the encoder, the decoder's self-attention, and cross-attention."""
    for lengths, width, target_length in (((3, 5), 6, 4), ((4,), 4, 4), ((1, 2, 4), 4, 3)):
        batch, where = len(lengths), f"sentences of {', '.join(map(str, lengths))} tokens"
        source = torch.zeros(batch, width, dtype=torch.int64)
        for row, length in enumerate(lengths):
            source[row, :length] = torch.arange(3, 3 + length)
        target = torch.arange(3, 3 + target_length).repeat(batch, 1)
        given = answer(source.clone(), target.clone())
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise Wrong(f"return three masks, given {'nothing' if given is None else type(given).__name__}")

        padding, causal = (source != 0)[:, None, :], causal_mask(target_length)
        no_future = "The source has no future to hide: all of it is known from the start."
        of_encoder = {no_future: padding & causal_mask(width)}
        of_decoder = {
            "A token attends to later tokens, not to earlier ones.": causal.mT,
            "A token may attend to itself, too.": causal & ~causal.mT,
        }
        of_cross_attention = {no_future: padding & causal_mask(width)[:, :target_length]}
        by_encoder, by_decoder, by_cross_attention = given
        _check_mask(by_encoder, padding, (batch, width, width), "the encoder's mask", where, of_encoder)
        shape = (batch, target_length, target_length)
        _check_mask(by_decoder, causal, shape, "the decoder's own mask", where, of_decoder)
        shape = (batch, target_length, width)
        _check_mask(by_cross_attention, padding, shape, "the mask of cross-attention", where, of_cross_attention)
    return "right: both attentions to the source leave padding out, and the decoder's tokens do not look ahead"


def _check_mask(
    mask: Any, expected: Tensor, full: tuple[int, ...], name: str, where: str, causes: dict[str, Tensor]
) -> None:
    """Raise Wrong unless the mask, expanded to the shape `full`, (batch, query, key), is the expected one."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise Wrong(f"{name}: a mask is a tensor of True and False, given {getattr(mask, 'dtype', type(mask))}")
    if mask.ndim != 3 or any(size not in (1, most) for size, most in zip(mask.shape, full)):
        hint = ". It needs three axes, of size 1 where it is the same for all: write mask[:, None, :]"
        hint = hint if mask.ndim == 2 else ""
        raise Wrong(f"{name} has shape {tuple(mask.shape)}, which does not fit (batch, query, key) = {full}{hint}")
    known = causes | {
        "The mask is inverted: True marks a key that the query attends to.": ~expected,
        "Nothing is hidden.": torch.ones_like(expected),
    }
    expanded = {cause: result.expand(full) for cause, result in known.items()}
    compare(mask.expand(full), expected.expand(full), f"{name}, {where}", expanded)


@exercise
def grouped_attention(answer: Answer) -> str:
    """grouped_attention(q, k, v): attention whose heads share keys and values in groups, neighbours first."""
    for batch, heads, groups, queries, keys, dim in (
        (2, 4, 2, 3, 5, 4),
        (1, 6, 3, 2, 2, 8),
        (2, 4, 1, 1, 6, 2),
        (1, 2, 2, 4, 3, 4),
    ):
        generator = torch.Generator().manual_seed(heads * groups)
        q = torch.randn(batch, heads, queries, dim, generator=generator, dtype=torch.double)
        k, v = torch.randn(2, batch, groups, keys, dim, generator=generator, dtype=torch.double)
        shared = [x.repeat_interleave(heads // groups, dim=1) for x in (k, v)]
        in_turn = [x.repeat(1, heads // groups, 1, 1) for x in (k, v)]
        first_only = [x[:, :1].expand(-1, heads, -1, -1) for x in (k, v)]
        causes = {
            "Neighbouring heads share a group: repeat_interleave, not repeat.": _attended(q, *in_turn),
            "All heads use the first group.": _attended(q, *first_only),
            "The keys are shared, the values of other groups are used.": _attended(q, shared[0], in_turn[1]),
            "The scores are not divided by sqrt(dim).": _attended(q * dim**0.5, *shared),
            "Divide by the root of the head's width, not of the number of heads.": _attended(
                q * (dim / heads) ** 0.5, *shared
            ),
            "The softmax is over the keys, the last axis.": (q @ shared[0].mT / dim**0.5).softmax(dim=-2) @ shared[1],
        }
        given = answer(q.clone(), k.clone(), v.clone())
        if isinstance(given, Tensor) and given.shape != q.shape and given.shape[1:2] == (groups,):
            raise Wrong(f"shape {tuple(given.shape)}: each of the {heads} heads has its own output, given {groups}")
        where = f"{heads} heads, {groups} group{'s' * (groups > 1)}, {queries} queries, {keys} keys"
        compare(given, _attended(q, *shared), where, causes)
    return "right: as many outputs as heads, from fewer keys and values"


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


@exercise
def exchanged_date(answer: Answer) -> str:
    """exchanged_date(keys_of, values_of): the date that is written with one date's keys and another date's values."""
    american, european = ("7/8/2461", "1/2/1873"), ("5.9.1997", "3.4.2058")
    for keys_of in (*american, *european):
        for values_of in (*american, *european):
            first, second, year = values_of.replace("/", ".").split(".")
            by_keys, by_values = ((first, second) if "/" in text else (second, first) for text in (keys_of, values_of))
            expected, values_alone = (f"{year}-{int(month):02}-{int(day):02}" for month, day in (by_keys, by_values))
            first, second, key_year = keys_of.replace("/", ".").split(".")
            month, day = (first, second) if "/" in keys_of else (second, first)
            keys_alone = f"{key_year}-{int(month):02}-{int(day):02}"
            given, where = answer(keys_of, values_of), f"keys of {keys_of}, values of {values_of}"
            if given == expected:
                continue
            if not isinstance(given, str):
                raise Wrong(f"{where}: return a string such as {expected!r}, given {type(given).__name__}")
            exchanged = f"{year}-{expected[8:]}-{expected[5:7]}"
            causes = {
                exchanged: "In an American date the month stands first, in a European one the day.",
                keys_alone: "What is written are the values; the keys only decide where each is read.",
                values_alone: "The places of month and day are those of the keys' format.",
                expected.replace("-0", "-"): "Month and day have two digits: 05, not 5.",
            }
            raise Wrong(f"{where}: {causes.get(given, 'not what the model writes.')} Given {given!r}")
    return "right; the next cells hold it against the model"
