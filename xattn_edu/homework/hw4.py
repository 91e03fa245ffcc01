"""Checks of the fourth graded set: CrossViT's two scales, its fusion by the class token, the folded form, Table 6."""

import itertools
import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.exercises.altered import with_one_head, with_transposed_weight, without_bias
from xattn_edu.exercises.checking import close, compare, compare_pairs, refuse_none, two
from xattn_edu.exercises.guard import Guarded, Wrong
from xattn_edu.homework.exercise import Exercise
from xattn_edu.homework.hw4_counting import convention, fusion_costs
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.fusions import ClassTokenAttention
from xattn_edu.models.vit import patchify

Pair = tuple[int, int]  # of branch S and of branch L

# --- two scales

# (height, width) that the branch sees; side of a patch; matrix, bias, class token and positions
Branch = tuple[Pair, int, Tensor, Tensor, Tensor, Tensor]


def _two_scale_tokens(answer: Guarded, seed: int) -> str:
    """two_scale_tokens(images, small, large): z_0 of both branches, the images resized to each branch's size."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    for other_size in (False, True):
        batch, channel = draw.sample((1, 2, 3), 2)
        widths = draw.sample(range(5, 12), 2)
        grids, patches = ((draw.choice((4, 5)), 6), (2, 3)), (draw.choice((2, 3)), draw.choice((4, 5)))
        small, large = (_drawn_branch(*sizes, channel) for sizes in zip(grids, patches, widths))
        size = (small[0][0] + 3, small[0][1] + 7) if other_size else small[0]
        images = torch.rand(batch, channel, *size, dtype=torch.double).round()  # bicubic overshoots at edges
        given = two(answer(images, small, large), "the tokens of S and the tokens of L")
        expected = _tokens(images, small), _tokens(images, large)
        where = f"images {size[0]} x {size[1]}, S sees {small[0]}, L sees {large[0]}"
        names = {0: "tokens of S", 1: "tokens of L"}
        compare_pairs(given, expected, where, _embedding_mistakes(images, small, large), names)
    return "right, whether the images have S's size or neither branch's"


def _drawn_branch(grid: Pair, patch: int, width: int, channel: int) -> Branch:
    numbers = [(channel * patch**2, width), (width,), (width,), (1 + grid[0] * grid[1], width)]
    matrix, bias, class_token, positions = (torch.randn(*shape, dtype=torch.double) for shape in numbers)
    matrix = matrix / patch
    return (grid[0] * patch, grid[1] * patch), patch, matrix, bias, class_token, positions


def _tokens(images: Tensor, branch: Branch, cut: Callable[[Tensor, int], Tensor] = patchify, **how: Any) -> Tensor:
    size, patch, matrix, bias, class_token, positions = branch
    resized = F.interpolate(images, size, **({"mode": "bicubic"} | how))
    return _behind(class_token, cut(resized, patch) @ matrix + bias) + positions


def _behind(class_token: Tensor, patches: Tensor) -> Tensor:
    return torch.cat([class_token.expand(len(patches), 1, -1), patches], dim=1)


# Long because it is a list of mistakes, one after the other.
def _embedding_mistakes(images: Tensor, small: Branch, large: Branch) -> dict[str, tuple[Any, Any]]:
    def both(tokens: Callable[[Tensor, Branch], Any]) -> tuple[Any, Any]:
        return tokens(images, small), tokens(images, large)

    def cut_as(pattern: str) -> tuple[Any, Any]:
        def cut(x: Tensor, patch: int) -> Tensor:
            return rearrange(x, f"b c (row p) (column q) -> {pattern}", p=patch, q=patch)

        return both(lambda x, branch: _tokens(x, branch, cut))

    right = both(_tokens)
    branches = small, large
    (s_class, s_positions), (l_class, l_positions) = ((b[4], b[5]) for b in branches)
    bare = right[0] - s_positions, right[1] - l_positions
    last = [torch.cat([x[:, 1:], x[:, :1]], dim=1) for x in bare]
    already_small = F.interpolate(images, small[0], mode="bicubic")
    no_bias = [_behind(b[4], x[:, 1:] - b[3]) + b[5] for b, x in zip(branches, bare)]
    bias_for_all = [torch.cat([x[:, :1] + b[3], x[:, 1:]], dim=1) for b, x in zip(branches, right)]
    clamped = both(
        lambda x, b: _tokens(F.interpolate(x, b[0], mode="bicubic").clamp(x.min().item(), x.max().item()), b)
    )
    return {
        "Both are the tokens of S.": (right[0], right[0]),
        "Both are the tokens of L.": (right[1], right[1]),
        "They come in the order S, L.": right[::-1],
        "Every image of the batch has the patches of the first.": tuple(
            torch.cat([x[:, :1], x[:1, 1:].expand(len(x), -1, -1)], dim=1) for x in right
        ),
        "The bias belongs to the patches; here the class token alone has it.": tuple(
            torch.cat([x[:, :1] + b[3], x[:, 1:] - b[3]], dim=1) for b, x in zip(branches, right)
        ),
        "Bicubic, not bilinear.": both(lambda x, b: _tokens(x, b, mode="bilinear")),
        "Bicubic, not nearest.": both(lambda x, b: _tokens(x, b, mode="nearest")),
        "Bicubic, not the mean over an area.": both(lambda x, b: _tokens(x, b, mode="area")),
        "align_corners=False: a pixel is an area, not a point.": both(lambda x, b: _tokens(x, b, align_corners=True)),
        "Without antialias.": both(lambda x, b: _tokens(x, b, antialias=True)),
        "L's view is made from the images, not from the view that S sees.": (right[0], _tokens(already_small, large)),
        "What bicubic interpolation overshoots stays: nothing is clamped.": clamped,
        "Patches are numbered row by row: token 2 stands right of token 1.": cut_as("b (column row) (c p q)"),
        "In a patch the channel comes first: channel, row, column.": cut_as("b (row column) (p q c)"),
        "In a patch the rows come before the columns.": cut_as("b (row column) (c q p)"),
        "The position embeddings are missing.": bare,
        "The class token has a position, too: the first.": (
            torch.cat([s_class.expand(len(images), 1, -1), right[0][:, 1:]], dim=1),
            torch.cat([l_class.expand(len(images), 1, -1), right[1][:, 1:]], dim=1),
        ),
        "Only the class token has got a position.": tuple(
            torch.cat([x[:, :1], y[:, 1:]], dim=1) for x, y in zip(right, bare)
        ),
        "The class token comes first, before the patches.": (last[0] + s_positions, last[1] + l_positions),
        "The class token comes first, before the patches, and has the first position.": tuple(
            torch.cat([x[:, 1:], x[:, :1]], dim=1) for x in right
        ),
        "The bias of the patch embedding is missing.": (no_bias[0], no_bias[1]),
        "The class token is no patch: it gets no bias.": (bias_for_all[0], bias_for_all[1]),
        "The class token is missing.": (right[0][:, 1:], right[1][:, 1:]),
        "The class token is missing: what stands first is zero and its position.": (
            torch.cat([s_positions[:1].expand(len(images), 1, -1), right[0][:, 1:]], dim=1),
            torch.cat([l_positions[:1].expand(len(images), 1, -1), right[1][:, 1:]], dim=1),
        ),
    }


# --- the whole network, to be mended

_FAULTS = {
    "restart": "in every encoder L runs the blocks of the first",
    "unfused": "the fusion after the last encoder is missing",
    "averaged": "the classifiers read the mean of all tokens",
    "probabilities": "probabilities are averaged, not logits",
}


def _mended_logits(answer: Guarded, seed: int) -> str:
    """mended_logits(images, large_images, model): the logits of a CrossViT, by its parts."""
    draw = random.Random(seed)
    encoders, depths = ((3, (2, 1)), (2, (1, 3)), (2, (3, 1)))[seed % 3]
    torch.manual_seed(seed)
    widths, heads = draw.choice(((8, 12), (12, 8), (6, 16))), (2, 4)
    sizes: dict[str, Any] = {"encoders": encoders, "classes": draw.choice((5, 7)), "channels": 1}
    model = CrossViT((8, 6), (2, 3), widths, depths, heads, mlp_ratio=2, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.25)
    model = model.double().eval()
    images, large_images = (torch.randn(3, 1, side, side, dtype=torch.double) for side in (8, 6))
    with torch.no_grad():
        expected = model(images, large_images)
    where = f"{encoders} encoders with {depths[0]} and {depths[1]} blocks"
    given = answer(images, large_images, _parts_of(model))
    refuse_none(given)
    if isinstance(given, tuple | list):
        raise Wrong(f"{where}: return one tensor, the logits (batch, class), given {len(given)} values")
    causes: dict[str, Any] = {}
    if isinstance(given, Tensor) and not close(given, expected):
        with torch.no_grad():  # one after the other, because each runs the model
            mistakes = _logit_mistakes(images, large_images, model).items()
            cause = next((words for words, logits in mistakes if close(given, logits())), "")
            causes = {cause: given} if cause else {}
    compare(given, expected, where, causes)
    return "right, equal to the library's"


def _parts_of(model: CrossViT) -> nn.Module:
    """The parts that the exercise names, in a module without a forward: to call the model would be no answer."""
    parts = nn.Module()
    parts.small, parts.large, parts.fusions = model.small, model.large, model.fusions
    vars(parts)["depths"] = model.depths
    return parts


def _logits(
    views: tuple[Tensor, Tensor],
    model: CrossViT,
    faults: tuple[str, ...] = (),
    read: Callable[[Any, Tensor], Tensor] = lambda branch, tokens: branch.head(branch.norm(tokens[:, 0])),
    fuse_first: bool = False,
) -> Tensor:
    """The mean of both classifiers' logits with some of `_FAULTS`; `read` is a branch's classifier on its tokens."""
    tokens = [branch.embed(view) for branch, view in zip(model.branches, views)]
    for k, own in enumerate(model.fusions):
        fusion = model.fusions[0] if "first fusion" in faults else own
        if fuse_first:
            tokens = list(fusion(*tokens)[:2])
        for number, (branch, depth) in enumerate(zip(model.branches, model.depths)):
            first = 0 if ("restart" if number else "restart of S") in faults else k * depth
            for block in branch.blocks[first : first + depth]:
                tokens[number] = block(tokens[number])[0]
        if not fuse_first and not (k == len(model.fusions) - 1 and "unfused" in faults):
            fused = fusion(*tokens)
            tokens = [x if f"{name} kept" in faults else y for name, x, y in zip("SL", tokens, fused)]
    if "averaged" in faults:
        tokens = [x.mean(dim=1, keepdim=True) for x in tokens]
    logits = [read(branch, x) for branch, x in zip(model.branches, tokens)]
    if "probabilities" in faults:
        logits = [x.softmax(dim=-1) for x in logits]
    return torch.stack(logits).mean(dim=0)


def _logit_mistakes(images: Tensor, large_images: Tensor, model: CrossViT) -> dict[str, Callable[[], Tensor]]:
    views = images, large_images

    def logits(*faults: str, **how: Any) -> Callable[[], Tensor]:
        return partial(_logits, views, model, faults, **how)

    def of(classifiers: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        """From the logits (batch, branch, class) of both classifiers."""
        return lambda: classifiers(model.branch_logits(images, large_images)[0])

    left = {
        "This fault is still in it: " + "; and this: ".join(_FAULTS[name] for name in names) + ".": logits(*names)
        for count in range(1, len(_FAULTS) + 1)
        for names in itertools.combinations(_FAULTS, count)
    }
    unnormed = logits(read=lambda branch, tokens: branch.head(tokens[:, 0]))
    patches = logits(read=lambda branch, tokens: branch.head(branch.norm(tokens[:, 1:].mean(dim=1))))
    mean_of_normed = logits(read=lambda branch, tokens: branch.head(branch.norm(tokens).mean(dim=1)))
    last = logits(read=lambda branch, tokens: branch.head(branch.norm(tokens[:, -1])))
    return {
        "The mean of the two, not their sum.": of(lambda x: x.sum(dim=1)),
        "These are S's logits alone.": of(lambda x: x[:, 0]),
        "These are L's logits alone.": of(lambda x: x[:, 1]),
        "The larger of two logits was taken, not their mean.": of(lambda x: x.amax(dim=1)),
        "Return logits: no softmax.": of(lambda x: x.mean(dim=1).softmax(dim=-1)),
        "Return logits: no log_softmax.": of(lambda x: x.mean(dim=1).log_softmax(dim=-1)),
        **left,
        "The norm before each classifier is missing.": unnormed,
        "The classifiers read the mean of the patches, not the class token.": patches,
        "The classifiers read the mean of all normalised tokens, not the class token.": mean_of_normed,
        "The classifiers read the last token, not the first.": last,
        "In every encoder S runs the blocks of the first.": logits("restart of S"),
        "Each encoder has its own fusion: here all have the first one.": logits("first fusion"),
        "The fusion changes S's tokens, too: here they stay.": logits("S kept"),
        "The fusion changes L's tokens, too: here they stay.": logits("L kept"),
        "Logits are averaged, not their log_softmax.": of(lambda x: x.log_softmax(dim=-1).mean(dim=1)),
        "In each encoder the blocks come before the fusion.": logits(fuse_first=True),
        "The branches are never fused.": lambda: _without_fusions(views, model),
    }


def _without_fusions(views: tuple[Tensor, Tensor], model: CrossViT) -> Tensor:
    return sum(branch(view) for branch, view in zip(model.branches, views)) / 2


# --- the folded form of a fusion, step by step


def _folded_fusion(answer: Guarded, seed: int) -> str:
    """folded_fusion(class_token, patches, layer): (folded query, weights, mean, new class token)."""
    draw = random.Random(seed)
    for _ in range(2):
        torch.manual_seed(seed)
        heads, dim = draw.sample((2, 3, 4, 5), 2)
        context_width = heads * dim
        width, count, batch = draw.sample([n for n in range(5, 20) if n not in (context_width, heads, dim)], 3)
        layer = ClassTokenAttention(width, context_width, heads).eval()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.35)
        layer = layer.double()
        class_token = torch.randn(batch % 3 + 1, 1, width, dtype=torch.double)
        patches = torch.randn(batch % 3 + 1, count, context_width, dtype=torch.double)
        where = f"class token {width} wide, {count} patches {context_width} wide, {heads} heads"
        with torch.no_grad():
            expected = _folded(class_token, patches, layer)
            causes = _folded_mistakes(class_token, patches, layer, *expected)
        given = answer(class_token, patches, layer)
        refuse_none(given)
        names = "query", "weights", "mean", "token"
        if not isinstance(given, tuple | list) or len(given) != len(names):
            parts = f"{len(given)} values" if isinstance(given, tuple | list) else f"a {type(given).__name__}"
            raise Wrong(f"return four values, (query, weights, mean, token), given {parts}")
        for name, mine, right in zip(names, given, expected):
            compare(mine, right, f"{where}, {name}", causes[name])
    return "right in all four steps"


def _folded(class_token: Tensor, patches: Tensor, layer: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    attention, projected = layer.attentions[0], layer.project(class_token)
    context = layer.norms[0](torch.cat([projected, patches], dim=1))
    query = _query(attention, context[:, :1])
    weights = _weights(query, context, attention.width // attention.heads)
    mean = weights @ context
    return query, weights, mean, layer.back(projected + _summed(attention, mean))


def _by_head(weight: Tensor, heads: int) -> Tensor:
    return rearrange(weight, "(head dim) c -> head dim c", head=heads)


def _query(attention: Any, token: Tensor) -> Tensor:
    """W_k^T q of each head: (batch, head, C)."""
    query = rearrange(attention.query(token), "batch 1 (head dim) -> batch head dim", head=attention.heads)
    return torch.einsum("bhd,hdc->bhc", query, _by_head(attention.key.weight, attention.heads))


def _weights(query: Tensor, context: Tensor, scale_of: float) -> Tensor:
    return (query @ context.mT / math.sqrt(scale_of)).softmax(dim=-1)


def _summed(attention: Any, mean: Tensor) -> Tensor:
    """The output of the attention, (batch, 1, C), from each head's mean of the context."""
    values = torch.einsum("bhc,hdc->bhd", mean, _by_head(attention.value.weight, attention.heads))
    return attention.output(values.flatten(1) + attention.value.bias)[:, None]


