"""Weights that describe themselves: which model they are of, and how its input is made, in the file's metadata.

Sizes in the code may change after a file was written. The file still says with which sizes its model is built.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from xattn_edu.files import parse_json
from xattn_edu.models.builders import build_model
from xattn_edu.models.language import Tokenizer, build_tokenizer
from xattn_edu.models.layers import settings
from xattn_edu.shapes import real_number, whole_number

FORMAT = "xattn_edu segmenter 1"
LARGEST = 4096  # pixels of an image's side
KEY = "xattn_edu"  # one entry: safetensors writes several in an order that changes from run to run


@dataclass(frozen=True)
class ModelDescription:
    """A model that finds what a sentence names, and how pictures and sentences become its input.

    Numbers of NumPy and torch become Python's. Raises TypeError for what is no number and for arguments that JSON does
    not have.
    """

    builder: str  # a name in `models.builders.BUILDERS`
    arguments: dict[
        str, dict[str, Any]
    ]  # of `build_model`: "image_encoder", "language" and "settings", as JSON has them
    words: tuple[str, ...]  # of which `build_tokenizer` makes the tokenizer; the vocabulary is closed
    length: int  # pieces of a sentence at most, [CLS] and [SEP] among them
    image_size: int  # pixels: images are squashed to image_size x image_size
    mean: tuple[float, ...]  # of the pixels' red, green and blue, 0 to 255
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        whole = {name: whole_number(name, vars(self)[name]) for name in ("length", "image_size")}
        real = {name: tuple(real_number(name, each) for each in vars(self)[name]) for name in ("mean", "deviation")}
        arguments = json.loads(json.dumps(self.arguments, default=_number))
        vars(self).update(whole | real, arguments=arguments)  # a frozen dataclass does not let its fields be set

    def metadata(self) -> dict[str, str]:
        """The metadata for `safetensors.torch.save`."""
        return {KEY: json.dumps({"format": FORMAT} | asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ModelDescription | None":
        """The description in a file's metadata; None if there is none. Raises ValueError if it cannot be read."""
        if KEY not in metadata:
            return None
        try:
            fields: dict[str, Any] = parse_json(metadata[KEY])
            if (found := fields.pop("format")) != FORMAT:
                raise ValueError(f"its format is {found!r}, expected {FORMAT!r}")
            if any(type(fields[name]) is not list for name in ("words", "mean", "deviation")):
                raise ValueError("words, mean and deviation are lists")
            fields |= {name: tuple(fields[name]) for name in ("words", "mean", "deviation")}
            described = cls(**fields)
            if len(described.mean) != 3 or len(described.deviation) != 3 or not 1 <= described.image_size <= LARGEST:
                raise ValueError(f"mean and deviation are three numbers each, and image_size is 1 to {LARGEST}")
            if not all(0 <= value < 1000 for value in described.mean + described.deviation) or not described.length > 2:
                raise ValueError("mean and deviation are 0 or more, and length is 3 or more")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the description of the model cannot be read: {error}") from error
        return described

    def build(self) -> nn.Module:
        """A new model with random weights. Raises TypeError or ValueError if builder and arguments do not fit."""
        return build_model(self.builder, **self.arguments)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the vocabulary. Raises ValueError if the model has another number of ids."""
        tokenizer, expected = build_tokenizer(self.words), self.arguments["language"]["vocabulary_size"]
        if len(tokenizer) != expected:
            raise ValueError(f"its words make a vocabulary of {len(tokenizer)} ids, its model has {expected}")
        return tokenizer

    def difference(self, model: nn.Module) -> str | None:
        """A setting in which `model` differs from the described model, for an error; None if there is none.

        Many settings show in the shapes of tensors. Others do not: heads, shifts, whether there are positions.
        """
        with torch.device("meta"):  # no memory, and no random numbers drawn
            described = self.build()
        given = dict(model.named_modules())
        for place, module in described.named_modules():
            if place in given:
                theirs, ours = settings(module), settings(given[place])
                for name in theirs.keys() & ours.keys():
                    if theirs[name] != ours[name]:
                        where = f"{place}.{name}".lstrip(".")
                        return f"{where} is {theirs[name]} in the file, {ours[name]} in the given model"
        return None


def _number(value: Any) -> int | float:
    """Python's number for one of NumPy or torch. Raises TypeError for anything else."""
    try:
        return whole_number("an argument of the model", value)
    except TypeError:
        return real_number("an argument of the model", value)
