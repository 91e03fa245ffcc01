"""The exercises inside the lessons: open as stored, solved by the folded solution, and no wrong answer accepted."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from xattn_edu import exercises
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.models.attention import attention, attention_rollout, causal_mask, merge_heads, split_heads
from xattn_edu.models.attention_numpy import softmax
from xattn_edu.models.vit import patchify

LESSONS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def _exercises(lesson: Path) -> list[tuple[str, dict[str, Any], str]]:
    """(name of the check, the exercise's code cell, the solution folded away above it)."""
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    found = []
    for before, cell in zip(cells, cells[1:]):
        if "exercise" in cell["metadata"].get("tags", []):
            (name,) = re.findall(r"exercises\.(\w+)\(", "".join(cell["source"]))
            unquoted = re.sub(r"(?m)^> ?", "", "".join(before["source"]))
            (solution,) = re.findall(r"(?s)<summary>Solution</summary>.*?```python\n(.*?)```", unquoted)
            found.append((name, cell, solution))
    return found


ALL = [pytest.param(lesson, *parts, id=parts[0]) for lesson in LESSONS for parts in _exercises(lesson)]


def _imports(lesson: Path) -> dict[str, Any]:
    """What a reader of the lesson has imported: every import statement in it, nothing else."""
    namespace: dict[str, Any] = {}
    for cell in json.loads(lesson.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    exec(compile(ast.Module([node], []), str(lesson), "exec"), namespace)
    return namespace


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_each_lesson_has_two_or_three_exercises(lesson: Path) -> None:
    assert 2 <= len(_exercises(lesson)) <= 3


@pytest.mark.parametrize(("lesson", "name", "cell", "solution"), ALL)
def test_open_as_stored_and_solved_by_the_solution(lesson, name, cell, solution, capsys) -> None:
    namespace, source = _imports(lesson), "".join(cell["source"])
    exec(source, namespace)
    assert capsys.readouterr().out.startswith("○")
    (mine,) = re.findall(rf"exercises\.{name}\((\w+)\)", source)
    exec(solution, namespace)
    getattr(exercises, name)(namespace[mine])
    assert capsys.readouterr().out.startswith("✓")


def _grad_key(grad_output, query, key, value, scale=True, jacobian=True):
    weights = softmax(query @ key.T / query.shape[-1] ** 0.5)
    grad = grad_output @ value.T
    if jacobian:
        grad = weights * (grad - (weights * grad).sum(-1, keepdims=True))
    return grad.T @ query / (query.shape[-1] ** 0.5 if scale else 1)


def _cross(layer, tokens, context, ask="tokens", answer="context", scale=True, project=True, heads=None):
    sources = {"tokens": tokens, "context": context}
    heads = heads or layer.heads
    q, k, v = (
        rearrange(f(sources[s]), "b t (h d) -> b h t d", h=heads)
        for f, s in ((layer.query, ask), (layer.key, answer), (layer.value, answer))
    )
    out = rearrange(attention(q if scale else q * q.shape[-1] ** 0.5, k, v)[0], "b h t d -> b t (h d)")
    return layer.output(out) if project else out


def _block(tokens, block, first=True, second=True, norm1=True, norm2=True, swap=False):
    one, two = (block.norm2, block.norm1) if swap else (block.norm1, block.norm2)
    mixed = block.attention(one(tokens) if norm1 else tokens) + (tokens if first else 0)
    return block.mlp(two(mixed) if norm2 else mixed) + (mixed if second else 0)


def _parameters(width, heads, context_width):
    return 2 * (width**2 + width) + 2 * (context_width * width + width)


def _vit_parameters(image, patch, width, depth, classes, extra_position=1):
    patches = (image // patch) ** 2
    block = 12 * width**2 + 13 * width
    return (
        3 * patch**2 * width
        + width
        + width * (1 + patches + extra_position)
        + depth * block
        + 2 * width
        + (width + 1) * classes
    )


def _share(image, patch, width, extra=1, products=2, mlp=8):
    tokens = (image // patch) ** 2 + extra
    return products * tokens / (products * tokens + (4 + mlp) * width)


def _rollout(weights, identity=True, halve=True, reverse=False, head_mean=True):
    eye = torch.eye(weights[0].shape[-1])
    flow = eye.expand(len(weights[0]), -1, -1)
    for layer in weights[::-1] if reverse else weights:
        layer = layer.mean(1) if head_mean else layer[:, 0]
        flow = (layer + eye * identity) / (2 if halve else 1) @ flow
    return flow


def _decoder(
    y, memory, counts, layer, order=(0, 1, 2), norms=(0, 1, 2), pre=False, residual=True, context=True, traded=False
):
    first, second = (layer.cross_attention, layer.attention) if traded else (layer.attention, layer.cross_attention)
    steps = [
        lambda z: first(z, mask=causal_mask(z.shape[1])),
        lambda z: second(z, memory, counts) if context else second(z),
        layer.feed_forward,
    ]
    for place, index in enumerate(order):
        norm = getattr(layer, f"residual{norms[place] + 1}").norm
        y = y + steps[index](norm(y)) if pre else norm(steps[index](y) + (y if residual else 0))
    return y


def _pad(ids):
    return (ids != 0)[:, None, :]


def _class_token(
    token, patches, layer, query="normed", keys="normed", itself=True, residual="asking", add=False, f=True, **scores
):
    asking = layer.project(token) if f else token
    context = torch.cat([asking, patches] if itself else [patches, patches[:, :0]], dim=1)
    normed, norm = layer.norms[0](context), layer.norms[0]
    attended = _cross(
        layer.attentions[0],
        norm(asking) if query == "normed" else asking,
        normed if keys == "normed" else context,
        **scores,
    )
    y = attended + {"asking": asking, "normed": norm(asking), "none": 0 * asking}[residual]
    return layer.back(y) + (token if add else 0)


def _fusion_macs(
    widths, patches, itself=1, projections=2, both_formed=2, products=2, f_and_g=2, queries=None, only=None
):
    total = 0
    for number, (width, count) in enumerate(zip(widths, patches)):
        asking = 1 if queries is None else itself + count
        one = f_and_g * widths[0] * widths[1] + projections * asking * width**2
        one += both_formed * (itself + count) * width**2 + products * asking * (itself + count) * width
        total += one if only in (None, number) else 0
    return total


def _folded(layer, tokens, context, scale=True, turn=False, value_bias=True, project=True, heads=None):
    heads = heads or layer.heads
    pattern = "(d h) c -> h d c" if turn else "(h d) c -> h d c"
    w_k, w_v = (rearrange(f.weight, pattern, h=heads) for f in (layer.key, layer.value))
    query = rearrange(layer.query(tokens), "b q (h d) -> b h q d", h=heads)
    weights = (query / (query.shape[-1] ** 0.5 if scale else 1) @ w_k @ context[:, None].mT).softmax(-1)
    out = rearrange(weights @ context[:, None] @ w_v.mT, "b h q d -> b q (h d)")
    out = out + layer.value.bias if value_bias else out
    return layer.output(out) if project else out


def _summed(small, large, f_s, g_s, back="both", small_adds=False, large_is="both", doubled=False):
    """Class-token fusion; `back` is what g_s is given, `large_is` what becomes L's class token."""
    tokens = {"large": large[:, :1], "small": f_s(small[:, :1]), "both": large[:, :1] + f_s(small[:, :1])}
    own = small[:, :1] + g_s(tokens[back]) if small_adds else g_s(tokens[back])
    keep = 0 if doubled else 1
    return torch.cat([own, small[:, keep:]], 1), torch.cat([tokens[large_is], large[:, keep:]], 1)


def _pairwise(small, large, grid, new, cut=False, swap=False, add=True, mode="bilinear", **how):
    channels = small.reshape(len(small), -1, *grid) if cut else small.mT.unflatten(2, grid[::-1] if swap else grid)
    resized = torch.nn.functional.interpolate(channels, new, mode=mode, **how).flatten(2).mT
    return large + resized if add else resized


def _crossvit_macs(
    widths, patches, sizes, depths, r, encoders, classes,
    extra=1, asked=1, embedded=0, products=2, mlp=2, four=4, repeat=None, fused=None, f_and_g=4, heads=(1, 1), channels=3, square=2,
):  # fmt: skip
    total = 0
    for d, n, p, depth, head in zip(widths, patches, sizes, depths, heads):
        t, k = n + extra, n + asked
        block = (four + mlp * r) * t * d**2 + products * t**2 * d
        fusion = 2 * k * d**2 + 2 * d**2 + 2 * k * d + f_and_g * widths[0] * widths[1] // 2
        total += (encoders if repeat is None else repeat) * depth * block
        total += (encoders if fused is None else fused) * fusion
        total += channels * p**square * d * (n + embedded) + head * classes * d
    return total


def _frontier(cost, accuracy, cheaper=np.less_equal, better=np.greater_equal, strict=True, twins=True):
    stays = []
    for i in range(len(cost)):
        beats = cheaper(cost, cost[i]) & better(accuracy, accuracy[i])
        if strict:
            beats &= (cost != cost[i]) | (accuracy != accuracy[i])
        elif twins:
            beats &= np.arange(len(cost)) != i
        stays.append(not beats.any())
    return np.array(stays)


def _pieces(word, known, inner="##", shortest=False, keep=False, unk="[UNK]", give_up=True):
    pieces, start = [], 0
    while start < len(word):
        ends = range(start + 1, len(word) + 1) if shortest else range(len(word), start, -1)
        end = next((end for end in ends if (inner if start else "") + word[start:end] in known), None)
        if end is None:
            if give_up:
                return [*pieces, unk] if keep else [unk]
            end = start + 1
        pieces.append((inner if start else "") + word[start:end])
        start = end
    return pieces


def _iou(predicted, target, empty=0.0, dice=False, both=False, overall=True, mean=True, drop=False):
    inter, union = (predicted & target).sum((1, 2)).double(), (predicted | target).sum((1, 2)).double()
    if dice or both:
        inter, union = (1 + dice) * inter, predicted.sum((1, 2)).double() + target.sum((1, 2))
    each = torch.where(union > 0, inter / union.clamp(min=1), empty)
    each = each[union > 0] if drop else each
    over = inter.sum() / union.sum().clamp(min=1)
    return (over if overall else each.mean()).item(), (each.mean() if mean else over).item()


def _ask(layer, maps, words, mask, turn=False, cut=False, scale=1.0, head_mean=False, swap_weights=False):
    rows, columns = maps.shape[2:]
    maps = maps.transpose(2, 3) if turn else maps
    tokens = maps.reshape(len(maps), rows * columns, -1) if cut else maps.flatten(2).transpose(1, 2)
    output, weights = layer(scale * tokens, words, mask, return_weights=True)
    weights = weights.mean(1, keepdim=True) if head_mean else weights
    output = output.reshape(maps.shape) if cut else output.transpose(1, 2).unflatten(2, maps.shape[2:])
    weights = weights.unflatten(2, maps.shape[2:])
    return output, weights.transpose(2, 3) if swap_weights else weights


def _gather(q, k, v, m, h, scale=None, fill=-1e4, values=True, dim=-1, split=split_heads):
    scores = split(q, h) @ split(k, h).transpose(-1, -2) / (scale or q.shape[-1]) ** 0.5
    weights = scores.masked_fill(~m[:, None, None], fill).softmax(dim)
    return merge_heads(weights @ split(v * m[..., None] if values else v, h)), weights


def _normed(x, dim=1, correction=0, eps=1e-5, outside=0.0, center=True, root=0.5):
    variance, mean = torch.var_mean(x, dim, correction=correction, keepdim=True)
    return (x - (mean if center else 0)) / ((variance + eps) ** root + outside)


def _gate(v, f, first, second, between=torch.relu, end=torch.tanh):
    return end(second(between(first(f))))


def _stage(blocks, fusion, pathway, norm, maps, words, mask, out=lambda n, v, f, e: (n(f), e), asks="vision"):
    vision = blocks(maps)
    fused = fusion(vision if asks == "vision" else maps, words, mask)
    return out(norm, vision, fused, pathway(vision, fused))


def _level(coarse, fine, convolutions, order=1, size=None, mode="bilinear", **how):
    how = how or ({"align_corners": True} if mode == "bilinear" else {})
    size = fine.shape[2:] if size is None else size
    return convolutions(torch.cat([F.interpolate(coarse, size, mode=mode, **how), fine][::order], dim=1))


def _lead(a, b, pairs=None, ddof=1, t=None, root=0.5, sign=1):
    pairs = [(a[seed], b[seed]) for seed in a if seed in b] if pairs is None else pairs
    leads = sign * np.array([x - y for x, y in pairs])
    n = len(leads)
    t = {2: 12.7062, 3: 4.30265, 4: 3.18245, 5: 2.77645}[n] if t is None else t
    return leads.mean(), t * leads.std(ddof=ddof) / n**root


def _look_up(layer, x, one, other, mask, keys="one", values="other", project=True):
    sources = {"tokens": x, "one": one, "other": other}
    q, k, v = layer.query(x), layer.key(sources[keys]), layer.value(sources[values])
    q, k, v = (split_heads(part, layer.heads) for part in (q, k, v))
    told = merge_heads(attention(q, k, v, None if mask is None else mask[:, None, None])[0])
    return layer.output(told) if project else told


class _MyCross(torch.nn.Module):
    """The capstone's answer, right; what differs in `changes` is a mistake."""

    def __init__(self, width, context_width, heads, **changes):
        super().__init__()
        self.heads, self.changes = heads, changes
        self.norm = changes.get("norm", torch.nn.LayerNorm)(width)
        self.query, self.output = torch.nn.Linear(width, width), torch.nn.Linear(width, width)
        self.key, self.value = (torch.nn.Linear(changes.get("wide", context_width), width) for _ in range(2))
        if "rename" in changes:
            self.out, self.output = self.output, None

    def forward(self, tokens, context, mask):
        do = self.changes.get
        normed = self.norm(tokens) if do("normed", True) else tokens
        split = do("split", split_heads)
        key, value = do("keys", lambda x, c: c)(normed, context), do("values", lambda x, c: c)(normed, context)
        heads = self.heads if do("apart", True) else 1
        q, k, v = (split(x, heads) for x in (self.query(normed), self.key(key), self.value(value)))
        scores = q @ k.transpose(-1, -2) / do("scale", lambda q, x: q.shape[-1] ** 0.5)(q, normed)
        weights = do("weigh", lambda s, m: s.masked_fill(~m, -1e4).softmax(-1))(scores, mask[:, None, None])
        told = do("merge", merge_heads)(weights @ v)
        told = self.output(told) if do("project", True) else told
        return do("end", lambda x, n, told, w: (x + told, w))(tokens, normed, told, weights)


def _cross_with(**changes):
    return lambda *sizes: _MyCross(*sizes, **changes)


def _cross_macs(n, m, d, c, asking=2, answering=2, products=2):
    return asking * n * d * d + answering * m * c * d + products * n * m * d


WRONG = {
    "stable_softmax": [
        lambda s: np.exp(s) / np.exp(s).sum(-1, keepdims=True),
        lambda s: np.exp(s - s.max()) / np.exp(s - s.max()).sum(-1, keepdims=True),
        lambda s: softmax(s.swapaxes(0, -1)).swapaxes(0, -1),
        lambda s: np.exp(s - s.max()) / np.exp(s - s.max()).sum(),
        lambda s: softmax(np.clip(s, -50, 50)),
        lambda s: softmax(2 * s),
        lambda s: s,
        lambda s: None,
    ],
    "window_mask": [
        lambda n, r: np.tril(np.ones((n, n), bool)),
        lambda n, r: np.tril(np.ones((n, n), bool), r) & np.triu(np.ones((n, n), bool)),
        lambda n, r: np.tril(np.ones((n, n), bool)) & np.triu(np.ones((n, n), bool), 1 - r),
        lambda n, r: ~(np.tril(np.ones((n, n), bool)) & np.triu(np.ones((n, n), bool), -r)),
        lambda n, r: (np.tril(np.ones((n, n), bool)) & np.triu(np.ones((n, n), bool), -r)).astype(float),
        lambda n, r: np.ones((n, n), bool),
    ],
    "grad_key": [
        lambda *a: _grad_key(*a, scale=False),
        lambda *a: _grad_key(*a, jacobian=False),
        lambda *a: -_grad_key(*a),
        lambda g, q, k, v: _grad_key(g, q, k, v) / q.shape[-1] ** 0.5,
        lambda g, q, k, v: np.zeros_like(k),
    ],
    "heads_apart": [
        lambda x, h: x.view(len(x), h, x.shape[1], -1),
        lambda x, h: rearrange(x, "b t (d h) -> b h t d", h=h),
        lambda x, h: rearrange(x, "b t (h d) -> b t h d", h=h),
        lambda x, h: x,
    ],
    "attention_parameters": [
        lambda w, h, c: 4 * w * w + 4 * w,
        lambda w, h, c: _parameters(w, h, c) - 4 * w,
        lambda w, h, c: _parameters(w, h, c) - w * w - w,
        lambda w, h, c: _parameters(w, h, c) * h,
        lambda w, h, c: _parameters(w // h, h, c),
    ],
    "cross_attention": [
        lambda f, t, c: f(t),
        lambda f, t, c: f(c, t),
        lambda f, t, c: _cross(f, t, c, project=False),
        lambda f, t, c: _cross(f, t, c, scale=False),
        lambda f, t, c: _cross(f, t, c, heads=1),
        lambda f, t, c: _cross(f, t, c, ask="context"),
    ],
    "decoder_layer": [
        lambda y, m, k, f: f(y, m, None, k)[0],
        lambda y, m, k, f: f(y, m, causal_mask(y.shape[1]), None)[0],
        lambda y, m, k, f: _decoder(y, m, k, f, order=(1, 0, 2)),
        lambda y, m, k, f: _decoder(y, m, k, f, order=(0, 2)),
        lambda y, m, k, f: _decoder(y, m, k, f, order=(0, 1)),
        lambda y, m, k, f: _decoder(y, m, k, f, norms=(0, 0, 0)),
        lambda y, m, k, f: _decoder(y, m, k, f, pre=True),
        lambda y, m, k, f: _decoder(y, m, k, f, residual=False),
        lambda y, m, k, f: _decoder(y, m, k, f, context=False),
        lambda y, m, k, f: _decoder(y, m, k, f, traded=True),
        lambda y, m, k, f: y,
    ],
    "three_masks": [
        lambda s, t: (_pad(s), causal_mask(t.shape[1]), causal_mask(t.shape[1])),
        lambda s, t: (~_pad(s), causal_mask(t.shape[1]), ~_pad(s)),
        lambda s, t: (_pad(s), causal_mask(t.shape[1]).mT, _pad(s)),
        lambda s, t: (_pad(s), causal_mask(t.shape[1]) & ~causal_mask(t.shape[1]).mT, _pad(s)),
        lambda s, t: (_pad(s) & causal_mask(s.shape[1]), causal_mask(t.shape[1]), _pad(s)),
        lambda s, t: (_pad(s), _pad(t), _pad(s)),
        lambda s, t: (_pad(s), causal_mask(t.shape[1]), torch.ones_like(_pad(s))),
        lambda s, t: (s != 0, causal_mask(t.shape[1]), s != 0),
        lambda s, t: (_pad(s).float(), causal_mask(t.shape[1]).float(), _pad(s).float()),
        lambda s, t: (_pad(s), causal_mask(t.shape[1])),
        lambda s, t: None,
    ],
    "cache_numbers": [
        lambda d, w, s, t: d * w * (s + t),
        lambda d, w, s, t: 2 * w * (s + t),
        lambda d, w, s, t: 2 * d * w * t,
        lambda d, w, s, t: 2 * d * w * s,
        lambda d, w, s, t: 2 * d * w * s * t,
        lambda d, w, s, t: 8 * d * w * (s + t),
    ],
    "channel_gate": [
        lambda z, a, b: ((z.mean(1) @ a).relu() @ b).sigmoid(),
        lambda z, a, b: (z.mean(1, True) @ a @ b).sigmoid(),
        lambda z, a, b: (z.mean(1, True) @ a).relu() @ b,
        lambda z, a, b: ((z.mean(1, True) @ a).relu() @ b).softmax(-1),
        lambda z, a, b: ((z.sum(1, True) @ a).relu() @ b).sigmoid(),
        lambda z, a, b: ((z.amax(1, True) @ a).relu() @ b).sigmoid(),
        lambda z, a, b: ((z @ a).relu() @ b).sigmoid(),
        lambda z, a, b: z * ((z.mean(1, True) @ a).relu() @ b).sigmoid(),
    ],
    "token_mixing": [
        lambda z, f: f(z.transpose(1, 2)),
        lambda z, f: f(z.reshape(len(z), z.shape[2], z.shape[1])).reshape(z.shape),
        lambda z, f: f(z.transpose(1, 2)).reshape(z.shape),
        lambda z, f: z + f(z.transpose(1, 2)).transpose(1, 2),
        lambda z, f: f(z),
        lambda z, f: z,
    ],
    "product_macs": [
        lambda q, k, w: q * k * w,
        lambda q, k, w: 4 * q * k * w,
        lambda q, k, w: 2 * q * q * w,
        lambda q, k, w: 2 * k * k * w,
        lambda q, k, w: 2 * (q + k) * w,
        lambda q, k, w: 2 * q * k,
    ],
    "cut_patches": [
        lambda x, p: x.reshape(patchify(x, p).shape),
        lambda x, p: patchify(x.transpose(2, 3), p),
        lambda x, p: rearrange(x, "b c (r p) (k q) -> b (r k) (p q c)", p=p, q=p),
        lambda x, p: rearrange(x, "b c (r p) (k q) -> b (r k) (c q p)", p=p, q=p),
        lambda x, p: rearrange(x, "b c (p r) (q k) -> b (r k) (c p q)", p=p, q=p),
        lambda x, p: patchify(x, p).flip(1),
    ],
    "pre_norm_block": [
        lambda z, b: _block(z, b, first=False),
        lambda z, b: _block(z, b, second=False),
        lambda z, b: _block(z, b, norm1=False),
        lambda z, b: _block(z, b, norm2=False),
        lambda z, b: _block(z, b, swap=True),
        lambda z, b: b(z),
        lambda z, b: b.norm2(z + b.mlp(b.norm1(z + b.attention(z)))),
        lambda z, b: z,
    ],
    "vit_parameters": [
        lambda *a: _vit_parameters(*a, extra_position=0),
        lambda *a: _vit_parameters(*a) - 2 * a[2],
        lambda *a: _vit_parameters(*a) - a[4],
        lambda *a: _vit_parameters(*a) - a[3] * 4 * a[2],
        lambda *a: _vit_parameters(*a) + 1,
    ],
    "quadratic_share": [
        lambda *a: _share(*a, extra=0),
        lambda *a: _share(*a, products=1),
        lambda *a: _share(*a, mlp=0),
        lambda i, p, w: 2 * ((i // p) ** 2 + 1) / (12 * w),
    ],
    "rollout": [
        lambda w: _rollout(w, identity=False, halve=False),
        lambda w: _rollout(w, halve=False),
        lambda w: _rollout(w, reverse=True),
        lambda w: _rollout(w, head_mean=False),
        lambda w: attention_rollout(w).transpose(1, 2),
        lambda w: w[-1].mean(1),
    ],
    "class_token_attention": [
        lambda c, p, f: _class_token(c, p, f, query="asking"),
        lambda c, p, f: _class_token(c, p, f, keys="context"),
        lambda c, p, f: _class_token(c, p, f, query="asking", keys="context"),
        lambda c, p, f: _class_token(c, p, f, itself=False),
        lambda c, p, f: _class_token(c, p, f, residual="normed"),
        lambda c, p, f: _class_token(c, p, f, residual="none"),
        lambda c, p, f: _class_token(c, p, f, add=True),
        lambda c, p, f: _class_token(c, p, f, scale=False),
        lambda c, p, f: _class_token(c, p, f, heads=1),
        lambda c, p, f: _class_token(c, p, f, project=False),
        lambda c, p, f: _class_token(c, p, f, f=False),
        lambda c, p, f: f(c, p),
        lambda c, p, f: f.project(c),
        lambda c, p, f: torch.cat([f(c, p)[0], p], 1),
        lambda c, p, f: c,
    ],
    "fusion_macs": [
        lambda w, p: _fusion_macs(w, p, itself=0),
        lambda w, p: _fusion_macs(w, p, projections=0),
        lambda w, p: _fusion_macs(w, p, projections=1),
        lambda w, p: _fusion_macs(w, p, both_formed=1),
        lambda w, p: _fusion_macs(w, p, products=1),
        lambda w, p: _fusion_macs(w, p, f_and_g=0),
        lambda w, p: _fusion_macs(w, p, f_and_g=1),
        lambda w, p: _fusion_macs(w, p, queries="all"),
        lambda w, p: _fusion_macs(w, p, only=0),
        lambda w, p: _fusion_macs(w, p, only=1),
        lambda w, p: _fusion_macs(w, p[::-1]),
    ],
    "folded_attention": [
        lambda f, t, c: f(t, c),
        lambda f, t, c: f(t),
        lambda f, t, c: _cross(f, t, c),
        lambda f, t, c: _folded(f, t, c, scale=False),
        lambda f, t, c: _folded(f, t, c, turn=True),
        lambda f, t, c: _folded(f, t, c, value_bias=False),
        lambda f, t, c: _folded(f, t, c, project=False),
        lambda f, t, c: _folded(f, t, c, heads=1),
        lambda f, t, c: f.output(_folded(f, t, c, project=False) / f.heads),
    ],
    "class_token_fusion": [
        lambda *a: _summed(*a, back="large"),
        lambda *a: _summed(*a, back="small"),
        lambda *a: _summed(*a, small_adds=True),
        lambda *a: _summed(*a, large_is="large"),
        lambda *a: _summed(*a, large_is="small"),
        lambda *a: _summed(*a, doubled=True),
        lambda *a: _summed(*a)[::-1],
        lambda *a: _summed(*a)[0],
        lambda s, l, f, g: (s, _summed(s, l, f, g)[1]),
        lambda s, l, f, g: (s, l),
        lambda s, l, f, g: None,
        lambda s, l, f, g: (g(l[:, :1] + f(s)), _summed(s, l, f, g)[1]),
    ],
    "pairwise_sum": [
        lambda *a: _pairwise(*a, cut=True),
        lambda *a: _pairwise(*a, swap=True),
        lambda *a: _pairwise(*a, mode="nearest"),
        lambda *a: _pairwise(*a, align_corners=True),
        lambda *a: _pairwise(*a, antialias=True),
        lambda *a: _pairwise(*a, add=False),
        lambda s, l, grid, new: l + s[:, : l.shape[1]],
        lambda s, l, grid, new: l + s.mean(1, keepdim=True),
        lambda s, l, grid, new: l,
        lambda s, l, grid, new: None,
    ],
    "crossvit_macs": [
        lambda *a: _crossvit_macs(*a, extra=0),
        lambda *a: _crossvit_macs(*a, extra=0, asked=0),
        lambda *a: _crossvit_macs(*a, asked=0),
        lambda *a: _crossvit_macs(*a, embedded=1),
        lambda *a: _crossvit_macs(*a, products=1),
        lambda *a: _crossvit_macs(*a, products=0),
        lambda *a: _crossvit_macs(*a, mlp=1),
        lambda *a: _crossvit_macs(*a, mlp=0),
        lambda *a: _crossvit_macs(*a, four=3),
        lambda *a: _crossvit_macs(*a[:4], 4, *a[5:]),
        lambda *a: _crossvit_macs(*a, repeat=1),
        lambda *a: _crossvit_macs(*a, fused=1),
        lambda *a: _crossvit_macs(*a, repeat=1, fused=1),
        lambda *a: _crossvit_macs(*a, fused=0),
        lambda *a: _crossvit_macs(*a, f_and_g=0),
        lambda *a: _crossvit_macs(*a, f_and_g=2),
        lambda *a: _crossvit_macs(*a, heads=(0, 0)),
        lambda *a: _crossvit_macs(*a, heads=(0, 1)),
        lambda *a: _crossvit_macs(*a, heads=(1, 0)),
        lambda *a: _crossvit_macs(*a, channels=1),
        lambda *a: _crossvit_macs(*a, channels=0),
        lambda *a: _crossvit_macs(*a, square=1),
        lambda *a: 2 * _crossvit_macs(*a),
        lambda *a: _crossvit_macs(*a) // 10 * 10,
        lambda w, n, *a: _crossvit_macs(w, n[::-1], *a),
        lambda w, n, *a: _crossvit_macs(w[::-1], n, *a),
    ],
    "pareto_frontier": [
        lambda c, a: ~_frontier(c, a),
        lambda c, a: _frontier(c, a, np.less, np.greater),
        lambda c, a: _frontier(c, a, np.less),
        lambda c, a: _frontier(c, a, better=np.greater),
        lambda c, a: _frontier(c, a, strict=False),
        lambda c, a: _frontier(c, a, strict=False, twins=False),
        lambda c, a: _frontier(c, a, np.greater_equal),
        lambda c, a: _frontier(c, a, better=np.less_equal),
        lambda c, a: a >= np.maximum.accumulate(a),
        lambda c, a: a == a.max(),
        lambda c, a: a / c == (a / c).max(),
        lambda c, a: np.flatnonzero(_frontier(c, a)),
        lambda c, a: np.ones(len(c), bool),
        lambda c, a: _frontier(c, a)[np.argsort(c)],
    ],
    "intensity": [
        lambda t, i, o: t * i * o / (t * i + i * o + t * o),
        lambda t, i, o: t * i * o / 4 / (t * i + t * o),
        lambda t, i, o: t * i * o / 4 / (t * i + i * o),
        lambda t, i, o: t * i * o / 4 / (i * o + t * o),
        lambda t, i, o: t * i * o / 2 / (t * i + i * o + t * o),
        lambda t, i, o: 4 * (t * i + i * o + t * o) / (t * i * o),
        lambda t, i, o: t / 4,
    ],
    "word_pieces": [
        lambda w, v: _pieces(w, v, inner=""),
        lambda w, v: _pieces(w, v, shortest=True),
        lambda w, v: _pieces(w, v, keep=True),
        lambda w, v: _pieces(w, v, unk="unk"),
        lambda w, v: _pieces(w, v, give_up=False),
        lambda w, v: [piece.removeprefix("##") for piece in _pieces(w, v)],
        lambda w, v: _pieces(w, v)[::-1],
        lambda w, v: [w] if w in v else ["[UNK]"],
        lambda w, v: [p for p in _pieces(w, v, keep=True) if p != "[UNK]"],
        lambda w, v: "".join(_pieces(w, v)),
        lambda w, v: None,
    ],
    "overall_and_mean_iou": [
        lambda p, t: _iou(p, t)[::-1],
        lambda p, t: _iou(p, t, empty=1.0),
        lambda p, t: _iou(p, t, dice=True),
        lambda p, t: _iou(p, t, both=True),
        lambda p, t: _iou(p, t, overall=False),
        lambda p, t: _iou(p, t, mean=False),
        lambda p, t: _iou(p, t, drop=True),
        lambda p, t: _iou(~p, ~t),
        lambda p, t: _iou(p, t)[0],
        lambda p, t: tuple(x.mean() for x in ((p & t).double() / (p | t).double(), (p == t).double())),
        lambda p, t: None,
    ],
    "pixels_ask_words": [
        lambda f, m, w, k: _ask(f, m, w, None),
        lambda f, m, w, k: _ask(f, m, w, ~k[:, None]),
        lambda f, m, w, k: _ask(f, m, w, k[:, None], turn=True),
        lambda f, m, w, k: _ask(f, m, w, k[:, None], cut=True),
        lambda f, m, w, k: _ask(f, m, w, k[:, None], scale=2.0),
        lambda f, m, w, k: _ask(f, m, w, k[:, None], head_mean=True),
        lambda f, m, w, k: _ask(f, m, w, k[:, None], swap_weights=True),
        lambda f, m, w, k: _ask(f, m, w * k[..., None], None),
        lambda f, m, w, k: _ask(f, m, w, k[:, None])[0],
        lambda f, m, w, k: (m + _ask(f, m, w, k[:, None])[0], _ask(f, m, w, k[:, None])[1]),
        lambda f, m, w, k: None,
    ],
    "gather_words": [
        lambda *a: _gather(*a, scale=1),
        lambda q, k, v, m, h: _gather(q, k, v, m, h, scale=q.shape[-1] / h) if h > 1 else _gather(q, k, v, m, h),
        lambda *a: _gather(*a, scale=a[0].shape[-1] ** 2),
        lambda q, k, v, m, h: _gather(q, k, v, m | True, h),
        lambda q, k, v, m, h: _gather(q, k, v, ~m, h),
        lambda *a: _gather(*a, fill=-torch.inf),
        lambda *a: _gather(*a, values=False),
        lambda q, k, v, m, h: _gather(q * m.any(1)[:, None, None], k * m[..., None], v, m | True, h),
        lambda *a: _gather(*a, dim=2),
        lambda q, k, v, m, h: _gather(q, k, v, m, 1),
        lambda *a: _gather(*a, split=lambda x, h: x.view(len(x), h, x.shape[1], -1)),
        lambda *a: (_gather(*a)[0], _gather(*a)[1].mean(1)),
        lambda *a: _gather(*a)[0],
        lambda *a: None,
    ],
    "norm_over_pixels": [
        lambda x: _normed(x, dim=2),
        lambda x: _normed(x, dim=(0, 1)),
        lambda x: _normed(x, dim=(1, 2)),
        lambda x: _normed(x, dim=0),
        lambda x: _normed(x, correction=1),
        lambda x: _normed(x, eps=0),
        lambda x: _normed(x, eps=1e-3),
        lambda x: _normed(x, eps=0, outside=1e-5),
        lambda x: _normed(x, center=False),
        lambda x: _normed(x, root=1),
        lambda x: x - x.mean(1, keepdim=True),
        lambda x: _normed(x).transpose(1, 2),
        lambda x: None,
    ],
    "gated": [
        lambda v, f, a, b: v + _gate(v, f, a, b),
        lambda v, f, a, b: v + f,
        lambda v, f, a, b: v + _gate(v, f, a, b) * v,
        lambda v, f, a, b: _gate(v, f, a, b) * f,
        lambda v, f, a, b: v + _gate(v, f, a, b, end=torch.sigmoid) * f,
        lambda v, f, a, b: v + _gate(v, f, a, b, end=lambda x: x) * f,
        lambda v, f, a, b: v + _gate(v, f, a, b, between=lambda x: x) * f,
        lambda v, f, a, b: v + _gate(v, f, a, b, between=torch.nn.functional.gelu) * f,
        lambda v, f, a, b: v + _gate(v, f, b, a) * f,
        lambda v, f, a, b: v + _gate(f, v, a, b) * f,
        lambda v, f, a, b: f + _gate(f, v, a, b) * v,
        lambda v, f, a, b: v + _gate(v, f, a, b).mean(-1, keepdim=True) * f,
        lambda v, f, a, b: v + torch.softmax(b(a(f).relu()), -1) * f,
        lambda v, f, a, b: None,
    ],
    "lavt_stage": [
        lambda *a: _stage(*a, out=lambda n, v, f, e: (n(e - v), e)),
        lambda *a: _stage(*a, out=lambda n, v, f, e: (n(e), e)),
        lambda *a: _stage(*a, out=lambda n, v, f, e: (n(v), e)),
        lambda *a: _stage(*a, out=lambda n, v, f, e: (f, e)),
        lambda *a: _stage(*a, out=lambda n, v, f, e: (n(f), n(e))),
        lambda *a: _stage(*a, out=lambda n, v, f, e: (n(f), e - v)),
        lambda *a: _stage(*a, out=lambda n, v, f, e: (n(f), v + f)),
        lambda *a: _stage(*a, out=lambda n, v, f, e: (n(f), v)),
        lambda *a: _stage(*a, out=lambda n, v, f, e: (n(f), v + e)),
        lambda *a: _stage(*a, out=lambda n, v, f, e: (e, n(f))),
        lambda *a: _stage(*a, asks="maps"),
        lambda *a: _stage(lambda maps: maps, *a[1:]),
        lambda *a: _stage(*a[:6], ~a[6]),
        lambda *a: _stage(*a[:6], a[6] | True),
        lambda *a: _stage(*a)[0],
        lambda *a: None,
    ],
    "join_levels": [
        lambda *a: _level(*a, align_corners=False),
        lambda *a: _level(*a, mode="nearest"),
        lambda *a: _level(*a, mode="bicubic", align_corners=True),
        lambda *a: _level(*a, order=-1),
        lambda c, f, k: _level(c, f, lambda x: x),
        lambda c, f, k: _level(c, f, k, size=[2 * n for n in c.shape[2:]]),
        lambda c, f, k: k(torch.cat([c, F.interpolate(f, c.shape[2:], mode="bilinear", align_corners=True)], 1)),
        lambda c, f, k: k(F.pad(f, (0, 0, 0, 0, c.shape[1], 0))),
        lambda *a: _level(*a).relu(),
        lambda *a: None,
    ],
    "paired_lead": [
        lambda a, b: _lead(a, b, pairs=list(zip(a.values(), b.values()))),
        lambda a, b: _lead(a, b, sign=-1),
        lambda a, b: _lead(a, b, t=1.96),
        lambda a, b: _lead(a, b, ddof=0),
        lambda a, b: _lead(a, b, root=0),
        lambda a, b: _lead(a, b, root=1),
        lambda a, b: (_lead(a, b)[0], 2 * _lead(a, b)[1]),
        lambda a, b: (_lead(a, b)[0], _lead(a, a | b, pairs=[(x, 0) for x in a.values()])[1]),
        lambda a, b: (np.mean([*a.values()]) - np.mean([*b.values()]), _lead(a, b)[1]),
        lambda a, b: (
            _lead(a, b)[0],
            sum(mean_interval(side[seed] for seed in a if seed in b).half for side in (a, b)),
        ),
        lambda a, b: _lead(a, b)[0],
        lambda a, b: None,
    ],
    "cross_attention_macs": [
        lambda *a: _cross_macs(*a, products=0),
        lambda *a: _cross_macs(*a, products=1),
        lambda *a: _cross_macs(*a, asking=1),
        lambda *a: _cross_macs(*a, answering=1),
        lambda n, m, d, c: _cross_macs(n, m, d, d),
        lambda n, m, d, c: _cross_macs(m, m, d, c),
        lambda n, m, d, c: _cross_macs(n, n, d, c),
        lambda n, m, d, c: n * d * d + m * d * d + 2 * m * c * d + 2 * n * m * d,
        lambda n, m, d, c: 2 * _cross_macs(n, m, d, c),
        lambda n, m, d, c: 2 * n * d * d + 2 * m * c * d + 2 * n * n * d,
        lambda n, m, d, c: 2 * n * d * d + 2 * m * c * d + 2 * m * m * d,
        lambda *a: float("nan"),
        lambda *a: None,
    ],
    "look_up": [
        lambda f, x, one, other, m: _look_up(f, x, one, other, m, keys="other"),
        lambda f, x, one, other, m: _look_up(f, x, one, other, m, values="one"),
        lambda f, x, one, other, m: _look_up(f, x, other, one, m),
        lambda f, x, one, other, m: _look_up(f, x, one, other, None),
        lambda f, x, one, other, m: _look_up(f, x, one, other, ~m),
        lambda f, x, one, other, m: _look_up(f, x, one, other, m, project=False),
        lambda f, x, one, other, m: x + _look_up(f, x, one, other, m),
        lambda f, x, one, other, m: f(x, one, m[:, None]) + f(x, other, m[:, None]),
        lambda f, x, one, other, m: f(x, one + other, m[:, None]),
        lambda f, x, one, other, m: f(x, torch.cat([one, other], 1), torch.cat([m, m], 1)[:, None]),
        lambda f, x, one, other, m: _look_up(f, x, one, other, m)[:, :1],
        lambda f, x, one, other, m: (_look_up(f, x, one, other, m), None),
        lambda *a: None,
    ],
    "own_cross_attention": [
        _cross_with(weigh=lambda s, m: s.softmax(-1)),
        _cross_with(weigh=lambda s, m: s.masked_fill(m, -1e4).softmax(-1)),
        _cross_with(weigh=lambda s, m: s.softmax(-1) * m),
        _cross_with(weigh=lambda s, m: (s * m).softmax(-1)),
        _cross_with(weigh=lambda s, m: s.masked_fill(~m, -1e4).softmax(2)),
        _cross_with(weigh=lambda s, m: s.masked_fill(~m, -1e4).softmax(1)),
        _cross_with(scale=lambda q, x: 1),
        _cross_with(scale=lambda q, x: x.shape[-1] ** 0.5),
        _cross_with(scale=lambda q, x: q.shape[-1]),
        _cross_with(apart=False),
        _cross_with(split=lambda x, h: x.reshape(len(x), h, x.shape[1], -1)),
        _cross_with(merge=lambda x: x.reshape(len(x), x.shape[2], -1)),
        _cross_with(normed=False),
        _cross_with(project=False),
        _cross_with(end=lambda x, n, told, w: (told, w)),
        _cross_with(end=lambda x, n, told, w: (n + told, w)),
        _cross_with(end=lambda x, n, told, w: (x + told, w.mean(1))),
        _cross_with(end=lambda x, n, told, w: x + told),
        _cross_with(end=lambda x, n, told, w: (w, x + told)),
        _cross_with(end=lambda x, n, told, w: None),
        _cross_with(values=lambda x, c: x[:, :1].expand(-1, c.shape[1], -1) if x.shape[2] == c.shape[2] else c),
        _cross_with(keys=lambda x, c: x if x.shape == c.shape else c),
        _cross_with(values=lambda x, c: x if x.shape == c.shape else c),
        _cross_with(wide=8),
        _cross_with(norm=torch.nn.Identity),
        _cross_with(rename=True),
        lambda *sizes: torch.nn.LayerNorm(4),
        lambda *sizes: None,
    ],
}


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        (
            "stable_softmax",
            lambda s: np.exp(s - s.max()) / np.exp(s - s.max()).sum(-1, keepdims=True),
            "its own largest",
        ),
        ("window_mask", lambda n, r: np.tril(np.ones((n, n), int)), "True and False"),
        ("grad_key", lambda *a: _grad_key(*a, scale=False), "1/sqrt(d) is missing"),
        ("heads_apart", lambda x, h: x.view(len(x), h, x.shape[1], -1), "view alone"),
        ("attention_parameters", lambda w, h, c: _parameters(w, h, c) - 4 * w, "has a bias"),
        ("cross_attention", lambda f, t, c: _cross(f, t, c, scale=False), "sqrt(d) is missing"),
        ("cross_attention", lambda f, t, c: f(t), "self-attention"),
        ("decoder_layer", lambda y, m, k, f: f(y, m, causal_mask(y.shape[1]), None)[0], "Padding of the memory"),
        ("decoder_layer", lambda y, m, k, f: _decoder(y, m, k, f, pre=True), "This is pre-norm"),
        ("three_masks", lambda s, t: (s != 0, causal_mask(t.shape[1]), s != 0), "mask[:, None, :]"),
        ("three_masks", lambda s, t: (~_pad(s), causal_mask(t.shape[1]), ~_pad(s)), "upside down"),
        ("cache_numbers", lambda d, w, s, t: d * w * (s + t), "a key and a value"),
        ("channel_gate", lambda z, a, b: ((z.mean(1) @ a).relu() @ b).sigmoid(), "keepdim"),
        ("token_mixing", lambda z, f: f(z.transpose(1, 2)).reshape(z.shape), "transpose both times"),
        ("product_macs", lambda q, k, w: q * k * w, "two products"),
        ("cut_patches", lambda x, p: x.reshape(patchify(x, p).shape), "reshape alone"),
        ("pre_norm_block", lambda z, b: _block(z, b, first=False), "first residual"),
        ("vit_parameters", lambda *a: _vit_parameters(*a) - a[4], "head has a bias"),
        ("quadratic_share", lambda *a: _share(*a, products=1), "two products"),
        ("rollout", lambda w: _rollout(w, reverse=True), "wrong order"),
        ("class_token_attention", lambda c, p, f: _class_token(c, p, f, query="asking"), "The query, too"),
        ("class_token_attention", lambda c, p, f: _class_token(c, p, f, itself=False), "is a key, too"),
        ("class_token_attention", lambda c, p, f: _class_token(c, p, f, residual="normed"), "not its LayerNorm"),
        ("class_token_attention", lambda c, p, f: _class_token(c, p, f, residual="none"), "residual is missing"),
        ("class_token_attention", lambda c, p, f: _class_token(c, p, f, add=True), "replaces"),
        ("class_token_attention", lambda c, p, f: _class_token(c, p, f, scale=False), "sqrt(C/h) is missing"),
        ("fusion_macs", lambda w, p: _fusion_macs(w, p, queries="all"), "one query"),
        ("fusion_macs", lambda w, p: _fusion_macs(w, p, only=1), "in which S asks"),
        ("folded_attention", lambda f, t, c: _cross(f, t, c), "but not folded"),
        ("folded_attention", lambda f, t, c: _folded(f, t, c, value_bias=False), "values' bias"),
        ("folded_attention", lambda f, t, c: _folded(f, t, c, heads=1), "heads were not kept apart"),
        ("class_token_fusion", lambda *a: _summed(*a, back="large"), "of the sum, not of L's"),
        ("class_token_fusion", lambda *a: _summed(*a, small_adds=True), "nothing is added"),
        ("class_token_fusion", lambda *a: _summed(*a, large_is="large"), "L's class token stays"),
        ("class_token_fusion", lambda *a: _summed(*a, doubled=True), "are there twice"),
        ("pairwise_sum", lambda *a: _pairwise(*a, cut=True), "channels were cut up"),
        ("pairwise_sum", lambda *a: _pairwise(*a, swap=True), "Rows and columns"),
        ("pairwise_sum", lambda *a: _pairwise(*a, mode="nearest"), "not nearest"),
        ("crossvit_macs", lambda *a: _crossvit_macs(*a, extra=0), "class token is a token"),
        ("crossvit_macs", lambda *a: _crossvit_macs(*a, products=1), "two products"),
        ("crossvit_macs", lambda *a: _crossvit_macs(*a, mlp=1), "two linear layers"),
        ("crossvit_macs", lambda *a: _crossvit_macs(*a, repeat=1, fused=1), "once for each multi-scale encoder"),
        ("pareto_frontier", lambda c, a: _frontier(c, a, np.less, np.greater), "mind the ties"),
        ("pareto_frontier", lambda c, a: _frontier(c, a, strict=False), "both stay"),
        ("intensity", lambda t, i, o: t * i * o / 4 / (t * i + t * o), "weights must be read"),
        ("word_pieces", lambda w, v: _pieces(w, v, shortest=True), "not the shortest"),
        ("word_pieces", lambda w, v: _pieces(w, v, keep=True), "not [UNK] behind its pieces"),
        ("overall_and_mean_iou", lambda p, t: _iou(p, t)[::-1], "Overall first"),
        ("overall_and_mean_iou", lambda p, t: _iou(p, t, dice=True), "Dice"),
        ("overall_and_mean_iou", lambda p, t: _iou(p, t, empty=1.0), "as IoU 0"),
        ("overall_and_mean_iou", lambda p, t: _iou(p, t, overall=False), "before it divides"),
        ("pixels_ask_words", lambda f, m, w, k: _ask(f, m, w, None), "mask is missing"),
        ("pixels_ask_words", lambda f, m, w, k: _ask(f, m, w, ~k[:, None]), "upside down"),
        ("pixels_ask_words", lambda f, m, w, k: _ask(f, m, w, k[:, None], cut=True), "channels were cut up"),
        ("gather_words", lambda *a: _gather(*a, scale=1), "scale is missing"),
        ("gather_words", lambda q, k, v, m, h: _gather(q, k, v, m, h, scale=q.shape[-1] / h), "of all channels"),
        ("gather_words", lambda q, k, v, m, h: _gather(q, k, v, m | True, h), "mask is missing"),
        ("gather_words", lambda *a: _gather(*a, fill=-torch.inf), "not -inf"),
        ("gather_words", lambda *a: _gather(*a, values=False), "values of padding"),
        ("gather_words", lambda *a: _gather(*a, dim=2), "over the words"),
        ("gather_words", lambda q, k, v, m, h: _gather(q, k, v, m, 1), "split the channels"),
        ("gather_words", lambda *a: _gather(*a)[0], "return two tensors"),
        ("norm_over_pixels", lambda x: _normed(x, dim=2), "layer norm"),
        ("norm_over_pixels", lambda x: _normed(x, dim=(0, 1)), "batch norm"),
        ("norm_over_pixels", lambda x: _normed(x, correction=1), "not by one less"),
        ("norm_over_pixels", lambda x: _normed(x, eps=0, outside=1e-5), "under the root"),
        ("norm_over_pixels", lambda x: _normed(x, center=False), "mean is still"),
        ("gated", lambda v, f, a, b: v + _gate(v, f, a, b), "feed-forward layer"),
        ("gated", lambda v, f, a, b: v + _gate(v, f, a, b, end=torch.sigmoid) * f, "not in a sigmoid"),
        ("gated", lambda v, f, a, b: v + _gate(v, f, b, a) * f, "wrong order"),
        ("gated", lambda v, f, a, b: v + f, "gate is missing"),
        ("gated", lambda v, f, a, b: _gate(v, f, a, b) * f, "V is missing"),
        ("lavt_stage", lambda *a: _stage(*a, out=lambda n, v, f, e: (n(e - v), e)), "gate is only for"),
        ("lavt_stage", lambda *a: _stage(*a, out=lambda n, v, f, e: (n(f), v + e)), "adds V itself"),
        ("lavt_stage", lambda *a: _stage(*a, out=lambda n, v, f, e: (n(f), v + f)), "row without it"),
        ("lavt_stage", lambda *a: _stage(*a, asks="maps"), "what the blocks made"),
        ("join_levels", lambda *a: _level(*a, align_corners=False), "corners"),
        ("join_levels", lambda *a: _level(*a, order=-1), "coarse maps come first"),
        ("paired_lead", lambda a, b: _lead(a, b, pairs=list(zip(a.values(), b.values()))), "match by seed"),
        ("paired_lead", lambda a, b: _lead(a, b, t=1.96), "Student's t"),
        ("paired_lead", lambda a, b: _lead(a, b, ddof=0), "n - 1"),
        ("paired_lead", lambda a, b: _lead(a, b, root=0), "root of n"),
        ("cross_attention_macs", lambda *a: _cross_macs(*a, products=1), "There are two products"),
        ("cross_attention_macs", lambda n, m, d, c: _cross_macs(n, m, d, d), "context_width x width"),
        ("cross_attention_macs", lambda *a: _cross_macs(*a, asking=1), "output projection is missing"),
        ("look_up", lambda f, x, one, other, m: _look_up(f, x, one, one, m), "values came from the source of the keys"),
        ("look_up", lambda f, x, one, other, m: _look_up(f, x, other, one, m), "changed places"),
        ("look_up", lambda f, x, one, other, m: _look_up(f, x, one, other, None), "mask is missing"),
        ("look_up", lambda f, x, one, other, m: (_look_up(f, x, one, other, m), None), "return the output alone"),
        ("own_cross_attention", _cross_with(weigh=lambda s, m: s.softmax(-1)), "mask is missing"),
        ("own_cross_attention", _cross_with(weigh=lambda s, m: s.softmax(-1) * m), "masked after the softmax"),
        ("own_cross_attention", _cross_with(weigh=lambda s, m: s.masked_fill(~m, -9e3).softmax(2)), "over the keys"),
        ("own_cross_attention", _cross_with(scale=lambda q, x: 1), "sqrt(d) is missing"),
        ("own_cross_attention", _cross_with(scale=lambda q, x: x.shape[-1] ** 0.5), "width of a head"),
        ("own_cross_attention", _cross_with(apart=False), "split the channels first"),
        ("own_cross_attention", _cross_with(split=lambda x, h: x.reshape(len(x), h, x.shape[1], -1)), "view alone"),
        ("own_cross_attention", _cross_with(merge=lambda x: x.reshape(len(x), x.shape[2], -1)), "merge_heads"),
        ("own_cross_attention", _cross_with(keys=lambda x, c: x if x.shape == c.shape else c), "keys came from"),
        ("own_cross_attention", _cross_with(values=lambda x, c: x if x.shape == c.shape else c), "values came from"),
        ("own_cross_attention", _cross_with(normed=False), "norm is missing"),
        ("own_cross_attention", _cross_with(project=False), "output projection is missing"),
        ("own_cross_attention", _cross_with(end=lambda x, n, told, w: (told, w)), "residual is missing"),
        ("own_cross_attention", _cross_with(end=lambda x, n, told, w: (n + told, w)), "as they came"),
        ("own_cross_attention", _cross_with(wide=8), "must lead from 6 channels"),
        ("own_cross_attention", _cross_with(rename=True), "self.output must be"),
    ],
)
def test_a_known_mistake_is_named(name, answer, said, capsys) -> None:
    getattr(exercises, name)(answer)
    assert said in capsys.readouterr().out


def test_an_answer_may_change_its_input_in_place(capsys) -> None:
    def block_in_place(tokens, block):
        tokens += block.attention(block.norm1(tokens))
        tokens += block.mlp(block.norm2(tokens))
        return tokens

    with torch.no_grad():
        exercises.pre_norm_block(block_in_place)
    assert capsys.readouterr().out.startswith("✓")


def _spelt_otherwise(q, k, v, m, h):
    """G' by einsum, padding by adding, its keys 0 as well: as the published model writes it."""
    k, v = k * m[..., None], v * m[..., None]
    q, k, v = (rearrange(x, "b t (h d) -> b h t d", h=h) for x in (q, k, v))
    scores = torch.einsum("bhpd,bhwd->bhpw", q, k) / (h * q.shape[-1]) ** 0.5 + (1e4 * m.to(q) - 1e4)[:, None, None]
    weights = torch.softmax(scores, -1)
    return rearrange(weights @ v, "b h t d -> b t (h d)"), weights


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("gather_words", _spelt_otherwise),
        ("gather_words", lambda *a: [*_gather(*a, fill=torch.finfo(a[0].dtype).min)]),
        ("norm_over_pixels", lambda x: torch.nn.functional.instance_norm(x.transpose(1, 2)).transpose(1, 2)),
        ("norm_over_pixels", lambda x: (x - x.mean(1)[:, None]) * (x.var(1, correction=0)[:, None] + 1e-5).rsqrt()),
        ("gated", lambda v, f, a, b: f * torch.tanh((f @ a.weight.T).clamp(min=0) @ b.weight.T) + v),
        ("gated", lambda v, f, a, b: v.add_(b(a(f).relu_()).tanh_() * f)),
        ("lavt_stage", _stage),
        ("lavt_stage", lambda b, f, p, n, m, *w: [n(f(b(m), *w)), p(maps=b(m), fused=f(b(m), *w))]),
        ("join_levels", _level),
        ("paired_lead", _lead),
        ("paired_lead", lambda a, b: tuple(mean_interval(a[s] - b[s] for s in {*a} & {*b}))),
        ("cross_attention_macs", lambda n, m, d, c: 2 * (n * d * d + m * c * d + n * m * d)),
        ("cross_attention_macs", lambda n, m, d, c: torch.tensor(_cross_macs(n, m, d, c))),
        ("look_up", _look_up),
        ("own_cross_attention", _cross_with()),
        ("own_cross_attention", _cross_with(weigh=lambda s, m: s.masked_fill(~m, -torch.inf).softmax(-1))),
        ("own_cross_attention", _cross_with(weigh=lambda s, m: s.exp() * m / (s.exp() * m).sum(-1, keepdim=True))),
        ("own_cross_attention", _cross_with(end=lambda x, n, told, w: [x.add_(told), w])),
    ],
)
def test_a_right_answer_may_be_spelt_otherwise(name, answer, capsys) -> None:
    with torch.no_grad():
        getattr(exercises, name)(answer)
    assert capsys.readouterr().out.startswith("✓")


def test_every_exercise_has_wrong_answers() -> None:
    assert {parameters.values[1] for parameters in ALL} == set(WRONG)


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, wrong in WRONG.items() for n in range(len(wrong))])
def test_no_wrong_answer_is_accepted(name: str, number: int, capsys) -> None:
    getattr(exercises, name)(WRONG[name][number])
    assert capsys.readouterr().out.startswith("✗")


@pytest.mark.parametrize("name", list(WRONG))
def test_code_that_stops_is_reported_not_raised(name: str, capsys) -> None:
    def answer(*_):
        raise ZeroDivisionError("by me")

    getattr(exercises, name)(answer)
    assert "✗ answer stopped with ZeroDivisionError: by me" in capsys.readouterr().out
