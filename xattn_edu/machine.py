"""The machine: the size of training run that suits it (the profile), its device, seeds, and a description.

The profiles are `ci` (two cores, minutes), `cpu` (a laptop, about ten minutes) and `gpu` (a CUDA card). The machine's
hardware decides which one is used, and XATTN_PROFILE overrides that; each notebook that trains prints its profile. The
sizes that belong to a profile are in experiments/sizes.py.
"""

import hashlib
import os
import platform
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xattn_edu.shapes import whole_number

ENVIRONMENT = "XATTN_PROFILE"
PROFILES = {  # name: description
    "ci": "2 cores, minutes",
    "cpu": "a laptop, about ten minutes",
    "gpu": "a CUDA card, larger models and data",
}


@dataclass(frozen=True)
class Profile:
    """The size of a run, and the machine it runs on; `print(profile)` is the first line of a notebook that trains."""

    name: str  # a key of PROFILES and of the tables of sizes
    description: str
    reason: str  # why this one
    device: str  # that choose_device("auto") finds: "cuda", "mps" or "cpu"
    precision: str  # of the matrix products in training: "bf16" on CUDA cards that have it, else "float32"
    threads: int  # of torch on the CPU

    def __str__(self) -> str:
        return (
            f"profile {self.name} ({self.description}): {self.reason}; "
            f"device {self.device}, {self.precision}, {self.threads} CPU threads"
        )


def choose_profile(name: "str | Profile | None" = None) -> Profile:
    """The profile `name` (or that profile itself), else the one in XATTN_PROFILE, else the one that suits the machine.

    With a CUDA card that is `gpu`; with CI set in the environment, or with one or two cores, `ci`; else `cpu`. That
    holds for Apple's MPS too, which is as fast as a good laptop; MPS is then the device. Raises ValueError for an
    unknown name.
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
    if name not in PROFILES:
        raise ValueError(f"no profile is called {name!r} ({reason}): the profiles are {', '.join(PROFILES)}")
    device = choose_device()
    return Profile(name, PROFILES[name], reason, device.type, precision_on(device), torch.get_num_threads())


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The torch device: "auto" is CUDA, then MPS, then the CPU.

    Raises ValueError, listing the devices of this machine, for a device that torch does not know or the machine lacks.
    """
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cuda": cards, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if str(device) == "auto":
        return torch.device(next(kind for kind, number in there.items() if number))
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        wanted = None
    if wanted is None or (wanted.index or 0) >= there.get(wanted.type, 0):
        choices = ", ".join(
            f"{kind} ({number} of it)" if number > 1 else kind for kind, number in there.items() if number
        )
        raise ValueError(f'no device {str(device)!r} on this machine: choose "auto", or among what is here: {choices}')
    return wanted


def precision_on(device: torch.device) -> str:
    """The precision of matrix products in training: "bf16" on CUDA cards that have it, else "float32"."""
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else "float32"


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators (all devices). Raises as `check_seed` does."""
    seed = check_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def check_seed(seed: Any) -> int:
    """The seed as Python's int. Raises TypeError unless it is a whole number, ValueError unless 0 <= seed < 2**32."""
    return whole_number("seed", seed, 0, 2**32 - 1)


def seed_from(*parts: Any) -> int:
    """A seed below 2**32 for words and whole numbers, such as (seed, "step", 7): other parts give another seed."""
    plain = tuple(part if isinstance(part, str) else whole_number("part of a seed", part) for part in parts)
    return int.from_bytes(hashlib.blake2b(repr(plain).encode(), digest_size=4).digest(), "big")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """CPU model, cores, torch's threads and device, without host or user names."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.split(":", 1)[1] for line in information.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0].strip() if names else model
    described = {"cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "device": device.type}
    return described | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})


def progress_bar(what: str, unit: str, done: int, count: int, show: bool) -> Any:
    """tqdm's bar over `count` units, of which `done` are done, in notebooks and terminals; none in files and pipes."""
    from tqdm.auto import tqdm

    notebook = type(sys.stdout).__module__.startswith("ipykernel")
    seen = notebook or sys.stderr.isatty()
    return tqdm(total=count, initial=done, desc=what, unit=unit, disable=not (show and seen))
