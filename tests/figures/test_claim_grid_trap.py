"""A flow that beats the true density on its own grid, and is far below it when it is solved."""

import numpy as np
import pytest


@pytest.fixture(params=["kept", "fast"])
def drawn(request, kept, data):
    return kept("grid_trap") if request.param == "kept" else data("grid_trap")


def test_P26_P45_the_score_on_the_grid_is_above_the_truth_and_the_adaptive_one_below(drawn):
    on_grid, adaptive, sound = drawn["ends"]
    assert on_grid > drawn["truth"] > sound > adaptive
    # no density's expected score exceeds the true one's (Gibbs): what leads by five standard errors is not a density's
    assert drawn["lead"] > 5 * drawn["lead_error"] > 0
    assert drawn["lead"] == pytest.approx(on_grid - drawn["truth"], abs=1e-12)


def test_at_the_start_all_scores_are_one_and_the_flow_is_easy_to_solve(drawn):
    """One flow begins both fits; its field is gentle, so that even a coarse grid solves it."""
    on_grid, adaptive, sound = drawn["score"][:, 0]
    assert adaptive == sound
    assert abs(on_grid - adaptive) < 1e-3
    assert drawn["nfev"][0, 0] == drawn["nfev"][1, 0]
    assert np.all(drawn["nfev_ends"] > drawn["nfev"][:, 0])


def test_the_trapped_flow_is_the_harder_one_to_solve(drawn):
    trapped, sound = drawn["nfev_ends"]
    assert trapped > 1.3 * sound


def test_the_true_density_is_never_beaten_by_an_adaptive_solve(drawn):
    """Up to the sampling error of the difference of two means, of which the sound flow keeps clear."""
    assert drawn["score"][1:].max() < drawn["truth"]
