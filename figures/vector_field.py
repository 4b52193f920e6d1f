"""What a network is here: a field of velocities that changes with depth, and paths that follow it."""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import FigureBase

from refode import solve

from . import _demo
from ._roles import colour, points, role, sequential
from ._text import canvas, title

CLAIM = "A network is a vector field, and its depth is time"
CAPTION = (
    "The field f(z, t, theta) of a sine net 2-8-2 at three times (streamlines; the shade is the speed |f|), and "
    "{count} paths of dz/dt = f(z, t, theta) up to that time, with dots at equal times: where the dots are far apart "
    "the state moves fast. The net was the first of a seeded sequence whose demo path turns by more than 3.3 rad (this "
    "one: {turning:.1f}), whose Jacobian is far from symmetric (mean |J - J'| / |J| = {asymmetry:.2f}) and whose field "
    "depends on time (mean |df/dt| T / mean |f| = {unrest:.1f})."
)
ALT = (
    "Three panels for three times show streamlines over a shaded map of speed, and the pattern differs from panel to "
    "panel. Paths with dots at equal times grow from the first panel to the last, bending with the field."
)
NOTE_IDS = ("D02", "D03")
COST_S = 1.0
SIZES = ("beamer169", "ppt169", "text")

SIDE = 30  # points of the grid along each axis
PATHS = 8
DOTS, SUBSTEPS = 4, 5  # dots from panel to panel, and points of the path from dot to dot


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the field (3, SIDE, SIDE, 2) on a grid at three times, and eight paths (count, 8, 2) over all the time."""
    demo = _demo.plane(seed)
    frames = np.linspace(*demo.times, 3)
    times = np.linspace(*demo.times, 2 * DOTS * SUBSTEPS + 1)
    around = 0.8 * np.exp(2j * np.pi * np.arange(PATHS) / PATHS)
    starts = demo.z0 + np.stack([around.real, around.imag], axis=1)
    paths = solve(demo.field, starts, demo.theta, times, rtol=1e-4 if fast else 1e-8).z
    low, high = paths.min(axis=(0, 1)) - 0.3, paths.max(axis=(0, 1)) + 0.3
    x, y = (np.linspace(low[i], high[i], SIDE) for i in range(2))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    return {
        "frames": frames,
        "times": times,
        "paths": paths,
        "count": PATHS,
        "x": x,
        "y": y,
        "field": np.array([demo.field(grid, t, demo.theta) for t in frames]),
        **{name: demo.measured[name] for name in ("turning", "asymmetry", "unrest")},
    }


compute = data  # the argument of draw hides the name


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the field and the paths so far at three times, with one scale of speed; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    axes = fig.subplots(1, 3, sharex=True, sharey=True)
    images = [_draw_frame(ax, data, i) for i, ax in enumerate(axes)]
    axes[0].set_ylabel("state $z_2$")
    fig.colorbar(images[-1], ax=axes, label="speed $|f|$")
    title(fig, CLAIM)
    return fig


def _draw_frame(ax: Axes, data: dict, i: int) -> QuadMesh:
    speed = np.linalg.norm(data["field"], axis=-1)
    shade = {"cmap": sequential(), "vmin": 0, "vmax": speed.max(), "shading": "gouraud", "rasterized": True}
    image = ax.pcolormesh(data["x"], data["y"], speed[i], **shade)
    thin = {"color": colour("muted"), "linewidth": 0.4 * rcParams["lines.linewidth"], "arrowsize": 0.5}
    ax.streamplot(data["x"], data["y"], *np.moveaxis(data["field"][i], -1, 0), density=0.6, **thin)
    until = i * (len(data["times"]) // 2) + 1
    dot = points("forward") | {"markersize": 0.7 * rcParams["lines.markersize"]}
    for path in data["paths"][:until].swapaxes(0, 1):
        ax.plot(*path.T, **role("forward") | {"label": "_path"})
        ax.plot(*path[::SUBSTEPS].T, **dot, label="_dots")
    ax.set(xlabel="state $z_1$", title=f"time $t={data['frames'][i]:.1f}$")
    ax.set(xlim=data["x"][[0, -1]], ylim=data["y"][[0, -1]])
    return image
