"""`xattn doctor`: ten lines, whatever is broken, and no name of a user, a host or a folder of theirs."""

import builtins
import getpass
import importlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xattn_edu import __version__, doctor
from xattn_edu.cli import main

NAMES = "xattn_edu Python machine torch profile libraries extras optional data weights".split()
ROOT = Path(__file__).parents[1]

HOME = "/home"  # apart, since a test looks for names of folders in all files


def lines_of(text):
    """{name: text} of the report, whose lines must be the ten."""
    lines = [line.partition(" ") for line in text.splitlines()]
    assert [name for name, _, _ in lines] == NAMES
    return {name: rest.strip() for name, _, rest in lines}


@pytest.fixture(scope="module")
def whole():
    text, works = doctor.report()
    assert works
    return lines_of(text)


@pytest.fixture
def quick(monkeypatch):
    """The report without the libraries' imports, which take seconds."""
    monkeypatch.setattr(doctor, "_libraries", lambda: "")
    return lambda refcoco=None: lines_of(doctor.report(refcoco)[0])


@pytest.fixture
def broken(monkeypatch):
    """Lets the imports of a module fail with an error."""

    def breaks(name, error):
        real = builtins.__import__

        def fails(wanted, *rest, **more):
            if wanted == name or wanted.startswith(name + "."):
                raise error
            return real(wanted, *rest, **more)

        real_module = importlib.import_module
        monkeypatch.setattr(builtins, "__import__", fails)

        def module_fails(wanted, package=None):  # the package comes from libraries that import their parts late
            return fails(wanted) if wanted.startswith(name) else real_module(wanted, package)

        monkeypatch.setattr(importlib, "import_module", module_fails)

    return breaks


def test_the_ten_lines_say_what_there_is(whole):
    assert whole["xattn_edu"].startswith(__version__)
    assert whole["Python"].startswith(platform.python_version())
    assert "cores" in whole["machine"] and "GB of disk free" in whole["machine"]
    assert whole["torch"].startswith(torch.__version__) and "device " in whole["torch"]
    assert whole["profile"].startswith("ci (2 cores, minutes): XATTN_PROFILE is set")
    for name in ("torch", "numpy", "accelerate", "transformers", "pillow", "pycocotools", "tqdm"):
        assert re.search(rf"\b{name} \d+\.\d+", whole["libraries"]), name
    assert re.search(r"dev .*lab ", whole["extras"])
    assert "the shipped subset" in whole["data"] and "broken" not in whole["data"]
    assert re.match(r"[1-9]\d* files in results/", whole["weights"])


def test_the_command_prints_it(quick, capsys):
    assert main(["doctor"]) == 0
    assert list(lines_of(capsys.readouterr().out)) == NAMES


def test_without_names_of_user_host_and_folders(whole):
    text = " ".join(whole.values())
    for name in {platform.node(), str(Path.home()), str(ROOT), sys.prefix, os.getcwd()}:
        assert len(name) < 2 or name not in text
    assert not re.search(rf"[/\\]{re.escape(getpass.getuser())}\b", text)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"{HOME}/ada/course/.venv/lib/a.so: undefined symbol: f", "~/course/.venv/lib/a.so: undefined symbol: f"),
        ("/Users/ada lovelace", "~ lovelace"),
        ("C:" + r"\Users\ada\x.dll", r"~\x.dll"),
        ("cannot load /opt/ada/lib64/libx.so", "cannot load .../libx.so"),
        (f"{ROOT}/results/a.json is broken", "./results/a.json is broken"),
        ("pip install -e . and git checkout -- results/a.json", "pip install -e . and git checkout -- results/a.json"),
    ],
)
def test_folders_in_errors_lose_their_names(message, shown):
    assert doctor._without_names(message) == shown


@pytest.mark.parametrize(
    "error", [ImportError(f"{HOME}/ada/x.so: undefined symbol"), OSError("WinError 126"), RuntimeError("no")]
)
def test_a_broken_library_is_named_with_its_fix(broken, error):
    broken("pycocotools", error)
    text, works = doctor.report()
    line = lines_of(text)["libraries"]
    assert works and f"pycocotools broken ({type(error).__name__}: " in line and line.endswith("make lab")
    assert "ada" not in text and "numpy" in line


