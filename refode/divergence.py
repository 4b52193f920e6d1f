"""The divergence tr ∇§1 f of a field, exactly or by Hutchinson's estimate, and its gradient.

A density needs τ = tr ∇§1 f beside f, and its adjoint a·∇f + c ∇τ: second derivatives of f (§3 of the note; its last
differential equation forgets them, E50 and E51). With probes v_1, ..., v_K, each of the shape of z,

    τ = Σ_i e_i·∇§1 f e_i  (exact)        τ̂ = 1/K Σ_k v_k·∇§1 f v_k  (Hutchinson: E τ̂ = τ if E v vᵀ = I)

A field may bring `linearize_divergence(z, t, theta, probes)`, which shares the work between f and τ, or only
`jvp_vjp(z, t, theta, v, w)`: the VJP, with cotangent w, of (z, t, θ) ↦ ∇§1 f·v. Without either, τ can still be had from
the Jacobian, but its gradient is refused.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from refode.arguments import one_of
from refode.fields import VectorField, jvp, linearize
from refode.types import Array, Scalar

DivergencePullback: TypeAlias = Callable[[Array, Array], tuple[Array, Array, Array]]
"""(a, c) -> a·∇f + c·∇τ in its three blocks; a (..., n) the cotangent of f, c (...) that of τ."""


def rademacher(rng: np.random.Generator, shape: tuple[int, ...], K: int = 1) -> Array:
    """K probes of independent signs, (K, *shape). Var τ̂ = 2 (|S|²_F − Σ S_ii²)/K, S the symmetric part of ∇§1 f."""
    return rng.choice([-1.0, 1.0], (K, *shape))


def gaussian(rng: np.random.Generator, shape: tuple[int, ...], K: int = 1) -> Array:
    """K probes of independent standard normals, (K, *shape). Var τ̂ = 2 |S|²_F/K: never less than by signs."""
    return rng.normal(size=(K, *shape))


PROBES = {"rademacher": rademacher, "gaussian": gaussian}


def draw_probes(kind: str, rng: np.random.Generator, shape: tuple[int, ...], K: int = 1) -> Array:
    """Probes of the named kind, for a whole solve: a probe redrawn within it makes f no function (E40)."""
    return PROBES[one_of("kind", kind, PROBES)](rng, shape, K)


def linearize_divergence(
    field: VectorField, z: Array, t: Scalar, theta: Array, probes: Array | None = None
) -> tuple[Array, Array, DivergencePullback]:
    """f (..., n), τ (...), and the pullback of both. probes (K, ..., n), or None for the exact trace."""
    own = getattr(field, "linearize_divergence", None)
    if own is not None:
        return own(z, t, theta, probes)  # type: ignore[no-any-return]
    second: Any = getattr(field, "jvp_vjp", None)
    dz, pullback = linearize(field, z, t, theta)
    V, weight = directions(z, probes)

    def both(a: Array, c: Array) -> tuple[Array, Array, Array]:
        if second is None:
            name = type(field).__name__
            raise TypeError(f"the gradient of a divergence needs jvp_vjp or linearize_divergence; {name} has neither")
        z_bar, t_bar, theta_bar = pullback(a)  # a·∇f
        for v in V:  # + c ∇(v·∇§1 f v), each direction in turn
            b = second(z, t, theta, v, weight * c[..., None] * v)
            z_bar, t_bar, theta_bar = z_bar + b[0], t_bar + b[1], theta_bar + b[2]
        return z_bar, t_bar, theta_bar

    still = np.zeros_like(theta)
    tau = weight * sum(np.sum(v * jvp(field, z, t, theta, v, 0.0, still), axis=-1) for v in V)
    return dz, np.asarray(tau), both


def divergence(field: VectorField, z: Array, t: Scalar, theta: Array, probes: Array | None = None) -> Array:
    """τ or τ̂, (...)."""
    return linearize_divergence(field, z, t, theta, probes)[1]


def divergence_vjp(
    field: VectorField, z: Array, t: Scalar, theta: Array, c: Array, probes: Array | None = None
) -> tuple[Array, Array, Array]:
    """c·∇τ in its three blocks, (..., n), (), (m,), for a cotangent c (...)."""
    return linearize_divergence(field, z, t, theta, probes)[2](np.zeros_like(z), np.asarray(c))


def directions(z: Array, probes: Array | None) -> tuple[Array, float]:
    """The directions (K, ..., n) and their common weight: the unit vectors, or the probes and 1/K."""
    if probes is None:
        n = z.shape[-1]
        units = np.eye(n).reshape(n, *[1] * (z.ndim - 1), n)
        return np.broadcast_to(units, (n, *z.shape)), 1.0
    if probes.shape[1:] != z.shape:
        raise ValueError(f"probes must have shape (K, {', '.join(map(str, z.shape))}), got {probes.shape}")
    return probes, 1.0 / len(probes)
