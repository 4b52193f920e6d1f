"""Every way to the gradient at every corner of observation times: the README's table, in Markdown.

    python -m tests.benchmarks.methods_table

Entries are the largest relative error of the gradients in z0, θ and the times, of a loss in z, with a running cost, and
with θ in it besides, against complex step of the loss itself (`tests/corners.py`). Below it, what a way refuses, and
what it says instead.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from corners import CORNERS, LOSSES, corner, errors, solved

from refode import adjoint
from refode.adjoint import LEAST_KEPT, WAYS

# A way, what was kept, and the solver, where it cannot work.
REFUSALS = [
    *((way, "observations", "RK45") for way, keep in LEAST_KEPT.items() if keep != "observations"),
    *((way, "steps", "RK45") for way, keep in LEAST_KEPT.items() if keep == "dense"),
    ("discrete", "steps", "Radau"),
    ("discrete", "steps", "LSODA"),
]


def main() -> None:
    """Print the two tables."""
    print("| method | " + " | ".join(CORNERS) + " |")
    print("|---" * (1 + len(CORNERS)) + "|")
    for way in WAYS:
        worst = [max(max(errors(corner(where, loss), way).values()) for loss in LOSSES) for where in CORNERS]
        print(f'| `"{way}"` | ' + " | ".join(f"{error:.0e}" for error in worst) + " |")
    print()
    for way, keep, method in REFUSALS:
        print(f'{method}, keep="{keep}": {refusal(way, keep, method)}')


def refusal(way: str, keep: str, method: str) -> str:
    """What `adjoint` says when a way lacks what it needs; empty if it does its work."""
    trajectory = solved(corner("all", "in z"), keep, method)
    try:
        adjoint(trajectory, 0 * trajectory.z, method=way)
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
