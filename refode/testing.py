"""Generated problems for code that computes a gradient, ours or anybody's: hypothesis strategies and `check_adjoint`.

    def my_gradient(problem):                    # field, theta, z0, times, dL_dz
        ...                                      # NumPy, torch, anything
        return {"z0": ..., "theta": ..., "times": ...}

    print(check_adjoint(my_gradient))

What a strategy draws is built by a NumPy generator from a seed, so that an example shrinks to few samples, few times
and a simple field, and has generic numbers all the same. The oracle is complex step through a solve of its own, which
knows no adjoint: what `refode.adjoint` gets wrong, it can say.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from refode.activations import ACTIVATIONS
from refode.arguments import observation_times, real_array
from refode.fields import CubicSpiral, Linear, LotkaVolterra, Pendulum, VanDerPol, VectorField, jacobian
from refode.finite_difference import central_difference, complex_solve, complex_step, richardson
from refode.mlp import MLP
from refode.types import Array

try:
    import hypothesis
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy
except ImportError as error:
    raise ImportError("refode.testing needs hypothesis: pip install refode[test]") from error

CLOSED_FORMS: tuple[VectorField, ...] = (
    Linear(1), Linear(2), Linear(3), Pendulum(), VanDerPol(), LotkaVolterra(), CubicSpiral(),
)  # fmt: skip
PATTERNS = ("only t1", "t0 too", "interior", "all", "one")  # of the observations a loss looks at


@dataclass(frozen=True, eq=False)
class Problem:
    """The loss L = Σ_i ⟨dL_dz[i], z(t_i)⟩, summed over the batch, of ż = f(z, t, θ), z(times[0]) = z0; immutable.

    theta (m,), z0 (..., n), times (T,) strictly monotone, dL_dz (T, ..., n), zero where the loss does not look.
    Raises TypeError or ValueError for anything else.
    """

    field: VectorField
    theta: Array
    z0: Array
    times: Array
    dL_dz: Array

    def __post_init__(self) -> None:
        f = self.field
        object.__setattr__(self, "theta", real_array("theta", self.theta, (f.m,)))
        object.__setattr__(self, "z0", real_array("z0", self.z0, ("...", f.n)))
        object.__setattr__(self, "times", observation_times(self.times))
        object.__setattr__(self, "dL_dz", real_array("dL_dz", self.dL_dz, (len(self.times), *self.z0.shape)))
        for array in (self.theta, self.z0, self.times, self.dL_dz):
            array.setflags(write=False)

    @property
    def strength(self) -> float:
        """∫‖∇§1 f‖ |dt| along the trajectory, spectral norm, the largest of the batch, to about one per cent.

        Neighbouring trajectories part or meet by at most its exponential. Above 100 it is inf: nothing is left then.
        """
        end, strength = _march(self.field, self.theta, self.z0, self.times[0], self.times[-1], 100.0)
        return strength if end == self.times[-1] else np.inf

    def __repr__(self) -> str:
        f = self.field
        plain = type(f).__repr__ is object.__repr__
        lines = [f"field = {type(f).__name__} with n = {f.n}, m = {f.m}" if plain else f"field = {f!r}"]
        for name in ("theta", "z0", "times", "dL_dz"):
            value = np.array2string(getattr(self, name), separator=", ", threshold=10_000, floatmode="unique")
            lines.append(f"{name} = {value}")
        return "Problem(\n" + "\n".join(lines) + ")"


# ---- strategies -----------------------------------------------------------------------------------------------------


def _generators(of: int) -> SearchStrategy[np.random.Generator]:
    """Different numbers for different things, also where all seeds have shrunk to 0."""
    return st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng([of, seed]))


@st.composite
def mlps(draw: st.DrawFn, time: bool | None = None) -> tuple[MLP, Array]:
    """(field, theta): up to three layers of up to five units, n up to 3, every activation; `time` fixed or drawn."""
    n = draw(st.integers(1, 3))
    hidden = draw(st.lists(st.integers(1, 5), max_size=2))
    with_time = draw(st.booleans()) if time is None else time
    mlp = MLP([n, *hidden, n], draw(st.sampled_from(list(ACTIVATIONS))), time=with_time)
    return mlp, mlp.init(draw(_generators(1)))


@st.composite
def closed_forms(draw: st.DrawFn) -> tuple[VectorField, Array]:
    """(field, theta): linear with n up to 3, pendulum, Van der Pol, Lotka-Volterra, cubic spiral; all autonomous."""
    form = draw(st.sampled_from(CLOSED_FORMS))
    return form, draw(_generators(2)).normal(size=form.m) / np.sqrt(form.n)


def fields() -> SearchStrategy[tuple[VectorField, Array]]:
    """(field, theta): closed forms, and MLPs with and without time."""
    return st.one_of(closed_forms(), mlps())


_FIELDS = fields()


@st.composite
def times(draw: st.DrawFn, most: int = 5) -> Array:
    """Strictly monotone times, (T,), 2 ≤ T ≤ `most`, either way: only t1; several; two of several close together."""
    layout = draw(st.sampled_from(["only t1", "several", "two close"] if most > 2 else ["only t1"]))
    count = 1 if layout == "only t1" else draw(st.integers(2, most - 1))
    backward, late = draw(st.booleans()), draw(st.booleans())
    rng = draw(_generators(3))
    gaps = rng.uniform(0.2, 1.0, count)
    if layout == "two close":
        gaps[draw(st.integers(0, count - 1))] = 1e-6
    span = rng.uniform(0.5, 4.0)
    t0 = rng.uniform(-2.0, 2.0) if late else 0.0
    relative = np.concatenate([[0.0], np.cumsum(gaps) / gaps.sum()])
    return np.asarray(t0 + (-span if backward else span) * relative)


@st.composite
def batches(draw: st.DrawFn, n: int) -> Array:
    """z0, (..., n): a single state, and batches of several shapes; N(0, 1)."""
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    return draw(_generators(4)).normal(size=(*shape, n))


@st.composite
def cotangents(draw: st.DrawFn, shape: tuple[int, ...]) -> Array:
    """dL_dz of that shape, (T, ..., n): N(0, 1) at some observations, zero at the others, in one of `PATTERNS`."""
    T, pattern = shape[0], draw(st.sampled_from(PATTERNS))
    rows = {"only t1": [T - 1], "t0 too": [0, T - 1], "interior": list(range(1, T - 1)) or [T - 1]}
    rows |= {"all": list(range(T)), "one": [draw(st.integers(0, T - 1)) if pattern == "one" else 0]}
    dL_dz = np.zeros(shape)
    dL_dz[rows[pattern]] = draw(_generators(5)).normal(size=(len(rows[pattern]), *shape[1:]))
    return dL_dz


@st.composite
def problems(
    draw: st.DrawFn,
    fields: SearchStrategy[tuple[VectorField, Array]] | None = None,
    *,
    strength: float = 3.0,
    most_times: int = 5,
) -> Problem:
    """A `Problem`: a field, a batch, times, and random cotangents with zero rows.

    Parameters
    ----------
    fields : strategy of (field, theta), by default `fields()`; give your own to try other fields
    strength : bound on ∫‖∇§1 f‖ |dt| (`Problem.strength`): longer spans are scaled down to it, to about one per cent
    most_times : bound on T
    """
    f, theta = draw(_FIELDS if fields is None else fields)
    z0 = draw(batches(f.n))
    t = draw(times(most_times))
    end, _ = _march(f, theta, z0, t[0], t[-1], strength)
    t = t[0] + (t - t[0]) * ((end - t[0]) / (t[-1] - t[0]))
    return Problem(f, theta, z0, t, draw(cotangents((len(t), *z0.shape))))


_PROBLEMS = problems()


def _march(f: VectorField, theta: Array, z: Array, t: float, end: float, strength: float) -> tuple[float, float]:
    """(t, ∫‖∇§1 f‖ |dt|) at `end`, or where the integral reaches `strength` before; midpoint rule, ‖h ∇§1 f‖ ≤ 0.05."""
    total, longest = 0.0, abs(end - t) / 20
    while t != end and total < strength:
        h = np.sign(end - t) * min(longest, 0.05 / max(_norm(f, z, t, theta), 1e-3), abs(end - t))
        t_half, z_half = t + h / 2, z + h / 2 * f(z, t, theta)
        growth = _norm(f, z_half, t_half, theta)
        h = h * min(1.0, (strength - total) / (growth * abs(h) + 1e-300))
        z, total = z + h * f(z_half, t_half, theta), total + abs(h) * growth
        t = end if abs(end - t - h) <= 1e-9 * abs(end - t) else t + h
    return t, total


def _norm(f: VectorField, z: Array, t: float, theta: Array) -> float:
    return float(np.linalg.norm(jacobian(f, z, t, theta), ord=2, axis=(-2, -1)).max())


# ---- the oracle -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Blocks:
    """A gradient: z0 (..., n), theta (m,), and the times (T,) where they are known."""

    z0: Array
    theta: Array
    times: Array | None = None


def reference_gradient(problem: Problem) -> Blocks:
    """All three blocks by complex step through `complex_solve`, one solve for every entry; no adjoint in sight.

    A field whose code does not carry complex numbers gets extrapolated central differences of the same solve.
    """
    p = problem

    def loss(z0: Array, theta: Array, times: Array) -> Any:
        return np.sum(p.dL_dz * complex_solve(p.field, z0, theta, times))

    gradient = complex_step if _analytic(p, loss) else _extrapolated
    return Blocks(
        gradient(lambda z0: loss(z0, p.theta, p.times), p.z0),
        gradient(lambda theta: loss(p.z0, theta, p.times), p.theta),
        gradient(lambda times: loss(p.z0, p.theta, times), p.times),
    )


def _extrapolated(f: Callable[[Any], Any], x: Array) -> Array:
    return richardson(f, x, 1e-2)  # truncation of order h⁶, 1e-12, and the solve's 1e-13 over the least h, 2.5e-3


def _analytic(p: Problem, loss: Callable[[Array, Array, Array], Any]) -> bool:
    """Whether complex step agrees with a central difference along one direction of (z0, θ)."""
    rng = np.random.default_rng(0)
    dz0, dtheta = rng.normal(size=p.z0.shape), rng.normal(size=p.theta.shape)

    def along(s: Any) -> Any:
        return loss(p.z0 + s * dz0, p.theta + s * dtheta, p.times)

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            step, difference = complex_step(along, 0.0), central_difference(along, 0.0)
    except Exception:  # whatever somebody else's code raises at a complex number
        return False
    return bool(np.allclose(step, difference, rtol=1e-5, atol=1e-6))


# ---- the check ------------------------------------------------------------------------------------------------------

BLOCKS = ("z0", "theta", "dL/dt0", "dL/dt_i")
RUN = 10  # problems drawn afresh; in a longer run hypothesis turns most of the later ones into variations of few


@dataclass(frozen=True)
class AdjointReport:
    """What `check_adjoint` compared: block -> number of problems, block -> worst relative error."""

    compared: dict[str, int]
    worst: dict[str, float]

    def __str__(self) -> str:
        lines = [f"{'block':8} {'problems':>8} {'worst':>9}"]
        return "\n".join(lines + [f"{block:8} {n:8} {self.worst[block]:9.1e}" for block, n in self.compared.items()])


def check_adjoint(
    my_gradient: Callable[[Problem], Any],
    *,
    problems: SearchStrategy[Problem] | None = None,
    max_examples: int = 30,
    rtol: float = 1e-5,
    times: bool = True,
    seed: int = 0,
) -> AdjointReport:
    """Try a gradient code on generated problems, and say what is wrong with it, block by block.

    Parameters
    ----------
    my_gradient : takes a `Problem`, returns a mapping or an object with z0 (..., n), theta (m,) and, if it has them,
        times (T,): the gradients of L = Σ_i ⟨dL_dz[i], z(t_i)⟩ in the initial state, the parameters and all the times,
        times[0] = dL/dt0 included
    problems : strategy to draw from, by default `problems()`; `problems(fields=...)` for fields of your own
    max_examples : how many problems
    rtol : allowed error, relative to the norm of the block; of the times in units of |a||f|
    times : whether gradients in the times are compared where they are given
    seed : of the problems; the same seed draws the same ones

    Returns an `AdjointReport`. Raises AssertionError at the simplest problem found on which a block is wrong: which
    block, how far, a diagnosis where one explains the numbers, and the problem. What my_gradient raises passes through.
    """
    strategy = _PROBLEMS if problems is None else problems
    compared, worst = dict.fromkeys(BLOCKS, 0), dict.fromkeys(BLOCKS, 0.0)

    def attempt(problem: Problem) -> None:
        answer = _answer(my_gradient(problem), problem, times)
        right = reference_gradient(problem)
        errors = _errors(problem, answer, right)
        if not all(error <= rtol for error in errors.values()):  # NaN fails
            raise _Wrong(problem, answer, right)
        for block, error in errors.items():
            compared[block] += 1
            worst[block] = max(worst[block], error)

    try:
        for start in range(0, max_examples, RUN):
            _try(attempt, strategy, min(RUN, max_examples - start), hash((seed, start)))
    except _Wrong as wrong:
        raise AssertionError(_message(wrong.problem, wrong.answer, wrong.right, rtol)) from None
    return AdjointReport(compared, worst)


def _try(attempt: Callable[[Problem], None], strategy: SearchStrategy[Problem], count: int, seed: int) -> None:
    settings = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
    )
    hypothesis.seed(seed)(settings(hypothesis.given(strategy)(attempt)))()


class _Wrong(AssertionError):
    def __init__(self, problem: Problem, answer: dict[str, Array], right: Blocks) -> None:
        super().__init__()
        self.problem, self.answer, self.right = problem, answer, right


def _answer(given: Any, problem: Problem, times: bool) -> dict[str, Array]:
    """What my_gradient returned, block by block; AssertionError where one is missing or has the wrong shape."""
    found = {}
    for name in ("z0", "theta", "times") if times else ("z0", "theta"):
        value = given.get(name) if isinstance(given, Mapping) else getattr(given, name, None)
        if value is None and name == "times":
            continue
        if value is None:
            raise AssertionError(f"my_gradient must return {name}, got a {type(given).__name__} without it")
        found[name], want = np.asarray(value, dtype=float), getattr(problem, name).shape
        if found[name].shape != want:
            raise AssertionError(f"{name} must have shape {want}, got {found[name].shape}, on {problem}")
    return _parts(Blocks(**found))


def _parts(blocks: Blocks) -> dict[str, Array]:
    """block -> array, of the blocks that are known."""
    parts = {"z0": blocks.z0, "theta": blocks.theta}
    return parts if blocks.times is None else parts | {"dL/dt0": blocks.times[0], "dL/dt_i": blocks.times[1:]}


def _errors(problem: Problem, answer: dict[str, Array], right: Blocks) -> dict[str, float]:
    """block -> |got − want| / scale."""
    want, scales = _parts(right), _scales(problem, right)
    return {block: float(np.linalg.norm(got - want[block])) / scales[block] for block, got in answer.items()}


def _scales(p: Problem, right: Blocks) -> dict[str, float]:
    """What an error is measured by: the block's norm, and |a||f| for the times; at least a thousandth of |dL_dz|."""
    f = np.linalg.norm(_slopes(p).reshape(len(p.times), -1), axis=1)
    dL = np.linalg.norm(p.dL_dz.reshape(len(p.times), -1), axis=1)
    scales = {
        "z0": np.linalg.norm(right.z0),
        "theta": np.linalg.norm(right.theta),
        "dL/dt0": np.linalg.norm(right.z0 - p.dL_dz[0]) * f[0],  # |a(t0)| |f(z0, t0)|
        "dL/dt_i": np.max(dL[1:] * f[1:], initial=0.0),
    }
    least = 1e-3 * float(np.linalg.norm(dL)) or 1.0
    return {block: max(float(scale), least) for block, scale in scales.items()}


