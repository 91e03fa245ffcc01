"""Checks of the exercises in lesson 13, choosing keys and values."""

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, close, compare, exercise, two
from xattn_edu.measure.costs import count
from xattn_edu.models.attention import MultiHeadAttention, merge_heads, split_heads


@exercise
def cross_attention_macs(answer: Answer) -> str:
    """cross_attention_macs(queries, keys, width, context_width): a whole layer's MACs, four projections, two products."""
    for queries, keys, width, context_width in ((197, 197, 384, 384), (1, 401, 384, 192), (900, 20, 128, 768)):
        layer = MultiHeadAttention(width, 1, context_width)
        tokens, context = torch.zeros(1, queries, width), torch.zeros(1, keys, context_width)
        expected = count(layer, tokens, context).macs
        asking, answering, products = queries * width**2, keys * context_width * width, queries * keys * width
        causes = {
            "The two products, q k^T and A v, are missing.": expected - 2 * products,
            "There are two products: q k^T and A v.": expected - products,
            "The output projection is missing: one more width x width matrix for each query.": expected - asking,
            "A key and a value are made of each token of the context: two projections.": expected - answering,
            "Keys and values are made from the context: their matrices are context_width x width.": expected
            + 2 * (keys * width**2 - answering),
            "Queries and outputs are as many as the queries, not as the keys.": expected
            + 2 * (keys - queries) * width**2,
            "Keys and values are as many as the keys, not as the queries.": expected
            + 2 * (queries - keys) * context_width * width,
            "The output has as many tokens as there are queries.": expected + (keys - queries) * width**2,
            "The products run over queries x keys, not over the queries squared.": expected
            + 2 * (queries**2 * width - products),
            "The products run over queries x keys, not over the keys squared.": expected
            + 2 * (keys**2 * width - products),
            "A multiply-add counts once, as in the papers.": 2 * expected,
        }
        where = f"{queries} queries, {keys} keys, width {width}, context {context_width} wide"
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

        def looked_up(
            asked: Tensor, told: Tensor, seen: Tensor | None, layer: Any = layer, x: Tensor = tokens
        ) -> Tensor:
            pair = layer.keys_and_values(asked)[0], layer.keys_and_values(told)[1]
            return layer.attend(x, *pair, None if seen is None else seen[:, None])[0]

        expected = looked_up(one, other, mask)
        bare = copy.deepcopy(layer)
        nn.init.eye_(bare.output.weight)
        nn.init.zeros_(bare.output.bias)
        causes = {
            "The keys came from the source of the values.": looked_up(other, other, mask),
            "The values came from the source of the keys.": looked_up(one, one, mask),
            "Keys and values changed places.": looked_up(other, one, mask),
            "Padding is looked at: the mask is missing.": looked_up(one, other, None),
            "The mask is upside down: True is where a key counts.": looked_up(one, other, ~mask),
            "The output projection is missing.": looked_up(one, other, mask, layer=bare),
            "No residual: what was looked up is asked for, by itself.": tokens + expected,
        }
        if queries == keys and width == context_width:
            causes["The tokens ask; they are no keys."] = looked_up(tokens, other, mask)
            causes["The tokens ask; they are no values."] = looked_up(one, tokens, mask)
        given = answer(layer, tokens.clone(), one.clone(), other.clone(), mask.clone())
        if isinstance(given, tuple):
            raise Wrong("attend returns two things, the output and the weights: return the output alone")
        compare(given, expected, f"{queries} queries, {keys} keys, {heads} heads", causes)
    return "right: keys decide where to look, values what is found there"


