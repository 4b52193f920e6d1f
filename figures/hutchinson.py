"""Hutchinson's estimate of the trace: which probes, how many, and why the same ones all along a solve."""

from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import MLP, ContinuousFlow, SolveError, WithLogDensity, solve
from refode.divergence import PROBES, divergence, draw_probes
from refode.finite_difference import slope
from refode.types import Array

from ._roles import points, role
from ._text import canvas, label, title

CLAIM = "Rademacher's signs vary less, and the probe must be frozen"
CAPTION = (
    "Left: the estimate v J v of tr J = {trace:.2f} with {count} probes v of each kind; J is the Jacobian of a tanh "
    "net 6-16-6 at one point. Middle: standard deviation over the number K of probes a trace, and its closed form "
    "(dotted), with S the symmetric part of J: 2 |S|^2 / K for normal probes, less 2 sum S_ii^2 / K for signs. Right: "
    "evaluations of f that RK45 takes for (z, log p), over its tolerance. With one probe for the whole solve they "
    "grow with power {power_frozen:.2f}; with a probe drawn anew at each evaluation, which makes f no function, with "
    "power {power_redrawn:.2f}, and at {tightest:.0e} the solve is given up after {limit} at t = {reached:.2f} of 1. "
    "Over all 64 vectors of signs the mean of log p-hat is off by {bias_log:.0e}, that of p-hat is {factor:.2f} p."
)
ALT = (
    "Two histograms share a centre, that of normal probes has the longer tails; two parallel lines of standard "
    "deviation fall with the number of probes. Against the tolerance, evaluations hardly rise with a frozen probe, "
    "and rise nearly in inverse proportion with a redrawn one."
)
NOTE_IDS = ("D54", "P41", "P42", "E40")
COST_S = 3.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")

N = 6
SHARE = 0.55  # of |S|² that stands on the diagonal, at least: what signs don't pay for
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5)
LIMIT = 20_000  # evaluations after which a solve is given up
LOOKS = {"rademacher": ("forward", "signs"), "gaussian": ("alternative", "normal")}


class Redrawn(WithLogDensity):
    """(f, −τ̂) with a new probe at every evaluation: what E40 warns of. It is only solved."""

    def __init__(self, field: MLP, rng: np.random.Generator) -> None:
        super().__init__(field)
        self.rng = rng

    def __call__(self, z: Array, t: float, theta: Array) -> Array:
        self.probes = draw_probes("rademacher", self.rng, z[..., :-1].shape)
        return super().__call__(z, t, theta)


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the histograms of both kinds (2, bins), their deviations over K (2, count), and evaluations over tol."""
    rng = np.random.default_rng(seed)
    net = MLP([N, 16, N])
    theta, x, S = _diagonal_net(net, rng)
    count, means = (4_000, 1_000) if fast else (20_000, 4_000)
    single = [_estimates(net, x, theta, kind, rng, count, 1) for kind in PROBES]
    edges = np.linspace(*np.quantile(single[1], [0.002, 0.998]), 31)
    K = 2 ** np.arange(7)
    several = [[_estimates(net, x, theta, kind, rng, means, k) for k in K] for kind in PROBES]
    return {
        "trace": np.trace(S),
        "count": count,
        "edges": edges,
        "density": np.array([np.histogram(each, edges)[0] / count / np.diff(edges) for each in single]),
        "K": K,
        "deviation": np.std(several, axis=-1),
        "mean": np.mean(several, axis=-1),
        "kurtosis": _kurtosis(np.array(several)),
        "means": means,
        "closed_form": np.sqrt(2 * np.array([[np.sum(S**2) - np.sum(np.diag(S) ** 2)], [np.sum(S**2)]]) / K),
        **_evaluations(net, theta, x, rng),
        **_bias(net, theta, x),
    }


compute = data  # the argument of draw hides the name


def _diagonal_net(net: MLP, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return theta (m,), a point x (N,) and S (N, N) there, the first with SHARE of |S|² on the diagonal."""
    while True:
        theta, x = net.init(rng, 1.5), rng.standard_normal(N)
        J = net.jacobian(x, 0.5, theta)
        S = (J + J.T) / 2
        if np.sum(np.diag(S) ** 2) >= SHARE * np.sum(S**2):
            return theta, x, S


def _estimates(net: MLP, x: Array, theta: Array, kind: str, rng: np.random.Generator, count: int, K: int) -> Array:
    """Return `count` estimates of the trace at (x, 0.5), each the mean over K probes."""
    batch = np.broadcast_to(x, (count, N))
    return divergence(net, batch, 0.5, theta, draw_probes(kind, rng, batch.shape, K))


