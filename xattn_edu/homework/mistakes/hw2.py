"""Wrong answers to the second graded set, each with its mistake."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from xattn_edu.homework.mistakes.mistake import mistakes
from xattn_edu.models.attention import MultiHeadAttention
from xattn_edu.models.transformer import DecoderLayer

Answer = Callable[..., Any]
SPLIT = "batch token (head dim) -> batch head token dim"
MERGE = "batch head token dim -> batch token (head dim)"
INTERLEAVED = "batch token (dim head) -> batch head token dim"


def bare_view(x: Tensor, head: int) -> Tensor:
    """Heads apart, wrongly."""
    return x.reshape(x.shape[0], head, x.shape[1], x.shape[2] // head)


def bare_reshape(x: Tensor) -> Tensor:
    """Heads put back, wrongly."""
    return x.reshape(x.shape[0], x.shape[2], -1)


def split(x: Tensor, head: int) -> Tensor:
    return rearrange(x, SPLIT, head=head)


def interleaved(x: Tensor, head: int) -> Tensor:
    return rearrange(x, INTERLEAVED, head=head)


def merge(x: Tensor) -> Tensor:
    return rearrange(x, MERGE)


# --- 1: torch's packed weights


def packed(
    tokens: Tensor,
    context: Tensor,
    in_weight: Tensor,
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    heads: int,
    ignored: Tensor,
    *,
    cut: Callable[[Tensor], Any] = lambda w: w.chunk(3),
    linear: Callable[..., Tensor] = lambda x, w, b: x @ w.T + b,
    out: Callable[..., Tensor] = lambda x, w, b: x @ w.T + b,
    apart: Callable[[Tensor, int], Tensor] = split,
    together: Callable[[Tensor], Tensor] = merge,
    root: Callable[[int, int], float] = lambda depth, width: depth**0.5,
    weigh: Callable[[Tensor, Tensor], Tensor] = lambda s, h: s.masked_fill(h, -torch.inf).softmax(dim=-1),
    query_divided: bool = False,
    averaged: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The right answer, and with other settings a wrong one."""
    (w_q, w_k, w_v), (b_q, b_k, b_v) = cut(in_weight), cut(in_bias)
    query = apart(linear(tokens, w_q, b_q), heads)
    key, value = apart(linear(context, w_k, b_k), heads), apart(linear(context, w_v, b_v), heads)
    scale = root(query.shape[-1], tokens.shape[-1])
    weights = weigh(query @ key.transpose(-1, -2) / scale, ignored[:, None, None, :])
    output = out(together(weights @ value), out_weight, out_bias)
    return query / scale if query_divided else query, weights.mean(dim=1) if averaged else weights, output


def _packing(**settings: Any) -> Answer:
    return functools.partial(packed, **settings)


PACKED = mistakes(
    "hw2.packed_attention",
    "02, 2.3",
    {
        "in_weight not transposed": ("here in_weight was not transposed", _packing(linear=lambda x, w, b: x @ w + b)),
        "out_weight not transposed": ("here out_weight was not transposed", _packing(out=lambda x, w, b: x @ w + b)),
        "no biases": ("biases of queries, keys and values", _packing(linear=lambda x, w, b: x @ w.T)),
        "no output bias": ("bias of the output is missing", _packing(out=lambda x, w, b: x @ w.T)),
        "no output projection": ("The output projection is missing", _packing(out=lambda x, w, b: x)),
        "keys first": (
            "here the order was key, query, value",
            _packing(cut=lambda w: [w.chunk(3)[i] for i in (1, 0, 2)]),
        ),
        "values before keys": (
            "here keys and values are exchanged",
            _packing(cut=lambda w: [w.chunk(3)[i] for i in (0, 2, 1)]),
        ),
        "every third row": ("every third row was taken", _packing(cut=lambda w: [w[i::3] for i in range(3)])),
        "heads by a bare view": ("a bare view", _packing(apart=bare_view)),
        "heads interleaved": ("a head got every heads-th channel", _packing(apart=interleaved)),
        "heads back by a bare reshape": ("put back by a bare reshape", _packing(together=bare_reshape)),
        "heads back interleaved": (
            "another order of channels",
            _packing(together=lambda x: rearrange(x, "b h t d -> b t (d h)")),
        ),
        "no scale": ("The division by sqrt(depth) is missing", _packing(root=lambda depth, width: 1.0)),
        "scale of the layer": ("not of the layer's", _packing(root=lambda depth, width: width**0.5)),
        "scale without a root": ("not by the width itself", _packing(root=lambda depth, width: depth)),
        "query divided": ("not yet divided by sqrt(depth)", _packing(query_divided=True)),
        "no mask": ("`ignored` has no effect", _packing(weigh=lambda s, h: s.softmax(dim=-1))),
        "mask inverted": (
            "The mask is inverted: ",
            _packing(weigh=lambda s, h: s.masked_fill(~h, -torch.inf).softmax(dim=-1)),
        ),
        "mask inverted, by the library": (
            "The mask is inverted, and rows without a key give 0",
            _packing(weigh=lambda s, h: s.masked_fill(~h, -torch.inf).softmax(dim=-1).nan_to_num(0.0)),
        ),
        "masked after the softmax": ("no longer add up to 1", _packing(weigh=lambda s, h: s.softmax(dim=-1) * ~h)),
        "score 0": ("a score of 0 still", _packing(weigh=lambda s, h: (s * ~h).softmax(dim=-1))),
        "softmax over queries": (
            "here it was over the queries",
            _packing(weigh=lambda s, h: s.masked_fill(h, -torch.inf).softmax(dim=2)),
        ),
        "weights averaged": ("averaged over the heads", _packing(averaged=True)),
    },
)


