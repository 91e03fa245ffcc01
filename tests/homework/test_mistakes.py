"""The catalogue of mistakes: each is refused and named, none is named as another, and other right answers pass."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xattn_edu.homework import audit
from xattn_edu.homework.mistakes import DIFFERENT, MISTAKES, Different, Mistake

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SLOW = {"01.denoiser", "07.fusion_macs", "09.crossvit_macs"}  # more than two seconds together


def cases(entries):
    marks = [pytest.mark.slow]
    return [
        pytest.param(entry, id=f"{entry.exercise}-{entry.name}", marks=marks if entry.exercise in SLOW else [])
        for entry in entries
    ]


@pytest.mark.parametrize("mistake", cases(MISTAKES))
def test_a_mistake_is_refused_and_not_named_as_another(mistake: Mistake) -> None:
    verdict = audit.verdict(mistake)
    assert verdict.kind in ("wrong", "error"), verdict.words
    assert audit.others_named(mistake, verdict.words) == [], verdict.words


@pytest.mark.parametrize("mistake", cases(entry for entry in MISTAKES if entry.cause))
def test_a_named_mistake_is_named(mistake: Mistake) -> None:
    assert mistake.cause in audit.verdict(mistake).words


@pytest.mark.parametrize("different", cases(DIFFERENT))
def test_another_right_answer_is_accepted(different: Different) -> None:
    verdict = audit.verdict(different)
    assert verdict.kind == "right", verdict.words


def test_there_are_enough_entries_and_each_has_a_name_of_its_own() -> None:
    assert sum(bool(mistake.cause) for mistake in MISTAKES) >= 150
    assert len(DIFFERENT) >= 100
    for entries in (MISTAKES, DIFFERENT):
        names = [(entry.exercise, entry.name) for entry in entries]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("section", sorted({mistake.section for mistake in MISTAKES}))
def test_the_section_of_a_mistake_stands_in_its_notebook(section: str) -> None:
    lesson, number = section.split(", ")
    (notebook,) = NOTEBOOKS.glob(f"{lesson}_*.ipynb")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert re.search(rf"(?m)^## {re.escape(number)} ", text)


def test_nobody_imports_the_catalogue_who_does_not_need_it() -> None:
    code = (
        "import sys, xattn_edu, xattn_edu.exercises, xattn_edu.homework.mistakes\n"
        "print([name for name in sys.modules if 'mistakes.' in name and not name.endswith('.mistake')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
