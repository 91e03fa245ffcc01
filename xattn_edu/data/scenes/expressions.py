"""Expressions as programs, and their words in English and Korean.

    Program(kind=relation, way=left of, category=car, colour=red, anchor=tree, ...)
        "the red car to the left of the tree"        "나무보다 왼쪽에 있는 빨간 자동차"

Every meaning has known words and unseen ones: synonyms that only the split "unseen_words" uses.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from xattn_edu.data.scenes.sprites import CATEGORIES
from xattn_edu.shapes import check_choice

KINDS = ("attribute", "location", "superlative", "relation", "distance", "negation", "ordinal")
LANGUAGES = ("english", "korean")
PLACES = ("left", "right", "top", "bottom", "top left", "top right", "bottom left", "bottom right", "middle")
EXTREMES = ("leftmost", "rightmost", "topmost", "bottommost", "largest", "smallest")
SIDES = ("left", "right", "top", "bottom")
RANKS = ("first", "second", "third")
SIZE_NAMES = ("small", "medium", "large")  # "medium" is never said


class Program(NamedTuple):
    """The meaning of an expression; -1 where it says nothing.

    kind: index into KINDS. way: index into the kind's possibilities: PLACES, EXTREMES, SIDES (of the anchor), (closest,
    farthest), (not a, neither a nor b), or 3 x SIDES + RANKS. category, colour, size: the referent's noun phrase.
    anchor, anchor_colour: the other object's. not_a, not_b: the colours that are denied.
    """

    kind: int
    way: int
    category: int
    colour: int
    size: int
    anchor: int
    anchor_colour: int
    not_a: int
    not_b: int


class Words(NamedTuple):
    """Phrases for one meaning: those of every split but "unseen_words", and those of that split alone."""

    known: tuple[str, ...]
    unseen: tuple[str, ...] = ()


def _words(lines: str) -> tuple[Words, ...]:
    """One meaning a line: known phrases | unseen ones, each list separated by commas."""
    halves = (line.partition("|")[::2] for line in lines.strip().splitlines())
    return tuple(
        Words(*(tuple(way.strip() for way in half.split(",") if way.strip()) for half in pair)) for pair in halves
    )


@dataclass(frozen=True)
class Grammar:
    """One language. Slots: {phrase} is size, colour and noun; {noun} the noun alone; {quality} colour and size as said
    after "that is"; {clause} what the kind adds; {anchor}, {a}, {b}, {rank} stand in clauses and templates. Where
    "을/를" stands, the last letter before it decides."""

    templates: Mapping[str, tuple[str, ...]]
    clauses: dict[str, tuple[Words, ...]]
    ranks: tuple[str, ...]
    qualities: tuple[str, str, str]  # colour, size, both
    colours: tuple[Words, ...]  # before a noun
    hues: tuple[Words, ...]  # by themselves
    sizes: tuple[Words, ...]  # small, medium, large
    joined: dict[str, str]  # a size word, when another quality follows it
    nouns: dict[str, tuple[Words, ...]]  # of each kind of objects, in the order of CATEGORIES


ENGLISH_COLOURS = _words("""
    red | crimson, scarlet
    orange | amber, tangerine
    yellow | golden, lemon
    green | emerald
    blue | azure
    purple | violet
    pink | fuchsia, rosy
    white | ivory, snowy
