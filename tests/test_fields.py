"""The closed-form fields against formulas written again here, and what is made of a field that says little."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import BATCHES, TOL, OnlyVJP, batches, blocks, close, frozen, majorant, networks, pairing, point, seeds

from refode import (
    Augmented,
    CubicSpiral,
    KineticEnergy,
    Linear,
    LotkaVolterra,
    Pendulum,
    VanDerPol,
    VectorField,
    WithRunningCost,
    check_field,
    jacobian,
    jvp,
    linearize,
)


def linear(z, theta):
    n = len(z)
    return [sum(theta[n * i + j] * z[j] for j in range(n)) for i in range(n)]


# One sample at a time, and with the parameters by number: θ's order is what the docstrings promise.
FORMULAS = {
    "Linear": linear,
    "LotkaVolterra": lambda z, p: [p[0] * z[0] - p[1] * z[0] * z[1], p[3] * z[0] * z[1] - p[2] * z[1]],
    "VanDerPol": lambda z, p: [z[1], p[0] * (1 - z[0] ** 2) * z[1] - z[0]],
    "CubicSpiral": lambda z, p: [z[0] ** 3 * p[0] + z[1] ** 3 * p[2], z[0] ** 3 * p[1] + z[1] ** 3 * p[3]],
    "Pendulum": lambda z, p: [z[1], -p[0] * np.sin(z[0]) - p[1] * z[1]],
}
FIELDS = [Linear(1), Linear(2), Linear(3), LotkaVolterra(), VanDerPol(), CubicSpiral(), Pendulum()]
every = pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{type(field).__name__}{field.n}")

# With z, θ and a in [-2, 2] no term of an f is above 2 · 2³, none of a block above 2 · 2 · 3 · 2², a sum of at most
# three of them (two and a constant for a Pendulum), the θ blocks over at most six samples.
SCALE_F, SCALE = 3 * 16.0, 6 * 3 * 48.0


@every
@given(batch=batches, seed=seeds, imaginary=st.sampled_from([0.0, 0.5]))
def test_f_is_the_formula(field, batch, seed, imaginary):
    p = point(field, batch, np.random.default_rng(seed), imaginary=imaginary)
    got, formula = field(*p.at), FORMULAS[type(field).__name__]
    assert got.shape == p.z.shape
    assert got.dtype == (complex if imaginary else float)
    for i in np.ndindex(batch):
        # 5 for complex entries: |z| up to 2 √(1 + ¼) in up to four factors, |sin q| up to cosh 1.
        assert close(got[i], np.array(formula(p.z[i], p.theta)), SCALE_F * (5 if imaginary else 1))


@every
@given(batch=batches, seed=seeds)
def test_D35_vjp_against_complex_step(field, batch, seed):
    p = point(field, batch, np.random.default_rng(seed))
    got = field.vjp(*p.at, p.a)
    assert [np.shape(block) for block in got] == [p.z.shape, (), (field.m,)]
    assert got[1] == 0  # autonomous
    for block, want in zip(got, blocks(field, p), strict=True):
        assert close(block, want, SCALE)


@every
@given(batch=batches, seed=seeds)
def test_vjp_at_complex_points(field, batch, seed):
    """f is analytic, so the VJP's pairing with v is the mean of a·f(x + r ω v) / (r ω) over a circle."""
    p = point(field, batch, np.random.default_rng(seed), imaginary=0.5)
    dz, _, dtheta = p.tangent
    circle = 0.25 * np.exp(2j * np.pi * np.arange(16) / 16)
    want = np.mean([np.sum(p.a * field(p.z + w * dz, p.t, p.theta + w * dtheta)) / w for w in circle])
    got = pairing(field.vjp(*p.at, p.a), p.tangent)
    # Rounding over the radius; of the degree 4 in w of a polynomial nothing is aliased, sin q leaves 0.25^16 / 16!.
    assert abs(got - want) <= TOL * 5 * 6 * 4 * SCALE_F / 0.25