def _kurtosis(values: Array) -> Array:
    """Return E (x − E x)⁴ / (E (x − E x)²)² along the last axis."""
    centred = values - values.mean(axis=-1, keepdims=True)
    return np.mean(centred**4, axis=-1) / np.mean(centred**2, axis=-1) ** 2


def _evaluations(net: MLP, theta: Array, x: Array, rng: np.random.Generator) -> dict:
    """Return the evaluations (count,) of both solves over the tolerance, and how far the ones given up came."""
    start, probe = np.append(x, 0.0), draw_probes("rademacher", rng, (N,))
    frozen, redrawn, reached = [], [], []
    for tol in TOLERANCES:
        options = {"theta": theta, "times": [0.0, 1.0], "rtol": tol, "atol": tol, "max_nfev": LIMIT}
        frozen.append(solve(WithLogDensity(net, probe), start, **options).nfev)
        try:
            redrawn.append(solve(Redrawn(net, rng), start, **options).nfev)
            reached.append(1.0)
        except SolveError as stopped:
            redrawn.append(stopped.nfev)
            reached.append(stopped.t)
    done = np.array(reached) == 1.0
    return {
        "tol": np.array(TOLERANCES),
        "tightest": TOLERANCES[-1],
        "limit": LIMIT,
        "frozen": np.array(frozen),
        "redrawn": np.array(redrawn),
        "done": done.astype(int),
        "reached": reached[-1],
        "power_frozen": slope(TOLERANCES, frozen),
        "power_redrawn": slope(np.array(TOLERANCES)[done], np.array(redrawn)[done]),
    }


def _bias(net: MLP, theta: Array, x: Array) -> dict:
    """Return what the exact mean over all vectors of signs is off by: in log p, and as a factor in p."""
    signs = np.array(list(product((-1.0, 1.0), repeat=N)))
    flow = ContinuousFlow(net, theta, options={"rtol": 1e-10, "atol": 1e-12})
    gap = flow.logpdf(np.broadcast_to(x, signs.shape), signs[None]) - flow.logpdf(x)  # log p̂ − log p
    return {"bias_log": abs(gap.mean()), "factor": np.exp(gap).mean(), "gap": gap}


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the histograms, the deviations and the evaluations side by side; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, middle, right = fig.subplots(1, 3, width_ratios=(1.2, 1, 1))
    _draw_histograms(left, data)
    _draw_deviations(middle, data)
    _draw_evaluations(right, data)
    title(fig, CLAIM)
    return fig


def _draw_histograms(ax: Axes, data: dict) -> None:
    edges = np.repeat(data["edges"], 2)
    for (who, word), density, fraction in zip(LOOKS.values(), data["density"], (0.5, 0.1), strict=True):
        ax.plot(edges, np.concatenate([[0.0], np.repeat(density, 2), [0.0]]), **role(who))
        last = np.flatnonzero(density > fraction * density.max())[-1]  # from here to the right there is room
        label(ax, word, (data["edges"][last + 1], density[last]), (0.5, 0.2), who)
    ax.axvline(data["trace"], **role("reference"))
    ax.set(xlabel="estimate of the trace", ylabel="density", ylim=(0, 1.25 * data["density"].max()))
    label(ax, "trace", (data["trace"], 1.25 * data["density"].max()), (0.3, -0.2))


def _draw_deviations(ax: Axes, data: dict) -> None:
    for (who, _), marker, seen, exact in zip(LOOKS.values(), "os", data["deviation"], data["closed_form"], strict=True):
        ax.loglog(data["K"], exact, **role("reference"), label="_closed_form")
        ax.loglog(data["K"], seen, **points(who, marker))
    label(ax, "normal", (data["K"][3], data["closed_form"][1, 3]), (0.5, 0.5), "alternative")
    label(ax, "signs", (data["K"][3], data["closed_form"][0, 3]), (-0.5, -0.5), "forward")
    ax.set(xlabel="probes $K$", ylabel="standard deviation")
    ax.set_xticks([1, 8, 64], ["1", "8", "64"])
    ax.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    ax.minorticks_off()


def _draw_evaluations(ax: Axes, data: dict) -> None:
    tol, done = data["tol"], data["done"].astype(bool)
    ax.loglog(tol, data["frozen"], **role("forward") | {"marker": "o"})
    ax.loglog(tol, data["redrawn"], **role("adjoint"))
    ax.loglog(tol[done], data["redrawn"][done], **points("adjoint", "s"))
    ax.loglog(tol[~done], data["redrawn"][~done], **points("adjoint", "s", filled=False))
    label(ax, "frozen", (tol[2], data["frozen"][2]), (0, -0.5), "forward")
    label(ax, "redrawn", (tol[1], data["redrawn"][1]), (0.6, -0.5), "adjoint")
    ax.set(xlabel="tolerance", ylabel="evaluations of $f$", ylim=(5, 4 * LIMIT))
    ax.invert_xaxis()
