"""The forward solve against closed forms; what it keeps, what it costs, and what it refuses."""

import tracemalloc
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import BDF, LSODA, RK45, Radau
from scipy.linalg import expm
from scipy.sparse import issparse

from refode import MLP, RK4, CubicSpiral, Linear, Pendulum, SolveError, VanDerPol, jacobian, solve
from refode.finite_difference import complex_step
from refode.integrate import METHODS
from refode.testing import batches, fields, times

ADAPTIVE = ["RK23", "RK45", "Tsit5", "DOP853", "Radau", "BDF", "LSODA"]
EXPLICIT = ["RK23", "RK45", "Tsit5", "DOP853", "Euler", "RK4"]
OPTIONS = {"Euler": {"step": 0.1}, "RK4": {"step": 0.1}}
SWING = (Pendulum(), [1.0, 0.5], [1.3, 0.1])
every_method = pytest.mark.parametrize("method", METHODS)
every_adaptive_method = pytest.mark.parametrize("method", ADAPTIVE)
seeds = st.integers(0, 2**32 - 1)
some = settings(max_examples=max(5, settings().max_examples // 5))  # of the profile's: for what is expensive


def swing(at, method="RK45", **options):
    return solve(*SWING, at, method=method, **OPTIONS.get(method, {}) | options)


class Seasons:
    """ż = θ cos(t) z, whose solution is z0 exp(θ (sin t − sin t0)): a field that depends on time."""

    n = m = 1

    def __call__(self, z, t, theta):
        return theta * np.cos(t) * z

    def vjp(self, z, t, theta, a):
        return a * theta * np.cos(t), -np.sum(a * theta * np.sin(t) * z), np.array([np.sum(a * np.cos(t) * z)])


# ---- closed forms ----------------------------------------------------------------------------------------------------


@every_adaptive_method
@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
@some
@given(seed=seeds, backward=st.booleans())
def test_a_linear_field_against_expm(method, rtol, seed, backward):
    rng = np.random.default_rng(seed)
    A, z0 = rng.normal(size=(2, 2)), rng.normal(size=2)
    t = 0.3 + np.array([0.0, 0.4, 0.9, 1.2]) * (-1 if backward else 1)
    got = solve(Linear(2), z0, A.ravel(), t, method=method, rtol=rtol, atol=1e-2 * rtol)
    want = np.array([expm(A * (s - t[0])) @ z0 for s in t])
    # A step errs by rtol |z| + atol at most, and the flow carries that on with a factor of e^{∫‖A‖} at most.
    largest = np.linalg.norm(want, axis=1).max()
    allowed = got.n_steps * rtol * (largest + 1e-2) * np.exp(np.linalg.norm(A, 2) * 1.2)
    assert np.linalg.norm(got.z - want, axis=1).max() <= allowed
    assert np.array_equal(got.z[0], z0)


@every_adaptive_method
@pytest.mark.parametrize("t", [[-0.5, 1.0, 4.0], [4.0, 1.0, -0.5]])
def test_a_field_that_depends_on_time_against_its_closed_form(method, t):
    got = solve(Seasons(), [[1.0], [-2.0]], [0.8], t, method=method, rtol=1e-8, atol=1e-10)
    want = np.array([[1.0], [-2.0]]) * np.exp(0.8 * (np.sin(t) - np.sin(t[0])))[:, None, None]
    # At most some thousand steps (RK23) of 1e-8 (|z| + 0.01), |z| ≤ 7, carried on by e^{0.8 · 2}.
    assert abs(got.z - want).max() <= got.n_steps * 1e-8 * 7 * 5


@every_method
def test_a_batch_is_its_samples(method):
    z0 = np.random.default_rng(0).normal(size=(2, 3, 2))
    t, options = [0.0, 0.7, 1.5], {"rtol": 1e-8, "atol": 1e-10} | OPTIONS.get(method, {})
    batch = solve(Pendulum(), z0, [1.3, 0.1], t, method=method, **options)
    assert batch.z.shape == (3, 2, 3, 2)
    for index in np.ndindex(2, 3):
        single = solve(Pendulum(), z0[index], [1.3, 0.1], t, method=method, **options)
        # The batch controls the root mean square of six samples, so that one may err √6 times as much as alone.
        allowed = 1e-14 if method in OPTIONS else 4 * (batch.n_steps + single.n_steps) * 1e-8
        assert abs(batch.z[:, *index] - single.z).max() <= allowed


@given(fields().flatmap(lambda pair: st.tuples(st.just(pair), batches(pair[0].n))), times())
def test_solving_there_and_back_again(pair_and_z0, t):
    (field, theta), z0 = pair_and_z0
    span = t[-1] - t[0]
    t = t[0] + (t - t[0]) * min(1.0, 0.3 / abs(span))  # short, so that nothing blows up
    there = solve(field, z0, theta, t, rtol=1e-9, atol=1e-11)
    back = solve(field, there.z[-1], theta, t[::-1], rtol=1e-9, atol=1e-11)
    assert np.allclose(back.z[::-1], there.z, rtol=1e-5, atol=1e-7)


# ---- what it costs ---------------------------------------------------------------------------------------------------

READING = {"DOP853": 3, "RK4": 1}  # evaluations that the interpolant of one step adds


@every_method
def test_more_observations_cost_no_evaluations_but_the_interpolants_own(method):
    t = np.linspace(0.0, 2.0, 41)
    few, many = swing(t[[0, -1]], method), swing(t, method)
    steps_read = len(set(np.searchsorted(swing(t[[0, -1]], method, keep="steps").step_times[1:-1], t[1:-1])))
    assert many.nfev == few.nfev + READING.get(method, 0) * steps_read
    assert many.n_steps == few.n_steps
    assert np.array_equal(many.z[-1], few.z[-1])
    some = swing(t[::8], method)
    assert np.allclose(some.z, many.z[::8], rtol=0, atol=1e-14)  # sums of the interpolant, in another order


def test_steps_follow_the_tolerance():
    nfev = [swing([0.0, 5.0], rtol=rtol, atol=rtol).nfev for rtol in (1e-4, 1e-8, 1e-12)]
    # Steps of order 5 shorten by 10^(4/5) a stage.
    assert nfev[1] / nfev[0] == pytest.approx(10**0.8, rel=0.5)
    assert nfev[2] / nfev[1] == pytest.approx(10**0.8, rel=0.3)
    loose_relative = swing([0.0, 5.0], rtol=1e-3, atol=1e-10)
    loose_absolute = swing([0.0, 5.0], rtol=1e-10, atol=1e-3)
    assert loose_relative.nfev < nfev[1]
    assert loose_absolute.nfev < nfev[1]
    assert (loose_relative.rtol, loose_relative.atol) == (1e-3, 1e-10)


# ---- what it keeps ---------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("end", [2.0, -2.0])
def test_each_kind_of_keeping(method, end):
    t = np.array([0.0, 0.3, 1.0]) * end
    plain = swing(t, method)
    assert (plain.step_times, plain.step_z, plain.stages, plain.sol) == (None,) * 4
    steps = swing(t, method, keep="steps")
    assert np.array_equal(steps.z, plain.z)
    assert (steps.step_times[0], steps.step_times[-1]) == (t[0], t[-1])
    assert steps.step_z.shape == (steps.n_steps + 1, 2)
    assert np.array_equal(steps.step_z[[0, -1]], plain.z[[0, -1]])
    assert (np.diff(steps.step_times) * end > 0).all()
    assert (steps.stages, steps.sol) == (None, None)
    dense = swing(t, method, keep="dense")
    assert np.array_equal(dense.z, plain.z)
    assert dense.stages is None
    assert np.array_equal(dense.step_times, steps.step_times)
    assert np.array_equal(dense.step_z, steps.step_z)
    assert np.allclose(dense(t), plain.z, rtol=1e-14, atol=1e-14)
    assert np.allclose(dense(steps.step_times), steps.step_z, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("keep", "states"), [("steps", 1), ("stages", 1 + 4)])
def test_what_is_kept_is_held_once(keep, states):
    """A solve never holds twice what it keeps: an eighth more while that grows, and two dozen states to work on."""
    z0, steps = np.ones((1000, 2)), 200
    tracemalloc.start()
    try:
        solve(SWING[0], z0, SWING[2], [0.0, 1.0], method="RK4", step=1 / steps, keep=keep)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= (9 / 8 * states * (steps + 1) + 25) * z0.nbytes


@pytest.mark.parametrize("method", EXPLICIT)
def test_stages_are_the_slopes_that_a_step_weighs(method):
    field, z0, theta = Pendulum(), np.ones((3, 2)), [1.3, 0.1]
    kept = solve(field, z0, theta, [0.0, 2.0], method=method, keep="stages", **OPTIONS.get(method, {}))
    S = {"RK23": 3, "RK45": 6, "Tsit5": 6, "DOP853": 12, "Euler": 1, "RK4": 4}[method]
    assert kept.stages.shape == (kept.n_steps, S, 3, 2)
    for k in range(kept.n_steps):
        first = field(kept.step_z[k], kept.step_times[k], kept.theta)
        assert np.allclose(kept.stages[k, 0], first, rtol=0, atol=1e-14)
        # What they add up to, with weights that sum to one, lies between the least and the largest times |b|.
        mean = (kept.step_z[k + 1] - kept.step_z[k]) / (kept.step_times[k + 1] - kept.step_times[k])
        assert abs(mean - first).max() <= 20 * abs(kept.stages[k] - first).max() + 1e-13


def test_the_dense_output_is_evaluated_at_any_shape_of_times_within_the_span():
    trajectory = solve(Pendulum(), np.ones((3, 2)), [1.3, 0.1], [0.5, 1.0, 2.0], keep="dense")
    assert trajectory(0.7).shape == (3, 2)
    assert trajectory([0.7]).shape == (1, 3, 2)
    t = np.array([[0.5, 0.7], [1.0, 2.0]])
    got = trajectory(t)
    assert got.shape == (2, 2, 3, 2)
    assert np.array_equal(got[0, 1], trajectory(0.7))
    assert np.array_equal(got[0, 0], trajectory.z[0])
    fine = solve(Pendulum(), np.ones((3, 2)), [1.3, 0.1], [0.5, 0.7], rtol=1e-12, atol=1e-12).z[-1]
    assert np.allclose(got[0, 1], fine, rtol=0, atol=1e-5)


@pytest.mark.parametrize("t", [[0.0, 2.0], [2.0, 0.0]])
def test_the_dense_output_ends_where_the_span_does(t):
    trajectory = swing(t, keep="dense")
    for outside in (-1e-9, 2.0 + 1e-9, [1.0, 3.0]):
        with pytest.raises(ValueError, match="t must lie between 0 and 2, got"):
            trajectory(outside)
    with pytest.raises(ValueError, match="t must be finite"):
        trajectory(np.nan)
    with pytest.raises(TypeError, match="t must hold real numbers"):
        trajectory(1j)


def test_a_trajectory_without_dense_output_says_what_it_needs():
    with pytest.raises(ValueError, match=r'needs the dense output: solve\(\.\.\., keep="dense"\)'):
        swing([0.0, 1.0])(0.5)


# ---- immutability ----------------------------------------------------------------------------------------------------


def test_a_trajectory_is_immutable_and_owns_its_numbers():
    z0, theta, t = np.array([1.0, 0.5]), np.array([1.3, 0.1]), np.array([0.0, 0.5, 1.0])
    trajectory = solve(Pendulum(), z0, theta, t, keep="stages")
    before = trajectory.z.copy()
    z0[:], theta[:], t[:] = 9.0, 9.0, 9.0
    assert np.array_equal(trajectory.z, before)
    assert np.array_equal(trajectory.theta, [1.3, 0.1])
    assert np.array_equal(trajectory.times, [0.0, 0.5, 1.0])
    for name in ("theta", "times", "z", "step_times", "step_z", "stages"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(trajectory, name)[0] = 0.0
    with pytest.raises(FrozenInstanceError):
        trajectory.z = before


def test_options_are_the_trajectorys_own():
    options = {"step": 0.5}
    trajectory = solve(*SWING, [0.0, 1.0], method="RK4", **options)
    options["step"] = 0.25
    assert trajectory.options == {"step": 0.5}


@every_method
def test_solving_twice_gives_the_same_bits(method):
    first, second = swing([0.0, 0.7, 1.5], method, keep="steps"), swing([0.0, 0.7, 1.5], method, keep="steps")
    assert np.array_equal(first.z, second.z)
    assert np.array_equal(first.step_z, second.step_z)
    assert first.nfev == second.nfev


def test_integers_are_converted():
    trajectory = solve(Linear(2), [1, 2], [0, 1, -1, 0], [0, 1])
    assert (trajectory.z.dtype, trajectory.theta.dtype, trajectory.times.dtype) == (np.dtype(float),) * 3
    assert np.allclose(trajectory.z[-1], expm(np.array([[0, 1], [-1, 0]])) @ [1, 2], rtol=0, atol=1e-5)


# ---- spans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["observations", "steps", "stages"])
def test_t0_alone_is_a_trajectory_of_no_steps(keep):
    trajectory = solve(*SWING, [0.3], keep=keep)
    assert np.array_equal(trajectory.z, [[1.0, 0.5]])
    assert (trajectory.nfev, trajectory.n_steps) == (0, 0)
    if keep != "observations":
        assert np.array_equal(trajectory.step_times, [0.3])
        assert np.array_equal(trajectory.step_z, [[1.0, 0.5]])
    if keep == "stages":
        assert trajectory.stages.shape == (0, 6, 2)


@every_method
@pytest.mark.parametrize("t", [[1.0, 1.0 + 1e-15], [1.0, 1.0 - 1e-15], [0.0, 1e-99], [0.0, 1e-15, 1.0]])
def test_tiny_spans_work(method, t):
    trajectory = swing(t, method)
    first = trajectory.z[1] - trajectory.z[0]
    f0 = Pendulum()(np.array([1.0, 0.5]), 0.0, np.array([1.3, 0.1]))
    assert np.allclose(first, (t[1] - t[0]) * f0, rtol=1e-3, atol=2.3e-16)
    assert np.isfinite(trajectory.z).all()


def test_an_empty_batch_is_solved():
    for method in METHODS:
        trajectory = solve(
            Linear(2), np.zeros((0, 2)), np.ones(4), [0.0, 0.5, 1.0], method=method, **OPTIONS.get(method, {})
        )
        assert trajectory.z.shape == (3, 0, 2)


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        ([], ValueError, "times must hold at least t0, got an empty array"),
        ([0.0, 0.0], ValueError, "times must be strictly increasing or strictly decreasing, got"),
        ([0.0, 1.0, 0.5], ValueError, "strictly increasing or strictly decreasing"),
        ([1.0, 0.5, 0.75], ValueError, "strictly increasing or strictly decreasing"),
        ([0.0, 1.0, 1.0], ValueError, "strictly increasing or strictly decreasing"),
        ([0.0, 1e-300], ValueError, "times must lie at least 1e-100 apart"),
        ([0.0, 1.0, np.inf], ValueError, r"times must be finite, got inf at \[2\]"),
        ([0.0, np.nan], ValueError, "times must be finite, got nan"),
        ([-1.7e308, 1.7e308], ValueError, "times must span a finite interval"),
        ([[0.0, 1.0]], ValueError, r"times must have shape \(T,\), got \(1, 2\)"),
        (1.0, ValueError, r"times must have shape \(T,\), got \(\)"),
        ([0.0, 1j], TypeError, "times must hold real numbers, got dtype complex128"),
        (["0", "1"], TypeError, "times must hold real numbers"),
    ],
)
def test_unusable_times_are_refused(t, error, message):
    with pytest.raises(error, match=message):
        swing(t)


# ---- other arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"z0": [1.0, 2.0, 3.0]}, ValueError, r"z0 must have shape \(\.\.\., 2\), got \(3,\)"),
        ({"z0": 1.0}, ValueError, r"z0 must have shape \(\.\.\., 2\), got \(\)"),
        ({"z0": [[1.0], [2.0]]}, ValueError, r"z0 must have shape \(\.\.\., 2\), got \(2, 1\)"),
        ({"z0": [1.0, np.nan]}, ValueError, r"z0 must be finite, got nan at \[1\]"),
        ({"z0": [[1.0, 2.0], [-np.inf, 0.0]]}, ValueError, r"z0 must be finite, got -inf at \[1, 0\]"),
        ({"z0": [1j, 0.0]}, TypeError, "z0 must hold real numbers, got dtype complex128"),
        ({"z0": [None, 0.0]}, TypeError, "z0 must hold real numbers, got dtype object"),
        ({"z0": [[1.0], [1.0, 2.0]]}, TypeError, "z0 must be a rectangular array"),
        ({"theta": [1.0]}, ValueError, r"theta must have shape \(2,\), got \(1,\)"),
        ({"theta": [1.0, np.inf]}, ValueError, "theta must be finite"),
        ({"theta": [True, False]}, TypeError, "theta must hold real numbers, got dtype bool"),
        ({"method": "RK54"}, ValueError, "method must be one of .*got 'RK54'; did you mean 'RK4'"),
        ({"keep": "step"}, ValueError, "keep must be one of observations, .*; got 'step'; did you mean 'steps'"),
        ({"keep": "stages", "method": "Radau"}, ValueError, 'keep="stages" needs an explicit .* method, got Radau'),
        ({"keep": "stages", "method": LSODA}, ValueError, "got LSODA"),
        ({"keep": "dense", "times": [0.0]}, ValueError, 'keep="dense" needs a time after t0'),
        ({"rtol": 1e-15}, ValueError, "rtol must be at least 2.22e-14, got 1e-15"),
        ({"rtol": [1e-6, 1e-6]}, ValueError, r"rtol must have shape \(\)"),
        ({"rtol": np.nan}, ValueError, "rtol must be finite"),
        ({"rtol": "small"}, TypeError, "rtol must hold real numbers"),
        ({"atol": 0.0}, ValueError, "atol must be at least 2.23e-308, got 0"),
        ({"atol": -1.0}, ValueError, "atol must be at least"),
        ({"max_nfev": 0}, ValueError, "max_nfev must be at least 1, got 0"),
        ({"max_nfev": 10.5}, TypeError, "max_nfev must be a whole number, got 10.5"),
        ({"max_nfev": True}, TypeError, "max_nfev must be a whole number"),
        ({"max_steps": 1.0}, ValueError, "an option of RK45 must be one of first_step, max_step; got 'max_steps'"),
        ({"jac": None}, ValueError, "an option of RK45 must be one of"),
        ({"step": 0.1}, ValueError, "an option of RK45 must be one of"),
        ({"method": "Euler"}, ValueError, "Euler takes fixed steps: give the option step"),
        ({"method": RK4, "max_step": 0.1}, ValueError, "an option of RK4 must be one of step; got 'max_step'"),
        ({"max_step": 0.0}, ValueError, "max_step"),
    ],
)  # fmt: skip
def test_unusable_arguments_are_refused_before_any_work(changed, error, message):
    class Untouched(Pendulum):
        def __call__(self, z, t, theta):
            raise AssertionError("the field was called")

    good = {"z0": [1.0, 0.5], "theta": [1.3, 0.1], "times": [0.0, 1.0]}
    with pytest.raises(error, match=message):
        solve(Untouched(), **good | changed)


