"""The evaluation that LAVT was published with, on RefCOCO, RefCOCO+ and G-Ref: one mask an expression.

`evaluate` reads a checkpoint and a split, predicts a mask for each sentence of each referent, and writes one JSON file:
oIoU, mIoU and P@0.5 to P@0.9 with intervals, and what they were measured with. It may be stopped at any time. Finished
results are then in FILE.partial, and the same call continues from there, also with another batch size or on another
device. Results of another checkpoint, data set or setting are refused, not mixed.

A `Protocol` says how sentences and targets are read and where masks are compared. Its defaults are those of the
published code of LAVT (Yang et al., CVPR 2022); the record says which were used.
"""

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xattn_edu.data import refer
from xattn_edu.data.refer import ReferringExpressions
from xattn_edu.files import check_folder_of, expanded, first_line, read_json, write_atomically
from xattn_edu.machine import describe_machine, progress_bar
from xattn_edu.measure.overlaps import Overlaps, Score, overlaps
from xattn_edu.models.masks import predicted_masks, resize
from xattn_edu.predict.loading import load_segmenter
from xattn_edu.predict.segmenter import SIZE, Segmenter
from xattn_edu.shapes import check_choice

FORMAT = "xattn_edu evaluation 1"  # what a finished file and a partial one call themselves
SAVE_EVERY = 200  # expressions
LEVEL = 95  # %, of the intervals
SCORES: dict[str, Score] = {"oIoU": "oiou", "mIoU": "miou"}
SCORES |= {f"P@{threshold}": ("precision", threshold) for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)}


@dataclass(frozen=True)
class Protocol:
    """How sentences and targets are read and where masks are compared. The defaults are the published ones.

    Raises ValueError for a choice that is not listed here.

    Args:
        sentences: "raw", as people typed them, or "sent", in lower case and without punctuation.
        keep_sep: whether a sentence longer than the model's length keeps [SEP]. The published code adds [SEP] and then
            cuts, so that a long sentence ends without it.
        parts: the target of a referent in several parts, as in `data.refer.mask`: "once" takes the pixels that exactly
            one part covers, so that an overlap of two is background, "union" the pixels that any part covers.
        at: "network" compares in the square to which images are squashed; the target becomes that square by nearest
            neighbour. "original" compares in the photograph's own pixels, to which the logits are resized (bilinear,
            corners on corners).
    """

    sentences: Literal["raw", "sent"] = "raw"
    keep_sep: bool = False
    parts: refer.Parts = "once"
    at: Literal["network", "original"] = "network"

    def __post_init__(self) -> None:
        check_choice("sentences", self.sentences, ("raw", "sent"))
        if not isinstance(self.keep_sep, bool):
            raise ValueError(f"keep_sep must be True or False, given {self.keep_sep!r}")
        check_choice("parts", self.parts, ("once", "union"))
        check_choice("at", self.at, ("network", "original"))


def evaluate(
    checkpoint: str | Path,
    root: str | Path,
    out: str | Path,
    *,
    dataset: str = "refcoco",
    split: str = "val",
    split_by: str | None = None,
    images: str | Path | None = None,
    check_counts: bool = True,
    protocol: Protocol = Protocol(),
    batch_size: int = 8,
    device: str = "auto",
    progress: bool = True,
    **model: Any,
) -> tuple[dict[str, Any], bool]:
    """The record in `out`, and whether `out` existed before; if it did, nothing is computed.

    Raises ValueError, before anything is computed, for an argument out of range, for a set without the sentences of
    `protocol`, for an `out` that holds something else and for results of another run; and the errors of
    `data.refer.load` and `load_segmenter`.

    Args:
        checkpoint: the file of weights, as in `load_segmenter`.
        root: folder or file of the data set, and from `dataset` to `check_counts` the further arguments of
            `data.refer.load`.
        out: the JSON file to write.
        protocol: how sentences and targets are read and where masks are compared; published if not given.
        batch_size: sentences in a batch.
        device: "auto", or a device of torch.
        progress: show a bar.
        model: further arguments of `load_segmenter`.
    """
    out, checkpoint = expanded(out), expanded(checkpoint)
    if batch_size < 1:
        raise ValueError(f"batch_size is 1 at least, given {batch_size}")
    check_folder_of(out)
    check_folder_of(_partial_of(out))  # whose name is longer
    split_by = refer.USUAL.get(dataset) if split_by is None else split_by
    expressions = refer.load(root, dataset, split, split_by, images=images, check_counts=check_counts)
    if not len(expressions):
        raise ValueError(f"there is no expression in {split} of {root}")
    _check_sentences(expressions, protocol)
    segmenter = load_segmenter(checkpoint, device=device, **model)
    run = {"dataset": dataset, "split_by": split_by, "split": split} | describe_run(checkpoint, segmenter, expressions)
    run |= asdict(protocol) | {"settings": {"image_size": segmenter.size} | _chosen(model)}

    if (stored := _read(out)) is not None:
        _same_run(out, stored, run, "name another file, or delete it")
        return stored, True
    partial = Partial(_partial_of(out), run)
    found = _all_overlaps(segmenter, expressions, partial, protocol, batch_size, progress)
    record = _record(run, found, expressions, segmenter, partial.seconds(), batch_size)
    write_atomically(out, (json.dumps(record, indent=1) + "\n").encode())
    partial.path.unlink(missing_ok=True)  # the same evaluation in another process may have finished before
    return record, False


