"""python tools/slides.py [03 | seminar ...]: the lessons as slides, in build/slides, from the notebooks as they stand.

What a cell is on the slides stands in its metadata (CONTRIBUTING.md has the whole convention):

    "slideshow": {"slide_type": "slide"}   Jupyter's own field: slide, subslide, fragment, - , notes or skip
    "slide": {"title": ..., "show": [...], "seminar": true}

`show` names the parts of the cell that stand on the slide, by kind or by first words; the rest of the prose becomes the
speaker's notes. Without a slide type, prose is notes and code is left out. `--check` looks at every slide in Chromium.
"""

import html
import re
import shutil
import sys
from pathlib import Path
from string import Template

from pygments.formatters import HtmlFormatter
from slides_parts.lesson import MARKDOWN, Slide, SlideError, faults, plain, read

ROOT = Path(__file__).resolve().parents[1]
PARTS, VENDOR = ROOT / "tools" / "slides_parts", ROOT / "tools" / "vendor"
BUILD = ROOT / "build" / "slides"
SEMINAR = ROOT / "docs" / "seminar.md"  # which sections treat which page


def seminar() -> list[tuple[str, list[Slide]]]:
    """The pages of the seminar, each with the slides of the sections that treat it; a slide comes once in a part."""
    lessons = {path.stem[:2]: path for path in notebooks()}
    pages: list[tuple[str, list[Slide]]] = []
    read_already: dict[str, list[Slide]] = {}
    for page, sections in re.findall(r"(?m)^\| ([^|]+) \| [^|]+ \| (\[\d.*) \|$", SEMINAR.read_text(encoding="utf-8")):
        slides: list[Slide] = []
        for section in re.findall(r"\[(\d+\.\d+)\]", sections):
            lesson = section.split(".")[0].zfill(2)
            if lesson not in read_already:
                read_already[lesson] = read(lessons[lesson], BUILD / "figures" if BUILD.exists() else None)
            of_section = [slide for slide in read_already[lesson] if slide.number == section]
            if not of_section:
                raise SlideError(f"docs/seminar.md: section {section} has no slide; give its first cell the type slide")
            slides += [slide for slide in of_section if slide.seminar] or of_section[:1]
        before = {id(slide) for other, shown in pages if part_of(other) == part_of(page) for slide in shown}
        pages.append((page, [slide for slide in slides if id(slide) not in before] or slides[:1]))
    return pages


def part_of(page: str) -> str:
    return page.split(":")[0]


def notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def inline(markdown: str) -> str:
    return MARKDOWN.renderInline(markdown)


def section_of(slide: Slide, label: str) -> str:
    head = f'<p class="label">{inline(label)}</p><h2>{inline(slide.title)}</h2>'
    return f'<section><div class="frame">{head}{"".join(slide.shown)}</div>{aside(slide.notes)}</section>'


def front(title: str, below: str, notes: list[str]) -> str:
    """A slide that begins a deck or a part of the seminar; `below` is HTML."""
    return f'<section><div class="frame front"><h1>{inline(title)}</h1>{below}</div>{aside(notes)}</section>'


def aside(notes: list[str]) -> str:
    rendered = MARKDOWN.render("\n\n".join(filter(None, notes)))
    return f'<aside class="notes">{rendered}</aside>' if rendered else ""


def lesson_deck(path: Path) -> tuple[str, str]:
    """A lesson's title and its slides as HTML, one column a section."""
    slides = read(path, BUILD / "figures")
    columns: list[list[str]] = []
    for slide in slides:
        if slide.column:
            columns.append([])
        if slide is slides[0]:
            columns[-1].append(front(slide.section, "".join(slide.shown), slide.notes))
        else:
            columns[-1].append(section_of(slide, "" if slide.title in slide.section else slide.section))
    return slides[0].title, stacked(columns)


