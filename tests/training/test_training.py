"""The training loop: it learns, it is repeatable to the bit, and it refuses bad input."""

import math
import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from helpers.small_runs import (
    RUN,
    Interrupted,
    blobs_for_chance,
    interrupted,
    noise,
    small_model,
    small_set,
    state,
    without_times,
)
from helpers.state_dicts import equal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

from xattn_edu.data.batches import epoch_batches
from xattn_edu.machine import seed_from
from xattn_edu.measure.accuracy import accuracy
from xattn_edu.training.history import History
from xattn_edu.training.loop import adamw, cosine_schedule, train

# --- learning


@pytest.mark.slow
def test_it_learns():
    model, test_set = small_model(), small_set(300, seed=1)
    before = accuracy(model, test_set)
    history = train(model, small_set(300), epochs=20, batch_size=20, learning_rate=1e-2, device="cpu")
    assert accuracy(model, test_set) > max(0.8, before + 0.2)
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert not model.training


def test_history_is_the_mean_over_samples_not_over_batches():
    """With a learning rate too small to matter, loss and accuracy are those of the untouched model."""
    data, model = small_set(21), small_model(stochastic_depth=0.0)
    with torch.no_grad():
        logits = model.eval()(data.tensors[0])
    history = train(model, data, epochs=1, batch_size=8, learning_rate=1e-12, device="cpu")
    assert history["loss"][0] == pytest.approx(F.cross_entropy(logits, data.tensors[1]).item(), rel=1e-5)
    assert history["accuracy"][0] == pytest.approx((logits.argmax(1) == data.tensors[1]).float().mean().item())
    assert history["step"] == [3]


def test_all_parameters_follow_the_schedule():
    """Several steps by hand: the rate of biases and norms rises and falls as that of the matrices does."""
    data, model, by_hand = small_set(8), small_model(stochastic_depth=0.0), small_model(stochastic_depth=0.0)
    train(model, data, epochs=6, batch_size=8, learning_rate=1e-2, warmup=0.5, clip=None, device="cpu")
    optimizer = adamw(by_hand, 1e-2, 0.05)
    for step in range(6):
        indices = epoch_batches(8, 8, seed=0, epoch=step)[0]
        F.cross_entropy(by_hand(data.tensors[0][indices]), data.tensors[1][indices]).backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * cosine_schedule(step, 6, 0.5)
        optimizer.step()
        optimizer.zero_grad()
    assert equal(state(model), state(by_hand))


def test_one_step_is_adamw_with_clipped_gradient():
    data, model, by_hand = small_set(8), small_model(stochastic_depth=0.0), small_model(stochastic_depth=0.0)
    train(model, data, epochs=1, batch_size=8, learning_rate=1e-2, warmup=0.0, clip=0.01, device="cpu")
    optimizer = adamw(by_hand, 1e-2, 0.05)
    indices = epoch_batches(8, 8, seed=0, epoch=0)[0]
    F.cross_entropy(by_hand(data.tensors[0][indices]), data.tensors[1][indices]).backward()
    norm = torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 0.01)
    optimizer.step()
    assert norm > 0.01
    assert equal(state(model), state(by_hand))


def test_several_inputs_any_loss_any_dataset():
    class Pairs(Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            x = torch.tensor([index / 10.0])
            return x, 2 * x, 3 * x

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, first, second):
            return first * self.weight[0] + second * self.weight[1]

    model = Sum()
    history = train(model, Pairs(), epochs=60, batch_size=4, learning_rate=0.05, loss=F.mse_loss, device="cpu")
    assert history["loss"][-1] < 1e-2
    assert (model.weight[0] + 2 * model.weight[1]).item() == pytest.approx(3, abs=0.2)
    assert "accuracy" not in history.columns


def test_evaluation_rows():
    modes = []

    def evaluate(model):
        modes.append(model.training)
        return {"test accuracy": accuracy(model, small_set())}

    history = train(small_model(), small_set(), **RUN | {"epochs": 5}, evaluate=evaluate, evaluate_every=2)
    assert ["test accuracy" in row for row in history.rows] == [False, True, False, True, True]
    assert len(history["test accuracy"]) == 3
    assert modes == [True, True, True]  # `accuracy` itself switches to eval mode, and back


