"""A march takes the steps of `solve`, and gives up where that would: what is promised of it beside its gradient."""

import numpy as np
import pytest
from scipy.integrate import DOP853, RK23, RK45

from refode import MLP, Linear, LotkaVolterra, SolveError, VanDerPol, solve
from refode.adjoint import WAYS
from refode.differentiable import Differentiable
from refode.march import EVEN, Lost, March
from refode.sensitivities.taped import Taped
from refode.steppers import RK4, Tsit5
from refode.tape import tape

ADAPTIVE = [RK23, RK45, Tsit5, DOP853]
NET = MLP([2, 4, 2])
WEIGHTS = 1.5 * np.random.default_rng(0).normal(size=NET.m)
PROBLEMS = {  # field, z0, theta, from where to where
    "steps refused": (VanDerPol(), [2.0, 0.0], [5.0], [0.0, 9.0]),
    "backward": (LotkaVolterra(), [0.5, 1.7], [1.1, 0.4, 0.9, 0.3], [4.0, -12.0]),
    "a batch": (NET, np.random.default_rng(1).normal(size=(5, 2)), WEIGHTS, [0.0, 6.0]),
    "from zero": (NET, np.zeros(2), WEIGHTS, [0.0, 6.0]),
    "sizes apart": (Linear(2), [1e3, 1e-3], [0.0, 1e6, -1e-6, 0.0], [0.0, 20.0]),
    "at rest": (Linear(1), [1.0], [0.0], [0.0, 1e3]),
    "all zero": (Linear(1), [0.0], [1.0], [0.0, 1e3]),
    "one short step": (LotkaVolterra(), [0.5, 1.7], [1.1, 0.4, 0.9, 0.3], [0.0, 1e-5]),
}


