"""The stored LAVT of notebooks 11 and 12, loaded once for all pictures that look into it."""

from functools import cache

from xattn_edu.experiments.runs import RESULTS
from xattn_edu.predict.loading import load_segmenter
from xattn_edu.predict.segmenter import Segmenter

WEIGHTS = RESULTS / "lavt" / "model-lavt_seed-0_cpu.safetensors"


@cache
def segmenter() -> Segmenter:
    """The model that the file describes, and what makes its input. Raises FileNotFoundError without the file."""
    return load_segmenter(WEIGHTS, device="cpu")
