"""A running cost as one more component of the state: its blocks, and that nothing depends on it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from oracles import BATCHES, TOL, OnlyVJP, batches, blocks, close, point, seeds
from scipy.integrate import quad
from test_fields import Drifting

from refode import (
    MLP,
    CubicSpiral,
    KineticEnergy,
    Linear,
    LotkaVolterra,
    Pendulum,
    WithRunningCost,
    adjoint,
    check_field,
    linearize,
    solve,
)
from refode.fields import of_sample
from refode.finite_difference import directional_complex_step
from refode.running_cost import FrobeniusNorm, OfLeading, WeightedSum, cost_jvp


class Mixed:
    """c = θ_0 z_0² sin t + θ_last² t: of z, t and θ, directly and not through a field."""

    def __call__(self, z, t, theta):
        return theta[0] * z[..., 0] ** 2 * np.sin(t) + theta[-1] ** 2 * t

    def vjp(self, z, t, theta, c_bar):
        z_bar, theta_bar = np.zeros_like(z), np.zeros_like(theta)
        z_bar[..., 0] = c_bar * 2 * theta[0] * z[..., 0] * np.sin(t)
        t_bar = np.sum(c_bar * (theta[0] * z[..., 0] ** 2 * np.cos(t) + theta[-1] ** 2))
        theta_bar[0] += np.sum(c_bar * z[..., 0] ** 2) * np.sin(t)
        theta_bar[-1] += np.sum(c_bar) * 2 * theta[-1] * t
        return z_bar, t_bar, theta_bar


NET = MLP([2, 3, 2])
FIELDS = [
    NET,
    MLP([2, 3, 2], "softplus", time=False),
    OnlyVJP(NET),
    Linear(3),
    LotkaVolterra(),
    CubicSpiral(),
    Pendulum(),
]
every = pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{type(field).__name__}{field.m}")
# z, t, θ and a in [-2, 2]. An f is at most 32 (a cubic spiral's), its derivatives at most 48 in one direction; so
# |∇|f|²| ≤ 2 · 2 · 32 · 48 for each of two or three outputs, and at most six samples are summed.
SCALE = 6 * 3 * 2 * 2 * 32 * 48.0


def with_costs(field):
    return [WithRunningCost(field, KineticEnergy(field)), WithRunningCost(field, Mixed())]


@every
@given(batch=batches, seed=seeds)
def test_blocks_against_complex_step(field, batch, seed):
    for both in with_costs(field):
        assert (both.n, both.m) == (field.n + 1, field.m)
        p = point(both, batch, np.random.default_rng(seed))
        got = both.vjp(*p.at, p.a)
        assert [np.shape(block) for block in got] == [p.z.shape, (), (field.m,)]
        for block, want in zip(got, blocks(both, p), strict=True):
            assert close(block, want, SCALE)


@every
@given(batch=batches, seed=seeds)
def test_jvp_against_complex_step(field, batch, seed):
    for both in with_costs(field):
        p = point(both, batch, np.random.default_rng(seed))
        got = both.jvp(*p.at, *p.tangent)
        # One direction of at most n + 1 + m entries, each up to 2.
        assert close(got, along(both, p), 2 * (field.n + 1 + field.m) * SCALE)


def along(field, p):
    """The directional derivative of f, from f alone."""
    dz, dt, dtheta = p.tangent
    return directional_complex_step(lambda s: field(p.z + s * dz, p.t + s * dt, p.theta + s * dtheta), 0.0, 1.0)


def all_costs(field, probes=None):
    norm = FrobeniusNorm(field, probes)
    return [KineticEnergy(field), norm, WeightedSum((0.3, KineticEnergy(field)), (-0.7, norm), (2.0, Mixed()))]


@pytest.mark.parametrize("probed", [False, True])
@given(batch=batches, seed=seeds)
def test_jvp_of_every_cost_with_probes_a_sample(probed, batch, seed):
    rng = np.random.default_rng(seed)
    for cost in all_costs(NET, rng.normal(size=(2, *batch, 2)) if probed else None):
        p = point(NET, batch, rng, NET.init(rng))
        leading = OfLeading(cost, 2)
        longer = point(Linear(3), batch, rng)
        for c, q in ((cost, p), (leading, replace(p, z=longer.z, tangent=(longer.tangent[0], *p.tangent[1:])))):
            got, want = cost_jvp(c, *q.at, *q.tangent), along(c, q)
            # J and its derivatives are of order 10 at such a θ, probes and tangents up to 4.
            assert close(got, want, 1e4)
            assert np.shape(got) == batch


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
def test_what_a_cost_holds_is_of_its_sample(batch):
    """Probes, or what a field holds: the cost of one sample is that entry of the batch's."""
    rng = np.random.default_rng(5)
    drifting = KineticEnergy(Drifting(rng.normal(size=(*batch, 2))))
    norm = FrobeniusNorm(NET, rng.normal(size=(2, *batch, 2)))
    costs = [*all_costs(NET, norm.probes), drifting, WeightedSum((0.5, norm)), WeightedSum((2.0, drifting))]
    for cost in [*costs, OfLeading(norm, 2), OfLeading(drifting, 2)]:
        p = point(NET, batch, rng, NET.init(rng))
        whole = cost(*p.at)
        for i in np.ndindex(batch):
            assert np.isclose(of_sample(cost, i)(p.z[i], p.t, p.theta), whole[i], rtol=1e-12)


