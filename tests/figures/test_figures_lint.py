"""The check of a picture fires on pictures that were made to be bad, each in one way, and is silent on a good one."""

import re

import numpy as np
import pytest
from matplotlib import rcParams

from figures import _styles
from figures._lint import lint
from figures._roles import colour, points, role
from figures._text import beside, canvas, label, title

X = np.linspace(0.0, 1.0, 51)


def good():
    """A figure that has a bit of everything and no fault."""
    fig = canvas()
    left, right = fig.subplots(1, 2)
    left.plot(X, X, **role("forward"))
    left.plot(X, 1 - X, **role("adjoint"))
    left.plot(X[::10], X[::10], **points("data"))
    left.set(xlabel="depth $t$", ylabel="state $z$", title="two curves")
    label(left, "$z$", (0.8, 0.8), (-0.8, 0.6), "forward")
    image = right.pcolormesh(X[:5], X[:6], np.arange(30.0).reshape(6, 5))
    fig.colorbar(image, ax=right, label="value")
    right.set(xlabel="time $t$", ylabel="weight", title="a map")
    title(fig, "A picture in which nothing is wrong")
    return fig, left, right


def test_a_good_picture_is_clean(light):
    fig, _, _ = good()
    assert lint(fig, "Two curves cross. Beside them a map.") == []


def small_text(fig, left, right):
    left.set_xlabel("depth", fontsize=6.5)


def faint_text(fig, left, right):
    left.text(0.1, 0.5, "hidden", color=colour("data"))


def text_off_the_page(fig, left, right):
    fig.text(0.98, 0.99, "cut")


def text_off_its_axes(fig, left, right):
    left.text(1.0, 0.6, "cut", clip_on=True)


def text_on_text(fig, left, right):
    left.text(0.1, 0.5, "one")
    left.text(0.12, 0.5, "other")


def curve_through_text(fig, left, right):
    left.text(0.5, 0.5, "struck out", ha="center", va="center")


def curve_through_text_on_logarithmic_axes(fig, left, right):
    left.set(xscale="log", yscale="log", xlim=(5e-4, 1.0), ylim=(5e-4, 1.0))
    left.text(0.1, 0.1, "struck out", ha="center", va="center")


def axis_through_text(fig, left, right):
    left.text(left.get_xlim()[0], 0.3, "on it", ha="center")


def marker_on_text(fig, left, right):
    left.text(0.75, 0.55, "hit")
    left.plot(0.78, 0.57, **points("adjoint", "s"))


def arrow_through_text(fig, left, right):
    left.text(0.4, 0.87, "hit")
    left.annotate("", (0.6, 0.89), (0.2, 0.89), arrowprops={"arrowstyle": "->"})


def legend_on_a_curve(fig, left, right):
    left.lines[0].set_label("the state")
    left.legend(loc="upper right")


def foreign_colour(fig, left, right):
    left.plot(X, X**2, color="tab:green", linestyle=":")


def twins(fig, left, right):
    left.plot(X, X**2, **role("forward"))


def titles_touch(fig, left, right):
    left.set_title("the title of the left panel grows until it meets")
    right.set_title("the other one", loc="left")


BAD = {
    small_text: "text below 7 pt: 'depth' has 6.5 pt",
    faint_text: r"faint text: 'hidden' has contrast 2\.1 with its page",
    text_off_the_page: "clipped text: 'cut' leaves the page",
    text_off_its_axes: "clipped text: 'cut' leaves its axes",
    text_on_text: "text over text: 'one' and 'other'",
    curve_through_text: "curve through text: 'struck out'",
    curve_through_text_on_logarithmic_axes: "curve through text: 'struck out'",
    axis_through_text: "curve through text: 'on it'",
    marker_on_text: "curve through text: 'hit'",
    arrow_through_text: "curve through text: 'hit'",
    legend_on_a_curve: "curve through text: 'the state'",
    foreign_colour: "colour outside the roles: #2ca02c",
    twins: "two lines look the same",
    titles_touch: "titles touch: .* and 'the other one'",
}


