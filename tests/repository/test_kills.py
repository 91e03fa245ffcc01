"""`make kills`: commands that are killed at random moments go on, and the tool notices those that would not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("train", "checkpoint", "reproduce", "evaluate", "convert-refer")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")


def run(*arguments):
    # In a process of its own, because the tool forks, which a process with threads must not.
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT / "tools", text=True, capture_output=True)


@needs_fork
@pytest.mark.slow
def test_ten_kills_lose_nothing(tmp_path):
    ended = run("kills.py", "--kills", 10, "--out", tmp_path / "kills.json")
    assert ended.returncode == 0, ended.stderr
    record = json.loads((tmp_path / "kills.json").read_text())
    assert {name: task["kills"] for name, task in record["tasks"].items()} == dict.fromkeys(TASKS, 2)
    assert all(task["finished"] >= 1 for task in record["tasks"].values())


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "words"),
    [
        ("path.write_text('{'); time.sleep(0.3); path.write_text('{}')", "a.json is not whole"),
        ("number = path.exists(); path.write_text(str(int(number))); time.sleep(0.3)", "other files than without"),
        ("assert not path.exists(), 'damaged'; path.write_text('1'); time.sleep(0.3)", "bad ended by itself"),
    ],
    ids=["half a file", "other files", "an error"],
)
def test_a_command_that_loses_something_is_noticed(work, words):
    ended = run(
        "-c",
        f"""import sys, time, kills
def work(inputs, folder):
    path = folder / "a.json"
    {work}
kills.TASKS["bad"] = kills.Task(work)
kills.kill("bad", 5)""",
    )
    assert ended.returncode == 1 and words in ended.stderr


def test_the_record_is_of_a_hundred_kills_in_all_five_kinds_of_work():
    record = json.loads((ROOT / "results" / "benchmarks" / "kills.json").read_text())
    assert tuple(record["tasks"]) == TASKS
    assert sum(task["kills"] for task in record["tasks"].values()) >= 100


def test_a_task_that_does_not_exist_is_refused():
    ended = run("kills.py", "trian")
    assert ended.returncode == 2 and "no task trian, only train" in ended.stderr
