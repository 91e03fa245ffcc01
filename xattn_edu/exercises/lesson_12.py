"""Checks of the exercises in lesson 12, LAVT."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise, two
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.models.pwam import LanguagePathway, PixelWordAttention


@exercise
def lavt_stage(answer: Answer) -> str:
    """lavt_stage(blocks, fusion, pathway, norm, maps, words, mask): what goes to the decoder, and what goes on."""
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
        onward = pathway(vision, fused)
        expected, gated = (norm(fused), onward), onward - vision
        mistakes = {
            "The decoder gets F itself: the gate is only for what goes on.": (norm(gated), onward),
            "The decoder gets F, what the words said, not E, what goes on.": (norm(onward), onward),
            "The norm on the way to the decoder is missing.": (fused, onward),
            "The norm is on the way to the decoder; what goes on is not normed.": (norm(fused), norm(onward)),
            "What goes on is V + gate(F) * F: did you return the gated F alone?": (norm(fused), gated),
            "What goes on passes the gate: V + F is the row without it.": (norm(fused), vision + fused),
            "The words have no part in what goes on.": (norm(fused), vision),
            "PWAM reads V, what the blocks made, not what came into the stage.": (
                norm(fusion(maps, words, mask)),
                pathway(vision, fusion(maps, words, mask)),
            ),
            "The blocks come first.": (norm(fusion(maps, words, mask)), pathway(maps, fusion(maps, words, mask))),
            "pathway(V, F) adds V itself.": (norm(fused), vision + onward),
            "pathway takes V first, then F.": (norm(fused), pathway(fused, vision)),
            "Return what goes to the decoder first.": (onward, norm(fused)),
        }
        given = two(answer(blocks, fusion, pathway, norm, maps.clone(), words.clone(), mask.clone()), "decoder's and E")
        for number, name in enumerate(("to the decoder", "onward")):
            causes = {cause: result[number] for cause, result in mistakes.items()}
            compare(given[number], expected[number], f"{name}, {rows} x {columns} pixels", causes)
    return "right: the decoder hears what the words said, the next stage a gated share of it"


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
        convolutions = nn.Conv2d(sum(widths), 3, kernel_size=3, padding=1)

        def joined(order: int = 1, coarse: Tensor = coarse, fine: Tensor = fine, **how: Any) -> Tensor:
            resized = nn.functional.interpolate(coarse, fine.shape[2:], **how)
            return torch.cat([resized, fine][::order], dim=1)

        bilinear: dict[str, Any] = {"mode": "bilinear", "align_corners": True}
        expected = convolutions(joined(**bilinear))
        causes = {
            "The corners are not on the corners: align_corners=True.": convolutions(
                joined(mode="bilinear", align_corners=False)
            ),
            "That is the nearest pixel: between pixels, be bilinear.": convolutions(joined(mode="nearest")),
            "The coarse maps come first, then the fine ones: the convolution's channels have an order.": convolutions(
                joined(-1, **bilinear)
            ),
            "The convolutions are missing.": joined(**bilinear),
        }
        given = answer(coarse.clone(), fine.clone(), convolutions)
        compare(given, expected, f"{small[0]} x {small[1]} to {large[0]} x {large[1]} pixels", causes)
    return "right, also where the finer stage is not twice as large"


@exercise
def paired_lead(answer: Answer) -> str:
    """paired_lead(a, b): mean and half-width of the 95 % interval of a - b, over the seeds that both have."""
    cases = [
        ({0: 0.41, 1: 0.36, 2: 0.44, 3: 0.39, 4: 0.43}, {4: 0.40, 3: 0.37, 2: 0.41, 1: 0.35, 0: 0.37}),
        ({2: 0.30, 0: 0.52, 7: 0.45, 9: 0.20}, {0: 0.47, 7: 0.47, 5: 0.11, 2: 0.21}),
        ({0: 10.0, 1: 12.0}, {1: 11.5, 0: 10.5, 3: 40.0}),
    ]
    for a, b in cases:
        seeds = sorted(a.keys() & b.keys())
        differences = np.array([a[seed] - b[seed] for seed in seeds])
        interval = mean_interval(differences)
        expected = interval.mean, interval.half
        where = f"seeds {list(a)} and {list(b)}"
        given = two(answer(dict(a), dict(b)), "the mean lead and half of its interval's width")
        numbers = tuple(float(number) for number in given)
        if np.allclose(numbers, expected, rtol=1e-5, atol=1e-9):
            continue
        n, sides = len(differences), (mean_interval(a.values()), mean_interval(b.values()))
        causes = {
            "Seeds that only one of them has do not count; match by seed, not by place.": tuple(
                mean_interval(x - y for x, y in zip(a.values(), b.values()))
            )[:2],
            "That is b - a.": (-expected[0], expected[1]),
            "1.96 holds for many seeds; for few, Student's t is larger.": (
                expected[0],
                1.96 * differences.std(ddof=1) / n**0.5,
            ),
            "With few seeds, divide by n - 1 in the variance.": (
                expected[0],
                expected[1] * differences.std() / differences.std(ddof=1),
            ),
            "That is the spread of seeds, not of their mean: divide by the root of n.": (
                expected[0],
                expected[1] * n**0.5,
            ),
            "That is the whole width; half of it is asked for.": (expected[0], 2 * expected[1]),
            "The seeds are paired: take the differences first, then their interval.": (
                expected[0],
                sides[0].half + sides[1].half,
            ),
            "The mean is right; the intervals of both sides say nothing of their differences.": (
                expected[0],
                float(np.hypot(sides[0].half, sides[1].half)),
            ),
        }
        cause = next((cause for cause, pair in causes.items() if np.allclose(numbers, pair, rtol=1e-4, atol=1e-9)), "")
        raise Wrong(
            f"{where}: expected {expected[0]:.4f} and {expected[1]:.4f}, given {numbers[0]:.4f} and {numbers[1]:.4f}. {cause}"
        )
    return "right: seed by seed, and honest about few of them"
