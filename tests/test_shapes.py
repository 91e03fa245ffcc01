"""Shape annotations: what they catch, what the error says, how they are switched."""

import os
import re
import subprocess
import sys

import jaxtyping
import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from xattn_edu import ShapeError, check_shapes, shapes
from xattn_edu.shapes import check_choice, check_heads, real_number, shaped, whole_number


@shaped
def similarity(
    query: Float[Tensor, "*batch query dim"], key: Float[Tensor, "*batch key dim"]
) -> Float[Tensor, "*batch query key"]:
    return query @ key.mT


@shaped
def pixels(image: Float[Tensor, "height width 3"], mask: Float[Tensor, "height width"] | None = None) -> int:
    return image.numel()


@shaped
def forgets_to_transpose(tokens: Float[Tensor, "token dim"]) -> Float[Tensor, "dim token"]:
    return tokens


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_right_shapes_pass(batch):
    assert similarity(torch.ones(*batch, 4, 8), key=torch.ones(*batch, 5, 8)).shape == (*batch, 4, 5)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: similarity(torch.ones(4, 8), torch.ones(5, 7)),
            r"similarity: key .*\(5, 7\).* 'dim' is 7 .* 8 in query",
        ),
        (lambda: similarity(torch.ones(2, 4, 8), torch.ones(3, 5, 8)), r"'batch' is \(3,\) here but \(2,\) in query"),
        (lambda: similarity(torch.ones(2, 4, 8), torch.ones(5, 8)), r"'batch' is \(\) here but \(2,\) in query"),
        (lambda: similarity(key=torch.ones(5, 8), query=torch.ones(8)), r"query .*\(8,\).*: 1 axes instead of 2"),
        (lambda: pixels(torch.ones(4, 4)), r'"height width 3": 2 axes instead of 3'),
        (lambda: pixels(torch.ones(1, 4, 4, 3)), "4 axes instead of 3"),
        (lambda: pixels(torch.ones(3, 4, 4)), "an axis of size 3 is 4 here"),
        (lambda: pixels(torch.ones(4, 5, 3), torch.ones(5, 5)), "mask .* 'height' is 5 here but 4 in image"),
    ],
)
def test_the_error_names_the_argument_and_the_axis(call, says):
    with pytest.raises(ShapeError, match=says):
        call()


def test_a_method_is_named_with_its_class():
    class Layer:
        @shaped
        def forward(self, tokens: Float[Tensor, "token dim"]):
            return tokens

    with pytest.raises(ShapeError, match=r"Layer\.forward: tokens has shape \(2,\)"):
        Layer().forward(torch.ones(2))


def test_a_result_of_the_wrong_shape_is_caught():
    with pytest.raises(TypeError, match=r"(?s)return value .*forgets_to_transpose.*f32\[2,3\].*dim token"):
        forgets_to_transpose(torch.ones(2, 3))
    assert forgets_to_transpose(torch.ones(3, 3)).shape == (3, 3)


@pytest.mark.parametrize("wrong", [torch.ones(4, 4, 3, dtype=torch.int64), np.ones((4, 4, 3)), 3.0])
def test_another_type_is_no_shape_error(wrong):
    with pytest.raises(jaxtyping.TypeCheckError, match="image"):
        pixels(wrong)


def test_missing_and_unknown_arguments_are_ordinary_type_errors():
    with pytest.raises(TypeError, match="missing a required argument: 'image'"):
        pixels()
    with pytest.raises(TypeError, match="unexpected keyword argument 'picture'"):
        pixels(torch.ones(4, 4, 3), picture=1)


def test_a_union_of_shapes_takes_each_and_is_not_blamed_for_another_argument():
    @shaped
    def f(a: Float[Tensor, "token"] | Float[Tensor, "token dim"], b: Float[Tensor, "token"]) -> None: ...

    f(torch.ones(3), torch.ones(3))
    f(torch.ones(3, 4), torch.ones(3))
    for a in (torch.ones(3), torch.ones(3, 4)):
        with pytest.raises(TypeError, match="parameter 'b'"):
            f(a, torch.ones(2))


def test_an_anonymous_axis_is_never_the_one_that_disagrees():
    @shaped
    def f(a: Float[Tensor, "_ dim"], b: Float[Tensor, "_ dim"]) -> None: ...

    f(torch.ones(4, 3), torch.ones(5, 3))
    with pytest.raises(ShapeError, match="'dim' is 2 here but 3 in a"):
        f(torch.ones(4, 3), torch.ones(5, 2))


def test_errors_of_the_function_itself_pass_through():
    @shaped
    def f(a: Float[Tensor, "n"]) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        f(torch.ones(2))


def test_checks_switch_on_and_off_while_running():
    wrong = torch.ones(2, 3)
    try:
        check_shapes(False)
        assert forgets_to_transpose(wrong) is wrong
        check_shapes()
        with pytest.raises(TypeError):
            forgets_to_transpose(wrong)
    finally:
        check_shapes(True)


