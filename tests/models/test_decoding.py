"""Greedy decoding and beam search against every way round them, with and without a cache."""

import itertools

import pytest
import torch
from helpers.small_transformers import WORDS, close, lengths, models, pair, sentences, several, small
from hypothesis import given
from hypothesis import strategies as st

from xattn_edu.models import transformer as tf
from xattn_edu.models.decoding import beam_search, greedy_decode


def log_p(model, source, tokens):
    """log P of every word after `tokens`, by teacher forcing: neither padding nor a start is ever written."""
    logits = model(source, torch.tensor([[model.start, *tokens]]))[0, -1].detach()
    logits[[model.pad, model.start]] = -torch.inf
    return logits.log_softmax(0)


def score(model, source, tokens, penalty):
    """Equation (14) of Wu et al. for one sentence, given one source (1, token)."""
    log_ps = [log_p(model, source, tokens[:place])[token].item() for place, token in enumerate(tokens)]
    return sum(log_ps) / ((5 + len(tokens)) / 6) ** penalty


def without(pad, rows):
    return [tuple(token for token in row if token != pad) for row in rows.tolist()]


@several
@given(models, lengths, st.integers(1, 6))
def test_steps_and_chunks_give_the_logits_of_teacher_forcing(model, lengths, written):
    source, target = pair(model, lengths, written)
    expected, cache = model(source, target), model.begin(source)
    close(torch.stack([model.step(token, cache) for token in target.unbind(1)], dim=1), expected)
    caches = [tf.LayerCache() for _ in model.decoder.layers]
    chunks = model.embed(target).split(2, dim=1)
    outputs = [model.decoder(chunk, cache.memory, cache.memory_mask, caches=caches)[0] for chunk in chunks]
    close(model.logits(torch.cat(outputs, dim=1)), expected)


@pytest.mark.slow
@several
@given(models, lengths, st.integers(1, 6))
def test_greedy_decoding_writes_the_likeliest_token_until_the_end(model, lengths, length):
    source, rows = sentences(model, lengths), []
    for row, read in zip(source, lengths):
        rows.append([])
        while len(rows[-1]) < length and model.end not in rows[-1]:
            rows[-1].append(log_p(model, row[None, :read], rows[-1]).argmax().item())
    longest = max(map(len, rows))
    expected = [tokens + [model.pad] * (longest - len(tokens)) for tokens in rows]
    for cached in (True, False):
        assert greedy_decode(model, source, length, cache=cached).tolist() == expected
        assert beam_search(model, source, length, beams=1, penalty=0, cache=cached)[0][:, 0].tolist() == expected


@pytest.mark.slow
@several
@given(models, lengths, st.integers(1, 5), st.integers(1, 5), st.sampled_from([0.0, 0.6, 2.0]))
def test_beam_search_is_the_same_without_cache_or_neighbours_and_its_scores_are_true(
    model, lengths, length, beams, penalty
):
    source, options = sentences(model, lengths), {"beams": beams, "penalty": penalty}
    ids, scores = beam_search(model, source, length, **options)
    other_ids, other_scores = beam_search(model, source, length, **options, cache=False)
    assert torch.equal(ids, other_ids) and ids.shape == (len(lengths), beams, ids.shape[2]) and ids.shape[2] <= length
    close(scores, other_scores)
    assert (scores[:, 1:] <= scores[:, :-1]).all()  # the best comes first
    for row, read in enumerate(lengths):
        alone, one = source[row : row + 1, :read], int(scores[row].isfinite().sum())
        found = without(model.pad, ids[row, :one])
        assert without(model.pad, beam_search(model, alone, length, **options)[0][0, :one]) == found
        assert len(set(found)) == one > 0
        for beam, tokens in enumerate(found):
            assert ids[row, beam].tolist() == [*tokens] + [model.pad] * (ids.shape[2] - len(tokens))
            assert model.start not in tokens and model.end not in tokens[:-1]
            assert len(tokens) == length or tokens[-1] == model.end
            assert scores[row, beam].item() == pytest.approx(score(model, alone, tokens, penalty), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [0.0, 0.6, 3.0])
@pytest.mark.parametrize(("beams", "seed"), [(15, 0), (15, 1), (17, 2)])
def test_enough_beams_find_what_trying_everything_finds(beams, seed, penalty):
    model, length = small(seed, vocabulary=5, specials=(4, 0, 2)), 3
    source, everything = sentences(model, [3, 1], seed), []
    for words in range(length + 1):
        everything += [(*w, *[2] * (words < length)) for w in itertools.product((1, 3), repeat=words)]
    ids, scores = beam_search(model, source, length, beams=beams, penalty=penalty)
    assert len(everything) == 15 and (scores[:, 15:] == -torch.inf).all()
    for row in range(2):
        expected = {tokens: score(model, source[row : row + 1], tokens, penalty) for tokens in everything}
        assert without(4, ids[row, :15]) == sorted(everything, key=expected.get, reverse=True)
        assert scores[row, :15].tolist() == pytest.approx(sorted(expected.values(), reverse=True))


