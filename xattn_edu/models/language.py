"""From a sentence to one vector a word: tokenizers, a small BERT, and features that are computed once.

    sentences -> tokenizer -> ids, mask (batch, word) -> encoder -> words (batch, word, channel)

Every encoder is a module that is called with ids and mask and has an attribute `width`, the number of channels of its
words. One encoder can therefore replace another:

    SmallBert    two layers, trained from scratch with the rest of the model; `build_tokenizer` makes its vocabulary
    Bert         a published BERT; `load_bert` and `load_tokenizer` in `weights.language` load it and its tokenizer
    FrozenWords  the words of known phrases as a BERT encoded them once; a `PhraseBook` replaces the tokenizer

`mask` is True for words, [CLS] and [SEP], and False for padding. The vectors of padding are zeros, and no other vector
depends on padding.

Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2019); WordPiece as in its section 3.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.layers import evaluating
from xattn_edu.shapes import check_heads, shaped

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # in BERT's order; their ids are 0 to 4
MASKED = -1e4  # added to the scores of padding: exp(-1e4) is 0, yet a row of padding alone stays finite


# --- from sentences to ids


class Encoding(NamedTuple):
    """The pieces of one sentence, and the part of the sentence that each piece is from."""

    ids: Int[Tensor, " piece"]
    mask: Bool[Tensor, " piece"]  # False for padding
    words: list[int | None]  # the number of the word that a piece is of; None for [CLS], [SEP] and padding
    offsets: list[tuple[int, int]]  # start and end of a piece in the sentence


class Tokenizer:
    """Sentences to ids, by a tokenizer of the `tokenizers` library. `len` is the size of its vocabulary.

    Made by `build_tokenizer` or `weights.language.load_tokenizer`.
    """

    def __init__(self, backend: "Backend", pad: str = "[PAD]"):
        self.backend, self.pad = backend, pad

    def __len__(self) -> int:
        return self.backend.get_vocab_size()

    def __call__(self, sentences: Sequence[str], length: int | None = 20) -> tuple[Tensor, Tensor]:
        """ids (batch, length) int64 and mask (batch, length) bool, padded on the right; None: to the longest sentence.

        A sentence becomes [CLS], its pieces, [SEP]. A sentence longer than `length` loses its last pieces and keeps
        [SEP]; LAVT was published with a length of 20. Raises TypeError if `sentences` is not a list of strings,
        ValueError if it is empty, if a sentence is blank, and for a length below 3.
        """
        sentences = _sentences(sentences)
        self._set_length(length)
        encoded = self.backend.encode_batch(sentences)
        mask = torch.tensor([sentence.attention_mask for sentence in encoded], dtype=torch.bool)
        return torch.tensor([sentence.ids for sentence in encoded]), mask

    def encode(self, sentence: str, length: int | None = 20) -> Encoding:
        """One sentence, padded and cut off as by calling the tokenizer. A blank sentence becomes [CLS] [SEP].

        Raises ValueError for a length below 3.
        """
        self._set_length(length)
        encoded = self.backend.encode(sentence)
        mask = torch.tensor(encoded.attention_mask, dtype=torch.bool)
        return Encoding(torch.tensor(encoded.ids), mask, encoded.word_ids, encoded.offsets)

    def _set_length(self, length: int | None) -> None:
        """Cut off and pad from now on. At every call, because a tokenizer from a file brings a length of its own."""
        if length is not None and length < 3:
            raise ValueError(f"[CLS], [SEP] and one piece need a length of 3 at least, given {length}")
        if length is None:
            self.backend.no_truncation()
        else:
            self.backend.enable_truncation(length)
        self.backend.enable_padding(length=length, pad_id=self.backend.token_to_id(self.pad), pad_token=self.pad)

    def tokens(self, ids: Tensor | Sequence[int]) -> list[str]:
        """The pieces of one sentence, [PAD] among them, to label a plot; `tokens(ids[0][mask[0]])` is without [PAD].

        Raises ValueError for more than one sentence, and for ids outside the vocabulary.
        """
        return [str(self.backend.id_to_token(i)) for i in _one_sentence(ids, len(self))]


def build_tokenizer(words: Iterable[str]) -> Tokenizer:
    """A WordPiece tokenizer that knows `words` and cuts other words into the letters of `words`.

    As in BERT, words are lower-cased, lose their accents, and are cut at punctuation. The vocabulary holds the special
    tokens, each letter at the start of a word ("a") and inside a word ("##a"), and the words. A letter of Korean is a
    syllable: BERT's normalisation takes syllables apart, and this tokenizer joins them again. The same words in any
    order give the same ids. Raises TypeError if `words` are not strings, ValueError if the list is empty or a word is
    blank.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers, processors

    normalizer = normalizers.Sequence([normalizers.BertNormalizer(lowercase=True), normalizers.NFC()])
    splitter = pre_tokenizers.BertPreTokenizer()
    cut = [splitter.pre_tokenize_str(normalizer.normalize_str(word)) for word in _sentences(words, "word")]
    known = sorted({word for pieces in cut for word, _ in pieces})
    letters = sorted(set(chain.from_iterable(known)))
    vocabulary = dict.fromkeys([*SPECIAL, *letters, *("##" + letter for letter in letters), *known])

    ids = {piece: number for number, piece in enumerate(vocabulary)}
    backend = Backend(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    backend.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    backend.add_special_tokens(list(SPECIAL))  # "[MASK]" in a sentence stays one piece
    return Tokenizer(backend)


# --- from ids to words


class Bert(nn.Module):
    """A BertModel of `transformers` as an encoder: ids and mask (batch, word) to words (batch, word, width)."""

    bert: Any  # transformers builds its classes as it runs: no type checker knows them

    def __init__(self, bert: nn.Module):
        super().__init__()
        self.bert = bert
        self.width: int = self.bert.config.hidden_size

    @shaped
    def forward(
        self, ids: Int[Tensor, "batch word"], mask: Bool[Tensor, "batch word"]
    ) -> Float[Tensor, "batch word channel"]:
        """The last layer's words.

        Raises TypeError for ids or a mask of a wrong type, ValueError for shapes that differ, for ids outside the
        vocabulary, and for more words than the model has positions.
        """
        config = self.bert.config
        _check_ids(ids, mask, config.vocab_size)
        if ids.shape[1] > config.max_position_embeddings:
            raise ValueError(
                f"{ids.shape[1]} words are more than the model's {config.max_position_embeddings} positions: "
                "give the tokenizer a shorter length"
            )
        scores = torch.zeros(mask.shape, dtype=self.bert.dtype, device=mask.device).masked_fill(~mask, MASKED)
        words = self.bert(input_ids=ids, attention_mask=scores[:, None, None]).last_hidden_state  # head and query: 1
        return words.masked_fill(~mask[..., None], 0)


class SmallBert(Bert):
    """BERT's architecture in a size for this course's tasks, with random weights.

    SmallBert(30522, 768, depth=12, heads=12, length=512) is BERT-base. Raises ValueError unless `heads` divides
    `width`.

    Args:
        vocabulary_size: number of ids.
        width: channels of a word; the MLP has 4 * `width`.
        depth: number of layers.
        heads: attention heads of a layer.
        length: number of positions, that is the pieces of the longest sentence.
        dropout: the rate in training, after attention and MLP and on the attention weights.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        length: int = 64,
        dropout: float = 0.0,
    ):
        from transformers import BertConfig, BertModel

        check_heads(width, heads)
        config = BertConfig(
            vocab_size=vocabulary_size,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=length,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        super().__init__(BertModel(config, add_pooling_layer=False))


# --- words that are looked up


class PhraseBook:
    """The words of known phrases as a frozen encoder encodes them, computed once. It replaces the tokenizer.

    An id is the number of a row in `table` (row, channel), a tensor on the CPU. A row is one word in one phrase; row 0
    is padding. `FrozenWords(book)` turns ids into words. The encoder runs on its own device, in eval mode.
    Raises TypeError and ValueError for sentences that a tokenizer does not take.

    Args:
        sentences: the phrases; a repeated phrase is encoded once.
        encoder: what encodes the words.
        tokenizer: the encoder's tokenizer.
        length: pieces of a phrase at most; further pieces are cut off.
        batch_size: phrases that are encoded at a time.
        dtype: of the table; torch.float16 takes half the memory.
    """

    @torch.no_grad()
    def __init__(
        self,
        sentences: Iterable[str],
        encoder: Bert,
        tokenizer: Tokenizer,
        length: int = 20,
        batch_size: int = 128,
        dtype: torch.dtype = torch.float32,
    ):
        phrases = list(dict.fromkeys(_sentences(sentences)))
        ids, mask = tokenizer(phrases, length)
        device = next(encoder.parameters(), torch.empty(0)).device
        rows = [torch.zeros(1, encoder.width, dtype=dtype)]
        with evaluating(encoder):
            for some_ids, some_mask in zip(ids.split(batch_size), mask.split(batch_size)):
                words = encoder(some_ids.to(device), some_mask.to(device)).cpu()
                rows.append(words[some_mask].to(dtype))  # phrase by phrase
        self.table = torch.cat(rows)
        if not self.table.isfinite().all():
            raise ValueError("the encoder makes words that are no finite numbers: are its weights damaged?")
        self.pieces = [tokenizer.pad, *tokenizer.tokens(ids[mask])]
        ends = 1 + mask.sum(dim=1).cumsum(dim=0)
        self.rows = {phrase: range(end - count, end) for phrase, end, count in zip(phrases, ends.tolist(), mask.sum(1))}

    def __len__(self) -> int:
        return len(self.table)

    def __call__(self, sentences: Sequence[str], length: int | None = 20) -> tuple[Tensor, Tensor]:
        """ids (batch, length) int64 and mask (batch, length) bool, as a `Tokenizer` returns them.

        Raises ValueError for a sentence that is not in the book, and for a length shorter than a sentence.
        """
        sentences = _sentences(sentences)
        unknown = [sentence for sentence in sentences if sentence not in self.rows]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not in the book: make the book of all sentences that are needed")
        rows = [self.rows[sentence] for sentence in sentences]
        longest = max(map(len, rows))
        length = longest if length is None else length
        if length < longest:
            raise ValueError(f"a phrase is {longest} words long, but length is {length}: make it {longest} at least")
        ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
        return ids, ids > 0

    def tokens(self, ids: Tensor | Sequence[int]) -> list[str]:
        """The pieces of one sentence, as `Tokenizer.tokens` returns them."""
        return [self.pieces[i] for i in _one_sentence(ids, len(self))]


class FrozenWords(nn.Module):
    """An encoder that looks words up in a `PhraseBook`. Only its linear layer to `width` is trained.

    The table moves with the module but is not in its state dict, because ids mean nothing without the book.
    """

    table: Tensor

    def __init__(self, book: PhraseBook, width: int = 64):
        super().__init__()
        self.width = width
        self.register_buffer("table", book.table, persistent=False)
        self.projection = nn.Linear(book.table.shape[1], width)

    @shaped
    def forward(
        self, ids: Int[Tensor, "batch word"], mask: Bool[Tensor, "batch word"]
    ) -> Float[Tensor, "batch word channel"]:
        """The book's words after the linear layer. Raises TypeError and ValueError as `Bert` does."""
        _check_ids(ids, mask, len(self.table))
        words = F.embedding(ids, self.table).to(self.projection.weight.dtype)
        return self.projection(words).masked_fill(~mask[..., None], 0)


# --- checks of what is given


def _sentences(sentences: Iterable[str], one: str = "sentence") -> list[str]:
    """The sentences as a list. Raises TypeError unless they are strings, ValueError for none and for a blank one."""
    if isinstance(sentences, str):
        raise TypeError(f"expected a list of {one}s, given the string {sentences!r}: write [...] around it")
    listed = list(sentences)
    if not listed:
        raise ValueError(f"expected one {one} at least, given none")
    for number, sentence in enumerate(listed):
        if not isinstance(sentence, str):
            raise TypeError(f"each {one} must be a string, number {number} is {sentence!r}")
        if not sentence.strip():
            raise ValueError(f"{one} number {number} is blank")
    return listed


def _one_sentence(ids: Tensor | Sequence[int], count: int) -> list[int]:
    ids = torch.as_tensor(ids)
    if ids.ndim != 1:
        raise ValueError(f"expected the ids (word,) of one sentence, given {tuple(ids.shape)}: write ids[0]")
    listed = ids.tolist()
    if not all(0 <= i < count for i in listed):
        raise ValueError(f"ids must be 0 to {count - 1}, given {min(listed)} to {max(listed)}")
    return listed


def _check_ids(ids: Tensor, mask: Tensor, count: int) -> None:
    """Raises TypeError or ValueError unless these are sentences of ids below `count`, with their mask."""
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"ids must be whole numbers, int64 or int32, given {ids.dtype}: write ids.long()")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, True where a word counts, given {mask.dtype}: write mask.bool()")
    if ids.ndim != 2 or ids.shape[1] < 1 or mask.shape != ids.shape:
        raise ValueError(f"ids and mask must be (batch, word), given {tuple(ids.shape)} and {tuple(mask.shape)}")
    if not ids.is_meta and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        raise ValueError(
            f"ids must be 0 to {count - 1}, given {int(ids.min())} to {int(ids.max())}: "
            "are they from the tokenizer that the encoder was made for?"
        )
