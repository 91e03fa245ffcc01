"""Layers and checks that several models share: MLP, stochastic depth, first weights, the grid of patches, eval mode."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.module_tracker import ModuleTracker

from xattn_edu.shapes import shaped


class StochasticDepth(nn.Module):
    """While training, drop a residual branch for a random share `rate` of the samples, and scale it for the others.

    A branch is (batch, ...). The scale 1 / (1 - rate) keeps the expectation. Raises ValueError unless 0 <= rate < 1.

    Source: Huang et al., "Deep Networks with Stochastic Depth" (2016).
    """

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a stochastic depth rate must lie in [0, 1), given {rate}")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        keep = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) >= self.rate
        return branch * (keep / (1 - self.rate)).to(branch.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class MLP(nn.Module):
    """fc2(GELU(fc1(x))) on each token by itself: (..., width) to the same shape, `hidden` channels between.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021), section 3.1.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.hidden = hidden
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    @shaped
    def forward(self, tokens: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        if torch.is_grad_enabled() or tokens.device.type != "cpu" or not may_shorten(self.fc1, self.fc2):
            return self.fc2(F.gelu(self.fc1(tokens)))
        # Some tokens at a time: so the hidden channels, at most about 4 MB, stay in the CPU's cache.
        rows = tokens.reshape(-1, tokens.shape[-1])
        parts = rows.chunk(1 + rows.shape[0] * self.hidden // 2**20)
        return torch.cat([self.fc2(F.gelu(self.fc1(part))) for part in parts]).reshape(tokens.shape)


def may_shorten(*layers: nn.Module) -> bool:
    """Whether a shortcut may read the layers' weights, or call the layers on parts of their input.

    It may if a call computes x W^T + b and nothing else. A subclass or a wrapper (LoRA, quantization) has a forward of
    its own. A hook (pruning, weight norm, FSDP) sees or changes tensors. A weight that wraps others (torchao, DTensor)
    has a product of its own. While a model is traced the answer is no: a number of parts would hold for one size alone.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or any(map(_alters, _hooks_of_all_modules())):
        return False
    return all(
        type(layer) is nn.Linear
        and "forward" not in vars(layer)  # replaced on this one layer
        and not any(getattr(layer, hooks) for hooks in _HOOKS)
        and not hasattr(layer.weight, "__tensor_flatten__")
        for layer in layers
    )


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def _hooks_of_all_modules() -> Iterator[Callable[..., Any]]:
    for hooks in _HOOKS:
        yield from getattr(nn.modules.module, "_global" + hooks).values()


def _alters(hook: Callable[..., Any]) -> bool:
    """Whether a hook of all modules is more than torch's own record of the module that runs (its counter of FLOPs)."""
    return not isinstance(getattr(hook, "__self__", None), ModuleTracker)


def autocasts(tensor: Tensor) -> bool:
    """Whether autocast is on for the tensor's device, so that products of float32 are computed below float32."""
    kind = tensor.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def settings(module: nn.Module, kinds: tuple[type, ...] = (bool, int, float, str, tuple)) -> dict[str, Any]:
    """What a module itself was built with, by name: its public attributes of these kinds, but for the mode."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, kinds) and not name.startswith("_") and name != "training"
    }


def as_mask(mask: Tensor, true_where: str, name: str = "mask") -> Tensor:
    """A mask as booleans, given as booleans or as integers that are all 0 or 1.

    Raises TypeError for any other type (and, while a model is compiled or exported, for integers, whose values are not
    known then), ValueError for other integers: what is added to scores, as 0 and -10000, means the opposite.
    """
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        return mask
    kind, whole = type(mask).__name__, False
    if isinstance(mask, Tensor):
        kind, whole = str(mask.dtype), not (mask.is_floating_point() or mask.is_complex())
    expected = f"{name} must be True where {true_where}, False elsewhere (or 1 and 0)"
    fix = "write mask.bool() for ones and zeros, mask == 0 for numbers that are added to scores, such as 0 and -10000"
    if not whole or torch.compiler.is_compiling():
        raise TypeError(f"{expected}, given {kind}: {fix}")
    if values_are_known(mask) and not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"{expected}, given integers from {mask.min()} to {mask.max()}: {fix}")
    return mask.bool()


def values_are_known(tensor: Tensor) -> bool:
    """Whether numbers can be looked at. They cannot while a model is exported, compiled, or run on shapes alone."""
    return type(tensor) in (Tensor, nn.Parameter) and not tensor.is_meta and not torch.compiler.is_compiling()


def initialise_linear(module: nn.Module) -> None:
    """Truncated normal weights of standard deviation 0.02 and zero biases for all linear layers in `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)


def grid_of(image_size: tuple[int, int] | torch.Size, patch: int) -> tuple[int, int]:
    """(rows, columns) of patches in an image of (height, width). Raises ValueError if the patch does not divide it."""
    height, width = image_size
    if patch < 1 or height < patch or width < patch or height % patch or width % patch:
        raise ValueError(f"the patch size must divide height and width: image {height}x{width}, patch {patch}")
    return height // patch, width // patch


@contextlib.contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models in eval mode (no dropout, no stochastic depth); afterwards each module is in the mode it was in."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
