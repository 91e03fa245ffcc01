"""How fast LAVT runs here: Swin-B at 480 pixels against a large matrix product, and the parts of a reduced one's step.

    make benchmark                      (or: python benchmarks/lavt.py [--quick] [--save])

What is compared runs in turns in one process; reported are medians and CPU time over wall time (near the number of
threads, or something else was running). Peak memory is counted from torch's allocations. `--save` writes
results/benchmarks/lavt.json.
"""

import argparse
import importlib.metadata
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu import create_model
from xattn_edu.data import scenes as referring_scenes
from xattn_edu.experiments.referring import MODELS, RECIPE, batch_of, scene_set
from xattn_edu.experiments.sizes import LAVT_SIZES
from xattn_edu.files import write_atomically
from xattn_edu.machine import describe_machine
from xattn_edu.measure import costs
from xattn_edu.models.language import build_tokenizer
from xattn_edu.models.lavt import LAVT
from xattn_edu.models.losses import dice_loss
from xattn_edu.training.loop import adamw

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "lavt.json"
SQUARE = 2048
SIZE, WORDS = 480, 20


def large(rounds: int, size: int = SIZE) -> dict[str, Any]:
    """Swin-B LAVT, batch 1, eval: its arithmetic rate as a share of a matrix product's, its peak memory, its parts."""
    torch.manual_seed(0)
    model = create_model("lavt_swin_base", window=12).eval()
    inputs = (torch.randn(1, 3, size, size), torch.randint(1000, 30_000, (1, WORDS)), torch.ones(1, WORDS).bool())
    counted = costs.count(model, *inputs)
    left, right = torch.randn(2, SQUARE, SQUARE).unbind(0)
    with torch.inference_mode():
        runs = costs.time_in_turns({"sgemm": lambda: left @ right, "lavt": lambda: model(*inputs)}, rounds)
        peak = costs.peak_memory(model, *inputs)
        parts = time_of_parts(model, lambda: model(*inputs))
    shares = [(counted.macs / a[0]) / (SQUARE**3 / b[0]) for a, b in zip(runs["lavt"], runs["sgemm"])]
    return {
        "size": size,
        "share": statistics.median(shares),
        "low": min(shares),
        "high": max(shares),
        "seconds": statistics.median(wall for wall, _ in runs["lavt"]),
        "sgemm_gflops": 2 * SQUARE**3 / statistics.median(wall for wall, _ in runs["sgemm"]) / 1e9,
        "busy": {
            name: sum(cpu for _, cpu in of_name) / sum(wall for wall, _ in of_name) for name, of_name in runs.items()
        },
        "macs": counted.macs,
        "parameters": counted.parameters,
        "peak_bytes": peak,
        "parts": parts,
        "macs_of_parts": {name: part.macs / counted.macs for name, part in counted.parts.items()},
    }


def time_of_parts(model: LAVT, run: Callable[[], object]) -> dict[str, float]:
    """The share of `run()`'s wall time that each part of the model takes, from hooks around its modules."""
    swin = model.image_encoder
    parts: dict[str, list[nn.Module]] = {
        "language": [model.language],
        "Swin": [swin.patch_embedding, *swin.stages, *swin.merges, *swin.norms],
        "PWAM": [*model.fusions],
        "gates": [*model.pathways],
        "decoder": [model.decoder],
    }
    seconds, begin, hooks = dict.fromkeys(parts, 0.0), {}, []
    for name, modules in parts.items():
        for module in modules:

            def start(module: nn.Module, _: Any) -> None:
                begin[module] = time.perf_counter()

            def stop(module: nn.Module, _: Any, __: Any, name: str = name) -> None:
                seconds[name] += time.perf_counter() - begin[module]

            hooks += [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]
    whole = time.perf_counter()
    run()
    whole = time.perf_counter() - whole
    for hook in hooks:
        hook.remove()
    return {name: value / whole for name, value in seconds.items()}


