"""Tapes against the closures that they stand for, slot by slot."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import BATCHES, TOL, OnlyVJP, networks, seeds

from refode import MLP, Linear, WithLogDensity, mlp_tape
from refode.activations import ACTIVATIONS, Activation
from refode.density_tape import DensityTape
from refode.fields import linearize
from refode.march import FAR
from refode.tape import LARGEST, TOGETHER, PullbackTape, TapeFull, tape


def written(found, shape, rng, count, span=2.0):
    """`count` slots written in order with random points; the points."""
    points = []
    for s in range(count):
        points.append((rng.uniform(-span, span, shape), rng.uniform(-2, 2)))
        found.linearize(s, points[-1][0].reshape(-1, shape[-1]), points[-1][1], rows(shape))
    return points


def rows(shape):
    return np.empty((int(np.prod(shape[:-1])), shape[-1]))


def close(got, want, scale):
    return np.all(abs(got - want) <= TOL * scale)


def check(field, found, theta, shape, seed, count):
    """f, every z̄ and θ̄ are those of `linearize`; slots are written again, and not all are pulled back."""
    rng = np.random.default_rng(seed)
    found.bind(theta)
    points = written(found, shape, rng, count)
    for s in rng.choice(count, count // 2, replace=False):  # as after a rejected step
        points[s] = rng.uniform(-2, 2, shape), 0.5
        found.linearize(int(s), points[s][0].reshape(-1, shape[-1]), 0.5, rows(shape))
    found.rewind()
    theta_bar, scale = np.zeros_like(theta), 1.0
    top = int(rng.integers(count))
    for s in range(top, -1, -1):
        z, t = points[s]
        dz, pullback = linearize(field, z, t, theta)
        a = rng.uniform(-2, 2, shape)
        z_bar, _, contribution = pullback(a)
        theta_bar += contribution
        scale = max(scale, abs(contribution).max(), abs(z_bar).max(), abs(dz).max())
        out = rows(shape)
        found.pullback(s, a.reshape(out.shape), out)
        assert close(out, z_bar.reshape(out.shape), scale)
    assert close(found.theta_bar(), theta_bar, scale * count)


@given(networks(), seeds, st.integers(1, 9))
def test_the_tape_of_a_network(drawn, seed, count):
    field, p = drawn
    check(field, tape(field, p.z.shape), p.theta, p.z.shape, seed, count)


@given(st.sampled_from(sorted(ACTIVATIONS)), st.booleans(), st.sampled_from(BATCHES), seeds, st.integers(1, 9))
def test_the_tape_of_a_density(activation, time, batch, seed, count):
    rng = np.random.default_rng(seed)
    n, h = int(rng.integers(1, 4)), int(rng.integers(1, 9))
    net = MLP([n, h, n], activation, time)
    field = WithLogDensity(net)
    shape = (*batch, n + 1)
    found = tape(field, shape)
    assert isinstance(found, DensityTape)
    check(field, found, net.init(rng), shape, seed, count)


@given(networks(), seeds)
def test_any_field_has_a_tape(drawn, seed):
    field, p = drawn
    found = tape(OnlyVJP(field), p.z.shape)
    assert isinstance(found, PullbackTape)
    check(field, found, p.theta, p.z.shape, seed, 5)


@pytest.mark.parametrize("net", [MLP([2, 5, 2]), MLP([2, 5, 4, 2], "softplus")])
@pytest.mark.parametrize("entries", [1, 20, 200])
def test_blocks_of_any_size_give_the_same(net, entries, monkeypatch):
    monkeypatch.setattr(mlp_tape, "ENTRIES", entries)
    check(net, tape(net, (3, 2)), net.init(np.random.default_rng(0)), (3, 2), 1, 14)


@pytest.mark.parametrize("field", [MLP([2, 5, 2]), MLP([2, 5, 4, 2], "sine", True), WithLogDensity(MLP([2, 5, 2]))])
@pytest.mark.parametrize("product", [1, 60, 200, 500])
def test_products_in_parts_give_the_same(field, product, monkeypatch):
    monkeypatch.setattr(mlp_tape, "FEWEST", 1)
    monkeypatch.setattr(mlp_tape, "PRODUCT", product)
    theta = np.random.default_rng(0).normal(size=field.m)
    check(field, tape(field, (11, field.n)), theta, (11, field.n), 1, 5)


def test_parts_hold_every_row_once_and_are_small_enough_but_not_too_short(monkeypatch):
    monkeypatch.setattr(mlp_tape, "FEWEST", 10)
    monkeypatch.setattr(mlp_tape, "PRODUCT", 300)
    for rows in range(1, 100):
        for multiplications in range(1, 40):
            parts = mlp_tape._parts(rows, multiplications)
            lengths = [part.stop - part.start for part in parts]
            assert [i for part in parts for i in range(rows)[part]] == list(range(rows))
            assert len(parts) == 1 or min(lengths) >= 10
            assert len(parts) == 1 or max(lengths) * multiplications < 300 + multiplications
            assert len(parts) > 1 or rows * multiplications <= 300 or rows // -(-rows * multiplications // 300) < 10


def test_values_are_those_of_the_field_to_rounding():
    net, rng = MLP([2, 5, 4, 2], "sine"), np.random.default_rng(3)
    for field, width in ((net, 2), (WithLogDensity(MLP([2, 6, 2])), 3), (WithLogDensity(net), 3)):
        theta = rng.normal(size=field.m)
        found, z, out = tape(field, (3, width)), rng.normal(size=(3, width)), np.empty((3, width))
        found.bind(theta)
        found.linearize(0, z, 0.3, out)
        assert close(out, field(z, 0.3, theta), 10)


def test_a_density_by_probes_or_of_more_layers_takes_the_closures():
    probes = np.ones((1, 3, 2))
    assert isinstance(tape(WithLogDensity(MLP([2, 4, 2]), probes), (3, 3)), PullbackTape)
    assert isinstance(tape(WithLogDensity(MLP([2, 4, 4, 2])), (3, 3)), PullbackTape)
    assert isinstance(tape(WithLogDensity(Linear(2)), (3, 3)), PullbackTape)


EXP = Activation("exp", np.exp, lambda u, y: y, lambda u, y, slope: y, of_value=True)
ROOT = Activation(  # its slope is known from y, but not at 1 or beyond
    "isru",
    lambda u: u / np.sqrt(1 + u * u),
    lambda u, y: (1 - y * y) ** 1.5,
    lambda u, y, slope: -3 * y * (1 - y * y) ** 2,
    of_value=True,
)
LOG = Activation("log", lambda u: np.log(9 + u), lambda u, y: 1 / (9 + u), lambda u, y, slope: -(slope**2))


def steep(u, beta=1.0, out=None):
    return np.tanh(np.multiply(beta, u, out), out)


def steep_slope(u, y, *, out=None):
    return np.subtract(1.0, np.multiply(y, y, out), out)


STEEP = Activation("steep", steep, steep_slope, lambda u, y, slope: -2 * y * slope, of_value=True)


@pytest.mark.parametrize("activation", [EXP, ROOT, LOG, STEEP], ids=lambda a: a.name)
def test_activations_of_somebody_else(activation):
    """They may return what they were given, and need not be defined beyond what they return."""
    rng = np.random.default_rng(5)
    for field in (MLP([2, 5, 4, 2], activation, time=True), WithLogDensity(MLP([2, 5, 2], activation, time=True))):
        found = tape(field, (3, field.n))
        assert not isinstance(found, PullbackTape)
        net = field if isinstance(field, MLP) else field.field
        for seed in range(4):  # where such columns are, only some cotangents meet them
            with np.errstate(invalid="ignore"):  # as in a march
                check(field, found, net.init(rng, 0.5), (3, field.n), seed, 6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("t", [FAR, -FAR])
def test_the_columns_of_time_do_no_harm_as_far_as_a_march_goes(activation, t):
    """Where a unit of an inner layer has x, they have t, and σ′ of that meets zeros: infinite it must not be."""
    rng = np.random.default_rng(6)
    for field in (MLP([2, 5, 4, 2], activation, time=True), WithLogDensity(MLP([2, 5, 2], activation, time=True))):
        net = field if isinstance(field, MLP) else field.field
        theta = net.init(rng)
        for _, _, c in net.layers(theta):
            c *= 1 / FAR
        found, (z, a) = tape(field, (3, field.n)), rng.normal(size=(2, 3, field.n))
        found.bind(theta)
        found.linearize(0, z, t, rows(z.shape))
        found.rewind()
        out = rows(z.shape)
        found.pullback(0, a, out)
        z_bar, _, theta_bar = linearize(field, z, t, theta)[1](a)
        assert close(out, z_bar, abs(z_bar).max())
        for (*got, c_got), (*want, c_want) in zip(net.layers(found.theta_bar()), net.layers(theta_bar), strict=True):
            for block, other in zip((*got, c_got / FAR), (*want, c_want / FAR), strict=True):
                assert close(block, other, 10 * abs(theta_bar[abs(theta_bar) < FAR / 1e6]).max())


def test_a_tape_does_not_take_all_the_memory(monkeypatch):
    monkeypatch.setattr(mlp_tape, "MOST", 10_000)
    net, out = MLP([2, 5, 2]), np.empty((30, 2))
    found = tape(net, (30, 2))
    found.bind(np.zeros(net.m))
    with pytest.raises(TapeFull):
        found.linearize(100_000, np.ones((30, 2)), 0.0, out)
    many = tape(OnlyVJP(net), (30, 2))
    many.bind(np.zeros(net.m))
    for evaluation in range(TOGETHER // 60 + 1):
        many.linearize(evaluation, np.ones((30, 2)), 0.0, out)
    with pytest.raises(TapeFull):
        many.linearize(TOGETHER // 60 + 1, np.ones((30, 2)), 0.0, out)
    large = tape(OnlyVJP(net), (LARGEST, 2))
    large.bind(np.zeros(net.m))
    with pytest.raises(TapeFull):
        large.linearize(0, np.ones((LARGEST, 2)), 0.0, np.empty((LARGEST, 2)))


NETS = [MLP([2, 5, 2]), MLP([2, 16, 16, 2], "softplus"), WithLogDensity(MLP([2, 8, 2]))]
WIDE_BATCH = [(MLP([20, 1, 20]), 2000), (WithLogDensity(MLP([2, 3, 2])), 5000)]


@pytest.mark.parametrize(("net", "B"), [*((net, 300) for net in NETS), *WIDE_BATCH])
def test_a_tape_takes_about_as_much_as_it_may(net, B, monkeypatch):
    """What a block more would take it may leave free; more it takes only where views are larger than thought."""
    most, z, out, count = 10**7, np.ones((B, net.n)), np.empty((B, net.n)), 0
    monkeypatch.setattr(mlp_tape, "MOST", most)
    tracemalloc.start()
    try:
        found = tape(net, z.shape)
        found.bind(np.zeros(net.m))
        while count * out.nbytes < most:
            found.linearize(count, z, 0.0, out)
            count += 1
    except TapeFull:
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.85 * most <= taken <= 1.05 * most


@pytest.mark.parametrize("activation", ["tanh", "sine"])
@pytest.mark.parametrize("unweighted", [[0], [0, 1, 2]])
def test_samples_whose_log_density_has_no_weight(activation, unweighted):
    """As at a stage that a step's end does not read, and in a batch that has others."""
    net, rng = MLP([2, 5, 2], activation), np.random.default_rng(8)
    field = WithLogDensity(net)
    theta, (z, a), out = net.init(rng), rng.normal(size=(2, 3, 3)), rows((3, 3))
    a[unweighted, -1] = 0.0
    found = tape(field, z.shape)
    found.bind(theta)
    found.linearize(0, z, 0.3, out)
    found.rewind()
    found.pullback(0, a, out)
    z_bar, _, theta_bar = linearize(field, z, 0.3, theta)[1](a)
    assert close(out, z_bar, 100)
    assert close(found.theta_bar(), theta_bar, 100)


