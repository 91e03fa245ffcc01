"""Korean words are drawn with an installed font that has them, or as boxes that one clear line explains."""

import dataclasses
import io
import logging
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.text import Text
from PIL import Image

from xattn_edu import fonts, plots
from xattn_edu.predict import pictures
from xattn_edu.predict.pictures import picture, segment_file
from xattn_edu.predict.segmenter import Prediction

KOREAN = "왼쪽 꽃"


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """A machine with the fonts of matplotlib alone."""
    brought = [entry for entry in fonts.fontManager.ttflist if matplotlib.get_data_path() in entry.fname]
    assert len(brought) > 10
    monkeypatch.setattr(fonts.fontManager, "ttflist", brought)
    monkeypatch.setattr(fonts, "findSystemFonts", list)
    fonts._fonts_for.cache_clear()
    yield
    fonts._fonts_for.cache_clear()
    plt.close("all")


def make_font(path, family, letters):
    """A font in which each of the letters is a black square."""
    pen = TTGlyphPen(None)
    for move, place in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 900)), (pen.lineTo, (900, 900)), (pen.lineTo, (900, 0))):
        move(place)
    pen.closePath()
    names = [".notdef", *(f"uni{ord(letter):04X}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:])})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def drawn(figure):
    """Draw a figure; a warning while it is drawn is an error, a line in matplotlib's log as well."""
    lines = io.StringIO()
    logging.getLogger("matplotlib").addHandler(handler := logging.StreamHandler(lines))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    logging.getLogger("matplotlib").removeHandler(handler)
    assert not lines.getvalue()


def test_the_usual_font_is_enough_for_english():
    assert fonts.fonts_for("the red car, left! é $x_i$ \n") == ((), "")
    assert fonts.written("the car") == ("the car", {})


def test_an_installed_font_with_the_letters_is_taken(tmp_path, monkeypatch):
    """Also one that was installed after matplotlib made its list; a damaged one is passed over."""
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    files = [
        make_font(tmp_path / f"{name}.ttf", name, letters) for name, letters in (("Some", "왼꽃"), ("Another", "쪽"))
    ]
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [*files, str(tmp_path / "damaged.ttf")])
    assert fonts.fonts_for(KOREAN) == (("Another", "Some"), "")
    assert fonts.fonts_for("꽃 🙂") == (("Some",), "🙂")
    text, font = fonts.written(KOREAN)
    assert text == KOREAN and font["fontfamily"] == [*plt.rcParams["font.family"], "Another", "Some"]
    assert font["fontweight"] == "normal"  # neither has bold letters
    bold = [dataclasses.replace(entry, weight=700) for entry in fonts.fontManager.ttflist[-2:]]
    monkeypatch.setattr(fonts.fontManager, "ttflist", [*fonts.fontManager.ttflist, *bold])
    assert "fontweight" not in fonts.written(KOREAN)[1]


def test_a_font_that_is_made_for_korean_comes_first(tmp_path, monkeypatch):
    files = [make_font(tmp_path / f"{name}.ttf", name, "꽃") for name in ("A Font", "NanumGothic")]
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: files)
    assert fonts.fonts_for("꽃").families == ("NanumGothic",)


def test_letters_that_no_font_has_are_boxes_and_one_warning_names_them():
    with pytest.warns(UserWarning, match="no installed font has '꽃왼쪽', drawn as boxes: install one") as raised:
        assert fonts.written(f"the {KOREAN}") == ("the □□ □", {})
    assert len(raised) == 1


PLOTS = {
    "heatmap": lambda words: plots.attention_heatmap(np.eye(2), queries=words, keys=words).figure,
    "alignment": lambda words: plots.alignment(np.eye(2), source=words, target=words).figure,
    "bars": lambda words: plots.word_shares({"a": [0.5, 0.5]}, words).figure,
    "curves": lambda words: plots.learning_curves({word: ([0, 1], [0, 1]) for word in words}).figure,
    "title": lambda words: plots.signed_map(np.eye(2), title=" ".join(words)).figure,
    "bold title": lambda words: plots.patch_grid(np.eye(2), 1, title=" ".join(words)).figure,
    "sentence": lambda words: plots.referent(np.zeros((4, 4, 3)), sentence=" ".join(words)).figure,
    "headline": lambda words: plots.attention_rollout([np.eye(2)], [np.eye(2)], titles=words[:1], title=words[1]),
}


@pytest.mark.parametrize("draw", PLOTS.values(), ids=PLOTS)
def test_plots_with_korean_words_are_drawn_without_matplotlibs_warnings(draw, tmp_path):
    with pytest.warns(UserWarning, match="no installed font has"):
        figure = draw(KOREAN.split())
    drawn(figure)
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert any("□" in text for text in texts) and not set(KOREAN.replace(" ", "")) & set("".join(texts))
    fonts.fontManager.addfont(make_font(tmp_path / "a.ttf", "A Font", KOREAN))
    fonts._fonts_for.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(KOREAN.split())
    drawn(figure)
    korean = [text for text in figure.findobj(Text) if set(KOREAN.replace(" ", "")) & set(text.get_text())]
    assert korean and all("A Font" in text.get_fontfamily() for text in korean)


def test_a_picture_has_korean_words_and_titles(tmp_path):
    found = Prediction(np.zeros((9, 9), bool), ("[CLS]", "왼쪽", "꽃", "[SEP]"), (np.full((2, 2, 4), 0.25),))
    with pytest.warns(UserWarning, match="no installed font has"):
        boxes = picture(np.zeros((9, 9, 3), np.uint8), KOREAN, found)
    fonts.fontManager.addfont(make_font(tmp_path / "a.ttf", "A Font", KOREAN))
    fonts._fonts_for.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picture(np.zeros((9, 9, 3), np.uint8), KOREAN, found) != boxes


def test_segment_names_the_letters_in_one_remark(tmp_path, monkeypatch, recwarn):
    class Found:
        def predict(self, image, sentence):
            words = ("[CLS]", *sentence.split(), "[SEP]")
            return Prediction(np.zeros((9, 9), bool), words, (np.full((2, 2, len(words)), 0.25),))

        def remarks(self, sentence):
            return ["a remark"]

    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "load_segmenter", lambda *_, **__: Found())
    for sentence, others in ((KOREAN, ["no installed font has '꽃왼쪽'"]), ("the car", [])):
        _, remarks = segment_file(tmp_path / "a.png", sentence, "weights.pth", tmp_path / "out.png", force=True)
        assert [remark[: len(other)] for remark, other in zip(remarks, ["a remark", *others])] == ["a remark", *others]
        assert len(remarks) == 1 + len(others) and not recwarn.list
