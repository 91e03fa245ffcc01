"""Wrong and other right answers to the exercises of the third graded set that end in numbers."""

import math
import statistics
from functools import partial
from typing import Any

import numpy as np
import torch

from xattn_edu.homework.mistakes.mistake import Different, Mistake
from xattn_edu.measure.costs import count, vit_macs
from xattn_edu.measure.intervals import mean_interval, student_t
from xattn_edu.models.vit import ViT

# --- affordable_width


def _macs(
    image: Any,
    patch: Any,
    depth: Any,
    classes: Any,
    width: Any,
    class_tokens: int = 1,
    embedded: bool = True,
    channels: int = 3,
    square: bool = True,
    head: bool = True,
    products: int = 2,
    projections: int = 4,
    hidden: int = 8,
    blocks: bool = True,
    flops: int = 1,
) -> int:
    patches = (image // patch) ** 2
    tokens = patches + class_tokens
    block = (projections + hidden) * tokens * width**2 + products * tokens**2 * width
    embedding = channels * (patch**2 if square else patch) * width * patches * embedded
    return flops * ((depth if blocks else 1) * block + embedding + classes * width * head)


def _widest(
    image: Any,
    patch: Any,
    depth: Any,
    classes: Any,
    multiple: Any,
    budget: Any,
    strict: bool = False,
    above: bool = False,
    step: int = 0,
    nothing: Any = (0, 0),
    only_width: bool = False,
    **how: Any,
) -> Any:
    width, step = 0, step or multiple

    def cost(width: int) -> int:
        return _macs(image, patch, depth, classes, width, **how)

    while cost(width + step) < budget + (not strict):
        width += step
    width = width + step if above else width
    return (width, cost(width)) if width else nothing


def _by_root(image: Any, patch: Any, depth: Any, classes: Any, multiple: Any, budget: Any) -> Any:
    n = (image // patch) ** 2
    t = n + 1
    a, b = 12 * t * depth, 2 * t * t * depth + 3 * patch**2 * n + classes
    width = (math.isqrt(b * b + 4 * a * budget) - b) // (2 * a) // multiple * multiple
    return width, a * width**2 + b * width


def _by_bisection(image: Any, patch: Any, depth: Any, classes: Any, multiple: Any, budget: Any) -> Any:
    low, high = 0, 2**16
    while high - low > 1:
        middle = (low + high) // 2
        if sum(vit_macs(image, patch, middle * multiple, depth, 4, classes)) <= budget:
            low = middle
        else:
            high = middle
    width = low * multiple
    return [width, sum(vit_macs(image, patch, width, depth, 4, classes)) if width else 0]


def _with_numpy(image: Any, patch: Any, depth: Any, classes: Any, multiple: Any, budget: Any) -> Any:
    widths = np.arange(0, 4000, multiple, dtype=np.int64)
    costs: Any = _macs(image, patch, depth, classes, widths)
    best = np.flatnonzero(np.asarray(costs) <= budget)[-1]
    return widths[best], costs[best]


def _counted(image: Any, patch: Any, depth: Any, classes: Any, multiple: Any, budget: Any) -> Any:
    width, _ = _widest(image, patch, depth, classes, multiple, budget)
    if width == 0 or image > 100:
        return width, _macs(image, patch, depth, classes, width)
    with torch.device("meta"):
        return width, count(ViT(image, patch, width, depth, 1, classes=classes), torch.empty(1, 3, image, image)).macs


# --- verdict


def _verdict(
    ours: Any,
    theirs: Any,
    margin: Any,
    pair: str = "seed",
    factor: str = "t",
    divisor: int = 1,
    root: bool = True,
    half: float = 1.0,
    level: float = 0.95,
    order: str = "same first",
    words: Any = None,
    sign: int = 1,
) -> Any:
    seeds = [seed for seed in ours if seed in theirs]
    if pair == "seed":
        leads = [ours[seed] - theirs[seed] for seed in seeds]
    elif pair == "order":
        leads = [a - b for a, b in zip(ours.values(), theirs.values())]
    elif pair == "sorted":
        leads = [a - b for a, b in zip(sorted(ours.values()), sorted(theirs.values()))]
    else:
        leads = [ours.get(seed, 0) - theirs.get(seed, 0) for seed in {*ours, *theirs}]
    leads, n = [sign * lead for lead in leads], len(leads)
    mean = sum(leads) / n
    deviation = math.sqrt(sum((lead - mean) ** 2 for lead in leads) / (n - divisor))
    t = {"t": student_t(level, n - 1), "1.96": 1.959964, "none": 1.0, "n": student_t(level, n)}[factor]
    width = half * t * deviation / (math.sqrt(n) if root else 1)
    low, high = mean - width, mean + width
    within = -margin < low and high < margin
    better, worse = low > 0, high < 0
    if order == "mean":
        word = "better" if mean > 0 else "worse"
    elif order == "sign first":
        word = "better" if better else "worse" if worse else "same" if within else "open"
    elif order == "same by mean":
        word = "same" if abs(mean) < margin else "better" if better else "worse" if worse else "open"
    elif order == "holds 0":
        word = "same" if low <= 0 <= high or within else "better" if better else "worse"
    elif order == "beyond the margin":
        word = "same" if within else "better" if low > margin else "worse" if high < -margin else "open"
    elif order == "no same":
        word = "better" if better else "worse" if worse else "open"
    else:
        word = "same" if within else "better" if better else "worse" if worse else "open"
    return mean, width, (words or {}).get(word, word)


def _two_intervals(ours: Any, theirs: Any, margin: Any, joined: Any) -> Any:
    one, other = mean_interval(ours.values()), mean_interval(theirs.values())
    mean, half = one.mean - other.mean, joined(one.half, other.half)
    low, high = mean - half, mean + half
    within = -margin < low and high < margin
    return mean, half, "same" if within else "better" if low > 0 else "worse" if high < 0 else "open"


def _by_the_library(ours: Any, theirs: Any, margin: Any) -> Any:
    lead = mean_interval(ours[seed] - theirs[seed] for seed in set(ours) & set(theirs))
    if max(abs(lead.low), abs(lead.high)) < margin:
        return lead.mean, lead.half, "same"
    return [lead.mean, lead.half, "better" if lead.low > 0 else "worse" if lead.high < 0 else "open"]


def _by_numpy(ours: Any, theirs: Any, margin: Any) -> Any:
    leads = np.array([ours[k] - theirs[k] for k in ours.keys() & theirs.keys()])
    half = student_t(0.95, len(leads) - 1) * leads.std(ddof=1) / np.sqrt(len(leads))
    low, high = leads.mean() - half, leads.mean() + half
    cases = {"same": -margin < low and high < margin, "better": low > 0, "worse": high < 0, "open": True}
    return leads.mean(), half, next(word for word, holds in cases.items() if holds)


def _by_a_table(ours: Any, theirs: Any, margin: Any) -> Any:
    t = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447]
    leads = [score - theirs[seed] for seed, score in ours.items() if seed in theirs]
    half = t[len(leads) - 1] * statistics.stdev(leads) / len(leads) ** 0.5
    mean = statistics.mean(leads)
    if abs(mean) + half < margin:
        return mean, half, "same"
    return mean, half, "open" if abs(mean) <= half else ("better" if mean > 0 else "worse")


def _by_torch(ours: Any, theirs: Any, margin: Any) -> Any:
    seeds = sorted(set(ours).intersection(theirs))
    leads = torch.tensor([ours[s] - theirs[s] for s in seeds], dtype=torch.double)
    half = student_t(0.95, len(seeds) - 1) * leads.std() / len(seeds) ** 0.5
    found = mean_interval(leads.tolist())
    return leads.mean(), half, _by_the_library(ours, theirs, margin)[2] if found else ""


# --- the catalogue


def _budget(name: str, cause: str, section: str = "06, 6.4", **how: Any) -> Mistake:
    return Mistake("hw3.affordable_width", name, partial(_widest, **how), cause, section)


def _judged(name: str, cause: str, answer: Any = _verdict, **how: Any) -> Mistake:
    return Mistake("hw3.verdict", name, partial(answer, **how), cause, "06, 6.4")


MISTAKES: tuple[Mistake, ...] = (
    _budget("no class token", "The class token is a token, too", class_tokens=0),
    _budget("no embedding", "The patch embedding is missing.", embedded=False),
    _budget("grey images", "three channels", channels=1),
    _budget("p for p^2", "p^2 pixels, not p", square=False),
    _budget("no head", "The head is missing.", head=False),
    _budget("no embedding, no head", "embedding and the head are missing", embedded=False, head=False),
    _budget("one product", "Attention has two products", products=1),
    _budget("no products", "The products of attention are missing", products=0),
    _budget("three projections", "four projections", projections=3),
    _budget("half an MLP", "The MLP has two layers", hidden=4),
    _budget("no MLP", "The MLP is missing", hidden=0),
    _budget("one block", "`depth` blocks", blocks=False),
    _budget("two FLOPs", "A multiply-add counts once", "06, 6.5", flops=2),
    _budget("below the budget", "as many as the budget", strict=True),
    _budget("one step above", "more than the budget allows", above=True),
    _budget("no multiple", "must be a multiple", step=1),
    _judged("in the dicts' order", "need not have one order", pair="order"),
    _judged("sorted", "belong to different seeds", pair="sorted"),
    _judged("0 for a missing seed", "not counted with 0", pair="zero"),
    _judged("two intervals", "not the two models' intervals", _two_intervals, joined=lambda a, b: a + b),
    _judged("Pythagoras", "the models' spreads do not matter", _two_intervals, joined=math.hypot),
    _judged("theirs minus ours", "Leads are ours minus theirs", sign=-1),
    _judged("1.96", "Student's t, not 1.96", factor="1.96"),
    _judged("divided by n", "divided by n - 1, not by n", divisor=0),
    _judged("divided by n, 1.96", "both are missing", divisor=0, factor="1.96"),
    _judged("no sqrt(n)", "smaller by sqrt(n)", root=False),
    _judged("standard deviation", "not the standard deviation", factor="none", root=False),
    _judged("standard error", "not the standard error alone", factor="none"),
    _judged("whole width", "half of the interval's width", half=2.0),
    _judged("90 %", "not 90 %", level=0.90),
    _judged("99 %", "not 99 %", level=0.99),
    _judged("n degrees", "Degrees of freedom", factor="n"),
    _judged("sign of the mean", "The sign of the mean", order="mean"),
    _judged("better before same", 'Test for "same" first', order="sign first"),
    _judged("same by the mean", "not the mean", order="same by mean"),
    _judged("0 inside is same", "otherwise the question is open", order="holds 0"),
    _judged("better beyond the margin", "the margin is for", order="beyond the margin"),
    _judged("no same", "There are four words", order="no same"),
    _judged("words exchanged", "is ours above theirs", words={"better": "worse", "worse": "better"}),
)

DIFFERENT: tuple[Different, ...] = (
    Different("hw3.affordable_width", "one step at a time", _widest),
    Different("hw3.affordable_width", "the quadratic formula", _by_root),
    Different("hw3.affordable_width", "bisection", _by_bisection),
    Different("hw3.affordable_width", "NumPy", _with_numpy),
    Different("hw3.affordable_width", "the library's counter", _counted),
    Different("hw3.verdict", "by hand", _verdict),
    Different("hw3.verdict", "mean_interval", _by_the_library),
    Different("hw3.verdict", "NumPy", _by_numpy),
    Different("hw3.verdict", "a table of t", _by_a_table),
    Different("hw3.verdict", "torch", _by_torch),
)
