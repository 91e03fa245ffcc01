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

from xattn_edu import exercises
from xattn_edu.attention import attention, attention_rollout, causal_mask
from xattn_edu.numpy_attention import softmax
from xattn_edu.vit import patchify

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
