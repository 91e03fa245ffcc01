"""Answers to the exercises of lesson 12, LAVT: wrong ones, and other right ones."""

from math import ceil
from statistics import NormalDist

import numpy as np
import torch
from torch.nn import functional as F

from xattn_edu.homework.mistakes.mistake import Named, entries
from xattn_edu.measure.intervals import mean_interval, student_t
from xattn_edu.measure.intervals import seeds_needed as exactly


def returning(outputs):
    """A stage that returns outputs(norm, V, F, E), from the right V, F and E."""

    def answer(blocks, fusion, pathway, norm, maps, words, mask):
        vision = blocks(maps)
        fused = fusion(vision, words, mask)
        return outputs(norm, vision, fused, pathway(vision, fused))

    return answer


lavt_stage = returning(lambda norm, v, f, e: (norm(f), e))  # the right answer


def words_before_blocks(blocks, fusion, pathway, norm, maps, words, mask):
    vision, fused = blocks(maps), fusion(maps, words, mask)
    return norm(fused), pathway(vision, fused)


def without_blocks(blocks, fusion, pathway, norm, maps, words, mask):
    return lavt_stage(lambda maps: maps, fusion, pathway, norm, maps, words, mask)


def pathway_exchanged(blocks, fusion, pathway, norm, maps, words, mask):
    vision = blocks(maps)
    fused = fusion(vision, words, mask)
    return norm(fused), pathway(fused, vision)


def computed_twice(blocks, fusion, pathway, norm, maps, *words):
    """Right, but slow; a list instead of a tuple, and arguments by name."""
    fused = fusion(blocks(maps), *words)
    return [norm(fused), pathway(maps=blocks(maps), fused=fusion(blocks(maps), *words))]


def joined(coarse, fine, mode="bilinear", size=None, **how):
    """Coarse maps resized to the fine ones, then both, by channel."""
    how = how or ({"align_corners": True} if mode == "bilinear" else {})
    return torch.cat([F.interpolate(coarse, size or fine.shape[2:], mode=mode, **how), fine], dim=1)


def join_levels(coarse, fine, convolutions, **how):
    """The right answer."""
    return convolutions(joined(coarse, fine, **how))


def fine_first(coarse, fine, convolutions):
    both = joined(coarse, fine)
    return convolutions(torch.cat([both[:, coarse.shape[1] :], both[:, : coarse.shape[1]]], dim=1))


def twice_as_large(coarse, fine, convolutions):
    return join_levels(coarse, fine, convolutions, size=[2 * n for n in coarse.shape[2:]])


def fine_to_coarse(coarse, fine, convolutions):
    return convolutions(
        torch.cat([coarse, F.interpolate(fine, coarse.shape[2:], mode="bilinear", align_corners=True)], 1)
    )


def fine_alone(coarse, fine, convolutions):
    return convolutions(F.pad(fine, (0, 0, 0, 0, coarse.shape[1], 0)))


STUDENTS_T = {2: 12.7062, 3: 4.30265, 4: 3.18245, 5: 2.77645}  # 95 %, by the number of seeds


def leads(a, b):
    return np.array([a[seed] - b[seed] for seed in a if seed in b])


def half(differences, t=None, ddof=1, root=0.5):
    """Half the width of the 95 % interval of a mean."""
    n = len(differences)
    return (t or STUDENTS_T[n]) * differences.std(ddof=ddof) / n**root


def paired_lead(a, b):
    """The right answer."""
    return leads(a, b).mean(), half(leads(a, b))


def matched_by_place(a, b):
    differences = np.array([x - y for x, y in zip(a.values(), b.values())])
    return differences.mean(), half(differences)


def mean_of_all_seeds(a, b):
    return np.mean([*a.values()]) - np.mean([*b.values()]), half(leads(a, b))


def both_halves_added(a, b):
    halves = (mean_interval(side[seed] for seed in a if seed in b).half for side in (a, b))
    return leads(a, b).mean(), sum(halves)


