"""Every sentence comes with its image and mask, exactly; a broken or hostile file is named, never run or guessed."""

import copy
import gc
import json
import os
import pickle
import random
import struct
import time
import warnings
from collections import OrderedDict
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from helpers.miniature_refcoco import SENTENCES, SIZES, all_items, load_small, miniature, name, picture, python2_pickle
from PIL import Image

from xattn_edu.data import refer
from xattn_edu.data.plain_pickle import read_plain_pickle
from xattn_edu.data.refer import PUBLISHED, convert, counts, load

SETS = list(PUBLISHED)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # pycocotools


# --- what is read


@pytest.mark.parametrize(("dataset", "split_by"), SETS)
@pytest.mark.parametrize("protocol", [0, 2])
def test_every_sentence_of_every_referent_with_its_image_and_mask(dataset, split_by, protocol, tmp_path):
    small, found = miniature(tmp_path, dataset, split_by, protocol), []
    for split in PUBLISHED[dataset, split_by]:
        data = load(tmp_path, dataset, split, split_by, check_counts=False)
        assert data.sentences == tuple(data[index].sentence for index in range(len(data)))
        for item in (data[index] for index in range(len(data))):
            ref = small.refs[item.ref_id]
            assert ref["split"] == split and ref["image_id"] == item.image_id
            assert item.image.shape == (*SIZES[item.image_id], 3) and item.image.dtype == np.uint8
            expected = picture(item.image_id)
            expected = expected if expected.ndim == 3 else np.stack([expected] * 3, axis=2)
            assert abs(item.image.astype(int) - expected).max() < 20  # what JPEG changes
            assert item.mask.dtype == bool and item.mask.flags.c_contiguous
            assert np.array_equal(item.mask, small.masks[ref["ann_id"]])
            found.append((item.ref_id, item.sent_id, item.sentence))
    expected = [(r["ref_id"], s["sent_id"], s["sent"]) for r in small.refs for s in r["sentences"]]
    assert sorted(found) == expected and len(found) == sum(map(len, SENTENCES.values()))


def test_referents_hold_their_sentences_in_the_files_order(small):
    data = load_small(small)
    assert [referent.ref_id for referent in data.referents] == [0, 4]
    assert [[sentence.text for sentence in referent.sentences] for referent in data.referents] == [
        SENTENCES[0],
        SENTENCES[4],
    ]
    assert [sentence.raw for sentence in data.referents[0].sentences] == ["Left Man", "Man In Red"]
    assert len(data) == len(data.pairs) == 3 and data[-1].sentence == SENTENCES[4][0]
    assert np.array_equal(data.referents[0].mask(), small.masks[16])
    with pytest.raises(FrozenInstanceError):
        data.referents = ()
    with pytest.raises(IndexError):
        data[3]


def test_images_are_read_when_asked_for(small):
    data = load_small(small)
    (small.images / name(9)).unlink()
    assert len(data) == 3 and data[2].image_id == 30
    with pytest.raises(FileNotFoundError, match=name(9)):
        data[0]


def test_an_instance_without_pixels_is_an_empty_mask(small):
    item = load_small(small)[2]
    assert item.mask.shape == SIZES[30] and not item.mask.any()


def test_a_data_loader_takes_it(small):
    loader = torch.utils.data.DataLoader(
        load_small(small), batch_size=None, num_workers=1, collate_fn=lambda item: item
    )
    assert [item.sentence for item in loader] == [*SENTENCES[0], *SENTENCES[4]]


@pytest.mark.parametrize("place", refer.IMAGE_FOLDERS)
def test_images_are_found_in_the_usual_places(place, small):
    moved = small.root / place
    if moved != small.images:
        moved.parent.mkdir(parents=True, exist_ok=True)
        small.images.rename(moved)
    assert load_small(small).images == moved


def test_images_elsewhere(small, tmp_path):
    small.images.rename(tmp_path / "elsewhere")
    assert load_small(small, images=tmp_path / "elsewhere")[0].image.shape == (12, 16, 3)
    for images, named in ((None, "images/train2014"), (tmp_path / "nowhere", "nowhere")):
        with pytest.raises(FileNotFoundError, match=f"{named}.*cocodataset.org"):
            load_small(small, images=images)


def test_the_usual_splits_are_the_default(tmp_path):
    miniature(tmp_path / "g", "refcocog", "umd")
    assert len(load(tmp_path / "g", "refcocog", "test", check_counts=False).referents) == 1


