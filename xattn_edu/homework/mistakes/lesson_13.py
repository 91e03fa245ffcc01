"""Answers to the exercises of lesson 13, choosing keys and values: wrong ones, and other right ones."""

import torch
from torch import nn

from xattn_edu.homework.mistakes.mistake import Named, entries
from xattn_edu.models.attention import attention, merge_heads, split_heads


def projections(tokens, width_in, width):
    """Multiply-adds of one linear layer."""
    return tokens * width_in * width


def cross_attention_macs(n, m, d, c):
    """The right answer."""
    return 2 * projections(n, d, d) + 2 * projections(m, c, d) + 2 * n * m * d


def looked_up(layer, tokens, keys_from, values_from, mask):
    """The heads' output; the mask is None or (batch, key)."""
    parts = layer.query(tokens), layer.key(keys_from), layer.value(values_from)
    q, k, v = (split_heads(part, layer.heads) for part in parts)
    return merge_heads(attention(q, k, v, None if mask is None else mask[:, None, None])[0])


def look_up(layer, *arguments):
    """The right answer."""
    return layer.output(looked_up(layer, *arguments))


def all_tokens_as_keys(layer, x, one, other, mask):
    return layer(x, torch.cat([one, other], 1), torch.cat([mask, mask], 1)[:, None])


class OwnCrossAttention(nn.Module):
    """The capstone's right answer. Its steps are static methods: `own` replaces some of them by mistakes."""

    norm_layer = nn.LayerNorm

    def __init__(self, width, context_width, heads):
        super().__init__()
        self.heads = heads
        self.norm = self.norm_layer(width)
        self.query, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = nn.Linear(context_width, width), nn.Linear(context_width, width)

    def forward(self, tokens, context, mask):
        normed = self.normed(self.norm, tokens)
        keys_from, values_from = self.keys_from(normed, context), self.values_from(normed, context)
        projected = self.query(normed), self.key(keys_from), self.value(values_from)
        q, k, v = (self.split(x, self.heads) for x in projected)
        weights = self.weights(self.scores(q, k), mask[:, None, None])
        found = self.projected(self.output, self.merge(weights @ v))
        return self.end(tokens, normed, found, weights)

    @staticmethod
    def normed(norm, tokens):
        return norm(tokens)

    @staticmethod
    def keys_from(normed, context):
        return context

    values_from = keys_from
    split = staticmethod(split_heads)
    merge = staticmethod(merge_heads)

    @staticmethod
    def scores(query, key):
        return query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5

    @staticmethod
    def weights(scores, seen):
        return scores.masked_fill(~seen, -1e4).softmax(-1)

    @staticmethod
    def projected(output, found):
        return output(found)

    @staticmethod
    def end(tokens, normed, found, weights):
        return tokens + found, weights


def own(**steps):
    """The capstone's answer with some steps replaced."""
    return type("MyCrossAttention", (OwnCrossAttention,), {name: staticmethod(step) for name, step in steps.items()})


class OutputRenamed(OwnCrossAttention):
    def __init__(self, width, context_width, heads):
        super().__init__(width, context_width, heads)
        self.out, self.output = self.output, None


class ContextNormed(OwnCrossAttention):
    """The norm of the tokens is used for the context, too, where it fits."""

    def keys_from(self, normed, context):
        return self.norm(context) if normed.shape[-1] == context.shape[-1] else context

    values_from = keys_from


def fitting(tokens, source):
    """The tokens where they can take the place of a source of keys or values."""
    return tokens if tokens.shape == source.shape else source


def scores_by_the_layer_width(query, key):
    return query @ key.transpose(-1, -2) / (query.shape[1] * query.shape[-1]) ** 0.5


def normed_tokens_if_they_fit(normed, context):
    return normed if normed.shape == context.shape else context


def class_token_if_it_fits(normed, context):
    return normed[:, :1].expand(-1, context.shape[1], -1) if normed.shape[2] == context.shape[2] else context


def masked_by_a_product(scores, seen):
    return scores.exp() * seen / (scores.exp() * seen).sum(-1, keepdim=True)


