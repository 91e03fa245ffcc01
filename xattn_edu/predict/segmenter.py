"""A trained model in use: from a file of weights, a photograph and a sentence to a mask.

    segmenter = load_segmenter("lavt.pth")
    found = segmenter.predict(read_image("street.jpg"), "the man in red")
    found.mask                                    # (height, width) bool, of the photograph's own size

A model alone takes tensors. What makes them of pictures and words belongs to its training: the tokenizer, the size to
which images are squashed, the mean and deviation of their pixels. A `Segmenter` keeps these together. Two kinds of
files become one: a published LAVT, of any size, and the weights that `xattn reproduce` leaves in results/.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from PIL import Image
from torch import Tensor, nn

from xattn_edu.models.language import Tokenizer
from xattn_edu.models.masks import predicted_masks, resize

SIZE = 480  # pixels: to 480 x 480 the published LAVT squashes every image
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in 0..1, as published
LENGTH = 20  # word pieces, [CLS] and [SEP] among them, as published
TOKENIZER = "bert-base-uncased"


class Prediction(NamedTuple):
    """What a model found, and how its pixels read the sentence."""

    mask: Bool[ndarray, "height width"]  # of the image's own size
    words: tuple[str, ...]  # [CLS], the words, [SEP]; those cut off after `LENGTH` pieces are missing
    weights: tuple[Float[ndarray, "row column word"], ...]  # of each stage (or decoder layer): see `predict`


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A model, called with (images, ids, mask, return_weights), and what makes its input of pictures and sentences.

    `known` are the words that the model has, if its vocabulary is closed; None for a BERT's, which knows most.
    """

    model: nn.Module
    tokenizer: Tokenizer
    size: int  # pixels: images become size x size
    mean: tuple[float, float, float]  # of red, green and blue, in 0..255
    deviation: tuple[float, float, float]
    known: frozenset[str] | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def pixels(self, image: ndarray) -> Float[Tensor, "3 size size"]:
        """An image (height, width, 3) uint8 as the model takes it: squashed to a square, bilinear, and standardised.

        Raises ValueError for anything else than such an image.
        """
        if not isinstance(image, ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            given = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
            raise ValueError(f"an image is an array (height, width, 3) of uint8, given {given}: see read_image()")
        squashed = np.array(Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BILINEAR))
        colours = torch.from_numpy(squashed).permute(2, 0, 1).float()
        return (colours - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.deviation)[:, None, None]

    def ids(self, sentences: list[str]) -> tuple[Int[Tensor, "batch word"], Bool[Tensor, "batch word"]]:
        """Sentences as the model takes them. A blank one, as a data set may hold, is [CLS] [SEP], as BERT's code has it."""
        blank = torch.tensor([not sentence.strip() for sentence in sentences])
        ids, mask = self.tokenizer([sentence if sentence.strip() else "a" for sentence in sentences], LENGTH)
        ids[blank, 1] = ids[blank, 2]  # [CLS] a [SEP]: what ended the sentence now follows its start
        mask[blank, 2] = False
        return ids, mask

    @torch.no_grad()
    def logits(self, images: Float[Tensor, "batch 3 size size"], sentences: list[str]) -> Tensor:
        """Logits (batch, 2, size, size) of images made by `pixels`, on the model's device."""
        ids, mask = self.ids(sentences)
        return self.model(images.to(self.device), ids.to(self.device), mask.to(self.device))

    @torch.no_grad()
    def predict(self, image: ndarray, sentence: str) -> Prediction:
        """The mask of what the sentence names in an image (height, width, 3) uint8.

        The logits are resized to the image's own size (bilinear, corners on corners) before they become a mask.
        `weights` say how much each pixel of a stage's grid reads of each word: the mean of the heads, the pieces of a
        word added up. Raises ValueError for what is no such image and for a blank sentence.
        """
        _check_sentence(sentence)
        words, pieces, _ = self._words(sentence)
        images = self.pixels(image)[None].to(self.device)
        ids, mask = self.ids([sentence])
        logits, weights = self.model(images, ids.to(self.device), mask.to(self.device), return_weights=True)
        stages = [stage[0].float().mean(dim=0).cpu().numpy() for stage in weights]
        joined = [np.stack([stage[..., places].sum(axis=-1) for places in pieces], axis=-1) for stage in stages]
        height, width = image.shape[:2]
        found = predicted_masks(resize(logits.float(), (height, width)))[0]
        return Prediction(found.cpu().numpy(), words, tuple(joined))

    def remarks(self, sentence: str) -> list[str]:
        """What a user should know before trusting a mask: words the model does not know, words it does not get to read.

        Of a closed vocabulary all words are unknown that are not in `known`, though they be cut into letters; of a
        BERT's those that became [UNK].
        """
        _check_sentence(sentence)
        words, pieces, end = self._words(sentence)
        said = []
        if self.known is not None:
            named = [word for word in words[1:-1] if word.lower() not in self.known and any(map(str.isalnum, word))]
            hint = f"it knows {len(self.known)} words, those of this course's scenes, and reads others letter by letter"
        else:
            tokens = self.tokenizer.tokens(self.ids([sentence])[0][0])
            named = [word for word, places in zip(words, pieces) if "[UNK]" in (tokens[place] for place in places)]
            hint = "its tokenizer has no pieces for that"
        if named:
            said.append(f"the model does not know {', '.join(map(repr, dict.fromkeys(named)))}: {hint}")
        if sentence[end:].strip():
            said.append(
                f"the model reads {LENGTH} pieces of an expression at most: {sentence[end:].strip()!r} is left out"
            )
        return said

    def _words(self, sentence: str) -> tuple[tuple[str, ...], list[list[int]], int]:
        """[CLS], the words as they were written, [SEP]; the places of the pieces of each; where the last word ends."""
        self.ids([sentence])  # from here on the tokenizer cuts off and pads as for the model
        encoding = self.tokenizer.backend.encode(sentence)
        counted = [place for place, counts in enumerate(encoding.attention_mask) if counts]
        word_ids = [-1 - place if word is None else word for place, word in enumerate(encoding.word_ids)]
        pieces = [list(places) for _, places in groupby(counted, key=lambda place: word_ids[place])]
        if len(pieces) < 3:
            raise ValueError(f"there is no word in the expression {sentence!r}")
        ends = [(encoding.offsets[places[0]][0], encoding.offsets[places[-1]][1]) for places in pieces]
        inner = [sentence[start:end] for start, end in ends[1:-1]]
        return (encoding.tokens[0], *inner, encoding.tokens[counted[-1]]), pieces, max(end for _, end in ends)


def _check_sentence(sentence: str) -> None:
    if not isinstance(sentence, str) or not sentence.strip():
        raise ValueError(f'an expression names a thing in the image, such as "the man in red", given {sentence!r}')
