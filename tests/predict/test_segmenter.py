"""A model finds the mask of an expression in an image, and says which words it does not know."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small_segmenters import store_own

from xattn_edu.predict.loading import load_segmenter

# Of ImageNet's pixels from 0 to 1: red, green, blue.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), "photo.jpg"])
def test_pixels_wants_an_image_of_bytes(image, published):
    with pytest.raises(ValueError, match=r"\(height, width, 3\) of uint8, given .*read_image"):
        published.pixels(image)


def test_an_image_is_squashed_to_the_square(published):
    halves = np.zeros((10, 64, 3), np.uint8)
    halves[:, 32:] = 255
    red = published.pixels(halves)[0]
    assert red.shape == (32, 32) and (red[:, :15] == red[0, 0]).all() and (red[:, 17:] == red[0, -1]).all()
    assert red[0, 0] < -1 and red[0, -1] > 1
    # Bilinear, by hand: where 64 columns become 32, a column is 1/8, 3/8, 3/8 and 1/8 of those from one before it on.
    seam = (torch.tensor([0.0, 255 / 8, 255 * 7 / 8, 255]) - published.mean[0]) / published.deviation[0]
    torch.testing.assert_close(red[0, 14:18], seam, rtol=0, atol=0.6 / published.deviation[0])  # rounded to bytes


def test_squashing_averages_neighbours(published):
    """64 columns become 32 by a triangle of weights 1, 3, 3, 1: black and white by turns is grey, a ramp stays one."""
    stripes = np.zeros((32, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (32, 1, 3))
    mean, deviation = (255 * torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    for image, columns in ((stripes, torch.full((30,), 127.5)), (ramp, 8 * torch.arange(1, 31) + 2)):
        found = (published.pixels(image) * deviation + mean)[:, :, 1:-1]
        torch.testing.assert_close(found, columns.float().expand(3, 32, 30), rtol=0, atol=1)


def test_channels_are_red_green_and_blue_of_imagenet(published):
    colours = published.pixels(np.full((5, 5, 3), (255, 0, 51), np.uint8))
    expected = [(value - mean) / deviation for value, mean, deviation in zip((1, 0, 0.2), MEAN, DEVIATION)]
    torch.testing.assert_close(colours[:, 0, 0], torch.tensor(expected))


def test_a_mask_has_the_images_size_and_the_words_add_up(published):
    image = np.random.default_rng(0).integers(0, 255, (20, 50, 3), np.uint8)
    found = published.predict(image, "the Mannequins, left")
    assert found.mask.shape == (20, 50) and found.mask.dtype == bool
    assert found.words == ("[CLS]", "the", "Mannequins", ",", "left", "[SEP]")  # mann ##equin ##s: one word
    assert [weights.shape for weights in found.weights] == [(8, 8, 6), (4, 4, 6), (2, 2, 6)]
    for weights in found.weights:
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    ids, mask = published.tokenizer(["the Mannequins, left"], 20)
    pixels = published.pixels(image)[None]
    logits, pieces = published.model(pixels, ids, mask, return_weights=True)
    np.testing.assert_allclose(found.weights[1][..., 2], pieces[1][0, 0, ..., 2:5].sum(dim=-1).detach(), atol=1e-6)
    np.testing.assert_allclose(found.weights[1][..., 5], pieces[1][0, 0, ..., 7].detach(), atol=1e-6)
    resized = torch.nn.functional.interpolate(logits, (20, 50), mode="bilinear", align_corners=True)[0]
    assert np.array_equal(found.mask, (resized[1] > resized[0]).numpy())


def test_what_pixels_read_is_the_mean_over_the_heads(checkpoint, tokenizer_folder):
    segmenter = load_segmenter(checkpoint, tokenizer=tokenizer_folder, size=32, word_heads=2, device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (20, 50, 3), np.uint8)
    ids, mask = segmenter.tokenizer(["the man"], 20)
    with torch.no_grad():
        _, weights = segmenter.model(segmenter.pixels(image)[None], ids, mask, return_weights=True)
    for found, (heads,) in zip(segmenter.predict(image, "the man").weights, weights, strict=True):
        assert len(heads) == 2
        np.testing.assert_allclose(found, (heads[0] + heads[1])[..., :4] / 2, atol=1e-6)  # [CLS] the man [SEP]


@pytest.mark.parametrize("sentence", ["", "  \n", None, "\u0007", "\u200b \ufeff"])
def test_an_expression_must_say_something(sentence, published):
    with pytest.raises(ValueError, match='such as "the man in red", given'):
        published.predict(np.zeros((4, 4, 3), np.uint8), sentence)


@pytest.mark.parametrize("sentence", ["\ufffd", "\u0301"])  # which BERT's normalisation takes out
def test_an_expression_without_a_word(sentence, published):
    with pytest.raises(ValueError, match="there is no word in the expression"):
        published.predict(np.zeros((4, 4, 3), np.uint8), sentence)


def test_a_blank_sentence_of_a_data_set_is_cls_and_sep(published):
    ids, mask = published.ids(["the man", " ", "a"])
    assert published.tokenizer.tokens(ids[1][mask[1]]) == ["[CLS]", "[SEP]"]
    assert torch.equal(ids[[0, 2]], published.tokenizer(["the man", "a"], 20)[0])
    assert torch.equal(mask[[0, 2]], published.tokenizer(["the man", "a"], 20)[1])


def test_a_long_sentence_keeps_sep_or_is_cut_where_it_is(published):
    long, short = "the left man in red " * 4, "the man"
    (ids, mask), (cut, cut_mask) = (published.ids([long, short], keep_sep) for keep_sep in (True, False))
    words = long.split()
    assert published.tokenizer.tokens(ids[0]) == ["[CLS]", *words[:18], "[SEP]"]
    assert published.tokenizer.tokens(cut[0]) == ["[CLS]", *words[:19]]
    assert torch.equal(ids[1], cut[1]) and torch.equal(mask, cut_mask) and mask[0].all()
    assert published.tokenizer.tokens(published.ids([" ".join(words[:18])], False)[0][0])[-1] == "[SEP]"  # 20 pieces


def test_a_sentence_is_tokenised_once(published, monkeypatch):
    seen, encode = [], type(published.tokenizer).encode
    monkeypatch.setattr(
        type(published.tokenizer), "encode", lambda self, *given: seen.append(given[0]) or encode(self, *given)
    )
    monkeypatch.setattr(type(published.tokenizer), "__call__", lambda *_: pytest.fail("tokenised a second time"))
    published.predict(np.zeros((4, 4, 3), np.uint8), "the man")
    assert seen == ["the man"]


def test_remarks_name_what_the_model_cannot_read(published, tmp_path):
    assert published.remarks("the Mannequins, left") == []
    assert published.remarks("the zebra, zebra or yak") == [
        "the model does not know 'zebra', 'or', 'yak': its tokenizer has no pieces for that"
    ]
    (cut,) = published.remarks("man " * 18 + "in red")
    assert "20 pieces of an expression at most: 'in red' is left out" in cut
    (cut,) = replace(published, length=5).remarks("the man in red")
    assert "5 pieces of an expression at most: 'red' is left out" in cut
    own = load_segmenter(store_own(tmp_path)[0], device="cpu")
    assert own.remarks("The red-yellow fish, left!") == []
    (unknown,) = own.remarks("the zebra on the tree")
    assert "does not know 'zebra': it knows 190 words" in unknown


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return load_segmenter(store_own(tmp_path_factory.mktemp("own"))[0], device="cpu")


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        (unicodedata.normalize("NFD", "왼쪽 꽃 옆"), ["왼쪽", "꽃", "옆"]),
        (unicodedata.normalize("NFD", "Café, left"), ["Café", ",", "left"]),
        ("the\u200b re\u00add car\u200b\ufeff", ["the", "red", "car"]),
        ("the car 🙂", ["the", "car", "🙂"]),
        ("the x̂ left ☂️", ["the", "x̂", "left", "☂️"]),  # marks that no letter has in itself, and one after a symbol
        ("the 👍🏽🇰🇷 left", ["the", "👍🏽🇰🇷", "left"]),
    ],
)
def test_words_are_shown_whole_and_nothing_of_a_short_sentence_is_left_out(sentence, words, published, own):
    for segmenter in (published, own):
        read = segmenter.read(sentence)
        assert list(read.words[1:-1]) == words and read.cut_off == ""
        assert not any("left out" in remark for remark in segmenter.remarks(sentence))


def test_the_end_of_a_long_sentence_is_left_out_from_where_reading_stopped(own):
    decomposed = unicodedata.normalize("NFD", "the " * 17 + "red café 옆")
    assert own.read(decomposed).cut_off == own.read(unicodedata.normalize("NFC", decomposed)).cut_off
    (remark,) = (remark for remark in own.remarks("the " * 18 + "x̂ 옆 🙂") if "left out" in remark)
    assert "'x̂ 옆 🙂' is left out" in remark


def test_remarks_name_every_word_that_is_not_known(own):
    for sentence, unknown in (
        ("the red car 🙂", "'🙂'"),
        ("the $ car, 🙂🙂 zebra!", "'$', '🙂🙂', 'zebra'"),
        ("the red car 옆", "'옆'"),
    ):
        (remark,) = own.remarks(sentence)
        assert f"does not know {unknown}: it knows 190 words" in remark
    for sentence in ("The RÉD car?", unicodedata.normalize("NFD", "the réd car"), 'the red car\u200b - "left" …'):
        assert own.remarks(sentence) == []
