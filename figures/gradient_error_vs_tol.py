"""How exact is a gradient? As exact as its solves: one tolerance sets the error of every way to it."""

import warnings

import numpy as np
from matplotlib.figure import FigureBase

from refode import ReconstructionWarning, adjoint
from refode.finite_difference import slope

from . import _demo
from ._roles import role
from ._text import canvas, label, title

CLAIM = "Adjoint error follows the tolerance, whatever the solver and the way"
CAPTION = (
    "Relative error of the gradient in (z0, theta), {parameters} numbers, over the relative tolerance of both solves "
    "(left; atol is a hundredth of it) and over what both took, evaluations of f, VJPs and JVPs together (right). "
    "Backsolve, the note's way, with three solvers; with RK45 also the adjoint along the forward solve's interpolant, "
    "backpropagation through its steps, and sensitivities solved forward, {parameters} JVPs with every f. Fitted "
    "slopes over the tolerance are from {lowest:.2f} to {highest:.2f}; dotted: error = tolerance. The reference is the "
    "adjoint by DOP853 at 1e-13. The net is a sine net 2-8-2 that reads t."
)
ALT = (
    "On logarithmic axes six curves of error over tolerance run within a narrow band along the diagonal. Over the "
    "number of evaluations the same errors fall side by side, but forward sensitivities lie far to the right."
)
NOTE_IDS = ("P03", "P19", "P23", "E21")
COST_S = 8.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")

# name -> way, solver, and how it is drawn
RUNS = {
    "backsolve, RK45": ("backsolve", "RK45", "adjoint", "o"),
    "backsolve, DOP853": ("backsolve", "DOP853", "adjoint", "s"),
    "backsolve, LSODA": ("backsolve", "LSODA", "adjoint", "^"),
    "interpolating": ("interpolating", "RK45", "alternative", "D"),
    "discrete": ("discrete", "RK45", "muted", "v"),
    "forward": ("forward", "RK45", "forward", "P"),
}


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the error and the cost of every run (6, count) over the tolerance, and the slopes (6,)."""
    demo = _demo.plane(seed)
    tol = 10.0 ** -np.arange(3, 10 if fast else 12, 2)
    exact = _gradient(demo, "backsolve", "DOP853", 1e-13)[0]
    found = [[_gradient(demo, way, solver, each) for each in tol] for way, solver, *_ in RUNS.values()]
    error = [[np.linalg.norm(got - exact) / np.linalg.norm(exact) for got, _ in run] for run in found]
    slopes = np.array([slope(tol, each) for each in error])
    return {
        "tol": tol,
        "error": np.array(error),
        "cost": np.array([[cost for _, cost in run] for run in found]),
        "slopes": slopes,
        "lowest": slopes.min(),
        "highest": slopes.max(),
        "exact": exact,
        "parameters": len(exact),
    }


compute = data  # the argument of draw hides the name


def _gradient(demo: _demo.Demo, way: str, solver: str, tol: float) -> tuple[np.ndarray, int]:
    """Return the gradient in (z0, θ), one after the other, and the evaluations of f, VJPs and JVPs that it took."""
    keep = {"discrete": "steps", "interpolating": "dense"}.get(way, "observations")
    trajectory = demo.trajectory(tol, method=solver, keep=keep)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReconstructionWarning)
        gradient = adjoint(trajectory, demo.cotangent(trajectory.z[-1]), method=way)
    cost = trajectory.nfev + gradient.nfev + gradient.nvjp
    if way == "forward":  # a JVP a direction with every f but those at the observation times
        cost += (gradient.nfev - len(trajectory.times)) * (demo.field.n + demo.field.m)
    return np.append(gradient.z0, gradient.theta), cost


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the errors over the tolerance and over the evaluations; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2, sharey=True)
    tol = data["tol"]
    left.loglog(tol, tol, **role("reference"))
    for (name, (_, _, who, marker)), error, cost in zip(RUNS.items(), data["error"], data["cost"], strict=True):
        left.loglog(tol, error, **role(who) | {"marker": marker}, label=name)
        right.loglog(cost, error, **role(who) | {"marker": marker}, label=name)
    left.invert_xaxis()
    left.set(xlabel="tolerance", ylabel="relative error")
    right.set_xlabel("evaluations of $f$, VJPs, JVPs")
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower left", ncols=3, handlelength=2.2)
    label(left, "error = tolerance", (tol[1], tol[1]), (0.5, 0.5))
    title(fig, CLAIM)
    return fig
