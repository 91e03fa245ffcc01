"""A small BERT saved as transformers saves it, its words, and its equations written a second time."""

import torch
from torch.nn import functional as F

WORDS = "the small red car left of closest to tree second from T-shirt café".split()
KOREAN = "왼쪽에서 두 번째 자동차 가장 큰 나무".split()
SENTENCES = ["the small red car", "the tree", "the car left of the small red tree", "trees to the left"]


def shaken(module, seed=0):
    """Every parameter random, so that no bias and no norm hides what it does."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def save_bert(folder, vocabulary, heads=True, **changes):
    """A random BERT with its tokenizer, as transformers writes them; with the heads that published files have."""
    from transformers import BertConfig, BertForMaskedLM, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=24, **sizes | changes)
    model = shaken((BertForMaskedLM if heads else BertModel)(config))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return model.bert if heads else model


def bert_by_hand(ids, mask, state, layers, heads, eps=1e-12):
    """BERT by its paper: post-norm Transformer layers on the sum of three embeddings, padding left out altogether."""

    def linear(x, name):
        return F.linear(x, state[name + ".weight"], state[name + ".bias"])

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], state[name + ".weight"], state[name + ".bias"], eps)

    rows = []
    for row, counts in zip(ids, mask):
        table = "embeddings.{}_embeddings.weight".format
        z = state[table("word")][row[counts]] + state[table("token_type")][0] + state[table("position")][: counts.sum()]
        z = norm(z, "embeddings.LayerNorm")
        for layer in range(layers):
            at = f"encoder.layer.{layer}."
            query, key, value = (
                linear(z, f"{at}attention.self.{name}").unflatten(-1, (heads, -1)).transpose(0, 1)
                for name in ("query", "key", "value")
            )
            scores = query @ key.transpose(1, 2) / key.shape[-1] ** 0.5
            mixed = (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)
            z = norm(z + linear(mixed, at + "attention.output.dense"), at + "attention.output.LayerNorm")
            hidden = F.gelu(linear(z, at + "intermediate.dense"))
            z = norm(z + linear(hidden, at + "output.dense"), at + "output.LayerNorm")
        rows.append(z)
    return rows
