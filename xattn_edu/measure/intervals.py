"""The mean of a few runs, its confidence interval, and how many runs it takes to see a difference."""

import math
from collections.abc import Iterable
from statistics import NormalDist
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
    _check_probability("level", level)
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) == 1:
        return Interval(mean, math.inf)
    degrees = len(numbers) - 1
    deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / degrees)
    return Interval(mean, student_t(level, degrees) * deviation / math.sqrt(len(numbers)))


def student_t(level: float, degrees: int) -> float:
    """Student's t: the number t with P(-t < T < t) = `level`, for T with so many degrees of freedom.

    As a function of the angle atan(t / sqrt(degrees)) the probability is a finite sum; the angle is found by bisection.
    Raises ValueError for a level outside (0, 1) and for fewer than one degree of freedom.
    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), formulas 26.7.3 and 26.7.4.
    """
    _check_probability("level", level)
    if degrees < 1:
        raise ValueError(f"degrees must be 1 or more, given {degrees}: an interval needs two runs at least")

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


def power_of(seeds: int, difference: float, deviation: float, level: float = 0.95) -> float:
    """How often the interval of `seeds` paired runs leaves 0 out, when the true difference is `difference`.

    The leads of one model over the other, seed by seed, are normal with the standard deviation `deviation`; the
    interval is that of `mean_interval`. The mean lead over its standard error has the noncentral t distribution. Given
    the estimated deviation it is normal, so its probability is an integral over that estimate.
    Raises ValueError for fewer than two seeds, a deviation that is not above 0, and a level outside (0, 1).
    Source: Cohen, "Statistical Power Analysis for the Behavioral Sciences" (1988), chapter 2.
    """
    if seeds < 2:
        raise ValueError(f"an interval needs two seeds at least, given {seeds}")
    if not (math.isfinite(difference) and deviation > 0 and math.isfinite(deviation)):
        raise ValueError(f"difference must be finite and deviation above 0, given {difference} and {deviation}")
    degrees, steps = seeds - 1, 400
    t, shift = student_t(level, degrees), difference * math.sqrt(seeds) / deviation
    # W is the estimated deviation over the true one: W^2 * degrees is chi-square. Midpoints over where W can lie.
    spread = 8 / math.sqrt(2 * degrees)
    low, high = max(0.0, 1 - spread), 1 + spread
    constant = math.log(2) + degrees / 2 * math.log(degrees / 2) - math.lgamma(degrees / 2)
    inside = NormalDist().cdf
    total = 0.0
    for step in range(steps):
        w = low + (step + 0.5) * (high - low) / steps
        density = math.exp(constant + (degrees - 1) * math.log(w) - degrees * w * w / 2)
        total += density * (inside(shift - t * w) + inside(-shift - t * w))
    return total * (high - low) / steps


def seeds_needed(deviation: float, difference: float, power: float = 0.8, level: float = 0.95) -> int:
    """The fewest seeds with which paired runs show a true `difference` with probability `power`, see `power_of`.

    `deviation` is the standard deviation of the leads, seed by seed, not that of either model's scores.
    Raises ValueError for a difference of 0, a power not between 1 - level and 1, and the errors of `power_of`.
    """
    _check_probability("level", level)
    if difference == 0:
        raise ValueError("no number of seeds shows a difference of 0: give the difference you want to see")
    if not 1 - level < power < 1:
        raise ValueError(f"power must lie between 1 - level = {1 - level:.3g} and 1, given {power}")
    enough = 2
    while power_of(enough, difference, deviation, level) < power:
        enough *= 2
    too_few = enough // 2  # for 2 seeds: 1, which is always too few
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if power_of(middle, difference, deviation, level) < power:
            too_few = middle
        else:
            enough = middle
    return enough


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, given {value}")
