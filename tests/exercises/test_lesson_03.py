"""Wrong answers to the exercises of lesson 3, encoder and decoder."""

import torch
from helpers.exercises import Named, covers, named, refused, says_every_cause

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
        "no residuals": Named("residuals are missing", without_residuals),
        "no context": Named("got no context", without_context),
        "attentions exchanged": Named("attentions are exchanged", attentions_exchanged),
        "the tokens": lambda y, memory, mask, f: y,
    },
    "three_masks": {
        "a causal cross-attention": lambda s, t: (padding(s), causal(t), causal(t)),
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
        "two masks": Named("return three masks", lambda s, t: (padding(s), causal(t))),
        "nothing": Named("given nothing", lambda s, t: None),
    },
    "cache_numbers": {
        "keys alone": Named("a key and a value", lambda depth, width, s, t: depth * width * (s + t)),
        "queries, too": Named("holds no query", lambda depth, width, s, t: 3 * depth * width * (s + t)),
        "one layer": Named("Each layer has its own", lambda depth, width, s, t: 2 * width * (s + t)),
        "the answer alone": Named("of the source are kept", lambda depth, width, s, t: 2 * depth * width * t),
        "the source alone": Named("of the answer are kept", lambda depth, width, s, t: 2 * depth * width * s),
        "lengths multiplied": Named("sum of the lengths", lambda depth, width, s, t: 2 * depth * width * s * t),
        "bytes": Named("counts bytes", lambda depth, width, s, t: 8 * depth * width * (s + t)),
    },
}

test_each_exercise_has_wrong_answers = covers(3, WRONG)
test_no_wrong_answer_is_accepted = refused(WRONG)
test_a_known_mistake_is_named = named(WRONG)
test_every_mistake_that_can_be_named_is_made = says_every_cause(3, WRONG)
