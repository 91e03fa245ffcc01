"""How large a training run may be here, on what device, with which seed, and what this machine is.

A profile is a size: `ci` for two cores and minutes, `cpu` for a laptop and ten of them, `gpu` for a CUDA card. It is
chosen by what the machine has, shown at the top of each notebook that trains, and overridden by XATTN_PROFILE.
"""

import os
import platform
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

ENVIRONMENT = "XATTN_PROFILE"
_DESCRIPTIONS = {
    "ci": "2 cores, minutes",
    "cpu": "a laptop, about ten minutes",
    "gpu": "a CUDA card, larger models and data",
}


@dataclass(frozen=True)
class Profile:
    """The size of a run and the machine it meets; `print(profile)` is the line a training notebook starts with."""

    name: str  # "ci", "cpu" or "gpu": what the recipes look up
    description: str
    reason: str  # why this one
    device: str  # what choose_device("auto") finds: "cuda", "mps" or "cpu"
    precision: str  # of the matrix products in training: "bf16" on CUDA cards that have it, else "float32"
    threads: int  # of torch on the CPU

    def __str__(self) -> str:
        return (
            f"profile {self.name} ({self.description}): {self.reason}; "
            f"device {self.device}, {self.precision}, {self.threads} CPU threads"
        )


def choose_profile(name: "str | Profile | None" = None) -> Profile:
    """The profile `name` (or that profile itself), else the one in XATTN_PROFILE, else by what is there.

    By what is there: a CUDA card is `gpu`; CI set in the environment, or at most two cores, is `ci`; all else is `cpu`,
    Apple's MPS too, which is as fast as a good laptop and used as its device. Raises ValueError for a name that is no
    profile.
    """
    if isinstance(name, Profile):
        return name
    cores = available_cores()
    if name is not None:
        reason = "asked for"
    elif os.environ.get(ENVIRONMENT):
        name, reason = os.environ[ENVIRONMENT], f"{ENVIRONMENT} is set"
    elif torch.cuda.is_available():
        name, reason = "gpu", "there is a CUDA card"
    elif os.environ.get("CI", "").lower() not in ("", "0", "false"):
        name, reason = "ci", "CI is set"
    elif cores <= 2:
        name, reason = "ci", f"{cores} CPU core{'s' * (cores > 1)}"
    else:
        name, reason = "cpu", f"{cores} CPU cores, no CUDA card"
    if name not in _DESCRIPTIONS:
        raise ValueError(f"no profile is called {name!r} ({reason}): the profiles are {', '.join(_DESCRIPTIONS)}")
    device = choose_device()
    return Profile(name, _DESCRIPTIONS[name], reason, device.type, precision_on(device), torch.get_num_threads())


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The torch device: "auto" is CUDA, then MPS, then the CPU.

    Raises ValueError, saying what is there, for a device that torch does not know or that this machine lacks.
    """
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cuda": cards, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if str(device) == "auto":
        return torch.device(next(kind for kind, number in there.items() if number))
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError):
        asked = None
    if asked is None or (asked.index or 0) >= there.get(asked.type, 0):
        choices = ", ".join(
            f"{kind} ({number} of it)" if number > 1 else kind for kind, number in there.items() if number
        )
        raise ValueError(f'no device {str(device)!r} on this machine: choose "auto", or among what is here: {choices}')
    return asked


def precision_on(device: torch.device) -> str:
    """What training multiplies matrices in: "bf16" (beside float32) on CUDA cards that have it, else "float32"."""
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else "float32"


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators (all devices). Raises ValueError unless 0 <= seed < 2**32."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"a seed is a whole number from 0 to 2**32 - 1, given {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the run ran on, without host or user names: CPU model, cores, torch's threads, device."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.split(":", 1)[1] for line in information.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0].strip() if names else model
    described = {"cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "device": device.type}
    return described | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})
