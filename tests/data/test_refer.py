"""Every sentence comes with its image and mask, exactly; a broken or hostile file is named, never run or guessed."""

import copy
import gc
import json
import os
import pickle
import random
import resource
import struct
import time
import warnings
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from helpers.miniature_refcoco import SENTENCES, SIZES, miniature, name, packed, picture, python2_pickle, runs
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from xattn_edu.data import refer
from xattn_edu.data.plain_pickle import read_plain_pickle
from xattn_edu.data.refer import PUBLISHED, convert, counts, load, mask

SETS = list(PUBLISHED)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # pycocotools


@pytest.fixture
def small(tmp_path):
    return miniature(tmp_path / "data")


def load_small(small, split="train", **options):
    return load(small.root, "refcoco", split, check_counts=False, **options)


def all_items(small, root=None):
    for split in PUBLISHED["refcoco", "unc"]:
        data = load(root or small.root, "refcoco", split, images=small.images, check_counts=False)
        yield from (data[index] for index in range(len(data)))


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
def test_missing_files_are_named_with_the_remedy(file, small, tmp_path):
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
        (put("x.jpg\n", *IMAGE, "file_name"), "instances", "plain file name"),
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

# made with cPickle of Python 2.7.18: unicode, str in UTF-8 and in Latin-1, a shared list, long and large int
PYTHON2 = {
    0: (
        b"(lp1\n(dp2\nS'image_id'\np3\nI9\nsS'sent_ids'\np4\n(lp5\nI0\naI1\nasS'sentences'\np6\n(lp7\n(dp8\nS'toke"
        b"ns'\np9\n(lp10\nVman\np11\naVleft\np12\nasS'raw'\np13\nVMan \\u201cleft\\u201d\\u005c\np14\nsS'sent_id'"
        b"\np15\nI0\nsS'sent'\np16\nVman left\np17\nsa(dp18\ng9\n(lp19\nS'cafe'\np20\naS'left'\np21\nasg13\nS'caf"
        b"\\xc3\\xa9 \"\\'left\\n'\np22\nsg15\nI1\nsg16\nS'caf\\xe9 left'\np23\nsasS'split'\np24\nS'val'\np25\nsS'"
        b"file_name'\np26\nS'COCO_train2014_000000000009_16.jpg'\np27\nsS'more'\np28\n(lp29\nI01\naI00\naNaF1.5\na"
        b"I-3\naI300\naI70000\naI-1099511627776\naI1099511627776\nag19\nasS'category_id'\np30\nI1\nsS'ann_id'\np31"
        b"\nL16L\nsS'ref_id'\np32\nI0\nsa."
    ),
    2: (
        b"\x80\x02]q\x01}q\x02(U\x08image_idq\x03K\tU\x08sent_idsq\x04]q\x05(K\x00K\x01eU\tsentencesq\x06]q\x07(}q"
        b"\x08(U\x06tokensq\t]q\n(X\x03\x00\x00\x00manq\x0bX\x04\x00\x00\x00leftq\x0ceU\x03rawq\rX\x0f\x00\x00\x00"
        b"Man \xe2\x80\x9cleft\xe2\x80\x9d\\q\x0eU\x07sent_idq\x0fK\x00U\x04sentq\x10X\x08\x00\x00\x00man leftq"
        b"\x11u}q\x12(h\t]q\x13(U\x04cafeq\x14U\x04leftq\x15eh\rU\rcaf\xc3\xa9 \"'left\nq\x16h\x0fK\x01h\x10U\tcaf"
        b"\xe9 leftq\x17ueU\x05splitq\x18U\x03valq\x19U\tfile_nameq\x1aU\"COCO_train2014_000000000009_16.jpgq\x1bU"
        b"\x04moreq\x1c]q\x1d(\x88\x89NG?\xf8\x00\x00\x00\x00\x00\x00J\xfd\xff\xff\xffM,\x01Jp\x11\x01\x00I-109951"
        b"1627776\nI1099511627776\nh\x13eU\x0bcategory_idq\x1eK\x01U\x06ann_idq\x1f\x8a\x01\x10U\x06ref_idq K\x00u"
        b"a."
    ),
}  # fmt: skip


def plain(leaves):
    return st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
        max_leaves=20,
    )


