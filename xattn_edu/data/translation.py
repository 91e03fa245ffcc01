"""A small translation task made on the spot: dates and numbers as people write them, to the form computers sort.

    "March the fifth, nineteen ninety-seven"   ->  1997-03-05
    "천구백구십칠년 삼월 오일"                   ->  1997-03-05
    "23만 45"                                  ->  230045

Seventeen ways to write, English and Korean. Dates (years 1000 to 2999) must be reordered; numbers (up to a thousand
million) need zeros that nobody says; English counts in thousands and Korean in ten thousands. So an attention map has
something to show. Dates follow ISO 8601, numbers are plain digits.
"""

import datetime
import difflib
import functools
import hashlib
import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from xattn_edu.shapes import check_choice, shaped, whole_number

PAD, START, END = 0, 1, 2
SPLITS = ("train", "validation", "test")
SOURCE_LENGTH, TARGET_LENGTH = 20, 11  # tokens of the longest sentence; of the longest answer, with its end

MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
ORDINALS |= {"twelve": "twelfth", "twenty": "twentieth", "thirty": "thirtieth"}
KOREAN_DIGITS = "영일이삼사오육칠팔구"
KOREAN_WEEKDAYS = "월화수목금토일"

ROMAN = dict(
    zip(
        "영일이삼사오육칠팔구십백천만억년월유시요화수목금토",
        "yeong il i sam sa o yuk chil pal gu sip baek cheon man eok nyeon wol yu si yo hwa su mok geum to".split(),
    )
)

Date = datetime.date


@dataclass(frozen=True)
class Pair:
    """A sentence, what it means, and the name of the format it is written in."""

    source: str
    target: str
    format: str


# --- numbers in words


def english(number: int) -> str:
    """0 to 999,999,999 in English words, as Americans say it: "two hundred thirty-four thousand five"."""
    return _english(number, " ")


def british(number: int) -> str:
    """The same as the British say it: "two hundred and thirty-four thousand and five"."""
    words = _english(number, " and ")
    lonely = number > 1000 and 0 < number % 1000 < 100  # tens and ones follow thousands without hundreds
    if not lonely:
        return words
    tail = _below_hundred(number % 100)
    return f"{words[: -len(tail)]}and {tail}"


def _english(number: int, joint: str) -> str:
    _check_range(number)
    parts: list[str] = []
    for size, name in ((1_000_000, " million"), (1000, " thousand"), (1, "")):
        group, number = divmod(number, size)
        if group:
            hundreds, rest = divmod(group, 100)
            words = ([f"{ONES[hundreds]} hundred"] if hundreds else []) + ([_below_hundred(rest)] if rest else [])
            parts.append(joint.join(words) + name)
    return " ".join(parts) or "zero"


def korean(number: int) -> str:
    """0 to 999,999,999 in Sino-Korean, spaced by ten thousands: 1,234,005 is "백이십삼만 사천오".

    Ten thousand alone is 만, a hundred million alone 일억; a one before 십, 백 and 천 is not said.
    """
    _check_range(number)
    parts: list[str] = []
    for size, name in ((10**8, "억"), (10**4, "만"), (1, "")):
        group, number = divmod(number, size)
        if group:
            word = "".join(
                (KOREAN_DIGITS[digit] if digit > 1 or unit == "" else "") + unit
                for digit, unit in zip(map(int, f"{group:04}"), ("천", "백", "십", ""))
                if digit
            )
            parts.append("만" if (name, group) == ("만", 1) and not parts else word + name)
    return " ".join(parts) or "영"


