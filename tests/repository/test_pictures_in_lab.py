"""The keyboard in JupyterLab: keys change a stored picture, and JupyterLab, which has shortcuts, does not take them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.in_chromium import chromium, needs_chromium
from test_setup import PATIENCE, ROOT, answer, load

NAMES = ("query_in_the_plane", "cost_of_a_vit", "overlaps", "seeds", "big_and_small_letters")
ACTIVE = "window.jupyterapp.shell.currentWidget.content.activeCellIndex"
SHOW = "async index => { await window.jupyterapp.shell.currentWidget.content.scrollToItem(index, 'start'); }"


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab on a notebook with the pictures, stored and trusted."""
    for needed in ("jupyterlab", "anywidget"):
        pytest.importorskip(needed)
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    sources = ["from xattn_edu import interactive", *(f"interactive.{name}()" for name in NAMES)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}  # else JupyterLab asks for one
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbclient.NotebookClient(notebook, timeout=PATIENCE).execute()
    path = tmp_path / "notebooks" / "pictures.ipynb"
    path.parent.mkdir()
    nbformat.write(notebook, path)
    course, home = load(ROOT), tmp_path / "home"
    course.PYTHON = Path(sys.executable)
    trust = [sys.executable, "-m", "jupyter", "trust", str(path)]
    subprocess.run(trust, env=course.environment(home), check=True, capture_output=True)
    port = course.free_port()
    options = ("--no-browser", "--LabApp.expose_app_in_browser=True")
    command, variables = course.jupyterlab(port, "secret", path.parent, home, options)
    server = subprocess.Popen(command, env=variables)
    try:
        answer(server, f"http://127.0.0.1:{port}/api")
        yield f"http://127.0.0.1:{port}/lab/tree/{path.name}?token=secret"
    finally:
        server.terminate()
        server.wait(PATIENCE)


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_keys_change_the_pictures_and_no_other_cell_becomes_active(lab):
    with chromium(width=1400) as page:
        page.goto(lab)
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()

        def picture(name):
            page.evaluate(SHOW, 1 + NAMES.index(name))  # JupyterLab draws a cell only when it is near
            cell = page.locator(".jp-Notebook .jp-CodeCell").filter(has_text=f"interactive.{name}()")
            return cell.locator("[data-computed]")

        def press(name, role, label, *keys):
            control = picture(name).get_by_role(role, name=label, exact=True).first
            control.focus()
            active = page.evaluate(ACTIVE)
            for key in keys:
                page.keyboard.press(key)
            assert page.evaluate(ACTIVE) == active
            return json.loads(picture(name).get_attribute("data-computed"))

        query = "query: left and right turn it, up and down change its length"
        turned = press("query_in_the_plane", "slider", query, "ArrowLeft", "ArrowUp", "ArrowDown")
        assert (turned["degrees"], turned["length"]) == (95, 2)
        assert press("cost_of_a_vit", "slider", "depth", "ArrowUp", "ArrowRight", "ArrowLeft")["depth"] == 13
        assert press("cost_of_a_vit", "button", "8 px", "Enter")["tokens"] == 785
        paint = "hit: arrow keys move the paint, shift and arrow keys change its size"
        moved = press("overlaps", "application", paint, "ArrowLeft", "ArrowDown", "Shift+ArrowDown")
        assert moved["painted"][0] == [3, 2, 5, 4]
        assert press("seeds", "button", "draw 100", "Space")["count"] == 100
        assert press("big_and_small_letters", "button", "Z", "Enter")["big"] == 3
