"""The ways to the gradient, each against what defines it: a(t) along the way, the numbers of the solve, their cost."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import OnlyVJP
from scipy.integrate import solve_ivp

from refode import MLP, Linear, Pendulum, ReconstructionWarning, SolveError, VanDerPol, adjoint, solve
from refode.adjoint import LEAST_KEPT
from refode.finite_difference import complex_solve, complex_step
from refode.integrate import METHODS
from refode.sensitivities.backsolve import adjoint_dynamics
from refode.sensitivities.discrete import CHECKPOINTS, _states, recomputed
from refode.sensitivities.quadrature import gauss, groups
from refode.sensitivities.sweep import Drift, Task
from refode.steppers import tableau
from refode.testing import Problem, problems, reference_gradient

EPS = np.finfo(float).eps
EXPLICIT = ["RK23", "RK45", "Tsit5", "DOP853", "Euler", "RK4"]
OPTIONS = {"Euler": {"step": 0.11}, "RK4": {"step": 0.17}}
BLOCKS = ("z0", "theta", "times")
seeds = st.integers(0, 2**32 - 1)
some = settings(max_examples=max(5, settings().max_examples // 5))  # of the profile's: for what is expensive


def relative(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


# ---- Theorem 1: a(t) along the way -----------------------------------------------------------------------------------


@some
@given(problems(most_times=2))
def test_D13_D15_E08_each_block_of_a_is_the_derivative_of_the_loss_to_go(p):
    """a(t) = ∇ℒ(z_t, t, θ) in all three blocks, at times between t1 and t0, not only where they end.

    ℒ(z, t, θ) = dL · z(t1) of the solution through (z, t): differentiated by complex step in z, in t and in θ.
    """
    dL, (t0, t1) = np.where(p.dL_dz[-1] == 0, 0.7, p.dL_dz[-1]), p.times
    (z1,) = complex_solve(p.field, p.z0, p.theta, p.times)[1:]

    def dynamics(t, y):
        z, a_z = y[: p.z0.size].reshape(p.z0.shape), y[p.z0.size : 2 * p.z0.size].reshape(p.z0.shape)
        return np.concatenate([np.ravel(block) for block in adjoint_dynamics(p.field, z, t, p.theta, a_z)])

    def to_go(z, t, theta):
        return np.sum(dL * complex_solve(p.field, z, theta, [t, t1])[-1])

    def gradient_to_go(z, t):
        """In z, t and θ."""
        return (
            complex_step(lambda x: to_go(x, t, p.theta), z),
            complex_step(lambda x: to_go(z, x, p.theta), t),
            complex_step(lambda x: to_go(z, t, x), p.theta),
        )

    start = np.concatenate([z1.ravel(), dL.ravel(), [-np.sum(dL * p.field(z1, t1, p.theta))], np.zeros(p.field.m)])
    at = t1 + (t0 - t1) * np.array([0.2, 0.6, 1.0])
    states = solve_ivp(dynamics, (t1, t0), start, method="DOP853", rtol=1e-11, atol=1e-12, t_eval=at).y.T
    for t, y in zip(at, states, strict=True):
        z, a_z, a_t, a_theta = np.split(y, [p.z0.size, 2 * p.z0.size, 2 * p.z0.size + 1])
        z, a_z = z.reshape(p.z0.shape), a_z.reshape(p.z0.shape)
        size = np.linalg.norm(a_z) + np.linalg.norm(dL)
        f = p.field(z, t, p.theta)
        want_z, want_t, want_theta = gradient_to_go(z, t)
        assert np.linalg.norm(a_z - want_z) <= 1e-8 * size
        assert abs(a_t[0] - want_t) <= 1e-8 * size * max(1, np.linalg.norm(f))
        assert np.linalg.norm(a_theta - want_theta) <= 1e-8 * max(size, np.linalg.norm(want_theta))
        # a_§1 f + a_§2 = 0 all along
        assert abs(np.sum(a_z * f) + a_t[0]) <= 1e-9 * size * max(1, np.linalg.norm(f))


@given(problems())
def test_D35_the_dynamics_are_f_and_minus_the_vjp(p):
    rng = np.random.default_rng(0)
    a, t = rng.normal(size=p.z0.shape), p.times[0]
    dz, a_z, a_t, a_theta = adjoint_dynamics(p.field, p.z0, t, p.theta, a)
    assert np.allclose(dz, p.field(p.z0, t, p.theta), rtol=0, atol=1e-14)

    def f(z, t, theta):
        return np.sum(a * p.field(z, t, theta))

    for got, want in (
        (a_z, complex_step(lambda x: f(x, t, p.theta), p.z0)),
        (a_t, complex_step(lambda x: f(p.z0, x, p.theta), t)),
        (a_theta, complex_step(lambda x: f(p.z0, t, x), p.theta)),
    ):
        assert np.allclose(got, -want, rtol=1e-11, atol=1e-12)


@some
@given(problems())
def test_a_jumps_at_every_observation(p):
    """What the sweep has at t_i is the gradient of the rest: of a solve from z(t_i), with the later observations."""
    trajectory = solve(p.field, p.z0, p.theta, p.times, rtol=1e-10, atol=1e-12)
    whole = adjoint(trajectory, p.dL_dz)
    for i in range(1, len(p.times) - 1):
        rest = solve(p.field, trajectory.z[i], p.theta, p.times[i:], rtol=1e-10, atol=1e-12)
        later = adjoint(rest, p.dL_dz[i:])
        first = solve(p.field, p.z0, p.theta, p.times[: i + 1], rtol=1e-10, atol=1e-12)
        dL_dz = np.concatenate([p.dL_dz[:i], later.z0[None]])  # a(t_i), the jump at t_i included
        got = adjoint(first, dL_dz)
        size = np.linalg.norm(p.dL_dz) * np.exp(p.strength)
        assert np.linalg.norm(got.z0 - whole.z0) <= 1e-7 * size
        assert np.linalg.norm(got.theta + later.theta - whole.theta) <= 1e-7 * max(size, np.linalg.norm(whole.theta))


# ---- discrete: the exact gradient of the numbers ---------------------------------------------------------------------


def frozen_steps(trajectory, z, theta):
    """The states at the observation times, by the accepted steps taken again with z0 and θ free."""
    T, t, times = tableau(trajectory.method), trajectory.step_times, trajectory.times
    forward = np.sign(times[-1] - times[0])
    found = [z]
    for k in range(len(t) - 1):
        h, K = t[k + 1] - t[k], []
        for i in range(len(T.b)):
            K.append(
                trajectory.field(z + h * sum((T.A[i, j] * K[j] for j in range(i)), 0 * z), t[k] + T.c[i] * h, theta)
            )
        for s in times[1:-1]:
            if forward * t[k] < forward * s <= forward * t[k + 1]:
                found.append(z + h * sum(w * k_i for w, k_i in zip(T.weights((s - t[k]) / h), K, strict=True)))
        z = z + h * sum(b * k_i for b, k_i in zip(T.b, K, strict=True))
    return np.array([*found, z])


@pytest.mark.parametrize("keep", ["steps", "stages"])
@pytest.mark.parametrize("method", EXPLICIT)
@pytest.mark.parametrize("backward", [False, True])
@some
@given(seed=seeds)
def test_discrete_is_the_gradient_of_the_steps_taken(method, keep, backward, seed):
    """Exact to rounding at loose tolerances: complex step through the same steps, with observations inside them."""
    rng = np.random.default_rng(seed)
    field = MLP([2, 3, 2], ["tanh", "sine"][seed % 2])
    theta, z0 = field.init(rng), rng.normal(size=(2, 2))
    times = 0.2 + np.array([0.0, 0.3, 0.35, 0.9, 1.3]) * (-1 if backward else 1)
    trajectory = solve(
        field, z0, theta, times, method=method, rtol=1e-2, atol=1e-3, keep=keep, **OPTIONS.get(method, {})
    )
    assert np.allclose(frozen_steps(trajectory, z0, theta), trajectory.z, rtol=0, atol=1e-12)
    dL_dz = rng.normal(size=trajectory.z.shape)
    got = adjoint(trajectory, dL_dz, method="discrete")
    assert relative(got.z0, complex_step(lambda x: np.sum(dL_dz * frozen_steps(trajectory, x, theta)), z0)) <= 1e-12
    assert relative(got.theta, complex_step(lambda x: np.sum(dL_dz * frozen_steps(trajectory, z0, x)), theta)) <= 1e-12


@pytest.mark.parametrize("checkpoints", [None, 2, 3, 1000])
@pytest.mark.parametrize("method", EXPLICIT)
def test_where_only_times_were_kept_the_states_are_computed_again(method, checkpoints):
    """The same steps, and the same gradient to rounding; N - 1 of them again on each of the levels at most."""
    rng = np.random.default_rng(0)
    field = MLP([2, 3, 2])
    theta, z0, times = field.init(rng, 2.0), rng.normal(size=(2, 2)), [0.0, 0.3, 3.0]
    options = {"rtol": 1e-4} | OPTIONS.get(method, {})
    kept, again = (solve(field, z0, theta, times, method=method, keep=keep, **options) for keep in ("steps", "times"))
    assert again.step_z is None
    assert np.array_equal(again.step_times, kept.step_times)
    dL_dz = rng.normal(size=kept.z.shape)
    want, got = (
        adjoint(kept, dL_dz, method="discrete"),
        adjoint(again, dL_dz, method="discrete", checkpoints=checkpoints),
    )
    for block in BLOCKS:
        assert relative(getattr(got, block), getattr(want, block)) <= 1e-12
    states = dict(_states(Task(again, dL_dz, again.method, 1e-3, 1e-6, 10**6), tableau(again.method), {"nfev": 0}))
    assert all(np.array_equal(states[k], kept.step_z[k]) for k in range(kept.n_steps))  # chaos grows from one bit
    levels = np.ceil(np.log(kept.n_steps) / np.log(checkpoints or CHECKPOINTS) - 1e-9) if kept.n_steps > 1 else 0
    S = tableau(kept.method).stages
    assert S * (kept.n_steps - 1) <= got.nfev - want.nfev <= S * max(levels, 1) * kept.n_steps


@given(st.integers(1, 200), st.integers(2, 9))
def test_the_states_come_back_in_order_with_few_of_them_held(n_steps, room):
    held, most = set(), 0

    def step(k, y):
        nonlocal most
        state = State(y.k + 1, held)
        most = max(most, len(held))
        assert y.k == k
        return state

    class State:
        """One that knows of its fellows: alive until nothing refers to it."""

        def __init__(self, k, held):
            self.k = k
            held.add(id(self))

        def __del__(self):
            held.discard(id(self))

    found = []
    for k, y in recomputed(step, 0, n_steps, State(0, held), room):
        assert y.k == k
        found.append(k)
        del y
    assert found == list(range(n_steps - 1, -1, -1))
    levels = int(np.ceil(np.log(n_steps) / np.log(room) - 1e-9)) if n_steps > 1 else 0
    assert most <= (room + 1) * max(levels, 1) + 2  # those of every level, the one at hand and the next


def test_checkpoints_are_refused_where_they_would_do_nothing():
    trajectory = solve(Pendulum(), [1.0, 0.5], [1.3, 0.1], [0.0, 1.0], keep="steps")
    with pytest.raises(ValueError, match="kept only the times"):
        adjoint(trajectory, np.ones((2, 2)), method="discrete", checkpoints=3)
    with pytest.raises(ValueError, match="checkpoints must be at least 2"):
        adjoint(replace(trajectory, step_z=None), np.ones((2, 2)), method="discrete", checkpoints=1)
    with pytest.raises(ValueError, match=r'needs the accepted steps: solve.*"times"'):
        adjoint(replace(trajectory, step_z=None, step_times=None), np.ones((2, 2)), method="discrete")


@pytest.mark.parametrize("method", EXPLICIT)
def test_stages_kept_are_not_computed_again(method):
    field, times = Counting(), [0.0, 0.3, 1.0]
    solved = {
        keep: solve(field, np.ones((2, 2)), [1.3, 0.1], times, method=method, keep=keep, **OPTIONS.get(method, {}))
        for keep in ("steps", "stages")
    }
    recomputed, kept = (adjoint(solved[keep], np.ones((3, 2, 2)), method="discrete") for keep in ("steps", "stages"))
    T, n_steps = tableau(solved["steps"].method), solved["steps"].n_steps
    slopes = T.stages * n_steps + (len(T.b) - T.stages)  # the interpolant's too, in the one step that is read
    # f at two observations for the invariant, at three for the gradients in the times; two VJPs for the curvature
    assert (recomputed.nfev, recomputed.nvjp) == (slopes + 5, slopes + 2)
    assert (kept.nfev, kept.nvjp) == (len(T.b) - T.stages + 5, slopes + 2)
    for block in BLOCKS:
        assert np.allclose(getattr(kept, block), getattr(recomputed, block), rtol=1e-13, atol=1e-14)


def test_the_drift_of_discrete_is_that_of_the_cotangents_of_its_steps():
    """Two Euler steps by hand, with time as one more state: t̄ collects h k̄ ∇§2 f, and jumps by −dL·f."""
    rng, h = np.random.default_rng(3), 0.4
    field = MLP([2, 3, 2])
    theta, z0 = field.init(rng), rng.normal(size=(3, 2))
    trajectory = solve(field, z0, theta, [0.0, 0.1, 2 * h], method="Euler", step=h, keep="steps")
    (_, z1, z2), dL_dz = trajectory.step_z, rng.normal(size=(3, 3, 2))
    f0, f1, f2 = (field(z, t, theta) for z, t in ((z0, 0.0), (z1, h), (z2, 2 * h)))
    a2 = dL_dz[2]
    t2 = -np.sum(a2 * f2)
    by_z, by_t, _ = field.vjp(z1, h, theta, h * a2)
    a1, t1 = a2 + by_z, t2 + by_t
    by_z, by_t, _ = field.vjp(z0, 0.0, theta, h * a1 + 0.1 * dL_dz[1])  # z(0.1) = z0 + 0.1 f0
    a0 = a1 + dL_dz[1] + by_z
    t0 = t1 + by_t - np.sum(dL_dz[1] * field(trajectory.z[1], 0.1, theta))
    invariants = np.array([0.0, np.sum(a1 * f1) + t1, np.sum(a0 * f0) + t0])
    sizes = [np.linalg.norm(a) * np.linalg.norm(f) for a, f in ((a1, f1), (a0, f0))]
    got = adjoint(trajectory, dL_dz, method="discrete")
    assert got.invariant_drift == pytest.approx(abs(np.diff(invariants)).sum() / max(sizes), rel=1e-12)
    assert got.invariant_drift > 1e-3


@pytest.mark.parametrize("method", EXPLICIT)
def test_the_drift_of_discrete_is_nothing_for_a_linear_field(method):
    """Steps and their transposes are polynomials in A: a_k A z_k is a_{k+1} A z_{k+1}, however long the steps."""
    trajectory = solve(
        Linear(2), [1.0, 0.5], [0.3, -1.0, 1.0, 0.0], [0.0, 3.0],
        method=method, rtol=1e-2, keep="steps", **({"step": 0.5} if method in OPTIONS else {}),
    )  # fmt: skip
    assert adjoint(trajectory, [[0.0, 0.0], [1.0, 2.0]], method="discrete").invariant_drift <= 1e-14


def test_E21_discrete_and_continuous_differ_by_the_solvers_error():
    gaps = []
    for step in (0.02, 0.01):
        trajectory = solve(Pendulum(), [1.0, 0.5], [1.3, 0.1], [0.0, 1.5], method="Euler", step=step, keep="steps")
        exact = reference_gradient(Problem(Pendulum(), [1.3, 0.1], [1.0, 0.5], [0.0, 1.5], [[0.0, 0.0], [1.0, -1.0]]))
        discrete = adjoint(trajectory, [[0.0, 0.0], [1.0, -1.0]], method="discrete")
        gaps.append([np.linalg.norm(getattr(discrete, block) - getattr(exact, block)) for block in BLOCKS])
    assert np.allclose(np.divide(*gaps), 2.0, rtol=0.1)  # order 1; far above what complex step of the steps allows


# ---- between backsolve and discrete: checkpoints, interpolants, quadrature ------------------------------------------


VAN_DER_POL = Problem(VanDerPol(), [3.0], [2.0, 0.0], [0.0, 6.0], [[0.0, 0.0], [1.0, 1.0]])


def test_E20_a_relaxation_oscillation_is_not_solved_back_but_checkpoints_and_interpolants_are_right():
    """Van der Pol, μ = 3, T = 6: z expands in reverse by e^{∫μ(x² − 1)dt} on the slow branch, thousands of decades."""
    p, want = VAN_DER_POL, reference_gradient(VAN_DER_POL)
    trajectory = solve(p.field, p.z0, p.theta, p.times, rtol=1e-6, keep="dense")
    with pytest.raises(SolveError, match="the solution blows up here") as stopped:
        adjoint(trajectory, p.dL_dz)
    assert stopped.value.direction == "reverse"
    for way, options in (("checkpointed", {"checkpoints": 20}), ("interpolating", {}), ("quadrature", {})):
        got = adjoint(trajectory, p.dL_dz, method=way, **options)
        assert relative(got.z0, want.z0) <= 1e-3
        assert relative(got.theta, want.theta) <= 1e-3
    got = adjoint(trajectory, p.dL_dz, method="discrete")  # exact, for the numbers that came back

    def loss(z0, theta):
        return np.sum(p.dL_dz * frozen_steps(trajectory, z0, theta))

    assert relative(got.z0, complex_step(lambda x: loss(x, p.theta), p.z0)) <= 1e-11
    assert relative(got.theta, complex_step(lambda x: loss(p.z0, x), p.theta)) <= 1e-11


def test_checkpoints_change_the_result_and_more_of_them_mend_it():
    p, want, errors, reconstructions = VAN_DER_POL, reference_gradient(VAN_DER_POL), [], []
    trajectory = solve(p.field, p.z0, p.theta, p.times, rtol=1e-6, keep="steps")
    for k in (5, 10, 20, 40):
        got = adjoint(trajectory, p.dL_dz, method="checkpointed", checkpoints=k)
        errors.append(relative(got.z0, want.z0))
        reconstructions.append(got.reconstruction_error)
    assert errors == sorted(errors, reverse=True)
    assert reconstructions == sorted(reconstructions, reverse=True)
    assert errors[0] > 100 * errors[-1]
    default = adjoint(trajectory, p.dL_dz, method="checkpointed")
    k = int(np.ceil(np.sqrt(trajectory.n_steps)))
    assert np.array_equal(default.z0, adjoint(trajectory, p.dL_dz, method="checkpointed", checkpoints=k).z0)
    with pytest.raises(SolveError):
        adjoint(trajectory, p.dL_dz, method="checkpointed", checkpoints=1)


@pytest.mark.parametrize("backward", [False, True])
def test_checkpointed_puts_z_back_at_evenly_chosen_steps(backward):
    """By hand, by `solve_ivp` from stop to stop: an observation at a checkpoint, one between two."""
    rng = np.random.default_rng(0)
    field, z0, span = MLP([2, 3, 2]), rng.normal(size=(2, 2)), -1.5 if backward else 1.5
    theta = field.init(rng)
    steps = solve(field, z0, theta, [0.0, span], keep="steps")
    chosen = np.linspace(0, steps.n_steps, 5).round().astype(int)[1:-1]
    cuts = dict(zip(steps.step_times[chosen], steps.step_z[chosen], strict=True))
    second, third = steps.step_times[chosen[1:]]
    trajectory = solve(field, z0, theta, [0.0, second, (second + third) / 2, span], keep="steps")
    dL_dz = rng.normal(size=trajectory.z.shape)

    def rhs(t, y):
        return np.concatenate([np.ravel(x) for x in adjoint_dynamics(field, *state(y)[:1], t, theta, state(y)[1])])

    def state(y):
        return y[:4].reshape(2, 2), y[4:8].reshape(2, 2)

    atol = np.full(9 + field.m, 1e-9)
    atol[4:] *= abs(dL_dz[1:]).max()
    y, now, errors = np.concatenate([trajectory.z[-1].ravel(), dL_dz[-1].ravel(), np.zeros(1 + field.m)]), span, []
    y[8] = -np.sum(dL_dz[-1] * field(trajectory.z[-1], span, theta))
    for stop in sorted({*cuts, *trajectory.times[:-1]}, key=abs, reverse=True):
        y, now = solve_ivp(rhs, (now, stop), y, rtol=1e-6, atol=atol).y[:, -1], stop
        if stop in cuts:
            errors.append(np.linalg.norm(y[:4] - cuts[stop].ravel()))
            y[:4] = cuts[stop].ravel()
        if stop in trajectory.times:
            dL = dL_dz[trajectory.times == stop][0]
            y[4:8] += dL.ravel()
            y[8] -= np.sum(dL * field(state(y)[0], stop, theta))
    errors.append(np.linalg.norm(y[:4] - z0.ravel()))
    got = adjoint(trajectory, dL_dz, method="checkpointed", checkpoints=3)
    assert np.allclose(got.z0.ravel(), y[4:8], rtol=1e-10, atol=1e-12)
    assert np.allclose(got.theta, y[9:], rtol=1e-10, atol=1e-12)
    assert got.reconstruction_error == pytest.approx(max(errors) / max(np.linalg.norm(z) for z in trajectory.z))


@pytest.mark.parametrize("keep", ["steps", "stages", "dense"])
def test_checkpoints_are_found_whatever_was_kept(keep):
    for t in ([0.0, 1e-9], [0.0, 1.0]):  # one step, with nothing between its ends, and several
        trajectory = solve(Pendulum(), [1.0, 0.5], [1.3, 0.1], t, keep=keep)
        for k in (1, 3, 1000):
            got = adjoint(trajectory, np.ones((2, 2)), method="checkpointed", checkpoints=k)
            assert relative(got.z0, adjoint(trajectory, np.ones((2, 2))).z0) <= 1e-5
    assert got.reconstruction_error < adjoint(trajectory, np.ones((2, 2))).reconstruction_error


@pytest.mark.parametrize("way", ["interpolating", "quadrature"])
def test_the_adjoint_along_the_interpolant_reads_z_from_nowhere_else(way):
    """A trajectory whose interpolant is of another initial state has that one's adjoint."""
    rng = np.random.default_rng(1)
    field = MLP([2, 3, 2])
    theta, times, dL_dz = field.init(rng), [0.0, 0.4, 1.2], rng.normal(size=(3, 2))
    here, there = (
        solve(field, z0, theta, times, rtol=1e-9, atol=1e-11, keep="dense") for z0 in rng.normal(size=(2, 2))
    )
    swapped = adjoint(replace(here, sol=there.sol), dL_dz, method=way)
    want = adjoint(there, dL_dz, method=way)
    assert np.allclose(swapped.z0, want.z0, rtol=1e-12)
    assert np.allclose(swapped.theta, want.theta, rtol=1e-12)
    assert relative(swapped.theta, adjoint(here, dL_dz, method=way).theta) > 1e-3