@pytest.mark.parametrize("protocol", PYTHON2)
def test_what_python2_wrote(protocol):
    (ref,) = read_plain_pickle(PYTHON2[protocol])
    first, second = ref["sentences"]
    assert first == {"tokens": ["man", "left"], "raw": "Man “left”\\", "sent_id": 0, "sent": "man left"}
    assert second == {"tokens": ["cafe", "left"], "raw": "café \"'left\n", "sent_id": 1, "sent": "café left"}
    assert ref["more"] == [True, False, None, 1.5, -3, 300, 70_000, -(2**40), 2**40, ["cafe", "left"]]
    assert ref["more"][-1] is second["tokens"]
    assert [type(value) for value in ref["more"][:4]] == [bool, bool, type(None), float]
    assert (ref["ann_id"], ref["image_id"], ref["split"], ref["sent_ids"]) == (16, 9, "val", [0, 1])


@pytest.mark.parametrize("protocol", range(6))
@settings(max_examples=40)
@given(data=st.data())
def test_plain_data_is_read_as_pickle_reads_it(protocol, data):
    texts = st.text(max_size=300)
    leaves = texts if protocol < 3 else texts | st.binary(max_size=300)  # before, bytes are made by calling a function
    value = data.draw(plain(leaves))
    assert repr(read_plain_pickle(pickle.dumps(value, protocol))) == repr(value)


@pytest.mark.parametrize("protocol", range(6))
def test_what_occurs_twice_is_one_object(protocol):
    lists = [[number, f"list {number}"] for number in range(300)]  # more than a byte can number
    found = read_plain_pickle(pickle.dumps([lists, lists[::-1], {"last": lists[-1]}], protocol))
    assert found == [lists, lists[::-1], {"last": lists[-1]}]
    assert all(one is other for one, other in zip(found[0], found[1][::-1])) and found[2]["last"] is found[0][-1]


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


@pytest.mark.parametrize(
    "content",
    {
        "GLOBAL, REDUCE": b"cos\nsystem\n(S'false'\ntR.",
        "GLOBAL alone": b"cbuiltins\neval\n.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
        "REDUCE": b"(lp0\n(tR.",
        "INST": b"(S'1'\nibuiltins\neval\n.",
        "OBJ": b"(cbuiltins\neval\nS'1'\no.",
        "NEWOBJ": b"\x80\x02]]\x81.",
        "NEWOBJ_EX": b"\x80\x04]]}\x92.",
        "BUILD": b"]}b.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT2": b"\x80\x02\x83\x01\x00.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "PERSID": b"Psome\n.",
        "BINPERSID": b"]Q.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "READONLY_BUFFER": b"\x80\x05]\x98.",
        "tuple": b")." ,
        "set": b"\x80\x04\x8f.",
        "unknown": b"\x00.",
        "DUP": b"]2a.",
    }.values(),
)  # fmt: skip
def test_every_instruction_that_makes_other_things_is_refused(content):
    with pytest.raises(ValueError, match="makes no plain data"):
        read_plain_pickle(content)


