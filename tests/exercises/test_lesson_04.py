"""Wrong answers to the exercises of lesson 4, other attentions."""

import numpy as np
from helpers.exercises import Named, covers, named, refused, says_every_cause


def excited(squeezed, first, second):
    return (squeezed @ first).relu() @ second


WRONG = {
    "channel_gate": {
        "pooled axis lost": Named("keepdim", lambda z, a, b: excited(z.mean(1), a, b).sigmoid()),
        "no ReLU": Named("ReLU is missing", lambda z, a, b: (z.mean(1, True) @ a @ b).sigmoid()),
        "ReLU at the end": Named("between the two layers", lambda z, a, b: (z.mean(1, True) @ a @ b).relu().sigmoid()),
        "no sigmoid": Named("sigmoid is missing", lambda z, a, b: excited(z.mean(1, True), a, b)),
        "softmax": Named("not softmax", lambda z, a, b: excited(z.mean(1, True), a, b).softmax(-1)),
        "a sum": Named("not their sum", lambda z, a, b: excited(z.sum(1, True), a, b).sigmoid()),
        "the largest value": Named("not the largest", lambda z, a, b: excited(z.amax(1, True), a, b).sigmoid()),
        "not pooled": Named("first take the mean", lambda z, a, b: excited(z, a, b).sigmoid()),
        "the gated tokens": Named("not the gated", lambda z, a, b: z * excited(z.mean(1, True), a, b).sigmoid()),
    },
    "token_mixing": {
        "not transposed back": Named("transpose back", lambda z, f: f(z.transpose(1, 2))),
        "reshape both times": Named(
            "reshape does not exchange axes", lambda z, f: f(z.reshape(len(z), z.shape[2], z.shape[1])).reshape(z.shape)
        ),
        "reshaped back": Named("transpose both times", lambda z, f: f(z.transpose(1, 2)).reshape(z.shape)),
        "with a residual": Named("belongs to the block", lambda z, f: z + f(z.transpose(1, 2)).transpose(1, 2)),
        "over the channels": lambda z, f: f(z),
        "the tokens": lambda z, f: z,
    },
    "product_macs": {
        "one product": Named("two products", lambda q, k, w: q * k * w),
        "two for each multiply-add": Named("counts once", lambda q, k, w: 4 * q * k * w),
        "queries squared": Named("not queries squared", lambda q, k, w: 2 * q * q * w),
        "keys squared": Named("not keys squared", lambda q, k, w: 2 * k * k * w),
        "added": Named("do not add", lambda q, k, w: 2 * (q + k) * w),
        "with projections": Named("do not belong", lambda q, k, w: 2 * q * k * w + 2 * (q + k) * w * w),
        "no channels": Named("a dot product", lambda q, k, w: 2 * q * k),
        "both products apart": Named("expected one number", lambda q, k, w: np.array([q * k * w, q * k * w])),
    },
}

test_each_exercise_has_wrong_answers = covers(4, WRONG)
test_no_wrong_answer_is_accepted = refused(WRONG)
test_a_known_mistake_is_named = named(WRONG)
test_every_mistake_that_can_be_named_is_made = says_every_cause(4, WRONG)
