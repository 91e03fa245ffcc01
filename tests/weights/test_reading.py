"""One reader for every file of weights: the tensors, the metadata, a clear error, and no code that runs."""

import argparse
import io
import pickle
import struct
import zipfile

import pytest
import torch
from helpers.running_pickle import Program
from safetensors.torch import save_file

from xattn_edu.weights.reading import read_weights

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.count": torch.tensor(3)}
OTHER = {"b": torch.ones(2, dtype=torch.float16)}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def test_a_safetensors_file(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors", {"made": "here"})
    parts, metadata = read_weights(str(tmp_path / "a.safetensors"))
    assert parts.keys() == {"model"} and same(parts["model"], STATE) and metadata == {"made": "here"}
    save_file(STATE, tmp_path / "b.safetensors")
    assert read_weights(tmp_path / "b.safetensors").metadata == {}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_file(suffix, zipped, tmp_path):
    path = tmp_path / f"a{suffix}"
    more = {"optimizer": {"state": {}}, "epoch": 39, "args": argparse.Namespace(rate=5e-5, splits=["val"])}
    for content, expected in (
        (STATE, {"model": STATE}),
        ({"model": STATE} | more, {"model": STATE}),
        ({"model": STATE, "bert_model": OTHER} | more, {"model": STATE, "bert_model": OTHER}),
    ):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        parts, metadata = read_weights(path)
        assert parts.keys() == expected.keys() and all(same(parts[name], expected[name]) for name in parts)
        assert metadata == {}


def refused(path, says, error=ValueError):
    with pytest.raises(error, match=says) as raised:
        read_weights(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(zipped, tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": STATE, "args": Program(tmp_path / "made")}, path, _use_new_zipfile_serialization=zipped)
    refused(path, "holds more than tensors and plain values. Loading the rest could run code, so nothing is loaded")
    path.write_bytes(pickle.dumps(Program(tmp_path / "made")))
    refused(path, "a.pth (is damaged|cannot be read)")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_and_empty_files(suffix, tmp_path):
    path, whole = tmp_path / f"a{suffix}", io.BytesIO()
    if suffix == ".pth":
        torch.save(STATE, whole)
    else:
        save_file(STATE, path)
        whole.write(path.read_bytes())
    content = whole.getvalue()
    for damaged, says in (
        (b"", "is empty: is it complete"),
        (content[:7], "is it complete|is damaged"),
        (content[:-8], "is it complete|is damaged"),
        (b"<!DOCTYPE html>" * 9, "is it complete|is damaged"),
    ):
        path.write_bytes(damaged)
        refused(path, says)


def test_a_wrong_checksum_in_an_archive_is_refused_and_one_that_was_left_out_is_none(tmp_path):
    """torch.load compares none: it reads 5 as 20."""
    path = tmp_path / "a.pth"
    torch.save(STATE, path)
    content, five = bytearray(path.read_bytes()), struct.pack("<f", 5)
    content[content.index(five) + 3] ^= 1
    path.write_bytes(content)
    assert torch.load(path)["a.weight"][1, 2] == 20
    refused(path, "Bad CRC-32 .*is it complete")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_weights(path).parts["model"], STATE)


def test_what_would_unpack_or_grow_to_more_than_the_file_is_refused(tmp_path):
    path, whole = tmp_path / "a.pth", io.BytesIO()
    torch.save({"a": torch.zeros(10**6)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    refused(path, "the archive is compressed, which torch.save does not do")
    torch.save({"a": torch.zeros(1).expand(10**9)}, path)
    refused(path, "bytes cannot hold the 1,000,000,000 numbers of its tensors")
    torch.save({"a": torch.zeros(5, device="meta")}, path)
    refused(path, "holds no state dict")


def test_files_of_the_other_kind_are_named(tmp_path):
    torch.save(STATE, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "is a file of torch.save: rename it to a.pth")
    save_file(STATE, tmp_path / "b.safetensors")
    (tmp_path / "b.safetensors").rename(tmp_path / "b.pth")
    refused(tmp_path / "b.pth", "is a file of safetensors: rename it to b.safetensors")
    with zipfile.ZipFile(tmp_path / "c.pth", "w") as archive:
        archive.writestr("text.txt", "no weights")
    refused(tmp_path / "c.pth", "c.pth cannot be read")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds no state dict, that is tensors by name, but a list"),
        (torch.zeros(2), "but a Tensor"),
        ({"epoch": 3}, "but a dict with other values"),
        ({1: torch.zeros(2)}, "but a dict with other values"),
        ({"model": [1]}, "but a dict with other values"),
        ({"model": STATE, "bert_model": 3}, 'holds no state dict at "bert_model", .* but a int'),
        ({"state_dict": {"model": {"a": 3}}}, 'holds no state dict at "state_dict.model", '),
        (
            {"encoder": STATE, "predictor": OTHER, "lr": 1, "x": {}},
            "there are state dicts at encoder, predictor: save one",
        ),
        ({"model": {"a": 3}}, 'holds no state dict at "model", .* but a dict with other values'),
    ],
)
def test_files_without_a_state_dict(content, says, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", says)


def test_no_file_and_another_suffix(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        refused(path, "is no file: name a file of weights", FileNotFoundError)
    (tmp_path / "a.onnx").write_text("")
    refused(tmp_path / "a.onnx", r"ends in .safetensors, .pth, .pt, .bin, .ckpt or .tar, given")
