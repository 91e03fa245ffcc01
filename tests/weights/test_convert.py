"""State dicts of other libraries and of published models: the same outputs, or an error that names the keys."""

import copy
import re

import pytest
import torch
from torch import nn
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    SwinBackbone,
    SwinConfig,
    SwinForImageClassification,
    SwinModel,
    ViTConfig,
    ViTForImageClassification,
)

from xattn_edu import MultiHeadAttention, create_model, list_models
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.fusions import FUSIONS
from xattn_edu.models.language import SmallBert
from xattn_edu.models.lavt import LAVT
from xattn_edu.models.swin import Swin, relative_index, resize_bias_table
from xattn_edu.models.transformer import Decoder, Encoder
from xattn_edu.models.vit import ViT
from xattn_edu.weights import (
    attention_from_torch,
    crossvit_from_published,
    crossvit_from_timm,
    crossvit_to_published,
    crossvit_to_timm,
    lavt_from_published,
    lavt_to_published,
    swin_from_microsoft,
    swin_from_transformers,
    transformer_from_torch,
    vit_from_transformers,
)

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


def transformers_vit(width, depth, heads, patch, size=224, classes=1000, eps=1e-6):
    """transformers' ViT, every parameter random: norms not the identity, biases not zero, logits of size one."""
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * width,
        image_size=size, patch_size=patch, num_labels=classes, layer_norm_eps=eps,
    )  # fmt: skip
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
    old = {
        r"vit\.layers\.": "vit.encoder.layer.",
        r"attention\.([qkv])_proj": lambda m: f"attention.attention.{ {'q': 'query', 'k': 'key', 'v': 'value'}[m[1]] }",
        r"attention\.o_proj": "attention.output.dense",
        r"mlp\.fc1": "intermediate.dense",
        r"mlp\.fc2": "output.dense",
    }
    renamed = {}
    for name, tensor in state_dict.items():
        for pattern, new in old.items():
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    return renamed


@pytest.fixture
def hugging_face():
    return transformers_vit(32, 2, 4, 8, size=16, classes=3)


@pytest.fixture
def ours():
    return ViT(image_size=16, patch=8, width=32, depth=2, heads=4, classes=3).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", list_models("vit_*") + list_models("deit_*"))
def test_every_model_gives_what_transformers_gives(name):
    width, depth, heads = SIZES[name.split("_")[1]]
    theirs = transformers_vit(width, depth, heads, patch=int(re.search(r"patch(\d+)", name)[1]))
    with torch.device("meta"):
        model = create_model(name).eval()
    model.load_state_dict(vit_from_transformers(theirs.state_dict()), assign=True)
    images = torch.randn(1 if "large" in name else 2, 3, 224, 224)
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


def test_a_distilled_deit_is_refused_by_name():
    config = DeiTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)
    with pytest.raises(ValueError, match=r"distilled DeiT: .*deit\.embeddings\.distillation_token"):
        vit_from_transformers(DeiTForImageClassificationWithTeacher(config).state_dict())


@pytest.mark.parametrize("key", ["vit.pooler.dense.weight", "vit.layers.0.mlp.fc3.bias", "vit.layers.x.mlp.fc1.bias"])
def test_an_unknown_key_is_named(hugging_face, key):
    with pytest.raises(ValueError, match=re.escape(key)):
        vit_from_transformers(hugging_face.state_dict() | {key: torch.zeros(1)})


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


