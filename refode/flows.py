"""Continuous normalizing flows: a density that a vector field makes of a simple one.

Samples of the base at t0 are carried to t1, and the density with them (Theorem 2, D56 to D58):

    log p(x) = log p_base(z(t0)) − Δ(t0),    (z, Δ) solved from (x, 0) at t1 back to t0,    Δ̇ = −tr ∇§1 f

Its gradient in θ at fixed x is the adjoint of that solve, which starts at t0, where the loss is, and runs forward to
t1. `likelihood_gradient` takes the adjoint there is; `forward_system` solves the note's last equation as corrected, a
second way that shares with it the derivatives of f and τ but no sweep.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.integrate import OdeSolver

from refode.arguments import count, real_array
from refode.differentiable import Differentiable
from refode.divergence import linearize_divergence
from refode.fields import VectorField
from refode.files import load_arrays, save_arrays
from refode.integrate import Integrator, solver_class
from refode.log_density import WithLogDensity
from refode.running_cost import OfLeading, RunningCost, WithRunningCost
from refode.solve import Trajectory, solve
from refode.types import Array


class Base(Protocol):
    """A density to start from: log p (...), samples (size, n) and ∇ log p (..., n)."""

    def logpdf(self, z: Array, /) -> Array: ...

    def rvs(self, size: int, random_state: Any = None) -> Array: ...

    def score(self, z: Array, /) -> Array: ...


@dataclass(frozen=True)
class StandardNormal:
    """N(0, I) in n dimensions."""

    n: int

    def logpdf(self, z: Array) -> Array:
        return np.asarray(-0.5 * np.sum(z * z, axis=-1) - 0.5 * self.n * np.log(2 * np.pi))

    def rvs(self, size: int = 1, random_state: Any = None) -> Array:
        return np.random.default_rng(random_state).normal(size=(size, self.n))

    def score(self, z: Array) -> Array:
        return -z


class LikelihoodGradient(NamedTuple):
    """Σ log p(x_i), and its gradients at fixed x, t0 and t1. With a running cost they are those of value − cost."""

    value: float
    x: Array  # (..., n): the score ∇ log p of each point
    theta: Array  # (m,)
    t0: float
    t1: float
    cost: float = 0.0  # Σ_i ∫ c |dt| along the path of x_i: positive if c is, whichever way time runs


@dataclass(frozen=True, eq=False)
class ContinuousFlow:
    """A density in the manner of `scipy.stats`: `logpdf`, `rvs`, `score`; immutable, `training.fit` returns a new one.

    Parameters
    ----------
    field, theta (m,) : the vector field, and its parameters
    base : a density with logpdf, rvs and score; N(0, I) if None
    t0, t1 : the base stands at t0, the data at t1
    options : of `solve`: method, rtol, atol, max_nfev, and those of the method (step, max_step, ...); what is kept of a
        solve is not theirs to say

    Raises TypeError or ValueError for bad input, a base that lacks a method or returns the wrong shape among it.
    Note: §3.3, D55-D58, P43-P45, E41, E44.
    """

    field: VectorField
    theta: Array
    base: Base = None  # type: ignore[assignment]  # None becomes N(0, I)
    t0: float = 0.0
    t1: float = 1.0
    options: Mapping[str, Any] = attribute(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("t0", "t1"):
            object.__setattr__(self, name, float(real_array(name, getattr(self, name), ())))
        if self.t0 == self.t1:
            raise ValueError(f"t0 and t1 must differ, got {self.t0} for both")
        object.__setattr__(self, "theta", real_array("theta", self.theta, (self.field.m,)))
        object.__setattr__(self, "options", MappingProxyType({"rtol": 1e-7, "atol": 1e-9} | dict(self.options)))
        _check_options(self)
        object.__setattr__(self, "base", StandardNormal(self.n) if self.base is None else self.base)
        _check_base(self.base, self.n)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied as made: a view of the options cannot be, a dict can."""
        return type(self), (self.field, self.theta, self.base, self.t0, self.t1, dict(self.options))

    @property
    def n(self) -> int:
        return self.field.n

    def with_theta(self, theta: Any) -> "ContinuousFlow":
        """The same flow with other parameters."""
        return replace(self, theta=theta)

    def logpdf(self, x: Any, probes: Array | None = None) -> Array:
        """log p (...) at points x (..., n); an unbiased estimate of it if probes (K, ..., n) stand for the trace."""
        return self._log_likelihood(self.backward(x, probes))

    def rvs(self, size: int = 1, random_state: Any = None) -> Array:
        """`size` samples (size, n): the base's, carried from t0 to t1. random_state: seed or Generator. Note: D55."""
        z0 = self.base.rvs(count("size", size), random_state=random_state)
        carried: Array = solve(self.field, z0, self.theta, [self.t0, self.t1], **self.options).z[-1]
        return carried

    def score(self, x: Any) -> Array:
        """∇ log p (..., n) at points x (..., n)."""
        return self.likelihood_gradient(x).x

    def backward(
        self,
        x: Any,
        probes: Array | None = None,
        keep: str = "observations",
        running_cost: RunningCost | None = None,
    ) -> Trajectory:
        """(z, Δ) from (x, 0) at t1 back to t0; with a running cost of z, (z, Δ, C). Note: D57, D58."""
        field = _with_density(self.field, probes, running_cost)
        start = _start(real_array("x", x, ("...", self.n)), field)
        return solve(field, start, self.theta, [self.t1, self.t0], keep=keep, **self.options)

    def likelihood_gradient(
        self,
        x: Any,
        probes: Array | None = None,
        method: str = "backsolve",
        running_cost: RunningCost | None = None,
    ) -> LikelihoodGradient:
        """Σ log p(x_i), less Σ ∫ c |dt| if there is a running cost, and its gradients by the adjoint on (z, Δ).

        method is any way that `adjoint` has. Note: D59-D63, E48.
        """
        return Likelihood(self, probes, method, running_cost)(self, x)

    def _log_likelihood(self, back: Trajectory) -> Array:
        _, end = back.z
        z0, delta = end[..., : self.n], end[..., self.n]
        return np.asarray(self.base.logpdf(z0) - delta)  # log p(x) = log p_base(z_t0) − Δ(t0)

    def save(self, path: str | Path) -> None:
        """Write theta and the span to an .npz file, atomically, without pickle; the field is the reader's to know."""
        save_arrays(path, "refode.ContinuousFlow", theta=self.theta, span=np.array([self.t0, self.t1]))

    def load(self, path: str | Path) -> "ContinuousFlow":
        """This flow with the parameters and span of a saved one. ValueError for a damaged or foreign file."""
        arrays = load_arrays(path, "refode.ContinuousFlow", {"theta": (self.field.m,), "span": (2,)})
        return replace(self, theta=arrays["theta"], t0=float(arrays["span"][0]), t1=float(arrays["span"][1]))


