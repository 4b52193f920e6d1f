"""A density made by a flow: its values, its samples, its gradients by independent routes, and what it refuses."""

import pickle
from copy import deepcopy
from dataclasses import FrozenInstanceError, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import OnlyVJP, seeds
from scipy.linalg import expm
from scipy.stats import multivariate_normal

from refode import MLP, KineticEnergy, Linear, Pendulum
from refode.finite_difference import complex_solve, complex_step, richardson
from refode.flows import ContinuousFlow, Likelihood, StandardNormal, forward_system, reverse_kl
from refode.log_density import WithLogDensity
from refode.planar import ContinuousPlanar
from refode.running_cost import FrobeniusNorm, OfLeading, WeightedSum, WithRunningCost
from refode.testing import mlps

TIGHT = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-12}
# rtol 1e-11 in a few dozen steps, spread at most tenfold by a flow over a span of one: of log p and of its gradients,
# relative to their largest entry. What the issue asks for.
SOLVED = 1e-8


class Gaussian:
    """N(mean, cov), correlated: a base of one's own. Analytic, so that it may be complex-stepped."""

    def __init__(self, mean, cov):
        self.mean, self.cov = np.array(mean), np.array(cov)
        self.precision = np.linalg.inv(cov)

    def logpdf(self, z):
        y = z - self.mean
        quadratic = np.sum((y @ self.precision) * y, axis=-1)
        return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * self.cov)[1])

    def score(self, z):
        return -(z - self.mean) @ self.precision

    def rvs(self, size, random_state=None):
        return np.random.default_rng(random_state).multivariate_normal(self.mean, self.cov, size)


def correlated(n):
    A = np.random.default_rng(n).normal(size=(n, n))
    return Gaussian(np.linspace(-0.3, 0.4, n), 0.3 * np.eye(n) + 0.2 * A @ A.T)


def flow_of(field, seed=0, base=None, t0=0.0, t1=1.0, **options):
    return ContinuousFlow(field, field.init(np.random.default_rng(seed)), base, t0, t1, TIGHT | options)


def log_p(flow, x, theta, t0, t1, cost=None):
    """Σ log p(x_i) − Σ |∫ c|, for complex arguments as well: D57, by a solve of the oracles' own."""
    both, extra = WithLogDensity(flow.field), 1
    if cost is not None:
        both, extra = WithRunningCost(both, OfLeading(cost, flow.n)), 2
    start = np.concatenate([x, np.zeros((*x.shape[:-1], extra))], axis=-1)
    end = complex_solve(both, start, theta, [t1, t0])[-1]
    paid = np.sign(flow.t1 - flow.t0) * np.sum(end[..., flow.n + 1 :])
    return np.sum(flow.base.logpdf(end[..., : flow.n]) - end[..., flow.n]) + paid


def reference(flow, x, cost=None):
    """(score, ∇θ, ∂t0, ∂t1) of Σ log p(x_i) at fixed x, by complex step."""
    at = x, flow.theta, flow.t0, flow.t1

    def moved(k):
        return complex_step(lambda y: log_p(flow, *at[:k], y, *at[k + 1 :], cost), at[k])

    return tuple(moved(k) for k in range(4))


def assert_gradient(got, want, tol=SOLVED):
    for block, expected in zip((got.x, got.theta, got.t0, got.t1), want, strict=True):
        assert np.shape(block) == np.shape(expected)
        assert np.max(abs(block - expected)) <= tol * np.max(abs(expected))


