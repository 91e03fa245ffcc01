"""Checks of the exercises in lesson 9, what it costs."""

import functools
from typing import Any

import numpy as np
import torch

from xattn_edu.exercises.checking import Answer, compare, exercise
from xattn_edu.measure.costs import count
from xattn_edu.models import crossvit


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
        branches = list(zip(widths, patches, patch_sizes, depths))

        def blocks(extra: int = 1, r: int = ratio, sides: Any = branches) -> int:
            return sum(
                depth * ((4 + 2 * r) * (n + extra) * d**2 + 2 * (n + extra) ** 2 * d) for d, n, _, depth in sides
            )

        def asking(extra: int = 1, sides: Any = branches) -> int:
            return sum(2 * (n + extra) * d**2 + 2 * d**2 + 2 * (n + extra) * d for d, n, _, _ in sides)

        once = blocks()
        f_and_g = 4 * widths[0] * widths[1]
        fusion = asking() + f_and_g
        embedding = sum(3 * p**2 * d * n for d, n, p, _ in branches)
        no_class_token = encoders * (once - blocks(extra=0))
        causes = {
            "The class token is a token, too: blocks work on 1 + patches of them.": expected - no_class_token,
            "The class token is a token, too, in blocks and in fusions.": expected
            - no_class_token
            - encoders * (asking() - asking(extra=0)),
            "The class token is not made from a patch: the patch embedding makes one token a patch.": expected
            + sum(3 * p**2 * d for d, _, p, _ in branches),
            "Attention has two products, q k^T and A v: 2 T^2 d.": expected
            - encoders * sum(depth * (n + 1) ** 2 * d for d, n, _, depth in branches),
            "The feed-forward has two linear layers: 2 r d^2 for each token.": expected
            - encoders * sum(depth * ratio * (n + 1) * d**2 for d, n, _, depth in branches),
            "Attention has four projections: query, key, value and output.": expected
            - encoders * sum(depth * (n + 1) * d**2 for d, n, _, depth in branches),
            "The ratio r of the feed-forward is an argument; it is not always 4.": expected
            + encoders * (blocks(r=4) - once),
            "depths are the blocks in *one* multi-scale encoder; there are `encoders`.": expected
            - (encoders - 1) * once,
            "There is a fusion in each multi-scale encoder.": expected - (encoders - 1) * fusion,
            "Blocks and fusions are there once for each multi-scale encoder.": expected
            - (encoders - 1) * (once + fusion),
            "The fusions are missing.": expected - encoders * fusion,
            "f and g are missing in the fusions.": expected - encoders * f_and_g,
            "f and g stand in both directions of a fusion.": expected - encoders * f_and_g // 2,
            "Only the class token asks in a fusion: one query, not one for each token.": expected
            + encoders * sum(2 * n * d**2 + 2 * (1 + n) * n * d for d, n, _, _ in branches),
            "The heads are missing.": expected - classes * sum(widths),
            "Each branch has its own head: S's is missing.": expected - classes * widths[0],
            "Each branch has its own head: L's is missing.": expected - classes * widths[1],
            "The patch embeddings are missing.": expected - embedding,
            "An image has three channels: a patch is 3 p^2 numbers.": expected - embedding * 2 // 3,
            "A multiply-add counts once, as in the papers.": 2 * expected,
        }
        where = f"widths {widths}, patches {patches}, depths {depths}, {encoders} encoders"
        given = answer(widths, patches, patch_sizes, depths, ratio, encoders, classes)
        compare(given, expected, where, causes)
    return f"right, to the last multiply-add; CrossViT-S has {expected:,}"


@exercise
def pareto_frontier(answer: Answer) -> str:
    """pareto_frontier(cost, accuracy): True for each model that no other one beats."""
    for seed, (models, grid) in enumerate(((4, 50), (7, 4), (12, 8), (1, 9), (20, 6))):
        draw = np.random.default_rng(seed + 12)
        cost, accuracy = draw.integers(1, grid, models) * 1.5, 70.0 + draw.integers(1, grid, models)
        if models > 10:  # two models that are the same, on the frontier
            cost[[2, 9]], accuracy[[2, 9]] = 0.5, 70.0
        cheaper, better = cost < cost[:, None], accuracy > accuracy[:, None]
        no_dearer, no_worse = cost <= cost[:, None], accuracy >= accuracy[:, None]
        expected = ~(no_dearer & no_worse & (cheaper | better)).any(axis=1)
        others = ~np.eye(models, dtype=bool)
        best_so_far = np.maximum.accumulate(accuracy)
        causes = {
            "It is upside down: True is for a model that is *not* beaten.": ~expected,
            "As accurate and cheaper is better, too, and so is as cheap and more accurate: mind the ties.": ~(
                cheaper & better
            ).any(axis=1),
            "As cheap and more accurate is better, too.": ~(cheaper & no_worse).any(axis=1),
            "As accurate and cheaper is better, too.": ~(no_dearer & better).any(axis=1),
            "A model does not beat itself.": np.zeros(models, dtype=bool),
            "Two models with the same cost and accuracy: neither beats the other, both stay.": ~(
                no_dearer & no_worse & others
            ).any(axis=1),
            "The models do not come sorted by cost.": np.append(True, accuracy[1:] > best_so_far[:-1]),
            "A high cost is bad, not good.": ~((cost >= cost[:, None]) & no_worse & ((cost > cost[:, None]) | better)).any(
                axis=1
            ),
        }  # fmt: skip
        given = answer(cost.copy(), accuracy.copy())
        given = given if given is None else np.asarray(given)
        compare(given, expected, f"{models} model{'s' * (models > 1)}", causes)
    return "right, ties and twins included"


@exercise
def intensity(answer: Answer) -> str:
    """intensity(tokens, inputs, outputs): multiply-adds of a linear layer for each byte it moves, in float32."""
    for tokens, inputs, outputs in ((197, 384, 1536), (1, 384, 192), (3, 5, 2)):
        numbers = [tokens * inputs, inputs * outputs, tokens * outputs]
        macs, moved = tokens * inputs * outputs, sum(numbers)
        causes = {
            "A number in float32 has four bytes.": macs / moved,
            "The weights must be read, too.": macs / (4 * (moved - numbers[1])),
            "What comes out must be written, too.": macs / (4 * (moved - numbers[2])),
            "What comes in must be read, too.": macs / (4 * (moved - numbers[0])),
            "A multiply-add counts once.": 2 * macs / (4 * moved),
            "Multiply-adds for each byte, not bytes for each multiply-add.": 4 * moved / macs,
        }
        where = f"{tokens} token{'s' * (tokens > 1)}, {inputs} -> {outputs}"
        compare(answer(tokens, inputs, outputs), macs / (4 * moved), where, causes)
    return "right: many tokens use each weight often, one token uses it once"
