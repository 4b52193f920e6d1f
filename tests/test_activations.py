"""σ, σ′ and σ″ against formulas of somebody else and against complex step."""

import pickle
from copy import deepcopy
from inspect import signature

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from refode.activations import ACTIVATIONS, Activation, activation
from refode.finite_difference import complex_step

EPS = np.finfo(float).eps
FORMULAS = {
    "tanh": lambda u: 2 * expit(2 * u) - 1,
    "softplus": lambda u: np.logaddexp(0, u),
    "sine": lambda u: np.imag(np.exp(1j * u)),
    "sigmoid": expit,
    "identity": lambda u: u,
}
every = pytest.mark.parametrize("sigma", ACTIVATIONS.values(), ids=ACTIVATIONS)
arguments = st.floats(-30, 30, allow_subnormal=False)


def derivatives(sigma, u):
    y = sigma.value(u)
    slope = sigma.slope(u, y)
    return y, slope, sigma.curvature(u, y, slope)


@every
def test_a_copy_is_the_activation_itself(sigma):
    assert pickle.loads(pickle.dumps(sigma)) is sigma
    assert deepcopy(sigma) is sigma


def test_one_of_your_own_is_copied_by_its_functions():
    own = Activation("tanh", np.sin, np.cos, np.tan)  # the name of ours, and functions that have names
    assert pickle.loads(pickle.dumps(own)) == deepcopy(own) == own
    assert deepcopy(own) is not own


def test_every_activation_has_a_formula_here():
    assert set(ACTIVATIONS) == set(FORMULAS)


@every
@given(u=arguments)
def test_value(sigma, u):
    # Four roundings or so, of numbers up to max(1, |u|).
    assert abs(sigma.value(np.array(u)) - FORMULAS[sigma.name](u)) <= 8 * EPS * max(1, abs(u))


@every
@given(u=st.lists(arguments, min_size=1))
def test_what_takes_out_writes_there_what_it_returns_without(sigma, u):
    u = np.array(u)
    y, slope, curvature = derivatives(sigma, u)
    for function, inputs, want in (
        (sigma.value, (u,), y),
        (sigma.slope, (u, y), slope),
        (sigma.curvature, (u, y, slope), curvature),
    ):
        if isinstance(function, np.ufunc) or "out" in signature(function).parameters:
            kept, out = [given.copy() for given in inputs], np.full_like(u, np.nan)
            assert function(*inputs, out) is out
            assert np.array_equal(out, want)
            assert all(map(np.array_equal, inputs, kept))


@given(u=arguments)
def test_softplus_keeps_its_relative_accuracy_where_it_is_tiny(u):
    got, want = ACTIVATIONS["softplus"].value(np.array(u)), np.logaddexp(0, u)
    assert abs(got - want) <= 8 * EPS * max(1, abs(u)) * want  # an error eps |u| in the exponent is a relative one


@every
@given(u=arguments)
def test_slope_and_curvature(sigma, u):
    # |σ′| ≤ 1 and |σ″| ≤ 1, so eps is the size of a rounding; a dozen of them.
    _, slope, curvature = derivatives(sigma, np.array(u))
    assert abs(slope - complex_step(sigma.value, u)) <= 16 * EPS
    assert abs(curvature - complex_step(lambda u: sigma.slope(u, sigma.value(u)), u)) <= 16 * EPS


@every
@given(u=arguments, v=st.floats(-1, 1))
def test_derivatives_are_analytic(sigma, u, v):
    """At complex u the slope is the mean of σ over a circle, by Cauchy's formula, and σ″ that of σ′."""
    u, radius, turns = np.array(u + 1j * v), 0.25, np.exp(2j * np.pi * np.arange(64) / 64)
    _, slope, curvature = derivatives(sigma, u)
    y, slopes, _ = derivatives(sigma, u + radius * turns)
    # The nearest singularity, of tanh, is at least ρ = π/2 − 1 from u. Of a double pole 65 (radius/ρ)^64 / ρ³ = 4e-21
    # is aliased, so only roundings are left, of numbers up to 31, divided by the radius.
    tolerance = 16 * EPS * 31 / radius
    assert abs(slope - np.mean(y / (radius * turns))) <= tolerance
    assert abs(curvature - np.mean(slopes / (radius * turns))) <= tolerance


@every
@pytest.mark.parametrize("dtype", [float, complex])
def test_far_away_nothing_overflows(sigma, dtype):
    u = np.array([-1000.0, 1000.0], dtype=dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = derivatives(sigma, u)
    zero, one, far = np.zeros(2), np.ones(2), np.array([-1000.0, 1000.0])
    want = {
        "tanh": ([-1, 1], zero, zero),
        "softplus": ([0, 1000], [0, 1], zero),
        "sine": (np.sin(far), np.cos(far), -np.sin(far)),
        "sigmoid": ([0, 1], zero, zero),
        "identity": (far, one, zero),
    }
    assert np.array_equal(got, want[sigma.name])


@every
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
def test_shapes_and_inputs_stay_as_they_are(sigma, shape):
    u = np.random.default_rng(0).normal(size=shape)
    u.setflags(write=False)
    y = np.array(sigma.value(u))
    y.setflags(write=False)
    for got in (y, sigma.slope(u, y), sigma.curvature(u, y, sigma.slope(u, y))):
        assert np.shape(got) == shape
        assert np.asarray(got).dtype == float


def test_activation_by_name_or_as_it_is():
    for name, sigma in ACTIVATIONS.items():
        assert activation(name) is sigma
        assert sigma.name == name
    mine = Activation("square", lambda u: u * u, lambda u, y: 2 * u, lambda u, y: 2 * np.ones_like(u))
    assert activation(mine) is mine


def test_an_activation_is_immutable():
    with pytest.raises(AttributeError):
        activation("tanh").slope = np.ones_like


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"^activation must be one of tanh, .*; got 'sofplus'; .*'softplus'"):
        activation("sofplus")
