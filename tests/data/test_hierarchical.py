"""Each answer is found in the pixels it must be read from, by a reader of its own; probes do not find it elsewhere."""

import functools
import itertools
import math
from collections import Counter
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
import torch

from xattn_edu.data import hierarchical
from xattn_edu.data.hierarchical import GLYPHS_ALONE, LETTERS, NAMES, SPLITS, cues, letters

DRAWN = {
    "H": ["#   #", "#   #", "#####", "#   #", "#   #"],
    "S": [" ####", "#    ", " ### ", "    #", "#### "],
    "T": ["#####", "# # #", "  #  ", "  #  ", " ### "],
    "Z": ["#####", "   # ", "  #  ", " #   ", "#####"],
}
SHAPES = {
    letters: {"images": (48, 48), "fovea": (16, 16), "thumbnail": (36, 36), "big": (), "small": ()},
    cues: {"glyphs": (32, 32), "glow": (32, 32), "label": (), "cell": ()},
}
tasks = pytest.mark.parametrize("task", [letters, cues])


# --- an independent reader


@functools.cache
def strokes(height, width, scale):
    """Every place of every letter: (number, row, column) each, and where its strokes would be, (place, pixel)."""
    places, lit, size = [], [], 5 * scale
    for number, lines in enumerate(DRAWN.values()):
        letter = np.array([[mark == "#" for mark in line] for line in lines]).repeat(scale, 0).repeat(scale, 1)
        for y, x in itertools.product(range(height - size + 1), range(width - size + 1)):
            places.append((number, y, x))
            lit.append(np.pad(letter, ((y, height - size - y), (x, width - size - x))).ravel())
    return places, np.array(lit, float)


def read(image, scale=1):
    """(letter, row and column of its corner) that fits an image best: light on its strokes, dark beside them."""
    (places, lit), pixels = strokes(*image.shape, scale), image.astype(float).ravel()
    count, light = lit.sum(1), lit @ pixels
    fits = light / count - (pixels.sum() - light) / (len(pixels) - count)
    return max(zip(fits, places))[1]


def pooled(image, size):
    """The mean of each square of size x size pixels, one by one."""
    rows, columns = range(0, len(image), size), range(0, len(image[0]), size)
    return np.array([[image[y : y + size, x : x + size].mean() for x in columns] for y in rows])


def cell_of(image, number, across):
    row, column = divmod(number, across)
    return image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]


def test_the_letters_are_the_ones_named_and_equally_light():
    assert "".join(DRAWN) == NAMES and LETTERS.shape == (4, 5, 5)
    for bitmap, lines in zip(LETTERS, DRAWN.values()):
        assert ["".join("# "[int(1 - pixel)] for pixel in row) for row in bitmap] == lines
        assert bitmap.sum() == 13


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_each_view_of_a_letter_shows_its_half(split):
    data = letters(split, 300, seed=1)
    assert [read(image, 2)[0] for image in data.fovea] == data.small.tolist()
    assert [read(pooled(image, 6))[0] for image in data.thumbnail] == data.big.tolist()


def test_both_views_are_cut_from_the_picture():
    data, ranks, places, corners = letters("train", 300), Counter(), Counter(), Counter()
    for image, fovea, thumbnail, big, small in zip(data.images, data.fovea, data.thumbnail, data.big, data.small):
        means = pooled(image, 8)
        assert np.abs(means.repeat(6, 0).repeat(6, 1) - thumbnail).max() <= 0.5
        kind, top, left = read(means)
        assert kind == big
        lit = [6 * (top + y) + left + x for y, x in np.ndindex(5, 5) if DRAWN[NAMES[big]][y][x] == "#"]
        cells = [cell_of(image, number, 6) for number in lit]
        seen = [rank for rank, cell in enumerate(cells) if np.array_equal(cell.repeat(2, 0).repeat(2, 1), fovea)]
        assert len(seen) == 1  # the fovea is one lit cell, as it is
        assert {read(cell) for cell in cells[:3]} == {(small, *read(cells[3])[1:])}
        ranks.update(seen)
        corners[top, left] += 1
        places[read(cells[0])[1:]] += 1
    assert len(ranks) == 13 and max(ranks.values()) < 50  # about 23 each
    assert len(corners) == 4 and min(corners.values()) > 45  # about 75 each
    assert len(places) == 16 and min(places.values()) > 4  # about 19 each


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_the_label_is_the_glyph_under_the_glow(split):
    data, places, away = cues(split, 300, seed=1), Counter(), []
    for glyphs, glow, label, cell in zip(data.glyphs, data.glow, data.label, data.cell):
        assert pooled(glow, 8).argmax() == cell
        kind, *place = read(cell_of(glyphs, cell, 4))
        assert kind == label
        places[tuple(place)] += 1
        smooth = np.lib.stride_tricks.sliding_window_view(glow, (5, 5)).mean((2, 3))
        away.append(
            np.array(np.unravel_index(smooth.argmax(), smooth.shape)) + 2 - (8 * np.array(divmod(cell, 4)) + 3.5)
        )
    assert len(places) == 16
    assert 0.5 < np.std(away) < 2 and np.abs(np.mean(away)) < 0.5  # about the middle, not in it


