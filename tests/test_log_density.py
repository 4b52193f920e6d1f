"""(z, Δ) as a vector field: its blocks, its solve against determinants, and a running cost beside it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import BATCHES, TOL, OnlyVJP, blocks, close, majorant, networks, point, seeds
from scipy.linalg import expm
from test_divergence import OnlyJvpVjp, drawn, kinds
from test_divergence import majorant as trace_majorant

from refode import (
    MLP,
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
from refode.divergence import PROBES, divergence, draw_probes
from refode.finite_difference import complex_solve, complex_step, directional_complex_step
from refode.log_density import WithLogDensity
from refode.running_cost import FrobeniusNorm, OfLeading

TIGHT = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-12}
# A solve to rtol 1e-11 in a few dozen steps, spread by at most e² over these spans, where ∫|∇§1 f| ≤ 2.
SOLVED = 1e-9


@st.composite
def densities(draw):
    """(z, Δ) of a random net, with probes or without, and a point in it."""
    field, p = draw(networks())
    seed = draw(seeds)
    probes = drawn(draw(kinds), field, p, seed)
    both = WithLogDensity(draw(st.sampled_from([field, OnlyJvpVjp(field)])), probes)
    return both, point(both, p.z.shape[:-1], np.random.default_rng(seed), p.theta)


def bounds_of(both, p):
    """Of the blocks of a_z·f − a_Δ τ: those of its field at the leading components."""
    inner = getattr(both.field, "field", both.field)
    at = type(p)(p.z[..., :-1], p.t, p.theta, p.a[..., :-1], p.tangent)
    return majorant(inner, at).f, trace_majorant(inner, at, p.a[..., -1], both.probes)


def started(x, extra=1):
    """(x, 0, ..., 0)."""
    return np.concatenate([x, np.zeros((*x.shape[:-1], extra))], axis=-1)


# ---- the field --------------------------------------------------------------------------------------------------


@given(densities())
def test_D44_blocks_against_complex_step(case):
    both, p = case
    got = both.vjp(*p.at, p.a)
    assert [np.shape(block) for block in got] == [p.z.shape, (), (both.m,)]
    _, (_, (z_bound, t_bound, theta_bound)) = bounds_of(both, p)
    want_z, want_t, want_theta = blocks(both, p)
    assert close(got[0][..., :-1], want_z[..., :-1], z_bound)
    assert close(got[1], want_t, t_bound)
    assert close(got[2], want_theta, theta_bound)
    assert not got[0][..., -1].any()  # nothing depends on Δ
    assert not want_z[..., -1].any()


@given(densities())
def test_jvp_against_complex_step(case):
    both, p = case
    dz, dt, dtheta = p.tangent
    want = directional_complex_step(lambda s: both(p.z + s * dz, p.t + s * dt, p.theta + s * dtheta), 0.0, 1.0)
    got = both.jvp(*p.at, *p.tangent)
    assert got.shape == p.z.shape
    # Along the tangent: bounds of the blocks for a cotangent of ones, each entry times its own tangent.
    ones = type(p)(p.z, p.t, p.theta, np.ones_like(p.z), p.tangent)
    _, (_, (z_bound, t_bound, theta_bound)) = bounds_of(both, ones)
    bound = np.sum(z_bound * abs(dz[..., :-1])) + t_bound * abs(dt) + theta_bound @ abs(dtheta)
    assert np.all(abs(got - want) <= TOL * bound)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kind", [None, *PROBES])
def test_forward_sensitivities_are_the_derivative_of_the_steps(batch, kind):
    """RK4 of (z, Δ, S) is the derivative of RK4 of (z, Δ), with probes a sample too: equal to rounding."""
    rng, field = np.random.default_rng(3), MLP([2, 3, 2])
    theta, start = field.init(rng), started(rng.normal(size=(*batch, 2)))
    both = WithLogDensity(field, None if kind is None else draw_probes(kind, rng, (*batch, 2), 2))
    trajectory = solve(both, start, theta, [0.9, 0.1], method="RK4", step=0.2, keep="steps")
    dL_dz = rng.normal(size=trajectory.z.shape)
    one, other = (adjoint(trajectory, dL_dz, method=method) for method in ("forward", "discrete"))
    assert np.allclose(one.z0, other.z0, rtol=0, atol=1e-12 * abs(other.z0).max())
    assert np.allclose(one.theta, other.theta, rtol=0, atol=1e-12 * abs(other.theta).max())


@pytest.mark.parametrize("kind", PROBES)
def test_check_field_knows_probes_a_sample(kind):
    field, rng = MLP([2, 3, 2]), np.random.default_rng(0)
    probes = draw_probes(kind, rng, (4, 2), 3)
    for both in (WithLogDensity(field, probes), *(three for three, _ in with_cost(field, probes))):
        report = check_field(both, rng.normal(size=(4, both.n)))
        assert report.ok, report
        assert "jvp" in [row.what for row in report.rows]


@given(densities())
def test_the_last_component_is_minus_the_trace(case):
    both, p = case
    f, (tau, _) = bounds_of(both, p)
    z = p.z[..., :-1]
    for delta in (0.0, 5.0):
        got = both(np.concatenate([z, np.full_like(p.z[..., -1:], delta)], axis=-1), p.t, p.theta)
        assert close(got[..., :-1], both.field(z, p.t, p.theta), f)
        assert close(got[..., -1], -divergence(both.field, z, p.t, p.theta, both.probes), tau)


@given(densities())
def test_linearize_is_f_and_vjp(case):
    both, p = case
    dz, pullback = linearize(both, *p.at)
    assert np.array_equal(dz, both(*p.at))
    for _ in range(2):
        for got, want in zip(pullback(p.a), both.vjp(*p.at, p.a), strict=True):
            assert np.array_equal(got, want)


def test_sizes():
    both = WithLogDensity(MLP([3, 4, 3]))
    assert (both.n, both.m, both.probes) == (4, both.field.m, None)


def test_check_field_agrees():
    report = check_field(WithLogDensity(MLP([2, 4, 2])))
    assert report.ok, report
    assert report.oracle == "complex step"


@pytest.mark.parametrize(
    ("probes", "error", "match"),
    [
        (np.ones((1, 3)), ValueError, r"probes must have shape \(..., 2\), got \(1, 3\)"),
        (np.array([[1.0, np.nan]]), ValueError, "probes must be finite"),
        (np.array([[1.0, 1j]]), TypeError, "probes must hold real numbers"),
    ],
)
def test_probes_that_cannot_be_are_refused_at_once(probes, error, match):
    with pytest.raises(error, match=match):
        WithLogDensity(MLP([2, 2]), probes)


def test_probes_of_another_batch_are_refused():
    both = WithLogDensity(MLP([2, 2]), np.ones((4, 3, 2)))
    with pytest.raises(ValueError, match=r"probes must have shape \(K, 5, 2\), got \(4, 3, 2\)"):
        solve(both, np.zeros((5, 3)), np.ones(both.m), [0.0, 1.0])


def test_probes_are_copied():
    """A probe that changed within a solve would make f no function of the state (E40)."""
    probes = np.ones((1, 2))
    both, z = WithLogDensity(MLP([2, 3, 2]), probes), np.zeros(3)
    theta = MLP([2, 3, 2]).init(np.random.default_rng(0))
    before = both(z, 0.0, theta)
    probes[:] = 7.0
    assert np.array_equal(both(z, 0.0, theta), before)


# ---- its solve --------------------------------------------------------------------------------------------------


def determinant(field, x, theta, times):
    """log |det ∂z(t1)/∂z(t0)| of one sample: complex step through the solve of z alone, no trace anywhere."""
    J = complex_step(lambda z0: complex_solve(field, z0, theta, times)[-1], x)
    return np.linalg.slogdet(J)[1]


NETS = [MLP([1, 5, 1], "softplus"), MLP([2, 6, 2]), MLP([3, 4, 5, 3], "sine"), MLP([2, 3, 3, 3, 2], time=False)]


@pytest.mark.parametrize("field", NETS, ids=repr)
@pytest.mark.parametrize("times", [(0.2, 1.1), (1.1, 0.2)], ids=str)
@given(seed=seeds)
@settings(max_examples=5)
def test_D46_delta_is_minus_the_log_determinant(field, times, seed):
    rng = np.random.default_rng(seed)
    theta, x = field.init(rng), rng.normal(size=(2, field.n))
    delta = solve(WithLogDensity(field), started(x), theta, times, **TIGHT).z[-1, :, -1]
    want = [-determinant(field, x_i, theta, times) for x_i in x]
    assert np.allclose(delta, want, rtol=0, atol=SOLVED)


@given(st.integers(1, 4), st.booleans(), seeds)
def test_D44_a_linear_field_against_expm(n, backward, seed):
    """z(t) = expm(A t) z0, and log det expm(A t) = t tr A: Δ does not depend on z."""
    rng = np.random.default_rng(seed)
    A, z0, times = rng.normal(size=(n, n)) / n, rng.normal(size=(3, n)), (-0.3, 0.9)[:: -1 if backward else 1]
    end = solve(WithLogDensity(Linear(n)), started(z0), A.ravel(), times, **TIGHT).z[-1]
    span = times[1] - times[0]
    E = expm(A * span)
    assert np.allclose(end[:, :-1], z0 @ E.T, rtol=0, atol=SOLVED * np.exp(np.linalg.norm(A) * abs(span)))
    assert np.allclose(end[:, -1], -np.linalg.slogdet(E)[1], rtol=0, atol=SOLVED)
    assert np.allclose(end[:, -1], -span * np.trace(A), rtol=0, atol=SOLVED)


@given(seeds)
def test_a_hamiltonian_field_leaves_the_density_alone(seed):
    """A pendulum without damping: q̇ = p, ṗ = −k sin q has no divergence, and Δ stays exactly 0."""
    rng = np.random.default_rng(seed)
    z0, theta = rng.normal(size=(4, 2)), np.array([rng.uniform(0.5, 3), 0.0])
    end = solve(WithLogDensity(Pendulum()), started(z0), theta, [0.0, 3.0], rtol=1e-4).z[-1]
    assert not end[:, -1].any()
    assert abs(end[:, :-1] - z0).max() > 0.1


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("field", [*NETS, LotkaVolterra(), OnlyVJP(NETS[1])], ids=lambda f: f"{type(f).__name__}{f.m}")
def test_P45_there_and_back_returns_x_and_0(field, batch):
    rng = np.random.default_rng(2)
    theta = field.init(rng) if isinstance(field, MLP) else rng.uniform(0.2, 0.6, field.m)
    both, start = WithLogDensity(field), started(rng.normal(size=(*batch, field.n)))
    there = solve(both, start, theta, [0.2, 1.1], **TIGHT).z[-1]
    back = solve(both, there, theta, [1.1, 0.2], **TIGHT).z[-1]
    assert abs(there[..., -1]).min() > 1e-3
    assert np.allclose(back, start, rtol=0, atol=SOLVED)


# ---- with a running cost ----------------------------------------------------------------------------------------


def with_cost(field, probes=None):
    """(z, Δ, C) with C the kinetic energy of z, and with C the norm of the Jacobian."""
    for cost in (KineticEnergy(field), FrobeniusNorm(field, probes)):
        yield WithRunningCost(WithLogDensity(field, probes), OfLeading(cost, field.n)), cost


@pytest.mark.parametrize("batch", BATCHES)
@given(seed=seeds)
@settings(max_examples=10)
def test_blocks_of_density_and_cost(batch, seed):
    """They are the sum of both, and what complex step gives."""
    rng = np.random.default_rng(seed)
    field = MLP([2, 4, 2])
    for probes in (None, rng.choice([-1.0, 1.0], (2, *batch, 2))):
        for all_three, cost in with_cost(field, probes):
            p = point(all_three, batch, rng)
            got = all_three.vjp(*p.at, p.a)
            density = WithLogDensity(field, probes).vjp(p.z[..., :-1], p.t, p.theta, p.a[..., :-1])
            alone = cost.vjp(p.z[..., :2], p.t, p.theta, p.a[..., -1])
            assert not got[0][..., 2:].any()
            assert np.array_equal(got[0][..., :2], density[0][..., :2] + alone[0])
            assert np.array_equal(got[1], density[1] + alone[1])
            assert np.array_equal(got[2], density[2] + alone[2])
            for block, want in zip(got, blocks(all_three, p), strict=True):
                # Entries of z, t and θ up to 2: |f| ≤ 4 · 2 + 2 + 2 · 2, |J_ij| ≤ 4 · 2 · 2, |J v|² ≤ 2 (2 · 16)²; one
                # more derivative of it at most 2 · 2 · 32 · (2 · 16 · 2 · 2), times |a_C| = 2, six samples summed.
                assert close(block, want, 6 * 2 * 2 * 2 * 32.0 * 128)


@pytest.mark.parametrize("times", [(0.2, 1.1), (1.1, 0.2)], ids=str)
def test_density_and_cost_do_not_disturb_each_other(times):
    """Both together are what each is alone, to the solver's tolerance."""
    rng = np.random.default_rng(1)
    field = MLP([2, 4, 2])
    theta, x = field.init(rng), rng.normal(size=(3, 2))
    delta = solve(WithLogDensity(field), started(x), theta, times, **TIGHT).z[-1, :, -1]
    for all_three, cost in with_cost(field):
        end = solve(all_three, started(x, 2), theta, times, **TIGHT).z[-1]
        C = solve(WithRunningCost(field, cost), started(x), theta, times, **TIGHT).z[-1, :, -1]
        assert np.allclose(end[:, -2], delta, rtol=0, atol=SOLVED)
        assert np.allclose(end[:, -1], C, rtol=0, atol=SOLVED * 10)
        assert np.all(np.sign(C) == np.sign(times[1] - times[0]))
