"""The graded sets: their exercises by name, and the check that a notebook of a set calls."""

from collections.abc import Callable, Mapping
from typing import Any

from xattn_edu.exercises.checking import show
from xattn_edu.homework import hw1, hw2, hw3, hw4, hw5
from xattn_edu.homework.exercise import Exercise
from xattn_edu.shapes import check_choice

__all__ = ["SETS", "Exercise", "check"]

SETS: Mapping[str, Mapping[str, Exercise]] = {
    "hw1": hw1.EXERCISES,
    "hw2": hw2.EXERCISES,
    "hw3": hw3.EXERCISES,
    "hw4": hw4.EXERCISES,
    "hw5": hw5.EXERCISES,
}


def check(name: str, answer: Callable[..., Any]) -> None:
    """Print the verdict on an answer to the exercise `name`, as "hw1.softmax_gradient", for the case of the notebook.

    Raises ValueError for a name that no set has.
    """
    exercises = {f"{one}.{exercise}": found for one, those in SETS.items() for exercise, found in those.items()}
    check_choice("exercise", name, exercises)
    show(exercises[name].run, answer, 0)
