"""The march and the sweep back through it, against the same steps redone in complex numbers, and the plain way."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import OnlyVJP, seeds
from scipy.integrate import DOP853, RK23, RK45

from refode import (
    MLP,
    Linear,
    LotkaVolterra,
    Pendulum,
    SolveError,
    SquaredError,
    VanDerPol,
    WithLogDensity,
    adjoint,
    loss_and_gradient,
    solve,
)  # fmt: skip
from refode.differentiable import Differentiable
from refode.finite_difference import complex_step
from refode.march import FAR, Lost, March
from refode.sensitivities.taped import Backward, Taped
from refode.steppers import RK4, Euler, Tsit5, tableau
from refode.tape import tape

ADAPTIVE, FIXED = [RK23, RK45, Tsit5, DOP853], [RK4, Euler]


def relative(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def observations(steps, k):
    """Those that lie inside step k."""
    first, hw = steps.inside.get(k, (0, []))
    return range(first, first + len(hw))


def again(field, method, steps, z0, theta, times):
    """The observed states of the steps that a march took, by the plain formulas; complex if an argument is."""
    table, t, z = tableau(method), times[0], z0
    observed = np.empty((len(times), *z0.shape), dtype=np.result_type(z0, theta))
    observed[0] = z0
    for k, h in enumerate(steps.h):
        slopes = []
        for row, c in zip(table.A, table.c, strict=True):
            slopes.append(field(z + h * sum(a * s for a, s in zip(row, slopes, strict=False)), t + c * h, theta))
        for i in observations(steps, k):
            x = (times[i] - t) / h
            observed[i] = z + h * sum(w * s for w, s in zip(table.weights(x), slopes, strict=True))
        z, t = z + h * sum(b * s for b, s in zip(table.b, slopes, strict=True)), t + h
        if k + 1 in steps.at_end:
            observed[steps.at_end[k + 1]] = z
    return observed


def case(seed, crowded=False):
    """A field, theta, z0, times in either direction and cotangents, all blocks generic."""
    rng = np.random.default_rng(seed)
    net = MLP([2, 4, 2], rng.choice(["tanh", "softplus", "sine"]))
    field = [net, OnlyVJP(net), MLP([2, 3, 3, 2], time=False), WithLogDensity(net)][rng.integers(4)]
    theta, z0 = rng.normal(size=field.m), rng.normal(size=[(field.n,), (3, field.n)][rng.integers(2)])
    times = np.sort(rng.uniform(0, 2, rng.integers(20, 60) if crowded else rng.integers(2, 6)))
    times = times[::-1] if rng.random() < 0.5 else times
    return field, theta, z0, np.ascontiguousarray(times), rng.normal(size=(len(times), *z0.shape))


def march(field, method, z0, theta, times, rtol=1e-5, step=None):
    found = March(tape(field, z0.shape), (z0.size // z0.shape[-1], z0.shape[-1]), method)
    z, steps = found.solve(z0.ravel(), theta, times, rtol, 1e-2 * rtol, 100_000, step)
    return found, z.reshape(len(times), *z0.shape), steps


@settings(deadline=None, max_examples=25)
@given(seeds, st.sampled_from(ADAPTIVE + FIXED), st.booleans())
def test_the_gradient_is_exact_for_the_steps_that_were_taken(seed, method, crowded):
    """z0 and θ by complex step through the same steps. A sum of N S slopes, each of a dozen terms, rounds to 1e-12."""
    field, theta, z0, times, dL_dz = case(seed, crowded)
    found, z, steps = march(field, method, z0, theta, times, step=0.13 if method in FIXED else None)
    a, theta_bar = Backward(found).sweep(steps, dL_dz.reshape(len(times), -1))

    def loss(z0, theta):
        return np.sum(dL_dz * again(field, method, steps, z0, theta, times))

    assert relative(z, again(field, method, steps, z0, theta, times)) <= 1e-13
    assert relative(a.reshape(z0.shape) + dL_dz[0], complex_step(lambda x: loss(x, theta), z0)) <= 1e-11
    assert relative(theta_bar, complex_step(lambda x: loss(z0, x), theta)) <= 1e-11
    assert sorted([*steps.at_end.values(), *(i for k in steps.inside for i in observations(steps, k))]) == list(
        range(1, len(times))
    )  # every observation once


@settings(deadline=None, max_examples=25)
@given(seeds, st.sampled_from(ADAPTIVE))
def test_the_steps_keep_the_tolerance(seed, method):
    """The states are as close to the solution as those of `solve` are asked to be: both add up the same errors."""
    field, theta, z0, times, _ = case(seed)
    exact = solve(field, z0, theta, times, method="DOP853", rtol=1e-12, atol=1e-14).z
    _, z, steps = march(field, method, z0, theta, times, rtol=1e-7)
    plain = solve(field, z0, theta, times, method=method, rtol=1e-7, atol=1e-9, keep="steps")
    # An error of 1e-7 |z| a step grows on the way, for both by the same factor; their numbers of steps differ less.
    scale = max(np.abs(plain.z - exact).max(), 1e-7 * np.abs(exact).max())
    assert np.abs(z - exact).max() <= 10 * scale
    assert len(steps.h) <= 2 * plain.n_steps + 2 * len(times)
    assert sum(steps.h) == pytest.approx(times[-1] - times[0], rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(seeds, st.sampled_from(ADAPTIVE), st.booleans())
def test_the_gradient_is_that_of_solve_and_adjoint_to_the_tolerance(seed, method, crowded):
    """The same method on other steps: they differ by no more than either does from a tight solve, both times."""
    field, theta, z0, times, dL_dz = case(seed, crowded)

    def plainly(**options):
        plain = solve(field, z0, theta, times, keep="steps", **options)
        gradient = adjoint(plain, dL_dz, method="discrete")
        return np.append(gradient.z0, gradient.theta)

    exact, tolerances = plainly(method="DOP853", rtol=1e-12, atol=1e-14), {"rtol": 1e-7, "atol": 1e-9}
    got = np.concatenate([x.ravel() for x in Taped(field).solve(z0, theta, times, method, **tolerances)[1](dL_dz)])
    # Interpolants err by some tens of tolerances, and errors grow on the way, for both by the same factor.
    assert relative(got, exact) <= 10 * relative(plainly(method=method, **tolerances), exact) + 1e-6


@settings(deadline=None, max_examples=15)
@given(seeds, st.sampled_from(FIXED), st.booleans())
def test_fixed_steps_are_those_of_solve(seed, method, crowded):
    field, theta, z0, times, dL_dz = case(seed, crowded)
    trajectory, pull_back = Taped(field).solve(z0, theta, times, method, step=0.13)
    plain = solve(field, z0, theta, times, method=method, step=0.13, keep="steps")
    gradient = adjoint(plain, dL_dz, method="discrete")
    z0_bar, theta_bar = pull_back(dL_dz)
    assert trajectory.n_steps == plain.n_steps
    assert relative(trajectory.z, plain.z) <= 1e-13  # rounding, in another order
    assert relative(z0_bar, gradient.z0) <= 1e-11
    assert relative(theta_bar, gradient.theta) <= 1e-11


@pytest.mark.parametrize("method", ADAPTIVE)
def test_it_stops_at_few_observations_and_interpolates_many(method):
    field, z0, theta = Pendulum(), np.array([1.0, 0.0]), np.array([2.0, 0.1])
    for count, inside in ((5, False), (400, method is not DOP853)):  # DOP853's interpolant takes further slopes
        _, _, steps = march(field, method, z0, theta, np.linspace(0, 2, count), rtol=1e-4)
        assert bool(steps.inside) == inside
        assert {k + 1 for k in steps.inside} <= set(steps.at_end)  # what interpolates ends at an observation
    plain = solve(field, z0, theta, np.linspace(0, 2, 2), method=method, rtol=1e-4, atol=1e-6)
    few = march(field, method, z0, theta, np.linspace(0, 2, 2), rtol=1e-4)[2]
    assert abs(len(few.h) - plain.n_steps) <= 2


def test_a_stop_does_not_shorten_the_steps_behind_it():
    field, z0, theta = Linear(2), np.array([1.0, 0.0]), np.array([0.0, 1.0, -1.0, 0.0])
    free = march(field, RK45, z0, theta, np.array([0.0, 20.0]))[2]
    stopped = march(field, RK45, z0, theta, np.array([0.0, 10.0, 10.001, 20.0]))[2]
    assert len(stopped.h) <= len(free.h) + 4


def test_one_tape_serves_one_gradient_after_another():
    """Other θ, methods and shapes in between change nothing, to the last bit."""
    net, rng = MLP([2, 5, 2]), np.random.default_rng(0)
    z0, times, dL_dz = rng.normal(size=(4, 2)), np.array([0.0, 0.3, 1.0]), rng.normal(size=(3, 4, 2))
    thetas, taped = rng.normal(size=(4, net.m)), Taped(net)

    def gradient(theta, method=RK45, rows=4):
        _, pull_back = taped.solve(z0[:rows], theta, times, method)
        return [x.copy() for x in pull_back(dL_dz[:, :rows])]

    first = gradient(thetas[0])
    for theta in thetas[1:]:
        gradient(100 * theta)  # more steps, other slots
        gradient(theta, DOP853, 2)
    for got, want in zip(gradient(thetas[0]), first, strict=True):
        assert np.array_equal(got, want)


def test_a_pullback_is_gone_with_the_next_solve():
    taped = Taped(Pendulum())
    arguments = np.ones(2), np.ones(2), np.array([0.0, 1.0]), RK45
    _, first = taped.solve(*arguments)
    taped.solve(*arguments)
    with pytest.raises(RuntimeError, match="later solve"):
        first(np.ones((2, 2)))


def test_a_failed_solve_takes_the_pullback_with_it():
    taped = Taped(Pendulum())
    arguments = np.ones(2), np.ones(2), np.array([0.0, 5.0]), RK45
    _, first = taped.solve(*arguments)
    with pytest.raises(Lost):
        taped.solve(*arguments, max_nfev=20)
    with pytest.raises(RuntimeError, match="later solve"):
        first(np.ones((2, 2)))


@pytest.mark.parametrize("field", [MLP([2, 5, 2]), WithLogDensity(MLP([2, 5, 2])), Pendulum()])
def test_a_pullback_can_be_asked_again_and_after_an_interruption(field, monkeypatch):
    rng = np.random.default_rng(3)
    z0, times = rng.normal(size=(4, field.n)), np.array([0.0, 0.5, 1.0])
    taped, dL_dz = Taped(field), rng.normal(size=(3, 4, field.n))
    _, pull_back = taped.solve(z0, rng.normal(size=field.m), times, RK45)
    first = pull_back(dL_dz)
    kept, pullback, calls = [x.copy() for x in first], taped.tape.pullback, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        pullback(*arguments)

    monkeypatch.setattr(taped.tape, "pullback", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull_back(2 * dL_dz)
    monkeypatch.undo()
    for got, earlier, want in zip(pull_back(dL_dz), first, kept, strict=True):
        assert np.array_equal(got, want)
        assert np.array_equal(earlier, want)


def test_an_observation_by_the_last_fixed_step_is_not_lost():
    """t0 + (t1 - t0) is not t1 in floats: what lies between the two belongs to the last step."""
    t1 = 2e-3
    times = np.array([-1000.0, t1 - 2e-14, t1])
    assert times[0] + (times[2] - times[0]) < times[1]
    trajectory, _ = Taped(Linear(1)).solve(np.ones(1), np.array([-1e-3]), times, RK4, step=1 / 3)
    assert np.allclose(trajectory.z[1:], np.exp(-1e-3 * (1000 + t1)), rtol=1e-12, atol=0)


def test_a_tiny_stop_says_nothing_of_the_next_step():
    """Between two observations 1e-9 apart rounding rules the error estimate: the step before is taken up again."""
    field, z0, theta = Linear(2), np.array([1.0, 0.0]), np.array([0.0, 1.0, -1.0, 0.0])
    pairs = np.arange(2.0, 20.0, 2.0)
    single = march(field, RK45, z0, theta, np.concatenate([[0.0], pairs, [20.0]]))[2]
    double = march(field, RK45, z0, theta, np.sort(np.concatenate([[0.0], pairs, pairs + 1e-9, [20.0]])))[2]
    assert len(double.h) <= len(single.h) + 2 * len(pairs)


def test_it_is_pickled_and_copied_without_its_tapes():
    field = Pendulum()
    solves = Differentiable(field)
    arguments = np.ones(2), np.ones(2), np.array([0.0, 1.0]), RK45
    want = solves.solve(*arguments)[1](np.ones((2, 2)))
    for copied in (pickle.loads(pickle.dumps(solves)), copy.deepcopy(solves)):
        for got, block in zip(copied.solve(*arguments)[1](np.ones((2, 2))), want, strict=True):
            assert np.array_equal(got, block)


def test_a_large_batch_goes_the_plain_way(monkeypatch):
    """Its tape would be too large: the numbers are those of `solve`, to the bit."""
    net, rng = MLP([2, 5, 2]), np.random.default_rng(0)
    monkeypatch.setattr("refode.mlp_tape.MOST", 1000)
    arguments = rng.normal(size=(40, 2)), rng.normal(size=net.m), np.array([0.0, 1.0])
    trajectory, _ = Differentiable(net).solve(*arguments, RK45)
    assert np.array_equal(trajectory.z, solve(net, *arguments).z)
    assert trajectory.step_z is not None


@pytest.mark.parametrize("times", [[0.0, 2 * FAR], [-2 * FAR, 0.0], [2 * FAR, FAR]])
def test_times_too_far_for_a_tape_go_the_plain_way(times):
    net, rng = MLP([2, 5, 2]), np.random.default_rng(0)
    z0, theta, times = rng.normal(size=(3, 2)), rng.normal(size=net.m) / FAR, np.array(times)
    with pytest.raises(Lost):
        March(tape(net, (3, 2)), (3, 2), RK45).solve(z0.ravel(), theta, times, 1e-3, 1e-6, 1000)
    trajectory, _ = Differentiable(net).solve(z0, theta, times, RK45, rtol=1e-3, atol=1e-6)
    assert np.array_equal(trajectory.z, solve(net, z0, theta, times, rtol=1e-3, atol=1e-6).z)


def test_threads_have_tapes_of_their_own():
    net, times, data = MLP([2, 30, 2]), np.linspace(0, 1, 5), np.zeros((5, 20, 2))
    rng = np.random.default_rng(1)
    f = loss_and_gradient(net, rng.normal(size=(20, 2)), SquaredError(data), times)
    thetas = rng.normal(size=(8, net.m))
    want, got = [f(theta) for theta in thetas], [None] * len(thetas)

    def work(first):
        for i in range(first, len(thetas), 4):
            for _ in range(5):
                got[i] = f(thetas[i])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (value, gradient), (value_alone, alone) in zip(got, want, strict=True):
        assert value == value_alone
        assert np.array_equal(gradient, alone)


class Root:
    """dz/dt = θ √z: NaN below zero, where z gets for θ < 0."""

    n = m = 1

    def __call__(self, z, t, theta):
        return theta * np.sqrt(z)

    def vjp(self, z, t, theta, a):
        return a * theta / (2 * np.sqrt(z)), np.zeros(()), np.sum(a * np.sqrt(z), keepdims=True)


@pytest.mark.parametrize(
    ("field", "z0", "theta", "times", "options"),
    [
        (Root(), [1.0], [-5.0], [0.0, 3.0], {}),  # f is not finite
        (LotkaVolterra(), [1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 50.0], {"max_nfev": 50}),
        (VanDerPol(), [1e200, 1e200], [1.0], [0.0, 1.0], {}),  # overflows
        (Root(), [1.0], [-5.0], [0.0, 3.0], {"solver": RK4, "step": 0.1}),
    ],
)
def test_what_the_march_cannot_do_the_plain_solve_explains(field, z0, theta, times, options):
    z0, theta, times = np.array(z0), np.array(theta), np.array(times)
    marched = {"method" if k == "solver" else k: v for k, v in options.items()}
    with pytest.raises(Lost):
        Taped(field).solve(z0, theta, times, **({"method": RK45} | marched))
    with pytest.raises(SolveError, match=r"forward.*t = "):
        Differentiable(field).solve(z0, theta, times, **({"solver": RK45} | options))


def test_an_implicit_solver_is_refused_before_any_work():
    class Forbidden(Pendulum):
        def __call__(self, z, t, theta):
            raise AssertionError("f was evaluated")

    with pytest.raises(ValueError, match='needs an explicit Runge-Kutta solve, got Radau; take "backsolve"'):
        loss_and_gradient(Forbidden(), np.ones(2), SquaredError(np.ones((2, 2))), [0.0, 1.0], solver="Radau")(
            np.ones(2)
        )


def test_only_what_it_knows_is_marched():
    for method in (*ADAPTIVE, *FIXED):
        assert Taped.suits(method, ["rtol", "atol", "max_nfev", "step"], 5)
        assert Taped.suits(method, [], 1000) == (method is not DOP853)  # which stops at every observation

    class Other(RK45):
        """Steps of its own, perhaps."""

    assert not Taped.suits(Other, [], 5)
    assert not Taped.suits(RK45, ["first_step"], 5)
    assert not Taped.suits(RK45, ["keep"], 5)
