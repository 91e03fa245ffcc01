"""ViT and DeiT as transformers holds them: the same outputs, or an error that names the keys."""

import re

import pytest
import torch
from helpers.state_dicts import renamed
from torch import nn
from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher, ViTConfig, ViTForImageClassification

from xattn_edu import create_model, list_models
from xattn_edu.models.vit import ViT
from xattn_edu.weights import vit_from_transformers

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


def configuration(width, depth, heads, patch, size=224, classes=1000, eps=1e-6):
    return ViTConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * width,
        image_size=size, patch_size=patch, num_labels=classes, layer_norm_eps=eps,
    )  # fmt: skip


def shapes_of(state_dict):
    return {name: parameter.shape for name, parameter in state_dict.items()}


def transformers_vit(*sizes, **more):
    """transformers' ViT, every parameter random: norms not the identity, biases not zero, logits of size one."""
    config = configuration(*sizes, **more)
    with torch.device("meta"):
        model = ViTForImageClassification(config)
    model = model.to_empty(device="cpu").eval()
    noise = 2 * torch.rand(5_000_000, generator=torch.Generator().manual_seed(0)) - 1  # drawn once: drawing takes long
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            values = noise[1000 * index :][: parameter.numel()].view_as(parameter)
            if parameter.ndim == 1:
                parameter.copy_(0.55 + 0.45 * values)
            else:
                fan_in = parameter[0].numel() if parameter.shape[0] > 1 else 1  # 1: class token and positions
                parameter.copy_((3 / fan_in) ** 0.5 * values)
    return model


def names_of_transformers_4(state_dict):
    """The names in files on the hub."""
    patterns = {
        r"vit\.layers\.": "vit.encoder.layer.",
        r"attention\.([qkv])_proj": lambda m: f"attention.attention.{ {'q': 'query', 'k': 'key', 'v': 'value'}[m[1]] }",
        r"attention\.o_proj": "attention.output.dense",
        r"mlp\.fc1": "intermediate.dense",
        r"mlp\.fc2": "output.dense",
    }
    return renamed(state_dict, patterns)


@pytest.fixture
def hugging_face():
    return transformers_vit(32, 2, 4, 8, size=16, classes=3)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", list_models("vit_*") + list_models("deit_*"))
def test_every_model_gives_what_transformers_gives(name):
    """Names and shapes of all layers, and the numbers of a model of three layers: the others are built the same."""
    width, depth, heads = SIZES[name.split("_")[1]]
    patch = int(re.search(r"patch(\d+)", name)[1])
    with torch.device("meta"):
        whole, model = create_model(name), create_model(name, depth=3).eval()
        converted = vit_from_transformers(
            ViTForImageClassification(configuration(width, depth, heads, patch)).state_dict()
        )
    assert shapes_of(converted) == shapes_of(whole.state_dict())
    theirs = transformers_vit(width, 3, heads, patch)
    model.load_state_dict(vit_from_transformers(theirs.state_dict()), assign=True)
    images = torch.randn(2, 3, 224, 224)
    expected = theirs(images).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_attention_weights_are_transformers_too(hugging_face, ours):
    ours.load_state_dict(vit_from_transformers(hugging_face.state_dict()))
    hugging_face.set_attn_implementation("eager")
    images = torch.randn(2, 3, 16, 16)
    expected = hugging_face(images, output_attentions=True).attentions
    torch.testing.assert_close(ours(images, return_weights=True)[1], list(expected), rtol=0, atol=1e-5)


@torch.no_grad()
def test_transformers_default_norm_eps():
    theirs = transformers_vit(32, 2, 4, 8, size=16, classes=3, eps=ViTConfig().layer_norm_eps)
    assert ViTConfig().layer_norm_eps == 1e-12
    for module in theirs.modules():  # tokens so small that the eps decides what the first norm makes of them
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(1e-3)
            module.bias.zero_()
    theirs.vit.embeddings.position_embeddings.mul_(1e-3)
    theirs.vit.embeddings.cls_token.mul_(1e-3)
    images, state = torch.randn(2, 3, 16, 16), vit_from_transformers(theirs.state_dict())
    logits = {}
    for eps in (1e-12, 1e-6):
        model = ViT(image_size=16, patch=8, width=32, depth=2, heads=4, classes=3, norm_eps=eps).eval()
        model.load_state_dict(state)
        logits[eps] = model(images)
    torch.testing.assert_close(logits[1e-12], theirs(images).logits, rtol=0, atol=1e-5)
    assert (logits[1e-6] - logits[1e-12]).abs().max() > 1e-4


def test_names_of_transformers_4_and_5_convert_to_the_same(hugging_face, ours):
    new = hugging_face.state_dict()
    old = names_of_transformers_4(new)
    assert "vit.encoder.layer.1.attention.attention.query.weight" in old and not set(old) & set(new) - {
        name for name in new if ".layers." not in name
    }
    converted = vit_from_transformers(new)
    assert converted.keys() == ours.state_dict().keys()
    for name, tensor in vit_from_transformers(old).items():
        assert torch.equal(tensor, converted[name]), name


def test_a_deits_names_convert_to_the_same(hugging_face):
    vit = hugging_face.state_dict()
    converted = vit_from_transformers(vit)
    deit = vit_from_transformers({re.sub(r"^vit\.", "deit.", name): tensor for name, tensor in vit.items()})
    assert deit.keys() == converted.keys() and all(torch.equal(deit[name], converted[name]) for name in deit)


def test_a_distilled_deit_is_refused_by_name():
    config = DeiTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)
    with pytest.raises(ValueError, match=r"distilled DeiT: .*deit\.embeddings\.distillation_token"):
        vit_from_transformers(DeiTForImageClassificationWithTeacher(config).state_dict())


@pytest.mark.parametrize("key", ["vit.pooler.dense.weight", "vit.layers.0.mlp.fc3.bias", "vit.layers.x.mlp.fc1.bias"])
def test_an_unknown_key_is_named(hugging_face, key):
    with pytest.raises(ValueError, match=re.escape(key)):
        vit_from_transformers(hugging_face.state_dict() | {key: torch.zeros(1)})


def test_a_prefix_that_is_not_known_is_named(hugging_face):
    """Also for a backbone, which has no classifier."""
    state = hugging_face.state_dict()
    backbone = {f"student.{name}": tensor for name, tensor in state.items() if "classifier" not in name}
    with pytest.raises(ValueError, match="after 'student.vit.' the names are right"):
        vit_from_transformers(backbone)
    del backbone["student.vit.embeddings.cls_token"]
    with pytest.raises(ValueError, match=r"not those of a ViTForImageClassification: (?!.*the names are right)"):
        vit_from_transformers(backbone)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("classifier.bias", "head.bias"),
        ("vit.embeddings.cls_token", "class_token"),
        ("vit.layers.0.attention.k_proj.weight", r"blocks\.0\.attention\.key\.weight"),
        ("vit.layers.1.layernorm_after.bias", r"blocks\.1\.norm2\.bias"),
    ],
)
def test_a_missing_key_is_named(hugging_face, key, says):
    state = hugging_face.state_dict()
    del state[key]
    with pytest.raises(ValueError, match=says):
        vit_from_transformers(state)


def test_an_empty_state_dict_is_refused():
    with pytest.raises(ValueError, match="nothing for these keys"):
        vit_from_transformers({})


def test_a_missing_layer_is_named(hugging_face):
    state = {name: tensor for name, tensor in hugging_face.state_dict().items() if ".layers.0." not in name}
    with pytest.raises(ValueError, match=r"blocks\.0\."):
        vit_from_transformers(state)
