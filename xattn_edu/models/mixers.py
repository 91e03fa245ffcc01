"""Layers that relate tokens or channels without queries, keys and values: channel and spatial attention, token mixers.

Each takes the tokens (batch, token, width) of an image's grid, row by row, and returns tokens of the same shape. So
each can replace the self-attention of a ViT's blocks: `ViT(..., mixer=MIXERS["pooling"], pool="mean")`.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.layers import MLP
from xattn_edu.models.vit import Mixer
from xattn_edu.shapes import shaped

Tokens = Float[Tensor, "batch token width"]


class SqueezeExcitation(nn.Module):
    """Channel attention: average over the tokens, relate the channels, scale each channel by its gate.

    gate = sigmoid(W_2 relu(W_1 mean)), the same for all tokens; W_1 maps to width / reduction channels. Raises
    ValueError unless 1 <= reduction <= width.

    Source: Hu et al., "Squeeze-and-Excitation Networks" (2018), equations (2) to (4).
    """

    def __init__(self, width: int, reduction: int = 16):
        super().__init__()
        self.mlp = _bottleneck(width, reduction)

    @shaped
    def gate(self, tokens: Tokens) -> Float[Tensor, "batch 1 width"]:
        """The factor of each channel, between 0 and 1."""
        return self.mlp(tokens.mean(dim=1, keepdim=True)).sigmoid()

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        return tokens * self.gate(tokens)


class ChannelAttention(nn.Module):
    """CBAM's channel attention: squeeze-and-excitation with the maximum over the tokens besides the average.

    gate = sigmoid(MLP(mean) + MLP(max)), one MLP for both. Raises ValueError unless 1 <= reduction <= width.

    Source: Woo et al., "CBAM: Convolutional Block Attention Module" (2018), equation (2).
    """

    def __init__(self, width: int, reduction: int = 16):
        super().__init__()
        self.mlp = _bottleneck(width, reduction)

    @shaped
    def gate(self, tokens: Tokens) -> Float[Tensor, "batch 1 width"]:
        """The factor of each channel, between 0 and 1."""
        return (self.mlp(tokens.mean(dim=1, keepdim=True)) + self.mlp(tokens.amax(dim=1, keepdim=True))).sigmoid()

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        return tokens * self.gate(tokens)


class SpatialAttention(nn.Module):
    """CBAM's spatial attention: pool the channels, relate the positions, scale each position by its gate.

    gate = sigmoid(f([mean; max])) with f a convolution over the grid (rows, columns), 7 x 7 in the paper. Raises
    ValueError for an even kernel, and for tokens that are not the grid's.

    Source: Woo et al., "CBAM: Convolutional Block Attention Module" (2018), equation (3).
    """

    def __init__(self, grid: tuple[int, int], kernel: int = 7):
        super().__init__()
        _check_odd("kernel", kernel)
        self.grid = grid
        self.convolution = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    @shaped
    def gate(self, tokens: Tokens) -> Float[Tensor, "batch token 1"]:
        """The factor of each position, between 0 and 1. Raises ValueError for tokens that are not the grid's."""
        _check_grid(tokens, self.grid)
        pooled = torch.stack([tokens.mean(dim=2), tokens.amax(dim=2)], dim=1).unflatten(2, self.grid)
        return rearrange(self.convolution(pooled), "batch 1 row column -> batch (row column) 1").sigmoid()

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        return tokens * self.gate(tokens)


class CBAM(nn.Module):
    """Channel attention, then spatial attention: which channels matter, then which positions.

    Errors are those of its two parts.

    Source: Woo et al., "CBAM: Convolutional Block Attention Module" (2018), equation (1).
    """

    def __init__(self, width: int, grid: tuple[int, int], reduction: int = 16, kernel: int = 7):
        super().__init__()
        self.channel = ChannelAttention(width, reduction)
        self.spatial = SpatialAttention(grid, kernel)

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        return self.spatial(self.channel(tokens))


class TokenMixing(nn.Module):
    """MLP-Mixer's token mixing: one MLP along the tokens, the same for every channel.

    How position i is mixed into position j is learned once for all images. `hidden` is the width of the MLP's middle,
    by default twice the number of tokens. Raises ValueError for tokens that are not the grid's.

    Source: Tolstikhin et al., "MLP-Mixer" (2021), equation (1), first line.
    """

    def __init__(self, grid: tuple[int, int], hidden: int | None = None):
        super().__init__()
        self.grid = grid
        tokens = grid[0] * grid[1]
        self.mlp = MLP(tokens, 2 * tokens if hidden is None else hidden)

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        _check_grid(tokens, self.grid)
        return self.mlp(tokens.transpose(1, 2)).transpose(1, 2)


class Pooling(nn.Module):
    """PoolFormer's mixing: the average over a `size` x `size` neighbourhood, minus the token itself. No parameters.

    The token is subtracted because the block's residual adds it again. Positions beyond the edge are not part of the
    average. Raises ValueError for an even size, and for tokens that are not the grid's.

    Source: Yu et al., "MetaFormer Is Actually What You Need for Vision" (2022), equation (4).
    """

    def __init__(self, grid: tuple[int, int], size: int = 3):
        super().__init__()
        _check_odd("size", size)
        self.grid, self.size = grid, size

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        _check_grid(tokens, self.grid)
        image = rearrange(tokens, "batch (row column) width -> batch width row column", row=self.grid[0])
        pooled = F.avg_pool2d(image, self.size, stride=1, padding=self.size // 2, count_include_pad=False)
        return rearrange(pooled, "batch width row column -> batch (row column) width") - tokens


class FourierMixing(nn.Module):
    """FNet's mixing: the real part of the Fourier transform over tokens and channels. No parameters.

    The transform is scaled by 1 / sqrt(tokens * width), so that it keeps the length of its input; its real part has
    about half of the squared length. (The paper does not scale: a norm follows there.)

    Source: Lee-Thorp et al., "FNet: Mixing Tokens with Fourier Transforms" (2022), equation (3).
    """

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        if tokens.numel() == 0:  # torch has no transform of nothing
            return tokens
        single = tokens.to(torch.promote_types(tokens.dtype, torch.float32))  # nor, on a CPU, one below float32
        return torch.fft.fft2(single, norm="ortho").real.to(tokens.dtype)


# The values are of the form that ViT takes as `mixer`: (width, grid) -> module.
MIXERS: dict[str, Mixer] = {
    "token_mlp": lambda width, grid: TokenMixing(grid),
    "fourier": lambda width, grid: FourierMixing(),
    "pooling": lambda width, grid: Pooling(grid),
    "squeeze_excitation": lambda width, grid: SqueezeExcitation(width),
    "cbam": lambda width, grid: CBAM(width, grid),
    "none": lambda width, grid: nn.Identity(),  # for comparison: no patch is related to another
}


def _bottleneck(width: int, reduction: int) -> nn.Sequential:
    if not 1 <= reduction <= width:
        raise ValueError(f"reduction must lie between 1 and the width {width}, given {reduction}")
    hidden = width // reduction
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


def _check_odd(name: str, size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"{name} must be odd, so that it has a centre, given {size}")


def _check_grid(tokens: Tensor, grid: tuple[int, int]) -> None:
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(
            f"{tokens.shape[1]} tokens are not a grid of {grid[0]} x {grid[1]}: build the layer for the grid of your "
            "images, and leave out a class token"
        )
