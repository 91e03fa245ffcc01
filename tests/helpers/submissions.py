"""A small set of homework, and submissions of every kind with the points that they must get."""

import copy
import json
import os

import torch

from xattn_edu.exercises.checking import compare
from xattn_edu.grading import sheets
from xattn_edu.grading.confine import Limits
from xattn_edu.grading.judging import Assignment
from xattn_edu.homework.exercise import Exercise


def cell(kind, source, name=None, **marks):
    made = {"cell_type": kind, "source": source.splitlines(keepends=True), "metadata": {}}
    if name:
        marks = {"grade_id": name, "schema_version": 3, "grade": False, "solution": False, "locked": True} | marks
        made["metadata"] = {"nbgrader": marks}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def answer(name, head, body):
    lines = [head, f"    {sheets.BEGIN}", *(f"    {line}" for line in body.splitlines()), f"    {sheets.END}"]
    return cell("code", "\n".join(lines), name, solution=True, locked=False)


SOURCE = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"language": "python", "name": "python3"}},
    "cells": [
        cell("markdown", "# A set"),
        cell("code", "import torch\n%matplotlib inline", "imports"),
        answer("first", "def double(x):", "return 2 * x"),
        cell("code", "homework.check('double', double)", "double-check", grade=True, points=3),
        answer("second", "def shares(x):", "return x.softmax(-1)"),
        cell("code", "homework.check('shares', shares)", "shares-check", grade=True, points=7),
        cell("markdown", "Because.", "why", grade=True, solution=True, locked=False, points=5),
    ],
}


def check_double(given, seed):
    x = torch.randn(3 + seed % 5, 4, generator=torch.Generator().manual_seed(seed))
    compare(given(x.clone()), 2 * x, "here")
    return "right"


def check_shares(given, seed):
    x = torch.randn(2, 3 + seed % 7, generator=torch.Generator().manual_seed(seed))
    compare(given(x.clone()), x.softmax(-1), "here", {"The softmax is over the last axis.": x.softmax(0)})
    return "right"


EXERCISES = {
    "double": Exercise(check_double, "double", 3, section="01, 1.1"),
    "shares": Exercise(check_shares, "shares", 7, section="01, 1.2"),
}
WRITTEN = {"why": 5.0}
LIMITS = Limits(seconds=90, memory=3 * 2**30, processes=40)
ASSIGNMENT = Assignment("a", SOURCE, EXERCISES, LIMITS)


def submission(double="return 2 * x", shares="return x.softmax(-1)", more=()):
    notebook = sheets.released(SOURCE)
    for name, function, body in (("first", "double", double), ("second", "shares", shares)):
        changed(notebook, name, f"def {function}(x):\n" + "".join(f"    {line}\n" for line in body.splitlines()))
    notebook["cells"][2:2] = [cell("code", text) for text in more]
    return notebook


def without(notebook, name):
    notebook["cells"] = [cell for cell in notebook["cells"] if sheets.name_of(cell) != name]
    return notebook


def twice(notebook, name):
    notebook["cells"] += [copy.deepcopy(dict(sheets.named(notebook))[name])]
    return notebook


def changed(notebook, name, text):
    dict(sheets.named(notebook))[name]["source"] = text
    return notebook


def hand_in(course, submissions):
    """Put submissions, {student: notebook, bytes of a file, or several by file name}, where `run` reads them."""
    for student, notebooks in submissions.items():
        folder = course / "submitted" / "a" / student
        folder.mkdir(parents=True, exist_ok=True)
        several = isinstance(notebooks, dict) and "cells" not in notebooks
        for number, (file, notebook) in enumerate((notebooks if several else {"a.ipynb": notebooks}).items()):
            payload = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
            (folder / file).write_bytes(payload)
            os.utime(folder / file, (1e9 + number, 1e9 + number))


OF_ANOTHER_SET = {"cells": [cell("code", "1"), cell("code", "x = 1", "third", solution=True)], "metadata": {}}
# These two print the numbers that their processes have outside their namespace.
FORK_BOMB = """import os, time
try:
    while True:
        if os.fork() == 0:
            os.write(2, os.readlink('/proc/self').encode() + b' ')
            time.sleep(1000)
except OSError:
    return 2 * x"""
THREAD = """threading.Thread(target=print).start()
return x.softmax(-1)"""
FORGERY = """import os
for n in range(3, 20):
    try:
        os.write(n, b'\\x0f\\0\\0\\0{"value": true} ')
    except OSError:
        pass
return 0 * x"""
SESSION_OF_ITS_OWN = """import os, time
if os.fork() == 0:
    os.setsid()
    os.write(2, os.readlink('/proc/self').encode() + b' ')
    time.sleep(1000)
return 2 * x"""
# What is read of other processes than the student's own (two, in one folder): environments, memories, files, folders.
SPY = """import os
found = []
for n in os.listdir('/proc'):
    if n.isdigit():
        try:
            if os.path.samefile(f'/proc/{n}/cwd', '.'):
                continue
        except OSError:
            pass
        for what in ('environ', 'mem', 'maps'):
            try:
                with open(f'/proc/{n}/{what}', 'rb') as file:
                    if what == 'mem' or file.read(1):
                        found.append(what)
            except OSError:
                pass
        for what in ('cwd', 'exe', 'fd/0'):
            try:
                found.append(os.readlink(f'/proc/{n}/{what}'))
            except OSError:
                pass
raise ValueError(f'found {sorted(set(found))}')"""

