"""The problems whose gradients are timed: same net, same θ, same loss for every library.

    S1, S20   MLP 2-50-2, batch 1 or 20, nine observations in (0, 1]
    M         MLP 2-64-64-2 with time, batch 256, the end state observed
    L         MLP 64-256-64, batch 256, the end state observed
    CNF       the log-likelihood of 512 points under a planar flow, MLP 2-64-2 with time, exact trace

All nets are random tanh nets of gain 2. The loss of the first four is ½ Σ (z(t_i) − y_i)².
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refode import MLP


class Answer(NamedTuple):
    """The loss, its gradient in θ (m,), flat as refode's, and that in z0 (..., n)."""

    value: float
    theta: np.ndarray
    z0: np.ndarray


class Side(NamedTuple):
    """One library's way: `at(tol)` is the call that is timed, with rtol = atol = tol, and `read` makes sense of it."""

    at: Callable[[float], Callable[[], Any]]
    read: Callable[[Any], Answer]


@dataclass(frozen=True)
class Case:
    """A solve from z0 at times[0] and a loss of it: the squared distance to `data`, or without data a log-likelihood.

    In the latter z0 are the points, which the flow carries back from times[0] = 1 to the normal distribution at 0.
    """

    name: str
    field: MLP
    theta: np.ndarray  # (m,)
    z0: np.ndarray  # (B, n)
    times: np.ndarray  # (T,)
    data: np.ndarray | None  # (T, B, n); at times[0] it is z0


# name: widths, whether t is fed to the net, batch, observation times (None: a flow)
PROBLEMS = {
    "S1": ((2, 50, 2), False, 1, np.linspace(0.0, 1.0, 10)),
    "S20": ((2, 50, 2), False, 20, np.linspace(0.0, 1.0, 10)),
    "M": ((2, 64, 64, 2), True, 256, np.array([0.0, 1.0])),
    "CNF": ((2, 64, 2), True, 512, None),
    "L": ((64, 256, 64), False, 256, np.array([0.0, 1.0])),
}


def case(name: str, seed: int = 0) -> Case:
    """The problem of that name, of those that differ in their random numbers."""
    return problem(name, *PROBLEMS[name], np.random.default_rng(seed))


def problem(
    name: str, sizes: tuple[int, ...], time: bool, batch: int, times: np.ndarray | None, rng: np.random.Generator
) -> Case:
    """A random problem of that size."""
    field = MLP(sizes, "tanh", time)
    theta, z0 = field.init(rng, gain=2.0), rng.normal(size=(batch, field.n))
    if times is None:
        return Case(name, field, theta, z0, np.array([1.0, 0.0]), None)
    data = np.concatenate([z0[None], rng.normal(size=(len(times) - 1, *z0.shape))])
    return Case(name, field, theta, z0, times, data)


def blocks(field: MLP, theta: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Views (W, b, c) of each layer's parameters, or (W, b) where time is not fed to the net."""
    return [layer[: 2 + field.time] for layer in field.layers(theta)]


def flat(field: MLP, layers: Iterable[Iterable[Any]]) -> np.ndarray:
    """The gradients of these blocks as one in θ, (m,)."""
    theta = np.empty(field.m)
    for views, found in zip(blocks(field, theta), layers, strict=True):
        for view, block in zip(views, found, strict=True):
            view[...] = block
    return theta


def error(got: Answer, want: Answer) -> float:
    """The larger of the relative L2 errors of the two gradients."""
    pairs = ((got.theta, want.theta), (got.z0, want.z0))
    return max(float(np.linalg.norm(g - w) / np.linalg.norm(w)) for g, w in pairs)