def test_the_nodes_of_the_quadrature_are_exact_to_degree_7_either_way():
    for ends in ([1.0, 0.7, 0.1], [-0.3, 0.2, 0.9]):
        t, w = gauss(np.array(ends))
        for degree in range(8):
            want = (ends[0] ** (degree + 1) - ends[-1] ** (degree + 1)) / (degree + 1)
            assert w @ t**degree == pytest.approx(want, abs=1e-15)
        assert abs(w @ t**8 - (ends[0] ** 9 - ends[-1] ** 9) / 9) > 1e-10


def test_nodes_share_a_vjp_where_the_field_says_that_t_does_not_enter():
    """The same gradient to rounding, by fewer VJPs; a field that says nothing has one for each node."""

    assert groups(MLP([2, 2], time=False), 3) == [slice(0, 3)]
    assert groups(MLP([2, 2]), 3) == groups(Pendulum(), 3) == [slice(j, j + 1) for j in range(3)]
    rng = np.random.default_rng(2)
    for shape in ((2,), (3, 2), (2, 3, 2)):
        field = MLP([2, 3, 2], time=False)
        theta, z0, dL_dz = field.init(rng), rng.normal(size=shape), rng.normal(size=(3, *shape))
        trajectory = solve(field, z0, theta, [0.0, 0.4, 1.2], keep="dense")
        together = adjoint(trajectory, dL_dz, method="quadrature")
        apart = adjoint(replace(trajectory, field=OnlyVJP(field)), dL_dz, method="quadrature")
        assert np.array_equal(together.z0, apart.z0)
        assert np.allclose(together.theta, apart.theta, rtol=1e-12, atol=1e-14)
        assert (apart.nvjp - together.nvjp + 2) % 4 == 0  # two stretches, four nodes a step
        assert apart.nvjp > together.nvjp


