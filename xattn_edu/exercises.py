"""Checks of the exercises inside the lessons: each says at once whether an answer is right, and if not, what it did.

A check calls the reader's function on several inputs, drawn so that wrong answers do not come out right by accident, and
compares it with a reference. It prints; it never stops the notebook, so a lesson runs to its end with exercises open.
"""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from xattn_edu import crossvit, lavt, numpy_attention, transformer, vit
from xattn_edu.attention import MultiHeadAttention, attention, causal_mask, merge_heads, split_heads
from xattn_edu.attention import attention_rollout as reference_rollout
from xattn_edu.costs import count, vit_macs
from xattn_edu.metrics import mean_interval

Answer = Callable[..., Any]


class Wrong(Exception):
    """The answer is wrong; the message says how it shows and what may have caused it."""


def _exercise(check: Callable[[Answer], str]) -> Callable[[Answer], None]:
    """Turn a check (which raises Wrong, or returns what was shown to be right) into one that prints its verdict."""

    @functools.wraps(check)
    def verdict(answer: Answer) -> None:
        name = getattr(answer, "__name__", "your answer")
        try:
            # The check's random weights leave the lesson's random numbers alone.
            with torch.random.fork_rng(devices=[]):
                print(f"✓ {name}: {check(answer)}")
        except NotImplementedError:
            print(f"○ {name} is waiting for your code.")
        except Wrong as wrong:
            print(f"✗ {name}: {wrong}")
        except Exception as error:  # noqa: BLE001 - what the reader's code raises is news for the reader
            print(f"✗ {name} stopped with {type(error).__name__}: {error}")

    return verdict


def _compare(given: Any, expected: Any, where: str, causes: dict[str, Any] | None = None) -> None:
    """Raise Wrong unless `given` is `expected`; `causes` maps an explanation to the result that mistake would give."""
    if given is None:
        raise Wrong("it returns None: is the return statement missing?")
    if isinstance(expected, (int, float)):
        given = given.item() if isinstance(given, Tensor | ndarray) and math.prod(given.shape) == 1 else given
        tolerance = 0 if isinstance(expected, int) else 1e-5
        if isinstance(given, Tensor | ndarray) or not np.isclose(given, expected, rtol=tolerance, atol=0):
            known = [cause for cause, result in (causes or {}).items() if np.isclose(given, result, tolerance, 0)]
            raise Wrong(f"{where}: expected {expected:,}, given {given}. " + (known[0] if known else ""))
        return
    kind = type(expected)
    if not isinstance(given, kind):
        raise Wrong(f"{where}: expected a {kind.__name__}, given a {type(given).__name__}")
    if tuple(given.shape) != tuple(expected.shape):
        raise Wrong(f"{where}: expected shape {tuple(expected.shape)}, given {tuple(given.shape)}")
    if str(expected.dtype).endswith("bool") and not str(given.dtype).endswith("bool"):
        raise Wrong(f"{where}: a mask is made of True and False, given {given.dtype}: compare instead of computing")
    if _close(given, expected):
        return
    known = [cause for cause, result in (causes or {}).items() if result is not None and _close(given, result)]
    raise Wrong(f"{where}: right shape, wrong numbers. " + (known[0] if known else ""))


