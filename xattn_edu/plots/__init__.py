"""Pictures with one look: queries, keys and values keep their colours for the whole course.

Functions take arrays (NumPy or torch) and return the matplotlib Axes or Figure they drew. Colours are Okabe and Ito's,
which colour-blind readers can distinguish. Weights run from white (0) to dark blue.
"""

from xattn_edu.plots.charts import learning_curves, seed_bars
from xattn_edu.plots.choices import queries_against_keys
from xattn_edu.plots.referring import pwam_diagram, referent
from xattn_edu.plots.style import (
    CYCLE,
    GREY,
    KEY,
    ORANGE,
    OUTPUT,
    QUERY,
    SKY,
    STYLE,
    VALUE,
    WEIGHTS,
    headline,
    use_style,
)
from xattn_edu.plots.vision import fusion_diagram, patch_grid
from xattn_edu.plots.weights import (
    alignment,
    attention_heatmap,
    attention_over_image,
    attention_rollout,
    signed_map,
    word_shares,
)

__all__ = [
    "CYCLE",
    "GREY",
    "KEY",
    "ORANGE",
    "OUTPUT",
    "QUERY",
    "SKY",
    "STYLE",
    "VALUE",
    "WEIGHTS",
    "alignment",
    "attention_heatmap",
    "attention_over_image",
    "attention_rollout",
    "fusion_diagram",
    "headline",
    "learning_curves",
    "patch_grid",
    "pwam_diagram",
    "queries_against_keys",
    "referent",
    "seed_bars",
    "signed_map",
    "use_style",
    "word_shares",
]
