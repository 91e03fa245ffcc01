"""Run an experiment, store its record and weights, and read what is stored."""

import functools
import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from xattn_edu.experiments.catalogue import EXPERIMENTS
from xattn_edu.experiments.records import Result
from xattn_edu.files import first_line, read_json, write_atomically
from xattn_edu.machine import Profile
from xattn_edu.training.history import History
from xattn_edu.weights.description import ModelDescription
from xattn_edu.weights.reading import read_weights

RESULTS = Path(__file__).parents[2] / "results"


def reproduce(
    name: str, point: dict[str, Any], seed: int, profile: Profile, folder: Path, progress: bool = True
) -> dict[str, Any]:
    """One run of an experiment, or what is stored of it if it was finished before; an interrupted one is continued.

    The record is written to `folder` whole or not at all; then the checkpoint beside it is removed.

    Args:
        name: a key of EXPERIMENTS.
        point: the settings of the run, one value for each key of the experiment's grid.
        seed: the seed of the run.
        profile: the size of the run.
        folder: where the record goes.
        progress: whether to show a bar.

    Raises ValueError for a stored file that is not a record, and what the experiment's recipe raises.
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
    if point.get("model") in EXPERIMENTS[name].keep_weights and seed < EXPERIMENTS[name].kept_seeds:
        # The weights come first, so that they are there wherever the record is.
        _store_weights(result, path.with_suffix(".safetensors"))
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
    checkpoint.unlink(missing_ok=True)
    return record


def _store_weights(result: Result, path: Path) -> None:
    """In float16, with the description of their model as metadata."""
    state = {key: tensor.cpu().contiguous() for key, tensor in result.model.state_dict().items()}
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    metadata = None if result.description is None else result.description.metadata()
    write_atomically(path, safetensors.torch.save(half, metadata))


def load_weights(
    model: nn.Module,
    name: str,
    point: dict[str, Any],
    profile: str,
    folder: str | Path | None = None,
    *,
    seed: int = 0,
) -> None:
    """Load the weights that a seed of an experiment stored beside its record into `model`, and put it in eval mode.

    Raises FileNotFoundError, with the command that makes them, if there are none; ValueError for a file that is damaged
    or of another model, also if only a setting differs that no tensor shows. `predict.loading.load_segmenter` builds
    the model that the file describes.
    """
    path = result_path(name, point, seed, profile, RESULTS if folder is None else Path(folder))
    path = path.with_suffix(".safetensors")
    if not path.exists():
        raise FileNotFoundError(
            f"no weights {path}: run `xattn reproduce {name} --seeds {seed + 1} --profile {profile}`"
        )
    try:
        parts, metadata = read_weights(path)
        description = ModelDescription.from_metadata(metadata)
        if description is not None and (difference := description.difference(model)):
            raise ValueError(difference)
        model.load_state_dict(parts["model"])
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no weights of this model ({first_line(error)}): give the model that it was made with "
            "(load_segmenter builds it), or delete it and its .json, and run it again"
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
    number = isinstance(value, int | float)
    return not number, value if number else str(value)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
        expected: dict[str, type] = {"config": dict, "metrics": dict, "history": list}
        if not isinstance(record, dict) or not all(isinstance(record.get(name), expected[name]) for name in expected):
            raise ValueError("config, metrics or history is missing")
        rows = [record["metrics"], *record["history"]]
        if not all(
            isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values()) for row in rows
        ):
            raise ValueError("metrics, and each epoch of history, should be numbers by name")
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"{path} is not the record of a run ({error}): delete it and run the experiment again"
        ) from error
    return record
