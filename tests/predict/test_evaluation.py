"""An evaluation gives the scores of one expression after the other, and can be stopped anywhere."""

import json

import numpy as np
import pytest
import torch
from helpers.miniature_refcoco import SENTENCES, miniature
from helpers.small_segmenters import small_lavt

from xattn_edu.data import refer
from xattn_edu.measure.overlaps import Overlaps, overlaps
from xattn_edu.predict import evaluation, segmenter
from xattn_edu.predict.evaluation import evaluate, masks_compared
from xattn_edu.weights import lavt_to_published


@pytest.fixture
def small(tmp_path):
    """The miniature set with everything in val, so that there are eight expressions in three images."""
    made = miniature(tmp_path / "data")
    for ref in made.refs:
        ref["split"] = "val"
    made.write()
    return made


def settings(tokenizer_folder, **more):
    return {"check_counts": False, "tokenizer": tokenizer_folder, "size": 32, "device": "cpu", "progress": False} | more


def nearest(mask, size):
    """The mask's pixel at the centre of each pixel of the square, by hand."""
    rows, columns = (((np.arange(size) + 0.5) * side / size).astype(int) for side in mask.shape)
    return mask[rows][:, columns]


@pytest.mark.parametrize("at", ["network", "original"])
def test_the_scores_are_those_of_one_expression_after_the_other(
    at, checkpoint, published, tokenizer_folder, small, tmp_path
):
    record, stored = evaluate(checkpoint, small.root, tmp_path / "out.json", at=at, **settings(tokenizer_folder))
    assert not stored and json.loads((tmp_path / "out.json").read_text()) == record
    assert not list(tmp_path.glob("*.partial"))
    parts, items = [], refer.load(small.root, "refcoco", "val", check_counts=False)
    for item in items:
        logits = published.logits(published.pixels(item.image)[None], [item.sentence])
        mask = nearest(item.mask, 32)
        if at == "original":
            size = item.mask.shape
            logits, mask = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=True), item.mask
        parts.append(overlaps(logits.argmax(dim=1) == 1, torch.from_numpy(mask)[None]))
    expected = Overlaps.concatenate(parts)
    scores = {name: score["score"] for name, score in record["scores"].items()}
    assert scores == pytest.approx(
        {"oIoU": expected.oiou, "mIoU": expected.miou} | {f"P@{x}": share for x, share in expected.precisions.items()}
    )
    assert 0 < scores["oIoU"] < 1
    count = sum(map(len, SENTENCES.values()))
    assert record["counts"] == {"expressions": count, "referents": 5, "referents_published": 3811, "images": 3}
    assert record["run"]["compared_at"] == ("32 x 32" if at == "network" else "the image's size")
    assert all(score["low"] <= score["score"] <= score["high"] for score in record["scores"].values())
    assert str(tmp_path) not in json.dumps(record) and tokenizer_folder not in json.dumps(record)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_cross_images_and_each_image_is_read_once(batch_size, published, small, monkeypatch):
    items = refer.load(small.root, "refcoco", "val", check_counts=False)
    by_image = sorted(items.referents, key=lambda referent: referent.image_id)
    items = refer.ReferringExpressions(tuple(by_image), items.images)
    read, original = [], refer._image
    monkeypatch.setattr(refer, "_image", lambda path, *size: read.append(path) or original(path, *size))
    parts = list(masks_compared(published, items, range(len(items)), batch_size=batch_size))
    assert [len(part) for part in parts] == [min(batch_size, 8 - at) for at in range(0, 8, batch_size)]
    assert len(read) == 3
    whole = Overlaps.concatenate(masks_compared(published, items, range(len(items)), batch_size=4))
    assert torch.equal(Overlaps.concatenate(parts).unions, whole.unions)


@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_interrupted_evaluation_ends_with_the_same_numbers(
    after, checkpoint, tokenizer_folder, small, tmp_path, monkeypatch
):
    straight, _ = evaluate(
        checkpoint, small.root, tmp_path / "straight.json", **settings(tokenizer_folder, batch_size=2)
    )
    monkeypatch.setattr(evaluation, "SAVE_EVERY", 3)
    asked, original = [], segmenter.Segmenter.logits

    def stopping(self, images, sentences):
        if len(asked) == after:
            raise KeyboardInterrupt
        asked.append(sentences)
        return original(self, images, sentences)

    monkeypatch.setattr(segmenter.Segmenter, "logits", stopping)
    out = tmp_path / "stopped.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoint, small.root, out, **settings(tokenizer_folder, batch_size=2))
    partial = tmp_path / "stopped.json.partial"
    done = sum(map(len, asked))
    assert not out.exists() and partial.exists() == bool(done)
    if done:
        assert len(json.loads(partial.read_text())["unions"]) == done
    asked.clear()
    monkeypatch.setattr(segmenter.Segmenter, "logits", lambda *given: asked.append(given[2]) or original(*given))
    record, stored = evaluate(checkpoint, small.root, out, **settings(tokenizer_folder, batch_size=3))
    assert not stored and not partial.exists() and sum(map(len, asked)) == 8 - done
    assert record["scores"] == straight["scores"] and record["run"] == straight["run"]

    asked.clear()  # and what is finished is not done again
    assert evaluate(checkpoint, small.root, out, **settings(tokenizer_folder)) == (record, True) and not asked


