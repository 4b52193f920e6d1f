"""The two nets that the figures are about, each the first of a seeded sequence that shows what it has to show.

A net drawn at random often gives nearly straight paths, or a Jacobian so close to symmetric that a transposed one
goes unnoticed. So nets are drawn until one passes a criterion, and the numbers it passed with are part of the demo.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.integrate import trapezoid

from refode import MLP, Trajectory, adjoint, solve

NETS, STARTS = 1000, 32  # nets to try, and starts to try in each
# What a net has to show: lowest and highest value of each measured number.
PLANE = {
    "extent": (1.0, 4.0),  # shorter side of the box around the path
    "roundness": (0.5, 1.0),  # shorter over longer side of that box
    "straightness": (0.2, 0.6),  # distance between its ends over its length
    "turning": (3.3, 9.0),  # angle in radians through which the velocity turns: the path is curved
    "half_turning": (1.2, 9.0),  # the same angle in the half of the time where it is smaller
    "slowest": (0.1, 0.6),  # lowest speed over highest: the speed varies, and the path has no cusp
    "growth": (1.5, 3.5),  # ∫|∇§1 f| dt: the adjoint changes, and errors grow by no more than e to this power
    "asymmetry": (0.8, 2.0),  # mean of |J - J'| / |J|, J = ∇§1 f: vjp and jvp differ
    "unrest": (1.0, 4.0),  # mean of |∇§2 f| T / mean of |f|: the field depends on time
    "pull": (0.4, 1.0),  # lower of |a f| / |a| |f| at both ends: the times have a gradient
}
LINE = {
    "turning": (2.1, 9.0),  # angle in radians through which the graph of z(t) turns
    "first_error": (0.5, 1.7),  # error of a single Euler step over the range of z
    "closest": (0.12, 1.0),  # least gain in error, over the range of z, when 1, 2, 4 or 8 Euler steps are doubled
}


@dataclass(frozen=True)
class Demo:
    """A field, its parameters theta (m,), a start z0 (n,) at times[0], and the numbers by which it was chosen.

    The loss is L(z) = |z - target|² / 2 at times[1].
    """

    field: MLP
    theta: np.ndarray
    z0: np.ndarray
    times: tuple[float, float]
    target: np.ndarray
    measured: dict[str, float]

    def trajectory(self, rtol: float = 1e-10, **options) -> Trajectory:
        """Return the solution, observed at both ends."""
        options = {"method": "DOP853", "atol": 1e-2 * rtol} | options
        return solve(self.field, self.z0, self.theta, self.times, rtol=rtol, **options)

    def loss(self, z: np.ndarray):
        """Return L of a state z (n,), which may be complex."""
        return np.sum((z - self.target) ** 2) / 2

    def cotangent(self, z: np.ndarray) -> np.ndarray:
        """Return dL/dz (2, n) at both times: z - target at the end, 0 at the start."""
        return np.stack([np.zeros_like(z), z - self.target])


@cache
def plane(seed: int) -> Demo:
    """Return a sine net 2-8-2 that reads t, with a curved path, a time-dependent field and an asymmetric Jacobian."""
    return _first(MLP([2, 8, 2], "sine"), (0.0, 3.0), seed, 1.5, _measure_plane, PLANE)


@cache
def line(seed: int) -> Demo:
    """Return a tanh net 1-8-1 that reads t, whose solution a single Euler step misses by far."""
    return _first(MLP([1, 8, 1]), (0.0, 2.0), seed, 2.0, _measure_line, LINE)


def _first(field: MLP, times: tuple[float, float], seed: int, gain: float, measure: Callable, wanted: dict) -> Demo:
    rng = np.random.default_rng(seed)
    grid = np.linspace(*times, 41)
    for _ in range(NETS):
        theta, starts = field.init(rng, gain), rng.standard_normal((STARTS, field.n))
        target = rng.standard_normal(field.n)
        paths = solve(field, starts, theta, grid, rtol=1e-4).z.swapaxes(0, 1)
        for path in paths:
            demo = Demo(field, theta, path[0], times, target, {})
            if _passes(demo, measure(demo, grid, path), wanted):
                return demo
    raise RuntimeError(f"none of {NETS} nets passed: {wanted}")


def _passes(demo: Demo, numbers: Iterator[tuple[str, float]], wanted: dict) -> bool:
    """Note what is measured, one number after the other, until one is not as wanted."""
    for name, number in numbers:
        demo.measured[name] = float(number)
        if not wanted[name][0] <= number <= wanted[name][1]:
            return False
    return True


def _measure_plane(demo: Demo, times: np.ndarray, z: np.ndarray) -> Iterator[tuple[str, float]]:
    field, theta, chords = demo.field, demo.theta, np.diff(z, axis=0)
    lengths = np.linalg.norm(chords, axis=1)
    sides = np.ptp(z, axis=0)
    yield "extent", sides.min()
    yield "roundness", sides.min() / sides.max()
    yield "straightness", np.linalg.norm(z[-1] - z[0]) / lengths.sum()
    angles = np.abs(np.diff(np.unwrap(np.arctan2(chords[:, 1], chords[:, 0]))))
    yield "turning", angles.sum()
    yield "half_turning", min(half.sum() for half in np.array_split(angles, 2))
    yield "slowest", lengths.min() / lengths.max()
    jacobian = _along(lambda at, t: field.jacobian(at, t, theta), z, times)
    yield "growth", trapezoid(np.linalg.norm(jacobian, 2, axis=(1, 2)), times)
    skew = np.linalg.norm(jacobian - jacobian.swapaxes(1, 2), axis=(1, 2)) / np.linalg.norm(jacobian, axis=(1, 2))
    yield "asymmetry", skew.mean()
    f_t = _along(lambda at, t: field.jvp(at, t, theta, np.zeros(2), 1.0, np.zeros(field.m)), z, times)
    yield "unrest", np.linalg.norm(f_t, axis=1).mean() * (times[-1] - times[0]) ** 2 / lengths.sum()
    trajectory = demo.trajectory(rtol=1e-4)
    dL_dz = demo.cotangent(trajectory.z[-1])
    yield "pull", min(_cosine(adjoint(trajectory, dL_dz).z0, chords[0]), _cosine(dL_dz[-1], chords[-1]))


def _measure_line(demo: Demo, times: np.ndarray, z: np.ndarray) -> Iterator[tuple[str, float]]:
    yield "turning", np.abs(np.diff(np.arctan(np.diff(z[:, 0]) / np.diff(times)))).sum()
    T = times[-1] - times[0]
    ends = [demo.trajectory(method="Euler", step=T / N).z[-1, 0] for N in (1, 2, 4, 8, 16)]
    error = np.abs(ends - z[-1, 0]) / np.ptp(z)
    yield "first_error", error[0]
    yield "closest", -np.diff(error).max()


def _along(value: Callable, z: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.array([value(at, t) for at, t in zip(z, times, strict=True)])


def _cosine(a: np.ndarray, f: np.ndarray) -> float:
    return abs(a @ f) / (np.linalg.norm(a) * np.linalg.norm(f))
