"""Checks of the third graded set that end in numbers: a width that a budget allows, and a verdict on two models."""

import math
import random
from collections.abc import Callable, Iterable
from statistics import NormalDist, median
from typing import Any

from xattn_edu.exercises.checking import close, compare, two
from xattn_edu.exercises.guard import Guarded, Wrong
from xattn_edu.homework.cases import several
from xattn_edu.measure.costs import vit_macs
from xattn_edu.measure.intervals import Interval, mean_interval, student_t

# --- the width that a budget allows


def affordable_width(answer: Guarded, seed: int) -> str:
    """affordable_width(image_size, patch, depth, classes, multiple, budget): the widest ViT, (width, MACs)."""
    draw = random.Random(seed)
    for image, patch, depth, multiple in (
        (draw.choice((28, 56)), 7, draw.randrange(2, 7), 1),
        (draw.choice((32, 48, 64)), draw.choice((4, 8)), draw.randrange(2, 9), 4),
        (224, 16, 12, 64),
    ):
        sizes = image, patch, depth, draw.randrange(2, 90)
        steps = draw.randrange(3, 12)
        narrowest, fits, too_much = (_macs(sizes, multiple * n) for n in (1, steps, steps + 1))
        # One budget is just enough, one leaves as much as there can be left, one is too small for any width.
        for budget in (fits, too_much - 1, draw.randrange(fits, too_much), narrowest - 1):
            _check_width(answer, sizes, multiple, budget)
    return "right, also where nothing fits"


def _check_width(answer: Guarded, sizes: tuple[int, int, int, int], multiple: int, budget: int) -> None:
    width = 0
    while _macs(sizes, width + multiple) <= budget:
        width += multiple
    where = f"image {sizes[0]}, patch {sizes[1]}, depth {sizes[2]}, {sizes[3]} classes, widths of {multiple} x n, "
    where += f"budget {budget:,}"
    mine, macs = two(answer(*sizes, multiple, budget), "the width and its MACs")
    if isinstance(mine, bool | str) or mine is None or mine != int(mine) or mine < 0:
        raise Wrong(f"{where}: the width is a whole number, 0 or more, given {mine!r}")
    mine = int(mine)
    if mine:
        compare(macs, _macs(sizes, mine), f"{where}, MACs at your width {mine}", _mac_mistakes(sizes, mine))
    if mine == width:
        compare(macs, _macs(sizes, width) if width else 0, f"{where}, MACs where nothing fits")
        return
    if mine % multiple:
        cause = f"The width must be a multiple of {multiple}."
    elif mine > width:
        cause = "This costs more than the budget allows."
    else:
        cause = "A wider one fits: the MACs may be as many as the budget, and no more." if mine else "Something fits."
    raise Wrong(f"{where}: expected width {width}, given {mine}. {cause}")


def _macs(sizes: tuple[int, int, int, int], width: int) -> int:
    image, patch, depth, classes = sizes
    return sum(vit_macs(image, patch, width, depth, classes=classes)) if width else 0


