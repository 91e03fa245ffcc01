"""Every experiment in the catalogue: what it uses is what it must use, what it records is what it used.

Each case is a tiny run (tests/helpers/watched_runs.py) whose training and evaluation were watched. It is compared with
sets that are drawn, and scores that are computed, by other code. A new experiment is a case without a change here; one
on other data needs a branch in `expected`, `order_of_sets` and `scores`.
"""

import copy
import functools
import itertools
import math

import numpy as np
import pytest
import torch
from helpers import expected_sets, slow_scores
from helpers.scene_reader import read
from helpers.watched_runs import CASES, GIVEN, TOKENIZER, points, row_of, sentences_of, watched
from torch import nn
from torch.nn import functional as F

from xattn_edu.data import scenes as referring_scenes
from xattn_edu.data.objects import question_vocabulary
from xattn_edu.experiments import EXPERIMENTS, fashion, fusions, objects, referring, translation
from xattn_edu.measure import costs
from xattn_edu.models.attention import MultiHeadAttention
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.decoder_fusion import DecoderFusion
from xattn_edu.models.fusions import FUSIONS
from xattn_edu.models.language import FrozenWords, SmallBert, build_tokenizer
from xattn_edu.models.lavt import LAVT
from xattn_edu.models.losses import dice_loss, next_token_loss
from xattn_edu.models.mixers import MIXERS
from xattn_edu.models.object_finder import ObjectFinder
from xattn_edu.models.pwam import PixelWordAttention, SentenceFusion
from xattn_edu.models.transformer import Transformer
from xattn_edu.models.vit import ViT
from xattn_edu.training.loop import train

SEGMENTERS = (LAVT, DecoderFusion)
SEEDS = (3, 0, 1)


@pytest.fixture(params=CASES, ids=[f"{name}-{number}" for name, number in CASES])
def run(request):
    return watched(*request.param)


def task_of(run):
    return fusions.SETTINGS.get(run.point.get("setting"), {"task": run.point.get("task")}).get("task", "fashion")


# --- the sets


@functools.cache
def expected(run):
    """The sets of this run, drawn by other code, of the sizes that the run was given."""
    model, row = run.result.model, row_of(run.name, run.point)
    if isinstance(model, CrossViT):
        count = GIVEN["train_images"] if "setting" in run.point else row["images"]
        task, split = task_of(run), "validation" if "rate" in run.point else "test"
        if task == "fashion":
            return expected_sets.fashion(count, GIVEN["test_images"], run.seed, split)
        return expected_sets.hierarchical_task(task, count, GIVEN["test_images"], run.seed, split)
    if isinstance(model, Transformer):
        return expected_sets.pairs(row["pairs"], GIVEN["test_pairs"], run.seed)
    if isinstance(model, ObjectFinder):
        return expected_sets.questions(run.point["about"], row["questions"], row["test_questions"], run.seed)
    if isinstance(model, SEGMENTERS):
        return expected_sets.scenes(row["train_scenes"], row["test_scenes"], run.seed, row["easy"], row["image"])
    return expected_sets.fashion(run.point.get("images", GIVEN["train_images"]), GIVEN["test_images"], run.seed)


def order_of_sets(run):
    """The names of the sets in the order in which the model is evaluated with them."""
    model, epochs = run.result.model, run.settings["epochs"]
    if isinstance(model, CrossViT):
        return ["validation" if "rate" in run.point else "test"]
    if isinstance(model, Transformer):
        return ["test"] * epochs + ["numbers"]
    if isinstance(model, ObjectFinder):
        return ["test"] * epochs + ["exchanged"]
    if isinstance(model, SEGMENTERS):
        return ["test", "exchanged", "disordered", "unseen_words", "unseen_pairs"]
    return ["test"] * (1 if run.name == "vit-little-data" else epochs)


@functools.cache
def inputs_of(run):
    """[(name of a set, what the model was given for it: a list of columns)], as the run evaluated it."""
    sets = expected(run).tested
    columns = [torch.cat(column) for column in zip(*run.evaluated)]
    lengths = [len(sets[name]) for name in order_of_sets(run)]
    assert sum(lengths) == len(columns[0]), "evaluated with more or fewer samples than there are to test with"
    return list(zip(order_of_sets(run), zip(*(column.split(lengths) for column in columns)), strict=True))


