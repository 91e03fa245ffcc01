"""State dicts: whether two are equal, with other names, and a Swin's as its authors published it."""

import re

import torch

from xattn_edu.models.swin import Swin


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def renamed(state_dict, patterns):
    """The tensors under other names: each pattern is replaced, one after the other."""
    result = {}
    for name, tensor in state_dict.items():
        for pattern, new in patterns.items():
            name = re.sub(pattern, new, name)
        result[name] = tensor
    return result


def small_swin(window=3, depths=(2, 1)):
    model = Swin(4, depths, tuple(2**i for i in range(len(depths))), window=window)
    for parameter in model.parameters():
        parameter.data.normal_()
    return model


def microsofts(ours, norms=False):
    """A file as the authors published it, from the state dict of ours; by hand, from its names."""
    theirs = {}
    for name, tensor in ours.items():
        part, index, *rest = name.split(".")
        if part == "patch_embedding":
            theirs[f"patch_embed.{index.replace('projection', 'proj')}.{rest[0]}"] = tensor
        elif part == "merges":
            theirs[f"layers.{index}.downsample.{'.'.join(rest)}"] = tensor
        elif part == "norms":
            theirs |= {f"norm{index}.{rest[0]}": tensor} if norms else {}
        elif rest[-1] == "bias_table":
            place = f"layers.{index}.blocks.{rest[1]}"
            theirs[f"{place}.attn.relative_position_bias_table"] = tensor
            theirs[f"{place}.attn.relative_position_index"] = torch.zeros(9, 9, dtype=torch.long)
            theirs |= {f"{place}.attn_mask": torch.zeros(4, 9, 9)} if rest[1] == "1" else {}
        else:
            inner = ".".join(rest[2:]).replace("attention.output", "attn.proj").replace("attention.", "attn.")
            theirs[f"layers.{index}.blocks.{rest[1]}.{inner}"] = tensor
    if not norms:
        theirs |= {f"{part}.{kind}": torch.zeros(8) for part in ("norm", "head") for kind in ("weight", "bias")}
    return theirs
