"""A picture as a density: points drawn from it, and what a flow makes of them."""

from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import FigureBase
from scipy.stats import multivariate_normal

from refode import MLP, ContinuousFlow
from refode.datasets import image, image_logpdf
from refode.training import Recipe, fit, start

from ._kept import kept
from ._text import canvas, title

CLAIM = "From points alone, a flow learns a picture"
CAPTION = (
    "Left: {points} points drawn from a photograph (Grace Hopper; bright is dense), counted in cells. Middle: the "
    "density of a flow, a tanh net 2-{width}-{width}-2, fitted to them by {iterations} iterations of Adam on {batch} "
    "of them at a time. Right: the density they come from, constant on each pixel. Mean log-likelihood of {held_out} "
    "other points, the flow solved adaptively: {gaussian:.3f} nats for the best single Gaussian, {flow:.3f} for the "
    "flow, {truth:.3f} for the picture itself. One scale of colour for all three."
)
ALT = (
    "Three portraits of a woman in uniform stand side by side: a grainy one made of points, a soft one, and a sharp "
    "one. Under the soft one stands {flow:.2f} nats, under the sharp one {truth:.2f}."
)
NOTE_IDS = ("P26", "P44", "P45")
COST_S = 600.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")
KEPT = "training"

NET = (2, 64, 64, 2)
RECIPE = Recipe(iterations=4000, batch=512, noise=0.02)
POINTS = 20_000
HELD_OUT = 20_000
FRAME = ((-2.1, 1.75), (-2.55, 1.9))  # of what is shown, x and y: the picture and a margin
CELL = 0.03  # side of a cell of the maps


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return three densities on cells (3, rows, columns), of the points, the flow and the picture, and the scores."""
    points, held_out, cell = (2000, 500, 0.15) if fast else (POINTS, HELD_OUT, CELL)
    sizes, recipe = ((2, 8, 8, 2), replace(RECIPE, iterations=60, batch=128)) if fast else (NET, RECIPE)
    rng = np.random.default_rng([seed, 0])
    known, unseen = image(points, rng), image(held_out, rng)
    flow = trained(known, seed, sizes, recipe)
    edges = [np.arange(low, high, cell) for low, high in FRAME]
    x, y = (edge[:-1] + cell / 2 for edge in edges)
    centres = np.stack(np.meshgrid(x, y), axis=-1)
    counted = np.histogram2d(*known.T, bins=edges)[0].T / (points * cell**2)
    gaussian = multivariate_normal(known.mean(axis=0), np.cov(known.T))
    return {
        "x": x,
        "y": y,
        "density": np.float32([counted, np.exp(flow.logpdf(centres)), _averaged(centres, cell)]),
        "flow": flow.logpdf(unseen).mean(),
        "truth": image_logpdf(unseen).mean(),
        "gaussian": gaussian.logpdf(unseen).mean(),
        **{"points": points, "held_out": held_out, "width": sizes[1], "cell": cell},
        **{"iterations": recipe.iterations, "batch": recipe.batch},
    }


def trained(
    known: np.ndarray, seed: int, sizes: tuple[int, ...] = NET, recipe: Recipe = RECIPE, every: int = 200
) -> ContinuousFlow:
    """Return a flow fitted to the points."""
    net = MLP(sizes)
    flow = ContinuousFlow(net, start(net, np.random.default_rng([seed, 1])), options={"rtol": 1e-6, "atol": 1e-8})
    return fit(flow, known, replace(recipe, seed=seed), every=every)


def _averaged(centres: np.ndarray, cell: float) -> np.ndarray:
    """Return the picture's density, averaged over 4 by 4 points of each cell."""
    inside = cell * (np.arange(4) - 1.5) / 4
    shifts = np.stack(np.meshgrid(inside, inside), axis=-1).reshape(-1, 2)
    return np.mean([np.exp(image_logpdf(centres + shift)) for shift in shifts], axis=0)


compute = partial(kept, "image_density")


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the points, the flow and the picture; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    below = (f"{data['points']} points", f"flow: ${data['flow']:.3f}$ nats", f"picture: ${data['truth']:.3f}$ nats")
    for ax, density, words in zip(fig.subplots(1, 3), data["density"], below, strict=True):
        _draw_map(ax, data, density, words)
    title(fig, CLAIM)
    return fig


def _draw_map(ax: Axes, data: dict, density: np.ndarray, words: str) -> None:
    tint = {"cmap": _bright_on_top(), "vmin": 0, "vmax": 1.05 * data["density"][2].max()}
    ax.pcolormesh(data["x"], data["y"], density, **tint, shading="nearest", rasterized=True)
    ax.set(aspect="equal", xticks=[], yticks=[], xlabel=words)
    ax.spines[:].set_visible(False)


def _bright_on_top() -> Colormap:
    """Return the style's map, turned round if it darkens upwards: where a photograph is dense it is bright."""
    style = colormaps[rcParams["image.cmap"]]
    return style if sum(style(1.0)) > sum(style(0.0)) else style.reversed()
