"""One training loop for the whole course, short enough to read.

It runs on one CPU core or several GPUs: Hugging Face's accelerate handles devices, mixed precision and processes. It
can be interrupted: everything random in a step is a function of (seed, step), so a run that is continued from its
checkpoint ends with the same bits as a run that was never stopped.
"""

import contextlib
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.data.batches import Samples, epoch_batches, take
from xattn_edu.machine import choose_device, precision_on, progress_bar, seed_everything, seed_from
from xattn_edu.shapes import whole_number
from xattn_edu.training.checkpoints import Checkpoint, Progress
from xattn_edu.training.history import History
from xattn_edu.training.recipe import Recipe, check_data

if TYPE_CHECKING:
    from accelerate import Accelerator


# Long because each of its parameters has a line in the signature and one in the list.
def train(
    model: nn.Module,
    train_set: Samples,
    *,
    epochs: int,
    batch_size: int = 64,
    accumulate: int = 1,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    clip: float | None = 1.0,
    seed: int = 0,
    loss: Callable[..., Tensor] = F.cross_entropy,
    augment: Callable[[Tensor], Tensor] | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = 1,
    device: str | torch.device = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool = True,
) -> History:
    """Train `model` in place with AdamW; it comes back in eval mode, on the device it was trained on.

    Under `accelerate launch` (on CPUs with --multi_gpu --num_processes N) every process takes its share of each batch.
    On a CPU, a run that is continued from its checkpoint ends with the same bits as a run without the interruption.

    Several processes, and batches in parts (`accumulate`), train the same weights up to rounding, if nothing in the
    model is random or computed over the batch (dropout, batch norm), and if `loss` is the mean over samples. A mean
    over something else, such as words that are no padding, is weighted by the samples of each part.

    Args:
        model: called as `model(input, ...)` with the batch.
        train_set: its items are (input, ..., target).
        epochs: passes over `train_set`.
        batch_size: samples of a step, over all processes.
        accumulate: parts in which each process computes its share of a step, one after the other, to save memory.
        learning_rate: the highest; the rate rises to it during `warmup` and then falls to zero along a cosine.
        weight_decay: AdamW's, of weight matrices only.
        warmup: share of all steps in which the learning rate rises, from 0 to below 1.
        clip: gradients longer than this are shortened to it; None for no clipping.
        seed: of the order of the samples and of all that is random in a step (torch, NumPy and Python).
        loss: `loss(model(input, ...), target)` is the mean loss over the batch.
        augment: changes the batch of first inputs.
        evaluate: `evaluate(model)` returns {name: number} for the history.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        device: "auto" is CUDA, then MPS, then the CPU.
        checkpoint: a file (.safetensors), written after each epoch; if it exists, training continues from it. The loss,
            `augment` and the training set need a name then, see `identity.describe`. Only the device, `evaluate` and
            what is shown may change on the way.
        checkpoint_every: steps after which the checkpoint is written as well.
        progress: whether to show a bar, in notebooks and terminals.

    Raises, before any work, TypeError for settings that are no numbers; ValueError for numbers out of range, for labels
    that the model has no class for (if they are in memory and the loss is cross-entropy), and for a checkpoint that
    cannot be written, is damaged or belongs to another run. Raises FloatingPointError when the loss or the gradient is
    no longer finite, and RuntimeError when another process has ended.
    """
    recipe = Recipe(
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup=warmup,
        clip=clip,
        seed=seed,
        loss=loss,
        augment=augment,
    )
    evaluate_every = whole_number("evaluate_every", evaluate_every, 1)
    check_data(model, train_set, loss)
    device = choose_device(device)
    saved = Checkpoint(checkpoint, checkpoint_every, vars(recipe) | {"processes": _processes()}, model, train_set)

    optimizer: torch.optim.Optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay)
    done = saved.load(model, optimizer)
    accelerator = _accelerator(device)
    done.totals = done.totals.to(accelerator.device) * accelerator.is_main_process
    with (
        _chance_restored(),
        _end_of_others(accelerator.num_processes),
        _prepared(accelerator, model, optimizer) as (network, optimizer),
    ):
        run = _Run(recipe, model, train_set, accelerator, network, optimizer, done, saved)
        with progress_bar("training", "step", done.step, run.steps, progress and accelerator.is_main_process) as bar:
            _fit(run, evaluate, evaluate_every, bar)
    return History(done.rows)