def test_a_density_that_somebody_changed_keeps_its_own_f():
    class Other(WithLogDensity):
        def __call__(self, z, t, theta):
            return 2.0 * super().__call__(z, t, theta)

    assert isinstance(tape(Other(MLP([2, 4, 2])), (3, 3)), PullbackTape)


@pytest.mark.parametrize("answer", [lambda z, m: (z[:2], 0.0, np.zeros(m)), lambda z, m: (z + 1j, 0.0, np.zeros(m)),
                                    lambda z, m: (z, 0.0, 1.0)])  # fmt: skip
def test_a_vjp_of_other_shapes_is_refused(answer):
    class Wrong(Linear):
        def vjp(self, z, t, theta, a):
            return answer(z, self.m)

    found, out = tape(Wrong(2), (3, 2)), np.empty((3, 2))
    found.bind(np.eye(2).ravel())
    found.linearize(0, np.ones((3, 2)), 0.0, out)
    found.rewind()
    with pytest.raises(ValueError, match="must return"):
        found.pullback(0, np.ones((3, 2)), out)


def test_a_net_that_somebody_changed_keeps_its_own_f():
    class Other(MLP):
        def linearize(self, z, t, theta):
            dz, pullback = super().linearize(z, t, theta)
            return 2.0 * dz, lambda a: pullback(2.0 * a)

    assert isinstance(tape(Other([2, 4, 2]), (3, 2)), PullbackTape)
    assert isinstance(tape(WithLogDensity(Other([2, 4, 2])), (3, 3)), PullbackTape)


def test_a_field_that_returns_another_shape_is_refused():
    class Wrong(Linear):
        def __call__(self, z, t, theta):
            return np.zeros(3)

    found = tape(Wrong(2), (2,))
    found.bind(np.eye(2).ravel())
    with pytest.raises(ValueError, match="real array of shape"):
        found.linearize(0, np.ones((1, 2)), 0.0, np.empty((1, 2)))
