"""The pictures of lesson 9: bars add up, points stand where their numbers are, the frontier is the staircase."""

import numpy as np
import pytest

from xattn_edu import plots


def words(ax):
    ax.figure.canvas.draw()
    return [text.get_text() for text in ax.texts]


def test_recounted_points():
    series = {"all": {"a": 0.1, "b": 2.0}, "some": {"a": -1.0, "b": 0.0}}
    figure = plots.recounted({"FLOPs": ("0.1 G", {"": {"a": 0.2, "b": 0.3}}), "parameters": ("0.1 M", series)})
    assert [list(line.get_xdata()) for line in figure.axes[1].lines[1:]] == [[0.1, 2.0], [-1.0, 0.0]]


def test_block_terms_and_shares():
    assert words(plots.block_terms({"branch L": [1e6, 3e6]}, ("one", "two")).axes[0]) == ["1 M\n25%", "3 M\n75%"]
    assert words(plots.shares_of_parts({"MACs": {"model": [10, 85, 5]}}).axes[0]) == ["10", "85", "5"]


def test_the_frontier_is_a_staircase():
    names, accuracy, cost = ["CrossViT-S", "DeiT-S", "PVT-S", "None"], [81.0, 79.8, 79.0, 78], [5.0, 4.0, 6.0, np.nan]
    costs = {"G MACs": (cost, [True, True, False, False], {}, (2, 4, 8))}
    figure = plots.frontier_panels(names, accuracy, costs, cut=((78.5, 82), (70, 78.5)))
    stairs, *points = figure.axes[0].lines
    assert list(stairs.get_ydata()) == [79.8, 81.0, 81.0] and list(stairs.get_xdata())[:2] == [4.0, 5.0]
    assert words(figure.axes[0]) == ["S", "DeiT-S", "PVT-S"] and len(points) == 3


def test_points_of_models():
    changed = plots.changed_models({"as it is": (5.6, 81.0), "B": (7.7, 80.1)}, (81.0, 0.17), below=["B"])
    assert words(changed.axes[0])[:2] == ["as it is", "B"]
    (ax,) = plots.speed_by_width({"DeiT-S": (384, 4.4)}, 7.85).axes
    assert words(ax) == ["DeiT-S", "the card's peak in float32: 7.85"] and ax.get_ylim()[0] == 0


def test_bars():
    rows = {"by MACs": ("counted", 0.82), "V100": ("printed", 0.71)}
    assert words(plots.relative_speeds(rows).axes[0])[:2] == [" 0.82", " 0.71"]
    (ax,) = plots.time_and_macs({"time": {"attention": 30.0, "rest": 70.0}}).axes
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 30), (30, 70)]


def test_an_intensity_of_zero_stands_at_the_left_end():
    ax = plots.intensities({"L: feed-forward": 75.0, "GELU": 0.0}, 8.7)
    assert [line.get_xdata()[0] for line in ax.lines[:2]] == [75.0, 0.15] and words(ax)[:2] == ["75", "0"]


def test_sweeps_write_their_exponent():
    tokens = [151, 598, 2386]
    figure = plots.token_sweeps({"ms": {"larger": (tokens, np.array(tokens) ** 1.5)}}, ([1, 2], [4.0, 3.0]))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["larger: $T^{1.5}$"]
    assert list(figure.axes[1].lines[0].get_ydata()) == pytest.approx([4.0, 3.0])
