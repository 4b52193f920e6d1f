"""What the exact trace costs in units of f, one hidden layer: MLP 2-64-2, batch 512.

    python tests/benchmarks/bench_trace.py

f alone, f with the trace, and f with the trace and the VJP of both, in turns, so that a busy moment of the machine
falls on all of them; ratios are taken turn by turn. It prints their medians against the bounds that the project keeps,
1.3 and 4, and beside them what the general algorithm and one probe cost. One BLAS thread.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

from collections.abc import Callable
from time import perf_counter

import numpy as np
from bench_vjp import machine

from refode import MLP
from refode.divergence import directions, linearize_divergence, rademacher
from refode.mlp_divergence import any_depth

SIZES, BATCH, TURNS = (2, 64, 2), 512, 3000
BOUNDS = {"f, trace": 1.3, "f, trace, VJP": 4.0}


def main() -> None:
    """Print the machine, the times, and the ratios to f."""
    print(machine())
    print(f"MLP {'-'.join(map(str, SIZES))}, batch {BATCH}, {TURNS} turns")
    times = measure(TURNS)
    print(f"{'':24} {'us':>7}   {'/ f: median':>11} {'5 %':>6} {'25 %':>6} {'75 %':>6} {'95 %':>6}")
    for name, column in times.items():
        low, lower, middle, upper, high = np.quantile(column / times["f"], [0.05, 0.25, 0.5, 0.75, 0.95])
        bound = f"   {'within' if middle <= BOUNDS[name] else 'ABOVE'} {BOUNDS[name]:g}" if name in BOUNDS else ""
        spread = f"{low:6.2f} {lower:6.2f} {upper:6.2f} {high:6.2f}"
        print(f"{name:24} {1e6 * np.median(column):7.1f}   {middle:11.2f} {spread}{bound}")


def measure(turns: int) -> dict[str, np.ndarray]:
    """Seconds of each evaluation, (turns,); the first turns, which warm up, are thrown away."""
    calls = evaluations(np.random.default_rng(0))
    seconds = np.array([[timed(call) for call in calls.values()] for _ in range(turns + turns // 10)])
    return dict(zip(calls, seconds[-turns:].T, strict=True))


def evaluations(rng: np.random.Generator) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    field = MLP(SIZES)
    theta = field.init(rng)
    z, a = rng.normal(size=(2, BATCH, field.n))
    c, probe = rng.normal(size=BATCH), rademacher(rng, z.shape)
    at = z, 0.3, theta
    return {
        "f": lambda: field(*at),
        "f, trace": lambda: linearize_divergence(field, *at),
        "f, trace, VJP": lambda: linearize_divergence(field, *at)[2](a, c),
        "the same by n tangents": lambda: any_depth(field, *at, *directions(z, None))[2](a, c),
        "the same by one probe": lambda: linearize_divergence(field, *at, probe)[2](a, c),
    }


def timed(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main()