# --- torch.nn.MultiheadAttention (its parity stands in test_attention.py)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("context_width", [None, 5])
def test_torchs_attention_converts_to_copies(context_width, bias):
    theirs = nn.MultiheadAttention(8, 2, bias=bias, kdim=context_width, vdim=context_width)
    before = copy.deepcopy(theirs.state_dict())
    converted = attention_from_torch(theirs.state_dict())
    layer = MultiHeadAttention(8, 2, context_width, bias)
    assert converted.keys() == layer.state_dict().keys()
    for tensor in converted.values():
        tensor.zero_()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(
    ("state_dict", "says"),
    [
        ({}, "neither in_proj_weight"),
        (nn.Linear(2, 2).state_dict(), "weight, bias"),
        (nn.MultiheadAttention(8, 2, add_bias_kv=True).state_dict(), "bias_k, bias_v"),
        (MultiHeadAttention(8, 2).state_dict(), r"query\.weight"),
        ({"in_proj_weight": torch.zeros(6, 2)}, "in_proj_weight"),
    ],
)
def test_another_state_dict_is_refused(state_dict, says):
    with pytest.raises(ValueError, match=says):
        attention_from_torch(state_dict)


# --- torch.nn.Transformer (its parity stands in test_transformer.py)


@pytest.fixture
def torchs():
    return nn.Transformer(8, 2, 1, 2, 12, batch_first=True)


def test_torchs_transformer_converts_to_copies(torchs):
    before = copy.deepcopy(torchs.state_dict())
    encoder, decoder = transformer_from_torch(torchs.state_dict())
    assert encoder.keys() == Encoder(8, 1, 2, 12, final_norm=True).state_dict().keys()
    assert decoder.keys() == Decoder(8, 2, 2, 12, final_norm=True).state_dict().keys()
    for tensor in (*encoder.values(), *decoder.values()):
        tensor.zero_()
    for name, tensor in torchs.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_transformer_without_final_norms_converts_to_one(torchs):
    torchs.encoder.norm = torchs.decoder.norm = None
    encoder, decoder = transformer_from_torch(torchs.state_dict())
    assert encoder.keys() == Encoder(8, 1, 2, 12).state_dict().keys()
    assert decoder.keys() == Decoder(8, 2, 2, 12).state_dict().keys()


@pytest.mark.parametrize(
    "key",
    ["head.weight", "encoder.layers.0.linear3.weight", "decoder.layers.x.norm1.bias", "encoder.norm.running_mean"],
)
def test_a_key_that_torchs_transformer_does_not_have_is_named(torchs, key):
    with pytest.raises(ValueError, match=re.escape(key)):
        transformer_from_torch(torchs.state_dict() | {key: torch.zeros(1)})


def test_half_a_transformer_is_refused_by_name(torchs):
    encoder = {name: tensor for name, tensor in torchs.state_dict().items() if name.startswith("encoder.")}
    with pytest.raises(ValueError, match="nothing for the decoder"):
        transformer_from_torch(encoder)
    for state in (torchs.encoder.state_dict(), nn.Sequential(torchs).state_dict()):
        with pytest.raises(ValueError, match=next(iter(state))):
            transformer_from_torch(state)
    with pytest.raises(ValueError, match="nothing for the encoder and decoder"):
        transformer_from_torch({})


@pytest.mark.parametrize(
    "key", ["encoder.layers.0.linear1.weight", "decoder.layers.1.norm3.bias", "decoder.layers.0.self_attn.in_proj_bias"]
)
def test_a_key_missing_from_torchs_transformer_is_named(key):
    state = nn.Transformer(8, 2, 1, 2, 12, batch_first=True).state_dict()
    del state[key]
    with pytest.raises(ValueError, match="missing|nothing for"):
        transformer_from_torch(state)


def test_a_layer_missing_from_torchs_transformer_is_named():
    state = nn.Transformer(8, 2, 1, 2, 12, batch_first=True).state_dict()
    with pytest.raises(ValueError):
        transformer_from_torch({name: x for name, x in state.items() if "decoder.layers.0" not in name})


# --- CrossViT (its parity with timm stands in tests/parity)

FORMS = {"timm": (crossvit_from_timm, crossvit_to_timm), "published": (crossvit_from_published, crossvit_to_published)}