def test_only_known_instructions_are_taken():
    """Of all 256: the others stop the machine, however much is on its stack."""
    taken = set()
    for code in range(256):
        try:
            read_plain_pickle(b"]}(" + bytes([code]))
        except ValueError as error:
            if "makes no plain data" not in str(error):
                taken.add(code)
    assert bytes(sorted(taken)) == b"(.BCFGIJKLMNSTUVX]adeghjlpqrsu}\x80\x88\x89\x8a\x8c\x8d\x94\x95"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"]",
        b".",
        b"]].",  # two values
        b"]..",  # something after the end
        b"a.",
        b"]q",
        b"h\x05.",
        b"e.",
        b"]Ka.",
        b"K\x01K\x02a.",
        b"}K\x01K\x02s.",  # a key that is no string
        b"}(U\x01au.",  # half a pair
        b"](U\x01aK\x01u.",  # keys in a list
        b"I1",
        b"Ione\n.",
        b"I" + b"9" * 5000 + b"\n.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"F1.x\n.",
        b"Sunquoted\n.",
        b"S'\n.",
        b"S'\\x1'\n.",
        b"V\\u12\n.",
        b"X\x02\x00\x00\x00\xff\xff.",
        b"G\x00.",
        b"\x8a\xff\x01.",
        b"T\xff\xff\xff\xffx.",
        b"B\xff\xff\xff\xffx.",
        b"X\xff\xff\xff\x7fx.",
        b"\x8d" + b"\xff" * 8 + b".",
        b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
        b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x96" + struct.pack("<Q", 2**40) + b"x.",
        b"\x8b\xff\xff\xff\x7f.",
    ],
)
def test_a_malformed_pickle_is_a_value_error(content):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="no pickle of plain data"):
        read_plain_pickle(content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB: what it announces is never made


def test_a_place_in_the_memory_is_only_a_name():
    """For pickle itself, this is an order for 32 GiB."""
    assert read_plain_pickle(b"]r\xff\xff\xff\xff.") == [] and read_plain_pickle(b"]p99999999999\n.") == []


# --- masks


def random_mask(rng, height, width):
    return rng.random((height, width)) < rng.choice([0, 0.1, 0.5, 0.9, 1])


def test_run_lengths_as_list_and_as_string():
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 40, 2).tolist()
        expected = random_mask(rng, height, width)
        if rng.random() < 0.3:  # long runs, whose differences need several characters
            height, width = 300, 400
            expected = np.zeros((height, width), bool)
            top, left = rng.integers(0, 200, 2)
            expected[top : top + 90, left : left + 150] = True
        lengths = runs(expected)
        string = coco_mask.encode(np.asfortranarray(expected, dtype=np.uint8))["counts"].decode()
        assert packed(lengths) == string  # the tests' own encoder is COCO's
        for given_counts in (lengths, string):
            found = mask({"size": [height, width], "counts": given_counts}, height, width)
            assert found.dtype == bool and found.shape == (height, width) and np.array_equal(found, expected)


def test_polygons_are_drawn_as_the_published_scores_draw_them():
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(4, 60, 2).tolist()
        polygons = [
            (rng.random(2 * rng.integers(3, 9)) * 1.4 * max(height, width) - 0.2 * max(height, width)).clip(
                -min(height, width), 2 * min(height, width)
            )
            for _ in range(rng.integers(1, 4))
        ]
        polygons = [polygon.round(2).tolist() for polygon in polygons]
        parts = [coco_mask.decode(coco_mask.frPyObjects([polygon], height, width))[..., 0] for polygon in polygons]
        assert np.array_equal(mask(polygons, height, width), np.sum(parts, axis=0) > 0)


def test_overlapping_parts_stay_foreground():
    square = [1, 1, 5, 1, 5, 5, 1, 5]
    assert mask([square, square], 6, 6).sum() == 16 == mask([square], 6, 6).sum()


def test_a_polygon_may_be_tiny_or_reach_over_the_border():
    assert not mask([[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]], 6, 8).any() and not mask([], 6, 8).any()
    assert mask([[-5, -5, 16, -5, 16, 12, -5, 12]], 6, 8).all()
    assert not mask([[-4, -4, -1, -4, -1, -1]], 6, 8).any()
    assert mask([[1, 1, 1, 1, 4, 1, 4, 1, 4, 4, 1, 4]], 6, 8).sum() == 9  # points that occur twice


