"""The one door to SciPy: calls counted and bounded, what is not finite refused, steps seen; nothing hangs."""

import numpy as np
import pytest
from scipy.integrate import BDF, DOP853, LSODA, RK23, RK45, OdeSolver, Radau, solve_ivp

from refode import RK4, Euler, Linear, SolveError, Tsit5, VanDerPol, adjoint, solve
from refode.integrate import METHODS, Integrator, options_of, solver_class

ADAPTIVE = ["RK23", "RK45", "Tsit5", "DOP853", "Radau", "BDF", "LSODA"]
OPTIONS = {"Euler": {"step": 0.05}, "RK4": {"step": 0.05}}
every_method = pytest.mark.parametrize("method", METHODS)
every_adaptive_method = pytest.mark.parametrize("method", ADAPTIVE)


class Counting:
    """ż = speed(z, t) · θ, scalar, that counts its calls; `slope` is ∂speed/∂z."""

    n = m = 1

    def __init__(self, speed, slope):
        self.speed, self.slope, self.calls, self.times = speed, slope, 0, []

    def __call__(self, z, t, theta):
        self.calls += 1
        self.times.append(t)
        return self.speed(z, t) * theta

    def vjp(self, z, t, theta, a):
        return a * theta * self.slope(z, t), np.zeros(()), np.array([np.sum(a * self.speed(z, t))])


def decay():
    return Counting(lambda z, t: -z, lambda z, t: -np.ones_like(z))


def square():
    """ż = z², which from z(0) = 1 is 1/(1 − t): gone at t = 1."""
    return Counting(lambda z, t: z * z, lambda z, t: 2 * z)


def broken_after(t_broken):
    return Counting(lambda z, t: -z if t <= t_broken else z * np.nan, lambda z, t: -np.ones_like(z))


# ---- names and options -----------------------------------------------------------------------------------------------


def test_methods_go_by_name_or_by_class():
    class Mine(RK45):
        pass

    named = {"RK23": RK23, "RK45": RK45, "DOP853": DOP853, "Radau": Radau, "BDF": BDF, "LSODA": LSODA}
    assert {name: solver_class(name) for name in METHODS} == named | {"Euler": Euler, "RK4": RK4, "Tsit5": Tsit5}
    assert solver_class(Mine) is Mine
    assert solver_class(Radau) is Radau


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("RK54", "method must be one of RK23, RK45, .*; got 'RK54'; did you mean 'RK4[5]?'?"),
        ("radau", "did you mean 'Radau'"),
        (None, "got None"),
        (dict, "got <class 'dict'>"),
        (Euler(lambda t, y: y, 0.0, np.ones(1), 1.0, step=1.0), "got <refode"),
    ],
)
def test_an_unknown_method_is_refused_with_the_nearest_known_one(method, message):
    with pytest.raises(ValueError, match=message):
        solver_class(method)


def test_the_options_of_each_method():
    explicit = {"max_step", "first_step"}
    assert {m.__name__: options_of(m) for m in (RK23, RK45, DOP853)} == dict.fromkeys(
        ["RK23", "RK45", "DOP853"], explicit
    )
    assert options_of(Radau) == options_of(BDF) == explicit
    assert options_of(LSODA) == {"max_step", "first_step", "min_step"}
    assert options_of(Euler) == options_of(RK4) == {"step"}


def test_the_options_of_a_subclass_are_its_own_and_those_it_hands_on():
    class Same(RK45):
        pass

    class HandsOn(RK45):
        def __init__(self, *args, own, **options):
            super().__init__(*args, **options)

    class KeepsBack(Radau):
        def __init__(self, fun, t0, y0, t_bound, rtol, atol, own, jac=None):
            super().__init__(fun, t0, y0, t_bound, rtol=rtol, atol=atol, jac=jac)

    assert options_of(Same) == {"max_step", "first_step"}
    assert options_of(HandsOn) == {"max_step", "first_step", "own"}
    assert options_of(KeepsBack) == {"own"}
    steps = solve(decay(), [1.0], [1.0], [0.0, 1.0], method=HandsOn, own=1, max_step=0.01, keep="steps").step_times
    assert np.diff(steps).max() <= 0.01 * (1 + 1e-12)


