"""The three portraits are densities, and the nats below them bound how much they differ."""

import numpy as np
import pytest


@pytest.fixture(params=["kept", "fast"])
def drawn(request, kept, data):
    return kept("image_density") if request.param == "kept" else data("image_density")


def test_P44_P45_each_map_is_a_density(drawn):
    """The points and the picture lie within the frame; a flow may spill a little."""
    counted, flow, picture = drawn["density"].sum(axis=(1, 2)) * drawn["cell"] ** 2
    assert counted == pytest.approx(1, abs=1e-5)  # float32
    # a cell is averaged over 16 points, which misplaces at most the cells at the border of the picture
    assert picture == pytest.approx(1, abs=drawn["cell"])
    assert 0.9 < flow < 1 + drawn["cell"]
    assert drawn["density"].min() >= 0


def test_P26_the_flow_is_better_than_a_gaussian_and_no_better_than_the_truth(kept):
    drawn = kept("image_density")
    assert drawn["gaussian"] + 0.25 < drawn["flow"] < drawn["truth"]


def test_the_score_bounds_the_distance_of_flow_and_picture(drawn):
    """Pinsker: TV(p, q)² ≤ KL/2, and cells can only bring p and q closer; KL is truth − flow up to sampling.

    The standard error of a mean of logs of size 1 is 1/sqrt(held_out); five of them are allowed for.
    """
    _, flow, picture = drawn["density"].astype(float)
    distance = 0.5 * np.abs(flow - picture).sum() * drawn["cell"] ** 2
    divergence = drawn["truth"] - drawn["flow"] + 5 / np.sqrt(drawn["held_out"])
    assert distance < np.sqrt(divergence / 2)
    assert distance > 0.01


def test_the_points_are_as_far_from_the_picture_as_their_number_says(drawn):
    """Counts are Poisson: the mean of |count − n p| over the cells is at most the mean of sqrt(n p)."""
    counted, _, picture = drawn["density"].astype(float)
    n = drawn["points"] * drawn["cell"] ** 2
    assert np.abs(counted - picture).mean() < np.sqrt(picture / n).mean()
