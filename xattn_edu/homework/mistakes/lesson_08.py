"""Answers to the exercises of lesson 8, four fusions: wrong ones, and other right ones."""

import torch
from torch.nn import functional as F

from xattn_edu.homework.mistakes.mistake import Named, entries
from xattn_edu.measure.intervals import mean_interval


def summed(small, large, f_s):
    """The sum of both class tokens, in the width of L."""
    return large[:, :1] + f_s(small[:, :1])


def joined(class_tokens, small, large):
    """The tokens of S and of L with these class tokens."""
    return torch.cat([class_tokens[0], small[:, 1:]], 1), torch.cat([class_tokens[1], large[:, 1:]], 1)


def class_token_fusion(small, large, f_s, g_s):
    """The right answer."""
    both = summed(small, large, f_s)
    return joined((g_s(both), both), small, large)


def half_of_the_sum(small, large, f_s, g_s):
    half = summed(small, large, f_s) / 2
    return joined((g_s(half), half), small, large)


def from_large_alone(small, large, f_s, g_s):
    return joined((g_s(large[:, :1]), summed(small, large, f_s)), small, large)


def from_small_alone(small, large, f_s, g_s):
    return joined((g_s(f_s(small[:, :1])), summed(small, large, f_s)), small, large)


def added_to_small(small, large, f_s, g_s):
    both = summed(small, large, f_s)
    return joined((small[:, :1] + g_s(both), both), small, large)


def large_unchanged(small, large, f_s, g_s):
    return class_token_fusion(small, large, f_s, g_s)[0], large


def large_from_small(small, large, f_s, g_s):
    return joined((g_s(summed(small, large, f_s)), f_s(small[:, :1])), small, large)


def one_token_too_many(small, large, f_s, g_s):
    both = summed(small, large, f_s)
    return torch.cat([g_s(both), small], 1), torch.cat([both, large], 1)


def fused_with_every_token(small, large, f_s, g_s):
    return g_s(large[:, :1] + f_s(small)), class_token_fusion(small, large, f_s, g_s)[1]


def resized(maps, grid, mode="bilinear", **how):
    return F.interpolate(maps, grid, mode=mode, **how).flatten(2).mT


def maps_of(tokens, grid):
    return tokens.mT.unflatten(2, grid)


def above_zero(leads, level):
    return [name for name, values in leads.items() if mean_interval(values, level).low > 0]


def shown(leads):
    """The right answer."""
    return above_zero(leads, 1 - 0.05 / len(leads))


def negative(leads):
    return {name: [-value for value in values] for name, values in leads.items()}


SECTIONS = {
    "class_token_fusion": "8.2",
    "pairwise_sum": "8.3",
    "shown_leads": "8.11",
}
WRONG = {
    "class_token_fusion": {
        "S from L alone": Named("of the sum, not of L's", from_large_alone),
        "S from S alone": from_small_alone,
        "added to S": Named("nothing is added", added_to_small),
        "L unchanged": Named("L's class token stays", large_unchanged),
        "L from S alone": large_from_small,
        "one token too many": Named("one token too many", one_token_too_many),
        "L first": Named("order small, large", lambda *a: class_token_fusion(*a)[::-1]),
        "S alone": Named("return two values", lambda *a: class_token_fusion(*a)[0]),
        "the mean": Named("their mean was taken", half_of_the_sum),
        "S unchanged": Named("S's class token stays", lambda s, l, f, g: (s, class_token_fusion(s, l, f, g)[1])),
        "both unchanged": lambda s, l, f, g: (s, l),
        "nothing": Named("returns None", lambda s, l, f, g: None),
        "every token of S": fused_with_every_token,
        "each adds the other's": Named(
            "There is one sum, at L's width",
            lambda s, l, f, g: (
                torch.cat([s[:, :1] + g(l[:, :1]), s[:, 1:]], 1),
                class_token_fusion(s, l, f, g)[1],
            ),
        ),
    },
    "pairwise_sum": {
        "channels cut up": Named(
            "channels were cut up", lambda s, l, old, new: l + resized(s.reshape(len(s), -1, *old), new)
        ),
        "rows and columns exchanged": Named(
            "Rows and columns", lambda s, l, old, new: l + resized(maps_of(s, old[::-1]), new)
        ),
        "nearest": Named("not nearest", lambda s, l, old, new: l + resized(maps_of(s, old), new, mode="nearest")),
        "corners aligned": Named(
            "align_corners=False", lambda s, l, old, new: l + resized(maps_of(s, old), new, align_corners=True)
        ),
        "bicubic": Named("not bicubic", lambda s, l, old, new: l + resized(maps_of(s, old), new, mode="bicubic")),
        "antialiased": lambda s, l, old, new: l + resized(maps_of(s, old), new, antialias=True),
        "S alone": Named("L's patches are missing", lambda s, l, old, new: resized(maps_of(s, old), new)),
        "the first patches of S": lambda s, l, old, new: l + s[:, : l.shape[1]],
        "the mean of S": lambda s, l, old, new: l + s.mean(1, keepdim=True),
        "L alone": lambda s, l, old, new: l,
        "nothing": Named("returns None", lambda s, l, old, new: None),
    },
    "shown_leads": {
        "95 % each": Named("one may leave 0 out by chance", lambda leads: above_zero(leads, 0.95)),
        "the level divided": Named("not the level", lambda leads: above_zero(leads, 0.95 / len(leads))),
        "the mean": Named("is not enough", lambda leads: [name for name, x in leads.items() if sum(x) > 0]),
        "every seed ahead": lambda leads: [name for name, x in leads.items() if min(x) > 0],
        "below zero": Named("is no lead", lambda leads: [*shown(leads), *shown(negative(leads))]),
        "the others": Named("is *below* 0", lambda leads: [name for name in leads if name not in shown(leads)]),
        "none": lambda leads: [],
        "a word": lambda leads: "b",
        "nothing": Named("returns None", lambda leads: None),
    },
}


def fused_in_copies(small, large, f_s, g_s):
    both = summed(small, large, f_s)
    new_small, new_large = small.clone(), large.clone()
    new_small[:, 0], new_large[:, 0] = g_s(both)[:, 0], both[:, 0]
    return [new_small, new_large]


def shown_by_loop(leads):
    found = []
    for name in leads:
        interval = mean_interval(leads[name], level=1 - 0.05 / len(leads))
        if interval.mean - interval.half > 0:
            found += [name]
    return found


RIGHT = {
    "class_token_fusion": {"copies, a list": fused_in_copies, "cat": class_token_fusion},
    "pairwise_sum": {
        "align_corners=False": lambda s, l, old, new: l + resized(maps_of(s, old), new, align_corners=False),
        "einops-like": lambda s, l, old, new: resized(s.unflatten(1, old).permute(0, 3, 1, 2), new) + l,
    },
    "shown_leads": {
        "a set": lambda leads: set(shown(leads)),
        "a loop": shown_by_loop,
        "a tuple": lambda leads: tuple(shown(leads)),
    },
}

MISTAKES, DIFFERENT = entries(8, SECTIONS, WRONG, RIGHT)
