"""The papers' tables of costs, row by row, with the model that is counted for each: `xattn tables crossvit`.

A paper is one list of `Row`s and an entry in `PAPERS`. CrossViT's FLOPs are counted with cross-attention as the paper
writes it, with keys and values for all tokens (`folded=False`; the library's default needs fewer, `Row.folded_macs`).
No single convention of what parameters to print fits all rows of that paper, so each row names the one that fits.
"""

from typing import Any

import torch
from torch import nn

from xattn_edu.measure.costs import Costs, count
from xattn_edu.measure.published import (
    CROSSVIT_ARCHITECTURES,
    CROSSVIT_DEIT,
    CROSSVIT_FUSIONS,
    CROSSVIT_TRANSFORMERS,
)
from xattn_edu.measure.recount import (
    FLOPS,
    NO_POSITIONS,
    PARAMETERS,
    VERDICTS,
    Model,
    Row,
    summary,
    verdict,
    without_positions,
)
from xattn_edu.models.fusions import ClassTokenAttention
from xattn_edu.models.layers import MLP

__all__ = ["CROSSVIT", "CROSSVIT_TABLES", "FLOPS", "PAPERS", "PARAMETERS", "VERDICTS", "crossvit", "summary", "verdict"]

# --- CrossViT: the models


def _crossvit(name: str, **options: Any) -> Model:
    return Model(f"crossvit_{name}_240", (("folded", False), *options.items()))


def _fusion(name: str) -> Model:
    return Model("crossvit_small_240", (("fusion", name),))


def _without_projections(model: nn.Module) -> None:
    """Take f and g out of cross-attention: branches of equal width have nothing to project."""
    for module in model.modules():
        if isinstance(module, ClassTokenAttention):
            module.project = module.back = nn.Identity()  # type: ignore[assignment]


_DEIT_SMALL, _DEIT_BASE = Model("deit_small_patch16_224"), Model("deit_base_patch16_224")
_VIT_BASE_384 = Model("vit_base_patch16_224", (("image_size", 384),))
_SMALL, _15, _15_DAGGER = _crossvit("small"), _crossvit("15"), _crossvit("15_dagger")
_18, _18_DAGGER = _crossvit("18"), _crossvit("18_dagger")
_ALL_ATTENTION = _fusion("all_attention")
_FINE_PATCHES = _crossvit("small", image_sizes=(224, 224), patches=(8, 16))
_EQUAL_WIDTHS = _crossvit("small", widths=(384, 384))
_NO_PROJECTIONS = Model(_EQUAL_WIDTHS.name, _EQUAL_WIDTHS.options, _without_projections)
_DEEPER = _crossvit("small", depths=(2, 4))
_TWO_LAYERS = _crossvit("small", fusion_depth=2)
_SIX_ENCODERS = _crossvit("small", encoders=6, depths=(1, 2))

# --- CrossViT: the remarks


def _giga(macs: int) -> str:
    return f"{macs / 1e9:.3f} G"


def _mega(parameters: int) -> str:
    return f"{parameters / 1e6:.3f} M"


def _both(costs: Costs) -> str:
    return f"{_mega(costs.parameters)} ({_mega(without_positions(costs))} without position embeddings)"


def _vit_at_224() -> str:
    costs = Model("vit_base_patch16_224").costs()
    return (
        f"both printed numbers are those of the same model at 224 pixels, {_giga(costs.macs)} and "
        f"{_mega(costs.parameters)}; the accuracy printed with them is at 384."
    )


def _all_attention_feed_forward() -> str:
    """What a feed-forward on the two class tokens, in each of three encoders, would add to equation (2)."""
    costs, width = _ALL_ATTENTION.costs(), 384
    with torch.device("meta"):
        added = count(nn.Sequential(nn.LayerNorm(width), MLP(width, width)), torch.empty(1, 2, width))
    parameters, macs = costs.parameters + 3 * added.parameters, costs.macs + 3 * added.macs
    return (
        f"equation (2) gives {_both(costs)}. 27.7 would come out with a feed-forward of ratio 1 on the two class "
        f"tokens ({_mega(parameters)}, {_giga(macs)}), or is a misprint of 26.7; the paper does not decide."
    )


def _projections() -> str:
    costs = _EQUAL_WIDTHS.costs()
    return (
        "counted without the projections f and g, which branches of equal width do not need; with them (this library, "
        f"and the published code) it is {_both(costs)} and {_giga(costs.macs)}."
    )


def _second_layer() -> str:
    """What a second layer of cross-attention costs if it, like the first, is given all patches."""
    costs = _TWO_LAYERS.costs()
    parts = {name: part.macs for name, part in costs.parts.items()}
    more = sum(parts[f"{name[:-1]}0"] - macs for name, macs in parts.items() if name.endswith("attentions.1"))
    return (
        "5.6 G fits only if the second layer of cross-attention sees the class token alone, as in the published "
        f"model; with all patches again it would be {_giga(costs.macs + more)}."
    )