class NoVJP(MLP):
    """A net that knows forward mode only."""

    linearize = vjp = None


@pytest.mark.parametrize("batch", BATCHES)
def test_the_energy_in_forward_mode_needs_no_vjp(batch):
    field = NoVJP(NET.sizes)
    both = WithRunningCost(field, WeightedSum((0.5, KineticEnergy(field))))
    p = point(both, batch, np.random.default_rng(0))
    assert close(both.jvp(*p.at, *p.tangent), along(both, p), SCALE)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("cost", all_costs(NET), ids=["energy", "norm", "sum"])
def test_forward_sensitivities_of_a_cost_are_the_derivative_of_the_steps(cost, batch):
    """RK4 of (z, S) is the derivative of RK4 of z: to rounding what the reverse of the steps gives."""
    rng = np.random.default_rng(3)
    theta, start = NET.init(rng), np.concatenate([rng.normal(size=(*batch, 2)), np.zeros((*batch, 1))], axis=-1)
    both = WithRunningCost(NET, cost)
    trajectory = solve(both, start, theta, [0.1, 0.9], method="RK4", step=0.2, keep="steps")
    dL_dz = rng.normal(size=trajectory.z.shape)
    one, other = (adjoint(trajectory, dL_dz, method=method) for method in ("forward", "discrete"))
    assert np.allclose(one.z0, other.z0, rtol=0, atol=1e-12 * abs(other.z0).max())
    assert np.allclose(one.theta, other.theta, rtol=0, atol=1e-12 * abs(other.theta).max())


@every
@given(batch=batches, seed=seeds)
def test_linearize_is_f_and_vjp(field, batch, seed):
    for both in with_costs(field):
        p = point(both, batch, np.random.default_rng(seed))
        dz, pullback = linearize(both, *p.at)
        assert np.array_equal(dz, both(*p.at))
        for _ in range(2):
            for got, want in zip(pullback(p.a), both.vjp(*p.at, p.a), strict=True):
                assert np.array_equal(got, want)


@every
@given(batch=batches, seed=seeds)
def test_the_last_component_is_the_cost_and_feeds_nothing_back(field, batch, seed):
    p = point(field, batch, np.random.default_rng(seed))
    for both, cost in zip(with_costs(field), (KineticEnergy(field), Mixed()), strict=True):
        value = {
            KineticEnergy: lambda z: sum(f_i**2 for f_i in field(z, p.t, p.theta)),
            Mixed: lambda z: p.theta[0] * z[0] ** 2 * np.sin(p.t) + p.theta[-1] ** 2 * p.t,
        }[type(cost)]
        for C in (0.0, 5.0):
            z = np.concatenate([p.z, np.full((*batch, 1), C)], axis=-1)
            dz, a = both(z, p.t, p.theta), np.ones((*batch, field.n + 1))
            assert np.array_equal(dz[..., :-1], field(*p.at))
            for i in np.ndindex(batch):
                # Roundings of |f|², f up to 32; those of f itself, in another shape, twice.
                assert abs(dz[(*i, -1)] - value(p.z[i])) <= TOL * 3 * 32**2
            assert not both.vjp(z, p.t, p.theta, a)[0][..., -1].any()


