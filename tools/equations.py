"""Write docs/equations.md, the index of equations, from the docstrings of the library: `python tools/equations.py`.

A docstring names its source in one form, which `references` reads:

    Source: Vaswani et al., "Attention Is All You Need" (2017), section 3.2.1, equation (1); Wu et al. (2016).

These are the authors, the title in quotation marks (it may be left out if another docstring gives it), the year in
brackets, the venue before it if you like, and the places in the paper. A docstring without a source may name an
equation or a section alone: it belongs to the first paper that the module's docstring names.
"""

import ast
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("models", "training", "measure")  # of the library; the other folders implement no equations
LESSONS = {  # module: the notebooks in which its equations are built by hand or explained
    "measure/costs": (4, 9),
    "measure/intervals": (6,),
    "measure/overlaps": (10, 12),
    "models/attention": (2,),
    "models/attention_numpy": (1,),
    "models/crossvit": (7,),
    "models/decoder_fusion": (10,),
    "models/decoding": (3,),
    "models/fusions": (7, 8),
    "models/language": (10,),
    "models/lavt": (12,),
    "models/layers": (4, 6),
    "models/losses": (3, 10),
    "models/mixers": (4,),
    "models/positions": (3, 5),
    "models/pwam": (11,),
    "models/swin": (10,),
    "models/transformer": (3,),
    "models/vit": (5,),
    "training/loop": (6,),
}

NAME = r"[A-Z][\w-]+"
AUTHORS = rf"{NAME}(?: et al\.|(?:, {NAME})* and {NAME})?"
PAPER = rf"(?P<authors>{AUTHORS})(?:, \"(?P<title>[^\"]+)\")? \((?:[A-Z]+ )?(?P<year>\d{{4}})\)"
NUMBER = r"(?:\(\d+\)|\d+(?:\.\d+)*)"
PLACE = (
    rf"(?:appendix [A-Z]|(?:section|equation|formula|chapter|figure|table)s? {NUMBER}(?:(?:, | and | to ){NUMBER})*)"
)
EQUATION_OR_SECTION = rf"(?:section|equation)s? {NUMBER}(?:(?:, | and | to ){NUMBER})*"
PLACES = rf"{PLACE}(?:(?:, | and ){PLACE})*"


@dataclass(frozen=True)
class Reference:
    """A paper and the places in it, such as "equations (2) to (4)"; the title is None if it is left out."""

    authors: str
    title: str | None
    year: int
    places: tuple[str, ...]

    @property
    def surname(self) -> str:
        return re.match(NAME, self.authors)[0]

    def equations(self) -> set[int]:
        """The numbers of the equations."""
        found = set()
        for place in self.places:
            if place.startswith("equation"):
                for first, last in re.findall(r"(\d+)\)?(?: to \(?(\d+))?", place):
                    found |= set(range(int(first), int(last or first) + 1))
        return found


@dataclass(frozen=True)
class Row:
    """An object of the library that implements something from a paper."""

    module: str  # "models/attention"
    name: str  # "MultiHeadAttention.forward"; "" for the module itself
    what: str
    reference: Reference


def references(docstring: str) -> list[Reference]:
    """The papers that a docstring names, with the places that follow each at once."""
    text = " ".join(docstring.split())
    found = []
    for match in re.finditer(PAPER + rf"(?:, (?P<places>{PLACES}))?", text):
        places = tuple(re.findall(PLACE, match["places"] or ""))
        found.append(Reference(match["authors"], match["title"], int(match["year"]), places))
    return found


