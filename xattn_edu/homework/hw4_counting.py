"""Checks of the fourth graded set that count: the fusions of CrossViT's Table 6, and what the table prints."""

import math
import random
from collections.abc import Callable
from typing import Any

from xattn_edu.exercises.checking import close, compare, refuse_none, two
from xattn_edu.exercises.guard import Guarded, Wrong

Pair = tuple[int, int]  # of branch S and of branch L

FUSIONS = ("class_token", "pairwise", "all_attention", "cross_attention")


def fusion_costs(answer: Guarded, seed: int) -> str:
    """fusion_costs(widths, patches): {fusion: (parameters, MACs)} of the paper's four fusions, one encoder."""
    draw = random.Random(seed)
    cases: list[tuple[Any, Any]] = [(tuple(draw.sample(range(5, 30), 2)), tuple(draw.sample(range(4, 40), 2)))]
    for widths, patches in (*cases, ((192, 384), (400, 196))):
        given = answer(widths, patches)
        refuse_none(given)
        where = f"widths {widths}, patches {patches}"
        if not isinstance(given, dict) or set(given) != set(FUSIONS):
            what = f"the keys {sorted(map(str, given))}" if isinstance(given, dict) else f"a {type(given).__name__}"
            raise Wrong(f"{where}: return a dict with the keys {', '.join(FUSIONS)}, given {what}")
        for name in FUSIONS:
            mine = two(given[name], f"(parameters, MACs), for {name}")
            parameters, macs = _costs(name, widths, patches)
            if close(mine, (macs, parameters)):
                raise Wrong(f"{where}, {name}: first the parameters, then the MACs.")
            compare(mine[0], parameters, f"{where}, parameters of {name}", _parameter_mistakes(name, widths, patches))
            compare(mine[1], macs, f"{where}, MACs of {name}", _mac_mistakes(name, widths, patches))
    return "right to the last parameter and the last multiply-add"


def _projection(width: int, to_width: int) -> int:
    """The parameters of P(width -> to_width): LayerNorm, GELU, Linear."""
    return 2 * width + width * to_width + to_width


def _costs(name: str, widths: Pair, patches: Pair) -> Pair:
    (s, l), (tokens_s, tokens_l) = widths, (1 + patches[0], 1 + patches[1])
    there_and_back, tokens = _projection(s, l) + _projection(l, s), tokens_s + tokens_l
    if name == "class_token":
        return there_and_back, 2 * s * l
    if name == "pairwise":
        return there_and_back, tokens * s * l
    if name == "all_attention":
        parameters = there_and_back + 2 * _projection(l, l) + 2 * l + 4 * (l * l + l)
        return parameters, 2 * tokens_s * s * l + 2 * tokens_l * l * l + 4 * tokens * l * l + 2 * tokens**2 * l
    sides = (s, tokens_s), (l, tokens_l)
    parameters = 2 * there_and_back + sum(2 * d + 4 * (d * d + d) for d, _ in sides)
    return parameters, 4 * s * l + sum(2 * t * d * d + 2 * d * d + 2 * t * d for d, t in sides)


def _parameter_mistakes(name: str, widths: Pair, patches: Pair) -> dict[str, Any]:
    (s, l), right = widths, _costs(name, widths, patches)[0]
    twice = 2 if name == "cross_attention" else 1
    of_all = name == "all_attention"
    projections = {"s to l": (s, l, twice), "l to s": (l, s, twice), "l to l": (l, l, 2 if of_all else 0)}
    norms = sum(2 * a * count for a, _, count in projections.values())
    biases = sum(b * count for _, b, count in projections.values())
    attentions = {"class_token": (), "pairwise": (), "all_attention": (l,), "cross_attention": (s, l)}[name]
    found = {
        "P has a LayerNorm: a weight and a bias for each channel that comes in.": right - norms,
        "P's linear layer has a bias, and its LayerNorm a weight and a bias: one of these is missing.": right - biases,
        "P has a LayerNorm and its linear layer a bias: both are missing.": right - norms - biases,
        "The LayerNorm in P works on what comes in: its width is the first one's.": (
            right - norms + sum(2 * b * count for _, b, count in projections.values())
        ),
        "The way back is missing: P(L to S).": right - twice * _projection(l, s),
        "The way there is missing: P(S to L).": right - twice * _projection(s, l),
        "Count one encoder's fusion, not three.": 3 * right,
        "The position embeddings are no part of a fusion.": right + (1 + patches[0]) * s + (1 + patches[1]) * l,
    }
    if attentions:
        found |= {
            "The attention's own LayerNorm is missing.": right - sum(2 * d for d in attentions),
            "The four projections of the attention have biases.": right - sum(4 * d for d in attentions),
            "No norm of the attention, and no biases in it.": right - sum(6 * d for d in attentions),
            "The attention has four projections, with the output's.": right - sum(d * d + d for d in attentions),
            "There is no feed-forward network in a fusion.": right + sum(8 * d * d + 5 * d for d in attentions),
            "No feed-forward network, and no second norm, in a fusion.": right
            + sum(8 * d * d + 7 * d for d in attentions),
        }
    if of_all:
        found |= {
            "f_l is missing, or g_l: both are P(L to L).": right - _projection(l, l),
            "f_l and g_l are missing: both are P(L to L).": right - 2 * _projection(l, l),
        }
    if name == "cross_attention":
        one_side = {d: _projection(s, l) + _projection(l, s) + 2 * d + 4 * (d * d + d) for d in widths}
        found |= {
            "f and g stand in both directions.": right - _projection(s, l) - _projection(l, s),
            "A fusion has two directions: this is the one that works in S's width.": one_side[s],
            "A fusion has two directions: this is the one that works in L's width.": one_side[l],
            "Each direction has an attention of its own: S's width is missing.": right - 2 * s - 4 * (s * s + s),
            "Each direction has an attention of its own: L's width is missing.": right - 2 * l - 4 * (l * l + l),
        }
    if name == "pairwise":
        found["The same two P serve class tokens and patches."] = 2 * right
    return found