# ---- values -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 3), st.booleans(), st.booleans(), seeds)
@settings(max_examples=25)
def test_an_affine_flow_of_a_gaussian_is_a_gaussian(n, backward, time, seed):
    """ż = A z + b + c t is linear in (z, 1, t), where 1 stays and ṫ = 1: mean and covariance by one expm."""
    rng = np.random.default_rng(seed)
    field, (t0, t1) = MLP([n, n], time=time), (-0.3, 0.9)[:: -1 if backward else 1]
    flow = flow_of(field, seed, correlated(n), t0, t1)
    ((W, b, c),) = field.layers(flow.theta)
    generator = np.zeros((n + 2, n + 2))
    generator[:n, :n], generator[:n, n], generator[:n, n + 1], generator[n + 1, n] = W.T, b, c, 1.0
    E = expm(generator * (t1 - t0))
    mean = E[:n, :n] @ flow.base.mean + E[:n, n] + E[:n, n + 1] * t0
    exact = multivariate_normal(mean, E[:n, :n] @ flow.base.cov @ E[:n, :n].T)
    x = mean + rng.normal(size=(4, n))
    want = np.reshape(exact.logpdf(x), 4)
    assert np.allclose(flow.logpdf(x), want, rtol=SOLVED, atol=SOLVED)


def by_determinant(flow, x, theta):
    """log p(x) of one point without a trace: log p_base(z_t0) + log |det ∂z_t0/∂x|."""
    times = [flow.t1, flow.t0]
    J = complex_step(lambda y: complex_solve(flow.field, y, theta, times)[-1], x)
    return flow.base.logpdf(complex_solve(flow.field, x, theta, times)[-1]) + np.linalg.slogdet(J)[1]


@given(mlps(), st.booleans(), seeds)
@settings(max_examples=20)
def test_D57_log_p_against_the_determinant(net, backward, seed):
    field, theta = net
    t0, t1 = (0.1, 0.8)[:: -1 if backward else 1]
    flow = ContinuousFlow(field, theta, correlated(field.n), t0, t1, TIGHT)
    x = np.random.default_rng(seed).normal(size=(2, field.n))
    want = [by_determinant(flow, x_i, theta) for x_i in x]
    assert np.allclose(flow.logpdf(x), want, rtol=SOLVED, atol=SOLVED)


@pytest.mark.parametrize(("n", "gain", "nodes"), [(1, 1.0, 400), (2, 0.75, 180)])
def test_the_density_integrates_to_one(n, gain, nodes):
    """Ever better for smaller rtol, and to ten of them: some ten steps, an error of rtol each.

    The trapezoidal rule is exact here: p is smooth on the scale of the grid, and below 1e-20 at the edges of its box.
    """
    field, axis, errors = MLP([n, 6, n]), np.linspace(-10, 10, nodes), []
    theta = field.init(np.random.default_rng(3), gain)
    x = np.stack(np.meshgrid(*[axis] * n, indexing="ij"), axis=-1)
    for rtol in (1e-4, 1e-6, 1e-8):
        flow = ContinuousFlow(field, theta, options={"rtol": rtol, "atol": rtol / 100})
        errors.append(abs(np.sum(np.exp(flow.logpdf(x))) * (axis[1] - axis[0]) ** n - 1))
        assert errors[-1] <= 10 * rtol
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_a_hamiltonian_flow_moves_the_density_unchanged():
    """log p(x) = log p_base(z_t0): the pendulum without damping keeps area, exactly."""
    flow = ContinuousFlow(Pendulum(), [1.3, 0.0], correlated(2), t1=2.0, options=TIGHT)
    x = np.random.default_rng(0).normal(size=(5, 2))
    back = flow.backward(x)
    assert np.array_equal(flow.logpdf(x), flow.base.logpdf(back.z[-1, :, :2]))
    assert not back.z[-1, :, 2].any()
    assert abs(back.z[-1, :, :2] - x).max() > 0.5


def test_a_field_with_only_a_vjp_has_a_density_but_no_score():
    field = MLP([2, 3, 2])
    flow = flow_of(field)
    bare = ContinuousFlow(OnlyVJP(field), flow.theta, options=TIGHT)
    x = np.ones((3, 2))
    assert np.allclose(bare.logpdf(x), flow.logpdf(x), rtol=SOLVED)
    with pytest.raises(TypeError, match="OnlyVJP has no jvp_vjp"):
        bare.score(x)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_shapes(batch):
    flow, x = flow_of(MLP([2, 3, 2])), np.ones((*batch, 2))
    assert np.shape(flow.logpdf(x)) == batch
    assert flow.score(x).shape == x.shape
    assert flow.likelihood_gradient(x).theta.shape == (flow.field.m,)