def test_a_cache_goes_on_with_the_selected_rows():
    model, rows = small(), torch.tensor([2, 0, 2, 1])
    source, target = pair(model, [3, 1, 5], 2)
    cache, more = model.begin(source), torch.tensor([[3, 4], [5, 6], [7, 8], [3, 3]])
    for token in target.unbind(1):
        model.step(token, cache)
    cache.select(rows)
    expected = model(source[rows], torch.cat([target[rows], more], dim=1))[:, 2:]
    close(torch.stack([model.step(token, cache) for token in more.unbind(1)], dim=1), expected)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("decode", [greedy_decode, beam_search])
def test_the_source_is_read_once_and_its_keys_are_made_once_with_a_cache(decode, cached):
    model, calls, new = small(), [], []
    model.encoder.register_forward_hook(lambda _, __, output: calls.append(output[0].requires_grad))
    for number, layer in enumerate(model.decoder.layers):
        for part in (layer.cross_attention.key, layer.cross_attention.value):
            part.register_forward_hook(lambda *_, number=number: calls.append(number))
    model.decoder.layers[1].attention.key.register_forward_pre_hook(lambda _, inputs: new.append(inputs[0].shape[1]))
    decode(model, sentences(model, [4, 2]), 5, cache=cached)
    steps = len(new)
    assert steps > 1 and new == [1 if cached else 1 + step for step in range(steps)]
    assert calls == [False] + [0, 0, 1, 1] * (1 if cached else steps)  # False: nothing is kept for gradients


@pytest.mark.parametrize("decode", [greedy_decode, lambda *args: beam_search(*args)[0]], ids=["greedy", "beam"])
@pytest.mark.parametrize("training", [True, False])
def test_decoding_knows_no_dropout_and_leaves_mode_and_chance_alone(decode, training):
    model = small()
    source, state = sentences(model, [5, 2, 4]), torch.get_rng_state()
    expected = decode(model.eval(), source, 6)
    assert torch.equal(decode(model.train(training), source, 6), expected)
    with pytest.raises(ValueError, match="vocabulary"):
        decode(model, source + 9, 6)
    assert model.decoder.layers[1].residual1.drop.training == model.training == training
    assert torch.equal(torch.get_rng_state(), state) and not expected.requires_grad and torch.is_grad_enabled()


# --- what is refused, and what is not


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("cached", [True, False])
def test_decoding_on_cuda_writes_the_cpus_tokens(cached):
    model = small()
    source = sentences(model, [5, 2, 1])
    expected = greedy_decode(model, source, 8), *beam_search(model, source, 8)
    model, source = model.cuda(), source.cuda()
    found = greedy_decode(model, source, 8, cache=cached), *beam_search(model, source, 8, cache=cached)
    close([tensor.cpu() for tensor in found], list(expected))


# --- found by attacking it


@pytest.mark.parametrize("beams", [3, 17, 40])
def test_a_row_of_beams_that_do_not_exist_is_padding(beams):
    model = small(vocabulary=5, specials=(4, 0, 2))
    ids, scores = beam_search(model, sentences(model, [3, 1]), 3, beams=beams)
    assert (ids[scores == -torch.inf] == model.pad).all() and not (ids == model.start).any()


def test_beams_that_do_not_exist_do_not_prolong_the_search():
    assert beam_search(small(vocabulary=3), torch.tensor([[2]]), 5, beams=2)[0].shape == (1, 2, 1)


def test_decoding_leaves_the_mode_of_every_part():
    model = small().train()
    model.encoder.eval()
    greedy_decode(model, WORDS, 2)
    assert model.training and not model.encoder.training and not model.encoder.layers[0].training


def test_an_empty_batch_in_beam_search():
    ids, scores = beam_search(small(), WORDS[:0], 3)
    assert ids.shape[:2] == scores.shape == (0, 4)


def test_the_defaults_are_the_papers():
    model = small()
    for found, expected in zip(beam_search(model, WORDS, 4), beam_search(model, WORDS, 4, beams=4, penalty=0.6)):
        assert torch.equal(found, expected)


def test_the_penalty_is_as_precise_as_the_model():
    model = small()
    (ids,), (score,) = (x[:, 0] for x in beam_search(model, WORDS[:1], 2, beams=1, penalty=0.6))
    plain = beam_search(model, WORDS[:1], 2, beams=1, penalty=0)[1][0, 0].item()
    n = len(without(0, ids[None])[0])
    assert n > 1 and score.item() == pytest.approx(plain / ((5 + n) / 6) ** 0.6, rel=1e-12)
