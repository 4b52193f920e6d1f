"""The estimates of a gradient's error: what they are made of, when they are refused, and whether they are right.

`python -m tests.benchmarks.calibration` asks the last of 500 problems; here a few of them are asked.
"""

from itertools import pairwise

import numpy as np
import pytest
from benchmarks.calibration import METHODS, SEED, case, study, true_gradient, verdict
from scipy.integrate import solve_ivp

from refode import MLP, Linear, Pendulum, VanDerPol, adjoint, solve
from refode.adjoint import LEAST_KEPT, WAYS, GradientError
from refode.finite_difference import complex_solve, complex_step
from refode.sensitivities.error import FLOOR, KNOWN, STRAIGHT, WITNESSES
from refode.steppers import tableau
from refode.testing import Problem, reference_gradient

EVERY = sorted(KNOWN)
TIMES = [0.0, 0.5, 0.9, 2.0]


def problem(backward=False, shape=(3, 2)):
    rng = np.random.default_rng(0)
    field = MLP([2, 5, 2])
    times = -np.array(TIMES) if backward else TIMES
    return Problem(field, field.init(rng, 1.5), rng.normal(size=shape), times, rng.normal(size=(4, *shape)))


def solved(p, rtol=1e-5, keep="dense", **options):
    return solve(p.field, p.z0, p.theta, p.times, rtol=rtol, atol=1e-3 * rtol, keep=keep, **options)


def off(got, want):
    return [np.linalg.norm(getattr(got, block) - getattr(want, block)) for block in ("z0", "theta")]


def sizes(g):
    return np.linalg.norm(g.z0), np.linalg.norm(g.theta)


# ---- what they are made of -------------------------------------------------------------------------------------------


def bend(p, trajectory, a):
    """|a (J1 − J0)| / (|a J1| + |a J0|), from Jacobians."""
    J0, J1 = (p.field.jacobian(trajectory.z[i], trajectory.times[i], p.theta) for i in (0, -1))
    first, last = (np.einsum("...i,...ij->...j", a, J) for J in (J0, J1))
    return np.linalg.norm(last - first) / (np.linalg.norm(first) + np.linalg.norm(last))


def expected(p, trajectory, got, known, way):
    """The estimate from what is known, of what the sweep made of the gradient."""
    a, (for_z0, for_theta) = got.z0 - p.dL_dz[0], KNOWN[way]
    for_z0 *= 1.0 if way == "discrete" else max(bend(p, trajectory, a), STRAIGHT)
    return known * for_z0 * np.linalg.norm(a) / np.linalg.norm(got.z0), known * for_theta


@pytest.mark.parametrize("way", ["backsolve", "checkpointed"])
def test_a_reverse_solve_of_z_is_as_wrong_as_it_missed_z0(way):
    p = problem()
    trajectory = solved(p)
    got = adjoint(trajectory, p.dL_dz, method=way)
    missed = got.reconstruction_error * max(np.linalg.norm(z) for z in trajectory.z) / np.linalg.norm(p.z0)
    assert got.error == pytest.approx(expected(p, trajectory, got, missed, way))


def test_near_zero_a_tenth_of_the_largest_state_stands_for_the_initial_one():
    p = problem()
    p = Problem(p.field, p.theta, 1e-6 * p.z0, p.times, p.dL_dz)
    trajectory = solved(p)
    got = adjoint(trajectory, p.dL_dz)
    assert got.error.theta == pytest.approx(10 * KNOWN["backsolve"][1] * got.reconstruction_error)


@pytest.mark.parametrize("way", ["interpolating", "quadrature"])
@pytest.mark.parametrize("backward", [False, True])
def test_along_the_interpolant_it_is_as_wrong_as_the_invariant_changes_from_step_to_step(way, backward):
    """By hand, by `solve_ivp`: a_§1 f + a_§2 at both ends of every interval and after every accepted step."""
    p = problem(backward)
    trajectory = solved(p)
    q = (p.z0.size, p.field.m) if way == "interpolating" else (p.z0.size, None)
    changes, largest = [], 0.0
    a, a_t, a_theta, last = np.zeros(p.z0.shape), 0.0, np.zeros(p.field.m), 0.0
    for i in range(len(p.times) - 1, 0, -1):
        a = a + p.dL_dz[i]
        a_t = a_t - np.sum(p.dL_dz[i] * p.field(trajectory.z[i], p.times[i], p.theta))
        for t, *blocks in by_hand(p, trajectory, (p.times[i], p.times[i - 1]), a, a_t, a_theta, q):
            a, a_t, a_theta = blocks
            f = p.field(trajectory(t), t, p.theta)
            invariant = np.sum(a * f) + a_t
            changes.append(invariant - last)
            last, largest = invariant, max(largest, np.linalg.norm(a) * np.linalg.norm(f))
    got = adjoint(trajectory, p.dL_dz, method=way)
    close = 1e-5 if way == "interpolating" else 2e-2  # four Gauss nodes a step leave something to Simpson's 41
    assert got.invariant_drift == pytest.approx(abs(np.array(changes)).sum() / largest, rel=close)
    known = np.linalg.norm(changes) / largest
    assert got.error == pytest.approx(expected(p, trajectory, got, known, way), rel=close)


