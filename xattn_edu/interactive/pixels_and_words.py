"""Pixels and words in a trained LAVT: one stage recomputed in the browser, beside the masks of the whole model."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from xattn_edu.data import scenes as referring_scenes
from xattn_edu.data.scenes import CATEGORIES, COLOURS
from xattn_edu.interactive import trained
from xattn_edu.interactive.picture import LARGEST, Mask, Picture, Scaled, encoded
from xattn_edu.models.lavt import LAVT, StageMaps
from xattn_edu.models.masks import predicted_masks, resize
from xattn_edu.models.pwam import PixelWordAttention, instance_norm
from xattn_edu.plots import referring as drawing
from xattn_edu.plots import style
from xattn_edu.predict.segmenter import Segmenter
from xattn_edu.shapes import whole_number

GATES = (0.0, 0.25, 0.5, 0.75)  # how far open; 1 is the model as it is
# Words that can stand for one another in a sentence.
GROUPS = (
    *((*COLOURS,), *(CATEGORIES["emoji"],)),
    *(("left", "right"), ("top", "bottom"), ("above", "below"), ("higher", "lower"), ("big", "small")),
    *(("largest", "smallest"), ("biggest", "smallest"), ("leftmost", "rightmost"), ("topmost", "lowest")),
    *(("highest", "lowest"), ("closest", "furthest"), ("first", "second", "third")),
)


def pixels_and_words(scene: int = 78, sentence: str | None = None) -> Picture:
    """Point at a pixel and see its words, point at a word and see its pixels, in the trained LAVT of notebooks 11, 12.

    Words can be struck out and exchanged, the scale switched off, the gates shut. The browser recomputes the stage
    from the pixels' V and the words' keys and values. The whole model's masks are stored, one for each single change.
    With a kernel the reader types a sentence.

    `scene` is the number of a test scene, `sentence` by default its own. Raises TypeError if `scene` is no int,
    ValueError for another number, for a blank sentence, and for one with more pieces than the model reads (20), and
    FileNotFoundError without the stored weights.
    """
    return Picture("pixels_and_words", "Pixels and words in LAVT", exported(scene, sentence), figure, _own)


def _own(request: dict[str, Any]) -> dict[str, Any]:
    return exported(request.get("scene"), request.get("sentence"))


@torch.no_grad()
def exported(scene: Any, sentence: str | None = None) -> dict[str, Any]:
    """The data of the picture: image, words, stages, words to exchange, and the masks of the whole model."""
    scene = whole_number("scene", scene, 0, 9999)
    segmenter = trained.segmenter()
    one = referring_scenes.scenes("test", 1, start=scene, size=segmenter.size)
    sentence = one.sentences[0] if sentence is None else sentence
    words = segmenter.read(sentence)  # which refuses what is no sentence
    if words.cut_off:
        raise ValueError(f"the model reads {segmenter.length} pieces at most: leave out {words.cut_off!r}")
    run = Run(segmenter, segmenter.pixels(one.images[0])[None], sentence)
    others = list(_others(segmenter, sentence, one.layout.category[0][one.layout.present[0]].tolist()))
    seen = [Run(segmenter, run.images, other["sentence"]) for other in others]
    data: dict[str, Any] = {
        "scene": scene,
        "sentence": sentence,
        "remark": "; ".join(segmenter.remarks(sentence)),
        "image": sixteen_bits(one.images[0]),
        "truth": Mask(one.masks[0]),
        "words": segmenter.tokenizer.tokens(run.ids[0]),
        "answers": list(_answers(run, seen, others)),
    }
    largest = run.stages[0].weights[0].mean(dim=0).amax(dim=-1)  # of each pixel; the clearest is marked
    data["pixel"] = list(divmod(int(largest.argmax()), largest.shape[1]))
    data["word"] = int(run.stages[0].weights[0].mean(dim=0)[tuple(data["pixel"])].argmax())
    for whole in (2, 1, 0):  # as many stages with F as there is room for
        data["stages"] = [_stage(run, number, number < whole) for number in range(len(run.stages))]
        data["others"] = [
            {"place": other["place"], "word": other["word"]} | _exchanged(seen[at], other["place"], whole)
            for at, other in enumerate(others)
        ]
        if len(json.dumps(encoded(data))) < LARGEST - 500:  # room for the colours
            break
    return data


class Run:
    """The model on one image and one sentence: its words, its stages, its mask."""

    def __init__(self, segmenter: Segmenter, images: Tensor, sentence: str):
        self.segmenter, self.images = segmenter, images
        ids, mask = segmenter.ids([sentence])
        self.model: LAVT = segmenter.model  # type: ignore[assignment]
        self.mask = mask[:, : int(mask.sum())]
        self.ids = ids[:, : self.mask.shape[1]]
        self.words = self.model.language(ids, mask)[:, : self.mask.shape[1]]
        self.stages = self.model.stages(images, self.words, self.mask)

    def found(self, stages: list[StageMaps] | None = None) -> Tensor:
        """The mask (height, width) bool that the decoder makes of the stages."""
        norms, chosen = self.model.image_encoder.norms, self.stages if stages is None else stages
        logits = self.model.decoder([norm(stage.fused) for norm, stage in zip(norms, chosen)])
        return predicted_masks(resize(logits, self.images.shape[2:]))[0]  # type: ignore[arg-type]

    def without(self, place: int) -> Tensor:
        """The mask if no pixel may attend to one word, at any stage."""
        mask = self.mask.clone()
        mask[0, place] = False
        return self.found(self.model.stages(self.images, self.words, mask))

    def with_gates(self, opened: float) -> Tensor:
        """The mask if each gate lets through only a part of what it would."""
        with changed_gates(self.model, opened):
            return self.found(self.model.stages(self.images, self.words, self.mask))

    def unscaled(self) -> Tensor:
        """The mask if no stage divides its scores."""
        fusions: list[Any] = list(self.model.fusions)
        widths = [fusion.width for fusion in fusions]
        try:
            for fusion in fusions:
                fusion.width = 1  # whose root is what the scores are divided by
            return self.found(self.model.stages(self.images, self.words, self.mask))
        finally:
            for fusion, width in zip(fusions, widths):
                fusion.width = width


@contextmanager
def changed_gates(model: LAVT, opened: float) -> Iterator[None]:
    """Inside, E_i = V_i + opened * gate(F_i) * F_i."""

    def part(_: nn.Module, given: tuple[Tensor, Tensor], onward: Tensor) -> Tensor:
        return given[0] + opened * (onward - given[0])

    hooks = [pathway.register_forward_hook(part) for pathway in model.pathways]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _stage(run: Run, number: int, whole: bool) -> dict[str, Any]:
    """What the browser needs of a stage: V and the matrices (`whole`), or the queries alone."""
    fusion, maps = run.model.fusions[number], run.stages[number].vision
    assert isinstance(fusion, PixelWordAttention)
    pixels = maps.flatten(1, 2)
    stage = {"grid": list(maps.shape[1:3]), "channels": fusion.width, "heads": fusion.heads}
    stage |= {"keys": _short(fusion.key(run.words)[0])}
    if not whole:
        return stage | {"query": Scaled(instance_norm(fusion.query(pixels))[0])}
    gate: Any = run.model.pathways[number].gate
    w = {"query": fusion.query.weight, "language": fusion.language.weight}  # whose biases the norms take away
    w |= {"vision": fusion.vision.weight, "vision_bias": fusion.vision.bias}
    w |= {"output": fusion.output.weight, "output_bias": fusion.output.bias}
    w |= {"gate_in": gate[0].weight, "gate_out": gate[2].weight}
    stage |= {"vision": Scaled(pixels[0]), "values": _short(fusion.value(run.words)[0])}
    return stage | {"w": {name: _short(matrix) for name, matrix in w.items()}}


def _exchanged(run: Run, place: int, whole: int) -> dict[str, Any]:
    """Keys and values of one word, for each stage."""
    word, fusions = run.words[:, place], cast(Sequence[PixelWordAttention], run.model.fusions)
    keys = [_short(fusion.key(word)[0]) for fusion in fusions]
    return {"keys": keys, "values": [_short(fusion.value(word)[0]) for fusion in fusions[:whole]]}


def _short(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float16)


def _others(segmenter: Segmenter, sentence: str, present: list[int]) -> Iterator[dict[str, Any]]:
    """Sentences with one word exchanged: {place, word, sentence}. Nouns are those of the scene first."""
    words = segmenter.read(sentence)
    nouns = [CATEGORIES["emoji"][category] for category in dict.fromkeys(present)]
    read = words.words[1:-1]
    for at, (word, places) in enumerate(zip(read, words.pieces[1:-1])):
        group = next((group for group in GROUPS if word in group), ())
        first = [other for other in group if other in nouns]
        for other in [*first, *(other for other in group if other not in nouns)][:3]:
            changed = " ".join([*read[:at], other, *read[at + 1 :]])
            ids = segmenter.read(changed)
            if other != word and len(places) == 1 and ids.mask.sum() == words.mask.sum():
                yield {"place": places[0], "word": other, "sentence": changed}


def _answers(run: Run, seen: list[Run], others: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The whole model's mask as it is, and with each single change; `words` say which."""
    yield _answer("as it is", 0, "as it is", run.found())
    for place, word in enumerate(run.segmenter.tokenizer.tokens(run.ids[0])):
        yield _answer("strike", place, f"no pixel may attend to “{word}”", run.without(place))
    for number, (other, changed) in enumerate(zip(others, seen)):
        yield _answer("exchange", number, f"given “{other['sentence']}”", changed.found())
    for opened in GATES:
        yield _answer("gate", opened, f"gates {opened:.0%} open", run.with_gates(opened))
    yield _answer("scale", 0, "without the division by √C", run.unscaled())


