"""The result of a run: its settings, its numbers, and the machine that it ran on, without host or user names."""

import importlib.metadata
import platform
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from xattn_edu.machine import describe_machine
from xattn_edu.training.history import History
from xattn_edu.weights.description import ModelDescription

ACCURACY = "test accuracy"


@dataclass(frozen=True)
class Result:
    """One run: the trained model and its numbers. `record()` is the content of its JSON file."""

    config: dict[str, Any]  # every setting, seed and profile among them
    model: nn.Module
    history: History
    score: float  # the main one, a share of the test set from 0 to 1
    parameters: int
    macs: int  # multiply-accumulates for one example
    more: dict[str, float] = field(default_factory=dict)  # the other numbers
    score_name: str = ACCURACY
    description: ModelDescription | None = None  # goes into the file of the model's weights, if they are stored

    @property
    def accuracy(self) -> float:
        """The score, if it is an accuracy. Raises AttributeError, naming the score, if it is another one."""
        if self.score_name != ACCURACY:
            raise AttributeError(f"the main score of this run is {self.score_name}, not an accuracy: read `score`")
        return self.score

    @property
    def seconds(self) -> float:
        return self.history["seconds"][-1]

    @property
    def cpu_seconds(self) -> float:
        return self.history["cpu_seconds"][-1]

    def __str__(self) -> str:
        return (
            f"{self.score_name} {self.score:.1%}, {self.parameters:,} parameters, {self.macs:,} MACs an example, "
            f"{self.seconds:.0f} s ({self.cpu_seconds / self.seconds:.1f} cores busy)"
        )

    def record(self) -> dict[str, Any]:
        """Settings, numbers, versions, machine: enough to repeat the run and compare.

        The score is stored as "test_accuracy" whatever its name, so that all stored records have the same form.
        """
        numbers = {"test_accuracy": self.score, "parameters": self.parameters, "macs": self.macs}
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
