"""A picture that answers: one JavaScript module and its data, shown in three places.

    JupyterLab      `anywidget` runs the module; with a kernel, a picture can also ask for a reader's own input
    any page        `html` and `write_page` put module and data into the page, with ten lines in place of the kernel
    everywhere else the PNG: on GitHub, in a notebook that is not trusted, and where anywidget is not installed

The module is `pictures/NAME.js`, behind `pictures/common.js`. It has one `export default { render({ model, el }) }`,
the interface of anywidget. It loads nothing, and everything that it shows is in `model.get("data")`.
"""

import base64
import io
import json
import warnings
import zlib
from collections.abc import Callable
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from xattn_edu.files import write_atomically
from xattn_edu.plots import style

FOLDER = Path(__file__).parent / "pictures"
LARGEST = 100_000  # bytes of JSON
WIDGET = "application/vnd.jupyter.widget-view+json"
COLOURS = {
    "query": style.QUERY,
    "key": style.KEY,
    "value": style.VALUE,
    "output": style.OUTPUT,
    "orange": style.ORANGE,
    "sky": style.SKY,
    "grey": style.GREY,
}
EXPORT = "export default {"

# In place of a kernel: `model` as the module knows it, for a page.
SHIM = """\
const values = { data: JSON.parse(document.getElementById("ID-data").textContent), error: "", page: true };
const listeners = {};
const model = {
  get: (name) => values[name],
  set(name, value) { values[name] = value; (listeners["change:" + name] ?? []).forEach((listener) => listener()); },
  on(event, listener) { (listeners[event] ??= []).push(listener); },
  off(event, listener) { listeners[event] = (listeners[event] ?? []).filter((other) => other !== listener); },
  save_changes() {},
};
picture.render({ model, el: document.getElementById("ID") });
"""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>:root {{ color-scheme: light dark; }} body {{ margin: 1em; font-family: system-ui, sans-serif; }}</style>
</head>
<body>
<h1>{title}</h1>
{picture}
</body>
</html>
"""


class Picture:
    """One picture: its module, its data, and a Matplotlib figure of the same data.

    The last line of a cell shows it. `data` may hold NumPy arrays, which travel as bytes (see `encoded`).

    Args:
        name: of the module, `pictures/NAME.js`.
        title: what the picture is, for a page's heading and for a screen reader.
        data: strings, numbers, lists and dicts of them, and arrays; 100 kB of JSON at most. `colours` are added.
        draw: makes the figure from `data`.
        answer: with a kernel, makes other `data` from what the reader typed (a dict). Its ValueError is shown.

    Raises FileNotFoundError if there is no such module, ValueError for too much data, TypeError for other types.
    """

    def __init__(
        self,
        name: str,
        title: str,
        data: dict[str, Any],
        draw: Callable[[dict[str, Any]], Figure],
        answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ):
        path = FOLDER / f"{name}.js"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.js") if file.stem != "common"))
            raise FileNotFoundError(f"there is no picture {name!r}: {path.name} is missing; there are {known}")
        self.name, self.title, self.data, self._draw, self._answer = name, title, data, draw, answer
        self.module = f"{(FOLDER / 'common.js').read_text('utf-8')}\n{path.read_text('utf-8')}"
        self.encoded = self._encode(data)

    def _encode(self, data: dict[str, Any]) -> dict[str, Any]:
        encoding = encoded(data | {"colours": COLOURS, "alive": self._answer is not None})
        if (size := len(json.dumps(encoding))) > LARGEST:
            raise ValueError(
                f"the data of {self.name} are {size:,} bytes, {LARGEST:,} at most: round the numbers, or give arrays "
                "as float16 or uint8"
            )
        return encoding

    @cached_property
    def png(self) -> bytes:
        """The figure, as a PNG of 256 colours."""
        from PIL import Image

        with plt.rc_context(style.STYLE):
            figure = self._draw(self.data)
        stored = io.BytesIO()
        figure.savefig(stored, format="png", dpi=100)
        plt.close(figure)
        smaller = io.BytesIO()
        Image.open(stored).convert("RGB").quantize(256).save(smaller, "PNG", optimize=True)
        return smaller.getvalue()

    @cached_property
    def widget(self) -> Any:
        """The anywidget, one for all cells that show this picture. Raises ModuleNotFoundError without anywidget."""
        import anywidget
        import traitlets

        class PictureWidget(anywidget.AnyWidget):
            _esm = self.module
            data = traitlets.Dict(self.encoded).tag(sync=True)
            request = traitlets.Dict().tag(sync=True)
            error = traitlets.Unicode().tag(sync=True)

        widget = PictureWidget()
        widget.observe(lambda change: self._respond(widget, change["new"]), names="request")
        return widget

    def _respond(self, widget: Any, request: dict[str, Any]) -> None:
        """Give the module the data that the reader asked for, or the words of what is wrong with the request."""
        if self._answer is None or not request:
            return
        try:
            widget.data = self._encode(self._answer(request)) | {"asked": request["number"]}
            widget.error = ""
        except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
            widget.error = str(error).splitlines()[0]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": self.summary(), "image/png": base64.b64encode(self.png).decode()}
        try:
            bundle[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        except ModuleNotFoundError:
            warnings.warn("anywidget is not installed, so this is a still picture: pip install anywidget", stacklevel=2)
        return bundle

    def summary(self) -> str:
        """Name and data in words that are the same in every run: the tests of the notebooks compare them.

        Each part of the data has a line: how many numbers it has and the largest size among them; as shares of that
        their mean, deviation, and mean weighted with cos(place); and the checksum of its texts. What rounding changes
        in these stays within the last digit.
        """
        lines = [f"<Picture {self.name}: {self.title}>"]
        for key, part in self.data.items():
            values: list[float] = []
            texts: list[str] = []
            _flatten(part, values, texts)
            line = f"{key}:"
            if values:
                array = np.array(values)
                largest = abs(array).max()
                shares = array / (largest or 1)
                waved = (shares * np.cos(np.arange(len(array)))).mean()
                line += f" {len(array)} numbers up to {largest:.2e}, as shares of it {shares.mean():.3f}"
                line += f" {shares.std():.3f} {waved:.3f}"
            if texts:
                line += f" {len(texts)} texts #{zlib.crc32(chr(0).join(texts).encode()):08x}"
            lines.append(line)
        return "\n".join(lines)

    def html(self) -> str:
        """The picture for a page: without JavaScript its PNG. Loads nothing; several can stand in one page."""
        return part_of_page(self.title, self.module, self.encoded, base64.b64encode(self.png).decode())

    def write_page(self, path: str | Path) -> None:
        """Write one file that a browser opens without a server and without the network."""
        page = PAGE.format(title=escape(self.title), picture=self.html())
        write_atomically(Path(path), page.encode())


def part_of_page(title: str, module: str, data: dict[str, Any], png: str) -> str:
    """A module and its encoded data as HTML; `png`, in base64, stands there until the module runs.

    Raises ValueError for a module that does not export exactly once.
    """
    text = json.dumps(data, sort_keys=True)  # a stored notebook sorts them too
    place = f"xattn-{zlib.crc32((module + text).encode()):08x}"
    if module.count(EXPORT) != 1:
        raise ValueError(f"the module of {title!r} must have one line {EXPORT!r}, it has {module.count(EXPORT)}")
    script = module.replace(EXPORT, "const picture = {") + SHIM.replace("ID", place)
    return (
        f'<div id="{place}" role="group" aria-label="{escape(title)}">'
        f'<img alt="{escape(title)}" style="max-width:100%" src="data:image/png;base64,{png}"></div>\n'
        f'<script type="application/json" id="{place}-data">{_harmless(text)}</script>\n'
        f'<script type="module">\n{script}</script>'
    )


def stored_html(output: dict[str, Any], models: dict[str, Any]) -> str:
    """A picture in a stored notebook as HTML: `output` is the data of its output, `models` those in the metadata.

    Raises KeyError if the notebook does not hold the picture's model.
    """
    state = models[output[WIDGET]["model_id"]]["state"]
    title = "".join(output["text/plain"]).splitlines()[0].partition(": ")[2].removesuffix(">")
    return part_of_page(title, state["_esm"], state["data"], "".join(output["image/png"]).strip())


def encoded(data: Any) -> Any:
    """The data as JSON holds them: an array becomes its type, shape and bytes (little-endian) in base64.

    uint8, float16 and float32 are kept, other floats become float32. Raises TypeError for any other type.
    """
    if isinstance(data, dict):
        return {str(key): encoded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [encoded(value) for value in data]
    if isinstance(data, Mask):
        return data.runs
    if isinstance(data, Scaled):
        return encoded(data.bytes) | {"low": data.low, "high": data.high}
    if isinstance(data, np.ndarray):
        kept = data if data.dtype in (np.uint8, np.float16, np.float32) else data.astype(np.float32)
        text = base64.b64encode(kept.astype(kept.dtype.newbyteorder("<")).tobytes()).decode()
        return {"type": kept.dtype.name, "shape": list(kept.shape), "base64": text}
    if data is None or isinstance(data, (str, bool, int, float)):
        return data
    raise TypeError(
        f"the data of a picture are JSON and arrays, given {type(data).__name__}: write .numpy() or .item()"
    )


class Scaled:
    """Numbers in 256 steps from the lowest to the highest: a byte each. `values` are what JavaScript reads."""

    def __init__(self, array: Any):
        numbers = np.asarray(array, dtype=np.float64)
        self.low, self.high = float(f"{numbers.min():.5g}"), float(f"{numbers.max():.5g}")
        width = (self.high - self.low) or 1.0
        self.bytes = np.rint((numbers - self.low) / width * 255).clip(0, 255).astype(np.uint8)

    @property
    def values(self) -> np.ndarray:
        return (self.low + (self.high - self.low) * self.bytes / 255).astype(np.float32)


class Mask:
    """Pixels (row, column) that are in or out, as the lengths of their runs: the first is of zeros and may be 0."""

    def __init__(self, array: Any):
        self.array = np.asarray(array, dtype=bool)

    @property
    def runs(self) -> list[int]:
        ends = np.flatnonzero(np.diff(np.concatenate([[False], self.array.ravel()]).astype(int)))
        return np.diff([0, *ends, self.array.size]).tolist()


def _flatten(part: Any, values: list[float], texts: list[str]) -> None:
    """Collect the numbers and the texts of a part of the data, in order."""
    if isinstance(part, dict):
        for key, value in part.items():
            texts.append(str(key))
            _flatten(value, values, texts)
    elif isinstance(part, (list, tuple)):
        for value in part:
            _flatten(value, values, texts)
    elif isinstance(part, Scaled):
        values.extend(part.values.ravel().tolist())
    elif isinstance(part, Mask):  # its size: one pixel more or less, as processors differ, is no other mask
        values.append(float(part.array.mean()))
    elif isinstance(part, np.ndarray):
        values.extend(part.astype(float).ravel().tolist())
    elif isinstance(part, (bool, int, float)):
        values.append(float(part))
    else:
        texts.append(str(part))


def _harmless(text: str) -> str:
    """JSON inside a script element: nothing in it may end the element."""
    return text.replace("<", "\\u003c")
