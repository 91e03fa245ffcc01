"""The interactive pictures of a stored notebook, alive in a page: its widgets' state is module and data of each.

A page of the disk may not import modules, so a picture's module becomes a script that all pages share. In place of the
kernel it gets the same lines as `Picture.html`. Without JavaScript a reader sees the PNG.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html import escape
from typing import Any

from xattn_edu.interactive.picture import EXPORT, SHIM, WIDGET

STATE = "application/vnd.jupyter.widget-state+json"
# `picture` is what the module exports. Scripts of a page run in their order, so it is there when the place is filled.
MODULE = '(() => {{\n"use strict";\n{module}\n(window.pictures ??= {{}})["{key}"] = picture;\n}})();\n'
PLACE = """\
<div id="{place}" class="picture" role="group" aria-label="{title}"></div>
<noscript><img alt="{title}" src="{files}/{png}"></noscript>
<script type="application/json" id="{place}-data">{data}</script>
<script src="{files}/{script}"></script>
<script type="module">
const picture = window.pictures["{key}"];
{shim}</script>
"""

Put = Callable[[str, bytes], None]


def alive(notebook: dict[str, Any], put: Put, files: str) -> dict[str, Any]:
    """The notebook with each picture as HTML. `put` stores a file by its name; `files` is where a page finds it."""
    models = notebook["metadata"].pop("widgets", {}).get(STATE, {}).get("state", {})
    for number, cell in enumerate(notebook["cells"]):
        for at, output in enumerate(cell.get("outputs", ())):
            data = output.get("data", {})
            model = models.get(data.get(WIDGET, {}).get("model_id"), {}).get("state", {})
            if "_esm" in model:
                output["data"] = {"text/html": page(data, model, f"picture-{number}-{at}", put, files)}
            else:
                data.pop(WIDGET, None)  # what has no state cannot answer: its PNG stays
    return notebook


def page(data: dict[str, Any], model: dict[str, Any], place: str, put: Put, files: str) -> str:
    """The HTML of one picture, from its output and its model's state. Stores its script and its PNG."""
    if model["_esm"].count(EXPORT) != 1:
        raise ValueError(f"the module of a picture must have one line {EXPORT!r}")
    module = model["_esm"].replace(EXPORT, "const picture = {")
    name, title = re.match(r"<Picture (\w+): (.*)>", "".join(data["text/plain"])).groups()
    key = f"{name}-{hashlib.sha256(module.encode()).hexdigest()[:8]}"
    png = base64.b64decode("".join(data["image/png"]))
    still = f"{name}-{hashlib.sha256(png).hexdigest()[:8]}.png"
    put(f"{key}.js", MODULE.format(module=module, key=key).encode())
    put(still, png)
    # Nothing in the data may end the element that holds them.
    stored = json.dumps(model["data"], ensure_ascii=False).replace("<", "\\u003c")
    shim = SHIM.replace("ID", place)
    words = {"title": escape(title), "place": place, "data": stored, "shim": shim, "files": files}
    return PLACE.format(**words, png=still, script=f"{key}.js", key=key)
