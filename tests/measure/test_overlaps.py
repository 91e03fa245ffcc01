"""Masks compared pixel by pixel, and scores against exact fractions."""

import socket
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xattn_edu.measure.overlaps import Bounds, Overlaps, overlaps


def counted(*pairs):
    """Overlaps of the given (intersection, union)s."""
    intersections, unions = zip(*pairs)
    return Overlaps(torch.tensor(intersections), torch.tensor(unions))


def pairs(found):
    return list(zip(found.intersections.tolist(), found.unions.tolist(), strict=True))


def pixel_by_pixel(predicted, target):
    """[(intersection, union)] of nested lists of masks."""
    result = []
    for one, other in zip(predicted, target, strict=True):
        both = either = 0
        for row, other_row in zip(one, other, strict=True):
            for pixel, other_pixel in zip(row, other_row, strict=True):
                both += pixel and other_pixel
                either += pixel or other_pixel
        result.append((both, either))
    return result


def exact_scores(counts, threshold):
    """oIoU, mIoU and P@threshold as fractions."""
    iou = [Fraction(both, either) if either else Fraction(0) for both, either in counts]
    whole = sum(either for _, either in counts)
    return (
        Fraction(sum(both for both, _ in counts), whole) if whole else 0,
        sum(iou) / len(iou),
        Fraction(sum(one >= threshold for one in iou), len(iou)),
    )


@given(st.data(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 10))
def test_scores_equal_a_count_of_pixels(data, count, height, width, tenths):
    mask = st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=height, max_size=height)
    batch = st.lists(mask, min_size=count, max_size=count)
    predicted, target = data.draw(batch), data.draw(batch)
    found = overlaps(torch.tensor(predicted), torch.tensor(target))
    expected = pixel_by_pixel(predicted, target)
    assert pairs(found) == expected and len(found) == count
    scores = (found.oiou, found.miou, found.precision(tenths / 10))
    assert scores == pytest.approx(tuple(map(float, exact_scores(expected, Fraction(tenths, 10)))), rel=1e-12)
    assert {type(score) for score in scores} == {float}


def test_a_worked_example():
    predicted = torch.zeros(3, 4, 4, dtype=torch.bool)
    target = predicted.clone()
    predicted[0, :2], target[0, 1:3] = True, True  # rows 0 and 1 against 1 and 2: 4 of 12
    predicted[1, 0, 0] = target[1, 0, 0] = True  # 1 of 1
    target[2, 3, :2] = True  # missed: 0 of 2
    found = overlaps(predicted, target)
    assert pairs(found) == [(4, 12), (1, 1), (0, 2)]
    assert found.iou.tolist() == [4 / 12, 1, 0] and found.iou.dtype == torch.float64
    assert found.oiou == 5 / 15 and found.miou == pytest.approx(4 / 9)
    assert found.precisions == {threshold: pytest.approx(1 / 3) for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)}
    assert str(found) == (
        "3 expressions: mIoU 0.444, oIoU 0.333, P@0.5 0.333, P@0.6 0.333, P@0.7 0.333, P@0.8 0.333, P@0.9 0.333"
    )


@pytest.mark.parametrize("tenths", range(1, 11))
def test_the_threshold_itself_counts_and_nothing_below_it(tenths):
    scales = [1, 3, 7, 49, 10**6 + 3, 10**9 + 7]
    at, below = [(tenths * k, 10 * k) for k in scales], [(tenths * k - 1, 10 * k) for k in scales]
    assert counted(*at).precision(tenths / 10) == 1
    assert counted(*below).precision(tenths / 10) == 0
    if 5 <= tenths <= 9:
        assert list(counted(*at).precisions.values()) == [float(t <= tenths) for t in range(5, 10)]


def test_an_empty_union_counts_as_nothing_found():
    nothing = torch.zeros(2, 3, 3, dtype=torch.bool)
    found = overlaps(nothing, nothing)
    assert (found.oiou, found.miou, found.precision(0.1)) == (0, 0, 0)
    assert (found + counted((2, 4))).miou == pytest.approx(1 / 6) and (found + counted((2, 4))).oiou == 0.5
    assert found.interval("oiou", samples=5) == (0, 0, 0)


