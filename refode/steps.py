"""A step of the note: what it claims, what was measured, and the verdict, row by row.

    ledger = Ledger("sections 1 and 2 of the note")
    ledger.check("D24", "slope of |grad s - (I + eps M)|", slope(eps, gap), 2, 0.05)

A check is one number, or one array, against what it should be. A claim that holds for every smooth f is a
function instead, marked with its item and its kind, run here at the tutorial's numbers and in the tests over
random fields:

    @ledger.step("D21", bound=1e-10)
    def pull_back_along_the_flow(problem):
        \"\"\"a(t) = a(t + ε) ∇s_ε, relative to |a(t)|.\"\"\"
        ...
        return residual

    ledger.run(pull_back_along_the_flow, problem)

The kinds, and what the function returns:

    exact      a residual, number or array:      max|residual| ≤ bound
    order      (h, error), sequences:            slope of log(error) over log(h) ≥ order − 0.3, over the errors
                                                 above bound, the floor where rounding rules
    existence  (deviation, prediction) of what   |deviation − prediction| ≤ bound · max|prediction|, and the
               is printed:                       prediction is not zero

Residuals and errors are relative to the size of what they compare, so that one bound fits every problem.
An erratum is two rows of one id, whose claims begin "as printed: " and "corrected: ", in this order; the first
compares the printed formula with the size its error is predicted to have. Printed rows are ASCII.
"""

import math
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike

from refode.finite_difference import slope

Kind = Literal["exact", "order", "existence"]
Verdict = Literal["ok", "FAIL", "text", "missing"]
F = TypeVar("F", bound=Callable[..., Any])

ORDER_SLACK = 0.3  # an order is an integer or a half; the next term of the series bends a measured slope
ASCII = str.maketrans(
    {"∇": "grad", "§": "S", "∂": "d", "Δ": "D", "δ": "d", "ε": "eps", "θ": "theta", "σ": "sigma", "τ": "tau"}
    | {"λ": "lambda", "ℒ": "L", "∫": "int ", "∞": "inf", "√": "sqrt", "−": "-", "·": ".", "×": "x", "∘": " o "}
    | {"‖": "|", "⟨": "<", "⟩": ">", "≤": "<=", "≥": ">=", "≠": "!=", "→": "->", "′": "'", "″": "''", "ᵀ": "^T"}
    | dict(zip("₀₁₂₃₄", ("_0", "_1", "_2", "_3", "_4"), strict=True))
    | dict(zip("⁰¹²³⁴", ("^0", "^1", "^2", "^3", "^4"), strict=True))
)


@dataclass(frozen=True)
class Row:
    """One claim and its verdict: `ok` is error ≤ tol, or None where there is nothing to compute.

    For arrays `got` is the largest deviation and `want` 0. With `at_least`, only falling short is an error.
    """

    id: str
    claim: str
    got: float
    want: float
    tol: float
    error: float
    ok: bool | None
    seconds: float
    at_least: bool = False

    @property
    def ratio(self) -> float:
        """error / tol: how much of the tolerance was used."""
        return 0.0 if self.error == 0 else self.error / self.tol if self.tol > 0 else math.inf

    def __str__(self) -> str:
        head = f"{_word(self.ok):<5}{self.id:<9} {_ascii(self.claim)}"
        if self.ok is None:
            return head
        want = f">= {self.want - self.tol:.4g}" if self.at_least else f"{self.want:.4g} +- {self.tol:.2g}"
        return f"{head:<72} {self.got:>10.4g}  want {want:<18} {self.seconds:6.2f} s"


@dataclass(frozen=True)
class Marked:
    """A function that is a step: its item, its kind, and what its result must satisfy."""

    id: str
    kind: Kind
    bound: float
    order: float | None
    function: Callable[..., Any]

    def evaluate(self, *problem: Any) -> Row:
        """Call the function on a problem and judge what it returns."""
        start = time.perf_counter()
        row = self._judge(self.function(*problem))
        return replace(row, seconds=time.perf_counter() - start)

    def _judge(self, result: Any) -> Row:
        claim = (self.function.__doc__ or self.function.__name__).strip().splitlines()[0].rstrip(".")
        if self.kind == "exact":
            return _compare(self.id, claim, result, 0.0, self.bound)
        if self.kind == "existence":
            deviation, prediction = result
            size = float(np.max(np.abs(prediction)))
            # A prediction of zero says that nothing fails here: NaN, so that the row does.
            prediction = prediction if 0 < size < math.inf else math.nan
            return _compare(self.id, claim, deviation, prediction, self.bound * size)
        assert self.order is not None
        h, error = result
        got = measured_order(h, error, self.bound)
        short = float(np.maximum(0.0, self.order - got))  # NaN stays NaN, and fails
        ok = short <= ORDER_SLACK
        return Row(self.id, claim, got, self.order, ORDER_SLACK, short, ok, 0.0, at_least=True)


