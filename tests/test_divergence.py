"""The trace of ∇§1 f and its gradient, exact and by probes, against complex step through f and its Jacobian."""

from itertools import product

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import TOL, Bounds, OnlyVJP, batches, close, networks, point, seeds

from refode import MLP, CubicSpiral, Linear, LotkaVolterra, Pendulum, VanDerPol
from refode.activations import ACTIVATIONS
from refode.divergence import (
    PROBES,
    directions,
    divergence,
    divergence_vjp,
    draw_probes,
    gaussian,
    linearize_divergence,
    rademacher,
)
from refode.finite_difference import complex_step, directional_complex_step
from refode.mlp_divergence import any_depth
from refode.running_cost import FrobeniusNorm, KineticEnergy, OfLeading, WeightedSum

kinds = st.sampled_from([None, *PROBES])


class OnlyJvpVjp(OnlyVJP):
    """A field with f, its VJP, and the one second derivative that a density needs."""

    def jvp_vjp(self, z, t, theta, v, w):
        return self.field.jvp_vjp(z, t, theta, v, w)


def drawn(kind, field, p, seed, K=3):
    """Probes for a point, or None."""
    return None if kind is None else draw_probes(kind, np.random.default_rng(seed), p.z.shape, K)


def trace(J, probes=None):
    """tr J of Jacobians (..., n, n), or 1/K Σ v·J v."""
    if probes is None:
        return np.trace(J, axis1=-2, axis2=-1)
    return np.einsum("k...i,...ij,k...j->...", probes, J, probes) / len(probes)


def cotangent(p, seed):
    """Of τ: one number a sample."""
    return np.asarray(np.random.default_rng([seed, 1]).uniform(-2, 2, p.z.shape[:-1]))


def blocks(field, p, c, probes=None):
    """The gradient of Σ a·f + Σ c τ in z, t and θ, from f and the Jacobian alone."""
    z, t, theta = p.at

    def paired(z, t, theta):
        return np.sum(p.a * field(z, t, theta)) + np.sum(c * trace(field.jacobian(z, t, theta), probes))

    return (
        complex_step(lambda x: paired(x, t, theta), z),
        complex_step(lambda x: paired(z, x, theta), t),
        complex_step(lambda x: paired(z, t, x), theta),
    )


def majorant(field, p, c, probes=None):
    """What the roundings of τ and of the blocks are relative to: every term of the algorithm by its modulus.

    |σ| ≤ 1 + |u| and |σ′|, |σ″| ≤ 1; an error eps |u| in u is one of eps |u| |σ‴| in σ″, and |σ‴| ≤ 2 (tanh's).
    """
    V, weight = directions(p.z, probes)
    t, a, c = abs(p.t), abs(p.a).reshape(-1, field.n), abs(c).reshape(-1, 1)
    x, V = abs(p.z).reshape(-1, field.n), abs(V).reshape(len(V), -1, field.n)
    T, kept, largest = V, [], max(1.0, x.max())
    for W, b, slope in field.layers(abs(p.theta)):
        Q = T @ W
        kept.append((x, T, Q, W, slope))
        x, T = x @ W + b + slope * t + 1, Q
        largest = max(largest, x.max())
    tau = weight * np.sum(V * T, axis=(0, -1)).reshape(p.z.shape[:-1])
    T_bar, t_bar, theta_bar, curved = weight * c * V, 0.0, [], 0.0  # the last σ is the identity
    for x, T, Q, W, slope in reversed(kept):
        a = a + curved * np.sum(T_bar * Q, axis=0)
        bias, W_bar = a.sum(axis=0), x.T @ a + np.einsum("kbi,kbj->ij", T, T_bar)
        theta_bar = [W_bar.ravel(), bias, *([t * bias] if field.time else []), *theta_bar]
        t_bar, a, T_bar, curved = t_bar + slope @ bias, a @ W.T, T_bar @ W.T, 1.0
    scale = 2 * largest
    return Bounds(scale * tau, (scale * a.reshape(p.z.shape), scale * t_bar, scale * np.concatenate(theta_bar)))


# ---- the trace ------------------------------------------------------------------------------------------------------


