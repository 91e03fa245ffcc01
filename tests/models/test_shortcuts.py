"""No shortcut goes round a layer: LoRA, wrappers, hooks, pruning and quantization count with and without gradients."""

import pytest
import torch
from helpers.small_transformers import small as small_transformer
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune, weight_norm
from torch.utils.flop_counter import FlopCounterMode

from xattn_edu.models import layers
from xattn_edu.models.attention import MultiHeadAttention, attention, merge_heads, split_heads
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.language import FrozenWords
from xattn_edu.models.layers import MLP, may_shorten
from xattn_edu.models.vit import ViT


class LoRA(nn.Linear):
    """As written by hand: a subclass that adds a product of two small matrices."""

    def __init__(self, layer):
        super().__init__(layer.in_features, layer.out_features)
        self.load_state_dict(layer.state_dict())
        self.a, self.b = (
            nn.Parameter(torch.randn(2, layer.in_features)),
            nn.Parameter(torch.randn(layer.out_features, 2)),
        )

    def forward(self, x):
        return super().forward(x) + x @ self.a.T @ self.b.T


class Wrapper(nn.Module):
    """As peft does it: the layer lies inside, and the wrapper has its weights under other names."""

    def __init__(self, layer):
        super().__init__()
        self.base_layer = layer

    def forward(self, x):
        return 2 * self.base_layer(x)


def hooked(layer):
    layer.register_forward_hook(lambda _, inputs, output: 2 * output)
    return layer


def hooked_before(layer):
    layer.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
    return layer


def with_its_own_forward(layer):
    layer.forward = lambda x: 2 * F.linear(x, layer.weight, layer.bias)
    return layer


def pruned(layer):
    """The hook of `prune` makes `weight` anew in each call; here `weight` is not yet of the new `weight_orig`."""
    prune.random_unstructured(layer, "weight", 0.5)
    layer.weight_orig.data *= 2
    return layer


def normed_by_a_hook(layer):
    weight_norm(layer)
    layer.weight_g.data *= 2  # as when a state dict is loaded
    return layer


def parametrized(layer):
    parametrizations.weight_norm(layer)
    layer.parametrizations.weight.original0.data *= 2
    return layer


