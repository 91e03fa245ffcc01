"""CONTRIBUTING.md names files and objects that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDERS = "xattn_edu|tests|tools|notebooks|datasets|docs|results|benchmarks"
SUFFIXES = "py|md|toml|txt|ya?ml|json|cff|ipynb|sha256"
PATH = re.compile(rf"(?<![\w./*-])(?:(?:{FOLDERS})/[\w./*-]*|\.?[\w*-]+\.(?:{SUFFIXES}))(?![\w./*-])")
PLACEHOLDER = re.compile(r"(?<![A-Z])(?:NAME|NN)(?![A-Z])")
CODE = "".join(
    path.read_text(encoding="utf-8")
    for folder in ("xattn_edu", "tests", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
)
RECIPES = TEXT.partition("## How to add\n")[2].partition("\n## ")[0]


def code_spans(text: str) -> list[str]:
    """What stands in backticks, and the lines of indented code."""
    return re.findall(r"`([^`\n]+)`", text) + re.findall(r"(?m)^ {4}(\S.*)$", text)


def paths(text: str) -> list[str]:
    """The paths of the repository in code; NAME and NN become "*", since the file is still to be written."""
    return [found for span in code_spans(text) for found in PATH.findall(PLACEHOLDER.sub("*", span))]


def missing_paths(text: str, root: Path = ROOT) -> list[str]:
    """Paths that neither exist nor, with a placeholder, have a file of that kind as an example.

    A bare file name is that of a file in the root folder or, like a card of a data set, anywhere in `datasets/`.
    """
    return [
        path
        for path in paths(text)
        if not any(root.glob(path)) and ("/" in path or not any((root / "datasets").rglob(path)))
    ]


def missing_names(text: str, code: str = CODE) -> set[str]:
    """Names in backticks, alone or of a call, that no Python file of the repository has."""
    names = set()
    for span in re.findall(r"`([^`\n]+)`", text):
        names |= {span} if re.fullmatch(r"[A-Za-z_]\w+", span) else set(re.findall(r"(\w+)\(", span))
    return {name for name in names if not PLACEHOLDER.search(name)} - set(re.findall(r"\w+", code))


def test_paths_exist():
    assert len(paths(TEXT)) > 40
    made = {f"results/benchmarks/{name}.json" for name in ("portable", "gpu")}  # by `make portable` and `make gpu`
    assert set(missing_paths(TEXT)) <= made


def test_names_in_the_recipes_exist():
    assert len(re.findall(r"(?m)^### ", RECIPES)) == 7
    assert missing_names(RECIPES) == set()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`tests/models/test_fusions.py` and `requirements.txt`, `.pre-commit-config.yaml`, `docs/`", []),
        ("`make test ARGS=\"tests/a.py -k 'b'\"`", ["tests/a.py"]),
        ("    make test ARGS=tests/a.py", ["tests/a.py"]),
        ("`xattn_edu/fusions.py`, `lost.md`", ["xattn_edu/fusions.py", "lost.md"]),
        ("`xattn_edu/data/NAME.py`, `xattn_edu/exercises/lesson_NN.py`, `notebooks/NN_NAME.ipynb`", []),
        ("`xattn_edu/date/NAME.py`", ["xattn_edu/date/*.py"]),
        ("`checksums.sha256`, `.ipynb`, `model.py()`, tests/a.py", ["model.py"]),
    ],
)
def test_a_missing_path_is_found(text, missing):
    assert missing_paths(text) == missing


def test_a_missing_name_is_found():
    text = '`FUSIONS`, `Lost`, `train_fusion("cues", "NAME")`, `lose_it(1)`, `my_NAME`, `--folder`'
    assert missing_names(text) == {"Lost", "lose_it"}
