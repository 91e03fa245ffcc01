"""The papers' tables, typed a second time from the papers and the seminar's slides."""

import pytest

from xattn_edu.measure.published import (
    CROSSVIT_ARCHITECTURES,
    CROSSVIT_DEIT,
    CROSSVIT_FUSIONS,
    CROSSVIT_MODELS,
    CROSSVIT_TRANSFORMERS,
    LAVT_ABLATION,
    LAVT_METRICS,
    LAVT_RESULTS,
    VIT_PATCH_SIZES,
)

SLIDE = """
name Epochs ImageNet Real CIFAR-10 CIFAR-100 Pets Flowers exaFLOPs
ViT-B/32 7 80.73 86.27 98.61 90.49 93.40 99.27 55
ViT-B/16 7 84.15 88.85 99.00 91.87 95.80 99.56 224
ViT-L/32 7 84.37 88.28 99.19 92.52 95.83 99.45 196
ViT-L/16 7 86.30 89.43 99.38 93.46 96.81 99.66 783
"""


def test_the_table_of_patch_sizes_is_the_slides():
    rows = dict(line.split(maxsplit=1) for line in SLIDE.strip().splitlines()[1:])
    assert list(VIT_PATCH_SIZES.rows) == list(rows)
    for name, cells in rows.items():
        assert list(VIT_PATCH_SIZES.rows[name].values()) == [float(cell) for cell in cells.split()]


def test_the_columns_stand_in_the_slides_order():
    columns = list(VIT_PATCH_SIZES.rows["ViT-B/32"])
    for ours, slides in zip(columns, SLIDE.split()[1:9], strict=True):
        assert slides.lower() in ours.lower()
    assert all(list(row) == columns for row in VIT_PATCH_SIZES.rows.values())


def test_a_column():
    assert VIT_PATCH_SIZES.column("exaFLOPs") == {"ViT-B/32": 55, "ViT-B/16": 224, "ViT-L/32": 196, "ViT-L/16": 783}


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(KeyError, match=r"FLOPs.*exaFLOPs"):
        VIT_PATCH_SIZES.column("FLOPs")


def test_the_source_is_named():
    assert "Dosovitskiy" in VIT_PATCH_SIZES.source and "JFT-300M" in VIT_PATCH_SIZES.note


