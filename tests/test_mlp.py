"""The network and its hand-written derivatives: random sizes, depths, activations, times and batches."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import TOL, blocks, close, frozen, majorant, networks, pairing, point, seeds

from refode import MLP, Activation
from refode.activations import ACTIVATIONS
from refode.finite_difference import directional_complex_step

FORMULAS = {
    "tanh": lambda u: (np.exp(u) - np.exp(-u)) / (np.exp(u) + np.exp(-u)),
    "softplus": lambda u: np.log(1 + np.exp(u)),
    "sine": np.sin,
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
    "identity": lambda u: u,
}


def by_loops(field, z, t, theta):
    """f of one sample, an entry at a time: θ is each layer's rows of W, then b, then c."""
    x, k = z, 0
    for layer in range(1, len(field.sizes)):
        fan_in, fan_out = field.sizes[layer - 1 : layer + 1]
        u = []
        for j in range(fan_out):
            u_j = theta[k + fan_in * fan_out + j]
            for i in range(fan_in):
                u_j = u_j + x[i] * theta[k + i * fan_out + j]
            if field.time:
                u_j = u_j + theta[k + (fan_in + 1) * fan_out + j] * t
            u.append(u_j)
        last = layer == len(field.sizes) - 1
        x = u if last else [FORMULAS[field.activation.name](u_j) for u_j in u]
        k += (fan_in + (2 if field.time else 1)) * fan_out
    assert k == field.m == len(theta)
    return np.array(x)


def complexified(p, rng, size=0.01):
    """The same point moved off the real axis in z, t, θ, the cotangent and the tangent."""

    def off(x):
        return frozen(np.asarray(x + 1j * size * rng.uniform(-2, 2, np.shape(x))))

    return type(p)(off(p.z), off(p.t), off(p.theta), off(p.a), tuple(off(v) for v in p.tangent))


def samples(p):
    return list(np.ndindex(p.z.shape[:-1]))


# ---- the value ----------------------------------------------------------------------------------------------


@given(networks(), st.booleans(), seeds)
def test_f_is_the_formula(case, is_complex, seed):
    field, p = case
    p = complexified(p, np.random.default_rng(seed)) if is_complex else p
    got, bound = field(*p.at), majorant(field, p).f
    assert got.dtype == (complex if is_complex else float)
    assert got.shape == p.z.shape
    for i in samples(p):
        assert close(got[i], by_loops(field, p.z[i], p.t, p.theta), bound[i])


@given(networks())
def test_evaluating_twice_gives_the_same_numbers(case):
    """And changes no input: those of `networks` are read-only."""
    field, p = case
    once, pullback = field.linearize(*p.at)
    kept = [block.copy() for block in pullback(p.a)]
    pullback(p.a + 1)  # a pullback keeps nothing of what it pulled back before
    for again in (pullback(p.a), field.linearize(*p.at)[1](p.a), field.vjp(*p.at, p.a)):
        assert all(np.array_equal(x, y) for x, y in zip(kept, again, strict=True))
    assert np.array_equal(once, field(*p.at))
    assert np.array_equal(field.jvp(*p.at, *p.tangent), field.jvp(*p.at, *p.tangent))
    assert np.array_equal(field.jacobian(*p.at), field.jacobian(*p.at))


# ---- derivatives --------------------------------------------------------------------------------------------


@given(networks())
def test_D35_vjp_against_complex_step(case):
    field, p = case
    got = field.vjp(*p.at, p.a)
    assert [np.shape(block) for block in got] == [p.z.shape, (), (field.m,)]
    for block, want, bound in zip(got, blocks(field, p), majorant(field, p).blocks, strict=True):
        assert close(block, want, bound)


@given(networks())
def test_linearize_is_f_and_vjp(case):
    field, p = case
    dz, pullback = field.linearize(*p.at)
    assert np.array_equal(dz, field(*p.at))
    for got, want in zip(pullback(p.a), field.vjp(*p.at, p.a), strict=True):
        assert np.array_equal(got, want)


def _alone(tangent):
    """The tangent, and each of its blocks with the others zero."""
    yield tangent
    for block in range(3):
        yield tuple(v if i == block else np.zeros_like(v) for i, v in enumerate(tangent))


@given(networks(), st.booleans(), seeds)
def test_E17_a_times_jvp_is_vjp_times_v(case, is_complex, seed):
    """⟨a, ∇f·v⟩ two ways, without conjugation at complex arguments."""
    field, p = case
    p = complexified(p, np.random.default_rng(seed)) if is_complex else p
    vjp, bounds = field.vjp(*p.at, p.a), majorant(field, p).blocks
    for v in _alone(p.tangent):
        dz = field.jvp(*p.at, *v)
        assert dz.shape == p.z.shape
        assert abs(np.sum(p.a * dz) - pairing(vjp, v)) <= TOL * pairing(bounds, map(abs, v))


