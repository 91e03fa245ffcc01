"""The Swin Transformer: attention inside small windows, which move by half a window from block to block.

A global layer over N pixels has N^2 weights; windows of M x M pixels have N M^2. Between blocks the windows move, so
that what one window knows reaches the next; between stages four pixels become one with twice the channels. What comes
out is a pyramid of feature maps, as a decoder for segmentation needs it.

Feature maps are `batch row column channel` from the first layer to the last: norms and linear layers work on the last
axis, and one rearrange cuts windows out of the two in the middle, with no transposition on the way in or out.

Every image size works. Grids are padded with zeros, at the bottom and on the right, to whole windows, and then rolled;
the window never shrinks and the shift is never left out, however small the grid. Padding is attended to like any
pixel. So do the published backbones for dense prediction, LAVT's among them. Classifiers (`transformers`' SwinModel,
but not its SwinBackbone) leave the shift out where the grid is no larger than the window: other numbers there.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (ICCV 2021), section 3.
"""

import functools
from collections.abc import Sequence
from itertools import accumulate

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.layers import MLP, StochasticDepth, initialise_linear
from xattn_edu.models.positions import sincos_positions
from xattn_edu.shapes import shaped


@shaped
def cut_windows(
    maps: Float[Tensor, "batch row column channel"], window: int
) -> Float[Tensor, "batch_windows token channel"]:
    """Cut maps into squares of window x window pixels: map by map and row by row, as are the tokens in each.

    Raises ValueError if the window does not divide rows and columns.
    """
    if window < 1 or maps.shape[1] % window or maps.shape[2] % window:
        raise ValueError(f"the window must divide rows and columns: maps {tuple(maps.shape)}, window {window}")
    return rearrange(maps, "batch (row r) (column c) channel -> (batch row column) (r c) channel", r=window, c=window)


@shaped
def join_windows(
    windows: Float[Tensor, "batch_windows token channel"], grid: tuple[int, int]
) -> Float[Tensor, "batch row column channel"]:
    """`cut_windows` undone: maps of (rows, columns) = grid."""
    window = round(windows.shape[1] ** 0.5)
    return rearrange(
        windows,
        "(batch row column) (r c) channel -> batch (row r) (column c) channel",
        row=grid[0] // window,
        column=grid[1] // window,
        r=window,
    )


# Both tables below depend on sizes alone: computed once and kept outside the modules, they are in no state dict. Made
# outside inference mode, since what is made inside can never take part in training.


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def shifted_mask(grid: tuple[int, int], window: int, device: torch.device) -> Bool[Tensor, "window token token"]:
    """Which tokens of a window may look at each other when a grid of whole windows was rolled by half a window.

    Rolling brings the first rows behind the last, and a seam runs through the last windows, window // 2 from the edge;
    what lies on two sides of it was never near (section 3.2, "cyclic-shifting"). True on the same side. (The published
    code subtracts 100 from the scores of the others; we leave them out altogether.)
    """
    beyond = [torch.arange(length, device=device) >= length - window // 2 for length in grid]
    side = 2.0 * beyond[0][:, None] + beyond[1]  # four corners of the grid
    sides = cut_windows(side[None, :, :, None], window)
    return sides == sides.transpose(1, 2)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def relative_index(window: int, device: torch.device) -> Integer[Tensor, "query key"]:
    """Which entry of the bias table belongs to a query and a key: the table has one for each offset between pixels.

    Offsets (rows, columns) from (1 - window) to (window - 1), query minus key, are numbered row by row.
    """
    token = torch.arange(window**2, device=device)
    number = token // window * (2 * window - 1) + token % window  # differences of these numbers tell offsets apart
    return number[:, None] - number + number[-1]


@shaped
def resize_bias_table(table: Float[Tensor, "entry head"], window: int) -> Float[Tensor, "new_entry head"]:
    """A bias table for another window: (2 window - 1)^2 entries, interpolated (bicubic) as an image for each head.

    So a model is fine-tuned with other windows than it was pre-trained with (section 3.2, last paragraph). Raises
    ValueError for a table that belongs to no window, and for no window.
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

    Section 3.2, equation (4). Raises ValueError if `heads` does not divide `width`, or for a window below 1.
    """

    def __init__(self, width: int, heads: int, window: int):
        super().__init__()
        _check_counts(width=width, heads=heads, window=window)
        if width % heads:
            raise ValueError(f"the width must be a multiple of the number of heads: width {width}, heads {heads}")
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(width, 3 * width)  # side by side: one product is faster than three
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
        """Windows to windows, and the weights (batch * windows, head, token, token) if asked for.

        `mask` has an entry for each window of a map, True where a query may look; every query must see some key.
        """
        bias = self.bias()[None]
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None], float("-inf"))
        # Window and head on one axis: the bias, one for all windows or one for each, then broadcasts over the batch.
        query, key, value = rearrange(
            self.qkv(windows),
            "(batch window) token (part head dim) -> part batch (window head) token dim",
            part=3,
            window=len(bias),
            head=self.heads,
        )
        bias, weights = rearrange(bias, "window head query key -> 1 (window head) query key"), None
        if return_weights:
            weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias).softmax(dim=-1)
            mixed = weights @ value
            weights = rearrange(
                weights, "batch (window head) query key -> (batch window) head query key", head=self.heads
            )
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = rearrange(mixed, "batch (window head) token dim -> (batch window) token (head dim)", head=self.heads)
        return self.output(mixed), weights


