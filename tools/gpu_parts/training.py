"""The part "training": each reduced model, trained by its own recipe for some seconds."""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gpu_parts.models import FEW, Handed, Reduced, handed_to_train
from gpu_parts.setup import MIB, Setup, each, wait_for


def run(setup: Setup) -> dict[str, Any]:
    """Train each reduced model for some seconds, and estimate the minutes of its whole run.

    "minutes" are those of drawing the data, of all training steps, and of the evaluations between them. What a recipe
    measures after its training is not among them.
    """
    return each(setup, setup.reduced(), lambda reduced, seconds: train_for(reduced, seconds, setup))


class _TimeIsUp(Exception):
    """Ends a training."""


class Stopwatch:
    """A recipe's loss that counts the steps, and ends the training after some seconds.

    The first steps are not timed. The device is waited for only at the two ends of the time, so that the CPU runs ahead
    of it between them, as it does in a whole run.
    """

    UNTIMED = 3

    def __init__(self, loss: Callable[..., Tensor], seconds: float, device: torch.device):
        self.loss, self.seconds, self.device = loss, seconds, device
        self.begin = time.monotonic()
        self.losses: list[Tensor] = []
        self.first: tuple[int, float] | None = None  # step and time
        self.last: tuple[int, float] | None = None

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        step, passed = len(self.losses), time.monotonic() - self.begin
        if self.first is not None and passed > self.seconds:
            self.last = (step, self.now())
            raise _TimeIsUp
        if self.first is None and step and (step >= self.UNTIMED or passed > self.seconds / 4):
            self.first = (step, self.now())
        loss = self.loss(output, target)
        self.losses.append(loss.detach())
        return loss

    def now(self) -> float:
        wait_for(self.device)
        return time.monotonic()

    def steps_per_second(self) -> float:
        """Raises RuntimeError if the training ended before its time."""
        if self.first is None or self.last is None:
            raise RuntimeError(f"the training ended after {len(self.losses)} steps, before its time was over")
        return (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])


def train_for(reduced: Reduced, seconds: float, setup: Setup) -> dict[str, Any]:
    """Prepare and train one model in so many seconds; two steps at least. Raises what its recipe or `train` raises."""
    from xattn_edu.training.loop import train

    end, device = time.monotonic() + seconds, setup.device
    handed = handed_to_train(reduced, setup.profile)
    settings, batch = handed.settings, handed.settings["batch_size"]
    samples = reduced.samples or len(handed.train_set)
    steps = settings["epochs"] * math.ceil(samples / batch)
    drawing = _drawing(reduced.draw, samples)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    # As many epochs of the few samples as make the steps of the whole run, so that the learning rates are the same.
    epochs = math.ceil(steps / math.ceil(len(handed.train_set) / batch))
    watch = Stopwatch(settings.get("loss", F.cross_entropy), end - time.monotonic(), device)
    changed = {"epochs": epochs, "loss": watch, "evaluate": None, "checkpoint": None, "device": device}
    with suppress(_TimeIsUp):
        train(handed.model, handed.train_set, **settings | changed | {"progress": False})
    rate, losses = watch.steps_per_second(), torch.stack(watch.losses).float().tolist()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    evaluations = settings["epochs"] // settings.get("evaluate_every", 1)
    minutes = {
        "data": drawing / 60,
        "steps": steps / rate / 60,
        "evaluations": evaluations * _evaluation(handed, device) / 60,
    }
    tenth = max(1, len(losses) // 10)
    row = {
        "parameters": sum(parameter.numel() for parameter in handed.model.parameters()),
        "steps": len(losses),
        "of": steps,
        "steps_per_second": rate,
        "minutes": minutes | {"whole": sum(minutes.values())},
        "loss": {"first": statistics.mean(losses[:tenth]), "last": statistics.mean(losses[-tenth:])},
    }
    row |= {} if peak is None else {"peak_mib": round(peak / MIB)}
    finite = all(map(math.isfinite, losses))
    return row if finite else row | {"problem": f"a loss is not finite within {len(losses)} steps"}


def _drawing(draw: Callable[[int], object] | None, samples: int) -> float:
    """Seconds that drawing all samples takes, from those that a few take."""
    if draw is None:
        return 0.0
    begin = time.monotonic()
    draw(FEW)
    return (time.monotonic() - begin) * samples / FEW


def _evaluation(handed: Handed, device: torch.device) -> float:
    """Seconds of one evaluation during the training; 0 for a recipe that has none."""
    evaluate = handed.settings.get("evaluate")
    if evaluate is None:
        return 0.0
    begin = time.monotonic()
    evaluate(handed.model)
    wait_for(device)
    return time.monotonic() - begin
