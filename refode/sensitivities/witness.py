"""Second witnesses: another way to the same gradient along the steps that were kept, for the size of its error alone.

Two ways that share little beyond the forward solve differ by about the error of the worse. A reverse solve is compared
with backpropagation through the accepted steps, which discretises first; backpropagation with a reverse solve on the
same steps, which optimises first (E21). Neither has to choose its steps, and that makes it cheap.
"""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from refode.sensitivities.discrete import discrete, observations_by_step
from refode.sensitivities.sweep import Sweep, Task, dense
from refode.steppers import tableau
from refode.types import Array


def backpropagated(task: Task) -> Sweep:
    """The witness of the reverse solves: "discrete", but with observations that are stepped onto.

    The interpolant that an observation inside a step reads is of lower order than the step, from which a reverse solve
    does not suffer. Here a step of its own leads from the step's start to the observation.
    """
    t, z = task.trajectory.step_times, task.trajectory.step_z
    assert t is not None
    assert z is not None
    sweeps = [Sweep(np.zeros_like(z[0]), np.zeros(task.trajectory.field.m), nfev=0, nvjp=0)]
    cotangents = defaultdict(lambda: np.zeros_like(z[0]), {len(t) - 1: task.dL_dz[-1]} if len(t) > 1 else {})
    for k, inside in observations_by_step(task.trajectory).items():
        for _, i in inside:
            to_it = np.array([t[k], task.trajectory.times[i]]), np.stack([z[k], task.trajectory.z[i]])
            sweeps.append(_through(task, *to_it, task.dL_dz[i]))
            cotangents[k] = cotangents[k] + sweeps[-1].a_z
    a_z = np.zeros_like(z[0])
    for first, last in reversed(list(pairwise(sorted({0, *cotangents})))):
        between = slice(first, last + 1)
        sweeps.append(_through(task, t[between], z[between], a_z + cotangents[last]))
        a_z = sweeps[-1].a_z
    return Sweep(
        a_z + cotangents[0],
        np.sum([sweep.a_theta for sweep in sweeps], axis=0),
        nfev=sum(sweep.nfev for sweep in sweeps),
        nvjp=sum(sweep.nvjp for sweep in sweeps),
    )


def _through(task: Task, t: Array, z: Array, dL: Array) -> Sweep:
    """`discrete` over the steps between the times t, with the cotangent dL of the last state."""
    ends: dict[str, Any] = {"times": t[[0, -1]], "z": z[[0, -1]]}
    steps = replace(task.trajectory, **ends, n_steps=len(t) - 1, step_times=t, step_z=z, stages=None)
    return discrete(replace(task, trajectory=steps, dL_dz=np.stack([np.zeros_like(dL), dL])))


def retraced(task: Task) -> Sweep:
    """The witness of "discrete": (a_§1, a_§3) by the tableau of the forward solve, in steps twice as long.

        K_i = −A_i ∇§1 f,    A_i = a_§1 + h Σ_j A_ij K_j
        a_§1 ← a_§1 + h Σ b_i K_i,    a_§3 ← a_§3 − h Σ b_i A_i ∇§3 f

    with h against the forward solve, and f at (z(t + c_i h), t + c_i h, θ), z from the dense output. Steps as long as
    those forward would make a better witness, one that costs as much as the gradient does.
    """
    traj, field, theta = task.trajectory, task.trajectory.field, task.trajectory.theta
    table = tableau(traj.method)
    assert table is not None
    z, observed = dense(task, "discrete"), dict(zip(traj.times, task.dL_dz, strict=True))
    a_z, a_theta, nvjp = np.zeros_like(task.dL_dz[0]), np.zeros(field.m), 0
    for start, end in pairwise(_every_other(task)):
        a_z = a_z + observed.get(start, 0.0)
        h, K = end - start, np.zeros((table.stages, *a_z.shape))
        t = start + h * table.c[: table.stages]
        for i, z_i in enumerate(z(t)):
            a_i = a_z + h * np.tensordot(table.A[i, :i], K[:i], axes=1)
            az_f1, _, az_f3 = field.vjp(z_i, t[i], theta, a_i)
            K[i] = -az_f1
            a_theta = a_theta - h * table.b[i] * az_f3
            nvjp += 1
        a_z = a_z + h * np.tensordot(table.b[: table.stages], K, axes=1)
    return Sweep(a_z, a_theta, nfev=0, nvjp=nvjp)


def _every_other(task: Task) -> list[float]:
    """From t1 to t0: every observation, and between two of them the end of every other accepted step."""
    steps, stops = task.trajectory.step_times, [task.trajectory.times[-1]]
    assert steps is not None
    for late, early in pairwise(task.trajectory.times[::-1]):
        between = steps[(np.minimum(early, late) < steps) & (steps < np.maximum(early, late))][::-1]
        stops += [*between[1::2], early]
    return stops
