"""What an eye would object to, found by looking at the laid-out figure: `lint(fig, alt)` lists the faults in words.

A picture passes if all its text can be read (large enough, dark enough, inside the page, not on other text, not
crossed by a curve), if every colour is a role of the active style, if no two curves look the same, if the page keeps
its size, and if there is a text for those who cannot see it. Tick labels outside the view are not drawn, so they don't
count.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from matplotlib.typing import ColorType

from ._geometry import box_of, curves, inside
from ._roles import ROLES, colour

SMALLEST_TEXT = 7.0  # points, on the finished page
FAINTEST_TEXT = 2.95  # contrast: W3C asks 3 of large letters, and our faintest role, the alternative's, has 3.0
SLACK = 1.0  # points by which neighbouring boxes may touch: a box is a little larger than its ink
TITLE_GAP = 3.0  # points (4 px at 96 dpi) that keep two titles apart
_NAMED_COLOURS = ("text.color", "axes.edgecolor", "axes.facecolor", "axes.labelcolor", "figure.facecolor",
                  "xtick.color", "ytick.color", "grid.color")  # fmt: skip


def lint(fig: Figure, alt: str) -> list[str]:
    """Return the faults of a figure, one sentence each; an empty list is a clean figure.

    `alt` is the text that stands for the picture where it can't be seen. The active style must be the one in which
    the figure was drawn, since its colours are the roles.
    """
    fig.draw_without_rendering()
    texts = _texts(fig)
    boxes = [box_of(text) for text in texts]
    faults = [
        *_small_text(texts),
        *_faint_text(texts),
        *_clipped_text(fig, texts, boxes),
        *_text_on_text(fig, texts, boxes),
        *_curve_on_text(fig, texts, boxes),
        *_colours(fig),
        *_twins(fig),
        *_page(),
        *([] if alt.strip() else ["no alt text"]),
    ]
    return list(dict.fromkeys(faults))


def _small_text(texts: list[Text]) -> Iterator[str]:
    for text in texts:
        if text.get_fontsize() < SMALLEST_TEXT:
            yield f"text below {SMALLEST_TEXT:g} pt: {_quote(text)} has {text.get_fontsize():.1f} pt"


def _faint_text(texts: list[Text]) -> Iterator[str]:
    """Text is read against its page; what stands on a map, or on ground of its own, is left to the eye."""
    for text in texts:
        own_ground = text.get_bbox_patch() or text.get_path_effects() or (text.axes and _has_map(text.axes))
        contrast = _contrast(text.get_color(), rcParams["axes.facecolor" if text.axes else "figure.facecolor"])
        if not own_ground and contrast < FAINTEST_TEXT:
            yield f"faint text: {_quote(text)} has contrast {contrast:.1f} with its page"


def _has_map(axes: Axes) -> bool:
    return bool(axes.images) or any(lines.get_array() is not None for lines in axes.collections)


def _contrast(one: ColorType, other: ColorType) -> float:
    """Return the contrast of two colours, from 1 to 21, as W3C defines it (WCAG 2, relative luminance)."""
    srgb = to_rgba_array([one, other])[:, :3]
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722) + 0.05)
    return high / low


def _clipped_text(fig: Figure, texts: list[Text], boxes: list[Bbox]) -> Iterator[str]:
    for text, box in zip(texts, boxes, strict=True):
        if not inside(box, fig.bbox, _pixels(fig, SLACK)):
            yield f"clipped text: {_quote(text)} leaves the page"
        elif text.get_clip_on() and text.get_clip_box() and not inside(box, text.get_clip_box(), _pixels(fig, SLACK)):
            yield f"clipped text: {_quote(text)} leaves its axes"


def _text_on_text(fig: Figure, texts: list[Text], boxes: list[Bbox]) -> Iterator[str]:
    titles = {id(title) for title in _titles(fig)}
    for (one, box), (other, its_box) in combinations(zip(texts, boxes, strict=True), 2):
        both_titles = id(one) in titles and id(other) in titles
        gap = _pixels(fig, TITLE_GAP if both_titles else -SLACK)
        if box.padded(gap).overlaps(its_box):
            yield f"{'titles touch' if both_titles else 'text over text'}: {_quote(one)} and {_quote(other)}"


def _curve_on_text(fig: Figure, texts: list[Text], boxes: list[Bbox]) -> Iterator[str]:
    slack = _pixels(fig, SLACK)
    for owner, path in (pair for axes in fig.findobj(Axes) for pair in curves(axes)):
        for text, box in zip(texts, boxes, strict=True):
            if text is not owner and path.intersects_bbox(box.padded(-slack), filled=False):
                yield f"curve through text: {_quote(text)}"


def _colours(fig: Figure) -> Iterator[str]:
    known = to_rgba_array([colour(name) for name in ROLES] + [rcParams[key] for key in _NAMED_COLOURS])[:, :3]
    for artist in _visible(fig):
        for red, green, blue, alpha in _used_colours(artist):
            if alpha > 0 and np.abs(known - (red, green, blue)).max(axis=1).min() > 1 / 256:
                name = "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))
                yield f"colour outside the roles: {name} of {_describe(artist)}"


def _twins(fig: Figure) -> Iterator[str]:
    """Lines that show the same thing share a label of their own; any others must differ without it."""
    for axes in fig.findobj(Axes):
        lines = [line for line in axes.lines if line.get_visible() and len(line.get_xdata())]
        for one, other in combinations(lines, 2):
            family = one.get_label() == other.get_label()
            if not family and _look(one) == _look(other):
                yield f"two lines look the same: {_describe(one)} and {_describe(other)}"


def _page() -> Iterator[str]:
    if rcParams["savefig.bbox"] == "tight":
        yield "savefig.bbox is tight: the page would not keep its size"


# What there is to look at


def _visible(artist: Artist) -> Iterator[Artist]:
    """Yield every artist of the tree that is drawn, leaving out what an invisible parent hides."""
    if not artist.get_visible():
        return
    yield artist
    hidden = set() if getattr(artist, "axison", True) else {id(artist.xaxis), id(artist.yaxis), id(artist.patch)}
    for child in artist.get_children():
        if id(child) not in hidden:
            yield from _visible(child)


def _texts(fig: Figure) -> list[Text]:
    """Return the text that is drawn: not empty, not a tick label outside the view."""
    outside = {id(text) for axes in fig.findobj(Axes) for text in _ticks_outside(axes)}
    found = {id(artist): artist for artist in _visible(fig) if isinstance(artist, Text)}
    return [text for text in found.values() if text.get_text().strip() and id(text) not in outside]


def _ticks_outside(axes: Axes) -> Iterator[Text]:
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_transform().transform(axis.get_view_interval()))
        slack = 1e-9 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - slack <= axis.get_transform().transform([tick.get_loc()])[0] <= high + slack:
                yield from (tick.label1, tick.label2)


def _titles(fig: Figure) -> Iterator[Text]:
    for axes in fig.findobj(Axes):
        yield from (axes.title, axes._left_title, axes._right_title)
    if fig._suptitle:
        yield fig._suptitle


def _used_colours(artist: Artist) -> np.ndarray:
    """Return the RGBA rows an artist is drawn in; a mapped array has its colour bar instead."""
    used: list = []
    if isinstance(artist, Line2D):
        if artist.get_linestyle() != "None":
            used.append(artist.get_color())
        if artist.get_marker() not in ("None", None, ""):
            used += [artist.get_markerfacecolor(), artist.get_markeredgecolor()]
    elif isinstance(artist, Text):
        used.append(artist.get_color())
    elif isinstance(artist, Patch):
        used += [artist.get_facecolor(), *([artist.get_edgecolor()] if artist.get_linewidth() else [])]
    elif isinstance(artist, Collection) and artist.get_array() is None:
        used += [*artist.get_facecolor(), *artist.get_edgecolor()]
    return np.vstack([to_rgba_array(entry) for entry in used if len(to_rgba_array(entry))] or [np.empty((0, 4))])


# How it is said


def _look(line: Line2D) -> tuple:
    colours = tuple(map(tuple, np.round(_used_colours(line), 3)))
    return colours, line.get_linestyle(), line._unscaled_dash_pattern, line.get_marker()


def _pixels(fig: Figure, length: float) -> float:
    return length * fig.dpi / 72


def _quote(text: Text) -> str:
    return ascii(" ".join(text.get_text().split()))


def _describe(artist: Artist) -> str:
    return f"text {_quote(artist)}" if isinstance(artist, Text) else f"{type(artist).__name__} {artist.get_label()!r}"
