"""A LAVT of random weights, and weights as `xattn reproduce` stores them."""

from dataclasses import replace

import safetensors.torch
import torch

from xattn_edu.data import scenes as referring_scenes
from xattn_edu.experiments import referring
from xattn_edu.experiments.sizes import LAVT_SIZES, REFERRING_SIZES
from xattn_edu.models.language import SPECIAL, SmallBert, build_tokenizer
from xattn_edu.models.lavt import lavt_swin

WORDS = [*SPECIAL, *"a the left right man in red grey dog sign top one people caf ##e ##s mann ##equin . , $".split()]


def small_lavt(
    seed=0, *, width=8, depths=(1, 2, 1), heads=(1, 2, 4), words=16, bert_heads=1, length=24, layers=1, **more
):
    """Every weight random, so that no norm and no bias hides what it does."""
    torch.manual_seed(seed)
    language = SmallBert(len(WORDS), words, layers, bert_heads, length)
    model = lavt_swin(width, depths, heads, window=more.pop("window", 3), language=language, **more)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    return model.eval()


OWN = {"referring": REFERRING_SIZES, "lavt": LAVT_SIZES}


def store_own(folder, model="decoder_fusion", experiment="referring", **changes):
    """Weights as `xattn reproduce` leaves them, with `changes` in their description; the model that they are of."""
    size, vocabulary = OWN[experiment]["ci"], len(build_tokenizer(referring_scenes.vocabulary("english")))
    torch.manual_seed(0)
    network = referring.MODELS[model](size, vocabulary).eval()
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(half)
    path = folder / f"model-{model}_seed-0_ci.safetensors"
    description = replace(referring.describe(model, size, vocabulary), **changes)
    path.write_bytes(safetensors.torch.save(half, description.metadata()))
    return path, network
