"""The interval of a mean, and the number of runs it takes, against printed tables and against chance itself."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xattn_edu.measure.intervals import Interval, mean_interval, power_of, seeds_needed, student_t


@pytest.mark.parametrize(  # two-sided 95 % and 99 % points of Student's t, from any printed table
    ("degrees", "level", "t"),
    [(1, 0.95, 12.706), (2, 0.95, 4.303), (3, 0.95, 3.182), (4, 0.95, 2.776), (9, 0.95, 2.262), (30, 0.95, 2.042),
     (120, 0.95, 1.980), (2, 0.99, 9.925), (5, 0.99, 4.032)],
)  # fmt: skip
def test_student_table(degrees, level, t):
    n = degrees + 1
    values = [math.sqrt(degrees / 2)] + [0.0] * (n - 2) + [-math.sqrt(degrees / 2)]  # mean 0, deviation 1
    assert mean_interval(values, level).half * math.sqrt(n) == pytest.approx(t, abs=6e-4)
    assert student_t(level, degrees) == pytest.approx(t, abs=6e-4)


def test_interval_covers_as_often_as_it_says():
    samples = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 + 5
    covered = sum(interval.low <= 5 <= interval.high for interval in map(mean_interval, samples.tolist()))
    assert covered / 4000 == pytest.approx(0.95, abs=0.012)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(0.5, 10))
def test_interval_scales_with_its_values(values, scale):
    one, scaled = mean_interval(values), mean_interval([scale * value for value in values])
    assert scaled.mean == pytest.approx(scale * one.mean, abs=1e-6)
    assert scaled.half == pytest.approx(scale * one.half, rel=1e-6, abs=1e-6)


def test_one_run_is_no_interval():
    assert mean_interval([0.8]) == Interval(0.8, math.inf)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_values_that_make_no_mean(values):
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_level_is_a_probability(level):
    with pytest.raises(ValueError, match=str(level)):
        mean_interval([1.0, 2.0], level)


def test_reads_as_text():
    assert f"{Interval(86.44, 0.52):.1f}" == "86.4 ± 0.5"


# --- power


@pytest.mark.parametrize(  # of a paired, two-sided t test at 5 %, power 0.8: any printed table, by effect size
    ("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)]
)
def test_seeds_as_in_printed_tables(effect, seeds):
    assert seeds_needed(1.0, effect) == seeds
    assert seeds_needed(3.0, 3 * effect) == seeds_needed(3.0, -3 * effect) == seeds  # of either unit, of either sign


def test_the_power_of_a_printed_table():
    assert power_of(34, 0.5, 1.0) == pytest.approx(0.8078, abs=5e-5)


@pytest.mark.parametrize(
    ("seeds", "difference", "level"), [(2, 1.0, 0.95), (3, 2.5, 0.9), (5, 0.0, 0.95), (12, 0.9, 0.99)]
)
def test_power_is_how_often_chance_shows_the_difference(seeds, difference, level):
    draws = torch.randn(200_000, seeds, generator=torch.Generator().manual_seed(0), dtype=torch.double) + difference
    half = student_t(level, seeds - 1) * draws.std(dim=1) / math.sqrt(seeds)
    shown = (draws.mean(dim=1).abs() > half).double().mean().item()
    assert power_of(seeds, difference, 1.0, level) == pytest.approx(shown, abs=0.005)


@given(st.floats(0.3, 3), st.floats(0.3, 3), st.floats(0.1, 0.95))
def test_seeds_needed_are_enough_and_one_fewer_is_not(deviation, difference, power):
    seeds = seeds_needed(deviation, difference, power)
    assert power_of(seeds, difference, deviation) >= power
    assert seeds == 2 or power_of(seeds - 1, difference, deviation) < power


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((3.0, 0.0), "difference of 0"),
        ((3.0, 2.5, 1.0), "power must lie between"),
        ((3.0, 2.5, 0.04), "power must lie between"),
        ((3.0, 2.5, 0.8, 95), "level must lie between 0 and 1, given 95"),
        ((0.0, 2.5), "deviation above 0"),
        ((3.0, math.nan), "difference must be finite"),
    ],
)
def test_seeds_needed_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        seeds_needed(*arguments)


def test_an_interval_needs_two_seeds():
    with pytest.raises(ValueError, match="two seeds"):
        power_of(1, 2.5, 3.0)
    with pytest.raises(ValueError, match="two runs"):
        student_t(0.95, 0)
