"""The translation task: what a second program reads in every sentence is its answer; splits never share an answer."""

import datetime
import itertools
import os
import random
import re
import subprocess
import sys
import unicodedata
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xattn_edu.data import translation as task
from xattn_edu.data.translation import DATES, FORMATS, NUMBERS, SPLITS, Pair, decode, encode, pairs, split_of, tensors

few = settings(max_examples=30, derandomize=True)
Date = datetime.date

# --- a strict reader of all seventeen formats: what nobody would write so is an error

VALUES = dict(
    zip("one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split(), range(1, 15))
)
VALUES |= dict(zip("fifteen sixteen seventeen eighteen nineteen".split(), range(15, 20)))
VALUES |= dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10)))
ONE, TEEN, TEN = ("|".join(w for w, n in VALUES.items() if n in r) for r in (range(10), range(10, 20), range(20, 99)))
SMALL = f"(?:(?:{TEN})(?:-(?:{ONE}))?|{TEEN}|{ONE})"
GROUP = f"(?:(?:{ONE}) hundred(?: {SMALL})?|{SMALL})"
AMERICAN = rf"zero|(?!$)(?:{GROUP} million)?(?:(?:^| ){GROUP} thousand)?(?:(?:^| ){GROUP})?"
CENTURY = f"(?:{TEEN}|twenty(?:-(?:{ONE}))?)"
YEAR = "|".join(
    (
        rf"(?:one|two) thousand(?: (?:{ONE}))?",
        rf"(?!ten |twenty ){CENTURY} (?:hundred|oh (?:{ONE}))",
        rf"{CENTURY} (?!(?:{ONE})$){SMALL}",
    )
)
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
).split()
SUFFIXES = ("st nd rd " + 17 * "th " + "st nd rd " + 7 * "th " + "st").split()
KOREAN_MONTHS = "일월 이월 삼월 사월 오월 유월 칠월 팔월 구월 시월 십일월 십이월".split()
MYRIAD = "(?=[^억만 ])" + "".join(f"(?:[이삼사오육칠팔구]?{unit})?" for unit in "천백십") + "[일이삼사오육칠팔구]?"
KOREAN = rf"영|(?!$|일만)(?:{MYRIAD}억)?(?:^만|(?:^| ){MYRIAD}만)?(?:(?:^| ){MYRIAD})?"


def english(text):
    total = group = 0
    for word in re.split("[ -]", re.fullmatch(AMERICAN, text)[0]):
        if word in ("thousand", "million"):
            total, group = total + group * {"thousand": 1000, "million": 10**6}[word], 0
        else:
            group = group * 100 if word == "hundred" else group + VALUES.get(word, 0)
    return str(total + group)


def british(text):
    """American but for the "and"s, and these stand where they must: after hundreds, and before a last small group."""
    plain = text.replace(" and ", " ")
    proper = re.sub(f"hundred (?={SMALL})", "hundred and ", plain)
    assert text == re.sub(f"(million|thousand) ({SMALL})$", r"\1 and \2", proper)
    return english(plain)


def korean(text):
    total = group = digit = 0
    for letter in re.fullmatch(KOREAN, text)[0].replace(" ", ""):
        if letter in "십백천":
            group, digit = group + (digit or 1) * 10 ** ("십백천".index(letter) + 1), 0
        elif letter in "만억":
            total, group, digit = total + (group + digit or 1) * {"만": 10**4, "억": 10**8}[letter], 0, 0
        else:
            assert digit == 0
            digit = "영일이삼사오육칠팔구".index(letter)
    return str(total + group + digit)


def mixed(text):
    found = re.fullmatch(r"0|(?!$)(?:([1-9])억)?(?:(?:^| )([1-9]\d{0,3})만)?(?:(?:^| )([1-9]\d{0,3}))?", text)
    return str(sum(int(number or 0) * size for number, size in zip(found.groups(), (10**8, 10**4, 1))))


def grouped(text):
    return re.fullmatch(r"0|[1-9]\d{0,2}(,\d{3})*", text)[0].replace(",", "")


def by(pattern):
    """A reader by strptime's pattern (@ stands before 1st, 2nd ..), which also checks the day of the week."""

    def read(text):
        assert not re.search(r"\b0", text)
        for day, suffix in re.findall(r"(\d+)(st|nd|rd|th)", text):
            assert SUFFIXES[int(day) - 1] == suffix
        plain = re.sub(" .요일$", " 요일", re.sub(r"(\d+)(st|nd|rd|th)", r"@\1", text))
        date = datetime.datetime.strptime(plain, pattern)
        for weekday in re.findall(r"\w+day|.요일", text):
            assert weekday in (f"{date:%A}", "월화수목금토일"[(date.toordinal() - 1) % 7] + "요일")
        return f"{date:%Y-%m-%d}"

    return read


