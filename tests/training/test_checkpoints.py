"""A training that was interrupted ends with the same bits; a checkpoint that is damaged or another run's is refused."""

import errno
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
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
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from xattn_edu.training.loop import train


@pytest.mark.parametrize("stop_after", [3, 7, 8, 14, 20])
def test_interrupted_is_the_same_to_the_bit(tmp_path, stop_after):
    """7 steps an epoch, a checkpoint every 3 steps and after each epoch; stochastic depth and noise are on."""
    straight, history = small_model(), None
    history = train(straight, small_set(), **RUN)
    run = RUN | {"checkpoint": tmp_path / "run.safetensors", "checkpoint_every": 3}
    with pytest.raises(Interrupted):
        train(small_model(), small_set(), **run | {"augment": interrupted(noise, stop_after)})
    assert run["checkpoint"].exists()
    resumed = small_model(seed=9)  # its weights come from the checkpoint
    torch.manual_seed(123)
    again = train(resumed, small_set(), **run)
    assert equal(state(straight), state(resumed))
    assert without_times(history) == without_times(again)


def test_resuming_does_only_what_is_left(tmp_path):
    run = RUN | {"checkpoint": tmp_path / "run.safetensors", "checkpoint_every": 3}
    with pytest.raises(Interrupted):
        train(small_model(), small_set(), **run | {"augment": interrupted(noise, 11)})
    left = interrupted(noise, 21 - 9)  # 9 steps are in the checkpoint, 12 are left, a 13th would raise
    train(small_model(), small_set(), **run | {"augment": left})
    with pytest.raises(Interrupted):
        left(torch.zeros(1))


def test_finished_run_comes_back_at_once(tmp_path):
    run = RUN | {"checkpoint": tmp_path / "run.safetensors"}
    first, second = small_model(), small_model(seed=5)
    history = train(first, small_set(), **run)
    again = train(second, small_set(), **run | {"augment": interrupted(noise, 0)})
    assert equal(state(first), state(second)) and history.rows == again.rows and not second.training


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 1e-3}, "learning_rate: 0.005 there, 0.001 here"),
        ({"epochs": 4}, "epochs: 3 there, 4 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"augment": None}, r"augment: helpers.small_runs.noise there, None here"),
        ({"loss": functools.partial(F.cross_entropy, label_smoothing=0.1)}, "label_smoothing=0.1"),
        ({"model": {"heads": 4}}, r"blocks.0.attention.heads: 2 there, 4 here"),
        ({"model": {"width": 32}}, "there, 32 here"),
        ({"model": {"stochastic_depth": 0.1}}, "blocks.1.drop.rate: 0.3 there, 0.1 here"),
        ({"data": {"seed": 1}}, "data: 53 samples, .*TensorDataset.*tensor 53 torch.int64"),
        ({"accumulate": 2}, "accumulate: 1 there, 2 here"),
    ],
)
def test_another_run_is_refused(tmp_path, change, named):
    path = tmp_path / "run.safetensors"
    train(small_model(), small_set(), **RUN, checkpoint=path)
    before = path.read_bytes()
    model, data = small_model(**change.pop("model", {})), small_set(**change.pop("data", {}))
    weights = state(model)
    with pytest.raises(ValueError, match=named) as error:
        train(model, data, **RUN | {"checkpoint": path} | change)
    assert str(path) in str(error.value) and "delete the file" in str(error.value)
    assert path.read_bytes() == before and equal(weights, state(model))


def cut(content):
    return content[: len(content) // 2]


def flipped_bit(content):
    return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


def another_type(content):
    """The same bytes under a header that calls one of the tensors whole numbers."""
    return content.replace(b'"dtype":"F32"', b'"dtype":"I32"', 1)


@pytest.mark.parametrize("damage", [cut, flipped_bit, another_type, lambda _: b"", lambda _: b"not a checkpoint" * 99])
def test_damaged_checkpoint_is_refused_and_kept(tmp_path, damage):
    path = tmp_path / "run.safetensors"
    train(small_model(), small_set(), **RUN, checkpoint=path)
    path.write_bytes(damaged := damage(path.read_bytes()))
    with pytest.raises(ValueError, match="damaged.*delete it") as error:
        train(small_model(), small_set(), **RUN, checkpoint=path)
    assert str(path) in str(error.value)
    assert path.read_bytes() == damaged


def test_foreign_safetensors_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, path := tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="not a checkpoint of this training loop.*delete it"):
        train(small_model(), small_set(), **RUN, checkpoint=path)


def test_full_disk_keeps_the_checkpoint_before(tmp_path):
    """The disk is full for files above 4 kB: the operating system itself says no, in the middle of the writing."""
    path = tmp_path / "run.safetensors"
    with pytest.raises(Interrupted):
        train(small_model(), small_set(), **RUN | {"augment": interrupted(noise, 8)}, checkpoint=path)
    before = path.read_bytes()
    assert len(before) > 4096
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=f"too large: '{path}'"):
            train(small_model(), small_set(), **RUN, checkpoint=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]
    straight, resumed = small_model(), small_model()
    train(straight, small_set(), **RUN)
    train(resumed, small_set(), **RUN, checkpoint=path)
    assert equal(state(straight), state(resumed))


