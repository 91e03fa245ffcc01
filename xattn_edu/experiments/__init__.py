"""The course's measured experiments: recipes that notebooks call and `xattn reproduce` runs with several seeds.

A recipe is a function of its settings, a seed and a profile. Its result goes to results/ as one JSON a run; notebooks
read the numbers from there with `load_results`.
"""

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from xattn_edu.channel_spatial import MIXERS
from xattn_edu.checkpoints import write_atomically
from xattn_edu.crossvit import FUSIONS
from xattn_edu.experiments.fashion import SIZES, little_data, small_vit, vit_fashion_mnist, vit_mixers
from xattn_edu.experiments.fusions import RATES, SETTINGS, TASKS, fusion_rates, fusion_search, fusions, small_crossvit
from xattn_edu.experiments.records import Result, describe_machine
from xattn_edu.experiments.referring import (
    MODELS,
    RECIPE_CHANGES,
    lavt_ablation,
    lavt_finer,
    lavt_recipe,
    referring_segmentation,
)
from xattn_edu.experiments.translation import translate
from xattn_edu.profiles import Profile
from xattn_edu.training import History

__all__ = [
    "EXPERIMENTS",
    "RESULTS",
    "SIZES",
    "Experiment",
    "Result",
    "describe_machine",
    "fusion_rates",
    "fusion_search",
    "fusions",
    "lavt_ablation",
    "lavt_finer",
    "lavt_recipe",
    "little_data",
    "load_results",
    "load_weights",
    "referring_segmentation",
    "reproduce",
    "result_path",
    "small_crossvit",
    "small_vit",
    "translate",
    "vit_fashion_mnist",
    "vit_mixers",
]

RESULTS = Path(__file__).parents[2] / "results"


@dataclass(frozen=True)
class Experiment:
    """A recipe and the settings it is run with: every combination, with every seed.

    Of the models named in `keep_weights`, values of the setting "model", the weights of seed 0 are stored beside its
    record, in float16.
    """

    description: str
    recipe: Callable[..., Result]
    grid: dict[str, tuple[Any, ...]]
    keep_weights: tuple[str, ...] = ()

    def points(self, **chosen: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """Each combination of the grid's settings, or of those `chosen` instead."""
        values = [chosen.get(name) or default for name, default in self.grid.items()]
        for point in itertools.product(*values):
            yield dict(zip(self.grid, point))


EXPERIMENTS = {
    "vit-fashion-mnist": Experiment(
        "a small ViT on Fashion-MNIST with patches of 4, 7 and 14 pixels: accuracy against cost (notebook 06)",
        vit_fashion_mnist,
        {"patch": (4, 7, 14)},
    ),
    "vit-little-data": Experiment(
        "a ViT and a CNN of its size on 100 to 12,000 images, about the same number of steps (notebook 06)",
        little_data,
        {"model": ("vit", "cnn"), "images": (100, 300, 1000, 3000, 12000)},
    ),
    "translation": Experiment(
        "dates and numbers to ISO form, with cross-attention and through a bottleneck of one vector (notebook 03)",
        translate,
        {"model": ("cross_attention", "bottleneck")},
    ),
    "vit-mixers": Experiment(
        "the small ViT with self-attention and with something else in its place, same budget (notebook 04)",
        vit_mixers,
        {"mixer": ("attention", *MIXERS)},
    ),
    "fusion-rates": Experiment(
        "learning rates for CrossViT's fusions, compared on held-out images (notebook 08)",
        fusion_rates,
        {"task": tuple(TASKS), "fusion": tuple(FUSIONS), "rate": RATES},
    ),
    "fusions": Experiment(
        "CrossViT's five fusions on three tasks, and each head alone (notebook 08)",
        fusions,
        {"task": tuple(TASKS), "fusion": tuple(FUSIONS)},
    ),
    "fusion-search": Experiment(
        "a search for a setting in which cross-attention is ahead, as in the paper (notebook 08)",
        fusion_search,
        {"setting": tuple(SETTINGS), "fusion": tuple(FUSIONS)},
    ),
    "referring": Experiment(
        "find the object that a sentence names, pixel by pixel, in small scenes (notebook 10)",
        referring_segmentation,
        {"model": ("decoder_fusion",)},
        keep_weights=("decoder_fusion",),
    ),
    "lavt": Experiment(
        "the same with LAVT, without each of its parts, and fused in the decoder, same encoder and budget (notebook 12)",
        lavt_ablation,
        {"model": tuple(MODELS)},
        keep_weights=("lavt",),
    ),
    "lavt-finer": Experiment(
        "LAVT with and without its language pathway, on a finer grid and with more blocks behind the gates (notebook 12)",
        lavt_finer,
        {"model": ("lavt", "lavt_pwam")},
    ),
    "lavt-words": Experiment(
        "LAVT with MiniLM's words, frozen: what it makes of words it was never trained on (notebook 12; needs MiniLM)",
        lavt_ablation,
        {"model": ("lavt",), "language": ("minilm",)},
    ),
    "lavt-recipe": Experiment(
        "LAVT with one choice of its recipe taken back or changed at a time (notebook 12)",
        lavt_recipe,
        {"change": tuple(RECIPE_CHANGES)},
    ),
}


def reproduce(
    name: str, point: dict[str, Any], seed: int, profile: Profile, folder: Path, progress: bool = True
) -> dict[str, Any]:
    """One run of an experiment, or what is stored of it if it was finished before; an interrupted one is continued.

    The record is written to `folder` whole or not at all; the checkpoint beside it goes when it is.
    """
    path = result_path(name, point, seed, profile.name, folder)
    if path.exists():
        return _read_record(path)
    scratch = folder / ".checkpoints"
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / ".gitignore").write_text("*\n", encoding="ascii")
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = scratch / f"{path.parent.name}-{path.stem}.safetensors"
    recipe = functools.partial(EXPERIMENTS[name].recipe, checkpoint=checkpoint, progress=progress)
    result = recipe(**point, seed=seed, profile=profile)
    record = {"experiment": name} | result.record()
    if (
        point.get("model") in EXPERIMENTS[name].keep_weights and seed == 0
    ):  # before the record: where that is, the weights are
        half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in _state(result.model)}
        write_atomically(path.with_suffix(".safetensors"), safetensors.torch.save(half))
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
    checkpoint.unlink(missing_ok=True)
    return record


