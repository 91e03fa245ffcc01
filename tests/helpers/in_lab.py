"""The course's JupyterLab, on a folder of notebooks, for a test in a browser."""

import contextlib
import importlib.util
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from helpers.in_chromium import PATIENCE

ROOT = Path(__file__).parents[2]
SHOW = "async index => { await window.jupyterapp.shell.currentWidget.content.scrollToItem(index, 'start'); }"
READY = """const app = window.jupyterapp;
    await app.restored;
    const panel = app.shell.currentWidget;
    await panel.revealed;
    await panel.sessionContext.ready;"""


def tool(name: str) -> ModuleType:
    """A file of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def jupyterlab(folder: Path, home: Path) -> Iterator[Callable[[str], str]]:
    """JupyterLab as `make lab` starts it, on `folder`; gives the address of a notebook by its name."""
    course = tool("course")
    course.PYTHON = Path(sys.executable)
    port = course.free_port()
    options = ("--no-browser", "--LabApp.expose_app_in_browser=True")
    command, variables = course.jupyterlab(port, "secret", folder, home, options)
    server = subprocess.Popen(command, env=variables | course.REPRODUCIBLE | {"PYTHONPATH": str(ROOT)})
    try:
        _wait_for(server, f"http://127.0.0.1:{port}/api")
        yield lambda name: f"http://127.0.0.1:{port}/lab/tree/{name}?token=secret&reset"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def _wait_for(server: subprocess.Popen, address: str) -> None:
    end = time.monotonic() + 10 * PATIENCE
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=30).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")