# ---- gradients at fixed x -----------------------------------------------------------------------------------------

CASES = [
    pytest.param(MLP([2, 8, 2]), StandardNormal(2), 0.0, 1.0, id="tanh 2-8-2"),
    pytest.param(MLP([3, 5, 4, 3]), correlated(3), 0.0, 1.0, id="tanh 3-5-4-3"),
    pytest.param(MLP([2, 4, 3, 3, 2], "softplus"), correlated(2), 0.7, -0.2, id="softplus 2-4-3-3-2, t1 < t0"),
    pytest.param(MLP([2, 5, 2], "sine"), correlated(2), 0.5, 1.2, id="sine 2-5-2, t0 > 0"),
    pytest.param(MLP([1, 6, 1], "sigmoid"), StandardNormal(1), 1.0, 0.0, id="sigmoid 1-6-1, t1 < t0"),
]


@pytest.mark.parametrize(("field", "base", "t0", "t1"), CASES)
def test_D62_three_routes_to_one_gradient(field, base, t0, t1):
    """Adjoint on (z, Δ), solved back and through the steps; the corrected system forward; complex step through D57."""
    flow = flow_of(field, 1, base, t0, t1)
    x = np.random.default_rng(5).normal(size=(2, field.n))
    want = reference(flow, x)
    assert np.all([np.max(abs(block)) > 1e-2 for block in want])
    for got in (flow.likelihood_gradient(x), forward_system(flow, x)):
        assert_gradient(got, want)
        assert abs(got.value - log_p(flow, x, flow.theta, t0, t1)) <= SOLVED * abs(got.value)
        assert got.cost == 0
    assert_gradient(flow.likelihood_gradient(x, method="discrete"), want)


@pytest.mark.parametrize("method", ["backsolve", "discrete"])
def test_E51_against_differences_of_the_determinant(method):
    """The fourth witness knows no trace: log p by the determinant, differenced in θ by Richardson."""
    flow = flow_of(MLP([2, 3, 2]), 4, correlated(2))
    x = np.array([[0.3, -0.8]])
    # Differences of order 6 at steps of 0.04: h^6 |∂^7 log p| ~ 1e-10, rounding 1e-13/0.01.
    want = richardson(lambda theta: by_determinant(flow, x[0], theta), flow.theta, 0.04, levels=3)
    got = flow.likelihood_gradient(x, method=method).theta
    assert np.max(abs(got - want)) <= SOLVED * np.max(abs(want))


@pytest.mark.parametrize("forward", [False, True], ids=["adjoint", "forward system"])
def test_each_point_has_its_own_score_and_theta_has_the_sum(forward):
    """Eight points at once and one at a time: a score that went to another point would show."""
    flow = flow_of(MLP([2, 6, 2]), 2, correlated(2))
    x = np.random.default_rng(1).normal(size=(2, 4, 2))
    route = forward_system if forward else ContinuousFlow.likelihood_gradient
    whole = route(flow, x)
    alone = {i: route(flow, x[i]) for i in np.ndindex(2, 4)}
    for i, one in alone.items():
        assert np.allclose(whole.x[i], one.x, rtol=SOLVED, atol=SOLVED)
        assert np.allclose(flow.score(x)[i], one.x, rtol=SOLVED, atol=SOLVED)
        assert np.allclose(flow.logpdf(x)[i], one.value, rtol=SOLVED)
    assert np.allclose(whole.theta, sum(one.theta for one in alone.values()), rtol=SOLVED, atol=SOLVED)
    for name in ("value", "t0", "t1"):
        assert np.isclose(getattr(whole, name), sum(getattr(one, name) for one in alone.values()), rtol=SOLVED)


