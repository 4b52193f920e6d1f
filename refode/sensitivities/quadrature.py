"""Quadrature: a_§1 alone is solved in reverse; what only collects along it is an integral, taken afterwards.

    ȧ_§1 = −a_§1 ∇§1 f(z(t), t, θ),    a_§2(t0) = a_§2(t1) + ∫ a_§1 ∇§2 f dt,    a_§3(t0) = ∫ a_§1 ∇§3 f dt,    t0 to t1

The solver's state is n numbers a sample, however many parameters there are, and they have no part in its step size. The
integrals are Gauss-Legendre sums over each accepted step of the reverse solve, a_§1 read from its dense output and z
from the forward solve's. A VJP is linear in its cotangent: with w_j a_§1(t_j) for a it gives the j-th term of a sum,
and the sum over a batch of nodes at once where t does not enter.
"""

from itertools import pairwise

import numpy as np

from refode.fields import VectorField, check_blocks
from refode.sensitivities.sweep import Augmented, Drift, Sweep, Task, dense, in_reverse
from refode.types import Array

# Exact to degree 7: local error h^9, that of DOP853, the solver of highest order (Hairer, Nørsett and Wanner, II.5).
NODES, WEIGHTS = np.polynomial.legendre.leggauss(4)


def quadrature(task: Task) -> Sweep:
    """Solve a_§1 from t1 to t0 along the interpolant, then integrate; it needs the dense output kept.

    Note: D14 (§2.2), D15, D28-D33, P18, E08.
    """
    traj, field, theta = task.trajectory, task.trajectory.field, task.trajectory.theta
    z, shape = dense(task, "quadrature"), traj.z[0].shape
    nvjp, drift = 0, Drift()

    def rhs(t: float, y: Array) -> Array:
        az_f1, az_f2, az_f3 = field.vjp(z(t), t, theta, y.reshape(shape))
        check_blocks((az_f1, az_f2, az_f3), shape, field.m)
        return -az_f1.ravel()  # ȧ_§1 = −a_§1 ∇§1 f

    integrator = task.integrator(rhs, task.rtol, task.atol * task.largest_cotangent)

    def stretch(start: float, end: float, q: Augmented) -> Augmented:
        nonlocal nvjp
        a = integrator.solve((start, end), q.a_z.ravel(), dense=True).sol
        t, weights = gauss(a.ts)
        a_t, a_theta = np.zeros(len(t)), q.a_theta  # a_§2 is collected node by node
        for nodes in groups(field, len(t)):
            at, w = t[nodes], weights[nodes].reshape(-1, *(1,) * len(shape))
            _, az_f2, az_f3 = field.vjp(z(at), at[0], theta, w * a(at).T.reshape(len(at), *shape))
            a_t[nodes.start] = az_f2
            a_theta = a_theta + az_f3
            nvjp += 1
        a_t = q.a_t + a_t.reshape(-1, len(NODES)).sum(axis=1).cumsum()  # at the end of every step
        for s, a_ts in zip(a.ts[1:], a_t, strict=True):
            drift.visit(a(s).reshape(shape), field(z(s), s, theta), a_ts)
        return Augmented(z(end), a(end).reshape(shape), a_t[-1], a_theta)

    q = in_reverse(task, stretch, drift)
    nfev = len(traj.times) + integrator.steps.n
    return Sweep(q.a_z, q.a_theta, nfev=nfev, nvjp=integrator.nfev + nvjp, drift=drift)


def gauss(ends: Array) -> tuple[Array, Array]:
    """Nodes and weights (J,) of ∫ dt over all the steps between `ends`, forward in time whichever way they go back."""
    t, weights = [], []
    for start, end in pairwise(ends):
        t.append(start + (end - start) * (NODES + 1) / 2)
        weights.append((start - end) / 2 * WEIGHTS)
    return np.concatenate(t), np.concatenate(weights)


def groups(field: VectorField, count: int) -> list[slice]:
    """The nodes that share a VJP: all of a stretch's where the field says that it does not read t, else each its own.

    A field takes one t for a whole batch. One that ignores it, and says so by `field.time = False` as an `MLP` does,
    takes the nodes as one more batch axis.
    """
    if getattr(field, "time", True) is False:
        return [slice(0, count)]
    return [slice(j, j + 1) for j in range(count)]
