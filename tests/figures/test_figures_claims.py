"""What each figure claims, asserted on the numbers that it draws."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from figures import _demo, fd_vcurve, theorem1_slopes, theta_accumulation
from figures._registry import load
from refode.finite_difference import complex_solve, complex_step, directional_difference


@pytest.mark.parametrize("seed", range(3))
def test_the_demo_net_shows_what_it_has_to_show(seed):
    for demo, wanted in ((_demo.plane(seed), _demo.PLANE), (_demo.line(seed), _demo.LINE)):
        assert set(demo.measured) == set(wanted)
        assert all(low <= demo.measured[name] <= high for name, (low, high) in wanted.items())


def test_D01_E01_the_error_of_a_resnet_falls_like_its_step(data):
    """Euler's error is c/N + d/N² + ..., so its slope in N is -1 + O(1/N): the gap halves when N doubles."""
    drawn = data("resnet_limit")
    gap = np.diff(np.log2(drawn["error"])) + 1
    assert gap[-1] / gap[-2] == pytest.approx(0.5, abs=0.1)
    assert abs(drawn["slope"] + 1) <= abs(gap[-3])  # fitted to the last four errors
    assert drawn["slope_without"] > 0.9
    assert drawn["error_without"][-1] > 100 * drawn["error_without"][0]
    for N in (1, 2, 4, 8, 16):
        end = drawn[f"resnet_{N}"][-1]
        assert abs(end - drawn["exact"][-1]) == drawn["error"][np.log2(N).astype(int)]


def test_D28_D32_the_adjoint_jumps_by_the_cotangent_and_is_the_gradient_on_both_sides(data):
    """Either side of an observation, a is the gradient of the loss that is still to come, here by complex step."""
    drawn, demo = data("adjoint_jumps"), _demo.plane(0)
    later, earlier = np.vstack([drawn["a_z"][1:, 0], np.zeros(2)]), drawn["a_z"][:, -1]
    assert np.allclose(earlier - later, drawn["jumps"][1:], rtol=0, atol=1e-15)
    assert np.all(np.abs(drawn["jumps"][1:]) > 0)

    def loss_to_go(z, first):
        """Half the squared residuals from the first-th observation on, of the solution through z there."""
        states = complex_solve(demo.field, z, demo.theta, drawn["times"][first:])
        return np.sum((states - drawn["observations"][first:]) ** 2) / 2

    for i, (a, jump) in enumerate(zip(earlier, drawn["jumps"][1:], strict=True), start=1):
        exact = complex_step(lambda z, i=i: loss_to_go(z, i), drawn["z"][i - 1, -1])
        # the sweep's error: its tolerance 1e-10, grown by at most e^growth, for z and a alike
        assert a == pytest.approx(exact, rel=1e-8)
        assert a - jump == pytest.approx(exact - (drawn["z"][i - 1, -1] - drawn["observations"][i]), rel=1e-8, abs=1e-8)
    assert drawn["gradient"] == pytest.approx(drawn["a_z"][0, 0], rel=1e-8)


def test_D13_D17_the_pairing_is_conserved_and_a_plus_sign_would_not_do(data):
    drawn, demo = data("minus_sign"), _demo.plane(0)
    tol = 1e-12 * np.exp(2 * demo.measured["growth"])  # the two solves' tolerance, grown on the way forth and back
    assert np.ptp(drawn["product"]) <= tol * abs(drawn["product"][0])
    assert drawn["spread"] <= tol
    for name in ("dz", "a"):
        length = np.linalg.norm(drawn[name], axis=1)
        assert np.ptp(length) > 0.5 * length.min()
    assert np.ptp(drawn["product_plus"]) > abs(drawn["product"][0])
    assert drawn["product_plus"][-1] == pytest.approx(drawn["product"][-1], rel=tol)

    def loss(z0):
        return demo.loss(complex_solve(demo.field, z0, demo.theta, demo.times)[-1])

    slope_of_loss = directional_difference(loss, demo.z0, drawn["dz"][0], step=1e-4)  # error h² = 1e-8, and its f‴
    assert drawn["product"][0] == pytest.approx(slope_of_loss, rel=1e-6)


