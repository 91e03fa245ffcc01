"""RefCOCO, RefCOCO+ and G-Ref: photographs, phrases people wrote for one object in them, and that object's mask.

Read from the user's disk, where the REFER project's files lie as they are unpacked:

    <root>/refcoco/refs(unc).p, refs(google).p, instances.json       likewise refcoco+ (unc) and refcocog (umd, google)
    <root>/images/train2014/*.jpg                                    or images/mscoco/images/train2014, or train2014

or from the one JSON file `convert` makes of refs and instances. `refs(...).p` is a pickle, which is a program: it is
read here by a reader that has no instruction to call anything, and everything is checked before it is used. Refs of
your own may be JSON instead, under the same name.

Two leaks to know of: the "google" splits were drawn by referent, so that train and val share images; and all three sets
describe the images of COCO's train2014, so that a model trained on one has seen the test images of the others, as has
one pre-trained on all of train2014.

Sources: Yu et al., "Modeling Context in Referring Expressions" (2016), arXiv 1608.00272 (RefCOCO, RefCOCO+, unc);
Mao et al., "Generation and Comprehension of Unambiguous Object Descriptions" (2016), arXiv 1511.02283 (G-Ref, google);
Nagaraja et al., "Modeling Context Between Objects for Referring Expression Understanding" (2016), arXiv 1608.00525
(umd); Lin et al., "Microsoft COCO: Common Objects in Context" (2014), arXiv 1405.0312 (images, masks).
"""

import json
import os
import reprlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy import ndarray
from PIL import Image
from pycocotools import mask as coco_mask

from xattn_edu.data.plain_pickle import read_plain_pickle
from xattn_edu.files import check_folder_of, expanded, parse_json, read_json, write_atomically
from xattn_edu.shapes import check_choice

PUBLISHED = {
    ("refcoco", "unc"): {"train": 42_404, "val": 3_811, "testA": 1_975, "testB": 1_810},
    ("refcoco", "google"): {"train": 40_000, "val": 5_000, "test": 5_000},
    ("refcoco+", "unc"): {"train": 42_278, "val": 3_805, "testA": 1_975, "testB": 1_798},
    ("refcocog", "umd"): {"train": 42_226, "val": 2_573, "test": 5_023},
    ("refcocog", "google"): {"train": 44_822, "val": 5_000},
}  # referents of each split
USUAL = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}  # the splits by which most papers report
IMAGE_FOLDERS = ("images/train2014", "images/mscoco/images/train2014", "train2014")
FORMAT = "xattn_edu refer 1"  # what a converted file calls itself
FIX = "download it again, by the links on the REFER project's page (github.com/lichengunc/refer)"
IMAGES_FIX = "download COCO's train2014 images (cocodataset.org), or say where they are with images=..."

SIDE = 4096  # pixels; COCO's images have at most 640. Nothing larger is decoded, and no mask of it is made
LARGEST = 2**30  # bytes of a file of refs or instances; the largest published one has a third of that
OUTLINE = 2**20  # pixels around all parts of a polygon: pycocotools walks along them in steps of a fifth

Kind = TypeVar("Kind")
Parts = Literal["union", "once"]  # pixels that any part of a referent covers, or those that exactly one covers


class Sentence(NamedTuple):
    """One phrase for a referent, in the two forms of the data sets."""

    sent_id: int
    text: str  # "sent": in lower case, without punctuation
    raw: str | None = None  # as people typed it; None if the file lacks it


@dataclass(frozen=True)
class Referent:
    """An object that is referred to, with all its sentences. Several referents may lie in one image."""

    ref_id: int
    ann_id: int
    image_id: int
    split: str
    sentences: tuple[Sentence, ...]
    file_name: str
    height: int
    width: int
    segmentation: Any  # as in COCO, already checked: see `mask`

    def mask(self, parts: Parts = "union") -> ndarray:
        """(height, width) bool, True on the object; `parts` as in the function `mask`."""
        return mask(self.segmentation, self.height, self.width, parts)


@dataclass(frozen=True, eq=False)
class Expression:
    """One item: a sentence, its image (height, width, 3) uint8, and the mask (height, width) bool it should give."""

    sentence: str
    image: ndarray
    mask: ndarray
    ref_id: int
    sent_id: int
    image_id: int


