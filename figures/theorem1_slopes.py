"""The proof of Theorem 1, line by line, by numbers: exact lines hold to rounding, the others have their order in ε.

Everything is a complex step through the solve, in one random direction w of (z, t, θ) at once; the adjoint equation,
which is what the proof is about, is not used.
"""

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode.finite_difference import COMPLEX_STEP, complex_solve, slope

from . import _demo
from ._roles import role
from ._text import beside, canvas, title

CLAIM = "Every line of the proof has its order"
CAPTION = (
    "Residuals of the lines of the proof of Theorem 1 in a random direction of (z, t, theta), over the step eps. Left: "
    "the step a(t) = a(t+eps) + eps a(t+eps) M + O(eps^2), the one-sided and the central quotient, and the quotient "
    "with the plus sign that is printed in our copy of the note, which diverges. The dotted line is rounding, "
    "{rounding:.0e} over eps. Right: the slopes that were fitted for eps from {low:g} to {high:g}; for exact lines the "
    "largest residual over all eps. The net is a sine net 2-8-2 that reads t."
)
ALT = (
    "Left, on logarithmic axes, three residuals fall with the step along lines of slope one and two until rounding "
    "stops them, and a fourth one rises. Right, a table of the lines of the proof with the order each must have and "
    "the order that was measured."
)
NOTE_IDS = ("D16", "D17", "D18", "D19", "D20", "D21", "D22", "D23", "D24", "D25", "D26", "D27", "E07", "E10", "E11")
COST_S = 2.5
SIZES = ("beamer169", "ppt169", "text")

