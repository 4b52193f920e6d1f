"""Differences, complex step and the complex solve, against functions whose derivatives are known."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from refode.finite_difference import (
    central_difference,
    complex_solve,
    complex_step,
    directional_complex_step,
    directional_difference,
    richardson,
    slope,
)

EPS = np.finfo(float).eps
TOL = 1e-13  # rtol and atol of complex_solve
STEPS = 100  # more steps than any solve here takes: the tolerance of a solve is STEPS · TOL · its amplification

integers = st.integers(-8, 8)
# Integers and a dyadic step: every operation on such polynomials is exact in float64.
dyadic = st.sampled_from([1.0, 0.5, 0.25])


# ---- central differences ------------------------------------------------------------------------------------


@given(st.lists(integers, min_size=4, max_size=4), integers, dyadic)
def test_a_cubic_has_exactly_the_error_h2_f3_over_6(c, x, h):
    derivative = c[1] + 2 * c[2] * x + 3 * c[3] * x**2
    got = central_difference(lambda x: c[0] + c[1] * x + c[2] * x**2 + c[3] * x**3, x, step=h)
    assert got == derivative + c[3] * h**2


@pytest.mark.parametrize("derivative", [central_difference, complex_step, lambda f, x: richardson(f, x, 0.125)])
@pytest.mark.parametrize("x_shape", [(), (1,), (3,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("f_shape", [(), (4,), (2, 1)])
def test_outputs_come_first_then_inputs(derivative, x_shape, f_shape):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((*f_shape, *x_shape))
    x = rng.standard_normal(x_shape)
    axes = tuple(range(len(f_shape), len(f_shape) + len(x_shape)))
    got = derivative(lambda x: np.sum(A * x, axis=axes), x)
    assert got.shape == f_shape + x_shape
    # Rounding eps |f| / h with |f| below 20 and the smallest h, eps^(1/3).
    assert np.allclose(got, A, rtol=0, atol=20 * EPS ** (2 / 3))


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=4), st.booleans())
def test_the_default_step_suits_the_scale_of_each_entry(exponents, negative):
    x = 10.0 ** np.array(exponents) * (-1 if negative else 1)
    got = np.diagonal(central_difference(lambda x: x**3, x))
    # Truncation h² and rounding 2 eps|x|³/h for h = eps^(1/3) max(1, |x|): both eps^(2/3) max(1, |x|)² at most.
    assert np.all(np.abs(got - 3 * x**2) <= 3 * EPS ** (2 / 3) * np.maximum(1, np.abs(x)) ** 2)


def test_a_step_for_each_entry():
    got = central_difference(lambda x: x**3, [2.0, 2.0], step=[1.0, 0.5])
    assert np.array_equal(got, np.diag([12 + 1.0, 12 + 0.25]))


def test_complex_values_of_a_real_argument():
    got = central_difference(lambda x: np.exp(1j * x), 0.3, step=2.0**-17)
    assert abs(got - 1j * np.exp(0.3j)) <= 2.0**-34  # h²/6 and eps/h


def test_a_scalar_stays_a_scalar_and_x_is_not_changed():
    seen = []
    central_difference(lambda x: seen.append(np.ndim(x)) or 0.0, 1)
    assert seen == [0, 0]
    x = np.array([1.0, 2.0])
    central_difference(np.sin, x)
    complex_step(np.sin, x)
    assert np.array_equal(x, [1.0, 2.0])


@pytest.mark.parametrize("derivative", [central_difference, complex_step])
def test_unusable_arguments_are_refused(derivative):
    with pytest.raises(TypeError, match="x must be real, got dtype complex128"):
        derivative(np.sin, 1j)
    with pytest.raises(TypeError, match="x must be real, got dtype object"):
        derivative(np.sin, np.array([None]))
    with pytest.raises(ValueError, match="x must be finite"):
        derivative(np.sin, [1.0, np.nan])
    for step in (0.0, -1.0, [1.0, 1.0]):
        with pytest.raises(ValueError, match="step must be positive"):
            derivative(np.sin, [1.0, 2.0, 3.0], step)
    with pytest.raises(ValueError, match="step must be finite"):
        derivative(np.sin, 1.0, np.inf)


# ---- complex step -------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=5))
def test_complex_step_is_exact_to_rounding(x):
    x = np.array(x)
    # d/dx_j of e^{sin x_i} x_{i+1}: a full row of two entries, so that a transposed result is seen.
    roll = np.eye(len(x))[np.r_[1 : len(x), 0]]
    want = np.diag(np.exp(np.sin(x)) * np.cos(x) * np.roll(x, -1)) + np.exp(np.sin(x))[:, None] * roll
    got = complex_step(lambda x: np.exp(np.sin(x)) * np.roll(x, -1), x)
    # Each entry is a sum of at most two products of size 3e, a few roundings each.
    assert np.allclose(got, want, rtol=0, atol=3 * np.e * 2 * 8 * EPS)


def test_complex_step_where_differences_cancel():
    want = np.exp(1e-9) / 1e9  # e^{x/1e9} changes in the ninth digit only
    assert abs(complex_step(lambda x: np.exp(x / 1e9), 1.0) / want - 1) <= 4 * EPS


def test_a_function_that_ignores_x_has_derivative_zero():
    assert np.array_equal(complex_step(lambda x: np.ones(3), [1.0, 2.0]), np.zeros((3, 2)))


# ---- directional derivatives --------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(-6, 6))
def test_directional_derivatives_are_the_jacobian_times_v(seed, n, exponent):
    rng = np.random.default_rng(seed)
    x, v, A = rng.standard_normal(n), rng.standard_normal(n) * 10.0**exponent, rng.standard_normal((3, n))

    def f(x):
        return np.sin(A @ x)

    want = (np.cos(A @ x)[:, None] * A) @ v
    scale = np.max(np.abs(A)) * n * max(np.max(np.abs(v)), 1e-300)
    # h moves x_i by at most u = eps^(1/3) max(1, |x_i|), A x by at most s = n |A| u max(1, |x|): truncation is
    # s²/6 of the derivative's scale, rounding eps over s of it; the sine's argument rounds by eps |A x|.
    wide = max(1, np.max(np.abs(x)))
    s = n * np.max(np.abs(A)) * EPS ** (1 / 3) * wide
    rounding = EPS * (1 + n * np.max(np.abs(A)) * wide) * 4 / EPS ** (1 / 3) / (n * np.max(np.abs(A)))
    assert np.max(np.abs(directional_difference(f, x, v) - want)) <= scale * (s**2 / 6 + rounding)
    exact = 16 * n * EPS * (1 + n * np.max(np.abs(A)) * wide)
    assert np.max(np.abs(directional_complex_step(f, x, v) - want)) <= scale * exact


@given(st.lists(integers, min_size=2, max_size=2), st.lists(integers, min_size=2, max_size=2), dyadic)
def test_a_quadratic_has_no_truncation_error(x, v, h):
    x, v = np.array(x), np.array(v)
    got = directional_difference(lambda x: x[0] ** 2 + 3 * x[0] * x[1], x, v, step=h)
    assert got == (2 * x[0] + 3 * x[1]) * v[0] + 3 * x[0] * v[1]


@given(st.floats(-6, 6), st.floats(-6, 6))
def test_the_default_step_along_a_direction_suits_the_scale_of_x(exponent, speed):
    x, v = np.array([10.0**exponent, 0.0]), np.array([10.0**speed, 0.0])
    got = directional_difference(lambda x: x[0] ** 3, x, v)
    wide = np.maximum(1, x[0])  # as for the entries of a gradient
    assert abs(got - 3 * x[0] ** 2 * v[0]) <= 3 * EPS ** (2 / 3) * wide**2 * v[0]


def test_the_direction_zero_has_derivative_zero():
    assert np.array_equal(directional_difference(np.sin, [1.0, 2.0], [0.0, 0.0]), [0.0, 0.0])
    assert np.array_equal(directional_complex_step(np.sin, [1.0, 2.0], [0.0, 0.0]), [0.0, 0.0])


@pytest.mark.parametrize("derivative", [directional_difference, directional_complex_step])
def test_v_has_the_shape_of_x(derivative):
    with pytest.raises(ValueError, match=r"v must have the shape of x, \(2,\), got \(3,\)"):
        derivative(np.sin, [1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="v must be real"):
        derivative(np.sin, [1.0], [1j])


# ---- Richardson and the measured order ----------------------------------------------------------------------


@given(st.integers(1, 4), st.lists(integers, min_size=9, max_size=9), st.floats(-1, 1))
def test_levels_are_exact_for_polynomials_of_twice_the_degree(levels, coefficients, x):
    p = np.polynomial.Polynomial(coefficients[: 2 * levels + 1])
    # Values up to 8 · 9 · 1.5^8 over the smallest step 1/16, the table's weights at most 2.
    assert abs(richardson(p, x, 0.5, levels) - p.deriv()(x)) <= 2 * 16 * EPS * 8 * 9 * 1.5**8


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_levels_have_twice_the_order(levels):
    steps = 0.8 / 2 ** np.arange(4)
    errors = [abs(richardson(np.exp, 0.3, h, levels) - np.exp(0.3)) for h in steps]
    # The next term of the series is h² times smaller: it bends the slope by less than 0.8² / 10.
    assert abs(slope(steps, errors) - 2 * levels) <= 0.064


def test_three_levels_unless_told_otherwise():
    assert richardson(np.exp, 0.3, 0.5) == richardson(np.exp, 0.3, 0.5, levels=3)


def test_no_level_is_refused():
    with pytest.raises(ValueError, match="levels must be at least 1, got 0"):
        richardson(np.sin, 1.0, 0.1, 0)


@given(
    st.floats(-4, 4),
    st.floats(1e-6, 1e6),
    st.lists(st.integers(-20, 20), min_size=2, max_size=8, unique=True),
)
def test_the_slope_of_a_power_is_its_exponent(p, C, exponents):
    h = 2.0 ** np.array(exponents)
    assert abs(slope(h, C * h**p) - p) <= 1e-12  # the logarithms are of size 100 at most


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=3, max_size=6, unique_by=lambda x: x[0]))
def test_the_slope_is_the_least_squares_one(points):
    h, error = np.array(points).T
    log_h = np.log(h)
    if np.ptp(log_h) > 0.1:
        assert abs(slope(h, error) - np.polyfit(log_h, np.log(error), 1)[0]) <= 1e-9


@pytest.mark.parametrize(
    ("h", "error", "message"),
    [
        ([1.0], [1.0], "at least two distinct h"),
        ([], [], "at least two distinct h"),
        ([1.0, 1.0], [1.0, 2.0], "at least two distinct h"),
        ([1.0, 0.5], [1.0], "an error for each"),
        ([[1.0, 0.5]], [[1.0, 0.5]], "at least two distinct h"),
        ([1.0, 0.5], [1.0, 0.0], "error is"),
        ([1.0, 0.5], [1.0, -1.0], "error is"),
        ([1.0, 0.5], [1.0, np.nan], "error is"),
        ([1.0, 0.5], [np.inf, 1.0], "error is"),
        ([1.0, 0.0], [1.0, 1.0], "h is"),
        ([1.0, -0.5], [1.0, 1.0], "h is"),
    ],
)
def test_what_has_no_slope_is_refused(h, error, message):
    with pytest.raises(ValueError, match=message):
        slope(h, error)


# ---- the complex solve --------------------------------------------------------------------------------------


def linear(z, t, theta):
    n = z.shape[-1]
    return z @ theta.reshape(n, n).T


def complex_normal(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(2,), (3,), (4, 2), (2, 2, 3)]), st.sampled_from(["RK45", "DOP853"]))
def test_a_linear_field_with_everything_complex(seed, shape, method):
    rng = np.random.default_rng(seed)
    n = shape[-1]
    z0, A = complex_normal(rng, *shape), complex_normal(rng, n, n)
    A /= np.linalg.norm(A, 2)
    times = complex_normal(rng, 4) * 0.5
    tol = TOL if method == "DOP853" else 1e-9
    z = complex_solve(linear, z0, A.reshape(-1), times, method=method, rtol=tol, atol=tol)
    assert z.shape == (4, *shape)
    assert np.array_equal(z[0], z0)
    # With |A| = 1 the amplification is e^(length of the path).
    length = np.sum(np.abs(np.diff(times)))
    for t, z_t in zip(times, z, strict=True):
        want = z0 @ expm(A * (t - times[0])).T
        bound = STEPS * tol * np.exp(length) * (1 + np.max(np.abs(z0)) * np.exp(length))
        assert np.max(np.abs(z_t - want)) <= bound


@settings(deadline=None, max_examples=25)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.booleans())
@example(1.0, 0.0, 8.7e-167, False)  # underflows in the solver's error estimate
def test_time_enters_the_field_where_it_should(t0, t1, theta, complex_times):
    times = np.array([t0 + 0.3j, t1 - 0.2j] if complex_times else [t0, t1])

    def field(z, t, theta):
        return theta * np.cos(t) * z

    want = 2.0 * np.exp(theta * (np.sin(times[1]) - np.sin(times[0])))
    got = complex_solve(field, [2.0], [theta], times)[-1, 0]
    assert np.iscomplexobj(got) == complex_times
    assert abs(got - want) <= STEPS * TOL * 2 * np.exp(2 * 2 * 1.1)  # |∫θ cos| ≤ 2 · 1.1


@pytest.mark.parametrize("span", [(0.2, 1.3), (1.3, 0.2), (0.5, 0.5)])
def test_complex_step_in_both_ends_of_the_span(span):
    rng = np.random.default_rng(3)
    z0, A = rng.standard_normal(3), rng.standard_normal((3, 3)) / 3

    def field(z, t, theta):
        return (1 + t) * linear(z, t, theta)

    def end(times):
        return complex_solve(field, z0, A.reshape(-1), times)[-1]

    dz_dt0, dz_dt1 = complex_step(end, span).T
    t0, t1 = span
    grown = expm(A * ((t1 - t0) + (t1**2 - t0**2) / 2))
    assert np.max(np.abs(dz_dt1 - (1 + t1) * A @ grown @ z0)) <= STEPS * TOL * 10
    assert np.max(np.abs(dz_dt0 + (1 + t0) * A @ grown @ z0)) <= STEPS * TOL * 10


def test_complex_step_in_z0_and_theta_is_the_derivative_of_expm():
    rng = np.random.default_rng(4)
    z0, A = rng.standard_normal(2), rng.standard_normal((2, 2))
    by_z0 = complex_step(lambda z0: complex_solve(linear, z0, A.reshape(-1), [0, 1])[-1], z0)
    assert np.max(np.abs(by_z0 - expm(A))) <= STEPS * TOL * np.exp(np.linalg.norm(A, 2))
    by_theta = complex_step(lambda theta: complex_solve(linear, z0, theta, [0, 1])[-1], A.reshape(-1))
    want = richardson(lambda theta: expm(theta.reshape(2, 2)) @ z0, A.reshape(-1), 2.0**-4, 4)
    # h^8 / 8! times the ninth derivative of expm, and rounding eps / (h/8).
    assert np.max(np.abs(by_theta - want)) <= 1e-11


def test_real_in_real_out_and_equal_neighbours():
    z = complex_solve(linear, [1.0, 2.0], np.zeros(4), [0, 0, 1, 1])
    assert z.dtype == float
    assert np.array_equal(z, np.tile([1.0, 2.0], (4, 1)))
    assert complex_solve(linear, [1, 2], np.zeros(4), [0]).dtype == float


def test_nothing_to_solve():
    def never(z, t, theta):
        raise AssertionError("the field was called")

    assert np.array_equal(complex_solve(never, [1.0], [], [2, 2, 2]), np.ones((3, 1)))
    assert complex_solve(never, np.zeros((2, 0)), [], [0, 1]).shape == (2, 2, 0)


def test_the_smallest_rtol_is_one_that_scipy_keeps():
    z = complex_solve(linear, [1.0], [1.0], [0, 1], rtol=100 * EPS, atol=1e-14)  # warnings are errors here
    assert abs(z[-1, 0] - np.e) <= 1e-13
    with pytest.raises(ValueError, match="rtol must be at least 100 eps"):
        complex_solve(linear, [1.0], [1.0], [0, 1], rtol=99 * EPS)


def test_a_solve_that_stops_says_where():
    with pytest.raises(RuntimeError, match=r"the solve from t = 0\.0 to 2\.0 stopped"):
        complex_solve(lambda z, t, theta: z * z, [1.0], [], [0.0, 2.0])
    with pytest.raises(RuntimeError, match=r"field is not finite at t = 0\.0"):
        complex_solve(lambda z, t, theta: z * np.nan, [1.0], [], [0.0, 2.0])
    with pytest.raises(RuntimeError, match="field is not finite at t = "):
        complex_solve(lambda z, t, theta: z if t < 0.5 else z * np.inf, [1.0], [], [0.0, 2.0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "LSODA"}, "method must be one of RK45, DOP853, got 'LSODA'"),
        ({"method": "Radau"}, "method must be one of"),
        ({"rtol": 1e-15}, "rtol must be at least 100 eps"),
        ({"rtol": np.nan}, "rtol must be at least 100 eps"),
        ({"z0": 1.0}, r"got \(\), \(1,\), \(2,\)"),
        ({"theta": 1.0}, r"got \(1,\), \(\), \(2,\)"),
        ({"times": [[0.0, 1.0]]}, r"got \(1,\), \(1,\), \(1, 2\)"),
        ({"times": []}, r"got \(1,\), \(1,\), \(0,\)"),
    ],
)
def test_unusable_arguments_of_the_solve(changed, message):
    arguments = {"z0": [1.0], "theta": [1.0], "times": [0.0, 1.0]} | changed
    with pytest.raises(ValueError, match=message):
        complex_solve(linear, arguments.pop("z0"), arguments.pop("theta"), arguments.pop("times"), **arguments)
