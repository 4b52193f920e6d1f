"""A planar layer with w·u < -1 folds the plane; the continuous flow of the same unit squeezes it, and one can undo it.

The layer is one Euler step of the flow, of length 1. So the two start from the same u, w, b on the left, and on the
right from the same number of them, iterations, batches and schedules: what is compared is a step with a flow.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import ContinuousFlow, solve
from refode.datasets import ENERGIES
from refode.flows import StandardNormal, reverse_kl
from refode.log_density import WithLogDensity
from refode.planar import ContinuousPlanar, PlanarFlow, planar_closed_form
from refode.training import Adam

from ._kept import kept
from ._roles import colour, points, role
from ._text import beside, canvas, label, title

CLAIM = "A layer can fold the plane, the flow of the same unit never does"
CAPTION = (
    "Left: a grid under z + u tanh(w.z) with w.u = {kappa:.0f}, and under the flow of dz/dt = u tanh(w.z) for t = 1, "
    "of which the layer is one Euler step. Dashed: determinant below 0 (least: {least_layer:.2f} for the layer, "
    "{least_flow:.3f} for the flow, which cannot be below e to the power w.u). Three points of the grid meet in one "
    "image; the flow keeps them apart. Right: KL(p, q) in nats to the energy U1 over the number of units, for a chain "
    "of layers (constrained to w.u > -1) and for one flow whose units act together, both with {per_unit} parameters a "
    "unit; {seeds} seeds, lines through the medians. Both: {iterations} iterations of Adam, {batch} fresh samples "
    "each, annealed over the first half, the score by {scored} samples. At {widest} units the medians are "
    "{end_layers:.3f} and {end_flow:.3f}; the flow looks at each unit {looks:.0f} times where the layer looks once. "
    "Above the dotted line a density may have lost one of the two modes."
)
ALT = (
    "Left, a grid that a layer has folded into three sheets, the middle one dashed, and beside it the same grid "
    "squeezed by the flow, all solid. Right, on logarithmic axes, two curves fall with the number of units, that of "
    "the flow below that of the layers until they come close at the end."
)
NOTE_IDS = ("P26", "P27", "P51", "E43", "E53")
COST_S = 100.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")
KEPT = "training"

U, W = np.array([-3.0, -1.0]), np.array([1.0, 0.0])  # w·u = -3, and a part of u across w that keeps the sheets apart
REACH = (4.0, 1.2)  # of the grid, along and across w
TARGET = ENERGIES["U1"]
RATE, CLIP, BATCH, SCORED = 0.02, 5.0, 256, 20_000
STEPS = (5, 8)  # of RK4 over the span: fewest and most, drawn anew in every iteration


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return both images of the grid's lines (lines, count, 2), and the KL of each width and seed (widths, seeds)."""
    widths, seeds, iterations = ((1, 4), 2, 150) if fast else ((1, 2, 4, 8, 16, 32), 3, 2000)
    runs = [[[trained(m, s, iterations) for s in range(seed, seed + seeds)] for m in _models(K)] for K in widths]
    kl, error = np.moveaxis([[[run[1:] for run in both] for both in width] for width in runs], -1, 0)
    ends = np.median(kl[-1], axis=1)
    shown = len(widths) // 2
    return _folded() | {
        "widths": np.array(widths),
        "kl_layers": kl[:, 0],
        "kl_flow": kl[:, 1],
        "error": error,
        "shown": widths[shown],
        "theta_layers": runs[shown][0][0][0],
        "theta_flow": runs[shown][1][0][0],
        "end_layers": ends[0],
        "end_flow": ends[1],
        "per_unit": 5,
        "seeds": seeds,
        "iterations": iterations,
        "batch": BATCH,
        "scored": SCORED,
        "widest": widths[-1],
        "looks": 4 * np.mean(STEPS),
    }


compute = partial(kept, "nf_vs_cnf")


# ---- one unit -----------------------------------------------------------------------------------------------------


def _folded() -> dict:
    """The grid's lines and three points, under the layer and under the flow, with the determinants of both."""
    grid = np.concatenate([_lines(0, 17), _lines(1, 7)])
    layer = PlanarFlow(2, 1, constrained=False)
    theta = np.concatenate([U, W, [0.0]])
    meeting = three_that_meet()
    images = {name: layer.forward(z, theta)[0] for name, z in (("layer", grid), ("layer_points", meeting))}
    flow, log_p = planar_closed_form(grid, 1.0, U, W, 0.0)
    det_layer, det_flow = 1 + (W @ U) / np.cosh(grid @ W) ** 2, np.exp(-log_p)
    return images | {
        "grid": grid,
        "points": meeting,
        "flow": flow,
        "flow_points": planar_closed_form(meeting, 1.0, U, W, 0.0)[0],
        "det_layer": det_layer,
        "det_flow": det_flow,
        "least_layer": det_layer.min(),
        "least_flow": det_flow.min(),
        "kappa": W @ U,
    }


def _lines(across: int, number: int) -> np.ndarray:
    """`number` lines (number, count, 2) at equal distances, on each of which coordinate `across` is constant."""
    z = np.empty((number, 161, 2))
    z[..., across] = np.linspace(-REACH[across], REACH[across], number)[:, None]
    z[..., 1 - across] = np.linspace(-REACH[1 - across], REACH[1 - across], 161)
    return z


