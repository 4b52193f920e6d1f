"""What a running cost does to a flow: calmer paths, which a solver walks in fewer steps."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import MLP, ContinuousFlow
from refode.datasets import two_moons, two_moons_logpdf
from refode.running_cost import FrobeniusNorm, KineticEnergy, RunningCost, WeightedSum
from refode.training import Recipe, fit, start

from ._kept import kept
from ._roles import role
from ._text import beside, canvas, title

CLAIM = "Calm paths are cheaper to solve, and are paid for in likelihood"
CAPTION = (
    "One flow (a tanh net 2-{width}-2, {points} points of two moons, {iterations} iterations of Adam) trained with a "
    "running cost of growing weight w: its kinetic energy, or the squared Frobenius norm of its Jacobian. Left: "
    "evaluations of the field in an adaptive solve (RK45, rtol 1e-6) of {held_out} held-out points: {plain[0]:.0f} "
    "without a cost, {heaviest[0]:.0f} and {heaviest[1]:.0f} at the largest weights. Right: the mean log-likelihood of "
    "these points, solved adaptively, {plain[1]:.3f} without a cost; the true density has {truth:.3f}."
)
ALT = (
    "Left, two curves of evaluations fall as the weight of a running cost grows. Right, the log-likelihood sinks with "
    "it, slowly for the kinetic energy and fast for the Frobenius norm."
)
NOTE_IDS = ("P45", "D58")
COST_S = 200.0
SIZES = ("beamer169", "ppt169", "text")
KEPT = "training"

COSTS = {"kinetic energy": ("forward", KineticEnergy), "Frobenius norm": ("adjoint", FrobeniusNorm)}


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return evaluations, log-likelihood and running cost (cost, weight) of flows after training with `weight` of it.

    The cost of a flow is the mean over held-out points of the unweighted integral along their paths. The first weight
    is 0.
    """
    points, held_out, width, iterations = (100, 100, 8, 120) if fast else (1000, 2000, 32, 1200)
    weight = np.array([0.0, 0.1, 1.0] if fast else [0.0, 0.01, 0.03, 0.1, 0.3])
    rng = np.random.default_rng(seed)
    known, unseen = two_moons(points, rng), two_moons(held_out, rng)
    net = MLP([2, width, 2])
    begun = ContinuousFlow(net, start(net, rng), options={"rtol": 1e-6, "atol": 1e-8})
    trained = partial(fit, begun, known, Recipe(iterations=iterations, batch=128, seed=seed), show=False)
    plain = trained()
    found = []
    for _, cost in COSTS.values():
        flows = [plain, *(trained(running_cost=WeightedSum((w, cost(net)))) for w in weight[1:])]
        found.append([_measured(flow, unseen, cost(net)) for flow in flows])
    nfev, score, cost = np.moveaxis(found, -1, 0)
    return {
        "weight": weight,
        "nfev": nfev,
        "score": score,
        "cost": cost,
        "truth": two_moons_logpdf(unseen).mean(),
        "plain": np.array([nfev[0, 0], score[0, 0]]),
        "heaviest": nfev[:, -1],
        **{"held_out": held_out, "points": points, "width": width, "iterations": iterations},
    }


def _measured(flow: ContinuousFlow, unseen: np.ndarray, cost: RunningCost) -> tuple[float, float, float]:
    """Return the evaluations of one adaptive solve, the mean log-likelihood, and the mean running cost of a path."""
    back = flow.backward(unseen, running_cost=cost)
    return flow.backward(unseen).nfev, flow.logpdf(unseen).mean(), -back.z[-1, :, -1].mean()  # C(t0) = −∫ c dt


compute = partial(kept, "regularised_nfev")


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the evaluations and the log-likelihood over the weight; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2)
    _draw(left, data, "nfev", "evaluations of $f$")
    _draw(right, data, "score", "log-likelihood")
    title(fig, CLAIM)
    return fig


def _draw(ax: Axes, data: dict, what: str, name: str) -> None:
    place = np.arange(len(data["weight"]))  # 0, and then by the ratio
    dense = np.linspace(0, place[-1], 8 * place[-1] + 1)
    for (cost, (who, _)), values in zip(COSTS.items(), data[what], strict=True):
        ax.plot(place, values, **role(who) | {"marker": "o"})
        beside(ax, cost, dense, np.interp(dense, place, values), who, near=0.7)
    ax.set_xticks(place, [f"{w:g}" for w in data["weight"]])
    ax.set(xlabel="weight $w$ of the cost", ylabel=name)
