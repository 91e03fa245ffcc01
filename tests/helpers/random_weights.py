"""Modules with weights that hide no mistake: no parameter stays 0 or 1."""

import torch
from torch import nn


def perturbed(module: nn.Module) -> nn.Module:
    """The module in eval mode, with noise of deviation 0.3 added to every parameter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module.eval()
