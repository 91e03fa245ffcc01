"""CrossViT: two ViTs and their fusions, a fusion of one's own, shapes, first weights, and refusals."""

import pytest
import torch
from helpers.random_weights import perturbed
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from xattn_edu import MultiHeadAttention, create_model, list_models
from xattn_edu.models.crossvit import ConvolutionalEmbedding, CrossViT
from xattn_edu.models.fusions import FUSIONS, Fusion, with_class_token


def small(**changes) -> CrossViT:
    """A CrossViT of a few thousand parameters, none of them 0 or 1."""
    shape = {"image_sizes": (24, 16), "patches": (4, 8), "widths": (8, 12), "depths": (1, 2), "heads": (2, 3)}
    torch.manual_seed(0)
    return perturbed(CrossViT(**(shape | {"encoders": 2, "classes": 5} | changes)))


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

    def test_cross_attention_is_folded_unless_weights_are_returned(self, monkeypatch):
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

    def test_every_norm_has_the_epsilon_that_is_given(self):
        norms = [module for module in small(norm_eps=0.25).modules() if isinstance(module, nn.LayerNorm)]
        assert {norm.eps for norm in norms} == {0.25}
        assert {module.eps for module in small().modules() if isinstance(module, nn.LayerNorm)} == {1e-6}

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


class Opposite(Fusion):
    """A fusion that is not the paper's: each class token changes its sign."""

    def forward(self, small, large, return_weights=False):
        return with_class_token(-small[:, :1], small), with_class_token(-large[:, :1], large), {}


class TestASixthFusion:
    """`FUSIONS` is open: a fusion of one's own needs no change anywhere else."""

    @pytest.fixture(autouse=True)
    def registered(self, monkeypatch):
        monkeypatch.setitem(FUSIONS, "opposite", Opposite)

    def test_it_runs_in_a_crossvit(self):
        model, images = small(fusion="opposite"), torch.randn(2, 3, 24, 24)
        assert [type(fusion) for fusion in model.fusions] == [Opposite, Opposite]
        logits, maps = model(images, return_weights=True)
        assert [encoder["fusion"] for encoder in maps] == [{}, {}]
        # It has no parameters, so a model without fusion has the same weights: what differs is the fusion's work.
        assert not torch.allclose(logits, small(fusion="none")(images), atol=1e-3)
        model.train()(images).square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    def test_create_model_builds_it(self):
        with torch.device("meta"):
            model = create_model("crossvit_9_dagger_240", fusion="opposite")
            assert model(torch.empty(2, 3, 240, 240)).shape == (2, 1000)
        assert {type(fusion) for fusion in model.fusions} == {Opposite}

    def test_an_error_lists_it(self):
        with pytest.raises(ValueError, match=f"{', '.join(FUSIONS)}, given 'other'"):
            small(fusion="other")
        with pytest.raises(ValueError, match="'opposite' has none"):
            small(fusion="opposite", fusion_depth=2)


class TestConvolutionalEmbedding:
    @pytest.mark.parametrize("patch", [12, 16])
    def test_as_many_tokens_as_patches(self, patch):
        embedding = ConvolutionalEmbedding((48, 96), patch, 8)
        assert embedding(torch.randn(2, 3, 48, 96)).shape == (2, (48 // patch) * (96 // patch), 8)
        assert embedding.grid == (48 // patch, 96 // patch)

    @pytest.mark.parametrize(("patch", "second", "third"), [(12, (3, 0), (1, 1)), (16, (2, 1), (2, 1))])
    def test_is_three_convolutions_with_a_relu_after_the_first_two(self, patch, second, third):
        """Strides and paddings of the published model's dagger embedding; the first convolution's are 4 and 3."""
        torch.manual_seed(0)
        embedding, images = ConvolutionalEmbedding((48, 48), patch, 8), torch.randn(2, 3, 48, 48)
        layers = [layer for layer in embedding.convolutions if isinstance(layer, nn.Conv2d)]
        maps = images
        for number, (layer, (stride, padding)) in enumerate(zip(layers, ((4, 3), second, third))):
            maps = F.conv2d(F.relu(maps) if number else maps, layer.weight, layer.bias, stride, padding)
        torch.testing.assert_close(embedding(images), maps.flatten(2).transpose(1, 2))
        assert [layer.kernel_size for layer in layers] == [(7, 7), (3, 3), (3, 3)]

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