""")
ENGLISH = Grammar(
    templates={
        "attribute": ("the {phrase}", "{phrase}", "the {noun} that is {quality}", "the {noun} which is {quality}"),
        "superlative": (
            "the {clause} {phrase}",
            "{clause} {phrase}",
            "the {phrase} that is {clause}",
            "the {phrase} which is {clause}",
        ),
        "negation": (
            "the {phrase} that is {clause}",
            "{phrase} that is {clause}",
            "the {phrase} which is {clause}",
            "the {phrase} whose colour is {clause}",
        ),
        "ordinal": (
            "the {rank} {phrase} from the {clause}",
            "{rank} {phrase} from the {clause}",
            "the {phrase} that is {rank} from the {clause}",
            "counting from the {clause} the {rank} {phrase}",
        ),
    }
    | dict.fromkeys(
        ("location", "relation", "distance"),
        (
            "the {phrase} {clause}",
            "{phrase} {clause}",
            "the {phrase} that is {clause}",
            "the {phrase} located {clause}",
        ),
    ),
    clauses={
        "location": _words("""
            on the left, on the left side, at the left | on the lefthand side
            on the right, on the right side, at the right | on the righthand side
            at the top, near the top, in the upper part | up high
            at the bottom, near the bottom, in the lower part | down low
            in the top left corner, at the top left, in the upper left | in the top lefthand corner
            in the top right corner, at the top right, in the upper right | in the top righthand corner
            in the bottom left corner, at the bottom left, in the lower left | in the bottom lefthand corner
            in the bottom right corner, at the bottom right, in the lower right | in the bottom righthand corner
            in the middle, in the centre, near the middle | around the midpoint
        """),
        "superlative": _words("""
            leftmost | westernmost
            rightmost | easternmost
            topmost, highest | northernmost
            bottommost, lowest | southernmost
            largest, biggest | hugest, greatest
            smallest | tiniest, littlest
        """),
        "relation": _words("""
            left of the {anchor}, to the left of the {anchor}, on the left of the {anchor} | west of the {anchor}
            right of the {anchor}, to the right of the {anchor}, on the right of the {anchor} | east of the {anchor}
            above the {anchor}, over the {anchor}, higher than the {anchor} | north of the {anchor}
            below the {anchor}, under the {anchor}, lower than the {anchor} |\
                beneath the {anchor}, underneath the {anchor}
        """),
        "distance": _words("""
            closest to the {anchor} | nearest to the {anchor}
            farthest from the {anchor}, furthest from the {anchor} | remotest from the {anchor}
        """),
        "negation": _words("""
            not {a} | anything but {a}
            neither {a} nor {b}, not {a} or {b} | anything but {a} or {b}
        """),
        "ordinal": _words("""
            left, left side | west
            right, right side | east
            top | north
            bottom | south
        """),
    },
    ranks=RANKS,
    qualities=("{colour}", "{size}", "{size} and {colour}"),
    colours=ENGLISH_COLOURS,
    hues=ENGLISH_COLOURS,
    sizes=_words("""
        small, little | tiny
        medium
        large, big | huge, giant
    """),
    joined={},
    nouns={
        "emoji": _words("""
            car | automobile
            airplane | jet
            rocket | spaceship
            tree | sapling
            flower | blossom
            mushroom | toadstool
            apple | fruit
            fish | goldfish
            bird | fowl
            cat | kitten
            butterfly | moth
            turtle | tortoise
            house | cottage
            umbrella | parasol
            key | latchkey
            bell | chime
            hat | cap
            shoe | loafer
            crown | tiara
            gift | present
            telephone | phone
            lock | padlock
            bucket | pail
            cake | gateau
        """),
        "shapes": _words("""
            circle | disc
            square | box
            triangle | wedge
            star | pentagram
            cross | plus
            ring | hoop
            diamond | rhombus
            heart | valentine
        """),
        "clothes": _words("""
            tee | jersey
            trouser | pant
            pullover | sweater
            dress | gown
            coat | jacket
            sandal | slipper
            shirt | blouse
            sneaker | trainer
            bag | purse
            boot | bootee
        """),
    },
)

KOREAN = Grammar(
    templates=dict.fromkeys(
        KINDS,
        (
            "{clause} {phrase}",
            "그림에서 {clause} {phrase}",
            "{phrase} 중에서 {clause} 것",
            "{clause} {phrase}을/를 찾으세요",
        ),
    )
    | {
        "attribute": ("{phrase}", "{quality} {noun}", "{noun} 중에서 {quality} 것", "{phrase}을/를 찾으세요"),
        "ordinal": (
            "{clause} {rank} {phrase}",
            "{clause} {rank}에 있는 {phrase}",
            "{phrase} 중에서 {clause} {rank} 것",
            "{clause} {rank} {phrase}을/를 찾으세요",
        ),
    },
    clauses={
        "location": _words("""
            왼쪽에 있는, 왼편에 있는, 왼쪽의 | 좌측에 있는
            오른쪽에 있는, 오른편에 있는, 오른쪽의 | 우측에 있는
            위쪽에 있는, 윗부분에 있는, 위쪽의 | 상단에 있는
            아래쪽에 있는, 아랫부분에 있는, 아래쪽의 | 하단에 있는
            왼쪽 위에 있는, 왼쪽 위 구석에 있는, 왼쪽 위의 | 좌측 상단에 있는
            오른쪽 위에 있는, 오른쪽 위 구석에 있는, 오른쪽 위의 | 우측 상단에 있는
            왼쪽 아래에 있는, 왼쪽 아래 구석에 있는, 왼쪽 아래의 | 좌측 하단에 있는
            오른쪽 아래에 있는, 오른쪽 아래 구석에 있는, 오른쪽 아래의 | 우측 하단에 있는
            가운데에 있는, 한가운데에 있는, 가운데의 | 중앙에 있는
        """),
        "superlative": _words("""
            가장 왼쪽에 있는, 제일 왼쪽에 있는, 맨 왼쪽에 있는 | 가장 좌측에 있는
            가장 오른쪽에 있는, 제일 오른쪽에 있는, 맨 오른쪽에 있는 | 가장 우측에 있는
            가장 위에 있는, 제일 위쪽에 있는, 맨 위에 있는 | 가장 상단에 있는
            가장 아래에 있는, 제일 아래쪽에 있는, 맨 아래에 있는 | 가장 하단에 있는
            가장 큰, 제일 큰 | 최대 크기의
            가장 작은, 제일 작은 | 최소 크기의
        """),
        "relation": _words("""
            {anchor} 왼쪽에 있는, {anchor}의 왼쪽에 있는, {anchor}보다 왼쪽에 있는 |\
                {anchor}의 좌측에 있는, {anchor}보다 좌측에 있는
            {anchor} 오른쪽에 있는, {anchor}의 오른쪽에 있는, {anchor}보다 오른쪽에 있는 |\
                {anchor}의 우측에 있는, {anchor}보다 우측에 있는
            {anchor} 위에 있는, {anchor}의 위쪽에 있는, {anchor}보다 위에 있는 | {anchor}보다 높은 곳에 있는
            {anchor} 아래에 있는, {anchor}의 아래쪽에 있는, {anchor}보다 아래에 있는 | {anchor}보다 낮은 곳에 있는
        """),
        "distance": _words("""
            {anchor}에서 가장 가까운, {anchor}에 제일 가까운, {anchor}과/와 가장 가까운 |\
                {anchor}에 가장 근접한, {anchor}과/와 가장 인접한
            {anchor}에서 가장 먼, {anchor}에서 제일 먼, {anchor}에서 가장 멀리 있는 | {anchor}에서 가장 동떨어진
        """),
        "negation": _words("""
            {a}이/가 아닌, 색깔이 {a}이/가 아닌 | {a} 이외의 색을 가진
            {a}도 {b}도 아닌, {a}이나/나 {b}이/가 아닌 | {a}과/와 {b} 이외의 색을 가진
        """),
        "ordinal": _words("""
            왼쪽에서, 왼쪽부터 | 좌측에서
            오른쪽에서, 오른쪽부터 | 우측에서
            위에서, 위쪽부터 | 상단에서
            아래에서, 아래쪽부터 | 하단에서
        """),
    },
    ranks=("첫 번째", "두 번째", "세 번째"),
    qualities=("{colour}인", "{size}", "{size} {colour}인"),
    colours=_words("""
        빨간, 빨간색 | 적색
        주황, 주황색 | 귤색
        노란, 노란색 | 황색
        초록, 초록색 | 녹색
        파란, 파란색 | 청색
        보라, 보라색 | 자색
        분홍, 분홍색 | 핑크색
        하얀, 하얀색 | 백색
    """),
    hues=_words("""
        빨간색 | 적색
        주황색 | 귤색
        노란색 | 황색
        초록색 | 녹색
        파란색 | 청색
        보라색 | 자색
        분홍색 | 핑크색
        하얀색 | 백색
    """),
    sizes=_words("""
        작은, 조그만 | 자그마한
        중간
        큰, 커다란 | 거대한
    """),
    joined={
        "작은": "작고",
        "조그만": "조그맣고",
        "자그마한": "자그마하고",
        "큰": "크고",
        "커다란": "커다랗고",
        "거대한": "거대하고",
    },
    nouns={
        "emoji": _words("""
            자동차 | 승용차
            비행기 | 항공기
            로켓 | 우주선
            나무 | 수목
            꽃 | 화초
            버섯 | 송이
            사과 | 과일
            물고기 | 금붕어
            새 | 날짐승
            고양이 | 야옹이
            나비 | 나방
            거북이 | 자라
            집 | 주택
            우산 | 양산
            열쇠 | 키
            종 | 벨
            모자 | 중절모
            신발 | 구두
            왕관 | 티아라
            선물 | 선물상자
            전화기 | 전화
            자물쇠 | 자물통
            양동이 | 들통
            케이크 | 카스텔라
        """),
        "shapes": _words("""
            원 | 동그라미
            정사각형 | 네모
            삼각형 | 세모
            별 | 별표
            십자가 | 더하기
            고리 | 반지
            마름모 | 다이아몬드
            하트 | 심장
        """),
        "clothes": _words("""
            티셔츠 | 반팔
            바지 | 슬랙스
            스웨터 | 풀오버
            원피스 | 드레스
            코트 | 외투
            샌들 | 슬리퍼
            셔츠 | 블라우스
            운동화 | 스니커즈
            가방 | 핸드백
            부츠 | 장화
        """),
    },
)
GRAMMARS = {"english": ENGLISH, "korean": KOREAN}


def phrase(program: Program, objects: str, language: str, style: int, unseen: bool = False) -> str:
    """The program in words. `style` is a large random number whose digits make the choices among ways to say it.

    With `unseen` about half of what can be said in unseen words is, and at least one thing.
    """
    grammar, kind = GRAMMARS[language], KINDS[program.kind]
    fresh = False

    def choose(options: Sequence[str]) -> str:
        nonlocal style
        style, digit = divmod(style, len(options))
        return options[digit]

    def say(words: Words, must: bool = False) -> str:
        nonlocal style, fresh
        style, toss = divmod(style, 2)
        new = unseen and bool(words.unseen) and (must or toss == 1)
        fresh |= new
        return choose(words.unseen if new else words.known)

    template = choose(grammar.templates[kind])
    slots = {}
    if program.anchor >= 0:
        colour = [say(grammar.colours[program.anchor_colour])] if program.anchor_colour >= 0 else []
        slots["anchor"] = " ".join([*colour, say(grammar.nouns[objects][program.anchor])])
    for slot, denied in (("a", program.not_a), ("b", program.not_b)):
        if denied >= 0:
            slots[slot] = say(grammar.hues[denied])
    if kind == "ordinal":
        side, rank = divmod(program.way, len(RANKS))
        slots |= {"clause": say(grammar.clauses[kind][side]), "rank": grammar.ranks[rank]}
    elif kind != "attribute":
        slots["clause"] = say(grammar.clauses[kind][program.way]).format(**slots)

    plain = "{quality}" not in template
    colour = [say((grammar.colours if plain else grammar.hues)[program.colour])] if program.colour >= 0 else []
    size = [say(grammar.sizes[program.size])] if program.size >= 0 else []
    noun = say(grammar.nouns[objects][program.category], must=not fresh)
    if plain:
        slots["phrase"] = " ".join([*size, *colour, noun])
    else:
        quality = grammar.qualities[2 if size and colour else 1 if size else 0]
        first = [grammar.joined.get(word, word) for word in size] if colour else size
        slots |= {"noun": noun, "quality": quality.format(size="".join(first), colour="".join(colour))}
    return _with_particles(template.format(**slots))


_PARTICLES = re.compile(r"(.)(을|이|과|이나)/(를|가|와|나)(?!\w)")


def _with_particles(text: str) -> str:
    """ "사과을/를" to "사과를": the first of the two follows a syllable that ends in a consonant."""
    return _PARTICLES.sub(lambda found: found[1] + found[2 if (ord(found[1]) - 0xAC00) % 28 else 3], text)


@cache
def vocabulary(language: str) -> tuple[str, ...]:
    """All words that a sentence of any split and any kind of objects can contain, sorted.

    Raises ValueError for an unknown language.
    """
    check_choice("language", language, LANGUAGES)
    grammar = GRAMMARS[language]

    def ways(entries: Sequence[Words]) -> Iterator[str]:
        return (way for words in entries for way in (*words.known, *words.unseen))

    nouns = [noun for objects in CATEGORIES for noun in ways(grammar.nouns[objects])]
    sizes = [word for word in ways(grammar.sizes) if word not in grammar.sizes[1].known]
    hues, joined = [*ways(grammar.hues)], [grammar.joined.get(word, word) for word in sizes]
    last = [rank.split()[-1] for rank in grammar.ranks]
    fills = {
        "phrase": nouns,
        "noun": nouns,
        "anchor": nouns,
        "a": hues,
        "b": hues,
        "colour": hues,
        "size": joined,
        "rank": last,
    }
    texts = [*grammar.ranks, *grammar.qualities, *sizes, *ways(grammar.colours)]
    texts += [text for templates in grammar.templates.values() for text in templates]
    texts += [text for clauses in grammar.clauses.values() for text in ways(clauses)]
    found: set[str] = set()
    for token in " ".join(texts).split():  # a slot with the particle that follows it, or a word
        slot = re.match(r"\{(\w+)\}(.*)", token)
        fillings = fills.get(slot[1], []) if slot else [""]  # of the other slots, the words are among the texts
        found.update(_with_particles(filling + (slot[2] if slot else token)) for filling in fillings)
    return tuple(sorted(found))
