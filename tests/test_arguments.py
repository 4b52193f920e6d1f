"""Every refusal, with its message: the argument's name, what came, what was expected."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refode.arguments import LEAST_GAP, count, observation_times, one_of, real_array, tolerance

NAMES = ["RK23", "RK45", "DOP853", "Radau"]


def refused(error, message, function, *args):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        function(*args)


# ---- arrays -------------------------------------------------------------------------------------------------


@given(arrays(float, st.sampled_from([(), (3,), (2, 0), (2, 3)]), elements=st.floats(-9, 9)))
def test_an_array_comes_back_as_a_read_only_copy(value):
    got = real_array("z0", value)
    assert np.array_equal(got, value)
    assert got.shape == value.shape
    assert not np.shares_memory(got, value)
    assert not got.flags.writeable


@pytest.mark.parametrize("value", [[1, 2], (1, 2), np.array([1, 2], np.uint8), np.float32([1, 2]), range(1, 3)])
def test_real_numbers_of_every_kind_become_float64(value):
    got = real_array("z0", value)
    assert got.dtype == np.float64
    assert np.array_equal(got, [1.0, 2.0])


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1j], "complex128"),
        (np.complex64(1), "complex64"),
        (None, "object"),
        ([1.0, None], "object"),
        (10**400, "object"),
        (["1.0"], "<U3"),
        (b"1", "|S1"),
        ([True], "bool"),
        (np.datetime64("2020"), "datetime64[Y]"),
    ],
)
def test_what_is_not_a_real_number_is_refused(value, dtype):
    refused(TypeError, f"theta must hold real numbers, got dtype {dtype}", real_array, "theta", value)


def test_a_ragged_nest_is_refused():
    with pytest.raises(TypeError, match=r"^z0 must be a rectangular array of real numbers: .*inhomogeneous"):
        real_array("z0", [[1.0, 2.0], [3.0]])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0, np.nan, np.inf], "nan at [1]"),
        ([[0.0, 1.0], [2.0, -np.inf]], "-inf at [1, 1]"),
        (np.nan, "nan"),
        (np.inf, "inf"),
    ],
)
def test_what_is_not_finite_is_refused_with_its_index(value, said):
    refused(ValueError, f"z0 must be finite, got {said}", real_array, "z0", value)


@pytest.mark.parametrize(
    ("shape", "wanted", "good", "bad"),
    [
        ((), "()", [()], [(1,), (0,)]),
        ((3,), "(3,)", [(3,)], [(), (2,), (4,), (3, 1), (1, 3)]),
        (("T",), "(T,)", [(0,), (1,), (5,)], [(), (1, 1)]),
        (("B", 2), "(B, 2)", [(0, 2), (4, 2)], [(2,), (2, 3), (1, 4, 2)]),
        ((2, 3), "(2, 3)", [(2, 3)], [(3, 2), (2,), (2, 3, 1)]),
        (("...", 2), "(..., 2)", [(2,), (3, 2), (4, 3, 2), (0, 2)], [(), (3,), (2, 3)]),
        (("...", "n", 2), "(..., n, 2)", [(1, 2), (4, 3, 2)], [(), (2,), (2, 3)]),
    ],
)
def test_shapes(shape, wanted, good, bad):
    for got in good:
        assert real_array("z0", np.zeros(got), shape).shape == got
    for got in bad:
        refused(ValueError, f"z0 must have shape {wanted}, got {got}", real_array, "z0", np.zeros(got), shape)


def test_the_shape_is_named_before_the_values():
    refused(ValueError, "z0 must have shape (2,), got (1,)", real_array, "z0", [np.nan], (2,))


# ---- times --------------------------------------------------------------------------------------------------


def monotone(times):
    return len(set(times)) == len(times) and list(times) in (sorted(times), sorted(times, reverse=True))


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=6, unique=True), st.booleans())
def test_strictly_monotone_times_pass_either_way(times, decreasing):
    times = sorted(times, reverse=decreasing)
    assert np.array_equal(observation_times(times), times)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=4).filter(lambda times: not monotone(times)))
def test_other_times_are_refused(times):
    message = f"times must be strictly increasing or strictly decreasing, got {np.array(times, float)}"
    refused(ValueError, message, observation_times, times)


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        ([], ValueError, "times must hold at least t0, got an empty array"),
        (0.0, ValueError, "times must have shape (T,), got ()"),
        ([[0.0, 1.0]], ValueError, "times must have shape (T,), got (1, 2)"),
        ([0.0, np.nan], ValueError, "times must be finite, got nan at [1]"),
        ([-np.inf, 0.0], ValueError, "times must be finite, got -inf at [0]"),
        ([0j, 1j], TypeError, "times must hold real numbers, got dtype complex128"),
        ([0.0, 1e-101], ValueError, "times must lie at least 1e-100 apart, got [0.e+000 1.e-101]"),
        ([1.0, 1e-101, 0.0], ValueError, "times must lie at least 1e-100 apart, got [1.e+000 1.e-101 0.e+000]"),
        ([-1.5e308, 1.5e308], ValueError, "times must span a finite interval, got -1.5e+308 to 1.5e+308"),
        ([1e308, 0.0, -1e308], ValueError, "times must span a finite interval, got 1e+308 to -1e+308"),
    ],
)
def test_unusable_times_are_refused(times, error, message):
    refused(error, message, observation_times, times)


@pytest.mark.parametrize("times", [[0.0], [0.0, LEAST_GAP], [-8e307, 8e307]])
def test_the_extremes_that_pass(times):
    assert np.array_equal(observation_times(times), times)


# ---- names and numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_known_name_passes(name):
    assert one_of("method", name, iter(NAMES)) == name


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("rk45", "'rk45'; did you mean 'RK45'?"),
        ("DOP", "'DOP'; did you mean 'DOP853'?"),
        ("radau", "'radau'; did you mean 'Radau'?"),
        ("dop", "'dop'; did you mean 'DOP853'?"),
        ("", "''"),
        ("xyz", "'xyz'"),
        (None, "None"),
        (7, "7"),
        (45, "45; did you mean 'RK45'?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(value, said):
    refused(ValueError, f"method must be one of RK23, RK45, DOP853, Radau; got {said}", one_of, "method", value, NAMES)


def test_an_array_of_names_is_no_name():
    message = "method must be one of RK23, RK45, DOP853, Radau; got array(['RK45'], dtype='<U4'); did you mean 'RK45'?"
    refused(ValueError, message, one_of, "method", np.array(["RK45"]), NAMES)


@pytest.mark.parametrize("value", [1e-6, 1, np.float32(0.5), np.array(2.0), 1e-8])
def test_a_tolerance_is_a_float(value):
    got = tolerance("rtol", value, 1e-8)
    assert type(got) is float
    assert got == value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (9e-9, ValueError, "rtol must be at least 1e-08, got 9e-09"),
        (-1.0, ValueError, "rtol must be at least 1e-08, got -1"),
        (np.nan, ValueError, "rtol must be finite, got nan"),
        (np.inf, ValueError, "rtol must be finite, got inf"),
        ([1e-6, 1e-6], ValueError, "rtol must have shape (), got (2,)"),
        ("1e-6", TypeError, "rtol must hold real numbers, got dtype <U4"),
        (None, TypeError, "rtol must hold real numbers, got dtype object"),
        (1e-6j, TypeError, "rtol must hold real numbers, got dtype complex128"),
    ],
)
def test_an_unusable_tolerance_is_refused(value, error, message):
    refused(error, message, tolerance, "rtol", value, 1e-8)


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(1)])
def test_a_count_is_an_int(value):
    got = count("n", value)
    assert type(got) is int
    assert got == value


@pytest.mark.parametrize(
    ("value", "least", "error", "message"),
    [
        (0, 1, ValueError, "n must be at least 1, got 0"),
        (-2, 0, ValueError, "n must be at least 0, got -2"),
        (2, 3, ValueError, "n must be at least 3, got 2"),
        (1.0, 1, TypeError, "n must be a whole number, got 1.0"),
        (True, 1, TypeError, "n must be a whole number, got True"),
        ("3", 1, TypeError, "n must be a whole number, got '3'"),
        (None, 1, TypeError, "n must be a whole number, got None"),
    ],
)
def test_an_unusable_count_is_refused(value, least, error, message):
    refused(error, message, count, "n", value, least)
