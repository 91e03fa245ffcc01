"""The pictures of lesson 6: steps, seeds, shares and lengths stand where their numbers are."""

import numpy as np
import pytest
import torch

from xattn_edu import plots
from xattn_edu.measure import costs
from xattn_edu.models.vit import ViT


def lines(ax):
    ax.figure.canvas.draw()
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]


def test_steps_show_rate_and_loss_and_the_mean_of_25():
    losses = np.arange(30.0)
    figure = plots.training_steps(np.full(30, 0.003), torch.tensor(losses), warmup=3, title="a finding")
    rate, loss = (lines(ax) for ax in figure.axes)
    assert rate[0][1] == [3.0] * 30 and rate[0][0][0] == 1
    assert loss[0][1] == losses.tolist()
    np.testing.assert_allclose(loss[1], ([25, 26, 27, 28, 29, 30], [12, 13, 14, 15, 16, 17]))


def test_scores_stand_at_their_cost_with_a_tick_a_seed():
    ax = plots.against_cost({"small": (1.0, [80, 82]), "large": (4.0, [90])})
    drawn = lines(ax)
    assert ([0.93, 0.93], [80, 82]) in drawn and ([1.0], [81]) in drawn and ([4.0], [90]) in drawn
    assert [text.get_text() for text in ax.texts] == ["small\n2 seeds", "large\n1 seeds"]


def test_few_images_means_are_lines_and_seeds_dots():
    ax = plots.learning_from_few({"one": {10: [50, 60], 100: [70, 80]}, "two": {10: [1], 100: [2]}})
    drawn = lines(ax)
    assert ([10, 100], [55, 75]) in drawn and [50, 60] in [y for _, y in drawn]
    assert ax.get_legend_handles_labels()[1] == ["one", "two"]


def test_rollouts_are_in_units_of_an_even_share_on_one_scale():
    image = np.zeros((4, 4))
    image[1:3, 1:3] = 1
    maps = {"trained": torch.tensor([[[3.0, 1.0], [0.0, 0.0]]]), "untrained": np.ones((1, 2, 2))}
    figure = plots.rollout_rows([image], maps, titles=["boot"], title="a finding")
    figure.canvas.draw()
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), [[3, 1], [0, 0]])
    assert [ax.images[0].get_clim() for ax in figure.axes[1:3]] == [(0, 2.5)] * 2
    assert [ax.get_ylabel() for ax in figure.axes[:3]] == ["image", "trained", "untrained"]


def test_lengths_are_bars_side_by_side():
    ax = plots.stream_norms({"before": [1, 2], "added": [3.25, 4]})
    ax.figure.canvas.draw()
    assert [patch.get_height() for patch in ax.patches] == [1, 2, 3.25, 4]
    assert [text.get_text() for text in ax.texts] == ["1.0", "2.0", "3.2", "4.0"]


def test_erased_has_a_thin_line_a_seed_and_a_thick_mean():
    ax = plots.erased({"chance": ([[0, 10], [0, 20]], [[90, 70], [80, 40]])}, xlabel="ink")
    assert lines(ax) == [([0, 10], [90, 70]), ([0, 20], [80, 40]), ([0, 15], [85, 55])]


def test_the_quadratic_part_is_the_counted_one():
    published = {"ViT-B/32": (55, 80), "ViT-B/16": (224, 84)}
    left, right = plots.patch_or_size(published, {"B": 48}, {"/16": 50}).axes
    assert lines(left)[0] == ([55, 224], [80, 84])
    block = costs.count(ViT(28, 4, width=48, depth=1, heads=2, channels=1).blocks[0], torch.zeros(1, 50, 48))
    x, y = lines(right)[0]
    assert y[x.index(50)] == pytest.approx(100 * block.attention_macs / block.macs)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.training_steps([1, 2], [1], warmup=1), r"\(2,\) rates and \(1,\) losses"),
        (lambda: plots.against_cost({}), "given none"),
        (lambda: plots.learning_from_few({}), "0 names"),
        (lambda: plots.rollout_rows([np.zeros((4, 4))], {"a": []}), "1 images, but 0 of 'a'"),
        (lambda: plots.stream_norms({"a": [1], "b": [1, 2]}), r"\(1,\), \(2,\)"),
        (lambda: plots.erased({"a": ([1], [2])}), "'a'"),
        (lambda: plots.erased({}), "0 orders"),
        (lambda: plots.patch_or_size({"ViT-H/14": (1, 2)}, {"B": 768}, {}), "no size H"),
    ],
)
def test_what_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
