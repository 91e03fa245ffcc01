"""Image files of every kind are read, and a prediction becomes a picture of its mask and its words."""

import io

import numpy as np
import pytest
from PIL import Image

from xattn_edu.predict import pictures
from xattn_edu.predict.pictures import picture, read_image, segment_file
from xattn_edu.predict.segmenter import Prediction


def write(image, path, **options):
    image.save(path, **options)
    return read_image(path)


def test_image_files_of_every_kind(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    image = Image.fromarray(colours)
    assert np.array_equal(write(image, tmp_path / "rgb.png"), colours)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned to the right
    assert np.array_equal(write(image, tmp_path / "turned.png", exif=exif), np.rot90(colours, -1))

    grey = colours[..., 0]
    three = np.stack([grey] * 3, axis=2)
    assert np.array_equal(write(Image.fromarray(grey), tmp_path / "grey.png"), three)
    assert np.array_equal(write(Image.fromarray(grey.astype(np.uint16) * 257), tmp_path / "grey16.png"), three)
    bits = write(Image.fromarray(grey > 99), tmp_path / "bits.png")
    assert np.array_equal(bits, np.where(three > 99, 255, 0))

    alpha = np.zeros((5, 7), np.uint8)
    alpha[0], alpha[1] = 255, 128
    clear = write(Image.fromarray(np.dstack([colours, alpha])), tmp_path / "clear.png")
    assert np.array_equal(clear[0], colours[0]) and (clear[2:] == 255).all()
    np.testing.assert_allclose(clear[1], 255 - (255 - colours[1].astype(float)) * 128 / 255, atol=1)
    both = write(Image.fromarray(np.dstack([grey, alpha]), "LA"), tmp_path / "grey_alpha.png")
    assert np.array_equal(both[0], three[0]) and (both[2:] == 255).all()
    palette = Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7) % 2, "P")
    palette.putpalette([10, 20, 30, 200, 100, 0])
    shown = write(palette, tmp_path / "palette.png", transparency=1)
    assert (shown[0, 0] == (10, 20, 30)).all() and (shown[0, 1] == 255).all()
    assert write(image.convert("CMYK"), tmp_path / "cmyk.jpg").shape == (5, 7, 3)


def test_what_is_no_image_is_named(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    (tmp_path / "program.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    Image.new("RGB", (5, 5), "red").save(tmp_path / "sum.png")
    content = bytearray((tmp_path / "sum.png").read_bytes())
    content[content.index(b"IEND") - 5] ^= 1  # in the checksum of the pixels
    (tmp_path / "sum.png").write_bytes(content)
    for name in ("text.png", "empty.jpg", "half.jpg", "program.png", "sum.png"):
        with pytest.raises(ValueError, match=f"{name} is no image that can be read") as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)
    for name in ("none.png", "."):
        with pytest.raises(FileNotFoundError, match="is no file: name an image"):
            read_image(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8000)
    with pytest.raises(ValueError, match="DecompressionBomb"):
        read_image(tmp_path / "whole.jpg")


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
        ("the yak", out, FileExistsError, "is there already: name another file, or overwrite it with --force"),
        ("the yak", tmp_path / "out.jpg", ValueError, "must end in .png"),
        ("the yak", tmp_path / "none" / "out.png", FileNotFoundError, "is not a folder: make it first"),
        (" ", tmp_path / "new.png", ValueError, "an expression names a thing"),
    ):
        with pytest.raises(error, match=says):
            segment_file(image, expression, checkpoint, target, **settings)
    assert out.read_bytes() == before and sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "street.png"]