def by_hand(p, trajectory, span, a, a_t, a_theta, q):
    """(t, a_§1, a_§2, a_§3) at the start and after every step: all solved, or a_§1 alone and the others by Simpson."""
    size, m = q

    def blocks(t, a):
        return p.field.vjp(trajectory(t), t, p.theta, a.reshape(p.z0.shape))

    scale = 1e-8 * abs(p.dL_dz[1:]).max()
    if m is not None:
        run = solve_ivp(
            lambda t, y: -np.concatenate([np.ravel(block) for block in blocks(t, y[:size])]),
            span, np.r_[a.ravel(), a_t, a_theta], rtol=1e-5, atol=scale,
        )  # fmt: skip
        return [(t, y[:size].reshape(a.shape), y[size], y[size + 1 :]) for t, y in zip(run.t, run.y.T, strict=True)]
    run = solve_ivp(
        lambda t, y: -blocks(t, y)[0].ravel(), span, a.ravel(), rtol=1e-5, atol=scale, dense_output=True
    )  # fmt: skip
    path = [(span[0], a, a_t, a_theta)]
    for start, end in pairwise(run.t):
        fine, h = np.linspace(start, end, 41), (start - end) / 40
        weights = h / 3 * np.r_[1, np.tile([4, 2], 19), 4, 1]
        for t, w in zip(fine, weights, strict=True):
            _, a_f2, a_f3 = blocks(t, run.sol(t))
            a_t, a_theta = a_t + w * a_f2, a_theta + w * a_f3
        path.append((end, run.sol(end).reshape(a.shape), a_t, a_theta))
    return path


def test_the_drift_of_discrete_is_looked_at_after_every_step():
    """The root of the sum of squares is at least the sum over √(count), and at most the sum, which is the drift."""
    p = problem()
    trajectory = solved(p)
    got = adjoint(trajectory, p.dL_dz, method="discrete")
    known = got.error.theta / KNOWN["discrete"][1]
    assert got.invariant_drift / np.sqrt(trajectory.n_steps) <= known <= got.invariant_drift
    assert got.error == pytest.approx(expected(p, trajectory, got, known, "discrete"))


