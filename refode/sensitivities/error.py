"""How wrong is this gradient? What the ways know of it for nothing, and what a second witness says.

Neither is a bound. A factor makes each estimate as large as it must be to cover: on random nets the true error is at
most ten times the estimate in 19 cases of 20, and within a factor of ten of it, either way, in three of four
(`python -m tests.benchmarks.calibration`; the factors were found on other problems of the same distribution).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from refode.sensitivities.sweep import Sweep, Task
from refode.sensitivities.witness import backpropagated, retraced
from refode.steppers import tableau
from refode.types import Array


class GradientError(NamedTuple):
    """Estimates of the relative L2 errors of a gradient in z0, over the whole batch, and in θ."""

    z0: float
    theta: float


# way -> factors, in z0 and in θ, on what the way knows for nothing
FREE = {
    "backsolve": (1.0, 1.0),
    "checkpointed": (1.0, 1.0),
    "interpolating": (0.8, 1.0),
    "quadrature": (1.2, 1.0),
    "discrete": (3.0, 2.5),
}
# way -> its witness, and the factor on their distance: backpropagation mostly errs more than a reverse solve does
WITNESSES: dict[str, tuple[Callable[[Task], Sweep], float]] = {
    "backsolve": (backpropagated, 0.3),
    "checkpointed": (backpropagated, 0.3),
    "interpolating": (backpropagated, 0.3),
    "quadrature": (backpropagated, 0.3),
    "discrete": (retraced, 1.0),
}
FLOOR = 1e-14  # rounding: no estimate is lower


def free(way: str, task: Task, sweep: Sweep, z0_bar: Array, theta_bar: Array) -> GradientError | None:
    """From the distance at which z0 was missed, or from the drift of the invariant; None for "forward"."""
    if way not in FREE or sweep.drift is None:
        return None
    known = sweep.drift.root() if sweep.reconstruction_error is None else _missed(task, sweep.reconstruction_error)
    for_z0, for_theta = FREE[way]
    return GradientError(
        _relative(for_z0 * known * np.linalg.norm(sweep.a_z), z0_bar),
        _relative(for_theta * known * np.linalg.norm(sweep.a_theta), theta_bar),
    )


def apart(way: str, sweep: Sweep, witness: Sweep, z0_bar: Array, theta_bar: Array) -> GradientError:
    """From the distance to another way to the same gradient."""
    factor = WITNESSES[way][1]
    return GradientError(
        _relative(factor * np.linalg.norm(sweep.a_z - witness.a_z), z0_bar),
        _relative(factor * np.linalg.norm(sweep.a_theta - witness.a_theta), theta_bar),
    )


def _missed(task: Task, reconstruction_error: float) -> float:
    """The reconstruction error relative to |z0|, where that is not near 0: less than a tenth of the largest |z|."""
    sizes = np.linalg.norm(task.trajectory.z.reshape(len(task.trajectory.z), -1), axis=1)
    largest = float(sizes.max()) or 1.0
    return reconstruction_error * largest / max(float(sizes[0]), largest / 10)


def _relative(error: float | np.floating, gradient: Array) -> float:
    size = float(np.linalg.norm(gradient))
    if error == 0.0:
        return FLOOR
    return max(float(error) / size, FLOOR) if size else np.inf


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
    if traj.step_times is None:
        raise ValueError(f'error=True compares "{way}" along the accepted steps: solve(..., keep="steps")')
