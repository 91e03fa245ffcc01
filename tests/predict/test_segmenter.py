"""Checkpoints become models of the right sizes, pictures become masks, and an evaluation can be stopped anywhere."""

import argparse
import io
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.miniature_refcoco import SENTENCES, miniature
from helpers.running_pickle import Program
from PIL import Image

from xattn_edu.data import refer
from xattn_edu.data import scenes as referring_scenes
from xattn_edu.experiments import RESULTS, load_weights, referring
from xattn_edu.experiments.sizes import LAVT_SIZES, REFERRING_SIZES
from xattn_edu.measure.overlaps import Overlaps, overlaps
from xattn_edu.models.language import SPECIAL, SmallBert, build_tokenizer
from xattn_edu.models.lavt import lavt_swin
from xattn_edu.predict import evaluation, pictures, segmenter
from xattn_edu.predict.evaluation import evaluate, masks_compared
from xattn_edu.predict.loading import load_lavt, load_segmenter
from xattn_edu.predict.pictures import picture, read_image, segment_file
from xattn_edu.predict.segmenter import Prediction
from xattn_edu.weights import lavt_to_published
from xattn_edu.weights.description import KEY, ModelDescription

WORDS = [*SPECIAL, *"a the left right man in red grey dog sign top one people caf ##e ##s mann ##equin . , $".split()]


def small_lavt(
    seed=0, *, width=8, depths=(1, 2, 1), heads=(1, 2, 4), words=16, bert_heads=1, length=24, layers=1, **more
):
    """Every weight random, so that no norm and no bias hides what it does."""
    torch.manual_seed(seed)
    language = SmallBert(len(WORDS), words, layers, bert_heads, length)
    model = lavt_swin(width, depths, heads, window=more.pop("window", 3), language=language, **more)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def inputs(size=40):
    torch.manual_seed(1)
    ids = torch.randint(5, len(WORDS), (2, 6))
    return torch.randn(2, 3, size, size), ids, torch.arange(6) < torch.tensor([[6], [4]])


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "lavt.pth"
    torch.save(lavt_to_published(small_lavt().state_dict()), path)
    return path


@pytest.fixture(scope="module")
def published(checkpoint, tokenizer_folder):
    return load_segmenter(checkpoint, tokenizer=tokenizer_folder, size=32, device="cpu")


OWN = {"referring": REFERRING_SIZES, "lavt": LAVT_SIZES}


def store_own(folder, model="decoder_fusion", experiment="referring", **changes):
    """Weights as `xattn reproduce` leaves them, with `changes` in their description; the model that they are of."""
    size, vocabulary = OWN[experiment]["ci"], len(build_tokenizer(referring_scenes.vocabulary("english")))
    torch.manual_seed(0)
    network = referring.MODELS[model](size, vocabulary).eval()
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(half)
    path = folder / f"model-{model}_seed-0_ci.safetensors"
    description = replace(referring.describe(model, size, vocabulary), **changes)
    path.write_bytes(safetensors.torch.save(half, description.metadata()))
    return path, network


# --- from a file to a model


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
    with pytest.raises(ValueError, match=r"ends in \.safetensors, \.pth, \.pt or \.bin"):
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


def test_own_weights_whose_description_is_wrong_are_refused(tmp_path):
    path, network = store_own(tmp_path)
    with pytest.raises(ValueError, match="window is for published checkpoints: .* says itself what its model needs"):
        load_segmenter(path, window=7)
    good = referring.describe("decoder_fusion", REFERRING_SIZES["ci"], 247)
    fields = json.loads(good.metadata()[KEY])
    wide = good.arguments | {"language": good.arguments["language"] | {"width": 128}}
    unknown = good.arguments | {"language": good.arguments["language"] | {"depths": 3}}
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
        (replace(good, arguments=unknown).metadata(), "depths"),
    ):
        path.write_bytes(safetensors.torch.save(network.half().state_dict(), metadata))
        with pytest.raises(ValueError, match=says) as error:
            load_segmenter(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert "make it again with `xattn reproduce`" in str(error.value)


# --- pictures and sentences


def write(image, path, **options):
    image.save(path, **options)
    return read_image(path)


def test_image_files_of_every_kind(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    image = Image.fromarray(colours)
    assert np.array_equal(write(image, tmp_path / "rgb.png"), colours)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned to the right
    assert np.array_equal(write(image, tmp_path / "turned.png", exif=exif), np.rot90(colours, -1))

    grey = colours[..., 0]
    three = np.stack([grey] * 3, axis=2)
    assert np.array_equal(write(Image.fromarray(grey), tmp_path / "grey.png"), three)
    assert np.array_equal(write(Image.fromarray(grey.astype(np.uint16) * 257), tmp_path / "grey16.png"), three)
    bits = write(Image.fromarray(grey > 99), tmp_path / "bits.png")
    assert np.array_equal(bits, np.where(three > 99, 255, 0))

    alpha = np.zeros((5, 7), np.uint8)
    alpha[0], alpha[1] = 255, 128
    clear = write(Image.fromarray(np.dstack([colours, alpha])), tmp_path / "clear.png")
    assert np.array_equal(clear[0], colours[0]) and (clear[2:] == 255).all()
    np.testing.assert_allclose(clear[1], 255 - (255 - colours[1].astype(float)) * 128 / 255, atol=1)
    both = write(Image.fromarray(np.dstack([grey, alpha]), "LA"), tmp_path / "grey_alpha.png")
    assert np.array_equal(both[0], three[0]) and (both[2:] == 255).all()
    palette = Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7) % 2, "P")
    palette.putpalette([10, 20, 30, 200, 100, 0])
    shown = write(palette, tmp_path / "palette.png", transparency=1)
    assert (shown[0, 0] == (10, 20, 30)).all() and (shown[0, 1] == 255).all()
    assert write(image.convert("CMYK"), tmp_path / "cmyk.jpg").shape == (5, 7, 3)


