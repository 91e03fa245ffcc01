"""Checks of the exercises in lesson 9, what it costs."""

import functools
from typing import Any, NamedTuple

import numpy as np
import torch

from xattn_edu.exercises.checking import Answer, compare, exercise
from xattn_edu.measure.costs import count
from xattn_edu.models import crossvit


class _Branch(NamedTuple):
    """One branch of a CrossViT and the multiply-accumulates of its parts."""

    width: int
    patches: int
    patch_size: int
    depth: int

    def embedding(self, channels: int = 3) -> int:
        return channels * self.patch_size**2 * self.width * self.patches

    def linear_layer(self, tokens: int) -> int:
        """One linear layer from the width to itself, on so many tokens."""
        return tokens * self.width**2

    def products(self, tokens: int) -> int:
        """The two products of self-attention."""
        return 2 * tokens**2 * self.width

    def blocks(self, tokens: int, ratio: int) -> int:
        """The blocks in one multi-scale encoder: four projections, a feed-forward of 2 r d^2, two products."""
        return self.depth * ((4 + 2 * ratio) * self.linear_layer(tokens) + self.products(tokens))

    def fusion(self, tokens: int, queries: int = 1) -> int:
        """The attention of a fusion with so many tokens as keys, without f and g."""
        projections = 2 * self.linear_layer(tokens) + 2 * self.linear_layer(queries)
        return projections + 2 * queries * tokens * self.width


