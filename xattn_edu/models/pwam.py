"""PWAM and the language pathway: each pixel attends to the words, and a gate adds the result to the image.

PWAM is the pixel-word attention module of LAVT. `SentenceFusion` replaces it in the ablation. Maps are `batch row
column channel`, as in `swin`.

Source: Yang et al., "LAVT: Language-Aware Vision Transformer for Referring Image Segmentation" (CVPR 2022), section 3.
"""

from math import prod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.attention import merge_heads, scaled_scores, split_heads
from xattn_edu.models.masks import check_word_mask
from xattn_edu.shapes import check_heads, shaped


@shaped
def instance_norm(pixels: Float[Tensor, "batch pixel channel"]) -> Float[Tensor, "batch pixel channel"]:
    """Normalise each channel of each image to mean 0 and variance 1 over the pixels, without learned parameters."""
    return F.instance_norm(pixels.transpose(1, 2)).transpose(1, 2)


class PixelWordAttention(nn.Module):
    """PWAM: each pixel attends to the words, and is multiplied by what it gathers from them.

        V_iq = w_iq(V_i),  L_ik = w_ik(L),  L_iv = w_iv(L)
        G_i' = softmax(V_iq^T L_ik / sqrt(C_i)) L_iv^T,  G_i = w_iw(G_i')
        V_im = w_im(V_i),  F_i = w_io(V_im * G_i)

    The w are 1x1 convolutions: linear layers on the channels. These formulas, from the slides, leave out parts of the
    published model. In the published model, and here,
    - w_iq and w_iw end in an instance norm over the pixels,
    - w_im and w_io end in a GELU (a ReLU in the paper's text),
    - padding is masked: its scores are so low that its weights are 0, and its values are 0,
    - the scale is sqrt(C_i), the root of the number of all channels, also with several heads.

    The biases of `query`, `key`, `value` and `language` have no effect: softmax or an instance norm removes them. For
    an empty sentence G_i is 0, and F_i is the same for all pixels. Raises ValueError if `heads` does not divide
    `width`. Source: Yang et al. (2022), section 3.2.
    """

    def __init__(self, width: int, words_width: int, heads: int = 1):
        super().__init__()
        check_heads(width, heads)
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
        word_mask: Bool[Tensor, "batch word"],
        return_weights: bool = False,
    ) -> (
        Float[Tensor, "batch row column width"]
        | tuple[Float[Tensor, "batch row column width"], Float[Tensor, "batch head row column word"]]
    ):
        """Compute F_i from V_i and L; with `return_weights` also each pixel's attention weights over the words.

        `word_mask` is True for words, False for padding. Raises ValueError for maps of one pixel, because an instance
        norm divides by the variance between pixels; TypeError for a mask that is not boolean.
        """
        check_word_mask(word_mask)
        grid = maps.shape[1:3]
        if prod(grid) < 2:
            raise ValueError(
                f"PWAM normalises over pixels and needs two or more, given maps {(*maps.shape,)}: use larger images"
            )
        pixels = maps.flatten(1, 2)
        query = split_heads(instance_norm(self.query(pixels)), self.heads)
        key = split_heads(self.key(words), self.heads)
        value = split_heads(self.value(words) * word_mask[..., None], self.heads)

        scores = scaled_scores(query, key, self.width**0.5)
        # Not -inf: if all words are padding, the softmax would be NaN.
        lowest = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~word_mask[:, None, None], lowest).softmax(dim=-1).to(value.dtype)
        gathered = instance_norm(self.language(merge_heads(weights @ value)))  # G_i
        fused = F.gelu(self.output(F.gelu(self.vision(pixels)) * gathered)).unflatten(1, grid)
        return (fused, weights.unflatten(2, grid)) if return_weights else fused


class SentenceFusion(nn.Module):
    """Replaces PWAM in the paper's ablation: every pixel gets the same vector, made from the whole sentence.

    The mean of the words passes two linear layers with a ReLU between and replaces G_i. All words, padding left out,
    have the same weight. There is no instance norm: it would make 0 of a vector that is the same for all pixels.
    Source: Yang et al. (2022), table 2.
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
        word_mask: Bool[Tensor, "batch word"],
        return_weights: bool = False,
    ) -> (
        Float[Tensor, "batch row column width"]
        | tuple[Float[Tensor, "batch row column width"], Float[Tensor, "batch 1 row column word"]]
    ):
        """As `PixelWordAttention.forward`, for maps of any size."""
        check_word_mask(word_mask)
        weights = word_mask.to(words) / word_mask.sum(dim=1, keepdim=True).clamp(min=1)
        sentence = self.language(weights[:, None] @ words)[:, None]  # (batch, 1, 1, width)
        fused = F.gelu(self.output(F.gelu(self.vision(maps)) * sentence))
        return (fused, weights[:, None, None, None].expand(-1, 1, *maps.shape[1:3], -1)) if return_weights else fused


class LanguagePathway(nn.Module):
    """E_i = V_i + gate(F_i) * F_i: the gate decides how much of F_i each channel of each pixel takes.

    The gate is two linear layers without bias, a ReLU between them, and a tanh. The slides compare it to the
    feed-forward layer of a Transformer; unlike there, its output is a factor. (Never start with both layers at 0: their
    gradients would be 0.) Source: Yang et al. (2022), section 3.3.
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
        """Compute E_i from V_i (`maps`) and F_i (`fused`)."""
        return maps + self.gate(fused) * fused