@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("method", ["backsolve", "discrete"])
def test_a_running_cost_is_taken_off_whichever_way_time_runs(t0, t1, method):
    field = MLP([2, 5, 2])
    flow = flow_of(field, 1, correlated(2), t0, t1)
    x = np.random.default_rng(5).normal(size=(3, 2))
    cost = WeightedSum((0.3, KineticEnergy(field)), (0.2, FrobeniusNorm(field)))
    got, plain = flow.likelihood_gradient(x, method=method, running_cost=cost), flow.likelihood_gradient(x)
    assert_gradient(got, reference(flow, x, cost))
    assert got.cost > 0.1  # ∫ c |dt|, of a positive c
    assert plain.cost == 0.0
    assert np.isclose(got.value, plain.value, rtol=SOLVED)
    assert np.isclose(got.value - got.cost, log_p(flow, x, flow.theta, t0, t1, cost), rtol=SOLVED)
    assert np.max(abs(got.theta - plain.theta)) > 0.1 * np.max(abs(plain.theta))


# ---- probes ---------------------------------------------------------------------------------------------------------


def test_E40_the_mean_over_all_signs_is_the_log_density_and_its_gradient():
    """On fixed steps z is the same for every probe, Δ and its adjoint are linear in the trace: exact to rounding."""
    grid = {"method": "RK4", "step": 0.1}
    flow = ContinuousFlow(MLP([3, 5, 4, 3]), flow_of(MLP([3, 5, 4, 3])).theta, correlated(3), options=grid)
    x = np.random.default_rng(0).normal(size=(2, 3))
    signs = [np.broadcast_to(v, (1, 2, 3)) for v in product([-1.0, 1.0], repeat=3)]
    estimates = [flow.likelihood_gradient(x, v, method="discrete") for v in signs]
    exact = flow.likelihood_gradient(x, method="discrete")
    assert_gradient(
        exact._replace(**{k: np.mean([getattr(g, k) for g in estimates], axis=0) for k in ("x", "theta", "t0", "t1")}),
        (exact.x, exact.theta, exact.t0, exact.t1),
        1e-12,
    )
    values = [flow.logpdf(x, v) for v in signs]
    assert np.allclose(np.mean(values, axis=0), flow.logpdf(x), rtol=1e-12)
    assert np.std(values, axis=0).min() > 1e-2
    assert np.allclose(flow.logpdf(x, np.concatenate(signs)), flow.logpdf(x), rtol=1e-12)


def test_a_probed_gradient_is_that_of_the_probed_density():
    flow = flow_of(MLP([2, 4, 2]), 1, correlated(2))
    x = np.random.default_rng(2).normal(size=(3, 2))
    probes = np.random.default_rng(3).normal(size=(2, 3, 2))
    got = flow.likelihood_gradient(x, probes)
    want = richardson(lambda theta: np.sum(flow.with_theta(theta).logpdf(x, probes)), flow.theta, 0.04)
    assert np.max(abs(got.theta - want)) <= 1e-7 * np.max(abs(want))  # differences of solves to 1e-11, over 0.01


# ---- gradients at fixed z0 ------------------------------------------------------------------------------------------


class Flat:
    """log q = 0 everywhere."""

    def logpdf(self, z):
        return np.zeros(z.shape[:-1])

    def score(self, z):
        return np.zeros_like(z)


def pushed(flow, target, z0, theta):
    """Mean of log p(z_t1) − log q(z_t1) at fixed z0, for complex θ as well."""
    start = np.concatenate([z0, np.zeros((len(z0), 1))], axis=-1)
    end = complex_solve(WithLogDensity(flow.field), start, theta, [flow.t0, flow.t1])[-1]
    return np.mean(flow.base.logpdf(z0) + end[:, -1] - target.logpdf(end[:, :-1]))


@pytest.mark.parametrize(("field", "base", "t0", "t1"), CASES)
@pytest.mark.parametrize("method", ["backsolve", "discrete"])
def test_reverse_kl_against_complex_step(field, base, t0, t1, method):
    flow, target = flow_of(field, 1, base, t0, t1), correlated(field.n + 1)
    target = Gaussian(target.mean[1:], target.cov[1:, 1:])
    z0 = base.rvs(3, random_state=7)
    value, gradient = reverse_kl(flow, target, z0, method)
    assert np.isclose(value, pushed(flow, target, z0, flow.theta), rtol=SOLVED)
    want = complex_step(lambda theta: pushed(flow, target, z0, theta), flow.theta)
    assert np.max(abs(gradient - want)) <= SOLVED * np.max(abs(want))


