"""An answer that makes a known mistake, and an answer that is right in another way than the source's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Answer = Callable[..., Any]


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with the words by which a verdict names its mistake.

    `exercise` is "02.heads_apart" for the exercise of a lesson and "hw1.softmax_gradient" for a graded one, `cause` a
    part of the verdict's words that no other mistake of the exercise has, `section` what to read again, as "02, 2.3".
    Without a cause the answer has only to be refused, and must not be named as another mistake.
    """

    exercise: str
    name: str
    answer: Answer
    cause: str
    section: str


@dataclass(frozen=True)
class Different:
    """A right answer that is written in another way; a check must accept it."""

    exercise: str
    name: str
    answer: Answer


def mistakes(exercise: str, section: str, rows: Mapping[str, tuple[str, Answer]]) -> tuple[Mistake, ...]:
    """The mistakes of one exercise from rows {name: (words of the verdict, answer)}."""
    return tuple(Mistake(exercise, name, answer, cause, section) for name, (cause, answer) in rows.items())


def different(group: str, right: Mapping[str, Mapping[str, Answer]]) -> tuple[Different, ...]:
    """The right answers of a lesson ("02") or a set ("hw1") from a table {exercise: {name: answer}}."""
    return tuple(
        Different(f"{group}.{exercise}", name, answer)
        for exercise, answers in right.items()
        for name, answer in answers.items()
    )


class Named(NamedTuple):
    """In a lesson's table: a wrong answer whose mistake the verdict must name, in these words."""

    words: str
    answer: Answer


def entries(
    lesson: int,
    sections: Mapping[str, str],
    wrong: Mapping[str, Mapping[str, Answer | Named]],
    right: Mapping[str, Mapping[str, Answer]],
) -> tuple[tuple[Mistake, ...], tuple[Different, ...]]:
    """The entries of a lesson from its tables {exercise: {name: answer}}; `sections` has the section of an exercise."""
    refused = []
    for exercise, answers in wrong.items():
        for name, answer in answers.items():
            words, answer = answer if isinstance(answer, Named) else ("", answer)
            section = f"{lesson:02}, {sections[exercise]}"
            refused.append(Mistake(f"{lesson:02}.{exercise}", name, answer, words, section))
    return tuple(refused), different(f"{lesson:02}", right)
