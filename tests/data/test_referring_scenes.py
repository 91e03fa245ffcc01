"""A slow reader finds just the object that each sentence means; the words are needed; splits share nothing."""

import itertools
import re
from collections import Counter
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import torch
from helpers.scene_reader import COLOUR_NAMES, NOUNS, SIZES, read, referents

from xattn_edu.data.scenes import (
    CATEGORIES,
    COLOURS,
    KINDS,
    LANGUAGES,
    OBJECTS,
    SPLITS,
    held_out,
    paint,
    scene_layouts,
    scenes,
    vocabulary,
)
from xattn_edu.data.scenes.expressions import Program, phrase

everything = pytest.mark.parametrize(("objects", "language"), list(itertools.product(OBJECTS, LANGUAGES)))
each_language = pytest.mark.parametrize("language", LANGUAGES)
each_kind_of_objects = pytest.mark.parametrize("objects", OBJECTS)
each_split = pytest.mark.parametrize("split", SPLITS)
MANY = 2000  # scenes of each split, kind of objects and language


@pytest.fixture(scope="module")
def drawn():
    """Layouts, sentences and kinds of MANY scenes of anything, drawn once."""
    return {
        key: scene_layouts(key[0], MANY, objects=key[1], language=key[2])
        for key in itertools.product(SPLITS, OBJECTS, LANGUAGES)
    }


def things(layout, number, objects):
    """The objects of one scene as the reader wants them."""
    return [
        {
            "slot": slot,
            "category": CATEGORIES[objects][layout.category[number, slot]],
            "colour": COLOURS[layout.colour[number, slot]],
            **{name: int(getattr(layout, name)[number, slot]) for name in ("size", "row", "column", "height", "width")},
        }
        for slot in range(6)
        if layout.present[number, slot]
    ]


def columns(layout):
    return {field.name: getattr(layout, field.name) for field in fields(layout)}


def same(one, other):
    return all(np.array_equal(array, getattr(other, name)) for name, array in columns(one).items())


# --- what the sentences mean


@pytest.mark.slow
@everything
def test_two_readers_find_the_referent_and_nothing_else(drawn, objects, language):
    """10,000 sentences of each kind: read strictly or laxly, each leaves the one object that is the referent."""
    for split in SPLITS:
        layout, sentences, kinds = drawn[split, objects, language]
        for number, sentence in enumerate(sentences):
            meaning, scene = read(sentence, language), things(layout, number, objects)
            assert meaning.kind == KINDS[kinds[number]], sentence
            for lax in (False, True):
                found = [thing["slot"] for thing in referents(meaning, scene, lax)]
                assert found == [layout.target[number]], (split, number, sentence)


def test_a_reader_would_notice_other_sentences(drawn):
    """The reader is not too easily pleased: sentences of other scenes hardly ever fit."""
    layout, sentences, _ = drawn["test", "shapes", "english"]
    fit = 0
    for number in range(MANY - 1):
        try:
            found = referents(read(sentences[number + 1], "english"), things(layout, number, "shapes"), False)
        except AssertionError:
            continue
        fit += [thing["slot"] for thing in found] == [layout.target[number]]
    assert fit < 0.05 * MANY


@everything
def test_both_languages_say_the_same(drawn, objects, language):
    """Read back, the Korean sentence has the meaning of the English one, word for word."""
    for split in SPLITS:
        pairs = zip(drawn[split, objects, "english"][1], drawn[split, objects, "korean"][1])
        for english, korean in pairs:
            one, other = read(english, "english"), read(korean, "korean")
            assert (one.noun, one.colour, one.size, one.kind, one.rank, one.anchor) == (
                other.noun, other.colour, other.size, other.kind, other.rank, other.anchor,
            )  # fmt: skip
            assert set(one.where) == set(other.where) and sorted(one.denied) == sorted(other.denied)
    assert same(drawn["test", objects, "english"][0], drawn["test", objects, "korean"][0])


