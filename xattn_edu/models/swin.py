"""The Swin Transformer: attention inside small windows, which move by half a window from block to block.

A global attention layer over N pixels has N^2 weights; attention in windows of M x M pixels has N M^2. Between blocks
the windows move, so that information passes from one window to the next. Between stages four pixels become one with
twice the channels. The result is a pyramid of feature maps, which a decoder for segmentation needs.

Feature maps are `batch row column channel` from the first layer to the last. Norms and linear layers work on the last
axis, and one rearrange cuts windows out of the two middle axes; no other transposition is needed.

Every image size works. Grids are padded with zeros, at the bottom and on the right, to whole windows, and then rolled.
The window never shrinks and the shift is never left out, however small the grid. Queries attend to padding as to any
pixel. The published backbones for dense prediction do the same, LAVT's among them. Classifiers (`transformers`'
SwinModel, but not its SwinBackbone) leave the shift out if the grid is no larger than the window, so their results
differ there.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (ICCV 2021), section 3.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.attention import scaled_scores
from xattn_edu.models.layers import MLP, StochasticDepth, initialise_linear
from xattn_edu.models.positions import sincos_positions
from xattn_edu.shapes import check_heads, shaped


@shaped
def cut_windows(
    maps: Float[Tensor, "batch row column channel"], window: int
) -> Float[Tensor, "batch_windows token channel"]:
    """Cut maps into windows of window x window pixels. Windows, and the tokens of each, are in order row by row.

    Raises ValueError if the window does not divide rows and columns.
    """
    if window < 1 or maps.shape[1] % window or maps.shape[2] % window:
        raise ValueError(f"the window must divide rows and columns: maps {tuple(maps.shape)}, window {window}")
    return rearrange(maps, "batch (row r) (column c) channel -> (batch row column) (r c) channel", r=window, c=window)


@shaped
def join_windows(
    windows: Float[Tensor, "batch_windows token channel"], grid: tuple[int, int]
) -> Float[Tensor, "batch row column channel"]:
    """Undo `cut_windows`: join windows to maps of `grid` = (rows, columns)."""
    window = math.isqrt(windows.shape[1])
    return rearrange(
        windows,
        "(batch row column) (r c) channel -> batch (row r) (column c) channel",
        row=grid[0] // window,
        column=grid[1] // window,
        r=window,
    )


# The next two functions' tables depend on sizes alone. They are computed in every call and kept nowhere. So no state
# dict holds them, and what is made while a model is exported, which is no real tensor, does not outlive the export.


def shifted_mask(grid: tuple[int, int], window: int, device: torch.device) -> Bool[Tensor, "window token token"]:
    """Which tokens of a window may attend to each other after a grid of whole windows was rolled by half a window.

    Rolling moves the first rows behind the last ones, so the last windows hold pixels from two ends of the image: the
    border between them lies window // 2 from the edge. The mask is True for two tokens on the same side of the border.
    (The published code subtracts 100 from the other scores; here these pairs are left out altogether.)
    Source: Liu et al. (2021), section 3.2, "cyclic-shifting".
    """
    beyond = [torch.arange(length, device=device) >= length - window // 2 for length in grid]
    side = 2.0 * beyond[0][:, None] + beyond[1]  # four corners of the grid
    sides = cut_windows(side[None, :, :, None], window)
    return sides == sides.transpose(1, 2)


def relative_index(window: int, device: torch.device) -> Integer[Tensor, "query key"]:
    """Which entry of the bias table belongs to a query and a key; the table has one entry for each offset.

    The offset is the query's place (row, column) minus the key's. Offsets run from 1 - window to window - 1 and are
    numbered row by row.
    """
    token = torch.arange(window**2, device=device)
    number = token // window * (2 * window - 1) + token % window  # each offset has its own difference
    return number[:, None] - number + number[-1]


@shaped
def resize_bias_table(table: Float[Tensor, "entry head"], window: int) -> Float[Tensor, "new_entry head"]:
    """Interpolate a bias table to another window, bicubic, as one image for each head.

    The table of a window has (2 window - 1)^2 entries. A model can so be fine-tuned with windows of another size than
    in pre-training. Raises ValueError for a window below 1, and for a number of entries that belongs to no window.
    Source: Liu et al. (2021), section 3.2, last paragraph.
    """
    _check_counts(window=window)
    size = round(table.shape[0] ** 0.5)
    if size**2 != table.shape[0] or size % 2 == 0:
        raise ValueError(
            f"a window has a table of (2 window - 1)^2 entries (169 for window 7), this one has {table.shape[0]}"
        )
    if size == 2 * window - 1:
        return table
    image = rearrange(table, "(row column) head -> 1 head row column", row=size)
    resized = F.interpolate(image, size=(2 * window - 1, 2 * window - 1), mode="bicubic", align_corners=False)
    return rearrange(resized, "1 head row column -> (row column) head")


class WindowAttention(nn.Module):
    """softmax(q k^T / sqrt(d) + B) v inside windows; B is learned for each head and offset between two pixels.

    Raises ValueError if `heads` does not divide `width`, or for a window below 1.
    Source: Liu et al. (2021), section 3.2, equation (4).
    """

    def __init__(self, width: int, heads: int, window: int):
        super().__init__()
        _check_counts(width=width, heads=heads, window=window)
        check_heads(width, heads)
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(width, 3 * width)  # one matrix product is faster than three
        self.output = nn.Linear(width, width)
        self.bias_table = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * window - 1) ** 2, heads), std=0.02))
        initialise_linear(self)

    def bias(self) -> Float[Tensor, "head query key"]:
        """B, looked up in the table for each query and key of a window."""
        index = relative_index(self.window, self.bias_table.device)
        return rearrange(self.bias_table[index], "query key head -> head query key")

    @shaped
    def forward(
        self,
        windows: Float[Tensor, "batch_windows token width"],
        mask: Bool[Tensor, "window token token"] | None = None,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch_windows token width"], Float[Tensor, "batch_windows head token token"] | None]:
        """The new tokens, and with `return_weights` the attention weights (otherwise None).

        `mask` has an entry for each window of a map, True where a query may attend to a key. Every query needs at least
        one key.
        """
        bias = self.bias()[None]
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None], float("-inf"))
        # Window and head share one axis. So the bias, one for all windows or one for each, broadcasts over the batch.
        query, key, value = rearrange(
            self.qkv(windows),
            "(batch window) token (part head dim) -> part batch (window head) token dim",
            part=3,
            window=len(bias),
            head=self.heads,
        )
        bias, weights = rearrange(bias, "window head query key -> 1 (window head) query key"), None
        if return_weights:
            weights = (scaled_scores(query, key, query.shape[-1] ** 0.5) + bias).softmax(dim=-1).to(value.dtype)
            mixed = weights @ value
            weights = rearrange(
                weights, "batch (window head) query key -> (batch window) head query key", head=self.heads
            )
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = rearrange(mixed, "batch (window head) token dim -> (batch window) token (head dim)", head=self.heads)
        return self.output(mixed), weights


class WindowBlock(nn.Module):
    """Pre-norm Transformer block with attention in windows; if `shifted`, the windows are moved by half a window.

        z' = z + W-MSA(LN(z))
        z'' = z' + MLP(LN(z'))

    Args:
        width: Channels of a pixel.
        heads: Attention heads.
        window: Side of a window in pixels.
        shifted: Move the windows: SW-MSA instead of W-MSA.
        mlp_ratio: Hidden width of the MLP over its width.
        stochastic_depth: Share of samples that leave each residual branch out while training.
        norm_eps: The epsilon of both LayerNorms.

    Raises ValueError as `WindowAttention` does. Source: Liu et al. (2021), section 3.2, equation (3).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        window: int = 7,
        *,
        shifted: bool = False,
        mlp_ratio: float = 4,
        stochastic_depth: float = 0.0,
        norm_eps: float = 1e-5,
    ):
        super().__init__()
        self.width, self.window, self.shift = width, window, window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(width, norm_eps)
        self.attention = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width, norm_eps)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.drop = StochasticDepth(stochastic_depth)
        initialise_linear(self)

    @shaped
    def forward(
        self, maps: Float[Tensor, "batch row column width"], return_weights: bool = False
    ) -> tuple[Float[Tensor, "batch row column width"], Float[Tensor, "batch_windows head token token"] | None]:
        """The new maps, and with `return_weights` the attention weights in each window of `windows(maps)`.

        Raises ValueError for maps of another width.
        """
        _check_maps(maps, self.width)
        windows = self.windows(self.norm1(maps))
        mixed, weights = self.attention(windows, self.mask(maps), return_weights)
        maps = maps + self.drop(self.unwindow(mixed, maps))
        return maps + self.drop(self.mlp(self.norm2(maps))), weights

    def windows(self, maps: Float[Tensor, "batch row column channel"]) -> Float[Tensor, "batch_windows token channel"]:
        """Pad, roll and cut maps. (Cut a map that numbers its pixels from 1 to see where each goes; 0 is padding.)"""
        padded = _pad(maps, self.window)
        return cut_windows(padded.roll((-self.shift, -self.shift), dims=(1, 2)) if self.shift else padded, self.window)

    def unwindow(
        self, windows: Float[Tensor, "batch_windows token channel"], maps: Tensor
    ) -> Float[Tensor, "batch row column channel"]:
        """Undo `windows`: join, roll back, and crop to the size of `maps`."""
        padded = join_windows(windows, self._padded_grid(maps))
        rolled = padded.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else padded
        return rolled[:, : maps.shape[1], : maps.shape[2]]

    def mask(self, maps: Tensor) -> Bool[Tensor, "window token token"] | None:
        """Which tokens may attend to each other in each window of a map; None if every pair may."""
        return shifted_mask(self._padded_grid(maps), self.window, maps.device) if self.shift else None

    def _padded_grid(self, maps: Tensor) -> tuple[int, int]:
        rows, columns = maps.shape[1:3]
        return rows + -rows % self.window, columns + -columns % self.window