def _with_density(field: VectorField, probes: Array | None, running_cost: RunningCost | None) -> VectorField:
    """The field of (z, Δ), or with a running cost of z of (z, Δ, C)."""
    dense = WithLogDensity(field, probes)
    return dense if running_cost is None else WithRunningCost(dense, OfLeading(running_cost, field.n))


def _start(x: Array, field: VectorField) -> Array:
    """x (..., n), and zeros for what else the field carries."""
    return np.concatenate([x, np.zeros((*x.shape[:-1], field.n - x.shape[-1]))], axis=-1)


def _solver(flow: ContinuousFlow) -> tuple[type[OdeSolver], dict[str, Any]]:
    """The method of a flow's solves, and the other options."""
    options = {"method": "RK45"} | dict(flow.options)
    return solver_class(options.pop("method")), options


class Likelihood:
    """The likelihood and its gradients, again and again: likelihood(flow, x), in memory that is kept between calls.

    The flows may differ in θ, base and options; ValueError for one of another field or span. probes, method and
    running_cost are as in `ContinuousFlow.likelihood_gradient`.
    """

    def __init__(
        self,
        flow: ContinuousFlow,
        probes: Array | None = None,
        method: str = "discrete",
        running_cost: RunningCost | None = None,
    ) -> None:
        self.of, self.field = flow.field, _with_density(flow.field, probes, running_cost)
        self.solves, self.times = Differentiable(self.field, method), np.array([flow.t1, flow.t0])

    def __call__(self, flow: ContinuousFlow, x: Any) -> LikelihoodGradient:
        n, sign, (t1, t0) = flow.n, np.sign(flow.t1 - flow.t0), self.times
        if flow.field is not self.of or (flow.t1, flow.t0) != (t1, t0):
            raise ValueError(f"this likelihood is of another field or of another span than {t0} to {t1}")
        start = _start(real_array("x", x, ("...", n)), self.field)
        solver, options = _solver(flow)
        back, pull_back = self.solves.solve(start, flow.theta, self.times, solver, **options)
        _, end = back.z
        cotangent = np.zeros_like(back.z)
        _, end_bar = cotangent  # its views
        end_bar[..., :n] = flow.base.score(end[..., :n])  # a_z(t0) = ∇ log p_base
        end_bar[..., n] = -1.0  # a_Δ = −1, all along
        end_bar[..., n + 1 :] = sign  # C(t0) = −∫ c dt from t0 to t1: the cost is −sign C
        a, theta_bar = pull_back(cotangent)
        return LikelihoodGradient(
            float(np.sum(flow._log_likelihood(back))),
            a[..., :n],
            theta_bar,
            t0=float(np.sum(end_bar * self.field(end, t0, flow.theta))),  # where the solve ends: +dL · f
            t1=float(-np.sum(a * self.field(start, t1, flow.theta))),  # where it begins: −a · f   (E08)
            cost=float(-sign * np.sum(end[..., n + 1 :])),
        )


