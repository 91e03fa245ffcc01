"""CrossViT's fusions: five ways to exchange what two branches of different patch sizes have seen.

Source: Chen et al., "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image Classification" (2021),
section 3.2, equations (2) to (7), figure 3.
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
PAPER_FUSIONS = ("none", "all_attention", "class_token", "pairwise", "cross_attention")


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
