"""Every picture is drawn, shows the numbers it was given, and refuses what it cannot show."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from xattn_edu import plots
from xattn_edu.data.scenes.sprites import TINTS


def drawn(ax):
    """Render it, which is where matplotlib meets what it does not like, and give it back."""
    ax.figure.canvas.draw()
    return ax


KINDS = {
    "numpy": lambda x: x,
    "list": lambda x: x.tolist(),
    "torch": torch.tensor,
    "grad": lambda x: torch.tensor(x, requires_grad=True),
    "bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "float32": lambda x: x.astype(np.float32),
}
any_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)

WEIGHTS = np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
GREY = np.linspace(0, 1, 6 * 8).reshape(6, 8)


# --- attention_heatmap


@any_kind
def test_a_heatmap_shows_its_weights(kind):
    ax = drawn(plots.attention_heatmap(kind(WEIGHTS), title="a finding"))
    np.testing.assert_array_equal(ax.images[0].get_array(), WEIGHTS)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title("left")) == ("key", "query", "a finding")
    assert [text.get_text() for text in ax.texts] == ["0.50", "0.25", "0.25", "0.00", "0.00", "1.00"]
    assert [text.get_position() for text in ax.texts] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("shape", "numbers", "count"),
    [((8, 8), None, 64), ((9, 2), None, 0), ((2, 9), None, 0), ((9, 2), True, 18), ((2, 2), False, 0)],
)
def test_small_heatmaps_carry_numbers(shape, numbers, count):
    assert len(plots.attention_heatmap(np.ones(shape), numbers=numbers).texts) == count


@pytest.mark.parametrize("keys", ["abc", ["the", "quick", "brown"]])
def test_a_heatmap_names_queries_and_keys(keys):
    ax = drawn(plots.attention_heatmap(WEIGHTS, queries=["one", "two"], keys=keys))
    assert [label.get_text() for label in ax.get_xticklabels()] == list(keys)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two"]


@pytest.mark.parametrize("weights", [np.zeros((2, 2)), np.ones((1, 1)), np.ones((1, 40)), np.ones((40, 1))])
def test_heatmaps_of_odd_sizes(weights):
    ax = drawn(plots.attention_heatmap(weights))
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), weights)
    assert image.get_extent() == [-0.5, weights.shape[1] - 0.5, weights.shape[0] - 0.5, -0.5]
    assert ax.get_aspect() == (1 if weights.shape[0] == weights.shape[1] else "auto")
    colours = image.to_rgba(weights)[..., :3]
    assert (colours.max() < 0.5) if weights.any() else (colours.min() > 0.95)  # dark blue; white, also without a weight
    for axis, size in ((ax.xaxis, weights.shape[1]), (ax.yaxis, weights.shape[0])):
        ticks = [place for place in axis.get_ticklocs() if 0 <= place < size]
        assert ticks and all(place == int(place) for place in ticks)  # every number on an axis is one of a token


def test_white_is_zero_and_dark_is_the_largest_weight():
    image = plots.attention_heatmap(WEIGHTS + 1).images[0]
    assert image.get_clim() == (0, 2)
    luminance = image.cmap(np.linspace(0, 1, 20))[:, :3].mean(1)
    assert (np.diff(luminance) < 0).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: plots.attention_heatmap(np.ones((2, 3, 4))), r"\(2, 3, 4\)"),
        (lambda: plots.attention_heatmap(np.ones(3)), r"\(3,\)"),
        (lambda: plots.attention_heatmap(WEIGHTS, queries="abc"), r"3 labels in queries .*\(2, 3\)"),
        (lambda: plots.attention_heatmap(WEIGHTS, keys="ab"), r"2 labels in keys .*\(2, 3\)"),
        (lambda: plots.patch_grid(GREY, 4), "image 6x8, patch 4"),
        (lambda: plots.patch_grid(GREY, 0), "image 6x8, patch 0"),
        (lambda: plots.patch_grid(np.ones((3, 6, 8)), 2), r"given \(3, 6, 8\)"),
        (lambda: plots.patch_grid(np.ones(6), 2), r"given \(6,\)"),
        (lambda: plots.attention_over_image(GREY, np.ones(12)), r"given \(12,\)"),
        (lambda: plots.attention_over_image(np.ones((1, 6, 8)), np.ones((3, 4))), r"given \(1, 6, 8\)"),
        (lambda: plots.attention_rollout([], []), "0 images"),
        (lambda: plots.attention_rollout([GREY], []), "1 images, 0 rollouts"),
        (lambda: plots.attention_rollout([GREY], [WEIGHTS], titles=["a", "b"]), "2 titles"),
        (lambda: plots.learning_curves({}), "at least one curve"),
        (lambda: plots.learning_curves({"loss": ([1, 2], [1])}), "'loss'"),
        (lambda: plots.learning_curves({"loss": ([], [])}), "'loss'"),
        (lambda: plots.learning_curves({"loss": (WEIGHTS, WEIGHTS)}), "'loss'"),
        (lambda: plots.word_shares({}, ["a"]), "0 groups for 4 colours"),
        (lambda: plots.word_shares({"x": [1], "y": [1]}, ["a"], colours=["red"]), "2 groups for 1 colours"),
        (lambda: plots.word_shares({"x": [1, 0]}, ["a"]), r"'x': shares of shape \(2,\) for 1 words"),
        (lambda: plots.word_shares({"x": WEIGHTS}, ["a", "b"]), r"'x': shares of shape \(2, 3\) for 2 words"),
        (lambda: plots.signed_map(np.ones((2, 3, 4))), r"given \(2, 3, 4\)"),
        (lambda: plots.signed_map(np.ones(3)), r"given \(3,\)"),
        (lambda: plots.signed_map(WEIGHTS, image=np.ones((1, 6, 8))), r"given \(1, 6, 8\)"),
        (lambda: plots.queries_against_keys({}), r"given \{\}"),
        (lambda: plots.queries_against_keys({"a": (0, 3)}), r"1 or more, given \{'a': \(0, 3\)\}"),
        (lambda: plots.queries_against_keys({"a": (1, 3)}, sides={"b": "left"}), "'b' 'left'"),
        (lambda: plots.queries_against_keys({"a": (1, 3)}, sides={"a": "below"}), "'a' 'below'"),
    ],
)
def test_what_cannot_be_shown_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# --- images


@any_kind
def test_a_patch_grid_shows_every_patch_apart_and_numbered(kind):
    image = KINDS["torch"](GREY).to(torch.bfloat16).double().numpy() if kind is KINDS["bfloat16"] else GREY
    ax = drawn(plots.patch_grid(kind(GREY), 2, gap=1))
    shown = ax.images[0].get_array()
    assert shown.shape == (8, 11)
    for row in range(3):
        for column in range(4):
            patch = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            np.testing.assert_allclose(shown[3 * row : 3 * row + 2, 3 * column : 3 * column + 2], patch, atol=1e-7)
    assert (shown[2] == 1).all() and (shown[:, 2] == 1).all()
    assert [text.get_text() for text in ax.texts] == [str(n) for n in range(12)]


def test_a_patch_grid_in_colour_without_numbers():
    ax = drawn(plots.patch_grid(np.random.default_rng(0).random((6, 8, 3)), 2, numbers=False, gap=0))
    assert ax.images[0].get_array().shape == (6, 8, 3) and not ax.texts


@pytest.mark.parametrize("kind", [lambda x: x, torch.from_numpy])
def test_eight_bit_images_are_scaled(kind):
    ax = plots.patch_grid(kind(np.full((2, 2), 255, np.uint8)), 2)
    assert (ax.images[0].get_array() == 1).all()


@any_kind
def test_attention_shines_where_the_weight_is(kind):
    grid = np.array([[0.0, 0.5, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5]])
    ax = drawn(plots.attention_over_image(GREY, kind(grid / 2), title="a finding"))
    image, light = ax.images
    assert image.get_extent() == light.get_extent() == [0, 8, 6, 0]
    alpha = np.asarray(light.get_array())[..., 3]
    np.testing.assert_allclose(alpha / alpha.max(), grid, atol=1e-6)
    assert ax.get_title("left") == "a finding"


def test_attention_that_is_nowhere_shines_nowhere():
    light = drawn(plots.attention_over_image(GREY, np.zeros((3, 4)))).images[1]
    assert (np.asarray(light.get_array())[..., 3] == 0).all()


@any_kind
def test_rollouts_stand_below_their_images(kind):
    images = [kind(GREY), kind(GREY[::-1].copy())]
    figure = plots.attention_rollout(images, [kind(np.eye(2))] * 2, titles=["a", "b"], title="a finding")
    figure.canvas.draw()
    top, bottom = figure.axes[:2], figure.axes[2:]
    assert [ax.get_title() for ax in top] == ["a", "b"] and figure.get_suptitle() == "a finding"
    assert [len(ax.images) for ax in top] == [1, 1] and [len(ax.images) for ax in bottom] == [2, 2]
    np.testing.assert_allclose(top[1].images[0].get_array(), GREY[::-1], atol=0.01)


@any_kind
def test_an_even_rollout_stays_dark_and_two_and_a_half_even_shares_are_full(kind):
    maps = [np.full((2, 2), 0.25), np.array([[0.25, 0.25], [0.0, 0.5]]), np.array([[0.625, 0.125], [0.125, 0.125]])]
    figure = plots.attention_rollout([GREY] * 3, [kind(rollout) for rollout in maps])
    alphas = [np.asarray(ax.images[1].get_array())[..., 3] for ax in figure.axes[3:]]
    assert (alphas[0] == 0).all()
    np.testing.assert_allclose(alphas[1], [[0, 0], [0, 0.9 / 1.5]], atol=1e-6)  # twice an even share
    np.testing.assert_allclose(alphas[2], [[0.9, 0], [0, 0]], atol=1e-6)


# --- curves


@any_kind
def test_curves_are_named_at_their_ends(kind):
    curves = {"train": (kind(np.array([1.0, 2, 3])), kind(np.array([4.0, 2, 1]))), "test": (range(2), [8, 4])}
    ax = drawn(plots.learning_curves(curves, xlabel="step", ylabel="loss", title="a finding"))
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[1, 4], [2, 2], [3, 1]])
    names = {text.get_text(): text for text in ax.texts}
    assert set(names) == {"train", "test"} and names["train"].xy == (3, 1)
    assert to_hex(ax.lines[0].get_color()) == to_hex(names["train"].get_color()) != to_hex(names["test"].get_color())
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title("left")) == ("step", "loss", "a finding")


def test_names_of_curves_that_end_together_stand_apart():
    ax = drawn(plots.learning_curves({name: ([0, 1], [0, 1]) for name in "abc"}))
    heights = sorted(text.xy[1] for text in ax.texts)
    assert min(np.diff(heights)) > 0.05


def test_one_point_is_visible_and_more_curves_than_colours_are_drawn():
    assert drawn(plots.learning_curves({"a": ([1], [2])})).lines[0].get_marker() == "o"
    assert len(drawn(plots.learning_curves({str(n): ([0, 1], [0, n]) for n in range(9)})).lines) == 9


# --- bars


@any_kind
def test_every_word_has_a_bar_for_each_group_side_by_side(kind):
    shares = {"here": kind(np.array([0.5, 0.25, 0.25])), "there": kind(np.array([0.0, 0.0, 1.0]))}
    ax = drawn(plots.word_shares(shares, ["the", "the", "cat"], colours=["red", "blue"], title="a finding"))
    for bars, colour, widths, side in zip(ax.containers, ("red", "blue"), WEIGHTS, (-1, 1)):
        np.testing.assert_allclose([bar.get_width() for bar in bars], widths)
        np.testing.assert_allclose([bar.get_y() + bar.get_height() / 2 for bar in bars], np.arange(3) + side * 0.2)
        assert {to_hex(bar.get_facecolor()) for bar in bars} == {to_hex(colour)}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["the", "the", "cat"]
    assert ax.get_legend_handles_labels()[1] == ["here", "there"] and ax.get_title("left") == "a finding"


def test_one_group_of_shares_has_the_keys_colour_and_reads_from_the_top_down():
    ax = drawn(plots.word_shares({"a pixel": [0.25, 0.75]}, "ab"))
    assert {to_hex(bar.get_facecolor()) for bar in ax.patches} == {plots.KEY.lower()}
    assert [bar.get_y() + bar.get_height() / 2 for bar in ax.patches] == [0, 1]
    assert ax.yaxis_inverted() and ax.get_xlabel() == "attention"


# --- queries_against_keys

USES = {"self": (9, 9), "class token": (1, 400), "pixels": (1000, 20)}


def test_layers_stand_at_their_sizes_and_their_colour_tells_who_are_more():
    ax = drawn(plots.queries_against_keys(USES, title="a finding"))
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [tuple(np.ravel(point.get_data())) for point in points] == [(9, 9), (400, 1), (20, 1000)]
    assert [point.get_color() for point in points] == ["black", plots.VALUE, plots.QUERY]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_title("left")) == ("log", "log", "a finding")
    assert ax.get_xlim() == (0.7, 1600) and ax.get_ylim() == (0.7, 4000)
    assert [text.get_text() for text in ax.texts] == ["N = M", *USES]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("keys and values M", "queries N")
    (equal,) = [line for line in ax.lines if line.get_linestyle() == "-" and line.get_marker() != "o"]
    assert all(x == y for x, y in (equal.get_xy1(), equal.get_xy2()))


def test_names_stand_on_the_side_they_are_given():
    ax = drawn(plots.queries_against_keys(USES, sides={"pixels": "left", "self": "above"}))
    boxes = {text.get_text(): text.get_window_extent() for text in ax.texts}
    at = {name: ax.transData.transform((keys, queries)) for name, (queries, keys) in USES.items()}
    assert boxes["pixels"].x1 < at["pixels"][0] and boxes["class token"].x0 > at["class token"][0]
    assert boxes["self"].y0 > at["self"][1]


def test_lines_of_equal_products_are_straight_and_their_labels_parallel():
    ax = drawn(plots.queries_against_keys(USES, products={1000: 50}))
    (label,) = [text for text in ax.texts if text.get_text() == "N x M = 1,000"]
    start, end = ax.transData.transform([(1, 1000), (1000, 1)])
    assert label.get_rotation() % 360 == pytest.approx(np.degrees(np.arctan2(*(end - start)[::-1])) % 360, abs=0.1)
    assert label.get_position()[0] == 50 and 1000 / 50 < label.get_position()[1] < 1.5 * 1000 / 50
    (line,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert {line.get_xy1(), line.get_xy2()} == {(1, 1000), (1000, 1)}


# --- one look


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plots.attention_heatmap(WEIGHTS, ax=ax),
        lambda ax: plots.patch_grid(GREY, 2, ax=ax),
        lambda ax: plots.attention_over_image(GREY, np.eye(2), ax=ax),
        lambda ax: plots.learning_curves({"a": ([0, 1], [0, 1])}, ax=ax),
        lambda ax: plots.word_shares({"x": [0.5, 0.5]}, "ab", ax=ax),
        lambda ax: plots.signed_map(WEIGHTS, ax=ax),
        lambda ax: plots.pwam_diagram(ax=ax),
        lambda ax: plots.score_bars({"a": 0.5}, ax=ax),
        lambda ax: plots.pixels_and_words(WEIGHTS, WEIGHTS, WEIGHTS, "ab", ax=ax),
        lambda ax: plots.queries_against_keys({"a": (1, 2)}, products={10: 2}, ax=ax),
    ],
)
def test_a_plot_goes_into_the_axes_it_is_given_and_leaves_matplotlib_as_it_was(draw):
    with plt.rc_context():
        before = dict(plt.rcParams)
        ax = plt.figure().add_subplot()
        assert draw(ax) is ax and len(plt.get_fignums()) == 1
        draw(None)
        assert len(plt.get_fignums()) == 2 and dict(plt.rcParams) == before


def test_use_style_sets_the_look():
    with plt.rc_context():
        plots.use_style()
        assert plt.rcParams["axes.titlelocation"] == "left" and not plt.rcParams["axes.spines.top"]
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == plots.CYCLE


def test_colours_are_told_apart():
    assert len({plots.QUERY, plots.KEY, plots.VALUE, plots.OUTPUT}) == 4 and len(set(plots.CYCLE)) == len(plots.CYCLE)


@pytest.mark.parametrize("image", [np.full((4, 4), 255.0), np.full((4, 4), -1.0), np.full((4, 4), np.nan)])
def test_an_image_outside_its_range_is_refused_not_clipped(image):
    with pytest.raises(ValueError, match=r"0\.\.1"):
        plots.attention_over_image(image, np.ones((2, 2)))


def test_alignment_draws_a_line_for_each_weight_that_counts():
    weights = [[0.9, 0.05, 0.05], [0.3, 0.7, 0.0]]
    ax = plots.alignment(weights, source=["a", "b", "c"], target=["x", "y"], title="t")
    assert len(ax.lines) == 3 and ax.get_title(loc="left") == "t"
    widths = [line.get_linewidth() for line in ax.lines]
    assert widths[0] > widths[2] > widths[1]  # 0.9, 0.3, 0.7 in the order they are drawn
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c", "x", "y"]
    at = {text.get_text(): text.get_position() for text in ax.texts}
    assert all((at[name][1] > 1) == (name in "abc") for name in at)  # sources stand above, targets below
    for line, (target, source) in zip(ax.lines, ("xa", "ya", "yb")):
        np.testing.assert_allclose(line.get_xydata(), [(at[target][0], 0), (at[source][0], 1)])


def test_alignment_with_labels_that_do_not_fit():
    with pytest.raises(ValueError, match=r"2 target and 2 source tokens for weights of shape \(2, 3\)"):
        plots.alignment(torch.ones(2, 3), source=["a", "b"], target=["x", "y"])


# --- fusion_diagram


def ends(ax):
    """The pairs of points that lines join, each as ((x, y), (x, y)), and the places of the two class tokens."""
    lines = [patch._posA_posB for patch in ax.patches if hasattr(patch, "_posA_posB")]
    return [tuple(map(tuple, line)) for line in lines], [tuple(c.center) for c in ax.patches if hasattr(c, "center")]


@pytest.mark.parametrize(("fusion", "lines"), [("none", 0), ("class_token", 1), ("pairwise", 5), ("all_attention", 50)])
def test_a_fusion_is_drawn_with_its_lines(fusion, lines):
    drawn_lines, _ = ends(drawn(plots.fusion_diagram(fusion, title="so")))
    assert len(drawn_lines) == lines
    assert all(start[0] < 1 < end[0] for start, end in drawn_lines)  # from branch S to branch L
    assert len(set(drawn_lines)) == lines


def test_pairs_lie_at_the_same_place_of_both_grids():
    """The class tokens, and each corner of S's grid with the patch of L in that corner."""
    lines, (small, large) = ends(drawn(plots.fusion_diagram("pairwise")))
    assert (small, large) in lines
    for start, end in set(lines) - {(small, large)}:
        middles = (0.42, 0.40), (1.68, 0.39)  # of the two grids
        sides = [(x < middle[0], y < middle[1]) for (x, y), middle in zip((start, end), middles)]
        assert sides[0] == sides[1]


