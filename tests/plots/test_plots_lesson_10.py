"""The pictures of lesson 10 are drawn, show what they were given, and refuse what does not fit."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from xattn_edu import plots
from xattn_edu.plots.referring import PAINT


def drawn(figure):
    figure.canvas.draw()
    return figure


def words_in(ax):
    return [text.get_text() for text in ax.texts]


def test_words_reach_the_decoder_or_every_stage():
    late, early = drawn(plots.fusion_paradigms()).axes
    assert "PWAM" not in words_in(late) and words_in(early).count("PWAM") == 4
    assert {"$F_1$", "$F_2$", "$F_3$", "$F_4$", "$E_1$", "$E_2$", "$E_3$"} <= set(words_in(early))
    assert "$E_4$" not in words_in(early)
    stages = [[text for text in words_in(ax) if text.startswith("stage")] for ax in (late, early)]
    assert stages[0] == stages[1] == ["stage 1", "stage 2", "stage 3", "stage 4"]


def test_boxes_and_maps_show_what_the_words_have_reached():
    """Blue has received the image alone, orange the words alone, green both; a map is named where it is used."""
    late, early = drawn(plots.fusion_paradigms()).axes
    image, words, both = (colour.lower() for colour in (plots.QUERY, plots.KEY, plots.VALUE))
    named = [
        {text.get_text(): to_hex(box.get_facecolor()) for box, text in zip(ax.patches, boxes_of(ax), strict=True)}
        for ax in (late, early)
    ]
    for number in range(1, 5):
        assert named[0][f"stage {number}"] == image
        assert named[1][f"stage {number}"] == (image if number == 1 else both)
    assert named[0]["language\nencoder"] == named[1]["language\nencoder"] == words
    assert named[0]["decoder: its places attend to the words"] == named[1]["PWAM"] == both
    assert [text for text in words_in(late) if text.startswith("$V")] == ["$V_2$", "$V_3$", "$V_4$"]


def boxes_of(ax):
    """The texts in the boxes, in the order of the boxes."""
    return [text for text in ax.texts if to_hex(text.get_color()) == "#ffffff"]


def test_in_both_pictures_queries_are_blue_and_keys_orange():
    left, right = drawn(plots.who_attends()).axes
    colours = [[to_hex(patch.get_facecolor()) for patch in ax.patches] for ax in (left, right)]
    blue, orange = plots.QUERY.lower(), plots.KEY.lower()
    assert [colours[0].count(colour) for colour in (blue, orange)] == [16, 4]  # places, words
    assert [colours[1].count(colour) for colour in (blue, orange)] == [3, 16]  # queries made from words, places


def test_windows_query_and_keys_are_told_apart():
    windows = np.arange(4)[:, None].repeat(2, axis=1)  # four windows, each a row of two
    keys = torch.zeros(4, 2, dtype=torch.bool)
    keys[1] = True
    ax = plots.window_grid(windows, query=(1, 0), keys=keys, title="one row")
    drawn(ax.figure)
    shown = [[to_hex(pixel) for pixel in row] for row in np.asarray(ax.images[0].get_array())]
    assert shown[1] == [plots.QUERY.lower(), plots.KEY.lower()]
    assert {colour for row in (0, 2, 3) for colour in shown[row]} == {"#ededed"}
    assert ax.get_title() == "one row"
    thick = [line.get_xydata().tolist() for line in ax.lines if line.get_linewidth() == 2]
    between = [[[-0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [1.5, 0.5]]]  # windows 0 and 1 lie one above the other
    assert all(line in thick for line in between)
    assert [[0.5, -0.5], [0.5, 0.5]] not in thick  # inside window 0


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"a grid \(row, column\) of window numbers, given \(4,\)"):
        plots.window_grid(np.zeros(4))
    with pytest.raises(ValueError, match=r"keys \(2, 3\) do not fit the windows \(2, 2\)"):
        plots.window_grid(np.zeros((2, 2)), keys=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"the query \(0, 2\) does not lie"):
        plots.window_grid(np.zeros((2, 2)), query=(0, 2))


def test_guesses_for_a_hidden_word_are_bars_in_their_order():
    guesses = {"left [MASK] it": {"of": 0.9, "at": 0.05}, "a [MASK]": {"red": 0.25, "big": 0.125, "car": 0.0}}
    figure = drawn(plots.masked_words(guesses, title="gaps"))
    for ax, (sentence, words) in zip(figure.axes, guesses.items(), strict=True):
        assert ax.get_title() == sentence
        assert [label.get_text() for label in ax.get_yticklabels()] == list(words)
        assert [bar.get_width() for bar in ax.patches] == list(words.values())
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first at the top
        assert ax.get_xlim() == (0, 1)  # probabilities
    for empty in ({}, {"a [MASK]": {}}):
        with pytest.raises(ValueError, match="one sentence at least"):
            plots.masked_words(empty)


IMAGES = np.full((2, 6, 8, 3), 0.5)
MASKS = np.zeros((2, 6, 8), bool)
MASKS[0, 2:4, 3:6] = MASKS[1, :2, :2] = True


def test_scenes_stand_in_rows_a_row_for_each_model():
    painted = {"decoder": MASKS, "LAVT": MASKS[::-1]}
    notes = {"LAVT": ["IoU 1.00", "IoU 0.00"]}
    figure = drawn(plots.scene_rows(IMAGES, ["the car", "the hat"], painted, truth=MASKS, notes=notes, title="both"))
    axes = np.reshape(figure.axes, (2, 2))
    assert [[ax.get_title() for ax in row] for row in axes] == [["the car", "the hat"], ["", ""]]
    assert [words_in(ax) for ax in axes.flat] == [["decoder"], [], ["IoU 1.00", "LAVT"], ["IoU 0.00"]]
    for row, masks in zip(axes, painted.values()):
        for ax, mask in zip(row, masks):
            shown = np.asarray(ax.images[0].get_array())
            np.testing.assert_allclose(shown[mask], np.broadcast_to(0.1 + 0.8 * np.array(PAINT), (mask.sum(), 3)))
            np.testing.assert_allclose(shown[~mask], 0.375)
    for row in axes:
        for ax, mask in zip(row, MASKS):  # the outline is that of the scene's own true mask
            edge = np.concatenate([path.vertices for line in ax.collections for path in line.get_paths()])
            rows, columns = np.nonzero(mask)
            np.testing.assert_allclose(edge.min(axis=0), [columns.min(), rows.min()], atol=0.07)
            np.testing.assert_allclose(edge.max(axis=0), [columns.max() + 1, rows.max() + 1], atol=0.07)


def test_rows_without_the_truth_have_no_outline():
    figure = drawn(plots.scene_rows(IMAGES, ["a", "b"], {"decoder": MASKS}))
    assert not any(ax.collections for ax in figure.axes)


@pytest.mark.parametrize(
    "wrong",
    [{"captions": ["a"]}, {"painted": {"LAVT": MASKS[:1]}}, {"truth": MASKS[:1]}, {"notes": {"LAVT": ["1"]}}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_row_of_another_length_is_refused(wrong):
    given = {"captions": ["a", "b"], "painted": {"LAVT": MASKS}} | wrong
    with pytest.raises(ValueError, match="2 images, but 1 of"):
        plots.scene_rows(IMAGES, **given)


def test_grouped_bars_show_each_series_and_its_seeds():
    scores = {"decoder": {"left": [0.2, 0.4], "not": [0.1, 0.1]}, "LAVT": {"left": 0.8, "not": 0.6}}
    ax = plots.grouped_bars(scores, title="kinds", xlabel="mIoU")
    drawn(ax.figure)
    assert [round(bar.get_width(), 6) for bar in ax.patches] == [0.3, 0.1, 0.8, 0.6]
    assert words_in(ax) == ["0.30", "0.10", "0.80", "0.60"]
    assert [list(line.get_xdata()) for line in ax.lines] == [[0.2, 0.4], [0.1, 0.1]]
    assert ax.get_legend_handles_labels()[1] == ["decoder", "LAVT"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["left", "not"]
    assert ax.yaxis_inverted()
    middles = [bar.get_y() + bar.get_height() / 2 for bar in ax.patches]
    np.testing.assert_allclose(middles, [-0.2, 0.8, 0.2, 1.2])  # side by side around the name, in the series' order
    np.testing.assert_allclose([line.get_ydata() for line in ax.lines], [[-0.2, -0.2], [0.8, 0.8]])


@pytest.mark.parametrize("scores", [{}, {"a": {}}, {"a": {"x": 1}, "b": {"y": 1}}, {name: {"x": 1} for name in "abc"}])
def test_series_with_other_names_or_without_a_colour_are_refused(scores):
    with pytest.raises(ValueError, match="each with the same names"):
        plots.grouped_bars(scores)
