"""Heads of a BERT by our layer equal transformers' own; the stored ones are MiniLM's, and other sentences need it."""

import pytest
import torch

from xattn_edu.experiments import heads
from xattn_edu.files import read_json
from xattn_edu.models.language import SmallBert
from xattn_edu.weights.language import minilm_folder


def test_the_weights_are_those_of_transformers():
    torch.manual_seed(0)
    encoder = SmallBert(50, width=16, depth=3, heads=2, length=12).eval()
    ids = torch.randint(5, 50, (1, 7))
    encoder.bert.set_attn_implementation("eager")
    theirs = encoder.bert(input_ids=ids, attention_mask=torch.ones(1, 7), output_attentions=True).attentions
    ours = heads.heads_of(encoder, ids, torch.ones(1, 7, dtype=torch.bool))
    torch.testing.assert_close(ours, torch.cat(theirs))
    with pytest.raises(ValueError, match="without padding"):
        heads.heads_of(encoder, ids, torch.arange(7)[None] < 6)


@pytest.mark.parametrize("sentence", heads.SENTENCES)
def test_the_stored_weights_are_weights(sentence, without_minilm):
    words, weights = heads.sentence_heads(sentence)
    assert words == ["[CLS]", *sentence.split(), "[SEP]"] and weights.shape == (6, 12, 14, 14)
    assert (weights >= 0).all() and (weights.sum(dim=-1) - 1).abs().max() < 0.008  # each was rounded to 0.001


def test_another_sentence_needs_minilm(without_minilm):
    with pytest.raises(ModuleNotFoundError, match="pip install.*only the stored sentences: 'the animal"):
        heads.sentence_heads("a sentence of mine")
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        heads.record()


@pytest.fixture
def without_minilm(monkeypatch):
    monkeypatch.setattr("xattn_edu.weights.language.find_spec", lambda name: None)


@pytest.mark.slow
def test_the_stored_weights_are_minilms():
    try:
        minilm_folder()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    for sentence, stored in read_json(heads.STORED)["sentences"].items():
        words, weights = heads.sentence_heads(sentence)
        assert words == stored["words"]
        torch.testing.assert_close(weights, torch.tensor(stored["thousandths"]) / 1000, atol=1.1e-3, rtol=0)
