"""Animation: the state is solved forward; then one solve backward brings the adjoint, its jumps, and every gradient."""

from collections.abc import Callable

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import solve
from refode.finite_difference import central_difference

from . import _demo
from ._roles import colour, points, role
from ._sweep import sweep
from ._text import canvas, title
from .adjoint_jumps import observed

CLAIM = "One sweep forward for z, one backward for all the gradients"
CAPTION = (
    "First z(t) is solved forward (solid), past the observations; then the adjoint a(t) is solved backward (dashed) "
    "and jumps at each of them, while the integral of a grad_theta f from t to the end fills the bars: the gradient by "
    "theta, here for {bars} of {parameters} parameters. At t0 the bars end in the circles, which are finite "
    "differences of the loss (largest distance {difference:.0e}). The net is a sine net 2-8-2 that reads t."
)
ALT = (
    "A curve grows to the right past observations, then a dashed curve below it grows to the left and jumps at each. "
    "Meanwhile bars beside them grow or shrink until they end in circles."
)
NOTE_IDS = ("D14", "D15", "D28", "D31", "D33", "P11", "P17")
COST_S = 1.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")
FRAMES = 60
STILLS = (12, 38, 59)

FORWARD = 20  # of the frames; the others go back
BARS = 6


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return state and adjoint over all t (count,), in its order, and the integral (count, m) that becomes dL/dtheta.

    An observation time stands there twice: before it, and after it. `time` (FRAMES,) is where the sweep stands.
    """
    trajectory, loss = observed(seed)
    _, dL_dz = loss(trajectory)
    path = {key: np.concatenate(value) for key, value in sweep(trajectory, dL_dz, 21 if fast else 61).items()}
    times, gradient = trajectory.times, path["a_theta"][0]
    levels = np.linspace(gradient.min(), gradient.max(), BARS)
    bars = np.argmin(np.abs(gradient - levels[:, None]), axis=1)  # evenly across the range of gradients

    def moved(some: np.ndarray) -> float:
        theta = trajectory.theta.copy()
        theta[bars] = some
        demo = _demo.plane(seed)
        return loss(solve(demo.field, demo.z0, theta, times, method="DOP853", rtol=1e-11, atol=1e-13))[0]

    differences = central_difference(moved, trajectory.theta[bars], step=1e-4)
    forward, backward = np.linspace(*times[[0, -1]], FORWARD), np.linspace(*times[[-1, 0]], FRAMES - FORWARD)
    return {
        **{key: path[key] for key in ("t", "z", "a_z", "a_theta")},
        "times": times,
        "observations": loss.data,
        "time": np.concatenate([forward, backward]),
        "shown": bars,
        "differences": differences,
        "difference": np.abs(differences - gradient[bars]).max(),
        "bars": BARS,
        "parameters": len(gradient),
    }


compute = data  # the argument of draw hides the name


def draw(data: dict | None = None, *, fig: FigureBase | None = None, frame: int = STILLS[1]) -> FigureBase:
    """Draw one frame; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    animate(data, fig)(frame)
    return fig


def animate(data: dict, fig: FigureBase) -> Callable[[int], None]:
    """Draw what stays, and return the function that shows a frame."""
    axes = fig.subplot_mosaic([["state", "bars"], ["adjoint", "bars"]], width_ratios=(1.7, 1))
    axes["state"].sharex(axes["adjoint"])
    axes["state"].tick_params(labelbottom=False)
    shows = [_state(axes["state"], data), _adjoint(axes["adjoint"], data), _bars(axes["bars"], data)]
    title(fig, CLAIM)

    def show(frame: int) -> None:
        for part in shows:
            part(data["time"][frame], frame >= FORWARD)

    return show


def _state(ax: Axes, data: dict) -> Callable[[float, bool], None]:
    t, z, seen, y = data["t"], data["z"][:, 0], data["times"][1:], data["observations"][1:, 0]
    cursor = ax.axvline(t[0], **role("muted"))
    (line,), (dot,) = ax.plot(t, z, **role("forward")), ax.plot(t[:1], z[:1], **points("forward"))
    ax.plot(seen, y, **points("data"))
    margin = 0.1 * np.ptp(y)
    ax.set(ylabel="state $z_1$", xlim=_wide(data), ylim=(min(*z, *y) - margin, max(*z, *y) + margin))

    def show(time: float, back: bool) -> None:
        cursor.set_xdata([time, time])
        reached = slice(None) if back else t <= time
        line.set_data(t[reached], z[reached])
        dot.set_data([time], [np.interp(time, t, z)])

    return show


def _adjoint(ax: Axes, data: dict) -> Callable[[float, bool], None]:
    intervals = len(data["times"]) - 1
    t, a = data["t"].reshape(intervals, -1), data["a_z"][:, 0].reshape(intervals, -1)
    cursor = ax.axvline(t[0, 0], **role("muted"))
    lines = [ax.plot(*piece, **role("adjoint") | {"label": "_adjoint"})[0] for piece in zip(t, a, strict=True)]
    seen, before, after = data["times"][1:], a[:, -1], np.append(a[1:, 0], 0.0)
    jumps = [ax.vlines(at, *ends, color=colour("muted")) for at, *ends in zip(seen, before, after, strict=True)]
    filled, empty = (
        ax.plot(seen, before, **points("adjoint"))[0],
        ax.plot(seen, after, **points("adjoint", filled=False))[0],
    )
    ax.set(xlabel="time $t$", ylabel="adjoint $a_1$", xlim=_wide(data), ylim=(1.15 * a.min(), 1.15 * a.max()))

    def show(time: float, back: bool) -> None:
        cursor.set_xdata([time, time])
        for line, *piece in zip(lines, t, a, strict=True):
            line.set_data(*(values[(piece[0] >= time) & back] for values in piece))
        met = (seen >= time) & back
        for jump, visible in zip(jumps, met, strict=True):
            jump.set_visible(visible)
        filled.set_data(seen[met], before[met])
        empty.set_data(seen[met], after[met])

    return show


def _bars(ax: Axes, data: dict) -> Callable[[float, bool], None]:
    integral, rows = data["a_theta"][:, data["shown"]], np.arange(BARS)
    bars = ax.barh(rows, integral[0], height=0.5, color=colour("adjoint"))
    ax.axvline(0, color=rcParams["axes.edgecolor"], linewidth=rcParams["axes.linewidth"])
    ax.plot(data["differences"], rows, **points("reference", filled=False))
    ax.set_title("circles: differences of $L$", fontsize=rcParams["legend.fontsize"])
    low, high = min(integral.min(), 0), max(integral.max(), 0)
    margin = 0.1 * (high - low)
    names = [rf"$\theta_{{{1 + j}}}$" for j in data["shown"]]
    ax.set(xlabel=r"$\int_t^{t_1} a\,\partial f/\partial\theta_j\,ds$", xlim=(low - margin, high + margin))
    ax.set(ylim=(-0.6, BARS - 0.4), yticks=rows, yticklabels=names)

    def show(time: float, back: bool) -> None:
        for bar, width in zip(bars, collected(data, time) if back else np.zeros(BARS), strict=True):
            bar.set_width(width)

    return show


def collected(data: dict, time: float) -> np.ndarray:
    """Return the integral (BARS,) from `time` to the end."""
    return np.array([np.interp(time, data["t"], data["a_theta"][:, j]) for j in data["shown"]])


def _wide(data: dict) -> tuple[float, float]:
    margin = 0.04 * np.ptp(data["times"])
    return data["times"][0] - margin, data["times"][-1] + margin
