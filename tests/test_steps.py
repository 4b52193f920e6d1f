"""The ledger: a row is ok exactly when its claim holds, and one failure is enough for exit code 1."""

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import refode.steps
from refode.steps import Ledger, Row, measured_order

numbers = st.floats(-1e6, 1e6)


def fresh():
    return Ledger("a ledger")


def only_row(ledger):
    (row,) = ledger.rows
    return row


# ---- checks -------------------------------------------------------------------------------------------------


@given(numbers, numbers, st.floats(0, 10))
def test_a_number_passes_within_its_tolerance_only(got, want, tol):
    ledger = fresh()
    assert ledger.check("D01", "claim", got, want, tol) is None
    row = only_row(ledger)
    assert row.ok == (abs(got - want) <= tol)
    assert (row.id, row.claim, row.got, row.want, row.tol) == ("D01", "claim", got, want, tol)
    assert row.error == abs(got - want)


def test_the_tolerance_itself_passes():
    ledger = fresh()
    ledger.check("D01", "claim", 1.5, 1.0, 0.5)
    ledger.check("D01", "claim", 0.5, 1.0, 0.5)
    ledger.check("D01", "claim", 0.5 - 2**-52, 1.0, 0.5)
    assert [row.ok for row in ledger.rows] == [True, True, False]


@given(st.lists(numbers, min_size=2, max_size=5), st.data())
def test_an_array_is_judged_by_its_largest_entry(want, data):
    deviation = data.draw(st.lists(st.floats(-1, 1), min_size=len(want), max_size=len(want)))
    got = np.array(want) + deviation
    ledger = fresh()
    ledger.check("D01", "claim", got, want, 0.5)
    row = only_row(ledger)
    largest = max(abs(g - w) for g, w in zip(got, want, strict=True))
    assert (row.got, row.want, row.error, row.ok) == (largest, 0.0, largest, largest <= 0.5)


@pytest.mark.parametrize(
    ("got", "want"),
    [(math.nan, 0), (0, math.nan), (math.inf, 0), (math.inf, math.inf), ([0, math.nan], 0), ([], 0), ([], [])],
)
def test_what_is_not_a_comparison_fails(got, want):
    ledger = fresh()
    ledger.check("D01", "claim", got, want, 1e300)
    assert only_row(ledger).ok is False


def test_complex_numbers_and_booleans_are_numbers():
    ledger = fresh()
    ledger.check("D01", "complex", 1 + 3e-3j, 1 - 1e-3j, 5e-3)
    ledger.check("D01", "complex", 1j, -1j, 1)
    ledger.check("D01", "boolean", True, True, 0)
    ledger.check("D01", "boolean", np.bool_(False), True, 0)
    assert [row.ok for row in ledger.rows] == [True, False, True, False]
    assert ledger.rows[0].error == pytest.approx(4e-3)


def test_shapes_broadcast_or_are_refused():
    ledger = fresh()
    ledger.check("D01", "claim", np.ones((2, 3)), np.ones(3), 0)
    assert only_row(ledger).ok
    with pytest.raises(ValueError, match="broadcast"):
        ledger.check("D01", "claim", np.ones(2), np.ones(3), 0)
    for tol in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="D01: tol must be zero or positive"):
            ledger.check("D01", "claim", 0, 0, tol)


def test_rows_are_printed_as_they_come_and_aligned(capsys):
    ledger = fresh()
    ledger.check("D24", "slope of |grad s - (I + eps M)|", 1.97, 2, 0.05)
    ledger.check("D04 E02", "as printed: group law", np.full(3, 0.32), 0, 1e-12)
    ledger.text("E28", "a symbol")
    first, second, third = capsys.readouterr().out.splitlines()
    shown = r"ok   D24       slope of \|grad s - \(I \+ eps M\)\| +1.97  want 2 \+- 0.05 +\d+\.\d\d s"
    assert re.fullmatch(shown, first)
    assert re.fullmatch(r"FAIL D04 E02   as printed: group law +0.32  want 0 \+- 1e-12 +\d+\.\d\d s", second)
    assert third == "text E28       a symbol"
    assert first.index("want") == second.index("want")


def test_formulas_are_printed_in_ascii(capsys):
    ledger = fresh()
    ledger.check("D13", "ȧ_§1 = −a ∇₁f, ‖error‖ ≤ ε² ≠ θ, σ′", 0, 0, 0)
    ledger.text("E55", "L'Hôpital")
    printed = capsys.readouterr().out
    assert "a'_S1 = -a grad_1f, |error| <= eps^2 != theta, sigma'" in printed
    assert printed.isascii()