def korean_mixed(number: int) -> str:
    """As Korean newspapers print it, digits with 억 and 만: 230,045 is "23만 45"."""
    _check_range(number)
    groups = ((number // 10**8, "억"), (number // 10**4 % 10**4, "만"), (number % 10**4, ""))
    return " ".join(f"{group}{name}" for group, name in groups if group) or "0"


def english_year(year: int) -> str:
    """As it is read: "nineteen ninety-seven", "nineteen oh five", "nineteen hundred", "two thousand five"."""
    century, rest = divmod(year, 100)
    if century % 10 == 0 and rest < 10:
        return english(year)
    if rest == 0:
        return f"{_below_hundred(century)} hundred"
    return f"{_below_hundred(century)} {f'oh {ONES[rest]}' if rest < 10 else _below_hundred(rest)}"


def english_ordinal(day: int) -> str:
    """1 to 31 as "first" .. "thirty-first"."""
    *before, last = _below_hundred(day).split("-")
    return "-".join([*before, ORDINALS.get(last, last + "th")])


def _check_range(number: int) -> None:
    if not 0 <= number < 10**9:
        raise ValueError(f"only numbers from 0 to 999,999,999 are written in words here, given {number}")


def _below_hundred(number: int) -> str:
    if number < 20:
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{ONES[ones]}" if ones else "")


def _suffixed(day: int) -> str:
    """1st, 2nd, 3rd, 4th .. 11th, 12th, 13th .. 31st."""
    return f"{day}{'th' if day in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


# --- formats

DATES: dict[str, Callable[[Date], str]] = {
    "month day, year": lambda d: f"{MONTHS[d.month - 1]} {d.day}, {d.year}",
    "day month year": lambda d: f"{d.day} {MONTHS[d.month - 1]} {d.year}",
    "short month": lambda d: f"{MONTHS[d.month - 1][:3]} {d.day}, {d.year}",
    "weekday first": lambda d: f"{WEEKDAYS[d.weekday()]}, {MONTHS[d.month - 1]} {_suffixed(d.day)}, {d.year}",
    "the nth of": lambda d: f"the {_suffixed(d.day)} of {MONTHS[d.month - 1]}, {d.year}",
    "date in words": lambda d: f"{MONTHS[d.month - 1]} the {english_ordinal(d.day)}, {english_year(d.year)}",
    "month/day/year": lambda d: f"{d.month}/{d.day}/{d.year}",  # American
    "day.month.year": lambda d: f"{d.day}.{d.month}.{d.year}",  # much of Europe
    "년 월 일": lambda d: f"{d.year}년 {d.month}월 {d.day}일",
    "년 월 일, in words": lambda d: f"{korean(d.year)}년 {_korean_month(d.month)}월 {korean(d.day)}일",
    "년 월 일 요일": lambda d: f"{d.year}년 {d.month}월 {d.day}일 {KOREAN_WEEKDAYS[d.weekday()]}요일",
    "year. month. day.": lambda d: f"{d.year}. {d.month}. {d.day}.",  # Korean forms and letters
}
NUMBERS: dict[str, Callable[[int], str]] = {
    "number in words": english,
    "British words": british,
    "grouped digits": lambda n: f"{n:,}",
    "Korean in words": korean,
    "만 and 억": korean_mixed,
}
FORMATS = (*DATES, *NUMBERS)


def _korean_month(month: int) -> str:
    return {6: "유", 10: "시"}.get(month, korean(month))  # 유월, 시월: June and October lose a sound


# --- tokens and their ids

_TOKEN = re.compile(r"[A-Za-z]+|[^\sA-Za-z]")  # an English word, or any other single character; spaces only separate


def tokenize(text: str) -> list[str]:
    """English words whole, all else (digits, Hangul, punctuation) character by character; spaces are dropped."""
    return _TOKEN.findall(unicodedata.normalize("NFC", text))  # some systems take Hangul syllables apart


def romanize(tokens: Sequence[str]) -> list[str]:
    """Hangul in Latin letters (Revised Romanization), all else as it is: for figures, whose fonts may lack Hangul."""
    return [ROMAN.get(token, token) for token in tokens]


def _vocabulary() -> list[str]:
    words = [*MONTHS, *(month[:3] for month in MONTHS), *WEEKDAYS, *ONES, *TENS[1:]]
    words += [english_ordinal(day).split("-")[-1] for day in range(1, 32)]
    words += "oh hundred thousand million and the of st nd rd th".split()
    characters = "0123456789-,./" + KOREAN_DIGITS + "십백천만억년월일유시요" + KOREAN_WEEKDAYS
    return ["<pad>", "<start>", "<end>", *dict.fromkeys([*characters, *words])]


VOCABULARY = _vocabulary()  # of both languages and of the answers: one embedding for all
_IDS = {token: number for number, token in enumerate(VOCABULARY)}


@shaped
def encode(texts: Sequence[str], length: int | None = None) -> Int[Tensor, "batch token"]:
    """Ids of each text's tokens, filled up with 0 to the longest (or to `length` tokens).

    Raises TypeError for a single string, ValueError, naming the place, for what the vocabulary lacks, for texts without
    a token and for texts that are longer than `length`.
    """
    if isinstance(texts, str):
        raise TypeError(f"encode takes a list of texts, given one: write encode([{texts!r}])")
    rows = [_encode_one(text) for text in texts]
    longest = max(map(len, rows), default=1)
    if rows and length is not None and longest > length:
        text = next(text for text, row in zip(texts, rows) if len(row) > length)
        raise ValueError(f"{text!r} has {len(tokenize(text))} tokens, more than the {length} there is room for")
    width = longest if length is None else length
    padded = [row + [PAD] * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.int64).reshape(len(rows), width)


def decode(ids: Int[Tensor, "batch token"]) -> list[str]:
    """The text of each row up to its end: what `encode` took, without spaces. Raises ValueError for unknown ids."""
    texts = []
    for row in ids.tolist():
        row = row[: row.index(END)] if END in row else row
        if unknown := [number for number in row if not 0 <= number < len(VOCABULARY)]:
            raise ValueError(f"no token has the id {unknown[0]}: ids are 0 to {len(VOCABULARY) - 1}")
        texts.append("".join(VOCABULARY[number] for number in row if number not in (PAD, START)))
    return texts


def _encode_one(text: str) -> list[int]:
    row, text = [], unicodedata.normalize("NFC", text)
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token not in _IDS:
            near = difflib.get_close_matches(token, VOCABULARY[3:], n=1)
            kind = "word" if token.isascii() and token.isalpha() else "character"
            hint = f"did you mean {near[0]!r}?" if near else f"the task's texts are such as {_EXAMPLES}"
            raise ValueError(f"unknown {kind} {token!r} at position {found.start()} of {text!r}: {hint}")
        row.append(_IDS[token])
    if not row:
        raise ValueError(f"{text!r} has no token: {_EXAMPLES} have some")
    return row


_EXAMPLES = "'5 March 1997', 'two million and one' and '23만 45'"


# --- pairs


def pairs(split: str, size: int, seed: int = 0, formats: Sequence[str] = FORMATS) -> list[Pair]:
    """`size` different pairs of a split ("train", "validation" or "test").

    A hash of the answer decides to which split a date or number belongs. So no answer of the test split is seen in
    training, in any format: one in twenty is for testing, one for validation. The same (split, seed, formats) gives
    the same pairs, and a longer list begins with the shorter one. Formats, dates, and numbers of 1 to 9 digits are
    drawn with equal chances; a pair that was drawn before is dropped, so there are few short numbers.
    Raises ValueError for an unknown split or format, a size below 1, and for more pairs than there
    are; TypeError for a size or seed that is no int.
    """
    check_choice("split", split, SPLITS)
    size, seed = whole_number("size", size, 1), whole_number("seed", seed)
    formats = [formats] if isinstance(formats, str) else list(formats)
    if not formats or (unknown := [name for name in formats if name not in FORMATS]):
        raise ValueError(f"no format {unknown if formats else 'given'}: choose among {', '.join(FORMATS)}")
    draw = random.Random(f"{split} {seed}")
    first, last = Date(1000, 1, 1).toordinal(), Date(2999, 12, 31).toordinal()
    found: dict[tuple[str, str], Pair] = {}
    tries = 0
    while len(found) < size:
        tries += 1
        if tries > 20_000:
            raise ValueError(f"{size:,} different pairs asked for, but {split} has hardly more than {len(found):,}")
        name = draw.choice(formats)
        if name in DATES:
            date = Date.fromordinal(draw.randint(first, last))
            target, write = date.isoformat(), functools.partial(DATES[name], date)
        else:
            digits = draw.randint(1, 9)
            number = draw.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
            target, write = str(number), functools.partial(NUMBERS[name], number)
        if split_of(target) == split and (write(), target) not in found:
            pair = Pair(write(), target, name)
            found[pair.source, target] = pair
            tries = 0
    return list(found.values())


def split_of(target: str) -> str:
    """The one split in which this answer may occur."""
    bucket = hashlib.blake2b(target.encode(), digest_size=8).digest()[0] % 20
    return {0: "test", 1: "validation"}.get(bucket, "train")


def tensors(examples: Sequence[Pair]) -> TensorDataset:
    """Pairs as (source, target so far, target to come): ids to train on with teacher forcing.

    The first (batch, 20); the others (batch, 11), the one beginning with `start`, the other finishing with `end`.
    """
    source = encode([pair.source for pair in examples], SOURCE_LENGTH)
    answers = encode([pair.target for pair in examples], TARGET_LENGTH - 1)
    start = torch.full((len(examples), 1), START)
    so_far = torch.cat([start, answers], dim=1)
    to_come = F.pad(answers, (0, 1), value=PAD)
    to_come[torch.arange(len(examples)), (answers != PAD).sum(dim=1)] = END
    return TensorDataset(source, so_far, to_come)
