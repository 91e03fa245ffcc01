"""Small Transformers with random weights, sentences for them, and strategies that draw both."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

from xattn_edu.models.transformer import Transformer

several = settings(max_examples=30, derandomize=True)
seeds = st.integers(0, 2**31 - 1)
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=3)  # of the sentences of a batch
WORDS = torch.tensor([[3, 4, 5], [6, 0, 0]])  # ids, with padding


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shaken(module, dtype=torch.float64, seed=0):
    """The module with every parameter random (no bias is zero, no norm the identity), so that it writes many words."""
    for index, (name, parameter) in enumerate(module.to(dtype).named_parameters()):
        scale = 0.1 if name.endswith("bias") else 1.0 if "norm" in name else 0.5 if "embedding" in name else 0.3
        parameter.data = scale * draw(*parameter.shape, seed=(seed + index) % 2**31, dtype=dtype)
    return module.eval()


def small(seed=0, dtype=torch.float64, specials=(0, 1, 2), **changes):
    sizes = {"vocabulary": 9, "width": 8, "depth": 2, "heads": 2, "hidden": 12, "dropout": 0.5}
    sizes |= dict(zip(("pad", "start", "end"), specials))
    return shaken(Transformer(**(sizes | changes)), dtype, seed)


models = st.builds(
    small,
    seed=seeds,
    specials=st.sampled_from([(0, 1, 2), (5, 3, 0)]),
    pre_norm=st.booleans(),
    final_norm=st.sampled_from([None, True, False]),
    heads=st.sampled_from([1, 2, 4]),
    depth=st.integers(1, 2),
    vocabulary=st.integers(6, 9),
)


def sentences(model, lengths, seed=0):
    """Random words, a row for each length, filled up with padding."""
    words = [i for i in range(model.embedding.num_embeddings) if i not in (model.pad, model.start, model.end)]
    chosen = torch.randint(len(words), (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    ids = torch.tensor(words)[chosen]
    for row, length in zip(ids, lengths):
        row[length:] = model.pad
    return ids


def pair(model, lengths, written, seed=0):
    return sentences(model, lengths, seed), sentences(model, [written] * len(lengths), seed + 1)


def close(value, expected, tolerance=1e-9):
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
