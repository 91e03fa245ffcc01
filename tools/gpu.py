#!/usr/bin/env python3
"""Test and measure the library on a CUDA card: one command, at most ten minutes, one record.

    make gpu        (or: python tools/gpu.py [PART ...] [--minutes 10], with a Python whose torch sees the card)

    tests       the tests that carry the mark gpu
    training    each reduced model, trained by its own recipe for some seconds: the minutes of its whole run
    precision   outputs and gradients of each reduced model: bf16 against float32, the card against the CPU
    attention   the backends of fused attention: which run, how fast, how far from the written-out equation
    speed       training steps a second, against the CPU and against a matrix product on the same device

Without a PART all of them run. Each runs in a process of its own and has a fixed share of the minutes, whether it runs
alone or with the others. Its section of results/benchmarks/gpu.json is written whole, as soon as the part is done. A
part that fails is recorded as well, and the next one runs. What another machine or another version measured is removed.

`--device cpu --seconds 60` rehearses the same code on the CPU, with the models of profile ci. A rehearsal stores its
record only in a file that `--output` names.

This file needs the standard library alone, so that it can name the packages that are missing.
"""

import argparse
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the library of this clone, installed or not
RECORD = ROOT / "results" / "benchmarks" / "gpu.json"
BEGIN = time.monotonic()

SHARES = {"tests": 0.16, "training": 0.42, "precision": 0.16, "attention": 0.08, "speed": 0.14}  # the rest: starting
NEEDS = {  # packages beyond LIBRARY; a single model that needs one more is skipped by itself
    "tests": ("pytest", "matplotlib", "hypothesis"),
    "training": ("accelerate", "safetensors", "tqdm"),
}
LIBRARY = ("torch", "numpy", "einops", "jaxtyping")
GRACE = 60  # seconds that a part on a card may overrun its share before it is stopped
LONGEST_START = 300  # seconds that all parts together have at least: importing torch may take many
NO_CARD, PROBLEMS = 3, 4  # exit status of a process: a Python that stops with an error has 1
PATIENCE = 1800  # the same in a rehearsal, perhaps on a busy machine


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if missing := absent(LIBRARY):
        print(f"the library needs {missing}: install it into {sys.executable}, then run this again", file=sys.stderr)
        return 1
    if options.here:
        return run_here(options)
    if options.output is not None:
        return run_in_processes(options)
    with tempfile.TemporaryDirectory() as folder:
        options.output = Path(folder) / "gpu.json"
        return run_in_processes(options)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(SHARES)}; all by default")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together (10)")
    parser.add_argument("--seconds", type=float, help="instead of --minutes")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu is a rehearsal")
    parser.add_argument("--profile", help="of the reduced models: gpu, or ci in a rehearsal")
    parser.add_argument("--models", default="*", help="only these reduced models: patterns such as 'lavt*,*cnn*'")
    parser.add_argument("--output", type=Path, help="the record; by default results/benchmarks/gpu.json")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this process
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in (*SHARES, "machine")]:
        parser.error(f"no part is called {unknown[0]}: the parts are {', '.join(SHARES)}")
    options.seconds = 60 * options.minutes if options.seconds is None else options.seconds
    if not options.seconds > 0:
        parser.error(f"give a time above 0, not {options.seconds:g} seconds")
    rehearsal = options.device == "cpu"
    options.profile = options.profile or ("ci" if rehearsal else "gpu")
    if options.output is None and not rehearsal:
        options.output = RECORD
    options.parts = options.parts or list(SHARES)
    return options


def absent(packages: tuple[str, ...]) -> str:
    """The packages that are not installed, as words; "" if all are."""
    return ", ".join(name for name in packages if importlib.util.find_spec(name) is None)


# --- one process a part


def run_in_processes(options: argparse.Namespace) -> int:
    """Each part in a process of its own, which a crash, an error of CUDA or a hang can end alone."""
    least = PATIENCE if options.device == "cpu" else LONGEST_START
    end = BEGIN + max(options.seconds, least)
    if status := start("machine", options, end):  # no card, perhaps: that process has printed the line
        if status != NO_CARD:
            print(f"the machine cannot be described: {status}", file=sys.stderr)
        return 1
    failed = False
    for part in options.parts:
        status = start(part, options, end)
        if isinstance(status, str):
            store(options.output, part, {"problems": [status]})
        failed = failed or bool(status)
    print(report(json.loads(options.output.read_text(encoding="utf-8"))))
    return int(failed)