def test_words_are_needed(drawn):
    """The noun alone names one referent in ten; where more is said, it is not said in vain too often."""
    for objects in OBJECTS:
        layout, sentences, kinds = drawn["train", objects, "english"]
        alone = np.array([
            sum(thing["category"] == read(sentence, "english").noun for thing in things(layout, number, objects))
            for number, sentence in enumerate(sentences)
        ])  # fmt: skip
        assert np.array_equal(alone, layout.namesakes)
        assert 0.07 < (alone == 1).mean() < 0.13 and 2.5 < alone.mean() < 2.9
        total = layout.present.sum(axis=1)
        assert set(total) == {3, 4, 5, 6} and 4.1 < total.mean() < 4.7
        for name in ("superlative", "negation", "ordinal"):
            assert (alone[kinds == KINDS.index(name)] > 1).all()
        for number, sentence in enumerate(sentences):
            meaning, scene = read(sentence, "english"), things(layout, number, objects)
            if meaning.kind not in ("attribute", "negation") and alone[number] > 1:
                meaning.kind = "attribute"  # what is left without the clause
                assert len(referents(meaning, scene, False)) > 1, sentence


def test_every_way_to_say_something_comes(drawn):
    _, sentences, _ = drawn["train", "emoji", "english"]
    ways = Counter((m.kind, m.where, m.rank, len(m.denied)) for m in (read(text, "english") for text in sentences))
    kinds = Counter(kind for kind, *_ in ways)
    assert kinds == {
        "attribute": 1, "location": 9, "superlative": 6, "relation": 4, "distance": 2, "negation": 2, "ordinal": 12,
    }  # fmt: skip
    for (kind, *_), count in ways.items():
        assert count > 0.1 * MANY / 7 / kinds[kind], (kind, count)
    sizes = Counter(read(text, "english").size for text in sentences)
    colours = Counter(read(text, "english").colour for text in sentences)
    assert min(sizes.values()) > 0.05 * MANY and min(colours.values()) > 0.02 * MANY and len(colours) == 9


@each_language
def test_each_kind_is_phrased_in_several_ways(drawn, language):
    """Sentences with nouns, colours and sizes taken out: frames, each of which is used."""
    _, sentences, kinds = drawn["train", "shapes", language]
    content = set(NOUNS[language]) | set(SIZES[language])
    for number in range(len(KINDS)):
        texts = [text for text, kind in zip(sentences, kinds) if kind == number]
        endings = Counter(re.sub(r"\S*색\S*", "", text).split()[-1] for text in texts)
        frames = {" ".join(word for word in text.split() if word not in content) for text in texts}
        starts = Counter(text.split()[0] for text in texts)
        assert len(frames) >= 4 and len(endings) >= 2 and len(starts) >= 2


@everything
def test_sentences_are_short_and_plain(drawn, objects, language):
    for split in SPLITS:
        for sentence in drawn[split, objects, language][1]:
            assert sentence == sentence.lower().strip() and "  " not in sentence
            assert re.fullmatch(r"[a-z ]+" if language == "english" else r"[가-힣 ]+", sentence)
            assert 1 < len(sentence.split()) <= 14


@each_language
def test_the_vocabulary_is_all_words_and_no_others(drawn, language):
    words = vocabulary(language)
    assert list(words) == sorted(set(words))
    used = {
        word
        for (_, _, spoken), item in drawn.items()
        if spoken == language
        for text in item[1]
        for word in text.split()
    }
    assert used <= set(words)
    assert len(used) > 0.95 * len(words), sorted(set(words) - used)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("사과을/를", "사과를"),
        ("꽃을/를", "꽃을"),
        ("나무과/와 가까운", "나무와 가까운"),
        ("집과/와", "집과"),
        ("빨간색이/가 아닌", "빨간색이 아닌"),
        ("보라이나/나", "보라나"),
        ("빨간색이나/나", "빨간색이나"),
    ],
)
def test_particles_follow_the_last_letter(text, wanted):
    from xattn_edu.data.scenes.expressions import _with_particles

    assert _with_particles(text) == wanted