@exercise
def own_cross_attention(answer: Answer) -> str:
    """A class, answer(width, context_width, heads); its forward(tokens, context, mask): the new tokens and the weights."""
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

        step = functools.partial(_own, module, heads=heads, tokens=tokens, context=context, mask=mask)
        mistakes = {
            "Padding is looked at: the mask is missing.": step(mask=mask | True),
            "The mask is upside down: True is where a token of the context counts.": step(mask=~mask),
            "The division by sqrt(d) is missing.": step(scale=1),
            "d is the width of a head, not of the layer.": step(scale=width**0.5),
            "Softmax goes over the keys, the last axis.": step(over=2),
            "Padding is masked after the softmax: the weights of a query no longer add up to 1.": step(late=True),
            "The heads are not kept apart: split the channels first.": step(heads=1),
            "Each head works with its own channels: view alone mixes them with the tokens, see split_heads.": step(
                split=lambda x, h: x.reshape(len(x), h, x.shape[1], -1)
            ),
            "Merge the heads with merge_heads: a reshape alone mixes channels and tokens.": step(
                merge=lambda x: x.reshape(len(x), x.shape[2], -1)
            ),
            "The residual is missing: what was found is added to the tokens.": step(residual=0),
            "The residual is the tokens as they came, not normed.": step(residual="normed"),
            "The norm is missing: queries are made of self.norm(tokens).": step(norm=nn.Identity()),
            "The output projection is missing.": step(output=nn.Identity()),
        }
        if width == context_width:
            normed = module.norm(context)
            mistakes["The norm is that of the tokens; the context comes as it is."] = step(context=normed)
            if queries == keys:
                asked = module.norm(tokens)
                mistakes["This is self-attention: keys and values come from the context."] = step(context=asked)
                mistakes["The keys came from the tokens."] = step(keys=asked)
                mistakes["The values came from the tokens."] = step(values=asked)
        where = f"{queries} queries, {keys} keys, {heads} head{'s' * (heads > 1)}"
        given = two(module(tokens.clone(), context.clone(), mask.clone()), "the new tokens and the weights")
        right = step()
        mistakes = {cause: pair for cause, pair in mistakes.items() if not all(map(close, pair, right))}
        known = [cause for cause, pair in mistakes.items() if all(map(close, given, pair))]
        if known:
            raise Wrong(f"{where}: {known[0]}")
        # The weights first: a mistake in them shows in the tokens, too, and would be looked for there.
        for number, name in ((1, "weights"), (0, "new tokens")):
            differ = {cause: pair[number] for cause, pair in mistakes.items() if not close(pair[number], right[number])}
            compare(given[number], right[number], f"{name}, {where}", differ)
    return "right: a cross-attention of your own, with padding out of play"


def _check_parts(module: Any, widths: dict[str, int], width: int) -> None:
    """Raise Wrong unless the module has a norm and the four projections, each from its width to the layer's."""
    if not isinstance(module, nn.Module):
        raise Wrong(f"a class that is an nn.Module is asked for, given what makes a {type(module).__name__}")
    if not isinstance(getattr(module, "norm", None), nn.LayerNorm):
        raise Wrong("self.norm, the LayerNorm of the tokens, is missing")
    for name, wide in widths.items():
        layer = getattr(module, name, None)
        if not isinstance(layer, nn.Linear):
            raise Wrong(f"self.{name} must be an nn.Linear, given {type(layer).__name__}")
        if (layer.in_features, layer.out_features) != (wide, width):
            source = "the context" if name in ("key", "value") else "the tokens"
            hint = "it reads what the heads found" if name == "output" else f"it reads {source}"
            given = f"given {layer.in_features} to {layer.out_features}"
            raise Wrong(f"self.{name} must lead from {wide} channels to {width} ({hint}), {given}")


def _own(
    module: Any,
    heads: int,
    tokens: Tensor,
    context: Tensor,
    mask: Tensor,
    *,
    scale: float | None = None,
    over: int = -1,
    late: bool = False,
    split: Any = split_heads,
    merge: Any = merge_heads,
    residual: Any = 1,
    norm: Any = None,
    output: Any = None,
    keys: Tensor | None = None,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The new tokens and the weights, or those of a mistake."""
    normed = (norm or module.norm)(tokens)
    query = split(module.query(normed), heads)
    key, value = (
        split(layer(context if source is None else source), heads)
        for layer, source in ((module.key, keys), (module.value, values))
    )
    scores, seen = query @ key.transpose(-1, -2) / (scale or query.shape[-1] ** 0.5), mask[:, None, None]
    weights = scores.softmax(over) * seen if late else scores.masked_fill(~seen, -1e9).softmax(over)
    told = (output or module.output)(merge(weights @ value))
    return told + (normed if residual == "normed" else residual * tokens), weights