class Stage(nn.Module):
    """Blocks at one resolution: blocks 0, 2, ... have regular windows, blocks 1, 3, ... shifted windows.

    `stochastic_depth` has a rate for each block, and so sets their number. `settings` are `WindowBlock`'s.
    """

    def __init__(
        self, width: int, heads: int, window: int = 7, *, stochastic_depth: Sequence[float], **settings: float
    ):
        super().__init__()
        self.blocks = nn.ModuleList(
            WindowBlock(width, heads, window, shifted=index % 2 == 1, stochastic_depth=rate, **settings)
            for index, rate in enumerate(stochastic_depth)
        )

    @shaped
    def forward(
        self, maps: Float[Tensor, "batch row column width"], return_weights: bool = False
    ) -> Float[Tensor, "batch row column width"] | tuple[Float[Tensor, "batch row column width"], list[Tensor]]:
        """The new maps; with `return_weights` also each block's weights (batch * windows, head, token, token)."""
        weights = []
        for block in self.blocks:
            maps, block_weights = block(maps, return_weights)
            weights.append(block_weights)
        return (maps, weights) if return_weights else maps


class PatchEmbedding(nn.Module):
    """Each patch becomes one pixel of a map: a linear map of its colours, then a norm.

    Images are padded with zeros, at the bottom and on the right, to whole patches. (`vit.PatchEmbedding` takes images
    of one size and returns a sequence of tokens.) Source: Liu et al. (2021), section 3.1.
    """

    def __init__(self, patch: int, width: int, channels: int = 3, norm_eps: float = 1e-5):
        super().__init__()
        _check_counts(patch=patch, width=width, channels=channels)
        self.patch, self.channels = patch, channels
        self.projection = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(width, norm_eps)

    @shaped
    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch row column embedding"]:
        """Raises ValueError for images with another number of channels, or without a pixel."""
        channels = self.channels
        if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape[2:]:
            raise ValueError(
                f"images must be (batch, {channels}, height, width) with one pixel or more, given "
                f"{tuple(images.shape)}: for other channels, build the model with channels="
            )
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        return self.norm(rearrange(self.projection(padded), "batch embedding row column -> batch row column embedding"))


