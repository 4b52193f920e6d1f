"""Every figure keeps the calling convention, and draws without a warning or a fault in light and in print."""

import ast
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure, SubFigure

from figures import _cache, _io, _registry, _styles
from figures._lint import lint
from refode import note

NAMES = _registry.names()


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def looks():
    """Each figure in light and in print, each look at another of the figure's sizes."""
    sizes = {name: _registry.describe(name).sizes for name in NAMES}
    return [
        pytest.param(name, sizes[name][(index + mono) % len(sizes[name])], mono, id=f"{name}-{look}")
        for index, name in enumerate(NAMES)
        for mono, look in enumerate(("light", "mono"))
    ]


@pytest.mark.parametrize(("name", "size", "mono"), looks())
def test_draws_without_a_fault(name, size, mono, data):
    module, about = _registry.load(name), _io.filled(_registry.describe(name), data(name))
    with _styles.style(size=size, mono=mono):
        figure = _io.draw(module, data(name))
        assert lint(figure, about.alt) == []
        # a font such as cmss10 lacks the letters of mathematics: they all stand in mathtext, which has its own
        assert all(re.sub(r"\$[^$]*\$", "", text).isascii() for text in words(figure))
        assert figure.get_size_inches() == pytest.approx(rcParams["figure.figsize"])


def words(figure):
    """What the figure writes, apart from the numbers along its axes."""
    for ax in figure.axes:
        yield from (text.get_text() for text in (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label))
        yield ax.get_title(loc="left")
    yield figure.get_suptitle()


@pytest.mark.parametrize("name", NAMES)
def test_draws_into_what_it_is_given(name, data):
    """Half a slide, a subfigure or axes of the reader's own, in the reader's own style; nothing else is touched."""
    module, before = _registry.load(name), dict(rcParams)
    halves = plt.figure(layout="constrained").subfigures(1, 2)
    elsewhere = plt.figure().subplots()
    if "fig" in module.draw.__kwdefaults__:
        assert module.draw(data(name), fig=halves[0]) is halves[0]
    else:
        ax = halves[0].subplots()
        assert module.draw(data(name), ax=ax) is ax
    assert plt.gca() is elsewhere
    assert not elsewhere.get_children()[0].axes.lines
    assert halves[0].axes
    assert not halves[1].axes
    assert dict(rcParams) == before


@pytest.mark.parametrize("name", NAMES)
def test_makes_its_own_figure_otherwise(name, data):
    drawn = _registry.load(name).draw(data(name))
    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    assert isinstance(figure, Figure)
    assert not isinstance(figure, SubFigure)
    assert figure.get_layout_engine() is not None


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_shows(name, data):
    about = _io.filled(_registry.describe(name), data(name))
    assert about.claim.isascii()
    assert len(about.claim) <= 70
    assert len(re.findall(r"\.(?= |$)", about.alt)) == 2, about.alt
    assert about.caption.endswith(".")
    assert set(about.note_ids) <= set(note.ITEMS)
    assert set(about.sizes) <= set(_styles.SIZES)


@pytest.mark.parametrize("name", NAMES)
def test_data_are_numbers_and_the_seed_decides(name, data):
    quick = _registry.describe(name).cost_s <= _cache.LONG
    again = _registry.load(name).data(seed=0, fast=True) if quick else data(name)
    for key, value in data(name).items():
        assert np.asarray(value).dtype.kind in "fi", key
        assert np.array_equal(value, again[key], equal_nan=True), key


@pytest.mark.parametrize("name", NAMES)
def test_touches_no_global_state(name):
    source = ast.parse((_registry.FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    called = {node.func.attr for node in ast.walk(source) if isinstance(node, ast.Call) and hasattr(node.func, "attr")}
    assert not called & {"show", "tight_layout", "gca", "gcf", "sca", "rc", "use", "seed"}
