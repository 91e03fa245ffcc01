"""An answer that makes a known mistake, and an answer that is right in another way than the source's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with the words by which a verdict names its mistake.

    `exercise` is "02.heads_apart" for the exercise of a lesson and "hw1.softmax_gradient" for a graded one, `cause` a
    part of the verdict's words that no other mistake of the exercise has, `section` what to read again, as "02, 2.3".
    """

    exercise: str
    name: str
    answer: Callable[..., Any]
    cause: str
    section: str


@dataclass(frozen=True)
class Different:
    """A right answer that is written in another way; a check must accept it."""

    exercise: str
    name: str
    answer: Callable[..., Any]