def _mac_mistakes(sizes: tuple[int, int, int, int], width: int) -> dict[str, int]:
    image, patch, depth, classes = sizes
    right, patches, d = _macs(sizes, width), (image // patch) ** 2, width
    tokens = patches + 1

    def blocks(t: int, projections: int = 4, hidden: int = 8, products: int = 2) -> int:
        return depth * ((projections + hidden) * t * d * d + products * t * t * d)

    rest = right - blocks(tokens)
    embedding = 3 * patch * patch * d * patches
    return {
        "The class token is a token, too: 1 + patches of them.": blocks(patches) + rest,
        "The class token is made from no patch: the embedding makes one token a patch.": right + embedding // patches,
        "The patch embedding is missing.": right - embedding,
        "An image has three channels: a patch is 3 p^2 numbers.": right - embedding * 2 // 3,
        "A patch has p^2 pixels, not p.": right - embedding + embedding // patch,
        "The products run over T tokens, with the class token: 2 T^2 d.": (
            blocks(tokens) - depth * 2 * (tokens**2 - patches**2) * d + rest
        ),
        "There is one patch embedding, not one in each block.": right + (depth - 1) * embedding,
        "The head has a weight for each class.": right - classes * d + d,
        "There is one head, not one in each block.": right + (depth - 1) * classes * d,
        "The head is missing.": right - classes * d,
        "The patch embedding and the head are missing.": blocks(tokens),
        "The head reads the class token alone.": right + classes * d * patches,
        "Attention has two products, q k^T and A v: 2 T^2 d.": blocks(tokens, products=1) + rest,
        "The products of attention are missing: 2 T^2 d.": blocks(tokens, products=0) + rest,
        "Attention has four projections: query, key, value and output.": blocks(tokens, projections=3) + rest,
        "The MLP has two layers: 4 d^2 each.": blocks(tokens, hidden=4) + rest,
        "The MLP is missing: 8 d^2 for each token.": blocks(tokens, hidden=0) + rest,
        "There are `depth` blocks.": blocks(tokens) // depth + rest,
        "A multiply-add counts once.": 2 * right,
        "The blocks cost a multiply-add once.": 2 * blocks(tokens) + rest,
        "A width of 0 costs nothing.": right if not width else -1,
    }


# --- a verdict on two models

Scores = dict[int, float]


def verdict(answer: Guarded, seed: int) -> str:
    """verdict(ours, theirs, margin): (mean lead, half-width, "same", "better", "worse" or "open"), paired by seed."""
    draw = random.Random(seed)
    cases = [_drawn_scores(draw, *settings) for settings in _SETTINGS]
    given = []
    for ours, theirs, margin in cases:
        answered = several(answer(dict(ours), dict(theirs), margin), ("mean", "half", "word"))
        _compare_intervals(answered, ours, theirs, margin)
        given.append(answered[2])
    intervals = [mean_interval(_leads(ours, theirs)) for ours, theirs, _ in cases]
    words = [_word(found.low, found.high, margin) for found, (*_, margin) in zip(intervals, cases)]
    for mine, right, found, case in zip(given, words, intervals, cases):
        if mine != right:
            rules = [_word_mistakes(found, margin) for found, (*_, margin) in zip(intervals, cases)]
            cause = next((rule for rule in rules[0] if [words[rule] for words in rules] == given), "")
            where = f"{_described(*case)}: the interval is {found.low:.4g} to {found.high:.4g}"
            if mine not in ("same", "better", "worse", "open"):
                cause = 'The word is "same", "better", "worse" or "open".'
            raise Wrong(f"word, {where}: expected {right!r}, given {mine!r}. {cause}".rstrip())
    return "right: paired by seed, and one of four words"


# The true lead, the leads' spread, the margin and the runs. Not 4 runs: there sqrt(n) is n/2.
_SETTINGS = (
    (2.0, 0.3, 1.0, 5),
    (0.9, 2.0, 1.0, 3),
    (-2.5, 0.5, 1.0, 6),
    (0.0, 0.1, 1.0, 6),
    (0.6, 0.05, 1.0, 5),
    (-0.5, 0.05, 1.0, 7),
    (0.0, 0.65, 1.0, 6),
    (0.85, 0.3, 1.0, 5),
    (1.3, 0.4, 1.0, 7),
    (0.0, 0.6, 0.3, 6),
)


def _drawn_scores(draw: random.Random, lead: float, spread: float, margin: float, runs: int) -> tuple[Any, Any, float]:
    base = [draw.uniform(70, 90) for _ in range(runs)]
    theirs = {number: round(score, 2) for number, score in enumerate(base)}
    leads = [lead + spread * (-1) ** k * draw.uniform(0.5, 1.5) for k in range(runs)]
    ours = {number: round(score + more, 2) for (number, score), more in zip(theirs.items(), leads)}
    ours = dict(draw.sample(list(ours.items()), runs))  # in another order
    ours[97], theirs[98] = round(base[0] + 9, 2), round(base[0] - 7, 2)  # seeds of one of the two alone
    return ours, theirs, margin


def _described(ours: Scores, theirs: Scores, margin: float) -> str:
    return f"ours {ours}, theirs {theirs}, margin {margin}"


def _leads(ours: Scores, theirs: Scores) -> list[float]:
    return [ours[number] - theirs[number] for number in sorted(ours.keys() & theirs.keys())]


def _judged(leads: Iterable[float], margin: float, interval: Callable[[Any], Interval] = mean_interval) -> Any:
    found = interval(list(leads))
    return found.mean, found.half, _word(found.low, found.high, margin)


def _word(low: float, high: float, margin: float) -> str:
    if -margin < low and high < margin:
        return "same"
    return "better" if low > 0 else "worse" if high < 0 else "open"


def _with_factor(factor: Callable[[int], float], divisor: int = 1) -> Callable[[list[float]], Interval]:
    """An interval of the mean -+ `factor(n)` standard deviations; their sum of squares is divided by n - divisor."""

    def interval(leads: list[float]) -> Interval:
        mean = sum(leads) / len(leads)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in leads) / (len(leads) - divisor))
        return Interval(mean, factor(len(leads)) * deviation)

    return interval


