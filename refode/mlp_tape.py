"""The tape of an MLP, and that of its density: the lines of `MLP.linearize`, in arrays that are written again.

Two things make it fast. A layer's input carries the columns 1 and t, so that the layer is one product with the block
of θ as it lies there, and the block's gradient is another,

    u_l = [x_{l−1}, 1, t] [W_l; b_l; c_l],        [W̄_l; b̄_l; c̄_l] = Σ [x_{l−1}, 1, t]ᵀ ū_l,

and the inputs of several evaluations lie behind one another, so that slopes and gradients are taken of all at once.
u_l and ū_l have room for these columns too; the weights that lead there and back are 0.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from refode.activations import Activation
from refode.types import Array

ENTRIES = 2**15  # numbers in a block's widest array: it stays in a core's cache, with its slopes and its cotangents


class Layered(Protocol):
    """What a tape knows of an MLP."""

    n: int
    m: int
    sizes: tuple[int, ...]
    time: bool
    sigmas: Sequence[Activation]

    def layers(self, theta: Array, /) -> Iterator[tuple[Array, Array, Array]]: ...

    def blocks(self, theta: Array, /) -> Iterator[Array]: ...


class Block:
    """What `count` evaluations leave behind, one array each for the [x_l, 1, t] and u_l of a layer."""

    def __init__(self, tape: "MLPTape", count: int) -> None:
        self.x = [np.ones((count, tape.B, len(weights))) for weights in tape.weights]
        # An activation that knows its slope from its value may overwrite u with x.
        self.u = [x if s.of_value else np.empty_like(x) for x, s in zip(self.x[1:], tape.net.sigmas, strict=False)]
        self.slopes: list[Any] = [list(u) for u in self.u]  # σ_l′(u_l), as soon as they are asked for
        self.used = 0  # evaluations that are pulled back


class Slot:
    """The part of a block that is one evaluation's: views, made once."""

    def __init__(self, tape: "MLPTape", block: Block, i: int) -> None:
        net, self.block, self.i = tape.net, block, i
        x, u = [array[i] for array in block.x], [array[i] for array in block.u]
        u_bar = [array[i] for array in tape.u_bar]
        self.z, self.last, self.a, self.first_bar = x[0][:, : net.n], x[-1], u_bar[-1], u_bar[0]
        evaluate = [_into(sigma.value) for sigma in net.sigmas]
        ones = [array[:, width] for array, width in zip(x, net.sizes, strict=False)]
        clocks = [array[:, -1] if net.time else np.empty(0) for array in x]
        self.clock = clocks[0]
        # of every hidden layer x_{l−1}, [W_l; b_l; c_l], u_l, u ↦ σ_l(u), x_l and its columns 1 and t
        self.hidden = list(zip(x, tape.weights, u, evaluate, x[1:], ones[1:], clocks[1:], strict=False))
        # and, from the last to the first, its index, ū_{l+1}, W_{l+1}ᵀ, ū_l
        self.back = list(zip(range(len(x)), u_bar[1:], tape.back[1:], u_bar, strict=False))[::-1]


