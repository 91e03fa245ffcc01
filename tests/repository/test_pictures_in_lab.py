"""The pictures in JupyterLab without a network: run there; stored and trusted; stored and not trusted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.in_chromium import chromium, needs_chromium
from test_setup import PATIENCE, ROOT, answer, load

pytestmark = [needs_chromium, pytest.mark.browser, pytest.mark.slow]
NAMES = ("query_in_the_plane", "cost_of_a_vit", "overlaps", "seeds", "big_and_small_letters")
ACTIVE = "window.jupyterapp.shell.currentWidget.content.activeCellIndex"
RUN_ALL = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const panel = app.shell.currentWidget;
    await panel.revealed;
    await panel.sessionContext.ready;
    await app.commands.execute('notebook:run-all-cells');
}"""
SHOW = "async index => { await window.jupyterapp.shell.currentWidget.content.scrollToItem(index, 'start'); }"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    for needed in ("jupyterlab", "anywidget", "nbclient"):
        pytest.importorskip(needed)
    module = load(ROOT)
    module.PYTHON = Path(sys.executable)
    return module


@pytest.fixture(scope="module")
def lab(course, tmp_path_factory):
    """A JupyterLab on three copies of a notebook with all pictures: without outputs, stored, stored and trusted."""
    import nbclient
    import nbformat
    from nbformat import v4

    root = tmp_path_factory.mktemp("lab")
    (root / "notebooks").mkdir()
    sources = ["from xattn_edu import interactive", *(f"interactive.{name}()" for name in NAMES)]
    empty = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
    stored = nbclient.NotebookClient(json_copy(empty), timeout=PATIENCE).execute()
    for name, notebook in (("empty", empty), ("stored", stored), ("trusted", stored)):
        cells = [{**cell, "id": f"{name}-{index}"} for index, cell in enumerate(notebook["cells"])]  # else all are one
        nbformat.write(nbformat.from_dict({**notebook, "cells": cells}), root / "notebooks" / f"{name}.ipynb")
    port, home = course.free_port(), root / "home"
    trust = [str(course.PYTHON), "-m", "jupyter", "trust", str(root / "notebooks" / "trusted.ipynb")]
    subprocess.run(trust, env=course.environment(home), check=True, capture_output=True)
    options = ("--no-browser", "--LabApp.expose_app_in_browser=True")
    command, variables = course.jupyterlab(port, "secret", root / "notebooks", home, options)
    variables["PYTHONPATH"] = str(ROOT)  # the kernel is to import this clone's package
    server = subprocess.Popen(command, env=variables)
    try:
        answer(server, f"http://127.0.0.1:{port}/api")
        yield f"http://127.0.0.1:{port}/lab/tree/NAME.ipynb?token=secret"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def json_copy(notebook):
    import nbformat

    return nbformat.from_dict(json.loads(json.dumps(notebook)))


def scrolled_to(page, index):
    """The output of a cell, which JupyterLab draws only when it comes near the screen."""
    page.evaluate(SHOW, index)
    cell = page.locator(".jp-Notebook .jp-CodeCell").filter(has_text=f"interactive.{NAMES[index - 1]}()")
    return cell.locator(".jp-OutputArea-output")


def press_keys(page):
    """The arrow keys turn the query and move the paint, and no other cell becomes active."""

    def computed(index):
        picture = scrolled_to(page, index).locator("[data-computed]")
        return json.loads(picture.get_attribute("data-computed"))

    scrolled_to(page, 1).get_by_role("slider", name="query").focus()
    before = computed(1)["degrees"]
    for key in ("ArrowLeft", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert computed(1)["degrees"] == before + 5
    scrolled_to(page, 2).get_by_role("button", name="8 px", exact=True).press("Enter")
    assert computed(2)["tokens"] == 785
    scrolled_to(page, 3).get_by_role("application", name="hit").focus()
    active = page.evaluate(ACTIVE)
    for key in ("ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    assert computed(3)["painted"][0] == [3, 2, 4, 4] and page.evaluate(ACTIVE) == active
    scrolled_to(page, 4).get_by_role("button", name="draw 100").press("Space")
    assert computed(4)["count"] == 100
    scrolled_to(page, 5).get_by_role("group", name="big letter", exact=True).get_by_role("button", name="Z").press(
        "Enter"
    )
    assert computed(5)["big"] == 3


@pytest.mark.parametrize("name", ["empty", "trusted"])
def test_the_pictures_answer(lab, name):
    """Where they are run, and in a stored notebook that is trusted, without a cell being run."""
    with chromium(width=1400) as page:
        page.goto(lab.replace("NAME", name))
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        if name == "empty":
            page.evaluate(RUN_ALL)
        for index in range(1, len(NAMES) + 1):
            scrolled_to(page, index).locator("[data-computed]").wait_for()
        press_keys(page)


def test_a_notebook_that_is_not_trusted_shows_the_still_pictures(lab):
    with chromium(width=1400) as page:
        page.goto(lab.replace("NAME", "stored"))
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        for index in range(1, len(NAMES) + 1):
            image = scrolled_to(page, index).locator("img")
            image.wait_for()
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 500
        assert page.locator(".xattn-picture").count() == 0
