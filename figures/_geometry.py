"""Where things are on the page, in pixels: what a label must keep clear of, and what the lint finds in its way."""

from collections.abc import Iterator

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox, Transform


def box_of(text: Text) -> Bbox:
    """Return the box of the letters alone: an annotation's own box would hold its arrow too."""
    return Text.get_window_extent(text)


def inside(box: Bbox, frame: Bbox, slack: float) -> bool:
    """Return whether `box` leaves `frame` by no more than `slack` pixels."""
    outer = frame.padded(slack)
    return outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1


def curves(axes: Axes) -> Iterator[tuple[Text | None, Path]]:
    """Yield every curve, spine, arrow and marker of visible axes, each with the text that it belongs to, if any."""
    if not axes.get_visible():
        return
    for spine in axes.spines.values():
        if axes.axison and spine.get_visible():
            yield None, _straight(spine.get_path(), spine.get_transform(), spine)
    for line in axes.lines:
        if line.get_visible() and line.get_linestyle() != "None":
            yield None, _straight(line.get_path(), line.get_transform(), line)
        if line.get_visible() and line.get_marker() not in ("None", None, ""):
            yield from ((None, marker) for marker in _markers(line, axes))
    for lines in axes.collections:
        if lines.get_visible() and isinstance(lines, LineCollection):
            for path in lines.get_paths():
                yield None, _straight(path, lines.get_transform(), lines)
    for arrow in axes.patches:
        if arrow.get_visible() and isinstance(arrow, FancyArrowPatch):
            yield None, _straight(arrow.get_path(), arrow.get_transform(), arrow)
    for text in axes.texts:
        if isinstance(text, Annotation) and text.get_visible() and text.arrow_patch:
            yield text, _straight(text.arrow_patch.get_path(), text.arrow_patch.get_transform(), text.arrow_patch)


def _straight(path: Path, to_pixels: Transform, artist: Artist) -> Path:
    """Return a path in pixels as straight pieces, gaps left out, clipped where the artist is."""
    frame = artist.axes.bbox.extents if artist.axes and artist.get_clip_on() else None
    pieces = to_pixels.transform_path(path).cleaned(remove_nans=True, clip=frame)
    drawn = np.isin(pieces.codes, (Path.MOVETO, Path.LINETO))  # the marks of an end stand at the origin
    return Path(pieces.vertices[drawn], pieces.codes[drawn])


def _markers(line: Line2D, axes: Axes) -> Iterator[Path]:
    radius = line.get_markersize() / 2 * axes.figure.dpi / 72
    corners = radius * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
    for centre in line.get_transform().transform(line.get_xydata()):
        if np.isfinite(centre).all() and (axes.bbox.contains(*centre) or not line.get_clip_on()):
            yield Path(centre + 0.7 * corners)  # the square inside the circle, about the marker's ink
