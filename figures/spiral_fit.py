"""A first fit: a network that has seen sixteen points of one path, and what it knows of the field away from it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import MLP, Linear, SquaredError, loss_and_gradient, solve

from ._descend import descend
from ._roles import points, role, sequential
from ._text import canvas, label, title

CLAIM = "300 steps of Adam learn a spiral from 16 points"
CAPTION = (
    "Left: the path of dz/dt = A z from (1, 0) up to t = {end:g} (dotted), {count} points of it, and the path of a "
    "tanh net 2-32-2 after {iterations} steps of Adam on the mean squared distance from these points (solid). The "
    "shade is the error |f - A z| of the field: {near:.3f} on average along the path, {far:.2f} farther out, of which "
    "the points say nothing. Right: both components over time, and the loss, which falls to {last:.1e}, a root mean "
    "square distance of {distance:.3f}."
)
ALT = (
    "Left, a solid curve covers a dotted spiral and its sixteen points, in the middle of a map of errors that grow "
    "towards the corners. Right, two waves go through points, and below them a loss falls by several powers of ten."
)
NOTE_IDS = ("D02", "D03", "D08")
COST_S = 1.5
SIZES = ("beamer169", "ppt169", "text")

A = np.array([[-0.1, 1.5], [-1.5, -0.1]])
START = np.array([1.0, 0.0])
TIMES = np.linspace(0, 6, 16)
FIELD, GAIN = MLP([2, 32, 2], time=False), 0.3
ITERATIONS, RATE = 300, 0.03
TOL = 1e-5  # of the solves that train
SIDE = 1.6  # of the map, from the centre


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the truth and the fit (count, 2) over t, the losses, and the error of the field."""
    exact = {"rtol": 1e-9, "atol": 1e-9}
    observed = solve(Linear(2), START, A.ravel(), TIMES, **exact).z
    loss = SquaredError(observed, 2 / len(TIMES))  # mean |z(t_i) - y_i|²
    f = loss_and_gradient(FIELD, START, loss, TIMES, rtol=TOL, atol=TOL)
    theta, losses = descend(f, FIELD.init(np.random.default_rng(seed), GAIN), ITERATIONS, RATE)
    t = np.linspace(*TIMES[[0, -1]], 121)
    side = np.linspace(-SIDE, SIDE, 31 if fast else 61)
    truth = solve(Linear(2), START, A.ravel(), t, **exact).z
    error = _field_error(np.stack(np.meshgrid(side, side), axis=-1), theta)
    unseen = np.hypot(*np.meshgrid(side, side)) > 1.1  # the path is within the unit circle
    return {
        "theta": theta,
        "times": TIMES,
        "observed": observed,
        "t": t,
        "truth": truth,
        "fit": solve(FIELD, START, theta, t, **exact).z,
        "loss": losses,
        "last": losses[-1],
        "distance": np.sqrt(losses[-1]),
        "side": side,
        "error": error,
        "near": _field_error(truth, theta).mean(),
        "far": error[unseen].mean(),
        "end": TIMES[-1],
        "count": len(TIMES),
        "iterations": ITERATIONS,
    }


compute = data  # the argument of draw hides the name


def _field_error(z: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return |f(z) - A z| (...) of the net at points z (..., 2)."""
    return np.linalg.norm(FIELD(z, 0.0, theta) - z @ A.T, axis=-1)


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the plane beside the components over time and the loss; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    axes = fig.subplot_mosaic([["plane", "time"], ["plane", "loss"]], width_ratios=(1.25, 1))
    _draw_plane(fig, axes["plane"], data)
    _draw_components(axes["time"], data)
    _draw_loss(axes["loss"], data)
    title(fig, CLAIM)
    return fig


def _draw_plane(fig: FigureBase, ax: Axes, data: dict) -> None:
    tint = {"cmap": sequential(), "vmin": 0, "shading": "gouraud", "rasterized": True}
    image = ax.pcolormesh(data["side"], data["side"], data["error"], **tint)
    fig.colorbar(image, ax=ax, label="error of the field")
    ax.plot(*data["fit"].T, **role("forward"))
    ax.plot(*data["truth"].T, **role("reference"))
    ax.plot(*data["observed"].T, **points("data"))
    ax.set(xlabel="state $z_1$", ylabel="state $z_2$", aspect="equal", xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE))
    ax.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))


def _draw_components(ax: Axes, data: dict) -> None:
    for i, up in enumerate(np.sign(data["fit"][-1] - data["fit"][-1, ::-1])):
        ax.plot(data["t"], data["fit"][:, i], **role("forward"), label="_fit")
        ax.plot(data["times"], data["observed"][:, i], **points("data"), label="_observed")
        label(ax, f"$z_{i + 1}$", (data["t"][-1], data["fit"][-1, i]), (0.4, 0.1 * up), "forward")
    ax.set(xlabel="time $t$", ylabel="state", ylim=(-1.2, 1.2))


def _draw_loss(ax: Axes, data: dict) -> None:
    k = np.arange(len(data["loss"]))
    ax.semilogy(k, data["loss"], **role("forward"))
    ax.set(xlabel="step of Adam", ylabel="loss")
