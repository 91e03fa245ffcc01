#!/usr/bin/env python3
"""Kill the course's commands at random moments and continue them: nothing may be lost, and no half file be read.

    make kills                (or: python tools/kills.py [--kills 100] [--seed 0] [--out FILE] [TASK ...])

Each task is run once without interruption. Then it is run again and again in one folder, each time in a process of its
own that gets SIGKILL at a random moment. After each kill the files of the folder must be whole. A run that comes to its
end must leave the files of the run without interruption, bit for bit but for times. Then the folder is emptied, and the
next run begins anew. The record goes to results/benchmarks/kills.json. Needs os.fork (Linux, macOS).
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", XATTN_PROFILE="ci")  # torch reads the first at import
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import accelerate  # noqa: E402, F401  imported here, so that no process of a task spends its time on it
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
from helpers import small_runs  # noqa: E402
from helpers.miniature_refcoco import miniature  # noqa: E402
from helpers.small_segmenters import WORDS, small_lavt  # noqa: E402

from xattn_edu import cli  # noqa: E402
from xattn_edu.experiments.sizes import FASHION_SIZES  # noqa: E402
from xattn_edu.files import write_atomically  # noqa: E402
from xattn_edu.machine import describe_machine  # noqa: E402
from xattn_edu.predict import evaluation  # noqa: E402
from xattn_edu.training.loop import train  # noqa: E402
from xattn_edu.weights import lavt_to_published  # noqa: E402

RECORD = ROOT / "results" / "benchmarks" / "kills.json"
FINISHED, ENDED = 0, 1  # a child's exit status
UNEQUAL = ("seconds", "cpu_seconds", "cpu_per_wall")  # times, which no two runs have in common


@dataclass(frozen=True)
class Task:
    """`prepare(inputs)` writes what the task reads; `run(inputs, folder)` is the work, and writes to `folder` alone."""

    run: Callable[[Path, Path], None]
    prepare: Callable[[Path], None] = lambda inputs: None


# --- the tasks


def training(inputs: Path, folder: Path) -> None:
    """A ViT with dropout and augmentation, a checkpoint every other step."""
    _train(folder, small_runs.small_model(), small_runs.RUN | {"epochs": 6, "checkpoint_every": 2})


def checkpointing(inputs: Path, folder: Path) -> None:
    """A model so wide that most of the time goes into its checkpoint, one after each step."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 4000), torch.nn.GELU(), torch.nn.Linear(4000, 3)
    )
    _train(folder, model, {"epochs": 4, "batch_size": 8, "device": "cpu", "checkpoint_every": 1})


def _train(folder: Path, model: torch.nn.Module, settings: dict[str, Any]) -> None:
    history = train(model, small_runs.small_set(), checkpoint=folder / "run.safetensors", progress=False, **settings)
    write_atomically(folder / "weights.safetensors", safetensors.torch.save(model.state_dict()))
    write_atomically(folder / "history.json", json.dumps(history.rows).encode())


def reproducing(inputs: Path, folder: Path) -> None:
    """`xattn reproduce` with a tiny ViT on little of Fashion-MNIST, four runs."""
    FASHION_SIZES["ci"] = replace(FASHION_SIZES["ci"], width=8, depth=1, heads=1, steps=20)
    runs = ("--model", "vit", "--images", "100", "300", "--seeds", "2", "--profile", "ci")
    _command("reproduce", "vit-little-data", *runs, "--folder", folder)


def evaluating(inputs: Path, folder: Path) -> None:
    """`xattn evaluate lavt` on the miniature set, a partial result after each expression."""
    evaluation.SAVE_EVERY = 1
    model = (
        "--checkpoint",
        inputs / "lavt.pth",
        "--tokenizer",
        inputs / "tokenizer",
        "--size",
        "64",
        "--device",
        "cpu",
    )
    data = ("--refcoco", inputs / "data", "--split", "train", "--no-check-counts", "--batch-size", "1")
    _command("evaluate", "lavt", *model, *data, "--out", folder / "record.json")


def prepare_evaluating(inputs: Path) -> None:
    from transformers import BertTokenizerFast

    _many_referents(inputs / "data", 10)
    vocabulary = inputs / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(vocabulary)).save_pretrained(inputs / "tokenizer")
    torch.save(lavt_to_published(small_lavt().state_dict()), inputs / "lavt.pth")


def converting(inputs: Path, folder: Path) -> None:
    """`xattn convert-refer` on the miniature set with many more referents."""
    _command("convert-refer", inputs / "data", "refcoco", "unc", folder / "refcoco.json")


