"""Checks of the exercises in lesson 10, referring segmentation."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise, known_cause, refuse_none
from xattn_edu.models.attention import MultiHeadAttention
from xattn_edu.models.swin import relative_index

_VOCABULARY = frozenset(
    "play ##ing ##ground ##er un ##play ##able red ##r ##e ##d r e a".split()
    + "ab abc ##cd ##c ##d ##de ##f 나 나무 ##무 ##가 ##들 ##이 ##들이".split()
)
_WORDS = (
    "play una playing playground playerer unplayable red redder ree abcd abcde abf".split()
    + "나무가 나무들이 나이 xylophone playx xplay a abab".split()
)


@exercise
def word_pieces(answer: Answer) -> str:
    """word_pieces(word, vocabulary): the word cut from the left into the longest pieces that are known."""
    for word in _WORDS:
        given = answer(word, set(_VOCABULARY))
        refuse_none(given)
        given, expected = list(given), _whole_or_unknown(_cut(word))
        if given == expected:
            continue
        pieces, whole = _cut(word)
        causes = {
            "Pieces inside a word carry ##, the first does not.": [piece.removeprefix("##") for piece in expected],
            "The longest piece that fits comes first, not the shortest.": _whole_or_unknown(_cut(word, shortest=True)),
            "If a word cannot be cut to its end, the whole word is [UNK]: no piece of it is kept.": pieces,
            "If a word cannot be cut to its end, it is one [UNK], not [UNK] behind its pieces.": (
                pieces if whole else [*pieces, "[UNK]"]
            ),
            "A word that is not in the vocabulary as a whole is cut into pieces.": ["[UNK]"],
            "A piece inside a word is looked up with its ##.": _whole_or_unknown(_cut(word, inner="")),
        }
        cause = next((cause for cause, result in causes.items() if given == result), "")
        raise Wrong(f"{word!r}: expected {expected}, given {given}. {cause}".rstrip())
    return "right: the longest known piece, again and again, or [UNK]"


def _cut(word: str, shortest: bool = False, inner: str = "##") -> tuple[list[str], bool]:
    """Cut known pieces from the left until none fits; also whether they reach the end of the word."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        prefix = inner if start else ""
        ends = [end for end in range(start + 1, len(word) + 1) if prefix + word[start:end] in _VOCABULARY]
        if not ends:
            return pieces, False
        end = min(ends) if shortest else max(ends)
        pieces.append(prefix + word[start:end])
        start = end
    return pieces, True


def _whole_or_unknown(cut: tuple[list[str], bool]) -> list[str]:
    pieces, whole = cut
    return pieces if whole else ["[UNK]"]


@exercise
def overall_and_mean_iou(answer: Answer) -> str:
    """overall_and_mean_iou(predicted, target): (oIoU, mIoU) of masks (count, height, width)."""
    for seed, shape in enumerate(((5, 6, 7), (1, 4, 4), (8, 3, 5))):
        draw = torch.Generator().manual_seed(seed)
        sizes = torch.rand(shape[0], 1, 1, generator=draw)
        predicted, target = (torch.rand(shape, generator=draw) < sizes for _ in range(2))
        if seed:  # the first expression has no referent, and the predicted mask is empty, too
            predicted[0] = target[0] = False
        intersection = (predicted & target).sum(dim=(1, 2)).double()
        union = (predicted | target).sum(dim=(1, 2)).double()
        expected = _overall_and_mean(intersection, union)
        given = answer(predicted.clone(), target.clone())
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise Wrong("return two numbers: the overall IoU, then the mean IoU")
        where, numbers = f"masks of shape {shape}", tuple(float(number) for number in given)
        if not all(map(math.isfinite, numbers)):
            raise Wrong(f"{where}: given {numbers}: two empty masks have the union 0; their IoU counts as 0")
        if not np.allclose(numbers, expected, rtol=1e-5, atol=1e-7):
            painted, wanted = (masks.sum(dim=(1, 2)).double() for masks in (predicted, target))
            cause = known_cause(numbers, _iou_causes(intersection, union, painted, wanted), atol=1e-7)
            raise Wrong(f"{where}: expected {expected[0]:.4f} and {expected[1]:.4f}, given {numbers}. {cause}".rstrip())
    return "right, empty masks included"


def _overall_and_mean(intersection: Tensor, union: Tensor) -> tuple[float, float]:
    overall = intersection.sum() / union.sum().clamp(min=1)
    return overall.item(), (intersection / union.clamp(min=1)).mean().item()


