"""Planar flows: the discrete one of the note's section 3.1, and the continuous one that its section 3.4 left empty.

A planar unit moves points along u, by an amount that depends on w·z alone; f adds up K of them,

    s_k = w_k·z + b_k,    f = Σ_k h(s_k) u_k,    τ = tr ∇f = Σ_k h′(s_k) ρ_k,    ρ_k = w_k·u_k,    h = tanh

and that is all of the mathematics here. The discrete flow takes steps z + f(z) of one unit, whose determinant is 1 + τ.
A continuous flow is the ODE ż = f; its u, w, b are parameters, or come from a network of t, and a gate between 0 and 1
may scale u. Rows are samples.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from refode.activations import SIGMOID, SOFTPLUS
from refode.arguments import count, real_array, tolerance
from refode.divergence import DivergencePullback, directions
from refode.types import Array, Pullback, Scalar

Units: TypeAlias = tuple[Array, Array, Array]
"""u (K, n), w (K, n), b (K,) of K units, or their cotangents, or their tangents."""

UnitsPullback: TypeAlias = Callable[..., tuple[Array, Units]]
"""A cotangent of what the units computed -> those of z and of the units."""

Contraction: TypeAlias = tuple[Array, Callable[[Array], tuple[Array, Array]]]
"""ρ, and its pullback: ρ̄ (..., K) -> (ū, w̄)."""

ROUNDING = float(np.finfo(float).eps)
SPACING = float(np.finfo(float).smallest_subnormal)  # of the numbers next to 0, whose rounding is not relative
LARGEST_EXPONENT = 350.0  # e^(2·350) is a float, e^(2·360) is none
POINTS, WEIGHTS = (0.5 * x for x in np.polynomial.legendre.leggauss(7))
GAUSS = list(zip(0.5 + POINTS, WEIGHTS, strict=True))  # the rule on [0, 1]
NEAR_ZERO = 0.4  # where that rule finds the mean of tanh σ_s, and its derivatives, to rounding: `planar_closed_form`


# ---- K planar units ---------------------------------------------------------------------------------------------


def _linearize(z: Array, units: Units) -> tuple[Array, UnitsPullback]:
    """f (..., n), and pullback(a)."""
    u, w, b = units
    y = np.tanh(z @ w.T + b)  # y_k = h(s_k), (..., K)

    def pullback(a: Array) -> tuple[Array, Units]:
        s_bar = (1.0 - y * y) * (a @ u.T)  # f = h(s) u:  s̄ = h′(s) ∘ a uᵀ
        u_bar = _rows(y).T @ _rows(a)  # and ū = Σ h(s)ᵀ a, over the batch
        w_bar = _rows(s_bar).T @ _rows(z)  # s = z wᵀ + b:  w̄ = Σ s̄ᵀ z
        return s_bar @ w, (u_bar, w_bar, _total(s_bar))

    return y @ u, pullback


def _linearize_trace(z: Array, units: Units, contraction: Contraction) -> tuple[Array, Array, UnitsPullback]:
    """f (..., n), τ = Σ_k h′(s_k) ρ_k (...), and pullback(a, c)."""
    u, w, b = units
    rho, rho_pullback = contraction
    y = np.tanh(z @ w.T + b)  # h(s)
    d = 1.0 - y * y  # h′(s)

    def pullback(a: Array, c: Array) -> tuple[Array, Units]:
        c = c[..., None]
        u_rho, w_rho = rho_pullback(c * d)  # τ = h′(s)·ρ:  ρ̄ = c h′(s)
        s_bar = d * (a @ u.T - 2.0 * y * (c * rho))  # s̄ = h′ ∘ a uᵀ + h″ ∘ c ρ, with h″ = −2 h h′
        u_bar = _rows(y).T @ _rows(a) + u_rho
        w_bar = _rows(s_bar).T @ _rows(z) + w_rho
        return s_bar @ w, (u_bar, w_bar, _total(s_bar))

    return y @ u, np.einsum("...k,...k->...", d, rho), pullback


def _exact(u: Array, w: Array) -> Contraction:
    """ρ_k = w_k·u_k, (K,): the trace itself, O(K) per sample."""

    def pullback(rho_bar: Array) -> tuple[Array, Array]:
        total = _total(rho_bar)[:, None]
        return total * w, total * u

    return np.sum(w * u, axis=-1), pullback


def _sandwiched(u: Array, w: Array, left: Array, right: Array, weight: float) -> Contraction:
    """ρ_k = κ Σ_p (l_p·u_k) (w_k·r_p), (..., K), for weight κ, l and r (P, ..., n): makes τ of κ Σ_p l_p·∇f r_p."""
    along, across = left @ u.T, right @ w.T  # (P, ..., K)

    def pullback(rho_bar: Array) -> tuple[Array, Array]:
        return (
            weight * _rows(rho_bar * across).T @ _rows(left),  # ū_k = κ Σ ρ̄_k (w_k·r_p) l_p
            weight * _rows(rho_bar * along).T @ _rows(right),  # w̄_k = κ Σ ρ̄_k (l_p·u_k) r_p
        )

    return weight * np.sum(along * across, axis=0), pullback


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _total(x: Array) -> Array:
    total: Array = _rows(x).sum(axis=0)
    return total


# ---- the discrete flow ------------------------------------------------------------------------------------------


def constrain(u: Array, w: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """û (..., n) with w·û = log(1 + e^(w·u)) − 1 > −1, which makes a layer invertible, and the pullback û̄ -> (ū, w̄).

    û = u + (m(w·u) − w·u) w/|w|², m(x) = log(1 + eˣ) − 1, for w ≠ 0: Rezende and Mohamed 2015, appendix A.1.
    """
    x = np.sum(w * u, axis=-1, keepdims=True)
    N = np.sum(w * w, axis=-1, keepdims=True)
    r = (SOFTPLUS.value(-x) - 1.0) / N  # (m(x) − x)/|w|², since log(1 + eˣ) − x = log(1 + e⁻ˣ)

    def pullback(u_hat_bar: Array) -> tuple[Array, Array]:
        r_bar = np.sum(u_hat_bar * w, axis=-1, keepdims=True)  # û = u + r w:  r̄ = û̄·w
        x_bar = -r_bar * SIGMOID.value(-x) / N  # r = (log(1 + e⁻ˣ) − 1)/N
        N_bar = -r_bar * r / N
        return u_hat_bar + x_bar * w, r * u_hat_bar + x_bar * u + 2.0 * N_bar * w  # x = w·u, N = w·w

    return u + r * w, pullback


class PlanarFlow:
    """The discrete planar flow z_K = g_K(… g_1(z_0)), g(z) = z + u h(w·z + b) (Rezende and Mohamed 2015).

    Parameters
    ----------
    n : dimension of z
    layers : number K of steps
    constrained : whether u is replaced by the û of `constrain`, so that every θ is an invertible flow. Without it a
        layer with w·u < −1 folds space; `forward` maps all the same, `inverse` and `logpdf` refuse

    `linearize` and `vjp` take complex arguments too and check nothing, as those of a vector field; the other methods
    raise TypeError or ValueError for bad input, before any work.
    Note: D36-D42 (§3.1, §3.2), P27, P28, P30.
    """

    def __init__(self, n: int, layers: int, constrained: bool = True) -> None:
        self.n, self.layers, self.constrained = count("n", n), count("layers", layers), bool(constrained)
        self.m = self.layers * (2 * self.n + 1)

    def __repr__(self) -> str:
        return f"PlanarFlow({self.n}, {self.layers}, constrained={self.constrained})"

    def split(self, theta: Array) -> tuple[Array, Array, Array]:
        """Views u (K, n), w (K, n), b (K,): θ is the layers one after another, each u, then w, then b."""
        block = theta.reshape(self.layers, 2 * self.n + 1)
        return block[:, : self.n], block[:, self.n : -1], block[:, -1]

    def init(self, rng: np.random.Generator, gain: float = 1.0) -> Array:
        """Random θ (m,): w and b so that w·z + b keeps the size of z, u so that K layers move it by about its size."""
        return _init(rng, gain, np.tile(_unit_scale(self.n, self.layers, 1), self.layers))

    def forward(self, z: Array, theta: Array) -> tuple[Array, Array]:
        """z_K (..., n) and Σ_k log |det ∇g_k| (...), for z (..., n) and θ (m,).

        Note: D39 (§3.1), D40, E24.
        """
        return self.linearize(real_array("z", z, ("...", self.n)), self._checked(theta))[:2]

    def linearize(self, z: Array, theta: Array) -> tuple[Array, Array, Callable[[Array, Array], tuple[Array, Array]]]:
        """z_K, Σ_k log |det ∇g_k|, and pullback(a, c) -> (z̄_0, θ̄), for cotangents a (..., n) and c (...)."""
        u, w, b, u_pullback = self._layers(theta)
        log_det, kept = np.zeros(z.shape[:-1]), []
        for k in range(self.layers):
            dz, det, pull = _layer(z, u[k : k + 1], w[k : k + 1], b[k : k + 1])
            z, log_det = z + dz, log_det + np.log(_abs(det))  # z_k = z_{k−1} + u h(s)
            kept.append((det, pull))

        def pullback(a: Array, c: Array) -> tuple[Array, Array]:
            theta_bar = np.empty(self.m, dtype=np.result_type(z, theta, a, c))
            u_bar, w_bar, b_bar = self.split(theta_bar)
            for k, (det, pull) in reversed(list(enumerate(kept))):
                dz_bar, (u_bar[k], w_bar[k], b_bar[k : k + 1]) = pull(a, c / det)  # log |1 + τ|:  τ̄ = c/det
                a = a + dz_bar  # z̄_{k−1} = a + a·∇f + τ̄ ∇τ
            u_bar[...], w_extra = u_pullback(u_bar)
            w_bar += w_extra
            return a, theta_bar

        return z, log_det, pullback

    def vjp(self, z: Array, theta: Array, a: Array, c: Array) -> tuple[Array, Array]:
        """(z̄_0, θ̄), shapes (..., n) and (m,), from cotangents a of z_K and c of the log-determinant."""
        return self.linearize(z, theta)[2](a, c)

    def inverse(self, z: Array, theta: Array) -> Array:
        """z_0 (..., n) with forward(z_0, theta) = z_K, for z_K (..., n).

        Along w a layer is one equation for s = w·z_{k−1} + b, which `_along_normal` solves to rounding; a rounding of
        z_k grows by up to 1 + |u||w|/|det ∇g_k|. ValueError if a layer has w·u < −1: it is not injective.
        Note: P27 (§3.1), E27.
        """
        z, theta = real_array("z", z, ("...", self.n)), self._checked(theta)
        u, w, b, _ = self._layers(theta)
        kappa = np.sum(w * u, axis=-1)
        if not self.constrained and (kappa < -1.0).any():
            k = int(np.argmin(kappa))
            raise ValueError(f"theta has no inverse: layer {k} has w·u = {kappa[k]:.6g}, which must be at least -1")
        for k in reversed(range(self.layers)):
            s = _along_normal(z @ w[k] + b[k], kappa[k])
            z = z - np.tanh(s)[..., None] * u[k]  # z_{k−1} = z_k − u h(s)
        return z

    def logpdf(self, x: Array, theta: Array, base_logpdf: Callable[[Array], Array]) -> Array:
        """log p_K(x) = log p_0(z_0) − Σ_k log |det ∇g_k(z_{k−1})|, (...), for x (..., n), with z_0 = inverse(x, theta).

        base_logpdf : log p_0, (..., n) -> (...). ValueError for another shape.
        Note: D40 (§3.1), E23, E24, P28.
        """
        z = self.inverse(x, theta)
        base = np.asarray(base_logpdf(z))
        if base.shape != z.shape[:-1]:
            raise ValueError(f"base_logpdf must return shape {z.shape[:-1]} for z {z.shape}, got {base.shape}")
        return np.asarray(base - self.forward(z, theta)[1])

    def _layers(self, theta: Array) -> tuple[Array, Array, Array, Callable[[Array], tuple[Array, Array]]]:
        """u as the layers use it, w, b, and what takes a cotangent of that u to those of the u and w in θ."""
        u, w, b = self.split(theta)
        if not self.constrained:
            return u, w, b, lambda u_bar: (u_bar, np.zeros_like(u_bar))
        u_hat, pullback = constrain(u, w)
        return u_hat, w, b, pullback

    def _checked(self, theta: Array) -> Array:
        theta = real_array("theta", theta, (self.m,))
        w = self.split(theta)[1]
        if self.constrained and not w.any(axis=-1).all():
            k = int(np.argmin(w.any(axis=-1)))
            raise ValueError(f"theta must have w != 0 in every layer of a constrained flow; layer {k} has w = 0")
        return theta


def _layer(z: Array, u: Array, w: Array, b: Array) -> tuple[Array, Array, UnitsPullback]:
    """u h(w·z + b) (..., n), det(I + h′ u wᵀ) = 1 + h′ w·u (...), and pullback(a, τ̄): one unit."""
    dz, tau, pullback = _linearize_trace(z, (u, w, b), _exact(u, w))
    return dz, 1.0 + tau, pullback


def _abs(x: Array) -> Array:
    """|x| for real x, written so that complex step passes."""
    return np.where(np.real(x) < 0, -x, x)


def _along_normal(r: Array, kappa: float) -> Array:
    """The s with s + κ h(s) = r, elementwise, for κ ≥ −1, until both sides agree to rounding.

    The left side is odd and increasing. For r ≥ 0 the root lies between max(r − κ, 0) and r; there the left side is
    concave if κ > 0, convex if κ < 0, so that Newton from max(r − κ, 0) goes to the root, upward if κ > 0, and never
    steps over it. It ends where what is lacking is rounding, or has the other sign, which is rounding too. More than
    eps (s + |κ| h) moves s, since that over the slope is at least eps s: h ≥ s h′. Near 0 the nearest s may be off by
    half of SPACING, the left side by (1 + κ)/2 of it: at most κ SPACING if κ ≥ 1, and if κ < 1 whatever is lacking
    moves s.
    """
    kappa, size = max(kappa, -1.0), np.abs(r)  # a constrained w·u may round to below −1
    s = np.maximum(size - kappa, 0.0)
    while True:
        y = np.tanh(s)
        lack = size - (s + kappa * y)
        onward = np.sign(kappa) * lack > ROUNDING * s + abs(kappa) * (ROUNDING * y + SPACING)
        if not onward.any():
            return np.copysign(s, r)
        s = np.where(onward, s + lack / (1.0 + kappa * (1.0 - y * y)), s)


# ---- continuous flows -------------------------------------------------------------------------------------------


class _Planar(ABC):
    """The vector field of K planar units, wherever at time t they come from."""

    n: int
    m: int

    @abstractmethod
    def units(self, t: Scalar, theta: Array) -> tuple[Units, Callable[[Units], tuple[Array, Array]]]:
        """u, w, b at time t, and the pullback of their cotangents to those of t () and θ (m,)."""

    @abstractmethod
    def units_jvp(self, t: Scalar, theta: Array, dt: Scalar, dtheta: Array) -> Units:
        """The tangents of u, w, b."""

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        """dz/dt, (..., n)."""
        (u, w, b), _ = self.units(t, theta)
        dz: Array = np.tanh(z @ w.T + b) @ u  # f = Σ_k h(w_k·z + b_k) u_k
        return dz

    def linearize(self, z: Array, t: Scalar, theta: Array) -> tuple[Array, Pullback]:
        """dz/dt, and `pullback(a)`, the VJP at this point."""
        units, units_pullback = self.units(t, theta)
        dz, pull = _linearize(z, units)

        def pullback(a: Array) -> tuple[Array, Array, Array]:
            z_bar, units_bar = pull(a)
            return z_bar, *units_pullback(units_bar)

        return dz, pullback

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        """(a·∇§1 f, a·∇§2 f, a·∇§3 f), shapes (..., n), (), (m,); the last two summed over the batch."""
        return self.linearize(z, t, theta)[1](a)

    def jvp(self, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
        """∇§1 f·dz + ∇§2 f·dt + ∇§3 f·dθ, (..., n)."""
        (u, w, b), _ = self.units(t, theta)
        du, dw, db = self.units_jvp(t, theta, dt, dtheta)
        y = np.tanh(z @ w.T + b)
        dy = (1.0 - y * y) * (dz @ w.T + z @ dw.T + db)
        df: Array = dy @ u + y @ du
        return df

    def jacobian(self, z: Array, t: Scalar, theta: Array) -> Array:
        """∇§1 f = Σ_k h′(s_k) u_k w_kᵀ, (..., n, n), outputs as rows."""
        (u, w, b), _ = self.units(t, theta)
        y = np.tanh(z @ w.T + b)
        J: Array = (u.T * (1.0 - y * y)[..., None, :]) @ w
        return J

    def jvp_vjp(self, z: Array, t: Scalar, theta: Array, v: Array, w: Array) -> tuple[Array, Array, Array]:
        """The VJP, with cotangent w (..., n), of (z, t, θ) ↦ ∇§1 f·v: the gradient of w·∇§1 f v, three blocks."""
        _, _, pullback = self._sandwich(z, t, theta, w[None], v[None], 1.0)
        return pullback(np.zeros_like(w), np.ones(z.shape[:-1]))

    def linearize_divergence(
        self, z: Array, t: Scalar, theta: Array, probes: Array | None = None
    ) -> tuple[Array, Array, DivergencePullback]:
        """f, τ = tr ∇§1 f, in O(K) per sample after f, and their pullback; or the estimate of τ by `probes`."""
        if probes is None:
            units, units_pullback = self.units(t, theta)
            return _to_blocks(_linearize_trace(z, units, _exact(units[0], units[1])), units_pullback)
        V, weight = directions(z, probes)
        return self._sandwich(z, t, theta, V, V, weight)

    def _sandwich(
        self, z: Array, t: Scalar, theta: Array, left: Array, right: Array, weight: float
    ) -> tuple[Array, Array, DivergencePullback]:
        """f, κ Σ_p l_p·∇§1 f r_p and their pullback."""
        units, units_pullback = self.units(t, theta)
        contraction = _sandwiched(units[0], units[1], left, right, weight)
        return _to_blocks(_linearize_trace(z, units, contraction), units_pullback)


def _to_blocks(
    linearized: tuple[Array, Array, UnitsPullback], units_pullback: Callable[[Units], tuple[Array, Array]]
) -> tuple[Array, Array, DivergencePullback]:
    """f, τ, and the pullback to z and the units continued to z, t and θ."""
    dz, tau, pull = linearized

    def pullback(a: Array, c: Array) -> tuple[Array, Array, Array]:
        z_bar, units_bar = pull(a, c)
        return z_bar, *units_pullback(units_bar)

    return dz, tau, pullback


def _gated(u: Array, q: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """v_k = g_k u_k behind the gates g = sigmoid(q), q (K,), and the pullback v̄ -> (ū, q̄)."""
    g = SIGMOID.value(q)

    def pullback(v_bar: Array) -> tuple[Array, Array]:
        g_bar = np.einsum("ki,ki->k", v_bar, u)
        return g[:, None] * v_bar, g * (1.0 - g) * g_bar  # σ′ = σ (1 − σ)

    return g[:, None] * u, pullback


def _gated_jvp(u: Array, q: Array, du: Array, dq: Array) -> Array:
    """The tangent of v."""
    g = SIGMOID.value(q)
    dg = g * (1.0 - g) * dq
    dv: Array = g[:, None] * du + dg[:, None] * u
    return dv


class ContinuousPlanar(_Planar):
    """ż = Σ_k g_k(t) h(w_k·z + b_k) u_k, the continuous planar flow (Chen et al. 2018, section 4).

    Parameters
    ----------
    n : dimension of z
    width : number K of units
    gated : whether g_k(t) = sigmoid(rate_k t + shift_k); without gates g = 1 and the field is autonomous

    No constraint is needed: the flow of a smooth field is invertible.
    Note: P51 (§3.4), E53.
    """

    def __init__(self, n: int, width: int = 1, gated: bool = False) -> None:
        self.n, self.width, self.gated = count("n", n), count("width", width), bool(gated)
        self.m = self.width * (2 * self.n + 1 + 2 * self.gated)

    def __repr__(self) -> str:
        return f"ContinuousPlanar({self.n}, {self.width}, gated={self.gated})"

    def split(self, theta: Array) -> tuple[Array, ...]:
        """Views u (K, n), w (K, n), b (K,), with gates also rate (K,), shift (K,): θ is the units one after another."""
        block, n = theta.reshape(self.width, self.m // self.width), self.n
        return block[:, :n], block[:, n : 2 * n], *block[:, 2 * n :].T

    def init(self, rng: np.random.Generator, gain: float = 1.0) -> Array:
        """Random θ (m,): w so that w·z keeps the size of z, u so that the sum over K units does."""
        return _init(rng, gain, np.tile(_unit_scale(self.n, self.width, 1 + 2 * self.gated), self.width))

    def units(self, t: Scalar, theta: Array) -> tuple[Units, Callable[[Units], tuple[Array, Array]]]:
        if not self.gated:
            u, w, b = self.split(theta)
            return (u, w, b), lambda units_bar: (np.zeros(()), self._packed(*units_bar))
        u, w, b, rate, shift = self.split(theta)
        v, gate_pullback = _gated(u, rate * t + shift)

        def pullback(units_bar: Units) -> tuple[Array, Array]:
            v_bar, w_bar, b_bar = units_bar
            u_bar, q_bar = gate_pullback(v_bar)  # q = rate t + shift
            return rate @ q_bar, self._packed(u_bar, w_bar, b_bar, q_bar * t, q_bar)

        return (v, w, b), pullback

    def _packed(self, *blocks: Array) -> Array:
        """θ of these views: the inverse of `split`."""
        theta = np.empty(self.m, dtype=np.result_type(*blocks))
        for view, block in zip(self.split(theta), blocks, strict=True):
            view[...] = block
        return theta

    def units_jvp(self, t: Scalar, theta: Array, dt: Scalar, dtheta: Array) -> Units:
        du, dw, db, *dgate = self.split(dtheta)
        if not self.gated:
            return du, dw, db
        u, _, _, rate, shift = self.split(theta)
        dq = dgate[0] * t + rate * dt + dgate[1]
        return _gated_jvp(u, rate * t + shift, du, dq), dw, db


class HyperPlanar(_Planar):
    """A continuous planar flow whose units move: u, w, b and gates at time t are the output of a network of t.

        x = tanh(α t + β),    (u, w, b, q) = x C + D,    ż = Σ_k sigmoid(q_k) h(w_k·z + b_k) u_k

    Parameters
    ----------
    n : dimension of z
    width : number K of units
    hidden : width H of the network's one hidden layer

    The time-dependent dynamics of Chen et al. 2018, section 4.
    Note: P51 (§3.4), E53.
    """

    def __init__(self, n: int, width: int, hidden: int) -> None:
        self.n, self.width, self.hidden = count("n", n), count("width", width), count("hidden", hidden)
        self.outputs = self.width * (2 * self.n + 2)
        self.m = (2 + self.outputs) * self.hidden + self.outputs

    def __repr__(self) -> str:
        return f"HyperPlanar({self.n}, {self.width}, {self.hidden})"

    def split(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """Views α (H,), β (H,), C (H, K(2n+2)), D (K(2n+2),), in this order."""
        H = self.hidden
        C_end = (2 + self.outputs) * H
        return theta[:H], theta[H : 2 * H], theta[2 * H : C_end].reshape(H, self.outputs), theta[C_end:]

    def _outputs(self, out: Array) -> tuple[Array, Array, Array, Array]:
        """Views u (K, n), w (K, n), b (K,), q (K,) of the network's output: unit after unit, each u, w, b, q."""
        block, n = out.reshape(self.width, 2 * self.n + 2), self.n
        return block[:, :n], block[:, n : 2 * n], block[:, 2 * n], block[:, 2 * n + 1]

    def init(self, rng: np.random.Generator, gain: float = 1.0) -> Array:
        """Random θ (m,): at t of about 1 the units are of the size of those of `ContinuousPlanar`."""
        D = np.tile(_unit_scale(self.n, self.width, 2), self.width)
        C = np.tile(D / np.sqrt(self.hidden), self.hidden)
        return _init(rng, gain, np.concatenate([np.ones(2 * self.hidden), C, D]))

    def units(self, t: Scalar, theta: Array) -> tuple[Units, Callable[[Units], tuple[Array, Array]]]:
        alpha, beta, C, D = self.split(theta)
        x = np.tanh(alpha * t + beta)
        u, w, b, q = self._outputs(x @ C + D)
        v, gate_pullback = _gated(u, q)

        def pullback(units_bar: Units) -> tuple[Array, Array]:
            theta_bar = np.empty(self.m, dtype=np.result_type(x, *units_bar))
            alpha_bar, beta_bar, C_bar, D_bar = self.split(theta_bar)
            u_bar, w_bar, b_bar, q_bar = self._outputs(D_bar)  # views: D̄ = (ū, w̄, b̄, q̄)
            v_bar, w_bar[...], b_bar[...] = units_bar
            u_bar[...], q_bar[...] = gate_pullback(v_bar)
            C_bar[...] = np.outer(x, D_bar)  # C̄ = xᵀ D̄
            beta_bar[...] = (1.0 - x * x) * (C @ D_bar)  # x = tanh(α t + β):  β̄ = (1 − x²) ∘ D̄ Cᵀ
            alpha_bar[...] = beta_bar * t
            return alpha @ beta_bar, theta_bar

        return (v, w, b), pullback

    def units_jvp(self, t: Scalar, theta: Array, dt: Scalar, dtheta: Array) -> Units:
        alpha, beta, C, D = self.split(theta)
        dalpha, dbeta, dC, dD = self.split(dtheta)
        x = np.tanh(alpha * t + beta)
        dx = (1.0 - x * x) * (dalpha * t + alpha * dt + dbeta)
        u, _, _, q = self._outputs(x @ C + D)
        du, dw, db, dq = self._outputs(dx @ C + x @ dC + dD)
        return _gated_jvp(u, q, du, dq), dw, db