# Long because it is a list of mistakes, one after the other.
def _folded_mistakes(
    class_token: Tensor, patches: Tensor, layer: Any, query: Tensor, weights: Tensor, mean: Tensor, token: Tensor
) -> dict[str, dict[str, Any]]:
    """For each of the four steps, the results of mistakes made in it, all steps before it being right."""
    attention, projected, norm = layer.attentions[0], layer.project(class_token), layer.norms[0]
    raw = torch.cat([projected, patches], dim=1)
    context = norm(raw)
    dim = attention.width // attention.heads
    q = rearrange(attention.query(context[:, :1]), "batch 1 (head dim) -> batch head dim", head=attention.heads)
    k_transposed = _query(with_transposed_weight(attention, "key"), context[:, :1])
    interleaved = rearrange(attention.query(context[:, :1]), "batch 1 (dim head) -> batch head dim", dim=dim)
    of_query = {
        "The query, too, is normalised: it is the first token of LN(x').": _query(attention, projected),
        "The query has a bias, too.": _query(without_bias(attention, "query"), context[:, :1]),
        "The scale does not belong to the folded query: it comes with the scores.": query / math.sqrt(dim),
        "W_k is transposed: layer.key.weight has a row for each channel of the keys.": k_transposed,
        "The key's bias has no place here: softmax takes it away.": query + attention.key.bias,
        "This is q itself: W_k is not yet folded in.": q,
        "The query comes from the class token, the first of the row, not from the patches.": _query(
            attention, context[:, -1:]
        ),
        "A head is a run of neighbouring channels: split C into (head, dim), in this order.": torch.einsum(
            "bhd,hdc->bhc", interleaved, _by_head(attention.key.weight, attention.heads)
        ),
        "The weights of the query stand in for those of the keys.": torch.einsum(
            "bhd,hdc->bhc", q, _by_head(attention.query.weight, attention.heads)
        ),
        "A head is a run of neighbouring rows of W_k: split C into (head, dim), in this order.": torch.einsum(
            "bhd,dhc->bhc", q, attention.key.weight.unflatten(0, (dim, attention.heads))
        ),
        "The weights of the values stand in for those of the keys.": torch.einsum(
            "bhd,hdc->bhc", q, _by_head(attention.value.weight, attention.heads)
        ),
        "Each head has its own folded query: the heads were not kept apart.": _query(
            with_one_head(attention), context[:, :1]
        ).expand_as(query),
        "Give it without an axis for the one query: (batch, head, C).": query[:, :, None],
    }
    scores = query @ context.mT
    of_weights = {
        "Scores are divided by sqrt(C/h), not multiplied.": _weights(query, context, 1 / dim),
        "The division by sqrt(C/h) is missing.": _weights(query, context, 1),
        "d is the width of a head, C/h, not C.": _weights(query, context, attention.width),
        "d is the width of a head, C/h, not the number of heads.": _weights(query, context, attention.heads),
        "The division is by sqrt(C/h), not by C/h.": _weights(query, context, dim**2),
        "Keys are the tokens of LN(x'), not of x'.": _weights(query, raw, dim),
        "The class token is a key, too: 1 + patches of them.": _weights(query, context[:, 1:], dim),
        "The class token is a key, too: its weight is zero here.": F.pad(
            _weights(query, context[:, 1:], dim), (1, 0), value=0.0
        ),
        "The class token comes first among the keys.": weights.roll(-1, dims=-1),
        "The softmax runs over the keys, the last axis, not over the heads.": (scores / math.sqrt(dim)).softmax(dim=1),
        "These are the scores: the softmax is missing.": scores / math.sqrt(dim),
        "Each head has its own weights; this is their mean.": weights.mean(dim=1, keepdim=True).expand_as(weights),
        "Give them without an axis for the one query: (batch, head, 1 + patches).": weights[:, :, None],
    }
    of_mean = {
        "The mean is of the tokens of LN(x'), not of x'.": weights @ raw,
        "The class token belongs to the mean, too.": weights[..., 1:] @ context[:, 1:],
        "The mean is weighted: this one takes all tokens alike.": context.mean(dim=1, keepdim=True).expand_as(mean),
        "Values are not formed: the mean is of the tokens, before W_v.": torch.einsum(
            "bhc,hdc->bhd", mean, _by_head(attention.value.weight, attention.heads)
        ),
        "W_v comes after this step.": mean @ attention.value.weight.mT,
        "Each head has its own mean: the heads' weights were averaged.": (
            (weights.mean(dim=1, keepdim=True) @ context).expand_as(mean)
        ),
        "Give it without an axis for the one query: (batch, head, C).": mean[:, :, None],
    }
    of_token = _token_mistakes(class_token, layer, mean, projected, norm(projected))
    return {"query": of_query, "weights": of_weights, "mean": of_mean, "token": of_token}


