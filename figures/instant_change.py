"""Theorem 2 along paths: a parcel of mass that spreads thins out, by exactly as much as its area grows."""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator
from scipy.interpolate import CubicSpline

from refode import StandardNormal, WithLogDensity, divergence, solve
from refode.finite_difference import COMPLEX_STEP, complex_solve
from refode.planar import ContinuousPlanar

from ._roles import points, role, sequential
from ._text import canvas, label, title

CLAIM = "Along a path log p falls by the integral of the divergence"
CAPTION = (
    "Left: {parcels} parcels carried to the right by a sum of three planar units (a tanh net 2-3-2): each ellipse is "
    "the image of the small disc that its path begins in, shaded by log p there; p_0 is a standard normal. Right: the "
    "change of log p along three of the paths by three routes: the ODE of Theorem 2 (solid), minus the integral of "
    "tr grad f along the path by a spline (crosses), and minus log det of the Jacobian dz_t/dz_0, by complex steps "
    "through the solve, which knows no trace (circles). Area times density of a parcel is the same at all times, to "
    "{spread:.0e} of it."
)
ALT = (
    "Left, a column of discs moves right along paths: where the paths spread the discs become large and faint "
    "ellipses, where they close up small and strongly coloured ones. Right, three curves over time, one rising, one "
    "falling and one between, each with circles and crosses that lie on it."
)
NOTE_IDS = ("D44", "D47", "D53", "D56")
COST_S = 0.5
SIZES = ("beamer169", "ppt169", "text")

FIELD = ContinuousPlanar(2, 3)
THETA = np.array(
    [
        (0.3, 0.7, -0.4, 1.2, -1.4),
        (0.3, -0.7, 0.4, 1.2, 1.4),
        (2.3, 0.3, 0.0, 0.0, 3.0),
    ]  # u, w, b: spread, close, drift
).ravel()
END = 2.0
PARCELS, RADIUS = 12, 0.14
ELLIPSES = 4  # drawn along each path
TOL = 1e-11
NAMES = ("A", "B", "C")  # of the parcels whose log p rises most, middling, least


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return paths (count, 12, 2), their Jacobians (count, 12, 2, 2), and the change of log p (count, 12) three ways.

    Nothing is random, `seed` is idle.
    """
    t = np.linspace(0.0, END, 31 if fast else 91)
    starts = np.stack([np.full(PARCELS, -1.5), np.linspace(-2.2, 2.2, PARCELS)], axis=1)
    z, change = _change(starts, t)
    J = _jacobian(starts, t)
    area = np.linalg.det(J)  # over that at the start
    return {
        "t": t,
        "z": z,
        "jacobian": J,
        "log_p": StandardNormal(2).logpdf(starts) + change,
        "change": change,
        "by_trace": -CubicSpline(t, divergence(FIELD, z, 0.0, THETA)).antiderivative()(t),
        "by_determinant": -np.log(area),
        "spread": np.abs(area * np.exp(change) - 1).max(),  # area times density, over the same at the start
        "parcels": PARCELS,
        "shown": np.argsort(change[-1])[[-1, PARCELS // 2 - 1, 0]],
    }


compute = data  # the argument of draw hides the name


def _change(starts: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return z (count, parcels, 2) and log p(z_t, t) - log p(z_0, 0) (count, parcels) of Theorem 2's ODE."""
    start = np.concatenate([starts, np.zeros((len(starts), 1))], axis=1)
    path = solve(WithLogDensity(FIELD), start, THETA, t, method="DOP853", rtol=TOL, atol=TOL).z
    return path[..., :2], path[..., 2]


def _jacobian(starts: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return dz_t/dz_0 (count, parcels, 2, 2): z(t; z_0 + i h e_j) = z + i h J e_j."""
    options = {"rtol": TOL, "atol": TOL}
    moved = [complex_solve(FIELD, starts + 1j * COMPLEX_STEP * e, THETA, t, **options) for e in np.eye(2)]
    return np.stack(moved, axis=-1).imag / COMPLEX_STEP


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the parcels on their paths beside log p along three of them; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2, width_ratios=(1.2, 1))
    _draw_parcels(fig, left, data)
    _draw_changes(right, data)
    title(fig, CLAIM)
    return fig


def _draw_parcels(fig: FigureBase, ax: Axes, data: dict) -> None:
    at = np.linspace(0, len(data["t"]) - 1, ELLIPSES).astype(int)
    for k in range(data["parcels"]):
        ax.plot(*data["z"][:, k].T, **role("muted") | {"linewidth": 0.5 * rcParams["lines.linewidth"]}, label="_path")
    angle = np.linspace(0, 2 * np.pi, 49)
    disc = RADIUS * np.stack([np.cos(angle), np.sin(angle)])
    ellipses = data["z"][at][..., None, :] + np.swapaxes(data["jacobian"][at] @ disc, -1, -2)  # z + J (z' - z)
    shaded = PolyCollection(ellipses.reshape(-1, *ellipses.shape[-2:]), cmap=sequential("forward", 0.7), zorder=2)
    thin = 0.4 * rcParams["lines.linewidth"]
    shaded.set(array=data["log_p"][at].ravel(), edgecolor=rcParams["text.color"], linewidth=thin)
    ax.add_collection(shaded)
    fig.colorbar(shaded, ax=ax, label=r"log density $\log p$", ticks=MaxNLocator(5, integer=True))
    for k, name in zip(data["shown"], NAMES, strict=True):
        right = ellipses[-1, k, ellipses[-1, k, :, 0].argmax()]
        label(ax, name, right, (0.3, -0.3 if name == "A" else 0.0))
    ax.set(xlabel="state $z_1$", ylabel="state $z_2$", aspect="equal")
    ax.set_adjustable("datalim")


def _draw_changes(ax: Axes, data: dict) -> None:
    t, step = data["t"], (len(data["t"]) - 1) // 10
    routes = (
        ("change", slice(None), "Theorem 2", role("forward")),
        ("by_trace", slice(step // 2, None, step), r"$-\int$ tr $\nabla f$", points("reference", "x")),
        ("by_determinant", slice(None, None, step), r"$-\log\det$", points("reference", filled=False)),
    )
    lines = [ax.plot(t[at], data[key][at][:, data["shown"]], **look, label=f"_{key}") for key, at, _, look in routes]
    for k, name in zip(data["shown"], NAMES, strict=True):
        label(ax, name, (t[-1], data["change"][-1, k]), (0.7, 0))
    words = [words for _, _, words, _ in routes]
    ax.legend([one for one, *_ in lines], words, loc="upper left", handlelength=1.5, borderaxespad=0)
    ax.set(xlabel="time $t$", ylabel=r"change of $\log p$", xlim=(0, 1.1 * t[-1]))
