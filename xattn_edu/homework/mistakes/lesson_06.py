"""Answers to the exercises of lesson 6, training a ViT: wrong ones, and other right ones."""

import functools

import numpy as np
import torch

from xattn_edu.homework.mistakes.mistake import Named, entries
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.models.attention import attention_rollout


def share(tokens, linear, quadratic):
    """Of a block with so many multiply-adds for a token, and for a token and each token."""
    return quadratic * tokens / (quadratic * tokens + linear)


def multiplied(layers):
    """The product of (batch, token, token), later layers on the left."""
    return functools.reduce(lambda flow, layer: layer @ flow, layers)


def identity(weights):
    return torch.eye(weights.shape[-1])


def sign_of_the_mean(ours, theirs):
    lead = sum(ours) - sum(theirs)
    return (lead > 0) - (lead < 0)


def unpaired(ours, theirs):
    one, other = mean_interval(ours), mean_interval(theirs)
    return (one.low > other.high) - (one.high < other.low)


SECTIONS = {
    "ahead_or_open": "6.4",
    "quadratic_share": "6.5",
    "training_exaflops": "6.5",
    "rollout": "6.6",
}
WRONG = {
    "training_exaflops": {
        "one FLOP a multiply-add": Named("A multiply-add is two FLOPs", lambda m, e, i: 3 * m * e * i / 1e18),
        "forward only": Named("three times in all", lambda m, e, i: 2 * m * e * i / 1e18),
        "backward once": Named("so the sum is three times", lambda m, e, i: 4 * m * e * i / 1e18),
        "neither": Named("Two things are missing", lambda m, e, i: m * e * i / 1e18),
        "petaFLOPs": Named("not 10^15", lambda m, e, i: 6 * m * e * i / 1e15),
        "FLOPs": Named("10^18 FLOPs.", lambda m, e, i: 6 * m * e * i),
        "no images": Named("seen once in each epoch", lambda m, e, i: 6 * m * e / 1e18),
        "one epoch": Named("several epochs", lambda m, e, i: 6 * m * i / 1e18),
    },
    "ahead_or_open": {
        "the mean's sign": Named("must leave out 0", sign_of_the_mean),
        "two intervals": Named("pair the runs", unpaired),
        "always open": Named("pair the runs", lambda ours, theirs: 0),
        "the other way round": lambda ours, theirs: sign_of_the_mean(theirs, ours),
        "nothing": lambda ours, theirs: None,
    },
    "quadratic_share": {
        "no class token": Named("class token is a token", lambda i, p, w: share((i // p) ** 2, 12 * w, 2)),
        "one product": Named("two products", lambda i, p, w: share((i // p) ** 2 + 1, 12 * w, 1)),
        "no MLP": Named("belongs to the whole", lambda i, p, w: share((i // p) ** 2 + 1, 4 * w, 2)),
        "no projections": Named("four projections", lambda i, p, w: share((i // p) ** 2 + 1, 8 * w, 2)),
        "224 pixels always": lambda i, p, w: share((224 // p) ** 2 + 1, 12 * w, 2),
        "patches of 16 always": lambda i, p, w: share((i // 16) ** 2 + 1, 12 * w, 2),
        "width 768 always": lambda i, p, w: share((i // p) ** 2 + 1, 12 * 768, 2),
        "in percent": Named("in percent", lambda i, p, w: 100 * share((i // p) ** 2 + 1, 12 * w, 2)),
        "a ratio": Named("part of the whole", lambda i, p, w: 2 * ((i // p) ** 2 + 1) / (12 * w)),
    },
    "rollout": {
        "no residual": Named("residual connection is missing", lambda w: multiplied([x.mean(1) for x in w])),
        "not halved": Named("sum to one", lambda w: multiplied([x.mean(1) + identity(x) for x in w])),
        "first layer on the left": Named("wrong order", lambda w: attention_rollout(w[::-1])),
        "first head": Named("not the first head", lambda w: multiplied([(x[:, 0] + identity(x)) / 2 for x in w])),
        "the largest head": Named("not the largest", lambda w: attention_rollout([x.amax(1, True) for x in w])),
        "transposed": Named("transposed", lambda w: attention_rollout(w).transpose(1, 2)),
        "last layer": Named("last layer's attention", lambda w: w[-1].mean(1)),
    },
}


def rollout_from_the_last(weights):
    flow = identity(weights[0])
    for layer in reversed(weights):
        flow = flow @ (0.5 * layer.mean(1) + 0.5 * identity(layer))
    return flow


def by_numpy(leads):
    t = {3: 4.303, 4: 3.182, 5: 2.776}[len(leads)]
    half = t * leads.std(ddof=1) / len(leads) ** 0.5
    return int(np.sign(leads.mean())) if abs(leads.mean()) > half else 0


RIGHT = {
    "training_exaflops": {"tera, mega": lambda m, e, i: 6 * (m / 1e12) * e * (i / 1e6)},
    "ahead_or_open": {
        "by NumPy": lambda ours, theirs: by_numpy(np.array(ours) - np.array(theirs)),
        "a float": lambda ours, theirs: float(by_numpy(np.array(ours) - np.array(theirs))),
    },
    "quadratic_share": {
        "not reduced": lambda i, p, w: share((i // p) ** 2 + 1, 12 * w**2, 2 * w),
        "sides": lambda i, p, w: 1 / (1 + 6 * w / (1 + (i / p) ** 2)),
    },
    "rollout": {
        "from the last": rollout_from_the_last,
        "the library's": attention_rollout,
        "multiplied": lambda w: multiplied([(x.mean(1) + identity(x)) / 2 for x in w]),
    },
}

MISTAKES, DIFFERENT = entries(6, SECTIONS, WRONG, RIGHT)
