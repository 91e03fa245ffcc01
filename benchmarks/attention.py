"""How attention grows with the number of tokens, and how much of this machine a ViT-S uses.

    make benchmark                      (or: python benchmarks/attention.py [--quick] [--save])

Machines are noisy, so everything that is compared runs in turns in one process, and what is reported are medians,
ratios and the CPU time over wall time of each (near the number of threads, or something else was running). Peak memory
is counted from torch's allocations and is exact. `--save` writes results/benchmarks/attention.json.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from torch import nn

from xattn_edu import MultiHeadAttention, create_model
from xattn_edu.files import write_atomically
from xattn_edu.machine import describe_machine
from xattn_edu.measure import costs
from xattn_edu.weights import attention_from_torch

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "attention.json"
WIDTH, HEADS = 384, 6  # ViT-S
WRITTEN, FUSED, TORCH = "written out", "fused", "torch.nn.MultiheadAttention"


def median_seconds(times: list[tuple[float, float]]) -> float:
    return statistics.median(wall for wall, _ in times)


def busy(times: list[tuple[float, float]]) -> float:
    """CPU time over wall time: how many threads were really at work."""
    return sum(cpu for _, cpu in times) / sum(wall for wall, _ in times)


def growth(tokens: list[int], values: list[float]) -> float:
    """The exponent e of values ~ tokens^e, fitted to the larger half of the sizes."""
    half = len(tokens) // 2
    return float(np.polyfit(np.log(tokens[half:]), np.log(values[half:]), 1)[0])


def attention_growth(sizes: list[int], rounds: int) -> list[dict]:
    """Time and peak memory of one self-attention layer, batch 1, for each number of tokens and way to compute it."""
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    ours = MultiHeadAttention(WIDTH, HEADS).eval()
    ours.load_state_dict(attention_from_torch(theirs.state_dict()))
    rows = []
    for tokens in sizes:
        x = torch.randn(1, tokens, WIDTH)
        ways = {
            WRITTEN: lambda x=x: ours(x, return_weights=True)[0],
            FUSED: lambda x=x: ours(x),
            TORCH: lambda x=x: theirs(x, x, x, need_weights=False)[0],
        }
        for way in (WRITTEN, TORCH):
            torch.testing.assert_close(ways[way](), ways[FUSED](), rtol=1e-4, atol=1e-5)
        for way, times in costs.time_in_turns(ways, rounds).items():
            rows.append(
                {"tokens": tokens, "way": way, "seconds": median_seconds(times), "busy": busy(times)}
                | {"peak_bytes": costs.peak_memory(ways[way])}
            )
    return rows


def vit_share(rounds: int, batch: int = 16, square: int = 2048) -> dict[str, float]:
    """ViT-S's arithmetic rate as a share of a large matrix product's, measured in turns."""
    model, images = create_model("vit_small_patch16_224").eval(), torch.randn(batch, 3, 224, 224)
    left, right = torch.randn(2, square, square).unbind(0)
    work = {"vit": 2 * batch * costs.count(model, images[:1]).macs, "sgemm": 2 * square**3}
    times = costs.time_in_turns({"sgemm": lambda: left @ right, "vit": lambda: model(images)}, rounds)
    rates = {name: [work[name] / wall for wall, _ in runs] for name, runs in times.items()}
    # Each run is compared with its neighbour in time, so that a slow phase of the machine slows both.
    share = statistics.median(vit / sgemm for vit, sgemm in zip(rates["vit"], rates["sgemm"]))
    return {
        "images_per_second": batch / median_seconds(times["vit"]),
        "vit_gflops": statistics.median(rates["vit"]) / 1e9,
        "sgemm_gflops": statistics.median(rates["sgemm"]) / 1e9,
        "share": share,
        "vit_busy": busy(times["vit"]),
        "sgemm_busy": busy(times["sgemm"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller sizes, to see that it runs")
    parser.add_argument("--save", action="store_true", help=f"write {RESULT.relative_to(RESULT.parents[2])}")
    options = parser.parse_args()
    sizes = [2**n for n in (range(6, 9) if options.quick else range(6, 13))]
    rounds = 3 if options.quick else 15

    torch.manual_seed(0)
    with torch.inference_mode():
        rows = attention_growth(sizes, rounds)
        share = vit_share(rounds)

    ways = (WRITTEN, FUSED, TORCH)
    cell = {(row["way"], row["tokens"]): row for row in rows}
    print(f"self-attention, width {WIDTH}, {HEADS} heads, batch 1, float32, {torch.get_num_threads()} threads")
    for title, key, scale in (("time (ms)", "seconds", 1e3), ("peak memory (MiB)", "peak_bytes", 2**-20)):
        print(f"\n{title:>18}" + "".join(f"{way:>30}" for way in ways))
        for tokens in sizes:
            print(f"{tokens:>11} tokens" + "".join(f"{cell[way, tokens][key] * scale:>30.2f}" for way in ways))
        exponents = [growth(sizes, [cell[way, tokens][key] for tokens in sizes]) for way in ways]
        print(f"{'grows like':>18}" + "".join(f"{f'N^{exponent:.2f}':>30}" for exponent in exponents))
    print(f"\n{'CPU / wall time':>18}" + "".join(f"{cell[way, sizes[-1]]['busy']:>30.2f}" for way in ways))
    print(
        f"\nViT-S, batch 16: {share['images_per_second']:.1f} images/s = {share['vit_gflops']:.0f} GFLOP/s, "
        f"sgemm {share['sgemm_gflops']:.0f} GFLOP/s; share {share['share']:.2f}"
        f" (CPU / wall time {share['vit_busy']:.2f} and {share['sgemm_busy']:.2f})"
    )
    if options.save:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        record = {"attention": rows, "vit_small": share, "machine": describe_machine(torch.device("cpu"))}
        write_atomically(RESULT, (json.dumps(record, indent=1) + "\n").encode())
        print(f"written to {RESULT.relative_to(RESULT.parents[2])}")


if __name__ == "__main__":
    main()
