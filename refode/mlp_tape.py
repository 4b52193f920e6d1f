"""The tape of an MLP: the lines of `MLP.linearize`, in arrays that are written again.

Three things make it fast. A layer's input carries the columns 1 and t (not the last layer's, to which b_L + c_L t is
added), so that the layer is one product with the block of θ as it lies there, and the block's gradient is another,

    u_l = [x_{l−1}, 1, t] [W_l; b_l; c_l],        [W̄_l; b̄_l; c̄_l] = Σ [x_{l−1}, 1, t]ᵀ ū_l,

and the inputs of several evaluations lie behind one another, so that slopes and gradients are taken of all at once. And
products of many rows are done in parts, each small enough for the fast way of OpenBLAS.
"""

from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Protocol

import numpy as np

from refode.activations import ACTIVATIONS, Activation
from refode.tape import TapeFull
from refode.types import Array

ENTRIES = 2**15  # numbers in a block's widest array: it stays in a core's cache, with its slopes and its cotangents
PRODUCT = 10**6  # multiplications in a product: OpenBLAS does up to so many half as fast again, without packing
FEWEST = 96  # rows of such a product
MOST = 2**30  # bytes that a tape may take
VIEWS = 4000  # of them those of an evaluation's views

InPlace = Callable[..., object]
"""A function whose last argument is the array that it writes."""
Operation = tuple[InPlace, Array, Array]
"""operation(operand, result), as a tuple of the three."""


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
    """What several evaluations leave behind: of every layer [x_l, 1, t], of the last hidden one x_l alone.

    And u_l where σ′ is not known from x_l.
    """

    def __init__(self, tape: "MLPTape") -> None:
        self.x = [np.ones((tape.per_block, tape.B, width)) for width in tape.widths]
        self.u = [x if s.of_value else np.empty_like(x) for x, s in zip(self.x[1:], tape.net.sigmas, strict=False)]
        self.firsts: dict[int, Evaluations] = {}

    def first(self, count: int, tape: "MLPTape") -> "Evaluations":
        """The first so many evaluations."""
        if count not in self.firsts:
            self.firsts[count] = Evaluations(self, count, tape)
        return self.firsts[count]


class Evaluations:
    """Those of a block that are pulled back, all at once what can be: views, made once."""

    def __init__(self, block: Block, count: int, tape: "MLPTape") -> None:
        x, u, u_bar, slopes = ([array[:count] for array in a] for a in (block.x, block.u, tape.u_bar, tape.slopes))
        self.slopes = list(zip(tape.sigma_slopes, u, x[1:], slopes, tape.defined, strict=False))
        x, u_bar = [_rows(array) for array in x], [_rows(array) for array in u_bar]
        marks = x[0][:, tape.net.n :]
        x[-1] = x[-1][:, : tape.net.sizes[-2]]
        self.products = [
            (g[rows].T, x[rows], total.T) if total.flags.f_contiguous else (x[rows].T, g[rows], total)
            for x, g, total in zip([*x, marks], [*u_bar, u_bar[-1]], tape.totals, strict=True)
            for rows in _parts(len(x), total.size)
        ]


class Slot:
    """The part of a block that is one evaluation's: views and bound operations, made once."""

    def __init__(self, tape: "MLPTape", block: Block, i: int) -> None:
        net, self.block, self.i = tape.net, block, i
        arrays = (block.x, block.u, tape.u_bar, tape.slopes)
        self.x, self.u, u_bar, self.slopes = ([array[i] for array in kind] for kind in arrays)
        self.z, self.a, self.first_bar = self.x[0][:, : net.n], u_bar[-1], u_bar[0]
        self.last_dot, self.clock = self.x[-1][:, : net.sizes[-2]].dot, self.x[0][:, net.n + 1 :]
        us = [scratch if s.of_value else u for scratch, u, s in zip(tape.scratch, self.u, net.sigmas, strict=False)]
        self.forward: list[Operation] = []
        for x, weights, u, value, y, width in zip(
            self.x, tape.weights, us, tape.values, self.x[1:], net.sizes[1:], strict=False
        ):
            self.forward += _products(x, weights, u)  # u_l = [x_{l−1}, 1, t] [W_l; b_l; c_l]
            self.forward.append((value, u, y))  # x_l = σ_l(u_l), and over what that left in columns for 1 and t these
            self.forward += [(np.positive, *mark) for mark in zip(self.x[0].T[net.n :], y.T[width:], strict=False)]
        back = [_products(u_bar[k + 1], tape.back[k + 1], u_bar[k]) for k in range(len(self.u))]
        self.back = list(zip(back, u_bar, self.slopes, strict=False))[::-1]


