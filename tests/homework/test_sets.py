"""The graded sets: sources that are right, releases that give nothing away, checks that know every mistake."""

import ast
import contextlib
import functools
import io
import json
import re
from pathlib import Path

import pytest
from nbgrader.preprocessors import CheckCellMetadata
from nbgrader.validator import Validator

from xattn_edu.exercises.checking import judge
from xattn_edu.exercises.guard import Guarded
from xattn_edu.grading import sheets
from xattn_edu.grading.child import run_cells
from xattn_edu.homework import SETS
from xattn_edu.homework.mistakes import DIFFERENT, MISTAKES

HOMEWORK = Path(__file__).parents[2] / "notebooks" / "homework"
SEEDS = range(5)
EXERCISES = [pytest.param(name, one, id=f"{name}.{one}") for name, exercises in SETS.items() for one in exercises]
OF_SETS = [mistake for mistake in MISTAKES if mistake.exercise.split(".")[0] in SETS]
RIGHT = [answer for answer in DIFFERENT if answer.exercise.split(".")[0] in SETS]
each_set = pytest.mark.parametrize("name", SETS)


def notebook(kind, name):
    return json.loads((HOMEWORK / kind / f"{name}.ipynb").read_text(encoding="utf-8"))


def cells_of(kind, name):
    """(name, role, source, points) of the cells that have a name."""
    cells = sheets.named(notebook(kind, name))
    return [(key, sheets.role_of(cell), sheets.source_of(cell), sheets.points_of(cell)) for key, cell in cells]


@functools.cache
def run(kind, name):
    """What a notebook's cells define, what each prints, and the errors of those that stopped."""
    cells = [(sheets.name_of(cell), sheets.source_of(cell)) for cell in code_cells(kind, name)]
    marked = [part for key, source in cells for part in (("", f'print("\\0{key}\\0", end="")'), (key, source))]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        names, errors = run_cells(marked)
    parts = printed.getvalue().split("\0")
    return names, dict(zip(parts[1::2], parts[2::2])), errors


def code_cells(kind, name):
    return [cell for cell in notebook(kind, name)["cells"] if cell["cell_type"] == "code"]


@functools.cache
def verdict(exercise, answer, seed):
    name, one = exercise.split(".")
    return judge(SETS[name][one].run, Guarded(answer), seed)


# --- notebooks


@each_set
def test_a_source_runs_and_every_check_in_it_says_right(name):
    _, printed, errors = run("source", name)
    assert errors == {}
    checks = {key: printed[key] for key, role, _, _ in cells_of("source", name) if role == "check"}
    assert checks and {key: text for key, text in checks.items() if not text.startswith("✓")} == {}


@each_set
def test_untouched_stubs_are_not_attempted(name):
    _, printed, errors = run("release", name)
    assert errors == {}
    checks = {key: printed[key] for key, role, _, _ in cells_of("release", name) if role == "check"}
    assert checks and {key: text for key, text in checks.items() if not text.startswith("○")} == {}


@each_set
def test_a_release_runs_on_where_nothing_was_written(name):
    """A cell that calls a stub would stop "run all"; `run_cells` lets it pass, so that it is looked for here."""
    names, _, _ = run("release", name)
    namespace = dict(names)
    for key, role, source, _ in cells_of("release", name):
        if role in ("given", "check") and any(c for c in code_cells("release", name) if sheets.name_of(c) == key):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source.replace("%matplotlib inline", ""), key, "exec"), namespace)


@each_set
def test_a_release_is_made_from_its_source(name):
    assert notebook("release", name) == sheets.released(notebook("source", name)), (
        f"run `xattn grade release`: release/{name}.ipynb is not what source/{name}.ipynb gives"
    )


@each_set
def test_no_line_of_a_solution_is_in_a_release(name):
    # Lines that a locked cell gives to the student, as code to be mended, are no secret.
    public = {
        line.strip()
        for _, role, source, _ in cells_of("source", name)
        if role == "given"
        for line in source.splitlines()
    }
    text = "\n".join(sheets.source_of(cell) for cell in notebook("release", name)["cells"])
    solutions = re.findall(rf"(?s){sheets.BEGIN}\n(.*?)[ \t]*{sheets.END}", _sources(name))
    lines = {line.strip() for solution in solutions for line in solution.splitlines()}
    written = [source for _, role, source, _ in cells_of("source", name) if role == "written"]
    lines |= {line.strip() for source in written for line in source.splitlines()}
    assert lines and [line for line in lines - public if len(line) > 12 and line in text] == []
    assert "SOLUTION" not in text