def small_crossvit(depths=(1, 4), fusion_depth=1, embedding="linear", fusion="cross_attention", encoders=2):
    torch.manual_seed(0)
    settings = {"encoders": encoders, "fusion": fusion, "fusion_depth": fusion_depth, "embedding": embedding}
    model = CrossViT((24, 32), (12, 16), (8, 16), depths, (2, 4), classes=3, **settings)
    for parameter in model.parameters():  # norms and biases too: no two tensors are alike
        parameter.data.normal_()
    return model


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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


def test_the_other_form_the_wrapped_and_our_own_are_told_apart():
    ours = small_crossvit().state_dict()
    timms, published = crossvit_to_timm(ours), crossvit_to_published(ours)
    for convert, state, says in (
        (crossvit_from_timm, published, r"missing: cls_token_0, .*these are published names: take crossvit_from_publ"),
        (crossvit_from_published, timms, r"missing: cls_token\.0, .*these are timm names: take crossvit_from_timm"),
        (crossvit_from_timm, ours, "our own names: load_state_dict takes them"),
        (crossvit_from_published, {"model": published, "epoch": 3}, 'pass what is under "model" alone'),
        (crossvit_to_timm, timms, "not the state dict of our CrossViT"),
    ):
        with pytest.raises(ValueError, match=says):
            convert(state)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fusion", sorted(set(FUSIONS) - {"cross_attention"}))
def test_only_cross_attention_was_published(form, fusion):
    with pytest.raises(ValueError, match='only CrossViTs with fusion="cross_attention"'):
        FORMS[form][1](small_crossvit(fusion=fusion).state_dict())


# --- Swin (its parity with transformers stands in test_swin.py)

SWINS = {"microsoft": swin_from_microsoft, "transformers": swin_from_transformers}


def small_swin(window=3, depths=(2, 1)):
    model = Swin(4, depths, tuple(2**i for i in range(len(depths))), window=window)
    for parameter in model.parameters():
        parameter.data.normal_()
    return model


def microsofts(ours, norms=False):
    """A file as the authors published it, from the state dict of ours; by hand, from its names."""
    theirs = {}
    for name, tensor in ours.items():
        part, index, *rest = name.split(".")
        if part == "patch_embedding":
            theirs[f"patch_embed.{index.replace('projection', 'proj')}.{rest[0]}"] = tensor
        elif part == "merges":
            theirs[f"layers.{index}.downsample.{'.'.join(rest)}"] = tensor
        elif part == "norms":
            theirs |= {f"norm{index}.{rest[0]}": tensor} if norms else {}
        elif rest[-1] == "bias_table":
            place = f"layers.{index}.blocks.{rest[1]}"
            theirs[f"{place}.attn.relative_position_bias_table"] = tensor
            theirs[f"{place}.attn.relative_position_index"] = torch.zeros(9, 9, dtype=torch.long)
            theirs |= {f"{place}.attn_mask": torch.zeros(4, 9, 9)} if rest[1] == "1" else {}
        else:
            inner = ".".join(rest[2:]).replace("attention.output", "attn.proj").replace("attention.", "attn.")
            theirs[f"layers.{index}.blocks.{rest[1]}.{inner}"] = tensor
    if not norms:
        theirs |= {f"{part}.{kind}": torch.zeros(8) for part in ("norm", "head") for kind in ("weight", "bias")}
    return theirs


def huggings(of=SwinBackbone, stages=("stage1", "stage2")):
    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=4, depths=[2, 1], num_heads=[1, 2], window_size=3, num_labels=5,
        out_features=list(stages) if of is SwinBackbone else None,
    )  # fmt: skip
    model = of(config)
    for parameter in model.parameters():
        parameter.data.normal_()
    return model.state_dict()


