"""What every way to a gradient is given, what it hands back, and what the reverse solves share.

A reverse solve carries q = (z, a_§1, a_§2, a_§3) from observation to observation, and at each of them a jumps. How q
gets from one to the next, and which of its blocks are solved for, is what the ways differ in.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import OdeSolver

from refode.fields import check_blocks
from refode.integrate import LEAST_RTOL, Integrator
from refode.solve import Trajectory
from refode.types import Array


@dataclass(frozen=True)
class Task:
    """A solved trajectory, the loss's cotangents there, and how a further solve is to be run."""

    trajectory: Trajectory
    dL_dz: Array  # (T, ..., n)
    solver: type[OdeSolver]
    rtol: float
    atol: float  # of states; that of cotangents is `atol` times their largest
    max_nfev: int
    seminorm: bool = False
    checkpoints: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def largest_cotangent(self) -> float:
        """Of those after t0, which the adjoint is made of; 1 where all of them vanish."""
        return float(abs(self.dL_dz[1:]).max(initial=0.0)) or 1.0

    def integrator(
        self, rhs: Callable[[float, Array], Array], rtol: float, atol: float | Array, keep: str = "observations"
    ) -> Integrator:
        """The solver of the way back."""
        return Integrator(rhs, self.solver, rtol, atol, self.max_nfev, "reverse", self.options, keep)


@dataclass(frozen=True)
class Sweep:
    """a at t0, before z0's own cotangent is added, and what it cost."""

    a_z: Array  # (..., n): a_§1(t0)
    a_theta: Array  # (m,): a_§3(t0)
    nfev: int
    nvjp: int
    reconstruction_error: float | None = None
    drift: "Drift | None" = None


class Augmented(NamedTuple):
    """q = (z, a_§1, a_§2, a_§3) at one time. Note: D34 (§2.2), P20, E15."""

    z: Array  # (..., n)
    a_z: Array  # (..., n)
    a_t: Array | float
    a_theta: Array  # (m,)


def in_reverse(task: Task, stretch: Callable[[float, float, Augmented], Augmented], drift: "Drift") -> Augmented:
    """q at t0, the invariant shown to `drift`; `stretch(t_i, t_i−1, q)` solves q back from an observation to the next.

    a_§1 jumps by dL_i and a_§2 by −dL_i f_i at every observation but t0's, so that a_§1 f + a_§2 = 0 all along (E08).
    f is evaluated at every observation.
    """
    traj = task.trajectory
    q = Augmented(traj.z[-1], np.zeros_like(traj.z[-1]), 0.0, np.zeros(traj.field.m))
    f = traj.field(q.z, traj.times[-1], traj.theta)
    for i in range(len(traj.times) - 1, 0, -1):
        a_z = q.a_z + task.dL_dz[i]  # a_§1 jumps by dL_i
        a_t = q.a_t - np.sum(task.dL_dz[i] * f)  # a_§2 by −dL_i f_i   (E08)
        drift.visit(a_z, f, a_t)
        q = stretch(traj.times[i], traj.times[i - 1], Augmented(q.z, a_z, a_t, q.a_theta))
        f = traj.field(q.z, traj.times[i - 1], traj.theta)
        drift.visit(q.a_z, f, q.a_t)
    return q


def dense(task: Task, way: str) -> Callable[[Any], Array]:
    """z(t), t.shape + (..., n), from the dense output; ValueError names the `keep` where there is none."""
    traj = task.trajectory
    if traj.sol is None and len(traj.times) > 1:
        raise ValueError(f'method "{way}" reads z(t) from the dense output: solve(..., keep="dense")')
    shape = traj.z[0].shape
    return lambda t: np.asarray(traj.sol(t).T).reshape(*np.shape(t), *shape)


class Blocks:
    """The layout of q = (z, a_§1, a_§2, a_§3), flat, for SciPy: 2 B n + 1 + m numbers; or of the last three alone.

    Note: D34 (§2.2), P20, E15.
    """

    def __init__(self, shape: tuple[int, ...], m: int, with_z: bool = True) -> None:
        self.shape, self.m, self.with_z = shape, m, with_z
        self.size = int(np.prod(shape))

    def pack(self, *blocks: Any) -> Array:
        """One flat vector of the blocks; ValueError for what a hand-written VJP may return."""
        check_blocks(blocks[-3:], self.shape, self.m)
        return np.concatenate([np.ravel(block) for block in blocks])

    def unpack(self, y: Array) -> tuple[Any, ...]:
        """The blocks of a flat vector, as views."""
        states = [y[i * self.size : (i + 1) * self.size].reshape(self.shape) for i in range(1 + self.with_z)]
        return *states, y[-self.m - 1], y[len(y) - self.m :]

    def tolerances(self, task: Task) -> tuple[float, Array]:
        """rtol, and atol of every component: the adjoint's in proportion to the largest cotangent.

        The seminorm leaves a_§2 and a_§3, on which nothing depends, out of the error norm. SciPy's norm is the root
        mean square over all N components: an infinite atol takes a component out of the sum but not out of the mean,
        which the factor √(controlled / N) on both tolerances puts right.
        """
        controlled = self.size * (1 + self.with_z)
        atol = np.full(controlled + 1 + self.m, task.atol)
        atol[controlled - self.size :] *= task.largest_cotangent
        if not task.seminorm or self.size == 0:
            return task.rtol, atol
        atol[controlled:] = np.inf
        factor = float(np.sqrt(controlled / len(atol)))
        return max(task.rtol * factor, LEAST_RTOL), atol * factor


class Drift:
    """How far a_§1 f + a_§2, which is 0 along an exact adjoint, moves, in units of max |a_§1| |f|.

    It is visited at both ends of every interval: a wrong jump of a_§2 shows as well as an inaccurate solve. A way that
    can afford f there shows it every step.
    """

    def __init__(self) -> None:
        self.moved = self.squares = self.largest = self.last = 0.0

    def visit(self, a_z: Array, f: Array, a_t: Array | float) -> None:
        invariant = float(np.sum(a_z * f) + a_t)  # a_§1 f + a_§2 = 0   (E08)
        change, self.last = abs(invariant - self.last), invariant
        self.moved += change
        self.squares += change**2
        self.largest = max(self.largest, float(np.linalg.norm(a_z) * np.linalg.norm(f)))

    def relative(self) -> float:
        """In all, every change by its modulus."""
        return self.moved / (self.largest or 1.0)

    def root(self) -> float:
        """As independent changes add: the root of the sum of their squares."""
        return float(np.sqrt(self.squares)) / (self.largest or 1.0)
