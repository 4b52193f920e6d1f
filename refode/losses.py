"""Losses with their cotangents, and the value and gradient that `scipy.optimize.minimize` asks for.

A loss is any function of a trajectory that returns (value, dL_dz), or (value, dL_dz, dL_dtheta) where it reads θ too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from scipy.integrate import OdeSolver

from refode.arguments import observation_times, real_array
from refode.differentiable import Differentiable
from refode.fields import VectorField
from refode.integrate import solver_class
from refode.running_cost import RunningCost, WithRunningCost
from refode.solve import Trajectory, checked_options
from refode.types import Array

Loss = Callable[[Trajectory], tuple[Any, ...]]


class InitialState(Protocol):
    """z0(θ) -> (..., n), with its VJP: (..., n) -> (m,)."""

    def __call__(self, theta: Array, /) -> Array: ...

    def vjp(self, theta: Array, z0_bar: Array, /) -> Array: ...


class SquaredError:
    """L = ½ Σ w (z(t_i) − y_i)², with dL/dz(t_i) = w (z(t_i) − y_i).

    data (T, ..., n), in the units of z; weights w broadcast to the same shape, 0 where nothing was observed (and any
    finite number stands in data). Booleans, an array or a list of them, are a mask, True where something was.
    """

    def __init__(self, data: Any, weights: Any = 1.0) -> None:
        self.data = real_array("data", data)
        self.weights = _like_data("weights", weights, self.data, booleans=True)

    def __call__(self, trajectory: Trajectory) -> tuple[float, Array]:
        residual = _residual(trajectory, self.data)
        return 0.5 * float(np.sum(self.weights * residual**2)), self.weights * residual


class GaussianNLL:
    """L = −Σ log N(y_i; z(t_i), σ²), the negative log-likelihood of Gaussian noise; dL/dz(t_i) = (z(t_i) − y_i)/σ².

    data (T, ..., n), in the units of z; sigma > 0, in the same units, broadcasts to the same shape.
    """

    def __init__(self, data: Any, sigma: Any) -> None:
        self.data = real_array("data", data)
        self.sigma = _like_data("sigma", sigma, self.data)
        if (self.sigma <= 0).any():
            raise ValueError(f"sigma must be positive, got {self.sigma.min()}")

    def __call__(self, trajectory: Trajectory) -> tuple[float, Array]:
        scaled = _residual(trajectory, self.data) / self.sigma
        nll = 0.5 * scaled**2 + np.log(self.sigma) + 0.5 * np.log(2 * np.pi)
        return float(nll.sum()), scaled / self.sigma


def _like_data(name: str, value: Any, data: Array, *, booleans: bool = False) -> Array:
    array = real_array(name, value, booleans=booleans)
    try:
        return np.broadcast_to(array, data.shape)
    except ValueError:
        raise ValueError(f"{name} must broadcast to the shape of data {data.shape}, got {array.shape}") from None


def _residual(trajectory: Trajectory, data: Array) -> Array:
    if trajectory.z.shape != data.shape:
        raise ValueError(f"data must have the trajectory's shape {trajectory.z.shape}, got {data.shape}")
    return trajectory.z - data


def loss_and_gradient(
    field: VectorField,
    z0: Any,
    loss: Loss,
    times: Any,
    *,
    running_cost: RunningCost | None = None,
    method: str = "discrete",
    solver: str | type[OdeSolver] = "RK45",
    **solve_options: Any,
) -> Callable[[Any], tuple[float, Array]]:
    """f(theta) -> (value, gradient (m,)), for `scipy.optimize.minimize(..., jac=True)`.

    Parameters
    ----------
    z0 : an array (..., n), or an object z0(theta) with `vjp(theta, z0_bar)` where the initial state depends on θ
    loss : loss(trajectory) -> (value, dL_dz) or (value, dL_dz, dL_dtheta)
    running_cost : adds the sum over the batch of ∫c dt, signed from times[0] to times[-1]; the loss sees z alone
    method : the way to the gradient, as in `adjoint`
    solver, solve_options : as `method` and the further arguments of `solve`
    """
    initial: InitialState | _Constant = z0 if callable(z0) else _Constant(real_array("z0", z0, ("...", field.n)))
    times = observation_times(times)
    solved_field = field if running_cost is None else WithRunningCost(field, running_cost)
    differentiable, solver = Differentiable(solved_field, method), solver_class(solver)
    options = checked_options(solver, solve_options)

    def value_and_gradient(theta: Any) -> tuple[float, Array]:
        theta = real_array("theta", theta, (field.m,))
        start = initial.z0 if isinstance(initial, _Constant) else real_array("z0", initial(theta), ("...", field.n))
        if running_cost is not None:
            start = np.concatenate([start, np.zeros_like(start[..., :1])], axis=-1)  # C(t0) = 0
        trajectory, pull_back = differentiable.solve(start, theta, times, solver, **options)
        value, dL_dz, *direct = loss(_without_cost(trajectory, field) if running_cost is not None else trajectory)
        if running_cost is not None:
            value = value + float(trajectory.z[-1, ..., -1].sum())
            dL_dz = real_array("dL_dz", dL_dz, (*trajectory.z.shape[:-1], field.n))
            dL_dz = np.concatenate([dL_dz, np.zeros_like(trajectory.z[..., -1:])], axis=-1)
            dL_dz[-1, ..., -1] = 1.0  # a_C = 1
        z0_bar, theta_bar = pull_back(real_array("dL_dz", dL_dz, trajectory.z.shape))
        if direct:
            theta_bar = theta_bar + real_array("dL_dtheta", direct[0], (field.m,))
        if isinstance(initial, _Constant):
            return value, theta_bar
        through_z0 = real_array("z0.vjp", initial.vjp(theta, z0_bar[..., : field.n]), (field.m,))
        return value, theta_bar + through_z0

    return value_and_gradient


def _without_cost(trajectory: Trajectory, field: VectorField) -> Trajectory:
    """The trajectory of z alone, as the loss knows it: observations only."""
    return replace(
        trajectory, field=field, z=trajectory.z[..., :-1], step_times=None, step_z=None, stages=None, sol=None
    )


@dataclass(frozen=True)
class _Constant:
    """An initial state that θ does not move."""

    z0: Array
