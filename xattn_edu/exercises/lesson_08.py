"""Checks of the exercises in lesson 8, four fusions."""

from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, close, compare, exercise
from xattn_edu.models.fusions import with_class_token


@exercise
def class_token_fusion(answer: Answer) -> str:
    """class_token_fusion(small, large, f_s, g_s): the tokens of both branches, class tokens summed (equation 3)."""
    for batch, patches, widths in ((2, (5, 3), (4, 6)), (1, (1, 4), (8, 2)), (3, (4, 4), (3, 3))):
        torch.manual_seed(10)
        f_s, g_s = (nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in (widths, widths[::-1]))
        small, large = (torch.randn(batch, 1 + n, width) for n, width in zip(patches, widths))
        both = large[:, :1] + f_s(small[:, :1])
        as_first = with_class_token
        expected = as_first(g_s(both), small), as_first(both, large)
        causes = [
            ("L's class token stays what it was: it, too, becomes the sum.", (expected[0], large)),
            ("S's class token stays what it was: it becomes g_s of the sum.", (small, expected[1])),
            ("What comes back to S is g_s of the sum, not of L's class token.", (as_first(g_s(large[:, :1]), small), expected[1])),
            ("g_s of the sum replaces S's class token: nothing is added.", (as_first(small[:, :1] + g_s(both), small), expected[1])),
            ("The patches are there twice: put the new class token in the place of the old.", None),
            ("They come in the order small, large.", expected[::-1]),
        ]  # fmt: skip
        given = answer(small.clone(), large.clone(), f_s, g_s)
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise Wrong(f"return the tokens of both branches, small and large, given a {type(given).__name__}")
        where = f"{patches[0]} and {patches[1]} patches"
        for cause, result in causes:
            if result is not None and all(close(a, b) for a, b in zip(given, result)):
                raise Wrong(f"{where}: {cause}")
        for name, tokens, right in zip(("small", "large"), given, expected):
            doubled = getattr(tokens, "ndim", 0) == 3 and tokens.shape[1] == right.shape[1] + 1
            if doubled:
                raise Wrong(f"{where}: {causes[4][0]}")
            compare(tokens, right, f"{where}, tokens of {name}")
    return "right: one sum, the class token of both"


@exercise
def pairwise_sum(answer: Answer) -> str:
    """pairwise_sum(small, large, small_grid, large_grid): S's patches, resized to L's grid, added to L's (equation 4)."""
    for batch, small_grid, large_grid, width in (
        (2, (4, 6), (2, 3), 5),
        (1, (6, 4), (3, 5), 2),
        (3, (3, 3), (2, 2), 9),
    ):
        torch.manual_seed(11)
        small, large = (torch.randn(batch, rows * columns, width) for rows, columns in (small_grid, large_grid))

        def resized(image: Tensor, size: tuple[int, int] = large_grid, **how: Any) -> Tensor:
            return nn.functional.interpolate(image, size, **({"mode": "bilinear"} | how)).flatten(2).transpose(1, 2)

        image = small.transpose(1, 2).unflatten(2, small_grid)
        causes = {
            "The channels were cut up: move them before the patches, then unflatten the patches.": large
            + resized(small.reshape(batch, width, *small_grid)),
            "Rows and columns are exchanged: a grid is (rows, columns), and patches go row by row.": large
            + resized(small.transpose(1, 2).unflatten(2, small_grid[::-1])),
            "Bilinear, not nearest.": large + resized(image, mode="nearest"),
            "align_corners=False: a patch is an area, not a point.": large + resized(image, align_corners=True),
            "L's patches are missing in the sum.": resized(image),
        }
        where = f"grids {small_grid} and {large_grid}, width {width}"
        compare(answer(small.clone(), large.clone(), small_grid, large_grid), large + resized(image), where, causes)
    return "right: each patch of L meets the patches of S at its own place"
