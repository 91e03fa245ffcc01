#!/usr/bin/env python3
"""Set the course up in .venv and start it. The Makefile calls this; without make: `python tools/course.py lab`.

Only the standard library, because nothing is installed yet, and no syntax newer than Python 3.6, so that an old
Python can read far enough to be told that it is too old. Whatever goes wrong ends in one line that says what to do.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
LOG = VENV / "install.log"
STAMP = VENV / "installed"  # written last: no stamp, no finished installation
PROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "requirements.txt"
PARITY = ROOT / ".venv-parity"  # apart, because timm needs torchvision, and torchvision another torch
PARITY_LOCK = ROOT / "requirements-parity.txt"

# The Pythons that suit: pyproject.toml says it once, as requires-python = ">=3.11,<3.15".
BOUNDS = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', PROJECT.read_text(encoding="utf-8"))
OLDEST, NEWEST = (3, int(BOUNDS.group(1))), (3, int(BOUNDS.group(2)) - 1)
GIGABYTES = 3  # what the installation takes at most without CUDA
PARITY_GIGABYTES = 8  # of which 3 are given back

# A worker runs a notebook's cells in one kernel, so a file must stay with one worker. The files keep the order that
# notebooks/conftest.py gives them.
WORKERS = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
NOTEBOOKS = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout", "1800")

# One thread for each of pytest's two workers, and for the stored outputs too: sums, hence digits, depend on it.
REPRODUCIBLE = {
    "XATTN_PROFILE": "ci",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}

# `make portable`: the course as another machine would run it. Stored outputs must not depend on the processor's
# instructions, on the number of threads, or on what else is running; the library's tests not on the version of torch.
ROWS = {
    "processor": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "threads": {"OMP_NUM_THREADS": "2"},
    "busy": {},  # BUSY processes beside
    "torch": {},  # the parity environment's torch
}
KINDS = {"notebooks": ("notebooks",), "tests": ("tests",)}
BUSY = 4
# Keeps one core busy, and ends when the program that started it does, however that ends: then its input is closed.
COUNT = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    sum(range(1000000))
"""

PARITY_VARIABLES = dict(REPRODUCIBLE, MPLBACKEND="agg")  # the notebooks' backend is not there

LOCK_HEADER = """\
# Every package of the course and of its tests, exactly. Written by `make lock` from pyproject.toml: do not edit.
# On Linux, PyPI's torch brings the CUDA packages that it pins itself; they exist nowhere else, so they are not listed.
"""

CAUSES = (  # what pip's log says, and what the reader can do about it; the first match wins
    (
        r"No space left on device|Errno 28|not enough space on the disk",
        "the disk is full: free some space (also in the temporary folder), then run the same command again",
    ),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeout|Connection (refused|reset|aborted|broken)"
        r"|[Nn]ame resolution|getaddrinfo failed|Network is unreachable|[Rr]ead timed out|ProxyError|SSLError",
        "the package index cannot be reached: check the network (or proxy), then run the same command again",
    ),
    (
        r"No matching distribution found|is not a supported wheel",
        "a package does not exist for this machine: 64-bit Linux, Windows or macOS on Apple silicon is needed"
        " (which package: {log})",
    ),
)


class Stop(Exception):
    """Ends the program with one line that says what to do."""


# --- setting up


def check_python(version):
    if not OLDEST <= version <= NEWEST:
        age = "old" if version < OLDEST else "new"
        raise Stop(
            f"Python {version[0]}.{version[1]} is too {age}: install Python 3.{OLDEST[1]} to 3.{NEWEST[1]}, then name"
            " it, for example `make lab PYTHON=python3.12` (on Windows: `py -3.12 tools/course.py lab`)"
        )


def check_machine(gigabytes=GIGABYTES):
    if not os.access(str(ROOT), os.W_OK):
        raise Stop(f"{ROOT} cannot be written to: clone the course into a folder of your own")
    if any(importlib.util.find_spec(module) is None for module in ("venv", "ensurepip")):
        name = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise Stop(f"this Python cannot make virtual environments: on Debian and Ubuntu, `sudo apt install {name}`")
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < gigabytes:
        raise Stop(f"not enough disk: {free:.1f} GB free, {gigabytes} GB needed (on Linux with CUDA 8 GB); free some")


def stamp(*files):
    """What an environment was made for: this folder (a moved one does not work), and the packages in these files."""
    contents = b"".join(file.read_bytes() for file in files or (LOCK, PROJECT))
    return f"{ROOT}\n{hashlib.sha256(contents).hexdigest()}\n"


