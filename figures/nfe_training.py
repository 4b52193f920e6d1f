"""Evaluations of f while a field is trained, and what decides how many of them the way back takes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import MLP, Trajectory, adjoint, loss_and_gradient, solve
from refode.integrate import Integrator
from refode.sensitivities.backsolve import adjoint_dynamics
from refode.sensitivities.sweep import Blocks

from . import _demo
from ._descend import descend
from ._roles import role
from ._text import canvas, label, title
from .cannot_cross import FLOOR, GAIN, HIDDEN, RATE, TOL, X, turned_around

CLAIM = "NFE rises in training; what the way back takes depends on units"
CAPTION = (
    "Evaluations of f, not steps, by RK45 at rtol {rtol:.0e}. Left: of the forward solve during {iterations} steps of "
    "Adam, for the net 1-{hidden}-1 that is to turn a line around and cannot: {first} at first, {last} at the end, "
    "while the loss (below) has long come to rest on its floor, 15/32 (dotted). Right: evaluations on the way back "
    "over those on the way forth, where the loss is in units that make its cotangent dL/dz so many times atol. With "
    "one atol for z and a alike (squares) nothing controls the adjoint below 1/rtol (dotted): the ratio is {low:.2f}, "
    "and above it rises to {high:.2f}. With the adjoint's atol scaled by the cotangent (dashed) it is {scaled:.2f} in "
    "any units. The net on the right is a sine net 2-8-2 that reads t."
)
ALT = (
    "Left, a staircase of evaluations climbs during training while the loss stays on its floor. Right, the ratio of "
    "evaluations is flat for small gradients and rises past a dotted line, and a dashed line stays level throughout."
)
NOTE_IDS = ("D28", "P06", "P19")
COST_S = 4.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")

RTOL, ATOL = 1e-6, 1e-8  # of the way back


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return evaluations and loss over the iterations, and the ratio back / forth over the cotangent's size."""
    iterations, every = (60, 10) if fast else (300, 5)
    return {"iterations": iterations, "hidden": HIDDEN, **_train(seed, iterations, every), **_ratios(seed, fast)}


compute = data  # the argument of draw hides the name


def _train(seed: int, iterations: int, every: int) -> dict:
    """Return the evaluations at `iteration` (count,) and the losses of the run of `cannot_cross` in one dimension."""
    net, times, options, thetas = MLP([1, HIDDEN, 1]), [0.0, 1.0], {"rtol": TOL, "atol": TOL}, []
    f = loss_and_gradient(net, X, turned_around(X), times, **options)

    def watched(theta: np.ndarray) -> tuple:
        thetas.append(theta)
        return f(theta)

    _, losses = descend(watched, net.init(np.random.default_rng(seed), GAIN), iterations, RATE)
    iteration = np.arange(0, iterations + 1, every)
    nfev = np.array([solve(net, X, thetas[k], times, **options).nfev for k in iteration])
    return {"iteration": iteration, "nfev": nfev, "first": nfev[0], "last": nfev[-1], "loss": losses[iteration]}


def _ratios(seed: int, fast: bool) -> dict:
    """Return evaluations back over forth where the largest cotangent is `size` times atol, and by refode's own atol."""
    trajectory = _demo.plane(seed).trajectory(RTOL, method="RK45", atol=ATOL)
    cotangent = _demo.plane(seed).cotangent(trajectory.z[-1])
    cotangent /= np.abs(cotangent).max()
    size = np.geomspace(1.0, 1e12, 7 if fast else 13)
    back = np.array([_evaluations_back(trajectory, cotangent[-1] * each * ATOL) for each in size])
    scaled = [adjoint(trajectory, cotangent * each * ATOL).nvjp / trajectory.nfev for each in size]
    ratio = back / trajectory.nfev
    ends = {"low": ratio[0], "high": ratio.max(), "scaled": np.median(scaled), "knee": 1 / RTOL, "rtol": RTOL}
    return {"size": size, "ratio": ratio, "ratio_scaled": np.array(scaled), **ends}


def _evaluations_back(trajectory: Trajectory, a: np.ndarray) -> int:
    """Return the evaluations of the reverse solve of (z, a_z, a_t, a_theta) from a, under one atol for all of it."""
    field, theta, times, z = trajectory.field, trajectory.theta, trajectory.times, trajectory.z[-1]
    q = Blocks(z.shape, field.m)

    def rhs(t: float, y: np.ndarray) -> np.ndarray:
        z, a_z, _, _ = q.unpack(y)
        return q.pack(*adjoint_dynamics(field, z, t, theta, a_z))

    back = Integrator(rhs, trajectory.method, RTOL, ATOL, trajectory.max_nfev, "reverse", {})
    back.solve((times[-1], times[0]), q.pack(z, a, -a @ field(z, times[-1], theta), np.zeros(field.m)))
    return back.nfev


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the evaluations during training beside the ratio; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    mosaic = fig.subplot_mosaic([["nfev", "ratio"], ["loss", "ratio"]], height_ratios=(1.6, 1))
    _draw_training(mosaic["nfev"], mosaic["loss"], data)
    _draw_ratios(mosaic["ratio"], data)
    title(fig, CLAIM)
    return fig


def _draw_training(upper: Axes, lower: Axes, data: dict) -> None:
    upper.plot(data["iteration"], data["nfev"], **role("forward"), drawstyle="steps-post")
    upper.set(ylabel="evaluations of $f$", ylim=(0, None), xticklabels=[])
    lower.axhline(FLOOR, **role("reference"))
    lower.plot(data["iteration"], data["loss"], **role("muted"))
    lower.set(xlabel="iteration", ylabel="loss", ylim=(0, None))


def _draw_ratios(ax: Axes, data: dict) -> None:
    size = data["size"]
    ax.axvline(data["knee"], **role("reference"))
    ax.semilogx(size, data["ratio"], **role("alternative") | {"marker": "s"})
    ax.semilogx(size, data["ratio_scaled"], **role("adjoint"))
    label(ax, "one atol", (size[0], data["ratio"][0]), (0, -0.7), "alternative", ha="left")
    label(ax, "scaled atol", (size[0], data["ratio_scaled"][0]), (0, 0.4), "adjoint", ha="left")
    label(ax, "1 / rtol", (data["knee"], 0.0), (0.4, 0.4))
    ax.set(xlabel=r"$|dL/dz|$ / atol", ylabel="evaluations back / forth", ylim=(0, None))
