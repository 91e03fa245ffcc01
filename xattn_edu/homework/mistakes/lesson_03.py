"""Answers to the exercises of lesson 3, encoder and decoder: wrong ones, and other right ones."""

import torch

from xattn_edu.homework.mistakes.mistake import Named, entries
from xattn_edu.models.attention import causal_mask


def sublayers(layer, memory, memory_mask):
    """The three functions of a decoder layer, in order."""
    return [
        lambda z: layer.attention(z, mask=causal_mask(z.shape[1])),
        lambda z: layer.cross_attention(z, memory, memory_mask),
        layer.feed_forward,
    ]


def norms_of(layer):
    return [layer.residual1.norm, layer.residual2.norm, layer.residual3.norm]


def post_norm(tokens, functions, norms):
    for function, norm in zip(functions, norms):
        tokens = norm(tokens + function(tokens))
    return tokens


def in_order(*numbers):
    """A decoder layer with some of its sublayers, or in another order."""

    def answer(y, memory, mask, layer):
        functions = sublayers(layer, memory, mask)
        return post_norm(y, [functions[number] for number in numbers], norms_of(layer))

    return answer


def without_cross_attention(y, memory, mask, layer):
    """Each of the two other parts has its own norm."""
    itself, _, feed_forward = sublayers(layer, memory, mask)
    return post_norm(y, [itself, feed_forward], norms_of(layer)[::2])


def one_norm_for_all(y, memory, mask, layer):
    return post_norm(y, sublayers(layer, memory, mask), [layer.residual1.norm] * 3)


def pre_norm(y, memory, mask, layer):
    for function, norm in zip(sublayers(layer, memory, mask), norms_of(layer)):
        y = y + function(norm(y))
    return y


def without_residuals(y, memory, mask, layer):
    for function, norm in zip(sublayers(layer, memory, mask), norms_of(layer)):
        y = norm(function(y))
    return y


def unfinished(y, memory, mask, layer):
    """Without the last norm."""
    functions = sublayers(layer, memory, mask)
    y = post_norm(y, functions[:2], norms_of(layer))
    return y + functions[2](y)


def without_context(y, memory, mask, layer):
    itself, _, feed_forward = sublayers(layer, memory, mask)
    return post_norm(y, [itself, layer.cross_attention, feed_forward], norms_of(layer))


def attentions_exchanged(y, memory, mask, layer):
    functions = [
        lambda z: layer.cross_attention(z, mask=causal_mask(z.shape[1])),
        lambda z: layer.attention(z, memory, mask),
        layer.feed_forward,
    ]
    return post_norm(y, functions, norms_of(layer))


def padding(ids):
    return (ids != 0)[:, None, :]


def causal(target):
    return causal_mask(target.shape[1])


