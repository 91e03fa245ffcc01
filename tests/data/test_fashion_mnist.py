"""The shipped images are what they claim to be, and a file that is anything else is refused, never read wrongly."""

import gzip
import hashlib
import importlib.util
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xattn_edu.data import fashion_mnist
from xattn_edu.data.fashion_mnist import CLASSES, DEVIATION, FILES, MEAN, SUBSET_FOLDER, full_available, load, parse_idx

SPLITS = {"train": (12_000, 60_000), "test": (2_000, 10_000)}  # images in the subset, in the full set
NAMES = [name for names in FILES.values() for name in names]
IMAGES, LABELS = FILES["test"]
needs_full = pytest.mark.skipif(
    not full_available(), reason=f"the full Fashion-MNIST is not on this disk (set {fashion_mnist.ENVIRONMENT})"
)


def idx(array, kind=8):
    """A uint8 array as the bytes of an idx file."""
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digests(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


# --- the shipped subset


@pytest.mark.parametrize("split", SPLITS)
def test_subset_is_balanced(split):
    data = load(split)
    count = SPLITS[split][0]
    assert len(data) == count
    assert data.images.shape == (count, 28, 28) and data.images.dtype == np.uint8
    assert data.labels.shape == (count,) and data.labels.dtype == np.int64
    assert np.bincount(data.labels).tolist() == [count // 10] * 10
    assert data.classes == CLASSES and len(set(CLASSES)) == 10
    with pytest.raises(FrozenInstanceError):
        data.images = None


@pytest.mark.parametrize(("split", "total"), [("train", 687_403_837), ("test", 114_072_606)])
def test_subset_has_the_pixels_it_was_made_with(split, total):
    data = load(split)
    assert data.images.sum(dtype=np.int64) == total
    assert data.images.min() == 0 and data.images.max() == 255
    assert data.images[:, 0, 0].mean() < 1 < 60 < data.images[:, 14, 14].mean()  # clothes lie in the middle, on black


def test_subset_begins_as_the_published_test_set_does():
    first = [CLASSES[label] for label in load("test").labels[:5]]
    assert first == ["ankle boot", "pullover", "trouser", "trouser", "shirt"]


def test_subset_images_and_labels_belong_together():
    """A trouser is tall and narrow, a sneaker flat, a pullover fills the frame: a shuffled list would not."""
    data = load("train")
    mean = {name: data.images[data.labels == label].mean(0) for label, name in enumerate(data.classes)}
    assert mean["trouser"][26, 12] > 100 > 20 > mean["sneaker"][26, 12]
    assert mean["trouser"][14, 2] < 5 < 50 < mean["pullover"][20, 4]
    assert mean["ankle boot"][6, 20] > 50 > 10 > mean["sneaker"][6, 20]


def test_arrays_can_be_changed_without_harm():
    load("test").images[:] = 0
    assert load("test").images.any()


def test_no_image_occurs_twice():
    found = digests(load("train").images) + digests(load("test").images)
    assert len(set(found)) == len(found)


def test_checksums_are_those_of_the_files():
    lines = (SUBSET_FOLDER / "checksums.sha256").read_text().splitlines()
    assert lines == [f"{hashlib.sha256((SUBSET_FOLDER / name).read_bytes()).hexdigest()}  {name}" for name in NAMES]


def test_subset_stays_small_and_loads_fast():
    assert sum((SUBSET_FOLDER / name).stat().st_size for name in NAMES) < 10_000_000
    seconds = []
    for _ in range(3):
        start = time.process_time()  # of this process alone: others may keep the machine busy
        load("train")
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5  # 0.1 on a 2-core machine


def test_datasets_folder_is_no_package():
    """An __init__.py there would hide Hugging Face's `datasets`."""
    assert not (SUBSET_FOLDER.parent / "__init__.py").exists()


# --- tensors


def test_tensors_are_normalised_copies():
    data = load("test")
    images, labels = data.tensors()
    assert images.shape == (2_000, 1, 28, 28) and images.dtype == torch.float32
    assert labels.dtype == torch.int64 and labels.tolist() == data.labels.tolist()
    expected = (data.images[:, None] / 255 - MEAN) / DEVIATION
    torch.testing.assert_close(images, torch.from_numpy(expected).float())
    assert abs(images.mean()) < 0.02 and abs(images.std() - 1) < 0.02
    before = data.images.copy(), data.labels.copy()
    images.zero_(), labels.zero_()
    assert (data.images == before[0]).all() and (data.labels == before[1]).all()


def test_tensors_with_other_constants():
    data = load("test")
    images, _ = data.tensors(mean=0, deviation=1)
    assert images.min() == 0 and images.max() == 1
    for deviation in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"deviation must be positive, given {deviation}"):
            data.tensors(deviation=deviation)


def test_loading_needs_neither_torch_nor_matplotlib():
    """The module is read as a file, without the package around it, in a fresh Python."""
    code = (
        "import importlib.util, sys;"
        f"spec = importlib.util.spec_from_file_location('alone', {fashion_mnist.__file__!r});"
        "module = sys.modules['alone'] = importlib.util.module_from_spec(spec); spec.loader.exec_module(module);"
        "assert len(module.load('test')) == 2000;"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the full set

PUBLISHED = {  # typed a second time: the files themselves are on few disks
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}


def test_the_full_set_is_compared_with_the_published_checksums():
    assert fashion_mnist._FULL_CHECKSUMS == PUBLISHED
    assert (MEAN, DEVIATION) == (0.2860, 0.3530)


@needs_full
@pytest.mark.parametrize("split", SPLITS)
def test_full_set(split):
    data = load(split, full=True)
    count = SPLITS[split][1]
    assert data.images.shape == (count, 28, 28) and np.bincount(data.labels).tolist() == [count // 10] * 10


@needs_full
def test_constants_are_those_of_the_full_training_set():
    images = load("train", full=True).images / np.float32(255)
    assert images.mean(dtype=np.float64) == pytest.approx(MEAN, abs=5e-5)
    assert images.std(dtype=np.float64) == pytest.approx(DEVIATION, abs=5e-5)


@needs_full
def test_full_set_has_no_image_twice():
    """Were there any, a test image could have been trained on; the card says that there are none."""
    found = digests(load("train", full=True).images) + digests(load("test", full=True).images)
    assert len(set(found)) == len(found)


@needs_full
@pytest.mark.parametrize("split", SPLITS)
def test_subset_is_the_first_of_each_class(split):
    """An independent count: walk through the full set, take an image while its class still lacks some."""
    full, data = load(split, full=True), load(split)
    lacking, kept = [len(data) // 10] * 10, []
    for position, label in enumerate(full.labels):
        if lacking[label]:
            lacking[label] -= 1
            kept.append(position)
    assert (full.images[kept] == data.images).all() and (full.labels[kept] == data.labels).all()


@pytest.mark.slow
@needs_full
def test_script_makes_the_same_files_again(tmp_path):
    arguments = ["--source", fashion_mnist._full_folder(None), "--target", tmp_path]
    subprocess.run([sys.executable, SUBSET_FOLDER / "make_subset.py", *arguments], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*NAMES, "checksums.sha256"])
    for name in NAMES:
        made, shipped = (tmp_path / name).read_bytes(), (SUBSET_FOLDER / name).read_bytes()
        assert gzip.decompress(made) == gzip.decompress(shipped)
        if "zlib-ng" not in zlib.ZLIB_RUNTIME_VERSION:  # which packs the same content into other bytes
            assert made == shipped
    lines = (tmp_path / "checksums.sha256").read_bytes().decode().split("\n")
    assert lines == [f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}" for name in NAMES] + [""]


def script():
    """datasets/fashion_mnist/make_subset.py as a module."""
    spec = importlib.util.spec_from_file_location("make_subset", SUBSET_FOLDER / "make_subset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script_keeps_the_first_of_each_class():
    full = fashion_mnist.ImageSet(np.arange(30, dtype=np.uint8), np.tile(np.arange(10), 3))
    images, labels = script().subset(full, 2)
    assert images.tolist() == list(range(20)) and labels.tolist() == [*range(10)] * 2


@pytest.mark.parametrize("system", [3, 10, 255])
def test_script_writes_the_same_header_with_every_python(monkeypatch, system):
    """Byte 9 of what gzip.compress returns is 3, 10 or 255, depending on Python's version and the system."""
    honest = gzip.compress

    def compress(data, **settings):
        packed = bytearray(honest(data, **settings))
        packed[9] = system
        return bytes(packed)

    monkeypatch.setattr(gzip, "compress", compress)
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    packed = script().idx_gz(array)
    assert packed[:10] == bytes.fromhex("1f8b0800000000000203")
    assert (parse_idx(gzip.decompress(packed)) == array).all()


# --- where it is looked for


def test_full_folder_is_the_argument_else_the_variable_else_debians(monkeypatch, tmp_path):
    def looked_in(folder=None):
        with pytest.raises(FileNotFoundError) as error:
            load("test", full=True, folder=folder)
        return str(error.value)

    for name in ("given", "variable", "debian"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(fashion_mnist, "FULL_FOLDER", tmp_path / "debian")
    monkeypatch.setenv(fashion_mnist.ENVIRONMENT, str(tmp_path / "variable"))
    assert looked_in(str(tmp_path / "given")).startswith(str(tmp_path / "given" / IMAGES))
    assert looked_in().startswith(str(tmp_path / "variable" / IMAGES))
    monkeypatch.setenv(fashion_mnist.ENVIRONMENT, "")
    assert looked_in().startswith(str(tmp_path / "debian" / IMAGES))
    monkeypatch.delenv(fashion_mnist.ENVIRONMENT)
    message = looked_in()
    assert message.startswith(str(tmp_path / "debian" / IMAGES))
    assert "apt-get install dataset-fashion-mnist" in message and "XATTN_FASHION_MNIST" in message


def test_full_folder_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "data" / IMAGES))):
        load("test", full=True, folder="~/data")


def test_full_available_wants_all_four_files(tmp_path):
    assert not full_available(tmp_path / "nowhere")
    for name in NAMES:
        assert not full_available(tmp_path)
        (tmp_path / name).touch()
    assert full_available(tmp_path)
    with pytest.raises(ValueError, match="is not the file it should be"):  # being there is not being right
        load("train", full=True, folder=tmp_path)


@pytest.mark.parametrize("split", ["Train", "val", "", None, 0, ["train"], {"train"}])
def test_unknown_split(split):
    with pytest.raises(ValueError, match=re.escape(f"split must be one of train, test, given {split!r}")):
        load(split)


def test_folder_is_for_the_full_set_only(tmp_path):
    with pytest.raises(ValueError, match="full=True"):
        load("train", folder=tmp_path)


# --- files gone wrong


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the shipped folder, which the library takes for the shipped one."""
    folder = shutil.copytree(SUBSET_FOLDER, tmp_path / "fashion_mnist")
    monkeypatch.setattr(fashion_mnist, "SUBSET_FOLDER", folder)
    return folder


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "one bit flipped": flip,
    "extra bytes": lambda content: content + b"\0",
    "a second member": lambda content: content + gzip.compress(b"more"),
    "empty": lambda content: b"",
    "unpacked": gzip.decompress,
    "packed again": lambda content: gzip.compress(gzip.decompress(content), compresslevel=1),
    "an error page": lambda content: b"<!DOCTYPE html><html><title>404 Not Found</title></html>",
    "a Git LFS pointer": lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 872910\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", NAMES)
def test_damaged_file_is_refused(copy, name, damage):
    path = copy / name
    split, other = ("train", "test") if name in FILES["train"] else ("test", "train")
    original = path.read_bytes()
    content = DAMAGE[damage](original)
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        load(split)
    message = str(error.value)
    assert str(path) in message and f"{len(content):,} bytes" in message
    assert hashlib.sha256(original).hexdigest() in message and hashlib.sha256(content).hexdigest() in message
    assert "git checkout -- datasets/fashion_mnist" in message
    assert len(load(other)) == SPLITS[other][0]  # whose files are whole


@pytest.mark.parametrize("split", FILES)
@pytest.mark.parametrize("kind", [0, 1])
def test_swapped_splits_are_refused(copy, split, kind):
    ours, theirs = FILES["train"][kind], FILES["test"][kind]
    (copy / ours).rename(copy / "aside")
    (copy / theirs).rename(copy / ours)
    (copy / "aside").rename(copy / theirs)
    with pytest.raises(ValueError, match=re.escape(FILES[split][kind])):
        load(split)


@pytest.mark.parametrize("name", FILES["test"])
def test_missing_shipped_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        load("test")
    assert str(copy / name) in str(error.value) and "git checkout -- datasets/fashion_mnist" in str(error.value)
    (copy / name).mkdir()  # a folder of that name is no file
    with pytest.raises(FileNotFoundError):
        load("test")


def test_installed_without_the_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "SUBSET_FOLDER", tmp_path / "datasets" / "fashion_mnist")
    with pytest.raises(FileNotFoundError, match="is missing: .*used from a clone of its repository"):
        load("train")


def test_list_of_checksums_must_be_whole(copy):
    path = copy / "checksums.sha256"
    lines = path.read_text().splitlines()
    path.write_text("\r\n".join(lines), newline="")  # as git may write it on Windows
    assert len(load("test")) == 2_000
    for content in (b"", b"<html>404 Not Found</html>", b"\xff\xfe\x00", "\n".join(lines[:3]).encode()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{re.escape(str(path))} has no checksum of .*{LABELS}"):
            load("test")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        load("test")


@needs_full
def test_subset_is_not_taken_for_the_full_set(copy):
    with pytest.raises(ValueError, match="is not the file it should be"):
        load("test", full=True, folder=copy)
    for name in FILES["test"]:
        shutil.copy(fashion_mnist._full_folder(None) / name, copy / name)
    assert len(load("test", full=True, folder=copy)) == 10_000
    with pytest.raises(ValueError, match="is not the file it should be"):
        load("test")


# --- files that agree with their checksum and still are not right


def rewrite(folder, **contents):
    """Put these contents in place of the test images and labels, and their checksums into the list."""
    path = folder / "checksums.sha256"
    for kind, content in contents.items():
        name = {"images": IMAGES, "labels": LABELS}[kind]
        old = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        (folder / name).write_bytes(content)
        path.write_text(path.read_text().replace(old, hashlib.sha256(content).hexdigest()))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"labels": gzip.compress(idx(np.full(2000, 10, np.uint8)))}, "labels are 0 to 9, found 10"),
        ({"labels": gzip.compress(idx(np.full(2000, 255, np.uint8)))}, "labels are 0 to 9, found 255"),
        ({"labels": gzip.compress(idx(np.zeros(1999, np.uint8)))}, r"images \(2000, 28, 28\) and labels \(1999,\)"),
        ({"labels": gzip.compress(idx(np.zeros((2000, 1), np.uint8)))}, r"labels \(2000, 1\) do not belong together"),
        ({"images": gzip.compress(idx(np.zeros((2000, 28, 29), np.uint8)))}, r"images \(2000, 28, 29\)"),
        ({"images": gzip.compress(idx(np.zeros((2000, 784), np.uint8)))}, r"images \(2000, 784\)"),
        ({"images": gzip.compress(idx(np.zeros(2000, np.uint8)))}, r"images \(2000,\)"),
        ({"images": gzip.compress(idx(np.zeros((2000, 28, 28), np.uint8), kind=9))}, f"{IMAGES}.*00 00 09 03"),
        ({"images": gzip.compress(idx(np.zeros((2000, 28, 28), np.uint8))[:-1])}, f"{IMAGES}.*1,568,016 bytes"),
        ({"images": idx(np.zeros((2000, 28, 28), np.uint8))}, f"{IMAGES}.*no gzipped idx file"),
        ({"images": b""}, f"{IMAGES}.*no gzipped idx file"),
        ({"images": gzip.compress(b"cut")[:-4]}, f"{IMAGES}.*no gzipped idx file"),
        ({"images": gzip.compress(b"")[:10] + b"\xff" * 20}, f"{IMAGES}.*no gzipped idx file"),
    ],
)
def test_wrong_contents_are_refused_whatever_the_checksum_says(copy, contents, message):
    rewrite(copy, **contents)
    with pytest.raises(ValueError, match=message) as error:
        load("test")
    assert str(copy) in str(error.value) and "git checkout" in str(error.value)


SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.gz"
    return path, gzip.compress(idx(SMALL), mtime=0)


@given(data=st.data())
def test_any_changed_byte_is_noticed(small, data):
    path, content = small
    position = data.draw(st.integers(0, len(content) - 1), label="position")
    change = data.draw(st.integers(1, 255), label="change")
    changed = bytearray(content)
    changed[position] ^= change
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="is not the file it should be"):
        fashion_mnist._read(path, hashlib.sha256(content).hexdigest(), "none")


def test_any_cut_is_noticed(small):
    path, content = small
    checksum = hashlib.sha256(content).hexdigest()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="is not the file it should be"):
            fashion_mnist._read(path, checksum, "none")
    path.write_bytes(content)
    assert (fashion_mnist._read(path, checksum, "none") == SMALL).all()


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_idx_round_trip(shape, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    parsed = parse_idx(idx(array))
    assert parsed.dtype == np.uint8 and parsed.shape == array.shape and (parsed == array).all()
    assert parsed.flags.writeable


@given(start=st.sampled_from([b"", b"\0\0\x08\1", b"\0\0\x08\2\0\0\0"]), rest=st.binary(max_size=40))
def test_idx_of_anything_is_read_right_or_refused(start, rest):
    try:
        array = parse_idx(start + rest)
    except ValueError:
        return
    assert idx(array) == start + rest


@given(position=st.integers(0, 15), change=st.integers(1, 255))
def test_idx_with_a_changed_header_is_refused(position, change):
    changed = bytearray(idx(SMALL))
    changed[position] ^= change
    with pytest.raises(ValueError):
        parse_idx(changed)


def test_idx_cut_anywhere_is_refused():
    for length in range(len(idx(SMALL))):
        with pytest.raises(ValueError, match="idx"):
            parse_idx(idx(SMALL)[:length])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(SMALL) + b"\0", "should have 40 bytes, it has 41"),
        (idx(SMALL, kind=0x0D), "begins with 00 00 0d 03"),
        (b"\0\0\x08\0", "begins with 00 00 08 00"),
        (b"\1" + idx(SMALL)[1:], "begins with 01 00 08 03"),
        (b"\0\0\x08\3" + b"\xff" * 12, "should have 79,228,162,458,924,105,385,300,197,391 bytes"),  # no overflow
        (b"\0\0\x08\xff" + struct.pack(">255I", *[1] * 255) + b"\0", "dimension"),  # more axes than NumPy has
    ],
)
def test_idx_of_another_kind_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse_idx(content)
