"""Wrong answers, and right ones written in another way, to the third graded set: patches, positions, ViT, training."""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.homework.mistakes.mistake import Different, Mistake
from xattn_edu.models import vit
from xattn_edu.models.positions import sincos_positions
from xattn_edu.training.loop import adamw

# Below each exercise's right answer has switches; a mistake turns one of them.


# --- mosaic


def _mosaic(
    images: Any,
    patch: Any,
    order: Any,
    cut: str = "b c (row p) (column q) -> b (row column) c p q",
    back: str = "b (row column) c p q -> b c (row p) (column q)",
    turned: bool = False,
    twice: bool = False,
    only_first: bool = False,
) -> Tensor:
    rows = images.shape[-2] // patch
    pieces = rearrange(images, cut, p=patch, q=patch)
    if turned:
        placed = torch.empty_like(pieces)
        placed[:, order] = pieces
    else:
        placed = pieces[:, order]
    placed = placed[:, order] if twice else placed
    whole = rearrange(placed, back, row=rows)
    return whole[:1].expand_as(whole) if only_first else whole


def _reshaped(images: Any, patch: Any, order: Any) -> Tensor:
    return vit.patchify(images, patch)[:, order].reshape(images.shape)


def _patches_returned(images: Any, patch: Any, order: Any) -> Tensor:
    return vit.patchify(images, patch)[:, order]


def _channels_last(images: Any, patch: Any, order: Any) -> Tensor:
    flat = vit.patchify(images, patch)[:, order]
    rows = images.shape[2] // patch
    return rearrange(flat, "b (row column) (p q c) -> b c (row p) (column q)", row=rows, p=patch, q=patch)


def _unchanged(images: Any, patch: Any, order: Any) -> Tensor:
    return images.clone()


def _by_loops(images: Any, patch: Any, order: Any) -> Tensor:
    result, columns = torch.zeros_like(images), images.shape[3] // patch
    for place, number in enumerate(order.tolist()):
        (r, c), (i, j) = divmod(place, columns), divmod(number, columns)
        result[..., r * patch : (r + 1) * patch, c * patch : (c + 1) * patch] = images[
            ..., i * patch : (i + 1) * patch, j * patch : (j + 1) * patch
        ]
    return result


def _by_fold(images: Any, patch: Any, order: Any) -> Tensor:
    columns = F.unfold(images, patch, stride=patch)[:, :, order]
    return F.fold(columns, tuple(images.shape[2:]), patch, stride=patch)


def _by_view(images: Any, patch: Any, order: Any) -> Tensor:
    b, c, h, w = images.shape
    six = images.view(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5)
    moved = six.flatten(1, 2).index_select(1, order).view(six.shape)
    return moved.permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


