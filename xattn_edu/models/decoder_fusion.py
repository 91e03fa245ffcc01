"""Referring segmentation as it was done before LAVT: the image encoder never hears the words.

    image -> Swin ------------> image tokens ---\\
                                                 >-- Transformer decoder -> convolutions -> mask
    words -> language encoder -> Transformer ---/
                                 encoder

Only at the end, on a coarse grid, do image tokens ask the words, by the encoder-decoder attention of Vaswani et al.:
the words are the source, the image is the target. It is paradigm (a) of Yang et al., "LAVT" (2022), figure 1; its best
known example is VLT (Ding et al., "Vision-Language Transformer and Query Generation for Referring Segmentation", 2021).
This is the paradigm, not VLT: no queries are generated, every image token asks for itself.
"""

from typing import cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xattn_edu.models.masks import ConvNormReLU, check_words, resize
from xattn_edu.models.positions import sincos_positions
from xattn_edu.models.swin import Swin
from xattn_edu.models.transformer import DecoderLayer, Encoder
from xattn_edu.shapes import shaped


class ScaleFusion(nn.Module):
    """The last three stages of the image encoder on one grid, that of the last but one (1/16 of the image in Swin).

    Each is brought to `width` channels by a linear layer (a 1x1 convolution) and resized; they are added, and a 3x3
    convolution mixes neighbours.
    """

    def __init__(self, widths: tuple[int, ...], width: int):
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(stage, width) for stage in widths[-3:])
        self.mix = ConvNormReLU(width, width)

    @shaped
    def forward(self, stages: list[Tensor]) -> Float[Tensor, "batch width row column"]:
        """`stages`: the maps (batch, row, column, channel) of all stages, finest first."""
        row, column = stages[-2].shape[1:3]
        maps = [
            resize(rearrange(project(stage), "batch row column width -> batch width row column"), (row, column))
            for project, stage in zip(self.projections, stages[-3:])
        ]
        return self.mix(torch.stack(maps).sum(dim=0))


class MaskHead(nn.Module):
    """From the coarse grid to two logits a pixel: three times a convolution that halves the channels, twice the size."""

    def __init__(self, width: int):
        super().__init__()
        widths = [width, width // 2, width // 4, width // 8]
        self.convolutions = nn.ModuleList(ConvNormReLU(*pair) for pair in zip(widths, widths[1:]))
        self.logits = nn.Conv2d(widths[-1], 2, kernel_size=1)

    @shaped
    def forward(self, maps: Float[Tensor, "batch width row column"]) -> Float[Tensor, "batch 2 height width_out"]:
        for convolution in self.convolutions:
            maps = convolution(maps)
            maps = resize(maps, (2 * maps.shape[2], 2 * maps.shape[3]))
        return self.logits(maps)


class DecoderFusion(nn.Module):
    """A language-free Swin, a Transformer whose source are the words and whose target is the image, a mask.

    `image_encoder` is a Swin of three stages or more; `language` any encoder of `xattn_edu.language`: a module
    (ids, mask) -> words (batch, word, channel) with the attribute `width`. The Transformer has `depth` encoder layers
    for the words and `depth` decoder layers for the image tokens, pre-norm. Raises ValueError for widths that do not fit.
    """

    def __init__(
        self,
        image_encoder: Swin,
        language: nn.Module,
        width: int = 256,
        depth: int = 2,
        heads: int = 8,
        hidden: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        if len(image_encoder.widths) < 3:
            raise ValueError(f"three scales are fused, but the image encoder has {len(image_encoder.widths)} stages")
        if width % 8:
            raise ValueError(f"width is halved three times: it must be a multiple of 8, given {width}")
        hidden = 4 * width if hidden is None else hidden
        self.image_encoder, self.language = image_encoder, language
        self.scale_fusion = ScaleFusion(image_encoder.widths, width)
        self.word_projection = nn.Linear(cast(int, language.width), width)
        self.encoder = Encoder(width, depth, heads, hidden, dropout, pre_norm=True)
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, hidden, dropout, pre_norm=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = MaskHead(width)

    @shaped
    def forward(
        self,
        images: Float[Tensor, "batch channel height width"],
        ids: Int[Tensor, "batch word"],
        mask: Bool[Tensor, "batch word"],
        return_weights: bool = False,
    ) -> Float[Tensor, "batch 2 height width"] | tuple[Float[Tensor, "batch 2 height width"], list[Tensor]]:
        """Logits of background and referent for each pixel of each image; `mask` is True where a word counts.

        With `return_weights` also the attention of each decoder layer from image to words, (batch, head, row, column,
        word). Raises ValueError for images and sentences that do not fit, TypeError for a mask that is not boolean.
        """
        check_words(images, ids, mask)
        maps = self.scale_fusion(self.image_encoder(images))  # nothing here has seen a word
        row, column = maps.shape[2:]

        only_words = mask[:, None]  # (batch, 1, word): no query may look at padding
        words, _ = self.encoder(self.word_projection(self.language(ids, mask)), only_words)
        tokens = rearrange(maps, "batch width row column -> batch (row column) width")
        tokens = tokens + sincos_positions((row, column), tokens.shape[2]).to(tokens)
        weights = []
        for layer in self.decoder:  # all image tokens are there at once: no causal mask
            tokens, (_, to_words) = layer(tokens, words, None, only_words, return_weights)
            if return_weights:
                weights.append(to_words.unflatten(2, (row, column)))
        maps = rearrange(self.norm(tokens), "batch (row column) width -> batch width row column", row=row)

        height, width = images.shape[2:]
        logits = resize(self.head(maps), (height, width))
        return (logits, weights) if return_weights else logits