def test_evaluation_changes_nothing():
    plain, watched = small_model(), small_model()
    train(plain, small_set(), **RUN)
    train(watched, small_set(), **RUN, evaluate=lambda model: {"chance": float(model.eval() and torch.rand(1))})
    assert equal(state(plain), state(watched))


def test_divergence_is_named():
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(small_model(), small_set(), **RUN | {"augment": lambda images: images * math.nan})


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_batch_in_parts_trains_like_the_whole_batch(parts):
    """53 samples: parts of 3, 3 and 2 samples, and in the last batch of 5 of 2, 2 and 1; chance in `augment` too."""
    whole, cut = small_model(stochastic_depth=0.0), small_model(stochastic_depth=0.0)
    history = train(whole, small_set(), **RUN)
    sizes = []
    cut.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    again = train(cut, small_set(), **RUN, accumulate=parts)
    expected = {2: [4, 4], 3: [3, 3, 2], 8: [1] * 8}[parts]
    assert sizes[1 : 1 + len(expected)] == expected and sum(sizes[1:]) == 3 * 53  # the first is of `check_data`
    for name, tensor in state(whole).items():
        if not name.endswith("key.bias"):  # the loss does not depend on it, and AdamW makes steps of the rounding
            torch.testing.assert_close(tensor, state(cut)[name], atol=1e-6, rtol=0)
    for row, other in zip(without_times(history), without_times(again), strict=True):
        assert row == pytest.approx(other, rel=1e-5)


class RootAtZero(nn.Module):
    """Its loss is finite, and the derivative is not: that of a square root at 0, from a step on."""

    def __init__(self, steps):
        super().__init__()
        self.weight, self.steps = nn.Parameter(torch.ones(())), steps

    def forward(self, x):
        self.steps -= 1
        return self.weight + (0 * self.weight).sqrt() if self.steps < 0 else self.weight * x.mean()


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize(("steps", "epoch"), [(7, 2), (2, 1), (5, 2)])  # the last step; before a checkpoint
def test_a_gradient_that_is_no_number_is_never_kept(tmp_path, clip, steps, epoch):
    """4 steps an epoch, and a checkpoint every 3 steps."""
    data = TensorDataset(torch.ones(8, 1), torch.ones(8))
    path = tmp_path / "run.safetensors"
    run = {"epochs": 2, "batch_size": 2, "loss": first_of, "clip": clip, "device": "cpu", "progress": False}
    with pytest.raises(FloatingPointError, match=f"weight is not finite in epoch {epoch}.*derivative"):
        train(RootAtZero(steps), data, **run, checkpoint=path, checkpoint_every=3)
    if path.exists():
        from safetensors.torch import load_file

        kept = {name: tensor for name, tensor in load_file(path).items() if name != "totals"}  # no accuracy here: NaN
        assert all(tensor.isfinite().all() for tensor in kept.values())


def first_of(output, target):
    return output + 0 * target.sum()


# --- the pieces


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 9), st.integers(0, 9))
def test_every_sample_once_an_epoch(samples, batch_size, seed, epoch):
    batches = epoch_batches(samples, batch_size, seed, epoch)
    assert sorted(torch.cat(batches).tolist()) == list(range(samples))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)


def test_order_depends_on_seed_and_epoch():
    orders = [torch.cat(epoch_batches(50, 8, seed, epoch)).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(map(tuple, orders))) == 4
    assert orders[0] == torch.cat(epoch_batches(50, 16, 0, 0)).tolist()


