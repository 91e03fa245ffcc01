"""PWAM and the language pathway: each pixel gathers the words that matter to it, and a gate adds them to the image.

Source: Yang et al., "LAVT: Language-Aware Vision Transformer for Referring Image Segmentation" (2022), sections 3.2 and
3.3.
"""

from math import prod

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.attention import merge_heads, split_heads
from xattn_edu.models.language import MASKED
from xattn_edu.shapes import shaped


@shaped
def instance_norm(pixels: Float[Tensor, "batch pixel channel"]) -> Float[Tensor, "batch pixel channel"]:
    """Each channel of each image to mean 0 and variance 1 over the pixels; nothing is learned or remembered."""
    return F.instance_norm(pixels.transpose(1, 2)).transpose(1, 2)


class PixelWordAttention(nn.Module):
    """PWAM: each pixel gathers what the words say to it, and is multiplied by it (section 3.2).

        V_iq = w_iq(V_i),  L_ik = w_ik(L),  L_iv = w_iv(L)
        G_i' = softmax(V_iq^T L_ik / sqrt(C_i)) L_iv^T,  G_i = w_iw(G_i')
        V_im = w_im(V_i),  F_i = w_io(V_im * G_i)

    The w are 1x1 convolutions: linear layers on the channels. The slides' formulas, above, are not all that the
    published model computes. There, as here,
    - w_iq and w_iw end in an instance norm over the pixels,
    - w_im and w_io end in a GELU (the paper's text says ReLU),
    - padding is masked: its scores are -1e4, its values 0,
    - the scale is sqrt(C_i), of all channels, with several heads too.

    The biases of `query`, `key`, `value` and `language` have no effect: softmax or an instance norm takes them out.
    Of a sentence without words G_i is 0, and F_i the same for all pixels. Raises ValueError if `heads` does not divide
    `width`.
    """

    def __init__(self, width: int, words_width: int, heads: int = 1):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"the width must be a multiple of the number of heads: width {width}, heads {heads}")
        self.width, self.heads = width, heads
        self.query = nn.Linear(width, width)  # w_iq
        self.key = nn.Linear(words_width, width)  # w_ik
        self.value = nn.Linear(words_width, width)  # w_iv
        self.language = nn.Linear(width, width)  # w_iw
        self.vision = nn.Linear(width, width)  # w_im
        self.output = nn.Linear(width, width)  # w_io

    @shaped
    def forward(
        self,
        maps: Float[Tensor, "batch row column width"],
        words: Float[Tensor, "batch word channel"],
        mask: Bool[Tensor, "batch word"],
        return_weights: bool = False,
    ) -> (
        Float[Tensor, "batch row column width"]
        | tuple[Float[Tensor, "batch row column width"], Float[Tensor, "batch head row column word"]]
    ):
        """V_i and L to F_i, and with `return_weights` the attention of each pixel to the words.

        Raises ValueError for maps of one pixel, which has no variance to norm by.
        """
        grid = maps.shape[1:3]
        if prod(grid) < 2:
            raise ValueError(f"PWAM norms over the pixels and needs two of them at least, given maps {(*maps.shape,)}")
        pixels = maps.flatten(1, 2)
        query = split_heads(instance_norm(self.query(pixels)), self.heads)
        key = split_heads(self.key(words), self.heads)
        value = split_heads(self.value(words) * mask[..., None], self.heads)

        scores = query @ key.transpose(-1, -2) / self.width**0.5
        weights = scores.masked_fill(~mask[:, None, None], MASKED).softmax(dim=-1)  # not -inf: all may be padding
        gathered = instance_norm(self.language(merge_heads(weights @ value)))  # G_i
        fused = F.gelu(self.output(F.gelu(self.vision(pixels)) * gathered)).unflatten(1, grid)
        return (fused, weights.unflatten(2, grid)) if return_weights else fused


class SentenceFusion(nn.Module):
    """What stands in PWAM's place in the paper's ablation: the whole sentence, the same for every pixel.

    The mean of the words, through two linear layers with a ReLU between, takes the place of G_i. Without the instance
    norm: what is the same everywhere would be 0 after it. So every word that counts has the same weight.
    """

    def __init__(self, width: int, words_width: int):
        super().__init__()
        self.language = nn.Sequential(nn.Linear(words_width, width), nn.ReLU(), nn.Linear(width, width))
        self.vision = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    @shaped
    def forward(
        self,
        maps: Float[Tensor, "batch row column width"],
        words: Float[Tensor, "batch word channel"],
        mask: Bool[Tensor, "batch word"],
        return_weights: bool = False,
    ) -> (
        Float[Tensor, "batch row column width"]
        | tuple[Float[Tensor, "batch row column width"], Float[Tensor, "batch 1 row column word"]]
    ):
        """As PWAM's, for maps of any size."""
        weights = mask.to(words) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        sentence = self.language(weights[:, None] @ words)[:, None]  # (batch, 1, 1, width)
        fused = F.gelu(self.output(F.gelu(self.vision(maps)) * sentence))
        return (fused, weights[:, None, None, None].expand(-1, 1, *maps.shape[1:3], -1)) if return_weights else fused


class LanguagePathway(nn.Module):
    """E_i = V_i + gate(F_i) * F_i: how much of the words joins each channel of each pixel (section 3.3).

    The gate, two linear layers without bias, ends in a tanh. Not like the feed-forward layer of a Transformer, of which
    the slides speak: its output is a factor. (Both layers at 0 would stay there: the gradient is 0.)
    """

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False), nn.Tanh()
        )

    @shaped
    def forward(
        self, maps: Float[Tensor, "batch row column width"], fused: Float[Tensor, "batch row column width"]
    ) -> Float[Tensor, "batch row column width"]:
        return maps + self.gate(fused) * fused
