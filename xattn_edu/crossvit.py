"""CrossViT: two Vision Transformers with patches of two sizes, fused again and again on their way.

The small-patch branch S sees many small patches and is narrow and shallow; the large-patch branch L sees fewer, larger
ones and does most of the work. After each multi-scale encoder a fusion lets the branches tell each other what they
know. Five fusions stand here side by side, with one interface, so that any can take another's place.

Source: Chen, Fan and Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image Classification" (ICCV
2021), section 3.3 and equations (2) to (7); what the paper leaves open is as in the published model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.attention import MultiHeadAttention
from xattn_edu.shapes import shaped
from xattn_edu.vit import Size, StochasticDepth, ViT, grid_of, initialise_linear

Pair = tuple[int, int]  # of whole numbers: branch S first, then branch L
Maps = dict[str, Tensor]  # attention weights, by the name of who asks


@dataclass(frozen=True)
class Scales:
    """What a fusion must know of the two branches, S first: widths, heads, and grids of patches (rows, columns)."""

    widths: Pair
    heads: Pair
    grids: tuple[Pair, Pair]
    norm_eps: float = 1e-6


class Projection(nn.Module):
    """The paper's f and g, from one branch's width to another's: LayerNorm, GELU, then a linear layer on each token."""

    def __init__(self, width: int, to_width: int, norm_eps: float = 1e-6):
        super().__init__()
        self.norm = nn.LayerNorm(width, norm_eps)
        self.linear = nn.Linear(width, to_width)

    @shaped
    def forward(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token to_width"]:
        return self.linear(F.gelu(self.norm(tokens)))


class Fusion(nn.Module):
    """What stands between two multi-scale encoders: the tokens of both branches in, the tokens of both branches out.

    Tokens are (batch, 1 + patches, width), class token first. `forward` returns those of S, those of L, and attention
    weights by name: none unless asked for, and none where there is no attention.
    """

    def __init__(self, scales: Scales, stochastic_depth: float = 0.0):
        super().__init__()

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        raise NotImplementedError


class NoFusion(Fusion):
    """The branches never talk; only their logits are averaged in the end. The control."""

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        return small, large, {}


class AllAttention(Fusion):
    """Self-attention over all tokens of both branches: equation (2).

    y = [f_l(x_l) || f_s(x_s)], all as wide as L; o = y + MSA(LN(y)); z_i = g_i(o_i). No feed-forward. The weights are
    {"all": (batch, head, token, token)}, the tokens of L first, then those of S.
    """

    def __init__(self, scales: Scales, stochastic_depth: float = 0.0):
        super().__init__(scales)
        (small, large), eps = scales.widths, scales.norm_eps
        self.from_small, self.to_small = Projection(small, large, eps), Projection(large, small, eps)  # f_s, g_s
        self.from_large, self.to_large = Projection(large, large, eps), Projection(large, large, eps)  # f_l, g_l
        self.norm = nn.LayerNorm(large, eps)
        self.attention = MultiHeadAttention(large, scales.heads[1])
        self.drop = StochasticDepth(stochastic_depth)

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        tokens = torch.cat([self.from_large(large), self.from_small(small)], dim=1)
        normed, maps = self.norm(tokens), {}
        if return_weights:
            mixed, maps["all"] = self.attention(normed, return_weights=True)
        else:
            mixed = self.attention(normed)
        tokens = tokens + self.drop(mixed)
        large, small = tokens.split([large.shape[1], small.shape[1]], dim=1)
        return self.to_small(small), self.to_large(large), maps


class ClassToken(Fusion):
    """The sum of both class tokens becomes the class token of both: equation (3), with f_l and g_l the identity.

    c = x_l + f_s(x_s); z_l = c; z_s = g_s(c). Patches stay as they are.
    """

    def __init__(self, scales: Scales, stochastic_depth: float = 0.0):
        super().__init__(scales)
        small, large = scales.widths
        self.from_small, self.to_small = (
            Projection(small, large, scales.norm_eps),
            Projection(large, small, scales.norm_eps),
        )

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        both = large[:, :1] + self.from_small(small[:, :1])
        small, large = with_class_token(self.to_small(both), small), with_class_token(both, large)
        return small, large, {}


class Pairwise(ClassToken):
    """Class tokens are summed as above, and patches too, each with the patch at the same place: equation (4).

    S's patches, projected, are resized as an image to L's grid and added; the sum is projected and resized back
    (bilinear). The same f_s and g_s serve class tokens and patches.
    """

    def __init__(self, scales: Scales, stochastic_depth: float = 0.0):
        super().__init__(scales)
        self.grids = scales.grids

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        large = large + resize_grid(self.from_small(small), *self.grids)
        return resize_grid(self.to_small(large), *self.grids[::-1]), large, {}


class CrossAttention(Fusion):
    """Each branch's class token asks the other branch's patches: equations (5) to (7), in both directions at once.

    The weights are {"small": (batch, head, 1, 1 + patches of L), "large": (batch, head, 1, 1 + patches of S)}, named by
    who asks; the first key is the asking class token itself. `depth` is the paper's L. With `folded`, keys and values
    are never formed where nobody asks for weights (`MultiHeadAttention.folded`): the same numbers up to rounding.
    """

    def __init__(self, scales: Scales, stochastic_depth: float = 0.0, depth: int = 1, folded: bool = True):
        super().__init__(scales)
        (small, large), (small_heads, large_heads) = scales.widths, scales.heads
        rest = (depth, stochastic_depth, scales.norm_eps, folded)
        self.small = ClassTokenAttention(small, large, large_heads, *rest)
        self.large = ClassTokenAttention(large, small, small_heads, *rest)

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        small_class, small_weights = self.small(small[:, :1], large[:, 1:], return_weights)
        large_class, large_weights = self.large(large[:, :1], small[:, 1:], return_weights)
        maps = {"small": small_weights, "large": large_weights} if return_weights else {}
        return with_class_token(small_class, small), with_class_token(large_class, large), maps


class ClassTokenAttention(nn.Module):
    """One branch's class token, the only query, attends to itself and the other branch's patches (figure 4).

    x' = [f(x_cls) || x_patch of the other]; y = f(x_cls) + MCA(LN(x')); z_cls = g(y). One query, N keys: the cost grows
    with N, not with N^2. There is no feed-forward, and the result replaces the class token: nothing is added to it.

    With `depth` > 1, further layers follow the first. In the published model they see only the class token that it
    made, not the patches again (the FLOPs in row D of the paper's table 7 say the same), so each is one more linear
    map; here too. Raises ValueError for a depth below 1.
    """

    def __init__(
        self,
        width: int,
        other_width: int,
        other_heads: int,
        depth: int = 1,
        stochastic_depth: float = 0.0,
        norm_eps: float = 1e-6,
        folded: bool = True,
    ):
        super().__init__()
        if depth < 1:
            raise ValueError(f"cross-attention has 1 layer or more, given {depth}")
        self.project = Projection(width, other_width, norm_eps)  # f
        self.norms = nn.ModuleList(nn.LayerNorm(other_width, norm_eps) for _ in range(depth))
        self.attentions = nn.ModuleList(MultiHeadAttention(other_width, other_heads) for _ in range(depth))
        self.back = Projection(other_width, width, norm_eps)  # g
        self.drop = StochasticDepth(stochastic_depth)
        self.folded = folded

    @shaped
    def forward(
        self,
        class_token: Float[Tensor, "batch 1 width"],
        patches: Float[Tensor, "batch patch other_width"],
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch 1 width"], Float[Tensor, "batch head 1 key"] | None]:
        """The class token (batch, 1, width) after asking `patches`, and the first layer's weights if asked for."""
        query, weights = self.project(class_token), None
        context = torch.cat([query, patches], dim=1)
        attention: MultiHeadAttention
        for norm, attention in zip(self.norms, self.attentions):  # type: ignore[assignment]
            context = norm(context)
            if return_weights and weights is None:
                attended, weights = attention(context[:, :1], context, return_weights=True)
            elif self.folded:
                attended = attention.folded(context[:, :1], context)
            else:
                attended = attention(context[:, :1], context)
            query = context = query + self.drop(attended)
        return self.back(query), weights


FUSIONS: dict[str, Callable[..., Fusion]] = {
    "none": NoFusion,
    "all_attention": AllAttention,
    "class_token": ClassToken,
    "pairwise": Pairwise,
    "cross_attention": CrossAttention,
}


class ConvolutionalEmbedding(nn.Module):
    """The dagger models' patch embedding: three convolutions with ReLU between, in place of one linear map of a patch.

    The same grid of tokens comes out as from patches of 12 or 16 pixels, but a token has seen beyond its patch.
    Raises ValueError for another patch size.
    """

    STRIDES_AND_PADDINGS = {12: ((4, 3), (3, 0), (1, 1)), 16: ((4, 3), (2, 1), (2, 1))}

    def __init__(self, image_size: Pair, patch: int, width: int, channels: int = 3):
        super().__init__()
        if patch not in self.STRIDES_AND_PADDINGS:
            raise ValueError(f"three convolutions stand for patches of 12 or 16 pixels, given {patch}")
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
    """Two ViTs and, between their blocks, `encoders` (the paper's K) fusions; the logits are the mean of two heads.

    All pairs are (branch S, branch L): the size of the image each sees, patch, width, heads, and `depths`, the blocks
    in each multi-scale encoder (the paper's N and M). `fusion` is one of `FUSIONS`; `fusion_depth` (the paper's L) and
    `folded` belong to "cross_attention". `embedding` is "linear", or "convolutions" as in the dagger models. Stochastic
    depth grows linearly from 0 to `stochastic_depth` with the depth of L. `positions` is as in `ViT`.
    Raises ValueError for sizes that do not divide, and for names and numbers that make no sense.
    """

    def __init__(
        self,
        image_sizes: tuple[Size, Size] = (240, 224),
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
        _check(image_sizes, patches, widths, depths, heads, encoders, fusion, fusion_depth, embedding)
        settings: dict[str, Any] = {"classes": classes, "channels": channels, "mlp_ratio": mlp_ratio}
        settings |= {"positions": positions, "norm_eps": norm_eps}
        self.depths, self.channels = depths, channels
        self.small, self.large = (
            ViT(size, patch, width, encoders * depth, head_count, **settings)
            for size, patch, width, depth, head_count in zip(image_sizes, patches, widths, depths, heads)
        )
        if embedding == "convolutions":
            for branch, patch, width in zip(self.branches, patches, widths):
                size = branch.patch_embedding.image_size
                branch.patch_embedding = ConvolutionalEmbedding(size, patch, width, channels)  # type: ignore[assignment]

        rates = self._set_stochastic_depth(stochastic_depth, encoders)
        scales = Scales(widths, heads, (self.small.patch_embedding.grid, self.large.patch_embedding.grid), norm_eps)
        more = {"depth": fusion_depth, "folded": folded} if fusion == "cross_attention" else {}
        self.fusions = nn.ModuleList(FUSIONS[fusion](scales, rate, **more) for rate in rates)
        initialise_linear(self.fusions)

    @property
    def branches(self) -> tuple[ViT, ViT]:
        """Both ViTs, S first."""
        return self.small, self.large

    def _set_stochastic_depth(self, rate: float, encoders: int) -> list[float]:
        """Block j of encoder k drops as L's block k M + j in a row from 0 to `rate`; return the fusions' rates."""
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
        """Logits (batch, class), the mean of both heads'.

        Both branches see `images`, each resized to its own size (bicubic) where that differs; with `large_images`,
        branch L sees those. With `return_weights` also each encoder's attention: {"small": [a tensor
        (batch, head, token, token) for each block], "large": [the same], "fusion": {name: tensor}}.
        """
        logits, maps = self.branch_logits(images, large_images, return_weights)
        return (logits.mean(dim=1), maps) if return_weights else logits.mean(dim=1)

    def branch_logits(
        self, images: Tensor, large_images: Tensor | None = None, return_weights: bool = False
    ) -> tuple[Float[Tensor, "batch 2 classes"], list[dict[str, Any]]]:
        """What each branch's own head says, S first (table 6's "single branch"), and attention as in `forward`."""
        views = (images, images if large_images is None else large_images)
        if len(views[0]) != len(views[1]):
            raise ValueError(f"each branch sees the same batch: {len(views[0])} images for S, {len(views[1])} for L")
        small, large = (
            branch.embed(self._fit(name, view, branch.patch_embedding.image_size))
            for name, view, branch in zip(("images", "large_images"), views, self.branches)
        )
        maps: list[dict[str, Any]] = []
        for number, fusion in enumerate(self.fusions):
            small, small_maps = self._blocks(self.small, number, self.depths[0], small, return_weights)
            large, large_maps = self._blocks(self.large, number, self.depths[1], large, return_weights)
            small, large, fusion_maps = fusion(small, large, return_weights)
            maps.append({"small": small_maps, "large": large_maps, "fusion": fusion_maps})
        # A head reads the class token alone, so no other is normalised.
        heads = [branch.head(branch.norm(tokens[:, 0])) for branch, tokens in zip(self.branches, (small, large))]
        return torch.stack(heads, dim=1), maps

    def _fit(self, name: str, images: Tensor, size: Pair) -> Tensor:
        """Images in the size that a branch takes: resized, bicubic, if need be."""
        channels = self.channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(f"{name} must be (batch, {channels}, height, width), given {tuple(images.shape)}")
        if tuple(images.shape[-2:]) == size:
            return images
        return F.interpolate(images, size=size, mode="bicubic", align_corners=False)

    @staticmethod
    def _blocks(
        branch: ViT, encoder: int, depth: int, tokens: Tensor, return_weights: bool
    ) -> tuple[Tensor, list[Tensor]]:
        maps = []
        for block in branch.blocks[encoder * depth : (encoder + 1) * depth]:
            tokens, weights = block(tokens, return_weights)
            if weights is not None:
                maps.append(weights)
        return tokens, maps


@shaped
def with_class_token(
    class_token: Float[Tensor, "batch 1 width"], tokens: Float[Tensor, "batch token width"]
) -> Float[Tensor, "batch token width"]:
    """`tokens` with another class token in the first place."""
    return torch.cat([class_token, tokens[:, 1:]], dim=1)


@shaped
def resize_grid(
    tokens: Float[Tensor, "batch token width"], old: Pair, new: Pair
) -> Float[Tensor, "batch new_token width"]:
    """Patches as an image of `old` (rows, columns) resized to `new`, bilinear; the class token in front is kept."""
    image = rearrange(tokens[:, 1:], "batch (row column) width -> batch width row column", row=old[0])
    resized = F.interpolate(image, size=new, mode="bilinear", align_corners=False)
    return torch.cat([tokens[:, :1], rearrange(resized, "batch width row column -> batch (row column) width")], dim=1)


def _check(
    image_sizes: Any, patches: Any, widths: Any, depths: Any, heads: Any,
    encoders: int, fusion: str, fusion_depth: int, embedding: str,
) -> None:  # fmt: skip
    """Refuse what makes no sense, before anything is built."""
    pairs = {"image_sizes": image_sizes, "patches": patches, "widths": widths, "depths": depths, "heads": heads}
    for name, pair in pairs.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"{name} is a pair, (of branch S, of branch L), given {pair!r}")
    if encoders < 1 or min(depths) < 1:
        raise ValueError(f"encoders and depths must be 1 or more, given {encoders} and {depths}")
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, given {fusion!r}")
    if fusion_depth != 1 and fusion != "cross_attention":
        raise ValueError(f"fusion_depth={fusion_depth} stacks layers of cross-attention: {fusion!r} has none")
    if embedding not in ("linear", "convolutions"):
        raise ValueError(f'embedding must be "linear" or "convolutions", given {embedding!r}')
