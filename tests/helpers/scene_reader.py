"""A slow reader of referring expressions, written from what the words mean: it knows nothing of how sentences are made.

`read(sentence, language)` gives a `Meaning`; `referents(meaning, objects, lax)` the objects that it fits, of a scene's
objects as plain dictionaries. Nothing here is imported from the library.
"""

import itertools
import math
import re
from dataclasses import dataclass, field

# --- words

ENGLISH_NOUNS = """
car automobile, airplane jet, rocket spaceship, tree sapling, flower blossom, mushroom toadstool, apple fruit,
fish goldfish, bird fowl, cat kitten, butterfly moth, turtle tortoise, house cottage, umbrella parasol, key latchkey,
bell chime, hat cap, shoe loafer, crown tiara, gift present, telephone phone, lock padlock, bucket pail, cake gateau,
circle disc, square box, triangle wedge, star pentagram, cross plus, ring hoop, diamond rhombus, heart valentine,
tee jersey, trouser pant, pullover sweater, dress gown, coat jacket, sandal slipper, shirt blouse, sneaker trainer,
bag purse, boot bootee
"""
KOREAN_NOUNS = """
자동차 승용차, 비행기 항공기, 로켓 우주선, 나무 수목, 꽃 화초,
버섯 송이, 사과 과일, 물고기 금붕어, 새 날짐승, 고양이 야옹이,
나비 나방, 거북이 자라, 집 주택, 우산 양산, 열쇠 키,
종 벨, 모자 중절모, 신발 구두, 왕관 티아라, 선물 선물상자, 전화기 전화,
자물쇠 자물통, 양동이 들통, 케이크 카스텔라, 원 동그라미, 정사각형 네모, 삼각형 세모, 별 별표, 십자가 더하기, 고리 반지,
마름모 다이아몬드, 하트 심장, 티셔츠 반팔, 바지 슬랙스,
스웨터 풀오버, 원피스 드레스, 코트 외투, 샌들 슬리퍼, 셔츠 블라우스,
운동화 스니커즈, 가방 핸드백, 부츠 장화
"""
NAMES = [entry.split()[0] for entry in ENGLISH_NOUNS.split(",")]
COLOUR_NAMES = "red orange yellow green blue purple pink white".split()
ENGLISH_COLOURS = (
    "red crimson scarlet, orange amber tangerine, yellow golden lemon, green emerald, "
    "blue azure, purple violet, pink fuchsia rosy, white ivory snowy"
)
KOREAN_COLOURS = (
    "빨간 빨간색 적색, 주황 주황색 귤색, 노란 노란색 황색, 초록 초록색 녹색, "
    "파란 파란색 청색, 보라 보라색 자색, 분홍 분홍색 핑크색, 하얀 하얀색 백색"
)
SMALL, LARGE = 0, 2


def dictionary(entries, meanings):
    return {word: meaning for entry, meaning in zip(entries.split(","), meanings) for word in entry.split()}


NOUNS = {"english": dictionary(ENGLISH_NOUNS, NAMES), "korean": dictionary(KOREAN_NOUNS, NAMES)}
COLOURS = {"english": dictionary(ENGLISH_COLOURS, COLOUR_NAMES), "korean": dictionary(KOREAN_COLOURS, COLOUR_NAMES)}
SIZES = {
    "english": dictionary("small little tiny, large big huge giant", (SMALL, LARGE)),
    "korean": dictionary(
        "작은 조그만 자그마한 작고 조그맣고 자그마하고, 큰 커다란 거대한 크고 커다랗고 거대하고", (SMALL, LARGE)
    ),
}


@dataclass
class Meaning:
    noun: str = ""
    colour: str | None = None
    size: int | None = None
    kind: str = "attribute"
    where: tuple = ()  # sides; with "middle"; or "closest", "farthest"; or "largest", "smallest"
    rank: int = 0
    anchor: tuple | None = None  # noun, colour or None
    denied: list = field(default_factory=list)

    def pairs(self):
        """Colours said together with the noun they belong to."""
        said = [(self.noun, colour) for colour in (self.colour, *self.denied)]
        return {pair for pair in [*said, self.anchor or ("", None)] if pair[1]}


def read(sentence, language):
    return (read_english if language == "english" else read_korean)(sentence)


