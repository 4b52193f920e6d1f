"""What the last equation of section 3.3 does to training: as printed it descends, as corrected it climbs."""

from functools import partial

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from scipy.stats import multivariate_normal

from refode import MLP, ContinuousFlow
from refode.as_printed import climb
from refode.datasets import two_moons

from ._kept import kept
from ._roles import points, role, sequential
from ._text import beside, canvas, title

CLAIM = "The printed ODE descends the likelihood"
CAPTION = (
    "Left: mean log-likelihood of held-out points over {iterations} iterations of Adam, one tanh net 2-24-2, 256 "
    "points of two moons, RK4 with 16 steps, for the likelihood equation as corrected, as our copy of the note prints "
    "it, and with its sign mended but without the gradient of the trace (Theorem 1 read literally). They end at "
    "{ends[0]:.3f}, {ends[1]:.0f} and {ends[2]:.2f}; the best single Gaussian has {gaussian:.3f}. Every score is of an "
    "adaptive solve. Right: the density of the corrected and of the literal run, and some of the points."
)
ALT = (
    "Three curves start together: the solid one rises above a dotted level, the other two fall, one by a little and "
    "one by thousands. Beside them are two maps, a density of two crescents and one that has left its points."
)
NOTE_IDS = ("D62", "P49", "P50", "E48", "E49", "E50", "E51")
COST_S = 20.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")
KEPT = "training"

RUNS = {"corrected": "forward", "as printed": "adjoint", "Theorem 1 literally": "alternative"}
SIDE = 2.4  # of the maps, from the centre
SHOWN = 60  # of the points


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the scores of each run (3, count) at `iteration` (count,), and two densities on a grid (2, side, side)."""
    rng = np.random.default_rng(seed)
    net = MLP([2, 24, 2])
    start = ContinuousFlow(net, net.init(rng), options={"method": "RK4", "step": 1 / 16})
    known, held_out = two_moons(256, rng), two_moons(500, rng)
    last = 60 if fast else 300
    iteration = np.unique(np.geomspace(1, last + 1, 9 if fast else 21).astype(int)) - 1
    thetas = {name: list(climb(start, known, name, last)) for name in RUNS}
    adaptive = ContinuousFlow(net, start.theta, options={"rtol": 1e-5, "atol": 1e-7})
    score = [[adaptive.with_theta(thetas[name][k]).logpdf(held_out).mean() for k in iteration] for name in RUNS]
    side = np.linspace(-SIDE, SIDE, 31 if fast else 61)
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    maps = [np.exp(adaptive.with_theta(thetas[name][-1]).logpdf(grid)) for name in ("corrected", "Theorem 1 literally")]
    gaussian = multivariate_normal(known.mean(axis=0), np.cov(known.T)).logpdf(held_out).mean()
    return {
        "iteration": iteration,
        "iterations": last,
        "score": np.array(score),
        "ends": np.array(score)[:, -1],
        "gaussian": gaussian,
        "side": side,
        "density": np.array(maps),
        "known": known,
    }


compute = partial(kept, "wrong_gradient")


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the three climbs beside two of the densities they end in; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    axes = fig.subplot_mosaic([["climb", "corrected"], ["climb", "literal"]], width_ratios=(2.2, 1))
    _draw_climb(axes["climb"], data)
    for name, density in zip(("corrected", "literal"), data["density"], strict=True):
        _draw_density(axes[name], data, density, name)
    title(fig, CLAIM)
    return fig


def _draw_climb(ax: Axes, data: dict) -> None:
    steps = data["iteration"] + 1
    for (name, who), score in zip(RUNS.items(), data["score"], strict=True):
        ax.plot(steps, score, **role(who))
        beside(ax, name.removesuffix(" literally"), steps, score, None if who == "alternative" else who, near=0.8)
    ax.axhline(data["gaussian"], **role("reference"))
    beside(ax, "one Gaussian", steps[[0, -1]], np.full(2, data["gaussian"]), near=0.0)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=4, linscale=1.5)
    ticks = (0, -2, -10, -100, -1000, -10000)
    ax.set_yticks(ticks, [f"${tick}$" for tick in ticks])
    ax.set_ylim(min(-100.0, 3 * data["score"].min()), 1)
    ax.set(xlabel="iteration $k + 1$", ylabel="log-likelihood of held-out points")


def _draw_density(ax: Axes, data: dict, density: np.ndarray, name: str) -> None:
    look = {"cmap": sequential("forward", 1.0), "shading": "nearest", "rasterized": True}
    ax.pcolormesh(data["side"], data["side"], density, **look)
    small = {f"marker{length}": 0.4 * rcParams[f"lines.marker{length}"] for length in ("size", "edgewidth")}
    ax.plot(*data["known"][:SHOWN].T, **points("data") | small)
    ax.set(aspect="equal", xticks=[], yticks=[], ylabel=name)
