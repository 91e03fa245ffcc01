"""tools/stored.py keeps pictures that answer in the stored notebooks, and `make lab` trusts the unchanged notebooks."""

import copy
import importlib.util
import json
import subprocess

import pytest
from test_setup import ROOT

_spec = importlib.util.spec_from_file_location("stored", ROOT / "tools" / "stored.py")
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)
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
    stored = tool.tidy(notebook("a1", "b2", "c3"))
    assert stored["metadata"]["kernelspec"]["name"] == "python3"
    state = stored["metadata"]["widgets"][STATE]["state"]
    view, words = stored["cells"][1]["outputs"]
    assert words["text"] == "done" and view["data"]["image/png"] == "A"
    picture = state.pop(view["data"][VIEW]["model_id"])
    (layout,) = state  # and no other model
    assert picture["state"] == {"layout": f"IPY_MODEL_{layout}", "data": {"n": 1}}


def test_random_ids_make_no_difference_in_what_is_stored():
    one, other = notebook("a1", "b2", "c3"), notebook("f9", "e8", "d7")
    assert tool.tidy(one) == tool.tidy(other)
    assert "widgets" not in tool.tidy({"cells": one["cells"][:1], "metadata": {}})["metadata"]


@pytest.fixture
def clone(tmp_path):
    """A clone with three notebooks: as committed, changed since, and new."""
    root = tmp_path / "clone"
    (root / "notebooks").mkdir(parents=True)
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
def test_make_lab_trusts_the_notebooks_that_are_as_in_the_last_commit(clone, tmp_path, monkeypatch):
    nbformat, sign = pytest.importorskip("nbformat"), pytest.importorskip("nbformat.sign")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))  # as tools/course.py sets it
    assert tool.trust(clone) == "1 of 3 notebooks are as in the last commit: their pictures answer on opening"
    trusted = {
        path.stem: sign.NotebookNotary(data_dir=str(tmp_path / "data")).check_signature(
            nbformat.read(path, as_version=4)
        )
        for path in (clone / "notebooks").glob("*.ipynb")
    }
    assert trusted == {"same": True, "changed": False, "new": False}


def test_without_git_nothing_is_trusted(clone, monkeypatch):
    sign = pytest.importorskip("nbformat.sign")
    monkeypatch.setenv("PATH", str(clone))
    monkeypatch.setattr(sign.NotebookNotary, "sign", lambda *_: pytest.fail("nothing is to be trusted"))
    assert "no notebook is known to git unchanged" in tool.trust(clone)


def test_line_ends_of_windows_are_no_change(tmp_path):
    for ends in (b"\n", b"\r\n"):
        (tmp_path / "a").write_bytes(b"x" + ends)
        assert tool.blob(tmp_path / "a") == "587be6b4c3f93f93c489c0111bba5596147a26cb"


def test_stored_pictures_have_the_modules_of_today():
    with_pictures = 0
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        assert tool.with_modules(copy.deepcopy(stored)) == stored, (
            f"python tools/stored.py pictures notebooks/{path.name}"
        )
        with_pictures += "widgets" in stored["metadata"]
    assert with_pictures == 8


def test_an_old_module_is_replaced_and_the_data_stay():
    old = json.loads((ROOT / "notebooks" / "01_attention_in_numpy.ipynb").read_text(encoding="utf-8"))
    new = copy.deepcopy(old)
    (picture,) = (model for model in old["metadata"]["widgets"][STATE]["state"].values() if "_esm" in model["state"])
    picture["state"]["_esm"] = "old"
    assert tool.with_modules(old) == new
