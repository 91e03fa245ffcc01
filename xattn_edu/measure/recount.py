"""A row of a published table of costs, and the count of the same model beside it.

Every count is `costs.count` of the row's own model, on shapes alone. The printed numbers are only compared with it.
FLOPs are multiply-accumulates (MACs) for one image. The papers' rows are listed in `tables.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from xattn_edu.measure.costs import Costs, count
from xattn_edu.measure.published import Table
from xattn_edu.models.registry import create_model

FLOPS, PARAMETERS = "FLOPs (G)", "Params (M)"  # the columns that are compared
ALL, NO_POSITIONS = "all", "no positions"  # conventions: which parameters the printed number includes
VERDICTS = {
    "equal": "the count, rounded, is the printed number",
    "differs": "it is not",
    "open": "it is not, and more than one thing could explain it",
    "not built": "this library does not have the model",
}


@dataclass(frozen=True)
class Model:
    """A name for `create_model`, the options that differ from that name's, and a change to the built model, if any."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    change: Callable[[nn.Module], None] | None = None

    def build(self) -> nn.Module:
        """The model on torch's meta device: shapes without numbers."""
        with torch.device("meta"):
            model = create_model(self.name, **dict(self.options))
        if self.change is not None:
            self.change(model)
        return model

    def costs(self) -> Costs:
        """The costs for one image, down to the single attention of a fusion; counted once for equal models."""
        return _costs(self)


@dataclass(frozen=True)
class Row:
    """A row of a published table and the model that is counted for it.

    Args:
        printed: the table that holds the row. It has the columns FLOPS and PARAMETERS, with None for a dash.
        name: the row's name in it.
        model: None if this library does not have the model.
        includes: which parameters the printed number includes. It is chosen because it fits, row by row.
        explain: a function that returns a remark on the row; it may count other models for it.
        open: whether a difference in parameters has more than one explanation.

    Raises ValueError for a row or a column that the table does not have.
    """

    printed: Table
    name: str
    model: Model | None = None
    includes: str = ALL
    explain: Callable[[], str] | None = None
    open: bool = False

    def __post_init__(self) -> None:
        if self.name not in self.printed.rows:
            rows = ", ".join(self.printed.rows)
            raise ValueError(f"{self.printed.source} has no row {self.name!r}: its rows are {rows}")
        for column in (FLOPS, PARAMETERS):
            if column not in self.printed.rows[self.name]:
                raise ValueError(f"{self.printed.source} has no column {column!r}: add it, with None for each cell")

    @property
    def table(self) -> int:
        """The number of the table in its paper."""
        return self.printed.number

    @property
    def source(self) -> str:
        """The paper and the table's number in it."""
        return self.printed.source

    @property
    def published_flops(self) -> float | None:
        """In units of 10^9, as printed; None for a dash."""
        return cast("float | None", self.printed.rows[self.name][FLOPS])

    @property
    def published_parameters(self) -> float | None:
        """In units of 10^6, as printed; None for a dash."""
        return cast("float | None", self.printed.rows[self.name][PARAMETERS])

    @property
    def macs(self) -> int | None:
        """The model's multiply-accumulates for one image; None if it is not built."""
        return None if self.model is None else self.model.costs().macs

    @property
    def parameters(self) -> int | None:
        """All parameters of the model; None if it is not built."""
        return None if self.model is None else self.model.costs().parameters

    @property
    def parameters_without_positions(self) -> int | None:
        """The parameters without position embeddings; None if the model is not built."""
        return None if self.model is None else without_positions(self.model.costs())

    @property
    def convention(self) -> str:
        """Which parameters the printed number includes; "" if the model is not built."""
        return "" if self.model is None else self.includes

    @property
    def counted_parameters(self) -> int | None:
        """The count that the row's convention compares with the printed number."""
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
        """MACs with cross-attention folded; None if the model has no cross-attention."""
        if self.model is None or ("folded", False) not in self.model.options:
            return None
        options = tuple(option for option in self.model.options if option[0] != "folded")
        return Model(self.model.name, options, self.model.change).costs().macs

    @property
    def remark(self) -> str:
        """The explanation of a difference or a choice in this row, or ""."""
        return "" if self.explain is None else self.explain()


def verdict(printed: float | None, counted: int | None, power: int) -> str:
    """Compares a count with a number printed in units of 10^power: one of `VERDICTS`, or "" for a dash.

    The count is exact, and is rounded (half up) to as many decimals as the number was printed with.
    """
    if printed is None:
        return ""
    if counted is None:
        return "not built"
    expected = Decimal(str(printed))
    return "equal" if Decimal(counted).scaleb(-power).quantize(expected, ROUND_HALF_UP) == expected else "differs"


def summary(rows: list[Row]) -> dict[str, int]:
    """The number of cells, FLOPs and parameters together, with each verdict."""
    cells = [cell for row in rows for cell in (row.flops_verdict, row.parameters_verdict)]
    return {name: cells.count(name) for name in VERDICTS}


def without_positions(costs: Costs) -> int:
    """The parameters that are not position embeddings."""
    positions = sum(part.parameters for name, part in costs.parts.items() if name.split(".")[-1] == "positions")
    return costs.parameters - positions


@cache
def _costs(model: Model) -> Costs:
    built: Any = model.build()
    branch = getattr(built, "small", built)  # CrossViT's branches resize the image, so the small branch's size will do
    image = torch.empty(1, 3, *branch.patch_embedding.image_size, device="meta")
    return count(built, image, depth=5)
