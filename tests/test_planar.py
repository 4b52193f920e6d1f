"""Planar flows: the fields against complex step, the layers against determinants, both against the closed form."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles import BATCHES, TOL, blocks, frozen, pairing, point, seeds

from refode import check_field, solve
from refode.divergence import draw_probes, linearize_divergence
from refode.finite_difference import complex_solve, complex_step, directional_complex_step, slope
from refode.flows import ContinuousFlow, StandardNormal
from refode.log_density import WithLogDensity
from refode.planar import ContinuousPlanar, HyperPlanar, PlanarFlow, constrain, planar_closed_form

sizes = st.integers(1, 4)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@st.composite
def problems(draw):
    """A continuous planar flow of any kind, and a point. Hypothesis looks for sizes and a seed, the seed spreads."""
    n, width, hidden = draw(sizes), draw(sizes), draw(st.integers(1, 3))
    kinds = [ContinuousPlanar(n, width), ContinuousPlanar(n, width, gated=True), HyperPlanar(n, width, hidden)]
    field, rng = draw(st.sampled_from(kinds)), np.random.default_rng(draw(seeds))
    return field, point(field, BATCHES[rng.integers(len(BATCHES))], rng), rng


def agree(got, want):
    """Whether two tuples of arrays agree to rounding: each entry relative to the largest of all of them.

    Terms cancel within a block, in t̄ for one, but not in all blocks at once: they share their terms.
    """
    scale = max(1.0, *(np.max(abs(np.asarray(x)), initial=0) for x in want))
    return all(np.shape(x) == np.shape(y) and np.all(abs(x - y) <= TOL * scale) for x, y in zip(got, want, strict=True))


def gradient(f, z, t, theta):
    """∇f of a scalar f(z, t, θ) in its three blocks."""
    return (
        complex_step(lambda x: f(x, t, theta), z),
        complex_step(lambda x: f(z, x, theta), t),
        complex_step(lambda x: f(z, t, x), theta),
    )


# ---- the vector fields ------------------------------------------------------------------------------------------


def units_by_loops(field, t, theta):
    """(u, w, b, g) of each unit, from the layout of θ as documented."""
    n, entries = field.n, list(theta)
    if isinstance(field, HyperPlanar):
        H, outputs = field.hidden, field.width * (2 * field.n + 2)
        x = [np.tanh(entries[j] * t + entries[H + j]) for j in range(H)]
        C, D = entries[2 * H : 2 * H + H * outputs], entries[2 * H + H * outputs :]
        entries = [sum(x[j] * C[j * outputs + o] for j in range(H)) + D[o] for o in range(outputs)]
    size = len(entries) // field.width
    for k in range(field.width):
        one = entries[k * size : (k + 1) * size]
        u, w, b, gate = one[:n], one[n : 2 * n], one[2 * n], one[2 * n + 1 :]
        q = gate[0] * t + gate[1] if len(gate) == 2 else sum(gate)
        yield u, w, b, sigmoid(q) if gate else 1.0


def by_loops(field, z, t, theta):
    """f of one sample, an entry at a time."""
    f = [0.0] * field.n
    for u, w, b, g in units_by_loops(field, t, theta):
        s = b
        for i in range(field.n):
            s = s + w[i] * z[i]
        f = [f[i] + g * np.tanh(s) * u[i] for i in range(field.n)]
    return np.array(f)


@given(problems(), st.booleans())
def test_P51_f_is_the_formula(case, is_complex):
    field, p, rng = case
    if is_complex:
        p = point(field, p.z.shape[:-1], rng, imaginary=0.01)
    got = field(*p.at)
    assert got.dtype == (complex if is_complex else float)
    for i in np.ndindex(p.z.shape[:-1]):
        assert agree([got[i]], [by_loops(field, p.z[i], p.t, p.theta)])


@pytest.mark.parametrize(
    "field",
    [
        ContinuousPlanar(3),
        ContinuousPlanar(1),
        ContinuousPlanar(2, 5),
        ContinuousPlanar(2, 3, gated=True),
        HyperPlanar(2, 3, 4),
        HyperPlanar(1, 1, 1),
    ],
    ids=repr,
)
def test_check_field_finds_nothing(field):
    report = check_field(field)
    assert report.ok, report
    assert report.oracle == "complex step"


@given(problems())
def test_vjp_against_complex_step(case):
    field, p, _ = case
    assert agree(field.vjp(*p.at, p.a), blocks(field, p))
    dz, pullback = field.linearize(*p.at)
    assert agree([dz], [field(*p.at)])
    assert agree(pullback(p.a), blocks(field, p))


@given(problems(), st.booleans())
def test_jvp_against_complex_step_and_vjp(case, is_complex):
    field, p, rng = case
    dz, dt, dtheta = p.tangent
    want = directional_complex_step(lambda x: field(p.z + x * dz, p.t + x * dt, p.theta + x * dtheta), 0.0, 1.0)
    assert agree([field.jvp(*p.at, *p.tangent)], [want])
    if is_complex:
        p = point(field, p.z.shape[:-1], rng, imaginary=0.01)
    vjp = field.vjp(*p.at, p.a)
    zero = tuple(np.zeros_like(v) for v in p.tangent)
    for block in range(3):  # ⟨a, ∇f·v⟩ two ways, without conjugation, a block at a time
        v = tuple(p.tangent[i] if i == block else zero[i] for i in range(3))
        terms = pairing(map(abs, vjp), map(abs, v))
        assert abs(np.sum(p.a * field.jvp(*p.at, *v)) - pairing(vjp, v)) <= TOL * max(1.0, terms)


@given(problems())
def test_jacobian_and_trace(case):
    """τ = tr ∇§1 f, beside the f of __call__."""
    field, p, _ = case
    J = field.jacobian(*p.at)
    for i in np.ndindex(p.z.shape[:-1]):
        assert agree([J[i]], [complex_step(lambda x: field(x, p.t, p.theta), p.z[i])])
    dz, tau, _ = field.linearize_divergence(*p.at)
    assert agree([dz, tau], [field(*p.at), np.trace(J, axis1=-2, axis2=-1)])


@given(problems(), st.integers(1, 3))
def test_trace_estimate(case, P):
    """τ̂ = 1/P Σ v·∇§1 f v, each sample with its own probes."""
    field, p, rng = case
    V = draw_probes("gaussian", rng, p.z.shape, P)
    want = np.mean(np.einsum("p...i,...ij,p...j->p...", V, field.jacobian(*p.at), V), axis=0)
    dz, tau, _ = field.linearize_divergence(*p.at, V)
    assert agree([dz, tau], [field(*p.at), want])


@given(problems(), st.integers(0, 3))
def test_divergence_pullback_against_complex_step(case, P):
    """∇(a·f + c τ) in its three blocks, exactly and by probes, with a cotangent c a sample."""
    field, p, rng = case
    V = draw_probes("gaussian", rng, p.z.shape, P) if P else None
    c = frozen(np.asarray(rng.uniform(-2, 2, p.z.shape[:-1])))

    def pairing(z, t, theta):
        dz, tau, _ = field.linearize_divergence(z, t, theta, V)
        return np.sum(p.a * dz) + np.sum(c * tau)

    _, _, pullback = field.linearize_divergence(*p.at, V)
    assert agree(pullback(p.a, c), gradient(pairing, *p.at))


@given(problems())
def test_jvp_vjp_against_complex_step(case):
    """∇(w·∇§1 f v), v and w held."""
    field, p, _ = case
    v = p.tangent[0]

    def pairing(z, t, theta):
        return np.sum(p.a * field.jvp(z, t, theta, v, 0.0, np.zeros(field.m)))

    assert agree(field.jvp_vjp(*p.at, v, p.a), gradient(pairing, *p.at))


class Generic:
    """A field as it is, but for `linearize_divergence`, which the library has to make from `jvp_vjp`."""

    def __init__(self, field):
        self.field = field

    def __call__(self, *at):
        return self.field(*at)

    def __getattr__(self, name):
        if name == "linearize_divergence":
            raise AttributeError(name)
        return getattr(self.field, name)


@given(problems(), st.integers(0, 2))
def test_the_generic_divergence_agrees(case, P):
    field, p, rng = case
    V = draw_probes("rademacher", rng, p.z.shape, P) if P else None
    c = rng.uniform(-2, 2, p.z.shape[:-1])
    *values, pullback = field.linearize_divergence(*p.at, V)
    *others, generic = linearize_divergence(Generic(field), *p.at, V)
    assert agree(values, others)
    assert agree(pullback(p.a, np.asarray(c)), generic(p.a, np.asarray(c)))


@given(problems())
def test_complex_derivatives_against_a_circle(case):
    """At complex points S = a·f + c τ is analytic, the pullback its gradient: the mean of S/(r ω) over |ω| = 1."""
    field, p, rng = case
    p = point(field, p.z.shape[:-1], rng, imaginary=0.01)
    c = np.asarray(rng.uniform(-2, 2, p.z.shape[:-1]))
    dz, dt, dtheta = p.tangent

    def value(w):
        f, tau, _ = field.linearize_divergence(p.z + w * dz, p.t + w * dt, p.theta + w * dtheta)
        return np.sum(p.a * f) + np.sum(c * tau)

    circle = 0.01 * np.exp(2j * np.pi * np.arange(24) / 24)
    got = field.linearize_divergence(*p.at)[2](p.a, c)
    # Rounding over the radius, 100 TOL. The circle moves each s by 0.3 at most, a fifth of the way to a pole: 5⁻²⁴.
    bound = 100 * TOL * max(1.0, pairing(map(abs, got), map(abs, p.tangent)))
    assert abs(pairing(got, p.tangent) - np.mean([value(w) / w for w in circle])) <= bound


@given(problems())
def test_a_batch_is_its_samples(case):
    """z by stacking, t and θ by sums."""
    field, p, rng = case
    c = np.asarray(rng.uniform(-2, 2, p.z.shape[:-1]))
    dz, tau, pullback = field.linearize_divergence(*p.at)
    whole = pullback(p.a, c)
    parts = {i: field.linearize_divergence(p.z[i], p.t, p.theta) for i in np.ndindex(p.z.shape[:-1])}
    singles = {i: pull(p.a[i], c[i]) for i, (_, _, pull) in parts.items()}
    for i, single in singles.items():
        assert agree([dz[i], tau[i], whole[0][i]], [parts[i][0], parts[i][1], single[0]])
    sums = [np.asarray(sum(single[block] for single in singles.values())) for block in (1, 2)]
    assert agree(whole[1:], sums)


@pytest.mark.parametrize("field", [ContinuousPlanar(2, 3, gated=True), HyperPlanar(2, 3, 2)], ids=repr)
def test_an_empty_batch(field):
    z, theta = np.empty((0, 2)), field.init(np.random.default_rng(0))
    dz, tau, pullback = field.linearize_divergence(z, 0.5, theta)
    z_bar, t_bar, theta_bar = pullback(z, tau)
    assert (dz.shape, tau.shape, z_bar.shape) == ((0, 2), (0,), (0, 2))
    assert t_bar == 0
    assert np.array_equal(theta_bar, np.zeros(field.m))


@given(problems())
def test_evaluating_twice_gives_the_same_numbers(case):
    """And changes no input: those of `point` are read-only."""
    field, p, _ = case
    c = np.ones(p.z.shape[:-1])
    _, _, pullback = field.linearize_divergence(*p.at)
    kept = [np.copy(block) for block in pullback(p.a, c)]
    pullback(p.a + 1, c + 1)
    for again in (pullback(p.a, c), field.linearize_divergence(*p.at)[2](p.a, c)):
        assert all(np.array_equal(x, y) for x, y in zip(kept, again, strict=True))


# ---- gates and time ---------------------------------------------------------------------------------------------


@given(seeds)
def test_gates(seed):
    """Open gates change nothing, half-open ones halve, closed ones stop; each unit has its own, moving with t."""
    rng = np.random.default_rng(seed)
    plain, gated = ContinuousPlanar(2, 3), ContinuousPlanar(2, 3, gated=True)
    theta, theta_gated = rng.normal(size=plain.m), np.zeros(gated.m)
    for view, block in zip(gated.split(theta_gated), plain.split(theta), strict=False):
        view[...] = block
    rate, shift = gated.split(theta_gated)[3:]
    z, (u, w, b) = rng.normal(size=(4, 2)), plain.split(theta)
    assert agree([gated(z, 9.0, theta_gated)], [0.5 * plain(z, 9.0, theta)])
    shift[...] = 40.0  # 1 − sigmoid(40) = 4e-18
    assert agree([gated(z, 9.0, theta_gated)], [plain(z, 9.0, theta)])
    rate[1], shift[:] = 80.0, -40.0
    only = np.tanh(z @ w[1] + b[1])[:, None] * u[1]
    assert agree([gated(z, 1.0, theta_gated), gated(z, 0.0, theta_gated)], [only, 0 * only])


def test_without_gates_nothing_depends_on_t():
    field, rng = ContinuousPlanar(2, 3), np.random.default_rng(0)
    p = point(field, (3,), rng)
    assert np.array_equal(field(p.z, 0.1, p.theta), field(p.z, 7.0, p.theta))
    assert field.vjp(*p.at, p.a)[1] == 0
    assert field.m == 3 * 5
    assert ContinuousPlanar(2, 3, gated=True).m == 3 * 7


@given(seeds)
def test_a_constant_hypernetwork_is_a_continuous_planar_flow(seed):
    """With C = 0 the outputs are D: a unit's u, w, b, and as gate the sigmoid of its q."""
    rng = np.random.default_rng(seed)
    hyper, plain = HyperPlanar(2, 3, 4), ContinuousPlanar(2, 3, gated=True)
    theta = rng.normal(size=hyper.m)
    _, _, C, D = hyper.split(theta)
    C[...] = 0
    rows = D.reshape(3, 6)
    rate = np.zeros((3, 1))
    same = np.concatenate([rows[:, :5], rate, rows[:, 5:]], axis=1).ravel()
    z = rng.normal(size=(4, 2))
    got, want = hyper.linearize_divergence(z, 0.3, theta)[:2], plain.linearize_divergence(z, 0.3, same)[:2]
    assert agree(got, want)
    assert hyper.m == 4 + 4 + 4 * 18 + 18


