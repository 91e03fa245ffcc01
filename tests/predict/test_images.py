"""Image files of every mode that Pillow has are read with the right colours, or refused with the fix."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from xattn_edu.predict.pictures import read_image

GREYS = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]], [[0, 0, 0], [30, 200, 90]]], np.uint8)


def three(grey):
    return np.stack([np.asarray(grey, np.uint8)] * 3, axis=2)


@pytest.fixture
def stored(tmp_path):
    """Writes an image and reads it; the file is in the mode that the image had."""

    def store(image, name="a.tif", **options):
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(tmp_path / name, **options)
        with Image.open(tmp_path / name) as file:
            assert file.mode == image.mode or {file.mode, image.mode} <= {"I", "I;16", "I;16B"}
        return read_image(tmp_path / name)

    return store


# --- modes


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pbm"])
def test_one_bit(name, stored):
    assert np.array_equal(stored(GREYS > 99, name), np.where(three(GREYS) > 99, 255, 0))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "a.bmp"])
def test_grey_of_eight_bits(name, stored):
    assert np.array_equal(stored(GREYS, name), three(GREYS))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm", "a.bmp", "a.webp"])
def test_colours(name, stored):
    assert np.array_equal(stored(COLOURS, name, lossless=True), COLOURS)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.gif", "a.bmp"])
def test_a_palette(name, stored):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 0, 7, 8, 9])
    assert stored(image, name).tolist() == [[[10, 20, 30], [200, 100, 0], [7, 8, 9]]]


def test_what_is_transparent_is_white(stored, tmp_path):
    clear = np.array([[255, 0, 102], [255, 0, 102]], np.uint8)
    blended = np.rint(255 - (255 - GREYS.astype(float)) * clear / 255)
    for name in ("a.png", "b.tif"):
        grey = stored(Image.merge("LA", [Image.fromarray(GREYS), Image.fromarray(clear)]), name)
        np.testing.assert_allclose(grey, three(blended), atol=1)
        colour = stored(np.dstack([three(GREYS), clear]), name)
        np.testing.assert_allclose(colour, three(blended), atol=1)
    for grey, name in ((GREYS, "d.png"), (GREYS.astype(np.uint16) * 257, "e.png")):
        number = int(grey[0, 2])
        assert np.array_equal(stored(grey, name, transparency=number), three(np.where(GREYS == 102, 255, GREYS)))
    assert stored(COLOURS, "f.png", transparency=(0, 0, 0))[2, 0].tolist() == [255, 255, 255]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 200, 100, 0])
    assert stored(palette, "g.png", transparency=b"\xff\x00").tolist() == [[[10, 20, 30], [255, 255, 255]]]
    palette = palette.convert("PA")
    palette.putalpha(Image.fromarray(np.array([[255, 0]], np.uint8)))
    assert stored(palette, "h.tif").tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_colours_that_are_multiplied_by_their_opacity(mode, tmp_path):
    """A TIFF says so in a tag, which Pillow reads and does not write: changed here by hand."""
    bands = [np.full((2, 2), 50, np.uint8)] * (len(mode) - 1) + [np.full((2, 2), 100, np.uint8)]
    Image.merge(mode, [Image.fromarray(band) for band in bands]).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    tag = struct.pack("<HHIH", 338, 3, 1, 2)
    assert content.count(tag) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(tag, struct.pack("<HHIH", 338, 3, 1, 1)))
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), 50 + 155, atol=2)


def test_cmyk_and_ycbcr(stored):
    inks = [Image.fromarray(np.array([[0, 255, 0, 0, 0]], np.uint8))]
    inks += [Image.fromarray(np.array([row], np.uint8)) for row in ([0, 0, 0, 255, 0], [0, 0, 0, 255, 0])]
    inks += [Image.fromarray(np.array([[0, 0, 255, 0, 51]], np.uint8))]
    expected = [[255] * 3, [0, 255, 255], [0] * 3, [255, 0, 0], [204] * 3]
    assert stored(Image.merge("CMYK", inks)).tolist() == [expected]
    assert np.abs(stored(Image.merge("CMYK", inks), "a.jpg", quality=100).astype(int) - expected).max() < 40
    np.testing.assert_allclose(stored(Image.fromarray(COLOURS).convert("YCbCr")), COLOURS, atol=3)


def test_lab(stored):
    colours = np.array([[[255, 255, 255], [128, 128, 128], [0, 0, 0], [30, 200, 90], [200, 90, 60]]], np.uint8)
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.applyTransform(Image.fromarray(colours), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    np.testing.assert_allclose(stored(lab), colours, atol=3)


# --- grey of other numbers than eight bits


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_not_stretched(kind, name, stored):
    assert np.array_equal(stored((GREYS.astype(np.uint16) * 257).astype(kind), name), three(GREYS))
    dark = np.array([[0, 200, 256, 257, 513, 514]], np.uint16)
    assert np.array_equal(stored(dark.astype(kind), name), three([[0, 0, 0, 1, 1, 2]]))


def test_a_grey_map_of_sixteen_bits(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + np.array([0, 200, 65535], ">u2").tobytes())
    assert read_image(tmp_path / "a.pgm")[0, :, 0].tolist() == [0, 0, 255]
    (tmp_path / "b.pgm").write_bytes(b"P5 3 1 4095\n" + np.array([0, 2048, 4095], ">u2").tobytes())
    assert read_image(tmp_path / "b.pgm")[0, :, 0].tolist() == [0, 127, 255]


def tiff(numbers, bits, meaning=1, kind=1):
    """A TIFF of one row of grey, whose tags Pillow does not write: bits of a number, and which number is white."""
    if bits == 12:
        data = b"".join((a << 12 | b).to_bytes(3, "big") for a, b in zip(numbers[::2], numbers[1::2]))
    else:
        data = np.array(numbers, {(16, 1): "<u2", (32, 3): "<f4", (32, 2): "<i4"}[bits, kind]).tobytes()
    tags = [(256, len(numbers)), (257, 1), (258, bits), (259, 1), (262, meaning), (273, 8), (277, 1), (278, 1)]
    tags += [(279, len(data)), (339, kind)]
    start = 8 + len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHI", b"II", 42, start) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tiff_of_twelve_bits_or_with_black_and_white_exchanged(tmp_path):
    for number, (content, expected) in enumerate(
        (
            (tiff([0, 2048, 4095, 16], 12), [0, 127, 255, 0]),
            (tiff([0, 200, 65535], 16), [0, 0, 255]),
            (tiff([0, 257, 65535], 16, meaning=0), [255, 254, 0]),
            (tiff([0, 0.2, 1], 32, kind=3), [0, 51, 255]),
            (tiff([0, 300, 65535], 32, kind=2), [0, 1, 255]),
        )
    ):
        (tmp_path / f"{number}.tif").write_bytes(content)
        assert read_image(tmp_path / f"{number}.tif")[0, :, 0].tolist() == expected


def test_floats_from_0_to_1(stored):
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (4, 1))
    assert np.array_equal(stored(ramp), three(np.tile(np.arange(256), (4, 1))))
    assert stored(ramp * np.float32(0.2)).max() == 51  # not stretched
    assert not stored(np.zeros((2, 2), np.float32)).any()


@pytest.mark.parametrize(
    ("grey", "says"),
    [
        (np.array([[0, 255]], np.float32), "floats from 0 to 255, and floats are read where 0 is black and 1 is white"),
        (np.array([[-0.5, 1]], np.float32), "floats from -0.5 to 1"),
        (np.array([[0, np.nan]], np.float32), "floats from nan to nan.* without NaN"),
        (np.array([[0, np.inf]], np.float32), "floats from 0 to inf"),
        (np.array([[-np.inf, 1]], np.float32), "floats from -inf to 1"),
        (np.array([[0, 65536]], np.int32), "whole numbers of 32 bits from 0 to 65536.*save the image with 8 or 16"),
        (np.array([[-1, 300]], np.int32), "whole numbers of 32 bits from -1 to 300"),
        (np.array([[0, 255]], np.int32), "whole numbers of 32 bits from 0 to 255"),
    ],
)
def test_grey_whose_white_is_not_known_is_refused(grey, says, stored, recwarn):
    with pytest.raises(ValueError, match=f"a.tif: its grey values are {says}") as error:
        stored(grey)
    assert "\n" not in str(error.value) and not recwarn.list


def test_whole_numbers_of_32_bits_are_read_as_16(stored):
    assert stored(np.array([[0, 300, 65535]], np.int32))[0, :, 0].tolist() == [0, 1, 255]
    assert not stored(np.zeros((2, 2), np.int32)).any()


# --- frames and metadata


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_frame_is_taken(name, tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    image = read_image(tmp_path / name)
    assert image.shape == (3, 4, 3) and (image == 255).all()


TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: np.rot90,
    9: lambda x: x,
}


@pytest.mark.parametrize("orientation", TURNS)
def test_the_image_is_turned_as_its_exif_data_says(orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif", "a.webp"):
        assert np.array_equal(stored(COLOURS, name, exif=exif, lossless=True), TURNS[orientation](COLOURS))
    with_alpha = np.dstack([COLOURS, np.full((3, 2), 255, np.uint8)])
    assert np.array_equal(stored(with_alpha, "b.png", exif=exif), TURNS[orientation](COLOURS))
    deep = COLOURS[..., 0].astype(np.uint16) * 257
    assert np.array_equal(stored(deep, "c.png", exif=exif), TURNS[orientation](three(COLOURS[..., 0])))


def exif_data():
    """EXIF data with an orientation, a text, a part of its own and a place."""
    exif = Image.Exif()
    exif.endian = "<"
    exif[0x0112], exif[0x010E], exif[0x829A] = 6, "a description", (1, 30)
    exif.get_ifd(0x8769)[0x9000] = b"0230"
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    return exif.tobytes()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_damaged_exif_data_do_not_cost_the_image(name, tmp_path, recwarn):
    whole, draw = exif_data(), np.random.default_rng(0)
    image, shapes = Image.new("RGB", (8, 4), "white"), set()
    for case in range(60):
        damaged = bytearray(whole[: draw.integers(6, len(whole))] if case % 2 else whole)
        for place in draw.integers(6, len(damaged), 3):
            damaged[place] = draw.integers(256)
        recwarn.clear()
        image.save(tmp_path / name, exif=bytes(damaged), lossless=True)
        recwarn.clear()
        found = read_image(tmp_path / name)
        shapes.add(found.shape)
        assert found.min() > 250 and not recwarn.list
    assert shapes == {(4, 8, 3), (8, 4, 3)}


def test_an_orientation_that_can_be_read_and_not_written_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x829A] = 6, (1, 30)
    wrong_type = exif.tobytes().replace(struct.pack("<HH", 0x829A, 5), struct.pack("<HH", 0x829A, 13))
    wrong_type = wrong_type.replace(struct.pack(">HH", 0x829A, 5), struct.pack(">HH", 0x829A, 13))
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png", exif=wrong_type)
    assert read_image(tmp_path / "a.png").shape == (8, 4, 3)


def test_a_damaged_profile_and_comments_do_not_cost_the_image(tmp_path, recwarn):
    for name in ("a.jpg", "a.png", "a.webp", "a.tif"):
        Image.new("RGB", (8, 4), "white").save(tmp_path / name, icc_profile=b"no profile", lossless=True)
        assert read_image(tmp_path / name).min() > 250 and not recwarn.list
    text = PngImagePlugin.PngInfo()
    text.add(b"iCCP", b"name\0\0" + zlib.compress(b"no profile")[:-5] + b"damaged")
    text.add(b"tEXt", b"Comment\0\xff\xfe\x00")
    Image.new("RGB", (8, 4), "white").save(tmp_path / "b.png", pnginfo=text)
    assert read_image(tmp_path / "b.png").min() == 255 and not recwarn.list


# --- files that are no images, or too large


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.tif", "a.bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(name, share, tmp_path, recwarn):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{name} is no image that can be read") as error:
        read_image(tmp_path / name)
    assert "\n" not in str(error.value) and not recwarn.list


@pytest.mark.parametrize("side", [100, 150])  # Pillow warns, Pillow refuses
def test_a_file_of_more_pixels_than_pillow_trusts_is_refused(side, tmp_path, monkeypatch):
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9000)
    with pytest.raises(
        ValueError, match=rf"a.png has more pixels than Pillow trusts .*{side**2}.*: make the image smal"
    ):
        read_image(tmp_path / "a.png")
