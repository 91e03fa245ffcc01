"""Checks of the exercises in lesson 10, referring segmentation."""

import functools
import math

import numpy as np
import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise
from xattn_edu.models.attention import MultiHeadAttention


@exercise
def word_pieces(answer: Answer) -> str:
    """word_pieces(word, vocabulary): the word cut from the left into the longest pieces that are known."""
    known = {"play", "##ing", "##ground", "##er", "un", "##play", "##able", "red", "##r", "##e", "##d", "r", "e", "a"}
    known |= {"ab", "abc", "##cd", "##c", "##d", "##de", "##f", "나", "나무", "##무", "##가", "##들", "##이", "##들이"}
    words = ["play", "playing", "playground", "playerer", "unplayable", "red", "redder", "ree", "abcd", "abcde", "abf"]
    words += ["나무가", "나무들이", "나이", "xylophone", "playx", "xplay", "a", "abab"]
    for word in words:
        given, expected = answer(word, set(known)), _greedy(word, known)
        if given is None:
            raise Wrong("it returns None: is the return statement missing?")
        if list(given) == expected:
            continue
        causes = {
            "Pieces inside a word carry ##, the first does not.": [piece.removeprefix("##") for piece in expected],
            "The longest piece that fits comes first, not the shortest.": _greedy(word, known, shortest=True),
            "What cannot be cut to its end is [UNK] as a whole, nothing of it is kept.": [
                piece for piece in _greedy(word, known, keep=True) if piece != "[UNK]"
            ],
            "What cannot be cut to its end is one [UNK], not [UNK] behind its pieces.": _greedy(word, known, keep=True),
            "A piece inside a word is looked up with its ##.": _greedy(word, known, inner=""),
        }
        cause = next((cause for cause, result in causes.items() if list(given) == result), "")
        raise Wrong(f"{word!r}: expected {expected}, given {list(given)}. {cause}".rstrip())
    return "right: the longest known piece, again and again, or [UNK]"


def _greedy(word: str, known: set[str], shortest: bool = False, keep: bool = False, inner: str = "##") -> list[str]:
    """WordPiece; the arguments make the mistakes."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        ends = range(start + 1, len(word) + 1) if shortest else range(len(word), start, -1)
        fits = (end for end in ends if (inner if start else "") + word[start:end] in known)
        end = next(fits, None)
        if end is None:
            return [*pieces, "[UNK]"] if keep else ["[UNK]"]
        pieces.append((inner if start else "") + word[start:end])
        start = end
    return pieces


@exercise
def overall_and_mean_iou(answer: Answer) -> str:
    """overall_and_mean_iou(predicted, target): (oIoU, mIoU) of masks (count, height, width)."""
    for seed, shape in enumerate(((5, 6, 7), (1, 4, 4), (8, 3, 5))):
        draw = torch.Generator().manual_seed(seed)
        sizes = torch.rand(shape[0], 1, 1, generator=draw)
        predicted, target = (torch.rand(shape, generator=draw) < sizes for _ in range(2))
        if seed:  # one of them predicted as empty, and empty it is
            predicted[0] = target[0] = False
        inter = (predicted & target).sum(dim=(1, 2)).double()
        union = (predicted | target).sum(dim=(1, 2)).double()
        both = predicted.sum(dim=(1, 2)).double() + target.sum(dim=(1, 2))
        oiou = (inter.sum() / union.sum().clamp(min=1)).item()
        expected = oiou, (inter / union.clamp(min=1)).mean().item()
        given = answer(predicted.clone(), target.clone())
        if given is None or not isinstance(given, tuple) or len(given) != 2:
            raise Wrong("return two numbers: the overall IoU, then the mean IoU")
        where, numbers = f"masks of shape {shape}", tuple(float(number) for number in given)
        if not all(map(math.isfinite, numbers)):
            raise Wrong(f"{where}: given {numbers}: two empty masks have the union 0; their IoU counts as 0")
        if np.allclose(numbers, expected, rtol=1e-5, atol=1e-7):
            continue
        causes = {
            "Overall first, then the mean.": expected[::-1],
            "That is the Dice coefficient: the union counts the intersection once.": (
                (2 * inter.sum() / both.sum().clamp(min=1)).item(),
                (2 * inter / both.clamp(min=1)).mean().item(),
            ),
            "The sum of both areas counts their intersection twice: it is not the union.": (
                (inter.sum() / both.sum().clamp(min=1)).item(),
                (inter / both.clamp(min=1)).mean().item(),
            ),
            "Two empty masks count as IoU 0, as in the published evaluation.": (
                oiou,
                torch.where(union > 0, inter / union.clamp(min=1), 1.0).mean().item(),
            ),
            "Two empty masks count as IoU 0; they are not left out.": (
                oiou,
                (inter / union.clamp(min=1))[union > 0].sum().item() / max(1, int((union > 0).sum())),
            ),
            "The overall IoU adds up all intersections and all unions before it divides.": (expected[1], expected[1]),
            "The mean IoU divides for each expression, and then takes the mean.": (oiou, oiou),
        }
        cause = next((cause for cause, pair in causes.items() if np.allclose(numbers, pair, rtol=1e-5, atol=1e-7)), "")
        raise Wrong(f"{where}: expected {expected[0]:.4f} and {expected[1]:.4f}, given {numbers}. {cause}".rstrip())
    return "right, empty masks included"


@exercise
def pixels_ask_words(answer: Answer) -> str:
    """pixels_ask_words(layer, maps, words, mask): cross-attention from each place of the maps to the words."""
    for batch, width, rows, columns, words_width, length, heads in ((2, 8, 3, 4, 6, 5, 2), (1, 6, 2, 2, 6, 3, 3)):
        torch.manual_seed(10)
        layer = MultiHeadAttention(width, heads, context_width=words_width).double()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.6)
        maps = torch.randn(batch, width, rows, columns, dtype=torch.double)
        words = torch.randn(batch, length, words_width, dtype=torch.double)
        mask = torch.arange(length) < torch.tensor([[length - 1], [length - 2]])[:batch]

        ask = functools.partial(_pixels_ask, layer, words)
        given, expected = answer(layer, maps.clone(), words.clone(), mask.clone()), ask(maps, mask[:, None])
        if not isinstance(given, tuple) or len(given) != 2:
            raise Wrong("return two tensors: the maps (batch, width, row, column) and the weights")
        mistakes = {
            "Padding is looked at: the mask is missing.": ask(maps, None),
            "The mask is upside down: True is where a word counts.": ask(maps, ~mask[:, None]),
        }
        if rows == columns:
            turned = ask(maps.transpose(2, 3), mask[:, None])
            mistakes["Rows and columns changed places."] = turned[0], turned[1]
        scrambled = maps.reshape(batch, rows * columns, width)
        output, weights = layer(scrambled, words, mask[:, None], return_weights=True)
        cut = output.reshape(maps.shape), weights.unflatten(2, (rows, columns))
        mistakes["A reshape does not turn axes: channels were cut up; flatten, then transpose."] = cut
        for number, name in enumerate(("maps", "weights")):
            causes = {cause: result[number] for cause, result in mistakes.items()}
            compare(given[number], expected[number], f"{name}, {rows} x {columns} places, {heads} heads", causes)
    return "right: each place has asked the words, and none of them looked at padding"


def _pixels_ask(layer: MultiHeadAttention, words: Tensor, maps: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    output, weights = layer(maps.flatten(2).transpose(1, 2), words, mask, return_weights=True)
    return output.transpose(1, 2).unflatten(2, maps.shape[2:]), weights.unflatten(2, maps.shape[2:])
