"""The models of the table, in reduced sizes, each with inputs and with what it must do with odd sizes.

A model of the registry is built by `create_model` with other sizes. Names whose models are then the same share a case.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.models.attention import MultiHeadAttention
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.decoder_fusion import DecoderFusion
from xattn_edu.models.fusions import PAPER_FUSIONS
from xattn_edu.models.language import SmallBert
from xattn_edu.models.masks import resize
from xattn_edu.models.pwam import PixelWordAttention
from xattn_edu.models.registry import create_model
from xattn_edu.models.swin import Swin
from xattn_edu.models.transformer import Transformer
from xattn_edu.models.vit import ViT

Inputs = tuple[Tensor, ...]
Odd = Callable[[nn.Module], tuple[list[Tensor], list[Tensor]]]  # what a model computes, what it should compute


@dataclass(frozen=True, eq=False)
class Case:
    """A model in a reduced size."""

    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]  # of a batch size: example inputs, the batch is the first axis of each
    odd: Odd | None = None  # its behaviour for odd image sizes; None: it takes no images
    refusals: dict[str, str] = field(default_factory=dict)  # trial -> what the error of a documented refusal says

    def model(self) -> nn.Module:
        """The model in eval mode, with the same random weights each time, in which no weight is near a special one."""
        torch.manual_seed(0)
        return shake(self.build())


def shake(model: nn.Module) -> nn.Module:
    """Add noise to every parameter: first weights are so small that attention is even, and zero biases hide errors."""
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, dtype=parameter.dtype)
    return model.eval()


def outputs_of(model: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """The outputs as a list: Swin returns one, every other model a tensor."""
    outputs = model(*inputs)
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def reduced(name: str) -> dict[str, Any]:
    """The arguments of `create_model` that make the registry's model `name` small."""
    if name.startswith("crossvit"):
        return {key: value for key, value in _CROSSVIT.items() if key != "embedding"}
    if name.startswith("swin"):
        return _SWIN
    if name.startswith("lavt"):
        return _SWIN | {"depths": (1, 1), "language": _bert()}
    return {"image_size": (16, 24), "patch": 8, "width": 16, "depth": 1, "heads": 2, "classes": 3}


_CROSSVIT: dict[str, Any] = {
    "image_sizes": ((24, 36), (32, 48)),
    "widths": (16, 24),
    "depths": (1, 1),
    "heads": (2, 3),
    "encoders": 1,
    "classes": 3,
    "mlp_ratio": 2,
}
_SWIN: dict[str, Any] = {"width": 8, "depths": (1, 2), "heads": (2, 4), "window": 3}


def _bert() -> SmallBert:
    return SmallBert(10, 16, depth=1, heads=2, length=8)


# --- inputs


def _images(batch: int, size: tuple[int, int] = (20, 28)) -> Tensor:
    """Every image is its own: image i is the same in a batch of any size."""
    return torch.randn(8, 3, *size, generator=torch.Generator().manual_seed(1))[:batch]


