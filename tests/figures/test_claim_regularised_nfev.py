"""A running cost is lowered by its weight, and the solver's work with it; likelihood is what it is paid with."""

import numpy as np
import pytest


@pytest.fixture(params=["kept", "fast"])
def drawn(request, kept, data):
    return kept("regularised_nfev") if request.param == "kept" else data("regularised_nfev")


def test_the_cost_falls_as_its_weight_grows(drawn):
    """Of exact minimisers of L + wC this is a theorem: add the two inequalities that say each is best at its own w."""
    assert np.all(np.diff(drawn["cost"], axis=1) < 0)
    assert np.all(drawn["cost"] > 0)


def test_both_curves_begin_at_the_same_flow(drawn):
    assert drawn["weight"][0] == 0
    assert np.array_equal(drawn["nfev"][0, 0], drawn["nfev"][1, 0])
    assert np.array_equal(drawn["score"][0, 0], drawn["score"][1, 0])


def test_no_score_beats_the_true_density(drawn):
    assert drawn["score"].max() < drawn["truth"]


def test_the_solver_has_less_to_do(kept):
    """By a quarter at the largest weights; a weight that is larger never asks for more."""
    nfev = kept("regularised_nfev")["nfev"]
    assert np.all(nfev[:, -1] < 3 / 4 * nfev[:, 0])
    assert np.all(np.diff(nfev, axis=1) <= 0)


def test_likelihood_pays_for_it(kept):
    """It falls with the weight, as the fit's own objective does; kinetic energy asks for less than the norm."""
    score = kept("regularised_nfev")["score"]
    assert np.all(np.diff(score, axis=1) < 0)
    assert np.all(score[0, 1:] > score[1, 1:])