@dataclass(frozen=True, eq=False)
class ReferringExpressions:
    """The expressions of one split, in the files' order: every sentence of every referent is an item of its own.

    Images and masks are made when an item is asked for; `referents` and `sentences` are there without them. An item
    raises FileNotFoundError or ValueError, naming the file, for an image that is gone, broken, or of another size than
    its annotation.
    """

    referents: tuple[Referent, ...]
    images: Path

    @cached_property
    def pairs(self) -> tuple[tuple[Referent, Sentence], ...]:
        """The referent and the sentence of each item."""
        return tuple((referent, sentence) for referent in self.referents for sentence in referent.sentences)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The text of each item."""
        return tuple(sentence.text for _, sentence in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Expression:
        referent, sentence = self.pairs[index]
        image = _image(self.images / referent.file_name, referent.height, referent.width)
        return Expression(sentence.text, image, referent.mask(), referent.ref_id, sentence.sent_id, referent.image_id)


class Count(NamedTuple):
    """Referents found in a split, and published."""

    found: int
    published: int


def load(
    root: str | Path,
    dataset: str,
    split: str,
    split_by: str | None = None,
    *,
    images: str | Path | None = None,
    check_counts: bool = True,
) -> ReferringExpressions:
    """A split of "refcoco", "refcoco+" or "refcocog".

    Args:
        root: the folder with the published files, or a file made by `convert`.
        dataset: "refcoco", "refcoco+" or "refcocog" (G-Ref).
        split: "train", "val", and "testA" (people) and "testB" (other objects) for unc, else "test"; G-Ref by google
            has no test split.
        split_by: "unc", "google" or "umd"; by default unc, and umd for G-Ref.
        images: the folder of the .jpg files, if it is not one of the usual places below `root` or beside the file.
        check_counts: whether to refuse a split with another number of referents than the published one.

    The whole split is checked before this returns, up to the presence of each image (their content is when it is read).
    Raises ValueError for an unknown set or split, for a file that is damaged or contradicts the others, and for another
    number of referents than the published one (a miniature set loads with check_counts=False); FileNotFoundError for
    files that are not there. Both name the file and the likely fix.
    """
    root, split_by = _choose(root, dataset, split_by)
    splits = PUBLISHED[dataset, split_by]
    if split not in splits:
        raise ValueError(f"{dataset} by {split_by} has the splits {', '.join(splits)}, given {split!r}")
    folder = _image_folder(root, images)
    source = _Source.read(root, dataset, split_by)
    referents = source.referents(splits, split)
    if check_counts and len(referents) != splits[split]:
        raise ValueError(
            f"{source.refs_path} has {len(referents):,} referents in {split}, published were {splits[split]:,}: "
            f"{source.fix}; or load a set of your own with check_counts=False"
        )
    there = set(os.listdir(folder))
    missing = sorted({referent.file_name for referent in referents} - there)
    if missing:
        raise FileNotFoundError(f"{len(missing):,} images are not in {folder}, such as {missing[0]}: {IMAGES_FIX}")
    return ReferringExpressions(referents, folder)


def counts(root: str | Path, dataset: str, split_by: str | None = None) -> dict[str, Count]:
    """How many referents each split has, beside the published number. Reads as `load` does, and raises as it does, but
    for the numbers; images are not needed."""
    root, split_by = _choose(root, dataset, split_by)
    splits = PUBLISHED[dataset, split_by]
    found = [referent.split for referent in _Source.read(root, dataset, split_by).referents(splits)]
    return {split: Count(found.count(split), published) for split, published in splits.items()}


def convert(root: str | Path, dataset: str, split_by: str, out: str | Path) -> int:
    """Write refs and the instances they need, all splits, as one JSON file that `load` takes for `root`.

    Returns the number of sentences without their raw form: 0, unless `root` is a file of an earlier version.

    The file is written whole or not at all, and only if everything in it is sound. It is laid out as the published ones
    (refs, images, annotations), without what is not used here. Raises as `load`; images are not needed.
    """
    (root, split_by), out = _choose(root, dataset, split_by), expanded(out)
    check_folder_of(out)
    referents = _Source.read(root, dataset, split_by).referents(PUBLISHED[dataset, split_by])
    images: dict[int, dict[str, Any]] = {}
    annotations: dict[int, dict[str, Any]] = {}
    refs = []
    for ref in referents:
        size = {"height": ref.height, "width": ref.width}
        images[ref.image_id] = {"id": ref.image_id, "file_name": ref.file_name} | size
        annotations[ref.ann_id] = {"id": ref.ann_id, "image_id": ref.image_id, "segmentation": ref.segmentation}
        sentences = [
            {"sent_id": sent_id, "sent": text} | ({} if raw is None else {"raw": raw})
            for sent_id, text, raw in ref.sentences
        ]
        ids = {"ref_id": ref.ref_id, "ann_id": ref.ann_id, "image_id": ref.image_id}
        refs.append(ids | {"split": ref.split, "sentences": sentences})
    content = {"format": FORMAT, "dataset": dataset, "split_by": split_by, "refs": refs}
    content |= {"images": list(images.values()), "annotations": list(annotations.values())}
    write_atomically(out, json.dumps(content).encode())
    return sum(sentence.raw is None for ref in referents for sentence in ref.sentences)


def mask(segmentation: Any, height: int, width: int, parts: Parts = "union") -> ndarray:
    """(height, width) bool, True on the object, from a COCO segmentation.

    `segmentation` is a list of polygons [x0, y0, x1, y1, ...], drawn by pycocotools, as in the published scores; or run
    lengths {"size": [height, width], "counts": ...} down the columns, background first, as a list or as COCO's string.
    No polygon, or polygons that hold no pixel's centre, give an empty mask. An empty union has an IoU of 0, see
    `measure.overlaps.Overlaps`.

    `parts` "union" makes all pixels of all polygons True. "once" makes those True that exactly one polygon covers, so
    that an overlap of two is background: the published scores of LAVT and others have such targets.

    Raises ValueError for another `parts`, for run lengths that do not fill the image, and for polygons of fewer than
    three points or more than the image's size outside it. A polygon of two points covers no pixel; it is accepted
    beside others.
    """
    check_choice("parts", parts, ("union", "once"))
    _check_size(height, width)
    segmentation = _checked_segmentation(segmentation, height, width)
    if isinstance(segmentation, dict):
        parts_runs = [_runs(segmentation, height, width)]
    else:
        drawn = coco_mask.frPyObjects(segmentation, height, width) if segmentation else []
        parts_runs = [_unpacked(polygon["counts"].decode()) for polygon in drawn]
    changes = np.zeros(height * width + 1, np.int64)
    for runs in parts_runs:
        np.add.at(changes, np.cumsum(runs), np.resize([1, -1], len(runs)))  # after background +1, after the object -1
    covered = np.cumsum(changes[:-1]).reshape(width, height).T
    return np.ascontiguousarray(covered == 1 if parts == "once" else covered > 0)


# --- the files


def _choose(root: str | Path, dataset: str, split_by: str | None) -> tuple[Path, str]:
    check_choice("dataset", dataset, USUAL)
    split_by = USUAL[dataset] if split_by is None else split_by
    if (dataset, split_by) not in PUBLISHED:
        known = " or ".join(by for name, by in PUBLISHED if name == dataset)
        raise ValueError(f"{dataset} is split by {known}, given {split_by!r}")
    root = expanded(root)
    if not root.exists():
        raise FileNotFoundError(f"{root} is missing: set `root` to the folder that holds {dataset}/, or {FIX}")
    return root, split_by


def _image_folder(root: Path, images: str | Path | None) -> Path:
    beside = root.parent if root.is_file() else root
    places = [beside / folder for folder in IMAGE_FOLDERS] if images is None else [expanded(images)]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"there is no folder {' or '.join(map(str, places))}: {IMAGES_FIX}")


@contextmanager
def _naming(what: object, fix: str = FIX) -> Iterator[None]:
    """A complaint about a file begins with its name and ends with the fix."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}: {fix}") from error


