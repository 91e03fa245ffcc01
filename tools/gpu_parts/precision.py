"""The part "precision": outputs and gradients of each reduced model, in bf16 against float32, on card and CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gpu_parts.models import Reduced, handed_to_train
from gpu_parts.setup import Setup, each
from xattn_edu.data.batches import take
from xattn_edu.machine import seed_everything

BATCH = 8
CPU = torch.device("cpu")
# The largest difference that passes, as a share: |a - b| / |b|, with the length of the whole vector. A number in bf16
# has 8 binary digits, so rounding alone changes it by up to 0.4 %; a model rounds at every layer.
TOLERANCES = {
    "bf16": {"output": 0.05, "gradient": 0.1},  # against float32 on the same device
    "card": {"output": 1e-3, "gradient": 1e-3},  # float32 against float32 on the CPU
}

Vectors = dict[str, Tensor]  # "output" and "gradient", each as one vector of float64 on the CPU


def run(setup: Setup) -> dict[str, Any]:
    """Compare the first weights' outputs and gradients for a few training samples, with dropout off."""
    section = each(setup, setup.reduced(), lambda reduced, _: compare(reduced, setup))
    section["skipped"] += [] if setup.has_bf16 else ["bf16, which this card does not have"]
    return {"tolerances": TOLERANCES} | section


def compare(reduced: Reduced, setup: Setup) -> dict[str, Any]:
    """The row of one model; it has a "problem" if a difference is beyond its tolerance."""
    handed = handed_to_train(reduced, setup.profile)
    model, settings = handed.model.eval(), handed.settings
    *inputs, target = take(handed.train_set, torch.arange(BATCH), CPU)
    if settings.get("augment") is not None:
        seed_everything(0)
        inputs[0] = settings["augment"](inputs[0])
    loss = settings.get("loss", F.cross_entropy)

    with _without_tf32():
        exact = vectors(model, inputs, target, loss, setup.device, half=False)
        found = {}
        if setup.has_bf16:
            found["bf16"] = (vectors(model, inputs, target, loss, setup.device, half=True), exact)
        if setup.device.type != "cpu":
            found["card"] = (exact, vectors(model, inputs, target, loss, CPU, half=False))
    row = {
        pair: {name: difference(given[name], wanted[name]) for name in wanted}
        for pair, (given, wanted) in found.items()
    }
    beyond = [
        f"{pair} {name} differs by {share:.2g}"
        for pair, shares in row.items()
        for name, share in shares.items()
        if not share <= TOLERANCES[pair][name]  # also for NaN
    ]
    return row | ({"problem": ", ".join(beyond)} if beyond else {})


def vectors(
    model: torch.nn.Module, inputs: list[Tensor], target: Tensor, loss: Any, device: torch.device, half: bool
) -> Vectors:
    """Output and gradients; `half` computes in bf16 what accelerate would compute in bf16."""
    model.to(device).zero_grad(set_to_none=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        output = model(*(tensor.to(device) for tensor in inputs))
    output = output.float()
    loss(output, target.to(device)).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return {"output": _vector([output]), "gradient": _vector(gradients)}


def _vector(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().cpu().double().flatten() for tensor in tensors])


def difference(given: Tensor, wanted: Tensor) -> float:
    return ((given - wanted).norm() / wanted.norm()).item()


@contextmanager
def _without_tf32() -> Iterator[None]:
    """float32 as float32: by default convolutions on a card round it to TF32, 11 binary digits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
