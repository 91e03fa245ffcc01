"""Dates: JavaScript's cross-attention against torch's, and what is written against the model itself."""

import numpy as np
import pytest
import torch
from helpers.in_chromium import check_usable, computed, needs_chromium, shown

from xattn_edu.data import translation
from xattn_edu.interactive import dates
from xattn_edu.interactive.dates import SENTENCES, weights
from xattn_edu.models.decoding import greedy_decode
from xattn_edu.models.transformer import Transformer


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    made = Transformer(len(translation.VOCABULARY), width=64, depth=2, heads=4, hidden=64, dropout=0.5)
    for parameter in made.decoder.layers.parameters():  # so that it chooses its words
        parameter.data *= 2
    return made


@pytest.fixture(scope="module")
def picture(model):
    return dates(model)


def run_of(data, found):
    pairs = [(run["keys_from"], run["values_from"]) for run in data["runs"]]
    return pairs.index((found["keys"], found["values"]))


def check(page, data):
    found = computed(page)
    run, layer, step = run_of(data, found), found["layer"], found["step"] - 1
    expected = weights(data, run, layer)[step]
    np.testing.assert_allclose(found["weights"], expected, atol=1e-4)
    values = torch.from_numpy(data["sentences"][found["values"]]["values"][layer]).float()
    gathered = (expected[:, None] @ values.unflatten(-1, (data["heads"], -1)).transpose(0, 1)).flatten()
    np.testing.assert_allclose(found["gathered"], gathered, atol=1e-4)
    assert found["written"] == data["runs"][run]["written"]
    return found


def test_what_is_written_and_where_it_looks_are_the_models(picture, model):
    assert model.training  # as it was given
    model.eval()
    sources = translation.encode(list(SENTENCES[:2]))
    expected = greedy_decode(model, sources, translation.TARGET_LENGTH)
    for sentence in (0, 1):
        run = run_of(picture.data, {"keys": sentence, "values": sentence})
        written = picture.data["runs"][run]["written"]
        ids = [model.start, *(int(i) for i in expected[sentence] if i != model.pad)]
        assert "".join(word for word in written if word != "end") == translation.decode(expected)[sentence]
        with torch.no_grad():
            memory, mask, _ = model.encode(sources[sentence : sentence + 1])
            _, maps = model.decoder(model.embed(torch.tensor([ids[: len(written)]])), memory, mask, return_weights=True)
        for layer in (0, 1):
            found = weights(picture.data, run, layer).transpose(0, 1)
            torch.testing.assert_close(found, maps[layer][1][0], atol=0.005, rtol=0)
    model.train()


def test_only_sentences_of_equal_length_are_exchanged(picture):
    lengths = [len(sentence["tokens"]) for sentence in picture.data["sentences"]]
    assert lengths == [6, 6, 8, 8] and len(picture.data["runs"]) == 8


def test_what_cannot_be_decoded_is_refused(model):
    with pytest.raises(TypeError, match="the trained Transformer of notebook 3, given Linear"):
        dates(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="unknown word 'Marhc'"):
        dates(model, ["5 Marhc 1997"])
    with pytest.raises(ValueError, match="a list of one sentence or more"):
        dates(model, "5 March 1997")


def test_a_readers_own_dates(model):
    pytest.importorskip("anywidget")
    widget = dates(model).widget
    widget.request = {"keys": "1 May 1900", "values": "2 May 1901", "number": 1}
    assert [sentence["source"] for sentence in widget.data["sentences"]] == ["1 May 1900", "2 May 1901"]
    widget.request = {"keys": "1 May 1900", "values": "30 May 1901", "number": 2}
    assert "'1 May 1900' has 6 and '30 May 1901' has 7" in widget.error


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_every_step_layer_and_exchange_is_torchs(picture, tmp_path):
    data = picture.data
    with shown(picture, tmp_path, width=480, dark=True) as page:
        check_usable(page)
        check(page, data)
        page.get_by_role("button", name="next").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        assert check(page, data)["step"] == 3
        page.get_by_role("slider").focus()
        page.keyboard.press("End")
        found = check(page, data)
        assert found["step"] == found["steps"]
        page.get_by_role("combobox", name="layer").select_option(index=0)
        page.get_by_role("combobox", name="head").select_option(index=2)
        assert check(page, data)["layer"] == 0
        page.get_by_role("combobox", name="values of").select_option(index=1)
        found = check(page, data)
        assert (found["keys"], found["values"]) == (0, 1)
        assert "where the values hold" in page.locator("[aria-live]").inner_text()
        page.get_by_role("combobox", name="keys of").select_option(index=3)
        found = check(page, data)
        assert (found["keys"], found["values"], found["step"]) == (3, 3, 1)
