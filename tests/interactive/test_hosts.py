"""All pictures in one notebook: its size, and in JupyterLab a stranger's copy, a trusted one, and one that runs."""

import importlib.util
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from helpers.in_chromium import PATIENCE, chromium, needs_chromium

from xattn_edu import interactive
from xattn_edu.interactive.picture import stored_html

ROOT = Path(__file__).parents[2]
PICTURES = [name for name in interactive.__all__ if name != "Picture"]
CODE = {  # what is not made without an argument
    "dates": """\
import torch
from xattn_edu.data import translation
from xattn_edu.models.transformer import Transformer
model = Transformer(len(translation.VOCABULARY), width=64, depth=2, heads=4, hidden=64)
interactive.dates(model, ["5 March 1997"])""",
}
RUN_ALL = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    await app.shell.currentWidget.sessionContext.ready;
    await app.commands.execute('notebook:run-all-cells');
}"""


def tool(name):
    """A file of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def notebook():
    """All pictures, a cell each, run and stored as `make notebooks` stores them."""
    pytest.importorskip("anywidget")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [nbformat.v4.new_code_cell("from xattn_edu import interactive")]
    cells += [nbformat.v4.new_code_cell(CODE.get(name, f"interactive.{name}()")) for name in PICTURES]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    made = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(made, timeout=PATIENCE * 5, kernel_name="python3").execute()
    return tool("stored").tidy(json.loads(nbformat.writes(made)))


@pytest.mark.slow
def test_a_notebook_of_all_pictures_is_small_and_holds_what_makes_them_answer(notebook):
    size = len(json.dumps(notebook))
    assert size < 1_500_000, f"{size:,} bytes"
    state = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    models = [model["state"] for model in state.values() if model["model_name"] == "AnyModel"]
    assert len(models) == len(PICTURES)
    assert all("export default" in model["_esm"] and model["data"]["colours"] for model in models)
    for cell in notebook["cells"][1:]:
        # A machine without a Korean font is told so beside the picture of dates.
        (output,) = (output for output in cell["outputs"] if output["output_type"] != "stream")
        assert output["data"].keys() == {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"}
        assert output["data"]["application/vnd.jupyter.widget-view+json"]["model_id"] in state
        assert len(output["data"]["image/png"]) < 80_000


@pytest.mark.slow
def test_a_page_can_be_made_of_a_stored_picture(notebook):
    models = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    cell = notebook["cells"][1 + PICTURES.index("heads_and_masks")]
    assert stored_html(cell["outputs"][0]["data"], models) == interactive.heads_and_masks().html()


@pytest.fixture
def lab(notebook, tmp_path):
    """JupyterLab on two copies of the notebook, of which one is trusted: its address."""
    import nbformat
    from nbformat.sign import NotebookNotary

    folder = tmp_path / "notebooks"
    folder.mkdir()
    stranger = json.loads(json.dumps(notebook))
    stranger["cells"][0]["source"] += "  # from a stranger"
    for name, made in (("trusted", notebook), ("stranger", stranger)):
        (folder / f"{name}.ipynb").write_text(json.dumps(made), encoding="utf-8")
    data = tmp_path / "home" / "data"
    data.mkdir(parents=True)
    NotebookNotary(data_dir=str(data)).sign(nbformat.read(folder / "trusted.ipynb", as_version=4))
    module = tool("course")
    module.PYTHON = Path(sys.executable)
    port = module.free_port()
    options = ("--no-browser", "--LabApp.expose_app_in_browser=True")
    command, variables = module.jupyterlab(port, "secret", folder, tmp_path / "home", options)
    variables.update(module.REPRODUCIBLE, PYTHONPATH=str(ROOT))
    server = subprocess.Popen(command, env=variables)
    try:
        for _ in range(10 * PATIENCE):
            assert server.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api")
                break
            except OSError:
                time.sleep(0.2)
        yield lambda name: f"http://127.0.0.1:{port}/lab/tree/{name}.ipynb?token=secret&reset"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def show_all(page, selector):
    """Scroll through the notebook, because JupyterLab draws only the cells in view; how many elements were seen."""
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    seen, end = 0, time.monotonic() + PATIENCE
    while seen < len(PICTURES) and time.monotonic() < end:
        for number in range(1, len(PICTURES) + 1):
            page.evaluate(
                "async index => { const notebook = window.jupyterapp.shell.currentWidget.content;"
                " await notebook.scrollToItem(index, 'start'); }",
                number,
            )
            page.wait_for_timeout(500)  # between two looks; what ends the wait is the number of pictures
            seen = max(seen, page.locator(selector).count())
    return seen


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_in_jupyterlab_every_picture_answers_or_is_a_png(lab):
    with chromium(1400) as page:
        page.goto(lab("stranger"))  # untrusted: no script runs, and the PNG stands in its place
        assert show_all(page, ".jp-OutputArea-output img") == len(PICTURES)
        assert page.locator(".xattn-picture").count() == 0

        page.goto(lab("trusted"))  # stored and trusted: alive without running anything
        assert show_all(page, ".xattn-picture[data-computed]") == len(PICTURES)
        at = PICTURES.index("heads_and_masks")
        picture = page.locator(".xattn-picture[data-computed]").nth(at)
        picture.get_by_role("combobox", name="mask").select_option(value="causal")
        assert json.loads(picture.get_attribute("data-computed"))["mask"] == "causal"

        page.evaluate(RUN_ALL)  # with a kernel: the reader's own sentence
        picture.get_by_role("textbox", name="your sentence").fill("the white cat")
        picture.get_by_role("button", name="Run the model").click()
        picture.locator("svg text", has_text="cat").first.wait_for()
        assert len(json.loads(picture.get_attribute("data-computed"))["weights"]) == 5
