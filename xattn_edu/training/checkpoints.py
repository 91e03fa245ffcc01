"""The checkpoint that interrupted training is continued from."""

import functools
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

if TYPE_CHECKING:
    from accelerate import Accelerator
from xattn_edu.files import write_atomically

FORMAT = "xattn_edu training 2"  # what a checkpoint calls itself


class Checkpoint:
    """The file a run is continued from: tensors of model and optimizer, and in its header all the rest."""

    def __init__(self, path: str | Path | None, settings: dict[str, Any], model: nn.Module, train_set: Any):
        self.path = None if path is None else Path(path)
        if self.path is not None:
            self.run = settings | {"data": _describe_data(train_set)} | _describe_model(model)

    def save(
        self,
        accelerator: "Accelerator",
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        rows: list[dict[str, float]],
        step: int,
        totals: Tensor,
    ) -> None:
        """Write everything a run is continued from; not, though, when its loss is no number any more."""
        if self.path is None:
            return
        totals = accelerator.reduce(totals)
        if accelerator.is_main_process and totals[0].isfinite():
            from safetensors.torch import save

            tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
            for number, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
            tensors["totals"] = totals
            tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
            state = json.dumps({"run": self.run, "step": step, "history": rows})
            checksum = str(_checksum(tensors, state))
            write_atomically(self.path, save(tensors, {"format": FORMAT, "state": state, "checksum": checksum}))
        accelerator.wait_for_everyone()

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[list[dict[str, float]], int, Tensor]:
        """Put model and optimizer where they were; (rows of the history, steps done, totals of the epoch)."""
        if self.path is None or not self.path.exists():
            return [], 0, torch.zeros(3)
        state, tensors = self._read()
        there, here = state["run"], self.run
        if there != here:
            names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
            differences = "; ".join(f"{name}: {there.get(name)} there, {here.get(name)} here" for name in names[:5])
            raise ValueError(
                f"the checkpoint {self.path} belongs to another run ({differences}{'; ...' * (len(names) > 5)}): "
                "use the same settings, or another file name, or delete the file to start anew"
            )
        model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                states.setdefault(int(number), {})[key] = tensor
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
        return state["history"], state["step"], tensors["totals"]

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        remedy = "delete it (or move it away) to start anew, or name another file"
        try:
            with safe_open(str(self.path), framework="pt") as file:
                metadata, names = file.metadata() or {}, file.keys()
                tensors = {name: file.get_tensor(name).clone() for name in names}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"the checkpoint {self.path} is damaged or no checkpoint ({error}): {remedy}") from error
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{self.path} is not a checkpoint of this training loop: {remedy}")
        if metadata.get("checksum") != str(_checksum(tensors, metadata.get("state", ""))):
            raise ValueError(f"the checkpoint {self.path} is damaged (its checksum does not match): {remedy}")
        return json.loads(metadata["state"]), tensors


def name_of(function: Any) -> str:
    """What a checkpoint remembers of a function: its name, and what a partial has fixed."""
    if isinstance(function, functools.partial):
        fixed = [repr(value) for value in function.args] + [
            f"{key}={value!r}" for key, value in function.keywords.items()
        ]
        return f"{name_of(function.func)}({', '.join(fixed)})"
    return getattr(function, "__qualname__", repr(function))


def _describe_model(model: nn.Module) -> dict[str, str]:
    """Shapes of all tensors and the numbers its modules were built with (heads, rates), by name."""
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
        value = zlib.crc32(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data, value)
    return value
