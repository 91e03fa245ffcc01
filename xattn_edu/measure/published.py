"""Numbers that papers print, typed from the papers. Nothing here was measured by this project.

A new table is one `Table(...)` below: the paper, the table's number, a note on units and conditions, and the rows as
printed. `tables.py` sets counts beside such a table.
"""

from dataclasses import dataclass

Cell = float | str | None  # None: a dash, or a place left empty


@dataclass(frozen=True)
class Table:
    """A published table: `rows` maps a row's name to {column: cell}."""

    paper: str
    number: int
    note: str
    rows: dict[str, dict[str, Cell]]

    @property
    def source(self) -> str:
        """The paper and the table's number in it."""
        return f"{self.paper}, table {self.number}"

    def column(self, name: str) -> dict[str, Cell]:
        """One column as {row: cell}. Raises KeyError, naming the columns there are, for one that is not."""
        columns = list(next(iter(self.rows.values())))
        if name not in columns:
            raise KeyError(f"no column {name!r} in this table: it has {columns}")
        return {row: cells[name] for row, cells in self.rows.items()}

    def __str__(self) -> str:
        """The table with its source, a line a row; all numbers of a column have as many decimals, as in print."""
        columns = [("", list(self.rows))]
        for name in next(iter(self.rows.values())):
            columns.append((name, _written(list(self.column(name).values()), sign=name == "gain")))
        lines = [self.source] + [""] * (1 + len(self.rows))
        for number, (name, cells) in enumerate(columns):
            width = max(map(len, (name, *cells))) + 2 * bool(number)
            for line, cell in enumerate((name, *cells), start=1):
                lines[line] += f"{cell:{'>' if number else '<'}{width}}"
        return "\n".join(line.rstrip() for line in lines)


def _written(cells: list[Cell], sign: bool) -> list[str]:
    """Cells of one column as text: a dash for None, as many decimals for each number as the longest of them has."""
    decimals = max((len(str(cell).partition(".")[2]) for cell in cells if isinstance(cell, float)), default=0)
    form = f"{'+' if sign else ''}.{decimals}f"
    return ["–" if cell is None else cell if isinstance(cell, str) else f"{cell:{form}}" for cell in cells]


def _rows(columns: tuple[str, ...], cells: dict[str, tuple[Cell, ...]]) -> dict[str, dict[str, Cell]]:
    """{row: {column: cell}} of rows that are written as in print, in the order of the columns."""
    return {name: dict(zip(columns, row, strict=True)) for name, row in cells.items()}


VIT_PATCH_SIZES = Table(
    paper="Dosovitskiy et al., An Image is Worth 16x16 Words (ICLR 2021)",
    number=6,
    note="Top-1 accuracy in % after pre-training on JFT-300M and fine-tuning; exaFLOPs is the cost of pre-training.",
    rows=_rows(
        (
            "epochs", "ImageNet", "ImageNet ReaL", "CIFAR-10", "CIFAR-100", "Oxford-IIIT Pets", "Oxford Flowers-102",
            "exaFLOPs",
        ),
        {
            "ViT-B/32": (7, 80.73, 86.27, 98.61, 90.49, 93.40, 99.27, 55),
            "ViT-B/16": (7, 84.15, 88.85, 99.00, 91.87, 95.80, 99.56, 224),
            "ViT-L/32": (7, 84.37, 88.28, 99.19, 92.52, 95.83, 99.45, 196),
            "ViT-L/16": (7, 86.30, 89.43, 99.38, 93.46, 96.81, 99.66, 783),
        },
    ),
)  # fmt: skip

_CROSSVIT = "Chen, Fan and Panda, CrossViT (ICCV 2021)"
_SHAPE = ("patch S", "patch L", "dimension S", "dimension L")

CROSSVIT_MODELS = Table(
    paper=_CROSSVIT,
    number=1,
    note="K = 3, N = 1 and L = 1 for all; both branches have the same heads. M is the number of blocks of branch L in "
    "one multi-scale encoder, r the ratio of the feed-forward network.",
    rows=_rows(
        ("patch embedding", *_SHAPE, "heads", "M", "r"),
        {
            "CrossViT-Ti": ("Linear", 12, 16, 96, 192, 3, 4, 4),
            "CrossViT-S": ("Linear", 12, 16, 192, 384, 6, 4, 4),
            "CrossViT-B": ("Linear", 12, 16, 384, 768, 12, 4, 4),
            "CrossViT-9": ("Linear", 12, 16, 128, 256, 4, 3, 3),
            "CrossViT-15": ("Linear", 12, 16, 192, 384, 6, 5, 3),
            "CrossViT-18": ("Linear", 12, 16, 224, 448, 7, 6, 3),
            "CrossViT-9†": ("3 Conv.", 12, 16, 128, 256, 4, 3, 3),
            "CrossViT-15†": ("3 Conv.", 12, 16, 192, 384, 6, 5, 3),
            "CrossViT-18†": ("3 Conv.", 12, 16, 224, 448, 7, 6, 3),
        },
    ),
)