def _iou_causes(intersection: Tensor, union: Tensor, painted: Tensor, wanted: Tensor) -> dict[str, tuple[float, float]]:
    overall, mean = _overall_and_mean(intersection, union)
    each, not_empty = intersection / union.clamp(min=1), union > 0
    empty_as_one = torch.where(not_empty, each, 1.0).mean().item()
    empty_left_out = each[not_empty].sum().item() / max(1, int(not_empty.sum()))
    by_areas = _overall_and_mean(intersection, painted + wanted)
    return {
        "Overall first, then the mean.": (mean, overall),
        "A union is not the target alone: pixels that are only painted belong to it.": _overall_and_mean(
            intersection, wanted
        ),
        "That is the Dice coefficient: the union counts the intersection once.": (2 * by_areas[0], 2 * by_areas[1]),
        "The sum of both areas counts their intersection twice: it is not the union.": by_areas,
        "Two empty masks count as IoU 0, as in the papers' evaluation.": (overall, empty_as_one),
        "Two empty masks count as IoU 0; they are not left out.": (overall, empty_left_out),
        "The overall IoU adds up all intersections and all unions before it divides.": (mean, mean),
        "The mean IoU divides for each expression, and then takes the mean.": (overall, overall),
    }


@exercise
def window_bias(answer: Answer) -> str:
    """window_bias(table, window): Swin's B (head, query, key) from a table (row offset, column offset, head)."""
    for window, heads in ((2, 1), (3, 2), (4, 3)):
        torch.manual_seed(window)
        table = torch.randn(2 * window - 1, 2 * window - 1, heads, dtype=torch.double)
        expected = table.flatten(0, 1)[relative_index(window, table.device)].permute(2, 0, 1)
        given = answer(table.clone(), window)
        if isinstance(given, Tensor) and given.shape == (window**2, window**2, heads):
            raise Wrong(
                f"window {window}: expected (head, query, key), given {tuple(given.shape)}: put the heads first"
            )
        compare(given, expected, f"window {window}, heads: {heads}", _bias_causes(table, window, expected))
    return "right: one learned number for each offset and head"


def _bias_causes(table: Tensor, window: int, expected: Tensor) -> dict[str, Tensor]:
    place, last = torch.arange(window**2), window - 1
    row, column = place // window, place % window
    down, right = (axis[:, None] - axis for axis in (row, column))  # the query's place minus the key's

    def look_up(rows: Tensor, columns: Tensor) -> Tensor:
        return table[rows, columns].permute(2, 0, 1)

    return {
        "An offset is the query's place minus the key's, not the reverse.": expected.mT,
        "Rows come first: tokens are numbered row by row, and the table's first axis is the row offset.": look_up(
            right + last, down + last
        ),
        "Offsets start at 1 - window and indices at 0: add window - 1.": look_up(down, right),
        "The sign of an offset counts: keys to the left and to the right have two entries.": look_up(
            down.abs() + last, right.abs() + last
        ),
        "B depends on the offset between query and key, not on the key's place alone.": look_up(
            row.expand(window**2, -1), column.expand(window**2, -1)
        ),
    }


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

        given, expected = answer(layer, maps.clone(), words.clone(), mask.clone()), _attend(layer, maps, words, mask)
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise Wrong("return two tensors: the maps (batch, width, row, column) and the weights")
        scrambled = maps.reshape(batch, rows * columns, width)
        output, weights = layer(scrambled, words, mask[:, None], return_weights=True)
        mistakes = {
            "The pixels attend to padding: the mask is missing.": _attend(layer, maps, words, mask | True),
            "The mask is inverted: True marks a word, False marks padding.": _attend(layer, maps, words, ~mask),
            "A reshape does not exchange axes, it cuts up the channels: flatten, then transpose.": (
                output.reshape(maps.shape),
                weights.unflatten(2, (rows, columns)),
            ),
        }
        if rows == columns:
            mistakes["Rows and columns changed places."] = _attend(layer, maps.transpose(2, 3), words, mask)
        for number, name in enumerate(("maps", "weights")):
            causes = {cause: result[number] for cause, result in mistakes.items()}
            compare(given[number], expected[number], f"{name}, {rows} x {columns} places, {heads} heads", causes)
    return "right: each place attends to the words, and none of them to padding"


def _attend(layer: MultiHeadAttention, maps: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    output, weights = layer(maps.flatten(2).mT, words, mask[:, None], return_weights=True)
    return output.mT.unflatten(2, maps.shape[2:]), weights.unflatten(2, maps.shape[2:])
