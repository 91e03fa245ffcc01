"""What users do to a model, each a function that tries it on one case and raises `Wrong` if numbers change.

The numbers are compared with those of the plain model, twice: with gradients and without. The plain model's are
computed with gradients, on a CPU. A difference is relative to the largest number of an output.
"""

import copy
import functools
import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from xattn_edu.measure.robustness.models import Case, Inputs, outputs_of

Trial = Callable[[Case], None]
EXACT = 2e-5  # rounding of float32, through all layers
BF16 = 0.1  # 8 bits of mantissa
BATCH = 3


class Wrong(Exception):
    """The numbers are not those that they should be."""


# --- from a model to a program or a copy


def export(case: Case) -> None:
    """`torch.export.export`, then the program on the same inputs, then the model itself."""
    _export(case, dynamic=False)


def export_dynamic(case: Case) -> None:
    """`torch.export.export` with a dynamic batch, then the program on batches of other sizes."""
    _export(case, dynamic=True)


def _export(case: Case, dynamic: bool) -> None:
    model, inputs = case.model(), case.inputs(2)
    shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs) if dynamic else None
    program = torch.export.export(model, inputs, dynamic_shapes=shapes).module()
    for batch in (2, 5, 8) if dynamic else (2,):
        _compare(program, case.inputs(batch), _numbers(case, batch))
    _compare(model, inputs, _numbers(case, 2), what="the model after its export")


def compile_model(case: Case) -> None:
    """`torch.compile` (backend aot_eager), the gradients too."""
    model, inputs, expected = case.model(), case.inputs(BATCH), _numbers(case)
    gradients = _gradients(model, inputs)
    model.zero_grad()
    torch.compiler.reset()
    compiled: Any = torch.compile(model, backend="aot_eager")
    _compare(compiled, inputs, expected)
    _check("the gradients", [_flat(_gradients(compiled, inputs))], [_flat(gradients)])
    torch.compiler.reset()


def deepcopy(case: Case) -> None:
    """`copy.deepcopy`; the copy has parameters of its own, and uses them."""
    _compare_copy(case, copy.deepcopy)


def pickled(case: Case) -> None:
    """`pickle.dumps` and `pickle.loads`."""
    _compare_copy(case, lambda model: pickle.loads(pickle.dumps(model)))


def _compare_copy(case: Case, copied: Callable[[nn.Module], nn.Module]) -> None:
    model = case.model()
    other = copied(model)
    _compare(other, case.inputs(BATCH), _numbers(case))
    for parameter in other.parameters():
        parameter.data.zero_()
    _compare(model, case.inputs(BATCH), _numbers(case), what="the original, with another copy")
    if any(map(torch.equal, outputs_of(other, *case.inputs(BATCH)), _numbers(case))):
        raise Wrong("the copy computes with the original's parameters")


