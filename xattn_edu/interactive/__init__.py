"""Pictures that answer: a reader changes something, and the picture computes what follows.

Each function returns a `Picture`. As the last line of a cell it is alive in JupyterLab; `write_page` makes one file
that any browser opens without a network; where neither works there is its PNG. docs/interactive.md says how to add one.
"""

from xattn_edu.interactive.picture import Picture

__all__ = ["Picture"]