def _answer(what: str, which: float, words: str, mask: Tensor) -> dict[str, Any]:
    return {"what": what, "which": which, "words": words, "mask": Mask(mask.numpy())}


def sixteen_bits(image: np.ndarray) -> np.ndarray:
    """(row, column, 3) uint8 as (row, column, 2) uint8: five bits of red, six of green, five of blue."""
    red, green, blue = (
        np.rint(image[..., channel] / 255 * most).astype(int) for channel, most in enumerate((31, 63, 31))
    )
    pixels = (red << 11) + (green << 5) + blue
    return np.stack([pixels >> 8, pixels & 255], axis=-1).astype(np.uint8)


def eight_bits(image: np.ndarray) -> np.ndarray:
    """The image, (row, column, 3) uint8, that `sixteen_bits` made shorter; off by 4 at most."""
    pixels = image[..., 0].astype(int) * 256 + image[..., 1]
    channels = (pixels >> 11) / 31, (pixels >> 5 & 63) / 63, (pixels & 31) / 31
    return np.rint(255 * np.stack(channels, axis=-1)).astype(np.uint8)


def figure(data: dict[str, Any]) -> Figure:
    """The still picture: the scene, the pixels that read the word most, and the shares of one pixel."""
    stage = attention(data, 0)
    shares, place = stage.mean(axis=0) * len(data["words"]), tuple(data["pixel"])
    image = eight_bits(data["image"])
    truth, mask = data["truth"].array, data["answers"][0]["mask"].array
    made, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 3.1), width_ratios=[1, 1.25, 1.15])
    drawing.referent(image, truth, data["sentence"], predicted=mask, ax=left)
    side = image.shape[0]
    shown = middle.imshow(shares[..., data["word"]], cmap=style.WEIGHTS, vmin=0, extent=(0, side, side, 0))
    made.colorbar(shown, ax=middle, shrink=0.85, label="even shares")
    scale = side / shares.shape[0]
    box = plt.Rectangle((place[1] * scale, place[0] * scale), scale, scale, fill=False, ec=style.ORANGE, lw=2)
    middle.add_patch(box)
    middle.set_axis_off()
    style.caption(middle, f"who reads “{data['words'][data['word']]}”, stage 1")
    right.barh(range(len(data["words"])), shares[place], color=style.KEY)
    right.set_yticks(range(len(data["words"])), data["words"])
    right.invert_yaxis()
    right.axvline(1, color=style.GREY, ls=":", lw=1.5)
    right.set_xlabel("even shares of the marked pixel")
    style.headline(made, "Each pixel divides its attention among the words")
    return made


def attention(data: dict[str, Any], number: int) -> np.ndarray:
    """The attention (head, row, column, word) of a stage, from what the picture exports."""
    stage = data["stages"][number]
    if "vision" in stage:
        pixels = torch.from_numpy(stage["vision"].values)
        query = instance_norm((pixels @ torch.from_numpy(stage["w"]["query"]).float().T)[None])[0]
    else:
        query = torch.from_numpy(stage["query"].values)
    heads, keys = stage["heads"], torch.from_numpy(stage["keys"]).float()
    apart = [part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in (query, keys)]
    weights = (apart[0] @ apart[1].mT / stage["channels"] ** 0.5).softmax(dim=-1)
    return weights.unflatten(1, stage["grid"]).numpy()