def seminar_deck() -> tuple[str, str]:
    """The seminar in its order: a front slide for each part, then one column a page."""
    pages = seminar()
    parts = list(dict.fromkeys(part_of(page) for page, _ in pages))
    subtitle = "<p>The seminar of 2022, page by page, with the slides of the course</p>"
    columns = [[front("Cross Attention Module", subtitle, [])]]
    for part in parts:
        of_part = [(page.partition(": ")[2], slides) for page, slides in pages if part_of(page) == part]
        inside = parts[1:] if part == "Outline" else [page[0].upper() + page[1:] for page, _ in of_part if page]
        columns.append([front(part, MARKDOWN.render("\n".join(f"* {entry}" for entry in inside)), [])])
        for page, slides in of_part:
            label = ": ".join(filter(None, (part, page)))
            columns.append([section_of(slide, f"{label} · {slide.number}") for slide in slides])
    return "Cross Attention Module", stacked(columns)


def stacked(columns: list[list[str]]) -> str:
    wrapped = (column[0] if len(column) == 1 else f"<section>{''.join(column)}</section>" for column in columns)
    return "\n".join(wrapped)


def write(name: str, title: str, sections: str) -> Path:
    sections = re.sub(r'href="(\d\d_\w+)\.ipynb(#[^"]*)?"', r'href="\1.html"', sections)
    page = Template((PARTS / "deck.html").read_text(encoding="utf-8"))
    path = BUILD / f"{name}.html"
    path.write_text(page.substitute(title=html.escape(plain(title)), sections=sections), encoding="utf-8")
    return path


def assets() -> None:
    """What all decks share, beside them: a deck needs no network and no server."""
    (BUILD / "figures").mkdir(parents=True, exist_ok=True)
    shutil.copytree(VENDOR, BUILD / "vendor", dirs_exist_ok=True, ignore=shutil.ignore_patterns("README.md"))
    for name in ("slides.css", "slides.js"):
        shutil.copy(PARTS / name, BUILD / name)
    colours = HtmlFormatter(style="friendly", cssclass="code").get_style_defs(".code")
    (BUILD / "code.css").write_text(colours, encoding="utf-8")


def index() -> None:
    """The list of all decks that are there."""
    decks = []
    for path in sorted(BUILD.glob("*.html")):
        if path.name != "index.html":
            title = re.search("<title>(.*)</title>", path.read_text(encoding="utf-8"))
            number = f"{int(path.stem[:2])} · " if path.stem[0].isdigit() else "The seminar of 2022: "
            views = f'<a href="{path.name}?print-pdf&amp;showNotes=separate-page">with notes, to print</a>'
            decks.append(f'<li><a href="{path.name}">{number}{title and title[1]}</a> <small>({views})</small></li>')
    page = Template((PARTS / "index.html").read_text(encoding="utf-8"))
    (BUILD / "index.html").write_text(page.substitute(decks="\n".join(decks)), encoding="utf-8")


def build(chosen: list[str]) -> list[Path]:
    """The decks that are asked for (lessons by number, `seminar`), all of them if none is."""
    lessons = {path.stem[:2]: path for path in notebooks()}
    names = [name.zfill(2) if name.isdigit() else name for name in chosen] or [*lessons, "seminar"]
    if unknown := [name for name in names if name not in lessons and name != "seminar"]:
        raise SlideError(f"there is no deck {', '.join(unknown)}: choose from {', '.join(lessons)} and seminar")
    assets()
    paths = []
    for name in names:
        title, sections = seminar_deck() if name == "seminar" else lesson_deck(lessons[name])
        paths.append(write("seminar" if name == "seminar" else lessons[name].stem, title, sections))
    index()
    return paths


def main(arguments: list[str]) -> int:
    try:
        paths = build([argument for argument in arguments if argument != "--check"])
    except SlideError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(paths)} decks in {BUILD.relative_to(ROOT)}: open index.html (S: speaker notes, Esc: overview)")
    if "--check" in arguments:
        from slides_parts import check

        found = [fault for path in notebooks() if BUILD / f"{path.stem}.html" in paths for fault in faults(path)]
        found += [fault for path in paths for fault in check.deck(path)]
        print("\n".join(found) or "no slide overflows or is too long, no request leaves, every formula is set")
        return bool(found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
