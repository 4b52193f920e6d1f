"""What refode raises, and what it warns of, when a solve does not go as asked."""

from typing import Any


class SolveError(RuntimeError):
    """A solve stopped before its end.

    Attributes
    ----------
    reason : what stopped it
    direction : "forward" or "reverse"
    t : float, where it stopped (or where f was not finite)
    step : float, size of the last step tried
    z_norm, f_norm : float, Euclidean norms of the solver's whole state there and of its derivative
    nfev : int, evaluations spent
    """

    def __init__(
        self, reason: str, *, direction: str, t: float, step: float, z_norm: float, f_norm: float, nfev: int
    ) -> None:
        self.reason, self.direction = reason, direction
        self.t, self.step, self.z_norm, self.f_norm, self.nfev = t, step, z_norm, f_norm, nfev
        super().__init__(
            f"{direction} solve stopped at t = {t:.10g}: {reason} "
            f"(step {step:.3g}, |z| = {z_norm:.3g}, |f| = {f_norm:.3g}, nfev = {nfev})"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # so that a failure in another process comes back as itself
        return _rebuilt, (self.reason, {name: value for name, value in vars(self).items() if name != "reason"})


def _rebuilt(reason: str, told: dict[str, Any]) -> SolveError:
    return SolveError(reason, **told)


class ReconstructionWarning(UserWarning):
    """The reverse solve did not come back to z0: the field contracts, and its gradient is not to be trusted."""