def _token_mistakes(class_token: Tensor, layer: Any, mean: Tensor, projected: Tensor, normed: Tensor) -> dict[str, Any]:
    attention, g, summed = layer.attentions[0], layer.back, _summed
    one_head = torch.einsum("bc,dc->bd", mean[:, 0], attention.value.weight) + attention.value.bias
    values = torch.einsum("bhc,hdc->bhd", mean, _by_head(attention.value.weight, attention.heads))
    interleaved = values.transpose(1, 2).flatten(1) + attention.value.bias
    unprojected = (values.flatten(1) + attention.value.bias)[:, None]
    right = summed(attention, mean)
    return {
        "The values' bias is missing: add it after the sum.": g(
            projected + summed(without_bias(attention, "value"), mean)
        ),
        "The values' bias is added once: the weights of a head sum to one.": g(
            projected + attention.output(values.flatten(1) + attention.heads * attention.value.bias)[:, None]
        ),
        "W_v is transposed: layer.value.weight has a row for each channel of the values.": g(
            projected + summed(with_transposed_weight(attention, "value"), mean)
        ),
        "The output projection is missing.": g(projected + unprojected),
        "The output projection has a bias.": g(projected + right - attention.output.bias),
        "The residual is missing: y = f(x_cls) + ...": g(right),
        "The residual adds f(x_cls) itself, not its LayerNorm.": g(normed + right),
        "The result replaces the class token: nothing is added to it.": class_token + g(projected + right),
        "The way back, g, is missing.": projected + right,
        "g is LayerNorm, GELU and a linear layer: call layer.back.": layer.back.linear(projected + right),
        "The first head's mean stands in for that of all heads.": g(projected + attention.output(one_head)[:, None]),
        "The heads' channels stand one head after the other, not mixed.": g(
            projected + attention.output(interleaved)[:, None]
        ),
        "Keep the axis of the tokens: (batch, 1, width).": g(projected + right)[:, 0],
    }


