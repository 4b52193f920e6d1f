"""Are the error bars of gradients right? A seeded, stated distribution of problems, their true errors, and a verdict.

A problem is a random tanh net n-w-n, half of them with time: n uniform in 1..6, w log-uniform in 4..32, weights of gain
uniform in 0.5..3; a normal z0; 1 to 6 observations, the last at T, log-uniform in 0.5..5, the others uniform before it,
with normal cotangents; RK45 or DOP853, rtol log-uniform in 1e-9..1e-3, atol a thousandth of it. The truth is the
gradient by DOP853 at 1e-13, restarted at every observation.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import process_time
from typing import Any, NamedTuple

import numpy as np

from refode import MLP, Gradient, ReconstructionWarning, SolveError, Trajectory, adjoint, solve
from refode.sensitivities.error import KNOWN

METHODS = tuple(KNOWN)  # all but "forward"
SOLVERS = ("RK45", "DOP853")
LOST = 0.1  # true errors above it are counted apart: what is lost needs no error bar


@dataclass(frozen=True)
class Case:
    """One problem: what to solve, how, and the cotangents (T, n) of its observations, zero at t0."""

    field: MLP
    gain: float
    theta: np.ndarray
    z0: np.ndarray
    times: np.ndarray
    dL_dz: np.ndarray
    solver: str
    rtol: float


def case(seed: int, number: int) -> Case:
    """Return problem `number` of a seed, whatever others are drawn."""
    rng = np.random.default_rng([seed, number])
    n, width = int(rng.integers(1, 7)), round(np.exp(rng.uniform(np.log(4), np.log(32))))
    gain, span, count = rng.uniform(0.5, 3), np.exp(rng.uniform(np.log(0.5), np.log(5))), int(rng.integers(1, 7))
    field = MLP([n, width, n], "tanh", time=bool(rng.random() < 0.5))
    times = np.array([0.0, *np.sort(rng.uniform(0, span, count - 1)), span])
    dL_dz = rng.normal(size=(count + 1, n))
    dL_dz[0] = 0.0
    start = {"theta": field.init(rng, gain), "z0": rng.normal(size=n)}
    solver = SOLVERS[int(rng.integers(2))]
    return Case(field, gain, times=times, dL_dz=dL_dz, solver=solver, rtol=10 ** rng.uniform(-9, -3), **start)


def true_gradient(p: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients in z0 and θ by DOP853 at 1e-13: steps onto every observation, backpropagated."""
    z, pieces = p.z0, []
    for ends in pairwise(p.times):
        pieces.append(solve(p.field, z, p.theta, ends, method="DOP853", rtol=1e-13, atol=1e-13, keep="steps"))
        z = pieces[-1].z[-1]
    a, a_theta = np.zeros_like(z), np.zeros(p.field.m)
    for piece, dL in zip(reversed(pieces), p.dL_dz[:0:-1], strict=True):
        gradient = adjoint(piece, [0 * a, a + dL], method="discrete")
        a, a_theta = gradient.z0, a_theta + gradient.theta
    return a, a_theta


def study(seed: int, count: int) -> dict[str, np.ndarray]:
    """Return what became of the first `count` problems of a seed.

    true, free, witness (count, M, 2): relative errors in z0 and θ by every method, and both their estimates, NaN where
    a reverse solve stopped; seconds (count, M, 2): of the processor, for the gradient, its forward solve included, and
    for what its witness adds; and by name what the problems can be sorted by (count,).
    """
    rows = [_measured(case(seed, number)) for number in range(count)]
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _measured(p: Case) -> dict[str, np.ndarray | float | int]:
    want = true_gradient(p)
    options = {"method": p.solver, "rtol": p.rtol, "atol": 1e-3 * p.rtol, "keep": "dense"}
    trajectory, forward = _timed(lambda: solve(p.field, p.z0, p.theta, p.times, **options))
    found = {key: np.full((len(METHODS), 2), np.nan) for key in ("true", "free", "witness", "seconds")}
    for m, method in enumerate(METHODS):
        try:
            got, free = _timed(lambda method=method: _gradient(trajectory, p.dL_dz, method, error=False))
            witnessed, both = _timed(lambda method=method: _gradient(trajectory, p.dL_dz, method, error=True))
        except SolveError:
            continue
        parts = zip((got.z0, got.theta), want, strict=True)
        found["true"][m] = [np.linalg.norm(x - y) / np.linalg.norm(y) for x, y in parts]
        found["free"][m], found["witness"][m] = got.error, witnessed.error
        found["seconds"][m] = forward + free, both - free
    sorted_by = {"solver": SOLVERS.index(p.solver), "rtol": p.rtol, "n": p.field.n, "gain": p.gain, "T": p.times[-1]}
    return found | sorted_by | {"observations": len(p.times) - 1, "steps": trajectory.n_steps}


def _gradient(trajectory: Trajectory, dL_dz: np.ndarray, method: str, error: bool) -> Gradient:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReconstructionWarning)
        return adjoint(trajectory, dL_dz, method=method, error=error)


def _timed(compute: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result, and the processor's seconds that it took."""
    start = process_time()
    return compute(), process_time() - start


class Verdict(NamedTuple):
    """How good estimates are: shares of the problems, a median, and a correlation beyond what rtol predicts."""

    count: int  # of problems with a true error of at most LOST
    cover: float  # share of true ≤ 10 estimate
    share: float  # share of 0.1 ≤ true / estimate ≤ 10
    median: float  # of true / estimate
    correlation: float  # of log(estimate / rtol) with log(true / rtol)


def verdict(true: np.ndarray, estimate: np.ndarray, rtol: np.ndarray) -> Verdict:
    """Return the verdict on the estimates of one method and block, all (count,)."""
    judged = true <= LOST  # NaN is not
    true, estimate, rtol = true[judged], estimate[judged], rtol[judged]
    ratio = true / estimate
    logs = np.log(estimate / rtol), np.log(np.maximum(true, 1e-14) / rtol)
    cover, share = np.mean(ratio <= 10), np.mean((ratio >= 0.1) & (ratio <= 10))
    return Verdict(len(true), float(cover), float(share), float(np.median(ratio)), float(np.corrcoef(*logs)[0, 1]))


def strata(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return name -> which problems (count,) belong to it: each problem to one stratum of every kind."""
    kinds = {
        "solver": np.array(SOLVERS)[found["solver"]],
        "rtol 1e": np.floor(np.log10(found["rtol"])).astype(int),
        "n": found["n"],
        "gain": np.floor(2 * found["gain"]) / 2,
        "T": 2.0 ** np.floor(np.log2(found["T"])),
        "observations": found["observations"],
        "steps": 2 ** np.minimum(np.floor(np.log2(found["steps"])), 5).astype(int),  # 32 and more are one
    }
    return {f"{kind} {value}": kinds[kind] == value for kind in kinds for value in np.unique(kinds[kind])}


def worst_stratum(true: np.ndarray, estimate: np.ndarray, found: dict[str, np.ndarray]) -> tuple[float, str, int]:
    """Return the least cover of a stratum, its name and how many of its problems were judged."""
    judged, covered = true <= LOST, true <= 10 * estimate
    counts = {name: np.count_nonzero(judged & inside) for name, inside in strata(found).items()}
    return min(
        (float(np.mean(covered[judged & inside])), name, counts[name])
        for name, inside in strata(found).items()
        if counts[name]
    )
