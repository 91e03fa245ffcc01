"""The evaluation is that of LAVT's published code, and an option changes one choice: by a second implementation."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.slow_evaluation import hard_miniature, slow_counts, slow_scores
from helpers.small_segmenters import WORDS

from xattn_edu.data import refer
from xattn_edu.measure.overlaps import Overlaps
from xattn_edu.predict.evaluation import Protocol, evaluate, masks_compared, table

ROOT = Path(__file__).parents[2]
CHANGES = {
    "": {},
    "--sentences sent": {"sentences": "sent"},
    "--keep-sep": {"keep_sep": True},
    "--parts union": {"parts": "union"},
    "--at original": {"at": "original"},
    "all four": {"sentences": "sent", "keep_sep": True, "parts": "union", "at": "original"},
}  # by their options
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # pycocotools


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    return hard_miniature(tmp_path_factory.mktemp("hard"))


def settings(tokenizer_folder, **more):
    return {"check_counts": False, "tokenizer": tokenizer_folder, "size": 32, "device": "cpu", "progress": False} | more


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_it_is_the_published_evaluation_pixel_for_pixel(
    change, hard, published, checkpoint, tokenizer_folder, tmp_path
):
    choices = CHANGES[change]
    counts = slow_counts(hard, published.model, WORDS, **choices)
    items = refer.load(hard.root, "refcoco", "val", check_counts=False)
    found = Overlaps.concatenate(masks_compared(published, items, range(len(items)), Protocol(**choices), batch_size=3))
    assert list(zip(found.intersections.tolist(), found.unions.tolist())) == counts
    record, _ = evaluate(
        checkpoint, hard.root, tmp_path / "out.json", protocol=Protocol(**choices), **settings(tokenizer_folder)
    )
    scores = {name: score["score"] for name, score in record["scores"].items()}
    assert scores == pytest.approx(slow_scores(counts), rel=1e-12)
    assert 0 < scores["P@0.5"] < 1


def test_each_choice_changes_the_scores_as_the_readme_says(hard, published):
    """The README's table, computed again."""
    items, cells = refer.load(hard.root, "refcoco", "val", check_counts=False), {}
    for change, choices in CHANGES.items():
        found = Overlaps.concatenate(masks_compared(published, items, range(len(items)), Protocol(**choices)))
        cells[change] = [f"{100 * found.oiou:.1f}", f"{100 * found.miou:.1f}"]
    assert len({tuple(scores) for scores in cells.values()}) == len(CHANGES)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:`(--[^`]+)`|(all four)|as in LAVT's code) \|.*\| ([\d.]+) \| ([\d.]+) \|$", readme, re.M)
    assert {option or four: scores for option, four, *scores in rows} == cells
    assert f"{len(items)} sentences" in " ".join(readme.split())


@pytest.mark.parametrize(
    ("choices", "size", "last"),
    [
        ({}, 480, "nothing differs"),
        ({"parts": "union"}, 480, "differs from the published evaluation in parts"),
        ({"keep_sep": True, "at": "original"}, 64, "differs from the published evaluation in keep_sep, at, image_size"),
    ],
)
def test_the_last_lines_say_which_choices_were_used(choices, size, last):
    chosen = {"sentences": "raw", "keep_sep": False, "parts": "once", "at": "network"} | choices
    run = {"checkpoint": "x.pth", "dataset": "refcoco", "split": "val", "split_by": "unc"} | chosen
    run["settings"] = {"image_size": size}
    counts = {"expressions": 2, "referents": 1, "referents_published": 1, "images": 1}
    lines = table({"run": run, "counts": counts, "scores": {}}).splitlines()
    assert lines[-1] == last
    shown = {"yes": True, "no": False, str(size): size}
    rows = [line.split() for line in lines[-6:-1]]
    assert {name: shown.get(here, here) for name, here, _ in rows} == chosen | {"image_size": size}
    assert [row[2] for row in rows] == ["raw", "no", "once", "network", "480"]


CHILD = """
import json, sys
import torch
from xattn_edu.predict import evaluation, segmenter

torch.set_num_threads(1)
calls, original = [], segmenter.Segmenter.logits

def stop(*given):
    calls.append(given)
    if len(calls) == 4:
        print("in the fourth batch", flush=True)
        sys.stdin.read()
    return original(*given)

segmenter.Segmenter.logits, evaluation.SAVE_EVERY = stop, 4
files, settings = json.loads(sys.argv[1])
evaluation.evaluate(*files, **settings)
"""


@pytest.mark.slow
def test_a_killed_evaluation_continues_to_the_same_record(hard, checkpoint, tokenizer_folder, tmp_path, monkeypatch):
    """Another process computes two batches of two, stores them, and is killed in the fourth."""
    chosen = settings(tokenizer_folder, batch_size=2)
    straight, _ = evaluate(checkpoint, hard.root, tmp_path / "straight.json", **chosen)
    out = tmp_path / "killed.json"
    given = json.dumps([[str(checkpoint), str(hard.root), str(out)], chosen])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CHILD, given], cwd=ROOT, **pipes) as child:
        try:
            assert child.stdout.readline() == "in the fourth batch\n"
        finally:
            child.kill()
    partial = tmp_path / "killed.json.partial"
    assert not out.exists() and len(json.loads(partial.read_text())["unions"]) == 4
    record, stored = evaluate(checkpoint, hard.root, out, **chosen)
    assert not stored and not partial.exists() and json.loads(out.read_text()) == record
    assert all(record[part] == straight[part] for part in ("run", "counts", "scores", "interval", "versions"))
