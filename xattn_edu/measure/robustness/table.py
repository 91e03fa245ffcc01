"""The table: which trial is right on which model, as Markdown. `xattn doctor models --write` writes it.

A cell is "right", "refused" or "wrong". A refusal is a ValueError or a TypeError that the case announces.
"""

import functools
import itertools
import textwrap
from pathlib import Path

from xattn_edu.files import first_line
from xattn_edu.measure.robustness.models import CASES
from xattn_edu.measure.robustness.trials import TRIALS

DOCUMENT = Path(__file__).parents[3] / "docs" / "robustness.md"
HEAD = """# Trials of the models: export, copies, precision, batches, hooks, LoRA

This file is written by `xattn doctor models --write`, which tries on every model what users do with models. Do not edit
it: a test compares it with new trials (compiling only a model of each kind). `xattn doctor models` prints it.

The models are built in reduced sizes with random weights, on a CPU. Five columns stand for all names of
`list_models()`, which differ only in sizes: *vit* for `vit_*` and `deit_*`, *crossvit* for `crossvit_*`, *crossvit
dagger* for `crossvit_*_dagger_*`, *swin* for `swin_*`, *lavt* for `lavt_*`.

- **right**: with gradients and without, the numbers are those of the plain model (computed with gradients). Unless a
  trial states a tolerance, they differ by rounding: by less than 0.00002 of the largest number.
- **refused**: a documented ValueError or TypeError, which names the cause; quoted below.
- **wrong**: neither.
- **-**: the trial is about images, and the model takes none.
"""


@functools.cache
def outcome(model: str, trial: str) -> str:
    """What came of a trial: "right", "refused: MESSAGE", "wrong: REASON", or "-" (it is about images alone)."""
    case = CASES[model]
    if trial in ("odd image sizes", "channels_last") and case.odd is None:
        return "-"
    try:
        TRIALS[trial](case)
    except Exception as error:  # noqa: BLE001 - any error of any part is an outcome
        announced = case.refusals.get(trial)
        if announced and isinstance(error, ValueError | TypeError) and announced in str(error):
            return f"refused: {error}"
        return f"wrong: {first_line(error)}"
    return "wrong: it was not refused" if trial in case.refusals else "right"


def markdown(outcomes: dict[tuple[str, str], str] | None = None) -> str:
    """The whole document. Without `outcomes`, keyed by (model, trial), it tries all, which takes some minutes."""
    if outcomes is None:
        outcomes = {(model, trial): outcome(model, trial) for trial in TRIALS for model in CASES}
    rows = [["", *CASES], ["---"] * (len(CASES) + 1)]
    rows += [[trial, *(outcomes[model, trial].partition(":")[0] for model in CASES)] for trial in TRIALS]
    table = "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)
    trials = [_item(name, " ".join((trial.__doc__ or "").split())) for name, trial in TRIALS.items()]
    reasons: dict[tuple[str, str], list[str]] = {}
    for trial, model in itertools.product(TRIALS, CASES):
        if ":" in (text := outcomes[model, trial]):
            reasons.setdefault((trial, text), []).append(model)
    remarks = [_item(f"{trial}: {'; '.join(models)}", text) for (trial, text), models in reasons.items()]
    parts = [HEAD, table + "\n", "## The trials\n", "\n".join(trials) + "\n"]
    parts += ["## What is refused or wrong\n", "\n".join(remarks) + "\n"] if remarks else []
    return "\n".join(parts)


def _item(name: str, text: str) -> str:
    return textwrap.fill(
        f"- **{name}**: {text}", 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
