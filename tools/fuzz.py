"""Give every reader of the library damaged and hostile files, and store what became of them.

    make fuzz                      (or: python tools/fuzz.py [--inputs 10000] [--seed 0] [--reader NAME ...] [--save])

Two processes read the inputs, each watched by this one; tests/helpers/fuzzing.py says how, and what is right. With
`make fuzz`, the record goes to results/benchmarks/fuzz.json after each reader: how many inputs were refused and how
many read, and the most processor time and memory that one of them took, beside the bounds. Inputs that went wrong are
printed; the exit status is then 1. The same seed and number of inputs make the same inputs.
"""

import argparse
import json
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "results" / "benchmarks" / "fuzz.json"
WORKERS = 2


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
    parser.add_argument("--reader", choices=READERS, nargs="+", default=list(READERS), help="these only")
    parser.add_argument("--save", action="store_true", help="write the record")
    options = parser.parse_args(arguments)
    counts = shares(options.inputs, {name: reader.weight for name, reader in READERS.items()})
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        workers = [fuzzing.Worker(Path(folder) / str(number), options.seed) for number in range(WORKERS)]
        for name in options.reader:
            outcomes, wrong = read_all(workers, name, counts[name])
            rows.append(row(name, outcomes, READERS[name].memory, options.seed, len(wrong)))
            print(f"{name}: {counts[name]} inputs, {len(wrong)} wrong", *wrong, sep="\n    ", flush=True)
            if options.save:
                save(rows, list(READERS))
        for worker in workers:
            worker.stop()
    print(table(rows))
    return int(any(line["wrong"] for line in rows))


def read_all(workers: list[Any], name: str, count: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The outcomes of a reader's inputs, and what is wrong with them."""
    from helpers import fuzzing

    def read(number: int) -> list[tuple[int, dict[str, Any], str | None]]:
        return list(fuzzing.run(workers[number], name, range(number, count, len(workers))))

    with ThreadPoolExecutor(len(workers)) as pool:
        found = [outcome for part in pool.map(read, range(len(workers))) for outcome in part]
    return [outcome for _, outcome, _ in found], [fault for _, _, fault in found if fault]


def row(name: str, outcomes: list[dict[str, Any]], bound: int, seed: int, wrong: int) -> dict[str, Any]:
    """The record of one reader. Seconds are the processor's, of all inputs together and of the slowest."""
    lived = [outcome for outcome in outcomes if "died" not in outcome]
    seconds = [outcome["seconds"] for outcome in lived]
    return {
        "reader": name,
        "seed": seed,
        "inputs": len(outcomes),
        "refused": sum(bool(outcome.get("refused")) for outcome in lived),
        "read": sum("digest" in outcome for outcome in lived),
        "wrong": wrong,
        "seconds": round(sum(seconds), 2),
        "most_seconds": round(max(seconds), 2),
        "peak_mebibytes": max(outcome["memory"] for outcome in lived),
        "bound_mebibytes": bound,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0])] + [[str(value) for value in line.values()] for line in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def save(rows: list[dict[str, Any]], order: list[str]) -> None:
    """Put the rows into the record, in the place of older ones of the same readers."""
    import numpy
    import PIL
    import torch
    import transformers
    from helpers import fuzzing

    from xattn_edu.files import write_atomically
    from xattn_edu.machine import describe_machine

    before = json.loads(RESULT.read_text(encoding="utf-8"))["readers"] if RESULT.exists() else []
    known = {line["reader"]: line for line in before + rows}
    packages = {"torch": torch, "transformers": transformers, "numpy": numpy, "pillow": PIL}
    record = {
        "inputs": sum(line["inputs"] for line in known.values()),
        "bound_seconds": fuzzing.SECONDS,
        "machine": describe_machine(torch.device("cpu")),
        "versions": {"python": platform.python_version()} | {n: m.__version__ for n, m in packages.items()},
        "readers": [known[name] for name in order if name in known],
    }
    write_atomically(RESULT, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
