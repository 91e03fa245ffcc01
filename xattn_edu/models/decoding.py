"""From an encoder-decoder's probabilities to a sentence: greedy decoding and beam search with cached keys and values.

Sources: Vaswani et al. (2017), section 6.1; Wu et al., "Google's Neural Machine Translation System" (2016), equation (14).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xattn_edu.models.layers import evaluating
from xattn_edu.models.transformer import (
    Transformer,
    _check_length,
)


@torch.no_grad()
def greedy_decode(model: Transformer, source: Tensor, length: int, *, cache: bool = True) -> Int[Tensor, "batch token"]:
    """Write the likeliest token, again and again, until every row has ended or has `length` tokens.

    Returns the tokens with their `end`, filled up with `pad`; `start` is left out. `cache=False` runs the decoder on
    all tokens at every step instead of one: the same tokens, more slowly. Raises ValueError for a length below 1.
    """
    _check_length(length)
    with evaluating(model):
        following = _Following(model, source, cache)
        ids = torch.full((len(source), 1), model.start, device=source.device)
        ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
        for _ in range(length):
            token = following(ids).argmax(dim=1).masked_fill(ended, model.pad)
            ids = torch.cat([ids, token[:, None]], dim=1)
            ended |= token == model.end
            if ended.all():
                break
    return ids[:, 1:]


@torch.no_grad()
def beam_search(
    model: Transformer,
    source: Tensor,
    length: int,
    *,
    beams: int = 4,
    penalty: float = 0.6,
    cache: bool = True,
) -> tuple[Int[Tensor, "batch beam token"], Float[Tensor, "batch beam"]]:
    """Keep the `beams` best hypotheses of each row instead of one; the best comes first.

    A hypothesis scores log P / ((5 + its tokens) / 6)^penalty, its `end` counted; one that has ended waits, with its
    score, against those that go on. P is the model's among the tokens it may write, which `pad` and `start` are not.
    Returns ids as `greedy_decode` does, and scores (-inf, and only padding, where there are fewer hypotheses than beams). Source of the penalty and of both defaults: Wu et al., "Google's Neural Machine Translation
    System" (2016), equation (14), and section 6.1 of the Transformer's paper. Raises ValueError for a length or number
    of beams below 1.
    """
    _check_length(length)
    if beams < 1:
        raise ValueError(f"beams must be 1 or more, given {beams}")
    with evaluating(model):
        batch, device = len(source), source.device
        first_row = torch.arange(batch, device=device)[:, None] * beams  # of each batch entry's beams, side by side
        following = _Following(model, source, cache)
        following.cache.select(torch.arange(batch, device=device).repeat_interleave(beams))
        ids = torch.full((batch * beams, 1), model.start, device=device)
        total = torch.full((batch, beams), -torch.inf, device=device, dtype=model.embedding.weight.dtype)
        total[:, 0] = 0.0  # all beams start out the same: only one of them may have children
        tokens, ended = torch.zeros(2, batch, beams, dtype=torch.int64, device=device)
        for _ in range(length):
            log_p = following(ids).log_softmax(dim=1).unflatten(0, (batch, beams))
            wait = log_p.new_full(log_p.shape[2:], -torch.inf)
            wait[model.pad] = 0.0  # an ended hypothesis has one child: itself
            log_p = torch.where(ended[..., None] > 0, wait, log_p)
            tokens = tokens + 1 - ended
            scores = (total[..., None] + log_p) / ((5 + tokens[..., None].to(total)) / 6) ** penalty

            best = scores.flatten(1).topk(beams).indices  # (batch, beam), into beam x vocabulary
            parent, token = best // scores.shape[2], best % scores.shape[2]
            total = (total[..., None] + log_p).flatten(1).gather(1, best)
            tokens, ended = tokens.gather(1, parent), ended.gather(1, parent)
            rows = (first_row + parent).flatten()
            following.cache.select(rows)
            ids = torch.cat([ids[rows], token.flatten()[:, None]], dim=1)
            ended = ended | (token == model.end) | total.isinf()
            if ended.all():
                break
    scores = total / ((5 + tokens.to(total)) / 6) ** penalty
    return ids[:, 1:].unflatten(0, (batch, beams)).masked_fill(scores.isinf()[..., None], model.pad), scores


class _Following:
    """Logits of the token that follows each row of ids: from the cache, or by running the decoder on all of them."""

    def __init__(self, model: Transformer, source: Tensor, cached: bool):
        self.model, self.cached = model, cached
        self.cache = model.begin(source)

    def __call__(self, ids: Tensor) -> Tensor:
        if self.cached:
            logits = self.model.step(ids[:, -1], self.cache)
        else:
            tokens, _ = self.model.decoder(self.model.embed(ids), self.cache.memory, self.cache.memory_mask)
            logits = self.model.logits(tokens[:, -1])
        logits[:, [self.model.pad, self.model.start]] = -torch.inf  # a decoder writes words, or the end
        return logits
