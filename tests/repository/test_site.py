"""A small site, built as `make site` builds the whole one: without a warning, every link checked, used in Chromium.

It has one lesson, a page of the docs, two modules, and a made notebook with what a lesson may have.
"""

import base64
import functools
import html
import http.server
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.in_chromium import chromium, needs_chromium

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools" / "site"
PIXEL = base64.b64encode((ROOT / "docs" / "attention.png").read_bytes()).decode()
pytest.importorskip("myst_nb")
sys.path.insert(0, str(TOOLS))
from links import faults, read  # noqa: E402
from stage import Fault, Stage  # noqa: E402

PAGES = ("notebooks/04_other_attentions.ipynb", "notebooks/99_made.ipynb", "docs/equations.md")
MODULES = ("xattn_edu", "xattn_edu.models.attention")

PICTURE = """\
export default {
  render({ model, el }) {
    return mount({ model, el }, (root, data) => {
      const says = saying();
      const show = (factor) => {
        expose(root, { product: factor * data.number });
        says.textContent = `${data.word} times ${factor}`;
      };
      root.append(slider("factor", { min: 0, max: 4, step: 1, value: 1 }, show), says);
      show(1);
    });
  },
};
"""


def markdown(text: str) -> dict:
    return {"cell_type": "markdown", "id": f"text-{abs(hash(text))}", "metadata": {}, "source": text}


def code(source: str, outputs: list[dict], *tags: str) -> dict:
    cell = {"cell_type": "code", "id": f"code-{abs(hash(source))}", "execution_count": 1, "source": source}
    return cell | {"metadata": {"tags": list(tags)}, "outputs": outputs}