@given(networks(), kinds, seeds)
def test_D54_trace_against_complex_step_of_f(case, kind, seed):
    field, p = case
    probes = drawn(kind, field, p, seed)
    V, weight = directions(p.z, probes)
    along = [np.sum(v * directional_complex_step(lambda x: field(x, p.t, p.theta), p.z, v), axis=-1) for v in V]
    got = divergence(field, *p.at, probes)
    assert close(got, weight * sum(along), majorant(field, p, np.ones(p.z.shape[:-1]), probes).f)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("kind", [None, *PROBES])
def test_trace_and_gradient_to_twelve_digits(activation, depth, kind):
    """Of nets as they begin, where terms hardly exceed their sums: 1e-12 of the largest entry, whatever the bounds."""
    rng = np.random.default_rng(depth)
    field = MLP([3, *depth * [7], 3], activation)
    p = point(field, (4,), rng, field.init(rng))
    c, probes = cotangent(p, depth), drawn(kind, field, p, depth)
    _, tau, pullback = linearize_divergence(field, *p.at, probes)
    pairs = [
        (tau, trace(field.jacobian(*p.at), probes)),
        *zip(pullback(p.a, c), blocks(field, p, c, probes), strict=True),
    ]
    for got, want in pairs:
        assert np.max(abs(got - want)) <= 1e-12 * max(1.0, np.max(abs(want)))


FORMULAS = {
    Linear: lambda z, theta: np.trace(theta.reshape(3, 3)),
    LotkaVolterra: lambda z, theta: theta[0] - theta[1] * z[1] + theta[3] * z[0] - theta[2],
    VanDerPol: lambda z, theta: theta[0] * (1 - z[0] ** 2),
    CubicSpiral: lambda z, theta: 3 * (z[0] ** 2 * theta[0] + z[1] ** 2 * theta[3]),
    Pendulum: lambda z, theta: -theta[1],
}


@pytest.mark.parametrize(
    "field",
    [Linear(3), LotkaVolterra(), VanDerPol(), CubicSpiral(), Pendulum()],
    ids=lambda field: type(field).__name__,
)
@given(batch=batches, seed=seeds)
def test_the_trace_of_a_field_that_has_only_a_vjp(field, batch, seed):
    p = point(field, batch, np.random.default_rng(seed))
    got = divergence(field, *p.at)
    assert got.shape == batch
    for i in np.ndindex(batch):
        assert close(got[i], FORMULAS[type(field)](p.z[i], p.theta), 3 * 2 * 2**2 * 2)


# ---- its gradient ---------------------------------------------------------------------------------------------------


@given(networks(), kinds, seeds)
def test_E50_E51_gradient_of_the_trace_against_complex_step(case, kind, seed):
    """All blocks of a·∇f + c ∇τ at once: random cotangents on both."""
    field, p = case
    c, probes = cotangent(p, seed), drawn(kind, field, p, seed)
    bounds = majorant(field, p, c, probes)
    dz, tau, pullback = linearize_divergence(field, *p.at, probes)
    got = pullback(p.a, c)
    assert (dz.shape, tau.shape) == (p.z.shape, p.z.shape[:-1])
    assert [np.shape(block) for block in got] == [p.z.shape, (), (field.m,)]
    for block, want, bound in zip(got, blocks(field, p, c, probes), bounds.blocks, strict=True):
        assert close(block, want, bound)


@given(networks(), kinds, seeds)
def test_divergence_vjp_is_the_part_of_tau(case, kind, seed):
    field, p = case
    c, probes = cotangent(p, seed), drawn(kind, field, p, seed)
    _, _, pullback = linearize_divergence(field, *p.at, probes)
    whole, of_f = pullback(p.a, c), pullback(p.a, np.zeros_like(c))
    own = field.vjp(*p.at, p.a)
    for alone, both, f_bar, vjp, bound in zip(
        divergence_vjp(field, *p.at, c, probes), whole, of_f, own, majorant(field, p, c, probes).blocks, strict=True
    ):
        assert close(alone, both - f_bar, bound)
        assert close(f_bar, vjp, bound)