@pytest.mark.parametrize(("field", "base", "t0", "t1"), CASES)
def test_E43_at_fixed_x_and_at_fixed_z0_are_different_and_both_right(field, base, t0, t1):
    """They differ by s·S, S = ∂z_t1/∂θ: the score times the motion of the point. Both sides by other means."""
    flow = flow_of(field, 1, base, t0, t1)
    z0 = base.rvs(1, random_state=3)
    x = complex_solve(field, z0, flow.theta, [t0, t1])[-1]
    at_x = flow.likelihood_gradient(x)
    _, at_z0 = reverse_kl(flow, Flat(), z0)
    S = complex_step(lambda theta: complex_solve(field, z0, theta, [t0, t1])[-1], flow.theta)  # (1, n, m)
    moved = reference(flow, x)[0][0] @ S[0]
    assert np.max(abs(at_z0 - at_x.theta - moved)) <= SOLVED * np.max(abs(moved))
    assert np.linalg.norm(moved) > 0.1 * np.linalg.norm(at_x.theta)


@pytest.mark.parametrize("lacking", ["logpdf", "score"])
def test_a_target_that_lacks_a_method_is_refused_before_any_work(lacking):
    flow = ContinuousFlow(Forbidden(), np.ones(1))
    flow.field.armed = True
    target = type("Half", (), {name: getattr(Flat, name) for name in ("logpdf", "score") if name != lacking})()
    with pytest.raises(TypeError, match=f"target must have logpdf and score; Half lacks {lacking}"):
        reverse_kl(flow, target, np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("part", "answer", "match"),
    [
        ("logpdf", np.zeros((2, 2)), r"target.logpdf\(z0\) must have shape \(2,\), got \(2, 2\)"),
        ("score", 0.0, r"target.score\(z0\) must have shape \(2, 2\), got \(\)"),
        ("score", np.full((2, 2), np.nan), r"target.score\(z0\) must be finite"),
    ],
)
def test_a_target_that_answers_otherwise_is_refused_before_any_work(part, answer, match):
    flow = ContinuousFlow(Forbidden(), np.ones(1))
    flow.field.armed = True
    target = Flat()
    setattr(target, part, lambda z: answer)
    with pytest.raises(ValueError, match=match):
        reverse_kl(flow, target, np.zeros((2, 2)))


def test_no_base_samples_are_refused():
    with pytest.raises(ValueError, match="z0 must hold at least one sample, got none"):
        reverse_kl(flow_of(MLP([2, 2])), Flat(), np.zeros((0, 2)))


# ---- samples --------------------------------------------------------------------------------------------------------


def test_samples_come_from_the_seed_or_the_generator():
    flow = flow_of(MLP([2, 3, 2]))
    same = [flow.rvs(5, random_state=seed) for seed in (1, 1, np.random.default_rng(1))]
    assert same[0].shape == (5, 2)
    assert np.array_equal(same[0], same[1])
    assert np.array_equal(same[0], same[2])
    assert not np.array_equal(same[0], flow.rvs(5, random_state=2))
    rng = np.random.default_rng(1)
    assert not np.array_equal(flow.rvs(5, random_state=rng), flow.rvs(5, random_state=rng))
    assert flow.rvs(random_state=0).shape == (1, 2)


def test_D55_samples_are_the_bases_carried_forward():
    flow = flow_of(MLP([2, 4, 2]), 1, correlated(2), 0.8, -0.1)
    z0 = flow.base.rvs(4, random_state=3)
    want = complex_solve(flow.field, z0, flow.theta, [0.8, -0.1])[-1]
    assert np.allclose(flow.rvs(4, random_state=3), want, rtol=0, atol=SOLVED)


