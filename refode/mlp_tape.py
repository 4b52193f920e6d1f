"""The tape of an MLP, and that of its density: the lines of `MLP.linearize`, in arrays that are written again.

Two things make it fast. A layer's input carries the columns 1 and t, so that the layer is one product with the block
of θ as it lies there, and the block's gradient is another,

    u_l = [x_{l−1}, 1, t] [W_l; b_l; c_l],        [W̄_l; b̄_l; c̄_l] = Σ [x_{l−1}, 1, t]ᵀ ū_l,

and the inputs of several evaluations lie behind one another, so that slopes and gradients are taken of all at once.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from refode.activations import Activation
from refode.tape import TapeFull
from refode.types import Array

ENTRIES = 2**15  # numbers in a block's widest array: it stays in a core's cache, with its slopes and its cotangents
MOST = 2**30  # bytes that a tape may take


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
    """What several evaluations leave behind: of every layer [x_l, 1, t], and u_l where σ′ is not known from x_l."""

    def __init__(self, tape: "MLPTape") -> None:
        self.x = [np.ones((tape.per_block, tape.B, len(weights))) for weights in tape.weights]
        self.u = [x if s.of_value else np.empty_like(x) for x, s in zip(self.x[1:], tape.net.sigmas, strict=False)]
        self.t = np.empty(tape.per_block)
        self.used = 0  # evaluations that are pulled back, from the first on

    def lend_columns(self, tape: "MLPTape") -> None:
        """Put a unit's u and x in the place of 1 and t, for which σ′ may have no value; where it goes, 0 follows."""
        for u, x, width in zip(self.u, self.x[1:], tape.net.sizes[1:], strict=False):
            u[..., width:], x[..., width:] = u[..., :1], x[..., :1]

    def restore_columns(self, tape: "MLPTape") -> None:
        for x, width in zip(self.x[1:], tape.net.sizes[1:], strict=False):
            x[..., width] = 1.0
            if tape.net.time:
                x[..., -1] = self.t[:, None]


class Forward(NamedTuple):
    """A hidden layer on the way there."""

    x: Array  # [x_{l−1}, 1, t]
    weights: Array  # [W_l; b_l; c_l]
    u: Array
    evaluate: Callable[[Array, Array], object]  # u, x: x ← σ_l(u)
    y: Array  # [x_l, 1, t]
    one: Array  # its columns
    clock: Array


class Back(NamedTuple):
    """And on the way back."""

    layer: int
    above: Array  # ū_{l+1}
    W: Array  # W_{l+1}ᵀ
    u_bar: Array  # ū_l


class Slot:
    """The part of a block that is one evaluation's: views, made once."""

    def __init__(self, tape: "MLPTape", block: Block, i: int) -> None:
        net, self.block, self.i = tape.net, block, i
        x, u, u_bar = ([array[i] for array in arrays] for arrays in (block.x, block.u, tape.u_bar))
        self.z, self.last, self.a, self.first_bar = x[0][:, : net.n], x[-1], u_bar[-1], u_bar[0]
        evaluate = [_into(sigma.value) for sigma in net.sigmas]
        ones = [array[:, width] for array, width in zip(x, net.sizes, strict=False)]
        clocks = [array[:, -1] if net.time else np.empty(0) for array in x]
        self.clock = clocks[0]
        hidden = zip(x, tape.weights, u, evaluate, x[1:], ones[1:], clocks[1:], strict=False)
        self.forward = [Forward(*arrays) for arrays in hidden]
        self.back = [Back(k, u_bar[k + 1], tape.back[k + 1], u_bar[k]) for k in reversed(range(len(u)))]


