"""A trained model in use: from a file of weights, a photograph and a sentence to a mask.

    segmenter = load_segmenter("lavt.pth")
    found = segmenter.predict(read_image("street.jpg"), "the man in red")
    found.mask                                    # (height, width) bool, of the photograph's own size

A model alone takes tensors. How pictures and words become tensors belongs to its training: the tokenizer, the size to
which images are squashed, the mean and deviation of their pixels. A `Segmenter` keeps these together with the model. It
is loaded from a published LAVT of any size, or from the weights that `xattn reproduce` stores in results/.
"""

import unicodedata
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.language import LENGTH, Tokenizer, clean
from xattn_edu.models.masks import predicted_masks, resize

# The input of the published LAVT.
SIZE = 480  # pixels: every image is squashed to 480 x 480
MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))  # of ImageNet's pixels, 0 to 255: red, green, blue
DEVIATION = tuple(255 * value for value in (0.229, 0.224, 0.225))
TOKENIZER = "bert-base-uncased"


class Prediction(NamedTuple):
    """What a model found, and how much its pixels read of each word."""

    mask: Bool[ndarray, "height width"]  # of the image's own size
    words: tuple[str, ...]  # [CLS], the words, [SEP]; without those cut off after the model's length
    weights: tuple[Float[ndarray, "row column word"], ...]  # of each stage (or decoder layer): see `predict`


