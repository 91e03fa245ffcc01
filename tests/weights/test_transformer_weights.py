"""State dicts of torch's attention and Transformer convert to copies, or an error names the keys."""

import copy
import re

import pytest
import torch
from torch import nn

from xattn_edu import MultiHeadAttention
from xattn_edu.models.transformer import Decoder, Encoder
from xattn_edu.weights import attention_from_torch, transformer_from_torch

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


@pytest.mark.parametrize(("stack", "norms"), [("encoder", (1, 2)), ("decoder", (1, 2, 3))])
def test_each_norm_goes_to_its_own_place(stack, norms):
    """New LayerNorms are all alike, so outputs alone do not show an exchange."""
    state = {name: torch.randn_like(t) for name, t in nn.Transformer(8, 2, 1, 1, 16).state_dict().items()}
    converted = dict(zip(("encoder", "decoder"), transformer_from_torch(state)))[stack]
    for number in norms:
        for kind in ("weight", "bias"):
            theirs = state[f"{stack}.layers.0.norm{number}.{kind}"]
            assert torch.equal(converted[f"layers.0.residual{number}.norm.{kind}"], theirs)
