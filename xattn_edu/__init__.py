"""xattn_edu: attention, from NumPy to cross-attention in vision, in a library small enough to read.

import xattn_edu as xe
model = xe.create_model("deit_tiny_patch16_224")
"""

from xattn_edu.models.attention import MultiHeadAttention, attention_rollout, causal_mask
from xattn_edu.models.registry import create_model, list_models
from xattn_edu.shapes import ShapeError, check_shapes
from xattn_edu.weights.pretrained import load_pretrained

__all__ = [
    "MultiHeadAttention",
    "ShapeError",
    "attention_rollout",
    "causal_mask",
    "check_shapes",
    "create_model",
    "list_models",
    "load_pretrained",
]
__version__ = "0.1.0"
