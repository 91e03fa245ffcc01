"""CrossViT's fusions: each against its equation written out, the folded form of attention, and what they cost."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers.random_weights import perturbed
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from xattn_edu import MultiHeadAttention, create_model
from xattn_edu.measure import costs
from xattn_edu.measure.published import CROSSVIT_FUSIONS
from xattn_edu.models.fusions import (
    FUSIONS,
    PAPER_FUSIONS,
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


@pytest.mark.slow
def test_the_papers_fusions_are_the_rows_of_its_table_6():
    rows = [name.lower().replace("-", "_").replace(" ", "_") for name in CROSSVIT_FUSIONS.rows]
    assert rows == list(PAPER_FUSIONS)
    assert set(PAPER_FUSIONS) <= set(FUSIONS)


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


class Nothing(nn.Module):
    """What stochastic depth makes of a branch that it leaves out."""

    def forward(self, branch):
        return torch.zeros_like(branch)


@pytest.mark.parametrize("fusion", ATTENTION)
def test_stochastic_depth_leaves_the_attention_out(fusion, tokens):
    model = perturbed(FUSIONS[fusion](SCALES, 0.5))
    names = [name for name, module in model.named_modules() if name.endswith("drop")]
    assert names and all(model.get_submodule(name).rate == 0.5 for name in names)
    for name in names:
        model.set_submodule(name, Nothing())
    small, large, _ = model(*tokens)
    if fusion == "all_attention":
        assert_close(small, model.to_small(model.from_small(tokens[0])))
        assert_close(large, model.to_large(model.from_large(tokens[1])))
    else:
        assert_close(small[:, :1], model.small.back(model.small.project(tokens[0][:, :1])))
        assert_close(large[:, :1], model.large.back(model.large.project(tokens[1][:, :1])))


@pytest.mark.parametrize("fusion", PAPER_FUSIONS)
def test_every_norm_has_the_epsilon_that_is_given(fusion):
    model = FUSIONS[fusion](replace(SCALES, norm_eps=0.25))
    assert {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)} <= {0.25}


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
        [
            ((1, 1, 8), (1, 4, 12), "tokens must be"),
            ((1, 1, 12), (1, 4, 8), "context must be"),
            ((2, 1, 12), (1, 4, 12), "batch"),
        ],
    )
    def test_refuses_what_does_not_fit(self, either_way, tokens, context, says):
        with pytest.raises(ValueError, match=says):
            MultiHeadAttention(12, 3).folded(torch.zeros(tokens), torch.zeros(context))


# Multiply-accumulates and parameters of the fusions in CrossViT-S (table 6), from closed forms of their equations.
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