def test_is_trained_on_what_it_must_be(run):
    wanted = expected(run).train
    if isinstance(run.result.model, SEGMENTERS):
        images, ids, mask, referents = run.train_set
        assert torch.equal(images, torch.from_numpy(wanted[0]).permute(0, 3, 1, 2))
        assert sentences_of(run.result.model, ids, mask) == wanted[1]
        assert torch.equal(referents.bool(), torch.from_numpy(wanted[2]))
    elif isinstance(run.result.model, ObjectFinder):
        things, present, ids, mask, answer = run.train_set
        assert all(map(torch.equal, (things, present, answer), wanted[:3]))
        assert questions_of(ids, mask) == wanted[3]
    else:
        assert len(run.train_set) == len(wanted) and all(map(torch.equal, run.train_set, wanted))


def test_is_measured_with_what_it_must_be(run):
    sets = expected(run).tested
    for name, columns in inputs_of(run):
        if isinstance(run.result.model, SEGMENTERS):
            images, ids, mask = columns
            pixels = torch.from_numpy(np.stack([scene.image for scene in sets[name]])).permute(0, 3, 1, 2)
            torch.testing.assert_close(images, (pixels.float() - 114) / 36.5, rtol=0, atol=1e-5)
            assert sentences_of(run.result.model, ids, mask) == [scene.sentence for scene in sets[name]]
        elif isinstance(run.result.model, ObjectFinder):
            things, present, ids, mask = columns
            wanted = [torch.stack(column) for column in list(zip(*sets[name]))[:2]]
            assert all(map(torch.equal, (things, present), wanted))
            assert questions_of(ids, mask) == [sentence for _, _, sentence, _ in sets[name]]
        elif isinstance(run.result.model, Transformer):
            wanted = translation.translation.encode([pair.source for pair in sets[name]], 20)
            assert torch.equal(columns[0], wanted)
        else:
            wanted = [torch.stack(column) for column in zip(*sets[name])][:-1]
            assert len(columns) == len(wanted) and all(map(torch.equal, columns, wanted))


def questions_of(ids, mask):
    tokenizer = build_tokenizer(question_vocabulary())
    return [" ".join(tokenizer.tokens(row[words])[1:-1]) for row, words in zip(ids, mask)]


def samples_of(columns):
    return {tuple(tensor.numpy().tobytes() for tensor in sample) for sample in zip(*columns)}


def test_nothing_that_is_measured_was_trained_on(run):
    trained = samples_of(run.train_set[:1])
    for _, columns in inputs_of(run):
        first = columns[0]
        if isinstance(run.result.model, SEGMENTERS):
            first = (first * 36.5 + 114).round().to(torch.uint8)
        assert not trained & samples_of([first])
    if isinstance(run.result.model, Transformer):  # nor any answer, in another way of writing
        learnt = set(translation.translation.decode(run.train_set[2]))
        assert not learnt & {pair.target for name, pairs in expected(run).tested.items() for pair in pairs}


@pytest.mark.parametrize("task", fusions.TASKS)
def test_what_chooses_a_rate_is_neither_trained_on_nor_tested_with(task):
    """In the run that chooses and in the run that tests, of the same task."""
    chosen, tested = (
        watched(name, next(number for number, point in enumerate(points(name)) if point["task"] == task))
        for name in ("fusion-rates", "fusions")
    )
    held_out, test = (samples_of(columns) for run in (chosen, tested) for _, columns in inputs_of(run))
    views = len(chosen.evaluated[0])
    assert len(held_out) == len(test) == GIVEN["test_images"] and not held_out & test
    assert not samples_of(chosen.train_set[:views]) & (held_out | test)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith(("referring", "lavt"))])
def test_held_out_words_and_pairs_are_in_no_training_sentence(name):
    """In none of the run, and in none of 3,000 of the same stream."""
    run = watched(name)
    trained = set(sentences_of(run.result.model, *run.train_set[1:3]))
    trained |= set(referring_scenes.scene_layouts("train", 3000, run.seed)[1])
    words = {word for sentence in trained for word in sentence.split()}
    said = set().union(*(read(sentence, "english").pairs() for sentence in trained))
    for split, (_, ids, mask) in inputs_of(run)[3:]:
        for sentence in sentences_of(run.result.model, ids, mask):
            if split == "unseen_words":
                assert not set(sentence.split()) <= words, sentence
            else:
                assert set(sentence.split()) <= words and not read(sentence, "english").pairs() <= said, sentence


# --- the settings and the record

RECIPES = {ViT: fashion.RECIPE, fashion.SmallCNN: fashion.RECIPE, CrossViT: fusions.RECIPE}
RECIPES |= {Transformer: translation.RECIPE, translation.Bottleneck: translation.RECIPE}
RECIPES |= {LAVT: referring.RECIPE, DecoderFusion: referring.RECIPE, ObjectFinder: objects.RECIPE}


