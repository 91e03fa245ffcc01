"""CrossViT: each fusion against its equation written out, shapes, counts of the published tables, and refusals."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from xattn_edu import MultiHeadAttention, create_model, list_models
from xattn_edu.measure import costs
from xattn_edu.models.crossvit import ConvolutionalEmbedding, CrossViT
from xattn_edu.models.fusions import (
    FUSIONS,
    AllAttention,
    ClassToken,
    ClassTokenAttention,
    CrossAttention,
    NoFusion,
    Pairwise,
    Projection,
    Scales,
)

SCALES = Scales(widths=(8, 12), heads=(2, 3), grids=((4, 6), (2, 3)))
ATTENTION = ("all_attention", "cross_attention")


def small(**changes) -> CrossViT:
    """A CrossViT of a few thousand parameters, none of them 0 or 1."""
    shape = {"image_sizes": (24, 16), "patches": (4, 8), "widths": (8, 12), "depths": (1, 2), "heads": (2, 3)}
    torch.manual_seed(0)
    return perturbed(CrossViT(**(shape | {"encoders": 2, "classes": 5} | changes)))


def perturbed(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module.eval()


@pytest.fixture
def tokens():
    """Tokens of both branches: a class token and 24 patches of S, a class token and 6 of L."""
    torch.manual_seed(1)
    return torch.randn(2, 25, 8), torch.randn(2, 7, 12)


def projected(projection: Projection, x):
    """LayerNorm, GELU, Linear, from their definitions."""
    norm, linear = projection.norm, projection.linear
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    x = (x - mean) / (variance + 1e-6).sqrt() * norm.weight + norm.bias
    x = x * (1 + torch.erf(x / 2**0.5)) / 2
    return x @ linear.weight.T + linear.bias


def attended(layer: MultiHeadAttention, queries, context):
    """Multi-head attention with a loop over images, heads and queries."""
    dim = layer.width // layer.heads
    q, k, v = layer.query(queries), layer.key(context), layer.value(context)
    out = torch.zeros(len(q), queries.shape[1], layer.width)
    for image in range(len(q)):
        for head in range(layer.heads):
            part = slice(head * dim, (head + 1) * dim)
            for i in range(queries.shape[1]):
                scores = torch.stack([q[image, i, part] @ key for key in k[image, :, part]]) / dim**0.5
                out[image, i, part] = (scores.exp() / scores.exp().sum()) @ v[image, :, part]
    return layer.output(out)


def expected_cross(direction: ClassTokenAttention, own, other):
    query = projected(direction.project, own[:, :1])
    both = direction.norms[0](torch.cat([query, other[:, 1:]], dim=1))
    query = query + attended(direction.attentions[0], both[:, :1], both)
    for norm, layer in zip(direction.norms[1:], direction.attentions[1:]):  # later layers: the class token alone
        alone = norm(query)
        query = query + attended(layer, alone, alone)
    return torch.cat([projected(direction.back, query), own[:, 1:]], dim=1)


class TestFusions:
    """Equations (2) to (7), by hand."""

    @pytest.mark.parametrize("name", FUSIONS)
    def test_one_interface(self, name, tokens):
        fusion = perturbed(FUSIONS[name](SCALES))
        for return_weights in (False, True):
            s, l, maps = fusion(*tokens, return_weights)
            assert (s.shape, l.shape) == (tokens[0].shape, tokens[1].shape)
            assert bool(maps) == (return_weights and name in ATTENTION)

    def test_none_does_nothing(self, tokens):
        fusion = NoFusion(SCALES)
        assert all(a is b for a, b in zip(fusion(*tokens)[:2], tokens)) and not list(fusion.parameters())

    def test_class_token(self, tokens):
        fusion, (s, l) = perturbed(ClassToken(SCALES)), tokens
        both = l[:, :1] + projected(fusion.from_small, s[:, :1])
        small_out, large_out, _ = fusion(s, l)
        assert_close(large_out, torch.cat([both, l[:, 1:]], 1))
        assert_close(small_out, torch.cat([projected(fusion.to_small, both), s[:, 1:]], 1), rtol=1e-5, atol=1e-5)

    def test_pairwise(self, tokens):
        fusion, (s, l) = perturbed(Pairwise(SCALES)), tokens

        def resized(x, old, new):  # each channel as an image
            image = x.transpose(1, 2).reshape(len(x), -1, *old)
            return F.interpolate(image, new, mode="bilinear").flatten(2).transpose(1, 2)

        mapped = projected(fusion.from_small, s)
        class_sum = l[:, :1] + mapped[:, :1]
        patch_sum = l[:, 1:] + resized(mapped[:, 1:], (4, 6), (2, 3))
        back = [projected(fusion.to_small, class_sum), resized(projected(fusion.to_small, patch_sum), (2, 3), (4, 6))]
        small_out, large_out, _ = fusion(s, l)
        assert_close(large_out, torch.cat([class_sum, patch_sum], 1), rtol=1e-5, atol=1e-5)
        assert_close(small_out, torch.cat(back, 1), rtol=1e-5, atol=1e-5)

    def test_pairwise_adds_patches_at_the_same_place(self, tokens):
        """What changes in a corner of S shows in that corner of L, and not in the opposite one."""
        fusion, (s, l) = perturbed(Pairwise(SCALES)), tokens
        before = fusion(s, l)[1]
        s = s.clone()
        s[:, 1] = torch.randn(2, 8)  # the first patch: top left
        change = (fusion(s, l)[1] - before).abs().sum(dim=(0, 2))
        assert change[1] > 1e-3 and change[6] == 0 and change[0] == 0

    def test_all_attention(self, tokens):
        fusion, (s, l) = perturbed(AllAttention(SCALES)), tokens
        y = torch.cat([projected(fusion.from_large, l), projected(fusion.from_small, s)], 1)
        normed = fusion.norm(y)
        o = y + attended(fusion.attention, normed, normed)
        small_out, large_out, maps = fusion(s, l, return_weights=True)
        assert_close(large_out, projected(fusion.to_large, o[:, :7]), rtol=1e-5, atol=1e-5)
        assert_close(small_out, projected(fusion.to_small, o[:, 7:]), rtol=1e-5, atol=1e-5)
        assert maps["all"].shape == (2, 3, 32, 32) and fusion.attention.width == 12

    @pytest.mark.parametrize("folded", [True, False])
    @pytest.mark.parametrize("depth", [1, 3])
    def test_cross_attention(self, tokens, folded, depth):
        fusion = perturbed(CrossAttention(SCALES, depth=depth, folded=folded))
        s, l = tokens
        small_out, large_out, maps = fusion(s, l)
        assert_close(small_out, expected_cross(fusion.small, s, l), rtol=1e-5, atol=1e-5)
        assert_close(large_out, expected_cross(fusion.large, l, s), rtol=1e-5, atol=1e-5)  # s, not what S has become
        assert maps == {}
        for name, keys, heads in (("small", 7, 3), ("large", 25, 2)):
            weights = fusion(s, l, return_weights=True)[2][name]
            assert weights.shape == (2, heads, 1, keys)  # the other branch's heads and patches, and oneself
            assert_close(weights.sum(-1), torch.ones(2, heads, 1))
        assert_close(fusion(s, l, return_weights=True)[0], small_out, rtol=1e-5, atol=1e-5)

    def test_the_weights_are_those_that_were_used(self, tokens):
        fusion, (s, l) = perturbed(CrossAttention(SCALES)), tokens
        weights = fusion(s, l, return_weights=True)[2]["large"]
        direction = fusion.large
        query = direction.project(l[:, :1])
        normed = direction.norms[0](torch.cat([query, s[:, 1:]], 1))
        value = direction.attentions[0].value(normed).unflatten(-1, (2, 4)).transpose(1, 2)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        out = direction.back(query + direction.attentions[0].output(mixed))
        assert_close(fusion(s, l)[1][:, :1], out, rtol=1e-5, atol=1e-5)

    def test_class_token_attention_needs_a_layer(self):
        with pytest.raises(ValueError, match="1 layer or more, given 0"):
            ClassTokenAttention(8, 12, 3, depth=0)


class TestFolded:
    """Keys and values never formed: the same numbers."""

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize(("queries", "keys", "context_width"), [(1, 9, 12), (1, 1, 12), (4, 7, 5), (3, 2, 20)])
    def test_equals_the_written_form(self, bias, queries, keys, context_width):
        torch.manual_seed(2)
        layer = perturbed(MultiHeadAttention(12, 3, context_width, bias)).double()
        x, context = torch.randn(2, queries, 12).double(), torch.randn(2, keys, context_width).double()
        assert_close(layer.folded(x, context), layer(x, context), rtol=1e-12, atol=1e-12)

    def test_gradients_agree(self):
        torch.manual_seed(3)
        layers = [perturbed(MultiHeadAttention(12, 3)).double()]
        layers.append(copy.deepcopy(layers[0]))
        x, context = torch.randn(2, 1, 12).double(), torch.randn(2, 9, 12).double()
        found = []
        for layer, method in zip(layers, ("forward", "folded")):
            inputs = [t.clone().requires_grad_() for t in (x, context)]
            getattr(layer, method)(*inputs).square().sum().backward()
            found.append([*(t.grad for t in inputs), *(p.grad for p in layer.parameters())])
        # The key's bias has no influence: its gradient is rounding in the one form, and absent in the other.
        names = ["x", "context", *(name for name, _ in layers[0].named_parameters())]
        for name, written, folded in zip(names, *found):
            if name == "key.bias":
                assert written.abs().max() < 1e-12 and folded is None
            else:
                assert_close(written, folded, rtol=1e-9, atol=1e-12)

    def test_costs_what_it_says(self):
        layer = MultiHeadAttention(12, 3)

        class Folded(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = layer

            def forward(self, x, context):
                return self.layer.folded(x, context)

        x, context = torch.zeros(1, 1, 12), torch.zeros(1, 50, 12)
        # Query and output projections; W_k and W_v once; scores and sums over 12 channels for each of 3 heads.
        assert costs.count(Folded(), x, context).macs == 2 * 12**2 + 2 * 12**2 + 2 * 3 * 50 * 12
        assert costs.count(layer, x, context).macs == 2 * 12**2 + 2 * 50 * 12**2 + 2 * 50 * 12

    @pytest.mark.parametrize(
        ("tokens", "context", "says"),
        [((1, 1, 8), (1, 4, 12), "tokens must be"), ((1, 1, 12), (1, 4, 8), "context must be"), ((2, 1, 12), (1, 4, 12), "batch")],
    )  # fmt: skip
    def test_refuses_what_does_not_fit(self, either_way, tokens, context, says):
        with pytest.raises(ValueError, match=says):
            MultiHeadAttention(12, 3).folded(torch.zeros(tokens), torch.zeros(context))

    def test_is_used_unless_weights_are_asked_for(self, monkeypatch):
        calls = []
        original = MultiHeadAttention.folded
        monkeypatch.setattr(MultiHeadAttention, "folded", lambda *a: calls.append(1) or original(*a))
        model, images = small(), torch.randn(1, 3, 24, 24)
        model(images)
        assert len(calls) == 4  # two encoders, two directions
        model.train()(images)
        assert len(calls) == 8
        model(images, return_weights=True)
        small(folded=False)(images)
        assert len(calls) == 8


class TestModel:
    @pytest.mark.parametrize("fusion", FUSIONS)
    def test_is_two_vits_and_their_fusions(self, fusion):
        model, images = small(fusion=fusion), torch.randn(2, 3, 24, 24)
        s = model.small.embed(images)
        l = model.large.embed(F.interpolate(images, (16, 16), mode="bicubic", align_corners=False))
        for number in range(2):
            s = model.small.blocks[number](s)[0]
            for block in model.large.blocks[2 * number : 2 * number + 2]:
                l = block(l)[0]
            s, l, _ = model.fusions[number](s, l)
        heads = [branch.head(branch.norm(x)[:, 0]) for branch, x in ((model.small, s), (model.large, l))]
        assert_close(model.branch_logits(images)[0], torch.stack(heads, 1), rtol=1e-5, atol=1e-5)
        assert_close(model(images), (heads[0] + heads[1]) / 2, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("fusion", FUSIONS)
    def test_every_parameter_that_matters_gets_a_gradient(self, fusion):
        model = small(fusion=fusion).train()
        model(torch.randn(3, 3, 24, 24)).square().sum().backward()
        without = {name for name, p in model.named_parameters() if p.grad is None}
        # Folded, the bias of keys does not exist. Nothing else may be left out.
        assert all(name.endswith("attentions.0.key.bias") for name in without), without
        assert (fusion == "cross_attention") == bool(without)

    @pytest.mark.parametrize("fusion", FUSIONS)
    def test_the_branches_hear_each_other_only_through_the_fusion(self, fusion):
        model = small(fusion=fusion)
        images, others = torch.randn(2, 3, 24, 24), torch.randn(2, 3, 16, 16)
        first = model.branch_logits(images, others)[0]
        changed = model.branch_logits(images, others + torch.randn_like(others))[0]
        assert not torch.equal(first[:, 1], changed[:, 1])
        assert torch.equal(first[:, 0], changed[:, 0]) == (fusion == "none")

    def test_images_are_resized_to_each_branch(self):
        model, images = small(), torch.randn(1, 3, 20, 30)
        sized = [F.interpolate(images, (n, n), mode="bicubic", align_corners=False) for n in (24, 16)]
        assert_close(model(images), model(*sized))
        assert not torch.allclose(model(images), model(sized[0]))  # L is resized from the image, not from S's view

    @pytest.mark.parametrize("fusion", FUSIONS)
    def test_attention_of_every_fusion(self, fusion):
        model, images = small(fusion=fusion), torch.randn(2, 3, 24, 24)
        logits, maps = model(images, return_weights=True)
        assert_close(logits, model(images), rtol=1e-5, atol=1e-5)
        assert len(maps) == 2
        for encoder in maps:
            assert [w.shape for w in encoder["small"]] == [(2, 2, 37, 37)]
            assert [w.shape for w in encoder["large"]] == [(2, 3, 5, 5)] * 2
            shapes = {name: tuple(w.shape) for name, w in encoder["fusion"].items()}
            expected = {
                "all_attention": {"all": (2, 3, 42, 42)},
                "cross_attention": {"small": (2, 3, 1, 5), "large": (2, 2, 1, 37)},
            }
            assert shapes == expected.get(fusion, {})
            assert all(torch.allclose(w.sum(-1), torch.ones(())) for w in encoder["fusion"].values())

    @pytest.mark.parametrize("encoders", [1, 3])
    @pytest.mark.parametrize("depths", [(1, 1), (2, 1), (1, 3)])
    def test_any_number_of_encoders_and_blocks(self, encoders, depths):
        model = small(encoders=encoders, depths=depths)
        assert (len(model.small.blocks), len(model.large.blocks)) == (encoders * depths[0], encoders * depths[1])
        assert len(model.fusions) == encoders
        assert model(torch.randn(1, 3, 24, 24)).shape == (1, 5)

    def test_stochastic_depth_rises_along_the_large_branch(self):
        model = small(encoders=3, depths=(1, 4), stochastic_depth=0.11)
        assert [b.drop.rate for b in model.large.blocks] == pytest.approx([0.01 * i for i in range(12)])
        assert [b.drop.rate for b in model.small.blocks] == pytest.approx([0, 0.04, 0.08])
        for fusion, rate in zip(model.fusions, (0.03, 0.07, 0.11)):
            assert fusion.small.drop.rate == fusion.large.drop.rate == pytest.approx(rate)

    def test_no_weight_decay_on_positions_and_class_tokens(self):
        from xattn_edu.training.loop import adamw

        model = small()
        _, spared = adamw(model, 1e-3, 0.05).param_groups
        ids = {id(p) for p in spared["params"]}
        for branch in model.branches:
            assert {id(branch.positions), id(branch.class_token), id(branch.norm.weight)} <= ids
            assert id(branch.head.weight) not in ids

    def test_first_weights(self):
        torch.manual_seed(0)
        model = create_model("crossvit_tiny_240", encoders=1, depths=(1, 1))
        for module in model.modules():
            if isinstance(module, nn.Linear):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1) and not module.bias.any()

    def test_the_large_branch_is_deit(self):
        with torch.device("meta"):
            branch, deit = create_model("crossvit_small_240").large, create_model("deit_small_patch16_224")
        assert {n: p.shape for n, p in branch.named_parameters()} == {n: p.shape for n, p in deit.named_parameters()}

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"patches": 12}, r"patches is a pair, \(of branch S, of branch L\), given 12"),
            ({"widths": (8, 12, 16)}, "widths is a pair"),
            ({"encoders": 0}, "1 or more, given 0"),
            ({"depths": (0, 2)}, r"1 or more, given 2 and \(0, 2\)"),
            ({"fusion": "cross"}, "fusion must be one of none, all_attention, .* given 'cross'"),
            ({"fusion": "pairwise", "fusion_depth": 2}, "'pairwise' has none"),
            ({"fusion_depth": 0}, "1 layer or more"),
            ({"embedding": "conv"}, "embedding must be"),
            ({"embedding": "convolutions"}, "12 or 16 pixels, given 4"),
            ({"patches": (5, 8)}, "image 24x24, patch 5"),
            ({"heads": (3, 3)}, "width 8, heads 3"),
            ({"positions": "none"}, "positions must be"),
            ({"stochastic_depth": 1.5}, "stochastic depth rate"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, arguments, says):
        with pytest.raises(ValueError, match=says):
            small(**arguments)

    @pytest.mark.parametrize("shape", [(3, 24, 24), (1, 1, 24, 24), (2, 24, 24, 3)])
    def test_refuses_what_are_no_images(self, either_way, shape):
        with pytest.raises(ValueError, match="images"):
            small()(torch.zeros(shape))

    def test_refuses_other_images_for_the_large_branch(self):
        with pytest.raises(ValueError, match="large_images"):
            small()(torch.zeros(1, 3, 24, 24), torch.zeros(1, 1, 16, 16))

    def test_refuses_batches_that_differ(self, either_way):
        with pytest.raises(ValueError, match="batch"):
            small()(torch.zeros(2, 3, 24, 24), torch.zeros(1, 3, 16, 16))


class TestConvolutionalEmbedding:
    @pytest.mark.parametrize("patch", [12, 16])
    def test_as_many_tokens_as_patches(self, patch):
        embedding = ConvolutionalEmbedding((48, 96), patch, 8)
        assert embedding(torch.randn(2, 3, 48, 96)).shape == (2, (48 // patch) * (96 // patch), 8)
        assert embedding.grid == (48 // patch, 96 // patch)

    def test_a_token_sees_beyond_its_patch(self):
        """Strides of 4, 2, 2 and kernels of 7, 3, 3 reach 15 pixels to either side of the patch's first pixel."""
        torch.manual_seed(0)
        embedding, image = ConvolutionalEmbedding((64, 64), 16, 64), torch.randn(1, 3, 64, 64, requires_grad=True)
        embedding(image)[0, 5].sum().backward()  # the patch of rows and columns 16 to 31
        seen = image.grad.abs().sum(dim=(0, 1)) > 0
        assert seen[1:32, 1:32].all() and seen.sum() == 31**2