@dataclass
class _Run:
    """One run of training: what a step needs, and what it changes."""

    recipe: Recipe
    model: nn.Module
    train_set: Samples
    accelerator: "Accelerator"
    network: nn.Module  # the model as accelerate prepared it
    optimizer: torch.optim.Optimizer
    done: Progress
    saved: Checkpoint

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(len(self.train_set) / self.recipe.batch_size)

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.batches_per_epoch

    def step(self, indices: Tensor) -> None:
        """Train on one batch. Everything random in it depends on the seed, the step's number and the process alone."""
        recipe, done = self.recipe, self.done
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        seed_everything(seed_from(recipe.seed, "step", done.step, rank))
        share = indices[rank::processes]
        # A process that the last batch left without samples computes a gradient of weight 0: the others wait for it.
        batch = take(self.train_set, share if len(share) else indices[:1], self.accelerator.device)
        if recipe.augment is not None:
            batch[0] = recipe.augment(batch[0])

        *early, last = _parts(batch, recipe.accumulate)
        for part in early:
            with self.accelerator.no_sync(self.network):  # the processes exchange gradients once, with the last part
                self._add_gradient(part, len(part[-1]) * processes / len(indices))
        self._add_gradient(last, len(last[-1]) * processes / len(indices) if len(share) else 0.0)
        if recipe.clip is not None:
            self.accelerator.clip_grad_norm_(self.network.parameters(), recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * cosine_schedule(done.step, self.steps, recipe.warmup)
        self.optimizer.step()
        self.optimizer.zero_grad()
        done.step += 1

    def _add_gradient(self, part: Sequence[Tensor], weight: float) -> None:
        """Add the gradient of a part of a batch, times `weight`, and the part's loss and right answers, unless it is 0.

        The weight is the part's share of the batch times the number of processes, whose mean gradient is taken.
        """
        *inputs, target = part
        output = self.network(*inputs)
        loss = self.recipe.loss(output, target)
        self.accelerator.backward(loss * weight)
        found = torch.stack([loss.detach(), _right(output, target), torch.ones_like(loss)])
        self.done.totals += found * (len(target) if weight else 0)

    def check_finite(self) -> tuple[float, float, float]:
        """The epoch's loss, right answers and samples so far. Raises FloatingPointError if training has diverged."""
        loss, right, samples = self.accelerator.reduce(self.done.totals).tolist()
        epoch = (self.done.step - 1) // self.batches_per_epoch + 1
        fix = "and delete the checkpoint, if there is one, before training with other settings"
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} in epoch {epoch}: lower learning_rate={self.recipe.learning_rate:g}, or look for "
                f"NaN in the inputs ({fix})"
            )
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not parameter.isfinite().all():
                raise FloatingPointError(
                    f"{name} is not finite in epoch {epoch}, though the loss is: its gradient was not. Look for a "
                    "square root of 0, a logarithm of 0 or a division by 0, where there is no derivative, or lower "
                    f"learning_rate={self.recipe.learning_rate:g} ({fix})"
                )
        return loss, right, samples

    def finish_epoch(self, epoch: int) -> dict[str, float]:
        """The epoch's row: its mean loss and accuracy."""
        loss, right, samples = self.check_finite()
        self.done.totals.zero_()
        row = {"epoch": epoch, "step": self.done.step, "loss": loss / samples}
        return row | ({} if math.isnan(right) else {"accuracy": right / samples})

    def save(self) -> None:
        """Write the checkpoint. Raises FloatingPointError if training has diverged, for nothing could continue it."""
        self.check_finite()
        self.saved.save(self.accelerator, self.model, self.optimizer, self.done)


