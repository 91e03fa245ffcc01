"""Files are written whole under any name that the disk takes, and a place that cannot be written to is named before."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from xattn_edu.files import check_folder_of, expanded, write_atomically


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "\uac00" * 80 + ".json"], ids=["255 letters", "80 syllables"])
def test_a_name_may_be_as_long_as_the_disk_takes(name, tmp_path):
    assert len(name.encode()) <= 255
    check_folder_of(tmp_path / name)
    write_atomically(tmp_path / name, b"content")
    assert (tmp_path / name).read_bytes() == b"content" and os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a" * 252 + ".png", "\uac00" * 84 + ".png"], ids=["256 letters", "84 syllables"])
def test_a_longer_name_is_refused_with_its_length(name, tmp_path):
    with pytest.raises(ValueError, match="is 256 bytes long, a name here has 255 at most: name a shorter one"):
        check_folder_of(tmp_path / name)


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """Each writes a part of its own: the file is the whole content of one of them, at any time."""
    contents = [bytes([number]) * 200_000 for number in range(8)]
    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(partial(write_atomically, tmp_path / "a"), contents))
    assert (tmp_path / "a").read_bytes() in contents and os.listdir(tmp_path) == ["a"]


def test_a_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expanded("~/a.png") == tmp_path / "a.png" and expanded("a~.png").name == "a~.png"


def test_no_home_folder(monkeypatch):
    """As in a container whose user is not in the list of users: pathlib then raises RuntimeError."""
    with pytest.raises(FileNotFoundError, match=r"~nobody-here/a.png: there is no home folder for ~: .* set HOME"):
        expanded("~nobody-here/a.png")