def attended(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def over_queries(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-2) @ v


def shared(q, x):
    return x.repeat_interleave(q.shape[1] // x.shape[1], dim=1)


def in_turn(q, x):
    return x.repeat(1, q.shape[1] // x.shape[1], 1, 1)


def iso(keys, values):
    first, second, year = values.replace("/", ".").split(".")
    month, day = (first, second) if "/" in keys else (second, first)
    return f"{year}-{int(month):02}-{int(day):02}"


def swapped(date):
    year, month, day = date.split("-")
    return f"{year}-{day}-{month}"


def old_tokens_asked(y, memory, mask, layer):
    itself, across, feed_forward = sublayers(layer, memory, mask)
    norms = norms_of(layer)
    z = norms[0](y + itself(y))
    z = norms[1](z + across(y))
    return norms[2](z + feed_forward(z))


SECTIONS = {
    "decoder_layer": "3.3",
    "three_masks": "3.4",
    "grouped_attention": "3.5",
    "exchanged_date": "3.7",
}
WRONG = {
    "decoder_layer": {
        "no causal mask": Named("needs a causal mask", lambda y, memory, mask, f: f(y, memory, None, mask)[0]),
        "no memory mask": Named("padding of the memory", lambda y, memory, mask, f: f(y, memory, causal(y), None)[0]),
        "memory first": Named("self-attention comes first", in_order(1, 0, 2)),
        "no cross-attention": Named("cross-attention is missing.", without_cross_attention),
        "no cross-attention, the first norms": Named("feed-forward network has its norm", in_order(0, 2)),
        "no feed-forward network": Named("feed-forward network is missing", in_order(0, 1)),
        "one norm for all": Named("its own norm", one_norm_for_all),
        "pre-norm": Named("This is pre-norm", pre_norm),
        "memory mask inverted": Named(
            "mask of the memory is inverted", lambda y, memory, mask, f: f(y, memory, causal(y), ~mask)[0]
        ),
        "no last norm": Named("last norm is missing", lambda *a: unfinished(*a)),
        "second norm twice": Named("the third, not", lambda *a: norms_of(a[3])[1](unfinished(*a))),
        "no residuals": Named("residuals are missing", without_residuals),
        "no context": Named("got no context", without_context),
        "query of the old tokens": Named("query is the layer's input", old_tokens_asked),
        "attentions exchanged": Named("attentions are exchanged", attentions_exchanged),
        "the tokens": lambda y, memory, mask, f: y,
    },
    "three_masks": {
        "a causal cross-attention": Named(
            "(batch, query, key) = (2, 4, 6)", lambda s, t: (padding(s), causal(t), causal(t))
        ),
        "padding inverted": Named("inverted", lambda s, t: (~padding(s), causal(t), ~padding(s))),
        "later tokens": Named("to later tokens", lambda s, t: (padding(s), causal(t).mT, padding(s))),
        "not itself": Named("to itself, too", lambda s, t: (padding(s), causal(t) & ~causal(t).mT, padding(s))),
        "a causal encoder": Named("no future to hide", lambda s, t: (padding(s) & causal(s), causal(t), padding(s))),
        "no causal mask": Named("Nothing is hidden", lambda s, t: (padding(s), padding(t), padding(s))),
        "no mask of the memory": Named(
            "Nothing is hidden", lambda s, t: (padding(s), causal(t), torch.ones_like(padding(s)))
        ),
        "two axes": Named("mask[:, None, :]", lambda s, t: (s != 0, causal(t), s != 0)),
        "0.0 and 1.0": Named(
            "True and False", lambda s, t: (padding(s).float(), causal(t).float(), padding(s).float())
        ),
        "two masks": Named("given tuple", lambda s, t: (padding(s), causal(t))),
        "nothing": Named("given nothing", lambda s, t: None),
    },
    "grouped_attention": {
        "repeat": Named("repeat_interleave, not repeat", lambda q, k, v: attended(q, *(in_turn(q, x) for x in (k, v)))),
        "values in turn": Named("values of other groups", lambda q, k, v: attended(q, shared(q, k), in_turn(q, v))),
        "first group": Named(
            "All heads use the first", lambda q, k, v: attended(q, *(shared(q, x[:, :1]) for x in (k, v)))
        ),
        "no scale": Named("not divided", lambda q, k, v: attended(q * q.shape[-1] ** 0.5, shared(q, k), shared(q, v))),
        "root of the heads": Named(
            "not of the number of heads",
            lambda q, k, v: attended(q * (q.shape[-1] / q.shape[1]) ** 0.5, shared(q, k), shared(q, v)),
        ),
        "softmax over queries": Named("over the keys", lambda q, k, v: over_queries(q, shared(q, k), shared(q, v))),
        "one head a group": Named("its own output", lambda q, k, v: attended(q[:, : k.shape[1]], k, v)),
    },
    "exchanged_date": {
        "the keys' date": Named("keys only decide where", lambda keys, values: iso(keys, keys)),
        "the values' date": Named("those of the keys' format", lambda keys, values: iso(values, values)),
        "formats confused": Named("month stands first", lambda keys, values: swapped(iso(keys, values))),
        "one digit": Named("two digits", lambda keys, values: iso(keys, values).replace("-0", "-")),
        "a tuple": Named("return a string", lambda keys, values: tuple(iso(keys, values).split("-"))),
        "nothing known": lambda keys, values: "1997-03-05",
    },
}


def decoder_layer(y, memory, mask, layer):
    """The right answer, as a loop."""
    return post_norm(y, sublayers(layer, memory, mask), norms_of(layer))


def grouped_by_an_axis(q, k, v):
    """The heads of a group have an axis of their own."""
    batch, heads, queries, dim = q.shape
    grouped = q.reshape(batch, k.shape[1], -1, queries, dim)
    return attended(grouped, k[:, :, None], v[:, :, None]).reshape(batch, heads, queries, -1)


def grouped_head_by_head(q, k, v):
    each = q.shape[1] // k.shape[1]
    return torch.stack([attended(q[:, h], k[:, h // each], v[:, h // each]) for h in range(q.shape[1])], dim=1)


def date_by_split(keys, values):
    numbers = values.replace("/", " ").replace(".", " ").split()
    month = numbers[0] if "/" in keys else numbers[1]
    day = numbers[1] if "/" in keys else numbers[0]
    return "-".join([numbers[2], month.zfill(2), day.zfill(2)])


RIGHT = {
    "decoder_layer": {
        "a loop": decoder_layer,
        "the library's": lambda y, memory, mask, f: f(y, memory, causal(y), mask)[0],
    },
    "three_masks": {
        "a list, expanded": lambda s, t: [
            padding(s).expand(-1, s.shape[1], -1),
            causal(t).expand(len(t), -1, -1),
            padding(s).expand(-1, t.shape[1], -1),
        ],
        "unsqueeze and tril": lambda s, t: (
            s.ne(0).unsqueeze(1),
            torch.ones(1, t.shape[1], t.shape[1], dtype=torch.bool).tril(),
            s.ne(0).unsqueeze(1),
        ),
    },
    "grouped_attention": {
        "an axis for the group": grouped_by_an_axis,
        "head by head": grouped_head_by_head,
    },
    "exchanged_date": {"by split": date_by_split},
}

MISTAKES, DIFFERENT = entries(3, SECTIONS, WRONG, RIGHT)
