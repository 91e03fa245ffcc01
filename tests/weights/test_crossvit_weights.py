"""CrossViT as it was published and in timm's form, there and back. (Its parity with timm stands in tests/parity.)"""

import copy
import re

import pytest
import torch
from helpers.state_dicts import equal
from torch import nn

from xattn_edu.models.crossvit import ConvolutionalEmbedding, CrossViT
from xattn_edu.models.fusions import FUSIONS
from xattn_edu.weights import crossvit_from_published, crossvit_from_timm, crossvit_to_published, crossvit_to_timm

FORMS = {"timm": (crossvit_from_timm, crossvit_to_timm), "published": (crossvit_from_published, crossvit_to_published)}


def small_crossvit(depths=(1, 4), fusion_depth=1, embedding="linear", fusion="cross_attention", encoders=2):
    torch.manual_seed(0)
    settings = {"encoders": encoders, "fusion": fusion, "fusion_depth": fusion_depth, "embedding": embedding}
    model = CrossViT((24, 32), (12, 16), (8, 16), depths, (2, 4), classes=3, **settings)
    for parameter in model.parameters():  # norms and biases too: no two tensors are alike
        parameter.data.normal_()
    return model


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("embedding", ["linear", "convolutions"])
@pytest.mark.parametrize("fusion_depth", [1, 3])
@pytest.mark.parametrize(("depths", "encoders"), [((1, 4), 2), ((2, 3), 2), ((1, 1), 1), ((3, 1), 11)])
def test_crossvit_there_and_back(form, depths, encoders, fusion_depth, embedding):
    convert_from, convert_to = FORMS[form]
    ours = small_crossvit(depths, fusion_depth, embedding, encoders=encoders).state_dict()
    theirs = convert_to(ours)
    assert equal(convert_from(theirs), ours)
    assert equal(convert_to(convert_from(theirs)), theirs)
    assert sum(tensor.numel() for tensor in theirs.values()) == sum(tensor.numel() for tensor in ours.values())


@pytest.mark.parametrize(("patch", "first", "last"), [(12, -15, 23), (16, -15, 15)])
def test_the_pixels_that_a_token_of_the_dagger_models_depends_on(patch, first, last):
    """By hand, from the published strides and paddings, where the pixels of a token's own patch begin at 0.

    12: a token sees three rows of maps from one before on (padding 1), each three of the first maps, in strides of
    three without padding, each seven pixels, in strides of four from three before on: 4 (3 (-1)) - 3 to 4 (3 + 2) + 3.
    16: strides 2 and paddings 1 twice: 4 (2 (-1) - 1) - 3 to 4 (2 + 1) + 3.
    """
    embedding = ConvolutionalEmbedding((6 * patch, 6 * patch), patch, 8, channels=1)
    for parameter in embedding.parameters():
        parameter.data.fill_(0.1)  # nothing cancels, and no ReLU is shut
    image = torch.ones(1, 1, 6 * patch, 6 * patch, requires_grad=True)
    embedding(image)[0].unflatten(0, (6, 6))[2, 3].sum().backward()
    rows, columns = (image.grad[0, 0].abs().sum(dim).nonzero().flatten() for dim in (1, 0))
    assert (rows.min() - 2 * patch, rows.max() - 2 * patch) == (first, last)
    assert (columns.min() - 3 * patch, columns.max() - 3 * patch) == (first, last)


# A row for each kind of tensor, written down from the published code; the model has depths (2, 3).
PUBLISHED_NAMES = [
    ("pos_embed.0", "small.positions"),
    ("cls_token.1", "large.class_token"),
    ("patch_embed.0.proj.weight", "small.patch_embedding.projection.weight"),
    ("blocks.0.blocks.0.1.norm1.weight", "small.blocks.1.norm1.weight"),
    ("blocks.1.blocks.0.1.norm2.bias", "small.blocks.3.norm2.bias"),
    ("blocks.1.blocks.1.2.attn.proj.weight", "large.blocks.5.attention.output.weight"),
    ("blocks.1.blocks.1.0.mlp.fc1.weight", "large.blocks.3.mlp.fc1.weight"),
    ("blocks.1.blocks.1.0.mlp.fc2.bias", "large.blocks.3.mlp.fc2.bias"),
    ("blocks.1.projs.0.0.weight", "fusions.1.small.project.norm.weight"),
    ("blocks.1.projs.1.2.weight", "fusions.1.large.project.linear.weight"),
    ("blocks.0.revert_projs.0.0.bias", "fusions.0.small.back.norm.bias"),
    ("blocks.0.revert_projs.1.2.weight", "fusions.0.large.back.linear.weight"),
    ("blocks.1.fusion.0.norm1.bias", "fusions.1.small.norms.0.bias"),
    ("blocks.1.fusion.0.attn.wq.weight", "fusions.1.small.attentions.0.query.weight"),
    ("blocks.1.fusion.1.attn.wk.weight", "fusions.1.large.attentions.0.key.weight"),
    ("blocks.0.fusion.1.attn.wv.bias", "fusions.0.large.attentions.0.value.bias"),
    ("blocks.0.fusion.1.attn.proj.bias", "fusions.0.large.attentions.0.output.bias"),
    ("norm.0.weight", "small.norm.weight"),
    ("head.1.bias", "large.head.bias"),
]


@pytest.mark.parametrize(("theirs", "ours"), PUBLISHED_NAMES)
def test_crossvits_names_are_the_published_ones(theirs, ours):
    state = small_crossvit((2, 3)).state_dict()
    assert torch.equal(crossvit_to_published(state)[theirs], state[ours])
    timms = re.sub(r"^(pos_embed|cls_token)\.", r"\1_", theirs)
    assert torch.equal(crossvit_to_timm(state)[timms], state[ours])


