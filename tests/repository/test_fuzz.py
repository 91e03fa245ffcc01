"""A few hundred damaged and hostile files: every reader refuses them, or reads what they still say. See `make fuzz`.

The worker process is one for all readers, so that its start is paid for once. It wants Linux: there the memory of a
process can be measured, and links and pipes can be made.
"""

import json
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import fuzzing
from helpers.fuzzing import Reader, Worker, judge, run

ROOT = Path(__file__).parents[2]
SEED = 1  # another one than that of `make fuzz`
MODELS = ("own segmenters", "LAVT", "BERTs", "phrase books")  # whose inputs take the longest
PIECES = 8  # of a reader's inputs, hostile and damaged ones

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="wants Linux's processes")]


@pytest.fixture(scope="module")
def readers():
    from helpers.fuzzed_readers import READERS

    return READERS


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("fuzz") / "worker", SEED)
    yield worker
    worker.stop()


def test_a_few_hundred_files_are_refused_or_read(worker, readers):
    """As many hostile files, spread over all of a reader's, as damaged ones."""
    inputs, refused, read, wrong = 0, 0, 0, []
    for name, reader in readers.items():
        hostile = len(reader.hostile) * len(reader.files)
        count = PIECES // (2 if name in MODELS else 1)
        numbers = [*range(0, hostile, -(-hostile // count) or 1), *range(hostile, hostile + count)]
        for _, outcome, fault in run(worker, name, numbers):
            inputs += 1
            refused += outcome.get("refused", False)
            read += "digest" in outcome
            wrong += [fault] if fault else []
    assert wrong == []
    assert inputs == refused + read > 250 and read > 20


def test_the_stored_record_is_of_ten_thousand_inputs_and_all_readers(readers):
    path = ROOT / "results" / "benchmarks" / "fuzz.json"
    if not path.exists():
        pytest.skip("`make fuzz` was not run")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert [row["reader"] for row in record["readers"]] == list(readers)
    assert record["inputs"] == sum(row["inputs"] for row in record["readers"]) >= 10_000
    for row in record["readers"]:
        assert row["wrong"] == 0 and row["refused"] + row["read"] == row["inputs"] > len(readers[row["reader"]].hostile)
        assert row["peak_mebibytes"] <= row["bound_mebibytes"] == readers[row["reader"]].memory
        assert row["most_seconds"] <= record["bound_seconds"] == fuzzing.SECONDS


# --- the instrument sees what it is there to see


def bad_reader(read):
    return Reader("bad", lambda folder: (folder / "a").write_bytes(b"0123456789" * 50), ("a",), read, {}, exact=True)


def outcome_of(read, tmp_path, number=0):
    """What `serve` would answer, from a reader in this process."""
    reader, folder = bad_reader(read), tmp_path / "bad"
    folder.mkdir()
    reader.make(folder)
    valid = {"a": (folder / "a").read_bytes()}
    outcome = fuzzing._outcome(reader, number, SEED, folder, valid, [b"other"], [])
    assert (folder / "a").read_bytes() == valid["a"] and list(folder.iterdir()) == [folder / "a"]
    return judge(reader, outcome | {"right": "right"})


def refuse(folder):
    raise ValueError(f"{folder / 'a'} is damaged: download it again")


def raise_other(folder):
    raise KeyError("a")


def raise_wrapped(folder):
    raise UnicodeDecodeError("ascii", b"", 0, 1, str(folder))


def name_no_file(folder):
    raise ValueError("it is damaged")


def run_out_of_memory(folder):
    try:
        raise MemoryError
    except MemoryError:
        raise ValueError(f"{folder} is damaged") from None


def make_a_file(folder):
    (folder / "ran").mkdir()
    refuse(folder)


def take_memory(folder):
    return str(len(folder.name[:1] * (300 * 2**20)))


def take_time(folder):
    while time.process_time() < end:
        pass
    refuse(folder)


end = 0.0


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (refuse, None),
        (lambda folder: "right", None),
        (lambda folder: "wrong", "a damaged file was read, with another result"),
        (raise_other, "KeyError instead of a refusal"),
        (raise_wrapped, "UnicodeDecodeError instead of a refusal"),
        (name_no_file, "the message names no file"),
        (run_out_of_memory, "MemoryError instead of a refusal"),
        (make_a_file, "it ran or opened what it should not: .*ran"),
        (take_memory, r"it took (29|30)\d MiB, the bound is 256"),
    ],
)
def test_what_is_wrong_is_seen(read, fault, tmp_path):
    found = outcome_of(read, tmp_path)
    assert found is None if fault is None else re.search(fault, found)


def test_too_much_time_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "SECONDS", 0.2)
    monkeypatch.setattr(sys.modules[__name__], "end", time.process_time() + 0.4)
    assert "the bound is 0.2" in outcome_of(take_time, tmp_path)


def test_a_process_that_hangs_or_dies_is_seen_and_started_again(tmp_path, monkeypatch):
    """Programs in the place of the worker's: one never answers, one ends at the first request."""
    monkeypatch.setattr(fuzzing, "PATIENCE", 1.0)
    for program, seen in (
        ("import time; print('{}', flush=True); input(); time.sleep(60)", "no answer in 1 s"),
        ("import os; print('{}', flush=True); input(); os.abort()", "it ended with status -6"),
    ):
        worker = Worker(tmp_path / "worker", SEED)
        monkeypatch.setattr(fuzzing, "COMMAND", ("-c", program))
        outcome = worker.read("bad", 0)
        assert outcome == {"died": seen} and judge(bad_reader(refuse), outcome) == seen
        assert worker.read("bad", 1) == {"died": seen}  # by another process


def test_programs_and_files_outside_are_heard(tmp_path):
    """In another process, because an audit hook stays."""
    program = (
        "import os, subprocess, sys, pathlib; from helpers.fuzzing import _listen\n"
        "top = pathlib.Path(sys.argv[1]); (top / 'outside').mkdir(); (top / 'outside' / 'secret').touch()\n"
        "(top / 'link').symlink_to('outside/secret'); heard = _listen(top); (top / 'own').touch(); open(top / 'own')\n"
        "os.system('true'); subprocess.run(['true']); open(top / 'link')\n"
        "open(top / 'outside' / '..' / 'outside' / 'secret')\n"
        "print(len([h for h in heard if 'system' in h]), [h.split()[0] for h in heard])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("1 ") and done.stdout.count("'open'") == 2 and "subprocess.Popen" in done.stdout


def test_the_tool_shares_inputs_and_prints_a_table():
    tool = runpy.run_path(str(ROOT / "tools" / "fuzz.py"))
    assert tool["shares"](100, {"a": 1, "b": 3}) == {"a": 25, "b": 75}
    assert tool["shares"](10, {"a": 1, "b": 2}) == {"a": 4, "b": 7}  # rounded up
    outcomes = [{"refused": True, "seconds": 0.5, "memory": 3}, {"digest": "", "seconds": 1.5, "memory": 2}]
    row = tool["row"]("a", [*outcomes, {"died": "no answer"}], 9, 5, 1)
    assert list(row.values()) == ["a", 5, 3, 1, 1, 1, 2.0, 1.5, 3, 9] and "most_seconds" in tool["table"]([row])