def test_schedule_shape():
    rates = [cosine_schedule(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1 and max(rates) == 1
    assert all(a < b for a, b in zip(rates[:9], rates[1:10]))
    assert all(a > b for a, b in zip(rates[10:], rates[11:]))
    assert rates[55] == pytest.approx(0.5) and 0 < rates[-1] < 1e-3
    assert cosine_schedule(0, 1, 0.0) == 1


def test_what_decays():
    model = small_model()
    decayed, kept = adamw(model, 1e-3, 0.1).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    kept_names = {names[id(parameter)] for parameter in kept["params"]}
    assert kept["weight_decay"] == 0 and decayed["weight_decay"] == 0.1
    assert {"class_token", "positions", "norm.weight", "head.bias", "blocks.0.norm1.bias"} <= kept_names
    assert {names[id(p)] for p in decayed["params"]} == {n for n in names.values() if n not in kept_names}
    assert all(name.endswith("weight") for name in names.values() if name not in kept_names)


def test_fixed_positions_stay_fixed():
    model = small_model(positions="sincos")
    before = model.positions.clone()
    train(model, small_set(), **RUN | {"epochs": 1})
    assert torch.equal(before, model.positions)


# --- repeatable, and interrupted


def test_same_seed_same_bits_another_seed_other_bits():
    results = []
    for seed in (0, 0, 1):
        model = small_model()
        torch.manual_seed(len(results))  # whatever the generators' state outside
        history = train(model, small_set(), **RUN, seed=seed)
        results.append((state(model), without_times(history)))
    assert equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]
    assert not equal(results[0][0], results[2][0])


# --- bad input


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 0}, "epochs.*0"),
        ({"batch_size": 0}, "batch_size.*0"),
        ({"accumulate": 0}, "accumulate must be 1 to 8, given 0"),
        ({"accumulate": 9}, "accumulate must be 1 to 8, given 9"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"weight_decay": math.inf}, "weight_decay"),
        ({"warmup": 1.0}, "warmup"),
        ({"clip": 0.0}, "clip"),
        ({"seed": -1}, "seed"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"checkpoint": "no/such/folder/run.safetensors"}, "folder.*no/such/folder"),
        ({"checkpoint": "~nobody-has-this-name/run.safetensors"}, "~nobody.*write the whole path"),
        ({"checkpoint": "x" * 256}, "256 bytes long"),
        ({"device": "tpu"}, "'tpu'"),
    ],
)
def test_bad_arguments_before_any_work(change, named):
    model = small_model()
    before = state(model)
    with pytest.raises(ValueError, match=named):
        train(model, small_set(), **RUN | {"augment": interrupted(noise, 0)} | change)
    assert equal(before, state(model))


@pytest.mark.parametrize("name", ["epochs", "batch_size", "accumulate", "seed", "evaluate_every", "checkpoint_every"])
@pytest.mark.parametrize("wrong", [3.0, "3", True, torch.tensor([3, 3])])
def test_counts_and_seeds_are_whole_numbers(name, wrong):
    with pytest.raises(TypeError, match=f"{name} must be an int"):
        train(small_model(), small_set(), **RUN | {"augment": interrupted(noise, 0), name: wrong})


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "warmup", "clip"])
@pytest.mark.parametrize("wrong", ["0.1", True, np.array([0.1, 0.1])])
def test_rates_are_numbers(name, wrong):
    with pytest.raises(TypeError, match=f"{name} must be a number"):
        train(small_model(), small_set(), **RUN | {"augment": interrupted(noise, 0), name: wrong})


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    """The same bits, and the same run of the same checkpoint."""
    plain, other, path = small_model(), small_model(), tmp_path / "run.safetensors"
    run = {"epochs": 2, "batch_size": 8, "learning_rate": 0.5**7, "warmup": 0.25, "clip": 1.0, "seed": 3}
    kinds = [np.int64, torch.tensor, np.float32, torch.tensor, np.float64, np.uint8]
    train(plain, small_set(), **run, augment=noise)
    given = {name: kind(number) for (name, number), kind in zip(run.items(), kinds)}
    train(other, small_set(), **given, augment=noise, checkpoint=path, checkpoint_every=np.int64(3))
    assert equal(state(plain), state(other))
    train(small_model(), small_set(), **run, augment=interrupted(noise, 0), checkpoint=path)


def test_the_ends_of_the_ranges_are_settings():
    train(small_model(), small_set(), **RUN | {"weight_decay": 0.0, "warmup": 0.0, "clip": None, "accumulate": 8})


