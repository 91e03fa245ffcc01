"""Questions about objects: an independent reader, in plain Python, must find the same answer."""

import math
import re

import numpy as np
import pytest

from xattn_edu.data.objects import ABOUT, COLUMNS, question_vocabulary, questions
from xattn_edu.data.scenes import CATEGORIES, scene_layouts
from xattn_edu.models.language import LENGTH, build_tokenizer

NOUNS = CATEGORIES["emoji"]
OWN = [about for about in ABOUT if about != "distance"]


def things(asked, number):
    """The objects of a scene by slot, each a dictionary."""
    rows = zip(asked.present[number], asked.objects[number].tolist())
    return {slot: dict(zip(COLUMNS, row)) for slot, (there, row) in enumerate(rows) if there}


def read(sentence, scene):
    """(the slot of the one answer or None, the slots that the sentence's form allows)."""
    (noun,) = [word for word in re.findall(r"\w+", sentence) if word in NOUNS]
    (anchor,) = [slot for slot, thing in scene.items() if NOUNS[thing["category"]] == noun]
    others = {slot: thing for slot, thing in scene.items() if slot != anchor}
    here = scene[anchor]
    if "colour of" in sentence:
        found = [slot for slot, thing in others.items() if thing["colour"] == here["colour"]]
        return (found[0] if len(found) == 1 else None), set(others)
    if "closest" in sentence or "furthest" in sentence:
        far = {s: math.dist((t["row"], t["column"]), (here["row"], here["column"])) for s, t in others.items()}
    else:
        axis, sign = {"left": ("column", -1), "right": ("column", 1), "above": ("row", -1), "below": ("row", 1)}[
            re.search("left|right|above|below", sentence)[0]
        ]
        far = {slot: sign * (thing[axis] - here[axis]) for slot, thing in others.items()}
        far = {slot: steps for slot, steps in far.items() if steps > 0}
        if len(far) < 2:
            return None, set(others)
    return (max if "furthest" in sentence else min)(far, key=far.get), set(others)


@pytest.mark.parametrize("about", OWN)
def test_an_independent_reader_finds_the_answer(about):
    asked = questions("test", 1500, about=about)
    for number, sentence in enumerate(asked.sentences):
        scene = things(asked, number)
        answer, candidates = read(sentence, scene)
        assert answer == asked.answer[number], (sentence, scene)
        assert candidates == set(np.flatnonzero(asked.candidates[number]))
        assert len(scene) >= 4 and asked.anchor[number] in scene and asked.answer[number] != asked.anchor[number]


def test_distance_sentences_are_the_grammars_own():
    """tests/data/test_scenes.py reads the grammar's sentences; here only that scene and sentence stay together."""
    asked = questions("test", 300, about="distance")
    layout, sentences, _ = scene_layouts("test", 4096, kinds=("distance",))
    row = 0
    for number, sentence in enumerate(sentences):
        if layout.present[number].sum() < 4:
            continue
        if row == len(asked):
            break
        assert asked.sentences[row] == sentence and asked.answer[row] == layout.target[number]
        named = layout.present[number] & (layout.category[number] == layout.category[number, layout.target[number]])
        assert (asked.candidates[row] == named).all() and asked.anchor[row] == layout.anchor[number]
        row += 1
    assert row == 300


def test_the_answer_of_a_side_is_never_the_furthest_to_it():
    """So the anchor is needed: no reader finds the answer who looks at the side alone."""
    asked = questions("test", 1500, about="side")
    for number, sentence in enumerate(asked.sentences):
        scene, way = things(asked, number), re.search("left|right|above|below", sentence)[0]
        axis, sign = {"left": ("column", -1), "right": ("column", 1), "above": ("row", -1), "below": ("row", 1)}[way]
        assert asked.answer[number] != max(scene, key=lambda slot: sign * scene[slot][axis])


def test_any_question_is_one_of_four_kinds():
    kinds = ("closest", "furthest", "colour", "next thing")
    counts = [sum(kind in sentence for sentence in questions("test", 1500, about="any").sentences) for kind in kinds]
    assert sum(counts) == 1500 and min(counts) > 200


def test_a_scene_is_given_as_the_picture_takes_it():
    asked = questions("test", 60)
    for number in range(60):
        scene, drawn = things(asked, number), asked.scene(number)
        assert drawn["names"] == [NOUNS[thing["category"]] for thing in scene.values()]
        assert drawn["places"].tolist() == [[thing["row"], thing["column"]] for thing in scene.values()]
        assert [*scene][drawn["anchor"]] == asked.anchor[number] and [*scene][drawn["answer"]] == asked.answer[number]
        assert drawn["title"] == asked.sentences[number] and drawn["colours"].max() <= 1


@pytest.mark.parametrize("about", OWN)
def test_guessing_is_what_it_is_said_to_be(about):
    asked = questions("test", 1500, about=about)
    draws = np.random.default_rng(0).random(asked.candidates.shape) * asked.candidates
    assert abs((draws.argmax(axis=1) == asked.answer).mean() - asked.guess) < 0.04
    slots = np.bincount(asked.answer, minlength=6) / len(asked)  # nor does the slot tell the answer
    assert slots.max() < 0.35


@pytest.mark.parametrize("about", ABOUT)
def test_splits_and_seeds_share_no_scene_and_the_start_does_not_depend_on_the_count(about):
    def scenes(split, seed):
        return {objects.tobytes() for objects in questions(split, 400, seed, about=about).objects}

    lots = [scenes("train", 0), scenes("train", 1), scenes("validation", 0), scenes("test", 0)]
    assert all(len(lot) == 400 for lot in lots) and len(set.union(*lots)) == 1600
    few, many = questions("test", 50, about=about), questions("test", 5000, about=about)
    assert few.sentences == many.sentences[:50] and (few.answer == many.answer[:50]).all()
    assert len({scene.tobytes() for scene in many.objects}) == len(many)  # no scene is drawn a second time


@pytest.mark.parametrize("about", ABOUT)
def test_every_word_is_in_the_vocabulary_and_every_sentence_fits(about):
    tokenizer = build_tokenizer(question_vocabulary())
    for sentence in questions("train", 500, about=about).sentences:
        ids, mask = tokenizer([sentence])
        pieces = tokenizer.tokens(ids[mask])
        assert pieces[1:-1] == sentence.split() and len(pieces) <= LENGTH


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": "unseen_words"}, "unseen_words"),
        ({"about": "size"}, "closest, colour, side, distance, any"),
        ({"count": 0}, "count must be"),
        ({"count": 1.5}, "count must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        questions(**({"split": "test", "count": 3} | given))