@pytest.mark.parametrize(("spoil", "fault"), BAD.items(), ids=[spoil.__name__ for spoil in BAD])
def test_each_fault_is_found_and_no_other(light, spoil, fault):
    fig, left, right = good()
    spoil(fig, left, right)
    faults = lint(fig, "Some text.")
    assert len(faults) == 1, faults
    assert re.match(fault, faults[0])


@pytest.mark.parametrize(("theme", "mono"), [("dark", False), ("light", True)])
def test_a_picture_is_checked_against_the_style_it_is_drawn_in(light, theme, mono):
    """What is good in light is good in any theme, and the colours of another theme are foreign there."""
    blue = colour("forward")
    with _styles.style(theme, mono=mono):
        fig, left, _ = good()
        assert lint(fig, "Some text.") == []
        left.plot(X, X**2, color=blue, linestyle=":")
        left.text(0.1, 0.5, "hidden", color=rcParams["axes.facecolor"])
        faint, foreign = lint(fig, "Some text.")
    assert faint == "faint text: 'hidden' has contrast 1.0 with its page"
    assert foreign.startswith("colour outside the roles: #004488")


def test_text_on_a_map_or_on_ground_of_its_own_is_left_to_the_eye(light):
    fig, left, right = good()
    left.text(0.1, 0.5, "white", color="white", bbox={"facecolor": "black"})
    right.text(0.5, 0.5, "white", color="white", transform=right.transAxes)
    assert lint(fig, "Some text.") == []


def test_missing_alt_text_and_a_page_that_shrinks(light):
    fig, _, _ = good()
    assert lint(fig, " ") == ["no alt text"]
    with light.rc_context({"savefig.bbox": "tight"}):
        assert lint(fig, "Some text.") == ["savefig.bbox is tight: the page would not keep its size"]


def test_a_family_of_curves_shares_its_label(light):
    fig, left, _ = good()
    for scale in (0.1, 0.2):
        left.plot(X, scale * X, **role("alternative") | {"label": "_family"})
    assert lint(fig, "Some text.") == []


def test_a_curve_ends_where_it_ends(light):
    """The end mark of a path stands at the origin, and a gap in a curve is no piece of it."""
    fig = canvas()
    ax = fig.subplots()
    ax.text(0.41, 0.41, "on the way")
    ax.annotate("", (0.9, 0.9), (0.9, 0.8), arrowprops={"arrowstyle": "-|>", "color": "black"})
    ax.plot([0.43, 0.43, 0.43], [0.0, np.nan, 1.0], **role("forward") | {"marker": "o"})
    assert lint(fig, "Some text.") == []


def test_tick_labels_outside_the_view_do_not_count(light):
    fig, left, _ = good()
    left.set_xticks([0.0, 0.5, 0.51, 0.52])
    assert any("text over text" in fault for fault in lint(fig, "Some text."))
    left.set_xlim(0.0, 0.505)
    assert lint(fig, "Some text.") == []


def test_roles_follow_a_style_of_the_readers_own(light):
    with light.rc_context({"axes.prop_cycle": light.cycler("color", ["#112233", "#445566"])}):
        assert [colour(name) for name in ("reference", "forward", "adjoint")] == ["#112233", "#445566", "#112233"]
        assert role("adjoint")["linestyle"] == "--"


@pytest.mark.parametrize("bend", [-1.0, 1.0])
def test_a_label_finds_a_free_place_beside_its_curve(light, bend):
    """Wherever the curves run, also after the view has changed: it is found anew each time the figure is drawn."""
    fig = canvas()
    ax = fig.subplots()
    ax.plot(X, bend * X**2, **role("forward"))
    ax.plot(X, bend * X**2 + 0.1, **role("adjoint"))
    beside(ax, "a long name", X, bend * X**2)
    beside(ax, "another name", X, bend * X**2 + 0.1)
    assert lint(fig, "Some text.") == []
    ax.set_ylim(-3.0, 3.0)
    assert lint(fig, "Some text.") == []
    assert {text.get_text() for text in ax.texts} == {"a long name", "another name"}
