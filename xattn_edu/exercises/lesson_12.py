"""Checks of the exercises in lesson 12, LAVT."""

from itertools import count
from math import ceil
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import (
    Answer,
    Wrong,
    close,
    compare,
    compare_pairs,
    exercise,
    known_cause,
    refuse_none,
    two,
)
from xattn_edu.measure import intervals
from xattn_edu.measure.intervals import mean_interval, student_t
from xattn_edu.models.pwam import LanguagePathway, PixelWordAttention


@exercise
def lavt_stage(answer: Answer) -> str:
    """lavt_stage(blocks, fusion, pathway, norm, maps, words, mask): for the decoder, and for the next stage."""
    for batch, rows, columns, width, words_width in ((2, 3, 4, 8, 6), (1, 5, 2, 6, 4)):
        torch.manual_seed(30)
        blocks = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        fusion, pathway = PixelWordAttention(width, words_width), LanguagePathway(width)
        norm = nn.LayerNorm(width)
        for parameter in (*pathway.parameters(), *norm.parameters()):
            nn.init.normal_(parameter, std=0.7)
        maps, words = torch.randn(batch, rows, columns, width), torch.randn(batch, 5, words_width)
        mask = torch.arange(5) < torch.tensor([[5], [3]])[:batch]

        vision = blocks(maps)
        fused = fusion(vision, words, mask)
        expected = norm(fused), pathway(vision, fused)
        mistakes = _stage_mistakes(norm, pathway, maps, vision, fused, fusion(maps, words, mask))
        given = two(answer(blocks, fusion, pathway, norm, maps.clone(), words.clone(), mask.clone()), "decoder's and E")
        compare_pairs(given, expected, f"{rows} x {columns} pixels", mistakes, {0: "to the decoder", 1: "onward"})
    return "right: the decoder gets F, normed, and the next stage V plus the gated F"


