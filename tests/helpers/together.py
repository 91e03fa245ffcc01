"""What each of several processes does in test_processes.py: it trains small models and measures them, into a JSON file.

`python together.py FOLDER` starts one process, `accelerate launch ... together.py FOLDER` several.
`python together.py FOLDER STEP` trains with a checkpoint and kills the process of rank 1 in the middle of step STEP.
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from helpers.small_runs import small_model, small_set, without_times
from torch.utils.data import TensorDataset

from xattn_edu.measure.accuracy import accuracy
from xattn_edu.measure.overlaps import overlaps
from xattn_edu.training.loop import train

RANK, PROCESSES = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
RUN = {"epochs": 2, "learning_rate": 5e-3, "device": "cpu", "progress": False}


def measured(model):
    """Metrics of sets whose sizes two and three processes do not divide, and of a single sample."""
    masks = torch.rand(2, 7, 5, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    found = {f"accuracy of {n}": accuracy(model, small_set(n, seed=1)) for n in (31, 1)}
    for count in (7, 1):
        mine = slice(RANK, count, PROCESSES)
        whole = overlaps(masks[0, mine], masks[1, mine]).gathered()
        found |= {f"mIoU of {count}": whole.miou, f"oIoU of {count}": whole.oiou, f"count of {count}": len(whole)}
    return found


def trained(samples, **settings):
    model = small_model(seed=RANK, stochastic_depth=0.0)  # all begin with the first process's weights
    history = train(model, TensorDataset(*small_set(samples).tensors), **RUN, **settings, evaluate=measured)
    # The loss does not depend on the keys' biases, and AdamW makes steps of their rounding.
    weights = {k: v.flatten().tolist() for k, v in model.state_dict().items() if not k.endswith("key.bias")}
    return {"history": without_times(history), "weights": weights}


def die(step):
    """An augmentation that kills the process of rank 1 in a step, without a word."""
    left = [step]

    def augment(images):
        left[0] -= 1
        if left[0] < 0 and RANK == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return images

    return augment


def main(folder, step=None):
    torch.set_num_threads(1)
    if step is not None:
        run = RUN | {"batch_size": 8, "augment": die(int(step)), "checkpoint": f"{folder}/run.safetensors"}
        train(small_model(), small_set(), **run, checkpoint_every=1)
        return
    runs = {
        "whole": trained(43, batch_size=7),  # of the last batch of a single sample some processes have none
        "parts": trained(43, batch_size=7, accumulate=2),
        "single parts": trained(43, batch_size=7, accumulate=7),
        "fewer samples than processes": trained(2, batch_size=2),
        "batches of one": trained(3, batch_size=1),
    }
    Path(folder, f"{RANK}_of_{PROCESSES}.json").write_text(json.dumps(runs))
    if PROCESSES > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
