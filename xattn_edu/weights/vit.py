"""ViT's weights from `transformers`.

theirs (on the hub, transformers 4)                    | ours
vit.embeddings.patch_embeddings.projection.weight      | patch_embedding.projection.weight
vit.encoder.layer.0.attention.attention.query.weight   | blocks.0.attention.query.weight
vit.encoder.layer.0.intermediate.dense.bias            | blocks.0.mlp.fc1.bias
classifier.weight                                      | head.weight
"""

import re
from collections.abc import Mapping

from torch import Tensor

from xattn_edu.weights.names import prefix_hint, shorten, unwrapped

# Hugging Face's names for a ViT block, as in the files on its hub (transformers 4) and since transformers 5.
_HF_BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.attention.query": "attention.query",
    "attention.attention.key": "attention.key",
    "attention.attention.value": "attention.value",
    "attention.output.dense": "attention.output",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "attention.q_proj": "attention.query",
    "attention.k_proj": "attention.key",
    "attention.v_proj": "attention.value",
    "attention.o_proj": "attention.output",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_HF_OUTSIDE = {
    "embeddings.cls_token": "class_token",
    "embeddings.position_embeddings": "positions",
    "embeddings.patch_embeddings.projection.weight": "patch_embedding.projection.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embedding.projection.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
    "classifier.weight": "head.weight",
    "classifier.bias": "head.bias",
}
_HF_LAYER = re.compile(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)")


def vit_from_transformers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `transformers`' ViTForImageClassification as one for our `ViT`.

    Published DeiT weights (deit-*-patch16-224) have this form too. Names of transformers 4 (as in files on the hub)
    and 5 are understood. Load the result with `model.load_state_dict`. Raises ValueError, which names the keys, if keys
    are missing or not known; a distilled DeiT is refused, because it has a second token.
    """
    converted, unknown = {}, []
    state_dict = unwrapped(state_dict)
    for name, tensor in state_dict.items():
        inner = re.sub(r"^(vit|deit)\.", "", name)
        layer = _HF_LAYER.fullmatch(inner)
        if inner in _HF_OUTSIDE:
            converted[_HF_OUTSIDE[inner]] = tensor
        elif layer and layer[2] in _HF_BLOCK:
            converted[f"blocks.{layer[1]}.{_HF_BLOCK[layer[2]]}.{layer[3]}"] = tensor
        else:
            unknown.append(name)
    if any("distillation" in name for name in unknown):
        raise ValueError(
            f"this is a distilled DeiT: {unknown} belong to a second token that our ViT (and deit_*_patch16_224) lacks"
        )
    if unknown:
        hint = prefix_hint(state_dict, [name for name in _HF_OUTSIDE if not name.startswith("classifier")])
        raise ValueError(f"these keys are not those of a ViTForImageClassification: {shorten(unknown)}{hint}")
    depth = 1 + max((int(name.split(".")[1]) for name in converted if name.startswith("blocks.")), default=0)
    expected = set(_HF_OUTSIDE.values()) | {
        f"blocks.{i}.{part}.{kind}"
        for i in range(depth)
        for part in set(_HF_BLOCK.values())
        for kind in ("weight", "bias")
    }
    missing = sorted(expected - set(converted))
    if missing:
        raise ValueError(f"the state dict has nothing for these keys of our ViT: {shorten(missing)}")
    return converted