# ---- the constraint ---------------------------------------------------------------------------------------------


@given(sizes, seeds)
def test_the_constraint(n, seed):
    """û·w = log(1 + e^(w·u)) − 1 > −1, and û − u is along w."""
    u, w = np.random.default_rng(seed).uniform(-2, 2, (2, 3, n))
    u_hat, _ = constrain(u, w)
    x = np.sum(u * w, axis=-1)
    got = np.sum(u_hat * w, axis=-1)
    assert np.all(got > -1)
    assert np.all(abs(got - (np.log(1 + np.exp(x)) - 1)) <= TOL * (1 + abs(x)))
    moved = u_hat - u
    along = np.sum(moved * w, axis=-1, keepdims=True) * w / np.sum(w * w, axis=-1, keepdims=True)
    assert np.all(abs(moved - along) <= TOL * np.max(abs(moved), axis=-1, keepdims=True))


@given(sizes, seeds)
def test_the_constraint_pulled_back(n, seed):
    rng = np.random.default_rng(seed)
    u, w, u_bar = rng.uniform(-2, 2, (3, 3, n))
    _, pullback = constrain(u, w)
    want = (
        complex_step(lambda x: np.sum(u_bar * constrain(x, w)[0]), u),
        complex_step(lambda x: np.sum(u_bar * constrain(u, x)[0]), w),
    )
    # û ~ 1/|w|, its derivative in w ~ 1/|w|²; `agree` is relative to the largest.
    assert agree(pullback(u_bar), want)


