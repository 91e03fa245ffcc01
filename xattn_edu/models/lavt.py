"""LAVT: the words enter the image encoder itself, after each of its stages.

    V_i = Swin's stage i of E_(i-1)         (the first stage: of the image's patches)
    F_i = PWAM(V_i, words)                  each pixel attends to the words
    E_i = V_i + gate(F_i) * F_i             the language pathway passes F_i on to the next stage
    mask = decoder(F_1, F_2, F_3, F_4)

So the features of the deeper stages depend on the sentence. This is paradigm (b) of Yang et al., figure 1. In paradigm
(a), `decoder_fusion`, the image encoder does not receive the words.

The model computes the same as the published LAVT (`weights.lavt` reads its weights); paper and slides leave parts out,
see `PixelWordAttention`. Maps are `batch row column channel`, as in `swin`, until the decoder's convolutions.

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
    """From the coarsest stage to the finest: resize, concatenate with the finer stage, convolve twice.

    `widths` are the channels of the stages, finest first; `width` is the number of channels in the decoder. Raises
    ValueError for fewer than two stages. Source: Yang et al. (2022), section 3.4.
    """

    def __init__(self, widths: Sequence[int], width: int):
        super().__init__()
        if len(widths) < 2:
            raise ValueError(
                f"the decoder needs two stages or more, given the widths {tuple(widths)}: build a Swin with more depths"
            )
        coarser = [widths[-1]] + [width] * (len(widths) - 2)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormReLU(coarse + fine, width), ConvNormReLU(width, width))
            for coarse, fine in zip(coarser, widths[-2::-1])
        )
        self.logits = nn.Conv2d(width, 2, kernel_size=1)

    @shaped
    def forward(self, stages: list[Tensor]) -> Float[Tensor, "batch 2 row column"]:
        """Logits for each pixel of the finest stage. `stages`: maps (batch, row, column, channel), finest first."""
        *finer, maps = [rearrange(stage, "batch row column channel -> batch channel row column") for stage in stages]
        for level, fine in zip(self.levels, reversed(finer)):
            row, column = fine.shape[2:]
            maps = level(torch.cat([resize(maps, (row, column)), fine], dim=1))
        return self.logits(maps)


class StageMaps(NamedTuple):
    """The results of one stage of LAVT: maps (batch, row, column, channel) and attention weights."""

    vision: Tensor  # V_i, the output of the Swin blocks
    fused: Tensor  # F_i, for the decoder
    onward: Tensor  # E_i, for the next stage
    weights: Tensor  # of each pixel over the words: (batch, head, row, column, word)


class LAVT(nn.Module):
    """A Swin that receives the words after each stage, and a decoder that makes the mask.

    The last stage has a gate too, as in the published model. No stage reads its E_i, so this gate gets no gradient.

    Args:
        image_encoder: A Swin of two stages or more. Its norms are applied to the F_i before the decoder.
        language: An encoder from `models.language`, or any module (ids, mask) -> words (batch, word, channel) with the
            attribute `width`, the number of channels.
        heads: PWAM's heads, one number for all stages or one for each.
        pwam: False replaces PWAM by `SentenceFusion` (the paper's table 2).
        language_pathway: False leaves the gates out: E_i = V_i (table 2).
        decoder_width: Channels in the decoder; 4 times the first stage's by default.

    Raises ValueError for sizes that do not fit each other. Source: Yang et al. (2022), section 3.
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
            raise ValueError(f"heads must be one number, or one for each of {len(widths)} stages, given {tuple(heads)}")
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
        word_mask: Bool[Tensor, "batch word"],
        return_weights: bool = False,
    ) -> Float[Tensor, "batch 2 height width"] | tuple[Float[Tensor, "batch 2 height width"], list[Tensor]]:
        """Logits of background and referent for each pixel. `word_mask` is True for words, False for padding.

        With `return_weights` also the attention weights of each stage (batch, head, row, column, word). Raises
        ValueError for images and sentences that do not fit each other and for images too small, TypeError for a mask
        that is not boolean.
        """
        check_words(images, ids, word_mask)
        self._check_size(images)
        stages = self.stages(images, self.language(ids, word_mask), word_mask)
        logits = self.decoder([norm(stage.fused) for norm, stage in zip(self.image_encoder.norms, stages)])
        height, width = images.shape[2:]
        logits = resize(logits, (height, width))
        return (logits, [stage.weights for stage in stages]) if return_weights else logits

    @shaped
    def stages(
        self,
        images: Float[Tensor, "batch channel height width"],
        words: Float[Tensor, "batch word words_width"],
        word_mask: Bool[Tensor, "batch word"],
    ) -> list[StageMaps]:
        """Run the stages on images and encoded words, finest stage first. Raises ValueError for images too small."""
        self._check_size(images)
        swin, stages = self.image_encoder, []
        maps = swin.embed(images)
        for i, fusion in enumerate(self.fusions):
            if i:
                maps = swin.merges[i - 1](maps)
            vision = swin.stages[i](maps)
            fused, weights = fusion(vision, words, word_mask, return_weights=True)
            maps = self.pathways[i](vision, fused) if self.pathways else vision
            stages.append(StageMaps(vision, fused, maps, weights))
        return stages

    def _check_size(self, images: Tensor) -> None:
        # An instance norm needs two pixels, also in the coarsest stage.
        pixel = self.image_encoder.patch_embedding.patch * 2 ** (len(self.fusions) - 1)
        if self.pwam and prod([-(-side // pixel) for side in images.shape[2:]]) < 2:
            raise ValueError(
                f"the last stage makes one pixel of {pixel} x {pixel}, and PWAM needs two or more: images must be "
                f"{pixel} x {pixel + 1} or larger, given {' x '.join(map(str, images.shape[2:]))}"
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
    """Build a LAVT from the arguments of its `Swin` and its own; `create_model` calls this.

    Args:
        width, depths, heads, window, patch, channels: As in `Swin`.
        stochastic_depth: As in `Swin`; the paper trains with 0.3.
        language: As in `LAVT`; by default a BERT-base with random weights.
        word_heads: PWAM's heads, `heads` of `LAVT`.
        pwam, language_pathway, decoder_width: As in `LAVT`.

    Raises ValueError for sizes that do not fit each other.
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
