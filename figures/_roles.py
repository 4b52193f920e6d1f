"""Colour means role, never series: who is who in every picture, and the second code that says it without colour.

The colours are those of the active style's `axes.prop_cycle`, in the order of ROLES, so that a style sheet of a
lecturer's own recolours every figure. The line or the marker stands here: it is what is left when the picture is
printed in black, or seen by someone who sees fewer colours.
"""

from matplotlib import rcParams
from matplotlib.colors import Colormap, LinearSegmentedColormap, same_color, to_rgba_array

ROLES = ("reference", "forward", "adjoint", "alternative", "data", "muted")

_SECOND_CODE = {
    "reference": {"linestyle": ":"},  # exact values, finite differences
    "forward": {"linestyle": "-"},  # z
    "adjoint": {"linestyle": "--"},  # a
    "alternative": {"linestyle": "-."},  # what one might have done instead
    "data": {"linestyle": "none", "marker": "o"},  # what was observed
    "muted": {"linestyle": "-"},  # what is only there to be compared with
}


def role(name: str) -> dict:
    """Return the Line2D properties of a role; those the style's cycle sets come before ours."""
    cycle = rcParams["axes.prop_cycle"].by_key()
    index = ROLES.index(name)
    theirs = {key: values[index % len(values)] for key, values in cycle.items()}
    edge = {"markeredgecolor": rcParams["axes.edgecolor"]} if name == "data" else {}
    return _SECOND_CODE[name] | edge | theirs


def colour(name: str) -> str:
    """Return the colour of a role under the active style."""
    return role(name)["color"]


def points(name: str, marker: str = "o", *, filled: bool = True) -> dict:
    """Return the Line2D properties of a role's points: a marker and no line."""
    face = colour(name) if filled else rcParams["axes.facecolor"]
    edge = rcParams["axes.edgecolor"] if name == "data" else colour(name)
    return {"color": colour(name), "linestyle": "none", "marker": marker} | {
        "markerfacecolor": face,
        "markeredgecolor": edge,
    }


def diverging() -> Colormap:
    """Return a map of signed values: background at 0, forward's colour below and adjoint's above.

    Where the two colours are one, as in print, it runs from the background to that colour instead.
    """
    below, above, zero = colour("forward"), colour("adjoint"), rcParams["axes.facecolor"]
    steps = [zero, above] if same_color(below, above) else [below, zero, above]
    return LinearSegmentedColormap.from_list("roles", steps)


def sequential(top: str = "muted", part: float = 0.5) -> Colormap:
    """Return a map of sizes: background at 0, and at the top that part of the way to the colour of a role.

    Half-way to muted is a ground on which curves can stand; a density has to be seen itself, in forward's colour, since
    it is what a flow carries.
    """
    none, most = to_rgba_array([rcParams["axes.facecolor"], colour(top)])
    return LinearSegmentedColormap.from_list("sizes", [none, (1 - part) * none + part * most])