# --- counts


def test_published_counts():
    """The referents of a set are the same however they are split, up to those a split leaves out."""
    totals = {key: sum(splits.values()) for key, splits in PUBLISHED.items()}
    assert totals == {
        ("refcoco", "unc"): 50_000,
        ("refcoco", "google"): 50_000,
        ("refcoco+", "unc"): 49_856,
        ("refcocog", "umd"): 49_822,
        ("refcocog", "google"): 49_822,
    }


def test_another_number_of_referents_is_refused_unless_allowed(small):
    with pytest.raises(
        ValueError, match=r"refs\(unc\).p has 2 referents in train, published were 42,404: .*check_counts"
    ):
        load(small.root, "refcoco", "train")
    assert counts(small.root, "refcoco")["train"] == (2, 42_404)
    assert [count.found for count in counts(small.root, "refcoco").values()] == [2, 1, 1, 1]


def test_the_published_number_is_accepted(small, monkeypatch):
    monkeypatch.setitem(PUBLISHED, ("refcoco", "unc"), {"train": 2, "val": 0, "testA": 1, "testB": 2})
    assert len(load(small.root, "refcoco", "train")) == 3
    for split, published in (("val", 0), ("testB", 2)):
        with pytest.raises(ValueError, match=f"has 1 referents in {split}, published were {published}"):
            load(small.root, "refcoco", split)


def test_full_size_is_read_in_time_and_counts_are_right(tmp_path):
    """2,573 referents, as many as G-Ref's val, of 4 sentences: a tenth of a whole set."""
    small = miniature(tmp_path, "refcocog", "umd")
    pattern = small.refs[0]
    small.refs[:] = []
    for ref_id in range(2_573):
        sentences = [
            {"raw": "x", "sent": f"{number} left man", "sent_id": 4 * ref_id + number, "tokens": ["left", "man"]}
            for number in range(4)
        ]
        small.refs.append(pattern | {"ref_id": ref_id, "split": "val", "sentences": sentences})
    small.write()
    start = time.process_time()
    assert len(load(tmp_path, "refcocog", "val")) == 4 * 2_573
    assert time.process_time() - start < 10  # half a second on a 2-core machine


# --- wrong arguments


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("coco", "val"), "refcoco, refcoco\\+, refcocog, given 'coco'"),
        (("refcoco", "test"), "has the splits train, val, testA, testB, given 'test'"),
        (("refcoco", "testA", "google"), "given 'testA'"),
        (("refcocog", "test", "google"), "has the splits train, val, given 'test'"),
        (("refcoco+", "val", "google"), "refcoco\\+ is split by unc, given 'google'"),
        (("refcoco", "val", "umd"), "is split by unc or google, given 'umd'"),
    ],
)
def test_unknown_names(arguments, named, small):
    with pytest.raises(ValueError, match=named):
        load(small.root, *arguments)


@pytest.mark.parametrize("file", ["refs_path", "instances_path"])
def test_missing_files_are_named_with_the_fix(file, small, tmp_path):
    path = getattr(small, file)
    path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_small(small)
    assert str(path) in str(error.value) and "REFER project's page" in str(error.value)
    with pytest.raises(FileNotFoundError, match="nowhere is missing.*holds refcoco/"):
        load(tmp_path / "nowhere", "refcoco", "val")


def test_images_that_are_missing_are_counted_and_named(small):
    (small.images / name(9)).unlink()
    with pytest.raises(FileNotFoundError, match=f"1 images are not in .*{name(9)}"):
        load_small(small)
    assert len(load_small(small, "val")) == 1  # which does not need it


# --- structure, one by one


def drop(*path):
    def change(small):
        place = small
        for step in path[:-1]:
            place = getattr(place, step) if isinstance(place, tuple) else place[step]
        del place[path[-1]]

    return change


def put(value, *path):
    def change(small):
        place = small
        for step in path[:-1]:
            place = getattr(place, step) if isinstance(place, tuple) else place[step]
        place[path[-1]] = value

    return change


SENTENCE, IMAGE, ANNOTATION = ("refs", 0, "sentences", 1), ("instances", "images", 0), ("instances", "annotations", 0)


