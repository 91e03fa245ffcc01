"""Damaged and hostile files for every reader of the library, each read in a process of its own that is watched.

An input is made of a reader, its number and a seed, so that any of them can be made again. A worker process writes it,
reads it and puts the valid file back. The process that started the worker kills it if it takes too long, and starts
another one if it has died. `judge` says which outcomes are right.

    tools/fuzz.py runs thousands of inputs and stores a record; tests/repository/test_fuzz.py runs a few hundred.
"""

import gc
import json
import os
import random
import selectors
import shutil
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

SECONDS = 5.0  # of the processor, which an input may take
PATIENCE = 300.0  # seconds of the clock, after which a worker is killed: other programs may be running beside it
MEMORY = 256  # MiB, by which an input may enlarge the process; a reader may have a bound of its own
ADDRESSES = 8192  # MiB of address space beyond what the process has at the start
COMMAND = ("-m", "helpers.fuzzing")  # of a worker
REFUSALS = (ValueError, FileNotFoundError)  # exactly these: a subclass, such as UnicodeDecodeError, was not wrapped
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile", "subprocess.Popen", "socket.connect")


@dataclass(frozen=True)
class Reader:
    """How a kind of file is made, and read.

    make: writes the valid files of a reader into an empty folder.
    files: the names of the files to damage; several, if damage of each is of its own kind.
    read: reads them; returns a digest of the result, which it has found well-formed.
    hostile: {name: function that puts something hostile in the place of the path}.
    deep: damages what a checksum or a container protects, and makes that right again.
    exact: the format has a checksum, so that a damaged file is refused or read as the valid one.
    memory: the bound in MiB.
    weight: how many inputs it gets, in proportion.
    """

    name: str
    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Path], str]
    hostile: dict[str, Callable[[Path], None]]
    deep: Callable[[bytes, random.Random], bytes] | None = None
    exact: bool = False
    memory: int = MEMORY
    weight: int = 4


# --- damage: functions of the valid bytes, a random generator, and the valid files of all readers


def noise(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 8, 100, len(content)]))