def _sources(name):
    return "\n".join(source for _, role, source, _ in cells_of("source", name) if role == "answer")


@each_set
def test_points_and_cells_fit_the_exercises(name):
    cells = cells_of("source", name)
    assert sum(points for *_, points in cells) == 100
    checked = {}
    for _, role, source, points in cells:
        if role == "check":
            ((called, function),) = re.findall(rf'check\("{name}\.(\w+)", (\w+)\)', source)
            checked[called] = (function, points)
    assert checked == {one: (exercise.function, exercise.points) for one, exercise in SETS[name].items()}
    assert 4 <= len(checked) <= 7
    assert any(role == "written" for _, role, _, _ in cells)


@each_set
def test_every_exercise_has_what_a_student_needs(name):
    """Difficulty, minutes and points are in the text, and hints in steps; an answer cell defines the function."""
    text = "\n".join(sheets.source_of(cell) for cell in notebook("source", name)["cells"])
    defined = {
        node.name for node in ast.walk(ast.parse(_sources(name))) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    for exercise in SETS[name].values():
        assert exercise.function in defined
        assert 1 <= exercise.difficulty <= 3 and exercise.minutes > 0 and re.match(r"\d\d, \d+\.\d+", exercise.section)
        assert f"`{exercise.function}(" in text
        assert f"· {'★' * exercise.difficulty} · {exercise.minutes} minutes · " in text
    assert text.count("<summary>Hint") >= 2 * len(SETS[name])


@each_set
@pytest.mark.parametrize("kind", ["source", "release"])
def test_nbgraders_validator_finds_nothing(kind, name):
    """Its format is nbgrader's; the cells have run above, so that they are not run a second time."""
    validator = Validator(preprocessors=[CheckCellMetadata])
    assert validator.validate(str(HOMEWORK / kind / f"{name}.ipynb")) == {}


@each_set
@pytest.mark.parametrize("kind", ["source", "release"])
def test_a_notebook_is_small_and_clean(kind, name):
    path, found = HOMEWORK / kind / f"{name}.ipynb", notebook(kind, name)
    assert path.stat().st_size < 40_000
    assert path.read_text(encoding="utf-8") == json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(kind, name))
    for target in re.findall(r"\]\(([^)#]+\.ipynb)", "\n".join(map(sheets.source_of, found["cells"]))):
        assert (path.parent / target).exists(), target


# --- answers


@pytest.mark.parametrize(("name", "one"), EXERCISES)
def test_the_sources_answer_is_right_in_every_case(name, one):
    names, _, _ = run("source", name)
    exercise = SETS[name][one]
    answer = Guarded(names[exercise.function])  # one for all cases, as when a notebook is graded
    assert [judge(exercise.run, answer, seed).kind for seed in SEEDS] == ["right"] * len(SEEDS)


@pytest.mark.parametrize(("name", "one"), EXERCISES)
def test_an_exercise_has_mistakes_and_other_answers(name, one):
    assert sum(mistake.exercise == f"{name}.{one}" for mistake in OF_SETS) >= 6
    assert sum(answer.exercise == f"{name}.{one}" for answer in RIGHT) >= 3


@pytest.mark.parametrize("mistake", OF_SETS, ids=lambda mistake: f"{mistake.exercise}-{mistake.name}")
def test_a_mistake_is_refused_in_every_case(mistake):
    kinds = [verdict(mistake.exercise, mistake.answer, seed).kind for seed in SEEDS[:2]]
    assert set(kinds) <= {"wrong", "error"}, kinds


@each_set
def test_mistakes_are_named_and_none_as_another(name):
    mistakes = [mistake for mistake in OF_SETS if mistake.exercise.startswith(f"{name}.")]
    unnamed, as_another = [], []
    for mistake in mistakes:
        words = verdict(mistake.exercise, mistake.answer, 0).words
        causes = {other.cause for other in mistakes if other.exercise == mistake.exercise} - {mistake.cause}
        unnamed += [f"{mistake.exercise} {mistake.name}: {words}"] if mistake.cause not in words else []
        as_another += [f"{mistake.exercise} {mistake.name}: {words}"] if any(c in words for c in causes) else []
    assert as_another == []
    assert len(unnamed) <= 0.1 * len(mistakes), "\n".join(unnamed)


@pytest.mark.parametrize("answer", RIGHT, ids=lambda answer: f"{answer.exercise}-{answer.name}")
def test_another_right_answer_is_accepted(answer):
    for seed in SEEDS:
        found = verdict(answer.exercise, answer.answer, seed)
        assert found.kind == "right", found.words
