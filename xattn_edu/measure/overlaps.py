"""Overlaps of masks: oIoU, mIoU and P@X of referring segmentation, with one mask for each expression."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from xattn_edu.machine import check_seed
from xattn_edu.shapes import real_number, whole_number


class Bounds(NamedTuple):
    """A score and the two ends of its confidence interval; `str` reads "0.527 (0.501 to 0.549)"."""

    score: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.score:{spec}} ({self.low:{spec}} to {self.high:{spec}})"

    def __str__(self) -> str:
        return f"{self:.3f}"


Score = Literal["miou", "oiou"] | tuple[Literal["precision"], float]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The overlap of each predicted mask with its target, in pixels; `overlaps` makes it, `+` joins two sets.

    intersections, unions (expression,): int64, on the CPU. Both are kept for each expression, because the scores of the
    parts do not determine the score of the whole. All scores lie between 0 and 1, and raise ValueError if there is no
    expression. An empty union (an empty target and an empty prediction) has an IoU of 0, as in the published code.
    """

    intersections: Int64[Tensor, " expression"]
    unions: Int64[Tensor, " expression"]

    def __post_init__(self) -> None:
        both = (self.intersections, self.unions)
        if any(counts.dtype != torch.int64 or counts.ndim != 1 for counts in both) or len(both[0]) != len(both[1]):
            given = " and ".join(f"{counts.dtype} {tuple(counts.shape)}" for counts in both)
            raise ValueError(f"intersections and unions must be int64 (expression,), given {given}: see overlaps()")

    def __len__(self) -> int:
        return len(self.unions)

    def __add__(self, other: "Overlaps") -> "Overlaps":
        return Overlaps.concatenate([self, other])

    @staticmethod
    def concatenate(parts: "Iterable[Overlaps]") -> "Overlaps":
        """The expressions of all parts, in their order."""
        parts, none = list(parts), torch.zeros(0, dtype=torch.int64)
        intersections = torch.cat([none, *(part.intersections for part in parts)])
        return Overlaps(intersections, torch.cat([none, *(part.unions for part in parts)]))

    def gathered(self) -> "Overlaps":
        """The expressions of all processes, the same in each process; with one process, this object.

        Process r of P must hold the expressions r, r + P, r + 2P ... of the set, which is how `accuracy` shares samples
        out; some may hold none. The result has each expression once, in the order of the set. Raises ValueError if the
        processes hold other numbers of expressions.
        """
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self)
        sizes, whole = [len(part) for part in parts], Overlaps.concatenate(parts)
        places = [torch.arange(len(whole))[rank :: len(parts)] for rank in range(len(parts))]
        if sizes != [len(place) for place in places]:
            raise ValueError(
                f"process r of {len(parts)} must hold every {len(parts)}th expression from r, given {sizes}"
            )
        order = torch.cat(places).argsort()
        return Overlaps(whole.intersections[order], whole.unions[order])

    @property
    def iou(self) -> Float64[Tensor, " expression"]:
        """Intersection over union of each expression."""
        return self.intersections.double() / self.unions.clamp(min=1)  # an empty union has an empty intersection

    @property
    def oiou(self) -> float:
        """Overall IoU: the sum of all intersections over the sum of all unions. Large referents weigh more."""
        return self._score("oiou")

    @property
    def miou(self) -> float:
        """The mean of the expressions' IoU. All referents weigh the same."""
        return self._score("miou")

    def precision(self, threshold: float) -> float:
        """P@threshold: the share of expressions whose IoU is the threshold at least."""
        return self._score(("precision", threshold))

    @property
    def precisions(self) -> dict[float, float]:
        """P@0.5 to P@0.9, by threshold."""
        return {tenths / 10: self.precision(tenths / 10) for tenths in range(5, 10)}

    def by(self, labels: Any, names: Sequence[str]) -> "dict[str, Overlaps]":
        """The expressions of each kind: those with labels[i] == k under names[k]; kinds that do not occur are left out.

        `labels` (expression,) may be a tensor, an array or a list. Raises ValueError unless there is one label an
        expression, and one name a label.
        """
        kinds = torch.as_tensor(labels)
        if kinds.shape != self.unions.shape or any(kind not in range(len(names)) for kind in kinds.unique().tolist()):
            raise ValueError(
                f"expected {len(self)} labels of 0 to {len(names) - 1}, given {tuple(kinds.shape)} with the values "
                f"{kinds.unique().tolist()}"
            )
        return {
            name: Overlaps(self.intersections[kinds == kind], self.unions[kinds == kind])
            for kind, name in enumerate(names)
            if (kinds == kind).any()
        }

    def interval(self, score: Score, level: float = 0.95, samples: int = 1000, seed: int = 0) -> Bounds:
        """A score ("miou", "oiou" or ("precision", 0.5)) and its confidence interval over test sets of the same kind.

        The percentile bootstrap: the expressions are drawn `samples` times, with replacement, and the interval holds
        the middle `level` of the scores. It assumes that the expressions are independent; for several sentences about
        one image it is too narrow. It does not cover another training run: for that use `mean_interval`. Raises
        ValueError for an unknown score, a level outside (0, 1) and samples below 1.

        Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
        """
        samples, seed = whole_number("samples", samples, 1), check_seed(seed)
        if not 0 < real_number("level", level) < 1:
            raise ValueError(f"level must lie between 0 and 1, given {level}")
        parts, count, draw = self._parts(score), len(self), torch.Generator().manual_seed(seed)
        sums = [parts[:, torch.randint(count, (count,), generator=draw)].sum(dim=1) for _ in range(samples)]
        over, under = torch.stack(sums, dim=1)
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        low, high = (over / under.clamp(min=1)).quantile(ends).tolist()
        return Bounds(self._score(score), low, high)

    def __str__(self) -> str:
        if not len(self):
            return "no expressions"
        at = ", ".join(f"P@{threshold} {share:.3f}" for threshold, share in self.precisions.items())
        return f"{len(self)} expressions: mIoU {self.miou:.3f}, oIoU {self.oiou:.3f}, {at}"

    def _score(self, score: Score) -> float:
        over, under = self._parts(score).sum(dim=1).tolist()
        return over / max(under, 1)

    def _parts(self, score: Score) -> Float64[Tensor, "2 expression"]:
        """The share of each expression in a score's numerator and denominator; sums of pixels are exact below 2^53."""
        if not len(self):
            raise ValueError("no expressions: there is no score of nothing")
        if score == "oiou":
            return torch.stack([self.intersections, self.unions]).double()
        if score == "miou":
            each = self.iou
        elif isinstance(score, tuple) and len(score) == 2 and score[0] == "precision" and 0 < score[1] <= 1:
            each = (self.iou >= score[1]).double()  # in float64 7/10 equals 0.7, so an IoU at the threshold is in
        else:
            raise ValueError(f'a score is "miou", "oiou" or ("precision", a threshold in (0, 1]), given {score!r}')
        return torch.stack([each, torch.ones_like(each)])


