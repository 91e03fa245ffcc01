"""A file that is no image is refused, and a prediction becomes a picture of its mask and its words."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from xattn_edu.predict import pictures
from xattn_edu.predict.pictures import picture, read_image, segment_file
from xattn_edu.predict.segmenter import Prediction


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    (tmp_path / "program.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    Image.new("RGB", (5, 5), "red").save(tmp_path / "sum.png")
    content = bytearray((tmp_path / "sum.png").read_bytes())
    content[content.index(b"IEND") - 5] ^= 1  # in the checksum of the pixels
    (tmp_path / "sum.png").write_bytes(content)
    with pytest.raises(ValueError, match="program.png is PostScript, a program"):
        read_image(tmp_path / "program.png")
    for name in ("text.png", "empty.jpg", "half.jpg", "sum.png"):
        with pytest.raises(ValueError, match=f"{name} is no image that can be read") as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)
    for name in ("none.png", "."):
        with pytest.raises(FileNotFoundError, match="is no file: name an image"):
            read_image(tmp_path / name)


def drawn(png):
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def test_the_picture_shows_the_mask_and_a_map_for_each_word():
    image = np.full((40, 60, 3), 128, np.uint8)
    mask = np.zeros((40, 60), bool)
    weights = np.full((4, 4, 3), 1 / 3)
    nothing = drawn(picture(image, "man", Prediction(mask, ("[CLS]", "man", "[SEP]"), (weights,))))
    orange = (np.abs(nothing.astype(int) - (255, 176, 0)) < 60).all(axis=2)
    assert not orange.any()  # no mask, and nobody reads more than an even share
    some = mask.copy()
    some[:, :30] = True
    painted = drawn(picture(image, "man", Prediction(some, ("[CLS]", "man", "[SEP]"), (weights,))))
    changed = np.argwhere((painted != nothing).any(axis=2))
    half = painted.shape[1] / 2
    assert changed[:, 1].min() >= half - 9 and changed[:, 0].max() < painted.shape[0] * 0.7
    bright = weights.copy()
    bright[0, 0] = (0.05, 0.9, 0.05)  # one corner reads "man"
    lit = drawn(picture(image, "man", Prediction(mask, ("[CLS]", "man", "[SEP]"), (weights, bright)), stage=2))
    plain = drawn(picture(image, "man", Prediction(mask, ("[CLS]", "man", "[SEP]"), (weights, bright))))
    orange = np.argwhere((np.abs(lit.astype(int) - (255, 176, 0)) < 60).all(axis=2))
    assert len(orange) and not (np.abs(plain.astype(int) - (255, 176, 0)) < 60).all(axis=2).any()  # stage 1 by default
    column = orange[:, 1] / lit.shape[1] * pictures.COLUMNS
    assert column.min() > 1 and column.max() < 1.4  # the second map's left side


def test_pictures_of_odd_sizes_and_sentences(published):
    for shape, sentence in (((1, 1), "a"), ((900, 30), "the $ man, $ left"), ((4, 300), "man " * 30)):
        image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
        found = published.predict(image, sentence)
        assert found.mask.shape == shape and min(drawn(picture(image, sentence, found)).shape[:2]) > 100


@pytest.mark.parametrize("stage", [0, 4, -1])
def test_a_stage_that_is_not_there(stage, published):
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ValueError, match=f"the model has the stages 1 to 3, given {stage}"):
        picture(image, "man", published.predict(image, "man"), stage)


def test_segment_file_writes_one_picture_and_never_over_another(checkpoint, tokenizer_folder, tmp_path, monkeypatch):
    image, out = tmp_path / "street.png", tmp_path / "out.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(image)
    settings = {"tokenizer": tokenizer_folder, "size": 32, "device": "cpu"}
    share, remarks = segment_file(image, "the yak", checkpoint, out, **settings)
    assert 0 <= share <= 1 and "yak" in remarks[0] and drawn(out.read_bytes()).shape[2] == 3
    before = out.read_bytes()
    monkeypatch.setattr(pictures, "load_segmenter", lambda *_, **__: pytest.fail("the model was loaded"))
    for expression, target, error, says in (
        ("the yak", out, FileExistsError, "is there already: name another file, or overwrite it with force=True"),
        ("the yak", tmp_path / "out.jpg", ValueError, "must end in .png"),
        ("the yak", tmp_path / "none" / "out.png", FileNotFoundError, "is not a folder: make it first"),
        (" ", tmp_path / "new.png", ValueError, "an expression names a thing"),
        ("\u200b", tmp_path / "new.png", ValueError, r"an expression names a thing .* given '\\u200b'"),
        ("the yak", tmp_path / ("a" * 252 + ".png"), ValueError, "is 256 bytes long, a name here has 255 at most"),
    ):
        with pytest.raises(error, match=says):
            segment_file(image, expression, checkpoint, target, **settings)
    assert out.read_bytes() == before and sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "street.png"]


def test_segment_file_draws_the_stage_that_it_is_given(tmp_path, monkeypatch):
    image, drawn_stages = tmp_path / "street.png", []
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(image)
    found = Prediction(np.ones((4, 6), bool), ("man",), (np.ones((2, 3, 1)),) * 2)
    segmenter = SimpleNamespace(predict=lambda *_: found, remarks=lambda _: [])
    monkeypatch.setattr(pictures, "load_segmenter", lambda *_, **__: segmenter)
    monkeypatch.setattr(pictures, "picture", lambda *given: drawn_stages.append(given[3]) or b"picture")
    for stage in (None, 2):
        segment_file(image, "man", "weights.safetensors", tmp_path / "out.png", stage=stage, force=True)
    assert drawn_stages == [None, 2] and (tmp_path / "out.png").read_bytes() == b"picture"


def test_segment_file_under_the_longest_name_and_beside_another_process(
    checkpoint, tokenizer_folder, tmp_path, monkeypatch
):
    image, out = tmp_path / "street.png", tmp_path / ("꽃" * 83 + "ab.png")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(image)
    settings = {"tokenizer": tokenizer_folder, "size": 32, "device": "cpu"}
    assert len(out.name.encode()) == 255
    segment_file(image, "the man", checkpoint, out, **settings)
    assert drawn(out.read_bytes()).shape[2] == 3
    other, draw = tmp_path / "other.png", pictures.picture
    monkeypatch.setattr(pictures, "picture", lambda *given: other.write_bytes(b"another's") and draw(*given))
    with pytest.raises(FileExistsError, match="other.png is there already"):
        segment_file(image, "the man", checkpoint, other, **settings)
    assert other.read_bytes() == b"another's" and {path.suffix for path in tmp_path.iterdir()} == {".png"}
    segment_file(image, "the man", checkpoint, other, force=True, **settings)
    assert drawn(other.read_bytes()).shape[2] == 3
