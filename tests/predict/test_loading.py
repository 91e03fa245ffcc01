"""Checkpoints become models of the right sizes, or an error says what is wrong with the file."""

import argparse
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.running_pickle import Program
from helpers.small_segmenters import OWN, WORDS, small_lavt, store_own

from xattn_edu.data import scenes as referring_scenes
from xattn_edu.experiments import RESULTS, load_weights, referring
from xattn_edu.experiments.sizes import LAVT_SIZES, REFERRING_SIZES
from xattn_edu.models.language import build_tokenizer
from xattn_edu.predict.loading import load_lavt, load_segmenter
from xattn_edu.weights import lavt_to_published
from xattn_edu.weights.description import KEY, ModelDescription


def inputs(size=40):
    torch.manual_seed(1)
    ids = torch.randint(5, len(WORDS), (2, 6))
    return torch.randn(2, 3, size, size), ids, torch.arange(6) < torch.tensor([[6], [4]])


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize(
    ("sizes", "suffix"),
    [
        ({}, ".pth"),
        ({"depths": (1, 1), "heads": (2, 2), "window": 2, "patch": 2, "decoder_width": 12}, ".pt"),
        (
            {"width": 4, "depths": (1, 1, 3, 1), "heads": (1, 1, 2, 2), "words": 128, "bert_heads": 2, "layers": 3},
            ".pth",
        ),
    ],
)
def test_lavts_sizes_are_read_off_its_tensors(sizes, suffix, separate, tmp_path):
    model, path = small_lavt(**sizes), tmp_path / f"any{suffix}"
    torch.save(lavt_to_published(model.state_dict(), separate), path)
    found = load_lavt(path)
    assert not found.training
    torch.testing.assert_close(found(*inputs()), model(*inputs()), rtol=0, atol=0)


def test_what_is_in_no_file_can_be_told(tmp_path):
    model, path = small_lavt(words=16, bert_heads=4, word_heads=2), tmp_path / "lavt.pth"
    torch.save(lavt_to_published(model.state_dict()), path)
    found, by_default = load_lavt(path, bert_heads=4, word_heads=2), load_lavt(path)
    torch.testing.assert_close(found(*inputs()), model(*inputs()), rtol=0, atol=0)
    assert [fusion.heads for fusion in by_default.fusions] == [1, 1, 1]
    assert by_default.language.bert.config.num_attention_heads == 1
    assert (by_default(*inputs()) - model(*inputs())).abs().max() > 1e-3
    assert load_lavt(path, window=5).image_encoder.stages[0].blocks[0].window == 5


def test_what_training_scripts_save_besides_is_no_hindrance(tmp_path):
    model, path = small_lavt(), tmp_path / "lavt.pth"
    more = {"optimizer": {"state": {}}, "epoch": 39, "args": argparse.Namespace(lr=5e-5, splits=["val"])}
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }
    torch.save(lavt_to_published(halves) | more, path)
    model.load_state_dict(halves)
    torch.testing.assert_close(load_lavt(path)(*inputs()), model(*inputs()), rtol=0, atol=0)