def test_D16_to_D27_every_line_of_the_proof_has_its_order(data):
    drawn = data("theorem1_slopes")
    growth = np.exp(2 * _demo.plane(0).measured["growth"])
    for name in theorem1_slopes.EXACT:  # to the tolerance of the solves, grown on the way
        assert drawn[name].max() <= 1e-13 * growth
    for name, order in theorem1_slopes.ORDERS.items():
        # the next term of each series is of relative size eps; 0.05 is five times the largest fitted eps, 1e-2
        assert drawn[f"slope_{name}"] == pytest.approx(order, abs=0.05), name
    smallest = drawn["rounding"] / drawn["eps"][0]
    assert drawn["central"][0] <= 10 * smallest
    assert drawn["quotient"][0] > 10 * smallest  # the one-sided quotient has not reached it yet
    assert drawn["printed"][0] == pytest.approx(2 * drawn["rounding"] / np.finfo(float).eps / drawn["eps"][0], rel=1e-3)


def test_D31_D33_the_gradient_by_theta_is_the_integral_of_its_integrand(data):
    drawn = data("theta_accumulation")
    assert np.all(drawn["integral"][-1] == 0)
    fine, coarse = (_integral_to_the_end(drawn["t"][::step], drawn["integrand"][::step]) for step in (1, 2))
    # a cubic spline's integral is off by O(h⁴): the coarse one by 16 times the error of the fine one
    error = np.abs(coarse - fine[::2]).max() / 15
    assert error < 1e-3
    assert np.abs(fine - drawn["integral"]).max() <= 4 * error
    # central differences with step 1e-4: h² = 1e-8 times a third derivative, and a solve's 1e-11 over h
    scale = np.abs(drawn["integral"][0]).max()
    assert drawn["differences"] == pytest.approx(drawn["integral"][0, drawn["shown"]], abs=1e-6 * scale)
    forgotten = drawn["integrand"][0, drawn["shown"]]
    assert np.linalg.norm(forgotten - drawn["differences"]) > 0.3 * np.linalg.norm(drawn["differences"])
    assert len(set(drawn["shown"])) == theta_accumulation.SHOWN


def _integral_to_the_end(t, values):
    """∫ from t to t1 of values (count, m), by a cubic spline."""
    antiderivative = CubicSpline(t, values, axis=0).antiderivative()
    return antiderivative(t[-1]) - antiderivative(t)


def test_E08_the_time_block_is_minus_a_f_and_gives_both_time_gradients(data):
    drawn, demo = data("time_gradients"), _demo.plane(0)
    growth = np.exp(2 * demo.measured["growth"])
    scale = np.abs(drawn["minus_af"]).max()
    assert drawn["gap"] <= 1e-12 * growth * scale  # the sweep's tolerance, grown on the way
    assert drawn["start"] == pytest.approx(drawn["a_t"][0], rel=1e-12 * growth)
    assert drawn["end"] == pytest.approx(-drawn["a_t"][-1], rel=1e-12 * growth)
    # central differences with step 1e-4: h² = 1e-8 times a third derivative, and a solve's 1e-11 over h
    assert drawn["start_fd"] == pytest.approx(drawn["start"], abs=1e-6 * scale)
    assert drawn["end_fd"] == pytest.approx(drawn["end"], abs=1e-6 * scale)
    assert drawn["offset"] > 0.5 * scale  # begun at 0 it would be wrong by as much as its own size

    def loss(times):
        return demo.loss(complex_solve(demo.field, demo.z0, demo.theta, times)[-1])

    exact = complex_step(loss, np.array(demo.times))
    assert [drawn["start"], drawn["end"]] == pytest.approx(exact, rel=1e-12 * growth)
    for which, wanted in (("loss_start", exact[0]), ("loss_end", exact[1])):  # the drawn loss has the drawn tangent
        loss, by, i = drawn[which], drawn["moved"], len(drawn["moved"]) // 2
        near, far = ((loss[i + k] - loss[i - k]) / (by[i + k] - by[i - k]) for k in (1, 2))
        assert near == pytest.approx(wanted, abs=abs(near - far) / 2)  # an O(h²) error: near's is (near - far) / 3


