"""A call of an answer: what it may do, what is found out, and that nothing of it is left behind."""

import contextlib
import random
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from xattn_edu.exercises.checking import compare, exercise
from xattn_edu.exercises.guard import Guarded, NotAttempted, Stopped, TimeLimit, Wrong


def doubled(x):
    return 2 * x


# --- what an answer is given, and what a check gets back


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_an_answer_gets_float32_and_the_check_gets_its_own_dtype_back(kind):
    seen = []

    def answer(x, layer, parts):
        seen.extend([x.dtype, layer.weight.dtype, parts[0].dtype])
        return layer(x), [x]

    x, layer = torch.ones(2, 3, dtype=kind), nn.Linear(3, 3).to(kind)
    result, (again,) = Guarded(answer)(x, layer, [x])
    assert seen == [torch.float32] * 3 and result.dtype == again.dtype == kind
    assert layer.weight.dtype == kind  # the check's own layer stays as it is
    torch.testing.assert_close(result, layer(x), atol=1e-6, rtol=1e-6)
    seen.clear()
    assert torch.equal(Guarded(answer).exactly(x, layer, [x])[0], layer(x)) and seen == [kind] * 3


def test_integers_masks_arrays_and_texts_stay_as_they_are():
    given = torch.arange(3), torch.ones(2).bool(), np.ones(2), "text", {1, 2}, None
    assert Guarded(lambda *x: x)(*given) == given


def test_an_answer_that_writes_into_zeros_is_right():
    def answer(x):
        out = torch.zeros(x.shape)
        for i, row in enumerate(x):
            out[i] = 2 * row
        return out @ torch.eye(3)

    x = torch.randn(2, 3, dtype=torch.double)
    compare(Guarded(answer)(x), 2 * x, "here")


# --- what is found out


class Layer(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("answer", "argument"),
    [
        (lambda x, layer: x.mul_(2), torch.ones(2)),
        (lambda x, layer: x.__setitem__(0, 5), np.ones(2)),
        (lambda x, layer: x.append(1), [torch.ones(2)]),
        (lambda x, layer: x[0].mul_(2), [torch.ones(2)]),
        (lambda x, layer: x.update(a=1), {}),
        (lambda x, layer: x.add(3), {1, 2}),
        (lambda x, layer: x.eval(), nn.Linear(2, 2)),
        (lambda x, layer: nn.init.zeros_(x.weight), nn.Linear(2, 2)),
        (lambda x, layer: x.running_mean.add_(1), nn.BatchNorm1d(2)),
    ],
)
def test_a_change_of_an_argument_is_refused_by_its_name(answer, argument):
    with pytest.raises(Wrong, match="it changes `x` in place"):
        Guarded(answer)(argument, nn.Linear(2, 2))


def test_numbers_that_are_not_a_number_are_no_change():
    assert Guarded(lambda x: 3)(torch.tensor([float("nan"), 1.0])) == 3


