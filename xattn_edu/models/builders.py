"""Models that segment, built from plain numbers: what a file of weights can say about the model it is of."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from xattn_edu.models.decoder_fusion import DecoderFusion
from xattn_edu.models.language import SmallBert
from xattn_edu.models.lavt import LAVT
from xattn_edu.models.swin import Swin
from xattn_edu.shapes import check_choice

BUILDERS = {"LAVT": LAVT, "DecoderFusion": DecoderFusion}


def build_model(
    builder: str, image_encoder: Mapping[str, Any], language: Mapping[str, Any], settings: Mapping[str, Any]
) -> nn.Module:
    """A model with random weights: a Swin, a SmallBert, and the class in BUILDERS that joins them.

    `image_encoder` are `Swin`'s arguments, `language` `SmallBert`'s, and `settings` the further arguments of the class:

        build_model("LAVT", {"width": 32, "depths": [1, 2], "heads": [2, 4]}, {"vocabulary_size": 99}, {"heads": 1})

    Raises ValueError for another builder and for sizes that do not fit, TypeError for an argument that a class lacks.
    """
    check_choice("builder", builder, BUILDERS)
    return BUILDERS[builder](Swin(**image_encoder), SmallBert(**language), **settings)