def _check_options(flow: ContinuousFlow) -> None:
    """Refuse what no solve of this flow would take, by starting one of nothing: f is not evaluated."""
    given = [name for name in ("field", "z0", "theta", "times", "keep") if name in flow.options]
    if given:
        raise ValueError(f"options must be those of a solver, got {', '.join(given)}, which the flow gives to solve")
    start = solve(flow.field, np.zeros(flow.n), flow.theta, [flow.t0], **flow.options)
    tolerances = {"rtol": start.rtol, "atol": start.atol}
    start.method(lambda t, y: y, flow.t0, np.zeros(flow.n), flow.t1, **tolerances, **start.options)  # step, max_step


def _check_base(base: Any, n: int) -> None:
    """Refuse a base that lacks a method, or that answers two of its own points with other shapes than it should."""
    missing = [name for name in ("logpdf", "rvs", "score") if not callable(getattr(base, name, None))]
    if missing:
        raise TypeError(f"base must have logpdf, rvs and score; {type(base).__name__} lacks {', '.join(missing)}")
    z = real_array("base.rvs(2)", base.rvs(2, random_state=0), (2, n))  # where it has a density, on a half-line say
    real_array("base.logpdf of two points", base.logpdf(z), (2,))
    real_array("base.score of two points", base.score(z), (2, n))


