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
    """An elementwise function and its derivatives; every array has the shape of u.

    Like a ufunc, each may take an array `out`, none of the inputs, and write there: the tape of an MLP then makes no
    other. A tape also asks for columns more than a layer has units, and where `of_value` is set it passes y for u.
    """

    name: str
    value: Callable[..., Array]  # u -> y = σ(u)
    slope: Callable[..., Array]  # u, y -> σ′(u)
    curvature: Callable[..., Array]  # u, y, σ′(u) -> σ″(u)
    of_value: bool = False  # whether the derivatives read y alone, so that u need not be kept

    def __reduce__(self) -> tuple[Any, ...]:
        """Ours are pickled and copied by their names, since their functions have none."""
        if ACTIVATIONS.get(self.name) is self:
            return activation, (self.name,)
        return Activation, (self.name, self.value, self.slope, self.curvature, self.of_value)


Out = Array | None


def _sigmoid(u: Array, out: Out = None) -> Array:
    # s(u) = (1 + tanh(u/2)) / 2 = 1 / (1 + e^−u), without overflow
    return np.multiply(0.5, np.add(1.0, np.tanh(np.multiply(0.5, u, out), out), out), out)


def _softplus(u: Array) -> Array:
    # log(1 + e^u) = max(u, 0) + log(1 + e^−|u|), with |u| = ±u by the sign of the real part, so that u may be complex.
    positive = np.real(u) > 0
    return np.where(positive, u, 0.0) + np.log1p(np.exp(np.where(positive, -u, u)))


def _tanh_slope(u: Array, y: Array, out: Out = None) -> Array:
    return np.subtract(1.0, np.multiply(y, y, out), out)  # σ′ = 1 − y²


def _tanh_curvature(u: Array, y: Array, slope: Array, out: Out = None) -> Array:
    return np.multiply(-2.0, np.multiply(y, slope, out), out)  # σ″ = −2 y σ′


def _softplus_slope(u: Array, y: Array, out: Out = None) -> Array:
    return _sigmoid(u, out)  # σ′ = s(u), the sigmoid


def _softplus_curvature(u: Array, y: Array, slope: Array, out: Out = None) -> Array:
    return np.multiply(slope, _sigmoid(np.negative(u, out), out), out)  # σ″ = s (1 − s)


def _sine_slope(u: Array, y: Array, out: Out = None) -> Array:
    return np.cos(u, out)  # σ′ = cos u


def _sine_curvature(u: Array, y: Array, slope: Array, out: Out = None) -> Array:
    return np.negative(y, out)  # σ″ = −sin u


def _sigmoid_slope(u: Array, y: Array, out: Out = None) -> Array:
    return np.multiply(y, np.subtract(1.0, y, out), out)  # σ′ = y (1 − y)


def _sigmoid_curvature(u: Array, y: Array, slope: Array, out: Out = None) -> Array:
    return np.multiply(slope, np.subtract(1.0, np.multiply(2.0, y, out), out), out)  # σ″ = σ′ (1 − 2y)


TANH = Activation("tanh", np.tanh, _tanh_slope, _tanh_curvature, of_value=True)
SOFTPLUS = Activation("softplus", _softplus, _softplus_slope, _softplus_curvature)
SINE = Activation("sine", np.sin, _sine_slope, _sine_curvature)
SIGMOID = Activation("sigmoid", _sigmoid, _sigmoid_slope, _sigmoid_curvature, of_value=True)
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
