"""refode: its public calls, by the way that they take by default; `reference` is what all are measured against."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from refode import ContinuousFlow, SquaredError, StandardNormal, Trajectory, WithLogDensity, loss_and_gradient
from refode.flows import Likelihood

from .cases import Answer, Case, Side

SOLVERS = ("RK45", "Tsit5")  # as of a peer, the fastest counts


def sides(case: Case) -> dict[str, Side]:
    """By `loss_and_gradient`; a flow also by its own `Likelihood`, which fits use."""
    found = {
        f"refode {solver}": Side(partial(gradient, case, solver=solver), lambda answer: answer) for solver in SOLVERS
    }
    if case.data is None:
        found["refode flow"] = Side(partial(of_flow, case), lambda answer: answer)
    return found


class Fixed:
    """An initial state that θ does not move, which remembers the cotangent that reached it."""

    def __init__(self, z0: np.ndarray, m: int) -> None:
        self.z0, self.nothing = z0, np.zeros(m)

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        return self.z0

    def vjp(self, theta: np.ndarray, z0_bar: np.ndarray) -> np.ndarray:
        self.z0_bar = z0_bar
        return self.nothing


def gradient(case: Case, tol: float, **options: Any) -> Callable[[], Answer]:
    """`loss_and_gradient`, as it stands."""
    field, z0, loss = case.field, case.z0, log_likelihood
    if case.data is None:
        field, z0 = WithLogDensity(field), np.concatenate([z0, np.zeros((len(z0), 1))], axis=-1)
    else:
        loss = SquaredError(case.data)
    start = Fixed(z0, field.m)
    call = loss_and_gradient(field, start, loss, case.times, rtol=tol, atol=tol, **options)

    def run() -> Answer:
        value, theta = call(case.theta)
        return Answer(value, theta, start.z0_bar[..., : case.field.n])

    return run


def log_likelihood(trajectory: Trajectory) -> tuple[float, np.ndarray]:
    """Σ log p(x) = Σ log p_base(z) − Δ at the end of the solve from (x, 0), and its cotangents."""
    base, z, delta = StandardNormal(trajectory.z.shape[-1] - 1), trajectory.z[-1, :, :-1], trajectory.z[-1, :, -1]
    cotangent = np.zeros_like(trajectory.z)
    cotangent[-1, :, :-1], cotangent[-1, :, -1] = base.score(z), -1.0
    return float(np.sum(base.logpdf(z) - delta)), cotangent


def of_flow(case: Case, tol: float) -> Callable[[], Answer]:
    """`Likelihood` of a new flow each time, as a fit takes it."""
    flow = ContinuousFlow(case.field, case.theta, options={"rtol": tol, "atol": tol})
    likelihood = Likelihood(flow)

    def run() -> Answer:
        found = likelihood(flow.with_theta(case.theta), case.z0)
        return Answer(found.value, found.theta, found.x)

    return run


def reference(case: Case) -> Answer:
    """The gradient to some twelve digits: discrete, through DOP853's steps."""
    return gradient(case, 1e-13, solver="DOP853", method="discrete")()
