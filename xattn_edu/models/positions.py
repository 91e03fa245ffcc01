"""Codes of positions: sines and cosines in one and two dimensions, and codes resized to another grid.

Source: Vaswani et al., "Attention Is All You Need" (2017), section 3.5; Dosovitskiy et al., "An Image is Worth 16x16
Words" (2021), section 3.2.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from xattn_edu.shapes import shaped


@shaped
def sinusoidal_positions(length: int, width: int, first: int = 0) -> Float[Tensor, "length width"]:
    """PE(pos, 2i) = sin(pos / 10000^(2i/width)) and PE(pos, 2i+1) = cos of the same angle.

    Row p is the code of position `first` + p, in float64, so that the codes of large positions are precise. Raises
    ValueError for a width that is odd or below 2.

    Source: Vaswani et al. (2017), section 3.5.
    """
    if width % 2 or width < 2:
        raise ValueError(f"sines and cosines come in pairs: the width must be even, given {width}")
    places = torch.arange(first, first + length, dtype=torch.float64)
    pairs = torch.arange(0, width, 2, dtype=torch.float64)
    angles = places[:, None] * 10000.0 ** -(pairs / width)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


@shaped
def sincos_positions(grid: tuple[int, int], width: int) -> Float[Tensor, "1 token width"]:
    """Fixed position embeddings of a grid of patches: half of the channels code the row, half the column.

    Each half holds the sines, then the cosines, of position / 10000^(i / (width/4)) for i from 0 to width/4 - 1.
    `grid` is (rows, columns); patches are numbered row by row. Raises ValueError unless width is a multiple of 4.

    Source: Vaswani et al. (2017), section 3.5; in two dimensions Chen et al., "An Empirical Study of Training
    Self-Supervised Vision Transformers" (2021).
    """
    if width % 4 or width < 4:
        raise ValueError(f"two-dimensional sines and cosines need a width that is a multiple of 4, given {width}")
    frequencies = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (rows, columns)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)[None]


@shaped
def interpolate_positions(
    positions: Float[Tensor, "1 old_tokens width"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "1 new_tokens width"]:
    """Position embeddings for another grid: the patches' are resized as an image (bicubic), a class token's is kept.

    `old` and `new` are (rows, columns); a class token comes first. Raises ValueError if `positions` do not belong to
    the old grid.

    Source: Dosovitskiy et al. (2021), section 3.2.
    """
    patches = old[0] * old[1]
    prefix = positions.shape[1] - patches
    if prefix not in (0, 1):
        raise ValueError(
            f"positions {tuple(positions.shape)} do not belong to a grid {old}: {patches} or {patches + 1} tokens"
        )
    if old == new:
        return positions
    image = rearrange(positions[:, prefix:], "1 (row column) width -> 1 width row column", row=old[0])
    resized = F.interpolate(image, size=new, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :prefix], rearrange(resized, "1 width row column -> 1 (row column) width")], dim=1)
