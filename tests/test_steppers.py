"""Tables of Runge-Kutta methods satisfy what defines them, and our fixed steps and interpolants are SciPy's kind."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import BDF, DOP853, LSODA, RK23, RK45, DenseOutput, OdeSolver, Radau, solve_ivp

from refode import RK4, Euler, Pendulum, solve
from refode.finite_difference import slope
from refode.steppers import FixedStep, Tsit5, tableau

EPS = np.finfo(float).eps
METHODS = {"RK23": RK23, "RK45": RK45, "Tsit5": Tsit5, "DOP853": DOP853, "Euler": Euler, "RK4": RK4}
ORDERS = {"RK23": 3, "RK45": 5, "Tsit5": 5, "DOP853": 8, "Euler": 1, "RK4": 4}
INTERPOLANT_ORDERS = {"RK23": 3, "RK45": 4, "Tsit5": 4, "DOP853": 7, "Euler": 1, "RK4": 3}
each_method = pytest.mark.parametrize("name", METHODS)


def swing(t, y):
    """A pendulum pushed by a force that depends on time."""
    return np.array([y[1], -1.3 * np.sin(y[0]) - 0.1 * y[1] + 0.5 * np.cos(2 * t)])


# ---- what SciPy does not document and refode leans on ----------------------------------------------------------------


def test_pinned_scipy_has_the_tables_where_refode_reads_them():
    """If this fails, SciPy has moved its Runge-Kutta coefficients: refode.steppers.tableau must look elsewhere."""
    for method, S in ((RK23, 3), (RK45, 6)):
        assert method.n_stages == S, f"{method.__name__}.n_stages"
        assert method.A.shape in ((S, S), (S, S - 1)), f"{method.__name__}.A: a row for each stage"
        assert method.B.shape == method.C.shape == (S,), f"{method.__name__}.B, C"
        assert method.P.shape[0] == S + 1, f"{method.__name__}.P: a row for the slope at the new state too"
    assert DOP853.n_stages == 12
    assert DOP853.A.shape == (12, 12)
    assert DOP853.B.shape == DOP853.C.shape == (12,)
    assert DOP853.D.shape == (4, 16), "DOP853.D"
    assert DOP853.A_EXTRA.shape == (3, 16), "DOP853.A_EXTRA"
    assert DOP853.C_EXTRA.shape == (3,), "DOP853.C_EXTRA"


@pytest.mark.parametrize("name", ["RK23", "RK45", "Tsit5", "DOP853"])
def test_pinned_scipy_keeps_the_slopes_of_the_last_step_in_K(name):
    """If this fails, solver.K no longer holds the slopes of the accepted step, which keep="stages" records."""
    method = METHODS[name]
    solver = method(swing, 0.0, np.array([1.0, 0.5]), 2.0, rtol=1e-4)
    for _ in range(3):
        t, y = solver.t, solver.y
        solver.step()
        h, S = solver.t - t, method.n_stages
        assert solver.K.shape[0] >= S + 1
        for i in range(S):
            want = swing(t + method.C[i] * h, y + h * method.A[i, :i] @ solver.K[:i])
            assert np.allclose(solver.K[i], want, rtol=0, atol=1e-13), f"{name}.K[{i}]"
        assert np.allclose(solver.y, y + h * method.B @ solver.K[:S], rtol=0, atol=1e-14)
        assert np.allclose(solver.K[S], swing(solver.t, solver.y), rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", [RK23, RK45, Tsit5, DOP853, Radau, BDF, LSODA, Euler, RK4])
def test_pinned_solve_ivp_advances_by_the_public_method_step_of_the_class_it_is_given(method):
    """If this fails, solve_ivp no longer calls `method.step()` once a step: refode.integrate would see no steps."""
    seen = []

    class Watched(method):
        def step(self):
            before = self.t
            message = super().step()
            seen.append((before, self.t, self.status))
            return message

    options = {"step": 0.1} if method in (Euler, RK4) else {}
    result = solve_ivp(swing, (0.0, 1.0), [1.0, 0.5], method=Watched, **options)
    assert [t for _, t, _ in seen] == list(result.t[1:])
    assert [t for t, _, _ in seen] == list(result.t[:-1])
    assert seen[-1][2] == "finished"


def test_pinned_solve_ivp_hands_further_options_to_the_constructor():
    """If this fails, the options `step` and `steps` no longer reach our subclasses of OdeSolver."""
    got = {}

    class Curious(RK45):
        def __init__(self, *args, extra, **options):
            got.update(extra=extra, options=set(options))
            super().__init__(*args, **options)

    solve_ivp(swing, (0.0, 1.0), [1.0, 0.5], method=Curious, extra="here", rtol=1e-3, atol=1e-6)
    assert got["extra"] == "here"
    assert {"rtol", "atol"} <= got["options"]


def test_pinned_solve_ivp_with_no_times_to_evaluate_returns_no_states():
    """If this fails, refode's `t_eval` of interior times alone, which may be none, is no longer understood."""
    result = solve_ivp(swing, (0.0, 1.0), [1.0, 0.5], t_eval=np.empty(0))
    assert result.success
    assert len(np.transpose(result.y)) == 0


