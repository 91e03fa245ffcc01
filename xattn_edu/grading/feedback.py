"""Pages for people: one for each student, and for the lecturer one of the class and one of the written answers.

Whatever comes from a student's process is text on these pages, never markup.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from xattn_edu.grading.marks import Given, by_hand, total
from xattn_edu.grading.record import Graded, Outcome
from xattn_edu.homework.exercise import Exercise
from xattn_edu.homework.mistakes import MISTAKES

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
FEWEST = 6  # students of whom it can be said that an exercise was too hard for them


def student_page(
    record: Graded, exercises: Mapping[str, Exercise], written: Mapping[str, float], given: Given | None = None
) -> str:
    """HTML: points and verdict of each exercise, what to read again, and what was mended in the notebook.

    No hidden case is on it. `written` has the points of the written answers, `given` those that a person gave.
    """
    rows = []
    for name, outcome in record.outcomes.items():
        section = _section(f"{record.set}.{name}", outcome, exercises)
        again = f"<p>Read again: lesson {escape(section)}.</p>" if section else ""
        verdict = f"{_sign(outcome)}<pre>{escape(outcome.words)}</pre>{again}"
        rows.append(_row(escape(name), verdict, f"{outcome.points:g} of {outcome.out_of:g}"))
    for name, points in by_hand(record, written, given or {}).items():
        value = "open" if points is None else f"{points:g}"
        rows.append(_row(escape(name), "read by a person", f"{value} of {written[name]:g}"))
    points, out_of = total(record, written, given or {}), record.out_of + sum(written.values())
    parts = [f"<h1>{escape(record.set)}: {escape(record.student)}</h1>", f"<p>{points:g} of {out_of:g} points.</p>"]
    parts += ["<table><tr><th>exercise</th><th>verdict</th><th>points</th></tr>", *rows, "</table>"]
    if record.remarks:
        parts += ["<h2>About your notebook</h2><ul>", *(f"<li>{escape(line)}</li>" for line in record.remarks), "</ul>"]
    if record.output.strip():
        parts += ["<h2>What it printed (the beginning)</h2>", f"<pre>{escape(record.output)}</pre>"]
    return _page(f"{record.set}: {record.student}", parts)


def _sign(outcome: Outcome) -> str:
    return SIGNS.get(outcome.kind, escape(outcome.kind))


def _row(name: str, verdict: str, points: str) -> str:
    return f"<tr><td>{name}</td><td>{verdict}</td><td class='points'>{points}</td></tr>"


def _section(exercise: str, outcome: Outcome, exercises: Mapping[str, Exercise]) -> str:
    """What to read again: the section of the mistake that the verdict names, or else that of the exercise."""
    if outcome.kind == "right":
        return ""
    named = (one.section for one in MISTAKES if one.exercise == exercise and one.cause and one.cause in outcome.words)
    one = exercises.get(exercise.partition(".")[2])
    return next(named, one.section if one else "")


def class_page(
    name: str,
    records: Sequence[Graded],
    exercises: Mapping[str, Exercise],
    written: Mapping[str, float],
    given: Given | None = None,
) -> str:
    """HTML for the lecturer: who got what right, the mistakes of the class by number, what was too hard, the marks."""
    totals = {record.student: total(record, written, given or {}) for record in records}
    parts = [f"<h1>{escape(name)}: {len(records)} students</h1>"]
    if records:
        confined = next((record.confined for record in records if record.confined), [])
        parts.append(f"<p>Half of the class has {statistics.median(totals.values()):g} points or more.</p>")
        parts.append(f"<p>How their notebooks were confined: {escape('; '.join(confined) or 'none was run')}.</p>")
    parts.append("<table><tr><th>exercise</th><th>right</th><th>not attempted</th><th>what went wrong, how often</th>")
    parts.append("</tr>")
    for one in exercises:
        outcomes = [record.outcomes[one] for record in records if one in record.outcomes]
        kinds = Counter(outcome.kind for outcome in outcomes)
        mistakes = Counter(mistake_in(o.words) for o in outcomes if o.kind in ("wrong", "error", "ended"))
        listed = "".join(f"<li>{count} × {escape(words)}</li>" for words, count in mistakes.most_common(8))
        hard = "<br><b>too hard</b>" if too_hard(one, records) else ""
        cells = escape(one) + hard, f"{kinds['right']} of {len(outcomes)}", kinds["not attempted"], f"<ul>{listed}</ul>"
        parts.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    parts.append(
        "</table><p>An exercise is called too hard if fewer than half of the better half of the class have it right. "
        "The better half are those above the median of the points of the other exercises. "
        f"With fewer than {FEWEST} students nothing is called too hard.</p>"
    )
    parts.append("<h2>Marks</h2><table><tr><th>student</th><th>points</th><th>remarks</th></tr>")
    for record in sorted(records, key=lambda record: record.student):
        remarks = "<br>".join(map(escape, record.remarks))
        parts.append(f"<tr><td>{escape(record.student)}</td><td>{totals[record.student]:g}</td><td>{remarks}</td></tr>")
    return _page(name, [*parts, "</table>"])


def too_hard(exercise: str, records: Sequence[Graded]) -> bool:
    """Whether fewer than half of the better half of the class have it right, by the points of the other exercises."""
    graded = [record for record in records if exercise in record.outcomes]  # others are of an earlier state of the set
    found = [(record.points - record.outcomes[exercise].points, record.outcomes[exercise].kind) for record in graded]
    if len(found) < FEWEST:
        return False
    half = statistics.median(points for points, _ in found)
    better = [kind for points, kind in found if points > half] or [kind for points, kind in found if points == half]
    return 2 * better.count("right") < len(better)


def mistake_in(words: str) -> str:
    """A verdict without the sizes of the case in which it was found: the cause behind the numbers, if it is known."""
    first = words.splitlines()[0] if words else ""
    _, _, cause = first.partition("wrong numbers")
    named = cause.partition(". ")[2] if cause else ""
    return named or first.partition(": ")[2] or first


def written_page(name: str, records: Sequence[Graded], written: Mapping[str, float]) -> str:
    """HTML for whoever gives the points: each question with the texts of all students."""
    parts = [f"<h1>{escape(name)}: written answers</h1>"]
    for question, points in written.items():
        parts.append(f"<h2>{escape(question)} ({points:g} points)</h2>")
        for record in sorted(records, key=lambda record: record.student):
            if question in record.written:
                parts.append(f"<h3>{escape(record.student)}</h3><pre>{escape(record.written[question])}</pre>")
    return _page(f"{name}: written answers", parts)


def _page(title: str, parts: Sequence[str]) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"
