"""Pictures that answer: a reader changes something, and the picture computes what follows.

Each function returns a `Picture`. As the last line of a cell it is alive in JupyterLab; `write_page` makes one file
that any browser opens without a network; where neither works there is its PNG. docs/interactive.md says how to add one.
"""

from xattn_edu.interactive.big_and_small_letters import big_and_small_letters
from xattn_edu.interactive.cost_of_a_vit import cost_of_a_vit
from xattn_edu.interactive.overlaps import overlaps
from xattn_edu.interactive.picture import Picture
from xattn_edu.interactive.pixels_and_words import pixels_and_words
from xattn_edu.interactive.query_in_the_plane import query_in_the_plane
from xattn_edu.interactive.seeds import seeds

__all__ = [
    "Picture",
    "big_and_small_letters",
    "cost_of_a_vit",
    "overlaps",
    "pixels_and_words",
    "query_in_the_plane",
    "seeds",
]