class PatchMerging(nn.Module):
    """2 x 2 pixels become one pixel of twice the width: concatenate, norm, linear layer without bias.

    Odd grids are padded with zeros, at the bottom and on the right. Source: Liu et al. (2021), section 3.1.
    """

    def __init__(self, width: int, norm_eps: float = 1e-5):
        super().__init__()
        _check_counts(width=width)
        self.width = width
        self.norm = nn.LayerNorm(4 * width, norm_eps)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        nn.init.trunc_normal_(self.reduction.weight, std=0.02)

    @shaped
    def forward(
        self, maps: Float[Tensor, "batch row column width"]
    ) -> Float[Tensor, "batch half_row half_column twice_width"]:
        """Maps with half the rows and columns, rounded up. Raises ValueError for maps of another width."""
        _check_maps(maps, self.width)
        # Down the columns first: published weights have the four pixels in this order.
        four = rearrange(_pad(maps, 2), "batch (row r) (column c) width -> batch row column (c r width)", r=2, c=2)
        return self.reduction(self.norm(four))


class Swin(nn.Module):
    """Patches, then stages of blocks with patch merging between them: a pyramid of feature maps, one for each stage.

    The map of stage i has `widths[i]` = width * 2^i channels. Its sides are those of the image divided by
    patch * 2^i, rounded up. There is no head.

    The parts can be used alone. `forward` runs `embed`, and for each stage `stages[i]`; `norms[i]` is applied to the
    stage's output, and `merges[i]` to the next stage's input.

    Args:
        width: Channels of the first stage.
        depths: Blocks of each stage.
        heads: Attention heads of each stage.
        window: Side of a window in pixels of the stage's map.
        patch: Side of a patch in pixels of the image.
        channels: Channels of the images.
        mlp_ratio: Hidden width of the MLPs over their width.
        stochastic_depth: Rate of the last block; the rates grow linearly from 0 over all blocks.
        positions: Add sines and cosines to the patches. The bias inside a window depends on offsets alone, so without
            them only padding at the edges shows where in the image a patch lies. Published Swins have none.
        norm_eps: The epsilon of every LayerNorm.

    Raises ValueError for sizes that do not fit each other. Source: Liu et al. (2021), section 3.
    """

    def __init__(
        self,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        *,
        window: int = 7,
        patch: int = 4,
        channels: int = 3,
        mlp_ratio: float = 4,
        stochastic_depth: float = 0.0,
        positions: bool = False,
        norm_eps: float = 1e-5,
    ):
        super().__init__()
        lists = isinstance(depths, Sequence) and isinstance(heads, Sequence)
        if not lists or not depths or len(depths) != len(heads):
            raise ValueError(f"depths and heads need one number for each stage, given {depths} and {heads}")
        _check_counts(width=width, **{f"depths[{i}]": depth for i, depth in enumerate(depths)})
        StochasticDepth(stochastic_depth)  # refuses a rate outside [0, 1), also if the only block has rate 0
        if positions:
            sincos_positions((1, 1), width)  # refuses a width that is no multiple of 4
        self.positions = positions
        self.widths = tuple(width * 2**i for i in range(len(depths)))
        self.patch_embedding = PatchEmbedding(patch, width, channels, norm_eps)
        blocks = sum(depths)
        rates = [stochastic_depth * block / max(blocks - 1, 1) for block in range(blocks)]
        self.stages = nn.ModuleList(
            Stage(
                stage_width,
                stage_heads,
                window,
                stochastic_depth=rates[end - depth : end],
                mlp_ratio=mlp_ratio,
                norm_eps=norm_eps,
            )
            for stage_width, stage_heads, depth, end in zip(self.widths, heads, depths, accumulate(depths))
        )
        self.merges = nn.ModuleList(PatchMerging(w, norm_eps) for w in self.widths[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(w, norm_eps) for w in self.widths)

    @shaped
    def embed(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch row column embedding"]:
        """The first stage's input maps, from images of any size. Raises ValueError for another number of channels."""
        maps = self.patch_embedding(images)
        if self.positions:
            grid = (maps.shape[1], maps.shape[2])
            maps = maps + sincos_positions(grid, self.widths[0]).unflatten(1, grid).to(maps)
        return maps

    @shaped
    def forward(self, images: Float[Tensor, "batch channel height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """The maps (batch, row, column, channel) of all stages, each after its norm. Errors are those of `embed`."""
        maps, outputs = self.embed(images), []
        for i, stage in enumerate(self.stages):
            if i:
                maps = self.merges[i - 1](maps)
            maps = stage(maps)
            outputs.append(self.norms[i](maps))
        return outputs


def _pad(maps: Tensor, multiple: int) -> Tensor:
    """Add zeros at the bottom and on the right until `multiple` divides rows and columns."""
    rows, columns = -maps.shape[1] % multiple, -maps.shape[2] % multiple
    return F.pad(maps, (0, 0, 0, columns, 0, rows)) if rows or columns else maps


def _check_maps(maps: Tensor, width: int) -> None:
    if maps.ndim != 4 or maps.shape[-1] != width or 0 in maps.shape[1:3]:
        raise ValueError(
            f"maps must be (batch, row, column, {width}) with one pixel or more, given {tuple(maps.shape)}: channels "
            "come last here, rearrange(maps, 'batch channel row column -> batch row column channel')"
        )


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a whole number, 1 or more, given {count!r}")
