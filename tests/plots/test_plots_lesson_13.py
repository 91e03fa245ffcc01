"""The pictures of lesson 13: each shows what it was given, in the course's colours, and refuses what it cannot show."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

from xattn_edu import plots
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.plots import Step

LANES = {"objects": (100, 256), "image": (1050, 192)}
CROSS = Step("objects", "image")


def drawn(ax):
    ax.figure.canvas.draw()
    return ax


def words(ax):
    return [text.get_text() for text in ax.texts]


def arrows(ax, colour):
    """Start and end of each arrow of a colour."""
    patches = [p for p in ax.patches if isinstance(p, FancyArrowPatch) and to_hex(p.get_edgecolor()).upper() == colour]
    return [tuple(map(tuple, patch._posA_posB)) for patch in patches]


# --- attention_lanes


def test_lanes_say_who_attends_to_whom_and_how_large_everything_is():
    ax = drawn(plots.attention_lanes(LANES, [CROSS], ends={"objects": "boxes"}, title="a finding"))
    assert {"objects\n100 x 256", "image\n1,050 x 192", "100 x 1,050", "boxes", "+"} <= set(words(ax))
    assert {"Q\n100 x 256", "K\n1,050 x 192", "V\n1,050 x 192"} <= set(words(ax))
    assert ax.get_title("left") == "a finding"


def test_the_query_comes_along_its_lane_and_keys_and_values_from_the_context():
    ax = drawn(plots.attention_lanes(LANES, [CROSS]))
    lane = {text.get_text().split("\n")[0]: text.get_position()[1] for text in ax.texts}
    ((start, end),) = arrows(ax, plots.QUERY)
    assert start[1] == end[1] == lane["objects"]
    for colour in (plots.KEY, plots.VALUE):
        ((start, end),) = arrows(ax, colour)
        assert start[1] == lane["image"] and start[1] < end[1] < lane["objects"]
    assert len(arrows(ax, plots.OUTPUT)) == 1


def test_a_context_above_sends_its_keys_down():
    ax = drawn(plots.attention_lanes(LANES, [Step("image", "objects")]))
    ((start, end),) = arrows(ax, plots.KEY)
    assert start[1] > end[1] and "1,050 x 100" in words(ax)


def test_in_self_attention_keys_and_values_leave_and_meet_the_same_lane():
    ax = drawn(plots.attention_lanes({"x": (5, 8)}, [Step("x", "x", "+ places", "+ places")]))
    assert {"Q + places\n5 x 8", "K + places", "V", "5 x 5"} <= set(words(ax))
    ((start, end),) = arrows(ax, plots.KEY)
    assert start[0] == end[0] and start[1] < end[1] < 0


@pytest.mark.parametrize(("join", "seen"), [("+", {"+"}), ("", set()), ("x gate", {"+", "x gate"})])
def test_the_way_an_output_joins_its_lane_is_written(join, seen):
    ax = drawn(plots.attention_lanes(LANES, [Step("objects", "image", join=join)]))
    assert set(words(ax)) & {"+", "x gate"} == seen


def test_two_layers_that_share_their_scores_stand_in_one_column():
    both = (Step("objects", "image"), Step("image", "objects"))
    ax = drawn(plots.attention_lanes(LANES, [both]))
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places["100 x 1,050"][0] == places["1,050 x 100"][0]
    assert "one table\nof scores" in words(ax)
    heights = sorted((start[1], end[1]) for start, end in arrows(ax, plots.VALUE))
    assert heights[0][0] < heights[0][1] and heights[1][0] > heights[1][1]  # one up, one down


def test_sizes_may_be_letters():
    ax = drawn(plots.attention_lanes({"text": (256, "d"), "image": ("P", "d")}, [Step("text", "image")]))
    assert {"text\n256 x d", "256 x P", "K\nP x d"} <= set(words(ax))


# --- query_key_graph, dependence_tables, value_mixes


def test_a_graph_has_a_line_for_each_weight():
    ax = drawn(plots.query_key_graph(5, 3, names=("below", "above"), title="a finding"))
    assert len(ax.lines) == 15 and {"below", "above"} == set(words(ax))
    keys, queries = ax.collections
    assert (len(keys.get_offsets()), len(queries.get_offsets())) == (3, 5)
    assert to_hex(queries.get_facecolor()[0]).upper() == plots.QUERY
    assert (queries.get_offsets()[:, 1] == 0).all() and (keys.get_offsets()[:, 1] == 1).all()
    places = [part.get_offsets()[:, 0].tolist() for part in (queries, keys)]
    assert {tuple(line.get_xdata()) for line in ax.lines} == {(q, k) for q in places[0] for k in places[1]}
    assert {tuple(line.get_ydata()) for line in ax.lines} == {(0, 1)}


def test_a_table_of_dependence_is_blue_for_x_and_orange_for_the_context():
    own, other = torch.eye(2), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    figure = plots.dependence_tables({"cross": (own, other), "self": (own, torch.zeros(2, 0))}, title="a finding")
    figure.canvas.draw()
    mesh = figure.axes[0].collections[0]
    np.testing.assert_array_equal(mesh.get_array(), [[1, 0, 2, 2, 0], [0, 1, 0, 0, 0]])
    colours = [to_hex(mesh.cmap(mesh.norm(value))).upper() for value in (0, 1, 2)]
    assert colours == ["#FFFFFF", plots.QUERY, plots.KEY]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["x", "c"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["x"]
    assert all(ax.yaxis_inverted() for ax in figure.axes)  # the first output at the top


def test_mixes_of_values_are_grey_and_one_output_may_be_mine():
    values = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    ax = drawn(plots.value_mixes(values, [[0.2, 0.2]], mine=torch.tensor([0.4, 0.3])))
    np.testing.assert_array_equal(sorted(ax.patches[0].get_xy()[:3].tolist()), sorted(values.tolist()))
    assert [len(c.get_offsets()) for c in ax.collections] == [1, 3, 1]
    np.testing.assert_allclose(ax.collections[2].get_offsets(), [[0.4, 0.3]])
    assert words(ax) == ["0", "1", "2"]


def test_the_mixes_of_four_values_fill_the_space_between_all_of_them():
    """Whatever their order: a polygon through the values in their order would cross itself here."""
    values = [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    ax = drawn(plots.value_mixes(values, [[0.5, 0.5]]))
    for point in [(0.02, 0.5), (0.98, 0.5), (0.5, 0.02), (0.5, 0.98)]:
        assert any(patch.get_path().contains_point(point) for patch in ax.patches if len(patch.get_xy()))


# --- scores_by_size, paired_leads, objects_and_words


def test_scores_stand_at_their_size_with_intervals_that_end_at_one():
    scores = {"a": {32: [0.3, 0.4, 0.5], 64: [0.9, 1.0, 0.95]}, "b": {32: [0.1, 0.1, 0.1]}}
    ax = drawn(plots.scores_by_size(scores, colours=["black", plots.KEY], baseline=0.25))
    first, second = ax.containers
    np.testing.assert_allclose(first.lines[0].get_ydata(), [0.4, 0.95])
    assert to_hex(second.lines[0].get_color()).upper() == plots.KEY
    top = max(segment[:, 1].max() for segment in first.lines[2][0].get_segments())
    assert mean_interval([0.9, 1.0, 0.95]).high > 1 and top == pytest.approx(1)
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [0.25]


def test_a_lead_whose_interval_leaves_zero_out_is_bold():
    leads = {"clear": [1.0, 1.1, 0.9], "open": [1.0, -1.0, 0.5], "behind": [-1.0, -1.1, -0.9]}
    ax = drawn(plots.paired_leads(leads, xlabel="points"))
    widths = [container.lines[2][0].get_linewidth()[0] for container in ax.containers]
    assert widths[0] == widths[2] > widths[1]
    dots = [line for line in ax.lines if to_hex(line.get_color()).upper() == plots.GREY and line.get_marker() == "o"]
    for row, (line, each) in enumerate(zip(dots, leads.values(), strict=True)):
        assert line.get_xdata().tolist() == each and (np.round(line.get_ydata()) == row).all()
    ((start, end),) = ax.containers[0].lines[2][0].get_segments()
    interval = mean_interval(leads["clear"])
    assert (start[0], end[0]) == pytest.approx((interval.low, interval.high))
    assert [label.get_text() for label in ax.get_yticklabels()] == list(leads) and ax.yaxis_inverted()


def test_objects_carry_their_numbers_in_the_picture_and_in_the_table():
    weights = [[0.25, 0.75], [0.5, 0.5]]
    figure = plots.objects_and_words(
        np.zeros((40, 40, 3)), [[10, 5], [20, 30]], weights, objects=["red car", "key"], words=["the", "car"], title="t"
    )
    figure.canvas.draw()
    left, right = figure.axes
    assert [(t.get_text(), t.get_position()) for t in left.texts] == [("1", (5, 10)), ("2", (30, 20))]
    assert [label.get_text() for label in right.get_yticklabels()] == ["1 red car", "2 key"]
    np.testing.assert_array_equal(right.images[0].get_array(), weights)
    assert [label.get_text() for label in right.get_xticklabels()] == ["the", "car"]


def test_the_scene_of_objects_and_words_is_dimmed_outside_the_referent():
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    figure = plots.objects_and_words(
        np.full((4, 4, 3), 0.8), [[1, 1]], [[1.0]], objects=["key"], words=["key"], mask=mask, sentence="the key"
    )
    shown = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shown[mask], 0.8)
    assert shown[~mask].max() < 0.6 and figure.axes[0].get_title() == "the key"


# --- all


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plots.attention_lanes(LANES, [CROSS], ax=ax),
        lambda ax: plots.query_key_graph(2, 3, ax=ax),
        lambda ax: plots.value_mixes(np.eye(3, 2), np.eye(2), ax=ax),
        lambda ax: plots.scores_by_size({"a": {2: [0.1, 0.2]}}, colours=["black"], ax=ax),
        lambda ax: plots.paired_leads({"a": [1, 2]}, ax=ax),
    ],
)
def test_a_plot_goes_into_the_axes_it_is_given_and_leaves_matplotlib_as_it_was(draw):
    before = dict(plt.rcParams)
    ax = plt.figure().add_subplot()
    assert draw(ax) is ax and len(plt.get_fignums()) == 1
    draw(None)
    assert len(plt.get_fignums()) == 2 and dict(plt.rcParams) == before


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: plots.attention_lanes({}, [CROSS]), "0 lanes, 1 steps"),
        (lambda: plots.attention_lanes(LANES, []), "2 lanes, 0 steps"),
        (
            lambda: plots.attention_lanes(LANES, [Step("objects", "words")]),
            "called words: the lanes are objects, image",
        ),
        (lambda: plots.attention_lanes(LANES, [CROSS], ends={"mask": "m"}), "called mask"),
        (lambda: plots.attention_lanes(LANES, [(CROSS, CROSS)]), "the other's turn"),
        (lambda: plots.query_key_graph(0, 3), "0 queries, 3 keys"),
        (lambda: plots.dependence_tables({}), "given none"),
        (lambda: plots.dependence_tables({"a": (np.eye(2), np.eye(3))}), "'a': 2 outputs depend on x, 3 on c"),
        (lambda: plots.value_mixes(np.eye(3), np.eye(2)), r"values must be \(point, 2\), given \(3, 3\)"),
        (lambda: plots.value_mixes(np.eye(2), np.ones(2)), r"outputs must be \(point, 2\), given \(2,\)"),
        (lambda: plots.scores_by_size({}, colours=[]), "0 names"),
        (lambda: plots.scores_by_size({"a": {2: [1]}}, colours=[]), "1 names, 0 colours"),
        (lambda: plots.paired_leads({}), "given none"),
        (lambda: plots.paired_leads({"a": 1.0}), r"'a': leads of shape \(\)"),
        (
            lambda: plots.objects_and_words(np.zeros((4, 4, 3)), [], np.eye(2), objects="ab", words="ab"),
            "0 centres for 2 objects",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
