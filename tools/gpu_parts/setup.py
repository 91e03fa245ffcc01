"""What every part is run with, what the record says of the machine, and the loop over the reduced models.

A section of the record may hold "rows", "problems" (any of them makes the command fail) and "skipped" (what could not
be tried, and why).
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch

from gpu_parts.models import Reduced, reduced_models
from xattn_edu.files import first_line
from xattn_edu.machine import describe_machine, precision_on

PACKAGES = ("torch", "numpy", "accelerate", "transformers", "tokenizers")
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Setup:
    """What a part is run with."""

    device: torch.device
    profile: str  # of the reduced models
    models: str  # patterns of their names
    end: float  # of the part's time, on the clock of time.monotonic

    @property
    def rehearsal(self) -> bool:
        return self.device.type == "cpu"

    @property
    def has_bf16(self) -> bool:
        """Whether training on this device would use bf16, or could: a CPU computes it, only slowly."""
        return self.rehearsal or precision_on(self.device) == "bf16"

    def left(self) -> float:
        """Seconds until the part's time is over."""
        return self.end - time.monotonic()

    def reduced(self) -> list[Reduced]:
        return reduced_models(self.profile, self.models, self.rehearsal)


def header(device: torch.device, profile: str) -> dict[str, Any]:
    """Profile, machine and versions; all sections of one record have the same."""
    machine = describe_machine(device)
    versions = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES if find_spec(name)}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        machine |= {"gpu_gib": round(card.total_memory / GIB, 1), "capability": f"{card.major}.{card.minor}"}
        versions |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return {"profile": profile, "machine": machine, "versions": versions}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a folder on the path that was not installed
        return "unknown"


def each(setup: Setup, models: list[Reduced], row_of: Callable[[Reduced, float], dict[str, Any]]) -> dict[str, Any]:
    """A section with one row a model: `row_of(model, seconds)`, which gets an equal share of the time that is left.

    A row with the key "problem" makes the command fail. A model that raises has no row but is a problem of its own. A
    rehearsal leaves out no model, however slow the machine: each takes the least that it can, two steps.
    """
    section: dict[str, Any] = {"rows": [], "skipped": [], "problems": []}
    for number, reduced in enumerate(models):
        if setup.left() <= 0 and not setup.rehearsal:
            section["problems"].append(f"the time was over before {', '.join(model.name for model in models[number:])}")
            break
        try:
            row = row_of(reduced, setup.left() / (len(models) - number))
            section["problems"] += [f"{reduced.name}: {row['problem']}"] if "problem" in row else []
            section["rows"].append({"model": reduced.name} | row)
        except ModuleNotFoundError as error:
            section["skipped"].append(f"{reduced.name}: needs {error.name}")
        except Exception as error:  # noqa: BLE001 - whatever went wrong belongs into the record
            section["problems"].append(f"{reduced.name}: {first_line(error)}")
        if setup.device.type == "cuda":
            torch.cuda.empty_cache()
    return section


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given; the CPU has always."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