def three_that_meet() -> np.ndarray:
    """Three points (3, 2) that the layer sends to 0: s = 3 tanh s has the roots 0 and ±s."""
    s = 3.0
    for _ in range(60):  # a contraction: its slope is 3/cosh² s = 0.03
        s = 3.0 * np.tanh(s)
    return np.array([-s, 0.0, s])[:, None] * W - np.tanh([-s, 0.0, s])[:, None] * (U - (U @ W) * W)


# ---- many units ---------------------------------------------------------------------------------------------------


class Tempered:
    """The density q to the power β, unnormalised."""

    def __init__(self, power: float) -> None:
        self.power = power

    def logpdf(self, z):
        return self.power * TARGET.logpdf(z)

    def score(self, z):
        return self.power * TARGET.score(z)


class Layers:
    """A chain of K layers: KL(p, q) and its gradient, the base samples held fixed."""

    def __init__(self, K: int) -> None:
        self.model = PlanarFlow(2, K)

    def log_ratio(self, theta, z0):
        z, log_det = self.model.forward(z0, theta)
        return StandardNormal(2).logpdf(z0) - log_det - TARGET.logpdf(z)

    def gradient(self, theta, z0, target, rng):
        z, _, pullback = self.model.linearize(z0, theta)
        return pullback(-target.score(z) / len(z0), np.full(len(z0), -1.0 / len(z0)))[1]


class Flow:
    """The flow of K units for t from 0 to 1: KL(p, q) and its gradient, the base samples held fixed."""

    def __init__(self, K: int) -> None:
        self.model = ContinuousPlanar(2, K)

    def log_ratio(self, theta, z0):
        start = np.concatenate([z0, np.zeros((len(z0), 1))], axis=1)
        end = solve(WithLogDensity(self.model), start, theta, [0.0, 1.0], rtol=1e-6, atol=1e-8).z[-1]
        return StandardNormal(2).logpdf(z0) + end[:, 2] - TARGET.logpdf(end[:, :2])

    def gradient(self, theta, z0, target, rng):
        step = 1.0 / rng.integers(STEPS[0], STEPS[1] + 1)
        flow = ContinuousFlow(self.model, theta, options={"method": "RK4", "step": step})
        return reverse_kl(flow, target, z0, method="discrete")[1]


def _models(K: int) -> Iterator[Layers | Flow]:
    yield Layers(K)
    yield Flow(K)


def trained(model: Layers | Flow, seed: int, iterations: int) -> tuple[np.ndarray, float, float]:
    """Return θ after Adam with a cosine schedule, KL(p, q) by fresh samples, and the standard error of that."""
    rng = np.random.default_rng(seed)
    theta = model.model.init(rng)
    adam = Adam.start(len(theta))
    for k in range(iterations):
        target = Tempered(min(1.0, 0.01 + 2 * k / iterations))
        g = model.gradient(theta, rng.normal(size=(BATCH, 2)), target, rng)
        rate = 1e-4 + RATE * 0.5 * (1 + np.cos(np.pi * k / iterations))
        adam, move = adam.step(g * min(1.0, CLIP / np.linalg.norm(g)), rate)
        theta = theta + move
    ratio = model.log_ratio(theta, rng.normal(size=(SCORED, 2)))
    return theta, ratio.mean(), ratio.std() / np.sqrt(SCORED)


# ---- the picture --------------------------------------------------------------------------------------------------


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw both images of the grid beside KL over the number of units; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    layer, flow, right = fig.subplots(1, 3, width_ratios=(1.15, 1.15, 2.1))
    for ax, name in ((layer, "layer"), (flow, "flow")):
        _draw_image(ax, data[name], data[f"det_{name}"] < 0, data[f"{name}_points"])
    layer.set_xlabel("one layer:\ndet $< 0$ dashed", color=colour("adjoint"))
    flow.set_xlabel(f"the flow\ndet $\\geq {data['least_flow']:.2f}$", color=colour("forward"))
    _draw_kl(right, data)
    title(fig, CLAIM)
    return fig


def _draw_image(ax: Axes, lines: np.ndarray, folded: np.ndarray, images: np.ndarray) -> None:
    for who, there in (("forward", ~folded), ("adjoint", folded)):
        shown = np.where(there[..., None], lines, np.nan)
        for line in shown:
            ax.plot(*line.T, **role(who), linewidth=0.7, label=who)
    ax.plot(*images.T, **points("data"))
    ax.set(aspect="equal", xticks=[], yticks=[], xlim=(-1.7, 1.7), ylim=(-2.5, 2.5))
    ax.spines[:].set_visible(False)


def _draw_kl(ax: Axes, data: dict) -> None:
    widths = data["widths"]
    for name, word, who, marker in (("layers", "layers", "alternative", "s"), ("flow", "flow", "forward", "o")):
        kl = data[f"kl_{name}"]
        ax.loglog(widths, np.median(kl, axis=1), **role(who))
        ax.loglog(np.repeat(widths, kl.shape[1]), kl.ravel(), **points(who, marker, filled=marker == "o"))
        beside(ax, word, widths, np.median(kl, axis=1), who, near=0.5)
    ax.loglog(widths, np.full(len(widths), np.log(2)), **role("reference"))
    label(ax, "log 2: one mode", (widths[-1], np.log(2)), (0.0, 0.3), ha="right")
    ax.set_xticks(widths, [f"${K}$" for K in widths])
    ax.minorticks_off()
    ax.set(xlabel="layers $K$, or width $M$", ylabel=r"$\mathrm{KL}(p, q)$ in nats")
