"""Dates: where a translating decoder looks at each step, and what it writes with another sentence's keys or values."""

from collections.abc import Sequence
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from xattn_edu.data import translation
from xattn_edu.interactive.picture import Picture
from xattn_edu.models.attention import merge_heads
from xattn_edu.models.transformer import DecoderLayer, Transformer
from xattn_edu.plots import style
from xattn_edu.plots.weights import alignment

SENTENCES = ("5 March 1997", "8 July 2461", "7/8/2461", "5.9.1873")


def dates(model: Transformer, sentences: Sequence[str] = SENTENCES) -> Picture:
    """The decoder of notebook 3 writes step by step; lines show its cross-attention, which is computed in the browser.

    Keys and values of two sentences can be exchanged if both have the same number of tokens: what the whole model then
    writes is stored. With a kernel the reader types sentences. `model` is the trained Transformer. Raises TypeError for
    another model, ValueError for no sentence and for a word that the model does not know.
    """
    if not isinstance(model, Transformer):
        raise TypeError(f"dates needs the trained Transformer of notebook 3, given {type(model).__name__}")
    title = "A decoder writes a date, step by step"
    return Picture("dates", title, exported(model, sentences), figure, lambda request: _own(model, request))


def _own(model: Transformer, request: dict[str, Any]) -> dict[str, Any]:
    sentences = list(dict.fromkeys(str(request.get(name, "")) for name in ("keys", "values")))
    lengths = [len(translation.tokenize(sentence)) for sentence in sentences]
    if len({*lengths}) > 1:
        counted = " and ".join(f"{sentence!r} has {length}" for sentence, length in zip(sentences, lengths))
        raise ValueError(f"to exchange keys and values both need the same number of tokens: {counted}")
    return exported(model, sentences)


@torch.no_grad()
def exported(model: Transformer, sentences: Sequence[str]) -> dict[str, Any]:
    """The data: keys and values of each sentence, and for each pair that fits the queries and what is written."""
    if isinstance(sentences, str) or not sentences:
        raise ValueError(f"dates needs a list of one sentence or more, given {sentences!r}")
    was_training = model.training
    model.eval()
    try:
        sources = [Source(model, sentence) for sentence in sentences]
        pairs = [
            (i, j)
            for i, one in enumerate(sources)
            for j, other in enumerate(sources)
            if len(one.tokens) == len(other.tokens)
        ]
        runs = [
            {"keys_from": i, "values_from": j} | decoded(model, sources[i], sources[j]) for i, j in pairs
        ]  # each has the same number of layers
    finally:
        model.train(was_training)
    return {
        "heads": model.decoder.layers[0].cross_attention.heads,  # type: ignore[union-attr]
        "longest": max(len(run["written"]) for run in runs),
        "sentences": [source.exported() for source in sources],
        "runs": runs,
    }


class Source:
    """A sentence as the decoder reads it: keys and values (1, head, token, dim) of each layer."""

    def __init__(self, model: Transformer, sentence: str):
        self.sentence, self.ids = sentence, translation.encode([sentence])
        self.tokens = translation.tokenize(sentence)
        cache = model.begin(self.ids)
        model.step(torch.tensor([model.start]), cache)  # its first step makes the keys and values of the source
        self.layers = [layer.source for layer in cache.layers]

    def exported(self) -> dict[str, Any]:
        keys, values = zip(*(map(merge_heads, layer) for layer in self.layers if layer is not None))
        short = [[part[0].numpy().astype(np.float16) for part in parts] for parts in (keys, values)]
        return {"source": self.sentence, "tokens": list(self.tokens), "keys": short[0], "values": short[1]}


def decoded(model: Transformer, keys_of: Source, values_of: Source) -> dict[str, Any]:
    """What the model writes with the keys of one sentence and the values of another, and its queries at each step."""
    cache = model.begin(keys_of.ids)
    for layer, of_keys, of_values in zip(cache.layers, keys_of.layers, values_of.layers):
        assert of_keys is not None and of_values is not None
        layer.source = of_keys[0], of_values[1]
    asked: list[list[Tensor]] = [[] for _ in cache.layers]
    hooks = [
        layer.cross_attention.query.register_forward_hook(lambda _, given, q, kept=kept: kept.append(q[0, 0]))
        for layer, kept in zip(cast(Sequence[DecoderLayer], model.decoder.layers), asked)
    ]
    written: list[int] = []
    last = torch.tensor([model.start])
    try:
        while (not written or written[-1] != model.end) and len(written) < translation.TARGET_LENGTH:
            last = model.step(last, cache).argmax(dim=1)
            written.append(int(last))
    finally:
        for hook in hooks:
            hook.remove()
    words = ["end" if token == model.end else translation.VOCABULARY[token] for token in written]
    return {"written": words, "queries": [torch.stack(kept).numpy().astype(np.float16) for kept in asked]}


def weights(data: dict[str, Any], run: int, layer: int) -> Tensor:
    """Cross-attention (step, head, token) of a run, from what the picture exports."""
    one = data["runs"][run]
    keys = torch.from_numpy(data["sentences"][one["keys_from"]]["keys"][layer]).float()
    query = torch.from_numpy(one["queries"][layer]).float()
    apart = [part.unflatten(-1, (data["heads"], -1)).transpose(0, 1) for part in (query, keys)]
    scores = apart[0] @ apart[1].mT / apart[0].shape[-1] ** 0.5
    return scores.softmax(dim=-1).transpose(0, 1)


def figure(data: dict[str, Any]) -> Figure:
    """The still picture: the alignments of the first two sentences in the last layer, mean over the heads."""
    alone = [at for at, run in enumerate(data["runs"]) if run["keys_from"] == run["values_from"]][:2]
    made, axes = plt.subplots(1, len(alone), figsize=(4.8 * len(alone), 2.4), squeeze=False)
    for ax, at in zip(axes[0], alone):
        run = data["runs"][at]
        source = data["sentences"][run["keys_from"]]
        names = translation.romanize(source["tokens"])
        alignment(weights(data, at, -1).mean(dim=1), source=names, target=run["written"], ax=ax)
        style.caption(ax, source["source"])
    style.headline(made, "At each step the decoder looks at the source again")
    return made
