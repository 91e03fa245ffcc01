"""Fonts for the letters of a text: matplotlib's usual one has no Korean, and draws a box for each missing letter."""

import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from matplotlib import rcParams
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

BOX = "□"
BOLD = ("600", "700", "800", "900", "bold")  # weights, as matplotlib has them
PREFERRED = (  # fonts with Korean letters, of Linux, Windows and macOS, as matplotlib names them
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Noto Sans KR",
    "NanumGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
)
# Fonts that come with matplotlib for formulas, with signs in the places of letters, or to draw a box for every letter.
USELESS = re.compile(r"cm\w+10|STIX.*|Last Resort.*")


class Fonts(NamedTuple):
    """What to draw a text with."""

    families: tuple[str, ...]  # installed fonts for the letters that the usual font lacks
    lost: str  # the letters that no installed font has, sorted


def fonts_for(text: str) -> Fonts:
    """The installed fonts that have the letters of a text, if the usual one has not all of them."""
    return _fonts_for("".join(sorted(set(text) - _letters(findfont(FontProperties())))))


def written(text: str) -> tuple[str, dict[str, Any]]:
    """A text as it can be drawn, and the arguments with which matplotlib draws it.

    A letter that no installed font has becomes a box. One warning then names all of them.
    """
    families, lost = fonts_for(text)
    if lost:
        warnings.warn(without_font(lost), stacklevel=3)
        text = "".join(BOX if letter in lost else letter for letter in text)
    if not families:
        return text, {}
    weights = (
        {"fontweight": "normal"} if not all(map(_has_bold, families)) else {}
    )  # matplotlib logs each that lacks it
    return text, {"fontfamily": [*rcParams["font.family"], *families]} | weights


def _has_bold(family: str) -> bool:
    return any(entry.name == family and str(entry.weight) in BOLD for entry in fontManager.ttflist)


def without_font(lost: str) -> str:
    """The line that names letters without a font, and the likely fix."""
    return (
        f"no installed font has {lost!r}, drawn as boxes: install one, for Korean such as Noto Sans CJK or NanumGothic"
    )


@lru_cache(maxsize=256)
def _fonts_for(missing: str) -> Fonts:
    families, lost = [], {letter for letter in missing if letter.isprintable() and not letter.isspace()}
    for family, path in _installed():
        if not lost:
            break
        if found := lost & _letters(path):
            families.append(family)
            lost -= found
    return Fonts(tuple(families), "".join(sorted(lost)))


def _installed() -> Iterator[tuple[str, str]]:
    """Name and file of the fonts to look into: those that are preferred first."""
    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):  # installed after matplotlib made its list
        try:
            fontManager.addfont(path)
        except Exception:  # noqa: BLE001, S112 - matplotlib cannot read it, so it cannot draw with it either
            continue
    entries = {entry.name: entry.fname for entry in fontManager.ttflist if not USELESS.fullmatch(entry.name)}
    for family in [*(name for name in PREFERRED if name in entries), *sorted(entries)]:
        yield family, entries[family]


@lru_cache(maxsize=1024)
def _letters(path: str) -> frozenset[str]:
    """The letters of a font; none if matplotlib cannot draw with it, as with colour emoji."""
    try:
        font = FT2Font(path)
    except Exception:  # noqa: BLE001 - a damaged font, or one of another kind
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
