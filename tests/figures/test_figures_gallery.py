"""Every figure keeps the calling convention, and draws without a warning or a fault in all themes, sizes and print."""

import ast
import re
from collections import Counter
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure, SubFigure

from figures import _cache, _io, _kept, _registry, _styles
from figures._lint import lint
from refode import note

NAMES = _registry.names()


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def shown(data, kept):
    """The data of a figure by its name: those that are kept, or the fast ones."""
    return lambda name: kept(name) if _kept.holds(name) else data(name)


LOOKS = {"light": ("light", False), "dark": ("dark", False), "mono": ("light", True)}


def matrix():
    """Every figure in every look at every size; of these the long run alone draws what has no new pair in it."""
    turn = Counter()
    for name in NAMES:
        sizes = _registry.describe(name).sizes
        pairs = {(list(LOOKS)[turn[size] % len(LOOKS)], size) for size in sizes}
        pairs |= {(look, sizes[0]) for look in set(LOOKS) - {look for look, _ in pairs}}
        turn.update(sizes)
        for look, size in product(LOOKS, sizes):
            marks = () if (look, size) in pairs else pytest.mark.slow
            yield pytest.param(name, look, size, id=f"{name}-{look}-{size}", marks=marks)


@pytest.mark.parametrize(("name", "look", "size"), list(matrix()))
def test_draws_without_a_fault(name, look, size, shown):
    module, about = _registry.load(name), _io.filled(_registry.describe(name), shown(name))
    theme, mono = LOOKS[look]
    with _styles.style(theme, size, mono=mono):
        figure = _io.draw(module, shown(name))
        assert lint(figure, about.alt) == []
        # a font such as cmss10 lacks the letters of mathematics: they all stand in mathtext, which has its own
        assert all(re.sub(r"\$[^$]*\$", "", text).isascii() for text in words(figure))
        assert figure.get_size_inches() == pytest.approx(rcParams["figure.figsize"])


def pages():
    """Every figure at every size, in the usual run at another one for each figure."""
    for index, name in enumerate(NAMES):
        sizes = _registry.describe(name).sizes
        for k, size in enumerate(sizes):
            marks = () if k == index % len(sizes) else pytest.mark.slow
            yield pytest.param(name, size, id=f"{name}-{size}", marks=marks)


@pytest.mark.parametrize(("name", "size"), list(pages()))
def test_its_page_has_the_size_to_a_tenth_of_a_point(name, size, shown, tmp_path):
    path = tmp_path / "page.pdf"
    with _styles.style(size=size):
        _io.draw(_registry.load(name), shown(name)).savefig(path)
        wanted = 72 * np.array(rcParams["figure.figsize"])
    assert np.allclose(page_of(path.read_bytes()), wanted, rtol=0, atol=0.1)


def test_the_usual_run_has_every_pair():
    usual = [case.values for case in matrix() if not case.marks]
    for name in NAMES:
        assert {look for other, look, _ in usual if other == name} == set(LOOKS)
        assert {size for other, _, size in usual if other == name} == set(_registry.describe(name).sizes)
    figures_at = Counter(size for name in NAMES for size in _registry.describe(name).sizes)
    enough = [size for size in _styles.SIZES if figures_at[size] >= len(LOOKS)]
    assert {case[1:] for case in usual} >= set(product(LOOKS, enough))


OWN = ("#102030", "#405060", "#708090", "#20a0b0", "#c0d0e0", "#909aa0")
PAGE, INK = "#f0e8d8", "#331122"


@pytest.mark.parametrize("name", NAMES)
def test_a_lecturers_own_style_sheet_recolours_it(name, shown):
    """No colour is left that the sheet did not set."""
    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    pages = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    sheet = dict.fromkeys(inks, INK) | dict.fromkeys(pages, PAGE) | {"axes.prop_cycle": plt.cycler("color", OWN)}
    with plt.style.context(["figures.styles.base", "figures.styles.beamer169", sheet], after_reset=True):
        figure = _io.draw(_registry.load(name), shown(name))
        assert [fault for fault in lint(figure, "Some text.") if fault.startswith("colour")] == []


def page_of(pdf):
    """The width and height of a PDF's page in points."""
    return [float(side) for side in re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf).groups()]


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
