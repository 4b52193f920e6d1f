"""The two nets that the figures are about, each the first of a seeded sequence that shows what it has to show.

A net drawn at random often gives nearly straight paths, or a Jacobian so close to symmetric that a transposed one
goes unnoticed. So nets are drawn until one passes a criterion, and the numbers it passed with are part of the demo.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.integrate import trapezoid

from refode import MLP, solve

TIMES = (0.0, 2.0)
DRAWS = 10_000
# What a net has to show: lowest and highest value of each measured number.
PLANE = {
    "turning": (2.2, 5.0),  # angle in radians through which the velocity turns: the path is curved
    "asymmetry": (0.8, 2.0),  # mean of |J - J'| / |J|, J = ∇§1 f: vjp and jvp differ
    "unrest": (1.0, 4.0),  # mean of |∇§2 f| T / mean of |f|: the field depends on time
    "growth": (1.0, 3.0),  # ∫|∇§1 f| dt: the adjoint changes, and errors grow by no more than e to this power
    "slowest": (0.1, 0.5),  # lowest speed over highest: the speed varies, and the path has no cusp
    "extent": (0.8, 3.0),  # shorter side of the box around the path
}
LINE = {
    "turning": (2.1, 9.0),  # angle in radians through which the graph of z(t) turns
    "first_error": (0.5, 1.7),  # error of a single Euler step over the range of z
    "closest": (0.12, 1.0),  # least gain in error, over the range of z, when 1, 2, 4 or 8 Euler steps are doubled
}


@dataclass(frozen=True)
class Demo:
    """A field, its parameters theta (m,), a start z0 (n,) at times[0], and the numbers by which it was chosen."""

    field: MLP
    theta: np.ndarray
    z0: np.ndarray
    times: tuple[float, float]
    measured: dict[str, float]


@cache
def plane(seed: int) -> Demo:
    """Return a tanh net 2-8-2 that reads t, with a curved path, a time-dependent field and an asymmetric Jacobian."""
    return _first(MLP([2, 8, 2]), seed, 1.5, _measure_plane, PLANE)


@cache
def line(seed: int) -> Demo:
    """Return a tanh net 1-8-1 that reads t, whose solution a single Euler step misses by far."""
    return _first(MLP([1, 8, 1]), seed, 2.0, _measure_line, LINE)


def _first(field: MLP, seed: int, gain: float, measure: Callable, wanted: dict) -> Demo:
    rng = np.random.default_rng(seed)
    for _ in range(DRAWS):
        theta, z0 = field.init(rng, gain), rng.standard_normal(field.n)
        measured = {}
        for name, number in measure(field, theta, z0):
            measured[name] = float(number)
            if not wanted[name][0] <= number <= wanted[name][1]:
                break
        else:
            return Demo(field, theta, z0, TIMES, measured)
    raise RuntimeError(f"none of {DRAWS} nets passed: {wanted}")


def _measure_plane(field: MLP, theta: np.ndarray, z0: np.ndarray) -> Iterator[tuple[str, float]]:
    times, z = _path(field, theta, z0)
    yield "extent", np.ptp(z, axis=0).min()
    velocity = _along(lambda at, t: field(at, t, theta), z, times)
    angle = np.unwrap(np.arctan2(velocity[:, 1], velocity[:, 0]))
    yield "turning", np.abs(np.diff(angle)).sum()
    speed = np.linalg.norm(velocity, axis=1)
    yield "slowest", speed.min() / speed.max()
    jacobian = _along(lambda at, t: field.jacobian(at, t, theta), z, times)
    yield "growth", trapezoid(np.linalg.norm(jacobian, 2, axis=(1, 2)), times)
    skew = np.linalg.norm(jacobian - jacobian.swapaxes(1, 2), axis=(1, 2)) / np.linalg.norm(jacobian, axis=(1, 2))
    yield "asymmetry", skew.mean()
    f_t = _along(lambda at, t: field.jvp(at, t, theta, np.zeros(2), 1.0, np.zeros(field.m)), z, times)
    yield "unrest", np.linalg.norm(f_t, axis=1).mean() * np.ptp(times) / speed.mean()


def _measure_line(field: MLP, theta: np.ndarray, z0: np.ndarray) -> Iterator[tuple[str, float]]:
    times, z = _path(field, theta, z0)
    slope = _along(lambda at, t: field(at, t, theta)[0], z, times)
    yield "turning", np.abs(np.diff(np.arctan(slope))).sum()
    T = times[-1] - times[0]
    ends = [solve(field, z0, theta, TIMES, method="Euler", step=T / N).z[-1, 0] for N in (1, 2, 4, 8, 16)]
    error = np.abs(ends - z[-1, 0]) / np.ptp(z)
    yield "first_error", error[0]
    yield "closest", -np.diff(error).max()


def _path(field: MLP, theta: np.ndarray, z0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return times (41,) and states (41, n), accurate enough to choose by."""
    times = np.linspace(*TIMES, 41)
    return times, solve(field, z0, theta, times, rtol=1e-4).z


def _along(value: Callable, z: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.array([value(at, t) for at, t in zip(z, times, strict=True)])
