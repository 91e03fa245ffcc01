"""What a graded exercise is: a check that can be run on many cases, its points, and what the student is told of it."""

from collections.abc import Callable
from dataclasses import dataclass

from xattn_edu.exercises.guard import Guarded

# Takes the answer and a seed, which decides sizes and numbers of the case. Returns what was shown to be right, raises
# `Wrong` otherwise. Seed 0 is the case of the student's notebook; the lecturer's cases have others.
Run = Callable[[Guarded, int], str]


@dataclass(frozen=True)
class Exercise:
    """One exercise of a graded set.

    `function` is the name that the student's code defines, `points` what a right answer brings, `difficulty` 1 to 3,
    `minutes` what a new student needs, `section` the lesson and section to read again, as "02, 2.3".
    """

    run: Run
    function: str
    points: float
    difficulty: int = 1
    minutes: int = 10
    section: str = ""