def test_in_cross_attention_only_class_tokens_ask_and_only_the_other_branch():
    lines, (small, large) = ends(drawn(plots.fusion_diagram("cross_attention")))
    assert len(lines) == 9 + 4 and {start for start, _ in lines} == {small, large}
    middle = (small[0] + large[0]) / 2
    assert all((start[0] < middle) != (end[0] < middle) for start, end in lines)


def test_every_fusion_of_the_library_is_drawn_and_no_other():
    from xattn_edu.models.fusions import PAPER_FUSIONS

    for fusion in PAPER_FUSIONS:
        drawn(plots.fusion_diagram(fusion))
    with pytest.raises(ValueError, match="fusion must be one of none, .* given 'cross'"):
        plots.fusion_diagram("cross")


# --- referent

SCENE = np.linspace(0.3, 1, 6 * 8 * 3).reshape(6, 8, 3)
INSIDE = np.zeros((6, 8), bool)
INSIDE[2:4, 3:6] = True


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_a_referent_keeps_its_light_and_the_rest_loses_it(kind):
    ax = drawn(plots.referent(kind(SCENE), kind(INSIDE), "the small red car next to the tree"))
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shown[INSIDE], SCENE[INSIDE])
    assert (abs(shown - SCENE)[~INSIDE].max(axis=1) > 0.01).all()
    assert ax.get_title().split("\n") == ["the small red car next", "to the tree"]


