"""What a VJP costs in units of f: MLP 2-64-64-2, batch 256.

    python tests/benchmarks/bench_vjp.py

One BLAS thread, f and VJP and JVP in turns, so that a busy moment of the machine falls on all of them; the ratios are
taken turn by turn. It prints and judges nothing but the median against the bound that the project keeps, 3.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import platform
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter

import numpy as np
import scipy

import refode
from refode import MLP

SIZES, BATCH, TURNS = (2, 64, 64, 2), 256, 500
BOUND = 3.0


def main() -> None:
    """Print the machine, the times, and the ratios to f."""
    print(machine())
    times = measure(TURNS)
    multiplications = BATCH * sum(fan_in * fan_out for fan_in, fan_out in pairwise(SIZES))
    print(f"MLP {'-'.join(map(str, SIZES))}, batch {BATCH}: {multiplications / 1e6:.2f} M multiplications in f")
    print(f"{'':10} {'ms':>7}   {'/ f: median':>11} {'5 %':>6} {'25 %':>6} {'75 %':>6} {'95 %':>6}")
    for name, column in times.items():
        low, lower, middle, upper, high = np.quantile(column / times["f"], [0.05, 0.25, 0.5, 0.75, 0.95])
        spread = f"{low:6.2f} {lower:6.2f} {upper:6.2f} {high:6.2f}"
        print(f"{name:10} {1e3 * np.median(column):7.3f}   {middle:11.2f} {spread}")
    ratio = np.median(times["vjp"] / times["f"])
    print(f"vjp / f = {ratio:.2f}, {'within' if ratio <= BOUND else 'ABOVE'} the bound {BOUND:g}; {TURNS} turns")


def machine() -> str:
    """Versions, BLAS threads, and the kernel that BLAS chose, where threadpoolctl can tell."""
    versions = f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    return f"refode {refode.__version__}, {versions}, {platform.machine()}\n{blas()}"


def blas() -> str:
    threads = f"BLAS threads: {os.environ['OPENBLAS_NUM_THREADS']}"
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return f"{threads} (kernel unknown: threadpoolctl is not installed)"
    libraries = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    found = [f"{pool['internal_api']} {pool.get('architecture')} x {pool['num_threads']}" for pool in libraries]
    return f"{threads} asked for; {', '.join(found)}"


def measure(turns: int) -> dict[str, np.ndarray]:
    """Seconds of each evaluation, (turns,); the first turns, which warm up, are thrown away."""
    calls = evaluations(np.random.default_rng(0))
    seconds = np.array([[timed(call) for call in calls.values()] for _ in range(turns + turns // 10)])
    return dict(zip(calls, seconds[-turns:].T, strict=True))


def evaluations(rng: np.random.Generator) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    field = MLP(SIZES)
    theta, dtheta = field.init(rng), rng.normal(size=field.m)
    z, a = rng.normal(size=(2, BATCH, field.n))
    _, pullback = field.linearize(z, 0.3, theta)
    return {
        "f": lambda: field(z, 0.3, theta),
        "vjp": lambda: field.vjp(z, 0.3, theta, a),
        "linearize": lambda: field.linearize(z, 0.3, theta),
        "pullback": lambda: pullback(a),
        "jvp": lambda: field.jvp(z, 0.3, theta, a, 1.0, dtheta),
    }


def timed(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main()