def test_a_row_takes_the_time_since_the_one_before(monkeypatch):
    clock = iter([10.0, 11.0, 13.5, 17.0])
    monkeypatch.setattr(refode.steps.time, "perf_counter", lambda: next(clock))
    ledger = fresh()
    ledger.check("D01", "claim", 0, 0, 0)
    ledger.text("E28", "a symbol")
    ledger.check("D01", "claim", 0, 0, 0)
    assert [row.seconds for row in ledger.rows] == [1.0, 2.5, 3.5]


def test_a_mark_takes_the_time_of_its_function(monkeypatch):
    ledger = fresh()
    ledger.step("D21", bound=0)(abs)
    clock = iter([10.0, 11.5])
    monkeypatch.setattr(refode.steps.time, "perf_counter", lambda: next(clock))
    assert ledger.marked["abs"].evaluate(0).seconds == 1.5


def test_rows_are_immutable():
    ledger = fresh()
    ledger.check("D01", "claim", 0, 0, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        only_row(ledger).ok = False


# ---- verdicts and the end -----------------------------------------------------------------------------------


def test_a_verdict_adds_up_the_rows_that_name_the_item():
    ledger = fresh()
    ledger.check("E02", "as printed: the group law fails by what is predicted", 0.32, 0.32, 0.01)
    ledger.check("D04 E02", "corrected: group law", 0, 0, 0)
    ledger.check("D05 E02", "fails", 1, 0, 0)
    ledger.text("E28", "a symbol")
    ledger.text("E45", "a symbol")
    ledger.check("E45", "the symbol's formula", 0, 0, 0)
    verdicts = {id: ledger.verdict(id) for id in ("D04", "D05", "E02", "E28", "E45", "E0", "D63")}
    assert verdicts == {
        **{"D04": "ok", "D05": "FAIL", "E02": "FAIL", "E28": "text", "E45": "ok"},
        **{"E0": "missing", "D63": "missing"},
    }


def test_the_end_of_a_ledger_without_failure(capsys):
    ledger = fresh()
    ledger.check("D02", "claim", 0.5, 0, 1)
    ledger.check("D02 D01", "claim", 0.25, 0, 1)
    ledger.text("E28", "a symbol")
    capsys.readouterr()
    assert ledger.finish() is None
    blank, title, _, *rows = capsys.readouterr().out.splitlines()
    assert (blank, title) == ("", "a ledger")
    table = [row.split()[:4] for row in rows]
    assert table == [
        ["D01", "ok", "1", "0.25"],
        ["D02", "ok", "2", "0.5"],
        ["E28", "text", "0", "0"],
        ["all", "ok", "2", "0.5"],
    ]


@pytest.mark.parametrize("got", [2.0, math.nan])
def test_one_failure_is_enough_and_is_shown_again(capsys, got):
    ledger = fresh()
    ledger.check("D01", "fails", got, 0, 1)
    ledger.check("D02", "holds", 0, 0, 1)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        ledger.finish()
    assert end.value.code == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("FAIL D01       fails")
    assert sum(line.startswith("FAIL") for line in printed) == 1


def test_the_ratio_of_a_zero_tolerance():
    def ratio(error, tol):
        return Row("D01", "claim", 0, 0, tol, error, error <= tol, 0).ratio

    assert [ratio(0, 0), ratio(0, 2), ratio(1, 2), ratio(1, 0)] == [0, 0, 0.5, math.inf]
    assert math.isnan(ratio(math.nan, 2))


# ---- marked functions ---------------------------------------------------------------------------------------


def test_a_mark_leaves_the_function_alone_and_is_found_by_name():
    ledger = fresh()

    def residual(problem):
        """Something is zero."""
        return problem

    assert ledger.step("D21 E04", bound=0.5)(residual) is residual
    assert ledger.rows == []
    mark = ledger.marked["residual"]
    assert (mark.id, mark.kind, mark.bound, mark.order, mark.function) == ("D21 E04", "exact", 0.5, None, residual)
    assert mark.evaluate(0.5).ok
    assert ledger.rows == []


def test_what_cannot_be_marked():
    ledger = fresh()
    for arguments, message in [
        ({"bound": 0, "kind": "exakt"}, "kind must be one of exact, order, existence, got 'exakt'"),
        ({"bound": 0, "kind": "order"}, "order= belongs to kind 'order'"),
        ({"bound": 0, "order": 2}, "order= belongs to kind 'order'"),
        ({"bound": -1}, "bound must be zero or positive"),
        ({"bound": math.nan}, "bound must be zero or positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            ledger.step("D21", **arguments)
    ledger.step("D21", bound=0)(fresh)
    with pytest.raises(ValueError, match="fresh is marked already, for D21"):
        ledger.step("D22", bound=0)(fresh)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=4), st.floats(0, 1e300))
def test_an_exact_step_is_judged_by_its_largest_residual(residual, bound):
    ledger = fresh()

    @ledger.step("D21", bound=bound)
    def identity(residual):
        """The residual, a number or an array.

        More about it.
        """
        return np.array(residual)

    ledger.run(identity, residual)
    row = only_row(ledger)
    assert row.ok == all(abs(r) <= bound for r in residual)
    assert (row.id, row.claim, row.tol) == ("D21", "The residual, a number or an array", bound)


@given(st.floats(0.5, 6), st.floats(-2, 2), st.floats(1e-3, 1e3))
def test_an_order_is_at_least_what_is_claimed_less_three_tenths(order, surplus, C):
    ledger = fresh()
    assume(abs(surplus + 0.3) > 1e-9)

    @ledger.step("D24", kind="order", order=order, bound=0.0)
    def power(exponent):
        """|remainder| ≤ C ε^p."""
        h = 0.1 / 2 ** np.arange(5)
        return h, C * h**exponent

    ledger.run(power, order + surplus)
    row = only_row(ledger)
    assert row.ok == (surplus >= -0.3)
    assert row.got == pytest.approx(order + surplus, abs=1e-9)
    assert row.ratio == pytest.approx(max(0, -surplus) / 0.3, abs=1e-8)
    assert f"want >= {order - 0.3:.4g}" in str(row)


@pytest.mark.parametrize(
    ("error", "order"),
    [
        ([1e-4, 1e-6, 1e-8], 2),
        ([1e-4, 1e-6, 1e-13, 3e-13], 2),  # two points above the floor
        ([1e-9, 1e-13, 1e-13], math.inf),  # fell below it at once
        ([1e-13, 0.0, 1e-12], math.inf),  # always below it
        ([1e-13, 1e-13, 1e-9], -math.inf),  # rises above it
        ([1e-4, math.nan, 1e-8], math.nan),
        ([math.inf, 1e-6, 1e-8], math.nan),
        ([1e-4, 1e-2, 1e-8], 2),
        ([1e-8, 1e-6, 1e-4], -2),
    ],
)
def test_the_order_is_measured_above_the_floor(error, order):
    h = 0.1 ** np.arange(len(error))
    assert measured_order(h, error, 1e-12) == pytest.approx(order, nan_ok=True)
    assert measured_order(h[::-1], error[::-1], 1e-12) == pytest.approx(order, nan_ok=True)


def test_rounding_or_a_nan_in_an_order_step():
    ledger = fresh()

    @ledger.step("D24", kind="order", order=2, bound=1e-12)
    def error_of(error):
        return [0.1, 0.01], error

    for error in ([1e-13, 1e-13], [1e-3, math.nan], [1e-13, 1e-9], [1e-3, 1e-4]):
        ledger.run(error_of, error)
    assert [row.ok for row in ledger.rows] == [True, False, False, False]
    assert ledger.rows[0].claim == "error_of"


@pytest.mark.parametrize(
    ("deviation", "prediction", "ok"),
    [
        (2.02, 2.0, True),
        (1.97, 2.0, False),
        (-2.0, 2.0, False),
        ([1.0, 4.04], [1.0, 4.0], True),
        (0.202, 0.2, True),
        ([1.05, 4.0], [1.0, 4.0], False),
        (0.0, 0.0, False),  # predicts that what is printed holds
        ([0.0, 0.0], [0.0, 0.0], False),
        (math.nan, 2.0, False),
        (2.0, math.nan, False),
        (math.inf, math.inf, False),
        (2.0, math.inf, False),
    ],
)
def test_an_existence_step_fails_by_what_is_predicted(deviation, prediction, ok):
    ledger = fresh()

    @ledger.step("E07", kind="existence", bound=0.0101)
    def printed():
        """as printed: the quotient diverges like 2|a|/ε."""
        return np.array(deviation), np.array(prediction)

    ledger.run(printed)
    assert only_row(ledger).ok is ok