class TestRegistry:
    def test_the_names(self):
        sizes = ("tiny", "small", "base", "9", "15", "18", "9_dagger", "15_dagger", "18_dagger")
        expected = {f"crossvit_{size}_240" for size in sizes} | {f"crossvit_{n}_dagger_408" for n in (15, 18)}
        assert set(list_models("crossvit*")) == expected

    @pytest.mark.parametrize("fusion", FUSIONS)
    def test_fusion_is_an_override(self, fusion):
        with torch.device("meta"):
            model = create_model("crossvit_9_240", fusion=fusion)
        assert {type(f) for f in model.fusions} == {FUSIONS[fusion]}


# Multiply-accumulates and parameters of the fusions in CrossViT-S: table 6, from closed forms (see the docstring of each).
@pytest.mark.parametrize(
    ("fusion", "macs", "parameters"),
    [
        ("none", 5_349_663_360, 23_738_960),
        ("class_token", 5_350_105_728, 24_186_512),
        ("pairwise", 5_481_931_392, 24_186_512),
        ("all_attention", 7_583_409_792, 26_854_544),
        ("cross_attention", 5_615_557_632, 26_856_272),
    ],
)
def test_what_the_fusions_cost(fusion, macs, parameters):
    with torch.device("meta"):
        model = create_model("crossvit_small_240", fusion=fusion, **({"folded": False} if "cross" in fusion else {}))
    counted = costs.count(model, torch.zeros(1, 3, 240, 240))
    assert (counted.macs, counted.parameters) == (macs, parameters)


def test_folding_spares_the_keys_and_values():
    """For each encoder and direction: 2 T D^2 less, 2 (T D h - T D) + 2 D^2 more."""
    with torch.device("meta"):
        macs = [
            costs.count(create_model("crossvit_small_240", folded=f), torch.zeros(1, 3, 240, 240)).macs
            for f in (False, True)
        ]
    saved = sum(2 * t * d**2 - 2 * t * d * (6 - 1) - 2 * d**2 for d, t in ((192, 401), (384, 197)))
    assert macs[0] - macs[1] == 3 * saved