def _close(given: Any, expected: Any) -> bool:
    given, expected = (np.asarray(a.detach() if isinstance(a, Tensor) else a) for a in (given, expected))
    return given.shape == expected.shape and np.allclose(given, expected, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------------------- 01 attention in NumPy


@_exercise
def stable_softmax(answer: Answer) -> str:
    """softmax(scores) over the last axis, for scores of any size."""
    draw = np.random.default_rng(1)
    for scores in (draw.normal(size=(3, 4)), draw.normal(size=5), draw.normal(size=(2, 3, 7)) * 5):
        exponentials = np.exp(scores)
        causes = {
            "Each row should add up to 1: did you sum over all axes?": exponentials / exponentials.sum(),
            "Each row should add up to 1: did you sum over the first axis, not the last?": exponentials
            / exponentials.sum(0),
            "Each row should add up to 1: divide by the row's sum.": exponentials,
            "The division by the row's sum is missing.": np.exp(scores - scores.max(-1, keepdims=True)),
            "Divide by the sum of the row, not by its mean.": exponentials / exponentials.mean(-1, keepdims=True),
        }
        _compare(answer(scores.copy()), numpy_attention.softmax(scores), f"scores of shape {scores.shape}", causes)
    for size in (1e3, 1e5, -1e5):
        scores = draw.normal(size=(4, 6)) + size
        with np.errstate(all="ignore"):
            given = answer(scores.copy())
        if given is not None and not np.isfinite(given).all():
            raise Wrong(f"scores around {size:g} give {given.ravel()[0]}: take out the largest score before exp")
        _compare(given, numpy_attention.softmax(scores), f"scores around {size:g}")
    apart = np.array([[0.0, 1000.0], [2000.0, 0.0]])
    with np.errstate(all="ignore"):
        given = answer(apart.copy())
    if given is not None and not np.isfinite(given).all() or np.shape(given) == (2, 2) and (given[0] == 0).all():
        raise Wrong("rows whose largest scores are far apart: subtract from each row its own largest score")
    _compare(given, numpy_attention.softmax(apart), "rows whose largest scores are far apart")
    return "right, for scores of any size and any number of axes"


@_exercise
def window_mask(answer: Answer) -> str:
    """window_mask(length, reach): query i may look at the keys i - reach .. i."""
    for length, reach in ((5, 1), (6, 2), (4, 0), (1, 3), (7, 9)):
        i, j = np.arange(length)[:, None], np.arange(length)[None, :]
        expected = (j <= i) & (j >= i - reach)
        causes = {
            "It is upside down: True is where a key counts.": ~expected,
            "It looks into the future: rows are queries, columns are keys.": expected.T,
            "It looks both ways.": abs(i - j) <= reach,
            "It never forgets: keys before i - reach should be out.": j <= i,
            "The window is one too narrow: i - reach itself is in.": (j <= i) & (j > i - reach),
            "A query sees itself, too.": (j < i) & (j >= i - reach),
        }
        _compare(answer(length, reach), expected, f"length {length}, reach {reach}", causes)
    return "right: each query sees itself and the `reach` keys before it"


@_exercise
def grad_key(answer: Answer) -> str:
    """grad_key(grad_output, query, key, value): the gradient of attention's output with respect to the keys."""
    draw = np.random.default_rng(2).normal
    for n, m, d, c in ((4, 4, 4, 3), (3, 4, 5, 2), (1, 6, 2, 3)):
        query, key, value, grad_output = draw(size=(n, d)), draw(size=(m, d)), draw(size=(m, c)), draw(size=(n, c))
        weights = numpy_attention.attention(query, key, value)[1]
        expected = numpy_attention.attention_backward(grad_output, query, key, value, weights)[1]
        grad_weights = grad_output @ value.T
        no_jacobian = grad_weights.T @ query / np.sqrt(d)
        no_average = (weights * grad_weights).T @ query / np.sqrt(d)
        average = (weights * grad_weights).sum(-1, keepdims=True)
        grad_scores = weights * (grad_weights - average) / np.sqrt(d)
        causes = {
            "In softmax's backward pass the average over the row must be subtracted.": no_average,
            "This sums over keys; a key's gradient sums over queries: transpose.": grad_scores @ query
            if n == m
            else None,
            "Each score is q . k: its derivative with respect to k is q, not k.": grad_scores.T @ key
            if n == m
            else None,
            "The 1/sqrt(d) is missing.": expected * np.sqrt(d),
            "The 1/sqrt(d) is there twice.": expected / np.sqrt(d),
            "The gradient has not been sent back through softmax.": no_jacobian,
        }
        arguments = (array.copy() for array in (grad_output, query, key, value))
        _compare(answer(*arguments), expected, f"{n} queries, {m} keys, width {d}", causes)
    return "right, equal to the library's hand-derived gradient"


# ------------------------------------------------------------------------------- 02 self-attention in PyTorch


@_exercise
def heads_apart(answer: Answer) -> str:
    """(batch, token, width) -> (batch, head, token, width / heads)."""
    for batch, token, width, heads in ((2, 3, 8, 2), (1, 5, 6, 3), (3, 4, 4, 1), (2, 4, 16, 4)):
        tokens = torch.randn(batch, token, width, generator=torch.Generator().manual_seed(token))
        causes = {
            "view alone cuts across tokens: separate the head axis from the channels, then move it.": tokens.reshape(
                batch, heads, token, width // heads
            ),
            "Each head got every heads-th channel: heads are consecutive blocks of channels.": tokens.view(
                batch, token, width // heads, heads
            ).permute(0, 3, 1, 2),
        }
        where = f"batch {batch}, {token} tokens, width {width}, {heads} heads"
        _compare(answer(tokens.clone(), heads), split_heads(tokens, heads), where, causes)
    return "right: every head sees every token, and its own block of channels"


@_exercise
def attention_parameters(answer: Answer) -> str:
    """attention_parameters(width, heads, context_width): weights and biases of one multi-head attention."""
    for width, heads, context_width in ((8, 2, 8), (12, 3, 20), (64, 8, 64), (64, 1, 32)):
        expected = sum(p.numel() for p in MultiHeadAttention(width, heads, context_width).parameters())
        causes = {
            "Each of the four linear layers has a bias too.": expected - 4 * width,
            "Keys and values are projected from the context, which is context_width wide.": 4 * width**2 + 4 * width,
            "The output projection is missing.": expected - width**2 - width,
            "Values, too, are projected from the context.": expected - (context_width - width) * width,
            "A bias is as wide as the layer's output.": expected + 2 * (context_width - width),
            "Heads divide the width among them: more heads are not more parameters.": expected * heads,
        }
        where = f"width {width}, {heads} heads, context {context_width} wide"
        _compare(answer(width, heads, context_width), expected, where, causes)
    return "right, and the number of heads makes no difference"


@_exercise
def cross_attention(answer: Answer) -> str:
    """cross_attention(layer, tokens, context): the layer's output with keys and values from the context."""
    generator = torch.Generator().manual_seed(3)
    for batch, n, m, width, heads in ((1, 4, 4, 8, 4), (2, 3, 5, 8, 2), (2, 1, 6, 4, 1)):
        torch.manual_seed(4)
        layer = MultiHeadAttention(width, heads).double()
        tokens = torch.randn(batch, n, width, generator=generator, dtype=torch.double)
        context = torch.randn(batch, m, width, generator=generator, dtype=torch.double)
        merged: list[Tensor] = []
        hook = layer.output.register_forward_pre_hook(lambda _, inputs, kept=merged: kept.append(inputs[0]))
        expected = layer(tokens, context)
        hook.remove()
        one_head = copy.copy(layer)
        one_head.heads = 1
        unscaled, by_width = copy.deepcopy(layer), copy.deepcopy(layer)
        for parameter in unscaled.query.parameters():
            parameter.data *= (width // heads) ** 0.5
        for parameter in by_width.query.parameters():
            parameter.data /= heads**0.5
        causes = {
            "The division by sqrt(d) is missing.": unscaled(tokens, context),
            "d is the width of a head, not of the layer.": by_width(tokens, context),
            "This is self-attention: nothing came from the context.": layer(tokens),
            "Roles are swapped: the tokens ask, the context answers.": layer(context, tokens),
            "The output projection is missing.": merged[0],
            "The heads were not kept apart.": one_head(tokens, context),
        }
        if n == m:
            split = functools.partial(split_heads, heads=heads)
            for cause, keys, values in (
                ("The values came from the tokens.", context, tokens),
                ("The keys came from the tokens.", tokens, context),
            ):
                mixed, _ = attention(split(layer.query(tokens)), split(layer.key(keys)), split(layer.value(values)))
                causes[cause] = layer.output(merge_heads(mixed))
        where = f"{n} queries, {m} keys, {heads} heads"
        _compare(answer(layer, tokens.clone(), context.clone()), expected, where, causes)
    return "right, equal to the library's layer"


# ------------------------------------------------------------------------------------- 03 encoder and decoder


@_exercise
def decoder_layer(answer: Answer) -> str:
    """decoder_layer(tokens, memory, memory_mask, layer): a post-norm decoder layer from the parts of `layer`."""
    for batch, target, source, width, heads in ((2, 4, 4, 8, 2), (1, 3, 5, 8, 4), (3, 1, 2, 4, 1)):
        torch.manual_seed(6)
        layer = transformer.DecoderLayer(width, heads, 2 * width, dropout=0.0).double().eval()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
        tokens, memory = (torch.randn(batch, n, width, dtype=torch.double) for n in (target, source))
        counts = torch.ones(batch, 1, source, dtype=torch.bool)
        counts[0, :, -1] = False

        norms: list[Any] = [layer.residual1.norm, layer.residual2.norm, layer.residual3.norm]
        itself = functools.partial(layer.attention, mask=causal_mask(target))
        across = functools.partial(layer.cross_attention, context=memory, mask=counts)
        feed: Any = layer.feed_forward
        unmasked = functools.partial(layer.cross_attention, context=memory)
        traded = functools.partial(layer.cross_attention, mask=causal_mask(target))
        traded_too = functools.partial(layer.attention, context=memory, mask=counts)
        pre, bare = tokens, tokens
        right: list[Any] = [itself, across, feed]
        for norm, step in zip(norms, right):
            pre, bare = pre + step(norm(pre)), norm(step(bare))
        causes = {
            "The self-attention may look ahead: it needs a causal mask.": (norms, (layer.attention, across, feed)),
            "Padding of the memory is looked at: hand on memory_mask.": (norms, (itself, unmasked, feed)),
            "First it attends to itself, then to the memory.": (norms, (across, itself, feed)),
            "The attentions are exchanged: .cross_attention is for the memory.": (norms, (traded, traded_too, feed)),
            "The cross-attention got no context: this is self-attention.": (
                norms,
                (itself, layer.cross_attention, feed),
            ),
            "The cross-attention is missing.": (norms[::2], (itself, feed)),
            "The feed-forward network is missing.": (norms, (itself, across)),
            "Each part has its own norm, in order.": ([norms[0]] * 3, (itself, across, feed)),
        }
        results = {cause: _post_norm(tokens, *parts) for cause, parts in causes.items()}
        results |= {
            "This is pre-norm: post-norm is norm(tokens + f(tokens)).": pre,
            "The residuals are missing: norm(tokens + f(tokens)).": bare,
        }
        where = f"{target} target tokens, {source} source tokens, {heads} heads"
        expected = _post_norm(tokens, norms, right)
        _compare(answer(tokens.clone(), memory.clone(), counts.clone(), layer), expected, where, results)
    return "right: queries from the answer, keys and values from the memory"


def _post_norm(tokens: Tensor, norms: Sequence[Any], steps: Sequence[Any]) -> Tensor:
    for norm, step in zip(norms, steps):
        tokens = norm(tokens + step(tokens))
    return tokens


@_exercise
def three_masks(answer: Answer) -> str:
    """three_masks(source, target): masks of the encoder, the decoder's self-attention, and cross-attention."""
    for lengths, width, target_length in (((3, 5), 6, 4), ((4,), 4, 4), ((1, 2, 4), 4, 3)):
        source = torch.zeros(len(lengths), width, dtype=torch.int64)
        for row, length in enumerate(lengths):
            source[row, :length] = torch.arange(3, 3 + length)
        target = torch.arange(3, 3 + target_length).repeat(len(lengths), 1)
        given = answer(source.clone(), target.clone())
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise Wrong(f"three masks are asked for, given {'nothing' if given is None else type(given).__name__}")
        padding, causal = (source != 0)[:, None, :], causal_mask(target_length)
        no_future = "The source has no future to hide: it is all there."
        for name, mask, expected, queries, causes in (
            ("the encoder's mask", given[0], padding, width, {no_future: padding & causal_mask(width)}),
            (
                "the decoder's own mask",
                given[1],
                causal,
                target_length,
                {
                    "It looks ahead, not back.": causal.mT,
                    "A token may look at itself, too.": causal & ~causal.mT,
                },
            ),
            (
                "the mask of cross-attention",
                given[2],
                padding,
                target_length,
                {no_future: padding & causal_mask(width)[:, :target_length]},
            ),
        ):
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                raise Wrong(f"{name}: a mask is a tensor of True and False, given {getattr(mask, 'dtype', type(mask))}")
            full = (len(lengths), queries, expected.shape[-1])
            if mask.ndim != 3 or any(size not in (1, most) for size, most in zip(mask.shape, full)):
                raise Wrong(
                    f"{name} has shape {tuple(mask.shape)}, which does not fit (batch, query, key) = {full}. It needs "
                    "three axes, of size 1 where it is the same for all: write mask[:, None, :]"
                )
            shared = {
                "It is upside down: True is where a query may look.": ~expected,
                "Nothing is hidden.": torch.ones_like(expected),
            }
            known = {cause: result.expand(full) for cause, result in (causes | shared).items()}
            where = f"{name}, sentences of {', '.join(map(str, lengths))} tokens"
            _compare(mask.expand(full), expected.expand(full), where, known)
    return "right: padding is hidden from both readers of the source, the future from the writer"


@_exercise
def cache_numbers(answer: Answer) -> str:
    """cache_numbers(depth, width, source, target): numbers that the key-value cache of a decoder holds."""
    for depth, width, source, target in ((6, 512, 1000, 1000), (2, 64, 20, 11), (1, 8, 3, 5)):
        expected = depth * 2 * width * (source + target)
        causes = {
            "For each token a key and a value.": expected // 2,
            "Every layer has its own.": expected // depth if depth > 1 else None,
            "The keys and values of the source are kept, too.": depth * 2 * width * target,
            "The keys and values of the answer are kept, too.": depth * 2 * width * source,
            "This counts bytes; asked for are numbers.": 4 * expected,
            "The cache holds no query.": expected // 2 * 3,
            "It grows with the sum of the lengths, not with their product: weights are not kept.": depth
            * 2
            * width
            * source
            * target,
        }
        causes = {cause: number for cause, number in causes.items() if number is not None}
        where = f"{depth} layers of width {width}, {source} and {target} tokens"
        _compare(answer(depth, width, source, target), expected, where, causes)
    return "right, and heads make no difference: they share the width"


# -------------------------------------------------------------------------------------------- 04 other attentions


@_exercise
def channel_gate(answer: Answer) -> str:
    """channel_gate(tokens, w1, w2): squeeze-and-excitation's gate, one number in 0..1 for each image and channel."""
    for batch, token, width, hidden in ((2, 5, 5, 2), (1, 4, 8, 2), (3, 6, 4, 4)):
        generator = torch.Generator().manual_seed(token)
        tokens = torch.randn(batch, token, width, generator=generator)
        w1, w2 = (torch.randn(*shape, generator=generator) for shape in ((width, hidden), (hidden, width)))
        mean = tokens.mean(dim=1)
        expected = ((mean @ w1).relu() @ w2).sigmoid()[:, None, :]
        causes = {
            "The sigmoid is missing.": ((mean @ w1).relu() @ w2)[:, None, :],
            "The ReLU is missing.": (mean @ w1 @ w2).sigmoid()[:, None, :],
            "The ReLU stands between the two layers, not behind them.": (mean @ w1 @ w2).relu().sigmoid()[:, None, :],
            "A gate is between 0 and 1, one by one: sigmoid, not softmax.": ((mean @ w1).relu() @ w2).softmax(dim=-1)[
                :, None, :
            ],
            "The squeeze is a mean over the tokens, not their sum.": ((tokens.sum(1) @ w1).relu() @ w2).sigmoid()[
                :, None, :
            ],
            "The squeeze is the mean, not the largest value.": ((tokens.amax(1) @ w1).relu() @ w2).sigmoid()[
                :, None, :
            ],
        }
        given = answer(tokens.clone(), w1.clone(), w2.clone())
        if isinstance(given, Tensor) and tuple(given.shape) == tuple(tokens.shape):
            raise Wrong(
                f"it has the tokens' shape {tuple(given.shape)}: first pool over the tokens; the gate itself is asked for"
            )
        if isinstance(given, Tensor) and given.shape == mean.shape:
            raise Wrong(
                f"shape {tuple(given.shape)}: keep the pooled axis, (batch, 1, width), so that the gate multiplies the "
                "tokens (keepdim=True)"
            )
        _compare(given, expected, f"{batch} images, {token} tokens, width {width}", causes)
    return "right: one gate for each channel, the same at every place"


@_exercise
def token_mixing(answer: Answer) -> str:
    """token_mixing(tokens, mlp): the MLP along the tokens, each channel by itself."""
    for batch, token, width in ((1, 6, 3), (2, 4, 4), (3, 5, 8)):
        torch.manual_seed(7)
        mlp = vit.MLP(token, 2 * token).double()
        tokens = torch.randn(batch, token, width, dtype=torch.double)
        mixed = mlp(tokens.transpose(1, 2))
        causes = {
            "Turn it back: the output is (batch, token, width).": mixed if token == width else None,
            "This mixes channels: the MLP works on the last axis, so the tokens must stand there.": mlp(tokens)
            if token == width
            else None,
            "reshape does not turn axes, it cuts across tokens.": mlp(tokens.reshape(batch, width, token)).reshape(
                tokens.shape
            ),
            "Turned there with transpose and back with reshape: transpose both times.": mixed.reshape(tokens.shape),
            "The residual belongs to the block, not to the mixing.": tokens + mixed.transpose(1, 2),
        }
        where = f"{batch} images, {token} tokens, width {width}"
        _compare(answer(tokens.clone(), mlp), mixed.transpose(1, 2), where, causes)
    return "right: one MLP along the tokens for all channels"


@_exercise
def product_macs(answer: Answer) -> str:
    """product_macs(queries, keys, width): multiply-accumulates of the two products of attention."""
    for queries, keys, width in ((1, 197, 384), (49, 49, 64), (900, 20, 128)):
        expected = 2 * queries * keys * width
        causes = {
            "There are two products: q k^T and A v.": expected // 2,
            "A multiply-add counts once, as in the papers.": 2 * expected,
            "Each query meets each key: queries x keys, not one of them squared.": 2 * queries**2 * width,
            "Each query meets each key: their numbers are multiplied, not added.": 2 * (queries + keys) * width,
            "Every score is a dot product over the channels.": 2 * queries * keys,
            "The projections are not asked for.": expected + 2 * (queries + keys) * width**2,
        }
        causes |= {"Each query meets each key: queries x keys, not keys squared.": 2 * keys**2 * width}
        _compare(answer(queries, keys, width), expected, f"{queries} queries, {keys} keys, width {width}", causes)
    return "right: linear in the keys for one query, quadratic in self-attention"


# ---------------------------------------------------------------------------------------- 05 patches and ViT


@_exercise
def cut_patches(answer: Answer) -> str:
    """cut_patches(images, patch): (batch, channel, height, width) -> (batch, patches, channel * patch * patch)."""
    for batch, channel, height, width, patch in ((2, 3, 4, 6, 2), (1, 1, 6, 6, 3), (2, 2, 8, 4, 4), (1, 3, 4, 4, 1)):
        images = torch.arange(batch * channel * height * width).view(batch, channel, height, width).float()
        expected = vit.patchify(images, patch)
        causes = {
            "reshape alone runs along image rows, across patches.": images.reshape(expected.shape),
            "Patches go down the columns: token 1 should stand right of token 0.": vit.patchify(
                images.transpose(2, 3), patch
            ),
            "Inside a patch the channels come first: channel, row, column.": expected.view(
                *expected.shape[:2], channel, patch * patch
            )
            .transpose(2, 3)
            .reshape(expected.shape),
        }
        tall = images.transpose(2, 3)
        six = images.reshape(batch, channel, patch, height // patch, patch, width // patch)
        causes |= {
            "Inside a patch the rows come before the columns.": expected.view(-1, channel, patch, patch)
            .transpose(2, 3)
            .reshape(expected.shape),
            "Patches go down the columns, and inside a patch too.": vit.patchify(tall, patch)
            .view(-1, channel, patch, patch)
            .transpose(2, 3)
            .reshape(expected.shape),
            "Each axis splits into (which patch, which row inside), in this order.": six.permute(
                0, 3, 5, 1, 2, 4
            ).reshape(expected.shape),
        }
        where = f"images of {channel}x{height}x{width}, patch {patch}"
        _compare(answer(images.clone(), patch), expected, where, causes)
    return "right, also for images that are not square"


@_exercise
def pre_norm_block(answer: Answer) -> str:
    """pre_norm_block(tokens, block): equations (2) and (3) with block.norm1, .attention, .norm2, .mlp."""
    for batch, token, width, heads in ((2, 5, 8, 2), (1, 1, 4, 1), (3, 2, 12, 3)):
        torch.manual_seed(5)
        block = vit.Block(width, heads).double().eval()
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.5)
        tokens = torch.randn(batch, token, width, dtype=torch.double)
        mixed = tokens + block.attention(block.norm1(tokens))
        post = block.norm1(tokens + block.attention(tokens))
        normed = block.norm1(tokens)
        causes = {
            "The residual adds what was there before the norm: z, not LN(z).": _then_mlp(
                block, normed + block.attention(normed)
            ),
            "The second norm is block.norm2.": mixed + block.mlp(block.norm1(mixed)),
            "The second residual adds z', not z.": tokens + block.mlp(block.norm2(mixed)),
            "The first residual is missing: z' = z + ...": _then_mlp(block, block.attention(block.norm1(tokens))),
            "The second residual is missing: z'' = z' + ...": block.mlp(block.norm2(mixed)),
            "No norm before the attention.": _then_mlp(block, tokens + block.attention(tokens)),
            "No norm before the MLP.": mixed + block.mlp(mixed),
            "The MLP should start from z', not from z.": mixed + block.mlp(block.norm2(tokens)),
            "This is post-norm, as in the first Transformer: here the norm stands inside the branch.": block.norm2(
                post + block.mlp(post)
            ),
        }
        _compare(answer(tokens.clone(), block), block(tokens)[0], f"{token} tokens, width {width}", causes)
    return "right, equal to the library's block"


def _then_mlp(block: vit.Block, tokens: Tensor) -> Tensor:
    return tokens + block.mlp(block.norm2(tokens))


@_exercise
def vit_parameters(answer: Answer) -> str:
    """vit_parameters(image_size, patch, width, depth, classes): every parameter of a ViT with MLP ratio 4."""
    for image_size, patch, width, depth, classes in ((28, 7, 16, 3, 10), (32, 8, 24, 2, 5), (28, 4, 64, 1, 7)):
        model = vit.ViT(image_size, patch, width, depth, heads=1, classes=classes)
        expected = sum(p.numel() for p in model.parameters())
        causes = {
            "One vector as wide as the model is missing: the patch embedding's bias, the class token, or its position?": (
                expected - width
            ),
            "Two vectors as wide as the model are missing: the last norm, or the class token and its position?": (
                expected - 2 * width
            ),
            "Position embeddings are missing.": expected - model.positions.numel(),
            "In each block 4 vectors are missing: attention's four biases, or the two norms?": expected
            - depth * 4 * width,
            "A norm has a weight and a bias: half of them are missing.": expected - (depth * 2 + 1) * width,
            "The MLP's two layers have biases: one 4 widths wide, one 1 wide.": expected - depth * 5 * width,
            "The head has a bias.": expected - classes,
        }
        where = f"image {image_size}, patch {patch}, width {width}, depth {depth}, {classes} classes"
        _compare(answer(image_size, patch, width, depth, classes), expected, where, causes)
    return "right to the last parameter"


# ---------------------------------------------------------------------------------------- 06 training a ViT


@_exercise
def quadratic_share(answer: Answer) -> str:
    """quadratic_share(image_size, patch, width): share of a block's MACs that grows with the square of the tokens."""
    for image_size, patch, width in ((224, 16, 768), (224, 32, 768), (28, 4, 64), (1024, 16, 384)):
        blocks_only = vit_macs(image_size, patch, width, depth=1, classes=0, channels=0)
        expected = blocks_only[1] / sum(blocks_only)
        tokens, patches = (image_size // patch) ** 2 + 1, (image_size // patch) ** 2
        causes = {
            "A share lies between 0 and 1, this is in percent.": 100 * expected,
            "There are two products: q k^T and A v.": tokens / (tokens + 12 * width),
            "The class token is a token too.": patches / (patches + 6 * width),
            "A share is a part of the whole: divide by linear plus quadratic.": tokens / (6 * width),
            "The MLP (8 d^2 a token) belongs to the whole.": tokens / (tokens + 2 * width),
        }
        _compare(
            answer(image_size, patch, width), expected, f"image {image_size}, patch {patch}, width {width}", causes
        )
    return "right"


@_exercise
def rollout(answer: Answer) -> str:
    """rollout(weights): a list of (batch, head, token, token) to (batch, token, token)."""
    for layers, batch, heads, token in ((1, 1, 1, 3), (3, 2, 2, 5), (4, 1, 3, 4)):
        generator = torch.Generator().manual_seed(layers)
        weights = [torch.randn(batch, heads, token, token, generator=generator).softmax(-1) for _ in range(layers)]
        expected, eye = reference_rollout(weights), torch.eye(token)
        plain = functools.reduce(lambda flow, layer: layer.mean(1) @ flow, weights, eye.expand(batch, -1, -1))
        summed = functools.reduce(lambda flow, layer: (layer.mean(1) + eye) @ flow, weights, eye.expand(batch, -1, -1))
        causes = {
            "The residual connection is missing: half of a layer's output is the token itself.": plain,
            "Rows should sum to one: take half of each of attention and identity.": summed,
            "The layers are in the wrong order: a later layer stands on the left.": reference_rollout(weights[::-1]),
        }
        _compare(
            answer([layer.clone() for layer in weights]),
            expected,
            f"{layers} layers, {heads} heads, {token} tokens",
            causes,
        )
    return "right, equal to the library's"


# ---------------------------------------------------------------------------------------- 07 CrossViT, two scales


@_exercise
def class_token_attention(answer: Answer) -> str:
    """class_token_attention(class_token, patches, layer): equations (5) to (7) with the parts of `layer`."""
    for batch, width, other_width, heads, count_of_patches in ((2, 6, 8, 2, 5), (1, 8, 4, 4, 1), (3, 8, 8, 2, 4)):
        torch.manual_seed(8)
        layer = crossvit.ClassTokenAttention(width, other_width, heads).double().eval()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
        class_token = torch.randn(batch, 1, width, dtype=torch.double)
        patches = torch.randn(batch, count_of_patches, other_width, dtype=torch.double)
        attention: Any = layer.attentions[0]
        f, norm, g = layer.project, layer.norms[0], layer.back
        asking = f(class_token)
        context = torch.cat([asking, patches], dim=1)
        normed = norm(context)
        query = normed[:, :1]
        attended = attention(query, normed)
        causes = {
            "The query, too, is normalised: it is the first token of LN(x').": g(asking + attention(asking, normed)),
            "Keys and values are normalised: the context is LN(x').": g(asking + attention(query, context)),
            "The LayerNorm before the attention is missing.": g(asking + attention(asking, context)),
            "The asking token is a key, too: x' = [f(x_cls) || patches].": g(asking + attention(query, norm(patches))),
            "The residual adds f(x_cls) itself, not its LayerNorm.": g(query + attended),
            "The residual is missing: y = f(x_cls) + ...": g(attended),
            "The result replaces the class token: nothing is added to it.": class_token + g(asking + attended),
            "d is the width of a head, C/h, not of the layer.": g(
                asking + _with(attention, query=heads**-0.5)(query, normed)
            ),
            "The division by sqrt(C/h) is missing.": g(
                asking + _with(attention, query=(other_width / heads) ** 0.5)(query, normed)
            ),
            "The heads were not kept apart.": g(asking + _one_head(attention)(query, normed)),
        }
        if width == other_width:
            causes["The way back, g, is missing."] = asking + attended
            bare = norm(torch.cat([class_token, patches], dim=1))
            causes["The class token goes through f first."] = g(class_token + attention(bare[:, :1], bare))
        where = f"class token {width} wide, {count_of_patches} patches {other_width} wide, {heads} heads"
        expected, _ = layer(class_token, patches)
        _compare(answer(class_token.clone(), patches.clone(), layer), expected, where, causes)
    return "right, equal to the library's, whichever branch is wider"


@_exercise
def fusion_macs(answer: Answer) -> str:
    """fusion_macs(widths, patches): multiply-accumulates of one cross-attention fusion, both directions."""
    for widths, grids in (
        ((192, 384), ((20, 20), (14, 14))),
        ((8, 12), ((3, 3), (2, 2))),
        ((16, 16), ((5, 5), (1, 1))),
    ):
        fusion = crossvit.CrossAttention(crossvit.Scales(widths, (2, 2), grids), folded=False)
        patches = tuple(rows * columns for rows, columns in grids)
        tokens = [torch.zeros(1, 1 + number, width) for number, width in zip(patches, widths)]
        expected = count(fusion, *tokens).macs
        sides = list(zip(widths, patches))
        causes = {
            "The asking class token is a key, too: 1 + patches of them.": expected
            - sum(2 * width**2 + 2 * width for width, _ in sides),
            "f and g of both directions are missing.": expected - 4 * widths[0] * widths[1],
            "f and g stand in both directions.": expected - 2 * widths[0] * widths[1],
            "The query and the output have their projections, too.": expected - sum(2 * width**2 for width in widths),
            "The query has its projection, too (or the output).": expected - sum(width**2 for width in widths),
            "There are two products: q k^T and A v.": expected - sum((1 + n) * width for width, n in sides),
            "Both are projected: keys and values.": expected - sum((1 + n) * width**2 for width, n in sides),
            "Only the class token asks: one query, not one for each token.": expected
            + sum(2 * n * width**2 + 2 * (1 + n) * n * width for width, n in sides),
            "A multiply-add counts once, as in the papers.": 2 * expected,
        }
        for asks, (width, n) in zip("LS", sides):
            alone = 2 * widths[0] * widths[1] + 2 * (2 + n) * width**2 + 2 * (1 + n) * width
            causes[f"A fusion has two directions: this is the one in which {asks} asks."] = alone
        _compare(answer(widths, patches), expected, f"widths {widths}, patches {patches}", causes)
    return "right: linear in the patches of both branches"


@_exercise
def folded_attention(answer: Answer) -> str:
    """folded_attention(layer, tokens, context): cross-attention that forms no key and no value."""
    for batch, n, m, width, heads in ((2, 1, 40, 8, 2), (1, 2, 60, 16, 2), (2, 1, 50, 8, 1)):
        torch.manual_seed(9)
        layer = MultiHeadAttention(width, heads).double()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.4)
        tokens, context = (torch.randn(batch, number, width, dtype=torch.double) for number in (n, m))
        where = f"{n} quer{'y' if n == 1 else 'ies'}, {m} keys, {heads} heads"
        changes: dict[str, MultiHeadAttention] = {
            "The division by sqrt(C/h) is missing.": _with(layer, query=(width / heads) ** 0.5),
            "d is the width of a head, C/h, not of the layer.": _with(layer, query=heads**-0.5),
            "Each head has its own folded query: the heads were not kept apart.": _one_head(layer),
            "The values' bias is missing: it comes back after the sum.": _with(layer, value_bias=0),
            "The query has a bias, too.": _with(layer, query_bias=0),
            "W_k is turned: layer.key.weight has a row for each channel of the keys.": _with(layer, turn="key"),
            "W_v is turned: layer.value.weight has a row for each channel of the values.": _with(layer, turn="value"),
        }
        causes = {cause: changed(tokens, context) for cause, changed in changes.items()}
        bare = copy.deepcopy(layer)
        bare.output = nn.Identity()  # type: ignore[assignment]
        causes["The output projection is missing."] = bare(tokens, context)
        with FlopCounterMode(display=False) as counter:
            given = answer(layer, tokens.clone(), context.clone())
        _compare(given, layer(tokens, context), where, causes)
        spent, one_projection = counter.get_total_flops() // 2, batch * m * width**2
        if spent >= one_projection:
            raise Wrong(
                f"{where}: the right numbers, but not folded: {spent:,} MACs, and already forming the keys "
                f"(or the values) takes {one_projection:,}"
            )
    return "right, and no key and no value was formed"


def _with(
    layer: MultiHeadAttention, query: float = 1, query_bias: float = 1, value_bias: float = 1, turn: str = ""
) -> MultiHeadAttention:
    """A copy whose query is scaled, or whose biases are, or with one weight matrix transposed."""
    changed = copy.deepcopy(layer)
    with torch.no_grad():
        changed.query.weight.mul_(query)
        changed.query.bias.mul_(query * query_bias)
        changed.value.bias.mul_(value_bias)
        if turn:
            weight = getattr(changed, turn).weight
            weight.copy_(weight.T.clone())
    return changed


def _one_head(layer: MultiHeadAttention) -> MultiHeadAttention:
    one = copy.copy(layer)
    one.heads = 1
    return one


# ------------------------------------------------------------------------------------------------ 08 four fusions


@_exercise
def class_token_fusion(answer: Answer) -> str:
    """class_token_fusion(small, large, f_s, g_s): the tokens of both branches, class tokens summed (equation 3)."""
    for batch, patches, widths in ((2, (5, 3), (4, 6)), (1, (1, 4), (8, 2)), (3, (4, 4), (3, 3))):
        torch.manual_seed(10)
        f_s, g_s = (nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in (widths, widths[::-1]))
        small, large = (torch.randn(batch, 1 + n, width) for n, width in zip(patches, widths))
        both = large[:, :1] + f_s(small[:, :1])
        as_first = crossvit.with_class_token
        expected = as_first(g_s(both), small), as_first(both, large)
        causes = [
            ("L's class token stays what it was: it, too, becomes the sum.", (expected[0], large)),
            ("S's class token stays what it was: it becomes g_s of the sum.", (small, expected[1])),
            ("What comes back to S is g_s of the sum, not of L's class token.", (as_first(g_s(large[:, :1]), small), expected[1])),
            ("g_s of the sum replaces S's class token: nothing is added.", (as_first(small[:, :1] + g_s(both), small), expected[1])),
            ("The patches are there twice: put the new class token in the place of the old.", None),
            ("They come in the order small, large.", expected[::-1]),
        ]  # fmt: skip
        given = answer(small.clone(), large.clone(), f_s, g_s)
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise Wrong(f"return the tokens of both branches, small and large, given a {type(given).__name__}")
        where = f"{patches[0]} and {patches[1]} patches"
        for cause, result in causes:
            if result is not None and all(_close(a, b) for a, b in zip(given, result)):
                raise Wrong(f"{where}: {cause}")
        for name, tokens, right in zip(("small", "large"), given, expected):
            doubled = getattr(tokens, "ndim", 0) == 3 and tokens.shape[1] == right.shape[1] + 1
            if doubled:
                raise Wrong(f"{where}: {causes[4][0]}")
            _compare(tokens, right, f"{where}, tokens of {name}")
    return "right: one sum, the class token of both"


@_exercise
def pairwise_sum(answer: Answer) -> str:
    """pairwise_sum(small, large, small_grid, large_grid): S's patches, resized to L's grid, added to L's (equation 4)."""
    for batch, small_grid, large_grid, width in (
        (2, (4, 6), (2, 3), 5),
        (1, (6, 4), (3, 5), 2),
        (3, (3, 3), (2, 2), 9),
    ):
        torch.manual_seed(11)
        small, large = (torch.randn(batch, rows * columns, width) for rows, columns in (small_grid, large_grid))

        def resized(image: Tensor, size: tuple[int, int] = large_grid, **how: Any) -> Tensor:
            return nn.functional.interpolate(image, size, **({"mode": "bilinear"} | how)).flatten(2).transpose(1, 2)

        image = small.transpose(1, 2).unflatten(2, small_grid)
        causes = {
            "The channels were cut up: move them before the patches, then unflatten the patches.": large
            + resized(small.reshape(batch, width, *small_grid)),
            "Rows and columns are exchanged: a grid is (rows, columns), and patches go row by row.": large
            + resized(small.transpose(1, 2).unflatten(2, small_grid[::-1])),
            "Bilinear, not nearest.": large + resized(image, mode="nearest"),
            "align_corners=False: a patch is an area, not a point.": large + resized(image, align_corners=True),
            "L's patches are missing in the sum.": resized(image),
        }
        where = f"grids {small_grid} and {large_grid}, width {width}"
        _compare(answer(small.clone(), large.clone(), small_grid, large_grid), large + resized(image), where, causes)
    return "right: each patch of L meets the patches of S at its own place"


# ------------------------------------------------------------------------------------------------ 09 what it costs


@functools.cache
def _counted_crossvit(
    image_sizes: tuple[int, int],
    patches: tuple[int, int],
    widths: tuple[int, int],
    depths: tuple[int, int],
    mlp_ratio: int,
    encoders: int,
    classes: int,
) -> int:
    """Multiply-accumulates of such a CrossViT for one image, keys and values formed, as the paper counts."""
    sizes: dict[str, Any] = {"mlp_ratio": mlp_ratio, "encoders": encoders, "classes": classes}
    with torch.device("meta"):
        model = crossvit.CrossViT(image_sizes, patches, widths, depths, (2, 2), folded=False, **sizes)
        return count(model, torch.empty(1, 3, image_sizes[0], image_sizes[0])).macs


@_exercise
def crossvit_macs(answer: Answer) -> str:
    """crossvit_macs(widths, patches, patch_sizes, depths, mlp_ratio, encoders, classes): MACs of a whole CrossViT."""
    expected = 0
    for images, patch_sizes, widths, depths, ratio, encoders, classes in (
        ((24, 32), (4, 8), (8, 12), (1, 2), 3, 2, 7),
        ((30, 24), (3, 6), (16, 10), (2, 3), 4, 3, 10),
        ((240, 224), (12, 16), (192, 384), (1, 4), 4, 3, 1000),
    ):
        expected = _counted_crossvit(images, patch_sizes, widths, depths, ratio, encoders, classes)
        patches = tuple((image // patch) ** 2 for image, patch in zip(images, patch_sizes))
        branches = list(zip(widths, patches, patch_sizes, depths))

        def blocks(extra: int = 1, r: int = ratio, sides: Any = branches) -> int:
            return sum(
                depth * ((4 + 2 * r) * (n + extra) * d**2 + 2 * (n + extra) ** 2 * d) for d, n, _, depth in sides
            )

        def asking(extra: int = 1, sides: Any = branches) -> int:
            return sum(2 * (n + extra) * d**2 + 2 * d**2 + 2 * (n + extra) * d for d, n, _, _ in sides)

        once = blocks()
        f_and_g = 4 * widths[0] * widths[1]
        fusion = asking() + f_and_g
        embedding = sum(3 * p**2 * d * n for d, n, p, _ in branches)
        no_class_token = encoders * (once - blocks(extra=0))
        causes = {
            "The class token is a token, too: blocks work on 1 + patches of them.": expected - no_class_token,
            "The class token is a token, too, in blocks and in fusions.": expected
            - no_class_token
            - encoders * (asking() - asking(extra=0)),
            "The class token is not made from a patch: the patch embedding makes one token a patch.": expected
            + sum(3 * p**2 * d for d, _, p, _ in branches),
            "Attention has two products, q k^T and A v: 2 T^2 d.": expected
            - encoders * sum(depth * (n + 1) ** 2 * d for d, n, _, depth in branches),
            "The feed-forward has two linear layers: 2 r d^2 for each token.": expected
            - encoders * sum(depth * ratio * (n + 1) * d**2 for d, n, _, depth in branches),
            "Attention has four projections: query, key, value and output.": expected
            - encoders * sum(depth * (n + 1) * d**2 for d, n, _, depth in branches),
            "The ratio r of the feed-forward is an argument; it is not always 4.": expected
            + encoders * (blocks(r=4) - once),
            "depths are the blocks in *one* multi-scale encoder; there are `encoders`.": expected
            - (encoders - 1) * once,
            "There is a fusion in each multi-scale encoder.": expected - (encoders - 1) * fusion,
            "Blocks and fusions are there once for each multi-scale encoder.": expected
            - (encoders - 1) * (once + fusion),
            "The fusions are missing.": expected - encoders * fusion,
            "f and g are missing in the fusions.": expected - encoders * f_and_g,
            "f and g stand in both directions of a fusion.": expected - encoders * f_and_g // 2,
            "Only the class token asks in a fusion: one query, not one for each token.": expected
            + encoders * sum(2 * n * d**2 + 2 * (1 + n) * n * d for d, n, _, _ in branches),
            "The heads are missing.": expected - classes * sum(widths),
            "Each branch has its own head: S's is missing.": expected - classes * widths[0],
            "Each branch has its own head: L's is missing.": expected - classes * widths[1],
            "The patch embeddings are missing.": expected - embedding,
            "An image has three channels: a patch is 3 p^2 numbers.": expected - embedding * 2 // 3,
            "A multiply-add counts once, as in the papers.": 2 * expected,
        }
        where = f"widths {widths}, patches {patches}, depths {depths}, {encoders} encoders"
        given = answer(widths, patches, patch_sizes, depths, ratio, encoders, classes)
        _compare(given, expected, where, causes)
    return f"right, to the last multiply-add; CrossViT-S has {expected:,}"


@_exercise
def pareto_frontier(answer: Answer) -> str:
    """pareto_frontier(cost, accuracy): True for each model that no other one beats."""
    for seed, (models, grid) in enumerate(((4, 50), (7, 4), (12, 8), (1, 9), (20, 6))):
        draw = np.random.default_rng(seed + 12)
        cost, accuracy = draw.integers(1, grid, models) * 1.5, 70.0 + draw.integers(1, grid, models)
        if models > 10:  # two models that are the same, on the frontier
            cost[[2, 9]], accuracy[[2, 9]] = 0.5, 70.0
        cheaper, better = cost < cost[:, None], accuracy > accuracy[:, None]
        no_dearer, no_worse = cost <= cost[:, None], accuracy >= accuracy[:, None]
        expected = ~(no_dearer & no_worse & (cheaper | better)).any(axis=1)
        others = ~np.eye(models, dtype=bool)
        best_so_far = np.maximum.accumulate(accuracy)
        causes = {
            "It is upside down: True is for a model that is *not* beaten.": ~expected,
            "As accurate and cheaper is better, too, and so is as cheap and more accurate: mind the ties.": ~(
                cheaper & better
            ).any(axis=1),
            "As cheap and more accurate is better, too.": ~(cheaper & no_worse).any(axis=1),
            "As accurate and cheaper is better, too.": ~(no_dearer & better).any(axis=1),
            "A model does not beat itself.": np.zeros(models, dtype=bool),
            "Two models with the same cost and accuracy: neither beats the other, both stay.": ~(
                no_dearer & no_worse & others
            ).any(axis=1),
            "The models do not come sorted by cost.": np.append(True, accuracy[1:] > best_so_far[:-1]),
            "A high cost is bad, not good.": ~((cost >= cost[:, None]) & no_worse & ((cost > cost[:, None]) | better)).any(
                axis=1
            ),
        }  # fmt: skip
        given = answer(cost.copy(), accuracy.copy())
        given = given if given is None else np.asarray(given)
        _compare(given, expected, f"{models} model{'s' * (models > 1)}", causes)
    return "right, ties and twins included"


@_exercise
def intensity(answer: Answer) -> str:
    """intensity(tokens, inputs, outputs): multiply-adds of a linear layer for each byte it moves, in float32."""
    for tokens, inputs, outputs in ((197, 384, 1536), (1, 384, 192), (3, 5, 2)):
        numbers = [tokens * inputs, inputs * outputs, tokens * outputs]
        macs, moved = tokens * inputs * outputs, sum(numbers)
        causes = {
            "A number in float32 has four bytes.": macs / moved,
            "The weights must be read, too.": macs / (4 * (moved - numbers[1])),
            "What comes out must be written, too.": macs / (4 * (moved - numbers[2])),
            "What comes in must be read, too.": macs / (4 * (moved - numbers[0])),
            "A multiply-add counts once.": 2 * macs / (4 * moved),
            "Multiply-adds for each byte, not bytes for each multiply-add.": 4 * moved / macs,
        }
        where = f"{tokens} token{'s' * (tokens > 1)}, {inputs} -> {outputs}"
        _compare(answer(tokens, inputs, outputs), macs / (4 * moved), where, causes)
    return "right: many tokens use each weight often, one token uses it once"


# ---------------------------------------------------------------------------------------- 10 referring segmentation


@_exercise
def word_pieces(answer: Answer) -> str:
    """word_pieces(word, vocabulary): the word cut from the left into the longest pieces that are known."""
    known = {"play", "##ing", "##ground", "##er", "un", "##play", "##able", "red", "##r", "##e", "##d", "r", "e", "a"}
    known |= {"ab", "abc", "##cd", "##c", "##d", "##de", "##f", "나", "나무", "##무", "##가", "##들", "##이", "##들이"}
    words = ["play", "playing", "playground", "playerer", "unplayable", "red", "redder", "ree", "abcd", "abcde", "abf"]
    words += ["나무가", "나무들이", "나이", "xylophone", "playx", "xplay", "a", "abab"]
    for word in words:
        given, expected = answer(word, set(known)), _greedy(word, known)
        if given is None:
            raise Wrong("it returns None: is the return statement missing?")
        if list(given) == expected:
            continue
        causes = {
            "Pieces inside a word carry ##, the first does not.": [piece.removeprefix("##") for piece in expected],
            "The longest piece that fits comes first, not the shortest.": _greedy(word, known, shortest=True),
            "What cannot be cut to its end is [UNK] as a whole, nothing of it is kept.": [
                piece for piece in _greedy(word, known, keep=True) if piece != "[UNK]"
            ],
            "What cannot be cut to its end is one [UNK], not [UNK] behind its pieces.": _greedy(word, known, keep=True),
            "A piece inside a word is looked up with its ##.": _greedy(word, known, inner=""),
        }
        cause = next((cause for cause, result in causes.items() if list(given) == result), "")
        raise Wrong(f"{word!r}: expected {expected}, given {list(given)}. {cause}".rstrip())
    return "right: the longest known piece, again and again, or [UNK]"


def _greedy(word: str, known: set[str], shortest: bool = False, keep: bool = False, inner: str = "##") -> list[str]:
    """WordPiece; the arguments make the mistakes."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        ends = range(start + 1, len(word) + 1) if shortest else range(len(word), start, -1)
        fits = (end for end in ends if (inner if start else "") + word[start:end] in known)
        end = next(fits, None)
        if end is None:
            return [*pieces, "[UNK]"] if keep else ["[UNK]"]
        pieces.append((inner if start else "") + word[start:end])
        start = end
    return pieces


@_exercise
def overall_and_mean_iou(answer: Answer) -> str:
    """overall_and_mean_iou(predicted, target): (oIoU, mIoU) of masks (count, height, width)."""
    for seed, shape in enumerate(((5, 6, 7), (1, 4, 4), (8, 3, 5))):
        draw = torch.Generator().manual_seed(seed)
        sizes = torch.rand(shape[0], 1, 1, generator=draw)
        predicted, target = (torch.rand(shape, generator=draw) < sizes for _ in range(2))
        if seed:  # one of them predicted as empty, and empty it is
            predicted[0] = target[0] = False
        inter = (predicted & target).sum(dim=(1, 2)).double()
        union = (predicted | target).sum(dim=(1, 2)).double()
        both = predicted.sum(dim=(1, 2)).double() + target.sum(dim=(1, 2))
        oiou = (inter.sum() / union.sum().clamp(min=1)).item()
        expected = oiou, (inter / union.clamp(min=1)).mean().item()
        given = answer(predicted.clone(), target.clone())
        if given is None or not isinstance(given, tuple) or len(given) != 2:
            raise Wrong("return two numbers: the overall IoU, then the mean IoU")
        where, numbers = f"masks of shape {shape}", tuple(float(number) for number in given)
        if not all(map(math.isfinite, numbers)):
            raise Wrong(f"{where}: given {numbers}: two empty masks have the union 0; their IoU counts as 0")
        if np.allclose(numbers, expected, rtol=1e-5, atol=1e-7):
            continue
        causes = {
            "Overall first, then the mean.": expected[::-1],
            "That is the Dice coefficient: the union counts the intersection once.": (
                (2 * inter.sum() / both.sum().clamp(min=1)).item(),
                (2 * inter / both.clamp(min=1)).mean().item(),
            ),
            "The sum of both areas counts their intersection twice: it is not the union.": (
                (inter.sum() / both.sum().clamp(min=1)).item(),
                (inter / both.clamp(min=1)).mean().item(),
            ),
            "Two empty masks count as IoU 0, as in the published evaluation.": (
                oiou,
                torch.where(union > 0, inter / union.clamp(min=1), 1.0).mean().item(),
            ),
            "Two empty masks count as IoU 0; they are not left out.": (
                oiou,
                (inter / union.clamp(min=1))[union > 0].sum().item() / max(1, int((union > 0).sum())),
            ),
            "The overall IoU adds up all intersections and all unions before it divides.": (expected[1], expected[1]),
            "The mean IoU divides for each expression, and then takes the mean.": (oiou, oiou),
        }
        cause = next((cause for cause, pair in causes.items() if np.allclose(numbers, pair, rtol=1e-5, atol=1e-7)), "")
        raise Wrong(f"{where}: expected {expected[0]:.4f} and {expected[1]:.4f}, given {numbers}. {cause}".rstrip())
    return "right, empty masks included"


@_exercise
def pixels_ask_words(answer: Answer) -> str:
    """pixels_ask_words(layer, maps, words, mask): cross-attention from each place of the maps to the words."""
    for batch, width, rows, columns, words_width, length, heads in ((2, 8, 3, 4, 6, 5, 2), (1, 6, 2, 2, 6, 3, 3)):
        torch.manual_seed(10)
        layer = MultiHeadAttention(width, heads, context_width=words_width).double()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.6)
        maps = torch.randn(batch, width, rows, columns, dtype=torch.double)
        words = torch.randn(batch, length, words_width, dtype=torch.double)
        mask = torch.arange(length) < torch.tensor([[length - 1], [length - 2]])[:batch]

        ask = functools.partial(_pixels_ask, layer, words)
        given, expected = answer(layer, maps.clone(), words.clone(), mask.clone()), ask(maps, mask[:, None])
        if not isinstance(given, tuple) or len(given) != 2:
            raise Wrong("return two tensors: the maps (batch, width, row, column) and the weights")
        mistakes = {
            "Padding is looked at: the mask is missing.": ask(maps, None),
            "The mask is upside down: True is where a word counts.": ask(maps, ~mask[:, None]),
        }
        if rows == columns:
            turned = ask(maps.transpose(2, 3), mask[:, None])
            mistakes["Rows and columns changed places."] = turned[0], turned[1]
        scrambled = maps.reshape(batch, rows * columns, width)
        output, weights = layer(scrambled, words, mask[:, None], return_weights=True)
        cut = output.reshape(maps.shape), weights.unflatten(2, (rows, columns))
        mistakes["A reshape does not turn axes: channels were cut up; flatten, then transpose."] = cut
        for number, name in enumerate(("maps", "weights")):
            causes = {cause: result[number] for cause, result in mistakes.items()}
            _compare(given[number], expected[number], f"{name}, {rows} x {columns} places, {heads} heads", causes)
    return "right: each place has asked the words, and none of them looked at padding"


def _pixels_ask(layer: MultiHeadAttention, words: Tensor, maps: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    output, weights = layer(maps.flatten(2).transpose(1, 2), words, mask, return_weights=True)
    return output.transpose(1, 2).unflatten(2, maps.shape[2:]), weights.unflatten(2, maps.shape[2:])


# ------------------------------------------------------------------------------------------ 11 pixel-word attention


@_exercise
def gather_words(answer: Answer) -> str:
    """gather_words(query, key, value, mask, heads): G' and the weights, padding out of play, scaled as in LAVT."""
    for batch, pixels, words, width, heads in ((2, 5, 4, 6, 1), (3, 4, 6, 8, 2), (1, 6, 5, 9, 3)):
        torch.manual_seed(20)
        query, key, value = (torch.randn(batch, n, width, dtype=torch.double) for n in (pixels, words, words))
        mask = torch.arange(words) < torch.tensor([[words - 1], [words - 3], [words - 2]])[:batch]
        expected = _gather(query, key, value, mask, heads)
        mistakes = {
            "The scale is missing.": _gather(query * width**0.5, key, value, mask, heads),
            "Padding is read: the mask is missing.": _gather(query, key, value, mask | True, heads),
            "The mask is upside down: True is where a word counts.": _gather(query, key, value, ~mask, heads),
            "LAVT divides by the root of all channels C, not of those of one head.": _gather(
                query * heads**0.5, key, value, mask, heads
            ),
            "Softmax goes over the words, the last axis: each pixel divides its attention among them.": _gather(
                query, key, value, mask, heads, over=2
            ),
            "The heads are not kept apart: split the channels first.": _gather(query, key, value, mask, 1),
            "Each head works with its own channels: view alone mixes them with the tokens, see split_heads.": _gather(
                query, key, value, mask, heads, split=lambda x, h: x.view(len(x), h, x.shape[1], -1)
            ),
        }
        where = f"{pixels} pixels, {words} words, {heads} head{'s' * (heads > 1)}"
        given = _two(answer(query.clone(), key.clone(), value.clone(), mask.clone(), heads), "G' and the weights")
        for number, name in enumerate(("G'", "weights")):
            causes = {cause: result[number] for cause, result in mistakes.items()}
            _compare(given[number], expected[number], f"{name}, {where}", causes)

        nothing = torch.zeros_like(mask)
        given = _two(answer(query.clone(), key.clone(), value.clone(), nothing, heads), "G' and the weights")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in given):
            raise Wrong("a sentence of padding alone: not finite. Masked scores must be very low, -1e4, not -inf.")
        if not _close(given[0], torch.zeros_like(query)):
            raise Wrong("a sentence of padding alone: G' must be 0. The values of padding must be 0, too.")
    return "right: each pixel has asked the words, none has read padding, and nothing said is 0"


def _two(given: Any, names: str) -> tuple[Any, Any]:
    if given is None:
        raise Wrong("it returns None: is the return statement missing?")
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise Wrong(f"return two tensors, {names}, given a {type(given).__name__}")
    return given[0], given[1]


def _gather(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int, over: int = -1, split: Any = split_heads
) -> tuple[Tensor, Tensor]:
    scores = split(query, heads) @ split(key, heads).transpose(-1, -2) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask[:, None, None], -1e4).softmax(dim=over)
    return merge_heads(weights @ split(value * mask[..., None], heads)), weights


@_exercise
def norm_over_pixels(answer: Answer) -> str:
    """norm_over_pixels(pixels): each channel of each image (batch, pixel, channel) to mean 0 and variance 1."""
    for batch, size, width in ((2, 6, 4), (3, 5, 5), (1, 9, 3)):
        torch.manual_seed(21)
        pixels = torch.randn(batch, size, width, dtype=torch.double) * torch.rand(width) + torch.randn(batch, 1, width)
        pixels[..., 0] = 0.003 * pixels[..., 0]  # hardly any variance: eps is seen

        def normed(axes: Any, unbiased: bool = False, eps: float = 1e-5, x: Tensor = pixels) -> Tensor:
            variance, mean = torch.var_mean(x, dim=axes, correction=int(unbiased), keepdim=True)
            return (x - mean) / (variance + eps).sqrt()

        variance, mean = torch.var_mean(pixels, dim=1, correction=0, keepdim=True)
        causes = {
            "That is a layer norm, over the channels: the norm goes over the pixels.": normed(2),
            "That is a batch norm: each image is normed by itself.": normed((0, 1)),
            "Each channel is normed by itself.": normed((1, 2)),
            "Divide by the number of pixels, not by one less: correction=0.": normed(1, unbiased=True),
            "eps = 1e-5 is missing.": normed(1, eps=0),
            "eps is added to the variance, under the root, not to the deviation.": (pixels - mean)
            / (variance.sqrt() + 1e-5),
            "The mean is still in it.": pixels / (variance + 1e-5).sqrt(),
            "The mean is gone, the deviation is not 1 yet.": pixels - mean,
            "Divide by the root of the variance.": (pixels - mean) / (variance + 1e-5),
        }
        given = answer(pixels.clone())
        _compare(given, normed(1), f"(batch, pixel, channel) = {(batch, size, width)}", causes)
        same = torch.randn(batch, 1, width, dtype=torch.double).expand(-1, size, -1)
        given = answer(same.clone())
        if not bool(torch.isfinite(given).all()) or not np.allclose(given, 0, atol=1e-3):
            raise Wrong("all pixels alike: expected 0. eps keeps the division finite.")
    return "right: of each channel only what differs between the pixels is left"


@_exercise
def gated(answer: Answer) -> str:
    """gated(maps, fused, first, second): E = V + gate(F) * F, the gate of two linear layers, a ReLU and a tanh."""
    for batch, rows, columns, width in ((2, 2, 3, 5), (1, 4, 4, 3), (3, 1, 2, 8)):
        torch.manual_seed(22)
        maps, fused = torch.randn(2, batch, rows, columns, width, dtype=torch.double)
        first, second = (nn.Linear(width, width, bias=False).double() for _ in range(2))
        for layer in (first, second):
            nn.init.normal_(layer.weight, std=0.7 / width**0.5)
        gate = second(first(fused).relu()).tanh()
        causes = {
            "The gate is a factor: it is multiplied by F. So it stands, it is a feed-forward layer.": maps + gate,
            "The gate is a factor of F, not of V.": maps + gate * maps,
            "V is missing: the gated F is added to it.": gate * fused,
            "The gate is missing: it weighs F.": maps + fused,
            "LAVT's gate ends in a tanh, from -1 to 1, not in a sigmoid.": maps
            + second(first(fused).relu()).sigmoid() * fused,
            "The tanh is missing.": maps + second(first(fused).relu()) * fused,
            "The ReLU between the layers is missing.": maps + second(first(fused)).tanh() * fused,
            "A ReLU, not a GELU, stands between the layers.": maps
            + second(nn.functional.gelu(first(fused))).tanh() * fused,
            "The layers are in the wrong order.": maps + first(second(fused).relu()).tanh() * fused,
            "The gate reads F, not V.": maps + second(first(maps).relu()).tanh() * fused,
            "V and F have changed places.": fused + second(first(maps).relu()).tanh() * maps,
            "The gate weighs F, and V goes on as it is: no mixing of the two.": maps * (1 - gate) + gate * fused,
        }
        where = f"maps {rows} x {columns}, width {width}"
        _compare(answer(maps.clone(), fused.clone(), first, second), maps + gate * fused, where, causes)
    return "right: V goes on as it is, and of F what the gate lets through"


# ----------------------------------------------------------------------------------------------------------- 12 LAVT


@_exercise
def lavt_stage(answer: Answer) -> str:
    """lavt_stage(blocks, fusion, pathway, norm, maps, words, mask): what goes to the decoder, and what goes on."""
    for batch, rows, columns, width, words_width in ((2, 3, 4, 8, 6), (1, 5, 2, 6, 4)):
        torch.manual_seed(30)
        blocks = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        fusion, pathway = lavt.PixelWordAttention(width, words_width), lavt.LanguagePathway(width)
        norm = nn.LayerNorm(width)
        for parameter in (*pathway.parameters(), *norm.parameters()):
            nn.init.normal_(parameter, std=0.7)
        maps, words = torch.randn(batch, rows, columns, width), torch.randn(batch, 5, words_width)
        mask = torch.arange(5) < torch.tensor([[5], [3]])[:batch]

        vision = blocks(maps)
        fused = fusion(vision, words, mask)
        onward = pathway(vision, fused)
        expected, gated = (norm(fused), onward), onward - vision
        mistakes = {
            "The decoder gets F itself: the gate is only for what goes on.": (norm(gated), onward),
            "The decoder gets F, what the words said, not E, what goes on.": (norm(onward), onward),
            "The norm on the way to the decoder is missing.": (fused, onward),
            "The norm is on the way to the decoder; what goes on is not normed.": (norm(fused), norm(onward)),
            "What goes on is V + gate(F) * F: did you return the gated F alone?": (norm(fused), gated),
            "What goes on passes the gate: V + F is the row without it.": (norm(fused), vision + fused),
            "The words have no part in what goes on.": (norm(fused), vision),
            "PWAM reads V, what the blocks made, not what came into the stage.": (
                norm(fusion(maps, words, mask)),
                pathway(vision, fusion(maps, words, mask)),
            ),
            "The blocks come first.": (norm(fusion(maps, words, mask)), pathway(maps, fusion(maps, words, mask))),
            "pathway(V, F) adds V itself.": (norm(fused), vision + onward),
            "pathway takes V first, then F.": (norm(fused), pathway(fused, vision)),
            "Return what goes to the decoder first.": (onward, norm(fused)),
        }
        given = _two(
            answer(blocks, fusion, pathway, norm, maps.clone(), words.clone(), mask.clone()), "decoder's and E"
        )
        for number, name in enumerate(("to the decoder", "onward")):
            causes = {cause: result[number] for cause, result in mistakes.items()}
            _compare(given[number], expected[number], f"{name}, {rows} x {columns} pixels", causes)
    return "right: the decoder hears what the words said, the next stage a gated share of it"


@_exercise
def join_levels(answer: Answer) -> str:
    """join_levels(coarse, fine, convolutions): one level of the decoder, maps (batch, channel, row, column)."""
    for batch, small, large, widths in (
        (2, (3, 3), (5, 6), (6, 4)),
        (1, (2, 4), (4, 8), (3, 5)),
        (3, (4, 3), (7, 6), (4, 4)),
    ):
        torch.manual_seed(31)
        coarse, fine = torch.randn(batch, widths[0], *small), torch.randn(batch, widths[1], *large)
        convolutions = nn.Conv2d(sum(widths), 3, kernel_size=3, padding=1)

        def joined(order: int = 1, coarse: Tensor = coarse, fine: Tensor = fine, **how: Any) -> Tensor:
            resized = nn.functional.interpolate(coarse, fine.shape[2:], **how)
            return torch.cat([resized, fine][::order], dim=1)

        bilinear: dict[str, Any] = {"mode": "bilinear", "align_corners": True}
        expected = convolutions(joined(**bilinear))
        causes = {
            "The corners are not on the corners: align_corners=True.": convolutions(
                joined(mode="bilinear", align_corners=False)
            ),
            "That is the nearest pixel: between pixels, be bilinear.": convolutions(joined(mode="nearest")),
            "The coarse maps come first, then the fine ones: the convolution's channels have an order.": convolutions(
                joined(-1, **bilinear)
            ),
            "The convolutions are missing.": joined(**bilinear),
        }
        given = answer(coarse.clone(), fine.clone(), convolutions)
        _compare(given, expected, f"{small[0]} x {small[1]} to {large[0]} x {large[1]} pixels", causes)
    return "right, also where the finer stage is not twice as large"


@_exercise
def paired_lead(answer: Answer) -> str:
    """paired_lead(a, b): mean and half-width of the 95 % interval of a - b, over the seeds that both have."""
    cases = [
        ({0: 0.41, 1: 0.36, 2: 0.44, 3: 0.39, 4: 0.43}, {4: 0.40, 3: 0.37, 2: 0.41, 1: 0.35, 0: 0.37}),
        ({2: 0.30, 0: 0.52, 7: 0.45, 9: 0.20}, {0: 0.47, 7: 0.47, 5: 0.11, 2: 0.21}),
        ({0: 10.0, 1: 12.0}, {1: 11.5, 0: 10.5, 3: 40.0}),
    ]
    for a, b in cases:
        seeds = sorted(a.keys() & b.keys())
        differences = np.array([a[seed] - b[seed] for seed in seeds])
        interval = mean_interval(differences)
        expected = interval.mean, interval.half
        where = f"seeds {list(a)} and {list(b)}"
        given = _two(answer(dict(a), dict(b)), "the mean lead and half of its interval's width")
        numbers = tuple(float(number) for number in given)
        if np.allclose(numbers, expected, rtol=1e-5, atol=1e-9):
            continue
        n, sides = len(differences), (mean_interval(a.values()), mean_interval(b.values()))
        causes = {
            "Seeds that only one of them has do not count; match by seed, not by place.": tuple(
                mean_interval(x - y for x, y in zip(a.values(), b.values()))
            )[:2],
            "That is b - a.": (-expected[0], expected[1]),
            "1.96 holds for many seeds; for few, Student's t is larger.": (
                expected[0],
                1.96 * differences.std(ddof=1) / n**0.5,
            ),
            "With few seeds, divide by n - 1 in the variance.": (
                expected[0],
                expected[1] * differences.std() / differences.std(ddof=1),
            ),
            "That is the spread of seeds, not of their mean: divide by the root of n.": (
                expected[0],
                expected[1] * n**0.5,
            ),
            "That is the whole width; half of it is asked for.": (expected[0], 2 * expected[1]),
            "The seeds are paired: take the differences first, then their interval.": (
                expected[0],
                sides[0].half + sides[1].half,
            ),
            "The mean is right; the intervals of both sides say nothing of their differences.": (
                expected[0],
                float(np.hypot(sides[0].half, sides[1].half)),
            ),
        }
        cause = next((cause for cause, pair in causes.items() if np.allclose(numbers, pair, rtol=1e-4, atol=1e-9)), "")
        raise Wrong(
            f"{where}: expected {expected[0]:.4f} and {expected[1]:.4f}, given {numbers[0]:.4f} and {numbers[1]:.4f}. {cause}"
        )
    return "right: seed by seed, and honest about few of them"


# ------------------------------------------------------------------------------------------ 13 choosing keys and values


@_exercise
def cross_attention_macs(answer: Answer) -> str:
    """cross_attention_macs(queries, keys, width, context_width): a whole layer's MACs, four projections, two products."""
    for queries, keys, width, context_width in ((197, 197, 384, 384), (1, 401, 384, 192), (900, 20, 128, 768)):
        layer = MultiHeadAttention(width, 1, context_width)
        tokens, context = torch.zeros(1, queries, width), torch.zeros(1, keys, context_width)
        expected = count(layer, tokens, context).macs
        asking, answering, products = queries * width**2, keys * context_width * width, queries * keys * width
        causes = {
            "The two products, q k^T and A v, are missing.": expected - 2 * products,
            "There are two products: q k^T and A v.": expected - products,
            "The output projection is missing: one more width x width matrix for each query.": expected - asking,
            "A key and a value are made of each token of the context: two projections.": expected - answering,
            "Keys and values are made from the context: their matrices are context_width x width.": expected
            + 2 * (keys * width**2 - answering),
            "Queries and outputs are as many as the queries, not as the keys.": expected
            + 2 * (keys - queries) * width**2,
            "Keys and values are as many as the keys, not as the queries.": expected
            + 2 * (queries - keys) * context_width * width,
            "The output has as many tokens as there are queries.": expected + (keys - queries) * width**2,
            "The products run over queries x keys, not over the queries squared.": expected
            + 2 * (queries**2 * width - products),
            "The products run over queries x keys, not over the keys squared.": expected
            + 2 * (keys**2 * width - products),
            "A multiply-add counts once, as in the papers.": 2 * expected,
        }
        where = f"{queries} queries, {keys} keys, width {width}, context {context_width} wide"
        _compare(answer(queries, keys, width, context_width), expected, where, causes)
    return "right: once for each query, once for each key, and once for each pair"


@_exercise
def look_up(answer: Answer) -> str:
    """look_up(layer, tokens, keys_from, values_from, mask): keys from one source, the values from another."""
    for batch, queries, keys, width, context_width, heads in (
        (2, 3, 5, 8, 6, 2),
        (3, 4, 4, 6, 6, 3),
        (1, 6, 3, 4, 5, 1),
    ):
        torch.manual_seed(30)
        layer = MultiHeadAttention(width, heads, context_width).double()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.6)
        tokens = torch.randn(batch, queries, width, dtype=torch.double)
        one, other = torch.randn(2, batch, keys, context_width, dtype=torch.double)
        mask = torch.arange(keys) < torch.tensor([[keys - 1], [keys - 2], [keys - 3]])[:batch]

        def looked_up(
            asked: Tensor, told: Tensor, seen: Tensor | None, layer: Any = layer, x: Tensor = tokens
        ) -> Tensor:
            pair = layer.keys_and_values(asked)[0], layer.keys_and_values(told)[1]
            return layer.attend(x, *pair, None if seen is None else seen[:, None])[0]

        expected = looked_up(one, other, mask)
        bare = copy.deepcopy(layer)
        nn.init.eye_(bare.output.weight)
        nn.init.zeros_(bare.output.bias)
        causes = {
            "The keys came from the source of the values.": looked_up(other, other, mask),
            "The values came from the source of the keys.": looked_up(one, one, mask),
            "Keys and values changed places.": looked_up(other, one, mask),
            "Padding is looked at: the mask is missing.": looked_up(one, other, None),
            "The mask is upside down: True is where a key counts.": looked_up(one, other, ~mask),
            "The output projection is missing.": looked_up(one, other, mask, layer=bare),
            "No residual: what was looked up is asked for, by itself.": tokens + expected,
        }
        if queries == keys and width == context_width:
            causes["The tokens ask; they are no keys."] = looked_up(tokens, other, mask)
            causes["The tokens ask; they are no values."] = looked_up(one, tokens, mask)
        given = answer(layer, tokens.clone(), one.clone(), other.clone(), mask.clone())
        if isinstance(given, tuple):
            raise Wrong("attend returns two things, the output and the weights: return the output alone")
        _compare(given, expected, f"{queries} queries, {keys} keys, {heads} heads", causes)
    return "right: keys decide where to look, values what is found there"


@_exercise
def own_cross_attention(answer: Answer) -> str:
    """A class, answer(width, context_width, heads); its forward(tokens, context, mask): the new tokens and the weights."""
    for batch, queries, keys, width, context_width, heads in (
        (2, 3, 5, 8, 6, 2),
        (3, 4, 4, 6, 6, 3),
        (1, 5, 4, 4, 7, 1),
    ):
        torch.manual_seed(31)
        module = answer(width, context_width, heads)
        _check_parts(module, {"query": width, "key": context_width, "value": context_width, "output": width}, width)
        module = module.double()
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.6)
        nn.init.normal_(module.norm.weight, mean=1.0, std=0.3)
        tokens = 2 + torch.randn(batch, queries, width, dtype=torch.double)
        context = torch.randn(batch, keys, context_width, dtype=torch.double)
        mask = torch.arange(keys) < torch.tensor([[keys - 1], [keys - 2], [keys - 3]])[:batch]

        step = functools.partial(_own, module, heads=heads, tokens=tokens, context=context, mask=mask)
        mistakes = {
            "Padding is looked at: the mask is missing.": step(mask=mask | True),
            "The mask is upside down: True is where a token of the context counts.": step(mask=~mask),
            "The division by sqrt(d) is missing.": step(scale=1),
            "d is the width of a head, not of the layer.": step(scale=width**0.5),
            "Softmax goes over the keys, the last axis.": step(over=2),
            "Padding is masked after the softmax: the weights of a query no longer add up to 1.": step(late=True),
            "The heads are not kept apart: split the channels first.": step(heads=1),
            "Each head works with its own channels: view alone mixes them with the tokens, see split_heads.": step(
                split=lambda x, h: x.reshape(len(x), h, x.shape[1], -1)
            ),
            "Merge the heads with merge_heads: a reshape alone mixes channels and tokens.": step(
                merge=lambda x: x.reshape(len(x), x.shape[2], -1)
            ),
            "The residual is missing: what was found is added to the tokens.": step(residual=0),
            "The residual is the tokens as they came, not normed.": step(residual="normed"),
            "The norm is missing: queries are made of self.norm(tokens).": step(norm=nn.Identity()),
            "The output projection is missing.": step(output=nn.Identity()),
        }
        if width == context_width:
            normed = module.norm(context)
            mistakes["The norm is that of the tokens; the context comes as it is."] = step(context=normed)
            if queries == keys:
                asked = module.norm(tokens)
                mistakes["This is self-attention: keys and values come from the context."] = step(context=asked)
                mistakes["The keys came from the tokens."] = step(keys=asked)
                mistakes["The values came from the tokens."] = step(values=asked)
        where = f"{queries} queries, {keys} keys, {heads} head{'s' * (heads > 1)}"
        given = _two(module(tokens.clone(), context.clone(), mask.clone()), "the new tokens and the weights")
        right = step()
        mistakes = {cause: pair for cause, pair in mistakes.items() if not all(map(_close, pair, right))}
        known = [cause for cause, pair in mistakes.items() if all(map(_close, given, pair))]
        if known:
            raise Wrong(f"{where}: {known[0]}")
        # The weights first: a mistake in them shows in the tokens, too, and would be looked for there.
        for number, name in ((1, "weights"), (0, "new tokens")):
            differ = {
                cause: pair[number] for cause, pair in mistakes.items() if not _close(pair[number], right[number])
            }
            _compare(given[number], right[number], f"{name}, {where}", differ)
    return "right: a cross-attention of your own, with padding out of play"


