"""The forward solve: `solve_ivp` on z(t), with what the ways to a gradient need kept on request."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.integrate import LSODA, OdeSolver
from scipy.linalg import block_diag as dense_block_diag
from scipy.sparse import block_diag

from refode.arguments import count, observation_times, one_of, real_array, tolerance
from refode.fields import VectorField, checked_rate, jacobian
from refode.integrate import IMPLICIT, LEAST_RTOL, Integrator, options_of, solver_class
from refode.steppers import tableau
from refode.types import Array

KEEP = ("observations", "times", "steps", "stages", "dense")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A solved initial value problem, immutable.

    Attributes
    ----------
    field, theta (m,) : what was solved
    times (T,), z (T, ..., n) : the observation times, times[0] = t0, and the states there
    nfev, njev, n_steps : evaluations of f and of its Jacobian, accepted steps
    method, rtol, atol, max_nfev, options : of the solver; `method` is the OdeSolver class
    step_times (N + 1,) : of the accepted steps (all but "observations"), else None
    step_z (N + 1, ..., n) : their states (neither "observations" nor "times"), else None
    stages (N, S, ..., n) : the S slopes that each of them weighs ("stages"), else None
    sol : SciPy's dense output, of flat states ("dense"), else None; `trajectory(t)` evaluates it
    """

    field: VectorField
    theta: Array
    times: Array
    z: Array
    nfev: int
    njev: int
    n_steps: int
    method: type[OdeSolver]
    rtol: float
    atol: float
    max_nfev: int
    options: dict[str, Any]
    step_times: Array | None = None
    step_z: Array | None = None
    stages: Array | None = None
    sol: Any = None

    def __call__(self, t: Any) -> Array:
        """z(t), shape t.shape + (..., n), by the solver's interpolant; needs keep="dense"."""
        if self.sol is None:
            raise ValueError('trajectory(t) needs the dense output: solve(..., keep="dense")')
        t = np.asarray(real_array("t", t))
        low, high = sorted((self.times[0], self.times[-1]))
        if ((t < low) | (t > high)).any():
            raise ValueError(f"t must lie between {low:.10g} and {high:.10g}, got {t}")
        return np.asarray(self.sol(t.ravel()).T.reshape(t.shape + self.z.shape[1:]))


def solve(
    field: VectorField,
    z0: Any,
    theta: Any,
    times: Any,
    *,
    method: str | type[OdeSolver] = "RK45",
    rtol: float = 1e-6,
    atol: float = 1e-9,
    keep: str = "observations",
    max_nfev: int = 100_000,
    **options: Any,
) -> Trajectory:
    """Solve ż = f(z, t, θ) from z(times[0]) = z0 and observe it at `times`.

    Parameters
    ----------
    field : a vector field (`refode.fields` says what that is)
    z0 (..., n), theta (m,) : real and finite; the leading axes of z0 are a batch, solved together under one step size
    times (T,) : strictly monotone, either way; times[0] is t0. More of them cost no evaluations: the solver's
        interpolant is read (of order 4 for RK45; DOP853 spends three evaluations on a step that is read, RK4 one)
    method : SciPy's "RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA", ours "Tsit5", "Euler" and "RK4", or an OdeSolver
        class. Radau, BDF and LSODA get the field's Jacobian. Euler and RK4 take fixed steps: give the option `step`
    rtol, atol : relative and absolute tolerance of a step; a batch shares them in the root mean square
    keep : "observations"; or also the "times" of the accepted steps, or these "steps" with their states, or with them
        their "stages"; or the steps and "dense" output, for trajectory(t)
    max_nfev : bound on the evaluations of f
    options : of the method, as in `solve_ivp`: first_step, max_step, step

    Raises TypeError or ValueError for bad input, before any work; SolveError if the solve stops.
    Note: D02-D05 (§1, §2.1), D29 (§2.2), P03, P19, E04.
    """
    theta = real_array("theta", theta, (field.m,))
    z0 = real_array("z0", z0, ("...", field.n))
    times = observation_times(times)
    solver = solver_class(method)
    keep = one_of("keep", keep, KEEP)
    if keep == "stages" and tableau(solver) is None:
        raise ValueError(f'keep="stages" needs an explicit Runge-Kutta method, got {solver.__name__}')
    if keep == "dense" and len(times) == 1:
        raise ValueError('keep="dense" needs a time after t0, got t0 alone')
    checked = checked_options(solver, options | {"rtol": rtol, "atol": atol, "max_nfev": max_nfev})
    integrator = Integrator(
        partial(_flat, field, z0.shape, theta),
        solver,
        checked["rtol"],
        checked["atol"],
        checked["max_nfev"],
        "forward",
        options | _jacobian_options(field, z0.shape, theta, solver),
        keep,
    )
    return _observe(integrator, field, z0, theta, times, options)


