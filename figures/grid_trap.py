"""The trap of a fixed grid: an optimiser that always sees the same few steps learns to exploit their error."""

from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import NullFormatter

from refode import MLP, ContinuousFlow
from refode.datasets import two_circles, two_circles_logpdf
from refode.training import Progress, Recipe, fit, start

from ._kept import kept
from ._roles import role
from ._text import beside, canvas, title

CLAIM = "On the grid that trained it, a flow can beat the truth"
CAPTION = (
    "Above: mean log-likelihood of {held_out} held-out points of two circles while a flow, a tanh net "
    "2-{width}-{width}-2, is fitted to {points} others. Trained on one grid of {steps} RK4 steps, without clipping, at "
    "rate {rate:g}, it scores {ends[0]:.2f} on that grid, above the true density's {truth:.2f}, and {ends[1]:.2f} when "
    "the same flow is solved adaptively. Trained on {fewest} to {most} steps, drawn anew in every iteration, with "
    "gradients clipped, at rate {lower:g}, it ends at {ends[2]:.2f}, solved adaptively. Below: evaluations of the "
    "field in an adaptive solve (RK45, rtol 1e-6) of the same points, at the end {nfev_ends[0]:.0f} and "
    "{nfev_ends[1]:.0f}."
)
ALT = (
    "Above, a curve leaps over the dotted level of the true density, while the same flow, solved adaptively, falls far "
    "below it, and a third curve settles just under it. Below, the evaluations of an adaptive solve of the first flow "
    "grow at the leap, those of the other do not."
)
NOTE_IDS = ("P26", "P45")
COST_S = 120.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")
KEPT = "training"

TRAPPED = 1  # the first seed whose full fit collapses
MANY = (8, 16)  # steps of the other fit


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the scores (3, count) and the evaluations (2, count) of two fits at `iteration` (count,).

    The scores are those of a flow trained on one grid, on that grid and adaptively, and of one trained on many grids,
    adaptively. `lead`, with its standard error, is that of the first over the true density at the end. The fast
    version falls into the trap at once: its grid is one step.
    """
    points, held_out, width, last, steps = (200, 300, 16, 300, 1) if fast else (1000, 1000, 32, 2000, 8)
    rng = np.random.default_rng([TRAPPED + seed, 0])
    known, unseen = two_circles(points, rng), two_circles(held_out, rng)
    net = MLP([2, width, width, 2])
    theta = start(net, np.random.default_rng([TRAPPED + seed, 1]))
    flow = ContinuousFlow(net, theta, options={"rtol": 1e-6, "atol": 1e-8})
    rate = (3e-2, 3e-4) if fast else (2e-2, 2e-4)
    one = Recipe(last, 128, rate, clip=np.inf, noise=0.08, steps=(steps, steps), seed=TRAPPED + seed)
    iteration = np.linspace(0, last, 11 if fast else 26).round().astype(int)
    trapped = _path(flow, known, one, iteration)
    many = replace(one, rate=(1e-2, 1e-4), clip=1.0, steps=MANY)
    sound = _path(flow, known, many, iteration)
    on_grid = [replace(each, options={"method": "RK4", "step": 1 / steps}).logpdf(unseen) for each in trapped]
    solved = np.array([[_adaptive(each, unseen) for each in flows] for flows in (trapped, sound)])
    score, nfev = np.array([np.mean(on_grid, axis=1), *solved[..., 0]]), solved[..., 1]
    true = two_circles_logpdf(unseen)
    return {
        "iteration": iteration,
        "score": score,
        "nfev": nfev,
        "truth": true.mean(),
        "lead": np.mean(on_grid[-1] - true),
        "lead_error": np.std(on_grid[-1] - true) / np.sqrt(held_out),
        "ends": score[:, -1],
        "nfev_ends": nfev[:, -1],
        **{"held_out": held_out, "points": points, "width": width, "steps": steps},
        **{"rate": rate[0], "lower": many.rate[0], "fewest": MANY[0], "most": MANY[1]},
    }


def _path(flow: ContinuousFlow, known: np.ndarray, recipe: Recipe, iteration: np.ndarray) -> list[ContinuousFlow]:
    """Return the flow after so many iterations of a fit, for each of `iteration`."""
    thetas = {0: flow.theta}

    def keep(progress: Progress) -> None:
        thetas[progress.k] = progress.theta

    fit(flow, known, recipe, callback=keep, show=False)
    return [flow.with_theta(thetas[k]) for k in iteration]


def _adaptive(flow: ContinuousFlow, unseen: np.ndarray) -> tuple[float, int]:
    """Return the mean log-likelihood by the flow's own, adaptive solve, and its evaluations of the field."""
    return flow.logpdf(unseen).mean(), flow.backward(unseen).nfev


compute = partial(kept, "grid_trap")


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the scores over the iterations, and below them the evaluations; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw_scores(top, data)
    _draw_evaluations(bottom, data)
    title(fig, CLAIM)
    return fig


def _draw_scores(ax: Axes, data: dict) -> None:
    k, (on_grid, adaptive, sound), truth = data["iteration"], data["score"], data["truth"]
    ax.axhline(truth, **role("reference"))
    ax.plot(k, on_grid, **role("alternative"))
    ax.plot(k, adaptive, **role("adjoint"))
    ax.plot(k, sound, **role("forward"))
    beside(ax, "on its own grid", k, on_grid, near=0.92)
    beside(ax, "the same, solved", k, adaptive, "adjoint", near=0.88)
    beside(ax, "many grids, solved", k, sound, "forward", near=0.9)
    beside(ax, "true density", k, np.full(len(k), truth), near=0.1)
    ax.set(ylabel="log-likelihood")


def _draw_evaluations(ax: Axes, data: dict) -> None:
    for name, nfev in zip(("adjoint", "forward"), data["nfev"], strict=True):
        ax.plot(data["iteration"], nfev, **role(name))
    ax.set(xlabel="iteration", ylabel="evaluations", yscale="log")
    ax.yaxis.set_minor_formatter(NullFormatter())
