"""Pixels and words: JavaScript's stages against the library's PWAM on the same exported numbers, and all controls."""

import numpy as np
import pytest
import torch
from helpers.in_chromium import check_usable, computed, needs_chromium, shown
from torch import nn

from xattn_edu.interactive import pixels_and_words, trained
from xattn_edu.interactive.picture import Picture
from xattn_edu.interactive.pixels_and_words import (
    Run,
    attention,
    changed_gates,
    eight_bits,
    figure,
    sixteen_bits,
)
from xattn_edu.models.masks import predicted_masks
from xattn_edu.models.pwam import LanguagePathway, PixelWordAttention

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def picture():
    return pixels_and_words()


@pytest.fixture(scope="module")
def run(picture):
    from xattn_edu.data import scenes

    segmenter = trained.segmenter()
    one = scenes.scenes("test", 1, start=picture.data["scene"], size=segmenter.size)
    with torch.no_grad():
        return Run(segmenter, segmenter.pixels(one.images[0])[None], picture.data["sentence"])


class Given(nn.Module):
    """In place of a linear layer on the words: what it made of them."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, words):
        return self.made[None]


@torch.no_grad()
def recomputed(data, number, struck=(), exchanged=None, scaled=True):
    """A stage by the library's PWAM, on the numbers that the picture exports: weights, F and gate(F) * F."""
    stage, words = data["stages"][number], len(data["words"])
    keys, values = (torch.from_numpy(stage[name]).float().clone() for name in ("keys", "values"))
    if exchanged is not None:
        other = data["others"][exchanged]
        keys[other["place"]], values[other["place"]] = (
            torch.from_numpy(other[name][number]).float() for name in ("keys", "values")
        )
    pwam, pathway = PixelWordAttention(stage["channels"], 1, stage["heads"]), LanguagePathway(stage["channels"])
    w = {name: torch.from_numpy(array).float() for name, array in stage["w"].items()}
    for name in ("query", "language", "vision", "output"):
        layer = getattr(pwam, name)
        layer.weight.copy_(w[name])
        layer.bias.copy_(w.get(f"{name}_bias", torch.zeros(stage["channels"])))
    pathway.gate[0].weight.copy_(w["gate_in"])
    pathway.gate[2].weight.copy_(w["gate_out"])
    pwam.key, pwam.value = Given(keys), Given(values)
    if not scaled:
        pwam.width = 1
    maps = torch.from_numpy(stage["vision"].values).unflatten(0, stage["grid"])[None]
    mask = torch.tensor([[place not in struck for place in range(words)]])
    fused, weights = pwam(maps, torch.zeros(1, words, 1), mask, return_weights=True)
    return weights[0], fused[0], (pathway(maps, fused) - maps)[0]


def check(page, data, number, **changes):
    """The numbers in the page are those of torch, to 1e-4 of the largest."""
    weights, fused, passed = recomputed(data, number, **changes)
    found = computed(page)
    assert found["stage"] == number
    shares = weights[found["head"], found["row"], found["column"]]
    np.testing.assert_allclose(found["shares"], shares, atol=1e-4)
    for name, maps in (("F", fused), ("passed", passed)):
        lengths = maps.norm(dim=-1).flatten().numpy()
        np.testing.assert_allclose(found[name], lengths, atol=1e-4 * max(1, lengths.max()))


def test_the_exported_numbers_are_the_models(picture, run):
    """A byte for each number of V changes no weight by more than 0.01."""
    for number, stage in enumerate(run.stages):
        np.testing.assert_allclose(attention(picture.data, number), stage.weights[0], atol=0.01)
    for number in (0, 1):
        _, fused, _ = recomputed(picture.data, number)
        assert (fused - run.stages[number].fused[0]).norm() < 0.03 * run.stages[number].fused.norm()


def test_the_whole_models_masks_are_those_of_the_changed_model(picture, run):
    answers = {(answer["what"], answer["which"]): answer["mask"].array for answer in picture.data["answers"]}
    segmenter, image = run.segmenter, run.images
    with torch.no_grad():
        plain = predicted_masks(segmenter.logits(image, [picture.data["sentence"]]))[0].numpy()
        assert np.array_equal(answers["as it is", 0], plain)
        other = picture.data["answers"][1 + len(picture.data["words"])]
        sentence = other["words"].split("“")[1].rstrip("”")
        changed = predicted_masks(segmenter.logits(image, [sentence]))[0].numpy()
        assert np.array_equal(answers["exchange", 0], changed)
        model = run.model
        with changed_gates(model, 0.0):
            for vision, _, onward, _ in model.stages(image, run.words, run.mask):
                assert torch.equal(onward, vision)
    assert len(answers) == 1 + len(picture.data["words"]) + len(picture.data["others"]) + 4 + 1
    different = [what for what, mask in answers.items() if not np.array_equal(mask, plain)]
    assert ("scale", 0) in different and any(what == "strike" for what, _ in different)
    assert run.stages[0].weights.sum() == pytest.approx(len(run.stages[0].vision[0].flatten(0, 1)))  # all put back


