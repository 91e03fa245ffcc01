"""The checks tried on the whole catalogue of mistakes: `xattn homework audit` prints the table, --write keeps it.

Every wrong answer should be refused, with the words that name its mistake, and every right one accepted.
"""

import collections
import functools
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xattn_edu import exercises
from xattn_edu.exercises.checking import Verdict, judge
from xattn_edu.exercises.guard import Guarded, Wrong
from xattn_edu.files import write_atomically
from xattn_edu.homework import SETS
from xattn_edu.homework.mistakes import DIFFERENT, MISTAKES, Different, Mistake

ROOT = Path(__file__).parents[2]
RECORD, DOCUMENT = ROOT / "results" / "homework" / "audit.json", ROOT / "docs" / "homework_audit.md"
COLUMNS = ("mistakes", "rejected", "with a name", "named rightly", "named wrongly", "right answers", "accepted")
HEAD = """# The checks, tried on a catalogue of mistakes

This file is written by `xattn homework audit --write` from `results/homework/audit.json`. Do not edit it.

The catalogue (`xattn_edu/homework/mistakes/`) has wrong answers to every exercise of the lessons and of the graded
sets, and right answers that are written in another way than the solution. Each was given to the check of its exercise.

- **rejected**: wrong answers that the check does not accept.
- **with a name**: wrong answers whose mistake the check should name. The others are rejected with the first number that
  differs.
- **named rightly**: of those, the ones where the verdict has the words that name the mistake.
- **named wrongly**: wrong answers whose verdict names another mistake of the catalogue.
- **accepted**: right answers that the check accepts.

"""


@functools.cache
def verdict(entry: Mistake | Different) -> Verdict:
    """What the check of its exercise finds about an answer of the catalogue, in the case of the student's notebook."""
    group, name = entry.exercise.split(".")
    try:
        guarded = Guarded(entry.answer)
    except Wrong as wrong:
        return Verdict("wrong", str(wrong))
    if group in SETS:
        return judge(SETS[group][name].run, guarded, 0)
    return judge(getattr(exercises, name).__wrapped__, guarded)  # the check itself, below the part that prints


@functools.cache
def _causes() -> Mapping[str, set[str]]:
    causes: dict[str, set[str]] = collections.defaultdict(set)
    for mistake in MISTAKES:
        causes[mistake.exercise] |= {mistake.cause} - {""}
    return causes


def others_named(mistake: Mistake, words: str) -> list[str]:
    """The words of a verdict by which it names other mistakes of the same exercise."""
    return sorted(cause for cause in _causes()[mistake.exercise] - {mistake.cause} if cause in words)


def record() -> list[dict[str, Any]]:
    """Try every answer: one dict an entry of the catalogue, in the catalogue's order."""
    rows: list[dict[str, Any]] = []
    entries: tuple[Mistake | Different, ...] = (*MISTAKES, *DIFFERENT)
    for entry in entries:
        kind, words = verdict(entry)
        row: dict[str, Any] = {"exercise": entry.exercise, "name": entry.name, "verdict": kind, "words": words}
        if isinstance(entry, Mistake):
            row |= {"cause": entry.cause, "section": entry.section, "others": others_named(entry, words)}
        rows.append(row)
    return rows


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The numbers of a line of the table, by the names of COLUMNS."""
    wrong, right = [row for row in rows if "cause" in row], [row for row in rows if "cause" not in row]
    named = [row for row in wrong if row["cause"]]
    numbers = (
        len(wrong),
        sum(row["verdict"] in ("wrong", "error") for row in wrong),
        len(named),
        sum(row["cause"] in row["words"] for row in named),
        sum(bool(row["others"]) and not (row["cause"] and row["cause"] in row["words"]) for row in wrong),
        len(right),
        sum(row["verdict"] == "right" for row in right),
    )
    return dict(zip(COLUMNS, numbers))


def groups(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each lesson and set, then all."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["exercise"].partition(".")[0]):
        group = row["exercise"].partition(".")[0]
        found.setdefault(f"lesson {group}" if group.isdigit() else group, []).append(row)
    return found | {"all": list(rows)}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table for a terminal."""
    lines = ["".join(f"{name:>15}" for name in ("", *COLUMNS))]
    for group, those in groups(rows).items():
        lines.append("".join(f"{cell:>15}" for cell in (group, *counts(those).values())))
    return "\n".join(lines) + "\n"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The document: the table, then the mistakes of each exercise with the verdicts on them."""
    cells = [["", *COLUMNS], ["---", *["--:"] * len(COLUMNS)]]
    cells += [[group, *map(str, counts(those).values())] for group, those in groups(rows).items()]
    parts = [HEAD + "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in cells) + "\n"]
    for exercise in dict.fromkeys(row["exercise"] for row in sorted(rows, key=lambda row: row["exercise"])):
        those = [row for row in rows if row["exercise"] == exercise]
        section = next(row["section"] for row in those if "cause" in row)
        parts.append(f"## `{exercise}`, section {section.partition(', ')[2]}\n")
        parts.append("".join(_item(row["name"], row["words"]) for row in those if "cause" in row))
        if right := [row["name"] for row in those if "cause" not in row]:
            parts.append(_item("accepted", "; ".join(right)))
    return "\n".join(parts)


def _item(name: str, words: str) -> str:
    text = f"- **{name}**: `{' '.join(words.split()).replace('`', chr(39))}`"
    return textwrap.fill(text, 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) + "\n"


def audit(write: bool) -> str:
    """Try the catalogue and return the table; with `write`, the record and the document are written as well."""
    rows = record()
    if write:
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(RECORD, (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
        write_atomically(DOCUMENT, markdown(rows).encode())
    return table(rows)
