"""Checks of the exercises in lesson 4, other attentions."""

import torch
from torch import Tensor

from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise
from xattn_edu.models.layers import MLP


@exercise
def channel_gate(answer: Answer) -> str:
    """channel_gate(tokens, w1, w2): squeeze-and-excitation's gate, one number in 0..1 for each image and channel."""
    for batch, token, width, hidden in ((2, 5, 5, 2), (1, 4, 8, 2), (3, 6, 4, 4)):
        generator = torch.Generator().manual_seed(token)
        tokens = torch.randn(batch, token, width, generator=generator)
        w1, w2 = (torch.randn(*shape, generator=generator) for shape in ((width, hidden), (hidden, width)))
        mean, total, largest = (squeeze(dim=1, keepdim=True) for squeeze in (tokens.mean, tokens.sum, tokens.amax))
        excited = (mean @ w1).relu() @ w2
        without_relu = mean @ w1 @ w2
        causes = {
            "The sigmoid is missing.": excited,
            "The ReLU is missing.": without_relu.sigmoid(),
            "The ReLU stands between the two layers, not behind them.": without_relu.relu().sigmoid(),
            "Each channel has its own number between 0 and 1: sigmoid, not softmax.": excited.softmax(dim=-1),
            "The squeeze is a mean over the tokens, not their sum.": ((total @ w1).relu() @ w2).sigmoid(),
            "The squeeze is the mean, not the largest value.": ((largest @ w1).relu() @ w2).sigmoid(),
        }
        given = answer(tokens.clone(), w1.clone(), w2.clone())
        if isinstance(given, Tensor) and given.shape == tokens.shape:
            raise Wrong(
                f"it has the tokens' shape {tuple(given.shape)}: first take the mean over the tokens, and return the "
                "gate itself, not the gated tokens"
            )
        if isinstance(given, Tensor) and given.shape == (batch, width):
            raise Wrong(
                f"shape {tuple(given.shape)}: keep the pooled axis, (batch, 1, width), so that the gate multiplies the "
                "tokens (keepdim=True)"
            )
        where = f"{batch} image{'s' * (batch > 1)}, {token} tokens, width {width}"
        compare(given, excited.sigmoid(), where, causes)
    return "right: one gate for each channel, the same at every place"


@exercise
def token_mixing(answer: Answer) -> str:
    """token_mixing(tokens, mlp): the MLP along the tokens, each channel by itself."""
    for batch, token, width in ((1, 6, 3), (2, 4, 4), (3, 5, 8)):
        torch.manual_seed(7)
        mlp = MLP(token, 2 * token).double()
        tokens = torch.randn(batch, token, width, dtype=torch.double)
        mixed = mlp(tokens.transpose(1, 2))
        expected = mixed.transpose(1, 2)
        reshaped = mlp(tokens.reshape(batch, width, token)).reshape(tokens.shape)
        causes = {
            "reshape does not exchange axes, it cuts across tokens: transpose.": reshaped,
            "The first step is a transpose, the last a reshape: transpose both times.": mixed.reshape(tokens.shape),
            "The residual belongs to the block, not to the mixing.": tokens + expected,
        }
        given = answer(tokens.clone(), mlp)
        if isinstance(given, Tensor) and given.shape == mixed.shape != tokens.shape:
            raise Wrong(f"shape {tuple(given.shape)}: transpose back, the output is (batch, token, width)")
        compare(given, expected, f"{batch} image{'s' * (batch > 1)}, {token} tokens, width {width}", causes)
    return "right: one MLP along the tokens for all channels"


@exercise
def product_macs(answer: Answer) -> str:
    """product_macs(queries, keys, width): multiply-accumulates of the two products of attention."""
    for queries, keys, width in ((1, 197, 384), (49, 49, 64), (900, 20, 128)):
        expected = 2 * queries * keys * width
        added = 2 * (queries + keys) * width
        causes = {
            "There are two products: q k^T and A v.": expected // 2,
            "A multiply-add counts once, as in the papers.": 2 * expected,
            "Each query meets each key: queries x keys, not queries squared.": 2 * queries**2 * width,
            "Each query meets each key: queries x keys, not keys squared.": 2 * keys**2 * width,
            "Each query meets each key: multiply their numbers, do not add them.": added,
            "Each score is a dot product over the channels.": 2 * queries * keys,
            "The projections do not belong to the two products.": expected + added * width,
        }
        where = f"{queries} quer{'y' if queries == 1 else 'ies'}, {keys} keys, width {width}"
        compare(answer(queries, keys, width), expected, where, causes)
    return "right: linear in the keys for one query, quadratic in self-attention"