def _flat(field: VectorField, shape: tuple[int, ...], theta: Array, t: float, y: Array) -> Array:
    """The field in SciPy's order and on flat states, its answer checked for what a hand-written field gets wrong."""
    return checked_rate(field(y.reshape(shape), t, theta), shape).ravel()


def _observe(
    integrator: Integrator, field: VectorField, z0: Array, theta: Array, times: Array, options: dict[str, Any]
) -> Trajectory:
    z = np.empty((len(times), *z0.shape))
    z[0], sol = z0, None
    if len(times) == 1:
        integrator.steps.start(times[0], z0.ravel())
    else:
        dense = integrator.steps.keep == "dense"
        result = integrator.solve((times[0], times[-1]), z0.ravel(), times[1:-1], dense)
        z[1:-1] = np.reshape(np.transpose(result.y), z[1:-1].shape)
        z[-1], sol = result.y_end.reshape(z0.shape), result.sol
    steps = integrator.steps
    kept = {
        "step_times": np.array(steps.t) if steps.t else None,
        "step_z": steps.y.taken(z0.shape) if steps.y.count else None,
        "stages": steps.K.taken((steps.slopes, *z0.shape)) if steps.keep == "stages" else None,
    }
    for array in (z, *kept.values()):
        if array is not None:
            array.setflags(write=False)
    return Trajectory(
        field, theta, times, z, integrator.nfev, integrator.njev, steps.n, integrator.method,
        integrator.rtol, float(integrator.atol), integrator.max_nfev, dict(options), sol=sol, **kept,
    )  # fmt: skip


def checked_options(solver: type[OdeSolver], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a solve by that method, checked: rtol, atol, max_nfev, keep and the method's own."""
    known, checked = options_of(solver), dict(options)
    for name, value in options.items():
        if name in ("rtol", "atol"):
            checked[name] = tolerance(name, value, LEAST_RTOL if name == "rtol" else np.finfo(float).tiny)
        elif name == "max_nfev":
            checked[name] = count(name, value)
        elif name != "keep":
            one_of(f"an option of {solver.__name__}", name, sorted(known))
    if "step" in known and "step" not in options:
        raise ValueError(f"{solver.__name__} takes fixed steps: give the option step, e.g. step=0.1")
    return checked


def _jacobian_options(
    field: VectorField, shape: tuple[int, ...], theta: Array, solver: type[OdeSolver]
) -> dict[str, Any]:
    """What an implicit method is told of ∇§1 f: a block a sample, sparse but for LSODA, which takes no sparse ones."""
    if not issubclass(solver, IMPLICIT) or 0 in shape:
        return {}

    def blocks(t: float, y: Array) -> Array:
        return jacobian(field, y.reshape(shape), t, theta).reshape(-1, field.n, field.n)

    if len(shape) == 1:
        return {"jac": lambda t, y: blocks(t, y)[0]}
    if issubclass(solver, LSODA):
        return {"jac": lambda t, y: dense_block_diag(*blocks(t, y))}
    return {"jac": lambda t, y: block_diag(blocks(t, y), format="csc")}