def _state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((key, tensor.cpu().contiguous()) for key, tensor in model.state_dict().items())


def load_weights(
    model: nn.Module, name: str, point: dict[str, Any], profile: str, folder: str | Path | None = None
) -> None:
    """Give `model` the weights that seed 0 of an experiment left beside its record, and put it in eval mode.

    Raises FileNotFoundError, saying how to make them, if there are none; ValueError for a file that holds no weights
    of such a model.
    """
    path = result_path(name, point, 0, profile, RESULTS if folder is None else Path(folder))
    path = path.with_suffix(".safetensors")
    if not path.exists():
        raise FileNotFoundError(f"no weights {path}: run `xattn reproduce {name} --seeds 1 --profile {profile}`")
    try:
        model.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{path} holds no weights of this model ({error}): delete it and its .json, and run it again"
        ) from error
    model.eval()


def result_path(name: str, point: dict[str, Any], seed: int, profile: str, folder: Path) -> Path:
    """Where the record of a run lies: vit_fashion_mnist/patch-4_seed-0_ci.json."""
    settings = "_".join(f"{setting}-{value}" for setting, value in (point | {"seed": seed}).items())
    return folder / name.replace("-", "_") / f"{settings}_{profile}.json"


def load_results(name: str, folder: str | Path | None = None) -> list[dict[str, Any]]:
    """The stored runs of an experiment, a flat row each: settings, seed, profile, metrics, and "history" (a `History`).

    Raises FileNotFoundError, saying how to make them, if there are none; ValueError for a file that is no such record.
    """
    folder = RESULTS if folder is None else Path(folder)
    paths = sorted((folder / name.replace("-", "_")).glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"no results of {name!r} in {folder}: run `xattn reproduce {name.replace('_', '-')}`")
    rows = []
    for path in paths:
        record = _read_record(path)
        rows.append(record["config"] | record["metrics"] | {"history": History(record["history"])})
    return sorted(rows, key=lambda row: [_sortable(row[key]) for key in row if key in _order(name) or key == "seed"])


def _order(name: str) -> tuple[str, ...]:
    experiment = EXPERIMENTS.get(name.replace("_", "-"))
    return () if experiment is None else tuple(experiment.grid)


def _sortable(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        if not {"config", "metrics", "history"} <= record.keys():
            raise ValueError("config, metrics or history is missing")
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is not the record of a run ({error}): delete it and run the experiment again"
        ) from error
    return record