def missing_seeds_as_0(a, b):
    differences = np.array([value - b.get(seed, 0.0) for seed, value in a.items()])
    return differences.mean(), half(differences)


def interval_of_both_sides(a, b):
    halves = (mean_interval(side.values()).half for side in (a, b))
    return leads(a, b).mean(), float(np.hypot(*halves))


def seeds_needed(deviation, difference, power=0.8, level=0.95, quantile=student_t, ddof=1, draws=10_000):
    """The right answer, by chance."""
    generator = np.random.default_rng(0)
    for seeds in range(2, 200):
        values = generator.normal(difference, deviation, (draws, seeds))
        half = quantile(level, seeds - 1) * values.std(axis=1, ddof=ddof) / seeds**0.5
        if (abs(values.mean(axis=1)) > half).mean() >= power:
            return seeds


def by_a_normal(deviation, difference, power, level):
    z = NormalDist().inv_cdf
    return ceil(((z(0.5 + level / 2) + z(power)) * deviation / difference) ** 2)


def narrow_enough(deviation, difference, power, level):
    return next(n for n in range(2, 200) if student_t(level, n - 1) * deviation / n**0.5 <= difference)


SECTIONS = {
    "lavt_stage": "12.1",
    "join_levels": "12.2",
    "paired_lead": "12.6",
    "seeds_needed": "12.6",
}
WRONG = {
    "lavt_stage": {
        "gated F to the decoder": Named("gate is only for", returning(lambda norm, v, f, e: (norm(e - v), e))),
        "E to the decoder": Named("not E", returning(lambda norm, v, f, e: (norm(e), e))),
        "V to the decoder": Named("not V", returning(lambda norm, v, f, e: (norm(v), e))),
        "no norm": Named("norm on the way to the decoder", returning(lambda norm, v, f, e: (f, e))),
        "E normed": Named("E goes on without a norm", returning(lambda norm, v, f, e: (norm(f), norm(e)))),
        "gated F onward": Named("the gated F alone", returning(lambda norm, v, f, e: (norm(f), e - v))),
        "no gate": Named("row without the gate", returning(lambda norm, v, f, e: (norm(f), v + f))),
        "V onward": Named("words have no part", returning(lambda norm, v, f, e: (norm(f), v))),
        "V added twice": Named("adds V itself", returning(lambda norm, v, f, e: (norm(f), v + e))),
        "exchanged": Named("decoder first", returning(lambda norm, v, f, e: (e, norm(f)))),
        "words before blocks": Named("the output of the blocks", words_before_blocks),
        "no blocks": Named("The blocks come first", without_blocks),
        "pathway of the normed F": Named(
            "takes F itself", lambda b, f, p, n, x, *w: (n(f(b(x), *w)), p(b(x), n(f(b(x), *w))))
        ),
        "pathway exchanged": Named("V first, then F", pathway_exchanged),
        "mask inverted": lambda *a: lavt_stage(*a[:6], ~a[6]),
        "no mask": lambda *a: lavt_stage(*a[:6], a[6] | True),
        "the decoder's maps alone": Named("return two values", lambda *a: lavt_stage(*a)[0]),
        "nothing": Named("returns None", lambda *a: None),
    },
    "join_levels": {
        "corners not aligned": Named("align_corners=True", lambda *a: join_levels(*a, align_corners=False)),
        "nearest": Named("nearest pixel", lambda *a: join_levels(*a, mode="nearest")),
        "bicubic": lambda *a: join_levels(*a, mode="bicubic", align_corners=True),
        "fine first": Named("coarse maps come first", fine_first),
        "no convolutions": Named("convolutions are missing", lambda coarse, fine, _: joined(coarse, fine)),
        "twice as large": twice_as_large,
        "fine to coarse": fine_to_coarse,
        "fine alone": Named("coarse maps are missing", fine_alone),
        "a ReLU": lambda *a: join_levels(*a).relu(),
        "nothing": Named("returns None", lambda *a: None),
    },
    "paired_lead": {
        "matched by place": Named("match by seed", matched_by_place),
        "missing seeds as 0": missing_seeds_as_0,
        "b - a": Named("b - a", lambda a, b: (-leads(a, b).mean(), half(leads(a, b)))),
        "1.96": Named("1.96 holds for many", lambda a, b: (leads(a, b).mean(), half(leads(a, b), t=1.96))),
        "variance by n": Named("n - 1", lambda a, b: (leads(a, b).mean(), half(leads(a, b), ddof=0))),
        "spread of the seeds": Named(
            "spread of seeds, not of their mean", lambda a, b: (leads(a, b).mean(), half(leads(a, b), root=0))
        ),
        "divided by n": Named("not by n", lambda a, b: (leads(a, b).mean(), half(leads(a, b), root=1))),
        "the deviation": Named(
            "That is a standard deviation:", lambda a, b: (leads(a, b).mean(), leads(a, b).std(ddof=1))
        ),
        "NumPy's deviation": Named("deviation, divided by n", lambda a, b: (leads(a, b).mean(), leads(a, b).std())),
        "the standard error": Named(
            "Student's t is missing", lambda a, b: (leads(a, b).mean(), half(leads(a, b), t=1))
        ),
        "the whole width": Named("whole width", lambda a, b: (leads(a, b).mean(), 2 * half(leads(a, b)))),
        "interval of a": Named("of a alone", lambda a, b: (leads(a, b).mean(), half(np.array([*a.values()])))),
        "mean of all seeds": Named("not of those that both have", mean_of_all_seeds),
        "both halves added": Named("differences first", both_halves_added),
        "an interval of both sides": Named("cannot be made from those of both sides", interval_of_both_sides),
        "the mean alone": Named("return two values", lambda a, b: leads(a, b).mean()),
        "nothing": Named("returns None", lambda a, b: None),
    },
    "seeds_needed": {
        "a normal distribution": Named("Student's t", by_a_normal),
        "one-sided": Named("one-sided", lambda s, d, p, l: exactly(s, d, p, 2 * l - 1)),
        "two groups": Named("paired", lambda s, d, p, l: exactly(2**0.5 * s, d, p, l)),
        "rounded down": Named("One seed more", lambda s, d, p, l: exactly(s, d, p, l) - 1),
        "narrow enough": Named("half of all cases", narrow_enough),
        "power 0.8 always": Named("power that is given", lambda s, d, p, l: exactly(s, d, level=l)),
        "level 0.95 always": Named("level that is given", lambda s, d, p, l: exactly(s, d, p)),
        "not whole": Named("whole", lambda s, d, p, l: exactly(s, d, p, l) - 0.5),
        "one too many": lambda s, d, p, l: exactly(s, d, p, l) + 1,
        "variance by n": Named("One seed more", lambda *a: seeds_needed(*a, ddof=0)),
        "1.96": Named("Student's t", lambda *a: seeds_needed(*a, quantile=lambda level, degrees: 1.96)),
        "the variance for the deviation": lambda s, d, p, l: exactly(s**2, d, p, l),
        "nothing": Named("returns None", lambda *a: None),
    },
}
RIGHT = {
    "lavt_stage": {"another way": lavt_stage, "computed twice": computed_twice},
    "join_levels": {"another way": join_levels},
    "paired_lead": {
        "by a table of t": paired_lead,
        "by a table of t with three digits": lambda a, b: (
            leads(a, b).mean(),
            half(leads(a, b), t={2: 12.7, 3: 4.30, 4: 3.18, 5: 2.78}[len(leads(a, b))]),
        ),
        "by the library": lambda a, b: tuple(mean_interval(a[s] - b[s] for s in {*a} & {*b})),
    },
    "seeds_needed": {
        "by chance": seeds_needed,
        "by the library": exactly,
        "as a float": lambda *a: float(exactly(*a)),
        "as NumPy's": lambda *a: np.int64(exactly(*a)),
    },
}

MISTAKES, DIFFERENT = entries(12, SECTIONS, WRONG, RIGHT)