class _Source(NamedTuple):
    """The contents of the files, as read: nothing in them has been checked yet."""

    refs: Any
    instances: Any
    refs_path: Path
    instances_path: Path
    fix: str = FIX

    @staticmethod
    def read(root: Path, dataset: str, split_by: str) -> "_Source":
        if root.is_file():
            fix = "make it again with `xattn convert-refer`"
            with _naming(root, fix):
                content = read_json(root, LARGEST)
                for name, expected in {"format": FORMAT, "dataset": dataset, "split_by": split_by}.items():
                    if _field(content, name, str) != expected:
                        raise ValueError(f"expected {name} {expected!r}, found {_shown(content[name])}")
                return _Source(_field(content, "refs", list), content, root, root, fix)
        refs_path, instances_path = root / dataset / f"refs({split_by}).p", root / dataset / "instances.json"
        for path in (refs_path, instances_path):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: {FIX}")
        with _naming(refs_path):
            refs = _read_refs(refs_path)
            if type(refs) is not list:
                raise ValueError(f"expected a list of refs, found {_shown(refs)}")
        with _naming(instances_path):
            return _Source(refs, read_json(instances_path, LARGEST), refs_path, instances_path)

    def referents(self, splits: dict[str, int], only: str | None = None) -> tuple[Referent, ...]:
        """The referents of all splits, or of one only, each checked against its image and annotation."""
        with _naming(self.instances_path, self.fix):
            images, annotations = _by_id(self.instances, "images"), _by_id(self.instances, "annotations")

        @cache  # what many refs name is checked once
        def instance(image_id: int, ann_id: int) -> tuple[str, int, int, Any]:
            with _naming(f"{self.instances_path}, image {image_id}", self.fix):
                file_name, height, width = _checked_image(images[image_id])
            with _naming(f"{self.instances_path}, annotation {ann_id}", self.fix):
                found = _field(annotations[ann_id], "image_id", int)
                if found != image_id:
                    raise ValueError(f"it lies in image {found}, but {self.refs_path.name} says {image_id}")
                segmentation = _checked_segmentation(annotations[ann_id].get("segmentation"), height, width)
            return file_name, height, width, segmentation

        referents: list[Referent] = []
        ref_ids: set[int] = set()
        sent_ids: set[int] = set()
        for number, ref in enumerate(self.refs):
            with _naming(f"{self.refs_path}, ref number {number}", self.fix):
                ref_id, ann_id, image_id = (_field(ref, name, int) for name in ("ref_id", "ann_id", "image_id"))
                _add_new(ref_ids, "ref_id", ref_id)
                split = _field(ref, "split", str)
                if split not in splits:
                    raise ValueError(f"'split' should be one of {', '.join(splits)}, found {_shown(split)}")
                sentences = []
                for item in _field(ref, "sentences", list):
                    sentence = Sentence(
                        _field(item, "sent_id", int),
                        _field(item, "sent", str),
                        _field(item, "raw", str) if "raw" in item else None,
                    )
                    # a thousand refs can share one list of a million sentences, in a small pickle
                    _add_new(sent_ids, "sent_id", sentence.sent_id)
                    sentences.append(sentence)
                for name, known, key in (("image_id", images, image_id), ("ann_id", annotations, ann_id)):
                    if key not in known:
                        raise ValueError(f"its {name} {key} is not in {self.instances_path}")
            if only in (None, split):
                place = instance(image_id, ann_id)
                referents.append(Referent(ref_id, ann_id, image_id, split, tuple(sentences), *place))
        return tuple(referents)


