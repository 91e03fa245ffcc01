"""What the site's pages need beyond Sphinx: anchors, mathematics by the vendored KaTeX, docstrings of plain text."""

import re

from docutils import nodes
from myst_parser.slugs import github_slugify

MATHEMATICS = ("katex/katex.min.js", "katex/auto-render.min.js", "mathematics.js")


def slug(title: str) -> str:
    """The anchor of a heading. A numbered section has its number: section-4-8."""
    number = re.match(r"(\d+)\.(\d+)\b", title)
    return f"section-{number[1]}-{number[2]}" if number else github_slugify(title)


def inline(translator, node) -> None:
    translator.body.append(f'<span class="math">\\({translator.encode(node.astext())}\\)</span>')
    raise nodes.SkipNode


def displayed(translator, node) -> None:
    text = translator.encode(node.astext())
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(f"\\[{text}\\]</div>\n")
    raise nodes.SkipNode


def has_mathematics(doctree) -> bool:
    """Whether a page needs KaTeX. Hints are raw HTML, in which formulas are still between dollars."""
    if any(doctree.findall(nodes.math)) or any(doctree.findall(nodes.math_block)):
        return True
    return any("$" in raw.astext() for raw in doctree.findall(nodes.raw))


def load_what_is_used(app, page, template, context, doctree) -> None:
    """KaTeX goes only to pages with mathematics."""
    if page == "search":
        app.add_js_file("disk.js")
    if doctree is not None and has_mathematics(doctree):
        app.add_css_file("katex/katex.min.css")
        for script in MATHEMATICS:
            app.add_js_file(script, loading_method="defer")


def as_text(app, what, name, obj, options, lines: list[str]) -> None:
    """A docstring is plain text with code in backticks, not reStructuredText; an indented block stays as it is."""
    blocks = re.split(r"\n\n+", "\n".join(lines).strip("\n"))
    shown = [f"::\n\n{block}" if is_indented(block) else escaped(block) for block in blocks]
    lines[:] = [*"\n\n".join(shown).split("\n"), ""]


def is_indented(block: str) -> bool:
    return all(line.startswith("    ") for line in block.split("\n"))


def escaped(text: str) -> str:
    """reStructuredText that shows `text`: code in backticks as code, all other signs as they are."""
    parts = re.split(r"(`+[^`]+`+)", text)
    parts[::2] = [re.sub(r"([*|\\]|_\b)", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"``{part.strip('`')}``" for part in parts[1::2]]
    return "".join(parts)


def setup(app) -> dict:
    app.add_html_math_renderer("katex", inline_renderers=(inline, None), block_renderers=(displayed, None))
    app.connect("html-page-context", load_what_is_used)
    app.connect("autodoc-process-docstring", as_text, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
