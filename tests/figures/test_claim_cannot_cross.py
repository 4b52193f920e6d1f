"""P33: solutions are unique, so on a line they keep their order, and no network gets below the floor."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import isotonic_regression
from scipy.spatial.distance import pdist

from figures.cannot_cross import FLOOR, HIDDEN, TOL, X
from refode import MLP, solve

# A path is off by its tolerance in every step, some ten, and errors grow by less than e² in these fields.
SLACK = 100 * TOL


@pytest.fixture
def drawn(data):
    return data("cannot_cross")


def test_P33_the_floor_is_the_loss_of_the_best_increasing_map():
    best = isotonic_regression(-X[:, 0]).x
    assert np.mean((best + X[:, 0]) ** 2) == pytest.approx(FLOOR, rel=1e-14)
    assert Fraction(FLOOR) == Fraction(15, 32) == sum(Fraction(x) ** 2 for x in X[:, 0]) / len(X)


def test_P33_no_iteration_in_one_dimension_gets_below_the_floor(drawn):
    assert drawn["floor"] == FLOOR
    assert drawn["plain_loss"].min() >= FLOOR - SLACK
    assert drawn["plain_end"] == pytest.approx(FLOOR, rel=0.02)  # it does come down to it
    assert drawn["plain_loss"][0] > 1.5 * FLOOR


@pytest.mark.parametrize("seed", range(10))
def test_P33_nor_does_any_other_network(seed):
    field, rng = MLP([1, HIDDEN, 1]), np.random.default_rng(seed)
    theta = field.init(rng, 2.0)
    end = solve(field, X, theta, [0, 1], method="DOP853", rtol=1e-10, atol=1e-10).z[-1]
    assert np.mean((end + X) ** 2) >= FLOOR
    assert np.all(np.diff(end[:, 0]) > 0)


def test_P33_paths_on_the_line_keep_their_order_and_in_the_plane_they_change_it(drawn):
    plain, augmented = drawn["plain_paths"][..., 0], drawn["augmented_paths"]
    assert np.diff(plain, axis=1).min() > -SLACK
    assert np.all(np.diff(augmented[0, :, 0]) > 0)
    assert np.all(np.diff(augmented[-1, :, 0]) < 0)
    apart = min(pdist(state).min() for state in augmented)  # they pass, and never meet
    assert apart > 0.01


def test_P35_one_more_dimension_reaches_the_targets(drawn):
    assert drawn["augmented_end"] < FLOOR / 100
    assert len(drawn["augmented_loss"]) == len(drawn["plain_loss"]) == drawn["iterations"] + 1
    for name in ("plain", "augmented"):
        start, end = drawn[f"{name}_paths"][[0, -1]]
        assert np.array_equal(start[:, :1], X)
        assert not start[:, 1:].any()
        # the loss is that of the drawn paths; both solves end at the same tolerance
        assert np.mean((end[:, :1] + X) ** 2) == pytest.approx(drawn[f"{name}_end"], abs=SLACK)


def test_P33_the_drawn_paths_solve_the_ode(drawn):
    plain, wider = MLP([1, HIDDEN, 1]), MLP([2, HIDDEN, 2])
    for name, field in (("plain", plain), ("augmented", wider)):
        theta, start = drawn[f"{name}_theta"], drawn[f"{name}_paths"][0]
        exact = solve(field, start, theta, drawn["t"], method="DOP853", rtol=1e-11, atol=1e-11).z
        assert drawn[f"{name}_paths"] == pytest.approx(exact, abs=SLACK)
