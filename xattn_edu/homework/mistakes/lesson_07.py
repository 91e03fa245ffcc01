"""Answers to the exercises of lesson 7, two scales, one class token: wrong ones, and other right ones."""

from typing import NamedTuple

import torch
from einops import rearrange

from xattn_edu.homework.mistakes.by_hand import cross_attention, gathered
from xattn_edu.homework.mistakes.mistake import Named, entries


class Parts(NamedTuple):
    """The parts of a class-token attention and what they have computed; `query` is the first token of `normed`."""

    f: object
    norm: object
    attention: object
    g: object
    projected: torch.Tensor
    context: torch.Tensor
    normed: torch.Tensor
    query: torch.Tensor


def parts(token, patches, layer):
    f, norm, attention, g = layer.project, layer.norms[0], layer.attentions[0], layer.back
    projected = f(token)
    context = torch.cat([projected, patches], dim=1)
    normed = norm(context)
    return Parts(f, norm, attention, g, projected, context, normed, normed[:, :1])


def attended(token, patches, layer):
    p = parts(token, patches, layer)
    return cross_attention(p.attention, p.query, p.normed)


def class_token_attention(token, patches, layer):
    """The right answer."""
    return layer.back(attended(token, patches, layer) + layer.project(token))


def query_not_normed(token, patches, layer):
    p = parts(token, patches, layer)
    return p.g(cross_attention(p.attention, p.projected, p.normed) + p.projected)


def keys_not_normed(token, patches, layer):
    p = parts(token, patches, layer)
    return p.g(cross_attention(p.attention, p.query, p.context) + p.projected)


def nothing_normed(token, patches, layer):
    p = parts(token, patches, layer)
    return p.g(cross_attention(p.attention, p.projected, p.context) + p.projected)


def patches_alone_as_keys(token, patches, layer):
    p = parts(token, patches, layer)
    return p.g(cross_attention(p.attention, p.query, p.norm(patches)) + p.projected)


def normed_residual(token, patches, layer):
    p = parts(token, patches, layer)
    return p.g(attended(token, patches, layer) + p.query)


def without_scale(token, patches, layer):
    p = parts(token, patches, layer)
    return p.g(p.attention.output(gathered(p.attention, p.query, p.normed, scale=1)) + p.projected)


def scaled_by_the_layer(token, patches, layer):
    p = parts(token, patches, layer)
    scale = p.attention.width**0.5
    return p.g(p.attention.output(gathered(p.attention, p.query, p.normed, scale=scale)) + p.projected)


def without_g_if_it_fits(token, patches, layer):
    if token.shape[-1] != patches.shape[-1]:
        return class_token_attention(token, patches, layer)
    return attended(token, patches, layer) + layer.project(token)


def without_f_if_it_fits(token, patches, layer):
    fits = token.shape[-1] == patches.shape[-1]
    return (without_f if fits else class_token_attention)(token, patches, layer)


def with_one_head(token, patches, layer):
    p = parts(token, patches, layer)
    return p.g(p.attention.output(gathered(p.attention, p.query, p.normed, heads=1)) + p.projected)


def without_output_projection(token, patches, layer):
    p = parts(token, patches, layer)
    return p.g(gathered(p.attention, p.query, p.normed) + p.projected)


def without_f(token, patches, layer):
    context = layer.norms[0](torch.cat([token, patches], dim=1))
    return layer.back(cross_attention(layer.attentions[0], context[:, :1], context) + token)


class Direction(NamedTuple):
    """One direction of a fusion: its width, that of the other branch, and the patches that are keys."""

    width: int
    other: int
    patches: int


def f_and_g(d):
    return 2 * d.width * d.other


def query_and_output(d):
    return 2 * d.width**2


def keys_and_values(d):
    return 2 * (1 + d.patches) * d.width**2


def products(d):
    return 2 * (1 + d.patches) * d.width


PARTS = (f_and_g, query_and_output, keys_and_values, products)


def directions(widths, patches):
    return [Direction(widths[0], widths[1], patches[0]), Direction(widths[1], widths[0], patches[1])]


def fusion_macs(widths, patches):
    """The right answer."""
    return sum(part(d) for d in directions(widths, patches) for part in PARTS)


def without(part):
    return lambda w, p: fusion_macs(w, p) - sum(part(d) for d in directions(w, p))


