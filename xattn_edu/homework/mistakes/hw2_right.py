"""Right answers to the second graded set, written in other ways than the source's."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.homework.mistakes.hw2 import Answer, chunked, decoded, full, newest, packed, parts, prompt_rule
from xattn_edu.homework.mistakes.mistake import different
from xattn_edu.models.attention import MultiHeadAttention, causal_mask, merge_heads, split_heads
from xattn_edu.models.transformer import DecoderLayer


def _packed_by_torch(
    tokens: Tensor,
    context: Tensor,
    in_weight: Tensor,
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    heads: int,
    ignored: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    width = tokens.shape[-1]
    layer = nn.MultiheadAttention(width, heads, batch_first=True, dtype=tokens.dtype)
    state = {"in_proj_weight": in_weight, "in_proj_bias": in_bias}
    layer.load_state_dict(state | {"out_proj.weight": out_weight, "out_proj.bias": out_bias})
    output, weights = layer(tokens, context, context, key_padding_mask=ignored, average_attn_weights=False)
    query = F.linear(tokens, in_weight[:width], in_bias[:width])
    return split_heads(query, heads), weights, output


def _packed_head_by_head(
    tokens: Tensor,
    context: Tensor,
    in_weight: Tensor,
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    heads: int,
    ignored: Tensor,
) -> list[Tensor]:
    width = tokens.shape[-1]
    depth, output, queries, tables = width // heads, out_bias, [], []
    for h in range(heads):
        rows = [slice(part * width + h * depth, part * width + (h + 1) * depth) for part in range(3)]
        q, k, v = (F.linear(x, in_weight[r], in_bias[r]) for x, r in zip((tokens, context, context), rows))
        scores = torch.einsum("bnd,bmd->bnm", q, k) / depth**0.5
        weights = torch.where(ignored[:, None], torch.tensor(float("-inf")), scores).softmax(dim=2)
        output = output + weights @ v @ out_weight[:, h * depth : (h + 1) * depth].T
        queries.append(q)
        tables.append(weights)
    return [torch.stack(queries, dim=1), torch.stack(tables, dim=1), output]


def _prompt_by_loops(lengths: Tensor, prompt: int, new: int) -> Tensor:
    mask = torch.zeros(len(lengths), prompt + new, prompt + new, dtype=torch.bool)
    for b, length in enumerate(lengths.tolist()):
        mask[b, :, :length] = True
        for i in range(prompt, prompt + new):
            mask[b, i, prompt : i + 1] = True
    return mask


def _prompt_in_blocks(lengths: Tensor, prompt: int, new: int) -> Tensor:
    left = (torch.arange(prompt) < lengths[:, None])[:, None].expand(-1, prompt + new, -1)
    right = torch.cat([torch.zeros(prompt, new), torch.ones(new, new).tril()]).bool()
    return torch.cat([left, right.expand(len(lengths), -1, -1)], dim=2)


def _prompt_by_padding(lengths: Tensor, prompt: int, new: int) -> Tensor:
    """A mask that is causal behind the prompt, less the padding."""
    place = torch.arange(prompt + new)
    open_to = torch.maximum(place, torch.tensor(prompt - 1))[:, None] >= place
    padding = (place >= lengths[:, None]) & (place < prompt)
    return open_to & ~padding[:, None]


def _decoded_by_the_library(
    layer: DecoderLayer, tokens: Tensor, memory: Tensor, memory_mask: Tensor
) -> tuple[Tensor, ...]:
    mask = causal_mask(tokens.shape[1])
    after_self = tokens + layer.attention(layer.residual1.norm(tokens), mask=mask)
    after_cross = after_self + layer.cross_attention(layer.residual2.norm(after_self), memory, memory_mask)
    return after_self, after_cross, layer(tokens, memory, mask, memory_mask)[0]


def _decoded_with_dropout_in_place(
    layer: DecoderLayer, tokens: Tensor, memory: Tensor, memory_mask: Tensor
) -> list[Tensor]:
    steps = []
    x = tokens
    mask = torch.arange(x.shape[1])[:, None] >= torch.arange(x.shape[1])
    for residual, f in (
        (layer.residual1, lambda y: layer.attention(y, None, mask[None])),
        (layer.residual2, lambda y: layer.cross_attention(y, memory, memory_mask.expand(-1, y.shape[1], -1))),
        (layer.residual3, layer.feed_forward),
    ):
        x = x + residual.drop(f(residual.norm(x)))
        steps.append(x)
    return steps


def _chunk_by_the_library(
    layer: MultiHeadAttention, tokens: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    key, value = layer.keys_and_values(tokens)
    key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
    mask = torch.ones(1, tokens.shape[1], key.shape[2], dtype=torch.bool).tril(keys.shape[2])
    return key, value, layer(tokens, mask=mask, keys_values=(key, value))


def _chunk_token_by_token(layer: MultiHeadAttention, tokens: Tensor, keys: Tensor, values: Tensor) -> list[Tensor]:
    outputs = []
    for t in range(tokens.shape[1]):
        query, key, value = (
            split_heads(f(tokens[:, t : t + 1]), layer.heads) for f in (layer.query, layer.key, layer.value)
        )
        keys, values = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        weights = (query @ keys.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
        outputs.append(layer.output(merge_heads(weights @ values)))
    return [keys, values, torch.cat(outputs, dim=1)]


def _chunk_into_zeros(
    layer: MultiHeadAttention, tokens: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, old, depth = keys.shape
    all_keys, all_values = (torch.zeros(batch, heads, old + tokens.shape[1], depth) for _ in range(2))
    all_keys[:, :, :old], all_values[:, :, :old] = keys, values
    all_keys[:, :, old:] = split_heads(layer.key(tokens), heads)
    all_values[:, :, old:] = split_heads(layer.value(tokens), heads)
    mask = torch.arange(old + tokens.shape[1]) <= old + torch.arange(tokens.shape[1])[:, None]
    query = split_heads(layer.query(tokens), heads)
    mixed = F.scaled_dot_product_attention(query, all_keys, all_values, attn_mask=mask)
    return all_keys, all_values, layer.output(merge_heads(mixed))


def _cost_in_closed_form(length: int, width: int) -> tuple[int, int]:
    n, d = length, width
    without = 2 * n * (n + 1) * d * d + n * (n + 1) * (2 * n + 1) * d // 3
    return without, 4 * n * d * d + n * (n + 1) * d


def _cost_in_floats(length: int, width: int) -> list[float]:
    t = torch.arange(1, length + 1, dtype=torch.float64)
    return [float((4 * t * width**2 + 2 * t**2 * width).sum()), float((4 * width**2 + 2 * t * width).sum())]


def _cost_step_by_step(length: int, width: int) -> tuple[int, int]:
    without = with_cache = 0
    for t in range(1, length + 1):
        without, with_cache = without + full(t, width), with_cache + newest(t, width)
    return without, with_cache


def _parts_by_removal(layer: MultiHeadAttention, tokens: Tensor) -> Tensor:
    """A head's part is what is left if the channels of all other heads are set to zero."""
    query, key, value = (split_heads(f(tokens), layer.heads) for f in (layer.query, layer.key, layer.value))
    mixed = F.scaled_dot_product_attention(query, key, value)
    kept = torch.eye(layer.heads, dtype=mixed.dtype)[:, None, :, None, None] * mixed
    return torch.stack([layer.output(merge_heads(one)) for one in kept], dim=1)