def swins_names_of_transformers_4(state_dict):
    """The names in files on the hub, with the index that they hold."""
    old = {
        r"attention\.([qkv])_proj": lambda m: f"attention.self.{ {'q': 'query', 'k': 'key', 'v': 'value'}[m[1]] }",
        r"attention\.relative_position_bias\.": "attention.self.",
        r"attention\.o_proj": "attention.output.dense",
        r"mlp\.fc1": "intermediate.dense",
        r"mlp\.fc2": "output.dense",
    }
    renamed = {}
    for name, tensor in state_dict.items():
        for pattern, new in old.items():
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
        if name.endswith("_table"):
            renamed[name.replace("bias_table", "index")] = torch.zeros(9, 9, dtype=torch.long)
    return renamed


@pytest.mark.parametrize("depths", [(2, 1), (1,), (2, 11, 1)])
def test_microsofts_swin_converts(depths):
    ours = small_swin(depths=depths).state_dict()
    assert equal(swin_from_microsoft(microsofts(ours, norms=True)), ours)
    converted = swin_from_microsoft(microsofts(ours))
    for name, tensor in converted.items():  # the classifier's norm is none of ours: they start at the identity
        identity = torch.full_like(tensor, float(name.endswith("weight")))
        assert torch.equal(tensor, identity if name.startswith("norms") else ours[name]), name
    assert converted.keys() == ours.keys()


@pytest.mark.parametrize("of", [SwinModel, SwinForImageClassification, SwinBackbone])
def test_transformers_swins_convert(of):
    state = huggings(of)
    converted, model = swin_from_transformers(state), small_swin()
    model.load_state_dict(converted)
    normed = [name for name in state if name.startswith("hidden_states_norms")]
    assert len(normed) == (4 if of is SwinBackbone else 0)
    for stage in range(2):
        for kind in ("weight", "bias"):
            if normed:
                assert torch.equal(
                    converted[f"norms.{stage}.{kind}"], state[f"hidden_states_norms.stage{stage + 1}.{kind}"]
                )
            else:
                assert (converted[f"norms.{stage}.{kind}"] == float(kind == "weight")).all()
    prefix = "" if of is SwinModel else "swin."
    block = f"{prefix}encoder.layers.0.blocks.1.attention"
    stacked = torch.cat([state[f"{block}.{part}_proj.weight"] for part in "qkv"])
    assert torch.equal(converted["stages.0.blocks.1.attention.qkv.weight"], stacked)
    assert torch.equal(
        converted["merges.0.reduction.weight"], state[f"{prefix}encoder.layers.0.downsample.reduction.weight"]
    )
    for their, our in (("layernorm_before.bias", "norm1.bias"), ("layernorm_after.bias", "norm2.bias")):
        assert torch.equal(converted[f"stages.1.blocks.0.{our}"], state[f"{prefix}encoder.layers.1.blocks.0.{their}"])
    assert equal(swin_from_transformers(swins_names_of_transformers_4(state)), converted)
    bare = {name.removeprefix("swin."): tensor for name, tensor in state.items()}
    assert equal(swin_from_transformers(bare), converted)


def test_a_backbone_that_puts_out_some_stages_has_their_norms():
    state = huggings(stages=("stage2",))
    converted = swin_from_transformers(state)
    assert torch.equal(converted["norms.1.bias"], state["hidden_states_norms.stage2.bias"])
    assert (converted["norms.0.weight"] == 1).all() and converted["norms.0.weight"].shape == (4,)
    assert (converted["norms.0.bias"] == 0).all()


def swin_files():
    return {"microsoft": microsofts(small_swin().state_dict(), norms=True), "transformers": huggings()}


@pytest.mark.parametrize("form", SWINS)
def test_swins_tables_are_resized_to_another_window(form):
    state = swin_files()[form]
    same, other = SWINS[form](state, window=3), SWINS[form](state, window=5)
    assert equal(same, SWINS[form](state))
    small_swin(window=5).load_state_dict(other)
    for name, tensor in other.items():
        table = name.endswith("bias_table")
        assert torch.equal(tensor, resize_bias_table(same[name], 5) if table else same[name]), name
    with pytest.raises(ValueError, match="window must be .*given 0"):
        SWINS[form](state, window=0)


