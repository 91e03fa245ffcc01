"""Pages for people: one for each student, one of the class for the lecturer, and the marks as a table.

Whatever comes from a student's process is text on these pages, never markup.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from xattn_edu.grading.run import Graded
from xattn_edu.homework.exercise import Exercise

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .4rem .6rem }
tr { border-bottom: 1px solid #ddd } pre { white-space: pre-wrap; background: #f5f5f5; padding: .6rem; margin: 0 }
td.points { white-space: nowrap; text-align: right }"""
SIGNS = {
    "right": "✓ right",
    "not attempted": "○ not attempted",
    "wrong": "✗ wrong",
    "error": "✗ error",
    "ended": "✗ ended",
}


def student_page(record: Graded) -> str:
    """HTML: points and verdict of each exercise, and what was mended in the notebook. No hidden case is on it."""
    rows = [
        f"<tr><td>{escape(name)}</td><td>{SIGNS.get(outcome.kind, escape(outcome.kind))}"
        f"<pre>{escape(outcome.words)}</pre></td><td class='points'>{outcome.points:g} of {outcome.out_of:g}</td></tr>"
        for name, outcome in record.outcomes.items()
    ]
    out_of = sum(outcome.out_of for outcome in record.outcomes.values())
    parts = [f"<h1>{escape(record.set)}: {escape(record.student)}</h1>", f"<p>{record.points:g} of {out_of:g} points."]
    parts += [" Points of written answers are added by hand.</p>" if record.written else "</p>"]
    parts += ["<table><tr><th>exercise</th><th>verdict</th><th>points</th></tr>", *rows, "</table>"]
    if record.remarks:
        parts += ["<h2>About your notebook</h2><ul>", *(f"<li>{escape(line)}</li>" for line in record.remarks), "</ul>"]
    if record.output.strip():
        parts += ["<h2>What it printed (the beginning)</h2>", f"<pre>{escape(record.output)}</pre>"]
    return _page(f"{record.set}: {record.student}", parts)


def class_page(name: str, records: Sequence[Graded], exercises: Mapping[str, Exercise]) -> str:
    """HTML for the lecturer: how many got each exercise right, the mistakes of the class by number, and the marks."""
    parts = [f"<h1>{escape(name)}: {len(records)} students</h1>"]
    if records:
        parts.append(
            f"<p>How their notebooks were confined: {escape('; '.join(records[0].confined) or 'not run')}.</p>"
        )
    parts.append(
        "<table><tr><th>exercise</th><th>right</th><th>not attempted</th><th>what went wrong, how often</th></tr>"
    )
    for one in exercises:
        outcomes = [record.outcomes[one] for record in records if one in record.outcomes]
        kinds = Counter(outcome.kind for outcome in outcomes)
        mistakes = Counter(_mistake(o.words) for o in outcomes if o.kind in ("wrong", "error", "ended"))
        listed = "".join(f"<li>{count} × {escape(words)}</li>" for words, count in mistakes.most_common(8))
        cells = escape(one), f"{kinds['right']} of {len(outcomes)}", kinds["not attempted"], f"<ul>{listed}</ul>"
        parts.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    parts.append("</table><h2>Marks</h2><table><tr><th>student</th><th>points</th><th>remarks</th></tr>")
    for record in sorted(records, key=lambda record: record.student):
        remarks = "<br>".join(map(escape, record.remarks))
        parts.append(f"<tr><td>{escape(record.student)}</td><td>{record.points:g}</td><td>{remarks}</td></tr>")
    return _page(name, [*parts, "</table>"])


def _mistake(words: str) -> str:
    """A verdict without the sizes of the case in which it was found: the cause behind the numbers, if it is known."""
    first = words.splitlines()[0] if words else ""
    _, _, cause = first.partition("wrong numbers")
    named = cause.partition(". ")[2] if cause else ""
    return named or first.partition(": ")[2] or first


def marks(records: Sequence[Graded], exercises: Mapping[str, Exercise]) -> str:
    """CSV: a row for each student, a column for each exercise; written answers have an empty column to fill in."""
    written = sorted({name for record in records for name in record.written})
    sheet = io.StringIO()
    table = csv.writer(sheet, lineterminator="\n")
    table.writerow(["student", *exercises, *(f"{name} (by hand)" for name in written), "points", "remarks"])
    for record in sorted(records, key=lambda record: record.student):
        points = [f"{record.outcomes[name].points:g}" if name in record.outcomes else "" for name in exercises]
        row = [record.student, *points, *[""] * len(written), f"{record.points:g}", "; ".join(record.remarks)]
        table.writerow(["'" + cell if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in row])
    return sheet.getvalue()


def _page(title: str, parts: Sequence[str]) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"
