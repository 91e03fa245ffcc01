"""One training loop for the whole course, its history, and the checkpoints it is continued from."""

from xattn_edu.training.history import History
from xattn_edu.training.loop import adamw, cosine_schedule, train

__all__ = ["History", "adamw", "cosine_schedule", "train"]