def test_checkpoint_at_the_end_of_an_epoch_has_its_row(tmp_path):
    """7 steps an epoch, a checkpoint every 7 steps, and a stop between the last step and the epoch's row."""
    run = RUN | {"checkpoint": tmp_path / "run.safetensors", "checkpoint_every": 7}
    with pytest.raises(Interrupted):
        train(small_model(), small_set(), **run, evaluate=interrupted(lambda model: {}, 1))
    history = train(small_model(), small_set(), **run)
    assert history["epoch"] == [1, 2, 3] and history["step"] == [7, 14, 21]


def test_checkpoint_must_be_a_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        train(small_model(), small_set(), **RUN, checkpoint=tmp_path)


def test_a_read_only_folder_is_noticed_before_any_work(tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("builtins.open", read_only)
    with pytest.raises(ValueError, match="cannot be written.*Read-only file system.*run.safetensors"):
        train(small_model(), small_set(), **RUN | {"augment": None}, checkpoint=tmp_path / "run.safetensors")


def test_home_and_long_names(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    name = "가" * 80 + ".safetensor"  # 251 bytes
    run = {"epochs": 1, "device": "cpu", "progress": False}
    train(nn.Linear(4, 2), blobs_for_chance(), **run, checkpoint=f"~/{name}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_clock_that_is_set_back_is_not_looked_at(tmp_path, monkeypatch):
    now = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    history = train(small_model(), small_set(), **RUN, checkpoint=tmp_path / "run.safetensors")
    assert 0 < history["seconds"][0] < history["seconds"][1] < history["seconds"][2] < 3600


def test_a_checkpoint_of_an_older_version_says_so(tmp_path):
    path = tmp_path / "run.safetensors"
    train(nn.Linear(4, 2), blobs_for_chance(), epochs=1, progress=False, checkpoint=path)
    path.write_bytes(path.read_bytes().replace(b"training 3", b"training 2"))
    with pytest.raises(ValueError, match="another version of xattn_edu.*training 2.*delete it"):
        train(nn.Linear(4, 2), blobs_for_chance(), epochs=1, progress=False, checkpoint=path)


RUNNING = """
import sys
import torch
from helpers.small_runs import RUN, noise, small_model, small_set, state
from xattn_edu.training.loop import train

torch.set_num_threads(1)
model = small_model()
train(model, small_set(), **RUN | {"epochs": 12}, checkpoint=sys.argv[1], checkpoint_every=1, progress=False)
torch.save(state(model), sys.argv[2])
"""


def running(*arguments):
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", RUNNING, *map(str, arguments)]
    # A job in the background inherits that SIGINT is ignored.
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": path}, text=True, stderr=subprocess.PIPE, preexec_fn=heeds
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_ends_it_promptly_and_the_same_bits_come_out(tmp_path, number):
    """The checkpoint is whole wherever the signal comes, and the next run clears what was left half written."""
    (folder := tmp_path / "run").mkdir()
    path, straight = folder / "run.safetensors", small_model()
    train(straight, small_set(), **RUN | {"epochs": 12})
    process = running(path, tmp_path / "never.pt")
    deadline = time.monotonic() + 300
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(number)
    _, words = process.communicate(timeout=30)
    # Python does not end by SIGINT itself, but with 1, if some library has run code while it ended.
    interrupted = number == signal.SIGINT and process.returncode == 1 and words.endswith("KeyboardInterrupt\n")
    assert (process.returncode == -number or interrupted) and path.exists()
    process = running(path, tmp_path / "weights.pt")
    process.communicate(timeout=500)
    assert process.returncode == 0 and equal(torch.load(tmp_path / "weights.pt"), state(straight))
    assert [left.name for left in folder.iterdir()] == [path.name]


@pytest.mark.slow
def test_two_of_the_same_command_at_once(tmp_path):
    (folder := tmp_path / "run").mkdir()
    path = folder / "run.safetensors"
    both = [running(path, tmp_path / f"{number}.pt") for number in range(2)]
    for process in both:
        process.communicate(timeout=500)
    assert [process.returncode for process in both] == [0, 0]
    assert equal(torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt"))
    assert [left.name for left in folder.iterdir()] == [path.name]


def test_a_header_changed_by_hand_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    train(nn.Linear(4, 2), blobs_for_chance(), epochs=2, progress=False, checkpoint=path)
    content = path.read_bytes()
    changed = content.replace(rb"\"step\": 2", rb"\"step\": 1")
    assert changed != content
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="damaged"):
        train(nn.Linear(4, 2), blobs_for_chance(), epochs=2, progress=False, checkpoint=path)
    assert path.read_bytes() == changed


def test_no_checkpoint_of_a_loss_that_is_no_number(tmp_path):
    images = torch.full((16, 4), torch.nan)
    data = TensorDataset(images, torch.arange(16) % 2)
    path = tmp_path / "run.safetensors"
    with pytest.raises(FloatingPointError, match="NaN in the inputs"):
        train(nn.Linear(4, 2), data, epochs=1, batch_size=4, progress=False, checkpoint=path, checkpoint_every=1)
    assert not path.exists()
