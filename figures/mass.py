"""The test that any density can be put to: it integrates to 1, unless the sign of the trace is wrong."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from scipy.integrate import trapezoid

from refode import MLP, ContinuousFlow, solve
from refode.finite_difference import slope

from ._roles import points, role
from ._text import beside, canvas, label, title

CLAIM = "The mass of a flow is 1; with the trace's sign turned it is not"
CAPTION = (
    "Left: a mixture of two Gaussians carried along by a tanh net 1-8-1 that reads t (thin lines: paths), its density "
    "at four times, each with its integral. Dash-dotted: the density at the end with d log p/dt = +tr grad f; its "
    "integral is {wrong:.4f}, the mean of the squared stretching (dz_t/dz_0)^2, where the right sign leaves dz_t/dz_0 "
    "times its inverse. Right: how far the integral is from 1, over the tolerance of an RK45 solve: with the right "
    "sign it goes like rtol to the power {slope:.2f} (dotted: rtol itself), with the wrong sign it stays. The net is "
    "the first of a seeded sequence for which the wrong integral lies between {low:g} and {high:g}."
)
ALT = (
    "Left, four curves of two humps each, one above the other in time, with lines that run from curve to curve as the "
    "humps move and grow; a dash-dotted curve under the last has half its area. Right, on logarithmic axes, one error "
    "falls with the tolerance along a dotted line and the other is flat."
)
NOTE_IDS = ("D40", "D44", "D56", "E24")
COST_S = 1.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")

FIELD = MLP([1, 8, 1])
END = 1.2
LOW, HIGH, PEAK = 0.4, 0.55, 1.0  # the net has a wrong integral between LOW and HIGH, and no density above PEAK
REACH = np.array([[-5.0], [6.0]])  # beyond these starts there is less than 1e-16 of the mass


class Mixture:
    """Two Gaussians on the line: 0.4 N(-1.2, 0.35^2) + 0.6 N(0.9, 0.6^2)."""

    means, deviations, weights = np.array([-1.2, 0.9]), np.array([0.35, 0.6]), np.array([0.4, 0.6])

    def logpdf(self, z: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(self._log_parts(z), axis=-1)

    def rvs(self, size: int, random_state=None) -> np.ndarray:
        rng = np.random.default_rng(random_state)
        part = rng.choice(2, size, p=self.weights)
        return (self.means[part] + self.deviations[part] * rng.normal(size=size))[:, None]

    def score(self, z: np.ndarray) -> np.ndarray:
        share = np.exp(self._log_parts(z) - self.logpdf(z)[..., None])
        return np.sum(share * (self.means - z) / self.deviations**2, axis=-1, keepdims=True)

    def _log_parts(self, z: np.ndarray) -> np.ndarray:
        """Return log w_k N(z; c_k, s_k^2) (..., 2) for z (..., 1)."""
        height = self.weights / (np.sqrt(2 * np.pi) * self.deviations)
        return np.log(height) - ((z - self.means) / self.deviations) ** 2 / 2


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return p_t (4, count) over x (4, count) with their masses, and both masses over the tolerance."""
    theta = _net(np.random.default_rng(seed))
    times = np.linspace(0, END, 4)
    count = 401 if fast else 801
    x = [_window(theta, t, count) for t in times]
    moved = [densities(theta, t, at, 1e-10) for t, at in zip(times[1:], x[1:], strict=True)]
    p = [np.exp(Mixture().logpdf(x[0][:, None])), *(right for right, _ in moved)]
    wrong = moved[-1][1]
    rtol = np.geomspace(1e-2, 1e-10, 5 if fast else 9)
    masses = [[integral(x[-1], y) for y in densities(theta, END, x[-1], tol)] for tol in rtol]
    starts, path_times = np.linspace(-2.0, 2.0, 9)[:, None], np.linspace(0, END, 41)
    errors = np.abs(np.array(masses).T - 1)
    return {
        "theta": theta,
        "times": times,
        "x": np.array(x),
        "p": np.array(p),
        "mass": np.array([integral(at, y) for at, y in zip(x, p, strict=True)]),
        "p_wrong": wrong,
        "wrong": integral(x[-1], wrong),
        "path_times": path_times,
        "paths": solve(FIELD, starts, theta, path_times, rtol=1e-8).z[..., 0],
        "rtol": rtol,
        "error": errors[0],
        "error_wrong": errors[1],
        "slope": slope(rtol, errors[0]),
        "low": LOW,
        "high": HIGH,
    }


