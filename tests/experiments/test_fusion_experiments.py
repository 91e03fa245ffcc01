"""The recipes on CrossViT's fusions, small, and what the stored runs may claim."""

import contextlib
import io
import json
import math
import runpy
from pathlib import Path

import matplotlib
import pytest
import torch
from torch.nn import functional as F

from xattn_edu.data import hierarchical
from xattn_edu.experiments import (
    EXPERIMENTS,
    catalogue,
    fusion_search,
    load_results,
    small_crossvit,
    train_fusion,
)
from xattn_edu.experiments.fusions import (
    BEST_RATES,
    RATES,
    RECIPE,
    SETTINGS,
    TASKS,
    branch_accuracies,
    letters_loss,
    shift_and_erase,
)
from xattn_edu.experiments.sets import task_sets
from xattn_edu.experiments.sizes import FUSION_SIZES
from xattn_edu.measure import costs
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.models.fusions import FUSIONS, PAPER_FUSIONS, NoFusion

TINY = {"profile": "ci", "train_images": 128, "test_images": 100, "epochs": 1, "device": "cpu", "progress": False}


@pytest.mark.parametrize("task", TASKS)
class TestSets:
    def test_fit_the_model(self, task):
        train_set = task_sets(task, 128, 100).train
        *views, targets = train_set.tensors
        assert [view.shape[-1] for view in views] == list(TASKS[task].image_sizes)[: len(views)]
        model = small_crossvit(task, "none", FUSION_SIZES["ci"])
        assert TASKS[task].loss(model(*(view[:8] for view in views)), targets[:8]).isfinite()

    def test_train_choose_and_test_share_no_image(self, task):
        """Of all images: also of those that a tiny run does not take."""
        everything = 12_000 if task == "fashion" else 3000
        choosing, testing = (task_sets(task, everything, 2000, split=split) for split in ("validation", "test"))
        assert len(testing.train) == everything and len(testing.test) == len(choosing.choose) == 2000
        assert len(choosing.train) == everything - (2000 if task == "fashion" else 0)
        train, choose, test, trained = (
            {tuple(view.numpy().tobytes() for view in views) for views in zip(*samples.tensors[:-1])}
            for samples in (choosing.train, choosing.choose, testing.test, testing.train)
        )
        assert not train & choose and not (train | choose | trained) & test


def test_the_loss_of_letters_is_of_pair_and_relation():
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 20), torch.tensor([[5, 2], [0, 0], [15, 2]])
    expected = 0.0
    for row, (pair, relation) in zip(logits, targets):
        expected -= row[:16].log_softmax(0)[pair] + row[16:].log_softmax(0)[relation]
    torch.testing.assert_close(letters_loss(logits, targets), expected / 3)


def test_shift_and_erase():
    torch.manual_seed(0)
    images = torch.rand(64, 1, 28, 28) + 1
    changed = shift_and_erase(images)
    assert changed.shape == images.shape and set((changed == 0).sum((1, 2, 3)).tolist()) == {64}
    shifts = set()
    for image, new in zip(images[:, 0], changed[:, 0]):
        padded = [F.pad(view[None], (3, 3, 3, 3), mode="replicate")[0] for view in (image, image.flip(1))]
        fits = [
            (dy, dx, mirrored)
            for mirrored in (False, True)
            for dy in range(7)
            for dx in range(7)
            if ((new == 0) | (new == padded[mirrored][dy : dy + 28, dx : dx + 28])).all()
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) > 30 and {mirrored for *_, mirrored in shifts} == {False, True}
    for steps in list(zip(*shifts))[:2]:  # from 3 pixels up or left to 3 down or right
        assert set(steps) == set(range(7))
    blanks = (shift_and_erase(torch.ones(1000, 1, 28, 28))[:, 0] == 0).nonzero()
    for axis in (1, 2):  # the blanked square may touch every edge
        assert blanks[:, axis].min() == 0 and blanks[:, axis].max() == 27


def test_accuracies_of_the_heads():
    test_set = task_sets("letters", 128, 60).test
    torch.manual_seed(0)
    model = small_crossvit("letters", "cross_attention", FUSION_SIZES["ci"]).train()
    found = branch_accuracies(model, test_set, batch_size=7)
    assert model.training
    model.eval()
    right = dict.fromkeys(found, 0)
    for fovea, thumbnail, (pair, relation) in test_set:
        with torch.no_grad():
            both = model.branch_logits(fovea[None], thumbnail[None])[0][0]
        for name, scores in (("test", both.mean(0)), ("small", both[0]), ("large", both[1])):
            right[f"{name}_accuracy"] += int(scores[16:].argmax() == relation)
            right[f"pair_{name}_accuracy"] += int(scores[:16].argmax() == pair)
    assert found == pytest.approx({name: n / 60 for name, n in right.items()})


