"""python tools/stored.py tidy NOTEBOOK... | pictures NOTEBOOK... | trust: what stored notebooks hold, and their trust.

`tidy` is what `make notebooks` does to a notebook that it ran: it keeps the pictures that answer, drops progress bars,
and takes versions and random ids out. `pictures` puts the JavaScript of the pictures, as it is now, into notebooks
that were stored before it changed; the data stay. `trust` is what `make lab` does first. Jupyter runs no script of a
stored notebook before somebody trusts it. Signed are the notebooks whose contents git has recorded in the last commit.
"""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "xattn_edu" / "interactive" / "pictures"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def main(arguments: list[str]) -> int:
    command, *paths = arguments
    if command == "trust":
        print(trust(ROOT), flush=True)
        return 0
    if command not in (changes := {"tidy": tidy, "pictures": with_modules}):
        raise SystemExit(f"the command must be one of {', '.join(changes)}, trust; given {command!r}")
    change = changes[command]
    for path in map(Path, paths):
        notebook = change(json.loads(path.read_text(encoding="utf-8")))
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        path.write_text(text, encoding="utf-8")
    return 0


def tidy(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with its pictures, and no metadata that names versions."""
    pictures = kept_widgets(notebook)
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook["metadata"] = {"kernelspec": kernel, "language_info": {"name": "python"}} | pictures
    return notebook


def kept_widgets(notebook: dict[str, Any]) -> dict[str, Any]:
    """Keep the widgets that are pictures, so that a stored notebook answers without a kernel; drop all others.

    A picture has a PNG beside its widget. A progress bar has none, and would stand at 0 % for ever. The ids, which are
    random, become checksums of the cell's id and a number. Returns what belongs into the notebook's metadata.
    """
    models = notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    ids: dict[str, str] = {}  # the random id of each model that is kept, and the one that it gets
    for cell in notebook["cells"]:
        if "outputs" not in cell:
            continue
        cell["outputs"] = [output for output in cell["outputs"] if _is_kept(output.get("data", {}))]
        for data in (output["data"] for output in cell["outputs"] if VIEW in output.get("data", {})):
            waiting = [data[VIEW]["model_id"]]
            while waiting:  # a model names others, its layout for one
                model = waiting.pop()
                if model in models and model not in ids:
                    ids[model] = hashlib.sha256(f"{cell['id']} {len(ids)}".encode()).hexdigest()[:32]
                    waiting += re.findall(r"IPY_MODEL_(\w+)", json.dumps(models[model]))
            data[VIEW]["model_id"] = ids.get(data[VIEW]["model_id"], data[VIEW]["model_id"])
    if not ids:
        return {}
    text = json.dumps({name: models[model] for model, name in ids.items()})
    text = re.sub(r"IPY_MODEL_(\w+)", lambda match: "IPY_MODEL_" + ids.get(match[1], match[1]), text)
    return {"widgets": {STATE: {"state": json.loads(text), "version_major": 2, "version_minor": 0}}}


def with_modules(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with each stored picture's module as `xattn_edu.interactive.Picture` makes it now."""
    models = notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    for data in (output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", ())):
        if VIEW in data and (named := re.match(r"<Picture (\w+):", "".join(data["text/plain"]))):
            parts = [(MODULES / f"{name}.js").read_text(encoding="utf-8") for name in ("common", named[1])]
            models[data[VIEW]["model_id"]]["state"]["_esm"] = "\n".join(parts)
    return notebook


def _is_kept(data: dict[str, Any]) -> bool:
    return VIEW not in data or "image/png" in data


def trust(root: Path) -> str:
    """Sign the unchanged notebooks of a clone, and say how many those are."""
    import nbformat
    from jupyter_core.paths import jupyter_data_dir
    from nbformat.sign import NotebookNotary

    data = Path(jupyter_data_dir())  # which tools/course.py sets; at the first start it does not exist
    data.mkdir(parents=True, exist_ok=True)
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    checksums = recorded(root)
    unchanged = [path for path in paths if blob(path) == checksums.get(path.name)]
    for path in unchanged:
        NotebookNotary(data_dir=str(data)).sign(nbformat.read(path, as_version=4))
    if not unchanged:
        return "no notebook is known to git unchanged: run the cells of one to see its pictures answer"
    return f"{len(unchanged)} of {len(paths)} notebooks are as in the last commit: their pictures answer on opening"


def recorded(root: Path) -> dict[str, str]:
    """The checksum of each notebook in git's last commit, by its name; nothing without git."""
    command = ["git", "-C", str(root), "ls-tree", "HEAD", "notebooks/"]
    try:
        words = subprocess.run(command, capture_output=True).stdout.decode("utf-8", "replace")
    except OSError:  # there is no git
        return {}
    found = re.findall(r"(?m)^\d+ blob (\w+)\tnotebooks/(.*\.ipynb)$", words)
    return {name: checksum for checksum, name in found}


def blob(path: Path) -> str:
    """The checksum that git gives a file's contents. Windows' line ends count as git stores them."""
    contents = path.read_bytes().replace(b"\r\n", b"\n")
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
