"""First differentiate, then discretise, or the other way round: two gradients, apart by the order of the solver."""

import warnings

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from scipy.integrate import solve_ivp

from refode import RK4, Euler, ReconstructionWarning, adjoint
from refode.finite_difference import directional_complex_step, slope
from refode.steppers import FixedStep
from refode.types import Array

from . import _demo
from ._roles import points, role
from ._text import canvas, label, title

CLAIM = "The adjoint of Euler is not Euler of the adjoint"
CAPTION = (
    "One loss, forward in N equal steps, and two gradients in (z0, theta): the note's adjoint, solved back by the same "
    "method in N steps, and backpropagation through the steps taken. Left: their distance over their size falls with "
    "slope {slopes[0]:.2f} for Euler and {slopes[1]:.2f} for RK4, the orders of the methods. Circles below: "
    "backpropagation is the gradient of what was computed, to rounding (against complex step through the same steps, "
    "along three random directions; at most {worst:.0e}). Right: angle between the two; at N = {fewest} it is "
    "{angles[0]:.0f} degrees for Euler, {angles[1]:.1f} for RK4. The net is a sine net 2-8-2 that reads t."
)
ALT = (
    "On logarithmic axes the gap between two gradients falls along two lines of slope one and four, far above circles "
    "at the level of rounding. Beside it the angle between them falls to zero, later for Euler than for RK4."
)
NOTE_IDS = ("P04", "P23", "E21")
COST_S = 2.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")

METHODS = {"Euler": (Euler, "adjoint", "o"), "RK4": (RK4, "forward", "s")}
FITTED = 4  # of the gaps, the last ones, give the slope


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return for either method the gap, the angle (degrees) and the error of backpropagation over the steps N."""
    demo = _demo.plane(seed)
    directions = np.random.default_rng(seed).standard_normal((3, demo.field.m))
    found = {}
    for name, most in (("Euler", 9 if fast else 10), ("RK4", 7 if fast else 8)):
        N = 2 ** np.arange(2, most + 1)
        rows = [_compare(demo, METHODS[name][0], steps, directions) for steps in N]
        found |= {f"N_{name}": N}
        found |= {f"{key}_{name}": np.array(column) for key, column in zip(KEYS, zip(*rows, strict=True), strict=True)}
    return found | {
        "slopes": np.array([slope(found[f"N_{name}"][-FITTED:], found[f"gap_{name}"][-FITTED:]) for name in METHODS]),
        "angles": np.array([found[f"angle_{name}"][0] for name in METHODS]),
        "worst": max(found[f"error_{name}"].max() for name in METHODS),
        "fewest": found["N_Euler"][0],
    }


compute = data  # the argument of draw hides the name
KEYS = ("gap", "angle", "error")


def _compare(demo: _demo.Demo, method: type[FixedStep], N: int, directions: Array) -> tuple[float, float, float]:
    """Return the gap between both gradients over their size, their angle, and what backpropagation is off by."""
    step = (demo.times[1] - demo.times[0]) / N
    trajectory = demo.trajectory(method=method, step=step, keep="steps")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReconstructionWarning)  # few steps don't come back to z0: that is the point
        ways = [adjoint(trajectory, demo.cotangent(trajectory.z[-1]), method=way) for way in ("backsolve", "discrete")]
    back, through = (np.append(gradient.z0, gradient.theta) for gradient in ways)
    size = np.linalg.norm(through)
    u, v = back / np.linalg.norm(back), through / size
    angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
    exact = [
        directional_complex_step(lambda theta: _loss(demo, method, step, theta), demo.theta, along)
        for along in directions
    ]
    error = np.linalg.norm(directions @ ways[1].theta - exact) / np.linalg.norm(exact)
    return np.linalg.norm(back - through) / size, np.degrees(angle), error


def _loss(demo: _demo.Demo, method: type[FixedStep], step: float, theta: Array) -> complex:
    """Return L of what the steps compute, for a theta (m,) that may be complex."""

    def f(t: float, z: Array) -> Array:
        return demo.field(z, t, theta)

    return demo.loss(solve_ivp(f, demo.times, demo.z0.astype(complex), method, demo.times[1:], step=step).y[:, -1])


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the gaps beside the angles; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2)
    _draw_gaps(left, data)
    _draw_angles(right, data)
    title(fig, CLAIM)
    return fig


def _draw_gaps(ax: Axes, data: dict) -> None:
    for (name, (_, who, marker)), fitted, at in zip(METHODS.items(), data["slopes"], (6, 4), strict=True):
        N, gap = data[f"N_{name}"], data[f"gap_{name}"]
        ax.loglog(N, gap, **role(who) | {"marker": marker})
        ax.loglog(N, data[f"error_{name}"], **points("muted", filled=False), label="_through_the_steps")
        label(ax, f"{name}\nslope ${fitted:.2f}$", (N[at], gap[at]), (0.5, 0.3), who)
    N = data["N_Euler"]
    label(ax, "gradient of the steps:\nerror of rounding", (N[0], data["worst"]), (0, 0.5), "muted", ha="left")
    ax.set(xlabel="number of steps $N$", ylabel="distance of gradients / size")


def _draw_angles(ax: Axes, data: dict) -> None:
    for name, (_, who, marker) in METHODS.items():
        N, angle = data[f"N_{name}"], data[f"angle_{name}"]
        ax.semilogx(N, angle, **role(who) | {"marker": marker})
    label(ax, "Euler", (data["N_Euler"][1], data["angle_Euler"][1]), (0.6, 0.3), "adjoint")
    label(ax, "RK4", (data["N_RK4"][0], data["angle_RK4"][0]), (0, 0.5), "forward", ha="left")
    ax.set(xlabel="number of steps $N$", ylabel="angle between them (degrees)")
