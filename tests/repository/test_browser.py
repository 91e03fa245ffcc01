"""A reader's first minutes in a real browser: JupyterLab starts, the first notebook runs and shows its figures."""

import json
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest
from test_setup import PATIENCE, ROOT, answer, load

NOTEBOOK = "01_attention_in_numpy.ipynb"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)"),
    pytest.mark.skipif(not (ROOT / "notebooks" / NOTEBOOK).exists(), reason=f"there is no notebooks/{NOTEBOOK} yet"),
]

# No sandbox, because root may not have one; nothing that would ask the network by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]

RUN_ALL = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const panel = app.shell.currentWidget;
    await panel.revealed;
    await panel.sessionContext.ready;
    await app.commands.execute('notebook:run-all-cells');
    return panel.content.widgets.map(cell => cell.model.toJSON());
}"""

SHOW_CELL = "async index => { await window.jupyterapp.shell.currentWidget.content.scrollToItem(index, 'start'); }"


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab on a copy of the first notebook, stripped of what it had shown."""
    course = load(ROOT)
    if not course.PYTHON.exists():
        pytest.skip("needs the environment that `make lab` makes")
    notebook = json.loads((ROOT / "notebooks" / NOTEBOOK).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / NOTEBOOK).write_text(json.dumps(notebook), encoding="utf-8")
    port = course.free_port()
    options = ("--no-browser", "--LabApp.expose_app_in_browser=True")
    command, variables = course.jupyterlab(port, "secret", tmp_path / "notebooks", tmp_path / "home", options)
    variables.update(course.REPRODUCIBLE)
    server = subprocess.Popen(command, env=variables)
    try:
        answer(server, f"http://127.0.0.1:{port}/api")
        yield f"http://127.0.0.1:{port}/lab/tree/{NOTEBOOK}?token=secret"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def test_the_first_notebook_runs_in_the_browser(lab):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * PATIENCE)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(1000 * PATIENCE)
        addresses = []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("websocket", lambda socket: addresses.append(socket.url))
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
        page.evaluate(SHOW_CELL, figures[0])
        image = page.locator(".jp-OutputArea-output img").first
        image.wait_for()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100

        assert len(addresses) > 10
        fetched = [address for address in addresses if not address.startswith(("data:", "blob:"))]
        assert {urlsplit(address).hostname for address in fetched} == {"127.0.0.1"}
        browser.close()
