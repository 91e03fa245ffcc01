"""Recipes on referring segmentation: small models find, in small scenes, the object that a sentence names.

Each model is tested on the test set as it is, with the sentence of another scene ("exchanged"), and with the words of
the scene's own sentence in random order ("disordered"). The differences show what the model takes from the words.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from xattn_edu.data import scenes as referring_scenes
from xattn_edu.data.batches import take
from xattn_edu.data.scenes import DEVIATION, KINDS, MEAN
from xattn_edu.experiments.fashion import xavier
from xattn_edu.experiments.records import Result
from xattn_edu.experiments.running import run
from xattn_edu.experiments.sets import Sets, disordered, draw_scenes, exchanged, scene_set  # noqa: F401  notebooks too
from xattn_edu.experiments.sizes import (
    LAVT_FINER_SIZES,
    LAVT_SIZES,
    RECIPE_CHANGES,
    REFERRING_SIZES,
    ReferringSize,
)
from xattn_edu.machine import Profile, choose_profile
from xattn_edu.measure.overlaps import Overlaps, overlaps
from xattn_edu.models.builders import BUILDERS
from xattn_edu.models.language import LENGTH, FrozenWords, PhraseBook, SmallBert, Tokenizer, build_tokenizer
from xattn_edu.models.layers import evaluating
from xattn_edu.models.losses import dice_loss
from xattn_edu.models.masks import predicted_masks
from xattn_edu.models.swin import Swin
from xattn_edu.shapes import check_choice
from xattn_edu.weights.description import ModelDescription
from xattn_edu.weights.language import load_bert, load_tokenizer, minilm_folder

RECIPE: dict[str, Any] = {"batch_size": 16, "weight_decay": 0.01, "warmup": 0.1, "clip": 1.0}
SCORE = "P@0.5"  # the main score: the share of expressions whose mask has an IoU of one half or more
PARTS = {  # LAVT, and LAVT without one part or both
    "lavt": {"pwam": True, "language_pathway": True},
    "lavt_pwam": {"pwam": True, "language_pathway": False},
    "lavt_pathway": {"pwam": False, "language_pathway": True},
    "lavt_neither": {"pwam": False, "language_pathway": False},
}


def describe(model: str, size: ReferringSize, vocabulary: int) -> ModelDescription:
    """What MODELS[model] is built from, for a size and a number of ids; it is stored with the model's weights.

    "decoder_fusion" fuses words and image in a Transformer decoder behind the image encoder, LAVT after every stage of
    the image encoder. The two encoders are the same for all models.
    """
    image_encoder = {"width": size.width, "depths": [*size.depths], "heads": [*size.heads], "window": size.window}
    image_encoder |= {"patch": size.patch, "positions": size.positions}
    language = {"vocabulary_size": vocabulary, "width": size.words, "depth": size.word_layers, "heads": 4, "length": 64}
    if model == "decoder_fusion":
        builder, settings = "DecoderFusion", {"width": size.fusion, "depth": 2, "heads": 4}
    else:
        builder, settings = "LAVT", {"heads": 1, "decoder_width": size.fusion} | PARTS[model]
    return ModelDescription(
        builder=builder,
        arguments={"image_encoder": image_encoder, "language": language, "settings": settings},
        words=tuple(referring_scenes.vocabulary("english")),
        length=LENGTH,
        image_size=size.image,
        mean=(MEAN,) * 3,
        deviation=(DEVIATION,) * 3,
    )


def small_model(model: str, size: ReferringSize, vocabulary: int) -> nn.Module:
    """The model that `describe` describes, with the first weights that `size` asks for."""
    described = describe(model, size, vocabulary)
    arguments = described.arguments
    language = SmallBert(**arguments["language"])  # before the image encoder: the order decides the first weights
    network = BUILDERS[described.builder](Swin(**arguments["image_encoder"]), language, **arguments["settings"])
    if starts_with_xavier(model, size):
        xavier(network)
    for name, parameter in network.named_parameters():
        if size.shut and name.endswith("gate.2.weight"):
            nn.init.zeros_(parameter)
    return network


def starts_with_xavier(model: str, size: ReferringSize) -> bool:
    """Whether the first weights are Xavier's. Decoder fusion's always are."""
    return size.xavier or model == "decoder_fusion"


MODELS: dict[str, Callable[[ReferringSize, int], nn.Module]] = {
    name: partial(small_model, name) for name in ("decoder_fusion", *PARTS)
}
small_decoder_fusion = MODELS["decoder_fusion"]

Words = Tokenizer | PhraseBook
Encoder = Callable[[int], nn.Module]  # makes the encoder of words for a width


def learned_words(tokenizer: Tokenizer, sentences: Iterable[str]) -> tuple[Words, Encoder | None]:
    """Leave the model its own small BERT, which is trained with it."""
    return tokenizer, None


def minilm_words(tokenizer: Tokenizer, sentences: Iterable[str]) -> tuple[Words, Encoder | None]:
    """MiniLM's frozen word features of these sentences, with one trained linear layer; the book replaces the tokenizer.

    Raises ModuleNotFoundError if MiniLM is not installed.
    """
    folder = minilm_folder()
    book = PhraseBook(sentences, load_bert(folder), load_tokenizer(folder), LENGTH)
    return book, partial(FrozenWords, book)


# Each returns what makes ids of sentences, and what makes the encoder that reads them (None: the model keeps its own).
# `sentences` are all sentences of the run.
LANGUAGE_ENCODERS: dict[str, Callable[[Tokenizer, Iterable[str]], tuple[Words, Encoder | None]]] = {
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
    size = replace(size, xavier=starts_with_xavier(model, size))
    tokenizer, drawn = build_tokenizer(referring_scenes.vocabulary("english")), draw_scenes(size, seed)
    words, encoder = LANGUAGE_ENCODERS[language](tokenizer, drawn.sentences())

    def build(size: ReferringSize) -> nn.Module:
        network = MODELS[model](size, len(tokenizer))
        if encoder is not None:
            network.language = encoder(size.words)
        return network

    result = run(
        {"model": model, "profile": profile.name, "language": language},
        size,
        build,
        drawn.sets(words),
        RECIPE
        | {"epochs": size.epochs, "learning_rate": size.learning_rate, "seed": seed, "loss": dice_loss}
        | {"device": device, "checkpoint": checkpoint, "progress": progress},
        score=SCORE,
        score_name=SCORE,
        shown=[field.name for field in fields(size) if field.name not in ("heads", "window")],
        finish=scores,
        prepare=standardise,
    )
    return replace(result, description=describe(model, size, len(tokenizer)) if encoder is None else None)


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


def scores(model: nn.Module, sets: Sets) -> dict[str, float]:
    """oIoU, mIoU and P@X on the test set; mIoU of each kind of expression, and of each of the sets' `further` ones."""
    found = evaluate(model, sets.test)
    numbers = {"oIoU": found.oiou, "mIoU": found.miou}
    numbers |= {f"P@{threshold:.1f}": share for threshold, share in found.precisions.items()}
    numbers |= {f"mIoU {kind}": part.miou for kind, part in found.by(sets.kinds, KINDS).items()}
    return numbers | {f"mIoU {name}": evaluate(model, further).miou for name, further in sets.further.items()}


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