def test_a_missing_library_and_one_too_old_are_named(monkeypatch):
    versions = {"accelerate": "0.1"}
    real = importlib.metadata.version

    def version(name):
        if name == "pillow":
            raise importlib.metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    line = doctor._libraries()
    assert line.endswith("; accelerate 0.1, needs >=1.10; pillow missing: make lab") and "numpy" in line


def test_torch_that_does_not_work_is_the_one_error_of_the_command(quick, monkeypatch, capsys):
    def fails(*size, **more):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch, "ones", fails)
    assert main(["doctor"]) == 1
    assert lines_of(capsys.readouterr().out)["torch"] == "broken: RuntimeError: no kernel image is available"


def test_without_torch_the_other_lines_are_there(quick, broken):
    broken("torch", ImportError("libtorch_cpu.so: cannot open shared object file"))
    lines = quick()
    assert lines["torch"].startswith("broken: ImportError: libtorch_cpu.so")
    assert lines["xattn_edu"].startswith(__version__) and "files in results/" in lines["weights"]


def test_a_package_that_cannot_be_imported_is_described_by_the_file_alone(tmp_path):
    """einops is broken, so `import xattn_edu` fails."""
    (tmp_path / "einops.py").write_text("raise ImportError('planted')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, str(ROOT / "xattn_edu" / "doctor.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    lines = lines_of(done.stdout)
    assert "einops broken (ImportError: planted)" in lines["libraries"]
    assert lines["xattn_edu"].startswith(__version__) and "planted" in lines["profile"]


@pytest.mark.slow
def test_the_command_works_where_another_library_is_broken(tmp_path):
    """pycocotools is broken, so `xattn_edu.cli` cannot be imported."""
    (tmp_path / "pycocotools.py").write_text("raise ImportError('planted')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "xattn_edu"]
    done = subprocess.run([*command, "doctor"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0 and "pycocotools broken" in lines_of(done.stdout)["libraries"]
    done = subprocess.run([*command, "tables"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1 and "planted" in done.stderr


# --- data


def test_data_that_are_there_and_missing(quick, monkeypatch, tmp_path):
    monkeypatch.delenv("XATTN_CIFAR10", raising=False)
    monkeypatch.setenv("XATTN_FASHION_MNIST", str(tmp_path))
    line = quick()["data"]
    assert "Fashion-MNIST the shipped subset, not in full (apt-get install dataset-fashion-mnist" in line
    assert "CIFAR-10 missing (unpack its binary version and set XATTN_CIFAR10" in line and "--refcoco DIR" in line
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / f"{name}-ubyte.gz").touch()
    monkeypatch.setenv("XATTN_CIFAR10", str(tmp_path))
    line = quick()["data"]
    assert "Fashion-MNIST in full, and the shipped subset" in line
    assert "CIFAR-10 missing (no files of the binary version where XATTN_CIFAR10 points)" in line
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    assert "CIFAR-10 broken (ValueError: .../test_batch.bin has 5 bytes" in quick()["data"]
    (tmp_path / "test_batch.bin").write_bytes(bytes(10_000 * 3073))
    assert "CIFAR-10 where XATTN_CIFAR10 points" in quick()["data"]


def test_refcoco_where_the_user_points(quick, tmp_path, capsys):
    assert "RefCOCO missing (the folder holds no refcoco/refs(unc).p" in quick(tmp_path)["data"]
    for name in ("refcoco/refs(unc).p", "refcoco/instances.json", "refcocog/refs(umd).p"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    line = quick(tmp_path)["data"]
    assert line.endswith("RefCOCO refcoco/refs(unc).p, without images (unpack COCO's into images/train2014)")
    (tmp_path / "images" / "train2014").mkdir(parents=True)
    assert main(["doctor", "--refcoco", str(tmp_path)]) == 0
    assert lines_of(capsys.readouterr().out)["data"].endswith("RefCOCO refcoco/refs(unc).p")


def test_a_broken_file_of_weights_is_named(quick, monkeypatch, tmp_path):
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert quick()["weights"] == "none in results/ (git checkout -- results)"
    (tmp_path / "results" / "a.safetensors").write_bytes(b"version https://git-lfs")
    assert quick()["weights"] == "1 files in results/, broken: a.safetensors (git checkout -- results)"


def test_the_form_for_bugs_begins_with_the_command():
    form = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.md").read_text(encoding="utf-8")
    assert "`xattn doctor`" in form.split("**")[2]
