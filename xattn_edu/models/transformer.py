"""The Transformer: an encoder, a decoder whose cross-attention reads it, and decoding with cached keys and values.

Source: Vaswani et al., "Attention Is All You Need" (2017); section and equation numbers are that paper's. Tokens are
(batch, token, width), ids (batch, token); masks are True where a token counts.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.attention import Mask, MultiHeadAttention, causal_mask
from xattn_edu.models.positions import sinusoidal_positions
from xattn_edu.shapes import shaped


@dataclass
class AttentionMaps:
    """The weights of every layer, first layer first, each (batch, head, query, key)."""

    encoder: list[Tensor] = field(default_factory=list)  # source tokens to source tokens
    decoder: list[Tensor] = field(default_factory=list)  # target tokens to themselves and those before them
    cross: list[Tensor] = field(default_factory=list)  # target tokens to source tokens


@shaped
def padding_mask(ids: Int[Tensor, "batch token"], pad: int = 0) -> Bool[Tensor, "batch 1 token"]:
    """True where a token counts, False where it only fills the row: which keys a query may look at."""
    return (ids != pad)[:, None, :]


class FeedForward(nn.Module):
    """Linear, ReLU, Linear on every token by itself: equation (2)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    @shaped
    def forward(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        return self.fc2(F.relu(self.fc1(tokens)))


class Residual(nn.Module):
    """What stands around a sub-layer f: LayerNorm(x + f(x)) as published, or x + f(LayerNorm(x)) with `pre_norm`.

    Source: section 3.1; pre-norm: Xiong et al., "On Layer Normalization in the Transformer Architecture" (2020).
    """

    def __init__(self, width: int, dropout: float, pre_norm: bool):
        super().__init__()
        self.norm, self.drop, self.pre_norm = nn.LayerNorm(width), nn.Dropout(dropout), pre_norm

    def before(self, tokens: Tensor) -> Tensor:
        """What the sub-layer reads."""
        return self.norm(tokens) if self.pre_norm else tokens

    def after(self, tokens: Tensor, output: Tensor) -> Tensor:
        """The tokens with the sub-layer's output added."""
        tokens = tokens + self.drop(output)
        return tokens if self.pre_norm else self.norm(tokens)


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network: section 3.1."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1, pre_norm: bool = False):
        super().__init__()
        self.attention = MultiHeadAttention(width, heads)
        self.feed_forward = FeedForward(width, hidden)
        self.residual1, self.residual2 = (Residual(width, dropout, pre_norm) for _ in range(2))

    @shaped
    def forward(
        self, tokens: Float[Tensor, "batch token width"], mask: Mask | None = None, return_weights: bool = False
    ) -> tuple[Float[Tensor, "batch token width"], Float[Tensor, "batch head token token"] | None]:
        """Tokens to tokens, and the weights if asked for."""
        asking = self.residual1.before(tokens)
        mixed, weights = self.attention.attend(asking, *self.attention.keys_and_values(asking), mask, return_weights)
        tokens = self.residual1.after(tokens, mixed)
        return self.residual2.after(tokens, self.feed_forward(self.residual2.before(tokens))), weights


KeysValues = tuple[Float[Tensor, "batch head key dim"], Float[Tensor, "batch head key dim"]]


@dataclass
class LayerCache:
    """The keys and values that one decoder layer has made and need not make again."""

    target: KeysValues | None = None  # of the tokens written so far: one more with each step
    source: KeysValues | None = None  # of the encoder's output: made once


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the encoder's output, the feed-forward network: section 3.1."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1, pre_norm: bool = False):
        super().__init__()
        self.attention = MultiHeadAttention(width, heads)
        self.cross_attention = MultiHeadAttention(width, heads)
        self.feed_forward = FeedForward(width, hidden)
        self.residual1, self.residual2, self.residual3 = (Residual(width, dropout, pre_norm) for _ in range(3))

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
        """Tokens to tokens, and the weights of self- and cross-attention if asked for.

        With a `cache` the tokens are new ones, which follow those whose keys and values it holds; it grows by them.
        """
        cache = LayerCache() if cache is None else cache
        asking = self.residual1.before(tokens)
        key, value = self.attention.keys_and_values(asking)
        if cache.target is not None:
            key, value = torch.cat([cache.target[0], key], dim=2), torch.cat([cache.target[1], value], dim=2)
        cache.target = key, value
        mixed, to_target = self.attention.attend(asking, *cache.target, mask, return_weights)
        tokens = self.residual1.after(tokens, mixed)

        if cache.source is None:  # keys and values are the source's: this makes it a translator
            cache.source = self.cross_attention.keys_and_values(memory)
        asking = self.residual2.before(tokens)
        mixed, to_source = self.cross_attention.attend(asking, *cache.source, memory_mask, return_weights)
        tokens = self.residual2.after(tokens, mixed)

        tokens = self.residual3.after(tokens, self.feed_forward(self.residual3.before(tokens)))
        return tokens, (to_target, to_source)


class Encoder(nn.Module):
    """`depth` encoder layers (1 or more); `final_norm` adds a LayerNorm at the end, which pre-norm needs (and has by default)."""

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
        """Tokens (batch, token, width) to tokens, and each layer's weights if asked for; `mask` as in attention."""
        maps = []
        for layer in self.layers:
            tokens, weights = layer(tokens, mask, return_weights)
            if weights is not None:
                maps.append(weights)
        return self.norm(tokens), maps


class Decoder(nn.Module):
    """`depth` decoder layers (1 or more), every one of which reads the same memory; `final_norm` as in the encoder."""

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
        """Tokens (batch, token, width) to tokens, and (self, cross) weights of each layer if asked for.

        No token sees a later one. Padding needs no mask here: it stands at the end, where no valid token looks.
        With `caches`, one a layer, the tokens are new ones that follow those before.
        """
        new, past = tokens.shape[1], 0
        if caches is not None and caches[0].target is not None:
            past = caches[0].target[0].shape[2]
        mask = causal_mask(past + new, tokens.device)[:, past:] if new > 1 else None  # one new token sees all
        maps = []
        for number, layer in enumerate(self.layers):
            cache = None if caches is None else caches[number]
            tokens, weights = layer(tokens, memory, mask, memory_mask, return_weights, cache)
            maps.append(weights)
        return self.norm(tokens), maps if return_weights else []


@dataclass
class Cache:
    """Where decoding stands: all that the next step needs to know of the source and of the tokens so far."""

    memory: Tensor
    memory_mask: Tensor
    layers: list[LayerCache]
    length: int = 0  # tokens so far

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, as beam search does when it drops one hypothesis and doubles another."""
        self.memory, self.memory_mask = self.memory[rows], self.memory_mask[rows]
        for layer in self.layers:
            layer.target = None if layer.target is None else (layer.target[0][rows], layer.target[1][rows])
            layer.source = None if layer.source is None else (layer.source[0][rows], layer.source[1][rows])


class Transformer(nn.Module):
    """From a sentence of ids to the next token's logits: the whole model, its defaults the paper's base model.

    One matrix is the embedding of source and target and, transposed, the last layer (section 3.4). `pad` fills up rows,
    `start` stands before a target and `end` behind it. Raises ValueError for sizes that make no model.

    The base model with the paper's 37,000 tokens has 63,082,496 parameters here: 18.9 M in the shared matrix, 18.9 M in
    the encoder, 25.2 M in the decoder, every linear layer with a bias. The paper's table 3 says 65 M without a count.
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
        sinusoidal_positions(1, width)  # refuses an odd width
        self.pad, self.start, self.end = pad, start, end
        self.embedding = nn.Embedding(vocabulary, width)
        self.drop = nn.Dropout(dropout)
        self.encoder = Encoder(width, depth, heads, hidden, dropout, pre_norm, final_norm)
        self.decoder = Decoder(width, depth, heads, hidden, dropout, pre_norm, final_norm)
        self._initialise()

    @shaped
    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"], return_weights: bool = False
    ) -> Float[Tensor, "batch target vocabulary"] | tuple[Float[Tensor, "batch target vocabulary"], AttentionMaps]:
        """Logits of the token that follows each target token (teacher forcing), and all weights if asked for.

        Raises TypeError for ids that are not whole numbers, ValueError for ids outside the vocabulary.
        """
        self._check(source, "source")
        self._check(target, "target")
        if len(source) != len(target):
            raise ValueError(f"source and target differ in batch: {tuple(source.shape)}, {tuple(target.shape)}")
        memory, memory_mask, to_itself = self.encode(source, return_weights)
        tokens, maps = self.decoder(self.embed(target), memory, memory_mask, return_weights)
        logits = self.logits(tokens)
        if not return_weights:
            return logits
        return logits, AttentionMaps(to_itself, [layer[0] for layer in maps], [layer[1] for layer in maps])

    def encode(self, source: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(memory, mask of the memory, weights if asked for): the encoder's last layer, which the decoder reads."""
        mask = padding_mask(source, self.pad)
        memory, maps = self.encoder(self.embed(source), mask, return_weights)
        return memory, mask, maps

    def embed(self, ids: Tensor, first: int = 0) -> Tensor:
        """Embeddings times sqrt(width), plus positions counted from `first`: sections 3.4 and 3.5."""
        width = self.embedding.embedding_dim
        positions = sinusoidal_positions(ids.shape[1], width, first).to(self.embedding.weight)
        return self.drop(self.embedding(ids) * width**0.5 + positions)

    def logits(self, tokens: Tensor) -> Tensor:
        """A score for each word of the vocabulary: how well the token agrees with the word's embedding."""
        return F.linear(tokens, self.embedding.weight)

    def begin(self, source: Int[Tensor, "batch source"]) -> Cache:
        """Read the source: run the encoder, once. Nothing is written yet."""
        self._check(source, "source")
        memory, memory_mask, _ = self.encode(source)
        return Cache(memory, memory_mask, [LayerCache() for _ in self.decoder.layers])

    @shaped
    def step(self, last: Int[Tensor, " batch"], cache: Cache) -> Float[Tensor, "batch vocabulary"]:
        """Logits of the token that follows `last`, the newest token of each row; the cache grows by it."""
        self._check(last[:, None], "last")
        if len(last) != len(cache.memory):
            raise ValueError(f"one token for each of the cache's {len(cache.memory)} rows, given {len(last)}")
        tokens = self.embed(last[:, None], first=cache.length)
        tokens, _ = self.decoder(tokens, cache.memory, cache.memory_mask, caches=cache.layers)
        cache.length += 1
        return self.logits(tokens[:, 0])

    def _check(self, ids: Tensor, name: str) -> None:
        if not isinstance(ids, Tensor):
            raise TypeError(f"{name} must be a tensor of ids, given a {type(ids).__name__}: write torch.tensor(ids)")
        if ids.ndim != 2 or ids.shape[1] < 1:
            raise ValueError(f"{name} must be ids (batch, token), one token at least, given {tuple(ids.shape)}")
        if ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} must be whole numbers, int64 or int32, given {ids.dtype}: write ids.long()")
        if (
            not ids.is_meta
            and ids.numel()
            and not 0 <= int(ids.min()) <= int(ids.max()) < self.embedding.num_embeddings
        ):
            raise ValueError(
                f"{name} has ids from {int(ids.min())} to {int(ids.max())}, but the vocabulary's are 0 to "
                f"{self.embedding.num_embeddings - 1}"
            )

    def _initialise(self) -> None:
        """Xavier's uniform for matrices (Glorot and Bengio, 2010), zero biases, embeddings of about unit length."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.5)


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise ValueError(f"depth is a number of layers, 1 or more, given {depth}")


def _check_length(length: int) -> None:
    if length < 1:
        raise ValueError(f"length is the largest number of tokens to write, 1 or more, given {length}")
