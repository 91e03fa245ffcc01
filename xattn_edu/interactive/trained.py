"""The stored LAVT of notebooks 11 and 12, loaded once for all pictures that look into it."""

from functools import cache

import torch

from xattn_edu.experiments.runs import RESULTS
from xattn_edu.predict.loading import load_segmenter
from xattn_edu.predict.segmenter import Segmenter

WEIGHTS = RESULTS / "lavt" / "model-lavt_seed-0_cpu.safetensors"


@cache
def segmenter() -> Segmenter:
    """The model that the file describes, and what makes its input. Raises FileNotFoundError without the file.

    Random numbers go on as if it had not been loaded: the cells behind a picture draw the same with it and without.
    """
    with torch.random.fork_rng(devices=[]):  # a model draws first weights before it gets those of the file
        return load_segmenter(WEIGHTS, device="cpu")
