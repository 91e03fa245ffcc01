"""What the key-value cache saves: time a step of decoding, with it and without, and of 64 sequences of 32 tokens.

    make benchmark                      (or: python benchmarks/decoding.py [--quick] [--save])

Both ways run in turns in one process, on the same random model, and must write the same tokens. Reported are medians,
ratios and CPU over wall time. `--save` writes results/benchmarks/decoding.json.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from xattn_edu.files import write_atomically
from xattn_edu.machine import describe_machine
from xattn_edu.measure import costs
from xattn_edu.models.decoding import greedy_decode
from xattn_edu.models.transformer import Transformer

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "decoding.json"
MODEL = {"vocabulary": 1000, "width": 256, "depth": 4, "heads": 8, "hidden": 1024, "dropout": 0.0}
SOURCE = 32


def whole(model: Transformer, batch: int, length: int, rounds: int) -> dict[str, float]:
    """Decoding of `batch` sequences of `length` tokens: seconds with and without the cache, and their ratio."""
    source = torch.randint(3, MODEL["vocabulary"], (batch, SOURCE))
    written = {cache: greedy_decode(model, source, length, cache=cache) for cache in (True, False)}
    assert torch.equal(written[True], written[False]), "the cache changed the tokens"
    assert written[True].shape == (batch, length), "all sequences ended early"
    times = costs.time_in_turns(
        {
            "cached": lambda: greedy_decode(model, source, length),
            "uncached": lambda: greedy_decode(model, source, length, cache=False),
        },
        rounds,
    )
    seconds = {name: statistics.median(wall for wall, _ in runs) for name, runs in times.items()}
    ratio = statistics.median(slow / fast for (slow, _), (fast, _) in zip(times["uncached"], times["cached"]))
    busy = {name: sum(cpu for _, cpu in runs) / sum(wall for wall, _ in runs) for name, runs in times.items()}
    return {
        "batch": batch,
        "length": length,
        "cached_seconds": seconds["cached"],
        "uncached_seconds": seconds["uncached"],
        "ratio": ratio,
        "cached_busy": busy["cached"],
        "uncached_busy": busy["uncached"],
    }


def steps(model: Transformer, batch: int, length: int, rounds: int) -> dict[str, list[float]]:
    """Median seconds of each step 1 .. length with the cache, and of some steps without it."""
    source = torch.randint(3, MODEL["vocabulary"], (batch, SOURCE))
    cached = np.zeros((rounds, length))
    at = sorted({max(1, round(length * share)) for share in np.linspace(1 / 16, 1, 16)})
    uncached = np.zeros((rounds, len(at)))
    ids = torch.randint(3, MODEL["vocabulary"], (batch, length))
    for turn in range(rounds):
        cache = model.begin(source)
        for step in range(length):
            start = time.perf_counter()
            model.step(ids[:, step], cache)
            cached[turn, step] = time.perf_counter() - start
        for column, step in enumerate(at):
            start = time.perf_counter()
            model.logits(model.decoder(model.embed(ids[:, :step]), cache.memory, cache.memory_mask)[0][:, -1])
            uncached[turn, column] = time.perf_counter() - start
    return {
        "step": list(range(1, length + 1)),
        "cached_seconds": np.median(cached, axis=0).tolist(),
        "uncached_step": at,
        "uncached_seconds": np.median(uncached, axis=0).tolist(),
    }


def exponent(step: list[int], seconds: list[float]) -> float:
    """e of seconds ~ step^e over the later half of the steps: 1 is linear growth."""
    half = len(step) // 2
    return float(np.polyfit(np.log(step[half:]), np.log(seconds[half:]), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter, to see that it runs")
    parser.add_argument("--save", action="store_true", help=f"write {RESULT.relative_to(RESULT.parents[2])}")
    options = parser.parse_args()
    rounds, length = (2, 32) if options.quick else (7, 512)

    torch.manual_seed(0)
    model = Transformer(**MODEL).eval()
    with torch.inference_mode():
        total = whole(model, 64, 32, rounds)
        growth = steps(model, 16, length, rounds)
    growth_exponents = {
        "cached": exponent(growth["step"], growth["cached_seconds"]),
        "uncached": exponent(growth["uncached_step"], growth["uncached_seconds"]),
    }

    print(f"{MODEL}, source of {SOURCE} tokens, float32, {torch.get_num_threads()} threads\n")
    print("64 sequences of 32 tokens:")
    for name in ("cached", "uncached"):
        print(f"{name:>10}: {1e3 * total[f'{name}_seconds']:8.1f} ms   (CPU / wall time {total[f'{name}_busy']:.2f})")
    print(f"{'ratio':>10}: {total['ratio']:8.1f}\n")
    print(f"one step, 16 sequences:\n{'tokens':>10}{'cached (ms)':>14}{'uncached (ms)':>16}")
    for step, slow in zip(growth["uncached_step"], growth["uncached_seconds"]):
        print(f"{step:>10}{1e3 * growth['cached_seconds'][step - 1]:>14.2f}{1e3 * slow:>16.2f}")
    exponents = {name: f"t^{value:.2f}" for name, value in growth_exponents.items()}
    print(f"{'grows like':>10}{exponents['cached']:>14}{exponents['uncached']:>16}   (later half of the steps)")
    if options.save:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        record = {"model": MODEL | {"source": SOURCE}, "whole": total, "steps": growth, "exponents": growth_exponents}
        record |= {"machine": describe_machine(torch.device("cpu"))}
        write_atomically(RESULT, (json.dumps(record, indent=1) + "\n").encode())
        print(f"\nwritten to {RESULT.relative_to(RESULT.parents[2])}")


if __name__ == "__main__":
    main()
