"""What says the same thing in two places says it alike: version, Pythons, style; and the forms that GitHub reads."""

import datetime
import importlib.metadata
import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from test_setup import PINS, ROOT, load

import xattn_edu

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEST, SITE = (ROOT / ".github" / "workflows" / f"{name}.yml" for name in ("test", "site"))
KEPT = ("site", "slides")
ACTIONLINT = shutil.which("actionlint", path=sysconfig.get_path("scripts"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# The version


def test_the_version_is_written_once_and_quoted_truly() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    assert importlib.metadata.version("xattn-edu") == xattn_edu.__version__
    assert yaml.safe_load(text("CITATION.cff"))["version"] == xattn_edu.__version__
    assert re.findall(r"(?m)^## \[([\d.]+)\]", text("CHANGELOG.md"))[0] == xattn_edu.__version__


def test_the_changelog_has_the_form_that_it_names() -> None:
    heads = re.findall(r"(?m)^## (.*)$", text("CHANGELOG.md"))
    dates = [re.fullmatch(r"\[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d)", head)[1] for head in heads[1:]]
    assert heads[0] == "[Unreleased]"
    assert sorted(map(datetime.date.fromisoformat, dates), reverse=True) == [*map(datetime.date.fromisoformat, dates)]
    kinds = set(re.findall(r"(?m)^### (.*)$", text("CHANGELOG.md")))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


# The keys of the Citation File Format 1.2.0, whose schema allows no other.
CITATION_KEYS = set(
    "abstract authors cff-version commit contact date-released doi identifiers keywords license license-url message"
    " preferred-citation references repository repository-artifact repository-code title type url version".split()
)


def test_the_citation_file_is_valid() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation) <= CITATION_KEYS
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["authors"] and all(set(author) <= {"name", "website"} for author in citation["authors"])
    assert all(isinstance(value, str) for key, value in citation.items() if key not in ("authors", "keywords"))


# The Pythons


def test_the_pythons_that_suit_are_the_same_everywhere() -> None:
    course = load(ROOT)
    suits = SpecifierSet(PROJECT["project"]["requires-python"])
    minors = [minor for minor in range(30) if suits.contains(f"3.{minor}.0")]
    accepted = [minor for minor in range(30) if course.OLDEST <= (3, minor) <= course.NEWEST]
    assert accepted == minors
    named = f"Python 3.{minors[0]} to 3.{minors[-1]}"
    assert f"You need {named}," in text("README.md")
    assert f"No {named} found" in text("Makefile")
    (candidates,) = re.findall(r"for python in (.*); do", text("Makefile"))
    assert set(candidates.split()) == {"python3", "python"} | {f"python3.{minor}" for minor in minors}
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py3{minors[0]}"
    pythons = yaml.safe_load(text(TEST))["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert pythons == [f"3.{minors[0]}", f"3.{minors[-1]}"]


# The style before a commit


def test_pre_commit_has_the_ruff_of_make_test() -> None:
    (repository,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert repository["rev"] == f"v{PINS['ruff']}"
    assert [hook["id"] for hook in repository["hooks"]] == ["ruff-check", "ruff-format"]


# The workflows


def test_the_workflow_runs_the_readmes_command_everywhere_and_uploads_nothing() -> None:
    parsed = yaml.safe_load(text(TEST))
    job = parsed["jobs"]["test"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == ["make test PYTHON=python", "python tools/course.py test"]
    assert {system.split("-")[0] for system in job["strategy"]["matrix"]["os"]} == {"ubuntu", "macos", "windows"}
    assert [step["with"].get("cache") for step in job["steps"] if "setup-python" in step.get("uses", "")] == ["pip"]
    assert parsed["permissions"] == {"contents": "read"}
    assert "timeout-minutes" in job and "upload" not in text(TEST).replace("uploads nothing", "")


def test_the_other_workflow_builds_site_and_slides_and_keeps_them_as_files() -> None:
    assert sorted(WORKFLOWS) == sorted([TEST, SITE])
    parsed = yaml.safe_load(text(SITE))
    steps = parsed["jobs"]["site"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [f"make {name} PYTHON=python" for name in KEPT]
    kept = [step["with"] for step in steps if "upload-artifact" in step.get("uses", "")]
    assert [(each["name"], each["path"]) for each in kept] == [(name, f"build/{name}") for name in KEPT]
    assert parsed["permissions"] == {"contents": "read"} and "timeout-minutes" in parsed["jobs"]["site"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_finds_nothing(workflow: Path) -> None:
    assert lint(workflow) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("matrix.python }}", "matrix.pyhton }}", "pyhton"),
        ("ubuntu-latest", "ubunto-latest", "ubunto-latest"),
        ("timeout-minutes", "timeout-minuets", "timeout-minuets"),
    ],
)
def test_actionlint_finds_a_slip(tmp_path: Path, right: str, wrong: str, complaint: str) -> None:
    slip = tmp_path / "test.yml"
    slip.write_text(text(TEST).replace(right, wrong), encoding="utf-8")
    assert complaint in lint(slip)


def lint(workflow: Path) -> str:
    assert ACTIONLINT, "actionlint is in requirements.txt, so it must be installed"
    done = subprocess.run([ACTIONLINT, "-no-color", str(workflow)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == (1 if done.stdout else 0), done.stderr
    return done.stdout


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")), ids=lambda path: path.stem)
def test_a_form_for_issues_has_a_name_and_a_purpose(form: Path) -> None:
    head = yaml.safe_load(form.read_text(encoding="utf-8").split("---\n")[1])
    assert set(head) == {"name", "about", "labels"} and all(head.values())


# What pip is asked for


def test_the_dependencies_are_ranges_without_an_upper_end() -> None:
    for line in PROJECT["project"]["dependencies"]:
        assert {part.operator for part in Requirement(line).specifier} == {">="}, line


def test_pip_installs_no_jupyter_of_its_own_where_there_is_one() -> None:
    names = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
    assert not {name for name in names if re.search("jupyter|notebook|ipy", name)}