@exercise
def crossvit_macs(answer: Answer) -> str:
    """crossvit_macs(widths, patches, patch_sizes, depths, mlp_ratio, encoders, classes): MACs of a whole CrossViT."""
    expected = 0
    for images, patch_sizes, widths, depths, ratio, encoders, classes in (
        ((24, 32), (4, 8), (8, 12), (1, 2), 3, 2, 7),
        ((30, 24), (3, 6), (16, 10), (2, 3), 4, 3, 10),
        ((240, 224), (12, 16), (192, 384), (1, 4), 4, 3, 1000),
    ):
        expected = _counted_crossvit(images, patch_sizes, widths, depths, ratio, encoders, classes)
        patches = tuple((image // patch) ** 2 for image, patch in zip(images, patch_sizes))
        branches = [_Branch(*sizes) for sizes in zip(widths, patches, patch_sizes, depths)]
        causes = _causes_in_branches(expected, branches, ratio, encoders)
        causes |= _causes_in_repeats(expected, branches, ratio, encoders)
        causes |= {
            "The heads are missing.": expected - classes * sum(widths),
            "Each branch has its own head: S's is missing.": expected - classes * widths[0],
            "Each branch has its own head: L's is missing.": expected - classes * widths[1],
            "A multiply-add counts once, as in the papers.": 2 * expected,
        }
        where = f"widths {widths}, patches {patches}, depths {depths}, {encoders} encoders"
        given = answer(widths, patches, patch_sizes, depths, ratio, encoders, classes)
        compare(given, expected, where, causes)
    return f"right, to the last multiply-add; CrossViT-S has {expected:,}"


@functools.cache
def _counted_crossvit(
    image_sizes: tuple[int, int],
    patches: tuple[int, int],
    widths: tuple[int, int],
    depths: tuple[int, int],
    mlp_ratio: int,
    encoders: int,
    classes: int,
) -> int:
    """Multiply-accumulates of such a CrossViT for one image, keys and values formed, as the paper counts."""
    sizes: dict[str, Any] = {"mlp_ratio": mlp_ratio, "encoders": encoders, "classes": classes}
    with torch.device("meta"):
        model = crossvit.CrossViT(image_sizes, patches, widths, depths, (2, 2), folded=False, **sizes)
        return count(model, torch.empty(1, 3, image_sizes[0], image_sizes[0])).macs


def _causes_in_branches(expected: int, branches: list[_Branch], ratio: int, encoders: int) -> dict[str, int]:
    """Mistakes in a block, in the attention of a fusion, or in the patch embedding."""

    def of_blocks(class_tokens: int = 1, r: int = ratio) -> int:
        return encoders * sum(b.blocks(class_tokens + b.patches, r) for b in branches)

    blocks = of_blocks()
    no_class_token = blocks - of_blocks(class_tokens=0)
    no_class_token_as_key = encoders * sum(b.fusion(1 + b.patches) - b.fusion(b.patches) for b in branches)
    all_queries = encoders * sum(b.fusion(1 + b.patches, 1 + b.patches) - b.fusion(1 + b.patches) for b in branches)
    one_product = encoders * sum(b.depth * b.products(1 + b.patches) // 2 for b in branches)
    one_projection = encoders * sum(b.depth * b.linear_layer(1 + b.patches) for b in branches)
    one_token_embedded = sum(b.embedding() // b.patches for b in branches)
    embedding, grey = sum(b.embedding() for b in branches), sum(b.embedding(channels=1) for b in branches)
    of_patches_alone = expected - no_class_token - no_class_token_as_key
    return {
        "The class token is a token, too: blocks work on 1 + patches of them.": expected - no_class_token,
        "The class token is a token, too, in blocks and in fusions.": of_patches_alone,
        "The class token is a key, too, in the fusions.": expected - no_class_token_as_key,
        "The class token is not made from a patch: the embedding makes one token a patch.": (
            expected + one_token_embedded
        ),
        "Attention has two products, q k^T and A v: 2 T^2 d.": expected - one_product,
        "The feed-forward has two linear layers: 2 r d^2 for each token.": expected - ratio * one_projection,
        "Attention has four projections: query, key, value and output.": expected - one_projection,
        "The ratio r of the feed-forward is an argument; it is not always 4.": expected - blocks + of_blocks(r=4),
        "Only the class token is a query in a fusion: one query, not one for each token.": expected + all_queries,
        "The patch embeddings are missing.": expected - embedding,
        "An image has three channels: a patch is 3 p^2 numbers.": expected - embedding + grey,
    }


def _causes_in_repeats(expected: int, branches: list[_Branch], ratio: int, encoders: int) -> dict[str, int]:
    """Mistakes in how often blocks and fusions are counted, and in f and g."""
    blocks = sum(b.blocks(1 + b.patches, ratio) for b in branches)
    f_and_g = 4 * branches[0].width * branches[1].width  # both directions
    fusion = sum(b.fusion(1 + b.patches) for b in branches) + f_and_g
    more = encoders - 1
    return {
        "depths are the blocks in *one* multi-scale encoder; there are `encoders`.": expected - more * blocks,
        "There is a fusion in each multi-scale encoder.": expected - more * fusion,
        "Blocks and fusions are there once for each multi-scale encoder.": expected - more * (blocks + fusion),
        "The fusions are missing.": expected - encoders * fusion,
        "f and g are missing in the fusions.": expected - encoders * f_and_g,
        "f and g stand in both directions of a fusion.": expected - encoders * f_and_g // 2,
        "4 d_s d_l is f and g in both directions: count it once a fusion, not once a branch.": (
            expected + encoders * f_and_g
        ),
    }


@exercise
def pareto_frontier(answer: Answer) -> str:
    """pareto_frontier(cost, accuracy): True for each model that no other one beats."""
    for seed, (models, grid) in enumerate(((12, 8), (4, 50), (7, 4), (1, 9), (20, 6))):
        draw = np.random.default_rng(seed + 12)
        cost, accuracy = draw.integers(1, grid, models) * 1.5, 70.0 + draw.integers(1, grid, models)
        if models > 10:  # two models that are the same, on the frontier
            cost[[2, 9]], accuracy[[2, 9]] = 0.5, 70.0
        # In row i and column j: how model j compares with model i.
        cheaper, better = cost < cost[:, None], accuracy > accuracy[:, None]
        no_dearer, no_worse = cost <= cost[:, None], accuracy >= accuracy[:, None]
        expected = _unbeaten(no_dearer & no_worse & (cheaper | better))
        another = ~np.eye(models, dtype=bool)
        best_so_far = np.maximum.accumulate(accuracy)

        strictly_both = _unbeaten(cheaper & better)
        strictly_cheaper, strictly_better = _unbeaten(cheaper & no_worse), _unbeaten(no_dearer & better)
        twins_out = _unbeaten(no_dearer & no_worse & another)
        first_twins = expected & _unbeaten(np.tril(no_dearer & no_worse & another))
        as_if_sorted = np.append(True, accuracy[1:] > best_so_far[:-1])
        dearer_is_better = _unbeaten(~cheaper & no_worse & (~no_dearer | better))
        causes = {
            "The result is inverted: True is for a model that is *not* beaten.": ~expected,
            "With equal accuracy the cheaper model wins, with equal cost the more accurate one: mind the ties.": (
                strictly_both
            ),
            "As cheap and more accurate is better, too.": strictly_cheaper,
            "As accurate and cheaper is better, too.": strictly_better,
            "A model does not beat itself.": np.zeros(models, dtype=bool),
            "Two models with the same cost and accuracy: neither beats the other, both stay.": twins_out,
            "Of two equal models both stay, not only the first.": first_twins,
            "The models do not come sorted by cost.": as_if_sorted,
            "A high cost is bad, not good.": dearer_is_better,
        }
        given = answer(cost.copy(), accuracy.copy())
        given = given if given is None else np.asarray(given)
        compare(given, expected, f"{models} model{'s' * (models > 1)}", causes)
    return "right, also for ties and for equal models"


def _unbeaten(beats: np.ndarray) -> np.ndarray:
    """True for each row without a True: for each model that no model beats."""
    return np.logical_not(beats.any(axis=1))


@exercise
def intensity(answer: Answer) -> str:
    """intensity(tokens, inputs, outputs): multiply-adds of a linear layer for each byte it moves, in float32."""
    for tokens, inputs, outputs in ((197, 384, 1536), (1, 384, 192), (3, 5, 2)):
        numbers_in, weights, numbers_out = tokens * inputs, inputs * outputs, tokens * outputs
        macs, moved = tokens * inputs * outputs, numbers_in + weights + numbers_out
        causes = {
            "A number in float32 has four bytes.": macs / moved,
            "A number in float32 has four bytes, not eight.": macs / (8 * moved),
            "Leave the bias out.": macs / (4 * (moved + outputs)),
            "The weights must be read, too.": macs / (4 * (moved - weights)),
            "The outputs must be written, too.": macs / (4 * (moved - numbers_out)),
            "The inputs must be read, too.": macs / (4 * (moved - numbers_in)),
            "A multiply-add counts once.": 2 * macs / (4 * moved),
            "Multiply-adds for each byte, not bytes for each multiply-add.": 4 * moved / macs,
        }
        where = f"{tokens} token{'s' * (tokens > 1)}, {inputs} -> {outputs}"
        compare(answer(tokens, inputs, outputs), macs / (4 * moved), where, causes)
    return "right: many tokens use each weight often, one token uses it once"
