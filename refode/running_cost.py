"""A running cost is one more component of the state: C(t) = ∫ c(z, t, θ) dt, Ċ = c.

`WithRunningCost(field, cost)` is again a vector field, on (z, C), so every solver, every gradient and every check
works on it unchanged. A loss with cotangent 1 on C(t1) has a_C = 1 all along, and Theorem 1 on (z, C) then reads ȧ_z
= −a_z ∇§1 f − ∇§1 c: the source terms of the adjoint with a running cost, in all blocks, from the one adjoint there
is.
"""

from typing import Any, Protocol

import numpy as np

from refode.arguments import count, real_array
from refode.divergence import directions, probes_of, second_order, sum_blocks
from refode.fields import VectorField, jvp, linearize, of_sample, slopes
from refode.types import Array, Pullback, Scalar


class RunningCost(Protocol):
    """c(z, t, θ) -> (...), and its VJP with cotangent c_bar (...): three blocks, shapes (..., n), (), (m,).

    It may bring `jvp(z, t, theta, dz, dt, dtheta)` -> (...) as well, and `of_sample` if it holds something a sample.
    """

    def __call__(self, z: Array, t: Scalar, theta: Array, /) -> Array: ...

    def vjp(self, z: Array, t: Scalar, theta: Array, c_bar: Array, /) -> tuple[Array, Array, Array]: ...


