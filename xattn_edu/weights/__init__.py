"""Weights from elsewhere: state dicts of others as ours, and ours as theirs. One file for each family of models.

All functions that read state dicts of others first take off what training adds, see `names.unwrapped`.
"""

from xattn_edu.weights.crossvit import (
    crossvit_from_published,
    crossvit_from_timm,
    crossvit_to_published,
    crossvit_to_timm,
)
from xattn_edu.weights.lavt import lavt_from_published, lavt_to_published
from xattn_edu.weights.swin import swin_from_microsoft, swin_from_transformers
from xattn_edu.weights.transformer import attention_from_torch, transformer_from_torch
from xattn_edu.weights.vit import vit_from_transformers

__all__ = [
    "attention_from_torch",
    "crossvit_from_published",
    "crossvit_from_timm",
    "crossvit_to_published",
    "crossvit_to_timm",
    "lavt_from_published",
    "lavt_to_published",
    "swin_from_microsoft",
    "swin_from_transformers",
    "transformer_from_torch",
    "vit_from_transformers",
]