CHANGES = [LoRA, Wrapper, hooked, hooked_before, with_its_own_forward, pruned, normed_by_a_hook, parametrized]
every_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
with_and_without = pytest.mark.parametrize("gradients", [True, False], ids=["gradients", "no gradients"])
ignore_torchs_own_warnings = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@ignore_torchs_own_warnings
@every_change
@with_and_without
@pytest.mark.parametrize("name", ["key", "value"])
def test_folded_attention_calls_a_layer_that_does_more_than_its_weights_say(change, gradients, name):
    torch.manual_seed(0)
    layer, tokens, context = MultiHeadAttention(8, 2), torch.randn(2, 1, 8), torch.randn(2, 5, 8)
    setattr(layer, name, change(getattr(layer, name)))
    with torch.set_grad_enabled(gradients):
        folded = [layer.folded(tokens, context), layer(tokens, context, folded=True)]
        query, key, value = (
            split_heads(part, 2) for part in (layer.query(tokens), layer.key(context), layer.value(context))
        )
        expected = layer.output(merge_heads(attention(query, key, value)[0]))
    for output in folded:
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("name", ["key", "value"])
def test_lora_on_a_fusion_is_trained(name):
    torch.manual_seed(0)
    model = CrossViT((16, 16), (4, 8), (8, 16), (1, 1), (2, 2), encoders=1, classes=3)
    attention_layer = model.fusions[0].small.attentions[0]
    setattr(attention_layer, name, lora := LoRA(getattr(attention_layer, name)))
    model(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert lora.a.grad.abs().max() > 0 and lora.b.grad.abs().max() > 0


def test_a_hook_of_all_modules_sees_the_layers_and_torchs_counter_does_not_change_what_is_counted():
    layer, seen = MultiHeadAttention(8, 2), []
    assert may_shorten(layer.key, layer.value)
    handle = register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        layer(torch.randn(1, 1, 8), torch.randn(1, 5, 8), folded=True)
        assert not may_shorten(layer.key, layer.value)
    finally:
        handle.remove()
    assert layer.key in seen and layer.value in seen
    with FlopCounterMode(display=False):
        assert may_shorten(layer.key, layer.value)


def test_a_weight_that_wraps_others_is_not_read():
    class Wrapped(torch.Tensor):
        def __tensor_flatten__(self):
            raise NotImplementedError

    layer = nn.Linear(3, 3)
    layer.weight = nn.Parameter(layer.weight.data.as_subclass(Wrapped))
    assert not may_shorten(layer)


def parts_of(mlp, tokens, monkeypatch):
    """The MLP's output, and the number of rows of each call of its GELU."""
    rows, gelu = [], F.gelu
    monkeypatch.setattr(layers.F, "gelu", lambda x: rows.append(x[..., 0].numel()) or gelu(x))
    return mlp(tokens), rows


@pytest.mark.parametrize(("gradients", "rows"), [(True, [64]), (False, [22, 22, 20])])
def test_the_mlp_takes_some_tokens_at_a_time_without_gradients_alone(gradients, rows, monkeypatch):
    mlp, tokens = MLP(4, 2**15), torch.randn(2, 32, 4)
    with torch.set_grad_enabled(gradients):
        assert parts_of(mlp, tokens, monkeypatch)[1] == rows


@ignore_torchs_own_warnings
@every_change
@pytest.mark.parametrize("name", ["fc1", "fc2"])
@torch.no_grad()
def test_an_mlp_with_another_layer_takes_all_tokens_at_once(change, name, monkeypatch):
    mlp, tokens = MLP(4, 2**15), torch.randn(2, 32, 4)
    setattr(mlp, name, change(getattr(mlp, name)))
    output, rows = parts_of(mlp, tokens, monkeypatch)
    assert rows == [64]
    torch.testing.assert_close(output, mlp.fc2(F.gelu(mlp.fc1(tokens))))


def quantized(model):
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model",
    [
        lambda: ViT(16, 4, 8, 1, 2, classes=3, mlp_ratio=2**14),
        lambda: CrossViT((16, 16), (4, 8), (8, 16), (1, 1), (2, 2), encoders=1, classes=3),
    ],
    ids=["ViT", "CrossViT"],
)
def test_a_quantized_model_computes_the_same_with_and_without_gradients(model):
    torch.manual_seed(0)
    small, images = quantized(model().eval()), torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        logits = small(images)
    assert torch.equal(logits, small(images)) and logits.isfinite().all()


@pytest.mark.filterwarnings("ignore")
def test_looked_up_words_pass_a_projection_without_a_weight():
    class Book:
        table = torch.randn(7, 6).half()

    words, ids = FrozenWords(Book(), 4), torch.tensor([[1, 2, 0]])
    expected = words(ids, ids > 0)
    torch.testing.assert_close(quantized(words)(ids, ids > 0), expected, rtol=0, atol=0.05)
    words.projection = nn.Sequential(words.projection)
    torch.testing.assert_close(words(ids, ids > 0), expected)


@torch.no_grad()
def test_hooks_on_the_attention_of_a_transformer_count_with_and_without_its_cache():
    model, source, target = small_transformer().eval(), torch.tensor([[3, 4, 5]]), torch.tensor([[1, 4, 3, 5]])
    plain, calls = model(source, target), []
    for layer in model.decoder.layers:
        for part in (layer.attention, layer.cross_attention):
            part.register_forward_hook(lambda _, inputs, output: calls.append(1) or -3 * output)
    logits, state = model(source, target), model.begin(source)
    steps = [model.step(target[:, place], state) for place in range(4)]
    torch.testing.assert_close(torch.stack(steps, dim=1), logits)
    assert len(calls) == 2 * len(model.decoder.layers) * (1 + 4) and not torch.allclose(logits, plain, atol=1e-3)


def test_a_wrapped_embedding_and_a_wrapped_attention_of_the_encoder():
    model, source = small_transformer().eval(), torch.tensor([[3, 4, 5, 6]])
    expected = model.encode(source)[0]

    class Around(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    model.embedding = Around(model.embedding)
    model.encoder.layers[0].attention = Around(model.encoder.layers[0].attention)
    assert torch.equal(model.encode(source)[0], expected)


def test_keys_and_values_come_from_a_context_or_were_made_before():
    layer, tokens, context = MultiHeadAttention(8, 2), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    made = layer.keys_and_values(context)
    torch.testing.assert_close(layer(tokens, keys_values=made), layer(tokens, context))
    with pytest.raises(ValueError, match="context and keys_values"):
        layer(tokens, context, keys_values=made)
