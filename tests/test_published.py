"""The papers' tables, typed a second time from the seminar's slides."""

import pytest

from xattn_edu.published import VIT_PATCH_SIZES

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