def _slopes(p: Problem) -> Array:
    """f(z(t_i), t_i, θ), (T, ..., n)."""
    z = complex_solve(p.field, p.z0, p.theta, p.times)
    return np.array([p.field(z_i, t_i, p.theta) for z_i, t_i in zip(z, p.times, strict=True)])


# ---- the diagnosis --------------------------------------------------------------------------------------------------


def _message(p: Problem, answer: dict[str, Array], right: Blocks, rtol: float) -> str:
    """A line for each block, with the mistakes that predict what a wrong one holds; then the problem."""
    errors, want, mistakes = _errors(p, answer, right), _parts(right), _mistakes(p, right)
    lines = ["the gradient is wrong"]
    for block, got in answer.items():
        if errors[block] <= rtol:
            lines.append(f"  {block}: right, relative error {errors[block]:.1e}")
            continue
        left = 1e-2 * np.linalg.norm(got - want[block])  # what a mistake that explains the error may leave of it
        found = [w for w, parts in mistakes if block in parts and np.linalg.norm(got - parts[block]) <= left]
        diagnosis = " or ".join(found) or "no usual mistake predicts this"
        lines.append(f"  {block}: relative error {errors[block]:.1e}, allowed {rtol:.1e}: {diagnosis}")
        lines += [f"    got      {_shown(got)}", f"    expected {_shown(want[block])}"]
    return "\n".join([*lines, f"on {p}"])


