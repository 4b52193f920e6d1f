"""Checkpointed: backsolve, with z put back on the trajectory at k of the states that the forward solve passed.

    (z, a_§1, a_§2, a_§3) as in Theorem 1,    but z(s_j) = the stored state at s_k, ..., s_1 between t1 and t0

What a reverse solve of z loses to a contraction of rate λ grows as e^{λT} over the whole span, as e^{λT/(k+1)} from one
of k even checkpoints to the next. a_§1 needs none of this: in reverse it shrinks where z grows (E20).
"""

import numpy as np

from refode.sensitivities.backsolve import relative, theorem_1
from refode.sensitivities.sweep import Augmented, Drift, Sweep, Task, in_reverse
from refode.types import Array


def checkpointed(task: Task) -> Sweep:
    """Solve q back as `backsolve` does, from one checkpoint to the next; it needs the accepted steps kept.

    The reconstruction error is the largest distance of z from a stored state, at any checkpoint or at t0.
    Note: D28-D34 (§2.2), E20.
    """
    traj = task.trajectory
    at, states = checkpoints(task)
    forward = np.sign(traj.times[-1] - traj.times[0])
    back, integrator = theorem_1(task)
    errors = []

    def stretch(start: float, end: float, q: Augmented) -> Augmented:
        inside = (forward * end <= forward * at) & (forward * at < forward * start)
        for s, z in zip(at[inside][::-1], states[inside][::-1], strict=True):
            start, q = s, back(start, s, q)
            errors.append(q.z - z)
            q = q._replace(z=z)  # z(s_j) = the stored state
        return q if start == end else back(start, end, q)

    drift = Drift()
    q = in_reverse(task, stretch, drift)
    return Sweep(
        q.a_z,
        q.a_theta,
        nfev=integrator.nfev + len(traj.times),
        nvjp=integrator.nfev,
        reconstruction_error=max(relative(error, traj.z) for error in [*errors, q.z - traj.z[0]]),
        drift=drift,
    )


def checkpoints(task: Task) -> tuple[Array, Array]:
    """Times (k,) and states (k, ..., n) of k accepted steps, evenly chosen from those between t0 and t1.

    By default k = ⌈√N⌉ of N steps: as many stretches as steps in each. Where there are no k steps, all are taken.
    """
    t, z = task.trajectory.step_times, task.trajectory.step_z
    if t is None or z is None:
        raise ValueError(
            'method "checkpointed" needs the accepted steps: solve(..., keep="steps"), "stages" or "dense"'
        )
    N = len(t) - 1
    k = int(np.ceil(np.sqrt(N))) if task.checkpoints is None else task.checkpoints
    chosen = np.unique(np.linspace(0, N, min(k, N - 1) + 2).round().astype(int))[1:-1]
    return t[chosen], z[chosen]
