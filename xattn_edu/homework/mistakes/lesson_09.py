"""Answers to the exercises of lesson 9, what it costs: wrong ones, and other right ones."""

from typing import NamedTuple

import numpy as np

from xattn_edu.homework.mistakes.mistake import Named, entries


class Branch(NamedTuple):
    """One branch of a CrossViT, with the numbers that both branches share."""

    name: str
    width: int
    other_width: int
    patches: int
    patch_size: int
    depth: int
    ratio: int
    encoders: int
    classes: int


def projections(b, tokens):
    return 4 * tokens * b.width**2


def products(b, tokens):
    return 2 * tokens**2 * b.width


def feed_forward(b, tokens):
    return 2 * b.ratio * tokens * b.width**2


def block(b, tokens):
    return projections(b, tokens) + products(b, tokens) + feed_forward(b, tokens)


def f_and_g(b):
    return 2 * b.width * b.other_width


def fusion(b, tokens):
    """One direction: query and output for the class token, keys, values and two products for all tokens, f and g."""
    return 2 * b.width**2 + 2 * tokens * b.width**2 + 2 * tokens * b.width + f_and_g(b)


# The right parts of a branch, whole: over all blocks, encoders, patches and classes.


def right_embedding(b):
    return 3 * b.patch_size**2 * b.width * b.patches


def right_blocks(b):
    return b.encoders * b.depth * block(b, 1 + b.patches)


def right_fusions(b):
    return b.encoders * fusion(b, 1 + b.patches)


def right_head(b):
    return b.classes * b.width


def with_parts(embedding=right_embedding, blocks=right_blocks, fusions=right_fusions, head=right_head):
    """An answer that sums these parts over both branches."""

    def macs(widths, patches, patch_sizes, depths, ratio, encoders, classes):
        branches = [
            Branch("SL"[i], widths[i], widths[1 - i], patches[i], patch_sizes[i], depths[i], ratio, encoders, classes)
            for i in range(2)
        ]
        return sum(part(b) for b in branches for part in (embedding, blocks, fusions, head))

    return macs


crossvit_macs = with_parts()  # the right answer


def without(part):
    """Blocks without one of their parts."""
    return with_parts(blocks=lambda b: right_blocks(b) - b.encoders * b.depth * part(b, 1 + b.patches))