def reduced(rounds: int) -> dict[str, Any]:
    """Training steps a second of the models of `xattn reproduce lavt`, profile ci, and the parts of LAVT's step."""
    size, batch = LAVT_SIZES["ci"], RECIPE["batch_size"]
    tokenizer = build_tokenizer(referring_scenes.vocabulary("english"))
    drawing = time.process_time()
    samples = scene_set(referring_scenes.scenes("train", 2048, size=size.image), tokenizer)
    drawing = (time.process_time() - drawing) * batch / len(samples) / size.epochs  # each scene is drawn once
    inputs = batch_of(samples, torch.arange(batch))
    functions = {}
    for name, build in MODELS.items():
        torch.manual_seed(0)
        functions[name] = training_step(build(size, len(tokenizer)).train(), inputs)
    runs = costs.time_in_turns(functions, rounds)
    rows = {
        name: {
            "per_second": 1 / statistics.median(wall for wall, _ in of_name),
            "relative": statistics.median(b[0] / a[0] for a, b in zip(of_name, runs["lavt"])),
            "busy": sum(cpu for _, cpu in of_name) / sum(wall for wall, _ in of_name),
        }
        for name, of_name in runs.items()
    }
    return {
        "batch": batch,
        "rows": rows,
        "step": step_of(MODELS["lavt"](size, len(tokenizer)), samples, drawing, rounds),
    }


def training_step(model: nn.Module, inputs: list[Tensor]) -> Callable[[], None]:
    optimizer = adamw(model, LAVT_SIZES["ci"].learning_rate, RECIPE["weight_decay"])

    def step() -> None:
        dice_loss(model(*inputs[:3]), inputs[3]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), RECIPE["clip"])
        optimizer.step()
        optimizer.zero_grad()

    return step


def step_of(model: nn.Module, samples: Any, drawing: float, rounds: int) -> dict[str, float]:
    """Median CPU seconds of each part of a training step: drawing its scenes, making the batch, and so on."""
    optimizer = adamw(model.train(), LAVT_SIZES["ci"].learning_rate, RECIPE["weight_decay"])
    times: dict[str, list[float]] = {name: [] for name in ("batch", "forward", "backward", "update")}
    for number in range(rounds + 1):
        clock = [time.process_time()]
        *inputs, masks = batch_of(samples, torch.randperm(len(samples))[: RECIPE["batch_size"]])
        clock.append(time.process_time())
        loss = dice_loss(model(*inputs), masks)
        clock.append(time.process_time())
        loss.backward()
        clock.append(time.process_time())
        nn.utils.clip_grad_norm_(model.parameters(), RECIPE["clip"])
        optimizer.step()
        optimizer.zero_grad()
        clock.append(time.process_time())
        for name, start, end in zip(times, clock, clock[1:]):
            times[name] += [end - start] if number else []
    return {"drawing": drawing} | {name: statistics.median(values) for name, values in times.items()}


def report(record: dict[str, Any]) -> None:
    big, small = record["large"], record["reduced"]
    product, weights = f"a matrix product's {big['sgemm_gflops']:.0f} GFLOP/s", 4 * big["parameters"]
    print(
        f"Swin-B LAVT, {big['size']} x {big['size']}, batch 1: {big['seconds']:.2f} s, {big['macs'] / 1e9:.1f} G MACs, "
        f"{big['share']:.2f} ({big['low']:.2f} to {big['high']:.2f}) of {product} "
        f"(CPU / wall {big['busy']['lavt']:.2f} and {big['busy']['sgemm']:.2f})"
    )
    print(f"  peak memory {big['peak_bytes'] / 2**20:.0f} MiB above the {weights / 2**20:.0f} MiB of its weights")
    print("  time: " + ", ".join(f"{name} {share:.0%}" for name, share in big["parts"].items()))
    print("  MACs: " + ", ".join(f"{name} {share:.0%}" for name, share in big["macs_of_parts"].items()))
    print(f"\ntraining steps of the reduced models, batch {small['batch']}")
    for name, row in small["rows"].items():
        print(f"  {name:<16}{row['per_second']:6.2f} steps/s   x {row['relative']:.2f}   CPU / wall {row['busy']:.2f}")
    whole = sum(small["step"].values())
    print(f"  a step of lavt, {1000 * whole:.0f} ms of CPU: ", end="")
    print(", ".join(f"{name} {seconds / whole:.1%}" for name, seconds in small["step"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, a small image: to see that it runs")
    parser.add_argument("--save", action="store_true", help=f"write {RESULT.relative_to(RESULT.parents[2])}")
    options = parser.parse_args()
    rounds, size = (1, 192) if options.quick else (9, SIZE)
    record: dict[str, Any] = {"large": large(rounds, size), "reduced": reduced(rounds)}
    report(record)
    if options.save:
        record |= {
            "machine": describe_machine(torch.device("cpu")),
            "versions": {"torch": importlib.metadata.version("torch")},
        }
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(RESULT, (json.dumps(record, indent=1) + "\n").encode())
        print(f"written to {RESULT.relative_to(RESULT.parents[2])}")


if __name__ == "__main__":
    main()
