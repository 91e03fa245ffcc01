"""Give every reader of the library damaged and hostile files, and store what became of them.

    make fuzz                      (or: python tools/fuzz.py [--inputs 10000] [--seed 0] [--reader NAME] [--save])

Two processes read the inputs, each watched by this one; tests/helpers/fuzzing.py says how, and what is right. With
`make fuzz`, the record goes to results/benchmarks/fuzz.json: for each reader how many inputs there were, how many were
refused and how many read, and the most processor time and memory that one of them took. A reader's bound of memory is
in the record. Every input that went wrong is printed; the exit status is then 1. The same seed makes the same inputs.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "results" / "benchmarks" / "fuzz.json"
WORKERS = 2
PIECE = 50  # inputs that a worker takes at a time


def shares(total: int, weights: dict[str, int]) -> dict[str, int]:
    """How many of the inputs each reader gets, in proportion to its weight: `total` or a few more."""
    return {name: -(-total * weight // sum(weights.values())) for name, weight in weights.items()}


def main(arguments: list[str]) -> int:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from helpers import fuzzing
    from helpers.fuzzed_readers import READERS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=READERS, help="this one only")
    parser.add_argument("--save", action="store_true", help="write the record")
    options = parser.parse_args(arguments)
    chosen = {name: reader.weight for name, reader in READERS.items() if options.reader in (None, name)}
    counts = shares(options.inputs, chosen)
    pieces = [(name, range(n, min(n + PIECE, end))) for name, end in counts.items() for n in range(0, end, PIECE)]

    start, outcomes, wrong = time.time(), {name: [] for name in chosen}, []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        workers: SimpleQueue[Any] = SimpleQueue()
        for number in range(WORKERS):
            workers.put(fuzzing.Worker(Path(folder) / str(number), options.seed))

        def read(piece: tuple[str, range]) -> None:
            name, numbers = piece
            worker = workers.get()
            for _, outcome, fault in fuzzing.run(worker, name, numbers):
                outcomes[name].append(outcome)
                if fault:
                    wrong.append(fault)
                    print(fault, flush=True)
            print(f"{name}: {numbers.stop} of {counts[name]}", flush=True)
            workers.put(worker)

        list(pool.map(read, pieces))
        for _ in range(WORKERS):
            workers.get().stop()

    rows = [row(name, outcomes[name], READERS[name].memory) for name in chosen]
    print(table(rows))
    print(f"{sum(r['inputs'] for r in rows):,} inputs in {time.time() - start:.0f} s, {len(wrong)} wrong")
    if options.save:
        save(rows, options.seed, time.time() - start, wrong)
    return int(bool(wrong))


def row(name: str, outcomes: list[dict[str, Any]], bound: int) -> dict[str, Any]:
    """The record of one reader."""
    lived = [outcome for outcome in outcomes if "died" not in outcome]
    return {
        "reader": name,
        "inputs": len(outcomes),
        "refused": sum(bool(outcome.get("refused")) for outcome in lived),
        "read": sum("digest" in outcome for outcome in lived),
        "most_seconds": round(max(outcome["seconds"] for outcome in lived), 2),
        "peak_mebibytes": max(outcome["memory"] for outcome in lived),
        "bound_mebibytes": bound,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0])] + [[str(value) for value in line.values()] for line in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def save(rows: list[dict[str, Any]], seed: int, seconds: float, wrong: list[str]) -> None:
    import platform

    import numpy
    import PIL
    import torch
    import transformers
    from helpers import fuzzing

    from xattn_edu.files import write_atomically
    from xattn_edu.machine import describe_machine

    packages = {"torch": torch, "transformers": transformers, "numpy": numpy, "pillow": PIL}
    record = {
        "inputs": sum(line["inputs"] for line in rows),
        "seed": seed,
        "wrong": len(wrong),
        "seconds": round(seconds, 1),
        "bound_seconds": fuzzing.SECONDS,
        "machine": describe_machine(torch.device("cpu")),
        "versions": {"python": platform.python_version()} | {n: m.__version__ for n, m in packages.items()},
        "readers": rows,
    }
    write_atomically(RESULT, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