def year_in_words(text):
    first, _, rest = re.fullmatch(YEAR, text)[0].partition(" ")
    if rest.startswith("thousand"):
        return english(text)
    return str(100 * int(english(first)) + int(english(rest.removeprefix("oh ").replace("hundred", "zero"))))


def in_words(text):
    month, day, year = re.fullmatch(r"(\w+) the ([\w-]+), (.+)", text).groups()
    month = datetime.datetime.strptime(month, "%B").month
    return f"{year_in_words(year)}-{month:02}-{ORDINALS.index(day) + 1:02}"


def in_korean_words(text):
    year, month, day = re.fullmatch("(.+)년 (.+월) (.+)일", text).groups()
    return f"{korean(year)}-{KOREAN_MONTHS.index(month) + 1:02}-{int(korean(day)):02}"


READERS = {
    "month day, year": by("%B %d, %Y"),
    "day month year": by("%d %B %Y"),
    "short month": by("%b %d, %Y"),
    "weekday first": by("%A, %B @%d, %Y"),
    "the nth of": by("the @%d of %B, %Y"),
    "date in words": in_words,
    "month/day/year": by("%m/%d/%Y"),
    "day.month.year": by("%d.%m.%Y"),
    "년 월 일": by("%Y년 %m월 %d일"),
    "년 월 일, in words": in_korean_words,
    "년 월 일 요일": by("%Y년 %m월 %d일 요일"),
    "year. month. day.": by("%Y. %m. %d."),
    "number in words": english,
    "British words": british,
    "grouped digits": grouped,
    "Korean in words": korean,
    "만 and 억": mixed,
}


def everything(answer):
    """The answer in every format it has: {format: sentence}."""
    if isinstance(answer, Date):
        return {name: write(answer) for name, write in DATES.items()}
    return {name: write(answer) for name, write in NUMBERS.items()}


@pytest.mark.parametrize("split", SPLITS)
def test_every_sentence_says_its_answer(split):
    for pair in pairs(split, 4000, seed=7):
        assert READERS[pair.format](pair.source) == pair.target, pair


POWERS = [10**k + d for k in range(1, 10) for d in (-11, -10, -1, 0, 1, 10, 11, 99, 100, 101) if 0 <= 10**k + d < 10**9]


@pytest.mark.parametrize("answers", [range(10_000), POWERS, range(100_000_000, 10**9, 1_234_567)], ids=len)
def test_numbers_at_the_edges(answers):
    for number in answers:
        for name, text in everything(number).items():
            assert READERS[name](text) == str(number), (name, text)


def test_every_day_of_a_leap_year_and_days_of_every_year():
    first, leap, last = (Date(*day).toordinal() for day in ((1000, 1, 1), (2000, 1, 1), (2999, 12, 31)))
    for date in map(Date.fromordinal, [*range(leap, leap + 366), *range(first, last, 397), last]):
        for name, text in everything(date).items():
            assert READERS[name](text) == str(date), (name, text)


@pytest.mark.parametrize(
    ("number", "us", "uk", "sino", "digits"),
    [
        (0, "zero", "zero", "영", "0"),
        (1000, "one thousand", "one thousand", "천", "1000"),
        (1001, "one thousand one", "one thousand and one", "천일", "1001"),
        (10_000, "ten thousand", "ten thousand", "만", "1만"),
        (10_001, "ten thousand one", "ten thousand and one", "만 일", "1만 1"),
        (110_000, "one hundred ten thousand", "one hundred and ten thousand", "십일만", "11만"),
        (1_000_100, "one million one hundred", "one million one hundred", "백만 백", "100만 100"),
        (1_020_000, "one million twenty thousand", "one million twenty thousand", "백이만", "102만"),
        (100_000_000, "one hundred million", "one hundred million", "일억", "1억"),
        (100_010_016, "one hundred million ten thousand sixteen", None, "일억 일만 십육", "1억 1만 16"),
        (611_110_000, None, None, "육억 천백십일만", "6억 1111만"),
    ],
)
def test_numbers_as_natives_write_them(number, us, uk, sino, digits):
    written = everything(number)
    for name, text in zip(("number in words", "British words", "Korean in words", "만 and 억"), (us, uk, sino, digits)):
        assert text in (None, written[name])


