"""How an answer is compared: what is refused, in which words, and that the lesson's random numbers stay as they are."""

import inspect

import numpy as np
import pytest
import torch

from xattn_edu.exercises.checking import Wrong, compare, exercise, two


@pytest.mark.parametrize(
    ("given", "expected", "says"),
    [
        (None, 3, "returns None"),
        (100_000.4, 100_000, "expected 100,000, given 100000.4"),  # a count is exact
        (1.0002, 1.0, "expected 1.0, given 1.0002"),
        (torch.ones(2), 1, r"expected one number, 1, given shape \(2,\)"),
        ([1.0, 1.0], torch.ones(2), "expected a Tensor, given a list"),
        (np.ones(3), torch.ones(2), r"expected shape \(2,\), given \(3,\)"),
        (torch.ones(2, 3), torch.ones(3, 2), r"expected shape \(3, 2\), given \(2, 3\)"),
        (torch.ones(3), torch.ones(3, dtype=torch.bool), "a mask is made of True and False, given torch.float32"),
        (
            torch.full((3,), 1.001),
            torch.ones(3),
            r"wrong numbers, the first at \[0\]: expected 1, given 1.001. Off by a little.",
        ),
        (torch.full((3,), 2.0), torch.ones(3), r"wrong numbers, the first at \[0\]: expected 1, given 2.$"),
    ],
)
def test_a_wrong_answer_is_refused_in_these_words(given, expected, says):
    causes = {"Not shown by this input.": None, "Off by a little.": torch.full((3,), 1.001)}
    with pytest.raises(Wrong, match=says):
        compare(given, expected, "here", causes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3.0, 3),
        (np.ones(3), torch.ones(3)),
        (torch.ones(3, requires_grad=True), np.ones(3)),
        (torch.tensor([3]), 3),
        (1 + 1e-6, 1.0),
        (torch.full((2,), 1 + 1e-6), torch.ones(2)),
        (np.eye(2),) * 2,
    ],
)
def test_a_right_answer_may_differ_by_rounding(given, expected):
    compare(given, expected, "here")


@pytest.mark.parametrize("given", [(1, 2, 3), (1,), 1, torch.ones(2)])
def test_two_values_are_neither_more_nor_fewer(given):
    with pytest.raises(Wrong, match="return two values, the first and the second"):
        two(given, "the first and the second")
    assert two([1, 2], "") == (1, 2)


def test_a_verdict_leaves_the_random_numbers_of_the_lesson_alone(capsys):
    @exercise
    def check(answer):
        torch.rand(3)
        return answer()

    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    check(lambda: "right")
    assert torch.equal(torch.rand(1), expected)

    def unfinished():
        raise NotImplementedError

    check(unfinished)
    check(lambda: 1 / 0)
    line = inspect.currentframe().f_lineno - 1
    assert capsys.readouterr().out.splitlines() == [
        "✓ <lambda>: right",
        "○ unfinished is waiting for your code.",
        "✗ <lambda> stopped with ZeroDivisionError: division by zero",
        f"  line {line}: check(lambda: 1 / 0)",
    ]
