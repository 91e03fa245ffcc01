"""Pictures of scenes as objects: what must stand in them."""

import itertools

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch

from xattn_edu.plots import GREY, VALUE, leads_of_pathway, object_finder_diagram, object_scene
from xattn_edu.plots.objects import ANCHOR, ANSWER


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_scene_names_its_objects_and_marks_two_of_them():
    ax = object_scene(["car", "tree", "umbrella"], [(10, 20), (100, 50), (200, 200)], anchor=1, answer=2)
    assert {"car", "tree", "umbrella", "anchor", "answer"} <= set(texts(ax))
    where = {text.get_text(): text.xy for text in ax.texts}
    assert where["anchor"] == where["tree"] == (50, 100) and where["answer"] == where["umbrella"] == (200, 200)
    assert ax.yaxis_inverted()
    with pytest.raises(ValueError, match=r"expected places \(2, 2\), given \(3, 2\)"):
        object_scene(["car", "tree"], np.zeros((3, 2)), anchor=0, answer=1)


def test_objects_have_their_colours_and_the_roles_have_theirs():
    colours = [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)]
    ax = object_scene(["car", "tree"], [(10, 20), (100, 50)], anchor=1, answer=0, colours=colours)
    points = [line for line in ax.lines if line.get_markerfacecolor() != "none"]
    assert [line.get_markerfacecolor() for line in points] == colours
    rings = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    where = {line.get_markeredgecolor(): (line.get_xdata()[0], line.get_ydata()[0]) for line in rings}
    assert where == {ANSWER: (20, 10), ANCHOR: (50, 100)}


def test_with_the_pathway_the_words_go_on_to_the_objects_attention():
    """The boxes F1 and E1 are joined with the pathway alone; V2 is made from E1 in both."""
    middles = {text.get_text(): text.get_position()[0] for text in object_finder_diagram(True).texts}
    first, onward, relate = middles["F₁\nattend\nto words"], middles["E₁"], middles["V₂\nattend to\neach other"]
    for pathway in (True, False):
        ax = object_finder_diagram(pathway)
        arrows = [patch._posA_posB for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
        straight = [(start[0], end[0]) for start, end in arrows if start[1] == end[1] == 0]
        joined = {(start, end) for start, end in itertools.pairwise((first, onward, relate))}
        found = {pair for pair in joined for a, b in straight if pair[0] < a < b < pair[1]}
        assert found == (joined if pathway else {(onward, relate)})
        assert ("+ V₁" in texts(ax)) == pathway and ("E₁ = V₁" in texts(ax)) != pathway


def test_only_the_diagram_with_the_pathway_has_a_gate():
    assert "gate" in texts(object_finder_diagram(True)) and "gate" not in texts(object_finder_diagram(False))
    assert len(object_finder_diagram(True).patches) == len(object_finder_diagram(False).patches) + 1


def test_leads_are_means_of_pairs():
    rows = {"closest": ([0.9, 1.0], [0.5, 0.4], 0.25), "colour": ([1.0], [1.0], 0.25)}
    ax = leads_of_pathway(rows, title="Leads")
    assert {"+50", "+0"} <= set(texts(ax)) and ax.get_title(loc="left") == "Leads"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["closest", "colour"]
    dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    assert sorted(len(line) for line in dots) == [1, 1, 2, 2]
    with pytest.raises(ValueError, match="2 runs with the pathway, 1 without"):
        leads_of_pathway({"closest": ([0.9, 1.0], [0.5], 0.25)})


def test_runs_are_green_with_the_pathway_and_pairs_stand_at_one_height():
    ax = leads_of_pathway({"closest": ([0.9, 1.0], [0.5, 0.4], 0.3)})
    dots = {line.get_color(): line for line in ax.lines if line.get_marker() == "o"}
    assert dots[VALUE].get_xdata().tolist() == [0.9, 1.0] and dots[GREY].get_xdata().tolist() == [0.5, 0.4]
    assert dots[VALUE].get_ydata().tolist() == dots[GREY].get_ydata().tolist()
    assert [list(line.get_xdata()) for line in ax.lines if line.get_linestyle() == ":"] == [[0.3, 0.3]]
    legend = {text.get_text(): handle.get_color() for text, handle in named(ax.get_legend())}
    assert (legend["with the pathway"], legend["without"]) == (VALUE, GREY)


def named(legend):
    return zip(legend.get_texts(), legend.get_lines(), strict=True)
