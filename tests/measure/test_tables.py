"""CrossViT's tables beside our counts: every verdict, every count; no count comes from a published number."""

from pathlib import Path

import pytest

from xattn_edu.cli import main
from xattn_edu.measure import tables
from xattn_edu.measure.published import CROSSVIT_ARCHITECTURES, CROSSVIT_MODELS, Table
from xattn_edu.measure.recount import FLOPS, PARAMETERS, Model, Row, _costs, verdict
from xattn_edu.models.crossvit import ConvolutionalEmbedding

pytestmark = pytest.mark.slow  # some thirty models are counted

VERDICTS = {  # (FLOPs, parameters)
    2: {
        "DeiT-Ti": ("equal", "equal"),
        "CrossViT-Ti": ("equal", "equal"),
        "CrossViT-9": ("equal", "equal"),
        "CrossViT-9†": ("equal", "equal"),
        "DeiT-S": ("equal", "equal"),
        "CrossViT-S": ("equal", "equal"),
        "CrossViT-15": ("equal", "equal"),
        "CrossViT-15†": ("equal", "equal"),
        "DeiT-B": ("equal", "equal"),
        "CrossViT-B": ("equal", "equal"),
        "CrossViT-18": ("equal", "equal"),
        "CrossViT-18†": ("equal", "equal"),
    },
    3: {
        "Perceiver": ("", "not built"),
        "DeiT-S": ("equal", "equal"),
        "CentroidViT-S": ("not built", "not built"),
        "PVT-S": ("not built", "not built"),
        "PVT-M": ("not built", "not built"),
        "T2T-ViT-14": ("not built", "not built"),
        "TNT-S": ("not built", "not built"),
        "CrossViT-15": ("equal", "equal"),
        "CrossViT-15†": ("equal", "equal"),
        "ViT-B@384": ("differs", "differs"),
        "DeiT-B": ("equal", "equal"),
        "PVT-L": ("not built", "not built"),
        "T2T-ViT-19": ("not built", "not built"),
        "T2T-ViT-24": ("not built", "not built"),
        "TNT-B": ("not built", "not built"),
        "CrossViT-18": ("equal", "equal"),
        "CrossViT-18†": ("equal", "equal"),
    },
    6: {
        "None": ("equal", "equal"),
        "All-Attention": ("equal", "open"),
        "Class Token": ("equal", "equal"),
        "Pairwise": ("equal", "equal"),
        "Cross-Attention": ("equal", "equal"),
    },
    7: {
        "CrossViT-S": ("equal", "equal"),
        "A": ("equal", "equal"),
        "B": ("equal", "equal"),
        "C": ("equal", "equal"),
        "D": ("equal", "equal"),
        "E": ("equal", "differs"),
    },
}

COUNTS = {  # (table, row): MACs, parameters, parameters without position embeddings
    (2, "DeiT-Ti"): (1_253_683_200, 5_717_416, 5_679_592),
    (2, "CrossViT-Ti"): (1_562_734_080, 7_014_800, 6_938_480),
    (2, "CrossViT-9"): (1_840_796_160, 8_553_296, 8_451_536),
    (2, "CrossViT-9†"): (1_979_049_984, 8_776_592, 8_674_832),
    (2, "DeiT-S"): (4_598_882_304, 22_050_664, 21_975_016),
    (2, "CrossViT-S"): (5_615_557_632, 26_856_272, 26_703_632),
    (2, "CrossViT-15"): (5_790_571_776, 27_528_464, 27_375_824),
    (2, "CrossViT-15†"): (6_112_304_640, 28_209_008, 28_056_368),
    (2, "DeiT-B"): (17_563_828_224, 86_567_656, 86_416_360),
    (2, "CrossViT-B"): (21_191_473_152, 105_025_232, 104_719_952),
    (2, "CrossViT-18"): (9_031_158_528, 43_271_408, 43_093_328),
    (2, "CrossViT-18†"): (9_473_218_944, 44_266_976, 44_088_896),
    (3, "ViT-B@384"): (55_484_350_464, 86_859_496, 86_416_360),
    (6, "None"): (5_349_663_360, 23_738_960, 23_586_320),
    (6, "All-Attention"): (7_583_409_792, 26_854_544, 26_701_904),
    (6, "Class Token"): (5_350_105_728, 24_186_512, 24_033_872),
    (6, "Pairwise"): (5_481_931_392, 24_186_512, 24_033_872),
    (6, "Cross-Attention"): (5_615_557_632, 26_856_272, 26_703_632),
    (7, "CrossViT-S"): (5_615_557_632, 26_856_272, 26_703_632),
    (7, "A"): (6_730_914_816, 26_883_920, 26_657_552),
    # 12 projections of 384^2 weights (a MAC each) + 384 biases + a LayerNorm's 2 x 384 are left out
    (7, "B"): (7_698_770_688 - 12 * 147_456, 33_416_528 - 12 * 148_608, 33_186_896 - 12 * 148_608),
    (7, "C"): (6_332_969_088, 28_190_864, 28_038_224),
    (7, "D"): (5_617_772_928, 29_078_480, 28_925_840),
    (7, "E"): (6_598_863_360, 31_308_176, 31_155_536),
}

