"""What accuracy costs: evaluations of f over the tolerance, and where along the way the steps are taken."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode.finite_difference import slope

from . import _demo
from ._roles import role
from ._text import canvas, label, title

CLAIM = "Tolerance buys accuracy, the less dearly the higher the order"
CAPTION = (
    "Left: evaluations of f, not steps, in one forward solve over its relative tolerance (atol is a hundredth of it). "
    "A method whose error estimate is O(h^q) steps by h ~ tol^(1/q); fitted powers, q = 3, 5, 8: {powers[0]:.2f}, "
    "{powers[1]:.2f} and {powers[2]:.2f}. What is bought: the error at the end is {least:.2f} to {most:.1f} times the "
    "tolerance. Right: speed |f| along the solution, and below it the times at which the accepted steps of RK45 "
    "begin and end, for three tolerances, with the evaluations that they took. The net is a sine net 2-8-2 that reads "
    "t."
)
ALT = (
    "Left, on logarithmic axes evaluations rise as the tolerance shrinks, along three lines that are less steep the "
    "higher the order of the method. Right, below a curve of speed, three rows of ticks stand the closer the smaller "
    "the tolerance, and close together where the speed is high."
)
NOTE_IDS = ("D02", "P03", "P19")
COST_S = 1.5
SIZES = ("beamer169", "beamer43", "ppt169", "text")

# name -> tightest exponent, and how it is drawn
METHODS = {"RK23": (9, "muted", "^"), "RK45": (12, "forward", "o"), "DOP853": (12, "alternative", "s")}
FITTED = 5  # of the counts, at the tightest tolerances
RUGS = (1e-4, 1e-6, 1e-8)


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return tolerances, evaluations and errors of each method, the speed over time, and the steps at three of RUGS."""
    demo = _demo.plane(seed)
    exact = demo.trajectory(3e-14).z[-1]
    found: dict = {}
    for name, (tightest, *_) in METHODS.items():
        tol = 10.0 ** -np.arange(3, tightest + 1)
        solved = [demo.trajectory(each, method=name) for each in tol]
        found[f"tol_{name}"], found[f"nfev_{name}"] = tol, np.array([each.nfev for each in solved])
        found[f"error_{name}"] = np.array([np.linalg.norm(each.z[-1] - exact) for each in solved])
    ratios = np.concatenate([found[f"error_{name}"] / found[f"tol_{name}"] for name in METHODS])
    dense = demo.trajectory(keep="dense")
    t = np.linspace(*demo.times, 101 if fast else 301)
    for i, tol in enumerate(RUGS):
        rug = demo.trajectory(tol, method="RK45", keep="steps")
        found |= {f"steps_{i}": rug.step_times, f"taken_{i}": rug.nfev}
    return found | {
        "t": t,
        "speed": np.array([np.linalg.norm(demo.field(dense(at), at, demo.theta)) for at in t]),
        "powers": np.array(
            [slope(found[f"tol_{name}"][-FITTED:], found[f"nfev_{name}"][-FITTED:]) for name in METHODS]
        ),
        "least": ratios.min(),
        "most": ratios.max(),
    }


compute = data  # the argument of draw hides the name


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the evaluations beside the speed and the steps; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    axes = fig.subplot_mosaic([["nfev", "speed"], ["nfev", "steps"]], height_ratios=(1.2, 1))
    _draw_evaluations(axes["nfev"], data)
    axes["speed"].plot(data["t"], data["speed"], **role("forward"))
    axes["speed"].set(ylabel="speed $|f|$", ylim=(0, None), xticklabels=[])
    _draw_steps(axes["steps"], data)
    title(fig, CLAIM)
    return fig


def _draw_evaluations(ax: Axes, data: dict) -> None:
    for (name, (_, who, marker)), power in zip(METHODS.items(), data["powers"], strict=True):
        tol, nfev = data[f"tol_{name}"], data[f"nfev_{name}"]
        ax.loglog(tol, nfev, **role(who) | {"marker": marker})
        label(ax, f"{name}\n${power:.2f}$", (tol[-1], nfev[-1]), (0.6, -0.1 if name == "DOP853" else 0), who)
    ax.set_xlim(2e-3, 1e-16)  # room for the words
    ax.set_xticks([1e-3, 1e-6, 1e-9, 1e-12])
    ax.set(xlabel="tolerance", ylabel="evaluations of $f$")


def _draw_steps(ax: Axes, data: dict) -> None:
    for row in range(len(RUGS)):
        at = data[f"steps_{row}"]
        ax.plot(at, np.full(len(at), row), **role("forward") | {"linestyle": "none", "marker": "|"}, label="_steps")
        label(ax, f"{data[f'taken_{row}']} $f$", (data["t"][-1], row), (0.7, 0))
    ax.set_yticks(range(len(RUGS)), [f"$10^{{{np.log10(tol):.0f}}}$" for tol in RUGS])
    ax.set(xlabel="time $t$, steps of RK45", ylabel="tolerance", ylim=(len(RUGS) - 0.5, -0.5))