@tasks
def test_contrast_and_noise_differ_from_image_to_image(task):
    data = task("train", 400)
    for name, shape in SHAPES[task].items():
        if shape:
            images = getattr(data, name)
            darkness, lightness = np.quantile(images, 0.25, (1, 2)), np.quantile(images, 0.99, (1, 2))
            assert 3 < darkness.std() < 15 and (lightness - darkness).std() > (4 if name == "thumbnail" else 15)
            assert len({image.tobytes() for image in images}) == 400
    dark = (data.images if task is letters else data.glyphs)[:, 0, 0].astype(float)
    assert dark.min() < 10 and 12 < dark.std() < 70


# --- probes: what a view leaks


def pixels(images, size):
    """Means of size x size squares, (image, pixels), each pixel of mean 0 and deviation 1."""
    count, height, width = images.shape
    means = images.reshape(count, height // size, size, width // size, size).mean((2, 4)).reshape(count, -1)
    return (means - means.mean(0)) / means.std(0)


def quadratic(features):
    upper = np.triu_indices(features.shape[1])
    products = features[:, upper[0]] * features[:, upper[1]]
    return np.hstack([np.ones((len(features), 1)), features, products - products.mean(0)])


def probe(features, *answers):
    """For each answer the accuracy on the second half of a quadratic least-squares classifier fitted to the first."""
    features, half = quadratic(features).astype(np.float32), len(features) // 2
    train, wanted = features[:half], [np.eye(labels.max() + 1, dtype=np.float32)[labels[:half]] for labels in answers]
    squares = train.T @ train + 10 * np.eye(train.shape[1], dtype=np.float32)
    scores = features[half:] @ np.linalg.solve(squares, train.T @ np.hstack(wanted))
    each = np.split(scores, np.cumsum([part.shape[1] for part in wanted])[:-1], axis=1)
    return [(part.argmax(1) == labels[half:]).mean() for part, labels in zip(each, answers)]


def chance(rate, count):
    """The rate, give or take four standard deviations of a binomial share among `count`."""
    return pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / count))


@pytest.fixture(scope="module")
def many_letters():
    return letters("train", 8192, seed=2)


@pytest.fixture(scope="module")
def many_cues():
    return cues("train", 8192, seed=2)


def test_a_thumbnail_tells_the_big_letter_and_nothing_of_the_small(many_letters):
    wanted = (many_letters.big, many_letters.small, many_letters.relation)
    big, small, relation = probe(pixels(many_letters.thumbnail, 6), *wanted)
    assert big > 0.97
    assert small == chance(1 / 4, 4096)
    assert relation == chance(1 / 4, 4096)


@pytest.mark.slow
def test_a_fovea_tells_the_small_letter_and_nothing_of_the_big(many_letters):
    seen = pixels(many_letters.fovea, 2)
    small, big, relation = probe(seen, many_letters.small, many_letters.big, many_letters.relation)
    assert small > 0.97
    assert big == chance(1 / 4, 4096)
    assert relation == chance(1 / 4, 4096)
    square = seen.reshape(-1, 8, 8)
    place = np.hstack([square.mean(1), square.mean(2)])  # few features find a weak leak better
    assert probe(place, many_letters.big)[0] == chance(1 / 4, 4096)


