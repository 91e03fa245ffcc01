"""Checks of the exercises in lesson 2, self-attention in PyTorch."""

import functools

import numpy as np
import torch
from torch import Tensor

from xattn_edu.exercises.altered import with_one_head, with_scaled_query, without_output_projection
from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise, refuse_none
from xattn_edu.exercises.guard import Guarded
from xattn_edu.models.attention import MultiHeadAttention, attention, merge_heads, split_heads


@exercise
def heads_apart(answer: Answer) -> str:
    """(batch, token, width) -> (batch, head, token, width / heads)."""
    for batch, token, width, heads in ((2, 3, 8, 2), (1, 5, 6, 3), (3, 4, 4, 1), (2, 4, 16, 4)):
        tokens = torch.randn(batch, token, width, generator=torch.Generator().manual_seed(token))
        depth = width // heads
        viewed = tokens.reshape(batch, heads, token, depth)
        interleaved = tokens.view(batch, token, depth, heads).permute(0, 3, 1, 2)
        causes = {
            "view alone cuts across tokens: separate the head axis from the channels, then move it.": viewed,
            "Each head got every heads-th channel: heads are consecutive blocks of channels.": interleaved,
        }
        where = f"batch {batch}, {token} tokens, width {width}, {heads} heads"
        compare(answer(tokens.clone(), heads), split_heads(tokens, heads), where, causes)
    return "right: every head sees every token, and its own block of channels"


@exercise
def dependence(answer: Guarded) -> str:
    """dependence(layer, tokens): (token, token) bool, True where output i changes if token j is changed."""
    generator = torch.Generator().manual_seed(5)
    for name, (layer, expected) in _layers(6, 8, generator).items():
        tokens = torch.randn(6, 8, generator=generator, dtype=torch.double)
        diagonal = torch.eye(6, dtype=torch.bool)
        causes = {
            "Transposed: rows are outputs, columns are the changed tokens.": expected.T,
            "Inverted: True marks an output that does change.": ~expected,
            "Each change must start from the original tokens: you have changed one token after the other.": (
                expected.cumsum(dim=1) > 0
            ),
            "The change was not seen. Was the same number added to every channel? A norm takes that away.": (
                torch.zeros_like(expected)
            ),
            "Only the changed token's own output was compared.": expected & diagonal,
        }
        # In float32 a norm would let the rounding of a change through.
        compare(answer.exactly(layer, tokens.clone()), expected, name, causes)
    return "right, on five layers: it finds a mask, a window and a forgotten transpose"


