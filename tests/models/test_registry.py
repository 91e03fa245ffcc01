"""Models by name: every one of them, and what happens with a name or an argument that does not exist."""

import re

import pytest
import torch

from xattn_edu import create_model, list_models
from xattn_edu.models.language import SmallBert

NAMES = list_models()

# Parameters in millions, as timm lists them (timm has no vit_tiny_patch32_224: counted by hand). CrossViT's are exact,
# and Swin's too: without the head, with a norm for each stage. LAVT's include a BERT-base of 108,891,648.
MILLIONS = {
    "crossvit_tiny_240": 7.014800,
    "crossvit_small_240": 26.856272,
    "crossvit_base_240": 105.025232,
    "crossvit_9_240": 8.553296,
    "crossvit_15_240": 27.528464,
    "crossvit_18_240": 43.271408,
    "crossvit_9_dagger_240": 8.776592,
    "crossvit_15_dagger_240": 28.209008,
    "crossvit_18_dagger_240": 44.266976,
    "crossvit_15_dagger_408": 28.500080,
    "crossvit_18_dagger_408": 44.606560,
    "deit_tiny_patch16_224": 5.72,
    "deit_small_patch16_224": 22.05,
    "deit_base_patch16_224": 86.57,
    "lavt_swin_tiny": 154.950524,
    "lavt_swin_small": 176.268428,
    "lavt_swin_base": 227.739514,
    "lavt_swin_large": 373.793846,
    "swin_tiny_patch4_window7_224": 27.520698,
    "swin_small_patch4_window7_224": 48.838602,
    "swin_base_patch4_window7_224": 86.745016,
    "swin_base_patch4_window12_384": 86.880376,
    "swin_large_patch4_window7_224": 194.998164,
    "swin_large_patch4_window12_384": 195.201204,
    "vit_tiny_patch16_224": 5.72,
    "vit_small_patch16_224": 22.05,
    "vit_small_patch32_224": 22.88,
    "vit_base_patch16_224": 86.57,
    "vit_base_patch32_224": 88.22,
    "vit_large_patch16_224": 304.33,
    "vit_large_patch32_224": 306.54,
    "vit_tiny_patch32_224": 6.13,
}
HEADS = {"tiny": 3, "small": 6, "base": 12, "large": 16, "9": 4, "15": 6, "18": 7}


def blocks_of(model):
    return [block for branch in getattr(model, "branches", (model,)) for block in branch.blocks]


def outputs_of(model, images):
    """What comes out, as a list: the logits of a classifier or of LAVT, the feature maps of a Swin."""
    sentence = torch.tensor([[2, 5, 6, 3]])
    outputs = model(images, sentence, sentence > 0) if hasattr(model, "language") else model(images)
    return outputs if isinstance(outputs, list) else [outputs]


def reduced(name):
    """Arguments that make the model small: shallow, one channel, two sizes that are not square."""
    if name.startswith("crossvit"):
        shape = {"image_sizes": ((24, 48), (32, 64)), "widths": (48, 96), "depths": (1, 2), "heads": (3, 6)}
        return shape | {"encoders": 2, "classes": 3, "channels": 1}
    if name.startswith("swin"):
        return {"width": 8, "depths": (1, 2), "heads": (2, 4), "channels": 1}
    if name.startswith("lavt"):
        return {"width": 8, "depths": (1, 2), "heads": (2, 4), "channels": 1, "language": SmallBert(10, 16, 1, 2)}
    return {"depth": 1, "image_size": (32, 64), "classes": 3, "channels": 1}


def test_the_names():
    assert set(MILLIONS) == set(NAMES)
    assert sorted(NAMES) == NAMES
    assert list_models("deit_*") == ["deit_base_patch16_224", "deit_small_patch16_224", "deit_tiny_patch16_224"]
    assert list_models("nothing*") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if "swin" not in name])
def test_every_classifier_has_its_published_shape(name):
    with torch.device("meta"):  # shapes alone: the large ones cost nothing
        model = create_model(name)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    within = 1e-9 if name.startswith("crossvit") else 0.005
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=within)
    assert {block.attention.heads for block in blocks_of(model)} == {HEADS[name.split("_")[1]]}


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models("swin_*"))
def test_every_swin_has_its_published_shape(name):
    _, size, _, window, pixels = name.split("_")
    with torch.device("meta"):
        model = create_model(name)
        maps = model(torch.empty(2, 3, int(pixels), int(pixels)))
    side = int(pixels) // 4
    assert [m.shape for m in maps] == [(2, side // 2**i, side // 2**i, width) for i, width in enumerate(model.widths)]
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=1e-9)
    assert [len(stage.blocks) for stage in model.stages] == [2, 2, 6 if size == "tiny" else 18, 2]
    for stage, width in zip(model.stages, model.widths):
        for block in stage.blocks:
            assert block.attention.heads == width // 32 and f"window{block.window}" == window


@pytest.mark.parametrize("name", list_models("lavt_*"))
def test_every_lavt_has_its_published_shape(name):
    with torch.device("meta"):
        model = create_model(name)
    window = 12 if name.endswith(("base", "large")) else 7
    swin, (swin_name,) = model.image_encoder, list_models(f"{name.removeprefix('lavt_')}_*_window{window}_*")
    with torch.device("meta"):
        expected = create_model(swin_name).state_dict()
    assert {k: v.shape for k, v in swin.state_dict().items()} == {k: v.shape for k, v in expected.items()}
    assert sum(p.numel() for p in model.language.parameters()) == 108_891_648
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=1e-9)
    assert [fusion.heads for fusion in model.fusions] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "sizes"), [("crossvit_18_dagger_240", (240, 224)), ("crossvit_18_dagger_408", (408, 384))]
)
def test_a_crossvits_branches_see_images_of_the_published_sizes(name, sizes):
    with torch.device("meta"):
        model = create_model(name)
    assert [branch.patch_embedding.image_size for branch in model.branches] == [(size, size) for size in sizes]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_model_runs_learns_and_is_restored(name):
    torch.manual_seed(0)
    model, images = create_model(name, **reduced(name)), torch.randn(1, 1, 32, 64)
    outputs = outputs_of(model, images)
    if name.startswith("swin"):
        assert [maps.shape for maps in outputs] == [(1, 8, 16, 8), (1, 4, 8, 16)]
    elif name.startswith("lavt"):
        assert [logits.shape for logits in outputs] == [(1, 2, 32, 64)]
    else:
        assert [logits.shape for logits in outputs] == [(1, 3)]
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    idle = {n for n, p in model.named_parameters() if p.grad is None}
    # Softmax does not see the bias of folded keys; nothing reads what passes LAVT's last gate.
    spared = r"fusions\.\d\.(small|large)\.attentions\.0\.key\.bias|pathways\.1\.gate\.[02]\.weight"
    assert all(re.fullmatch(spared, name) for name in idle)
    assert all(p.grad.isfinite().all() for n, p in model.named_parameters() if n not in idle)
    other = create_model(name, **reduced(name))
    assert not torch.equal(outputs_of(other, images)[0], outputs[0])
    other.load_state_dict(model.state_dict())
    assert all(torch.equal(*pair) for pair in zip(outputs_of(other, images), outputs))


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
