"""The pictures of lesson 11: what they draw is what they were given, and they refuse what does not fit."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from xattn_edu import plots

QUERIES = np.random.default_rng(0).normal(size=(12, 5))
KEYS = np.random.default_rng(1).normal(size=(3, 5))
COLOURS = np.full((12, 3), 0.5)
WORDS = ["the", "red", "car"]


def drawn(figure):
    figure.canvas.draw()
    return figure


# --- pixels_and_words


def points_and_tips(ax):
    tips = {text.get_text(): text.xy for text in ax.texts if text.get_text()}
    return np.asarray(ax.collections[0].get_offsets()), np.array([tips[word] for word in WORDS])


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_in_two_dimensions_the_products_of_points_and_arrows_are_the_scores(kind):
    # Three keys less their mean span a plane, so nothing is lost in it.
    ax = plots.pixels_and_words(kind(QUERIES), kind(KEYS), kind(COLOURS), WORDS, title="a finding")
    drawn(ax.figure)
    points, tips = points_and_tips(ax)
    scores = QUERIES @ (KEYS - KEYS.mean(axis=0)).T
    shown = points @ tips.T
    factor = (shown * scores).sum() / (scores * scores).sum()  # all arrows are drawn longer by one factor
    assert factor > 0
    np.testing.assert_allclose(shown, factor * scores, atol=1e-6)  # tensors come as float32
    assert ax.get_title("left") == "a finding" and ax.get_aspect() == 1


def test_a_point_has_the_colour_of_its_pixel():
    colours = np.random.default_rng(4).random((12, 3))
    ax = plots.pixels_and_words(QUERIES, KEYS, colours, WORDS)
    drawn(ax.figure)
    np.testing.assert_allclose(ax.collections[0].get_facecolors()[:, :3], colours)


def test_the_plane_shows_more_of_the_scores_than_any_two_channels():
    keys = np.random.default_rng(2).normal(size=(5, 5))
    ax = plots.pixels_and_words(QUERIES, keys, COLOURS, [*"abcde"])
    tips = {text.get_text(): text.xy for text in ax.texts if text.get_text()}
    shown = np.asarray(ax.collections[0].get_offsets()) @ np.array([tips[word] for word in "abcde"]).T

    def kept(seen, scores):
        seen, scores = seen - seen.mean(axis=0), scores - scores.mean(axis=0)
        return 1 - ((seen * (seen * scores).sum() / (seen**2).sum() - scores) ** 2).sum() / (scores**2).sum()

    centred = keys - keys.mean(axis=0)
    scores = QUERIES @ centred.T
    pairs = [(a, b) for a in range(5) for b in range(a)]
    assert kept(shown, scores) > max(kept(QUERIES[:, pair] @ centred[:, pair].T, scores) for pair in pairs)


def test_marked_pixels_have_a_ring():
    ax = plots.pixels_and_words(QUERIES, KEYS, COLOURS, WORDS, marked=np.arange(12) < 4)
    points, rings = (np.asarray(part.get_offsets()) for part in ax.collections)
    np.testing.assert_allclose(rings, points[:4])


@pytest.mark.parametrize(
    ("queries", "keys", "colours", "words", "said"),
    [
        (QUERIES[:, :4], KEYS, COLOURS, WORDS, "as many channels"),
        (QUERIES[None], KEYS, COLOURS, WORDS, "choose one scene"),
        (QUERIES, KEYS[:1], COLOURS, WORDS[:1], "two words or more"),
        (QUERIES, KEYS, COLOURS, WORDS[:2], "2 words for 3 keys"),
        (QUERIES, KEYS, COLOURS[:5], WORDS, r"colours \(5, 3\) for 12 pixels"),
    ],
)
def test_queries_and_keys_that_do_not_fit_are_refused(queries, keys, colours, words, said):
    with pytest.raises(ValueError, match=said):
        plots.pixels_and_words(queries, keys, colours, words)
    assert not plt.get_fignums()


# --- word_maps

IMAGE = np.full((8, 8, 3), 0.5)
SHARES = np.random.default_rng(3).random((4, 4, 2))


def test_word_maps_are_less_their_mean_and_on_one_scale():
    figure = drawn(plots.word_maps(IMAGE, SHARES, ["red", "car"], sentence="the red car", limit=0.5, title="a finding"))
    first, *maps = figure.axes[:3]
    assert first.get_title() == "the red car" and [ax.get_title() for ax in maps] == ["red", "car"]
    for ax, values in zip(maps, np.moveaxis(SHARES, 2, 0)):
        np.testing.assert_allclose(ax.images[0].get_array(), values - values.mean())
        assert ax.images[0].get_clim() == (-0.5, 0.5)
    assert len(figure.axes) == 4 and figure._suptitle.get_text() == "a finding"  # one colour bar


def test_word_maps_show_a_prediction():
    plain, painted = (
        np.asarray(plots.word_maps(IMAGE, SHARES, ["red", "car"], predicted=given).axes[0].images[0].get_array())
        for given in (None, np.ones((8, 8)))
    )
    assert np.abs(painted - plain).min() > 0.2


@pytest.mark.parametrize("shares", [SHARES[..., :1], SHARES[0]], ids=["one map", "no grid"])
def test_a_word_without_a_map_is_refused(shares):
    with pytest.raises(ValueError, match="with 2 words"):
        plots.word_maps(IMAGE, shares, ["red", "car"])
    assert not plt.get_fignums()


# --- score_bars


def test_score_bars_carry_their_numbers_and_the_line_of_the_whole():
    ax = plots.score_bars({"as it is": 0.6, "shut": 0.5, "open": 0.4}, whole=0.55, groups=[0, 1, 1], title="a finding")
    drawn(ax.figure)
    assert [bar.get_width() for bar in ax.patches] == [0.6, 0.5, 0.4]
    assert [text.get_text() for text in ax.texts] == ["0.600", "0.500", "0.400"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["as it is", "shut", "open"]
    colours = [bar.get_facecolor() for bar in ax.patches]
    assert colours[1] == colours[2] != colours[0] and ax.get_xlim()[0] == 0
    assert list(ax.lines[0].get_xdata()) == [0.55, 0.55] and ax.yaxis_inverted()


@pytest.mark.parametrize(("scores", "groups"), [({}, None), ({"a": 1.0}, [0, 1])])
def test_bars_without_scores_or_with_other_groups_are_refused(scores, groups):
    with pytest.raises(ValueError, match="group for each"):
        plots.score_bars(scores, groups=groups)
    assert not plt.get_fignums()


# --- dots_by_group


def test_dots_are_the_values_and_the_control_is_grey():
    panels = {"stage 1": {"left": [-1.0, -0.5], "the": [0.1, -0.1, 0.6]}, "stage 2": {"left": [2.0]}}
    figure = drawn(plots.dots_by_group(panels, control="the", label="shares", title="a finding"))
    one, two = figure.axes
    np.testing.assert_array_equal(one.lines[0].get_xdata(), [-1.0, -0.5])
    assert one.lines[1].get_color() == plots.GREY != one.lines[0].get_color()
    assert one.get_xlim() == two.get_xlim() and (one.get_title("left"), one.get_xlabel()) == ("stage 1", "shares")
    means = [segments[0][0, 0] for segments in (part.get_segments() for part in one.collections)]
    np.testing.assert_allclose(means, [-0.75, 0.2])
    assert [label.get_text() for label in one.get_yticklabels()] == ["left", "the"] and one.yaxis_inverted()
    assert [line.get_xdata() for line in one.lines if line.get_linestyle() == ":"] == [[0, 0]]


@pytest.mark.parametrize("panels", [{}, {"stage 1": {"left": []}}])
def test_no_panel_and_no_values_are_refused(panels):
    with pytest.raises(ValueError, match="one panel at least"):
        plots.dots_by_group(panels)
    assert not plt.get_fignums()
