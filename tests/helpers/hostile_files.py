"""Files that someone made to do harm: to run code, to fill the memory, to lead out of their folder, or never to end."""

import gzip
import io
import json
import os
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.running_pickle import Program
from PIL import Image, PngImagePlugin

Hostile = dict[str, Callable[[Path], None]]
MEBIBYTE, BOMB = 2**20, 2**31  # bytes
OUTSIDE = "../outside/secret"  # beside the folders of all readers; nothing opens it
DEPTH = 100_000


def written(content: bytes | str) -> Callable[[Path], None]:
    data = content.encode() if isinstance(content, str) else content
    return lambda path: path.write_bytes(data) and None


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 * 2**30)


ANYWHERE: Hostile = {
    "empty": written(b""),
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": lambda path: os.mkfifo(path),
    "three gigabytes of zeros": _sparse,
    "a page of HTML": written("<!DOCTYPE html><html><title>404 Not Found</title></html>\n" * 40),
}  # what is no file comes without a message of its own in other systems; those tests run on Linux

NESTED = {
    "lists in lists": "[" * DEPTH + "]" * DEPTH,
    "lists that do not end": "[" * DEPTH,
    "objects in objects": '{"a":' * DEPTH + "0" + "}" * DEPTH,
    "a number of 100,000 digits": "9" * DEPTH,
    "not a number": "NaN",
    "half a character": '"\\ud800"',
}
TEXT: Hostile = ANYWHERE | {name: written(text) for name, text in NESTED.items()}


def within(make: Callable[[Any], bytes]) -> Hostile:
    """Files that hold something hostile at a place where `make` puts it. It is given JSON's text."""
    return {f"within the content, {name}": written(make(text)) for name, text in NESTED.items()}


# --- pickles that call


def calling(content: Any = None) -> Hostile:
    """Pickles that make a folder beside themselves when they are loaded, in a list with `content`."""

    def write(path: Path, protocol: int) -> None:
        path.write_bytes(pickle.dumps([content, Program(path.parent / "ran")], protocol))

    found: Hostile = {f"a pickle that calls, protocol {p}": partial(write, protocol=p) for p in range(6)}
    found["a pickle that calls the shell"] = written(b"cos\nsystem\n(S'mkdir ran'\ntR.")
    found["a pickle that imports"] = written(b"(S'import os; os.mkdir(\"ran\")'\ni__builtin__\nexec\n.")
    return found


def calling_weights(state: Any) -> Hostile:
    """The same in files of torch.save."""

    def write(path: Path, zipped: bool, place: str) -> None:
        content = {"model": state, place: Program(path.parent / "ran")}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)

    names = {"zip": True, "old form": False}
    return {
        f"weights that call, {name}, {place}": partial(write, zipped=zipped, place=place)
        for name, zipped in names.items()
        for place in ("args", "model")
    }


# --- archives


@cache
def _zeros() -> tuple[bytes, int]:
    """BOMB zeros, deflated, and their checksum: one compressed mebibyte, over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first, block, crc = [packer.compress(bytes(MEBIBYTE)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)] + [0]
    for _ in range(BOMB // MEBIBYTE):
        crc = zlib.crc32(bytes(MEBIBYTE), crc)
    return first + block * (BOMB // MEBIBYTE - 1) + packer.flush(), crc


def zip_bomb(content: bytes, entry: str) -> bytes:
    """The archive with an entry, named by its end, that unpacks to two gibibytes of zeros. All checksums are right."""
    packed, crc = _zeros()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(item.filename, archive.read(item)) for item in archive.infolist()]
    out, directory = b"", b""
    for name, data in entries:
        bomb = name.endswith(entry)
        fields = (8, 0, 33, crc, len(packed), BOMB) if bomb else (0, 0, 33, zlib.crc32(data), len(data), len(data))
        common = struct.pack("<HHHHHIIIHH", 20, 0, *fields, len(name), 0)
        directory += b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(out))
        directory += name.encode()
        out += b"PK\3\4" + common + name.encode() + (packed if bomb else data)
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), len(out), 0)
    return out + directory + b"PK\5\6" + end


def rezipped(content: bytes, change: Callable[[str, bytes], tuple[str, bytes]]) -> bytes:
    """The archive with its entries changed, and with the right checksums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for item in old.infolist():
            name, data = change(item.filename, old.read(item))
            new.writestr(name, data)
    return out.getvalue()


def archives(content: bytes) -> Hostile:
    """Archives of torch.save that unpack to gigabytes, and with names that lead out of the folder."""
    link = zipfile.ZipInfo("archive/data.pkl")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    linked = io.BytesIO()
    with zipfile.ZipFile(linked, "w") as archive:
        archive.writestr(link, OUTSIDE)
    return {
        "gigabytes of tensors": lambda path: path.write_bytes(zip_bomb(content, "data/0")) and None,
        "gigabytes of pickle": lambda path: path.write_bytes(zip_bomb(content, "data.pkl")) and None,
        "a tensor's name leads out": written(
            rezipped(content, lambda name, data: (name.replace("data/0", "data/../" + OUTSIDE), data))
        ),
        "all names lead out": written(rezipped(content, lambda name, data: ("../outside/" + name, data))),
        "all names are absolute": written(rezipped(content, lambda name, data: ("/outside/" + name, data))),
        "a link in the archive": written(linked.getvalue()),
    }


def tar() -> bytes:
    """An archive with a link and a name that lead out."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("cifar-10-batches-bin/test_batch.bin", OUTSIDE):
            entry = tarfile.TarInfo(name)
            entry.size = 3073
            archive.addfile(entry, io.BytesIO(bytes(3073)))
        link = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, OUTSIDE
        archive.addfile(link)
    return out.getvalue()


def gzip_bomb(path: Path) -> None:
    packed, crc = _zeros()
    path.write_bytes(gzip.compress(b"", mtime=0)[:10] + packed + struct.pack("<II", crc, BOMB))


# --- images


def png(height: int, width: int, data: bytes, depth: int = 8, colour: int = 2, *more: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _large(path: Path, mode: str, side: int) -> None:
    Image.fromarray(np.zeros((side, side), mode)).save(path, "PNG")


def _texts(path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    for number in range(100):
        texts.add_text(f"text {number}", " " * 1_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(path, "PNG", pnginfo=texts)


IMAGES: Hostile = ANYWHERE | {
    "eighty million pixels": partial(_large, mode="uint8", side=9_000),
    "four billion pixels": written(png(65_535, 65_535, zlib.compress(bytes(MEBIBYTE)))),
    "eight times ten to the 18 pixels": written(png(2**31 - 1, 2**31 - 1, b"")),
    "gigabytes in four pixels": lambda path: path.write_bytes(png(2, 2, b"\x78\xda" + _zeros()[0])) and None,
    "a hundred megabytes of text": _texts,
    "a program in PostScript": written(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(ran) (w) file closefile\nshowpage\n%%EOF\n"
    ),
    "an SVG": written(f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{OUTSIDE}"/></svg>'),
}


# --- JSON in which a value leads out


def leading_out(content: Any, change: Callable[[Any, str], None]) -> Hostile:
    """Copies of `content` in which `change` puts the name of a file elsewhere."""
    found: Hostile = {}
    for name in (OUTSIDE, "..", "/dev/zero", "C:\\secret", "a\0b", "x" * 5000, "", ".", "secret\n", "..\\secret"):
        copy = json.loads(json.dumps(content))
        change(copy, name)
        found[f"the name {name[:20]!r}"] = written(json.dumps(copy))
    return found