def test_a_far_constraint_neither_overflows_nor_cancels():
    w = np.array([1.0, 0.0])
    for x in (-800.0, 800.0):
        u_hat, pullback = constrain(np.array([x, 1.0]), w)
        assert np.all(np.isfinite(np.concatenate(pullback(np.ones(2)))))
        assert np.array_equal(u_hat, [max(x, 0.0) - 1.0, 1.0])


# ---- the discrete flow ------------------------------------------------------------------------------------------


@st.composite
def flows(draw, constrained=(True, False)):
    """A discrete flow of one to four layers, a θ and points, entries in [−2, 2]; |w| ≥ 1/2, as û grows with 1/|w|."""
    flow = PlanarFlow(draw(sizes), draw(sizes), constrained=draw(st.sampled_from(constrained)))
    rng = np.random.default_rng(draw(seeds))
    theta = rng.uniform(-2, 2, flow.m)
    w = flow.split(theta)[1]
    w[:, 0] += np.copysign(0.5, w[:, 0])
    z = rng.uniform(-2, 2, (*BATCHES[rng.integers(len(BATCHES))], flow.n))
    return flow, frozen(z), frozen(theta), rng


def layers_of(flow, theta):
    """(u as used, w, b) of each layer, from the layout of θ as documented."""
    n = flow.n
    for row in theta.reshape(flow.layers, 2 * n + 1):
        u, w, b = row[:n], row[n : 2 * n], row[2 * n]
        x = w @ u
        yield (u + (np.log(1 + np.exp(x)) - 1 - x) * w / (w @ w) if flow.constrained else u), w, b


class Walk:
    """One sample through the layers: states z_0, ..., z_K, determinants by complex step, the gains of errors."""

    def __init__(self, flow, z, theta):
        self.states, self.dets, self.forward_gain, self.backward_gain = [z], [], 1.0, 1.0
        self.size = 1.0 + np.linalg.norm(z)
        for u, w, b in layers_of(flow, theta):

            def g(z, u=u, w=w, b=b):
                return z + u * np.tanh(w @ z + b)

            self.dets.append(np.linalg.det(complex_step(g, self.states[-1])))
            self.states.append(g(self.states[-1]))
            # |∇g| ≤ 1 + |u||w|, and (I + h′ u wᵀ)⁻¹ = I − h′ u wᵀ/det.
            push = np.linalg.norm(u) * np.linalg.norm(w)
            self.forward_gain *= 1 + push
            self.backward_gain *= 1 + push / abs(self.dets[-1])
            self.size += (1 + abs(b)) * np.linalg.norm(u) + np.linalg.norm(self.states[-1])


def walks(flow, z, theta):
    return {i: Walk(flow, z[i], theta) for i in np.ndindex(z.shape[:-1])}


