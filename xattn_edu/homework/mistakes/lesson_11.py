"""Answers to the exercises of lesson 11, pixel-word attention: wrong ones, and other right ones."""

import torch
from einops import rearrange
from torch.nn import functional as F

from xattn_edu.homework.mistakes.mistake import Named, entries
from xattn_edu.models.attention import merge_heads, split_heads


def weights_of(query, key, mask, scale, fill=-1e4, over=-1):
    """From queries and keys in heads."""
    scores = query @ key.transpose(-1, -2) / scale
    return scores.masked_fill(~mask[:, None, None], fill).softmax(over)


def gather_words(q, k, v, m, h, scale=None, fill=-1e4, over=-1, split=split_heads):
    """The right answer."""
    weights = weights_of(split(q, h), split(k, h), m, scale or q.shape[-1] ** 0.5, fill, over)
    return merge_heads(weights @ split(v * m[..., None], h)), weights


def by_einsum(q, k, v, m, h):
    """Right: padding by adding, its keys 0 as well, as in the published model."""
    k, v = k * m[..., None], v * m[..., None]
    q, k, v = (rearrange(x, "b t (h d) -> b h t d", h=h) for x in (q, k, v))
    scores = torch.einsum("bhpd,bhwd->bhpw", q, k) / (h * q.shape[-1]) ** 0.5 + (1e4 * m.to(q) - 1e4)[:, None, None]
    weights = torch.softmax(scores, -1)
    return rearrange(weights @ v, "b h t d -> b t (h d)"), weights


def scaled_by_the_width_of_a_head(q, k, v, m, h):
    return gather_words(q, k, v, m, h, scale=(q.shape[-1] / h) ** 0.5)


def values_of_padding_kept(q, k, v, m, h):
    weights = weights_of(split_heads(q, h), split_heads(k, h), m, q.shape[-1] ** 0.5)
    return merge_heads(weights @ split_heads(v, h)), weights


def keys_of_padding_set_to_zero(q, k, v, m, h):
    return gather_words(q * m.any(1)[:, None, None], k * m[..., None], v, m | True, h)


def viewed(x, heads):
    return x.view(len(x), heads, x.shape[1], -1)


def weights_averaged_over_heads(*arguments):
    gathered, weights = gather_words(*arguments)
    return gathered, weights.mean(1)


def centred(x):
    return x - x.mean(1, keepdim=True)


def variance(x):
    return x.var(1, correction=0, keepdim=True)


def normed_over(axes):
    def answer(x):
        var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt()

    return answer


norm_over_pixels = normed_over(1)  # the right answer


def gate(f, first, second):
    return torch.tanh(second(first(f).relu()))


