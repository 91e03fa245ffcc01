"""Wrong answers, and right ones written in another way, to the exercises of the fourth graded set that count."""

from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import torch

from xattn_edu.homework.mistakes.mistake import Different, Mistake
from xattn_edu.measure.costs import count
from xattn_edu.models.fusions import FUSIONS, Scales

# --- fusion_costs


def _p(a: int, b: int, norm: int = 2, bias: bool = True) -> int:
    return norm * a + a * b + b * bias


def _counted(
    widths: Any,
    patches: Any,
    norm: int = 2,
    bias: bool = True,
    attention: Any = lambda d: 4 * (d * d + d) + 2 * d,
    products: int = 2,
    double: int = 1,
    resized_last: bool = True,
    first: int = 1,
    queries: str = "one",
    directions: int = 2,
    crossed: bool = False,
    maps: int = 2,
) -> Any:
    s, l = widths
    t_s, t_l = first + patches[0], first + patches[1]
    there, back, same = _p(s, l, norm, bias), _p(l, s, norm, bias), _p(l, l, norm, bias)
    t = t_s + t_l
    cross = 0
    for d, tokens in zip(widths, (t_l, t_s) if crossed else (t_s, t_l)):
        one = 1 if queries == "one" else tokens
        cross += 2 * tokens * d * d + 2 * one * d * d + products * one * tokens * d
        if directions == 1:
            break
    parameters = there + back + attention(s) if directions == 1 else 2 * (there + back) + attention(s) + attention(l)
    all_macs = maps * (t_s * s * l + t_l * l * l) + 4 * t * l * l + products * t * t * l
    pairwise = t_s * s * l + (t_l if resized_last else t_s) * s * l
    return {
        "class_token": (there + back, double * 2 * s * l),
        "pairwise": (there + back, double * pairwise),
        "all_attention": (there + back + 2 * same + attention(l), double * all_macs),
        "cross_attention": (parameters, double * (cross + directions * 2 * s * l)),
    }


def _changed(widths: Any, patches: Any, fusion: str, change: Any) -> Any:
    found = _counted(widths, patches)
    found[fusion] = change(found[fusion], widths, patches)
    return found


def _by_library(widths: Any, patches: Any) -> Any:
    found = {}
    with torch.device("meta"):
        tokens = [torch.empty(1, 1 + n, d) for n, d in zip(patches, widths)]
        for name in ("class_token", "pairwise", "all_attention", "cross_attention"):
            more = {"folded": False} if name == "cross_attention" else {}
            costs = count(FUSIONS[name](Scales(widths, (1, 1), ((1, patches[0]), (1, patches[1]))), **more), *tokens)
            found[name] = costs.parameters, costs.macs
    return found


def _as_lists(widths: Any, patches: Any) -> Any:
    return {name: [np.int64(x) for x in pair] for name, pair in reversed(_counted(widths, patches).items())}


def _as_floats(widths: Any, patches: Any) -> Any:
    return {name: (float(a), float(b)) for name, (a, b) in _counted(widths, patches).items()}


# --- convention


def _named(with_them: bool, without: bool) -> str:
    return "both" if with_them and without else "with" if with_them else "without" if without else "neither"


def _fits(parameters: int, positions: int, printed: str, how: str = "") -> str:
    places = len(printed.split(".")[1]) if "." in printed else 0
    sign = -1 if how == "added" else 1

    def fits(count: int) -> bool:
        millions = count / 1e6
        if how == "cut":
            return f"{int(millions * 10**places) / 10**places:.{places}f}" == printed
        if how == "near":
            return abs(millions - float(printed)) < 0.1
        if how == "unit":
            return abs(millions - float(printed)) < 10.0**-places
        if how == "one":
            return round(millions, 1) == float(printed)
        return f"{millions:.{places}f}" == printed

    word = _named(fits(parameters), fits(parameters - sign * positions))
    words = {
        "exchanged": {"with": "without", "without": "with"},
        "no both": {"both": "with"},
        "no both, without": {"both": "without"},
        "no neither": {"neither": "without"},
        "no neither, with": {"neither": "with"},
    }.get(how, {})
    return words.get(word, word)


def _by_round(parameters: int, positions: int, printed: str) -> str:
    places = len(printed) - printed.index(".") - 1 if "." in printed else 0
    return _named(*(round(x / 1e6, places) == float(printed) for x in (parameters, parameters - positions)))


def _by_interval(parameters: int, positions: int, printed: str) -> str:
    half = 0.5 * 10.0 ** -len(printed.partition(".")[2])
    return _named(*(abs(x / 1e6 - float(printed)) <= half for x in (parameters, parameters - positions)))


