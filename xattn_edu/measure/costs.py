"""The costs of a model: parameters, multiply-accumulates by the papers' convention, peak memory, time.

The convention is that of CrossViT's tables: one multiply-add is one MAC (those tables call it a FLOP), for one image.
Convolutions, linear layers and both products of attention (q k^T and A v) are counted. Normalisation, softmax,
activations, biases, residuals, pooling and resizing are not. A Fourier transform is counted as the fast one.
"""

import contextlib
import copy
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from xattn_edu.models.layers import grid_of

_ATTENTION_PRODUCTS = {torch.ops.aten.bmm, torch.ops.aten.baddbmm}
_WITH_A_WEIGHT = "a batched product with a weight"


@dataclass(frozen=True)
class Part:
    """The cost of one part of a model: parameters, and MACs split into weights applied and attention products."""

    parameters: int
    macs: int
    attention_macs: int


@dataclass(frozen=True)
class Costs:
    """The result of `count`. The parts add up to the whole."""

    parameters: int
    macs: int
    attention_macs: int  # of `macs`, the two products of attention: 2 N^2 d a layer, the quadratic term
    parts: dict[str, Part]

    def __str__(self) -> str:
        rows = [*self.parts.items(), ("total", Part(self.parameters, self.macs, self.attention_macs))]
        width = max(len(name) for name, _ in rows)
        lines = [f"{'part':<{width}}  {'parameters':>12}  {'MACs':>15}  {'of it q k^T, A v':>16}"]
        for name, part in rows:
            lines.append(f"{name:<{width}}  {part.parameters:>12,}  {part.macs:>15,}  {part.attention_macs:>16,}")
        return "\n".join(lines)


def count(model: nn.Module, *example_inputs: Tensor, depth: int = 1) -> Costs:
    """Parameters and multiply-accumulates of `model` on `example_inputs`, by part.

    The model runs once on shapes alone (torch's meta device; its fake tensors, if the model looks at numbers, as a BERT
    looks at a mask). Nothing is computed, so even a large model takes a moment and neither the model nor the inputs
    change. The parts are the model's children and its own parameters; `depth=2`
    divides the children as well. MACs are those of the whole batch: use batch 1 to compare with papers. Raises
    ValueError for a depth below 1.
    """
    if depth < 1:
        raise ValueError(f"depth is the number of levels of parts: it must be 1 or more, given {depth}")
    try:
        shadow, flops = _run_on_shapes(model, example_inputs, lambda x: x.detach().to("meta"), contextlib.nullcontext())
    except RuntimeError as error:
        if "on meta tensors" not in str(error):
            raise
        # `transformers` does not look at fake tensors. They take three times as long as the meta device.
        fakes = FakeTensorMode(allow_non_fake_inputs=True)
        shadow, flops = _run_on_shapes(model, example_inputs, lambda x: fakes.from_tensor(x.detach()), fakes)
    total, attention = _macs(flops.get("Global", {}))

    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}  # a shared one stands here once
    modules, parts = dict(shadow.named_modules()), {}
    for part in _names(model, depth):
        parameters = sum(size for name, size in sizes.items() if name == part or name.startswith(part + "."))
        macs, products = _macs_of(modules, part, flops)
        if parameters or macs:
            parts[part] = Part(parameters, macs, products)
    rest = total - sum(part.macs for part in parts.values())
    if rest:
        parts["(outside its parts)"] = Part(0, rest, attention - sum(part.attention_macs for part in parts.values()))
    return Costs(sum(sizes.values()), total, attention, parts)


def vit_macs(
    image_size: int, patch: int, width: int, depth: int, mlp_ratio: float = 4, classes: int = 1000, channels: int = 3
) -> tuple[int, int]:
    """A ViT's multiply-accumulates in closed form: (linear in the number of tokens, quadratic in it).

    With N tokens, class token included, and width d, a block costs (4 + 2 r) N d^2 + 2 N^2 d.

    Args:
        image_size, patch: the sides of the square image and of a patch, in pixels.
        width, depth: channels of a token, and blocks.
        mlp_ratio: r, the hidden width of the MLP over `width`.
        classes, channels: outputs of the head, and channels of the image.

    Raises ValueError if the patch does not divide the image.
    """
    rows, columns = grid_of((image_size, image_size), patch)
    patches = rows * columns
    tokens = patches + 1
    linear = round((4 + 2 * mlp_ratio) * tokens * width**2) * depth
    ends = channels * patch**2 * width * patches + classes * width
    return linear + ends, 2 * tokens**2 * width * depth


