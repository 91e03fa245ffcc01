"""A set of five referents in the published files' formats, and the masks it should give, known without the library."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from PIL import Image

from xattn_edu.data.refer import PUBLISHED, Expression, ReferringExpressions, load

SIZES = {9: (12, 16), 25: (10, 8), 30: (20, 14), 31: (6, 6)}  # image_id: height, width
SENTENCES = {
    0: ["left man", "man in red"],
    1: ["the grey dog"],
    2: ["café sign", "sign", "top one “here”"],
    3: ["right man"],
    4: ["people"],
}


class Miniature(NamedTuple):
    """root: what `load` takes. refs, instances: what its files hold. masks: of each annotation, by ann_id."""

    root: Path
    refs: list[dict[str, Any]]
    instances: dict[str, Any]
    masks: dict[int, ndarray]

    @property
    def refs_path(self) -> Path:
        return next(self.root.glob("*/refs(*).p"))

    @property
    def instances_path(self) -> Path:
        return next(self.root.glob("*/instances.json"))

    @property
    def images(self) -> Path:
        return self.root / "images" / "train2014"

    def write(self, protocol: int = 2) -> None:
        """Write refs and instances again, after a test has changed them."""
        self.refs_path.write_bytes(python2_pickle(self.refs, protocol))
        self.instances_path.write_text(json.dumps(self.instances))


def miniature(folder: Path, dataset: str = "refcoco", split_by: str = "unc", protocol: int = 2) -> Miniature:
    """Write the set below `folder`: each split has a referent, train has those left. Images are smooth, so that JPEG
    changes them little; the second is grey."""
    images = folder / "images" / "train2014"
    images.mkdir(parents=True)
    for image_id in SIZES:
        Image.fromarray(picture(image_id)).save(images / name(image_id), quality=95)
    masks = _masks()
    annotations = [
        {"id": 16, "image_id": 9, "segmentation": [[2, 3, 8, 3, 8.0, 9, 2, 9], [5, 6, 12, 6, 12, 11, 5, 11]]},
        {"id": 17, "image_id": 25, "segmentation": {"size": [10, 8], "counts": runs(masks[17])}, "iscrowd": 1},
        {"id": 18, "image_id": 30, "segmentation": {"size": [20, 14], "counts": packed(runs(masks[18]))}},
        {"id": 19, "image_id": 9, "segmentation": [[10, 0, 16, 0, 16, 4, 10, 4]]},
        {"id": 20, "image_id": 30, "segmentation": []},
        {"id": 21, "image_id": 31, "segmentation": "of no referent, so never looked at"},
    ]
    instances = {
        "images": [{"id": i, "file_name": name(i), "height": h, "width": w} for i, (h, w) in SIZES.items()],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
    }
    splits, refs, sent_id = list(PUBLISHED[dataset, split_by]), [], 100
    for ref_id, texts in SENTENCES.items():
        sentences = []
        for text in texts:
            tokens = text.split()
            sentences.append({"raw": text.title(), "sent": text, "sent_id": sent_id, "tokens": tokens})
            sent_id += 1
        annotation = annotations[ref_id]
        refs.append(
            {
                "ref_id": ref_id,
                "ann_id": annotation["id"],
                "category_id": 1,
                "image_id": annotation["image_id"],
                "file_name": name(annotation["image_id"]).replace(".jpg", f"_{annotation['id']}.jpg"),  # as published
                "split": splits[ref_id] if ref_id < len(splits) else "train",
                "sent_ids": [sentence["sent_id"] for sentence in sentences],
                "sentences": sentences,
            }
        )
    (folder / dataset).mkdir()
    (folder / dataset / f"refs({split_by}).p").touch()
    (folder / dataset / "instances.json").touch()
    made = Miniature(folder, refs, instances, masks)
    made.write(protocol)
    return made


def name(image_id: int) -> str:
    return f"COCO_train2014_{image_id:012}.jpg"


def picture(image_id: int) -> ndarray:
    """(height, width, 3) uint8, a slope of another colour in each image; (height, width) for the grey one."""
    height, width = SIZES[image_id]
    slope = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 80, width))
    if image_id == 25:
        return slope.astype(np.uint8)
    return np.stack([slope, slope / 2 + 3 * image_id, 200 - slope], axis=2).astype(np.uint8)


def runs(mask: ndarray) -> list[int]:
    """COCO's run lengths: down the columns, how many pixels are off, then on, then off ..."""
    lengths, on = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != on:
            lengths.append(0)
            on = pixel
        lengths[-1] += 1
    return lengths