def forward_system(flow: ContinuousFlow, x: Any) -> LikelihoodGradient:
    """Σ log p(x_i) and its gradients by the note's last equation as corrected, forward from t0 to t1:

        ż = f,    ṡ = −s ∇§1 f − ∇§1 τ,    ġ = −s ∇§3 f − ∇§3 τ,    s(t0) = ∇ log p_base(z_t0),    g(t0) = 0

    with s = ∇§1 log p* along the flow, one g for the batch. dL/dt1 = −s f − τ at t1, dL/dt0 = s f + τ at t0.
    Note: D62, D63 (§3.3), E49-E52, P50.
    """
    back = flow.backward(x)
    (_, end), theta = back.z, flow.theta
    z0 = end[..., :-1]
    ones, size = np.ones(z0.shape[:-1]), z0.size

    def split(y: Array) -> tuple[Array, Array, Array]:
        return y[:size].reshape(z0.shape), y[size : 2 * size].reshape(z0.shape), y[2 * size :]

    def rhs(t: float, y: Array) -> Array:
        z, s, _ = split(y)
        dz, _, both = linearize_divergence(flow.field, z, t, theta)
        s_rate, _, g_rate = both(s, ones)  # s ∇f + ∇τ, two of its blocks
        return np.concatenate([dz.ravel(), -s_rate.ravel(), -g_rate])

    options = {k: v for k, v in back.options.items() if k != "first_step"}
    integrator = Integrator(rhs, back.method, back.rtol, back.atol, back.max_nfev, "forward", options)
    start = np.concatenate([z0.ravel(), flow.base.score(z0).ravel(), np.zeros_like(theta)])
    z, s, g = split(integrator.solve((flow.t0, flow.t1), start).y_end)
    return LikelihoodGradient(
        float(np.sum(flow._log_likelihood(back))),
        s,
        g,
        t0=_power(flow, z0, flow.t0, flow.base.score(z0)),
        t1=-_power(flow, z, flow.t1, s),
    )


def _power(flow: ContinuousFlow, z: Array, t: float, s: Array) -> float:
    """Σ s·f + τ over the batch: the rate −∂ log p/∂t at fixed points."""
    dz, tau, _ = linearize_divergence(flow.field, z, t, flow.theta)
    return float(np.sum(s * dz) + np.sum(tau))


class Target(Protocol):
    """An unnormalised density: log q (...) and ∇ log q (..., n)."""

    def logpdf(self, z: Array, /) -> Array: ...

    def score(self, z: Array, /) -> Array: ...


def reverse_kl(flow: ContinuousFlow, target: Target, z0: Any, method: str = "backsolve") -> tuple[float, Array]:
    """Mean of log p(z_t1) − log q(z_t1) over base samples z0 (N, n), and its θ-gradient (m,) at fixed z0.

    It is KL(p, q) up to sampling and to log Z of q. The base samples are fixed and their images move, hence another
    gradient than that of the likelihood: (z, Δ) runs from t0 to t1, and the adjoint back, with a_Δ = +1.
    Note: E43 (§3.3).
    """
    missing = [name for name in ("logpdf", "score") if not callable(getattr(target, name, None))]
    if missing:
        raise TypeError(f"target must have logpdf and score; {type(target).__name__} lacks {', '.join(missing)}")
    z0 = real_array("z0", z0, ("N", flow.n))
    if not len(z0):
        raise ValueError("z0 must hold at least one sample, got none")
    real_array("target.logpdf(z0)", target.logpdf(z0), (len(z0),))
    real_array("target.score(z0)", target.score(z0), z0.shape)
    dense = WithLogDensity(flow.field)
    solver, options = _solver(flow)
    there, pull_back = Differentiable(dense, method).solve(
        _start(z0, dense), flow.theta, np.array([flow.t0, flow.t1]), solver, **options
    )
    _, end = there.z
    z1, delta = end[:, :-1], end[:, -1]
    value = np.mean(flow.base.logpdf(z0) + delta - target.logpdf(z1))  # log p(z_t1) = log p_base(z0) + Δ(t1)
    cotangent = np.zeros_like(there.z)
    _, end_bar = cotangent  # its views
    end_bar[:, :-1] = -target.score(z1) / len(z0)
    end_bar[:, -1] = 1.0 / len(z0)
    return float(value), pull_back(cotangent)[1]
