"""A multilayer perceptron as a vector field f(z, t, θ), differentiated by hand.

Every layer is affine in its input and in time, and an activation follows; the last one's is the identity:

    x_0 = z,    u_l = x_{l−1} W_l + b_l + c_l t,    x_l = σ_l(u_l),    f = x_L

Rows are samples, so W_l is (width in, width out), the transpose of the note's columns. Reverse mode reads the same
lines from the last to the first. This is the f of the note's sections 1 to 3.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from refode import activations, mlp_divergence
from refode.arguments import count, tolerance
from refode.density_tape import DensityTape
from refode.divergence import DivergencePullback, directions
from refode.mlp_tape import MLPTape
from refode.tape import Tape
from refode.types import Array, Pullback, Scalar


class MLP:
    """Vector field of a fully connected network.

    Parameters
    ----------
    sizes : widths (n, h_1, ..., h_{L−1}, n) of the layers; the first and the last are the state dimension
    activation : "tanh", "softplus", "sine", "sigmoid", "identity", or an `Activation`
    time : whether t is fed to every layer (c_l above); without it the field is autonomous

    Raises ValueError for fewer than two sizes, different ends, or an unknown activation.
    Note: D02 (§1), D35 (§2.2), P22, E16, E17.
    """

    def __init__(
        self, sizes: Sequence[int], activation: str | activations.Activation = "tanh", time: bool = True
    ) -> None:
        if not isinstance(sizes, Sequence | np.ndarray) or isinstance(sizes, str):
            raise TypeError(f"sizes must be a sequence of widths, got {sizes!r}")
        self.sizes = tuple(count("sizes", size) for size in sizes)
        if len(self.sizes) < 2 or self.sizes[0] != self.sizes[-1]:
            raise ValueError(f"sizes must begin and end with the state dimension, got {list(self.sizes)}")
        self.activation = activations.activation(activation)
        self.time = bool(time)
        self.n = self.sizes[0]
        self.m = sum((fan_in + 1 + self.time) * fan_out for fan_in, fan_out in pairwise(self.sizes))
        self.sigmas: Sequence[activations.Activation] = [self.activation] * (len(self.sizes) - 2) + [
            activations.IDENTITY
        ]  # σ_1, ..., σ_L

    def __repr__(self) -> str:
        return f"MLP({list(self.sizes)}, {self.activation.name!r}, time={self.time})"

    def layers(self, theta: Array) -> Iterator[tuple[Array, Array, Array]]:
        """Views (W, b, c) of each layer's parameters, (in, out), (out,) and (out,); without time, c is a constant 0."""
        for block, fan_in in zip(self.blocks(theta), self.sizes, strict=False):
            yield block[:fan_in], block[fan_in], block[fan_in + 1] if self.time else np.zeros_like(block[fan_in])

    def blocks(self, theta: Array) -> Iterator[Array]:
        """Views [W; b; c] of each layer's parameters, (in + 1 or 2, out).

        The one place that knows the layout: θ is the layers one after another, each the rows of W, then b, then c.
        """
        start = 0
        for fan_in, fan_out in pairwise(self.sizes):
            rows = fan_in + 1 + self.time
            yield theta[start : start + rows * fan_out].reshape(rows, fan_out)
            start += rows * fan_out

    def init(self, rng: np.random.Generator, gain: float = 1.0) -> Array:
        """Random θ (m,): a layer's entries are N(0, gain²/width in), so that signals keep their size with depth."""
        gain = tolerance("gain", gain, 0.0)
        theta = np.empty(self.m)
        for W, b, c in self.layers(theta):
            for block in (W, b, c):
                block[...] = rng.normal(0.0, gain / np.sqrt(len(W)), block.shape)
        return theta

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        """dz/dt, (..., n)."""
        x = z
        for (W, b, c), sigma in zip(self.layers(theta), self.sigmas, strict=True):
            x = sigma.value(x @ W + (b + c * t))  # x_l = σ_l(x_{l−1} W_l + b_l + c_l t)
        return x

    def linearize(self, z: Array, t: Scalar, theta: Array) -> tuple[Array, Pullback]:
        """dz/dt, and the closure that pulls a cotangent back through it: `pullback(a)` is `vjp` at this point."""
        x, kept = z, []
        for (W, b, c), sigma in zip(self.layers(theta), self.sigmas, strict=True):
            u = x @ W + (b + c * t)  # u_l = x_{l−1} W_l + b_l + c_l t
            y = sigma.value(u)  # x_l = σ_l(u_l)
            kept.append((x, sigma.slope(u, y), W, c))
            x = y

        def pullback(a: Array) -> tuple[Array, Array, Array]:
            theta_bar = np.empty(self.m, dtype=np.result_type(x, theta, a))
            t_bar = np.zeros((), dtype=theta_bar.dtype)
            x_bar = a  # f = x_L
            for (x_in, slope, W, c), (W_bar, b_bar, c_bar) in zip(
                reversed(kept), reversed(list(self.layers(theta_bar))), strict=True
            ):
                u_bar = x_bar * slope  # ū_l = x̄_l ∘ σ_l′(u_l)
                W_bar[...] = _rows(x_in).T @ _rows(u_bar)  # W̄_l = Σ x_{l−1}ᵀ ū_l, over the batch
                b_bar[...] = _rows(u_bar).sum(axis=0)  # b̄_l = Σ ū_l
                c_bar[...] = t * b_bar  # c̄_l = t Σ ū_l
                t_bar = t_bar + c @ b_bar  # t̄ = Σ_l c_l · Σ ū_l
                x_bar = u_bar @ W.T  # x̄_{l−1} = ū_l W_lᵀ
            return x_bar, t_bar, theta_bar

        return x, pullback

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        """(a·∇§1 f, a·∇§2 f, a·∇§3 f), shapes (..., n), (), (m,); the last two summed over the batch."""
        return self.linearize(z, t, theta)[1](a)

    def jvp(self, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
        """∇§1 f·dz + ∇§2 f·dt + ∇§3 f·dθ, (..., n): forward mode, tangents beside values."""
        x, dx = z, dz
        for (W, b, c), (dW, db, dc), sigma in zip(self.layers(theta), self.layers(dtheta), self.sigmas, strict=True):
            u = x @ W + (b + c * t)
            du = dx @ W + x @ dW + (db + dc * t + c * dt)  # the product rule on the line above
            x = sigma.value(u)
            dx = sigma.slope(u, x) * du  # dx_l = σ_l′(u_l) ∘ du_l
        return dx

    def jacobian(self, z: Array, t: Scalar, theta: Array) -> Array:
        """∇§1 f, (..., n, n), outputs as rows: n tangents pushed forward at once."""
        x, dx = z, np.eye(self.n)  # dx[..., j, :] = ∂x/∂z_j
        for (W, b, c), sigma in zip(self.layers(theta), self.sigmas, strict=True):
            u = x @ W + (b + c * t)
            x = sigma.value(u)
            dx = (dx @ W) * sigma.slope(u, x)[..., None, :]  # ∂x_l/∂z_j = σ_l′(u_l) ∘ (∂x_{l−1}/∂z_j W_l)
        return np.swapaxes(dx, -1, -2)

    def jvp_vjp(self, z: Array, t: Scalar, theta: Array, v: Array, w: Array) -> tuple[Array, Array, Array]:
        """The VJP, with cotangent w (..., n), of (z, t, θ) ↦ ∇§1 f·v: three blocks, by reverse over forward mode."""
        _, _, pullback = mlp_divergence.linearize_jvp(self, z, t, theta, v[None])
        return pullback(np.zeros_like(w), w[None])

    def tape(self, shape: tuple[int, ...]) -> Tape | None:
        """Room for a solve's evaluations on states of that shape, (..., n); a subclass may mean another f: None."""
        return MLPTape(self, math.prod(shape[:-1])) if type(self) is MLP else None

    def density_tape(self, shape: tuple[int, ...]) -> Tape | None:
        """Likewise for (f, −τ) on states (z, Δ) of that shape, (..., n + 1); None but for one hidden layer."""
        one_hidden = type(self) is MLP and len(self.sizes) == 3
        return DensityTape(self, math.prod(shape[:-1])) if one_hidden else None

    def linearize_divergence(
        self, z: Array, t: Scalar, theta: Array, probes: Array | None = None
    ) -> tuple[Array, Array, DivergencePullback]:
        """f, τ = tr ∇§1 f and their pullback, activations shared; the closed form where there is one for this depth."""
        closed = {3: mlp_divergence.one_hidden, 4: mlp_divergence.two_hidden}.get(len(self.sizes))
        if probes is None and closed is not None:
            return closed(self, z, t, theta)
        return mlp_divergence.any_depth(self, z, t, theta, *directions(z, probes))


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
