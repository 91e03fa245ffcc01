"""What every picture shares: its data as JSON, its three hosts, its words for the tests, and the reader's requests."""

import base64
import json
import re
import sys

import numpy as np
import pytest
import torch
from helpers.in_chromium import computed, needs_chromium, shown

from xattn_edu import interactive
from xattn_edu.interactive import picture as module
from xattn_edu.interactive import trained
from xattn_edu.interactive.picture import WIDGET, Mask, Picture, Scaled, encoded
from xattn_edu.plots import style

TURN = """\
export default {
  render({ model, el }) {
    return mount({ model, el }, (root, data) => {
      const says = saying();
      const show = (factor) => {
        expose(root, { factor, values: [...numbers(data.values)].map((value) => factor * value) });
        says.textContent = `${data.word} times ${factor}`;
      };
      root.append(slider("factor", { min: 0, max: 4, step: 1, value: 1 }, show), says);
      show(1);
    });
  },
};
"""


def draw(data):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 2))
    figure.subplots().plot(np.asarray(data.get("values", [1, 2]), dtype=float))
    return figure


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a picture with a small module of its own."""
    for name, text in (("common", (module.FOLDER / "common.js").read_text()), ("turn", TURN)):
        (tmp_path / f"{name}.js").write_text(text)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    return lambda data=None, answer=None: Picture("turn", "A query", data or DATA, draw, answer)


DATA = {"word": "</script> <b>한국</b>", "values": np.array([0.5, -1.25, 6e-5, 65504], dtype=np.float16)}


def numbers_in(array):
    """What the bytes of an encoded array say, read by NumPy."""
    return np.frombuffer(base64.b64decode(array["base64"]), dtype=array["type"]).reshape(array["shape"])


def test_data_become_json_and_keep_their_numbers():
    given = {"a": [1, 0.5, None, True], "b": np.arange(6.0).reshape(2, 3), "c": np.uint8([3]), 4: np.float16([0.1])}
    found = json.loads(json.dumps(encoded(given)))
    assert found["a"] == [1, 0.5, None, True]
    assert found["b"]["type"] == "float32" and np.array_equal(numbers_in(found["b"]), given["b"])
    assert numbers_in(found["c"]).tolist() == [3] and np.array_equal(numbers_in(found["4"]), given[4])
    with pytest.raises(TypeError, match="given float32: write .numpy"):  # NumPy's own scalars are no JSON
        encoded({"x": np.float32(1)})


def test_a_byte_each_keeps_the_ends_and_is_within_half_a_step():
    numbers = np.linspace(-3, 5, 1000)
    scaled = Scaled(numbers)
    assert scaled.values[0] == -3 and scaled.values[-1] == 5
    assert abs(scaled.values - numbers).max() <= 8 / 255 / 2 + 1e-6
    assert np.array_equal(Scaled(np.zeros(3)).values, np.zeros(3))


def test_what_cannot_be_a_picture_is_refused(make):
    make()
    with pytest.raises(FileNotFoundError, match="'bend': bend.js is missing; there are turn"):
        Picture("bend", "", {}, draw)
    with pytest.raises(ValueError, match=r"data of turn are \d\d\d,\d\d\d bytes, 100,000 at most"):
        make({"values": np.random.default_rng(0).random(30_000)})


def test_one_output_has_the_widget_and_the_png(make):
    pytest.importorskip("anywidget")
    picture = make()
    bundle = picture._repr_mimebundle_()
    assert bundle[WIDGET]["model_id"] == picture.widget.model_id
    assert base64.b64decode(bundle["image/png"])[:4] == b"\x89PNG"
    assert picture.widget.data["word"] == DATA["word"] and picture.widget.data["colours"]["key"] == style.KEY
    assert picture.widget._esm == picture.module


def test_without_anywidget_there_is_the_png_and_a_line(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.warns(UserWarning, match="pip install anywidget"):
        bundle = make()._repr_mimebundle_()
    assert bundle.keys() == {"text/plain", "image/png"}


def test_the_words_are_the_same_in_every_run_and_change_with_the_data(make):
    words = make().summary()
    assert words == make().summary()
    assert words.splitlines()[0] == "<Picture turn: A query>"
    assert re.fullmatch(r"word: 1 texts #\w{8}", words.splitlines()[1])
    assert re.fullmatch(r"values: 4 numbers up to 6.55e\+04, as shares of it 0.250 0.433 -0.247", words.splitlines()[2])
    for change in ({"word": "x"}, {"values": DATA["values"][::-1]}, {"values": DATA["values"][:3]}, {"more": 1}):
        assert make(DATA | change).summary() != words
    moved = DATA["values"].astype(np.float32) * np.float32(1 + 1e-7)
    assert make(DATA | {"values": moved}).summary() == words


def test_a_request_gets_other_data_or_the_words_of_the_error(make):
    pytest.importorskip("anywidget")

    def answer(request):
        if request["word"] == "no":
            raise ValueError("there is no such word")
        return {"word": request["word"], "values": np.zeros(4)}

    widget = make(answer=answer).widget
    widget.request = {"word": "yes", "number": 1}
    assert widget.data["word"] == "yes" and widget.data["asked"] == 1 and widget.error == ""
    widget.request = {"word": "no", "number": 2}
    assert widget.error == "there is no such word" and widget.data["word"] == "yes"


def test_nothing_in_a_page_ends_its_scripts_or_names_another_place(make):
    page = make().html()
    assert page.count("</script>") == 2
    assert not re.search(r"(src|href|from|import\()\s*=?\s*[\"']?(https?:)?//", page)


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_from_the_disk_answers(make, tmp_path, dark):
    picture = make()
    with shown(picture, tmp_path, width=480, dark=dark) as page:
        assert computed(page)["values"] == [float(value) for value in DATA["values"]]
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        assert computed(page)["factor"] == 2
        assert page.locator("[aria-live]").inner_text() == "</script> <b>한국</b> times 2"
        assert page.locator("img").count() == 0
        colours = page.evaluate(
            "['color', 'backgroundColor'].map(name => getComputedStyle(document.documentElement)[name])"
        )
        assert (colours[0] == "rgb(255, 255, 255)") == dark


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_two_in_one_page_keep_apart_and_without_scripts_the_png_is_there(make, tmp_path):
    one, other = make(), make(DATA | {"word": "other"})
    path = tmp_path / "two.html"
    path.write_text(f"<!doctype html><meta charset=utf-8>{one.html()}{other.html()}", encoding="utf-8")
    from helpers.in_chromium import chromium

    with chromium() as page:
        page.goto(path.as_uri())
        page.locator("input").last.focus()
        page.keyboard.press("ArrowRight")
        said = page.locator("[aria-live]").all_inner_texts()
        assert said == ["</script> <b>한국</b> times 1", "other times 2"]
        still = page.context.browser.new_page(java_script_enabled=False)
        still.set_default_timeout(120_000)
        still.goto(path.as_uri())
        assert still.locator("img").count() == 2


@pytest.mark.parametrize("array", [[[0, 1], [1, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 0]], [[1, 0], [0, 1]]])
def test_a_mask_is_its_runs(array):
    mask = Mask(array)
    assert np.array_equal(np.repeat(np.arange(len(mask.runs)) % 2, mask.runs).reshape(2, 2), array)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(interactive.__all__) - {"Picture", "dates"}))
def test_a_picture_leaves_random_numbers_as_they_were(name):
    trained.segmenter.cache_clear()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert getattr(interactive, name)().png
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
