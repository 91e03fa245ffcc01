"""Checks of the exercises in lesson 8, four fusions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, close, compare, exercise, refuse_none, two
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.models.fusions import with_class_token

Pair = tuple[Tensor, Tensor]  # the tokens of S, then those of L


@exercise
def class_token_fusion(answer: Answer) -> str:
    """class_token_fusion(small, large, f_s, g_s): the tokens of both branches, class tokens summed (equation 3)."""
    for batch, patches, widths in ((2, (5, 3), (4, 6)), (1, (1, 4), (8, 2)), (3, (4, 4), (3, 3))):
        torch.manual_seed(10)
        f_s, g_s = (nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in (widths, widths[::-1]))
        small, large = (torch.randn(batch, 1 + n, width) for n, width in zip(patches, widths))
        where = f"{patches[0]} and {patches[1]} patches"
        given = two(answer(small.clone(), large.clone(), f_s, g_s), "the tokens of small and of large")

        both = large[:, :1] + f_s(small[:, :1])
        expected = with_class_token(g_s(both), small), with_class_token(both, large)
        for cause, result in _class_token_causes(expected, small, large, both, g_s).items():
            if all(map(close, given, result)):
                raise Wrong(f"{where}: {cause}")
        for name, tokens, right in zip(("small", "large"), given, expected):
            if getattr(tokens, "ndim", 0) == 3 and tokens.shape[1] == right.shape[1] + 1:
                raise Wrong(f"{where}: {name} has one token too many: replace the old class token by the new one")
            compare(tokens, right, f"{where}, tokens of {name}")
    return "right: one sum, the class token of both"


def _class_token_causes(
    expected: Pair, small: Tensor, large: Tensor, both: Tensor, g_s: Callable[[Tensor], Tensor]
) -> dict[str, Pair]:
    of_large_alone = with_class_token(g_s(large[:, :1]), small)
    added = with_class_token(small[:, :1] + g_s(both), small)
    each_its_own = with_class_token(small[:, :1] + g_s(large[:, :1]), small)
    return {
        "L's class token stays what it was: it, too, becomes the sum.": (expected[0], large),
        "S's class token stays what it was: it becomes g_s of the sum.": (small, expected[1]),
        "S's class token becomes g_s of the sum, not of L's class token.": (of_large_alone, expected[1]),
        "g_s of the sum replaces S's class token: nothing is added.": (added, expected[1]),
        "There is one sum, at L's width; S does not add L's class token to its own.": (each_its_own, expected[1]),
        "The class tokens are added: here their mean was taken.": (
            with_class_token(g_s(both / 2), small),
            with_class_token(both / 2, large),
        ),
        "They come in the order small, large.": expected[::-1],
    }


@exercise
def pairwise_sum(answer: Answer) -> str:
    """pairwise_sum(small, large, small_grid, large_grid): S's patches, resized, added to L's patches (equation 4)."""
    for batch, small_grid, large_grid, width in (
        (2, (4, 6), (2, 3), 5),
        (1, (6, 4), (3, 5), 2),
        (3, (3, 3), (2, 2), 9),
    ):
        torch.manual_seed(11)
        small, large = (torch.randn(batch, rows * columns, width) for rows, columns in (small_grid, large_grid))
        causes = _pairwise_causes(small, large, small_grid, large_grid)
        expected = large + _resized(small.mT.unflatten(2, small_grid), large_grid)
        where = f"grids {small_grid} and {large_grid}, width {width}"
        compare(answer(small.clone(), large.clone(), small_grid, large_grid), expected, where, causes)
    return "right: to each patch of L, the patches of S at the same place are added"


def _pairwise_causes(
    small: Tensor, large: Tensor, small_grid: tuple[int, int], large_grid: tuple[int, int]
) -> dict[str, Tensor]:
    image = small.mT.unflatten(2, small_grid)
    cut_up = small.reshape(image.shape)
    grid_exchanged = small.mT.unflatten(2, small_grid[::-1])
    nearest = _resized(image, large_grid, mode="nearest")
    corners_aligned = _resized(image, large_grid, align_corners=True)
    return {
        "The channels were cut up: move them before the patches, then unflatten the patches.": (
            large + _resized(cut_up, large_grid)
        ),
        "Rows and columns are exchanged: a grid is (rows, columns), and patches go row by row.": (
            large + _resized(grid_exchanged, large_grid)
        ),
        "Bilinear, not nearest.": large + nearest,
        "Bilinear, not bicubic.": large + _resized(image, large_grid, mode="bicubic"),
        "align_corners=False: a patch is an area, not a point.": large + corners_aligned,
        "L's patches are missing in the sum.": _resized(image, large_grid),
    }


def _resized(image: Tensor, grid: tuple[int, int], mode: str = "bilinear", **how: Any) -> Tensor:
    """Maps (batch, channel, row, column), resized to the grid, as tokens (batch, patch, channel)."""
    return nn.functional.interpolate(image, grid, mode=mode, **how).flatten(2).mT


_LEADS: tuple[dict[str, list[float]], ...] = (  # {comparison: leads, one a seed}
    {"a": [2.1, 1.9, 2.4, 2.0], "b": [0.4, -0.2, 0.9, 0.3], "c": [-3.0, -3.2, -2.9, -3.1], "d": [1.0, -0.9, 0.5, -0.5]},
    {"p": [7.8, 6.85, 11.6], "q": [5.0, 5.01, 4.99], "r": [1.0, -1.0, 0.5], "s": [0.2, 0.1, 0.3], "t": [9, 1, 2]},
    {"only": [1.0, 1.2, 0.9, 0.3, 1.4]},
)


@exercise
def shown_leads(answer: Answer) -> str:
    """shown_leads(leads): the comparisons whose interval lies above 0, at a level that allows for their number."""
    for leads in _LEADS:
        shown = partial(_above_zero, leads)
        level = 1 - 0.05 / len(leads)
        expected = shown(level)
        given = answer({name: list(values) for name, values in leads.items()})
        refuse_none(given)
        where = f"{len(leads)} comparison{'s' * (len(leads) > 1)}"
        if isinstance(given, str) or sorted(given) != sorted(expected):
            causes = {
                "A mean above 0 is not enough: the whole interval must lie there.": shown(None),
                "Each interval is of 95 %: with so many, one may leave 0 out by chance.": shown(0.95),
                "The level is 1 - 0.05 / m: the share of intervals that may be wrong is divided, not the level.": (
                    shown(0.95 / len(leads))
                ),
                "These are comparisons in which the lead is *below* 0, or not shown.": [
                    name for name in leads if name not in expected
                ],
                "An interval wholly below 0 is no lead.": _beside_zero(leads, level),
            }
            cause = next((cause for cause, names in causes.items() if sorted(given) == sorted(names)), "")
            raise Wrong(f"{where}: expected {expected}, given {list(given)}. {cause}".rstrip())
    return "right: the more comparisons, the more each of them must show"


def _above_zero(leads: dict[str, list[float]], level: float | None) -> list[str]:
    """The names whose interval of this level lies above 0; without a level, those whose mean does."""
    return [
        name
        for name, values in leads.items()
        if (mean_interval(values).mean if level is None else mean_interval(values, level).low) > 0
    ]


def _beside_zero(leads: dict[str, list[float]], level: float) -> list[str]:
    intervals = {name: mean_interval(values, level) for name, values in leads.items()}
    return [name for name, interval in intervals.items() if interval.low > 0 or interval.high < 0]
