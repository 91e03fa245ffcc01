"""Attention heads of a trained language model on sentences: MiniLM's where it is installed, else stored ones."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xattn_edu.experiments.runs import RESULTS
from xattn_edu.files import read_json
from xattn_edu.models.attention import MultiHeadAttention
from xattn_edu.models.language import Bert, Tokenizer
from xattn_edu.shapes import shaped
from xattn_edu.weights.language import load_bert, load_tokenizer, minilm_folder

STORED = RESULTS / "benchmarks" / "heads.json"  # written by tools/heads.py
SENTENCES = (
    "the animal did not cross the street because it was too tired",
    "the street did not cross the animal because it was too tired",
    "tired too was it because street the cross not did animal the",
)


@shaped
def heads_of(
    encoder: Bert, ids: Int[Tensor, "1 word"], word_mask: Bool[Tensor, "1 word"]
) -> Float[Tensor, "layer head word word"]:
    """The attention weights of each layer and head of a BERT on one sentence without padding.

    Each layer's projections are loaded into a `MultiHeadAttention` of ours, which computes the weights from the tokens
    that enter the layer. Raises ValueError for padding.
    """
    if not word_mask.all():
        raise ValueError("heads_of needs a sentence without padding: call the tokenizer with length=None")
    entered: list[Tensor] = []

    def remember(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        entered.append(given[0] if given else named["hidden_states"])

    layers = [layer.attention for layer in encoder.bert.encoder.layer]
    hooks = [layer.self.register_forward_pre_hook(remember, with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad():
            encoder(ids, word_mask)
    finally:
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        return torch.stack([_as_ours(layer)(x, return_weights=True)[1][0] for layer, x in zip(layers, entered)])


def _as_ours(theirs: Any) -> MultiHeadAttention:
    """A layer of `transformers`' BERT as our layer, with the same weights."""
    query = theirs.self.query
    ours = MultiHeadAttention(query.out_features, theirs.self.num_attention_heads).to(query.weight)
    for name, linear in (("query", query), ("key", theirs.self.key), ("value", theirs.self.value)):
        getattr(ours, name).load_state_dict(linear.state_dict())
    ours.output.load_state_dict(theirs.output.dense.state_dict())
    return ours


def sentence_heads(sentence: str) -> tuple[list[str], Tensor]:
    """The pieces of a sentence and MiniLM's weights (layer, head, query, key) on it.

    MiniLM reads any sentence, but only the weights of `SENTENCES` are stored. Raises ModuleNotFoundError, with the
    command that installs MiniLM, for another sentence where it is not installed.
    """
    try:
        folder = minilm_folder()
    except ModuleNotFoundError as missing:
        stored = _stored()
        if sentence not in stored:
            known = "; ".join(repr(known) for known in stored)
            raise ModuleNotFoundError(f"{missing}. Without it there are only the stored sentences: {known}") from None
        weights = torch.tensor(stored[sentence]["thousandths"]) / 1000
        return stored[sentence]["words"], weights
    tokenizer, encoder = _minilm(folder)
    ids, mask = tokenizer([sentence], None)
    return tokenizer.tokens(ids[0]), heads_of(encoder, ids, mask)


@functools.cache
def _stored() -> dict[str, Any]:
    return read_json(STORED)["sentences"]


@functools.cache
def _minilm(folder: Path) -> tuple[Tokenizer, Bert]:
    return load_tokenizer(folder), load_bert(folder)


def record(sentences: Sequence[str] = SENTENCES) -> str:
    """The content of `STORED`: words, and weights in thousandths. Raises ModuleNotFoundError without MiniLM."""
    minilm_folder()
    stored = {}
    for sentence in sentences:
        words, weights = sentence_heads(sentence)
        stored[sentence] = {"words": words, "thousandths": (1000 * weights).round().int().tolist()}
    return json.dumps({"model": "all-MiniLM-L6-v2", "sentences": stored}, separators=(",", ":")) + "\n"