# ---- tables ----------------------------------------------------------------------------------------------------------


def trees(order):
    """Butcher's conditions up to order 4, Σ b_i Φ_i = 1/γ (Hairer, Nørsett and Wanner, table II.2.1)."""
    one = lambda A, c: np.ones(len(c))  # noqa: E731
    found = [
        (1, one, 1), (2, lambda A, c: c, 2), (3, lambda A, c: c**2, 3), (3, lambda A, c: A @ c, 6),
        (4, lambda A, c: c**3, 4), (4, lambda A, c: c * (A @ c), 8), (4, lambda A, c: A @ c**2, 12),
        (4, lambda A, c: A @ A @ c, 24),
    ]  # fmt: skip
    return [(p, phi, gamma) for p, phi, gamma in found if p <= order]


@each_method
def test_the_weights_satisfy_the_order_conditions(name):
    T = tableau(METHODS[name])
    for _, phi, gamma in trees(ORDERS[name]):
        assert T.b @ phi(T.A, T.c) == pytest.approx(1 / gamma, abs=1e-14)
    for p in range(1, ORDERS[name] + 1):  # quadrature: Σ b c^{p−1} = 1/p
        assert T.b @ T.c ** (p - 1) == pytest.approx(1 / p, abs=1e-14)


@each_method
def test_rows_sum_to_the_nodes_and_look_back_only(name):
    T = tableau(METHODS[name])
    S = len(T.b)
    assert (T.A.shape, T.c.shape, T.interpolant.shape[0]) == ((S, S), (S,), S)
    assert np.allclose(T.A.sum(axis=1), T.c, rtol=0, atol=1e-14)
    assert np.array_equal(T.A, np.tril(T.A, -1))
    assert T.stages == {"RK23": 3, "RK45": 6, "Tsit5": 6, "DOP853": 12, "Euler": 1, "RK4": 4}[name]
    assert not T.b[T.stages :].any()


@each_method
@given(x=st.floats(0, 1))
def test_the_interpolant_satisfies_the_order_conditions_inside_the_step(name, x):
    T = tableau(METHODS[name])
    w = T.weights(x)
    for p, phi, gamma in trees(min(4, INTERPOLANT_ORDERS[name])):
        # Σ w_i(x) Φ_i = x^p/γ; the coefficients of DOP853's interpolant reach a hundred
        assert w @ phi(T.A, T.c) == pytest.approx(x**p / gamma, abs=1e-12)
    for p in range(1, INTERPOLANT_ORDERS[name] + 1):
        assert w @ T.c ** (p - 1) == pytest.approx(x**p / p, abs=1e-12)


@each_method
def test_the_interpolant_starts_at_the_old_state_and_ends_at_the_new_one(name):
    T = tableau(METHODS[name])
    assert np.array_equal(T.weights(0.0), np.zeros(len(T.b)))
    assert np.allclose(T.weights(1.0), T.b, rtol=0, atol=1e-12)


@each_method
@given(seed=st.integers(0, 2**32 - 1), span=st.sampled_from([1.5, -1.5]))
def test_a_table_reproduces_the_steps_and_the_dense_output_of_its_solver(name, seed, span):
    rng = np.random.default_rng(seed)
    method, T, y = METHODS[name], tableau(METHODS[name]), rng.normal(size=2)
    options = {"step": 0.4} if issubclass(method, FixedStep) else {"rtol": 1e-4}
    solver = method(swing, 0.3, y, 0.3 + span, **options)
    while solver.status == "running":
        t, y = solver.t, solver.y
        assert solver.step() is None
        h, dense = solver.t - t, solver.dense_output()
        K = np.zeros((len(T.b), 2))
        for i in range(len(T.b)):
            K[i] = swing(t + T.c[i] * h, y + h * T.A[i, :i] @ K[:i])
        assert np.allclose(y + h * T.b @ K, solver.y, rtol=0, atol=1e-14 * (1 + abs(y).max()))
        # A few roundings of every term of y + h Σ_i Σ_j Q_ij x^j k_i; 1e-13 but for DOP853, whose Q_ij reach 800.
        rounding = 8 * EPS * (abs(y) + abs(h) * abs(T.interpolant).sum(axis=1) @ abs(K))
        for x in rng.uniform(0, 1, 3):
            assert (abs(dense(t + x * h) - (y + h * T.weights(x) @ K)) <= rounding).all()


def test_subclasses_have_their_parents_table_and_other_methods_none():
    class Mine(RK45):
        pass

    class MyEuler(Euler):
        pass

    class MyDOP(DOP853):
        pass

    assert np.array_equal(tableau(Mine).A, tableau(RK45).A)
    assert tableau(MyEuler) is Euler.tableau
    assert np.array_equal(tableau(MyDOP).interpolant, tableau(DOP853).interpolant)
    assert [tableau(method) for method in (Radau, BDF, LSODA, OdeSolver)] == [None] * 4


