"""Pictures of scenes as objects: what must stand in them."""

import numpy as np
import pytest

from xattn_edu.plots import leads_of_pathway, object_finder_diagram, object_scene


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
