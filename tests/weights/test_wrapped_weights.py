"""What training adds to a state dict is taken off by every reader; a prefix that no one knows is named."""

import copy

import pytest
import torch
from helpers.small_segmenters import small_lavt
from helpers.state_dicts import equal, microsofts, small_swin
from torch import nn
from torch.optim.swa_utils import AveragedModel

from xattn_edu import create_model, load_pretrained
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.predict.loading import load_lavt
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
from xattn_edu.weights.names import unwrapped
from xattn_edu.weights.reading import read_weights


def with_prefix(prefix):
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


WRAPPINGS = {
    "DistributedDataParallel": with_prefix("module."),
    "torch.compile": with_prefix("_orig_mod."),
    "compiled, then in parallel": with_prefix("module._orig_mod."),
    "in parallel, then compiled": with_prefix("_orig_mod.module."),
    "Lightning": lambda state: {"state_dict": with_prefix("model.")(state), "global_step": 7, "epoch": 1},
    "Lightning, compiled": lambda state: {"state_dict": with_prefix("model._orig_mod.")(state)},
    "timm": lambda state: {"state_dict": state, "arch": "vit", "state_dict_ema": zeros(state), "metric": 81.5},
    "timm, its average alone": lambda state: {"state_dict_ema": with_prefix("module.")(state), "epoch": 3},
    "DeiT": lambda state: {"model": state, "model_ema": zeros(state), "optimizer": {"state": {}}},
    "a tutorial": lambda state: {"model_state_dict": state, "loss": 0.5},
    "DeepSpeed": lambda state: {"module": with_prefix("module.")(state)},
    "AveragedModel": lambda state: {"n_averaged": torch.tensor(3)} | with_prefix("module.")(state),
    "one layer compiled": lambda state: {
        name.replace(".0.", ".0._orig_mod.", 1): tensor for name, tensor in state.items()
    },
    "FSDP": lambda state: {
        "_fsdp_wrapped_module." + name.replace(".0.", ".0._checkpoint_wrapped_module.", 1): tensor
        for name, tensor in state.items()
    },
}


def zeros(state):
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def crossvit():
    return CrossViT((24, 32), (12, 16), (8, 16), (1, 1), (2, 4), classes=3, encoders=1).state_dict()


def transformers_vit():
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, num_labels=3, **sizes)).state_dict()


def transformers_swin():
    from transformers import SwinConfig, SwinModel

    sizes = {"embed_dim": 4, "depths": [1, 1], "num_heads": [1, 2], "window_size": 3}
    return SwinModel(SwinConfig(**sizes), add_pooling_layer=False).state_dict()


STATES = {
    "timm's CrossViT": (crossvit_from_timm, lambda: crossvit_to_timm(crossvit())),
    "the published CrossViT": (crossvit_from_published, lambda: crossvit_to_published(crossvit())),
    "LAVT": (lavt_from_published, lambda: lavt_to_published(small_lavt().state_dict(), separate=False)),
    "Microsoft's Swin": (swin_from_microsoft, lambda: microsofts(small_swin().state_dict())),
    "transformers' Swin": (swin_from_transformers, transformers_swin),
    "transformers' ViT": (vit_from_transformers, transformers_vit),
    "torch's Transformer": (transformer_from_torch, lambda: nn.Transformer(8, 2, 1, 1, 16).state_dict()),
    "torch's attention": (attention_from_torch, lambda: nn.MultiheadAttention(8, 2).state_dict()),
}


@pytest.fixture(scope="module", params=STATES)
def reader(request):
    """A reader, a state dict for it, and what it makes of that."""
    convert, make = STATES[request.param]
    torch.manual_seed(0)
    state = make()
    converted = convert(state)
    return convert, state, converted if isinstance(converted, tuple) else (converted,)


def test_every_reader_takes_off_what_training_adds(reader):
    convert, state, expected = reader
    for name, wrap in WRAPPINGS.items():
        wrapped = wrap(state)
        before = copy.copy(wrapped)
        found = convert(wrapped)
        assert all(map(equal, found if isinstance(found, tuple) else (found,), expected)), name
        assert wrapped.keys() == before.keys()


def test_a_prefix_that_no_one_knows_is_named(reader):
    convert, state, _ = reader
    with pytest.raises(
        ValueError, match=r"after 'student\.backbone\.(vit\.)?' the names are right: pass those alone, without it"
    ):
        convert(with_prefix("student.backbone.")(state) | {"head.other.weight": torch.zeros(1)})


def test_the_wrappers_of_torch_itself():
    """Their names as torch makes them today."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    expected = model.state_dict()
    for wrapped in (
        nn.DataParallel(model),
        AveragedModel(model),
        torch.compile(model),
        torch.compile(AveragedModel(model)),
    ):
        assert wrapped.state_dict().keys() != expected.keys()
        assert equal(unwrapped(wrapped.state_dict()), expected)
    model[0] = torch.compile(model[0])
    assert "0._orig_mod.weight" in model.state_dict() and equal(unwrapped(model.state_dict()), expected)


@pytest.mark.parametrize(
    "names",
    [
        ["model.a", "b"],
        ["module.a", "head.b"],
        ["a_orig_mod.b"],
        ["a.module.b", "a.model.c"],
        ["_orig_mod.a", "a"],  # two tensors would get one name
        [1, 2],
        [],
    ],
)
def test_other_names_stay_as_they_are(names):
    state = dict.fromkeys(names, torch.zeros(1))
    assert unwrapped(state) is state


@pytest.mark.parametrize("name", ["a.pth.tar", "a.PTH", "a.ckpt", "a.tar", "a.Bin", "a.pt"])
@pytest.mark.parametrize("wrapping", ["timm", "Lightning", "DeiT", "timm, its average alone"])
def test_a_file_by_any_name_and_in_any_wrapping(name, wrapping, tmp_path):
    state = {"a.weight": torch.arange(6.0), "a.count": torch.tensor(3)}
    torch.save(WRAPPINGS[wrapping](state), tmp_path / name)
    assert equal(unwrapped(read_weights(tmp_path / name).parts["model"]), state)


def test_safetensors_in_capitals(tmp_path):
    from safetensors.torch import save_file

    save_file({"module.a": torch.ones(2)}, tmp_path / "a.SAFETENSORS")
    assert read_weights(tmp_path / "a.SAFETENSORS").parts["model"].keys() == {"module.a"}


def test_a_lavt_that_was_trained_in_parallel(tmp_path):
    model = small_lavt()
    whole = lavt_to_published(model.state_dict())
    parts = {name: with_prefix("module.")(part) for name, part in whole.items()}
    torch.save(parts | {"epoch": 39}, tmp_path / "model_best.pth.tar")
    assert equal(load_lavt(tmp_path / "model_best.pth.tar").state_dict(), model.state_dict())


@pytest.mark.slow
def test_load_pretrained_takes_what_timm_writes_and_names_what_it_cannot_read(tmp_path):
    model = create_model("crossvit_tiny_240")
    state = crossvit_to_timm(model.state_dict())
    torch.save(WRAPPINGS["timm"](with_prefix("module.")(state)), tmp_path / "model_best.pth.tar")
    assert equal(load_pretrained("crossvit_tiny_240", tmp_path / "model_best.pth.tar").state_dict(), model.state_dict())
    torch.save(with_prefix("student.")(state), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="after 'student.' the names are right: pass those alone") as error:
        load_pretrained("crossvit_tiny_240", tmp_path / "other.pth")
    assert "load_state_dict" not in str(error.value)
