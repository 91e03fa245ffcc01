"""Checks of the fifth graded set: PWAM, the pathway, oIoU and mIoU, and who needs which word."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.exercises.checking import close
from xattn_edu.exercises.guard import Guarded, Wrong
from xattn_edu.homework.cases import compare_steps, different_sizes
from xattn_edu.homework.exercise import Exercise
from xattn_edu.models.attention import merge_heads, split_heads
from xattn_edu.models.object_finder import ObjectFinder
from xattn_edu.models.pwam import LanguagePathway, PixelWordAttention, instance_norm
from xattn_edu.models.swin import PatchMerging

Steps = tuple[Any, ...]
Mistakes = Mapping[str, Mapping[str, Any]]  # the settings that make a mistake, by its explanation


def _seeded(case: Callable[..., Any]) -> Callable[..., Any]:
    """A case whose tensors and modules are drawn from its seed."""

    @functools.wraps(case)
    def drawn(seed: int) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return case(seed)

    return drawn


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double)


def _spread(module: nn.Module, std: float) -> nn.Module:
    """The module in float64, with weights so large that each of its parts shows in the result.

    The keys' are larger still: an attention that is nearly even gives every pixel the same, and the instance norm makes
    large what rounding has left of the differences.
    """
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=std / parameter.shape[1] ** 0.5)
        else:
            nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
    for part in module.modules():
        if isinstance(part, PixelWordAttention):
            part.key.weight.data *= 4
    return module.double()


def _some_words(lengths: list[int], longest: int) -> Tensor:
    """A mask (batch, word), True for the first words of each sentence."""
    return torch.arange(longest) < torch.tensor(lengths)[:, None]


def _compare(
    given: Any, expected: dict[str, Any], where: str, right: Callable[..., Steps], case: Steps, mistakes: Mistakes
) -> None:
    """`compare_steps` with the mistakes of `right` on this case."""
    compare_steps(given, expected, where, lambda: {cause: right(*case, **how) for cause, how in mistakes.items()})


# --- 1: an encoder that knows the words


def _language_aware_encoder(answer: Guarded, seed: int) -> str:
    """language_aware_encoder(stages, maps, words, mask): what each stage sends to the decoder."""
    for count in (2, 3):
        stages, maps, words, mask = given = _encoder_case(10 * seed + count)
        expected = _encoded(*given)
        where = f"{count} stages, maps {tuple(maps.shape)}, {words.shape[1]} words"
        names = [f"the map from stage {number}" for number in range(1, count + 1)]
        found = answer(stages, maps.clone(), words.clone(), mask.clone())
        _compare(found, dict(zip(names, expected)), where, _encoded, given, _WIRES)
    return "right, for two and three stages: the words go on inside the encoder, and each F goes to the decoder"


@_seeded
def _encoder_case(seed: int) -> tuple[nn.ModuleList, Tensor, Tensor, Tensor]:
    words_width, longest, batch = different_sizes(seed, 3, low=5)
    width, count = 4, seed % 10
    stages = nn.ModuleList()
    for number in range(count):
        channels = width * 2**number
        stage = nn.ModuleDict(
            {
                "blocks": nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels), nn.Tanh()),
                "fusion": PixelWordAttention(channels, words_width, heads=2),
                "norm": nn.LayerNorm(channels),
            }
        )
        if number < count - 1:
            stage["pathway"], stage["merge"] = LanguagePathway(channels), PatchMerging(channels)
        stages.append(stage)
    # Sentences of one word give every pixel the same, and an instance norm makes large what is left by rounding.
    lengths = [3 + number % (longest - 3) for number in range(batch)]
    maps, words = _normal(batch, 8, 12, width), _normal(batch, longest, words_width)
    _spread(stages, 0.8)
    return stages, maps, words, _some_words(lengths, longest)


def _encoded(
    stages: Any,
    maps: Tensor,
    words: Tensor,
    mask: Tensor,
    decoder: Callable[..., Tensor] = lambda norm, v, f, e: norm(f),
    onward: Callable[..., Tensor] = lambda norm, v, f, e: e,
    fused: Callable[..., Tensor] = lambda before, v: v,
    masked: Callable[[Tensor], Tensor] = lambda mask: mask,
    swapped: bool = False,
    backwards: bool = False,
) -> Steps:
    """What goes to the decoder, right as it stands; each setting is a wire that can be laid wrongly."""
    found = []
    for stage in stages:
        vision = stage["blocks"](maps)
        f = stage["fusion"](fused(maps, vision), words, masked(mask))
        e = f  # the last stage has no pathway
        if "pathway" in stage:
            e = stage["pathway"](f, vision) if swapped else stage["pathway"](vision, f)
        found.append(decoder(stage["norm"], vision, f, e))
        if "merge" in stage:
            maps = stage["merge"](onward(stage["norm"], vision, f, e))
    return tuple(x.detach() for x in (found[::-1] if backwards else found))


_WIRES: dict[str, dict[str, Any]] = {
    "The decoder gets norm(F), not norm(E): the gate is for the next stage.": {
        "decoder": lambda norm, v, f, e: norm(e)
    },
    "The decoder gets norm(F), not norm(V): V holds no word of this stage.": {"decoder": lambda norm, v, f, e: norm(v)},
    "The norm on the way to the decoder is missing.": {"decoder": lambda norm, v, f, e: f},
    "The decoder gets the whole F, not the gated one.": {
        "decoder": lambda norm, v, f, e: norm(f) if e is f else norm(e - v)
    },
    "V goes on to the next stage: the words stay outside the encoder. E goes on.": {"onward": lambda norm, v, f, e: v},
    "F alone goes on to the next stage: E is V plus the gated F.": {"onward": lambda norm, v, f, e: f},
    "V + F goes on to the next stage: the gate is missing.": {"onward": lambda norm, v, f, e: v + f},
    "The gated F goes on without V.": {"onward": lambda norm, v, f, e: e - v},
    "The norm is for the decoder: E goes on without it.": {"onward": lambda norm, v, f, e: norm(e)},
    "The decoder's map goes on to the next stage: E goes on.": {"onward": lambda norm, v, f, e: norm(f)},
    "PWAM gets the output of the blocks, V, not their input.": {"fused": lambda before, v: before},
    "The pathway's arguments are exchanged: V first, then F.": {"swapped": True},
    "The mask is inverted: True marks a word.": {"masked": lambda mask: ~mask},
    "The mask is not used: padding is attended to.": {"masked": torch.ones_like},
    "Return the maps in the order of the stages, the first stage first.": {"backwards": True},
}


# --- 2: the gradient of the pathway


def _pathway_gradients(answer: Guarded, seed: int) -> str:
    """pathway_gradients(grad_onward, fused, w1, w2): gradients for V, the gate, F, W1 and W2."""
    pixels, width, hidden = different_sizes(seed, 3, low=3)
    draw = np.random.default_rng(seed).normal
    first = draw(size=(hidden, width))
    first[0] = 0  # a hidden channel whose ReLU gets exactly 0
    second = draw(size=(width, hidden)) / hidden**0.5
    arrays = draw(size=(pixels, width)), draw(size=(pixels, width)), first, second
    names = ("grad_maps", "grad_gate", "grad_fused", "grad_w1", "grad_w2")
    expected = dict(zip(names, _gradients(*arrays)))
    where = f"{pixels} pixels, {width} channels, {hidden} hidden"
    _compare(answer(*(array.copy() for array in arrays)), expected, where, _gradients, arrays, _SLIPS)
    return f"right. {_start(answer, arrays)}"


def _start(answer: Guarded, arrays: tuple[ndarray, ...]) -> str:
    """What the answer says about a gate that starts with zeros."""
    grad, fused, w1, w2 = arrays
    found = []
    for words, first, second in (("W2 = 0", w1, 0 * w2), ("W1 = W2 = 0", 0 * w1, 0 * w2)):
        *_, of_w1, of_w2 = answer(grad.copy(), fused.copy(), first, second)
        sizes = " and ".join(f"{np.abs(gradient).max():.2g}" for gradient in (of_w1, of_w2))
        found.append(f"with {words} the gradients have the size {sizes}")
    return "Your function says about W1 and W2: " + "; ".join(found)


def _gradients(
    grad: ndarray,
    fused: ndarray,
    w1: ndarray,
    w2: ndarray,
    *,
    maps: Callable[..., ndarray] = lambda grad, gate: grad,
    by: Callable[..., ndarray] = lambda grad, fused: grad * fused,
    slope: Callable[[ndarray], ndarray] = lambda gate: 1 - gate**2,
    open_: Callable[..., ndarray] = lambda before, fused: before > 0,
    parts: tuple[float, float, float] = (1, 1, 0),
    relu: bool = True,
    mean: bool = False,
) -> Steps:
    """The five gradients, right as it stands; each setting makes a mistake."""
    before = fused @ w1.T
    hidden = np.maximum(before, 0) if relu else before
    gate = np.tanh(hidden @ w2.T)
    grad_gate = by(grad, fused)
    grad_second = grad_gate * slope(gate)
    grad_hidden = grad_second @ w2
    grad_before = grad_hidden * open_(before, hidden)
    factor, through, direct = parts
    grad_fused = factor * gate * grad + through * grad_before @ w1 + direct * grad
    count = len(fused) if mean else 1
    return maps(grad, gate), grad_gate, grad_fused, grad_before.T @ fused / count, grad_second.T @ hidden / count


_SLIPS: dict[str, dict[str, Any]] = {
    "F stands in two places, as a factor and inside the gate: the way through the gate is missing.": {
        "parts": (1, 0, 0)
    },
    "F stands in two places, inside the gate and as a factor: the factor is missing.": {"parts": (0, 1, 0)},
    "V is added, not F: the gradient for F has no term of its own.": {"parts": (1, 1, 1)},
    "V is added unchanged: its gradient is that of E.": {"maps": lambda grad, gate: grad * gate},
    "V is added once and stands nowhere else: its gradient is that of E.": {
        "maps": lambda grad, gate: grad * (1 + gate)
    },
    "The gate is multiplied by F, so its gradient is too.": {"by": lambda grad, fused: grad},
    "The derivative of tanh is missing.": {"slope": np.ones_like},
    "The derivative of tanh is 1 - tanh^2: the square is missing.": {"slope": lambda gate: 1 - gate},
    "That is the derivative of the sigmoid; tanh's is 1 - tanh^2.": {"slope": lambda gate: gate * (1 - gate)},
    "The derivative of the ReLU is missing: nothing flows back where it gave 0.": {
        "open_": lambda before, hidden: np.ones_like(before)
    },
    "The derivative of the ReLU is 1 or 0, not its output.": {"open_": lambda before, hidden: hidden},
    "Where the input of the ReLU is 0, its derivative counts as 0.": {"open_": lambda before, hidden: before >= 0},
    "The ReLU is missing on the way forward.": {"relu": False, "open_": lambda before, hidden: np.ones_like(before)},
    "A weight serves all pixels, so its gradient is the sum over them, not the mean.": {"mean": True},
}


# --- 3: a PWAM to be mended


def _mended_pwam(answer: Guarded, seed: int) -> str:
    """mended_pwam(layer, maps, words, mask): weights, G and F of PWAM as published."""
    layer, maps, words, mask = given = _pwam_case(seed)
    names = ("weights", "gathered", "fused")
    expected = dict(zip(names, _pwam(*given)))
    where = f"maps {tuple(maps.shape)}, {words.shape[1]} words, {layer.heads} heads"
    found = answer(layer, maps.clone(), words.clone(), mask.clone())
    try:
        _compare(found, expected, where, _pwam, given, FAULTS)
    except Wrong as wrong:
        hint = " The values of padding must be 0: an instance norm makes large what rounding leaves of 0."
        raise Wrong(f"{wrong}{hint if _differs_by_rounding(found, expected) else ''}") from None
    return "right: all four faults are mended, and a sentence without words does no harm"


def _differs_by_rounding(found: Any, expected: dict[str, Any]) -> bool:
    """Whether only G of the sentence without words differs, and by little."""
    if not isinstance(found, tuple | list) or len(found) != 3 or not all(isinstance(x, Tensor) for x in found):
        return False
    parts = [(given, right) for given, right in zip(found, expected.values()) if given.shape == right.shape]
    return len(parts) == 3 and all(close(x[:2], y[:2]) for x, y in parts) and close(found[0], expected["weights"])


@_seeded
def _pwam_case(seed: int) -> tuple[PixelWordAttention, Tensor, Tensor, Tensor]:
    rows, columns, longest = different_sizes(seed, 3, low=4, high=8)
    heads = 2 + seed % 2
    layer = PixelWordAttention(heads * (4 + seed % 2), words_width=9, heads=heads)
    _spread(layer, 1.5)
    layer.language.bias.data *= 0.1
    mask = _some_words([longest, longest - 2, 0], longest)
    words = _normal(3, longest, 9) * torch.where(mask, 1, 100)[..., None]
    return layer, _normal(3, rows, columns, layer.width), words, mask


def _over_channels(pixels: Tensor) -> Tensor:
    return F.layer_norm(pixels, pixels.shape[-1:])


def _same(x: Tensor) -> Tensor:
    return x


def _pwam(
    layer: PixelWordAttention,
    maps: Tensor,
    words: Tensor,
    mask: Tensor,
    *,
    query_norm: Callable[[Tensor], Tensor] = instance_norm,
    norm: Callable[[Tensor], Tensor] = instance_norm,
    scale: str = "all",
    masked: str = "before",
    split: Callable[[Tensor, int], Tensor] = split_heads,
    language: bool = True,
    join: Callable[[Tensor, Tensor], Tensor] = torch.mul,
    inner: Callable[[Tensor], Tensor] = F.gelu,
    outer: Callable[[Tensor], Tensor] = F.gelu,
    returned: Callable[[Tensor], Tensor] = _same,
) -> Steps:
    """The three results of PWAM, right as it stands; each setting makes a fault."""
    grid, pixels = maps.shape[1:3], maps.flatten(1, 2)
    value = layer.value(words) * mask[..., None]
    q, k, v = (split(x, layer.heads) for x in (query_norm(layer.query(pixels)), layer.key(words), value))
    root = {"all": layer.width, "head": layer.width / layer.heads, "none": 1, "square": layer.width**2}[scale] ** 0.5
    scores, seen = q @ k.mT / root, mask[:, None, None]
    if masked == "-inf":
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    elif masked in ("before", "inverted"):
        weights = scores.masked_fill(~seen if masked == "before" else seen, -1e4).softmax(-1)
    else:
        weights = scores.softmax(-1) * (seen if masked == "after" else 1)
    merged = merge_heads(weights @ v)
    found = norm(layer.language(merged) if language else merged)
    fused = outer(layer.output(join(inner(layer.vision(pixels)), found)))
    steps = (returned(weights.unflatten(2, grid)), found.unflatten(1, grid), fused.unflatten(1, grid))
    return tuple(x.detach() for x in steps)


FAULTS: dict[str, dict[str, Any]] = {
    "A fault is left: the query is normalised over the pixels of its image, not over its channels.": {
        "query_norm": _over_channels
    },
    "The query's instance norm is missing.": {"query_norm": _same},
    "A fault is left: the scores are divided by the root of all channels, also with several heads.": {"scale": "head"},
    "The scale is missing.": {"scale": "none"},
    "Divide by the root of the number of channels, not by the number.": {"scale": "square"},
    "A fault is left: weights set to 0 after the softmax no longer add up to 1. Mask the scores.": {"masked": "after"},
    "The mask is missing.": {"masked": "none"},
    "The mask is inverted: True marks a word.": {"masked": "inverted"},
    "A sentence that is all padding must stay finite: give its scores -1e4, not -inf.": {"masked": "-inf"},
    "The channels go to the heads in consecutive blocks: view alone cuts across pixels.": {
        "split": lambda x, heads: x.reshape(len(x), heads, x.shape[1], -1)
    },
    "G is what the instance norm returns.": {"norm": _same},
    "G is normalised over the pixels, not over its channels.": {"norm": _over_channels},
    "The projection of what was gathered, `layer.language`, is missing.": {"language": False},
    "A fault is left: V_im and G are multiplied, not added.": {"join": torch.add},
    "The GELU of V_im is missing.": {"inner": _same},
    "The last GELU is missing.": {"outer": _same},
    "Both GELUs are missing.": {"inner": _same, "outer": _same},
    "The published code has a GELU; the ReLU is in the paper's text.": {"inner": F.relu, "outer": F.relu},
    "Return the weights of each head, not their mean.": {"returned": lambda weights: weights.mean(1, keepdim=True)},
}


# --- 4: from logits to scores


def _scored_masks(answer: Guarded, seed: int) -> str:
    """scored_masks(logits, target): masks, IoU of each, oIoU, mIoU, and what oIoU loses without each mask."""
    logits, target = _masks_case(seed)
    names = ("predicted", "iou", "oiou", "miou", "lost")
    where = f"logits {tuple(logits.shape)}, targets {tuple(target.shape)}"
    found, expected = answer(logits.clone(), target.clone()), dict(zip(names, _scores(logits, target)))
    _compare(found, expected, where, _scores, (logits, target), _SHORTCUTS)
    return f"right. {_misses(answer)}"


@_seeded
def _masks_case(seed: int) -> tuple[Tensor, Tensor]:
    """Masks of all sizes; the last expression has no referent, and nothing is predicted."""
    count, rows, columns = different_sizes(seed, 3, low=5)
    target = torch.zeros(count, 3 * rows, 4 * columns, dtype=torch.bool)
    logits = _normal(count, 2, rows, columns)
    logits[:, 1] -= 0.8
    for number in range(count - 1):
        size = number + 2
        target[number, number : number + 2 * size, 1 : 1 + 2 * size] = True
        logits[number, 1, number // 3 : (number + 2 * size) // 3, : size // 2 + 1] += 2.0 + number % 2
    logits[-1, 1] = logits[-1, 0] - 5
    return logits, target


def _resized(logits: Tensor, size: Any, mode: str = "bilinear", align: bool | None = True) -> Tensor:
    return F.interpolate(logits, size, mode=mode, align_corners=align)


def _argmax(logits: Tensor, target: Tensor) -> Tensor:
    return _resized(logits, target.shape[1:]).argmax(1) == 1


def _scores(
    logits: Tensor,
    target: Tensor,
    *,
    paint: Callable[[Tensor, Tensor], Tensor] = _argmax,
    union: Callable[..., Tensor] = lambda p, t: p + t,
    twice: int = 1,
    empty: float = 0.0,
    left_out: bool = False,
    exchanged: bool = False,
    lost: Callable[..., Tensor] | None = None,
) -> Steps:
    """The five results, right as it stands; each setting makes a mistake."""
    predicted = paint(logits, target)
    painted, wanted, both = (x.sum((1, 2)).double() for x in (predicted, target, predicted & target))
    unions = union(painted, wanted) - both if twice == 1 else painted + wanted
    inter = twice * both if twice == 2 else both
    iou = torch.where(unions > 0, inter / unions.clamp(min=1), empty)
    oiou, miou = inter.sum() / unions.sum().clamp(min=1), (iou[unions > 0] if left_out else iou).mean()
    fallen = oiou - (inter.sum() - inter) / (unions.sum() - unions + wanted).clamp(min=1)
    if lost is not None:
        fallen = lost(oiou, inter, unions, wanted, iou)
    return (predicted, iou, float(miou if exchanged else oiou), float(oiou if exchanged else miou), fallen)


_SHORTCUTS: dict[str, dict[str, Any]] = {
    "Resize the logits, then decide: here the small mask was resized.": {
        "paint": lambda x, t: _resized((x.argmax(1) == 1).to(x)[:, None], t.shape[1:])[:, 0] > 0.5
    },
    "Nearest pixels were taken: resize the logits bilinearly, and decide afterwards.": {
        "paint": lambda x, t: _resized(x, t.shape[1:], "nearest", None).argmax(1) == 1
    },
    "The corners are aligned: align_corners=True.": {
        "paint": lambda x, t: _resized(x, t.shape[1:], align=False).argmax(1) == 1
    },
    "Channel 1 is the referent, channel 0 the background.": {"paint": lambda x, t: ~_argmax(x, t)},
    "A pixel belongs to the referent if its logit is larger than the background's, not larger than 0.": {
        "paint": lambda x, t: _resized(x, t.shape[1:])[:, 1] > 0
    },
    "The union holds the common pixels once: here they are counted twice.": {"twice": 0},
    "This is Dice, 2 I / (P + T): IoU is I / U.": {"twice": 2},
    "Two empty masks count as IoU 0, not 1.": {"empty": 1.0},
    "The mean holds every expression: two empty masks count as IoU 0, and are not left out.": {"left_out": True},
    "oIoU and mIoU are exchanged: oIoU is the sum of intersections over the sum of unions.": {"exchanged": True},
    "What is lost has the sign of a loss: oIoU as it is, minus oIoU without this mask.": {
        "lost": lambda o, i, u, t, each: (i.sum() - i) / (u.sum() - u + t) - o
    },
    "Without its mask an expression still has a union: its target.": {
        "lost": lambda o, i, u, t, each: o - (i.sum() - i) / (u.sum() - u)
    },
    "Without its mask the union of an expression is smaller, too: only its target is left.": {
        "lost": lambda o, i, u, t, each: o - (i.sum() - i) / u.sum()
    },
    "That is what mIoU loses: in oIoU all sums change.": {"lost": lambda o, i, u, t, each: each / len(each)},
    "Return what is lost, not the oIoU that is left.": {
        "lost": lambda o, i, u, t, each: (i.sum() - i) / (u.sum() - u + t)
    },
}


def _misses(answer: Guarded) -> str:
    """What emptying a wrong mask does, measured with the answer: one hit, one miss, both of the same size."""
    target, logits = torch.zeros(2, 8, 8, dtype=torch.bool), torch.zeros(2, 2, 8, 8, dtype=torch.double)
    target[:, 1:4, 1:4] = True
    logits[:, 1] = -1
    logits[0, 1, 1:4, 1:4] = logits[1, 1, 5:8, 5:8] = 1
    *_, oiou, miou, lost = answer(logits, target)
    return (
        f"One hit and one miss of the same size: oIoU {float(oiou):.2f}, mIoU {float(miou):.2f}. Without the mask that "
        f"misses, oIoU is {float(oiou) - float(lost[1]):.2f}, and mIoU stays"
    )


# --- 5: who needs which word


def _word_needs(answer: Guarded, seed: int) -> str:
    """word_needs(finder, objects, present, ids, mask, substitutes): what the scores and the choice lose by a word."""
    finder, *given = _finder_case(seed)
    expected = _needs(finder, *given)
    objects, _, ids, _, substitutes = given
    where = f"{len(ids)} sentences of {ids.shape[1]} words, {objects.shape[1]} objects, {len(substitutes)} substitutes"
    found = answer(finder, *(tensor.clone() for tensor in given))
    _compare(found, dict(zip(("moved", "changed"), expected)), where, _needs, (finder, *given), _INTERVENTIONS)
    return "right: each word is replaced in its place alone, and padding is needed by nobody"


@_seeded
def _finder_case(seed: int) -> tuple[Any, ...]:
    count, longest, others = different_sizes(seed, 3, low=3, high=6)
    batch = 2
    finder = ObjectFinder(20, categories=5, colours=4, sizes=3, width=8, depth=1, heads=2)
    _spread(finder, 1.3).eval().requires_grad_(False)
    objects = torch.stack([torch.randint(high, (batch, count)) for high in (5, 4, 3, 240, 240)], dim=-1)
    present = torch.arange(count) < count - torch.arange(batch)[:, None] % 2
    mask = _some_words([longest - number % 2 for number in range(batch)], longest)
    ids = torch.randint(1, 12, (batch, longest)) * mask
    ids[:, 1] = ids[:, 0]  # a word that stands in two places
    substitutes = torch.arange(12, 12 + others)
    substitutes[0] = ids[0, 0]  # and one that is a substitute as well
    return finder, objects, present, ids, mask, substitutes


def _needs(
    finder: ObjectFinder,
    objects: Tensor,
    present: Tensor,
    ids: Tensor,
    mask: Tensor,
    substitutes: Tensor,
    *,
    replaced: Callable[[Tensor, Tensor], Tensor] | None = None,
    hidden: bool = False,
    counted: bool = False,
    size: Callable[[Tensor, Tensor], Tensor] = lambda changes, share: (changes.abs() * share).sum(1),
    scored: Callable[[Tensor], Tensor] = _same,
    chosen: Callable[[Tensor], Tensor] = lambda scores: scores.argmax(-1),
) -> Steps:
    """`moved` (batch, object, word) and `changed` (batch, word), right as it stands; each setting makes a mistake."""
    (batch, length), count = ids.shape, len(substitutes)
    new = (replaced or _in_its_place)(ids, substitutes)  # (word, substitute, batch, length)
    seen = mask.expand_as(new)
    if hidden:
        new, seen = ids.expand_as(new), seen & ~torch.eye(length, dtype=torch.bool)[:, None, None]
    scenes = (x.expand(length, count, *x.shape).flatten(0, 2) for x in (objects, present))
    before = scored(finder(objects, present, ids, mask))
    after = scored(finder(*scenes, new.flatten(0, 2), seen.flatten(0, 2))).unflatten(0, (length, count, batch))
    real = (substitutes[:, None] != ids.T[:, None]) | torch.tensor(hidden or counted)  # (word, substitute, batch)
    share = mask.T[:, None] * real / real.sum(1, keepdim=True)
    moved = size(after - before, share[..., None])
    changed = ((chosen(after) != chosen(before)) * share).sum(1)
    return moved.permute(1, 2, 0), changed.T.to(moved)


def _in_its_place(ids: Tensor, substitutes: Tensor) -> Tensor:
    place = torch.eye(ids.shape[1], dtype=torch.bool)[:, None, None]
    return torch.where(place, substitutes[:, None, None], ids)


def _wherever_it_stands(ids: Tensor, substitutes: Tensor) -> Tensor:
    alike = (ids[:, :, None] == ids[:, None]).transpose(0, 1)[:, None]  # (word, 1, batch, length)
    return torch.where(alike, substitutes[:, None, None], ids)


def _one_after_the_other(ids: Tensor, substitutes: Tensor) -> Tensor:
    """The words before a place hold the last substitute that was tried there."""
    length = ids.shape[1]
    before = torch.ones(length, length, dtype=torch.bool).tril(-1)[:, None, None]
    return torch.where(before, substitutes[-1], _in_its_place(ids, substitutes))


_INTERVENTIONS: dict[str, dict[str, Any]] = {
    "Each word is replaced alone: here the words replaced before it stayed replaced.": {
        "replaced": _one_after_the_other
    },
    "Replace the word in its place alone: it may stand in another place, too.": {"replaced": _wherever_it_stands},
    "The word was hidden by the mask: replace it, and leave the mask as it is.": {"hidden": True},
    "A substitute that is the word itself replaces nothing: leave it out of both means.": {"counted": True},
    "Changes of both signs cancel: take the absolute change before the mean.": {
        "size": lambda changes, share: (changes * share).sum(1)
    },
    "Changes of both signs cancel: here the absolute value was taken after the mean.": {
        "size": lambda changes, share: (changes * share).sum(1).abs()
    },
    "The mean over the substitutes is demanded, not the sum.": {
        "size": lambda changes, share: (changes.abs() * (share > 0)).sum(1)
    },
    "The mean over the substitutes is demanded, not the largest change.": {
        "size": lambda changes, share: (changes.abs() * (share > 0)).amax(1)
    },
    "The mean of the absolute changes is demanded, not the root of the mean square.": {
        "size": lambda changes, share: (changes**2 * share).sum(1).sqrt()
    },
    "The change of the scores is demanded, not that of their softmax.": {"scored": lambda x: x.softmax(-1)},
    "The choice is the object with the largest score, not the smallest.": {"chosen": lambda x: x.argmin(-1)},
    "`changed` is about the choice, not about the whole order of the objects.": {
        "chosen": lambda x: (x.argsort(-1) * torch.tensor([float(10**n) for n in range(x.shape[-1])])).sum(-1)
    },
}


EXERCISES: dict[str, Exercise] = {
    "language_aware_encoder": Exercise(_language_aware_encoder, "language_aware_encoder", 15, 2, 20, "12, 12.1"),
    "pathway_gradients": Exercise(_pathway_gradients, "pathway_gradients", 18, 3, 30, "11, 11.7"),
    "mended_pwam": Exercise(_mended_pwam, "mended_pwam", 17, 2, 25, "11, 11.10"),
    "scored_masks": Exercise(_scored_masks, "scored_masks", 15, 2, 20, "10, 10.4"),
    "word_needs": Exercise(_word_needs, "word_needs", 15, 2, 25, "12, 12.3"),
}