def wanted_settings(run):
    """What `train` must be given."""
    model, row, point = run.result.model, row_of(run.name, run.point), run.point
    wanted = {"seed": run.seed, "loss": F.cross_entropy, "augment": None} | RECIPES[type(model)]
    if isinstance(model, CrossViT):
        task, changed = task_of(run), fusions.SETTINGS.get(point.get("setting"), {})
        wanted["epochs"] = GIVEN["epochs"] if "setting" in point else row["epochs"][task]
        wanted["learning_rate"] = point.get("rate") or fusions.BEST_RATES[task][point["fusion"]]
        wanted["augment"] = changed.get("augment", fashion.flip if task == "fashion" else None)
        return wanted | ({"loss": fusions.letters_loss} if task == "letters" else {})
    if isinstance(model, Transformer):
        return wanted | {"epochs": row["epochs"], "loss": next_token_loss}
    if isinstance(model, ObjectFinder):
        return wanted | {"epochs": row["epochs"]}
    if isinstance(model, SEGMENTERS):
        wanted |= {"epochs": row["epochs"], "learning_rate": row["learning_rate"]}
        return wanted | {"loss": dice_loss, "augment": referring.standardise}
    little = max(1, round(row["steps"] / math.ceil(len(run.train_set[0]) / 64)))
    return wanted | {"augment": fashion.flip, "epochs": little if "images" in point else row["epochs"]}


def test_is_trained_as_it_must_be(run):
    wanted = wanted_settings(run)
    assert {key: run.settings[key] for key in wanted} == wanted
    assert str(run.settings["device"]) == "cpu" and run.settings["checkpoint"] is None


def test_the_record_says_how_it_was_trained(run):
    config, settings = run.config, run.settings
    for key in ("seed", "epochs", "batch_size", "learning_rate", "weight_decay", "warmup", "clip"):
        assert config[key] == settings[key]
    batches = math.ceil(len(run.train_set[0]) / settings["batch_size"])
    assert config["steps"] == batches * settings["epochs"] == run.result.history["step"][-1]
    (trained,) = {config[key] for key in config if key.startswith("train_")}
    (tested,) = {config[key] for key in config if key.startswith("test_")}
    measured = inputs_of(run)[0][1]
    assert (trained, tested) == (len(run.train_set[0]), len(measured[0]))
    if "augment" in config:
        names = {None: None, fashion.flip: "flip", fusions.shift_and_erase: "shift_and_erase"}
        spoken = {fashion.flip: "horizontal flip"} if not isinstance(run.result.model, CrossViT) else {}
        assert config["augment"] == (names | spoken)[settings["augment"]]
    if "split" in config:
        held_out = expected_sets.fashion(None, GIVEN["test_images"], run.seed, "validation").tested["validation"]
        if task_of(run) != "fashion":
            held_out = expected_sets.hierarchical_task(task_of(run), 10, GIVEN["test_images"], 0, "validation").tested[
                "validation"
            ]
        is_held_out = torch.equal(measured[0], torch.stack([sample[0] for sample in held_out]))
        assert config["split"] == ("validation" if is_held_out else "test")


def linear_layers(model):
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]


def is_xavier(run, parts):
    """Whether the first weights of every linear layer in these parts fill the range of Xavier's.

    Those of torch fill 58 % of it where a layer is square, and 71 % or more than all of it in an MLP.
    """
    found = []
    for name, layer in linear_layers(run.result.model):
        if name.startswith(parts):
            limit = math.sqrt(6 / (layer.in_features + layer.out_features))
            weight = run.first[f"{name}.weight"].abs()
            least = 0.8 if weight.numel() > 100 else 0.6  # few numbers may all be small
            found.append(least * limit < weight.max() <= limit * (1 + 1e-6))
    assert len(found) > 1
    return all(found)


