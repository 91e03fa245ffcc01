"""Swin as its authors published it and as transformers holds it. (Its parity stands in test_swin.py.)"""

import copy
import re

import pytest
import torch
from helpers.state_dicts import equal, microsofts, renamed, small_swin
from torch import nn
from transformers import SwinBackbone, SwinConfig, SwinForImageClassification, SwinModel

from xattn_edu.models.swin import resize_bias_table
from xattn_edu.weights import swin_from_microsoft, swin_from_transformers

SWINS = {"microsoft": swin_from_microsoft, "transformers": swin_from_transformers}


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
    patterns = {
        r"attention\.([qkv])_proj": lambda m: f"attention.self.{ {'q': 'query', 'k': 'key', 'v': 'value'}[m[1]] }",
        r"attention\.relative_position_bias\.": "attention.self.",
        r"attention\.o_proj": "attention.output.dense",
        r"mlp\.fc1": "intermediate.dense",
        r"mlp\.fc2": "output.dense",
    }
    names = renamed(state_dict, patterns)
    tables = [name for name in names if name.endswith("_table")]
    return names | {name.replace("bias_table", "index"): torch.zeros(9, 9, dtype=torch.long) for name in tables}


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


def test_swins_other_form_and_our_own_are_told_apart():
    files, ours = swin_files(), small_swin().state_dict()
    for convert, state, says in (
        (swin_from_microsoft, files["transformers"], "these are transformers names: take swin_from_transformers"),
        (swin_from_transformers, files["microsoft"], "these are microsoft names: take swin_from_microsoft"),
        (swin_from_microsoft, ours, "our own names: load_state_dict takes them"),
        (swin_from_transformers, ours, "our own names: load_state_dict takes them"),
    ):
        with pytest.raises(ValueError, match=says):
            convert(state)
