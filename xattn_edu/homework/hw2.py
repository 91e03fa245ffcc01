"""Checks of the second graded set: heads, masks, the decoder's cross-attention, the cache of keys and values."""

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu.exercises.guard import Guarded
from xattn_edu.homework.cases import compare_named, compare_steps, different_sizes, several
from xattn_edu.homework.exercise import Exercise
from xattn_edu.models.attention import MultiHeadAttention, causal_mask, merge_heads, split_heads
from xattn_edu.models.transformer import DecoderLayer

Steps = tuple[Tensor, Tensor, Tensor]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _numbers(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def _randomised(module: nn.Module, seed: int) -> Any:
    """The module in 64 bits with no bias at 0 and no norm at 1, where a forgotten one would not show.

    Matrices are of a size that keeps numbers around 1: an answer computes in 32 bits.
    """
    generator = _generator(seed)
    with torch.no_grad():
        for parameter in module.double().parameters():
            size = 1.3 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.5
            parameter.copy_(size * _numbers(generator, *parameter.shape))
    return module.eval()


# --- 1: torch's packed weights


def _packed_attention(answer: Guarded, seed: int) -> str:
    """packed_attention(tokens, context, in_weight, in_bias, out_weight, out_bias, heads, ignored)."""
    batch, n, m, heads, depth = different_sizes(seed, 5, high=7)
    generator, width = _generator(seed), heads * depth
    tokens, context = _numbers(generator, batch, n, width), _numbers(generator, batch, m, width)
    in_weight, in_bias = (1.5 * _numbers(generator, 3 * width, *rest) / width**0.5 for rest in ((width,), ()))
    out_weight, out_bias = (_numbers(generator, width, *rest) / width**0.5 for rest in ((width,), ()))
    ignored = torch.arange(m) >= 1 + torch.arange(batch)[:, None] % m  # one key is real, or two, ...
    arguments = tokens, context, in_weight, in_bias, out_weight, out_bias, heads, ignored
    expected = dict(zip(("query", "weights", "output"), _packed(*arguments)))

    def mistakes() -> dict[str, Steps]:
        return {cause: _packed(*arguments, **settings) for cause, settings in PACKED.items()}

    where = f"batch {batch}, {n} queries, {m} keys, {heads} heads of width {depth}"
    given = answer(*(x.clone() if isinstance(x, Tensor) else x for x in arguments))
    compare_steps(given, expected, where, mistakes)
    return "right, with the weights of torch.nn.MultiheadAttention as they are"


PACKED: dict[str, dict[str, Any]] = {
    "A linear layer is x @ weight.T + bias: here in_weight was not transposed.": {"in_transposed": False},
    "A linear layer is x @ weight.T + bias: here out_weight was not transposed.": {"out_transposed": False},
    "The biases of queries, keys and values are missing.": {"in_bias_used": False},
    "The bias of the output is missing.": {"out_bias_used": False},
    "The output projection is missing.": {"projected": False},
    "The first third of the rows of in_weight makes queries: here the order was key, query, value.": {
        "order": (1, 0, 2)
    },
    "The order of the rows is query, key, value: here keys and values are exchanged.": {"order": (0, 2, 1)},
    "The order of the rows is query, key, value: here the values come first.": {"order": (1, 2, 0)},
    "The last third of the rows of in_weight makes the values: here those of the keys made them.": {"order": (0, 1, 1)},
    "The rows of in_weight come in three blocks: every third row was taken.": {"blocks": False},
    "Heads are separated by a bare view, which cuts across tokens: give the channels two axes, then transpose.": {
        "split": "view"
    },
    "Each head is a block of neighbouring channels: here a head got every heads-th channel.": {"split": "interleaved"},
    "The heads are put back by a bare reshape: transpose head and token first.": {"merge": "view"},
    "The heads are put back in another order of channels: a head's channels stand side by side.": {
        "merge": "interleaved"
    },
    "The division by sqrt(depth) is missing.": {"scale": "none"},
    "The scores are divided by the root of a head's width, not of the layer's.": {"scale": "width"},
    "Divide by the root of a head's width, not by the width itself.": {"scale": "depth"},
    "The query that is returned is not yet divided by sqrt(depth).": {"query_scaled": True},
    "Padding is attended to: `ignored` has no effect.": {"mask": "none"},
    "The mask is inverted: `ignored` is True where a key is padding.": {"mask": "inverted"},
    "The mask is inverted, and rows without a key give 0: `ignored` is True where a key is padding.": {
        "mask": "inverted, zeros"
    },
    "Weights set to zero after the softmax no longer add up to 1: mask the scores.": {"mask": "after"},
    "A masked score must be -inf: a score of 0 still has weight.": {"mask": "zero"},
    "The softmax is over the keys, the last axis: here it was over the queries.": {"softmax": 2},
    "The softmax is over the keys, the last axis: here it was over the heads.": {"softmax": 1},
    "Return the weights of each head: here they were averaged over the heads.": {"averaged": True},
}


def _packed(
    tokens: Tensor,
    context: Tensor,
    in_weight: Tensor,
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    heads: int,
    ignored: Tensor,
    **settings: Any,
) -> Steps:
    """Query, weights and output; right without `settings`, each of which makes a mistake."""
    blocked = settings.get("blocks", True)
    weights, biases = (x.chunk(3) if blocked else [x[i::3] for i in range(3)] for x in (in_weight, in_bias))
    order, transposed = settings.get("order", (0, 1, 2)), settings.get("in_transposed", True)
    projected = []
    for place, source in zip(order, (tokens, context, context)):
        weight = weights[place].mT if transposed else weights[place]
        projected.append(source @ weight + (biases[place] if settings.get("in_bias_used", True) else 0))
    query, key, value = (_split(x, heads, settings.get("split")) for x in projected)
    depth = query.shape[-1]
    root = {"none": 1.0, "width": (heads * depth) ** 0.5, "depth": depth}.get(settings.get("scale", ""), depth**0.5)
    scores, hidden, axis = query @ key.mT / root, ignored[:, None, None], settings.get("softmax", -1)
    given_weights = {
        "none": lambda: scores.softmax(axis),
        "inverted": lambda: scores.masked_fill(~hidden, -torch.inf).softmax(axis),
        "inverted, zeros": lambda: scores.masked_fill(~hidden, -torch.inf).softmax(axis).nan_to_num(0),
        "after": lambda: scores.softmax(axis) * ~hidden,
        "zero": lambda: scores.masked_fill(hidden, 0).softmax(axis),
    }.get(settings.get("mask", ""), lambda: scores.masked_fill(hidden, -torch.inf).softmax(axis))()
    mixed = given_weights @ value
    merged = {
        "view": lambda: mixed.reshape(tokens.shape),
        "interleaved": lambda: mixed.permute(0, 2, 3, 1).reshape(tokens.shape),
    }.get(settings.get("merge", ""), lambda: merge_heads(mixed))()
    if settings.get("projected", True):
        merged = merged @ (out_weight.mT if settings.get("out_transposed", True) else out_weight)
        merged = merged + (out_bias if settings.get("out_bias_used", True) else 0)
    query = query / root if settings.get("query_scaled") else query
    return query, given_weights.mean(dim=1) if settings.get("averaged") else given_weights, merged


def _split(x: Tensor, heads: int, how: str | None = None) -> Tensor:
    batch, token, width = x.shape
    if how == "view":
        return x.reshape(batch, heads, token, width // heads)
    if how == "interleaved":
        return x.reshape(batch, token, width // heads, heads).permute(0, 3, 1, 2)
    return split_heads(x, heads)


# --- 2: a mask for a prompt and what follows it


def _prompt_mask(answer: Guarded, seed: int) -> str:
    """prompt_mask(lengths, prompt, new): True where a query may attend to a key."""
    for lengths, prompt, new in (
        ((2, 4, 5 + seed % 3), 6 + seed % 3, 4),
        ((3, 1), 4 + seed % 2, 3 + seed % 3),
        ((4, 2), 4, 3),
    ):
        n, size = torch.tensor(lengths), prompt + new
        expected, causes = _prompt_causes(n, prompt, size)
        where = f"lengths {list(lengths)}, a prompt of {prompt}, {new} new tokens"
        compare_named(answer(n.clone(), prompt, new), expected, where, causes)
    return "right: the prompt is open to all, padding is closed, the new tokens are causal"


def _prompt_causes(lengths: Tensor, prompt: int, size: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The mask, and those of known mistakes."""
    j, i = torch.arange(size), torch.arange(size)[:, None]
    n = lengths[:, None, None]
    real, new, earlier = j < n, j >= prompt, j <= i
    expected = real | (new & earlier)
    right = {
        "The mask is inverted: True marks a key that the query attends to.": ~expected,
        "Rows are queries, columns are keys: here they are exchanged.": expected.mT,
        "Padding is attended to: `lengths` has no effect.": (j < prompt) | (new & earlier),
        "Padding is attended to: the new tokens begin at `prompt`, not at lengths[b].": real | earlier,
        "The prompt is causal here: all its real keys are open to every query.": (real | new) & earlier,
        "A query must not attend to later new tokens.": real | new,
        "The new tokens are open to one another in both directions: they are causal.": real | (new & (i >= prompt)),
        "The prompt has no effect: its real keys are open to every query.": new & earlier,
        "The new tokens have no effect: a query attends to itself and to earlier new tokens, too.": real,
        "A key is open if it is in the prompt *or* a new token that is not later: no key is both.": (
            real & new & earlier
        ),
        "One padding key is open: the real keys are 0 to lengths[b] - 1.": (j <= n) | (new & earlier),
        "The last real key is masked: the real keys are 0 to lengths[b] - 1.": (j < n - 1) | (new & earlier),
        "A query may attend to itself, too.": real | (new & (j < i)),
        "The first new token has the number `prompt`: here it is closed.": real | ((j > prompt) & earlier),
        "Queries of the padding have a row like all others: only keys are masked.": expected
        & ((i < n) | (i >= prompt)),
        "Each row of the batch has its own length: the first one was used for all.": expected[:1],
        "Each row of the batch has its own length: the largest was used for all.": (j < lengths.max())
        | (new & earlier),
    }
    causes = {cause: mask.expand_as(expected) for cause, mask in right.items()}
    return expected, causes | {"The shape is (batch, query, key): leave out the axis for heads.": expected[:, None]}


# --- 3: a decoder layer to be mended


def _mended_decoder_layer(answer: Guarded, seed: int) -> str:
    """mended_decoder_layer(layer, tokens, memory, memory_mask): behind each of the three parts of a pre-norm layer."""
    batch, target, source, heads, depth = different_sizes(seed, 5, high=6)
    generator, width = _generator(seed), heads * depth
    layer = _randomised(DecoderLayer(width, heads, 2 * width, dropout=0.0, pre_norm=True), seed)
    tokens, memory = _numbers(generator, batch, target, width), _numbers(generator, batch, source, width)
    memory_mask = (torch.arange(source) < source - torch.arange(batch)[:, None] % source)[:, None]
    arguments = layer, tokens, memory, memory_mask
    names = ("after_self", "after_cross", "output")
    expected = dict(zip(names, _decoded(*arguments)))

    def mistakes() -> dict[str, Steps]:
        return {cause: _decoded(*arguments, **settings) for cause, settings in DECODER.items()}

    where = f"batch {batch}, {target} target tokens, {source} source tokens, {heads} heads"
    given = answer(copy.deepcopy(layer), tokens.clone(), memory.clone(), memory_mask.clone())
    compare_steps(given, expected, where, mistakes)
    return "right: all four faults are mended"


DECODER: dict[str, dict[str, Any]] = {
    "A fault is left: a token must not attend to later tokens. The self-attention needs a causal mask.": {
        "causal": "none"
    },
    "The causal mask is turned round: a token attends to itself and to earlier tokens.": {"causal": "later"},
    "A token may attend to itself, too: the causal mask has no True on its diagonal.": {"causal": "strict"},
    "A fault is left: the residual of the self-attention begins at the tokens, not at the normed tokens.": {
        "residual": "normed"
    },
    "The residual of the self-attention is missing.": {"residual": "none"},
    "The self-attention gets tokens that are not normed: pre-norm is x + f(norm(x)).": {"first_normed": False},
    "This is post-norm: pre-norm is x + f(norm(x)).": {"post_norm": True},
    "A fault is left: the memory is used as it is. It was normed with a norm of the decoder.": {"context": "normed"},
    "The cross-attention has no context: this is self-attention.": {"context": "tokens"},
    "The memory's mask has no effect.": {"real": "none"},
    "The memory's mask is inverted: True marks a token that may be attended to.": {"real": "inverted"},
    "The cross-attention's queries are not normed.": {"second_normed": False},
    "The cross-attention's queries come from the layer's input: they come from what the first part returned.": {
        "second_reads": "tokens"
    },
    "The residual of the cross-attention is missing.": {"second_residual": False},
    "The two attentions are exchanged: .cross_attention is for the memory.": {"exchanged": True},
    "A fault is left: the feed-forward network reads what the cross-attention returned, not what came before it.": {
        "third_reads": "after_self"
    },
    "The feed-forward network gets tokens that are not normed.": {"third_normed": False},
    "The residual of the feed-forward network is missing.": {"third_residual": False},
    "The residual of the feed-forward network begins before the cross-attention.": {"third_residual": "after_self"},
    "Each part has its own norm: the first was used for all.": {"one_norm": True},
}


@torch.no_grad()
def _decoded(layer: Any, tokens: Tensor, memory: Tensor, memory_mask: Tensor, **settings: Any) -> Steps:
    """The tokens behind each part; right without `settings`, each of which makes a mistake."""
    norms = [layer.residual1.norm, layer.residual2.norm, layer.residual3.norm]
    first, second, third = [norms[0]] * 3 if settings.get("one_norm") else norms
    itself, across = layer.attention, layer.cross_attention
    itself, across = (across, itself) if settings.get("exchanged") else (itself, across)
    causal = causal_mask(tokens.shape[1])
    eye = torch.eye(tokens.shape[1], dtype=torch.bool)
    mask = {"none": None, "later": causal.mT, "strict": causal & ~eye}.get(settings.get("causal", ""), causal)
    real = {"none": None, "inverted": ~memory_mask}.get(settings.get("real", ""), memory_mask)
    if settings.get("post_norm"):
        after_self = first(tokens + itself(tokens, mask=mask))
        after_cross = second(after_self + across(after_self, memory, real))
        return after_self, after_cross, third(after_cross + layer.feed_forward(after_cross))
    normed = first(tokens)
    mixed = itself(normed if settings.get("first_normed", True) else tokens, mask=mask)
    after_self = {"normed": normed + mixed, "none": mixed}.get(settings.get("residual", ""), tokens + mixed)
    queries = tokens if settings.get("second_reads") else after_self
    queries = second(queries) if settings.get("second_normed", True) else queries
    read = settings.get("context", "")
    context, real = (queries, None) if read == "tokens" else (second(memory) if read == "normed" else memory, real)
    mixed = across(queries, context, real)
    after_cross = after_self + mixed if settings.get("second_residual", True) else mixed
    reads = after_self if settings.get("third_reads") else after_cross
    changed = layer.feed_forward(third(reads) if settings.get("third_normed", True) else reads)
    residual = settings.get("third_residual", True)
    start = after_self if residual == "after_self" else after_cross
    return after_self, after_cross, start + changed if residual else changed


# --- 4: several tokens at once behind a cache


def _cached_chunk(answer: Guarded, seed: int) -> str:
    """cached_chunk(layer, tokens, keys, values): keys and values with the new ones, and the new tokens' output."""
    batch, new, old, heads, depth = different_sizes(seed, 5, low=3, high=8)
    width = heads * depth
    generator, layer = _generator(seed), _randomised(MultiHeadAttention(width, heads), seed)
    text = 2 * _numbers(generator, batch, old + new, width)
    names = ("keys", "values", "output")
    for before, count in ((old, new), (0, new), (old, 1)):
        with torch.no_grad():
            seen = layer.keys_and_values(text[:, :before])
            whole = layer(text[:, : before + count], mask=causal_mask(before + count))[:, before:]
        arguments = layer, text[:, before : before + count], *seen
        expected = dict(zip(names, _chunk(*arguments)))
        torch.testing.assert_close(expected["output"], whole)  # the cache changes nothing
        mistakes = functools.partial(_chunk_mistakes, *arguments)
        where = f"{before} tokens in the cache, {count} new, {heads} heads of width {depth}"
        given = answer(copy.deepcopy(layer), *(x.clone() for x in arguments[1:]))
        compare_steps(given, expected, where, mistakes)
    return "right: as if the whole text had gone through the layer at once"


CHUNK: dict[str, dict[str, Any]] = {
    "The new tokens attend to each other without a mask: a token must not attend to later ones.": {"mask": "none"},
    "The causal mask forgets the cache: new token i stands at place old + i.": {"mask": "no offset"},
    "The causal mask is one place too narrow: a token attends to itself, too.": {"mask": "strict"},
    "The causal mask is one place too wide: a token attends to the one behind it.": {"mask": "wide"},
    "The causal mask is turned round: a new token attends to later tokens, not to earlier ones.": {"mask": "later"},
    "A new token attends to the tokens in the cache alone: it attends to the new ones up to itself, too.": {
        "mask": "old"
    },
    "The cache has no effect on the output: the new tokens attend to the old ones, too.": {"mask": "new"},
    "The old keys and values stand first, the new ones behind them.": {"new_first": True},
    "Return all keys and values, those of the cache included: here they are the new ones alone.": {"grown": "new"},
    "The cache has not grown: append the new tokens' keys and values.": {"grown": "old"},
    "The values that are returned are the keys.": {"of_values": "keys"},
    "The keys that are returned are made by layer.value, the values by layer.key.": {"exchanged": True},
    "Heads are separated by a bare view, which cuts across tokens.": {"split": "view"},
    "Each head is a block of neighbouring channels: here a head got every heads-th channel.": {"split": "interleaved"},
    "The heads are put back by a bare reshape: transpose head and token first.": {"merge": "view"},
    "The division by sqrt(depth) is missing.": {"root": "none"},
    "The scores are divided by the root of a head's width, not of the layer's.": {"root": "width"},
    "Divide by the root of a head's width, not by the width itself.": {"root": "depth"},
    "The output projection is missing.": {"projected": False},
}


def _chunk_mistakes(*arguments: Any) -> dict[str, Steps]:
    return {cause: _chunk(*arguments, **settings) for cause, settings in CHUNK.items()}


@torch.no_grad()
def _chunk(layer: MultiHeadAttention, tokens: Tensor, keys: Tensor, values: Tensor, **settings: Any) -> Steps:
    """Keys, values and output; right without `settings`, each of which makes a mistake."""
    heads, old, new = layer.heads, keys.shape[2], tokens.shape[1]
    make_key, make_value = (layer.value, layer.key) if settings.get("exchanged") else (layer.key, layer.value)
    query, key, value = (_split(f(tokens), heads, settings.get("split")) for f in (layer.query, make_key, make_value))
    value = key if settings.get("of_values") == "keys" else value
    pairs = [(key, keys), (value, values)] if settings.get("new_first") else [(keys, key), (values, value)]
    all_keys, all_values = (torch.cat(pair, dim=2) for pair in pairs)
    ones = torch.ones(new, old + new, dtype=torch.bool)
    place = torch.arange(old + new)
    masks = {
        "none": ones,
        "no offset": ones.tril(),
        "strict": ones.tril(old - 1),
        "wide": ones.tril(old + 1),
        "later": ones.triu(old),
        "old": ones & (place < old),
        "new": ones.tril(old) & (place >= old),
    }
    mask = masks.get(settings.get("mask", ""), ones.tril(old))
    depth = query.shape[-1]
    root = {"none": 1.0, "width": layer.width**0.5, "depth": depth}.get(settings.get("root", ""), depth**0.5)
    weights = (query @ all_keys.mT / root).masked_fill(~mask, -torch.inf).softmax(dim=-1)
    mixed = weights @ all_values
    merged = mixed.reshape(tokens.shape) if settings.get("merge") else merge_heads(mixed)
    output = layer.output(merged) if settings.get("projected", True) else merged
    returned = {"new": (key, value), "old": (keys, values)}.get(settings.get("grown", ""), (all_keys, all_values))
    return *returned, output


# --- 5: what a cache saves


def _decoding_cost(answer: Guarded, seed: int) -> str:
    """decoding_cost(length, width): multiply-accumulates of all steps, without and with a cache."""
    for length, width in ((5, 7), (6 + seed % 4, 11), (1, 4), (100, 64)):
        given = several(answer(length, width), ("without", "with_cache"))
        mistakes = _cost_mistakes(length, width)
        right = _costs(length, width)
        where = f"length {length}, width {width}"
        for number, name in enumerate(("without", "with_cache")):
            if isinstance(given[number], float) and given[number] == right[number]:
                continue  # a whole number all the same
            compare_named(given[number], right[number], f"{name}, {where}", mistakes[number])
    ratios = {(n, w): _costs(n, w)[0] / _costs(n, w)[1] for n, w in ((100, 64), (100, 1024), (1000, 64))}
    measured = "; ".join(f"{n} tokens of width {w}: {ratio:.0f} times fewer" for (n, w), ratio in ratios.items())
    return f"right. With a cache, {measured}"


def _costs(length: int, width: int) -> tuple[int, int]:
    steps = range(1, length + 1)
    without = sum(4 * t * width**2 + 2 * t**2 * width for t in steps)
    return without, sum(4 * width**2 + 2 * t * width for t in steps)


def _cost_mistakes(length: int, width: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """For the cost without and with the cache: explanations and the results of the mistakes."""
    steps, squared = range(1, length + 1), width**2
    sum1, sum2 = sum(steps), sum(t * t for t in steps)
    last_only = "This is the last step alone: add the steps up."
    from_zero = "Step t has t tokens, t = 1 to length: here they were counted from 0."
    one_product = "Scores and mixture are two products: 2 N^2 d in section 1.8."
    projections = "Queries, keys, values and output are four projections."
    without = {
        last_only: 4 * length * squared + 2 * length**2 * width,
        from_zero: 4 * squared * (sum1 - length) + 2 * width * sum(t * t for t in range(length)),
        one_product: 4 * squared * sum1 + width * sum2,
        projections: 3 * squared * sum1 + 2 * width * sum2,
        "The projections are missing.": 2 * width * sum2,
        "The two products of scores and mixture are missing.": 4 * squared * sum1,
        "Without a cache all t tokens have queries: the products cost 2 t^2 d.": 4 * squared * sum1 + 2 * width * sum1,
        "Count the full table of t x t, as the layer computes it, not the half below the diagonal.": (
            4 * squared * sum1 + width * (sum2 + sum1)
        ),
        "Every step has the full length here: step t has t tokens.": length
        * (4 * length * squared + 2 * length**2 * width),
        "This is the cost with the cache: the order is without, with.": 4 * squared * length + 2 * width * sum1,
        "A multiplication with its addition counts once.": 2 * (4 * squared * sum1 + 2 * width * sum2),
    }
    with_cache = {
        last_only: 4 * squared + 2 * length * width,
        from_zero: 4 * squared * length + 2 * width * (sum1 - length),
        one_product: 4 * squared * length + width * sum1,
        projections: 3 * squared * length + 2 * width * sum1,
        "Of the newest token, query and output are projected as well as key and value.": (
            2 * squared * length + 2 * width * sum1
        ),
        "The two products of scores and mixture are missing.": 4 * squared * length,
        "The projections are missing.": 2 * width * sum1,
        "With a cache there is one query: the products of step t cost 2 t d.": 4 * squared * length + 2 * width * sum2,
        "With a cache only the newest token is projected, not all t.": 4 * squared * sum1 + 2 * width * sum1,
        "The newest query meets t keys: the products of step t cost 2 t d, not 2 d.": (
            4 * squared * length + 2 * width * length
        ),
        "A multiplication with its addition counts once.": 2 * (4 * squared * length + 2 * width * sum1),
    }
    return without, with_cache


# --- 6: a sum over heads


def _head_parts(answer: Guarded, seed: int) -> str:
    """head_parts(layer, tokens): what each head adds to the output, (batch, head, token, width)."""
    batch, token, heads, depth = different_sizes(seed, 4, high=7)
    width = heads * depth
    layer = _randomised(MultiHeadAttention(width, heads, bias=False), seed)
    tokens = 1.5 * _numbers(_generator(seed), batch, token, width)
    with torch.no_grad():
        query, key, value = (split_heads(f(tokens), heads) for f in (layer.query, layer.key, layer.value))
        mixed = (query @ key.mT / depth**0.5).softmax(dim=-1) @ value
        blocks = layer.output.weight.reshape(width, heads, depth)  # (out, head, channel of the head)
        expected = torch.einsum("bhtd,ohd->bhto", mixed, blocks)
        torch.testing.assert_close(expected.sum(dim=1), layer(tokens))
        causes = _part_mistakes(layer, tokens, mixed, expected)
    where = f"batch {batch}, {token} tokens, {heads} heads of width {depth}"
    given = answer(copy.deepcopy(layer), tokens.clone())
    compare_named(given, expected, where, causes)
    return "right: the layer's output is the sum of its heads' parts"


def _part_mistakes(
    layer: MultiHeadAttention, tokens: Tensor, mixed: Tensor, expected: Tensor
) -> dict[str, Tensor | None]:
    heads, depth, weight = layer.heads, mixed.shape[-1], layer.output.weight
    width = layer.width
    whole = layer(tokens)
    query, key, value = (split_heads(f(tokens), heads) for f in (layer.query, layer.key, layer.value))

    def projected(mixture: Tensor) -> Tensor:
        return torch.einsum("bhtd,ohd->bhto", mixture, weight.reshape(width, heads, depth))

    def attended(root: float) -> Tensor:
        return projected((query @ key.mT / root).softmax(dim=-1) @ value)

    viewed = (_split(f(tokens), heads, "view") for f in (layer.query, layer.key, layer.value))
    vq, vk, vv = viewed
    return {
        "W_O is x @ weight.T: a head's channels meet a block of *columns* of layer.output.weight, not of rows.": (
            torch.einsum("bhtd,hdo->bhto", mixed, weight.reshape(heads, depth, width))
        ),
        "A head's channels are a block of neighbours: every heads-th column of layer.output.weight was taken.": (
            torch.einsum("bhtd,odh->bhto", mixed, weight.reshape(width, depth, heads))
        ),
        "The heads' mixtures are not yet projected: each part is as wide as the layer.": mixed,
        "Every head has the whole output: take each head's own part.": whole[:, None].expand_as(expected),
        "The output was divided evenly among the heads: take each head's own part.": whole[:, None].expand_as(expected)
        / heads,
        "The order of the axes is (batch, head, token, width).": expected.transpose(1, 2),
        "The heads' parts are added up already: return them apart.": expected.sum(dim=1),
        "This is the output without each head: the head's own part is what is missing in it.": whole[:, None]
        - expected,
        "The sign: a head's part is what it adds to the output.": -expected,
        "The parts are added, not averaged: do not divide by the number of heads.": expected / heads,
        "The division by sqrt(depth) is missing.": attended(1.0),
        "The scores are divided by the root of a head's width, not of the layer's.": attended(width**0.5),
        "Heads are separated by a bare view, which cuts across tokens.": projected(
            (vq @ vk.mT / depth**0.5).softmax(dim=-1) @ vv
        ),
        "The softmax is over the keys, the last axis.": projected(
            (query @ key.mT / depth**0.5).softmax(dim=-2) @ value
        ),
        "The values went through W_O without the weights.": projected(value),
    }


EXERCISES: dict[str, Exercise] = {
    "packed_attention": Exercise(_packed_attention, "packed_attention", 20, 2, 25, "02, 2.3"),
    "prompt_mask": Exercise(_prompt_mask, "prompt_mask", 13, 1, 15, "03, 3.4"),
    "mended_decoder_layer": Exercise(_mended_decoder_layer, "mended_decoder_layer", 18, 2, 20, "03, 3.3"),
    "cached_chunk": Exercise(_cached_chunk, "cached_chunk", 20, 3, 25, "03, 3.5"),
    "decoding_cost": Exercise(_decoding_cost, "decoding_cost", 8, 1, 15, "03, 3.5"),
    "head_parts": Exercise(_head_parts, "head_parts", 12, 2, 15, "02, 2.3"),
}