def test_files_that_hold_no_published_lavt_are_refused_and_named(tmp_path):
    whole = lavt_to_published(small_lavt().state_dict())
    fewer = {"model": whole["model"]}
    mangled = {
        name: tensor[0] if "patch_embed.proj.weight" in name else tensor for name, tensor in whole["model"].items()
    }
    narrow = {n: t[:3] if n == "classifier.conv1_3.weight" else t for n, t in whole["model"].items()}
    short = lavt_to_published(small_lavt(length=8).state_dict())
    for number, (content, says) in enumerate(
        {
            "code": (whole | {"args": Program(tmp_path / "made")}, "could run code, so nothing is loaded"),
            "list": ([1, 2], "holds no state dict, that is tensors by name, but a list"),
            "model": ({"model": 3}, "holds no state dict"),
            "no BERT": (fewer, "its BERT is not there"),
            "ours": (small_lavt().state_dict(), "these are our own names"),
            "shapes": ({"model": mangled, "bert_model": whole["bert_model"]}, "holds no published LAVT: "),
            "narrow": (
                {"model": narrow, "bert_model": whole["bert_model"]},
                "holds no published LAVT: .*size mismatch",
            ),
            "short": (short, "its BERT has 8 positions"),
        }.values()
    ):
        path = tmp_path / f"file{number}.pth"
        torch.save(content, path)
        with pytest.raises(ValueError, match=says) as error:
            load_lavt(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()
    (tmp_path / "half.pth").write_bytes((tmp_path / "file3.pth").read_bytes()[:-1000])
    with pytest.raises(ValueError, match="half.pth (is damaged|cannot be read)"):
        load_lavt(tmp_path / "half.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"model": {}}))
    with pytest.raises(ValueError, match=r"old\.pth"):
        load_lavt(tmp_path / "old.pth")
    with pytest.raises(FileNotFoundError, match="nothing.pth is no file"):
        load_lavt(tmp_path / "nothing.pth")
    (tmp_path / "weights.txt").write_text("")
    with pytest.raises(ValueError, match=r"ends in \.safetensors, \.pth, \.pt, \.bin, \.ckpt or \.tar"):
        load_segmenter(tmp_path / "weights.txt")
    torch.save(whole, tmp_path / "good.pth")
    with pytest.raises(ValueError, match="bert_heads must divide the BERT's width: 16 wide, 3 heads"):
        load_lavt(tmp_path / "good.pth", bert_heads=3)


def test_a_published_one_brings_imagenets_scale_and_needs_its_own_tokenizer(checkpoint, tokenizer_folder, tmp_path):
    found = load_segmenter(checkpoint, tokenizer=tokenizer_folder, device="cpu")
    assert found.size == 480 and found.known is None
    middle = np.full((2, 5, 3), (0.485 * 255, 0.456 * 255, 0.406 * 255)).round().astype(np.uint8)
    assert found.pixels(middle).shape == (3, 480, 480) and found.pixels(middle).abs().max() < 0.01
    brighter = found.pixels(middle + np.array([58, 57, 57], np.uint8)).mean(dim=(1, 2))
    torch.testing.assert_close(brighter, torch.ones(3), rtol=0, atol=0.02)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS[:-1]) + "\n")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=f"has {len(WORDS) - 1} pieces, the BERT in .* {len(WORDS)}: name the one"):
        load_segmenter(checkpoint, tokenizer=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="is no folder"):
        load_segmenter(checkpoint, tokenizer="./none")
    with pytest.raises(ValueError, match="size is the side"):
        load_segmenter(checkpoint, tokenizer=tokenizer_folder, size=0)


@pytest.mark.parametrize(
    ("model", "experiment"), [("decoder_fusion", "referring"), *((model, "lavt") for model in referring.MODELS)]
)
def test_own_weights_find_what_the_experiment_found(model, experiment, tmp_path):
    path, network = store_own(tmp_path, model, experiment)
    found = load_segmenter(path, device="cpu")
    scenes = referring_scenes.scenes("test", 4, size=found.size)
    samples = referring.scene_set(scenes, found.tokenizer)
    logits = network(*referring.batch_of(samples, torch.arange(4))[:3])
    pixels = torch.stack([found.pixels(image) for image in scenes.images])
    torch.testing.assert_close(found.logits(pixels, list(scenes.sentences)), logits, rtol=0, atol=1e-5)
    one = found.predict(scenes.images[0], scenes.sentences[0])
    assert one.mask.shape == scenes.masks[0].shape
    sure = ((logits[0, 1] - logits[0, 0]).abs() > 1e-5).numpy()
    assert sure.mean() > 0.9 and np.array_equal(one.mask[sure], (logits[0, 1] > logits[0, 0]).numpy()[sure])