@pytest.mark.parametrize(
    ("program", "style", "unseen", "english", "korean"),
    [
        (Program(0, 0, 0, 0, 0, -1, -1, -1, -1), 0, False, "the small red car", "작은 빨간 자동차"),
        (
            Program(3, 0, 3, -1, -1, 8, 4, -1, -1),
            0,
            False,
            "the tree left of the blue bird",
            "파란 새 왼쪽에 있는 나무",
        ),
        (
            Program(5, 1, 16, -1, -1, -1, -1, 1, 7),
            0,
            False,
            "the hat that is neither orange nor white",
            "주황색도 하얀색도 아닌 모자",
        ),
        (
            Program(6, 10, 7, -1, 2, -1, -1, -1, -1),
            0,
            False,
            "the second large fish from the bottom",
            "아래에서 두 번째 큰 물고기",
        ),
        (
            Program(4, 0, 4, -1, -1, 12, -1, -1, -1),
            0,
            True,
            "the blossom closest to the house",
            "집에서 가장 가까운 화초",
        ),
        (Program(2, 4, 18, -1, -1, -1, -1, -1, -1), 4, True, "the hugest crown", "최대 크기의 왕관"),
    ],
)
def test_golden_phrases(program, style, unseen, english, korean):
    """What does not hang on NumPy's generators: a program and a style give these words, today and later."""
    assert phrase(program, "emoji", "english", style, unseen) == english
    assert phrase(program, "emoji", "korean", style, unseen) == korean


# --- the splits


@each_kind_of_objects
def test_the_layout_names_its_split(drawn, objects):
    """So no layout can be in two splits."""
    for number, split in enumerate(SPLITS):
        layout = drawn[split, objects, "english"][0]
        assert ((layout.row + layout.column).sum(axis=1) % 5 == number).all()


@everything
def test_unseen_words_are_in_every_sentence_of_their_split_and_in_no_other(drawn, objects, language):
    known = {
        word
        for split in SPLITS
        for other in OBJECTS
        if split != "unseen_words"
        for text in drawn[split, other, language][1]
        for word in text.split()
    }
    counts = [sum(word not in known for word in text.split()) for text in drawn["unseen_words", objects, language][1]]
    assert min(counts) == 1 and np.mean(counts) > 1.3


@everything
def test_held_out_pairs_are_said_in_unseen_pairs_only(drawn, objects, language):
    held = {(name, COLOURS[colour]) for name, colour in zip(CATEGORIES[objects], held_out(np.arange(99)))}
    for split in SPLITS:
        layout, sentences, _ = drawn[split, objects, language]
        said = [read(text, language).pairs() for text in sentences]
        if split == "unseen_pairs":
            assert all(pairs & held for pairs in said)
            assert set().union(*said) & held == held
        else:
            assert not any(pairs & held for pairs in said)
            targets = zip(layout.of("category", layout.target), layout.of("colour", layout.target))
            assert not {(CATEGORIES[objects][category], COLOURS[colour]) for category, colour in targets} & held
            others = {
                (thing["category"], thing["colour"])
                for number in range(MANY)
                for thing in things(layout, number, objects)
            }
            assert others >= held  # they may be seen


def test_each_colour_is_held_out_equally_often():
    for objects in OBJECTS:
        count = len(CATEGORIES[objects])
        times = np.bincount(held_out(np.arange(count)), minlength=8)
        assert times.max() - times.min() <= (count % 8 > 0)
    assert tuple(COLOUR_NAMES) == COLOURS


@each_split
def test_kinds_are_equally_frequent_in_no_order(split):
    _, _, kinds = scene_layouts(split, 1024)
    for block in (kinds[:512], kinds[512:]):
        assert set(np.bincount(block)) <= {73, 74} and len(np.bincount(block)) == 7
    assert not np.array_equal(kinds[:512], kinds[512:]) and (kinds[1:] == kinds[:-1]).mean() < 0.2
    _, sentences, some = scene_layouts(split, 100, kinds=("ordinal", "negation"))
    assert set(some) == {5, 6} and all(KINDS[kind] == read(text, "english").kind for kind, text in zip(some, sentences))


# --- layouts and pictures