def _by_table(parameters: int, positions: int, printed: str) -> str:
    places = len(printed.partition(".")[2])
    texts = [format(x / 1_000_000, f".{places}f") for x in (parameters, parameters - positions)]
    return {"11": "both", "10": "with", "01": "without"}.get("".join(str(int(x == printed)) for x in texts), "neither")


def _by_decimal(parameters: int, positions: int, printed: str) -> str:
    fits = [
        (Decimal(x) / 10**6).quantize(Decimal(printed)) == Decimal(printed)
        for x in (parameters, parameters - positions)
    ]
    return _named(*fits)


# --- the catalogue


def _costs(name: str, cause: str, section: str = "08, 8.5", **how: Any) -> Mistake:
    return Mistake("hw4.fusion_costs", name, partial(_counted, **how), cause, section)


def _one_cost(name: str, fusion: str, change: Any, cause: str, section: str = "08, 8.5") -> Mistake:
    return Mistake("hw4.fusion_costs", name, partial(_changed, fusion=fusion, change=change), cause, section)


def _printed(name: str, how: str, cause: str) -> Mistake:
    return Mistake("hw4.convention", name, partial(_fits, how=how), cause, "09, 9.1")


MISTAKES: tuple[Mistake, ...] = (
    _costs("no norm in P", "P has a LayerNorm: a weight", norm=0),
    _costs("no bias in P", "one of these is missing", bias=False),
    _costs("P without vectors", "a bias: both are missing", norm=0, bias=False),
    _costs("no biases in attention", "projections of the attention have biases", attention=lambda d: 4 * d * d + 2 * d),
    _costs("no norm in attention", "own LayerNorm is missing", attention=lambda d: 4 * (d * d + d)),
    _costs("three projections", "four projections, with the output's.", attention=lambda d: 3 * (d * d + d) + 2 * d),
    _costs(
        "a feed-forward network",
        "No feed-forward network, and no second norm",
        "08, 8.4",
        attention=lambda d: 4 * (d * d + d) + 2 * d + 8 * d * d + 5 * d + 2 * d,
    ),
    _costs("one product", "There are two products", products=1),
    _costs("two FLOPs", "A multiply-add counts once", "09, 9.1", double=2),
    _costs("resized before the way back", "resized afterwards", "08, 8.3", resized_last=False),
    _costs("no class token", "The class tokens go through the maps", first=0),
    _costs("all tokens are queries", "one row of weights", "07, 7.6", queries="all"),
    _costs("one direction", "the one that works in S's width", "07, 7.6", directions=1),
    _costs("widths crossed", "crossed", "07, 7.6", crossed=True),
    _one_cost(
        "f_l forgotten", "all_attention", lambda x, w, n: (x[0] - _p(w[1], w[1]), x[1]), "f_l is missing, or g_l"
    ),
    _one_cost("P for patches and class tokens", "pairwise", lambda x, w, n: (2 * x[0], x[1]), "same two P serve"),
    _one_cost("exchanged", "class_token", lambda x, w, n: x[::-1], "first the parameters"),
    _one_cost(
        "class tokens alone", "pairwise", lambda x, w, n: (x[0], 2 * w[0] * w[1]), "here patches go through", "08, 8.3"
    ),
    _one_cost("f and g once", "cross_attention", lambda x, w, n: (x[0], x[1] - 2 * w[0] * w[1]), "both directions"),
    _printed("cut off", "cut", "do not cut off"),
    _printed("within 0.1", "near", "not if it is near it"),
    _printed("within a unit", "unit", "one unit of the last digit"),
    _printed("one decimal", "one", "not always to one"),
    _printed("exchanged", "exchanged", "are exchanged"),
    _printed("positions added", "added", "do not add them"),
    _printed("no both", "no both", 'the word is "both".'),
    _printed("no both, without", "no both, without", 'the word is "both", not'),
    _printed("no neither", "no neither", 'the word is "neither".'),
    _printed("no neither, with", "no neither, with", 'the word is "neither", not'),
)

DIFFERENT: tuple[Different, ...] = (
    Different("hw4.fusion_costs", "formulas", _counted),
    Different("hw4.fusion_costs", "the library's counter", _by_library),
    Different("hw4.fusion_costs", "lists, another order", _as_lists),
    Different("hw4.fusion_costs", "floats", _as_floats),
    Different("hw4.convention", "text", _fits),
    Different("hw4.convention", "round", _by_round),
    Different("hw4.convention", "half a unit", _by_interval),
    Different("hw4.convention", "table", _by_table),
    Different("hw4.convention", "decimal", _by_decimal),
)