# --- which token depends on which

STEPS = ("blocks", "class_token", "cross_attention", "all_attention")


def _reach(answer: Guarded, seed: int) -> str:
    """reach(patches, steps): True where an output token (row) depends on an input token (column), after all steps."""
    draw = random.Random(seed)
    rows: list[tuple[str, ...]] = [(step,) for step in STEPS]
    rows += [("cross_attention", "blocks"), ("blocks", "cross_attention"), ("class_token", "blocks")]
    rows += [tuple(draw.choice(STEPS[:3]) for _ in range(length)) for length in (2, 3)]
    rows += [("blocks", "class_token", "cross_attention"), ("cross_attention", "class_token")]
    for steps in rows:
        patches: Any = tuple(draw.sample(range(2, 8), 2))
        expected = _composed(patches, steps)
        causes = {} if len(steps) > 3 else _reach_mistakes(patches, steps)
        given = answer(patches, list(steps))
        refuse_none(given)
        where = f"{patches[0]} and {patches[1]} patches, {' then '.join(steps)}"
        compare(torch.as_tensor(given) if isinstance(given, list) else given, expected, where, causes)
    return "right, for each step and for steps one after the other"


def _composed(patches: Pair, steps: tuple[str, ...], step_table: Any = None) -> Tensor:
    table = torch.eye(2 + sum(patches), dtype=torch.bool)
    for step in steps:  # a later step stands on the left
        table = _joined((step_table or _step)(patches, step), table)
    return table


