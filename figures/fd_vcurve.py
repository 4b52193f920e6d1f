"""How good is a finite difference through a solver? The lowest point of the V is the solver's doing, not that of h."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from refode import adjoint, solve
from refode.finite_difference import complex_solve, directional_complex_step, directional_difference, slope

from . import _demo
from ._roles import role
from ._text import canvas, label, title

CLAIM = "The floor of the V is set by the solver tolerance, not by h"
CAPTION = (
    "Relative error of the central difference (L(theta + h v) - L(theta - h v)) / 2h through an RK45 solve with three "
    "tolerances, over the step h; v is a random unit vector. From the right all fall with slope {right:.2f}, until "
    "each meets the error of its solver: {floors[0]:.0e}, {floors[1]:.0e} and {floors[2]:.0e} (medians for h from "
    "{low:.0e} to {high:.0e}). The reference is the adjoint gradient at tolerance 1e-13. Dash-dotted: complex step "
    "through a solve at 1e-13, which has no step to choose (error {complex_error:.0e}). The net is a sine net 2-8-2 "
    "that reads t."
)
ALT = (
    "On logarithmic axes three curves of error over step size fall together from the right with slope two and part at "
    "floors that follow the tolerance. A horizontal line far below is complex step."
)
NOTE_IDS = ("D08", "P23", "E21")
COST_S = 2.0
SIZES = ("beamer169", "half", "beamer43", "ppt169", "column", "text")

TOLERANCES = (1e-3, 1e-6, 1e-12)
FLAT = (1e-7, 1e-4)  # steps at which the floors are read
FITTED = (1e-3, 0.1)  # steps at which truncation rules


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the error of the difference for each tolerance and step (3, count), and the slopes of both branches."""
    demo = _demo.plane(seed)
    v = np.random.default_rng(seed).standard_normal(len(demo.theta))
    v /= np.linalg.norm(v)
    trajectory = demo.trajectory(1e-13)
    exact = adjoint(trajectory, demo.cotangent(trajectory.z[-1])).theta @ v
    h = np.geomspace(1e-9, 0.1, 9 if fast else 13)
    differences = [[directional_difference(_loss(demo, tol), demo.theta, v, step) for step in h] for tol in TOLERANCES]
    error = np.abs(np.array(differences) / exact - 1)
    flat, fitted = ((low <= h) & (h <= high) for low, high in (FLAT, FITTED))
    by_complex_step = directional_complex_step(
        lambda theta: demo.loss(complex_solve(demo.field, demo.z0, theta, demo.times)[-1]), demo.theta, v
    )
    return {
        "h": h,
        "error": error,
        "complex_error": abs(by_complex_step / exact - 1),
        "floors": np.median(error[:, flat], axis=1),
        "right": slope(h[fitted], error[-1, fitted]),
        "low": FLAT[0],
        "high": FLAT[1],
    }


compute = data  # the argument of draw hides the name


def _loss(demo: _demo.Demo, tol: float) -> Callable[[np.ndarray], float]:
    """Return L(θ) through a solve with tolerance `tol`."""

    def loss(theta: np.ndarray) -> float:
        return demo.loss(solve(demo.field, demo.z0, theta, demo.times, rtol=tol, atol=1e-2 * tol).z[-1])

    return loss


def draw(data: dict | None = None, *, ax: Axes | None = None, **line_kw) -> Axes:
    """Draw the three curves and the line of complex step; `line_kw` goes to all of them. Return the axes."""
    data = compute() if data is None else data
    target = ax
    if ax is None:
        target = canvas()
        ax = target.subplots()
    h = data["h"]
    for tol, marker, error, word in zip(TOLERANCES, "os^", data["error"], ("tolerance ", "", ""), strict=True):
        ax.loglog(h, error, **role("reference") | {"marker": marker} | line_kw)
        middle = len(h) // 2
        label(ax, f"{word}$10^{{{np.log10(tol):.0f}}}$", (h[middle], error[middle]), (0, -0.6))
    ax.loglog(h, np.full_like(h, data["complex_error"]), **role("alternative") | line_kw)
    label(ax, "complex step", (h[-1], data["complex_error"]), (0, -0.4), ha="right")
    ax.set(xlabel="step $h$ of the difference", ylabel="relative error")
    ax.set_ylim(bottom=data["complex_error"] / 100)
    title(target, CLAIM)
    return ax
