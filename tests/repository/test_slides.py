"""The lessons as slides: what each kind of cell becomes, and that a deck can be shown, printed and spoken to."""

import base64
import html
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import slides  # noqa: E402
from slides_parts import cells, check, lesson  # noqa: E402

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LESSONS = slides.notebooks()
in_chromium = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(check.CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)"),
]


def prose(source, kind=None, **slide):
    metadata = {"slideshow": {"slide_type": kind}} if kind else {}
    return {"cell_type": "markdown", "metadata": metadata | ({"slide": slide} if slide else {}), "source": [source]}


def code(source, kind=None, outputs=(), **slide):
    cell = prose(source, kind, **slide)
    return cell | {"cell_type": "code", "outputs": list(outputs), "execution_count": 1}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def picture(**more):
    return {"output_type": "display_data", "metadata": {}, "data": {"image/png": PNG, **more}}


TITLE = prose("# 1 · A lesson\n\n*Why?*\n\n**Time** is short.", "slide", show=["*Why?*"])


@pytest.fixture
def read(tmp_path):
    """The slides of a notebook with these cells; its pictures lie in tmp_path."""

    def read(*found):
        path = tmp_path / "01_lesson.ipynb"
        path.write_text(json.dumps({"cells": list(found)}), encoding="utf-8")
        return lesson.read(path, tmp_path)

    return read


def text_of(slide):
    return html.unescape(re.sub(r"<[^>]+>", "", "".join(slide.shown)))


class TestKindsOfCells:
    def test_slide_and_subslide(self, read):
        section = prose("## 1.2 Keys\n\nA key is found. A value is read.", "slide", show=["A key"])
        below = prose("Queries ask.", "subslide", title="More on keys", seminar=True)
        first, second, third = read(TITLE, section, below)
        assert [slide.column for slide in (first, second, third)] == [True, True, False]
        assert (first.title, second.title, third.title) == ("A lesson", "Keys", "More on keys")
        assert second.section == third.section == "1.2 Keys" and third.number == "1.2"
        assert (second.seminar, third.seminar) == (False, True)
        assert text_of(second).strip() == "A key is found." and second.notes == ["A value is read."]

    def test_fragment_and_continuation_stay_on_the_slide(self, read):
        (slide,) = read(TITLE, prose("At once.", "-"), prose("In a step.", "fragment"))
        assert "fragment" not in slide.shown[1] and "At once." in slide.shown[1]
        assert slide.shown[2].startswith('<div class="fragment">') and "In a step." in slide.shown[2]

    def test_notes_skip_and_no_type(self, read):
        hidden = prose("> **Exercise 1.1** · 5 minutes"), prose("Not now.", "skip"), code("x = 1")
        (slide,) = read(TITLE, prose("Say this.", "notes"), prose("And this."), *hidden)
        assert slide.notes == ["**Time** is short.", "Say this.", "And this."] and len(slide.shown) == 1

    def test_short_code_with_what_it_prints(self, read):
        (slide,) = read(TITLE, code("x = 1\nprint(x)", "-", [printed("1\n")]))
        assert "print(x)" in text_of(slide) and '<pre class="output"' in slide.shown[1]

    def test_long_code_is_not_shown_and_its_output_is(self, read):
        long = "\n".join(f"x{i} = {i}" for i in range(lesson.LINES + 1))
        (slide,) = read(TITLE, code(long, "-", [printed("done\n")]))
        assert "x0" not in text_of(slide) and "done" in text_of(slide)
        with pytest.raises(lesson.SlideError, match="cell 1: 'code' cannot be shown: the code has more than 10 lines"):
            read(TITLE, code(long, "-", show=["code"]))

    def test_long_output_is_cut(self, read):
        (slide,) = read(TITLE, code("f()", "-", [printed("line\n" * 40)], show=["output"]))
        assert slide.shown[1].count("line") == lesson.PRINTED - 1 and "..." in slide.shown[1]

    def test_a_picture_is_a_file_and_hides_its_code(self, read, tmp_path):
        (slide,) = read(TITLE, code("plot()", "-", [picture()]))
        (name,) = re.findall(r'src="figures/([^"]+)"', slide.shown[1])
        assert (tmp_path / name).read_bytes() == base64.b64decode(PNG)
        assert 'alt="A lesson"' in slide.shown[1] and "plot()" not in slide.shown[1]

    def test_of_a_picture_that_answers_the_stored_one_is_shown(self, read):
        view = {lesson.WIDGET: {"model_id": "1"}, "text/plain": "Widget()"}
        (slide,) = read(TITLE, code("play()", "-", [picture(**view)]))
        assert "<img" in slide.shown[1] and "Widget" not in slide.shown[1]
        assert 'href="../site/notebooks/01_lesson.html"' in slide.shown[1]


