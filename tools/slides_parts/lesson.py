"""A notebook's cells as slides: what each of them shows, and what the speaker says meanwhile."""

import base64
import html
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from slides_parts import cells

TYPES = ("slide", "subslide", "fragment", "-", "notes", "skip")
LINES = 10  # of code, at most
WIDGET = "application/vnd.jupyter.widget-view+json"  # a picture that answers, beside its PNG
PRINTED = 20  # lines of what code printed, at most
WORDS = 45  # on a slide, at most, besides code, tables and displayed equations
SLIDES = range(15, 41)  # of a lesson

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
MARKDOWN.use(dollarmath_plugin, allow_labels=False, double_inline=True)


class SlideError(ValueError):
    """A cell says something about slides that cannot be done; the message names the notebook and the cell."""


@dataclass
class Slide:
    title: str
    section: str  # the heading above it: "1.3 What ..."
    column: bool  # begins a column of slides, or stands under the slide before
    seminar: bool
    cell: int
    shown: list[str] = field(default_factory=list)  # HTML
    notes: list[str] = field(default_factory=list)  # Markdown
    words: int = 0

    @property
    def number(self) -> str:
        return self.section.split()[0]


def read(path: Path, figures: Path | None = None) -> list[Slide]:
    """A notebook's slides; its pictures go to the folder `figures`, if there is one.

    Raises SlideError for a cell whose metadata name what cannot be shown, and for a cell before the first slide.
    """
    slides: list[Slide] = []
    section = ""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        where = f"{path.name}, cell {number}"
        source = "".join(cell["source"])
        prose = cell["cell_type"] == "markdown"
        if prose and (heading := re.match(r"##? (.+)", source)):
            section = heading[1]
        kind, wish = _metadata(cell, where)
        if kind == "skip":
            continue
        if kind in ("slide", "subslide"):
            slides.append(_begin(cell, number, section, where))
        if not slides:
            raise SlideError(f"{where}: {kind} before the first slide; give an earlier cell the type slide")
        slide = slides[-1]
        if kind == "notes":
            slide.notes.append(source)
            continue
        if prose:
            shown = _show_prose(slide, source, wish, where)
        else:
            stem = f"{path.stem[:2]}-{number}"
            shown = _show_code(slide, cell, source, wish, figures and figures / stem, where)
        slide.shown.append(f'<div class="fragment">{shown}</div>' if kind == "fragment" else shown)
    return slides


def faults(path: Path) -> list[str]:
    """What a lecture cannot use: too many slides, or too few, and slides with too many words, in words."""
    slides = read(path)
    found = [f"{path.name}: {len(slides)} slides, expected {SLIDES[0]} to {SLIDES[-1]}"] * (len(slides) not in SLIDES)
    wordy = [slide for slide in slides if slide.words > WORDS]
    return found + [
        f"{path.name}, cell {slide.cell}: {slide.words} words on its slide, expected at most {WORDS};"
        " choose fewer parts in metadata.slide.show"
        for slide in wordy
    ]


def _metadata(cell: dict, where: str) -> tuple[str, list[str] | None]:
    kind = cell["metadata"].get("slideshow", {}).get("slide_type")
    wish = cell["metadata"].get("slide", {})
    if unknown := set(wish) - {"title", "show", "seminar"}:
        raise SlideError(f"{where}: metadata.slide has {sorted(unknown)}; it may have title, show and seminar")
    if kind is None or kind == "":
        kind = "notes" if cell["cell_type"] == "markdown" and "> **Exercise" not in "".join(cell["source"]) else "skip"
    if kind not in TYPES:
        raise SlideError(f"{where}: slide_type is {kind!r}, expected one of {', '.join(TYPES)}")
    return kind, wish.get("show")