def viewed(x, heads):
    return x.reshape(len(x), heads, x.shape[1], -1)


def reshaped(x):
    return x.reshape(len(x), x.shape[2], -1)


SECTIONS = {
    "look_up": "13.3",
    "cross_attention_macs": "13.4",
    "own_cross_attention": "13.7",
}
WRONG = {
    "cross_attention_macs": {
        "no products": Named("are missing", lambda n, m, d, c: cross_attention_macs(n, m, d, c) - 2 * n * m * d),
        "one product": Named("There are two products", lambda n, m, d, c: cross_attention_macs(n, m, d, c) - n * m * d),
        "no output projection": Named(
            "output projection is missing", lambda n, m, d, c: cross_attention_macs(n, m, d, c) - projections(n, d, d)
        ),
        "keys alone": Named(
            "two projections", lambda n, m, d, c: cross_attention_macs(n, m, d, c) - projections(m, c, d)
        ),
        "context as wide as the tokens": Named(
            "context_width x width", lambda n, m, d, c: cross_attention_macs(n, m, d, d)
        ),
        "as many queries as keys": lambda n, m, d, c: cross_attention_macs(m, m, d, c),
        "as many keys as queries": lambda n, m, d, c: cross_attention_macs(n, n, d, c),
        "as many queries and outputs as keys": Named(
            "Queries and outputs", lambda n, m, d, c: 2 * m * d * d + 2 * m * c * d + 2 * n * m * d
        ),
        "as many keys and values as queries": Named(
            "Keys and values are as many", lambda n, m, d, c: 2 * n * d * d + 2 * n * c * d + 2 * n * m * d
        ),
        "as many outputs as keys": Named(
            "output has as many", lambda n, m, d, c: n * d * d + m * d * d + 2 * m * c * d + 2 * n * m * d
        ),
        "two for each multiply-add": Named("counts once", lambda *a: 2 * cross_attention_macs(*a)),
        "queries squared": Named(
            "not over the queries squared", lambda n, m, d, c: 2 * n * d * d + 2 * m * c * d + 2 * n * n * d
        ),
        "keys squared": Named(
            "not over the keys squared", lambda n, m, d, c: 2 * n * d * d + 2 * m * c * d + 2 * m * m * d
        ),
        "not a number": lambda *a: float("nan"),
        "nothing": Named("returns None", lambda *a: None),
    },
    "look_up": {
        "both from other": Named("keys came from", lambda f, x, one, other, m: look_up(f, x, other, other, m)),
        "both from one": Named(
            "values came from the source of the keys", lambda f, x, one, other, m: look_up(f, x, one, one, m)
        ),
        "exchanged": Named("changed places", lambda f, x, one, other, m: look_up(f, x, other, one, m)),
        "no mask": Named("mask is missing", lambda f, x, one, other, m: look_up(f, x, one, other, None)),
        "mask inverted": Named("inverted", lambda f, x, one, other, m: look_up(f, x, one, other, ~m)),
        "no output projection": Named("output projection is missing", looked_up),
        "a residual": Named("No residual", lambda f, x, *rest: x + look_up(f, x, *rest)),
        "two attentions": lambda f, x, one, other, m: f(x, one, m[:, None]) + f(x, other, m[:, None]),
        "both sources added": lambda f, x, one, other, m: f(x, one + other, m[:, None]),
        "keys from the tokens": Named(
            "not the keys", lambda f, x, one, other, m: look_up(f, x, fitting(x, one), other, m)
        ),
        "values from the tokens": Named(
            "not the values", lambda f, x, one, other, m: look_up(f, x, one, fitting(x, other), m)
        ),
        "all tokens as keys": all_tokens_as_keys,
        "the first token": lambda *a: look_up(*a)[:, :1],
        "output and weights": Named("attend returns two things", lambda *a: (look_up(*a), None)),
        "nothing": Named("returns None", lambda *a: None),
    },
    "own_cross_attention": {
        "no mask": Named("mask is missing", own(weights=lambda s, seen: s.softmax(-1))),
        "mask inverted": Named("inverted", own(weights=lambda s, seen: s.masked_fill(seen, -1e4).softmax(-1))),
        "masked after softmax": Named("masked after the softmax", own(weights=lambda s, seen: s.softmax(-1) * seen)),
        "scores of padding set to 0": own(weights=lambda s, seen: (s * seen).softmax(-1)),
        "softmax over queries": Named(
            "over the keys", own(weights=lambda s, seen: s.masked_fill(~seen, -1e4).softmax(2))
        ),
        "softmax over heads": own(weights=lambda s, seen: s.masked_fill(~seen, -1e4).softmax(1)),
        "no scale": Named("sqrt(d) is missing", own(scores=lambda q, k: q @ k.transpose(-1, -2))),
        "scale of the layer": Named("width of a head", own(scores=scores_by_the_layer_width)),
        "no root": own(scores=lambda q, k: q @ k.transpose(-1, -2) / q.shape[-1]),
        "one head": Named("split the channels first", own(split=lambda x, heads: split_heads(x, 1))),
        "heads by view": Named("view alone", own(split=viewed)),
        "merged by reshape": Named("merge_heads", own(merge=reshaped)),
        "no norm": Named("norm is missing", own(normed=lambda norm, x: x)),
        "no output projection": Named("output projection is missing", own(projected=lambda output, found: found)),
        "no residual": Named("residual is missing", own(end=lambda x, normed, found, w: (found, w))),
        "residual twice": Named("added once", own(end=lambda x, normed, found, w: (x + x + found, w))),
        "multiplied by the root": Named(
            "not multiplied", own(scores=lambda q, k: q @ k.transpose(-1, -2) * q.shape[-1] ** 0.5)
        ),
        "residual normed": Named("not their norm", own(end=lambda x, normed, found, w: (normed + found, w))),
        "weights averaged over heads": own(end=lambda x, normed, found, w: (x + found, w.mean(1))),
        "tokens alone": Named("return two values", own(end=lambda x, normed, found, w: x + found)),
        "weights first": own(end=lambda x, normed, found, w: (w, x + found)),
        "forward returns nothing": Named("returns None", own(end=lambda x, normed, found, w: None)),
        "values from the first token": own(values_from=class_token_if_it_fits),
        "keys from the tokens": Named("keys came from", own(keys_from=normed_tokens_if_they_fit)),
        "values from the tokens": Named("values came from", own(values_from=normed_tokens_if_they_fit)),
        "self-attention": Named(
            "This is self-attention", own(keys_from=normed_tokens_if_they_fit, values_from=normed_tokens_if_they_fit)
        ),
        "context normed": Named("the context is not normed", ContextNormed),
        "keys 8 wide": Named("must lead from 6 channels", lambda width, c, heads: OwnCrossAttention(width, 8, heads)),
        "no LayerNorm": Named("LayerNorm of the tokens, is missing", own(norm_layer=nn.Identity)),
        "output renamed": Named("self.output must be", OutputRenamed),
        "a layer norm": Named("LayerNorm of the tokens, is missing", lambda *sizes: nn.LayerNorm(4)),
        "tokens changed in place": Named("changes `tokens`", own(end=lambda x, normed, found, w: (x.add_(found), w))),
        "values detached": Named("no gradient reaches value", own(merge=lambda found: merge_heads(found.detach()))),
        "nothing": Named("an nn.Module", lambda *sizes: None),
    },
}
RIGHT = {
    "cross_attention_macs": {
        "one factor 2": lambda n, m, d, c: 2 * (n * d * d + m * c * d + n * m * d),
        "a tensor": lambda *a: torch.tensor(cross_attention_macs(*a)),
    },
    "look_up": {"by hand": look_up},
    "own_cross_attention": {
        "-1e4": OwnCrossAttention,
        "-inf": own(weights=lambda s, seen: s.masked_fill(~seen, -torch.inf).softmax(-1)),
        "masked by a product": own(weights=masked_by_a_product),
        "a list, in place": own(end=lambda x, normed, found, w: [found.add_(x), w]),
    },
}

MISTAKES, DIFFERENT = entries(13, SECTIONS, WRONG, RIGHT)
