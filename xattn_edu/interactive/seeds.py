"""Experiments of a few seeds, drawn from the stored spread: lesson 12, section 12.6."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from xattn_edu.experiments import load_results
from xattn_edu.interactive.picture import Picture
from xattn_edu.measure.intervals import mean_interval, power_of, seeds_needed
from xattn_edu.plots.style import GREY, ORANGE, SKY

PAPERS_LEAD = 2.5  # points of mIoU: what the language pathway adds to PWAM in LAVT's table 2
SPREADS = {"the reduced LAVT": "lavt", "a finer LAVT": "lavt-finer"}  # experiments, as `load_results` names them
EXPERIMENTS = 24  # in the still picture


def seeds(lead: float = PAPERS_LEAD) -> Picture:
    """Draw experiments of n seeds with a true `lead` in points; the spread is that of the stored runs of LAVT.

    Raises ValueError for a lead that is not 0 to 10, the slider's ends, and FileNotFoundError if fewer than two
    seeds of both models are stored.
    """
    if not 0 <= lead <= 10:
        raise ValueError(f"lead must be 0 to 10 points of mIoU, given {lead}")
    data = {"lead": lead, "spreads": [spread(name, stored) for name, stored in SPREADS.items()]}
    return Picture("seeds", "How often do a few seeds show a lead?", data, draw)


def spread(name: str, experiment: str) -> dict[str, Any]:
    """The stored leads of LAVT over LAVT without its pathway, seed by seed, and their standard deviation.

    Raises FileNotFoundError if fewer than two seeds of both models are stored.
    """
    scores: dict[str, dict[int, float]] = {"lavt": {}, "lavt_pwam": {}}
    for run in load_results(experiment):
        if run["model"] in scores and run["profile"] == "ci":
            scores[run["model"]][run["seed"]] = 100 * run["mIoU"]
    leads = [
        scores["lavt"][seed] - scores["lavt_pwam"][seed] for seed in sorted(scores["lavt"].keys() & scores["lavt_pwam"])
    ]
    if len(leads) < 2:
        raise FileNotFoundError(f"{experiment} has {len(leads)} seeds of both models in results/, a spread needs two")
    return {"name": name, "leads": leads, "deviation": float(np.std(leads, ddof=1))}


def draw(data: dict[str, Any]) -> Figure:
    """The still picture: some experiments of as many seeds as are stored, and the power by the number of seeds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    lead, first = data["lead"], data["spreads"][0]
    count, deviation = len(first["leads"]), first["deviation"]
    drawn = np.random.default_rng(0).normal(lead, deviation, (EXPERIMENTS, count))
    shown = 0
    for row, leads in enumerate(drawn):
        mean, half = mean_interval(leads)
        seen = abs(mean) > half
        shown += seen
        left.errorbar(mean, row, xerr=half, fmt="o", ms=4, color=ORANGE if seen else GREY)
    left.axvline(0, color="black", lw=1)
    left.axvline(lead, color=SKY, ls="--")
    left.set(yticks=[], xlabel="lead in points, 95 % interval")
    left.set_title(f"{count} seeds: {shown} of {EXPERIMENTS} experiments show it")
    each = range(2, 101)
    for spread, colour in zip(data["spreads"], (SKY, ORANGE)):
        needed = f", {seeds_needed(spread['deviation'], lead)} seeds" if lead else ""  # no number shows a lead of 0
        label = f"{spread['name']}: spread {spread['deviation']:.1f}{needed}"
        right.plot(each, [power_of(n, lead, spread["deviation"]) for n in each], color=colour, label=label)
    right.axhline(0.8, color=GREY, ls=":")
    right.set(xlabel="seeds", ylabel="share of experiments that show it", ylim=(0, 1.02))
    right.set_title(f"How often a lead of {lead:g} points is seen")
    right.legend(fontsize=9, loc="lower right")
    return figure
