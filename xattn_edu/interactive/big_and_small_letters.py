"""What CrossViT's branches answer about big letters made of small ones, with each fusion: lesson 8, section 8.9.

The answers are stored, because five models must be trained for them: tools/letters.py writes
results/benchmarks/letters.json.
"""

import json
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor, nn

from xattn_edu.data.hierarchical import NAMES, Letters, letters
from xattn_edu.experiments.fusions import train_fusion
from xattn_edu.experiments.runs import RESULTS
from xattn_edu.files import read_json
from xattn_edu.interactive.picture import Picture
from xattn_edu.models.fusions import PAPER_FUSIONS
from xattn_edu.models.layers import evaluating
from xattn_edu.plots.style import GREY, SKY

STORED = RESULTS / "benchmarks" / "letters.json"
TEST_PICTURES = 2000
VOICES = ("S", "L", "mean")  # the classifier of branch S, that of L, and their averaged logits
KINDS = ("big", "small", "relation")


def big_and_small_letters() -> Picture:
    """All sixteen pairs of a big letter and the small one it is made of, and the answers of five trained models.

    Raises FileNotFoundError without the stored answers.
    """
    stored = read_json(STORED)
    test = letters("test", TEST_PICTURES)
    data = {
        "names": list(NAMES),
        "tested": TEST_PICTURES,
        "fusions": [{"name": name.replace("_", " ")} | stored["fusions"][name] for name in PAPER_FUSIONS],
        "pictures": [views(test, index) for index in stored["pictures"]],
    }
    return Picture("big_and_small_letters", "Big letters made of small ones: who knows which?", data, draw)


def views(test: Letters, index: int) -> dict[str, Any]:
    """One picture, two pixels of 16 greys in each byte, and what the branches see of it, a byte for each pixel."""
    greys = (test.images[index] // 16).reshape(-1, 2)
    return {
        "image": (16 * greys[:, 0] + greys[:, 1]).astype(np.uint8).reshape(48, 24),
        "fovea": test.fovea[index, ::2, ::2],
        "thumbnail": test.thumbnail[index, ::6, ::6],
    }


def record(models: Mapping[str, nn.Module] | None = None) -> str:
    """The answers of the models as JSON, of one test picture for each pair of letters, and their accuracies on 2,000.

    "answers" holds shares in thousandths: [picture][one of VOICES][one of KINDS][letter or relation].
    `models` maps each of `PAPER_FUSIONS` to a model of the task "letters"; by default they are trained, with seed 0 in
    the profile ci, which takes some minutes.
    """
    if models is None:
        models = {name: train_fusion("letters", name, seed=0, profile="ci").model.cpu() for name in PAPER_FUSIONS}
    test = letters("test", TEST_PICTURES)
    first = [int(np.flatnonzero(test.pair == pair)[0]) for pair in range(16)]
    truth = {"big": test.big, "small": test.small, "relation": test.relation}
    found = {}
    for name in PAPER_FUSIONS:
        shares = answers(models[name], test)
        right = {
            voice: {kind: round(float((shares[voice][kind].argmax(1) == truth[kind]).mean()), 4) for kind in KINDS}
            for voice in VOICES
        }
        each = np.stack([np.stack([shares[voice][kind][first] for kind in KINDS], 1) for voice in VOICES], 1)
        found[name] = {"right": right, "answers": (1000 * each).round().astype(int).tolist()}
    settings = {"seed": 0, "profile": "ci", "test_pictures": TEST_PICTURES, "pictures": first}
    return json.dumps(settings | {"fusions": found}, separators=(",", ":")) + "\n"


@torch.no_grad()
def answers(model: nn.Module, test: Letters) -> dict[str, dict[str, ndarray]]:
    """The shares (picture, 4) that each of `VOICES` gives the big letters, the small letters and the four relations.

    The share of a big letter is the sum over its four pairs.
    """
    fovea, thumbnail, _ = test.tensors()
    with evaluating(model):
        logits = model.branch_logits(fovea, thumbnail)[0]  # type: ignore[operator]
    voices = dict(zip(VOICES, (logits[:, 0], logits[:, 1], logits.mean(dim=1))))
    return {voice: _shares(of_voice) for voice, of_voice in voices.items()}


def _shares(logits: Tensor) -> dict[str, ndarray]:
    pairs = logits[:, :16].softmax(dim=1).unflatten(1, (4, 4))  # picture, big, small
    found = {"big": pairs.sum(dim=2), "small": pairs.sum(dim=1), "relation": logits[:, 16:].softmax(dim=1)}
    return {kind: share.numpy() for kind, share in found.items()}


def draw(data: dict[str, Any]) -> Figure:
    """The still picture: how often each classifier names each letter, and how often the relation is right."""
    columns = {
        "S names small": ("S", "small"),
        "S names big": ("S", "big"),
        "L names big": ("L", "big"),
        "L names small": ("L", "small"),
        "both: relation": ("mean", "relation"),
    }
    names = [fusion["name"] for fusion in data["fusions"]]
    figure, axes = plt.subplots(1, len(columns), figsize=(11, 2.8), sharey=True)
    for ax, (title, (voice, kind)) in zip(axes, columns.items()):
        right = [100 * fusion["right"][voice][kind] for fusion in data["fusions"]]
        ax.barh(names, right, color=[GREY if share < 40 else SKY for share in right])
        ax.axvline(25, color="black", lw=1, ls=":")
        ax.set(xlim=(0, 100), xlabel="right (%)")
        ax.set_title(title)
    axes[0].invert_yaxis()
    figure.suptitle(
        "S sees the small letter, L the big one: what the other branch sees crosses only with a fusion",
        x=0.01, ha="left", fontweight="bold",
    )  # fmt: skip
    return figure
