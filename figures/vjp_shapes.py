"""What a vector-Jacobian product is made of: the shapes on the way, and what it costs beside the Jacobian itself."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Rectangle

from ._roles import colour
from ._text import canvas, label, title

CLAIM = "One row times a Jacobian, never the Jacobian"
CAPTION = (
    "Left: products through a net {n[0]}-{hidden}-{n[0]} whose layers have the Jacobians J_1 and J_2, drawn to scale. "
    "A VJP multiplies a row from the left and holds one row at a time (filled); the Jacobian is {n[0]} such rows, "
    "whatever is multiplied with it afterwards. Neither layer's Jacobian (empty) is formed: J_l = diag(slope) W_l'. "
    "Right: multiplications in the matrix products of a net n-2n-n, one sample, in units of those of f; the VJP with "
    "its three blocks (z, t, theta) and the JVP with three directions take {vjp_ratio:.0f} for any n, the Jacobian by "
    "z alone n + 1, for n = {n[0]}, {n[1]} and {n[2]}."
)
ALT = (
    "Left, a thin row passes through two matrices and stays a row; below it the matrices multiply to a square. Right, "
    "the bars of f, VJP and JVP are short, and that of the Jacobian grows with the dimension until it dwarfs them."
)
NOTE_IDS = ("D35", "P22", "P24", "E15", "E16", "E18")
COST_S = 0.1
SIZES = ("beamer169", "beamer43", "ppt169", "text")

DIMENSIONS = (8, 32, 128)


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return multiplications (3,) of each quantity over n, and the shapes (blocks, 2) of what is drawn.

    Nothing is random, nothing long: `seed` and `fast` are idle.
    """
    n, hidden = DIMENSIONS[0], 2 * DIMENSIONS[0]
    counts = [multiplications((dimension, 2 * dimension, dimension)) for dimension in DIMENSIONS]
    return {
        "n": np.array(DIMENSIONS),
        "hidden": hidden,
        **{name: np.array([each[name] for each in counts]) for name in counts[0]},
        "row": np.array([(1, n), (n, hidden), (1, hidden), (hidden, n), (1, n)]),  # a J_2, and that times J_1
        "rows": np.array([(n, hidden), (hidden, n), (n, n)]),  # J_2 J_1
        "vjp_ratio": counts[0]["vjp"] / counts[0]["f"],  # the same for every n
        "jvp_ratio": counts[0]["jvp"] / counts[0]["f"],
    }


compute = data  # the argument of draw hides the name


def multiplications(sizes: tuple[int, ...]) -> dict[str, int]:
    """Return how many multiplications the matrix products of an MLP of these widths take, for one sample.

    A product (r, p) @ (p, q) takes r p q of them. Activations and biases take as many as a layer is wide, and are not
    counted.
    """
    layers = list(pairwise(sizes))
    f = sum(1 * fan_in * fan_out for fan_in, fan_out in layers)  # u = x W
    x_bar = sum(1 * fan_out * fan_in for fan_in, fan_out in layers)  # x̄ = ū Wᵀ
    W_bar = sum(fan_in * 1 * fan_out for fan_in, fan_out in layers)  # W̄ = xᵀ ū
    tangents = sum(sizes[0] * fan_in * fan_out for fan_in, fan_out in layers)  # n rows dx, times W
    return {"f": f, "vjp": f + x_bar + W_bar, "jvp": f + f + f, "jacobian": f + tangents}  # jvp: x W, dx W, x dW


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the products to scale beside the bars; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2, width_ratios=(1.7, 1))
    _draw_products(left, data)
    _draw_costs(right, data)
    title(fig, CLAIM)
    return fig


GAP = 7.0  # between blocks, in numbers


def _draw_products(ax: Axes, data: dict) -> None:
    tall, below = data["hidden"], -2.3 * data["hidden"]
    end = _draw_chain(ax, data["row"], ("$a$", "$J_2$", "$a J_2$", "$J_1$", "$a J$"), "adjoint", 0.0)
    _draw_chain(ax, data["rows"], ("$J_2$", "$J_1$", "$J$"), "alternative", below)
    for text, y in (("VJP: one row, all the way", 0.0), (f"Jacobian: {data['n'][0]} rows, all the way", below)):
        label(ax, text, (0.0, y + tall / 2), (0, 0.3), ha="left")
    ax.set(aspect="equal", xlim=(-1, end + 1), ylim=(below - 1.1 * tall, 0.85 * tall), anchor="W")
    ax.axis("off")


def _draw_chain(ax: Axes, shapes: np.ndarray, names: tuple, who: str, y: float) -> float:
    """Draw blocks of the given shapes side by side at y, layers' Jacobians empty, the rest filled; return the end."""
    x, signs = 0.0, (r"$\cdot$", "=") * 2
    lowest = y - shapes[:, 0].max() / 2
    for i, ((rows, columns), name) in enumerate(zip(shapes, names, strict=True)):
        if name in ("$J_1$", "$J_2$"):
            ax.add_patch(Rectangle((x, y - rows / 2), columns, rows, facecolor="none", edgecolor=colour("muted")))
        else:
            ax.bar(x, 0.7, columns, y - rows / 2 + np.arange(rows) + 0.15, align="edge", color=colour(who))
        label(ax, f"{name}\n${rows}\\times{columns}$", (x + columns / 2, lowest), (0, -0.3))
        if i:
            label(ax, signs[i - 1], (x - GAP / 2, y), (0, 0))
        x += columns + GAP
    return x - GAP


def _draw_costs(ax: Axes, data: dict) -> None:
    bars = [("$f$", 1.0, "muted"), ("VJP", data["vjp_ratio"], "adjoint"), ("JVP", data["jvp_ratio"], "forward")]
    for n, cost in zip(data["n"], data["jacobian"] / data["f"], strict=True):
        bars.append((f"$J$, $n={n}$", cost, "alternative"))
    names, costs, roles = zip(*bars, strict=True)
    ax.barh(names, costs, color=[colour(who) for who in roles], height=0.7)
    for row, cost in enumerate(costs):
        label(ax, f"${cost:.0f}$", (cost, row), (0.3, 0))
    ax.set(xlabel="cost in units of $f$", xlim=(0, 1.2 * max(costs)))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
