"""One training loop for the whole course, short enough to read.

It runs on one CPU core or several GPUs (Hugging Face's accelerate sees to devices, mixed precision and processes), and
it can be interrupted: whatever is random in a step is a function of (seed, step), so a run continued from its
checkpoint ends with the same bits as one that was never stopped.
"""

import contextlib
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from xattn_edu.machine import choose_device, precision_on, seed_everything
from xattn_edu.models.layers import evaluating
from xattn_edu.training.checkpoints import Checkpoint, name_of

if TYPE_CHECKING:
    from accelerate import Accelerator
from xattn_edu.data.batches import Samples, epoch_batches, seed_from, take
from xattn_edu.training.history import History


def train(
    model: nn.Module,
    train_set: Samples,
    *,
    epochs: int,
    batch_size: int = 64,
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
) -> "History":
    """Train `model` in place with AdamW; it comes back in eval mode, on the device it was trained on.

    An item of `train_set` is (input, ..., target): the loss is `loss(model(input, ...), target)`, its mean over the
    batch. `augment` changes the batch of first inputs. The learning rate rises over the first `warmup` share of all
    steps and falls to zero along a cosine; gradients longer than `clip` are shortened to it. `evaluate(model)` gives
    numbers for the history, every `evaluate_every` epochs and after the last.

    `checkpoint` is a file (.safetensors): written after each epoch and every `checkpoint_every` steps; if it is there
    already, training continues from it, to the same bits on a CPU as without the interruption. `seed` fixes the order
    of the samples and all chance in the steps (the generators of torch, NumPy and Python are seeded in each). Under
    `accelerate launch` every process takes its share of each batch of `batch_size`.

    Raises ValueError, before any work, for arguments that make no sense, labels that the model has no class for (where
    they are in memory and the loss is cross-entropy), and a checkpoint that is damaged or belongs to another run; FloatingPointError when the loss is no longer finite.
    """
    _check(model, train_set, epochs, batch_size, learning_rate, weight_decay, warmup, clip, seed)
    _check_rest(evaluate_every, checkpoint, checkpoint_every)
    _check_labels(model, train_set, loss)
    device = choose_device(device)
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "clip": clip,
        "seed": seed,
        "loss": name_of(loss),
        "augment": name_of(augment),
    }
    saved = Checkpoint(checkpoint, settings, model, train_set)

    optimizer: torch.optim.Optimizer = adamw(model, learning_rate, weight_decay)
    rows, step, totals = saved.load(model, optimizer)
    history = History(rows)
    accelerator = _accelerator(device)
    rank, processes = accelerator.process_index, accelerator.num_processes
    batches_per_epoch = math.ceil(len(train_set) / batch_size)
    steps = epochs * batches_per_epoch
    totals = totals.to(accelerator.device) * accelerator.is_main_process  # of the epoch: loss, right answers, samples
    clock = _Clock(history)

    with (
        _chance_restored(),
        _prepared(accelerator, model, optimizer) as (network, optimizer),
        _bar(step, steps, progress and accelerator.is_main_process) as bar,
    ):
        for epoch in range(step // batches_per_epoch, epochs):
            for indices in epoch_batches(len(train_set), batch_size, seed, epoch)[step % batches_per_epoch :]:
                seed_everything(seed_from(seed, "step", step, rank))
                share = indices[rank::processes]
                weight = len(share) * processes / len(indices)  # 0 for a process that the last batch left without
                *inputs, target = take(train_set, share if len(share) else indices[:1], accelerator.device)
                if augment is not None:
                    inputs[0] = augment(inputs[0])

                output = network(*inputs)
                value = loss(output, target)
                accelerator.backward(value * weight)
                if clip is not None:
                    accelerator.clip_grad_norm_(network.parameters(), clip)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * cosine_schedule(step, steps, warmup)
                optimizer.step()
                optimizer.zero_grad()

                totals += torch.stack([value.detach(), _right(output, target), torch.ones_like(value)]) * len(share)
                step += 1
                bar.update()
                if checkpoint_every and step % checkpoint_every == 0 and step % batches_per_epoch:
                    saved.save(accelerator, model, optimizer, history.rows, step, totals)

            loss_sum, right, samples = accelerator.reduce(totals).tolist()
            totals.zero_()
            if not math.isfinite(loss_sum):
                raise FloatingPointError(
                    f"the loss is {loss_sum} in epoch {epoch + 1}: lower learning_rate={learning_rate:g}, or look for NaN in "
                    "the inputs (and delete the checkpoint, if there is one, before training with other settings)"
                )
            row = {"epoch": epoch + 1, "step": step, "loss": loss_sum / samples}
            row |= {} if math.isnan(right) else {"accuracy": right / samples}
            if evaluate is not None and ((epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs):
                row |= _evaluated(evaluate(model), row)
                model.train()
            history.rows.append(row | clock.read())
            shown = {name: f"{number:.3f}" for name, number in row.items() if name not in ("epoch", "step")}
            bar.set_postfix(shown, refresh=epoch + 1 == epochs)
            saved.save(accelerator, model, optimizer, history.rows, step, totals)
    return history


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that lets biases, norms, position embeddings and class tokens keep their size: only matrices decay.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019); what to leave out is DeiT's choice.
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
    """Seconds of training so far, on the wall and of the CPU, those before an interruption included."""

    def __init__(self, history: History):
        before = history.rows[-1] if history.rows else {}
        self.wall = before.get("seconds", 0.0) - time.perf_counter()
        self.cpu = before.get("cpu_seconds", 0.0) - time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": round(self.wall + time.perf_counter(), 3),
            "cpu_seconds": round(self.cpu + time.process_time(), 3),
        }