def overlaps(
    predicted: Bool[Tensor, "batch height width"] | Sequence[Bool[Tensor, "height width"]],
    target: Bool[Tensor, "batch height width"] | Sequence[Bool[Tensor, "height width"]],
) -> Overlaps:
    """Intersection and union of each predicted mask with its target, in pixels.

    Masks are True on the referent: a batch of masks, or a list of masks if their sizes differ. Raises TypeError for
    masks that are not boolean, ValueError for shapes that differ.
    """
    if isinstance(predicted, list | tuple) and isinstance(target, list | tuple):
        if len(predicted) != len(target):
            raise ValueError(f"expected a target for each predicted mask, given {len(predicted)} and {len(target)}")
        return Overlaps.concatenate(overlaps(one[None], other[None]) for one, other in zip(predicted, target))
    found, wanted = _boolean(predicted, "predicted"), _boolean(target, "target")
    if found.ndim != 3 or found.shape != wanted.shape:
        raise ValueError(
            f"predicted and target must both be (batch, height, width), given {tuple(found.shape)} and "
            f"{tuple(wanted.shape)}: resize the prediction to the target's size before it is thresholded"
        )
    return Overlaps((found & wanted).sum(dim=(1, 2)).cpu(), (found | wanted).sum(dim=(1, 2)).cpu())


def _boolean(masks: Any, name: str) -> Tensor:
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        raise TypeError(
            f"{name} must be a tensor of boolean masks, given {getattr(masks, 'dtype', type(masks).__name__)}: "
            "threshold or argmax first, logits.argmax(dim=1) == 1; or write masks.bool() for masks of 0 and 1"
        )
    return masks
