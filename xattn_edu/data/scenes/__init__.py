"""Referring scenes, drawn by a program: objects on a background, an expression that names one of them, its mask.

`paint` says what the task is and how its splits differ; `layouts` places objects so that an expression leaves one;
`expressions` words it in English or Korean; `sprites` holds the objects.
"""

from xattn_edu.data.scenes.expressions import KINDS, LANGUAGES, vocabulary
from xattn_edu.data.scenes.layouts import SPLITS, Layout, held_out
from xattn_edu.data.scenes.paint import DEVIATION, MEAN, Scenes, scene_layouts, scenes
from xattn_edu.data.scenes.sprites import CATEGORIES, COLOURS, OBJECTS

__all__ = ["CATEGORIES", "COLOURS", "DEVIATION", "KINDS", "LANGUAGES", "MEAN", "OBJECTS", "SPLITS", "Layout", "Scenes"]
__all__ += ["held_out", "scene_layouts", "scenes", "vocabulary"]
