"""The likelihood equations of section 3.3 as our copy prints them, kept to show what they do; nothing else uses them.

Along ż = f, with s for ∇§1 log p* and g for ∇§3 log p*, the last equation of the note and two of its relatives read

    ṡ = α s ∇§1 f + β ∇§1 τ,    ġ = α s ∇§3 f + γ ∇§3 τ

with (α, β, γ) as below. `climb` trains with any of them, all else equal.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from refode.arguments import one_of, real_array
from refode.divergence import linearize_divergence
from refode.flows import ContinuousFlow
from refode.integrate import Integrator
from refode.training import Adam
from refode.types import Array


class Signs(NamedTuple):
    """(α, β, γ): the factors of s ∇f, of ∇§1 τ and of ∇§3 τ."""

    alpha: float
    beta: float
    gamma: float


VARIANTS = {
    "corrected": Signs(-1, -1, -1),
    "as printed": Signs(+1, 0, 0),  # D62
    "Theorem 1 literally": Signs(-1, 0, 0),  # its sign mended, E49, and nothing else
    "all signs turned": Signs(+1, +1, +1),
    "trace turned": Signs(-1, +1, +1),
    "trace in block 2 only": Signs(-1, -1, 0),
    "trace in block 3 only": Signs(-1, 0, -1),
}


def likelihood_gradient(flow: ContinuousFlow, x: Array, variant: str) -> tuple[Array, Array]:
    """What a variant takes for the score (N, n) and for the θ-gradient (m,) of Σ log p(x_i). Note: D62 (§3.3), D63."""
    alpha, beta, gamma = VARIANTS[one_of("variant", variant, VARIANTS)]
    back = flow.backward(real_array("x", x, ("N", flow.n)))
    z0, theta = back.z[-1, :, :-1], flow.theta
    nothing, ones, size = np.zeros(z0.shape), np.ones(len(z0)), z0.size

    def rhs(t: float, y: Array) -> Array:
        z, s = y[: 2 * size].reshape(2, *z0.shape)
        dz, tau, both = linearize_divergence(flow.field, z, t, theta)
        s_f1, _, s_f3 = both(s, 0 * tau)  # s ∇f
        tau_1, _, tau_3 = both(nothing, ones)  # ∇τ
        parts = (dz, alpha * s_f1 + beta * tau_1, alpha * s_f3 + gamma * tau_3)
        return np.concatenate([part.ravel() for part in parts])

    integrator = Integrator(rhs, back.method, back.rtol, back.atol, 1_000_000, "forward", back.options)
    start = np.concatenate([z0.ravel(), flow.base.score(z0).ravel(), np.zeros_like(theta)])
    end = integrator.solve((flow.t0, flow.t1), start).y_end
    return end[size : 2 * size].reshape(z0.shape), end[2 * size :]


def climb(flow: ContinuousFlow, data: Array, variant: str, iterations: int, rate: float = 0.02) -> Iterator[Array]:
    """θ before and after each step of Adam along a variant's gradient of the mean log-likelihood of data (N, n)."""
    adam, theta = Adam.start(flow.field.m), flow.theta
    yield theta
    for _ in range(iterations):
        _, g = likelihood_gradient(flow.with_theta(theta), data, variant)
        adam, move = adam.step(-g / len(data), rate)
        theta = theta + move
        yield theta
