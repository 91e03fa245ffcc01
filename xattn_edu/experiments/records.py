"""What a run leaves behind: its settings, its numbers, and what it ran on."""

import importlib.metadata
import platform
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from xattn_edu.machine import describe_machine
from xattn_edu.training.history import History
from xattn_edu.weights.description import ModelDescription


@dataclass(frozen=True)
class Result:
    """One run: the trained model and what was measured. `record()` is what goes into its JSON."""

    config: dict[str, Any]  # every setting, seed and profile among them
    model: nn.Module
    history: History
    accuracy: float  # the share of the test set that is right, 0 to 1
    parameters: int
    macs: int  # multiply-accumulates for one example
    more: dict[str, float] = field(default_factory=dict)  # other numbers that were measured
    description: ModelDescription | None = None  # goes into the file of the model's weights, if they are stored

    @property
    def seconds(self) -> float:
        return self.history["seconds"][-1]

    @property
    def cpu_seconds(self) -> float:
        return self.history["cpu_seconds"][-1]

    def __str__(self) -> str:
        return (
            f"test accuracy {self.accuracy:.1%}, {self.parameters:,} parameters, {self.macs:,} MACs an example, "
            f"{self.seconds:.0f} s ({self.cpu_seconds / self.seconds:.1f} cores busy)"
        )

    def record(self) -> dict[str, Any]:
        """Settings, numbers, versions, machine: all that is needed to run it again and compare."""
        numbers = {"test_accuracy": self.accuracy, "parameters": self.parameters, "macs": self.macs}
        times = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        packages = ("xattn-edu", "torch", "numpy", "accelerate")
        versions = {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages}
        return {
            "config": self.config,
            "metrics": numbers | self.more | times | {"cpu_per_wall": round(self.cpu_seconds / self.seconds, 2)},
            "machine": describe_machine(next(self.model.parameters()).device),
            "versions": versions,
            "history": self.history.rows,
        }