CROSSVIT_DEIT = Table(
    paper=_CROSSVIT,
    number=2,
    note="Top-1 accuracy in % on ImageNet-1k; gain is over the row above. Throughput on one V100, batch 64 (so the "
    "note of table 4).",
    rows=_rows(
        ("Top-1 (%)", "gain", "FLOPs (G)", "Throughput (images/s)", "Params (M)"),
        {
            "DeiT-Ti": (72.2, None, 1.3, 2557, 5.7),
            "CrossViT-Ti": (73.4, 1.2, 1.6, 1668, 6.9),
            "CrossViT-9": (73.9, 0.5, 1.8, 1530, 8.6),
            "CrossViT-9†": (77.1, 3.2, 2.0, 1463, 8.8),
            "DeiT-S": (79.8, None, 4.6, 966, 22.1),
            "CrossViT-S": (81.0, 1.2, 5.6, 690, 26.7),
            "CrossViT-15": (81.5, 0.5, 5.8, 640, 27.4),
            "CrossViT-15†": (82.3, 0.8, 6.1, 626, 28.2),
            "DeiT-B": (81.8, None, 17.6, 314, 86.6),
            "CrossViT-B": (82.2, 0.4, 21.2, 239, 104.7),
            "CrossViT-18": (82.5, 0.3, 9.0, 430, 43.3),
            "CrossViT-18†": (82.8, 0.3, 9.5, 418, 44.3),
        },
    ),
)

CROSSVIT_TRANSFORMERS = Table(
    paper=_CROSSVIT,
    number=3,
    note="Top-1 accuracy in % of models trained on ImageNet-1k alone, as their papers report it. Perceiver is misspelt "
    "in print (Peceiver; Receiver on the seminar's slide). The FLOPs of the three T2T-ViT bear a star: recomputed with "
    "the authors' tools.",
    rows=_rows(
        ("published", "Top-1 (%)", "FLOPs (G)", "Params (M)"),
        {
            "Perceiver": ("arXiv, 2021-03", 76.4, None, 43.9),
            "DeiT-S": ("arXiv, 2020-12", 79.8, 4.6, 22.1),
            "CentroidViT-S": ("arXiv, 2021-02", 80.9, 4.7, 22.3),
            "PVT-S": ("arXiv, 2021-02", 79.8, 3.8, 24.5),
            "PVT-M": ("arXiv, 2021-02", 81.2, 6.7, 44.2),
            "T2T-ViT-14": ("arXiv, 2021-01", 80.7, 6.1, 21.5),
            "TNT-S": ("arXiv, 2021-02", 81.3, 5.2, 23.8),
            "CrossViT-15": (None, 81.5, 5.8, 27.4),
            "CrossViT-15†": (None, 82.3, 6.1, 28.2),
            "ViT-B@384": ("ICLR, 2021", 77.9, 17.6, 86.6),
            "DeiT-B": ("arXiv, 2020-12", 81.8, 17.6, 86.6),
            "PVT-L": ("arXiv, 2021-02", 81.7, 9.8, 61.4),
            "T2T-ViT-19": ("arXiv, 2021-01", 81.4, 9.8, 39.0),
            "T2T-ViT-24": ("arXiv, 2021-01", 82.2, 15.0, 64.1),
            "TNT-B": ("arXiv, 2021-02", 82.8, 14.1, 65.6),
            "CrossViT-18": (None, 82.5, 9.0, 43.3),
            "CrossViT-18†": (None, 82.8, 9.5, 44.3),
        },
    ),
)

CROSSVIT_FUSIONS = Table(
    paper=_CROSSVIT,
    number=6,
    note="Fusions in CrossViT-S: top-1 accuracy in % on ImageNet-1k of both branches, and of one branch's class token "
    "alone.",
    rows=_rows(
        ("Top-1 (%)", "FLOPs (G)", "Params (M)", "L-branch (%)", "S-branch (%)"),
        {
            "None": (80.2, 5.3, 23.7, 80.2, 0.1),
            "All-Attention": (80.0, 7.6, 27.7, 79.9, 0.5),
            "Class Token": (80.3, 5.4, 24.2, 80.6, 7.6),
            "Pairwise": (80.3, 5.5, 24.2, 80.3, 7.3),
            "Cross-Attention": (81.0, 5.6, 26.7, 68.1, 47.2),
        },
    ),
)

CROSSVIT_ARCHITECTURES = Table(
    paper=_CROSSVIT,
    number=7,
    note="CrossViT-S with one thing changed, top-1 accuracy in % on ImageNet-1k. K multi-scale encoders; in each N "
    "blocks of branch S, M of branch L and L layers of cross-attention.",
    rows=_rows(
        (*_SHAPE, "K", "N", "M", "L", "Top-1 (%)", "FLOPs (G)", "Params (M)"),
        {
            "CrossViT-S": (12, 16, 192, 384, 3, 1, 4, 1, 81.0, 5.6, 26.7),
            "A": (8, 16, 192, 384, 3, 1, 4, 1, 80.8, 6.7, 26.7),
            "B": (12, 16, 384, 384, 3, 1, 4, 1, 80.1, 7.7, 31.4),
            "C": (12, 16, 192, 384, 3, 2, 4, 1, 80.7, 6.3, 28.0),
            "D": (12, 16, 192, 384, 3, 1, 4, 2, 81.0, 5.6, 28.9),
            "E": (12, 16, 192, 384, 6, 1, 2, 1, 80.9, 6.6, 31.1),
        },
    ),
)