def test_what_is_no_image_is_named(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    for name in ("text.png", "empty.jpg", "half.jpg"):
        with pytest.raises(ValueError, match=f"{name} is no image that can be read") as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)
    for name in ("none.png", "."):
        with pytest.raises(FileNotFoundError, match="is no file: name an image"):
            read_image(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8000)
    with pytest.raises(ValueError, match="DecompressionBomb"):
        read_image(tmp_path / "whole.jpg")


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), "photo.jpg"])
def test_pixels_wants_an_image_of_bytes(image, published):
    with pytest.raises(ValueError, match=r"\(height, width, 3\) of uint8, given .*read_image"):
        published.pixels(image)


def test_an_image_is_squashed_to_the_square(published):
    halves = np.zeros((10, 64, 3), np.uint8)
    halves[:, 32:] = 255
    red = published.pixels(halves)[0]
    assert red.shape == (32, 32) and (red[:, :15] == red[0, 0]).all() and (red[:, 17:] == red[0, -1]).all()
    assert red[0, 0] < -1 and red[0, -1] > 1


def test_a_mask_has_the_images_size_and_the_words_add_up(published):
    image = np.random.default_rng(0).integers(0, 255, (20, 50, 3), np.uint8)
    found = published.predict(image, "the Mannequins, left")
    assert found.mask.shape == (20, 50) and found.mask.dtype == bool
    assert found.words == ("[CLS]", "the", "Mannequins", ",", "left", "[SEP]")  # mann ##equin ##s: one word
    assert [weights.shape for weights in found.weights] == [(8, 8, 6), (4, 4, 6), (2, 2, 6)]
    for weights in found.weights:
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    ids, mask = published.tokenizer(["the Mannequins, left"], 20)
    pixels = published.pixels(image)[None]
    logits, pieces = published.model(pixels, ids, mask, return_weights=True)
    np.testing.assert_allclose(found.weights[1][..., 2], pieces[1][0, 0, ..., 2:5].sum(dim=-1).detach(), atol=1e-6)
    np.testing.assert_allclose(found.weights[1][..., 5], pieces[1][0, 0, ..., 7].detach(), atol=1e-6)
    resized = torch.nn.functional.interpolate(logits, (20, 50), mode="bilinear", align_corners=True)[0]
    assert np.array_equal(found.mask, (resized[1] > resized[0]).numpy())


@pytest.mark.parametrize("sentence", ["", "  \n", None])
def test_an_expression_must_say_something(sentence, published):
    with pytest.raises(ValueError, match='such as "the man in red", given'):
        published.predict(np.zeros((4, 4, 3), np.uint8), sentence)


def test_an_expression_without_a_word(published):
    with pytest.raises(ValueError, match="there is no word in the expression"):
        published.predict(np.zeros((4, 4, 3), np.uint8), "\u0007")  # a bell, which BERT's normalisation takes out


def test_a_blank_sentence_of_a_data_set_is_cls_and_sep(published):
    ids, mask = published.ids(["the man", " ", "a"])
    assert published.tokenizer.tokens(ids[1][mask[1]]) == ["[CLS]", "[SEP]"]
    assert torch.equal(ids[[0, 2]], published.tokenizer(["the man", "a"], 20)[0])
    assert torch.equal(mask[[0, 2]], published.tokenizer(["the man", "a"], 20)[1])