# ---- the six agree ---------------------------------------------------------------------------------------------------


@some
@given(problems(strength=2.0).filter(lambda p: p.z0.size <= 9))
def test_the_six_ways_agree(p):
    trajectory = solve(p.field, p.z0, p.theta, p.times, method="DOP853", rtol=1e-10, atol=1e-12, keep="dense")
    ways = [adjoint(trajectory, p.dL_dz, method=way) for way in LEAST_KEPT]
    want = reference_gradient(p)
    for block in BLOCKS:
        size = max(np.linalg.norm(getattr(want, block)), 1e-2 * np.linalg.norm(p.dL_dz))
        for i, way in enumerate(ways):
            assert np.linalg.norm(getattr(way, block) - getattr(want, block)) <= 1e-7 * size
            assert np.linalg.norm(getattr(way, block) - getattr(ways[i - 1], block)) <= 1e-7 * size


def test_forward_and_backsolve_take_any_solve_and_discrete_says_what_it_lacks():
    for method in METHODS:
        options = {"step": 1e-3} if method in ("Euler", "RK4") else {}
        trajectory = solve(Linear(2), [1.0, 0.5], [0.3, -1.0, 1.0, 0.0], [0.0, 1.0], method=method, **options)
        back, forth = (adjoint(trajectory, [[0.0, 0.0], [1.0, 2.0]], method=way) for way in ("backsolve", "forward"))
        assert relative(back.theta, forth.theta) < 1e-2 if method == "Euler" else 1e-4


