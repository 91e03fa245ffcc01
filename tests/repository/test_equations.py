"""docs/equations.md is what tools/equations.py writes, and the equations that the course teaches are in it."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import equations  # noqa: E402
from equations import Reference, references, rows_of, summary  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    return equations.collect()


def test_the_file_is_current(rows):
    written = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
    assert written == equations.markdown(rows), "run: python tools/equations.py"


@pytest.mark.parametrize(
    ("surname", "year", "numbers", "module"),
    [
        ("Vaswani", 2017, {1}, "models/attention_numpy"),
        ("Vaswani", 2017, {1}, "models/attention"),
        ("Vaswani", 2017, {2}, "models/transformer"),
        ("Wu", 2016, {14}, "models/decoding"),
        ("Hu", 2018, {2, 3, 4}, "models/mixers"),
        ("Woo", 2018, {1, 2, 3}, "models/mixers"),
        ("Tolstikhin", 2021, {1}, "models/mixers"),
        ("Yu", 2022, {4}, "models/mixers"),
        ("Lee-Thorp", 2022, {3}, "models/mixers"),
        ("Dosovitskiy", 2021, {1, 2, 3, 4}, "models/vit"),
        ("Loshchilov", 2017, {5}, "training/loop"),
        ("Chen", 2021, {2, 3, 4, 5, 6, 7}, "models/fusions"),
        ("Liu", 2021, {3, 4}, "models/swin"),
    ],
)
def test_equations_that_are_taught_are_in_it(surname, year, numbers, module, rows):
    found = [row.reference for row in rows if row.module == module]
    of_paper = [reference.equations() for reference in found if (reference.surname, reference.year) == (surname, year)]
    assert set().union(*of_paper) >= numbers


@pytest.mark.parametrize(
    ("surname", "place", "module", "name"),
    [
        ("Vaswani", "section 3.2.2", "models/attention_numpy", "multi_head_attention"),
        ("Vaswani", "section 3.2.2", "models/attention", "MultiHeadAttention"),
        ("Vaswani", "section 3.5", "models/positions", "sinusoidal_positions"),
        ("Vaswani", "section 5.4", "models/losses", None),
        ("Abnar", "section 3.1", "models/attention", "attention_rollout"),
        ("Milletari", None, "models/losses", "dice_loss"),
        ("Huang", None, "models/layers", "StochasticDepth"),
        ("Loshchilov", None, "training/loop", "adamw"),
        ("Liu", "section 3.2", "models/swin", "shifted_mask"),
        ("Yang", "section 3.2", "models/pwam", "PixelWordAttention"),
        ("Yang", "section 3.3", "models/pwam", "LanguagePathway"),
        ("Yang", "section 3.4", "models/lavt", "MaskDecoder"),
        ("Efron", "chapter 13", "measure/overlaps", "Overlaps.interval"),
        ("Abramowitz", "formulas 26.7.3 and 26.7.4", "measure/intervals", "student_t"),
    ],
)
def test_places_without_an_equation_are_in_it(surname, place, module, name, rows):
    """A name of None: the module or any of its objects."""
    found = [row for row in rows if row.module == module and name in (row.name, None)]
    assert any(
        row.reference.surname == surname and (place is None or place in row.reference.places) for row in found
    ), [row.reference for row in found]


def test_every_paper_has_a_title(rows):
    assert [row for row in rows if row.reference.title is None] == []


def test_every_row_says_what_it_is(rows):
    for row in rows:
        assert 10 < len(row.what) < 140 and "quation" not in row.what and "Source" not in row.what, row


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (
            'Source: Vaswani et al., "Attention Is\nAll You Need" (2017), section 3.2.1, equation (1).',
            [("Vaswani", "Attention Is All You Need", 2017, ("section 3.2.1", "equation (1)"))],
        ),
        (
            "Source: Wu et al. (2016), equation (14); Vaswani et al. (2017), sections 3.4 and 3.5. Table 3 is not one.",
            [("Wu", None, 2016, ("equation (14)",)), ("Vaswani", None, 2017, ("sections 3.4 and 3.5",))],
        ),
        (
            'Source: Chen, Fan and Panda, "CrossViT" (ICCV 2021), equations (2) to (4), figure 3; and more.',
            [("Chen", "CrossViT", 2021, ("equations (2) to (4)", "figure 3"))],
        ),
        ("Source: Huang et al. (2016). The rate of section 3 is not a place in it.", [("Huang", None, 2016, ())]),
        ("Yu et al. wrote equation (3).", []),
    ],
)
def test_references(docstring, expected):
    found = references(docstring)
    assert [(one.surname, one.title, one.year, one.places) for one in found] == expected


@pytest.mark.parametrize(
    ("places", "numbers"),
    [
        (("equation (1)",), {1}),
        (("equations (2) to (4)", "section 9"), {2, 3, 4}),
        (("equations 2 and 3",), {2, 3}),
        (("equations (1), (3) and (5)",), {1, 3, 5}),
        (("figure 3",), set()),
    ],
)
def test_equation_numbers(places, numbers):
    assert Reference("Wu et al.", None, 2016, places).equations() == numbers


@pytest.mark.parametrize(
    ("docstring", "what"),
    [
        ("Each patch to one token: a linear map (equation 1).\n\nMore.", "Each patch to one token: a linear map"),
        ("max(0, x W) + b, by token. It is fast.", "max(0, x W) + b, by token"),
        ("A mask of two\nlines: equation (3), with f the identity.", "A mask of two lines"),
        ("softmax(q k^T) v: equation (1) of Vaswani et al.", "softmax(q k^T) v"),
        ("Linear, ReLU, Linear", "Linear, ReLU, Linear"),
    ],
)
def test_summary(docstring, what):
    assert summary(docstring) == what


MODULE = '''
"""A module. Source: Wu et al., "A Title" (2016), equations (1) to (3); Hu et al., "Other" (2018)."""

class One:
    """The first of them: equation (1)."""
    def method(self):
        """A method. Source: Hu et al. (2018), section 4."""

def none():
    """It has no source."""
'''


def test_a_module_with_objects(tmp_path):
    (tmp_path / "module.py").write_text(MODULE, encoding="utf-8")
    found = [(row.name, row.reference.title, row.reference.places) for row in rows_of(tmp_path / "module.py", "m")]
    assert found == [
        ("One", "A Title", ("equation (1)",)),
        ("One.method", "Other", ("section 4",)),
        ("", "A Title", ("equation (2)", "equation (3)")),
    ]


def test_a_module_without_a_lesson_is_named(rows):
    lost = equations.replace(rows[0], module="models/new")
    with pytest.raises(ValueError, match="no lesson for models/new.*LESSONS"):
        equations.markdown([*rows, lost])
