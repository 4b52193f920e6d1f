"""A tape: f at the stages of a solve, one after another, each linearized in memory that the next solve uses again.

`linearize` and its pullback are the readable form of reverse mode, and what the tutorials show. A tape is the same
with storage, that of an MLP in arrays which the next solve writes again: slot s = 0, 1, 2, ... holds what the pullback
of the s-th evaluation has to know. A slot that is written again (a step that was rejected) forgets what it held. Any
field has one, of its pullbacks; a field that brings `tape(shape)` writes its own, as `MLP` and the density of a small
one do.
"""

from typing import Protocol

import numpy as np

from refode.fields import VectorField, check_blocks, checked_rate, linearize
from refode.types import Array, Pullback

LARGEST = 2**11  # numbers in a state whose pullbacks are kept: nobody knows what they hold, and a solve has hundreds
TOGETHER = 2**17  # numbers in the states of all that are


class TapeFull(MemoryError):
    """An evaluation more would take more memory than a tape may."""


class Tape(Protocol):
    """What a solve writes and the sweep back reads. States and cotangents are rows, (B, n), B the batch as one axis."""

    def bind(self, theta: Array, /) -> None:
        """Begin a solve, with these parameters."""

    def linearize(self, s: int, z: Array, t: float, out: Array, /) -> None:
        """out ← f(z, t, θ), remembered in slot s; slots are first written in order. Raises TapeFull."""

    def rewind(self) -> None:
        """Begin a sweep back: θ̄ ← 0."""

    def pullback(self, s: int, a: Array, out: Array, /) -> None:
        """out ← a ∇§1 f at slot s, and θ̄ grows by a ∇§3 f. From the last slot that counts down to 0, each once."""

    def theta_bar(self) -> Array:
        """θ̄ (m,), the sum over the sweep's pullbacks; the caller's to keep."""


class PullbackTape:
    """The tape of any field: its pullbacks. ValueError for a field that does not keep the contract."""

    def __init__(self, field: VectorField, shape: tuple[int, ...]) -> None:
        self.field, self.shape = field, shape

    def bind(self, theta: Array) -> None:
        self.theta = theta
        self.pullbacks: dict[int, Pullback] = {}

    def linearize(self, s: int, z: Array, t: float, out: Array) -> None:
        if z.size > LARGEST:
            raise TapeFull(f"a state of {z.size} numbers: pullbacks are kept of at most {LARGEST}")
        if z.size * len(self.pullbacks) > TOGETHER:
            raise TapeFull(f"pullbacks are kept of at most {TOGETHER} numbers together")
        # A copy: a pullback may keep the array that it was given, and ours is written again.
        dz, pullback = linearize(self.field, z.reshape(self.shape).copy(), t, self.theta)
        out[...] = checked_rate(dz, self.shape).reshape(out.shape)
        self.pullbacks[s] = pullback

    def rewind(self) -> None:
        self.total = np.zeros(self.field.m)

    def pullback(self, s: int, a: Array, out: Array) -> None:
        blocks = self.pullbacks[s](a.reshape(self.shape))
        check_blocks(blocks, self.shape, self.field.m)
        out[...] = blocks[0].reshape(out.shape)
        self.total += blocks[2]

    def theta_bar(self) -> Array:
        return self.total


def tape(field: VectorField, shape: tuple[int, ...]) -> Tape:
    """The field's own tape for states of that shape (..., n), else that of its pullbacks."""
    own = getattr(field, "tape", None)
    found: Tape | None = own(shape) if callable(own) else None
    return PullbackTape(field, shape) if found is None else found