def rows_of(path: Path, module: str) -> list[Row]:
    """The rows of one module; its own docstring adds the papers and the equations that none of its objects names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = references(ast.get_docstring(tree) or "")
    rows = []
    for name, docstring in _documented(tree):
        found = [_completed(reference, named) for reference in references(docstring)]
        if not found and named:
            places = tuple(re.findall(rf"\b{EQUATION_OR_SECTION}", " ".join(docstring.split())))
            found = [replace(named[0], places=places)] if places else []
        rows += [Row(module, name, summary(docstring), reference) for reference in found]
    what = summary(ast.get_docstring(tree) or "")
    for reference in named:
        of_paper = [row.reference for row in rows if _same(row.reference, reference)]
        left = reference.equations() - set().union(*(other.equations() for other in of_paper))
        if not of_paper:
            rows.append(Row(module, "", what, reference))
        elif left:
            places = tuple(f"equation ({number})" for number in sorted(left))
            rows.append(Row(module, "", what, replace(reference, places=places)))
    return rows


def summary(docstring: str) -> str:
    """The first sentence of a docstring, without the reference at its end."""
    text = " ".join(docstring.split("\n\n")[0].split())
    text = re.split(r"(?<=[^. ]{3})\. (?=[A-Z])", text)[0].rstrip(".")
    text = re.sub(rf"(?:[:,] | \()(?:[^:()]*, )?{PLACES}.*$", "", text)
    return text.rstrip(":")


def collect(root: Path = ROOT) -> list[Row]:
    """The rows of the whole library, with the title of each paper filled in where some docstring gives it."""
    rows = []
    titles: list[Reference] = []
    for folder in FOLDERS:
        for path in sorted((root / "xattn_edu" / folder).glob("*.py")):
            rows += rows_of(path, f"{folder}/{path.stem}")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    titles += [one for one in references(ast.get_docstring(node) or "") if one.title]
    longest_first = sorted(titles, key=lambda one: -len(one.title or ""))
    return [Row(row.module, row.name, row.what, _completed(row.reference, longest_first)) for row in rows]


def markdown(rows: list[Row]) -> str:
    """The index: a table a paper, the papers in the order of the lessons.

    Raises ValueError for a module that is not in `LESSONS`.
    """
    if unknown := {row.module for row in rows} - LESSONS.keys():
        raise ValueError(f"no lesson for {', '.join(sorted(unknown))}: add a line to LESSONS in tools/equations.py")
    papers: dict[tuple, list[Row]] = {}
    for row in rows:
        papers.setdefault((row.reference.surname, row.reference.year, row.reference.title), []).append(row)
    lines = [
        "# Index of equations",
        "",
        "What the library implements from which paper, and the lesson that explains it. This file is written by",
        "`python tools/equations.py` from the docstrings; a test holds it to them.",
    ]
    first = {paper: (min(LESSONS[row.module][0] for row in of), paper[1], paper[0]) for paper, of in papers.items()}
    for paper in sorted(papers, key=lambda paper: first[paper]):
        of_paper = sorted(papers[paper], key=_order)
        authors = max((row.reference.authors for row in of_paper), key=len)
        lines += ["", f"## {authors}, {paper[2]} ({paper[1]})" if paper[2] else f"## {authors} ({paper[1]})", ""]
        lines += ["| number | what | file and object | lesson |", "|---|---|---|---|"]
        lines += [_line(row) for row in of_paper]
    return "\n".join(lines) + "\n"


def _documented(tree: ast.Module) -> list[tuple[str, str]]:
    """(qualified name, docstring) of each class, function and method that has one, in the order of the file."""

    def inside(node: ast.AST, prefix: str) -> list[tuple[str, str]]:
        found = []
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                docstring = ast.get_docstring(child)
                found += [(prefix + child.name, docstring)] if docstring else []
                found += inside(child, f"{prefix}{child.name}.")
        return found

    return inside(tree, "")


def _same(one: Reference, other: Reference) -> bool:
    """Whether both are the same paper: a title may be missing, or be the other's without its subtitle."""
    if (one.surname, one.year) != (other.surname, other.year):
        return False
    titles = sorted(title for title in (one.title, other.title) if title)
    return len(titles) < 2 or titles[1].startswith(titles[0])


def _completed(reference: Reference, known: list[Reference]) -> Reference:
    """The reference with the authors and the title of the first known paper that is the same."""
    for other in known:
        if _same(reference, other):
            return replace(other, title=other.title or reference.title, places=reference.places)
    return reference


def _order(row: Row) -> tuple:
    """By equation, then by place; what names a paper alone comes last."""
    place = [tuple(map(int, re.findall(r"\d+", part))) for part in row.reference.places]
    return (min(row.reference.equations(), default=1000), not place, place, row.module, row.name)


def _line(row: Row) -> str:
    path = f"{row.module}.py"
    shown = f"[{path}](../xattn_edu/{path})" + (f" `{row.name}`" if row.name else "")
    lessons = ", ".join(_lesson(number) for number in LESSONS[row.module])
    words = re.split(r"(`[^`]*`)", row.what.replace("|", r"\|"))
    what = "".join(part if part.startswith("`") else re.sub(r"([*<])", r"\\\1", part) for part in words)
    return f"| {', '.join(row.reference.places) or '–'} | {what} | {shown} | {lessons} |"


def _lesson(number: int) -> str:
    (notebook,) = (ROOT / "notebooks").glob(f"{number:02}_*.ipynb")
    return f"[{number}](../notebooks/{notebook.name})"


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(f"{Path(sys.argv[0]).name} takes no arguments, given {' '.join(sys.argv[1:])}")
    target = ROOT / "docs" / "equations.md"
    target.write_text(markdown(collect()), encoding="utf-8", newline="\n")
    print(f"{target}: written")
