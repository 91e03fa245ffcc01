"""Checks of the exercises in lesson 7, two scales, one class token."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from xattn_edu.exercises.altered import (
    with_one_head,
    with_scaled_query,
    with_transposed_weight,
    without_bias,
    without_output_projection,
)
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
        where = f"class token {width} wide, {count_of_patches} patches {other_width} wide, {heads} heads"
        expected, _ = layer(class_token, patches)
        causes = _class_token_causes(layer, class_token, patches)
        compare(answer(class_token.clone(), patches.clone(), layer), expected, where, causes)
    return "right, equal to the library's, whichever branch is wider"


def _class_token_causes(layer: ClassTokenAttention, class_token: Tensor, patches: Tensor) -> dict[str, Tensor]:
    attention: Any = layer.attentions[0]
    f, norm, g = layer.project, layer.norms[0], layer.back
    projected = f(class_token)  # f(x_cls), the one query
    context = torch.cat([projected, patches], dim=1)
    normed = norm(context)
    query = normed[:, :1]
    attended = attention(query, normed)

    unscaled = with_scaled_query(attention, (attention.width / attention.heads) ** 0.5)(query, normed)
    scaled_by_width = with_scaled_query(attention, attention.heads**-0.5)(query, normed)
    one_head = with_one_head(attention)(query, normed)
    not_projected = without_output_projection(attention)(query, normed)
    causes = {
        "The query, too, is normalised: it is the first token of LN(x').": g(projected + attention(projected, normed)),
        "Keys and values are normalised: the context is LN(x').": g(projected + attention(query, context)),
        "The LayerNorm before the attention is missing.": g(projected + attention(projected, context)),
        "The class token is a key, too: x' = [f(x_cls) || patches].": g(projected + attention(query, norm(patches))),
        "The residual adds f(x_cls) itself, not its LayerNorm.": g(query + attended),
        "The residual is missing: y = f(x_cls) + ...": g(attended),
        "The result replaces the class token: nothing is added to it.": class_token + g(projected + attended),
        "d is the width of a head, C/h, not of the layer.": g(projected + scaled_by_width),
        "The division by sqrt(C/h) is missing.": g(projected + unscaled),
        "The heads were not kept apart.": g(projected + one_head),
        "The output projection of the attention is missing.": g(projected + not_projected),
    }
    if class_token.shape[-1] == patches.shape[-1]:
        without_f = norm(torch.cat([class_token, patches], dim=1))
        causes["The way back, g, is missing."] = projected + attended
        causes["The class token goes through f first."] = g(class_token + attention(without_f[:, :1], without_f))
    return causes


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
        causes = _fusion_causes(expected, widths, patches)
        compare(answer(widths, patches), expected, f"widths {widths}, patches {patches}", causes)
    return "right: linear in the patches of both branches"


def _fusion_causes(expected: int, widths: tuple[int, int], patches: tuple[int, ...]) -> dict[str, int]:
    sides = list(zip(widths, patches))
    f_and_g = 2 * widths[0] * widths[1]  # of one direction
    projection_of_query = sum(width**2 for width, _ in sides)
    projection_of_keys = sum((1 + n) * width**2 for width, n in sides)
    one_product = sum((1 + n) * width for width, n in sides)
    class_token_as_key = sum(2 * width**2 + 2 * width for width, _ in sides)
    patches_as_queries = sum(2 * n * width**2 + 2 * (1 + n) * n * width for width, n in sides)
    causes = {
        "The class token is a key, too: 1 + patches of them.": expected - class_token_as_key,
        "f and g of both directions are missing.": expected - 2 * f_and_g,
        "f and g stand in both directions.": expected - f_and_g,
        "The query and the output have their projections, too.": expected - 2 * projection_of_query,
        "The query has its projection, too (or the output).": expected - projection_of_query,
        "There are two products: q k^T and A v.": expected - one_product,
        "Both are projected: keys and values.": expected - projection_of_keys,
        "Only the class token is a query: one query, not one for each token.": expected + patches_as_queries,
        "A multiply-add counts once, as in the papers.": 2 * expected,
    }
    for branch, (width, n) in zip("LS", sides):
        alone = f_and_g + 2 * (2 + n) * width**2 + 2 * (1 + n) * width
        causes[f"A fusion has two directions: this is the one whose query comes from {branch}."] = alone
    return causes


@exercise
def folded_attention(answer: Answer) -> str:
    """folded_attention(layer, tokens, context): cross-attention that forms no key and no value."""
    for batch, n, m, width, heads in ((2, 1, 40, 8, 2), (1, 2, 60, 16, 2), (2, 1, 50, 8, 1)):
        torch.manual_seed(9)
        layer = MultiHeadAttention(width, heads).double()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.4)
        tokens, context = (torch.randn(batch, number, width, dtype=torch.double) for number in (n, m))
        where = f"{n} quer{'y' if n == 1 else 'ies'}, {m} keys, {heads} head{'s' * (heads > 1)}"
        k_transposed, v_transposed = (with_transposed_weight(layer, name) for name in ("key", "value"))
        mistakes = {
            "The division by sqrt(C/h) is missing.": with_scaled_query(layer, (width / heads) ** 0.5),
            "d is the width of a head, C/h, not of the layer.": with_scaled_query(layer, heads**-0.5),
            "Each head has its own folded query: the heads were not kept apart.": with_one_head(layer),
            "The values' bias is missing: add it after the sum.": without_bias(layer, "value"),
            "The query has a bias, too.": without_bias(layer, "query"),
            "W_k is transposed: layer.key.weight has a row for each channel of the keys.": k_transposed,
            "W_v is transposed: layer.value.weight has a row for each channel of the values.": v_transposed,
            "The output projection is missing.": without_output_projection(layer),
        }
        causes = {cause: mistaken(tokens, context) for cause, mistaken in mistakes.items()}
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
