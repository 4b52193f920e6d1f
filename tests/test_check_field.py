"""check_field passes what is right, and says FAIL of what is wrong: in the rows of the mistake and in no other."""

import re

import numpy as np
import pytest
from hypothesis import given
from oracles import OnlyVJP, networks, seeds

from refode import (
    MLP,
    Augmented,
    CubicSpiral,
    KineticEnergy,
    Linear,
    LotkaVolterra,
    Pendulum,
    VanDerPol,
    WithRunningCost,
    check_field,
)
from refode.check_field import COMPLEX_TOLERANCE, DIFFERENCE_TOLERANCE
from refode.planar import ContinuousPlanar, HyperPlanar

NET = MLP([2, 3, 2])
SHAPE, BATCH = "f: shape and dtype", "f: batch = one by one"
VJP = ["vjp: a.df/dz", "vjp: a.df/dt", "vjp: a.df/dtheta"]
LINEARIZE = ["linearize: f", "linearize: a.df/dz", "linearize: a.df/dt", "linearize: a.df/dtheta"]
ROWS = [SHAPE, BATCH, *VJP, *LINEARIZE, "jvp", "jacobian"]
JVP_VJP = ["jvp_vjp: w.d(Jv)/dz", "jvp_vjp: w.d(Jv)/dt", "jvp_vjp: w.d(Jv)/dtheta"]
TRACE = ["trace: f", "trace: tau", "trace: d/dz", "trace: d/dt", "trace: d/dtheta"]
PROBES = ["probes: f", "probes: tau", "probes: d/dz", "probes: d/dt", "probes: d/dtheta"]


class Right:
    """A network with all the methods, none of which calls another: a mistake planted in one stays there."""

    n, m = NET.n, NET.m

    def __call__(self, z, t, theta):
        return NET(z, t, theta)

    def vjp(self, z, t, theta, a):
        return NET.vjp(z, t, theta, a)

    def linearize(self, z, t, theta):
        return NET.linearize(z, t, theta)

    def jvp(self, z, t, theta, dz, dt, dtheta):
        return NET.jvp(z, t, theta, dz, dt, dtheta)

    def jacobian(self, z, t, theta):
        return NET.jacobian(z, t, theta)


class Twice(Right):
    """The same, with second derivatives."""

    def jvp_vjp(self, z, t, theta, v, w):
        return NET.jvp_vjp(z, t, theta, v, w)

    def linearize_divergence(self, z, t, theta, probes=None):
        return NET.linearize_divergence(z, t, theta, probes)


class RealOnly(Right):
    """The same, blind to imaginary parts, as abs or a cast to float would make it."""

    def __call__(self, z, t, theta):
        return NET(np.real(z), np.real(t), np.real(theta))


class TwiceByDifferences(Twice):
    """Second derivatives, of an f that is blind to imaginary parts."""

    __call__ = RealOnly.__call__


class TwiceOfRealVJP(Twice):
    """Second derivatives, of a VJP alone that is."""

    def vjp(self, z, t, theta, a):
        return NET.vjp(np.real(z), np.real(t), np.real(theta), a)


class Cast(Right):
    """The same, with a cast that warns of complex numbers."""

    def __call__(self, z, t, theta):
        return NET(np.asarray(z).astype(float), t, theta)


class Absolute:
    """ż = θ |z|, right away from 0, and complex step would say 0."""

    n, m = 2, 1

    def __call__(self, z, t, theta):
        return theta[0] * abs(z)

    def vjp(self, z, t, theta, a):
        return theta[0] * a * np.sign(z), 0.0, np.array([np.sum(a * abs(z))])


class Parameterless:
    n, m = 3, 0

    def __call__(self, z, t, theta):
        return np.sin(t) * z

    def vjp(self, z, t, theta, a):
        return np.sin(t) * a, np.cos(t) * np.sum(a * z), np.zeros(0)


def failed(report):
    return [row.what for row in report.rows if not row.ok]


def row(report, what):
    return next(row for row in report.rows if row.what == what)


# ---- what is right ------------------------------------------------------------------------------------------


