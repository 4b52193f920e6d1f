"""Every way to the gradient at every corner: which observations a loss reads, which way time runs, what else it adds.

The loss is not linear in z, and it is differentiated itself, by complex step through a solve of its own: no adjoint, no
VJP. `tests/test_every_way.py` holds every way to `ALLOWED`; `python -m tests.benchmarks.methods_table` prints how far
each of them comes.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from refode import MLP, KineticEnergy, Trajectory, WithRunningCost, adjoint, solve
from refode.adjoint import LEAST_KEPT
from refode.finite_difference import complex_solve, complex_step

CORNERS = {  # name -> times, and the rows that the loss reads
    "t0 and t1": ([0.3, 0.9, 1.1, 1.8], [0, 3]),
    "t1": ([0.3, 0.9, 1.1, 1.8], [3]),
    "interior": ([0.3, 0.9, 1.1, 1.8], [1, 2]),
    "all": ([0.3, 0.9, 1.1, 1.8], [0, 1, 2, 3]),
    "one": ([0.3, 0.9, 1.1, 1.8], [1]),
    "decreasing": ([0.3, -0.3, -0.5, -1.2], [0, 1, 2, 3]),
}
LOSSES = {  # name -> does it add a running cost, and a dependence on θ itself?
    "in z": (False, False),
    "running cost": (True, False),
    "theta": (False, True),
}
BLOCKS = ("z0", "theta", "times")
# The solver's error of a step is 1e-10 relative: some 50 steps forward, as many back, and a flow that grows tenfold.
RTOL, ATOL, ALLOWED = 1e-10, 1e-12, 1e-7


class Corner(NamedTuple):
    """A problem, L = Σ w_i sin z(t_i) [+ Σ ∫|f|² dt over the batch] [+ |θ|²/2], and its gradient by complex step."""

    field: object
    theta: np.ndarray
    z0: np.ndarray
    times: np.ndarray
    w: np.ndarray  # (T, 2, n)
    running: bool
    direct: bool
    want: dict[str, np.ndarray]


@cache
def corner(where: str, loss: str) -> Corner:
    """The problem at a corner, under a loss."""
    rng = np.random.default_rng(7)
    times, rows = CORNERS[where]
    running, direct = LOSSES[loss]
    net = MLP([2, 3, 2])
    theta, z0, w = net.init(rng), rng.normal(size=(2, 2)), np.zeros((4, 2, 2))
    w[rows] = rng.normal(size=(len(rows), 2, 2))

    def value(z0, theta, times):
        field = WithRunningCost(net, KineticEnergy(net)) if running else net
        start = np.concatenate([z0, np.zeros((2, 1))], axis=-1) if running else z0
        z = complex_solve(field, start, theta, times)
        return np.sum(w * np.sin(z[..., :2])) + running * np.sum(z[-1, :, 2:]) + direct * (theta @ theta) / 2

    at = {"z0": z0, "theta": theta, "times": np.array(times)}
    want = {block: complex_step(lambda x, block=block: value(**at | {block: x}), at[block]) for block in BLOCKS}
    return Corner(net, theta, z0, at["times"], w, running, direct, want)


def solved(c: Corner, keep: str, method: str = "RK45") -> Trajectory:
    """The forward solve, of (z, C) where there is a running cost."""
    field = WithRunningCost(c.field, KineticEnergy(c.field)) if c.running else c.field
    start = np.concatenate([c.z0, np.zeros((2, 1))], axis=-1) if c.running else c.z0
    return solve(field, start, c.theta, c.times, method=method, rtol=RTOL, atol=ATOL, keep=keep)


def errors(c: Corner, way: str) -> dict[str, float]:
    """Block -> the error of a way, relative to the block, or to the smallest size that counts, |w| / 100."""
    trajectory = solved(c, LEAST_KEPT[way])
    dL_dz = np.zeros_like(trajectory.z)
    dL_dz[..., :2] = c.w * np.cos(trajectory.z[..., :2])
    dL_dz[-1, :, 2:] = 1.0  # a_C = 1
    got = adjoint(trajectory, dL_dz, method=way, dL_dtheta=c.theta if c.direct else None)
    blocks = {"z0": got.z0[:, :2], "theta": got.theta, "times": got.times}
    least = np.linalg.norm(c.w) / 100
    return {
        block: float(np.linalg.norm(blocks[block] - c.want[block]) / max(np.linalg.norm(c.want[block]), least))
        for block in BLOCKS
    }