@pytest.mark.parametrize("way", EVERY)
@pytest.mark.parametrize("method", ["RK23", "RK45", "DOP853", "RK4"])
@pytest.mark.parametrize("backward", [False, True])
def test_the_witness_is_another_way_to_the_same_gradient(way, method, backward):
    """At a tight tolerance it is as right as any; at a loose one its distance is averaged with what is known."""
    p, options = problem(backward), {"step": 0.005} if method == "RK4" else {}
    want, witness, tasks = reference_gradient(p), WITNESSES[way], []

    def watched(task):
        tasks.append(task)
        return witness(task)

    for rtol, allowed in ((1e-10, 1e-6), (1e-3, None)):
        tasks.clear()
        trajectory = solved(p, rtol, method=method, **options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(WITNESSES, way, watched)
            got = adjoint(trajectory, p.dL_dz, method=way, error=True)
        (task,) = tasks
        other, alone = witness(task), adjoint(trajectory, p.dL_dz, method=way).error
        difference = (np.linalg.norm(got.z0 - p.dL_dz[0] - other.a_z), np.linalg.norm(got.theta - other.a_theta))
        assert got.error == pytest.approx(0.4 * np.sqrt(alone * np.divide(difference, sizes(got))), rel=1e-9)
        if allowed:
            assert np.linalg.norm(other.a_z + p.dL_dz[0] - want.z0) <= allowed * sizes(want)[0]
            assert np.linalg.norm(other.a_theta - want.theta) <= allowed * sizes(want)[1]


@pytest.mark.parametrize("way", EVERY)
def test_a_witness_changes_the_gradient_by_nothing_and_is_counted(way):
    p = problem()
    trajectory = solved(p)
    without, with_it = (adjoint(trajectory, p.dL_dz, method=way, error=error) for error in (False, True))
    for block in ("z0", "theta", "times"):
        assert np.array_equal(getattr(without, block), getattr(with_it, block))
    assert with_it.nvjp > without.nvjp
    assert without.error != with_it.error


def test_the_witness_of_discrete_takes_half_as_many_steps():
    """So many VJPs as stages, for half of the steps between two observations, rounded up."""
    p, seen = problem(), set()
    for rtol in 10.0 ** -np.arange(3, 10):
        trajectory = solve(p.field, p.z0, p.theta, [0.0, 2.0], rtol=rtol, keep="dense")
        alone, both = (adjoint(trajectory, p.dL_dz[[0, 3]], method="discrete", error=error) for error in (False, True))
        assert both.nvjp - alone.nvjp == 6 * ((trajectory.n_steps + 1) // 2)
        seen.add(trajectory.n_steps % 2)
    assert seen == {0, 1}


def test_backpropagation_that_steps_onto_observations_is_what_solving_onto_them_gives():
    """Complex step through one RK45 step from a step's start to an observation inside it, and through the steps.

    Two observations lie in one step.
    """
    p = problem()
    p = Problem(p.field, p.theta, p.z0, [0.0, 0.5, 0.501, 2.0], p.dL_dz)
    trajectory = solved(p, 1e-3)
    tight = {"rtol": 1e-11, "atol": 1e-13}
    alone, got = (adjoint(trajectory, p.dL_dz, error=error, **tight) for error in (False, True))
    apart = (got.error.theta / 0.4) ** 2 / alone.error.theta  # the distance, from the geometric mean
    want = complex_step(lambda theta: stepped_onto(trajectory, theta, p.dL_dz), p.theta)
    assert apart * sizes(got)[1] == pytest.approx(np.linalg.norm(got.theta - want), rel=1e-6)


def stepped_onto(trajectory, theta, dL_dz):
    """Σ dL_i z(t_i) by the accepted steps taken again, with a step of its own to every observation inside one."""
    T, t, z, total = tableau(trajectory.method), trajectory.step_times, trajectory.z[0], 0.0

    def step(z, start, end):
        K = []
        for i in range(T.stages):
            at = z + (end - start) * sum((T.A[i, j] * K[j] for j in range(i)), 0 * z)
            K.append(trajectory.field(at, start + T.c[i] * (end - start), theta))
        return z + (end - start) * sum(T.b[i] * K[i] for i in range(T.stages))

    for k in range(len(t) - 1):
        for i, s in enumerate(trajectory.times[1:-1], start=1):
            if t[k] < s <= t[k + 1]:
                total = total + np.sum(dL_dz[i] * step(z, t[k], s))
        z = step(z, t[k], t[k + 1])
    return total + np.sum(dL_dz[-1] * z)


# ---- corners ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [False, True])
@pytest.mark.parametrize("way", EVERY)
def test_what_a_loss_gives_directly_is_exact(way, error):
    """A large cotangent at t0 makes the relative error of z0's gradient small, weight decay that of θ's."""
    p = problem()
    trajectory, dL_dz = solved(p), p.dL_dz.copy()
    base = adjoint(trajectory, dL_dz, method=way, error=error)
    dL_dz[0] = 1e6
    got = adjoint(trajectory, dL_dz, method=way, error=error, dL_dtheta=np.full(p.field.m, 1e6))
    for i in range(2):
        assert got.error[i] * sizes(got)[i] == pytest.approx(base.error[i] * sizes(base)[i], rel=1e-6)


@pytest.mark.parametrize("error", [False, True])
@pytest.mark.parametrize("way", EVERY)
def test_there_is_nothing_to_be_wrong_about(way, error):
    p = problem()
    zero = adjoint(solved(p), 0 * p.dL_dz, method=way, error=error)
    alone = adjoint(
        solve(Pendulum(), [1.0, 0.5], [1.3, 0.1], [0.3], keep="steps"), [[1.0, 2.0]], method=way, error=error
    )
    assert zero.error == alone.error == GradientError(FLOOR, FLOOR)


@pytest.mark.parametrize("error", [False, True])
@pytest.mark.parametrize("way", EVERY)
def test_scaling_the_loss_changes_no_relative_error(way, error):
    p = problem()
    trajectory = solved(p)
    once, scaled = (adjoint(trajectory, s * p.dL_dz, method=way, error=error).error for s in (1.0, 2.0**20))
    assert scaled == once


@pytest.mark.parametrize("error", [False, True])
@pytest.mark.parametrize("way", EVERY)
def test_of_a_linear_field_the_tolerance_is_said(way, error):
    """Any Runge-Kutta steps keep its invariant, and backpropagation errs as a reverse solve does: neither is asked."""
    field, theta, z0, dL_dz = Linear(2), [-0.4, 1.5, -1.0, 0.3], [1.0, 0.5], [[0.0, 0.0], [1.0, -2.0]]
    trajectory = solve(field, z0, theta, [0.0, 3.0], rtol=1e-4, atol=1e-7, keep="dense")
    got = adjoint(trajectory, dL_dz, method=way, error=error)
    want = reference_gradient(Problem(field, theta, z0, [0.0, 3.0], dL_dz))
    true = np.divide(off(got, want), sizes(want))
    assert min(got.error) >= 1e-4
    assert np.all(true <= 10 * np.array(got.error))
    looser = adjoint(trajectory, dL_dz, method="backsolve", rtol=1e-2, error=error)
    assert min(looser.error) >= 1e-2
    fixed = solve(field, z0, theta, [0.0, 3.0], method="RK4", step=0.1, keep="dense")
    assert adjoint(fixed, dL_dz, method=way, error=error).error is None


def test_forward_knows_nothing_of_its_error_and_says_who_does():
    p = problem()
    trajectory = solved(p)
    assert adjoint(trajectory, p.dL_dz, method="forward").error is None
    with pytest.raises(ValueError, match=r'"forward" has no witness, so no error; take one of backsolve, .*discrete'):
        adjoint(trajectory, p.dL_dz, method="forward", error=True)


@pytest.mark.parametrize(
    ("way", "keep", "method", "message"),
    [
        ("backsolve", "observations", "RK45", r'compares "backsolve" along the accepted steps: .*keep="steps"'),
        ("backsolve", "times", "RK45", r'compares "backsolve" along the accepted steps: .*keep="steps"'),
        ("discrete", "times", "RK45", r'reads z\(t\) for "discrete": solve\(\.\.\., keep="dense"\)'),
        ("discrete", "steps", "RK45", r'reads z\(t\) for "discrete": solve\(\.\.\., keep="dense"\)'),
        ("backsolve", "dense", "Radau", "the steps of an explicit Runge-Kutta solve, got Radau"),
        ("interpolating", "dense", "LSODA", "the steps of an explicit Runge-Kutta solve, got LSODA"),
    ],
)
def test_what_a_witness_lacks_is_named_before_any_work(way, keep, method, message):
    p = problem(shape=(2,))
    with pytest.raises(ValueError, match=message):
        adjoint(solved(p, keep=keep, method=method), p.dL_dz, method=way, error=True)
    assert adjoint(solved(p, keep=keep, method=method), p.dL_dz, method=way).error is not None


@pytest.mark.parametrize("keep", ["steps", "stages", "dense"])
def test_any_keep_that_has_the_steps_serves_the_witness_of_backsolve(keep):
    p = problem()
    errors = [adjoint(solved(p, keep=k), p.dL_dz, error=True).error for k in (keep, "steps")]
    assert errors[0] == pytest.approx(errors[1], rel=1e-9)


def test_every_way_but_forward_has_both_estimates():
    assert set(KNOWN) == set(WITNESSES) == set(WAYS) - {"forward"} == set(LEAST_KEPT) - {"forward"}


# ---- are they right? -------------------------------------------------------------------------------------------------


def test_the_truth_of_the_calibration_is_that_of_complex_step():
    for number in range(3):
        p = case(SEED, number)
        for got, want in zip(
            true_gradient(p),
            (
                complex_step(lambda z0: np.sum(p.dL_dz * complex_solve(p.field, z0, p.theta, p.times)), p.z0),  # noqa: B023
                complex_step(lambda th: np.sum(p.dL_dz * complex_solve(p.field, p.z0, th, p.times)), p.theta),  # noqa: B023
            ),
            strict=True,
        ):
            assert np.linalg.norm(got - want) <= 1e-10 * np.linalg.norm(want)


def test_errors_are_estimated_as_the_calibration_says_on_forty_problems():
    """Cover at least 0.95 less three standard deviations of forty draws, 0.10; share and correlation likewise."""
    found = study(SEED, 40)
    for kind in ("free", "witness"):
        for m in range(len(METHODS)):
            for block in range(2):
                got = verdict(found["true"][:, m, block], found[kind][:, m, block], found["rtol"])
                assert got.cover >= 0.85, (kind, METHODS[m], block, got)
                assert got.share >= 0.55, (kind, METHODS[m], block, got)
                assert got.correlation >= 0.5, (kind, METHODS[m], block, got)


def test_a_relaxation_oscillation_is_no_random_net_but_its_error_is_seen():
    """Van der Pol, μ = 3: far from the calibration's problems; within a factor of a hundred."""
    p = Problem(VanDerPol(), [3.0], [2.0, 0.0], [0.0, 6.0], [[0.0, 0.0], [1.0, 1.0]])
    want, trajectory = reference_gradient(p), solve(p.field, p.z0, p.theta, p.times, rtol=1e-6, keep="dense")
    for way in ("checkpointed", "interpolating", "quadrature", "discrete"):
        for error in (False, True):
            got = adjoint(trajectory, p.dL_dz, method=way, error=error)
            true = np.divide(off(got, want), sizes(want))
            assert np.all((true <= 100 * np.array(got.error)) & (true >= 0.01 * np.array(got.error))), (way, error)