def cut(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    return content[: rng.randrange(len(content))]


def lost(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    start, end = _place(content, rng)
    return content[:start] + content[end:]


def doubled(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    start, end = _place(content, rng)
    return content[:end] + content[start:]


def flipped(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8, 100])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replaced(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """A number that is too large, negative or 0, wherever it falls."""
    width = rng.choice([1, 2, 4, 8])
    number = rng.choice([0, -1, 2 ** (8 * width - 1) - 1, -(2 ** (8 * width - 1)), 1, 255 if width > 1 else 127])
    start = rng.choice([0, rng.randrange(min(len(content), 64)), rng.randrange(len(content))])
    part = number.to_bytes(width, rng.choice(["little", "big"]), signed=True)
    return content[:start] + part + content[start + width :]


def digits(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """One number that is written out becomes another one, and the length of the file may change."""
    places = [place for place, byte in enumerate(content) if 48 <= byte <= 57]
    if not places:
        return flipped(content, rng, others)
    start = end = rng.choice(places)
    while end < len(content) and 48 <= content[end] <= 57:
        end += 1
    number = rng.choice([b"0", b"-1", b"7", b"9" * 5, b"9" * 10, b"9" * 19, b"9" * 400, b"1e400", b"NaN", b'""'])
    return content[:start] + number + content[end:]


def swapped(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    return rng.choice(others)


def spliced(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """The beginning of one file, and the end of another."""
    other = rng.choice(others)
    return content[: rng.randrange(len(content))] + other[rng.randrange(len(other)) :]


def lengthened(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    return content + rng.choice([b"\0", b"\n", bytes(5000), rng.randbytes(50), content])


def _place(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, min(len(content), start + rng.choice([1, 4, 50, 1000]))


DAMAGE = (noise, cut, lost, doubled, flipped, flipped, replaced, replaced, digits, swapped, spliced, lengthened)

STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 3, 1.5, 1e308, float("nan"), 10**9, 10**18, 10**30, "", "x", "é\u202e", "../outside/secret",
    "x" * 3000, [], {}, [[]], {"": None}, [None] * 50, [10**9],
)  # fmt: skip


def strange(value: Any, rng: random.Random) -> Any:
    """Plain data with one value in it replaced, lost or moved."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        place, copy = rng.choice(places), value.copy()
        action = rng.random()
        if action < 0.8:
            copy[place] = strange(value[place], rng)
        elif action < 0.9:
            del copy[place]
        else:
            copy[place] = copy[rng.choice(places)]
        return copy
    return rng.choice(STRANGE)


# --- one input


def put(reader: Reader, number: int, seed: int, folder: Path, valid: dict[str, bytes], others: list[bytes]) -> None:
    """Put an input in the place of the valid file."""
    rng = random.Random(f"{seed} {reader.name} {number}")
    cases = [(name, file) for name in reader.hostile for file in reader.files]
    if number < len(cases):
        name, file = cases[number]
        (folder / file).unlink()
        reader.hostile[name](folder / file)
    else:
        file = rng.choice(reader.files)
        if reader.deep and rng.random() < 0.4:
            content = reader.deep(valid[file], rng)
        else:
            content = rng.choice(DAMAGE)(valid[file], rng, others)
        (folder / file).write_bytes(content)


def name_of(reader: Reader, number: int) -> str:
    """How an input is shown."""
    cases = [name for name in reader.hostile for _ in reader.files]
    return f"{reader.name}, input {number}" + (f" ({cases[number]})" if number < len(cases) else "")


def judge(reader: Reader, outcome: dict[str, Any]) -> str | None:
    """What is wrong with an outcome; None if nothing is."""
    if "died" in outcome:
        return outcome["died"]
    if outcome["ran"]:
        return f"it ran or opened what it should not: {outcome['ran']}"
    if outcome["memory"] > reader.memory:
        return f"it took {outcome['memory']} MiB, the bound is {reader.memory}"
    if outcome["seconds"] > SECONDS:
        return f"it took {outcome['seconds']:.1f} s of the processor, the bound is {SECONDS}"
    if "digest" in outcome:
        wrong = reader.exact and outcome["digest"] != outcome["right"] and outcome["damaged"]
        return "a damaged file was read, with another result" if wrong else None
    if not outcome["refused"]:
        return f"{outcome['error']} instead of a refusal: {outcome['message']}"
    if not outcome["names"]:
        return f"the message names no file: {outcome['message']}"
    if "\n" in outcome["message"] or len(outcome["message"]) > 2000:
        return f"the message is long: {outcome['message'][:200]!r}"
    return None


# --- the worker


class Worker:
    """A process that reads inputs, and is started again after it has died or was killed."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        variables = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        variables |= {"XATTN_CHECK_SHAPES": "0", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, *COMMAND, str(self.folder), str(self.seed)]
        with open(self.folder / "words.txt", "w") as words:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": words}
            self.process = subprocess.Popen(command, env=variables, text=True, **pipes)
        if "died" in self._answer(4 * PATIENCE):
            raise RuntimeError(f"a worker does not start: {(self.folder / 'words.txt').read_text()[-2000:]}")

    def read(self, name: str, number: int) -> dict[str, Any]:
        """The outcome of an input; {"died": why} if the process did not survive it."""
        if self.process is None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, number]) + "\n")
        self.process.stdin.flush()
        return self._answer(PATIENCE)

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self.process is not None and self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            ready = selector.select(seconds)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        if ready:
            self.process.wait()
        status = f"it ended with status {self.process.returncode}" if ready else f"no answer in {seconds:.0f} s"
        self.stop()
        return {"died": status}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None


def run(worker: Worker, name: str, numbers: Iterator[int] | range) -> Iterator[tuple[int, dict[str, Any], str | None]]:
    """(number, outcome, what is wrong with it) for each input of a reader."""
    from helpers.fuzzed_readers import READERS  # which imports this module

    reader = READERS[name]
    for number in numbers:
        outcome = worker.read(name, number)
        wrong = judge(reader, outcome)
        yield number, outcome, wrong and f"{name_of(reader, number)}: {wrong}"


def serve(top: Path, seed: int) -> None:
    """Answer requests, a line each: [reader, number] -> the outcome, as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    from helpers.fuzzed_readers import READERS, small_files

    others = small_files()
    (top / "outside").mkdir()
    (top / "outside" / "secret").write_bytes(b"no reader opens this file")
    opened, valid, right = _listen(top), {}, {}
    _limit_addresses()
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        name, number = json.loads(line)
        reader, folder = READERS[name], top / name
        if name not in valid:
            folder.mkdir()
            reader.make(folder)
            valid[name] = {file: (folder / file).read_bytes() for file in reader.files}
            right[name] = reader.read(folder)
        outcome = _outcome(reader, number, seed, folder, valid[name], others, opened)
        print(json.dumps(outcome | {"right": right[name]}), file=answers, flush=True)


def _outcome(
    reader: Reader,
    number: int,
    seed: int,
    folder: Path,
    valid: dict[str, bytes],
    others: list[bytes],
    opened: list[str],
) -> dict[str, Any]:
    """Everything that `judge` needs. The folder is afterwards as it was before."""
    before = set(folder.rglob("*"))
    put(reader, number, seed, folder, valid, others)
    there, outcome = set(folder.rglob("*")), {}
    # Another valid file is not a damaged one.
    damaged = any(_content(folder / file) not in [content, *others] for file, content in valid.items())
    opened.clear()
    gc.collect()
    gc.freeze()  # so that the next collection is short
    with _peak() as memory:
        start = time.process_time()
        try:
            outcome["digest"] = reader.read(folder)
        except BaseException as error:  # noqa: BLE001 - the outcome is what this is about
            outcome = _described(error, folder)
        seconds = round(time.process_time() - start, 4)
    ran = [*opened, *(str(path) for path in sorted(set(folder.rglob("*")) - there))]
    for path in sorted(set(folder.rglob("*")) - before, reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in (folder / file for file in valid):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.write_bytes(valid[path.relative_to(folder).as_posix()])
    return outcome | {"memory": memory[0], "seconds": seconds, "ran": ran, "damaged": damaged}


def _described(error: BaseException, folder: Path) -> dict[str, Any]:
    chain, link = [error], error
    while (link := link.__cause__ or link.__context__) and link not in chain:  # type: ignore[assignment]
        chain.append(link)
    refused = type(error) in REFUSALS and not any(isinstance(link, MemoryError) for link in chain)
    shown = type(error).__name__ if refused or type(error) not in REFUSALS else "MemoryError"
    where = traceback.extract_tb(error.__traceback__)[-1]
    message = str(error)
    if not refused:
        message = f"{message[:500]} [{Path(where.filename).name}:{where.lineno}]"
    return {"refused": refused, "error": shown, "message": message, "names": str(folder) in message}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and path.stat().st_size < 2**24 else None


@contextmanager
def _peak() -> Iterator[list[int]]:
    """[MiB by which the process grew, at its largest]"""
    memory, status, reset = [0], Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists():  # another system than Linux: the time is bounded, the memory is not
        yield memory
        return

    def kilobytes(name: str) -> int:
        return int(status.read_text().split(f"{name}:")[1].split()[0])

    reset.write_text("5")
    before = kilobytes("VmRSS")
    yield memory
    memory[0] = max(0, kilobytes("VmHWM") - before) // 1024


def _listen(top: Path) -> list[str]:
    """The list of programs that are started, and of files outside a reader's folder that are opened, from now on."""
    opened: list[str] = []
    outside = str(top / "outside")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in RUNS:
            opened.append(f"{event} {arguments[0]}")
        elif event == "open" and os.path.realpath(os.fsdecode(arguments[0])).startswith(outside):
            opened.append(f"open {arguments[0]}")

    def quiet(event: str, arguments: tuple[Any, ...]) -> None:
        if event in RUNS or (event == "open" and isinstance(arguments[0], str | bytes | os.PathLike)):
            hook(event, arguments)

    sys.addaudithook(quiet)
    return opened


def _limit_addresses() -> None:
    """So that a reader which takes memory without end gets a MemoryError, and the machine stays usable."""
    if not Path("/proc/self/statm").exists():
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESSES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
