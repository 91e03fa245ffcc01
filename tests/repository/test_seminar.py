"""docs/seminar.md: every section that it names exists in the notebook that it links, and no notebook is left out."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "seminar.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\[(\d+\.\d+)\]\(\.\./notebooks/([^)]+)\)", TABLE)
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def sections_of(name: str) -> list[str]:
    """The numbers of a notebook's sections, such as 7.3."""
    cells = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.findall(r"(?m)^## (\d+\.\d+) ", text)


@pytest.mark.parametrize("name", [path.name for path in LESSONS])
def test_each_section_named_is_in_the_notebook_that_is_linked(name):
    named = {section for section, book in LINKS if book == name}
    assert named and named <= set(sections_of(name))


def test_each_row_names_a_section_and_each_link_is_a_notebook():
    rows = [line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith("| page")]
    assert len(rows) >= 25 and all(re.search(r"\[\d+\.\d+\]\(\.\./notebooks/", row) for row in rows)
    assert {book for _, book in LINKS} == {path.name for path in LESSONS}
    assert len(LINKS) == TABLE.count("](../")
