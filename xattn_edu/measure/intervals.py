"""The mean of a few runs and its confidence interval."""

import math
from collections.abc import Iterable
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean and half the width of its confidence interval; `str` reads "86.4 ± 0.5"."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __format__(self, spec: str) -> str:
        return f"{self.mean:{spec}} ± {self.half:{spec}}"

    def __str__(self) -> str:
        return f"{self:.3g}"


def mean_interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """The mean of independent runs and the half-width of its confidence interval by Student's t: t * s / sqrt(n).

    The interval covers the mean of infinitely many such runs with probability `level`. One run gives no estimate of the
    spread, so its half-width is infinite. Raises ValueError if there are no values, if a value is not finite, and for a
    level outside (0, 1).
    """
    numbers = [float(value) for value in values]
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"mean_interval needs finite values, one at least, given {numbers}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, given {level}")
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) == 1:
        return Interval(mean, math.inf)
    degrees = len(numbers) - 1
    deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / degrees)
    return Interval(mean, _student_t(level, degrees) * deviation / math.sqrt(len(numbers)))


def _student_t(level: float, degrees: int) -> float:
    """Student's t: the number t with P(-t < T < t) = `level`, for T with so many degrees of freedom.

    As a function of the angle atan(t / sqrt(degrees)) the probability is a finite sum; the angle is found by bisection.
    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), formulas 26.7.3 and 26.7.4.
    """

    def inside(angle: float) -> float:
        if degrees % 2:
            term, total = math.cos(angle), 0.0
            for k in range(1, degrees, 2):
                total += term
                term *= math.cos(angle) ** 2 * (k + 1) / (k + 2)
            return 2 / math.pi * (angle + math.sin(angle) * total)
        term, total = 1.0, 0.0
        for k in range(0, degrees, 2):
            total += term
            term *= math.cos(angle) ** 2 * (k + 1) / (k + 2)
        return math.sin(angle) * total

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < level else (low, middle)
    return math.tan(low) * math.sqrt(degrees)
