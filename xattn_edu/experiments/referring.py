"""Recipes on referring segmentation: reduced models find, in small scenes, the object that a sentence names.

What a model got from the words is measured twice over: on the test set as it is, and with the words taken away, either
by giving each image the sentence of another one ("exchanged") or by putting its own words in any order ("disordered").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Size:
    """What a profile decides: the image encoder, the width where words and image meet, and how much is seen."""

    image: int  # pixels
    width: int  # of the image encoder's first stage; it doubles with each
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    patch: int
    words: int  # width of the language encoder
    fusion: int  # width of the decoder, Transformer or convolutions
    scenes: int
    epochs: int
    word_layers: int = 2  # of the language encoder
    positions: bool = False  # told to the image encoder, or found out by it
    easy: float = 0.0  # share of the training sentences that only say what the referent itself looks like
    xavier: bool = False  # LAVT's first weights: Xavier's instead of torch's
    shut: bool = False  # LAVT's gates, at first: their second layer is 0
    learning_rate: float = 1e-3
    test_scenes: int = 2000


SIZES = {
    "ci": Size(64, 32, (1, 2, 2), (2, 4, 8), 8, 4, words=64, fusion=64, scenes=16_000, epochs=4),
    "cpu": Size(64, 48, (2, 2, 4), (3, 6, 12), 8, 4, words=96, fusion=96, scenes=40_000, epochs=4),
    "gpu": Size(96, 64, (2, 2, 6, 2), (2, 4, 8, 16), 6, 2, words=128, fusion=192, scenes=200_000, epochs=10),
}
# For LAVT and its rivals, all with the same encoders and budget. Nothing in LAVT knows where a pixel lies but what Swin's
# padding tells; so small a Swin, trained from scratch, does not find it out in time: it is given positions. And a third
# of the training sentences are the easiest, which are learned late otherwise. Both, and first weights that are torch's,
# were chosen on validation scenes; `RECIPE_CHANGES` takes back one at a time, on the test's.
# Profile cpu has patches of 2 pixels and four stages: masks are finer, and the grid of 8 x 8, which one window covers, has
# four blocks after it has heard the words twice. Its learning rate is the best of three by the training loss after 1,000
# steps; fewer easy sentences leave time for the hard ones (not compared).
_LAVT: dict[str, Any] = {"word_layers": 1, "positions": True, "test_scenes": 1000}
_FINER: dict[str, Any] = {"patch": 2, "width": 16, "depths": (1, 1, 4, 2), "heads": (1, 2, 4, 8), "fusion": 32}
LAVT_SIZES = {
    "ci": replace(SIZES["ci"], scenes=12_000, epochs=2, easy=1 / 3, **_LAVT),
    "cpu": replace(SIZES["ci"], scenes=96_000, epochs=2, easy=1 / 6, learning_rate=2e-3, **_LAVT, **_FINER),
    "gpu": replace(SIZES["gpu"], scenes=400_000, epochs=2, easy=1 / 3, **_LAVT),
}
RECIPE_CHANGES: dict[str, dict[str, Any]] = {
    "no_positions": {"positions": False},
    "no_easy_sentences": {"easy": 0.0},
    "xavier": {"xavier": True},
    "finer": _FINER,
    "finer_and_faster": _FINER | {"learning_rate": 2e-3},
    "finer_and_shut": _FINER | {"learning_rate": 2e-3, "shut": True},
}
# The finer model in ci's steps as well: are there more blocks to hear the words, is the language pathway worth more?
FINER_SIZES = {name: replace(size, **RECIPE_CHANGES["finer_and_faster"]) for name, size in LAVT_SIZES.items()}
# SIZES' profile ci and these numbers were chosen among six settings, one seed each, by mIoU on the first 1,000 test
# scenes, not on scenes of their own. The differences were large (0.15 to 0.33), and other seeds have less than the one chosen with.
RECIPE: dict[str, Any] = {"batch_size": 16, "weight_decay": 0.01, "warmup": 0.1, "clip": 1.0}
LANGUAGE_ENCODERS = ("learned", "minilm")
LENGTH = 20  # word pieces, [CLS] and [SEP] among them, as in LAVT


def small_swin(size: Size) -> Swin:
    """The reduced image encoder, the same for every model."""
    return Swin(size.width, size.depths, size.heads, window=size.window, patch=size.patch, positions=size.positions)


def small_decoder_fusion(size: Size, vocabulary: int) -> DecoderFusion:
    """Words and image meet in a Transformer decoder behind the reduced image encoder."""
    language = SmallBert(vocabulary, size.words, size.word_layers)
    model = DecoderFusion(small_swin(size), language, size.fusion, heads=4)
    xavier(model)
    return model


def small_lavt(size: Size, vocabulary: int, **parts: bool) -> LAVT:
    """Words and image meet after every stage of the reduced image encoder; `parts` as LAVT's switches."""
    language = SmallBert(vocabulary, size.words, size.word_layers)
    model = LAVT(small_swin(size), language, decoder_width=size.fusion, **parts)
    if size.xavier:
        xavier(model)
    if size.shut:
        for name, parameter in model.pathways.named_parameters():
            if name.endswith("gate.2.weight"):
                nn.init.zeros_(parameter)
    return model


