"""A solve that can be pulled back, again and again: what fits call, by the fastest way that does what was asked.

The discrete way through an explicit Runge-Kutta solve is marched on a tape that is kept from one gradient to the next
(`refode.march`, `refode.sensitivities.taped`); everything else, and whatever a march can't finish, is `solve` and
`adjoint`. The numbers are the same to the solver's tolerance. A march that is lost has spent evaluations, at most
max_nfev, which `solve` then does not count.
"""

import threading
from collections.abc import Callable
from typing import Any

from scipy.integrate import OdeSolver

from refode.adjoint import LEAST_KEPT, WAYS, adjoint
from refode.arguments import one_of
from refode.fields import VectorField
from refode.march import Lost
from refode.sensitivities.discrete import explicit
from refode.sensitivities.taped import Taped
from refode.solve import Trajectory, solve
from refode.types import Array

PullBack = Callable[[Array], tuple[Array, Array]]
"""dL/dz (T, ..., n) -> dL/dz0 (..., n) and dL/dθ (m,); good until the next solve by the same object in its thread."""


class Differentiable:
    """z0, θ ↦ z(times) and its pullback; `method` is the way to the gradient, as in `adjoint`."""

    def __init__(self, field: VectorField, method: str = "discrete") -> None:
        self.field, self.way = field, one_of("method", method, WAYS)
        self.own = threading.local()  # a tape serves one solve at a time

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied without the tapes."""
        return type(self), (self.field, self.way)

    def solve(
        self, z0: Array, theta: Array, times: Array, solver: type[OdeSolver], **options: Any
    ) -> tuple[Trajectory, PullBack]:
        """The trajectory and its pullback.

        z0 (..., n), theta (m,) and times (T,) as `real_array` leaves them, options as `checked_options` does.
        """
        if self.way == "discrete":
            explicit(solver)  # refused before any work
        if self.way == "discrete" and z0.size and len(times) > 1 and Taped.suits(solver, options, len(times)):
            taped: Taped = self.own.__dict__.setdefault("taped", Taped(self.field))
            try:
                return taped.solve(z0, theta, times, solver, **options)
            except Lost:  # `solve` says why, or succeeds
                pass
        least = LEAST_KEPT[self.way]
        if least == "dense" and len(times) == 1:
            least = "observations"  # there is nothing to interpolate
        trajectory = solve(self.field, z0, theta, times, method=solver, **({"keep": least} | options))

        def pull_back(dL_dz: Array) -> tuple[Array, Array]:
            gradient = adjoint(trajectory, dL_dz, method=self.way)
            return gradient.z0, gradient.theta

        return trajectory, pull_back
