"""The work-precision table: what a gradient costs here and elsewhere, at equal achieved error.

    python tests/benchmarks/bench_peers.py                          all of it, some five minutes; extra: peers
    python tests/benchmarks/bench_peers.py --refode-only            refode's times alone, needs no peer
    python tests/benchmarks/bench_peers.py --cases L --threads 2    more than one thread

Five problems (`peers/cases.py`), three errors. First each side is given the loosest tolerance whose gradient is that
good: the larger of the relative L2 errors in θ and z0, against a discrete gradient through DOP853's steps at rtol
1e-13. Then the sides take turns in one process, in a new order each round, and ratios are taken round by round: printed
are their median and quartiles by the wall clock, and their median by the processor's, which tells what a busy machine
hides. A library that is not installed is named and left out.
"""

import argparse
import os
from importlib import import_module

LIBRARIES = ("refode", "diffrax", "torchdiffeq", "autograd")
CASES = ("S1", "S20", "M", "CNF", "L")


def main() -> None:
    """Print the machine, every side's line as it is measured, and the table."""
    args = arguments()
    set_threads(args.threads)
    from peers import cases, refode_, report

    modules = available(["refode"] if args.refode_only else LIBRARIES)
    print(report.machine(args.threads))
    rows = []
    for name in args.cases:
        case = cases.case(name, args.seed)
        sides = {side: made for module in modules for side, made in module.sides(case).items()}
        chosen = {side: made for side, made in sides.items() if any(side.startswith(start) for start in args.sides)}
        rows += compare(case, refode_.reference(case), chosen, args)
    print(f"load {report.load()}; refode's time, and its ratio to the others': median [quartiles]\n")
    print("\n".join([report.HEAD, *rows]))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--targets", nargs="+", type=float, default=[1e-4, 1e-6, 1e-8], help="achieved errors")
    parser.add_argument("--seed", type=int, default=0, help="of the problems: how many steps one takes is luck too")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="of BLAS, torch and XLA")
    parser.add_argument("--sides", nargs="+", default=[""], help='by how they begin: refode diffrax "diffrax Tsit5"')
    parser.add_argument("--refode-only", action="store_true")
    return parser.parse_args()


def set_threads(threads: int) -> None:
    """It has to come before NumPy is imported."""
    for name in ("OPENBLAS", "OMP", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["NPROC"] = str(threads)  # XLA sizes its pool by it
    if threads == 1:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"


def available(libraries: list[str] | tuple[str, ...]) -> list:
    """The modules of those that are installed; the others are named."""
    modules = []
    for library in libraries:
        try:
            modules.append(import_module(f"peers.{library}_"))
        except ModuleNotFoundError as missing:
            print(f"{library} left out: {missing.name} is not installed")
    return modules


def compare(case, want, sides: dict, args: argparse.Namespace) -> list[str]:
    """Calibrate, take turns and print, for one case; the table's rows."""
    from peers import report, timing

    settings = {name: timing.calibrate(side, want, args.targets) for name, side in sides.items()}
    rows = []
    for target in sorted(args.targets, reverse=True):
        here = {name: found[target] for name, found in settings.items()}
        calls = {name: sides[name].at(setting.tol) for name, setting in here.items() if not setting.failure}
        seconds = timing.take_turns(calls, args.rounds)
        print(f"{case.name}, error {target:.0e}, {args.rounds} rounds, load {report.load()}")
        print("\n".join(report.lines(target, here, seconds)), flush=True)
        if report.fastest(seconds, "refode") is not None:
            rows.append(report.row(case.name, target, args.threads, seconds))
    return rows


if __name__ == "__main__":
    main()