@given(networks(), seeds)
def test_jvp_vjp_against_complex_step(case, seed):
    """The gradient of w·(∇§1 f v)."""
    field, p = case
    v, w = np.random.default_rng(seed).uniform(-2, 2, (2, *p.z.shape))
    got = field.jvp_vjp(*p.at, v, w)
    z, t, theta = p.at

    def paired(z, t, theta):
        return np.sum(w * np.einsum("...ij,...j->...i", field.jacobian(z, t, theta), v))

    want = (
        complex_step(lambda x: paired(x, t, theta), z),
        complex_step(lambda x: paired(z, x, theta), t),
        complex_step(lambda x: paired(z, t, x), theta),
    )
    # w·J v is one part of (v + w)·J (v + w), whose terms are all there by their modulus.
    both = (abs(v) + abs(w))[None]
    for block, expected, bound in zip(got, want, majorant(field, p, np.ones(p.z.shape[:-1]), both).blocks, strict=True):
        assert close(block, expected, bound)


@st.composite
def shallow(draw):
    """A net of one or two hidden layers, for which there is a closed form, and a point; complex, too."""
    rng = np.random.default_rng(draw(seeds))
    n, *hidden = draw(st.lists(st.integers(1, 8), min_size=2, max_size=3))
    field = MLP([n, *hidden, n], rng.choice(sorted(ACTIVATIONS)), time=draw(st.booleans()))
    return field, point(field, draw(batches), rng, imaginary=draw(st.sampled_from([0.0, 0.01])))


@given(shallow(), seeds)
def test_E39_closed_forms_equal_the_general_algorithm(case, seed):
    field, p = case
    c = cotangent(p, seed) * (1 + 0.01j if np.iscomplexobj(p.z) else 1)
    assert_same(field.linearize_divergence(*p.at), any_depth(field, *p.at, *directions(p.z, None)), field, p, c)


@given(networks(), kinds, seeds)
def test_a_field_that_has_only_jvp_vjp(case, kind, seed):
    field, p = case
    c, probes = cotangent(p, seed), drawn(kind, field, p, seed)
    bare = linearize_divergence(OnlyJvpVjp(field), *p.at, probes)
    assert_same(bare, field.linearize_divergence(*p.at, probes), field, p, c, probes)


def assert_same(one, other, field, p, c, probes=None):
    """Two (f, τ, pullback); near the real axis the derivatives of σ are within a factor of two of their bounds."""
    bounds, slack = majorant(field, p, c, probes), 2 if np.iscomplexobj(p.z) else 1
    assert close(one[0], other[0], slack * oracles.majorant(field, p).f)
    assert close(one[1], other[1], slack * bounds.f)
    for got, want, bound in zip(one[2](p.a, c), other[2](p.a, c), bounds.blocks, strict=True):
        assert close(got, want, slack * bound)


@given(networks(), kinds, seeds)
def test_a_batch_is_its_samples(case, kind, seed):
    field, p = case
    c, probes = cotangent(p, seed), drawn(kind, field, p, seed)
    bounds, of_f = majorant(field, p, c, probes), oracles.majorant(field, p).f
    dz, tau, pullback = linearize_divergence(field, *p.at, probes)
    z_bar, t_bar, theta_bar = pullback(p.a, c)
    t_sum, theta_sum = 0.0, np.zeros(field.m)
    for i in np.ndindex(p.z.shape[:-1]):
        own = None if probes is None else probes[(slice(None), *i)]
        dz_i, tau_i, pull_i = linearize_divergence(field, p.z[i], p.t, p.theta, own)
        single = pull_i(p.a[i], c[i])
        assert close(dz[i], dz_i, of_f[i])
        assert close(tau[i], tau_i, bounds.f[i])
        assert close(z_bar[i], single[0], bounds.blocks[0][i])
        t_sum, theta_sum = t_sum + single[1], theta_sum + single[2]
    assert close(t_bar, t_sum, bounds.blocks[1])
    assert close(theta_bar, theta_sum, bounds.blocks[2])


