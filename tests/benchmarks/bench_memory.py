"""What a gradient holds in memory: the reverse solve nothing of the steps, the others some or all of it.

    python -m tests.benchmarks.bench_memory

The data of the figure `memory`, measured anew, as a table: peaks of tracemalloc over a whole gradient, solve and
adjoint together, over longer and longer spans, and over more and more layers.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

from figures import memory

from .bench_vjp import machine


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


def row(name: str, numbers) -> str:
    """A name and numbers in columns."""
    return f"{name:22}" + "".join(f"{number:8.0f}" for number in numbers)


if __name__ == "__main__":
    main()
