"""The divergence tr ∇§1 f of a field, exactly or by Hutchinson's estimate, and its gradient.

A density needs τ = tr ∇§1 f beside f, and its adjoint a·∇f + c ∇τ: second derivatives of f (§3 of the note; its last
differential equation forgets them, E50 and E51). With probes v_1, ..., v_K, each of the shape of z,

    τ = Σ_i e_i·∇§1 f e_i  (exact)        τ̂ = 1/K Σ_k v_k·∇§1 f v_k  (Hutchinson: E τ̂ = τ if E v vᵀ = I)

A field may bring `linearize_divergence(z, t, theta, probes)`, which shares the work between f and τ, or only
`jvp_vjp(z, t, theta, v, w)`: the VJP, with cotangent w, of (z, t, θ) ↦ ∇§1 f·v. Without either τ can still be had, one
VJP a direction, but its gradient is refused.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np

from refode.arguments import one_of
from refode.fields import VectorField, linearize
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
    dz, pullback = linearize(field, z, t, theta)
    V, weight = directions(z, probes)
    tau = weight * np.sum([np.sum(pullback(v)[0] * v, axis=-1) for v in V], axis=0)  # (v ∇§1 f)·v

    def both(a: Array, c: Array) -> tuple[Array, Array, Array]:
        jvp_vjp = second_order(field)
        of_tau = [jvp_vjp(z, t, theta, v, weight * c[..., None] * v) for v in V]  # c ∇(v·∇§1 f v)
        return sum_blocks([pullback(a), *of_tau])  # a·∇f + c ∇τ

    return dz, np.asarray(tau), both


def second_order(field: VectorField) -> Callable[..., tuple[Array, Array, Array]]:
    """The field's jvp_vjp. TypeError, by name, for a field that has none."""
    own = getattr(field, "jvp_vjp", None)
    if own is None:
        name = type(field).__name__
        raise TypeError(f"{name} has no jvp_vjp, which the gradient of a divergence or of a Jacobian needs")
    return own  # type: ignore[no-any-return]


def sum_blocks(blocks: Iterable[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
    """Gradients added up, block by block."""
    z_bar, t_bar, theta_bar = zip(*blocks, strict=True)
    nothing = np.zeros(())
    return sum(z_bar, nothing), sum(t_bar, nothing), sum(theta_bar, nothing)


def divergence(field: VectorField, z: Array, t: Scalar, theta: Array, probes: Array | None = None) -> Array:
    """τ or τ̂, (...)."""
    return linearize_divergence(field, z, t, theta, probes)[1]


def divergence_vjp(
    field: VectorField, z: Array, t: Scalar, theta: Array, c: Array, probes: Array | None = None
) -> tuple[Array, Array, Array]:
    """c·∇τ in its three blocks, (..., n), (), (m,), for a cotangent c (...)."""
    return linearize_divergence(field, z, t, theta, probes)[2](np.zeros_like(z), np.asarray(c))


def probes_of(probes: Array | None, sample: tuple[int, ...]) -> Array | None:
    """The probes (K, n) of one sample, of probes (K, ..., n); None for the exact trace."""
    return None if probes is None else np.moveaxis(probes, 0, -2)[sample]


def directions(z: Array, probes: Array | None) -> tuple[Array, float]:
    """The directions (K, ..., n) and their common weight: the unit vectors, or the probes and 1/K."""
    if probes is None:
        n = z.shape[-1]
        units = np.eye(n).reshape(n, *[1] * (z.ndim - 1), n)
        return np.broadcast_to(units, (n, *z.shape)), 1.0
    probes = np.asarray(probes)
    if probes.shape[1:] != z.shape or probes.shape[0] == 0:
        raise ValueError(f"probes must have shape (K, {', '.join(map(str, z.shape))}), got {probes.shape}")
    return probes, 1.0 / len(probes)