def _unit_scale(n: int, width: int, others: int) -> Array:
    """Standard deviations of u, w and the other entries of one of `width` units."""
    return np.repeat([1.0 / np.sqrt(width), 1.0 / np.sqrt(n), 1.0], [n, n, others])


def _init(rng: np.random.Generator, gain: float, scale: Array) -> Array:
    return tolerance("gain", gain, 0.0) * scale * rng.normal(size=scale.shape)


def planar_closed_form(z0: Array, t: Scalar, u: Array, w: Array, b: Scalar) -> tuple[Array, Array]:
    """The continuous planar flow ż = u tanh(w·z + b) without a solver: z_t (..., n) and log p_t(z_t) − log p_0(z_0).

    With κ = w·u, σ_t = w·z_t + b and ρ_t² = tanh² σ_0 + e^(−2κt)/cosh² σ_0,

        sinh σ_t = e^(κt) sinh σ_0        sinh(σ_t − σ_0) = 2 tanh σ_0 sinh(κt)/(1 + ρ_t)
        z_t = z_0 + u (σ_t − σ_0)/κ       log p_t(z_t) = log p_0(z_0) + log ρ_t

    z0 (..., n), u, w (n,), t and b scalars, any of them complex; smooth through κ = 0. ValueError for |κt| > 350,
    where e^(2κt) is no float.
    Note: P51 (§3.4), E53.
    """
    kappa, sigma = w @ u, z0 @ w + b
    x: Any = kappa * t
    if abs(x) > LARGEST_EXPONENT:
        raise ValueError(f"|w·u t| must be at most {LARGEST_EXPONENT:g}, got {abs(x):.6g}")
    T = np.tanh(sigma)
    q = np.exp(-2.0 * _abs(sigma))
    sech2 = 4.0 * q / (1.0 + q) ** 2  # 1/cosh² σ_0, with q = e^(−2|σ_0|)

    def rho(x: Any) -> Array:
        return np.asarray(np.sqrt(T * T + np.exp(-2.0 * x) * sech2))

    if abs(x) > NEAR_ZERO:
        length = np.arcsinh(2.0 * T * np.sinh(x) / (1.0 + rho(x))) / kappa  # (σ_t − σ_0)/κ
    else:
        # The same as ∫ tanh σ_s ds, where nothing is divided by κ; tanh σ_s = tanh σ_0/ρ_s. Since ρ_s = 0 at the
        # distance π/2|κ| from real s, Gauss of 7 points errs by about r⁻¹⁴ < 2e-17, r = π/|x| + √(1 + π²/x²).
        length = t * sum(weight * T / rho(x * part) for part, weight in GAUSS)
    return z0 + np.asarray(length)[..., None] * u, np.log(rho(x))
