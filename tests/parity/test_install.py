"""Installing the library leaves a machine's torch and its companions as they are: pip itself says what it would change.

`make test` asks in the lock's environment, `make parity` in one with a newer torch, as Colab, Kaggle or a cluster have.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What pip reads of the clone. A copy, because pip writes beside it."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "xattn_edu", tmp_path / "xattn_edu", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def changes(project: Path) -> dict[str, str]:
    """The packages that `pip install -e .` would install or replace, with their versions."""
    report = project / "report.json"
    options = ["--dry-run", "--no-build-isolation", "--report", str(report), "--editable", str(project)]
    # Without an index: pip may then only use what is installed, and fails where that does not do.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    variables |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", "install", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=project)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {item["name"]: item["version"] for item in found}


@pytest.mark.slow
def test_pip_would_install_the_library_and_nothing_else(project: Path) -> None:
    import xattn_edu

    assert changes(project) == {"xattn-edu": xattn_edu.__version__}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_a_pin_would_be_noticed(project: Path, name: str) -> None:
    """The same question, of a pyproject.toml with an exact version that is not the installed one."""
    file = project / "pyproject.toml"
    pinned, count = re.subn(rf'"{name}>=[\d.]+"', f'"{name}==1.0"', file.read_text(encoding="utf-8"))
    assert count == 1
    file.write_text(pinned, encoding="utf-8")
    with pytest.raises(RuntimeError, match=rf"No matching distribution found for {name}==1\.0"):
        changes(project)


def test_make_parity_has_a_newer_torch_than_the_lock() -> None:
    """Otherwise the tests above would ask about the lock's torch twice."""
    if not re.search(r"[/\\]\.venv-parity[/\\]?", sys.prefix + os.sep):
        pytest.skip("not the environment of `make parity`")
    (locked,) = re.findall(r"(?m)^torch==([\d.]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    numbers = [tuple(map(int, version.split("+")[0].split("."))) for version in (locked, installed("torch"))]
    assert numbers[0] < numbers[1]
    assert installed("torchvision")


def installed(name: str) -> str:
    return importlib.metadata.version(name)
