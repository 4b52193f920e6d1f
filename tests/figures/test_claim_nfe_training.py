"""Evaluations rise while the loss stands still; the way back costs what its error control is told, no more."""

from dataclasses import replace

import numpy as np
import pytest

from figures import _demo, nfe_training
from figures.cannot_cross import FLOOR
from refode import solve

STEP = 6  # evaluations of RK45


@pytest.fixture
def drawn(data):
    return data("nfe_training")


def test_nfe_rises_in_training_while_the_loss_rests_on_its_floor(drawn):
    nfev, loss = drawn["nfev"], drawn["loss"]
    assert np.all(np.diff(nfev) >= 0)
    assert nfev[-1] >= 4 * nfev[0]
    assert np.all(loss >= FLOOR)  # an increasing map can do no better
    resting = np.flatnonzero(loss < 1.05 * FLOOR)[0]
    assert resting < len(loss) - 1
    assert nfev[-1] > nfev[resting]


def test_the_run_is_that_of_the_figure_on_crossing_paths(drawn, data):
    theirs = data("cannot_cross")["plain_loss"]
    assert np.array_equal(drawn["loss"], theirs[drawn["iteration"]])


class Counting:
    """A field that counts its evaluations, alone or with their VJPs."""

    def __init__(self, field):
        self.field, self.n, self.m, self.count = field, field.n, field.m, 0

    def __call__(self, *at):
        self.count += 1
        return self.field(*at)

    def linearize(self, *at):
        self.count += 1
        return self.field.linearize(*at)

    def vjp(self, *at):
        return self.linearize(*at[:3])[1](at[3])


def backward(size):
    """A trajectory of the demo net, and the calls of f that the reverse solve takes where |a| is `size` times atol."""
    demo = _demo.plane(0)
    counting = Counting(demo.field)
    options = {"method": "RK45", "atol": nfe_training.ATOL}
    trajectory = replace(demo, field=counting).trajectory(nfe_training.RTOL, **options)
    forth, counting.count = counting.count, 0
    a = demo.cotangent(trajectory.z[-1])[-1]
    told = nfe_training._evaluations_back(trajectory, a / np.abs(a).max() * size * nfe_training.ATOL)
    assert counting.count == told + 1  # f at t1 gives a_t there
    return trajectory, forth, told


@pytest.mark.parametrize("i", [0, -1])
def test_P06_the_ratio_is_one_of_calls(drawn, i):
    _, forth, back = backward(drawn["size"][i])
    assert drawn["ratio"][i] == back / forth


def test_P06_a_small_cotangent_is_carried_back_without_control(drawn):
    """Its errors vanish beside atol, so the steps are those for z alone, in a mean square over all 2 n + 1 + m."""
    trajectory, forth, back = backward(drawn["size"][0])
    demo = _demo.plane(0)
    diluted = np.sqrt((2 * demo.field.n + 1 + demo.field.m) / demo.field.n)
    tolerances = {"rtol": nfe_training.RTOL * diluted, "atol": nfe_training.ATOL * diluted}
    alone = solve(demo.field, trajectory.z[-1], demo.theta, trajectory.times[::-1], **tolerances).nfev
    assert abs(back - alone) <= STEP
    assert back < forth
    below = drawn["size"] <= 0.1 * drawn["knee"]
    assert np.ptp(drawn["ratio"][below]) * forth <= STEP
    far = drawn["size"] >= 100 * drawn["knee"]
    assert np.all(np.diff(drawn["ratio"][far]) * forth >= -STEP)
    assert np.all(drawn["ratio"][far] > drawn["ratio"][0] + 2 * STEP / forth)
    assert drawn["high"] > 2 * drawn["low"]


def test_P06_an_atol_in_units_of_the_cotangent_makes_the_units_of_the_loss_irrelevant(drawn):
    assert drawn["size"][-1] >= 1e12 * drawn["size"][0]
    _, forth, _ = backward(1.0)
    assert np.ptp(drawn["ratio_scaled"]) * forth <= STEP  # rounding may cost or save a step
    assert drawn["scaled"] > drawn["low"]