def start(part: str, options: argparse.Namespace, end: float) -> int | str:
    """Run a part in a new process: its exit status, or in words why it wrote no section."""
    share, left = SHARES.get(part, 0.0) * options.seconds, end - time.monotonic()
    if left <= 0:
        return "not begun: the minutes were used up"
    patience = left if options.device == "cpu" else min(share + GRACE, left)
    seconds = min(options.seconds, left / SHARES.get(part, 1.0))  # less if the parts before took more
    command = [sys.executable, __file__, part, "--here", "--seconds", str(seconds)]
    command += ["--device", options.device, "--profile", options.profile, "--models", options.models]
    try:
        status = subprocess.run([*command, "--output", str(options.output)], timeout=patience).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {patience:.0f} seconds"
    return status if status in (0, NO_CARD, PROBLEMS) else f"its process ended with status {status}"


# --- a part in this process


def run_here(options: argparse.Namespace) -> int:
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} of {sys.executable} sees no CUDA card: run `python tools/gpu.py` with a Python "
            "whose torch sees one, or rehearse with `--device cpu --seconds 60`",
            file=sys.stderr,
        )
        return NO_CARD
    from gpu_parts import header

    keep_if_same(options.output, header(torch.device(options.device), options.profile))
    failed = False
    for part in options.parts:
        if part != "machine":
            failed = run_part(part, options) or failed
    return PROBLEMS if failed else 0


def run_part(part: str, options: argparse.Namespace) -> bool:
    """Run a part, store its section, and return whether it has problems."""
    import torch
    from gpu_parts import PARTS, Setup

    from xattn_edu.files import first_line

    print(f"{part} ...", flush=True)
    limit, begin = SHARES[part] * options.seconds, time.monotonic()
    if missing := absent(NEEDS.get(part, ())):
        section = {"skipped": [f"needs {missing}"]}
    else:
        first = BEGIN if options.parts == [part] else begin  # the start of this process counts as well
        setup = Setup(torch.device(options.device), options.profile, options.models, first + limit)
        try:
            section = PARTS[part](setup)
        except Exception as error:  # noqa: BLE001 - whatever went wrong belongs into the record
            section = {"problems": [first_line(error)]}
    times = {"limit_s": round(limit, 1), "seconds": round(time.monotonic() - begin, 1)}
    section = times | ({} if options.models == "*" else {"models": options.models}) | section
    store(options.output, part, section)
    return bool(section.get("problems"))


# --- the record


def keep_if_same(path: Path, header: dict) -> None:
    """Begin a record for this machine; sections stay if the same machine and the same versions wrote them."""
    there = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if {name: there.get(name) for name in header} != header:
        write(path, header | {"parts": {}})


def store(path: Path, part: str, section: dict) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    parts = record["parts"] | {part: section}
    write(path, record | {"parts": {name: parts[name] for name in SHARES if name in parts}})


def write(path: Path, record: dict) -> None:
    from xattn_edu.files import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(rounded(record), indent=1, allow_nan=False) + "\n").encode())


def rounded(value: object) -> object:
    """Decimals to four digits; None for what is not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value


def report(record: dict) -> str:
    """The record as tables for the terminal."""
    lines = [", ".join(f"{name} {value}" for name, value in record["machine"].items())]
    lines.append(", ".join(f"{name} {value}" for name, value in record["versions"].items()))
    for part, section in record["parts"].items():
        counts = {name: value for name, value in section.items() if isinstance(value, int | float | str)}
        lines += ["", f"{part}: " + ", ".join(f"{name} {value}" for name, value in counts.items())]
        lines += table(section.get("rows", []))
        lines += [f"  skipped: {words}" for words in section.get("skipped", [])]
        lines += [f"  PROBLEM: {words}" for words in section.get("problems", [])]
    return "\n".join(lines)


def table(rows: list[dict]) -> list[str]:
    """Rows of one section in columns; what a row lacks is left blank."""
    flat = [dict(cells("", row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    lines = [names] + [[row.get(name, "") for name in names] for row in flat]
    widths = [max(len(line[place]) for line in lines) for place in range(len(names))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines if line]


def cells(prefix: str, value: object) -> list[tuple[str, str]]:
    """The numbers and words in a row, those of an inner dictionary under "outer inner"."""
    if isinstance(value, dict):
        return [cell for name, inner in value.items() for cell in cells(f"{prefix} {name}".strip(), inner)]
    return [(prefix, f"{value:g}" if isinstance(value, float) else str(value))]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("stopped; the parts that were finished are stored")
