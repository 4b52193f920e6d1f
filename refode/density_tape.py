"""The tape of an MLP's density, one hidden layer: the lines of `mlp_divergence.one_hidden` beside the MLP's own.

Of ū = σ′ ∘ a W_2ᵀ + c σ″ ∘ μ, the cotangent of the hidden layer, c = −a_Δ that of τ (and c̄_1 of the weights of time),
the second part is never made. Only its two products are wanted, and they are thin:

    z̄ += c (σ″ (μ ∘ W_1)ᵀ),        [W̄_1; b̄_1; c̄_1] += (c [z, 1, t])ᵀ σ″ ∘ μ

And of y = tanh u neither σ′ on the way there nor σ″ is made, but y² and y σ′, an array operation less each:

    −τ = −σ′·μ = y²·μ − Σμ,        σ″ = −2 y σ′
"""

import numpy as np

from refode.activations import TANH
from refode.mlp_tape import Layered, MLPTape, Slot, in_place
from refode.types import Array


class DensityTape(MLPTape):
    """Evaluations of (f, −τ) on states (z, Δ), (B, n + 1)."""

    def __init__(self, net: Layered, B: int) -> None:
        super().__init__(net, B)
        (fan_in, width), self.of_tanh = self.weights[0].shape, net.sigmas[0] is TANH
        self.curvature, self.scale = in_place(net.sigmas[0].curvature), -2.0 if self.of_tanh else 1.0
        self.made = self.scratch[0]  # y² or σ′ on the way there, y σ′ or σ″ on the way back: σ″ is `scale` of it
        self.mu_bar, self.second = np.zeros(width), np.zeros((width, fan_in))  # of the latter's row k μ_k is left out
        # Products with these copy columns, in a third of the time that copying takes where they are few.
        n, last = net.n, np.eye(net.n + 1)[:, -1:]
        self.z_alone, self.z_and_zero = np.eye(n + 1, n), np.eye(n, n + 1)
        self.c_like_z, self.c_like_x = -last.repeat(n, axis=1), -last.repeat(fan_in, axis=1)
        self.f, self.a, self.z_bar, self.added, self.c = (np.empty((B, n)) for _ in range(5))
        self.c_wide, self.cx = np.empty((B, fan_in)), np.empty((B, fan_in))
        thin = (self.f, self.a, self.z_bar, self.added, self.c, self.c_wide, self.cx)
        self.scratch_bytes += sum(array.nbytes for array in thin)

    def bind(self, theta: Array) -> None:
        super().bind(theta)
        (self.W1, _, _), (self.W2, _, _) = self.net.layers(theta)
        self.mu = np.einsum("ik,ki->k", self.W1, self.W2)
        self.mu_W1, self.total_mu = (self.scale * self.mu * self.W1).T.copy(), self.mu.sum()

    def rewind(self) -> None:
        super().rewind()
        self.mu_bar.fill(0.0)
        self.second.fill(0.0)

    def linearize(self, s: int, z: Array, t: float, out: Array) -> None:
        super().linearize(s, z[:, :-1], t, self.f)
        self.f.dot(self.z_and_zero, out)
        slot = self.slots[s]
        y = slot.x[1]
        if self.of_tanh:
            np.multiply(y, y, self.made)
            np.subtract(self.made.dot(self.mu), self.total_mu, out[:, -1])  # −τ = y²·μ − Σμ
        else:
            self.sigma_slopes[0](slot.u[0], y, self.made)
            np.negative(self.made.dot(self.mu), out[:, -1])  # −τ = −σ′(u)·μ

    def pullback(self, s: int, a: Array, out: Array) -> None:
        super().pullback(s, a.dot(self.z_alone, self.a), self.z_bar)
        if a[0, -1] or a[:, -1].any():  # not at a stage with b_i = 0: a_Δ comes from a step's end alone
            self._second_order(self.slots[s], a)
        self.z_bar.dot(self.z_and_zero, out)  # f and τ don't depend on Δ

    def _second_order(self, slot: Slot, a: Array) -> None:
        slope, made = slot.slopes[0], self.made
        a.dot(self.c_like_z, self.c)  # c = −a_Δ, in n columns and in as many as [z, 1, t] has
        a.dot(self.c_like_x, self.c_wide)
        self.mu_bar += self.c_wide[:, 0].dot(slope)  # μ̄ = Σ c σ′
        if self.of_tanh:
            made = np.multiply(slope, slot.x[1], slope)  # y σ′, over σ′, which nobody asks for again
        else:
            self.curvature(slot.u[0], slot.x[1], slope, made)
        made.dot(self.mu_W1, self.added)
        self.added *= self.c
        self.z_bar += self.added
        self.second += made.T.dot(np.multiply(self.c_wide, slot.x[0], self.cx))

    def theta_bar(self) -> Array:
        theta_bar = super().theta_bar()
        first_bar, _ = self.net.blocks(theta_bar)
        first_bar += (self.second * (self.scale * self.mu[:, None])).T
        (W1_bar, _, _), (W2_bar, _, _) = self.net.layers(theta_bar)
        W1_bar += self.mu_bar * self.W2.T
        W2_bar += (self.mu_bar * self.W1).T
        return theta_bar
