"""Taped: the discrete way at full speed, for one gradient after another of a loss in θ and z0.

`discrete` walks the steps of any solve that kept them; this one marches by itself, and every evaluation of f leaves on
a tape what its pullback needs. The sweep back is the tableau, transposed. With the new state as one more stage z_S,

    z̄_S = a,    k̄_i = h Σ_{j>i} A_ji z̄_j  (+ h Σ_obs w_i dL_obs),    z̄_i = k̄_i ∇§1 f(z_i),    θ̄ += k̄_i ∇§3 f(z_i)
    a ← Σ_i z̄_i

Note: P04, P23 (§2.2), E21.
"""

import math
from collections.abc import Callable, Collection

import numpy as np
from scipy.integrate import DOP853, OdeSolver

from refode.fields import VectorField
from refode.march import MARCHING, March, Marched
from refode.solve import Trajectory
from refode.tape import tape
from refode.types import Array

FEW = 30  # observations: DOP853's natural steps are longer than most of what lies between more of them


class Backward:
    """The sweep back through a march's steps, in the same memory for every gradient."""

    def __init__(self, march: March) -> None:
        self.march, S = march, march.S
        rows, shape = march.y.size, march.k[0].shape
        self.z_bar = np.zeros((S + 1, rows))
        self.k_bar, self.a = np.empty(rows), np.empty(rows)
        self.k_bar_rows, self.end, self.ones = self.k_bar.reshape(shape), self.z_bar[S], np.ones(S + 1)
        self.transposed = np.ascontiguousarray(march.A.T)  # (S, S + 1): row i has A_ji, j > i
        self.M = np.empty_like(self.transposed)
        self.stages = [
            (i, self.M[i, i + 1 :], self.z_bar[i + 1 :], self.z_bar[i].reshape(shape)) for i in range(S - 1, -1, -1)
        ]

    def sweep(self, steps: Marched, dL_dz: Array) -> tuple[Array, Array]:
        """a(t0), (B n,), before the first cotangent is added, and θ̄; dL_dz (T, B n)."""
        S, pullback = self.march.S, self.march.tape.pullback
        self.march.tape.rewind()
        slopes_bar, states_bar = self._interpolated(steps, dL_dz)
        a, N = self.a, len(steps.h)
        a.fill(0.0)
        if S * N in slopes_bar:
            self.k_bar[...] = slopes_bar[S * N]
            pullback(S * N, self.k_bar_rows, a.reshape(self.k_bar_rows.shape))
        for k in range(N - 1, -1, -1):
            if k + 1 in steps.at_end:
                a += dL_dz[steps.at_end[k + 1]]
            self.end[...] = a  # z̄_S = a
            np.multiply(self.transposed, steps.h[k], self.M)
            for i, row, later, z_bar in self.stages:
                row.dot(later, self.k_bar)  # k̄_i = h Σ_{j>i} A_ji z̄_j
                if slopes_bar and S * k + i in slopes_bar:
                    self.k_bar += slopes_bar[S * k + i]
                pullback(S * k + i, self.k_bar_rows, z_bar)  # z̄_i = k̄_i ∇§1 f
            self.ones.dot(self.z_bar, a)  # a ← Σ_i z̄_i
            if k in states_bar:
                a += states_bar[k]
        return a, self.march.tape.theta_bar()

    def _interpolated(self, steps: Marched, dL_dz: Array) -> tuple[dict[int, Array], dict[int, Array]]:
        """What observations inside steps, z + h Σ w_i k_i, add to the cotangents: slot -> k̄, step -> a at its start."""
        slopes: dict[int, Array] = {}
        states: dict[int, Array] = {}
        for k, (first, hw) in steps.inside.items():
            dL = dL_dz[first : first + len(hw)]
            states[k] = np.add.reduce(dL)
            for slot, slope_bar in enumerate(hw.T.dot(dL), self.march.S * k):  # two steps share the slope between
                slopes[slot] = slopes[slot] + slope_bar if slot in slopes else slope_bar
        return slopes, states


class Taped:
    """Gradients of a field's solves, one after another, on tapes that are kept.

    One thread's: another must have its own.
    """

    def __init__(self, field: VectorField) -> None:
        self.field = field
        self.shape: tuple[int, ...] | None = None
        self.ways: dict[type[OdeSolver], tuple[March, Backward]] = {}

    @staticmethod
    def suits(method: type[OdeSolver], options: Collection[str], observations: int) -> bool:
        """Whether a march can take these options, and does not lose time by its stops.

        With DOP853, whose interpolant takes slopes that a march does not have, it stops at every observation.
        """
        known = method in MARCHING and set(options) <= {"rtol", "atol", "max_nfev", "step"}
        return known and (method is not DOP853 or observations <= FEW)

    def solve(
        self,
        z0: Array,
        theta: Array,
        times: Array,
        method: type[OdeSolver],
        rtol: float = 1e-6,
        atol: float = 1e-9,
        max_nfev: int = 100_000,
        step: float | None = None,
    ) -> tuple[Trajectory, Callable[[Array], tuple[Array, Array]]]:
        """The observed trajectory, and pull_back(dL_dz) -> dL/dz0 and θ̄, good until the next solve. Raises Lost."""
        march, backward = self._way(method, z0.shape)
        self.live: Marched | None = None
        z, steps = march.solve(z0.ravel(), theta, times, rtol, atol, max_nfev, step)
        z = z.reshape(len(times), *z0.shape)
        z.setflags(write=False)
        self.live = steps

        def pull_back(dL_dz: Array) -> tuple[Array, Array]:
            if self.live is not steps:
                raise RuntimeError("the tape holds a later solve: pull back before solving again")
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # in columns that meet zeros
                a, theta_bar = backward.sweep(steps, dL_dz.reshape(len(times), -1))
            return a.reshape(z0.shape) + dL_dz[0], theta_bar

        options = {} if step is None else {"step": step}
        return (
            Trajectory(self.field, theta, times, z, steps.nfev, 0, len(steps.h), method, rtol, atol, max_nfev, options),
            pull_back,
        )

    def _way(self, method: type[OdeSolver], shape: tuple[int, ...]) -> tuple[March, Backward]:
        """What marches states of that shape; of another shape nothing is kept."""
        if shape != self.shape:
            self.tape, self.shape = tape(self.field, shape), shape
            self.ways.clear()
        if method not in self.ways:
            march = March(self.tape, (math.prod(shape[:-1]), shape[-1]), method)
            self.ways[method] = march, Backward(march)
        return self.ways[method]
