"""Checks of the exercises in lesson 7, two scales, one class token."""

import copy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise
from xattn_edu.measure.costs import count
from xattn_edu.models.attention import MultiHeadAttention
from xattn_edu.models.fusions import ClassTokenAttention, CrossAttention, Scales


@exercise
def class_token_attention(answer: Answer) -> str:
    """class_token_attention(class_token, patches, layer): equations (5) to (7) with the parts of `layer`."""
    for batch, width, other_width, heads, count_of_patches in ((2, 6, 8, 2, 5), (1, 8, 4, 4, 1), (3, 8, 8, 2, 4)):
        torch.manual_seed(8)
        layer = ClassTokenAttention(width, other_width, heads).double().eval()
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
        compare(answer(class_token.clone(), patches.clone(), layer), expected, where, causes)
    return "right, equal to the library's, whichever branch is wider"


@exercise
def fusion_macs(answer: Answer) -> str:
    """fusion_macs(widths, patches): multiply-accumulates of one cross-attention fusion, both directions."""
    for widths, grids in (
        ((192, 384), ((20, 20), (14, 14))),
        ((8, 12), ((3, 3), (2, 2))),
        ((16, 16), ((5, 5), (1, 1))),
    ):
        fusion = CrossAttention(Scales(widths, (2, 2), grids), folded=False)
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
        compare(answer(widths, patches), expected, f"widths {widths}, patches {patches}", causes)
    return "right: linear in the patches of both branches"


@exercise
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
        compare(given, layer(tokens, context), where, causes)
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