def _joined(later: Tensor, earlier: Tensor) -> Tensor:
    return (later.float() @ earlier.float()) > 0


def _step(patches: Pair, step: str, fault: str = "") -> Tensor:
    """The dependence in one step, with the fault of this name."""
    large = 1 + patches[0]  # where L's tokens begin; its class token stands there
    table = torch.eye(2 + sum(patches), dtype=torch.bool)
    if step == "blocks":
        table[:large, :large] = table[large:, large:] = True
        if fault == "one branch":
            table[:] = True
        elif fault == "blocks of S":
            table[large:] = torch.eye(len(table), dtype=torch.bool)[large:]
        elif fault == "blocks of L":
            table[:large] = torch.eye(len(table), dtype=torch.bool)[:large]
        elif fault == "class token alone":
            table[1:large] = torch.eye(len(table), dtype=torch.bool)[1:large]
            table[large + 1 :] = torch.eye(len(table), dtype=torch.bool)[large + 1 :]
    elif step == "all_attention":
        table[:] = True
        if fault == "across alone":
            table[:large, :large] = table[large:, large:] = False
            table.fill_diagonal_(True)
    elif step == "class_token":
        table[0, large] = table[large, 0] = True
        if fault == "patches summed":
            table[0, large:] = table[large, :large] = True
        elif fault == "one way":
            table[0, large] = False
        elif fault == "other way":
            table[large, 0] = False
        elif fault == "exchanged":
            table[0, 0] = table[large, large] = False
    else:
        table[0, large + 1 :] = table[large, 1:large] = True
        if fault == "S alone":
            table[large, 1:large] = False
        elif fault == "L alone":
            table[0, large + 1 :] = False
        elif fault == "class token as key":
            table[0, large] = table[large, 0] = True
        elif fault == "all patches":
            table[0] = table[large] = True
        elif fault == "no self":
            table[0, 0] = table[large, large] = False
        elif fault == "patches too":
            table[:large, large + 1 :] = table[large:, 1:large] = True
        elif fault == "own patches":
            table[0, 1:large] = table[large, large + 1 :] = True
        elif fault == "own patches alone":
            table[0, large + 1 :] = table[large, 1:large] = False
            table[0, 1:large] = table[large, large + 1 :] = True
    return table