SECTIONS = {
    "gather_words": "11.3",
    "norm_over_pixels": "11.5",
    "gated": "11.7",
}
WRONG = {
    "gather_words": {
        "no scale": Named("scale is missing", lambda *a: gather_words(*a, scale=1)),
        "the width of a head": Named("of all channels", scaled_by_the_width_of_a_head),
        "no root": lambda *a: gather_words(*a, scale=a[0].shape[-1]),
        "no mask": Named("mask is missing", lambda q, k, v, m, h: gather_words(q, k, v, m | True, h)),
        "mask inverted": Named("inverted", lambda q, k, v, m, h: gather_words(q, k, v, ~m, h)),
        "-inf": Named("not -inf", lambda *a: gather_words(*a, fill=-torch.inf)),
        "values of padding kept": Named("values of padding", values_of_padding_kept),
        "keys of padding set to 0": keys_of_padding_set_to_zero,
        "softmax over the pixels": Named("over the words", lambda *a: gather_words(*a, over=2)),
        "one head": Named("split the channels", lambda q, k, v, m, h: gather_words(q, k, v, m, 1)),
        "heads by view": Named("view alone", lambda *a: gather_words(*a, split=viewed)),
        "weights averaged over heads": weights_averaged_over_heads,
        "G' alone": Named("return two values", lambda *a: gather_words(*a)[0]),
        "nothing": Named("returns None", lambda *a: None),
    },
    "norm_over_pixels": {
        "over the channels": Named("layer norm", normed_over(2)),
        "over images and pixels": Named("batch norm", normed_over((0, 1))),
        "over pixels and channels": Named("Each channel is normed by itself", normed_over((1, 2))),
        "over the images": normed_over(0),
        "by one less": Named("not by one less", lambda x: centred(x) / (x.var(1, keepdim=True) + 1e-5).sqrt()),
        "torch's std": Named("std divides by one less", lambda x: centred(x) / x.std(1, keepdim=True)),
        "no eps": Named("eps = 1e-5 is missing.", lambda x: centred(x) / variance(x).sqrt()),
        "a larger eps": lambda x: centred(x) / (variance(x) + 1e-3).sqrt(),
        "eps outside the root": Named("under the root", lambda x: centred(x) / (variance(x).sqrt() + 1e-5)),
        "mean not subtracted": Named("mean is not subtracted", lambda x: x / (variance(x) + 1e-5).sqrt()),
        "no root": Named("root of the variance", lambda x: centred(x) / (variance(x) + 1e-5)),
        "not divided": Named("standard deviation is not yet 1", centred),
        "transposed": lambda x: norm_over_pixels(x).transpose(1, 2),
        "nothing": Named("returns None", lambda x: None),
    },
    "gated": {
        "gate added": Named("feed-forward layer", lambda v, f, a, b: v + gate(f, a, b)),
        "no gate": Named("gate is missing", lambda v, f, a, b: v + f),
        "V gated": Named("factor of F, not of V", lambda v, f, a, b: v + gate(f, a, b) * v),
        "no V": Named("V is missing", lambda v, f, a, b: gate(f, a, b) * f),
        "sigmoid": Named("not in a sigmoid", lambda v, f, a, b: v + torch.sigmoid(b(a(f).relu())) * f),
        "no tanh": Named("tanh is missing", lambda v, f, a, b: v + b(a(f).relu()) * f),
        "no ReLU": Named("ReLU between the layers", lambda v, f, a, b: v + torch.tanh(b(a(f))) * f),
        "GELU": Named("not a GELU", lambda v, f, a, b: v + torch.tanh(b(F.gelu(a(f)))) * f),
        "layers exchanged": Named("wrong order", lambda v, f, a, b: v + gate(f, b, a) * f),
        "gate of V": Named("from F, not from V.", lambda v, f, a, b: v + gate(v, a, b) * f),
        "V and F exchanged": Named("changed places", lambda v, f, a, b: f + gate(v, a, b) * v),
        "F added": Named("V is added, not F", lambda v, f, a, b: f + gate(f, a, b) * f),
        "gate of both": Named("not from V + F", lambda v, f, a, b: v + gate(v + f, a, b) * f),
        "V times the rest": Named(
            "V is added unchanged", lambda v, f, a, b: v * (1 - gate(f, a, b)) + gate(f, a, b) * f
        ),
        "one gate for all channels": lambda v, f, a, b: v + gate(f, a, b).mean(-1, keepdim=True) * f,
        "softmax": lambda v, f, a, b: v + torch.softmax(b(a(f).relu()), -1) * f,
        "in place": Named("changes `v` in place", lambda v, f, a, b: v.add_(b(a(f).relu_()).tanh_() * f)),
        "detached": Named("no gradient reaches", lambda v, f, a, b: v + gate(f, a, b).detach() * f),
        "nothing": Named("returns None", lambda v, f, a, b: None),
    },
}
RIGHT = {
    "gather_words": {
        "by einsum": by_einsum,
        "a list, the lowest number": lambda *a: [*gather_words(*a, fill=torch.finfo(a[0].dtype).min)],
    },
    "norm_over_pixels": {
        "instance_norm": lambda x: F.instance_norm(x.transpose(1, 2)).transpose(1, 2),
        "rsqrt": lambda x: (x - x.mean(1)[:, None]) * (x.var(1, correction=0)[:, None] + 1e-5).rsqrt(),
    },
    "gated": {
        "by matrix products": lambda v, f, a, b: f * torch.tanh((f @ a.weight.T).clamp(min=0) @ b.weight.T) + v,
        "in place, but not its arguments": lambda v, f, a, b: b(a(f).relu_()).tanh_().mul(f).add_(v),
    },
}

MISTAKES, DIFFERENT = entries(11, SECTIONS, WRONG, RIGHT)
