"""The Transformer: an encoder, a decoder that attends to the encoder's output, and caches of keys and values.

Tokens are (batch, token, width), ids (batch, token). A mask is True where a query may attend to a key.

Source: Vaswani et al., "Attention Is All You Need" (2017), section 3.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.attention import KeysValues, Mask, MultiHeadAttention, causal_mask
from xattn_edu.models.layers import values_are_known
from xattn_edu.models.positions import sinusoidal_positions
from xattn_edu.shapes import shaped


@dataclass
class AttentionMaps:
    """The attention weights of all layers, first layer first, each (batch, head, query, key)."""

    encoder: list[Tensor] = field(default_factory=list)  # source tokens to source tokens
    decoder: list[Tensor] = field(default_factory=list)  # target tokens to themselves and those before them
    cross: list[Tensor] = field(default_factory=list)  # target tokens to source tokens


@shaped
def padding_mask(ids: Int[Tensor, "batch token"], pad: int = 0) -> Bool[Tensor, "batch 1 token"]:
    """A mask for attention: True for tokens, False for padding, to which no query may attend."""
    return (ids != pad)[:, None, :]


class FeedForward(nn.Module):
    """max(0, x W_1 + b_1) W_2 + b_2 on each token by itself: (batch, token, width) to the same shape.

    Source: Vaswani et al. (2017), section 3.3, equation (2).
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    @shaped
    def forward(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        return self.fc2(F.relu(self.fc1(tokens)))


class Residual(nn.Module):
    """The LayerNorm and the dropout of one residual connection; the layers below apply them in their order."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(dropout)


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network, each with a residual connection.

    Post-norm, as in the paper, is x = norm(x + f(x)) for each part f; pre-norm is x = x + f(norm(x)). Raises ValueError
    if `heads` does not divide `width`.

    Source: Vaswani et al. (2017), section 3.1; Xiong et al., "On Layer Normalization in the Transformer Architecture"
    (2020), figure 1.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1, pre_norm: bool = False):
        super().__init__()
        self.attention = MultiHeadAttention(width, heads)
        self.feed_forward = FeedForward(width, hidden)
        self.residual1, self.residual2 = (Residual(width, dropout) for _ in range(2))
        self.pre_norm = pre_norm

    @shaped
    def forward(
        self, tokens: Float[Tensor, "batch token width"], mask: Mask | None = None, return_weights: bool = False
    ) -> tuple[Float[Tensor, "batch token width"], Float[Tensor, "batch head token token"] | None]:
        """Tokens to tokens, and the weights with `return_weights` (else None). Errors are those of attention."""
        first, second = self.residual1, self.residual2
        if self.pre_norm:
            mixed, weights = self._attend(first.norm(tokens), mask, return_weights)
            tokens = tokens + first.drop(mixed)
            tokens = tokens + second.drop(self.feed_forward(second.norm(tokens)))
        else:
            mixed, weights = self._attend(tokens, mask, return_weights)
            tokens = first.norm(tokens + first.drop(mixed))
            tokens = second.norm(tokens + second.drop(self.feed_forward(tokens)))
        return tokens, weights

    def _attend(self, tokens: Tensor, mask: Tensor | None, return_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Self-attention: queries, keys and values from the same tokens."""
        found = self.attention(tokens, mask=mask, return_weights=return_weights)
        return found if return_weights else (found, None)


@dataclass
class LayerCache:
    """The keys and values that one decoder layer has computed and need not compute again."""

    target: KeysValues | None = None  # of the target tokens so far: one more after each step
    source: KeysValues | None = None  # of the encoder's output: computed once


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the encoder's output, the feed-forward network, each with a residual.

    Post-norm and pre-norm are as in `EncoderLayer`. The self-attention is causal if its mask is. Raises ValueError if
    `heads` does not divide `width`.

    Source: Vaswani et al. (2017), section 3.1.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1, pre_norm: bool = False):
        super().__init__()
        self.attention = MultiHeadAttention(width, heads)
        self.cross_attention = MultiHeadAttention(width, heads)
        self.feed_forward = FeedForward(width, hidden)
        self.residual1, self.residual2, self.residual3 = (Residual(width, dropout) for _ in range(3))
        self.pre_norm = pre_norm

    @shaped
    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        memory: Float[Tensor, "batch source width"],
        mask: Mask | None = None,
        memory_mask: Mask | None = None,
        return_weights: bool = False,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Tensor, "batch token width"], tuple[Tensor | None, Tensor | None]]:
        """Tokens to tokens, and the weights of self- and cross-attention with `return_weights` (else None).

        Args:
            tokens: target tokens; with a `cache`, only those that follow the tokens in it.
            memory: the encoder's output.
            mask: to which target tokens, those in the cache included, a target token may attend.
            memory_mask: to which tokens of the memory a target token may attend.
            return_weights: also return the weights, (batch, head, token, token) and (batch, head, token, source).
            cache: keys and values that exist already; those of `tokens` are added to it.

        Errors are those of attention.
        """
        cache = LayerCache() if cache is None else cache
        first, second, third = self.residual1, self.residual2, self.residual3
        if self.pre_norm:
            mixed, to_target = self._attend_to_target(first.norm(tokens), mask, return_weights, cache)
            tokens = tokens + first.drop(mixed)
            mixed, to_source = self._attend_to_source(second.norm(tokens), memory, memory_mask, return_weights, cache)
            tokens = tokens + second.drop(mixed)
            tokens = tokens + third.drop(self.feed_forward(third.norm(tokens)))
        else:
            mixed, to_target = self._attend_to_target(tokens, mask, return_weights, cache)
            tokens = first.norm(tokens + first.drop(mixed))
            mixed, to_source = self._attend_to_source(tokens, memory, memory_mask, return_weights, cache)
            tokens = second.norm(tokens + second.drop(mixed))
            tokens = third.norm(tokens + third.drop(self.feed_forward(tokens)))
        return tokens, (to_target, to_source)

    def _attend_to_target(
        self, tokens: Tensor, mask: Tensor | None, return_weights: bool, cache: LayerCache
    ) -> tuple[Tensor, Tensor | None]:
        """Self-attention: keys and values from the same tokens, behind those of the tokens before them."""
        key, value = self.attention.keys_and_values(tokens)
        if cache.target is not None:
            key, value = torch.cat([cache.target[0], key], dim=2), torch.cat([cache.target[1], value], dim=2)
        cache.target = key, value
        found = self.attention(tokens, mask=mask, keys_values=(key, value), return_weights=return_weights)
        return found if return_weights else (found, None)

    def _attend_to_source(
        self, tokens: Tensor, memory: Tensor, mask: Tensor | None, return_weights: bool, cache: LayerCache
    ) -> tuple[Tensor, Tensor | None]:
        """Cross-attention: keys and values from the encoder's output, computed once for all steps."""
        if cache.source is None:
            cache.source = self.cross_attention.keys_and_values(memory)
        found = self.cross_attention(tokens, mask=mask, keys_values=cache.source, return_weights=return_weights)
        return found if return_weights else (found, None)


