"""All pictures in one notebook: its size, and in JupyterLab a stranger's copy, a trusted one, and one that runs."""

import json
import time

import pytest
from helpers.in_chromium import PATIENCE, chromium, needs_chromium
from helpers.in_lab import READY, SHOW, jupyterlab, tool

from xattn_edu import interactive
from xattn_edu.interactive.picture import stored_html

PICTURES = [name for name in interactive.__all__ if name != "Picture"]
CODE = {  # what is not made without an argument
    "dates": """\
import torch
from xattn_edu.data import translation
from xattn_edu.models.transformer import Transformer
model = Transformer(len(translation.VOCABULARY), width=64, depth=2, heads=4, hidden=64)
interactive.dates(model, ["5 March 1997"])""",
}
RUN_ALL = f"async () => {{ {READY} await app.commands.execute('notebook:run-all-cells'); }}"
ACTIVE = "window.jupyterapp.shell.currentWidget.content.activeCellIndex"


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


@pytest.fixture(scope="module")
def lab(notebook, tmp_path_factory):
    """JupyterLab on two copies of the notebook, of which one is trusted: its address."""
    import nbformat
    from nbformat.sign import NotebookNotary

    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    stranger = json.loads(json.dumps(notebook))
    stranger["cells"][0]["source"] += "  # from a stranger"
    for name, made in (("trusted", notebook), ("stranger", stranger)):
        (folder / f"{name}.ipynb").write_text(json.dumps(made), encoding="utf-8")
    (home / "data").mkdir()
    NotebookNotary(data_dir=str(home / "data")).sign(nbformat.read(folder / "trusted.ipynb", as_version=4))
    with jupyterlab(folder, home) as address:
        yield lambda name: address(f"{name}.ipynb")


def show_all(page, selector):
    """Scroll through the notebook, because JupyterLab draws only the cells in view; how many elements were seen."""
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    seen, end = 0, time.monotonic() + PATIENCE
    while seen < len(PICTURES) and time.monotonic() < end:
        for number in range(1, len(PICTURES) + 1):
            page.evaluate(SHOW, number)
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


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_keys_change_the_pictures_and_no_other_cell_becomes_active(lab):
    with chromium(1400) as page:
        page.goto(lab("trusted"))
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()

        def picture(name):
            page.evaluate(SHOW, 1 + PICTURES.index(name))  # JupyterLab draws a cell only when it is near
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
