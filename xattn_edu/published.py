"""Numbers that papers published, as data with their source. Nothing here was measured by this project."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A published table: `rows` maps a row's name to {column: number}."""

    source: str
    note: str
    rows: dict[str, dict[str, float]]

    def column(self, name: str) -> dict[str, float]:
        """One column as {row: number}. Raises KeyError, naming the columns there are, for one that is not."""
        columns = list(next(iter(self.rows.values())))
        if name not in columns:
            raise KeyError(f"no column {name!r} in this table: it has {columns}")
        return {row: cells[name] for row, cells in self.rows.items()}


_VIT_COLUMNS = (
    "epochs", "ImageNet", "ImageNet ReaL", "CIFAR-10", "CIFAR-100", "Oxford-IIIT Pets", "Oxford Flowers-102", "exaFLOPs",
)  # fmt: skip

VIT_PATCH_SIZES = Table(
    source="Dosovitskiy et al., An Image is Worth 16x16 Words (ICLR 2021), table 6",
    note="Top-1 accuracy in % after pre-training on JFT-300M and fine-tuning; exaFLOPs is the cost of pre-training.",
    rows={
        name: dict(zip(_VIT_COLUMNS, cells, strict=True))
        for name, cells in {
            "ViT-B/32": (7, 80.73, 86.27, 98.61, 90.49, 93.40, 99.27, 55),
            "ViT-B/16": (7, 84.15, 88.85, 99.00, 91.87, 95.80, 99.56, 224),
            "ViT-L/32": (7, 84.37, 88.28, 99.19, 92.52, 95.83, 99.45, 196),
            "ViT-L/16": (7, 86.30, 89.43, 99.38, 93.46, 96.81, 99.66, 783),
        }.items()
    },
)