def test_bad_data_and_models():
    empty = TensorDataset(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="empty"):
        train(small_model(), empty, **RUN)
    with pytest.raises(ValueError, match="labels go from 0 to 3.*3 classes"):
        train(small_model(), small_set(classes=4), **RUN)
    with pytest.raises(ValueError, match="labels go from 0 to 3.*3 classes"):
        train(small_model(), small_set(classes=4), **RUN, loss=partial(F.cross_entropy, label_smoothing=0.1))
    with pytest.raises(ValueError, match="no parameters to train"):
        train(small_model().requires_grad_(False), small_set(), **RUN)
    with pytest.raises(ValueError, match="images must be"):
        train(small_model(image_size=16), small_set(), **RUN)


# --- history


def test_history_reads_as_a_table():
    history = History([{"epoch": 1, "seconds": 1.0, "loss": 2.0}, {"epoch": 2, "seconds": 2.0, "loss": 1.5, "a": 0.25}])
    lines = str(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "a", "seconds"]
    assert lines[2].split() == ["2", "1.5000", "0.2500", "2.0000"]
    assert len(history) == 2 and lines[1].split() == ["1", "2.0000", "1.0000"]  # no number, and none made up
    assert [line.rindex(end) + len(end) for line, end in zip(lines, ("loss", "2.0000", "1.5000"))] == [13] * 3
    with pytest.raises(KeyError, match="epoch, loss, a, seconds"):
        history["accuracy"]


def test_history_as_curves():
    history = History([{"epoch": e, "loss": 1 / e, "accuracy": e / 10} for e in (1, 2, 3)])
    history.rows[2]["test accuracy"] = 0.5
    assert history.curves() == {"accuracy": ([1, 2, 3], [0.1, 0.2, 0.3]), "test accuracy": ([3], [0.5])}
    assert history.curves("loss") == {"loss": ([1, 2, 3], history["loss"])}
    assert History([{"epoch": 1, "loss": 0.5}]).curves() == {"loss": ([1], [0.5])}
    with pytest.raises(KeyError, match="epoch, loss, accuracy, test accuracy"):
        history.curves("losses")


# --- processes, imports, devices


