"""The tape of an MLP's density, one hidden layer: the lines of `mlp_divergence.one_hidden` beside the MLP's own.

Of ū = σ′ ∘ a W_2ᵀ + c σ″ ∘ μ, the cotangent of the hidden layer, the second part is never made. Only its two products
are wanted, and they are thin:

    z̄ += c (σ″ (μ ∘ W_1)ᵀ),        [W̄_1; b̄_1; c̄_1] += (c [z, 1, t])ᵀ σ″ ∘ μ
"""

import numpy as np

from refode.mlp_tape import Layered, MLPTape, Slot, clear, in_place
from refode.types import Array


class DensityTape(MLPTape):
    """Evaluations of (f, −τ) on states (z, Δ), (B, n + 1)."""

    def __init__(self, net: Layered, B: int) -> None:
        super().__init__(net, B)
        fan_in, width = self.weights[0].shape
        self.curvature = in_place(net.sigmas[0].curvature)
        self.mu, self.mu_W1 = np.zeros(width), np.zeros((width, net.n))
        self.derivative = np.empty((B, width))  # σ′ on the way there, σ″ on the way back
        self.mu_bar, self.second = np.zeros(width), np.zeros((width, fan_in))  # of the latter's row k μ_k is left out
        # z and Δ apart, and together: a product copies narrow columns in a third of the time.
        self.apart, self.together = np.eye(net.n + 1, net.n), np.eye(net.n, net.n + 1)
        self.f, self.a, self.z_bar, self.added = (np.empty((B, net.n)) for _ in range(4))
        self.c, self.cx = np.empty((B, 1)), np.empty((B, fan_in))

    def bind(self, theta: Array) -> None:
        super().bind(theta)
        (self.W1, _, _), (self.W2, _, _) = self.net.layers(theta)
        mu = np.einsum("ik,ki->k", self.W1, self.W2)
        self.mu[: mu.size], self.mu_W1[: mu.size] = mu, (mu * self.W1).T

    def rewind(self) -> None:
        super().rewind()
        self.mu_bar.fill(0.0)
        self.second.fill(0.0)

    def linearize(self, s: int, z: Array, t: float, out: Array) -> None:
        super().linearize(s, z[:, :-1], t, self.f)
        self.f.dot(self.together, out)
        slot = self.slots[s]
        self.sigma_slopes[0](slot.u[0], slot.x[1], self.derivative)
        clear(self.derivative, self.net.sizes[1])
        np.negative(self.derivative.dot(self.mu), out[:, -1])  # −τ = −σ′(u)·μ

    def pullback(self, s: int, a: Array, out: Array) -> None:
        super().pullback(s, a.dot(self.apart, self.a), self.z_bar)
        np.negative(a[:, -1:], self.c)
        self._second_order(self.slots[s])
        self.z_bar.dot(self.together, out)  # f and τ don't depend on Δ

    def _second_order(self, slot: Slot) -> None:
        slope, curvature = slot.slopes[0], self.derivative
        self.mu_bar += self.c[:, 0].dot(slope)  # μ̄ = Σ c σ′
        self.curvature(slot.u[0], slot.x[1], slope, curvature)
        clear(curvature, self.net.sizes[1])
        curvature.dot(self.mu_W1, self.added)
        self.added *= self.c
        self.z_bar += self.added
        self.second += curvature.T.dot(np.multiply(self.c, slot.x[0], self.cx))

    def theta_bar(self) -> Array:
        theta_bar, h = super().theta_bar(), self.net.sizes[1]
        first_bar, _ = self.net.blocks(theta_bar)
        first_bar += (self.second[:h] * self.mu[:h, None]).T
        (W1_bar, _, _), (W2_bar, _, _) = self.net.layers(theta_bar)
        W1_bar += self.mu_bar[:h] * self.W2.T
        W2_bar += (self.mu_bar[:h] * self.W1).T
        return theta_bar
