"""The command `xattn`: what it prints, how it fails, and that it continues where it was stopped."""

import json

import pytest
import torch
from helpers.miniature_refcoco import miniature
from PIL import Image

from xattn_edu import experiments
from xattn_edu.cli import main
from xattn_edu.data import refer
from xattn_edu.experiments import EXPERIMENTS, Experiment, report, vit_fashion_mnist
from xattn_edu.experiments.fashion import flip
from xattn_edu.predict.evaluation import Protocol

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_reproduce_prints_the_95_percent_interval_over_the_seeds(tiny, tmp_path, monkeypatch, capsys):
    """Student's t of two runs is 12.706 for 95 %, 6.314 for 90 %."""
    accuracies = {0: 0.5, 1: 0.6}
    metrics = {"seconds": 1.0, "cpu_per_wall": 1.0}
    monkeypatch.setattr(
        experiments,
        "reproduce",
        lambda name, point, seed, *_: {"metrics": metrics | {"test_accuracy": accuracies[seed]}},
    )
    command = ["reproduce", "tiny", "--seeds", "2", "--profile", "ci", "--patch", "7", "--folder", str(tmp_path)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "mean and 95 % interval over 2 seeds" in printed
    assert printed.splitlines()[-1].split() == ["patch", "7", "55.0", "±", f"{12.706 * 10 / 2:.1f}"]


class Stopping:
    """The augmentation of Fashion-MNIST, until it has been called so often; then Ctrl-C."""

    left = [0]  # of the class: a checkpoint takes what an object holds for settings of the run

    def __call__(self, images):
        self.left[0] -= 1
        if self.left[0] < 0:
            raise KeyboardInterrupt
        return flip(images)


def test_interrupted_run_continues_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    """Stopped by Ctrl-C in the third of six steps; the record is that of a run which was never stopped."""
    left = [100]
    monkeypatch.setattr(Stopping, "left", left)

    def recipe(patch, seed, profile, checkpoint, progress):
        settings = {"train_images": 130, "epochs": 2, "test_images": 20}
        return vit_fashion_mnist(patch, seed, profile, checkpoint=checkpoint, progress=progress, **settings)

    monkeypatch.setattr(experiments.fashion, "flip", Stopping())
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


@pytest.mark.parametrize("arguments", [["tables"], ["tables", "other"]])
def test_tables_names_the_papers_there_are(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "crossvit" in capsys.readouterr().err


def test_results_are_shown(capsys):
    assert main(["results"]) == 0
    assert capsys.readouterr().out == report.REPORT.read_text(encoding="utf-8")


def test_results_are_written(tmp_path, monkeypatch, capsys):
    written = report.REPORT.read_bytes()
    monkeypatch.setattr(report, "REPORT", tmp_path / "results.md")
    assert main(["results", "--write"]) == 0
    assert (tmp_path / "results.md").read_bytes().splitlines() == written.splitlines()
    assert str(tmp_path / "results.md") in capsys.readouterr().out


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
    for train, val in ((3, 2), (5, 0)):  # one too many, one too few
        monkeypatch.setitem(refer.PUBLISHED, ("refcocog", "google"), {"train": train, "val": val})
        assert main(["convert-refer", str(small.root), "refcocog", "google", str(tmp_path / "out.json")]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].endswith(f"4 referents, published were {train}")
        assert lines[1].endswith(f"1 referents, published were {val}")


def test_convert_refer_keeps_raw_and_says_when_there_is_none(tmp_path, capsys):
    small, out = miniature(tmp_path / "data"), tmp_path / "refcoco.json"
    assert main(["convert-refer", str(small.root), "refcoco", "unc", str(out)]) == 0
    assert capsys.readouterr().err == ""
    content = json.loads(out.read_text())
    assert [s["raw"] for ref in content["refs"] for s in ref["sentences"]] == [
        s["raw"] for ref in small.refs for s in ref["sentences"]
    ]
    for ref in content["refs"]:  # as the file was before
        for sentence in ref["sentences"]:
            del sentence["raw"]
    out.write_text(json.dumps(content))
    assert main(["convert-refer", str(out), "refcoco", "unc", str(tmp_path / "again.json")]) == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "8 sentences lack 'raw'" in error and "convert REFER's own files" in error


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["refcoco", "umd"], "refcoco is split by unc or google, given 'umd'"),
        (["coco", "unc"], "dataset must be one of"),
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


# --- a model in use: the numbers and pictures are tested in tests/predict


@pytest.fixture(scope="module")
def lavt(tmp_path_factory):
    """A small LAVT as it was published, and its options."""
    from transformers import BertTokenizerFast

    from xattn_edu.models.language import SPECIAL, SmallBert
    from xattn_edu.models.lavt import lavt_swin
    from xattn_edu.weights import lavt_to_published

    folder = tmp_path_factory.mktemp("lavt")
    words = [*SPECIAL, *"the left right man in red grey dog café sign".split()]
    torch.manual_seed(0)
    model = lavt_swin(8, (1, 1, 1), (1, 1, 1), window=3, language=SmallBert(len(words), 16, 1, 1))
    torch.save(lavt_to_published(model.state_dict()), folder / "small.pth")
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return ["--checkpoint", str(folder / "small.pth"), "--tokenizer", str(folder), "--size", "32", "--device", "cpu"]


def test_evaluate_lavt_prints_the_scores_stops_and_goes_on(lavt, tmp_path, capsys, monkeypatch):
    from xattn_edu.predict import evaluation

    monkeypatch.chdir(tmp_path)
    small = miniature(tmp_path / "data")
    command = ["evaluate", "lavt", *lavt, "--refcoco", str(small.root), "--no-check-counts", "--split", "train"]
    command += ["--batch-size", "1"]
    written, left = evaluation.overlaps, [1]

    def stopping(*masks):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return written(*masks)

    for ref in small.refs:
        ref["split"] = "train"
    small.write()
    monkeypatch.setattr(evaluation, "overlaps", stopping)
    left[0] = 3
    assert main(command) == 130
    assert capsys.readouterr().err == "xattn: interrupted; the same command continues where it stopped\n"
    out = tmp_path / "refcoco_unc_train_small.json"
    assert not out.exists() and (tmp_path / f"{out.name}.partial").exists()
    left[0] = 5
    assert main(command) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == "small.pth on refcoco train (unc)"
    assert lines[1] == "8 expressions for 5 referents (published: 42,404) in 3 images"
    assert [line.split()[0] for line in lines[4:11]] == ["oIoU", "mIoU", *(f"P@0.{x}" for x in range(5, 10))]
    scores = json.loads(out.read_text())["scores"]
    assert lines[4].split() == f"oIoU {100 * scores['oIoU']['score']:.2f}".split() + lines[4].split()[2:]
    assert lines[13].split() == ["sentences", "raw", "raw"] and "differs from" in lines[-3]
    assert lines[-1] == f"{out.name}: written"
    assert main(command) == 0
    assert capsys.readouterr().out == printed.replace("written", "stored before, nothing was computed")
    assert main([*command, "--at", "original"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "belongs to another evaluation (at: network there, original here" in error


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ([], Protocol()),
        (["--sentences", "sent"], Protocol(sentences="sent")),
        (["--keep-sep"], Protocol(keep_sep=True)),
        (["--parts", "union"], Protocol(parts="union")),
        (["--at", "original"], Protocol(at="original")),
    ],
)
def test_evaluate_lavt_passes_its_options_on(options, protocol, tmp_path, monkeypatch):
    """The published choices are the default; the images' folder is the one given."""
    from xattn_edu.predict import evaluation

    calls = []

    def recorded(*files, **settings):
        calls.append((files, settings))
        raise ValueError("recorded")

    monkeypatch.setattr(evaluation, "evaluate", recorded)
    command = ["evaluate", "lavt", "--checkpoint", "a.pth", "--refcoco", "data", "--images", str(tmp_path), *options]
    assert main(command) == 1
    ((_, settings),) = calls
    assert settings["protocol"] == protocol and settings["images"] == tmp_path and settings["check_counts"]


def test_evaluate_lavt_reads_images_elsewhere_and_files_without_raw_with_sent(lavt, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = miniature(tmp_path / "data")
    small.images.rename(tmp_path / "elsewhere")
    for ref in small.refs:
        for sentence in ref["sentences"]:
            del sentence["raw"]
    small.write()
    command = ["evaluate", "lavt", *lavt, "--refcoco", str(small.root), "--no-check-counts"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "there is no folder" in error and "with --images DIR" in error
    command += ["--images", "elsewhere"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "lack 'raw'" in error and error.endswith("with --sentences sent\n")
    assert main([*command, "--sentences", "sent"]) == 0
    assert "differs from the published evaluation in sentences, image_size" in capsys.readouterr().out


def test_evaluate_lavt_refuses_a_split_that_is_not_whole(lavt, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = str(miniature(tmp_path / "data").root)
    assert main(["evaluate", "lavt", *lavt, "--refcoco", root]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "published were 3,811" in error and "with --no-check-counts" in error
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_segment_draws_a_picture_and_says_what_it_could_not_read(lavt, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (60, 40), "red").save("street.jpg")
    command = ["segment", "street.jpg", "the man on the left", *lavt]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert printed.err == "xattn: the model does not know 'on': its tokenizer has no pieces for that\n"
    assert printed.out.startswith("street_segmented.png: ")
    before = (tmp_path / "street_segmented.png").read_bytes()
    assert before.startswith(b"\x89PNG")
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.endswith("with --force\n")
    assert "street_segmented.png is there already" in error
    assert main([*command, "--force", "--stage", "1"]) == 0
    assert (tmp_path / "street_segmented.png").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["none.jpg", "the man"], "none.jpg is no file: name an image"),
        (["text.txt", "the man"], "text.txt is no image that can be read"),
        (["street.jpg", ""], "an expression names a thing in the image"),
        (["street.jpg", "the man", "--stage", "9"], "the model has the stages 1 to 3, given 9"),
        (["street.jpg", "the man", "--out", "x.jpg"], "must end in .png"),
        (["street.jpg", "the man", "--checkpoint", "none.pth"], "none.pth is no file"),
        (["street.jpg", "the man", "--tokenizer", "./none"], "./none is no folder"),
        (["street.jpg", "the man", "--device", "tpu"], "no device 'tpu'"),
    ],
)
def test_segment_names_what_is_wrong_in_one_line(arguments, named, lavt, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (60, 40), "red").save("street.jpg")
    (tmp_path / "text.txt").write_text("text")
    assert main(["segment", *lavt, *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("xattn: ") and named in error
    assert not list(tmp_path.glob("*.png"))
