"""Where the note's way back fails: a field that contracts forward expands backward, and no tolerance helps for long."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import solve

from ._roles import points, role
from ._text import arrowhead, canvas, label, title

CLAIM = "A contracting field cannot be run back"
CAPTION = (
    "dz/dt = -lambda (z - cos 3t), solved from t = 0 to {end:g} by RK45 with rtol {tol:.0e}, and back from where it "
    "ended. Left: lambda = {shown:g}; the way back (dashed) leaves the way forth (solid) before it reaches the start. "
    "Right: distance from the start after the way back. What is wrong at the end is multiplied by e to the power "
    "lambda T (dotted: rtol times that); the fitted power is {rate:.2f} lambda T. Above the grey line no digit is left."
)
ALT = (
    "Left, a solid curve settles on a slow wave, and a dashed curve that runs back along it shoots off before the "
    "start. Right, on a logarithmic scale, the error rises by many decades with lambda, straight along a dotted line."
)
NOTE_IDS = ("D28", "D29", "P16", "E20")
COST_S = 0.3
SIZES = ("beamer169", "beamer43", "ppt169", "text")

TIMES = (0.0, 1.0)
TOL = 1e-9
SHOWN = 22.0  # the rate in the left panel


class Relaxation:
    """f = −λ (z − cos 3t), θ = (λ,): every solution is drawn to the same slow wave, at rate λ. It is only solved."""

    n, m = 1, 1

    def __call__(self, z, t, theta):
        return -theta[0] * (z - np.cos(3 * t))


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return both ways at one rate, and the error of the way back over the rate; nothing is random, `seed` is idle."""
    t = np.linspace(*TIMES, 101 if fast else 401)
    rates = np.linspace(5.0, 40.0, 4 if fast else 8)
    error = np.array([abs(_there_and_back(rate, np.array(TIMES))[1][0]) for rate in rates])
    forth, back = _there_and_back(SHOWN, t)
    return {
        "t": t,
        "forth": forth,
        "back": back,
        "rates": rates,
        "error": error,
        "bound": TOL * np.exp(rates * (TIMES[1] - TIMES[0])),
        "rate": np.polyfit(rates, np.log(error), 1)[0] / (TIMES[1] - TIMES[0]),
        "shown": SHOWN,
        "tol": TOL,
        "end": TIMES[1],
    }


compute = data  # the argument of draw hides the name


def _there_and_back(rate: float, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return z (count,) at the times t on the way from 0 and on the way back, both in the order of t."""
    options = {"theta": np.array([rate]), "rtol": TOL, "atol": TOL}
    forth = solve(Relaxation(), np.zeros(1), times=t, **options).z[:, 0]
    back = solve(Relaxation(), forth[-1:], times=t[::-1], **options).z[::-1, 0]
    return forth, back


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw both ways at one rate beside the error over the rate; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2)
    _draw_ways(left, data)
    _draw_errors(right, data)
    title(fig, CLAIM)
    return fig


def _draw_ways(ax: Axes, data: dict) -> None:
    t, forth, back = data["t"], data["forth"], data["back"]
    ax.plot(t, forth, **role("forward"))
    ax.plot(t, back, **role("adjoint"))
    ax.plot(t[0], forth[0], **points("forward"))
    room = 0.25 * np.ptp(forth)
    ax.set(xlabel="time $t$", ylabel="state $z$", ylim=(forth.min() - room, forth.max() + room))
    i, j = len(t) * 3 // 4, len(t) * 2 // 5
    arrowhead(ax, t[2 * i - len(t) :], forth[2 * i - len(t) :], "forward")
    arrowhead(ax, t[: 2 * j][::-1], back[: 2 * j][::-1], "adjoint")
    label(ax, "forth", (t[i], forth[i]), (-0.8, -0.4), "forward")
    label(ax, "back", (t[j], back[j]), (0.8, 0.4), "adjoint")


def _draw_errors(ax: Axes, data: dict) -> None:
    rates = data["rates"]
    ax.semilogy(rates, data["bound"], **role("reference"))
    ax.semilogy(rates, data["error"], **points("adjoint"))
    ax.semilogy(rates, np.full_like(rates, np.abs(data["forth"]).max()), **role("muted"))
    middle = len(rates) // 2
    label(ax, r"rtol $\times\,e^{\lambda T}$", (rates[middle], data["bound"][middle]), (-0.8, 0.4))
    label(ax, "size of $z$", (rates[0], np.abs(data["forth"]).max()), (0.0, 0.3), "muted", ha="left")
    ax.set(xlabel=r"rate of contraction $\lambda$", ylabel="error at $t_0$ after the way back")