class MLPTape:
    """Evaluations of an MLP for states (B, columns), of which it reads the first n; `refode.tape` says the rest."""

    def __init__(self, net: Layered, B: int, columns: int) -> None:
        self.net, self.B, tail = net, B, 1 + net.time
        hidden = [width + tail for width in net.sizes[1:-1]]
        self.weights = [np.zeros(s) for s in zip([net.n + tail, *hidden], [*hidden, columns], strict=True)]
        self.back = [np.zeros(s) for s in zip([*hidden, columns], [columns, *hidden], strict=True)]
        self.per_block = max(1, ENTRIES // (B * max(net.sizes)))
        self.u_bar = [np.empty((self.per_block, B, weights.shape[1])) for weights in self.weights]  # of the open block
        self.slots: list[Slot] = []

    def bind(self, theta: Array) -> None:
        for weights, back, block, fan_in in zip(
            self.weights, self.back, self.net.blocks(theta), self.net.sizes, strict=False
        ):
            fan_out = block.shape[1]
            weights[:, :fan_out] = block
            back[:fan_out, :fan_in] = block[:fan_in].T
        self.total = np.zeros_like(theta)
        self.open: Block | None = None

    def linearize(self, s: int, z: Array, t: float, out: Array) -> None:
        slot = self._slot(s)
        slot.z[...] = z
        slot.clock.fill(t)
        for x, weights, u, evaluate, y, one, clock in slot.hidden:
            x.dot(weights, u)  # u_l = [x_{l−1}, 1, t] [W_l; b_l; c_l]
            evaluate(u, y)  # x_l = σ_l(u_l)
            one.fill(1.0)
            clock.fill(t)
        slot.last.dot(self.weights[-1], out)  # f = u_L

    def _slot(self, s: int) -> Slot:
        while s >= len(self.slots):
            block = Block(self, self.per_block)
            self.slots += [Slot(self, block, i) for i in range(self.per_block)]
        return self.slots[s]

    def pullback(self, s: int, a: Array, out: Array) -> None:
        slot = self.slots[s]
        if slot.block is not self.open:
            self.open, slot.block.used = slot.block, slot.i + 1
            self._slopes(slot.block)
        slot.a[...] = a
        for layer, upper, W, lower in slot.back:
            upper.dot(W, lower)  # x̄_l = ū_{l+1} W_{l+1}ᵀ
            np.multiply(lower, slot.block.slopes[layer][slot.i], lower)  # ū_l = x̄_l ∘ σ_l′(u_l)
        self._second_order(slot)
        slot.first_bar.dot(self.back[0], out)
        if slot.i == 0:
            self._accumulate(slot.block)

    def _second_order(self, slot: Slot) -> None:
        """What a divergence adds to ū_1."""

    def _slopes(self, block: Block) -> None:
        block.slopes = [
            sigma.slope(u[: block.used], x[: block.used])
            for sigma, u, x in zip(self.net.sigmas, block.u, block.x[1:], strict=False)
        ]

    def _accumulate(self, block: Block) -> None:
        """θ̄ += Σ [x_{l−1}, 1, t]ᵀ ū_l over the block's evaluations."""
        for x, u_bar, total in zip(block.x, self.u_bar, self.net.blocks(self.total), strict=True):
            rows = (array[: block.used].reshape(-1, array.shape[-1]) for array in (x, u_bar))
            total += _product(*rows)[:, : total.shape[1]]

    def theta_bar(self) -> Array:
        return self.total


class DensityTape(MLPTape):
    """Evaluations of (f, −τ) for one hidden layer, on states (B, n + 1): the lines of `mlp_divergence.one_hidden`."""

    def __init__(self, net: Layered, B: int) -> None:
        super().__init__(net, B, net.n + 1)
        self.mu = np.zeros(self.back[0].shape[0])
        self.minus_tau = np.empty(B)

    def bind(self, theta: Array) -> None:
        super().bind(theta)
        (self.W1, _, _), (self.W2, _, _) = self.net.layers(theta)
        self.mu[: len(self.W2)] = np.einsum("ik,ki->k", self.W1, self.W2)
        self.mu_bar = np.zeros_like(self.mu)

    def linearize(self, s: int, z: Array, t: float, out: Array) -> None:
        super().linearize(s, z[:, :-1], t, out)
        slot = self.slots[s]
        slope = self.net.sigmas[0].slope(slot.hidden[0][2], slot.last)
        slot.block.slopes[0][slot.i] = slope
        slope.dot(self.mu, self.minus_tau)  # τ = σ′(u)·μ
        np.negative(self.minus_tau, out[:, -1])

    def _slopes(self, block: Block) -> None:
        """They are there: τ is made of them."""

    def _second_order(self, slot: Slot) -> None:
        ((_, a, _, u_bar),) = slot.back
        slope = slot.block.slopes[0][slot.i]
        c = -a[:, -1]
        added = self.net.sigmas[0].curvature(slot.hidden[0][2], slot.last, slope)
        added *= self.mu
        added *= c[:, None]
        u_bar += added  # ū = σ′ ∘ a W_2ᵀ + c σ″ ∘ μ
        self.mu_bar += c.dot(slope)  # μ̄ = Σ c σ′

    def theta_bar(self) -> Array:
        mu_bar = self.mu_bar[: len(self.W2)]
        (W1_bar, _, _), (W2_bar, _, _) = self.net.layers(self.total)
        W1_bar += mu_bar * self.W2.T
        W2_bar += (mu_bar * self.W1).T
        self.mu_bar = np.zeros_like(self.mu)
        return self.total


def _into(value: Callable[..., Array]) -> Callable[[Array, Array], object]:
    """evaluate(u, y): y ← σ(u), in place where NumPy can."""
    if isinstance(value, np.ufunc):
        return value

    def evaluate(u: Array, y: Array) -> None:
        y[...] = value(u)

    return evaluate


def _product(x: Array, g: Array) -> Array:
    """xᵀ g, the wider factor first: half the time for a narrow x."""
    return x.T @ g if x.shape[1] >= g.shape[1] else (g.T @ x).T
