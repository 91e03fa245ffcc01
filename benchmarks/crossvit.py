"""How fast CrossViT runs here: against timm's, against DeiT-S, against a large matrix product, and fusion by fusion.

    make benchmark                      (or: python benchmarks/crossvit.py [--quick] [--save])

The rows named timm need timm, which only the environment of `make parity` has: `make benchmark` uses that one for this
file if it is there. Everything compared runs in turns in one process; reported are medians, the median of the ratios of
neighbouring runs, and CPU time over wall time (near the number of threads, or something else was running). Peak memory
is counted from torch's allocations. `--save` writes results/benchmarks/crossvit.json.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu import create_model
from xattn_edu.experiments.fusions import TASKS, small_crossvit
from xattn_edu.experiments.sizes import FUSION_SIZES
from xattn_edu.files import first_line, write_atomically
from xattn_edu.machine import describe_machine
from xattn_edu.measure import costs
from xattn_edu.models.fusions import PAPER_FUSIONS, ClassTokenAttention
from xattn_edu.training.loop import adamw

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "crossvit.json"
BATCH, SQUARE = 16, 2048
MACS = costs.count(create_model("crossvit_small_240", folded=False), torch.zeros(1, 3, 240, 240)).macs
Runs = dict[str, list[tuple[float, float]]]


def models() -> dict[str, nn.Module]:
    """CrossViT-S and DeiT-S, ours and timm's where there is a timm, with random weights; ours twice, see `folded`."""
    torch.manual_seed(0)
    found = {
        "ours": create_model("crossvit_small_240"),
        "ours, keys and values formed": create_model("crossvit_small_240", folded=False),
        "our DeiT-S": create_model("deit_small_patch16_224"),
    }
    if importlib.util.find_spec("timm"):
        import timm
        from timm.layers import set_fused_attn

        set_fused_attn(True)
        found["timm"] = timm.create_model("crossvit_small_240")
        found["timm's DeiT-S"] = timm.create_model("deit_small_patch16_224")
    return found


def images_for(name: str, batch: int) -> Tensor:
    side = 224 if "DeiT" in name else 240
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def summary(runs: Runs, reference: str, work: dict[str, float]) -> dict[str, dict[str, float]]:
    """For each function: `work` a second, its speed relative to the reference's (paired by round), CPU / wall time."""
    walls = {name: [wall for wall, _ in of_name] for name, of_name in runs.items()}
    rows = {}
    for name, of_name in runs.items():
        rates = [(work[name] / a) / (work[reference] / b) for a, b in zip(walls[name], walls[reference])]
        rows[name] = {
            "per_second": work[name] / statistics.median(walls[name]),
            "relative": statistics.median(rates),
            "low": min(rates),
            "high": max(rates),
            "busy": sum(cpu for _, cpu in of_name) / sum(walls[name]),
        }
    return rows


def inference(networks: dict[str, nn.Module], rounds: int, batch: int = BATCH) -> dict[str, Any]:
    """Images a second in eval mode, relative to ours, and the arithmetic rate as a share of a matrix product's."""
    for network in networks.values():
        network.eval()
    inputs = {name: images_for(name, batch) for name in networks}
    left, right = torch.randn(2, SQUARE, SQUARE).unbind(0)
    with torch.inference_mode():
        functions: dict[str, Callable[[], object]] = {
            name: lambda network=network, x=inputs[name]: network(x) for name, network in networks.items()
        }
        runs = costs.time_in_turns({"sgemm": lambda: left @ right} | functions, rounds)
    products = runs.pop("sgemm")
    rows = summary(runs, "ours", dict.fromkeys(runs, batch))
    shares = [(batch * MACS / a[0]) / (SQUARE**3 / b[0]) for a, b in zip(runs["ours"], products)]
    return {"rows": rows, "sgemm_gflops": 2 * SQUARE**3 / statistics.median(w for w, _ in products) / 1e9} | {
        "share": statistics.median(shares),
        "batch": batch,
    }


