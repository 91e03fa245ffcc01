"""The shipped atlas is what its card says; sprites keep their shape when tinted and scaled; damage is named."""

import hashlib
import re

import numpy as np
import pytest
from PIL import Image

from xattn_edu.data.scenes import sprites as module
from xattn_edu.data.scenes.sprites import (
    ATLAS,
    CATEGORIES,
    CELL,
    COLOURS,
    EMOJI,
    OBJECTS,
    TINTS,
    resampling,
    sprites,
    stamp,
)

each_kind_of_objects = pytest.mark.parametrize("objects", OBJECTS)
CARD = ATLAS.with_name("README.md").read_text(encoding="utf-8")


def test_the_card_lists_what_is_in_the_atlas():
    cells = re.findall(r"\| ([a-z]+) (?=\| ([^|]+) \|)", CARD)
    assert {name: "".join(emoji.split()) for name, emoji in cells if name in EMOJI} == EMOJI
    count = len("".join(EMOJI.values()))
    assert f"atlas of {count} sprites" in CARD and Image.open(ATLAS).size == (6 * CELL, count // 6 * CELL)
    assert "CC BY-SA 4.0" in CARD and "OpenMoji 17.0.0" in CARD
    assert "Attribution-ShareAlike 4.0 International" in ATLAS.with_name("LICENSE").read_text(encoding="utf-8")


def test_the_checksum_is_that_of_the_atlas():
    digest, name = ATLAS.with_name("checksums.sha256").read_text(encoding="ascii").split()
    assert (digest, name) == (hashlib.sha256(ATLAS.read_bytes()).hexdigest(), "atlas.png")
    assert ATLAS.stat().st_size < 400_000


@each_kind_of_objects
def test_every_category_has_sprites_that_fill_their_boxes_and_no_two_are_alike(objects):
    kinds, seen = sprites(objects), set()
    assert len(kinds) == len(CATEGORIES[objects])
    for variants in kinds:
        for sprite in variants:
            light, alpha = sprite
            assert light.shape == alpha.shape and light.dtype == alpha.dtype == np.float32
            assert light.min() >= 0 and light.max() <= 1 and alpha.min() >= 0 and alpha.max() <= 1
            assert all(alpha.max(axis=axis)[[0, -1]].min() > 0.1 for axis in (0, 1))
            small = [resampling(length, 16) for length in alpha.shape]
            seen.add((small[0] @ (light * alpha) @ small[1].T).round(1).tobytes())
    assert len(seen) == sum(map(len, kinds))


def test_clothes_of_other_splits_are_other_photographs():
    train, test = (
        {sprite.light.tobytes() for kind in sprites("clothes", pool) for sprite in kind} for pool in (True, False)
    )
    assert len(train) == len(test) == 160 and not train & test


@each_kind_of_objects
@pytest.mark.parametrize("colour", range(8))
def test_a_stamp_paints_the_fill_in_its_colour_and_nothing_beside_the_object(objects, colour):
    for category in range(len(CATEGORIES[objects])):
        height, width = 40, 30
        paint, clear, solid = stamp(objects, True, category, 0, colour, height, width)
        assert paint.shape == clear.shape == (height, width, 3) and solid.shape == (height, width)
        assert paint.dtype == np.uint8 and clear.dtype == np.uint16 and solid.dtype == bool and solid.sum() > 200
        for old in (0, 90, 255):  # what is clear stays, what is solid hardly depends on what was there
            new = (np.full((height, width, 3), old, np.uint8) * clear >> 8) + paint
            assert new.max() <= 255 and np.abs(new[clear == 256].astype(int) - old).max(initial=0) <= 1
        assert not paint[clear[..., 0] == 256].any()
        assert clear[solid].max() <= 154 and clear[~solid].min(initial=256) >= 153
        opaque = paint[clear[..., 0] == 0].astype(float)
        fill = opaque[opaque.max(axis=1) >= np.quantile(opaque.max(axis=1), 0.7)].mean(axis=0)
        ratio = fill / TINTS[colour]
        assert ratio.max() <= 1.01 and ratio[TINTS[colour] > 100].min() > 0.5, CATEGORIES[objects][category]


def test_colours_are_far_apart():
    distances = np.linalg.norm((TINTS[:, None] - TINTS).astype(float), axis=2) + 999 * np.eye(len(COLOURS))
    assert distances.min() > 70


@pytest.mark.parametrize(("source", "target"), [(96, 96), (96, 13), (28, 70), (5, 1), (1, 4)])
def test_resampling_takes_weighted_means_and_keeps_the_middle(source, target):
    weights = resampling(source, target)
    assert weights.shape == (target, source) and weights.min() >= 0
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert weights @ np.ones(source, np.float32) == pytest.approx(1, abs=1e-5)
    assert np.allclose(weights, weights[::-1, ::-1], atol=1e-6)
    line = np.linspace(0, 1, source) if source > 1 else np.zeros(1)
    assert (np.diff(weights @ line) >= -1e-6).all()
    if source == target:
        assert np.array_equal(weights, np.eye(source))


@pytest.mark.parametrize("missing", ["atlas.png", "checksums.sha256"])
def test_a_missing_file_is_named_with_its_fix(missing, tmp_path, monkeypatch):
    copy_of_the_folder(tmp_path, monkeypatch)
    (tmp_path / missing).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"{missing} is missing: restore it with `git checkout -- datasets/openmoji"
    ):
        sprites.__wrapped__("emoji")


@pytest.mark.parametrize("name", ["atlas.png", "checksums.sha256"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"\xff" + data[1:], lambda data: b""])
def test_a_broken_file_is_named_with_its_fix(name, damage, tmp_path, monkeypatch):
    copy_of_the_folder(tmp_path, monkeypatch)
    content = (tmp_path / name).read_bytes().rstrip(b"\n")
    (tmp_path / name).write_bytes(damage(content))
    with pytest.raises(ValueError, match=r"atlas.png is not the file whose SHA-256 .* restore it with `git checkout"):
        sprites.__wrapped__("emoji")


def copy_of_the_folder(folder, monkeypatch):
    for path in (ATLAS, ATLAS.with_name("checksums.sha256")):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(module, "ATLAS", folder / ATLAS.name)
    assert len(sprites.__wrapped__("emoji")) == len(EMOJI)
