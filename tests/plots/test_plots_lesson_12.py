"""The pictures of lesson 12: the diagram has the shapes of the model, and leads stand where their numbers are."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from xattn_edu import plots
from xattn_edu.experiments import referring
from xattn_edu.measure.intervals import mean_interval


def drawn(ax):
    """Render it, and give it back."""
    ax.figure.canvas.draw()
    return ax


# --- lavt_diagram


def test_the_diagram_shows_the_shapes_of_the_model():
    size = referring.LAVT_SIZES["cpu"]
    model = referring.MODELS["lavt"](size, 30)
    with torch.no_grad():
        stages = model.stages(
            torch.zeros(1, 3, size.image, size.image), torch.zeros(1, 20, size.words), torch.ones(1, 20) > 0
        )
    ax = drawn(plots.lavt_diagram(image=size.image, patch=size.patch, widths=[16, 32, 64, 128], title="a finding"))
    texts = [text.get_text() for text in ax.texts]
    for number, stage in enumerate(stages, start=1):
        shape = " x ".join(map(str, stage.vision.shape[1:]))
        assert f"$V_{number}$\n{shape}" in texts and f"$F_{number}$\n{shape}" in texts
        assert (f"$E_{number}$\n{shape}" in texts) == (number < len(stages))  # nothing reads the last one
    assert ax.get_title("left") == "a finding"


def test_the_diagram_says_how_many_words_of_how_many_channels():
    texts = [text.get_text() for text in drawn(plots.lavt_diagram(words=(7, 5))).texts]
    assert "words $L$  7 x 5" in texts


def arrows(ax, colour):
    """Start and end of each arrow and line of a colour."""
    found = [note for note in ax.texts if getattr(note, "arrowprops", None)]
    return [(note.xyann, note.xy) for note in found if note.arrowprops["color"] == colour]


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_words_go_to_every_pwam_and_every_stage_reaches_the_decoder(stages):
    ax = drawn(plots.lavt_diagram(image=32, widths=[8] * stages))
    boxes = {text.get_text(): text.get_position() for text in ax.texts if text.get_bbox_patch()}
    pwam = [text.get_position() for text in ax.texts if text.get_text() == "PWAM"]
    words_end = [end for start, end in arrows(ax, plots.KEY) if start[0] == end[0]]
    assert {end[0] for end in words_end} == {x for x, _ in pwam}
    into = [end[0] for _, end in arrows(ax, plots.GREY) if end[1] == boxes["up, join,\nconvolve"][1]]
    assert len(set(into)) == stages  # one arrow from each level to the next finer one, and one to the logits


@pytest.mark.parametrize("stages", [2, 3])
def test_a_diagram_has_a_pwam_a_stage_and_a_gate_between_stages(stages):
    texts = [text.get_text() for text in drawn(plots.lavt_diagram(image=32, widths=[8] * stages)).texts]
    assert texts.count("PWAM") == texts.count("norm") == stages
    assert texts.count(r"gate $\odot$") == texts.count("+") == stages - 1


@pytest.mark.parametrize("arguments", [{"widths": [16]}, {"image": 60}, {"patch": 3}])
def test_a_diagram_that_cannot_be(arguments):
    with pytest.raises(ValueError, match="two stages or more and an image whose side"):
        plots.lavt_diagram(**arguments)


# --- stage_maps

IMAGE, MASK = np.zeros((8, 8, 3)), np.eye(8) > 0


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_stage_maps_show_their_maps_on_their_scales(kind):
    one, two = np.arange(4.0).reshape(2, 2), np.ones((1, 1))
    rows = {"seen": [(kind(one), 3), (kind(two), 2)], "passed": [(kind(one), 9), (None, 1)]}
    figure = plots.stage_maps(IMAGE, MASK, "the hat", rows, title="a finding")
    figure.canvas.draw()
    axes = np.array(figure.axes).reshape(2, 3)
    np.testing.assert_array_equal(axes[0, 1].images[0].get_array(), one)
    assert [axes[row, 1].images[0].get_clim() for row in (0, 1)] == [(0, 3), (0, 9)]
    assert not axes[1, 2].images and len(axes[0, 0].images) == 1
    assert axes[0, 0].get_title() == "the hat" and figure.get_suptitle() == "a finding"
    assert [axes[row, 1].texts[0].get_text() for row in (0, 1)] == ["seen", "passed"]
    assert [axes[0, column].get_title() for column in (1, 2)] == ["stage 1", "stage 2"]
    assert axes[0, 0].collections  # the outline of the mask


def test_stage_maps_of_rows_that_differ_in_length():
    with pytest.raises(ValueError, match=r"as many maps.*\[1, 2\]"):
        plots.stage_maps(IMAGE, MASK, "", {"a": [(MASK, 1)], "b": [(MASK, 1), (MASK, 1)]})


# --- leads

HERE = {"a > b": [1.0, 3.0, 2.0], "b > c": [-1.0, 0.5]}


def test_leads_stand_at_their_means_with_their_intervals():
    ax = drawn(
        plots.leads({"paper": {"a > b": [2.5]}, "here": HERE}, colours=(plots.KEY, plots.QUERY), xlabel="points")
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a > b", "b > c"]
    interval = mean_interval(HERE["a > b"])
    bars = [c.lines[2][0].get_segments()[0][:, 0] for c in ax.containers]
    np.testing.assert_allclose(bars[0], (interval.low, interval.high))
    points = {tuple(np.round(np.array(line.get_xdata(), dtype=float), 6)) for line in ax.lines}
    assert {(2.5,), (2.0,), (1.0, 3.0, 2.0)} <= points
    (diamond,) = [line for line in ax.lines if line.get_marker() == "D"]
    assert to_hex(diamond.get_markeredgecolor()) == plots.KEY.lower() and diamond.get_ydata()[0] < 0 < 0.5
    assert ax.get_ylim() == (1.5, -0.5) and ax.get_xlabel() == "points"
    assert sorted(ax.get_legend_handles_labels()[1]) == ["here", "paper"]


def test_a_series_that_lacks_a_row_stands_in_the_rows_that_it_has():
    ax = drawn(plots.leads({"paper": {"b > c": [2.5]}, "here": {"a > b": [0.5], "b > c": [1.5]}}))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b > c", "a > b"]
    ax = drawn(plots.leads({"here": {"a > b": [0.5], "b > c": [1.5]}, "paper": {"b > c": [2.5]}}))
    at = {line.get_xdata()[0]: line.get_ydata()[0] for line in ax.lines if line.get_marker() == "D"}
    assert at[0.5] < 0.5 < at[1.5] < at[2.5] < 1.5
    assert [line.get_xdata() for line in ax.lines if line.get_marker() == "None"] == [[0, 0]]  # no lead


def test_many_values_are_no_dots():
    ax = plots.leads({"scenes": {"a": list(range(50))}})
    assert not any(len(line.get_xdata()) == 50 for line in ax.lines)


@pytest.mark.parametrize(
    ("series", "words"),
    [({}, "0 series"), ({str(n): HERE for n in range(9)}, "9 series"), ({"a": {"b": []}}, "finite")],
)
def test_leads_that_cannot_be_drawn(series, words):
    with pytest.raises(ValueError, match=words):
        plots.leads(series)
