"""A residual network is Euler's method: D01 becomes D02 as the number of layers grows, if the step is T/N."""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import solve
from refode.finite_difference import slope

from . import _demo
from ._roles import colour, role
from ._text import canvas, label, title

CLAIM = "A ResNet whose layers step by T/N converges to the ODE"
CAPTION = (
    "Left: residual networks of N layers, h_(k+1) = h_k + (T/N) f(h_k, kT/N, theta), over the exact solution of "
    "dh/dt = f(h, t, theta); arrows show (1, f). Right: error at the end time. With the factor T/N it falls like N to "
    "the power {slope:.3f}. Without the factor, as printed in our copy of the note, it does not fall: its power is "
    "{slope_without:.3f}. The net is a tanh net 1-8-1 that reads t."
)
ALT = (
    "Left, polygons of 1, 2, 4, 8 and 16 straight pieces approach a curved solution that follows a field of arrows. "
    "Right, on logarithmic axes, the error falls along a line of slope {slope:.2f} in the number of layers, while that "
    "of the network without the factor T/N follows a line of slope {slope_without:.2f}."
)
NOTE_IDS = ("D01", "D02", "P02", "E01", "D42", "D43", "P31", "E30")
COST_S = 0.2
SIZES = ("beamer169", "beamer43", "ppt169", "text")

SHOWN = (1, 2, 4, 8, 16)
ARROWS = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.003}


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the networks' states and their errors at the end; the slopes are fitted to the last four of them."""
    demo = _demo.line(seed)
    layers = 2 ** np.arange(9 if fast else 11)
    times = np.linspace(*demo.times, 201)
    exact = solve(demo.field, demo.z0, demo.theta, times, method="DOP853", rtol=1e-12, atol=1e-12).z[:, 0]
    error = [abs(resnet(demo, N, demo.times[1] / N)[-1] - exact[-1]) for N in layers]
    error_without = [abs(resnet(demo, N, 1.0)[-1] - exact[-1]) for N in layers]
    return {
        "times": times,
        "exact": exact,
        **{f"resnet_{N}": resnet(demo, N, demo.times[1] / N) for N in SHOWN},
        **_arrows(demo, exact),
        "layers": layers,
        "error": np.array(error),
        "error_without": np.array(error_without),
        "slope": slope(layers[-4:], error[-4:]),
        "slope_without": slope(layers[-4:], error_without[-4:]),
    }


compute = data  # the argument of draw hides the name


def resnet(demo: _demo.Demo, N: int, step: float) -> np.ndarray:
    """Return h_0, ..., h_N (N + 1,) of a residual network whose layers read the depth k T/N."""
    h = [demo.z0]
    for k in range(N):
        h.append(
            h[k] + step * demo.field(h[k], k * demo.times[1] / N, demo.theta)
        )  # h_{k+1} = h_k + step f(h_k, t_k, θ)
    return np.array(h)[:, 0]


def _arrows(demo: _demo.Demo, exact: np.ndarray) -> dict:
    """Return the field f on a grid (10, 8) of the (t, h) plane, wide enough for the networks."""
    inside = np.concatenate([exact, *(resnet(demo, N, demo.times[1] / N) for N in SHOWN)])
    grid_t = np.linspace(*demo.times, 11)[:-1]
    grid_h = np.linspace(inside.min(), inside.max(), 8)
    f = [demo.field(grid_h[:, None], t, demo.theta)[:, 0] for t in grid_t]
    return {"grid_t": grid_t, "grid_h": grid_h, "grid_f": np.array(f)}


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the networks over the solution, and their errors; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_networks(left, data)
    _draw_errors(right, data)
    title(fig, CLAIM)
    return fig


def _draw_networks(ax: Axes, data: dict) -> None:
    t, h, f = data["grid_t"], data["grid_h"], data["grid_f"].T
    T = data["times"][[0, -1]]
    step = 0.6 * (t[1] - t[0])  # an arrow is (dt, f dt), so it is as steep as the solution through its tail
    ax.quiver(t, h, step + 0 * f, step * f, **ARROWS, color=colour("muted"))
    layer = role("alternative") | {"linestyle": "-", "marker": "o", "markersize": 0.6 * rcParams["lines.markersize"]}
    for N in SHOWN:
        depth, state = np.linspace(*T, N + 1), data[f"resnet_{N}"]
        ax.plot(depth, state, **layer, label="_network")
        label(ax, f"$N={N}$", (T[-1], state[-1]), va="center")
    ax.plot(data["times"], data["exact"], **role("forward"))
    label(ax, "ODE", (T[-1], data["exact"][-1]), role="forward", va="center")
    margin = 0.05 * (h[-1] - h[0])
    ax.set(xlabel="depth $t = kT/N$", ylabel="state $h$", ylim=(h[0] - margin, h[-1] + margin))
    ax.set_xlim(T[0], T[-1] + 0.2)


def _draw_errors(ax: Axes, data: dict) -> None:
    N, error, without = data["layers"], data["error"], data["error_without"]
    ax.loglog(N, without, **role("muted") | {"marker": "s"})
    ax.loglog(N, error, **role("forward") | {"marker": "o"})
    grow, fall = (f"slope ${data[name]:+.3f}$" for name in ("slope_without", "slope"))
    label(ax, f"step 1\n{grow}", (N[0], without[-1]), (0, 0), "muted", ha="left", va="top")
    label(ax, f"step $T/N$\n{fall}", (N[0], error[-1]), (0, 0), "forward", ha="left", va="bottom")
    ax.set(xlabel="number of layers $N$", ylabel="error at the end $|h_N - h(T)|$")
