"""Animation: a trained flow carries a density, and the density of a frame is that of its own time.

A mesh is pushed forward, with log p along its points: one solve, and p_t is right in every frame. A grid at t1 that is
carried back, with the base's density put on it at time t, would be right at the end alone.
"""

from collections.abc import Callable

import numpy as np
from matplotlib import rcParams
from matplotlib.collections import QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import FigureBase

from refode import MLP, ContinuousFlow, StandardNormal, WithLogDensity, solve
from refode.datasets import two_moons
from refode.training import Recipe, fit, start

from ._kept import kept
from ._roles import points, sequential
from ._text import canvas, title

CLAIM = "A flow carries a density: in every frame p_t at its own time t"
CAPTION = (
    "Left: the density p_t of a continuous flow (a tanh net 2-64-2, fitted to {points} points of two moons), on a mesh "
    "of {side} by {side} points that covers a standard normal at t = 0 and is carried along with log p; shade: its "
    "square root, one scale for all frames. The mass of the mesh is within {lost:.0e} of 1 in every frame. Right: "
    "{samples} samples of the standard normal, carried by the same flow, that know nothing of a density."
)
ALT = (
    "A round cloud of density is drawn out into two crescents while time runs from 0 to 1. Beside it a cloud of "
    "samples takes the same shape at the same time."
)
NOTE_IDS = ("D44", "D55", "D56", "P43")
COST_S = 5.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")
KEPT = "training"
FRAMES = 41
STILLS = (0, 20, 40)

NET = MLP([2, 64, 2])
RECIPE = Recipe(iterations=4000)
POINTS = 1000  # to fit to
SAMPLES = 700
REACH, SIDE = 3.5, 191  # of the mesh at t = 0; a standard normal has 9e-4 of its mass outside
WINDOW = np.array([(-2.3, -1.9), (2.3, 1.9)])  # shown at least
TOLERANCES = {"rtol": 1e-6, "atol": 1e-8}


def train(seed: int = 0) -> dict:
    """Return the parameters theta (m,) of a flow fitted to two moons."""
    rng = np.random.default_rng(seed)
    known = two_moons(POINTS, rng)
    return {"theta": fit(ContinuousFlow(NET, start(NET, rng)), known, RECIPE, every=1000).theta}


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return mesh (FRAMES, side, side, 2), density on it (FRAMES, side, side), its mass, and samples (FRAMES, N, 2)."""
    theta, t = kept("density_flow", seed)["theta"], np.linspace(0.0, 1.0, FRAMES)
    reach = np.linspace(-REACH, REACH, SIDE // 2 if fast else SIDE)
    mesh, p = pushed(np.stack(np.meshgrid(reach, reach), axis=-1), theta, t)
    mass = np.array([masses(*frame).sum() for frame in zip(mesh, p, strict=True)])
    first = StandardNormal(2).rvs(SAMPLES, np.random.default_rng([seed, 1]))
    return {
        "t": t,
        "mesh": mesh,
        "density": p,
        "mass": mass,
        "lost": np.abs(mass - 1).max(),
        "samples_at": solve(NET, first, theta, t, **TOLERANCES).z,
        "theta": theta,
        "points": POINTS,
        "samples": SAMPLES,
        "side": len(reach),
    }


compute = data  # the argument of draw hides the name


def pushed(mesh: np.ndarray, theta: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the points of a mesh (..., 2) are at the times t (count,), and p_t there (count, ...)."""
    start = np.concatenate([mesh, np.zeros((*mesh.shape[:-1], 1))], axis=-1)
    path = solve(WithLogDensity(NET), start, theta, t, **TOLERANCES).z
    return path[..., :2], np.exp(StandardNormal(2).logpdf(mesh) + path[..., 2])  # log p_t(z_t) = log p_0(z_0) + Δ(t)


def masses(mesh: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the mass (side - 1, side - 1) of each cell: its area, by its diagonals, times the mean of its corners."""
    one, other = mesh[1:, 1:] - mesh[:-1, :-1], mesh[1:, :-1] - mesh[:-1, 1:]
    area = (one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]) / 2
    return area * (p[1:, 1:] + p[:-1, :-1] + p[1:, :-1] + p[:-1, 1:]) / 4


def draw(data: dict | None = None, *, fig: FigureBase | None = None, frame: int = STILLS[1]) -> FigureBase:
    """Draw one frame; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    animate(data, fig)(frame)
    return fig


def animate(data: dict, fig: FigureBase) -> Callable[[int], None]:
    """Draw what stays, and return the function that shows a frame."""
    left, right = fig.subplots(1, 2)
    scale = PowerNorm(0.5, 0, np.quantile(data["density"], 0.995))
    look = {"cmap": sequential("forward", 1.0), "norm": scale, "shading": "gouraud", "rasterized": True}
    small = {f"marker{length}": 0.4 * rcParams[f"lines.marker{length}"] for length in ("size", "edgewidth")}
    (cloud,) = right.plot([], [], **points("data") | small)
    for ax in (left, right):
        ax.set(xlabel="$z_1$", aspect="equal", adjustable="datalim", xticks=(-2, 0, 2), yticks=(-1, 0, 1))
        ax.margins(0)
        ax.update_datalim(WINDOW)
    right.tick_params(labelleft=False)
    left.set_ylabel("$z_2$")
    title(fig, CLAIM)
    drawn = []

    def show(frame: int) -> None:
        for old in drawn:
            old.remove()
        drawn[:] = [QuadMesh(data["mesh"][frame], array=data["density"][frame], **look)]
        left.add_collection(drawn[0], autolim=False)  # the mesh is larger than the window
        left.set_title(f"$p_t$ at $t={data['t'][frame]:.2f}$")
        right.set_title("samples at this time")
        cloud.set_data(*data["samples_at"][frame].T)

    return show