def test_P29_samples_have_the_moments_of_the_density():
    """E g(X) by samples and by quadrature of p, for g = x, x², cos 2x: within five standard errors."""
    flow = ContinuousFlow(MLP([1, 6, 1]), 2 * flow_of(MLP([1, 6, 1])).theta)
    samples = flow.rvs(20_000, random_state=0)[:, 0]
    axis = np.linspace(-15, 15, 3000)
    p = np.exp(flow.logpdf(axis[:, None])) * (axis[1] - axis[0])
    for g in (lambda x: x, lambda x: x * x, lambda x: np.cos(2 * x)):
        assert abs(g(samples).mean() - np.sum(g(axis) * p)) <= 5 * g(samples).std() / np.sqrt(len(samples))


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (2.5, TypeError), ((2, 2), TypeError)])
def test_an_unusable_size_is_refused(size, error):
    with pytest.raises(error, match="size must be"):
        flow_of(MLP([2, 2])).rvs(size)


# ---- what is refused, before any work -------------------------------------------------------------------------------


class Forbidden:
    """A field that must not be evaluated once it is armed."""

    n, m, armed = 2, 1, False

    def __call__(self, z, t, theta):
        assert not self.armed
        return -theta * z

    def vjp(self, z, t, theta, a):
        assert not self.armed
        return -theta * a, np.zeros(()), np.array([-np.sum(a * z)])


def base_with(**changed):
    """A standard normal with some methods replaced; None removes one."""
    methods = {name: getattr(StandardNormal(2), name) for name in ("logpdf", "score", "rvs")} | changed
    base = type("Odd", (), {})()
    for name, method in methods.items():
        if method is not None:
            setattr(base, name, method)
    return base


@pytest.mark.parametrize("lacking", [("logpdf",), ("rvs",), ("score",), ("logpdf", "score")])
def test_a_base_that_lacks_a_method_is_refused_by_name(lacking):
    base = base_with(**dict.fromkeys(lacking))
    with pytest.raises(TypeError, match=f"base must have logpdf, rvs and score; Odd lacks {', '.join(lacking)}"):
        ContinuousFlow(Forbidden(), [1.0], base)


def test_a_frozen_distribution_of_scipy_lacks_a_score():
    with pytest.raises(TypeError, match="lacks score"):
        ContinuousFlow(Forbidden(), [1.0], multivariate_normal(np.zeros(2)))


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"logpdf": lambda z: z}, r"base.logpdf of two points must have shape \(2,\), got \(2, 2\)"),
        ({"logpdf": lambda z: 0.0}, r"base.logpdf of two points must have shape \(2,\), got \(\)"),
        ({"score": lambda z: z[:, 0]}, r"base.score of two points must have shape \(2, 2\), got \(2,\)"),
        ({"rvs": lambda size, random_state: np.zeros(size)}, r"base.rvs\(2\) must have shape \(2, 2\), got \(2,\)"),
        ({"logpdf": lambda z: np.full(2, -np.inf)}, "base.logpdf of two points must be finite"),
    ],
)
def test_a_base_that_returns_the_wrong_thing_is_refused(changed, match):
    with pytest.raises(ValueError, match=match):
        ContinuousFlow(Forbidden(), [1.0], base_with(**changed))


def test_a_base_on_a_half_line_is_accepted():
    """z = e^x with x normal: log p = −½ log² z − log z + constant, and outside of z > 0 there is none."""
    base = base_with(
        rvs=lambda size, random_state: np.exp(np.random.default_rng(random_state).normal(size=(size, 2))),
        logpdf=lambda z: np.sum(-0.5 * np.log(z) ** 2 - np.log(z), axis=-1) - np.log(2 * np.pi),
        score=lambda z: -(np.log(z) + 1) / z,
    )
    assert ContinuousFlow(Forbidden(), [1.0], base).base is base


def test_a_base_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match=r"base\.rvs|base\.logpdf|base\.score"):
        ContinuousFlow(Forbidden(), [1.0], StandardNormal(3))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"theta": [1.0, 2.0]}, ValueError, r"theta must have shape \(1,\), got \(2,\)"),
        ({"theta": [np.nan]}, ValueError, "theta must be finite"),
        ({"t1": 0.0}, ValueError, "t0 and t1 must differ, got 0.0 for both"),
        ({"t0": np.nan}, ValueError, "t0 must be finite"),
        ({"t1": [1.0]}, ValueError, r"t1 must have shape \(\)"),
        ({"t1": 1j}, TypeError, "t1 must hold real numbers"),
    ],
)
def test_an_unusable_flow_is_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        ContinuousFlow(Forbidden(), **({"theta": [1.0]} | arguments))


