"""The pictures of lesson 1 show the numbers and shapes that they are given, and refuse what does not fit."""

import numpy as np
import pytest
import torch

from xattn_edu import plots
from xattn_edu.models.attention_numpy import Projections, multi_head_attention

KEYS, VALUES, QUERY = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([1.0, 3.0, 5.0]), np.array([0.5, 2.0])
SHARES = np.array([0.2, 0.7, 0.1])


def test_look_up_draws_bars_as_wide_as_their_shares():
    left, right = plots.look_up(QUERY, KEYS, VALUES, SHARES).axes
    assert [(round(bar.get_width(), 6), bar.get_height()) for bar in right.patches] == [(0.2, 1), (0.7, 3), (0.1, 5)]
    assert right.lines[0].get_ydata()[0] == pytest.approx(SHARES @ VALUES)
    texts = [text.get_text() for text in left.texts] + [text.get_text() for text in right.texts]
    assert {"key 1: 0.70", "query", "value 1 = 3", "value 2 = 5", " output\n 2.80"} <= set(texts)


@pytest.mark.parametrize("change", [{"query": KEYS}, {"keys": KEYS[:2]}, {"shares": SHARES[:2]}])
def test_a_look_up_that_does_not_fit(change):
    given = {"query": QUERY, "keys": KEYS, "values": VALUES, "shares": SHARES} | change
    with pytest.raises(ValueError, match=r"expected a query \(2,\)"):
        plots.look_up(**given)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_weight_tables_have_one_scale(kind):
    tables = {"one": kind(np.full((3, 2), 0.5)), "two": kind(np.eye(3))}
    figure = plots.weight_tables(tables, numbers=True, title="a finding")
    figure.canvas.draw()
    first, second, bar = figure.axes
    assert [ax.images[0].get_clim() for ax in (first, second)] == [(0, 1), (0, 1)]
    assert [ax.get_title() for ax in (first, second)] == ["one", "two"] and figure.get_suptitle() == "a finding"
    assert {text.get_text() for text in first.texts} == {"0.50"}
    shades = {text.get_text(): text.get_color() for text in second.texts}
    assert shades == {"1.00": "white", "0.00": "black"} and bar.get_ylabel() == "weight"


def test_no_tables():
    with pytest.raises(ValueError, match="at least one table"):
        plots.weight_tables({})


def texts_of(ax):
    ax.figure.canvas.draw()
    return " ".join(text.get_text() for text in ax.texts)


@pytest.mark.parametrize(
    ("heads", "context", "head", "scores"), [(2, None, "5 x 4", "5 x 5"), (3, (7, 6), "5 x 3", "5 x 7")]
)
def test_the_diagram_has_the_shapes_of_the_layer(heads, context, head, scores):
    width = 9 if heads == 3 else 8
    others, context_width = context or (5, width)
    projections = Projections.random(width, context_width)
    _, cache = multi_head_attention(np.ones((5, width)), np.ones((others, context_width)), projections, heads)
    _, rows, dim = cache.query.shape
    assert f"{rows} x {dim}" == head and "{} x {}".format(*cache.weights.shape[1:]) == scores
    said = texts_of(plots.multi_head_diagram(tokens=5, width=width, heads=heads, context=context, title="a finding"))
    assert said.count(f"A_{heads}") == 2 and f"A_{heads + 1}" not in said
    assert f"$Q_1$ {head}" in said and scores in said
    for letter, matrix in (("Q", projections.w_query), ("K", projections.w_key), ("V", projections.w_value)):
        assert f"$W^{letter}$\n{matrix.shape[0]} x {matrix.shape[1]}" in said
    assert ("context" in said) == (context is not None)


@pytest.mark.parametrize("arguments", [{"heads": 1}, {"heads": 4}, {"heads": 3, "width": 8}])
def test_a_diagram_without_room(arguments):
    with pytest.raises(ValueError, match="2 or 3 heads"):
        plots.multi_head_diagram(**arguments)


def test_kernel_curves():
    x = np.linspace(0, 1, 4)
    ax = plots.kernel_curves(x, x**2, x, {"narrow": x, "wide": 1 - x}, truth=x**2, title="a finding")
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn["wide"], 1 - x)
    assert list(drawn) == ["values, at their keys", "truth", "narrow", "wide"]
    with pytest.raises(ValueError, match="6 curves for 5 colours"):
        plots.kernel_curves(x, x, x, {str(n): x for n in range(6)})


def test_filtered_images_circle_the_pixel():
    image = np.zeros((4, 4))
    figure = plots.filtered_images({"clean": image, "noisy": image}, {"one": ((1, 2), np.eye(4))})
    figure.canvas.draw()
    assert [ax.get_title() for ax in figure.axes] == ["clean", "noisy", "one"]
    (circle,) = figure.axes[2].lines
    assert (circle.get_xdata()[0], circle.get_ydata()[0]) == (2.5, 1.5)
    with pytest.raises(ValueError, match="at least one image"):
        plots.filtered_images({}, {})