def test_other_small_letters_leave_the_thumbnail_as_it_is(monkeypatch):
    """Of the same random numbers: so no probe, however clever, could find them there."""
    before = letters("test", 256)
    monkeypatch.setattr(hierarchical, "_SMALL", hierarchical._SMALL[[1, 2, 3, 0]])
    after = letters("test", 256)
    assert (before.images != after.images).any((1, 2)).all()
    assert np.abs(before.thumbnail.astype(int) - after.thumbnail).max() <= 1  # rounding


@pytest.mark.slow
def test_a_glow_tells_the_cell_and_nothing_of_the_label(many_cues):
    cell, label = probe(pixels(many_cues.glow, 4), many_cues.cell, many_cues.label)
    assert cell > 0.97
    assert label == chance(1 / 4, 4096)


@pytest.mark.slow
def test_glyphs_tell_nothing_of_the_cell_and_of_the_label_no_more_than_their_counts(many_cues):
    sheets = many_cues.glyphs
    cell, label = probe(pixels(sheets, 4), many_cues.cell, many_cues.label)
    assert cell == chance(1 / 16, 4096)
    assert label < GLYPHS_ALONE
    found = np.array([[read(cell_of(sheet, cell, 4))[0] for cell in range(16)] for sheet in sheets[:256]])
    marked, labels = found[np.arange(256), many_cues.cell[:256]], many_cues.label[:256]
    assert (marked == labels).all()
    others = found[np.arange(16) != many_cues.cell[:256, None]].reshape(256, 15)
    assert (others == labels[:, None]).mean() == chance(1 / 4, 256 * 15)
    assert np.bincount(others.ravel()) / (256 * 15) == chance(1 / 4, 256 * 15)
    counts = (found[..., None] == np.arange(4)).sum(1)
    assert (counts.argmax(1) == labels).mean() == chance(GLYPHS_ALONE, 256)
    assert (counts.max(1) / 16).mean() == pytest.approx(GLYPHS_ALONE, abs=0.02)


