"""Fashion-MNIST: the shipped subset is what its card says, and no file that differs by a bit is ever read."""

import gzip
import hashlib
import importlib.util
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xattn_edu.data import fashion_mnist
from xattn_edu.data.fashion_mnist import SUBSET_FOLDER, parse_idx

FILES = [name for names in fashion_mnist._FILES.values() for name in names]
needs_full = pytest.mark.skipif(
    not fashion_mnist.full_available(),
    reason=f"the full set is not here: apt install dataset-fashion-mnist, or set {fashion_mnist.ENVIRONMENT}",
)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of the shipped folder that a test may damage."""
    folder = tmp_path / "fashion_mnist"
    shutil.copytree(SUBSET_FOLDER, folder)
    monkeypatch.setattr(fashion_mnist, "SUBSET_FOLDER", folder)
    return folder


@pytest.mark.parametrize(("split", "count"), [("train", 12000), ("test", 2000)])
def test_subset_is_balanced(split, count):
    images = fashion_mnist.load(split)
    assert images.images.shape == (count, 28, 28) and images.images.dtype == np.uint8
    assert images.labels.shape == (count,) and images.labels.dtype == np.int64 and len(images) == count
    assert np.bincount(images.labels).tolist() == [count // 10] * 10
    assert len(fashion_mnist.CLASSES) == 10


def test_no_image_occurs_twice_or_on_both_sides():
    sets = [fashion_mnist.load(split).images for split in ("train", "test")]
    assert len({image.tobytes() for images in sets for image in images}) == 14000


def test_known_images():
    """The first labels of the published test set: boot, pullover, trouser, trouser, shirt."""
    test = fashion_mnist.load("test")
    assert [fashion_mnist.CLASSES[label] for label in test.labels[:5]] == [
        "ankle boot",
        "pullover",
        "trouser",
        "trouser",
        "shirt",
    ]
    boots, trousers = (test.images[test.labels == label].mean(axis=0) for label in (9, 1))
    assert boots[20:24, 2:8].mean() > 80 > 20 > boots[2:6, 2:8].mean()  # a toe at the lower left
    assert trousers[:, 12:16].mean() > 3 * trousers[:, :4].mean()


def test_tensors_are_normalised():
    train = fashion_mnist.load("train")
    images, labels = train.tensors()
    assert images.shape == (12000, 1, 28, 28) and images.dtype == torch.float32 and labels.dtype == torch.int64
    assert abs(images.mean()) < 0.02 and abs(images.std() - 1) < 0.02
    assert torch.equal(labels, torch.from_numpy(train.labels))
    restored = images[5, 0] * fashion_mnist.STD + fashion_mnist.MEAN
    torch.testing.assert_close(restored * 255, torch.from_numpy(train.images[5]).float(), atol=1e-3, rtol=0)


def test_arrays_can_be_changed_without_harm():
    first = fashion_mnist.load("test")
    first.images[:] = 0
    assert fashion_mnist.load("test").images.any()


def test_checksums_beside_the_data_are_those_of_the_data():
    for line in (SUBSET_FOLDER / "checksums.sha256").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((SUBSET_FOLDER / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "flip", "more", "empty", "page"])
def test_a_damaged_file_is_refused(copy, name, damage):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= damage == "flip"
    page = b"<!DOCTYPE html><title>404</title>"
    damaged = {"cut": content[:-100], "flip": content, "more": content + b"\0", "empty": b"", "page": page}[damage]
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=re.escape(name)) as error:
        fashion_mnist.load("train" if name.startswith("train") else "test")
    found = hashlib.sha256(damaged).hexdigest()
    expected = hashlib.sha256((SUBSET_FOLDER.parents[1] / "datasets/fashion_mnist" / name).read_bytes()).hexdigest()
    assert found in str(error.value) and expected in str(error.value) and "git checkout" in str(error.value)


def test_swapped_files_are_refused(copy):
    one, other = copy / FILES[0], copy / FILES[2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    for split in ("train", "test"):
        with pytest.raises(ValueError, match="SHA-256"):
            fashion_mnist.load(split)


@pytest.mark.parametrize("name", [*FILES, "checksums.sha256"])
def test_a_missing_file_is_named_with_the_remedy(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{re.escape(name)} is missing: restore it with `git checkout"):
        for split in ("train", "test"):
            fashion_mnist.load(split)


@pytest.mark.parametrize("text", ["", "garbage", "é\n" * 3])
def test_a_damaged_list_of_checksums_is_refused(copy, text):
    (copy / "checksums.sha256").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"checksums\.sha256 has no checksum of"):
        fashion_mnist.load("test")


def test_images_and_labels_must_belong_together(copy):
    """Right checksums do not make up for a wrong content."""
    for name, array in ((FILES[2], np.zeros((3, 28, 28), np.uint8)), (FILES[3], np.array([0, 1], np.uint8))):
        (copy / name).write_bytes(gzip.compress(idx(array)))
    sums = [f"{hashlib.sha256((copy / name).read_bytes()).hexdigest()}  {name}\n" for name in FILES]
    (copy / "checksums.sha256").write_text("".join(sums))
    with pytest.raises(ValueError, match="do not belong together"):
        fashion_mnist.load("test")
    assert len(fashion_mnist.load("train")) == 12000


@pytest.mark.parametrize("split", ["val", "Train", "", None])
def test_unknown_split(split):
    with pytest.raises(ValueError, match="'train', 'test'"):
        fashion_mnist.load(split)


def test_folder_is_for_the_full_set(tmp_path):
    with pytest.raises(ValueError, match="full=True"):
        fashion_mnist.load("train", folder=tmp_path)


def test_full_set_missing(tmp_path, monkeypatch):
    assert not fashion_mnist.full_available(tmp_path)
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        fashion_mnist.load("train", full=True, folder=tmp_path)
    monkeypatch.setenv(fashion_mnist.ENVIRONMENT, str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        fashion_mnist.load("train", full=True)


def test_the_subset_does_not_pass_for_the_full_set():
    assert fashion_mnist.full_available(SUBSET_FOLDER)  # the same names ...
    with pytest.raises(ValueError, match="SHA-256"):  # ... but not the same files
        fashion_mnist.load("train", full=True, folder=SUBSET_FOLDER)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.binary(min_size=64, max_size=64))
def test_idx_round_trip(shape, content):
    count = int(np.prod(shape))
    array = np.frombuffer(content[:count], np.uint8).reshape(shape)
    assert np.array_equal(parse_idx(idx(array)), array)


@given(st.binary(max_size=40))
def test_idx_of_anything_is_read_right_or_refused(content):
    try:
        array = parse_idx(content)
    except ValueError:
        return
    assert idx(array) == content


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_idx_with_a_changed_header_never_gives_the_wrong_shape(position, change):
    good = bytearray(idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4)))
    good[position % 16] ^= change
    try:
        array = parse_idx(bytes(good))
    except ValueError:
        return
    assert idx(array) == bytes(good)


@needs_full
def test_full_set():
    train, test = fashion_mnist.load("train", full=True), fashion_mnist.load("test", full=True)
    assert np.bincount(train.labels).tolist() == [6000] * 10 and np.bincount(test.labels).tolist() == [1000] * 10
    scaled = train.images / 255
    assert abs(scaled.mean() - fashion_mnist.MEAN) < 5e-5 and abs(scaled.std() - fashion_mnist.STD) < 5e-5


@needs_full
def test_the_script_makes_the_subset_again(tmp_path):
    script = SUBSET_FOLDER / "make_subset.py"
    subprocess.run([sys.executable, str(script), "--target", str(tmp_path)], check=True)
    for name in FILES:  # compared unpacked: another zlib packs the same content into other bytes
        assert gzip.decompress((tmp_path / name).read_bytes()) == gzip.decompress((SUBSET_FOLDER / name).read_bytes())


def test_the_script_keeps_the_first_of_each_class():
    spec = importlib.util.spec_from_file_location("make_subset", SUBSET_FOLDER / "make_subset.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    labels = np.tile(np.arange(10), 3)
    images, kept = script.subset(fashion_mnist.ImageSet(np.arange(30, dtype=np.uint8), labels), 2)
    assert images.tolist() == list(range(20)) and np.bincount(kept).tolist() == [2] * 10