@pytest.mark.parametrize("form", SWINS)
def test_swin_converts_to_copies(form):
    state = swin_files()[form]
    before = copy.deepcopy(state)
    for tensor in SWINS[form](state, window=3).values():
        tensor.zero_()
    assert equal(state, before)


@pytest.mark.parametrize("form", SWINS)
def test_every_key_missing_from_a_swin_is_named(form):
    state = swin_files()[form]
    for key in state:
        without = {name: tensor for name, tensor in state.items() if name != key}
        if re.search(r"relative_position_index|attn_mask|^swin\.layernorm\.", key):  # not needed
            assert equal(SWINS[form](without), SWINS[form](state))
        else:
            with pytest.raises(ValueError, match=rf"missing: {re.escape(key.removeprefix('swin.'))}(;|$)"):
                SWINS[form](without)


@pytest.mark.parametrize(
    ("form", "key"),
    [
        ("microsoft", "absolute_pos_embed"),
        ("microsoft", "layers.0.blocks.0.attn.logit_scale"),
        ("microsoft", "layers.1.downsample.norm.weight"),
        ("microsoft", "layers.0.blocks.x.norm1.bias"),
        ("microsoft", "layers.0.downsample.reduction.bias"),
        ("microsoft", "layers.0.res_gate.0.weight"),
        ("microsoft", "norm2.weight"),
        ("microsoft", "head.fc.weight"),
        ("transformers", "embeddings.mask_token"),
        ("transformers", "embeddings.position_embeddings"),
        ("transformers", "hidden_states_norms.stage3.bias"),
        ("transformers", "hidden_states_norms.stem.bias"),
        ("transformers", "encoder.layers.0.blocks.0.mlp.fc3.bias"),
        ("transformers", "decoder.0.weight"),
    ],
)
def test_a_key_that_swin_does_not_have_is_named(form, key):
    with pytest.raises(ValueError, match=f"a Swin with {form} names; not known: {re.escape(key)}$"):
        SWINS[form](swin_files()[form] | {key: torch.zeros(1)})


@pytest.mark.parametrize("form", SWINS)
def test_no_swin_at_all_is_refused(form, ours):
    for state in ({}, ours.state_dict(), nn.Linear(2, 2).state_dict()):
        with pytest.raises(ValueError, match="missing: "):
            SWINS[form](state)


def test_a_stage_or_a_block_missing_from_a_swin_is_named():
    state = microsofts(small_swin(depths=(2, 3, 1)).state_dict())
    for place, says in (
        ("layers.1.", r"missing: layers\.1\.blocks\.0\..*not known: layers\.2\."),
        ("layers.1.blocks.1.", r"missing: layers\.1\.blocks\.1\..*not known: layers\.1\.blocks\.2\."),
        ("layers.2.", r"not known: layers\.1\.downsample"),  # what leads to the last stage is still there
    ):
        with pytest.raises(ValueError, match=says):
            swin_from_microsoft({name: tensor for name, tensor in state.items() if not name.startswith(place)})


def test_swins_other_form_the_wrapped_and_our_own_are_told_apart():
    files, ours = swin_files(), small_swin().state_dict()
    for convert, state, says in (
        (swin_from_microsoft, files["transformers"], "these are transformers names: take swin_from_transformers"),
        (swin_from_transformers, files["microsoft"], "these are microsoft names: take swin_from_microsoft"),
        (swin_from_microsoft, ours, "our own names: load_state_dict takes them"),
        (swin_from_transformers, ours, "our own names: load_state_dict takes them"),
        (swin_from_microsoft, {"model": files["microsoft"]}, 'pass what is under "model" alone'),
    ):
        with pytest.raises(ValueError, match=says):
            convert(state)


# --- LAVT