BAD = [
    (np.array([[0.0, 1.0], [np.nan, 0.0]]), ValueError, r"must be finite, got nan at \[1, 0\]"),
    (np.array([[0.0, np.inf]]), ValueError, "must be finite"),
    (np.zeros((4, 3)), ValueError, r"must have shape \(.*2\), got \(4, 3\)"),
    (0.0, ValueError, "must have shape"),
    (np.zeros((2, 2)) + 1j, TypeError, "must hold real numbers"),
    (["a", "b"], TypeError, "must hold real numbers"),
]


@pytest.mark.parametrize(("x", "error", "match"), BAD)
@pytest.mark.parametrize("use", ["logpdf", "score", "likelihood_gradient", "backward"])
def test_bad_points_are_refused_before_any_work(x, error, match, use):
    flow = ContinuousFlow(Forbidden(), [1.0])
    flow.field.armed = True
    with pytest.raises(error, match="x " + match):
        getattr(flow, use)(x)


@pytest.mark.parametrize(("z0", "error", "match"), BAD)
def test_bad_base_samples_are_refused_before_any_work(z0, error, match):
    flow = ContinuousFlow(Forbidden(), [1.0])
    flow.field.armed = True
    with pytest.raises(error, match="z0 " + match):
        reverse_kl(flow, Flat(), z0)


def test_probes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"probes must have shape \(K, 3, 2\), got \(1, 2, 2\)"):
        flow_of(MLP([2, 2])).logpdf(np.zeros((3, 2)), np.ones((1, 2, 2)))


# ---- the object -----------------------------------------------------------------------------------------------------


def test_a_flow_is_immutable():
    theta = np.zeros(MLP([2, 3, 2]).m)
    flow = ContinuousFlow(MLP([2, 3, 2]), theta, options={"rtol": 1e-5})
    theta[0] = 1.0
    assert flow.theta[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        flow.theta[0] = 1.0
    with pytest.raises(FrozenInstanceError):
        flow.t1 = 2.0
    with pytest.raises(TypeError):
        flow.options["rtol"] = 1.0
    other = flow.with_theta(theta)
    assert (flow.theta[0], other.theta[0]) == (0.0, 1.0)
    assert (other.options, other.t1, other.base, other.field) == (flow.options, flow.t1, flow.base, flow.field)


def pickled(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("copied", [pickled, deepcopy])
@pytest.mark.parametrize("field", [MLP([2, 3, 2], "softplus"), ContinuousPlanar(2, 3), Pendulum()], ids=repr)
def test_a_copy_is_the_same_flow(copied, field):
    theta = np.random.default_rng(0).normal(size=field.m)
    flow = ContinuousFlow(field, theta, correlated(2), 0.1, -0.4, {"method": "RK4", "step": 0.1})
    other, x = copied(flow), np.ones((3, 2))
    assert other is not flow
    assert np.array_equal(other.logpdf(x), flow.logpdf(x))
    assert (other.options, other.t0, other.t1, repr(other.base.cov)) == (
        flow.options, flow.t0, flow.t1, repr(flow.base.cov),
    )  # fmt: skip
    with pytest.raises(ValueError, match="read-only"):
        other.theta[0] = 1.0
    with pytest.raises(TypeError):
        other.options["rtol"] = 1.0


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"keep": "steps"}, ValueError, "options must be those of a solver, got keep, which the flow gives to solve"),
        ({"times": [0.0], "z0": [0.0]}, ValueError, "options must be those of a solver, got z0, times, which"),
        ({"method": "RK54"}, ValueError, "method must be one of .* did you mean"),
        ({"maxstep": 0.1}, ValueError, "an option of RK45 must be one of first_step, max_step; got 'maxstep'"),
        ({"step": 0.1}, ValueError, "an option of RK45 must be one of"),
        ({"method": "RK4"}, ValueError, "RK4 takes fixed steps: give the option step"),
        ({"method": "RK4", "step": -0.1}, ValueError, "step must be positive, got -0.1"),
        ({"max_step": 0.0}, ValueError, "max_step` must be positive"),
        ({"first_step": 2.0}, ValueError, "first_step` exceeds bounds"),
        ({"rtol": 0.0}, ValueError, "rtol must be at least"),
        ({"atol": np.nan}, ValueError, "atol must be finite"),
        ({"max_nfev": 0}, ValueError, "max_nfev must be at least 1"),
    ],
)
def test_options_that_no_solve_would_take_are_refused_at_once(options, error, match):
    field = Forbidden()
    field.armed = True
    with pytest.raises(error, match=match):
        ContinuousFlow(field, [1.0], options=options)


