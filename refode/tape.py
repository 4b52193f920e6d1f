"""A tape: f at the stages of a solve, one after another, each linearized in memory that the next solve uses again.

`linearize` and its pullback are the readable form of reverse mode, and what the tutorials show. A tape is the same
with storage: slot s = 0, 1, 2, ... holds what the pullback of the s-th evaluation has to know. A slot that is written
again (a step that was rejected) forgets what it held. Any field has one, of its pullbacks; a field that brings
`tape(shape)` writes its own, as `MLP` and the density of a small one do.
"""

from typing import Protocol

import numpy as np

from refode.fields import VectorField, checked_rate, linearize
from refode.types import Array, Pullback


class Tape(Protocol):
    """What a solve writes and the sweep back reads. States and cotangents are rows, (B, n), B the batch as one axis."""

    def bind(self, theta: Array, /) -> None:
        """Begin again, with these parameters."""

    def linearize(self, s: int, z: Array, t: float, out: Array, /) -> None:
        """out ← f(z, t, θ), remembered in slot s; slots are first written in order."""

    def pullback(self, s: int, a: Array, out: Array, /) -> None:
        """out ← a ∇§1 f at slot s, and θ̄ grows by a ∇§3 f. Slots come in falling order, each at most once."""

    def theta_bar(self) -> Array:
        """θ̄ (m,), the sum over all pullbacks since `bind`."""


class PullbackTape:
    """The tape of any field: its pullbacks. ValueError for a field that returns another shape than its state's."""

    def __init__(self, field: VectorField, shape: tuple[int, ...]) -> None:
        self.field, self.shape = field, shape

    def bind(self, theta: Array) -> None:
        self.theta, self.total = theta, np.zeros(self.field.m)
        self.pullbacks: dict[int, Pullback] = {}

    def linearize(self, s: int, z: Array, t: float, out: Array) -> None:
        # A copy: a pullback may keep the array that it was given, and ours is written again.
        dz, pullback = linearize(self.field, z.reshape(self.shape).copy(), t, self.theta)
        out[...] = checked_rate(dz, self.shape).reshape(out.shape)
        self.pullbacks[s] = pullback

    def pullback(self, s: int, a: Array, out: Array) -> None:
        z_bar, _, theta_bar = self.pullbacks[s](a.reshape(self.shape))
        out[...] = z_bar.reshape(out.shape)
        self.total += theta_bar

    def theta_bar(self) -> Array:
        return self.total


def tape(field: VectorField, shape: tuple[int, ...]) -> Tape:
    """The field's own tape for states of that shape (..., n), else that of its pullbacks."""
    own = getattr(field, "tape", None)
    found: Tape | None = None if own is None else own(shape)
    return PullbackTape(field, shape) if found is None else found