def small_lavt(window=3, depths=(1, 2, 1, 1), layers=2, **changes):
    """Every weight random, every count of batches 3."""
    swin = Swin(4, depths, [1] * len(depths), window=window)
    model = LAVT(swin, SmallBert(9, 6, layers, heads=2, length=5), **changes)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape) if tensor.is_floating_point() else torch.tensor(3))
    return model


def published_lavt(ours):
    """A file as it was published, from the state dict of ours; by hand, from its names."""
    theirs = {}
    swin = {name.removeprefix("image_encoder."): t for name, t in ours.items() if name.startswith("image_encoder.")}
    for name, tensor in microsofts(swin, norms=True).items():
        theirs |= {f"backbone.{name}": tensor} if "attn_mask" not in name else {}
    stages = 1 + max(int(name.split(".")[1]) for name in ours if name.startswith("fusions."))
    pwam = {
        "vision": "vis_project.0",
        "query": "image_lang_att.f_query.0",
        "key": "image_lang_att.f_key.0",
        "value": "image_lang_att.f_value.0",
        "language": "image_lang_att.W.0",
        "output": "project_mm.0",
    }
    for i in range(stages):
        for our, their in pwam.items():
            theirs[f"backbone.layers.{i}.fusion.{their}.weight"] = ours[f"fusions.{i}.{our}.weight"].unsqueeze(2)
            theirs[f"backbone.layers.{i}.fusion.{their}.bias"] = ours[f"fusions.{i}.{our}.bias"]
        for layer in (0, 2):
            theirs[f"backbone.layers.{i}.res_gate.{layer}.weight"] = ours[f"pathways.{i}.gate.{layer}.weight"]
    for i in range(stages - 1):
        for j in (0, 1):
            place = f"decoder.levels.{i}.{j}"
            theirs[f"classifier.conv{j + 1}_{stages - i}.weight"] = ours[f"{place}.0.weight"]
            for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                theirs[f"classifier.bn{j + 1}_{stages - i}.{kind}"] = ours[f"{place}.1.{kind}"]
    for kind in ("weight", "bias"):
        theirs[f"classifier.conv1_1.{kind}"] = ours[f"decoder.logits.{kind}"]
    mark = "language.bert."
    return {"model": theirs, "bert_model": {n.removeprefix(mark): t for n, t in ours.items() if n.startswith(mark)}}


def in_one(checkpoint):
    """The same file as one model."""
    return checkpoint["model"] | {f"text_encoder.{name}": tensor for name, tensor in checkpoint["bert_model"].items()}


@pytest.mark.parametrize("depths", [(1, 2, 1, 1), (1, 1), (1, 11, 1)])
def test_lavt_converts_and_goes_back(depths):
    model = small_lavt(depths=depths)
    ours = model.state_dict()
    separate = published_lavt(ours)
    one = in_one(separate)
    extra = {"pooler.dense.weight": torch.ones(6, 6), "embeddings.position_ids": torch.arange(5)[None]}
    forms = (
        separate,
        one,
        {"model": one, "epoch": 39, "args": None},
        {**separate, "bert_model": separate["bert_model"] | extra, "optimizer": {}},
        one | {f"text_encoder.{name}": tensor for name, tensor in extra.items()},
    )
    for form in forms:
        assert equal(lavt_from_published(form), ours)
    model.load_state_dict(lavt_from_published(separate))

    for name, tensor in one.items():
        if name.endswith("relative_position_index"):
            tensor.copy_(relative_index(3, torch.device("cpu")))
    back = lavt_to_published(ours)
    assert back.keys() == separate.keys() and all(equal(back[part], separate[part]) for part in back)
    assert equal(lavt_to_published(ours, separate=False), one)


