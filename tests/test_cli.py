"""The command `xattn`: what it prints, how it fails, and that it continues where it was stopped."""

import json

import pytest
import torch
from data.miniature_refcoco import miniature

from xattn_edu import experiments
from xattn_edu.cli import main
from xattn_edu.data import refer
from xattn_edu.experiments import EXPERIMENTS, Experiment, vit_fashion_mnist
from xattn_edu.tables import CROSSVIT_TABLES


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(monkeypatch):
    """An experiment of a second; the list of what it was run with."""
    runs = []

    def recipe(patch, seed, profile, checkpoint, progress):
        runs.append((patch, seed, profile.name))
        return vit_fashion_mnist(
            patch, seed, profile, train_images=20, epochs=1, test_images=20, checkpoint=checkpoint, progress=progress
        )

    monkeypatch.setitem(EXPERIMENTS, "tiny", Experiment("a tiny one", recipe, {"patch": (7, 14)}))
    return runs


def test_list(capsys):
    assert main(["reproduce", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)


def test_reproduce_runs_all_and_then_none(tiny, tmp_path, capsys):
    command = ["reproduce", "tiny", "--seeds", "2", "--profile", "ci", "--folder", str(tmp_path)]
    assert main(command) == 0
    assert tiny == [(7, 0, "ci"), (14, 0, "ci"), (7, 1, "ci"), (14, 1, "ci")]
    first = capsys.readouterr().out
    assert first.startswith("profile ci") and "4/4  patch 14 seed 1: test accuracy" in first and "±" in first
    files = sorted((tmp_path / "tiny").iterdir())
    assert [path.name for path in files] == [f"patch-{p}_seed-{s}_ci.json" for p in (14, 7) for s in (0, 1)]
    before = [path.read_bytes() for path in files]
    assert main(command) == 0
    assert len(tiny) == 4 and [path.read_bytes() for path in files] == before
    assert capsys.readouterr().out.count("(stored)") == 4


def test_reproduce_chosen_points(tiny, tmp_path):
    assert (
        main(["reproduce", "tiny", "--seeds", "1", "--profile", "ci", "--patch", "14", "--folder", str(tmp_path)]) == 0
    )
    assert tiny == [(14, 0, "ci")]


def test_interrupted_run_continues_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    """Stopped by Ctrl-C in the third of six steps; the record is that of a run which was never stopped."""
    flip, left = experiments.fashion.flip, [100]

    def stopping(images):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return flip(images)

    stopping.__qualname__ = flip.__qualname__

    def recipe(patch, seed, profile, checkpoint, progress):
        settings = {"train_images": 130, "epochs": 2, "test_images": 20}
        return vit_fashion_mnist(patch, seed, profile, checkpoint=checkpoint, progress=progress, **settings)

    monkeypatch.setattr(experiments.fashion, "flip", stopping)
    monkeypatch.setitem(EXPERIMENTS, "tiny", Experiment("", recipe, {"patch": (14,)}))
    command = ["reproduce", "tiny", "--seeds", "1", "--profile", "ci", "--folder"]
    assert main([*command, str(tmp_path / "straight")]) == 0
    left[0] = 4  # three steps an epoch: the second epoch has begun
    assert main([*command, str(tmp_path / "stopped")]) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert not list((tmp_path / "stopped").rglob("*.json"))
    assert len(list((tmp_path / "stopped").rglob("*.safetensors"))) == 1
    left[0] = 3  # and no more than these are left to do
    assert main([*command, str(tmp_path / "stopped")]) == 0
    losses = [
        [row["loss"] for row in json.loads(path.read_text())["history"]] for path in sorted(tmp_path.rglob("*.json"))
    ]
    assert len(losses) == 2 and losses[0] == losses[1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--seeds", "0"], "--seeds must be 1 or more"),
        (["--profile", "huge"], "no profile is called 'huge'"),
        (["--patch", "5"], "patch 5"),
    ],
)
def test_errors_are_one_line(arguments, named, tmp_path, capsys):
    assert main(["reproduce", "vit-fashion-mnist", "--profile", "ci", "--folder", str(tmp_path), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("xattn: ") and named in error


@pytest.mark.parametrize(
    "arguments", [[], ["reproduce"], ["reproduce", "nothing"], ["reproduce", "tiny", "--patch", "x"]]
)
def test_usage(tiny, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "usage: xattn" in capsys.readouterr().err


def test_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["reproduce", "vit-fashion-mnist", "--profile", "ci", "--folder", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


@pytest.mark.slow
def test_tables_shows_every_row_and_the_summary(capsys):
    assert main(["tables", "crossvit"]) == 0
    printed = capsys.readouterr().out
    for number, table in CROSSVIT_TABLES.items():
        part = printed.split(f", table {number}\n")[1].split("\n\n")[0]
        assert [line[:16].strip() for line in part.splitlines() if line[0] != " "] == list(table.rows)
    assert "\ncells: equal 56, differs 3, open 1, not built 19\n" in printed
    lines = [line.split() for line in printed.splitlines()]
    assert "DeiT-S 4.6 4.5989 equal 22.1 22.051 21.975 equal all".split() in lines
    assert "All-Attention 7.6 7.5834 equal 27.7 26.855 26.702 open all".split() in lines
    assert "Perceiver - - 43.9 - - not built".split() in lines
    assert "E 6.6 6.5989 equal 31.1 31.308 31.156 differs no positions".split() in lines
    assert "would be 5.881 G" in " ".join(printed.split())
    assert max(map(len, printed.splitlines())) <= 120


@pytest.mark.parametrize("arguments", [["tables"], ["tables", "vit"]])
def test_tables_names_the_papers_there_are(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "crossvit" in capsys.readouterr().err


def test_convert_refer_writes_a_file_that_loads_and_counts_its_referents(tmp_path, capsys):
    small, out = miniature(tmp_path / "data", "refcocog", "umd"), tmp_path / "refcocog.json"
    assert main(["convert-refer", str(small.root), "refcocog", "umd", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "train 3 referents, published were 42,226".split() and len(lines) == 4
    assert str(out) in lines[-1]
    assert len(refer.load(out, "refcocog", "val", images=small.images, check_counts=False).referents) == 1


def test_convert_refer_says_so_when_all_are_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(refer.PUBLISHED, ("refcocog", "google"), {"train": 4, "val": 1})
    small = miniature(tmp_path / "data", "refcocog", "google")
    assert main(["convert-refer", str(small.root), "refcocog", "google", str(tmp_path / "out.json")]) == 0
    assert capsys.readouterr().out.count("referents, as published") == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["refcoco", "umd"], "refcoco is split by unc or google, given 'umd'"),
        (["coco", "unc"], "a dataset is one of"),
        (["refcoco", "google"], "refs(google).p is missing"),
        (["refcoco", "unc"], "refs(unc).p: no pickle of plain data"),
    ],
)
def test_convert_refer_names_what_is_wrong_and_writes_nothing(arguments, named, tmp_path, capsys):
    small, out = miniature(tmp_path / "data"), tmp_path / "out.json"
    small.refs_path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert main(["convert-refer", str(small.root), *arguments, str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and named in error and not out.exists()