# ---- what is known of a reverse solve's quality ----------------------------------------------------------------------


def by_hand(trajectory, dL_dz, method="RK45", rtol=1e-6, atol=1e-9):
    """The sweep of backsolve by `solve_ivp`, from the VJP alone: its end, and the invariant's drift."""
    field, theta, shape, size = trajectory.field, trajectory.theta, trajectory.z[0].shape, trajectory.z[0].size

    def rhs(t, y):
        z, a = y[:size].reshape(shape), y[size : 2 * size].reshape(shape)
        blocks = field.vjp(z, t, theta, a)
        return np.concatenate([field(z, t, theta).ravel(), *(-np.ravel(block) for block in blocks)])

    def invariant(y, t):
        z, a = y[:size].reshape(shape), y[size : 2 * size].reshape(shape)
        f = field(z, t, theta)
        return np.sum(a * f) + y[2 * size], np.linalg.norm(a) * np.linalg.norm(f)

    y = np.concatenate([trajectory.z[-1].ravel(), np.zeros(size + 1 + field.m)])
    scale = np.full(len(y), atol)
    scale[size:] *= abs(dL_dz[1:]).max()
    moved, largest = 0.0, 0.0
    for i in range(len(trajectory.times) - 1, 0, -1):
        y[size : 2 * size] += dL_dz[i].ravel()
        y[2 * size] -= np.sum(dL_dz[i] * field(y[:size].reshape(shape), trajectory.times[i], theta))
        before, first = invariant(y, trajectory.times[i])
        y = solve_ivp(rhs, (trajectory.times[i], trajectory.times[i - 1]), y, method=method, rtol=rtol, atol=scale).y[
            :, -1
        ]
        after, second = invariant(y, trajectory.times[i - 1])
        moved, largest = moved + abs(after - before), max(largest, first, second)
    return y, moved / largest