@each_kind_of_objects
def test_objects_stand_apart_within_the_picture(drawn, objects):
    for split in SPLITS:
        layout = drawn[split, objects, "english"][0]
        for number in range(0, MANY, 5):
            scene = things(layout, number, objects)
            for thing in scene:
                assert thing["height"] / 2 <= thing["row"] <= 240 - thing["height"] / 2
                assert thing["width"] / 2 <= thing["column"] <= 240 - thing["width"] / 2
            for one, other in itertools.combinations(scene, 2):
                down, across = (abs(one[axis] - other[axis]) for axis in ("row", "column"))
                apart = 2 * down - one["height"] - other["height"], 2 * across - one["width"] - other["width"]
                assert max(apart) >= 0
    absent = ~layout.present
    assert all(not array[absent].any() for array in columns(layout).values() if array.ndim == 2)
    areas = [(layout.height * layout.width)[layout.present & (layout.size == size)] ** 0.5 for size in range(3)]
    small, medium, large = (area.mean() for area in areas)
    assert medium > 1.2 * small and large > 1.2 * medium


def boxes(layout, size):
    """Top, bottom, left and right of every object in pixels."""
    scale = size / 240
    rows, columns = (scale * np.stack([centre - length / 2, centre + length / 2]) for centre, length in (
        (layout.row, layout.height), (layout.column, layout.width)))  # fmt: skip
    return rows, columns


@pytest.mark.parametrize(("objects", "size"), [("emoji", 64), ("emoji", 48), ("shapes", 96), ("clothes", 64)])
def test_the_mask_is_the_pixels_of_the_referent(objects, size):
    data = scenes("train", 400, objects=objects, size=size)
    (tops, bottoms), (lefts, rights) = boxes(data.layout, size)
    shortness = []
    for number, mask in enumerate(data.masks):
        target = data.layout.target[number]
        rows, columns = np.nonzero(mask)
        box = tops[number, target], bottoms[number, target], lefts[number, target], rights[number, target]
        short = np.array([rows.min(), -rows.max() - 1, columns.min(), -columns.max() - 1]) - np.multiply(
            box, (1, -1, 1, -1)
        )
        assert short.min() > -1.01 and short.max() < max(
            2, 0.6 * (box[1] - box[0])
        )  # an umbrella's stick is hardly seen
        shortness.append(short)
        assert mask.sum() > 0.2 * (box[1] - box[0]) * (box[3] - box[2]) and mask.sum() > size**2 / 100
        for slot in np.flatnonzero(data.layout.present[number]):
            if slot != target:
                top, bottom, left, right = (int(round(edge[number, slot])) for edge in (tops, bottoms, lefts, rights))
                assert not mask[top + 1 : bottom - 1, left + 1 : right - 1].any()
    assert np.median(shortness) < 0.5
    # Without the referent the picture is another where the mask is, and at its blurred edge, and nowhere else.
    others = data.layout.present & (np.arange(6) != data.layout.target[:, None])
    bare, _ = paint._paint(replace(data.layout, present=others), "train", 0, 0, size, objects)
    changed, around = (data.images != bare).any(axis=3), np.pad(data.masks, ((0, 0), (2, 2), (2, 2)))
    near = np.max([around[:, y : y + size, x : x + size] for y, x in np.ndindex(5, 5)], axis=0)
    assert (data.masks & ~changed).sum() < 0.01 * data.masks.sum()
    assert (changed & ~near).sum() < 0.01 * changed.sum() and changed.sum() < 1.6 * data.masks.sum()


TINTS = {
    "red": (222, 32, 38),
    "orange": (250, 138, 18),
    "yellow": (252, 228, 48),
    "green": (52, 168, 60),
    "blue": (44, 98, 238),
    "purple": (138, 58, 188),
    "pink": (255, 138, 200),
    "white": (250, 250, 250),
}


@each_kind_of_objects
def test_objects_have_the_colour_that_is_said(objects):
    """The brightest fifth of the referent's pixels are nearest to its colour, of the eight."""
    data, right = scenes("test", 400, objects=objects, size=96), 0
    palette = np.array(list(TINTS.values()))
    for number, (image, mask) in enumerate(zip(data.images, data.masks)):
        pixels = image[mask].astype(int)
        bright = pixels[pixels.max(axis=1) >= np.quantile(pixels.max(axis=1), 0.8)].mean(axis=0)
        nearest = np.linalg.norm(palette / palette.max(1, keepdims=True) - bright / bright.max(), axis=1).argmin()
        right += COLOURS[nearest] == COLOURS[data.layout.colour[number, data.layout.target[number]]]
    assert list(TINTS) == list(COLOURS) and right > 390


