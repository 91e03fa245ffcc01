"""Homework as notebooks in nbgrader's format: what each cell is, the release without solutions, a submission mended.

A cell of a sheet has a name, nbgrader's `grade_id`, and one of these roles:

    answer    code of the student's
    check     a locked cell with points, which calls a check on an answer
    written   text of the student's, with points that a person gives
    given     locked, without points

Cells without a name are explanations, or a student's own additions. Source: nbgrader's documentation, "nbgrader cell
metadata", schema version 3.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Notebook = dict[str, Any]
Cell = dict[str, Any]

LARGEST = 20 * 2**20  # bytes of a notebook; one with pictures has less than 2 MB
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "raise NotImplementedError  # your code"
TEXT = "*Your answer.*"
OWN = "own"  # the name under which cells of the student's own are run


class NoSheet(ValueError):
    """A file that is no notebook, or a notebook of another set or another language."""


def read(payload: bytes) -> Notebook:
    """A notebook from the bytes of its file. Raises NoSheet for anything else, in words for whoever handed it in."""
    if len(payload) > LARGEST:
        raise NoSheet(f"the file has more than {LARGEST // 2**20} MB: clear its outputs and hand it in again")
    try:
        notebook = json.loads(payload)
    except (ValueError, RecursionError):
        raise NoSheet("the file is no notebook: it is not JSON, so it may be damaged or of another kind") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise NoSheet("the file is no notebook: it has no list of cells (version 4 of the format is read)")
    language = _path(notebook, "metadata", "kernelspec", "language")
    language = language or _path(notebook, "metadata", "language_info", "name")
    if language not in (None, "python"):
        raise NoSheet(f"the notebook is in {str(language)[:30]}, and Python is expected")
    return notebook


def _path(x: Any, *names: str) -> Any:
    for name in names:
        x = x.get(name) if isinstance(x, dict) else None
    return x


def name_of(cell: Cell) -> str | None:
    name = _path(cell, "metadata", "nbgrader", "grade_id")
    return name if isinstance(name, str) else None


def role_of(cell: Cell) -> str:
    marks = _path(cell, "metadata", "nbgrader") or {}
    if marks.get("solution"):
        return "written" if marks.get("grade") else "answer"
    return "check" if marks.get("grade") else "given"


def points_of(cell: Cell) -> float:
    points = _path(cell, "metadata", "nbgrader", "points")
    return float(points) if isinstance(points, int | float) else 0.0


def source_of(cell: Cell) -> str:
    source = cell.get("source", "")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def named(notebook: Notebook) -> Iterator[tuple[str, Cell]]:
    """The cells that have a name, in order."""
    for cell in notebook["cells"]:
        if (name := name_of(cell)) is not None:
            yield name, cell


# --- from the source to the release


def released(source: Notebook) -> Notebook:
    """The notebook for the students: without solutions, without outputs.

    Raises ValueError for an answer whose solution is not marked, for code without a name and for two cells of one name.
    """
    notebook, seen = copy.deepcopy(source), set[str]()
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and name_of(cell) is None:
            raise ValueError(f"cell {number} has code and no grade_id, so a submission could not be put on its frame")
    for name, cell in named(notebook):
        if name in seen:
            raise ValueError(f"two cells are called {name}: give each a grade_id of its own")
        seen.add(name)
        if role_of(cell) == "answer":
            cell["source"] = _lines(_without_solution(name, source_of(cell)))
        elif role_of(cell) == "written":
            cell["source"] = [TEXT]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return notebook


def _without_solution(name: str, source: str) -> str:
    pattern = rf"(?ms)^([ \t]*){BEGIN}\n.*?^[ \t]*{END}[ \t]*$"
    text, found = re.subn(pattern, rf"\1{STUB}", source)
    if not found or BEGIN in text or END in text:
        raise ValueError(f"the cell {name} needs the lines {BEGIN!r} and {END!r} around each solution")
    return text


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


# --- from a submission to what is run


@dataclass(frozen=True)
class Mended:
    """A submission on the frame of its source: the student's answers and additions, everything else as released."""

    cells: list[tuple[str, str]]  # code to run: name, source
    written: dict[str, str]  # texts, by name
    attempted: frozenset[str]  # answers and texts that are no longer as released
    remarks: tuple[str, ...]  # what was mended, for the student


def mend(submitted: Notebook, source: Notebook) -> Mended:
    """Take the student's answers, written texts and own cells, and put everything else back as it was released.

    Deleted cells come back, duplicates are told apart (the first that is no stub is taken), and whatever was changed in
    a locked cell is undone. Raises NoSheet if no cell of the set is there.
    """
    release = dict(named(released(source)))
    own, found = _sorted_out(submitted, release)
    if not any(role_of(cell) in ("answer", "written") for name in found for cell in [release[name]]):
        raise NoSheet("no answer of this set is in the notebook: is it another set's?")
    cells, written, attempted, remarks = [], {}, set(), []
    for cell in source["cells"]:
        name = name_of(cell)
        cells += own.get(name, []) if name else []
        if name is None:
            continue
        role, stub, texts = role_of(cell), source_of(release[name]), found.get(name, [])
        if not texts:
            remarks.append(f"the cell {name} was missing and was put back")
        elif len(texts) > 1:
            remarks.append(f"the cell {name} was there {len(texts)} times; the first that is filled in was taken")
        if role in ("answer", "written"):
            text = next((text for text in texts if text.strip() != stub.strip()), stub)
            attempted |= {name} if text.strip() != stub.strip() else set()
            if role == "written":
                written[name] = text
            else:
                cells.append((name, text))
            continue
        if any(text.strip() != stub.strip() for text in texts):
            remarks.append(f"the cell {name} is locked; it was changed, and was put back")
        if role == "given" and cell["cell_type"] == "code":
            cells.append((name, source_of(cell)))
    cells += own.get(None, [])
    return Mended(cells, written, frozenset(attempted), tuple(remarks))


def _sorted_out(
    submitted: Notebook, release: Mapping[str, Cell]
) -> tuple[dict[str | None, list[tuple[str, str]]], dict[str, list[str]]]:
    """The student's own code cells, by the named cell that they stand before, and the texts of the named ones."""
    own: dict[str | None, list[tuple[str, str]]] = {}
    found: dict[str, list[str]] = {}
    waiting: list[tuple[str, str]] = []
    for cell in submitted["cells"]:
        name = name_of(cell)
        if name is not None and name in release:
            found.setdefault(name, []).append(source_of(cell))
            own.setdefault(name, []).extend(waiting)
            waiting = []
        elif cell.get("cell_type") == "code":
            waiting.append((OWN, source_of(cell)))
    own[None] = waiting
    return own, found