# --- English


RANKS = ["first", "second", "third"]
ENGLISH_SIDES = {"left": "left", "right": "right", "top": "top", "bottom": "bottom"}
COMPASS = {"west": "left", "east": "right", "north": "top", "south": "bottom"}
EXTREMES = {
    "leftmost": "left", "westernmost": "left", "rightmost": "right", "easternmost": "right", "topmost": "top",
    "highest": "top", "northernmost": "top", "bottommost": "bottom", "lowest": "bottom", "southernmost": "bottom",
    "largest": "largest", "biggest": "largest", "hugest": "largest", "greatest": "largest", "smallest": "smallest",
    "tiniest": "smallest", "littlest": "smallest",
}  # fmt: skip
PLACES = {
    "left": r"on the (left|left side|lefthand side)|at the left",
    "right": r"on the (right|right side|righthand side)|at the right",
    "top": r"(at|near) the top|in the upper part|up high",
    "bottom": r"(at|near) the bottom|in the lower part|down low",
    "top left": r"in the top (left|lefthand) corner|at the top left|in the upper left",
    "top right": r"in the top (right|righthand) corner|at the top right|in the upper right",
    "bottom left": r"in the bottom (left|lefthand) corner|at the bottom left|in the lower left",
    "bottom right": r"in the bottom (right|righthand) corner|at the bottom right|in the lower right",
    "middle": r"in the (middle|centre)|near the middle|around the midpoint",
}
RELATIONS = {
    "left": r"left of|(to|on) the left of|west of",
    "right": r"right of|(to|on) the right of|east of",
    "top": r"above|over|higher than|north of",
    "bottom": r"below|under|lower than|beneath|underneath",
}
DISTANCES = {"closest": "(closest|nearest) to", "farthest": "(farthest|furthest|remotest|most distant) from"}


def read_english(sentence):
    words, nouns = sentence.split(), NOUNS["english"]
    place = next(number for number, word in enumerate(words) if word in nouns)
    meaning = Meaning(nouns[words[place]])
    before, after = " ".join(words[:place]), " ".join(words[place + 1 :])
    if counted := re.fullmatch(r"counting from the (.*?) the (\w+)( .*)?", before):
        side, rank, rest = counted.groups()
        before, after = f"{rank} {rest or ''}", f"from the {side}"
    ranked = [word for word in before.split() if word in RANKS]
    for word in before.removeprefix("the ").split():
        if word in EXTREMES:
            meaning.kind, meaning.where = "superlative", (EXTREMES[word],)
        elif word not in RANKS and word != "the":
            describe(meaning, word, "english")
    after = re.sub(r"^(that is|which is|located|whose colour is) ", "", after)
    if ranked:
        after = f"{ranked[0]} {after}"
    if not after:
        return meaning
    if after in EXTREMES:
        meaning.kind, meaning.where = "superlative", (EXTREMES[after],)
    elif found := re.fullmatch(r"(first|second|third) from the (\w+)( side)?", after):
        meaning.kind, meaning.rank = "ordinal", RANKS.index(found[1])
        meaning.where = ((ENGLISH_SIDES | COMPASS)[found[2]],)
    elif found := re.fullmatch(r"(?:not|neither|anything but) (\w+)(?: (?:or|nor) (\w+))?", after):
        assert after.startswith("neither") == (" nor " in after)
        meaning.kind, meaning.denied = "negation", [COLOURS["english"][word] for word in found.groups() if word]
    elif after.split()[-1] in nouns:
        relate(meaning, after)
    elif places := [name for name, pattern in PLACES.items() if re.fullmatch(pattern, after)]:
        assert len(places) == 1, sentence
        meaning.kind, meaning.where = "location", tuple(places[0].split())
    else:
        for word in after.split(" and "):
            describe(meaning, word, "english")
    return meaning


def relate(meaning, text):
    """Note the object that the text relates something to, and how."""
    *start, last = text.split()
    colour = COLOURS["english"][start.pop()] if start[-1] != "the" else None
    assert start.pop() == "the", text
    meaning.anchor = NOUNS["english"][last], colour
    named = [("relation", *item) for item in RELATIONS.items()] + [("distance", *item) for item in DISTANCES.items()]
    found = [(kind, name) for kind, name, pattern in named if re.fullmatch(pattern, " ".join(start))]
    assert len(found) == 1, text
    meaning.kind, meaning.where = found[0][0], found[0][1:]