class Encoder(nn.Module):
    """`depth` encoder layers, one after another, and with `final_norm` a LayerNorm on their output.

    Args:
        width: channels of a token.
        depth: number of layers, 1 or more.
        heads: number of attention heads; it divides the width.
        hidden: channels between the two linear layers of the feed-forward network.
        dropout: rate, on the output of each attention and each feed-forward network.
        pre_norm: normalise before each part of a layer, not after it.
        final_norm: by default, only with `pre_norm`, whose last output is not normalised otherwise.

    Raises ValueError for a depth below 1 and heads that do not divide the width.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        dropout: float = 0.1,
        pre_norm: bool = False,
        final_norm: bool | None = None,
    ):
        super().__init__()
        _check_depth(depth)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout, pre_norm) for _ in range(depth))
        self.norm = nn.LayerNorm(width) if (pre_norm if final_norm is None else final_norm) else nn.Identity()

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, return_weights: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Tokens (batch, token, width) to tokens, and each layer's weights with `return_weights`.

        `mask` and errors are those of `MultiHeadAttention`.
        """
        maps = []
        for layer in self.layers:
            tokens, weights = layer(tokens, mask, return_weights)
            if weights is not None:
                maps.append(weights)
        return self.norm(tokens), maps


class Decoder(nn.Module):
    """`depth` decoder layers, which all attend to the same memory, and with `final_norm` a LayerNorm on their output.

    Args:
        width, depth, heads, hidden, dropout, pre_norm, final_norm: as in `Encoder`.

    Raises ValueError for a depth below 1 and heads that do not divide the width.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        dropout: float = 0.1,
        pre_norm: bool = False,
        final_norm: bool | None = None,
    ):
        super().__init__()
        _check_depth(depth)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden, dropout, pre_norm) for _ in range(depth))
        self.norm = nn.LayerNorm(width) if (pre_norm if final_norm is None else final_norm) else nn.Identity()

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        return_weights: bool = False,
        caches: list[LayerCache] | None = None,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Tokens (batch, token, width) to tokens, and with `return_weights` the (self, cross) weights of each layer.

        No token attends to a later one. So padding of the target needs no mask: it comes after all other tokens.
        With `caches`, one a layer, `tokens` are only those that follow the tokens in the caches.
        """
        new, past = tokens.shape[1], 0
        if caches is not None and caches[0].target is not None:
            past = caches[0].target[0].shape[2]
        mask = causal_mask(past + new, tokens.device)[:, past:] if new > 1 else None  # one new token may attend to all
        maps = []
        for number, layer in enumerate(self.layers):
            cache = None if caches is None else caches[number]
            tokens, weights = layer(tokens, memory, mask, memory_mask, return_weights, cache)
            maps.append(weights)
        return self.norm(tokens), maps if return_weights else []


