"""The checkpoint that interrupted training is continued from."""

import functools
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from xattn_edu.files import first_line, parse_json, write_atomically

if TYPE_CHECKING:
    from accelerate import Accelerator

FORMAT = "xattn_edu training 3"  # stands in the header of every checkpoint
FIX = "delete it (or move it away) to start anew, or name another file"


@dataclass
class Progress:
    """How far a run is."""

    rows: list[dict[str, float]]  # of the history, one for each finished epoch
    step: int  # steps done
    totals: Tensor  # of the unfinished epoch: loss, right answers, samples


class Checkpoint:
    """The file a run is continued from: tensors of model and optimizer, and everything else in its header.

    `path` None is no checkpoint; `every` is the number of steps between two of them, None for the end of each epoch
    only. Raises ValueError for a path that cannot be written and an `every` below 1.
    """

    def __init__(
        self, path: str | Path | None, every: int | None, settings: dict[str, Any], model: nn.Module, train_set: Any
    ):
        if every is not None and every < 1:
            raise ValueError(f"checkpoint_every must be 1 step or more, given {every}")
        self.path, self.every = None if path is None else Path(path), every
        if self.path is None:
            return
        if not self.path.parent.is_dir():
            raise ValueError(f"the folder of checkpoint={str(path)!r} does not exist: create it first")
        if self.path.is_dir():
            raise ValueError(f"checkpoint={str(path)!r} is a folder: name a file in it")
        self.run = settings | {"data": _describe_data(train_set)} | _describe_model(model)

    def is_due(self, step: int) -> bool:
        """Whether `every` divides the number of steps done."""
        return self.every is not None and step % self.every == 0

    def save(
        self, accelerator: "Accelerator", model: nn.Module, optimizer: torch.optim.Optimizer, done: Progress
    ) -> None:
        """Write the file, unless the loss is no longer finite: such a run cannot be continued."""
        if self.path is None:
            return
        totals = accelerator.reduce(done.totals)
        if accelerator.is_main_process and totals[0].isfinite():
            from safetensors.torch import save

            tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
            for number, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
            tensors["totals"] = totals
            tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
            state = json.dumps({"run": self.run, "step": done.step, "history": done.rows})
            checksum = str(_checksum(tensors, state))
            write_atomically(self.path, save(tensors, {"format": FORMAT, "state": state, "checksum": checksum}))
        accelerator.wait_for_everyone()

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Give model and optimizer the state in the file, if there is one; raise ValueError if it is another run's."""
        if self.path is None or not self.path.exists():
            return Progress([], 0, torch.zeros(3))
        state, tensors = self._read()
        there, here = state["run"], self.run
        if there != here:
            names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
            differences = "; ".join(
                f"{name}: {there.get(name)!s:.200} there, {here.get(name)!s:.200} here" for name in names[:5]
            )
            raise ValueError(
                f"the checkpoint {self.path} belongs to another run ({differences}{'; ...' * (len(names) > 5)}): "
                "use the same settings, or another file name, or delete the file to start anew"
            )
        weights = {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}
        states: dict[int, dict[str, Tensor]] = {}
        try:
            model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
            for name, tensor in tensors.items():
                if name.startswith("optimizer."):
                    _, number, key = name.split(".")
                    states.setdefault(int(number), {})[key] = tensor
            optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
            return Progress(state["history"], state["step"], tensors["totals"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the checkpoint {self.path} does not fit ({first_line(error)}): {FIX}") from error

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        from safetensors import safe_open

        try:
            if self.path is None or not self.path.is_file():
                raise ValueError("it is no file")
            with safe_open(str(self.path), framework="pt") as file:
                metadata, names = file.metadata() or {}, file.keys()
                tensors = {name: file.get_tensor(name).clone() for name in names}
            if metadata.get("format") != FORMAT:
                raise ValueError("it is not a checkpoint of this training loop")
            if metadata.get("checksum") != str(_checksum(tensors, metadata.get("state", ""))):
                raise ValueError("its checksum does not match")
            state = parse_json(metadata["state"])
            if [type(state.get(name)) for name in ("run", "step", "history")] != [dict, int, list]:
                raise ValueError("its settings, its steps or its history are missing")
        except Exception as error:  # noqa: BLE001 - whatever damage does to the file, the fix is the same
            reason = error if type(error) is ValueError else first_line(error)
            raise ValueError(f"the checkpoint {self.path} is damaged or no checkpoint ({reason}): {FIX}") from error
        return state, tensors


def name_of(function: Any) -> str:
    """How a checkpoint describes a function: by its name, and the arguments that a partial has fixed."""
    if isinstance(function, functools.partial):
        fixed = [repr(value) for value in function.args] + [
            f"{key}={value!r}" for key, value in function.keywords.items()
        ]
        return f"{name_of(function.func)}({', '.join(fixed)})"
    return getattr(function, "__qualname__", repr(function))


def _describe_model(model: nn.Module) -> dict[str, str]:
    """Shapes of all tensors, and the numbers its modules were built with (heads, rates), keyed by name."""
    described = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, bool | int | float | str | tuple) and not name.startswith("_") and name != "training":
                described[f"model {path}.{name}" if path else f"model {name}"] = (
                    f"{value:g}" if isinstance(value, float) else str(value)
                )
    for name, tensor in model.state_dict().items():
        described[f"model {name}"] = f"{'x'.join(map(str, tensor.shape))} {tensor.dtype}"
    return described


def _describe_data(dataset: Any) -> str:
    samples = f"{len(dataset)} samples"
    if not isinstance(dataset, TensorDataset):
        return samples
    return f"{samples}, checksum {_checksum({str(n): tensor for n, tensor in enumerate(dataset.tensors)}):08x}"


def _checksum(tensors: dict[str, Tensor], text: str = "") -> int:
    value = zlib.crc32(text.encode())
    for name in sorted(tensors):
        value = zlib.crc32(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode(), value)
        value = zlib.crc32(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data, value)
    return value