@given(flows())
def test_D39_D40_E24_forward_and_log_determinant(case):
    """z_K is the composition, log |det| the sum over the layers and that of the composition's Jacobian.

    As printed in our copy, eq. (1) sums |det| itself; since x − log x ≥ 1 it misses by 1 a layer or more.
    """
    flow, z, theta, _ = case
    z_K, log_det = flow.forward(z, theta)
    assert (z_K.shape, log_det.shape) == (z.shape, z.shape[:-1])
    for i, walk in walks(flow, z, theta).items():
        assert agree([z_K[i]], [walk.states[-1]])
        bound = TOL * walk.backward_gain
        assert abs(log_det[i] - np.sum(np.log(np.abs(walk.dets)))) <= bound
        whole = complex_step(lambda x: flow.linearize(x, theta)[0], z[i])
        assert abs(log_det[i] - np.linalg.slogdet(whole).logabsdet) <= bound * walk.forward_gain
        assert abs(log_det[i] - np.sum(np.abs(walk.dets))) >= flow.layers - bound


@given(flows())
def test_planar_pullback_against_complex_step(case):
    """∇(a·z_K + c log |det|) in z_0 and θ."""
    flow, z, theta, rng = case
    a, c = rng.uniform(-2, 2, z.shape), np.asarray(rng.uniform(-2, 2, z.shape[:-1]))
    assume(all(np.min(np.abs(walk.dets)) > 0.05 for walk in walks(flow, z, theta).values()))  # ∇ log det ~ 1/det

    def pairing(z, theta):
        z_K, log_det, _ = flow.linearize(z, theta)
        return np.sum(a * z_K) + np.sum(c * log_det)

    want = complex_step(lambda x: pairing(x, theta), z), complex_step(lambda x: pairing(z, x), theta)
    assert agree(flow.vjp(z, theta, a, c), want)
    assert agree(flow.linearize(z, theta)[2](a, c), want)


@given(flows(constrained=(True,)))
def test_P27_inverse_round_trips(case):
    """g⁻¹(g(z)) = z and g(g⁻¹(x)) = x: rounding is amplified by ∇g⁻¹ in the first, and by ∇g in both."""
    flow, z, theta, _ = case
    z_K, _ = flow.forward(z, theta)
    back = flow.inverse(z_K, theta)
    again, _ = flow.forward(back, theta)
    for i, walk in walks(flow, z, theta).items():
        rounding = 1e-15 * walk.size * walk.forward_gain
        assert np.max(abs(again[i] - z_K[i])) <= rounding * flow.layers
        assert np.max(abs(back[i] - z[i])) <= rounding * flow.layers * walk.backward_gain


@pytest.mark.parametrize("constrained", [True, False])
def test_round_trip_of_a_flow_of_usual_size(constrained):
    flow, rng = PlanarFlow(3, 8, constrained), np.random.default_rng(0)
    theta, z = flow.init(rng, 0.7), rng.normal(size=(500, 3))
    assert np.max(abs(flow.inverse(flow.forward(z, theta)[0], theta) - z)) <= 1e-13


@pytest.mark.parametrize("kappa", [-1.0, -1 + 1e-15, -1 + 1e-12, -1 + 1e-6, -0.999, -0.5, 0.0, 1.0, 30.0, 1e4])
def test_the_inverse_from_one_end_of_its_range_to_the_other(kappa):
    """s + κ tanh s = r to rounding, for the largest and the least κ, r near and far, and 0; and it ends."""
    flow, theta = PlanarFlow(1, 1, constrained=False), np.array([kappa, 1.0, 0.0])
    rng = np.random.default_rng(0)
    r = np.concatenate([rng.normal(size=2000) * 10.0 ** rng.uniform(-20, 8, 2000), kappa * rng.uniform(0.9, 1.1, 999)])
    r = np.append(r, [0.0, -0.0, 5e-324, 1e-300, 1e300, kappa])[:, None]
    s = flow.inverse(r, theta)
    y = np.tanh(s)
    # s itself is rounded, by eps (|r| + |κ|) at most, and that is amplified by the slope.
    slope = 1 + abs(kappa) * (1 - y * y)
    assert np.all(abs(s + kappa * y - r) <= 4e-15 * slope * (abs(r) + min(1.0, abs(kappa)) + abs(kappa * y)))
    if kappa >= 0:
        assert np.all(np.sign(s) * np.sign(r) >= 0)
        assert np.all(abs(s) <= abs(r))


@pytest.mark.parametrize("kappa", [1e12, 1e17, 1e300])
def test_the_inverse_ends_where_kappa_leaves_no_digit(kappa):
    flow, theta = PlanarFlow(1, 1, constrained=False), np.array([kappa, 1.0, 0.0])
    near = 1 - 10.0 ** np.random.default_rng(0).uniform(-17, 0, 2000)
    r = np.concatenate([kappa * near, near, kappa * (1 - 1.1e-16 * np.arange(100)), [5e-324, 1e-300]])
    assert np.all(np.isfinite(flow.inverse(r[:, None], theta)))


@pytest.mark.parametrize("kappa", [0.0, 1e-9, 0.5, 1.0, 1.4, 3.0, 30.0, 1e4, 1e17])
def test_the_inverse_next_to_zero(kappa):
    """There tanh s = s: with u = 1, w = κ it is z_1/(1 + κ), to rounding or to the spacing of the numbers there."""
    spacing, eps = 5e-324, np.finfo(float).eps
    z_1 = spacing * np.unique(np.geomspace(1, 1e17, 400).round())[:, None]
    z_0 = PlanarFlow(1, 1, constrained=False).inverse(z_1, np.array([1.0, kappa, 0.0]))
    # κ z_1 = s + κ s; the iteration ends with at most eps (s + κ s) and κ spacings lacking. That bound is rounded by
    # (1 + κ)/2 spacings, the lack by 2 eps, κ z_1 and z_1/(1 + κ) by half of a spacing each: in all less than
    assert np.all(abs(z_0 - z_1 / (1 + kappa)) <= 3 * spacing + 8 * eps * z_1)