@dataclass
class Cache:
    """The state of decoding: what the next step needs of the source and of the tokens so far."""

    memory: Tensor
    memory_mask: Tensor
    layers: list[LayerCache]
    length: int = 0  # tokens so far

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order: so beam search drops some hypotheses and doubles others."""
        self.memory, self.memory_mask = self.memory[rows], self.memory_mask[rows]
        for layer in self.layers:
            layer.target = None if layer.target is None else (layer.target[0][rows], layer.target[1][rows])
            layer.source = None if layer.source is None else (layer.source[0][rows], layer.source[1][rows])


class Transformer(nn.Module):
    """The whole model: from the ids of a source and a target to the logits of each next target token.

    One matrix is the embedding of source and target and, transposed, the last layer (section 3.4). The defaults are the
    paper's base model. With the paper's 37,000 tokens it has 63,082,496 parameters here: 18.9 M in the shared matrix,
    18.9 M in the encoder, 25.2 M in the decoder, every linear layer with a bias. The paper's table 3 gives 65 M and
    does not say how they are counted.

    Args:
        vocabulary: number of different ids.
        width, depth, heads, hidden, dropout, pre_norm, final_norm: as in `Encoder`, for encoder and decoder.
        pad: the id that fills up short rows.
        start: the id before a target.
        end: the id after a target.

    Raises ValueError for sizes below 1, an odd width, heads that do not divide it, and special ids that are equal or
    outside the vocabulary.

    Source: Vaswani et al. (2017), section 3.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 512,
        depth: int = 6,
        heads: int = 8,
        hidden: int = 2048,
        *,
        dropout: float = 0.1,
        pre_norm: bool = False,
        final_norm: bool | None = None,
        pad: int = 0,
        start: int = 1,
        end: int = 2,
    ):
        super().__init__()
        if len({pad, start, end}) < 3 or not all(0 <= special < vocabulary for special in (pad, start, end)):
            raise ValueError(
                f"pad, start and end must be three ids below vocabulary={vocabulary}, given {pad}, {start}, {end}"
            )
        if hidden < 1:
            raise ValueError(f"hidden must be 1 or more, given {hidden}")
        sinusoidal_positions(1, width)  # raises ValueError for an odd width
        self.vocabulary, self.pad, self.start, self.end = vocabulary, pad, start, end
        self.embedding = nn.Embedding(vocabulary, width)
        self.drop = nn.Dropout(dropout)
        self.encoder = Encoder(width, depth, heads, hidden, dropout, pre_norm, final_norm)
        self.decoder = Decoder(width, depth, heads, hidden, dropout, pre_norm, final_norm)
        self._initialise()

    @shaped
    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"], return_weights: bool = False
    ) -> Float[Tensor, "batch target vocabulary"] | tuple[Float[Tensor, "batch target vocabulary"], AttentionMaps]:
        """Logits of the token that follows each target token (teacher forcing); all weights with `return_weights`.

        Raises TypeError for ids that are not whole numbers, ValueError for ids outside the vocabulary and for a source
        and a target of different batch sizes.
        """
        self._check_ids(source, "source")
        self._check_ids(target, "target")
        if source.shape[0] != target.shape[0]:
            raise ValueError(f"source and target differ in batch: {tuple(source.shape)}, {tuple(target.shape)}")
        memory, memory_mask, to_itself = self.encode(source, return_weights)
        tokens, maps = self.decoder(self.embed(target), memory, memory_mask, return_weights)
        logits = self.logits(tokens)
        if not return_weights:
            return logits
        return logits, AttentionMaps(to_itself, [layer[0] for layer in maps], [layer[1] for layer in maps])

    def encode(self, source: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the encoder on ids: its output (the memory), the memory's mask, and weights with `return_weights`."""
        mask = padding_mask(source, self.pad)
        memory, maps = self.encoder(self.embed(source), mask, return_weights)
        return memory, mask, maps

    def embed(self, ids: Tensor, first: int = 0) -> Tensor:
        """Embeddings times sqrt(width), plus the codes of the positions from `first` on.

        Source: Vaswani et al. (2017), sections 3.4 and 3.5.
        """
        embedded = self.embedding(ids)
        width = embedded.shape[-1]
        return self.drop(embedded * width**0.5 + sinusoidal_positions(ids.shape[1], width, first).to(embedded))

    def logits(self, tokens: Tensor) -> Tensor:
        """The dot product of each token with each row of the embedding: (..., width) to (..., vocabulary).

        Source: Vaswani et al. (2017), section 3.4.
        """
        return F.linear(tokens, self.embedding.weight)

    def begin(self, source: Int[Tensor, "batch source"]) -> Cache:
        """Run the encoder, once, and return the state before the first step. Errors are those of `forward`."""
        self._check_ids(source, "source")
        memory, memory_mask, _ = self.encode(source)
        return Cache(memory, memory_mask, [LayerCache() for _ in self.decoder.layers])

    @shaped
    def step(self, last: Int[Tensor, " batch"], cache: Cache) -> Float[Tensor, "batch vocabulary"]:
        """Logits of the token that follows `last`, the newest token of each row, which is added to the cache.

        Errors are those of `forward`; ValueError also unless the cache has as many rows as `last`.
        """
        self._check_ids(last[:, None], "last")
        if last.shape[0] != cache.memory.shape[0]:
            raise ValueError(
                f"last must be one token for each of the cache's {len(cache.memory)} rows, given {len(last)}"
            )
        tokens = self.embed(last[:, None], first=cache.length)
        tokens, _ = self.decoder(tokens, cache.memory, cache.memory_mask, caches=cache.layers)
        cache.length += 1
        return self.logits(tokens[:, 0])

    def _check_ids(self, ids: Tensor, name: str) -> None:
        if not isinstance(ids, Tensor):
            raise TypeError(f"{name} must be a tensor of ids, given a {type(ids).__name__}: write torch.tensor(ids)")
        if ids.ndim != 2 or ids.shape[1] < 1:
            raise ValueError(f"{name} must be ids (batch, token), one token at least, given {tuple(ids.shape)}")
        if ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} must be whole numbers, int64 or int32, given {ids.dtype}: write ids.long()")
        if values_are_known(ids) and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocabulary:
            raise ValueError(
                f"{name} has ids from {int(ids.min())} to {int(ids.max())}, but the vocabulary's are 0 to "
                f"{self.vocabulary - 1}"
            )

    def _initialise(self) -> None:
        """Uniform weights (Glorot and Bengio, 2010) for linear layers, zero biases, embeddings of about unit length."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.5)


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise ValueError(f"depth is a number of layers, 1 or more, given {depth}")
