"""Hutchinson's estimates against closed forms, and what a redrawn probe costs, on the figure's own data."""

from itertools import product

import numpy as np
import pytest

from figures import hutchinson
from refode import MLP


@pytest.fixture
def drawn(data):
    return data("hutchinson")


def test_P42_the_dotted_lines_are_the_exact_variances(drawn):
    """By all 64 vectors of signs, equally likely; and by eigenvalues, v S v = sum lambda_i g_i^2 for a normal v."""
    net = MLP([hutchinson.N, 16, hutchinson.N])
    theta, x, S = hutchinson._diagonal_net(net, np.random.default_rng(0))
    unit = np.eye(hutchinson.N)
    J = np.stack([net.jvp(x, 0.5, theta, e, 0.0, np.zeros(net.m)) for e in unit], axis=1)
    signs = np.array(list(product((-1.0, 1.0), repeat=hutchinson.N)))
    exact = np.einsum("ki,ij,kj->k", signs, J, signs)
    assert exact.mean() == pytest.approx(np.trace(J), rel=1e-12)
    assert drawn["trace"] == pytest.approx(np.trace(J), rel=1e-12)
    assert drawn["closed_form"][0] ** 2 * drawn["K"] == pytest.approx(np.var(exact), rel=1e-12)
    by_eigenvalues = 2 * np.sum(np.linalg.eigvalsh((J + J.T) / 2) ** 2)  # Var g² = 2
    assert drawn["closed_form"][1] ** 2 * drawn["K"] == pytest.approx(by_eigenvalues, rel=1e-12)
    assert np.sum(np.diag(S) ** 2) >= hutchinson.SHARE * np.sum(S**2)


def test_P42_the_measured_deviations_are_those_and_signs_have_the_smaller_ones(drawn):
    """A deviation is itself off by sqrt((kurtosis - 1) / 4 count) of it, a mean by deviation / sqrt(count)."""
    off = drawn["deviation"] / drawn["closed_form"] - 1
    assert np.all(np.abs(off) <= 5 * np.sqrt((drawn["kurtosis"] - 1) / (4 * drawn["means"])))
    assert np.all(np.abs(drawn["mean"] - drawn["trace"]) <= 5 * drawn["closed_form"] / np.sqrt(drawn["means"]))
    signs, normal = drawn["deviation"]
    assert np.all(signs < normal)
    ratio = (drawn["closed_form"][0] / drawn["closed_form"][1]) ** 2
    assert ratio.max() <= 1 - hutchinson.SHARE


def test_the_histograms_hold_all_signs_and_cut_the_tails_of_the_normal(drawn):
    mass = drawn["density"] @ np.diff(drawn["edges"])
    assert mass[0] == pytest.approx(1, abs=1e-12)
    assert mass[1] == pytest.approx(0.996, abs=2 / drawn["count"])  # between the quantiles 0.002 and 0.998
    centres = (drawn["edges"][1:] + drawn["edges"][:-1]) / 2
    spread = [
        np.sqrt(density @ ((centres - drawn["trace"]) ** 2 * np.diff(drawn["edges"]))) for density in drawn["density"]
    ]
    assert spread[0] < spread[1] < drawn["closed_form"][1, 0] * 1.05


def test_E40_a_probe_drawn_anew_makes_the_solver_pay_in_inverse_proportion_to_the_tolerance(drawn):
    """A smooth f costs RK45 at most tol^(-1/5). Noise of size s makes a step's error estimate h s, so 1/h ~ 1/tol."""
    assert drawn["power_frozen"] >= -0.2
    assert drawn["frozen"].max() < 50
    assert drawn["done"].tolist() == [1, 1, 1, 0]
    assert drawn["redrawn"][-1] == hutchinson.LIMIT
    assert 0 < drawn["reached"] < 1
    whole = np.append(drawn["redrawn"][:-1], hutchinson.LIMIT / drawn["reached"])  # at the pace that it had
    # 0.8 to 1.2: a decade's factor is 10 up to the noise's own changes along the path
    assert np.all(np.abs(np.diff(np.log10(whole))[1:] - 1) < 0.2)


def test_E40_the_mean_of_log_p_is_exact_and_that_of_p_is_not(drawn):
    """log p-hat is linear in v v', whose mean over all signs is 1; exp is convex, so p-hat's mean is above p."""
    assert drawn["gap"].shape == (2**hutchinson.N,)
    # two solves with rtol 1e-10, in fewer than 1000 steps each, of states of size 1
    assert drawn["bias_log"] <= 1e-7
    assert np.std(drawn["gap"]) > 0.5
    assert drawn["factor"] == pytest.approx(np.mean(np.exp(drawn["gap"])))
    assert drawn["factor"] > 1.5
