"""CrossViT: two Vision Transformers with patches of two sizes, fused after each multi-scale encoder.

The small-patch branch S sees many small patches and is narrow and shallow. The large-patch branch L sees fewer, larger
patches and does most of the work. A multi-scale encoder is some blocks of each branch; after it a fusion exchanges
information between the branches (`fusions` has the paper's five).

Source: Chen, Fan and Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image Classification" (ICCV
2021), section 3; what the paper leaves open is as in the published model.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.fusions import FUSIONS, Pair, Scales
from xattn_edu.models.layers import StochasticDepth, grid_of, initialise_linear
from xattn_edu.models.vit import ImageSize, ViT
from xattn_edu.shapes import check_choice, shaped


class ConvolutionalEmbedding(nn.Module):
    """The dagger models' patch embedding: three convolutions with ReLU between, instead of one linear map of a patch.

    The grid of tokens is that of patches of 12 or 16 pixels, but a token also depends on pixels around its patch.
    Raises ValueError for another patch size.
    """

    STRIDES_AND_PADDINGS = {12: ((4, 3), (3, 0), (1, 1)), 16: ((4, 3), (2, 1), (2, 1))}

    def __init__(self, image_size: Pair, patch: int, width: int, channels: int = 3):
        super().__init__()
        if patch not in self.STRIDES_AND_PADDINGS:
            raise ValueError(f'embedding="convolutions" needs patches of 12 or 16 pixels, given {patch}: use "linear"')
        self.image_size, self.patch, self.grid = image_size, patch, grid_of(image_size, patch)
        first, second, third = self.STRIDES_AND_PADDINGS[patch]
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, width // 4, 7, *first),
            nn.ReLU(),
            nn.Conv2d(width // 4, width // 2, 3, *second),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, *third),
        )

    @shaped
    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        return rearrange(self.convolutions(images), "batch embedding row column -> batch (row column) embedding")


class CrossViT(nn.Module):
    """Two ViTs and, between their blocks, a fusion for each multi-scale encoder; the logits are the mean of two heads.

    Args:
        image_sizes: Size in pixels of the images that each branch sees. This and all other pairs: (branch S, branch L).
        patches: Patch size in pixels.
        widths: Channels of a token.
        depths: Blocks in each multi-scale encoder (the paper's N and M).
        heads: Attention heads.
        encoders: Multi-scale encoders (the paper's K).
        fusion: A name in `FUSIONS`.
        fusion_depth: Layers of "cross_attention" (the paper's L); 1 for every other fusion.
        folded: Let "cross_attention" work without forming keys and values: the same results, up to rounding.
        embedding: "linear", or "convolutions" as in the dagger models.
        classes: Logits.
        channels: Channels of the images.
        mlp_ratio: Hidden width of the MLP over its width.
        positions: As in `ViT`.
        stochastic_depth: Rate of L's last block; from 0 at the first, rates grow linearly with the depth of L.
        norm_eps: The epsilon of every LayerNorm.

    Raises ValueError for an argument that is not a pair, sizes that do not divide each other, unknown names, counts
    below 1, and a rate outside [0, 1).
    """

    def __init__(
        self,
        image_sizes: tuple[ImageSize, ImageSize] = (240, 224),
        patches: Pair = (12, 16),
        widths: Pair = (192, 384),
        depths: Pair = (1, 4),
        heads: Pair = (6, 6),
        *,
        encoders: int = 3,
        fusion: str = "cross_attention",
        fusion_depth: int = 1,
        folded: bool = True,
        embedding: str = "linear",
        classes: int = 1000,
        channels: int = 3,
        mlp_ratio: float = 4,
        positions: str = "learned",
        stochastic_depth: float = 0.0,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        _check_pairs(image_sizes=image_sizes, patches=patches, widths=widths, depths=depths, heads=heads)
        if encoders < 1 or min(depths) < 1:
            raise ValueError(f"encoders and depths must be 1 or more, given {encoders} and {depths}")
        check_choice("fusion", fusion, FUSIONS)
        if fusion_depth != 1 and fusion != "cross_attention":
            raise ValueError(f"fusion_depth={fusion_depth} stacks layers of cross-attention: {fusion!r} has none")
        check_choice("embedding", embedding, ("linear", "convolutions"))

        settings: dict[str, Any] = {"classes": classes, "channels": channels, "mlp_ratio": mlp_ratio}
        settings |= {"positions": positions, "norm_eps": norm_eps}
        self.depths, self.channels = depths, channels
        self.small, self.large = (
            ViT(size, patch, width, encoders * depth, head_count, **settings)
            for size, patch, width, depth, head_count in zip(image_sizes, patches, widths, depths, heads)
        )
        if embedding == "convolutions":
            for branch, patch, width in zip(self.branches, patches, widths):
                convolutions: Any = ConvolutionalEmbedding(branch.patch_embedding.image_size, patch, width, channels)
                branch.patch_embedding = convolutions

        rates = self._set_stochastic_depth(stochastic_depth, encoders)
        scales = Scales(widths, heads, (self.small.patch_embedding.grid, self.large.patch_embedding.grid), norm_eps)
        more = {"depth": fusion_depth, "folded": folded} if fusion == "cross_attention" else {}
        self.fusions = nn.ModuleList(FUSIONS[fusion](scales, rate, **more) for rate in rates)
        initialise_linear(self.fusions)

    @property
    def branches(self) -> tuple[ViT, ViT]:
        """The two ViTs: S, L."""
        return self.small, self.large

    def _set_stochastic_depth(self, rate: float, encoders: int) -> list[float]:
        """Set the rate of every block, and return those of the fusions.

        The rates of L's blocks grow linearly from 0 to `rate`. Block j of S's encoder k has the rate of block j of L's
        encoder k, and the fusion after encoder k that of the encoder's last block.
        """
        longest = max(self.depths)
        row = [rate * step / max(encoders * longest - 1, 1) for step in range(encoders * longest)]
        for branch, depth in zip(self.branches, self.depths):
            for number, block in enumerate(branch.blocks):
                block.drop = StochasticDepth(row[number // depth * longest + number % depth])
        return row[longest - 1 :: longest]

    @shaped
    def forward(
        self,
        images: Float[Tensor, "batch channel height width"],
        large_images: Float[Tensor, "batch channel large_height large_width"] | None = None,
        return_weights: bool = False,
    ) -> Float[Tensor, "batch classes"] | tuple[Float[Tensor, "batch classes"], list[dict[str, Any]]]:
        """Logits (batch, class): the mean of the two heads' logits.

        Both branches see `images`, resized (bicubic) to the branch's size where it differs. With `large_images`, branch
        L sees those instead. With `return_weights` also a dict of attention weights for each encoder: {"small": [a
        tensor (batch, head, token, token) for each block], "large": [the same], "fusion": the fusion's own dict}.
        Raises ValueError for images with another number of channels, and for batches of different sizes.
        """
        logits, maps = self.branch_logits(images, large_images, return_weights)
        return (logits.mean(dim=1), maps) if return_weights else logits.mean(dim=1)

    def branch_logits(
        self, images: Tensor, large_images: Tensor | None = None, return_weights: bool = False
    ) -> tuple[Float[Tensor, "batch 2 classes"], list[dict[str, Any]]]:
        """The logits of each branch's head, S first (table 6: "single branch"), and attention as in `forward`.

        Raises ValueError for what `forward` refuses.
        """
        views = (images, images if large_images is None else large_images)
        if views[0].shape[0] != views[1].shape[0]:
            raise ValueError(
                f"both branches need the same batch, given {len(views[0])} images for S and {len(views[1])} for L"
            )
        small, large = (
            branch.embed(self._resize(name, view, branch.patch_embedding.image_size))
            for name, view, branch in zip(("images", "large_images"), views, self.branches)
        )
        maps: list[dict[str, Any]] = []
        for number, fusion in enumerate(self.fusions):
            small, small_maps = self._run_blocks(self.small, number, self.depths[0], small, return_weights)
            large, large_maps = self._run_blocks(self.large, number, self.depths[1], large, return_weights)
            small, large, fusion_maps = fusion(small, large, return_weights)
            maps.append({"small": small_maps, "large": large_maps, "fusion": fusion_maps})
        # A head reads the class token alone, so no other token is normalised.
        heads = [branch.head(branch.norm(tokens[:, 0])) for branch, tokens in zip(self.branches, (small, large))]
        return torch.stack(heads, dim=1), maps

    def _resize(self, name: str, images: Tensor, size: Pair) -> Tensor:
        """Resize images (bicubic) to the size that a branch takes, unless they have it."""
        channels = self.channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(f"{name} must be (batch, {channels}, height, width), given {tuple(images.shape)}")
        if tuple(images.shape[-2:]) == size:
            return images
        return F.interpolate(images, size=size, mode="bicubic", align_corners=False)

    @staticmethod
    def _run_blocks(
        branch: ViT, encoder: int, depth: int, tokens: Tensor, return_weights: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Run a branch's blocks of one encoder; with `return_weights` also return their attention weights."""
        maps = []
        for block in branch.blocks[encoder * depth : (encoder + 1) * depth]:
            tokens, weights = block(tokens, return_weights)
            if weights is not None:
                maps.append(weights)
        return tokens, maps


def _check_pairs(**pairs: Any) -> None:
    for name, pair in pairs.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"{name} is a pair, (of branch S, of branch L), given {pair!r}")