def test_a_run_and_its_record():
    result = train_fusion("cues", "pairwise", 3, **TINY)
    record = result.record()
    assert record["config"]["learning_rate"] == BEST_RATES["cues"]["pairwise"]
    assert record["config"] | {"task": "cues", "fusion": "pairwise", "seed": 3, "split": "test"} == record["config"]
    assert {"test_accuracy", "small_accuracy", "large_accuracy"} <= record["metrics"].keys()
    again = train_fusion("cues", "pairwise", 3, **TINY)
    assert all(torch.equal(a, b) for a, b in zip(result.model.state_dict().values(), again.model.state_dict().values()))


def test_cost_is_counted_as_the_paper_counts():
    result = train_fusion("cues", "cross_attention", **TINY)
    model = small_crossvit("cues", "cross_attention", FUSION_SIZES["ci"], folded=False)
    assert result.macs == costs.count(model, *(torch.zeros(1, 1, 32, 32) for _ in range(2))).macs
    assert result.macs > costs.count(result.model, *(torch.zeros(1, 1, 32, 32) for _ in range(2))).macs
    assert result.parameters == sum(p.numel() for p in result.model.parameters())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: train_fusion("letter", "none", **TINY), "task must be one of fashion, letters, cues, given 'letter'"),
        (lambda: train_fusion("letters", "cross", **TINY), "fusion must be one of none"),
        (lambda: train_fusion("letters", "none", split="train", **TINY), "split must be one of test, validation"),
        (lambda: fusion_search("shorter", "none", **TINY), "setting must be one of little_data"),
        (lambda: train_fusion("letters", "none", **(TINY | {"profile": "tpu"})), "no profile is called 'tpu'"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# A sixth fusion.


class Halved(NoFusion):
    """The branches keep to themselves, and every token is halved."""

    def forward(self, small, large, return_weights=False):
        return small / 2, large / 2, {}


@pytest.fixture
def sixth(monkeypatch):
    monkeypatch.setitem(FUSIONS, "sixth", Halved)


@pytest.mark.usefixtures("sixth")
def test_a_sixth_fusion_can_be_trained_with_a_rate():
    result = train_fusion("cues", "sixth", rate=1e-3, **TINY)
    assert {type(fusion) for fusion in result.model.fusions} == {Halved}
    assert (result.config["fusion"], result.config["learning_rate"]) == ("sixth", 1e-3)
    with pytest.raises(ValueError, match="no learning rate was chosen for the fusion 'sixth' on cues: give rate="):
        train_fusion("cues", "sixth", **TINY)


@pytest.mark.usefixtures("sixth")
def test_a_sixth_fusion_changes_no_experiment():
    """The catalogue is run anew, so that it would see the sixth."""
    anew = runpy.run_path(catalogue.__file__)["EXPERIMENTS"]
    assert {name: experiment.grid for name, experiment in anew.items()} == {
        name: experiment.grid for name, experiment in EXPERIMENTS.items()
    }
    for name in ("fusions", "fusion-rates", "fusion-search"):
        assert anew[name].grid["fusion"] == PAPER_FUSIONS


@pytest.mark.usefixtures("sixth")
def test_a_sixth_fusion_does_not_break_notebook_8():
    """Every cell that reads the fusions without training them prints its stored output."""
    path = Path(__file__).parents[2] / "notebooks" / "08_four_fusions.ipynb"
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    names, ran = {}, 0
    with matplotlib.rc_context():
        for cell in cells:
            source = "".join(cell["source"])
            if "FUSIONS" in source and "train_fusion" not in source:
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(source, names)
                stored = ["".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream"]
                assert printed.getvalue() == "".join(stored)
                ran += 1
    names["plt"].close("all")
    assert ran > 8


# What is stored.


def stored(name: str) -> list[dict]:
    return [run for run in load_results(name) if run["profile"] == "ci"]


def test_the_rates_are_those_that_were_best_on_held_out_images():
    runs = stored("fusion-rates")
    assert {run["split"] for run in runs} == {"validation"}
    for task in TASKS:
        for fusion in PAPER_FUSIONS:
            of_both = [run for run in runs if (run["task"], run["fusion"]) == (task, fusion)]
            assert sorted(run["rate"] for run in of_both) == sorted(RATES)
            best = max(of_both, key=lambda run: run["test_accuracy"])
            assert BEST_RATES[task][fusion] == best["rate"]


def test_every_fusion_has_five_seeds_and_the_same_budget():
    runs = stored("fusions")
    for task in TASKS:
        of_task = [run for run in runs if run["task"] == task]
        assert len({(run["train_images"], run["epochs"], run["steps"], run["test_images"]) for run in of_task}) == 1
        for fusion in PAPER_FUSIONS:
            seeds = [run["seed"] for run in of_task if run["fusion"] == fusion]
            assert sorted(seeds) == list(range(len(seeds))) and len(seeds) >= 5
        assert {run["learning_rate"] for run in of_task if run["fusion"] == "none"} == {BEST_RATES[task]["none"]}


def test_the_glyphs_alone_allow_no_more_than_guessing():
    """Without fusion the marked letter cannot be found: no run is better than the best guess from the glyphs."""
    runs = [run for run in stored("fusions") if (run["task"], run["fusion"]) == ("cues", "none")]
    noise = 2 * math.sqrt(0.25 / runs[0]["test_images"])
    assert all(run["test_accuracy"] < hierarchical.GLYPHS_ALONE + noise for run in runs)


@pytest.mark.parametrize("name", ["fusion-rates", "fusions", "fusion-search"])
def test_stored_runs_are_those_of_the_recipe_as_it_is_now(name):
    for run in stored(name):
        assert {key: run[key] for key in RECIPE} == RECIPE and run["test_images"] == 2000
        assert run["test_accuracy"] == run["history"]["test_accuracy"][-1]
        assert (run["widths"], run["depths"]) == (list(FUSION_SIZES["ci"].widths), list(FUSION_SIZES["ci"].depths))
        if name == "fusion-search":
            changed = SETTINGS[run["setting"]]
            assert run["task"] == changed.get("task", "fashion") and run["epochs"] == changed["epochs"]
            assert run["encoders"] == changed.get("encoders", 2) and run["train_images"] == changed.get(
                "train_images", 12_000
            )
            assert run["augment"] == (changed["augment"].__name__ if "augment" in changed else run["augment"])
        else:
            assert (
                run["epochs"] == FUSION_SIZES["ci"].epochs[run["task"]]
                and run["encoders"] == FUSION_SIZES["ci"].encoders
            )


def accuracies(task: str, fusion: str, head: str = "test") -> list[float]:
    """In %, a seed each."""
    runs = sorted((r for r in stored("fusions") if (r["task"], r["fusion"]) == (task, fusion)), key=lambda r: r["seed"])
    return [100 * run[f"{head}_accuracy"] for run in runs]


class TestClaims:
    """What notebook 8 says of the stored runs: the paper's two findings, and where they do not come out."""

    def mean(self, task, fusion, head="test"):
        return mean_interval(accuracies(task, fusion, head))

    def test_without_fusion_one_head_at_chance_and_the_other_carries_it_in_cues(self):
        assert self.mean("cues", "none", "large").high < 27  # chance is 25
        assert self.mean("cues", "none", "small").low > 30

    def test_but_not_in_fashion(self):
        """The paper's finding does not carry over: S alone is weaker than L, but far from the chance of 10 %."""
        assert self.mean("fashion", "none", "small").low > 50
        gap = mean_interval(l - s for l, s in zip(*(accuracies("fashion", "none", h) for h in ("large", "small"))))
        assert gap.low > 5

    @pytest.mark.parametrize("fusion", ["cross_attention", "class_token", "pairwise"])
    def test_with_cross_attention_both_heads_are_informative_but_not_with_it_alone(self, fusion):
        for task, chance in (("fashion", 10), ("letters", 25)):
            for head in ("small", "large"):
                assert self.mean(task, fusion, head).low > 2 * chance

    def test_that_branches_talk_decides_the_letters(self):
        for fusion in PAPER_FUSIONS:
            gap = mean_interval(a - b for a, b in zip(accuracies("letters", fusion), accuracies("letters", "none")))
            assert fusion == "none" or gap.low > 50

    def test_only_pairwise_fusion_finds_the_letter_under_the_glow(self):
        assert min(accuracies("cues", "pairwise")) > 70
        for fusion in ("all_attention", "class_token", "cross_attention"):
            assert max(accuracies("cues", fusion)) < 100 * hierarchical.GLYPHS_ALONE

    def test_cross_attention_is_ahead_of_no_fusion_by_no_more_than_the_intervals_in_fashion(self):
        for fusion in PAPER_FUSIONS:
            gap = [a - b for a, b in zip(accuracies("fashion", "cross_attention"), accuracies("fashion", fusion))]
            assert fusion == "cross_attention" or mean_interval(gap).low < 0
