"""D44: the drawn densities integrate to 1, and with the sign of the trace turned they integrate to something else."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

from figures import mass
from refode.finite_difference import COMPLEX_STEP, central_difference, complex_solve


@pytest.fixture
def drawn(data):
    return data("mass")


def test_D56_the_mass_is_one_at_every_time(drawn):
    assert drawn["mass"] == pytest.approx(1, abs=1e-8)  # the solves' 1e-10, grown
    assert trapezoid(drawn["p"], drawn["x"], axis=1) == pytest.approx(drawn["mass"], rel=1e-14)
    assert drawn["p"][:, [0, -1]].max() < 1e-12  # nothing is cut off
    assert np.abs(drawn["p"][-1] - np.interp(drawn["x"][-1], drawn["x"][0], drawn["p"][0])).max() > 0.3  # it moved


def test_D44_its_error_follows_the_tolerance_with_the_right_sign_alone(drawn):
    # a factor of 5 at one end of the eight decades would move the fitted slope by 0.09
    assert drawn["slope"] == pytest.approx(1, abs=0.1)
    assert np.all(drawn["error"] < 10 * drawn["rtol"])
    wrong = drawn["error_wrong"]
    assert np.ptp(wrong) < 3 * drawn["rtol"].max()
    assert wrong.min() > 1 - mass.HIGH - 0.05
    assert mass.LOW < drawn["wrong"] < mass.HIGH


def test_D44_with_the_sign_turned_the_mass_is_the_mean_square_of_the_stretching(drawn):
    """∫ p_0(z_0) (dz_t/dz_0) dz_t = E (dz_t/dz_0)², the derivative by complex step, without a trace."""
    z0 = np.linspace(*mass.REACH[:, 0], 801)[:, None]
    end = complex_solve(mass.FIELD, z0 + 1j * COMPLEX_STEP, drawn["theta"], [0.0, mass.END])[-1]
    stretching = end.imag[:, 0] / COMPLEX_STEP
    expected = trapezoid(np.exp(mass.Mixture().logpdf(z0)) * stretching**2, z0[:, 0])
    assert drawn["wrong"] == pytest.approx(expected, abs=1e-8)


def test_the_paths_carry_the_mass(drawn):
    """Between two paths there is the same mass at both ends."""
    low, high = drawn["paths"][:, 2], drawn["paths"][:, 6]
    between = []
    for x, p, a, b in zip(drawn["x"][[0, -1]], drawn["p"][[0, -1]], low[[0, -1]], high[[0, -1]], strict=True):
        at = np.linspace(a, b, 400)
        between.append(trapezoid(np.interp(at, x, p), at))
    # linear interpolation on steps h is off by h² max|p″|/8 < 0.03² · 10/8 times a length of 3
    assert between[0] == pytest.approx(between[1], abs=3e-3)
    assert 0.2 < between[0] < 0.9


def test_the_base_is_a_density_with_its_score_and_samples():
    base, z = mass.Mixture(), np.linspace(-3, 3, 7)[:, None]
    assert base.score(z)[:, 0] == pytest.approx(
        [central_difference(lambda at: base.logpdf(at), at)[0] for at in z], abs=1e-8
    )
    samples = base.rvs(20_000, 1)
    mean = base.weights @ base.means
    variance = base.weights @ (base.deviations**2 + base.means**2) - mean**2
    assert samples.shape == (20_000, 1)
    assert samples.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / 20_000))