def prepare():
    """Bring .venv up to date with the lock."""
    update(VENV, stamp(), GIGABYTES, install_course)


def update(venv, wanted, gigabytes, install):
    """Bring an environment up to date; when it is, only look, which takes no time."""
    mark, python = venv / STAMP.name, python_of(venv)
    found = mark.read_text(encoding="utf-8") if mark.exists() else ""
    # `import pip` fails when the Python under the environment was removed or replaced by another one.
    works = python.exists() and subprocess.call([str(python), "-c", "import pip"], stderr=subprocess.DEVNULL) == 0
    if works and found == wanted:
        return
    if works and found.split("\n")[0] == str(ROOT):
        mark.unlink()
    else:
        # Nothing yet, or the rest of an interrupted installation, where any package may be half there.
        check_machine(gigabytes)
        if venv.exists():
            shutil.rmtree(str(venv))
        venv.mkdir()
        logged(f"making {venv.name}", sys._base_executable, "-m", "venv", str(venv), venv=venv)
    install()
    mark.write_text(wanted, encoding="utf-8")


def install_course():
    packages = len(re.findall("==", LOCK.read_text(encoding="utf-8")))
    pip(f"installing {packages} packages (a few minutes the first time)", "-r", str(LOCK))
    install_library()
    # JupyterLab's news would open a dialogue at the first start and ask the network.
    settings = VENV / "etc" / "jupyter" / "labconfig" / "page_config.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}\n')


def install_library(venv=VENV):
    pip("installing xattn_edu", "--no-deps", "--no-build-isolation", "--editable", str(ROOT), venv=venv)


def install_parity():
    """timm, torchvision and the torch that goes with it, and the library; all the rest in the lock's versions."""
    pins = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("torch==")]
    rest = PARITY / "constraints.txt"
    rest.write_text("\n".join(pins) + "\n", encoding="utf-8")
    step = "installing timm, with a torch of its own (a few minutes the first time)"
    pip(step, "-r", str(PARITY_LOCK), "-c", str(rest), venv=PARITY)
    install_library(PARITY)


def prepare_parity():
    """Bring .venv-parity up to date with its own lock."""
    update(PARITY, stamp(LOCK, PARITY_LOCK, PROJECT), PARITY_GIGABYTES, install_parity)


def python_of(venv):
    return venv / BIN.name / PYTHON.name