def test_the_outline_runs_along_the_edges_of_the_pixels():
    ax = drawn(plots.referent(SCENE, INSIDE))
    lines = np.concatenate([path.vertices for collection in ax.collections for path in collection.get_paths()])
    np.testing.assert_allclose(lines.min(axis=0), [3, 2], atol=0.07)
    np.testing.assert_allclose(lines.max(axis=0), [6, 4], atol=0.07)


def test_a_prediction_is_painted_and_the_truth_is_an_outline():
    predicted = np.roll(INSIDE, 1, axis=1)
    ax = drawn(plots.referent(SCENE, INSIDE, predicted=predicted))
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shown[~predicted], 0.75 * SCENE[~predicted])
    np.testing.assert_allclose(shown[predicted], 0.2 * SCENE[predicted] + 0.8 * np.array([1, 0, 1]))
    assert ax.collections


def test_paint_is_like_no_colour_of_an_object():
    colours = (TINTS / 255)[None]  # one row of pixels, a pixel a colour
    painted, bare = (
        np.asarray(plots.referent(colours, predicted=np.full((1, len(TINTS)), on)).images[0].get_array())[0]
        for on in (True, False)
    )
    apart = np.linalg.norm(painted[:, None] - bare, axis=2)
    assert apart.min() > 0.35


