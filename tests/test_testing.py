"""The strategies draw what they promise, and `check_adjoint` passes right codes and says what is wrong with others."""

import importlib
import subprocess
import sys
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm, expm_frechet

import refode
from refode import MLP, CubicSpiral, Linear, Pendulum, VanDerPol
from refode.testing import (
    PATTERNS,
    Problem,
    batches,
    check_adjoint,
    closed_forms,
    cotangents,
    fields,
    mlps,
    problems,
    reference_gradient,
    times,
)

some = settings(max_examples=max(5, settings().max_examples // 5))  # of the profile's: for what is expensive


def sample(strategy, count=200):
    """`count` examples; the same ones wherever the same modules are loaded, whose constants hypothesis tries too."""
    drawn = []

    @settings(max_examples=count, derandomize=True, database=None, phases=[hypothesis.Phase.generate])
    @given(strategy)
    def draw(value):
        drawn.append(value)

    draw()
    return drawn


def simplest(strategy, condition=lambda p: True):
    phases = [hypothesis.Phase.generate, hypothesis.Phase.shrink]
    options = settings(max_examples=50, derandomize=True, database=None, phases=phases)
    return hypothesis.find(strategy, condition, settings=options)


# ---- strategies -----------------------------------------------------------------------------------------------------


def test_fields_are_nets_and_closed_forms_of_every_kind():
    drawn = sample(fields(), 400)
    assert all(theta.shape == (field.m,) for field, theta in drawn)
    nets = [field for field, _ in drawn if isinstance(field, MLP)]
    forms = {(type(field), field.n) for field, _ in drawn if not isinstance(field, MLP)}
    assert len(forms) == 7
    assert {net.activation.name for net in nets} == {"tanh", "softplus", "sine", "sigmoid", "identity"}
    assert {len(net.sizes) for net in nets} == {2, 3, 4}
    assert {net.time for net in nets} == {True, False}
    assert {net.n for net in nets} == {1, 2, 3}


def test_the_time_of_nets_can_be_fixed():
    for wanted in (True, False):
        assert {net.time for net, _ in sample(mlps(time=wanted), 30)} == {wanted}


def test_times_run_either_way_from_zero_and_elsewhere_with_close_neighbours():
    drawn = sample(times())
    assert {len(t) for t in drawn} == {2, 3, 4, 5}
    assert {np.sign(t[-1] - t[0]) for t in drawn} == {-1.0, 1.0}
    assert {t[0] == 0 for t in drawn} == {True, False}
    closest = [min(abs(np.diff(t))) / abs(t[-1] - t[0]) for t in drawn]
    assert min(closest) < 1e-5 < max(closest)
    assert all((np.diff(t) * np.sign(t[-1] - t[0]) > 0).all() for t in drawn)
    assert {len(t) for t in sample(times(most=3), 50)} == {2, 3}
    assert {len(t) for t in sample(times(most=2), 20)} == {2}


def test_batches_have_several_shapes():
    assert {z0.shape for z0 in sample(batches(2))} == {(2,), (1, 2), (3, 2), (2, 2, 2)}


def test_every_corner_of_observation_times_occurs():
    looks = {tuple(np.any(dL != 0, axis=1)) for dL in sample(cotangents((4, 2)))}
    one = {tuple(row) for row in np.eye(4, dtype=bool)}
    assert looks == {(True,) * 4, (True, False, False, True), (False, True, True, False), *one}
    assert len(PATTERNS) == 5
    # Without an interior, what is left of it is t1.
    assert {tuple(np.any(dL != 0, axis=1)) for dL in sample(cotangents((2, 2)))} == {
        (True, True),
        *[(False, True), (True, False)],
    }


def test_a_problem_shrinks_to_the_simplest_one_of_its_kind():
    smallest = simplest(problems())
    assert (type(smallest.field), smallest.field.n, smallest.z0.shape, len(smallest.times)) == (Linear, 1, (1,), 2)
    assert smallest.times[0] == 0.0 < smallest.times[1]
    assert smallest.dL_dz[0] == 0
    # Numbers of different things differ also when all the seeds have shrunk to 0.
    assert len({smallest.theta[0], smallest.z0[0], smallest.dL_dz[1, 0]}) == 3
    net = simplest(problems(mlps()), lambda p: len(p.times) > 2 and p.z0.ndim > 1)
    assert (net.field.sizes, net.field.time, net.z0.shape, len(net.times)) == ((1, 1), False, (1, 1), 3)


@given(problems(strength=2.0))
def test_the_strength_of_a_problem_is_bounded_and_is_the_integral_it_says(problem):
    p = problem
    assert p.strength <= 2.0 * 1.02
    sol = solve_ivp(
        lambda t, y: p.field(y.reshape(p.z0.shape), t, p.theta).ravel(),
        (p.times[0], p.times[-1]), p.z0.ravel(), rtol=1e-8, atol=1e-10, dense_output=True,
    ).sol  # fmt: skip

    def norm(t):
        J = refode.jacobian(p.field, sol(t).reshape(p.z0.shape), t, p.theta).reshape(-1, p.field.n, p.field.n)
        return max(np.linalg.svd(block, compute_uv=False)[0] for block in J)

    want = abs(quad(norm, p.times[0], p.times[-1], epsrel=1e-4, limit=200)[0])
    assert p.strength == pytest.approx(want, rel=0.02, abs=1e-6)


def test_a_weak_field_keeps_its_span_and_a_strong_one_is_cut_to_the_bound():
    drawn = sample(problems(closed_forms()))
    strengths = np.array([p.strength for p in drawn])
    assert (strengths < 2).any()
    assert (abs(strengths - 3) < 0.06).any()
    assert strengths.max() < 3.06
    assert max(p.strength for p in sample(problems(strength=6.0))) > 5.8


def test_the_strength_of_a_solution_that_blows_up_is_infinite():
    assert Problem(CubicSpiral(), np.eye(2).ravel(), np.ones(2), [0, 1], np.zeros((2, 2))).strength == np.inf


def test_a_problem_is_immutable_and_owns_its_numbers():
    theta = np.array([1.0])
    p = Problem(Linear(1), theta, [1.0], [0, 1], np.ones((2, 1)))
    theta[0] = 2.0
    assert p.theta[0] == 1.0
    for name in ("theta", "z0", "times", "dL_dz"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(p, name)[0] = 1.0
    with pytest.raises(FrozenInstanceError):
        p.z0 = p.theta


def test_a_problem_refuses_what_does_not_fit():
    good = {"field": Linear(2), "theta": np.ones(4), "z0": np.ones(2), "times": [0, 1], "dL_dz": np.ones((2, 2))}
    for name, bad in (("theta", np.ones(3)), ("z0", np.ones(3)), ("dL_dz", np.ones((3, 2))), ("times", [0, 0])):
        with pytest.raises(ValueError, match=name):
            Problem(**good | {name: bad})


def test_a_problem_prints_its_numbers_to_the_last_digit():
    p = Problem(Pendulum(), [0.1, 1 / 3], np.full((2, 2), 2 / 3), [0, 1], np.ones((2, 2, 2)))
    shown = repr(p)
    assert "Pendulum with n = 2, m = 2" in shown
    assert repr(1 / 3) in shown
    assert repr(2 / 3) in shown
    assert "object at" not in shown
    net, theta = MLP([2, 2]), np.ones(8)
    assert repr(net) in repr(Problem(net, theta, np.ones(2), [0, 1], np.ones((2, 2))))


# ---- the oracle -----------------------------------------------------------------------------------------------------


@some
@given(st.integers(0, 2**32 - 1), st.sampled_from([-1.0, 1.0]))
def test_the_reference_gradient_of_a_linear_field_is_the_frechet_derivative_of_expm(seed, direction):
    rng = np.random.default_rng(seed)
    A, z0, dL_dz = rng.normal(size=(2, 2)) / 2, rng.normal(size=(3, 2)), rng.normal(size=(3, 3, 2))
    t = direction * np.array([0.0, 0.6, 1.0]) + 0.3
    got = reference_gradient(Problem(Linear(2), A.ravel(), z0, t, dL_dz))
    E = [expm(A * (s - t[0])) for s in t]
    # z_i = E_i z0, so that a_i = E_iᵀ dL_i, and dE in the direction of each entry of A.
    assert np.allclose(got.z0, sum(dL @ e for dL, e in zip(dL_dz, E, strict=True)), rtol=0, atol=1e-11)
    for j, direction_of_A in enumerate(np.eye(4).reshape(4, 2, 2)):
        dE = [expm_frechet(A * (s - t[0]), direction_of_A * (s - t[0]), compute_expm=False) for s in t]
        assert got.theta[j] == pytest.approx(
            sum(np.sum(dL * (z0 @ de.T)) for dL, de in zip(dL_dz, dE, strict=True)), abs=1e-11
        )
    slopes = [z0 @ e.T @ A.T for e in E]
    d_times = [np.sum(dL * f) for dL, f in zip(dL_dz, slopes, strict=True)]
    # dL/dt0 = −a(t0)·f(z0), a without z0's own cotangent; here f commutes with the flow.
    d_times[0] = -sum(d_times[1:])
    assert np.allclose(got.times, d_times, rtol=0, atol=1e-11)


class Realist(Pendulum):
    """A field whose code loses the imaginary part, as code behind another library may."""

    def __call__(self, z, t, theta):
        return super().__call__(np.real(z), np.real(t), np.real(theta))


class Refuser(Pendulum):
    def __call__(self, z, t, theta):
        if any(np.iscomplexobj(x) for x in (z, t, theta)):
            raise TypeError("no complex numbers here")
        return super().__call__(z, t, theta)


@pytest.mark.parametrize("field", [Realist(), Refuser()])
def test_a_field_without_complex_numbers_is_differenced(field):
    p = Problem(field, [1.2, 0.3], [[0.5, 0.2], [1.0, -1.0]], [0, 0.7, 0.7 + 1e-6, 1.5], np.ones((4, 2, 2)))
    got, want = reference_gradient(p), reference_gradient(Problem(Pendulum(), p.theta, p.z0, p.times, p.dL_dz))
    for name in ("z0", "theta", "times"):
        # Truncation h⁶ at h = 1e-2 and the solve's 1e-13 over h/4, both times an amplification of some tens.
        assert np.allclose(getattr(got, name), getattr(want, name), rtol=0, atol=1e-9)
        assert not np.array_equal(getattr(got, name), getattr(want, name))


# ---- a plain gradient code with every usual mistake on request ------------------------------------------------------


def plain_gradient(p, mistake=""):
    """The adjoint as one writes it with SciPy alone: dense forward solve, then ȧ = −a ∇§1 f interval by interval."""
    shape, size = p.z0.shape, p.z0.size
    z = solve_ivp(
        lambda t, y: p.field(y.reshape(shape), t, p.theta).ravel(),
        (p.times[0], p.times[-1]), p.z0.ravel(), method="DOP853", rtol=1e-9, atol=1e-11, dense_output=True,
    ).sol  # fmt: skip

    def f(i):
        return p.field(z(p.times[i]).reshape(shape), p.times[i], p.theta)

    def rhs(t, y):
        a, z_t = y[:size].reshape(shape), z(t).reshape(shape)
        a_z, _, a_theta = p.field.vjp(z_t, t, p.theta, a)
        if mistake == "transposed":
            a_z = np.einsum("...ij,...j->...i", refode.jacobian(p.field, z_t, t, p.theta), a)
        return np.concatenate([(a_z if mistake == "equation" else -a_z).ravel(), -a_theta])

    dL, last = p.dL_dz.copy(), len(p.times) - 1
    dL[1:-1] *= {"jumps missing": 0.0, "jumps subtracted": -1.0}.get(mistake, 1.0)
    dL = dL[::-1] if mistake == "reverse order" else dL
    y, d_times = np.zeros(size + p.field.m), np.zeros(last + 1)
    for i in range(last, 0, -1):
        y[:size] += dL[i].ravel()
        d_times[i] = np.sum(dL[i] * f(i))
        y = solve_ivp(rhs, (p.times[i], p.times[i - 1]), y, method="DOP853", rtol=1e-9, atol=1e-11).y[:, -1]
    a, theta = y[:size].reshape(shape), y[size:]
    d_times[0] = -np.sum(a * f(0))
    if mistake == "t0 counted":
        d_times[0] -= np.sum(dL[0] * f(0))
    if mistake == "a_t from 0":
        d_times[0] += d_times[1:].sum()
    return {"z0": a + dL[0], "theta": theta, "times": d_times}


def damaged(name, damage):
    def gradient(p):
        blocks = plain_gradient(p)
        return blocks | {name: damage(blocks[name], p)}

    return gradient


def with_mistake(mistake):
    return lambda p: plain_gradient(p, mistake)


def ours(way, **options):
    def gradient(p):
        trajectory = refode.solve(p.field, p.z0, p.theta, p.times, rtol=1e-9, atol=1e-11, keep="steps", **options)
        return refode.adjoint(trajectory, p.dL_dz, method=way)

    return gradient


@pytest.mark.parametrize(
    "gradient", [ours("backsolve"), ours("discrete", method="DOP853"), ours("forward"), plain_gradient],
    ids=["backsolve", "discrete", "forward", "plain"],
)  # fmt: skip
def test_right_codes_pass_and_are_reported(gradient):
    report = check_adjoint(gradient, max_examples=10)
    assert report.compared == {"z0": 10, "theta": 10, "dL/dt0": 10, "dL/dt_i": 10}
    assert all(0 < worst < 1e-5 for worst in report.worst.values())
    assert str(report).splitlines()[0].split() == ["block", "problems", "worst"]
    assert [line.split()[:2] for line in str(report).splitlines()[1:]] == [[b, "10"] for b in report.compared]


T0_SIGN = np.r_[-1.0, np.ones(9)]
MISTAKES = {
    "minus z0": (damaged("z0", lambda x, p: -x), ["z0"], "minus the gradient"),
    "minus theta": (damaged("theta", lambda x, p: -x), ["theta"], "minus the gradient"),
    "twice": (damaged("theta", lambda x, p: 2 * x), ["theta"], "twice the gradient"),
    "t0 sign": (damaged("times", lambda x, p: x * T0_SIGN[: len(x)]), ["dL/dt0"], "sign of the time gradient"),
    "t_i sign": (damaged("times", lambda x, p: -x * T0_SIGN[: len(x)]), ["dL/dt_i"], "sign of the time gradient"),
    "mean": (damaged("theta", lambda x, p: x * p.field.n / p.z0.size), ["theta"], "mean over the batch instead of sum"),
    "t0 lost": (damaged("z0", lambda x, p: x - p.dL_dz[0]), ["z0"], "dL_dz[0] lost"),
    "t0 twice": (damaged("z0", lambda x, p: x + p.dL_dz[0]), ["z0"], "dL_dz[0] counted twice"),
    "transposed": (with_mistake("transposed"), ["z0"], "transposed Jacobian"),
    "equation": (with_mistake("equation"), ["z0", "theta", "dL/dt0"], "sign of the adjoint equation"),
    "jumps missing": (with_mistake("jumps missing"), ["z0"], "only the last observation counted (jumps missing)"),
    "jumps subtracted": (with_mistake("jumps subtracted"), ["z0"], "jumps subtracted"),
    "reverse order": (with_mistake("reverse order"), ["z0"], "cotangents in reverse order"),
    "t0 counted": (with_mistake("t0 counted"), ["dL/dt0"], "dL_dz[0] counted in dL/dt0"),
    "a_t from 0": (with_mistake("a_t from 0"), ["dL/dt0"], "a_t started from 0, not from -dL_dz.f"),
}


def verdicts(message):
    """block -> the words after its name."""
    lines = message[: message.index("on Problem(")].splitlines()[1:]
    return {line.split(":")[0].strip(): line.split(":", 1)[1] for line in lines if line[2] != " "}


def check_finds(name, seed):
    gradient, blocks, diagnosis = MISTAKES[name]
    with pytest.raises(AssertionError) as caught:
        check_adjoint(gradient, seed=seed)
    said = verdicts(str(caught.value))
    for block in blocks:
        assert "relative error" in said[block]
        assert diagnosis in said[block].split(": ")[1].split(" or ")
    if gradient.__qualname__.startswith("damaged"):  # in that one block
        assert all(said[block].startswith(" right") for block in set(said) - set(blocks))
    assert "Problem(\nfield = " in str(caught.value)
    assert str(caught.value).isascii()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found_and_named(name):
    check_finds(name, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found_whatever_the_seed(name, seed):
    check_finds(name, seed)


def test_what_no_mistake_predicts_is_said_to_be_so():
    with pytest.raises(
        AssertionError, match=r"z0: relative error 1\.0e-02, allowed 1\.0e-05: no usual mistake predicts this"
    ):
        check_adjoint(damaged("z0", lambda x, p: 1.01 * x))


def test_rtol_decides():
    slightly_off = damaged("theta", lambda x, p: x * (1 + 1e-4))
    assert check_adjoint(slightly_off, rtol=1.01e-4, max_examples=5).worst["theta"] == pytest.approx(1e-4, rel=1e-2)
    with pytest.raises(AssertionError, match=r"theta: relative error 1\.0e-04, allowed 9\.9e-05"):
        check_adjoint(slightly_off, rtol=9.9e-5, max_examples=5)


def test_not_a_number_is_wrong():
    with pytest.raises(AssertionError, match="theta: relative error nan"):
        check_adjoint(damaged("theta", lambda x, p: x * np.nan))


def test_times_are_compared_where_they_are_given_and_wanted():
    def without_times(p):
        blocks = plain_gradient(p)
        return SimpleNamespace(z0=blocks["z0"], theta=blocks["theta"])

    assert check_adjoint(without_times, max_examples=3).compared == {"z0": 3, "theta": 3, "dL/dt0": 0, "dL/dt_i": 0}
    wrong_times = damaged("times", lambda x, p: -x)
    assert check_adjoint(wrong_times, max_examples=3, times=False).compared["dL/dt0"] == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: {k: v for k, v in b.items() if k != "theta"}, "must return theta, got a dict without it"),
        (lambda b: None, "must return z0, got a NoneType without it"),
        (lambda b: b | {"theta": b["theta"][:, None]}, r"theta must have shape \(1,\), got \(1, 1\)"),
        (lambda b: b | {"times": b["times"][1:]}, r"times must have shape \(2,\), got \(1,\)"),
    ],
)
def test_missing_and_misshapen_blocks_are_refused(damage, message):
    with pytest.raises(AssertionError, match=message):
        check_adjoint(lambda p: damage(plain_gradient(p)))


def test_what_the_code_raises_passes_through():
    with pytest.raises(ZeroDivisionError):
        check_adjoint(lambda p: 1 / 0)


def test_own_fields_and_the_seed():
    seen = []

    def recording(p):
        seen.append(p)
        return plain_gradient(p)

    own = problems(st.just((VanDerPol(), np.array([0.5]))))
    for seed in (1, 1, 2):
        check_adjoint(recording, problems=own, max_examples=5, seed=seed)
    assert {type(p.field) for p in seen} == {VanDerPol}
    first, again, other = ([(p.z0.tolist(), p.times.tolist()) for p in seen[i : i + 5]] for i in (0, 5, 10))
    assert first == again != other


def test_it_needs_no_pytest(tmp_path):
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import refode, refode.testing as testing\n"
        "def gradient(p):\n"
        "    return refode.adjoint(refode.solve(p.field, p.z0, p.theta, p.times, rtol=1e-8), p.dL_dz)\n"
        "print(testing.check_adjoint(gradient, max_examples=3))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert run.stdout.splitlines()[1].split()[:2] == ["z0", "3"]
    assert run.stdout.isascii()


def test_without_hypothesis_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "refode.testing")
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r"pip install refode\[test\]"):
        importlib.import_module("refode.testing")