def _shown(x: Array) -> str:
    return np.array2string(x, precision=6, separator=", ", threshold=20).replace("\n", "\n             ")


def _mistakes(p: Problem, right: Blocks) -> list[tuple[str, dict[str, Array]]]:
    """(the mistake, what it makes of the blocks where it shows)."""
    want, samples = _parts(right), p.z0.size // p.field.n
    paired = np.sum((p.dL_dz * _slopes(p)).reshape(len(p.times), -1), axis=1)  # dL_i · f_i
    lost = {"z0": right.z0 - p.dL_dz[0]}
    only_last = _of_other_cotangents(p, np.r_[np.zeros(len(p.times) - 1), 1.0])
    return [
        ("minus the gradient", {"z0": -right.z0, "theta": -right.theta}),
        ("sign of the time gradient", {"dL/dt0": -want["dL/dt0"], "dL/dt_i": -want["dL/dt_i"]}),
        ("twice the gradient", {block: 2.0 * value for block, value in want.items()}),
        ("mean over the batch instead of sum", {block: value / samples for block, value in want.items()}),
        ("transposed Jacobian", _adjoint_with(p, lambda a, J: -np.einsum("...ij,...j->...i", J, a))),
        ("sign of the adjoint equation", _adjoint_with(p, lambda a, J: np.einsum("...i,...ij->...j", a, J))),
        ("only the last observation counted (jumps missing)", only_last),
        ("only the last observation and t0's counted (jumps missing)", {"z0": only_last["z0"] + p.dL_dz[0]}),
        ("jumps subtracted", _of_other_cotangents(p, np.r_[1.0, -np.ones(len(p.times) - 2), 1.0][: len(p.times)])),
        ("cotangents in reverse order", _parts(reference_gradient(replace(p, dL_dz=p.dL_dz[::-1])))),
        ("dL_dz[0] lost", lost),
        ("dL_dz[0] counted twice", {"z0": right.z0 + p.dL_dz[0]}),
        ("dL_dz[0] counted in dL/dt0", {"dL/dt0": want["dL/dt0"] - paired[0]}),
        ("a_t started from 0, not from -dL_dz.f", {"dL/dt0": want["dL/dt0"] + paired[1:].sum()}),
    ]


