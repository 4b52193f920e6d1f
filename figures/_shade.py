"""The colours of a density: the more of it, the more of the flow's colour, since it is what a flow carries."""

from matplotlib import rcParams
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgba_array

from ._roles import colour


def shade() -> Colormap:
    """Return a map of densities: background at 0, most of the way to forward's colour at the top."""
    none, most = to_rgba_array([rcParams["axes.facecolor"], colour("forward")])
    return LinearSegmentedColormap.from_list("background to forward", [none, 0.3 * none + 0.7 * most])
