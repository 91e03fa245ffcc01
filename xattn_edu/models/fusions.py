"""Fusions for CrossViT: what two branches of different patch sizes exchange between their multi-scale encoders.

The five fusions of the paper stand here side by side. They share one interface, so that any of them can take another's
place in a model.

Source: Chen, Fan and Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image Classification" (ICCV
2021), section 3.3 and figure 3; what the paper leaves open is as in the published model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.attention import MultiHeadAttention
from xattn_edu.models.layers import StochasticDepth
from xattn_edu.shapes import shaped

Pair = tuple[int, int]  # whole numbers of branch S and of branch L
Maps = dict[str, Tensor]  # attention weights, keyed by the branch that provides the query ("all": both)


@dataclass(frozen=True)
class Scales:
    """The sizes that a fusion needs of branches S and L: widths, heads, and grids of patches (rows, columns)."""

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


@shaped
def with_class_token(
    class_token: Float[Tensor, "batch 1 width"], tokens: Float[Tensor, "batch token width"]
) -> Float[Tensor, "batch token width"]:
    """Replace the class token, the first of `tokens`."""
    return torch.cat([class_token, tokens[:, 1:]], dim=1)


@shaped
def resize_grid(
    tokens: Float[Tensor, "batch token width"], old: Pair, new: Pair
) -> Float[Tensor, "batch new_token width"]:
    """Resize the grid of patches from `old` to `new` (rows, columns), bilinear; the class token in front stays."""
    image = rearrange(tokens[:, 1:], "batch (row column) width -> batch width row column", row=old[0])
    resized = F.interpolate(image, size=new, mode="bilinear", align_corners=False)
    return torch.cat([tokens[:, :1], rearrange(resized, "batch width row column -> batch (row column) width")], dim=1)


class Fusion(nn.Module):
    """The interface of a fusion: it takes the tokens of both branches and returns the tokens of both branches.

    Tokens are (batch, 1 + patches, width), the class token first. `forward` returns the tokens of S, the tokens of L,
    and a dict of attention weights. The dict is empty without `return_weights`, and for a fusion without attention.
    """

    def __init__(self, scales: Scales, stochastic_depth: float = 0.0):
        super().__init__()

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        raise NotImplementedError


class NoFusion(Fusion):
    """The control: the branches exchange nothing, and only their logits are averaged at the end."""

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        return small, large, {}


class AllAttention(Fusion):
    """Self-attention over all tokens of both branches, without a feed-forward layer.

        y = [f_l(x_l) || f_s(x_s)]    all tokens as wide as L's
        o = y + MSA(LN(y))
        z_i = g_i(o_i)

    The weights are {"all": (batch, head, token, token)}: the tokens of L first, then those of S.
    Source: Chen et al. (2021), equation (2).
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
    """The sum of both class tokens becomes the class token of both branches; patches stay as they are.

        c = x_l + f_s(x_s)
        z_l = c,  z_s = g_s(c)

    Here f_l and g_l are the identity. Source: Chen et al. (2021), equation (3).
    """

    def __init__(self, scales: Scales, stochastic_depth: float = 0.0):
        super().__init__(scales)
        (small, large), eps = scales.widths, scales.norm_eps
        self.from_small, self.to_small = Projection(small, large, eps), Projection(large, small, eps)  # f_s, g_s

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        both = large[:, :1] + self.from_small(small[:, :1])
        small, large = with_class_token(self.to_small(both), small), with_class_token(both, large)
        return small, large, {}


class Pairwise(ClassToken):
    """Class tokens are summed as in `ClassToken`; each patch is summed with the patch at the same place.

    S's patches, projected, are resized as an image to L's grid and added to L's patches. The sum is projected and
    resized back (bilinear). The same f_s and g_s serve class tokens and patches.
    Source: Chen et al. (2021), equation (4).
    """

    def __init__(self, scales: Scales, stochastic_depth: float = 0.0):
        super().__init__(scales)
        self.grids = scales.grids

    def forward(self, small: Tensor, large: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, Maps]:
        large = large + resize_grid(self.from_small(small), *self.grids)
        return resize_grid(self.to_small(large), *self.grids[::-1]), large, {}


class ClassTokenAttention(nn.Module):
    """One branch's class token, the only query, attends to itself and to the other branch's patches (figure 4).

        x' = [f(x_cls) || x_patch of the other branch]
        y_cls = f(x_cls) + MCA(LN(x'))
        z_cls = g(y_cls)

    One query, N keys: the cost grows with N, not with N^2. There is no feed-forward layer, and z_cls replaces the class
    token: x_cls is not added to it.

    With `depth` > 1, more layers follow the first. In the published model they see only the class token that the first
    layer made, not the patches again (row D of the paper's table 7 has the FLOPs of this). So each is one more linear
    map, here too.

    Args:
        width: Width of the branch whose class token this is.
        other_width: Width of the other branch; the attention works in this width.
        other_heads: Heads of the other branch.
        depth: Layers of attention (the paper's L).
        stochastic_depth: Share of samples that leave a layer out while training.
        norm_eps: The epsilon of every LayerNorm.
        folded: Compute the attention without forming keys and values (`MultiHeadAttention.folded`).

    Raises ValueError for a depth below 1. Source: Chen et al. (2021), equations (5) to (7).
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
        """The new class token, and with `return_weights` the weights of the first layer (otherwise None)."""
        query, weights = self.project(class_token), None
        context = torch.cat([query, patches], dim=1)
        attention: MultiHeadAttention
        for norm, attention in zip(self.norms, self.attentions):  # type: ignore[assignment]
            context = norm(context)
            if return_weights and weights is None:
                attended, weights = attention(context[:, :1], context, return_weights=True)
            else:
                attended = attention(context[:, :1], context, folded=self.folded)
            query = context = query + self.drop(attended)
        return self.back(query), weights


class CrossAttention(Fusion):
    """Each branch's class token attends to the other branch's patches. Both directions read the tokens before fusion.

    The weights are {"small": (batch, head, 1, 1 + patches of L), "large": (batch, head, 1, 1 + patches of S)}, keyed by
    the branch that provides the query. The first key is the class token itself. `depth` is the paper's L. With
    `folded`, keys and values are not formed unless `return_weights` is set; the results differ by rounding alone.
    Source: Chen et al. (2021), equations (5) to (7).
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


# The five rows of table 6, in its order (Chen et al., 2021; figure 3 draws the last four).
PAPER_FUSIONS = ("none", "all_attention", "class_token", "pairwise", "cross_attention")

# Every fusion that a CrossViT can be built with: register a new one here. The paper's rows stay as they are.
FUSIONS: dict[str, Callable[..., Fusion]] = {
    "none": NoFusion,
    "all_attention": AllAttention,
    "class_token": ClassToken,
    "pairwise": Pairwise,
    "cross_attention": CrossAttention,
}