class TestErrors:
    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            (prose("a", "slides"), "slide_type is 'slides', expected one of slide, subslide, fragment, -, notes, skip"),
            (prose("No heading.", "slide"), "a slide needs a title"),
            (prose("A. B.", "-", show=["C"]), "0 parts of the cell begin with 'C', expected one"),
            (prose("So it is. So be it.", "-", show=["So"]), "2 parts of the cell begin with 'So'"),
            (prose("a", "-", shown=["a"]), r"metadata.slide has \['shown'\]"),
            (code("plot()", "-", show=["figure"]), "'figure' cannot be shown: no picture is stored"),
            (code("f()", "-", show=["output"]), "'output' cannot be shown: nothing is printed"),
            (code("x = 1\n" * 11, "-"), "nothing of this cell can be shown.*make notebooks"),
        ],
    )
    def test_names_the_notebook_and_the_cell(self, read, wrong, words):
        with pytest.raises(lesson.SlideError, match=f"01_lesson.ipynb, cell 2: {words}"):
            read(TITLE, prose("fine"), wrong)

    def test_before_the_first_slide(self, read):
        with pytest.raises(lesson.SlideError, match="cell 0: - before the first slide"):
            read(prose("Too early.", "-"))

    def test_a_deck_that_is_not_there(self, capsys):
        assert slides.main(["99"]) == 1
        assert "there is no deck 99: choose from 01" in capsys.readouterr().err


def test_too_few_slides_and_too_many_words_are_faults(tmp_path):
    path = tmp_path / "01_lesson.ipynb"
    path.write_text(json.dumps({"cells": [TITLE, prose("word " * 46, "subslide", title="Long")]}), encoding="utf-8")
    few, long = lesson.faults(path)
    assert few == "01_lesson.ipynb: 2 slides, expected 15 to 40"
    assert long.startswith("01_lesson.ipynb, cell 1: 46 words on its slide, expected at most 45")


class TestUnits:
    TEXT = """## 1.1 A title

Xu et al. (2015) draw *one*. Is $a. B$ cut? No (it is not). See `x. Y`.

$$E = mc^2$$

* First item. Its end.
* Second item

| a | b |
|---|---|
| 1 | 2 |

```python
x = 1
```
"""

    def test_each_part_of_a_cell(self):
        kinds = [(unit.kind, unit.text.split("\n")[0]) for unit in cells.units_of(self.TEXT)]
        sentences = "Xu et al. (2015) draw *one*.", "Is $a. B$ cut?", "No (it is not).", "See `x. Y`."
        assert kinds == [
            ("heading", "## 1.1 A title"),
            *(("sentence", sentence) for sentence in sentences),
            ("equation", "$$E = mc^2$$"),
            *(("item", text) for text in ("First item.", "Its end.", "Second item")),
            ("table", "| a | b |"),
            ("code", "```python"),
        ]

    def test_sentences_in_italics_stay_in_italics(self):
        assert cells.sentences("*First one. Second one?*") == ["*First one.*", "*Second one?*"]
        assert cells.sentences("*One* word. *Two* words.") == ["*One* word.", "*Two* words."]

    def test_nothing_is_lost_and_nothing_comes_twice(self):
        units = cells.units_of(self.TEXT)
        chosen = cells.choose(units, ["equation", "No (it", "item"])
        assert [unit.kind for unit in chosen] == ["equation", "sentence", "item", "item", "item"]
        rest = [unit for unit in units if unit not in chosen]
        assert len(rest) + len(chosen) == len(units) == len(set(units))
        assert cells.markdown_of(rest, together=True).count("*one*. Is $a. B$ cut? See `x. Y`.") == 1

    def test_words_are_those_that_are_read(self):
        shown = cells.units_of("The [key](a_b.ipynb) $q \\cdot k$ isn't `f(x)`.\n\n$$a b c$$")
        assert cells.words_in(shown) == 5


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
class TestLessons:
    def test_a_lecture_can_hold_it_and_each_slide_can_be_read(self, path):
        assert lesson.faults(path) == []

    def test_what_is_not_shown_is_in_the_notes(self, path):
        found = lesson.read(path)
        assert sum(bool("".join(slide.notes)) for slide in found) > 0.6 * len(found)
        assert all(slide.title and len(slide.title) < 80 for slide in found)