WITHOUT_POSITIONS = {"CrossViT-Ti", "CrossViT-S", "CrossViT-15", "CrossViT-B", "Cross-Attention", *"ACDE"}


@pytest.fixture(scope="module")
def rows():
    return {(row.table, row.name): row for row in tables.crossvit()}


def counts_of(row):
    return row.macs, row.parameters, row.parameters_without_positions


def test_every_verdict(rows):
    found = {}
    for (table, name), row in rows.items():
        found.setdefault(table, {})[name] = (row.flops_verdict, row.parameters_verdict)
    assert found == VERDICTS and [list(names) for names in found.values()] == [
        list(names) for names in VERDICTS.values()
    ]


def test_what_the_report_says_of_them(rows):
    report = " ".join((Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8").split())
    assert "All FLOPs of tables 2, 6 and 7 are equal, and all parameters but two: one is open, the other only" in report
    assert "Table 3 prints ViT-B@384 with the cost of 224 pixels" in report
    own = {place: row for place, row in rows.items() if place[0] != 3}
    assert {row.flops_verdict for row in own.values()} == {"equal"}
    others = {place: row.parameters_verdict for place, row in own.items() if row.parameters_verdict != "equal"}
    assert others == {(6, "All-Attention"): "open", (7, "E"): "differs"}
    assert "only cut off" in rows[7, "E"].remark and "same model at 224 pixels" in rows[3, "ViT-B@384"].remark


def test_the_summary_counts_the_cells(rows):
    assert tables.summary(list(rows.values())) == {"equal": 56, "differs": 3, "open": 1, "not built": 19}
    assert sum(tables.summary(list(rows.values())).values()) == 2 * len(rows) - 1  # one dash is printed


def test_every_count(rows):
    # Table 3 repeats models of table 2, under the same names.
    expected = COUNTS | {(3, name): COUNTS[2, name] for table, name in COUNTS if table == 2 and (3, name) in rows}
    assert {place: counts_of(row) for place, row in rows.items() if row.model} == expected
    assert all(counts_of(row) == (None, None, None) for row in rows.values() if not row.model)


def test_every_convention(rows):
    for (_, name), row in rows.items():
        if name == "B":
            assert row.convention == "no positions, no f, g"
        elif row.model:
            assert row.convention == ("no positions" if name in WITHOUT_POSITIONS else "all"), name
        else:
            assert row.convention == ""


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ((3, "ViT-B@384"), ["at 224 pixels, 17.564 G and 86.568 M"]),
        ((6, "All-Attention"), ["26.855 M (26.702 M", "27.744 M, 7.585 G", "misprint of 26.7"]),
        ((7, "B"), ["33.417 M (33.187 M", "7.699 G"]),
        # 3 (2 D^2 + 2 D) (T - 1) more, for D = 384 with 196 patches and D = 192 with 400: 262,794,240
        ((7, "D"), ["sees the class token alone", "would be 5.881 G"]),
        ((7, "E"), ["31.308 M (31.156 M"]),
    ],
)
def test_remarks(rows, place, said):
    assert all(words in rows[place].remark for words in said), rows[place].remark