# Long because it is a list of mistakes, one after the other.
def _mac_mistakes(name: str, widths: Pair, patches: Pair) -> dict[str, Any]:
    (s, l), (n_s, n_l), right = widths, patches, _costs(name, widths, patches)[1]
    sides = (s, 1 + n_s), (l, 1 + n_l)
    tokens = 2 + n_s + n_l
    found = {"A multiply-add counts once.": 2 * right, "Count one encoder's fusion, not three.": 3 * right}
    if name == "class_token":
        found |= {
            "Two maps: there and back.": s * l,
            "Only the class tokens go through P.": tokens * s * l,
            "Each map works on one token: there is one sum.": 4 * s * l,
        }
    elif name == "pairwise":
        found |= {
            "The class tokens go through the maps, too.": (n_s + n_l) * s * l,
            "On the way back the sum is mapped on L's grid, and resized afterwards.": 2 * (1 + n_s) * s * l,
            "On the way there S's tokens are mapped before they are resized: 1 + 400 of them, not 1 + 196.": (
                2 * (1 + n_l) * s * l
            ),
            "There and back, not only there.": (1 + n_s) * s * l,
            "The way back maps L's tokens, the way there S's: one of them is missing.": (1 + n_l) * s * l,
            "Only class tokens are counted; here patches go through the maps, too.": 2 * s * l,
        }
    elif name == "all_attention":
        maps = 2 * (1 + n_s) * s * l + 2 * (1 + n_l) * l * l
        within = 2 * (1 + n_s) ** 2 * l + 2 * (1 + n_l) ** 2 * l
        found |= {
            "There are two products: q k^T and A v.": right - tokens**2 * l,
            "The two products are missing: q k^T and A v.": right - 2 * tokens**2 * l,
            "Each token attends to the tokens of both branches.": right - 2 * tokens**2 * l + within,
            "The attention has four projections, with the output's.": right - tokens * l * l,
            "The maps f and g are missing.": right - maps,
            "The maps back, g, are missing (or those there, f).": right - maps // 2,
            "f_l and g_l are maps, too: P(L to L).": right - 2 * (1 + n_l) * l * l,
            "There is no feed-forward network in a fusion.": right + 8 * tokens * l * l,
            "All tokens are queries here, not one: query and output are projected for each.": (
                right - 2 * (tokens - 1) * l * l
            ),
            "The attention runs in L's width, not in S's.": right
            - 2 * tokens**2 * (l - s)
            - 4 * tokens * (l * l - s * s),
            "The class tokens are tokens, too.": 2 * n_s * s * l
            + 2 * n_l * l * l
            + 4 * (n_s + n_l) * l * l
            + 2 * (n_s + n_l) ** 2 * l,
        }
    else:
        one_side = {d: 2 * s * l + 2 * t * d * d + 2 * d * d + 2 * t * d for d, t in sides}
        crossed = 4 * s * l + sum(2 * t * d * d + 2 * d * d + 2 * t * d for d, t in ((s, 1 + n_l), (l, 1 + n_s)))
        found |= {
            "A fusion has two directions: this is the one that works in S's width.": one_side[s],
            "A fusion has two directions: this is the one that works in L's width.": one_side[l],
            "The direction with S's patches as keys works in S's width: widths and patches are crossed.": crossed,
            "The class token is a key, too: 1 + patches of them.": right - sum(2 * d * d + 2 * d for d, _ in sides),
            "There is one query: its projection, and the output's, work on one token.": (
                right + sum(2 * (t - 1) * d * d for d, t in sides)
            ),
            "There is one query: one row of weights, not one for each token.": (
                right + sum(2 * (t - 1) * d * d + 2 * t * (t - 1) * d for d, t in sides)
            ),
            "The projections of the query and of the output are missing.": right - sum(2 * d * d for d, _ in sides),
            "In the products the class token is a key, too: 1 + patches of them.": right - 2 * (s + l),
            "f and g are missing.": right - 4 * s * l,
            "f and g stand in both directions.": right - 2 * s * l,
            "There are two products: q k^T and A v.": right - sum(t * d for d, t in sides),
            "Keys and values are formed here, as the paper counts.": (
                4 * s * l + sum(4 * d * d + 2 * t * d * 2 for d, t in sides)
            ),
        }
    return found


