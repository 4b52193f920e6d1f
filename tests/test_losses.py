"""Losses against formulas of somebody else, and the gradient that minimize gets against differences of its value."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import BATCHES, TOL, OnlyVJP, seeds
from scipy.integrate import DOP853, quad
from scipy.optimize import minimize
from scipy.stats import norm

from refode import (
    MLP,
    GaussianNLL,
    KineticEnergy,
    Linear,
    LotkaVolterra,
    SolveError,
    SquaredError,
    loss_and_gradient,
    solve,
)
from refode.adjoint import WAYS
from refode.finite_difference import central_difference, richardson

shapes = st.tuples(st.integers(1, 4), *[st.integers(1, 3)] * 2)


def seen(z):
    """All that these losses look at of a trajectory."""
    return SimpleNamespace(z=z)


def data(shape, seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(-2, 2, shape), rng.uniform(-2, 2, shape), rng.uniform(0.5, 2, shape), rng


def cotangent(loss, z):
    """By central differences with step 1: exact but for rounding, since both losses are quadratic in z."""
    return central_difference(lambda z: loss(seen(z))[0], z, step=1.0)


# ---- losses -------------------------------------------------------------------------------------------------


@given(shapes, seeds)
def test_squared_error(shape, seed):
    z, y, w, _ = data(shape, seed)
    value, dL_dz = SquaredError(y, w)(seen(z))
    assert isinstance(value, float)
    # z − y up to 4 and w up to 2, at most 36 of them: L up to 576.
    assert abs(value - sum(0.5 * w[i] * (z[i] - y[i]) ** 2 for i in np.ndindex(shape))) <= TOL * 576
    assert np.all(abs(dL_dz - cotangent(SquaredError(y, w), z)) <= TOL * 1000)
    plain = SquaredError(y)(seen(z))
    assert plain[0] == SquaredError(y, np.ones(shape))(seen(z))[0]
    assert np.array_equal(plain[1], z - y)


@given(shapes, seeds)
def test_gaussian_nll(shape, seed):
    z, y, sigma, _ = data(shape, seed)
    value, dL_dz = GaussianNLL(y, sigma)(seen(z))
    assert isinstance(value, float)
    want = -norm.logpdf(y, loc=z, scale=sigma).sum()
    assert abs(value - want) <= TOL * 36 * (0.5 * 8**2 + 2)  # 36 terms ½ (4 / 0.5)² + log σ + ½ log 2π
    assert np.all(abs(dL_dz - cotangent(GaussianNLL(y, sigma), z)) <= TOL * 36 * (0.5 * 10**2 + 2))


@given(shapes, seeds)
def test_weights_and_sigma_broadcast(shape, seed):
    z, y, w, rng = data(shape, seed)
    for small in (1.5, w[0], w[:, :, :1], w[:1]):
        full = np.broadcast_to(small, shape)
        for loss in (SquaredError, GaussianNLL):
            value, dL_dz = loss(y, small)(seen(z))
            assert value == loss(y, full)(seen(z))[0]
            assert np.array_equal(dL_dz, loss(y, full)(seen(z))[1])
            assert dL_dz.shape == shape
    unseen = rng.random(shape) < 0.5
    value, dL_dz = SquaredError(y, np.where(unseen, 0.0, 1.0))(seen(z))
    assert not dL_dz[unseen].any()
    assert np.array_equal(dL_dz[~unseen], (z - y)[~unseen])
    for mask in (~unseen, (~unseen).tolist()):
        masked, masked_dL_dz = SquaredError(y, mask)(seen(z))
        assert masked == value
        assert np.array_equal(masked_dL_dz, dL_dz)


def test_a_loss_keeps_its_own_data():
    y, w = np.ones((2, 1)), np.ones((2, 1))
    losses = SquaredError(y, w), GaussianNLL(y, w)
    y[:], w[:] = 7.0, 7.0
    for loss in losses:
        assert np.array_equal(loss(seen(np.full((2, 1), 3.0)))[1], np.full((2, 1), 2.0))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SquaredError([np.nan]), ValueError, "data must be finite, got nan at [0]"),
        (lambda: SquaredError([1j]), TypeError, "data must hold real numbers, got dtype complex128"),
        (lambda: SquaredError([[1.0]], [np.inf]), ValueError, "weights must be finite, got inf at [0]"),
        (
            lambda: SquaredError(np.ones((3, 2)), np.ones(3)),
            ValueError,
            "weights must broadcast to the shape of data (3, 2), got (3,)",
        ),
        (
            lambda: SquaredError(np.ones(2), np.ones((3, 2))),
            ValueError,
            "weights must broadcast to the shape of data (2,), got (3, 2)",
        ),
        (
            lambda: GaussianNLL(np.ones((3, 2)), np.ones(3)),
            ValueError,
            "sigma must broadcast to the shape of data (3, 2), got (3,)",
        ),
        (lambda: GaussianNLL([[1.0, 1.0]], [1.0, 0.0]), ValueError, "sigma must be positive, got 0.0"),
        (lambda: GaussianNLL([[1.0, 1.0]], -0.5), ValueError, "sigma must be positive, got -0.5"),
        (lambda: GaussianNLL([None], 1.0), TypeError, "data must hold real numbers, got dtype object"),
        (lambda: GaussianNLL([1.0], [True]), TypeError, "sigma must hold real numbers, got dtype bool"),
        (lambda: SquaredError([True]), TypeError, "data must hold real numbers, got dtype bool"),
    ],
)
def test_unusable_data_are_refused(make, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make()


@pytest.mark.parametrize("loss", [SquaredError(np.ones((3, 2))), GaussianNLL(np.ones((3, 2)), 1.0)])
@pytest.mark.parametrize("shape", [(3, 1), (1, 2), (2,), (4, 2), (3, 1, 2)])
def test_data_of_another_shape_than_the_trajectory_are_refused(loss, shape):
    message = f"data must have the trajectory's shape {shape}, got (3, 2)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        loss(seen(np.zeros(shape)))


# ---- loss and gradient --------------------------------------------------------------------------------------

FIELD = LotkaVolterra()
THETA = np.array([0.9, 0.7, 1.1, 0.6])
TIMES = np.array([0.0, 0.4, 0.9, 1.5])
START = np.array([[1.2, 0.8], [0.7, 1.5]])
TARGET = np.random.default_rng(6).uniform(0.5, 2, (4, 2, 2))
TIGHT = {"solver": "DOP853", "rtol": 1e-10, "atol": 1e-12}


class StartFromTheta:
    """z0 = START (1 + θ²/10), a parameter an entry."""

    def __call__(self, theta):
        return START * (1 + 0.1 * theta.reshape(2, 2) ** 2)

    def vjp(self, theta, z0_bar):
        return (z0_bar * START).ravel() * 0.2 * theta


def weight_decay(trajectory):
    value, dL_dz = SquaredError(TARGET)(trajectory)
    return value + 0.5 * np.sum(trajectory.theta**2), dL_dz, trajectory.theta


class Mixed:
    """c = θ_0 z_0² sin t: of z, t and θ."""

    def __call__(self, z, t, theta):
        return theta[0] * z[..., 0] ** 2 * np.sin(t)

    def vjp(self, z, t, theta, c_bar):
        z_bar, theta_bar = np.zeros_like(z), np.zeros_like(theta)
        z_bar[..., 0] = c_bar * 2 * theta[0] * z[..., 0] * np.sin(t)
        theta_bar[0] = np.sum(c_bar * z[..., 0] ** 2) * np.sin(t)
        return z_bar, np.sum(c_bar * theta[0] * z[..., 0] ** 2) * np.cos(t), theta_bar


CASES = {
    "fixed start": {"z0": START, "loss": SquaredError(TARGET)},
    "start from theta": {"z0": StartFromTheta(), "loss": GaussianNLL(TARGET, 0.7)},
    "weight decay": {"z0": START, "loss": weight_decay},
    "running cost": {"z0": START, "loss": SquaredError(TARGET), "running_cost": Mixed()},
    "kinetic energy": {"z0": START, "loss": SquaredError(TARGET), "running_cost": KineticEnergy(FIELD)},
    "all": {"z0": StartFromTheta(), "loss": weight_decay, "running_cost": Mixed()},
}
DIFFERENCES = {}  # of one case and direction: the three ways share their value


def differences(case, decreasing):
    """The gradient of the value. Three levels from 0.02 leave (0.02)⁶, and 1e-10 / 0.005 = 2e-8 of the solver."""
    if (case, decreasing) not in DIFFERENCES:
        f = loss_and_gradient(FIELD, times=TIMES[::-1] if decreasing else TIMES, **CASES[case], **TIGHT)
        DIFFERENCES[case, decreasing] = richardson(lambda theta: f(theta)[0], THETA, 0.02)
    return DIFFERENCES[case, decreasing]


@pytest.mark.parametrize("decreasing", [False, True], ids=["increasing", "decreasing"])
@pytest.mark.parametrize("method", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_the_derivative_of_the_value(case, method, decreasing):
    times = TIMES[::-1] if decreasing else TIMES
    value, gradient = loss_and_gradient(FIELD, times=times, method=method, **CASES[case], **TIGHT)(THETA)
    want = differences(case, decreasing)
    assert np.ndim(value) == 0
    assert gradient.shape == want.shape == (4,)
    assert np.linalg.norm(gradient - want) <= 1e-7 * np.linalg.norm(want)
    assert np.all(abs(want) > 1e-3 * np.linalg.norm(want))  # no entry that could be wrong unseen


@pytest.mark.parametrize("decreasing", [False, True], ids=["increasing", "decreasing"])
def test_the_value_is_that_of_the_loss_and_the_integral(decreasing):
    times = TIMES[::-1] if decreasing else TIMES
    trajectory = solve(FIELD, START, THETA, times, method="DOP853", rtol=1e-10, atol=1e-12, keep="dense")
    observed = SquaredError(TARGET)(trajectory)[0]
    value = loss_and_gradient(FIELD, START, SquaredError(TARGET), times, **TIGHT)(THETA)[0]
    assert abs(value - observed) <= 1e-8  # two solves, of 1e-10 a step
    stepped = loss_and_gradient(FIELD, START, SquaredError(TARGET), times, keep="steps", **TIGHT)(THETA)[0]
    assert stepped == observed  # one solve, one loss
    value = loss_and_gradient(FIELD, START, SquaredError(TARGET), times, running_cost=Mixed(), **TIGHT)(THETA)[0]
    integral = quad(lambda t: Mixed()(trajectory(t), t, THETA).sum(), times[0], times[-1], epsrel=1e-12)[0]
    assert abs(value - observed - integral) <= 1e-8  # 1e-10 a step
    assert abs(integral) > 1


def test_a_network_of_one_sample():
    """Without a batch axis, and with a field that brings neither linearize nor jvp."""
    net = MLP([2, 2, 2])
    theta, z0 = net.init(np.random.default_rng(7)), np.array([0.5, -0.5])
    arguments = OnlyVJP(net), z0, SquaredError(np.ones((3, 2))), [0.0, 0.5, 1.0]
    f = {way: loss_and_gradient(*arguments, method=way, running_cost=Mixed(), **TIGHT) for way in WAYS}
    want = richardson(lambda theta: f["discrete"](theta)[0], theta, 0.02)
    for way in WAYS:
        value, gradient = f[way](theta)
        assert abs(value - f["discrete"](theta)[0]) <= 1e-8
        assert np.linalg.norm(gradient - want) <= 1e-7 * np.linalg.norm(want)


def test_a_parameter_that_nothing_reads_has_gradient_zero():
    class Spare(OnlyVJP):
        """One parameter more than the field it wraps."""

        def __init__(self, field):
            super().__init__(field)
            self.m = field.m + 1

        def __call__(self, z, t, theta):
            return self.field(z, t, theta[:-1])

        def vjp(self, z, t, theta, a):
            z_bar, t_bar, theta_bar = self.field.vjp(z, t, theta[:-1], a)
            return z_bar, t_bar, np.append(theta_bar, 0.0)

    for method in WAYS:
        f = loss_and_gradient(Spare(FIELD), START, SquaredError(TARGET), TIMES, method=method)
        _, gradient = f(np.append(THETA, 3.0))
        assert gradient[-1] == 0
        assert np.all(gradient[:-1] != 0)


@pytest.mark.parametrize("method", WAYS)
def test_one_time_is_no_solve(method):
    """L of z0 alone: its gradient comes through z0 and through θ itself, and ∫ c dt is 0."""
    loss = SquaredError(TARGET[:1])
    f = loss_and_gradient(FIELD, StartFromTheta(), loss, [0.5], method=method, running_cost=Mixed())
    value, gradient = f(THETA)
    z0 = StartFromTheta()(THETA)
    assert value == loss(seen(z0[None]))[0]
    assert np.array_equal(gradient, StartFromTheta().vjp(THETA, z0 - TARGET[0]))


@pytest.mark.parametrize("batch", BATCHES)
def test_minimize_finds_the_field_that_made_the_data(batch):
    A = np.array([[-0.2, 1.0], [-1.0, -0.1]])
    z0 = np.random.default_rng(8).normal(size=(*batch, 2))
    times, options = np.linspace(0, 2, 9), {"rtol": 1e-8, "atol": 1e-10}
    observed = solve(Linear(2), z0, A.ravel(), times, **options).z
    f = loss_and_gradient(Linear(2), z0, SquaredError(observed), times, **options)
    result = minimize(f, 0.5 * A.ravel(), jac=True, method="BFGS", options={"gtol": 1e-8})
    assert result.success
    # Residuals vanish at A, so the solver's 1e-8 and gtol bound the error, times the inverse curvature, below 100.
    assert np.all(abs(result.x - A.ravel()) <= 1e-6)


def test_options_reach_the_solver():
    trajectories = []

    def loss(trajectory):
        trajectories.append(trajectory)
        return SquaredError(TARGET)(trajectory)

    def last(**options):
        loss_and_gradient(FIELD, START, loss, TIMES, **options)(THETA)
        return trajectories[-1]

    assert last().method.__name__ == "RK45"
    assert last(keep="steps").step_times is not None
    assert last(max_step=0.1).step_times is not None  # "discrete" needs them
    assert last(keep="steps").stages is None
    assert last(method="backsolve").step_times is None
    assert last(keep="stages").stages is not None
    assert last(method="backsolve", keep="dense").sol is not None
    got = last(solver=DOP853, rtol=1e-5, atol=1e-7, max_step=0.1)
    assert (got.method, got.rtol, got.atol, got.options) == (DOP853, 1e-5, 1e-7, {"max_step": 0.1})
    assert np.array_equal(got.theta, THETA)
    assert last(solver="RK4", step=0.5, method="discrete").n_steps == 3
    with pytest.raises(SolveError, match="max_nfev = 5"):
        last(max_nfev=5)


def test_with_a_running_cost_the_loss_sees_z_alone():
    def loss(trajectory):
        assert trajectory.z.shape == (4, 2, 2)
        assert trajectory.field is FIELD
        kept = trajectory.step_times, trajectory.step_z, trajectory.stages, trajectory.sol
        assert kept == (None,) * 4  # they are of (z, C)
        return SquaredError(TARGET)(trajectory)

    for keep in ("steps", "stages"):
        loss_and_gradient(FIELD, START, loss, TIMES, running_cost=Mixed(), keep=keep)(THETA)


def test_a_call_changes_nothing():
    f = loss_and_gradient(FIELD, START, SquaredError(TARGET), TIMES, running_cost=Mixed())
    theta = THETA.copy()
    first, second = f(theta), f(theta)
    assert first[0] == second[0]
    assert np.array_equal(first[1], second[1])
    assert np.array_equal(theta, THETA)
    assert np.array_equal(f(list(THETA))[1], first[1])


class WrongStart:
    def __init__(self, z0, z0_bar):
        self.z0, self.z0_bar = z0, z0_bar

    def __call__(self, theta):
        return self.z0

    def vjp(self, theta, z0_bar):
        return self.z0_bar


LOSS = SquaredError(TARGET)


@pytest.mark.parametrize("running_cost", [None, Mixed()], ids=["plain", "with cost"])
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"z0": [1.0]}, ValueError, "z0 must have shape (..., 2), got (1,)"),
        ({"z0": [1.0, np.nan]}, ValueError, "z0 must be finite, got nan at [1]"),
        ({"z0": [1.0, 1j]}, TypeError, "z0 must hold real numbers, got dtype complex128"),
        ({"z0": WrongStart(np.ones(3), 0)}, ValueError, "z0 must have shape (..., 2), got (3,)"),
        ({"z0": WrongStart(START, np.ones((1, 4)))}, ValueError, "z0.vjp must have shape (4,), got (1, 4)"),
        ({"times": [0.0, 0.0]}, ValueError, "times must be strictly increasing or strictly decreasing, got [0. 0.]"),
        ({"theta": np.ones(5)}, ValueError, "theta must have shape (4,), got (5,)"),
        ({"theta": np.ones((4, 1))}, ValueError, "theta must have shape (4,), got (4, 1)"),
        ({"theta": [1.0, 1.0, np.inf, 1.0]}, ValueError, "theta must be finite, got inf at [2]"),
        ({"loss": lambda trajectory: (0.0, np.ones(3))}, ValueError, "dL_dz must have shape (4, 2, 2), got (3,)"),
        (
            {"loss": lambda trajectory: (0.0, np.zeros((4, 2, 2)), np.ones(3))},
            ValueError,
            "dL_dtheta must have shape (4,), got (3,)",
        ),
        (
            {"method": "discret"},
            ValueError,
            "method must be one of backsolve, checkpointed, interpolating, quadrature, discrete, forward; "
            "got 'discret'; did you mean 'discrete'?",
        ),
        ({"solver": "RK54"}, ValueError, None),
        ({"keep": "observations"}, ValueError, None),
    ],
)
def test_unusable_arguments_are_refused(changed, error, message, running_cost):
    arguments = {"z0": START, "loss": LOSS, "times": TIMES, "running_cost": running_cost} | changed
    theta = arguments.pop("theta", THETA)
    with pytest.raises(
        error, match=f"^{re.escape(message)}$" if message else "must be one of|needs the accepted steps"
    ):
        loss_and_gradient(FIELD, **arguments)(theta)


@pytest.mark.parametrize("changed", [{"method": "adjoint"}, {"times": []}, {"z0": [1.0]}])
def test_what_does_not_depend_on_theta_is_refused_at_once(changed):
    with pytest.raises(ValueError, match=f"^{next(iter(changed))} must "):
        loss_and_gradient(FIELD, **({"z0": START, "loss": LOSS, "times": TIMES} | changed))