def _truncated() -> str:
    return f"counted are {_both(_SIX_ENCODERS.costs())}: only cut off, not rounded, would the smaller be 31.1."


# --- CrossViT: the rows

CROSSVIT = [
    Row(CROSSVIT_DEIT, "DeiT-Ti", Model("deit_tiny_patch16_224")),
    Row(CROSSVIT_DEIT, "CrossViT-Ti", _crossvit("tiny"), NO_POSITIONS),
    Row(CROSSVIT_DEIT, "CrossViT-9", _crossvit("9")),
    Row(CROSSVIT_DEIT, "CrossViT-9†", _crossvit("9_dagger")),
    Row(CROSSVIT_DEIT, "DeiT-S", _DEIT_SMALL),
    Row(CROSSVIT_DEIT, "CrossViT-S", _SMALL, NO_POSITIONS),
    Row(CROSSVIT_DEIT, "CrossViT-15", _15, NO_POSITIONS),
    Row(CROSSVIT_DEIT, "CrossViT-15†", _15_DAGGER),
    Row(CROSSVIT_DEIT, "DeiT-B", _DEIT_BASE),
    Row(CROSSVIT_DEIT, "CrossViT-B", _crossvit("base"), NO_POSITIONS),
    Row(CROSSVIT_DEIT, "CrossViT-18", _18),
    Row(CROSSVIT_DEIT, "CrossViT-18†", _18_DAGGER),
    Row(CROSSVIT_TRANSFORMERS, "Perceiver"),
    Row(CROSSVIT_TRANSFORMERS, "DeiT-S", _DEIT_SMALL),
    Row(CROSSVIT_TRANSFORMERS, "CentroidViT-S"),
    Row(CROSSVIT_TRANSFORMERS, "PVT-S"),
    Row(CROSSVIT_TRANSFORMERS, "PVT-M"),
    Row(CROSSVIT_TRANSFORMERS, "T2T-ViT-14"),
    Row(CROSSVIT_TRANSFORMERS, "TNT-S"),
    Row(CROSSVIT_TRANSFORMERS, "CrossViT-15", _15, NO_POSITIONS),
    Row(CROSSVIT_TRANSFORMERS, "CrossViT-15†", _15_DAGGER),
    Row(CROSSVIT_TRANSFORMERS, "ViT-B@384", _VIT_BASE_384, explain=_vit_at_224),
    Row(CROSSVIT_TRANSFORMERS, "DeiT-B", _DEIT_BASE),
    Row(CROSSVIT_TRANSFORMERS, "PVT-L"),
    Row(CROSSVIT_TRANSFORMERS, "T2T-ViT-19"),
    Row(CROSSVIT_TRANSFORMERS, "T2T-ViT-24"),
    Row(CROSSVIT_TRANSFORMERS, "TNT-B"),
    Row(CROSSVIT_TRANSFORMERS, "CrossViT-18", _18),
    Row(CROSSVIT_TRANSFORMERS, "CrossViT-18†", _18_DAGGER),
    Row(CROSSVIT_FUSIONS, "None", _fusion("none")),
    Row(CROSSVIT_FUSIONS, "All-Attention", _ALL_ATTENTION, explain=_all_attention_feed_forward, open=True),
    Row(CROSSVIT_FUSIONS, "Class Token", _fusion("class_token")),
    Row(CROSSVIT_FUSIONS, "Pairwise", _fusion("pairwise")),
    Row(CROSSVIT_FUSIONS, "Cross-Attention", _SMALL, NO_POSITIONS),
    Row(CROSSVIT_ARCHITECTURES, "CrossViT-S", _SMALL, NO_POSITIONS),
    Row(CROSSVIT_ARCHITECTURES, "A", _FINE_PATCHES, NO_POSITIONS),
    Row(CROSSVIT_ARCHITECTURES, "B", _NO_PROJECTIONS, f"{NO_POSITIONS}, no f, g", explain=_projections),
    Row(CROSSVIT_ARCHITECTURES, "C", _DEEPER, NO_POSITIONS),
    Row(CROSSVIT_ARCHITECTURES, "D", _TWO_LAYERS, NO_POSITIONS, explain=_second_layer),
    Row(CROSSVIT_ARCHITECTURES, "E", _SIX_ENCODERS, NO_POSITIONS, explain=_truncated),
]
CROSSVIT_TABLES = {row.table: row.printed for row in CROSSVIT}
PAPERS = {"crossvit": CROSSVIT}


def crossvit() -> list[Row]:
    """All rows of tables 2, 3, 6 and 7 of CrossViT (Chen, Fan and Panda, ICCV 2021), in their order."""
    return list(CROSSVIT)
