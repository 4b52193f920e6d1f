"""Why there is a minus sign in Theorem 1: the pairing of a(t) with a perturbation is the same at every time."""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from scipy.integrate import solve_ivp

from refode.finite_difference import COMPLEX_STEP, complex_solve

from . import _demo
from ._roles import colour, points, role
from ._sweep import sweep
from ._text import beside, canvas, title

CLAIM = "Adjoint times perturbation is conserved: that is the minus sign"
CAPTION = (
    "Left: a path with a perturbation dz (solid arrows) that it carries forward and the adjoint a (dashed arrows) that "
    "it carries backward, each drawn to its own scale. Right: neither keeps its length, but a.dz does not move: its "
    "spread over time is {spread:.0e} of {product[0]:.4f}. With a plus sign in da/dt = -a grad f (dash-dotted) it "
    "would run from {plus_start:.3f} to {plus_end:.3f}. The net is a sine net 2-8-2 that reads t."
)
ALT = (
    "Along a curved path two arrows at each of five points turn and change length. Beside it three panels over time: "
    "the two lengths vary, their product is a flat line, and the variant with a plus sign is a curve."
)
NOTE_IDS = ("D13", "D14", "D17", "D27")
COST_S = 0.9
SIZES = ("beamer169", "beamer43", "ppt169", "text")

ARROWS = 5


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return perturbation and adjoint over time (count, n), their product, and what a plus sign would make of it.

    The perturbation comes from complex steps through the solve, so the two know nothing of each other.
    """
    demo = _demo.plane(seed)
    path = sweep(demo.trajectory(1e-12), demo.cotangent(demo.trajectory(1e-12).z[-1]), 41 if fast else 161, 1e-12)
    t, z, a = (path[key][0] for key in ("t", "z", "a_z"))
    turned = np.exp(1j) * complex(*a[0])  # one radian away from the adjoint
    start = demo.z0 + 1j * COMPLEX_STEP * np.array([turned.real, turned.imag]) / abs(turned)
    dz = complex_solve(demo.field, start, demo.theta, t).imag / COMPLEX_STEP  # z(t; z0 + i h v) = z + i h δz(t)
    product = np.sum(a * dz, axis=1)
    plus = np.sum(_with_plus(demo, t, z, a[-1]) * dz, axis=1)
    return {
        "t": t,
        "z": z,
        "dz": dz,
        "a": a,
        "product": product,
        "product_plus": plus,
        "plus_start": plus[0],
        "plus_end": plus[-1],
        "spread": np.ptp(product) / abs(product[0]),
    }


compute = data  # the argument of draw hides the name


def _with_plus(demo: _demo.Demo, t: np.ndarray, z: np.ndarray, a1: np.ndarray) -> np.ndarray:
    """Return a (count, n) of the wrong equation da/dt = +a grad f, with the state it belongs to."""

    def rhs(s: float, q: np.ndarray) -> np.ndarray:
        f, pullback = demo.field.linearize(q[:2], s, demo.theta)
        return np.concatenate([f, pullback(q[2:])[0]])

    return solve_ivp(rhs, (t[-1], t[0]), [*z[-1], *a1], "DOP853", t[::-1], rtol=1e-10, atol=1e-12).y[2:, ::-1].T


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the arrows on the path beside the three panels over time; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    rows = [["path", "dz"], ["path", "a"], ["path", "product"]]
    axes = fig.subplot_mosaic(rows, height_ratios=(1, 1, 1.8))
    for upper in ("dz", "a"):
        axes[upper].sharex(axes["product"])
        axes[upper].tick_params(labelbottom=False)
    _draw_path(axes["path"], data)
    for name, who in (("dz", "forward"), ("a", "adjoint")):
        axes[name].plot(data["t"], np.linalg.norm(data[name], axis=1), **role(who))
        axes[name].set_ylim(bottom=0)
    axes["dz"].set_ylabel(r"$|\delta z|$")
    axes["a"].set_ylabel("$|a|$")
    _draw_products(axes["product"], data)
    title(fig, CLAIM)
    return fig


def _draw_path(ax: Axes, data: dict) -> None:
    at = np.linspace(0, len(data["t"]) - 1, ARROWS).astype(int)
    ax.plot(*data["z"].T, **role("muted"))
    ax.plot(*data["z"][at].T, **points("muted"))
    for name, who, text in (("dz", "forward", r"$\delta z$"), ("a", "adjoint", "$a$")):
        longest = np.linalg.norm(data[name][at], axis=1).max()
        arrows = data[name][at] * 0.33 * np.ptp(data["z"], axis=0).max() / longest
        _draw_arrows(ax, data["z"][at], arrows, who)
        beside(ax, text, *(data["z"][at] + arrows).T, who, near=1.0)
    ax.set(xlabel="state $z_1$", ylabel="state $z_2$", aspect="equal")
    ax.set_adjustable("datalim")


def _draw_arrows(ax: Axes, starts: np.ndarray, arrows: np.ndarray, who: str) -> None:
    look = {"arrowstyle": "->", "color": colour(who), "shrinkA": 0, "shrinkB": 0}
    look |= {"linestyle": role(who)["linestyle"], "linewidth": 0.8 * rcParams["lines.linewidth"]}
    for start, arrow in zip(starts, arrows, strict=True):
        ax.annotate("", start + arrow, start, arrowprops=look)
    ax.update_datalim(starts + arrows)


def _draw_products(ax: Axes, data: dict) -> None:
    t, kept, plus = data["t"], data["product"], data["product_plus"]
    ax.plot(t, kept, **role("forward") | {"color": colour("reference")})
    ax.plot(t, plus, **role("alternative"))
    beside(ax, "with $+$", t, plus)
    beside(ax, "with $-$", t, kept)
    ax.set(xlabel="time $t$", ylabel=r"$a\cdot\delta z$")
