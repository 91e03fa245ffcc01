"""Answers to the exercises of lesson 2, self-attention in PyTorch: wrong ones, and other right ones."""

import torch
from einops import rearrange

from xattn_edu.homework.mistakes.by_hand import gathered
from xattn_edu.homework.mistakes.mistake import Named, entries


def table(layer, tokens, change=torch.randn_like, into=None):
    """The right answer: one token changed at a time; `into` collects the changes instead of starting anew."""
    before = layer(tokens)
    columns = []
    for number in range(len(tokens)):
        moved = tokens.clone() if into is None else into
        moved[number] += change(moved[number])
        columns.append(((layer(moved) - before).abs() > 1e-9).any(dim=1))
    return torch.stack(columns, dim=1)


def in_place(layer, tokens):
    right = table(layer, tokens)
    tokens += 1
    return right


def turned(shift, width, sign=-1):
    """Each (sin, cos) turned by `sign` times the angle of `shift` positions, the right answer with sign -1."""
    angle = sign * shift * 10000.0 ** -(torch.arange(0, width, 2) / width)
    turn = torch.zeros(width, width)
    i = torch.arange(width // 2)
    j = i + width // 2
    turn[i, i] = turn[j, j] = angle.cos()
    turn[j, i], turn[i, j] = angle.sin(), -angle.sin()
    return turn


def padded(layer, tokens, context, padding):
    """The right answer."""
    return layer(tokens, context, ~padding[:, None])


def late(layer, tokens, context, padding):
    weights = layer(tokens, context, return_weights=True)[1] * ~padding[:, None, None]
    value = rearrange(layer.value(context), "b t (h d) -> b h t d", h=layer.heads)
    return layer.output(rearrange(weights @ value, "b h t d -> b t (h d)"))


def over_queries(layer, tokens, context, padding):
    parts = layer.query(tokens), layer.key(context), layer.value(context)
    query, key, value = (rearrange(part, "b t (h d) -> b h t d", h=layer.heads) for part in parts)
    scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(padding[:, None, None], -1e9)
    return layer.output(rearrange(scores.softmax(-2) @ value, "b h t d -> b t (h d)"))


def by_hand(layer, tokens, keys_from, values_from, padding, scale=None, projected=True):
    """The right answer for keys and values from the context."""
    parts = layer.query(tokens), layer.key(keys_from), layer.value(values_from)
    query, key, value = (rearrange(part, "b t (h d) -> b h t d", h=layer.heads) for part in parts)
    scores = query @ key.mT / (scale or query.shape[-1] ** 0.5)
    weights = scores.masked_fill(padding[:, None, None], -1e9).softmax(-1)
    merged = rearrange(weights @ value, "b h t d -> b t (h d)")
    return layer.output(merged) if projected else merged


SECTIONS = {
    "heads_apart": "2.2",
    "dependence": "2.2",
    "look_back": "2.4",
    "cross_attention": "2.5",
}
WRONG = {
    "heads_apart": {
        "view alone": Named("view alone", lambda x, h: x.view(len(x), h, x.shape[1], -1)),
        "every heads-th channel": Named("every heads-th", lambda x, h: rearrange(x, "b t (d h) -> b h t d", h=h)),
        "tokens before heads": lambda x, h: rearrange(x, "b t (h d) -> b t h d", h=h),
        "the tokens": lambda x, h: x,
    },
    "dependence": {
        "transposed": Named("Transposed", lambda f, x: table(f, x).T),
        "inverted": Named("Inverted", lambda f, x: ~table(f, x)),
        "one after the other": Named("from the original tokens", lambda f, x: table(f, x, into=x.clone())),
        "every channel alike": Named("A norm takes that away", lambda f, x: table(f, x, torch.ones_like)),
        "the diagonal": Named("own output", lambda f, x: table(f, x) & torch.eye(len(x), dtype=torch.bool)),
        "everything": lambda f, x: torch.ones(len(x), len(x), dtype=torch.bool),
        "causal": lambda f, x: torch.ones(len(x), len(x), dtype=torch.bool).tril(),
        "in place": Named("changes `tokens` in place", in_place),
        "sizes": Named("True and False", lambda f, x: table(f, x).double()),
    },
    "cross_attention": {
        "self-attention": Named("self-attention", lambda f, t, c, p: f(t)),
        "exchanged": Named("Exchanged", lambda f, t, c, p: f(c, t)),
        "padding attended to": Named("The padding is attended to", lambda f, t, c, p: f(t, c)),
        "padding alone": Named("only the padding", lambda f, t, c, p: f(t, c, p[:, None])),
        "masked after the softmax": Named("mask the scores", late),
        "no output projection, no mask": lambda f, t, c, p: gathered(f, t, c),
        "one head": Named("heads were not kept apart", lambda f, t, c, p: one_head(f, t, c, p)),
        "no scale": Named("division by sqrt(d) is missing", lambda f, t, c, p: by_hand(f, t, c, c, p, scale=1)),
        "scale of the layer": Named("width of a head", lambda f, t, c, p: by_hand(f, t, c, c, p, scale=f.width**0.5)),
        "no output projection": Named(
            "output projection is missing", lambda f, t, c, p: by_hand(f, t, c, c, p, projected=False)
        ),
        "values from the tokens": Named("values came from the tokens", lambda f, t, c, p: by_hand(f, t, c, t, p)),
        "keys from the tokens": Named("keys came from the tokens", lambda f, t, c, p: by_hand(f, t, t, c, p)),
        "a residual": Named("No residual", lambda f, t, c, p: t + padded(f, t, c, p)),
        "softmax over queries": Named("over the keys, the last axis", over_queries),
        "self-attention of the context": lambda f, t, c, p: f(c, c, ~p[:, None]),
    },
    "look_back": {
        "ahead": Named("turn the other way", lambda s, w: turned(s, w, 1)),
        "itself": Named("finds itself", lambda s, w: torch.eye(w)),
        "always three": lambda s, w: turned(3, w),
        "twice as far": lambda s, w: turned(2 * s, w),
        "sines beside their cosines": lambda s, w: rearrange(turned(s, w), "(a i) (b j) -> (i a) (j b)", a=2, b=2),
        "half": Named("expected a tensor", lambda s, w: turned(s, w)[: w // 2]),
        "nothing": Named("returns None", lambda s, w: None),
    },
}


def one_head(layer, tokens, context, padding):
    scores = layer.query(tokens) @ layer.key(context).mT / layer.width**0.5
    weights = scores.masked_fill(padding[:, None], -torch.inf).softmax(-1)
    return layer.output(weights @ layer.value(context))


def fitted(shift, width):
    """Least squares from each of 64 positions to the one `shift` before it: found without any trigonometry."""
    angle = torch.arange(64)[:, None] * 10000.0 ** -(torch.arange(0, width, 2, dtype=torch.double) / width)
    positions = torch.cat([angle.sin(), angle.cos()], dim=1)
    return torch.linalg.lstsq(positions[shift:], positions[: 64 - shift], driver="gelsd").solution


def heads_joined_again(tokens, heads):
    return torch.stack(tokens.chunk(heads, dim=-1), dim=1)


def table_by_signs(layer, tokens):
    """Every second channel is changed; the columns are found in one comprehension."""
    before, signs = layer(tokens), torch.ones_like(tokens[0])
    signs[::2] = -2
    each = torch.eye(len(tokens), dtype=tokens.dtype)[:, :, None] * signs
    return torch.stack([(layer(tokens + change) - before).abs().amax(1) > 1e-9 for change in each]).T


def fused(layer, tokens, context, padding):
    parts = layer.query(tokens), layer.key(context), layer.value(context)
    query, key, value = (rearrange(part, "b t (h d) -> b h t d", h=layer.heads) for part in parts)
    heads = torch.nn.functional.scaled_dot_product_attention(query, key, value, ~padding[:, None, None])
    return layer.output(heads.transpose(1, 2).flatten(2))


RIGHT = {
    "heads_apart": {
        "chunks": heads_joined_again,
        "einops": lambda x, h: rearrange(x, "b t (h d) -> b h t d", h=h),
        "unflatten": lambda x, h: x.unflatten(-1, (h, -1)).transpose(1, 2).contiguous(),
    },
    "dependence": {"random changes": table, "known changes": table_by_signs},
    "cross_attention": {
        "the layer itself": padded,
        "-1e9": lambda f, t, c, p: by_hand(f, t, c, c, p),
        "torch's own": fused,
    },
    "look_back": {
        "a rotation": turned,
        "an array": lambda s, w: turned(s, w).numpy(),
        "a longer rotation": lambda s, w: 7 * turned(s, w),
        "a fit": fitted,
    },
}

MISTAKES, DIFFERENT = entries(2, SECTIONS, WRONG, RIGHT)