CASES = {  # submission: points, words of a remark or a verdict
    "right": (submission(), 10, ""),
    "empty": (sheets.released(SOURCE), 0, ""),
    "half": (submission(shares="return x.softmax(0)"), 3, "softmax is over the last axis"),
    "only the shown case": (
        submission(double="return 2 * x if len(x) == 3 else x"),
        7,
        "right in the case of the notebook, but not in others",
    ),
    "ends in a hidden case": (
        submission(double="import os\nreturn 2 * x if len(x) == 3 else os._exit(0)"),
        7,
        "but in others it took too long, or its process ended",
    ),
    "endless loop": (submission("while True: pass"), 7, "did not end within 10 seconds"),
    "import error": (submission(more=["import no_such_module"]), 10, "ModuleNotFoundError: No module named"),
    "import error in an answer": (submission("import no_such_module"), 7, "ModuleNotFoundError: No module named"),
    "syntax error in one cell": (changed(submission(), "first", "def double(x:\n"), 7, "SyntaxError"),
    "tampered": (changed(submission("return x"), "double-check", "print('ok')"), 7, "is locked; it was changed"),
    "deleted check": (without(submission(), "double-check"), 10, "double-check was missing"),
    "deleted answer": (without(submission(), "first"), 7, "first was missing"),
    "duplicated": (twice(submission(), "second"), 10, "there 2 times"),
    "rebinds allclose": (
        submission("import numpy as np\nnp.allclose = torch.allclose = lambda *a, **k: True\nreturn 0 * x"),
        7,
        "numbers",
    ),
    "8 GB of memory": (submission("return bytearray(8 << 30)"), 7, "MemoryError"),
    "a gigabyte of memory": (submission("bytearray(1 << 30)\nreturn 2 * x"), 10, ""),
    "a gigabyte of output": (
        submission("import os\nfor n in range(1 << 10):\n    os.write(1, bytes(1 << 20))\nreturn 2 * x"),
        10,
        "",
    ),
    "prints a lot": (submission("print('x' * 2**29)\nreturn 2 * x"), 10, ""),
    "ends its process": (submission("import os\nos._exit(3)"), 7, "ended by itself"),
    "ends it in an own cell": (submission(more=["import os\nos._exit(3)"]), 10, "your own cells were left out"),
    "system exit": (submission("raise SystemExit"), 7, "SystemExit"),
    "forges a reply": (submission(FORGERY), 7, ""),
    "fork bomb": (submission(FORK_BOMB), 10, ""),
    "an answer that takes all processes": (
        submission(FORK_BOMB.replace("return 2 * x", "raise"), "import threading\n" + THREAD),
        7,
        "BlockingIOError",
    ),
    "a session of its own": (submission(SESSION_OF_ITS_OWN), 10, ""),
    "a network": (  # where there is one, the connection is refused, and the answer is right
        submission(
            "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 80), 1)\n"
            "except ConnectionRefusedError:\n    return 2 * x"
        ),
        7,
        "stopped with",
    ),
    "lists the course": (submission(f"import os\nreturn os.listdir({os.getcwd()!r})"), 7, "PermissionError"),
    "imports the checks": (
        submission("from xattn_edu.homework import hw1\nreturn hw1"),
        7,
        "ImportError",
    ),
    "imports the catalogue": (
        submission("import xattn_edu.homework.mistakes.hw1\nreturn 2 * x"),
        7,
        "is not a package",
    ),
    "reads the checks": (
        submission("import xattn_edu\nreturn open(xattn_edu.__path__[0] + '/homework/hw1.py').read()"),
        7,
        "PermissionError",
    ),
    "reads the environment": (submission("import os\nraise ValueError(sorted(os.environ))"), 7, "ValueError"),
    "looks into processes": (submission(SPY), 7, "found []"),
    "deletes its folder": (submission("import shutil\nshutil.rmtree('.', True)\nreturn 2 * x"), 10, ""),
    "prints to nowhere": (submission("import os\nprint(x, file=open(os.devnull, 'w'))\nreturn 2 * x"), 10, ""),
    "half a character": (changed(submission("raise ValueError(chr(0xD800))"), "why", chr(0xD800)), 7, "ValueError"),
    "a stub that another answer calls": (submission("return shares(x) * x", "raise NotImplementedError"), 0, ""),
    "two files": ({"old.ipynb": submission(), "new.ipynb": submission("return x")}, 7, "new.ipynb, the newest of this"),
    "a draft of another set": ({"a.ipynb": submission(), "b.ipynb": OF_ANOTHER_SET}, 10, "a.ipynb, the newest of this"),
    "not JSON": (b"{", 0, "not JSON"),
    "200 MB": (b" " * (200 << 20), 0, "more than 20 MB"),
    "an empty file": (b"", 0, "the file is empty"),
    "no file": ({}, 0, "nothing was handed in"),
    "no cells": (b"[]", 0, "no list of cells"),
    "of another kernel": ({"cells": [], "metadata": {"kernelspec": {"language": "R"}}}, 0, "is in R"),
    "of another set": (OF_ANOTHER_SET, 0, "another set"),
}
