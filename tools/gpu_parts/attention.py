"""The part "attention": torch's backends of fused attention, one at a time."""

import re
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpu_parts.setup import MIB, Setup, wait_for
from xattn_edu.files import first_line
from xattn_edu.models.attention import attention, fused_attention

BACKENDS = {
    "torch's choice": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
# The largest difference that passes: of any number from the written-out equation's, which is computed in float32 from
# the same inputs, as a share of its largest number.
TOLERANCES = {torch.bfloat16: 0.02, torch.float32: 1e-3}


@dataclass(frozen=True)
class Case:
    """The shape of one attention: queries and keys of `heads` heads with `dim` channels."""

    name: str
    batch: int
    heads: int
    queries: int
    keys: int
    dim: int
    masked: bool = False  # whether each item of the batch has keys that no query may attend to


CASES = (
    Case("self-attention of ViT-S", 64, 6, 197, 197, 64),
    Case("self-attention of 4,096 tokens", 1, 6, 4096, 4096, 64),
    Case("a class token attends to patches", 64, 6, 1, 197, 64),
    Case("pixels attend to words, some of them padding", 16, 4, 2304, 20, 32, masked=True),
)
REHEARSED = tuple(Case(c.name, 2, 2, min(c.queries, 16), min(c.keys, 16), 8, c.masked) for c in CASES)


def run(setup: Setup) -> dict[str, Any]:
    """For each case, number format and backend: whether it runs, its time and memory, and its largest difference."""
    section: dict[str, Any] = {"rows": [], "skipped": [], "problems": []}
    formats = [dtype for dtype in TOLERANCES if dtype != torch.bfloat16 or setup.has_bf16]
    cases = [(case, dtype) for case in (REHEARSED if setup.rehearsal else CASES) for dtype in formats]
    section["skipped"] += [] if setup.has_bf16 else ["bf16, which this card does not have"]
    for number, (case, dtype) in enumerate(cases):
        seconds = max(setup.left(), 0) / (len(cases) - number)
        compare(case, dtype, seconds, setup.device, section)
    return {"tolerances": {_name(dtype): share for dtype, share in TOLERANCES.items()}} | section


def compare(case: Case, dtype: torch.dtype, seconds: float, device: torch.device, section: dict[str, Any]) -> None:
    """Put a row for each backend into the section, or the reason why there is none."""
    inputs, mask = draw(case, dtype, device)
    wanted = forward_and_backward(lambda *three: attention(*three, mask)[0], [tensor.float() for tensor in inputs])
    for name, backend in BACKENDS.items():
        words = f"{name}, {case.name}, {_name(dtype)}"
        try:
            row = _row(backend, inputs, mask, wanted, seconds / len(BACKENDS), device)
        except _DoesNotRun as reason:
            section["skipped"].append(f"{words}: {reason}")
        except RuntimeError as error:
            section["problems"].append(f"{words}: {first_line(error)}")
        else:
            section["rows"].append({"case": case.name, "dtype": _name(dtype), "backend": name} | row)
            if not row["difference"] <= TOLERANCES[dtype]:
                section["problems"].append(f"{words}: differs by {row['difference']:.2g}")


class _DoesNotRun(Exception):
    """A backend does not know this case on this device."""


def draw(case: Case, dtype: torch.dtype, device: torch.device) -> tuple[list[Tensor], Tensor | None]:
    """Query, key and value (batch, head, token, dim), and the mask (batch, 1, 1, key) or None."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(case.batch, case.heads, tokens, case.dim) for tokens in (case.queries, case.keys, case.keys)]
    inputs = [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]
    if not case.masked:
        return inputs, None
    lengths = torch.randint(1, case.keys + 1, (case.batch, 1, 1, 1), generator=generator)
    return inputs, (torch.arange(case.keys) < lengths).to(device)


def forward_and_backward(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """The output, and the gradients of its sum of squares with respect to the inputs."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = function(*leaves)
    output.float().square().sum().backward()
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def _row(
    backend: SDPBackend | None,
    inputs: list[Tensor],
    mask: Tensor | None,
    wanted: list[Tensor],
    seconds: float,
    device: torch.device,
) -> dict[str, Any]:
    """Times, memory and difference of one backend. Raises _DoesNotRun where torch has no such kernel."""

    def forward() -> Tensor:
        return fused_attention(*inputs, mask)

    def both() -> list[Tensor]:
        return forward_and_backward(lambda *three: fused_attention(*three, mask), inputs)

    with warnings.catch_warnings(record=True) as caught, nullcontext() if backend is None else sdpa_kernel(backend):
        warnings.simplefilter("always")
        try:
            found = both()
            wait_for(device)
        except RuntimeError as error:
            if not re.search("No (available kernel|viable backend)", str(error)):
                raise
            reasons = [str(warning.message).split(" (Triggered")[0] for warning in caught]
            raise _DoesNotRun("; ".join(reasons or [first_line(error)])[:400]) from None
        row: dict[str, Any] = {"forward_ms": 1000 * _time(forward, seconds / 2, device)}
        row["forward_and_backward_ms"] = 1000 * _time(both, seconds / 2, device)
        row |= {"peak_mib": _peak(forward, device)} if device.type == "cuda" else {}
    shares = [((a.float() - b).abs().max() / b.abs().max()).item() for a, b in zip(found, wanted)]
    return row | {"difference": max(shares)}


def _time(function: Callable[[], object], seconds: float, device: torch.device) -> float:
    """The median of the times that fit into so many seconds, three at least and fifty at most."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or (len(times) < 50 and time.perf_counter() - begin < seconds):
        start = time.perf_counter()
        function()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _peak(function: Callable[[], object], device: torch.device) -> float:
    """MiB that the card holds at most while the function runs, beyond those before it."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    return round((torch.cuda.max_memory_allocated(device) - before) / MIB, 1)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