# --- 2: a mask for a prompt and what follows it


Rule = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def prompt_rule(
    lengths: Tensor, prompt: int, new: int, *, rule: Rule = lambda i, j, n, p: (j < n) | ((j >= p) & (j <= i))
) -> Tensor:
    """The mask of a rule for query i, key j, length n and prompt p, (batch, size, size)."""
    j, i = torch.arange(prompt + new)[None, None, :], torch.arange(prompt + new)[None, :, None]
    return rule(i, j, lengths[:, None, None], prompt).expand(len(lengths), prompt + new, prompt + new).clone()


def _ruled(rule: Rule) -> Answer:
    return functools.partial(prompt_rule, rule=rule)


PROMPT = mistakes(
    "hw2.prompt_mask",
    "03, 3.4",
    {
        "inverted": ("The mask is inverted", lambda n, p, k: ~prompt_rule(n, p, k)),
        "transposed": ("here they are exchanged", lambda n, p, k: prompt_rule(n, p, k).mT),
        "no padding": ("`lengths` has no effect", _ruled(lambda i, j, n, p: (j < p) | (j <= i))),
        "causal from the length on": ("not at lengths[b]", _ruled(lambda i, j, n, p: (j < n) | (j <= i))),
        "causal prompt": ("The prompt is causal here", _ruled(lambda i, j, n, p: ((j < n) | (j >= p)) & (j <= i))),
        "later new tokens": ("to later new tokens", _ruled(lambda i, j, n, p: (j < n) | (j >= p))),
        "new tokens both ways": ("in both directions", _ruled(lambda i, j, n, p: (j < n) | ((j >= p) & (i >= p)))),
        "no prompt": ("The prompt has no effect", _ruled(lambda i, j, n, p: (j >= p) & (j <= i))),
        "no new tokens": ("The new tokens have no effect", _ruled(lambda i, j, n, p: (j < n) & (i >= 0))),
        "and for or": ("no key is both", _ruled(lambda i, j, n, p: (j < n) & (j >= p) & (j <= i))),
        "one padding key": ("One padding key is open", _ruled(lambda i, j, n, p: (j <= n) | ((j >= p) & (j <= i)))),
        "last key lost": (
            "The last real key is masked",
            _ruled(lambda i, j, n, p: (j < n - 1) | ((j >= p) & (j <= i))),
        ),
        "not itself": ("A query may attend to itself", _ruled(lambda i, j, n, p: (j < n) | ((j >= p) & (j < i)))),
        "first new token closed": (
            "The first new token has the number",
            _ruled(lambda i, j, n, p: (j < n) | ((j > p) & (j <= i))),
        ),
        "padding queries too": (
            "only keys are masked",
            _ruled(lambda i, j, n, p: ((j < n) | ((j >= p) & (j <= i))) & ((i < n) | (i >= p))),
        ),
        "the first for all": ("the first one was used for all", lambda n, p, k: prompt_rule(n[:1].expand_as(n), p, k)),
        "the largest for all": (
            "the largest was used for all",
            lambda n, p, k: prompt_rule(n.max().expand_as(n) * 1, p, k),
        ),
        "an axis for heads": ("leave out the axis for heads", lambda n, p, k: prompt_rule(n, p, k)[:, None]),
        "zeros and ones": ("True and False", lambda n, p, k: prompt_rule(n, p, k).float()),
    },
)


