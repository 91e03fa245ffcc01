"""What a model costs: the papers' numbers, a closed form, parts that add up, memory held."""

import math
import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xattn_edu import MultiHeadAttention, create_model, list_models
from xattn_edu.measure.costs import count, peak_memory, time_in_turns, vit_macs
from xattn_edu.models.fusions import ClassTokenAttention
from xattn_edu.models.mixers import FourierMixing, Pooling, TokenMixing
from xattn_edu.models.vit import ViT

PAPERS = {  # G MACs and M parameters of DeiT: table 2 of CrossViT, in the digits counted for this course
    "deit_tiny_patch16_224": (1.2537, 5.717),
    "deit_small_patch16_224": (4.5989, 22.051),
    "deit_base_patch16_224": (17.5638, 86.568),
}


def on_shapes(name, **overrides):
    with torch.device("meta"):
        return create_model(name, **overrides)


def small(**changes):
    return ViT(**({"image_size": (8, 12), "patch": 4, "width": 8, "depth": 2, "heads": 2, "classes": 3} | changes))


IMAGE = torch.zeros(1, 3, 8, 12)


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_numbers(name):
    costs = count(on_shapes(name), torch.zeros(1, 3, 224, 224))
    assert (round(costs.macs / 1e9, 4), round(costs.parameters / 1e6, 3)) == PAPERS[name]


