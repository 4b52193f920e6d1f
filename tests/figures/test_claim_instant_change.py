"""D44: the drawn change of log p is minus the integral of the trace, and a parcel's area times density is kept."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from figures.instant_change import END, FIELD, PARCELS, THETA, TOL
from refode import ContinuousFlow, solve


@pytest.fixture
def drawn(data):
    return data("instant_change")


def growth():
    """E to the integral of |∇f| ≤ Σ |u||w|, by which an error grows at most."""
    u, w, _ = FIELD.split(THETA)
    return np.exp(END * np.sum(np.linalg.norm(u, axis=1) * np.linalg.norm(w, axis=1)))


def test_D47_the_determinant_knows_the_change(drawn):
    """Mass is kept: p_t(z_t) det dz_t/dz_0 = p_0(z_0), with a determinant that comes from the solve alone."""
    assert drawn["change"] == pytest.approx(drawn["by_determinant"], abs=TOL * growth())
    assert drawn["spread"] <= TOL * growth()
    assert np.abs(drawn["change"]).max() > 0.5  # it is no constant


def test_D44_the_integral_of_the_trace_is_minus_the_change(drawn):
    """A cubic spline's integral is off by O(h⁴), so that half the points are off 16 times as much."""
    t = drawn["t"]
    tau = -CubicSpline(t, drawn["by_trace"])(t, 1)
    coarse = -CubicSpline(t[::2], tau[::2]).antiderivative()(t[::2])
    error = np.abs(coarse - drawn["by_trace"][::2]).max() / 15
    assert error < 1e-4
    assert np.abs(drawn["by_trace"] - drawn["change"]).max() <= 2 * error
    assert np.abs(drawn["by_trace"] + drawn["change"]).max() > 1  # with the other sign it would be seen


def test_D56_the_shade_is_the_density_of_the_flow_at_that_time(drawn):
    for i in (len(drawn["t"]) // 3, -1):
        flow = ContinuousFlow(FIELD, THETA, t1=drawn["t"][i], options={"rtol": 1e-10, "atol": 1e-10})
        assert flow.logpdf(drawn["z"][i]) == pytest.approx(drawn["log_p"][i], abs=1e-10 * growth())


def test_D47_the_ellipses_are_the_images_of_small_discs(drawn):
    around = np.random.default_rng(1).normal(size=(PARCELS, 2)) * 1e-5
    options = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-13}
    near = solve(FIELD, drawn["z"][0] + around, THETA, drawn["t"], **options).z
    far = solve(FIELD, drawn["z"][0] - around, THETA, drawn["t"], **options).z
    image = np.einsum("tpij,pj->tpi", drawn["jacobian"], around)
    # a central difference: its error is of third order in 1e-5, and below the solves' 1e-13, grown
    assert (near - far) / 2 == pytest.approx(image, abs=1e-13 * growth())
    assert np.linalg.norm(image, axis=-1).max() > 1e-5


def test_the_three_that_are_told_apart_rise_fall_and_lie_between(drawn):
    most, middle, least = drawn["change"][-1, drawn["shown"]]
    assert most == drawn["change"][-1].max() > 0
    assert least == drawn["change"][-1].min() < 0
    assert least < middle < most