class Ledger:
    """The rows of one tutorial, printed as they come and summed up at the end."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[Row] = []
        self.marked: dict[str, Marked] = {}
        self._last = time.perf_counter()

    def check(self, id: str, claim: str, got: ArrayLike, want: ArrayLike, tol: float) -> None:
        """Record and print whether |got − want| ≤ tol, arrays by their largest entry; NaN fails.

        `id` is an item or several, separated by spaces. ValueError for shapes that do not broadcast.
        """
        if not 0 <= tol < math.inf:
            raise ValueError(f"{id}: tol must be zero or positive, got {tol}")
        self._record(_compare(id, claim, got, want, tol))

    def text(self, id: str, why: str) -> None:
        """Record and print an item that has nothing to compute (a symbol, a spelling), and why."""
        self._record(Row(id, why, math.nan, math.nan, math.nan, math.nan, None, 0.0))

    def step(self, id: str, *, bound: float, kind: Kind = "exact", order: float | None = None) -> Callable[[F], F]:
        """Mark a function as a step; the function itself is unchanged. The module says what a kind asks for."""
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        if (order is None) == (kind == "order"):
            raise ValueError(f"order= belongs to kind 'order' and to no other; {id} has {kind!r}, {order=}")
        if not 0 <= bound < math.inf:
            raise ValueError(f"bound must be zero or positive, got {bound}")

        def mark(function: F) -> F:
            if function.__name__ in self.marked:
                raise ValueError(f"{function.__name__} is marked already, for {self.marked[function.__name__].id}")
            self.marked[function.__name__] = Marked(id, kind, bound, order, function)
            return function

        return mark

    def run(self, function: Callable[..., Any], *problem: Any) -> None:
        """Evaluate a marked function on a problem; record and print the row."""
        self._record(self.marked[function.__name__].evaluate(*problem))

    def verdict(self, id: str) -> Verdict:
        """What the rows of one item add up to."""
        oks = [row.ok for row in self.rows if id in row.id.split()]
        if not oks:
            return "missing"
        return _word(None if set(oks) == {None} else False not in oks)

    def finish(self) -> None:
        """Print the table, one line an item; SystemExit(1) if any row failed."""
        print(f"\n{_ascii(self.title)}\nitem     verdict  checks  error/tol  seconds")
        for id in sorted({word for row in self.rows for word in row.id.split()}):
            rows = [row for row in self.rows if id in row.id.split()]
            print(f"{id:<9}{self.verdict(id):<7}{_summary(rows)}")
        failed = [row for row in self.rows if row.ok is False]
        print(f"{'all':<9}{_word(not failed):<7}{_summary(self.rows)}")
        for row in failed:
            print(row)
        if failed:
            raise SystemExit(1)

    def _record(self, row: Row) -> None:
        now = time.perf_counter()
        row = replace(row, seconds=now - self._last)
        self._last = now
        self.rows.append(row)
        print(row, flush=True)


def measured_order(h: ArrayLike, error: ArrayLike, floor: float) -> float:
    """The slope of log(error) over log(h) where the error is above the floor.

    With one point above it there is no slope: +inf if it is the one of the largest h, the others having
    fallen below, −inf if not. +inf too if all lie below. An error of NaN or infinity makes a NaN.
    """
    h, error = np.asarray(h, dtype=float), np.asarray(error, dtype=float)
    if not np.all(np.isfinite(error)):
        return math.nan
    above = error > floor
    if np.count_nonzero(above) >= 2:
        return slope(h[above], error[above])
    return math.inf if not above.any() or above[np.argmax(h)] else -math.inf


def _compare(id: str, claim: str, got: ArrayLike, want: ArrayLike, tol: float) -> Row:
    # Booleans are numbers here: true is 1.
    got, want = (np.asarray(x) + 0.0 for x in (got, want))
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN, which fails
        deviation = np.abs(got - want)
    error = float(np.max(deviation)) if deviation.size else math.nan  # comparing nothing proves nothing
    one = deviation.size == 1 and not np.iscomplexobj(got) and not np.iscomplexobj(want)
    shown = (float(got.item()), float(want.item())) if one else (error, 0.0)
    return Row(id, claim, *shown, tol=float(tol), error=error, ok=error <= tol, seconds=0.0)


def _summary(rows: list[Row]) -> str:
    checks = [row for row in rows if row.ok is not None]
    worst = np.max([row.ratio for row in checks], initial=0.0)
    return f"{len(checks):>8}{worst:>11.2g}{sum(row.seconds for row in rows):>9.2f}"


def _word(ok: bool | None) -> Verdict:
    return "text" if ok is None else "ok" if ok else "FAIL"


def _ascii(text: str) -> str:
    """A formula for a terminal of any code page: ∇ becomes grad, ε eps, ȧ a', x₁ x_1."""
    letters = unicodedata.normalize("NFD", text.translate(ASCII))
    return letters.replace("\u0307", "'").encode("ascii", "replace").decode()
