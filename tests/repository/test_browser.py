"""A reader's first minutes in a real browser: JupyterLab starts, the first notebook runs and shows its figures."""

import json

import pytest
from helpers.in_chromium import chromium, needs_chromium
from helpers.in_lab import READY, ROOT, SHOW, jupyterlab

NOTEBOOK = "01_attention_in_numpy.ipynb"
RUN_ALL = f"""async () => {{
    {READY}
    await app.commands.execute('notebook:run-all-cells');
    return panel.content.widgets.map(cell => cell.model.toJSON());
}}"""


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab on a copy of the first notebook, stripped of what it had shown."""
    pytest.importorskip("jupyterlab")
    notebook = json.loads((ROOT / "notebooks" / NOTEBOOK).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / NOTEBOOK).write_text(json.dumps(notebook), encoding="utf-8")
    with jupyterlab(tmp_path / "notebooks", tmp_path / "home") as address:
        yield address(NOTEBOOK)


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_the_first_notebook_runs_in_the_browser(lab):
    with chromium(1400) as page:
        addresses = []
        page.on("request", lambda request: addresses.append(request.url))
        page.goto(lab)
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        assert page.locator(".jp-Dialog").count() == 0  # neither news nor the choice of a kernel
        cells = page.evaluate(RUN_ALL)

        code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
        outputs = [output for cell in code for output in cell["outputs"]]
        assert [output["evalue"] for output in outputs if output["output_type"] == "error"] == []
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))

        figures = [i for i, cell in enumerate(cells) if '"image/png"' in json.dumps(cell.get("outputs"))]
        assert figures
        page.evaluate(SHOW, figures[0])
        image = page.locator(".jp-OutputArea-output img").first
        image.wait_for()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        assert len(addresses) > 10  # `chromium` has seen to it that none leaves this machine
