"""Arrows between the library's modules run one way: the order of the rooms, no circle, and what models may import.

A room is a folder or a file directly in the package. An arrow runs from a module to each module of the package that it
imports. Every import statement counts as an arrow: at the top of a file, inside a function (it runs later, but the
dependency is the same), and under TYPE_CHECKING. Imports are read from the source text, and nothing is run. Importing
`package.room.module` also runs the `__init__` of the room; this is not counted as an arrow.
"""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "xattn_edu"

# From the bottom up. A module may import its own room and the floors below its own; rooms on one floor stay apart.
FLOORS = (
    ("shapes", "files", "fonts"),
    ("machine",),
    ("models", "data"),
    ("training", "measure", "weights"),
    ("experiments", "exercises", "plots"),
    ("predict", "doctor", "homework"),
    ("interactive", "grading"),
    ("cli",),
    ("__main__",),
    ("__init__",),  # what `import xattn_edu` offers; the library itself imports from the rooms
)
MODELS_MAY_IMPORT = {"models", "shapes"}


def modules(package: Path) -> dict[str, Path]:
    """The file of each module, by its name with dots; a folder's name is that of its `__init__`."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules among `known` that a module imports, wherever in its file the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: one dot is the folder of the module
                up = node.level - (path.name == "__init__.py")
                folder = name.split(".")[: len(name.split(".")) - up]
                base = ".".join([*folder, base] if base else folder)
            for alias in node.names:  # `from folder import module`, or a name out of a module
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return found & set(known)


def arrows(package: Path) -> dict[str, set[str]]:
    """For each module, the modules of the same package that it imports."""
    known = modules(package)
    return {name: imported(name, path, known) for name, path in known.items()}


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


def wrong_arrows(graph: dict[str, set[str]]) -> list[str]:
    """Each arrow that runs up, or to another room on the same floor, or from models to anything but shapes."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for name, others in sorted(graph.items()):
        for other in sorted(others):
            here, there = room(name), room(other)
            down = here == there or floor[there] < floor[here]
            if not down or (here == "models" and there not in MODELS_MAY_IMPORT):
                wrong.append(f"{name} -> {other}")
    return wrong


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, or nothing if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_every_room_has_a_floor():
    rooms = {room(name) for name in modules(PACKAGE)}
    assert rooms <= {room for floor in FLOORS for room in floor}


def test_arrows_run_down():
    assert wrong_arrows(arrows(PACKAGE)) == []


def test_there_is_no_circle():
    assert circle(arrows(PACKAGE)) == []


def test_the_imports_of_the_library_are_found():
    """Were imports not read, the two tests above could not fail."""
    graph = arrows(PACKAGE)
    assert {"xattn_edu.models.vit", "xattn_edu.models.fusions", "xattn_edu.shapes"} <= graph[
        "xattn_edu.models.crossvit"
    ]
    assert "xattn_edu.models.registry" in graph["xattn_edu"]
    assert sum(len(others) for others in graph.values()) > 100


def build(folder: Path, files: dict[str, str]) -> dict[str, set[str]]:
    """Write a small package `lib`, whose files are empty but for these, and read its arrows."""
    package = folder / "lib"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in (package, *package.iterdir()):
        if path.is_dir():
            (path / "__init__.py").touch()
    return arrows(package)


ROOMS = (
    "shapes.py", "files.py", "machine.py", "models/vit.py", "models/layers.py", "data/cifar.py", "training/loop.py",
    "measure/tables.py", "weights/vit.py", "experiments/runs.py", "plots.py", "predict/segmenter.py", "cli.py",
)  # fmt: skip


def test_arrows_down_and_inside_a_room_pass(tmp_path):
    files = {
        "shapes.py": "import os, torch",
        "models/vit.py": "from lib.shapes import shaped\nfrom lib.models import layers",
        "training/loop.py": "import lib.models.vit as vit\nfrom ..data.cifar import load",
        "plots.py": "from lib.measure.tables import mean",
        "cli.py": "def main():\n    import lib.predict.segmenter",
        "__init__.py": "from lib.models.vit import ViT",
    }
    graph = build(tmp_path, dict.fromkeys(ROOMS, "") | files)
    assert wrong_arrows(graph) == [] and circle(graph) == []
    assert {name: others for name, others in graph.items() if others} == {
        "lib": {"lib.models.vit"},
        "lib.models.vit": {"lib.shapes", "lib.models.layers"},
        "lib.training.loop": {"lib.models.vit", "lib.data.cifar"},
        "lib.plots": {"lib.measure.tables"},
        "lib.cli": {"lib.predict.segmenter"},
    }


@pytest.mark.parametrize(
    ("file", "statement", "target"),
    [
        ("models/vit.py", "from lib.data.cifar import load", "lib.data.cifar"),
        ("models/vit.py", "import lib.files", "lib.files"),
        ("models/vit.py", "from lib import files", "lib.files"),
        ("models/vit.py", "from ..files import first_line", "lib.files"),
        ("models/vit.py", "from .. import files", "lib.files"),
        ("models/__init__.py", "from .. import plots", "lib.plots"),
        ("data/cifar.py", "from lib.models.vit import ViT", "lib.models.vit"),
        ("measure/tables.py", "from lib.training.loop import take", "lib.training.loop"),
        ("weights/vit.py", "from lib.measure import tables", "lib.measure.tables"),
        ("training/loop.py", "def curves():\n    from lib.plots import lines", "lib.plots"),
        ("data/cifar.py", "if TYPE_CHECKING:\n    from lib.training import loop", "lib.training.loop"),
        ("files.py", "try:\n    import lib.machine\nexcept ImportError:\n    pass", "lib.machine"),
        ("plots.py", "from lib.experiments import runs", "lib.experiments.runs"),
        ("experiments/runs.py", "import json, lib.predict.segmenter", "lib.predict.segmenter"),
        ("predict/segmenter.py", "from lib import cli", "lib.cli"),
        ("cli.py", "from lib import __version__", "lib"),
    ],
)
def test_a_wrong_arrow_is_named(tmp_path, file, statement, target):
    graph = build(tmp_path, dict.fromkeys(ROOMS, "") | {file: statement})
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert wrong_arrows(graph) == [f"lib.{name} -> {target}"]


@pytest.mark.parametrize(
    "files",
    [
        {"models/vit.py": "import lib.models.layers", "models/layers.py": "def f():\n    from lib.models import vit"},
        {
            "data/a.py": "from .b import x",
            "data/b.py": "if TYPE_CHECKING:\n    from .c import x",
            "data/c.py": "from lib.data import a",
        },
        {"data/__init__.py": "from lib.data.cifar import load", "data/cifar.py": "from . import RATES"},
    ],
    ids=["an import inside a function", "an import for types alone", "a folder and its own module"],
)
def test_a_circle_inside_a_room_is_found(tmp_path, files):
    graph = build(tmp_path, files)
    assert wrong_arrows(graph) == []
    assert len(set(circle(graph))) == len(files)


def test_a_room_without_a_floor_is_refused(tmp_path):
    with pytest.raises(KeyError, match="attic"):
        wrong_arrows(build(tmp_path, {"attic.py": "from lib import shapes", "shapes.py": ""}))