@given(networks(), kinds, seeds)
def test_evaluating_twice_gives_the_same_numbers(case, kind, seed):
    """And changes no input: those of `networks` are read-only."""
    field, p = case
    c, probes = cotangent(p, seed), drawn(kind, field, p, seed)
    _, tau, pullback = linearize_divergence(field, *p.at, probes)
    kept = [block.copy() for block in pullback(p.a, c)]
    pullback(p.a + 1, c + 1)
    assert all(np.array_equal(x, y) for x, y in zip(kept, pullback(p.a, c), strict=True))
    assert np.array_equal(tau, divergence(field, *p.at, probes))


def test_an_empty_batch():
    for sizes in ([2, 3, 2], [2, 3, 3, 2], [2, 2]):
        field, z = MLP(sizes), np.empty((0, 2))
        theta = field.init(np.random.default_rng(0))
        dz, tau, pullback = linearize_divergence(field, z, 0.5, theta)
        z_bar, t_bar, theta_bar = pullback(z, np.empty(0))
        assert (dz.shape, tau.shape, z_bar.shape) == ((0, 2), (0,), (0, 2))
        assert t_bar == 0
        assert not theta_bar.any()


# ---- probes ---------------------------------------------------------------------------------------------------------


def all_signs(shape):
    """Every sign vector, the same for all samples: (2^n, ..., n)."""
    signs = np.array(list(product([-1.0, 1.0], repeat=shape[-1])))
    return np.broadcast_to(signs.reshape(len(signs), *[1] * (len(shape) - 1), -1), (len(signs), *shape))


@given(networks().filter(lambda case: case[0].n <= 6), seeds)
def test_P42_the_mean_over_all_signs_is_the_trace(case, seed):
    """And its gradient that of the trace."""
    field, p = case
    c, probes = cotangent(p, seed), all_signs(p.z.shape)
    bounds = majorant(field, p, c, probes)
    _, tau, pullback = linearize_divergence(field, *p.at)
    _, mean, of_mean = linearize_divergence(field, *p.at, probes)
    assert close(mean, tau, bounds.f)
    for got, want, bound in zip(of_mean(p.a, c), pullback(p.a, c), bounds.blocks, strict=True):
        assert close(got, want, bound)


def symmetric_part(field, seed):
    """S of ∇§1 f at a random point, the point, and τ."""
    rng = np.random.default_rng(seed)
    p = point(field, (), rng, 2 * field.init(rng))
    J = field.jacobian(*p.at)
    return (J + J.T) / 2, p, np.trace(J)


def predicted(kind, S):
    """Var v·J v of one probe, and its fourth cumulant.

    Gaussian: the cumulants of a quadratic form are 2^{r−1} (r−1)! tr S^r. Signs: Σ_{i<j} 2 S_ij v_i v_j, of which the
    fourth moment is a mean over all 2^n.
    """
    if kind == "gaussian":
        return 2 * np.sum(S**2), 48 * np.trace(np.linalg.matrix_power(S, 4))
    signs = all_signs((len(S),))
    fluctuation = np.einsum("ki,ij,kj->k", signs, S, signs) - np.trace(S)
    variance = 2 * (np.sum(S**2) - np.sum(np.diag(S) ** 2))
    return variance, np.mean(fluctuation**4) - 3 * variance**2


@pytest.mark.parametrize("seed", range(3))
def test_E40_the_variance_over_all_signs_is_its_closed_form(seed):
    S, p, tau = symmetric_part(MLP([4, 6, 4]), seed)
    estimates = np.array([divergence(MLP([4, 6, 4]), *p.at, v[None]) for v in all_signs((4,))])
    variance, _ = predicted("rademacher", S)
    assert abs(np.mean((estimates - tau) ** 2) - variance) <= TOL * np.sum(abs(S)) ** 2
    assert variance <= predicted("gaussian", S)[0]


