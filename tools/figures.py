"""python tools/figures.py NOTEBOOK...: store figures with a palette of 256 colours where nobody could tell.

A chart then takes a third of its bytes, and the history of the repository stays small. A picture that would change
visibly, a photograph, say, is kept as it is. `make notebooks` does this to every notebook that it runs.
"""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

VISIBLE = 16  # of 255: at most one pixel in a thousand may differ by more in a channel


def main(paths: list[str]) -> int:
    for path in map(Path, paths):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "image/png" in data:
                    png = base64.b64decode("".join(data["image/png"]))
                    if (smaller := with_palette(png)) is not png:
                        data["image/png"] = base64.b64encode(smaller).decode()
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        path.write_text(text, encoding="utf-8")
    return 0


def with_palette(png: bytes) -> bytes:
    """The same picture with 256 colours, or the very same bytes if that is visible or saves less than a fifth."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    if Image.open(io.BytesIO(png)).mode == "P":
        return png
    opaque = Image.new("RGB", image.size, "white")
    opaque.paste(image, mask=image.getchannel("A"))
    methods = Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE, Image.Quantize.FASTOCTREE
    candidates = [opaque.quantize(256, method=method, dither=Image.Dither.NONE) for method in methods]
    errors = [_error(candidate, opaque) for candidate in candidates]
    stored = io.BytesIO()
    candidates[errors.index(min(errors))].save(stored, "PNG", optimize=True)
    smaller = stored.getvalue()
    return smaller if min(errors)[0] <= VISIBLE and len(smaller) < 0.8 * len(png) else png


def _error(candidate: Image.Image, image: Image.Image) -> tuple[float, float]:
    """The difference that one pixel in a thousand exceeds, and the mean one."""
    one, other = (np.asarray(picture.convert("RGB"), dtype=int) for picture in (candidate, image))
    differences = abs(one - other).max(axis=-1)
    return float(np.percentile(differences, 99.9)), float(differences.mean())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
