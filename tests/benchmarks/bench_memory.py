"""What a gradient keeps in memory as the time span grows: the reverse solve nothing, the accepted steps all of it.

    python -m tests.benchmarks.bench_memory

Peak of tracemalloc over a whole gradient, solve and adjoint together, for a batch of undamped pendulums over 1, 2, 4,
8 and 16 spans. The pendulum swings without end, so the reverse solve has something to do and does not lose its way.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import tracemalloc

import numpy as np

from refode import Gradient, Pendulum, Trajectory, adjoint, solve

SPAN, GROWTH, BATCH = 4.0, (1, 2, 4, 8, 16), 1000
THETA = np.array([1.0, 0.0])  # stiffness, and no damping
# way to the gradient, what the forward solve keeps
WAYS = (("backsolve", "observations"), ("discrete", "times"), ("discrete", "steps"), ("discrete", "stages"))


def main() -> None:
    """Print the peaks, in kB, and the slope of each over the time span on logarithmic axes."""
    gradient("backsolve", "observations", SPAN)  # imports and caches are paid for once
    print(f"{BATCH} pendulums, one state is {BATCH * 2 * 8 / 1e3:.0f} kB; peak in kB of solve and adjoint together")
    print(f"{'time span':22}" + "".join(f"{k * SPAN:>9g}" for k in GROWTH) + "    16x / 1x")
    for way, keep in WAYS:
        peaks, steps = np.array([peak(way, keep, k * SPAN) for k in GROWTH]).T
        print(f"{way + ', ' + keep:22}" + "".join(f"{p / 1e3:9.0f}" for p in peaks) + f"{peaks[-1] / peaks[0]:12.2f}")
    print(f"{'accepted steps':22}" + "".join(f"{n:9.0f}" for n in steps) + f"{steps[-1] / steps[0]:12.2f}")


def gradient(way: str, keep: str, span: float) -> tuple[Trajectory, Gradient]:
    """The gradient of half the squared end state."""
    z0 = np.random.default_rng(0).normal(size=(BATCH, 2))
    trajectory = solve(Pendulum(), z0, THETA, [0.0, span], keep=keep)
    dL_dz = np.stack([np.zeros_like(z0), trajectory.z[-1]])
    return trajectory, adjoint(trajectory, dL_dz, method=way)


def peak(way: str, keep: str, span: float) -> tuple[int, int]:
    """Bytes at the peak, and the accepted steps of the forward solve."""
    tracemalloc.start()
    trajectory, _ = gradient(way, keep, span)
    _, bytes_at_peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return bytes_at_peak, trajectory.n_steps


if __name__ == "__main__":
    main()