def _verdict_mistakes(ours: Scores, theirs: Scores, margin: float) -> dict[str, Any]:
    leads, normal = _leads(ours, theirs), NormalDist().inv_cdf(0.975)
    n = len(leads)
    t = mean_interval(leads).half / _with_factor(lambda n: 1 / math.sqrt(n))(leads).half
    in_order = [a - b for a, b in zip(ours.values(), theirs.values())]
    one, other = mean_interval(ours.values()), mean_interval(theirs.values())
    both = Interval(one.mean - other.mean, one.half + other.half)
    pythagoras = Interval(both.mean, math.hypot(one.half, other.half))
    missing = [ours.get(number, 0.0) - theirs.get(number, 0.0) for number in ours.keys() | theirs.keys()]
    found = mean_interval(leads)
    return {
        "Pair the runs by their seeds: the two dicts need not have one order.": _judged(in_order, margin),
        "Pair the runs by their seeds: sorted, the scores belong to different seeds.": _judged(
            [a - b for a, b in zip(sorted(ours.values()), sorted(theirs.values()))], margin
        ),
        "Take the interval of the leads, seed by seed, not the two models' intervals.": (
            both.mean,
            both.half,
            _word(both.low, both.high, margin),
        ),
        "Take the interval of the leads, seed by seed; the models' spreads do not matter.": (
            pythagoras.mean,
            pythagoras.half,
            _word(pythagoras.low, pythagoras.high, margin),
        ),
        "A seed that only one model has is left out, not counted with 0.": _judged(missing, margin),
        "A lead has a sign: below 0 it is theirs.": _judged([abs(x) for x in leads], margin),
        "The mean of the leads, not their median.": (median(leads), found.half, "open"),
        "Leads are points, not a share of theirs.": _judged(
            [100 * lead / theirs[number] for lead, number in zip(leads, sorted(ours.keys() & theirs.keys()))], margin
        ),
        "Leads are ours minus theirs.": _judged([-x for x in leads], margin),
        "Student's t, not 1.96: a few runs know their spread badly.": _judged(
            leads, margin, _with_factor(lambda n: normal / math.sqrt(n))
        ),
        "The standard deviation of a sample is divided by n - 1, not by n.": _judged(
            leads, margin, _with_factor(lambda n: t / math.sqrt(n), divisor=0)
        ),
        "n - 1 in the deviation, and Student's t: both are missing.": _judged(
            leads, margin, _with_factor(lambda n: normal / math.sqrt(n), divisor=0)
        ),
        "The spread of a mean of n runs is smaller by sqrt(n).": _judged(leads, margin, _with_factor(lambda n: t)),
        "half is the half-width of the interval, not the standard deviation.": _judged(
            leads, margin, _with_factor(lambda n: 1.0)
        ),
        "half is t times the standard error, not the standard error alone.": _judged(
            leads, margin, _with_factor(lambda n: 1 / math.sqrt(n))
        ),
        "half is half of the interval's width.": (found.mean, 2 * found.half, _word(found.low, found.high, margin)),
        "The level is 95 %, not 90 %.": _judged(leads, margin, lambda x: mean_interval(x, 0.90)),
        "The level is 95 %, not 97.5 %: mean_interval takes both sides into account.": _judged(
            leads, margin, lambda x: mean_interval(x, 0.975)
        ),
        "The level is 95 %, not 99 %.": _judged(leads, margin, lambda x: mean_interval(x, 0.99)),
        "Degrees of freedom are n - 1.": _judged(
            leads, margin, lambda x: Interval(found.mean, found.half / t * student_t(0.95, n))
        ),
    }


def _word_mistakes(found: Interval, margin: float) -> dict[str, str]:
    low, high, mean = found.low, found.high, found.mean
    only_mean = "better" if mean > 0 else "worse"
    return {
        "The sign of the mean is not enough: the whole interval must lie on one side of 0.": only_mean,
        'Test for "same" first: an interval within the margin is "same", wherever it lies.': (
            "better" if low > 0 else "worse" if high < 0 else _word(low, high, margin)
        ),
        'An interval that holds 0 is "same" only if it lies within the margin; otherwise the question is open.': (
            "same" if low <= 0 <= high else _word(low, high, margin)
        ),
        'It is the whole interval that must lie within the margin for "same", not the mean.': (
            "same" if abs(mean) < margin else _word(low, high, margin)
        ),
        'For "same" both ends must lie within the margin.': "same" if high < margin else _word(low, high, margin),
        'For "same" both ends must lie within the margin; here the lower one alone was compared.': (
            "same" if -margin < low else _word(low, high, margin)
        ),
        'Better is above 0; the margin is for "same" alone.': (
            "better"
            if low > margin
            else "worse"
            if high < -margin
            else "same"
            if -margin < low and high < margin
            else "open"
        ),
        '"better" is ours above theirs.': {"better": "worse", "worse": "better"}.get(
            _word(low, high, margin), _word(low, high, margin)
        ),
        'There are four words, and "same" is one.': "better" if low > 0 else "worse" if high < 0 else "open",
    }


def _compare_intervals(given: Any, ours: Scores, theirs: Scores, margin: float) -> None:
    """Raise Wrong unless mean and half-width are right."""
    expected, where = _judged(_leads(ours, theirs), margin), _described(ours, theirs, margin)
    mean, half, _ = given
    for cause, (wrong_mean, wrong_half, _) in _verdict_mistakes(ours, theirs, margin).items():
        shown = _near(wrong_mean, expected[0]) and _near(wrong_half, expected[1])
        if not shown and _near(mean, wrong_mean) and _near(half, wrong_half):
            raise Wrong(f"{where}: expected {_text(expected[:2])}, given {_text((mean, half))}. {cause}")
    for name, mine, right in zip(("mean", "half"), given, expected):
        if isinstance(mine, str) or getattr(mine, "shape", ()) != () or not _near(mine, right):
            raise Wrong(f"{name}, {where}: expected {right:.4g}, given {_text((mine,))}")


def _near(given: Any, expected: float) -> bool:
    """Equal up to the digits in which tables of t are printed."""
    return close(given, expected, rtol=1e-3, atol=1e-4)


def _text(values: Iterable[Any]) -> str:
    return ", ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in values)