def _of_other_cotangents(p: Problem, weights: Array) -> dict[str, Array]:
    """The gradient with row i of dL_dz multiplied by weights[i]."""
    return _parts(reference_gradient(replace(p, dL_dz=np.moveaxis(np.moveaxis(p.dL_dz, 0, -1) * weights, -1, 0))))


def _adjoint_with(p: Problem, a_dot: Callable[[Array, Array], Array]) -> dict[str, Array]:
    """z0, θ and t0 blocks of an adjoint solve in which ȧ is not −a ∇§1 f but a_dot(a, ∇§1 f)."""
    z = solve_ivp(
        lambda t, y: p.field(y.reshape(p.z0.shape), t, p.theta).ravel(),
        (p.times[0], p.times[-1]), p.z0.ravel(), method="DOP853", rtol=1e-9, atol=1e-9, dense_output=True,
    ).sol  # fmt: skip

    def rhs(t: float, y: Array) -> Array:
        z_t, a = z(t).reshape(p.z0.shape), y[: p.z0.size].reshape(p.z0.shape)
        da = a_dot(a, jacobian(p.field, z_t, t, p.theta))
        return np.concatenate([da.ravel(), -p.field.vjp(z_t, t, p.theta, a)[2]])

    y = np.zeros(p.z0.size + p.field.m)
    for i in range(len(p.times) - 1, 0, -1):
        y[: p.z0.size] += p.dL_dz[i].ravel()
        y = solve_ivp(rhs, (p.times[i], p.times[i - 1]), y, rtol=1e-7, atol=1e-9).y[:, -1]
    a, theta = y[: p.z0.size].reshape(p.z0.shape), y[p.z0.size :]
    return {"z0": a + p.dL_dz[0], "theta": theta, "dL/dt0": -np.sum(a * p.field(p.z0, p.times[0], p.theta))}
