"""The catalogue of named mistakes, over the exercises of the lessons and the graded sets."""

from xattn_edu.homework.mistakes import hw4
from xattn_edu.homework.mistakes.mistake import Different, Mistake

__all__ = ["DIFFERENT", "MISTAKES", "Different", "Mistake"]

MISTAKES: tuple[Mistake, ...] = (*hw4.MISTAKES,)
DIFFERENT: tuple[Different, ...] = (*hw4.DIFFERENT,)