@pytest.mark.slow
def test_importing_imports_little():
    code = (
        "import sys, xattn_edu.training\n"
        "print(*sorted({'accelerate', 'matplotlib', 'transformers', 'safetensors'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.split() == []


@pytest.mark.slow
def test_nothing_is_printed_into_a_pipe(tmp_path):
    code = (
        "import torch\nfrom torch.utils.data import TensorDataset\nfrom xattn_edu.training import train\n"
        "train(torch.nn.Linear(2, 2), TensorDataset(torch.zeros(4, 2), torch.zeros(4).long()), epochs=2, device='cpu')"
    )
    output = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert (output.returncode, output.stdout, output.stderr) == (0, "", "")


def _process(rank, processes, port, folder):
    """One of several processes (a function of the module, so that a fresh Python can find it)."""
    torch.set_num_threads(1)
    if processes > 1:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        places |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        os.environ.update({name: str(value) for name, value in places.items()})
    test_set = small_set(31, seed=1)
    run = RUN | {
        "batch_size": 7,  # 4 samples for one process, 3 for the other; of the last batch, a single one, 1 and 0
        "evaluate": lambda model: {"test accuracy": accuracy(model, test_set)},
        "checkpoint": Path(folder) / f"checkpoint{processes}.safetensors",
        "checkpoint_every": 4,
    }
    if processes > 1:  # stopped in the middle of the second epoch
        with pytest.raises(Interrupted):
            train(
                small_model(seed=rank, stochastic_depth=0.0),
                small_set(43),
                **run | {"augment": interrupted(same_images, 13)},
            )
    model = small_model(seed=rank, stochastic_depth=0.0)  # all begin with the first process's weights
    history = train(model, small_set(43), **run | {"augment": same_images})
    torch.save((state(model), without_times(history)), Path(folder) / f"{rank}_of_{processes}.pt")
    if processes > 1:
        torch.distributed.destroy_process_group()


def same_images(images):
    return images


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _process(0, 1, port, tmp_path)
    torch.multiprocessing.spawn(_process, (2, port, str(tmp_path)), nprocs=2)
    (one, one_rows), (first, first_rows), (second, second_rows) = (
        torch.load(tmp_path / name) for name in ("0_of_1.pt", "0_of_2.pt", "1_of_2.pt")
    )
    assert equal(first, second) and first_rows == second_rows
    for name in one:
        torch.testing.assert_close(one[name], first[name], atol=2e-4, rtol=1e-3)
    for row, other in zip(one_rows, first_rows, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    left = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert left == ["checkpoint1.safetensors", "checkpoint2.safetensors"]


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(0, 999))
def test_chance_of_a_step(seed, step):
    """A step's seed fits every generator, and no two steps, seeds or processes share theirs."""
    seeds = {seed_from(seed + a, "step", step + b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)}
    assert len(seeds) == 8 and all(0 <= one < 2**32 for one in seeds)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_cuda_bf16_learns_and_leaves_a_plain_model(tmp_path):
    model, test_set = small_model(), small_set(300, seed=1)
    run = {"epochs": 20, "batch_size": 20, "learning_rate": 1e-2, "checkpoint": tmp_path / "run.safetensors"}
    history = train(model, small_set(300), device="cuda", **run)
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert next(model.parameters()).is_cuda and next(model.parameters()).dtype == torch.float32
    assert "forward" not in vars(model) and model(test_set.tensors[0].cuda()).dtype == torch.float32
    assert accuracy(model, test_set) > 0.8
    again = small_model(seed=3)
    train(again, small_set(300), device="cuda", **run)
    assert equal(state(model), state(again))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_device_can_change_between_trainings():
    for device in ("cuda", "cpu", "cuda"):
        model = small_model()
        train(model, small_set(), **RUN | {"device": device, "epochs": 1})
        assert next(model.parameters()).device.type == device


def test_training_leaves_the_callers_random_numbers_alone():
    layer = nn.Linear(4, 2)
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    train(nn.Sequential(nn.Dropout(0.5), layer), blobs_for_chance(), epochs=1, progress=False, device="cpu")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


@pytest.mark.parametrize("returned", [0.5, {"loss": 1.0}, {"epoch": 7}])
def test_what_evaluate_may_return(returned):
    with pytest.raises(ValueError, match="evaluate must return"):
        train(nn.Linear(4, 2), blobs_for_chance(), epochs=1, progress=False, evaluate=lambda _: returned)


def test_evaluate_may_return_any_kind_of_number(tmp_path):
    found = {"a": np.float32(0.5), "b": torch.tensor(2)}
    history = train(
        nn.Linear(4, 2),
        blobs_for_chance(),
        epochs=1,
        progress=False,
        evaluate=lambda _: found,
        checkpoint=tmp_path / "run.safetensors",
    )
    assert history["a"] == [0.5] and history["b"] == [2.0]


@pytest.mark.parametrize("wrong", [(torch.ones(4, 4), torch.zeros(4)), iter([1, 2]), 3])
def test_train_set_must_be_a_dataset(wrong):
    with pytest.raises(ValueError, match="TensorDataset"):
        train(nn.Linear(4, 2), wrong, epochs=1)


@pytest.mark.parametrize("ignored", [-100, 255])
def test_labels_that_cross_entropy_ignores_are_no_error(ignored):
    labels, loss = torch.tensor([0, 1, ignored, 1]), partial(F.cross_entropy, ignore_index=ignored)
    history = train(nn.Linear(4, 2), TensorDataset(torch.ones(4, 4), labels), epochs=1, loss=loss, progress=False)
    assert math.isfinite(history["loss"][0])


def test_both_times_stand_behind_a_column_that_comes_later():
    rows = [{"epoch": 1, "loss": 2.0, "seconds": 1.0, "cpu_seconds": 1.0}, {"epoch": 2, "test_accuracy": 0.5}]
    assert History(rows).columns == ["epoch", "loss", "test_accuracy", "seconds", "cpu_seconds"]
