"""Are the error bars of gradients right? Estimates over true errors, on random nets."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from ._calibration import LOST, METHODS, study, verdict
from ._kept import kept
from ._roles import points, role
from ._text import canvas, label, title

CLAIM = "Most gradients know their own error within a factor of ten"
CAPTION = (
    "Left: true relative errors of {gradients} gradients, of {problems} random tanh nets by five ways, in z0 (circles) "
    "and theta (squares), over their estimates for next to nothing; dotted: as estimated, and ten times more or less. "
    "Right: true error over estimate, median and middle 90 per cent, z0 and theta together: for next to nothing "
    "(dashed, circles) and with a second witness (solid, squares). At most ten times the estimate in {covered:.1f} to "
    "{covered_most:.1f} per cent of a way's problems, within a factor of ten of it in {shared:.0f} to "
    "{shared_most:.0f}. Tolerances from 1e-9 to 1e-3; the truth is DOP853 at 1e-13; {lost} errors above 0.1 left out."
)
ALT = (
    "A cloud of points follows the diagonal of a logarithmic plane over eight decades, within two lines a factor of "
    "ten off. Beside it five pairs of horizontal bars around one, most of them between a tenth and ten."
)
NOTE_IDS = ("P03", "P19", "P23", "E20", "E21")
COST_S = 240.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")
KEPT = "measurement"

KINDS = {"free": ("adjoint", "o", 0.16), "witness": ("forward", "s", -0.16)}  # who, marker, and how far off the row
FIRST_SEED, COUNT = 2, 1000  # of the problems; on those of seeds 0 and 1 the factors of the estimates were found
SHOWN = 80  # of the problems, at the left


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return the study (problems, M, 2) in single precision, and the least and most of a way's shares in per cent."""
    found = study(FIRST_SEED + seed, 40 if fast else COUNT)
    judged = [
        verdict(found["true"][:, m, i], found[kind][:, m, i], found["rtol"])
        for kind in KINDS for m in range(len(METHODS)) for i in range(2)
    ]  # fmt: skip
    covers, shares = ([100 * getattr(each, key) for each in judged] for key in ("cover", "share"))
    counts = {"problems": len(found["rtol"]), "gradients": found["true"][:, :, 0].size}
    single = {key: value.astype(np.float32) for key, value in found.items() if value.dtype == float}
    return (
        found
        | single
        | counts
        | {
            "lost": np.count_nonzero(~(found["true"] <= LOST)),
            "covered": min(covers),
            "covered_most": max(covers),
            "shared": min(shares),
            "shared_most": max(shares),
        }
    )


compute = partial(kept, "error_calibration")


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw true errors over estimates, and their ratio by method; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2)
    _cloud(left, data)
    _ratios(right, data)
    title(fig, CLAIM)
    return fig


def _cloud(ax: Axes, data: dict) -> None:
    ends = np.array([1e-11, 1e-1])
    for factor in (0.1, 1, 10):
        ax.loglog(
            ends,
            factor * ends,
            **role("reference") | {"linewidth": 1.6 if factor == 1 else 0.8, "zorder": 3, "label": "_factors"},
        )
    for block, marker in ((0, "o"), (1, "s")):
        seen = data["free"][:SHOWN, :, block].ravel(), data["true"][:SHOWN, :, block].ravel()
        ax.loglog(*seen, **points("adjoint", marker, filled=block == 1) | {"markersize": 2, "label": "_cloud"})
    ax.set(xlabel="estimated relative error", ylabel="true relative error", xlim=ends, ylim=ends)


def _ratios(ax: Axes, data: dict) -> None:
    for kind, (who, marker, off) in KINDS.items():
        for m in range(len(METHODS)):
            ratio = data["true"][:, m] / data[kind][:, m]
            low, middle, high = np.quantile(ratio[data["true"][:, m] <= LOST], (0.05, 0.5, 0.95))
            row = len(METHODS) - m + off
            ax.semilogx([low, high], [row, row], **role(who) | {"label": "_bar"})
            ax.semilogx([middle], [row], **points(who, marker) | {"label": "_median"})
    for factor in (0.1, 1, 10):
        ax.axvline(
            factor, **role("reference") | {"linewidth": 1.6 if factor == 1 else 0.8, "zorder": 0, "label": "_factors"}
        )
    ax.set_yticks(range(len(METHODS), 0, -1), METHODS)
    ax.set(xlabel="true error / estimate", xlim=(2e-3, 200), ylim=(0.4, len(METHODS) + 1.1))
    label(ax, "for nothing", (12, len(METHODS) + KINDS["free"][2]), (0.4, 0.4), "adjoint")
    label(ax, "with a witness", (12, len(METHODS) + KINDS["witness"][2]), (0.4, -0.4), "forward")