def describe(meaning, word, language):
    if word in COLOURS[language]:
        assert meaning.colour is None
        meaning.colour = COLOURS[language][word]
    else:
        assert meaning.size is None
        meaning.size = SIZES[language][word]


# --- Korean

KOREAN_SIDES = {
    "왼쪽": "left", "왼편": "left", "좌측": "left", "오른쪽": "right", "오른편": "right", "우측": "right",
    "위": "top", "위쪽": "top", "윗부분": "top", "상단": "top",
    "아래": "bottom", "아래쪽": "bottom", "아랫부분": "bottom",
    "하단": "bottom", "가운데": "middle", "한가운데": "middle", "중앙": "middle", "높은 곳": "top", "낮은 곳": "bottom",
}  # fmt: skip
KOREAN_ANCHOR = rf"(?:({'|'.join(COLOURS['korean'])}) )?(\S+)"
RELATED = {noun + particle: name for noun, name in NOUNS["korean"].items() for particle in ("", "의", "보다")}
KOREAN_RANKS = {"첫": 0, "두": 1, "세": 2}
ENDS_IN_CONSONANT = {
    "을": True,
    "를": False,
    "이": True,
    "가": False,
    "과": True,
    "와": False,
    "이나": True,
    "나": False,
}


def stem(word, *particles):
    """A word without its particle, which must be the one that its last letter asks for."""
    for particle in sorted(particles, key=len, reverse=True):
        if word.endswith(particle) and len(word) > len(particle):
            base = word[: -len(particle)]
            if particle in ENDS_IN_CONSONANT:
                letter = ord(base[-1]) - ord("가")
                if (letter % 28 > 0) != ENDS_IN_CONSONANT[particle]:
                    continue
            return base
    raise AssertionError(f"{word!r} does not end in the right one of {particles}")


def read_korean(sentence):
    nouns = NOUNS["korean"]
    text = sentence.removeprefix("그림에서 ")
    if text.endswith(" 찾으세요"):
        text = text.removesuffix(" 찾으세요")
        head, _, last = text.rpartition(" ")
        text = f"{head} {stem(last, '을', '를')}".strip()
    if text.endswith(" 것"):
        described, clause = text.removesuffix(" 것").split(" 중에서 ")
        text = f"{clause} {described}"
    *words, noun = text.split()
    meaning = Meaning(nouns[noun])
    while words and (words[-1] in COLOURS["korean"] or words[-1] in SIZES["korean"] or words[-1].endswith("색인")):
        if words[-1] in SIZES["korean"] and len(words) > 1 and words[-2] in ("가장", "제일"):
            break  # the largest
        describe(meaning, words.pop().removesuffix("인"), "korean")
    clause = " ".join(words)
    if not clause:
        return meaning
    if found := re.fullmatch(r"(\S+?)(에서|부터) (\S) 번째(에 있는)?", clause):
        meaning.kind, meaning.where, meaning.rank = "ordinal", (KOREAN_SIDES[found[1]],), KOREAN_RANKS[found[3]]
    elif words[-1] == "아닌":
        meaning.kind = "negation"
        words = words[1:-1] if words[0] == "색깔이" else words[:-1]
        if len(words) == 1:
            colours = [stem(words[0], "이", "가")]
        elif words[0].endswith("도"):
            colours = [stem(word, "도") for word in words]
        else:
            colours = [stem(words[0], "이나", "나"), stem(words[1], "이", "가")]
        meaning.denied = [COLOURS["korean"][word] for word in colours]
    elif clause.endswith(" 이외의 색을 가진"):
        meaning.kind = "negation"
        *first, last = words[:-3]
        meaning.denied = [COLOURS["korean"][word] for word in [*(stem(word, "과", "와") for word in first), last]]
    elif found := re.fullmatch(f"{KOREAN_ANCHOR} (?:가장|제일) (가까운|근접한|인접한|먼|동떨어진|멀리 있는)", clause):
        meaning.kind = "distance"
        meaning.where = ("closest" if found[3] in ("가까운", "근접한", "인접한") else "farthest",)
        meaning.anchor = nouns[stem(found[2], "에서", "에", "과", "와")], COLOURS["korean"].get(found[1])
    elif found := re.fullmatch(r"(?:가장|제일|맨) (\S+)에 있는", clause):
        meaning.kind, meaning.where = "superlative", (KOREAN_SIDES[found[1]],)
    elif found := re.fullmatch(r"(?:가장|제일) (큰|작은)|(최대|최소) 크기의", clause):
        largest = "큰" in clause or "최대" in clause
        meaning.kind, meaning.where = "superlative", ("largest" if largest else "smallest",)
    elif (found := re.fullmatch(rf"{KOREAN_ANCHOR} ((?:높은|낮은) 곳|\S+)에 있는", clause)) and found[2] in RELATED:
        meaning.kind, meaning.where = "relation", (KOREAN_SIDES[found[3]],)
        meaning.anchor = RELATED[found[2]], COLOURS["korean"].get(found[1])
    else:
        sides = re.fullmatch(r"(.*?)( 구석)?(에 있는|의)", clause)[1].split()
        meaning.kind = "location"
        meaning.where = tuple(
            sorted((KOREAN_SIDES[side] for side in sides), key=("top bottom left right middle").index)
        )
    return meaning