def with_half_of(part):
    return with_parts(blocks=lambda b: right_blocks(b) - b.encoders * b.depth * part(b, 1 + b.patches) // 2)


def with_three_of_four_projections(b):
    return right_blocks(b) - b.encoders * b.depth * projections(b, 1 + b.patches) // 4


def nothing(b):
    return 0


def blocks_on_patches_alone(b):
    return b.encoders * b.depth * block(b, b.patches)


def fusions_with_patches_alone(b):
    return b.encoders * fusion(b, b.patches)


def blocks_of_one_encoder(b):
    return b.depth * block(b, 1 + b.patches)


def fusion_of_one_encoder(b):
    return fusion(b, 1 + b.patches)


def fusions_with_a_query_for_each_token(b):
    tokens = 1 + b.patches
    return b.encoders * (projections(b, tokens) + products(b, tokens) + f_and_g(b))


def embedded_class_token(b):
    return 3 * b.patch_size**2 * b.width * (b.patches + 1)


def unbeaten(cost, accuracy, beats):
    """True for each model i that no model beats; `beats(i)` is True for the models that beat it."""
    return np.array([not beats(i).any() for i in range(len(cost))])


def pareto_frontier(cost, accuracy):
    """The right answer."""

    def beats(i):
        differs = (cost != cost[i]) | (accuracy != accuracy[i])
        return differs & (cost <= cost[i]) & (accuracy >= accuracy[i])

    return unbeaten(cost, accuracy, beats)


def cheaper_and_better(cost, accuracy):
    return unbeaten(cost, accuracy, lambda i: (cost < cost[i]) & (accuracy > accuracy[i]))


def cheaper(cost, accuracy):
    return unbeaten(cost, accuracy, lambda i: (cost < cost[i]) & (accuracy >= accuracy[i]))


def better(cost, accuracy):
    return unbeaten(cost, accuracy, lambda i: (cost <= cost[i]) & (accuracy > accuracy[i]))


def twins_beat_each_other(cost, accuracy):
    another = np.arange(len(cost))
    return unbeaten(cost, accuracy, lambda i: (another != i) & (cost <= cost[i]) & (accuracy >= accuracy[i]))


def first_of_twins(cost, accuracy):
    models = list(zip(cost, accuracy))
    return pareto_frontier(cost, accuracy) & np.array([models.index(model) == i for i, model in enumerate(models)])


def each_beats_itself(cost, accuracy):
    return unbeaten(cost, accuracy, lambda i: (cost <= cost[i]) & (accuracy >= accuracy[i]))


def dearer_is_better(cost, accuracy):
    return pareto_frontier(-cost, accuracy)


def worse_is_better(cost, accuracy):
    return pareto_frontier(cost, -accuracy)


SECTIONS = {
    "crossvit_macs": "9.2",
    "pareto_frontier": "9.4",
    "intensity": "9.7",
}
WRONG = {
    "crossvit_macs": {
        "blocks on patches alone": Named("blocks work on 1 + patches", with_parts(blocks=blocks_on_patches_alone)),
        "no class token in blocks and fusions": Named(
            "in blocks and in fusions",
            with_parts(blocks=blocks_on_patches_alone, fusions=fusions_with_patches_alone),
        ),
        "no class token in fusions": Named("is a key, too", with_parts(fusions=fusions_with_patches_alone)),
        "class token embedded": Named("not made from a patch", with_parts(embedding=embedded_class_token)),
        "one product": Named("two products", with_half_of(products)),
        "no product": without(products),
        "one layer in the feed-forward": Named("two linear layers", with_half_of(feed_forward)),
        "no feed-forward": without(feed_forward),
        "three projections": Named("four projections", with_parts(blocks=with_three_of_four_projections)),
        "a ratio of 4": Named("not always 4", lambda *a: crossvit_macs(*a[:4], 4, *a[5:])),
        "one block of S in each encoder": with_parts(
            blocks=lambda b: right_blocks(b) if b.name == "L" else right_blocks(b) // b.depth
        ),
        "blocks of one encoder": Named("in *one* multi-scale encoder", with_parts(blocks=blocks_of_one_encoder)),
        "one fusion": Named("There is a fusion in each", with_parts(fusions=fusion_of_one_encoder)),
        "one encoder": Named(
            "once for each multi-scale encoder",
            with_parts(blocks=blocks_of_one_encoder, fusions=fusion_of_one_encoder),
        ),
        "a query for each token": Named("one query", with_parts(fusions=fusions_with_a_query_for_each_token)),
        "no fusions": Named("fusions are missing", with_parts(fusions=nothing)),
        "no f and g": Named(
            "f and g are missing", with_parts(fusions=lambda b: right_fusions(b) - b.encoders * f_and_g(b))
        ),
        "f alone": Named(
            "f and g stand in both", with_parts(fusions=lambda b: right_fusions(b) - b.encoders * f_and_g(b) // 2)
        ),
        "f and g twice": Named(
            "not once a branch", with_parts(fusions=lambda b: right_fusions(b) + b.encoders * f_and_g(b))
        ),
        "no heads": Named("heads are missing", with_parts(head=nothing)),
        "no head of S": Named("S's is missing", with_parts(head=lambda b: right_head(b) * (b.name == "L"))),
        "no head of L": Named("L's is missing", with_parts(head=lambda b: right_head(b) * (b.name == "S"))),
        "grey images": Named("three channels", with_parts(embedding=lambda b: right_embedding(b) // 3)),
        "no embedding": Named("patch embeddings are missing", with_parts(embedding=nothing)),
        "patches of one row": with_parts(embedding=lambda b: right_embedding(b) // b.patch_size),
        "two for each multiply-add": Named("counts once", lambda *a: 2 * crossvit_macs(*a)),
        "rounded": lambda *a: crossvit_macs(*a) // 10 * 10,
        "patches exchanged": lambda w, n, *a: crossvit_macs(w, n[::-1], *a),
        "widths exchanged": lambda w, n, *a: crossvit_macs(w[::-1], n, *a),
    },
    "pareto_frontier": {
        "inverted": Named("inverted", lambda c, a: ~pareto_frontier(c, a)),
        "cheaper and better": Named("mind the ties", cheaper_and_better),
        "strictly cheaper": Named("As cheap and more accurate", cheaper),
        "strictly better": Named("As accurate and cheaper", better),
        "the first of twins": Named("not only the first", first_of_twins),
        "twins beat each other": Named("neither beats the other", twins_beat_each_other),
        "each beats itself": Named("does not beat itself", each_beats_itself),
        "dearer is better": Named("cost is bad", dearer_is_better),
        "worse is better": worse_is_better,
        "as if sorted by cost": Named(
            "do not come sorted", lambda c, a: np.append(True, a[1:] > np.maximum.accumulate(a)[:-1])
        ),
        "as if sorted by cost, with ties": lambda c, a: a >= np.maximum.accumulate(a),
        "the most accurate": lambda c, a: a == a.max(),
        "the best ratio": lambda c, a: a / c == (a / c).max(),
        "places, not True and False": lambda c, a: np.flatnonzero(pareto_frontier(c, a)),
        "all": lambda c, a: np.ones(len(c), bool),
        "sorted by cost": lambda c, a: pareto_frontier(c, a)[np.argsort(c)],
    },
    "intensity": {
        "one byte a number": Named("four bytes.", lambda t, i, o: t * i * o / (t * i + i * o + t * o)),
        "eight bytes a number": Named("not eight", lambda t, i, o: t * i * o / 8 / (t * i + i * o + t * o)),
        "a bias": Named("Leave the bias out", lambda t, i, o: t * i * o / 4 / (t * i + i * o + t * o + o)),
        "no weights": Named("weights must be read", lambda t, i, o: t * i * o / 4 / (t * i + t * o)),
        "no outputs": Named("outputs must be written", lambda t, i, o: t * i * o / 4 / (t * i + i * o)),
        "no inputs": Named("inputs must be read", lambda t, i, o: t * i * o / 4 / (i * o + t * o)),
        "two for each multiply-add": Named("counts once", lambda t, i, o: t * i * o / 2 / (t * i + i * o + t * o)),
        "upside down": Named("not bytes for each", lambda t, i, o: 4 * (t * i + i * o + t * o) / (t * i * o)),
        "tokens alone": lambda t, i, o: t / 4,
    },
}


def sorted_frontier(cost, accuracy):
    """In order of cost: a model stays if none that is as cheap, and none that is cheaper, is better."""
    stays = np.zeros(len(cost), bool)
    for i in range(len(cost)):
        rivals = [(cost[j], -accuracy[j]) for j in range(len(cost))]
        stays[i] = not any(r != rivals[i] and r[0] <= rivals[i][0] and r[1] <= rivals[i][1] for r in rivals)
    return stays


RIGHT = {
    "crossvit_macs": {"by part": crossvit_macs},
    "pareto_frontier": {
        "compared in pairs": pareto_frontier,
        "loops": sorted_frontier,
        "a list": lambda c, a: [bool(x) for x in pareto_frontier(c, a)],
    },
    "intensity": {
        "bytes first": lambda t, i, o: t * i * o / (t * i * 4 + i * o * 4 + t * o * 4),
        "a sum of shares": lambda t, i, o: 0.25 / (1 / o + 1 / t + 1 / i),
    },
}

MISTAKES, DIFFERENT = entries(9, SECTIONS, WRONG, RIGHT)
