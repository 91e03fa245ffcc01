"""The pictures of lesson 7: what they show is what they were given, and wrong shapes are refused."""

import numpy as np
import pytest
import torch

import xattn_edu as xe
from xattn_edu import plots
from xattn_edu.measure import published


def texts(ax):
    ax.figure.canvas.draw()
    return [text.get_text() for text in ax.texts]


def test_two_networks_stand_side_by_side():
    left, right = plots.two_scale_networks().axes
    assert len(left.patches) == len(right.patches) == 12  # three stages, one small block and three large ones in each
    assert texts(left).count("+") == 3 and "+" not in texts(right)


def test_settings_show_the_blocks_of_table_1():
    models = {name: published.CROSSVIT_MODELS.rows[name] for name in ("CrossViT-9", "CrossViT-18")}
    for ax, row in zip(plots.crossvit_settings(models).axes, models.values()):
        heights = [patch.get_height() for patch in ax.patches]
        assert heights == [row["dimension S"], *[row["dimension L"]] * row["M"]]
        assert f"3 x {row['M']} = {3 * row['M']} blocks" in texts(ax)[-1]
    with pytest.raises(ValueError, match="at least one model"):
        plots.crossvit_settings({})


@pytest.mark.parametrize("name", ["crossvit_tiny_240", "crossvit_15_240"])
def test_the_diagram_shows_the_shapes_of_the_model(name):
    with torch.device("meta"):
        model = xe.create_model(name)
    ax = plots.crossvit_diagram(model, title="a finding")
    found = "\n".join(texts(ax))
    for branch in model.branches:
        assert "{} x {}".format(*branch.positions.shape[1:]) in found
    assert all(f"encoder {number}" in found for number in (1, 2, 3)) and "encoder 4" not in found
    assert len(ax.patches) >= sum(len(branch.blocks) for branch in model.branches)


def test_class_token_attention_has_shapes_on_its_arrows():
    found = texts(plots.class_token_attention_diagram(width=64, other=32, patches=16))
    assert {"1 x 64", "1 x 32", "17 x 32", "16 x 32", "1 x 17"} <= set(found)


def test_cost_by_patch_writes_the_quadratic_share():
    assert texts(plots.cost_by_patch({16: (3e9, 1e9), 8: (1e9, 1e9)})) == ["25%", "50%"]


def test_dependence_counts_pairs_across():
    table = np.eye(5)
    table[0, 4] = 1
    figure = plots.branch_dependence({"one": table}, (2, 1))
    assert figure.axes[0].get_title("center") == "one: 1"
    with pytest.raises(ValueError, match="two class tokens make"):
        plots.branch_dependence({"one": np.eye(4)}, (2, 1))


def test_named_letters():
    figure = plots.named_letters({"S": [90, 25], "L": [80, 30]}, ("as it is", "exchanged"))
    assert texts(figure.axes[0]) == ["90 %", "25 %"] and texts(figure.axes[1]) == ["80 %", "30 %"]
    with pytest.raises(ValueError, match="2 shares"):
        plots.named_letters({"S": [90], "L": [80]}, ("as it is", "exchanged"))


def test_views_and_heads_draw_what_they_are_given():
    picture = np.eye(4)
    figure = plots.letter_views([[picture, picture]], ["seen"], ["a", "b"], "a finding")
    assert [ax.get_title("center") for ax in figure.axes] == ["a", "b"]
    maps = np.arange(8.0).reshape(2, 2, 2)
    figure = plots.heads_over_view(picture, maps, ["one", "two"])
    images = [ax.images[0] for ax in figure.axes[1:3]]
    assert [image.get_clim() for image in images] == [(0, 7), (0, 7)]  # one scale
    np.testing.assert_array_equal(images[1].get_array(), maps[1])


def test_growth_writes_the_exponent():
    tokens = np.array([10.0, 100.0, 1000.0])
    figure = plots.growth(tokens, {"MACs": {"all": tokens**2, "one": 3 * tokens}})
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["all: $N^{2.0}$", "one: $N^{1.0}$"]


def test_folding_pays_up_to_the_crossing():
    keys, width, heads = 197, 384, 6
    assert "55 queries" in texts(plots.folding_pays(keys, width, heads))
