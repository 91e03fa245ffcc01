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

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.layers import evaluating, values_are_known
from xattn_edu.models.masks import check_word_mask
from xattn_edu.shapes import check_heads, shaped

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # in BERT's order; their ids are 0 to 4
LENGTH = 20  # pieces of a referring expression at most, [CLS] and [SEP] among them, as in LAVT
MASKED = -1e4  # added to the scores of padding: exp(-1e4) is 0, yet a row of padding alone stays finite


# --- from sentences to ids


def clean(sentence: str) -> str:
    """The sentence as it is read: in Unicode's composed form (NFC) and without characters that nobody sees.

    macOS takes "é" and "쪽" apart into letters and marks; NFC joins them again. Tabs and line breaks become spaces.
    Control characters, zero-width characters, marks of writing direction (Unicode's categories Cc and Cf) and fillers
    of Hangul are dropped. Other sentences stay as they are. Raises ValueError for half of a surrogate pair, which
    Python makes of bytes that are not UTF-8.
    """
    if sentence.isascii() and sentence.isprintable():
        return sentence
    if lost := [character for character in sentence if unicodedata.category(character) == "Cs"]:
        raise ValueError(f"{sentence!r} holds {lost[0]!r}, which is no character: give the sentence in UTF-8")
    spaced = "".join(" " if character.isspace() else character for character in sentence)
    seen = (c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf") and c not in _FILLERS)
    return unicodedata.normalize("NFC", "".join(seen))


_FILLERS = "\u115f\u1160\u3164\uffa0"


class Encoding(NamedTuple):
    """The pieces of one sentence, and the part of the sentence that each piece is from."""

    ids: Int[Tensor, " piece"]
    mask: Bool[Tensor, " piece"]  # False for padding
    words: list[int | None]  # the number of the word that a piece is of; None for [CLS], [SEP] and padding
    offsets: list[tuple[int, int]]  # start and end of a piece in `text`
    text: str  # the sentence as it was read, see `clean`
    end: int  # the place in `text` where reading ended: its length, or where it was cut off


class Tokenizer:
    """Sentences to ids, by a tokenizer of the `tokenizers` library. `len` is the size of its vocabulary.

    Every sentence goes through `clean` first. Made by `build_tokenizer` or `weights.language.load_tokenizer`.
    """

    def __init__(self, backend: "Backend", pad: str = "[PAD]"):
        self.backend, self.pad = backend, pad

    def __len__(self) -> int:
        return self.backend.get_vocab_size()

    def __call__(self, sentences: Sequence[str], length: int | None = LENGTH) -> tuple[Tensor, Tensor]:
        """ids (batch, length) int64 and mask (batch, length) bool, padded on the right; None: to the longest sentence.

        A sentence becomes [CLS], its pieces, [SEP]. A sentence longer than `length` loses its last pieces and keeps
        [SEP]; LAVT was published with a length of 20. Raises TypeError if `sentences` is not a list of strings,
        ValueError if it is empty, if a sentence is blank, for a length below 3, and as `clean` does.
        """
        sentences = _sentences(sentences)
        self._set_length(length)
        encoded = self.backend.encode_batch(sentences)
        mask = torch.tensor([sentence.attention_mask for sentence in encoded], dtype=torch.bool)
        return torch.tensor([sentence.ids for sentence in encoded]), mask

    def encode(self, sentence: str, length: int | None = LENGTH) -> Encoding:
        """One sentence, padded and cut off as by calling the tokenizer. A blank sentence becomes [CLS] [SEP].

        Raises ValueError for a length below 3, and as `clean` does.
        """
        text = clean(sentence)
        self._set_length(length)
        encoded = self.backend.encode(text)
        mask = torch.tensor(encoded.attention_mask, dtype=torch.bool)
        cut_off = (zip(rest.offsets, rest.special_tokens_mask) for rest in encoded.overflowing)
        end = next((start for (start, _), special in chain.from_iterable(cut_off) if not special), len(text))
        return Encoding(torch.tensor(encoded.ids), mask, encoded.word_ids, encoded.offsets, text, end)

    def normalize(self, word: str) -> str:
        """A word as it is looked up: as a rule in lower case and without accents."""
        normalizer = self.backend.normalizer
        return clean(word) if normalizer is None else normalizer.normalize_str(clean(word))

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
        self, ids: Int[Tensor, "batch word"], word_mask: Bool[Tensor, "batch word"]
    ) -> Float[Tensor, "batch word channel"]:
        """The last layer's words.

        Raises TypeError for ids or a mask of a wrong type, ValueError for shapes that differ, for ids outside the
        vocabulary, and for more words than the model has positions.
        """
        config = self.bert.config
        _check_ids(ids, word_mask, config.vocab_size)
        if ids.shape[1] > config.max_position_embeddings:
            raise ValueError(
                f"{ids.shape[1]} words are more than the model's {config.max_position_embeddings} positions: "
                "give the tokenizer a shorter length"
            )
        dtype = self.bert.get_input_embeddings().weight.dtype  # not `bert.dtype`, which DataParallel's replicas lack
        if ids.shape[0] == 0:  # BERT's own code cannot cut a batch of nothing into heads
            return torch.zeros(*ids.shape, self.width, dtype=dtype, device=ids.device)
        scores = torch.zeros(ids.shape, dtype=dtype, device=ids.device).masked_fill(~word_mask, MASKED)
        # BERT's own positions and types are buffers that no state dict holds: a model that began on the meta device has
        # none. Its axes head and query are 1 in the mask.
        given = {
            "position_ids": torch.arange(ids.shape[1], device=ids.device)[None],
            "token_type_ids": torch.zeros_like(ids),
        }
        words = self.bert(input_ids=ids, attention_mask=scores[:, None, None], **given).last_hidden_state
        return words.masked_fill(~word_mask[..., None], 0)


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
        length: int = LENGTH,
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

    def __call__(self, sentences: Sequence[str], length: int | None = LENGTH) -> tuple[Tensor, Tensor]:
        """ids (batch, length) int64 and mask (batch, length) bool, as a `Tokenizer` returns them.

        Raises ValueError for a sentence that is not in the book, and for a length shorter than a sentence.
        """
        sentences = _sentences(sentences)  # cleaned, like the keys of `rows`
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
        self, ids: Int[Tensor, "batch word"], word_mask: Bool[Tensor, "batch word"]
    ) -> Float[Tensor, "batch word channel"]:
        """The book's words after the linear layer. Raises TypeError and ValueError as `Bert` does."""
        _check_ids(ids, word_mask, len(self.table))
        # Not of `projection.weight`: a layer that replaces this one, quantized or with LoRA, may have none.
        words = F.embedding(ids, self.table).to(next(self.projection.parameters(), torch.empty(0)).dtype)
        return self.projection(words).masked_fill(~word_mask[..., None], 0)


