"""The Vision Transformer: an image cut into patches, a class token, pre-norm Transformer blocks.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021), equations (1) to (4); DeiT (Touvron et al., 2021)
is the same network trained with another recipe.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.attention import MultiHeadAttention
from xattn_edu.models.layers import MLP, StochasticDepth, grid_of, initialise_linear
from xattn_edu.models.positions import interpolate_positions, sincos_positions
from xattn_edu.shapes import shaped

Size = int | tuple[int, int]
Mixer = Callable[[int, tuple[int, int]], nn.Module]  # (width, grid) -> what stands where self-attention stands


@shaped
def patchify(
    images: Float[Tensor, "batch channel height width"], patch: int
) -> Float[Tensor, "batch patch_count patch_values"]:
    """Cut images into non-overlapping patch x patch squares, row by row, each flattened to channel*patch*patch values.

    Raises ValueError if the patch does not divide height and width.
    """
    grid_of(images.shape[-2:], patch)
    return rearrange(images, "batch channel (row p) (column q) -> batch (row column) (channel p q)", p=patch, q=patch)


class PatchEmbedding(nn.Module):
    """Each patch to one token: a linear map of its flattened pixels (equation 1).

    A convolution whose stride is its kernel size is that linear map; `forward` uses it. `linear` and `pointwise` are
    the same map said in two other ways, with the same weights.
    """

    def __init__(self, image_size: Size, patch: int, width: int, channels: int = 3):
        super().__init__()
        self.image_size, self.patch = _pair(image_size), patch
        self.grid = grid_of(self.image_size, patch)
        self.projection = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    @shaped
    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        """Strided convolution. Raises ValueError for images of another size or number of channels."""
        self._check(images)
        return rearrange(self.projection(images), "batch embedding row column -> batch (row column) embedding")

    @shaped
    def linear(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        """The same tokens by a linear layer on flattened patches."""
        self._check(images)
        return F.linear(patchify(images, self.patch), self._matrix(), self.projection.bias)

    @shaped
    def pointwise(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        """The same tokens by a 1x1 convolution over the grid of unfolded patches."""
        self._check(images)
        unfolded = F.unfold(images, kernel_size=self.patch, stride=self.patch)  # batch (channel p q) patch_count
        grid = unfolded.unflatten(-1, self.grid)
        tokens = F.conv2d(grid, self._matrix()[:, :, None, None], self.projection.bias)
        return rearrange(tokens, "batch embedding row column -> batch (row column) embedding")

    def _matrix(self) -> Tensor:
        return self.projection.weight.flatten(1)

    def _check(self, images: Tensor) -> None:
        expected = (self.projection.in_channels, *self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images must be (batch, {', '.join(map(str, expected))}), given {tuple(images.shape)}: resize the "
                "images, or build the model with image_size=, channels= to suit them"
            )


class Block(nn.Module):
    """Pre-norm Transformer block: z' = z + MSA(LN(z)); z'' = z' + MLP(LN(z')) (equations 2 and 3).

    `mixer`, a module from tokens to tokens, takes the place of the self-attention MSA (see `channel_spatial`).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4,
        stochastic_depth: float = 0.0,
        norm_eps: float = 1e-6,
        mixer: nn.Module | None = None,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, norm_eps)
        self.attention = MultiHeadAttention(width, heads) if mixer is None else mixer
        self.norm2 = nn.LayerNorm(width, norm_eps)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.drop = StochasticDepth(stochastic_depth)

    @shaped
    def forward(
        self, tokens: Float[Tensor, "batch token width"], return_weights: bool = False
    ) -> tuple[Float[Tensor, "batch token width"], Float[Tensor, "batch head token token"] | None]:
        """Tokens (batch, token, width) to tokens, and the weights (batch, head, token, token) if asked for.

        Raises ValueError when weights are asked for of a mixer, which has none.
        """
        if return_weights and not isinstance(self.attention, MultiHeadAttention):
            raise ValueError(
                f"{type(self.attention).__name__} stands where attention stood: it has no weights to return"
            )
        normed, weights = self.norm1(tokens), None
        if return_weights:
            mixed, weights = self.attention(normed, return_weights=True)
        else:
            mixed = self.attention(normed)
        tokens = tokens + self.drop(mixed)
        return tokens + self.drop(self.mlp(self.norm2(tokens))), weights


class ViT(nn.Module):
    """Patches, a class token, position embeddings, `depth` blocks, and a linear head on the class token.

    `positions` is "learned", or "sincos" for the fixed two-dimensional sines and cosines. `image_size` is a number of
    pixels or (height, width). Stochastic depth grows linearly from 0 to `stochastic_depth` over the blocks.

    `pool="mean"` leaves the class token out: the head reads the mean of the patches (appendix D.3). With it, `mixer`
    may put something else in the place of self-attention: a function (width, grid) -> module, called once a block, as
    in `mixers.MIXERS`. Raises ValueError for sizes that do not divide and for a mixer with a class token.
    """

    def __init__(
        self,
        image_size: Size = 224,
        patch: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        *,
        classes: int = 1000,
        channels: int = 3,
        mlp_ratio: float = 4,
        positions: str = "learned",
        stochastic_depth: float = 0.0,
        norm_eps: float = 1e-6,
        pool: str = "class_token",
        mixer: Mixer | None = None,
    ):
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is a number of blocks, 1 or more, given {depth}")
        if positions not in ("learned", "sincos"):
            raise ValueError(f'positions must be "learned" or "sincos", given {positions!r}')
        if pool not in ("class_token", "mean"):
            raise ValueError(f'pool must be "class_token" or "mean", given {pool!r}')
        if mixer is not None and (isinstance(mixer, nn.Module) or not callable(mixer)):
            raise TypeError(
                f"mixer must be a function (width, grid) -> module, given {mixer!r}: take one of mixers.MIXERS"
            )
        if mixer is not None and pool != "mean":
            raise ValueError('only attention can fill a class token: with a mixer, write pool="mean"')
        self.patch_embedding = PatchEmbedding(image_size, patch, width, channels)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if pool == "class_token" else None
        grid = self.patch_embedding.grid
        tokens = grid[0] * grid[1] + (pool == "class_token")
        self.positions = nn.Parameter(torch.zeros(1, tokens, width), requires_grad=positions == "learned")
        StochasticDepth(stochastic_depth)  # refuses a rate that is none, also where depth is 1 and the only rate is 0
        rates = [stochastic_depth * block / max(depth - 1, 1) for block in range(depth)]
        self.mixed = mixer is not None
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, rate, norm_eps, None if mixer is None else mixer(width, grid))
            for rate in rates
        )
        self.norm = nn.LayerNorm(width, norm_eps)
        self.head = nn.Linear(width, classes)
        self._initialise(positions)

    @shaped
    def forward(
        self, images: Float[Tensor, "batch channel height width"], return_weights: bool = False
    ) -> Float[Tensor, "batch classes"] | tuple[Float[Tensor, "batch classes"], list[Tensor]]:
        """Logits; with `return_weights` also each block's attention (batch, head, token, token), class token first."""
        tokens, weights = self.encode(images, return_weights)
        logits = self.head(tokens.mean(dim=1) if self.class_token is None else tokens[:, 0])
        return (logits, weights) if return_weights else logits

    def encode(self, images: Tensor, return_weights: bool = False) -> tuple[Tensor, list[Tensor]]:
        """All tokens after the last norm, and the attention of each block if asked for.

        Tokens are (batch, 1 + patches, width), class token first, or (batch, patches, width) where there is none.
        """
        tokens, weights = self.embed(images), []
        for block in self.blocks:
            tokens, block_weights = block(tokens, return_weights)
            if block_weights is not None:
                weights.append(block_weights)
        return self.norm(tokens), weights

    def embed(self, images: Tensor) -> Tensor:
        """The tokens before the first block: patches behind the class token (where there is one), positions added."""
        tokens = self.patch_embedding(images)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens + self.positions

    def resize(self, image_size: Size) -> None:
        """Make the model take images of another size: interpolate its position embeddings to the new grid.

        Sines and cosines, too, are interpolated, not computed anew. Make an optimizer afterwards, not before. Raises
        ValueError for a model with a mixer, which is made for one grid.
        """
        if self.mixed:
            raise ValueError("a mixer is made for one grid: build a new model with image_size= instead")
        old, new = self.patch_embedding.grid, grid_of(_pair(image_size), self.patch_embedding.patch)
        self.positions.data = interpolate_positions(self.positions.data, old, new)
        self.positions.grad = None  # it had the old size
        self.patch_embedding.image_size, self.patch_embedding.grid = _pair(image_size), new

    def _initialise(self, positions: str) -> None:
        """Truncated normal of deviation 0.02 on linear weights, class token and positions; zero biases."""
        initialise_linear(self)
        if self.class_token is not None:
            nn.init.trunc_normal_(self.class_token, std=0.02)
        if positions == "learned":
            nn.init.trunc_normal_(self.positions, std=0.02)
        else:
            waves = sincos_positions(self.patch_embedding.grid, self.positions.shape[-1])
            self.positions.data[:, -waves.shape[1] :] = waves  # a class token, which comes first, keeps zeros


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
