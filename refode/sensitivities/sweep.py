"""What every way to a gradient is given, and what it hands back."""

from dataclasses import dataclass, field
from typing import Any

from scipy.integrate import OdeSolver

from refode.solve import Trajectory
from refode.types import Array


@dataclass(frozen=True)
class Task:
    """A solved trajectory, the loss's cotangents there, and how a further solve is to be run."""

    trajectory: Trajectory
    dL_dz: Array  # (T, ..., n)
    solver: type[OdeSolver]
    rtol: float
    atol: float  # of states; that of cotangents is `atol` times their largest
    max_nfev: int
    seminorm: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """a at t0, before z0's own cotangent is added, and what it cost."""

    a_z: Array  # (..., n): a_§1(t0)
    a_theta: Array  # (m,): a_§3(t0)
    nfev: int
    nvjp: int
    reconstruction_error: float | None = None
    invariant_drift: float | None = None
