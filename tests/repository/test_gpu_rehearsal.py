"""`make gpu` without a card: every part rehearsed on the CPU, and what the command does when something fails."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_setup import ROOT, load

sys.path.insert(0, str(ROOT / "tools"))
import gpu  # noqa: E402
from gpu_parts import attention, marked, models, precision, setup, training  # noqa: E402

from xattn_edu.experiments import EXPERIMENTS, fashion, running  # noqa: E402
from xattn_edu.experiments.sizes import FASHION_SIZES, LAVT_SIZES  # noqa: E402
from xattn_edu.training.loop import train  # noqa: E402

REHEARSED = {  # part: its models; the others take long on a CPU
    "training": [
        "vit-fashion-mnist patch-14",
        "translation model-cross_attention",
        "fusions task-cues fusion-class_token",
        "lavt model-lavt",
    ],
    "precision": ["vit-fashion-mnist patch-14"],
    "attention": ["*"],  # it has no models
    "speed": ["vit-fashion-mnist patch-14"],
}
HEADER = {"profile": "gpu", "machine": {"gpu": "a card"}, "versions": {"torch": "2.11.0"}}


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


# The rehearsal


@pytest.mark.slow
def test_every_part_but_the_tests_runs_on_the_cpu(tmp_path):
    record = tmp_path / "gpu.json"
    for part, names in REHEARSED.items():
        arguments = [part, "--here", "--device", "cpu", "--seconds", "1", "--models", ",".join(names)]
        assert gpu.main([*arguments, "--output", str(record)]) == 0
    found = read(record)
    assert found["profile"] == "ci" and found["versions"]["torch"] == torch.__version__
    assert {part: section["problems"] for part, section in found["parts"].items()} == dict.fromkeys(REHEARSED, [])
    parts = {part: section["rows"] for part, section in found["parts"].items()}

    assert [row["model"] for row in parts["training"]] == REHEARSED["training"]
    for row in parts["training"]:
        assert row["steps"] >= 2 and row["steps_per_second"] > 0
        minutes = row["of"] / row["steps_per_second"] / 60
        assert row["minutes"]["steps"] == pytest.approx(minutes, rel=0.01)
        assert row["minutes"]["whole"] >= row["minutes"]["steps"]
        assert 0 < row["loss"]["last"] < 10
    size = LAVT_SIZES["ci"]
    assert parts["training"][-1]["of"] == size.epochs * size.train_scenes / 16  # not of the few scenes drawn here
    assert parts["training"][-1]["minutes"]["data"] > 0

    assert [row["model"] for row in parts["precision"]] == REHEARSED["precision"]
    assert all(0 < row["bf16"]["output"] < 0.05 for row in parts["precision"])

    ran = {(row["backend"], row["dtype"]) for row in parts["attention"] if row["case"] == attention.CASES[-1].name}
    assert ran >= {(name, dtype) for name in ("torch's choice", "math") for dtype in ("bfloat16", "float32")}
    assert any(line.startswith("cudnn, self-attention of ViT-S") for line in found["parts"]["attention"]["skipped"])

    assert [row["model"] for row in parts["speed"]] == [*REHEARSED["speed"], "deit_small_patch16_224"]
    assert all(0 < row["here"]["share_of_product"] < 2 and row["times_the_cpu"] > 0 for row in parts["speed"])
    table = gpu.report(found)
    assert re.search(r"(?m)^  lavt model-lavt +\d+ +\d+ +1500 ", table) and "PROBLEM" not in table


@pytest.mark.slow
def test_the_command_runs_from_any_folder_and_stores_no_rehearsal_unasked(tmp_path):
    """The real thing: a process for the part, and the table at the end."""
    before = gpu.RECORD.read_bytes() if gpu.RECORD.exists() else None
    command = [sys.executable, str(ROOT / "tools" / "gpu.py"), "attention", "--device", "cpu", "--seconds", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?m)^attention: limit_s 0.1, seconds ", done.stdout)
    assert (gpu.RECORD.read_bytes() if gpu.RECORD.exists() else None) == before
    assert list(tmp_path.iterdir()) == []


# What is in the way


def test_without_a_card_one_line_says_what_to_do(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--here", "--output", str(tmp_path / "gpu.json")]) == gpu.NO_CARD
    (line,) = capsys.readouterr().err.splitlines()
    assert "sees no CUDA card: run `python tools/gpu.py` with a Python whose torch sees one" in line
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(monkeypatch, capsys, tmp_path):
    there = gpu.absent
    monkeypatch.setattr(gpu, "absent", lambda packages: there((*packages, "no_such_package")))
    assert gpu.main(["--device", "cpu"]) == 1
    assert "the library needs no_such_package: install it into" in capsys.readouterr().err
    monkeypatch.setattr(gpu, "absent", lambda packages: "" if packages == gpu.LIBRARY else there(("no_such_package",)))
    record = tmp_path / "gpu.json"
    assert gpu.main(["training", "--here", "--device", "cpu", "--output", str(record)]) == 0
    assert read(record)["parts"]["training"]["skipped"] == ["needs no_such_package"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["train"], "no part is called train: the parts are tests, "), (["--seconds", "0"], "above 0")],
)
def test_wrong_arguments(capsys, arguments, words):
    with pytest.raises(SystemExit):
        gpu.main(arguments)
    assert words in capsys.readouterr().err


def test_make_gpu_uses_the_environment_of_make_test(monkeypatch):
    course, ran = load(ROOT), []
    monkeypatch.setattr(course, "prepare", lambda: ran.append("prepared"))
    monkeypatch.setattr(course, "run", lambda *arguments: ran.append(arguments) or 3)
    assert course.main(["gpu", "training", "--minutes", "3"]) == 3
    assert ran == ["prepared", ("tools/gpu.py", "training", "--minutes", "3")]


# What fails


def test_a_part_that_crashes_hangs_or_fails_stops_no_other(monkeypatch, capsys, tmp_path):
    record, ran = tmp_path / "gpu.json", []

    def process(command, timeout):
        part = command[2]
        ran.append(part)
        if part == "machine":
            gpu.keep_if_same(record, HEADER)
        elif part == "training":
            raise subprocess.TimeoutExpired(command, timeout)
        elif part != "tests":
            gpu.store(record, part, {"rows": [{"model": "a", "steps": 2.0}], "problems": ["b"] * (part == "speed")})
        return SimpleNamespace(returncode={"tests": -11, "speed": gpu.PROBLEMS}.get(part, 0))

    monkeypatch.setattr(gpu.subprocess, "run", process)
    monkeypatch.setattr(gpu, "BEGIN", time.monotonic())
    assert gpu.main(["--output", str(record)]) == 1
    assert ran == ["machine", "tests", "training", "precision", "attention", "speed"]
    parts = read(record)["parts"]
    assert list(parts) == ran[1:]
    assert parts["tests"]["problems"] == ["its process ended with status -11"]
    assert parts["training"]["problems"] == ["stopped after 312 seconds"]
    assert [line for line in capsys.readouterr().out.splitlines() if "PROBLEM" in line][-1] == "  PROBLEM: b"
    gpu.main(["attention", "--output", str(record)])
    assert read(record)["parts"] == parts


def test_no_part_begins_after_the_time(monkeypatch):
    monkeypatch.setattr(gpu.subprocess, "run", None)
    options = gpu.parse([])
    assert gpu.start("speed", options, time.monotonic() - 1) == "not begun: the minutes were used up"


def test_what_another_machine_measured_is_removed(tmp_path):
    record = tmp_path / "new folder" / "gpu.json"
    gpu.keep_if_same(record, HEADER)
    gpu.store(record, "speed", {"rows": [{"a": float("nan"), "b": 1.23456789}]})
    gpu.keep_if_same(record, HEADER)
    assert read(record)["parts"] == {"speed": {"rows": [{"a": None, "b": 1.235}]}}
    gpu.keep_if_same(record, HEADER | {"versions": {"torch": "2.12.0"}})
    assert read(record)["parts"] == {}


def a_setup(seconds: float = 100.0) -> setup.Setup:
    return setup.Setup(torch.device("cpu"), "ci", "vit-fashion-mnist*", time.monotonic() + seconds)


def test_a_model_that_fails_stops_no_other():
    first, second, third = chosen = models.reduced_models("ci", "vit-fashion-mnist*")

    def row_of(reduced, seconds):
        if reduced is first:
            raise ValueError("its loss\nis not finite")
        if reduced is second:
            raise ModuleNotFoundError("No module named 'tokenizers'", name="tokenizers")
        return {"seconds": seconds, "problem": "slow"}

    section = setup.each(a_setup(), chosen, row_of)
    assert section["problems"] == [f"{first.name}: ValueError: its loss: is not finite", f"{third.name}: slow"]
    assert section["skipped"] == [f"{second.name}: needs tokenizers"]
    assert [row["model"] for row in section["rows"]] == [third.name] and 90 < section["rows"][0]["seconds"] <= 100


def test_models_that_were_not_reached_are_named():
    on_card = setup.Setup(torch.device("cuda"), "ci", "*", time.monotonic() - 1)
    section = setup.each(on_card, models.reduced_models("ci", "vit-fashion-mnist*"), lambda *_: {})
    names = [f"vit-fashion-mnist patch-{patch}" for patch in (4, 7, 14)]
    assert section == {"rows": [], "skipped": [], "problems": [f"the time was over before {', '.join(names)}"]}


@pytest.mark.parametrize("beartype", [True, False])
def test_the_marked_tests_are_run_from_their_files_alone(monkeypatch, beartype):
    ran = []

    def run(command, **more):
        ran.append((command, more["env"]))
        return SimpleNamespace(returncode=4)

    monkeypatch.setattr(marked.subprocess, "run", run)
    monkeypatch.setattr(marked, "find_spec", lambda name: beartype)
    assert marked.run(a_setup()) == marked.counted(ROOT / "none.xml", 4)
    (command, variables), *_ = ran
    on_card = setup.Setup(torch.device("cuda"), "gpu", "*", time.monotonic() + 9)
    assert marked.run(on_card)["problems"][-1] == "no test passed: on a card some must"
    files = {Path(argument).name for argument in command if argument.endswith(".py")}
    assert {"test_training.py", "test_decoding.py", "test_costs.py"} <= files
    assert "test_refer.py" not in files  # it needs pycocotools
    assert command[:2] == [sys.executable, "-m"] and command[command.index("-m", 3) + 1] == "gpu"
    assert variables["XATTN_CHECK_SHAPES"] == str(int(beartype)) and variables["PYTHONPATH"] == str(ROOT)


def test_pytests_report_is_counted(tmp_path):
    report = tmp_path / "outcome.xml"
    case = '<testcase classname="tests.test_a" name="{}">{}</testcase>'
    inner = {"b": "", "c": '<skipped message="needs a card"/>', "d": '<failure message="1 is not 2"/>'}
    cases = "".join(case.format(*pair) for pair in inner.items())
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    section = marked.counted(report, 1)
    assert (section["passed"], section["failed"]) == (1, 1)
    assert section["skipped"] == ["tests.test_a.c: needs a card"] and section["problems"] == [
        "tests.test_a.d: 1 is not 2"
    ]
    assert marked.counted(tmp_path / "none.xml", 4)["problems"] == ["pytest ended with status 4"]


# The models and their training


def test_every_experiment_is_measured_or_left_out_for_a_reason():
    assert models.POINTS.keys() | models.LEFT_OUT.keys() == EXPERIMENTS.keys()
    assert not models.POINTS.keys() & models.LEFT_OUT.keys()
    names = [reduced.name for reduced in models.reduced_models("gpu")]
    assert len(set(names)) == len(names) > 30
    with pytest.raises(ValueError, match="no reduced model fits 'swin'"):
        models.reduced_models("gpu", "swin")


@pytest.mark.slow
def test_a_recipe_hands_over_what_it_would_train():
    (reduced,) = models.reduced_models("gpu", "vit-fashion-mnist patch-14")
    handed = models.handed_to_train(reduced, "gpu")
    size = FASHION_SIZES["gpu"]
    assert handed.settings["epochs"] == (size.epochs if len(handed.train_set) == 12_000 else size.full_epochs)
    assert handed.settings["learning_rate"] == fashion.RECIPE["learning_rate"]
    assert handed.model.blocks[0].attention.width == size.width
    assert running.train is train
    with pytest.raises(RuntimeError, match="ended without a call of `train`"):
        models.handed_to_train(models.Reduced("a", lambda **_: None, {}), "gpu")


def test_the_stopwatch_ends_the_training_and_counts_whole_steps(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    watch = training.Stopwatch(lambda output, target: output - target, 10.0, torch.device("cpu"))
    with pytest.raises(training._TimeIsUp):
        for _ in range(99):
            watch(torch.ones(()), torch.zeros(()))
            now[0] += 2.0
    assert len(watch.losses) == 6 and watch.steps_per_second() == 0.5
    with pytest.raises(RuntimeError, match="ended after 0 steps"):
        training.Stopwatch(lambda *_: None, 10.0, torch.device("cpu")).steps_per_second()


# What a comparison finds


@pytest.mark.slow
def test_a_difference_beyond_the_tolerance_is_a_problem(monkeypatch):
    (reduced,) = models.reduced_models("ci", "vit-fashion-mnist patch-14")
    right = precision.vectors

    def wrong_in_half(*arguments, half):
        found = right(*arguments, half=False)
        return found | ({"gradient": 1.2 * found["gradient"]} if half else {})

    monkeypatch.setattr(precision, "vectors", wrong_in_half)
    row = precision.compare(reduced, a_setup())
    assert row["bf16"] == pytest.approx({"output": 0.0, "gradient": 0.2})
    assert row["problem"] == "bf16 gradient differs by 0.2"


def test_a_backend_that_computes_another_thing_is_a_problem(monkeypatch):
    case, section = attention.REHEARSED[0], {"rows": [], "skipped": [], "problems": []}
    monkeypatch.setattr(
        attention, "fused_attention", lambda q, k, v, mask: 1.01 * attention.attention(q, k, v, mask)[0]
    )
    attention.compare(case, torch.float32, 0.0, torch.device("cpu"), section)
    assert len(section["problems"]) == len(attention.BACKENDS)
    assert all(re.search("self-attention of ViT-S, float32: differs by 0.02", line) for line in section["problems"])