def test_years_as_they_are_read():
    words = (
        "one thousand, one thousand five, ten ten, eleven hundred, nineteen hundred, nineteen oh five, two thousand, "
    )
    words += "two thousand nine, twenty ten, twenty-one hundred, twenty-one oh one, twenty-nine ninety-nine"
    years = (1000, 1005, 1010, 1100, 1900, 1905, 2000, 2009, 2010, 2100, 2101, 2999)
    assert ", ".join(map(task.english_year, years)) == words


@pytest.mark.parametrize(
    ("date", "english", "hangul", "weekday"),
    [
        (Date(1945, 8, 15), "August the fifteenth, nineteen forty-five", "천구백사십오년 팔월 십오일", "수"),
        (Date(2000, 6, 30), "June the thirtieth, two thousand", "이천년 유월 삼십일", "금"),
        (Date(1000, 10, 1), "October the first, one thousand", "천년 시월 일일", "수"),
        (Date(2012, 2, 29), "February the twenty-ninth, twenty twelve", "이천십이년 이월 이십구일", "수"),
    ],
)
def test_dates_as_natives_write_them(date, english, hangul, weekday):
    written = everything(date)
    assert (written["date in words"], written["년 월 일, in words"]) == (english, hangul)
    assert written["년 월 일 요일"].endswith(f" {weekday}요일")


def test_no_sentence_means_two_things():
    meaning = {}
    for answer in itertools.chain(range(20_000), map(Date.fromordinal, range(729_000, 730_500))):
        for text in everything(answer).values():
            assert meaning.setdefault(tuple(task.tokenize(text)), answer) == answer, text


# --- tokens


def longest(write, *places):
    """The most tokens over all combinations of one of each place; of each length, one stands for all that have it."""
    some = []
    for size, values in places:
        kinds = {
            (len(task.tokenize(write(value * size))), value == 0, value == 1, value < 100): value for value in values
        }
        some.append([value * size for value in kinds.values()])
    return max(len(task.tokenize(write(sum(numbers)))) for numbers in itertools.product(*some))


def test_the_longest_sentence_and_the_longest_answer_just_fit():
    thousands = [(1, range(1000)), (1000, range(1000)), (10**6, range(1000))]
    myriads = [(1, range(10_000)), (10_000, range(10_000)), (10**8, range(10))]
    most = {name: longest(NUMBERS[name], *(myriads if name[0] in "K만" else thousands)) for name in NUMBERS}
    for name, write in DATES.items():  # year, month and day have their tokens whatever the others are
        some = (
            [(year, 1, 1) for year in range(1000, 3000)],
            [(2000, month, 1) for month in range(1, 13)],
            [(2000, 1, day) for day in range(1, 32)],
        )
        lengths = [max(len(task.tokenize(write(Date(*date)))) for date in dates) for dates in some]
        most[name] = sum(lengths) - 2 * len(task.tokenize(write(Date(2000, 1, 1))))
    assert max(most.values()) == most["British words"] == task.SOURCE_LENGTH
    assert most["년 월 일, in words"] == 15 and most["date in words"] == 12
    assert max(len(task.tokenize(target)) + 1 for target in ("2999-12-31", "999999999")) == task.TARGET_LENGTH


@few
@given(st.lists(st.sampled_from(pairs("test", 500)), min_size=1, max_size=9), st.sampled_from([None, 20, 33]))
def test_what_is_encoded_can_be_decoded(examples, length):
    texts = [text for pair in examples for text in (pair.source, pair.target)]
    ids = encode(texts, length)
    assert ids.dtype == torch.int64 and ids.shape[1] == (length or max(len(task.tokenize(text)) for text in texts))
    assert decode(ids) == ["".join(text.split()) for text in texts]
    assert ((ids == task.PAD).sum(1) == ids.shape[1] - torch.tensor([len(task.tokenize(text)) for text in texts])).all()


def test_the_vocabulary_is_what_is_needed_and_no_more():
    assert task.VOCABULARY[:3] == ["<pad>", "<start>", "<end>"] and (task.PAD, task.START, task.END) == (0, 1, 2)
    examples = pairs("train", 20_000)  # each token is seen in training, "zero" and the 영 of 0 among them
    assert {token for pair in examples for token in task.tokenize(pair.source + " " + pair.target)} == set(
        task.VOCABULARY[3:]
    )
    assert len(set(task.VOCABULARY)) == len(task.VOCABULARY)


def test_romanized_nothing_is_left_of_hangul_and_nothing_is_confused():
    romanized = task.romanize(task.VOCABULARY)
    assert len(set(romanized)) == len(romanized) and "".join(romanized).isascii()
    assert " ".join(task.romanize(task.tokenize("23만 45년"))) == "2 3 man 4 5 nyeon"