# --- checks of what is given


def _sentences(sentences: Iterable[str], one: str = "sentence") -> list[str]:
    """The sentences as a list, each one as `clean` returns it.

    Raises TypeError unless they are strings, ValueError for none, for a blank one, and as `clean` does.
    """
    if isinstance(sentences, str):
        raise TypeError(f"expected a list of {one}s, given the string {sentences!r}: write [...] around it")
    listed = list(sentences)
    if not listed:
        raise ValueError(f"expected one {one} at least, given none")
    for number, sentence in enumerate(listed):
        if not isinstance(sentence, str):
            raise TypeError(f"each {one} must be a string, number {number} is {sentence!r}")
        listed[number] = clean(sentence)
        if not listed[number].strip():
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


def _check_ids(ids: Tensor, word_mask: Tensor, count: int) -> None:
    """Raises TypeError or ValueError unless these are sentences of ids below `count`, with their mask."""
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"ids must be whole numbers, int64 or int32, given {ids.dtype}: write ids.long()")
    check_word_mask(word_mask)
    if ids.ndim != 2 or ids.shape[1] < 1 or word_mask.shape != ids.shape:
        raise ValueError(
            f"ids and word_mask must be (batch, word), given {tuple(ids.shape)} and {tuple(word_mask.shape)}"
        )
    if values_are_known(ids) and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        raise ValueError(
            f"ids must be 0 to {count - 1}, given {int(ids.min())} to {int(ids.max())}: "
            "are they from the tokenizer that the encoder was made for?"
        )
