"""tools/course.py keeps pictures that answer in the stored notebooks, and `make lab` trusts the unchanged notebooks."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_setup import ROOT, load

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def notebook(picture, layout, bar):
    """A notebook with one picture and one progress bar, whose models have these ids."""
    models = {
        bar: {"model_name": "FloatProgressModel", "state": {}},
        picture: {"model_name": "AnyModel", "state": {"layout": f"IPY_MODEL_{layout}", "data": {"n": 1}}},
        layout: {"model_name": "LayoutModel", "state": {}},
    }
    outputs = [
        {"output_type": "display_data", "data": {VIEW: {"model_id": bar}, "text/plain": "0%"}},
        {"output_type": "display_data", "data": {VIEW: {"model_id": picture}, "image/png": "A", "text/plain": "<P>"}},
        {"output_type": "stream", "text": "done"},
    ]
    cells = [{"cell_type": "markdown", "id": "m"}, {"cell_type": "code", "id": "c", "outputs": outputs}]
    return {"cells": cells, "metadata": {"widgets": {STATE: {"state": models}}}}


def test_a_picture_is_kept_with_its_models_and_a_progress_bar_is_not():
    course = load(ROOT)
    stored = notebook("a1", "b2", "c3")
    state = course.kept_widgets(stored)["widgets"][STATE]["state"]
    view, words = stored["cells"][1]["outputs"]
    assert words["text"] == "done" and view["data"]["image/png"] == "A"
    picture = state.pop(view["data"][VIEW]["model_id"])
    (layout,) = state  # and no other model
    assert picture["state"] == {"layout": f"IPY_MODEL_{layout}", "data": {"n": 1}}


def test_random_ids_make_no_difference_in_what_is_stored():
    course, one, other = load(ROOT), notebook("a1", "b2", "c3"), notebook("f9", "e8", "d7")
    assert course.kept_widgets(one) == course.kept_widgets(other)
    assert one["cells"] == other["cells"]
    assert course.kept_widgets({"cells": one["cells"][:1], "metadata": {}}) == {}


@pytest.fixture
def clone(tmp_path):
    """A clone with three notebooks: as committed, changed since, and new."""
    root = tmp_path / "clone"
    (root / "tools").mkdir(parents=True)
    (root / "notebooks").mkdir()
    for name in ("tools/course.py", "pyproject.toml", "requirements.txt"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    empty = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
    cell = {"cell_type": "code", "id": "c", "execution_count": 1, "metadata": {}, "source": "1"}
    cell["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": {"text/html": "<b>1</b>"}}]
    for name in ("same", "changed"):
        text = json.dumps(empty | {"cells": [copy.deepcopy(cell) | {"id": name}]})
        (root / "notebooks" / f"{name}.ipynb").write_text(text)
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@x", "-c", "core.autocrlf=false"]
    for command in (["init", "-q"], ["add", "notebooks"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    changed = root / "notebooks" / "changed.ipynb"
    changed.write_text(changed.read_text().replace("<b>1</b>", "<b>2</b>"))
    (root / "notebooks" / "new.ipynb").write_text(json.dumps(empty | {"cells": [cell | {"id": "new"}]}))
    return root


@pytest.mark.slow
def test_make_lab_trusts_the_notebooks_that_are_as_in_the_last_commit(clone, tmp_path, capsys):
    nbformat = pytest.importorskip("nbformat")
    sign = pytest.importorskip("nbformat.sign")
    course = load(clone)
    course.PYTHON = Path(sys.executable)
    course.trust(tmp_path / "home")
    assert capsys.readouterr().out == "1 of 3 notebooks are as in the last commit: their pictures answer on opening\n"
    notary = sign.NotebookNotary(data_dir=str(tmp_path / "home" / "data"))
    trusted = {
        path.stem: notary.check_signature(nbformat.read(path, as_version=4))
        for path in (clone / "notebooks").glob("*.ipynb")
    }
    assert trusted == {"same": True, "changed": False, "new": False}


def test_without_git_nothing_is_trusted(clone, monkeypatch, capsys):
    course = load(clone)
    monkeypatch.setenv("PATH", str(clone))
    monkeypatch.setattr(course.subprocess, "call", lambda *_, **__: pytest.fail("nothing is to be trusted"))
    course.trust()
    assert "git vouches for no notebook" in capsys.readouterr().out


def test_line_ends_of_windows_are_no_change(tmp_path):
    course = load(ROOT)
    for ends in (b"\n", b"\r\n"):
        (tmp_path / "a").write_bytes(b"x" + ends)
        assert course.blob(tmp_path / "a") == "587be6b4c3f93f93c489c0111bba5596147a26cb"