class Expression(NamedTuple):
    """A sentence as a model reads it."""

    ids: Int[Tensor, " piece"]
    mask: Bool[Tensor, " piece"]
    words: tuple[str, ...]  # [CLS], the words as they were written (composed, see `clean`), [SEP]
    pieces: list[list[int]]  # of each word, the places of its pieces in `ids`
    cut_off: str  # the end of the sentence, which the model does not read


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A model called with (images, ids, mask, return_weights), and how pictures and sentences become its input."""

    model: nn.Module
    tokenizer: Tokenizer
    size: int  # pixels: images become size x size
    mean: tuple[float, ...]  # of red, green and blue, 0 to 255
    deviation: tuple[float, ...]
    length: int = LENGTH  # pieces of a sentence at most
    known: frozenset[str] | None = None  # the words of a closed vocabulary; None if the vocabulary is BERT's (open)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def pixels(self, image: ndarray) -> Float[Tensor, "3 size size"]:
        """An image (height, width, 3) uint8 as the model takes it: squashed to a square, bilinear, and standardised.

        Raises ValueError for anything else.
        """
        if not isinstance(image, ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            given = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
            raise ValueError(f"an image is an array (height, width, 3) of uint8, given {given}: see read_image()")
        squashed = np.array(Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BILINEAR))
        colours = torch.from_numpy(squashed).permute(2, 0, 1).float()
        return (colours - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.deviation)[:, None, None]

    def ids(
        self, sentences: list[str], keep_sep: bool = True
    ) -> tuple[Int[Tensor, "batch piece"], Bool[Tensor, "batch piece"]]:
        """Sentences as the model takes them. A blank one, as data sets may hold, becomes [CLS] [SEP], as in BERT.

        A sentence longer than `length` pieces loses its last pieces. With keep_sep=False it is cut after [SEP] is added
        and loses that as well, as in the published code of LAVT.
        """
        encoded = [self.tokenizer.encode(sentence, self.length if keep_sep else None) for sentence in sentences]
        padding = self.tokenizer.backend.token_to_id(self.tokenizer.pad)
        room = [(0, self.length - len(sentence.ids)) for sentence in encoded]  # below 0, `pad` cuts off
        ids = [F.pad(sentence.ids, more, value=padding) for sentence, more in zip(encoded, room)]
        return torch.stack(ids), torch.stack([F.pad(sentence.mask, more) for sentence, more in zip(encoded, room)])

    @torch.no_grad()
    def logits(self, images: Float[Tensor, "batch 3 size size"], sentences: list[str], keep_sep: bool = True) -> Tensor:
        """Logits (batch, 2, size, size) of images made by `pixels`, on the model's device; `keep_sep` as in `ids`."""
        ids, mask = self.ids(sentences, keep_sep)
        return self.model(images.to(self.device), ids.to(self.device), mask.to(self.device))

    @torch.no_grad()
    def predict(self, image: ndarray, sentence: str) -> Prediction:
        """The mask of what the sentence names in an image (height, width, 3) uint8.

        The logits are resized to the image's own size (bilinear, corners on corners) before they become a mask.
        `weights` are how much each pixel of a stage's grid reads of each word: the mean over the heads, summed over the
        pieces of a word. Raises ValueError for another kind of image and for a blank sentence.
        """
        words = self.read(sentence)
        images = self.pixels(image)[None].to(self.device)
        ids, mask = words.ids[None].to(self.device), words.mask[None].to(self.device)
        logits, weights = self.model(images, ids, mask, return_weights=True)
        stages = [stage[0].float().mean(dim=0).cpu().numpy() for stage in weights]
        joined = [np.stack([stage[..., places].sum(axis=-1) for places in words.pieces], axis=-1) for stage in stages]
        height, width = image.shape[:2]
        found = predicted_masks(resize(logits.float(), (height, width)))[0]
        return Prediction(found.cpu().numpy(), words.words, tuple(joined))

    def remarks(self, sentence: str) -> list[str]:
        """What a user should know before trusting a mask: words that the model does not know or does not read.

        With a closed vocabulary, a word outside `known` is unknown even if it can be spelled letter by letter;
        punctuation is not reported. With a BERT's vocabulary, the unknown words are those that became [UNK]. Raises
        ValueError as `read` does.
        """
        words = self.read(sentence)
        if self.known is not None:
            known = {self.tokenizer.normalize(word) for word in self.known}
            unknown = [w for w in words.words[1:-1] if self.tokenizer.normalize(w) not in known and not _punctuation(w)]
            hint = (
                f"it knows {len(self.known)} words, those of this course's scenes, and reads others letter by letter, "
                "or not at all"
            )
        else:
            tokens = self.tokenizer.tokens(words.ids)
            named = zip(words.words, words.pieces)
            unknown = [word for word, places in named if "[UNK]" in (tokens[place] for place in places)]
            hint = "its tokenizer has no pieces for that"
        remarks = []
        if unknown:
            remarks.append(f"the model does not know {', '.join(map(repr, dict.fromkeys(unknown)))}: {hint}")
        if words.cut_off:
            remarks.append(
                f"the model reads {self.length} pieces of an expression at most: {words.cut_off!r} is left out"
            )
        return remarks

    def read(self, sentence: str) -> Expression:
        """A sentence as the model reads it.

        Raises ValueError for a blank sentence, for one without a word, and as `models.language.clean` does.
        """
        encoding = self.tokenizer.encode(check_sentence(sentence), self.length)
        last = int(encoding.mask.sum()) - 1  # the place of [SEP], after [CLS] and the pieces
        pieces = [[*places] for _, places in groupby(range(1, last), key=lambda place: encoding.words[place])]
        if not pieces:
            raise ValueError(f"there is no word in the expression {sentence!r}")
        # A word reaches to the next one: a mark that the tokenizer drops still belongs to the word before it.
        starts = [encoding.offsets[places[0]][0] for places in pieces]
        shown = [encoding.text[start:end].strip() for start, end in zip(starts, [*starts[1:], encoding.end])]
        first, *_, separator = self.tokenizer.tokens(encoding.ids[: last + 1])
        cut_off = encoding.text[encoding.end :].strip()
        return Expression(encoding.ids, encoding.mask, (first, *shown, separator), [[0], *pieces, [last]], cut_off)


def check_sentence(sentence: str) -> str:
    """The sentence as it is read, see `models.language.clean`.

    Raises ValueError unless this is a string of which more is left than spaces, and as `clean` does.
    """
    cleaned = clean(sentence) if isinstance(sentence, str) else ""
    if not cleaned.strip():
        raise ValueError(f'an expression names a thing in the image, such as "the man in red", given {sentence!r}')
    return cleaned


def _punctuation(word: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in word)
