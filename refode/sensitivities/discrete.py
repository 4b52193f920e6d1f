"""Discrete: backpropagation by hand through the accepted Runge-Kutta steps, interpolated observations included.

A step from y to y + h Σ b_i k_i takes the slopes k_i = f(z_i), z_i = y + h Σ_j A_ij k_j; an observation inside it reads
y + h Σ w_i(x) k_i. The chain rule, read from the last slope to the first, with a the cotangent of the step's end:

    k̄_i = h (b_i a + Σ_obs w_i(x) dL_obs + Σ_{j>i} A_ji z̄_j),    z̄_i = k̄_i ∇§1 f(z_i),    θ̄ += k̄_i ∇§3 f(z_i)
    a ← a + Σ_obs dL_obs + Σ_i z̄_i

It is the exact gradient, in z0 and θ, of the numbers that the forward solve returned, its step sizes held fixed; the
note's continuous adjoint differs from it by the solver's error (E21). Memory grows with the number of steps; where only
their times were kept, the states are computed once more, from a few checkpoints.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from scipy.integrate import OdeSolver

from refode.fields import linearize
from refode.sensitivities.sweep import Drift, Sweep, Task
from refode.solve import Trajectory
from refode.steppers import Tableau, tableau
from refode.types import Array, Pullback

CHECKPOINTS = 16  # states held at once where those of the steps were not kept


def discrete(task: Task) -> Sweep:
    """Walk the accepted steps from the last to the first; it needs them kept, or at least their times.

    Note: P04, P23 (§2.2), E21.
    """
    traj = task.trajectory
    table = explicit(traj.method)
    if traj.step_times is None:
        raise ValueError('method "discrete" needs the accepted steps: solve(..., keep="steps"), "stages" or "times"')
    if not traj.n_steps:
        return Sweep(np.zeros_like(task.dL_dz[-1]), np.zeros_like(traj.theta), 0, 0, drift=Drift())
    counts = {"nfev": 0, "nvjp": 0}
    a, theta_bar, interior, drift = task.dL_dz[-1], np.zeros_like(traj.theta), observations_by_step(traj), Drift()
    power = _power(task, counts)
    a_t = -power[-1]
    for k, y in _states(task, table, counts):
        inside = [(x, task.dL_dz[i]) for x, i in interior.get(k, [])]
        a, t_bar, contribution, f = _pull_back_step(traj, table, k, y, a, inside, counts)
        theta_bar += contribution
        a_t += t_bar - sum(power[i] for _, i in interior.get(k, []))  # a_§2, of (z, t) as one state
        drift.visit(a, f, a_t)
    return Sweep(a, theta_bar, **counts, drift=drift)


def explicit(method: type[OdeSolver]) -> Tableau:
    """The tableau of an explicit Runge-Kutta method; ValueError for any other."""
    table = tableau(method)
    if table is None:
        name = method.__name__
        raise ValueError(f'method "discrete" needs an explicit Runge-Kutta solve, got {name}; take "backsolve"')
    return table


def _power(task: Task, counts: dict[str, int]) -> Array:
    """dL_i · f_i at every observation but t0's, (T,): by −that a_§2 jumps (E08)."""
    traj, power = task.trajectory, np.zeros(len(task.dL_dz))
    for i in range(1, len(power)):
        power[i] = np.sum(task.dL_dz[i] * traj.field(traj.z[i], traj.times[i], traj.theta))
        counts["nfev"] += 1
    return power


def observations_by_step(traj: Trajectory) -> dict[int, list[tuple[float, int]]]:
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


def _states(task: Task, table: Tableau, counts: dict[str, int]) -> Iterator[tuple[int, Array]]:
    """The steps and the states that they start from, the last one first; recomputed where they were not kept."""
    traj = task.trajectory
    if traj.step_z is not None:
        return zip(range(traj.n_steps - 1, -1, -1), traj.step_z[-2::-1], strict=True)

    def step(k: int, y: Array) -> Array:
        assert traj.step_times is not None
        S, t, h = table.stages, traj.step_times[k], traj.step_times[k + 1] - traj.step_times[k]
        slopes = np.empty((S, y.size))
        for i in range(S):  # the products that the solver took, to the bit
            z_i = y + h * (table.A[i, :i] @ slopes[:i]).reshape(y.shape)
            slopes[i] = traj.field(z_i, t + table.c[i] * h, traj.theta).ravel()
        counts["nfev"] += S
        return np.asarray(y + h * (table.b[:S] @ slopes).reshape(y.shape))

    return recomputed(step, 0, traj.n_steps, traj.z[0], CHECKPOINTS if task.checkpoints is None else task.checkpoints)


def recomputed(
    step: Callable[[int, Array], Array], first: int, last: int, y: Array, room: int
) -> Iterator[tuple[int, Array]]:
    """(k, y_k) for k = last − 1, ..., first, from y = y_first and y_k+1 = step(k, y_k), with little kept.

    `room` states are kept a level: those at which as many stretches begin, and from each of them the stretch is done
    again, in the same way. With p levels, room^p steps, every step is taken at most p times.
    """
    starts = np.unique(np.linspace(first, last, min(room, last - first) + 1).astype(int))
    states = [y]
    for k in range(first, int(starts[-2])):
        y = step(k, y)
        if k + 1 in starts:
            states.append(y)
    for start, end, state in reversed(list(zip(starts, starts[1:], states, strict=False))):
        if end - start == 1:
            yield int(start), state
        else:
            yield from recomputed(step, int(start), int(end), state, room)


def _pull_back_step(
    traj: Trajectory,
    table: Tableau,
    k: int,
    y: Array,
    a: Array,
    inside: list[tuple[float, Array]],
    counts: dict[str, int],
) -> tuple[Array, Array, Array, Array]:
    """The cotangents of a step's start, of t and of θ, from `a`, that of its end, and those of observations inside it.

    Fourth, f at the step's start, whose state is y.
    """
    assert traj.step_times is not None
    t, h = traj.step_times[k], traj.step_times[k + 1] - traj.step_times[k]
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
    start_bar, t_bar, theta_bar = a + sum(dL for _, dL in inside), np.zeros(()), np.zeros_like(traj.theta)
    for i in range(S - 1, -1, -1):
        z_bar, by_time, contribution = pullbacks[i](k_bar[i])  # z̄_i = k̄_i ∇§1 f,  θ̄ += k̄_i ∇§3 f
        t_bar = t_bar + by_time
        theta_bar += contribution
        start_bar = start_bar + z_bar
        k_bar[:i] += h * np.multiply.outer(table.A[i, :i], z_bar)  # k̄_j += h A_ij z̄_i
    counts["nvjp"] += S
    return start_bar, t_bar, theta_bar, slopes[0]
