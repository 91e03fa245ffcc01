"""The two photographs are what their card says, and damage is named."""

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image

from xattn_edu.data import photographs

CARD = (photographs.FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", photographs.NAMES)
def test_a_photograph_is_what_the_card_says(name):
    whole = photographs.load(name)
    assert whole.dtype == np.uint8 and whole.shape[2] == 3 and min(whole.shape[:2]) == photographs.SHORTER
    np.testing.assert_array_equal(whole, np.array(Image.open(photographs.FOLDER / f"{name}.jpg")))
    assert f"| `{name}.jpg` |" in CARD and f"| `{photographs.NAMES[name]}` |" in CARD and "CC0 1.0" in CARD
    assert "CC0" in (photographs.FOLDER / "LICENSE").read_text(encoding="utf-8")


def test_the_middle_is_cut_out():
    whole, middle = photographs.load("cat"), photographs.load("cat", 224)
    left = (whole.shape[1] - 224) // 2
    np.testing.assert_array_equal(middle, whole[25:249, left : left + 224])
    middle[:] = 0
    assert photographs.load("cat", 224).any()  # a copy: nothing is kept


def test_the_checksums_are_those_of_the_files():
    for line in (photographs.FOLDER / "checksums.sha256").read_text(encoding="ascii").splitlines():
        digest, name = line.split()
        assert digest == hashlib.sha256((photographs.FOLDER / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "size", "words"), [("dog", None, "cat, coffee.*'dog'"), ("cat", 0, "given 0"),
                                                     ("cat", 275, "given 275")])  # fmt: skip
def test_what_there_is_not(name, size, words):
    with pytest.raises(ValueError, match=words):
        photographs.load(name, size)


def test_damage_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="cat.jpg is missing.*git checkout"):
        photographs.load("cat")
    shutil.copy(photographs.Path(__file__), tmp_path / "cat.jpg")
    (tmp_path / "checksums.sha256").write_text("0" * 64 + "  cat.jpg\n", encoding="ascii")
    with pytest.raises(ValueError, match="cat.jpg is not the file that ships"):
        photographs.load("cat")
