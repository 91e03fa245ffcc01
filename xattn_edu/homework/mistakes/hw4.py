"""Wrong answers, and right ones written in another way, to the fourth graded set: CrossViT."""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from xattn_edu.homework.mistakes.mistake import Different, Mistake

# Below each exercise's right answer has switches; a mistake turns one of them.


# --- two_scale_tokens


def _branch_tokens(
    images: Any,
    branch: Any,
    how: Any = {"mode": "bicubic", "align_corners": False},  # noqa: B006 - never changed
    order: str = "b (row column) (c p q)",
    biased: bool = True,
    joined: str = "first",
    placed: str = "all",
) -> Tensor:
    (height, width), patch, matrix, bias, class_token, positions = branch
    if images.shape[-2:] != (height, width):
        images = F.interpolate(images, size=(height, width), **how)
    tokens = rearrange(images, f"b c (row p) (column q) -> {order}", p=patch, q=patch) @ matrix
    tokens = tokens + bias if biased else tokens
    first = class_token.repeat(len(images), 1)[:, None]
    if placed == "patches alone":
        return torch.cat([first, tokens + positions[1:]], dim=1)
    tokens = torch.cat({"first": [first, tokens], "last": [tokens, first], "none": [tokens]}[joined], dim=1)
    if placed == "none":
        return tokens
    return tokens + (positions if joined != "none" else positions[1:])


def _two_scales(images: Any, small: Any, large: Any, **how: Any) -> Any:
    return _branch_tokens(images, small, **how), _branch_tokens(images, large, **how)


def _large_from_small(images: Any, small: Any, large: Any) -> Any:
    view = F.interpolate(images, size=small[0], mode="bicubic")
    return _branch_tokens(images, small), _branch_tokens(view, large)


def _swapped(images: Any, small: Any, large: Any) -> Any:
    return _two_scales(images, large, small)


def _clamped(images: Any, small: Any, large: Any) -> Any:
    low, high = images.min(), images.max()
    views = [F.interpolate(images, size=branch[0], mode="bicubic").clamp(low, high) for branch in (small, large)]
    return tuple(_branch_tokens(view, branch) for view, branch in zip(views, (small, large)))


def _by_unfold(images: Any, small: Any, large: Any) -> Any:
    found = []
    for (height, width), patch, matrix, bias, class_token, positions in (small, large):
        view = F.interpolate(images, (height, width), mode="bicubic", align_corners=False)
        tokens = F.unfold(view, patch, stride=patch).mT @ matrix + bias
        found.append(torch.cat([class_token.expand(len(images), 1, -1), tokens], 1) + positions[None])
    return found


def _by_convolution(images: Any, small: Any, large: Any) -> Any:
    def one(size: Any, patch: int, matrix: Any, bias: Any, class_token: Any, positions: Any) -> Tensor:
        kernel = matrix.T.reshape(len(bias), images.shape[1], patch, patch)
        patches = F.conv2d(F.interpolate(images, size, mode="bicubic"), kernel, bias, stride=patch)
        tokens = torch.empty(len(images), len(positions), len(bias))
        tokens[:, 0], tokens[:, 1:] = class_token, patches.flatten(2).transpose(1, 2)
        return tokens + positions

    return one(*small), one(*large)