def shown(run):
    """The record's entries that the model itself shows, in its parts and in its first weights."""
    model = run.result.model
    if isinstance(model, ViT):
        mixers = {"attention": MultiHeadAttention} | {key: type(make(16, (7, 7))) for key, make in MIXERS.items()}
        found = {"patch": model.patch_embedding.patch, "width": model.head.in_features, "depth": len(model.blocks)}
        (kind,) = {type(block.attention) for block in model.blocks}
        mixer = run.point.get("mixer", "attention")
        assert kind is mixers[mixer] and is_xavier(run, "blocks")
        learned = model.positions.requires_grad
        if run.name == "vit-inside":
            name = "learned_positions" if learned else "fixed_positions"
        else:
            assert not learned
            name = "vit_patch_14" if found["patch"] == 14 else "vit"
        return found | {"model": name, "mixer": mixer, "positions": "learned" if learned else "sincos"}
    if isinstance(model, fashion.SmallCNN):
        assert [conv.out_channels for conv in model.convolutions] == [4, 8, 16]
        return {"model": "cnn", "patch": 4}  # the patch of the ViT that it is compared with
    if isinstance(model, CrossViT):
        assert is_xavier(run, ("small.blocks", "large.blocks", "fusions"))
        assert (model.small.patch_embedding.patch, model.large.patch_embedding.patch) == (
            {"fashion": (4, 7), "letters": (4, 6), "cues": (8, 8)}[task_of(run)]
        )
        (kind,) = {type(fusion) for fusion in model.fusions}
        widths = [branch.head.in_features for branch in model.branches]
        depths = [len(branch.blocks) // len(model.fusions) for branch in model.branches]
        assert kind is FUSIONS[run.point["fusion"]]
        return {"widths": tuple(widths), "depths": tuple(depths), "encoders": len(model.fusions)}
    if isinstance(model, Transformer):
        name = "bottleneck" if isinstance(model, translation.Bottleneck) else "cross_attention"
        return {"model": name, "width": model.embedding.embedding_dim, "depth": len(model.encoder.layers)}
    if isinstance(model, ObjectFinder):
        words = {PixelWordAttention: "each", SentenceFusion: "mean"}
        (kind,) = {type(fusion) for fusion in model.fusions}
        found = {"about": run.point["about"], "model": "no_pathway" if model.pathway is None else "pathway"}
        return found | {"words": words[kind], "width": model.word.embedding_dim, "depth": len(model.relate)}
    return shown_by_segmenter(run)


def shown_by_segmenter(run):
    model, swin = run.result.model, run.result.model.image_encoder
    found = {"image": run.train_set[0].shape[-1], "patch": swin.patch_embedding.projection.kernel_size[0]}
    found |= {"width": swin.widths[0], "depths": tuple(len(stage.blocks) for stage in swin.stages)}
    found |= {"positions": swin.positions, "words": model.language.width}
    found["xavier"] = is_xavier(run, ("image_encoder", "decoder", "fusions", "encoder"))
    if isinstance(model, LAVT):
        name = {(True, True): "lavt", (True, False): "lavt_pwam", (False, True): "lavt_pathway"}
        found["model"] = name.get((model.pwam, bool(len(model.pathways))), "lavt_neither")
        found["fusion"] = model.decoder.logits.in_channels
    else:
        found |= {"model": "decoder_fusion", "fusion": model.word_projection.out_features}
    gates = [run.first[key] for key in run.first if key.endswith("gate.2.weight")]
    found["shut"] = bool(gates) and not any(gate.any() for gate in gates)
    if isinstance(model.language, FrozenWords):
        return found | {"language": "minilm", "word_layers": 1}  # of the encoder that was replaced
    assert isinstance(model.language, SmallBert)
    return found | {"language": "learned", "word_layers": model.language.bert.config.num_hidden_layers}


def test_the_record_says_what_was_trained(run):
    """Every entry of the record is checked here or above: none is left that nobody compares."""
    config, model = run.config, shown(run)
    for key in config.keys() & model.keys():
        assert config[key] == model[key], key
    for key, value in run.point.items():
        assert config[key] == value, key
    assert config["profile"] == "ci"
    elsewhere = {"seed", "epochs", "batch_size", "learning_rate", "weight_decay", "warmup", "clip", "steps", "augment"}
    elsewhere |= {"split", "profile", "task"} | {key for key in config if key.startswith(("train_", "test_"))}
    if "task" in config:
        assert config["task"] == task_of(run)
    if "easy" in config:  # the share that `expected` draws
        elsewhere.add("easy")
        assert config["easy"] == row_of(run.name, run.point)["easy"]
    assert config.keys() <= elsewhere | model.keys() | run.point.keys()


def test_sizes_are_those_of_the_profile(run):
    row, config = row_of(run.name, run.point), run.config
    changed = fusions.SETTINGS.get(run.point.get("setting"), {})
    for key in row.keys() & config.keys() - {"epochs", "steps", "xavier"}:
        assert config[key] == changed.get(key, row[key]), key


# --- the scores


def scores(run):
    model, tested = run.result.model, expected(run).tested
    if isinstance(model, CrossViT):
        return slow_scores.of_heads(model, *tested.values())
    if isinstance(model, Transformer):
        return slow_scores.of_translations(tested["test"], tested["numbers"])
    if isinstance(model, ObjectFinder):
        inputs = {name: list(zip(*columns)) for name, columns in inputs_of(run)}
        return slow_scores.of_answers(model, tested, inputs) | {"guess": guess(tested["test"], run.point["about"])}
    if isinstance(model, SEGMENTERS):
        inputs = {name: list(zip(*columns)) for name, columns in inputs_of(run)}
        return slow_scores.of_masks(model, tested, inputs)
    return slow_scores.of_classifier(model, tested["test"])


def test_scores_are_recomputed(run):
    record = run.result.record()
    model = copy.deepcopy(run.result.model)
    vars(model).pop("forward", None)
    wanted = scores(run)
    wanted["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    if isinstance(model, CrossViT):  # counted with keys and values computed, as in the paper
        folded = model.fusions and run.config["fusion"] == "cross_attention"
        wanted["macs"] = record["metrics"]["macs"] if folded else count(model, run)
        assert record["metrics"]["macs"] >= count(model, run)
    else:
        wanted["macs"] = count(model, run)
    measured = {key: value for key, value in record["metrics"].items() if not key.startswith(("seconds", "cpu_"))}
    assert measured == pytest.approx(wanted, rel=1e-6)  # shares of samples, some of them rounded to float32
    assert record["config"] == run.config and record["history"] == run.result.history.rows
    assert run.result.score_name == EXPERIMENTS[run.name].score_name
    if isinstance(model, ViT | fashion.SmallCNN | CrossViT | Transformer | ObjectFinder):
        name = {CrossViT: "test_accuracy", Transformer: "exact match", ObjectFinder: "right answers"}
        column = next((of for kind, of in name.items() if isinstance(model, kind)), "test accuracy")
        assert run.result.history[column][-1] == run.result.score


def guess(samples, about):
    """One divided by the number of objects that could be meant: all but the anchor, or all of the noun."""
    shares = []
    for things, present, _, answer in samples:
        alike = [bool(there and thing[0] == things[answer][0]) for thing, there in zip(things, present)]
        shares.append(1 / (sum(alike) if about == "distance" else int(present.sum()) - 1))
    return sum(shares) / len(shares)


def count(model, run):
    *inputs, _ = (column[:1] for column in run.train_set)
    if isinstance(model, SEGMENTERS):
        inputs[0] = (inputs[0] - 114.0) / 36.5
    return costs.count(model, *inputs).macs


def test_weights_are_described_as_they_are(run):
    described, model = run.result.description, run.result.model
    if not isinstance(model, SEGMENTERS) or isinstance(model.language, FrozenWords):
        assert described is None
        return
    assert described.difference(model) is None
    assert described.build().state_dict().keys() == model.state_dict().keys()
    assert (described.image_size, described.length, described.mean[0]) == (run.train_set[0].shape[-1], 20, 114.0)
    assert len(described.tokenizer()) == len(TOKENIZER)


# --- the seed


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_seed_decides_weights_data_and_order(name):
    runs = [watched(name, 0, seed) for seed in SEEDS]
    for one, other in itertools.combinations(runs, 2):
        assert any(bool(((one.first[key] - other.first[key]).abs() > 0.01).any()) for key in one.first if
                   one.first[key].is_floating_point())  # fmt: skip
        assert not torch.equal(one.train_set[0], other.train_set[0])
        assert [samples_of(columns[:1]) for _, columns in inputs_of(one)] == [
            samples_of(columns[:1]) for _, columns in inputs_of(other)
        ]
        assert {**one.config, "seed": 0} == {**other.config, "seed": 0}
    assert [run.config["seed"] for run in runs] == [run.settings["seed"] for run in runs] == list(SEEDS)

    # The same weights and the same data, with what the three runs gave `train`: only the order differs.
    losses = set()
    for run in runs:
        model = copy.deepcopy(runs[0].result.model)
        vars(model).pop("forward", None)
        model.load_state_dict(runs[0].first)
        settings = {**run.settings, "epochs": 1, "evaluate": None, "progress": False, "batch_size": 16}
        if settings["augment"] is not referring.standardise:
            settings["augment"] = None
        samples = torch.utils.data.TensorDataset(*runs[0].train_set)
        losses.add(train(model, samples, **settings)["loss"][0])
    assert len(losses) == len(SEEDS)


def test_every_value_of_every_setting_is_a_case():
    for name, experiment in EXPERIMENTS.items():
        for key, values in experiment.grid.items():
            assert key == "images" or {point[key] for point in points(name)} == set(values)
