"""Checks of the exercises in lesson 2, self-attention in PyTorch."""

import functools

import torch
from torch import Tensor

from xattn_edu.exercises.altered import with_one_head, with_scaled_query, without_output_projection
from xattn_edu.exercises.checking import Answer, compare, exercise
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
def attention_parameters(answer: Answer) -> str:
    """attention_parameters(width, heads, context_width): weights and biases of one multi-head attention."""
    for width, heads, context_width in ((8, 2, 8), (12, 3, 20), (64, 8, 64), (64, 1, 32)):
        expected = sum(p.numel() for p in MultiHeadAttention(width, heads, context_width).parameters())
        all_from_tokens = 4 * width**2 + 4 * width
        values_from_tokens = expected - (context_width - width) * width
        bias_of_the_input = expected + 2 * (context_width - width)
        causes = {
            "Each of the four linear layers has a bias too.": expected - 4 * width,
            "Keys and values are projected from the context, which is context_width wide.": all_from_tokens,
            "The output projection is missing.": expected - width**2 - width,
            "Values, too, are projected from the context.": values_from_tokens,
            "A bias is as wide as the layer's output.": bias_of_the_input,
            "Heads divide the width among them: more heads are not more parameters.": expected * heads,
        }
        where = f"width {width}, {heads} heads, context {context_width} wide"
        compare(answer(width, heads, context_width), expected, where, causes)
    return "right, and the number of heads makes no difference"


@exercise
def cross_attention(answer: Answer) -> str:
    """cross_attention(layer, tokens, context): the layer's output with keys and values from the context."""
    generator = torch.Generator().manual_seed(3)
    for batch, n, m, width, heads in ((1, 4, 4, 8, 4), (2, 3, 5, 8, 2), (2, 1, 6, 4, 1)):
        torch.manual_seed(4)
        layer = MultiHeadAttention(width, heads).double()
        tokens = torch.randn(batch, n, width, generator=generator, dtype=torch.double)
        context = torch.randn(batch, m, width, generator=generator, dtype=torch.double)
        unscaled = with_scaled_query(layer, (width / heads) ** 0.5)
        scaled_by_width = with_scaled_query(layer, heads**-0.5)
        causes = {
            "The division by sqrt(d) is missing.": unscaled(tokens, context),
            "d is the width of a head, not of the layer.": scaled_by_width(tokens, context),
            "This is self-attention: nothing came from the context.": layer(tokens),
            "Exchanged: queries come from the tokens, keys and values from the context.": layer(context, tokens),
            "The output projection is missing.": without_output_projection(layer)(tokens, context),
            "The heads were not kept apart.": with_one_head(layer)(tokens, context),
        }
        if n == m:  # otherwise keys and values from two sources do not fit together
            causes["The values came from the tokens."] = _from_sources(layer, tokens, context, tokens)
            causes["The keys came from the tokens."] = _from_sources(layer, tokens, tokens, context)
        where = f"{n} queries, {m} keys, {heads} heads"
        compare(answer(layer, tokens.clone(), context.clone()), layer(tokens, context), where, causes)
    return "right, equal to the library's layer"


def _from_sources(layer: MultiHeadAttention, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The layer's output with keys from one source and values from another."""
    split = functools.partial(split_heads, heads=layer.heads)
    mixed, _ = attention(split(layer.query(tokens)), split(layer.key(keys)), split(layer.value(values)))
    return layer.output(merge_heads(mixed))