_REACH_FAULTS = {
    "one branch": "A block belongs to one branch: its tokens attend to tokens of this branch alone.",
    "class token alone": "In a block every token attends to every token of its branch, patches, too.",
    "blocks of S": "Blocks run in both branches; here in S alone.",
    "blocks of L": "Blocks run in both branches; here in L alone.",
    "S alone": "Cross-attention has two directions: L's class token attends to S's patches, too.",
    "L alone": "Cross-attention has two directions: S's class token attends to L's patches, too.",
    "across alone": "In all-attention a token attends to tokens of its own branch, too.",
    "patches summed": "The class-token fusion reads class tokens only, no patches.",
    "one way": "The class-token fusion gives the sum to both branches; S's class token has not got it.",
    "other way": "The class-token fusion gives the sum to both branches; L's class token has not got it.",
    "exchanged": "The sum of the class tokens holds each branch's own class token, too.",
    "class token as key": "In cross-attention the other branch's class token is no key.",
    "all patches": "In cross-attention the keys are the class token itself and the other branch's patches, no others.",
    "no self": "In cross-attention the new class token depends on the old one, too: it is the query and a key.",
    "patches too": "In cross-attention only the class token is a query: patches stay as they are.",
    "own patches": "In cross-attention the keys are the other branch's patches, not the branch's own.",
    "own patches alone": "In cross-attention the keys are the *other* branch's patches; these are the branch's own.",
}