class WindowBlock(nn.Module):
    """Pre-norm Transformer block with attention in windows, moved by half a window or not (equation 3).

    z' = z + W-MSA(LN(z)); z'' = z' + MLP(LN(z')).
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
        self.window, self.shift = window, window // 2 if shifted else 0
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
        """Maps to maps, and the weights in each window of `windows(maps)` if asked for.

        Raises ValueError for maps of another width.
        """
        _check_maps(maps, self.norm1.normalized_shape[0])
        windows = self.windows(self.norm1(maps))
        mixed, weights = self.attention(windows, self.mask(maps), return_weights)
        maps = maps + self.drop(self.unwindow(mixed, maps))
        return maps + self.drop(self.mlp(self.norm2(maps))), weights

    def windows(self, maps: Float[Tensor, "batch row column channel"]) -> Float[Tensor, "batch_windows token channel"]:
        """Pad, roll, cut: a map of the pixels' numbers, from 1 on, becomes the numbers in each window (0: padding)."""
        padded = _pad(maps, self.window)
        return cut_windows(padded.roll((-self.shift, -self.shift), dims=(1, 2)) if self.shift else padded, self.window)

    def unwindow(
        self, windows: Float[Tensor, "batch_windows token channel"], maps: Tensor
    ) -> Float[Tensor, "batch row column channel"]:
        """`windows` undone: join, roll back, and crop to the size of `maps`."""
        padded = join_windows(windows, self._padded_grid(maps))
        rolled = padded.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else padded
        return rolled[:, : maps.shape[1], : maps.shape[2]]

    def mask(self, maps: Tensor) -> Bool[Tensor, "window token token"] | None:
        """Who may look at whom in each window of one map; None where all may look at all."""
        return shifted_mask(self._padded_grid(maps), self.window, maps.device) if self.shift else None

    def _padded_grid(self, maps: Tensor) -> tuple[int, int]:
        rows, columns = maps.shape[1:3]
        return rows + -rows % self.window, columns + -columns % self.window


class Stage(nn.Module):
    """Blocks at one resolution: even ones (0, 2, ...) with windows in place, odd ones with windows moved.

    One block for each number in `stochastic_depth`, its rate. `settings` are `WindowBlock`'s.
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
        """Maps to maps; with `return_weights` also each block's attention (batch * windows, head, token, token)."""
        weights = []
        for block in self.blocks:
            maps, block_weights = block(maps, return_weights)
            weights.append(block_weights)
        return (maps, weights) if return_weights else maps


class PatchEmbedding(nn.Module):
    """Each patch to one pixel of a map: a linear map of its colours, then a norm (section 3.1).

    Images are padded with zeros, at the bottom and on the right, to whole patches. `vit.PatchEmbedding` is for images
    of one size, and ends in a row of tokens.
    """

    def __init__(self, patch: int, width: int, channels: int = 3, norm_eps: float = 1e-5):
        super().__init__()
        _check_counts(patch=patch, width=width, channels=channels)
        self.patch = patch
        self.projection = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(width, norm_eps)

    @shaped
    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch row column embedding"]:
        """Raises ValueError for anything but images with the right number of channels and a pixel at least."""
        channels = self.projection.in_channels
        if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape[2:]:
            raise ValueError(
                f"images must be (batch, {channels}, height, width) with a pixel at least, given "
                f"{tuple(images.shape)}: build the model with channels= to suit them"
            )
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        return self.norm(rearrange(self.projection(padded), "batch embedding row column -> batch row column embedding"))


class PatchMerging(nn.Module):
    """Two by two pixels become one of twice the width: put side by side, norm, linear without bias (section 3.1).

    Odd grids are padded with zeros, at the bottom and on the right.
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
        """Maps to maps of half the rows and columns, rounded up. Raises ValueError for maps of another width."""
        _check_maps(maps, self.width)
        # Down the columns first: the order in which published weights have the four.
        four = rearrange(_pad(maps, 2), "batch (row r) (column c) width -> batch row column (c r width)", r=2, c=2)
        return self.reduction(self.norm(four))


class Swin(nn.Module):
    """Patches, then stages of blocks with patch merging between them: a pyramid of feature maps, one for each stage.

    The map of stage i has `widths[i]` = width * 2^i channels, and one pixel for each patch * 2^i pixels of the image,
    rounded up. Stochastic depth grows linearly from 0 to `stochastic_depth` over all blocks. There is no head.

    Inside a window only offsets count, and where a patch lies in the image shows at the edges alone. `positions` adds
    sines and cosines to the patches; published Swins have none (table 4 tries learned ones).

    The parts are usable alone: `forward` is `embed`, and for each stage `stages[i]`, `norms[i]` on what goes out, and
    `merges[i]` on what goes on. Raises ValueError for sizes that do not fit each other.
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
            raise ValueError(f"depths and heads have a number for each stage, given {depths} and {heads}")
        _check_counts(width=width, **{f"depths[{i}]": depth for i, depth in enumerate(depths)})
        StochasticDepth(stochastic_depth)  # refuses a rate that is none, also where there is one block, of rate 0
        if positions:
            sincos_positions((1, 1), width)  # refuses a width that it cannot fill
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
        """Images of any size to the first stage's maps. Raises ValueError for another number of channels."""
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
    """Zeros at the bottom and on the right, up to a multiple of rows and columns."""
    rows, columns = -maps.shape[1] % multiple, -maps.shape[2] % multiple
    return F.pad(maps, (0, 0, 0, columns, 0, rows)) if rows or columns else maps


def _check_maps(maps: Tensor, width: int) -> None:
    if maps.ndim != 4 or maps.shape[-1] != width or 0 in maps.shape[1:3]:
        raise ValueError(
            f"maps must be (batch, row, column, {width}) with a pixel at least, given {tuple(maps.shape)}: channels "
            "come last here, rearrange(maps, 'batch channel row column -> batch row column channel')"
        )


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} is a whole number, 1 or more, given {count!r}")
