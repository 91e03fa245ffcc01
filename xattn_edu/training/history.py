"""The history of a training, one row an epoch."""

from dataclasses import dataclass, field


@dataclass
class History:
    """One row an epoch: loss, accuracy, seconds, and the numbers that were evaluated."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def __getitem__(self, column: str) -> list[float]:
        """The numbers of a column, for the epochs that have one. Raises KeyError, naming all columns, for others."""
        if column not in self.columns:
            raise KeyError(f"no column {column!r}: the history has {', '.join(self.columns) or 'no rows yet'}")
        return [row[column] for row in self.rows if column in row]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> list[str]:
        """The names of all columns, times last."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return sorted(names, key=lambda name: name.endswith("seconds"))

    def __str__(self) -> str:
        table = [self.columns] + [[_number(row.get(name)) for name in self.columns] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*table)]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in table)

    def curves(self, *columns: str) -> dict[str, tuple[list[float], list[float]]]:
        """{column: (epochs, numbers)} for `plots.learning_curves`; by default all accuracies, or else the loss.

        Raises KeyError, naming all columns, for another name.
        """
        columns = columns or tuple(name for name in self.columns if "accuracy" in name) or ("loss",)
        return {name: ([row["epoch"] for row in self.rows if name in row], self[name]) for name in columns}


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
