"""What is kept of one student and one set: verdicts, points, texts and remarks, as a file of JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xattn_edu.files import read_json, write_atomically


@dataclass
class Outcome:
    """What came of one exercise. The kinds are those of `Verdict`, and "ended" if the process ended in a call."""

    kind: str
    words: str
    points: float
    out_of: float
    hidden: bool = False  # whether the released check passes and a hidden case does not


@dataclass
class Graded:
    """The record of one student and one set."""

    student: str
    set: str
    fingerprint: str = ""  # of all that it depends on
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # texts that a person reads
    remarks: list[str] = field(default_factory=list)
    confined: list[str] = field(default_factory=list)
    output: str = ""

    @property
    def points(self) -> float:
        return sum(outcome.points for outcome in self.outcomes.values())

    @property
    def out_of(self) -> float:
        return sum(outcome.out_of for outcome in self.outcomes.values())


def load(path: Path) -> Graded:
    """A stored record. Raises ValueError for a file that is none."""
    try:
        stored = read_json(path)
        outcomes = {name: Outcome(**outcome) for name, outcome in stored.pop("outcomes").items()}
        return Graded(**stored, outcomes=outcomes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no record of grading ({error}): delete it and grade again") from error


def save(record: Graded, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(record), indent=1, ensure_ascii=False)
    write_atomically(path, text.encode(errors="backslashreplace"))  # half a surrogate pair, as JSON writes it
