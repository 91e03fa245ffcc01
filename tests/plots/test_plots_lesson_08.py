"""The pictures of lesson 8: seeds, intervals and moved tokens stand where their numbers are."""

import numpy as np
import pytest

from xattn_edu import plots
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.plots.lesson_07 import BRANCHES

SEEDS = {"none": [30.0, 34.0], "pairwise": [90.0, 94.0]}


def titles(figure):
    figure.canvas.draw()
    return [ax.get_title("center") for ax in figure.axes]


def test_moved_tokens_are_counted():
    assert titles(plots.moved_tokens({"one": [0, 0.5, 0, 0, 0.1]}, (2, 2))) == ["one: 2 of 5"]
    with pytest.raises(ValueError, match="a class token and 2 x 2 patches"):
        plots.moved_tokens({"one": [0, 1]}, (2, 2))


def test_accuracies_have_seeds_and_means():
    figure = plots.accuracies_by_fusion(
        {"here": SEEDS, "paper": {"none": [80.2], "pairwise": [80.3]}}, chance={"here": 25}
    )
    here, paper = figure.axes
    assert titles(figure) == ["here", "paper"]
    drawn = [tuple(line.get_xdata()) for line in here.lines]
    assert (30.0, 34.0) in drawn and (92.0,) in drawn and (25, 25) in drawn
    assert [line.get_marker() for line in paper.lines] == ["D", "D"]
    with pytest.raises(ValueError, match="the fusions of the first one"):
        plots.accuracies_by_fusion({"a": SEEDS, "b": {"none": [1.0]}})


def test_each_branch_keeps_its_colour():
    alone = {"none": {"S": [30.0, 34.0], "L": [60.0, 61.0]}}
    (ax,) = plots.heads_alone({"here": alone}).axes
    points = {line.get_color(): line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"}
    assert points == {BRANCHES["S"]: 32.0, BRANCHES["L"]: mean_interval([60.0, 61.0]).mean}


def test_added_cost_is_relative_to_no_fusion():
    left, right = plots.added_cost({"None": 5.0, "A": 6.0}, {"None": 80.0, "A": 80.5}).axes
    assert [t.get_text() for t in left.texts] == ["+20.0 %"] and [t.get_text() for t in right.texts] == ["+0.5"]


def test_a_look_is_a_dot_of_its_weight_and_the_ring_stands_on_the_cell():
    weights = np.eye(4)[None] / 4
    (ax,) = plots.looks_at_sheet(np.zeros((1, 32, 32)), [6], {"one": weights}).axes
    np.testing.assert_allclose(ax.collections[0].get_sizes(), 900 * weights[0].ravel())
    assert [line.get_xydata()[0].tolist() for line in ax.lines] == [[19.5, 11.5]]


def test_a_hint_ends_at_its_step():
    (ax,) = plots.learning_with_a_hint({"one": np.full(60, 2.0)}, 30).axes
    assert ax.lines[0].get_ydata() == pytest.approx(np.full(36, 2.0)) and list(ax.lines[1].get_xdata()) == [30, 30]
