"""What is in the repository: nothing large, nothing that names a machine, and notebooks that were run as they stand."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


# In a container the clone often belongs to another user, which git would otherwise refuse to look at.
GIT = ["git", "-c", "safe.directory=*"]


def git(*arguments):
    return subprocess.run([*GIT, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if shutil.which("git") is None or not (ROOT / ".git").exists():
    pytest.skip("this is not a git clone", allow_module_level=True)

TRACKED = [ROOT / name for name in git("ls-files", "-z").split("\0") if (ROOT / name).is_file()]
LESSONS = [path for path in TRACKED if path.suffix == ".ipynb" and path.parent == ROOT / "notebooks"]


def text_of(path):
    """A file's text; none when it holds anything else."""
    data = path.read_bytes()
    return "" if b"\0" in data else data.decode("utf-8", "replace")


def test_files_are_small():
    large = {path.name: path.stat().st_size for path in TRACKED if path.stat().st_size > 10 * MEGABYTE}
    assert large == {}


@pytest.mark.slow
def test_the_clone_is_small():
    # What git would send, packed anew: this folder's own store may hold an object more than once, in the packs that
    # earlier fetches brought, and says little about a clone's size.
    # With one thread, because several share the work out by chance, and the size differs by 2 % from run to run.
    sent = ["pack-objects", "--revs", "--no-reuse-delta", "--threads=1", "--window=50", "--stdout", "-q"]
    history = subprocess.run([*GIT, *sent], cwd=ROOT, input=b"HEAD\n", capture_output=True, check=True).stdout
    worktree = sum(path.stat().st_size for path in TRACKED)
    assert 0 < worktree < 40 * MEGABYTE
    assert 0 < len(history) < 40 * MEGABYTE


def test_the_data_folder_does_not_shadow_the_package_of_its_name():
    assert not (ROOT / "datasets" / "__init__.py").exists()


# Written so that this file does not contain what it looks for.
PLACES = r"/(root|work|home/\w+|Users/\w+)/|[A-Z]:\\\\?Users\b"
REGISTRIES = r"\b(pypi\.org|pythonhosted\.org|anaconda\.(org|com)|download\.pytorch\.org|registry\.npmjs\.org)"


@pytest.mark.parametrize("pattern", [PLACES, REGISTRIES], ids=["places", "registries"])
def test_no_file_names_a_machine(pattern):
    found = {str(path.relative_to(ROOT)): match[0] for path in TRACKED if (match := re.search(pattern, text_of(path)))}
    assert found == {}


def test_the_continuous_integration_can_be_run():
    assert git("ls-files", "--stage", ".ci/run").startswith("100755")
    subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, check=True)


def test_the_readme_links_every_notebook_and_no_other():
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md yet")
    linked = set(re.findall(r"\((notebooks/[^)#/]+\.ipynb)", readme.read_text(encoding="utf-8")))
    assert linked == {path.relative_to(ROOT).as_posix() for path in LESSONS}


# The stored outputs of the lessons; those of the homework are the student's.


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
class TestStoredNotebook:
    def test_is_small(self, path):
        assert path.stat().st_size < 1.5 * MEGABYTE

    def test_was_run_from_top_to_bottom(self, path):
        counts = [cell["execution_count"] for cell in code_cells(path)]
        assert counts == list(range(1, len(counts) + 1))

    def test_shows_no_error_and_no_warning(self, path):
        for cell in code_cells(path):
            for output in cell["outputs"]:
                assert output["output_type"] != "error", output["evalue"]
                assert output.get("name") != "stderr", output["text"]

    def test_shows_no_path_of_a_machine(self, path):
        for cell in code_cells(path):
            for output in cell["outputs"]:
                words = [value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]
                assert not re.search(PLACES + r"|/tmp/|site-packages", json.dumps([output.get("text"), words]))

    def test_names_the_kernel_and_no_version(self, path):
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        assert metadata["kernelspec"]["name"] == "python3"
        assert metadata["language_info"] == {"name": "python"}


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