def peak_memory(function: Callable[..., object], *arguments: Any) -> int:
    """The most bytes that torch holds while `function(*arguments)` runs, beyond those before it; with the result's.

    On the CPU the number comes from the profiler's record of every allocation and is exact to the byte. (Some kernels
    take a buffer for each thread, so it can depend on the number of threads.) On CUDA, if it is in use, it comes from
    torch's allocator. Raises RuntimeError while torch's profiler is running.
    """
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function(*arguments)
        return torch.cuda.max_memory_allocated() - before
    if torch.autograd.profiler._is_profiler_enabled:
        raise RuntimeError("peak_memory runs torch's profiler, which is running already: it cannot measure itself")
    with (
        _silent_stderr(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile,
    ):
        result = function(*arguments)
    del result
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        peak = max(peak, held)
    return peak


def time_in_turns(
    functions: Mapping[str, Callable[[], object]], rounds: int = 10
) -> dict[str, list[tuple[float, float]]]:
    """Run the functions in turns, once a round: (wall, CPU) seconds of every run, after a first round that is dropped.

    A slow moment of the machine then slows all functions, so the ratio of two medians is steadier than either median.
    CPU time over wall time should be near the number of threads. Raises ValueError for fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be 1 or more, given {rounds}")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            if number:
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop the process's standard error: the profiler's C++ core prints there when it starts and stops."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _run_on_shapes(
    model: nn.Module,
    inputs: tuple[Any, ...],
    shape_of: Callable[[Tensor], Tensor],
    mode: contextlib.AbstractContextManager,
) -> tuple[nn.Module, dict[str, dict]]:
    """The model's copy without numbers, and FLOPs: {"Global" or "ViT.blocks.0.mlp": {operation: FLOPs}}."""
    # Weights become shapes before the model is copied, so that no numbers are copied.
    weights = (*model.parameters(), *model.buffers())
    shapes = {id(x): shape_of(x).requires_grad_(x.requires_grad) for x in weights}
    shadow = copy.deepcopy(model, memo=dict(shapes)).eval()
    given = [shape_of(x) if isinstance(x, Tensor) else x for x in inputs]
    counter = _Counter(shapes.values())
    # The math backend takes fused attention apart into the two products it stands for, where the counter sees them.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), mode, counter.weights, counter:
        shadow(*given)
    return shadow, counter.get_flop_counts()


class _Weights(TorchDispatchMode):
    """Knows which tensors are made of weights alone: a view, a cast or a copy of a weight is a weight too."""

    def __init__(self, weights: Iterable[Tensor]):
        super().__init__()
        self.known = WeakIdKeyDictionary(dict.fromkeys(weights, True))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if given and all(x in self.known for x in given):
            self.known.update((x, True) for x in tree_leaves(result) if isinstance(x, Tensor))
        return result


class _Counter(FlopCounterMode):
    """Counts a batched product with a weight, as einsum computes it, as a linear layer and not as attention."""

    def __init__(self, weights: Iterable[Tensor]):
        super().__init__(display=False, custom_mapping=_FFT)
        self.flop_registry[_WITH_A_WEIGHT] = self.flop_registry[torch.ops.aten.bmm]
        self.weights = _Weights(weights)

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        factors = args[-2:]
        if func_packet in _ATTENTION_PRODUCTS and any(x in self.weights.known for x in factors):
            func_packet, args = _WITH_A_WEIGHT, factors
        return super()._count_flops(func_packet, out, args, kwargs)


def _names(model: nn.Module, depth: int) -> list[str]:
    """The parts: the model's own parameters, then its modules `depth` levels down, or the last above that level."""

    def walk(module: nn.Module, name: str, level: int) -> list[str]:
        children = list(module.named_children())
        if name and (level == depth or not children):
            return [name]
        own = [_join(name, parameter) for parameter, _ in module.named_parameters(recurse=False)]
        return own + [part for child, inner in children for part in walk(inner, _join(name, child), level + 1)]

    return walk(model, "", 0)


def _macs_of(modules: dict[str, nn.Module], name: str, flops: dict[str, dict]) -> tuple[int, int]:
    """(all, attention products) of one part; a container that is never called itself (ModuleList) is its children.

    The modules are the model's, by name; the model itself is "".
    """
    key = f"{type(modules['']).__name__}.{name}"
    if key in flops or name not in modules:
        return _macs(flops.get(key, {}))
    inner = [_macs_of(modules, _join(name, child), flops) for child, _ in modules[name].named_children()]
    return sum(macs for macs, _ in inner), sum(products for _, products in inner)


def _fft_flops(shape: torch.Size, axes: list[int], *_: Any, **__: Any) -> int:
    """The fast Fourier transform: n/2 log2(n) complex products of four MACs for n points, and two FLOPs a MAC.

    Source: Cooley and Tukey, "An Algorithm for the Machine Calculation of Complex Fourier Series" (1965).
    """
    return 2 * round(2 * math.prod(shape) * sum(math.log2(shape[axis]) for axis in axes))


# A transform of real numbers counts as one of complex numbers: we call the general one.
_FFT = {torch.ops.aten._fft_c2c: _fft_flops, torch.ops.aten._fft_r2c: _fft_flops}


def _macs(flops: dict) -> tuple[int, int]:
    """(all, attention products) in MACs, from a counter's {operation: FLOPs}; a MAC is two FLOPs there."""
    return sum(flops.values()) // 2, sum(n for operation, n in flops.items() if operation in _ATTENTION_PRODUCTS) // 2


def _join(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child