def test_results_of_another_run_are_refused(checkpoint, tokenizer_folder, small, tmp_path, monkeypatch):
    out, partial = tmp_path / "out.json", tmp_path / "out.json.partial"
    record, _ = evaluate(checkpoint, small.root, out, **settings(tokenizer_folder))
    finished = out.read_bytes()
    other = tmp_path / "lavt.pth"
    torch.save(lavt_to_published(small_lavt(seed=1).state_dict()), other)

    def refused(path=checkpoint, **more):
        with pytest.raises(ValueError, match="belongs to another evaluation") as error:
            evaluate(path, small.root, out, **settings(tokenizer_folder, **more))
        return str(error.value)

    for holder in (out, partial):
        out.unlink(missing_ok=True)
        content = {"format": evaluation.FORMAT, "run": record["run"], "seconds": 1, "intersections": [1], "unions": [2]}
        holder.write_bytes(finished if holder == out else json.dumps(content).encode())
        assert "checkpoint_sha256: " in refused(other) and str(holder) in refused(other)
        assert "compared_at: 32 x 32 there, the image's size here" in refused(at="original")
        assert "compared_at: 32 x 32 there, 64 x 64 here" in refused(size=64)
        assert "settings: {'image_size': 32} there, {'image_size': 32, 'word_heads': 2} here" in refused(word_heads=2)
        small.refs[0]["sentences"][0]["sent"] = "left man there"
        small.write()
        assert "expressions_sha256: " in refused()
        small.refs[0]["sentences"][0]["sent"] = "left man"
        small.write()
    for text in ("", "{}", "[1]", json.dumps({"format": evaluation.FORMAT, "run": 3})):
        for holder in (out, partial):
            out.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)
            holder.write_text(text)
            with pytest.raises(ValueError, match="is there already, and is no evaluation of ours: name another file"):
                evaluate(checkpoint, small.root, out, **settings(tokenizer_folder))
            assert holder.read_text() == text
    out.unlink(missing_ok=True)
    for counts in (
        {},
        {"intersections": [3]},
        {"intersections": [1, 1]},
        {"intersections": [0.5]},
        {"intersections": 1},
    ):
        content = {"format": evaluation.FORMAT, "run": record["run"], "seconds": 1, "unions": [2]} | counts
        partial.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="holds no partial results .*delete it to start anew"):
            evaluate(checkpoint, small.root, out, **settings(tokenizer_folder))


def test_evaluation_says_before_any_work_what_is_wrong(checkpoint, tokenizer_folder, small, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "load_segmenter", lambda *_, **__: pytest.fail("the model was loaded"))
    for more, error, says in (
        ({"at": "middle"}, ValueError, '"network" or "original" size, given \'middle\''),
        ({"batch_size": 0}, ValueError, "batch_size is 1 at least"),
        ({"dataset": "coco"}, ValueError, "a dataset is one of"),
        ({"split": "test"}, ValueError, "has the splits train, val, testA, testB"),
        ({"check_counts": True}, ValueError, "published were 3,811"),
        ({"split": "testB"}, ValueError, "no expression in testB"),
    ):
        with pytest.raises(error, match=says):
            evaluate(checkpoint, small.root, tmp_path / "out.json", **settings(tokenizer_folder, **more))
    with pytest.raises(FileNotFoundError, match="is not a folder: make it first"):
        evaluate(checkpoint, small.root, tmp_path / "none" / "out.json", **settings(tokenizer_folder))
    assert not list(tmp_path.glob("*.json*"))


def test_too_little_memory_is_said_and_nothing_is_lost(checkpoint, tokenizer_folder, small, tmp_path, monkeypatch):
    original = segmenter.Segmenter.logits

    def small_memory(self, images, sentences):
        if "the grey dog" in sentences:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nand more")
        return original(self, images, sentences)

    monkeypatch.setattr(segmenter.Segmenter, "logits", small_memory)
    with pytest.raises(ValueError, match="the memory of cpu is too small for 2 images at a time"):
        evaluate(checkpoint, small.root, tmp_path / "out.json", **settings(tokenizer_folder, batch_size=2))
    assert len(json.loads((tmp_path / "out.json.partial").read_text())["unions"]) == 2
