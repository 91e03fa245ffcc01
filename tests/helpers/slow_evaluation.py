"""The published evaluation of LAVT once more, one pixel after the other, and a set on which its choices matter.

Written from the description of the published reader and test script. Only the model, Pillow and pycocotools are shared
with the library.
"""

import unicodedata
from pathlib import Path

import torch
from helpers.miniature_refcoco import Miniature, miniature, name, runs
from PIL import Image
from pycocotools import mask as coco_mask

SIDE, PIECES = 32, 20
LONG = "the man in red left of the dog in grey right of the top sign with the one mannequin people"
# ann_id and the sentences of each referent, as typed and as the data sets have them: lower case, no punctuation
REFERENTS = [
    (16, [("Left man.", "left man"), ("the man, in red", "the man in red")]),
    (19, [("Right Man!", "right man")]),  # in the same image as the one before
    (50, [("the $1 sign.", "the 1 sign"), (LONG + " , left .", LONG + " left")]),
    (
        51,
        [
            ("Café, right...", "cafe right"),
            ("a, the, left, right, man, in, red, dog, top", "a the left right man in red"),
        ],
    ),
    (17, [("people", "people"), ("", "")]),
    (52, [("The grey dog (top)", "the grey dog top")]),
    (53, [("top-left mannequins, $$$", "top left mannequins"), (LONG.title(), LONG)]),
    (18, [("one red sign, the one on the left.", "one red sign the one on the left")]),
    (20, [("dog?", "dog")]),
    (54, [("the man.", "the man")]),
    (55, [("ALL people.", "all people"), ("top", "top")]),
]
LARGE = {40: (50, 70), 41: (40, 28)}  # image_id: height, width; larger than the network's square


