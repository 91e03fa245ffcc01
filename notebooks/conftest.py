"""pytest --nbval compares a notebook's stored outputs with new ones as text and numbers, so that any processor passes.

Words, marks and lines must be equal, and each number within one unit of its last printed digit: 0.839 is 0.840, and
-0.0000 is 0.0000. Of two numbers the finer print gives the unit (1. is 0.9999), and in square brackets the finest
number gives it for all, because NumPy prints 0.10 beside 0.11 as 0.1. A number without decimals, exponent or percent
sign is a count and must be equal. NaN and infinity are words. How many blanks stand side by side does not matter.

A cell that prints the results of a training may have a tag such as `numbers-within-0.05`: there, decimals and
percentages may differ by 0.05 (as printed: 0.5 % and 0.45 %), words and counts not at all.

Notebooks run first and count as slow: they take longest. Files with slow tests follow, and the short files then keep
both workers busy to the end.

All outputs must be there, in order. A figure counts by its presence and size, not by its pixels. So does a picture that
answers, a widget with a PNG: its text has its name and, for each part of its data, numbers and a checksum, which are
compared; its model's id is random. Other widgets, such as progress bars, are left out, as they are in the stored
outputs. No wait is shorter than a cell's time limit.
"""

import json
import re
import time
from decimal import Decimal
from itertools import zip_longest
from queue import Empty
from typing import NamedTuple

import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+(?:_\d{3})*)"
NUMBER = rf"[-+]?{DIGITS}(?:\.\d*)?(?:e[-+]?\d+)?"
TOKEN = re.compile(rf"\d+(?:\.\d+){{2,}}|[^\W\d]\w*|(?P<number>{NUMBER})|\S")  # 2.13.0 is a word
WIDER = "numbers-within-"
GRACE = 60  # seconds that an interrupted cell has to end
WIDGET = "application/vnd.jupyter.widget-view+json"


class Number(NamedTuple):
    value: Decimal
    scientific: bool
    percent: bool  # a percent sign follows
    measured: bool  # printed with decimals, an exponent or a percent sign; otherwise a count
    array: int  # which square brackets of the text it is in, 0 for none

    @property
    def place(self):
        """The exponent of its last printed digit: -2 for 0.10 and for 3e-02."""
        return self.value.as_tuple().exponent


def tokens(text):
    """The words, marks and numbers of each line."""
    lines, depth, array = [], 0, 0
    for line in text.rstrip().split("\n"):
        lines.append([])
        for match in TOKEN.finditer(line):
            token = match[0]
            depth = max(depth + (token == "[") - (token == "]"), 0)
            array += token == "[" and depth == 1
            if match["number"]:
                percent = line[match.end() :].lstrip().startswith("%")
                measured = "." in token or "e" in token or percent
                value = Decimal(re.sub("[,_]", "", token))
                token = Number(value, "e" in token, percent, measured, array if depth else 0)
            lines[-1].append(token)
    return lines


def difference(stored, new, within=Decimal(0)):
    """The first line that differs, in words; None when the texts are equal."""
    both = tokens(stored), tokens(new)
    finest = {}
    for number in (token for lines in both for line in lines for token in line if isinstance(token, Number)):
        if number.array and not number.scientific:
            finest[number.array] = min(finest.get(number.array, 0), number.place)

    def same(one, other):
        if not (isinstance(one, Number) and isinstance(other, Number)):
            return one == other
        scientific = one.scientific or other.scientific
        place = min(one.place, other.place, 0 if scientific else finest.get(one.array, 0))
        unit = Decimal(1).scaleb(place) if place or scientific or one.percent and other.percent else 0
        return abs(one.value - other.value) <= max(unit, within if one.measured and other.measured else 0)

    for number, (one, other) in enumerate(zip_longest(*both), 1):
        if one is None or other is None or len(one) != len(other) or not all(map(same, one, other)):
            shown = [(text.rstrip().split("\n") + number * ["(no line)"])[number - 1] for text in (stored, new)]
            return f"line {number}\n  stored: {shown[0]}\n  new:    {shown[1]}"
    return None


def parts(outputs):
    """What is compared of a cell's outputs: (kind, text) each, where an image has no text."""
    found = []
    for output in outputs:
        if output["output_type"] == "stream":
            found.append((output["name"], output["text"]))
        elif output["output_type"] == "error":
            found.append(("error", f"{output['ename']}: {output['evalue']}"))
        elif WIDGET not in output["data"] or "image/png" in output["data"]:
            for kind, value in sorted(output["data"].items()):
                text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
                found.append((kind, "" if kind.startswith("image/") or kind == WIDGET else text))
    return found


class Cell(IPyNbCell):
    @property
    def within(self):
        """The widest tolerance of its tags, 0 without one."""
        wider = [tag for tag in self.cell.metadata.get("tags", []) if tag.startswith(WIDER)]
        for tag in wider:
            if not re.fullmatch(WIDER + r"\d+(\.\d+)?", tag):
                self.raise_cell_error(f"the tag {tag} states no number: write it as in {WIDER}0.05")
        return max((Decimal(tag.removeprefix(WIDER)) for tag in wider), default=Decimal(0))

    @property
    def output_timeout(self):
        """How long nbval waits for each message: it sets 5 seconds, here it is the cell's time limit."""
        return GRACE if self.parent.timed_out else self.config.option.nbval_cell_timeout

    @output_timeout.setter
    def output_timeout(self, seconds):
        pass

    def compare_outputs(self, test, ref, skip_compare=None):
        stored, new = parts(ref), parts(test)
        kinds = [", ".join(kind for kind, _ in found) or "nothing" for found in (stored, new)]
        if kinds[0] != kinds[1]:
            self.comparison_traceback = [f"outputs\n  stored: {kinds[0]}\n  new:    {kinds[1]}"]
        else:
            found = [difference(one, other, self.within) for (_, one), (_, other) in zip(stored, new)]
            self.comparison_traceback = [f"{kind}, {line}" for (kind, _), line in zip(stored, found) if line]
        return not self.comparison_traceback


class Kernel(RunningKernel):
    def __init__(self, name, cwd, limit):
        self.limit = limit
        super().__init__(name, cwd, startup_timeout=limit)

    def _ensure_iopub_up(self):
        """Ask again until the kernel's output arrives: what it sends before we are connected is lost."""
        deadline = time.monotonic() + self.limit
        while time.monotonic() < deadline:
            try:
                return self.await_idle(self.kc.kernel_info(), timeout=1)
            except Empty:
                continue
        raise RuntimeError(f"no output from the kernel in {self.limit} seconds")


class Notebook(IPyNbFile):
    def collect(self):
        for cell in super().collect():
            yield Cell.from_parent(self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options)

    def setup(self):
        option = self.config.option
        name = CURRENT_ENV_KERNEL_NAME if option.nbval_current_env else option.nbval_kernel_name or "python3"
        limit = max(option.nbval_cell_timeout, option.nbval_kernel_startup_timeout)
        self.kernel = Kernel(name, str(self.path.parent), limit)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    collectors = yield
    return [Notebook.from_parent(parent, path=file_path) if type(c) is IPyNbFile else c for c in collectors]


def pytest_collection_modifyitems(items):
    for item in items:
        if isinstance(item, Cell):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not isinstance(item, Cell), item.path not in slow))