# ---- fixed steps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "order"), [(Euler, 1), (RK4, 4)])
@pytest.mark.parametrize("end", [2.0, -2.0])
def test_the_error_of_fixed_steps_has_their_order(method, order, end):
    exact = solve_ivp(swing, (0.0, end), [1.0, 0.5], method="DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
    h = np.array([0.1, 0.05, 0.025, 0.0125])
    errors = [
        np.linalg.norm(solve_ivp(swing, (0.0, end), [1.0, 0.5], method=method, step=step).y[:, -1] - exact)
        for step in h
    ]
    assert slope(h, errors) == pytest.approx(order, abs=0.15)  # the next term bends it by h, a tenth


@pytest.mark.parametrize(("method", "order"), [(Euler, 2), (RK4, 4)])
def test_the_interpolants_error_has_its_order(method, order):
    """Linear between exact points has order 2 locally, Hermite order 4: measured inside a single step."""
    h = np.array([0.2, 0.1, 0.05, 0.025])
    x, y0, errors = 0.3, np.array([1.0, 0.5]), []
    for step in h:
        exact = solve_ivp(swing, (0.0, x * step), y0, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]
        got = solve_ivp(swing, (0.0, step), y0, method=method, step=step, t_eval=[x * step]).y[:, -1]
        errors.append(np.linalg.norm(got - exact))
    assert slope(h, errors) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", [Euler, RK4])
@pytest.mark.parametrize(
    ("span", "step", "count"),
    [
        ((0.0, 1.0), 0.1, 10), ((0.0, 1.0), 0.3, 4), ((1.0, 0.0), 0.1, 10), ((2.0, 1.0), 0.3, 4), ((0.0, 1.0), 5.0, 1),
        ((0.0, 0.3), 0.1, 3), ((1.0, 1.7), 0.1, 7), ((0.0, 1.0), 0.0999, 11), ((-1.0, 2.0), 1.5, 2),
        ((0.0, 1.1), 0.1, 11),  # 1.1 / 0.1 is a little more than 11
    ],
)  # fmt: skip
def test_steps_divide_the_span_equally_and_no_longer_than_asked(method, span, step, count):
    result = solve_ivp(swing, span, [1.0, 0.5], method=method, step=step)
    assert len(result.t) == count + 1
    assert (result.t[0], result.t[-1]) == span
    sizes = np.diff(result.t)
    assert np.allclose(sizes, (span[1] - span[0]) / count, rtol=1e-12, atol=0)
    assert (abs(sizes) <= step * (1 + 1e-9)).all()
    assert result.nfev == count * {Euler: 1, RK4: 4}[method]


def test_the_first_euler_step_is_the_formula():
    """Note D01 with the step that E01 restores: z + h f(z, t, θ)."""
    got = solve(Pendulum(), [1.0, 0.5], [2.0, 0.1], [0.0, 0.25], method="Euler", step=0.25).z[-1]
    want = np.array([1.0, 0.5]) + 0.25 * np.array([0.5, -2.0 * np.sin(1.0) - 0.1 * 0.5])
    assert np.allclose(got, want, rtol=0, atol=4 * EPS)


@pytest.mark.parametrize("method", [Euler, RK4])
def test_dense_output_of_fixed_steps_takes_scalars_and_arrays(method):
    result = solve_ivp(swing, (0.0, 1.0), [1.0, 0.5], method=method, step=0.25, dense_output=True)
    assert result.sol(0.6).shape == (2,)
    assert result.sol(np.array([0.1, 0.6, 0.9])).shape == (2, 3)
    assert np.array_equal(result.sol(np.array([0.1, 0.6]))[:, 1], result.sol(0.6))
    assert np.allclose(result.sol(result.t), result.y, rtol=0, atol=1e-15 * 8)
    assert isinstance(result.sol.interpolants[0], DenseOutput)


@pytest.mark.parametrize("method", [Euler, RK4])
def test_fixed_steps_carry_complex_states(method):
    h = 1e-30
    got = solve_ivp(swing, (0.0, 1.0), np.array([1.0 + 1j * h, 0.5]), method=method, step=0.1).y[:, -1].imag / h
    up, down = (solve_ivp(swing, (0.0, 1.0), [1.0 + d, 0.5], method=method, step=0.1).y[:, -1] for d in (1e-5, -1e-5))
    assert np.allclose(got, (up - down) / 2e-5, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", [Euler, RK4])
@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (0.0, ValueError, "step must be positive, got 0"), (-0.1, ValueError, "step must be positive, got -0.1"),
        (np.nan, ValueError, "step must be finite"), ("0.1", TypeError, "step must hold real numbers"),
        ([0.1, 0.2], ValueError, "step must have shape"),
    ],
)  # fmt: skip
def test_unusable_steps_are_refused(method, step, error, message):
    with pytest.raises(error, match=message):
        solve(Pendulum(), [1.0, 0.5], [2.0, 0.1], [0.0, 1.0], method=method, step=step)


def test_the_options_of_fixed_steps_are_known_by_signature():
    assert inspect.signature(FixedStep.__init__).parameters["step"].kind is inspect.Parameter.KEYWORD_ONLY