@pytest.mark.parametrize("method", ["RK45", "RK23", "DOP853"])
@given(seed=seeds, backward=st.booleans())
def test_the_quality_of_a_reverse_solve_is_what_the_docstring_says(method, seed, backward):
    rng = np.random.default_rng(seed)
    field = MLP([2, 3, 2])
    times = np.array([0.0, 0.7, 1.1, 1.5]) * (-1 if backward else 1)
    trajectory = solve(field, rng.normal(size=(3, 2)), field.init(rng), times, method=method)
    dL_dz = rng.normal(size=trajectory.z.shape)
    got = adjoint(trajectory, dL_dz)
    y, drift = by_hand(trajectory, dL_dz, method)
    distance = np.linalg.norm(y[:6] - trajectory.z[0].ravel())
    largest = max(np.linalg.norm(z) for z in trajectory.z)
    assert got.reconstruction_error == pytest.approx(distance / largest, rel=1e-6, abs=1e-13)
    assert got.invariant_drift == pytest.approx(drift, rel=1e-6, abs=1e-13)
    assert np.allclose(got.z0.ravel(), y[6:12] + dL_dz[0].ravel(), rtol=1e-10, atol=1e-12)
    assert np.allclose(got.theta, y[13:], rtol=1e-10, atol=1e-12)
    assert 0 < got.reconstruction_error < 1e-3
    assert 0 < got.invariant_drift < 1e-3


