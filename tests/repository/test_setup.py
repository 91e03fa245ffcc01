"""The set-up: it builds, repairs and reuses .venv, and says one useful line when something is in the way."""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import venv
from collections import namedtuple
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
PATIENCE = 2400  # seconds, pytest's own limit for a test: a busy machine is slow, and that is no mistake
PINS = dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", LOCK))


def load(root):
    """tools/course.py of a clone, as a module."""
    spec = importlib.util.spec_from_file_location("course", root / "tools" / "course.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clone(tmp_path):
    """What the set-up reads of a clone, in a folder whose name has a space."""
    root = tmp_path / "a clone"
    (root / "tools").mkdir(parents=True)
    (root / "notebooks").mkdir()
    for name in ("tools/course.py", "pyproject.toml", "Makefile"):
        shutil.copy(ROOT / name, root / name)
    (root / "requirements.txt").write_text("no-such-package==1.0\n")
    (root / "requirements-parity.txt").write_text("timm==1.0\n")
    return root


@pytest.fixture
def course(clone):
    return load(clone)


@pytest.fixture
def steps(course, monkeypatch):
    """The steps of an installation that takes no time: an environment with a pip that does nothing."""
    done = []

    def step(name, *command, **more):
        done.append(name)
        if name.startswith("making "):
            folder = course.ROOT / name[len("making ") :]
            venv.create(folder)
            site = next(folder.glob("[Ll]ib/**/site-packages"))
            (site / "pip.py").touch()

    monkeypatch.setattr(course, "logged", step)
    return done


def one_line(captured):
    """The only line on stderr."""
    lines = captured.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


# The stamp


def test_a_second_start_installs_nothing(course, steps):
    course.prepare()
    assert steps == ["making .venv", "installing 1 packages (a few minutes the first time)", "installing xattn_edu"]
    steps.clear()
    course.prepare()
    assert steps == []


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_a_changed_lock_is_installed_into_the_same_environment(course, steps, name):
    course.prepare()
    (course.VENV / "keep").touch()
    with (course.ROOT / name).open("a") as file:
        file.write("# changed\n")
    steps.clear()
    course.prepare()
    assert "making .venv" not in steps
    assert steps[-1] == "installing xattn_edu"
    assert (course.VENV / "keep").exists()


@pytest.mark.parametrize("harm", ["python removed", "python replaced", "clone moved", "installation interrupted"])
def test_a_broken_environment_is_made_afresh(course, steps, harm, tmp_path):
    course.prepare()
    (course.VENV / "half a package").touch()
    if harm == "python removed":
        course.PYTHON.unlink()
    elif harm == "python replaced":  # as after an upgrade of Python, whose packages lie in another folder
        next(course.VENV.glob("[Ll]ib/**/site-packages/pip.py")).unlink()
    elif harm == "clone moved":
        course = move(course, tmp_path / "moved")
    else:
        course.STAMP.unlink()
    steps.clear()
    course.prepare()
    assert steps[0] == "making .venv"
    assert not (course.VENV / "half a package").exists()
    assert course.STAMP.read_text(encoding="utf-8") == course.stamp()


def move(course, place):
    course.ROOT.rename(place)
    moved = load(place)
    step = course.logged

    def in_new_place(name, *command, **more):
        course.ROOT = moved.ROOT
        step(name, *command)

    moved.logged = in_new_place
    return moved


def test_an_interrupted_installation_leaves_no_stamp(course, steps, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(course, "pip", interrupt)
    assert course.main(["lab"]) == 1
    assert "stopped" in one_line(capsys)
    assert not course.STAMP.exists()


def test_parity_has_an_environment_of_its_own(course, steps, monkeypatch):
    ran = []
    monkeypatch.setattr(course, "run", lambda *arguments, **more: ran.append((arguments[-3:], more["venv"])) or 3)
    with course.LOCK.open("a") as file:
        file.write("torch==2.0  # via xattn-edu\n")
    installed = ["installing timm, with a torch of its own (a few minutes the first time)", "installing xattn_edu"]
    made = ["making .venv-parity", *installed]
    assert course.main(["parity", "-k", "tiny"]) == 3
    assert steps == made and not course.VENV.exists()
    assert ran == [(("tests/parity", "-k", "tiny"), course.PARITY)]
    assert (course.PARITY / "constraints.txt").read_text() == "no-such-package==1.0\n"
    course.main(["parity"])
    assert steps == made
    course.PARITY_LOCK.write_text("timm==1.1\n")
    course.main(["parity"])
    assert steps == [*made, *installed]
    (course.PARITY / "installed").unlink()
    course.main(["parity"])
    assert steps == [*made, *installed, *made]


# What is in the way


def test_python_3_6_can_read_it():
    ast.parse((ROOT / "tools/course.py").read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize(("version", "word"), [((3, 6), "old"), ((3, 10), "old"), ((3, 15), "new"), ((4, 0), "new")])
def test_a_python_that_does_not_suit(course, monkeypatch, capsys, version, word):
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    assert course.main(["lab"]) == 1
    told = f"Python {version[0]}.{version[1]} is too {word}: install Python 3.11 to 3.14,"
    assert one_line(capsys).startswith(told)


def test_no_ensurepip(course, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find(name))
    assert course.main(["lab"]) == 1
    assert f"sudo apt install python3.{sys.version_info[1]}-venv" in one_line(capsys)


def test_not_enough_disk(course, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9e9, 8e9, 1e9))
    assert course.main(["lab"]) == 1
    assert "1.0 GB free, 3 GB needed" in one_line(capsys)


def test_a_folder_that_cannot_be_written(course, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert course.main(["lab"]) == 1
    assert "clone the course into a folder of your own" in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("NewConnectionError('...: Failed to establish a new connection: [Errno 111] Connection refused')", "network"),
        ("Failed to resolve 'index' ([Errno -3] Temporary failure in name resolution)\nNo matching distr", "network"),
        ("ERROR: No matching distribution found for torch==2.13.0", "does not exist for this machine"),
        ("error: subprocess-exited-with-error", "install.log"),
    ],
)
def test_pip_fails(course, words, advice):
    course.VENV.mkdir()
    course.LOG.write_text("No space left on device, an earlier step said")
    with pytest.raises(course.Stop, match=advice):
        course.logged("installing", sys.executable, "-c", f"print({words!r}); raise SystemExit(1)")
    assert words.splitlines()[0] in course.LOG.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("target", "folder"), [("lab", ".venv"), ("parity", ".venv-parity")])
