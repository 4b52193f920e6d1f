"""Backsolve, the note's way: the state, and with it all three blocks of the adjoint, solved in reverse from t1 to t0.

    ż = f,    ȧ_§1 = −a_§1 ∇§1 f,    ȧ_§2 = −a_§1 ∇§2 f,    ȧ_§3 = −a_§1 ∇§3 f          (Theorem 1)

Nothing of the forward solve is kept but its observations: memory does not grow with the number of steps. The price is
that z is solved backward too, which a contracting field does not allow for long (E20): the sweep measures how far it
ended from z0.
"""

import numpy as np

from refode.fields import VectorField, linearize
from refode.integrate import LEAST_RTOL, Integrator
from refode.sensitivities.sweep import Sweep, Task
from refode.types import Array


def adjoint_dynamics(
    field: VectorField, z: Array, t: float, theta: Array, a_z: Array
) -> tuple[Array, Array, Array, Array]:
    """Theorem 1: (ż, ȧ_§1, ȧ_§2, ȧ_§3), shapes (..., n), (..., n), (), (m,); one f and one VJP.

    Note: D13-D15 (§2.2), D27, D28, D35, E08, E16.
    """
    dz, pullback = linearize(field, z, t, theta)
    az_f1, az_f2, az_f3 = pullback(a_z)  # a_§1 ∇§1 f, a_§1 ∇§2 f, a_§1 ∇§3 f
    return dz, -az_f1, -az_f2, -az_f3  # ż = f,  ȧ = −a M   (D13)


def backsolve(task: Task) -> Sweep:
    """Solve q = (z, a_§1, a_§2, a_§3) from t1 to t0, adding dL/dz(t_i) to a_§1 where it stands.

    a_§1 jumps by dL_i and a_§2 by −dL_i f_i at every observation but t0's, so that a_§1 f + a_§2 = 0 all along (E08).
    Note: D28-D34 (§2.2), E13-E15, E20.
    """
    traj, field, theta = task.trajectory, task.trajectory.field, task.trajectory.theta
    q = Blocks(traj.z[0].shape, field.m)

    def rhs(t: float, y: Array) -> Array:
        z, a_z, _, _ = q.unpack(y)
        return q.pack(*adjoint_dynamics(field, z, t, theta, a_z))

    rtol, atol = q.tolerances(task)
    integrator = Integrator(rhs, task.solver, rtol, atol, task.max_nfev, "reverse", task.options)
    z, a_z, a_t, a_theta = traj.z[-1], np.zeros_like(traj.z[-1]), 0.0, np.zeros(field.m)
    f = field(z, traj.times[-1], theta)
    drift = Drift()
    for i in range(len(traj.times) - 1, 0, -1):
        a_z = a_z + task.dL_dz[i]  # a_§1 jumps by dL_i
        a_t = a_t - np.sum(task.dL_dz[i] * f)  # a_§2 by −dL_i f_i   (E08)
        drift.visit(a_z, f, a_t)
        result = integrator.solve((traj.times[i], traj.times[i - 1]), q.pack(z, a_z, a_t, a_theta))
        z, a_z, a_t, a_theta = q.unpack(result.y_end)
        f = field(z, traj.times[i - 1], theta)
        drift.visit(a_z, f, a_t)
    return Sweep(
        a_z,
        a_theta,
        nfev=integrator.nfev + len(traj.times),
        nvjp=integrator.nfev,
        reconstruction_error=_relative(z - traj.z[0], traj.z),
        invariant_drift=drift.relative(),
    )


def _relative(error: Array, z: Array) -> float:
    """|error| in units of the largest observed state; z (T, ..., n)."""
    largest = np.linalg.norm(z.reshape(len(z), -1), axis=1).max()
    return float(np.linalg.norm(error) / (largest or 1.0))


class Blocks:
    """The layout of q = (z, a_§1, a_§2, a_§3), flat, for SciPy: 2 B n + 1 + m numbers. Note: D34 (§2.2), P20, E15."""

    def __init__(self, shape: tuple[int, ...], m: int) -> None:
        self.shape, self.size, self.m = shape, int(np.prod(shape)), m

    def pack(self, z: Array, a_z: Array, a_t: Array | float, a_theta: Array) -> Array:
        """q, flat; ValueError for blocks of other shapes or complex ones, which a hand-written VJP may return."""
        got, want = tuple(np.shape(block) for block in (a_z, a_t, a_theta)), (self.shape, (), (self.m,))
        if got != want:
            raise ValueError(f"the field's vjp must return blocks of shapes {want}, got {got}")
        y = np.concatenate([z.ravel(), a_z.ravel(), [a_t], a_theta])
        if y.dtype.kind != "f":
            raise ValueError(f"the field's vjp must return real blocks, got {y.dtype}")
        return y

    def unpack(self, y: Array) -> tuple[Array, Array, float, Array]:
        z, a_z, a_t, a_theta = np.split(y, [self.size, 2 * self.size, 2 * self.size + 1])
        return z.reshape(self.shape), a_z.reshape(self.shape), a_t[0], a_theta

    def tolerances(self, task: Task) -> tuple[float, Array]:
        """rtol, and atol of every component: the adjoint's in proportion to the largest cotangent.

        The seminorm leaves a_§2 and a_§3, on which nothing depends, out of the error norm. SciPy's norm is the root
        mean square over all N components: an infinite atol takes a component out of the sum but not out of the mean,
        which the factor √(controlled / N) on both tolerances puts right.
        """
        largest = float(abs(task.dL_dz[1:]).max(initial=0.0)) or 1.0
        atol = np.full(2 * self.size + 1 + self.m, task.atol)
        atol[self.size :] *= largest
        if not task.seminorm or self.size == 0:
            return task.rtol, atol
        atol[2 * self.size :] = np.inf
        factor = float(np.sqrt(2 * self.size / len(atol)))
        return max(task.rtol * factor, LEAST_RTOL), atol * factor


class Drift:
    """How far a_§1 f + a_§2, which is 0 along an exact adjoint, moves in all, in units of max |a_§1| |f|.

    It is visited at both ends of every interval: a wrong jump of a_§2 shows as well as an inaccurate solve.
    """

    def __init__(self) -> None:
        self.moved = self.largest = self.last = 0.0

    def visit(self, a_z: Array, f: Array, a_t: Array | float) -> None:
        invariant = float(np.sum(a_z * f) + a_t)  # a_§1 f + a_§2 = 0   (E08)
        self.moved += abs(invariant - self.last)
        self.last = invariant
        self.largest = max(self.largest, float(np.linalg.norm(a_z) * np.linalg.norm(f)))

    def relative(self) -> float:
        return self.moved / (self.largest or 1.0)