# --- what a table prints

_VERDICTS = {(True, True): "both", (True, False): "with", (False, True): "without", (False, False): "neither"}


def convention(answer: Guarded, seed: int) -> str:
    """convention(parameters, positions, printed): which count rounds to the printed one, with positions or without."""
    draw = random.Random(seed)
    cases = [(26_856_272, 152_064, "26.7"), (26_854_544, 152_064, "27.7"), (5_717_416, 37_824, "5.7")]
    cases += [(22_050_664, 75_648, "22.1"), (24_186_512, 152_064, "24.2"), (26_790_000, 100_000, "26.7")]
    for decimals in (0, 1, 1, 2, 2, 3):
        parameters, positions = draw.randrange(5_000_000, 90_000_000), draw.randrange(20_000, 400_000)
        while any(count * 10**decimals % 1_000_000 == 500_000 for count in (parameters, parameters - positions)):
            parameters += 1  # half-way between two printed numbers: some round it up, some to the even one
        shift = draw.choice((0, positions, positions // 2))
        cases.append((parameters, positions, f"{(parameters - shift) / 1e6:.{decimals}f}"))
    rounded = [_convention_of(*case, lambda x, n: f"{x:.{n}f}") for case in cases]
    causes = {
        "Round, do not cut off the digits behind.": [_convention_of(*case, _cut_off) for case in cases],
        "Round to the nearest, not up.": [
            _convention_of(*case, lambda x, n: f"{math.ceil(x * 10**n) / 10**n:.{n}f}") for case in cases
        ],
        "A million is 10^6, not 2^20.": [
            _convention_of(*case, lambda x, n: f"{x * 1e6 / 2**20:.{n}f}") for case in cases
        ],
        "Compare what is printed: a count fits if it rounds to it, not if it is near it.": [
            _nearly(*case, 0.1) for case in cases
        ],
        "A count fits if it rounds to what is printed: one unit of the last digit away is too far.": [
            _nearly(*case, 10.0 ** -len(case[2].partition(".")[2])) for case in cases
        ],
        "Round to as many decimals as are printed, not always to one.": [
            _VERDICTS[_one_decimal(*case)] for case in cases
        ],
        '"with" and "without" are exchanged: `parameters` counts the position embeddings, too.': [
            {"with": "without", "without": "with"}.get(name, name) for name in rounded
        ],
        "The position embeddings are in `parameters` already: subtract them, do not add them.": [
            _convention_of(parameters, -positions, printed, lambda x, n: f"{x:.{n}f}")
            for parameters, positions, printed in cases
        ],
        'Where both round to the printed number the word is "both".': [
            {"both": "with"}.get(name, name) for name in rounded
        ],
        'Where both round to the printed number the word is "both", not "without".': [
            {"both": "without"}.get(name, name) for name in rounded
        ],
        'Where neither rounds to the printed number the word is "neither".': [
            {"neither": "without"}.get(name, name) for name in rounded
        ],
        'Where neither rounds to the printed number the word is "neither", not "with".': [
            {"neither": "with"}.get(name, name) for name in rounded
        ],
    }
    given = [answer(*case) for case in cases]
    for mine, right, (parameters, positions, printed) in zip(given, rounded, cases):
        refuse_none(mine)
        if mine != right:
            cause = next((words for words, names in causes.items() if names == given), "")
            where = f"{parameters:,} parameters, {positions:,} of them positions, printed {printed}"
            raise Wrong(f"{where}: expected {right!r}, given {mine!r}. {cause}".rstrip())
    return "right, for any number of decimals"


def _convention_of(parameters: int, positions: int, printed: str, text: Callable[[float, int], str]) -> str:
    decimals = len(printed.partition(".")[2])
    with_them, without = (text(count / 1e6, decimals) == printed for count in (parameters, parameters - positions))
    return _VERDICTS[with_them, without]


def _cut_off(x: float, decimals: int) -> str:
    return f"{math.floor(x * 10**decimals) / 10**decimals:.{decimals}f}"


def _nearly(parameters: int, positions: int, printed: str, within: float) -> str:
    near = [abs(count / 1e6 - float(printed)) < within for count in (parameters, parameters - positions)]
    return _VERDICTS[near[0], near[1]]


def _one_decimal(parameters: int, positions: int, printed: str) -> tuple[bool, bool]:
    with_them, without = (round(x / 1e6, 1) == float(printed) for x in (parameters, parameters - positions))
    return with_them, without