def _many_referents(root: Path, times: int) -> None:
    """The miniature set with each training referent `times` times."""
    made = miniature(root)
    ids = iter(range(1000, 10**9))
    for ref in [ref for ref in made.refs if ref["split"] == "train"] * (times - 1):
        sentences = [sentence | {"sent_id": next(ids)} for sentence in ref["sentences"]]
        sent_ids = [sentence["sent_id"] for sentence in sentences]
        made.refs.append(ref | {"ref_id": next(ids), "sentences": sentences, "sent_ids": sent_ids})
    made.write()


def _command(*arguments: Any) -> None:
    status = cli.main([str(argument) for argument in arguments])
    if status:
        raise RuntimeError(f"xattn {arguments[0]} ended with status {status}")


TASKS = {
    "train": Task(training),
    "checkpoint": Task(checkpointing),
    "reproduce": Task(reproducing),
    "evaluate": Task(evaluating, prepare_evaluating),
    "convert-refer": Task(converting, lambda inputs: _many_referents(inputs / "data", 1000)),
}


# --- kills


def kill(name: str, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill a task so many times; what happened, by kind. Raises AssertionError where anything was lost or half."""
    task, draw = TASKS[name], random.Random(f"{name} {seed}")
    found = {"kills": 0, "finished": 0, "amid_a_write": 0}
    with tempfile.TemporaryDirectory() as scratch:
        inputs, folder, words = (Path(scratch, part) for part in ("inputs", "folder", "words.txt"))
        inputs.mkdir()
        task.prepare(inputs)
        folder.mkdir()
        begin = time.perf_counter()
        assert _attempt(task, inputs, folder, words, None) == FINISHED, words.read_text()
        seconds, expected = time.perf_counter() - begin, contents(folder)
        _empty(folder)
        status = None
        while found["kills"] < kills or status != FINISHED:  # the last kill may come before any file is written
            moment = draw.uniform(0, seconds) if found["kills"] < kills else None
            status = _attempt(task, inputs, folder, words, moment)
            if status == FINISHED:
                assert contents(folder) == expected, f"{name}: other files than without kills: {sorted(expected)}"
                found["finished"] += 1
                _empty(folder)
            else:
                assert status == -signal.SIGKILL, f"{name} ended by itself: {words.read_text()}"
                found["kills"] += 1
                found["amid_a_write"] += any(_is_temporary(path) for path in folder.rglob("*"))
                contents(folder)  # raises for a file that is not whole
                for path in filter(_is_temporary, list(folder.rglob("*"))):
                    path.unlink()  # counted, so that the next one is
    return found | {"seconds": round(seconds, 2)}


def _attempt(task: Task, inputs: Path, folder: Path, words: Path, moment: float | None) -> int:
    """Run the task in a process of its own, killed after `moment` seconds; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = ENDED
        try:
            with words.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            torch.set_num_threads(1)
            task.run(inputs, folder)
            status = FINISHED
        except BaseException:  # noqa: BLE001  whatever it is, this process must not go on as its parent would
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    if moment is not None:
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)  # a child that has ended is there until it is waited for
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder: Path) -> dict[str, Any]:
    """What each file says, but for times, by its name. Raises AssertionError for a file that is not whole."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not _is_temporary(path)):
        try:
            found[str(path.relative_to(folder))] = _content(path)
        except Exception as error:
            raise AssertionError(f"{path.name} is not whole: {error}") from error
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        tensors = safetensors.torch.load(path.read_bytes())
        return {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}
    if path.suffix in (".json", ".partial"):
        return _without_times(json.loads(path.read_bytes()))
    return path.read_bytes()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(part) for name, part in value.items() if name not in UNEQUAL}
    return [_without_times(part) for part in value] if isinstance(value, list) else value


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".part")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"(default: all of {', '.join(TASKS)})")
    parser.add_argument("--kills", type=int, default=100, help="in all (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"the record (default {RECORD.relative_to(ROOT)})")
    options = parser.parse_args()
    names = options.tasks or list(TASKS)
    if unknown := [name for name in names if name not in TASKS]:
        parser.error(f"there is no task {unknown[0]}, only {', '.join(TASKS)}")
    record = {"seed": options.seed, "machine": describe_machine(torch.device("cpu")), "tasks": {}}
    for number, name in enumerate(names):
        share = options.kills // len(names) + (number < options.kills % len(names))
        found = record["tasks"][name] = kill(name, share, options.seed)
        print(name.ljust(14) + ", ".join(f"{kind} {count}" for kind, count in found.items()), flush=True)
    write_atomically(options.out, (json.dumps(record, indent=1) + "\n").encode())
    print(f"{options.out}: written")


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("tools/kills.py needs os.fork, which this system has not: run it on Linux or macOS")
    main()
