"""Discrete: backpropagation by hand through the accepted Runge-Kutta steps, interpolated observations included.

A step from y to y + h Σ b_i k_i takes the slopes k_i = f(z_i), z_i = y + h Σ_j A_ij k_j; an observation inside it reads
y + h Σ w_i(x) k_i. The chain rule, read from the last slope to the first, with a the cotangent of the step's end:

    k̄_i = h (b_i a + Σ_obs w_i(x) dL_obs + Σ_{j>i} A_ji z̄_j),    z̄_i = k̄_i ∇§1 f(z_i),    θ̄ += k̄_i ∇§3 f(z_i)
    a ← a + Σ_obs dL_obs + Σ_i z̄_i

It is the exact gradient, in z0 and θ, of the numbers that the forward solve returned, its step sizes held fixed; the
note's continuous adjoint differs from it by the solver's error (E21). Memory grows with the number of steps.
"""

from functools import partial

import numpy as np

from refode.fields import linearize
from refode.sensitivities.sweep import Sweep, Task
from refode.solve import Trajectory
from refode.steppers import Tableau, tableau
from refode.types import Array, Pullback


def discrete(task: Task) -> Sweep:
    """Walk the accepted steps from the last to the first; it needs them kept.

    Note: P04, P23 (§2.2), E21.
    """
    traj = task.trajectory
    table = tableau(traj.method)
    if table is None:
        name = traj.method.__name__
        raise ValueError(f'method "discrete" needs an explicit Runge-Kutta solve, got {name}; take "backsolve"')
    if traj.step_times is None or traj.step_z is None:
        raise ValueError('method "discrete" needs the accepted steps: solve(..., keep="steps") or keep="stages"')
    counts = {"nfev": 0, "nvjp": 0}
    a, theta_bar = task.dL_dz[-1], np.zeros_like(traj.theta)
    interior = _observations_by_step(traj)
    for k in range(traj.n_steps - 1, -1, -1):
        inside = [(x, task.dL_dz[i]) for x, i in interior.get(k, [])]
        a, contribution = _pull_back_step(traj, table, k, a, inside, counts)
        theta_bar += contribution
    return Sweep(a if traj.n_steps else np.zeros_like(a), theta_bar, **counts)


def _observations_by_step(traj: Trajectory) -> dict[int, list[tuple[float, int]]]:
    """step -> [(x, i)]: observation i, neither the first nor the last, lies at the fraction x of that step."""
    assert traj.step_times is not None
    forward = 1.0 if traj.times[-1] > traj.times[0] else -1.0
    ends = forward * traj.step_times[1:]
    found: dict[int, list[tuple[float, int]]] = {}
    for i, t in enumerate(traj.times[1:-1], start=1):
        k = int(np.searchsorted(ends, forward * t))  # the step that solve_ivp read: t_k < t ≤ t_{k+1}
        x = (t - traj.step_times[k]) / (traj.step_times[k + 1] - traj.step_times[k])
        found.setdefault(k, []).append((float(x), i))
    return found


def _pull_back_step(
    traj: Trajectory, table: Tableau, k: int, a: Array, inside: list[tuple[float, Array]], counts: dict[str, int]
) -> tuple[Array, Array]:
    """The cotangents of a step's start and of θ, from `a`, that of its end, and those of the observations inside it."""
    assert traj.step_times is not None
    assert traj.step_z is not None
    t, y, h = traj.step_times[k], traj.step_z[k], traj.step_times[k + 1] - traj.step_times[k]
    S = len(table.b) if inside else table.stages
    slopes = [] if traj.stages is None else list(traj.stages[k])
    pullbacks: list[Pullback] = []
    for i in range(S):
        z_i = y + h * np.tensordot(table.A[i, :i], np.reshape(slopes[:i], (i, *y.shape)), axes=1)
        point = (z_i, t + table.c[i] * h, traj.theta)
        if i < len(slopes):
            pullbacks.append(partial(traj.field.vjp, *point))
        else:  # a slope that was not kept: once more, with the closure that undoes it
            slope, pullback = linearize(traj.field, *point)
            slopes.append(slope)
            pullbacks.append(pullback)
            counts["nfev"] += 1
    k_bar = h * np.multiply.outer(table.b[:S], a)  # k̄_i = h b_i a
    for x, dL in inside:
        k_bar += h * np.multiply.outer(table.weights(x), dL)  # + h w_i(x) dL_obs
    start_bar, theta_bar = a + sum(dL for _, dL in inside), np.zeros_like(traj.theta)
    for i in range(S - 1, -1, -1):
        z_bar, _, contribution = pullbacks[i](k_bar[i])  # z̄_i = k̄_i ∇§1 f,  θ̄ += k̄_i ∇§3 f
        theta_bar += contribution
        start_bar = start_bar + z_bar
        k_bar[:i] += h * np.multiply.outer(table.A[i, :i], z_bar)  # k̄_j += h A_ij z̄_i
    counts["nvjp"] += S
    return start_bar, theta_bar
