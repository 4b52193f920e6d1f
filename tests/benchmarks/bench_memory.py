"""What a gradient holds in memory: the reverse solve nothing of the steps, the others some or all of it.

    python -m tests.benchmarks.bench_memory

The data of the figure `memory`, measured anew, as a table: peaks of tracemalloc over a whole gradient, solve and
adjoint together, over longer and longer spans, and over more and more layers. And what `loss_and_gradient` holds beside
them, which marches on a tape.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import tracemalloc

import numpy as np

from figures import memory
from refode import MLP, SquaredError, loss_and_gradient

from .bench_vjp import machine

SIZES, BATCH, STEPS = (2, 64, 64, 2), 256, (25, 50, 100)


def main() -> None:
    """Print the peaks, in states over the steps and in outputs of a layer over the layers, and how they grow."""
    print(machine())
    found = memory.data()
    print(f"{found['batch']} pendulums by RK45, one state is {found['state_kb']:.0f} kB; peaks in states")
    print(row("accepted steps", found["steps"]) + "   a step")
    for name, peaks, rate in zip(memory.WAYS, found["states"], found["per_step"], strict=True):
        print(row(name, peaks) + f"{rate:9.2f}")
    print(f"\nnets by RK4, the output of a layer is {found['output_kb']:.0f} kB; peaks in outputs")
    print(row("hidden layers", found["layers"]) + "  a layer")
    for name, runs, rate in zip(memory.FLAT, found["outputs"], found["per_layer"], strict=True):
        for steps, peaks in zip(found["rk4"], runs, strict=True):
            print(row(f"{name}, {steps} steps", peaks) + f"{rate:9.2f}")
    print(f"\nMLP {'-'.join(map(str, SIZES))}, batch {BATCH}, by RK4, loss_and_gradient; peaks in states")
    print(row("steps", STEPS) + "   a step")
    for name, options in (("on a tape", {}), ("by solve, adjoint", {"keep": "steps"})):
        peaks = [peak(steps, **options) for steps in STEPS]
        print(row(name, peaks) + f"{np.polyfit(STEPS, peaks, 1)[0]:9.2f}")


def peak(steps: int, **options) -> float:
    """What a loss and its gradient hold at most, in states."""
    net, rng = MLP(SIZES), np.random.default_rng(0)
    z0, theta = rng.normal(size=(BATCH, net.n)), net.init(rng)
    tracemalloc.start()
    try:
        loss = SquaredError(np.zeros((2, *z0.shape)))
        loss_and_gradient(net, z0, loss, [0.0, 1.0], solver="RK4", step=1 / steps, **options)(theta)
        return tracemalloc.get_traced_memory()[1] / z0.nbytes
    finally:
        tracemalloc.stop()


def row(name: str, numbers) -> str:
    """A name and numbers in columns."""
    return f"{name:22}" + "".join(f"{number:8.0f}" for number in numbers)


if __name__ == "__main__":
    main()
