"""What the tests of the exercises share: the exercises as the notebooks store them, and verdicts on answers."""

import ast
import contextlib
import functools
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from xattn_edu import exercises

LESSONS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
Answer = Callable[..., Any]


class Exercise(NamedTuple):
    """An exercise in a notebook: the name of its check, the source of its cell, the solution folded away above it."""

    lesson: Path
    name: str
    source: str
    solution: str


def exercises_in(lesson: Path) -> list[Exercise]:
    """The exercises of a notebook. Their cells carry the tag `exercise`; the cell before holds the solution."""
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    found = []
    for before, cell in zip(cells, cells[1:]):
        if "exercise" in cell["metadata"].get("tags", []):
            source = "".join(cell["source"])
            (name,) = re.findall(r"exercises\.(\w+)\(", source)
            unquoted = re.sub(r"(?m)^> ?", "", "".join(before["source"]))
            (solution,) = re.findall(r"(?s)<summary>Solution</summary>.*?```python\n(.*?)```", unquoted)
            found.append(Exercise(lesson, name, source, solution))
    return found


def imported_in(lesson: Path) -> dict[str, Any]:
    """The names that the import statements of a notebook bind, and nothing else."""
    namespace: dict[str, Any] = {}
    for cell in json.loads(lesson.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    exec(compile(ast.Module([node], []), str(lesson), "exec"), namespace)
    return namespace


@functools.cache
def verdict(exercise: str, answer: Answer) -> str:
    """What the check prints about an answer."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        getattr(exercises, exercise)(answer)
    return printed.getvalue()


def causes_in(number: str) -> list[str]:
    """The explanations of mistakes in the source of a lesson's checks: the keys of dictionaries that are sentences."""
    source = Path(exercises.__file__).with_name(f"lesson_{number}.py").read_text(encoding="utf-8")
    keys = []
    for node in ast.walk(ast.parse(source)):
        keys += node.keys if isinstance(node, ast.Dict) else []
        keys += [node.slice] if isinstance(node, ast.Subscript) else []
    begun = [key.values[0] for key in keys if isinstance(key, ast.JoinedStr)]
    texts = [key.value for key in [*keys, *begun] if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return [text for text in texts if " " in text and (text[-1] in ".?!" or text in {b.value for b in begun})]