def test_the_drift_is_what_the_invariant_moves_in_all_jumps_included():
    drift, a, f = Drift(), np.array([[2.0, 0.0]]), np.array([[1.5, 7.0]])
    assert drift.relative() == 0.0
    for a_t in (-3.0, -2.5, -3.25, -3.25):  # a f + a_t is 0, 0.5, -0.25, -0.25
        drift.visit(a, f, a_t)
    assert drift.relative() == pytest.approx((0.5 + 0.75) / (2.0 * np.hypot(1.5, 7.0)))
    drift.visit(10 * a, f, -30.0)
    assert drift.relative() == pytest.approx((0.5 + 0.75 + 0.25) / (20.0 * np.hypot(1.5, 7.0)))


def test_what_a_way_cannot_know_is_none():
    trajectory = solve(Pendulum(), [1.0, 0.5], [1.3, 0.1], [0.0, 1.0], keep="steps")
    for way, drifts in (("discrete", True), ("forward", False)):
        got = adjoint(trajectory, np.ones((2, 2)), method=way)
        assert got.reconstruction_error is None
        assert (got.invariant_drift is not None) == drifts


def test_a_state_and_a_speed_of_zero_have_no_relative_error():
    got = adjoint(solve(Linear(2), [0.0, 0.0], np.ones(4), [0.0, 1.0]), np.ones((2, 2)))
    assert (got.reconstruction_error, got.invariant_drift) == (0.0, 0.0)


class Relaxing:
    """ż = −λ z + sin 3z, θ = (λ,): contracts, for large λ, faster than any reverse solve can undo (E20)."""

    n = m = 1

    def __call__(self, z, t, theta):
        return -theta * z + np.sin(3 * z)

    def vjp(self, z, t, theta, a):
        return a * (-theta + 3 * np.cos(3 * z)), np.zeros(()), np.array([-np.sum(a * z)])


@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
def test_E20_a_contracting_field_is_not_solved_back_and_says_so(rtol):
    """The loss looks at t = 0.1 alone; on the way back from t = 1 the state has left the trajectory before that."""
    p = Problem(Relaxing(), [20.0], [1.0], [0.0, 0.1, 1.0], [[0.0], [1.0], [0.0]])
    trajectory = solve(p.field, p.z0, p.theta, p.times, rtol=rtol, atol=1e-2 * rtol, keep="steps")
    with pytest.warns(ReconstructionWarning, match="ended .* from z0: the field contracts, .*Tighten rtol") as warned:
        lost = adjoint(trajectory, p.dL_dz)
    assert warned[0].filename == __file__
    assert f"ended {lost.reconstruction_error:.2g} (relative)" in str(warned[0].message)
    assert lost.reconstruction_error > min(1e4 * rtol, 1e-2)
    # The remedy that the warning names needs no solve back.
    exact, kept = reference_gradient(p).z0, adjoint(trajectory, p.dL_dz, method="discrete").z0
    assert relative(kept, exact) < 10 * rtol
    assert relative(lost.z0, exact) > 1e4 * rtol