_LAVT = "Yang et al., LAVT (CVPR 2022)"

LAVT_RESULTS = Table(
    paper=_LAVT,
    number=1,
    note="Overall IoU in %. U: G-Ref's UMD partition, G: its Google partition. Numbers are as printed, and not all "
    "like for like: language models and image encoders differ, and VLT's 65.65 and MCN's 62.44 (RefCOCO val) are mean "
    "IoUs, at threshold 0.35; VLT's has another image encoder as well. In print LAVT's row is bold.",
    rows=_rows(
        (
            "language model", "RefCOCO val", "RefCOCO test A", "RefCOCO test B", "RefCOCO+ val", "RefCOCO+ test A",
            "RefCOCO+ test B", "G-Ref val (U)", "G-Ref test (U)", "G-Ref val (G)",
        ),
        {
            "DMN": ("SRU", 49.78, 54.83, 45.13, 38.88, 44.22, 32.29, None, None, 36.76),
            "RRN": ("LSTM", 55.33, 57.26, 53.93, 39.75, 42.15, 36.11, None, None, 36.45),
            "MAttNet": ("Bi-LSTM", 56.51, 62.37, 51.70, 46.67, 52.39, 40.08, 47.64, 48.61, None),
            "CMSA": ("None", 58.32, 60.61, 55.09, 43.76, 47.60, 37.89, None, None, 39.98),
            "CAC": ("Bi-LSTM", 58.90, 61.77, 53.81, None, None, None, 46.37, 46.95, 44.32),
            "STEP": ("Bi-LSTM", 60.04, 63.46, 57.97, 48.19, 52.33, 40.41, None, None, 46.40),
            "BRINet": ("LSTM", 60.98, 62.99, 59.21, 48.17, 52.32, 42.11, None, None, 48.04),
            "CMPC": ("LSTM", 61.36, 64.53, 59.64, 49.56, 53.44, 43.23, None, None, 49.05),
            "LSCM": ("LSTM", 61.47, 64.99, 59.55, 49.34, 53.12, 43.50, None, None, 48.05),
            "CMPC+": ("LSTM", 62.47, 65.08, 60.82, 50.25, 54.04, 43.47, None, None, 49.89),
            "MCN": ("Bi-GRU", 62.44, 64.20, 59.71, 50.62, 54.99, 44.69, 49.22, 49.40, None),
            "EFN": ("Bi-GRU", 62.76, 65.69, 59.67, 51.50, 55.24, 43.01, None, None, 51.93),
            "BUSNet": ("Self-Att", 63.27, 66.41, 61.39, 51.76, 56.87, 44.13, None, None, 50.56),
            "CGAN": ("Bi-GRU", 64.86, 68.04, 62.07, 51.03, 55.51, 44.06, 51.01, 51.69, 46.54),
            "LTS": ("Bi-GRU", 65.43, 67.76, 63.08, 54.21, 58.32, 48.02, 54.40, 54.25, None),
            "VLT": ("Bi-GRU", 65.65, 68.29, 62.73, 55.50, 59.20, 49.36, 52.99, 56.65, 49.76),
            "LAVT": ("BERT", 72.73, 75.82, 68.79, 62.14, 68.38, 55.10, 61.24, 62.09, 60.50),
        },
    ),
)  # fmt: skip

# What kind of number LAVT_RESULTS prints for a method. The caption says "overall IoU" for all; rows that are not here
# were not looked up. MCN's released evaluation averages the IoU of masks that are cut at 0.35, and VLT's is MCN's.
LAVT_METRICS = {
    "LAVT": "overall IoU",
    "VLT": "mean IoU",
    "MCN": "mean IoU",
    "CGAN": "not verified",
    "LTS": "not verified",
}

LAVT_ABLATION = Table(
    paper=_LAVT,
    number=2,
    note="RefCOCO val, in %. PWAM: pixel-word attention, LP: the language pathway. In print the rows are marked by "
    "ticks and the first is bold. P@X is the share of expressions with an IoU of X at least.",
    rows=_rows(
        ("LP", "PWAM", "P@0.5", "P@0.7", "P@0.9", "oIoU", "mIoU"),
        {
            "LP and PWAM": ("✓", "✓", 84.46, 75.28, 34.30, 72.73, 74.46),
            "PWAM alone": (None, "✓", 81.46, 70.80, 30.95, 70.78, 71.96),
            "LP alone": ("✓", None, 81.76, 72.76, 32.46, 71.03, 72.31),
            "neither": (None, None, 77.87, 66.93, 27.95, 68.82, 68.87),
        },
    ),
)