def made_notebook() -> dict:
    """A notebook with a picture that answers, formulas, a folded solution, links, and cells that are not shown."""
    common = (ROOT / "xattn_edu" / "interactive" / "pictures" / "common.js").read_text(encoding="utf-8")
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "abc", "version_major": 2}}
    data = {"text/plain": "<Picture made: A factor to choose>\nnumber: 1", "image/png": PIXEL} | widget
    state = {"_esm": f"{common}\n{PICTURE}", "data": {"number": 2.5, "word": "</script> <b>한국</b>"}}
    models = {"state": {"abc": {"model_name": "AnyModel", "state": state}}, "version_major": 2, "version_minor": 0}
    cells = [
        markdown("# A made lesson\n\nThe zebra divides by $\\sqrt{d}$, see [4.1](04_other_attentions.ipynb)."),
        markdown("$$a \\cdot b \\tag{1}$$\n\n> **Exercise**\n>\n> <details><summary>Hint</summary>use $x^2$</details>"),
        markdown(
            "A [layer](../xattn_edu/models/attention.py), a [licence](../LICENSE), [1](01_attention_in_numpy.ipynb)."
        ),
        code("made_picture()", [{"output_type": "display_data", "data": data, "metadata": {}}]),
        code("secret_setting = 1", [], "remove-input"),
        code("folded_setting = 1", [], "hide-input"),
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "widgets": {"application/vnd.jupyter.widget-state+json": models}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The repository, of links, with the made notebook among its lessons."""
    folder = tmp_path_factory.mktemp("repository")
    for path in ROOT.iterdir():
        if path.name not in ("notebooks", "build") and not path.name.startswith("."):
            (folder / path.name).symlink_to(path, target_is_directory=path.is_dir())
    (folder / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        (folder / "notebooks" / path.name).symlink_to(path)
    (folder / "notebooks" / "homework").symlink_to(ROOT / "notebooks" / "homework", target_is_directory=True)
    (folder / "notebooks" / "99_made.ipynb").write_text(json.dumps(made_notebook()), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def site(repository, tmp_path_factory) -> Path:
    """The small site; a warning of Sphinx and a broken link end the program with an error."""
    out = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, TOOLS / "build.py", "--root", repository, "--out", out, "--only", *PAGES, *MODULES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "" and "the heaviest is" in done.stdout
    return out


@pytest.fixture(params=["from the disk", "from a server"])
def address(request, site):
    """Where the site is: opened from the disk, or from a plain server."""
    if request.param == "from the disk":
        yield site.as_uri()
        return
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    handler.log_message = lambda *arguments: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.slow
def test_pages_lead_to_one_another(site):
    made = (site / "notebooks" / "99_made.html").read_text(encoding="utf-8")
    assert re.search(r'href="04_other_attentions\.html#[\w-]+"', made)  # a section of it
    assert 'href="../api/xattn_edu.models.attention.html"' in made and 'href="../files/LICENSE.html"' in made
    assert "01_attention_in_numpy" not in made  # that page is not in this site
    equations = (site / "docs" / "equations.html").read_text(encoding="utf-8")
    assert 'href="../api/xattn_edu.models.attention.html#xattn_edu.models.attention.MultiHeadAttention"' in equations
    front = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="notebooks/04_other_attentions.html"' in front and "make lab" in front and "80 min" in front


@pytest.mark.slow
def test_figures_are_files_and_hidden_cells_stay_hidden(site):
    lesson = (site / "notebooks" / "04_other_attentions.html").read_text(encoding="utf-8")
    made = (site / "notebooks" / "99_made.html").read_text(encoding="utf-8")
    assert "../_images/" in lesson and "base64" not in lesson + made
    assert "secret_setting" not in made and "folded_setting" in made
    assert "katex" in lesson and "katex" not in (site / "docs" / "equations.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_reference_shows_shapes(site):
    page = (site / "api" / "xattn_edu.models.attention.html").read_text(encoding="utf-8")
    words = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert "query: Float[Tensor, '*batch query dim']" in words and "jaxtyping" not in words
    assert "_modules/xattn_edu/models/attention.html" in page


@pytest.mark.slow
@pytest.mark.browser
@needs_chromium
def test_the_site_answers_without_a_network(address):
    with chromium() as page:
        page.goto(f"{address}/search.html?q=zebra")
        link = page.locator("#search-results a", has_text="A made lesson")
        link.click()
        page.wait_for_url("**/99_made.html*")
        page.locator(".katex").first.wait_for()
        assert page.locator(".katex").count() == 3 and page.locator(".katex-error").count() == 0
        slider = page.locator(".picture input")
        slider.press("ArrowRight")
        found = json.loads(page.locator("[data-computed]").get_attribute("data-computed"))
        assert found == {"product": 5.0}
        assert "</script> <b>한국</b> times 2" in page.locator(".picture").inner_text()
        assert page.locator("details").count() == 2
        assert not page.locator("pre", has_text="folded_setting").is_visible()
        page.locator("details", has_text="folded_setting").locator("summary").click()
        assert page.locator("pre", has_text="folded_setting").is_visible()


@pytest.mark.slow
@pytest.mark.browser
@needs_chromium
def test_a_lesson_fits_a_telephone(site):
    for name in ("notebooks/04_other_attentions.html", "index.html", "api/xattn_edu.models.attention.html"):
        with chromium(width=480, dark=True) as page:
            page.goto((site / name).as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 480
            assert page.locator(".katex-error").count() == 0


@pytest.mark.slow
@pytest.mark.browser
@needs_chromium
def test_without_javascript_there_is_the_png(site):
    with chromium() as page:
        still = page.context.browser.new_page(java_script_enabled=False)
        still.set_default_timeout(120_000)
        still.goto((site / "notebooks" / "99_made.html").as_uri())
        image = still.locator('img[alt="A factor to choose"]')
        assert image.is_visible() and image.bounding_box()["width"] > 100


def test_broken_links_and_foreign_files_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="b.html#end">1</a><a href="b.html#lost">2</a><a href="lost.html">3</a>'
        '<a href="https://example.org">4</a><a href="#top">5</a><img src="lost.png">'
        '<script src="//cdn.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text(
        '<p id="end"></p><link rel="next" href="a.html"><img src="data:image/png;base64,">'
    )
    assert sorted(faults(read(tmp_path), tmp_path)) == [
        "a.html fetches //cdn.org/x.js",
        "a.html: b.html#lost leads to no anchor of that page",
        "a.html: lost.html leads to nothing",
        "a.html: lost.png leads to nothing",
    ]


def test_a_page_weighs_what_it_fetches(tmp_path):
    page = tmp_path / "a.html"
    page.write_text('<img src="b.png"><img src="b.png"><script src="_static/c.js"></script><a href="d.html">d</a>')
    (tmp_path / "_static" / "pictures").mkdir(parents=True)
    for name, size in (("b.png", 1000), ("_static/c.js", 200), ("d.html", 50)):
        (tmp_path / name).write_bytes(b"x" * size)
    (found,) = (each for path, each in read(tmp_path).items() if path == page.resolve())
    assert found.own() == page.stat().st_size + 1000 and found.weight() == found.own() + 200


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[3.1](../notebooks/03_encoder_decoder.ipynb)", "[3.1](../notebooks/03_encoder_decoder.ipynb#section-3-1)"),
        ("[4](../notebooks/04_other_attentions.ipynb)", "4"),
        ("[a `b` c](../xattn_edu/shapes.py)", "[a `b` c](../api/xattn_edu.shapes.rst)"),
        (
            "[f](../xattn_edu/shapes.py) `shaped`",
            "[f](../api/xattn_edu.shapes.rst) {py:obj}`shaped <xattn_edu.shapes.shaped>`",
        ),
        ("[all](../results), [runs](../results/benchmarks/fuzz.json)", "all, runs"),
        ("`x[0](y)` and\n```\nx[0](y)\n```", "`x[0](y)` and\n```\nx[0](y)\n```"),
        ("[web](https://example.org) [here](#there)", "[web](https://example.org) [here](#there)"),
    ],
)
def test_links_lead_to_pages_of_the_site(text, shown, tmp_path):
    stage = Stage(tmp_path, ["notebooks/03_encoder_decoder.ipynb", "docs/choices.md"], ["xattn_edu.shapes"])
    assert stage.markdown(text, "docs/choices.md") == shown


def test_a_link_to_nothing_is_a_fault(tmp_path):
    with pytest.raises(Fault, match=r"docs/choices\.md: the link to lost\.md leads to nothing"):
        Stage(tmp_path, [], []).markdown("[x](lost.md)", "docs/choices.md")