# ---- accounts --------------------------------------------------------------------------------------------------------


@every_method
def test_the_result_is_solve_ivps_and_nfev_the_number_of_calls(method):
    field = decay()
    options = OPTIONS.get(method, {})
    trajectory = solve(field, [1.0], [1.5], [0.0, 0.4, 2.0], method=method, rtol=1e-5, atol=1e-8, **options)
    assert trajectory.nfev == field.calls - trajectory.njev  # the Jacobian linearizes the field, which is a call
    jac = {"jac": lambda t, y: np.array([[-1.5]])} if method in ("Radau", "BDF", "LSODA") else {}
    given = {"method": METHODS[method], "rtol": 1e-5, "atol": 1e-8} | options | jac
    plain = solve_ivp(lambda t, y: -1.5 * y, (0.0, 2.0), [1.0], t_eval=[0.4], **given)
    assert np.array_equal(plain.y[:, 0], trajectory.z[1])
    assert (plain.nfev, plain.njev) == (trajectory.nfev, trajectory.njev)
    assert np.array_equal(solve_ivp(lambda t, y: -1.5 * y, (0.0, 2.0), [1.0], **given).y[:, -1], trajectory.z[2])


def test_several_stretches_have_one_account():
    calls = []
    integrator = Integrator(lambda t, y: calls.append(t) or -y, RK45, 1e-6, 1e-9, 1000, "forward", {}, "steps")
    first = integrator.solve((0.0, 1.0), np.array([1.0]))
    spent, steps = integrator.nfev, integrator.steps.n
    second = integrator.solve((1.0, 3.0), first.y_end)
    assert integrator.nfev == len(calls) == spent + second.nfev
    assert 0 < steps < integrator.steps.n == len(integrator.steps.t) - 2  # t0 and 1.0 are no ends of steps
    assert np.size(first.y) == np.size(second.y) == 0  # nothing of a step is kept unless it is asked for
    assert second.y_end[0] == pytest.approx(np.exp(-3.0), rel=1e-5)
    assert integrator.steps.size == pytest.approx(3.0 - integrator.steps.t[-2])


@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize("method", ["RK45", "DOP853", "Radau", "LSODA", "RK4"])
def test_the_steps_are_those_that_solve_ivp_takes(method, direction):
    options = OPTIONS.get(method, {})
    trajectory = solve(decay(), [1.0], [1.5], [0.0, direction * 2.0], method=method, keep="steps", **options)
    jac = {"jac": lambda t, y: np.array([[-1.5]])} if method in ("Radau", "LSODA") else {}
    plain = solve_ivp(
        lambda t, y: -1.5 * y,
        (0.0, direction * 2.0),
        [1.0],
        method=METHODS[method],
        rtol=1e-6,
        atol=1e-9,
        **options,
        **jac,
    )
    assert np.array_equal(trajectory.step_times, plain.t)
    assert np.array_equal(trajectory.step_z, plain.y.T)
    assert trajectory.n_steps == len(plain.t) - 1


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def fails(field, method, times, z0=1.0, **options):
    with pytest.raises(SolveError) as caught:
        solve(field, [z0], [1.0], times, method=method, **OPTIONS.get(method, {}), **options)
    return caught.value


def says_its_numbers(error):
    for words in (
        f"{error.t:.10g}",
        f"step {error.step:.3g}",
        f"|z| = {error.z_norm:.3g}",
        f"|f| = {error.f_norm:.3g}",
    ):
        assert words in str(error)
    assert f"nfev = {error.nfev}" in str(error)
    return True


