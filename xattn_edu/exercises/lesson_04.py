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
        compare(given, expected, f"{batch} images, {token} tokens, width {width}", causes)
    return "right: one gate for each channel, the same at every place"


@exercise
def token_mixing(answer: Answer) -> str:
    """token_mixing(tokens, mlp): the MLP along the tokens, each channel by itself."""
    for batch, token, width in ((1, 6, 3), (2, 4, 4), (3, 5, 8)):
        torch.manual_seed(7)
        mlp = MLP(token, 2 * token).double()
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
        compare(answer(tokens.clone(), mlp), mixed.transpose(1, 2), where, causes)
    return "right: one MLP along the tokens for all channels"


@exercise
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
        compare(answer(queries, keys, width), expected, f"{queries} queries, {keys} keys, width {width}", causes)
    return "right: linear in the keys for one query, quadratic in self-attention"
