"""LAVT: the words enter the image encoder itself, after each of its stages.

    V_i = Swin's stage i of E_(i-1)         (of the image's patches in the first)
    F_i = PWAM(V_i, words)                  each pixel asks the words
    E_i = V_i + gate(F_i) * F_i             the language pathway: how much of the answer goes on
    mask = decoder(F_1, F_2, F_3, F_4)

So the deeper stages look at the image with the sentence in mind. It is paradigm (b) of Yang et al., figure 1; paradigm
(a), where the image encoder never hears the words, is `decoder_fusion`.

It computes what the published LAVT does, whose weights `convert.lavt_from_published` reads; paper and slides write
less, see `PixelWordAttention`. Maps are `batch row column channel`, as in `swin`, until the decoder's convolutions.

Source: Yang et al., "LAVT: Language-Aware Vision Transformer for Referring Image Segmentation" (CVPR 2022), section 3.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xattn_edu.models.language import SmallBert
from xattn_edu.models.masks import ConvNormReLU, check_words, resize
from xattn_edu.models.pwam import LanguagePathway, PixelWordAttention, SentenceFusion
from xattn_edu.models.swin import Swin
from xattn_edu.shapes import shaped


class MaskDecoder(nn.Module):
    """From the coarsest stage to the finest: resize, put beside the finer stage, two convolutions (section 3.4).

    `widths` are the channels of the stages, finest first, and `width` those in the decoder. Raises ValueError for
    fewer than two stages.
    """

    def __init__(self, widths: Sequence[int], width: int):
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"the decoder joins two stages or more, given the widths {tuple(widths)}")
        coarser = [widths[-1]] + [width] * (len(widths) - 2)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormReLU(coarse + fine, width), ConvNormReLU(width, width))
            for coarse, fine in zip(coarser, widths[-2::-1])
        )
        self.logits = nn.Conv2d(width, 2, kernel_size=1)

    @shaped
    def forward(self, stages: list[Tensor]) -> Float[Tensor, "batch 2 row column"]:
        """`stages`: maps (batch, row, column, channel), finest first. Logits for each pixel of the finest."""
        *finer, maps = [rearrange(stage, "batch row column channel -> batch channel row column") for stage in stages]
        for level, fine in zip(self.levels, reversed(finer)):
            row, column = fine.shape[2:]
            maps = level(torch.cat([resize(maps, (row, column)), fine], dim=1))
        return self.logits(maps)


class StageMaps(NamedTuple):
    """What one stage of LAVT makes: maps (batch, row, column, channel), attention (batch, head, row, column, word)."""

    vision: Tensor  # V_i, out of the Swin blocks
    fused: Tensor  # F_i, for the decoder
    onward: Tensor  # E_i, for the next stage
    weights: Tensor  # how much each pixel reads of each word


class LAVT(nn.Module):
    """A Swin that hears the words after each stage, and a decoder that makes the mask.

    `image_encoder` is a Swin of two stages or more, with the norms that its maps pass on their way to the decoder;
    `language` any encoder of `xattn_edu.language`. `heads` are PWAM's, a number for all stages or one for each. The
    decoder is `decoder_width` wide: 4 times the first stage's width, if not given.

    Without `pwam`, `SentenceFusion` takes its place; without `language_pathway`, E_i = V_i: the paper's table 2. The
    last stage has a gate as well, as published: no stage reads its E_i, so it gets no gradient.
    Raises ValueError for sizes that do not fit each other.
    """

    def __init__(
        self,
        image_encoder: Swin,
        language: nn.Module,
        *,
        heads: int | Sequence[int] = 1,
        pwam: bool = True,
        language_pathway: bool = True,
        decoder_width: int | None = None,
    ):
        super().__init__()
        widths, words_width = image_encoder.widths, cast(int, language.width)
        heads = [heads] * len(widths) if isinstance(heads, int) else heads
        if len(heads) != len(widths):
            raise ValueError(f"heads is one number, or one for each of {len(widths)} stages, given {tuple(heads)}")
        self.image_encoder, self.language, self.pwam = image_encoder, language, pwam
        self.fusions = nn.ModuleList(
            PixelWordAttention(width, words_width, count) if pwam else SentenceFusion(width, words_width)
            for width, count in zip(widths, heads)
        )
        self.pathways = nn.ModuleList(LanguagePathway(width) for width in widths if language_pathway)
        self.decoder = MaskDecoder(widths, 4 * widths[0] if decoder_width is None else decoder_width)

    @shaped
    def forward(
        self,
        images: Float[Tensor, "batch channel height width"],
        ids: Int[Tensor, "batch word"],
        mask: Bool[Tensor, "batch word"],
        return_weights: bool = False,
    ) -> Float[Tensor, "batch 2 height width"] | tuple[Float[Tensor, "batch 2 height width"], list[Tensor]]:
        """Logits of background and referent for each pixel of each image; `mask` is True where a word counts.

        With `return_weights` also how much the pixels of each stage read of each word, (batch, head, row, column,
        word). Raises ValueError for images and sentences that do not fit and for images too small, TypeError for a mask
        that is not boolean.
        """
        check_words(images, ids, mask)
        self._check_size(images)
        stages = self.stages(images, self.language(ids, mask), mask)
        logits = self.decoder([norm(stage.fused) for norm, stage in zip(self.image_encoder.norms, stages)])
        height, width = images.shape[2:]
        logits = resize(logits, (height, width))
        return (logits, [stage.weights for stage in stages]) if return_weights else logits

    @shaped
    def stages(
        self,
        images: Float[Tensor, "batch channel height width"],
        words: Float[Tensor, "batch word words_width"],
        mask: Bool[Tensor, "batch word"],
    ) -> list[StageMaps]:
        """What the stages make of images and encoded words, finest first. Raises ValueError for images too small."""
        self._check_size(images)
        swin, stages = self.image_encoder, []
        maps = swin.embed(images)
        for i, fusion in enumerate(self.fusions):
            if i:
                maps = swin.merges[i - 1](maps)
            vision = swin.stages[i](maps)
            fused, weights = fusion(vision, words, mask, return_weights=True)
            maps = self.pathways[i](vision, fused) if self.pathways else vision
            stages.append(StageMaps(vision, fused, maps, weights))
        return stages

    def _check_size(self, images: Tensor) -> None:
        """An instance norm needs two pixels, also in the coarsest stage."""
        pixel = self.image_encoder.patch_embedding.patch * 2 ** (len(self.fusions) - 1)
        if self.pwam and prod(-(-side // pixel) for side in images.shape[2:]) < 2:
            raise ValueError(
                f"the last stage makes one pixel of {pixel} x {pixel}, and PWAM norms over two at least: images must "
                f"be {pixel} x {pixel + 1} or larger, given {' x '.join(map(str, images.shape[2:]))}"
            )


def lavt_swin(
    width: int = 96,
    depths: Sequence[int] = (2, 2, 6, 2),
    heads: Sequence[int] = (3, 6, 12, 24),
    *,
    window: int = 7,
    patch: int = 4,
    channels: int = 3,
    stochastic_depth: float = 0.0,
    language: nn.Module | None = None,
    word_heads: int | Sequence[int] = 1,
    pwam: bool = True,
    language_pathway: bool = True,
    decoder_width: int | None = None,
) -> LAVT:
    """A LAVT from the arguments of its Swin and its own (PWAM's heads are `word_heads`), for `create_model`.

    With no `language`, its encoder is a BERT-base with random weights. The paper trains with stochastic_depth=0.3.
    """
    swin = Swin(width, depths, heads, window=window, patch=patch, channels=channels, stochastic_depth=stochastic_depth)
    return LAVT(
        swin,
        SmallBert(30522, 768, depth=12, heads=12, length=512) if language is None else language,
        heads=word_heads,
        pwam=pwam,
        language_pathway=language_pathway,
        decoder_width=decoder_width,
    )
