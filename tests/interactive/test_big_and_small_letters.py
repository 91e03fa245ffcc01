"""Big letters made of small ones: the stored answers agree with the stored runs, and the page shows them."""

import numpy as np
import pytest
import torch
from helpers.in_chromium import check_usable, computed, needs_chromium, shown
from numpy.testing import assert_allclose

from xattn_edu.data.hierarchical import letters
from xattn_edu.experiments import load_results
from xattn_edu.experiments.fusions import branch_accuracies, small_crossvit
from xattn_edu.experiments.sizes import FUSION_SIZES
from xattn_edu.files import read_json
from xattn_edu.interactive import big_and_small_letters
from xattn_edu.interactive.big_and_small_letters import STORED, answers
from xattn_edu.models.fusions import PAPER_FUSIONS


def test_the_stored_models_are_as_good_as_the_stored_runs():
    """The runs were trained on another processor, so the shares may differ by some points, and by no more."""
    stored = read_json(STORED)["fusions"]
    runs = {
        r["fusion"]: r for r in load_results("fusions") if (r["task"], r["seed"], r["profile"]) == ("letters", 0, "ci")
    }
    for name in PAPER_FUSIONS:
        assert abs(stored[name]["right"]["mean"]["relation"] - runs[name]["test_accuracy"]) < 0.03
        assert stored[name]["right"]["S"]["small"] > 0.9 < stored[name]["right"]["L"]["big"]


def test_without_a_fusion_nothing_crosses_and_with_one_it_does():
    stored = read_json(STORED)["fusions"]
    for name in PAPER_FUSIONS:
        crossed = [stored[name]["right"]["S"]["big"], stored[name]["right"]["L"]["small"]]
        assert max(crossed) < 0.3 if name == "none" else min(crossed) > 0.9


def test_the_shares_are_those_of_the_logits():
    """The largest share of a relation is the model's answer, as `branch_accuracies` counts it."""
    test = letters("test", 64)
    model = small_crossvit("letters", "pairwise", FUSION_SIZES["ci"])
    found = answers(model, test)
    counted = branch_accuracies(model, torch.utils.data.TensorDataset(*test.tensors()))
    for voice, name in (("S", "small"), ("L", "large"), ("mean", "test")):
        right = (found[voice]["relation"].argmax(1) == test.relation).mean()
        assert_allclose(right, counted[f"{name}_accuracy"], atol=1e-6)
        for share in found[voice].values():
            assert_allclose(share.sum(axis=1), 1, atol=1e-5)
    logits = model.branch_logits(*test.tensors()[:2])[0][:, 0, :16].softmax(-1).detach().numpy()
    assert_allclose(found["S"]["big"][:, 1], logits[:, 4:8].sum(1), atol=1e-6)
    assert_allclose(found["S"]["small"][:, 1], logits[:, 1::4].sum(1), atol=1e-6)


def test_each_picture_is_of_its_pair():
    test, stored = letters("test", 2000), read_json(STORED)
    assert test.pair[stored["pictures"]].tolist() == list(range(16))
    picture = big_and_small_letters().data["pictures"][5]
    image = test.images[stored["pictures"][5]]
    greys = np.stack([picture["image"] >> 4, picture["image"] & 15], axis=-1).reshape(48, 48)
    assert np.array_equal(greys, image // 16)


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1000, False), (480, True)])
def test_each_pair_has_its_stored_answers(tmp_path, width, dark):
    picture = big_and_small_letters()
    stored = read_json(STORED)["fusions"]
    with shown(picture, tmp_path, width, dark) as page:
        check_usable(page)
        for big, small in ((0, 1), (3, 2), (2, 0)):
            for group, letter in (("big letter", big), ("small letters", small)):
                page.get_by_role("group", name=group, exact=True).get_by_role("button", name="HSTZ"[letter]).press("Enter")
            found, pair = computed(page), 4 * big + small
            assert (found["big"], found["small"]) == (big, small)
            assert_allclose(
                1000 * np.array(found["answers"]), [stored[name]["answers"][pair] for name in PAPER_FUSIONS]
            )
            truth = (big + small) % 4
            best = [int(np.argmax(stored[name]["answers"][pair][2][2])) == truth for name in PAPER_FUSIONS]
            assert found["right"] == best
            assert f"the relation is {truth}" in page.locator("[aria-live]").inner_text()
        image = page.locator("canvas").first
        pixels = image.evaluate(
            "c => [...c.getContext('2d').getImageData(0, 0, 48, 48).data].filter((_, i) => i % 4 == 0)"
        )
        index = read_json(STORED)["pictures"][8]
        greys = letters("test", 2000).images[index].ravel() // 16
        assert_allclose(pixels, 255 * greys / greys.max(), atol=1)
