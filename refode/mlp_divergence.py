"""Divergence of an MLP, with its gradient by hand: reverse mode over forward mode, where σ″ enters.

One algorithm serves any depth and any probes: push K tangents T forward beside x, and read both backwards,

    u_l = x_{l−1} W_l + b_l + c_l t,   Q_l = T_{l−1} W_l,      x_l = σ(u_l),   T_l = σ′(u_l) ∘ Q_l
    Q̄_l = σ′ ∘ T̄_l,                    ū_l = σ′ ∘ x̄_l + σ″ ∘ Σ_k T̄_l ∘ Q_l                  (the second-order term)

For one and two hidden layers the exact trace has closed forms that never see a tangent. With W_1 (n, h), W_2 (h, n):
τ = σ′(u_1)·μ, μ_k = Σ_i W_1[i, k] W_2[k, i]; with three, τ = σ′(u_1)·N σ′(u_2), N = W_2 ∘ (W_3 W_1)ᵀ.
Note: D54 (§3.2), E39.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from refode.activations import Activation
from refode.divergence import DivergencePullback
from refode.types import Array, Scalar


class Layered(Protocol):
    """What these rules know of an MLP."""

    m: int
    sigmas: Sequence[Activation]

    def layers(self, theta: Array) -> Iterator[tuple[Array, Array, Array]]: ...


Linearized = tuple[Array, Array, DivergencePullback]


def one_hidden(net: Layered, z: Array, t: Scalar, theta: Array) -> Linearized:
    """f, the exact τ and their pullback for one hidden layer: O(h) per sample for τ, after u."""
    (W1, b1, c1), (W2, b2, c2) = net.layers(theta)
    z_one = np.concatenate([z, np.ones_like(z[..., :1])], axis=-1)
    u = z_one @ np.vstack([W1, b1 + c1 * t])  # u = z W_1 + (b_1 + c_1 t): one product, the bias its last row
    y = net.sigmas[0].value(u)
    d = net.sigmas[0].slope(u, y)
    mu = np.einsum("ik,ki->k", W1, W2)

    def pullback(a: Array, c: Array) -> tuple[Array, Array, Array]:
        theta_bar = np.empty(net.m, dtype=np.result_type(y, theta, a, c))
        (W1_bar, b1_bar, c1_bar), (W2_bar, b2_bar, c2_bar) = net.layers(theta_bar)
        e = net.sigmas[0].curvature(u, y, d)
        u_bar = d * (a @ W2.T) + c[..., None] * (e * mu)  # ū = σ′ ∘ a W_2ᵀ + c σ″ ∘ μ
        mu_bar = c.ravel() @ _rows(d)  # μ̄ = Σ c σ′
        W1_bar[...] = _rows(z).T @ _rows(u_bar) + mu_bar * W2.T  # W̄_1 = zᵀ ū + μ̄ ∘ W_2ᵀ
        W2_bar[...] = _rows(y).T @ _rows(a) + (mu_bar * W1).T  # W̄_2 = yᵀ a + (μ̄ ∘ W_1)ᵀ
        b1_bar[...], b2_bar[...] = _total(u_bar), _total(a)
        c1_bar[...], c2_bar[...] = t * b1_bar, t * b2_bar
        return u_bar @ W1.T, c1 @ b1_bar + c2 @ b2_bar, theta_bar

    return y @ W2 + (b2 + c2 * t), d @ mu, pullback


def two_hidden(net: Layered, z: Array, t: Scalar, theta: Array) -> Linearized:
    """f, the exact τ and their pullback for two hidden layers: O(h_1 h_2) per sample, whatever n."""
    (W1, b1, c1), (W2, b2, c2), (W3, b3, c3) = net.layers(theta)
    sigma1, sigma2 = net.sigmas[:2]
    u1 = z @ W1 + (b1 + c1 * t)
    y1 = sigma1.value(u1)
    u2 = y1 @ W2 + (b2 + c2 * t)
    y2 = sigma2.value(u2)
    d1, d2 = sigma1.slope(u1, y1), sigma2.slope(u2, y2)
    P = (W3 @ W1).T  # (h_1, h_2)
    N = W2 * P
    r1 = d2 @ N.T  # N σ′(u_2), (..., h_1)

    def pullback(a: Array, c: Array) -> tuple[Array, Array, Array]:
        theta_bar = np.empty(net.m, dtype=np.result_type(y2, theta, a, c))
        (W1_bar, b1_bar, c1_bar), (W2_bar, b2_bar, c2_bar), (W3_bar, b3_bar, c3_bar) = net.layers(theta_bar)
        c = c[..., None]
        e1, e2 = sigma1.curvature(u1, y1, d1), sigma2.curvature(u2, y2, d2)
        u2_bar = d2 * (a @ W3.T) + c * e2 * (d1 @ N)  # ū_2 = σ′ ∘ a W_3ᵀ + c σ″ ∘ σ′(u_1) N
        u1_bar = d1 * (u2_bar @ W2.T) + c * e1 * r1  # ū_1 = σ′ ∘ ū_2 W_2ᵀ + c σ″ ∘ N σ′(u_2)
        N_bar = _rows(c * d1).T @ _rows(d2)  # N̄ = Σ c σ′(u_1)ᵀ σ′(u_2)
        P_bar = (N_bar * W2).T  # cotangent of W_3 W_1, (h_2, h_1)
        W1_bar[...] = _rows(z).T @ _rows(u1_bar) + W3.T @ P_bar  # W̄_l = x_{l−1}ᵀ ū_l, and what τ adds
        W2_bar[...] = _rows(y1).T @ _rows(u2_bar) + N_bar * P
        W3_bar[...] = _rows(y2).T @ _rows(a) + P_bar @ W1.T
        b1_bar[...], b2_bar[...], b3_bar[...] = _total(u1_bar), _total(u2_bar), _total(a)
        c1_bar[...], c2_bar[...], c3_bar[...] = t * b1_bar, t * b2_bar, t * b3_bar
        return u1_bar @ W1.T, c1 @ b1_bar + c2 @ b2_bar + c3 @ b3_bar, theta_bar

    return y2 @ W3 + (b3 + c3 * t), np.sum(d1 * r1, axis=-1), pullback


def any_depth(net: Layered, z: Array, t: Scalar, theta: Array, V: Array, weight: float) -> Linearized:
    """f, κ Σ_k V_k·∇§1 f V_k and their pullback, for directions V (K, ..., n) of common weight κ."""
    dz, JV, pull = linearize_jvp(net, z, t, theta, V)
    tau = weight * np.sum(V * JV, axis=(0, -1))
    return dz, tau, lambda a, c: pull(a, weight * c[..., None] * V)


def linearize_jvp(net: Layered, z: Array, t: Scalar, theta: Array, V: Array) -> tuple[Array, Array, DivergencePullback]:
    """f (..., n), ∇§1 f V (K, ..., n), and the pullback of both; V, (K, ..., n), is held constant."""
    x, T, kept = z, V, []
    for (W, b, c), sigma in zip(net.layers(theta), net.sigmas, strict=True):
        u, Q = x @ W + (b + c * t), T @ W  # Q_l = T_{l−1} W_l, the tangent of u_l
        y = sigma.value(u)
        d = sigma.slope(u, y)
        kept.append((x, T, Q, d, sigma.curvature(u, y, d), W, c))
        x, T = y, d * Q  # T_l = σ′(u_l) ∘ Q_l

    def pullback(a: Array, JV_bar: Array) -> tuple[Array, Array, Array]:
        theta_bar = np.empty(net.m, dtype=np.result_type(x, theta, a, JV_bar))
        t_bar = np.zeros((), dtype=theta_bar.dtype)
        x_bar, T_bar = a, JV_bar
        for (x_in, T_in, Q, d, e, W, c), (W_bar, b_bar, c_bar) in zip(
            reversed(kept), reversed(list(net.layers(theta_bar))), strict=True
        ):
            Q_bar = d * T_bar  # Q̄_l = σ′ ∘ T̄_l
            u_bar = d * x_bar + e * np.sum(T_bar * Q, axis=0)  # ū_l = σ′ ∘ x̄_l + σ″ ∘ Σ_k T̄_l ∘ Q_l
            W_bar[...] = _rows(x_in).T @ _rows(u_bar) + _rows(T_in).T @ _rows(Q_bar)
            b_bar[...] = _total(u_bar)
            c_bar[...] = t * b_bar
            t_bar = t_bar + c @ b_bar
            x_bar, T_bar = u_bar @ W.T, Q_bar @ W.T
        return x_bar, t_bar, theta_bar

    return x, T, pullback


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _total(x: Array) -> Array:
    """The sum over the batch, as a product with ones: a third of the time of `sum`."""
    rows = _rows(x)
    return np.asarray(np.ones(len(rows)) @ rows)