@pytest.mark.parametrize("seed", range(3))
def test_E40_the_variance_over_all_gaussian_probes_is_its_closed_form(seed):
    """The mean of τ̂², of fourth degree in each probe, by a Gauss-Hermite rule of three points a dimension: exact."""
    net = MLP([4, 6, 4])
    S, p, tau = symmetric_part(net, seed)
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    probes, weight = np.array(list(product(nodes, repeat=4))), np.prod(list(product(weights, repeat=4)), axis=1)
    estimates = np.array([divergence(net, *p.at, v[None]) for v in probes])
    weight /= weight.sum()
    size = np.sum(abs(S)) ** 2 * np.sum(nodes**4)
    assert abs(weight @ estimates - tau) <= TOL * size
    assert abs(weight @ (estimates - tau) ** 2 - predicted("gaussian", S)[0]) <= TOL * size


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("K", [1, 3])
def test_E40_estimates_have_the_mean_and_the_variance_that_is_said(kind, K):
    """N estimates of K probes each: their mean has the standard error √(V/N), V = Var/K, their sample variance

    √((κ + 2 V²)/N), κ the fourth cumulant, which K independent probes divide by K³. Five of them are allowed.
    """
    field, N = MLP([4, 6, 4]), 100_000
    S, p, tau = symmetric_part(field, 0)
    variance, kappa = predicted(kind, S)
    V, kappa = variance / K, kappa / K**3
    probes = draw_probes(kind, np.random.default_rng(1), (N, 4), K)
    estimates = divergence(field, np.broadcast_to(p.z, (N, 4)), p.t, p.theta, probes)
    assert abs(estimates.mean() - tau) <= 5 * np.sqrt(V / N)
    assert abs(estimates.var() - V) <= 5 * np.sqrt((kappa + 2 * V**2) / N)


@pytest.mark.parametrize("kind", PROBES)
def test_probes_come_from_the_generator_alone(kind):
    one, again, other = (draw_probes(kind, np.random.default_rng(seed), (3, 2), 4) for seed in (5, 5, 6))
    assert one.shape == (4, 3, 2)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert PROBES[kind] is {"rademacher": rademacher, "gaussian": gaussian}[kind]
    assert set(np.unique(rademacher(np.random.default_rng(0), (50,)))) == {-1.0, 1.0}


def test_an_unknown_kind_of_probe_is_refused():
    with pytest.raises(ValueError, match="did you mean 'gaussian'"):
        draw_probes("gausian", np.random.default_rng(0), (2,))


@pytest.mark.parametrize("shape", [(2, 3), (4, 2, 2), (4, 3, 1), (0, 3, 2), (3, 2), (2,)])
@pytest.mark.parametrize("field", [MLP([2, 3, 2]), OnlyVJP(MLP([2, 3, 2]))], ids=["own", "made"])
def test_probes_of_another_shape_are_refused(field, shape):
    with pytest.raises(ValueError, match=r"probes must have shape \(K, 3, 2\), got"):
        divergence(field, np.ones((3, 2)), 0.0, np.ones(field.m), np.ones(shape))


def test_probes_may_be_a_list():
    field = MLP([2, 3, 2])
    theta = field.init(np.random.default_rng(0))
    got = divergence(field, np.ones(2), 0.0, theta, [[1.0, -1.0]])
    assert got == divergence(field, np.ones(2), 0.0, theta, np.array([[1.0, -1.0]]))


def test_the_gradient_of_a_field_without_second_derivatives_is_refused_by_name():
    field = OnlyVJP(Linear(2))
    _, tau, pullback = linearize_divergence(field, np.ones((3, 2)), 0.0, np.arange(4.0))
    assert np.array_equal(tau, [3.0, 3.0, 3.0])
    with pytest.raises(TypeError, match="OnlyVJP has no jvp_vjp"):
        pullback(np.ones((3, 2)), np.ones(3))
    with pytest.raises(TypeError, match="OnlyVJP has no jvp_vjp"):
        FrobeniusNorm(field)


# ---- the norm of the Jacobian, as a running cost --------------------------------------------------------------------


def frobenius(J, probes):
    """|J|²_F, or 1/K Σ |J v|²."""
    if probes is None:
        return np.sum(J * J, axis=(-2, -1))
    Jv = np.einsum("...ij,k...j->k...i", J, probes)
    return np.sum(Jv * Jv, axis=(0, -1)) / len(probes)


