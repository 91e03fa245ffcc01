"""Layers that several models share: MLP, stochastic depth, first weights, the grid of patches, eval mode."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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
        def mlp(x: Tensor) -> Tensor:
            return self.fc2(F.gelu(self.fc1(x)))

        return _in_parts(mlp, tokens, self.hidden)


def _in_parts(function: Callable[[Tensor], Tensor], tokens: Tensor, hidden: int) -> Tensor:
    """`function(tokens)`, which treats each token (..., width) by itself and has `hidden` channels in its middle.

    On a CPU without gradients, some tokens at a time: so the middle, at most about 4 MB, stays in the CPU's cache.
    """
    if torch.is_grad_enabled() or tokens.device.type != "cpu":
        return function(tokens)
    rows = tokens.reshape(-1, tokens.shape[-1])
    parts = rows.chunk(1 + rows.shape[0] * hidden // 2**20)
    return torch.cat([function(part) for part in parts]).reshape(tokens.shape)


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
