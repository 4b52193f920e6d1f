"""The one door to SciPy: `solve_ivp` with its calls counted, bounded and checked, and its steps watched.

SciPy's `fun(t, y)` on flat y appears here and nowhere else. SciPy's Runge-Kutta loops run forever on NaN and LSODA
returns it; here every derivative is checked, so that a solve ends with all that was asked or with a `SolveError`.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy.integrate import BDF, DOP853, LSODA, RK23, RK45, OdeSolver, Radau, solve_ivp
from scipy.sparse import issparse

from refode.arguments import one_of
from refode.errors import SolveError
from refode.steppers import RK4, Euler, Tsit5, tableau
from refode.types import Array

METHODS: dict[str, type[OdeSolver]] = {
    "RK23": RK23, "RK45": RK45, "DOP853": DOP853, "Radau": Radau, "BDF": BDF, "LSODA": LSODA,
    "Euler": Euler, "RK4": RK4, "Tsit5": Tsit5,
}  # fmt: skip
IMPLICIT = (Radau, BDF, LSODA)
LEAST_RTOL = 100 * np.finfo(float).eps  # SciPy raises anything below to this
ADVICE = {  # what a solve stopped with -> what it mostly means
    "Required step size is less than spacing between numbers": "the solution blows up here, or f jumps",
    "evaluations are spent": "a stiff field wants Radau, BDF or LSODA; else raise max_nfev or rtol",
}


def solver_class(method: str | type[OdeSolver]) -> type[OdeSolver]:
    """The class of that name, or the `OdeSolver` subclass itself; ValueError names the known ones."""
    if inspect.isclass(method) and issubclass(method, OdeSolver):
        return method
    return METHODS[one_of("method", method, METHODS)]


def options_of(method: type[OdeSolver]) -> set[str]:
    """The names of the options that a method takes, by itself or handed on to its base: first_step, step, ..."""
    ours = {"self", "fun", "t0", "y0", "t_bound", "rtol", "atol", "vectorized"}
    ours |= {"jac", "jac_sparsity", "lband", "uband"}  # the Jacobian is the field's to give
    named: set[str] = set()
    for base in method.__mro__[: method.__mro__.index(OdeSolver)]:
        if "__init__" in vars(base):
            parameters = inspect.signature(base).parameters.values()
            named |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return named - ours


class Rows:
    """Arrays of one size, copied one after another into one that grows by an eighth, where it lies if there is room.

    A list of them, made an array at the end, would hold everything twice.
    """

    def __init__(self) -> None:
        self.count, self._flat = 0, np.empty(0)

    def append(self, row: Array) -> None:
        start, self.count = self.count * row.size, self.count + 1
        end = start + row.size
        if end > self._flat.size:
            self._flat.resize(end + end // 8, refcheck=False)  # nobody else knows it yet
        self._flat[start:end] = row.ravel()

    def taken(self, shape: tuple[int, ...]) -> Array:
        """All rows, (count, *shape), which are ours no more: what is appended next is the first."""
        count, flat = self.count, self._flat
        self.count, self._flat = 0, np.empty(0)
        flat.resize(count * math.prod(shape), refcheck=False)
        return flat.reshape(count, *shape)


@dataclass
class Steps:
    """What the accepted steps of one or more solves leave behind."""

    keep: str = "observations"  # for which nothing is recorded; "times" alone; for all else states, for "stages" slopes
    slopes: int = 0  # how many of a step's, the first ones, "stages" records
    t: list[float] = field(default_factory=list)
    y: Rows = field(default_factory=Rows)
    K: Rows = field(default_factory=Rows)
    n: int = 0
    size: float = 0.0  # of the last one
    last_t: float = np.nan
    last_y: Array = field(default_factory=lambda: np.empty(0))

    def start(self, t: float, y: Array) -> None:
        self.last_t, self.last_y = t, y
        self._record(t, y)

    def accept(self, solver: OdeSolver) -> None:
        self.n += 1
        self.size = abs(solver.t - self.last_t)
        self.last_t, self.last_y = solver.t, solver.y
        self._record(solver.t, solver.y)
        if self.keep == "stages":
            self.K.append(solver.K[: self.slopes])

    def _record(self, t: float, y: Array) -> None:
        if self.keep != "observations":
            self.t.append(t)
        if self.keep not in ("observations", "times"):
            self.y.append(y)


def _watched(method: type[OdeSolver]) -> type[OdeSolver]:
    """`method` with every accepted step reported to its option `steps`."""

    class Watched(method):  # type: ignore[misc]
        def __init__(self, *args: Any, steps: Steps, **options: Any) -> None:
            super().__init__(*args, **options)
            self._steps = steps

        def step(self) -> str | None:
            message: str | None = super().step()
            if self.status != "failed":
                self._steps.accept(self)
            return message

    return Watched


class Integrator:
    """ẏ = rhs(t, y) by one method, in one or several stretches, under one account of evaluations.

    `rhs` takes and returns flat float64 arrays. `direction`, "forward" or "reverse", is what a SolveError will say.
    """

    def __init__(
        self,
        rhs: Callable[[float, Array], Array],
        method: type[OdeSolver],
        rtol: float,
        atol: float | Array,
        max_nfev: int,
        direction: str,
        options: Mapping[str, Any],
        keep: str = "observations",
    ) -> None:
        self.rhs, self.method, self.direction = rhs, method, direction
        self.rtol, self.atol, self.max_nfev = rtol, atol, max_nfev
        self.options = {**options, "jac": partial(self._jac, options["jac"])} if "jac" in options else options
        table = tableau(method)
        self.steps = Steps(keep, slopes=table.stages if table else 0)
        self.nfev = self.njev = 0

    def solve(self, t_span: tuple[float, float], y0: Array, t_eval: Array | None = None, dense: bool = False) -> Any:
        """One stretch by `solve_ivp`: its result, with the end state as `y_end`. Raises SolveError."""
        self.steps.start(t_span[0], y0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "lsoda:", UserWarning)  # its failure is raised below
            result = solve_ivp(
                self._fun,
                t_span,
                y0,
                method=_watched(self.method),
                t_eval=np.empty(0) if t_eval is None else t_eval,
                dense_output=dense,
                rtol=self.rtol,
                atol=self.atol,
                steps=self.steps,
                **self.options,
            )
        if not result.success:
            raise self._error(result.message.rstrip("."), self.steps.last_t, self.steps.last_y)
        self.njev += result.njev
        result.y_end = self.steps.last_y
        return result

    def _fun(self, t: float, y: Array) -> Array:
        if self.nfev >= self.max_nfev:
            raise self._error(f"max_nfev = {self.max_nfev} evaluations are spent", t, y)
        self.nfev += 1
        dy = self.rhs(t, y)
        if not np.isfinite(dy).all():
            raise self._error("f is not finite", t, y, dy)
        return dy

    def _jac(self, jac: Callable[[float, Array], Any], t: float, y: Array) -> Any:
        J = jac(t, y)
        if not np.isfinite(J.data if issparse(J) else J).all():
            raise self._error("the Jacobian of f is not finite", t, y)
        return J

    def _error(self, reason: str, t: float, y: Array, dy: Array | None = None) -> SolveError:
        with np.errstate(all="ignore"):
            dy = self.rhs(t, y) if dy is None else dy
            norms = {"z_norm": float(np.linalg.norm(y)), "f_norm": float(np.linalg.norm(dy))}
        advice = "".join(f"; {advice}" for words, advice in ADVICE.items() if words in reason)
        step = abs(t - self.steps.last_t) or self.steps.size  # of the step that was tried, or of the one just done
        return SolveError(
            reason + advice, direction=self.direction, t=float(t), step=float(step), nfev=self.nfev, **norms
        )