def test_the_best_guess_from_glyphs_alone_is_counted_out():
    """All ways to share 16 cells among four letters, by how often they come; the best guess is right max / 16 times."""
    shares = [share for share in itertools.product(range(17), repeat=4) if sum(share) == 16]
    ways = [math.factorial(16) // math.prod(map(math.factorial, share)) for share in shares]
    assert sum(ways) == 4**16
    assert sum(way * max(share) for way, share in zip(ways, shares)) / 16 / 4**16 == pytest.approx(
        GLYPHS_ALONE, abs=5e-5
    )


# --- what is drawn, and how it is given


@tasks
@pytest.mark.parametrize("count", [1, 255, 256, 257, 700])
def test_arrays_and_tensors_have_the_shapes_of_the_docstring(task, count):
    data = task("validation", count)
    assert len(data) == count and [field.name for field in fields(data)] == [*SHAPES[task]]
    for name, shape in SHAPES[task].items():
        array = getattr(data, name)
        assert array.shape == (count, *shape) and array.dtype == (np.uint8 if shape else np.int64)
    *views, targets = data.tensors()
    size = (count, 2) if task is letters else (count,)
    assert targets.shape == size and targets.dtype == torch.int64
    assert len(views) == 2 and all(view.dtype == torch.float32 and view.is_contiguous() for view in views)
    with pytest.raises(FrozenInstanceError):
        data.tensors = None


@tasks
def test_tensors_are_the_arrays_standardised_and_copies(task):
    data = task("test", 2048)
    names = ("fovea", "thumbnail") if task is letters else ("glyphs", "glow")
    *views, targets = data.tensors()
    for name, view in zip(names, views):
        array = getattr(data, name).astype(float)
        assert abs(view.mean()) < 0.05 and abs(view.std() - 1) < 0.05
        again = view[:, 0].double().numpy()
        assert np.corrcoef(again.ravel(), array.ravel())[0, 1] > 1 - 1e-6
        assert view.shape == (2048, 1, *array.shape[1:])
    wanted = np.stack([data.pair, data.relation], 1) if task is letters else data.label
    assert np.array_equal(targets, wanted)
    for tensor in (*views, targets):
        tensor.fill_(0)
    assert all(getattr(data, name).any() for name in SHAPES[task])


def test_pair_and_relation_are_what_they_say():
    data = letters("train", 256)
    for big, small, pair, relation in zip(data.big, data.small, data.pair, data.relation):
        assert divmod(pair, 4) == (big, small) and (relation - big - small) % 4 == 0 and 0 <= relation < 4
    assert data.pair.dtype == data.relation.dtype == np.int64


@pytest.mark.parametrize("split", SPLITS)
def test_every_256_images_hold_each_pair_equally_often_in_no_order(split):
    data, marked = letters(split, 1024), cues(split, 1024)
    orders = set()
    for start in range(0, 1024, 256):
        block = slice(start, start + 256)
        assert np.bincount(data.pair[block]).tolist() == [16] * 16
        assert np.bincount(4 * marked.cell[block] + marked.label[block]).tolist() == [4] * 64
        orders |= {tuple(data.pair[block]), tuple(marked.label[block])}
    assert len(orders) == 8
    for labels in (data.big, data.small, marked.label, marked.cell % 4):
        assert (labels[1:] == labels[:-1]).mean() == chance(1 / 4, 1023)


@tasks
def test_the_same_seed_gives_the_same_images_and_more_begins_with_fewer(task):
    long, again = task("train", 600, 5), task("train", 600, 5)
    for count in (600, 1, 255, 256, 300):
        short = again if count == 600 else task("train", count, 5)
        for name in SHAPES[task]:
            assert np.array_equal(getattr(short, name), getattr(long, name)[:count])


@tasks
def test_no_split_seed_or_block_repeats_the_noise_of_another(task):
    name = next(iter(SHAPES[task]))
    drawn = [getattr(task(split, 512, seed), name) for split in SPLITS for seed in (0, 1, 2, 2**32, 2**70)]
    blocks = np.concatenate(drawn).reshape(30, -1)  # 15 draws of two blocks
    assert np.abs(np.corrcoef(blocks) - np.eye(30)).max() < 0.5  # 1 where a stream came twice


@tasks
def test_global_random_numbers_are_neither_used_nor_changed(task):
    np.random.seed(0)
    before, state = task("train", 3), np.random.get_state()[1].copy()
    np.random.seed(1)
    after = task("train", 3)
    name = next(iter(SHAPES[task]))
    assert np.array_equal(getattr(before, name), getattr(after, name))
    np.random.seed(0)
    assert np.array_equal(np.random.get_state()[1], state)


@tasks
@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"split": "Test"}, ValueError, "split must be one of train, validation, test, given 'Test'"),
        ({"split": None}, ValueError, "one of train, .* given None"),
        ({"count": 0, "seed": 0}, ValueError, "count must be 1 or more, given 0"),
        ({"count": -3, "seed": 0}, ValueError, "count must be 1 or more, given -3"),
        ({"count": 12e3, "seed": 0}, TypeError, r"count must be an int, given 12000.0: write count=int\(...\)"),
        ({"count": "9", "seed": 0}, TypeError, "count must be an int, given '9'"),
        ({"count": True, "seed": 0}, TypeError, "count must be an int, given True"),
        ({"seed": -1}, ValueError, "seed must be 0 or more, given -1"),
        ({"seed": 1.0}, TypeError, "seed must be an int, given 1.0"),
        ({"seed": None}, TypeError, "seed must be an int, given None"),
        ({"seed": False}, TypeError, "seed must be an int, given False"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_any_work(task, change, error, says, monkeypatch):
    monkeypatch.setattr(hierarchical, "default_rng", None)
    with pytest.raises(error, match=says):
        task(**{"split": "train", "count": 10**12} | change)


@tasks
def test_numbers_may_be_numpys(task):
    data, same = task("test", np.uint8(255), np.int64(7)), task("test", 255, 7)
    assert all(np.array_equal(getattr(data, name), getattr(same, name)) for name in SHAPES[task])