def test_P27_E27_the_inverses_are_applied_last_layer_first():
    flow, rng = PlanarFlow(2, 2), np.random.default_rng(0)
    theta, z = flow.init(rng), rng.normal(size=2)
    z_2, _ = flow.forward(z, theta)
    one, first, second = PlanarFlow(2, 1), theta[:5], theta[5:]
    assert np.allclose(one.inverse(one.inverse(z_2, second), first), z, rtol=0, atol=1e-14)
    assert np.max(abs(one.inverse(one.inverse(z_2, first), second) - z)) > 0.01


def test_D42_a_fold():
    """w·u = −3: the determinant is −2 on the line w·z + b = 0, three points have one image, and there is no inverse."""
    flow, theta = PlanarFlow(2, 1, constrained=False), np.array([-3.0, 1.0, 1.0, 0.0, 0.5])  # u, w, b
    on_the_line = np.array([-0.5, 7.0])
    z, log_det = flow.forward(on_the_line, theta)
    J = complex_step(lambda x: flow.linearize(x, theta)[0], on_the_line)
    assert np.array_equal(z, on_the_line)
    assert np.linalg.det(J) == pytest.approx(-2.0, abs=1e-15)
    assert log_det == pytest.approx(np.log(2.0), abs=1e-15)
    s = 2.98470458535789  # s = 3 tanh s
    for sign in (1, -1):
        other = np.array([sign * s - 0.5, 7.0 - sign * np.tanh(s)])
        assert np.allclose(flow.forward(other, theta)[0], on_the_line, rtol=0, atol=1e-13)
        assert np.linalg.det(complex_step(lambda x: flow.linearize(x, theta)[0], other)) > 0
    message = "^theta has no inverse: layer 0 has w·u = -3, which must be at least -1$"
    with pytest.raises(ValueError, match=message):
        flow.inverse(on_the_line, theta)
    with pytest.raises(ValueError, match=message):
        flow.logpdf(on_the_line, theta, StandardNormal(2).logpdf)
    constrained = PlanarFlow(2, 1)
    back = constrained.inverse(constrained.forward(on_the_line, theta)[0], theta)
    assert np.allclose(back, on_the_line, rtol=0, atol=1e-13)


def test_the_worst_layer_is_named():
    theta = np.array([0.0, 1.0, 0.0, -4.0, 1.0, 0.0, -1.5, 1.0, 0.0])  # u, w, b of three layers
    with pytest.raises(ValueError, match="layer 1 has w·u = -4,"):
        PlanarFlow(1, 3, constrained=False).inverse(np.zeros(1), theta)


@given(flows(constrained=(True,)))
def test_D38_logpdf_is_the_change_of_variables(case):
    """log p_K(z_K) = log p_0(z_0) − log |det|, with the determinant of the whole map's Jacobian."""
    flow, z, theta, _ = case
    assume(all(np.min(np.abs(walk.dets)) > 0.05 for walk in walks(flow, z, theta).values()))
    base, (z_K, _) = StandardNormal(flow.n), flow.forward(z, theta)
    got = flow.logpdf(z_K, theta, base.logpdf)
    assert got.shape == z.shape[:-1]
    for i, walk in walks(flow, z, theta).items():
        whole = complex_step(lambda x: flow.linearize(x, theta)[0], z[i])
        want = base.logpdf(z[i]) - np.linalg.slogdet(whole).logabsdet
        assert abs(got[i] - want) <= 1e-13 * walk.size**2 * walk.forward_gain * walk.backward_gain


def test_D41_E25_E26_the_mean_log_likelihood():
    """Both the logarithm and the sum over the points are needed; as printed in our copy, it is another number."""
    flow, rng = PlanarFlow(2, 3), np.random.default_rng(2)
    theta, base = flow.init(rng), StandardNormal(2)
    z = rng.normal(size=(7, 2))
    all_walks = walks(flow, z, theta)
    x = np.array([walk.states[-1] for walk in all_walks.values()])
    dets = np.array([np.abs(walk.dets) for walk in all_walks.values()])
    base_log_p = np.array([base.logpdf(walk.states[0]) for walk in all_walks.values()])
    got = np.mean(flow.logpdf(x, theta, base.logpdf))
    assert got == pytest.approx((np.sum(base_log_p) - np.sum(np.log(dets))) / 7, abs=1e-13)
    assert abs(got - (np.sum(base_log_p) - np.sum(dets)) / 7) > 1  # E25
    assert np.all(abs(got - (base_log_p - np.sum(np.log(dets))) / 7) > 1)  # E26, whichever i is meant


def grid(half_width, points):
    x = np.linspace(-half_width, half_width, points)
    return np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1), (x[1] - x[0]) ** 2


def test_E24_a_discrete_density_integrates_to_one():
    """In two dimensions, by the trapezoidal rule; with |det| in place of its logarithm, as printed, far from it."""
    flow = PlanarFlow(2, 2)
    theta = np.array([1.5, 0.4, 0.8, -0.5, 0.2, -0.6, 1.0, 0.3, 0.9, -0.4])
    x, cell = grid(9.0, 241)
    base = StandardNormal(2)
    log_p = flow.logpdf(x, theta, base.logpdf)
    # Outside the square p < e⁻²⁵; p is analytic and bounded in a strip, so that the rule converges exponentially.
    assert np.sum(np.exp(log_p)) * cell == pytest.approx(1.0, abs=1e-10)
    z0 = flow.inverse(x, theta)
    dets = sum(np.exp(step) for step in layer_log_dets(flow, z0, theta))
    assert abs(np.sum(np.exp(base.logpdf(z0) - dets)) * cell - 1.0) > 0.5


def layer_log_dets(flow, z, theta):
    one = PlanarFlow(flow.n, 1, flow.constrained)
    for row in theta.reshape(flow.layers, one.m):
        z, log_det = one.forward(z, row)
        yield log_det


# ---- the closed form, and what converges to it ------------------------------------------------------------------


@st.composite
def single_units(draw):
    """z0, t, u, w, b of one ungated unit, of normal entries and a span of up to 2, either way."""
    n, rng = draw(sizes), np.random.default_rng(draw(seeds))
    z0 = rng.normal(size=(*BATCHES[rng.integers(len(BATCHES))], n))
    return z0, rng.uniform(-2, 2), rng.normal(size=n), rng.normal(size=n), rng.normal()


def packed(u, w, b):
    return np.concatenate([u, w, [b]])