def pip(step, *arguments, venv=VENV):
    command = (str(python_of(venv)), "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
    # Python compiles a module when it is first imported, and few of them ever are: that takes a minute off.
    command += ("--no-compile",)
    logged(step, *command, *arguments, venv=venv)


def logged(step, *command, venv=VENV):
    """Run a noisy program: its words go to the environment's log, one line with its seconds to the screen."""
    print(f"{step} ... ", end="", flush=True)
    begin = time.monotonic()
    path = venv / LOG.name
    with path.open("ab") as log:
        start = log.tell()
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        done = subprocess.run(command, cwd=str(ROOT), env=environment(venv=venv), **streams)
    print(f"{time.monotonic() - begin:.0f} s" if done.returncode == 0 else "failed", flush=True)
    if done.returncode:
        raise Stop(explain(path.read_bytes()[start:].decode("utf-8", "replace"), path))


def explain(words, log):
    """What to do about a failed installation, from what pip said."""
    for pattern, advice in CAUSES:
        if re.search(pattern, words):
            return advice.format(log=log)
    return f"the installation failed; {log} says why, in its last lines"


def environment(home=None, venv=VENV, **more):
    """The variables for every program of the course.

    Jupyter, IPython and Matplotlib keep settings, kernels and caches in the home folder. Here they get a folder in the
    environment: the course changes nothing outside its clone, and another Jupyter's settings do not change the course.
    """
    foreign = [
        "MPLBACKEND",
        "PYTHONHOME",
        "PYTHONPATH",
        "JUPYTER_PATH",
        "JUPYTER_CONFIG_PATH",
        "PIP_TARGET",
        "PIP_USER",
    ]
    home = home or venv / "home"
    variables = {name: value for name, value in os.environ.items() if name not in foreign}
    variables.update(
        PATH=str(venv / BIN.name) + os.pathsep + os.environ.get("PATH", os.defpath),
        VIRTUAL_ENV=str(venv),
        PYTHONNOUSERSITE="1",
        PYTHONUTF8="1",
        JUPYTER_CONFIG_DIR=str(home / "config"),
        JUPYTER_DATA_DIR=str(home / "data"),
        JUPYTER_RUNTIME_DIR=str(home / "runtime"),
        JUPYTERLAB_SETTINGS_DIR=str(home / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(home / "workspaces"),
        IPYTHONDIR=str(home / "ipython"),
        MPLCONFIGDIR=str(home / "matplotlib"),
    )
    variables.update(more)
    return variables


def run(*arguments, venv=VENV, output=None, **more):
    """Run an environment's Python in the clone and return its exit code; `output` is a file for its words."""
    sys.stdout.flush()
    streams = {"stdout": output, "stderr": output and subprocess.STDOUT}
    command, variables = [str(python_of(venv)), *arguments], environment(venv=venv, **more)
    return subprocess.call(command, cwd=str(ROOT), env=variables, **streams)


# --- targets


def lab(port, rest):
    """open the notebooks in JupyterLab (PORT=8899 chooses the port)"""
    prepare()
    port = free_port(port)
    token = os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(16)
    command, variables = jupyterlab(port, token, rest=rest)
    print(f"JupyterLab, in a few seconds: http://127.0.0.1:{port}/lab?token={token} (Ctrl-C stops it)", flush=True)
    run(str(ROOT / "tools" / "stored.py"), "trust")
    if os.name == "nt":  # where exec would return to the prompt at once
        return subprocess.call(command, cwd=str(ROOT), env=variables)
    os.chdir(str(ROOT))
    os.execve(command[0], command, variables)


def jupyterlab(port, token, folder=ROOT / "notebooks", home=VENV / "home", rest=()):
    """The command and the variables that start JupyterLab on a folder."""
    command = [str(PYTHON), "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--Application.log_level=WARN"]
    command.append("--LanguageServerManager.autodetect=False")  # would call npm, which writes to the home folder
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # which Jupyter refuses otherwise; in a container it is the usual user
    displays = {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"}
    if sys.platform.startswith("linux") and not displays & set(os.environ):
        command.append("--no-browser")
    return command + list(rest), environment(home, JUPYTER_TOKEN=token)


def free_port(wanted=None):
    for port in [wanted] if wanted else range(8888, 8988):
        with socket.socket() as probe:
            if os.name != "nt":  # a server that has just stopped still holds its port without this
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except (OSError, OverflowError):
                continue
    raise Stop(f"port {wanted or '8888 to 8987'} cannot be used: choose another, for example `make lab PORT=9000`")


def test(port, rest):
    """check style and types, run the unit tests and every notebook (ARGS="-k attention" is for pytest)"""
    prepare()
    checks = (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",))
    failed = [" ".join(check) for check in checks if run("-m", *check)]
    if failed:
        print(f"{' and '.join(failed)} failed, so `make test` fails; the tests run all the same", flush=True)
    return run("-m", "pytest", *WORKERS, *NOTEBOOKS, *rest, **REPRODUCIBLE) or bool(failed)


def parity(port, rest):
    """compare CrossViT and ViT with timm's, in an environment of their own (.venv-parity, 6 GB)"""
    prepare_parity()
    return run("-m", "pytest", "-n", "2", "tests/parity", *rest, venv=PARITY, **PARITY_VARIABLES)


def portable(port, rest):
    """run notebooks and unit tests as other machines would (ARGS="avx2 notebooks" chooses; two hours)"""
    rows = [row for row in ROWS if row in rest] or list(ROWS)
    kinds = [kind for kind in KINDS if kind in rest] or list(KINDS)
    pairs = [(row, kind) for row in rows for kind in kinds if (row, kind) != ("torch", "notebooks")]
    rest = [argument for argument in rest if argument not in ROWS and argument not in KINDS]
    if not pairs:
        raise Stop("the row torch has no notebooks: its environment has no Jupyter; choose `torch tests`")
    prepare()
    if "torch" in rows:
        prepare_parity()
    results = [portable_row(row, kind, rest) for row, kind in pairs]
    print(table(results))
    if not rest:
        store(results)
    return any(result["failed"] or not result["passed"] for result in results)


def portable_row(row, kind, rest):
    """Run one row and count its outcomes; its words go to .venv/portable."""
    folder = VENV / "portable"
    folder.mkdir(exist_ok=True)
    log, report = folder / f"{row}-{kind}.log", folder / f"{row}-{kind}.xml"
    if report.exists():
        report.unlink()
    of_torch = row == "torch"
    command = [*WORKERS, f"--junitxml={report}", *(NOTEBOOKS if kind == "notebooks" else ())]
    # tests/repository looks at .venv, and tests/parity is `make parity`.
    command += ["--ignore=tests/repository", "--ignore=tests/parity"] if of_torch else []
    chosen = any((ROOT / argument.split("::")[0]).exists() for argument in rest)
    command += rest if chosen else [*rest, *KINDS[kind]]
    variables = dict(PARITY_VARIABLES if of_torch else REPRODUCIBLE, **ROWS[row])
    print(f"{row}, {kind} ... ", end="", flush=True)
    begin = time.monotonic()
    beside = [count() for _ in range(BUSY if row == "busy" else 0)]
    try:
        with log.open("wb") as file:
            status = run("-m", "pytest", *command, venv=PARITY if of_torch else VENV, output=file, **variables)
    finally:
        for process in beside:
            process.kill()
    result = dict(row=row, kind=kind, **outcomes(report), minutes=round((time.monotonic() - begin) / 60, 1))
    result["failed"] = result["failed"] or int(status != 0)  # pytest itself can fail, before any test or after all
    words = f"{result['failed']} failed: {log.relative_to(ROOT)} says which" if result["failed"] else "passed"
    print(f"{words} ({result['minutes']} min)", flush=True)
    return result


def count():
    return subprocess.Popen([sys.executable, "-c", COUNT], stdin=subprocess.PIPE)


def outcomes(report):
    """How many tests passed, failed and were skipped, from pytest's own report."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(str(report)).iter("testcase") if report.exists() else ():
        found = {child.tag for child in case}
        bad = found & {"failure", "error"}
        counts["failed" if bad else "skipped" if "skipped" in found else "passed"] += 1
    return counts


def table(results):
    columns = ("row", "kind", "passed", "failed", "skipped", "minutes")
    lines = [columns] + [[str(result[column]) for column in columns] for result in results]
    return "\n".join("".join(cell.ljust(11) for cell in line).rstrip() for line in lines)


def store(results):
    """Put the rows into results/benchmarks/portable.json, beside those that the same machine and versions gave."""
    record = {"cpu": processor(), "cores": os.cpu_count(), "versions": versions(), "rows": []}
    path = ROOT / "results" / "benchmarks" / "portable.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = before["rows"] if before.get("cpu") == record["cpu"] and before["versions"] == record["versions"] else []
    rows = {(result["row"], result["kind"]): result for result in kept + results}
    record["rows"] = [rows[row, kind] for row in ROWS for kind in KINDS if (row, kind) in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def processor():
    """The processor's model, which names no one's machine."""
    information = Path("/proc/cpuinfo")
    words = information.read_text(encoding="utf-8", errors="replace") if information.exists() else ""
    model = re.search(r"(?m)^model name\s*:\s*(.*)$", words)
    return model.group(1) if model else platform.processor() or platform.machine()


def versions():
    """Python's version, and those of torch that the lock and the parity environment hold."""
    pins = {file: re.search(r"(?m)^torch==(\S+)", file.read_text(encoding="utf-8")) for file in (LOCK, PARITY_LOCK)}
    return {"python": platform.python_version(), "torch": [pin.group(1) for pin in pins.values()]}


def format(port, rest):
    """put code and notebooks into the style that `make test` checks"""
    prepare()
    return run("-m", "ruff", "check", "--fix") or run("-m", "ruff", "format")


def notebooks(port, rest):
    """run all notebooks afresh and store their outputs (ARGS=notebooks/01_attention_in_numpy.ipynb for one)"""
    prepare()
    paths = rest or sorted(str(path) for path in (ROOT / "notebooks").glob("*.ipynb"))
    execute = ("-m", "nbconvert", "--to", "notebook", "--inplace", "--execute", "--ExecutePreprocessor.timeout=1800")
    for path in paths:
        begin = time.monotonic()
        if run(*execute, "--ExecutePreprocessor.record_timing=False", path, **REPRODUCIBLE):
            raise Stop(f"{path} stopped with the error above and is as it was")
        print(f"{path}: {time.monotonic() - begin:.0f} s", flush=True)  # what its first cell states
        run(str(ROOT / "tools" / "stored.py"), "tidy", str(ROOT / path))
        run(str(ROOT / "tools" / "figures.py"), str(ROOT / path))
    return 0


def site(port, rest):
    """build the course as a site in build/site, to be read without a network"""
    prepare()
    return run(str(ROOT / "tools" / "site" / "build.py"), *rest)


def lock(port, rest):
    """choose the newest versions that fit pyproject.toml and write requirements.txt"""
    if sys.version_info[:2] != OLDEST:
        raise Stop("make lock needs the oldest Python that the course supports: make lock PYTHON=python3.11")
    LOG.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        python = os.path.join(folder, BIN.name, PYTHON.name)
        logged("making an environment for pip-tools", sys._base_executable, "-m", "venv", folder)
        logged("installing pip-tools", python, "-m", "pip", "install", "pip-tools")
        new = os.path.join(folder, "new.txt")
        keep = os.path.join(folder, "keep.txt")
        Path(keep).write_text("\n".join(kept()) + "\n", encoding="utf-8")
        resolve = (python, "-m", "piptools", "compile", "--quiet", "--strip-extras", "--allow-unsafe", "--no-header")
        resolve += ("--annotation-style=line", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host")
        everything = ("--extra=lab", "--extra=dev", "--constraint", keep, "--output-file", new, "pyproject.toml")
        logged("resolving", *resolve, *everything)
        Path(new).write_text(LOCK_HEADER + pins(Path(new).read_text(encoding="utf-8")), encoding="utf-8")
        shutil.copy(new, str(LOCK))
    return 0


def pins(compiled):
    """The lock's lines, from pip-compile's, without what holds only on this machine.

    That is CUDA's packages, which other systems lack, the local version of a CPU build (+cpu), and the path of the
    file that says what is kept.
    """
    lines = [line for line in compiled.splitlines() if re.match(r"(?!nvidia|cuda|triton)\w", line)]
    lines = [re.sub(r"(==[\w.]+)\+\w+ {0,4}|-c \S+, ", r"\1", line) for line in lines]
    return "".join(f"{line}\n" for line in sorted(lines))


def kept():
    """The versions that the lock keeps though newer ones would fit; pyproject.toml says which, and why."""
    import tomllib  # which the Pythons that this file must only be readable for do not have

    return tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["course"]["keep"]


def slides(port, rest):
    """make slides of the lessons, in build/slides (ARGS=03 for one, ARGS=seminar, ARGS=--check looks at each slide)"""
    prepare()
    return run(str(ROOT / "tools" / "slides.py"), *rest)


def benchmark(port, rest):
    """measure attention, decoding, grading, scenes, LAVT and CrossViT (beside timm's if `make parity` was run)"""
    prepare()
    status = 0
    for script in sorted(ROOT.glob("benchmarks/*.py")):
        beside = script.name == "crossvit.py" and (PARITY / STAMP.name).exists()
        status = max(status, run(str(script), *rest, venv=PARITY if beside else VENV, PYTHONPATH=str(ROOT)))
    return status


def fuzz(port, rest):
    """give every reader 10,000 damaged and hostile files and store the record (ARGS="--inputs 500" chooses)"""
    prepare()
    return run(str(ROOT / "tools" / "fuzz.py"), *(rest or ["--save"]))


def gpu(port, rest):
    """run the GPU tests and measure this machine's CUDA card (10 minutes; ARGS="training --minutes 3" chooses)"""
    prepare()
    return run("tools/gpu.py", *rest)


def kills(port, rest):
    """kill training, reproduce, evaluate and convert-refer 100 times at random, and continue them"""
    prepare()
    return run("tools/kills.py", *rest)


def grade(port, rest):
    """grade homework (ARGS="run hw1 ../course"; docs/homework_lecturers.md says how)"""
    prepare()
    return run("-m", "xattn_edu", "grade", *(rest or ["--help"]))


def clean(port, rest):
    """remove .venv, .venv-parity, the site, the slides and all caches"""
    caches = (".venv", ".venv-parity", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", "*.egg-info")
    nested = ("__pycache__", ".ipynb_checkpoints")
    built = ("build/site", "build/slides")
    found = [path for name in (*caches, *built) for path in ROOT.glob(name)]
    for path in found + [path for name in nested for path in ROOT.rglob(name)]:
        shutil.rmtree(str(path), ignore_errors=True)
    return 0


def help(port, rest):
    """show this list"""
    for target in TARGETS.values():
        print(f"make {target.__name__:<11}{target.__doc__}")
    return 0


CHECKS = (test, parity, portable, fuzz, kills, gpu, benchmark)
EVERYTHING = (lab, *CHECKS, grade, format, notebooks, site, slides, lock, clean, help)
TARGETS = {target.__name__: target for target in EVERYTHING}


def main(arguments):
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, usage="course.py TARGET [--port N] [ARGS]")
    parser.add_argument("target", choices=TARGETS, nargs="?", default="help")
    parser.add_argument("--port", type=int)
    parser.error = fail
    try:
        check_python(sys.version_info[:2])
        options, rest = parser.parse_known_args(arguments)
        return TARGETS[options.target](options.port, rest)
    except Stop as stop:
        line = str(stop)
    except OSError as error:
        line = f"{error.strerror}: {error.filename}"
    except KeyboardInterrupt:
        line = "stopped; give the same command again to go on"
    print(line, file=sys.stderr)
    return 1


def fail(line):
    raise Stop(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
