"""Figures of notebooks are stored small where nobody could tell, and otherwise as they were."""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def figures():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import figures
    finally:
        sys.path.pop(0)
    return figures


def png(pixels, **settings):
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "PNG", **settings)
    return stored.getvalue()


def pixels_of(stored):
    return np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"), dtype=int)


def chart(transparent=False):
    """A few colours with soft edges, four channels as matplotlib stores them."""
    x, y = np.meshgrid(np.arange(300), np.arange(200))
    curve = np.clip(1.5 - abs(y - 100 - 60 * np.sin(x / 30)), 0, 1)[..., None]
    colour = curve * [0, 114, 178, 255] + (1 - curve) * [255, 255, 255, 0 if transparent else 255]
    return colour.astype(np.uint8)


@pytest.mark.parametrize("transparent", [False, True])
def test_a_chart_gets_smaller_and_looks_the_same(figures, transparent):
    pixels = chart(transparent)
    before = png(pixels)
    after = figures.with_palette(before)
    assert len(after) < 0.8 * len(before) and Image.open(io.BytesIO(after)).mode == "P"
    opacity = pixels[..., 3:] / 255
    shown = pixels[..., :3] * opacity + 255 * (1 - opacity)  # on a white page
    assert np.percentile(abs(pixels_of(after) - shown), 99.9) <= figures.VISIBLE
    assert figures.with_palette(after) is after


def test_a_picture_of_many_colours_is_kept(figures):
    many = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    before = png(many)
    assert figures.with_palette(before) is before


def test_a_notebook_keeps_everything_else(figures, tmp_path):
    output = {"data": {"image/png": base64.b64encode(png(chart())).decode(), "text/plain": ["<Figure>"]}}
    notebook = {"cells": [{"cell_type": "code", "outputs": [output, {"text": ["1\n"]}], "source": ["é"]}]}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook))
    assert figures.main([str(path)]) == 0
    after = json.loads(path.read_text(encoding="utf-8"))
    smaller = after["cells"][0]["outputs"][0]["data"].pop("image/png")
    before = notebook["cells"][0]["outputs"][0]["data"].pop("image/png")
    assert after == notebook and len(smaller) < 0.8 * len(before)
    assert "é" in path.read_text(encoding="utf-8")


def test_the_stored_figures_are_small(figures):
    """What `make notebooks` stores: running it on the notebooks again changes nothing."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                if stored := output.get("data", {}).get("image/png"):
                    stored = base64.b64decode("".join(stored))
                    if len(stored) > 60_000:  # the others cost little either way
                        assert figures.with_palette(stored) is stored, f"{path.name}: python tools/figures.py {path}"