@given(networks())
def test_jvp_against_complex_step(case):
    field, p = case
    dz, dt, dtheta = p.tangent
    want = directional_complex_step(
        lambda x: field(p.z + x * dz, p.t + x * dt, p.theta + x * dtheta), 0.0, 1.0
    )  # along the tangent from the point
    bounds = majorant(field, replace(p, a=np.ones_like(p.a))).blocks
    assert close(field.jvp(*p.at, *p.tangent), want, pairing(bounds, map(abs, p.tangent)))


@given(networks(), seeds)
def test_complex_derivatives_against_a_circle(case, seed):
    """At complex points too f is analytic and its JVP the derivative: the mean of f(x + r ω v)/(r ω) over |ω| = 1."""
    field, p = case
    p = complexified(p, np.random.default_rng(seed))
    dz, dt, dtheta = (0.01 * v for v in p.tangent)
    radius, turns = 0.05, np.exp(2j * np.pi * np.arange(12) / 12)
    values = [field(p.z + w * dz, p.t + w * dt, p.theta + w * dtheta) / w for w in radius * turns]
    bounds = majorant(field, p)
    # Rounding of f over the radius; aliasing (radius · |u̇| / distance to a pole)^12, below it for |u̇| · 0.01 < 2.
    assert close(field.jvp(*p.at, dz, dt, dtheta), np.mean(values, axis=0), bounds.f.max() / radius)


@given(networks(), st.booleans(), seeds)
def test_jacobian_has_vjps_as_rows_and_jvps_as_columns(case, is_complex, seed):
    field, p = case
    p = complexified(p, np.random.default_rng(seed)) if is_complex else p
    J = field.jacobian(*p.at)
    assert J.shape == (*p.z.shape, field.n)
    for i, e in enumerate(np.eye(field.n)):
        e = np.broadcast_to(e, p.z.shape)
        bound = majorant(field, replace(p, a=e)).blocks[0]  # of row i
        assert close(J[..., i, :], field.vjp(*p.at, e)[0], bound)
        column = field.jvp(*p.at, e, 0.0, np.zeros(field.m))
        ones = majorant(field, replace(p, a=np.ones_like(e))).blocks[0]
        assert close(J[..., :, i], column, ones[..., i, None])


@given(networks())
def test_a_batch_is_its_samples(case):
    """z by stacking, t and θ by sums, since those two are shared."""
    field, p = case
    z_bar, t_bar, theta_bar = field.vjp(*p.at, p.a)
    f, J, bounds = field(*p.at), field.jacobian(*p.at), majorant(field, p)
    singles = {i: field.vjp(p.z[i], p.t, p.theta, p.a[i]) for i in samples(p)}
    for i, single in singles.items():
        assert close(f[i], field(p.z[i], p.t, p.theta), bounds.f[i])
        assert close(z_bar[i], single[0], bounds.blocks[0][i])
        ones = majorant(field, replace(p, a=np.ones_like(p.a))).blocks[0]
        assert close(J[i], field.jacobian(p.z[i], p.t, p.theta), ones[i])
    assert close(t_bar, sum(single[1] for single in singles.values()), bounds.blocks[1])
    assert close(theta_bar, sum(single[2] for single in singles.values()), bounds.blocks[2])


def test_an_empty_batch():
    field, z = MLP([2, 3, 2]), np.empty((0, 2))
    theta = field.init(np.random.default_rng(0))
    z_bar, t_bar, theta_bar = field.vjp(z, 0.5, theta, z)
    assert field(z, 0.5, theta).shape == z_bar.shape == (0, 2)
    assert t_bar == 0
    assert np.array_equal(theta_bar, np.zeros(field.m))


# ---- what must be exactly zero ------------------------------------------------------------------------------


@given(networks())
def test_without_time_the_t_block_is_zero(case):
    field, p = case
    field = MLP(field.sizes, field.activation, time=False)
    theta = field.init(np.random.default_rng(1))
    assert field.vjp(p.z, p.t, theta, p.a)[1] == 0
    assert np.array_equal(field(p.z, p.t, theta), field(p.z, 7.0, theta))


@given(st.integers(1, 8), st.booleans(), seeds)
def test_a_parameter_that_f_ignores_has_gradient_zero(width, time, seed):
    """A hidden unit that nothing reads: its row of W_2 is zero, so its column of the first layer does nothing."""
    field, rng = MLP([2, width, 2], time=time), np.random.default_rng(seed)
    theta, dead = field.init(rng), rng.integers(width)
    _, second = field.layers(theta)
    second[0][dead] = 0
    p = point(field, (3,), rng, theta)
    W_bar, b_bar, c_bar = next(field.layers(field.vjp(*p.at, p.a)[2]))
    assert np.all(W_bar[:, dead] == 0)
    assert b_bar[dead] == 0
    assert c_bar[dead] == 0
    alive = np.arange(width) != dead
    assert np.all(W_bar[:, alive] != 0)


