"""Checks of the exercises inside the lessons: each prints whether an answer is right, and if not, the likely mistake.

A check calls the reader's function on several inputs and compares the results with a reference. The inputs are chosen
so that wrong answers give wrong results. A check never raises: a notebook runs to its end with its exercises open.
"""

from xattn_edu.exercises.lesson_01 import attention_gradients, denoiser, stable_softmax, window_mask
from xattn_edu.exercises.lesson_02 import cross_attention, dependence, heads_apart, look_back
from xattn_edu.exercises.lesson_03 import decoder_layer, exchanged_date, grouped_attention, three_masks
from xattn_edu.exercises.lesson_04 import channel_gate, linear_attention, pooled_lead
from xattn_edu.exercises.lesson_05 import cut_patches, plane_positions, pre_norm_block, vit_parameters
from xattn_edu.exercises.lesson_06 import ahead_or_open, quadratic_share, rollout, training_exaflops
from xattn_edu.exercises.lesson_07 import class_token_attention, folded_attention, fusion_macs
from xattn_edu.exercises.lesson_08 import class_token_fusion, pairwise_sum, shown_leads
from xattn_edu.exercises.lesson_09 import crossvit_macs, intensity, pareto_frontier
from xattn_edu.exercises.lesson_10 import overall_and_mean_iou, pixels_ask_words, window_bias, word_pieces
from xattn_edu.exercises.lesson_11 import gated, gather_words, norm_over_pixels
from xattn_edu.exercises.lesson_12 import join_levels, lavt_stage, paired_lead, seeds_needed
from xattn_edu.exercises.lesson_13 import cross_attention_macs, look_up, own_cross_attention

__all__ = [
    "ahead_or_open",
    "attention_gradients",
    "channel_gate",
    "class_token_attention",
    "class_token_fusion",
    "cross_attention",
    "cross_attention_macs",
    "crossvit_macs",
    "cut_patches",
    "decoder_layer",
    "denoiser",
    "dependence",
    "exchanged_date",
    "folded_attention",
    "fusion_macs",
    "gated",
    "gather_words",
    "grouped_attention",
    "heads_apart",
    "intensity",
    "join_levels",
    "lavt_stage",
    "linear_attention",
    "look_back",
    "look_up",
    "norm_over_pixels",
    "overall_and_mean_iou",
    "own_cross_attention",
    "paired_lead",
    "pairwise_sum",
    "pareto_frontier",
    "pixels_ask_words",
    "plane_positions",
    "pooled_lead",
    "pre_norm_block",
    "quadratic_share",
    "rollout",
    "seeds_needed",
    "shown_leads",
    "stable_softmax",
    "three_masks",
    "training_exaflops",
    "vit_parameters",
    "window_bias",
    "window_mask",
    "word_pieces",
]
