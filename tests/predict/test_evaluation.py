"""An evaluation gives the scores of one expression after the other, and can be stopped anywhere."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.miniature_refcoco import SENTENCES, miniature
from helpers.small_segmenters import small_lavt

from xattn_edu.data import refer
from xattn_edu.measure.overlaps import Overlaps
from xattn_edu.predict import evaluation, segmenter
from xattn_edu.predict.evaluation import Protocol, evaluate, masks_compared
from xattn_edu.weights import lavt_to_published


@pytest.fixture
def small(tmp_path):
    """The miniature set with everything in val, so that there are eight expressions in three images."""
    made = miniature(tmp_path / "data")
    for ref in made.refs:
        ref["split"] = "val"
    made.write()
    return made


@pytest.fixture
def loaded(published, monkeypatch):
    """The model is loaded once for all calls, which takes most of their time."""
    monkeypatch.setattr(evaluation, "load_segmenter", lambda path, *, size, **_: replace(published, size=size))


def settings(tokenizer_folder, **more):
    return {"check_counts": False, "tokenizer": tokenizer_folder, "size": 32, "device": "cpu", "progress": False} | more


def test_a_record_says_what_was_measured_and_how(checkpoint, published, tokenizer_folder, small, tmp_path):
    record, stored = evaluate(checkpoint, small.root, tmp_path / "out.json", **settings(tokenizer_folder))
    assert not stored and json.loads((tmp_path / "out.json").read_text()) == record
    assert not list(tmp_path.glob("*.partial"))
    count = sum(map(len, SENTENCES.values()))
    assert record["counts"] == {"expressions": count, "referents": 5, "referents_published": 3811, "images": 3}
    assert str(tmp_path) not in json.dumps(record) and tokenizer_folder not in json.dumps(record)
    items = refer.load(small.root, "refcoco", "val", check_counts=False)
    found = Overlaps.concatenate(masks_compared(published, items, range(len(items))))
    for name, score in evaluation.SCORES.items():
        assert record["scores"][name] == pytest.approx(found.interval(score, level=0.95)._asdict(), rel=1e-12)
    assert record["interval"].startswith("95 %, ") and "score   95 % interval" in evaluation.table(record)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_cross_images_and_each_image_and_each_mask_is_made_once(batch_size, published, small, monkeypatch):
    items = refer.load(small.root, "refcoco", "val", check_counts=False)
    by_image = sorted(items.referents, key=lambda referent: referent.image_id)
    items = refer.ReferringExpressions(tuple(by_image), items.images)
    read, original = [], refer._image
    monkeypatch.setattr(refer, "_image", lambda path, *size: read.append(path) or original(path, *size))
    drawn, mask = [], refer.Referent.mask

    def watched(referent, *parts):
        drawn.extend(referent.ref_id for _ in parts)  # without parts it is an item's own mask, which is not compared
        return mask(referent, *parts)

    monkeypatch.setattr(refer.Referent, "mask", watched)
    parts = list(masks_compared(published, items, range(len(items)), batch_size=batch_size))
    assert [len(part) for part in parts] == [min(batch_size, 8 - at) for at in range(0, 8, batch_size)]
    assert len(read) == 3 and drawn == [referent.ref_id for referent in by_image]
    whole = Overlaps.concatenate(masks_compared(published, items, range(len(items)), batch_size=4))
    assert torch.equal(Overlaps.concatenate(parts).unions, whole.unions)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_interrupted_evaluation_ends_with_the_same_numbers(
    after, checkpoint, tokenizer_folder, small, tmp_path, monkeypatch
):
    straight, _ = evaluate(
        checkpoint, small.root, tmp_path / "straight.json", **settings(tokenizer_folder, batch_size=2)
    )
    monkeypatch.setattr(evaluation, "SAVE_EVERY", 3)
    asked, original = [], segmenter.Segmenter.logits

    def stopping(self, images, sentences, keep_sep):
        if len(asked) == after:
            raise KeyboardInterrupt
        asked.append(sentences)
        return original(self, images, sentences, keep_sep)

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


@pytest.mark.usefixtures("loaded")
def test_results_of_another_run_are_refused(checkpoint, tokenizer_folder, small, tmp_path):
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
        for choice, shown in (
            ({"sentences": "sent"}, "sentences: raw there, sent here"),
            ({"keep_sep": True}, "keep_sep: False there, True here"),
            ({"parts": "union"}, "parts: once there, union here"),
            ({"at": "original"}, "at: network there, original here"),
        ):
            assert f"({shown}): " in refused(protocol=Protocol(**choice))
        assert "settings: {'image_size': 32} there, {'image_size': 64} here" in refused(size=64)
        assert "settings: {'image_size': 32} there, {'image_size': 32, 'word_heads': 2} here" in refused(word_heads=2)
        for place, key, other_value in (
            (small.refs[0]["sentences"][0], "sent", "left man there"),
            (small.refs[0]["sentences"][0], "raw", "Left man?"),
            (small.instances["annotations"][0], "segmentation", [[2, 3, 8, 3, 8, 9, 2, 9]]),
            (small.instances["annotations"][1]["segmentation"], "counts", [80]),
        ):
            before = place[key]
            place[key] = other_value
            small.write()
            assert "expressions_sha256: " in refused()
            place[key] = before
            small.write()
        for name in record["run"]:
            less = {key: value for key, value in record["run"].items() if key != name}
            before = holder.read_bytes()
            holder.write_text(json.dumps(json.loads(before) | {"run": less}))
            assert f"({name}: None there, " in refused()
            holder.write_bytes(before)
    for text in ("", "{}", "[1]", json.dumps({"format": evaluation.FORMAT, "run": 3})):
        for holder in (out, partial):
            out.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)
            holder.write_text(text)
            with pytest.raises(ValueError, match="is there already, and is no evaluation of ours: name another file"):
                evaluate(checkpoint, small.root, out, **settings(tokenizer_folder))
            assert holder.read_text() == text
    out.unlink(missing_ok=True)
    for name in ("seconds", "intersections", "unions"):
        partial.write_text(json.dumps({key: value for key, value in content.items() if key != name}))
        with pytest.raises(ValueError, match="holds no partial results .*delete it to start anew"):
            evaluate(checkpoint, small.root, out, **settings(tokenizer_folder))
    for counts in (
        {},
        {"intersections": [3]},
        {"intersections": [1, 1]},
        {"intersections": [0.5]},
        {"intersections": 1},
    ):
        changed = {"format": evaluation.FORMAT, "run": record["run"], "seconds": 1, "unions": [2]} | counts
        partial.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="holds no partial results .*delete it to start anew"):
            evaluate(checkpoint, small.root, out, **settings(tokenizer_folder))


def test_evaluation_says_before_any_work_what_is_wrong(
    checkpoint, published, tokenizer_folder, small, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluation, "load_segmenter", lambda *_, **__: pytest.fail("the model was loaded"))
    for more, error, says in (
        ({"batch_size": 0}, ValueError, "batch_size is 1 at least"),
        ({"dataset": "coco"}, ValueError, "dataset must be one of"),
        ({"split": "test"}, ValueError, "has the splits train, val, testA, testB"),
        ({"check_counts": True}, ValueError, "published were 3,811"),
        ({"split": "testB"}, ValueError, "no expression in testB"),
    ):
        with pytest.raises(error, match=says):
            evaluate(checkpoint, small.root, tmp_path / "out.json", **settings(tokenizer_folder, **more))
    with pytest.raises(FileNotFoundError, match="is not a folder: make it first"):
        evaluate(checkpoint, small.root, tmp_path / "none" / "out.json", **settings(tokenizer_folder))
    for ref in small.refs[:2]:
        del ref["sentences"][0]["raw"]
    small.write()
    items = refer.load(small.root, "refcoco", "val", check_counts=False)
    for call in (
        lambda: evaluate(checkpoint, small.root, tmp_path / "out.json", **settings(tokenizer_folder)),
        lambda: next(masks_compared(published, items, range(8))),
    ):
        with pytest.raises(ValueError, match="2 of 8 sentences lack 'raw'.*`xattn convert-refer`.*sentences='sent'$"):
            call()
    assert not list(tmp_path.glob("*.json*"))


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"sentences": "tokens"}, "sentences must be one of raw, sent, given 'tokens'"),
        ({"keep_sep": "no"}, "keep_sep must be True or False, given 'no'"),
        ({"parts": "sum"}, "parts must be one of once, union, given 'sum'"),
        ({"at": "middle"}, "at must be one of network, original, given 'middle'"),
    ],
)
def test_a_protocol_has_no_other_choices(choice, says):
    with pytest.raises(ValueError, match=says):
        Protocol(**choice)


@pytest.mark.usefixtures("loaded")
def test_the_time_of_interrupted_calls_is_counted(checkpoint, tokenizer_folder, small, tmp_path, monkeypatch):
    """A batch takes ten seconds. The first call stops after one batch of two, the second does the other three."""
    clock, left, original = [0.0], [1], segmenter.Segmenter.logits

    def slow(*given):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        clock[0] += 10
        return original(*given)

    monkeypatch.setattr(evaluation, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(segmenter.Segmenter, "logits", slow)
    out = tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoint, small.root, out, **settings(tokenizer_folder, batch_size=2))
    clock[0], left[0] = 1000.0, 3  # the pause does not count
    assert evaluate(checkpoint, small.root, out, **settings(tokenizer_folder, batch_size=2))[0]["seconds"] == 40


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("when", ["first batch", "last batch", "record"])
def test_two_evaluations_at_once_end_with_one_record(when, checkpoint, tokenizer_folder, small, tmp_path, monkeypatch):
    """While the first one computes, or before it writes its record, another process does all of it."""
    monkeypatch.setattr(evaluation, "SAVE_EVERY", 3)
    out, calls, others = tmp_path / "out.json", [], []
    straight, _ = evaluate(checkpoint, small.root, tmp_path / "straight.json", **settings(tokenizer_folder))
    logits, write_record = segmenter.Segmenter.logits, evaluation._record

    def other_process():
        if not others:
            others.append(None)
            others[0] = evaluate(checkpoint, small.root, out, **settings(tokenizer_folder, batch_size=2))

    def one_batch(*given):
        calls.append(given)
        if (when, len(calls)) in (("first batch", 1), ("last batch", 5)):  # of 2 + 1, 2 + 1 and 2
            other_process()
        return logits(*given)

    def last_step(*given):
        if when == "record":
            other_process()
        return write_record(*given)

    monkeypatch.setattr(segmenter.Segmenter, "logits", one_batch)
    monkeypatch.setattr(evaluation, "_record", last_step)
    record, stored = evaluate(checkpoint, small.root, out, **settings(tokenizer_folder, batch_size=2))
    assert not stored and json.loads(out.read_text()) == record
    for one in (record, others[0][0]):
        assert (one["run"], one["counts"], one["scores"]) == tuple(straight[key] for key in ("run", "counts", "scores"))
    assert sorted(path.name for path in tmp_path.glob("*json*")) == ["out.json", "straight.json"]


def test_a_partial_file_that_goes_away_while_it_is_read_is_none(tmp_path, monkeypatch):
    """Another process finishes between the look and the reading."""
    partial = tmp_path / "out.json.partial"
    partial.write_text("{}")

    def gone(path):
        path.unlink()
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", gone)
    assert evaluation._read(partial) is None


def test_too_little_memory_is_said_and_nothing_is_lost(checkpoint, tokenizer_folder, small, tmp_path, monkeypatch):
    original = segmenter.Segmenter.logits

    def small_memory(self, images, sentences, keep_sep):
        if "The Grey Dog" in sentences:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nand more")
        return original(self, images, sentences, keep_sep)

    monkeypatch.setattr(segmenter.Segmenter, "logits", small_memory)
    with pytest.raises(ValueError, match="the memory of cpu is too small for 2 images at a time"):
        evaluate(checkpoint, small.root, tmp_path / "out.json", **settings(tokenizer_folder, batch_size=2))
    assert len(json.loads((tmp_path / "out.json.partial").read_text())["unions"]) == 2
