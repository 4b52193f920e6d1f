"""Further steps for `solve_ivp`, and every explicit Runge-Kutta method as one kind of table.

Euler is the note's discrete limit (D01 with the step that E01 restores), RK4 its fourth-order companion, Tsit5 a pair
with error control. They are `OdeSolver` subclasses: `solve_ivp(..., method=RK4, step=0.1)` takes them. A `Tableau` says
of any explicit method, SciPy's or ours, how a step and its interpolant are made of slopes: what backpropagation through
the steps has to know.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from scipy.integrate import DOP853, RK23, RK45, DenseOutput, OdeSolver

from refode.arguments import real_array
from refode.types import Array, Scalar


@dataclass(frozen=True)
class Tableau:
    """One step of size h from (t, y), and its interpolant, as sums of S slopes.

        k_i = f(y + h Σ_{j<i} A_ij k_j,  t + c_i h,  θ),        y(t + x h) = y + h Σ_i w_i(x) k_i

    The new state is y + h Σ b_i k_i. Slopes that b does not weigh (the last ones) serve the interpolant alone.
    """

    A: Array  # (S, S), strictly lower triangular
    c: Array  # (S,)
    b: Array  # (S,)
    interpolant: Array  # (S, P): w(x) = interpolant @ (x, x², ..., x^P)

    @property
    def stages(self) -> int:
        """How many slopes, the first ones, a step without interpolation needs."""
        return int(np.flatnonzero(self.b)[-1]) + 1

    def weights(self, x: Scalar | Array) -> Array:
        """w(x), (..., S), for x in [0, 1]."""
        powers: Array = np.power.outer(x, np.arange(1.0, self.interpolant.shape[1] + 1))
        return powers @ self.interpolant.T


class FixedStep(OdeSolver):  # type: ignore[misc]  # SciPy has no annotations
    """An explicit Runge-Kutta method without error control: ⌈|t_bound − t0| / step⌉ equal steps.

    `K` holds the slopes of the last step, (S, n), as in SciPy's own Runge-Kutta classes.
    """

    tableau: ClassVar[Tableau]
    t: float
    y: Array

    def __init__(
        self, fun: Any, t0: float, y0: Array, t_bound: float, vectorized: bool = False, *, step: float, **_: Any
    ) -> None:
        super().__init__(fun, t0, y0, t_bound, vectorized, support_complex=True)
        self.n_steps = self.count(t0, t_bound, step)
        self.t_start, self.done = t0, 0
        self.K = np.empty((len(self.tableau.b), self.n), dtype=self.y.dtype)

    @staticmethod
    def count(t0: float, t_bound: float, step: float) -> int:
        """How many equal steps of at most `step` lead from t0 to t_bound; ValueError unless it is positive."""
        step = float(real_array("step", step, ()))
        if step <= 0:
            raise ValueError(f"step must be positive, got {step}")
        tiny = 1e-12  # so that a step of 0.1 divides 1 into ten steps, not eleven
        return max(1, int(np.ceil(abs(t_bound - t0) / step * (1 - tiny))))

    def _step_impl(self) -> tuple[bool, None]:
        self.done += 1
        if self.done < self.n_steps:
            t_new = self.t_start + (self.t_bound - self.t_start) * self.done / self.n_steps
        else:
            t_new = self.t_bound
        self.h, self.y_old = t_new - self.t, self.y
        self._slopes(0, self.tableau.stages, self.t)
        self.t = t_new
        self.y = self.y_old + self.h * (self.tableau.b[: self.tableau.stages] @ self.K[: self.tableau.stages])
        return True, None

    def _slopes(self, first: int, last: int, t: float) -> None:
        for i in range(first, last):  # k_i = f(y + h Σ_{j<i} A_ij k_j, t + c_i h)
            y = self.y_old + self.h * (self.tableau.A[i, :i] @ self.K[:i])
            self.K[i] = self.fun(t + self.tableau.c[i] * self.h, y)

    def _dense_output_impl(self) -> DenseOutput:
        self._slopes(self.tableau.stages, len(self.tableau.b), self.t_old)
        return _Interpolant(self.t_old, self.t, self.y_old, self.K.T @ self.tableau.interpolant)


class _Interpolant(DenseOutput):  # type: ignore[misc]
    """y(t_old + x h) = y_old + h Q (x, x², ..., x^P), Q (n, P)."""

    def __init__(self, t_old: float, t: float, y_old: Array, Q: Array) -> None:
        super().__init__(t_old, t)
        self.h, self.y_old, self.Q = t - t_old, y_old, Q

    def _call_impl(self, t: Array) -> Array:
        x = (t - self.t_old) / self.h
        powers = np.power.outer(x, np.arange(1.0, self.Q.shape[1] + 1))
        return np.asarray(self.y_old + self.h * powers @ self.Q.T).T


class Euler(FixedStep):
    """Forward Euler, order 1: z_{k+1} = z_k + h f(z_k, t_k, θ), linear in between. Note: D01 (§1), E01."""

    tableau = Tableau(A=np.zeros((1, 1)), c=np.zeros(1), b=np.ones(1), interpolant=np.ones((1, 1)))


def _rk4() -> Tableau:
    A = np.zeros((5, 5))
    A[1, 0], A[2, 1], A[3, 2] = 1 / 2, 1 / 2, 1
    b = np.array([1, 2, 2, 1, 0]) / 6
    A[4] = b  # the slope at the new state, for the interpolant
    # Cubic Hermite:  w(x) = b (3x² − 2x³) + e_first (x − 2x² + x³) + e_last (x³ − x²)
    interpolant = np.outer(b, [0, 3, -2])
    interpolant[0] += [1, -2, 1]
    interpolant[4] += [0, -1, 1]
    return Tableau(A=A, c=np.array([0, 1 / 2, 1 / 2, 1, 1]), b=b, interpolant=interpolant)


class RK4(FixedStep):
    """The classical Runge-Kutta method, order 4, cubic Hermite in between."""

    tableau = _rk4()


class Tsit5(RK45):  # type: ignore[misc]
    """Tsitouras' pair of order 5(4), with the interpolant of order 4, for `solve_ivp`: SciPy's RK45 by another table.

    About a fifth fewer evaluations than RK45 takes for an equal error. C. Tsitouras, Runge-Kutta pairs of order 5(4)
    satisfying only the first column simplifying assumption, Comput. Math. Appl. 62 (2011), 770-775.
    """

    A = np.array([
        [0, 0, 0, 0, 0],
        [0.161, 0, 0, 0, 0],
        [-0.008480655492356989, 0.335480655492357, 0, 0, 0],
        [2.8971530571054935, -6.359448489975075, 4.3622954328695815, 0, 0],
        [5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525, 0],
        [5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383],
    ])  # fmt: skip
    B = np.array([
        0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774,
    ])  # fmt: skip
    C = np.array([0, 0.161, 0.327, 0.9, 0.9800255409045097, 1])
    E = np.array([
        -0.001780011052225777, -0.0008164344596567469, 0.007880878010261995, -0.1447110071732629,
        0.5823571654525552, -0.4580821059291870, 1 / 66,
    ])  # fmt: skip
    P = np.array([
        [1, -2.763706197274826, 2.9132554618219126, -1.0530884977290216],
        [0, 0.1317, -0.2234, 0.1017],
        [0, 3.9302962368947516, -5.941033872131505, 2.4906272856512528],
        [0, -12.411077166933676, 30.33818863028232, -16.548102889244902],
        [0, 37.50931341651104, -88.1789048947664, 47.37952196281928],
        [0, -27.896526289197286, 65.09189467479366, -34.87065786149661],
        [0, 1.5, -4, 2.5],
    ])  # fmt: skip


def tableau(method: type[OdeSolver]) -> Tableau | None:
    """The table of an explicit method: RK23, RK45, DOP853, Euler, RK4 and their subclasses; None for any other."""
    if issubclass(method, FixedStep):
        return method.tableau
    if issubclass(method, DOP853):
        return _dop853()
    if issubclass(method, RK23 | RK45):
        S = method.n_stages  # the slope at the new state is one more
        A, b = np.zeros((S + 1, S + 1)), np.append(method.B, 0.0)
        A[:S, : method.A.shape[1]] = method.A
        A[S] = b
        return Tableau(A=A, c=np.append(method.C, 1.0), b=b, interpolant=method.P)
    return None


@cache
def _dop853() -> Tableau:
    """Twelve stages, the slope at the new state, and three that the interpolant of degree 7 adds.

    SciPy nests the interpolant (Hairer, Nørsett and Wanner, section II.6):
        y(x) − y = x (F_0 + (1−x) (F_1 + x (F_2 + (1−x) (F_3 + x (F_4 + (1−x) (F_5 + x F_6))))))
    with F_0 = h Σ b k,  F_1 = h k_first − F_0,  F_2 = 2 F_0 − h (k_first + k_last),  F_3.. = h D k.
    """
    S, extra = DOP853.n_stages, len(DOP853.C_EXTRA)
    first, last, b = np.eye(S + 1 + extra)[0], np.eye(S + 1 + extra)[S], np.zeros(S + 1 + extra)
    b[:S] = DOP853.B
    A = np.zeros((len(b), len(b)))
    A[:S, :S] = DOP853.A
    A[S] = b
    A[S + 1 :] = DOP853.A_EXTRA
    F = np.vstack([b, first - b, 2 * b - first - last, DOP853.D])  # (7, S), as functions of the slopes
    x, nested = np.polynomial.Polynomial([0, 1]), np.polynomial.Polynomial([1])
    interpolant = np.zeros((len(b), len(F)))
    for i, row in enumerate(F):
        nested = nested * (x if i % 2 == 0 else 1 - x)  # x, x(1−x), x²(1−x), ...
        interpolant[:, : nested.degree()] += np.outer(row, nested.coef[1:])
    return Tableau(A=A, c=np.concatenate([DOP853.C, [1.0], DOP853.C_EXTRA]), b=b, interpolant=interpolant)
