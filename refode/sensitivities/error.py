"""How wrong is this gradient? What a way knows of it for next to nothing, and what a second witness says.

A reverse solve of z knows by how far it missed z0. Any other knows by how much the invariant a_§1 f + a_§2 changes from
step to step. An error of z enters a_§3 at once, but a_§1 only where ∇§1 f changes along the trajectory: hence a factor,
the curvature, on the estimate for z0. A witness, another way to the same gradient, is asked on request; what both say
is averaged, as logarithms.

These are estimates, not bounds: on random nets the true error is at most ten times as large in 19 cases of 20, and
within a factor of ten, either way, in three of four (`python -m tests.benchmarks.calibration`). The factors below were
found on other problems of the same distribution.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from refode.sensitivities.sweep import Sweep, Task
from refode.sensitivities.witness import backpropagated, retraced
from refode.steppers import FixedStep, tableau
from refode.types import Array


class GradientError(NamedTuple):
    """Estimates of the relative L2 errors of a gradient in z0, over the whole batch, and in θ."""

    z0: float
    theta: float


# way -> factors, for z0 and for θ, on what it knows for next to nothing
KNOWN = {
    "backsolve": (1.5, 1.0),
    "checkpointed": (1.5, 1.0),
    "interpolating": (1.6, 1.0),
    "quadrature": (2.6, 1.2),
    "discrete": (3.6, 5.0),
}
WITNESSES: dict[str, Callable[[Task], Sweep]] = {
    "backsolve": backpropagated,
    "checkpointed": backpropagated,
    "interpolating": backpropagated,
    "quadrature": backpropagated,
    "discrete": retraced,
}
WITNESSED = 0.4  # on the geometric mean of what is known and the distance of the witness, which mostly errs more
FLOOR = 1e-14  # rounding: no estimate is lower
STRAIGHT = 0.1  # no less curvature than this is believed: a_§1 has errors of its own
LINEAR = 1e-3  # at less the field is linear: steps then keep the invariant, and its witness errs as the gradient does


def estimate(
    way: str, task: Task, sweep: Sweep, witness: Sweep | None, gradient: tuple[Array, Array]
) -> tuple[GradientError | None, int]:
    """The error of `gradient`, in z0 and θ, that comes of the sweep, and the VJPs that this took.

    Of a linear field no more is known than the tolerance, which is the least that is said there; with fixed steps,
    which have none, it is None. So it is for "forward".
    """
    if way not in KNOWN:
        return None, 0
    if not sweep.a_z.any():
        return GradientError(FLOOR, FLOOR), 0
    bend, (for_z0, for_theta) = curvature(task, sweep.a_z), KNOWN[way]
    if way != "discrete":  # that one linearizes at its own stages, where an error of z is one of a
        for_z0 *= max(bend, STRAIGHT)
    errors = _known(task, sweep) * np.array([for_z0, for_theta]) * _sizes(sweep.a_z, sweep.a_theta)
    if witness is not None:
        apart = _sizes(sweep.a_z - witness.a_z, sweep.a_theta - witness.a_theta)
        errors = WITNESSED * np.sqrt(errors * apart)
    if bend < LINEAR:
        if issubclass(task.solver, FixedStep) or issubclass(task.trajectory.method, FixedStep):
            return None, 2
        errors = np.maximum(errors, max(task.rtol, task.trajectory.rtol) * _sizes(sweep.a_z, sweep.a_theta))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(errors == 0.0, 0.0, errors / _sizes(*gradient))
    return GradientError(*np.maximum(relative, FLOOR).tolist()), 2


def curvature(task: Task, a_z: Array) -> float:
    """How much a ∇§1 f changes from t0 to t1, from 0 to 1: |a (J1 − J0)| / (|a J1| + |a J0|), J_i at (z_i, t_i)."""
    traj = task.trajectory
    start, end = (traj.field.vjp(traj.z[i], traj.times[i], traj.theta, a_z)[0] for i in (0, -1))
    size = float(np.linalg.norm(start) + np.linalg.norm(end))
    return float(np.linalg.norm(end - start)) / size if size else 0.0


def _known(task: Task, sweep: Sweep) -> float:
    """The distance from z0 in units of |z0|, unless that is less than a tenth of the largest |z|; else the drift."""
    assert sweep.drift is not None
    if sweep.reconstruction_error is None:
        return sweep.drift.root()
    sizes = np.linalg.norm(task.trajectory.z.reshape(len(task.trajectory.z), -1), axis=1)
    largest = float(sizes.max()) or 1.0
    return sweep.reconstruction_error * largest / max(float(sizes[0]), largest / 10)


def _sizes(a_z: Array, a_theta: Array) -> Array:
    return np.array([np.linalg.norm(a_z), np.linalg.norm(a_theta)])


def check_witness(way: str, task: Task) -> None:
    """ValueError, before any work, for a way that has no witness, and for one that lacks what its witness needs."""
    traj = task.trajectory
    if way not in WITNESSES:
        raise ValueError(f'method "{way}" has no witness, so no error; take one of {", ".join(WITNESSES)}')
    if tableau(traj.method) is None:
        name = traj.method.__name__
        raise ValueError(f"error=True compares along the steps of an explicit Runge-Kutta solve, got {name}")
    if way == "discrete" and traj.sol is None and len(traj.times) > 1:
        raise ValueError('error=True reads z(t) for "discrete": solve(..., keep="dense")')
    if traj.step_z is None:
        raise ValueError(f'error=True compares "{way}" along the accepted steps: solve(..., keep="steps")')
