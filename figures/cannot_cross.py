"""What one dimension cannot do: paths on a line keep their order, whatever the network; in the plane they pass."""

from fractions import Fraction

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import MLP, Augmented, SquaredError, VectorField, loss_and_gradient, solve

from ._descend import descend
from ._roles import points, role
from ._text import beside, canvas, label, title

CLAIM = "In one dimension paths cannot cross; one more dimension suffices"
CAPTION = (
    "Eight points x in +-{{1/4, 1/2, 3/4, 1}} are to go to -x (open squares) in unit time; {iterations} steps of Adam "
    "on the mean squared error. Left: a tanh net 1-16-1 that reads t. Its paths cannot cross, so its map g is "
    "increasing, so mean g(x) x >= 0 (Chebyshev), so the loss, mean (g(x) + x)^2, is at least mean x^2 = 15/32 = "
    "{floor:.5f}; it ends at {plain_end:.5f}. Middle: a net 2-16-2 whose second component begins at 0 and is not "
    "looked at; it ends at {augmented_end:.1e}. Right: its paths in the plane, where they go around each other, and "
    "both losses with the floor (dotted)."
)
ALT = (
    "Left, eight paths squeeze together towards zero and reach none of their targets; in the middle they cross and "
    "reach them, and on the right the same paths turn about each other in the plane. Below that one loss falls onto a "
    "dotted floor and stays there while the other falls far below it."
)
NOTE_IDS = ("D02", "P33", "P35")
COST_S = 2.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")

X = np.array([-1, -3 / 4, -1 / 2, -1 / 4, 1 / 4, 1 / 2, 3 / 4, 1])[:, None]
FLOOR = 15 / 32  # mean x²
HIDDEN, GAIN = 16, 0.5
RATE = 0.02
TOL = 1e-6  # of the solves


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the losses of both runs and their paths, (count, 8, 1) on the line and (count, 8, 2) in the plane."""
    iterations = 100 if fast else 300
    rng = np.random.default_rng(seed)
    line, wider = MLP([1, HIDDEN, 1]), MLP([2, HIDDEN, 2])
    plane = Augmented(wider, 1)
    plain = _train(line, X, line.init(rng, GAIN), iterations)
    augmented = _train(plane, plane.lift(X), wider.init(rng, GAIN), iterations)
    return {
        "iterations": iterations,
        "t": np.linspace(0, 1, 51),
        "floor": FLOOR,
        **{f"plain_{key}": value for key, value in plain.items()},
        **{f"augmented_{key}": value for key, value in augmented.items()},
    }


compute = data  # the argument of draw hides the name


def turned_around(start: np.ndarray) -> SquaredError:
    """Return the loss, mean (z_1(1) + x)², of the observations [0, 1] of paths from `start` (8, n)."""
    target, weights = np.zeros((2, *start.shape)), np.zeros((2, *start.shape))
    target[1, :, :1], weights[1, :, 0] = -X, 2 / len(X)  # looked at in z_1 and at the end
    return SquaredError(target, weights)


def _train(field: VectorField, start: np.ndarray, theta: np.ndarray, iterations: int) -> dict:
    """Return theta, the losses over the iterations, the last of them, and the paths at the end."""
    f = loss_and_gradient(field, start, turned_around(start), [0.0, 1.0], rtol=TOL, atol=TOL)
    theta, losses = descend(f, theta, iterations, RATE)
    paths = solve(field, start, theta, np.linspace(0, 1, 51), rtol=TOL, atol=TOL).z
    return {"theta": theta, "loss": losses, "end": losses[-1], "paths": paths}


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw both runs' paths over time, those in the plane, and the losses; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    axes = fig.subplot_mosaic([["plain", "augmented", "plane"], ["plain", "augmented", "loss"]])
    losses = {"plain": f"1-D, loss {data['plain_end']:.4f}", "augmented": f"2-D, loss {data['augmented_end']:.0e}"}
    for name, words in losses.items():
        _draw_paths(axes[name], data["t"], data[f"{name}_paths"][..., 0])
        axes[name].set_title(words)
    axes["plain"].set_ylabel("state $z$")
    _draw_plane(axes["plane"], data)
    _draw_losses(axes["loss"], data)
    title(fig, CLAIM)
    return fig


def _draw_paths(ax: Axes, t: np.ndarray, z: np.ndarray) -> None:
    for path in z.T:
        ax.plot(t, path, **_look(path[0]))
    ax.plot(np.zeros(len(X)), X, **points("data"))
    ax.plot(np.ones(len(X)), -X, **points("reference", "s", filled=False), clip_on=False)
    ax.set(xlabel="time $t$", ylim=(-1.3, 1.3), yticks=(-1, 0, 1), xticks=(0, 1))


def _draw_plane(ax: Axes, data: dict) -> None:
    for path in data["augmented_paths"].swapaxes(0, 1):
        ax.plot(*path.T, **_look(path[0, 0]))
    ax.plot(X, 0 * X, **points("data") | {"markersize": 0.7 * rcParams["lines.markersize"]})
    ax.set(xlabel="state $z$", ylabel="extra")


def _look(start: float) -> dict:
    """Return the look of a path from below or above 0, so that the eye can tell where it came from."""
    return role("forward") | {"label": "_up"} if start < 0 else role("muted") | {"label": "_down"}


def _draw_losses(ax: Axes, data: dict) -> None:
    k = np.arange(data["iterations"] + 1)
    ax.axhline(data["floor"], **role("reference"))
    ax.semilogy(k, data["plain_loss"], **role("alternative"))
    ax.semilogy(k, data["augmented_loss"], **role("forward"))
    floor = Fraction(data["floor"]).limit_denominator(100)
    label(ax, f"floor ${floor}$", (k[-1], data["floor"]), (0, 0.3), ha="right")
    beside(ax, "2-D", k, data["augmented_loss"], "forward", near=0.7)
    ax.set(xlabel="iteration", ylabel="loss", ylim=(None, 20 * data["floor"]))