@pytest.mark.parametrize(
    ("change", "file", "named"),
    [
        *(
            (drop("refs", 1, key), "refs", f"ref number 1: '{key}' should be")
            for key in ("ref_id", "ann_id", "image_id")
        ),
        (drop("refs", 2, "split"), "refs", "ref number 2: 'split' should be str"),
        (drop("refs", 2, "sentences"), "refs", "ref number 2: 'sentences' should be list"),
        (drop(*SENTENCE, "sent"), "refs", "ref number 0: 'sent' should be str, found None"),
        (put(7, *SENTENCE, "raw"), "refs", "ref number 0: 'raw' should be str, found 7"),
        (drop(*SENTENCE, "sent_id"), "refs", "ref number 0: 'sent_id' should be int, found None"),
        (put("0", "refs", 0, "ref_id"), "refs", "'ref_id' should be int, found '0'"),
        (put("test", "refs", 0, "split"), "refs", "one of train, val, testA, testB, found 'test'"),
        (put(7, *SENTENCE, "sent"), "refs", "'sent' should be str, found 7"),
        (put(100, *SENTENCE, "sent_id"), "refs", "sent_id 100 occurs twice"),
        (put(3, "refs", 4, "ref_id"), "refs", "ref number 4: ref_id 3 occurs twice"),
        (put(99, "refs", 0, "ann_id"), "refs", "its ann_id 99 is not in .*instances.json"),
        (put(99, "refs", 0, "image_id"), "refs", "its image_id 99 is not in .*instances.json"),
        (put([1, 2], "refs", 3), "refs", "ref number 3: 'ref_id' should be int"),
        (drop("instances", "images"), "instances", "'images' should be list"),
        (put({}, "instances", "annotations"), "instances", "'annotations' should be list"),
        (drop(*IMAGE, "id"), "instances", "'images' number 0 has no 'id'"),
        (put(25, *IMAGE, "id"), "instances", "'images' number 1 has no 'id' of its own"),
        (put(True, *ANNOTATION, "id"), "instances", "'annotations' number 0 has no 'id'"),
        (put(None, *IMAGE), "instances", "'images' number 0"),
        (put("../x.jpg", *IMAGE, "file_name"), "instances", "image 9: 'file_name' should be a plain file name"),
        (put("a\\b.jpg", *IMAGE, "file_name"), "instances", "plain file name"),
        (put("..", *IMAGE, "file_name"), "instances", "plain file name"),
        *(
            (put(name, *IMAGE, "file_name"), "instances", "plain file name")
            for name in ("x.jpg\n", "x\0.jpg", "C:x.jpg", "/x.jpg", ".", " ", "", "x/../y.jpg", "\u202ex.jpg")
        ),
        (put(0, *IMAGE, "height"), "instances", "height and width should be 1 to 4096, found 0 and 16"),
        (put(2**40, *IMAGE, "width"), "instances", "should be 1 to 4096"),
        (put(12.0, *IMAGE, "height"), "instances", "'height' should be int, found 12.0"),
        (put(25, *ANNOTATION, "image_id"), "instances", "annotation 16: it lies in image 25"),
        (put(True, *ANNOTATION, "image_id"), "instances", "'image_id' should be int, found True"),
        (put(2**63, *ANNOTATION, "image_id"), "instances", "'image_id' should be int, found 9223372036854775808"),
        (drop(*ANNOTATION, "segmentation"), "instances", "annotation 16: 'segmentation' should be a list"),
        (put([[1, 2, 3, 4]], *ANNOTATION, "segmentation"), "instances", "annotation 16: a polygon should be"),
        (
            put({"size": [16, 12]}, *ANNOTATION, "segmentation"),
            "instances",
            r"annotation 16: 'size' should be \[12, 16\]",
        ),
    ],
)
def test_the_first_fault_is_named(change, file, named, small):
    change(small)
    small.write()
    with pytest.raises(ValueError, match=named) as error:
        load_small(small)
    path = small.refs_path if file == "refs" else small.instances_path
    assert str(error.value).startswith(str(path)) and "download it again" in str(error.value)


def test_what_is_not_used_may_be_anything(small):
    for ref in small.refs:
        del ref["category_id"], ref["file_name"], ref["sent_ids"]
    small.refs[0]["more"] = small.refs[1]["sentences"][0].pop("tokens")
    del small.instances["categories"]
    small.write()
    assert len(list(all_items(small))) == 8