def _sentences(batch: int) -> Inputs:
    """ids and mask (batch, 5), each sentence of another length."""
    ids = torch.randint(1, 10, (8, 5), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(5) < torch.tensor([5, 3, 4, 2, 5, 1, 3, 4])[:, None]
    return (ids * mask)[:batch], mask[:batch]


def _images_and_sentences(batch: int) -> Inputs:
    return _images(batch), *_sentences(batch)


def _source_and_target(batch: int) -> Inputs:
    return _sentences(batch)[0], _sentences(batch)[0].flip(1)[:, :4].clamp(min=1)


def _features(batch: int, *shape: int) -> Tensor:
    return torch.randn(8, *shape, generator=torch.Generator().manual_seed(3))[:batch]


# --- odd image sizes: the model's numbers for 21 x 27 pixels, and the same numbers by way of another size


def _refused(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    raise AssertionError(f"expected a refusal, given {outputs_of(model, _images(2, (21, 27)))[0].shape}")


def _crossvit_resizes(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Both branches see the images resized to their sizes."""
    images = _images(2, (21, 27))
    branches: Any = model.branches
    sizes = (branch.patch_embedding.image_size for branch in branches)
    views = (F.interpolate(images, size=size, mode="bicubic") for size in sizes)
    return outputs_of(model, images), outputs_of(model, *views)


def _swin_pads(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Images are padded with zeros to whole patches."""
    images = _images(2, (21, 27))
    return outputs_of(model, images), outputs_of(model, F.pad(images, (0, 1, 0, 3)))


def _segmenter_pads(head: str) -> Odd:
    """As Swin; and the logits of the head are resized to the images' size."""

    def odd(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        images, *sentences = _images_and_sentences(2)
        images, small = _images(2, (21, 27)), []
        hook = model.get_submodule(head).register_forward_hook(lambda module, given, logits: small.append(logits))
        given = outputs_of(model, images, *sentences)
        outputs_of(model, F.pad(images, (0, 1, 0, 3)), *sentences)
        hook.remove()
        return [small[0], *given], [small[1], resize(small[1], (21, 27))]

    return odd


def _pixels_are_a_set(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """PWAM treats 3 x 5 pixels as it treats 15 x 1."""
    maps, sentences = _features(2, 3, 5, 8), (_features(2, 5, 12), _sentences(2)[1])
    column = outputs_of(model, maps.reshape(2, 15, 1, 8), *sentences)
    return outputs_of(model, maps, *sentences), [column[0].reshape(maps.shape)]


# --- the table's columns


def _create(name: str) -> Callable[[], nn.Module]:
    return lambda: create_model(name, **reduced(name))


def _crossvit(**changes: Any) -> Case:
    return Case(lambda: CrossViT(**(_CROSSVIT | changes)), lambda batch: (_images(batch, (24, 36)),), _crossvit_resizes)


_ONE_SIZE = {"odd image sizes": "images must be (batch, 3, 16, 24)"}

# Five of them stand for the names of the registry (tests/measure/test_robustness.py holds which).
CASES: dict[str, Case] = {
    "vit": Case(_create("vit_tiny_patch16_224"), lambda batch: (_images(batch, (16, 24)),), _refused, _ONE_SIZE),
    "vit, mean": Case(
        lambda: ViT(**reduced("vit"), pool="mean", positions="sincos"),
        lambda batch: (_images(batch, (16, 24)),),
        _refused,
        _ONE_SIZE,
    ),
    "crossvit": Case(_create("crossvit_tiny_240"), lambda batch: (_images(batch, (24, 36)),), _crossvit_resizes),
    "crossvit dagger": Case(
        _create("crossvit_9_dagger_240"), lambda batch: (_images(batch, (24, 36)),), _crossvit_resizes
    ),
    "crossvit, not folded": _crossvit(folded=False),
    **{
        f"crossvit, {name.replace('_', ' ')}": _crossvit(fusion=name)
        for name in PAPER_FUSIONS
        if name != "cross_attention"  # which the registry's have
    },
    "swin": Case(_create("swin_tiny_patch4_window7_224"), lambda batch: (_images(batch),), _swin_pads),
    "lavt": Case(_create("lavt_swin_tiny"), _images_and_sentences, _segmenter_pads("decoder")),
    "DecoderFusion": Case(
        lambda: DecoderFusion(Swin(8, (1, 1, 1), (2, 2, 4), window=3), _bert(), 16, 1, 2),
        _images_and_sentences,
        _segmenter_pads("head"),
    ),
    "Transformer": Case(lambda: Transformer(10, 16, 1, 2, 32), _source_and_target),
    "PWAM": Case(
        lambda: PixelWordAttention(8, 12, 2),
        lambda batch: (_features(batch, 3, 4, 8), _features(batch, 5, 12), _sentences(batch)[1]),
        _pixels_are_a_set,
    ),
    "attention": Case(
        lambda: MultiHeadAttention(16, 4, context_width=12),
        lambda batch: (_features(batch, 5, 16), _features(batch, 6, 12)),
    ),
}
