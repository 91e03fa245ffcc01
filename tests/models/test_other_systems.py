"""Notebook 13 rebuilds a layer of SAM 3 and one of Grounding DINO from this course's layer: the equalities it asserts.

The functions are the notebook's own, read from its cells, and are run here in double precision on other sizes.
"""

import ast
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GroundingDinoConfig
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoBiMultiHeadAttention
from transformers.models.sam3.configuration_sam3 import Sam3DETREncoderConfig
from transformers.models.sam3.modeling_sam3 import Sam3DetrEncoderLayer

from xattn_edu import MultiHeadAttention
from xattn_edu.models.attention import merge_heads, split_heads
from xattn_edu.models.pwam import PixelWordAttention

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "13_choosing_keys_and_values.ipynb"
NAMES = {"course_layer", "look_up", "sam3_layer", "both_ways"}
PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
PLACES, WORDS = 12, 5
MASK = torch.tensor([[True] * WORDS, [True] * 3 + [False] * 2])
equal = torch.testing.assert_close


@pytest.fixture
def notebook() -> dict:
    """The namespace of the notebook's functions."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    functions = [node for source in sources for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    mine = [node for node in functions if node.name in NAMES]
    assert {node.name for node in mine} == NAMES
    names = {"MultiHeadAttention": MultiHeadAttention, "split_heads": split_heads, "merge_heads": merge_heads}
    exec(compile(ast.Module(mine, type_ignores=[]), str(NOTEBOOK), "exec"), names)
    return names


def random_tokens(count: int, width: int) -> torch.Tensor:
    return torch.randn(2, count, width, dtype=torch.double)


def with_random_weights(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.double().eval().requires_grad_(False)


def sam3(width: int, heads: int) -> Sam3DetrEncoderLayer:
    sizes = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 3 * width}
    return with_random_weights(Sam3DetrEncoderLayer(Sam3DETREncoderConfig(**sizes, attn_implementation="eager")))


@pytest.mark.parametrize(("width", "heads"), [(16, 1), (24, 3), (32, 8)])
def test_sam3_is_the_courses_layer_with_other_sources(notebook, width, heads):
    theirs = sam3(width, heads)
    layers = {
        "among_places": notebook["course_layer"](theirs.self_attn, heads, **PROJECTIONS).double(),
        "to_phrase": notebook["course_layer"](theirs.cross_attn, heads, **PROJECTIONS).double(),
    }
    notebook.update(layers, sam3=theirs)
    image, positions, words = (random_tokens(count, width) for count in (PLACES, PLACES, WORDS))
    expected = theirs(image, words, positions, torch.where(MASK, 0.0, -1e9)[:, None, None].double())
    equal(notebook["sam3_layer"](image, positions, words, MASK), expected)
    with pytest.raises(AssertionError):  # positions in the values, too, would be another layer
        notebook["look_up"] = lambda layer, tokens, keys_from, values_from: layer(tokens, keys_from)
        equal(notebook["sam3_layer"](image, positions, words, MASK), expected)


@pytest.mark.parametrize(("width", "heads"), [(16, 1), (24, 3), (32, 8)])
def test_grounding_dino_is_two_of_the_courses_layers_that_share_their_scores(notebook, width, heads):
    config = GroundingDinoConfig(d_model=width, encoder_ffn_dim=2 * width, encoder_attention_heads=2 * heads)
    theirs = with_random_weights(GroundingDinoBiMultiHeadAttention(config))
    image, words = random_tokens(PLACES, width), random_tokens(WORDS, width)
    (to_image, image_weights), (to_words, words_weights) = theirs(image, words, text_attention_mask=~MASK)
    equal(notebook["both_ways"](theirs, image, words, MASK, heads), (to_image, to_words))

    sides = ("vision_proj", "values_vision_proj", "out_vision_proj"), ("text_proj", "values_text_proj", "out_text_proj")
    for (mine, other), tokens, context, mask, expected, weights in (
        (sides, image, words, MASK[:, None], to_image, image_weights),
        (sides[::-1], words, image, None, to_words, words_weights),
    ):
        layer = notebook["course_layer"](theirs, heads, query=mine[0], key=other[0], value=other[1], output=mine[2])
        output, found = layer.double()(tokens, context, mask, return_weights=True)
        equal(output, expected)
        equal(found.flatten(0, 1), weights)


def test_one_word_is_added_by_sam3_and_removed_by_pwam(notebook):
    theirs = sam3(16, 2)
    layer = notebook["course_layer"](theirs.cross_attn, 2, **PROJECTIONS).double()
    image, words, others = (random_tokens(count, 16) for count in (PLACES, WORDS, WORDS))
    one = torch.tensor([[True] + [False] * (WORDS - 1)] * 2)
    change = layer(image, words, one[:, None]) - layer(image, others, one[:, None])
    equal(change, change[:, :1].expand_as(change))
    assert change.abs().mean() > 0.1

    pwam = with_random_weights(PixelWordAttention(16, 16))
    fused, other = (pwam(image.unflatten(1, (3, 4)), given, one) for given in (words, others))
    equal(fused, other)
    equal(fused, fused[:, :1, :1].expand_as(fused))
