"""Recipes on referring segmentation: small models find, in small scenes, the object that a sentence names.

Each model is tested on the test set as it is, with the sentence of another scene ("exchanged"), and with the words of
the scene's own sentence in random order ("disordered"). The differences show what the model takes from the words.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from xattn_edu.data import scenes as referring_scenes
from xattn_edu.data.batches import take
from xattn_edu.data.scenes import DEVIATION, KINDS, MEAN, Scenes
from xattn_edu.experiments.fashion import xavier
from xattn_edu.experiments.records import Result
from xattn_edu.experiments.sizes import (
    LAVT_FINER_SIZES,
    LAVT_SIZES,
    RECIPE_CHANGES,
    REFERRING_SIZES,
    ReferringSize,
)
from xattn_edu.machine import Profile, choose_profile, seed_everything
from xattn_edu.measure import costs
from xattn_edu.measure.overlaps import Overlaps, overlaps
from xattn_edu.models.decoder_fusion import DecoderFusion
from xattn_edu.models.language import FrozenWords, PhraseBook, SmallBert, Tokenizer, build_tokenizer
from xattn_edu.models.lavt import LAVT
from xattn_edu.models.layers import evaluating
from xattn_edu.models.losses import dice_loss
from xattn_edu.models.masks import predicted_masks
from xattn_edu.models.swin import Swin
from xattn_edu.shapes import check_choice
from xattn_edu.training.loop import train
from xattn_edu.weights.description import ModelDescription
from xattn_edu.weights.language import load_bert, load_tokenizer, minilm_folder

RECIPE: dict[str, Any] = {"batch_size": 16, "weight_decay": 0.01, "warmup": 0.1, "clip": 1.0}
LENGTH = 20  # word pieces, [CLS] and [SEP] among them, as in LAVT


def small_swin(size: ReferringSize) -> Swin:
    """The small image encoder, the same for every model."""
    return Swin(size.width, size.depths, size.heads, window=size.window, patch=size.patch, positions=size.positions)


def small_decoder_fusion(size: ReferringSize, vocabulary: int) -> DecoderFusion:
    """A Transformer decoder behind the image encoder fuses words and image."""
    language = SmallBert(vocabulary, size.words, size.word_layers)
    model = DecoderFusion(small_swin(size), language, size.fusion, heads=4)
    xavier(model)
    return model


def small_lavt(size: ReferringSize, vocabulary: int, **parts: bool) -> LAVT:
    """LAVT, which fuses words and image after every stage of the image encoder; `parts` are its switches."""
    language = SmallBert(vocabulary, size.words, size.word_layers)
    model = LAVT(small_swin(size), language, decoder_width=size.fusion, **parts)
    if size.xavier:
        xavier(model)
    if size.shut:
        for name, parameter in model.pathways.named_parameters():
            if name.endswith("gate.2.weight"):
                nn.init.zeros_(parameter)
    return model


MODELS: dict[str, Callable[[ReferringSize, int], nn.Module]] = {
    "decoder_fusion": small_decoder_fusion,
    "lavt": small_lavt,
    "lavt_pwam": partial(small_lavt, language_pathway=False),
    "lavt_pathway": partial(small_lavt, pwam=False),
    "lavt_neither": partial(small_lavt, pwam=False, language_pathway=False),
}


def learned_words(model: nn.Module, tokenizer: Tokenizer, size: ReferringSize, seed: int) -> Tokenizer:
    """Leave the model its own small BERT, which is trained with it."""
    return tokenizer


def minilm_words(model: nn.Module, tokenizer: Tokenizer, size: ReferringSize, seed: int) -> PhraseBook:
    """Give the model MiniLM's frozen word features with one trained linear layer; returns the book to tokenize with."""
    book = minilm_book(size, seed)
    model.language = FrozenWords(book, size.words)
    return book


# Each puts its language encoder into the model, if it is not there yet, and returns the tokenizer that belongs to it.
LANGUAGE_ENCODERS: dict[str, Callable[[Any, Tokenizer, ReferringSize, int], Tokenizer | PhraseBook]] = {
    "learned": learned_words,
    "minilm": minilm_words,
}