def cost_jvp(cost: RunningCost, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
    """∇§1 c·dz + ∇§2 c·dt + ∇§3 c·dθ, (...): `cost.jvp` where there is one, else one VJP a sample."""
    own = getattr(cost, "jvp", None)
    if own is not None:
        return own(z, t, theta, dz, dt, dtheta)  # type: ignore[no-any-return]
    return slopes(lambda i: of_sample(cost, i).vjp(z[i], t, theta, np.ones(())), dz, dt, dtheta)


class WithRunningCost:
    """The field (f, c) on (z, C), dimension n + 1; C is the last component and nothing depends on it."""

    def __init__(self, field: VectorField, cost: RunningCost) -> None:
        self.field, self.cost = field, cost
        self.n, self.m = field.n + 1, field.m

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        state = z[..., :-1]
        dC = np.asarray(self.cost(state, t, theta))
        return np.concatenate([self.field(state, t, theta), dC[..., None]], axis=-1)

    def linearize(self, z: Array, t: Scalar, theta: Array) -> tuple[Array, Pullback]:
        state = z[..., :-1]
        dz, pullback = linearize(self.field, state, t, theta)
        dC = np.asarray(self.cost(state, t, theta))

        def both(a: Array) -> tuple[Array, Array, Array]:
            f1, f2, f3 = pullback(a[..., :-1])  # a_z ∇ f
            c1, c2, c3 = self.cost.vjp(state, t, theta, a[..., -1])  # + a_C ∇ c
            return np.concatenate([f1 + c1, np.zeros_like(a[..., -1:])], axis=-1), f2 + c2, f3 + c3

        return np.concatenate([dz, dC[..., None]], axis=-1), both

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        return self.linearize(z, t, theta)[1](a)

    def jvp(self, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
        at, tangent = (z[..., :-1], t, theta), (dz[..., :-1], dt, dtheta)
        df, dc = jvp(self.field, *at, *tangent), cost_jvp(self.cost, *at, *tangent)
        return np.concatenate([df, dc[..., None]], axis=-1)

    def of_sample(self, sample: tuple[int, ...]) -> "WithRunningCost":
        return WithRunningCost(of_sample(self.field, sample), of_sample(self.cost, sample))


class KineticEnergy:
    """c = |f(z, t, θ)|², whose integral is short for straight, slow paths (Finlay et al. 2020)."""

    def __init__(self, field: VectorField) -> None:
        self.field = field

    def __repr__(self) -> str:
        return f"KineticEnergy({self.field!r})"

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        return np.asarray((self.field(z, t, theta) ** 2).sum(axis=-1))

    def vjp(self, z: Array, t: Scalar, theta: Array, c_bar: Array) -> tuple[Array, Array, Array]:
        dz, pullback = linearize(self.field, z, t, theta)
        return pullback(2.0 * c_bar[..., None] * dz)  # ∇ |f|² = 2 f · ∇f

    def jvp(self, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
        f, df = self.field(z, t, theta), jvp(self.field, z, t, theta, dz, dt, dtheta)
        return np.asarray(np.sum(2.0 * f * df, axis=-1))  # d |f|² = 2 f · df

    def of_sample(self, sample: tuple[int, ...]) -> "KineticEnergy":
        return KineticEnergy(of_sample(self.field, sample))


class FrobeniusNorm:
    """c = |∇§1 f|²_F = Σ_i |∇§1 f e_i|², or its estimate 1/K Σ_k |∇§1 f v_k|² by probes (K, ..., n).

    The estimate's mean is c if E v vᵀ = I. Where the norm is small the flow hardly stretches or turns (Finlay et al.
    2020). The field must have `jvp_vjp`; TypeError for one that has not. There is no `jvp`: it takes a VJP a sample.
    """

    def __init__(self, field: VectorField, probes: Any = None) -> None:
        self.field, self.jvp_vjp = field, second_order(field)
        self.probes = None if probes is None else real_array("probes", probes, ("...", field.n))

    def __repr__(self) -> str:
        return f"FrobeniusNorm({self.field!r}, probes={None if self.probes is None else self.probes.shape})"

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        Jv, _, weight = self._forward(z, t, theta)
        return np.asarray(weight * np.sum(Jv * Jv, axis=(0, -1)))

    def vjp(self, z: Array, t: Scalar, theta: Array, c_bar: Array) -> tuple[Array, Array, Array]:
        Jv, V, weight = self._forward(z, t, theta)
        W = 2.0 * weight * c_bar[..., None] * Jv  # ∇ |J v|² = w·∇(J v) with w = 2 J v
        return sum_blocks(self.jvp_vjp(z, t, theta, v, w) for v, w in zip(V, W, strict=True))

    def of_sample(self, sample: tuple[int, ...]) -> "FrobeniusNorm":
        return FrobeniusNorm(self.field, probes_of(self.probes, sample))

    def _forward(self, z: Array, t: Scalar, theta: Array) -> tuple[Array, Array, float]:
        V, weight = directions(z, self.probes)
        still = np.zeros_like(theta)
        return np.stack([jvp(self.field, z, t, theta, v, 0.0, still) for v in V]), V, weight


class WeightedSum:
    """c = Σ w_i c_i, of pairs: WeightedSum((0.05, KineticEnergy(field)), (0.01, FrobeniusNorm(field)))."""

    def __init__(self, *terms: tuple[float, RunningCost]) -> None:
        if not terms:
            raise ValueError("WeightedSum needs at least one pair (weight, cost)")
        self.terms = [(float(real_array("weight", weight, ())), cost) for weight, cost in terms]

    def __repr__(self) -> str:
        return f"WeightedSum({', '.join(map(repr, self.terms))})"

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        return np.asarray(sum(weight * cost(z, t, theta) for weight, cost in self.terms))

    def vjp(self, z: Array, t: Scalar, theta: Array, c_bar: Array) -> tuple[Array, Array, Array]:
        return sum_blocks(cost.vjp(z, t, theta, weight * c_bar) for weight, cost in self.terms)

    def jvp(self, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
        return np.asarray(sum(weight * cost_jvp(cost, z, t, theta, dz, dt, dtheta) for weight, cost in self.terms))

    def of_sample(self, sample: tuple[int, ...]) -> "WeightedSum":
        return WeightedSum(*((weight, of_sample(cost, sample)) for weight, cost in self.terms))


class OfLeading:
    """A cost of the first n components of a state that has more: of z in (z, Δ), which makes density and cost one."""

    def __init__(self, cost: RunningCost, n: int) -> None:
        self.cost, self.n = cost, count("n", n)

    def __repr__(self) -> str:
        return f"OfLeading({self.cost!r}, {self.n})"

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        return self.cost(z[..., : self.n], t, theta)

    def vjp(self, z: Array, t: Scalar, theta: Array, c_bar: Array) -> tuple[Array, Array, Array]:
        z_bar, t_bar, theta_bar = self.cost.vjp(z[..., : self.n], t, theta, c_bar)
        return np.concatenate([z_bar, np.zeros_like(z[..., self.n :])], axis=-1), t_bar, theta_bar

    def jvp(self, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
        return cost_jvp(self.cost, z[..., : self.n], t, theta, dz[..., : self.n], dt, dtheta)

    def of_sample(self, sample: tuple[int, ...]) -> "OfLeading":
        return OfLeading(of_sample(self.cost, sample), self.n)
