"""The costs that a paper's tables print, beside those counted here: `xattn tables crossvit`.

Every count is `costs.count` of the row's own model, on shapes alone; published numbers are only compared with it.
FLOPs are multiply-accumulates with cross-attention as the paper writes it, keys and values formed for all tokens
(`folded=False`; the library's default needs fewer, `Row.folded_macs`). What the printed parameters leave out is the
row's `convention`, chosen here because it fits: no single one fits all rows of the paper.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from xattn_edu.measure import published
from xattn_edu.measure.costs import Costs, count
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.fusions import ClassTokenAttention
from xattn_edu.models.layers import MLP
from xattn_edu.models.registry import create_model

FLOPS, PARAMETERS = "FLOPs (G)", "Params (M)"
ALL, NO_POSITIONS = "all", "no positions"  # conventions: which parameters the paper prints in a row
VERDICTS = {
    "equal": "the count, rounded, is the printed number",
    "differs": "it is not",
    "open": "it is not, and more than one thing could explain it",
    "not built": "this library does not have the model",
}


@dataclass(frozen=True)
class Model:
    """A row's model: a name for `create_model`, and what it has that the model of that name has not.

    `equal_projections=False` takes f and g out of cross-attention; branches of equal width have nothing to project.
    """

    name: str
    changes: tuple[tuple[str, Any], ...] = ()
    equal_projections: bool = True

    def build(self) -> nn.Module:
        """The model on torch's meta device: shapes without numbers."""
        with torch.device("meta"):
            model = create_model(self.name, **dict(self.changes))
        for module in model.modules() if not self.equal_projections else ():
            if isinstance(module, ClassTokenAttention):
                module.project = module.back = nn.Identity()  # type: ignore[assignment]
        return model


@dataclass(frozen=True)
class Row:
    """A row of a published table and what was counted for it; None where a dash is printed or nothing was built."""

    table: int
    name: str
    source: str
    published_flops: float | None  # in units of 10^9, as printed
    published_parameters: float | None  # in units of 10^6, as printed
    model: Model | None
    macs: int | None
    parameters: int | None
    parameters_without_positions: int | None
    convention: str
    open: bool  # whether a difference in parameters has more than one explanation
    remark: str

    @property
    def counted_parameters(self) -> int | None:
        """The count that the row's convention compares with the printed one."""
        return self.parameters if self.convention == ALL else self.parameters_without_positions

    @property
    def flops_verdict(self) -> str:
        """One of `VERDICTS`, or "" for a dash."""
        return verdict(self.published_flops, self.macs, 9)

    @property
    def parameters_verdict(self) -> str:
        """One of `VERDICTS`, or "" for a dash."""
        found = verdict(self.published_parameters, self.counted_parameters, 6)
        return "open" if found == "differs" and self.open else found

    @property
    def folded_macs(self) -> int | None:
        """MACs with cross-attention folded; None where there is no cross-attention. Counted when asked for."""
        if self.model is None or ("folded", False) not in self.model.changes:
            return None
        folded = tuple(change for change in self.model.changes if change[0] != "folded")
        return _costs(Model(self.model.name, folded, self.model.equal_projections)).macs


def verdict(printed: float | None, counted: int | None, power: int) -> str:
    """What becomes of a count beside a number printed in units of 10^power: one of `VERDICTS`, or "" for a dash.

    The count is exact, and is rounded (half up) to as many decimals as the number was printed with.
    """
    if printed is None:
        return ""
    if counted is None:
        return "not built"
    expected = Decimal(str(printed))
    return "equal" if Decimal(counted).scaleb(-power).quantize(expected, ROUND_HALF_UP) == expected else "differs"


def crossvit() -> list[Row]:
    """All rows of tables 2, 3, 6 and 7 of CrossViT (Chen, Fan and Panda, ICCV 2021), in their order."""
    return [
        _row(number, name, table, *_CROSSVIT_MODELS.get((number, name), (None, "")))
        for number, table in CROSSVIT_TABLES.items()
        for name in table.rows
    ]


def summary(rows: list[Row]) -> dict[str, int]:
    """How many cells, FLOPs and parameters together, got each verdict."""
    cells = [cell for row in rows for cell in (row.flops_verdict, row.parameters_verdict)]
    return {name: cells.count(name) for name in VERDICTS}


PAPERS: dict[str, Callable[[], list[Row]]] = {"crossvit": crossvit}
CROSSVIT_TABLES = {
    2: published.CROSSVIT_DEIT,
    3: published.CROSSVIT_TRANSFORMERS,
    6: published.CROSSVIT_FUSIONS,
    7: published.CROSSVIT_ARCHITECTURES,
}


def _row(number: int, name: str, table: published.Table, model: Model | None, convention: str) -> Row:
    macs, parameters, without_positions = (None, None, None) if model is None else _counts(_costs(model))
    return Row(
        table=number,
        name=name,
        source=table.source,
        published_flops=cast("float | None", table.rows[name][FLOPS]),
        published_parameters=cast("float | None", table.rows[name][PARAMETERS]),
        model=model,
        macs=macs,
        parameters=parameters,
        parameters_without_positions=without_positions,
        convention=convention,
        open=(number, name) == (6, "All-Attention"),
        remark=_REMARKS[number, name]() if (number, name) in _REMARKS else "",
    )


def _counts(costs: Costs) -> tuple[int, int, int]:
    """MACs, all parameters, and parameters without position embeddings."""
    positions = sum(part.parameters for name, part in costs.parts.items() if name.split(".")[-1] == "positions")
    return costs.macs, costs.parameters, costs.parameters - positions


@cache
def _costs(model: Model) -> Costs:
    """The model's costs, for one image, down to the single attention of a fusion."""
    built = model.build()
    return count(built, _image(built), depth=5)