def test_large_counts_stay_whole():
    found = counted(*[(2**31 + 1, 2**31 + 2)] * 3)
    assert int(found.intersections.sum()) == 3 * (2**31 + 1)
    assert found.oiou == (2**31 + 1) / (2**31 + 2) < 1


def test_images_of_different_sizes():
    generator = torch.Generator().manual_seed(0)
    sizes = [(3, 5), (4, 2), (1, 1)]
    predicted, target = ([torch.rand(size, generator=generator) < 0.5 for size in sizes] for _ in range(2))
    expected = [pixel_by_pixel([one.tolist()], [other.tolist()])[0] for one, other in zip(predicted, target)]
    assert pairs(overlaps(predicted, target)) == pairs(overlaps(tuple(predicted), tuple(target))) == expected
    assert pairs(overlaps([], [])) == []


def test_parts_add_up_to_the_whole():
    whole = counted((1, 2), (0, 3), (5, 5), (0, 0))
    parts = [counted((1, 2)), counted((0, 3), (5, 5)), counted((0, 0))]
    assert pairs(Overlaps.concatenate(parts)) == pairs(parts[0] + parts[1] + parts[2]) == pairs(whole)
    assert pairs(Overlaps.concatenate(iter(parts))) == pairs(whole)
    assert pairs(Overlaps.concatenate([]) + whole) == pairs(whole)
    assert Overlaps.concatenate(parts).oiou == 0.6


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_kinds_of_expression(form):
    found = counted((1, 2), (0, 3), (5, 5), (0, 0)).by(form([2, 0, 2, 0]), ["a", "b", "c"])
    assert {name: pairs(part) for name, part in found.items()} == {"a": [(0, 3), (0, 0)], "c": [(1, 2), (5, 5)]}
    assert list(found) == ["a", "c"]


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [0, -1], [0, 2], [[0, 1]], [0, 0.5]])
def test_labels_that_fit_no_kind(labels):
    with pytest.raises(ValueError, match="2 labels of 0 to 1"):
        counted((1, 2), (0, 3)).by(labels, ["a", "b"])


def random_overlaps(count, seed):
    draw = np.random.default_rng(seed)
    unions = draw.integers(20, 200, count)
    return Overlaps(torch.from_numpy(draw.binomial(unions, draw.beta(2, 2, count))), torch.from_numpy(unions))


SCORES = {
    "miou": lambda found: found.miou,
    "oiou": lambda found: found.oiou,
    ("precision", 0.5): lambda found: found.precision(0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("score", SCORES, ids=str)
def test_the_bootstrap_equals_one_that_draws_expression_by_expression(score):
    found = random_overlaps(60, seed=0)
    draw, scores = np.random.default_rng(1), []
    for _ in range(2000):
        chosen = draw.integers(60, size=60)
        scores.append(SCORES[score](counted(*(pairs(found)[i] for i in chosen))))
    low, high = np.quantile(scores, [0.05, 0.95])
    bounds = found.interval(score, level=0.9, samples=8000)
    assert bounds.score == SCORES[score](found) and bounds.low < bounds.score < bounds.high
    assert (bounds.low, bounds.high) == pytest.approx((low, high), abs=0.15 * (high - low))


@pytest.mark.slow
@pytest.mark.parametrize("score", SCORES, ids=str)
def test_the_interval_covers_as_often_as_it_says(score):
    truth = SCORES[score](random_overlaps(200_000, seed=0))
    bounds = [random_overlaps(150, seed).interval(score, level=0.8, samples=200) for seed in range(1, 301)]
    covered = sum(low <= truth <= high for _, low, high in bounds)
    assert covered / 300 == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"seed": 1.0}, "seed must be an int"), ({"samples": True}, "samples must be an int"), ({"level": "1"}, "level")],
)
def test_numbers_of_an_interval(wrong, says):
    with pytest.raises(TypeError, match=says):
        random_overlaps(5, seed=0).interval("miou", **wrong)


