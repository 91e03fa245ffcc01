"""LAVT over objects: what depends on what."""

import pytest
import torch

from xattn_edu.data.objects import COLUMNS, question_vocabulary, questions
from xattn_edu.experiments.sets import question_set
from xattn_edu.models import object_finder
from xattn_edu.models.language import build_tokenizer
from xattn_edu.models.object_finder import ObjectFinder, place_codes
from xattn_edu.models.pwam import PixelWordAttention, SentenceFusion

TOKENIZER = build_tokenizer(question_vocabulary())
SETTINGS = [(pathway, each) for pathway in (True, False) for each in (True, False)]


def finder(pathway=True, each=True, **more):
    torch.manual_seed(0)
    return ObjectFinder(len(TOKENIZER), width=16, heads=2, pathway=pathway, each_word=each, **more).eval()


@pytest.fixture(scope="module")
def inputs():
    return question_set(questions("test", 40), TOKENIZER).tensors[:4]


@pytest.mark.parametrize(("pathway", "each"), SETTINGS)
def test_scores_are_those_of_the_equations(inputs, pathway, each):
    """Written out a second time, from the module's parts."""
    model, (objects, present, ids, mask) = finder(pathway, each), inputs
    vision = model.embed(objects) * present[..., None]
    words = model.read(ids, mask)
    fused = model.fusions[0](vision[:, None], words, mask)[:, 0]
    onward = vision + model.pathway.gate(fused) * fused if pathway else vision
    for layer in model.relate:
        onward, _ = layer(onward, present[:, None])
    again = model.fusions[1](onward[:, None], words, mask)[:, 0]
    wanted = model.score(torch.cat([fused, again], dim=2))[..., 0].masked_fill(~present, -1e4)
    torch.testing.assert_close(model(*inputs), wanted)
    assert type(model.fusions[1]) is (PixelWordAttention if each else SentenceFusion)


def test_without_the_pathway_the_objects_meet_without_the_words(inputs):
    objects, present, ids, mask = inputs
    other = ids.roll(1, dims=0), mask.roll(1, dims=0)
    for pathway in (True, False):
        model = finder(pathway)
        maps, exchanged = model.maps(*inputs), model.maps(objects, present, *other)
        same = torch.equal(maps.related, exchanged.related)
        assert same != pathway and not torch.equal(maps.fused_again, exchanged.fused_again)


def test_a_shut_gate_is_no_pathway(inputs):
    model = finder()
    shut = model.maps(*inputs, gate=0.0)
    assert torch.equal(shut.onward, shut.vision)
    torch.testing.assert_close(model.maps(*inputs, gate=1.0).onward, model.maps(*inputs).onward)


def test_a_gate_may_open_for_one_object_alone(inputs):
    model, present = finder(), inputs[1]
    one = torch.zeros_like(present)
    one[:, 2] = True
    maps, opened = model.maps(*inputs, gate=one), model.maps(*inputs)
    assert torch.equal(maps.onward[:, 2], opened.onward[:, 2])
    assert torch.equal(maps.onward[:, [0, 1, 3, 4, 5]], maps.vision[:, [0, 1, 3, 4, 5]])


@pytest.mark.parametrize(("pathway", "each"), SETTINGS)
def test_the_order_of_objects_and_padding_do_not_matter(inputs, pathway, each):
    model, (objects, present, ids, mask) = finder(pathway, each), inputs
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    moved = model(objects[:, order], present[:, order], ids, mask)
    torch.testing.assert_close(moved, model(*inputs)[:, order], rtol=1e-4, atol=1e-4)
    longer = torch.nn.functional.pad(ids, (0, 3)), torch.nn.functional.pad(mask, (0, 3))
    torch.testing.assert_close(model(objects, present, *longer), model(*inputs), rtol=1e-4, atol=1e-4)


def test_what_stands_in_an_empty_slot_does_not_matter(inputs):
    model, (objects, present, ids, mask) = finder(), inputs
    other = torch.where(present[..., None], objects, torch.ones_like(objects))
    scores = model(other, present, ids, mask)
    assert torch.equal(scores, model(*inputs)) and (scores[~present] == -1e4).all()


def test_weights_are_returned_where_asked_for(inputs):
    model, present = finder(depth=3), inputs[1]
    assert model.maps(*inputs).attention == []
    maps = model.maps(*inputs, return_weights=True)
    assert len(maps.attention) == 3
    for weights in maps.attention:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(40, 2, 6))
        assert not (weights * ~present[:, None, None]).any()
    torch.testing.assert_close(maps.word_weights.sum(dim=-1), torch.ones(40, 6))


def test_the_row_is_in_the_first_half_of_an_objects_channels_and_the_column_in_the_second():
    model, here = finder(), torch.zeros(1, 1, 5, dtype=torch.int64)
    for number, own, other in ((3, slice(8), slice(8, None)), (4, slice(8, None), slice(8))):
        there = here.clone()
        there[..., number] = 100
        moved = (model.embed(there) - model.embed(here))[0, 0]
        assert moved[own].any() and not moved[other].any()


def test_the_order_of_words_is_read(inputs):
    """Without their places, words in another order would be the same vectors in another order."""
    model, (*_, ids, mask) = finder(), inputs
    length = int(mask.sum(dim=1).min())
    ids, mask = ids[:, :length], mask[:, :length]
    assert (model.read(ids.flip(1), mask) - model.read(ids, mask).flip(1)).abs().max() > 0.1


def test_places_are_told_apart_and_neighbours_are_alike():
    codes = place_codes(241, 32)
    alike = torch.nn.functional.cosine_similarity(codes[:, None], codes[None], dim=2)
    assert (alike.diagonal(1) > 0.98).all()
    far = (torch.arange(241)[:, None] - torch.arange(241)).abs() > 20
    assert alike[far].max() < 0.95


@pytest.mark.parametrize(
    ("number", "name", "value", "known"),
    [(0, "category", 24, 23), (1, "colour", -1, 7), (2, "size", 3, 2), (3, "row", 241, 240), (4, "column", 999, 240)],
)
def test_objects_that_the_model_does_not_know_are_refused(inputs, number, name, value, known):
    objects = inputs[0].clone()
    objects[3, 0, number] = value
    with pytest.raises(ValueError, match=f"the {name} of objects must be 0 to {known}, given .*{value}"):
        finder()(objects, *inputs[1:])


def test_data_and_model_name_an_objects_numbers_alike():
    assert object_finder.COLUMNS == COLUMNS


def test_what_does_not_belong_together_is_refused(inputs):
    objects, present, ids, mask = inputs
    with pytest.raises(ValueError, match="39"):
        finder()(objects, present, ids[:39], mask[:39])
    check = finder()._check_inputs  # by itself: while tests run, the annotations refuse these shapes before
    for given in ((objects, present, ids[:39], mask[:39]), (objects[..., :4], present, ids, mask)):
        with pytest.raises(ValueError, match="one scene and one sentence belong together"):
            check(*given, 1.0)
    with pytest.raises(ValueError, match=r"gate must be one number, or one for each object \(40, 6\), given \(3, 6\)"):
        check(objects, present, ids, mask, torch.ones(3, 6))
    with pytest.raises(TypeError, match="objects must be whole numbers, given torch.float32"):
        check(objects.float(), present, ids, mask, 1.0)
    with pytest.raises(ValueError, match="heads"):
        ObjectFinder(10, width=16, heads=3)
    with pytest.raises(ValueError, match="a width that is a multiple of 4, given 30"):
        ObjectFinder(10, width=30, heads=2)