@given(networks(), seeds)
def test_a_network_passes(case, seed):
    field, _ = case
    report = check_field(field, rng=np.random.default_rng(seed))
    assert report.ok, report
    assert report.oracle == "complex step"
    assert [row.what for row in report.rows] == [*ROWS, *JVP_VJP, *TRACE, *PROBES]


FIELDS = [
    Linear(3), LotkaVolterra(), VanDerPol(), CubicSpiral(), Pendulum(), Parameterless(), Augmented(NET, 1),
    WithRunningCost(NET, KineticEnergy(NET)), Right(), Twice(), OnlyVJP(NET),
    ContinuousPlanar(2, 3, gated=True), HyperPlanar(2, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: type(field).__name__)
def test_a_right_field_passes(field):
    report = check_field(field)
    assert report.ok, report
    assert report.oracle == "complex step"
    optional = {
        "linearize": LINEARIZE, "jvp": ["jvp"], "jacobian": ["jacobian"], "jvp_vjp": JVP_VJP,
        "linearize_divergence": TRACE + PROBES,
    }  # fmt: skip
    brought = [row for method, rows in optional.items() if hasattr(field, method) for row in rows]
    assert [row.what for row in report.rows] == [SHAPE, BATCH, *VJP, *brought]


@pytest.mark.parametrize("field", [RealOnly(), Cast(), Absolute()], ids=lambda field: type(field).__name__)
def test_a_field_that_is_not_complex_safe_is_differenced(field):
    report = check_field(field)
    assert report.ok, report
    assert report.oracle == "central differences"


def test_where_to_look_is_the_callers():
    seen = []

    class Watched(Right):
        def vjp(self, z, t, theta, a):
            seen.append((z.copy(), t, theta.copy()))
            return super().vjp(z, t, theta, a)

    z, theta = np.arange(8.0).reshape(4, 2) / 8, np.linspace(-1, 1, NET.m)
    assert check_field(Watched(), z, 0.25, theta).ok
    for got in seen:
        assert all(np.array_equal(x, y) for x, y in zip(got, (z, 0.25, theta), strict=True))


def test_the_same_rng_gives_the_same_report():
    report = check_field(NET)
    assert report == check_field(NET, rng=np.random.default_rng(0))
    assert report != check_field(NET, rng=np.random.default_rng(1))


# ---- what is wrong ------------------------------------------------------------------------------------------


def altered(change):
    """A VJP whose three blocks go through `change`."""

    def vjp(self, z, t, theta, a):
        return change(*NET.vjp(z, t, theta, a))

    return vjp


def transposed(self, z, t, theta, a):
    J = NET.jacobian(z, t, theta)
    return np.einsum("...ij,...j->...i", J, a), *NET.vjp(z, t, theta, a)[1:]  # ∇f a


def without_slope(self, z, t, theta, a):
    """The backward pass of the hidden layer with its σ′ left out."""
    (W, _, c), (V, _, d) = NET.layers(theta)
    theta_bar = NET.vjp(z, t, theta, a)[2]
    u_bar = a @ V.T
    W_bar, b_bar, c_bar = next(NET.layers(theta_bar))
    W_bar[...], b_bar[...] = z.T @ u_bar, u_bar.sum(axis=0)
    c_bar[...] = t * b_bar
    return u_bar @ W.T, c @ b_bar + d @ a.sum(axis=0), theta_bar


def without_t(self, z, t, theta, a):
    z_bar, t_bar, theta_bar = NET.vjp(z, t, theta, a)
    for _, b_bar, c_bar in NET.layers(theta_bar):
        c_bar[...] = b_bar  # c̄ = t b̄ without its t
    return z_bar, t_bar, theta_bar


def one_by_one(block):
    """A block that was not summed over the batch."""

    def vjp(self, z, t, theta, a):
        singles = np.stack([NET.vjp(z_i, t, theta, a_i)[block] for z_i, a_i in zip(z, a, strict=True)])
        return tuple(singles if i == block else right for i, right in enumerate(NET.vjp(z, t, theta, a)))

    return vjp


def first_sample(self, z, t, theta, a):
    return NET.vjp(z, t, theta, a)[0], *NET.vjp(z[0], t, theta, a[0])[1:]


def raising(self, *args):
    raise KeyError("W3")


def in_place(self, z, t, theta, a):
    a *= 1.0
    return NET.vjp(z, t, theta, a)


def with_nan(self, z, t, theta, a):
    z_bar, t_bar, theta_bar = NET.vjp(z, t, theta, a)
    theta_bar[5] = np.nan
    return z_bar, t_bar, theta_bar


Z, T, THETA = ([row] for row in VJP)
BY_VJP = {
    "sign of z": (altered(lambda z, t, theta: (-z, t, theta)), Z),
    "sign of t": (altered(lambda z, t, theta: (z, -t, theta)), T),
    "sign of theta": (altered(lambda z, t, theta: (z, t, -theta)), THETA),
    "all signs": (altered(lambda z, t, theta: (-z, -t, -theta)), VJP),
    "transposed Jacobian": (transposed, Z),
    "missing slope": (without_slope, VJP),
    "c without t": (without_t, THETA),
    "theta averaged": (altered(lambda z, t, theta: (z, t, theta / 3)), THETA),
    "t averaged": (altered(lambda z, t, theta: (z, t / 3, theta)), T),
    "first sample only": (first_sample, T + THETA),
    "theta shifted": (altered(lambda z, t, theta: (z, t, np.roll(theta, 1))), THETA),
    "two of theta swapped": (altered(lambda z, t, theta: (z, t, theta[[1, 0, *range(2, NET.m)]])), THETA),
    "state components swapped": (altered(lambda z, t, theta: (z[:, ::-1], t, theta)), Z),
    "t forgotten": (altered(lambda z, t, theta: (z, 0.0, theta)), T),
    "NaN": (with_nan, THETA),
    "z flat": (altered(lambda z, t, theta: (z.ravel(), t, theta)), Z),
    "t not summed": (one_by_one(1), T),
    "theta not summed": (one_by_one(2), THETA),
    "t an array of one": (altered(lambda z, t, theta: (z, t[None], theta)), T),
    "theta too long": (altered(lambda z, t, theta: (z, t, np.append(theta, 0.0))), THETA),
    "no t": (altered(lambda z, t, theta: (z, None, theta)), T),
    "two blocks": (altered(lambda z, t, theta: (z, theta)), VJP),
    "four blocks": (altered(lambda z, t, theta: (z, t, theta, 0.0)), VJP),
    "nothing": (altered(lambda z, t, theta: None), VJP),
    "raising": (raising, VJP),
    "writing to a": (in_place, VJP),
}


@pytest.mark.parametrize("base", [Right, RealOnly, Twice], ids=["complex step", "differences", "second derivatives"])
@pytest.mark.parametrize(("vjp", "rows"), BY_VJP.values(), ids=BY_VJP)
def test_a_mistake_in_the_vjp_fails_in_its_rows_alone(vjp, rows, base):
    report = check_field(type("Planted", (base,), {"vjp": vjp})())
    assert failed(report) == rows, report
    assert not report.ok


def pulled(change):
    """A linearize whose pullback goes through `change`."""

    def linearize(self, z, t, theta):
        dz, pullback = NET.linearize(z, t, theta)
        return dz, lambda a: change(*pullback(a))

    return linearize


def used_up(self, z, t, theta):
    """A pullback that works once: it pops its tape."""
    dz, pullback = NET.linearize(z, t, theta)
    tape = [pullback]
    return dz, lambda a: tape.pop()(a)


def of_f(change):
    def linearize(self, z, t, theta):
        dz, pullback = NET.linearize(z, t, theta)
        return change(dz), pullback

    return linearize


def of_jvp(change):
    return lambda self, z, t, theta, dz, dt, dtheta: NET.jvp(z, t, theta, *change(dz, dt, dtheta))


def of_jacobian(change):
    return lambda self, z, t, theta: change(NET.jacobian(z, t, theta))


BY_METHOD = {
    "f": ("linearize", of_f(lambda dz: 2 * dz), ["linearize: f"]),
    "pullback z": ("linearize", pulled(lambda z, t, theta: (-z, t, theta)), ["linearize: a.df/dz"]),
    "pullback t": ("linearize", pulled(lambda z, t, theta: (z, -t, theta)), ["linearize: a.df/dt"]),
    "pullback theta": ("linearize", pulled(lambda z, t, theta: (z, t, theta / 3)), ["linearize: a.df/dtheta"]),
    "pullback once": ("linearize", used_up, LINEARIZE[1:]),
    "pullback two": ("linearize", pulled(lambda z, t, theta: (z, theta)), LINEARIZE[1:]),
    "linearize raising": ("linearize", raising, LINEARIZE),
    "jvp without dz": ("jvp", of_jvp(lambda dz, dt, dtheta: (0 * dz, dt, dtheta)), ["jvp"]),
    "jvp without dt": ("jvp", of_jvp(lambda dz, dt, dtheta: (dz, 0.0, dtheta)), ["jvp"]),
    "jvp without dtheta": ("jvp", of_jvp(lambda dz, dt, dtheta: (dz, dt, 0 * dtheta)), ["jvp"]),
    "jvp raising": ("jvp", raising, ["jvp"]),
    "jacobian transposed": ("jacobian", of_jacobian(lambda J: J.swapaxes(-1, -2)), ["jacobian"]),
    "jacobian of one": ("jacobian", of_jacobian(lambda J: J[0]), ["jacobian"]),
    "jacobian negated": ("jacobian", of_jacobian(lambda J: -J), ["jacobian"]),
}


@pytest.mark.parametrize("base", [Right, RealOnly], ids=["complex step", "differences"])
@pytest.mark.parametrize(("method", "wrong", "rows"), BY_METHOD.values(), ids=BY_METHOD)
def test_a_mistake_in_an_optional_method_fails_in_its_rows_alone(method, wrong, rows, base):
    report = check_field(type("Planted", (base,), {method: wrong})())
    assert failed(report) == rows, report


def of_second(change):
    return lambda self, z, t, theta, v, w: change(*NET.jvp_vjp(z, t, theta, v, w))


def swapped(self, z, t, theta, v, w):
    """The VJP of J w with v, not of J v with w."""
    return NET.jvp_vjp(z, t, theta, w, v)


def of_trace(part, change):
    """A linearize_divergence of which f, τ, or what the pullback gives goes through `change`."""

    def linearize_divergence(self, z, t, theta, probes=None):
        dz, tau, pullback = NET.linearize_divergence(z, t, theta, probes)
        return (
            change(dz) if part == "f" else dz,
            change(tau) if part == "tau" else tau,
            (lambda a, c: change(*pullback(a, c))) if part == "pullback" else pullback,
        )

    return linearize_divergence


def without_curvature(self, z, t, theta, probes=None):
    """a·∇f alone, as if τ were constant: the note's last equation as printed."""
    dz, tau, pullback = NET.linearize_divergence(z, t, theta, probes)
    return dz, tau, lambda a, c: pullback(a, 0 * c)


def of_probes(change):
    """A linearize_divergence that does something else with probes, and is right without."""

    def linearize_divergence(self, z, t, theta, probes=None):
        return NET.linearize_divergence(z, t, theta, None if probes is None else change(probes))

    return linearize_divergence


def popped(self, z, t, theta, probes=None):
    dz, tau, pullback = NET.linearize_divergence(z, t, theta, probes)
    tape = [pullback]
    return dz, tau, lambda a, c: tape.pop()(a, c)


def both(*rows):
    """Those of the exact trace and those of the estimate."""
    return [TRACE[i] for i in rows] + [PROBES[i] for i in rows]


SECOND = {
    "z": ("jvp_vjp", of_second(lambda z, t, theta: (-z, t, theta)), JVP_VJP[:1]),
    "t": ("jvp_vjp", of_second(lambda z, t, theta: (z, 2 * t, theta)), JVP_VJP[1:2]),
    "theta": ("jvp_vjp", of_second(lambda z, t, theta: (z, t, theta / 3)), JVP_VJP[2:]),
    "v for w": ("jvp_vjp", swapped, JVP_VJP),
    "two blocks": ("jvp_vjp", of_second(lambda z, t, theta: (z, theta)), JVP_VJP),
    "jvp_vjp raising": ("jvp_vjp", raising, JVP_VJP),
    "f": ("linearize_divergence", of_trace("f", lambda dz: 1.1 * dz), both(0)),
    "sign of tau": ("linearize_divergence", of_trace("tau", lambda tau: -tau), both(1)),
    "mean of tau": ("linearize_divergence", of_trace("tau", lambda tau: tau.mean() + 0 * tau), both(1)),
    "sum of tau": ("linearize_divergence", of_trace("tau", np.sum), both(1)),
    "pullback z": ("linearize_divergence", of_trace("pullback", lambda z, t, theta: (z[::-1], t, theta)), both(2)),
    "pullback t": ("linearize_divergence", of_trace("pullback", lambda z, t, theta: (z, 0 * t, theta)), both(3)),
    "pullback theta": ("linearize_divergence", of_trace("pullback", lambda z, t, theta: (z, t, 2 * theta)), both(4)),
    "no second derivative": ("linearize_divergence", without_curvature, both(2, 3, 4)),
    "pullback once": ("linearize_divergence", popped, both(2, 3, 4)),
    "half the probes": ("linearize_divergence", of_probes(lambda v: v[:1]), PROBES[1:]),
    "probes of others": ("linearize_divergence", of_probes(lambda v: v[:, ::-1]), PROBES[1:]),
    "linearize_divergence raising": ("linearize_divergence", raising, both(*range(5))),
}


@pytest.mark.parametrize("base", [Twice, TwiceByDifferences, TwiceOfRealVJP])
@pytest.mark.parametrize(("method", "wrong", "rows"), SECOND.values(), ids=SECOND)
def test_a_mistake_in_a_second_derivative_fails_in_its_rows_alone(method, wrong, rows, base):
    report = check_field(type("Planted", (base,), {method: wrong})())
    assert sorted(failed(report)) == sorted(rows), report


@pytest.mark.parametrize("base", [Twice, TwiceByDifferences, TwiceOfRealVJP])
def test_second_derivatives_are_compared_however_sharply_it_can_be_done(base):
    report = check_field(base())
    assert report.ok, report
    assert report.oracle == ("central differences" if base is TwiceByDifferences else "complex step")
    allowed = COMPLEX_TOLERANCE if base is Twice else DIFFERENCE_TOLERANCE
    assert {r.allowed for r in report.rows if r.what in JVP_VJP + TRACE + PROBES} == {allowed}


def test_of_a_wrong_vjp_no_second_derivative_is_said():
    report = check_field(type("Planted", (Twice,), {"vjp": altered(lambda z, t, theta: (z, t, -theta))})())
    assert [row.what for row in report.rows] == ROWS


def of_value(change):
    return lambda self, z, t, theta: change(NET(z, t, theta))


def hole(dz):
    dz = dz.copy()
    dz[..., 1, 0] = np.nan
    return dz


BY_F = {
    "float32": (of_value(lambda dz: dz.astype(np.float32)), "raised TypeError: f returned dtype float32"),
    "integer": (of_value(lambda dz: dz.astype(int)), "raised TypeError: f returned dtype int"),
    "complex": (of_value(lambda dz: dz + 1j), "raised TypeError: f returned dtype complex128"),
    "a list of text": (of_value(lambda dz: ["z"]), "raised TypeError: f returned dtype <U1"),
    "NaN": (of_value(hole), "f[1, 0]: nan, expected nan"),
    "one sample": (of_value(lambda dz: dz[0]), "shape (2,), expected (3, 2)"),
    "transposed": (of_value(lambda dz: dz.T), "shape (2, 3), expected (3, 2)"),
    "raising": (raising, "raised KeyError: 'W3'"),
    "writing to z": (lambda self, z, t, theta: z.sort(), "raised ValueError: "),
}


@pytest.mark.parametrize(("f", "where"), BY_F.values(), ids=BY_F)
def test_of_an_f_that_is_none_nothing_more_is_said(f, where):
    report = check_field(type("Planted", (Right,), {"__call__": f})())
    assert [row.what for row in report.rows] == failed(report) == [SHAPE]
    assert report.rows[0].where.startswith(where)


def test_an_f_that_mixes_its_batch():
    report = check_field(type("Planted", (Right,), {"__call__": of_value(lambda dz: dz - dz.mean(axis=0))})())
    assert failed(report)[0] == BATCH
    assert row(report, SHAPE).ok


def test_an_f_of_its_own_fails_in_every_derivative():
    report = check_field(type("Planted", (Right,), {"__call__": of_value(lambda dz: -dz)})())
    assert failed(report) == ROWS[2:]


# ---- how it says so -----------------------------------------------------------------------------------------


def off_by(entry, size):
    """A VJP with one entry of one block wrong by `size`."""
    block, index = entry

    def vjp(self, z, t, theta, a):
        got = [np.array(x) for x in NET.vjp(z, t, theta, a)]
        got[block][index] += size
        return tuple(got)

    return vjp


@pytest.mark.parametrize(
    ("entry", "what", "where"),
    [((0, (1, 0)), VJP[0], "z[1, 0]"), ((1, ()), VJP[1], "t"), ((2, (4,)), VJP[2], "theta[4]")],
)
def test_the_report_points_at_the_entry(entry, what, where):
    report = check_field(type("Planted", (Right,), {"vjp": off_by(entry, 0.5)})())
    assert failed(report) == [what]
    said = re.fullmatch(rf"{re.escape(where)}: (\S+), expected (\S+)", row(report, what).where)
    assert float(said[1]) - float(said[2]) == pytest.approx(0.5, abs=1e-4)  # printed to six digits
    text = str(report)
    assert text.isascii()
    assert sum(line.startswith("FAIL") for line in text.splitlines()) == 1
    assert re.search(rf"^FAIL {what} .* {re.escape(where)}: ", text, re.M)
    assert len(text.splitlines()) == 2 + len(report.rows)


def test_worst_is_relative_to_the_largest_entry():
    z, theta = np.random.default_rng(2).normal(size=(3, 2)), NET.init(np.random.default_rng(3))
    right = row(check_field(Right(), z, 0.7, theta), VJP[0]).worst
    wrong = check_field(
        type("Planted", (Right,), {"vjp": altered(lambda z, t, th: (1.01 * z, t, th))})(), z, 0.7, theta
    )
    assert right < 1e-13
    assert row(wrong, VJP[0]).worst == pytest.approx(0.01, rel=1e-9)


@pytest.mark.parametrize(("base", "seen", "unseen"), [(Right, 1e-10, 1e-13), (RealOnly, 1e-5, 1e-8)])
@pytest.mark.parametrize("block", range(3))
def test_how_small_a_mistake_is_seen(base, seen, unseen, block):
    """Complex step sees the eleventh digit, differences the sixth; neither cries wolf at rounding."""
    for size, ok in ((seen, False), (unseen, True)):
        scaled = altered(lambda *got, s=size: tuple(x * (1 + s) if i == block else x for i, x in enumerate(got)))
        assert check_field(type("Planted", (base,), {"vjp": scaled})()).ok is ok


def test_the_report_of_a_right_field_is_plain():
    text = str(check_field(NET))
    assert text.isascii()
    assert text.startswith("against complex step\n")
    assert "FAIL" not in text
    assert all(what in text for what in ROWS)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"z": np.zeros(2)}, ValueError, r"z must have shape \(B, 2\), got \(2,\)"),
        ({"z": np.zeros((3, 1))}, ValueError, r"z must have shape \(B, 2\), got \(3, 1\)"),
        ({"z": [[np.nan, 0]]}, ValueError, r"z must be finite, got nan at \[0, 0\]"),
        ({"theta": np.zeros(3)}, ValueError, rf"theta must have shape \({NET.m},\), got \(3,\)"),
        ({"theta": np.zeros(NET.m, complex)}, TypeError, "theta must hold real numbers, got dtype complex128"),
        ({"t": np.inf}, ValueError, "t must be finite, got inf"),
        ({"t": [0.0]}, ValueError, r"t must have shape \(\), got \(1,\)"),
    ],
)
def test_unusable_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        check_field(NET, **arguments)
