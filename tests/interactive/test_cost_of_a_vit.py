"""The costs of a ViT in the picture are those that `measure.costs` counts."""

import numpy as np
import pytest
from helpers.in_chromium import check_usable, computed, needs_chromium, shown

from xattn_edu.interactive import cost_of_a_vit
from xattn_edu.interactive.cost_of_a_vit import terms
from xattn_edu.measure.costs import vit_macs
from xattn_edu.measure.recount import Model
from xattn_edu.measure.tables import CROSSVIT

SETTINGS = ((32, 4, 64, 1), (224, 16, 384, 12), (512, 32, 1280, 48), (2048, 8, 768, 24))


def test_the_published_models_are_counted_by_the_library():
    models = {model["name"]: model for model in cost_of_a_vit().data["models"]}
    for row in CROSSVIT:
        if row.table == 2:
            assert (models[row.name]["macs"], models[row.name]["parameters"]) == (row.macs, row.parameters)
    assert models["DeiT-S"]["settings"] == {"image": 224, "patch": 16, "width": 384, "depth": 12}
    assert models["ViT-L/16"]["settings"] == {"image": 224, "patch": 16, "width": 1024, "depth": 24}
    assert "settings" not in models["CrossViT-S"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_still_picture_has_the_terms_of_the_count(setting):
    image, patch, width, depth = setting
    tokens = (image // patch) ** 2 + 1
    linear, square = terms(image, patch, width, depth)
    ends = 3 * patch**2 * width * (tokens - 1) + 1000 * width
    assert (linear + ends, square) == vit_macs(image, patch, width, depth)


@pytest.mark.parametrize("setting", [{"image": 100}, {"patch": 14}, {"width": 100}, {"depth": 0}])
def test_settings_that_the_sliders_lack_are_refused(setting):
    with pytest.raises(ValueError, match="must be a multiple of"):
        cost_of_a_vit(**setting)


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(("setting", "width"), list(zip(SETTINGS, (1000, 480, 480, 1000))))
def test_the_numbers_are_those_of_the_count(tmp_path, setting, width):
    image, patch, channels, depth = setting
    with shown(cost_of_a_vit(*setting), tmp_path, width, dark=width == 480) as page:
        check_usable(page)
        found = computed(page)
        linear, square = vit_macs(image, patch, channels, depth)
        assert (found["total"], found["macs"]["square"]) == (linear + square, square)
        options = (("image_size", image), ("patch", patch), ("width", channels), ("depth", depth), ("heads", 1))
        model = Model("vit_base_patch16_224", options).costs()
        assert (found["parameters"], found["total"]) == (model.parameters, model.macs)
        assert found["macs"]["embedding"] == model.parts["patch_embedding.projection"].macs
        side = np.array([0.999, 1.001]) * found["takesOver"]
        parts, squares = terms(side, patch, channels, depth)
        assert squares[0] < parts[0] and squares[1] > parts[1]


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_keys_change_it_and_a_published_model_can_be_chosen(tmp_path):
    with shown(cost_of_a_vit(), tmp_path) as page:
        page.get_by_role("slider", name="depth").focus()
        page.keyboard.press("ArrowRight")
        assert computed(page)["depth"] == 13
        page.get_by_role("button", name="8 px", exact=True).press("Enter")
        assert computed(page)["tokens"] == 28**2 + 1
        page.get_by_label("a published model").select_option("ViT-B/32")
        found = computed(page)
        assert (found["tokens"], found["width"], found["depth"]) == (50, 768, 12)
        assert page.get_by_role("slider", name="width").input_value() == "768"
        assert page.get_by_role("button", name="32 px").get_attribute("aria-pressed") == "true"
        assert "50 tokens" in page.locator("[aria-live]").inner_text()