@pytest.mark.parametrize("method", ["RK23", "DOP853", "Radau", "BDF", "LSODA"])
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0)])
def test_options_that_a_solve_takes_are_kept(method, t0, t1):
    options = {"method": method, "rtol": 1e-4, "atol": 1e-6, "max_step": 0.5, "first_step": 0.1, "max_nfev": 1000}
    assert ContinuousFlow(MLP([2, 2]), np.ones(MLP([2, 2]).m), t0=t0, t1=t1, options=options).options == options


def test_evaluating_twice_gives_the_same_numbers():
    flow, x = flow_of(MLP([2, 3, 2])), np.ones((3, 2))
    assert np.array_equal(flow.logpdf(x), flow.logpdf(x))
    assert np.array_equal(flow.likelihood_gradient(x).theta, flow.likelihood_gradient(x).theta)


def test_options_reach_the_solver():
    flow = ContinuousFlow(MLP([2, 3, 2]), np.ones(MLP([2, 3, 2]).m), options={"method": "RK4", "step": 0.25})
    back = flow.backward(np.ones((3, 2)))
    assert (back.method.__name__, back.n_steps) == ("RK4", 4)
    default = ContinuousFlow(MLP([2, 3, 2]), np.ones(MLP([2, 3, 2]).m)).backward(np.ones((3, 2)))
    assert (default.method.__name__, default.rtol, default.atol) == ("RK45", 1e-7, 1e-9)


@given(st.integers(1, 3), seeds)
def test_the_standard_normal(n, seed):
    base, rng = StandardNormal(n), np.random.default_rng(seed)
    z = rng.normal(size=(3, n))
    want = multivariate_normal(np.zeros(n)).logpdf(z)
    assert np.allclose(base.logpdf(z), np.reshape(want, 3), rtol=1e-14)
    assert np.allclose(base.score(z), complex_step(lambda y: np.sum(base.logpdf(y)), z), rtol=1e-14)
    assert np.array_equal(base.rvs(4, random_state=seed), np.random.default_rng(seed).normal(size=(4, n)))


def test_a_linear_field_of_the_library_has_gradients_too():
    """Linear brings its second derivative: ∇θ log p of ż = A z against complex step."""
    flow = ContinuousFlow(Linear(2), [0.3, -0.5, 0.4, 0.2], correlated(2), options=TIGHT)
    x = np.array([[0.4, 1.0], [-0.7, 0.2]])
    assert_gradient(flow.likelihood_gradient(x), reference(flow, x))


def test_a_likelihood_is_of_one_field_and_one_span():
    flow, x = ContinuousFlow(MLP([2, 3, 2]), np.zeros(MLP([2, 3, 2]).m)), np.ones((2, 2))
    likelihood = Likelihood(flow)
    for other in (replace(flow, t1=2.0), replace(flow, t0=1.0, t1=0.0), replace(flow, field=MLP([2, 3, 2]))):
        with pytest.raises(ValueError, match="another field or of another span"):
            likelihood(other, x)
    assert likelihood(flow, x).value == pytest.approx(np.sum(flow.logpdf(x)))
