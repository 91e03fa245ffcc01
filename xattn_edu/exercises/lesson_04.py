"""Checks of the exercises in lesson 4, other attentions."""

import torch
from torch import Tensor
from torch.nn import functional as F

from xattn_edu.exercises.checking import Answer, Wrong, close, compare, exercise


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
            "The ReLU stands between the two layers, not before them.": (mean.relu() @ w1 @ w2).sigmoid(),
            "Between the two layers stands a ReLU, not a sigmoid.": ((mean @ w1).sigmoid() @ w2).sigmoid(),
            "The gate ends in a sigmoid, from 0 to 1, not in a tanh.": excited.tanh(),
            "The squeeze is a mean over the tokens, not their sum.": ((total @ w1).relu() @ w2).sigmoid(),
            "The squeeze is the mean, not the largest value.": ((largest @ w1).relu() @ w2).sigmoid(),
        }
        given = answer(tokens.clone(), w1.clone(), w2.clone())
        if isinstance(given, Tensor) and given.shape == tokens.shape:
            gated = close(given, tokens * excited.sigmoid())
            hint = "return the gate itself, not the gated tokens" if gated else "first take the mean over the tokens"
            raise Wrong(f"it has the tokens' shape {tuple(given.shape)}: {hint}")
        if isinstance(given, Tensor) and given.shape == (batch, width):
            raise Wrong(
                f"shape {tuple(given.shape)}: keep the pooled axis, (batch, 1, width), so that the gate multiplies the "
                "tokens (keepdim=True)"
            )
        where = f"{batch} image{'s' * (batch > 1)}, {token} tokens, width {width}"
        compare(given, excited.sigmoid(), where, causes)
    return "right: one gate for each channel, the same at every place"


@exercise
def linear_attention(answer: Answer) -> str:
    """linear_attention(q, k, v): the normalised product phi(q) (phi(k)^T v), phi(x) = elu(x) + 1."""
    for batch, queries, keys, dim, width in ((2, 3, 5, 4, 4), (1, 6, 6, 3, 5), (3, 1, 4, 8, 2)):
        generator = torch.Generator().manual_seed(keys)
        q, k = (torch.randn(batch, n, dim, generator=generator, dtype=torch.double) for n in (queries, keys))
        v = torch.randn(batch, keys, width, generator=generator, dtype=torch.double)
        phi_q, phi_k = (F.elu(x) + 1 for x in (q, k))
        scores = phi_q @ phi_k.mT
        product = phi_q @ (phi_k.mT @ v)
        expected = product / scores.sum(dim=-1, keepdim=True)
        plain = q @ k.mT
        causes = {
            "The division is missing: the weights of a query must sum to 1.": product,
            "The division is by the sum over the keys, not by their number.": product / keys,
            "phi is elu + 1, so that no weight is negative.": _normalised(F.elu(q) @ F.elu(k).mT) @ v,
            "phi is missing: these are the raw products.": _normalised(plain) @ v,
            "This is softmax attention.": (plain / dim**0.5).softmax(dim=-1) @ v,
            "The keys pass through phi, too.": _normalised(phi_q @ k.mT) @ v,
            "The queries pass through phi, too.": _normalised(q @ phi_k.mT) @ v,
        }
        where = f"{queries} quer{'y' if queries == 1 else 'ies'}, {keys} keys, width {dim}"
        compare(answer(q.clone(), k.clone(), v.clone()), expected, where, causes)
    return "right: if you multiplied from the right, no table of queries x keys was made"


def _normalised(scores: Tensor) -> Tensor:
    return scores / scores.sum(dim=-1, keepdim=True)


@exercise
def pooled_lead(answer: Answer) -> str:
    """pooled_lead(groups, one, other, t): the lead of one mean over another, and the half-width of its interval."""
    sets = (
        {"a": [84.0, 85.0, 86.0], "b": [85.5, 86.0, 87.5], "c": [80.0, 80.2, 81.0]},
        {"a": [1.0, 2.0], "b": [4.0, 7.0], "c": [3.0, 3.5], "d": [9.0, 9.0]},
        {"a": [50.0, 52.0, 51.0, 55.0], "b": [49.0, 48.0, 53.0, 50.0]},
    )
    for groups in sets:
        t = 2.5
        counts, means = len(groups["a"]), {name: sum(values) / len(values) for name, values in groups.items()}
        squares = {name: sum((x - means[name]) ** 2 for x in values) for name, values in groups.items()}
        lead, degrees = means["b"] - means["a"], len(groups) * (counts - 1)
        pooled = (sum(squares.values()) / degrees) ** 0.5
        half = t * pooled * (2 / counts) ** 0.5
        two_only = t * ((squares["a"] + squares["b"]) / (2 * (counts - 1))) ** 0.5 * (2 / counts) ** 0.5
        causes = {
            "The lead is the first named less the second.": (-lead, half),
            "Both means are uncertain: sqrt(2 / n), not sqrt(1 / n).": (lead, half / 2**0.5),
            "The deviation is that of a run; a mean of n runs has less.": (lead, half * counts**0.5),
            "Pool all groups, not only the two that are compared.": (lead, two_only),
            "Divide the squares by groups x (n - 1): each group has its own mean.": (
                lead,
                half * (degrees / (len(groups) * counts)) ** 0.5,
            ),
            "The interval is t times the standard error.": (lead, half / t),
            "The half-width has the unit of the lead: take the root.": (lead, t * pooled**2 * (2 / counts) ** 0.5),
        }
        given = answer({name: list(values) for name, values in groups.items()}, "b", "a", t)
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise Wrong(f"return two numbers, lead and half-width, given {type(given).__name__}")
        known = {cause: torch.tensor(pair, dtype=torch.double) for cause, pair in causes.items()}
        found = torch.tensor([float(number) for number in given], dtype=torch.double)
        expected = torch.tensor((lead, half), dtype=torch.double)
        compare(found, expected, f"{len(groups)} groups of {counts} runs", known)
    return "right: one deviation from all runs, and the uncertainty of both means"
