"""The gradient of a loss of an ODE's solution: one call, several ways, one answer.

Every way finds what the loss's cotangents, carried back along the trajectory, sum to at t0: a(t0), by whatever name.
What is made of it is the same for all: the cotangent at t0 itself, the gradients in the times, a direct dependence on
θ. Note: §2.2.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import OdeSolver

from refode.arguments import count, one_of, real_array, tolerance
from refode.errors import ReconstructionWarning
from refode.integrate import LEAST_RTOL, options_of, solver_class
from refode.sensitivities.backsolve import backsolve
from refode.sensitivities.checkpointed import checkpointed
from refode.sensitivities.discrete import discrete
from refode.sensitivities.error import WITNESSES, GradientError, check_witness, estimate
from refode.sensitivities.forward import forward
from refode.sensitivities.interpolating import interpolating
from refode.sensitivities.quadrature import quadrature
from refode.sensitivities.sweep import Sweep, Task
from refode.solve import Trajectory
from refode.steppers import FixedStep
from refode.types import Array

WAYS: dict[str, Callable[[Task], Sweep]] = {
    "backsolve": backsolve,
    "checkpointed": checkpointed,
    "interpolating": interpolating,
    "quadrature": quadrature,
    "discrete": discrete,
    "forward": forward,
}
LEAST_KEPT = {
    "backsolve": "observations",
    "checkpointed": "steps",
    "interpolating": "dense",
    "quadrature": "dense",
    "discrete": "steps",
    "forward": "observations",
}
"""way -> what `solve` must keep for it."""
SEMINORM = ("backsolve", "checkpointed", "interpolating")


@dataclass(frozen=True, eq=False)
class Gradient:
    """The gradient of a loss, and what is known of its quality.

    Attributes
    ----------
    z0 (..., n), theta (m,), times (T,) : gradients in the initial state, the parameters, t0 and every observation time;
        those in the times by the rate f(z_i, t_i) at the states that were returned, whichever the way
    nfev, nvjp : evaluations of f and of its VJP that the gradient took, the forward solve apart ("forward" takes JVPs,
        one for each of n + m directions with every f, which are not counted)
    reconstruction_error : distance at which a reverse solve of z ended from z0, relative to the largest observed |z|;
        None where z is not solved back
    invariant_drift : how far a_§1 f + a_§2, which is 0 along an exact adjoint, moved, relative to max |a_§1| |f|;
        None where a is not solved
    error : estimates of the relative L2 errors in z0 and θ: not bounds, but right within a factor of ten on most
        problems (`refode.sensitivities.error`). From the reconstruction error or the drift, and, with error=True, from
        a second witness; None for "forward", and for a linear field under fixed steps, where neither tells. What a loss
        gives directly, dL_dz[0] or dL_dtheta, is taken as exact
    """

    z0: Array
    theta: Array
    times: Array
    nfev: int
    nvjp: int
    reconstruction_error: float | None
    invariant_drift: float | None
    error: GradientError | None


def adjoint(
    trajectory: Trajectory,
    dL_dz: Any,
    *,
    method: str = "backsolve",
    dL_dtheta: Any = None,
    solver: str | type[OdeSolver] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    seminorm: bool = False,
    checkpoints: int | None = None,
    error: bool = False,
    max_nfev: int | None = None,
) -> Gradient:
    """The gradient of a loss L(z(t_0), ..., z(t_T−1), θ), from its cotangents at the observed states.

    Parameters
    ----------
    trajectory : what `solve` returned
    dL_dz (T, ..., n) : ∂L/∂z(t_i), zero where the loss does not look; dL_dz[0] adds to the gradient in z0 alone
    method : "backsolve", the note's, which solves z and the adjoint in reverse; "checkpointed", the same with z put
        back on the trajectory at some of the accepted steps, which needs keep="steps", "stages" or "dense";
        "interpolating", which solves the adjoint alone, along the interpolant of z, and needs keep="dense";
        "quadrature", likewise, with the gradient in θ as an integral afterwards; "discrete", backpropagation through
        the accepted steps, which needs keep="steps" or "stages", or to save memory "times"; "forward", sensitivity
        equations, for few parameters
    dL_dtheta (m,) : ∂L/∂θ where the loss depends on θ directly (weight decay), else None
    solver, rtol, atol : of the further solve, which all but "discrete" make; by default those of the trajectory. On the
        way back the adjoint's atol is scaled by the largest cotangent, so that scaling the loss scales the gradient.
        An implicit solver knows no Jacobian of the adjoint's system and differences it, 2 B n + 1 + m evaluations each
        time: for many parameters name an explicit one here, whatever solved z
    seminorm : leave a_§2 and a_§3, on which nothing depends, out of the error control of "backsolve", "checkpointed" or
        "interpolating"; "quadrature" has them outside anyway
    checkpoints : how many states "checkpointed" goes back to, evenly chosen of the accepted steps; by default the
        square root of their number. For "discrete" after keep="times", how many states it holds at once, at least 2,
        by default 16: it computes those of N steps again, up to log N / log checkpoints times
    error : ask a second witness for the error too, another way to the same gradient along the accepted steps, which
        takes a third to a half as long as the solve and its gradient together, in the median: for a reverse solve
        backpropagation, which needs keep="steps", "stages" or "dense"; for "discrete" a reverse solve on steps twice as
        long, which needs keep="dense". Its evaluations are counted
    max_nfev : bound on the evaluations of the further solve, by default that of the trajectory's

    Raises TypeError or ValueError for bad input, before any work; SolveError with direction "reverse" if the solve back
    stops. Warns with ReconstructionWarning when it ends far from z0.
    Note: D08-D15 (§2.2), D28-D35, P05, P06, P17, P18, E05, E08, E22.
    """
    traj = trajectory
    way = WAYS[one_of("method", method, WAYS)]
    dL_dz = real_array("dL_dz", dL_dz, traj.z.shape)
    direct = np.zeros(traj.field.m) if dL_dtheta is None else real_array("dL_dtheta", dL_dtheta, (traj.field.m,))
    task = _task(traj, dL_dz, method, solver, rtol, atol, seminorm, checkpoints, max_nfev)
    if error:
        check_witness(method, task)
    sweep = way(task)
    witness = WITNESSES[method](task) if error else None
    _warn_if_lost(sweep, task)
    z0, theta = sweep.a_z + dL_dz[0], sweep.a_theta + direct  # a_§3(t1) = ∇§3 L   (E22)
    f = np.array([traj.field(z, t, traj.theta) for z, t in zip(traj.z, traj.times, strict=True)])
    times = np.sum((dL_dz * f).reshape(len(f), -1), axis=1)  # dL/dt_i = +dL_i · f(z_i, t_i)
    times[0] = -np.sum(sweep.a_z * f[0])  # dL/dt_0 = −a_§1(t0) · f(z0, t0)   (E08)
    error_bar, nvjp = estimate(method, task, sweep, witness, (z0, theta))
    spent = [sweep] if witness is None else [sweep, witness]
    return Gradient(
        z0=z0,
        theta=theta,
        times=times,
        nfev=len(f) + sum(each.nfev for each in spent),
        nvjp=nvjp + sum(each.nvjp for each in spent),
        reconstruction_error=sweep.reconstruction_error,
        invariant_drift=None if sweep.drift is None else sweep.drift.relative(),
        error=error_bar,
    )


def _task(
    traj: Trajectory,
    dL_dz: Array,
    method: str,
    solver: Any,
    rtol: Any,
    atol: Any,
    seminorm: bool,
    checkpoints: Any,
    max_nfev: Any,
) -> Task:
    if method == "discrete" and not (solver is None and rtol is None and atol is None):
        raise ValueError(
            'method "discrete" solves nothing: solver, rtol and atol are for ways that do, "backsolve" say'
        )
    if seminorm and method not in SEMINORM:
        raise ValueError(f"seminorm belongs to {', '.join(SEMINORM)}; got method {method!r}")
    if checkpoints is not None and method not in ("checkpointed", "discrete"):
        raise ValueError(f'checkpoints belong to "checkpointed" and "discrete"; got method {method!r}')
    if checkpoints is not None and method == "discrete" and traj.step_z is not None:
        raise ValueError('with "discrete", checkpoints are for a trajectory that kept only the times of its steps')
    further = traj.method if solver is None else solver_class(solver)
    known = options_of(further)
    if "step" in known and "step" not in traj.options:
        raise ValueError(f"{further.__name__} takes fixed steps, and the forward solve had none to take over")
    return Task(
        traj,
        dL_dz,
        solver=further,
        rtol=traj.rtol if rtol is None else tolerance("rtol", rtol, LEAST_RTOL),
        atol=traj.atol if atol is None else tolerance("atol", atol, np.finfo(float).tiny),
        max_nfev=traj.max_nfev if max_nfev is None else count("max_nfev", max_nfev),
        seminorm=bool(seminorm),
        checkpoints=None if checkpoints is None else count("checkpoints", checkpoints, 1 + (method == "discrete")),
        # A first step chosen for t0 means nothing at t1, and may be longer than an interval.
        options={k: v for k, v in traj.options.items() if k in known and k != "first_step"},
    )


def _warn_if_lost(sweep: Sweep, task: Task) -> None:
    """Four of the digits that rtol asked for are gone, or fewer than two are left; fixed steps were asked for none.

    Of the two solves' rtol the looser counts: an error of the forward solve is carried back, not made there.
    """
    error, fixed = sweep.reconstruction_error, issubclass(task.solver, FixedStep)
    rtol = max(task.rtol, task.trajectory.rtol)
    if error is not None and error > (1e-2 if fixed else min(1e4 * rtol, 1e-2)):
        cause, remedy = ("; or the steps are long", "Take shorter ones") if fixed else ("", "Tighten rtol")
        warnings.warn(
            f"the reverse solve ended {error:.2g} (relative) from z0: the field contracts, and what contracts cannot "
            f'be solved back{cause}. {remedy}, or take method="discrete", which solves nothing back',
            ReconstructionWarning,
            stacklevel=3,
        )
