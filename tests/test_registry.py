"""Models by name: every one of them, and what happens with a name or an argument that does not exist."""

import pytest
import torch

from xattn_edu import create_model, list_models

NAMES = list_models()

# Parameters in millions, as timm lists them (the last it does not have: counted by hand).
MILLIONS = {
    "deit_tiny_patch16_224": 5.72,
    "deit_small_patch16_224": 22.05,
    "deit_base_patch16_224": 86.57,
    "vit_tiny_patch16_224": 5.72,
    "vit_small_patch16_224": 22.05,
    "vit_small_patch32_224": 22.88,
    "vit_base_patch16_224": 86.57,
    "vit_base_patch32_224": 88.22,
    "vit_large_patch16_224": 304.33,
    "vit_large_patch32_224": 306.54,
    "vit_tiny_patch32_224": 6.13,
}
HEADS = {"tiny": 3, "small": 6, "base": 12, "large": 16}


def test_the_names():
    assert set(MILLIONS) <= set(NAMES)
    assert sorted(NAMES) == NAMES
    assert list_models("deit_*") == ["deit_base_patch16_224", "deit_small_patch16_224", "deit_tiny_patch16_224"]
    assert list_models("nothing*") == []


@pytest.mark.parametrize("name", NAMES)
def test_every_model_has_its_published_shape(name):
    with torch.device("meta"):  # shapes alone: the large ones cost nothing
        model = create_model(name)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    if name in MILLIONS:
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=0.005)
        assert {block.attention.heads for block in model.blocks} == {HEADS[name.split("_")[1]]}


@pytest.mark.parametrize("name", NAMES)
def test_every_model_runs_learns_and_is_restored(name):
    torch.manual_seed(0)
    reduced = {"depth": 1, "image_size": (32, 64), "classes": 3, "channels": 1}
    model, images = create_model(name, **reduced), torch.randn(1, 1, 32, 64)
    logits = model(images)
    assert logits.shape == (1, 3)
    logits.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    other = create_model(name, **reduced)
    assert not torch.equal(other(images), logits)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images), logits)


def test_overrides_reach_the_model_and_do_not_stay():
    model = create_model("deit_tiny_patch16_224", positions="sincos", stochastic_depth=0.1)
    assert not model.positions.requires_grad and model.blocks[-1].drop.rate == pytest.approx(0.1)
    assert create_model("deit_tiny_patch16_224").positions.requires_grad


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("deit_smal_patch16_224", "'deit_smal_patch16_224': did you mean deit_small_patch16_224"),
        ("vit_base_patch_16_224", "vit_base_patch16_224"),
        ("zzz", "list_models"),
        ("", "list_models"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name, says):
    with pytest.raises(ValueError, match=says):
        create_model(name)


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="num_classes"):
        create_model("deit_tiny_patch16_224", num_classes=10)


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="image 100x100, patch 16"):
        create_model("deit_tiny_patch16_224", image_size=100)


def test_an_unknown_argument_is_answered_with_those_there_are():
    with pytest.raises(TypeError, match="num_classes: it has image_size, .*classes"):
        create_model("vit_tiny_patch16_224", num_classes=10)