def test_lavts_fusion_is_told_from_the_other_layers_by_its_names():
    """A layer of each kind at its place: what is one of six in a stage may not be another."""
    model = small_lavt()
    converted = lavt_from_published(published_lavt(model.state_dict()))
    assert torch.equal(converted["fusions.2.query.weight"], model.fusions[2].query.weight)
    assert torch.equal(converted["fusions.2.output.bias"], model.fusions[2].output.bias)
    assert torch.equal(converted["decoder.levels.0.1.0.weight"], model.decoder.levels[0][1][0].weight)
    assert converted["decoder.levels.0.0.0.weight"].shape[1] == 32 + 16


def test_lavt_converts_to_copies():
    ours = small_lavt().state_dict()
    theirs = published_lavt(ours)
    converted, back = lavt_from_published(theirs, window=3), in_one(lavt_to_published(ours))
    for tensor in [*converted.values(), *back.values()]:
        tensor.zero_()
    assert all(tensor.any() for name, tensor in in_one(theirs).items() if not name.endswith("index"))
    assert relative_index(3, torch.device("cpu")).any()


def test_lavts_tables_are_resized_to_another_window():
    ours = small_lavt().state_dict()
    other = lavt_from_published(published_lavt(ours), window=5)
    small_lavt(window=5).load_state_dict(other)
    for name, tensor in other.items():
        resized = resize_bias_table(ours[name], 5) if name.endswith("bias_table") else ours[name]
        assert torch.equal(tensor, resized), name
    index = lavt_to_published(other)["model"]["backbone.layers.1.blocks.1.attn.relative_position_index"]
    assert torch.equal(index, relative_index(5, torch.device("cpu")))


def test_every_key_missing_from_a_lavt_is_named():
    ours = small_lavt(depths=(1, 1), layers=1).state_dict()
    one = in_one(published_lavt(ours))
    for key in one:
        without = {name: tensor for name, tensor in one.items() if name != key}
        if key.endswith("relative_position_index"):
            assert equal(lavt_from_published(without), ours)
        else:
            with pytest.raises(ValueError, match=rf"a published LAVT; missing: {re.escape(key)}$"):
                lavt_from_published(without)


@pytest.mark.parametrize(
    "key",
    [
        "backbone.layers.0.fusion.image_lang_att.W.1.weight",
        "backbone.layers.0.res_gate.0.bias",
        "backbone.layers.3.downsample.norm.weight",
        "backbone.norm.weight",
        "classifier.conv1_0.weight",
        "classifier.conv1_4.bias",
        "text_encoder.cls.predictions.bias",
        "language.bert.embeddings.LayerNorm.weight",
        "head.weight",
    ],
)
def test_a_key_that_lavt_does_not_have_is_named(key):
    one = in_one(published_lavt(small_lavt().state_dict()))
    with pytest.raises(ValueError, match=f"a published LAVT; not known: {re.escape(key)}$"):
        lavt_from_published(one | {key: torch.zeros(1)})


def test_what_is_no_published_lavt_is_refused_with_a_hint():
    ours = small_lavt().state_dict()
    for state, says in (
        ({}, "missing: "),
        (nn.Linear(2, 2).state_dict(), "missing: .*not known: bias, weight$"),
        (microsofts(small_swin().state_dict()), "missing: .*not known: head.bias"),
        (ours, "our own names: load_state_dict takes them"),
        ({"model": published_lavt(ours)["model"]}, "missing: text_encoder.*its BERT is not there: pass the whole file"),
    ):
        with pytest.raises(ValueError, match=says):
            lavt_from_published(state)
    for changes, says in (
        ({"pwam": False}, r"missing: fusions\.0\.key\.bias.*not known: fusions\.0\.language\.0\.bias"),
        ({"language_pathway": False}, r"missing: pathways\.0\.gate\.0\.weight"),
    ):
        with pytest.raises(ValueError, match=f"our LAVT with PWAM, language pathway and BERT; {says}"):
            lavt_to_published(small_lavt(**changes).state_dict())
    with pytest.raises(ValueError, match="our LAVT"):
        lavt_to_published(published_lavt(ours)["model"])
