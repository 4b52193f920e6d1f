"""The middle block of the adjoint: the gradients by both times, and the invariant a_§1 f + a_§2 = 0 that gives them."""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import adjoint, solve
from refode.finite_difference import central_difference

from . import _demo
from ._roles import points, role
from ._sweep import sweep
from ._text import beside, canvas, title

CLAIM = "dL/dt1 = a f, dL/dt0 = -a f, and a f + a_t = 0 at every time"
CAPTION = (
    "Left: the middle block a_t of the adjoint, solved backward from -a f at the end time (dashed), lies on -a f "
    "(dotted; largest difference {gap:.0e}). Begun at 0, like the block of theta, it is off by {offset:.3f} "
    "everywhere (grey). Circles: differences of the loss by the two times. Right: the loss over each time, all else "
    "being equal, with the tangent that the adjoint predicts: dL/dt0 = {start:.6f} (difference quotient "
    "{start_fd:.6f}) and dL/dt1 = {end:.6f} ({end_fd:.6f}). The net is a sine net 2-8-2 that reads t."
)
ALT = (
    "Left, a dashed and a dotted curve coincide and end in circles, while a grey copy begun at zero runs apart from "
    "them. Right, two small panels show the loss over the start time and over the end time with straight tangents."
)
NOTE_IDS = ("D11", "D33", "E08")
COST_S = 1.0
SIZES = ("beamer169", "ppt169", "text")

MOVED = 0.5  # how far the times are moved in the small panels


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return a_t, -a f over time, the loss over each of the two times, and the gradients by two routes."""
    demo = _demo.plane(seed)
    trajectory = demo.trajectory(1e-12)
    dL_dz = demo.cotangent(trajectory.z[-1])
    path = sweep(trajectory, dL_dz, 21 if fast else 81, rtol=1e-12)
    t, z, a_z, a_t = (path[key][0] for key in ("t", "z", "a_z", "a_t"))
    minus_af = -np.array([a @ demo.field(*at, demo.theta) for *at, a in zip(z, t, a_z, strict=True)])
    start, end = adjoint(trajectory, dL_dz).times
    start_fd, end_fd = central_difference(lambda times: _loss(demo, times), np.array(demo.times), step=1e-4)
    moved = np.linspace(-MOVED, MOVED, 9 if fast else 41)
    return {
        "t": t,
        "a_t": a_t,
        "minus_af": minus_af,
        "moved": moved,
        "loss_start": np.array([_loss(demo, (demo.times[0] + by, demo.times[1])) for by in moved]),
        "loss_end": np.array([_loss(demo, (demo.times[0], demo.times[1] + by)) for by in moved]),
        "start": start,
        "end": end,
        "start_fd": start_fd,
        "end_fd": end_fd,
        "gap": np.abs(a_t - minus_af).max(),
        "offset": abs(a_t[-1]),
    }


compute = data  # the argument of draw hides the name


def _loss(demo: _demo.Demo, times: tuple[float, float]) -> float:
    """Return the loss if the solve from z0 begins and ends at other times."""
    return demo.loss(solve(demo.field, demo.z0, demo.theta, times, method="DOP853", rtol=1e-11, atol=1e-13).z[-1])


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the invariant beside the loss over both times; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    axes = fig.subplot_mosaic([["invariant", "start"], ["invariant", "end"]], width_ratios=(1.3, 1))
    _draw_invariant(axes["invariant"], data)
    _draw_loss(axes["start"], data, "start", 0)
    _draw_loss(axes["end"], data, "end", -1)
    title(fig, CLAIM)
    return fig


def _draw_invariant(ax: Axes, data: dict) -> None:
    t, a_t = data["t"], data["a_t"]
    ax.plot(t, a_t - a_t[-1], **role("muted"))
    ax.plot(t, a_t, **role("adjoint") | {"linewidth": 2 * rcParams["lines.linewidth"]})
    ax.plot(t, data["minus_af"], **role("reference"))
    ax.plot(t[[0, -1]], [data["start_fd"], -data["end_fd"]], **points("reference", filled=False))
    beside(ax, r"$a_t$ and $-a\,f$", t, a_t, "adjoint")
    beside(ax, "begun at 0", t, a_t - a_t[-1], "muted")
    ax.set(xlabel="time $t$", ylabel="time block $a_t$ of the adjoint")


def _draw_loss(ax: Axes, data: dict, which: str, end: int) -> None:
    time, loss = data["t"][end] + data["moved"], data[f"loss_{which}"]
    here, slope = loss[len(loss) // 2], data[which]
    ax.plot(time, loss, **role("forward"))
    near = np.array([-0.6, 0.6]) * MOVED
    ax.plot(data["t"][end] + near, here + slope * near, **role("adjoint"))
    ax.plot(data["t"][end], here, **points("forward"))
    name = f"t_{end % 2}"
    ax.set(xlabel=f"{which} time ${name}$;   $dL/d{name}={slope:.4f}$", ylabel="loss $L$")
