"""Wrong answers, and right ones written in another way, to the fifth graded set: PWAM, pathway, scores, words."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from xattn_edu.homework.mistakes.mistake import Answer, different, mistakes
from xattn_edu.measure.overlaps import overlaps
from xattn_edu.models.attention import merge_heads, split_heads
from xattn_edu.models.pwam import instance_norm

# Below each exercise's right answer has switches; a mistake turns one of them.


# --- an encoder that knows the words


def encoder(
    stages: Any,
    maps: Any,
    words: Any,
    mask: Any,
    decoder: Callable[..., Any] = lambda norm, v, f, e: norm(f),
    onward: Callable[..., Any] = lambda norm, v, f, e: e,
    before: bool = False,
    swapped: bool = False,
) -> Any:
    found = []
    for stage in stages:
        v = stage["blocks"](maps)
        f = stage["fusion"](maps if before else v, words, mask)
        e = f
        if "pathway" in stage:
            e = stage["pathway"](f, v) if swapped else stage["pathway"](v, f)
        found.append(decoder(stage["norm"], v, f, e))
        if "merge" in stage:
            maps = stage["merge"](onward(stage["norm"], v, f, e))
    return found


def encoder_by_recursion(stages: Any, maps: Any, words: Any, mask: Any) -> Any:
    stage = stages[0]
    vision = stage["blocks"](maps)
    fused = stage["fusion"](vision, words, mask)
    here = (stage["norm"](fused),)
    if len(stages) == 1:
        return here
    return here + encoder_by_recursion(stages[1:], stage["merge"](stage["pathway"](vision, fused)), words, mask)


def encoder_with_the_gate_written_out(stages: Any, maps: Any, words: Any, mask: Any) -> Any:
    found: list[Any] = []
    for number, stage in enumerate(stages):
        if number:
            maps = stages[number - 1]["merge"](maps)
        vision = stage["blocks"](maps)
        fused = stage["fusion"](vision, words, mask)
        found = [*found, stage["norm"](fused)]
        if number < len(stages) - 1:
            maps = vision + stage["pathway"].gate(fused) * fused
    return found


def encoder_into_a_list(stages: Any, maps: Any, words: Any, mask: Any) -> Any:
    visions, to_decoder = [], [None] * len(stages)
    for i in range(len(stages)):
        visions.append(stages[i]["blocks"](maps))
        fused = stages[i]["fusion"](maps=visions[i], words=words, word_mask=mask)
        to_decoder[i] = stages[i]["norm"](fused)
        if i + 1 < len(stages):
            maps = stages[i]["merge"](stages[i]["pathway"](maps=visions[i], fused=fused))
    return tuple(to_decoder)


def gated_alone(stages: Any, maps: Any, words: Any, mask: Any) -> Any:
    found = []
    for stage in stages:
        fused = stage["fusion"](stage["blocks"](maps), words, mask)
        found.append(stage["norm"](fused))
        maps = stage["merge"](stage["pathway"].gate(fused) * fused) if "merge" in stage else maps
    return found


ENCODER: dict[str, tuple[str, Answer]] = {
    "E to the decoder": ("not norm(E)", partial(encoder, decoder=lambda norm, v, f, e: norm(e))),
    "V to the decoder": ("not norm(V)", partial(encoder, decoder=lambda norm, v, f, e: norm(v))),
    "no norm": ("norm on the way to the decoder", partial(encoder, decoder=lambda norm, v, f, e: f)),
    "gated F to the decoder": (
        "not the gated one",
        partial(encoder, decoder=lambda norm, v, f, e: norm(f if e is f else e - v)),
    ),
    "V onward": ("stay outside the encoder", partial(encoder, onward=lambda norm, v, f, e: v)),
    "F onward": ("F alone goes on", partial(encoder, onward=lambda norm, v, f, e: f)),
    "V + F onward": ("the gate is missing", partial(encoder, onward=lambda norm, v, f, e: v + f)),
    "gated F onward": ("goes on without V", gated_alone),
    "E normed": ("E goes on without it", partial(encoder, onward=lambda norm, v, f, e: norm(e))),
    "words before the blocks": ("output of the blocks, V", partial(encoder, before=True)),
    "arguments exchanged": ("arguments are exchanged", partial(encoder, swapped=True)),
    "mask inverted": ("mask is inverted", lambda s, x, w, m: encoder(s, x, w, ~m)),
    "no mask": ("padding is attended to", lambda s, x, w, m: encoder(s, x, w, torch.ones_like(m))),
    "last stage first": ("in the order of the stages", lambda *a: encoder(*a)[::-1]),
    "the last map alone": ("given a Tensor", lambda *a: encoder(*a)[-1]),
    "without the last stage": ("given 1", lambda *a: encoder(*a)[:-1]),
}
ENCODERS: dict[str, Answer] = {
    "by recursion": encoder_by_recursion,
    "the gate written out": encoder_with_the_gate_written_out,
    "arguments by name, a tuple": encoder_into_a_list,
    "a pathway asked for": encoder,
}


# --- the gradient of the pathway


def gradients(
    grad: Any,
    fused: Any,
    w1: Any,
    w2: Any,
    slope: Callable[..., Any] = lambda gate: 1 - gate**2,
    opened: Callable[..., Any] = lambda before: before > 0,
    factor: Callable[..., Any] = lambda grad, gate: grad * gate,
    through: bool = True,
    of_gate: Callable[..., Any] = lambda grad, fused: grad * fused,
    of_maps: Callable[..., Any] = lambda grad, gate: grad,
    relu: bool = True,
) -> tuple[Any, ...]:
    before = fused @ w1.T
    hidden = np.maximum(before, 0) if relu else before
    gate = np.tanh(hidden @ w2.T)
    grad_gate = of_gate(grad, fused)
    second = grad_gate * slope(gate)
    first = second @ w2 * opened(before)
    whole = factor(grad, gate) + (first @ w1 if through else 0)
    return of_maps(grad, gate), grad_gate, whole, first.T @ fused, second.T @ hidden


def gradients_by_autograd(grad: Any, fused: Any, w1: Any, w2: Any) -> Any:
    maps = torch.zeros(fused.shape, dtype=torch.double, requires_grad=True)
    f, a, b = (torch.tensor(x, requires_grad=True) for x in (fused, w1, w2))
    gate = ((f @ a.T).relu() @ b.T).tanh()
    gate.retain_grad()
    (maps + gate * f).backward(torch.tensor(grad))
    return [x.grad.numpy() for x in (maps, gate, f, a, b)]


def gradients_pixel_by_pixel(grad: Any, fused: Any, w1: Any, w2: Any) -> Any:
    whole, of_w1, of_w2 = np.zeros(fused.shape), np.zeros(w1.shape), np.zeros(w2.shape)
    for number, (g, f) in enumerate(zip(grad, fused)):
        hidden = (w1 @ f).clip(min=0)
        gate = np.tanh(w2 @ hidden)
        back = g * f / np.cosh(np.arctanh(gate)) ** 2
        of_w2 += np.outer(back, hidden)
        back_first = np.where(hidden > 0, w2.T @ back, 0)
        of_w1 += np.outer(back_first, f)
        whole[number] = g * gate + w1.T @ back_first
    return grad.copy(), grad * fused, whole, of_w1, of_w2


def gradients_by_einsum(grad: Any, fused: Any, w1: Any, w2: Any) -> Any:
    before = np.einsum("pc,hc->ph", fused, w1)
    gate = np.tanh(np.einsum("ph,ch->pc", before * (before > 0), w2))
    back = np.einsum("pc,pc,pc->pc", grad, fused, 1 - gate * gate)
    first = np.einsum("pc,ch,ph->ph", back, w2, (before > 0).astype(float))
    return (
        grad,
        fused * grad,
        gate * grad + np.einsum("ph,hc->pc", first, w1),
        np.einsum("ph,pc->hc", first, fused),
        np.einsum("pc,ph->ch", back, np.where(before > 0, before, 0)),
    )


def weights_averaged(grad: Any, fused: Any, w1: Any, w2: Any) -> Any:
    *rest, of_w1, of_w2 = gradients(grad, fused, w1, w2)
    return *rest, of_w1 / len(fused), of_w2 / len(fused)


GRADIENTS: dict[str, tuple[str, Answer]] = {
    "not through the gate": ("way through the gate is missing", partial(gradients, through=False)),
    "no factor": ("the factor is missing", partial(gradients, factor=lambda grad, gate: 0)),
    "V's path for F": ("no term of its own", partial(gradients, factor=lambda grad, gate: grad * (1 + gate))),
    "V gated": ("V is added unchanged", partial(gradients, of_maps=lambda grad, gate: grad * gate)),
    "V twice": ("stands nowhere else", partial(gradients, of_maps=lambda grad, gate: grad + grad * gate)),
    "the gate's without F": ("multiplied by F, so", partial(gradients, of_gate=lambda grad, fused: grad)),
    "no tanh": ("derivative of tanh is missing", partial(gradients, slope=lambda gate: 1)),
    "tanh without the square": ("the square is missing", partial(gradients, slope=lambda gate: 1 - gate)),
    "the sigmoid's derivative": ("derivative of the sigmoid", partial(gradients, slope=lambda gate: gate * (1 - gate))),
    "no ReLU on the way back": ("nothing flows back", partial(gradients, opened=lambda before: 1)),
    "ReLU's output for its derivative": ("1 or 0, not its output", partial(gradients, opened=lambda b: b.clip(0))),
    "1 where the ReLU gets 0": ("counts as 0", partial(gradients, opened=lambda before: before >= 0)),
    "no ReLU at all": ("missing on the way forward", partial(gradients, relu=False, opened=lambda before: 1)),
    "mean over the pixels": ("not the mean", weights_averaged),
    "weights transposed": (
        "expected shape (6, 4)",
        lambda *a: (*gradients(*a)[:3], gradients(*a)[3].T, gradients(*a)[4].T),
    ),
    "four gradients": ("given 4", lambda *a: gradients(*a)[1:]),
}
OTHER_GRADIENTS: dict[str, Answer] = {
    "autograd": gradients_by_autograd,
    "pixel by pixel": gradients_pixel_by_pixel,
    "einsum": gradients_by_einsum,
    "written out": gradients,
}


# --- a PWAM to be mended


def pwam(
    layer: Any,
    maps: Any,
    words: Any,
    mask: Any,
    query_norm: Callable[..., Any] = instance_norm,
    norm: Callable[..., Any] = instance_norm,
    root: Callable[..., float] = lambda layer: layer.width**0.5,
    masked: Callable[..., Any] = lambda scores, seen: scores.masked_fill(~seen, -1e4).softmax(-1),
    split: Callable[..., Any] = split_heads,
    join: Callable[..., Any] = torch.mul,
    inner: Callable[..., Any] = F.gelu,
    outer: Callable[..., Any] = F.gelu,
    values: bool = True,
    language: bool = True,
) -> tuple[Any, Any, Any]:
    grid, pixels = maps.shape[1:3], maps.flatten(1, 2)
    value = layer.value(words) * mask[..., None] if values else layer.value(words)
    q, k, v = (split(x, layer.heads) for x in (query_norm(layer.query(pixels)), layer.key(words), value))
    weights = masked(q @ k.transpose(-1, -2) / root(layer), mask[:, None, None])
    merged = merge_heads(weights @ v)
    found = norm(layer.language(merged) if language else merged)
    fused = outer(layer.output(join(inner(layer.vision(pixels)), found)))
    return weights.unflatten(2, grid), found.unflatten(1, grid), fused.unflatten(1, grid)


def layer_norm(x: Any) -> Any:
    return F.layer_norm(x, x.shape[-1:])


def same(x: Any) -> Any:
    return x


def averaged(*arguments: Any) -> Any:
    weights, found, fused = pwam(*arguments)
    return weights.mean(1, keepdim=True), found, fused


def as_released(layer: Any, maps: Any, words: Any, mask: Any) -> Any:
    """Keys of padding 0 as well, and the mask as a sum, with einsum."""
    batch, row, column, width = maps.shape
    seen = mask.to(maps)
    pixels = maps.reshape(batch, row * column, width)
    q = F.instance_norm(layer.query(pixels).transpose(1, 2)).transpose(1, 2)
    k, v = layer.key(words) * seen[..., None], layer.value(words) * seen[..., None]
    q, k, v = (x.reshape(batch, -1, layer.heads, width // layer.heads) for x in (q, k, v))
    scores = torch.einsum("bphd,bwhd->bhpw", q, k) / width**0.5 + (1e4 * seen - 1e4)[:, None, None]
    weights = torch.softmax(scores, dim=-1)
    found = instance_norm(layer.language(torch.einsum("bhpw,bwhd->bphd", weights, v).reshape(batch, -1, width)))
    fused = F.gelu(layer.output(F.gelu(layer.vision(pixels)) * found)).reshape(maps.shape)
    return weights.reshape(batch, layer.heads, row, column, -1), found.reshape(maps.shape), fused


def norms_by_hand(layer: Any, maps: Any, words: Any, mask: Any) -> Any:
    def normed(x: Any) -> Any:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5)

    return pwam(layer, maps, words, mask, query_norm=normed, norm=normed)


def by_the_library(layer: Any, maps: Any, words: Any, mask: Any) -> Any:
    weights, found, _ = pwam(layer, maps, words, mask)
    fused, own_weights = layer(maps, words, mask, return_weights=True)
    return own_weights, found, fused


PWAM: dict[str, tuple[str, Answer]] = {
    "query over its channels": ("normalised over the pixels of its image", partial(pwam, query_norm=layer_norm)),
    "query without a norm": ("query's instance norm is missing", partial(pwam, query_norm=same)),
    "the width of a head": ("root of all channels", partial(pwam, root=lambda f: (f.width / f.heads) ** 0.5)),
    "no scale": ("The scale is missing", partial(pwam, root=lambda f: 1)),
    "no root": ("not by the number", partial(pwam, root=lambda f: f.width)),
    "masked after the softmax": ("no longer add up to 1", partial(pwam, masked=lambda s, m: s.softmax(-1) * m)),
    "no mask": ("The mask is missing", partial(pwam, masked=lambda s, m: s.softmax(-1))),
    "mask inverted": ("mask is inverted", partial(pwam, masked=lambda s, m: s.masked_fill(m, -1e4).softmax(-1))),
    "-inf": ("not -inf", partial(pwam, masked=lambda s, m: s.masked_fill(~m, -torch.inf).softmax(-1))),
    "heads by view": (
        "view alone cuts",
        partial(pwam, split=lambda x, heads: x.reshape(len(x), heads, x.shape[1], -1)),
    ),
    "G without a norm": ("what the instance norm returns", partial(pwam, norm=same)),
    "G over its channels": ("G is normalised over the pixels", partial(pwam, norm=layer_norm)),
    "no w_iw": ("`layer.language`", partial(pwam, language=False)),
    "V_im + G": ("multiplied, not added", partial(pwam, join=torch.add)),
    "no first GELU": ("GELU of V_im is missing", partial(pwam, inner=same)),
    "no last GELU": ("last GELU is missing", partial(pwam, outer=same)),
    "no GELU": ("Both GELUs", partial(pwam, inner=same, outer=same)),
    "ReLU": ("in the paper's text", partial(pwam, inner=F.relu, outer=F.relu)),
    "weights averaged over heads": ("not their mean", averaged),
    "values of padding kept": ("values of padding must be 0", partial(pwam, values=False)),
    "F alone": ("return 3 values", lambda *a: pwam(*a)[2]),
}
PWAMS: dict[str, Answer] = {
    "as released": as_released,
    "norms by hand": norms_by_hand,
    "the library's layer, and G by hand": by_the_library,
    "the lowest number": partial(
        pwam, masked=lambda s, m: s.masked_fill(~m, torch.finfo(s.dtype).min).softmax(-1), outer=torch.nn.GELU()
    ),
}


# --- from logits to scores


def resized(logits: Any, target: Any, mode: str = "bilinear", align: bool | None = True) -> Any:
    return F.interpolate(logits, target.shape[1:], mode=mode, align_corners=align)


def painted(logits: Any, target: Any) -> Any:
    return resized(logits, target).argmax(dim=1) == 1


def scores(
    logits: Any,
    target: Any,
    paint: Callable[..., Any] = painted,
    union: Callable[..., Any] = lambda p, t: p | t,
    empty: float = 0.0,
    dice: bool = False,
    lost: Callable[..., Any] = lambda o, i, u, t: o - (i.sum() - i) / (u.sum() - u + t),
) -> tuple[Any, ...]:
    predicted = paint(logits, target)
    wanted = target.sum((1, 2))
    inter = (predicted & target).sum((1, 2))
    unions = predicted.sum((1, 2)) + wanted if dice or union is None else union(predicted, target).sum((1, 2))
    inter = 2 * inter if dice else inter
    iou = torch.where(unions > 0, inter / unions.clamp(min=1), empty)
    oiou = inter.sum() / unions.sum()
    return predicted, iou, oiou, iou.mean(), lost(oiou, inter, unions, wanted)


def small_mask_resized(logits: Any, target: Any) -> Any:
    return resized((logits[:, 1:] > logits[:, :1]).float(), target)[:, 0] > 0.5


def scores_exchanged(logits: Any, target: Any) -> Any:
    predicted, iou, oiou, miou, lost = scores(logits, target)
    return predicted, iou, miou, oiou, lost


def empty_left_out(logits: Any, target: Any) -> Any:
    predicted, iou, oiou, miou, lost = scores(logits, target)
    return predicted, iou, oiou, iou[(predicted | target).any(2).any(1)].mean(), lost


def scores_by_the_library(logits: Any, target: Any) -> Any:
    predicted = painted(logits, target)
    found = overlaps(predicted, target)
    lost = []
    for number in range(len(target)):
        without = predicted.clone()
        without[number] = False
        lost.append(found.oiou - overlaps(without, target).oiou)
    return [predicted, found.iou, found.oiou, found.miou, torch.tensor(lost)]


def scores_of_probabilities(logits: Any, target: Any) -> Any:
    return scores(logits, target, paint=lambda x, t: resized(x, t).softmax(dim=1)[:, 1] > 0.5)


def scores_one_by_one(logits: Any, target: Any) -> Any:
    predicted = [
        F.interpolate(x[None], t.shape, mode="bilinear", align_corners=True)[0] for x, t in zip(logits, target)
    ]
    masks = torch.stack([x[1] > x[0] for x in predicted])
    pairs = [(int((p & t).sum()), int((p | t).sum()), int(t.sum())) for p, t in zip(masks, target)]
    total_i, total_u = sum(i for i, _, _ in pairs), sum(u for _, u, _ in pairs)
    iou = [i / u if u else 0.0 for i, u, _ in pairs]
    lost = [total_i / total_u - (total_i - i) / (total_u - u + t) for i, u, t in pairs]
    return masks, torch.tensor(iou), total_i / total_u, sum(iou) / len(iou), torch.tensor(lost)


SCORES: dict[str, tuple[str, Answer]] = {
    "small mask resized": ("the small mask was resized", partial(scores, paint=small_mask_resized)),
    "nearest": (
        "Nearest pixels",
        partial(scores, paint=lambda x, t: resized(x, t, "nearest", None).argmax(1) == 1),
    ),
    "corners not aligned": (
        "The corners are aligned",
        partial(scores, paint=lambda x, t: resized(x, t, align=False).argmax(1) == 1),
    ),
    "background painted": ("Channel 1 is the referent", partial(scores, paint=lambda x, t: ~painted(x, t))),
    "larger than 0": ("not larger than 0", partial(scores, paint=lambda x, t: resized(x, t)[:, 1] > 0)),
    "both areas as the union": ("counted twice", partial(scores, union=None)),
    "Dice": ("This is Dice", partial(scores, dice=True)),
    "empty masks count 1": ("as IoU 0, not 1", partial(scores, empty=1.0)),
    "empty masks left out": ("and are not left out", empty_left_out),
    "exchanged": ("oIoU and mIoU are exchanged", scores_exchanged),
    "sign of the loss": (
        "sign of a loss",
        partial(scores, lost=lambda o, i, u, t: (i.sum() - i) / (u.sum() - u + t) - o),
    ),
    "expression left out": (
        "still has a union",
        partial(scores, lost=lambda o, i, u, t: o - (i.sum() - i) / (u.sum() - u)),
    ),
    "union as it was": ("smaller, too", partial(scores, lost=lambda o, i, u, t: o - (i.sum() - i) / u.sum())),
    "what mIoU loses": (
        "That is what mIoU loses",
        partial(scores, lost=lambda o, i, u, t: i / u.clamp(min=1) / len(i)),
    ),
    "what is left": (
        "not the oIoU that is left",
        partial(scores, lost=lambda o, i, u, t: (i.sum() - i) / (u.sum() - u + t)),
    ),
    "0 and 1": ("True and False", lambda *a: (scores(*a)[0].float(), *scores(*a)[1:])),
}
OTHER_SCORES: dict[str, Answer] = {
    "by the library": scores_by_the_library,
    "probabilities above one half": scores_of_probabilities,
    "one by one": scores_one_by_one,
    "argmax": scores,
}


# --- who needs which word


def needs(
    finder: Any,
    objects: Any,
    present: Any,
    ids: Any,
    mask: Any,
    substitutes: Any,
    counted: bool = False,
    hidden: bool = False,
    kept: bool = False,
    everywhere: bool = False,
    read: Callable[..., Any] = same,
    size: Callable[..., Any] = torch.abs,
    finish: Callable[..., Any] = same,
    chosen: Callable[..., Any] = lambda scores: scores.argmax(1),
) -> Any:
    """The right answer: two loops, and a mean in which a word is no substitute for itself."""
    before = read(finder(objects, present, ids, mask))
    moved, changed = torch.zeros(*before.shape, ids.shape[1]), torch.zeros(ids.shape)
    now = ids.clone()
    for place in range(ids.shape[1]):
        real = (substitutes[:, None] != ids[:, place]) | counted | hidden
        for number, substitute in enumerate(substitutes):
            new, seen = (now if kept else ids.clone()), mask.clone()
            if hidden:
                seen[:, place] = False
            elif everywhere:
                new[ids == ids[:, place : place + 1]] = substitute
            else:
                new[:, place] = substitute
            after = read(finder(objects, present, new, seen))
            share = real[number] * mask[:, place] / real.sum(0)
            moved[:, :, place] += size(after - before) * share[:, None]
            changed[:, place] += (chosen(after) != chosen(before)) * share
    return finish(moved), changed


def largest(finder: Any, objects: Any, present: Any, ids: Any, mask: Any, substitutes: Any) -> Any:
    moved, changed = needs(finder, objects, present, ids, mask, substitutes)
    each = [needs(finder, objects, present, ids, mask, one[None])[0].nan_to_num() for one in substitutes]
    return torch.stack(each).amax(0), changed


def summed(finder: Any, objects: Any, present: Any, ids: Any, mask: Any, substitutes: Any) -> Any:
    moved, changed = needs(finder, objects, present, ids, mask, substitutes)
    return moved * (substitutes[:, None, None] != ids).sum(0)[:, None], changed


def all_at_once(finder: Any, objects: Any, present: Any, ids: Any, mask: Any, substitutes: Any) -> Any:
    """One batch with every word of every sentence replaced by every substitute."""
    (batch, length), count = ids.shape, len(substitutes)
    before = finder(objects, present, ids, mask)
    new = ids[:, None, None].repeat(1, length, count, 1)  # (batch, place, substitute, word)
    for place in range(length):
        new[:, place, :, place] = substitutes
    rows = torch.arange(batch).repeat_interleave(length * count)
    after = finder(objects[rows], present[rows], new.reshape(-1, length), mask[rows])
    after = after.reshape(batch, length, count, -1)
    real = (substitutes != ids[:, :, None]) & mask[:, :, None]
    total = real.sum(2).clamp(min=1)
    moved = ((after - before[:, None, None]).abs() * real[..., None]).sum(2) / total[..., None]
    changed = ((after.argmax(3) != before.argmax(1)[:, None, None]) & real).sum(2) / total
    return moved.transpose(1, 2), changed


def sentence_by_sentence(finder: Any, objects: Any, present: Any, ids: Any, mask: Any, substitutes: Any) -> Any:
    moved, changed = torch.zeros(*present.shape, ids.shape[1]), torch.zeros(ids.shape)
    for b in range(len(ids)):
        scene = objects[b : b + 1], present[b : b + 1]
        before = finder(*scene, ids[b : b + 1], mask[b : b + 1])[0]
        for word in range(int(mask[b].sum())):
            others = [s for s in substitutes.tolist() if s != ids[b, word]]
            after = []
            for other in others:
                new = ids[b : b + 1].clone()
                new[0, word] = other
                after.append(finder(*scene, new, mask[b : b + 1])[0])
            moved[b, :, word] = torch.stack([(x - before).abs() for x in after]).mean(0)
            changed[b, word] = sum(int(x.argmax() != before.argmax()) for x in after) / len(after)
    return moved, changed


def with_numpy_shares(finder: Any, objects: Any, present: Any, ids: Any, mask: Any, substitutes: Any) -> Any:
    moved, changed = needs(finder, objects, present, ids, mask, substitutes)
    return moved.numpy(), changed.numpy()


def root_mean_square(*arguments: Any) -> Any:
    return needs(*arguments, size=torch.square, finish=torch.sqrt)


NEEDS: dict[str, tuple[str, Answer]] = {
    "replaced words kept": ("stayed replaced", partial(needs, kept=True)),
    "in every place": ("in its place alone", partial(needs, everywhere=True)),
    "hidden by the mask": ("hidden by the mask", partial(needs, hidden=True)),
    "the word itself counted": ("replaces nothing", partial(needs, counted=True)),
    "signs kept": ("the absolute change before the mean", partial(needs, size=same)),
    "absolute after the mean": ("taken after the mean", partial(needs, size=same, finish=torch.abs)),
    "summed": ("not the sum", summed),
    "the largest": ("not the largest change", largest),
    "root mean square": ("not the root of the mean square", root_mean_square),
    "of the softmax": ("not that of their softmax", partial(needs, read=lambda x: x.softmax(1))),
    "the smallest score": ("not the smallest", partial(needs, chosen=lambda x: x.argmin(1))),
    "words before objects": ("expected shape", lambda *a: (needs(*a)[0].transpose(1, 2), needs(*a)[1])),
    "ids changed in place": ("in place, and its caller", lambda f, o, p, i, m, s: needs(f, o, p, i.fill_(3), m, s)),
    "moved alone": ("return 2 values", lambda *a: needs(*a)[0]),
}
OTHER_NEEDS: dict[str, Answer] = {
    "all at once": all_at_once,
    "sentence by sentence": sentence_by_sentence,
    "two loops": needs,
    "arrays": with_numpy_shares,
}

_TABLES = {
    "language_aware_encoder": ("12, 12.1", ENCODER, ENCODERS),
    "pathway_gradients": ("11, 11.7", GRADIENTS, OTHER_GRADIENTS),
    "mended_pwam": ("11, 11.10", PWAM, PWAMS),
    "scored_masks": ("10, 10.4", SCORES, OTHER_SCORES),
    "word_needs": ("12, 12.3", NEEDS, OTHER_NEEDS),
}
MISTAKES = tuple(
    mistake
    for exercise, (section, wrong, _) in _TABLES.items()
    for mistake in mistakes(f"hw5.{exercise}", section, wrong)
)
DIFFERENT = different("hw5", {exercise: right for exercise, (_, _, right) in _TABLES.items()})