def _by_view(images: Any, small: Any, large: Any) -> Any:
    def one(branch: Any) -> Tensor:
        (height, width), p, matrix, bias, class_token, positions = branch
        view = F.interpolate(images, size=(height, width), mode="bicubic")
        six = view.reshape(len(view), -1, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        patches = six.flatten(3).flatten(1, 2)
        rows = F.linear(patches, matrix.T, bias) + positions[1:]
        return torch.cat([(class_token + positions[0]).view(1, 1, -1).repeat(len(rows), 1, 1), rows], dim=1)

    return tuple(map(one, (small, large)))


def _image_by_image(images: Any, small: Any, large: Any) -> Any:
    pairs = [_two_scales(image[None], small, large) for image in images]
    return torch.cat([s for s, _ in pairs]), torch.cat([l for _, l in pairs])


# --- mended_logits


def _run(
    images: Any,
    large_images: Any,
    model: Any,
    restart: bool = False,
    unfused: bool = False,
    read: str = "class token",
    join: str = "mean",
    normed: bool = True,
    fusion_first: bool = False,
) -> Tensor:
    small, large = model.small.embed(images), model.large.embed(large_images)
    n, m = model.depths
    for k in range(len(model.fusions)):
        if fusion_first:
            small, large, _ = model.fusions[k](small, large)
        for block in model.small.blocks[k * n : k * n + n]:
            small, _ = block(small)
        for block in model.large.blocks[:m] if restart else model.large.blocks[k * m : k * m + m]:
            large, _ = block(large)
        if not fusion_first and not (unfused and k + 1 == len(model.fusions)):
            small, large, _ = model.fusions[k](small, large)
    logits = []
    for branch, tokens in ((model.small, small), (model.large, large)):
        if read == "mean of all":
            tokens = tokens.mean(dim=1, keepdim=True)
        elif read == "mean of patches":
            tokens = tokens[:, 1:].mean(dim=1, keepdim=True)
        elif read == "last":
            tokens = tokens[:, -1:]
        logits.append(branch.head((branch.norm(tokens) if normed else tokens)[:, 0]))
    return {
        "mean": (logits[0] + logits[1]) / 2,
        "sum": logits[0] + logits[1],
        "small": logits[0],
        "large": logits[1],
        "probabilities": (logits[0].softmax(-1) + logits[1].softmax(-1)) / 2,
        "softmax": ((logits[0] + logits[1]) / 2).softmax(-1),
        "larger": torch.maximum(*logits),
    }[join]


def _unfused(images: Any, large_images: Any, model: Any) -> Tensor:
    return (model.small(images) + model.large(large_images)) / 2


def _by_iterators(images: Any, large_images: Any, model: Any) -> Tensor:
    branches = model.small, model.large
    tokens = [branch.embed(view) for branch, view in zip(branches, (images, large_images))]
    blocks = [iter(branch.blocks) for branch in branches]
    for fusion in model.fusions:
        for i, depth in enumerate(model.depths):
            for _ in range(depth):
                tokens[i] = next(blocks[i])(tokens[i])[0]
        *tokens, _ = fusion(*tokens)
    return torch.stack([branch.head(branch.norm(x)[:, 0]) for branch, x in zip(branches, tokens)]).mean(0)


def _class_tokens_by_hand(images: Any, large_images: Any, model: Any) -> Tensor:
    small, large = model.small.embed(images), model.large.embed(large_images)
    for k, fusion in enumerate(model.fusions):
        for block in model.small.blocks[k * model.depths[0] : (k + 1) * model.depths[0]]:
            small = block(small)[0]
        for block in model.large.blocks[k * model.depths[1] : (k + 1) * model.depths[1]]:
            large = block(large)[0]
        new = fusion.large(large[:, :1], small[:, 1:])[0]  # L first: the order makes no difference
        small = torch.cat([fusion.small(small[:, :1], large[:, 1:])[0], small[:, 1:]], dim=1)
        large = torch.cat([new, large[:, 1:]], dim=1)
    return 0.5 * model.small.head(model.small.norm(small[:, 0])) + 0.5 * model.large.head(model.large.norm(large[:, 0]))


# --- folded_fusion


def _steps(
    class_token: Any,
    patches: Any,
    layer: Any,
    normed_query: bool = True,
    query_bias: bool = True,
    transposed: str = "",
    early_scale: bool = False,
    one_head: bool = False,
    scale: str = "head",
    keys: str = "normed",
    axis: int = -1,
    mean_of: str = "normed",
    value_bias: int = 1,
    output: bool = True,
    residual: str = "projected",
    back: bool = True,
    added: bool = False,
    stop: str = "",
) -> Any:
    a, projected = layer.attentions[0], layer.project(class_token)
    raw = torch.cat([projected, patches], dim=1)
    x = layer.norms[0](raw)
    batch, heads, dim = len(x), a.heads, a.width // a.heads
    w_k, w_v = a.key.weight, a.value.weight
    w_k = (w_k.T if transposed == "key" else w_k).reshape(heads, dim, -1)
    w_v = (w_v.T if transposed == "value" else w_v).reshape(heads, dim, -1)
    q = F.linear(x[:, 0] if normed_query else projected[:, 0], a.query.weight, a.query.bias if query_bias else None)
    q = q.view(batch, heads, 1, dim)
    folded = (q @ w_k).squeeze(2)
    if one_head:
        folded = folded.sum(dim=1, keepdim=True).expand(-1, heads, -1)
    if early_scale:
        folded = folded / dim**0.5
    keys_of = {"normed": x, "raw": raw, "patches": x[:, 1:]}[keys]
    scores = torch.einsum("bhc,bnc->bhn", folded, keys_of)
    scores = scores / {"head": dim**0.5, "width": a.width**0.5, "none": 1.0, "heads": dim}[scale]
    weights = scores if stop == "weights" else scores.softmax(dim=axis)
    if keys == "patches":
        return folded, weights, weights @ x[:, 1:], projected
    mean = weights @ {"normed": x, "raw": raw}[mean_of]
    values = torch.einsum("bhc,hdc->bhd", mean, w_v)
    if stop == "mean":
        mean = values
    heads_out = values.reshape(batch, -1) + value_bias * a.value.bias
    attended = (a.output(heads_out) if output else heads_out)[:, None]
    y = {"projected": projected, "normed": x[:, :1], "none": 0.0}[residual] + attended
    token = layer.back(y) if back else y
    folded = q.squeeze(2) if stop == "query" else folded
    return folded, weights, mean, token + class_token if added else token


def _with_keys(class_token: Any, patches: Any, layer: Any) -> Any:
    """Only the first two results are folded; the token comes from the layer."""
    folded, weights, mean, _ = _steps(class_token, patches, layer)
    return [folded, weights, mean, layer(class_token, patches)[0]]


def _head_by_head(class_token: Any, patches: Any, layer: Any) -> Any:
    a, f = layer.attentions[0], layer.project(class_token)
    x = layer.norms[0](torch.cat([f, patches], dim=1))
    dim = a.width // a.heads
    query = a.query(x[:, 0])
    queries, rows, means, sums = (list[Tensor]() for _ in range(4))
    for h in range(a.heads):
        part = slice(h * dim, (h + 1) * dim)
        u = query[:, part] @ a.key.weight[part]
        row = torch.softmax((x @ u[:, :, None])[..., 0] / math.sqrt(dim), dim=1)
        mean = (row[:, :, None] * x).sum(dim=1)
        for found, part_of in ((queries, u), (rows, row), (means, mean), (sums, mean @ a.value.weight[part].T)):
            found.append(part_of)
    y = f + a.output(torch.cat(sums, dim=1) + a.value.bias).unsqueeze(1)
    return torch.stack(queries, 1), torch.stack(rows, 1), torch.stack(means, 1), layer.back(y)


def _by_einsum(class_token: Any, patches: Any, layer: Any) -> Any:
    a, f = layer.attentions[0], layer.project(class_token)
    x = layer.norms[0](torch.cat((f, patches), 1))
    k, v, o = (w.weight.unflatten(0, (a.heads, -1)) for w in (a.key, a.value, a.query))
    q = torch.einsum("bc,hdc->bhd", x[:, 0], o) + a.query.bias.view(a.heads, -1)
    u = torch.einsum("bhd,hdc->bhc", q, k)
    w = F.softmax(torch.einsum("bhc,bnc->bhn", u / math.sqrt(k.shape[1]), x), -1)
    m = torch.einsum("bhn,bnc->bhc", w, x)
    out = torch.einsum("bhc,hdc->bhd", m, v).flatten(1) + a.value.bias
    return u, w, m, layer.back(f + a.output(out).unsqueeze(1))


def _with_key_bias(class_token: Any, patches: Any, layer: Any) -> Any:
    """The key's bias changes nothing: softmax takes it away."""
    a, f = layer.attentions[0], layer.project(class_token)
    x = layer.norms[0](torch.cat([f, patches], dim=1))
    q = a.query(x[:, :1]).unflatten(2, (a.heads, -1)).transpose(1, 2)
    u = (q @ a.key.weight.unflatten(0, (a.heads, -1)))[:, :, 0]
    constant = (q[:, :, 0] * a.key.bias.unflatten(0, (a.heads, -1))).sum(-1, keepdim=True)
    w = ((u @ x.mT + constant) * q.shape[-1] ** -0.5).softmax(-1)
    m = w @ x
    values = (m[:, :, None] @ a.value.weight.unflatten(0, (a.heads, -1)).mT)[:, :, 0]
    return u, w, m, layer.back(f + a.output(values.flatten(1) + a.value.bias)[:, None])


# --- reach


def _table(patches: Any, step: str, fault: str = "") -> Any:
    s, l = 1 + patches[0], 1 + patches[1]
    table = np.eye(s + l, dtype=bool)
    small, large = np.arange(s), np.arange(s, s + l)
    if step == "blocks":
        for branch in (small, large):
            table[np.ix_(branch if fault != "class token alone" else branch[:1], branch)] = True
        if fault == "both branches":
            table[:] = True
    elif step == "all_attention":
        table[:] = True
    elif step == "class_token":
        for one, other in ((0, s), (s, 0)):
            table[one, other] = True
        if fault == "patches summed":
            table[0, large] = table[s, small] = True
        if fault == "one way":
            table[0, s] = False
        if fault == "exchanged":
            table[0, 0] = table[s, s] = False
    elif step == "cross_attention":
        first = 0 if fault == "class token as key" else 1
        if fault == "own patches":
            table[0, small[1:]] = table[s, large[1:]] = True
        table[0, large[first:]] = table[s, small[first:]] = True
        if fault == "patches too":
            table[np.ix_(small, large[1:])] = table[np.ix_(large, small[1:])] = True
        if fault == "no self":
            table[0, 0] = table[s, s] = False
    return table


def _reached(patches: Any, steps: Any, fault: str = "", how: str = "") -> Any:
    size = 2 + sum(patches)
    table = np.eye(size, dtype=bool)
    for step in reversed(steps) if how == "reversed" else steps:
        one = _table(patches, step, fault)
        if how == "either":
            table = table | one
        elif how == "last":
            table = one
        else:
            table = (one.astype(int) @ table.astype(int)) > 0
    if how == "turned":
        table = table.T
    if how == "large first":
        order = [*range(1 + patches[0], size), *range(1 + patches[0])]
        table = table[np.ix_(order, order)]
    if how == "numbers":
        return torch.from_numpy(table.astype(int))
    return torch.from_numpy(~table if how == "opposite" else table)


def _by_sets(patches: Any, steps: Any) -> Any:
    s = 1 + patches[0]
    small, large = set(range(s)), set(range(s, s + 1 + patches[1]))
    reads = [{i} for i in range(len(small) + len(large))]
    for step in steps:
        new = [set(r) for r in reads]
        if step in ("blocks", "all_attention"):
            for group in (small, large) if step == "blocks" else (small | large,):
                union = set().union(*(reads[i] for i in group))
                for i in group:
                    new[i] = union
        elif step == "class_token":
            new[0] = new[s] = reads[0] | reads[s]
        else:
            new[0] = reads[0].union(*(reads[j] for j in large - {s}))
            new[s] = reads[s].union(*(reads[j] for j in small - {0}))
        reads = new
    return [[j in reads[i] for j in range(len(reads))] for i in range(len(reads))]


def _by_numpy(patches: Any, steps: Any) -> Any:
    return _reached(patches, steps).numpy()


def _by_powers(patches: Any, steps: Any) -> Any:
    tables = [torch.from_numpy(_table(patches, step)).double() for step in steps]
    product = tables[-1]
    for table in tables[-2::-1]:
        product = product @ table
    return product != 0


def _by_gradient(patches: Any, steps: Any) -> Any:
    """Which input changes which output, measured on random tables of numbers."""
    inputs = torch.eye(2 + sum(patches), dtype=torch.double)
    for step in steps:
        numbers = torch.from_numpy(_table(patches, step)).double()
        inputs = (numbers * (1 + torch.rand(numbers.shape, dtype=torch.double))) @ inputs
    return inputs > 0


# --- the catalogue


def _scales(name: str, cause: str, section: str = "07, 7.2", **how: Any) -> Mistake:
    return Mistake("hw4.two_scale_tokens", name, partial(_two_scales, **how), cause, section)


def _network(name: str, cause: str, section: str = "07, 7.8", **how: Any) -> Mistake:
    return Mistake("hw4.mended_logits", name, partial(_run, **how), cause, section)


def _fold(name: str, cause: str, section: str = "07, 7.7", **how: Any) -> Mistake:
    return Mistake("hw4.folded_fusion", name, partial(_steps, **how), cause, section)


def _dependence(name: str, cause: str, section: str = "07, 7.3", **how: Any) -> Mistake:
    return Mistake("hw4.reach", name, partial(_reached, **how), cause, section)


MISTAKES: tuple[Mistake, ...] = (
    _scales("bilinear", "Bicubic, not bilinear", how={"mode": "bilinear"}),
    _scales("nearest", "Bicubic, not nearest", how={"mode": "nearest"}),
    _scales("corners aligned", "align_corners=False", how={"mode": "bicubic", "align_corners": True}),
    _scales("antialiased", "Without antialias", how={"mode": "bicubic", "antialias": True}),
    _scales("area", "not the mean over an area", how={"mode": "area"}),
    Mistake("hw4.two_scale_tokens", "L from S's view", _large_from_small, "not from the view that S sees", "07, 7.2"),
    Mistake("hw4.two_scale_tokens", "L, S", _swapped, "in the order S, L", "07, 7.2"),
    Mistake("hw4.two_scale_tokens", "clamped", _clamped, "nothing is clamped", "07, 7.2"),
    _scales("patches down the columns", "numbered row by row", "05, 5.2", order="b (column row) (c p q)"),
    _scales("channels last", "the channel comes first", "05, 5.2", order="b (row column) (p q c)"),
    _scales("columns first", "rows come before the columns", "05, 5.2", order="b (row column) (c q p)"),
    _scales("no bias", "The bias of the patch embedding", "05, 5.2", biased=False),
    _scales("class token last", "comes first, before the patches.", "05, 5.4", joined="last"),
    _scales("no class token", "The class token is missing.", "05, 5.4", joined="none"),
    _scales("no positions", "position embeddings are missing", "05, 5.3", placed="none"),
    _scales("class token without position", "has a position, too", "05, 5.4", placed="patches alone"),
    _network("fault 1 left", "fault is still in it: in every encoder L runs the blocks of the first.", restart=True),
    _network("fault 2 left", "fault is still in it: the fusion after the last encoder is missing.", unfused=True),
    _network("fault 3 left", "fault is still in it: the classifiers read the mean of all tokens.", read="mean of all"),
    _network("fault 4 left", "fault is still in it: probabilities are averaged, not logits.", join="probabilities"),
    _network(
        "faults 1 and 2 left",
        "of the first; and this: the fusion after the last encoder is missing.",
        restart=True,
        unfused=True,
    ),
    _network(
        "all four left", "and this: probabilities", restart=True, unfused=True, read="mean of all", join="probabilities"
    ),
    _network("mean of the patches", "mean of the patches", read="mean of patches"),
    _network("last token", "read the last token", read="last"),
    _network("no norm", "norm before each classifier", normed=False),
    _network("sum", "not their sum", join="sum"),
    _network("S alone", "S's logits alone", join="small"),
    _network("L alone", "L's logits alone", join="large"),
    _network("softmax", "no softmax", join="softmax"),
    _network("larger logit", "The larger of two logits", join="larger"),
    _network("fusion first", "blocks come before the fusion", fusion_first=True),
    Mistake("hw4.mended_logits", "no fusion", _unfused, "never fused", "07, 7.8"),
    _fold("query not normed", "The query, too, is normalised", "07, 7.4", normed_query=False),
    _fold("no query bias", "The query has a bias", query_bias=False),
    _fold("scaled early", "does not belong to the folded query", early_scale=True),
    _fold("W_k transposed", "W_k is transposed", transposed="key"),
    _fold("heads mixed", "the heads were not kept apart", one_head=True),
    _fold("q not folded", "W_k is not yet folded in", stop="query"),
    _fold("no scale", "The division by sqrt(C/h) is missing", scale="none"),
    _fold("scaled by C", "d is the width of a head", scale="width"),
    _fold("scaled by C/h", "not by C/h", scale="heads"),
    _fold("raw keys", "Keys are the tokens of LN(x')", "07, 7.4", keys="raw"),
    _fold("class token no key", "is a key, too: 1 + patches", "07, 7.4", keys="patches"),
    _fold("softmax over heads", "not over the heads", axis=1),
    _fold("no softmax", "the softmax is missing", stop="weights"),
    _fold("mean of raw tokens", "The mean is of the tokens of LN(x')", mean_of="raw"),
    _fold("values formed", "before W_v", stop="mean"),
    _fold("no value bias", "The values' bias is missing", value_bias=0),
    _fold("W_v transposed", "W_v is transposed", transposed="value"),
    _fold("no output", "The output projection is missing", output=False),
    _fold("no residual", "The residual is missing", "07, 7.4", residual="none"),
    _fold("residual normed", "adds f(x_cls) itself", "07, 7.4", residual="normed"),
    _fold("old token added", "nothing is added to it", "07, 7.4", added=True),
    _fold("no way back", "The way back, g", "07, 7.4", back=False),
    _dependence("block over both", "belongs to one branch", fault="both branches"),
    _dependence("block for the class token", "In a block every token attends", fault="class token alone"),
    _dependence("patches summed", "reads class tokens only", "08, 8.2", fault="patches summed"),
    _dependence("one way", "S's class token has not got it", "08, 8.2", fault="one way"),
    _dependence("exchanged", "each branch's own class token", "08, 8.2", fault="exchanged"),
    _dependence("own patches too", "not the branch's own.", fault="own patches"),
    _dependence("class token a key", "class token is no key", fault="class token as key"),
    _dependence("patches attend", "only the class token is a query", fault="patches too"),
    _dependence("no self", "depends on the old one", fault="no self"),
    _dependence("order reversed", "in the wrong order", how="reversed"),
    _dependence("either", "gives away in the next", how="either"),
    _dependence("last step alone", "last step alone", how="last"),
    _dependence("turned over", "turned over", how="turned"),
    _dependence("L first", "S's tokens come first", how="large first"),
    _dependence("opposite", "the opposite", how="opposite"),
    _dependence("numbers", "compare instead of computing", how="numbers"),
)

DIFFERENT: tuple[Different, ...] = (
    Different("hw4.two_scale_tokens", "unfold", _by_unfold),
    Different("hw4.two_scale_tokens", "convolution", _by_convolution),
    Different("hw4.two_scale_tokens", "view", _by_view),
    Different("hw4.two_scale_tokens", "image by image", _image_by_image),
    Different("hw4.mended_logits", "by number", _run),
    Different("hw4.mended_logits", "iterators", _by_iterators),
    Different("hw4.mended_logits", "class tokens by hand", _class_tokens_by_hand),
    Different("hw4.folded_fusion", "matrix products", _steps),
    Different("hw4.folded_fusion", "token from the layer", _with_keys),
    Different("hw4.folded_fusion", "head by head", _head_by_head),
    Different("hw4.folded_fusion", "einsum", _by_einsum),
    Different("hw4.folded_fusion", "with the key's bias", _with_key_bias),
    Different("hw4.reach", "products of tables", _reached),
    Different("hw4.reach", "sets", _by_sets),
    Different("hw4.reach", "an array", _by_numpy),
    Different("hw4.reach", "one product", _by_powers),
    Different("hw4.reach", "numbers", _by_gradient),
)
