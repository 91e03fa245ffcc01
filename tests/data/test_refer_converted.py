"""A set converted to one file of JSON is the same set; a file of another set or format is refused."""

import json

import numpy as np
import pytest
from helpers.miniature_refcoco import all_items, load_small

from xattn_edu.data.refer import PUBLISHED, convert, counts, load

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # pycocotools


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
