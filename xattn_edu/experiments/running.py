"""The one way in which an experiment is run: seed, build, train, measure, and record what was done."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from xattn_edu.experiments.records import ACCURACY, Result
from xattn_edu.experiments.sets import Sets
from xattn_edu.machine import seed_everything
from xattn_edu.measure import costs
from xattn_edu.shapes import python_number
from xattn_edu.training.loop import train

Size = TypeVar("Size")
Numbers = dict[str, float]

RECORDED = ("seed", "epochs", "batch_size", "learning_rate", "weight_decay", "warmup", "clip", "augment")
OF_TRAINING = {"epoch", "step", "loss", "accuracy", "seconds", "cpu_seconds"}  # columns that `train` itself writes


# Long because each of its parameters has a line in the signature and one in the list.
def run(
    names: dict[str, Any],
    size: Size,
    build: Callable[[Size], nn.Module],
    sets: Sets,
    settings: dict[str, Any],
    *,
    score: str,
    shown: Sequence[str] = (),
    watch: Callable[[Any, Any], Numbers] | None = None,
    finish: Callable[[Any, Sets], Numbers] | None = None,
    evaluate_every: int = 1,
    prepare: Callable[[Tensor], Tensor] | None = None,
    counted: Callable[[Size], nn.Module] | None = None,
    score_name: str = ACCURACY,
) -> Result:
    """Run an experiment. The record is made from `size`, `sets` and `settings`, the very objects that the run uses.

    Args:
        names: the record's first entries: which model and which task it is.
        size: what the model is built from.
        build: `build(size)` is the model, with the first weights that `settings["seed"]` draws.
        sets: what it is trained on and measured with.
        settings: `train`'s arguments; those in RECORDED that it has go into the record.
        score: the number that is the result's score.
        shown: the attributes of `size` that go into the record.
        watch: `watch(model, sets.measured)` are numbers for the history; the last ones are the run's.
        finish: `finish(model, sets)` are the run's other numbers, computed after training.
        evaluate_every: epochs between two calls of `watch`.
        prepare: makes the stored first inputs what the model takes; for runs without `settings["augment"]`.
        counted: the model whose cost is recorded, if it is another way to compute the same.
        score_name: what the score is called.
    """
    # A record is JSON, which knows no numbers of NumPy or torch.
    names, settings = ({name: python_number(value) for name, value in given.items()} for given in (names, settings))
    recorded = {name: settings[name] for name in RECORDED if name in settings}
    if (augment := recorded.get("augment")) is not None:
        recorded["augment"] = getattr(augment, "__name__", type(augment).__name__)
    seed_everything(settings["seed"])
    model = build(size)
    first, *others = (tensor[:1] for tensor in sets.train.tensors[:-1])
    inputs = (first if prepare is None else prepare(first), *others)
    cost = costs.count(model if counted is None else counted(size), *inputs)
    history = train(
        model,
        sets.train,
        **({"augment": prepare} | settings),
        evaluate=None if watch is None else lambda trained: watch(trained, sets.measured),
        evaluate_every=evaluate_every,
    )
    found = {name: history[name][-1] for name in history.columns if name not in OF_TRAINING}
    found |= {} if finish is None else finish(model, sets)
    counts = {f"train_{sets.unit}": len(sets.train), f"test_{sets.unit}": len(sets.measured)}
    return Result(
        config=names
        | {name: python_number(getattr(size, name)) for name in shown}
        | recorded
        | counts
        | {"steps": int(history["step"][-1])},
        model=model,
        history=history,
        score=found.pop(score),
        parameters=cost.parameters,
        macs=cost.macs,
        more=found,
        score_name=score_name,
    )
