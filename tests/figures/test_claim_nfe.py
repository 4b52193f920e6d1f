"""Evaluations are counted another way, grow with the power that the order says, and buy what they should."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import RK45

from figures import _demo, nfe
from refode.finite_difference import complex_solve


@pytest.fixture
def drawn(data):
    return data("nfe")


class Counting:
    """A field that counts its evaluations."""

    def __init__(self, field):
        self.field, self.n, self.m, self.count = field, field.n, field.m, 0

    def __call__(self, *at):
        self.count += 1
        return self.field(*at)


@pytest.mark.parametrize("name", nfe.METHODS)
def test_nfe_are_evaluations_of_f_and_not_steps(drawn, name):
    demo = _demo.plane(0)
    tol, nfev = drawn[f"tol_{name}"], drawn[f"nfev_{name}"]
    for i in (0, 3):
        counting = Counting(demo.field)
        steps = replace(demo, field=counting).trajectory(tol[i], method=name).n_steps
        assert counting.count == nfev[i]
        assert nfev[i] > 2 * steps


def test_P03_evaluations_grow_like_tol_to_the_minus_one_over_q(drawn):
    """The estimate of a step is O(h^q), q = 3, 5, 8, so h ~ tol^(1/q) (1 + O(h)) and evaluations ~ 1/h.

    The exponent is off by the O(h) over the fitted decades: 20 % more or fewer over four of them are 0.02; the two
    evaluations for the first step, and a step too many at the end, make DOP853's few steps 0.01 worse.
    """
    assert -drawn["powers"] == pytest.approx([1 / 3, 1 / 5, 1 / 8], abs=0.03)
    assert np.all(np.diff(drawn["powers"]) > 0)
    tightest = [drawn[f"nfev_{name}"][6] for name in nfe.METHODS]  # all three at 1e-9
    assert tightest[0] > 5 * tightest[1]
    assert tightest[1] > tightest[2]


def test_P19_what_they_buy_is_an_error_of_the_size_of_the_tolerance(drawn):
    demo = _demo.plane(0)
    exact = complex_solve(demo.field, demo.z0, demo.theta, demo.times)[-1]  # DOP853 at 1e-13, by another code
    growth = np.exp(demo.measured["growth"])
    for name in nfe.METHODS:
        tol, error = drawn[f"tol_{name}"], drawn[f"error_{name}"]
        assert np.all(np.diff(error) < 0)
        assert np.all(error <= tol * growth)  # a step may err by the tolerance; the steps' errors have either sign
        z = demo.trajectory(tol[2], method=name).z[-1]
        assert error[2] == pytest.approx(np.linalg.norm(z - exact), abs=1e-12 * growth)
    assert drawn["least"] > 0.02
    assert drawn["most"] < 10


def test_the_rug_shows_accepted_steps_each_within_its_tolerance(drawn):
    """Each stands alone: its error by the embedded formula, from six slopes taken anew, is below the tolerance."""
    demo = _demo.plane(0)
    for i, tol in enumerate(nfe.RUGS):
        at = drawn[f"steps_{i}"]
        assert (at[0], at[-1]) == demo.times
        assert (drawn[f"taken_{i}"] - 2) % 6 == 0  # six for a step, tried or accepted, and two for the first one's size
        assert drawn[f"taken_{i}"] >= 2 + 6 * (len(at) - 1)
        kept = demo.trajectory(tol, method="RK45", keep="steps")
        for t, h, z, z_next in zip(at, np.diff(at), kept.step_z, kept.step_z[1:], strict=False):
            error, end = _embedded_error(demo, t, h, z)
            assert end == pytest.approx(z_next, rel=1e-12)
            allowed = tol * (1e-2 + np.maximum(np.abs(z), np.abs(z_next)))
            assert np.sqrt(np.mean((error / allowed) ** 2)) < 1


def _embedded_error(demo, t, h, z):
    """The difference of the two formulas of RK45 over one step, and the state at its end."""
    K = np.zeros((7, len(z)))
    for s, (c, row) in enumerate(zip(RK45.C, RK45.A, strict=True)):
        K[s] = demo.field(z + h * row[:s] @ K[:s], t + c * h, demo.theta)
    end = z + h * RK45.B @ K[:6]
    K[6] = demo.field(end, t + h, demo.theta)
    return h * RK45.E @ K, end


def test_the_steps_are_short_where_the_speed_is_high(drawn):
    at = drawn[f"steps_{len(nfe.RUGS) - 1}"]
    middle, h = (at[1:] + at[:-1]) / 2, np.diff(at)
    speed = np.interp(middle, drawn["t"], drawn["speed"])
    inner = slice(2, -1)  # the first steps feel their way, and the last one is cut at the end
    fast = speed > (speed.min() + speed.max()) / 2
    assert h[inner][fast[inner]].mean() < 0.75 * h[inner][~fast[inner]].mean()
    demo = _demo.plane(0)
    length = np.linalg.norm(np.diff(demo.trajectory(keep="steps", rtol=1e-8).step_z, axis=0), axis=1).sum()
    integral = np.sum((drawn["speed"][1:] + drawn["speed"][:-1]) / 2 * np.diff(drawn["t"]))
    assert integral == pytest.approx(length, rel=0.01)  # chords are shorter than their arcs by (turning)²/24 each