def _fit(run: _Run, evaluate: Callable[[nn.Module], Any] | None, evaluate_every: int, bar: Any) -> None:
    """All epochs that are left, the rest of the one that was interrupted first."""
    recipe, done, clock = run.recipe, run.done, _Clock(run.done.rows)
    for epoch in range(done.step // run.batches_per_epoch, recipe.epochs):
        batches = epoch_batches(len(run.train_set), recipe.batch_size, recipe.seed, epoch)
        for indices in batches[done.step % run.batches_per_epoch :]:
            run.step(indices)
            bar.update()
            if run.saved.is_due(done.step) and done.step % run.batches_per_epoch:  # the last step is saved with its row
                run.save()

        row, last = run.finish_epoch(epoch + 1), epoch + 1 == recipe.epochs
        if evaluate is not None and ((epoch + 1) % evaluate_every == 0 or last):
            row |= _evaluated(evaluate(run.model), row)
            run.model.train()
        done.rows.append(row | clock.read())
        shown = {name: f"{number:.3f}" for name, number in row.items() if name not in ("epoch", "step")}
        bar.set_postfix(shown, refresh=last)
        run.save()


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with weight decay of matrices only: not of biases, norms, position embeddings and class tokens.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019); the exceptions are DeiT's.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]

    def decays(name: str, parameter: Tensor) -> bool:
        return parameter.ndim > 1 and "position" not in name and "class_token" not in name

    groups = [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, learning_rate, fused=True)


def cosine_schedule(step: int, steps: int, warmup: float) -> float:
    """The share of the full learning rate in a step: linear up for `warmup * steps`, then half a cosine down to 0.

    Source: Loshchilov and Hutter, "SGDR" (2017), equation (5), without restarts.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


class _Clock:
    """Seconds of training so far, of wall time and CPU time, including the time before an interruption."""

    def __init__(self, rows: list[dict[str, float]]):
        before = rows[-1] if rows else {}
        self.wall = before.get("seconds", 0.0) - time.perf_counter()
        self.cpu = before.get("cpu_seconds", 0.0) - time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": round(self.wall + time.perf_counter(), 3),
            "cpu_seconds": round(self.cpu + time.process_time(), 3),
        }


def _processes() -> int:
    """How many processes train together, as `accelerate launch` and torchrun say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _accelerator(device: torch.device) -> "Accelerator":
    """accelerate on this device, with bfloat16 if the device has it."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if _processes() == 1:
        # accelerate keeps its first device until Python ends; here each training may choose its own.
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    try:
        precision = "bf16" if precision_on(device) == "bf16" else "no"
        return Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
    finally:
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)


@contextlib.contextmanager
def _end_of_others(processes: int) -> Iterator[None]:
    """Give the error of a lost connection the words that help: the process at the other end was killed or failed."""
    try:
        yield
    except RuntimeError as error:
        if processes > 1 and any(words in str(error) for words in ("by peer", "remote process", "Timed out")):
            raise RuntimeError(
                f"another of the {processes} processes of this training has ended: look for its error, or for the "
                "signal that killed it; with a checkpoint, the same command continues"
            ) from error
        raise


@contextlib.contextmanager
def _prepared(
    accelerator: "Accelerator", model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[nn.Module, torch.optim.Optimizer]]:
    """Model and optimizer prepared by accelerate for training; afterwards the plain model again, in eval mode."""
    network, optimizer = accelerator.prepare(model, optimizer)
    try:
        model.train()
        yield network, optimizer
    finally:
        accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        vars(model).pop("forward", None)  # accelerate's mixed-precision forward hides the class's own
        model.eval()


@contextlib.contextmanager
def _chance_restored() -> Iterator[None]:
    """Give the random generators their old state back afterwards: training seeds them in every step."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _parts(batch: list[Tensor], count: int) -> list[tuple[Tensor, ...]]:
    """A batch in `count` parts of nearly equal size, or one for each sample if there are fewer samples."""
    count = min(count, len(batch[-1]))
    return list(zip(*(tensor.tensor_split(count) for tensor in batch)))


def _evaluated(numbers: Any, row: dict[str, float]) -> dict[str, float]:
    """The numbers that `evaluate` returned, as floats. Raises ValueError if a name is already in the row."""
    if not isinstance(numbers, dict) or not numbers.keys().isdisjoint(row):
        raise ValueError(
            f"evaluate must return {{name: number}} with names other than {', '.join(row)}, gave {numbers!r}"
        )
    return {name: float(number) for name, number in numbers.items()}


def _right(output: Any, target: Tensor) -> Tensor:
    """The share of right answers if this is classification, logits (batch, class) and labels (batch,); else NaN."""
    if not isinstance(output, Tensor) or output.ndim != 2 or target.ndim != 1 or target.is_floating_point():
        return torch.tensor(torch.nan, device=target.device)
    return (output.argmax(dim=1) == target).float().mean()