@pytest.mark.parametrize(
    ("segmentation", "named"),
    [
        (None, "should be a list of polygons or run lengths"),
        ("polygon", "should be a list"),
        ([1, 2, 3, 4, 5, 6], "should be a list of polygons"),
        ([{"size": [6, 8], "counts": [48]}], "should be a list of polygons"),
        ([[]], "three points"),
        ([[1, 1, 2, 2]], "three points"),
        ([[1, 1, 2, 2, 3]], "three points"),
        ([[1, 1, 2, 2, 3, 3, 4]], "three points"),
        ([[1, 1, 2, 2, 3, "3"]], "three points"),
        ([[1, 1, 2, 2, 3, None]], "three points"),
        ([[1, 1, 2, 2, 3, True]], "three points"),
        ([[1, 1, 2, 2, 3, [3]]], "three points"),
        ([[1, 1, 2, 2, 3, float("nan")]], "far outside"),
        ([[1, 1, 2, 2, float("inf"), 3]], "far outside"),
        ([[1, 1, 2, 2, 3, 1e9]], "far outside"),
        ([[1, 1, 2, 2, 3, 10**400]], "far outside"),
        ([[1, 1, 2, 2, 17, 3]], "far outside its image of 8 x 6"),
        ([[1, 1, 2, 2, 3, 13]], "far outside"),
        ([[1, 1, 2, 2, -9, 3]], "far outside"),
        ([[1, 1, 5, 1, 5, 5], [1, 1, 2, 2, 3, -7]], "far outside"),
        ([[0, 0, 8, 6] * 60_000], "outline is 1,680,000 pixels long"),
        ({}, "'size' should be"),
        ({"size": [8, 6], "counts": [48]}, "'size' should be"),
        ({"size": [6, 8]}, "'counts' should be whole numbers"),
        ({"size": [6, 8], "counts": [47]}, "should sum to 6 x 8 = 48, found 47"),
        ({"size": [6, 8], "counts": []}, "should sum to"),
        ({"size": [6, 8], "counts": [40, 9]}, "found 49"),
        ({"size": [6, 8], "counts": [50, -2]}, "whole numbers"),
        ({"size": [6, 8], "counts": [48.0]}, "whole numbers"),
        ({"size": [6, 8], "counts": [True] * 48}, "whole numbers"),
        ({"size": [6, 8], "counts": [2**64, 48 - 2**64]}, "whole numbers"),
        ({"size": [6, 8], "counts": b"`1"}, "whole numbers"),
        ({"size": [6, 8], "counts": "/"}, "no string of COCO's"),
        ({"size": [6, 8], "counts": "é"}, "no string of COCO's"),
        ({"size": [6, 8], "counts": "p"}, "no string of COCO's"),
        ({"size": [6, 8], "counts": "P"}, "ends within a number"),
        ({"size": [6, 8], "counts": "P" * 10_000}, "no string of COCO's"),
        ({"size": [6, 8], "counts": "O"}, "whole numbers of 0 or more.*-1"),
        ({"size": [6, 8], "counts": ""}, "should sum to"),
    ],
)
def test_a_segmentation_that_is_none(segmentation, named):
    with pytest.raises(ValueError, match=named) as error:
        mask(segmentation, 6, 8)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("size", [(0, 8), (8, 0), (-1, 8), (4097, 8), (8, 10**9)])
def test_a_mask_of_no_sensible_size_is_not_made(size):
    with pytest.raises(ValueError, match="height and width should be 1 to 4096"):
        mask([], *size)


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


# --- the converted file


def test_a_converted_set_is_the_same(small, tmp_path):
    out = tmp_path / "refcoco.json"
    convert(small.root, "refcoco", "unc", out)
    before, after = all_items(small), all_items(small, out)
    for one, other in zip(before, after, strict=True):
        assert (one.sentence, one.ref_id, one.sent_id, one.image_id) == (
            other.sentence,
            other.ref_id,
            other.sent_id,
            other.image_id,
        )
        assert np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)
    for split in PUBLISHED["refcoco", "unc"]:
        again = load(out, "refcoco", split, images=small.images, check_counts=False)
        assert again.referents == load_small(small, split).referents
    assert counts(out, "refcoco") == counts(small.root, "refcoco")
    with pytest.raises(ValueError, match="refcoco.json has 2 referents in train"):
        load(out, "refcoco", "train", images=small.images)


def test_a_converted_file_is_smaller_safe_and_makes_itself_again(small, tmp_path):
    small.instances["annotations"][1]["segmentation"]["more"] = ["not", "needed"]
    small.refs.append(small.refs[0] | {"ref_id": 77, "sentences": []})  # a second ref to the same annotation
    small.write()
    out, again = tmp_path / "refcoco.json", tmp_path / "again.json"
    convert(small.root, "refcoco", "unc", out)
    content = json.loads(out.read_bytes())
    assert [image["id"] for image in content["images"]] == [9, 25, 30]
    assert [annotation["id"] for annotation in content["annotations"]] == [16, 17, 18, 19, 20]
    assert b"tokens" not in out.read_bytes() and b"needed" not in out.read_bytes()
    convert(out, "refcoco", "unc", again)
    assert again.read_bytes() == out.read_bytes()