FITTED = (1e-3, 3e-2)  # steps between rounding and the next term of the series
EXACT = ("constant", "chain")  # lines without a remainder
ORDERS = {"flow": 2, "jacobian": 2, "step": 2, "quotient": 1, "central": 2, "printed": -1}
LADDER = (  # ids, what is said, its key
    ("D17-18", r"$\mathcal{L}=\mathcal{L}\circ s_\varepsilon$", "constant"),
    ("D19-21", r"$a(t)=a(t+\varepsilon)\,\nabla s_\varepsilon$", "chain"),
    ("D22-23", r"$s_\varepsilon=r+\varepsilon\,(f,1,0)$", "flow"),
    ("D24", r"$\nabla s_\varepsilon=I+\varepsilon M$", "jacobian"),
    ("D25", r"$a(t)=a(t+\varepsilon)(I+\varepsilon M)$", "step"),
    ("D26", "one-sided quotient", "quotient"),
    ("D27", "central quotient", "central"),
    ("D16", "quotient as printed", "printed"),
)


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the residual of each line over eps, the fitted slopes, and the size of rounding."""
    eps, proof = np.geomspace(1e-7, 0.1, 7 if fast else 13), _Proof(seed)
    lines = np.array([_residuals(proof, e) for e in eps])
    residual = dict(zip((*EXACT, *ORDERS), lines.T, strict=True))
    fit = (eps >= FITTED[0]) & (eps <= FITTED[1])
    return {
        "eps": eps,
        **residual,
        **{f"slope_{name}": slope(eps[fit], residual[name][fit]) for name in ORDERS},
        "rounding": np.finfo(float).eps * abs(proof.a),
        "low": FITTED[0],
        "high": FITTED[1],
    }


compute = data  # the argument of draw hides the name


class _Proof:
    """The point r = (z, t, θ) of a path at which the lines are tried, and the direction w."""

    def __init__(self, seed: int) -> None:
        self.demo = _demo.plane(seed)
        self.t1 = self.demo.times[1]
        t = 0.4 * self.t1
        z = complex_solve(self.demo.field, self.demo.z0, self.demo.theta, [self.demo.times[0], t])[-1]
        self.r = (z, t, self.demo.theta)
        rng = np.random.default_rng(seed)
        self.w = tuple(_unit(rng.standard_normal(size)) for size in (len(z), 1, len(self.demo.theta)))
        z, t, theta = _stepped(self.r, self.w)
        f_w = self.demo.field(z, t, theta).imag / COMPLEX_STEP
        self.Mw = (f_w, np.zeros(1), np.zeros(len(theta)))  # M w = (∇f·w, 0, 0)
        self.L, self.f = self.loss_to_go(*self.r), self.demo.field(*self.r)
        self.a, self.aMw = self.adjoint(self.r, self.w), self.adjoint(self.r, self.Mw)

    def loss_to_go(self, z, t, theta):
        """Return ℒ(z, t, θ) = L(s_→t1(z, t, θ))."""
        return self.demo.loss(complex_solve(self.demo.field, z, theta, [t, self.t1])[-1])

    def move(self, eps, z, t, theta):
        """Return s_ε(z, t, θ)."""
        return complex_solve(self.demo.field, z, theta, [t, t + eps])[-1], t + eps, theta

    def adjoint(self, r, direction) -> float:
        """Return ∇ℒ(r) w, the adjoint at r in a direction, by complex step."""
        return self.loss_to_go(*_stepped(r, direction)).imag / COMPLEX_STEP

    def pushed(self, eps) -> tuple:
        """Return ∇s_ε(r) w, in the three blocks."""
        return tuple(np.imag(block) / COMPLEX_STEP for block in self.move(eps, *_stepped(self.r, self.w)))


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _stepped(r: tuple, direction: tuple) -> tuple:
    """Return r + i h w; the time stays a scalar."""
    z, t, theta = (block + 1j * COMPLEX_STEP * step for block, step in zip(r, direction, strict=True))
    return z, t.item(), theta


def _residuals(proof: _Proof, eps: float) -> tuple[float, ...]:
    """Return what is left of each line at one eps, in the order of EXACT and ORDERS."""
    w, Mw, a, aMw = proof.w, proof.Mw, proof.a, proof.aMw
    later, earlier, pushed = proof.move(eps, *proof.r), proof.move(-eps, *proof.r), proof.pushed(eps)
    a_later, a_later_Mw, a_earlier = proof.adjoint(later, w), proof.adjoint(later, Mw), proof.adjoint(earlier, w)
    return (
        max(abs(proof.loss_to_go(*moved) - proof.L) for moved in (later, earlier)),  # ℒ = ℒ∘s_ε
        abs(a - proof.adjoint(later, pushed)),  # a(t) = a(t+ε) ∇s_ε
        np.linalg.norm(later[0] - proof.r[0] - eps * proof.f),  # s_ε = r + ε (f, 1, 0)
        np.linalg.norm(pushed[0] - w[0] - eps * Mw[0]),  # ∇s_ε = I + ε M
        abs(a - a_later - eps * a_later_Mw),  # a(t) = a(t+ε) + ε a(t+ε) M
        abs((a_later - a) / eps + a_later_Mw),  # (a(t+ε) − a(t)) / ε = −a(t+ε) M
        abs((a_later - a_earlier) / (2 * eps) + aMw),  # ȧ = −a M
        abs((a_later + a) / eps + aMw),  # (a(t+ε) + a(t)) / ε, as printed (E07)
    )


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw four of the residuals beside the ladder of all lines; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.12))
    _draw_residuals(left, data)
    _draw_ladder(right, data)
    title(fig, CLAIM)
    return fig


def _draw_residuals(ax: Axes, data: dict) -> None:
    eps, floor = data["eps"], data["rounding"] / data["eps"]
    for name, who in (("printed", "muted"), ("quotient", "adjoint"), ("step", "forward"), ("central", "alternative")):
        ax.loglog(eps, data[name], **role(who))
    ax.loglog(eps, floor, **role("reference"))
    beside(ax, "D16 as printed", eps, data["printed"], "muted")
    beside(ax, "D26", eps, data["quotient"], "adjoint")
    beside(ax, "D25", eps, data["step"], "forward")
    beside(ax, "D27", eps, data["central"])
    beside(ax, "rounding", eps, floor)
    ax.set(xlabel=r"step $\varepsilon$", ylabel="residual")


def _draw_ladder(ax: Axes, data: dict) -> None:
    ax.set_axis_off()
    rows = [("", "line of the proof", "order", "measured")]
    for ids, text, key in LADDER:
        if key in EXACT:
            rows.append((ids, text, "exact", f"{data[key].max():.0e}"))
        else:
            rows.append((ids, text, f"${ORDERS[key]}$", f"${data[f'slope_{key}']:.2f}$"))
    for row, y in zip(rows, np.linspace(1.0, 0.0, len(rows)), strict=True):
        for text, x, ha in zip(row, (0.0, 0.19, 0.79, 1.03), ("left", "left", "right", "right"), strict=True):
            ax.text(x, y, text, transform=ax.transAxes, ha=ha, va="center", fontsize=rcParams["legend.fontsize"])
