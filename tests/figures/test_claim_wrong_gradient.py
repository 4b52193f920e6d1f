"""The corrected likelihood equation climbs, the printed one descends, and Theorem 1 read literally does too."""

import numpy as np
import pytest


@pytest.fixture(params=["kept", "fast"])
def drawn(request, kept, data):
    return kept("wrong_gradient") if request.param == "kept" else data("wrong_gradient")


def test_E48_E51_D62_only_the_corrected_run_climbs(drawn):
    corrected, printed, literal = drawn["score"]
    assert corrected[0] == printed[0] == literal[0]  # one start
    assert corrected[-1] > corrected[0] + 0.5
    assert printed[-1] < printed[0] - 1
    assert literal[-1] < literal[0] - 1
    assert printed[-1] < literal[-1]
    assert np.array_equal(drawn["ends"], drawn["score"][:, -1])


def test_P26_the_whole_corrected_run_beats_the_best_single_gaussian(kept):
    drawn = kept("wrong_gradient")
    assert drawn["ends"][0] > drawn["gaussian"] + 0.5
    assert drawn["ends"][1:].max() < drawn["gaussian"]


def test_the_maps_are_densities(drawn):
    """Not negative, and with no more than all mass in the window, by the rectangle rule; the corrected one has most."""
    masses = drawn["density"].sum(axis=(1, 2)) * np.diff(drawn["side"])[0] ** 2
    assert drawn["density"].min() >= 0
    assert masses[0] > 0.8
    assert masses.max() < 1.1
