"""LAVT over objects: the smallest model in which the language pathway is on or off.

    V1 = category + colour + size + place                 one token an object
    F1 = PWAM(V1, words)                                  each object attends to the words
    E1 = V1 + gate(F1) * F1   with the pathway,   E1 = V1   without
    V2 = self-attention among the objects, from E1
    F2 = PWAM(V2, words)
    score = MLP(F1, F2)                                   of each object, to be the one that the sentence means

So the objects attend to each other either after or before they know the words; all else is equal. The parts are those
of LAVT (Yang et al., 2022), see `xattn_edu.models.pwam`; an object takes the place of a pixel.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xattn_edu.models.layers import values_are_known
from xattn_edu.models.positions import sinusoidal_positions
from xattn_edu.models.pwam import LanguagePathway, PixelWordAttention, SentenceFusion
from xattn_edu.models.transformer import EncoderLayer
from xattn_edu.shapes import shaped

COLUMNS = ("category", "colour", "size", "row", "column")  # the numbers of an object
EXTENT = 240  # units to a side of the scene, for row and column


class ObjectMaps(NamedTuple):
    """What the model computes on its way, each (batch, object, width), and attention weights."""

    vision: Tensor  # V1
    fused: Tensor  # F1
    onward: Tensor  # E1
    related: Tensor  # V2
    fused_again: Tensor  # F2
    word_weights: Tensor  # of F1, (batch, object, word), the mean over the heads
    attention: list[Tensor]  # of the self-attention layers, (batch, head, object, object); empty if not asked for


class ObjectFinder(nn.Module):
    """Scores the objects of a scene: which of them does the sentence mean?

    Args:
        vocabulary: number of ids; 0 is padding.
        categories, colours, sizes: how many there are of each.
        width: channels of an object and of a word.
        depth: layers of self-attention among the objects.
        heads: of self-attention and of PWAM.
        pathway: whether the objects attend to each other with the words (E1 = V1 + gate(F1) F1) or without (E1 = V1).
        each_word: PWAM, in which an object attends to each word; False takes the words' mean (`SentenceFusion`).

    Raises ValueError if `heads` does not divide `width`, or `width` is no multiple of 4.
    """

    places: Tensor

    def __init__(
        self,
        vocabulary: int,
        *,
        categories: int = 24,
        colours: int = 8,
        sizes: int = 3,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        pathway: bool = True,
        each_word: bool = True,
    ):
        super().__init__()
        if width % 4 or width < 4:
            raise ValueError(f"sines and cosines of row and column need a width that is a multiple of 4, given {width}")
        self.known = (categories, colours, sizes, EXTENT + 1, EXTENT + 1)  # how many values each of COLUMNS has
        self.looks = nn.ModuleList(nn.Embedding(count, width) for count in (categories, colours, sizes))
        self.word = nn.Embedding(vocabulary, width)
        self.reader = EncoderLayer(width, heads, 2 * width, dropout=0.0, pre_norm=True)
        self.fusions = nn.ModuleList(
            PixelWordAttention(width, width, heads) if each_word else SentenceFusion(width, width) for _ in range(2)
        )
        self.pathway = LanguagePathway(width) if pathway else None
        self.relate = nn.ModuleList(
            EncoderLayer(width, heads, 2 * width, dropout=0.0, pre_norm=True) for _ in range(depth)
        )
        self.score = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, 1)
        )
        self.register_buffer("places", place_codes(EXTENT + 1, width // 2), persistent=False)

    @shaped
    def forward(
        self,
        objects: Int[Tensor, "batch object 5"],
        present: Bool[Tensor, "batch object"],
        ids: Int[Tensor, "batch word"],
        word_mask: Bool[Tensor, "batch word"],
        gate: float | Bool[Tensor, "batch object"] = 1.0,
    ) -> Float[Tensor, "batch object"]:
        """The score of each object; -1e4 where there is none. `objects`: the COLUMNS of each object.

        `gate` and the errors are those of `maps`.
        """
        maps = self.maps(objects, present, ids, word_mask, gate)
        return self.scores(maps.fused, maps.fused_again, present)

    @shaped
    def maps(
        self,
        objects: Int[Tensor, "batch object 5"],
        present: Bool[Tensor, "batch object"],
        ids: Int[Tensor, "batch word"],
        word_mask: Bool[Tensor, "batch word"],
        gate: float | Bool[Tensor, "batch object"] = 1.0,
        return_weights: bool = False,
    ) -> ObjectMaps:
        """All that the model computes before the scores, with `return_weights` also the weights of self-attention.

        `gate` multiplies what the pathway adds: 0 shuts it, a mask (batch, object) opens it for some objects alone.
        Raises ValueError for scenes, sentences and a gate whose shapes do not belong together, and for objects with
        numbers that the model does not know; TypeError for objects that are not whole numbers.
        """
        self._check_inputs(objects, present, ids, word_mask, gate)
        vision = self.embed(objects) * present[..., None]
        words = self.read(ids, word_mask)
        fused, word_weights = self._fuse(0, vision, words, word_mask)
        onward = vision
        if self.pathway is not None:
            added = self.pathway(vision[:, None], fused[:, None])[:, 0] - vision
            onward = vision + (gate[..., None] if isinstance(gate, Tensor) else gate) * added
        related, attention = onward, []
        for layer in self.relate:
            related, weights = layer(related, present[:, None], return_weights)
            attention += [] if weights is None else [weights]
        fused_again, _ = self._fuse(1, related, words, word_mask)
        return ObjectMaps(vision, fused, onward, related, fused_again, word_weights, attention)

    def scores(self, fused: Tensor, fused_again: Tensor, present: Tensor) -> Tensor:
        """(batch, object) from F1 and F2, (batch, object, width)."""
        return self.score(torch.cat([fused, fused_again], dim=-1))[..., 0].masked_fill(~present, -1e4)

    def embed(self, objects: Tensor) -> Tensor:
        """V1: (batch, object, 5) to (batch, object, width)."""
        row, column = self.places[objects[..., 3]], self.places[objects[..., 4]]
        looks = [table(objects[..., number]) for number, table in enumerate(self.looks)]
        return torch.cat([row, column], dim=-1) + sum(looks)

    def read(self, ids: Tensor, word_mask: Tensor) -> Tensor:
        """Words in their sentence: ids (batch, word) to (batch, word, width)."""
        words = self.word(ids)
        places = sinusoidal_positions(ids.shape[1], words.shape[-1]).to(words)
        return self.reader(words + places, word_mask[:, None])[0]

    def _check_inputs(
        self, objects: Tensor, present: Tensor, ids: Tensor, word_mask: Tensor, gate: float | Tensor
    ) -> None:
        fit = objects.shape == (*present.shape, len(COLUMNS)) and word_mask.shape == ids.shape
        if not fit or len(ids) != len(objects):
            raise ValueError(
                "one scene and one sentence belong together: expected objects (batch, object, 5), present (batch, "
                f"object), ids and word_mask (batch, word), given {(*objects.shape,)}, {(*present.shape,)}, "
                f"{(*ids.shape,)} and {(*word_mask.shape,)}"
            )
        if objects.is_floating_point():
            raise TypeError(f"objects must be whole numbers, given {objects.dtype}: write objects.long()")
        if isinstance(gate, Tensor) and gate.shape != present.shape:
            raise ValueError(
                f"gate must be one number, or one for each object {(*present.shape,)}, given {(*gate.shape,)}"
            )
        if values_are_known(objects) and objects.numel():
            for number, (name, known) in enumerate(zip(COLUMNS, self.known)):
                least, most = int(objects[..., number].min()), int(objects[..., number].max())
                if not 0 <= least <= most < known:
                    raise ValueError(f"the {name} of objects must be 0 to {known - 1}, given {least} to {most}")

    def _fuse(self, number: int, objects: Tensor, words: Tensor, word_mask: Tensor) -> tuple[Tensor, Tensor]:
        """F and its attention weights: the objects are a row of pixels to PWAM."""
        fused, weights = self.fusions[number](objects[:, None], words, word_mask, return_weights=True)
        return fused[:, 0], weights.mean(dim=1)[:, 0]


def place_codes(places: int, width: int) -> Float[Tensor, "place width"]:
    """Sines, then cosines, of each place, with a quarter of a period to four periods from the first to the last place.

    Frequencies grow by a constant factor, as in `positions.sinusoidal_positions`, but none is too fast for neighbours
    or too slow for the whole scene.
    """
    periods = torch.logspace(-2, 2, width // 2, base=2.0)
    angles = 2 * torch.pi * periods * torch.arange(places)[:, None] / (places - 1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