def test_each_shape_has_its_area():
    """Of its box: a circle pi / 4, and so on."""
    wanted = {
        "circle": 0.785,
        "square": 1,
        "triangle": 0.5,
        "star": (0.35, 0.45),
        "cross": (0.5, 0.7),
        "ring": (0.45, 0.7),
    }
    wanted |= {"diamond": 0.5, "heart": (0.65, 0.8)}
    data = scenes("train", 300, objects="shapes", size=256)
    for number, mask in enumerate(data.masks):
        slot = data.layout.target[number]
        name = CATEGORIES["shapes"][data.layout.category[number, slot]]
        box = data.layout.height[number, slot] * data.layout.width[number, slot] * (256 / 240) ** 2
        low, high = wanted[name] if isinstance(wanted[name], tuple) else (wanted[name] - 0.05, wanted[name] + 0.05)
        assert low < mask.sum() / box < high, name


def test_backgrounds_are_grey_patterns_that_differ():
    """Away from all objects: neither coloured nor as dark or bright as they are, and no two alike."""
    data, spreads, seen = scenes("train", 300, objects="shapes"), [], set()
    (tops, bottoms), (lefts, rights) = boxes(data.layout, 64)
    for number, image in enumerate(data.images):
        free = np.ones((64, 64), bool)
        for slot in np.flatnonzero(data.layout.present[number]):
            top, left = (int(edge[number, slot]) - 1 for edge in (tops, lefts))
            free[max(top, 0) : int(bottoms[number, slot]) + 2, max(left, 0) : int(rights[number, slot]) + 2] = False
        pixels = image[free].astype(int)
        assert np.ptp(pixels, axis=1).max() < 60 and pixels.min() >= 40 and pixels.max() <= 205
        distances = np.linalg.norm(pixels[:, None] - np.array(list(TINTS.values())), axis=2)
        assert distances.min() > 60
        spreads.append(pixels.mean(axis=1).std())
        seen.add(pixels.mean(axis=0).round(1).tobytes())
    assert len(seen) == 300 and min(spreads) > 4 and max(spreads) > 16


# --- what is drawn, how it is given


@pytest.mark.parametrize(("start", "count"), [(0, 1), (7, 3), (511, 2), (512, 1), (700, 100)])
def test_scenes_can_be_drawn_from_anywhere(start, count):
    whole, part = scenes("validation", 800, 3), scenes("validation", count, 3, start=start)
    chosen = whole[start : start + count]
    for one in (chosen, whole[np.arange(start, start + count)], whole[[*range(start, start + count)]]):
        assert np.array_equal(part.images, one.images) and np.array_equal(part.masks, one.masks)
        assert part.sentences == one.sentences and np.array_equal(part.kinds, one.kinds)
        assert same(part.layout, one.layout) and len(one) == count


def test_layouts_and_sentences_are_the_same_in_each_size_and_language(drawn):
    small, large, korean = (scenes("test", 20, size=size, language=language) for size, language in (
        (48, "english"), (256, "english"), (64, "korean")))  # fmt: skip
    assert small.images.shape == (20, 48, 48, 3) and large.images.shape == (20, 256, 256, 3)
    assert small.sentences == large.sentences == drawn["test", "emoji", "english"][1][:20]
    assert same(small.layout, large.layout) and same(small.layout, korean.layout)
    for one, other in zip(small.masks, large.masks):
        centres = [np.argwhere(mask).mean(axis=0) / len(mask) for mask in (one, other)]
        assert np.abs(centres[0] - centres[1]).max() < 0.03 and one.mean() == pytest.approx(other.mean(), rel=0.25)


@each_kind_of_objects
def test_shapes_and_types_are_those_of_the_docstring(objects):
    data = scenes("unseen_pairs", 3, objects=objects, size=50)
    assert data.images.shape == (3, 50, 50, 3) and data.images.dtype == np.uint8
    assert data.masks.shape == (3, 50, 50) and data.masks.dtype == bool
    assert isinstance(data.sentences, tuple) and len(data.sentences) == len(data) == len(data.layout) == 3
    assert data.kinds.shape == (3,) and data.kinds.dtype == np.int64
    for name, array in columns(data.layout).items():
        assert array.shape == ((3,) if name in ("target", "anchor") else (3, 6))
        assert array.dtype == (bool if name == "present" else np.int64)
    assert all(data.layout.present[np.arange(3), data.layout.target])
    with pytest.raises(FrozenInstanceError):
        data.images = None
    with pytest.raises(TypeError, match="a slice or an array of indices, given 2"):
        data[2]