def referring_segmentation(
    model: str = "decoder_fusion",
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    sizes: dict[str, ReferringSize] = REFERRING_SIZES,
    language: str = "learned",
    train_scenes: int | None = None,
    test_scenes: int | None = None,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train a small model on referring scenes from scratch, and test what it takes from image and words.

    The result's score is P@0.5, the share of expressions whose mask has an IoU of one half or more; `more` has the
    other scores (see `scores`).

    Args:
        model: a key of MODELS.
        seed: of the training scenes, their order, and the first weights; the test scenes are always the same.
        profile: a row of `sizes`.
        sizes: REFERRING_SIZES (notebook 10), LAVT_SIZES or LAVT_FINER_SIZES (notebook 12).
        language: "learned" or "minilm", a key of LANGUAGE_ENCODERS.
        train_scenes, test_scenes, epochs: instead of the profile's.
        checkpoint, device, progress: as in `train`.

    Raises ValueError for an unknown model or language encoder, ModuleNotFoundError if MiniLM is not installed.
    """
    profile = choose_profile(profile)
    check_choice("model", model, MODELS)
    check_choice("language", language, LANGUAGE_ENCODERS)
    given: dict[str, Any] = {"train_scenes": train_scenes, "test_scenes": test_scenes, "epochs": epochs}
    size = replace(sizes[profile.name], **{name: number for name, number in given.items() if number is not None})
    seed_everything(seed)
    tokenizer = build_tokenizer(referring_scenes.vocabulary("english"))
    network = MODELS[model](size, len(tokenizer))
    words = LANGUAGE_ENCODERS[language](network, tokenizer, size, seed)
    recorded = {name: value for name, value in asdict(size).items() if name not in ("heads", "window")}
    config = {"model": model, "seed": seed, "profile": profile.name} | recorded | {"language": language}
    return _run(network, words, size, config, {"device": device, "checkpoint": checkpoint, "progress": progress})


def _run(
    network: nn.Module,
    tokenizer: Tokenizer | PhraseBook,
    size: ReferringSize,
    config: dict[str, Any],
    settings: dict[str, Any],
) -> Result:
    """Train and test. `config` is the record's part on model, seed and size, `settings` are `train`'s."""
    train_set = training_set(tokenizer, size.train_scenes, config["seed"], size)
    counted = costs.count(network, *batch_of(train_set, torch.arange(1))[:3])
    history = train(
        network,
        train_set,
        epochs=size.epochs,
        learning_rate=size.learning_rate,
        seed=config["seed"],
        loss=dice_loss,
        augment=standardise,
        **settings,
        **RECIPE,
    )
    found = scores(network, tokenizer, size.test_scenes, size.image)
    return Result(
        config=config | RECIPE | {"steps": int(history["step"][-1])},
        model=network,
        history=history,
        score=found.pop("P@0.5"),
        score_name="P@0.5",
        parameters=counted.parameters,
        macs=counted.macs,
        more=found,
        description=describe(config["model"], size, len(tokenizer)) if config["language"] == "learned" else None,
    )


lavt_ablation = partial(referring_segmentation, sizes=LAVT_SIZES)
lavt_finer = partial(referring_segmentation, sizes=LAVT_FINER_SIZES)


def lavt_recipe(change: str, seed: int = 0, profile: str | Profile | None = None, **settings: Any) -> Result:
    """LAVT with one change of its recipe, a key of RECIPE_CHANGES: the effect of each choice in LAVT_SIZES.

    `settings` are those of `referring_segmentation`. Raises ValueError for a change that is not known.
    """
    check_choice("change", change, RECIPE_CHANGES)
    sizes = {name: replace(size, **RECIPE_CHANGES[change]) for name, size in LAVT_SIZES.items()}
    result = referring_segmentation("lavt", seed, profile, sizes=sizes, **settings)
    return replace(result, config={"change": change} | result.config)


def training_set(tokenizer: Tokenizer | PhraseBook, count: int, seed: int, size: ReferringSize) -> TensorDataset:
    """`count` training scenes: a share `size.easy` of easy sentences, and in the others every kind equally often."""
    parts = [
        scene_set(referring_scenes.scenes("train", part, seed, size=size.image, kinds=kinds), tokenizer).tensors
        for part, kinds in _lots(count, size)
    ]
    return TensorDataset(*(torch.cat(tensors) for tensors in zip(*parts)))


def _lots(count: int, size: ReferringSize) -> list[tuple[int, Sequence[str]]]:
    easy = round(size.easy * count)
    return [(part, kinds) for part, kinds in ((count - easy, KINDS), (easy, ("attribute",))) if part]


def minilm_book(size: ReferringSize, seed: int) -> PhraseBook:
    """MiniLM's word features for every sentence that a run is trained on or tested with."""
    folder, lots = minilm_folder(), _lots(size.train_scenes, size)
    drawn = [referring_scenes.scene_layouts("train", part, seed, kinds=kinds)[1] for part, kinds in lots]
    drawn += [
        referring_scenes.scene_layouts(split, size.test_scenes)[1] for split in ("test", "unseen_words", "unseen_pairs")
    ]
    test = drawn[-3]
    return PhraseBook(chain(*drawn, disordered(test)), load_bert(folder), load_tokenizer(folder), LENGTH)


def scores(model: nn.Module, tokenizer: Tokenizer | PhraseBook, count: int, size: int) -> dict[str, float]:
    """oIoU, mIoU and P@X on test scenes; mIoU of each kind of expression, of changed sentences, on held-out splits."""
    test = referring_scenes.scenes("test", count, size=size)
    found = evaluate(model, scene_set(test, tokenizer))
    numbers = {"oIoU": found.oiou, "mIoU": found.miou}
    numbers |= {f"P@{threshold:.1f}": share for threshold, share in found.precisions.items()}
    numbers |= {f"mIoU {kind}": part.miou for kind, part in found.by(test.kinds, KINDS).items()}
    for name, sentences in (("exchanged", exchanged(test.sentences)), ("disordered", disordered(test.sentences))):
        numbers[f"mIoU {name}"] = evaluate(model, scene_set(test, tokenizer, sentences)).miou
    for split in ("unseen_words", "unseen_pairs"):
        held_out = referring_scenes.scenes(split, count, size=size)
        numbers[f"mIoU {split}"] = evaluate(model, scene_set(held_out, tokenizer)).miou
    return numbers


def scene_set(
    scenes: Scenes, tokenizer: Tokenizer | PhraseBook, sentences: Sequence[str] | None = None
) -> TensorDataset:
    """Scenes to train on or test with: samples (image uint8, ids, mask of the words, mask of the referent).

    Images (3, size, size) stay bytes, which take a quarter of the memory; `standardise` turns a batch into numbers.
    `sentences` replace the scenes' own.
    """
    ids, mask = tokenizer(scenes.sentences if sentences is None else sentences, LENGTH)
    images = torch.from_numpy(scenes.images).permute(0, 3, 1, 2)
    return TensorDataset(images, ids, mask, torch.from_numpy(scenes.masks.astype(np.uint8)))


def standardise(images: Tensor) -> Tensor:
    """Bytes as numbers with a mean of about 0 and a deviation of about 1."""
    return (images.float() - MEAN) / DEVIATION


def batch_of(samples: TensorDataset, indices: Tensor, device: torch.device | str = "cpu") -> list[Tensor]:
    """Images (standardised), ids, mask of the words, mask of the referent, each (batch, ...)."""
    images, *rest = take(samples, indices, torch.device(device))
    return [standardise(images), *rest]


@torch.no_grad()
def evaluate(model: nn.Module, samples: TensorDataset, batch_size: int = 100) -> Overlaps:
    """The overlap of each predicted mask with the referent, computed in eval mode; the model keeps its own mode."""
    device, found = next(model.parameters()).device, []
    with evaluating(model):
        for indices in torch.arange(len(samples)).split(batch_size):
            *inputs, masks = batch_of(samples, indices, device)
            found.append(overlaps(predicted_masks(model(*inputs)), masks.bool()))
    return Overlaps.concatenate(found)


def exchanged(sentences: Sequence[str]) -> list[str]:
    """For each scene the sentence of the next one: a model that uses its words can no longer find the referent."""
    return [*sentences[1:], sentences[0]]


def disordered(sentences: Sequence[str], seed: int = 0) -> list[str]:
    """Each sentence with its words in random order: the order of "left of the tree" is lost, its words are not."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.permutation(sentence.split())) for sentence in sentences]


def describe(model: str, size: ReferringSize, vocabulary: int) -> ModelDescription:
    """The description stored with the weights of MODELS[model], for a size and a number of ids in the vocabulary."""
    image_encoder = {"width": size.width, "depths": [*size.depths], "heads": [*size.heads], "window": size.window}
    image_encoder |= {"patch": size.patch, "positions": size.positions}
    language = {"vocabulary_size": vocabulary, "width": size.words, "depth": size.word_layers, "heads": 4, "length": 64}
    if model == "decoder_fusion":
        builder, settings = "DecoderFusion", {"width": size.fusion, "depth": 2, "heads": 4}
    else:
        parts = {"pwam": model not in ("lavt_pathway", "lavt_neither")}
        parts |= {"language_pathway": model not in ("lavt_pwam", "lavt_neither")}
        builder, settings = "LAVT", {"heads": 1, "decoder_width": size.fusion} | parts
    return ModelDescription(
        builder=builder,
        arguments={"image_encoder": image_encoder, "language": language, "settings": settings},
        words=tuple(referring_scenes.vocabulary("english")),
        length=LENGTH,
        image_size=size.image,
        mean=(MEAN,) * 3,
        deviation=(DEVIATION,) * 3,
    )