compute = data  # the argument of draw hides the name


def _net(rng: np.random.Generator) -> np.ndarray:
    """Return the parameters of the first net drawn that is as wanted."""
    while True:
        theta = FIELD.init(rng, 1.5)
        x = _window(theta, END, 401)
        right, wrong = densities(theta, END, x, 1e-4)
        if LOW < integral(x, wrong) < HIGH and right.max() < PEAK:
            return theta


def _window(theta: np.ndarray, t: float, count: int) -> np.ndarray:
    """Return points x (count,) of the interval in which the mass is at time t."""
    ends = REACH if t == 0 else solve(FIELD, REACH, theta, [0, t]).z[-1]
    return np.linspace(*ends[:, 0], count)


def densities(theta: np.ndarray, t: float, x: np.ndarray, rtol: float) -> tuple[np.ndarray, np.ndarray]:
    """Return p_t at x (count,) as it is, and as it would be if log p rose with the trace."""
    flow = ContinuousFlow(FIELD, theta, Mixture(), t1=t, options={"rtol": rtol, "atol": rtol})
    z0, minus_change = flow.backward(x[:, None]).z[-1].T
    base = flow.base.logpdf(z0[:, None])
    return np.exp(base - minus_change), np.exp(base + minus_change)


def integral(x: np.ndarray, y: np.ndarray) -> float:
    """Return the trapezoidal sum, which converges faster than any power here: y is smooth and vanishes at the ends."""
    return float(trapezoid(y, x))


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the densities on their way beside the error of their mass; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2, width_ratios=(1.4, 1))
    _draw_densities(left, data)
    _draw_errors(right, data)
    title(fig, CLAIM)
    return fig


def _draw_densities(ax: Axes, data: dict) -> None:
    scale = 0.8 * data["times"][1] / data["p"].max()
    ax.plot(data["paths"], data["path_times"], **role("muted") | {"linewidth": 0.8}, label="_paths")
    right = max(x[p > 1e-3].max() for x, p in zip(data["x"], data["p"], strict=True))
    for t, x, p, mass in zip(data["times"], data["x"], data["p"], data["mass"], strict=True):
        ax.plot(x, t + scale * p, **role("forward"), label="_density")
        label(ax, f"mass ${mass:.4f}$", (right, t), (0.5, 0.3))
    there = data["p_wrong"] > 5e-3
    ax.plot(x[there], t + scale * data["p_wrong"][there], **role("alternative"))
    label(ax, f"turned ${data['wrong']:.4f}$", (right, t), (0.5, 1.5))
    ax.set(xlabel="state $z$", ylabel="time $t$", yticks=data["times"])
    left = min(x[p > 1e-3].min() for x, p in zip(data["x"], data["p"], strict=True))
    ax.set(xlim=(left, right + 0.55 * (right - left)))


def _draw_errors(ax: Axes, data: dict) -> None:
    rtol = data["rtol"]
    ax.loglog(rtol, rtol, **role("reference"))
    ax.loglog(rtol, data["error"], **points("forward"))
    ax.loglog(rtol, data["error_wrong"], **role("alternative") | {"marker": "s"})
    beside(ax, "right sign", rtol, data["error"], "forward")
    beside(ax, "sign turned", rtol, data["error_wrong"])
    ax.set(xlabel="tolerance rtol", ylabel="error of the mass $|\\int p - 1|$")
