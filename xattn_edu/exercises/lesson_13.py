"""Checks of the exercises in lesson 13, choosing keys and values."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu.exercises.altered import without_output_projection
from xattn_edu.exercises.checking import Answer, Wrong, compare, compare_pairs, exercise, two
from xattn_edu.exercises.guard import Guarded
from xattn_edu.measure.costs import count
from xattn_edu.models.attention import MultiHeadAttention, merge_heads, split_heads

Pair = tuple[Tensor, Tensor]  # the new tokens, then the weights


@exercise
def cross_attention_macs(answer: Answer) -> str:
    """cross_attention_macs(queries, keys, width, context_width): MACs of a layer: four projections, two products."""
    for queries, keys, width, context_width in ((900, 20, 128, 768), (1, 401, 384, 192), (197, 197, 384, 384)):
        layer = MultiHeadAttention(width, 1, context_width)
        tokens, context = torch.zeros(1, queries, width), torch.zeros(1, keys, context_width)
        expected = count(layer, tokens, context).macs
        projection_of_query, projection_of_key = queries * width**2, keys * context_width * width
        product = queries * keys * width
        keys_of_width = expected + 2 * (keys * width**2 - projection_of_key)
        queries_as_keys = expected + 2 * (keys - queries) * width**2
        keys_as_queries = expected + 2 * (queries - keys) * context_width * width
        outputs_as_keys = expected + (keys - queries) * width**2
        causes = {
            "The two products, q k^T and A v, are missing.": expected - 2 * product,
            "There are two products: q k^T and A v.": expected - product,
            "The output projection is missing: one more width x width matrix for each query.": (
                expected - projection_of_query
            ),
            "A key and a value are made of each token of the context: two projections.": expected - projection_of_key,
            "Keys and values are made from the context: their matrices are context_width x width.": keys_of_width,
            "Queries and outputs are as many as the queries, not as the keys.": queries_as_keys,
            "Keys and values are as many as the keys, not as the queries.": keys_as_queries,
            "The output has as many tokens as there are queries.": outputs_as_keys,
            "The products run over queries x keys, not over the queries squared.": (
                expected + 2 * (queries**2 * width - product)
            ),
            "The products run over queries x keys, not over the keys squared.": (
                expected + 2 * (keys**2 * width - product)
            ),
            "A multiply-add counts once, as in the papers.": 2 * expected,
        }
        where = f"{queries} quer{'y' if queries == 1 else 'ies'}, {keys} keys, width {width}"
        where += f", context {context_width} wide"
        compare(answer(queries, keys, width, context_width), expected, where, causes)
    return "right: once for each query, once for each key, and once for each pair"


@exercise
def look_up(answer: Answer) -> str:
    """look_up(layer, tokens, keys_from, values_from, mask): keys from one source, the values from another."""
    for batch, queries, keys, width, context_width, heads in (
        (2, 3, 5, 8, 6, 2),
        (3, 4, 4, 6, 6, 3),
        (1, 6, 3, 4, 5, 1),
    ):
        torch.manual_seed(30)
        layer = MultiHeadAttention(width, heads, context_width).double()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.6)
        tokens = torch.randn(batch, queries, width, dtype=torch.double)
        one, other = torch.randn(2, batch, keys, context_width, dtype=torch.double)
        mask = torch.arange(keys) < torch.tensor([[keys - 1], [keys - 2], [keys - 3]])[:batch]

        expected = _looked_up(layer, tokens, one, other, mask)
        not_projected = _looked_up(without_output_projection(layer), tokens, one, other, mask)
        causes = {
            "The keys came from the source of the values.": _looked_up(layer, tokens, other, other, mask),
            "The values came from the source of the keys.": _looked_up(layer, tokens, one, one, mask),
            "Keys and values changed places.": _looked_up(layer, tokens, other, one, mask),
            "The queries attend to padding: the mask is missing.": _looked_up(layer, tokens, one, other, mask | True),
            "The mask is inverted: True marks a key that a query attends to.": (
                _looked_up(layer, tokens, one, other, ~mask)
            ),
            "The output projection is missing.": not_projected,
            "No residual: return the output alone, without the tokens.": tokens + expected,
        }
        if queries == keys and width == context_width:
            causes["The tokens give the queries, not the keys."] = _looked_up(layer, tokens, tokens, other, mask)
            causes["The tokens give the queries, not the values."] = _looked_up(layer, tokens, one, tokens, mask)
        given = answer(layer, tokens.clone(), one.clone(), other.clone(), mask.clone())
        if isinstance(given, tuple):
            raise Wrong("attend returns two things, the output and the weights: return the output alone")
        compare(given, expected, f"{queries} queries, {keys} keys, {heads} head{'s' * (heads > 1)}", causes)
    return "right: the keys decide where to look, the values what is found there"


def _looked_up(layer: MultiHeadAttention, tokens: Tensor, keys_from: Tensor, values_from: Tensor, mask: Tensor) -> Any:
    key, value = layer.keys_and_values(keys_from)[0], layer.keys_and_values(values_from)[1]
    return layer.attend(tokens, key, value, mask[:, None])[0]


@exercise
def own_cross_attention(answer: Guarded) -> str:
    """A class, answer(width, context_width, heads); its forward(tokens, context, mask): new tokens and weights."""
    for batch, queries, keys, width, context_width, heads in (
        (2, 3, 5, 8, 6, 2),
        (3, 4, 4, 6, 6, 3),
        (1, 5, 4, 4, 7, 1),
    ):
        torch.manual_seed(31)
        module = answer(width, context_width, heads)
        _check_parts(module, {"query": width, "key": context_width, "value": context_width, "output": width}, width)
        module = module.double()
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.6)
        nn.init.normal_(module.norm.weight, mean=1.0, std=0.3)
        tokens = 2 + torch.randn(batch, queries, width, dtype=torch.double)
        context = torch.randn(batch, keys, context_width, dtype=torch.double)
        mask = torch.arange(keys) < torch.tensor([[keys - 1], [keys - 2], [keys - 3]])[:batch]

        step = _Step(module, heads, tokens, mask[:, None, None])
        right = step.from_sources(context, context)
        mistakes = _mistakes_in_attention(step, context) | _mistakes_around_attention(step, context)
        if width == context_width:
            mistakes |= _mistakes_in_sources(step, context)
        where = f"{queries} queries, {keys} keys, {heads} head{'s' * (heads > 1)}"
        given = two(answer.of(module)(tokens.clone(), context.clone(), mask.clone()), "the new tokens and the weights")
        # The weights first: a mistake in the weights changes the tokens, too, and the tokens do not show where it is.
        compare_pairs(given, right, where, mistakes, {1: "weights", 0: "new tokens"})
    return "right: a cross-attention of your own, without padding"


def _check_parts(module: Any, widths: Mapping[str, int], width: int) -> None:
    """Raise Wrong unless the module has a norm and the four projections, each from its width to the layer's."""
    if not isinstance(module, nn.Module):
        raise Wrong(f"write a class that is an nn.Module, given a class that makes a {type(module).__name__}")
    if not isinstance(getattr(module, "norm", None), nn.LayerNorm):
        raise Wrong("self.norm, the LayerNorm of the tokens, is missing")
    for name, wide in widths.items():
        layer = getattr(module, name, None)
        if not isinstance(layer, nn.Linear):
            raise Wrong(f"self.{name} must be an nn.Linear, given {type(layer).__name__}")
        if (layer.in_features, layer.out_features) != (wide, width):
            source = "the context" if name in ("key", "value") else "the tokens"
            hint = "its input is what the heads gathered" if name == "output" else f"its input is {source}"
            given = f"given {layer.in_features} to {layer.out_features}"
            raise Wrong(f"self.{name} must lead from {wide} channels to {width} ({hint}), {given}")