@pytest.mark.parametrize(
    ("field", "theta", "end"), [(Relaxing(), [3.0], 1.0), (Pendulum(), [1.3, 0.1], 3.0), (VanDerPol(), [0.5], 1.0)]
)
def test_a_benign_field_does_not_warn(field, theta, end):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = adjoint(solve(field, np.ones(field.n), theta, [0.0, end]), np.ones((2, field.n)))
    assert got.reconstruction_error < 1e-3


@pytest.mark.parametrize(
    ("lam", "forward_rtol", "rtol", "warns"),
    [
        (8.0, 1e-4, 1e-4, False),  # an error of 5e-4 is what was asked for, give or take
        (8.0, 1e-4, 1e-9, False),  # the forward solve's error at t1 comes back with a tight solve, and is its own
        (8.0, 1e-8, 1e-9, False),
        (22.0, 1e-9, 1e-9, True),
        (22.0, 1e-9, 1e-6, False),  # the looser one counts
        (17.0, 1e-7, 1e-9, False),
        (20.0, 1e-5, 1e-5, True),  # of 1e4 rtol and 1e-2 the less
    ],
)
def test_the_reconstruction_warns_where_four_digits_are_lost(lam, forward_rtol, rtol, warns):
    trajectory = solve(Relaxing(), [1.0], [lam], [0.0, 1.0], rtol=forward_rtol, atol=1e-3 * forward_rtol)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        error = adjoint(trajectory, [[0.0], [1.0]], rtol=rtol, atol=1e-3 * rtol).reconstruction_error
    assert bool(warned) == warns == (error > min(1e4 * max(rtol, forward_rtol), 1e-2))


@pytest.mark.parametrize(("step", "warns"), [(1e-4, False), (1e-3, True)])
def test_with_fixed_steps_it_warns_where_fewer_than_two_digits_are_left(step, warns):
    trajectory = solve(Relaxing(), [1.0], [8.0], [0.0, 1.0], method="Euler", step=step, rtol=1e-9)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        error = adjoint(trajectory, [[0.0], [1.0]]).reconstruction_error
    assert bool(warned) == warns == (error > 1e-2)
    assert all("Take shorter ones" in str(w.message) for w in warned)
    assert error > 1e4 * 1e-9  # the rtol that fixed steps do not read


# ---- cost ------------------------------------------------------------------------------------------------------------


class Counting(Pendulum):
    """A pendulum that counts the calls of f and of its VJP."""

    def __init__(self):
        self.calls = {"f": 0, "vjp": 0}

    def __call__(self, z, t, theta):
        self.calls["f"] += 1
        return super().__call__(z, t, theta)

    def vjp(self, z, t, theta, a):
        self.calls["vjp"] += 1
        return super().vjp(z, t, theta, a)


