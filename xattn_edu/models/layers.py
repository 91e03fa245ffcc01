"""The small layers that several models share: the two-layer MLP, stochastic depth, first weights, the grid of patches."""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.shapes import shaped


class StochasticDepth(nn.Module):
    """While training, leave a residual branch out for a random share `rate` of the samples, and scale the others.

    Source: Huang et al., "Deep Networks with Stochastic Depth" (2016). Raises ValueError unless 0 <= rate < 1.
    """

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a stochastic depth rate lies in [0, 1), given {rate}")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        keep = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) >= self.rate
        return branch * (keep / (1 - self.rate)).to(branch.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class MLP(nn.Module):
    """Linear, GELU, Linear on every token by itself: (batch, token, width) to the same shape."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    @shaped
    def forward(self, tokens: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        if torch.is_grad_enabled() or tokens.device.type != "cpu" or tokens.ndim != 3:
            return self.fc2(F.gelu(self.fc1(tokens)))
        # No token needs another: a few images at a time, the wide middle (some 4 MB) never leaves the CPU's cache.
        images = max(1, 2**20 // max(1, tokens.shape[1] * self.fc1.out_features))
        return torch.cat([self.fc2(F.gelu(self.fc1(part))) for part in tokens.split(images)])


def initialise_linear(module: nn.Module) -> None:
    """Truncated normal of deviation 0.02 on the weights of all linear layers in `module`, zeros on their biases."""
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