MODELS: dict[str, Callable[[Size, int], nn.Module]] = {
    "decoder_fusion": small_decoder_fusion,
    "lavt": small_lavt,
    "lavt_pwam": partial(small_lavt, language_pathway=False),
    "lavt_pathway": partial(small_lavt, pwam=False),
    "lavt_neither": partial(small_lavt, pwam=False, language_pathway=False),
}


def referring_segmentation(
    model: str = "decoder_fusion",
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    sizes: dict[str, Size] = SIZES,
    language: str = "learned",
    train_scenes: int | None = None,
    test_scenes: int | None = None,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train a reduced model on referring scenes, language encoder and all, from scratch, and test what it uses.

    The training scenes are drawn by the seed; the test's are always the same. With language="minilm" the language
    encoder is not trained: what MiniLM says of each sentence is looked up, and one linear layer learns to read it.
    `sizes` are SIZES (notebook 10), LAVT_SIZES or FINER_SIZES (notebook 12). The result's accuracy is the share of
    expressions found with an IoU of one half at least; `more` has the other scores (see `scores`). Raises ValueError
    for a model's name or language encoder that is not known, ModuleNotFoundError if MiniLM is not installed.
    """
    profile = choose_profile(profile)
    check_choice("model", model, MODELS)
    check_choice("language", language, LANGUAGE_ENCODERS)
    size = sizes[profile.name]
    count = size.scenes if train_scenes is None else train_scenes
    test_scenes = size.test_scenes if test_scenes is None else test_scenes
    epochs = size.epochs if epochs is None else epochs
    seed_everything(seed)
    tokenizer: Tokenizer | PhraseBook = build_tokenizer(referring_scenes.vocabulary("english"))
    network = MODELS[model](size, len(tokenizer))
    if language == "minilm":
        tokenizer = minilm_book(count, seed, size, test_scenes)
        network.language = FrozenWords(tokenizer, size.words)
    train_set = training_set(tokenizer, count, seed, size)
    counted = costs.count(network, *batch_of(train_set, torch.arange(1))[:3])
    history = train(
        network,
        train_set,
        epochs=epochs,
        seed=seed,
        loss=dice_loss,
        augment=standardise,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        learning_rate=size.learning_rate,
        **RECIPE,
    )
    found = scores(network, tokenizer, test_scenes, size.image)
    return Result(
        config={"model": model, "seed": seed, "profile": profile.name, "image": size.image, "patch": size.patch}
        | {"width": size.width, "depths": size.depths, "words": size.words, "fusion": size.fusion, "epochs": epochs}
        | {"word_layers": size.word_layers, "positions": size.positions, "easy": size.easy}
        | {"xavier": size.xavier, "shut": size.shut}
        | {"language": language, "train_scenes": count, "test_scenes": test_scenes, "steps": int(history["step"][-1])}
        | {"learning_rate": size.learning_rate}
        | RECIPE,
        model=network,
        history=history,
        accuracy=found.pop("P@0.5"),
        parameters=counted.parameters,
        macs=counted.macs,
        more=found,
        description=describe(model, size, len(tokenizer)) if language == "learned" else None,
    )


lavt_ablation = partial(referring_segmentation, sizes=LAVT_SIZES)
lavt_finer = partial(referring_segmentation, sizes=FINER_SIZES)


def lavt_recipe(change: str, seed: int = 0, profile: str | Profile | None = None, **settings: Any) -> Result:
    """LAVT with one thing in its recipe changed, a key of RECIPE_CHANGES: what the choices of LAVT_SIZES are worth.

    `settings` are `referring_segmentation`'s. Raises ValueError for a change that is not known.
    """
    check_choice("change", change, RECIPE_CHANGES)
    sizes = {name: replace(size, **RECIPE_CHANGES[change]) for name, size in LAVT_SIZES.items()}
    result = referring_segmentation("lavt", seed, profile, sizes=sizes, **settings)
    return replace(result, config={"change": change} | result.config)


def training_set(tokenizer: Tokenizer | PhraseBook, count: int, seed: int, size: Size) -> TensorDataset:
    """`count` training scenes, all kinds of sentences equally often, but for the share of easy ones."""
    parts = [
        scene_set(referring_scenes.scenes("train", part, seed, size=size.image, kinds=kinds), tokenizer).tensors
        for part, kinds in _lots(count, size)
    ]
    return TensorDataset(*(torch.cat(tensors) for tensors in zip(*parts)))


def _lots(count: int, size: Size) -> list[tuple[int, Sequence[str]]]:
    easy = round(size.easy * count)
    return [(part, kinds) for part, kinds in ((count - easy, KINDS), (easy, ("attribute",))) if part]


def minilm_book(count: int, seed: int, size: Size, test_scenes: int) -> PhraseBook:
    """What MiniLM says of every sentence that a run trains on or is tested with."""
    folder = minilm_folder()
    drawn = [referring_scenes.scene_layouts("train", part, seed, kinds=kinds)[1] for part, kinds in _lots(count, size)]
    drawn += [
        referring_scenes.scene_layouts(split, test_scenes)[1] for split in ("test", "unseen_words", "unseen_pairs")
    ]
    test = drawn[-3]
    return PhraseBook(chain(*drawn, disordered(test)), load_bert(folder), load_tokenizer(folder), LENGTH)


def scores(model: nn.Module, tokenizer: Tokenizer | PhraseBook, count: int, size: int) -> dict[str, float]:
    """oIoU, mIoU and P@X on the test scenes; mIoU of each kind of expression, on the held-out splits, without words."""
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
    """Scenes to train on or test with: (image uint8, ids, mask of the words, mask of the referent) a sample.

    Images (3, size, size) stay bytes, a quarter of the memory; `standardise` them where they are used. `sentences`
    take the place of the scenes' own.
    """
    ids, mask = tokenizer(scenes.sentences if sentences is None else sentences, LENGTH)
    images = torch.from_numpy(scenes.images).permute(0, 3, 1, 2)
    return TensorDataset(images, ids, mask, torch.from_numpy(scenes.masks.astype(np.uint8)))


def standardise(images: Tensor) -> Tensor:
    """Bytes as numbers of mean about 0 and deviation about 1."""
    return (images.float() - MEAN) / DEVIATION


def batch_of(samples: TensorDataset, indices: Tensor, device: torch.device | str = "cpu") -> list[Tensor]:
    """Images (standardised), ids, mask of the words, mask of the referent, each (batch, ...)."""
    images, *rest = take(samples, indices, torch.device(device))
    return [standardise(images), *rest]


@torch.no_grad()
def evaluate(model: nn.Module, samples: TensorDataset, batch_size: int = 100) -> Overlaps:
    """The overlap of each predicted mask with the referent, in eval mode; the model is left in the mode it was in."""
    device, found = next(model.parameters()).device, []
    with evaluating(model):
        for indices in torch.arange(len(samples)).split(batch_size):
            *inputs, masks = batch_of(samples, indices, device)
            found.append(overlaps(predicted_masks(model(*inputs)), masks.bool()))
    return Overlaps.concatenate(found)


def exchanged(sentences: Sequence[str]) -> list[str]:
    """Each scene with the sentence of the next one: what is found now was found without listening."""
    return [*sentences[1:], sentences[0]]


def disordered(sentences: Sequence[str], seed: int = 0) -> list[str]:
    """Each sentence with its words in any order: nothing is left of "left of the tree" but the words."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.permutation(sentence.split())) for sentence in sentences]


def describe(model: str, size: Size, vocabulary: int) -> ModelDescription:
    """What the weights of MODELS[model], built with this size and a vocabulary of so many ids, say of themselves."""
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