class MLPTape:
    """Evaluations of an MLP for states (B, n); `refode.tape` says the rest.

    u_l and ū_l of all hidden layers but the last have columns for 1 and t as well, so that all arrays are contiguous;
    the weights that lead there are 0. Raises TapeFull above a gigabyte.
    """

    def __init__(self, net: Layered, B: int) -> None:
        self.net, self.B, tail = net, B, 1 + net.time
        hidden = [width + tail for width in net.sizes[1:-1]]
        hidden[-1:] = net.sizes[1:-1][-1:]  # no 1 and t for the last layer
        self.widths = [net.n + tail, *hidden]
        inputs = [*self.widths[:-1], net.sizes[-2]]  # the last layer's has 1 and t only if it is z; they are left out
        self.weights = [np.zeros(s) for s in zip(inputs, [*hidden, net.n], strict=True)]
        self.back = [np.zeros(s) for s in zip([*hidden, net.n], [net.n, *hidden], strict=True)]
        self.b_last, self.c_last, self.bias = (np.zeros((B, net.n)) for _ in range(3))  # a row a sample
        self.values = [in_place(sigma.value) for sigma in net.sigmas]
        self.sigma_slopes = [in_place(sigma.slope) for sigma in net.sigmas]
        self.per_block = max(1, ENTRIES // (B * max(net.sizes)))
        self.slots: list[Slot] = []
        self.scratch = [np.empty((B, width)) for width in hidden]  # u of one evaluation, where it need not be kept
        # How many columns of a derivative may be used; of 1 and t it may be anything, if not infinite as ours never is.
        self.defined = [
            columns if ACTIVATIONS.get(sigma.name) is sigma else width
            for columns, sigma, width in zip(hidden, net.sigmas, net.sizes[1:], strict=False)
        ]
        self.open: Block | None = None  # of which we have σ_l′ and write ū_l
        self.u_bar = [np.empty((self.per_block, B, weights.shape[1])) for weights in self.weights]
        self.slopes = [np.empty_like(u_bar) for u_bar in self.u_bar[:-1]]
        # [W̄_l; b̄_l; c̄_l], the longer axis first: xᵀ ū takes half the time as (ūᵀ x)ᵀ where x is narrow. Of the last
        # layer W̄, and then [b̄; c̄].
        shapes = [*(W.shape for W in self.weights), (tail, net.n)]
        self.totals = [np.zeros(shape, order="F" if shape[0] < shape[1] else "C") for shape in shapes]
        kept = sum(self.widths)
        kept += sum(u.shape[1] for u, sigma in zip(self.scratch, net.sigmas, strict=False) if not sigma.of_value)
        self.block_bytes = self.per_block * (8 * B * kept + VIEWS)
        of_samples = (*self.scratch, *self.u_bar, *self.slopes, self.b_last, self.c_last, self.bias)
        self.scratch_bytes = sum(array.nbytes for array in of_samples)

    def bind(self, theta: Array) -> None:
        blocks = self.net.blocks(theta)
        for weights, back, block, fan_in in zip(self.weights, self.back, blocks, self.net.sizes, strict=False):
            fan_out = block.shape[1]
            weights[:, :fan_out] = block[: len(weights)]
            back[:fan_out, :fan_in] = block[:fan_in].T
        *_, (_, b, c) = self.net.layers(theta)
        self.bias[...] = self.b_last[...] = b
        self.c_last[...] = c

    def linearize(self, s: int, z: Array, t: float, out: Array) -> None:
        slot = self.slots[s] if s < len(self.slots) else self._slot(s)
        slot.z[...] = z
        if self.net.time:
            slot.clock.fill(t)
            np.add(self.b_last, np.multiply(self.c_last, t, self.bias), self.bias)
        for operation, operand, result in slot.forward:
            operation(operand, result)
        slot.last_dot(self.weights[-1], out)
        np.add(out, self.bias, out)  # f = x_{L−1} W_L + (b_L + c_L t)

    def _slot(self, s: int) -> Slot:
        """Slot s, made with all before it."""
        while s >= len(self.slots):
            blocks, i = divmod(len(self.slots), self.per_block)
            if i == 0:
                if (blocks + 1) * self.block_bytes + self.scratch_bytes > MOST:
                    raise TapeFull(f"{len(self.slots)} evaluations of {self.B} samples and more exceed {MOST} bytes")
                self.last_block = Block(self)
            self.slots.append(Slot(self, self.last_block, i))
        return self.slots[s]

    def rewind(self) -> None:
        self.open = None
        for total in self.totals:
            total.fill(0.0)

    def pullback(self, s: int, a: Array, out: Array) -> None:
        slot = self.slots[s]
        if slot.block is not self.open:
            self._enter(slot.block, slot.i + 1)
        slot.a[...] = a
        for products, u_bar, slope in slot.back:
            for product, W, result in products:
                product(W, result)  # x̄_l = ū_{l+1} W_{l+1}ᵀ
            np.multiply(u_bar, slope, u_bar)  # ū_l = x̄_l ∘ σ_l′(u_l)
        slot.first_bar.dot(self.back[0], out)
        if slot.i == 0:
            self._leave()

    def _enter(self, block: Block, count: int) -> None:
        """σ_l′ of the evaluations that will be pulled back."""
        self.open, self.entered = block, block.first(count, self)
        for sigma_slope, u, x, slope, defined in self.entered.slopes:
            sigma_slope(u, x, slope)
            clear(slope, defined)

    def _leave(self) -> None:
        """[W̄_l; b̄_l; c̄_l] += Σ [x_{l−1}, 1, t]ᵀ ū_l over the block's evaluations."""
        for left, right, total in self.entered.products:
            total += left.dot(right)

    def theta_bar(self) -> Array:
        theta_bar = np.empty(self.net.m)
        for block, total in zip(self.net.blocks(theta_bar), self.totals, strict=False):
            block[: len(total)] = total[:, : block.shape[1]]
        block[self.net.sizes[-2] :] = self.totals[-1]  # the last one's [b̄; c̄]
        return theta_bar


def _products(x: Array, W: Array, out: Array) -> list[Operation]:
    """What makes out ← x W: (dot of some rows of x, W, these rows of out)."""
    return [(x[rows].dot, W, out[rows]) for rows in _parts(len(x), W.size)]


def _parts(rows: int, multiplications: int) -> list[slice]:
    """The rows of a product, in parts that are fast, unless they would be very short; so many multiplications a row."""
    count = -(-rows * multiplications // PRODUCT)
    count = 1 if rows // count < FEWEST else count
    return [slice(rows * part // count, rows * (part + 1) // count) for part in range(count)]


def in_place(function: Callable[..., Array]) -> InPlace:
    """out ← function(*inputs), by itself where it takes `out`."""
    if isinstance(function, np.ufunc):
        return function
    itself = "out" in signature(function).parameters

    def evaluate(*arrays: Array) -> None:
        *inputs, out = arrays
        if itself:
            function(*inputs, out=out)
        else:
            out[...] = function(*inputs)

    return evaluate


def clear(derivative: Array, defined: int) -> None:
    """Zero in the columns beyond."""
    for column in range(defined, derivative.shape[-1]):
        derivative[..., column].fill(0.0)


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
