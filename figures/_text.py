"""Words and arrows in a picture: the claim as its title, labels beside what they name, and which way a curve runs."""

from functools import cache
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox

from ._geometry import box_of, curves, inside
from ._roles import colour


def canvas() -> Figure:
    """Return a new empty figure that lays itself out, of the active style's size."""
    return plt.figure(layout="constrained")


def title(target: FigureBase | Axes, claim: str) -> None:
    """Set the claim as left-aligned title of a figure, a subfigure or axes, wrapped to the width there is."""
    size = _size("figure.titlesize")
    if isinstance(target, Axes):
        width = target.get_position().width * _width(target.figure)
        target.set_title(wrap(claim, width, size), loc="left", fontsize=size, linespacing=1.1)
    else:
        claim = wrap(claim, 0.95 * _width(target), size)
        target.suptitle(claim, x=0.01, ha="left", fontsize=size, linespacing=1.1)


def _width(figure: FigureBase) -> float:
    """Return the width of a figure or subfigure in points."""
    return figure.bbox.width / figure.dpi * 72


def _size(setting: str) -> float:
    """Return a font size of the active style in points; it may be set to a word such as "large"."""
    return FontProperties(size=rcParams[setting]).get_size_in_points()


def wrap(text: str, width: float, size: float) -> str:
    """Break `text` at spaces into as few lines of at most `width` points as the active font allows at `size` points.

    Among these the narrowest block is taken, so that no word is left alone on the last line.
    """
    lines = _greedy(text, width, size)
    for narrower in width * np.linspace(1.0, 0.5, 26):
        shorter = _greedy(text, narrower, size)
        if len(shorter) > len(lines):
            break
        lines = shorter
    return "\n".join(lines)


def _greedy(text: str, width: float, size: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _length(longer, size, *rcParams["font.family"]) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@cache
def _length(text: str, size: float, *family: str) -> float:
    """Return the width of a line in points."""
    return TextPath((0, 0), text, size=size, prop=FontProperties(family=list(family))).get_extents().width


def label(
    ax: Axes, text: str, xy: tuple, shift: tuple = (0.4, 0.0), role: str | None = None, **properties
) -> Annotation:
    """Write `text` beside the data point `xy`, `shift` font sizes away from it, in the colour of `role`.

    The text begins, ends or is centred at the shifted point according to the sign of the shift.
    """
    em = _size("legend.fontsize")
    sides = {-1: ("right", "top"), 0: ("center", "center"), 1: ("left", "bottom")}
    ha, va = (sides[int(np.sign(s))][i] for i, s in enumerate(shift))
    look = {"fontsize": em, "ha": ha, "va": va, "color": colour(role) if role else rcParams["text.color"]}
    return ax.annotate(text, xy, (shift[0] * em, shift[1] * em), textcoords="offset points", **look | properties)


class _Beside(Annotation):
    """A label that looks for a free place beside its curve each time it is drawn, as a legend does in its axes."""

    SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))  # tried in this order at a point,
    AWAY = (0.4, 1.0)  # so many font sizes from it,
    CLEAR = 0.15  # and so many clear of everything else

    def __init__(self, ax: Axes, text: str, points: np.ndarray, **look) -> None:
        super().__init__(text, points[0], (0, 0), textcoords="offset points", **look)
        self.points, self.home = points, ax

    def update_positions(self, renderer) -> None:
        """Take the first place without anything in the way, else the one with the least."""
        others = [box_of(text) for text in self.home.texts[: self.home.texts.index(self)] if text.get_text()]
        paths = [path for _, path in curves(self.home)]
        least = None
        for place in product(self.AWAY, self.points, self.SIDES):
            self._move_to(*place, renderer)
            box = box_of(self)
            clear = box.padded(self.CLEAR * self.get_fontsize() * self.figure.dpi / 72)
            faults = self._in_the_way(box, others, paths), self._in_the_way(clear, others, paths)
            if least is None or faults < least[0]:
                least = faults, place
            if not any(faults):
                break
        self._move_to(*least[1], renderer)

    def _in_the_way(self, box: Bbox, others: list[Bbox], paths: list[Path]) -> int:
        """Return how many of the other labels and curves meet a box; to leave the axes is worse than all of them."""
        struck = [*(box.overlaps(other) for other in others), *(path.intersects_bbox(box, False) for path in paths)]
        return sum(struck) + (len(struck) + 1) * (not inside(box, self.home.bbox, 0))

    def _move_to(self, away: float, point: np.ndarray, side: tuple[int, int], renderer) -> None:
        self.xy = point
        self.set_position(tuple(away * self.get_fontsize() * step for step in side))
        self.set(ha=("center", "left", "right")[side[0]], va=("center", "bottom", "top")[side[1]])
        super().update_positions(renderer)


def beside(ax: Axes, text: str, x: np.ndarray, y: np.ndarray, role: str | None = None, *, near: float = 0.5) -> None:
    """Write `text` beside the curve x, y (count,) wherever there is room, preferably at the fraction `near` of it."""
    nearest = np.argsort(np.abs(np.linspace(0.0, 1.0, len(x)) - near), kind="stable")[:: max(1, len(x) // 12)]
    look = {"fontsize": _size("legend.fontsize"), "color": colour(role) if role else rcParams["text.color"]}
    found = _Beside(ax, text, np.stack([x, y], axis=1)[nearest], **look)
    found.set_in_layout(False)
    ax.add_artist(found)


def arrowhead(ax: Axes, x: np.ndarray, y: np.ndarray, role: str) -> None:
    """Put an arrowhead in the middle of the curve x, y (count,), pointing from its first point to its last."""
    middle = len(x) // 2
    tail, head = ((x[i], y[i]) for i in (middle - 1, middle + 1))
    look = {"arrowstyle": "-|>", "color": colour(role), "linewidth": 0, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", head, tail, arrowprops=look | {"mutation_scale": 1.4 * _size("font.size")})