def training(networks: dict[str, nn.Module], rounds: int, batch: int = 8) -> dict[str, Any]:
    """Images a second of whole training steps: forward, backward, AdamW."""
    functions = {name: training_step(network.train(), (images_for(name, batch),)) for name, network in networks.items()}
    runs = costs.time_in_turns(functions, rounds)
    return {"rows": summary(runs, "ours", dict.fromkeys(runs, batch)), "batch": batch}


def training_step(network: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], None]:
    optimizer = adamw(network, 1e-4, 0.05)

    def step() -> None:
        network(*inputs).logsumexp(dim=1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compiled(networks: dict[str, nn.Module], rounds: int) -> dict[str, Any]:
    """`inference` after torch.compile; {"error": ...} where there is no compiler."""
    try:
        compiled_ones = {name: torch.compile(network.eval()) for name, network in networks.items()}
        return inference(compiled_ones, rounds)
    except Exception as error:  # noqa: BLE001 - a machine without a C++ compiler fails in many ways
        return {"error": first_line(error)}


def bfloat16(network: nn.Module, rounds: int) -> dict[str, Any]:
    """Ours in float32 and under bfloat16 autocast."""
    x = images_for("ours", BATCH)

    def half() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            network(x)

    network.eval()
    with torch.inference_mode():
        runs = costs.time_in_turns({"ours": lambda: network(x), "ours, bfloat16": half}, rounds)
    return {"rows": summary(runs, "ours", dict.fromkeys(runs, BATCH))}


def memory(networks: dict[str, nn.Module]) -> dict[str, dict[str, int]]:
    """Peak bytes above what was there before: inference at batch 16, a training step at batch 8."""
    found = {}
    for name, network in networks.items():
        with torch.inference_mode():
            inferring = costs.peak_memory(network.eval(), images_for(name, BATCH))
        step = training_step(network.train(), (images_for(name, 8),))
        step()  # AdamW's moments are there from the first step on
        found[name] = {"inference": inferring, "training": costs.peak_memory(step)}
    return found


def folding(sizes: list[int], rounds: int, width: int = 384, heads: int = 6) -> list[dict[str, Any]]:
    """One class-token attention, written out and folded, for N patches: seconds of eval and of forward and backward."""
    rows = []
    for patches in sizes:
        torch.manual_seed(0)
        layer = ClassTokenAttention(192, width, heads)
        query, others = torch.randn(BATCH, 1, 192), torch.randn(BATCH, patches, width, requires_grad=True)

        def run(folded: bool, learn: bool, layer=layer, query=query, others=others) -> None:
            layer.folded = folded
            with torch.set_grad_enabled(learn):
                output = layer(query, others)[0]
                if learn:
                    output.sum().backward()

        ways = [("written", False), ("folded", True)]
        for mode, learn in (("eval", False), ("forward and backward", True)):
            functions = {way: (lambda f=folded, g=learn: run(f, g)) for way, folded in ways}
            runs = costs.time_in_turns(functions, rounds)
            for way, row in summary(runs, "written", dict.fromkeys(runs, BATCH)).items():
                rows.append({"patches": patches, "mode": mode, "way": way} | row)
    return rows


def small_fusions(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Training steps a second of the small models of `xattn reproduce fusions`, relative to no fusion."""
    found = {}
    for task, described in TASKS.items():
        views = tuple(torch.randn(64, 1, side, side) for side in described.image_sizes)
        views = views[:1] if task == "fashion" else views
        size = FUSION_SIZES["ci"]
        functions = {name: training_step(small_crossvit(task, name, size), views) for name in PAPER_FUSIONS}
        runs = costs.time_in_turns(functions, rounds)
        found[task] = summary(runs, "none", dict.fromkeys(runs, 1))
    return found


def profile(networks: dict[str, nn.Module], most: int = 10) -> dict[str, dict[str, float]]:
    """Where the time of inference goes: each operator's share, largest first."""
    found = {}
    for name, network in networks.items():
        x = images_for(name, BATCH)
        with torch.inference_mode():
            network.eval()(x)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
                network(x)
        events = record.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        largest = sorted(events, key=lambda event: -event.self_cpu_time_total)[:most]
        found[name] = {event.key: event.self_cpu_time_total / total for event in largest}
    return found


def show(title: str, measured: dict[str, Any], unit: str = "images/s") -> None:
    print(f"\n{title}")
    if "error" in measured:
        print(f"  not measured: {measured['error']}")
        return
    for name, row in measured["rows"].items():
        print(
            f"  {name:<30}{row['per_second']:9.2f} {unit}   x {row['relative']:.2f}"
            f" ({row['low']:.2f} to {row['high']:.2f})   CPU / wall {row['busy']:.2f}"
        )
    if "share" in measured:
        product = f"a {SQUARE} x {SQUARE} matrix product's {measured['sgemm_gflops']:.0f} GFLOP/s"
        print(f"  ours does {measured['share']:.2f} of {product}")


SECTIONS = ["inference", "training", "compiled", "bfloat16", "memory", "folding", "small_fusions", "profile"]


def measure(networks: dict[str, nn.Module], sections: list[str], rounds: int, quick: bool) -> dict[str, Any]:
    pair = {name: network for name, network in networks.items() if name in ("ours", "timm")}
    crossvits = {name: network for name, network in networks.items() if "DeiT" not in name}
    functions: dict[str, Callable[[], Any]] = {
        "inference": lambda: inference(networks, rounds, 2 if quick else BATCH),
        "training": lambda: training(crossvits, rounds, 2 if quick else 8),
        "compiled": lambda: compiled(pair, rounds),
        "bfloat16": lambda: bfloat16(networks["ours"], 3),
        "memory": lambda: memory(pair),
        "folding": lambda: folding([49, 196] if quick else [49, 196, 400, 784, 1600], rounds),
        "small_fusions": lambda: small_fusions(rounds),
        "profile": lambda: profile(pair),
    }
    slow = ("compiled", "bfloat16", "memory") if quick else ()
    return {name: function() for name, function in functions.items() if name in sections and name not in slow}


def report(record: dict[str, Any]) -> None:
    for name, title in (("inference", "eager"), ("compiled", "compiled"), ("bfloat16", "bfloat16 autocast")):
        if name in record:
            show(f"inference, batch {record[name].get('batch', BATCH)}, {title}", record[name])
    if "training" in record:
        show(f"training step, batch {record['training']['batch']}, eager", record["training"])
    for name, peak in record.get("memory", {}).items():
        print(f"peak memory (MiB), {name:<20}" + "".join(f"{mode} {n / 2**20:8.1f}   " for mode, n in peak.items()))
    for row in record.get("folding", []):
        if row["way"] == "folded":
            print(
                f"class-token attention (width 384, batch 16), {row['patches']:5} patches, {row['mode']:<22} folded"
                f" x {row['relative']:.2f} ({row['low']:.2f} to {row['high']:.2f}) as fast"
            )
    for task, rows in record.get("small_fusions", {}).items():
        show(f"training step of the reduced model, {task}, batch 64", {"rows": rows}, "steps/s")
    for name, shares in record.get("profile", {}).items():
        parts = ", ".join(f"{key.removeprefix('aten::')} {share:.0%}" for key, share in shares.items())
        print(f"\nwhere the time goes, {name}: {parts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds, small sizes: to see that it runs")
    parser.add_argument("--save", action="store_true", help=f"write {RESULT.relative_to(RESULT.parents[2])}")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="measure these; keep the rest")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="torch")
    rounds = 2 if options.quick else 9
    networks = models()
    record = measure(networks, options.only, rounds, options.quick)
    report(record)
    if options.save:
        versions = {p: importlib.metadata.version(p) for p in ("torch", "timm") if importlib.util.find_spec(p)}
        stored = json.loads(RESULT.read_bytes()) if RESULT.exists() and options.only != SECTIONS else {}
        record = stored | record | {"machine": describe_machine(torch.device("cpu")), "versions": versions}
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(RESULT, (json.dumps(record, indent=1) + "\n").encode())
        print(f"written to {RESULT.relative_to(RESULT.parents[2])}")


if __name__ == "__main__":
    main()
