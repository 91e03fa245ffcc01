"""Modules and functions are short enough to read at once. (The length of lines is ruff's rule E501.)

This holds for the library and all programs beside it. Files of tests have the same limit of lines; a test may be longer
than a function, for it is read from top to bottom.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("xattn_edu", "tools", "benchmarks", "datasets")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MODULE_LINES = 600
FUNCTION_LINES = 60
REASON = "# Long because"  # in the comment directly above a function, its decorators included


def long_functions(source: str) -> list[str]:
    """Functions and methods of more than 60 lines, from `def` to their end, with no comment that gives a reason."""
    lines, found = source.splitlines(), []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length <= FUNCTION_LINES:
            continue
        above = min(line.lineno for line in (node, *node.decorator_list)) - 1  # the lines before the first decorator
        comment = []
        while above and lines[above - 1].strip().startswith("#"):
            above -= 1
            comment.insert(0, lines[above].strip())
        if not any(line.startswith(REASON) for line in comment):
            found.append(f"{node.name}: {length} lines")
    return found


def test_all_programs_are_looked_at():
    assert {ROOT / "xattn_edu" / "models" / "vit.py", ROOT / "tools" / "course.py"} <= set(FILES)
    assert {ROOT / "tests" / "conftest.py", ROOT / "tests" / "repository" / "test_sizes.py"} <= set(TESTS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_and_its_functions_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MODULE_LINES
    assert long_functions(source) == []


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_of_tests_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


BODY = "    x = 1\n" * 59
TOO_LONG = "def f():\n" + BODY + "    y = 2\n"  # 61 lines


def test_a_long_function_is_found_wherever_it_stands():
    assert long_functions("def f():\n" + BODY) == []  # 60 lines
    assert long_functions(TOO_LONG) == ["f: 61 lines"]
    assert long_functions("async " + TOO_LONG) == ["f: 61 lines"]
    inside = "".join(f"    {line}\n" for line in TOO_LONG.splitlines())
    assert long_functions("class A:\n" + inside) == ["f: 61 lines"]
    assert long_functions("def outer():\n" + inside) == ["outer: 62 lines", "f: 61 lines"]


def test_only_a_reason_directly_above_excuses_it():
    for above in ("# Long because it is one table.\n", "# Long because\n# it is one table.\n@decorator\n@another(1)\n"):
        assert long_functions("import os\n\n\n" + above + TOO_LONG) == []
    for above in ("# A comment.\n", "# Long because of a table.\n\n", "# Long because\nx = 1\n", '"# Long because"\n'):
        assert long_functions(above + TOO_LONG) == ["f: 61 lines"]
    assert long_functions(TOO_LONG.replace("def f():\n", "def f():  # Long because\n")) == ["f: 61 lines"]