def _reach_mistakes(patches: Pair, steps: tuple[str, ...]) -> dict[str, Tensor]:
    """Results of known mistakes that this row of steps shows."""
    right, large = _composed(patches, steps), 1 + patches[0]
    eye = torch.eye(len(right), dtype=torch.bool)
    tables = [_step(patches, step) for step in steps]
    either = torch.stack(tables).any(dim=0)
    found = {
        "The steps are in the wrong order: the first one comes first.": _composed(patches, steps[::-1]),
        "Rows are outputs and columns inputs; this is the table turned over.": right.mT,
        "S's tokens come first, then L's.": right.roll((-large, -large), (0, 1)),
        "One step after the other: what a token has got in a step, it gives away in the next.": either,
        "This is the last step alone.": tables[-1],
        "This is the first step alone.": tables[0],
        "Patches that a step leaves alone still depend on themselves.": right & ~(eye & (either.sum(dim=1) <= 1)),
        "True where it depends, False where not: this is the opposite.": ~right,
    }
    found |= {
        words: _composed(patches, steps, lambda patches, step, fault=fault: _step(patches, step, fault))
        for fault, words in _REACH_FAULTS.items()
    }
    return {words: table for words, table in found.items() if not torch.equal(table, right)}


EXERCISES: dict[str, Exercise] = {
    "two_scale_tokens": Exercise(_two_scale_tokens, "two_scale_tokens", 14, 1, 20, "07, 7.2"),
    "mended_logits": Exercise(_mended_logits, "mended_logits", 20, 2, 25, "07, 7.8"),
    "folded_fusion": Exercise(_folded_fusion, "folded_fusion", 22, 3, 35, "07, 7.7"),
    "reach": Exercise(_reach, "reach", 14, 2, 25, "07, 7.3"),
    "fusion_costs": Exercise(fusion_costs, "fusion_costs", 16, 3, 40, "08, 8.5"),
    "convention": Exercise(convention, "convention", 4, 1, 10, "09, 9.1"),
}