@every_adaptive_method
@pytest.mark.parametrize("times", [[0.0, 2.0], [0.0, 0.5, 1.5, 2.0]])
def test_a_solution_that_blows_up_stops_there(method, times):
    field = square()
    error = fails(field, method, times)
    assert (error.direction, type(error)) == ("forward", SolveError)
    assert error.t == pytest.approx(1.0, abs=1e-4)  # 1/(1 − t) is 1e4 and more within that
    assert error.z_norm > 1e4
    assert 0 <= error.step < 1e-3
    assert error.f_norm == pytest.approx(error.z_norm**2, rel=1e-6)
    assert field.calls - 100 <= error.nfev <= field.calls
    assert says_its_numbers(error)


@pytest.mark.parametrize("method", ["RK23", "RK45", "DOP853", "Radau", "BDF"])
def test_the_step_of_an_error_is_a_size_also_where_times_decrease(method):
    """ż = −z² from z(0) = 1 is 1/(1 + t): gone at t = −1."""
    error = fails(Counting(lambda z, t: -z * z, lambda z, t: -2 * z), method, [0.0, -2.0])
    assert error.t == pytest.approx(-1.0, abs=1e-4)
    assert 0 < error.step < 1e-3


@pytest.mark.parametrize("method", ["RK23", "RK45", "DOP853", "Radau", "BDF"])
def test_a_step_that_vanishes_comes_with_advice(method):
    assert "the solution blows up here, or f jumps" in str(fails(square(), method, [0.0, 2.0]))


@pytest.mark.parametrize("method", ["Euler", "RK4"])
def test_fixed_steps_run_past_a_blow_up_until_nothing_is_finite(method):
    error = fails(square(), method, [0.0, 20.0])
    assert 1.0 < error.t < 3.0
    assert error.step == pytest.approx(0.05, abs=0.03)
    assert error.z_norm == np.inf
    assert "f is not finite" in str(error)


@every_method
def test_a_field_that_is_not_finite_at_t0_stops_there(method):
    field = broken_after(-1.0)
    error = fails(field, method, [0.0, 1.0], z0=3.0)
    assert (error.t, error.step, error.z_norm, error.nfev, field.calls) == (0.0, 0.0, 3.0, 1, 1)
    assert np.isnan(error.f_norm)
    assert "forward solve stopped at t = 0: f is not finite" in str(error)


@every_method
def test_a_field_that_is_not_finite_later_stops_there(method):
    field = broken_after(0.5)
    error = fails(field, method, [0.0, 1.0])
    assert 0.5 < error.t <= 1.0
    assert np.isnan(error.f_norm)
    assert error.z_norm == pytest.approx(np.exp(-error.t), abs=0.05)
    assert field.calls == pytest.approx(error.nfev, abs=3)  # Jacobians call the field too
    assert 0 < error.step <= 1.0
    assert says_its_numbers(error)


@every_method
def test_infinity_is_not_finite_either(method):
    field = Counting(lambda z, t: z / (t - 0.25 if t != 0.25 else 0.0), lambda z, t: np.zeros_like(z))
    error = fails(field, method, [0.25, 1.0])
    assert error.t == 0.25
    assert error.f_norm == np.inf


@every_method
@pytest.mark.parametrize("budget", [1, 7, 40])
def test_max_nfev_bounds_every_method(method, budget):
    field = decay()
    error = fails(field, method, [0.0, 1e4], max_nfev=budget)
    assert error.nfev == budget
    # Once more for |f| in the message; Radau and BDF linearize the field for their Jacobians, at most one a step.
    assert field.calls <= budget + 1 + (budget if method in ("Radau", "BDF", "LSODA") else 0)
    assert f"max_nfev = {budget} evaluations are spent" in str(error)
    assert "a stiff field wants Radau, BDF or LSODA" in str(error)


