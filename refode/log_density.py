"""A density is one more component of the state: Δ(t) = log p(z_t, t) − log p(z_{t0}, t0), Δ̇ = −tr ∇§1 f (Theorem 2).

`WithLogDensity(field)` is again a vector field, on (z, Δ), with a VJP by hand; every solver, every way to a gradient
and every check works on it unchanged. log p is not constant along a trajectory, log p − Δ is: this is the state to
which Theorem 1 applies, and it gives ȧ_z = −a_z ∇§1 f + a_Δ ∇§1 τ, the term that the note's last equation lacks (E48
to E51).
"""

from typing import Any

import numpy as np

from refode.arguments import real_array
from refode.divergence import divergence_vjp, linearize_divergence, probes_of
from refode.fields import VectorField, jvp, slopes
from refode.tape import Tape
from refode.types import Array, Pullback, Scalar


class WithLogDensity:
    """The field (f, −τ) on (z, Δ), dimension n + 1; Δ is the last component and nothing depends on it.

    probes (K, ..., n) make τ Hutchinson's estimate, with the same probes, one set a sample, at every time of a solve:
    drawn anew at each evaluation they would be no function of the state (E40). None is the exact trace.
    Note: D44 (§3.2), D56-D58 (§3.3), E33, E40, E48-E51, P45.
    """

    def __init__(self, field: VectorField, probes: Any = None) -> None:
        self.field = field
        self.n, self.m = field.n + 1, field.m
        self.probes = None if probes is None else real_array("probes", probes, ("...", field.n))

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        dz, tau, _ = linearize_divergence(self.field, z[..., :-1], t, theta, self.probes)
        return np.concatenate([dz, -tau[..., None]], axis=-1)

    def linearize(self, z: Array, t: Scalar, theta: Array) -> tuple[Array, Pullback]:
        """(f, −τ), and its pullback, activations shared between the two."""
        dz, tau, both = linearize_divergence(self.field, z[..., :-1], t, theta, self.probes)

        def pullback(a: Array) -> tuple[Array, Array, Array]:
            z_bar, t_bar, theta_bar = both(a[..., :-1], -a[..., -1])  # a_z ∇f − a_Δ ∇τ
            return np.concatenate([z_bar, np.zeros_like(a[..., -1:])], axis=-1), t_bar, theta_bar

        return np.concatenate([dz, -tau[..., None]], axis=-1), pullback

    def tape(self, shape: tuple[int, ...]) -> Tape | None:
        """The field's own tape for the exact trace, where it has one; a subclass may mean something else: None."""
        own = getattr(self.field, "density_tape", None)
        exact = type(self) is WithLogDensity and self.probes is None
        return own(shape) if exact and callable(own) else None

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        return self.linearize(z, t, theta)[1](a)

    def jvp(self, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
        """The directional derivative of f, and of τ by its gradient: one VJP a sample."""
        z, dz, one = z[..., :-1], dz[..., :-1], np.ones(())
        df = jvp(self.field, z, t, theta, dz, dt, dtheta)
        dtau = slopes(
            lambda i: divergence_vjp(self.field, z[i], t, theta, one, probes_of(self.probes, i)), dz, dt, dtheta
        )
        return np.concatenate([df, -dtau[..., None]], axis=-1)

    def of_sample(self, sample: tuple[int, ...]) -> "WithLogDensity":
        """(f, −τ) with the probes of one sample of a batch."""
        return WithLogDensity(self.field, probes_of(self.probes, sample))