def test_tensors_are_the_arrays_standardised_and_copies():
    data = scenes("train", 600)
    images, masks = data.tensors()
    assert images.shape == (600, 3, 64, 64) and images.dtype == torch.float32 and images.is_contiguous()
    assert masks.shape == (600, 64, 64) and masks.dtype == torch.int64
    assert abs(images.mean()) < 0.1 and abs(images.std() - 1) < 0.1
    again = images.permute(0, 2, 3, 1).double().numpy()
    slope, offset = np.polyfit(data.images[:20].ravel(), again[:20].ravel(), 1)
    assert np.abs(slope * data.images + offset - again).max() < 1e-4
    assert np.array_equal(masks.bool(), data.masks)
    images.fill_(0), masks.fill_(0)
    assert data.images.any() and data.masks.any()


def test_no_split_seed_or_block_repeats_another():
    starts = (0, 512)
    drawn = [
        scene_layouts(split, 8, seed, start=start) for split in SPLITS for seed in (0, 1, 2**40) for start in starts
    ]
    assert len({layout.row.tobytes() for layout, *_ in drawn}) == 30
    pictures = [scenes(split, 1, seed, start=start) for split in SPLITS for seed in (0, 1) for start in starts]
    corners = {picture.images[0, :3, :3].tobytes() for picture in pictures}
    assert len(corners) == 20


def test_global_random_numbers_are_neither_used_nor_changed():
    np.random.seed(0)
    before, state = scenes("train", 3), np.random.get_state()[1].copy()
    np.random.seed(1)
    assert np.array_equal(before.images, scenes("train", 3).images)
    np.random.seed(0)
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"split": "Test"}, ValueError, "split must be one of train, validation, .*, unseen_pairs, given 'Test'"),
        ({"objects": "cats"}, ValueError, "objects must be one of emoji, shapes, clothes, given 'cats'"),
        ({"language": "ko"}, ValueError, "language must be one of english, korean, given 'ko'"),
        ({"kinds": "ordinal"}, ValueError, "kinds must be some of attribute, .*, each once, given 'ordinal'"),
        ({"kinds": []}, ValueError, r"given \[\]"),
        ({"kinds": ["ordinal", "ordinal"]}, ValueError, "each once"),
        ({"kinds": ["colour"]}, ValueError, "given .'colour'"),
        ({"count": 0}, ValueError, "count must be 1 or more, given 0"),
        ({"count": 1e3}, TypeError, r"count must be an int, given 1000.0: write count=int\(...\)"),
        ({"count": True}, TypeError, "count must be an int, given True"),
        ({"seed": -1}, ValueError, "seed must be 0 or more, given -1"),
        ({"seed": None}, TypeError, "seed must be an int, given None"),
        ({"start": -1}, ValueError, "start must be 0 or more, given -1"),
        ({"start": "0"}, TypeError, "start must be an int, given '0'"),
        ({"size": 47}, ValueError, "size must be 48 to 256, given 47"),
        ({"size": 257}, ValueError, "size must be 48 to 256, given 257"),
        ({"size": 64.0}, TypeError, "size must be an int, given 64.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_before_any_work(change, error, says, monkeypatch):
    monkeypatch.setattr(paint, "default_rng", None)
    with pytest.raises(error, match=says):
        scenes(**{"split": "train", "count": 10**9} | change)
    if "size" not in change:
        with pytest.raises(error, match=says):
            scene_layouts(**{"split": "train", "count": 10**9} | change)


def test_numbers_may_be_numpys_and_an_unknown_language_has_no_vocabulary():
    data, other = scenes("test", np.uint8(2), np.int64(7), size=np.int32(64)), scenes("test", 2, 7)
    assert np.array_equal(data.images, other.images)
    with pytest.raises(ValueError, match="language must be one of english, korean, given 'latin'"):
        vocabulary("latin")
