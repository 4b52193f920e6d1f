"""The colours of each theme are told apart by every kind of eye, and stand out from their page.

Distances are CIEDE2000 (Sharma, Wu and Dalal 2005) of what an eye sees that lacks one kind of cone (Machado, Oliveira
and Fernandes 2009, severity 1). Four roles are lines, and may stand alone: 25 apart and 15.5 in lightness. The data are
markers with an edge of the text's colour, and what is muted is grey: 20 from every line.
"""

from itertools import combinations

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.colors import to_rgb

from figures import _styles
from figures._roles import ROLES, colour

LINES = ROLES[:4]
APART, APART_MARKED, LIGHTNESS = 25.0, 20.0, 15.5
CONTRAST = {"light": 3.0, "dark": 3.4}  # of a line with its page; W3C asks 3 of whatever is not text
EYES = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # sRGB, white D65


def linear(name):
    """Linear RGB of a colour."""
    c = np.array(to_rgb(name))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB of linear RGB."""
    ratio = TO_XYZ @ rgb / (TO_XYZ @ np.ones(3))
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def seen(name, eye):
    return lab(np.clip(np.array(EYES[eye]) @ linear(name), 0, 1))


def contrast(one, other):
    low, high = sorted(TO_XYZ[1] @ linear(name) + 0.05 for name in (one, other))
    return high / low


def ciede2000(one, other):
    """Difference of two colours (L*, a*, b*), in the notation of Sharma et al., equations 2 to 22."""
    (L1, a1, b1), (L2, a2, b2) = one, other
    G = 0.5 * (1 - _seventh((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2))
    a1, a2 = (1 + G) * a1, (1 + G) * a2
    C1, C2, h1, h2 = np.hypot(a1, b1), np.hypot(a2, b2), np.arctan2(b1, a1), np.arctan2(b2, a2)
    turn = (h2 - h1 + np.pi) % (2 * np.pi) - np.pi if C1 * C2 else 0.0
    L, C, h = (L1 + L2) / 2, (C1 + C2) / 2, h1 + turn / 2 if C1 * C2 else h1 + h2
    T = 1 - 0.17 * np.cos(h - np.pi / 6) + 0.24 * np.cos(2 * h)
    T += 0.32 * np.cos(3 * h + np.pi / 30) - 0.20 * np.cos(4 * h - np.radians(63))
    from_blue = (np.degrees(h) % 360 - 275) / 25
    rotation = -2 * _seventh(C) * np.sin(np.radians(60) * np.exp(-(from_blue**2)))
    dL = (L2 - L1) / (1 + 0.015 * (L - 50) ** 2 / np.sqrt(20 + (L - 50) ** 2))
    dC = (C2 - C1) / (1 + 0.045 * C)
    dH = 2 * np.sqrt(C1 * C2) * np.sin(turn / 2) / (1 + 0.015 * C * T)
    return np.sqrt(dL**2 + dC**2 + dH**2 + rotation * dC * dH)


def _seventh(C):
    return np.sqrt(C**7 / (C**7 + 25.0**7))


@pytest.mark.parametrize(
    ("one", "other", "published"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (61, -5, 29), 22.8977),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_difference_is_the_published_one(one, other, published):
    assert ciede2000(one, other) == pytest.approx(published, abs=5e-5)
    assert ciede2000(other, one) == pytest.approx(published, abs=5e-5)


def test_every_theme_is_measured():
    assert set(CONTRAST) == set(_styles.themes())


@pytest.mark.parametrize("theme", CONTRAST)
@pytest.mark.parametrize("eye", EYES)
def test_every_eye_tells_the_roles_apart(theme, eye):
    with _styles.style(theme):
        for one, other in combinations(ROLES, 2):
            difference = ciede2000(*(seen(colour(name), eye) for name in (one, other)))
            lines = len({one, other} & set(LINES))
            assert difference >= (0.0, APART_MARKED, APART)[lines], (one, other)


@pytest.mark.parametrize("theme", CONTRAST)
def test_lines_differ_in_grey_and_from_their_page(theme):
    with _styles.style(theme):
        lightness = sorted(lab(linear(colour(name)))[0] for name in LINES)
        assert np.diff(lightness).min() >= LIGHTNESS
        page = rcParams["axes.facecolor"]
        assert min(contrast(colour(name), page) for name in (*LINES, "muted")) >= CONTRAST[theme]
        for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"):
            assert contrast(rcParams[key], page) >= 7, key  # W3C's better grade for text


@pytest.mark.parametrize("theme", [*CONTRAST, "mono"])
def test_a_theme_sets_every_colour_of_the_page(theme):
    """A colour left out would be Matplotlib's black or white, whatever the page."""
    with _styles.style("light" if theme == "mono" else theme, mono=theme == "mono"):
        page = {rcParams[key] for key in ("figure.facecolor", "savefig.facecolor", "axes.facecolor")}
        ink = {
            rcParams[key] for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        }
        assert len(page) == len(ink) == 1
        assert len(rcParams["axes.prop_cycle"]) == len(ROLES)
