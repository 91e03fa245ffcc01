"""From an encoder-decoder's probabilities to a sentence: greedy decoding and beam search with cached keys and values.

Source: Vaswani et al., "Attention Is All You Need" (2017), section 6.1; Wu et al., "Google's Neural Machine Translation
System" (2016), equation (14).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xattn_edu.models.layers import evaluating
from xattn_edu.models.transformer import Cache, Transformer


@torch.no_grad()
def greedy_decode(model: Transformer, source: Tensor, length: int, *, cache: bool = True) -> Int[Tensor, "batch token"]:
    """Add the most probable token to each row, until every row has its `end` or `length` tokens.

    Returns the tokens with their `end`, filled up with `pad` and without `start`. With `cache=False` the decoder runs
    on all tokens at every step, not on the newest alone: the same tokens, more slowly. Raises ValueError for a length
    below 1 and for ids outside the vocabulary, TypeError for a source that is not a tensor of ids.
    """
    _check_length(length)
    with evaluating(model):
        state = model.begin(source)
        ids = torch.full((len(source), 1), model.start, device=source.device)
        ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
        for _ in range(length):
            token = _next_logits(model, ids, state, cache).argmax(dim=1).masked_fill(ended, model.pad)
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
    """Keep the `beams` best hypotheses of each row at every step; returns their ids and scores, the best first.

    The score of a hypothesis of n tokens, its `end` included, is log P / ((5 + n) / 6)^penalty. Finished hypotheses
    keep their score and compete with unfinished ones. P is the model's probability among all tokens but `pad` and
    `start`, which are never written. Ids are as in `greedy_decode`. A row with fewer hypotheses than beams is filled up
    with hypotheses of padding and of score -inf.

    Args:
        model: the encoder-decoder.
        source: its input, ids (batch, token).
        length: the largest number of tokens to write, 1 or more.
        beams: hypotheses for each row, 1 or more.
        penalty: exponent of the length penalty. With 0 the score is log P; a larger one favours longer hypotheses.
        cache: as in `greedy_decode`.

    Raises ValueError for a length or number of beams below 1; errors of `source` are those of `greedy_decode`.

    Source: Wu et al. (2016), equation (14); Vaswani et al. (2017), section 6.1, for both defaults.
    """
    _check_length(length)
    if beams < 1:
        raise ValueError(f"beams must be 1 or more, given {beams}")
    with evaluating(model):
        batch, device = len(source), source.device
        first_row = torch.arange(batch, device=device)[:, None] * beams  # each row of the batch becomes `beams` rows
        state = model.begin(source)
        state.select(torch.arange(batch, device=device).repeat_interleave(beams))
        ids = torch.full((batch * beams, 1), model.start, device=device)
        total = torch.full((batch, beams), -torch.inf, device=device, dtype=state.memory.dtype)
        total[:, 0] = 0.0  # log P; all beams start alike, so only the first may be continued
        tokens, ended = torch.zeros(2, batch, beams, dtype=torch.int64, device=device)
        for _ in range(length):
            log_p = _next_logits(model, ids, state, cache).log_softmax(dim=1).unflatten(0, (batch, beams))
            only_pad = log_p.new_full(log_p.shape[2:], -torch.inf)
            only_pad[model.pad] = 0.0  # a finished hypothesis is continued by padding, and keeps its log P
            log_p = torch.where(ended[..., None] > 0, only_pad, log_p)
            tokens = tokens + 1 - ended
            scores = (total[..., None] + log_p) / ((5 + tokens[..., None].to(total)) / 6) ** penalty

            best = scores.flatten(1).topk(beams).indices  # (batch, beam), numbers of (beam, token) pairs
            parent, token = best // scores.shape[2], best % scores.shape[2]
            total = (total[..., None] + log_p).flatten(1).gather(1, best)
            tokens, ended = tokens.gather(1, parent), ended.gather(1, parent)
            rows = (first_row + parent).flatten()
            state.select(rows)
            ids = torch.cat([ids[rows], token.flatten()[:, None]], dim=1)
            ended = ended | (token == model.end) | total.isinf()
            if ended.all():
                break
    scores = total / ((5 + tokens.to(total)) / 6) ** penalty
    return ids[:, 1:].unflatten(0, (batch, beams)).masked_fill(scores.isinf()[..., None], model.pad), scores


def _next_logits(model: Transformer, ids: Tensor, state: Cache, cache: bool) -> Float[Tensor, "batch vocabulary"]:
    """Logits of the token after each row of ids, which is never `pad` or `start`."""
    if cache:
        logits = model.step(ids[:, -1], state)
    else:
        tokens, _ = model.decoder(model.embed(ids), state.memory, state.memory_mask)
        logits = model.logits(tokens[:, -1])
    logits[:, [model.pad, model.start]] = -torch.inf
    return logits


def _check_length(length: int) -> None:
    if length < 1:
        raise ValueError(f"length is the largest number of tokens to write, 1 or more, given {length}")