def with_half_of(part):
    return lambda w, p: fusion_macs(w, p) - sum(part(d) // 2 for d in directions(w, p))


def one_direction(number):
    return lambda w, p: sum(part(directions(w, p)[number]) for part in PARTS)


def patches_alone(widths, patches):
    return fusion_macs(widths, [number - 1 for number in patches])


def a_query_for_each_token(widths, patches):
    once = fusion_macs(widths, patches)
    return once + sum(d.patches * (query_and_output(d) + products(d)) for d in directions(widths, patches))


def folded(layer, tokens, context, heads=None, scale=None, pattern="(h d) c -> h d c", transposed="", bias=True):
    """What the heads gathered, folded, without the values' bias: the context is averaged before W_v is applied.

    Mistakes: `transposed` names weights that are, and without `bias` the query has none.
    """
    heads = heads or layer.heads
    weights = {name: getattr(layer, name).weight for name in ("key", "value")}
    w_k, w_v = (rearrange(w.T if name == transposed else w, pattern, h=heads) for name, w in weights.items())
    query = layer.query(tokens) if bias else tokens @ layer.query.weight.T
    query = rearrange(query, "b q (h d) -> b h q d", h=heads)
    weights = (query / (scale or query.shape[-1] ** 0.5) @ w_k @ context[:, None].mT).softmax(-1)
    return rearrange(weights @ context[:, None] @ w_v.mT, "b h q d -> b q (h d)")


def folded_attention(layer, tokens, context, **how):
    """The right answer."""
    return layer.output(folded(layer, tokens, context, **how) + layer.value.bias)


SECTIONS = {
    "class_token_attention": "7.4",
    "fusion_macs": "7.6",
    "folded_attention": "7.7",
}
WRONG = {
    "class_token_attention": {
        "query not normed": Named("The query, too", query_not_normed),
        "keys not normed": Named("Keys and values are normalised", keys_not_normed),
        "nothing normed": Named("LayerNorm before the attention", nothing_normed),
        "patches alone as keys": Named("is a key, too", patches_alone_as_keys),
        "residual normed": Named("not its LayerNorm", normed_residual),
        "no residual": Named("residual is missing", lambda c, p, f: f.back(attended(c, p, f))),
        "added to the class token": Named("replaces", lambda c, p, f: c + class_token_attention(c, p, f)),
        "no scale": Named("sqrt(C/h) is missing", without_scale),
        "scale of the layer": Named("not of the layer", scaled_by_the_layer),
        "no g": Named("way back, g, is missing", without_g_if_it_fits),
        "no f where it fits": Named("goes through f first", without_f_if_it_fits),
        "one head": Named("heads were not kept apart", with_one_head),
        "no output projection": Named("output projection of the attention is missing", without_output_projection),
        "no f": without_f,
        "the layer's token and weights": lambda c, p, f: f(c, p),
        "f alone": lambda c, p, f: f.project(c),
        "the patches as well": lambda c, p, f: torch.cat([f(c, p)[0], p], 1),
        "the class token": lambda c, p, f: c,
    },
    "fusion_macs": {
        "patches alone as keys": Named("is a key, too", patches_alone),
        "no query and no output": Named("The query and the output", without(query_and_output)),
        "no query": Named("The query has its projection", with_half_of(query_and_output)),
        "keys alone projected": Named("Both are projected", with_half_of(keys_and_values)),
        "one product": Named("two products", with_half_of(products)),
        "no f and g": Named("of both directions are missing", without(f_and_g)),
        "f alone": Named("in both directions", with_half_of(f_and_g)),
        "a query for each token": Named("one query", a_query_for_each_token),
        "the query from L": Named("whose query comes from L", one_direction(0)),
        "the query from S": Named("whose query comes from S", one_direction(1)),
        "two for each multiply-add": Named("counts once", lambda w, p: 2 * fusion_macs(w, p)),
        "patches exchanged": lambda w, p: fusion_macs(w, p[::-1]),
    },
    "folded_attention": {
        "the layer": Named("but not folded", lambda f, t, c: f(t, c)),
        "self-attention": lambda f, t, c: f(t),
        "not folded": Named("but not folded", cross_attention),
        "no scale": Named("sqrt(C/h) is missing", lambda f, t, c: folded_attention(f, t, c, scale=1)),
        "channels of the heads mixed": lambda f, t, c: folded_attention(f, t, c, pattern="(d h) c -> h d c"),
        "no bias of the values": Named("values' bias", lambda f, t, c: f.output(folded(f, t, c))),
        "no output projection": Named("output projection is missing", lambda f, t, c: folded(f, t, c) + f.value.bias),
        "one head": Named("heads were not kept apart", lambda f, t, c: folded_attention(f, t, c, heads=1)),
        "scale of the layer": Named("not of the layer", lambda f, t, c: folded_attention(f, t, c, scale=f.width**0.5)),
        "no bias of the query": Named("query has a bias", lambda f, t, c: folded_attention(f, t, c, bias=False)),
        "W_k transposed": Named("W_k is transposed", lambda f, t, c: folded_attention(f, t, c, transposed="key")),
        "W_v transposed": Named("W_v is transposed", lambda f, t, c: folded_attention(f, t, c, transposed="value")),
        "divided by the heads": lambda f, t, c: f.output((folded(f, t, c) + f.value.bias) / f.heads),
    },
}


def token_beside_patches(token, patches, layer):
    """The norm goes over each token by itself, so it can come before they are joined."""
    p = parts(token, patches, layer)
    asking = p.norm(p.projected)
    return p.g(p.attention(asking, torch.cat([asking, p.norm(patches)], dim=1)) + p.projected)


def folded_head_by_head(layer, tokens, context):
    dim, found = layer.width // layer.heads, []
    for h in range(layer.heads):
        rows = slice(h * dim, (h + 1) * dim)
        query = layer.query(tokens)[..., rows]
        weights = ((query @ layer.key.weight[rows]) @ context.mT / dim**0.5).softmax(-1)
        found.append(weights @ context @ layer.value.weight[rows].T + layer.value.bias[rows])
    return layer.output(torch.cat(found, dim=-1))


RIGHT = {
    "class_token_attention": {
        "by hand": class_token_attention,
        "the layer's own": lambda c, p, f: f(c, p)[0],
        "normed before they are joined": token_beside_patches,
    },
    "fusion_macs": {
        "summed by part": fusion_macs,
        "one formula": lambda w, p: (
            4 * w[0] * w[1] + sum(2 * (p[i] + 2) * w[i] ** 2 + 2 * (p[i] + 1) * w[i] for i in (0, 1))
        ),
    },
    "folded_attention": {
        "scale on the query": folded_attention,
        "head by head": folded_head_by_head,
    },
}

MISTAKES, DIFFERENT = entries(7, SECTIONS, WRONG, RIGHT)
