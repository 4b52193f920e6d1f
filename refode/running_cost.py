"""A running cost is one more component of the state: C(t) = ∫ c(z, t, θ) dt, Ċ = c.

`WithRunningCost(field, cost)` is again a vector field, on (z, C), so every solver, every gradient and every check
works on it unchanged. A loss with cotangent 1 on C(t1) has a_C = 1 all along, and Theorem 1 on (z, C) then reads ȧ_z
= −a_z ∇§1 f − ∇§1 c: the source terms of the adjoint with a running cost, in all blocks, from the one adjoint there
is.
"""

from typing import Protocol

import numpy as np

from refode.fields import VectorField, linearize
from refode.types import Array, Pullback, Scalar


class RunningCost(Protocol):
    """c(z, t, θ) -> (...), and its VJP with cotangent c_bar (...): three blocks, shapes (..., n), (), (m,)."""

    def __call__(self, z: Array, t: Scalar, theta: Array, /) -> Array: ...

    def vjp(self, z: Array, t: Scalar, theta: Array, c_bar: Array, /) -> tuple[Array, Array, Array]: ...


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


class KineticEnergy:
    """c = |f(z, t, θ)|², whose integral is short for straight, slow paths (Finlay et al. 2020)."""

    def __init__(self, field: VectorField) -> None:
        self.field = field

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        return np.asarray((self.field(z, t, theta) ** 2).sum(axis=-1))

    def vjp(self, z: Array, t: Scalar, theta: Array, c_bar: Array) -> tuple[Array, Array, Array]:
        dz, pullback = linearize(self.field, z, t, theta)
        return pullback(2.0 * c_bar[..., None] * dz)  # ∇ |f|² = 2 f · ∇f