def _image(model: Any) -> Tensor:
    """One image of the size the model takes, as a shape (both branches of a CrossViT resize the one they are given)."""
    branch = model.small if isinstance(model, CrossViT) else model
    return torch.empty(1, 3, *branch.patch_embedding.image_size, device="meta")


def _crossvit(name: str, **changes: Any) -> Model:
    return Model(f"crossvit_{name}_240", (("folded", False), *changes.items()))


def _fusion(name: str) -> Model:
    return Model("crossvit_small_240", (("fusion", name),))


_SMALL, _VIT_384 = _crossvit("small"), Model("vit_base_patch16_224", (("image_size", 384),))
_EQUAL_WIDTHS = _crossvit("small", widths=(384, 384))
_TWO_LAYERS = _crossvit("small", fusion_depth=2)
_SIX_ENCODERS = _crossvit("small", encoders=6, depths=(1, 2))
_BASELINES = {
    "DeiT-S": (Model("deit_small_patch16_224"), ALL),
    "CrossViT-15": (_crossvit("15"), NO_POSITIONS),
    "CrossViT-15†": (_crossvit("15_dagger"), ALL),
    "DeiT-B": (Model("deit_base_patch16_224"), ALL),
    "CrossViT-18": (_crossvit("18"), ALL),
    "CrossViT-18†": (_crossvit("18_dagger"), ALL),
}
# {(table, row): (model, convention)}; a row that is not here is not built.
_CROSSVIT_MODELS = {
    **{(table, name): entry for table in (2, 3) for name, entry in _BASELINES.items()},
    (2, "DeiT-Ti"): (Model("deit_tiny_patch16_224"), ALL),
    (2, "CrossViT-Ti"): (_crossvit("tiny"), NO_POSITIONS),
    (2, "CrossViT-9"): (_crossvit("9"), ALL),
    (2, "CrossViT-9†"): (_crossvit("9_dagger"), ALL),
    (2, "CrossViT-S"): (_SMALL, NO_POSITIONS),
    (2, "CrossViT-B"): (_crossvit("base"), NO_POSITIONS),
    (3, "ViT-B@384"): (_VIT_384, ALL),
    (6, "None"): (_fusion("none"), ALL),
    (6, "All-Attention"): (_fusion("all_attention"), ALL),
    (6, "Class Token"): (_fusion("class_token"), ALL),
    (6, "Pairwise"): (_fusion("pairwise"), ALL),
    (6, "Cross-Attention"): (_SMALL, NO_POSITIONS),
    (7, "CrossViT-S"): (_SMALL, NO_POSITIONS),
    (7, "A"): (_crossvit("small", image_sizes=(224, 224), patches=(8, 16)), NO_POSITIONS),
    (7, "B"): (Model(_EQUAL_WIDTHS.name, _EQUAL_WIDTHS.changes, equal_projections=False), f"{NO_POSITIONS}, no f, g"),
    (7, "C"): (_crossvit("small", depths=(2, 4)), NO_POSITIONS),
    (7, "D"): (_TWO_LAYERS, NO_POSITIONS),
    (7, "E"): (_SIX_ENCODERS, NO_POSITIONS),
}


def _giga(macs: int) -> str:
    return f"{macs / 1e9:.3f} G"


def _mega(parameters: int) -> str:
    return f"{parameters / 1e6:.3f} M"


def _both(costs: Costs) -> str:
    _, parameters, without_positions = _counts(costs)
    return f"{_mega(parameters)} ({_mega(without_positions)} without position embeddings)"


def _vit_at_224() -> str:
    costs = _costs(Model("vit_base_patch16_224"))
    return (
        f"both printed numbers are those of the same model at 224 pixels, {_giga(costs.macs)} and "
        f"{_mega(costs.parameters)}; the accuracy printed with them is at 384."
    )


def _all_attention_feed_forward() -> str:
    """What a feed-forward on the two class tokens, in each of three encoders, would add to equation (2)."""
    costs, width = _costs(_fusion("all_attention")), 384
    with torch.device("meta"):
        added = count(nn.Sequential(nn.LayerNorm(width), MLP(width, width)), torch.empty(1, 2, width))
    parameters, macs = costs.parameters + 3 * added.parameters, costs.macs + 3 * added.macs
    return (
        f"equation (2) gives {_both(costs)}. 27.7 would come out with a feed-forward of ratio 1 on the two class "
        f"tokens ({_mega(parameters)}, {_giga(macs)}), or is a misprint of 26.7; the paper does not decide."
    )


def _projections() -> str:
    costs = _costs(_EQUAL_WIDTHS)
    return (
        "counted without the projections f and g, which branches of equal width do not need; with them (this library, "
        f"and the published code) it is {_both(costs)} and {_giga(costs.macs)}."
    )


def _second_layer() -> str:
    """What a second layer of cross-attention costs if it, like the first, is given all patches."""
    costs = _costs(_TWO_LAYERS)
    parts = {name: part.macs for name, part in costs.parts.items()}
    more = sum(parts[f"{name[:-1]}0"] - macs for name, macs in parts.items() if name.endswith("attentions.1"))
    return (
        "5.6 G fits only if the second layer of cross-attention sees the class token alone, as in the published "
        f"model; with all patches again it would be {_giga(costs.macs + more)}."
    )


def _truncated() -> str:
    return f"counted are {_both(_costs(_SIX_ENCODERS))}: only cut off, not rounded, would the smaller be 31.1."


_REMARKS = {
    (3, "ViT-B@384"): _vit_at_224,
    (6, "All-Attention"): _all_attention_feed_forward,
    (7, "B"): _projections,
    (7, "D"): _second_layer,
    (7, "E"): _truncated,
}