def problem(name):
    field, z0, theta, span = PROBLEMS[name]
    return field, np.array(z0, float), np.array(theta, float), np.array(span)


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("rtol", [1e-3, 1e-6])
@pytest.mark.parametrize("name", PROBLEMS)
def test_without_stops_its_steps_are_those_of_solve(name, method, rtol):
    """From the same first one, as long as more than `EVEN` are to come, of twice their length at that.

    An error is what is left of slopes that cancel to about rtol^2 or less in DOP853; sizes are a root of it.
    """
    field, z0, theta, span = problem(name)
    march = March(tape(field, z0.shape), (z0.size // field.n, field.n), method)
    _, steps = march.solve(z0.ravel(), theta, span, rtol, 1e-2 * rtol, 100_000)
    options = {"rtol": rtol, "atol": 1e-2 * rtol, "first_step": abs(steps.h[0]), "keep": "times"}
    plain = solve(field, z0, theta, span, method=method, **options)
    h = np.diff(plain.step_times)
    near = np.abs(span[-1] - plain.step_times[:-1]) <= 2 * EVEN * np.abs(h)
    free = int(near.argmax())
    assert np.allclose(steps.h[:free], h[:free], rtol=1e-5, atol=0)
    assert free >= plain.n_steps / 3 - EVEN
    assert abs(len(steps.h) - plain.n_steps) <= 1
    assert abs(steps.nfev - plain.nfev) <= 4 * march.S


class Tried(March):
    """Counts how often the first step is tried."""

    firsts = 0

    def _try(self, k, *arguments):
        self.firsts += k == 0
        super()._try(k, *arguments)


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_first_step_is_not_much_shorter_than_the_next_and_seldom_refused(method, offset):
    """In the median of seeded nets. SciPy's guess is a tenth to a quarter of the next.

    Far from 0 the size of z says nothing of how fast it changes.
    """
    rng, ratios, refused = np.random.default_rng(0), [], 0
    for _ in range(60):
        net = MLP([2, 12, 2], "sine" if offset else rng.choice(["tanh", "softplus", "sine"]))
        theta, z0 = net.init(rng, rng.uniform(0.5, 3)), offset + rng.normal(size=(rng.choice([1, 20]), 2))
        march = Tried(tape(net, z0.shape), z0.shape, method)
        _, steps = march.solve(z0.ravel(), theta, np.array([0.0, 3.0]), 1e-5 / (1 + offset), 1e-7, 10**6)
        ratios += [steps.h[0] / steps.h[1]] if len(steps.h) > EVEN else []
        refused += march.firsts > 1
    assert len(ratios) > 30
    assert np.median(ratios) > 0.3
    assert refused <= 60 / 4


class Wave:
    """dz/dt = −sin t + θ, or cos t + θ: at t = 0 it is θ, or its rate is 0."""

    n = m = 1

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, z, t, theta):
        return np.full_like(z, self.rate(t)) + theta

    def vjp(self, z, t, theta, a):
        return 0.0 * a, np.zeros(()), np.sum(a, keepdims=True)


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("theta", [0.0, 1e-6, 1e-4])
@pytest.mark.parametrize("rate", [lambda t: -np.sin(t), np.cos], ids=["turning", "inflection"])
def test_where_a_derivative_vanishes_the_first_step_is_as_long_as_scipys_and_not_refused_for_ever(method, theta, rate):
    arguments = np.ones(1), np.array([theta]), np.array([0.0, 5.0])
    march = Tried(tape(Wave(rate), (1,)), (1, 1), method)
    _, steps = march.solve(*arguments, 1e-6, 1e-8, 10**6)
    plain = solve(Wave(rate), *arguments, method=method, rtol=1e-6, atol=1e-8, keep="times")
    assert steps.h[0] >= 0.5 * (plain.step_times[1] - plain.step_times[0])
    assert march.firsts <= 5
    assert steps.nfev <= plain.nfev + 4 * march.S


def test_a_field_that_is_constant_is_done_in_few_steps():
    """No derivative says how long the first one may be: a hundred times the Euler step, and tenfold from there."""
    march = March(tape(Wave(lambda t: 0.0), (1,)), (1, 1), RK45)
    _, steps = march.solve(np.ones(1), np.ones(1), np.array([0.0, 5.0]), 1e-6, 1e-8, 10**6)
    assert len(steps.h) <= 3


def test_errors_far_below_and_far_above_one_are_weighed_by_dop853():
    """z0 e^{−t}, in units of a tolerance of 1e-150 z0 or so: squares of the errors are no numbers any more."""
    for scale in (1e-150, 1e150):
        march = March(tape(Linear(1), (1,)), (1, 1), DOP853)
        arguments = np.full(1, scale), np.array([-1.0]), np.array([0.0, 3.0]), 1e-6
        z, _ = march.solve(*arguments, 1e-9 * scale, 10**4)
        assert np.isclose(z[-1, 0], scale * np.exp(-3.0), rtol=1e-5, atol=0)
        z, _ = march.solve(*arguments, 1e-9, 10**4)
        assert np.isclose(z[-1, 0], scale * np.exp(-3.0), rtol=1e-5, atol=0 if scale > 1 else 1e-8)


def test_the_steps_before_a_stop_are_equal():
    """In either direction, where the others are not."""
    field, z0, theta = LotkaVolterra(), np.array([0.5, 1.7]), np.array([1.1, 0.4, 0.9, 0.3])
    for span in ([0.0, 5.0], [5.0, 0.0]):
        march = March(tape(field, z0.shape), (1, 2), RK45)
        _, steps = march.solve(z0, theta, np.array(span), 1e-6, 1e-8, 10**6)
        last = np.abs(steps.h[-EVEN + 1 :])  # one of them may have been tried anew
        assert np.ptp(last) <= 1e-12
        assert np.ptp(np.abs(steps.h)) > 1e-3


class Counted:
    """A field that counts its evaluations, alone or with their pullbacks."""

    def __init__(self, field):
        self.field, self.n, self.m, self.count = field, field.n, field.m, 0

    def __call__(self, z, t, theta):
        self.count += 1
        return self.field(z, t, theta)

    def vjp(self, z, t, theta, a):
        return self.field.vjp(z, t, theta, a)


@pytest.mark.parametrize("options", [{"method": m} for m in ADAPTIVE] + [{"method": RK4, "step": 0.05}])
@pytest.mark.parametrize("count", [2, 40])
def test_its_account_is_what_was_evaluated_and_bounds_it(options, count):
    """With just as many evaluations as it takes it arrives, with one less it does not."""
    field, z0, theta, span = problem("steps refused")
    counted = Counted(field)
    arguments = z0, theta, np.linspace(*span / 3, count)
    trajectory, _ = Taped(counted).solve(*arguments, **options)
    assert trajectory.nfev == counted.count
    again, _ = Taped(field).solve(*arguments, **options, max_nfev=trajectory.nfev)
    assert np.array_equal(again.z, trajectory.z)
    counted.count = 0
    with pytest.raises(Lost):
        Taped(counted).solve(*arguments, **options, max_nfev=trajectory.nfev - 1)
    assert counted.count < trajectory.nfev


class Square:
    """dz/dt = θ z², which is infinite at t = 1/(θ z0)."""

    n = m = 1

    def __call__(self, z, t, theta):
        return theta * z * z

    def vjp(self, z, t, theta, a):
        return 2 * a * theta * z, np.zeros(()), np.sum(a * z * z, keepdims=True)


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_it_gives_up_where_a_solution_ends(method, sign):
    """After a few hundred steps, not all that it may take; `solve` then says where that was."""
    counted, arguments = Counted(Square()), (np.ones(1), np.array([sign]), np.array([0.0, 2.0 * sign]))
    with pytest.raises(Lost):
        Taped(counted).solve(*arguments, method, max_nfev=10**6)
    assert counted.count < 20_000
    with pytest.raises(SolveError, match=r"t = -?(0\.99|1)"):
        Differentiable(Square()).solve(*arguments, method)


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("count", [3, 30, 300])
def test_observed_states_are_those_of_the_solution(method, count):
    """Whether it stops there or interpolates: interpolants err by some tens of tolerances, and errors add up."""
    field, z0, theta, span = problem("backward")
    times = np.linspace(*span, count)
    exact = solve(field, z0, theta, times, method=DOP853, rtol=1e-12, atol=1e-14).z
    got, _ = Taped(field).solve(z0, theta, times, method, rtol=1e-7, atol=1e-9)
    plain = solve(field, z0, theta, times, method=method, rtol=1e-7, atol=1e-9)
    assert np.abs(got.z - exact).max() <= 3 * np.abs(plain.z - exact).max() + 1e-6
    assert got.n_steps <= plain.n_steps + count


@pytest.mark.parametrize("way", WAYS)
def test_at_t0_alone_nothing_moves(way):
    field, z0, theta, span = problem("a batch")
    trajectory, pull_back = Differentiable(field, way).solve(z0, theta, span[:1], RK45)
    dL_dz = np.random.default_rng(2).normal(size=(1, *z0.shape))
    z0_bar, theta_bar = pull_back(dL_dz)
    assert np.array_equal(trajectory.z, z0[None])
    assert np.array_equal(z0_bar, dL_dz[0])
    assert np.array_equal(theta_bar, np.zeros(field.m))