CROSSVIT = {  # as printed, without the references' numbers
    1: """
CrossViT-Ti | Linear | 12 | 16 | 96 | 192 | 3 | 4 | 4
CrossViT-S | Linear | 12 | 16 | 192 | 384 | 6 | 4 | 4
CrossViT-B | Linear | 12 | 16 | 384 | 768 | 12 | 4 | 4
CrossViT-9 | Linear | 12 | 16 | 128 | 256 | 4 | 3 | 3
CrossViT-15 | Linear | 12 | 16 | 192 | 384 | 6 | 5 | 3
CrossViT-18 | Linear | 12 | 16 | 224 | 448 | 7 | 6 | 3
CrossViT-9† | 3 Conv. | 12 | 16 | 128 | 256 | 4 | 3 | 3
CrossViT-15† | 3 Conv. | 12 | 16 | 192 | 384 | 6 | 5 | 3
CrossViT-18† | 3 Conv. | 12 | 16 | 224 | 448 | 7 | 6 | 3
""",
    2: """
DeiT-Ti | 72.2 | - | 1.3 | 2557 | 5.7
CrossViT-Ti | 73.4 | 1.2 | 1.6 | 1668 | 6.9
CrossViT-9 | 73.9 | 0.5 | 1.8 | 1530 | 8.6
CrossViT-9† | 77.1 | 3.2 | 2.0 | 1463 | 8.8
DeiT-S | 79.8 | - | 4.6 | 966 | 22.1
CrossViT-S | 81.0 | 1.2 | 5.6 | 690 | 26.7
CrossViT-15 | 81.5 | 0.5 | 5.8 | 640 | 27.4
CrossViT-15† | 82.3 | 0.8 | 6.1 | 626 | 28.2
DeiT-B | 81.8 | - | 17.6 | 314 | 86.6
CrossViT-B | 82.2 | 0.4 | 21.2 | 239 | 104.7
CrossViT-18 | 82.5 | 0.3 | 9.0 | 430 | 43.3
CrossViT-18† | 82.8 | 0.3 | 9.5 | 418 | 44.3
""",
    3: """
Perceiver | arXiv, 2021-03 | 76.4 | - | 43.9
DeiT-S | arXiv, 2020-12 | 79.8 | 4.6 | 22.1
CentroidViT-S | arXiv, 2021-02 | 80.9 | 4.7 | 22.3
PVT-S | arXiv, 2021-02 | 79.8 | 3.8 | 24.5
PVT-M | arXiv, 2021-02 | 81.2 | 6.7 | 44.2
T2T-ViT-14 | arXiv, 2021-01 | 80.7 | 6.1 | 21.5
TNT-S | arXiv, 2021-02 | 81.3 | 5.2 | 23.8
CrossViT-15 | - | 81.5 | 5.8 | 27.4
CrossViT-15† | - | 82.3 | 6.1 | 28.2
ViT-B@384 | ICLR, 2021 | 77.9 | 17.6 | 86.6
DeiT-B | arXiv, 2020-12 | 81.8 | 17.6 | 86.6
PVT-L | arXiv, 2021-02 | 81.7 | 9.8 | 61.4
T2T-ViT-19 | arXiv, 2021-01 | 81.4 | 9.8 | 39.0
T2T-ViT-24 | arXiv, 2021-01 | 82.2 | 15.0 | 64.1
TNT-B | arXiv, 2021-02 | 82.8 | 14.1 | 65.6
CrossViT-18 | - | 82.5 | 9.0 | 43.3
CrossViT-18† | - | 82.8 | 9.5 | 44.3
""",
    6: """
None | 80.2 | 5.3 | 23.7 | 80.2 | 0.1
All-Attention | 80.0 | 7.6 | 27.7 | 79.9 | 0.5
Class Token | 80.3 | 5.4 | 24.2 | 80.6 | 7.6
Pairwise | 80.3 | 5.5 | 24.2 | 80.3 | 7.3
Cross-Attention | 81.0 | 5.6 | 26.7 | 68.1 | 47.2
""",
    7: """
CrossViT-S | 12 | 16 | 192 | 384 | 3 | 1 | 4 | 1 | 81.0 | 5.6 | 26.7
A | 8 | 16 | 192 | 384 | 3 | 1 | 4 | 1 | 80.8 | 6.7 | 26.7
B | 12 | 16 | 384 | 384 | 3 | 1 | 4 | 1 | 80.1 | 7.7 | 31.4
C | 12 | 16 | 192 | 384 | 3 | 2 | 4 | 1 | 80.7 | 6.3 | 28.0
D | 12 | 16 | 192 | 384 | 3 | 1 | 4 | 2 | 81.0 | 5.6 | 28.9
E | 12 | 16 | 192 | 384 | 6 | 1 | 2 | 1 | 80.9 | 6.6 | 31.1
""",
}
TABLES = {
    1: CROSSVIT_MODELS,
    2: CROSSVIT_DEIT,
    3: CROSSVIT_TRANSFORMERS,
    6: CROSSVIT_FUSIONS,
    7: CROSSVIT_ARCHITECTURES,
}


def cell(text):
    try:
        return None if text == "-" else float(text)
    except ValueError:
        return text


@pytest.mark.parametrize("number", CROSSVIT)
def test_crossvits_tables_are_the_papers(number):
    table = TABLES[number]
    printed = [line.split(" | ") for line in CROSSVIT[number].strip().splitlines()]
    assert [[name, *row.values()] for name, row in table.rows.items()] == [
        [name, *map(cell, cells)] for name, *cells in printed
    ]
    assert len({tuple(row) for row in table.rows.values()}) == 1  # the same columns in every row
    assert table.source == f"Chen, Fan and Panda, CrossViT (ICCV 2021), table {number}"


