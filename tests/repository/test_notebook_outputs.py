"""notebooks/conftest.py: which new outputs of a notebook count as equal to the stored ones, and which do not."""

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path

import pytest

pytest.importorskip("nbval")

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "notebooks" / "conftest.py"
_spec = importlib.util.spec_from_file_location("notebook_outputs", PLUGIN)
plugin = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plugin)


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ("0.0000", "-0.0000"),
        ("+0.0 %", "-0.0 %"),
        ("0.839", "0.840"),
        ("0.840", "0.839"),
        ("-1.00", "-0.99"),
        ("9.9e-01", "1.0e+00"),
        ("gradient 3e-02", "gradient 4e-02"),
        ("1,234.5 MACs", "1,234.4 MACs"),
        ("tensor([1.0000, 0.2500])", "tensor([0.9999, 0.2501])"),
        ("[1. 1.]", "[1.     0.9999]"),
        ("[ 0.022  0.344]", "[0.021 0.344]"),
        ("[[ 0.065  0.   ]\n [ 0.332 -0.007]]", "[[ 0.065 -0.   ]\n [ 0.332 -0.007]]"),
        ("[0. 0.]", "[-0.  0.]"),
        ("[nan 1.]", "[nan 1.]"),
        ("a   b\n", "a b"),
        ("score -0.00", "score 0.00"),
        ("1997-03-05", "1997-03-05"),
        ("12_000 pairs", "12_000 pairs"),
        ("2.1 ± 0.3 s, 83.7%", "2.2 ± 0.2 s, 83.8%"),
        ("84 %", "85 %"),
    ],
)
def test_equal(stored, new):
    assert plugin.difference(stored, new) is None


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ("0.839", "0.841"),
        ("0.84", "0.8379"),  # of two prints the finer one gives the unit
        ("1.", "0."),
        ("1.0", "-1.0"),
        ("-0.4", "0.4"),
        ("[1. 1.]", "[1. 0.]"),
        ("[0.22 0.1 ]", "[0.22 0.2 ]"),  # 0.10 and 0.20
        ("[[0.25 0.5 ]\n [0.   0.  ]]", "[[0.25 0.5 ]\n [0.1  0.  ]]"),
        ("tensor([0.2500, 1.0000])", "tensor([0.2500, 1.0002])"),
        ("3e-02", "5e-02"),
        ("1e-05", "1e-06"),
        ("largest difference 3.1e-09", "largest difference 1.2e-08"),
        ("36 tests", "37 tests"),
        ("84 %", "86 %"),
        ("84", "85"),
        ("1,234", "1,235"),
        ("12_000", "12_001"),
        ("(2, 6, 8)", "(2, 6, 9)"),
        ("1997-03-05", "1997-03-06"),
        ("1997-03", "1997 03"),
        ("torch 2.13.0", "torch 2.14.0"),
        ("20.4.2858", "20.5.2858"),
        ("ViT-B16", "ViT-B17"),
        ("loss 0.5", "loss nan"),
        ("[0.5 0.5]", "[0.5 nan]"),
        ("0.5", "inf"),
        ("inf", "-inf"),
        ("True", "False"),
        ("more", "less"),
        ("more", "More"),
        ("nan", "NaN"),
        ("한국어", "한국"),
        ("0.5 %", "0.5"),
        ("a b", "ab"),
        ("1 2", "12"),
        ("one\ntwo", "one"),
        ("one", "one\ntwo"),
        ("one\ntwo", "one two"),
        ("one\n\ntwo", "one\ntwo"),
        ("0.5 0.5", "0.5"),
        ("", "0.5"),
    ],
)
def test_different(stored, new):
    assert plugin.difference(stored, new)
    assert plugin.difference(new, stored)