def test_only_rows_that_need_one_have_a_remark(rows):
    remarks = {(3, "ViT-B@384"), (6, "All-Attention"), (7, "B"), (7, "D"), (7, "E")}
    assert {place for place, row in rows.items() if row.remark} == remarks
    assert {
        place for place, row in rows.items() if {row.flops_verdict, row.parameters_verdict} & {"differs", "open"}
    } < remarks


def test_published_numbers_are_only_compared_with(rows, monkeypatch):
    """Another number in print turns every "equal" cell into "differs" and no count into another.

    The models are the same, so none is counted anew; those of table 6 are counted a second time as a check.
    """
    before = {place: (counts_of(row), row.remark) for place, row in rows.items()}
    misses = _costs.cache_info().misses
    for table in tables.CROSSVIT_TABLES.values():
        for cells in table.rows.values():
            for column in (FLOPS, PARAMETERS):
                if cells[column] is not None:
                    monkeypatch.setitem(cells, column, round(cells[column] + 0.1, 1))
    for place, row in rows.items():
        assert (counts_of(row), row.remark) == before[place]
        flops, parameters = VERDICTS[row.table][row.name]
        if flops == "equal":
            assert row.flops_verdict == "differs", row.name
        if parameters == "equal":
            assert row.parameters_verdict == "differs", row.name
    assert _costs.cache_info().misses == misses
    again = [row.model for row in rows.values() if row.table == 6]
    assert len(again) == 5 and all(_costs.__wrapped__(model) == _costs(model) for model in again)


def test_each_cell_has_its_own_verdict(rows, monkeypatch):
    monkeypatch.setitem(tables.CROSSVIT_TABLES[6].rows["All-Attention"], PARAMETERS, 26.9)  # then nothing is open
    monkeypatch.setitem(tables.CROSSVIT_TABLES[7].rows["E"], PARAMETERS, 31.2)
    monkeypatch.setitem(tables.CROSSVIT_TABLES[2].rows["DeiT-S"], FLOPS, 4.7)
    changed = [
        (row.table, row.name, row.flops_verdict, row.parameters_verdict)
        for row in tables.crossvit()
        if (row.flops_verdict, row.parameters_verdict) != VERDICTS[row.table][row.name]
    ]
    assert changed == [
        (2, "DeiT-S", "differs", "equal"),
        (6, "All-Attention", "equal", "equal"),
        (7, "E", "equal", "equal"),
    ]


@pytest.mark.parametrize(
    ("printed", "counted", "power", "expected"),
    [
        (5.3, 5_349_663_360, 9, "equal"),
        (5.4, 5_349_663_360, 9, "differs"),
        (5.4, 5_350_105_728, 9, "equal"),
        (5.4, 5_350_000_000, 9, "equal"),
        (5.4, 5_450_000_000, 9, "differs"),
        (2.7, 2_650_000, 6, "equal"),  # the float 2.65 is below 2.65, and formats as 2.6
        (31.1, 31_155_536, 6, "differs"),
        (9.0, 9_031_158_528, 9, "equal"),
        (9.03, 9_031_158_528, 9, "equal"),
        (9.04, 9_031_158_528, 9, "differs"),
        (19, 19_300_000, 6, "equal"),
        (None, 19_300_000, 6, ""),
        (None, None, 6, ""),
        (19, None, 6, "not built"),
    ],
)
def test_a_verdict(printed, counted, power, expected):
    assert verdict(printed, counted, power) == expected


def test_folded_cross_attention_needs_fewer(rows):
    assert rows[2, "CrossViT-S"].folded_macs == 5_358_254_976
    assert rows[7, "B"].folded_macs == 7_176_587_520 < rows[7, "B"].macs
    assert [rows[place].folded_macs for place in [(2, "DeiT-S"), (3, "TNT-S"), (6, "Pairwise")]] == [None] * 3