@pytest.mark.parametrize("first_step", [-0.1, 0.0, 5.0])
def test_an_unusable_first_step_is_refused(first_step):
    with pytest.raises(ValueError, match="first_step"):
        swing([0.0, 1.0], first_step=first_step)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda z: None, r"object \(\)"),
        (lambda z: z[..., :1], r"float64 \(3, 1\)"),
        (lambda z: z.T, r"float64 \(2, 3\)"),
        (lambda z: z.ravel(), r"float64 \(6,\)"),
        (lambda z: z + 1j, r"complex128 \(3, 2\)"),
        (lambda z: z > 0, r"bool \(3, 2\)"),
        (lambda z: 0.0, r"float64 \(\)"),
    ],
)
@pytest.mark.parametrize("method", ["RK45", "Radau", "LSODA"])
def test_a_field_that_returns_something_else_is_refused(answer, got, method):
    class Odd(Pendulum):
        def __call__(self, z, t, theta):
            return answer(z)

    with pytest.raises(ValueError, match=r"the field must return a real array of shape \(3, 2\), got " + got):
        solve(Odd(), np.ones((3, 2)), [1.3, 0.1], [0.0, 1.0], method=method)


def test_what_the_field_raises_passes_through():
    class Raising(Pendulum):
        def __call__(self, z, t, theta):
            raise KeyError("mine")

    for method in ("RK45", "Radau", "LSODA"):
        with pytest.raises(KeyError, match="mine"):
            solve(Raising(), [1.0, 0.5], [1.3, 0.1], [0.0, 1.0], method=method)