def test_a_grey_scene_and_a_referent_at_the_edge_are_drawn():
    edge = np.zeros((6, 8), bool)
    edge[:2, :2] = True
    drawn(plots.referent(GREY, edge, "x"))
    drawn(plots.referent(GREY))


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"mask \(6, 7\) does not fit the image \(6, 8\)"):
        plots.referent(SCENE, INSIDE[:, :7])
    with pytest.raises(ValueError, match=r"predicted \(5, 8\)"):
        plots.referent(SCENE, INSIDE, predicted=INSIDE[:5])


# --- signed_map and pwam_diagram


@any_kind
def test_a_signed_map_is_white_at_0_and_as_strong_below_as_above(kind):
    values = np.array([[0.5, -2.0, 0.0], [1.0, 0.25, 0.0]])
    image = drawn(plots.signed_map(kind(values), title="a finding")).images[0]
    np.testing.assert_array_equal(image.get_array(), values)
    assert image.get_clim() == (-2, 2) and image.axes.get_title() == "a finding"
    violet, white, orange = image.cmap([0.2, 0.5, 0.8])[:, :3]
    assert violet[2] > violet[0] and orange[0] > orange[2] and white.min() > 0.95


def test_signed_maps_with_one_limit_have_one_scale():
    maps = [plots.signed_map(size * WEIGHTS, limit=0.6).images[0] for size in (1, 3)]
    assert [image.get_clim() for image in maps] == [(-0.6, 0.6)] * 2


