"""Segmentations become the masks that COCO's own functions draw, or an error says what is wrong with them."""

import random

import numpy as np
import pytest
from helpers.miniature_refcoco import packed, runs
from pycocotools import mask as coco_mask

from xattn_edu.data.refer import mask

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # pycocotools


def random_mask(rng, height, width):
    return rng.random((height, width)) < rng.choice([0, 0.1, 0.5, 0.9, 1])


def test_run_lengths_as_list_and_as_string():
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 40, 2).tolist()
        expected = random_mask(rng, height, width)
        if rng.random() < 0.3:  # long runs, whose differences need several characters
            height, width = 300, 400
            expected = np.zeros((height, width), bool)
            top, left = rng.integers(0, 200, 2)
            expected[top : top + 90, left : left + 150] = True
        lengths = runs(expected)
        string = coco_mask.encode(np.asfortranarray(expected, dtype=np.uint8))["counts"].decode()
        assert packed(lengths) == string  # the tests' own encoder is COCO's
        for given_counts in (lengths, string):
            found = mask({"size": [height, width], "counts": given_counts}, height, width)
            assert found.dtype == bool and found.shape == (height, width) and np.array_equal(found, expected)


def test_polygons_are_drawn_as_the_published_scores_draw_them():
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(4, 60, 2).tolist()
        polygons = [
            (rng.random(2 * rng.integers(3, 9)) * 1.4 * max(height, width) - 0.2 * max(height, width)).clip(
                -min(height, width), 2 * min(height, width)
            )
            for _ in range(rng.integers(1, 4))
        ]
        polygons = [polygon.round(2).tolist() for polygon in polygons]
        parts = [coco_mask.decode(coco_mask.frPyObjects([polygon], height, width))[..., 0] for polygon in polygons]
        assert np.array_equal(mask(polygons, height, width), np.sum(parts, axis=0) > 0)


def test_overlapping_parts_stay_foreground():
    square = [1, 1, 5, 1, 5, 5, 1, 5]
    assert mask([square, square], 6, 6).sum() == 16 == mask([square], 6, 6).sum()


def test_a_polygon_of_two_points_beside_others_is_nothing():
    square, line = [1, 1, 5, 1, 5, 5, 1, 5], [0, 0, 6, 6]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([square, line], 6, 6)))
    assert np.array_equal(mask([square, line], 6, 6), drawn) and drawn.sum() == 16
    assert np.array_equal(mask([line, square], 6, 6), drawn)  # where pycocotools raises TypeError


def test_a_polygon_may_be_tiny_or_reach_over_the_border():
    assert not mask([[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]], 6, 8).any() and not mask([], 6, 8).any()
    assert mask([[-5, -5, 16, -5, 16, 12, -5, 12]], 6, 8).all()
    assert not mask([[-4, -4, -1, -4, -1, -1]], 6, 8).any()
    assert mask([[1, 1, 1, 1, 4, 1, 4, 1, 4, 4, 1, 4]], 6, 8).sum() == 9  # points that occur twice