@pytest.mark.parametrize(
    ("stored", "new", "equal"),
    [
        ("99.5 % of 2,000", "98.0 % of 2,000", True),
        ("99.5 % of 2,000", "97.4 % of 2,000", False),
        ("99.5 % of 2,000", "99.5 % of 2,001", False),
        ("94 % of 16 places", "92 % of 16 places", True),
        ("94 % of 16 places", "91 % of 16 places", False),
        ("94% of 16 places", "94% of 15 places", False),
        ("0.9 right", "nan right", False),
        ("0.9 right", "0.9 wrong", False),
        ("9e-01", "2e+00", True),
    ],
)
def test_a_wider_tolerance_is_for_measured_numbers_alone(stored, new, equal):
    assert (plugin.difference(stored, new, Decimal(2)) is None) == equal
    assert (plugin.difference(new, stored, Decimal(2)) is None) == equal


def test_a_difference_is_shown():
    said = plugin.difference("same\nloss 0.52 here", "same\nloss 0.55 here")
    assert said.split("\n") == ["line 2", "  stored: loss 0.52 here", "  new:    loss 0.55 here"]
    assert "(no line)" in plugin.difference("one\ntwo", "one")


# The whole: cells with stored outputs, run by pytest --nbval.


def text(words):
    return {"output_type": "stream", "name": "stdout", "text": words}


def shown(**data):
    return {"output_type": "display_data", "metadata": {}, "data": {k.replace("_", "/"): v for k, v in data.items()}}


FIGURE = shown(image_png="AAAA", text_plain="<Figure>")
SHOW = "display({'image/png': 'BBBB', 'text/plain': '<Figure>'}, raw=True)"
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "3 rows", "traceback": []}
LATE = """
import time

kernel = get_ipython().kernel
send = kernel.session.send


def late(stream, message, *rest, **more):  # the cell's last message, after its answer
    if message == "status":
        kernel.session.send = send
        time.sleep(6)
    return send(stream, message, *rest, **more)


kernel.session.send = late
print("late")
"""

WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURE = {
    "image/png": "AAAA",
    "text/plain": "<Picture turn: a query>\nkeys: 8 numbers 0.12",
    WIDGET: {"model_id": "1"},
}
STORED = {"output_type": "display_data", "metadata": {}, "data": PICTURE}


def show(**changed):
    return f"display({PICTURE | {WIDGET: {'model_id': '2'}} | changed}, raw=True)"