def _check_parts(module: Any, widths: dict[str, int], width: int) -> None:
    """Raise Wrong unless the module has a norm and the four projections, each from its width to the layer's."""
    if not isinstance(module, nn.Module):
        raise Wrong(f"a class that is an nn.Module is asked for, given what makes a {type(module).__name__}")
    if not isinstance(getattr(module, "norm", None), nn.LayerNorm):
        raise Wrong("self.norm, the LayerNorm of the tokens, is missing")
    for name, wide in widths.items():
        layer = getattr(module, name, None)
        if not isinstance(layer, nn.Linear):
            raise Wrong(f"self.{name} must be an nn.Linear, given {type(layer).__name__}")
        if (layer.in_features, layer.out_features) != (wide, width):
            source = "the context" if name in ("key", "value") else "the tokens"
            hint = "it reads what the heads found" if name == "output" else f"it reads {source}"
            given = f"given {layer.in_features} to {layer.out_features}"
            raise Wrong(f"self.{name} must lead from {wide} channels to {width} ({hint}), {given}")


def _own(
    module: Any,
    heads: int,
    tokens: Tensor,
    context: Tensor,
    mask: Tensor,
    *,
    scale: float | None = None,
    over: int = -1,
    late: bool = False,
    split: Any = split_heads,
    merge: Any = merge_heads,
    residual: Any = 1,
    norm: Any = None,
    output: Any = None,
    keys: Tensor | None = None,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The new tokens and the weights, or those of a mistake."""
    normed = (norm or module.norm)(tokens)
    query = split(module.query(normed), heads)
    key, value = (
        split(layer(context if source is None else source), heads)
        for layer, source in ((module.key, keys), (module.value, values))
    )
    scores, seen = query @ key.transpose(-1, -2) / (scale or query.shape[-1] ** 0.5), mask[:, None, None]
    weights = scores.softmax(over) * seen if late else scores.masked_fill(~seen, -1e9).softmax(over)
    told = (output or module.output)(merge(weights @ value))
    return told + (normed if residual == "normed" else residual * tokens), weights
