"""The gap between the two gradients falls with the solver's order, and one of them has no error but rounding."""

import numpy as np
import pytest

from figures import _demo, otd_gap
from refode import ReconstructionWarning, adjoint
from refode.finite_difference import directional_difference


@pytest.fixture
def drawn(data):
    return data("otd_gap")


@pytest.mark.parametrize(("name", "order"), [("Euler", 1), ("RK4", 4)])
def test_E21_the_gap_falls_with_the_order_of_the_method(drawn, name, order):
    """It is c/N^p + d/N^(p+1) + ..., so its slope is -p + O(1/N), here with a factor of at most 4, and converges."""
    missing = np.diff(np.log2(drawn[f"gap_{name}"])) + order
    assert abs(missing[-1]) <= 4 / drawn[f"N_{name}"][-1]
    assert abs(missing[-1]) < 0.75 * abs(missing[-2])  # near a half, when N doubles
    fitted = drawn["slopes"][list(otd_gap.METHODS).index(name)]
    assert abs(fitted + order) <= np.abs(missing[1 - otd_gap.FITTED :]).max()


def test_E21_backpropagation_is_the_gradient_of_the_steps_and_the_adjoint_is_not(drawn):
    eps = np.finfo(float).eps
    for name in otd_gap.METHODS:
        N, error, gap = (drawn[f"{key}_{name}"] for key in ("N", "error", "gap"))
        # a rounding error in each step, on two ways, grown on the way
        assert np.all(error <= 2 * N * eps * np.exp(_demo.plane(0).measured["growth"]))
        assert np.all(gap > 1e4 * error)


def test_E21_the_gap_is_that_to_a_difference_of_the_loss_that_the_steps_return(drawn):
    """With the solver as a black box: seen from the loss, backpropagation is right and the adjoint off by the gap."""
    demo, N = _demo.plane(0), 4
    v = np.random.default_rng(5).standard_normal(demo.field.m)
    options = {"method": "Euler", "step": (demo.times[1] - demo.times[0]) / N}

    def solved(theta):
        return _demo.Demo(demo.field, theta, demo.z0, demo.times, demo.target, {}).trajectory(**options, keep="steps")

    seen = directional_difference(lambda theta: demo.loss(solved(theta).z[-1]), demo.theta, v, 1e-5)
    there = solved(demo.theta)
    gradient = adjoint(there, demo.cotangent(there.z[-1]), method="discrete")
    through = gradient.theta
    with pytest.warns(ReconstructionWarning):
        back = adjoint(there, demo.cotangent(there.z[-1]), method="backsolve").theta
    size = np.linalg.norm(v) * np.linalg.norm(np.append(gradient.z0, through))
    assert abs(through @ v - seen) <= 1e-8 * size  # h² = 1e-10 times a third derivative, and eps / h
    assert abs(back @ v - seen) > 0.01 * size
    assert drawn["gap_Euler"][0] * size >= abs(back @ v - seen) * (1 - 1e-6)  # one direction shows a part of the gap


def test_E21_the_angle_belongs_to_the_gap(drawn):
    """u at relative distance g < 1 from v makes an angle of at most arcsin g with it."""
    for name in otd_gap.METHODS:
        gap, angle = drawn[f"gap_{name}"], np.radians(drawn[f"angle_{name}"])
        near = gap < 1
        assert np.all(np.sin(angle[near]) <= gap[near] * (1 + 1e-12))
        assert np.all(np.diff(angle) < 0)
    assert drawn["angles"][0] > 30  # few steps of Euler: another direction altogether
