"""The pictures of lesson 5: cuts and shapes are those of the model, maps and dots stand where their numbers are."""

import numpy as np
import pytest
import torch

from xattn_edu import plots
from xattn_edu.models.vit import ViT


def words(figure):
    figure.canvas.draw()
    return [text.get_text() for ax in figure.axes for text in ax.texts]


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_patches_are_cut_at_their_borders_and_numbered(kind):
    figure = plots.patch_cuts(kind(np.zeros((4, 6))), (2, 1), title="a finding")
    whole, two, one = figure.axes
    assert words(figure)[:6] == ["0", "1", "2", "3", "4", "5"] and len(two.texts) == 6 and len(one.texts) == 24
    ends = {tuple(map(tuple, line)) for lines in two.collections for line in lines.get_segments()}
    assert ends == {((0, 2), (6, 2)), ((2, 0), (2, 4)), ((4, 0), (4, 4))}
    assert not whole.texts and two.get_title() == "patch 2: 6 tokens" and figure.get_suptitle() == "a finding"


def test_many_patches_have_no_numbers():
    assert not words(plots.patch_cuts(np.zeros((9, 9)), (1,)))


def test_the_drawing_of_vit_has_the_shapes_of_the_model():
    model = ViT(28, 4, width=24, depth=2, heads=2, classes=7, channels=1)
    tokens = model.embed(torch.zeros(1, 1, 28, 28))
    count = tokens.shape[1]
    said = words(plots.vit_beside_encoder(patch=4, width=24, depth=2, classes=7))
    for shape in ("1×28×28", f"{count - 1} × 16", f"{count - 1} × 24\n+ class token", f"{count} × 24", "24"):
        assert shape in said
    assert "2 blocks\nattention + MLP" in said and any(text.startswith("ViT: 7 logits") for text in said)


def test_a_block_norms_inside_the_branch_or_behind_the_sum():
    figure = plots.two_blocks(tokens=17, width=32)
    figure.canvas.draw()
    order = [
        [text.get_text() for text in sorted(ax.texts, key=lambda text: text.get_position()[0])
         if text.get_text() in ("LN", "attention", "MLP", "+")]
        for ax in figure.axes
    ]  # fmt: skip
    assert order == [["attention", "+", "LN", "MLP", "+", "LN"], ["LN", "attention", "+", "LN", "MLP", "+"]]
    for ax, (starts, ends) in zip(figure.axes, (((0.75, 6.75), (4, 10)), ((0.75, 6.75), (6, 12)))):
        residuals = [line.get_xdata() for line in ax.lines]
        assert [line[0] for line in residuals] == list(starts) and [line[-1] for line in residuals] == list(ends)


def test_position_maps_show_one_place_large_and_all_small():
    table = np.random.default_rng(0).random((2, 3, 2, 3))
    figure = plots.position_maps(table, (1, 2), low=0.2)
    figure.canvas.draw()
    left, right = figure.axes[:2]
    np.testing.assert_array_equal(left.images[0].get_array(), table[1, 2])
    np.testing.assert_array_equal(right.images[0].get_array()[3:, 8:], table[1, 2])
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0.2, 1)


def test_filters_share_one_scale():
    figure = plots.filters(torch.tensor([[[1.0, -3.0]], [[0.5, 0.0]]]), columns=2)
    figure.canvas.draw()
    assert [ax.images[0].get_clim() for ax in figure.axes[:2]] == [(-3, 3)] * 2


def test_distances_are_dots_and_their_means_a_line():
    ax = plots.attention_distances({"one": [[1, 3], [2, 6]], "two": torch.ones(2, 2)}, far=7)
    ax.figure.canvas.draw()
    lines = [list(line.get_ydata()) for line in ax.lines]
    assert [1, 3, 2, 6] in lines and [2, 4] in lines and [7, 7] in lines
    assert ax.get_legend_handles_labels()[1] == ["one", "two", "even attention"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.patch_cuts(np.zeros((4, 4)), (3,)), "4x4, patch 3"),
        (lambda: plots.vit_beside_encoder(patch=5), "image 28, patch 5"),
        (lambda: plots.position_maps(np.zeros((2, 3, 3, 2)), (0, 0)), r"\(2, 3, 3, 2\)"),
        (lambda: plots.position_maps(np.zeros((2, 2, 2, 2)), (2, 0)), r"\(2, 0\).*2x2"),
        (lambda: plots.filters(np.zeros((2, 2))), r"given \(2, 2\)"),
        (lambda: plots.attention_distances({}), "given 0"),
    ],
)
def test_what_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