@pytest.mark.parametrize(
    ("way", "keep"),
    [
        ("backsolve", "steps"), ("backsolve", "observations"), ("discrete", "steps"), ("discrete", "stages"),
        ("discrete", "dense"), ("discrete", "times"), ("checkpointed", "steps"), ("interpolating", "dense"),
        ("quadrature", "dense"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("times", [[0.0, 1.0], [0.0, 0.3, 0.31, 1.0]])
def test_nfev_and_nvjp_are_the_calls_of_the_gradient_alone(way, keep, times):
    field = Counting()
    trajectory = solve(field, np.ones((2, 2)), [1.3, 0.1], times, keep=keep)
    assert trajectory.nfev == field.calls["f"]
    field.calls.update(f=0, vjp=0)
    got = adjoint(trajectory, np.ones(trajectory.z.shape), method=way)
    assert (got.nfev, got.nvjp) == (field.calls["f"], field.calls["vjp"])


def test_forward_counts_its_evaluations_and_asks_for_no_vjp():
    class Forward(Counting):
        def jvp(self, z, t, theta, dz, dt, dtheta):
            q, p = z[..., 0], z[..., 1]
            dq, dp = dz[..., 0], dz[..., 1]
            force = -dtheta[0] * np.sin(q) - theta[0] * np.cos(q) * dq - dtheta[1] * p - theta[1] * dp
            return np.stack([dp, force], axis=-1)

    field = Forward()
    trajectory = solve(field, [1.0, 0.5], [1.3, 0.1], [0.0, 0.5, 1.0])
    field.calls.update(f=0, vjp=0)
    got = adjoint(trajectory, np.ones((3, 2)), method="forward")
    assert (got.nfev, got.nvjp) == (field.calls["f"], 0)
    assert relative(got.theta, adjoint(trajectory, np.ones((3, 2))).theta) < 1e-4


# ---- the seminorm ----------------------------------------------------------------------------------------------------


def wide_problem():
    rng = np.random.default_rng(3)
    net = MLP([2, 32, 32, 2])
    return Problem(net, net.init(rng), rng.normal(size=(4, 2)), [0, 0.6, 1.0], rng.normal(size=(3, 4, 2)))


def tight(p):
    """Backpropagation through a tight solve: right, as other tests say, and cheap for many parameters."""
    trajectory = solve(p.field, p.z0, p.theta, p.times, method="DOP853", rtol=1e-12, atol=1e-12, keep="steps")
    return adjoint(trajectory, p.dL_dz, method="discrete")


@pytest.mark.parametrize("method", ["RK23", "RK45", "DOP853"])
def test_the_seminorm_saves_evaluations_and_keeps_the_tolerance(method):
    p = wide_problem()
    want, trajectory = tight(p), solve(p.field, p.z0, p.theta, p.times, method=method)
    full, semi = (adjoint(trajectory, p.dL_dz, seminorm=s) for s in (False, True))
    for got in (full, semi):
        for block in BLOCKS:
            assert relative(getattr(got, block), getattr(want, block)) < 1e-5  # ten times rtol, 1e-6
    assert semi.nvjp < 0.9 * full.nvjp


def test_the_seminorm_controls_z_and_a_as_a_solve_without_further_blocks_does():
    """With the factor √(controlled/N), steps are those of (z, a_§1) alone: the error norm is a mean over these only."""
    p = wide_problem()
    size, steps = p.z0.size, []
    trajectory = solve(p.field, p.z0, p.theta, [0.0, 1.0], rtol=1e-8, atol=1e-10)
    dL_dz = p.dL_dz[[0, -1]]
    got = adjoint(trajectory, dL_dz, rtol=1e-6, atol=1e-8, seminorm=True)

    def rhs(t, y):
        z, a = y[:size].reshape(p.z0.shape), y[size:].reshape(p.z0.shape)
        steps.append(t)
        return np.concatenate([p.field(z, t, p.theta).ravel(), -p.field.vjp(z, t, p.theta, a)[0].ravel()])

    scale = np.full(2 * size, 1e-8)
    scale[size:] *= abs(dL_dz[1]).max()
    start = np.concatenate([trajectory.z[-1].ravel(), dL_dz[1].ravel()])
    end = solve_ivp(rhs, (1.0, 0.0), start, rtol=1e-6, atol=scale).y[:, -1]
    # The first step is guessed from norms of y too, in which an infinite atol leaves nothing of a_§2 and a_§3.
    assert got.nvjp == pytest.approx(len(steps), abs=6)
    assert relative(got.z0 - dL_dz[0], end[size:].reshape(p.z0.shape)) < 1e-5


def test_the_seminorm_of_an_empty_batch():
    trajectory = solve(Linear(2), np.zeros((0, 2)), np.ones(4), [0.0, 1.0])
    assert not adjoint(trajectory, np.zeros((2, 0, 2)), seminorm=True).theta.any()


def test_the_seminorm_never_asks_for_less_than_scipy_gives():
    p = wide_problem()
    trajectory = solve(p.field, p.z0, p.theta, p.times, rtol=1e-12, atol=1e-12, method="DOP853")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # SciPy warns of an rtol that it raises
        got = adjoint(trajectory, p.dL_dz, rtol=1e-13, atol=1e-13, seminorm=True)
    assert relative(got.theta, tight(p).theta) < 1e-10


# ---- tolerances ------------------------------------------------------------------------------------------------------


def test_the_adjoints_atol_goes_with_the_largest_cotangent_after_t0():
    """In z, atol is in the units of z; in a, times those of the cotangents: what dL_dz[0] is does not matter."""
    field, theta, z0 = Pendulum(), [1.3, 0.1], [1.0, 0.5]
    trajectory = solve(field, z0, theta, [0.0, 0.5, 1.5])
    dL_dz = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, -5.0]])
    got = adjoint(trajectory, dL_dz, rtol=1e-3, atol=1e-4)
    huge = dL_dz.copy()
    huge[0] = 1e6
    assert np.array_equal(adjoint(trajectory, huge, rtol=1e-3, atol=1e-4).theta, got.theta)
    y, _ = by_hand(trajectory, dL_dz, rtol=1e-3, atol=1e-4)
    assert np.allclose(got.z0, y[2:4], rtol=1e-12, atol=1e-13)
    assert np.allclose(got.theta, y[5:], rtol=1e-12, atol=1e-13)


# ---- bad fields ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda a: (a.T, np.zeros(()), np.zeros(2)),
            r"shapes \(\(3, 2\), \(\), \(2,\)\), got \(\(2, 3\), \(\), \(2,\)\)",
        ),
        (lambda a: (a, np.zeros(3), np.zeros(2)), r"got \(\(3, 2\), \(3,\), \(2,\)\)"),
        (lambda a: (a, np.zeros(()), np.zeros((3, 2))), r"got \(\(3, 2\), \(\), \(3, 2\)\)"),
        (lambda a: (a, np.zeros(()), np.zeros(1)), r"got \(\(3, 2\), \(\), \(1,\)\)"),
        (lambda a: (a + 1j, np.zeros(()), np.zeros(2)), "the field's vjp must return real blocks, got complex128"),
        (lambda a: (a, 0j, np.zeros(2)), "real blocks, got complex128"),
    ],
)
def test_a_vjp_that_returns_something_else_is_refused(answer, message):
    class Odd(Pendulum):
        def vjp(self, z, t, theta, a):
            return answer(a)

    trajectory = solve(Odd(), np.ones((3, 2)), [1.3, 0.1], [0.0, 1.0], keep="dense")
    for way in ("backsolve", "checkpointed", "interpolating", "quadrature"):
        with pytest.raises(ValueError, match=message):
            adjoint(trajectory, np.ones((2, 3, 2)), method=way)


@pytest.mark.parametrize("answer", [None, (1.0, 2.0)])
def test_a_vjp_of_other_than_three_blocks_raises(answer):
    class Odd(Pendulum):
        def vjp(self, z, t, theta, a):
            return answer

    trajectory = solve(Odd(), np.ones((3, 2)), [1.3, 0.1], [0.0, 1.0], keep="dense")
    for way in ("backsolve", "checkpointed", "interpolating", "quadrature", "discrete"):
        with pytest.raises((TypeError, ValueError), match="unpack"):
            adjoint(trajectory, np.ones((2, 3, 2)), method=way)
