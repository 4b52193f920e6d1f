"""Activations with their first two derivatives, side by side.

σ′ and σ″ are functions of u and of y = σ(u), and σ″ of σ′, so that a forward pass that kept them pays little. All of
them accept complex u (no |x|, no `logaddexp`), which makes complex step through anything built from them exact.
σ′ enters the VJP of a network (D35 of the note), σ″ the VJP of its trace (§3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refode.arguments import one_of
from refode.types import Array


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivatives; every array has the shape of u."""

    name: str
    value: Callable[[Array], Array]  # u      -> y = σ(u)
    slope: Callable[[Array, Array], Array]  # u, y -> σ′(u)
    curvature: Callable[[Array, Array, Array], Array]  # u, y, σ′(u) -> σ″(u)
    of_value: bool = False  # whether y alone gives the derivatives, so that u need not be kept

    def __reduce__(self) -> tuple[Any, ...]:
        """Ours are pickled and copied by their names, since their functions have none."""
        if ACTIVATIONS.get(self.name) is self:
            return activation, (self.name,)
        return Activation, (self.name, self.value, self.slope, self.curvature, self.of_value)


def _sigmoid(u: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * u))  # = 1 / (1 + e^−u), without overflow


def _softplus(u: Array) -> Array:
    # log(1 + e^u) = max(u, 0) + log(1 + e^−|u|), with |u| = ±u by the sign of the real part, so that u may be complex.
    positive = np.real(u) > 0
    return np.where(positive, u, 0.0) + np.log1p(np.exp(np.where(positive, -u, u)))


TANH = Activation(
    "tanh",
    value=np.tanh,
    slope=lambda u, y: 1.0 - y * y,  # σ′ = 1 − y²
    curvature=lambda u, y, slope: -2.0 * y * slope,  # σ″ = −2 y σ′
    of_value=True,
)
SOFTPLUS = Activation(
    "softplus",
    value=_softplus,
    slope=lambda u, y: _sigmoid(u),  # σ′ = s(u), the sigmoid
    curvature=lambda u, y, slope: slope * _sigmoid(-u),  # σ″ = s (1 − s)
)
SINE = Activation(
    "sine",
    value=np.sin,
    slope=lambda u, y: np.cos(u),  # σ′ = cos u
    curvature=lambda u, y, slope: -y,  # σ″ = −sin u
)
SIGMOID = Activation(
    "sigmoid",
    value=_sigmoid,
    slope=lambda u, y: y * (1.0 - y),  # σ′ = y (1 − y)
    curvature=lambda u, y, slope: slope * (1.0 - 2.0 * y),  # σ″ = σ′ (1 − 2y)
    of_value=True,
)
IDENTITY = Activation(
    "identity",
    value=lambda u: u,
    slope=lambda u, y: np.ones_like(u),
    curvature=lambda u, y, slope: np.zeros_like(u),
)

ACTIVATIONS = {a.name: a for a in (TANH, SOFTPLUS, SINE, SIGMOID, IDENTITY)}


def activation(name: str | Activation) -> Activation:
    """The activation of that name; an `Activation` of your own passes through. ValueError for an unknown name."""
    if isinstance(name, Activation):
        return name
    return ACTIVATIONS[one_of("activation", name, ACTIVATIONS)]
