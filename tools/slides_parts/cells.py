"""What of a Markdown cell stands on a slide, and what becomes the speaker's notes: each part once, none typed again."""

import re
from dataclasses import dataclass

KINDS = ("heading", "sentence", "item", "equation", "table", "code")

# A block is a fence, a displayed equation, or lines up to an empty one.
BLOCK = re.compile(r"```.*?```|\$\$.*?\$\$|(?:(?!\$\$|```).)+?(?=\n\s*\n|\$\$|```|$)", re.DOTALL)
ITEM = re.compile(r"^(?:[*-]|\d+\.) +", re.MULTILINE)
WHOLE = re.compile(r"\$[^$]+\$|`[^`]+`")  # what a sentence's end is not looked for in
END = re.compile(r"(?<=[.?!])([*)\"”]*)\s+(?=[A-Z*$(\"“`\[\d\x00])")
STOPS = re.compile(r"(?:\bal|\bvs|\bFig|\bsec|\be\.g|\bi\.e|\b[A-Z])\.$")


@dataclass(frozen=True)
class Unit:
    """A part of a cell: a sentence, an item's sentence, an equation, ... `block` numbers the paragraph it is from."""

    kind: str
    text: str
    block: int


def units_of(source: str) -> list[Unit]:
    """A Markdown cell's parts in their order."""
    units: list[Unit] = []
    for block in (match[0].strip() for match in BLOCK.finditer(source)):
        if block:
            units += [Unit(kind, text, len(units)) for kind, text in _parts(block)]
            last = len(units) - 1
            units = [Unit(u.kind, u.text, last) if u.block > last else u for u in units]
    return units


def _parts(block: str) -> list[tuple[str, str]]:
    for start, kind in (("```", "code"), ("$$", "equation"), ("|", "table")):
        if block.startswith(start):
            return [(kind, block)]
    if block.startswith("#"):
        heading, _, rest = block.partition("\n")
        return [("heading", heading)] + (_parts(rest.strip()) if rest.strip() else [])
    before, *items = ITEM.split(block)
    parts = [("sentence", sentence) for sentence in sentences(before)]
    return parts + [("item", sentence) for item in items for sentence in sentences(item)]


def sentences(paragraph: str) -> list[str]:
    """A paragraph's sentences; mathematics and code are never cut."""
    if match := re.fullmatch(r"\*([^*]+)\*", paragraph.strip()):  # in italics as a whole, so each sentence is
        return [f"*{sentence}*" for sentence in sentences(match[1])]
    kept: list[str] = []

    def keep(match):
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x01"

    pieces, text = [], WHOLE.sub(keep, " ".join(paragraph.split()))
    while text:
        cut = next((end for end in END.finditer(text) if not STOPS.search(text[: end.start()])), None)
        pieces.append(text[: cut.end(1)] if cut else text)
        text = text[cut.end() :] if cut else ""
    return [re.sub(r"\x00(\d+)\x01", lambda match: kept[int(match[1])], piece) for piece in pieces]


def choose(units: list[Unit], show: list[str]) -> list[Unit]:
    """The parts that `show` names, in its order: by their kind (each of them) or by their first words (one)."""
    chosen: list[Unit] = []
    for name in show:
        found = [unit for unit in units if unit.kind == name or name == "all" and unit.kind != "heading"]
        if not found:
            found = [unit for unit in units if unit.text.startswith(name)]
            if len(found) != 1:
                raise ValueError(
                    f"{len(found)} parts of the cell begin with {name!r}, expected one:"
                    f" give the first words of a sentence, or one of all, {', '.join(KINDS)}"
                )
        chosen += [unit for unit in found if unit not in chosen]
    return chosen


def words_in(units: list[Unit]) -> int:
    """How many words there are to read: a formula in a line is one; equations, tables and code are not counted."""
    read = [WHOLE.sub("x", unit.text) for unit in units if unit.kind in ("sentence", "item")]
    return sum(len(re.findall(r"\w[\w'’-]*", re.sub(r"<[^>]+>|\]\([^)]*\)", " ", text))) for text in read)


def markdown_of(units: list[Unit], together: bool) -> str:
    """The parts as Markdown: sentences of one paragraph `together` (the notes), or each on a line of its own."""
    text, before = "", None
    for unit in units:
        item = "* " if unit.kind == "item" else ""
        same = before is not None and before.kind == unit.kind
        joined = same and (unit.kind == "item" or (together and before.block == unit.block and unit.kind == "sentence"))
        text += ("\n" if item else " ") if joined else "\n\n"
        text += item + unit.text
        before = unit
    return text.strip()