@pytest.mark.parametrize("end", [2.0, -2.0])
@pytest.mark.parametrize("method", ["RK45", "Radau", "LSODA"])
def test_options_reach_the_solver(method, end):
    steps = swing([0.0, end], method, keep="steps", max_step=0.03).step_times
    assert abs(np.diff(steps)).max() <= 0.03 * (1 + 1e-12)
    assert len(steps) >= 2 / 0.03
    first = swing([0.0, end], method, keep="steps", first_step=1e-3).step_times
    assert abs(first[1]) == pytest.approx(1e-3, rel=0.01)
    assert swing([0.0, end], method, max_step=0.03).options == {"max_step": 0.03}


# ---- implicit methods ------------------------------------------------------------------------------------------------


def spy(method):
    """`method`, recording what it is told of the Jacobian, and that at the first state."""
    told = {}

    class Spy(method):
        def __init__(self, fun, t0, y0, t_bound, *args, **options):
            told["J"] = options["jac"](t0, y0)
            super().__init__(fun, t0, y0, t_bound, *args, **options)

    return Spy, told


@given(pair=fields(), seed=seeds, batch=st.sampled_from([(), (1,), (3,), (2, 2)]))
def test_the_jacobian_of_a_batch_is_one_block_a_sample(pair, seed, batch):
    field, theta = pair
    z0 = np.random.default_rng(seed).normal(size=(*batch, field.n))
    dense = complex_step(lambda y: field(y.reshape(z0.shape), 0.7, theta).ravel(), z0.ravel())
    for method in (Radau, BDF, LSODA):
        spying, told = spy(method)
        solve(field, z0, theta, [0.7, 0.7001], method=spying)
        sparse = issparse(told["J"])
        assert sparse == (z0.ndim > 1 and method is not LSODA)
        assert (told["J"].toarray() if sparse else told["J"]) == pytest.approx(dense, rel=1e-10, abs=1e-12)
        if sparse:
            assert told["J"].nnz <= z0.size * field.n