def test_crossvits_query_key_and_value_are_stacked_in_this_order():
    state = small_crossvit((2, 3)).state_dict()
    stacked = crossvit_to_timm(state)["blocks.1.blocks.1.2.attn.qkv.weight"]
    for part, rows in zip(("query", "key", "value"), stacked.chunk(3)):
        assert torch.equal(rows, state[f"large.blocks.5.attention.{part}.weight"])


def test_crossvits_convolutions_and_layers_of_fusion_are_numbered():
    state = small_crossvit((1, 2), fusion_depth=2, embedding="convolutions").state_dict()
    theirs = crossvit_to_timm(state)
    for place in (0, 2, 4):
        ours = state[f"large.patch_embedding.convolutions.{place}.bias"]
        assert torch.equal(theirs[f"patch_embed.1.proj.{place}.bias"], ours)
    for layer in (0, 1):
        assert torch.equal(
            theirs[f"blocks.1.fusion.0.{layer}.norm1.bias"], state[f"fusions.1.small.norms.{layer}.bias"]
        )


def test_a_numbered_single_layer_of_fusion_is_understood():
    ours = small_crossvit().state_dict()
    numbered = {re.sub(r"(fusion\.\d)\.", r"\1.0.", name): x for name, x in crossvit_to_timm(ours).items()}
    assert "blocks.0.fusion.1.0.norm1.weight" in numbered
    assert equal(crossvit_from_timm(numbered), ours)


@pytest.mark.parametrize("form", FORMS)
def test_crossvit_converts_to_copies(form):
    convert_from, convert_to = FORMS[form]
    ours = small_crossvit().state_dict()
    theirs = convert_to(ours)
    before = copy.deepcopy((ours, theirs))
    for tensor in (*convert_from(theirs).values(), *convert_to(ours).values()):
        tensor.zero_()
    assert equal(ours, before[0]) and equal(theirs, before[1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("direction", ["from", "to"])
@pytest.mark.parametrize("embedding", ["linear", "convolutions"])
def test_every_key_missing_from_a_crossvit_is_named(form, direction, embedding):
    convert_from, convert_to = FORMS[form]
    state, convert = small_crossvit((1, 2), 2, embedding).state_dict(), convert_to
    if direction == "from":
        state, convert = convert_to(state), convert_from
    for key in state:
        with pytest.raises(ValueError, match=rf"missing: {re.escape(key)}(;|$)"):
            convert({name: tensor for name, tensor in state.items() if name != key})


@pytest.mark.parametrize(
    "key",
    [
        "blocks.0.blocks.0.0.mlp.fc3.bias", "blocks.x.projs.0.0.bias", "blocks.0.projs.0.1.weight", "head.2.bias",
        "blocks.0.blocks.2.0.norm1.bias", "patch_embed.0.proj.0.scale", "head.0.weight.more", "head_dist.weight",
    ],
)  # fmt: skip
def test_a_key_that_crossvit_does_not_have_is_named(key):
    for form, (convert_from, convert_to) in FORMS.items():
        state = convert_to(small_crossvit().state_dict()) | {key: torch.zeros(1)}
        with pytest.raises(ValueError, match=f"a CrossViT with {form} names; .*not known: .*{re.escape(key)}"):
            convert_from(state)


@pytest.mark.parametrize("key", ["small.blocks.0.norm3.bias", "fusions.0.small.gate", "tiny.head.bias"])
def test_a_key_that_our_crossvit_does_not_have_is_named(key):
    for _, convert_to in FORMS.values():
        with pytest.raises(ValueError, match=f"our CrossViT; not known: {re.escape(key)}$"):
            convert_to(small_crossvit().state_dict() | {key: torch.zeros(1)})


def test_a_block_or_an_encoder_missing_from_a_crossvit_is_named():
    theirs = crossvit_to_timm(small_crossvit(encoders=3).state_dict())
    for place in ("blocks.1.blocks.1.2.", "blocks.0.", "blocks."):
        with pytest.raises(ValueError, match=rf"missing: {re.escape(place)}"):
            crossvit_from_timm({name: tensor for name, tensor in theirs.items() if not name.startswith(place)})
    ours = small_crossvit(encoders=3).state_dict()
    for place in ("large.blocks.7.", "small.blocks.1."):
        with pytest.raises(ValueError, match=rf"missing: {re.escape(place)}[^;]*$"):  # and nothing else is wrong
            crossvit_to_timm({name: tensor for name, tensor in ours.items() if not name.startswith(place)})


@pytest.mark.parametrize("form", FORMS)
def test_no_crossvit_at_all_is_refused(form, ours):
    for convert in FORMS[form]:
        for state in ({}, ours.state_dict(), nn.Linear(2, 2).state_dict()):
            with pytest.raises(ValueError, match="missing: "):
                convert(state)


def test_the_other_form_and_our_own_are_told_apart():
    ours = small_crossvit().state_dict()
    timms, published = crossvit_to_timm(ours), crossvit_to_published(ours)
    for convert, state, says in (
        (crossvit_from_timm, published, r"missing: cls_token_0, .*these are published names: take crossvit_from_publ"),
        (crossvit_from_published, timms, r"missing: cls_token\.0, .*these are timm names: take crossvit_from_timm"),
        (crossvit_from_timm, ours, "our own names: load_state_dict takes them"),
        (crossvit_to_timm, timms, "not the state dict of our CrossViT"),
    ):
        with pytest.raises(ValueError, match=says):
            convert(state)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fusion", sorted(set(FUSIONS) - {"cross_attention"}))
def test_only_cross_attention_was_published(form, fusion):
    with pytest.raises(ValueError, match='only CrossViTs with fusion="cross_attention"'):
        FORMS[form][1](small_crossvit(fusion=fusion).state_dict())
