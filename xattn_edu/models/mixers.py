"""What relates tokens or channels without queries, keys and values: channel and spatial attention, and token mixers.

All take tokens (batch, token, width) of an image cut into a grid, row by row, and give tokens of the same shape, so each
can stand in a ViT block where self-attention stands: `ViT(..., mixer=MIXERS["pooling"], pool="mean")`.
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
    """Channel attention: average over space, relate the channels to each other, scale each channel by its gate.

    gate = sigmoid(W_2 relu(W_1 mean)), the same for all tokens; W_1 goes down to width / reduction channels.
    Source: Hu et al., "Squeeze-and-Excitation Networks" (2018), equations (2) to (4). Raises ValueError unless
    1 <= reduction <= width.
    """

    def __init__(self, width: int, reduction: int = 16):
        super().__init__()
        self.mlp = _bottleneck(width, reduction)

    @shaped
    def gate(self, tokens: Tokens) -> Float[Tensor, "batch 1 width"]:
        """What each channel is multiplied by, between 0 and 1."""
        return self.mlp(tokens.mean(dim=1, keepdim=True)).sigmoid()

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        return tokens * self.gate(tokens)


class ChannelAttention(nn.Module):
    """CBAM's channel attention: as squeeze-and-excitation, with the largest value over space beside the average.

    gate = sigmoid(MLP(mean) + MLP(max)), one MLP for both. Source: Woo et al., "CBAM: Convolutional Block Attention
    Module" (2018), equation (2). Raises ValueError unless 1 <= reduction <= width.
    """

    def __init__(self, width: int, reduction: int = 16):
        super().__init__()
        self.mlp = _bottleneck(width, reduction)

    @shaped
    def gate(self, tokens: Tokens) -> Float[Tensor, "batch 1 width"]:
        """What each channel is multiplied by, between 0 and 1."""
        return (self.mlp(tokens.mean(dim=1, keepdim=True)) + self.mlp(tokens.amax(dim=1, keepdim=True))).sigmoid()

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        return tokens * self.gate(tokens)


class SpatialAttention(nn.Module):
    """CBAM's spatial attention: pool the channels, relate the positions, scale each position by its gate.

    gate = sigmoid(f([mean; max])) with f a convolution over the grid, 7 x 7 in the paper. Source: Woo et al. (2018),
    equation (3). Raises ValueError for a kernel that is not odd.
    """

    def __init__(self, grid: tuple[int, int], kernel: int = 7):
        super().__init__()
        _check_odd("kernel", kernel)
        self.grid = grid
        self.convolution = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    @shaped
    def gate(self, tokens: Tokens) -> Float[Tensor, "batch token 1"]:
        """What each position is multiplied by, between 0 and 1. Raises ValueError for tokens that are not the grid's."""
        _check_grid(tokens, self.grid)
        pooled = torch.stack([tokens.mean(dim=2), tokens.amax(dim=2)], dim=1).unflatten(2, self.grid)
        return rearrange(self.convolution(pooled), "batch 1 row column -> batch (row column) 1").sigmoid()

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        return tokens * self.gate(tokens)


class CBAM(nn.Module):
    """Which channels, then which positions: channel attention followed by spatial attention.

    Source: Woo et al. (2018), equation (1).
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

    What position i takes from position j is a learned number that never depends on the picture. Source: Tolstikhin et
    al., "MLP-Mixer" (2021), equation (1), first line. Raises ValueError for another number of tokens than the grid has.
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
    """PoolFormer's mixing: the average over a `size` x `size` neighbourhood, less the token itself. No parameters.

    The token is taken away because the block's residual adds it again; beyond the edge nothing is counted. Source: Yu
    et al., "MetaFormer Is Actually What You Need for Vision" (2022), equation (4). Raises ValueError for a size that is
    not odd, and for tokens that are not the grid's.
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

    Scaled by 1 / sqrt(tokens * width), which lets the whole transform keep its length (the paper leaves the scale to the
    norm that follows it there); the real part holds about half of the squared length. Source: Lee-Thorp et al., "FNet:
    Mixing Tokens with Fourier Transforms" (2022), equation (3).
    """

    @shaped
    def forward(self, tokens: Tokens) -> Tokens:
        return torch.fft.fft2(tokens, norm="ortho").real


# Each by the name its paper gave it, as ViT's `mixer` wants it: (width, grid) -> module.
MIXERS: dict[str, Mixer] = {
    "token_mlp": lambda width, grid: TokenMixing(grid),
    "fourier": lambda width, grid: FourierMixing(),
    "pooling": lambda width, grid: Pooling(grid),
    "squeeze_excitation": lambda width, grid: SqueezeExcitation(width),
    "cbam": lambda width, grid: CBAM(width, grid),
    "none": lambda width, grid: nn.Identity(),  # for comparison: every patch by itself
}


def _bottleneck(width: int, reduction: int) -> nn.Sequential:
    if not 1 <= reduction <= width:
        raise ValueError(f"reduction must lie between 1 and the width {width}, given {reduction}")
    hidden = width // reduction
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


def _check_odd(name: str, size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"{name} must be odd, so that it has a middle, given {size}")


def _check_grid(tokens: Tensor, grid: tuple[int, int]) -> None:
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(
            f"{tokens.shape[1]} tokens are not a grid of {grid[0]} x {grid[1]}: it is made for one size of image, and a "
            "class token has no place in it"
        )