def packed(lengths: list[int]) -> str:
    """COCO's string for run lengths: five bits a character; from the fourth on, less the run before the last."""
    text = ""
    for place, length in enumerate(lengths):
        value, more = length - (lengths[place - 2] if place > 2 else 0), True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


def _masks() -> dict[int, ndarray]:
    masks = {
        ann_id: np.zeros(SIZES[image_id], bool) for ann_id, image_id in ((16, 9), (17, 25), (18, 30), (19, 9), (20, 30))
    }
    masks[16][3:9, 2:8] = masks[16][6:11, 5:12] = True  # two parts, which overlap
    masks[17][0, 0] = masks[17][4:, 3:] = True  # begins with a run of nothing off
    masks[18][::3, 2:13:2] = masks[18][10:18, 5:7] = True
    masks[19][:4, 10:] = True  # touches the border
    return masks


def python2_pickle(value: Any, protocol: int = 2) -> bytes:
    """What cPickle of Python 2 writes, in protocol 0 or 2: text that is not ASCII as unicode, all else as str."""
    memo: dict[str, int] = {}
    places = 0

    def put() -> bytes:
        nonlocal places
        places += 1
        if protocol == 0:
            return b"p%d\n" % places
        return b"q" + bytes([places]) if places < 256 else b"r" + struct.pack("<I", places)

    def text(value: str) -> bytes:
        if value in memo:
            number = memo[value]
            if protocol == 0:
                return b"g%d\n" % number
            return b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<I", number)
        encoded = value.encode()
        if protocol == 0:
            code = (
                b"S%s\n" % ascii(value).encode() if value.isascii() else b"V%s\n" % value.encode("raw-unicode-escape")
            )
        elif value.isascii():
            code = b"U" + bytes([len(encoded)]) + encoded
        else:
            code = b"X" + struct.pack("<I", len(encoded)) + encoded
        code += put()
        memo[value] = places
        return code

    def save(value: Any) -> bytes:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, int):
            return b"I%d\n" % value if protocol == 0 else b"J" + struct.pack("<i", value)
        start = (
            (b"(l" if isinstance(value, list) else b"(d")
            if protocol == 0
            else (b"]" if isinstance(value, list) else b"}")
        )
        start += put()
        if isinstance(value, list):
            items = [save(item) for item in value]
            add_one, add_all = b"a", b"e"
        else:
            items = [save(key) + save(item) for key, item in value.items()]
            add_one, add_all = b"s", b"u"
        if protocol == 0:
            return start + b"".join(item + add_one for item in items)
        return start + b"(" + b"".join(items) + add_all

    return (b"\x80\x02" if protocol == 2 else b"") + save(value) + b"."


def load_small(small: Miniature, split: str = "train", **options: Any) -> ReferringExpressions:
    """Loads the set although it has fewer referents than were published."""
    return load(small.root, "refcoco", split, check_counts=False, **options)


def all_items(small: Miniature, root: Path | None = None) -> Iterator[Expression]:
    """The items of all splits, from the set's folder or from `root`."""
    for split in PUBLISHED["refcoco", "unc"]:
        data = load(root or small.root, "refcoco", split, images=small.images, check_counts=False)
        yield from (data[index] for index in range(len(data)))