def _parts_by_einsum(layer: MultiHeadAttention, tokens: Tensor) -> Tensor:
    depth = layer.width // layer.heads
    found = []
    for h in range(layer.heads):
        c = slice(h * depth, (h + 1) * depth)
        q, k, v = (f(tokens)[..., c] for f in (layer.query, layer.key, layer.value))
        weights = (q @ k.mT * depth**-0.5).softmax(-1)
        found.append(torch.einsum("bnm,bmd,od->bno", weights, v, layer.output.weight[:, c]))
    return torch.stack(found, 1)


def _parts_by_differences(layer: MultiHeadAttention, tokens: Tensor) -> Tensor:
    """What the whole output loses without the head's values."""
    whole, depth, found = layer(tokens), layer.width // layer.heads, []
    key, value = layer.keys_and_values(tokens)
    for h in range(layer.heads):
        others = value * (torch.arange(layer.heads) != h)[None, :, None, None]
        found.append(whole - layer(tokens, keys_values=(key, others)))
    return torch.stack(found, dim=1).reshape(len(tokens), -1, tokens.shape[1], depth * layer.heads)


RIGHT: dict[str, dict[str, Answer]] = {
    "packed_attention": {
        "by torch's layer": _packed_by_torch,
        "head by head": _packed_head_by_head,
        "by matrices": packed,
    },
    "prompt_mask": {
        "by loops": _prompt_by_loops,
        "in blocks": _prompt_in_blocks,
        "less the padding": _prompt_by_padding,
        "by a rule": prompt_rule,
    },
    "mended_decoder_layer": {
        "the last step by the library": _decoded_by_the_library,
        "in a loop, with dropout": _decoded_with_dropout_in_place,
        "line by line": decoded,
    },
    "cached_chunk": {
        "by the library": _chunk_by_the_library,
        "token by token": _chunk_token_by_token,
        "into zeros, fused": _chunk_into_zeros,
        "by matrices": chunked,
    },
    "decoding_cost": {
        "in closed form": _cost_in_closed_form,
        "in floats": _cost_in_floats,
        "step by step": _cost_step_by_step,
    },
    "head_parts": {
        "the other heads removed": _parts_by_removal,
        "head by head": _parts_by_einsum,
        "by differences": _parts_by_differences,
        "by blocks of the matrix": parts,
    },
}
DIFFERENT = different("hw2", RIGHT)