@every_method
def test_max_nfev_that_suffices_changes_nothing(method):
    options = OPTIONS.get(method, {})
    free = solve(decay(), [1.0], [1.0], [0.0, 1.0], method=method, **options)
    bound = solve(decay(), [1.0], [1.0], [0.0, 1.0], method=method, max_nfev=free.nfev, **options)
    assert np.array_equal(free.z, bound.z)
    assert fails(decay(), method, [0.0, 1.0], max_nfev=free.nfev - 1).nfev == free.nfev - 1


def test_where_a_method_would_crawl_max_nfev_decides():
    with pytest.raises(SolveError, match="max_nfev = 2000") as caught:
        solve(VanDerPol(), [2.0, 0.0], [1e5], [0.0, 1e5], max_nfev=2000)
    assert 0 < caught.value.t < 1e5


# ---- in reverse ------------------------------------------------------------------------------------------------------


class BrokenBackward(Linear):
    """Its VJP, which a forward solve never asks for, is NaN before t_broken."""

    def __init__(self, n, t_broken):
        super().__init__(n)
        self.t_broken = t_broken

    def jacobian(self, z, t, theta):
        return np.broadcast_to(theta.reshape(self.n, self.n), (*z.shape, self.n))

    def vjp(self, z, t, theta, a):
        a_z, a_t, a_theta = super().vjp(z, t, theta, a)
        return (a_z if t >= self.t_broken else a_z * np.nan), a_t, a_theta


@every_method
@pytest.mark.parametrize("t_broken", [2.0, 0.5])
def test_a_field_that_is_not_finite_on_the_way_back_stops_the_reverse_solve(method, t_broken):
    A = [0.3, -1.0, 1.0, 0.0]
    trajectory = solve(BrokenBackward(2, t_broken), [1.0, 0.5], A, [0.0, 1.0], method=method, **OPTIONS.get(method, {}))
    with pytest.raises(SolveError) as caught:
        adjoint(trajectory, np.ones((2, 2)))
    error = caught.value
    assert error.direction == "reverse"
    assert "reverse solve stopped at t = " in str(error)
    assert error.t == 1.0 if t_broken == 2.0 else error.t < 0.5
    assert np.isnan(error.f_norm)
    assert error.nfev >= 1


def test_a_solution_that_blows_up_on_the_way_back_stops_the_reverse_solve():
    """ż = −50 (z + z³): what is left of z at t1 is all error, and z grows from it as 1/√(t − t*) backward."""
    field = Counting(lambda z, t: -50 * (z + z**3), lambda z, t: -50 * (1 + 3 * z * z))
    trajectory = solve(field, [1.0], [1.0], [0.0, 2.0], rtol=1e-3, atol=1e-3)
    with pytest.raises(SolveError) as caught:
        adjoint(trajectory, np.ones((2, 1)))
    assert caught.value.direction == "reverse"
    assert 0 < caught.value.t < 2
    assert caught.value.z_norm > 100


@every_method
def test_max_nfev_bounds_the_reverse_solve(method):
    options = {"step": 0.005} if method == "Euler" else OPTIONS.get(method, {})
    trajectory = solve(decay(), [1.0], [1.0], [0.0, 0.5, 1.0], method=method, **options)
    with pytest.raises(SolveError, match=r"reverse solve stopped at .*max_nfev = 5 evaluations are spent") as caught:
        adjoint(trajectory, np.ones((3, 1)), max_nfev=5)
    assert caught.value.nfev == 5
    enough = adjoint(trajectory, np.ones((3, 1)))
    solved = enough.nfev - 6  # f at the three observations, by the sweep and for the times
    assert np.array_equal(adjoint(trajectory, np.ones((3, 1)), max_nfev=solved).theta, enough.theta)
    with pytest.raises(SolveError):
        adjoint(trajectory, np.ones((3, 1)), max_nfev=solved - 1)


