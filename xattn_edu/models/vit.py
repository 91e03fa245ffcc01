"""The Vision Transformer: an image cut into patches, a class token, pre-norm Transformer blocks.

DeiT (Touvron et al., 2021) is the same network, trained with another recipe.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021), section 3.1.
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
from xattn_edu.shapes import check_choice, shaped

ImageSize = int | tuple[int, int]  # pixels: of a square's side, or (height, width)
Mixer = Callable[[int, tuple[int, int]], nn.Module]  # (width, grid) -> a module that replaces self-attention


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
    """Each patch to one token: x_p E, a linear map of the patch's flattened pixels.

    A convolution whose stride is its kernel size is that linear map, and `forward` uses it. `linear` and `pointwise`
    compute the same map in two other ways, for comparison: they read the weights of `projection` and do not call it, so
    they know nothing of its hooks. Raises ValueError if the patch does not divide the image.

    Source: Dosovitskiy et al. (2021), equation (1).
    """

    def __init__(self, image_size: ImageSize, patch: int, width: int, channels: int = 3):
        super().__init__()
        self.image_size, self.patch, self.channels = _pair(image_size), patch, channels
        self.grid = grid_of(self.image_size, patch)
        self.projection = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    @shaped
    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        """By a strided convolution. Raises ValueError for images of another size or number of channels."""
        self._check_images(images)
        return rearrange(self.projection(images), "batch embedding row column -> batch (row column) embedding")

    @shaped
    def linear(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        """The same tokens by a linear layer on flattened patches."""
        self._check_images(images)
        return F.linear(patchify(images, self.patch), self._matrix(), self.projection.bias)

    @shaped
    def pointwise(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        """The same tokens by a 1x1 convolution over the grid of unfolded patches."""
        self._check_images(images)
        unfolded = F.unfold(images, kernel_size=self.patch, stride=self.patch)  # batch (channel p q) patch_count
        grid = unfolded.unflatten(-1, self.grid)
        tokens = F.conv2d(grid, self._matrix()[:, :, None, None], self.projection.bias)
        return rearrange(tokens, "batch embedding row column -> batch (row column) embedding")

    def _matrix(self) -> Tensor:
        return self.projection.weight.flatten(1)

    def _check_images(self, images: Tensor) -> None:
        expected = (self.channels, *self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images must be (batch, {', '.join(map(str, expected))}), given {tuple(images.shape)}: resize the "
                "images, or build the model with image_size=, channels= to suit them"
            )


class Block(nn.Module):
    """Pre-norm Transformer block: z' = z + MSA(LN(z)); z'' = z' + MLP(LN(z')).

    Args:
        width: channels of a token.
        heads: number of attention heads; it divides the width.
        mlp_ratio: hidden channels of the MLP, as a multiple of the width.
        stochastic_depth: rate at which each of the two branches is dropped in training.
        norm_eps: added to the variance in a LayerNorm.
        mixer: a module from tokens to tokens that replaces the self-attention MSA, as in `mixers`.

    Raises ValueError for heads that do not divide the width and for a rate outside [0, 1).

    Source: Dosovitskiy et al. (2021), equations (2) and (3).
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
        """Tokens to tokens, and the weights (batch, head, token, token) with `return_weights` (else None).

        Raises ValueError for `return_weights` with a mixer, which has no weights.
        """
        if return_weights and not isinstance(self.attention, MultiHeadAttention):
            raise ValueError(
                f"{type(self.attention).__name__} replaces attention and has no weights to return: leave out "
                "return_weights"
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

    Args:
        image_size: pixels of a square image's side, or (height, width).
        patch: pixels of a patch's side.
        width: channels of a token.
        depth: number of blocks, 1 or more.
        heads: number of attention heads; it divides the width.
        classes: number of logits.
        channels: channels of an image.
        mlp_ratio: hidden channels of the MLPs, as a multiple of the width.
        positions: "learned", or "sincos" for fixed two-dimensional sines and cosines.
        stochastic_depth: rate of the last block; over the blocks it grows linearly from 0.
        norm_eps: added to the variance in a LayerNorm.
        pool: "class_token", or "mean": no class token, and the head reads the mean of the patches (appendix D.3).
        mixer: a function (width, grid) -> module, called once a block, as in `mixers.MIXERS`; the module replaces
            self-attention. It needs `pool="mean"`.

    Raises ValueError for sizes that do not divide, rates and names that do not exist, and a mixer with a class token;
    TypeError for a mixer that is not a function.

    Source: Dosovitskiy et al. (2021), section 3.1, equations (1) to (4).
    """

    def __init__(
        self,
        image_size: ImageSize = 224,
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
        check_choice("positions", positions, ("learned", "sincos"))
        check_choice("pool", pool, ("class_token", "mean"))
        if mixer is not None and (isinstance(mixer, nn.Module) or not callable(mixer)):
            raise TypeError(
                f"mixer must be a function (width, grid) -> module, given {mixer!r}: take one of mixers.MIXERS"
            )
        if mixer is not None and pool != "mean":
            raise ValueError('only attention can fill a class token: with mixer=, write pool="mean"')
        self.patch_embedding = PatchEmbedding(image_size, patch, width, channels)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if pool == "class_token" else None
        grid = self.patch_embedding.grid
        tokens = grid[0] * grid[1] + (pool == "class_token")
        self.positions = nn.Parameter(torch.zeros(1, tokens, width), requires_grad=positions == "learned")
        StochasticDepth(stochastic_depth)  # raises ValueError for a wrong rate; with depth 1 no block would have it
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
        """All tokens after the last norm, and the attention of each block with `return_weights`.

        Tokens are (batch, 1 + patches, width), class token first, or (batch, patches, width) with `pool="mean"`.

        Source: Dosovitskiy et al. (2021), equation (4).
        """
        tokens, weights = self.embed(images), []
        for block in self.blocks:
            tokens, block_weights = block(tokens, return_weights)
            if block_weights is not None:
                weights.append(block_weights)
        return self.norm(tokens), weights

    def embed(self, images: Tensor) -> Tensor:
        """z_0, the tokens before the first block: the class token (if any), then the patches, plus positions.

        Source: Dosovitskiy et al. (2021), equation (1).
        """
        tokens = self.patch_embedding(images)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return tokens + self.positions

    def resize(self, image_size: ImageSize) -> None:
        """Change the image size that the model takes: interpolate its position embeddings to the new grid.

        Sines and cosines are interpolated too, not computed anew. Build an optimizer after this call, not before: the
        positions have another size then. Raises ValueError for a size that the patch does not divide, and for a model
        with a mixer, which is built for one grid.

        Source: Dosovitskiy et al. (2021), section 3.2.
        """
        if self.mixed:
            raise ValueError("a mixer is built for one grid: make a new model with image_size= instead")
        old, new = self.patch_embedding.grid, grid_of(_pair(image_size), self.patch_embedding.patch)
        self.positions.data = interpolate_positions(self.positions.data, old, new)
        self.positions.grad = None  # it had the old size
        self.patch_embedding.image_size, self.patch_embedding.grid = _pair(image_size), new

    def _initialise(self, positions: str) -> None:
        """Truncated normal of standard deviation 0.02 for linear weights, class token and positions; zero biases."""
        initialise_linear(self)
        if self.class_token is not None:
            nn.init.trunc_normal_(self.class_token, std=0.02)
        if positions == "learned":
            nn.init.trunc_normal_(self.positions, std=0.02)
        else:
            waves = sincos_positions(self.patch_embedding.grid, self.positions.shape[-1])
            self.positions.data[:, -waves.shape[1] :] = waves  # zeros stay for a class token, which comes first


def _pair(size: ImageSize) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
