"""The gradient by θ is collected on the way back: a_§3 is the integral of a_§1 ∇§3 f, begun at 0."""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import solve
from refode.finite_difference import central_difference

from . import _demo
from ._roles import diverging, points, role
from ._sweep import sweep
from ._text import arrowhead, canvas, title

CLAIM = "The gradient by theta is an integral, collected on the way back"
CAPTION = (
    "Left: the integrand a grad_theta f, one row for each of the {parameters} parameters. Right: its integral from the "
    "end time back to t, for six parameters across the range of gradients; it begins at 0 and ends in the finite "
    "differences of the loss (circles; largest difference {difference:.0e}). Crosses: the integrand at t0, which is "
    "what remains if the integral is forgotten. The net is a sine net 2-8-2 that reads t."
)
ALT = (
    "Left, a map with time across and parameters down shows which contributions are positive, which negative. Right, "
    "six dashed curves begin together at zero at the end time, run to the left and end in circles; crosses lie apart."
)
NOTE_IDS = ("D12", "D15", "D31", "D33", "P11", "P17")
COST_S = 1.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")

SHOWN = 6


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the integrand (count, m) and the integral (count, m) over time, and six differences of the loss."""
    demo = _demo.plane(seed)
    trajectory = demo.trajectory()
    path = sweep(trajectory, demo.cotangent(trajectory.z[-1]), 41 if fast else 121)
    t, z, a_z, a_theta = (path[key][0] for key in ("t", "z", "a_z", "a_theta"))
    integrand = np.array([demo.field.vjp(*at, demo.theta, a)[2] for *at, a in zip(z, t, a_z, strict=True)])
    levels = np.linspace(a_theta[0].min(), a_theta[0].max(), SHOWN)
    shown = np.argmin(np.abs(a_theta[0] - levels[:, None]), axis=1)  # evenly across the range of gradients
    differences = central_difference(lambda some: _loss(demo, shown, some), demo.theta[shown], step=1e-4)
    return {
        "t": t,
        "integrand": integrand,
        "integral": a_theta,
        "shown": shown,
        "differences": differences,
        "difference": np.abs(differences - a_theta[0, shown]).max(),
        "parameters": len(demo.theta),
    }


compute = data  # the argument of draw hides the name


def _loss(demo: _demo.Demo, which: np.ndarray, values: np.ndarray) -> float:
    """Return the loss with some of the parameters replaced."""
    theta = demo.theta.copy()
    theta[which] = values
    return demo.loss(solve(demo.field, demo.z0, theta, demo.times, method="DOP853", rtol=1e-11, atol=1e-13).z[-1])


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the integrand as a map beside the integrals of six parameters; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2)
    largest = np.abs(data["integrand"]).max()
    rows = np.arange(1, data["parameters"] + 1)
    look = {"cmap": diverging(), "vmin": -largest, "vmax": largest, "shading": "nearest", "rasterized": True}
    image = left.pcolormesh(data["t"], rows, data["integrand"].T, **look)
    left.set(xlabel="time $t$", ylabel=r"parameter $\theta_j$")
    left.invert_yaxis()
    fig.colorbar(image, ax=left, label=r"$a\,\partial f/\partial\theta_j$")
    _draw_integrals(right, data)
    title(fig, CLAIM)
    return fig


def _draw_integrals(ax: Axes, data: dict) -> None:
    t = data["t"]
    for j in data["shown"]:
        ax.plot(t, data["integral"][:, j], **role("adjoint") | {"label": "_integrals"})
        arrowhead(ax, t[::-1], data["integral"][::-1, j], "adjoint")
    start = np.full(SHOWN, t[0])
    cross = points("muted", "x") | {"markeredgewidth": rcParams["lines.linewidth"]}
    ax.plot(start, data["integrand"][0, data["shown"]], **cross, label="no integral")
    ax.plot(start, data["differences"], **points("reference", filled=False), label="differences")
    ax.set(xlabel="time $t$", ylabel=r"$\int_t^{t_1} a\,\partial f/\partial\theta_j\,ds$")
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.3 * (high - low))
    ax.legend(loc="upper right", handletextpad=0.2, borderaxespad=0)