@pytest.mark.parametrize("name", list_models("vit_*") + list_models("deit_*"))
def test_the_closed_form_is_what_is_counted(name):
    model = on_shapes(name)
    costs = count(model, torch.zeros(1, 3, 224, 224))
    patch, width, depth = model.patch_embedding.patch, model.head.in_features, len(model.blocks)
    linear, quadratic = vit_macs(224, patch, width, depth)
    assert costs.attention_macs == quadratic == depth * 2 * ((224 // patch) ** 2 + 1) ** 2 * width
    assert costs.macs == linear + quadratic


@pytest.mark.parametrize("changes", [{"mlp_ratio": 1.5}, {"channels": 1}, {"classes": 7}, {"depth": 1, "heads": 1}])
def test_the_closed_form_with_other_arguments(changes):
    model = small(image_size=12, **changes)
    costs = count(model, torch.zeros(1, changes.get("channels", 3), 12, 12))
    arguments = {"image_size": 12, "patch": 4, "width": 8, "depth": 2, "classes": 3} | changes
    arguments.pop("heads", None)
    linear, quadratic = vit_macs(**arguments)
    assert (costs.macs, costs.attention_macs) == (linear + quadratic, quadratic)


@pytest.mark.parametrize(
    ("name", "size", "billions"),
    [  # G MACs of Swin's table 1, with a classifier of less than a thousandth; at 480, windows of 12 pad stages 3 and 4
        ("swin_tiny_patch4_window7_224", 224, 4.5),
        ("swin_small_patch4_window7_224", 224, 8.7),
        ("swin_base_patch4_window7_224", 224, 15.4),
        ("swin_base_patch4_window12_384", 384, 47.0),
        ("swin_base_patch4_window12_384", 480, 85.2),
    ],
)
def test_a_swin_costs_what_its_paper_says(name, size, billions):
    model = on_shapes(name)
    costs = count(model, torch.zeros(1, 3, size, size))
    assert costs.macs / 1e9 == pytest.approx(billions, abs=0.1)
    products = linear = 0
    for i, (stage, width) in enumerate(zip(model.stages, model.widths)):
        side, window = size // 4 // 2**i, stage.blocks[0].window
        padded = math.ceil(side / window) * window
        products += len(stage.blocks) * 2 * window**2 * padded**2 * width  # equation (2)
        linear += len(stage.blocks) * (4 * padded**2 + 8 * side**2) * width**2  # the MLP sees no padding
        linear += 8 * (side // 2) ** 2 * width**2 if i < 3 else 0
    embedding = 3 * 4**2 * model.widths[0] * (size // 4) ** 2
    assert costs.attention_macs == products
    assert list(costs.parts) == ["patch_embedding", "stages", "merges", "norms"]
    assert costs.macs == products + linear + embedding


def test_four_times_the_patches_cost_sixteen_times_the_attention():
    coarse, fine = (vit_macs(224, patch, 768, 12)[1] for patch in (32, 16))
    assert fine / coarse == pytest.approx((197 / 50) ** 2)


@pytest.mark.parametrize("batch", [1, 3])
def test_macs_are_for_the_whole_batch(batch):
    assert count(small(), IMAGE.expand(batch, -1, -1, -1)).macs == batch * count(small(), IMAGE).macs


# --- what is counted: 2 images, 5 tokens, width 8


class Fused(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x)


class WrittenOut(nn.Module):
    def forward(self, x):
        return (x @ x.mT).softmax(-1) @ x


class OwnWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Parameter(torch.zeros(8, 24))

    def forward(self, x):
        return x @ self.qkv


class Einsum(nn.Module):
    """A linear layer for each of two heads, written as products that torch batches."""

    def __init__(self, equation="bnd,hde->bhne"):
        super().__init__()
        self.equation, self.weight = equation, nn.Parameter(torch.zeros(2, 8, 4))

    def forward(self, x):
        weight = self.weight if "h" in self.equation else self.weight.mean(0)
        return torch.einsum(self.equation, x, weight)


class Broadcast(Einsum):
    def forward(self, x):
        return x[:, None] @ self.weight.double().float()  # the weight is cast, and copied for each image


class EinsumAttention(nn.Module):
    def forward(self, x):
        weights = torch.einsum("bqd,bkd->bqk", x, x).softmax(-1)
        return torch.einsum("bqk,bkd->bqd", weights, x)


CLASS_AND_PATCHES = torch.zeros(1, 1, 8), torch.zeros(1, 5, 16)
PRODUCTS, PROJECTIONS = 2 * 2 * 5 * 5 * 8, 2 * 4 * 5 * 8 * 8


@pytest.mark.parametrize(
    ("model", "parameters", "macs", "attention_macs"),
    [
        (nn.Linear(8, 3), 27, 2 * 5 * 8 * 3, 0),
        (nn.Linear(8, 3, bias=False), 24, 2 * 5 * 8 * 3, 0),
        (OwnWeight(), 192, 2 * 5 * 8 * 24, 0),
        (nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Softmax(-1)), 16, 0, 0),
        (nn.Identity(), 0, 0, 0),
        (nn.Conv1d(5, 4, 3), 64, 2 * 5 * 4 * 3 * 6, 0),
        (Einsum(), 64, 2 * 2 * 5 * 8 * 4, 0),
        (Einsum("bnd,de->bne"), 64, 2 * 5 * 8 * 4, 0),
        (Broadcast(), 64, 2 * 2 * 5 * 8 * 4, 0),
        (EinsumAttention(), 0, PRODUCTS, PRODUCTS),
        (Fused(), 0, PRODUCTS, PRODUCTS),
        (WrittenOut(), 0, PRODUCTS, PRODUCTS),
        (MultiHeadAttention(8, 2), 288, PROJECTIONS + PRODUCTS, PRODUCTS),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 600, 2 * PROJECTIONS + PRODUCTS, PRODUCTS),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_counts(model, parameters, macs, attention_macs):
    costs = count(model, torch.zeros(2, 5, 8))
    assert (costs.parameters, costs.macs, costs.attention_macs) == (parameters, macs, attention_macs)


@pytest.mark.parametrize(("batch", "tokens", "width"), [(1, 8, 16), (2, 4, 4), (3, 1, 8), (1, 1, 1), (2, 49, 64)])
def test_a_fourier_transform_counts_as_the_fast_one(batch, tokens, width):
    """Along each axis of n points, for each of the others: n/2 log2(n) complex products of four multiply-adds."""
    along_tokens = batch * width * tokens / 2 * math.log2(tokens) * 4
    along_channels = batch * tokens * width / 2 * math.log2(width) * 4
    costs = count(FourierMixing(), torch.zeros(batch, tokens, width))
    assert (costs.parameters, costs.attention_macs) == (0, 0)
    assert costs.macs == pytest.approx(along_tokens + along_channels, abs=1)


def test_mixing_tokens_is_no_attention():
    costs = count(TokenMixing((2, 3), 5), torch.zeros(2, 6, 8))
    assert (costs.parameters, costs.macs, costs.attention_macs) == (6 * 5 + 5 + 5 * 6 + 6, 2 * 8 * 2 * 6 * 5, 0)
    assert count(Pooling((2, 3)), torch.zeros(2, 6, 8)).macs == 0


class Spectrum(nn.Module):
    def __init__(self, transform):
        super().__init__()
        self.transform = transform

    def forward(self, x):
        return self.transform(x).real


@pytest.mark.parametrize(
    "transform",
    [
        torch.fft.fft2,
        torch.fft.ifft2,
        lambda x: torch.fft.fft(torch.fft.fft(x + 0j, dim=2), dim=1),
        lambda x: torch.fft.fft(torch.fft.fft(x, dim=2), dim=1),
    ],
    ids=["there", "back", "complex", "real"],
)
def test_a_transform_costs_the_same_however_it_is_called(transform):
    assert count(Spectrum(transform), torch.zeros(1, 8, 16)).macs == 2 * 8 * 16 * (3 + 4)


def test_parts_add_up_where_logarithms_are_rounded():
    mixers = nn.Sequential(FourierMixing(), FourierMixing(), FourierMixing())
    costs = count(mixers, torch.zeros(1, 6, 32))
    assert list(costs.parts) == ["0", "1", "2"] and costs.macs == 3 * costs.parts["0"].macs


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", [None, torch.zeros(5, 5, dtype=torch.bool)], ids=["all", "masked"])
def test_torchs_own_attention(mask, training):
    x = torch.zeros(2, 5, 8)
    costs = count(nn.MultiheadAttention(8, 2, batch_first=True).train(training), x, x, x, None, True, mask)
    assert (costs.parameters, costs.macs, costs.attention_macs) == (288, PROJECTIONS + PRODUCTS, PRODUCTS)


@pytest.mark.parametrize("masked", [False, True])
def test_a_bert_of_transformers_with_a_mask(masked):
    """It looks at its mask, whether any token is hidden: shapes alone cannot say that."""
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertModel(BertConfig(vocab_size=30, **sizes), add_pooling_layer=False)
    mask = torch.ones(2, 5, dtype=torch.int64)
    mask[1, 3:] = 0
    costs = count(bert, torch.ones(2, 5, dtype=torch.int64), *[mask] * masked)
    linear = 2 * 5 * (4 * 8 * 8 + 2 * 8 * 16)
    assert (costs.macs, costs.attention_macs) == (linear + PRODUCTS, PRODUCTS)
    assert all(type(x) is nn.Parameter and not x.is_meta for x in bert.parameters())


def test_a_folded_fusion_is_counted_as_folded():
    """Its products with W_k and W_v are a layer's, though torch batches them over the heads."""
    pair = [count(ClassTokenAttention(8, 16, 2, folded=folded), *CLASS_AND_PATCHES) for folded in (False, True)]
    ends = 8 * 16 + 16 * 8 + 2 * 16 * 16  # f, g, and query and output projections
    assert [costs.macs for costs in pair] == [ends + 2 * 6 * 16 * 16 + 2 * 6 * 16, ends + 2 * 16 * 16 + 2 * 2 * 6 * 16]
    assert [costs.attention_macs for costs in pair] == [2 * 6 * 16, 2 * 2 * 6 * 16]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_type_does_not_matter(dtype):
    assert count(small().to(dtype), IMAGE.to(dtype)) == count(small(), IMAGE)


def test_a_model_of_shapes_alone_counts_the_same():
    assert count(small().to("meta"), IMAGE.to("meta")) == count(small(), IMAGE)


def test_a_whole_model_counts_as_its_shapes():
    name, image = "deit_tiny_patch16_224", torch.zeros(1, 3, 224, 224)
    assert count(create_model(name), image) == count(on_shapes(name), image)


# --- parts


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("model", [small(), small(positions="sincos"), nn.Linear(12, 3)], ids=["vit", "sincos", "leaf"])
def test_parts_add_up(model, depth):
    costs = count(model, IMAGE, depth=depth)
    for field in ("parameters", "macs", "attention_macs"):
        assert sum(getattr(part, field) for part in costs.parts.values()) == getattr(costs, field), field
    assert costs.parameters == sum(p.numel() for p in model.parameters())


def test_the_parts_of_a_vit():
    parts = count(small(), IMAGE).parts
    assert list(parts) == ["class_token", "positions", "patch_embedding", "blocks", "norm", "head"]
    assert (parts["head"].parameters, parts["head"].macs, parts["head"].attention_macs) == (27, 24, 0)
    assert (parts["positions"].parameters, parts["positions"].macs) == (56, 0)
    assert parts["patch_embedding"].macs == 3 * 16 * 8 * 6
    assert parts["blocks"].attention_macs == 2 * 2 * 7**2 * 8


def test_parts_further_in():
    parts = count(small(), IMAGE, depth=3).parts
    attention = parts["blocks.1.attention"]
    assert (attention.parameters, attention.macs, attention.attention_macs) == (
        288,
        4 * 7 * 64 + 2 * 49 * 8,
        2 * 49 * 8,
    )
    assert parts["blocks.1.mlp"].macs == 8 * 7 * 64
    assert "blocks" not in parts and "blocks.1" not in parts
    deepest = count(small(), IMAGE, depth=4).parts
    assert deepest["blocks.0.attention.query"].macs == 7 * 64
    assert deepest["(outside its parts)"].macs == deepest["(outside its parts)"].attention_macs == 2 * 2 * 49 * 8


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.ab = nn.Linear(2, 2), nn.Linear(2, 3)

    def forward(self, x):
        return self.ab(self.a(x))


def test_a_name_that_begins_like_another_keeps_its_own_parameters():
    parts = count(Named(), torch.zeros(1, 2)).parts
    assert (parts["a"].parameters, parts["ab"].parameters) == (6, 9)


def test_shared_weights_count_once_and_their_use_each_time():
    layer = nn.Linear(8, 8)
    twice = count(nn.Sequential(layer, nn.GELU(), layer), torch.zeros(5, 8))
    assert (twice.parameters, twice.macs) == (72, 2 * 5 * 64)
    tied = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    tied[1].weight = tied[0].weight
    costs = count(tied, torch.zeros(5, 8))
    assert (costs.parameters, costs.macs) == (80, 2 * 5 * 64)
    assert [part.parameters for part in costs.parts.values()] == [72, 8]


def test_the_table_names_the_parts_and_the_total():
    text = str(count(small(), IMAGE))
    assert text.splitlines()[0].startswith("part") and "patch_embedding" in text
    assert text.splitlines()[-1].split() == ["total", "2,243", "14,648", "1,568"]


# --- counting touches nothing


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_model_and_inputs_as_they_were(training):
    model = nn.Sequential(small(stochastic_depth=0.5), nn.BatchNorm1d(3)).train(training)
    image = IMAGE.clone().requires_grad_()
    model(image.expand(2, -1, -1, -1)).sum().backward()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = [p.grad.clone() for p in model.parameters()]
    random = torch.get_rng_state()
    count(model, image.expand(2, -1, -1, -1))
    assert all(module.training == training for module in model.modules())
    assert all(
        torch.equal(tensor, state[name]) and tensor.device.type == "cpu" for name, tensor in model.state_dict().items()
    )
    assert all(torch.equal(p.grad, grad) and p.requires_grad for p, grad in zip(model.parameters(), grads))
    assert torch.equal(torch.get_rng_state(), random)
    assert image.device.type == "cpu" and image.requires_grad and not model._forward_hooks


def test_counting_copies_no_numbers():
    model, x = nn.Linear(1000, 1000), torch.zeros(1, 1000)
    assert peak_memory(lambda: count(model, x)) < 100_000


def test_inputs_that_do_not_fit_raise_the_models_own_error():
    with pytest.raises(ValueError, match="images must be"):
        count(small(), torch.zeros(1, 3, 12, 8))


# --- time


def test_functions_take_turns_and_the_first_round_does_not_count():
    calls = []
    times = time_in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert list(times) == ["a", "b"] and [len(runs) for runs in times.values()] == [3, 3]
    assert all(wall >= 0 and cpu >= 0 for runs in times.values() for wall, cpu in runs)


def test_wall_and_cpu_time_of_who_sleeps_and_who_works(monkeypatch):
    now = {"wall": 100.0, "cpu": 7.0}

    def pass_time(**seconds):
        now.update({clock: now[clock] + more for clock, more in seconds.items()})

    slow_start = iter([20.0])
    functions = {"sleep": lambda: pass_time(wall=next(slow_start, 3.0)), "work": lambda: pass_time(wall=2.0, cpu=1.5)}
    clocks = {"perf_counter": lambda: now["wall"], "process_time": lambda: now["cpu"]}
    # The real clocks would measure how busy the machine is.
    monkeypatch.setitem(time_in_turns.__globals__, "time", SimpleNamespace(**clocks))
    assert time_in_turns(functions, 2) == {"sleep": 2 * [(3.0, 0.0)], "work": 2 * [(2.0, 1.5)]}


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_are_refused_before_anything_runs(rounds):
    with pytest.raises(ValueError, match=f"rounds must be 1 or more, given {rounds}"):
        time_in_turns({"a": lambda: pytest.fail("ran")}, rounds)
    assert time_in_turns({}) == {}


# --- memory


def one_after_the_other():
    for _ in range(3):
        torch.empty(1000)


def all_together():
    return [torch.empty(1000) for _ in range(3)]


def freed_before_the_last():
    first, second = torch.empty(1000), torch.empty(1000)
    del first, second
    return torch.empty(1000)


@pytest.mark.parametrize(
    ("function", "bytes_held"),
    [
        (lambda: None, 0),
        (lambda: torch.empty(1000), 4000),
        (lambda: torch.empty(1000, dtype=torch.float64), 8000),
        (one_after_the_other, 4000),
        (all_together, 12000),
        (freed_before_the_last, 8000),
    ],
)
def test_peak_memory_of_known_allocations(function, bytes_held):
    assert peak_memory(function) == bytes_held
    assert peak_memory(function) == bytes_held


def test_what_was_held_before_does_not_count():
    held = [torch.empty(1 << 16)]
    assert peak_memory(lambda: torch.empty(1000)) == 4000
    assert peak_memory(lambda: held.append(torch.empty(1000))) == 4000


def test_written_out_attention_holds_the_weights_and_fused_does_not():
    x = torch.randn(1, 1, 1024, 16)
    written = peak_memory(lambda: (x @ x.mT).softmax(-1) @ x)
    fused = peak_memory(lambda: F.scaled_dot_product_attention(x, x, x))
    assert written >= 2 * 4 * 1024**2 > 4 * fused


def test_peak_memory_says_nothing_and_gives_standard_error_back(capfd):
    peak_memory(lambda: torch.empty(10))
    assert capfd.readouterr().err == ""
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_an_error_inside_comes_out_and_standard_error_back(capfd):
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 / 0)
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"
    assert peak_memory(lambda: torch.empty(1000)) == 4000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_peak_memory_on_cuda():
    held = torch.empty(1 << 20, device="cuda")
    assert peak_memory(lambda: torch.empty(1 << 20, device="cuda")) == 1 << 22
    del held


def test_peak_memory_cannot_measure_itself():
    with pytest.raises(RuntimeError, match="cannot measure itself"):
        peak_memory(lambda: peak_memory(torch.ones, 10))
    assert peak_memory(torch.ones, 10) >= 40


def test_closed_form_refuses_patches_that_do_not_divide():
    with pytest.raises(ValueError, match="225"):
        vit_macs(225, 16, 192, 12)