def test_the_bound_of_the_forward_solve_is_that_of_the_reverse_one_unless_another_is_given():
    trajectory = solve(decay(), [1.0], [1.0], [0.0, 1.0], rtol=1e-3, max_nfev=60)
    assert trajectory.max_nfev == 60
    for way in ("backsolve", "forward"):
        with pytest.raises(SolveError, match="max_nfev = 60 evaluations are spent"):
            adjoint(trajectory, np.ones((2, 1)), method=way, rtol=1e-9, atol=1e-12)
        adjoint(trajectory, np.ones((2, 1)), method=way, rtol=1e-9, atol=1e-12, max_nfev=10_000)


# ---- Jacobians -------------------------------------------------------------------------------------------------------


class BrokenJacobian(Linear):
    def vjp(self, z, t, theta, a):
        return np.full_like(a, np.nan), np.zeros(()), np.zeros(self.m)


@pytest.mark.parametrize("method", ["Radau", "BDF", "LSODA"])
@pytest.mark.parametrize("z0", [[1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]]])
def test_a_jacobian_that_is_not_finite_stops_the_solve(method, z0):
    stiff = [-2000.0, 0.0, 0.0, -1000.0]
    with pytest.raises(SolveError, match="the Jacobian of f is not finite") as caught:
        solve(BrokenJacobian(2), z0, stiff, [0.0, 1.0], method=method)
    assert 0 <= caught.value.t < 0.1
    assert caught.value.nfev > 0
    assert np.isfinite(caught.value.f_norm)


# ---- a solver of one's own -------------------------------------------------------------------------------------------


class Heun(OdeSolver):
    """Trapezoidal predictor-corrector of fixed step, nobody's subclass but SciPy's."""

    def __init__(self, fun, t0, y0, t_bound, vectorized=False, *, heun_step, **_):
        super().__init__(fun, t0, y0, t_bound, vectorized)
        self.size = heun_step

    def _step_impl(self):
        h = self.direction * min(self.size, abs(self.t_bound - self.t))
        k = self.fun(self.t, self.y)
        t = self.t + h if abs(self.t_bound - self.t) > self.size else self.t_bound
        self.y = self.y + h / 2 * (k + self.fun(t, self.y + h * k))
        self.t = t
        return True, None


class Failing(RK45):
    """Gives up when t passes 0.5, with a message of its own."""

    def _step_impl(self):
        return (False, "enough.") if self.t > 0.5 else super()._step_impl()


def test_a_solver_of_ones_own_solves_and_is_solved_back():
    A = np.array([0.3, -1.0, 1.0, 0.0])
    errors = []
    for h in (0.02, 0.01):
        trajectory = solve(Linear(2), [1.0, 0.5], A, [0.0, 1.0], method=Heun, heun_step=h)
        assert (trajectory.method, trajectory.nfev, trajectory.n_steps) == (Heun, round(2 / h), round(1 / h))
        gradient = adjoint(trajectory, [[0.0, 0.0], [1.0, -1.0]])
        exact = adjoint(solve(Linear(2), [1.0, 0.5], A, [0.0, 1.0], rtol=1e-11, atol=1e-11), [[0.0, 0.0], [1.0, -1.0]])
        errors.append([np.linalg.norm(gradient.z0 - exact.z0), np.linalg.norm(gradient.theta - exact.theta)])
    assert np.allclose(np.divide(*errors), 4.0, rtol=0.1)  # order 2
    with pytest.raises(
        ValueError, match="an option of Heun must be one of heun_step; got 'step'; did you mean 'heun_step'"
    ):
        solve(Linear(2), [1.0, 0.5], A, [0.0, 1.0], method=Heun, step=0.1)


def test_what_a_solver_gives_up_with_is_in_the_error():
    error = fails(decay(), Failing, [0.0, 2.0])
    assert "enough (step" in str(error)
    assert 0.5 < error.t < 2.0
    assert error.step > 0
    assert error.z_norm == error.f_norm == pytest.approx(np.exp(-error.t), rel=1e-4)