# ---- the layout of θ ----------------------------------------------------------------------------------------


@given(networks())
def test_layers_are_views_that_cover_theta_once(case):
    field, _ = case
    theta = np.zeros(field.m)
    for layer, (W, b, c) in enumerate(field.layers(theta)):
        fan_in, fan_out = field.sizes[layer : layer + 2]
        assert (W.shape, b.shape, c.shape) == ((fan_in, fan_out), (fan_out,), (fan_out,))
        for block in (W, b, *([c] if field.time else [])):
            assert np.shares_memory(block, theta)
            block += 1
        assert field.time or not c.any()
    assert np.array_equal(theta, np.ones(field.m))


@pytest.mark.parametrize("time", [True, False])
def test_init(time):
    """Zero mean and variance gain² / width in, for W, b and c alike."""
    field = MLP([400, 100, 400], time=time)
    theta = field.init(np.random.default_rng(0), gain=3.0)
    assert theta.shape == (field.m,)
    for (W, b, c), fan_in in zip(field.layers(theta), (400, 100), strict=True):
        for block in (W, b, *([c] if time else [])):
            scaled = block * np.sqrt(fan_in) / 3.0  # N(0, 1)
            # Five standard deviations of the mean, 1/√N, and of the mean square, √(2/N).
            assert abs(scaled.mean()) <= 5 / np.sqrt(block.size)
            assert abs((scaled**2).mean() - 1) <= 5 * np.sqrt(2 / block.size)


def test_init_draws_from_its_rng_alone():
    field = MLP([2, 5, 2])
    before = np.random.get_state()[1].copy()  # noqa: NPY002  (to see that nobody touches it)
    theta = field.init(np.random.default_rng(3))
    assert np.array_equal(theta, field.init(np.random.default_rng(3)))
    assert np.array_equal(2 * theta, field.init(np.random.default_rng(3), gain=2.0))
    assert not np.array_equal(theta, field.init(np.random.default_rng(4)))
    assert len(np.unique(theta)) == field.m
    one = MLP([1, 1, 1, 1])  # every width 1: θ is the generator's numbers as they come
    assert np.array_equal(one.init(np.random.default_rng(3)), np.random.default_rng(3).normal(size=one.m))
    assert not field.init(np.random.default_rng(3), gain=0.0).any()
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# ---- construction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[2, 3, 2], (2, 3, 2), np.array([2, 3, 2])])
def test_sizes_may_come_as_any_sequence(sizes):
    assert MLP(sizes).sizes == (2, 3, 2)


def test_what_a_network_says_of_itself():
    field = MLP((3, 8, 3), "sine", time=False)
    assert (field.n, field.m, field.sizes) == (3, 3 * 8 + 8 + 8 * 3 + 3, (3, 8, 3))
    assert MLP((3, 8, 3)).m == 3 * 8 + 2 * 8 + 8 * 3 + 2 * 3
    assert repr(field) == "MLP([3, 8, 3], 'sine', time=False)"
    assert MLP([2, 2]).activation is ACTIVATIONS["tanh"]
    assert MLP([2, 2]).time is True


def test_an_activation_of_ones_own():
    square = Activation("square", lambda u: u * u, lambda u, y: 2 * u, lambda u, y: np.full_like(u, 2.0))
    field, rng = MLP([2, 4, 2], square), np.random.default_rng(5)
    p = point(field, (3,), rng)
    for got, want in zip(field.vjp(*p.at, p.a), blocks(field, p), strict=True):
        # Entries up to 2 in two layers: u up to 12, and at most 4 · 3 terms a · 2u · x.
        assert close(got, want, 2 * 2 * 12 * 2 * 12)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([], ValueError, r"sizes must begin and end with the state dimension, got \[\]"),
        ([2], ValueError, r"sizes must begin and end with the state dimension, got \[2\]"),
        ([2, 3], ValueError, r"sizes must begin and end with the state dimension, got \[2, 3\]"),
        ([2, 0, 2], ValueError, "sizes must be at least 1, got 0"),
        ([2, 3.0, 2], TypeError, "sizes must be a whole number, got 3.0"),
        (2, TypeError, "sizes must be a sequence of widths, got 2"),
        ("22", TypeError, "sizes must be a sequence of widths, got '22'"),
    ],
)
def test_unusable_sizes_are_refused(sizes, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        MLP(sizes)


def test_other_unusable_arguments_are_refused():
    with pytest.raises(ValueError, match=r"activation must be one of .*; got 'tahn'; did you mean 'tanh'\?"):
        MLP([2, 2], "tahn")
    for gain, message in [(-1.0, "gain must be at least 0, got -1"), (np.nan, "gain must be finite, got nan")]:
        with pytest.raises(ValueError, match=message):
            MLP([2, 2]).init(np.random.default_rng(0), gain)