class _Step:
    """The capstone's cross-attention, computed with the reader's layers; each method is one part of it."""

    def __init__(self, module: Any, heads: int, tokens: Tensor, seen: Tensor):
        self.module, self.heads, self.tokens = module, heads, tokens
        self.normed = module.norm(tokens)
        self.seen = seen  # (batch, 1, 1, key), False for padding

    def projected(self, keys_from: Tensor, values_from: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, token, width)."""
        return self.module.query(self.normed), self.module.key(keys_from), self.module.value(values_from)

    def attended(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Pair:
        """The output of each head, and the weights, from queries, keys and values (batch, head, token, channel)."""
        scores = query @ key.mT / query.shape[-1] ** 0.5
        weights = scores.masked_fill(~(self.seen if seen is None else seen), -1e9).softmax(-1)
        return weights @ value, weights

    def ended(self, gathered: Tensor, weights: Tensor) -> Pair:
        """Heads merged, projected, and added to the tokens."""
        return self.tokens + self.module.output(merge_heads(gathered)), weights

    def from_sources(self, keys_from: Tensor, values_from: Tensor) -> Pair:
        q, k, v = (split_heads(x, self.heads) for x in self.projected(keys_from, values_from))
        return self.ended(*self.attended(q, k, v))


def _mistakes_in_attention(step: _Step, context: Tensor) -> dict[str, Pair]:
    projected = step.projected(context, context)
    q, k, v = (split_heads(x, step.heads) for x in projected)
    width, depth = step.tokens.shape[-1], q.shape[-1]
    viewed = [x.reshape(len(x), step.heads, x.shape[1], -1) for x in projected]
    one_head = [split_heads(x, 1) for x in projected]
    scores = q @ k.mT / depth**0.5
    over_queries = scores.masked_fill(~step.seen, -1e9).softmax(2)
    masked_late = scores.softmax(-1) * step.seen
    mistakes = {
        "The queries attend to padding: the mask is missing.": step.attended(q, k, v, step.seen | True),
        "The mask is inverted: True marks a token of the context, False marks padding.": (
            step.attended(q, k, v, ~step.seen)
        ),
        "The division by sqrt(d) is missing.": step.attended(q * depth**0.5, k, v),
        "d is the width of a head, not of the layer.": step.attended(q * (depth / width) ** 0.5, k, v),
        "The scores are divided by sqrt(d), not multiplied.": step.attended(q * depth, k, v),
        "Softmax goes over the keys, the last axis.": (over_queries @ v, over_queries),
        "Padding is masked after the softmax: the weights of a query no longer add up to 1.": (
            masked_late @ v,
            masked_late,
        ),
        "The heads are not kept apart: split the channels first.": step.attended(*one_head),
        "Each head works with its own channels: view alone mixes them with the tokens, see split_heads.": (
            step.attended(*viewed)
        ),
    }
    return {cause: step.ended(*pair) for cause, pair in mistakes.items()}


def _mistakes_around_attention(step: _Step, context: Tensor) -> dict[str, Pair]:
    q, k, v = (split_heads(x, step.heads) for x in step.projected(context, context))
    gathered, weights = step.attended(q, k, v)
    output = step.module.output(merge_heads(gathered))
    reshaped = gathered.reshape(output.shape)
    query_not_normed = split_heads(step.module.query(step.tokens), step.heads)
    return {
        "Merge the heads with merge_heads: a reshape alone mixes channels and tokens.": (
            step.tokens + step.module.output(reshaped),
            weights,
        ),
        "The residual is missing: the output is added to the tokens.": (output, weights),
        "The tokens are added once.": (2 * step.tokens + output, weights),
        "The residual is the tokens themselves, not their norm.": (step.normed + output, weights),
        "The norm is missing: queries are made of self.norm(tokens).": step.ended(
            *step.attended(query_not_normed, k, v)
        ),
        "The output projection is missing.": (step.tokens + merge_heads(gathered), weights),
    }


def _mistakes_in_sources(step: _Step, context: Tensor) -> dict[str, Pair]:
    """Mistakes that fit together only if tokens and context have the same width, and some also the same number."""
    normed_context = step.module.norm(context)
    mistakes = {
        "The norm is that of the tokens; the context is not normed.": step.from_sources(normed_context, normed_context)
    }
    if step.tokens.shape == context.shape:
        mistakes |= {
            "This is self-attention: keys and values come from the context.": (
                step.from_sources(step.normed, step.normed)
            ),
            "The keys came from the tokens.": step.from_sources(step.normed, context),
            "The values came from the tokens.": step.from_sources(context, step.normed),
        }
    return mistakes
