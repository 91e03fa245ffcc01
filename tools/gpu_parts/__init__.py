"""The parts of `python tools/gpu.py`, by name: each takes a `Setup` and returns its section of the record."""

from gpu_parts import attention, marked, precision, speed, training
from gpu_parts.setup import Setup, header

PARTS = {
    "tests": marked.run,
    "training": training.run,
    "precision": precision.run,
    "attention": attention.run,
    "speed": speed.run,
}

__all__ = ["PARTS", "Setup", "header"]
