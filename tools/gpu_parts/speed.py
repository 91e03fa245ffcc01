"""The part "speed": training steps a second, against the CPU and against a matrix product on the same device."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from gpu_parts.models import Handed, Reduced, handed_to_train
from gpu_parts.setup import MIB, Setup, each, wait_for
from xattn_edu import create_model
from xattn_edu.data.batches import take
from xattn_edu.machine import precision_on
from xattn_edu.measure import costs

CPU = torch.device("cpu")
CHOSEN = (  # one reduced model of each kind; --models chooses others
    "vit-fashion-mnist patch-4",
    "translation model-cross_attention",
    "fusions task-fashion fusion-cross_attention",
    "referring model-decoder_fusion",
    "lavt model-lavt",
)
PUBLISHED = ("deit_small_patch16_224", 32)  # a model of the usual size, and its batch
SQUARE = {"cuda": 8192, "cpu": 1024}  # side of the matrices in the product
CHUNK = 0.05  # seconds of steps between two waits for the device


@dataclass(frozen=True)
class Work:
    """A training step, and its multiply-accumulates."""

    step: Callable[[], object]
    macs: float


def run(setup: Setup) -> dict[str, Any]:
    """Steps a second on the device and on the CPU, each with its share of a matrix product's speed there."""
    models = [model for model in setup.reduced() if setup.models != "*" or model.name in CHOSEN]
    published = Reduced(PUBLISHED[0], lambda: None, {})

    def row_of(reduced: Reduced, seconds: float) -> dict[str, Any]:
        if reduced is published:
            return compare(published_model(setup.rehearsal), setup, seconds)
        return compare(handed_to_train(reduced, setup.profile), setup, seconds)

    return each(setup, [*models, published], row_of)


def published_model(rehearsal: bool) -> Handed:
    """DeiT-S on random images; in a rehearsal the same model on a smaller image."""
    name, batch = PUBLISHED
    side, batch = (32, 2) if rehearsal else (224, batch)
    data = TensorDataset(torch.randn(batch, 3, side, side), torch.arange(batch))
    model = create_model(name, image_size=side) if rehearsal else create_model(name)
    return Handed(model, data, {"batch_size": batch})


def compare(handed: Handed, setup: Setup, seconds: float) -> dict[str, Any]:
    """The row of one model: batch, speed on the device and on the CPU, and their ratio."""
    here = measure(handed, setup.device, seconds / 2)
    on_cpu = measure(handed, CPU, seconds / 2)
    ratio = here["steps_per_second"] / on_cpu["steps_per_second"]
    return {"batch": handed.settings["batch_size"], "here": here, "cpu": on_cpu, "times_the_cpu": ratio}


def measure(handed: Handed, device: torch.device, seconds: float) -> dict[str, Any]:
    """Steps and product in turns, so that each ratio is of two neighbours in time; the medians. One turn at least.

    A step's multiply-accumulates are three times those of the forward pass. The product has the number format that
    training has on this device.
    """
    end, on_card = time.perf_counter() + seconds, device.type == "cuda"
    if on_card:
        torch.cuda.reset_peak_memory_stats(device)
    training = training_step(handed, handed.model.to(device).train(), device)
    steps = repeated(training, device)
    peak = torch.cuda.max_memory_allocated(device) if on_card else 0  # before the matrices of the product are there
    products = repeated(product(device), device)
    rates: list[float] = []
    shares, tera = [], []
    while not rates or time.perf_counter() < end:
        took, of_product = steps(), products()
        rates.append(1 / took)
        shares.append((training.macs / took) / (SQUARE[device.type] ** 3 / of_product))
        tera.append(2 * SQUARE[device.type] ** 3 / of_product / 1e12)
    row = {
        "steps_per_second": statistics.median(rates),
        "share_of_product": statistics.median(shares),
        "product_tflops": statistics.median(tera),
    }
    return row | ({"peak_mib": round(peak / MIB)} if on_card else {})


def training_step(handed: Handed, model: nn.Module, device: torch.device) -> Work:
    """One step as `train` makes it: batch, forward, backward, clipping, AdamW."""
    from xattn_edu.training.loop import adamw

    settings, half = handed.settings, precision_on(device) == "bf16"
    indices = torch.arange(min(settings["batch_size"], len(handed.train_set)))
    augment, loss = settings.get("augment") or (lambda images: images), settings.get("loss", F.cross_entropy)
    optimizer = adamw(model, settings.get("learning_rate", 1e-3), settings.get("weight_decay", 0.05))

    def batch(indices: Tensor, device: torch.device) -> tuple[list[Tensor], Tensor]:
        first, *rest, target = take(handed.train_set, indices, device)
        return [augment(first), *rest], target

    def step() -> None:
        inputs, target = batch(indices, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            output = model(*inputs)
        loss(output.float(), target).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    inputs, _ = batch(indices[:1], CPU)
    return Work(step, 3.0 * len(indices) * costs.count(model, *inputs).macs)


def product(device: torch.device) -> Work:
    """A product of two square matrices."""
    side = SQUARE[device.type]
    dtype = torch.bfloat16 if precision_on(device) == "bf16" else torch.float32
    left, right = torch.randn(2, side, side, device=device, dtype=dtype).unbind(0)
    return Work(lambda: left @ right, float(side) ** 3)


def repeated(work: Work, device: torch.device) -> Callable[[], float]:
    """A function that does the work several times and returns the seconds of one time, waiting once at the end."""

    def run(times: int) -> float:
        begin = time.perf_counter()
        for _ in range(times):
            work.step()
        wait_for(device)
        return (time.perf_counter() - begin) / times

    run(1)  # the first time chooses kernels and takes memory
    times = max(1, round(CHUNK / run(1)))
    return lambda: run(times)
