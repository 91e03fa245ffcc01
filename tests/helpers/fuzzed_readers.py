"""The library's readers, for `helpers.fuzzing`: valid files of each, how they are read, and what harms them."""

import gzip
import hashlib
import io
import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from helpers import hostile_files as hostile
from helpers.fuzzing import DAMAGE, Reader, strange
from helpers.miniature_refcoco import miniature
from helpers.random_weights import perturbed
from helpers.small_bert import WORDS, save_bert
from helpers.small_segmenters import small_lavt, store_own
from PIL import Image
from torch import nn

from xattn_edu.data import cifar, fashion_mnist, refer
from xattn_edu.data.scenes import sprites
from xattn_edu.experiments.runs import load_results
from xattn_edu.measure.overlaps import Overlaps
from xattn_edu.models.language import PhraseBook, build_tokenizer
from xattn_edu.predict.evaluation import Partial
from xattn_edu.predict.loading import load_lavt, load_segmenter
from xattn_edu.predict.pictures import read_image
from xattn_edu.training.checkpoints import FORMAT, Checkpoint, Progress, _checksum
from xattn_edu.weights.language import load_bert, load_tokenizer
from xattn_edu.weights.reading import read_weights

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b.weight": torch.ones(300), "count": torch.tensor(3)}


def digest(*values: Any) -> str:
    """Of arrays, tensors, dicts of them, and of what has a repr."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, dict):
            value = digest(*(part for item in value.items() for part in item))
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().contiguous()
            found.update(str((value.shape, value.dtype)).encode())
            value = value.flatten().view(torch.uint8).numpy()
        found.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return found.hexdigest()


# --- weights


def _saved(zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"model": STATE, "epoch": 3}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def _read_state(name: str) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        parts, metadata = read_weights(folder / name)
        size = (folder / name).stat().st_size
        for part in parts.values():
            for key, tensor in part.items():
                assert isinstance(key, str) and isinstance(tensor, torch.Tensor)
            assert sum(tensor.numel() for tensor in part.values()) <= size
        return digest(*parts.values(), metadata)

    return read


def _other_header(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file with one value in its header changed."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(strange(json.loads(content[8 : 8 + size]), rng)).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def _other_entry(content: bytes, rng: random.Random) -> bytes:
    """An archive with one entry damaged, and with the right checksum of it."""
    chosen, damage = rng.choice(["data.pkl", "data/0", "data/1", "byteorder", "version"]), rng.choice(DAMAGE)

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        return name, damage(data, rng, [b"other"]) if name.endswith(chosen) else data

    return hostile.rezipped(content, change)


def _nested_metadata(text: str) -> bytes:
    return safetensors.torch.save(STATE, {"xattn_edu": text, "format": text, "state": text})


SAFE = hostile.ANYWHERE | hostile.within(_nested_metadata)
CALLING = hostile.ANYWHERE | hostile.calling_weights(STATE) | hostile.calling()


def _make_own(folder: Path) -> None:
    path, _ = store_own(folder)
    path.rename(folder / "own.safetensors")


def _described(content: bytes, rng: random.Random) -> bytes:
    """Weights with one value in the description of their model changed."""
    tensors = safetensors.torch.load(content)
    size = struct.unpack("<Q", content[:8])[0]
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    described = json.dumps(strange(json.loads(metadata["xattn_edu"]), rng))
    return safetensors.torch.save(tensors, {"xattn_edu": described})


def _segmenter(folder: Path) -> str:
    found = load_segmenter(folder / "own.safetensors", device="cpu")
    found.predict(np.zeros((8, 8, 3), np.uint8), "the red car")
    return digest(found.model.state_dict())


def _make_lavt(folder: Path) -> None:
    from xattn_edu.weights.lavt import lavt_to_published

    torch.save(lavt_to_published(small_lavt().state_dict()), folder / "lavt.pth")


# --- data sets


def _refer(folder: Path) -> str:
    root = folder / "refcoco.json" if (folder / "converted").exists() else folder
    found = []
    for split in refer.PUBLISHED["refcoco", "unc"]:
        data = refer.load(root, "refcoco", split, images=folder / "images" / "train2014", check_counts=False)
        for item in (data[index] for index in range(len(data))):
            assert item.image.shape == (*item.mask.shape, 3) and item.image.dtype == np.uint8
            assert item.mask.dtype == bool and isinstance(item.sentence, str)
            found += [item.sentence, item.image, item.mask, item.ref_id, item.sent_id, item.image_id]
    return digest(*found)


def _make_refer(folder: Path) -> None:
    miniature(folder)


def _make_converted(folder: Path) -> None:
    miniature(folder)
    refer.convert(folder, "refcoco", "unc", folder / "refcoco.json")
    (folder / "converted").touch()


def _other_refs(content: bytes, rng: random.Random) -> bytes:
    refs = strange(pickle.loads(content), rng)  # made here
    return json.dumps(refs).encode() if rng.random() < 0.2 else pickle.dumps(refs, rng.randrange(6))


def _other_json(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(strange(json.loads(content), rng)).encode()


INSTANCES = {
    "images": [{"id": 9, "file_name": "a.jpg", "height": 12, "width": 16}],
    "annotations": [{"id": 16, "image_id": 9, "segmentation": []}],
}


def _name_of_image(instances: Any, name: str) -> None:
    instances["images"] = [instances["images"][0] | {"id": i, "file_name": name} for i in (9, 25, 30)]


def _nested_instances(text: str) -> bytes:
    return json.dumps(INSTANCES).replace("[]", text, 1).encode()


def _make_cifar(folder: Path) -> None:
    rng = random.Random(0)
    for names in cifar.FILES.values():
        for name in names:
            records = (bytes([rng.randrange(10)]) + rng.randbytes(3072) for _ in range(3))
            (folder / name).write_bytes(b"".join(records))


def _cifar(folder: Path) -> str:
    found = [cifar.load(split, folder, complete=False) for split in cifar.FILES]
    for data in found:
        assert data.images.shape == (len(data), 32, 32, 3) and data.images.dtype == np.uint8
        assert 0 <= data.labels.min() <= data.labels.max() <= 9
    return digest(*(array for data in found for array in (data.images, data.labels)))


def _idx(shape: tuple[int, ...], content: bytes) -> bytes:
    return gzip.compress(b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content, mtime=0)


def _make_fashion(folder: Path) -> None:
    for images, labels in fashion_mnist.FILES.values():
        (folder / images).write_bytes(_idx((3, 28, 28), random.Random(0).randbytes(3 * 28 * 28)))
        (folder / labels).write_bytes(_idx((3,), bytes([0, 4, 9])))
    _sums(folder)


def _sums(folder: Path) -> None:
    names = [name for names in fashion_mnist.FILES.values() for name in names]
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "checksums.sha256").write_text("".join(lines))


def _fashion(folder: Path) -> str:
    fashion_mnist.SUBSET_FOLDER = folder
    found = [fashion_mnist.load(split) for split in fashion_mnist.FILES]
    for data in found:
        assert data.images.shape == (len(data), 28, 28) and data.labels.max() <= 9
    return digest(*(array for data in found for array in (data.images, data.labels)))


def _fashion_of_any_sum(folder: Path) -> str:
    if all((folder / name).is_file() for names in fashion_mnist.FILES.values() for name in names):
        _sums(folder)
    return _fashion(folder)


def _other_idx(content: bytes, rng: random.Random) -> bytes:
    return gzip.compress(rng.choice(DAMAGE)(gzip.decompress(content), rng, [b"other"]), mtime=0)


def _make_sprites(folder: Path) -> None:
    for name in ("atlas.png", "checksums.sha256"):
        (folder / name).write_bytes(ATLAS.with_name(name).read_bytes())


ATLAS = sprites.ATLAS


def _sprites(folder: Path) -> str:
    sprites.ATLAS = folder / "atlas.png"
    return digest(*(array for variants in sprites._emoji() for sprite in variants for array in sprite))


PICTURES = ("a.png", "b.jpg", "c.gif", "d.bmp", "e.tif", "f.webp", "g.png", "h.ppm")


def _make_images(folder: Path) -> None:
    ramp = np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
    for name in PICTURES:
        Image.fromarray(ramp[..., 0].astype(np.uint16) * 257 if name == "g.png" else ramp).save(folder / name)


def _images(folder: Path) -> str:
    found = [read_image(folder / name) for name in PICTURES]
    for image in found:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return digest(*found)


def _pngs(folder: Path) -> str:
    return digest(read_image(folder / "a.png"), read_image(folder / "g.png"))


# --- what the library wrote itself


RECORD = {
    "experiment": "tiny", "config": {"patch": 4, "seed": 0, "profile": "ci"}, "metrics": {"test_accuracy": 0.5},
    "history": [{"epoch": 1, "loss": 2.5, "train accuracy": 0.25}, {"epoch": 2, "loss": 1.5, "train accuracy": 0.5}],
}  # fmt: skip


def _make_records(folder: Path) -> None:
    (folder / "tiny").mkdir()
    for seed in range(2):
        record = RECORD | {"config": RECORD["config"] | {"seed": seed}}
        (folder / "tiny" / f"patch-4_seed-{seed}_ci.json").write_text(json.dumps(record, indent=1))


def _records(folder: Path) -> str:
    rows = load_results("tiny", folder)
    return digest(*(f"{row} {row['history']} {row['history'].columns}" for row in rows))


def _nested_record(text: str) -> bytes:
    return json.dumps(RECORD).replace("0.25", text).encode()


RUN = {"dataset": "refcoco", "split": "val"}


def _make_partial(folder: Path) -> None:
    partial = Partial(folder / "out.json.partial", RUN)
    partial.load()
    partial.save(Overlaps(torch.tensor([3, 0, 70]), torch.tensor([5, 9, 100])))


def _partial(folder: Path) -> str:
    path = folder / "out.json.partial"
    if not path.exists():
        raise FileNotFoundError(f"{path}: nothing is there, so that the evaluation begins")
    found = Partial(path, RUN).load()
    assert (found.intersections >= 0).all() and (found.intersections <= found.unions).all()
    return digest(found.intersections, found.unions)


def _checkpoint(folder: Path) -> tuple[Checkpoint, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = perturbed(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))
    optimizer = torch.optim.AdamW(model.parameters())
    return Checkpoint(folder / "run.safetensors", None, {"seed": 0}, model, [1, 2, 3]), model, optimizer


def _make_checkpoint(folder: Path) -> None:
    from accelerate import Accelerator

    checkpoint, model, optimizer = _checkpoint(folder)
    model(torch.ones(5, 4)).sum().backward()
    optimizer.step()
    checkpoint.save(Accelerator(cpu=True), model, optimizer, Progress([{"loss": 2.5}], 7, torch.ones(3)))


def _resumed(folder: Path) -> str:
    checkpoint, model, optimizer = _checkpoint(folder)
    if not checkpoint.path.exists():
        raise FileNotFoundError(f"{checkpoint.path}: nothing is there, so that the training begins")
    done = checkpoint.load(model, optimizer)
    return digest(model.state_dict(), repr(optimizer.state_dict()), repr(done))


def _other_checkpoint(content: bytes, rng: random.Random) -> bytes:
    """One value or tensor of it changed, with the right checksum."""
    tensors, size = safetensors.torch.load(content), struct.unpack("<Q", content[:8])[0]
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    if rng.random() < 0.7:
        metadata["state"] = json.dumps(strange(json.loads(metadata["state"]), rng))
    else:
        name = rng.choice(sorted(tensors))
        tensors[name] = rng.choice([tensors[name].flatten()[:1], tensors[name].double(), torch.ones(7)])
        if rng.random() < 0.3:
            tensors[rng.choice(["other", "optimizer.x.y", "model.", "optimizer.0"])] = tensors.pop(name)
    return safetensors.torch.save(tensors, metadata | {"checksum": str(_checksum(tensors, metadata["state"]))})


def _nested_state(text: str) -> bytes:
    tensors = {"totals": torch.ones(3)}
    metadata = {"format": FORMAT, "state": text, "checksum": str(_checksum(tensors, text))}
    return safetensors.torch.save(tensors, metadata)


# --- tokenizers, BERTs and phrase books


def _make_bert(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = build_tokenizer(WORDS)
    save_bert(folder, tokenizer.tokens(range(len(tokenizer))), heads=False, num_hidden_layers=1)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)


def _make_vocabulary(folder: Path) -> None:
    _make_bert(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _tokenizer(folder: Path) -> str:
    tokenizer = load_tokenizer(folder)
    ids, mask = tokenizer(["the small red car", "zebra!"], 8)
    assert ids.shape == mask.shape == (2, 8) and ids.dtype == torch.int64 and mask.dtype == torch.bool
    return digest(ids, mask, tokenizer.tokens(ids[0]), len(tokenizer))


def _bert(folder: Path) -> str:
    return digest(load_bert(folder).bert.state_dict())


def _phrase_book(folder: Path) -> str:
    encoder, tokenizer = load_bert(folder), load_tokenizer(folder)
    try:
        book = PhraseBook(["the small red car", "the tree"], encoder, tokenizer)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error  # a book knows no file
    assert book.table.shape == (len(book.pieces), 16) and book.table.isfinite().all()
    return digest(book.table, book.pieces)


def _code_in_config(path: Path) -> None:
    """A configuration that wants a Python file of the folder to be run."""
    (path.parent / "harm.py").write_text("import os\nos.mkdir('ran')\nclass Harm: pass\n")
    content = json.loads(CONFIG) | {"auto_map": {"AutoConfig": "harm.Harm", "AutoTokenizer": ["harm.Harm", None]}}
    path.write_text(json.dumps(content | {"model_type": "harm", "tokenizer_class": "Harm"}))


CONFIG = json.dumps({"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2})


def _config(**changes: Any) -> Callable[[Path], None]:
    return hostile.written(json.dumps(json.loads(CONFIG) | {"vocab_size": 40, "intermediate_size": 24} | changes))


CONFIGS = hostile.TEXT | {
    "code in the folder": _code_in_config,
    "a million layers": _config(num_hidden_layers=10**6),
    "a vocabulary of ten billion": _config(vocab_size=10**10),
    "ten billion positions": _config(max_position_embeddings=10**10),
    "ten billion channels": _config(hidden_size=10**10),
}


# --- all of them


def small_files() -> list[bytes]:
    """A valid file of each kind, to be swapped with the others."""
    found = [safetensors.torch.save(STATE, {"a": "b"}), _saved(True), _saved(False), hostile.tar()]
    found += [_idx((3,), bytes([0, 4, 9])), bytes(3073), json.dumps(RECORD).encode(), json.dumps(INSTANCES).encode()]
    found += [pickle.dumps([{"ref_id": 1, "sentences": []}], 2), CONFIG.encode(), "\n".join(WORDS).encode()]
    for kind in ("PNG", "JPEG", "GIF", "TIFF"):
        file = io.BytesIO()
        Image.new("RGB", (16, 12), "red").save(file, kind)
        found.append(file.getvalue())
    return found


SPLIT_FILES = tuple(name for names in fashion_mnist.FILES.values() for name in names)
FASHION = ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
REFS = hostile.TEXT | hostile.calling(miniature)
PHOTOGRAPH = "images/train2014/COCO_train2014_000000000009.jpg"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")

READERS = {
    reader.name: reader
    for reader in (
        Reader(
            "weights (safetensors)",
            lambda folder: (folder / "a.safetensors").write_bytes(safetensors.torch.save(STATE, {"a": "b"})) and None,
            ("a.safetensors",),
            _read_state("a.safetensors"),
            SAFE,
            _other_header,
        ),
        Reader(
            "weights (zip)",
            lambda folder: (folder / "a.pth").write_bytes(_saved(True)) and None,
            ("a.pth",),
            _read_state("a.pth"),
            CALLING | hostile.archives(_saved(True)),
            exact=True,
        ),
        Reader(
            "weights (zip, right checksums)",
            lambda folder: (folder / "a.pth").write_bytes(_saved(True)) and None,
            ("a.pth",),
            _read_state("a.pth"),
            {},
            _other_entry,
        ),
        Reader(
            "weights (old form)",
            lambda folder: (folder / "a.pt").write_bytes(_saved(False)) and None,
            ("a.pt",),
            _read_state("a.pt"),
            CALLING,
        ),
        Reader("own segmenters", _make_own, ("own.safetensors",), _segmenter, SAFE, _described, weight=1),
        Reader(
            "LAVT",
            _make_lavt,
            ("lavt.pth",),
            lambda folder: digest(load_lavt(folder / "lavt.pth").state_dict()),
            CALLING,
            _other_entry,
            weight=1,
        ),
        Reader("REFER, refs", _make_refer, ("refcoco/refs(unc).p",), _refer, REFS, _other_refs),
        Reader(
            "REFER, instances",
            _make_refer,
            ("refcoco/instances.json",),
            _refer,
            hostile.TEXT | hostile.within(_nested_instances) | hostile.leading_out(INSTANCES, _name_of_image),
            _other_json,
        ),
        Reader("REFER, photographs", _make_refer, (PHOTOGRAPH,), _refer, hostile.IMAGES),
        Reader("REFER, converted", _make_converted, ("refcoco.json",), _refer, hostile.TEXT, _other_json),
        Reader(
            "CIFAR-10",
            _make_cifar,
            ("data_batch_2.bin", "test_batch.bin"),
            _cifar,
            hostile.ANYWHERE | {"a tar": hostile.written(hostile.tar())},
        ),
        Reader(
            "Fashion-MNIST",
            _make_fashion,
            (*FASHION, "checksums.sha256"),
            _fashion,
            hostile.ANYWHERE | {"gigabytes": hostile.gzip_bomb},
            exact=True,
        ),
        Reader(
            "Fashion-MNIST (any checksum)",
            _make_fashion,
            FASHION,
            _fashion_of_any_sum,
            {"gigabytes": hostile.gzip_bomb},
            _other_idx,
        ),
        Reader(
            "sprites", _make_sprites, ("atlas.png", "checksums.sha256"), _sprites, hostile.IMAGES, exact=True, weight=2
        ),
        Reader("images", _make_images, PICTURES, _images, hostile.IMAGES, memory=2048),
        Reader("images (PNG)", _make_images, ("a.png", "g.png"), _pngs, {}, exact=True),
        Reader(
            "records",
            _make_records,
            ("tiny/patch-4_seed-1_ci.json",),
            _records,
            hostile.TEXT | hostile.within(_nested_record),
            _other_json,
        ),
        Reader("partial evaluations", _make_partial, ("out.json.partial",), _partial, hostile.TEXT, _other_json),
        Reader(
            "checkpoints",
            _make_checkpoint,
            ("run.safetensors",),
            _resumed,
            SAFE | hostile.within(_nested_state),
            exact=True,
        ),
        Reader(
            "checkpoints (right checksum)",
            _make_checkpoint,
            ("run.safetensors",),
            _resumed,
            {},
            _other_checkpoint,
        ),
        Reader("tokenizers", _make_bert, TOKENIZER, _tokenizer, CONFIGS, _other_json, weight=2),
        Reader(
            "tokenizers (vocabulary)", _make_vocabulary, ("vocab.txt", "config.json"), _tokenizer, CONFIGS, weight=2
        ),
        Reader("BERTs", _make_bert, ("config.json", "model.safetensors"), _bert, CONFIGS | CALLING, weight=2),
        Reader("phrase books", _make_bert, ("model.safetensors", "tokenizer.json"), _phrase_book, {}, weight=2),
    )
}
