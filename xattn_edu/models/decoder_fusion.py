"""Referring segmentation before LAVT: words and image meet in a Transformer decoder, after both were encoded.

    image -> Swin ------------> image tokens ---\\
                                                 >-- Transformer decoder -> convolutions -> mask
    words -> language encoder -> Transformer ---/
                                 encoder

The image encoder does not receive the words. Image tokens on a coarse grid attend to the words in the encoder-decoder
attention of Vaswani et al. (2017): the words are the source, the image is the target.

This is paradigm (a) of Yang et al., "LAVT" (2022), figure 1. Its best known example is VLT (Ding et al.,
"Vision-Language Transformer and Query Generation for Referring Segmentation", 2021). The model here is simpler than
VLT: it generates no queries; every image token is a query.
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
    """Add the last three stages of the image encoder, on the grid of the last but one (1/16 of the image in Swin).

    A linear layer (a 1x1 convolution) brings each stage to `width` channels, and the stages are resized to one grid
    and added. A 3x3 convolution then mixes neighbours.
    """

    def __init__(self, widths: tuple[int, ...], width: int):
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(stage, width) for stage in widths[-3:])
        self.mix = ConvNormReLU(width, width)

    @shaped
    def forward(self, stages: list[Tensor]) -> Float[Tensor, "batch width row column"]:
        """`stages` are the maps (batch, row, column, channel) of all stages, finest first."""
        row, column = stages[-2].shape[1:3]
        maps = [
            resize(rearrange(project(stage), "batch row column width -> batch width row column"), (row, column))
            for project, stage in zip(self.projections, stages[-3:])
        ]
        return self.mix(torch.stack(maps).sum(dim=0))


class MaskHead(nn.Module):
    """Two logits for each pixel of a grid 8 times as fine: three times, halve the channels and double the size."""

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
    """A Swin without words, a Transformer, and a head that makes the mask.

    The Transformer's source are the words, and its target is the image: its encoder takes the words, and its decoder
    the image tokens, which attend to the words. Both are pre-norm.

    Args:
        image_encoder: A Swin of three stages or more.
        language: An encoder from `models.language`, or any module (ids, mask) -> words (batch, word, channel) with the
            attribute `width`, the number of channels.
        width: Channels of the Transformer's tokens, a multiple of 8 and of `heads`.
        depth: Layers of the Transformer's encoder, and of its decoder.
        heads: Attention heads.
        hidden: Hidden width of the feed-forward layers; 4 * `width` by default.
        dropout: Rate of dropout in the Transformer.

    Raises ValueError for fewer stages, and for a width that is not such a multiple.
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
            raise ValueError(
                f"three stages are fused, but the image encoder has {len(image_encoder.widths)}: give it more depths"
            )
        if width % 8:
            raise ValueError(f"width is halved three times and must be a multiple of 8, given {width}")
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
        word_mask: Bool[Tensor, "batch word"],
        return_weights: bool = False,
    ) -> Float[Tensor, "batch 2 height width"] | tuple[Float[Tensor, "batch 2 height width"], list[Tensor]]:
        """Logits of background and referent for each pixel. `word_mask` is True for words, False for padding.

        With `return_weights` also the attention weights of each decoder layer, from image to words (batch, head, row,
        column, word). Raises ValueError for images and sentences that do not fit each other, TypeError for a mask that
        is not boolean.
        """
        check_words(images, ids, word_mask)
        maps = self.scale_fusion(self.image_encoder(images))  # no words in here
        row, column = maps.shape[2:]

        only_words = word_mask[:, None]  # (batch, 1, word): no query attends to padding
        words, _ = self.encoder(self.word_projection(self.language(ids, word_mask)), only_words)
        tokens = rearrange(maps, "batch width row column -> batch (row column) width")
        tokens = tokens + sincos_positions((row, column), tokens.shape[2]).to(tokens)
        weights = []
        for layer in self.decoder:  # no causal mask: all image tokens are known from the start
            tokens, (_, to_words) = layer(tokens, words, None, only_words, return_weights)
            if return_weights:
                weights.append(to_words.unflatten(2, (row, column)))
        maps = rearrange(self.norm(tokens), "batch (row column) width -> batch width row column", row=row)

        height, width = images.shape[2:]
        logits = resize(self.head(maps), (height, width))
        return (logits, weights) if return_weights else logits