def _by_pixels(images: Any, patch: Any, order: Any) -> Tensor:
    h, w = images.shape[2:]
    numbers = rearrange(torch.arange(h * w).view(1, 1, h, w), "1 1 (r p) (s q) -> (r s) (p q)", p=patch, q=patch)
    index = rearrange(numbers[order], "(r s) (p q) -> (r p s q)", r=h // patch, p=patch)
    return images.flatten(2)[:, :, index].view(images.shape)


# --- position_products


def _products(
    rows: Any,
    columns: Any,
    width: Any,
    pairs: Any = lambda width: width // 4,
    divisor: Any = lambda width: width // 4,
    wave: Any = torch.cos,
    join: Any = torch.add,
    parts: str = "both",
    factor: Any = lambda width: 1.0,
) -> Tensor:
    w = 10000.0 ** (-torch.arange(pairs(width)) / divisor(width))
    down = wave(torch.arange(-rows + 1, rows)[:, None] * w).sum(dim=1)
    right = wave(torch.arange(-columns + 1, columns)[:, None] * w).sum(dim=1)
    if parts != "both":
        down, right = (down, right * 0) if parts == "rows" else (down * 0, right)
    return join(down[:, None], right[None, :]) * factor(width)


def _turned(rows: Any, columns: Any, width: Any) -> Tensor:
    return _products(columns, rows, width)


def _quadrant(rows: Any, columns: Any, width: Any) -> Tensor:
    return _products(rows, columns, width)[rows - 1 :, columns - 1 :]


def _of_places(rows: Any, columns: Any, width: Any) -> Tensor:
    table = sincos_positions((rows, columns), width)[0]
    return table @ table.T


def _zero_first(rows: Any, columns: Any, width: Any) -> Tensor:
    return torch.fft.ifftshift(_products(rows, columns, width))


def _sine_and_cosine(x: Tensor) -> Tensor:
    return x.sin() + x.cos()


def _looked_up(rows: Any, columns: Any, width: Any) -> Tensor:
    table = sincos_positions((rows, columns), width)[0].view(rows, columns, width)
    result = torch.zeros(2 * rows - 1, 2 * columns - 1)
    for a in range(rows):
        for b in range(columns):
            for c in range(rows):
                for d in range(columns):
                    result[c - a + rows - 1, d - b + columns - 1] = table[a, b] @ table[c, d]
    return result


def _in_numpy(rows: Any, columns: Any, width: Any) -> Any:
    i = np.arange(width // 4)
    w = 1 / 10000 ** (i / (width // 4))
    r, c = np.arange(1 - rows, rows), np.arange(1 - columns, columns)
    return np.cos(r[:, None, None] * w).sum(-1) + np.cos(c[None, :, None] * w).sum(-1)


def _in_python(rows: Any, columns: Any, width: Any) -> Any:
    w = [10000 ** (-4 * i / width) for i in range(width // 4)]
    return [
        [sum(math.cos(f * r) + math.cos(f * c) for f in w) for c in range(1 - columns, columns)]
        for r in range(1 - rows, rows)
    ]


# --- pruned_block


def _block(
    tokens: Any,
    block: Any,
    keep: Any,
    normed: bool = True,
    pool: str = "mean",
    row: bool = True,
    own: bool = False,
    largest: bool = True,
    ordered: bool = True,
    offset: int = 1,
    shared: str = "",
    early: bool = False,
    first: str = "residual",
    second: bool = True,
    norm2: str = "norm2",
    mlp: bool = True,
    drop: bool = True,
    count_class: bool = False,
    scaled: bool = False,
    shift: int = 0,
    without_class: bool = False,
) -> Any:
    mixed, weights = block.attention(block.norm1(tokens) if normed else tokens, return_weights=True)
    weights = {"mean": weights.mean(1), "max": weights.amax(1), "sum": weights.sum(1), "first": weights[:, 0]}[pool]
    attention = weights[:, 0] if row else weights[:, :, 0]
    attention = attention if own else attention[:, 1:]
    if scaled:
        attention = attention / attention.sum(-1, keepdim=True)
    chosen = attention
    if shared == "mean":
        chosen = attention.mean(0, keepdim=True).expand_as(attention)
    if shared == "first":
        chosen = attention[:1].expand_as(attention)
    kept = chosen.topk(keep - count_class, largest=largest).indices
    kept = kept.sort().values if ordered else kept
    z = {"residual": tokens + mixed, "none": mixed, "skipped": tokens}[first]
    places = kept + offset
    if early:
        tokens = _gathered(tokens, places)
        z = tokens + block.attention(block.norm1(tokens))
    elif drop:
        z = _gathered(z, places)
    if mlp:
        hidden = block.mlp({"norm2": block.norm2, "norm1": block.norm1, "": nn.Identity()}[norm2](z))
        z = z + hidden if second else hidden
    return attention, kept + shift, z[:, 1:] if without_class else z


def _gathered(tokens: Tensor, places: Tensor) -> Tensor:
    chosen = torch.take_along_dim(tokens, places[:, :, None], dim=1)
    return torch.cat([tokens[:, :1], chosen], dim=1)


def _image_by_image(tokens: Any, block: Any, keep: Any) -> Any:
    results = []
    for image in tokens:
        z, _ = image[None], None
        mixed, weights = block.attention(block.norm1(z), return_weights=True)
        attention = weights[0, :, 0, 1:].mean(dim=0)
        kept = torch.tensor(sorted(attention.argsort(descending=True)[:keep].tolist()))
        z = (z + mixed)[:, [0, *(kept + 1).tolist()]]
        results.append((attention, kept, (z + block.mlp(block.norm2(z)))[0]))
    return tuple(torch.stack(part) for part in zip(*results))


def _by_mask(tokens: Any, block: Any, keep: Any) -> Any:
    mixed, weights = block.attention(block.norm1(tokens), return_weights=True)
    attention = weights.mean(dim=1)[:, 0, 1:]
    limit = attention.sort(dim=1, descending=True).values[:, keep - 1 : keep]
    mask = attention >= limit
    kept = mask.nonzero()[:, 1].view(len(tokens), keep)
    every = torch.cat([torch.ones(len(tokens), 1, dtype=torch.bool), mask], dim=1)
    z = (tokens + mixed)[every].view(len(tokens), keep + 1, -1)
    return attention, kept, z + block.mlp(block.norm2(z))


def _mlp_before_the_drop(tokens: Any, block: Any, keep: Any) -> Any:
    """The MLP works on each token by itself, so tokens may as well be dropped after it."""
    attention, kept, whole = _block(tokens, block, keep, drop=False)
    return [attention, kept, _gathered(whole, kept + 1)]


def _by_heads(tokens: Any, block: Any, keep: Any) -> Any:
    layer, x = block.attention, block.norm1(tokens)
    q, k, v = (rearrange(f(x), "b n (h d) -> b h n d", h=layer.heads) for f in (layer.query, layer.key, layer.value))
    weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
    z = tokens + layer.output(rearrange(weights @ v, "b h n d -> b n (h d)"))
    attention = weights[:, :, 0, 1:].sum(1) / layer.heads
    kept = torch.argsort(attention, dim=1)[:, -keep:].sort(dim=1)[0]
    patches = z[:, 1:].gather(1, repeat(kept, "b k -> b k c", c=z.shape[2]))
    z = torch.cat((z[:, [0]], patches), 1)
    return attention, kept, block.mlp(block.norm2(z)) + z


# --- mended_training


def _train(
    images: Any,
    labels: Any,
    batches: Any,
    rates: Any,
    clip: Any,
    sizes: Any,
    zero: bool = True,
    probabilities: bool = False,
    clipped: str = "before",
    late: bool = False,
    decay: float = 0.05,
    kind: Any = None,
    seed: int = 0,
    constant: bool = False,
    after: bool = False,
    reduction: str = "mean",
    give: str = "logits",
    ignore: bool = False,
    steps: int = 100,
    at: Any = None,
) -> Any:
    image, patch, width, depth, heads, classes = sizes
    torch.manual_seed(seed)
    model = vit.ViT(image, patch, width, depth, heads, classes=classes, channels=1)
    optimizer = adamw(model, rates[0], decay)
    if kind is not None:
        optimizer = kind(model.parameters(), lr=rates[0], weight_decay=decay)
    losses = []
    for step, batch in enumerate(batches[:steps]):
        batch = torch.arange(len(batch)) if ignore else batch
        if not late and not constant:
            _set(optimizer, rates[step])
        logits = model(images[batch])
        logits = logits.softmax(dim=1) if probabilities else logits
        loss = F.cross_entropy(logits, labels[batch], reduction=reduction)
        if zero:
            optimizer.zero_grad()
        loss.backward()
        if clipped == "before":
            nn.utils.clip_grad_norm_(model.parameters(), at or clip)
        optimizer.step()
        if clipped == "after":
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        if late:
            _set(optimizer, rates[step])
        losses.append(F.cross_entropy(model(images[batch]), labels[batch]).item() if after else loss.item())
    with torch.no_grad():
        logits = model(images)
    return torch.tensor(losses), {"logits": logits, "probabilities": logits.softmax(-1), "classes": logits.argmax(-1)}[
        give
    ]


def _set(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _as_list(images: Any, labels: Any, batches: Any, rates: Any, clip: Any, sizes: Any) -> Any:
    losses, logits = _train(images, labels, batches, rates, clip, sizes)
    return losses.tolist(), logits


def _new_rate_by_scheduler(images: Any, labels: Any, batches: Any, rates: Any, clip: Any, sizes: Any) -> Any:
    torch.manual_seed(0)
    model = vit.ViT(*sizes[:5], classes=sizes[5], channels=1)
    optimizer = adamw(model, 1.0, 0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rates[min(step, len(rates) - 1)])
    losses = torch.zeros(len(batches))
    for step in range(len(batches)):
        model.zero_grad()
        loss = nn.CrossEntropyLoss()(model(images[batches[step]]), labels[batches[step]])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=clip)
        optimizer.step()
        schedule.step()
        losses[step] = loss.detach()
    return losses, model(images)


def _clipped_by_hand(images: Any, labels: Any, batches: Any, rates: Any, clip: Any, sizes: Any) -> Any:
    torch.manual_seed(0)
    model = vit.ViT(*sizes[:5], classes=sizes[5], channels=1).train()
    losses, parameters, optimizer = [], list(model.parameters()), adamw(model, 0.001, 0.05)
    for rate, batch in zip(rates, batches):
        _set(optimizer, rate)
        log = model(images[batch]).log_softmax(dim=1)
        loss = -log[torch.arange(len(batch)), labels[batch]].mean()
        gradients = torch.autograd.grad(loss, parameters)
        length = torch.stack([g.pow(2).sum() for g in gradients]).sum().sqrt()
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient * min(1.0, clip / (length.item() + 1e-6))
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), model.eval()(images).detach()


def _sum_over_the_batch(images: Any, labels: Any, batches: Any, rates: Any, clip: Any, sizes: Any) -> Any:
    torch.manual_seed(0)
    image, patch, width, depth, heads, classes = sizes
    model = vit.ViT(image, patch, width, depth, heads, classes=classes, channels=1)
    names = {name for name, p in model.named_parameters() if p.ndim > 1} - {"positions", "class_token"}
    matrices, others = ([p for n, p in model.named_parameters() if (n in names) == yes] for yes in (True, False))
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0}])
    losses = []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(images[batch]), labels[batch], reduction="sum") / len(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss)
    return torch.stack(losses), model(images)


# --- the catalogue


def _cut(name: str, cause: str, answer: Any = _mosaic, **how: Any) -> Mistake:
    return Mistake("hw3.mosaic", name, partial(answer, **how), cause, "05, 5.2")


def _places(name: str, cause: str, answer: Any = _products, **how: Any) -> Mistake:
    return Mistake("hw3.position_products", name, partial(answer, **how), cause, "05, 5.3")


def _drops(name: str, cause: str, section: str = "05, 5.5", **how: Any) -> Mistake:
    return Mistake("hw3.pruned_block", name, partial(_block, **how), cause, section)


def _loop(name: str, cause: str, **how: Any) -> Mistake:
    return Mistake("hw3.mended_training", name, partial(_train, **how), cause, "06, 6.2")


DOWN = "b c (row p) (column q) -> b (column row) c p q"
BACK_DOWN = "b (column row) c p q -> b c (row p) (column q)"

MISTAKES: tuple[Mistake, ...] = (
    _cut("order turned round", "The order is turned round", turned=True),
    _cut("order used twice", "used twice", twice=True),
    _cut("unchanged", "in their old order", _unchanged),
    _cut("reshaped", "does not put patches together", _reshaped),
    _cut("placed down the columns", "when the image is put together, too", back=BACK_DOWN),
    _cut("cut down the columns", "patch 1 stands right of patch 0", cut=DOWN),
    _cut("all down the columns", "not column by column", cut=DOWN, back=BACK_DOWN),
    _cut("transposed inside", "inside a patch are exchanged", back="b (row column) c p q -> b c (row q) (column p)"),
    _cut("channels last", "Channels are mixed", _channels_last),
    _cut("interleaved", "(row p), not (p row)", back="b (row column) c p q -> b c (p row) (q column)"),
    _cut("patches returned", "not its patches", _patches_returned),
    _cut("first image alone", "is the first one", only_first=True),
    _places("cosines", "divided by the lengths", factor=lambda width: 2 / width),
    _places("half the width", "not width/2", pairs=lambda width: width // 2, divisor=lambda width: width // 2),
    _places("all of the width", "and for the columns, not width.", pairs=lambda w: w, divisor=lambda w: w),
    _places("divided by the width", "the divisor is not width", divisor=lambda width: width),
    _places("last frequency", "the last one is above", divisor=lambda width: max(width // 4 - 1, 1)),
    _places("sines", "not its sine", wave=torch.sin),
    _places("sines and cosines", "no sine is left", wave=_sine_and_cosine),
    _places("multiplied", "not multiplied", join=torch.mul),
    _places("rows alone", "The columns are missing", parts="rows"),
    _places("columns alone", "The rows are missing", parts="columns"),
    _places("turned", "offsets in rows, columns are", _turned),
    _places("from 0 on", "not with 0", _quadrant),
    _places("0 first", "stands in the middle", _zero_first),
    _places("each with each", "each place with each other", _of_places),
    _places("twice", "has no factor 2", factor=lambda width: 2.0),
    _places("mean", "not a mean", factor=lambda width: 4 / width),
    _drops("attention not normed", "Attention runs on LN(z)", normed=False),
    _drops("column", "This is its column", row=False),
    _drops("maximum over heads", "not their maximum", pool="max"),
    _drops("sum over heads", "not their sum", pool="sum"),
    _drops("first head", "not the first head", pool="first"),
    _drops("own weight kept", "own weight is left out", own=True, offset=0),
    _drops("rescaled", "The weights stay as they are", scaled=True),
    _drops("smallest kept", "the *largest* weights", largest=False),
    _drops("in the order of weights", "of their numbers, not of their weights", ordered=False),
    _drops("numbers with the class token", "counts patches from 0", shift=1),
    _drops("one beside", "stands one behind its number", offset=0),
    _drops("class token counted", "the class token comes on top", count_class=True),
    _drops("class token lost", "The class token stays, too", without_class=True),
    _drops("mean of the batch", "keeps its own patches.", shared="mean"),
    _drops("first of the batch", "those of the first", shared="first"),
    _drops("dropped before the attention", "dropped after the attention", early=True),
    _drops("no first residual", "The first residual", first="none"),
    _drops("no attention", "the attention's output is missing", first="skipped"),
    _drops("no second residual", "The second residual", second=False),
    _drops("no second norm", "The second norm is missing", norm2=""),
    _drops("first norm twice", "The second norm is block.norm2", norm2="norm1"),
    _drops("no MLP", "The MLP is missing", mlp=False),
    _drops("nothing dropped", "All tokens are still there", drop=False),
    _loop("fault 1 left", "still in it: gradients are not set to zero, so they add up from step to step.", zero=False),
    _loop("fault 2 left", "still in it: cross_entropy is given probabilities, and takes logits.", probabilities=True),
    _loop("fault 3 left", "still in it: gradients are not clipped, or only after", clipped="after"),
    _loop("fault 4 left", "still in it: the rate of a step is set after it", late=True),
    _loop("faults 1 and 2 left", "from step to step; and this: cross_entropy", zero=False, probabilities=True),
    _loop("no decay", "here there is none", decay=0.0),
    _loop("decay of 0.01", "not 0.01", decay=0.01),
    _loop("AdamW of torch", "decays matrices alone", kind=torch.optim.AdamW),
    _loop("Adam", "not Adam:", kind=torch.optim.Adam),
    _loop("SGD", "not SGD", kind=torch.optim.SGD),
    _loop("one rate", "here all have the first one", constant=True),
    _loop("sum", "not the sum", reduction="sum"),
    _loop("loss after the step", "*before* the step", after=True),
    _loop("probabilities given", "Give logits, not probabilities", give="probabilities"),
    _loop("batches ignored", "here each is the first images", ignore=True),
    _loop("clipped to 1", "not to 1", at=1.0),
    _loop("another seed", "torch.manual_seed(0) right before", seed=1),
)

DIFFERENT: tuple[Different, ...] = (
    Different("hw3.mosaic", "rearrange", _mosaic),
    Different("hw3.mosaic", "loops", _by_loops),
    Different("hw3.mosaic", "fold", _by_fold),
    Different("hw3.mosaic", "view", _by_view),
    Different("hw3.mosaic", "pixels", _by_pixels),
    Different("hw3.position_products", "sums of cosines", _products),
    Different("hw3.position_products", "looked up", _looked_up),
    Different("hw3.position_products", "NumPy", _in_numpy),
    Different("hw3.position_products", "lists", _in_python),
    Different("hw3.pruned_block", "take_along_dim", _block),
    Different("hw3.pruned_block", "image by image", _image_by_image),
    Different("hw3.pruned_block", "a mask", _by_mask),
    Different("hw3.pruned_block", "the MLP before the drop", _mlp_before_the_drop),
    Different("hw3.pruned_block", "by heads", _by_heads),
    Different("hw3.mended_training", "the loop", _train),
    Different("hw3.mended_training", "a list of losses", _as_list),
    Different("hw3.mended_training", "a scheduler", _new_rate_by_scheduler),
    Different("hw3.mended_training", "clipped by hand", _clipped_by_hand),
    Different("hw3.mended_training", "sum over the batch", _sum_over_the_batch),
)