@pytest.mark.parametrize("name", CROSSVIT_MODELS.rows)
def test_models_are_those_of_table_1(name, rows):
    cells, model = CROSSVIT_MODELS.rows[name], rows[2, name].model.build()
    assert [len(model.fusions), model.depths[0], model.depths[1]] == [3, 1, cells["M"]]
    for side, branch in zip("SL", model.branches):
        block = branch.blocks[0]
        assert branch.patch_embedding.patch == cells[f"patch {side}"]
        assert isinstance(branch.patch_embedding, ConvolutionalEmbedding) == (cells["patch embedding"] == "3 Conv.")
        assert branch.head.in_features == cells[f"dimension {side}"]
        assert block.attention.heads == cells["heads"]
        assert block.mlp.fc1.out_features == cells["r"] * cells[f"dimension {side}"]


@pytest.mark.parametrize("name", CROSSVIT_ARCHITECTURES.rows)
def test_models_are_those_of_table_7(name, rows):
    cells, model = CROSSVIT_ARCHITECTURES.rows[name], rows[7, name].model.build()
    assert (len(model.fusions), *model.depths) == (cells["K"], cells["N"], cells["M"])
    assert [len(fusion.large.attentions) for fusion in model.fusions] == [cells["L"]] * cells["K"]
    for side, branch in zip("SL", model.branches):
        assert branch.patch_embedding.patch == cells[f"patch {side}"]
        assert branch.head.in_features == cells[f"dimension {side}"]
    assert all(parameter.is_meta for parameter in model.parameters())


def test_sources_are_named(rows):
    assert {row.source for row in rows.values()} == {
        f"Chen, Fan and Panda, CrossViT (ICCV 2021), table {number}" for number in (2, 3, 6, 7)
    }


def test_a_second_paper_is_a_list_of_rows():
    printed = Table(
        "A paper", 4, "", {"DeiT-Ti": {FLOPS: 1.3, PARAMETERS: 5.8}, "Other": {FLOPS: 2.0, PARAMETERS: None}}
    )
    rows = [
        Row(printed, "DeiT-Ti", Model("deit_tiny_patch16_224"), explain=lambda: "5.8 is a misprint."),
        Row(printed, "Other"),
    ]
    assert [(row.source, row.flops_verdict, row.parameters_verdict, row.remark) for row in rows] == [
        ("A paper, table 4", "equal", "differs", "5.8 is a misprint."),
        ("A paper, table 4", "not built", "", ""),
    ]
    assert tables.summary(rows) == {"equal": 1, "differs": 1, "open": 0, "not built": 1}


def test_a_row_that_the_table_does_not_have():
    with pytest.raises(ValueError, match=r"table 6 has no row 'Crossattention': its rows are None.*Cross-Attention"):
        Row(tables.CROSSVIT_TABLES[6], "Crossattention")


def test_the_command_shows_every_row_and_the_summary(rows, capsys):
    assert main(["tables", "crossvit"]) == 0
    printed = capsys.readouterr().out
    for number, table in tables.CROSSVIT_TABLES.items():
        part = printed.split(f", table {number}\n")[1].split("\n\n")[0]
        assert [line[:16].strip() for line in part.splitlines() if line[0] != " "] == list(table.rows)
    assert "\ncells: equal 56, differs 3, open 1, not built 19\n" in printed
    lines = [line.split() for line in printed.splitlines()]
    assert "DeiT-S 4.6 4.5989 equal 22.1 22.051 21.975 equal all".split() in lines
    assert "All-Attention 7.6 7.5834 equal 27.7 26.855 26.702 open all".split() in lines
    assert "Perceiver - - 43.9 - - not built".split() in lines
    assert "E 6.6 6.5989 equal 31.1 31.308 31.156 differs no positions".split() in lines
    assert "would be 5.881 G" in " ".join(printed.split())
    assert max(map(len, printed.splitlines())) <= 120


def test_a_table_without_a_column_that_is_compared():
    printed = Table("A paper", 4, "", {"DeiT-Ti": {PARAMETERS: 5.7}})
    with pytest.raises(ValueError, match=r"A paper, table 4 has no column 'FLOPs \(G\)': add it, with None"):
        Row(printed, "DeiT-Ti")
