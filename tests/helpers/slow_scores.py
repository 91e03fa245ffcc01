"""The scores of a run, computed a second time: one sample after the other, in plain Python.

Nothing here is imported from `xattn_edu.experiments` or `xattn_edu.measure`. Each function returns what the record's
metrics must hold, given the samples that the run must be measured with.
"""

from fractions import Fraction

import torch
from helpers.expected_sets import answer


@torch.no_grad()
def of_classifier(model, samples):
    right = 0
    for image, label in samples:
        logits = model(image[None])[0].tolist()
        right += logits.index(max(logits)) == int(label)
    return {"test_accuracy": right / len(samples)}


@torch.no_grad()
def of_heads(model, samples):
    """The averaged logits and each head alone; of two targets the relation, and "pair_..." of the pair."""
    right = {}
    for *views, target in samples:
        small, large = (head.tolist() for head in model.branch_logits(*(view[None] for view in views))[0][0])
        both = [a + b for a, b in zip(small, large)]
        for name, logits in (("test", both), ("small", small), ("large", large)):
            answers = {f"{name}_accuracy": (logits, int(target))} if target.ndim == 0 else {
                f"{name}_accuracy": (logits[16:20], int(target[1])),
                f"pair_{name}_accuracy": (logits[:16], int(target[0])),
            }  # fmt: skip
            for key, (scores, label) in answers.items():
                right[key] = right.get(key, 0) + (scores.index(max(scores)) == label)
    return {key: count / len(samples) for key, count in right.items()}


def of_translations(pairs, numbers):
    """For the answers of `expected_sets.answer`: a whole answer is right or wrong."""
    found = {"test_accuracy": sum(answer(pair) == pair.target for pair in pairs) / len(pairs)}
    for digits in range(1, 10):
        lot = [pair for pair in numbers if len(pair.target) == digits]
        if lot:
            found[f"digits {digits}"] = sum(answer(pair) == pair.target for pair in lot) / len(lot)
    return found


@torch.no_grad()
def of_answers(model, tested, inputs):
    """`tested`: {name: samples whose last column is the answer}; `inputs`: {name: what the model is given for each}."""
    found = {}
    for name, samples in tested.items():
        right = 0
        for (*_, target), given in zip(samples, inputs[name], strict=True):
            scores = model(*(column[None] for column in given))[0].tolist()
            right += scores.index(max(scores)) == int(target)
        found["test_accuracy" if name == "test" else name] = right / len(samples)
    return found


def of_masks(model, tested, inputs):
    """`tested`: {name: list of scenes}; `inputs`: {name: list of what the model is given for each}."""
    ious, inside, around = {}, 0, 0
    for name, scenes in tested.items():
        ious[name] = []
        for scene, given in zip(scenes, inputs[name], strict=True):
            with torch.no_grad():
                background, foreground = model(*(column[None] for column in given))[0].numpy()
            painted = set(zip(*(foreground > background).nonzero()))
            true = set(zip(*scene.mask.nonzero()))
            both, either = len(painted & true), len(painted | true)
            ious[name].append(Fraction(both, either) if either else Fraction(0))
            if name == "test":
                inside, around = inside + both, around + either
    found = {"oIoU": inside / around, "mIoU": mean(ious["test"])}
    found |= {f"mIoU {name}": mean(values) for name, values in ious.items() if name != "test"}
    for kind in dict.fromkeys(scene.kind for scene in tested["test"]):
        lot = [iou for scene, iou in zip(tested["test"], ious["test"]) if scene.kind == kind]
        found[f"mIoU {kind}"] = mean(lot)
    for tenths in range(5, 10):
        reached = [iou >= Fraction(tenths, 10) for iou in ious["test"]]
        found["test_accuracy" if tenths == 5 else f"P@0.{tenths}"] = mean(reached)
    return found


def mean(values):
    return float(sum(map(Fraction, values)) / len(values))