@pytest.mark.parametrize("text", ["\\ud800", "\\udc00 left"])
def test_half_a_character_is_no_sentence(text, small):
    content = (
        python2_pickle(small.refs, 0).replace(b"'left man'", b"'MARKER'").replace(b"S'MARKER'", b"V" + text.encode())
    )
    small.refs_path.write_bytes(content)
    with pytest.raises(ValueError, match="ref number 0: .*surrogates not allowed"):
        load_small(small)


@pytest.mark.parametrize("form", ["pickle", "json"])
def test_a_set_of_ones_own_in_the_forms_that_programs_make(form, small):
    """Numbers of NumPy, tuples, an OrderedDict and a set, and names with spaces and in Korean; or refs as JSON."""
    for image, new in zip(small.instances["images"], ("사진 1.jpg", "photo of a café (2).jpg", "-3.jpg", ".4.jpg")):
        (small.images / image["file_name"]).rename(small.images / new)
        image["file_name"] = new
    expected = [(item.sentence, item.image.tobytes(), item.mask.tobytes()) for item in written_and_read(small)]
    if form == "json":
        small.refs_path.write_text(json.dumps(small.refs, indent=1))
    else:
        refs = [OrderedDict(ref | {"ref_id": np.int64(ref["ref_id"]), "sent_ids": {1}, 7: None}) for ref in small.refs]
        for ref in refs:
            ref["sentences"] = tuple(ref["sentences"])
        small.refs_path.write_bytes(pickle.dumps(refs, 2))
    assert [(item.sentence, item.image.tobytes(), item.mask.tobytes()) for item in all_items(small)] == expected


def written_and_read(small):
    small.write()
    return list(all_items(small))


def test_no_list_of_refs(small):
    small.refs_path.write_bytes(pickle.dumps({"refs": []}, 2))
    with pytest.raises(ValueError, match="expected a list of refs, found {'refs': ..}"):
        load_small(small)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b'{"images": NaN, "annotations": []}',
        b'{"images": ' + b"[" * 100_000,
        b"\xff\xfe\xff",
        b"9" * 5000,
    ],
)
def test_broken_json_is_named(content, small):
    small.instances_path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_small(small)
    assert str(error.value).startswith(str(small.instances_path)) and "download it again" in str(error.value)
    assert len(str(error.value)) < 1000


# --- pickles


def test_lists_in_themselves_and_a_billion_laughs_are_read_and_refused_in_no_time(small):
    cycle = [1]
    cycle.append(cycle)
    found = read_plain_pickle(pickle.dumps(cycle, 2))
    assert found[1] is found
    laughs = small.refs[0]
    for _ in range(60):
        laughs = [laughs] * 10
    start = time.process_time()
    for bomb in (laughs, cycle, [{"ref_id": laughs}], [{"ref_id": cycle}], [{"ref_id": 1, "split": laughs}]):
        small.refs_path.write_bytes(pickle.dumps(bomb, 2))
        with pytest.raises(ValueError, match="refs") as error:
            load_small(small)
        assert len(str(error.value)) < 2000
    many = [small.refs[0]["sentences"][0]] * 50_000
    refs = [small.refs[0] | {"ref_id": number, "sentences": many} for number in range(5_000)]
    small.refs_path.write_bytes(pickle.dumps(refs, 2))
    with pytest.raises(ValueError, match="sent_id 100 occurs twice"):
        load_small(small)
    small.refs_path.write_bytes(pickle.dumps([small.refs[0]] * 5_000, 2))
    with pytest.raises(ValueError, match="ref number 1: ref_id 0 occurs twice"):
        load_small(small)
    assert time.process_time() - start < 5


def test_a_polygon_that_many_refs_share_is_checked_once(small):
    point = [1.0, 1.0] * 100_000
    small.instances["annotations"][0]["segmentation"] = [point]
    small.refs[:] = [small.refs[0] | {"ref_id": number, "sentences": []} for number in range(2_000)]
    small.write()
    start = time.process_time()
    assert len(load_small(small).referents) == 2_000
    assert time.process_time() - start < 5  # checked for each of them it would take a minute


