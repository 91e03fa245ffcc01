"""LAVT once more, pixel by pixel and word by word, from the description of the published model."""

import math

import torch
from torch.nn import functional as F

from xattn_edu.models.pwam import PixelWordAttention


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(module):
    """The module in float64, in eval mode, with every parameter random, and the statistics of its norms as well."""
    for index, parameter in enumerate(module.double().parameters()):
        parameter.data = 0.5 * draw(*parameter.shape, seed=index)
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(draw(*buffer.shape, seed=len(name)).abs() + 0.5)
    return module.eval()


def assert_same(module, ours, theirs, *inputs):
    """The same output and the same gradients of parameters and inputs."""
    torch.testing.assert_close(ours, theirs)
    wanted = [p for p in (*module.parameters(), *inputs) if p.requires_grad]
    direction = draw(*ours.shape, seed=9)
    gradients = [torch.autograd.grad((x * direction).sum(), wanted, allow_unused=True) for x in (ours, theirs)]
    for one, other in zip(*gradients):
        if one is not None or other is not None:
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-6)


def slow_linear(layer, maps):
    bias = 0 if layer.bias is None else layer.bias
    vectors = [layer.weight @ vector + bias for vector in maps.flatten(0, -2)]
    return torch.stack(vectors).reshape(*maps.shape[:-1], -1)


def slow_norm(maps):
    """One channel of one image after the other."""
    normed = []
    for image in maps:
        for channel in image.flatten(0, 1).T:
            mean = sum(channel) / len(channel)
            variance = sum((value - mean) ** 2 for value in channel) / len(channel)
            normed.append((channel - mean) / (variance + 1e-5).sqrt())
    batch, rows, columns, width = maps.shape
    return torch.stack(normed).reshape(batch, width, rows, columns).permute(0, 2, 3, 1)


def slow_gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def slow_pwam(module, maps, words, mask):
    batch, rows, columns, width = maps.shape
    query = slow_norm(slow_linear(module.query, maps))
    key = slow_linear(module.key, words) * mask[..., None]
    value = slow_linear(module.value, words) * mask[..., None]
    dim = width // module.heads
    mixed, weights = [], []
    for image in range(batch):
        for row in range(rows):
            for column in range(columns):
                for head in range(module.heads):
                    part = slice(head * dim, (head + 1) * dim)
                    scores = [
                        query[image, row, column, part] @ key[image, word, part] / math.sqrt(width)
                        + (1e4 * mask[image, word] - 1e4)
                        for word in range(words.shape[1])
                    ]
                    powers = [(score - max(scores)).exp() for score in scores]
                    shares = [power / sum(powers) for power in powers]
                    weights.append(torch.stack(shares))
                    mixed.append(sum(share * value[image, word, part] for word, share in enumerate(shares)))
    gathered = slow_norm(slow_linear(module.language, torch.stack(mixed).reshape(batch, rows, columns, width)))
    fused = slow_gelu(slow_linear(module.output, slow_gelu(slow_linear(module.vision, maps)) * gathered))
    return fused, torch.stack(weights).reshape(batch, rows, columns, module.heads, -1).permute(0, 3, 1, 2, 4)


def slow_sentence(module, maps, words, mask):
    fused = []
    for image, pixels in enumerate(maps):
        counting = [word for word, counts in zip(words[image], mask[image]) if counts]
        mean = sum(counting) / len(counting) if counting else torch.zeros_like(words[image, 0])
        first, _, last = module.language
        sentence = last.weight @ (first.weight @ mean + first.bias).clamp(min=0) + last.bias
        fused.append(slow_gelu(slow_linear(module.output, slow_gelu(slow_linear(module.vision, pixels)) * sentence)))
    return torch.stack(fused), None


def slow_pathway(module, maps, fused):
    first, _, last, _ = module.gate
    return maps + slow_linear(last, slow_linear(first, fused).clamp(min=0)).tanh() * fused


def slow_resize(maps, size):
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)


def slow_decoder(module, stages):
    stages = [stage.permute(0, 3, 1, 2) for stage in stages]
    maps = stages[-1]
    for level, finer in zip(module.levels, stages[-2::-1]):
        maps = torch.cat((slow_resize(maps, finer.shape[2:]), finer), dim=1)
        for convolution, norm, _ in level:
            maps = F.conv2d(maps, convolution.weight, padding=1)
            mean, variance, scale, shift = (
                x[:, None, None] for x in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            )
            maps = ((maps - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)
    return F.conv2d(maps, module.logits.weight, module.logits.bias)


def slow_lavt(model, images, ids, mask):
    words, swin = model.language(ids, mask), model.image_encoder
    maps, fusions = swin.embed(images), []
    for i, fusion in enumerate(model.fusions):
        maps = swin.stages[i](swin.merges[i - 1](maps) if i else maps)
        slow = slow_pwam if isinstance(fusion, PixelWordAttention) else slow_sentence
        fused, _ = slow(fusion, maps, words, mask)
        fusions.append(swin.norms[i](fused))
        if len(model.pathways):
            maps = slow_pathway(model.pathways[i], maps, fused)
    return slow_resize(slow_decoder(model.decoder, fusions), images.shape[2:])
