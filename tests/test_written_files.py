"""Files are written whole or not at all, whatever the disk does; errors name the file and come before the work."""

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from xattn_edu import doctor, files
from xattn_edu.data import refer
from xattn_edu.files import check_folder_of, expanded, write_atomically
from xattn_edu.predict.evaluation import evaluate
from xattn_edu.predict.pictures import read_image
from xattn_edu.weights.reading import read_weights


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def failing(number):
    """A stand-in for a function of the system that fails with this error number."""

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


def test_write_atomically_does_not_touch_the_old_file(tmp_path):
    """Whoever has the old file open goes on reading the old file: it was replaced, not written over."""
    write_atomically(tmp_path / "file", b"old")
    with open(tmp_path / "file", "rb") as reader:
        write_atomically(tmp_path / "file", b"new")
        assert reader.read() == b"old"
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
def test_write_atomically_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch, call, number):
    write_atomically(tmp_path / "file", b"old")
    with monkeypatch.context() as patch, pytest.raises(OSError) as error:
        patch.setattr(os, call, failing(number))
        write_atomically(tmp_path / "file", b"new")
    assert error.value.errno == number and str(tmp_path / "file") in str(error.value)
    assert (tmp_path / "file").read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_a_disk_that_is_full_in_the_middle_of_a_write(tmp_path, monkeypatch):
    """A write of the operating system itself fails: files above 4 kB are refused."""
    resource = pytest.importorskip("resource")
    write_atomically(tmp_path / "file", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=str(tmp_path / "file")):
            write_atomically(tmp_path / "file", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "file").read_bytes() == b"old" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_fsync(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number))
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new" and names(tmp_path) == ["file"]


def test_a_folder_whose_entry_cannot_be_synced_has_the_file_all_the_same(tmp_path, monkeypatch):
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: failing(errno.EIO)() if stat.S_ISDIR(os.fstat(file).st_mode) else sync(file)
    )
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_names_as_long_as_the_disk_allows(tmp_path):
    path = tmp_path / ("가" * 80 + "x" * 15)  # 255 bytes
    check_folder_of(path)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(ValueError, match="is 256 bytes long, a name here has 255 at most"):
        check_folder_of(path.with_name(path.name + "x"))
    assert names(tmp_path) == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up on POSIX alone")
def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = tmp_path / "file"
    mine = files._temporary(path)
    left = mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{ended.pid}."))
    others = files._temporary(tmp_path / "another file")
    others = others.with_name(others.name.replace(f".{os.getpid()}.", f".{ended.pid}."))
    for part in (mine, left, others):
        part.touch()
    write_atomically(path, b"new")
    assert names(tmp_path) == sorted(["file", mine.name, others.name])


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """Each writes a part of its own: the file is the whole content of one of them, at any time."""
    contents = [bytes([number]) * 200_000 for number in range(8)]
    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(partial(write_atomically, tmp_path / "a"), contents))
    assert (tmp_path / "a").read_bytes() in contents and os.listdir(tmp_path) == ["a"]


def test_check_of_a_folder(tmp_path, monkeypatch):
    check_folder_of(tmp_path / "file")
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="missing.*make it first"):
        check_folder_of(tmp_path / "missing" / "file")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        check_folder_of(tmp_path)
    monkeypatch.setattr("builtins.open", failing(errno.EROFS))
    with pytest.raises(OSError, match="Read-only.*file"):
        check_folder_of(tmp_path / "file")


def test_home(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert expanded("~/x") == Path("/somewhere/x") and expanded("a/~") == Path("a/~")
    with pytest.raises(FileNotFoundError, match="~nobody-has-this-name.*write the whole path, or set HOME"):
        expanded("~nobody-has-this-name/x")


@pytest.mark.parametrize(
    "call",
    [
        lambda path: refer.load(path, "refcoco", "val", "unc"),
        lambda path: refer.convert(path, "refcoco", "unc", "out.json"),
        lambda path: doctor._refcoco(path),
        lambda path: read_image(path),
        lambda path: read_weights(path),
        lambda path: evaluate(path, "root", "out.json"),
    ],
)
def test_an_unknown_home_is_named_by_what_takes_a_path(call):
    with pytest.raises(FileNotFoundError, match="there is no home folder for ~"):
        call("~nobody-has-this-name/x")


def test_brackets_nested_too_deeply_are_a_value_error():
    with pytest.raises(ValueError, match="nested too deeply"):
        files.parse_json("[" * 200_000)
