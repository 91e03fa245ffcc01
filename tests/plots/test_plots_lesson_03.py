"""The drawings of lesson 3: shapes as given, colours of queries, keys and values, and refusals."""

import pytest
from matplotlib.colors import to_hex

from xattn_edu import plots


def words(ax):
    ax.figure.canvas.draw()
    return [text.get_text() for text in ax.texts]


def colours(ax):
    return [to_hex(patch.get_facecolor()).upper() for patch in ax.patches]


def test_the_bottleneck_has_one_summary_and_attention_one_a_step():
    bottleneck, attention = plots.fixed_and_own_summaries().axes
    assert colours(bottleneck).count(plots.VALUE) == 1 and colours(attention).count(plots.VALUE) == 3
    assert {"$c_1$", "$c_2$", "$c_3$"} <= set(words(attention))


def test_the_transformer_has_a_residual_and_a_norm_for_each_of_its_five_parts():
    ax = plots.transformer_diagram(source=7, target=4, width=16, layers=3, title="a finding")
    texts = words(ax)
    assert texts.count("LayerNorm") == texts.count("+") == 5
    assert texts.count("x 3") == 2 and "memory 7 x 16" in texts
    assert texts.count("7 x 16") == 1 and texts.count("4 x 16") == 2
    assert texts.count("Q") == texts.count("K") == texts.count("V") == 3
    assert ax.get_title("left") == "a finding"


@pytest.mark.parametrize("size", ["source", "target", "width", "layers"])
def test_a_transformer_of_no_size_is_refused(size):
    with pytest.raises(ValueError, match="1 or more"):
        plots.transformer_diagram(**{size: 0})


@pytest.mark.parametrize("number", [1, 2, 3, 6])
def test_shared_keys_draw_a_key_and_a_value_for_each_group(number):
    (ax,) = plots.shared_keys(6, (number,)).axes
    drawn = colours(ax)
    assert (drawn.count(plots.QUERY), len(ax.collections)) == (6, 0)
    share = "all" if number == 6 else f"1 / {6 // number}"
    assert f"cache: {share} of the keys and values" in words(ax)
    centres = {
        (patch.get_x(), patch.get_y()) for patch in ax.patches if to_hex(patch.get_facecolor()).upper() == plots.KEY
    }
    assert len(centres) == number


def test_groups_that_do_not_divide_the_heads_are_refused():
    with pytest.raises(ValueError, match="must divide 8 heads"):
        plots.shared_keys(8, (3,))
