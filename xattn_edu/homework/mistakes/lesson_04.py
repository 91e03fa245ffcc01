"""Answers to the exercises of lesson 4, other attentions: wrong ones, and other right ones."""

import numpy as np
import torch
from torch.nn import functional as F

from xattn_edu.homework.mistakes.mistake import Named, entries


def excited(squeezed, first, second):
    return (squeezed @ first).relu() @ second


def phi(x):
    return F.elu(x) + 1


def shares(scores):
    return scores / scores.sum(-1, keepdim=True)


def mean(values):
    return sum(values) / len(values)


def deviation(groups):
    squares = [(x - mean(values)) ** 2 for values in groups.values() for x in values]
    return (sum(squares) / (len(squares) - len(groups))) ** 0.5


def of_n(groups):
    n = len(groups["a"])
    return ((n - 1) / n) ** 0.5


def lead(groups, one, other, t):
    half = t * deviation(groups) * (2 / len(groups[one])) ** 0.5
    return mean(groups[one]) - mean(groups[other]), half


def scaled(given, factor):
    ahead, half = lead(*given)
    return ahead, half * factor


SECTIONS = {
    "channel_gate": "4.2",
    "linear_attention": "4.5",
    "pooled_lead": "4.8",
}
WRONG = {
    "channel_gate": {
        "pooled axis lost": Named("keepdim", lambda z, a, b: excited(z.mean(1), a, b).sigmoid()),
        "no ReLU": Named("ReLU is missing", lambda z, a, b: (z.mean(1, True) @ a @ b).sigmoid()),
        "ReLU at the end": Named("not behind them", lambda z, a, b: (z.mean(1, True) @ a @ b).relu().sigmoid()),
        "ReLU before both": Named("not before them", lambda z, a, b: (z.mean(1, True).relu() @ a @ b).sigmoid()),
        "sigmoid between": Named("not a sigmoid", lambda z, a, b: ((z.mean(1, True) @ a).sigmoid() @ b).sigmoid()),
        "tanh": Named("not in a tanh", lambda z, a, b: excited(z.mean(1, True), a, b).tanh()),
        "no sigmoid": Named("sigmoid is missing", lambda z, a, b: excited(z.mean(1, True), a, b)),
        "softmax": Named("not softmax", lambda z, a, b: excited(z.mean(1, True), a, b).softmax(-1)),
        "a sum": Named("not their sum", lambda z, a, b: excited(z.sum(1, True), a, b).sigmoid()),
        "the largest value": Named("not the largest", lambda z, a, b: excited(z.amax(1, True), a, b).sigmoid()),
        "not pooled": Named("first take the mean", lambda z, a, b: excited(z, a, b).sigmoid()),
        "the gated tokens": Named("not the gated", lambda z, a, b: z * excited(z.mean(1, True), a, b).sigmoid()),
    },
    "linear_attention": {
        "not divided": Named("division is missing", lambda q, k, v: phi(q) @ (phi(k).mT @ v)),
        "a mean": Named("not by their number", lambda q, k, v: phi(q) @ (phi(k).mT @ v) / k.shape[1]),
        "elu alone": Named("elu + 1", lambda q, k, v: shares(F.elu(q) @ F.elu(k).mT) @ v),
        "no phi": Named("phi is missing", lambda q, k, v: shares(q @ k.mT) @ v),
        "softmax": Named("softmax attention", lambda q, k, v: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v),
        "phi of queries": Named("keys pass through phi", lambda q, k, v: shares(phi(q) @ k.mT) @ v),
        "phi of keys": Named("queries pass through phi", lambda q, k, v: shares(q @ phi(k).mT) @ v),
    },
    "pooled_lead": {
        "the other way": Named("first named less", lambda groups, one, other, t: lead(groups, other, one, t)),
        "one mean": Named("Both means", lambda *given: scaled(given, 0.5**0.5)),
        "of a run": Named("mean of n runs", lambda *given: scaled(given, len(given[0]["a"]) ** 0.5)),
        "two groups": Named(
            "Pool all groups", lambda groups, one, other, t: lead({n: groups[n] for n in (one, other)}, one, other, t)
        ),
        "by n": Named("each group has its own mean", lambda *given: scaled(given, of_n(given[0]))),
        "no t": Named("times the standard error", lambda *given: scaled(given, 1 / given[3])),
        "a variance": Named("take the root", lambda *given: scaled(given, deviation(given[0]))),
        "a number": Named("two numbers", lambda *given: lead(*given)[0]),
    },
}


def gate_by_layers(tokens, first, second):
    return F.linear(F.relu(F.linear(tokens.mean(1), first.T)), second.T).sigmoid().unsqueeze(1)


def with_the_table(q, k, v):
    """What linear attention equals, with the table that it saves."""
    return shares(phi(q) @ phi(k).mT) @ v


def by_einsum(q, k, v):
    q, k = phi(q), phi(k)
    return torch.einsum("bqd,bkd,bkw->bqw", q, k, v) / torch.einsum("bqd,bkd->bq", q, k)[..., None]


def lead_by_numpy(groups, one, other, t):
    runs = np.array(list(groups.values()))
    pooled = runs.var(axis=1, ddof=1).mean()
    return np.mean(groups[one]) - np.mean(groups[other]), t * np.sqrt(pooled * 2 / runs.shape[1])


RIGHT = {
    "channel_gate": {
        "by layers": gate_by_layers,
        "a sum divided": lambda z, a, b: torch.sigmoid(excited(z.sum(1, True) / z.shape[1], a, b)),
    },
    "linear_attention": {"by einsum": by_einsum},
    "pooled_lead": {"a list": lambda *a: list(lead(*a)), "by NumPy": lead_by_numpy},
}

MISTAKES, DIFFERENT = entries(4, SECTIONS, WRONG, RIGHT)