def test_P23_the_floor_of_a_difference_follows_the_tolerance_and_not_h(data):
    drawn = data("fd_vcurve")
    h, error = drawn["h"], drawn["error"]
    flat = (h >= fd_vcurve.FLAT[0]) & (h <= fd_vcurve.FLAT[1])
    for loose in error[:2]:  # h changes a thousandfold, the error does not
        assert loose[flat].max() < 1.5 * loose[flat].min()
    floors = drawn["floors"]
    assert floors[0] > 100 * floors[1] > 1e4 * floors[2]
    assert np.argmin(error[2]) not in (0, len(h) - 1)  # the tightest has both branches of the V
    # truncation is c h² + d h⁴: at the fitted h <= 0.1 the slope is 2 to h²
    assert drawn["right"] == pytest.approx(2, abs=0.05)
    assert drawn["complex_error"] < 0.1 * error.min()
    assert drawn["complex_error"] <= 1e-13 * np.exp(2 * _demo.plane(0).measured["growth"])


def test_D02_the_paths_follow_the_field_and_the_field_changes_with_time(data):
    drawn, demo = data("vector_field"), _demo.plane(0)
    spline = CubicSpline(drawn["times"], drawn["paths"], axis=0)
    for i, t in enumerate(drawn["times"]):
        f = demo.field(drawn["paths"][i], t, demo.theta)
        # a cubic spline's slope is off by O(h³) with h = 0.075, and the fast paths by their tolerance 1e-4 over h
        assert spline(t, 1) == pytest.approx(f, abs=2e-2)
    field = drawn["field"]
    for earlier, later in pairwise(field):
        assert np.linalg.norm(later - earlier) > 0.5 * np.linalg.norm(earlier)
    corner = np.array([drawn["x"][11], drawn["y"][7]])
    assert field[1, 7, 11] == pytest.approx(demo.field(corner, drawn["frames"][1], demo.theta))
    inside = (drawn["paths"] > [drawn["x"][0], drawn["y"][0]]) & (drawn["paths"] < [drawn["x"][-1], drawn["y"][-1]])
    assert inside.all()


def test_E20_the_error_of_the_way_back_grows_like_e_to_the_rate(data):
    """Errors made along the way forth arrive damped; one made at t on the way back arrives times e^(rate (t - t0))."""
    drawn = data("reverse_drift")
    assert drawn["rate"] == pytest.approx(1, abs=0.05)  # the local errors' dependence on the rate is a power of it
    ratio = drawn["error"] / drawn["bound"]
    assert ratio.max() < 1
    assert ratio.min() > 0.01
    t, wave = drawn["t"], np.cos(3 * drawn["t"])
    assert drawn["forth"][-1] == pytest.approx(wave[-1], abs=3 / drawn["shown"])  # it lags by |wave'| / rate
    gap = np.abs(drawn["back"] - drawn["forth"])
    assert gap[-1] == 0
    assert gap[0] > np.abs(drawn["forth"]).max()  # no digit left
    late = (t > t[0] + 0.1) & (gap > 1e-7)
    assert np.polyfit(t[late], np.log(gap[late]), 1)[0] == pytest.approx(-drawn["shown"], rel=0.02)


@pytest.mark.parametrize("name", ["adjoint_jumps", "theta_accumulation"])
def test_the_drawn_curves_end_in_the_drawn_circles(data, name):
    """The eye compares what the tests compare: a circle stands at the end of a curve, to a difference's error."""
    figure = load(name).draw(data(name))
    dashed = {ax: [line for line in ax.lines if line.get_linestyle() == "--"] for ax in figure.axes}
    [ax] = [ax for ax, lines in dashed.items() if lines]
    ends = np.concatenate([line.get_xydata()[[0, -1]] for line in dashed[ax]])
    circles = np.concatenate([line.get_xydata() for line in ax.lines if line.get_marker() == "o"])
    assert len(circles) >= theta_accumulation.SHOWN
    for circle in circles[circles[:, 1] != 0]:  # before the last observation a is 0, and there is no curve
        assert np.abs(ends - circle).max(axis=1).min() < 1e-5
    plt.close("all")
