"""The published evaluation of referring segmentation, on RefCOCO, RefCOCO+ and G-Ref: one mask an expression.

`evaluate` reads a checkpoint and a split, predicts a mask for each sentence of each referent, and writes one JSON file:
oIoU, mIoU and P@0.5 to P@0.9 with intervals, and what they were measured with. It may be stopped at any time. Finished
results are then in FILE.partial, and the same call continues from there, also with another batch size or on another
device. Results of another checkpoint, data set or setting are refused, not mixed.

In the published evaluation an image is squashed to the network's square, and so is its mask (nearest pixel). The two
masks are compared there, in pixels of the squashed image. at="original" compares in the photograph's own pixels
instead: the logits are resized to it (bilinear, corners on corners). Sentences are those that the data sets call
"sent": in lower case, without punctuation.
"""

import hashlib
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xattn_edu.data import refer
from xattn_edu.data.refer import ReferringExpressions
from xattn_edu.files import check_folder_of, first_line, read_json, write_atomically
from xattn_edu.machine import describe_machine
from xattn_edu.measure.overlaps import Overlaps, Score, overlaps
from xattn_edu.models.masks import predicted_masks, resize
from xattn_edu.predict.loading import load_segmenter
from xattn_edu.predict.segmenter import Segmenter

FORMAT = "xattn_edu evaluation 1"  # what a finished file and a partial one call themselves
SAVE_EVERY = 200  # expressions
SCORES: dict[str, Score] = {"oIoU": "oiou", "mIoU": "miou"}
SCORES |= {f"P@{threshold}": ("precision", threshold) for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)}


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
    at: Literal["network", "original"] = "network",
    batch_size: int = 8,
    device: str = "auto",
    progress: bool = True,
    **model: Any,
) -> tuple[dict[str, Any], bool]:
    """The record in `out`, and whether `out` existed before; if it did, nothing is computed.

    Raises ValueError, before anything is computed, for an argument out of range, for an `out` that holds something else
    and for results of another run; and the errors of `data.refer.load` and `load_segmenter`.

    Args:
        checkpoint: the file of weights, as in `load_segmenter`.
        root: folder or file of the data set, and from `dataset` to `check_counts` the further arguments of
            `data.refer.load`.
        out: the JSON file to write.
        at: the size at which masks are compared, see above.
        batch_size: sentences in a batch.
        device: "auto", or a device of torch.
        progress: show a bar.
        model: further arguments of `load_segmenter`.
    """
    out, checkpoint = Path(out).expanduser(), Path(checkpoint).expanduser()
    _check_arguments(out, at, batch_size)
    split_by = refer.USUAL.get(dataset) if split_by is None else split_by
    expressions = refer.load(root, dataset, split, split_by, images=images, check_counts=check_counts)
    if not len(expressions):
        raise ValueError(f"there is no expression in {split} of {root}")
    segmenter = load_segmenter(checkpoint, device=device, **model)
    run = {"dataset": dataset, "split_by": split_by, "split": split} | describe_run(checkpoint, segmenter, expressions)
    run |= {"compared_at": f"{segmenter.size} x {segmenter.size}" if at == "network" else "the image's size"}
    run |= {"settings": {"image_size": segmenter.size} | _chosen(model)}

    if (stored := _read(out)) is not None:
        _same_run(out, stored, run, "name another file, or delete it")
        return stored, True
    partial = Partial(out.with_name(out.name + ".partial"), run)
    found = _all_overlaps(segmenter, expressions, partial, at, batch_size, progress)
    record = _record(run, found, expressions, segmenter, partial.seconds(), batch_size)
    write_atomically(out, (json.dumps(record, indent=1) + "\n").encode())
    partial.path.unlink()
    return record, False


def _check_arguments(out: Path, at: str, batch_size: int) -> None:
    if at not in ("network", "original"):
        raise ValueError(f'masks are compared at "network" or "original" size, given {at!r}')
    if batch_size < 1:
        raise ValueError(f"batch_size is 1 at least, given {batch_size}")
    check_folder_of(out)


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
    at: Literal["network", "original"],
    batch_size: int,
    progress: bool,
) -> Overlaps:
    """The overlaps of all expressions: those that `partial` holds, and the rest, computed and stored there."""
    found = partial.load()
    with _bar(len(found), len(expressions), progress) as bar:
        try:
            while len(found) < len(expressions):
                end = min(len(found) + SAVE_EVERY, len(expressions))
                for part in masks_compared(segmenter, expressions, range(len(found), end), at, batch_size):
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
    at: Literal["network", "original"] = "network",
    batch_size: int = 8,
) -> Iterator[Overlaps]:
    """The overlaps of the `chosen` expressions, batch by batch. An image is read once for expressions in a row."""
    prepared = _prepared(segmenter, expressions, chosen, at)
    while batch := list(islice(prepared, batch_size)):
        logits = segmenter.logits(torch.stack([item.pixels for item in batch]), [item.sentence for item in batch])
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
    segmenter: Segmenter, expressions: ReferringExpressions, chosen: range, at: Literal["network", "original"]
) -> Iterator[_Item]:
    image_id = ref_id = None
    for index in chosen:
        referent, sentence = expressions.pairs[index]
        if referent.image_id != image_id:
            image_id, pixels = referent.image_id, segmenter.pixels(expressions[index].image)
        if referent.ref_id != ref_id:
            ref_id, mask = referent.ref_id, referent.mask()
            if at == "network":
                square = (segmenter.size, segmenter.size)
                mask = np.array(Image.fromarray(mask).resize(square, Image.Resampling.NEAREST))
        yield _Item(pixels, sentence.text, torch.from_numpy(mask))


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
        """The overlaps of the expressions that are done. From here on time is measured."""
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
        "scores": {name: found.interval(score)._asdict() for name, score in SCORES.items()},
        "interval": "95 %, percentile bootstrap of the expressions, 1000 samples, as if they were independent",
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
        f"{run['checkpoint']} on {run['dataset']} {run['split']} ({run['split_by']}), "
        f"masks compared at {run['compared_at']}",
        f"{counts['expressions']:,} expressions for {counts['referents']:,} referents{note} "
        f"in {counts['images']:,} images",
        "",
        f"{'%':<8}{'score':>6}   95 % interval",
    ]
    for name, score in record["scores"].items():
        score, low, high = (100 * score[part] for part in ("score", "low", "high"))
        lines.append(f"{name:<8}{score:>6.2f}   {low:.2f} to {high:.2f}")
    return "\n".join(lines)


def _bar(done: int, count: int, show: bool) -> Any:
    """A progress bar in terminals; nothing in files and pipes."""
    from tqdm.auto import tqdm

    return tqdm(
        total=count, initial=done, desc="evaluating", unit="expression", disable=not (show and sys.stderr.isatty())
    )