CELLS = {  # name: (source, stored outputs, tags, whether it passes)
    "the same": ("print('loss 0.839')", [text("loss 0.839\n")], [], True),
    "the last digit": ("print('loss 0.840')", [text("loss 0.839\n")], [], True),
    "the sign of zero": ("print(-0.0)", [text("0.0\n")], [], True),
    "another picture": (SHOW, [FIGURE], [], True),
    "late": (LATE, [text("late\n")], [], True),
    "a print in two pieces": ("print(1, flush=True); print(2)", [text("1\n"), text("2\n")], [], True),
    "a progress bar": ("display({'application/vnd.jupyter.widget-view+json': {}, 'text/plain': '0%'}, raw=True)",
                       [], [], True),
    "a picture that answers": (show(), [STORED], [], True),
    "its last digit": (show(**{"text/plain": PICTURE["text/plain"].replace("0.12", "0.13")}), [STORED], [], True),
    "its name": (show(**{"text/plain": PICTURE["text/plain"].replace("turn", "bend")}), [STORED], [], False),
    "its data": (show(**{"text/plain": PICTURE["text/plain"].replace("0.12", "0.14")}), [STORED], [], False),
    "its widget": (show().replace(WIDGET, "text/html").replace("{'model_id': '2'}", "''"), [STORED], [], False),
    "no picture any more": ("pass", [STORED], [], False),
    "a value": (
        "0.84",
        [{**shown(text_plain="0.83"), "output_type": "execute_result", "execution_count": 1}],
        [],
        True,
    ),
    "the error": ("raise ValueError('3 rows')", [ERROR], ["raises-exception"], True),
    "within": ("print(0.5)", [text("0.6\n")], ["numbers-within-0.2"], True),
    "not within": ("print(0.5)", [text("0.8\n")], ["numbers-within-0.2"], False),
    "a tag that says nothing": ("print(0.5)", [text("0.5\n")], ["numbers-within-reason"], False),
    "ignored": ("print('now')", [text("then\n")], ["nbval-ignore-output"], True),
    "two digits off": ("print('loss 0.841')", [text("loss 0.839\n")], [], False),
    "a word": ("print('gain 0.839')", [text("loss 0.839\n")], [], False),
    "a missing line": ("print('one')", [text("one\ntwo\n")], [], False),
    "an extra line": ("print('one\\ntwo')", [text("one\n")], [], False),
    "NaN": ("print(float('nan'))", [text("0.5\n")], [], False),
    "a missing figure": ("pass", [FIGURE], [], False),
    "a missing second figure": (SHOW, [FIGURE, FIGURE], [], False),
    "a figure that is text": ("display({'text/plain': '<Figure>'}, raw=True)", [FIGURE], [], False),
    "an extra figure": (SHOW, [], [], False),
    "another size": (SHOW.replace("Figure", "Figure 2"), [shown(image_png="AAAA", text_plain="<Figure 1>")], [], False),
    "a missing output": ("pass", [text("one\n")], [], False),
    "an extra output": ("print('one')", [], [], False),
    "a warning": ("import sys; print('one', file=sys.stderr)", [], [], False),
    "another order": (f"{SHOW}; print(1)", [text("1\n"), FIGURE], [], False),
    "a table's number": (
        "display({'text/html': '<td>0.8</td>'}, raw=True)",
        [shown(text_html="<td>0.5</td>")],
        [],
        False,
    ),
    "another error": ("raise ValueError('4 rows')", [ERROR], ["raises-exception"], False),
    "no error": ("pass", [ERROR], ["raises-exception"], False),
    "an unforeseen error": ("raise ValueError('3 rows')", [], [], False),
}  # fmt: skip


def check(folder, cells, *options):
    """Run cells as one notebook; for each the words of its failure, or None."""
    shutil.copy(PLUGIN, folder)
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}
    for number, (source, outputs, tags, _) in enumerate(cells):
        cell = {"cell_type": "code", "id": str(number), "execution_count": 1, "metadata": {"tags": tags}}
        notebook["cells"].append({**cell, "source": source, "outputs": outputs})
    (folder / "made.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    options = ("--nbval", "--nbval-current-env", "--junitxml=out.xml", "-p", "no:cacheprovider", *options, "made.ipynb")
    done = subprocess.run([sys.executable, "-m", "pytest", *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout
    found = ET.parse(folder / "out.xml").findall(".//testcase")
    return ["".join(part.text for part in case if part.tag in ("failure", "error")) or None for case in found]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = check(tmp_path_factory.mktemp("notebook"), CELLS.values())
    assert len(found) == len(CELLS)
    return dict(zip(CELLS, found))


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_cell(results, name):
    assert (results[name] is None) == CELLS[name][-1], results[name]


def test_a_failure_shows_both_lines(results):
    assert "stored: loss 0.839\n  new:    loss 0.841" in results["two digits off"]
    assert "stored: image/png, text/plain\n  new:    nothing" in results["a missing figure"]
    assert "the tag numbers-within-reason states no number" in results["a tag that says nothing"]


@pytest.mark.slow
def test_a_cell_over_its_time_limit_fails(tmp_path):
    cells = [("import time; time.sleep(3600)", [], [], False)]
    (said,) = check(tmp_path, cells, "--nbval-cell-timeout=1", "--nbval-kernel-startup-timeout=900")
    assert "Timeout of 1 seconds exceeded" in said


# The tags in the lessons


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_cell_whose_output_may_differ_asserts_what_must_hold(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "nbval-ignore-output" in tags or any(tag.startswith(plugin.WIDER) for tag in tags):
            source = "".join(cell["source"])
            if source != "profile = choose_profile()\nprint(profile)":  # names the machine, which nothing can hold for
                assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(source))), source
            assert cell["outputs"], f"there is no output to ignore: {source}"
