"""Pictures with one look: queries, keys and values keep their colours for the whole course.

Functions take arrays (NumPy or torch) and return the matplotlib Axes or Figure they drew. Colours are Okabe and Ito's,
which colour-blind readers can distinguish. Weights run from white (0) to dark blue.
"""

from xattn_edu.plots.charts import learning_curves, seed_bars
from xattn_edu.plots.choices import queries_against_keys
from xattn_edu.plots.lesson_01 import filtered_images, kernel_curves, look_up, multi_head_diagram, weight_tables
from xattn_edu.plots.lesson_02 import dependence_fields, head_kinds, owners, self_attention_diagram, word_links
from xattn_edu.plots.lesson_10 import fusion_paradigms, grouped_bars, masked_words, scene_rows, who_attends, window_grid
from xattn_edu.plots.lesson_11 import dots_by_group, pixels_and_words, score_bars, word_maps
from xattn_edu.plots.lesson_12 import lavt_diagram, leads, stage_maps
from xattn_edu.plots.lesson_13 import (
    Step,
    attention_lanes,
    dependence_tables,
    objects_and_words,
    paired_leads,
    query_key_graph,
    scores_by_size,
    value_mixes,
)
from xattn_edu.plots.objects import leads_of_pathway, object_finder_diagram, object_scene
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
    "Step",
    "VALUE",
    "WEIGHTS",
    "alignment",
    "attention_heatmap",
    "attention_lanes",
    "attention_over_image",
    "attention_rollout",
    "dependence_fields",
    "dependence_tables",
    "dots_by_group",
    "filtered_images",
    "fusion_diagram",
    "fusion_paradigms",
    "grouped_bars",
    "head_kinds",
    "headline",
    "kernel_curves",
    "lavt_diagram",
    "leads",
    "leads_of_pathway",
    "learning_curves",
    "look_up",
    "masked_words",
    "multi_head_diagram",
    "object_finder_diagram",
    "object_scene",
    "objects_and_words",
    "owners",
    "paired_leads",
    "patch_grid",
    "pixels_and_words",
    "pwam_diagram",
    "queries_against_keys",
    "query_key_graph",
    "referent",
    "scene_rows",
    "score_bars",
    "scores_by_size",
    "seed_bars",
    "self_attention_diagram",
    "signed_map",
    "stage_maps",
    "use_style",
    "value_mixes",
    "weight_tables",
    "who_attends",
    "window_grid",
    "word_links",
    "word_maps",
    "word_shares",
]
