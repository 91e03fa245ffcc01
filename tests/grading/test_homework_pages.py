"""docs/homework_lecturers.md and docs/homework_students.md are true: commands, limits, links, the measured seconds."""

import json
import re
import shlex
from pathlib import Path

import pytest

from xattn_edu.cli import _parser
from xattn_edu.exercises.guard import SECONDS
from xattn_edu.grading.child import CALL_SECONDS, CELL_SECONDS
from xattn_edu.grading.confine import Limits
from xattn_edu.grading.feedback import FEWEST
from xattn_edu.grading.sheets import LARGEST
from xattn_edu.homework import SETS

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / "docs" / f"homework_{name}.md").read_text(encoding="utf-8") for name in ("lecturers", "students")
}
LECTURERS, STUDENTS = (" ".join(page.split()) for page in PAGES.values())


def test_the_quick_start_is_five_commands_that_exist():
    block = next(block for block in re.findall(r"```\n(.*?)```", PAGES["lecturers"], re.DOTALL) if "xattn" in block)
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    steps = [_parser().parse_args(command[1:]).run.__name__ for command in commands]
    assert steps == [f"_grade_{step}" for step in ("release", "collect", "run", "marks", "feedback")]


def test_thirty_students_take_less_than_four_minutes():
    record = json.loads((ROOT / "results" / "benchmarks" / "grading.json").read_text(encoding="utf-8"))
    assert record["students"] == 30 and record["workers"] == 2 and record["seconds"] < 240
    assert f"took {record['seconds']:.0f} seconds on two cores" in LECTURERS


def test_limits_are_those_of_the_code():
    limits = Limits()
    assert f"has {limits.seconds:.0f} seconds (`--seconds`) and {limits.memory // 2**30} GiB a process" in LECTURERS
    assert f"may take {CALL_SECONDS:.0f} seconds and one cell {CELL_SECONDS:.0f}" in STUDENTS
    assert f"takes longer than {SECONDS:.0f} seconds" in STUDENTS and f"up to {LARGEST // 2**20} MB" in STUDENTS
    assert FEWEST == 6 and "With fewer than six students" in LECTURERS


def test_every_set_is_described():
    for name in SETS:
        assert f"| {name} |" in STUDENTS and f"- **{name}**:" in LECTURERS


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name):
    links = set(re.findall(r"\]\((?!https?:)([^)#]+)", PAGES[name]))
    missing = {link for link in links if not (ROOT / "docs" / link).exists()}
    assert links and missing <= {"homework_audit.md"}  # `xattn homework audit --write` makes it
