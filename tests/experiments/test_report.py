"""docs/results.md is what `xattn results --write` writes; tests/repository/test_readme.py recomputes its numbers."""

import json
import shutil

import pytest

from xattn_edu.experiments import EXPERIMENTS, RESULTS, report
from xattn_edu.models.fusions import FUSIONS


def test_the_file_is_current():
    assert report.REPORT.read_text(encoding="utf-8") == report.markdown(), "run: xattn results --write"


def test_every_command_is_one_that_runs():
    text = report.markdown()
    named = [line.split()[2].rstrip("`") for line in text.splitlines() if line.startswith("`xattn reproduce ")]
    assert set(named) <= EXPERIMENTS.keys() and len(named) == 11
    assert text.count("\n## ") == 12


@pytest.fixture
def copy(tmp_path):
    """The results, without the weights, where a test can change them."""
    return shutil.copytree(RESULTS, tmp_path / "results", ignore=shutil.ignore_patterns("*.safetensors", "weights"))


def test_it_follows_the_results(copy):
    record = copy / "benchmarks" / "decoding.json"
    numbers = json.loads(record.read_text(encoding="utf-8"))
    numbers["whole"]["ratio"] = 9.87
    record.write_text(json.dumps(numbers), encoding="utf-8")
    changed = report.markdown(copy)
    assert "is 9.9 times faster" in changed
    assert changed.replace("is 9.9 times", "is 5.4 times") == report.markdown()


def test_runs_of_another_profile_are_left_out(copy):
    path = copy / "vit_fashion_mnist" / "patch-14_seed-0_ci.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    run["config"]["profile"], run["metrics"]["test_accuracy"] = "cpu", 0.5
    path.with_name("patch-14_seed-0_cpu.json").write_text(json.dumps(run), encoding="utf-8")
    assert report.markdown(copy) == report.markdown()


def test_a_fusion_without_runs_has_no_row(monkeypatch):
    monkeypatch.setitem(FUSIONS, "sixth", FUSIONS["none"])
    assert report.markdown() == report.REPORT.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("gone", "command"),
    [
        ("vit_mixers/*", "xattn reproduce vit-mixers"),
        ("lavt/*_cpu.json", "xattn reproduce lavt --profile cpu"),
        ("benchmarks/crossvit.json", "make benchmark"),
    ],
)
def test_missing_results_are_named_with_the_command(copy, gone, command):
    for path in copy.glob(gone):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=command):
        report.markdown(copy)