class MLPTape:
    """Evaluations of an MLP for states (B, columns), of which it reads the first n; `refode.tape` says the rest.

    u_l and ū_l have columns for 1 and t as well, so that all arrays are contiguous; the weights that lead there are 0.
    Raises TapeFull above a gigabyte.
    """

    def __init__(self, net: Layered, B: int, columns: int) -> None:
        self.net, self.B, tail = net, B, 1 + net.time
        hidden = [width + tail for width in net.sizes[1:-1]]
        self.weights = [np.zeros(s) for s in zip([net.n + tail, *hidden], [*hidden, columns], strict=True)]
        self.back = [np.zeros(s) for s in zip([*hidden, columns], [columns, *hidden], strict=True)]
        self.per_block = max(1, ENTRIES // (B * max(net.sizes)))
        self.u_bar = [np.empty((self.per_block, B, weights.shape[1])) for weights in self.weights]  # of the open block
        self.slots: list[Slot] = []

    def bind(self, theta: Array) -> None:
        blocks = self.net.blocks(theta)
        for weights, back, block, fan_in in zip(self.weights, self.back, blocks, self.net.sizes, strict=False):
            fan_out = block.shape[1]
            weights[:, :fan_out] = block
            back[:fan_out, :fan_in] = block[:fan_in].T

    def linearize(self, s: int, z: Array, t: float, out: Array) -> None:
        slot = self._slot(s)
        slot.z[...] = z
        slot.clock.fill(t)
        slot.block.t[slot.i] = t
        for x, weights, u, evaluate, y, one, clock in slot.forward:
            x.dot(weights, u)  # u_l = [x_{l−1}, 1, t] [W_l; b_l; c_l]
            evaluate(u, y)  # x_l = σ_l(u_l)
            one.fill(1.0)
            clock.fill(t)
        slot.last.dot(self.weights[-1], out)  # f = u_L

    def _slot(self, s: int) -> Slot:
        while s >= len(self.slots):
            block = Block(self)
            size = sum(array.nbytes for array in (*block.x, *block.u))
            if size * (1 + len(self.slots) // self.per_block) > MOST:
                raise TapeFull(f"the tape of {self.B} samples and {len(self.slots)} evaluations exceeds {MOST} bytes")
            self.slots += [Slot(self, block, i) for i in range(self.per_block)]
        return self.slots[s]

    def rewind(self) -> None:
        self.total = np.zeros(self.net.m)
        self.open: Block | None = None

    def pullback(self, s: int, a: Array, out: Array) -> None:
        slot = self.slots[s]
        if slot.block is not self.open:
            self._enter(slot)
        slot.a[...] = a
        for layer, above, W, u_bar in slot.back:
            above.dot(W, u_bar)  # x̄_l = ū_{l+1} W_{l+1}ᵀ
            np.multiply(u_bar, self.slopes[layer][slot.i], u_bar)  # ū_l = x̄_l ∘ σ_l′(u_l)
        self._second_order(slot)
        slot.first_bar.dot(self.back[0], out)
        if slot.i == 0:
            self._leave(slot.block)

    def _second_order(self, slot: Slot) -> None:
        """What a divergence adds to ū_1."""

    def _enter(self, slot: Slot) -> None:
        """σ_l′ of the evaluations that will be pulled back: of the block's first to this one."""
        self.open = slot.block
        slot.block.used = slot.i + 1
        slot.block.lend_columns(self)
        layers = zip(self.net.sigmas, slot.block.u, slot.block.x[1:], strict=False)
        self.slopes = [sigma.slope(u[: slot.i + 1], x[: slot.i + 1]) for sigma, u, x in layers]

    def _leave(self, block: Block) -> None:
        """θ̄ += Σ [x_{l−1}, 1, t]ᵀ ū_l over the block's evaluations."""
        block.restore_columns(self)
        for x, u_bar, total in zip(block.x, self.u_bar, self.net.blocks(self.total), strict=True):
            rows = (array[: block.used].reshape(-1, array.shape[-1]) for array in (x, u_bar))
            total += _product(*rows)[:, : total.shape[1]]

    def theta_bar(self) -> Array:
        return self.total


class DensityTape(MLPTape):
    """Evaluations of (f, −τ) for one hidden layer, on states (B, n + 1): the lines of `mlp_divergence.one_hidden`."""

    def __init__(self, net: Layered, B: int) -> None:
        super().__init__(net, B, net.n + 1)
        self.mu, self.added = np.zeros(len(self.weights[-1])), np.empty((B, len(self.weights[-1])))

    def bind(self, theta: Array) -> None:
        super().bind(theta)
        (self.W1, _, _), (self.W2, _, _) = self.net.layers(theta)
        self.mu[: len(self.W2)] = np.einsum("ik,ki->k", self.W1, self.W2)

    def rewind(self) -> None:
        super().rewind()
        self.mu_bar = np.zeros(len(self.W2))

    def linearize(self, s: int, z: Array, t: float, out: Array) -> None:
        super().linearize(s, z[:, :-1], t, out)
        hidden, width = self.slots[s].forward[0], len(self.W2)
        slope = self.net.sigmas[0].slope(hidden.u, hidden.y)[:, :width]  # of 1 and t it may be anything
        np.negative(slope.dot(self.mu[:width]), out[:, -1])  # −τ = −σ′(u)·μ

    def _second_order(self, slot: Slot) -> None:
        hidden, c, slope = slot.forward[0], -slot.a[:, -1], self.slopes[0][slot.i]
        np.multiply(self.net.sigmas[0].curvature(hidden.u, hidden.y, slope), self.mu, self.added)
        self.added *= c[:, None]
        slot.first_bar += self.added  # ū = σ′ ∘ a W_2ᵀ + c σ″ ∘ μ
        self.mu_bar += c.dot(slope)[: len(self.mu_bar)]  # μ̄ = Σ c σ′

    def theta_bar(self) -> Array:
        total = self.total.copy()
        (W1_bar, _, _), (W2_bar, _, _) = self.net.layers(total)
        W1_bar += self.mu_bar * self.W2.T
        W2_bar += (self.mu_bar * self.W1).T
        return total


def _into(value: Callable[..., Array]) -> Callable[[Array, Array], Any]:
    """evaluate(u, y): y ← σ(u), in place where NumPy can."""
    if isinstance(value, np.ufunc):
        return value

    def evaluate(u: Array, y: Array) -> None:
        y[...] = value(u)

    return evaluate


def _product(x: Array, g: Array) -> Array:
    """xᵀ g, the wider factor first: half the time for a narrow x."""
    return x.T @ g if x.shape[1] >= g.shape[1] else (g.T @ x).T