STORED = [("referring", "decoder_fusion", "ci"), ("lavt", "lavt", "ci"), ("lavt", "lavt", "cpu")]


@pytest.mark.parametrize(("experiment", "model", "profile"), STORED)
def test_stored_weights_do_not_depend_on_todays_constants(experiment, model, profile, monkeypatch):
    """The same mask and word maps as from the model that the sizes build, also after every size has changed."""
    size = OWN[experiment][profile]
    scenes = referring_scenes.scenes("test", 1, size=size.image)
    tokenizer = build_tokenizer(referring_scenes.vocabulary("english"))
    network = referring.MODELS[model](size, len(tokenizer))
    load_weights(network, experiment, {"model": model}, profile)
    with torch.no_grad():
        images, ids, mask, _ = referring.batch_of(referring.scene_set(scenes, tokenizer), torch.arange(1))
        logits, weights = network(images, ids, mask, return_weights=True)

    other = replace(size, image=48, width=8, depths=(1, 1, 1), heads=(1, 1, 1), words=32, positions=not size.positions)
    for sizes in OWN.values():
        for name in sizes:
            monkeypatch.setitem(sizes, name, other)
    monkeypatch.setattr(referring, "LENGTH", 9)
    monkeypatch.setattr(referring, "MEAN", 0.0)
    monkeypatch.setattr(referring_scenes, "vocabulary", lambda language: ["other"])
    found = load_segmenter(RESULTS / experiment / f"model-{model}_seed-0_{profile}.safetensors", device="cpu")
    assert (found.size, found.length, len(found.known)) == (64, 20, 190)
    assert torch.equal(found.pixels(scenes.images[0]), images[0])
    assert all(map(torch.equal, found.ids(list(scenes.sentences)), (ids, mask)))
    with torch.no_grad():
        assert torch.equal(found.model(images, ids, mask, return_weights=True)[0], logits)
    prediction = found.predict(scenes.images[0], scenes.sentences[0])
    assert prediction.words[1:-1] == tuple(scenes.sentences[0].split())
    for stage, expected in zip(prediction.weights, weights):
        words = expected[0].mean(dim=0)[..., : len(prediction.words)]
        np.testing.assert_allclose(stage, words.numpy(), atol=1e-5)


@pytest.mark.parametrize(("experiment", "model", "profile"), STORED)
def test_stored_weights_are_described_as_their_record_says(experiment, model, profile):
    path = RESULTS / experiment / f"model-{model}_seed-0_{profile}.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        described = ModelDescription.from_metadata(file.metadata())
    config = json.loads(path.with_suffix(".json").read_text())["config"]
    swin, words = described.arguments["image_encoder"], described.arguments["language"]
    assert described.image_size == config["image"]
    assert {name: swin[name] for name in ("width", "depths", "patch")} == {
        name: config[name] for name in ("width", "depths", "patch")
    }
    assert words["width"] == config["words"]
    if experiment == "lavt":  # the older record of "referring" does not say it
        assert (swin["positions"], words["depth"]) == (config["positions"], config["word_layers"])
    assert (described.mean, described.deviation) == ((114.0,) * 3, (36.5,) * 3)


@pytest.mark.parametrize("model", referring.MODELS)
def test_a_description_builds_what_the_experiment_builds(model):
    size = LAVT_SIZES["cpu"]
    network = referring.MODELS[model](size, 99)
    described = referring.describe(model, size, 99)
    assert described == ModelDescription.from_metadata(described.metadata())
    assert described.difference(network) is None
    shapes = {name: tensor.shape for name, tensor in described.build().state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in network.state_dict().items()}


