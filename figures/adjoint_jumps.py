"""One solve forward, one backward: the adjoint starts at the last observation and takes up a cotangent at each."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import SquaredError, Trajectory, adjoint, solve

from . import _demo
from ._roles import colour, points, role
from ._sweep import sweep
from ._text import arrowhead, beside, canvas, title

CLAIM = "The adjoint runs backward and jumps at every observation"
CAPTION = (
    "Top: the first component of the state, solved forward, and observations of it. Bottom: the first component of the "
    "adjoint a(t) = dL/dz(t), solved backward from the last observation; L is half the sum of squared residuals. At an "
    "observation it jumps, from the open to the filled circle, by the residual z - y (grey in both panels). What "
    "arrives at the left is the gradient by z_1(t0): {gradient[0]:.4f}. The net is a sine net 2-8-2 that reads t."
)
ALT = (
    "Above, a smooth curve runs to the right through time and misses {observed} observations by grey bars. Below, a "
    "dashed curve with arrowheads to the left begins at the last observation and jumps at each by the same grey bar."
)
NOTE_IDS = ("D09", "D13", "D14", "D28", "D32", "E22")
COST_S = 0.3
SIZES = ("beamer169", "beamer43", "half", "ppt169", "column", "text")

OBSERVED = 4
NOISE = 0.7  # standard deviation of the observations


def observed(seed: int) -> tuple[Trajectory, SquaredError]:
    """Return the demo path with OBSERVED times, and the loss of noisy observations at all of them but t0."""
    demo = _demo.plane(seed)
    times = np.linspace(*demo.times, OBSERVED + 1)
    trajectory = solve(demo.field, demo.z0, demo.theta, times, method="DOP853", rtol=1e-10, atol=1e-12)
    noise = NOISE * np.random.default_rng(seed).standard_normal(trajectory.z.shape)
    seen = np.minimum(np.arange(OBSERVED + 1.0), 1.0)[:, None]  # nothing is observed at t0
    return trajectory, SquaredError(trajectory.z + noise, weights=seen)


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return state and adjoint between the observations (I, count, ...), the jumps, and the gradient by z(t0)."""
    trajectory, loss = observed(seed)
    _, dL_dz = loss(trajectory)
    path = sweep(trajectory, dL_dz, count=21 if fast else 101)
    return {
        **{key: path[key] for key in ("t", "z", "a_z")},
        "times": trajectory.times,
        "observations": loss.data,
        "jumps": dL_dz,
        "gradient": adjoint(trajectory, dL_dz).z0,
        "observed": OBSERVED,
    }


compute = data  # the argument of draw hides the name


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the first component of state and adjoint, one above the other; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    top, bottom = fig.subplots(2, 1, sharex=True)
    _draw_state(top, data)
    _draw_adjoint(bottom, data)
    bottom.set(xlabel="time $t$", xlim=(data["times"][0], data["times"][-1] * 1.06))
    title(fig, CLAIM)
    return fig


def _draw_state(ax: Axes, data: dict) -> None:
    t, z = data["t"].ravel(), data["z"][..., 0].ravel()
    seen, y, reached = data["times"][1:], data["observations"][1:, 0], data["z"][:, -1, 0]
    ax.plot(t, z, **role("forward"))
    arrowhead(ax, t[: len(t) // 4], z[: len(t) // 4], "forward")
    ax.vlines(seen, y, reached, color=colour("muted"))
    ax.plot(seen, y, **points("data"))
    i = np.argmax(abs(data["jumps"][1:, 0]))
    beside(ax, "$z_1 - y_1$", seen[[i, i, i]], np.linspace(y[i], reached[i], 3))
    ax.set(ylabel="state $z_1$")


def _draw_adjoint(ax: Axes, data: dict) -> None:
    seen, a = data["times"][1:], data["a_z"][..., 0]
    later, earlier = np.append(a[1:, 0], 0.0), a[:, -1]  # on either side of an observation
    for t, piece in zip(data["t"], a, strict=True):
        ax.plot(t, piece, **role("adjoint") | {"label": "_adjoint"})
        arrowhead(ax, t[::-1], piece[::-1], "adjoint")
    ax.vlines(seen, later, earlier, color=colour("muted"))
    ax.plot(seen, later, **points("adjoint", filled=False))
    ax.plot(seen, earlier, **points("adjoint"))
    i = np.argmax(abs(data["jumps"][1:, 0]))
    beside(ax, "$z_1 - y_1$", seen[[i, i, i]], np.linspace(later[i], earlier[i], 3))
    ax.set(ylabel="adjoint $a_1$")
