"""What is printed: machine and versions, each side's time and error, and refode's ratios to them."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import numpy as np

from .timing import Setting

PACKAGES = ("refode", "numpy", "scipy", "torch", "torchdiffeq", "jax", "diffrax", "autograd")
PINNED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
OTHERS = ("torchdiffeq adjoint", "torchdiffeq backprop", "autograd odeint")
HEAD = """\
| case, error | refode, ms | / diffrax, fastest | / torchdiffeq adjoint | / torchdiffeq backprop | / autograd |
|---|---|---|---|---|---|"""
# at most, against the fastest diffrax: (case, BLAS threads) -> error -> ratio
BOUNDS = {
    ("S1", 1): {1e-4: 1.8, 1e-6: 1.35},
    ("S20", 1): {1e-4: 0.95, 1e-6: 0.90},
    ("M", 1): {1e-4: 0.60, 1e-6: 0.65},
    ("CNF", 1): {1e-4: 0.75, 1e-6: 0.80},
    ("L", 1): {1e-4: 0.70, 1e-6: 0.75},
    ("L", 2): {1e-4: 0.50, 1e-6: 0.55},
}
OF_ANY = {"torchdiffeq adjoint": 0.2, "autograd odeint": 0.1}  # at most, in any case
OF_L = {"torchdiffeq adjoint": 0.25}  # but in this one


def machine(threads: int) -> str:
    """Versions, threads, the BLAS kernels that ran, the load, and what makes the times unfair."""
    lines = [f"{platform.machine()}, {os.cpu_count()} cores, python {platform.python_version()}", ", ".join(versions())]
    lines.append(f"{threads} thread{'s' * (threads > 1)} asked for; {blas()}; load {load()}")
    pinned = [f"{name}={os.environ[name]}" for name in PINNED if name in os.environ]
    if pinned:
        lines.append(f"WARNING: {' and '.join(pinned)} pins the BLAS kernel: unset both to time NumPy fairly")
    return "\n".join(lines)


def versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return found


def blas() -> str:
    """The libraries that threadpoolctl finds loaded, with kernel and threads."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "BLAS kernel unknown: threadpoolctl is not installed"
    return ", ".join(
        f"{pool['internal_api']} {pool.get('architecture') or ''} x {pool['num_threads']}".replace("  ", " ")
        for pool in threadpool_info()
    )


def load() -> str:
    """Of the last minute, where the system tells."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


class Ratio(NamedTuple):
    """refode's seconds to another's, taken round by round: the quartiles by the wall, the median by the processor."""

    low: float
    middle: float
    high: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.middle:.3g} [{self.low:.3g}, {self.high:.3g}]"


def ratio(ours: np.ndarray, theirs: np.ndarray) -> Ratio:
    """Of the rounds that both played in; seconds (rounds, 2)."""
    wall, cpu = (ours / theirs).T
    return Ratio(*np.nanquantile(wall, [0.25, 0.5, 0.75]), float(np.nanmedian(cpu)))


def lines(target: float, settings: dict[str, Setting], seconds: dict[str, np.ndarray]) -> Iterator[str]:
    """A line a side: tolerance, achieved error, milliseconds by wall and processor, refode's ratio to it."""
    for name, setting in settings.items():
        if name not in seconds:
            yield f"  {name:21} {setting.failure}"
            continue
        wall, cpu = 1e3 * np.nanmedian(seconds[name], axis=0)
        line = f"  {name:21} tol {setting.tol:7.1e}  error {setting.error:7.1e}  {wall:9.3f} ms  cpu {cpu:9.3f} ms"
        if setting.loss_error > 10 * target:
            line += f"  WARNING: the loss differs by {setting.loss_error:.1e}, is it the same?"
        ours = fastest(seconds, "refode")
        if ours is not None and not name.startswith("refode"):
            found = ratio(seconds[ours], seconds[name])
            line += f"  refode/it {found!s:24} cpu {found.cpu:.3g}"
        yield line


def row(case: str, target: float, threads: int, seconds: dict[str, np.ndarray]) -> str:
    """The table's: refode's time, and its ratios to each library's ways; of refode and of diffrax the fastest alone."""
    our, diffrax = fastest(seconds, "refode"), fastest(seconds, "diffrax")
    assert our is not None
    ours = seconds[our]
    cells = [f"{case}, {target:.0e}".replace("e-0", "e-")]
    cells.append(f"{1e3 * np.nanmedian(ours[:, 0]):.3g}, {our.removeprefix('refode ')}")
    for name in (diffrax, *OTHERS):
        cells.append(str(ratio(ours, seconds[name])) if name in seconds else "-")
        most = ((OF_ANY | OF_L) if case == "L" else OF_ANY).get(name or "")
        cells[-1] += f"; at most {most:g}" if most and name in seconds else ""
    bound = BOUNDS.get((case, threads), {}).get(target)
    if diffrax is not None:
        cells[2] += f" cpu {ratio(ours, seconds[diffrax]).cpu:.3g}, {diffrax.removeprefix('diffrax ')}"
        cells[2] += f"; at most {bound:g}" if bound else ""
    return f"| {' | '.join(cells)} |"


def fastest(seconds: dict[str, np.ndarray], library: str) -> str | None:
    """The way of a library that took the least, by the median of the wall clock; None where it took no part."""
    medians = {name: np.nanmedian(each[:, 0]) for name, each in seconds.items() if name.startswith(library)}
    return min(medians, key=medians.__getitem__) if medians else None
