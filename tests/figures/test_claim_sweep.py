"""At every time of the sweep back the bars are the gradient of the loss that is still to come."""

import numpy as np
import pytest

from figures import _demo, sweep
from figures.adjoint_jumps import observed
from refode import adjoint
from refode.finite_difference import complex_solve, directional_complex_step


def test_D31_D33_the_bars_end_in_the_gradient(data):
    drawn = data("sweep")
    trajectory, loss = observed(0)
    exact = adjoint(trajectory, loss(trajectory)[1]).theta
    assert drawn["a_theta"][0] == pytest.approx(exact, rel=1e-7, abs=1e-9 * np.abs(exact).max())
    # central differences with step 1e-4: h² = 1e-8 times a third derivative, and a solve's 1e-11 over h
    scale = np.abs(exact).max()
    assert drawn["differences"] == pytest.approx(exact[drawn["shown"]], abs=1e-6 * scale)
    assert len(set(drawn["shown"])) == sweep.BARS


@pytest.mark.parametrize("interval", [0, 1, 2, 3])
def test_D15_on_the_way_they_are_the_gradient_of_what_is_to_come(data, interval):
    """From z(t) on, theta alone being moved, by complex step."""
    drawn, demo = data("sweep"), _demo.plane(0)
    per = len(drawn["t"]) // (len(drawn["times"]) - 1)
    at = interval * per + per // 2
    t, z, later = drawn["t"][at], drawn["z"][at], drawn["times"] > drawn["t"][at]
    v = np.random.default_rng(interval).standard_normal(len(demo.theta))

    def to_come(theta):
        states = complex_solve(demo.field, z, theta, [t, *drawn["times"][later]])[1:]
        return np.sum((states - drawn["observations"][later]) ** 2) / 2

    wanted = directional_complex_step(to_come, demo.theta, v)
    assert drawn["a_theta"][at] @ v == pytest.approx(wanted, rel=1e-7)


def widths(figure):
    return np.array([bar.get_width() for bar in figure.axes[1].patches])


def test_first_forward_then_back(data):
    drawn = data("sweep")
    assert np.all(np.diff(drawn["time"][: sweep.FORWARD]) > 0)
    assert np.all(np.diff(drawn["time"][sweep.FORWARD :]) < 0)
    on_the_way, back, end = (sweep.draw(drawn, frame=frame) for frame in sweep.STILLS)
    state, _, adjoint_axes = on_the_way.axes
    [curve] = [line for line in state.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2]
    assert curve.get_xdata().max() <= drawn["time"][sweep.STILLS[0]]
    assert not any(len(line.get_xdata()) for line in adjoint_axes.lines if line.get_linestyle() == "--")
    assert np.all(widths(on_the_way) == 0)
    time = drawn["time"][sweep.STILLS[1]]
    dashed = [line.get_xdata() for line in back.axes[2].lines if line.get_linestyle() == "--"]
    assert np.concatenate(dashed).min() >= time
    assert np.array_equal(widths(back), sweep.collected(drawn, time))
    assert np.array_equal(widths(end), drawn["a_theta"][0, drawn["shown"]])