def test_images_lie_beside_a_converted_file(small):
    convert(small.root, "refcoco", "unc", small.root / "refcoco.json")
    assert len(load(small.root / "refcoco.json", "refcoco", "val", check_counts=False)) == 1


def test_a_set_with_a_fault_in_any_split_is_not_converted(small, tmp_path):
    out = tmp_path / "out.json"
    out.write_text("before")
    small.instances["annotations"][3]["segmentation"] = [[1, 2]]  # testB's
    small.write()
    with pytest.raises(ValueError, match="annotation 19"):
        convert(small.root, "refcoco", "unc", out)
    assert out.read_text() == "before" and sorted(tmp_path.iterdir()) == [small.root, out]
    with pytest.raises(FileNotFoundError, match="nowhere, where out.json should go"):
        convert(small.root, "refcoco", "unc", tmp_path / "nowhere" / "out.json")


def test_a_converted_file_of_another_set_or_format_is_refused(small, tmp_path):
    out = tmp_path / "refcoco.json"
    convert(small.root, "refcoco", "unc", out)
    for arguments, named in (
        (("refcoco+", "val"), "expected dataset 'refcoco\\+', found 'refcoco'"),
        (("refcoco", "val", "google"), "expected split_by 'google', found 'unc'"),
    ):
        with pytest.raises(ValueError, match=named):
            load(out, *arguments, images=small.images)
    content = json.loads(out.read_bytes())
    for change, named in (
        ({"format": "xattn_edu refer 0"}, "expected format"),
        ({"format": 1}, "'format' should be str"),
        ({"refs": {}}, "'refs' should be list"),
        ({"images": content["images"][1:]}, "ref number 0: its image_id 9 is not in"),
    ):
        out.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=f"^{out}.*{named}.*make it again"):
            load(out, "refcoco", "val", images=small.images)
    for text in ("[]", "", "null", '"x"'):
        out.write_text(text)
        with pytest.raises(ValueError, match=f"^{out}.*make it again"):
            load(out, "refcoco", "val", images=small.images)


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


def test_random_bytes_are_no_pickle():
    rng, codes = random.Random(0), b"(.BCFGIJKLMNSTUVX]adeghjlpqrsu}\x80\x88\x89\x8a\x8c\x8d\x94\x95\n0123'\\"
    read = 0
    for number in range(20_000):
        size = rng.randrange(40)
        content = rng.randbytes(size) if number % 2 else bytes(rng.choices(codes, k=size)) + b"."
        try:
            repr(read_plain_pickle(content))
            read += 1
        except ValueError:
            pass
    assert read > 10


def test_random_segmentations_are_refused_or_masks():
    rng, drawn = random.Random(0), 0
    numbers = [0, 1, 2, 3, 5, 8, 48, -1, 1.5, 16, -8, 1e300, float("nan"), float("inf"), None, "4", 2**70, True, []]
    for _ in range(5_000):
        polygons = [
            [rng.choice(numbers[: rng.choice([7, 11, 19])]) for _ in range(rng.randrange(5, 13))]
            for _ in range(rng.randrange(3))
        ]
        string = "".join(chr(rng.randrange(46, 114)) for _ in range(rng.randrange(8)))
        for segmentation in (
            polygons,
            {"size": [6, 8], "counts": string},
            {"size": [6, 8], "counts": [rng.choice(numbers) for _ in range(3)]},
        ):
            try:
                found = mask(segmentation, 6, 8)
            except ValueError:
                continue
            drawn += 1
            assert found.shape == (6, 8) and found.dtype == bool
    assert drawn > 500


def test_a_damaged_string_of_run_lengths_is_refused_or_what_coco_reads():
    rng, drawn = random.Random(1), 0
    expected = random_mask(np.random.default_rng(0), 30, 40)
    string = packed(runs(expected))
    for _ in range(2_000):
        place = rng.randrange(len(string))
        changed = string[:place] + chr(rng.randrange(48, 112)) + string[place + 1 :]
        try:
            found = mask({"size": [30, 40], "counts": changed}, 30, 40)
        except ValueError:
            continue
        drawn += 1
        assert np.array_equal(found, coco_mask.decode({"size": [30, 40], "counts": changed.encode()}).astype(bool))
    assert drawn > 20


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
