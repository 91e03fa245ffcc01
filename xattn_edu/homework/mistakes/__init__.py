"""The catalogue of named mistakes, over the exercises of the lessons and the graded sets."""

from xattn_edu.homework.mistakes import hw1, hw1_right, hw2, hw2_right, hw3, hw4
from xattn_edu.homework.mistakes.mistake import Different, Mistake

__all__ = ["DIFFERENT", "MISTAKES", "Different", "Mistake"]

MISTAKES: tuple[Mistake, ...] = (*hw1.MISTAKES, *hw2.MISTAKES, *hw3.MISTAKES, *hw4.MISTAKES)
DIFFERENT: tuple[Different, ...] = (*hw1_right.DIFFERENT, *hw2_right.DIFFERENT, *hw3.DIFFERENT, *hw4.DIFFERENT)
