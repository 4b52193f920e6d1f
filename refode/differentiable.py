"""A solve that can be pulled back, again and again: what fits call, with the fastest way that does what was asked.

The discrete way through an explicit Runge-Kutta solve is marched on a tape that is kept from one gradient to the next
(`refode.march`, `refode.sensitivities.taped`); everything else, and whatever the march can't finish, is `solve` and
`adjoint`. The numbers are the same to the solver's tolerance.
"""

import threading
from collections.abc import Callable
from typing import Any

from scipy.integrate import OdeSolver

from refode.adjoint import LEAST_KEPT, WAYS, adjoint
from refode.arguments import one_of
from refode.fields import VectorField
from refode.integrate import solver_class
from refode.march import Lost
from refode.sensitivities.taped import Taped
from refode.solve import Trajectory, checked_options, solve
from refode.types import Array

PullBack = Callable[[Array], tuple[Array, Array]]
"""dL/dz (T, ..., n) -> dL/dz0 (..., n) and dL/dθ (m,); good until the next solve of the same thread."""


class Differentiable:
    """z0, θ ↦ z(times) and its pullback.

    Parameters
    ----------
    method : the way to the gradient, as in `adjoint`
    solver, solve_options : as `method` and the further arguments of `solve`
    """

    def __init__(
        self,
        field: VectorField,
        times: Array,
        method: str = "discrete",
        solver: str | type[OdeSolver] = "RK45",
        **solve_options: Any,
    ) -> None:
        self.field, self.times, self.way = field, times, one_of("method", method, WAYS)
        self.solver, self.options = solver_class(solver), checked_options(solver_class(solver), solve_options)
        self.marches = self.way == "discrete" and Taped.suits(self.solver, self.options) and len(times) > 1
        self.own = threading.local()  # a tape serves one solve at a time

    def solve(self, z0: Array, theta: Array) -> tuple[Trajectory, PullBack]:
        """The trajectory and its pullback; z0 (..., n) and theta (m,) as `real_array` leaves them."""
        if self.marches and z0.size:
            taped: Taped = self.own.__dict__.setdefault("taped", Taped(self.field))
            try:
                return taped.solve(z0, theta, self.times, self.solver, **self.options)
            except Lost:  # `solve` says why, or succeeds
                pass
        least = LEAST_KEPT[self.way]
        if least == "dense" and len(self.times) == 1:
            least = "observations"  # there is nothing to interpolate
        options = {"keep": least} | self.options
        trajectory = solve(self.field, z0, theta, self.times, method=self.solver, **options)

        def pull_back(dL_dz: Array) -> tuple[Array, Array]:
            gradient = adjoint(trajectory, dL_dz, method=self.way)
            return gradient.z0, gradient.theta

        return trajectory, pull_back