def quantize_dynamic(case: Case) -> None:
    """`torch.ao.quantization.quantize_dynamic` to int8: every linear layer's output is that of torch's int8 layer."""
    plain, inputs = case.model(), case.inputs(BATCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces a successor
        model = torch.ao.quantization.quantize_dynamic(case.model(), {nn.Linear}, dtype=torch.qint8)
        for name, layer in _linears(plain).items():
            int8 = model.get_submodule(name)
            layer.register_forward_hook(lambda _, given, output, int8=int8: int8(*given))
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                found, expected = outputs_of(model, *inputs), outputs_of(plain, *inputs)
            _check(_mode(grad), found, expected)
            if all(map(torch.equal, found, _numbers(case))):
                raise Wrong(f"{_mode(grad)}: no layer was quantized")


def data_parallel(case: Case) -> None:
    """`nn.DataParallel`, and a replica as it makes one for each card: its parameters are plain tensors."""
    _compare(nn.DataParallel(case.model()), case.inputs(BATCH), _numbers(case))
    _compare(_replica(case.model()), case.inputs(BATCH), _numbers(case), what="a replica")


def _replica(module: nn.Module) -> nn.Module:
    replica = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        setattr(replica, name, _replica(child))
    for name, parameter in module._parameters.items():
        setattr(replica, name, None if parameter is None else parameter.view_as(parameter))
    return replica


def fully_sharded(case: Case) -> None:
    """`fully_shard` on every linear layer and on the model, in a group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh, model = init_device_mesh("cpu", (1,)), case.model()
        for layer in (*_linears(model).values(), model):
            fully_shard(layer, mesh=mesh)
        with warnings.catch_warnings():  # of changing an output in place, which nothing here does
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            _compare(model, case.inputs(BATCH), _numbers(case))
    finally:
        dist.destroy_process_group()


def meta_then_load(case: Case) -> None:
    """Built on "meta"; weights by `load_state_dict(assign=True)`, or by `to_empty` and `load_state_dict`."""
    weights = case.model().state_dict()
    for assign in (True, False):
        with torch.device("meta"):
            model = case.build().eval()
        if not assign:
            model.to_empty(device="cpu")
        model.load_state_dict(weights, assign=assign)
        how = "assign=True" if assign else "to_empty"
        _compare(model, case.inputs(BATCH), _numbers(case), what=how)


# --- numbers and batches of another form


def float64_default(case: Case) -> None:
    """`torch.set_default_dtype(torch.float64)`, before the model is built and after; outputs have the model's dtype."""
    single, inputs, expected = case.model(), case.inputs(BATCH), _numbers(case)
    doubles = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        model = case.build().eval()
        model.load_state_dict(single.state_dict())
        _compare(model, doubles, [output.double() for output in expected], what="built in float64")
        _compare(single, inputs, expected, what="built before")
    finally:
        torch.set_default_dtype(before)


def bf16_autocast(case: Case) -> None:
    """`torch.autocast("cpu", torch.bfloat16)`, within 10 %, and finite gradients."""
    model, inputs, expected = case.model(), case.inputs(BATCH), _numbers(case)
    with torch.autocast("cpu", torch.bfloat16):
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                found = [output.float() for output in outputs_of(model, *inputs)]
            _check(_mode(grad), found, expected, BF16)
        gradients = _gradients(model, inputs)
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise Wrong("a gradient is not finite")


def channels_last(case: Case) -> None:
    """Model and images in `memory_format=torch.channels_last`."""
    model = case.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, *rest = case.inputs(BATCH)
    _compare(model, (images.to(memory_format=torch.channels_last), *rest), _numbers(case))


def no_samples(case: Case) -> None:
    """A batch of 0: outputs of the usual shapes with a first axis of 0."""
    _compare(case.model(), case.inputs(0), [output[:0] for output in _numbers(case)])


def one_sample(case: Case) -> None:
    """A batch of 1: the numbers of that sample in a larger batch."""
    _compare(case.model(), case.inputs(1), [output[:1] for output in _numbers(case)])


def odd_image_sizes(case: Case) -> None:
    """21 x 27 pixels: the numbers for the images padded or resized by hand, or a refusal."""
    assert case.odd is not None
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            _check(_mode(grad), *case.odd(case.model()))


# --- layers that a user changes


def hooks(case: Case) -> None:
    """Forward hooks that halve every linear layer's output: called as often with gradients as without."""
    model, halved = case.model(), case.model()
    for layer in _linears(halved).values():
        for parameter in layer.parameters(recurse=False):
            parameter.data /= 2
    calls: list[str] = []

    def halving(name: str) -> Callable[..., Tensor]:
        def hook(layer: nn.Module, given: Any, output: Tensor) -> Tensor:
            calls.append(name)
            return output / 2

        return hook

    for name, layer in _linears(model).items():
        layer.register_forward_hook(halving(name))
    _compare(model, case.inputs(BATCH), outputs_of(halved, *case.inputs(BATCH)))
    if never := [name for name in _linears(model) if calls.count(name) == 0]:
        raise Wrong(f"the hook of {never[0]} was never called")
    if uneven := [name for name in _linears(model) if calls.count(name) % 2]:
        raise Wrong(f"the hook of {uneven[0]} was called more often with gradients, or without")


class LoRALinear(nn.Linear):
    """x W^T + b + x A^T B^T: low-rank adaptation as a subclass. Source: Hu et al., "LoRA" (2022), equation (3)."""

    def __init__(self, layer: nn.Linear, rank: int = 2):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.load_state_dict(layer.state_dict())
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / 2)
        self.up = nn.Parameter(torch.randn(layer.out_features, rank) / 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) + tokens @ self.down.T @ self.up.T


