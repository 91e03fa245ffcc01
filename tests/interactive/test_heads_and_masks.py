"""Heads and masks: JavaScript's weights and outputs against torch's, split by a transpose and by a bare view."""

import numpy as np
import pytest
import torch
from helpers.in_chromium import check_usable, computed, needs_chromium, shown

from xattn_edu.experiments.heads import heads_of
from xattn_edu.interactive import heads_and_masks, trained
from xattn_edu.interactive.heads_and_masks import split, weights
from xattn_edu.models.attention import causal_mask, split_heads

pytestmark = pytest.mark.slow
MASKS = {
    "none": lambda n: torch.ones(n, n, dtype=torch.bool),
    "causal": causal_mask,
    "padding": lambda n: (torch.arange(n) < n - 3).expand(n, n),
    "window": lambda n: (torch.arange(n)[:, None] - torch.arange(n)).abs() <= 1,
    "words": lambda n: ((torch.arange(n) > 0) & (torch.arange(n) < n - 1)).expand(n, n),
}


@pytest.fixture(scope="module")
def picture():
    return heads_and_masks()


def outputs(data, found, right):
    """All heads' outputs, put back as they were split."""
    parts = data["sentences"][found["sentence"]]["layers"][found["layer"]]
    mask = MASKS[found["mask"]](len(data["sentences"][found["sentence"]]["words"]))
    values = split(torch.from_numpy(parts["v"]).float(), data["heads"], right)
    made = weights(data, found["sentence"], found["layer"], right, mask) @ values
    return (made.transpose(0, 1) if right else made).reshape(-1)


def check(page, data):
    """The numbers in the page are torch's, and what an output depends on is what changing a token changes."""
    found = computed(page)
    right, count = found["right"], len(data["sentences"][found["sentence"]]["words"])
    expected = weights(data, found["sentence"], found["layer"], right, MASKS[found["mask"]](count))
    np.testing.assert_allclose(found["weights"], expected[found["head"]], atol=1e-4)
    before = outputs(data, found, right)
    np.testing.assert_allclose(found["outputs"], before, atol=1e-4)
    moved = []
    layer = data["sentences"][found["sentence"]]["layers"][found["layer"]]
    for token in range(count):
        kept = {name: part.copy() for name, part in layer.items()}
        for name in kept:
            layer[name][token] += 1
        after = outputs(data, found, right).view(count, -1)[found["row"]]
        layer.update(kept)
        if (after - before.view(count, -1)[found["row"]]).abs().max() > 1e-6:
            moved.append(token)
    assert found["reached"] == moved
    return found


def test_right_is_the_librarys_split_and_the_weights_are_the_models(picture):
    tokens = torch.randn(5, 8)
    assert torch.equal(split(tokens, 2, True), split_heads(tokens[None], 2)[0])
    assert not torch.equal(split(tokens, 2, False), split(tokens, 2, True))
    model, tokenizer = trained.segmenter().model, trained.segmenter().tokenizer
    sentence = " ".join(picture.data["sentences"][0]["words"][1:-1])
    of_model = heads_of(model.language, *tokenizer([sentence], None))
    for layer, expected in enumerate(of_model):
        torch.testing.assert_close(weights(picture.data, 0, layer, True), expected, atol=2e-3, rtol=0)


def test_a_readers_own_sentence_and_what_is_none(picture):
    pytest.importorskip("anywidget")
    widget = heads_and_masks().widget
    widget.request = {"sentence": "the white cat", "number": 1}
    assert widget.data["sentences"][0]["words"] == ["[CLS]", "the", "white", "cat", "[SEP]"]
    widget.request = {"sentence": " ", "number": 2}
    assert widget.error
    with pytest.raises(TypeError, match="list of sentences"):
        heads_and_masks("the white cat")


@needs_chromium
@pytest.mark.browser
def test_every_head_mask_and_split_is_torchs(picture, tmp_path):
    data = picture.data
    with shown(picture, tmp_path) as page:
        check_usable(page)
        check(page, data)
        for mask in MASKS:
            page.get_by_role("combobox", name="mask").select_option(value=mask)
            assert check(page, data)["mask"] == mask
        page.get_by_role("button", name="bare view").focus()
        page.keyboard.press("Enter")
        for head in range(data["heads"]):
            page.get_by_role("combobox", name="head").select_option(value=str(head))
            assert not check(page, data)["right"]
        page.get_by_role("combobox", name="mask").select_option(value="none")
        assert "should be" in page.locator(".xattn-picture").inner_text()
        page.locator("svg[tabindex]").focus()
        page.keyboard.press("ArrowUp")
        found = check(page, data)
        assert found["row"] == 0 and len(found["reached"]) < len(data["sentences"][0]["words"])
        assert f"depends on {len(found['reached'])} of" in page.locator("[aria-live]").inner_text()
        page.get_by_role("combobox", name="sentence").select_option(value="2")
        assert check(page, data)["sentence"] == 2
        last = len(data["sentences"][0]["layers"]) - 1
        if last:  # with one layer there is nothing to choose
            page.get_by_role("combobox", name="layer").select_option(index=last)
            assert check(page, data)["layer"] == last


@needs_chromium
@pytest.mark.browser
def test_it_is_readable_in_a_narrow_window(picture, tmp_path):
    with shown(picture, tmp_path, width=480, dark=True) as page:
        check_usable(page)