# --- 3: a decoder layer to be mended


def decoded(
    layer: DecoderLayer,
    tokens: Tensor,
    memory: Tensor,
    memory_mask: Tensor,
    *,
    mask: Callable[[Tensor], Tensor | None] = torch.tril,
    start: str = "tokens",
    first_read: bool = True,
    context: str = "memory",
    real: Callable[[Tensor], Tensor | None] = lambda m: m,
    second_reads: str = "after_self",
    second_residual: bool = True,
    third_reads: str = "normed after_cross",
    third_residual: str = "after_cross",
    exchanged: bool = False,
    one_norm: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The right answer, and with other settings a wrong one."""
    first, second, third = layer.residual1.norm, layer.residual2.norm, layer.residual3.norm
    second, third = (first, first) if one_norm else (second, third)
    itself, across = layer.attention, layer.cross_attention
    itself, across = (across, itself) if exchanged else (itself, across)
    causal = mask(torch.ones(1, tokens.shape[1], tokens.shape[1], dtype=torch.bool))
    mixed = itself(first(tokens) if first_read else tokens, mask=causal)
    after_self = mixed + {"tokens": tokens, "normed": first(tokens), "nothing": 0}[start]
    queries = {"after_self": second(after_self), "raw": after_self, "tokens": second(tokens)}[second_reads]
    if context == "nothing":
        mixed = across(queries)
    else:
        mixed = across(queries, second(memory) if context == "normed" else memory, real(memory_mask))
    after_cross = after_self + mixed if second_residual else mixed
    read = {"normed after_cross": third(after_cross), "after_self": third(after_self), "raw": after_cross}[third_reads]
    begin = {"after_cross": after_cross, "after_self": after_self, "nothing": 0}[third_residual]
    return after_self, after_cross, begin + layer.feed_forward(read)


def _mending(**settings: Any) -> Answer:
    return functools.partial(decoded, **settings)


def _post_norm(layer: DecoderLayer, tokens: Tensor, memory: Tensor, memory_mask: Tensor) -> tuple[Tensor, ...]:
    mask = torch.ones(1, tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril()
    one = layer.residual1.norm(tokens + layer.attention(tokens, mask=mask))
    two = layer.residual2.norm(one + layer.cross_attention(one, memory, memory_mask))
    return one, two, layer.residual3.norm(two + layer.feed_forward(two))


DECODER = mistakes(
    "hw2.mended_decoder_layer",
    "03, 3.3",
    {
        "no causal mask": ("The self-attention needs a causal mask", _mending(mask=lambda m: None)),
        "mask turned round": ("The causal mask is turned round", _mending(mask=torch.triu)),
        "mask without the diagonal": ("no True on its diagonal", _mending(mask=lambda m: m.tril(-1))),
        "residual of the normed": ("not at the normed tokens", _mending(start="normed")),
        "no first residual": ("The residual of the self-attention is missing", _mending(start="nothing")),
        "first norm missing": ("The self-attention gets tokens that are not normed", _mending(first_read=False)),
        "post-norm": ("This is post-norm", _post_norm),
        "memory normed": ("with a norm of the decoder", _mending(context="normed")),
        "no context": ("this is self-attention", _mending(context="nothing")),
        "no memory mask": ("The memory's mask has no effect", _mending(real=lambda m: None)),
        "memory mask inverted": ("The memory's mask is inverted", _mending(real=lambda m: ~m)),
        "second norm missing": ("The cross-attention's queries are not normed", _mending(second_reads="raw")),
        "queries of the input": ("come from the layer's input", _mending(second_reads="tokens")),
        "no second residual": ("The residual of the cross-attention is missing", _mending(second_residual=False)),
        "exchanged": ("The two attentions are exchanged", _mending(exchanged=True)),
        "third part stale": ("not what came before it", _mending(third_reads="after_self")),
        "third norm missing": ("The feed-forward network gets tokens", _mending(third_reads="raw")),
        "no third residual": ("of the feed-forward network is missing", _mending(third_residual="nothing")),
        "third residual stale": ("begins before the cross-attention", _mending(third_residual="after_self")),
        "one norm": ("the first was used for all", _mending(one_norm=True)),
    },
)


# --- 4: several tokens at once behind a cache


def chunked(
    layer: MultiHeadAttention,
    tokens: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    mask: Callable[[Tensor, int], Tensor] = lambda m, old: m.tril(old),
    apart: Callable[[Tensor, int], Tensor] = split,
    together: Callable[[Tensor], Tensor] = merge,
    root: Callable[[int, int], float] = lambda depth, width: depth**0.5,
    front: bool = False,
    grown: str = "all",
    of_values: str = "value",
    projected: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The right answer, and with other settings a wrong one."""
    query, key = apart(layer.query(tokens), layer.heads), apart(layer.key(tokens), layer.heads)
    value = key if of_values == "key" else apart(layer.value(tokens), layer.heads)
    key, value = (value, key) if of_values == "exchanged" else (key, value)
    order = -1 if front else 1
    all_keys, all_values = torch.cat([keys, key][::order], dim=2), torch.cat([values, value][::order], dim=2)
    scores = query @ all_keys.transpose(-1, -2) / root(query.shape[-1], layer.width)
    ones = torch.ones(scores.shape[-2:], dtype=torch.bool)
    weights = scores.masked_fill(~mask(ones, keys.shape[2]), -torch.inf).softmax(dim=-1)
    output = together(weights @ all_values)
    returned = {"all": (all_keys, all_values), "new": (key, value), "old": (keys, values)}[grown]
    return *returned, layer.output(output) if projected else output


def _chunking(**settings: Any) -> Answer:
    return functools.partial(chunked, **settings)


CHUNK = mistakes(
    "hw2.cached_chunk",
    "03, 3.5",
    {
        "no mask": ("attend to each other without a mask", _chunking(mask=lambda m, old: m)),
        "no offset": ("forgets the cache", _chunking(mask=lambda m, old: m.tril())),
        "too narrow": ("one place too narrow", _chunking(mask=lambda m, old: m.tril(old - 1))),
        "too wide": ("one place too wide", _chunking(mask=lambda m, old: m.tril(old + 1))),
        "turned round": ("The causal mask is turned round", _chunking(mask=lambda m, old: m.triu(old))),
        "old alone": (
            "the tokens in the cache alone",
            _chunking(mask=lambda m, old: m & (torch.arange(m.shape[1]) < old)),
        ),
        "new alone": (
            "The cache has no effect on the output",
            _chunking(mask=lambda m, old: m.tril(old) & (torch.arange(m.shape[1]) >= old)),
        ),
        "new first": ("The old keys and values stand first", _chunking(front=True)),
        "new returned": ("here they are the new ones alone", _chunking(grown="new")),
        "old returned": ("The cache has not grown", _chunking(grown="old")),
        "values are keys": ("The values that are returned are the keys", _chunking(of_values="key")),
        "keys and values exchanged": ("are made by layer.value", _chunking(of_values="exchanged")),
        "heads by a bare view": ("a bare view", _chunking(apart=bare_view)),
        "heads interleaved": ("a head got every heads-th channel", _chunking(apart=interleaved)),
        "heads back by a bare reshape": ("put back by a bare reshape", _chunking(together=bare_reshape)),
        "no scale": ("The division by sqrt(depth) is missing", _chunking(root=lambda depth, width: 1.0)),
        "scale of the layer": ("not of the layer's", _chunking(root=lambda depth, width: width**0.5)),
        "no output projection": ("The output projection is missing", _chunking(projected=False)),
    },
)


# --- 5: what a cache saves


def _added(
    without: Callable[[int, int], float], with_cache: Callable[[int, int], float], first: int = 1, behind: int = 1
) -> Answer:
    """A cost for step t and width d each, added up over t from `first` to length - 1 + `behind`."""

    def answer(length: int, width: int) -> tuple[float, float]:
        steps = range(first, length + behind)
        return sum(without(t, width) for t in steps), sum(with_cache(t, width) for t in steps)

    return answer


def full(t: int, d: int) -> int:
    return 4 * t * d * d + 2 * t * t * d


def newest(t: int, d: int) -> int:
    return 4 * d * d + 2 * t * d


COST = mistakes(
    "hw2.decoding_cost",
    "03, 3.5",
    {
        "the last step": ("This is the last step alone", lambda n, d: (full(n, d), newest(n, d))),
        "from 0": ("here they were counted from 0", _added(full, newest, first=0, behind=0)),
        "one product": ("are two products", _added(lambda t, d: 4 * t * d * d + t * t * d, newest)),
        "three projections": ("are four projections", _added(lambda t, d: 3 * t * d * d + 2 * t * t * d, newest)),
        "no projections": ("The projections are missing", _added(lambda t, d: 2 * t * t * d, newest)),
        "no products": ("scores and mixture are missing", _added(lambda t, d: 4 * t * d * d, newest)),
        "products of one query": ("the products cost 2 t^2 d", _added(lambda t, d: 4 * t * d * d + 2 * t * d, newest)),
        "half of the table": (
            "not the half below the diagonal",
            _added(lambda t, d: 4 * t * d * d + t * (t + 1) * d, newest),
        ),
        "full length at every step": (
            "Every step has the full length",
            lambda n, d: (n * full(n, d), sum(newest(t, d) for t in range(1, n + 1))),
        ),
        "exchanged": ("the order is without, with", _added(newest, full)),
        "additions as well": ("with its addition counts once", _added(lambda t, d: 2 * full(t, d), newest)),
        "cache: key and value alone": (
            "query and output are projected",
            _added(full, lambda t, d: 2 * d * d + 2 * t * d),
        ),
        "cache: all queries": (
            "With a cache there is one query",
            _added(full, lambda t, d: 4 * d * d + 2 * t * t * d),
        ),
        "cache: all projected": (
            "only the newest token is projected",
            _added(full, lambda t, d: 4 * t * d * d + 2 * t * d),
        ),
        "cache: one key": ("The newest query meets t keys", _added(full, lambda t, d: 4 * d * d + 2 * d)),
    },
)


# --- 6: a sum over heads


def mixtures(
    layer: MultiHeadAttention,
    tokens: Tensor,
    apart: Callable[[Tensor, int], Tensor] = split,
    root: float | None = None,
    axis: int = -1,
) -> Tensor:
    """What the heads return before the output projection, (batch, head, token, dim)."""
    query, key, value = (apart(f(tokens), layer.heads) for f in (layer.query, layer.key, layer.value))
    scores = query @ key.transpose(-1, -2) / (root or math.sqrt(query.shape[-1]))
    return scores.softmax(dim=axis) @ value


def parts(layer: MultiHeadAttention, tokens: Tensor, **settings: Any) -> Tensor:
    """The right answer, and with settings of `mixtures` a wrong one."""
    mixed = mixtures(layer, tokens, **settings)
    weight = layer.output.weight.T.reshape(layer.heads, -1, layer.width)
    return mixed @ weight


PARTS = mistakes(
    "hw2.head_parts",
    "02, 2.3",
    {
        "rows for columns": (
            "a block of *columns*",
            lambda f, x: mixtures(f, x) @ f.output.weight.reshape(f.heads, -1, f.width),
        ),
        "every heads-th column": (
            "column of layer.output.weight was taken",
            lambda f, x: mixtures(f, x) @ rearrange(f.output.weight, "o (d h) -> h d o", h=f.heads),
        ),
        "not projected": ("The heads' mixtures are not yet projected", mixtures),
        "the whole output": ("Every head has the whole output", lambda f, x: f(x)[:, None].repeat(1, f.heads, 1, 1)),
        "divided evenly": (
            "divided evenly among the heads",
            lambda f, x: f(x)[:, None].repeat(1, f.heads, 1, 1) / f.heads,
        ),
        "head and token exchanged": ("The order of the axes", lambda f, x: parts(f, x).transpose(1, 2)),
        "added up": ("are added up already", lambda f, x: parts(f, x).sum(dim=1)),
        "the output without the head": ("the output without each head", lambda f, x: f(x)[:, None] - parts(f, x)),
        "no scale": ("The division by sqrt(depth) is missing", lambda f, x: parts(f, x, root=1.0)),
        "scale of the layer": ("not of the layer's", lambda f, x: parts(f, x, root=f.width**0.5)),
        "heads by a bare view": ("a bare view", lambda f, x: parts(f, x, apart=bare_view)),
        "softmax over queries": ("The softmax is over the keys", lambda f, x: parts(f, x, axis=-2)),
        "values alone": (
            "without the weights",
            lambda f, x: split(f.value(x), f.heads) @ f.output.weight.T.reshape(f.heads, -1, f.width),
        ),
    },
)

MISTAKES = (*PACKED, *PROMPT, *DECODER, *CHUNK, *COST, *PARTS)
