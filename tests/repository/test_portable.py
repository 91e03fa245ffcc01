"""`make portable`: which rows it runs, with which variables, and what it says and stores of their outcomes."""

import json
import re
import subprocess
import sys

import pytest
from test_setup import ROOT, load

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"/><testcase name="c"><skipped/></testcase>{}</testsuite></testsuites>"""
FAILED = '<testcase name="d"><failure/></testcase><testcase name="e"><error/></testcase>'


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The set-up program in an empty folder, whose pytest passes two tests, skips one, and fails where asked."""
    course = load(ROOT)
    course.ROOT, course.VENV, course.PARITY = tmp_path, tmp_path / ".venv", tmp_path / ".venv-parity"
    course.VENV.mkdir()
    course.ran, course.fails, course.prepared = [], set(), []

    def run(*arguments, venv, output, **variables):
        (report,) = (argument[len("--junitxml=") :] for argument in arguments if argument.startswith("--junitxml="))
        name = re.search(r"(\w+-\w+)\.xml$", report)[1]
        course.ran.append((name, arguments, venv, variables))
        with open(report, "w") as file:
            file.write(REPORT.format(FAILED if name in course.fails else ""))
        output.write(b"what pytest said")
        return int(name in course.fails)

    monkeypatch.setattr(course, "run", run)
    monkeypatch.setattr(course, "prepare", lambda: course.prepared.append("lock"))
    monkeypatch.setattr(course, "prepare_parity", lambda: course.prepared.append("parity"))
    return course


def stored(course):
    return json.loads((course.ROOT / "results" / "benchmarks" / "portable.json").read_text())


def test_every_row_runs_and_the_other_torch_only_the_tests(course, capsys):
    assert course.main(["portable"]) == 0
    rows = ("processor", "avx2", "threads", "busy")
    names = [f"{row}-{kind}" for row in rows for kind in ("notebooks", "tests")] + ["torch-tests"]
    assert [name for name, *_ in course.ran] == names
    assert course.prepared == ["lock", "parity"]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-10:]]
    assert lines[0] == ["row", "kind", "passed", "failed", "skipped", "minutes"]
    assert lines[1:] == [[*name.split("-"), "2", "0", "1", "0.0"] for name in names]
    assert [f"{row['row']}-{row['kind']}" for row in stored(course)["rows"]] == names


def test_a_row_has_its_own_variables_and_all_others_of_the_tests(course):
    course.main(["portable"])
    for name, arguments, venv, variables in course.ran:
        row, kind = name.split("-")
        expected = course.PARITY_VARIABLES if row == "torch" else course.REPRODUCIBLE
        assert variables == {**expected, **course.ROWS[row]}
        assert venv == (course.PARITY if row == "torch" else course.VENV)
        assert ("--nbval" in arguments) == (kind == "notebooks")
        assert arguments[-1] == kind
        assert ("--ignore=tests/repository" in arguments) == (row == "torch")


def test_a_row_that_fails_fails_the_command_and_is_counted(course, capsys):
    course.fails.add("avx2-tests")
    assert course.main(["portable"]) == 1
    output = capsys.readouterr().out
    assert re.search(r"(?m)^avx2 +tests +2 +2 +1 ", output)
    assert re.search(r"2 failed: \.venv.portable.avx2-tests\.log says which", output)
    assert (course.VENV / "portable" / "avx2-tests.log").read_bytes() == b"what pytest said"


@pytest.mark.parametrize("status", [2, 5])  # interrupted; no test was found
def test_a_pytest_that_ends_before_its_report_fails_the_row(course, monkeypatch, status):
    monkeypatch.setattr(course, "run", lambda *arguments, **more: status)
    assert course.main(["portable", "avx2", "tests"]) == 1
    (row,) = stored(course)["rows"]
    assert (row["passed"], row["failed"]) == (0, 1)


def test_chosen_rows_take_their_place_among_those_stored(course):
    course.main(["portable", "busy", "avx2", "tests"])
    assert [name for name, *_ in course.ran] == ["avx2-tests", "busy-tests"]
    assert course.prepared == ["lock"]
    course.fails.add("avx2-tests")
    course.main(["portable", "avx2"])
    rows = [(row["row"], row["kind"], row["failed"]) for row in stored(course)["rows"]]
    assert rows == [("avx2", "notebooks", 0), ("avx2", "tests", 2), ("busy", "tests", 0)]


def test_no_row_is_no_success(course, capsys):
    assert course.main(["portable", "torch", "notebooks"]) == 1
    assert "choose `torch tests`" in capsys.readouterr().err
    assert course.ran == []


def test_rows_of_another_machine_are_not_kept(course, monkeypatch):
    course.main(["portable", "avx2", "tests"])
    monkeypatch.setattr(course, "processor", lambda: "another one")
    course.main(["portable", "busy", "tests"])
    assert stored(course)["cpu"] == "another one"
    assert [row["row"] for row in stored(course)["rows"]] == ["busy"]


def test_arguments_of_pytest_are_passed_on_and_then_nothing_is_stored(course):
    (course.ROOT / "tests").mkdir()
    (course.ROOT / "tests" / "test_vit.py").touch()
    course.main(["portable", "avx2", "tests", "tests/test_vit.py::test_one", "-k", "even"])
    course.main(["portable", "avx2", "tests", "-k", "odd"])
    assert [arguments[-3:] for _, arguments, *_ in course.ran] == [
        ("tests/test_vit.py::test_one", "-k", "even"),
        ("-k", "odd", "tests"),
    ]
    assert not (course.ROOT / "results").exists()


@pytest.mark.parametrize("fault", [None, KeyboardInterrupt])
def test_busy_processes_run_beside_and_are_gone_afterwards(course, monkeypatch, fault):
    made, start = [], subprocess.Popen

    def popen(*arguments, **more):
        made.append(start(*arguments, **more))
        return made[-1]

    def run(*arguments, **more):
        assert len(made) == 4 and all(process.poll() is None for process in made)
        if fault:
            raise fault
        return 0

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(course, "run", run)
    course.main(["portable", "busy", "tests"])
    assert all(process.wait(60) != 0 for process in made)


def test_a_busy_process_ends_when_the_program_that_started_it_is_killed():
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r}); import course, os; course.count(); os._exit(1)"
    # The busy process inherits the pipe, so this waits for its end as well.
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=120).returncode == 1
