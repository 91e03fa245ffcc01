"""Published weights: from the hub's file or a local one, in both formats, and what is said where that fails."""

import re

import huggingface_hub
import pytest
import torch
from helpers.running_pickle import Program
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from xattn_edu import create_model, list_models, load_pretrained
from xattn_edu.weights import crossvit_to_published, crossvit_to_timm

NAME = "crossvit_tiny_240"
NAMING = {"timm": crossvit_to_timm, "published": crossvit_to_published}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model(NAME)


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The model in both formats, each as a .safetensors and a .pth file."""
    folder = tmp_path_factory.mktemp("weights")
    for form, convert in NAMING.items():
        state = convert(model.state_dict())
        save_file(state, folder / f"{form}.safetensors")
        torch.save(state, folder / f"{form}.pth")
        torch.save({"model": state, "epoch": 300}, folder / f"{form} wrapped.pth")
    return folder


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("ending", [".safetensors", ".pth", " wrapped.pth"])
@pytest.mark.parametrize("form", NAMING)
def test_a_file(files, model, form, ending):
    loaded = load_pretrained(NAME, file=files / f"{form}{ending}")
    assert same(loaded, model) and not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_file_in_half_precision_makes_a_model_in_single(files, model):
    half = {name: tensor.half() for name, tensor in crossvit_to_timm(model.state_dict()).items()}
    save_file(half, files / "half.safetensors")
    loaded = load_pretrained(NAME, file=str(files / "half.safetensors"))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


# --- The hub, which the tests do not ask


@pytest.fixture
def hub(monkeypatch):
    """A hub that writes down what it is asked; `answers` are what it returns or raises, one after the other."""

    class Hub:
        answers, asked = [], []

        def hf_hub_download(self, repository, file, **more):
            self.asked.append((repository, file, more))
            return self.answer()

        def head(self, address, timeout):
            self.asked.append("head")
            return self.answer()

        def answer(self):
            answer = self.answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

    fake = Hub()
    fake.answers, fake.asked = [], []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.hf_hub_download)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: fake)
    return fake


REPOSITORY = ("timm/crossvit_tiny_240.in1k", "model.safetensors")


def test_a_file_in_the_cache_needs_no_network(hub, files, model):
    hub.answers = [str(files / "timm.safetensors")]
    assert same(load_pretrained(NAME), model)
    assert hub.asked == [(*REPOSITORY, {"local_files_only": True})]


def test_a_file_from_the_hub(hub, files, model):
    hub.answers = [LocalEntryNotFoundError("not there"), "200", str(files / "timm.safetensors")]
    assert same(load_pretrained(NAME), model)
    assert hub.asked == [(*REPOSITORY, {"local_files_only": True}), "head", (*REPOSITORY, {})]


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("odd\nstory"), ValueError()])
def test_a_hub_that_is_not_reached_is_not_asked_twice(hub, error):
    hub.answers = [LocalEntryNotFoundError("not there"), error]
    with pytest.raises(OSError) as raised:
        load_pretrained(NAME)
    words = str(raised.value)
    assert f"of the hub's {REPOSITORY[0]}" in words and "load_pretrained('crossvit_tiny_240', file=...)" in words
    assert f"({': '.join([type(error).__name__, *str(error).splitlines()])})" in words
    assert raised.value.__suppress_context__ and hub.asked[1:] == ["head"]


def test_a_download_that_breaks_off(hub):
    hub.answers = [LocalEntryNotFoundError("not there"), "200", ConnectionError("reset by peer")]
    with pytest.raises(OSError, match=r"cannot be fetched \(ConnectionError: reset by peer\)"):
        load_pretrained(NAME)


def test_offline_the_real_hub_says_so_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert huggingface_hub.constants.HF_HUB_OFFLINE  # by conftest.py
    with pytest.raises(OSError, match="not in the hub's cache .*OfflineModeIsEnabled.*file="):
        load_pretrained(NAME)


# --- What is no file of the model


def refused(file, *says):
    with pytest.raises(ValueError) as raised:
        load_pretrained(NAME, file=file)
    for words in says:
        assert words in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@pytest.mark.parametrize("bytes_left", [0, 7, 100_000])
def test_a_damaged_file(files, tmp_path, ending, bytes_left):
    broken = tmp_path / f"broken{ending}"
    broken.write_bytes((files / f"timm{ending}").read_bytes()[:bytes_left])
    assert re.search("is it complete|is damaged", refused(broken, str(broken)))


def test_a_file_that_holds_more_than_tensors_is_not_run(files, tmp_path):
    torch.save({"model": {}, "args": Program(tmp_path / "made")}, files / "training.pth")
    refused(files / "training.pth", "more than tensors", "save its state dict alone")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [[1, 2], {"model": [1]}, {"epoch": 3}, torch.zeros(2), {1: torch.zeros(2)}])
def test_a_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    refused(tmp_path / "other.pth", "holds no state dict")


def test_a_file_of_another_size_is_refused_by_its_own_names(files):
    save_file(crossvit_to_timm(create_model("crossvit_small_240").state_dict()), files / "small.safetensors")
    refused(files / "small.safetensors", f"not a file of {NAME}", "cls_token_0 is (1, 1, 192), not (1, 1, 96)", "more")


def test_a_file_of_another_number_of_classes(files, model):
    state = crossvit_to_published(model.state_dict()) | {"head.1.bias": torch.zeros(10)}
    torch.save(state, files / "ten.pth")
    assert refused(files / "ten.pth").endswith(f"{NAME}: head.1.bias is (10,), not (1000,)")


def test_a_file_with_a_key_too_many_and_one_too_few(files, model):
    state = crossvit_to_timm(model.state_dict())
    state["norm.2.bias"] = state.pop("norm.1.bias")
    torch.save(state, files / "odd.pth")
    refused(files / "odd.pth", "norm.1.bias is missing", "norm.2.bias is not known")


@pytest.mark.parametrize("state", [{}, {"head.weight": torch.zeros(2)}])
def test_a_file_of_no_crossvit(tmp_path, state):
    torch.save(state, tmp_path / "vit.pth")
    refused(tmp_path / "vit.pth", "holds no CrossViT", *state)


def test_a_file_of_our_own_names_is_told_what_to_do(files, model):
    torch.save(model.state_dict(), files / "ours.pth")
    refused(files / "ours.pth", "model.load_state_dict")


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
            load_pretrained(NAME, file=path)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "weights.onnx").touch()
    refused(tmp_path / "weights.onnx", "weights.onnx", ".safetensors, .pth, .pt, .bin, .ckpt or .tar")


def test_a_name_without_published_weights():
    with pytest.raises(ValueError, match=r"crossvit_9_240, .*not of 'deit_tiny_patch16_224'.*vit_from_transformers"):
        load_pretrained("deit_tiny_patch16_224")
    with pytest.raises(ValueError, match="did you mean crossvit_tiny_240"):
        load_pretrained("crossvit_tiny_224")


def test_every_crossvit_is_known(hub):
    for name in list_models("crossvit_*"):
        hub.answers = [KeyError(name)]
        with torch.device("meta"), pytest.raises(OSError, match=f"timm/{name}.in1k"):
            load_pretrained(name)