def test_what_follows_is_what_was_to_come():
    examples = [Pair("만", "10000", ""), *pairs("train", 300), Pair("1", "1", ""), Pair("3.2.2999", "2999-02-03", "")]
    source, so_far, to_come = tensors(examples).tensors
    assert source.shape == (303, task.SOURCE_LENGTH) and so_far.shape == to_come.shape == (303, task.TARGET_LENGTH)
    assert source.dtype == so_far.dtype == to_come.dtype == torch.int64
    for pair, row, before, after in zip(examples, source, so_far.tolist(), to_come.tolist()):
        length = len(task.tokenize(pair.target))
        assert (before[0], after[length]) == (task.START, task.END)
        assert before[1 : length + 1] == after[:length] and min(after[:length]) > task.END
        assert before[length + 1 :] == [task.PAD] * (task.TARGET_LENGTH - 1 - length)
        assert after[length + 1 :] == [task.PAD] * (task.TARGET_LENGTH - 1 - length)
        assert decode(torch.tensor([before, after])) == [pair.target] * 2
        assert decode(row[None]) == [pair.source.replace(" ", "")]


# --- splits


def test_splits_share_no_answer_whatever_the_seed_and_the_formats():
    answers = {split: set() for split in SPLITS}
    for split, seed, formats in itertools.product(SPLITS, range(3), (FORMATS, ["년 월 일"], [*NUMBERS])):
        found = pairs(split, 500, seed, formats)
        assert {pair.format for pair in found} == set(formats)
        assert len({(pair.source, pair.target) for pair in found}) == 500
        answers[split] |= {pair.target for pair in found}
        assert all(split_of(pair.target) == split for pair in found)
    assert not any(answers[a] & answers[b] for a, b in itertools.combinations(SPLITS, 2))


def test_one_answer_in_twenty_is_for_testing_and_one_for_validation():
    for answers in (range(50_000), map(Date.fromordinal, range(400_000, 450_000))):
        shares = Counter(split_of(str(answer)) for answer in answers)
        assert shares["test"] == pytest.approx(2500, rel=0.1) and shares["validation"] == pytest.approx(2500, rel=0.1)
        assert shares["train"] == 50_000 - shares["test"] - shares["validation"]


@few
@given(st.sampled_from(SPLITS), st.integers(-5, 10**9), st.integers(1, 40), st.integers(1, 40))
def test_more_pairs_begin_with_fewer_of_them(split, seed, few, more):
    assert pairs(split, few + more, seed)[:few] == pairs(split, few, seed)
    assert pairs(split, 40, seed) != pairs(split, 40, seed + 1)


def test_another_process_finds_the_same_pairs():
    code = "from xattn_edu.data.translation import *; print([pairs(split, 50, 3) for split in SPLITS])"
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONIOENCODING": "utf-8"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert run.stdout.decode().strip() == str([pairs(split, 50, 3) for split in SPLITS])


def test_the_formats_are_about_equally_likely_as_are_years_and_numbers_of_all_lengths():
    found = pairs("train", 5000)
    counts = Counter(pair.format for pair in found)
    assert all(0.6 < counts[name] / (5000 / 17) < 1.4 for name in FORMATS), counts
    lengths = Counter(len(pair.target) for pair in found if pair.format in NUMBERS)
    assert all(lengths[digits] > 100 for digits in range(3, 10)), lengths  # there are hardly so many of 1 and 2
    centuries = Counter(int(pair.target[:2]) for pair in found if pair.format in DATES)
    assert sorted(centuries) == [*range(10, 30)] and min(centuries.values()) > 100


@pytest.mark.parametrize(
    ("end", "dates", "numbers"),
    [(min, {"1000-01-01"}, {"0"}), (max, {"2999-12-31"}, {"999999999"})],
    ids=["first", "last"],
)
def test_the_first_and_the_last_date_and_number_can_be_drawn(end, dates, numbers, monkeypatch):
    class AtTheEnd(random.Random):
        def randrange(self, start, stop):
            return end(start, stop - 1)

        def randint(self, start, stop):
            return end(start, stop)

    monkeypatch.setattr(task.random, "Random", AtTheEnd)
    monkeypatch.setattr(task, "split_of", lambda answer: "train")
    assert {pair.target for pair in pairs("train", 3, formats=[*DATES])} == dates
    assert {pair.target for pair in pairs("train", 3, formats=[*NUMBERS])} == numbers