def test_16_bits_are_enough_for_the_eye():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert abs(eight_bits(sixteen_bits(image)).astype(int) - image).max() <= 4


@pytest.mark.parametrize(
    ("scene", "sentence", "words"),
    [
        (-1, None, "scene"),
        (0, "  ", "expression"),
        (0, " ".join(["red"] * 30), "20 pieces at most: leave out 'red red"),
    ],
)
def test_what_is_no_scene_and_no_sentence_is_refused(scene, sentence, words):
    with pytest.raises(ValueError, match=words):
        pixels_and_words(scene, sentence)


def test_a_readers_own_sentence(picture):
    pytest.importorskip("anywidget")
    widget = pixels_and_words().widget
    widget.request = {"scene": 10, "sentence": "the gizmo", "number": 7}
    assert widget.data["words"][:2] == ["[CLS]", "the"] and widget.data["asked"] == 7
    assert "'gizmo'" in widget.data["remark"] and widget.error == ""
    widget.request = {"scene": 10, "sentence": " ", "number": 8}
    assert "expression" in widget.error


@needs_chromium
@pytest.mark.browser
def test_every_control_computes_what_torch_does(picture, tmp_path):
    data = picture.data
    with shown(picture, tmp_path) as page:
        check_usable(page)
        check(page, data, 0)
        assert computed(page)["word"] == data["word"]

        page.locator("canvas").first.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowLeft"):
            page.keyboard.press(key)
        row, column = min(data["pixel"][0] + 2, data["stages"][0]["grid"][0] - 1), max(data["pixel"][1] - 1, 0)
        assert [computed(page)[name] for name in ("row", "column")] == [row, column]
        assert f"row {row}, column {column}" in page.locator("[aria-live]").inner_text()
        check(page, data, 0)
        box = page.locator("canvas").first.bounding_box()
        page.mouse.move(box["x"] + 0.99 * box["width"], box["y"] + 1)
        assert [computed(page)[name] for name in ("row", "column")] == [0, data["stages"][0]["grid"][1] - 1]

        name = page.locator("button[aria-label^='word ']").nth(3)  # a word may stand in a sentence twice
        name.focus()
        page.keyboard.press("Enter")
        assert computed(page)["word"] == 3
        weights, _, _ = recomputed(data, 0)
        np.testing.assert_allclose(
            computed(page)["map"], (weights[0, :, :, 3] * len(data["words"])).flatten(), atol=1e-3
        )

        strikes = page.get_by_role("button", name="strike out")
        strikes.nth(3).focus()
        page.keyboard.press("Space")
        check(page, data, 0, struck=[3])
        assert page.locator("[data-whole=strike]").count() == 1
        assert "F moves by" in page.locator("[aria-live]").inner_text()
        page.keyboard.press("Space")
        check(page, data, 0)

        place = data["others"][0]["place"]
        page.get_by_role("combobox", name="exchange").first.select_option("0")
        check(page, data, 0, exchanged=0)
        assert page.locator("[data-whole=exchange]").count() == 1
        strikes.nth(place - 1).click()
        assert page.locator("[data-whole='']").count() == 1  # two changes: no mask is stored
        strikes.nth(place - 1).click()
        page.get_by_role("combobox", name="exchange").first.select_option("-1")

        page.get_by_role("button", name="divide by √C").click()
        check(page, data, 0, scaled=False)
        assert page.locator("[data-whole=scale]").count() == 1
        page.get_by_role("button", name="divide by √C").click()

        before = computed(page)["passed"]
        page.get_by_role("slider").focus()
        page.keyboard.press("ArrowLeft")
        np.testing.assert_allclose(computed(page)["passed"], 0.75 * np.array(before), rtol=1e-4, atol=1e-6)
        page.keyboard.press("Home")
        assert max(computed(page)["passed"]) == 0 and "gates 0% open" in page.locator(".xattn-picture").inner_text()
        page.keyboard.press("End")

        page.get_by_role("combobox", name="stage").select_option("1")
        check(page, data, 1)
        page.get_by_role("combobox", name="stage").select_option("3")
        found = computed(page)
        shares = attention(data, 3)[0, found["row"], found["column"]]
        np.testing.assert_allclose(found["shares"], shares, atol=1e-4)
        assert page.get_by_text("your sentence").count() == 0  # a page has no kernel


@needs_chromium
@pytest.mark.browser
def test_it_is_readable_in_a_narrow_window(picture, tmp_path):
    with shown(picture, tmp_path, width=480, dark=True) as page:
        check_usable(page)


@needs_chromium
@pytest.mark.browser
def test_several_heads_are_split_as_in_the_library(picture, tmp_path):
    """The stored model has one head; the next may have more."""
    data = picture.data | {"stages": [stage | {"heads": 2} for stage in picture.data["stages"]]}
    with shown(Picture("pixels_and_words", "two heads", data, figure), tmp_path) as page:
        for head in (0, 1):
            page.get_by_role("combobox", name="head").select_option(index=head)
            assert computed(page)["head"] == head
            check(page, data, 0)