def _stage_mistakes(
    norm: nn.Module, pathway: nn.Module, maps: Tensor, vision: Tensor, fused: Tensor, fused_from_maps: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    to_decoder, onward = norm(fused), pathway(vision, fused)
    gated = onward - vision
    from_maps = norm(fused_from_maps), pathway(vision, fused_from_maps)
    without_blocks = norm(fused_from_maps), pathway(maps, fused_from_maps)
    return {
        "The decoder gets F itself: the gate is only for the next stage.": (norm(gated), onward),
        "The decoder gets F, from the words, not E, which goes on to the next stage.": (norm(onward), onward),
        "The decoder gets F, from the words, not V.": (norm(vision), onward),
        "The norm on the way to the decoder is missing.": (fused, onward),
        "The norm is for the decoder alone; E goes on without a norm.": (to_decoder, norm(onward)),
        "E is V + gate(F) * F: did you return the gated F alone?": (to_decoder, gated),
        "E is V + gate(F) * F: V + F is the ablation's row without the gate.": (to_decoder, vision + fused),
        "The words have no part in E.": (to_decoder, vision),
        "PWAM takes V, the output of the blocks, not the input of the stage.": from_maps,
        "The blocks come first.": without_blocks,
        "pathway(V, F) adds V itself.": (to_decoder, vision + onward),
        "pathway takes V first, then F.": (to_decoder, pathway(fused, vision)),
        "pathway takes F itself; its norm is for the decoder.": (to_decoder, pathway(vision, norm(fused))),
        "Return the maps for the decoder first.": (onward, to_decoder),
    }


@exercise
def join_levels(answer: Answer) -> str:
    """join_levels(coarse, fine, convolutions): one level of the decoder, maps (batch, channel, row, column)."""
    for batch, small, large, widths in (
        (2, (3, 3), (5, 6), (6, 4)),
        (1, (2, 4), (4, 8), (3, 5)),
        (3, (4, 3), (7, 6), (4, 4)),
    ):
        torch.manual_seed(31)
        coarse, fine = torch.randn(batch, widths[0], *small), torch.randn(batch, widths[1], *large)
        convolutions = nn.Conv2d(sum(widths), sum(widths), kernel_size=3, padding=1)
        resized = _resized(coarse, fine, mode="bilinear", align_corners=True)
        corners_apart = _resized(coarse, fine, mode="bilinear", align_corners=False)
        nearest = _resized(coarse, fine, mode="nearest")

        joined = torch.cat([resized, fine], dim=1)
        fine_first = torch.cat([fine, resized], dim=1)
        with_corners_apart = torch.cat([corners_apart, fine], dim=1)
        with_nearest = torch.cat([nearest, fine], dim=1)
        fine_alone = torch.cat([torch.zeros_like(resized), fine], dim=1)
        mistakes = {
            "The corners of both maps must lie on each other: align_corners=True.": with_corners_apart,
            "That is the nearest pixel: between pixels, be bilinear.": with_nearest,
            "The coarse maps come first, then the fine ones: the convolution's channels have an order.": fine_first,
            "The coarse maps are missing.": fine_alone,
        }
        causes = {cause: convolutions(result) for cause, result in mistakes.items()}
        causes["The convolutions are missing."] = joined
        given = answer(coarse.clone(), fine.clone(), convolutions)
        where = f"{small[0]} x {small[1]} to {large[0]} x {large[1]} pixels"
        compare(given, convolutions(joined), where, causes)
    return "right, also where the finer stage is not twice as large"


def _resized(coarse: Tensor, fine: Tensor, **how: Any) -> Tensor:
    return nn.functional.interpolate(coarse, fine.shape[2:], **how)


_RECORDS: tuple[tuple[dict[int, float], dict[int, float]], ...] = (  # by seed; the seeds of each pair differ in order
    ({0: 0.41, 1: 0.36, 2: 0.44, 3: 0.39, 4: 0.43}, {4: 0.40, 3: 0.37, 2: 0.41, 1: 0.35, 0: 0.37}),
    ({2: 0.30, 0: 0.52, 7: 0.45, 9: 0.20}, {0: 0.47, 7: 0.47, 5: 0.11, 2: 0.21}),
    ({0: 10.0, 1: 12.0}, {1: 11.5, 0: 10.5, 3: 40.0}),
)


@exercise
def paired_lead(answer: Answer) -> str:
    """paired_lead(a, b): mean and half-width of the 95 % interval of a - b, over the seeds that both have."""
    for a, b in _RECORDS:
        interval = mean_interval([a[seed] - b[seed] for seed in a.keys() & b.keys()])
        expected = interval.mean, interval.half
        given = two(answer(dict(a), dict(b)), "the mean lead and half of its interval's width")
        mean, half = (float(number) for number in given)
        # A printed table of Student's t has three digits or so, and 1.96 is a rounded number as well.
        if not (close(mean, expected[0], atol=1e-9) and close(half, expected[1], rtol=2e-3)):
            cause = known_cause((mean, half), _lead_causes(a, b, *expected), rtol=1e-4, atol=1e-9)
            raise Wrong(
                f"seeds {list(a)} and {list(b)}: expected {expected[0]:.4f} and {expected[1]:.4f}, "
                f"given {mean:.4f} and {half:.4f}. {cause}".rstrip()
            )
    return "right: seed by seed, with an interval that is wide for few seeds"


def _lead_causes(a: dict[int, float], b: dict[int, float], mean: float, half: float) -> dict[str, tuple[float, float]]:
    differences = np.array([a[seed] - b[seed] for seed in a.keys() & b.keys()])
    n, deviation = len(differences), differences.std(ddof=1)
    by_place = mean_interval([x - y for x, y in zip(a.values(), b.values())])
    side_a, side_b = mean_interval(list(a.values())), mean_interval(list(b.values()))
    with_normal_quantile = 1.96 * deviation / n**0.5
    divided_by_n = half * differences.std() / deviation
    of_both_sides = float(np.hypot(side_a.half, side_b.half))
    return {
        "Only seeds that both have count; match by seed, not by place.": (by_place.mean, by_place.half),
        "That is b - a.": (-mean, half),
        "1.96 holds for many seeds; for few, Student's t is larger.": (mean, with_normal_quantile),
        "With few seeds, divide by n - 1 in the variance.": (mean, divided_by_n),
        "That is the spread of seeds, not of their mean: divide by the root of n.": (mean, half * n**0.5),
        "Divide by the root of n, not by n.": (mean, half / n**0.5),
        "That is a standard deviation: half of the interval is Student's t times deviation / sqrt(n).": (
            mean,
            deviation,
        ),
        "That is a standard deviation, divided by n: half of the interval is t times deviation / sqrt(n).": (
            mean,
            differences.std(),
        ),
        "That is the standard error: Student's t is missing.": (mean, deviation / n**0.5),
        "That is the whole width; return half of it.": (mean, 2 * half),
        "The seeds are paired: take the differences first, then their interval.": (mean, side_a.half + side_b.half),
        "The mean is right; an interval of the differences cannot be made from those of both sides.": (
            mean,
            of_both_sides,
        ),
        "The interval is that of a alone, not of the differences.": (mean, side_a.half),
        "The mean is that of all seeds, not of those that both have.": (side_a.mean - side_b.mean, half),
    }


# (deviation, difference, power, level). The right number of seeds exceeds the power by 0.016 or more; one seed fewer
# misses it by as much. So 10,000 draws for each number of seeds give the same answer as the exact distribution.
_EXPERIMENTS = ((2.75, 2.5, 0.8, 0.95), (0.7, 1.0, 0.9, 0.95), (3.0, 5.0, 0.8, 0.99), (0.8, 1.0, 0.7, 0.9))


@exercise
def seeds_needed(answer: Answer) -> str:
    """seeds_needed(deviation, difference, power, level): the fewest seeds that show a difference with this power."""
    for deviation, difference, power, level in _EXPERIMENTS:
        expected = intervals.seeds_needed(deviation, difference, power, level)
        given = answer(deviation, difference, power, level)
        refuse_none(given)
        if float(given) != int(given):
            raise Wrong(f"given {float(given):.2f}: a number of seeds is whole, and the next lower one is too few")
        where = f"deviation {deviation}, difference {difference}, power {power}, level {level}"
        compare(int(given), expected, where, _seeds_causes(deviation, difference, power, level))
    return "right: few more than a normal distribution would say, because few seeds estimate the spread badly"


def _seeds_causes(deviation: float, difference: float, power: float, level: float) -> dict[str, int]:
    exact, normal = intervals.seeds_needed, NormalDist().inv_cdf
    with_normal = ((normal(0.5 + level / 2) + normal(power)) * deviation / difference) ** 2
    as_wide = (n for n in count(2) if student_t(level, n - 1) * deviation / n**0.5 <= difference)
    return {
        "The power that is given makes no difference to your number: is it 0.8 always?": exact(
            deviation, difference, level=level
        ),
        "The level that is given makes no difference to your number: is it 0.95 always?": exact(
            deviation, difference, power
        ),
        "That is by a normal distribution; an interval from few seeds needs Student's t.": ceil(with_normal),
        "That is a one-sided test; an interval leaves out as much on either side.": exact(
            deviation, difference, power, 2 * level - 1
        ),
        "That is for two groups with seeds of their own; here the leads are paired, and have one deviation.": exact(
            2**0.5 * deviation, difference, power, level
        ),
        "One seed more: with so many the power is still too low.": exact(deviation, difference, power, level) - 1,
        "The interval is then narrow enough on average, so it leaves 0 out in only about half of all cases.": next(
            as_wide
        ),
    }