def test_a_sentence_is_tokenised_once(published, monkeypatch):
    seen, encode = [], type(published.tokenizer).encode
    monkeypatch.setattr(
        type(published.tokenizer), "encode", lambda self, *given: seen.append(given[0]) or encode(self, *given)
    )
    monkeypatch.setattr(type(published.tokenizer), "__call__", lambda *_: pytest.fail("tokenised a second time"))
    published.predict(np.zeros((4, 4, 3), np.uint8), "the man")
    assert seen == ["the man"]


def test_remarks_name_what_the_model_cannot_read(published, tmp_path):
    assert published.remarks("the Mannequins, left") == []
    assert published.remarks("the zebra, zebra or yak") == [
        "the model does not know 'zebra', 'or', 'yak': its tokenizer has no pieces for that"
    ]
    (cut,) = published.remarks("man " * 18 + "in red")
    assert "20 pieces of an expression at most: 'in red' is left out" in cut
    own = load_segmenter(store_own(tmp_path)[0], device="cpu")
    assert own.remarks("The red-yellow fish, left!") == []
    (unknown,) = own.remarks("the zebra on the tree")
    assert "does not know 'zebra': it knows 190 words" in unknown


# --- the picture


def drawn(png):
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def test_the_picture_shows_the_mask_and_a_map_for_each_word():
    image = np.full((40, 60, 3), 128, np.uint8)
    mask = np.zeros((40, 60), bool)
    weights = np.full((4, 4, 3), 1 / 3)
    nothing = drawn(picture(image, "man", Prediction(mask, ("[CLS]", "man", "[SEP]"), (weights,))))
    orange = (np.abs(nothing.astype(int) - (255, 176, 0)) < 60).all(axis=2)
    assert not orange.any()  # no mask, and nobody reads more than an even share
    some = mask.copy()
    some[:, :30] = True
    painted = drawn(picture(image, "man", Prediction(some, ("[CLS]", "man", "[SEP]"), (weights,))))
    changed = np.argwhere((painted != nothing).any(axis=2))
    half = painted.shape[1] / 2
    assert changed[:, 1].min() >= half - 9 and changed[:, 0].max() < painted.shape[0] * 0.7
    bright = weights.copy()
    bright[0, 0] = (0.05, 0.9, 0.05)  # one corner reads "man"
    lit = drawn(picture(image, "man", Prediction(mask, ("[CLS]", "man", "[SEP]"), (weights, bright)), stage=2))
    plain = drawn(picture(image, "man", Prediction(mask, ("[CLS]", "man", "[SEP]"), (weights, bright))))
    orange = np.argwhere((np.abs(lit.astype(int) - (255, 176, 0)) < 60).all(axis=2))
    assert len(orange) and not (np.abs(plain.astype(int) - (255, 176, 0)) < 60).all(axis=2).any()  # stage 1 by default
    column = orange[:, 1] / lit.shape[1] * pictures.COLUMNS
    assert column.min() > 1 and column.max() < 1.4  # the second map's left side


def test_pictures_of_odd_sizes_and_sentences(published):
    for shape, sentence in (((1, 1), "a"), ((900, 30), "the $ man, $ left"), ((4, 300), "man " * 30)):
        image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
        found = published.predict(image, sentence)
        assert found.mask.shape == shape and min(drawn(picture(image, sentence, found)).shape[:2]) > 100


@pytest.mark.parametrize("stage", [0, 4, -1])
def test_a_stage_that_is_not_there(stage, published):
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ValueError, match=f"the model has the stages 1 to 3, given {stage}"):
        picture(image, "man", published.predict(image, "man"), stage)


def test_segment_file_writes_one_picture_and_never_over_another(checkpoint, tokenizer_folder, tmp_path, monkeypatch):
    image, out = tmp_path / "street.png", tmp_path / "out.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(image)
    settings = {"tokenizer": tokenizer_folder, "size": 32, "device": "cpu"}
    share, remarks = segment_file(image, "the yak", checkpoint, out, **settings)
    assert 0 <= share <= 1 and "yak" in remarks[0] and drawn(out.read_bytes()).shape[2] == 3
    before = out.read_bytes()
    monkeypatch.setattr(pictures, "load_segmenter", lambda *_, **__: pytest.fail("the model was loaded"))
    for expression, target, error, says in (
        ("the yak", out, FileExistsError, "is there already: name another file, or overwrite it with --force"),
        ("the yak", tmp_path / "out.jpg", ValueError, "must end in .png"),
        ("the yak", tmp_path / "none" / "out.png", FileNotFoundError, "is not a folder: make it first"),
        (" ", tmp_path / "new.png", ValueError, "an expression names a thing"),
    ):
        with pytest.raises(error, match=says):
            segment_file(image, expression, checkpoint, target, **settings)
    assert out.read_bytes() == before and sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "street.png"]