def _partial_of(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _check_sentences(expressions: ReferringExpressions, protocol: Protocol) -> None:
    missing = sum(sentence.raw is None for _, sentence in expressions.pairs)
    if missing and protocol.sentences == "raw":
        raise ValueError(
            f"{missing:,} of {len(expressions):,} sentences lack 'raw', which the published evaluation reads: convert "
            "REFER's files again with `xattn convert-refer`, which left it out before, or choose the other form with "
            "sentences='sent'"
        )


def _chosen(model: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model that the caller chose. One word head is the default: choosing it is not recorded."""
    chosen = {name: model[name] for name in ("window", "word_heads", "bert_heads") if model.get(name) is not None}
    if chosen.get("word_heads") == 1:
        del chosen["word_heads"]
    return chosen


def _all_overlaps(
    segmenter: Segmenter,
    expressions: ReferringExpressions,
    partial: "Partial",
    protocol: Protocol,
    batch_size: int,
    progress: bool,
) -> Overlaps:
    """The overlaps of all expressions: those that `partial` holds, and the rest, computed and stored there."""
    found = partial.load()
    with progress_bar("evaluating", "expression", len(found), len(expressions), progress) as bar:
        try:
            while len(found) < len(expressions):
                end = min(len(found) + SAVE_EVERY, len(expressions))
                for part in masks_compared(segmenter, expressions, range(len(found), end), protocol, batch_size):
                    found += part
                    bar.update(len(part))
                partial.save(found)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"the memory of {segmenter.device.type} is too small for {batch_size} images at a time: give a smaller "
                "batch size; finished results are kept"
            ) from error
        finally:
            partial.save(found)
    return found


def masks_compared(
    segmenter: Segmenter,
    expressions: ReferringExpressions,
    chosen: range,
    protocol: Protocol = Protocol(),
    batch_size: int = 8,
) -> Iterator[Overlaps]:
    """The overlaps of the `chosen` expressions, batch by batch. An image is read once for expressions in a row.

    Raises ValueError for a set without the sentences of `protocol`.
    """
    _check_sentences(expressions, protocol)
    prepared = _prepared(segmenter, expressions, chosen, protocol)
    while batch := list(islice(prepared, batch_size)):
        pixels = torch.stack([item.pixels for item in batch])
        logits = segmenter.logits(pixels, [item.sentence for item in batch], protocol.keep_sep)
        sizes = [(item.mask.shape[0], item.mask.shape[1]) for item in batch]
        sized = [
            each[None] if size == each.shape[1:] else resize(each[None], size) for each, size in zip(logits, sizes)
        ]
        masks = [predicted_masks(each)[0].cpu() for each in sized]
        yield overlaps(masks, [item.mask for item in batch])


class _Item(NamedTuple):
    pixels: Tensor  # (3, size, size)
    sentence: str
    mask: Tensor  # (row, column) bool, of the size at which it is compared


def _prepared(
    segmenter: Segmenter, expressions: ReferringExpressions, chosen: range, protocol: Protocol
) -> Iterator[_Item]:
    image_id = ref_id = None
    for index in chosen:
        referent, sentence = expressions.pairs[index]
        if referent.image_id != image_id:
            image_id, pixels = referent.image_id, segmenter.pixels(expressions[index].image)
        if referent.ref_id != ref_id:
            ref_id, mask = referent.ref_id, referent.mask(protocol.parts)
            if protocol.at == "network":
                square = (segmenter.size, segmenter.size)
                mask = np.array(Image.fromarray(mask).resize(square, Image.Resampling.NEAREST))
        text = sentence.raw if protocol.sentences == "raw" else sentence.text
        assert text is not None  # see _check_sentences
        yield _Item(pixels, text, torch.from_numpy(mask))


def describe_run(checkpoint: Path, segmenter: Segmenter, expressions: ReferringExpressions) -> dict[str, Any]:
    """What must be equal for results to belong to one run: checksums of the weights, of the vocabulary, and of the
    expressions with their masks and the names of their images."""
    vocabulary = sorted(segmenter.tokenizer.backend.get_vocab().items())
    with open(checkpoint, "rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": weights,
        "vocabulary_sha256": _sha256(vocabulary),
        "expressions_sha256": _sha256([list(vars(referent).values()) for referent in expressions.referents]),
    }


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


# --- files


@dataclass
class Partial:
    """The file from which an interrupted evaluation continues."""

    path: Path
    run: dict[str, Any]
    before: float = 0.0  # seconds that interrupted calls took

    def load(self) -> Overlaps:
        """The overlaps of the expressions that are done. From here on time is measured.

        Raises ValueError for a file that is damaged or of another evaluation.
        """
        stored, fix = _read(self.path), "delete it to start anew, or name another output file"
        self.start = time.perf_counter()
        if stored is None:
            return Overlaps.concatenate([])
        _same_run(self.path, stored, self.run, fix)
        try:
            self.before = float(stored["seconds"])
            intersections, unions = (torch.tensor(stored[name]) for name in ("intersections", "unions"))
            whole = intersections.dtype == unions.dtype == torch.int64 and intersections.ndim == 1
            if (
                not whole
                or intersections.shape != unions.shape
                or not ((intersections >= 0) & (intersections <= unions)).all()
            ):
                raise ValueError("expected whole numbers, and no intersection larger than its union")
            return Overlaps(intersections, unions)
        except (KeyError, ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"{self.path} holds no partial results ({first_line(error)}): {fix}") from error

    def save(self, found: Overlaps) -> None:
        """Store the overlaps of the expressions that are done; no file is written if there are none."""
        if not len(found):
            return
        counts = {"intersections": found.intersections.tolist(), "unions": found.unions.tolist()}
        content = {"format": FORMAT, "run": self.run, "seconds": self.seconds()} | counts
        write_atomically(self.path, json.dumps(content).encode())

    def seconds(self) -> float:
        return round(self.before + time.perf_counter() - self.start, 3)


def _read(path: Path) -> dict[str, Any] | None:
    """The result that an earlier call stored under this name; None if there is no file."""
    if not path.exists():
        return None
    try:
        content = read_json(path)
        if content["format"] != FORMAT or not isinstance(content["run"], dict):
            raise ValueError("another format")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not path.exists():  # the same evaluation in another process has finished since
            return None
        raise ValueError(f"{path} is there already, and is no evaluation of ours: name another file") from error
    return content


def _same_run(path: Path, stored: dict[str, Any], run: dict[str, Any], fix: str) -> None:
    there = stored["run"]
    if different := [name for name in run if there.get(name) != run[name]]:
        shown = "; ".join(f"{name}: {there.get(name)} there, {run[name]} here" for name in different[:3])
        raise ValueError(f"{path} belongs to another evaluation ({shown}): {fix}")


def _record(
    run: dict[str, Any],
    found: Overlaps,
    expressions: ReferringExpressions,
    segmenter: Segmenter,
    seconds: float,
    batch_size: int,
) -> dict[str, Any]:
    packages = ("xattn-edu", "torch", "transformers", "numpy", "pillow")
    published = refer.PUBLISHED[run["dataset"], run["split_by"]][run["split"]]
    return {
        "format": FORMAT,
        "run": run,
        "batch_size": batch_size,
        "counts": {
            "expressions": len(expressions),
            "referents": len(expressions.referents),
            "referents_published": published,
            "images": len({referent.image_id for referent in expressions.referents}),
        },
        "scores": {name: found.interval(score, LEVEL / 100)._asdict() for name, score in SCORES.items()},
        "interval": f"{LEVEL} %, percentile bootstrap of the expressions, 1000 samples, as if they were independent",
        "seconds": seconds,
        "machine": describe_machine(segmenter.device),
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages},
    }


def table(record: dict[str, Any]) -> str:
    """The scores of a record in lines, in percent as in papers."""
    run, counts = record["run"], record["counts"]
    note = (
        ""
        if counts["referents"] == counts["referents_published"]
        else f" (published: {counts['referents_published']:,})"
    )
    lines = [
        f"{run['checkpoint']} on {run['dataset']} {run['split']} ({run['split_by']})",
        f"{counts['expressions']:,} expressions for {counts['referents']:,} referents{note} "
        f"in {counts['images']:,} images",
        "",
        f"{'%':<8}{'score':>6}   {LEVEL} % interval",
    ]
    for name, score in record["scores"].items():
        score, low, high = (100 * score[part] for part in ("score", "low", "high"))
        lines.append(f"{name:<8}{score:>6.2f}   {low:.2f} to {high:.2f}")
    return "\n".join([*lines, "", *_protocol_lines(run)])


def _protocol_lines(run: dict[str, Any]) -> list[str]:
    """Each choice beside the published one, and which of them differ."""
    published, here = asdict(Protocol()) | {"image_size": SIZE}, run | run["settings"]
    words = {True: "yes", False: "no"}
    lines = [f"{'':<12}{'here':<11}published"]
    for name, value in published.items():
        lines.append(f"{name:<12}{words.get(here[name], here[name]):<11}{words.get(value, value)}")
    changed = [name for name, value in published.items() if here[name] != value]
    return [*lines, f"differs from the published evaluation in {', '.join(changed)}" if changed else "nothing differs"]
