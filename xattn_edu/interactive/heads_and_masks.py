"""Heads and masks: the self-attention of a small trained language model, with its heads split right and wrong."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from xattn_edu.interactive.picture import Picture
from xattn_edu.interactive.trained import segmenter
from xattn_edu.plots import style

SENTENCES = (
    "the orange house to the right of the mushroom",
    "the mushroom to the right of the orange house",
    "the cat that is not white",
)


def heads_and_masks(sentences: Sequence[str] = SENTENCES) -> Picture:
    """Choose head, mask and the way heads are split, in the layers of the stored LAVT's word encoder (a small BERT).

    The weights are recomputed from exported queries, keys and values. With a kernel the reader types a sentence. Raises
    ValueError for no sentence and for a blank one, TypeError for a single string.
    """
    return Picture("heads_and_masks", "Heads and masks", exported(sentences), figure, _own)


def _own(request: dict[str, Any]) -> dict[str, Any]:
    sentence = request.get("sentence", "")
    remark = "; ".join(segmenter().remarks(sentence))
    return exported([sentence]) | {"remark": remark}


@torch.no_grad()
def exported(sentences: Sequence[str]) -> dict[str, Any]:
    """The data of the picture: for each sentence its pieces, and q, k and v (piece, channel) of each layer."""
    model, tokenizer = segmenter().model, segmenter().tokenizer
    bert = model.language.bert  # type: ignore[union-attr]
    found = []
    tokenizer(sentences)  # refuses what are no sentences
    for sentence in sentences:
        ids, mask = tokenizer([sentence], None)
        made: list[dict[str, Tensor]] = []
        hooks = [_remember(layer.attention.self, made) for layer in bert.encoder.layer]  # type: ignore[union-attr]
        try:
            model.language(ids, mask)  # type: ignore[operator]
        finally:
            for hook in sum(hooks, []):
                hook.remove()
        layers = [{name: x[0].numpy().astype(np.float16) for name, x in layer.items()} for layer in made]
        found.append({"words": tokenizer.tokens(ids[0]), "layers": layers})
    config: Any = bert.config  # type: ignore[union-attr]
    return {"width": config.hidden_size, "heads": config.num_attention_heads, "sentences": found}


def _remember(attention: Any, made: list[dict[str, Tensor]]) -> list[Any]:
    """Keep what a layer's three projections make, when the model runs, as {"q", "k", "v"}."""
    layer: dict[str, Tensor] = {}
    made.append(layer)

    def keep(name: str) -> Any:
        return lambda _, given, x: layer.update({name: x})

    return [getattr(attention, name).register_forward_hook(keep(name[0])) for name in ("query", "key", "value")]


def weights(data: dict[str, Any], sentence: int, layer: int, right: bool, mask: Tensor | None = None) -> Tensor:
    """Attention (head, query, key) from what the picture exports; `right` splits by a transpose, not by a view."""
    parts = data["sentences"][sentence]["layers"][layer]
    q, k = (split(torch.from_numpy(parts[name]).float(), data["heads"], right) for name in ("q", "k"))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1)


def split(tokens: Tensor, heads: int, right: bool) -> Tensor:
    """(token, width) to (head, token, width / heads): by a transpose, or wrong, by a bare view."""
    count, width = tokens.shape
    if right:
        return tokens.view(count, heads, width // heads).transpose(0, 1)
    return tokens.view(heads, count, width // heads)


def figure(data: dict[str, Any]) -> Figure:
    """The still picture: the weights of the first head, split right and wrong."""
    words = data["sentences"][0]["words"]
    made, axes = plt.subplots(1, 2, figsize=(9.6, 4.4))
    for ax, right in zip(axes, (True, False)):
        shown = ax.imshow(weights(data, 0, 0, right)[0].numpy(), cmap=style.WEIGHTS, vmin=0, vmax=1)
        owner = range(len(words)) if right else [row // data["heads"] for row in range(len(words))]
        ax.set_xticks(range(len(words)), [words[i] for i in owner], rotation=60, ha="right", fontsize=9)
        ax.set_yticks(range(len(words)), [words[i] for i in owner], fontsize=9)
        style.caption(
            ax, "head 1, split by a transpose" if right else "head 1, split by a bare view: the first words only"
        )
    made.colorbar(shown, ax=axes, shrink=0.8, label="weight")
    style.headline(made, "A bare view gives a head the wrong words")
    return made