# --- the evaluation


@pytest.fixture
def small(tmp_path):
    """The miniature set with everything in val, so that there are eight expressions in three images."""
    made = miniature(tmp_path / "data")
    for ref in made.refs:
        ref["split"] = "val"
    made.write()
    return made


def settings(tokenizer_folder, **more):
    return {"check_counts": False, "tokenizer": tokenizer_folder, "size": 32, "device": "cpu", "progress": False} | more


def nearest(mask, size):
    """The mask's pixel at the centre of each pixel of the square, by hand."""
    rows, columns = (((np.arange(size) + 0.5) * side / size).astype(int) for side in mask.shape)
    return mask[rows][:, columns]


@pytest.mark.parametrize("at", ["network", "original"])
def test_the_scores_are_those_of_one_expression_after_the_other(
    at, checkpoint, published, tokenizer_folder, small, tmp_path
):
    record, stored = evaluate(checkpoint, small.root, tmp_path / "out.json", at=at, **settings(tokenizer_folder))
    assert not stored and json.loads((tmp_path / "out.json").read_text()) == record
    assert not list(tmp_path.glob("*.partial"))
    parts, items = [], refer.load(small.root, "refcoco", "val", check_counts=False)
    for item in items:
        logits = published.logits(published.pixels(item.image)[None], [item.sentence])
        mask = nearest(item.mask, 32)
        if at == "original":
            size = item.mask.shape
            logits, mask = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=True), item.mask
        parts.append(overlaps(logits.argmax(dim=1) == 1, torch.from_numpy(mask)[None]))
    expected = Overlaps.concatenate(parts)
    scores = {name: score["score"] for name, score in record["scores"].items()}
    assert scores == pytest.approx(
        {"oIoU": expected.oiou, "mIoU": expected.miou} | {f"P@{x}": share for x, share in expected.precisions.items()}
    )
    assert 0 < scores["oIoU"] < 1
    count = sum(map(len, SENTENCES.values()))
    assert record["counts"] == {"expressions": count, "referents": 5, "referents_published": 3811, "images": 3}
    assert record["run"]["compared_at"] == ("32 x 32" if at == "network" else "the image's size")
    assert all(score["low"] <= score["score"] <= score["high"] for score in record["scores"].values())
    assert str(tmp_path) not in json.dumps(record) and tokenizer_folder not in json.dumps(record)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_cross_images_and_each_image_is_read_once(batch_size, published, small, monkeypatch):
    items = refer.load(small.root, "refcoco", "val", check_counts=False)
    by_image = sorted(items.referents, key=lambda referent: referent.image_id)
    items = refer.ReferringExpressions(tuple(by_image), items.images)
    read, original = [], refer._image
    monkeypatch.setattr(refer, "_image", lambda path, *size: read.append(path) or original(path, *size))
    parts = list(masks_compared(published, items, range(len(items)), batch_size=batch_size))
    assert [len(part) for part in parts] == [min(batch_size, 8 - at) for at in range(0, 8, batch_size)]
    assert len(read) == 3
    whole = Overlaps.concatenate(masks_compared(published, items, range(len(items)), batch_size=4))
    assert torch.equal(Overlaps.concatenate(parts).unions, whole.unions)


@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_interrupted_evaluation_ends_with_the_same_numbers(
    after, checkpoint, tokenizer_folder, small, tmp_path, monkeypatch
):
    straight, _ = evaluate(
        checkpoint, small.root, tmp_path / "straight.json", **settings(tokenizer_folder, batch_size=2)
    )
    monkeypatch.setattr(evaluation, "SAVE_EVERY", 3)
    asked, original = [], segmenter.Segmenter.logits

    def stopping(self, images, sentences):
        if len(asked) == after:
            raise KeyboardInterrupt
        asked.append(sentences)
        return original(self, images, sentences)

    monkeypatch.setattr(segmenter.Segmenter, "logits", stopping)
    out = tmp_path / "stopped.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoint, small.root, out, **settings(tokenizer_folder, batch_size=2))
    partial = tmp_path / "stopped.json.partial"
    done = sum(map(len, asked))
    assert not out.exists() and partial.exists() == bool(done)
    if done:
        assert len(json.loads(partial.read_text())["unions"]) == done
    asked.clear()
    monkeypatch.setattr(segmenter.Segmenter, "logits", lambda *given: asked.append(given[2]) or original(*given))
    record, stored = evaluate(checkpoint, small.root, out, **settings(tokenizer_folder, batch_size=3))
    assert not stored and not partial.exists() and sum(map(len, asked)) == 8 - done
    assert record["scores"] == straight["scores"] and record["run"] == straight["run"]

    asked.clear()  # and what is finished is not done again
    assert evaluate(checkpoint, small.root, out, **settings(tokenizer_folder)) == (record, True) and not asked


