"""The part "tests": the tests that carry the mark gpu."""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gpu_parts.setup import Setup

ROOT = Path(__file__).resolve().parents[2]
MARK = "pytest.mark.gpu"


def run(setup: Setup) -> dict[str, Any]:
    """Run them from their files alone, because other files of tests import packages that may be missing here."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [str(path) for path in paths if MARK in path.read_text(encoding="utf-8")]
    # beartype checks the shapes. pytest would refuse the setting of a plugin that is missing, such as pytest-timeout.
    variables = os.environ | {"PYTHONPATH": str(ROOT), "XATTN_CHECK_SHAPES": "1" if find_spec("beartype") else "0"}
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder) / "outcome.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        command += ["-o", "strict_config=false", f"--junitxml={outcome}", *files]
        patience = None if setup.rehearsal else max(setup.left(), 1)
        try:
            status = subprocess.run(command, cwd=ROOT, env=variables, timeout=patience).returncode
        except subprocess.TimeoutExpired:
            return {"problems": ["the tests were stopped because their time was over"]}
        section = counted(outcome, status)
    if not setup.rehearsal and not section["passed"]:
        section["problems"].append("no test passed: on a card some must")
    return section


def counted(outcome: Path, status: int) -> dict[str, Any]:
    """The section, from pytest's own report and its exit status."""
    found: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in ElementTree.parse(outcome).iter("testcase") if outcome.exists() else ():
        inner = {child.tag: child for child in case}
        kind = "failed" if inner.keys() & {"failure", "error"} else "skipped" if "skipped" in inner else "passed"
        why = "".join(f": {child.get('message', '')[:200]}" for child in case if child.tag != "system-out")
        found[kind].append(f"{case.get('classname')}.{case.get('name')}{why}")
    problems = found["failed"] + ([f"pytest ended with status {status}"] if status and not found["failed"] else [])
    numbers = {"passed": len(found["passed"]), "failed": len(found["failed"])}
    return numbers | {"skipped": found["skipped"], "problems": problems}
