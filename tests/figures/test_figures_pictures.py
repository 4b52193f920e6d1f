"""The pictures in the repository are what is drawn today, and the page says of each what its figure says of itself."""

import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from figures import _gallery, _io, _kept, _registry

NAMES = _registry.names()
ROUNDING = {"fd_vcurve": 3.0, "otd_gap": 3.0}  # they draw errors of rounding, which are others on another processor
GALLERY = _registry.FOLDER / "gallery"
PAGE = (_registry.FOLDER / "README.md").read_text(encoding="utf-8")


def committed(name):
    with Image.open(GALLERY / f"{name}.png") as picture:
        return picture.convert("RGB")


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_is_what_is_drawn_today(name):
    """From the full data, without a fault, and as near to the committed one as if this were moved by a pixel."""
    near = ROUNDING.get(name, 1.0) * _gallery.tolerance(committed(name))
    with _io.opened(name, _io.Request()) as drawing:
        assert drawing.faults == []
        assert _gallery.distance(_gallery.drawn(drawing), committed(name)) <= near


@pytest.mark.parametrize("name", ROUNDING)
def test_where_rounding_is_drawn_another_seed_is_told_apart(name):
    with _io.opened(name, _io.Request(seed=1)) as drawing:
        found = _gallery.distance(_gallery.drawn(drawing), committed(name))
        assert found > ROUNDING[name] * _gallery.tolerance(committed(name))


@pytest.mark.parametrize("name", ["adjoint_jumps", "minus_sign", "theta_accumulation"])
def test_another_picture_is_told_apart(name):
    """Of another seed, or of other axes: the tolerance lets through neither."""
    with _io.opened(name, _io.Request(seed=1, fast=True)) as drawing:
        assert _gallery.distance(_gallery.drawn(drawing), committed(name)) > 2 * _gallery.tolerance(committed(name))


def test_a_curve_that_is_gone_is_missed():
    with _io.opened("minus_sign", _io.Request()) as drawing:
        curves = [line for axes in drawing.figure.axes for line in axes.lines if line.get_linestyle() != "None"]
        assert len(curves) == 5
        for curve in curves:
            curve.set_visible(False)
            found = _gallery.distance(_gallery.drawn(drawing), committed("minus_sign"))
            assert found > _gallery.tolerance(committed("minus_sign"))
            curve.set_visible(True)


def test_a_picture_moved_by_pixels_is_told_apart_by_the_third():
    picture = committed("adjoint_jumps")
    moved = [Image.fromarray(np.roll(np.asarray(picture), by, axis=0)) for by in (0, 1, 3)]
    still, one, three = (_gallery.distance(picture, other) for other in moved)
    assert still == 0
    assert one <= _gallery.tolerance(picture) < three


def test_the_same_picture_is_the_same_file():
    with _io.opened("adjoint_jumps", _io.Request()) as drawing:
        (one,), (other,) = (list(_gallery.pictures(drawing, GALLERY)) for _ in range(2))
    assert one == other


def test_the_gallery_is_small_and_has_nothing_else():
    moving = {name for name in NAMES if _registry.describe(name).frames}
    wanted = {f"{name}.png" for name in NAMES} | {f"{name}.gif" for name in moving}
    assert {path.name for path in GALLERY.iterdir()} == wanted
    assert sum(path.stat().st_size for path in GALLERY.iterdir()) < 3e6
    for name in moving:
        with Image.open(GALLERY / f"{name}.gif") as film:
            assert film.n_frames == _registry.describe(name).frames


def test_every_lecture_is_of_figures_that_are():
    placed = [name for names in _gallery.LECTURES.values() for name in names]
    assert len(placed) == len(set(placed))
    assert set(placed) == set(NAMES)


def pattern(text):
    """What a text with {numbers} may have become."""
    return ".+".join(re.escape(part) for part in re.split(r"\{[^}]*\}", text))


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_the_figure_says(name):
    about = _registry.describe(name)
    [entry] = [part for part in PAGE.split("\n### ") if f"\n`python -m figures {name} --format" in part]
    ending = "gif" if about.frames else "png"
    assert entry.startswith(f"{about.claim}\n")
    assert re.search(rf"!\[{pattern(about.alt)}\]\(gallery/{name}\.{ending}\)", entry)
    assert re.search(pattern(about.caption), unescape(entry))
    assert all(item in entry for item in (*about.note_ids, *about.sizes))


def test_the_page_is_of_the_figures_that_are():
    assert len(PAGE.split("\n### ")) == 1 + len(NAMES)
    assert PAGE.startswith(_gallery.HEAD)


def test_what_is_not_kept_is_reported_and_left_out(tmp_path, monkeypatch):
    (tmp_path / "gallery").mkdir()
    monkeypatch.setattr(_registry, "names", lambda: ["adjoint_jumps", "wrong_gradient"])
    monkeypatch.setattr(_kept, "missing", lambda name, seed=0: f"{name} is not kept")
    said = []
    assert _gallery.write(tmp_path, lambda line, **_: said.append(line)) == ["wrong_gradient is not kept"]
    assert [line.split("  ")[:2] for line in said] == [[" 1 of 1", "adjoint_jumps"]]
    assert sorted(path.name for path in (tmp_path / "gallery").iterdir()) == ["adjoint_jumps.png"]
    assert "adjoint_jumps" in (tmp_path / "README.md").read_text()