@pytest.mark.parametrize(
    ("segmentation", "named"),
    [
        (None, "should be a list of polygons or run lengths"),
        ("polygon", "should be a list"),
        ([1, 2, 3, 4, 5, 6], "should be a list of polygons"),
        ([{"size": [6, 8], "counts": [48]}], "should be a list of polygons"),
        ([[]], "three points"),
        ([[1, 1, 2, 2]], "three points"),
        ([[1, 1, 2, 2, 3]], "three points"),
        ([[1, 1, 2, 2, 3, 3, 4]], "three points"),
        ([[1, 1, 2, 2, 3, "3"]], "three points"),
        ([[1, 1, 2, 2, 3, None]], "three points"),
        ([[1, 1, 2, 2, 3, True]], "three points"),
        ([[1, 1, 2, 2, 3, [3]]], "three points"),
        ([[1, 1, 2, 2, 3, float("nan")]], "far outside"),
        ([[1, 1, 2, 2, float("inf"), 3]], "far outside"),
        ([[1, 1, 2, 2, 3, 1e9]], "far outside"),
        ([[1, 1, 2, 2, 3, 10**400]], "far outside"),
        ([[1, 1, 2, 2, 17, 3]], "far outside its image of 8 x 6"),
        ([[1, 1, 2, 2, 3, 13]], "far outside"),
        ([[1, 1, 2, 2, -9, 3]], "far outside"),
        ([[1, 1, 5, 1, 5, 5], [1, 1, 2, 2, 3, -7]], "far outside"),
        ([[0, 0, 8, 6] * 60_000], "outline is 1,680,000 pixels long"),
        ({}, "'size' should be"),
        ({"size": [8, 6], "counts": [48]}, "'size' should be"),
        ({"size": [6, 8]}, "'counts' should be whole numbers"),
        ({"size": [6, 8], "counts": [47]}, "should sum to 6 x 8 = 48, found 47"),
        ({"size": [6, 8], "counts": []}, "should sum to"),
        ({"size": [6, 8], "counts": [40, 9]}, "found 49"),
        ({"size": [6, 8], "counts": [50, -2]}, "whole numbers"),
        ({"size": [6, 8], "counts": [48.0]}, "whole numbers"),
        ({"size": [6, 8], "counts": [True] * 48}, "whole numbers"),
        ({"size": [6, 8], "counts": [2**64, 48 - 2**64]}, "whole numbers"),
        ({"size": [6, 8], "counts": b"`1"}, "whole numbers"),
        ({"size": [6, 8], "counts": "/"}, "no string of COCO's"),
        ({"size": [6, 8], "counts": "é"}, "no string of COCO's"),
        ({"size": [6, 8], "counts": "p"}, "no string of COCO's"),
        ({"size": [6, 8], "counts": "P"}, "ends within a number"),
        ({"size": [6, 8], "counts": "P" * 10_000}, "no string of COCO's"),
        ({"size": [6, 8], "counts": "O"}, "whole numbers of 0 or more.*-1"),
        ({"size": [6, 8], "counts": ""}, "should sum to"),
    ],
)
def test_a_segmentation_that_is_none(segmentation, named):
    with pytest.raises(ValueError, match=named) as error:
        mask(segmentation, 6, 8)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("size", [(0, 8), (8, 0), (-1, 8), (4097, 8), (8, 10**9)])
def test_a_mask_of_no_sensible_size_is_not_made(size):
    with pytest.raises(ValueError, match="height and width should be 1 to 4096"):
        mask([], *size)


def test_random_segmentations_are_refused_or_masks():
    rng, drawn = random.Random(0), 0
    numbers = [0, 1, 2, 3, 5, 8, 48, -1, 1.5, 16, -8, 1e300, float("nan"), float("inf"), None, "4", 2**70, True, []]
    for _ in range(5_000):
        polygons = [
            [rng.choice(numbers[: rng.choice([7, 11, 19])]) for _ in range(rng.randrange(5, 13))]
            for _ in range(rng.randrange(3))
        ]
        string = "".join(chr(rng.randrange(46, 114)) for _ in range(rng.randrange(8)))
        for segmentation in (
            polygons,
            {"size": [6, 8], "counts": string},
            {"size": [6, 8], "counts": [rng.choice(numbers) for _ in range(3)]},
        ):
            try:
                found = mask(segmentation, 6, 8)
            except ValueError:
                continue
            drawn += 1
            assert found.shape == (6, 8) and found.dtype == bool
    assert drawn > 500


def test_a_damaged_string_of_run_lengths_is_refused_or_what_coco_reads():
    rng, drawn = random.Random(1), 0
    expected = random_mask(np.random.default_rng(0), 30, 40)
    string = packed(runs(expected))
    for _ in range(2_000):
        place = rng.randrange(len(string))
        changed = string[:place] + chr(rng.randrange(48, 112)) + string[place + 1 :]
        try:
            found = mask({"size": [30, 40], "counts": changed}, 30, 40)
        except ValueError:
            continue
        drawn += 1
        assert np.array_equal(found, coco_mask.decode({"size": [30, 40], "counts": changed.encode()}).astype(bool))
    assert drawn > 20
