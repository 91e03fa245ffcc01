"""Several processes: the same losses and metrics as one, for sets of any size, and a clear end when one is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE = 600  # seconds, for a busy machine: several processes import torch at once
SCRIPT = Path(__file__).parents[1] / "helpers" / "together.py"
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH", "")]),
}
LAUNCHER = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
LAUNCHER += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "--num_processes"]


def launched(processes, *arguments):
    """The finished script, in so many processes. On a CPU, too, accelerate starts several only with --multi_gpu."""
    command = [*LAUNCHER, str(processes)] if processes > 1 else [sys.executable]
    command += [str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds."""
    folder = tmp_path_factory.mktemp("alone")
    done = launched(1, folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "0_of_1.json").read_text())


def compare(one, other):
    """Metrics are equal; losses and weights differ by rounding."""
    for row, again in zip(one["history"], other["history"], strict=True):
        assert again.pop("loss") == pytest.approx(row["loss"], rel=1e-5)
        assert again == {name: value for name, value in row.items() if name != "loss"}
    for name, weights in one["weights"].items():
        assert other["weights"][name] == pytest.approx(weights, abs=2e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_do_what_one_does(alone, tmp_path, processes):
    done = launched(processes, tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / f"{rank}_of_{processes}.json").read_text()) for rank in range(processes)]
    assert all(other == found[0] for other in found)
    for name in alone:
        compare(alone[name], found[0][name])


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["parts", "single parts"])
def test_parts_of_a_batch_do_what_the_batch_does(alone, parts):
    compare(alone["whole"], alone[parts])


@pytest.mark.slow
def test_a_killed_process_ends_the_others_within_a_minute(tmp_path):
    """Without a launcher, which would end the others itself, as it is with processes on several machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        places = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    command = [sys.executable, str(SCRIPT), str(tmp_path), "2"]
    both = [
        subprocess.Popen(
            command,
            env=ENVIRONMENT | places | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        both[1].communicate(timeout=PATIENCE)
        killed = time.monotonic()
        _, words = both[0].communicate(timeout=60)
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert both[1].returncode == -signal.SIGKILL and both[0].returncode == 1 and time.monotonic() - killed < 60
    assert "RuntimeError: another of the 2 processes of this training has ended" in words.splitlines()[-1]


@pytest.mark.slow
def test_a_launcher_names_the_signal_that_killed_a_process(tmp_path):
    done = launched(2, tmp_path, 2)
    assert done.returncode == 1 and "SIGKILL" in done.stderr