def test_the_seminar_has_its_pages_in_their_order():
    text = (ROOT / "docs" / "seminar.md").read_text(encoding="utf-8")
    pages = re.findall(r"(?m)^\| ((?!page |-)[^|]+) \|", text)
    found = slides.seminar()
    assert [page for page, _ in found] == pages and len(pages) == 25
    assert all(of_page for _, of_page in found)
    assert 60 < sum(len(of_page) for _, of_page in found) < 110


@pytest.fixture(scope="module")
def deck(tmp_path_factory):
    """The slides of lesson 1, built into a folder of their own."""
    build, slides.BUILD = slides.BUILD, tmp_path_factory.mktemp("build")
    yield slides.build(["01"])[0]
    slides.BUILD = build


def test_a_deck_asks_nothing_of_the_network(deck):
    page = deck.read_text(encoding="utf-8")
    assert page.count("<section>") > 33 and page.count('<aside class="notes">') > 20
    for address in re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', page):
        assert (deck.parent / address).is_file(), address
    assert (deck.parent / "index.html").read_text(encoding="utf-8").count(deck.name) == 2


class TestInChromium:
    pytestmark = in_chromium

    def test_no_slide_overflows_and_the_pdf_has_a_page_for_each(self, deck):
        pytest.importorskip("playwright")
        assert check.deck(deck) == []

    def test_the_speakers_window_opens_from_a_file(self, deck):
        playwright = pytest.importorskip("playwright.sync_api")
        with playwright.sync_playwright() as runner:
            chromium = check.browser(runner)
            page = chromium.new_page()
            check.opened(page, deck)
            page.keyboard.press("Space")
            with page.expect_popup() as popup:
                page.keyboard.press("s")
            notes = popup.value.locator(".speaker-controls-notes .value")
            notes.filter(has_text="Suppose you keep a few things in memory.").wait_for()
            chromium.close()

    def test_faults_are_found(self, deck):
        pytest.importorskip("playwright")
        broken = deck.with_name("broken.html")
        sections = [
            slides.section_of(lesson.Slide("High", "1.1 A", True, False, 0, ["<p>line</p>" * 40]), ""),
            slides.section_of(lesson.Slide("Wide", "1.1 A", True, False, 0, ["<pre><b>" + "x" * 9 + "</b></pre>"]), ""),
            slides.section_of(lesson.Slide("Gone", "1.1 A", True, False, 0, ['<img src="figures/no.png">']), ""),
            slides.section_of(lesson.Slide("Formula $\\nonsense{$", "1.1 A", True, False, 0, ["<p>x</p>"]), ""),
            slides.section_of(lesson.Slide("Far", "1.1 A", True, False, 0, ['<img src="https://example.org/a">']), ""),
        ]
        page = slides.write(broken.stem, "Broken", "".join(sections))
        page.write_text(page.read_text(encoding="utf-8").replace("<b>", '<b style="margin-left: 1400px">'))
        found = "\n".join(check.deck(page))
        for words in ("px too high", "leaves the slide", "no picture figures/no.png", "a formula is not set"):
            assert words in found
        assert "asks for https://example.org/a" in found
