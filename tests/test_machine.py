"""Profiles: what is chosen, by whom, and what is said when it cannot be."""

import random

import numpy as np
import pytest
import torch

from xattn_edu import machine as profiles
from xattn_edu.machine import choose_device, choose_profile, seed_everything


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many cores, with or without a CUDA card or CI, whatever this one is."""

    def pretend(cores=8, cuda=False, ci=None, wish=None):
        monkeypatch.setattr(profiles, "available_cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: cuda)
        for name, value in (("CI", ci), ("XATTN_PROFILE", wish)):
            monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)

    return pretend


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"cores": 8}, "cpu"),
        ({"cores": 3}, "cpu"),
        ({"cores": 2}, "ci"),
        ({"cores": 8, "ci": "true"}, "ci"),
        ({"cores": 8, "ci": "false"}, "cpu"),
        ({"cores": 2, "cuda": True}, "gpu"),
        ({"cores": 2, "cuda": True, "wish": "cpu"}, "cpu"),
        ({"cores": 8, "wish": ""}, "cpu"),
    ],
)
def test_chosen_by_what_is_there(machine, there, expected):
    machine(**there)
    assert choose_profile().name == expected


def test_argument_beats_environment(machine):
    machine(wish="gpu")
    assert choose_profile("ci").name == "ci"


@pytest.mark.parametrize("by_environment", [True, False])
def test_unknown_profile_names_the_known(machine, by_environment):
    machine(wish="huge" if by_environment else None)
    with pytest.raises(ValueError, match="'huge'.*ci, cpu, gpu"):
        choose_profile(None if by_environment else "huge")


def test_line_says_all(machine):
    machine(cores=2)
    line = str(choose_profile())
    assert "\n" not in line
    for part in ("profile ci", "2 CPU cores", "float32", f"{torch.get_num_threads()} CPU threads"):
        assert part in line
    machine(cuda=True)
    assert "device cuda, bf16" in str(choose_profile())


def test_auto_device_order(monkeypatch, machine):
    machine(cuda=True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device().type == "cuda"
    assert choose_device("mps").type == "mps"
    machine(cuda=False)
    assert choose_device().type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "tpu", "meta", "cpu:7", ""])
def test_missing_device_says_what_is_there(machine, monkeypatch, device):
    machine(cuda=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"'{device}'.*cpu"):
        choose_device(device)


def test_second_card_of_one(machine):
    machine(cuda=True)
    assert choose_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ValueError, match="cuda:1"):
        choose_device("cuda:1")


def test_seed_reaches_every_generator():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_everything(3)
    first = draw()
    assert first != draw()
    seed_everything(3)
    assert first == draw()
    seed_everything(4)
    assert all(a != b for a, b in zip(first, draw()))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=str(seed)):
        seed_everything(seed)


def test_the_processor_is_named_and_not_numbered(tmp_path, monkeypatch):
    """/proc/cpuinfo has a line "model" with a number, too, which may come first."""
    information = tmp_path / "cpuinfo"
    information.write_text("processor\t: 0\nmodel\t\t: 85\nmodel name\t: Chip: 3 GHz \n\nmodel name\t: other\n")
    monkeypatch.setattr(profiles, "Path", lambda path: information)
    assert profiles.describe_machine(torch.device("cpu"))["cpu"] == "Chip: 3 GHz"


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("show", [True, False])
def test_a_bar_begins_where_the_run_is_continued_and_is_seen_in_terminals_alone(show, terminal, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    bar = profiles.progress_bar("training", "epoch", 3, 10, show)
    assert (bar.n, bar.total) == (3, 10)
    assert bar.disable != (show and terminal)
    bar.close()