def test_the_interval_has_a_seed_and_narrows_with_the_level():
    found = random_overlaps(100, seed=0)
    assert found.interval("miou") == found.interval("miou", 0.95, 1000, 0) != found.interval("miou", seed=1)
    wide, narrow = found.interval("miou", 0.99), found.interval("miou", 0.5)
    assert wide.low < narrow.low < narrow.high < wide.high
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    found.interval("miou")
    assert torch.rand(1) == expected  # it leaves the common generator alone


def test_bounds_read_as_text():
    assert str(Bounds(0.5271, 0.501, 0.549)) == "0.527 (0.501 to 0.549)"
    assert f"{Bounds(0.5271, 0.501, 0.549):.1%}" == "52.7% (50.1% to 54.9%)"


@pytest.mark.parametrize("score", ["precision", "iou", ("precision", 0), ("precision", 1.5), ("oiou", 0.5), 0.5])
def test_scores_that_are_none(score):
    with pytest.raises(ValueError, match="miou.*oiou.*precision"):
        counted((1, 2)).interval(score)


@pytest.mark.parametrize("wrong", [{"level": 0}, {"level": 95}, {"samples": 0}])
def test_intervals_that_are_none(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
        counted((1, 2)).interval("miou", **wrong)


def test_no_expressions_have_no_score():
    nothing = Overlaps.concatenate([])
    assert str(nothing) == "no expressions"
    for ask in (
        lambda: nothing.oiou,
        lambda: nothing.miou,
        lambda: nothing.precisions,
        lambda: nothing.interval("oiou"),
    ):
        with pytest.raises(ValueError, match="no expressions"):
            ask()


MASKS = torch.zeros(2, 3, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("predicted", "target", "error", "message"),
    [
        (MASKS.float(), MASKS, TypeError, "predicted.*float32.*threshold or argmax first"),
        (MASKS, MASKS.long(), TypeError, r"target.*int64.*masks.bool\(\)"),
        (MASKS.numpy(), MASKS.numpy(), TypeError, "predicted must be a tensor"),
        (MASKS, list(MASKS), TypeError, "target must be a tensor of boolean masks, given list"),
        (list(MASKS.float()), list(MASKS), TypeError, "predicted.*float32"),
        (MASKS, MASKS[:1], ValueError, r"\(2, 3, 4\) and \(1, 3, 4\)"),
        (MASKS, MASKS[..., :1], ValueError, r"\(2, 3, 4\) and \(2, 3, 1\)"),
        (MASKS[0], MASKS[0], ValueError, "batch, height, width"),
        (MASKS[:, None], MASKS[:, None], ValueError, "batch, height, width"),
        (list(MASKS), list(MASKS[:1]), ValueError, "2 and 1"),
        (list(MASKS), list(MASKS[:, 1:]), ValueError, r"\(1, 3, 4\) and \(1, 2, 4\)"),
    ],
)
def test_masks_that_cannot_be_compared(predicted, target, error, message):
    with pytest.raises(error, match=message):
        overlaps(predicted, target)


@pytest.mark.parametrize("counts", [torch.zeros(2), torch.zeros(2, 1).long(), torch.zeros(3).long()], ids=str)
def test_counts_are_whole_numbers_in_two_columns(counts):
    with pytest.raises(ValueError, match="int64"):
        Overlaps(counts, torch.zeros(2, dtype=torch.int64))


def test_one_process_alone_gathers_nothing():
    found = counted((1, 2), (0, 3))
    assert found.gathered() is found


def _process(rank, address, folder):
    """One of two processes (a function of the module, so that a fresh Python can find it)."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    whole = random_overlaps(7, seed=0)
    share = Overlaps(whole.intersections[rank::2], whole.unions[rank::2])
    assert pairs(share.gathered()) == pairs(whole)  # 4 expressions in one process, 3 in the other
    with pytest.raises(ValueError, match=r"every 2th expression.*\[7, 5\]"):
        Overlaps(whole.intersections[2 * rank :], whole.unions[2 * rank :]).gathered()
    (folder / str(rank)).write_text("done")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_each_expression_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_process, (f"tcp://127.0.0.1:{port}", tmp_path), nprocs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