def test_the_environment_sets_the_switch_at_import():
    program = """
import importlib, os, torch, xattn_edu, xattn_edu.shapes as shapes
for value in (None, "", "0", "1"):
    os.environ.pop("XATTN_CHECK_SHAPES", None)
    if value is not None:
        os.environ["XATTN_CHECK_SHAPES"] = value
    importlib.reload(shapes)
    @shapes.shaped
    def f(a: shapes.jaxtyping.Float[torch.Tensor, "n"]): return "unchecked"
    try:
        print(f(torch.ones(1, 1)))
    except shapes.ShapeError:
        print("checked")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == ["unchecked", "unchecked", "unchecked", "checked"]


def test_a_wrong_call_after_right_ones_is_caught():
    for _ in range(3):
        similarity(torch.ones(4, 8), torch.ones(5, 8))
    with pytest.raises(ShapeError, match="'dim' is 7 here but 8 in query"):
        similarity(torch.ones(4, 8), torch.ones(5, 7))
    with pytest.raises(TypeError, match="query"):
        similarity(torch.ones(4, 8, dtype=torch.int64), torch.ones(5, 8))
    with pytest.raises(TypeError, match="key"):
        similarity(torch.ones(4, 8), torch.ones(5, 8).numpy())


def test_a_wrong_result_after_right_ones_is_caught():
    class Layer(torch.nn.Module):
        transposes = True

        @shaped
        def forward(self, tokens: Float[Tensor, "token dim"], scale: int = 1) -> Float[Tensor, "dim token"]:
            return tokens.mT if self.transposes else tokens

    layer, tokens = Layer(), torch.ones(2, 3)
    assert layer(tokens).shape == layer(tokens).shape == (3, 2)
    layer.transposes = False  # nothing of this is seen in the arguments
    for _ in range(2):
        with pytest.raises(TypeError, match=r"(?s)return value .*Layer\.forward.*f32\[2,3\].*dim token"):
            layer(tokens)
    layer.transposes = True
    assert layer(tokens).shape == (3, 2)
    with pytest.raises(TypeError, match="scale"):
        layer(tokens, 1.0)


def test_what_was_right_is_not_checked_again(monkeypatch):
    @shaped
    def f(a: Float[Tensor, "n"], b: list[Float[Tensor, "n"]], c: float = 0.0) -> dict[str, Float[Tensor, "n"]]:
        return {"sum": a + sum(b) + c}

    n, m = torch.ones(2), torch.ones(3)
    for a, c in ((n, 0.0), (m, 0.0), (n, 1.0)):
        f(a, [a, a], c=c)
    monkeypatch.setattr(shapes, "_checked", None)
    for a, c in ((n, 0.0), (m, 0.0), (n, 1.0)):
        assert f(a, [a, a], c=c)["sum"].tolist() == [3.0 + c] * len(a)
    for other in ((n, [n, m]), (n, [n]), (n, (n, n)), (n, [n, n], True)):
        with pytest.raises(TypeError, match="'NoneType' object is not callable"):
            f(*other)


def test_long_lists_are_checked_each_time_and_not_kept():
    sentences = ["a sentence"] * (shapes.LONGEST + 1)
    assert shapes._form((sentences,)) is None and shapes._form((sentences[1:],)) is not None

    @shaped
    def f(texts: list[str]) -> Float[Tensor, "text"]:
        return torch.ones(len(texts))

    assert len(f(sentences)) == len(f(sentences)) == len(sentences)
    with pytest.raises(TypeError, match="texts"):
        f([*range(len(sentences))])


# --- names, heads and numbers


def test_a_choice_is_one_of_the_names():
    for name in ("sum", "mean"):
        check_choice("reduction", name, {"sum": 1, "mean": 2})
    for wrong in ("Sum", "", None, 1, ["sum"]):
        with pytest.raises(ValueError, match=f"^reduction must be one of sum, mean, given {re.escape(repr(wrong))}$"):
            check_choice("reduction", wrong, {"sum": 1, "mean": 2})


def test_a_width_is_cut_into_heads_of_one_size():
    for heads in (1, 2, 8):
        check_heads(8, heads)
    for width, heads in ((8, 3), (8, 16), (8, 0), (8, -2), (0, 1), (-8, 2)):
        with pytest.raises(ValueError, match=f"width {width}, heads {heads}$"):
            check_heads(width, heads)


def test_the_bounds_of_a_whole_number_belong_to_it():
    assert [whole_number("seed", given, 0, 9) for given in (0, 9)] == [0, 9]
    assert [whole_number("seed", given) for given in (-5, 2**70)] == [-5, 2**70]


@pytest.mark.parametrize("given", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3).int()])
def test_a_whole_number_is_pythons(given):
    number = whole_number("seed", given, 0, 3)
    assert number == 3 and type(number) is int


@pytest.mark.parametrize(
    "given",
    [True, np.True_, torch.tensor(True), 3.0, np.float64(3), torch.tensor(3.0), "3", None, [3], np.array([3, 4])],
)
def test_what_is_no_whole_number(given):
    with pytest.raises(TypeError, match="seed must be an int, given.*write seed=int"):
        whole_number("seed", given)


@pytest.mark.parametrize(("given", "says"), [(-1, "seed must be 0 to 9, given -1"), (np.int64(10), "0 to 9, given 10")])
def test_whole_numbers_out_of_range(given, says):
    with pytest.raises(ValueError, match=says):
        whole_number("seed", given, 0, 9)


@pytest.mark.parametrize("given", [0.5, np.float64(0.5), np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_a_real_number_is_pythons(given):
    number = real_number("rate", given)
    assert number == 0.5 and type(number) is float
    assert type(real_number("rate", 1)) is float


@pytest.mark.parametrize("given", [True, np.True_, "0.5", None, 1j, [0.5], torch.tensor([0.5, 0.5])])
def test_what_is_no_number(given):
    with pytest.raises(TypeError, match="rate must be a number, given"):
        real_number("rate", given)