def test_weights_set_to_zero_change_no_expectation():
    """The layer that the check keeps is another one."""

    def answer(x, layer):
        nn.init.zeros_(layer.weight)
        return layer(x)

    layer = nn.Linear(2, 2).double()
    with pytest.raises(Wrong, match="it changes `layer` in place"):
        Guarded(answer)(torch.ones(1, 2).double(), layer)
    assert layer.weight.all()


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (lambda x, a, b: a(b(x)), None),
        (lambda x, a, b: [a(x), b(x)], None),
        (lambda x, a, b: a(b(x)).detach(), "bias, weight"),
        (lambda x, a, b: a(x) + b(x).detach(), "weight"),
        (torch.no_grad()(lambda x, a, b: a(b(x))), "bias, weight"),
    ],
)
def test_an_answer_through_which_no_gradient_flows_is_refused_at_the_end(answer, missing):
    guarded = Guarded(answer)
    guarded(torch.ones(1, 2), nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    if missing is None:
        guarded.learns()
    else:
        with pytest.raises(Wrong, match=f"no gradient reaches .*{missing}"):
            guarded.learns()


def test_each_case_is_looked_at_for_itself():
    guarded = Guarded(lambda x, layer: layer(x).exp())
    for _ in range(2):
        guarded(torch.ones(1, 2), nn.Linear(2, 2))
        guarded.learns()


def test_a_check_in_a_cell_without_gradients_is_the_same():
    with torch.no_grad():
        guarded = Guarded(lambda x, layer: layer(x))
        guarded(torch.ones(1, 2), nn.Linear(2, 2))
        guarded.learns()
        assert not torch.is_grad_enabled()


# --- errors


def test_an_endless_loop_ends():
    def answer():
        while True:
            with contextlib.suppress(Exception):  # everything that an answer usually catches
                time.sleep(0.01)

    begin = time.monotonic()
    with pytest.raises(Wrong, match="did not end within 0.3 seconds"):
        Guarded(answer, seconds=0.3)()
    assert time.monotonic() - begin < 30


def test_the_time_limit_is_for_one_call_and_ends_with_it():
    guarded = Guarded(lambda: time.sleep(0.2), seconds=0.5)
    for _ in range(4):
        guarded()
    time.sleep(0.6)  # nothing is raised here
    assert issubclass(TimeLimit, BaseException) and not issubclass(TimeLimit, Exception)


def unfinished(x):
    raise NotImplementedError


class Unfinished(nn.Module):
    def __init__(self, width):
        super().__init__()
        raise NotImplementedError


class Misspelt(nn.Module):
    def froward(self, x):
        return x


@pytest.mark.parametrize("answer", [unfinished, Unfinished])
def test_a_stub_is_not_attempted(answer):
    with pytest.raises(NotAttempted):
        Guarded(answer)(3)


def test_an_error_of_torch_that_is_not_implemented_is_an_error():
    guarded = Guarded(lambda: Misspelt())
    with pytest.raises(Stopped, match='NotImplementedError: Module .Misspelt. is missing the required "forward"'):
        guarded.of(guarded())(torch.ones(1))


@pytest.mark.parametrize("error", [SystemExit(3), ValueError("odd"), RecursionError(), KeyError("a")])
def test_an_error_is_said_with_the_line_of_the_answer(error):
    def answer(x):
        if isinstance(error, SystemExit):
            sys.exit(3)
        raise error  # here

    with pytest.raises(Stopped, match=rf"stopped with {type(error).__name__}(.|\n)*line \d+: .*(raise error|exit)"):
        Guarded(answer)(1)


def test_a_call_instead_of_a_function_is_explained():
    with pytest.raises(Wrong, match="give the check the function itself.*given 4"):
        Guarded(doubled(2))


# --- what is left behind


def test_nothing_is_left_behind():
    def answer():
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        np.seterr(all="raise")
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        raise ValueError

    def state():
        return torch.rand(1).item(), np.random.rand(), random.random()

    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected, settings = state(), np.geterr()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    with pytest.raises(Stopped):
        Guarded(answer)()
    assert state() == expected and np.geterr() == settings
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


def test_a_comparison_that_an_answer_puts_in_place_of_numpys_is_not_used(monkeypatch, capsys):
    @exercise
    def check(answer):
        compare(answer(), torch.ones(2), "here")
        return "right"

    monkeypatch.setattr(np, "allclose", lambda *a, **k: True)
    monkeypatch.setattr(torch, "allclose", lambda *a, **k: True)
    monkeypatch.setattr(np, "asarray", lambda a: np.ones(2))
    check(lambda: torch.zeros(2))
    assert capsys.readouterr().out.startswith("✗")


def test_what_an_answer_prints_stands_below_the_verdict_and_is_cut(capsys):
    @exercise
    def check(answer):
        answer(), answer()
        return "right"

    def answer():
        print("a shape")

    check(answer)
    assert capsys.readouterr().out == "✓ answer: right\n  Your code printed:\n    a shape\n    a shape\n"
    check(lambda: print("x" * 10**6))
    assert len(capsys.readouterr().out) < 1200


def test_a_result_of_an_unknown_kind_is_a_verdict(capsys):
    class Odd:
        def __array__(self, *a, **k):
            raise TypeError("odd")

    @exercise
    def check(answer):
        compare(answer(), 1.0, "here")
        return "right"

    check(lambda: Odd())
    assert capsys.readouterr().out.startswith("✗ <lambda>: what it returned cannot be compared (TypeError")
