"""The catalogue of named mistakes, over the exercises of the lessons and the graded sets.

`MISTAKES` and `DIFFERENT` join the entries of all modules here that have some, one a lesson and one a set. The modules
are imported when one of the two is first asked for: nobody who solves an exercise needs them.
"""

import importlib
import pkgutil
from typing import Any

from xattn_edu.homework.mistakes.mistake import Different, Mistake

__all__ = ["DIFFERENT", "MISTAKES", "Different", "Mistake"]

MISTAKES: tuple[Mistake, ...]
DIFFERENT: tuple[Different, ...]


def __getattr__(name: str) -> Any:
    if name not in ("MISTAKES", "DIFFERENT"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    joined = tuple(entry for module in modules for entry in getattr(module, name, ()))
    return globals().setdefault(name, joined)