def _shown(value: Any) -> str:
    """Its repr, which stays short whatever a file has nested."""
    short = reprlib.Repr()
    short.maxlevel = 2
    return short.repr(value)


def _field(record: Any, name: str, kind: type[Kind]) -> Kind:
    """record[name], found to be of this type and nothing else (a bool is no int), and within 64 bits."""
    value = record.get(name) if isinstance(record, dict) else None
    if type(value) is not kind or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        raise ValueError(f"{name!r} should be {kind.__name__}, found {_shown(value)}")
    if isinstance(value, str):
        value.encode()  # half a surrogate pair raises here, not in a tokenizer
    return value


def _checked_image(image: dict[str, Any]) -> tuple[str, int, int]:
    """file name, height, width"""
    file_name = _field(image, "file_name", str)
    height, width = (_field(image, name, int) for name in ("height", "width"))
    # No way out of the images' folder, on Windows neither; but spaces, and letters of any language.
    if not file_name.isprintable() or set(file_name) & set("/\\:") or not file_name.strip(". "):
        raise ValueError(f"'file_name' should be a plain file name, found {_shown(file_name)}")
    _check_size(height, width)
    return file_name, height, width


def _by_id(instances: Any, name: str) -> dict[int, dict[str, Any]]:
    records: dict[int, dict[str, Any]] = {}
    for number, record in enumerate(_field(instances, name, list)):
        if type(record) is not dict or type(record.get("id")) is not int or record["id"] in records:
            raise ValueError(f"{name!r} number {number} has no 'id' of its own: {_shown(record)}")
        records[record["id"]] = record
    return records