def hard_miniature(folder: Path) -> Miniature:
    """A set of 17 sentences, all in val: overlapping parts, a part twice, parts apart, lines of four numbers, crowds,
    an object without pixels, long sentences, a blank one, and images that are smaller and larger than the square."""
    small = miniature(folder)
    for image_id, (height, width) in LARGE.items():
        pixels = [
            (3 * x + 2 * y, 5 * x if image_id == 40 else 6 * y, 40 * (x // 9 + y // 7) % 256)
            for y in range(height)
            for x in range(width)
        ]
        image = Image.new("RGB", (width, height))
        image.putdata([tuple(min(255, value) for value in pixel) for pixel in pixels])
        image.save(small.images / name(image_id), quality=95)
        small.instances["images"].append(
            {"id": image_id, "file_name": name(image_id), "height": height, "width": width}
        )
    crowd = torch.zeros(LARGE[41], dtype=torch.bool)
    crowd[5:30:3, 2:20] = crowd[20:38, 12:26] = True
    box = [4, 3, 24, 3, 24, 25, 4, 25]
    small.instances["annotations"] += [
        {
            "id": 50,
            "image_id": 40,
            "segmentation": [[5, 5, 60.5, 8, 40, 44.2], [20, 10, 66, 10, 66, 40, 20, 40], [3, 3, 9, 9]],
        },
        {
            "id": 51,
            "image_id": 40,
            "segmentation": [[1, 30, 18, 30, 18, 49, 1, 49], [50, 1, 69, 1, 69, 12, 50, 12], [1, 2, 30, 2]],
        },
        {"id": 52, "image_id": 41, "segmentation": [box, box, [2, 20, 26, 20, 26, 36, 2, 36]]},
        {"id": 53, "image_id": 41, "segmentation": {"size": [*LARGE[41]], "counts": runs(crowd.numpy())}, "iscrowd": 1},
        {"id": 54, "image_id": 9, "segmentation": [[0, 0, 9, 0, 9, 11, 0, 11]]},
        {"id": 55, "image_id": 31, "segmentation": [[0, 0, 6, 0, 6, 6, 0, 6]]},
    ]
    images = {annotation["id"]: annotation["image_id"] for annotation in small.instances["annotations"]}
    small.refs[:] = []
    for ref_id, (ann_id, texts) in enumerate(REFERENTS):
        sentences = [
            {"raw": raw, "sent": sent, "sent_id": 10 * ref_id + number, "tokens": sent.split()}
            for number, (raw, sent) in enumerate(texts)
        ]
        ids = {"ref_id": ref_id, "ann_id": ann_id, "image_id": images[ann_id]}
        small.refs.append(ids | {"split": "val", "sentences": sentences})
    small.write()
    return small


def slow_counts(small, model, words, sentences="raw", keep_sep=False, parts="once", at="network"):
    """Intersection and union of each sentence, in pixels. `words` is the vocabulary, in the order of its ids."""
    counts = []
    annotations = {annotation["id"]: annotation for annotation in small.instances["annotations"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in small.instances["images"]}
    for ref in small.refs:
        height, width = sizes[ref["image_id"]]
        target = slow_target(annotations[ref["ann_id"]]["segmentation"], height, width, parts)
        pixels = slow_pixels(small.images / name(ref["image_id"]))
        if at == "network":
            target = slow_nearest(target)
        for sentence in ref["sentences"]:
            ids = slow_ids(sentence[sentences], words, keep_sep)
            padded = ids + [words.index("[PAD]")] * (PIECES - len(ids))
            mask = torch.tensor([[True] * len(ids) + [False] * (PIECES - len(ids))])
            with torch.no_grad():
                background, referent = model(pixels, torch.tensor([padded]), mask)[0].tolist()
            if at == "original":
                background, referent = (slow_bilinear(each, height, width) for each in (background, referent))
            counts.append(slow_overlap(background, referent, target))
    return counts


def slow_ids(text, words, keep_sep):
    pieces = ["[CLS]"]
    for word in slow_words(text):
        pieces += slow_pieces(word, words)
    pieces = [*pieces[: PIECES - 1], "[SEP]"] if keep_sep else [*pieces, "[SEP]"][:PIECES]
    return [words.index(piece) for piece in pieces]


def slow_words(text):
    """Lower case, without accents, cut at white space and around each mark of punctuation."""
    words, word = [], ""
    for letter in unicodedata.normalize("NFD", text.lower()):
        if unicodedata.category(letter) == "Mn":
            continue
        if letter.isspace() or letter in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~":
            words += [word, letter]
            word = ""
        else:
            word += letter
    return [each for each in [*words, word] if each.strip()]


def slow_pieces(word, words):
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in words:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


def slow_target(segmentation, height, width, parts):
    """The parts are drawn, summed, and a pixel is the referent's where the sum is 1."""
    sums = [[0] * width for _ in range(height)]
    for part in slow_parts(segmentation, height, width):
        for y in range(height):
            for x in range(width):
                sums[y][x] += part[y][x]
    wanted = {"once": lambda count: count == 1, "union": lambda count: count >= 1}[parts]
    return [[wanted(count) for count in row] for row in sums]


def slow_parts(segmentation, height, width):
    if isinstance(segmentation, list):
        drawn = coco_mask.frPyObjects(segmentation, height, width) if segmentation else []
        return [coco_mask.decode(part).tolist() for part in drawn]
    if isinstance(segmentation["counts"], str):
        return [coco_mask.decode(segmentation).tolist()]
    part, place, on = [[0] * width for _ in range(height)], 0, 0
    for length in segmentation["counts"]:
        for pixel in range(place, place + length):
            part[pixel % height][pixel // height] = on
        place, on = place + length, 1 - on
    return [part]


def slow_nearest(target):
    """The pixel in which the centre of each pixel of the square lies."""
    height, width = len(target), len(target[0])
    return [
        [target[(2 * y + 1) * height // (2 * SIDE)][(2 * x + 1) * width // (2 * SIDE)] for x in range(SIDE)]
        for y in range(SIDE)
    ]


def slow_pixels(path):
    """(1, 3, SIDE, SIDE): squashed, and standardised by ImageNet's mean and deviation."""
    with Image.open(path) as file:
        image = file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    channels = []
    for band, mean, deviation in zip(image.split(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)):
        values = [[band.getpixel((x, y)) for x in range(SIDE)] for y in range(SIDE)]
        channels.append([[(value / 255 - mean) / deviation for value in row] for row in values])
    return torch.tensor([channels])


def slow_bilinear(values, height, width):
    """Corners on corners."""
    resized = []
    for y in range(height):
        row, down = divmod(y * (SIDE - 1), height - 1)
        below, down = min(row + 1, SIDE - 1), down / (height - 1)
        line = []
        for x in range(width):
            column, right = divmod(x * (SIDE - 1), width - 1)
            beside, right = min(column + 1, SIDE - 1), right / (width - 1)
            upper = values[row][column] * (1 - right) + values[row][beside] * right
            lower = values[below][column] * (1 - right) + values[below][beside] * right
            line.append(upper * (1 - down) + lower * down)
        resized.append(line)
    return resized


def slow_overlap(background, referent, target):
    intersection = union = 0
    for y, row in enumerate(target):
        for x, wanted in enumerate(row):
            found = referent[y][x] > background[y][x]
            intersection += found and wanted
            union += found or wanted
    return intersection, union


def slow_scores(counts):
    """oIoU, mIoU and P@0.5 to P@0.9 by name."""
    each = [0 if union == 0 else intersection / union for intersection, union in counts]
    scores = {
        "oIoU": sum(intersection for intersection, _ in counts) / sum(union for _, union in counts),
        "mIoU": sum(each) / len(each),
    }
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        scores[f"P@{threshold}"] = sum(iou >= threshold for iou in each) / len(each)
    return scores