def _accelerator(device: torch.device) -> "Accelerator":
    """accelerate on this device, with bfloat16 where the device has it."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        # accelerate keeps the first device for as long as Python runs; each training here may choose its own.
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    try:
        precision = "bf16" if precision_on(device) == "bf16" else "no"
        return Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
    finally:
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)


@contextlib.contextmanager
def _prepared(
    accelerator: "Accelerator", model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[nn.Module, torch.optim.Optimizer]]:
    """Model and optimizer as accelerate wants them while training; the model as it was, in eval mode, afterwards."""
    network, optimizer = accelerator.prepare(model, optimizer)
    try:
        model.train()
        yield network, optimizer
    finally:
        accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        vars(model).pop("forward", None)  # accelerate's mixed-precision forward; the class's own shows again
        model.eval()


@contextlib.contextmanager
def _chance_restored() -> Iterator[None]:
    """Training seeds every step; the caller's random numbers go on afterwards as if it had not."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _evaluated(numbers: Any, row: dict[str, float]) -> dict[str, float]:
    """What `evaluate` returned, as plain numbers under names of their own."""
    if not isinstance(numbers, dict) or not numbers.keys().isdisjoint(row):
        raise ValueError(
            f"evaluate must return {{name: number}} with names other than {', '.join(row)}, gave {numbers!r}"
        )
    return {name: float(number) for name, number in numbers.items()}


def _bar(step: int, steps: int, show: bool) -> Any:
    """A progress bar in notebooks and terminals; silence in files and pipes."""
    from tqdm.auto import tqdm

    notebook = type(sys.stdout).__module__.startswith("ipykernel")
    seen = notebook or sys.stderr.isatty()
    return tqdm(total=steps, initial=step, desc="training", unit="step", disable=not (show and seen))


def _right(output: Any, target: Tensor) -> Tensor:
    """The share of right answers, if this is classification: logits (batch, class), labels (batch,); NaN if not."""
    if not isinstance(output, Tensor) or output.ndim != 2 or target.ndim != 1 or target.is_floating_point():
        return torch.tensor(torch.nan, device=target.device)
    return (output.argmax(dim=1) == target).float().mean()


def _check(
    model: nn.Module,
    train_set: Samples,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    warmup: float,
    clip: float | None,
    seed: int,
) -> None:
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1 up, given {value!r}")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be positive, given {learning_rate}")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay must be 0 or positive, given {weight_decay}")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a share of all steps, from 0 to below 1, given {warmup}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive, or None not to clip, given {clip}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"a seed is a whole number from 0 to 2**32 - 1, given {seed}")
    if isinstance(train_set, tuple) or not all(hasattr(train_set, name) for name in ("__getitem__", "__len__")):
        raise ValueError(
            f"train_set must be a Dataset of samples, given a {type(train_set).__name__}: for tensors in memory write "
            "TensorDataset(images, labels)"
        )
    if not len(train_set):
        raise ValueError("train_set is empty")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no parameters to train (none requires a gradient)")


def _check_rest(evaluate_every: int, checkpoint: str | Path | None, checkpoint_every: int | None) -> None:
    if evaluate_every < 1:
        raise ValueError(f"evaluate_every must be 1 epoch or more, given {evaluate_every}")
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be 1 step or more, given {checkpoint_every}")
    if checkpoint is None:
        return
    if not Path(checkpoint).parent.is_dir():
        raise ValueError(f"the folder of checkpoint={str(checkpoint)!r} does not exist: create it first")
    if Path(checkpoint).is_dir():
        raise ValueError(f"checkpoint={str(checkpoint)!r} is a folder: name a file in it")


def _check_labels(model: nn.Module, train_set: Samples, loss: Any) -> None:
    """Where it costs nothing: labels in memory, cross-entropy, so every label must be one of the model's classes."""
    cross_entropy = F.cross_entropy in (loss, getattr(loss, "func", None))
    if not (cross_entropy and isinstance(train_set, TensorDataset)):
        return
    *inputs, labels = train_set.tensors
    if labels.ndim != 1 or labels.is_floating_point():
        return
    labels = labels[labels != getattr(loss, "keywords", {}).get("ignore_index", -100)]  # what cross-entropy leaves out
    if not len(labels):
        return
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        output = model(*(tensor[:1].to(device) for tensor in inputs))
    low, high = int(labels.min()), int(labels.max())
    if output.ndim == 2 and (low < 0 or high >= output.shape[1]):
        raise ValueError(
            f"labels go from {low} to {high}, but the model's {output.shape[1]} classes are 0 to {output.shape[1] - 1}"
        )