def test_no_network(clone, target, folder):
    """The real thing: a new environment, a real pip, an index that is not there."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    variables.update(PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL="http://127.0.0.1:9", PIP_RETRIES="1")
    command = [sys._base_executable, "tools/course.py", target]
    done = subprocess.run(command, cwd=clone, env=variables, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "check the network" in done.stderr
    assert ("timm" if target == "parity" else "no-such-package") in (clone / folder / "install.log").read_text()
    assert not (clone / folder / "installed").exists()


def test_port_in_use(course, steps, capsys):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert course.main(["lab", "--port", str(server.getsockname()[1])]) == 1
    assert "make lab PORT=" in one_line(capsys)


@pytest.mark.parametrize("arguments", [["lab", "--port", "many"], ["labs"]])
def test_a_slip_of_the_pen(course, capsys, arguments):
    assert course.main(arguments) == 1
    assert arguments[-1] in one_line(capsys)


# The Makefile's choice of Python

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@needs_make
@pytest.mark.parametrize("good", ["python3", "python3.12"])
def test_make_takes_the_first_python_that_suits(clone, tmp_path, good):
    for name in ("python3", "python3.12"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n' if name == good else "#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
    make = [shutil.which("make"), "-n", "lab", "PORT=8899", "ARGS=--debug"]
    done = subprocess.run(make, cwd=clone, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout.split() == [good, "tools/course.py", "lab", "--port", "8899", "--debug"]


@needs_make
def test_make_without_python(clone, tmp_path):
    make = [shutil.which("make"), "lab"]
    done = subprocess.run(make, cwd=clone, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode != 0
    assert re.fullmatch(r"Makefile:\d+: \*\*\* No Python 3.11 to 3.14 found: install one .*\n", done.stderr)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize("broken", ["test", "parity", "neither"])
def test_the_continuous_integration_runs_both_and_fails_with_either(tmp_path, broken):
    calls = tmp_path / "calls"
    for name, words in (("make", f'echo "$*" >>"{calls}"; echo "$1"; test "$1" != {broken}'), ("chromium", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{words}\n")
        (tmp_path / name).chmod(0o755)
    variables = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", ".ci/run"], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.stdout.split() == ["test", "parity"]
    assert (done.returncode == 0) == (broken == "neither")
    *meanwhile, last = calls.read_text().splitlines()  # the environment of `make parity` is made during `make test`
    assert sorted(meanwhile) == ["parity ARGS=--collect-only", "test"] and last == "parity"


# JupyterLab


def test_root_is_allowed_only_for_root(course, monkeypatch):
    for user, allowed in ((0, True), (1000, False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user, raising=False)
        assert ("--allow-root" in course.jupyterlab(8888, "token")[0]) == allowed


def test_lab_answers_and_writes_nothing_to_the_home_folder(tmp_path):
    course = load(ROOT)
    if not course.STAMP.exists() or course.STAMP.read_text(encoding="utf-8") != course.stamp():
        pytest.skip("needs the environment that `make lab` makes")
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG_", "IPYTHON"))
    }
    variables.update(HOME=str(tmp_path), USERPROFILE=str(tmp_path), JUPYTER_TOKEN="secret")
    port = course.free_port()
    command = [sys._base_executable, str(ROOT / "tools/course.py"), "lab", "--port", str(port), "--no-browser"]
    server = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
    try:
        assert f" http://127.0.0.1:{port}/lab?token=secret " in server.stdout.readline()
        assert answer(server, f"http://127.0.0.1:{port}/api")["version"]
        found = answer(server, f"http://127.0.0.1:{port}/api/contents?token=secret")["content"]
        shown = {item["name"] for item in found if item["type"] == "notebook"}
        assert shown == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/contents?token=wrong")
    finally:
        server.terminate()
        server.wait(PATIENCE)
    assert [str(path) for path in tmp_path.rglob("*")] == []


def answer(server, address):
    """What the server answers, as soon as it does."""
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")


# The lock and conda's way to it


def test_the_lock_holds_versions_and_nothing_else():
    lines = [line for line in LOCK.splitlines() if not line.startswith("#")]
    assert len(lines) == len(PINS) > 100
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.]+ +# via [\w., ()-]+", line)
    assert not re.search(r"[/@+]|^(nvidia|cuda|triton)", LOCK, re.MULTILINE)


def test_the_lock_is_written_without_what_holds_only_on_this_machine():
    compiled = (
        "# a comment\n"
        "torch==2.13.0+cpu         # via -c /a/path/keep.txt, accelerate, xattn-edu (pyproject.toml)\n"
        "nvidia-nccl-cu13==2.0     # via torch\n"
        "attrs==26.1.0             # via jsonschema\n"
    )
    assert load(ROOT).pins(compiled) == (
        "attrs==26.1.0             # via jsonschema\ntorch==2.13.0     # via accelerate, xattn-edu (pyproject.toml)\n"
    )


def test_the_lock_fits_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    extras = project["optional-dependencies"]
    for line in project["dependencies"] + extras["lab"] + extras["dev"] + load(ROOT).kept():
        wanted = Requirement(line)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), line


def test_the_parity_lock_leaves_all_versions_but_three_to_the_lock():
    lines = (ROOT / "requirements-parity.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if not line.startswith("#")]
    exact = {requirement.name: str(requirement.specifier) for requirement in wanted if requirement.specifier}
    assert set(exact) == {"timm", "torch", "torchvision"}
    assert all(re.fullmatch(r"==[\d.]+", version) for version in exact.values())
    assert {requirement.name for requirement in wanted} - set(exact) <= {canonicalize_name(name) for name in PINS}


def test_the_locked_versions_are_installed():
    installed = {name: Version(importlib.metadata.version(name)).public for name in PINS}  # without +cpu
    assert installed == PINS


def test_conda_installs_python_and_the_lock():
    description = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert description["name"] == "xattn_edu"
    assert description["channels"] == ["conda-forge"]
    python, pip, packages = description["dependencies"]
    minor = int(re.fullmatch(r"python=3\.(\d+)", python)[1])
    course = load(ROOT)
    assert course.OLDEST <= (3, minor) <= course.NEWEST
    assert pip == "pip"
    assert packages == {"pip": ["-r requirements.txt", "-e ."]}
