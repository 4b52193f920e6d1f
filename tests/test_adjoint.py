"""The gradient that `adjoint` returns, whatever the way: against complex step, differences and closed forms.

Every oracle differentiates the loss itself, through a solve that knows no adjoint.
"""

from dataclasses import FrozenInstanceError, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, expm_frechet

from refode import MLP, KineticEnergy, Linear, Pendulum, VanDerPol, WithRunningCost, adjoint, solve
from refode.adjoint import LEAST_KEPT
from refode.finite_difference import central_difference, complex_solve, complex_step, slope
from refode.testing import Problem, closed_forms, mlps, problems, reference_gradient

ADAPTIVE = ["RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA"]
WAYS = list(LEAST_KEPT)
REVERSE = WAYS[:4]  # solve an equation back, adaptively
TIGHT = {"rtol": 1e-10, "atol": 1e-12}
BLOCKS = ("z0", "theta", "times")
every_way = pytest.mark.parametrize("way", WAYS)
seeds = st.integers(0, 2**32 - 1)
some = settings(max_examples=max(5, settings().max_examples // 5))  # of the profile's: for what is expensive


def solved(p, **options):
    return solve(p.field, p.z0, p.theta, p.times, **{"keep": "dense"} | TIGHT | options)


def gradient(p, way="backsolve", **options):
    return adjoint(solved(p, **options), p.dL_dz, method=way)


def errors(got, want, p):
    """Relative L2 in z0 and θ, times in units of |a||f|; a thousandth of |dL_dz| is the smallest size that counts."""
    z = complex_solve(p.field, p.z0, p.theta, p.times)
    f = np.array([p.field(z_i, t_i, p.theta) for z_i, t_i in zip(z, p.times, strict=True)])
    f, dL = (np.linalg.norm(x.reshape(len(p.times), -1), axis=1) for x in (f, p.dL_dz))
    least = 1e-3 * np.linalg.norm(dL)
    units = np.r_[np.linalg.norm(want.z0 - p.dL_dz[0]), dL[1:]] * f  # a(t0) is z0's gradient before dL_dz[0] is added
    return {
        "z0": np.linalg.norm(got.z0 - want.z0) / max(np.linalg.norm(want.z0), least),
        "theta": np.linalg.norm(got.theta - want.theta) / max(np.linalg.norm(want.theta), least),
        "times": np.max(abs(got.times - want.times) / np.maximum(units, least)),
    }


# ---- complex step and differences ------------------------------------------------------------------------------------


@given(problems())
def test_D14_E08_all_gradients_against_complex_step(p):
    """z0, θ, t0 and every t_i, every corner of observation times, both directions: 1e-7 for ∫‖∇§1 f‖dt ≤ 3."""
    want = reference_gradient(p)
    for method in ("RK45", "DOP853"):
        got = errors(gradient(p, method=method), want, p)
        assert max(got.values()) <= 1e-7, (method, got)


@pytest.mark.slow
@given(problems())
def test_every_way_and_method_against_complex_step(p):
    want = reference_gradient(p)
    for way in WAYS:
        for method in ["RK45", "DOP853"] if way == "discrete" else ["RK45", "DOP853", "LSODA", "Radau"]:
            # LSODA and Radau to what they give at 1e-10; a times block of "discrete" errs by the forward solve.
            allowed = 1e-7 if method in ("RK45", "DOP853") else 1e-5
            got = errors(gradient(p, way, method=method), want, p)
            assert max(got.values()) <= allowed, (way, method, got)


@some
@given(problems(most_times=4), seeds)
def test_all_gradients_against_differences_of_a_loss_that_is_not_linear(p, seed):
    """L = Σ w · sin z(t_i) + |θ|²/2, its values from `solve` itself; its cotangents are w cos z and θ."""
    w = np.random.default_rng(seed).normal(size=p.dL_dz.shape)

    def loss(z0, theta, times):
        z = solve(p.field, z0, theta, times, method="DOP853", rtol=1e-12, atol=1e-13).z
        return np.sum(w * np.sin(z)) + theta @ theta / 2

    trajectory = solved(p)
    got = adjoint(trajectory, w * np.cos(trajectory.z), dL_dtheta=p.theta)
    h = 1e-4
    h_times = min(h, 0.4 * abs(np.diff(p.times)).min())  # neighbours must not pass each other
    for block, f, h_block in (
        ("z0", lambda x: loss(x, p.theta, p.times), h),
        ("theta", lambda x: loss(p.z0, x, p.times), h),
        ("times", lambda x: loss(p.z0, p.theta, x), h_times),
    ):
        want = central_difference(f, getattr(p, block), h_block)
        # Truncation h² f‴/6 and the solver's 1e-12/h, with e³ of the flow, and its square or cube in f‴.
        allowed = (1e2 * h_block**2 + 1e-11 / h_block) * (np.linalg.norm(want) + np.linalg.norm(w))
        assert np.linalg.norm(getattr(got, block) - want) <= allowed, block


def nets(count, rng, hidden=3):
    """Problems over nets with one hidden layer, two samples, three times, all cotangents."""
    for i in range(count):
        net = MLP([2, hidden, 2], ["tanh", "softplus", "sine"][i % 3])
        yield Problem(net, net.init(rng), rng.normal(size=(2, 2)), [0, 0.5, 1.7], rng.normal(size=(3, 2, 2)))


@pytest.mark.parametrize("method", ["RK45", "DOP853"])
def test_the_error_falls_with_the_tolerance(method):
    """Slope of log(error) over log(rtol) about 1, over four decades; a mean of six nets evens whole steps out."""
    drawn = list(nets(6, np.random.default_rng(1), hidden=6))
    wanted = [reference_gradient(p) for p in drawn]
    rtols = 10.0 ** -np.arange(6, 11)
    logs = np.array([
        [
            [np.log(np.linalg.norm(getattr(got, block) - getattr(want, block))) for block in BLOCKS]
            for got, want in zip((gradient(p, method=method, rtol=r, atol=r / 100) for p in drawn), wanted, strict=True)
        ]
        for r in rtols
    ])  # fmt: skip
    for error in np.exp(logs.mean(axis=1)).T:
        assert 0.7 <= slope(rtols, error) <= 1.3


# ---- amplification ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::refode.ReconstructionWarning")
@some
@given(problems(strength=6.0), st.sampled_from([1e-6, 1e-8]))
def test_errors_grow_by_no_more_than_the_square_of_the_flows_growth(p, rtol):
    """The bound e^{2∫‖∇§1 f‖dt}, derived.

    An error e of a, made at s, obeys the linear equation of a itself, ė = −e ∇§1 f: at t0 it is |e| e^S at most, with
    S = ∫‖∇§1 f‖dt (Grönwall). A step makes it of size rtol |a(s)|, and a itself may have shrunk meanwhile, |a(t0)| ≥
    |a(s)| e^{−S}. So N steps err by N rtol e^{2S} relative to a(t0), and an error of z, which obeys the transposed
    equation, enters a's by the curvature of f with the same factors. Times a constant: what the curvature adds.
    """
    want = reference_gradient(p)
    trajectory = solved(p, rtol=rtol, atol=rtol / 100)
    got = adjoint(trajectory, p.dL_dz)
    N = trajectory.n_steps + got.nvjp / 6
    assert max(errors(got, want, p).values()) <= N * rtol * np.exp(2 * p.strength)


class Turning:
    """ż = λ R(t) z, θ = (λ,), R a reflection whose axes turn: one direction grows, another shrinks, and they mix."""

    n, m = 2, 1

    def axes(self, t):
        return np.array([[np.cos(2 * t), np.sin(2 * t)], [np.sin(2 * t), -np.cos(2 * t)]])

    def __call__(self, z, t, theta):
        return theta[0] * z @ self.axes(t)

    def vjp(self, z, t, theta, a):
        turned = np.array([[-np.sin(2 * t), np.cos(2 * t)], [np.cos(2 * t), np.sin(2 * t)]])
        a_t = np.sum(a * (2 * theta[0] * z @ turned))
        return theta[0] * a @ self.axes(t), a_t, np.array([np.sum(a * (z @ self.axes(t)))])


@pytest.mark.parametrize("method", ["RK45", "DOP853"])
def test_the_bound_on_amplification_is_reached(method):
    """Where a(t0) is as small as the flow allows, the relative error grows as e^{2S}: slope 2 of its logarithm in S."""
    S, relative = np.arange(4.0, 8.0), []
    for lam in S / 1.5:
        flow = complex_solve(Turning(), np.eye(2), [lam], [0.0, 1.5])[-1].T  # z(t1) = flow z0
        least = np.linalg.svd(flow)[0][:, 1]  # a(t0) = a(t1) flow is smallest for this a(t1)
        trajectory = solve(
            Turning(), np.linalg.svd(flow)[2][0], [lam], [0.0, 1.5], method=method, rtol=1e-10, atol=1e-10
        )
        got = adjoint(trajectory, [[0.0, 0.0], least])
        relative.append(np.linalg.norm(got.z0 - least @ flow) / np.linalg.norm(least @ flow))
    # A little less than 2: the axes turn, and the growth of the flow is not all of ∫‖∇§1 f‖dt.
    assert 1.6 <= np.polyfit(S, np.log(relative), 1)[0] <= 2.1


# ---- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["RK23", "Radau", "BDF", "LSODA"])
@some
@given(problems(strength=1.5, most_times=3).filter(lambda p: p.z0.size <= 6))
def test_every_other_method_to_1e4_at_rtol_1e8(method, p):
    got = gradient(p, method=method, rtol=1e-8, atol=1e-10, keep="observations")
    assert max(errors(got, reference_gradient(p), p).values()) <= 1e-4


@pytest.mark.parametrize(("method", "step"), [("Euler", 1e-3), ("RK4", 2e-2)])
def test_fixed_steps_solve_back_too(method, step):
    (p,) = nets(1, np.random.default_rng(4))
    want = reference_gradient(p)
    coarse, fine = (errors(gradient(p, method=method, step=s, rtol=1e-6), want, p) for s in (2 * step, step))
    order = {"Euler": 1, "RK4": 4}[method]
    for block in BLOCKS:
        assert coarse[block] / fine[block] == pytest.approx(2**order, rel=0.2)


@pytest.mark.parametrize(
    ("way", "further"),
    [
        ("backsolve", "DOP853"),
        ("backsolve", "RK23"),
        ("backsolve", "LSODA"),
        ("backsolve", "Radau"),
        ("forward", "LSODA"),
    ],
)
def test_another_solver_and_other_tolerances_for_the_further_solve(way, further):
    (p,) = nets(1, np.random.default_rng(5))
    want, trajectory = reference_gradient(p), solved(p)
    loose = adjoint(trajectory, p.dL_dz, method=way, solver=further, rtol=1e-5, atol=1e-6)
    tight = adjoint(trajectory, p.dL_dz, method=way, solver=further, rtol=1e-8, atol=1e-10)
    assert max(errors(tight, want, p).values()) <= 1e-6 < 0.1
    assert loose.nfev < tight.nfev
    assert np.linalg.norm(loose.theta - want.theta) > 3 * np.linalg.norm(tight.theta - want.theta)


def test_the_further_solve_takes_over_method_tolerances_and_options():
    (p,) = nets(1, np.random.default_rng(6))
    trajectory = solved(p, method="RK23", rtol=1e-6, atol=1e-8, max_step=0.01, first_step=0.005)
    default = adjoint(trajectory, p.dL_dz)
    spelt_out = adjoint(trajectory, p.dL_dz, solver="RK23", rtol=1e-6, atol=1e-8)
    assert np.array_equal(default.theta, spelt_out.theta)
    assert default.nfev == spelt_out.nfev
    assert default.nvjp >= 3 * 1.7 / 0.01  # max_step holds on the way back too
    assert adjoint(solved(p, method="RK23", rtol=1e-6, atol=1e-8), p.dL_dz).nvjp < default.nvjp
    # A first step longer than an interval is no obstacle on the way back.
    short = replace(p, times=[0.0, 0.5, 0.5 + 1e-4])
    assert errors(gradient(short, first_step=0.01), reference_gradient(short), short)["theta"] < 1e-7
    # Fixed steps come from the forward solve.
    euler = solved(p, method="Euler", step=1e-3, rtol=1e-6)
    assert adjoint(euler, p.dL_dz).nvjp == 1700 + 2  # two for the curvature, by which the error is estimated
    assert adjoint(euler, p.dL_dz, solver="RK4").nvjp == 4 * 1700 + 2
    assert adjoint(euler, p.dL_dz, solver="RK45", rtol=1e-3).nvjp < 200


# ---- corners ---------------------------------------------------------------------------------------------------------

LOOKS = {
    "only t1": [0, 0, 0, 1], "t0 too": [1, 0, 0, 1], "interior": [0, 1, 1, 0], "all": [1, 1, 1, 1],
    "one interior": [0, 1, 0, 0], "only t0": [1, 0, 0, 0], "none": [0, 0, 0, 0],
}  # fmt: skip
TIMES = {
    "increasing": [0.3, 0.9, 1.1, 1.8], "decreasing": [0.3, -0.3, -0.5, -1.2],
    "two close": [0.0, 0.7, 0.7 + 1e-6, 1.5], "close to the ends": [0.0, 1e-9, 1.5 - 1e-9, 1.5],
}  # fmt: skip


@cache
def corner(look, times, batch):
    """A problem at a corner, and its gradient."""
    rng = np.random.default_rng(7)
    net = MLP([2, 3, 2])
    seen = np.reshape(LOOKS[look], (4,) + (1,) * (len(batch) + 1))
    p = Problem(net, net.init(rng), rng.normal(size=(*batch, 2)), TIMES[times], seen * rng.normal(size=(4, *batch, 2)))
    return p, reference_gradient(p)


@pytest.mark.parametrize(
    ("way", "method", "batch"),
    [
        ("backsolve", "RK45", (3,)), ("backsolve", "DOP853", ()), ("backsolve", "RK4", ()), ("forward", "DOP853", ()),
        ("checkpointed", "RK45", (3,)), ("checkpointed", "DOP853", ()), ("checkpointed", "RK4", ()),
        ("interpolating", "RK45", (3,)), ("interpolating", "DOP853", ()), ("interpolating", "RK4", ()),
        ("quadrature", "RK45", (3,)), ("quadrature", "DOP853", ()), ("quadrature", "RK4", ()),
        ("discrete", "RK45", (3,)), ("discrete", "DOP853", ()), ("discrete", "RK4", (3,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("times", TIMES)
def test_every_way_at_every_corner(way, method, batch, look, times):
    """Every way, every corner of observation times, both directions, one state and a batch, in one test."""
    # With fixed steps h = 0.02 each way errs by h⁴ f⁗, and the times of "discrete" by as much.
    options, allowed = ({"step": 0.02}, 1e-5) if method == "RK4" else ({}, 1e-7)
    p, want = corner(look, times, batch)
    got = gradient(p, way, method=method, **options)
    assert (got.z0.shape, got.theta.shape, got.times.shape) == (p.z0.shape, p.theta.shape, (4,))
    if look in ("none", "only t0"):
        assert np.array_equal(got.z0, p.dL_dz[0])
        assert not got.theta.any()
        assert not got.times.any()
    else:
        assert max(errors(got, want, p).values()) <= allowed


@every_way
def test_t0_alone_has_the_gradient_of_z0_alone(way):
    dL_dz = np.array([[1.0, -2.0]])
    got = adjoint(
        solve(Pendulum(), [1.0, 0.5], [1.3, 0.1], [0.3], keep="steps"), dL_dz, method=way, dL_dtheta=[3.0, 4.0]
    )
    assert np.array_equal(got.z0, dL_dz[0])
    assert np.array_equal(got.theta, [3.0, 4.0])
    assert np.array_equal(got.times, [0.0])
    assert got.nvjp == 0


@every_way
def test_an_empty_batch_and_no_parameters(way):
    empty = adjoint(
        solve(Linear(2), np.zeros((0, 2)), np.ones(4), [0.0, 0.5, 1.0], keep="dense"), np.zeros((3, 0, 2)), method=way
    )
    assert (empty.z0.shape, empty.theta.tolist(), empty.times.tolist()) == ((0, 2), [0.0] * 4, [0.0] * 3)

    class Free:
        n, m = 1, 0

        def __call__(self, z, t, theta):
            return -z * t

        def vjp(self, z, t, theta, a):
            return -a * t, -np.sum(a * z), np.zeros(0)

    got = adjoint(
        solve(Free(), [[1.0], [2.0]], [], [0.0, 1.0], keep="dense", **TIGHT), [[[0.0]] * 2, [[1.0]] * 2], method=way
    )
    assert got.theta.shape == (0,)
    assert np.allclose(got.z0, np.exp(-0.5), rtol=1e-8)


@every_way
@pytest.mark.parametrize("t", [[1.0, 1.0 + 1e-15], [0.0, 1e-99], [0.0, -1e-15, -1.0]])
def test_tiny_spans(way, t):
    dL_dz = np.ones((len(t), 2))
    got = adjoint(solve(Pendulum(), [1.0, 0.5], [1.3, 0.1], t, keep="dense"), dL_dz, method=way)
    want = reference_gradient(Problem(Pendulum(), [1.3, 0.1], [1.0, 0.5], t, dL_dz))
    for block in BLOCKS:
        assert np.allclose(getattr(got, block), getattr(want, block), rtol=1e-4, atol=1e-14)


# ---- closed forms ----------------------------------------------------------------------------------------------------


@every_way
@some
@given(seed=seeds, backward=st.booleans())
def test_a_linear_field_against_expm_and_its_frechet_derivative(way, seed, backward):
    rng = np.random.default_rng(seed)
    A, z0, dL_dz = rng.normal(size=(2, 2)), rng.normal(size=(2, 2)), rng.normal(size=(3, 2, 2))
    t = 0.3 + (-1 if backward else 1) * np.array([0.0, 0.5, 1.0])
    got = adjoint(solve(Linear(2), z0, A.ravel(), t, keep="dense", **TIGHT), dL_dz, method=way)
    flows = [expm(A * (s - t[0])) for s in t]
    a = sum(dL @ E for dL, E in zip(dL_dz[1:], flows[1:], strict=True))  # a(t0) = Σ dL_i e^{A (t_i − t0)}
    theta = [
        sum(
            np.sum(dL * (z0 @ expm_frechet(A * (s - t[0]), unit * (s - t[0]), compute_expm=False).T))
            for dL, s in zip(dL_dz, t, strict=True)
        )
        for unit in np.eye(4).reshape(4, 2, 2)
    ]
    times = [-np.sum(a * (z0 @ A.T))] + [
        np.sum(dL * (z0 @ E.T @ A.T)) for dL, E in zip(dL_dz[1:], flows[1:], strict=True)
    ]
    for block, want in (("z0", a + dL_dz[0]), ("theta", theta), ("times", times)):
        assert np.linalg.norm(getattr(got, block) - want) <= 1e-7 * max(np.linalg.norm(want), 1e-2)


@some
@given(problems(st.one_of(closed_forms(), mlps(time=False))))
def test_time_gradients_of_an_autonomous_field_sum_to_zero(p):
    """Shifting all the times by one amount changes nothing (torchdiffeq issue 166)."""
    for way in ("backsolve", "discrete"):
        got = gradient(p, way)
        assert abs(got.times.sum()) <= 1e-7 * max(abs(got.times).max(), 1e-3 * np.linalg.norm(p.dL_dz))


@some
@given(problems())
def test_E08_the_gradient_in_t0_is_minus_a_f(p):
    """dL/dt0 = −a(t0)·f(z0, t0, θ), with a before z0's own cotangent; that in t_i is dL_i·f_i."""
    for way in WAYS[:2]:
        trajectory = solved(p)
        got = adjoint(trajectory, p.dL_dz, method=way)
        assert got.times[0] == pytest.approx(
            -np.sum((got.z0 - p.dL_dz[0]) * p.field(p.z0, p.times[0], p.theta)), rel=1e-9, abs=1e-12
        )
        for i in range(1, len(p.times)):
            assert got.times[i] == pytest.approx(
                np.sum(p.dL_dz[i] * p.field(trajectory.z[i], p.times[i], p.theta)), abs=1e-12
            )


class WithSpare(MLP):
    """An MLP with two parameters that it does not read, one at each end."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.m += 2

    def __call__(self, z, t, theta):
        return super().__call__(z, t, theta[1:-1])

    def linearize(self, z, t, theta):
        net = MLP(self.sizes, self.activation, self.time)
        f, pullback = net.linearize(z, t, theta[1:-1])

        def padded(a):
            a_z, a_t, a_theta = pullback(a)
            return a_z, a_t, np.r_[0.0, a_theta, 0.0]

        return f, padded

    def jvp(self, z, t, theta, dz, dt, dtheta):
        return super().jvp(z, t, theta[1:-1], dz, dt, dtheta[1:-1])


@every_way
@some
@given(seed=seeds)
def test_a_parameter_that_f_ignores_has_gradient_exactly_zero(way, seed):
    rng = np.random.default_rng(seed)
    field = WithSpare([2, 2, 2])
    theta = rng.normal(size=field.m)
    trajectory = solve(field, rng.normal(size=(3, 2)), theta, [0.0, 0.4, 1.0], keep="dense")
    got = adjoint(trajectory, rng.normal(size=(3, 3, 2)), method=way)
    assert got.theta.shape == theta.shape
    assert (got.theta[0], got.theta[-1]) == (0.0, 0.0)
    assert (got.theta[1:-1] != 0).all()


# ---- linearity -------------------------------------------------------------------------------------------------------


@every_way
@some
@given(seed=seeds)
def test_the_gradient_of_a_batch_is_the_sum_of_its_samples(way, seed):
    rng = np.random.default_rng(seed)
    (p,) = nets(1, rng)
    tolerances = {"method": "DOP853", "rtol": 1e-8, "atol": 1e-10}
    batch, single = gradient(p, way, **tolerances), []
    for i in range(2):
        single.append(gradient(Problem(p.field, p.theta, p.z0[i], p.times, p.dL_dz[:, i]), way, **tolerances))
        assert np.allclose(batch.z0[i], single[i].z0, rtol=1e-5, atol=1e-6)
    assert np.allclose(batch.theta, single[0].theta + single[1].theta, rtol=1e-5, atol=1e-6)
    assert np.allclose(batch.times, single[0].times + single[1].times, rtol=1e-5, atol=1e-6)


@every_way
@some
@given(seed=seeds)
def test_gradients_add_as_losses_do(way, seed):
    rng = np.random.default_rng(seed)
    (p,) = nets(1, rng)
    other = rng.normal(size=p.dL_dz.shape)
    trajectory = solved(p, rtol=1e-6, atol=1e-8)
    first, second, both = (adjoint(trajectory, dL, method=way) for dL in (p.dL_dz, other, p.dL_dz + other))
    for block in BLOCKS:
        total = getattr(first, block) + getattr(second, block)
        # "discrete" and "forward" are linear to rounding, a reverse solve to its tolerance.
        allowed = 1e-4 if way in REVERSE else 1e-12
        assert np.linalg.norm(getattr(both, block) - total) <= allowed * max(np.linalg.norm(total), 1.0)


@every_way
@some
@given(seed=seeds, exponent=st.integers(-40, 40))
def test_scaling_a_loss_by_a_power_of_two_scales_its_gradient_exactly(way, seed, exponent):
    rng = np.random.default_rng(seed)
    p = Problem(Pendulum(), [1.3, 0.1], rng.normal(size=(2, 2)), [0.0, 0.5, 1.2], rng.normal(size=(3, 2, 2)))
    trajectory = solved(p, rtol=1e-4, atol=1e-6)
    once, scaled = (adjoint(trajectory, s * p.dL_dz, method=way) for s in (1.0, 2.0**exponent))
    for block in BLOCKS:
        assert np.array_equal(getattr(scaled, block), 2.0**exponent * getattr(once, block))
    assert scaled.nfev == once.nfev


@every_way
@some
@given(seed=seeds, scale=st.floats(1e-9, 1e9))
def test_scaling_a_loss_by_anything_scales_its_gradient(way, seed, scale):
    rng = np.random.default_rng(seed)
    p = Problem(Pendulum(), [1.3, 0.1], rng.normal(size=(2, 2)), [0.0, 0.5, 1.2], rng.normal(size=(3, 2, 2)))
    trajectory = solved(p, rtol=1e-6, atol=1e-8)
    once, scaled = (adjoint(trajectory, s * p.dL_dz, method=way) for s in (1.0, scale))
    # Rounding moves the step sizes of a reverse solve a little, or flips one rejection: its tolerance, not more.
    allowed = 1e-4 if way in REVERSE else 1e-13
    for block in BLOCKS:
        want = scale * getattr(once, block)
        assert np.linalg.norm(getattr(scaled, block) - want) <= allowed * np.linalg.norm(scale * p.dL_dz)


@every_way
def test_E22_a_direct_dependence_on_theta_is_added(way):
    (p,) = nets(1, np.random.default_rng(8))
    trajectory, direct = solved(p), np.arange(p.theta.size) / 7
    without, with_direct = (adjoint(trajectory, p.dL_dz, method=way, dL_dtheta=dL) for dL in (None, direct))
    assert np.array_equal(with_direct.theta, without.theta + direct)
    assert np.array_equal(with_direct.z0, without.z0)
    assert np.array_equal(with_direct.times, without.times)


@every_way
def test_rows_of_dL_dz_at_t0_touch_z0_alone(way):
    (p,) = nets(1, np.random.default_rng(9))
    trajectory, without = solved(p), p.dL_dz.copy()
    without[0] = 0.0
    got, base = adjoint(trajectory, p.dL_dz, method=way), adjoint(trajectory, without, method=way)
    assert np.array_equal(got.z0, base.z0 + p.dL_dz[0])
    assert np.array_equal(got.theta, base.theta)
    assert np.array_equal(got.times, base.times)


# ---- running costs ---------------------------------------------------------------------------------------------------


@cache
def costly(backward):
    """net, θ, z0, times, w, and by complex step the gradient of L = Σ w z(t_i) + Σ ∫|f|² dt, signed from t0 to t1.

    The integral is a Gauss-Legendre sum of degree 39 over a path of the net alone: no added component.
    """
    rng = np.random.default_rng(10)
    net = MLP([2, 3, 2])
    theta, z0, w = net.init(rng), rng.normal(size=(2, 2)), rng.normal(size=(3, 2, 2))
    t = np.array([1.2, 0.6, 0.0] if backward else [0.0, 0.6, 1.2])
    x, weights = np.polynomial.legendre.leggauss(20)

    def loss(z0, theta, t):
        nodes = t[0] + (t[-1] - t[0]) * (x + 1) / 2
        path = complex_solve(net, z0, theta, np.r_[t[0], nodes])[1:]
        speeds = [np.sum(net(z, node, theta) ** 2) for z, node in zip(path, nodes, strict=True)]
        return np.sum(w * complex_solve(net, z0, theta, t)) + (t[-1] - t[0]) / 2 * weights @ speeds

    want = {
        "z0": complex_step(lambda x: loss(x, theta, t), z0),
        "theta": complex_step(lambda x: loss(z0, x, t), theta),
        "times": complex_step(lambda x: loss(z0, theta, x), t),
    }
    return net, theta, z0, t, w, want


@every_way
@pytest.mark.parametrize("backward", [False, True])
def test_a_running_cost_against_complex_step_of_a_quadrature(way, backward):
    net, theta, z0, t, w, want = costly(backward)
    field = WithRunningCost(net, KineticEnergy(net))
    trajectory = solve(field, np.c_[z0, np.zeros(2)], theta, t, keep="dense", rtol=1e-9, atol=1e-11)
    dL_dz = np.concatenate([w, np.zeros((3, 2, 1))], axis=-1)
    dL_dz[-1, :, -1] = 1.0  # a_C = 1
    got = adjoint(trajectory, dL_dz, method=way)
    assert np.allclose(got.z0[:, :2], want["z0"], rtol=0, atol=1e-6)
    assert np.allclose(got.z0[:, 2], 1.0, rtol=0, atol=1e-9)
    assert np.allclose(got.theta, want["theta"], rtol=0, atol=1e-6)
    assert np.allclose(got.times, want["times"], rtol=0, atol=1e-6)


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"dL_dz": np.ones((2, 2))}, ValueError, r"dL_dz must have shape \(3, 2\), got \(2, 2\)"),
        ({"dL_dz": np.ones((3, 1))}, ValueError, r"dL_dz must have shape \(3, 2\), got \(3, 1\)"),
        ({"dL_dz": np.ones(2)}, ValueError, r"dL_dz must have shape \(3, 2\), got \(2,\)"),
        ({"dL_dz": np.full((3, 2), np.nan)}, ValueError, r"dL_dz must be finite, got nan at \[0, 0\]"),
        ({"dL_dz": np.ones((3, 2)) * 1j}, TypeError, "dL_dz must hold real numbers, got dtype complex128"),
        ({"dL_dz": None}, TypeError, "dL_dz must hold real numbers, got dtype object"),
        ({"method": "backprop"}, ValueError, "must be one of backsolve, checkpointed, .*, forward; got 'backprop'"),
        ({"method": "discret"}, ValueError, "did you mean 'discrete'"),
        ({"dL_dtheta": np.ones(3)}, ValueError, r"dL_dtheta must have shape \(2,\), got \(3,\)"),
        ({"dL_dtheta": [np.inf, 0.0]}, ValueError, "dL_dtheta must be finite"),
        ({"solver": "RK54"}, ValueError, "method must be one of RK23, .*got 'RK54'"),
        ({"solver": "Euler"}, ValueError, "Euler takes fixed steps, and the forward solve had none to take over"),
        ({"rtol": 1e-16}, ValueError, "rtol must be at least 2.22e-14, got 1e-16"),
        ({"rtol": [1e-6]}, ValueError, r"rtol must have shape \(\)"),
        ({"atol": 0.0}, ValueError, "atol must be at least"),
        ({"atol": np.inf}, ValueError, "atol must be finite"),
        ({"max_nfev": 0}, ValueError, "max_nfev must be at least 1, got 0"),
        ({"max_nfev": 1e4}, TypeError, "max_nfev must be a whole number, got 10000.0"),
        ({"method": "discrete", "rtol": 1e-6}, ValueError, "solves nothing: solver, rtol and atol are for"),
        ({"method": "discrete", "atol": 1e-6}, ValueError, "solves nothing"),
        ({"method": "discrete", "solver": "RK45"}, ValueError, "solves nothing"),
        ({"method": "forward", "seminorm": True}, ValueError, "seminorm belongs to backsolve, checkpointed, interp"),
        ({"method": "quadrature", "seminorm": True}, ValueError, "seminorm belongs to .*; got method 'quadrature'"),
        ({"checkpoints": 3}, ValueError, "checkpoints belong to .*checkpointed.*; got method 'backsolve'"),
        ({"method": "checkpointed", "checkpoints": 0}, ValueError, "checkpoints must be at least 1, got 0"),
        ({"method": "checkpointed", "checkpoints": 2.0}, TypeError, "checkpoints must be a whole number"),
        ({"method": "checkpointed"}, ValueError, r'"checkpointed" needs the accepted steps: .*keep="steps"'),
        ({"method": "interpolating"}, ValueError, r'"interpolating" reads .*: solve\(\.\.\., keep="dense"\)'),
        ({"method": "quadrature"}, ValueError, r'"quadrature" reads .*: solve\(\.\.\., keep="dense"\)'),
        ({"method": "discrete", "seminorm": True}, ValueError, "seminorm belongs"),
        ({"method": "discrete"}, ValueError, r'needs the accepted steps: solve\(\.\.\., keep="steps"\)'),
    ],
)  # fmt: skip
def test_unusable_arguments_are_refused_before_any_work(changed, error, message):
    trajectory = solve(Pendulum(), [1.0, 0.5], [1.3, 0.1], [0.0, 0.5, 1.0])

    class Untouched(Pendulum):
        def __call__(self, z, t, theta):
            raise AssertionError("the field was called")

        vjp = __call__

    with pytest.raises(error, match=message):
        adjoint(replace(trajectory, field=Untouched()), **{"dL_dz": np.ones((3, 2))} | changed)


@pytest.mark.parametrize("method", ["Radau", "BDF", "LSODA"])
def test_discrete_needs_an_explicit_method(method):
    trajectory = solve(Pendulum(), [1.0, 0.5], [1.3, 0.1], [0.0, 1.0], method=method, keep="dense")
    with pytest.raises(
        ValueError, match=f'"discrete" needs an explicit Runge-Kutta solve, got {method}; take "backsolve"'
    ):
        adjoint(trajectory, np.ones((2, 2)), method="discrete")


def test_a_gradient_is_immutable():
    got = adjoint(solve(VanDerPol(), [1.0, 0.5], [1.3], [0.0, 1.0]), np.ones((2, 2)))
    with pytest.raises(FrozenInstanceError):
        got.theta = None


@every_way
def test_the_gradient_twice_gives_the_same_bits_and_changes_nothing(way):
    (p,) = nets(1, np.random.default_rng(11))
    trajectory, dL_dz = solved(p), p.dL_dz.copy()
    first, second = adjoint(trajectory, dL_dz, method=way), adjoint(trajectory, dL_dz, method=way)
    for block in BLOCKS:
        assert np.array_equal(getattr(first, block), getattr(second, block))
    assert np.array_equal(dL_dz, p.dL_dz)