@given(single_units())
def test_P51_ode_against_the_closed_form(case):
    z0, t, u, w, b = case
    z_t, change = planar_closed_form(z0, t, u, w, b)
    assert (z_t.shape, change.shape) == (z0.shape, z0.shape[:-1])
    start = np.concatenate([z0, np.zeros_like(z0[..., :1])], axis=-1)
    field = WithLogDensity(ContinuousPlanar(len(u)))
    end = solve(field, start, packed(u, w, b), [0.0, t], method="DOP853", rtol=1e-12, atol=1e-12).z[-1]
    # Errors of 1e-12 of the size, some ten of them, grow at most by e^(|u||w||t|).
    size = 1 + np.max(abs(end), initial=0)
    bound = 1e-11 * size * np.exp(np.linalg.norm(u) * np.linalg.norm(w) * abs(t))
    assert np.max(abs(end[..., :-1] - z_t), initial=0) <= bound
    assert np.max(abs(end[..., -1] - change), initial=0) <= bound


def test_P51_ode_against_the_closed_form_to_ten_digits():
    z0, u, w, b = np.array([[0.3, -1.2], [2.0, 0.1]]), np.array([1.1, -0.4]), np.array([0.7, 0.9]), 0.2
    z_t, change = planar_closed_form(z0, 1.5, u, w, b)
    field, start = WithLogDensity(ContinuousPlanar(2)), np.concatenate([z0, np.zeros((2, 1))], axis=-1)
    end = solve(field, start, packed(u, w, b), [0.0, 1.5], method="DOP853", rtol=1e-12, atol=1e-13).z[-1]
    assert np.max(abs(end[:, :2] - z_t)) <= 1e-10
    assert np.max(abs(end[:, 2] - change)) <= 1e-10
    assert np.max(abs(end[:, 2] + change)) > 0.5  # with the sign of the trace dropped


@given(single_units())
def test_the_closed_form_by_its_own_formulas(case):
    """sinh σ_t = e^(κt) sinh σ_0; the density falls as the determinant grows; the flow is a group."""
    z0, t, u, w, b = case
    z_t, change = planar_closed_form(z0, t, u, w, b)
    kappa = w @ u
    gain = np.exp(abs(kappa * t)) * (1 + np.linalg.norm(u) * np.linalg.norm(w) * abs(t)) ** 2
    for i in np.ndindex(change.shape):
        s0, s = z0[i] @ w + b, z_t[i] @ w + b
        assert abs(np.sinh(s) - np.exp(kappa * t) * np.sinh(s0)) <= 1e-14 * gain * (1 + abs(s)) * np.cosh(s)
        J = complex_step(lambda x: planar_closed_form(x, t, u, w, b)[0], z0[i])
        assert abs(change[i] + np.linalg.slogdet(J).logabsdet) <= 1e-13 * gain
    z_half, first = planar_closed_form(z0, 0.3 * t, u, w, b)
    z_again, second = planar_closed_form(z_half, 0.7 * t, u, w, b)
    size = 1 + np.max(abs(z0), initial=0) + np.max(abs(z_t), initial=0)
    assert np.max(abs(z_again - z_t), initial=0) <= 1e-14 * gain * size
    assert np.max(abs(first + second - change), initial=0) <= 1e-14 * gain * size