@pytest.mark.parametrize("method", ["Radau", "BDF", "LSODA"])
@pytest.mark.parametrize("batch", [False, True])
def test_a_stiff_field_is_solved_and_the_jacobian_is_used(method, batch):
    """Van der Pol at μ = 100: explicit steps are some 1/(3μ), implicit ones as long as the slow branch allows."""
    calls = []

    class Counted(VanDerPol):
        def jacobian(self, z, t, theta):
            calls.append(t)
            return jacobian(VanDerPol(), z, t, theta)

    z0 = [[2.0, 0.0], [-2.0, 0.1], [1.5, 0.0]] if batch else [2.0, 0.0]
    t = [0.0, 30.0, 60.0]
    got = solve(Counted(), z0, [100.0], t, method=method, rtol=1e-6, atol=1e-8)
    fine = solve(VanDerPol(), z0, [100.0], t, method="DOP853", rtol=1e-10, atol=1e-12)
    assert abs(got.z - fine.z).max() <= 1e-6 * 3 * got.n_steps  # the slow branch attracts: errors do not grow
    assert got.njev == len(calls) > 0
    assert got.nfev < fine.nfev / 5


@pytest.mark.parametrize("method", ["Radau", "BDF", "LSODA"])
def test_a_given_jacobian_saves_the_evaluations_of_differences(method):
    class Differenced(METHODS[method]):
        def __init__(self, *args, jac, **options):
            super().__init__(*args, **options)

    with_jacobian, without = (
        solve(VanDerPol(), [2.0, 0.0], [100.0], [0.0, 60.0], method=way) for way in (method, Differenced)
    )
    assert without.nfev >= with_jacobian.nfev + with_jacobian.njev