@every
@given(seed=seeds)
def test_a_batch_is_its_samples(field, seed):
    p = point(field, (2, 3), np.random.default_rng(seed))
    z_bar, _, theta_bar = field.vjp(*p.at, p.a)
    singles = {i: field.vjp(p.z[i], p.t, p.theta, p.a[i]) for i in np.ndindex(2, 3)}
    assert all(close(z_bar[i], single[0], SCALE) for i, single in singles.items())
    assert close(theta_bar, sum(single[2] for single in singles.values()), SCALE)


@every
def test_sizes(field):
    assert (field.n, field.m) == {
        "Linear": (field.n, field.n**2),
        "LotkaVolterra": (2, 4),
        "VanDerPol": (2, 1),
        "CubicSpiral": (2, 4),
        "Pendulum": (2, 2),
    }[type(field).__name__]


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_an_unusable_dimension_is_refused(n, error):
    with pytest.raises(error, match="n must be "):
        Linear(n)


# ---- made from f and vjp ------------------------------------------------------------------------------------


@given(networks())
def test_defaults_equal_a_fields_own(case):
    field, p = case
    bare, bounds = OnlyVJP(field), majorant(field, replace(p, a=np.ones_like(p.a))).blocks
    dz, pullback = linearize(bare, *p.at)
    own_dz, own_pullback = linearize(field, *p.at)
    assert np.array_equal(dz, own_dz)
    for got, want in zip(pullback(p.a), own_pullback(p.a), strict=True):
        assert np.array_equal(got, want)
    assert close(jacobian(bare, *p.at), field.jacobian(*p.at), bounds[0][..., None, :])
    assert close(jvp(bare, *p.at, *p.tangent), field.jvp(*p.at, *p.tangent), pairing(bounds, map(abs, p.tangent)))


@every
@given(batch=batches, seed=seeds)
def test_defaults_against_complex_step(field, batch, seed):
    """Of closed-form fields, that bring none of the optional methods."""
    p = point(field, batch, np.random.default_rng(seed))
    J, dz = jacobian(field, *p.at), jvp(field, *p.at, *p.tangent)
    assert J.shape == (*p.z.shape, field.n)
    assert dz.shape == p.z.shape
    h, (v_z, v_t, v_theta) = 1e-30j, p.tangent
    moved = field(p.z + h * v_z, p.t + h * v_t, p.theta + h * v_theta)
    assert close(dz, moved.imag / h.imag, (field.n + field.m) * 2 * SCALE)
    for j, e in enumerate(np.eye(field.n)):
        assert close(J[..., :, j], field(p.z + h * e, p.t, p.theta).imag / h.imag, SCALE)


class Own:
    """A field whose optional methods say who they are."""

    n, m = 1, 1

    def linearize(self, *args):
        return "own", args

    def jacobian(self, *args):
        return "own", args

    def jvp(self, *args):
        return "own", args


def test_a_fields_own_methods_are_preferred():
    assert linearize(Own(), 1, 2, 3) == ("own", (1, 2, 3))
    assert jacobian(Own(), 1, 2, 3) == ("own", (1, 2, 3))
    assert jvp(Own(), 1, 2, 3, 4, 5, 6) == ("own", (1, 2, 3, 4, 5, 6))


class Driven:
    """f = θ z cos t with one parameter: the only bare field here that depends on t."""

    n, m = 2, 1

    def __call__(self, z, t, theta):
        return theta[0] * z * np.cos(t)

    def vjp(self, z, t, theta, a):
        az = np.sum(a * z)
        return theta[0] * a * np.cos(t), -theta[0] * az * np.sin(t), np.array([az * np.cos(t)])


class Drifting:
    """ż = θ (z + s t), a drift s (..., n) a sample: a field that holds something of each."""

    m = 1

    def __init__(self, drift):
        self.drift, self.n = drift, drift.shape[-1]

    def __call__(self, z, t, theta):
        assert z.shape == self.drift.shape
        return theta[0] * (z + self.drift * t)

    def vjp(self, z, t, theta, a):
        assert z.shape == self.drift.shape
        return theta[0] * a, theta[0] * np.sum(a * self.drift), np.array([np.sum(a * (z + self.drift * t))])

    def jacobian(self, z, t, theta):
        return np.broadcast_to(theta[0] * np.eye(self.n), (*z.shape, self.n))

    def of_sample(self, sample):
        return Drifting(self.drift[sample])