@given(networks(), kinds, st.booleans(), seeds)
def test_the_frobenius_norm_against_complex_step(case, kind, bare, seed):
    field, p = case
    c, probes = cotangent(p, seed), drawn(kind, field, p, seed)
    cost = FrobeniusNorm(OnlyJvpVjp(field) if bare else field, probes)
    z, t, theta = p.at
    value, got = cost(*p.at), cost.vjp(*p.at, c)
    assert value.shape == p.z.shape[:-1]
    assert [np.shape(block) for block in got] == [p.z.shape, (), (field.m,)]

    def paired(z, t, theta):
        return np.sum(c * frobenius(field.jacobian(z, t, theta), probes))

    want = (
        complex_step(lambda x: paired(x, t, theta), z),
        complex_step(lambda x: paired(z, x, theta), t),
        complex_step(lambda x: paired(z, t, x), theta),
    )
    bounds = frobenius_majorant(field, p, c, probes)
    assert close(value, frobenius(field.jacobian(*p.at), probes), bounds.f)
    for block, expected, bound in zip(got, want, bounds.blocks, strict=True):
        assert close(block, expected, bound)


def frobenius_majorant(field, p, c, probes):
    """Of |J v|² = w·J v with w = J v: terms of (v + |J v|)·J (v + |J v|), |J v| by its modulus; twice for ∇."""
    V, weight = directions(p.z, probes)
    Jv = abs(V)
    for W, _, _ in field.layers(abs(p.theta)):
        Jv = Jv @ W
    bounds = majorant(field, p, c, np.asarray(abs(V) + Jv))
    count = weight * len(V)  # a probe stands in `bounds` with 1/K, here with its weight
    return Bounds(2 * count * bounds.f, tuple(4 * count * block for block in bounds.blocks))


@given(networks().filter(lambda case: case[0].n <= 6), seeds)
def test_the_mean_of_the_norm_over_all_signs_is_exact(case, seed):
    field, p = case
    c, probes = cotangent(p, seed), all_signs(p.z.shape)
    exact, mean, bounds = FrobeniusNorm(field), FrobeniusNorm(field, probes), frobenius_majorant(field, p, c, probes)
    assert close(mean(*p.at), exact(*p.at), bounds.f)
    for got, want, bound in zip(mean.vjp(*p.at, c), exact.vjp(*p.at, c), bounds.blocks, strict=True):
        assert close(got, want, bound)


@given(batches, seeds)
def test_a_weighted_sum_of_costs(batch, seed):
    field = MLP([2, 3, 2])
    p = point(field, batch, np.random.default_rng(seed))
    c = cotangent(p, seed)
    energy, norm = KineticEnergy(field), FrobeniusNorm(field)
    cost = WeightedSum((0.5, energy), (3.0, norm))
    assert np.allclose(cost(*p.at), 0.5 * energy(*p.at) + 3 * norm(*p.at), rtol=1e-14, atol=0)
    for got, one, other in zip(cost.vjp(*p.at, c), energy.vjp(*p.at, c), norm.vjp(*p.at, c), strict=True):
        assert np.allclose(got, 0.5 * one + 3 * other, rtol=1e-13, atol=1e-13 * (abs(one) + abs(other)).max())


@given(batches, seeds)
def test_a_cost_of_the_leading_components(batch, seed):
    field = MLP([2, 3, 2])
    p = point(field, batch, np.random.default_rng(seed))
    c, energy = cotangent(p, seed), KineticEnergy(field)
    cost, z = OfLeading(energy, 2), np.concatenate([p.z, p.a], axis=-1)
    assert np.array_equal(cost(z, p.t, p.theta), energy(*p.at))
    (z_bar, *shared), (want, *same) = cost.vjp(z, p.t, p.theta, c), energy.vjp(*p.at, c)
    assert np.array_equal(z_bar[..., :2], want)
    assert np.array_equal(z_bar[..., 2:], np.zeros_like(p.a))
    assert all(np.array_equal(x, y) for x, y in zip(shared, same, strict=True))


def test_a_sum_of_no_costs_is_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        WeightedSum()
    with pytest.raises(ValueError, match="weight must be finite"):
        WeightedSum((np.nan, KineticEnergy(Linear(2))))
