"""The interval of a mean against printed tables and against chance itself."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xattn_edu.measure.intervals import Interval, mean_interval


@pytest.mark.parametrize(  # two-sided 95 % and 99 % points of Student's t, from any printed table
    ("degrees", "level", "t"),
    [(1, 0.95, 12.706), (2, 0.95, 4.303), (3, 0.95, 3.182), (4, 0.95, 2.776), (9, 0.95, 2.262), (30, 0.95, 2.042),
     (120, 0.95, 1.980), (2, 0.99, 9.925), (5, 0.99, 4.032)],
)  # fmt: skip
def test_student_table(degrees, level, t):
    n = degrees + 1
    values = [math.sqrt(degrees / 2)] + [0.0] * (n - 2) + [-math.sqrt(degrees / 2)]  # mean 0, deviation 1
    assert mean_interval(values, level).half * math.sqrt(n) == pytest.approx(t, abs=6e-4)


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
