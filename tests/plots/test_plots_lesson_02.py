"""The pictures of lesson 2 show the numbers and shapes that they are given, and refuse what does not fit."""

import numpy as np
import pytest
import torch

from xattn_edu import plots


def test_self_attention_is_drawn_as_it_is_computed():
    torch.manual_seed(0)
    z, u = torch.randn(5, 8), torch.randn(8, 12)
    ax = plots.self_attention_diagram(z, u, title="a finding")
    ax.figure.canvas.draw()
    q, k, v = (z @ u).chunk(3, dim=-1)
    weights = (q @ k.T / 2).softmax(dim=-1)
    expected = [z, *u.chunk(3, dim=-1), q, k, v, weights, q, k.T, weights @ v, weights, v]
    assert len(ax.images) == len(expected)
    for image, matrix in zip(ax.images, expected):
        np.testing.assert_allclose(image.get_array(), matrix, atol=1e-5)
    right = max(image.get_extent()[1] for image in ax.images)
    assert right < ax.get_xlim()[1] and "5 x 8" in [text.get_text() for text in ax.texts]


@pytest.mark.parametrize(("tokens", "weights"), [((5, 8), (8, 10)), ((5, 8), (7, 12)), ((5,), (5, 3))])
def test_matrices_that_do_not_fit(tokens, weights):
    with pytest.raises(ValueError, match="D, 3 D_h"):
        plots.self_attention_diagram(np.ones(tokens), np.ones(weights))


def test_owners_write_each_number():
    figure = plots.owners({"all": np.array([[0, 0], [1, 1]]), "head": np.array([[1], [0]])}, "a finding")
    figure.canvas.draw()
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [["0", "0", "1", "1"], ["1", "0"]]
    assert figure.get_suptitle() == "a finding"
    with pytest.raises(ValueError, match="at least one block"):
        plots.owners({})


def test_fields_are_compared_with_their_largest_and_zero_stays_white():
    field = torch.zeros(3, 3)
    field[1, 1], field[0, 0] = 50, 0.5
    ax, bar = plots.dependence_fields({"one": field}).axes
    shown = ax.images[0].get_array()
    assert shown[1, 1] == 0 and shown[0, 0] == pytest.approx(-2) and np.ma.getmaskarray(shown).sum() == 7
    assert ax.get_title() == "one\n22 % of the image" and bar.get_ylabel() == "size of the gradient"
    with pytest.raises(ValueError, match="at least one field"):
        plots.dependence_fields({})


def test_kinds_of_heads_share_a_scale():
    figure = plots.head_kinds({"before": torch.rand(2, 4), "after": np.full((2, 4), 0.1)}, "a finding")
    figure.canvas.draw()
    assert [ax.images[0].get_clim() for ax in figure.axes[:2]] == [(0, 1), (0, 1)]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "3"]
    with pytest.raises(ValueError, match="at least one table"):
        plots.head_kinds({})


WORDS = ["a", "b", "a"]
WEIGHTS = np.array([[0.9, 0.1, 0.0], [0.04, 0.0, 0.96], [0.5, 0.5, 0.0]])


def test_links_are_as_thick_as_their_weights():
    (ax,) = plots.word_links({"one": (WORDS, torch.tensor(WEIGHTS))}).axes
    lines = {tuple(line.get_ydata()): line.get_linewidth() for line in ax.lines}
    assert lines == pytest.approx({(0, 0): 3.6, (0, -1): 0.4, (-1, -2): 3.84, (-2, 0): 2, (-2, -1): 2})


def test_links_of_chosen_words_only():
    (ax,) = plots.word_links({"one": (WORDS, WEIGHTS)}, only=["b"]).axes
    assert [tuple(line.get_ydata()) for line in ax.lines] == [(-1, -2)]
    assert [text.get_text() for text in ax.texts if text.get_fontweight() == "bold"] == ["b"]


def test_links_that_do_not_fit():
    with pytest.raises(ValueError, match="at least one panel"):
        plots.word_links({})
    with pytest.raises(ValueError, match="'one': 2 words"):
        plots.word_links({"one": (WORDS[:2], WEIGHTS)})