def _begin(cell: dict, number: int, section: str, where: str) -> Slide:
    wish, kind = cell["metadata"].get("slide", {}), cell["metadata"]["slideshow"]["slide_type"]
    heading = re.match(r"##? (?:[\d.]+ (?:· )?)?(.+)", "".join(cell["source"]))
    title = wish.get("title") or (heading and cell["cell_type"] == "markdown" and heading[1])
    if not title:
        raise SlideError(f"{where}: a {kind} needs a title: a heading in the cell, or metadata.slide.title")
    return Slide(title, section, kind == "slide", bool(wish.get("seminar")), number)


def _show_prose(slide: Slide, source: str, show: list[str] | None, where: str) -> str:
    units = cells.units_of(source)
    try:
        chosen = cells.choose(units, ["all"] if show is None else show)
    except ValueError as error:
        raise SlideError(f"{where}: {error}") from None
    rest = [unit for unit in units if unit not in chosen and unit.kind != "heading"]
    slide.words += cells.words_in(chosen)
    slide.notes.append(cells.markdown_of(rest, together=True))
    shown = cells.markdown_of(chosen, together=False)
    shown = re.sub(r"\\tag\{([^}]+)\}", r"\\qquad (\1)", shown)  # a tag would lie on a wide equation
    if chosen and chosen[-1].kind == "sentence":
        shown = re.sub(":$", ".", shown)
    return f'<div class="prose">{MARKDOWN.render(shown)}</div>'


def _show_code(slide: Slide, cell: dict, source: str, show: list[str] | None, figure: Path | None, where: str) -> str:
    """The cell's picture; if it has none, its code and what it printed. Longer code is not shown."""
    outputs = cell.get("outputs", [])
    pictures = ["".join(o["data"]["image/png"]) for o in outputs if "image/png" in o.get("data", {})]
    printed = "".join("".join(o.get("text") or o.get("data", {}).get("text/plain", "")) for o in outputs)
    short = len(source.strip().splitlines()) <= LINES
    wanted = show or (["figure"] if pictures else ["code", "output"] if short else ["output"])
    shown = []
    for name in wanted:
        if name == "figure" and pictures:
            shown += [_picture(data, figure, i, slide.title) for i, data in enumerate(pictures)]
        elif name == "code" and short:
            style = f"font-size: {_size(source.splitlines())}px"
            shown.append(highlight(source, PythonLexer(), HtmlFormatter(cssclass="code", cssstyles=style)))
        elif name == "output" and printed.strip():
            lines = printed.strip("\n").splitlines()
            lines = lines if len(lines) <= PRINTED else [*lines[: PRINTED - 1], "..."]
            text = html.escape("\n".join(lines))
            shown.append(f'<pre class="output" style="font-size: {_size(lines)}px">{text}</pre>')
        elif show:
            reasons = {"figure": "no picture is stored", "code": f"the code has more than {LINES} lines"}
            reason = reasons.get(name, "nothing is printed" if name == "output" else "show is figure, code or output")
            raise SlideError(f"{where}: {name!r} cannot be shown: {reason}")
    if not shown:
        advice = f"no picture, nothing printed and more than {LINES} lines of code; run it with `make notebooks`"
        raise SlideError(f"{where}: nothing of this cell can be shown: {advice}, or choose another cell")
    if any(WIDGET in output.get("data", {}) for output in outputs):
        page = f"../site/notebooks/{where.split('.ipynb')[0]}.html"
        shown.append(f'<p class="live"><a href="{page}">This picture answers on the lesson\'s page of the site</a></p>')
    return "".join(shown)


def _size(lines: list[str]) -> int:
    """The size of letters, as large as the longest line and the number of lines allow; longer lines are wrapped."""
    return int(max(15, min(26, 1120 / (0.605 * max(map(len, lines))), 330 / len(lines))))


def _picture(data: str, path: Path | None, number: int, title: str) -> str:
    name = f"{path.name}-{number}.png" if path else "none.png"
    if path:
        path.with_name(name).write_bytes(base64.b64decode(data))
    return f'<div class="figure"><img src="figures/{name}" alt="{html.escape(plain(title), quote=True)}"></div>'


def plain(markdown: str) -> str:
    return re.sub(r"[$*`\\]|\\mathrm", "", markdown)