class LoRAWrapper(nn.Module):
    """The same as a module around the layer, as in the library peft."""

    def __init__(self, layer: nn.Linear, rank: int = 2):
        super().__init__()
        self.base_layer = layer
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)  # not zero as in peft, so that it shows

    def forward(self, tokens: Tensor) -> Tensor:
        return self.base_layer(tokens) + self.up(self.down(tokens))


def lora_subclass(case: Case) -> None:
    """A subclass of `nn.Linear` for each query, key and value: numbers as with merged weights; it gets gradients."""
    _lora(case, LoRALinear)


def lora_wrapper(case: Case) -> None:
    """A module around every query, key and value, as peft puts it there: the same."""
    _lora(case, LoRAWrapper)


def _lora(case: Case, adapter: Callable[[nn.Linear], nn.Module]) -> None:
    model, merged = case.model(), case.model()
    targets = [name for name in _linears(model) if name.split(".")[-1] in ("query", "key", "value", "qkv")]
    if not targets:
        raise Wrong("no layer is called query, key, value or qkv")
    for name in targets:
        adapted = adapter(model.get_submodule(name))  # type: ignore[arg-type]
        model.set_submodule(name, adapted)
        down, up = (getattr(part, "weight", part) for part in (adapted.down, adapted.up))
        merged.get_submodule(name).weight.data += (up @ down).detach()  # type: ignore[operator]
    _compare(model, case.inputs(BATCH), outputs_of(merged, *case.inputs(BATCH)))
    _gradients(model, case.inputs(BATCH))
    for name, parameter in model.named_parameters():
        added = any(part in name.split(".") for part in ("down", "up"))
        if added and (parameter.grad is None or not parameter.grad.any()):
            raise Wrong(f"{name} gets no gradient")


TRIALS: dict[str, Trial] = {
    "export": export,
    "export, dynamic batch": export_dynamic,
    "compile": compile_model,
    "deepcopy": deepcopy,
    "pickle": pickled,
    "quantize_dynamic": quantize_dynamic,
    "DataParallel": data_parallel,
    "FSDP": fully_sharded,
    "meta, then load": meta_then_load,
    "float64 default": float64_default,
    "bf16 autocast": bf16_autocast,
    "channels_last": channels_last,
    "batch 0": no_samples,
    "batch 1": one_sample,
    "odd image sizes": odd_image_sizes,
    "hooks": hooks,
    "LoRA, a subclass": lora_subclass,
    "LoRA, a wrapper": lora_wrapper,
}


# --- comparing


def _linears(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


@functools.cache
def _numbers(case: Case, batch: int = BATCH) -> list[Tensor]:
    """The outputs of the plain model, computed with gradients."""
    with torch.enable_grad():
        return [output.detach() for output in outputs_of(case.model(), *case.inputs(batch))]


def _gradients(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """The gradients of all parameters (zeros for one without) for a fixed weighting of the outputs."""
    with torch.enable_grad():
        outputs = outputs_of(model, *inputs)
        weights = torch.Generator().manual_seed(4)
        torch.stack(
            [(output.float() * torch.randn(output.shape, generator=weights)).sum() for output in outputs]
        ).sum().backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor, for one scale: a gradient that is 0 but for rounding (that of a key's bias) has none of its own."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def _compare(
    model: Callable[..., object], inputs: Inputs, expected: Sequence[Tensor], within: float = EXACT, what: str = ""
) -> None:
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = outputs_of(model, *inputs)  # type: ignore[arg-type]
        _check(f"{what}, {_mode(grad)}" if what else _mode(grad), found, expected, within)


def _mode(grad: bool) -> str:
    return "with gradients" if grad else "without gradients"


def _check(what: str, found: Sequence[Tensor], expected: Sequence[Tensor], within: float = EXACT) -> None:
    """Raises `Wrong` for another number of tensors, other shapes or dtypes, and numbers that differ."""
    forms = [[(type(x).__name__, *x.shape, x.dtype) for x in tensors] for tensors in (found, expected)]
    if forms[0] != forms[1]:
        raise Wrong(f"{what}: {forms[0]} instead of {forms[1]}")
    for here, there in zip(found, expected):
        if here.numel():
            difference = ((here - there).abs().max() / there.abs().max().clamp(min=1e-30)).item()
            if not difference <= within:  # NaN too
                raise Wrong(f"{what}: differs by {difference:.1g} of the largest number")
