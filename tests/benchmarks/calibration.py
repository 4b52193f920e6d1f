"""Are the error bars of gradients right? Estimates against true errors, over random problems of a stated distribution.

    python -m tests.benchmarks.calibration [--count 1000] [--seed 2] [--kept]

For every method, block and estimate: cover, the share of problems with true ≤ 10 estimate (wanted: 0.95, and 0.90 in
the worst stratum of solver, decade of rtol, n, gain, T, observations and steps); the share with true / estimate within
0.1 and 10 (0.75); the median of true / estimate; the correlation of log(estimate / rtol) with log(true / rtol) (0.7);
and what the witness costs, in units of the gradient with its forward solve (median). `figures/_calibration.py` states
the problems; the factors on the estimates were found on those of seeds 0 and 1. Some minutes on one core; --kept
judges what `python -m figures rebuild error_calibration` measured.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import sys
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from figures._calibration import LOST, METHODS, case, study, true_gradient, verdict, worst_stratum
from figures._kept import kept
from figures.error_calibration import COUNT, FIRST_SEED

from .bench_vjp import machine

SEED = FIRST_SEED
WANTED = {"cover": 0.95, "worst": 0.90, "share": 0.75, "correlation": 0.7}
__all__ = ["METHODS", "SEED", "case", "study", "true_gradient", "verdict"]


def main() -> None:
    """Print the table, and what of it falls short."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help="how many problems")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--kept", action="store_true", help="measure nothing: judge the study of the figure")
    asked = parser.parse_args()
    if not asked.kept:
        print(machine())
    found = kept("error_calibration", asked.seed - SEED) if asked.kept else study(asked.seed, asked.count)
    print(*report(found), sep="\n")


def report(found: dict[str, np.ndarray]) -> list[str]:
    """The lines of the table, and one for each number that falls short."""
    lines = [
        f"{'method':14}{'estimate':9}{'block':6}{'n':>4}{'cover':>7}{'worst stratum':>30}{'share':>7}{'median':>8}"
        f"{'corr.':>7}{'cost':>6}"
    ]
    short = []
    for m, method in enumerate(METHODS):
        for kind in ("free", "witness"):
            for i, block in enumerate(("z0", "theta")):
                true, estimate = found["true"][:, m, i], found[kind][:, m, i]
                got, (worst, name, count) = verdict(true, estimate, found["rtol"]), worst_stratum(true, estimate, found)
                cost = np.nanmedian(found["seconds"][:, m, 1] / found["seconds"][:, m, 0]) if kind == "witness" else 0
                lines.append(
                    f"{method:14}{kind:9}{block:6}{got.count:4}{got.cover:7.3f}{f'{worst:.2f} {name} ({count})':>30}"
                    f"{got.share:7.3f}{got.median:8.2f}{got.correlation:7.2f}{cost:6.2f}"
                )
                values = got._asdict() | {"worst": worst}
                short += [f"short: {method} {kind} {block}: {key} {values[key]:.3f} < {least}"
                          for key, least in WANTED.items() if values[key] < least]  # fmt: skip
    apart = len(found["rtol"]) - np.count_nonzero(found["true"] <= LOST, axis=0).min(axis=1)
    lines.append(
        "true errors above 0.1, or no gradient: " + ", ".join(f"{m} {n}" for m, n in zip(METHODS, apart, strict=True))
    )
    return [*lines, *(short or ["nothing falls short"])]


if __name__ == "__main__":
    main()