def _layers(count: int, width: int, generator: torch.Generator) -> dict[str, tuple[Answer, Tensor]]:
    """Layers (token, channel) -> (token, channel), and what each output depends on."""
    torch.manual_seed(6)
    attend = MultiHeadAttention(width, 2).double()
    weight = torch.randn(width, width, generator=generator, dtype=torch.double)
    i, j = torch.arange(count)[:, None], torch.arange(count)
    causal, window = j <= i, (i - j).abs() <= 1

    def bare_view(tokens: Tensor) -> Tensor:
        heads = tokens.view(1, 2, count, width // 2)
        return attention(heads, heads, heads)[0].reshape(count, width)

    def normed(tokens: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(tokens, (width,)) @ weight

    first = (i < count // 2) == (j < count // 2)  # a bare view gives each of two heads half of the tokens
    return {
        "a window of neighbours": (lambda x: attend(x[None], mask=window[None])[0], window),
        "a causal layer": (lambda x: attend(x[None], mask=causal[None])[0], causal),
        "a norm and a linear map": (normed, torch.eye(count, dtype=torch.bool)),
        "self-attention": (lambda x: attend(x[None])[0], torch.ones(count, count, dtype=torch.bool)),
        "heads split by a bare view": (bare_view, first),
    }


@exercise
def cross_attention(answer: Answer) -> str:
    """cross_attention(layer, tokens, context, padding): the layer's output; `padding` is True for padding."""
    generator = torch.Generator().manual_seed(3)
    for batch, n, m, width, heads in ((1, 4, 4, 8, 4), (2, 3, 5, 8, 2), (2, 1, 6, 4, 1)):
        torch.manual_seed(4)
        layer = MultiHeadAttention(width, heads).double()
        tokens = torch.randn(batch, n, width, generator=generator, dtype=torch.double)
        context = torch.randn(batch, m, width, generator=generator, dtype=torch.double)
        padding = torch.arange(m) >= m - 1 - torch.arange(batch)[:, None]  # the last, or the last two
        where = f"{n} queries, {m} keys, {heads} heads"
        given = answer(layer, tokens.clone(), context.clone(), padding.clone())
        expected = layer(tokens, context, ~padding[:, None])
        compare(given, expected, where, _cross_mistakes(layer, tokens, context, padding))
    return "right, equal to the library's layer"


def _cross_mistakes(layer: MultiHeadAttention, tokens: Tensor, context: Tensor, padding: Tensor) -> dict[str, Tensor]:
    mask, root = ~padding[:, None], (layer.width / layer.heads) ** 0.5
    causes = {
        "The padding is attended to: True marks a key to leave out.": layer(tokens, context),
        "Inverted: only the padding is attended to.": layer(tokens, context, ~mask),
        "The division by sqrt(d) is missing.": with_scaled_query(layer, root)(tokens, context, mask),
        "d is the width of a head, not of the layer.": with_scaled_query(layer, layer.heads**-0.5)(
            tokens, context, mask
        ),
        "This is self-attention: nothing came from the context.": layer(tokens),
        "Exchanged: queries come from the tokens, keys and values from the context.": layer(context, tokens),
        "The output projection is missing.": without_output_projection(layer)(tokens, context, mask),
        "The heads were not kept apart.": with_one_head(layer)(tokens, context, mask),
        "No residual: return the layer's output alone.": tokens + layer(tokens, context, mask),
        "The softmax is over the keys, the last axis.": _over_queries(layer, tokens, context, mask),
        "Weights set to zero after the softmax no longer add up to 1: mask the scores.": _masked_too_late(
            layer, tokens, context, mask
        ),
    }
    if tokens.shape[1] == context.shape[1]:  # otherwise keys and values from two sources do not fit together
        causes["The values came from the tokens."] = _from_sources(layer, tokens, context, tokens, mask)
        causes["The keys came from the tokens."] = _from_sources(layer, tokens, tokens, context, mask)
    return causes


def _from_sources(layer: MultiHeadAttention, tokens: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The layer's output with keys from one source and values from another."""
    split = functools.partial(split_heads, heads=layer.heads)
    mixed, _ = attention(split(layer.query(tokens)), split(layer.key(keys)), split(layer.value(values)), mask[:, None])
    return layer.output(merge_heads(mixed))


def _over_queries(layer: MultiHeadAttention, tokens: Tensor, context: Tensor, mask: Tensor) -> Tensor:
    query, key, value = (
        split_heads(x, layer.heads) for x in (layer.query(tokens), layer.key(context), layer.value(context))
    )
    scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~mask[:, None], -1e9)
    return layer.output(merge_heads(scores.softmax(dim=-2) @ value))


def _masked_too_late(layer: MultiHeadAttention, tokens: Tensor, context: Tensor, mask: Tensor) -> Tensor:
    split = functools.partial(split_heads, heads=layer.heads)
    weights = attention(split(layer.query(tokens)), split(layer.key(context)), split(layer.value(context)))[1]
    return layer.output(merge_heads((weights * mask[:, None]) @ split(layer.value(context))))


@exercise
def look_back(answer: Answer) -> str:
    """look_back(shift, width): M with the largest of p_i M p_j at j = i - shift, for sinusoidal positions p."""
    for shift, width in ((3, 32), (1, 32), (7, 64), (0, 16)):
        matrix = answer(shift, width)
        refuse_none(matrix)
        matrix = torch.from_numpy(matrix) if isinstance(matrix, np.ndarray) else matrix
        if not isinstance(matrix, Tensor) or tuple(matrix.shape) != (width, width):
            raise Wrong(
                f"shift {shift}: expected a tensor ({width}, {width}), given {getattr(matrix, 'shape', matrix)}"
            )
        positions = _sinusoids(200, width)
        found = (positions @ matrix.detach().double() @ positions.T).argmax(dim=1)[shift:200]
        own = torch.arange(shift, 200)
        right = (found == own - shift).double().mean().item()
        if right < 1:
            later = (found[: -shift or None] == own[: -shift or None] + shift).all()
            cause = "Most queries look later, not back: turn the other way. " if shift and later else ""
            cause = cause or ("Each query finds itself. " if (found == own).all() else "")
            raise Wrong(
                f"shift {shift}, width {width}: {right:.0%} of 200 positions find the right one. {cause}".strip()
            )
    return "right: every position finds the one `shift` before it, also far beyond 64"


def _sinusoids(length: int, width: int) -> Tensor:
    """Positions as in the lesson: all sines, then all cosines."""
    frequency = 10000.0 ** -(torch.arange(0, width, 2, dtype=torch.double) / width)
    angle = torch.arange(length)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
