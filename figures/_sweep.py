"""The adjoint all along its way back, where `refode.adjoint` hands out its end: the same dynamics, sampled."""

from itertools import pairwise

import numpy as np
from scipy.integrate import solve_ivp

from refode import Trajectory
from refode.sensitivities.backsolve import Blocks, adjoint_dynamics


def sweep(trajectory: Trajectory, dL_dz: np.ndarray, count: int = 101, rtol: float = 1e-10) -> dict[str, np.ndarray]:
    """Solve z and the three blocks of the adjoint backward, and sample every interval between observations.

    Returns arrays t (I, count), z and a_z (I, count, n), a_t (I, count), a_theta (I, count, m) of the I intervals in
    the order of time, both ends included; a_z after an interval's end is that before it, plus dL_dz there.
    """
    field, theta, times = trajectory.field, trajectory.theta, trajectory.times
    q = Blocks(trajectory.z[0].shape, field.m)

    def rhs(t: float, y: np.ndarray) -> np.ndarray:
        z, a_z, _, _ = q.unpack(y)
        return q.pack(*adjoint_dynamics(field, z, t, theta, a_z))

    pieces = []
    z, a_z, a_t, a_theta = trajectory.z[-1], np.zeros(field.n), 0.0, np.zeros(field.m)
    for (before, t), jump in zip(reversed(list(pairwise(times))), dL_dz[:0:-1], strict=True):
        a_z, a_t = a_z + jump, a_t - jump @ field(z, t, theta)  # a_§1 jumps by dL_i, a_§2 by −dL_i f_i
        grid = np.linspace(t, before, count)
        y = solve_ivp(rhs, (t, before), q.pack(z, a_z, a_t, a_theta), "DOP853", grid, rtol=rtol, atol=1e-2 * rtol).y
        z, a_z, a_t, a_theta = q.unpack(y[:, -1])
        pieces.append((grid, *(np.array(block) for block in zip(*map(q.unpack, y.T), strict=True))))
    stacked = (np.array(block)[::-1, ::-1] for block in zip(*pieces, strict=True))
    return dict(zip(("t", "z", "a_z", "a_t", "a_theta"), stacked, strict=True))