@pytest.mark.parametrize(
    ("number", "column", "total"),
    [
        (2, "Throughput (images/s)", 11541),
        (2, "FLOPs (G)", 86.1),
        (2, "Params (M)", 413.3),
        (3, "Params (M)", 748.8),
        (6, "S-branch (%)", 62.7),
        (6, "Params (M)", 126.5),
        (7, "FLOPs (G)", 38.5),
        (7, "Params (M)", 172.8),
    ],
)
def test_columns_add_up(number, column, total):
    assert sum(TABLES[number].column(column).values()) == pytest.approx(total, abs=1e-9)


def test_gains_are_over_the_row_above():
    accuracies, gains = (list(CROSSVIT_DEIT.column(name).values()) for name in ("Top-1 (%)", "gain"))
    for above, accuracy, gain in zip(accuracies, accuracies[1:], gains[1:]):
        assert gain is None or accuracy - above == pytest.approx(gain, abs=1e-9)


def test_tables_agree_where_they_show_the_same_model():
    for name in ("DeiT-S", "DeiT-B", "CrossViT-15", "CrossViT-15†", "CrossViT-18", "CrossViT-18†"):
        for column in ("Top-1 (%)", "FLOPs (G)", "Params (M)"):
            assert CROSSVIT_DEIT.rows[name][column] == CROSSVIT_TRANSFORMERS.rows[name][column]


def test_notes_say_what_the_cells_do_not():
    for words in ("Peceiver", "star", "recomputed"):
        assert words in CROSSVIT_TRANSFORMERS.note
    assert "V100, batch 64" in CROSSVIT_DEIT.note


LAVT = {  # as printed, without the references' numbers; of table 2, "✓" for a tick and "-" for none
    1: """
DMN | SRU | 49.78 | 54.83 | 45.13 | 38.88 | 44.22 | 32.29 | - | - | 36.76
RRN | LSTM | 55.33 | 57.26 | 53.93 | 39.75 | 42.15 | 36.11 | - | - | 36.45
MAttNet | Bi-LSTM | 56.51 | 62.37 | 51.70 | 46.67 | 52.39 | 40.08 | 47.64 | 48.61 | -
CMSA | None | 58.32 | 60.61 | 55.09 | 43.76 | 47.60 | 37.89 | - | - | 39.98
CAC | Bi-LSTM | 58.90 | 61.77 | 53.81 | - | - | - | 46.37 | 46.95 | 44.32
STEP | Bi-LSTM | 60.04 | 63.46 | 57.97 | 48.19 | 52.33 | 40.41 | - | - | 46.40
BRINet | LSTM | 60.98 | 62.99 | 59.21 | 48.17 | 52.32 | 42.11 | - | - | 48.04
CMPC | LSTM | 61.36 | 64.53 | 59.64 | 49.56 | 53.44 | 43.23 | - | - | 49.05
LSCM | LSTM | 61.47 | 64.99 | 59.55 | 49.34 | 53.12 | 43.50 | - | - | 48.05
CMPC+ | LSTM | 62.47 | 65.08 | 60.82 | 50.25 | 54.04 | 43.47 | - | - | 49.89
MCN | Bi-GRU | 62.44 | 64.20 | 59.71 | 50.62 | 54.99 | 44.69 | 49.22 | 49.40 | -
EFN | Bi-GRU | 62.76 | 65.69 | 59.67 | 51.50 | 55.24 | 43.01 | - | - | 51.93
BUSNet | Self-Att | 63.27 | 66.41 | 61.39 | 51.76 | 56.87 | 44.13 | - | - | 50.56
CGAN | Bi-GRU | 64.86 | 68.04 | 62.07 | 51.03 | 55.51 | 44.06 | 51.01 | 51.69 | 46.54
LTS | Bi-GRU | 65.43 | 67.76 | 63.08 | 54.21 | 58.32 | 48.02 | 54.40 | 54.25 | -
VLT | Bi-GRU | 65.65 | 68.29 | 62.73 | 55.50 | 59.20 | 49.36 | 52.99 | 56.65 | 49.76
LAVT | BERT | 72.73 | 75.82 | 68.79 | 62.14 | 68.38 | 55.10 | 61.24 | 62.09 | 60.50
""",
    2: """
LP and PWAM | ✓ | ✓ | 84.46 | 75.28 | 34.30 | 72.73 | 74.46
PWAM alone | - | ✓ | 81.46 | 70.80 | 30.95 | 70.78 | 71.96
LP alone | ✓ | - | 81.76 | 72.76 | 32.46 | 71.03 | 72.31
neither | - | - | 77.87 | 66.93 | 27.95 | 68.82 | 68.87
""",
}
LAVT_TABLES = {1: LAVT_RESULTS, 2: LAVT_ABLATION}


