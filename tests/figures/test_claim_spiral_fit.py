"""D02: as many steps as the title says lead from as many points as it says to the spiral that they are from."""

import re

import numpy as np
import pytest

from figures import spiral_fit
from figures.spiral_fit import FIELD, START, TOL
from refode.finite_difference import complex_solve


@pytest.fixture
def drawn(data):
    return data("spiral_fit")


def spiral(t):
    """The closed form: it turns by 1.5 and shrinks by 0.1 a unit of time."""
    return np.exp(-0.1 * t)[:, None] * np.stack([np.cos(1.5 * t), -np.sin(1.5 * t)], axis=1)


def test_the_title_counts_right(drawn):
    steps, count = map(int, re.findall(r"\d+", spiral_fit.CLAIM))
    assert len(drawn["loss"]) - 1 == steps == drawn["iterations"]
    assert len(drawn["observed"]) == count == drawn["count"]


def test_D03_the_points_and_the_truth_are_the_spiral(drawn):
    for t, z in (("times", "observed"), ("t", "truth")):
        assert drawn[z] == pytest.approx(spiral(drawn[t]), abs=1e-7)  # the solve's 1e-9, summed over some 50 steps


def test_D02_the_fit_is_learnt(drawn):
    fit = complex_solve(FIELD, START, drawn["theta"], drawn["times"]).real
    distance = np.sqrt(np.mean(np.sum((fit - spiral(drawn["times"])) ** 2, axis=1)))
    # training knew the path to its tolerance, summed over some ten steps and grown by what the field does with it
    assert distance == pytest.approx(drawn["distance"], abs=100 * TOL)
    assert drawn["distance"] ** 2 == pytest.approx(drawn["loss"][-1])
    assert drawn["distance"] < 0.05  # of a start at distance 1
    assert drawn["loss"][0] > 1000 * drawn["last"]


def test_D02_the_drawn_path_is_the_nets_and_winds_like_the_spiral_between_the_points_too(drawn):
    exact = complex_solve(FIELD, START, drawn["theta"], drawn["t"]).real
    assert drawn["fit"] == pytest.approx(exact, abs=1e-6)
    assert np.linalg.norm(drawn["fit"] - spiral(drawn["t"]), axis=1).max() < 0.1
    angle = np.unwrap(np.arctan2(drawn["fit"][:, 1], drawn["fit"][:, 0]))
    # a path within 0.1 of one at distance 0.55 has its angle within arcsin(0.1/0.55)
    assert angle[-1] - angle[0] == pytest.approx(-1.5 * drawn["end"], abs=np.arcsin(0.1 / 0.55))


def test_the_field_is_known_where_the_path_goes(drawn):
    x, y = np.meshgrid(drawn["side"], drawn["side"])
    truth = np.stack([-0.1 * x + 1.5 * y, -1.5 * x - 0.1 * y])
    f = np.moveaxis(FIELD(np.stack([x, y], axis=-1), 0.0, drawn["theta"]), -1, 0)
    assert drawn["error"] == pytest.approx(np.hypot(*(f - truth)), abs=1e-12)
    assert drawn["near"] < drawn["far"] / 3
    assert drawn["near"] < 0.1 * 1.5  # a tenth of the speed at the start