# --- scenes


def ahead(thing, other, side):
    """How much further to a side a thing is than another, in units."""
    sign = 1 if side in ("right", "bottom") else -1
    axis = "column" if side in ("left", "right") else "row"
    return sign * (thing[axis] - other[axis])


def is_at(thing, place, lax):
    if place == "middle":
        reach = 58 if lax else 30
        return max(abs(thing["row"] - 120), abs(thing["column"] - 120)) < reach
    edge = {"row": 0, "column": 0} if place in ("left", "top") else {"row": 240, "column": 240}
    return -ahead(thing, edge, place) < (128 if lax else 80)


def referents(meaning, things, lax):
    """The things that a strict, or a lax, reader takes the expression for."""
    fits = [
        thing
        for thing in things
        if thing["category"] == meaning.noun
        and meaning.colour in (None, thing["colour"])
        and (meaning.size is None or abs(thing["size"] - meaning.size) <= int(lax))
        and thing["colour"] not in meaning.denied
    ]
    anchor = None
    if meaning.anchor:
        noun, colour = meaning.anchor
        anchors = [thing for thing in things if thing["category"] == noun and colour in (None, thing["colour"])]
        assert len(anchors) == 1, "the anchor is not the only one of its name"
        anchor = anchors[0]
    if meaning.kind == "location":
        return [thing for thing in fits if all(is_at(thing, place, lax) for place in meaning.where)]
    if meaning.kind == "relation":
        (side,) = meaning.where
        across = "row" if side in ("left", "right") else "column"
        if lax:
            return [thing for thing in fits if ahead(thing, anchor, side) > 0]
        return [thing for thing in fits if ahead(thing, anchor, side) >= max(20, abs(thing[across] - anchor[across]))]
    if meaning.kind == "distance":
        sign = 1 if meaning.where == ("closest",) else -1
        away = [sign * math.dist(*((one["row"], one["column"]) for one in (thing, anchor))) for thing in fits]
        return [thing for thing, value in zip(fits, away) if value <= min(away) + 20 * lax]
    if meaning.kind == "superlative":
        (extreme,) = meaning.where
        if extreme in ("largest", "smallest"):
            values = [thing["size"] * (1 if extreme == "largest" else -1) for thing in fits]
            return [thing for thing, value in zip(fits, values) if value == max(values)]
        values = [ahead(thing, {"row": 0, "column": 0}, extreme) for thing in fits]
        return [thing for thing, value in zip(fits, values) if value >= max(values) - 10 * lax]
    if meaning.kind == "ordinal":
        return [thing for thing in fits if meaning.rank in ranks(thing, fits, meaning.where[0], 10 * lax)]
    return fits


def ranks(thing, things, side, margin):
    """The places that a thing can take in a row counted from a side, if near ones may be taken in either order."""
    others = [other for other in things if other is not thing]
    sure = sum(ahead(other, thing, side) > margin for other in others)
    open_ = sum(abs(ahead(other, thing, side)) <= margin for other in others) if margin else 0
    return list(itertools.islice(itertools.count(sure), open_ + 1))