def test_deep_nesting_is_no_matter(small):
    depth = 200_000
    small.refs_path.write_bytes(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    with pytest.raises(ValueError, match="ref number 0"):
        load_small(small)
    gc.collect()


class Runs:
    """A pickle of it runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_command_runs_nothing(protocol, small, tmp_path):
    flag = tmp_path / "ran"
    content = pickle.dumps([small.refs[0], Runs(flag)], protocol)
    small.refs_path.write_bytes(content)
    with pytest.raises(ValueError, match="makes no plain data.*download it again"):
        load_small(small)
    assert not flag.exists()
    pickle.loads(content)  # the command is a real one
    assert flag.exists()


# --- images


def test_an_image_of_another_size_is_refused(small):
    Image.fromarray(picture(30)).save(small.images / name(9))
    with pytest.raises(ValueError, match=f"{name(9)}: the image is 14 x 20, its annotation is 16 x 12.*download"):
        load_small(small)[0]


@pytest.mark.parametrize("keep", [0, 2, 100, 300, -4])
def test_a_cut_image_is_refused(keep, small):
    path = small.images / name(9)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{name(9)}: this is no sound JPEG file .*download"):
        load_small(small)[0]


def test_other_formats_are_no_jpeg(small):
    Image.fromarray(picture(9)).save(small.images / name(9), format="PNG")
    with pytest.raises(ValueError, match="no sound JPEG"):
        load_small(small)[0]


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_not_decoded(side, small):
    """The header announces 100 million pixels (PIL warns), or 3,600 million (PIL refuses)."""
    path = small.images / name(9)
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", side, side)
    path.write_bytes(content)
    start = time.process_time()
    with warnings.catch_warnings(), pytest.raises(ValueError, match=name(9)):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        load_small(small)[0]
    assert time.process_time() - start < 0.5


# --- fuzz


def damaged(content, rng):
    """The bytes with a few changed, cut out, doubled, or lost at the end."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(content) + 1)
        match rng.randrange(5):
            case 0 if place < len(content):
                content[place] = rng.randrange(256)
            case 1 if place < len(content):
                content[place] ^= 1 << rng.randrange(8)
            case 2:
                del content[place : place + rng.randrange(1, 20)]
            case 3:
                content[place:place] = content[place : place + rng.randrange(1, 20)]
            case 4 if rng.random() < 0.3:
                del content[place:]
    return bytes(content)


def check_items(data):
    """Whatever still loads is of the promised form."""
    for index, (referent, sentence) in enumerate(data.pairs):
        assert type(sentence.text) is str and sentence.text.encode() is not None and type(sentence.sent_id) is int
        found = referent.mask()
        assert found.shape == (referent.height, referent.width) and found.dtype == bool
        try:
            item = data[index]
        except ValueError as error:
            assert str(data.images) in str(error)
        else:
            assert item.image.shape == (*found.shape, 3)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("file", ["refs0", "refs2", "instances", "converted"])
def test_damaged_files_are_refused_or_still_of_the_promised_form(file, small, tmp_path):
    rng, refused = random.Random(file), 0
    small.write(0 if file == "refs0" else 2)
    convert(small.root, "refcoco", "unc", tmp_path / "refcoco.json")
    path = {"instances": small.instances_path, "converted": tmp_path / "refcoco.json"}.get(file, small.refs_path)
    root, content = path if file == "converted" else small.root, path.read_bytes()
    named = (
        (str(path),) if file == "converted" else (str(small.refs_path), str(small.instances_path))
    )  # if they disagree
    for _ in range(300):
        path.write_bytes(damaged(content, rng))
        try:
            data = load(root, "refcoco", "train", images=small.images, check_counts=False)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(named) and " again" in str(error)
            assert len(str(error)) < 2000
        except FileNotFoundError as error:  # a letter of an image's name was changed
            assert "images are not in" in str(error)
        else:
            check_items(data)
    assert 50 < refused < 300


def test_damaged_images_are_refused_or_of_the_right_size(small):
    rng, path, refused = random.Random(0), small.images / name(9), 0
    content, data = path.read_bytes(), load_small(small)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(300):
            path.write_bytes(damaged(content, rng))
            try:
                assert data[0].image.shape == (12, 16, 3)
            except ValueError as error:
                refused += 1
                assert str(error).startswith(str(path))
    assert 50 < refused < 300


def test_the_files_are_left_as_they_were(small):
    before = copy.deepcopy((small.refs_path.read_bytes(), small.instances_path.read_bytes()))
    assert len(list(all_items(small))) == 8
    assert before == (small.refs_path.read_bytes(), small.instances_path.read_bytes())