@pytest.mark.parametrize("number", list(LAVT))
def test_lavts_tables_are_the_printed_ones(number):
    table = LAVT_TABLES[number]
    printed = [line.split(" | ") for line in LAVT[number].strip().splitlines()]
    assert [[name, *row.values()] for name, row in table.rows.items()] == [
        [name, *map(cell, cells)] for name, *cells in printed
    ]
    assert len({tuple(row) for row in table.rows.values()}) == 1  # the same columns in every row
    assert table.source == f"Yang et al., LAVT (CVPR 2022), table {number}"


def test_the_lead_of_lavt_over_vlt():
    ahead = {
        column: round(LAVT_RESULTS.rows["LAVT"][column] - LAVT_RESULTS.rows["VLT"][column], 2)
        for column in LAVT_RESULTS.rows["LAVT"]
        if column != "language model"
    }
    assert list(ahead.values()) == [7.08, 7.53, 6.06, 6.64, 9.18, 5.74, 8.25, 5.44, 10.74]


def test_the_full_model_of_the_ablation_is_the_one_of_table_1():
    assert LAVT_ABLATION.rows["LP and PWAM"]["oIoU"] == LAVT_RESULTS.rows["LAVT"]["RefCOCO val"]


def test_lavts_notes_say_what_is_not_like_for_like():
    for words in ("65.65", "62.44", "mean IoU", "0.35", "another image encoder", "UMD", "Google"):
        assert words in LAVT_RESULTS.note
    assert "RefCOCO val" in LAVT_ABLATION.note


def test_the_kinds_of_metric_are_those_of_rows_that_table_1_has():
    assert set(LAVT_METRICS) <= set(LAVT_RESULTS.rows)
    assert {name for name, kind in LAVT_METRICS.items() if kind == "mean IoU"} == {"VLT", "MCN"}
    assert {name for name, kind in LAVT_METRICS.items() if kind == "not verified"} == {"CGAN", "LTS"}
    for name, kind in LAVT_METRICS.items():  # the note names the score of each mean IoU
        assert kind != "mean IoU" or str(LAVT_RESULTS.rows[name]["RefCOCO val"]) in LAVT_RESULTS.note


def test_a_table_prints_its_cells_as_in_print():
    lines = str(CROSSVIT_DEIT).splitlines()
    assert lines[0] == CROSSVIT_DEIT.source and len(lines) == 14
    assert lines[1].split() == "Top-1 (%) gain FLOPs (G) Throughput (images/s) Params (M)".split()
    assert lines[2].split() == ["DeiT-Ti", "72.2", "–", "1.3", "2557", "5.7"]
    assert lines[12].split() == ["CrossViT-18", "82.5", "+0.3", "9.0", "430", "43.3"]
    assert "  98.61  " in str(VIT_PATCH_SIZES) and "  99.00  " in str(VIT_PATCH_SIZES)
    assert len({len(line) for line in lines[1:]}) == 1
