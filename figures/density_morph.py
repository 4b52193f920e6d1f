"""The flow of one planar unit, whose density needs no solver: how mass is moved about, and that none is lost."""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import FigureBase
from scipy.stats import norm

from refode import StandardNormal
from refode.planar import planar_closed_form

from ._roles import colour, points, role, sequential
from ._text import canvas, title

CLAIM = "A planar flow pushes mass about and loses none: a closed form"
CAPTION = (
    "The continuous planar flow dz/dt = u tanh(w.z + b), begun at a standard normal, at six times: its density p_t "
    "from the closed form sinh s_t = exp(k t) sinh s_0, s = w.z + b, k = w.u = {kappa:.2f} (shade, one scale for all), "
    "a mesh that was square at t = 0, and {particles} particles. Above each panel the integral of p_t over {width:g} "
    "by {height:g}, more than is drawn; it is off 1 by {lost:.0e} at most. The line w.z + b = 0 (dotted) stands still, "
    "so that {side:.4f} of the mass stays on its right for ever."
)
ALT = (
    "Six panels over time show a round cloud of particles on a square mesh being pulled apart into two clouds on "
    "either side of a fixed dotted line. The number above each panel, the total mass, stays at one."
)
NOTE_IDS = ("P51", "E53", "D44", "D56")
COST_S = 0.2
SIZES = ("beamer169", "ppt169", "text")

U, W, B = np.array([1.8, 0.5]), np.array([1.0, -0.6]), -0.3
FRAMES = np.linspace(0.0, 1.5, 6)
HALF = np.array([7.2, 4.8])  # half sides of the window of the mass: nothing that counts gets beyond them
SHOWN = np.array([6.2, 3.3])  # and of what is drawn
MESH = 0.8  # side of a square of the mesh, which covers two and a half standard deviations
BASE = StandardNormal(2)


def density(x: np.ndarray, t: float) -> np.ndarray:
    """Return p_t (...) at points x (..., 2): log p_t(x) = log p_0(z_0) less what the way back to z_0 adds."""
    z0, change = planar_closed_form(x, -t, U, W, B)
    return np.exp(BASE.logpdf(z0) - change)


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return p_t (6, side, side) on a grid x, y, its mass, and a mesh's lines (6, 14, 49, 2) and particles moved."""
    start = BASE.rvs(100, seed)
    x, y = (np.linspace(-half, half, round((80 if fast else 160) * half / HALF[0]) + 1) for half in HALF)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    p = np.array([density(grid, t) for t in FRAMES])
    cell = (x[1] - x[0]) * (y[1] - y[0])
    across, along = np.arange(-3, 4) * MESH, np.linspace(-3, 3, 49) * MESH
    rows = np.stack(np.meshgrid(along, across), axis=-1)
    mesh = np.concatenate([rows, rows[..., ::-1]])  # and columns
    mass = p.sum(axis=(1, 2)) * cell  # the trapezoidal rule: p vanishes at the edges
    return {
        "t": FRAMES,
        "x": x,
        "y": y,
        "density": p,
        "mass": mass,
        "mesh": np.array([planar_closed_form(mesh, t, U, W, B)[0] for t in FRAMES]),
        "particles_at": np.array([planar_closed_form(start, t, U, W, B)[0] for t in FRAMES]),
        "particles": len(start),
        "kappa": W @ U,
        "width": 2 * HALF[0],
        "height": 2 * HALF[1],
        "lost": np.abs(mass - 1).max(),
        "side": norm.cdf(B / np.linalg.norm(W)),
    }


compute = data  # the argument of draw hides the name


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the six frames, with one scale of density; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    axes = fig.subplots(2, 3, sharex=True, sharey=True)
    for i, ax in enumerate(axes.flat):
        _draw_frame(ax, data, i)
    for ax in axes[-1]:
        ax.set_xlabel("$z_1$")
    for ax in axes[:, 0]:
        ax.set_ylabel("$z_2$")
    title(fig, CLAIM)
    return fig


def _draw_frame(ax: Axes, data: dict, i: int) -> None:
    tint = {"cmap": sequential("forward", 0.7), "vmin": 0, "vmax": data["density"].max()}
    ax.pcolormesh(data["x"], data["y"], data["density"][i], shading="gouraud", rasterized=True, **tint)
    thin = {"colors": colour("muted"), "linewidths": 0.4 * rcParams["lines.linewidth"]}
    ax.add_collection(LineCollection(data["mesh"][i], **thin), autolim=False)
    dot = points("data") | {"markersize": 0.45 * rcParams["lines.markersize"]}
    ax.plot(*data["particles_at"][i].T, **dot, markeredgewidth=0.4 * rcParams["lines.markeredgewidth"])
    foot = -B * W / (W @ W)  # of the perpendicular from 0 to the line
    ax.axline(foot, slope=-W[0] / W[1], **role("reference"))
    ax.set_title(f"$t={data['t'][i]:.1f}$, mass ${data['mass'][i]:.4f}$")
    ax.set(aspect="equal", xlim=(-SHOWN[0], SHOWN[0]), ylim=(-SHOWN[1], SHOWN[1]), xticks=(-5, 0, 5), yticks=(-2, 0, 2))
