"""The drawings of lesson 4: each shows what it was given, on one scale, and refuses what it cannot show."""

import numpy as np
import pytest
import torch

from xattn_edu import plots


def words(ax):
    ax.figure.canvas.draw()
    return [text.get_text() for text in ax.texts]


def test_gates_have_the_shapes_of_the_layers():
    channel, spatial = plots.gate_diagrams(places=5, width=3).axes
    assert {"1 x 3", "gate 1 x 3", "z\n5 x 3", "out\n5 x 3"} <= set(words(channel))
    assert {"5 x 2", "gate 5 x 1"} <= set(words(spatial))


def test_the_block_has_two_norms_two_sums_and_one_mixer():
    texts = words(plots.mixer_block_diagram(patches=4, pixels=9, width=8, blocks=2, title="a finding"))
    assert texts.count("LayerNorm") == texts.count("+") == 2 and texts.count("mixer") == 1
    assert {"patches\n4 x 9", "4 x 8", "x 2"} <= set(texts)


def test_both_orders_count_their_multiply_adds():
    left, right = plots.product_orders(tokens=100, width=10).axes
    assert "0.2 million" in left.get_title("left") and "0.0 million" in right.get_title("left")
    assert "100 x 100" in words(left) and "100 x 100" not in words(right) and "10 x 10" in words(right)


def test_orders_of_nothing_are_refused():
    with pytest.raises(ValueError, match="1 or more"):
        plots.product_orders(tokens=0)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_influence_tables_share_one_logarithmic_scale(kind):
    table = kind([[1.0, 0.01], [0.0, 1.0]])
    figure = plots.influence_tables({"one": (table, table), "two": (table / 10, table)}, floor=1e-2)
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert {image.get_clim() for image in images} == {(-2.0, 0.0)}
    assert np.allclose(images[0].get_array(), [[0, -2], [-2, 0]])
    assert figure.axes[0].get_ylabel() == "place that moves" and figure.axes[0].get_xlabel() == "changed place"


def test_influence_maps_ring_the_patch_they_are_about():
    figure = plots.influence_maps({"token_mlp": np.ones((3, 4))}, patch=(1, 2))
    ax = figure.axes[0]
    assert ax.get_title() == "token mlp" and ax.lines[0].get_xydata().tolist() == [[2, 1]]


def test_leads_have_both_intervals():
    ax = plots.leads_with_interval({"token_mlp": (2.5, 1.0, 1.4), "none": (-1.4, 1.0, 1.4)}, xlabel="points")
    ends = sorted(segment[:, 0].tolist() for lines in ax.collections for segment in lines.get_segments())
    assert np.allclose(ends, [[-2.8, 0.0], [-2.4, -0.4], [1.1, 3.9], [1.5, 3.5]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["token mlp", "none"]


@pytest.mark.parametrize("draw", [plots.influence_tables, plots.leads_with_interval])
def test_nothing_to_draw_is_refused(draw):
    with pytest.raises(ValueError, match="at least, given none"):
        draw({})


def test_no_maps_are_refused():
    with pytest.raises(ValueError, match="at least, given none"):
        plots.influence_maps({}, patch=(0, 0))
