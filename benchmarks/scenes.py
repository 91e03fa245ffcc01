"""How many referring scenes a second one core draws: layouts, sentences and pictures.

    make benchmark                      (or: python benchmarks/scenes.py [--quick] [--save])

The CPU time of this process is counted, so other work on the machine hardly matters, and the median over rounds is
reported. The sprites are tinted before the clock starts, because that happens once. `--save` writes
results/benchmarks/scenes.json.
"""

import argparse
import functools
import json
import os
import statistics
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one core; NumPy reads it at import

import torch  # noqa: E402

from xattn_edu.data.scenes import (
    LANGUAGES,  # noqa: E402
    OBJECTS,  # noqa: E402
    scene_layouts,  # noqa: E402
    scenes,  # noqa: E402
)
from xattn_edu.files import write_atomically  # noqa: E402
from xattn_edu.machine import describe_machine  # noqa: E402

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "scenes.json"
SIZES = (64, 96, 224)


def per_second(draw, count: int, rounds: int) -> float:
    """The median rate of `draw(seed)`, which makes `count` scenes, by CPU time; a round before the first warms up."""
    rates = []
    for seed in range(rounds + 1):
        begin = time.process_time()
        draw(seed=seed)
        rates.append(count / (time.process_time() - begin))
    return statistics.median(rates[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer scenes, to see that it runs")
    parser.add_argument("--save", action="store_true", help=f"write {RESULT.relative_to(RESULT.parents[2])}")
    options = parser.parse_args()
    count, rounds = (512, 1) if options.quick else (2048, 5)

    rows = []
    for objects in OBJECTS:
        ways = [(scene_layouts, {"language": language}) for language in LANGUAGES] + [
            (scenes, {"size": size}) for size in SIZES
        ]
        for make, way in ways:
            draw = functools.partial(make, "train", count, objects=objects, **way)
            rows.append({"objects": objects, "language": "english", "size": None} | way)
            rows[-1]["scenes_per_second"] = per_second(draw, count, rounds)
    print(f"{'objects':>10}{'language':>10}{'size':>14}{'scenes/s':>10}")
    for row in rows:
        size = row["size"] or "not painted"
        print(f"{row['objects']:>10}{row['language']:>10}{size:>14}{row['scenes_per_second']:>10.0f}")
    if options.save:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        record = {"scenes": rows, "machine": describe_machine(torch.device("cpu"))}
        write_atomically(RESULT, (json.dumps(record, indent=1) + "\n").encode())
        print(f"written to {RESULT.relative_to(RESULT.parents[2])}")


if __name__ == "__main__":
    main()