def test_explicit_methods_ask_for_no_jacobian():
    class Without(Pendulum):
        def jacobian(self, z, t, theta):
            raise AssertionError("asked for the Jacobian")

        def vjp(self, z, t, theta, a):
            raise AssertionError("asked for the VJP")

    for method in EXPLICIT:
        assert solve(Without(), [1.0, 0.5], [1.3, 0.1], [0.0, 1.0], method=method, **OPTIONS.get(method, {})).njev == 0


def test_a_subclass_of_an_implicit_method_gets_the_jacobian_too():
    method, told = spy(BDF)
    trajectory = solve(CubicSpiral(), [1.0, 0.5], [-0.1, 2.0, -2.0, -0.1], [0.0, 1.0], method=method)
    assert trajectory.method is method
    assert told.pop("J").shape == (2, 2)
    solve(CubicSpiral(), [1.0, 0.5], [-0.1, 2.0, -2.0, -0.1], [0.0, 1.0], method=method, max_step=0.5)
    assert told["J"].shape == (2, 2)  # also beside options


def test_a_subclass_of_an_explicit_method_keeps_stages():
    class Mine(RK45):
        pass

    trajectory = solve(MLP([2, 2]), [1.0, 0.5], np.ones(8) / 4, [0.0, 1.0], method=Mine, keep="stages")
    assert trajectory.stages.shape[1:] == (6, 2)
    assert trajectory.method is Mine


def test_a_solve_error_is_a_runtime_error():
    with pytest.raises(RuntimeError) as caught:
        swing([0.0, 1.0], max_nfev=3)
    assert isinstance(caught.value, SolveError)
