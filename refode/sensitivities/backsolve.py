"""Backsolve, the note's way: the state, and with it all three blocks of the adjoint, solved in reverse from t1 to t0.

    ż = f,    ȧ_§1 = −a_§1 ∇§1 f,    ȧ_§2 = −a_§1 ∇§2 f,    ȧ_§3 = −a_§1 ∇§3 f          (Theorem 1)

Nothing of the forward solve is kept but its observations: memory does not grow with the number of steps. The price is
that z is solved backward too, which a contracting field does not allow for long (E20): the sweep measures how far it
ended from z0.
"""

from collections.abc import Callable

import numpy as np

from refode.fields import VectorField, linearize
from refode.integrate import Integrator
from refode.sensitivities.sweep import Augmented, Blocks, Drift, Sweep, Task, in_reverse
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

    Note: D28-D34 (§2.2), E13-E15, E20.
    """
    traj = task.trajectory
    stretch, integrator = theorem_1(task)
    drift = Drift()
    q = in_reverse(task, stretch, drift)
    return Sweep(
        q.a_z,
        q.a_theta,
        nfev=integrator.nfev + len(traj.times),
        nvjp=integrator.nfev,
        reconstruction_error=relative(q.z - traj.z[0], traj.z),
        drift=drift,
    )


def theorem_1(task: Task) -> tuple[Callable[[float, float, Augmented], Augmented], Integrator]:
    """`stretch(start, end, q)`, which solves all of q back from one time to another, and the account of its cost."""
    field, theta = task.trajectory.field, task.trajectory.theta
    blocks = Blocks(task.trajectory.z[0].shape, field.m)

    def rhs(t: float, y: Array) -> Array:
        z, a_z, _, _ = blocks.unpack(y)
        return blocks.pack(*adjoint_dynamics(field, z, t, theta, a_z))

    integrator = task.integrator(rhs, *blocks.tolerances(task))

    def stretch(start: float, end: float, q: Augmented) -> Augmented:
        return Augmented(*blocks.unpack(integrator.solve((start, end), blocks.pack(*q)).y_end))

    return stretch, integrator


def relative(error: Array, z: Array) -> float:
    """|error| in units of the largest observed state; z (T, ..., n)."""
    largest = np.linalg.norm(z.reshape(len(z), -1), axis=1).max()
    return float(np.linalg.norm(error) / (largest or 1.0))