def _add_new(seen: set[int], name: str, value: int) -> None:
    if value in seen:
        raise ValueError(f"{name} {value} occurs twice")
    seen.add(value)


def _read_refs(path: Path) -> Any:
    """Plain data from a pickle, or from JSON, which begins as no pickle does."""
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"{size:,} bytes are more than the {LARGEST:,} that such a file has at most")
    content = path.read_bytes()
    return parse_json(content) if content.lstrip()[:1] == b"[" else read_plain_pickle(content)


def _image(path: Path, height: int, width: int) -> ndarray:
    """(height, width, 3) uint8; grey photographs become colour ones of three equal channels."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {IMAGES_FIX}")
    with _naming(path, "download COCO's train2014 images again (cocodataset.org)"):
        try:
            with Image.open(path, formats=["JPEG"]) as file:
                if file.size != (width, height):  # known from the header: nothing is decoded before
                    raise ValueError(f"the image is {file.width} x {file.height}, its annotation is {width} x {height}")
                return np.array(file.convert("RGB"))
        except (OSError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
            raise ValueError(f"this is no sound JPEG file ({error})") from error


# --- the masks


def _check_size(height: int, width: int) -> None:
    if not (1 <= height <= SIDE and 1 <= width <= SIDE):
        raise ValueError(f"height and width should be 1 to {SIDE}, found {height} and {width}")


def _checked_segmentation(segmentation: Any, height: int, width: int) -> Any:
    """The segmentation, free of anything that `mask` does not need, or that pycocotools' C code should not be given."""
    if isinstance(segmentation, dict):
        _runs(segmentation, height, width)
        return {"size": [height, width], "counts": segmentation["counts"]}
    if type(segmentation) is not list or any(type(polygon) is not list for polygon in segmentation):
        raise ValueError(f"'segmentation' should be a list of polygons or run lengths, found {_shown(segmentation)}")
    # pycocotools, hence the published reader, draws a polygon of two points beside others as nothing.
    segmentation = [polygon for polygon in segmentation if len(polygon) != 4] or segmentation
    around = 0.0
    for polygon in segmentation:
        if len(polygon) < 6 or len(polygon) % 2 or any(type(value) not in (int, float) for value in polygon):
            raise ValueError(f"a polygon should be x, y of three points or more, found {_shown(polygon)}")
        for values, side in ((polygon[::2], width), (polygon[1::2], height)):
            if not all(-side <= value <= 2 * side for value in values):  # nor a NaN
                raise ValueError(f"a polygon is far outside its image of {width} x {height}: {_shown(values)}")
            around += sum(abs(value - before) for value, before in zip(values, values[-1:] + values[:-1]))
    if around > OUTLINE:
        raise ValueError(f"the outline is {around:,.0f} pixels long: no object's is more than {OUTLINE:,}")
    return segmentation


def _runs(segmentation: dict[str, Any], height: int, width: int) -> list[int]:
    """The run lengths, found to fill the image."""
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"'size' should be [{height}, {width}], found {_shown(segmentation.get('size'))}")
    runs = segmentation.get("counts")
    if isinstance(runs, str):
        runs = _unpacked(runs)
    if type(runs) is not list or any(type(run) is not int or not 0 <= run <= SIDE**2 for run in runs):
        raise ValueError(f"'counts' should be whole numbers of 0 or more, or a string of COCO's, found {_shown(runs)}")
    if sum(runs) != height * width:
        raise ValueError(f"'counts' should sum to {height} x {width} = {height * width}, found {sum(runs)}")
    return runs


def _unpacked(text: str) -> list[int]:
    """The run lengths in COCO's string.

    Five bits a character, least significant first, from "0" on; its bit 32 says that the number goes on, its bit 16 is
    the sign at the end. From the fourth on, a number is the difference to the run before the last. Source:
    `rleToString` in the COCO API.
    """
    runs: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"'counts' is no string of COCO's run lengths: {_shown(text)}")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                number -= 1 << shift
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("the string 'counts' ends within a number")
    return runs
