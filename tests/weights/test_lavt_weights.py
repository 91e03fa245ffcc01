"""LAVT as it was published, there and back, or an error that names the keys."""

import re

import pytest
import torch
from helpers.state_dicts import equal, microsofts, small_swin
from torch import nn

from xattn_edu.models.language import SmallBert
from xattn_edu.models.lavt import LAVT
from xattn_edu.models.swin import Swin, relative_index, resize_bias_table
from xattn_edu.weights import lavt_from_published, lavt_to_published


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
