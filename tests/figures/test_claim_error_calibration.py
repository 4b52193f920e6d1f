"""P23: what is drawn of the error bars is what was measured, and it is as good as the caption says."""

import numpy as np
import pytest

from figures import error_calibration
from figures._calibration import LOST, METHODS, case, study, verdict, worst_stratum
from figures._kept import is_current, kept
from refode import adjoint, solve


@pytest.fixture(scope="module")
def drawn():
    return kept("error_calibration")


@pytest.mark.parametrize("kind", error_calibration.KINDS)
@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize("method", METHODS)
def test_P23_the_kept_study_meets_what_a_calibrated_estimate_must(drawn, method, block, kind):
    m = METHODS.index(method)
    true, estimate = drawn["true"][:, m, block], drawn[kind][:, m, block]
    got = verdict(true, estimate, drawn["rtol"])
    assert got.count >= 980  # of 1000
    assert got.cover >= 0.95
    assert got.share >= 0.75
    assert got.correlation >= 0.7
    assert worst_stratum(true, estimate, drawn)[0] >= 0.9
    assert drawn["covered"] <= 100 * got.cover <= drawn["covered_most"] + 1e-4
    assert drawn["shared"] <= 100 * got.share <= drawn["shared_most"] + 1e-4


def test_the_witness_costs_at_most_half_of_the_gradient_again(drawn):
    """Median of the processor's seconds, the forward solve counted with the gradient."""
    ratio = np.nanmedian(drawn["seconds"][:, :, 1] / drawn["seconds"][:, :, 0], axis=0)
    assert np.all(ratio <= 0.5), dict(zip(METHODS, ratio, strict=True))


def test_the_kept_study_is_that_of_the_code_as_it_stands(drawn):
    """Its first problems, measured again; seconds aside. Rounding differs between machines, and steps with it."""
    assert is_current("error_calibration")
    again = study(error_calibration.FIRST_SEED, 3)
    for key in ("rtol", "gain", "T", "n", "observations", "steps"):
        assert again[key] == pytest.approx(drawn[key][:3], rel=1e-6)
    for key in ("true", "free", "witness"):
        assert np.all(abs(np.log(again[key] / drawn[key][:3])) < 0.7), key


def test_a_verdict_knows_good_estimates_from_bad_ones():
    rng = np.random.default_rng(0)
    rtol = 10.0 ** rng.uniform(-9, -3, 4000)
    true = rtol * 10 ** rng.normal(0, 1, 4000)
    good = verdict(true, true * 10 ** rng.normal(0, 0.3, 4000), rtol)
    assert min(good.cover, good.share) > 0.99
    assert good.correlation > 0.9
    blind = verdict(true, 3 * rtol, rtol * 10 ** rng.normal(0, 1e-6, 4000))  # the tolerance itself
    assert blind.correlation < 0.1
    assert verdict(true, true / 20, rtol).cover == 0
    assert verdict(true, 20 * true, rtol).share == 0
    lost = np.where(np.arange(4000) < 100, [LOST * 2] * 4000, true)
    assert verdict(lost, true, rtol).count <= 3900


def test_the_worst_stratum_is_found():
    """Of twenty problems alike but for n, those with n = 2 are not covered, and those that are lost don't count."""
    true, n = np.full(20, 1e-5), np.repeat([1, 2], 10)
    found = {key: np.full(20, value) for key, value in
             {"solver": 1, "rtol": 1e-5, "gain": 1.2, "T": 3.0, "observations": 2, "steps": 40}.items()}  # fmt: skip
    estimate = np.where(n == 2, 1e-9, 1e-5)
    assert worst_stratum(true, estimate, found | {"n": n}) == (0.0, "n 2", 10)
    true[10:17] = 1.0
    assert worst_stratum(true, estimate, found | {"n": n}) == (0.0, "n 2", 3)


def test_a_problem_is_the_same_whichever_are_drawn_before():
    first, again = case(0, 5), case(0, 5)
    assert np.array_equal(first.theta, again.theta)
    assert not np.array_equal(first.z0, case(1, 5).z0)
    trajectory = solve(first.field, first.z0, first.theta, first.times, method=first.solver, rtol=first.rtol)
    assert adjoint(trajectory, first.dL_dz).error is not None