@pytest.mark.parametrize("scene", [GREY, np.full((6, 8, 3), 255, np.uint8)], ids=["grey", "8 bit"])
def test_a_signed_map_lies_over_its_pale_image(scene):
    under, over = drawn(plots.signed_map(WEIGHTS, image=scene)).images
    assert under.get_extent() == over.get_extent() == [0, 8, 6, 0] and over.get_alpha() < 1
    assert np.asarray(under.get_array()).shape == (6, 8) and np.max(under.get_array()) == 1
    assert under.get_clim()[0] < 0 and under.get_clim()[1] > 1  # neither black nor white


def test_a_map_of_zeros_is_white_all_over():
    image = drawn(plots.signed_map(np.zeros((2, 3)))).images[0]
    assert (image.to_rgba(image.get_array())[..., :3] > 0.95).all()


def test_pwam_is_drawn_with_every_tensor_and_what_leads_to_it():
    ax = drawn(plots.pwam_diagram(title="a finding"))
    boxes = {text.get_position(): text for text in ax.texts if text.get_bbox_patch() is not None}
    arrows = [arrow for arrow in ax.texts if getattr(arrow, "arrowprops", None) and arrow.xyann in boxes]
    joined = {(boxes[arrow.xyann].get_text(), boxes[arrow.xy].get_text(), arrow.xy) for arrow in arrows}
    into = {(name, place): {a for a, _, at in joined if at == place} for _, name, place in joined}
    by_name = {}
    for (name, _), sources in into.items():
        by_name.setdefault(name, []).append(sources)
    assert len(boxes) == 16 and len(arrows) == 18 and ax.get_title("left") == "a finding"
    softmax = next(sources for name, sources in by_name.items() if "softmax" in name)[0]
    assert softmax == {"$V_{iq}$: $w_{iq}$, norm", "$L_{ik}$: $w_{ik}$"}
    assert any("softmax" in source for source in by_name["$G_i'$"][0]) and len(by_name["$G_i'$"][0]) == 2
    product, gated = sorted(by_name[r"$\times$"], key=lambda sources: "gate" in sources)
    assert product == {"$V_{im}$: $w_{im}$, GELU", "$G_i$: $w_{iw}$, norm"}
    assert gated == {"gate", "$F_i$: $w_{io}$, GELU"} and by_name["$E_i$"] == [{"+"}]
    colours = {text.get_text(): to_hex(text.get_bbox_patch().get_facecolor()) for text in boxes.values()}
    assert (colours["$V_i$"], colours["$L$"]) == (plots.QUERY.lower(), plots.KEY.lower())
    kinds = {
        "V_{i": plots.QUERY,
        "L_{ik}$: ": plots.KEY,
        "L_{iv}$: ": plots.VALUE,
        "G_i": plots.VALUE,
        "F_i": plots.OUTPUT,
    }
    for name, colour in colours.items():
        assert all(colour == of_kind.lower() for begin, of_kind in kinds.items() if name.startswith(f"${begin}"))


def test_pwam_has_shapes_on_its_arrows():
    words = [text.get_text() for text in drawn(plots.pwam_diagram()).texts]
    assert words.count(r"$N\times T$") == 1 and words.count(r"$T\times C_i$") == 2
    assert any(r"\sqrt{C_i}" in text for text in words)
