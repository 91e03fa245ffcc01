"""The table of docs/robustness.md: each cell is tried again, and the trials see what is wrong."""

import fnmatch

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xattn_edu import check_shapes, create_model, list_models
from xattn_edu.measure.robustness import table
from xattn_edu.measure.robustness.models import CASES, Case, reduced
from xattn_edu.measure.robustness.trials import TRIALS

REGISTERED = {  # case: the names of the registry that it stands for
    "vit": ("vit_*", "deit_*"),
    "crossvit dagger": ("crossvit_*_dagger_*",),
    "crossvit": ("crossvit_*_240",),  # but for those above
    "swin": ("swin_*",),
    "lavt": ("lavt_*",),
}


@pytest.fixture(autouse=True)
def as_users_have_it(one_thread):
    """Checks of shapes are off, as they are unless one turns them on, and one thread runs."""
    check_shapes(False)
    yield
    check_shapes()


def case_of(name):
    return next(case for case, patterns in REGISTERED.items() if any(fnmatch.fnmatch(name, p) for p in patterns))


@pytest.mark.parametrize("name", list_models())
def test_every_name_of_the_registry_is_the_model_of_its_case_in_the_reduced_size(name):
    with torch.device("meta"):
        model, expected = create_model(name, **reduced(name)), CASES[case_of(name)].build()
    assert str(model) == str(expected)
    shapes, expected_shapes = ({k: v.shape for k, v in one.state_dict().items()} for one in (model, expected))
    assert shapes == expected_shapes


# Compiling takes up to a minute a model, five of all the trials' seven: here it is tried on a model of each kind.
COMPILED = {"vit", "crossvit", "swin", "Transformer", "PWAM", "attention"}
LEFT_OUT = {(model, "compile") for model in CASES if model not in COMPILED}
CELLS = [(model, trial) for model in CASES for trial in TRIALS if (model, trial) not in LEFT_OUT]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "trial"), CELLS)
def test_a_trial_of_a_model_is_right_or_refused(model, trial):
    found = table.outcome(model, trial)
    assert found in ("right", "-") or found.startswith("refused"), found


@pytest.mark.slow
def test_the_document_is_what_the_command_writes():
    outcomes = {cell: table.outcome(*cell) for cell in CELLS} | dict.fromkeys(LEFT_OUT, "right")
    assert table.DOCUMENT.read_text(encoding="utf-8") == table.markdown(outcomes)


# --- planted faults: the trials see them


class Right(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(4, 4)

    def forward(self, images):
        return self.query(self.prepare(images))

    def prepare(self, images):
        return images.flatten(2).mean(dim=2)


class Shortcut(Right):
    def forward(self, images):
        if torch.is_grad_enabled():
            return super().forward(images)
        return F.linear(self.prepare(images), self.query.weight, self.query.bias)


class NeverCalled(Right):
    def forward(self, images):
        return F.linear(self.prepare(images), self.query.weight, self.query.bias)


class OddAloneWithoutGradients(Right):
    def forward(self, images):
        tokens = super().forward(images)
        return tokens if torch.is_grad_enabled() else tokens + 0.01


class BatchStatistics(Right):
    def prepare(self, images):
        tokens = super().prepare(images)
        return tokens - tokens.mean(dim=0)


class FixedBatch(Right):
    def prepare(self, images):
        return super().prepare(images) + torch.zeros(int(images.shape[0]), 4)


class DependsOnData(Right):
    def prepare(self, images):
        tokens = super().prepare(images)
        return tokens if float(tokens.sum()) < 1e9 else -tokens


class LostTable(Right):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(4.0), persistent=False)

    def prepare(self, images):
        return super().prepare(images) + self.table


class OnePrecision(Right):
    def forward(self, images):
        return super().forward(images).float()


class CoarseInHalf(Right):
    def forward(self, images):
        return super().forward(images) + 64.0 - 64.0


class NeedsOneLayout(Right):
    def prepare(self, images):
        return images.view(len(images), 24).unflatten(1, (4, 6)).mean(dim=2)


class ReadsItsParameters(Right):
    def prepare(self, images):
        return super().prepare(images).to(next(self.parameters()).dtype)


class KeepsItself(Right):
    def __init__(self):
        super().__init__()
        self.run = lambda images: Right.forward(self, images)

    def forward(self, images):
        return self.run(images)


def planted(build, **more):
    images = torch.randn(8, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    return Case(build, lambda batch: (images[:batch],), lambda model: ([torch.ones(1)], [torch.ones(1)]), **more)


LORA = {"LoRA, a subclass", "LoRA, a wrapper"}
FAULTS = {
    Right: set(),
    Shortcut: {"quantize_dynamic", "FSDP", "hooks", *LORA},
    NeverCalled: {"quantize_dynamic", "FSDP", "hooks", *LORA},
    BatchStatistics: {"batch 1"},
    LostTable: {"meta, then load"},
    OnePrecision: {"float64 default"},
    CoarseInHalf: {"bf16 autocast"},
    NeedsOneLayout: {"channels_last"},
    ReadsItsParameters: {"DataParallel", "quantize_dynamic"},  # which have none
    KeepsItself: {"deepcopy", "pickle", "quantize_dynamic"},
}
SLOW = {"export", "export, dynamic batch", "compile"}


@pytest.mark.parametrize("build", FAULTS, ids=lambda build: build.__name__)
def test_a_planted_fault_is_seen_by_the_trials_that_it_is_for_and_by_no_other(build, monkeypatch):
    monkeypatch.setitem(CASES, build.__name__, planted(build))
    seen = {trial for trial in TRIALS if trial not in SLOW and table.outcome(build.__name__, trial) != "right"}
    assert seen == FAULTS[build]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "trials"),
    [(Right, set()), (FixedBatch, {"export, dynamic batch"}), (DependsOnData, {"export", "export, dynamic batch"})],
)
def test_a_fault_in_a_program_is_seen(build, trials, monkeypatch):
    monkeypatch.setitem(CASES, build.__name__, planted(build))
    assert {trial for trial in SLOW if table.outcome(build.__name__, trial) != "right"} == trials


def test_numbers_that_differ_without_gradients_alone_are_wrong_in_every_trial_of_numbers(monkeypatch):
    monkeypatch.setitem(CASES, "planted", planted(OddAloneWithoutGradients))
    for trial in TRIALS.keys() - SLOW - {"quantize_dynamic", "bf16 autocast", "batch 0", "odd image sizes"}:
        assert "without gradients: differs by" in table.outcome("planted", trial), trial


class Refuses(Right):
    def forward(self, images):
        if len(images) < 2:
            raise ValueError(f"two images at least, given {len(images)}")
        return super().forward(images)


def test_a_refusal_counts_only_if_it_is_announced(monkeypatch):
    announced = {"batch 0": "two images at least", "batch 1": "three images", "hooks": "two images at least"}
    monkeypatch.setitem(CASES, "refuses", planted(Refuses, refusals=announced))
    assert table.outcome("refuses", "batch 0") == "refused: two images at least, given 0"
    assert table.outcome("refuses", "batch 1") == "wrong: ValueError: two images at least, given 1"
    assert table.outcome("refuses", "hooks") == "wrong: it was not refused"