@pytest.mark.parametrize("batch", BATCHES)
def test_a_field_that_holds_something_a_sample(batch):
    rng = np.random.default_rng(2)
    field = Drifting(rng.normal(size=(*batch, 2)))
    p = point(field, batch, rng)
    (dz, dt, dtheta), s = p.tangent, field.drift
    want = p.theta[0] * (dz + s * dt) + dtheta[0] * (p.z + s * p.t)
    assert close(jvp(field, *p.at, *p.tangent), want, 100.0)
    assert close(jvp(WithRunningCost(field, KineticEnergy(field)), *with_zero(p))[..., :-1], want, 100.0)
    if len(batch) == 1:
        report = check_field(field, p.z)
        assert report.ok, report


def with_zero(p):
    """z and dz with one component more."""
    more = np.zeros_like(p.z[..., :1])
    dz, *rest = p.tangent
    return np.concatenate([p.z, more], axis=-1), p.t, p.theta, np.concatenate([dz, more], axis=-1), *rest


@pytest.mark.parametrize("batch", BATCHES)
def test_the_default_jvp_moves_time_too(batch):
    field: VectorField = Driven()
    p = point(field, batch, np.random.default_rng(1))
    dz, dt, (dtheta,) = p.tangent
    for t in (p.t, p.t + 0.5j):
        want = p.theta[0] * dz * np.cos(t) - p.theta[0] * p.z * np.sin(t) * dt + dtheta * p.z * np.cos(t)
        # Three terms of three factors up to 2, |cos t| and |sin t| up to cosh 0.5 < 2.
        assert close(jvp(field, p.z, t, p.theta, *p.tangent), want, 3 * 8 * 2)


# ---- augmented ----------------------------------------------------------------------------------------------


wide = networks().filter(lambda case: case[0].n > 1)


@given(wide, st.data(), seeds)
def test_lift_and_project_are_transposes(case, data, seed):
    wrapped, p = case
    field, rng = Augmented(wrapped, data.draw(st.integers(1, wrapped.n - 1))), np.random.default_rng(seed)
    batch = p.z.shape[:-1]
    u = frozen(rng.integers(-9, 9, (*batch, field.n - field.extra)).astype(float))  # integers: sums are exact
    v = frozen(rng.integers(-9, 9, p.z.shape).astype(float))
    assert field.lift(u).shape == p.z.shape
    assert np.sum(field.lift(u) * v) == np.sum(u * field.project(v))
    assert np.array_equal(field.project(field.lift(u)), u)
    assert not field.lift(u)[..., -field.extra :].any()
    assert field.lift(u).dtype == u.dtype
    assert field.lift(u + 1j).dtype == complex


@given(wide)
def test_augmented_is_the_wrapped_field(case):
    wrapped, p = case
    for inner in (wrapped, OnlyVJP(wrapped)):
        field = Augmented(inner, 1)
        assert (field.n, field.m) == (wrapped.n, wrapped.m)
        assert np.array_equal(field(*p.at), wrapped(*p.at))
        assert np.array_equal(field.jacobian(*p.at), jacobian(inner, *p.at))
        assert np.array_equal(field.jvp(*p.at, *p.tangent), jvp(inner, *p.at, *p.tangent))
        dz, pullback = field.linearize(*p.at)
        assert np.array_equal(dz, wrapped(*p.at))
        for got, also, want in zip(field.vjp(*p.at, p.a), pullback(p.a), wrapped.vjp(*p.at, p.a), strict=True):
            assert np.array_equal(got, want)
            assert np.array_equal(also, want)


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        (2, ValueError, "extra must be less than the field's dimension 2, got 2"),
        (0, ValueError, "extra must be at least 1, got 0"),
        (1.0, TypeError, "extra must be a whole number, got 1.0"),
    ],
)
def test_unusable_extra_dimensions_are_refused(extra, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        Augmented(VanDerPol(), extra)
