"""Each pixel of a CIFAR-10 file lands where it belongs, and a file that is anything else is refused."""

import pickle
import random
import time
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from xattn_edu.data import cifar
from xattn_edu.data.cifar import CLASSES, DEVIATION, FILES, MEAN, load

NAMES = [name for names in FILES.values() for name in names]


def record(label, seed):
    """One record as published: the label, then 1,024 red, 1,024 green, 1,024 blue values, row by row."""
    planes = np.random.default_rng(seed).integers(256, size=(3, 32, 32), dtype=np.uint8)
    return bytes([label]) + b"".join(bytes(plane.ravel().tolist()) for plane in planes), planes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three records a file, labels and pixels told by the file's number and the record's."""
    monkeypatch.delenv(cifar.ENVIRONMENT, raising=False)
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(b"".join(record((3 * number + k) % 10, 3 * number + k)[0] for k in range(3)))
    return tmp_path


@pytest.mark.parametrize(("split", "first", "count"), [("train", 0, 15), ("test", 15, 3)])
def test_every_pixel_and_label(split, first, count, folder):
    data = load(split, folder, complete=False)
    assert data.images.shape == (count, 32, 32, 3) and data.images.dtype == np.uint8 and len(data) == count
    assert data.labels.dtype == np.int64 and data.labels.tolist() == [(first + k) % 10 for k in range(count)]
    for image, seed in zip(data.images, range(first, first + count)):
        red, green, blue = record(0, seed)[1]
        assert [image[..., channel].tolist() for channel in range(3)] == [red.tolist(), green.tolist(), blue.tolist()]
    assert data.classes == CLASSES and len(set(CLASSES)) == 10 and CLASSES[3] == "cat"
    data.images[:] = 0  # can be changed, without harm
    assert load(split, folder, complete=False).images.any()
    with pytest.raises(FrozenInstanceError):
        data.images = None


def test_tensors_are_normalised_copies(folder):
    data = load("test", folder, complete=False)
    images, labels = data.tensors()
    assert images.shape == (3, 3, 32, 32) and images.dtype == torch.float32 and images.is_contiguous()
    assert labels.dtype == torch.int64 and labels.tolist() == data.labels.tolist()
    for channel in range(3):
        expected = (data.images[..., channel] / 255 - MEAN[channel]) / DEVIATION[channel]
        torch.testing.assert_close(images[:, channel], torch.from_numpy(expected).float())
    before = data.images.copy()
    images.zero_(), labels.zero_()
    assert np.array_equal(data.images, before) and data.labels.any()
    plain, _ = data.tensors(mean=(0, 0, 0), deviation=(1, 1, 1))
    assert plain.max() == data.images.max() / 255


def test_constants_are_the_customary_ones_of_red_green_and_blue():
    assert MEAN == (0.4914, 0.4822, 0.4465) and DEVIATION == (0.2470, 0.2435, 0.2616)
    assert list(CLASSES) == "airplane automobile bird cat deer dog frog horse ship truck".split()


@pytest.mark.parametrize(
    ("mean", "deviation"), [(MEAN, (1, 0, 1)), (MEAN, (1, 1)), ((0, 0), DEVIATION), (MEAN, (1, 1, float("nan")))]
)
def test_tensors_refuse_a_mean_or_deviation_that_is_none(mean, deviation, folder):
    with pytest.raises(ValueError, match="three numbers each, deviation positive"):
        load("test", folder, complete=False).tensors(mean, deviation)


def test_where_it_is_looked_for(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="does not come with the course.*binary version.*XATTN_CIFAR10"):
        load("test")
    monkeypatch.setenv(cifar.ENVIRONMENT, str(folder))
    assert len(load("test", complete=False)) == 3
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match="other.test_batch.bin is missing"):  # a given folder comes first
        load("test", tmp_path / "other", complete=False)
    inner = tmp_path / "other" / "cifar-10-batches-bin"
    inner.mkdir()
    (folder / "test_batch.bin").rename(inner / "test_batch.bin")
    assert len(load("test", tmp_path / "other", complete=False)) == 3


@pytest.mark.parametrize("split", ["val", "Train", "", None])
def test_unknown_split(split, folder):
    with pytest.raises(ValueError, match="split must be one of train, test, given"):
        load(split, folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named_before_one_is_read(name, folder):
    (folder / name).unlink()
    (folder / NAMES[0]).exists() and (folder / NAMES[0]).write_bytes(b"broken")
    with pytest.raises(FileNotFoundError, match=f"{name} is missing: get .CIFAR-10 binary version"):
        load("test" if name in FILES["test"] else "train", folder)


def test_the_pickled_version_is_refused(folder):
    content = pickle.dumps({b"data": np.zeros((3, 3072), np.uint8), b"labels": [0, 1, 2]})
    (folder / "test_batch.bin").unlink()
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(FileNotFoundError, match="test_batch is the pickled version.*cifar-10-binary.tar.gz"):
        load("test", folder)
    (folder / "test_batch.bin").write_bytes(content)  # renamed
    with pytest.raises(ValueError, match="test_batch.bin has .* bytes, it should have 30,730,000"):
        load("test", folder)
    with pytest.raises(ValueError, match="test_batch.bin: labels are 0 to 9, found 128"):
        (folder / "test_batch.bin").write_bytes(content.ljust(4 * 3073, b"."))
        load("test", folder, complete=False)


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 2 * 3073 - 1, 10_001 * 3073])
def test_another_size_is_refused(size, folder):
    with (folder / "data_batch_4.bin").open("wb") as file:
        file.truncate(size)
    with pytest.raises(ValueError, match=f"data_batch_4.bin has {size:,} bytes.* a multiple of 3,073"):
        load("train", folder, complete=False)


def test_a_complete_file_has_ten_thousand_records(folder):
    with pytest.raises(ValueError, match="data_batch_1.bin has 9,219 bytes, it should have 30,730,000: get"):
        load("train", folder)
    for size, right in ((9_999 * 3073, False), (30_730_000, True)):
        with (folder / "test_batch.bin").open("wb") as file:
            file.truncate(size)
        if right:
            assert len(load("test", folder)) == 10_000
        else:
            with pytest.raises(ValueError, match="it should have 30,730,000"):
                load("test", folder)


def test_a_huge_file_is_not_read(folder):
    with (folder / "test_batch.bin").open("wb") as file:
        file.truncate(3073 * 2**24)  # 50 GB, of which none is on the disk
    start = time.process_time()
    with pytest.raises(ValueError, match="up to 30,730,000"):
        load("test", folder, complete=False)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("label", [10, 128, 255])
def test_a_label_that_is_none(label, folder):
    content = bytearray((folder / "data_batch_2.bin").read_bytes())
    content[3073] = label
    (folder / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(ValueError, match=f"data_batch_2.bin: labels are 0 to 9, found {label}"):
        load("train", folder, complete=False)


def test_damaged_files_are_refused_or_what_their_bytes_say(folder):
    """A pixel can hold any byte, so that a flipped one goes unseen; a lost or added one does not."""
    rng, path, refused = random.Random(0), folder / "test_batch.bin", 0
    content = path.read_bytes()
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 2, 5])):
            place = rng.choice([0, 3073, rng.randrange(len(content))])
            if rng.random() < 0.8:
                changed[place] = rng.randrange(256)
            else:
                changed[place:place] = rng.randbytes(rng.choice([1, 3073]))
        changed = changed[: rng.choice([None] * 9 + [rng.randrange(len(changed))])]
        path.write_bytes(changed)
        try:
            data = load("test", folder, complete=False)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(str(path)) and "get " in str(error)
        else:
            assert len(changed) == 3073 * len(data) and data.labels.max() <= 9
            assert data.labels.tolist() == list(changed[::3073])
            assert data.images[-1, -1, -1].tolist() == [changed[-2049], changed[-1025], changed[-1]]
    assert 50 < refused < 300