@pytest.mark.parametrize("kappa", [0.0, 0.1, 0.4, np.nextafter(0.4, 1), 0.7, 1.0, 1.39, 2.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_closed_form_at_the_edge_of_its_quadrature(kappa, sign):
    """For w = t = 1 and z_0 = 0 it is σ_t − σ_0, σ_t = arcsinh(e^κ sinh σ_0), with the derivative tanh σ_t in u = κ.

    Where sinh σ_0 = e^(−κ/2) the singularities stand above the middle of the path, where they harm a quadrature most.
    """
    kappa, one = sign * kappa, np.ones(1)
    sigma = np.arcsinh(np.exp(-kappa / 2))
    sigma_t = np.arcsinh(np.exp(kappa) * np.sinh(sigma))
    # A dozen roundings, of eps/2 each, of numbers below 2. A 6-point rule errs at κ = 0.4 by 1.1e-15 κ in the mean and,
    # since that grows as κ¹², by 13 · 1.1e-15 in the derivative; a 7-point rule at κ = 1.39 by 1e-10.
    tol = 12 * np.finfo(float).eps
    z_t, _ = planar_closed_form(np.zeros(1), 1.0, kappa * one, one, sigma)
    derivative = complex_step(lambda u: planar_closed_form(np.zeros(1), 1.0, u * one, one, sigma)[0][0], kappa)
    assert abs(z_t[0] - (sigma_t - sigma)) <= tol
    assert abs(derivative - np.tanh(sigma_t)) <= tol


@given(single_units())
def test_the_closed_form_solves_the_equation(case):
    """Its derivative in t, by complex step, is f, and that of the density −τ."""
    z0, t, u, w, b = case
    field = ContinuousPlanar(len(u))
    z_t, _ = planar_closed_form(z0, t, u, w, b)
    dz, tau, _ = field.linearize_divergence(z_t, 0.0, packed(u, w, b))
    gain = np.exp(abs(w @ u * t)) * (1 + np.linalg.norm(u) * np.linalg.norm(w)) ** 2
    dz_t = directional_complex_step(lambda x: planar_closed_form(z0, x, u, w, b)[0], t, 1.0)
    dchange = directional_complex_step(lambda x: planar_closed_form(z0, x, u, w, b)[1], t, 1.0)
    assert np.max(abs(dz_t - dz), initial=0) <= 1e-14 * gain * (1 + np.max(abs(z_t), initial=0))
    assert np.max(abs(dchange + tau), initial=0) <= 1e-14 * gain * (1 + np.max(abs(z_t), initial=0))


@pytest.mark.parametrize("kappa", [0.0, 5e-324, 1e-300, -1e-20, 1e-16, -1e-9, 1e-5])
def test_the_closed_form_has_its_limit_at_kappa_zero(kappa):
    """z_0 + u t tanh σ_0 and −κt h′(σ_0), to first order in κ, with derivatives in κ."""
    z0, t, b = np.array([[0.8, -0.4], [-30.0, 0.2]]), 1.7, 0.3
    w, u = np.array([1.0, 0.0]), np.array([kappa, 0.7])
    s, x = z0[:, 0] + b, kappa * t
    y, d = np.tanh(s), 1 - np.tanh(s) ** 2
    # σ(t) = σ_0 + t κ y + κ² t² y d/2 + ..., integrated: the length is t y + κ t² y d/2 + O(κ² t³).
    length = t * y + 0.5 * kappa * t**2 * y * d
    z_t, change = planar_closed_form(z0, t, u, w, b)
    room = 1e-14 + x * x
    assert np.all(abs(z_t - (z0 + length[:, None] * u)) <= room * (1 + abs(z0)))
    assert np.all(abs(change + x * d) <= room)
    slope_in_u = complex_step(lambda v: planar_closed_form(z0, t, v, w, b)[0], u)  # (2, 2, 2)
    want = length[:, None, None] * np.eye(2) + 0.5 * t**2 * (y * d)[:, None, None] * np.array([[0, 0], [0.7, 0]])
    want[:, 0, 0] += 0.5 * t**2 * y * d * kappa
    assert np.all(abs(slope_in_u - want) <= 10 * (1e-14 + abs(x)))


def test_the_closed_form_far_out():
    """Far from the hyperplane everything moves by ±u t and nothing is compressed, until it is near; no overflow."""
    u, w = np.array([-0.5, 2.0]), np.array([1.0, 0.0])  # κ = −1/2
    z0 = np.array([[1e3, 0.0], [-1e3, 0.0], [340.0, 0.0], [0.0, 0.0], [1e-300, 1.0]])
    for t in (700.0, -700.0):  # κt = ∓350
        z_t, change = planar_closed_form(z0, t, u, w, 0.0)
        s = z0[:, 0]
        # |σ| moves by κt, but not past 0, where sinh σ_t = e^(κt) sinh σ_0 is tiny; −κt is the most that log ρ can be.
        moved = np.sign(s) * np.maximum(abs(s) - 0.5 * t, 0.0)
        if t > 0:
            assert z_t[:, 0] == pytest.approx(moved, rel=1e-12, abs=1e-4)
            near_0 = np.log(2) * (s == 340)  # there tanh² σ_0 = 1, 1/cosh² σ_0 = 4 e^(−680)
            assert change == pytest.approx(np.maximum(0.5 * t - abs(s), 0) + near_0, abs=1e-8)
        else:
            assert z_t[:3, 0] == pytest.approx(moved[:3], rel=1e-12)
            assert z_t[3:, 0] == pytest.approx([0.0, 0.0], abs=1e-140)
            assert change == pytest.approx([0.0, 0.0, 0.0, -350.0, -350.0], abs=1e-12)
    with pytest.raises(ValueError, match=r"^\|w·u t\| must be at most 350, got 351$"):
        planar_closed_form(z0, 702.0, u, w, 0.0)


@given(single_units(), seeds)
def test_the_closed_form_carries_complex_numbers(case, seed):
    """Its derivative along all five arguments at once, by complex step, against that of the solve."""
    z0, t, u, w, b = case
    rng = np.random.default_rng(seed)
    moves = [1e-30j * rng.uniform(-1, 1, np.shape(x)) for x in case]
    z0, t, u, w, b = (x + move for x, move in zip(case, moves, strict=True))
    z_t, change = planar_closed_form(z0, t, u, w, b)
    start = np.concatenate([z0, np.zeros_like(z0[..., :1])], axis=-1)
    end = complex_solve(WithLogDensity(ContinuousPlanar(len(u))), start, packed(u, w, b), np.array([0.0, t]))[-1]
    got, want = np.imag(np.concatenate([z_t, change[..., None]], axis=-1)) / 1e-30, np.imag(end) / 1e-30
    # Errors of 1e-13, some hundred of them, grow twice over: along the flow, and along its derivative.
    push = np.linalg.norm(u) * np.linalg.norm(w) * abs(t)
    size = 1 + np.max(abs(want), initial=0)
    assert np.max(abs(got - want), initial=0) <= 1e-11 * size * np.exp(2 * push)


def test_D42_layers_of_a_step_converge_to_the_continuous_flow():
    """N discrete layers z + T/N f, κ = w·u = −3 in all: to the closed form, in z and log det, as 1/N."""
    z0, u, w, b, T = (
        np.array([[0.3, -1.2], [1.0, 0.4], [-2.0, 1.0]]),
        np.array([-2.0, 1.0]),
        np.array([1.3, -0.4]),
        0.2,
        1.5,
    )
    z_T, change = planar_closed_form(z0, T, u, w, b)
    counts, errors = np.array([64, 128, 256, 512]), []
    for N in counts:
        flow = PlanarFlow(2, int(N), constrained=False)
        z, log_det = flow.forward(z0, np.tile(packed(u * T / N, w, b), N))
        errors.append([np.max(abs(z - z_T)), np.max(abs(log_det + change))])
    for error in np.transpose(errors):
        assert slope(1 / counts, error) == pytest.approx(1.0, abs=0.05)  # the next term is O(1/N), 1/64 of the first


def test_P51_a_continuous_density_integrates_to_one():
    """In two dimensions, through the closed form; κ = −2.52 < −1: no constraint is needed."""
    u, w, b, T = np.array([-1.8, 0.8]), np.array([1.2, -0.45]), 0.3, 1.0
    x, cell = grid(9.0, 361)
    z0, change = planar_closed_form(x, -T, u, w, b)  # from x back: log p(x) = log p_0(z_0) − change
    base = StandardNormal(2).logpdf(z0)
    assert np.sum(np.exp(base - change)) * cell == pytest.approx(1.0, abs=1e-10)
    assert abs(np.sum(np.exp(base + change)) * cell - 1.0) > 0.5


def test_P51_likelihood_gradient_of_a_planar_flow():
    """The adjoint on (z, Δ) against the complex step of the closed form: score, θ and both ends."""
    x, u, w, b = np.array([[0.5, 0.4], [-0.7, 1.1]]), np.array([1.1, -0.4]), np.array([0.7, 0.9]), 0.2
    theta, t0, t1 = packed(u, w, b), 0.1, 1.2
    flow = ContinuousFlow(
        ContinuousPlanar(2), theta, t0=t0, t1=t1, options={"method": "DOP853", "rtol": 1e-12, "atol": 1e-13}
    )

    def log_p(x, theta, t0, t1):
        z0, change = planar_closed_form(x, t0 - t1, theta[:2], theta[2:4], theta[4])
        return np.sum(-0.5 * np.sum(z0 * z0, axis=-1) - np.log(2 * np.pi) - change)

    got = flow.likelihood_gradient(x)
    assert got.value == pytest.approx(log_p(x, theta, t0, t1), abs=1e-10)
    assert np.allclose(got.x, complex_step(lambda v: log_p(v, theta, t0, t1), x), rtol=0, atol=1e-9)
    assert np.allclose(got.theta, complex_step(lambda v: log_p(x, v, t0, t1), theta), rtol=0, atol=1e-9)
    assert got.t0 == pytest.approx(complex_step(lambda v: log_p(x, theta, v, t1), t0), abs=1e-9)
    assert got.t1 == pytest.approx(complex_step(lambda v: log_p(x, theta, t0, v), t1), abs=1e-9)


# ---- parameters and refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [lambda: PlanarFlow(400, 100), lambda: ContinuousPlanar(400, 100, gated=True), lambda: HyperPlanar(40, 100, 9)],
)
def test_init(make):
    """u of variance 1/(number of units), w of 1/n, the rest 1; C of a hypernetwork that over H; times gain²."""
    model, rng = make(), np.random.default_rng(0)
    theta = model.init(rng, gain=3.0)
    assert theta.shape == (model.m,)
    count, n = (model.layers if isinstance(model, PlanarFlow) else model.width), model.n
    if isinstance(model, HyperPlanar):
        alpha, beta, C, D = model.split(theta)
        C, D = C.reshape(9, 100, 82), D.reshape(100, 82)
        parts = [(alpha, 1), (beta, 1), (C[..., :n], 9 * count), (C[..., n:-2], 9 * n), (C[..., -2:], 9)]
        parts += [(D[:, :n], count), (D[:, n:-2], n), (D[:, -2], 1), (D[:, -1], 1)]
    else:
        u, w, *rest = model.split(theta)
        parts = [(u, count), (w, n), *((part, 1) for part in rest)]
    for block, fewer in parts:
        scaled = block * np.sqrt(fewer) / 3.0  # N(0, 1): five standard deviations of the mean and the mean square
        assert abs(scaled.mean()) <= 5 / np.sqrt(block.size)
        assert abs((scaled**2).mean() - 1) <= 5 * np.sqrt(2 / block.size)
    assert np.array_equal(model.init(np.random.default_rng(7), 2.0), 2 * model.init(np.random.default_rng(7)))
    with pytest.raises(ValueError, match="gain must be at least 0, got -1"):
        model.init(rng, -1.0)


@pytest.mark.parametrize(
    "field", [PlanarFlow(3, 2), ContinuousPlanar(3, 2), ContinuousPlanar(3, 2, gated=True)], ids=repr
)
def test_split_gives_views_that_cover_theta_once(field):
    theta = np.zeros(field.m)
    for view in field.split(theta):
        view += 1
    assert np.array_equal(theta, np.ones(field.m))


def test_what_they_say_of_themselves():
    assert repr(PlanarFlow(2, 3)) == "PlanarFlow(2, 3, constrained=True)"
    assert repr(ContinuousPlanar(2)) == "ContinuousPlanar(2, 1, gated=False)"
    assert repr(HyperPlanar(2, 3, 4)) == "HyperPlanar(2, 3, 4)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PlanarFlow(0, 1), ValueError, "n must be at least 1, got 0"),
        (lambda: PlanarFlow(2, 0), ValueError, "layers must be at least 1, got 0"),
        (lambda: ContinuousPlanar(2.0), TypeError, "n must be a whole number, got 2.0"),
        (lambda: ContinuousPlanar(2, 0), ValueError, "width must be at least 1, got 0"),
        (lambda: HyperPlanar(0, 1, 1), ValueError, "n must be at least 1, got 0"),
        (lambda: HyperPlanar(2, 0, 1), ValueError, "width must be at least 1, got 0"),
        (lambda: HyperPlanar(2, 1, 0), ValueError, "hidden must be at least 1, got 0"),
    ],
)
def test_unusable_sizes_are_refused(call, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        call()


@pytest.mark.parametrize("method", ["forward", "inverse"])
def test_bad_data_is_refused(method):
    flow, z = PlanarFlow(2, 3), np.zeros((4, 2))
    theta = flow.init(np.random.default_rng(0))
    call = getattr(flow, method)
    for bad_z, bad_theta, error, message in [
        (np.zeros((4, 3)), theta, ValueError, r"z must have shape \(\.\.\., 2\), got \(4, 3\)"),
        (z + 1j, theta, TypeError, "z must hold real numbers, got dtype complex128"),
        (np.where(np.arange(2) == 1, np.nan, z), theta, ValueError, r"z must be finite, got nan at \[0, 1\]"),
        (z, theta[:-1], ValueError, r"theta must have shape \(15,\), got \(14,\)"),
        (z, theta * np.inf, ValueError, "theta must be finite"),
    ]:
        with pytest.raises(error, match=message):
            call(bad_z, bad_theta)
    w = flow.split(theta)[1]
    w[1, 0] = 0.0
    call(z, theta)  # one zero entry is no harm
    w[1] = 0.0
    with pytest.raises(
        ValueError, match="theta must have w != 0 in every layer of a constrained flow; layer 1 has w = 0"
    ):
        call(z, theta)
    getattr(PlanarFlow(2, 3, constrained=False), method)(z, 0.1 * theta)  # there it is a translation


def test_a_base_of_the_wrong_shape_is_refused():
    flow = PlanarFlow(2, 1)
    theta = flow.init(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"base_logpdf must return shape \(4,\) for z \(4, 2\), got \(4, 2\)"):
        flow.logpdf(np.zeros((4, 2)), theta, lambda z: -0.5 * z * z)


def test_probes_of_the_wrong_shape_are_refused():
    field = ContinuousPlanar(2)
    with pytest.raises(ValueError, match=r"probes must have shape \(K, 4, 2\), got \(4, 2\)"):
        field.linearize_divergence(np.zeros((4, 2)), 0.0, np.ones(field.m), np.ones((4, 2)))