def test_results_of_another_run_are_refused(checkpoint, tokenizer_folder, small, tmp_path, monkeypatch):
    out, partial = tmp_path / "out.json", tmp_path / "out.json.partial"
    record, _ = evaluate(checkpoint, small.root, out, **settings(tokenizer_folder))
    finished = out.read_bytes()
    other = tmp_path / "lavt.pth"
    torch.save(lavt_to_published(small_lavt(seed=1).state_dict()), other)

    def refused(path=checkpoint, **more):
        with pytest.raises(ValueError, match="belongs to another evaluation") as error:
            evaluate(path, small.root, out, **settings(tokenizer_folder, **more))
        return str(error.value)

    for holder in (out, partial):
        out.unlink(missing_ok=True)
        content = {"format": evaluation.FORMAT, "run": record["run"], "seconds": 1, "intersections": [1], "unions": [2]}
        holder.write_bytes(finished if holder == out else json.dumps(content).encode())
        assert "checkpoint_sha256: " in refused(other) and str(holder) in refused(other)
        assert "compared_at: 32 x 32 there, the image's size here" in refused(at="original")
        assert "compared_at: 32 x 32 there, 64 x 64 here" in refused(size=64)
        assert "settings: {'image_size': 32} there, {'image_size': 32, 'word_heads': 2} here" in refused(word_heads=2)
        small.refs[0]["sentences"][0]["sent"] = "left man there"
        small.write()
        assert "expressions_sha256: " in refused()
        small.refs[0]["sentences"][0]["sent"] = "left man"
        small.write()
    for text in ("", "{}", "[1]", json.dumps({"format": evaluation.FORMAT, "run": 3})):
        for holder in (out, partial):
            out.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)
            holder.write_text(text)
            with pytest.raises(ValueError, match="is there already, and is no evaluation of ours: name another file"):
                evaluate(checkpoint, small.root, out, **settings(tokenizer_folder))
            assert holder.read_text() == text
    out.unlink(missing_ok=True)
    partial.write_text(json.dumps({"format": evaluation.FORMAT, "run": record["run"], "seconds": 1, "unions": [2]}))
    with pytest.raises(ValueError, match="holds no partial results .*delete it to start anew"):
        evaluate(checkpoint, small.root, out, **settings(tokenizer_folder))


def test_evaluation_says_before_any_work_what_is_wrong(checkpoint, tokenizer_folder, small, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "load_segmenter", lambda *_, **__: pytest.fail("the model was loaded"))
    for more, error, says in (
        ({"at": "middle"}, ValueError, '"network" or "original" size, given \'middle\''),
        ({"batch_size": 0}, ValueError, "batch_size is 1 at least"),
        ({"dataset": "coco"}, ValueError, "a dataset is one of"),
        ({"split": "test"}, ValueError, "has the splits train, val, testA, testB"),
        ({"check_counts": True}, ValueError, "published were 3,811"),
        ({"split": "testB"}, ValueError, "no expression in testB"),
    ):
        with pytest.raises(error, match=says):
            evaluate(checkpoint, small.root, tmp_path / "out.json", **settings(tokenizer_folder, **more))
    with pytest.raises(FileNotFoundError, match="is not a folder: make it first"):
        evaluate(checkpoint, small.root, tmp_path / "none" / "out.json", **settings(tokenizer_folder))
    assert not list(tmp_path.glob("*.json*"))


def test_too_little_memory_is_said_and_nothing_is_lost(checkpoint, tokenizer_folder, small, tmp_path, monkeypatch):
    original = segmenter.Segmenter.logits

    def small_memory(self, images, sentences):
        if "the grey dog" in sentences:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nand more")
        return original(self, images, sentences)

    monkeypatch.setattr(segmenter.Segmenter, "logits", small_memory)
    with pytest.raises(ValueError, match="the memory of cpu is too small for 2 images at a time"):
        evaluate(checkpoint, small.root, tmp_path / "out.json", **settings(tokenizer_folder, batch_size=2))
    assert len(json.loads((tmp_path / "out.json.partial").read_text())["unions"]) == 2