@every
@given(batch=batches, seed=seeds)
def test_a_cost_that_is_not_asked_for_changes_nothing(field, batch, seed):
    """With a_C = 0 the blocks are the field's own, exactly; with a_z = 0 they are the cost's."""
    p = point(field, batch, np.random.default_rng(seed))
    c_bar = np.random.default_rng(seed).normal(size=batch)
    for cost in (KineticEnergy(field), Mixed()):
        both, z = WithRunningCost(field, cost), np.concatenate([p.z, np.ones((*batch, 1))], axis=-1)
        no_cost = np.concatenate([p.a, np.zeros((*batch, 1))], axis=-1)
        only_cost = np.concatenate([np.zeros_like(p.a), np.asarray(c_bar)[..., None]], axis=-1)
        for a, want in ((no_cost, field.vjp(*p.at, p.a)), (only_cost, cost.vjp(*p.at, np.asarray(c_bar)))):
            z_bar, t_bar, theta_bar = both.vjp(z, p.t, p.theta, a)
            assert np.array_equal(z_bar[..., :-1], want[0])
            assert t_bar == want[1]
            assert np.array_equal(theta_bar, want[2])


@pytest.mark.parametrize("field", with_costs(MLP([2, 4, 2])), ids=["kinetic", "mixed"])
def test_check_field_agrees(field):
    report = check_field(field)
    assert report.ok, report
    assert report.oracle == "complex step"


def test_costs_say_what_they_are():
    net = MLP([2, 2])
    costs = (0.5, KineticEnergy(net)), (2, OfLeading(FrobeniusNorm(net, np.ones((3, 2))), 2)), (1, FrobeniusNorm(net))
    assert repr(WeightedSum(*costs)) == (
        "WeightedSum((0.5, KineticEnergy(MLP([2, 2], 'tanh', time=True))), "
        "(2.0, OfLeading(FrobeniusNorm(MLP([2, 2], 'tanh', time=True), probes=(3, 2)), 2)), "
        "(1.0, FrobeniusNorm(MLP([2, 2], 'tanh', time=True), probes=None)))"
    )


class Clock:
    """c = t, a Python float: a cost of one sample is a number, whatever kind."""

    def __call__(self, z, t, theta):
        return float(t)

    def vjp(self, z, t, theta, c_bar):
        return np.zeros_like(z), c_bar, np.zeros_like(theta)


def test_a_cost_may_be_a_plain_number():
    both = WithRunningCost(Linear(1), Clock())
    dz, pullback = both.linearize(np.array([2.0, 0.0]), 3.0, np.array([0.5]))
    assert np.array_equal(dz, [1.0, 3.0])
    assert np.array_equal(both(np.array([2.0, 0.0]), 3.0, np.array([0.5])), [1.0, 3.0])
    assert pullback(np.array([0.0, 2.0]))[1] == 2.0


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("times", [(0.2, 1.4), (1.4, 0.2)])
def test_the_last_component_is_the_integral(batch, times):
    """∫ c dt along the solved path, signed, by quadrature."""
    rng = np.random.default_rng(4)
    theta, z0 = NET.init(rng), rng.normal(size=(*batch, 2))
    both, options = WithRunningCost(NET, Mixed()), {"method": "DOP853", "rtol": 1e-11, "atol": 1e-11}
    start = np.concatenate([z0, np.zeros((*batch, 1))], axis=-1)
    C = solve(both, start, theta, times, **options).z[-1, ..., -1]
    path = solve(NET, z0, theta, times, keep="dense", **options)
    for i in np.ndindex(batch):
        want, _ = quad(lambda t, i=i: Mixed()(path(t)[i], t, theta), *times, epsabs=1e-12, epsrel=1e-12)
        # The solver's 1e-11 a step, 100 steps at most, and its interpolant of order 7, as accurate as that here.
        assert abs(C[i] - want) <= 1e-9