def test_a_setting_that_no_tensor_shows_is_noticed():
    size = LAVT_SIZES["ci"]
    described = referring.describe("lavt", size, 99)
    state = torch.get_rng_state()
    for change, says in (
        ({"positions": False}, "image_encoder.positions is True in the file, False in the given model"),
        ({"window": 4}, r"image_encoder.*(window|shift) is \d in the file, \d in the given model"),
        ({"heads": (1, 4, 8)}, "heads is 2 in the file, 1 in the given model"),
    ):
        network = referring.MODELS["lavt"](replace(size, **change), 99)
        torch.set_rng_state(state)
        with pytest.raises(AssertionError, match=says):
            raise AssertionError(described.difference(network))
        assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn: a notebook's numbers stay


def test_numbers_of_numpy_and_torch_in_a_description():
    """They become Python's before the model is stored: JSON has no others."""
    good = referring.describe("lavt", REFERRING_SIZES["ci"], 247)
    encoder = good.arguments["image_encoder"]
    numbers = encoder | {"width": np.int64(encoder["width"]), "window": torch.tensor(encoder["window"])}
    given = {"arguments": good.arguments | {"image_encoder": numbers}, "length": np.int64(good.length)}
    given |= {"mean": torch.tensor(good.mean, dtype=torch.float64), "image_size": np.int32(good.image_size)}
    assert replace(good, **given) == good and replace(good, **given).metadata() == good.metadata()
    for wrong in (
        {"length": 20.0},
        {"image_size": True},
        {"mean": ("0", "0", "0")},
        {"arguments": {"a": {"b": object()}}},
    ):
        with pytest.raises(TypeError):
            replace(good, **wrong)


def test_own_weights_whose_description_is_wrong_are_refused(tmp_path):
    path, network = store_own(tmp_path)
    with pytest.raises(ValueError, match="window is for published checkpoints: .* says itself what its model needs"):
        load_segmenter(path, window=7)
    good = referring.describe("decoder_fusion", REFERRING_SIZES["ci"], 247)
    fields = json.loads(good.metadata()[KEY])

    def language(**changes):
        return good.arguments | {"language": good.arguments["language"] | changes}

    wide, unknown = language(width=128), language(depths=3)
    for metadata, says in (
        (None, "does not describe its model"),
        ({KEY: "["}, "the description of the model cannot be read"),
        ({KEY: "[]"}, "the description of the model cannot be read"),
        ({KEY: json.dumps(fields | {"format": "xattn_edu segmenter 2"})}, "its format is 'xattn_edu segmenter 2'"),
        ({KEY: json.dumps(fields | {"colour": 1})}, "cannot be read: .*colour"),
        ({KEY: json.dumps(fields | {"mean": [0.5]})}, "mean and deviation are three numbers"),
        ({KEY: json.dumps({"format": fields["format"]})}, "cannot be read: 'words'"),
        (replace(good, builder="os.system").metadata(), "builder must be one of LAVT, DecoderFusion"),
        (
            replace(good, builder="LAVT").metadata(),
            "holds no model that segments .*LAVT.* unexpected keyword argument 'width'",
        ),
        (replace(good, words=good.words[:-1]).metadata(), "its model has 247"),
        (replace(good, arguments=wide).metadata(), "size mismatch"),
        (replace(good, arguments=language(width=2**24)).metadata(), "size mismatch"),  # 10 TB, which are never made
        (replace(good, arguments=language(depth=10**9)).metadata(), "describes 1,000,000,.* layers, and has"),
        (replace(good, image_size=10**9).metadata(), "image_size is 1 to 4096"),
        ({KEY: json.dumps(fields | {"image_size": 9.5})}, "image_size must be an int, given 9.5"),
        ({KEY: json.dumps(fields | {"words": "a b"})}, "words, mean and deviation are lists"),
        ({KEY: "[" * 100_000}, "nested too deeply"),
        (replace(good, arguments=unknown).metadata(), "depths"),
    ):
        path.write_bytes(safetensors.torch.save(network.half().state_dict(), metadata))
        with pytest.raises(ValueError, match=says) as error:
            load_segmenter(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert "make it again with `xattn reproduce`" in str(error.value)