def test_there_are_millions_of_pairs():
    """No two answers share a sentence. Nor do two formats, but in May and for round numbers."""
    for answer in (1001, 10_001, 987_654_321, Date(1000, 1, 1), Date(2999, 12, 31), Date(2000, 6, 1)):
        assert len({tuple(task.tokenize(text)) for text in everything(answer).values()}) == len(everything(answer))
    days = Date(2999, 12, 31) - Date(1000, 1, 1)
    assert 11 * days.days > 8_000_000 and 4 * (10**9 - 1000) > 3_999_000_000  # 0.04 of each and more to every split


# --- what is refused


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: encode("23만"), TypeError, r"a list of texts.*encode\(\['23만'\]\)"),
        (lambda: encode(["5", "7 march 1997"]), ValueError, "word 'march' at position 2 of '7 march.*'March'"),
        (lambda: encode(["two millions"]), ValueError, "'millions' at position 4 .*mean 'million'"),
        (lambda: encode(["23萬 45"]), ValueError, "unknown character '萬' at position 2 of '23萬 45'.*'23만 45'"),
        (lambda: encode(["<pad>"]), ValueError, "unknown character '<' at position 0"),
        (lambda: encode(["10%"]), ValueError, "unknown character '%' at position 2"),
        (lambda: encode(["5", " \n "]), ValueError, "has no token"),
        (lambda: encode([""]), ValueError, "'' has no token"),
        (lambda: encode(["1", "12345"], 4), ValueError, "'12345' has 5 tokens, more than the 4"),
        (lambda: encode(["1"], 0), ValueError, "'1' has 1 token"),
        (lambda: encode([5]), TypeError, "(?i)str"),
        (lambda: encode([None]), TypeError, "(?i)str"),
        (lambda: tensors([Pair("1 " * 21, "1", "")]), ValueError, "21 tokens, more than the 20"),
        (lambda: tensors([Pair("1", "1" * 11, "")]), ValueError, "11 tokens, more than the 10"),
        (lambda: decode(torch.tensor([[3], [132]])), ValueError, "id 132.*0 to 131"),
        (lambda: decode(torch.tensor([[-1]])), ValueError, "id -1.*0 to 131"),
        (lambda: pairs("Test", 1), ValueError, "one of train, validation, test, given 'Test'"),
        (lambda: pairs("test", 1, formats=["만"]), ValueError, r"no format \['만'\].*만 and 억"),
        (lambda: pairs("test", 1, formats=[]), ValueError, "no format given.*day month year"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_more_pairs_than_there_are(monkeypatch):
    monkeypatch.setattr(task, "split_of", lambda answer: "test" if answer in ("1", "5", "23") else "train")
    words = ["number in words", "British words"]  # the same below 100
    assert {(pair.source, pair.target) for pair in pairs("test", 3, formats=words)} == {
        *(("one", "1"), ("five", "5"), ("twenty-three", "23"))
    }
    with pytest.raises(ValueError, match="1,000 different pairs asked for, but test has hardly more than 3"):
        pairs("test", 1000, formats=words)


def test_what_comes_after_the_end_is_not_read():
    assert decode(
        torch.tensor([[task.START, 4, 5, task.END, 9, 999], [4, task.PAD, 5, task.PAD, task.PAD, task.PAD]])
    ) == ["12", "12"]
    assert decode(torch.zeros(0, 3, dtype=torch.int64)) == []


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError), ("3", TypeError)])
def test_a_size_that_is_no_number_of_pairs(size, error):
    with pytest.raises(error, match="size must be"):
        task.pairs("train", size)


def test_a_seed_of_numpy_or_torch_is_the_seed_and_a_float_is_none():
    expected = task.pairs("train", 5, 3)
    assert expected == task.pairs("train", np.int64(5), np.int64(3)) == task.pairs("train", 5, torch.tensor(3))
    for wrong in (3.0, True, "3", None):
        with pytest.raises(TypeError, match="seed must be an int"):
            task.pairs("train", 5, wrong)


def test_formats_may_come_in_any_collection():
    assert task.pairs("test", 5, formats=task.DATES) == task.pairs("test", 5, formats=[*task.DATES])


@pytest.mark.parametrize("write", [task.english, task.british, task.korean, task.korean_mixed])
@pytest.mark.parametrize("number", [-1, 10**9])
def test_numbers_that_cannot_be_written(write, number):
    with pytest.raises(ValueError, match=f"0 to 999,999,999.*{number}"):
        write(number)


def test_hangul_taken_apart_is_the_same():
    assert torch.equal(task.encode([unicodedata.normalize("NFD", "오월 일일")]), task.encode(["오월 일일"]))


def test_no_text_is_no_row_of_ids():
    assert task.encode([]).dtype == torch.int64 and len(task.encode([], 5)) == 0
