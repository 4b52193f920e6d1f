"""What is wrong with a vector field, block by block: the first thing to run on a hand-written VJP.

a·∇f is the gradient of the scalar a·f (E17), so every block of a VJP can be differentiated afresh from f alone: by
complex step where the code carries complex numbers, by extrapolated central differences where it does not. Second
derivatives are derivatives of the VJP: w·∇§1 f v is the product of v with the z block of w.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from refode.arguments import real_array
from refode.divergence import directions
from refode.fields import VectorField, of_sample
from refode.finite_difference import central_difference, complex_step, richardson
from refode.types import Array

COMPLEX_TOLERANCE = 1e-11  # rounding of f and of its derivative, some thousand eps
DIFFERENCE_TOLERANCE = 1e-6  # rounding eps/h and truncation h⁶ at the step below, with two decades to spare
DIFFERENCE_STEP = 1e-2


@dataclass(frozen=True)
class Row:
    """One comparison: `worst` is the largest deviation, relative to the largest entry expected."""

    what: str
    worst: float
    allowed: float
    where: str

    @property
    def ok(self) -> bool:
        return self.worst <= self.allowed  # False for NaN


@dataclass(frozen=True)
class FieldReport:
    """Prints as a table; `.ok` is True if every row is. `oracle` says what f was differentiated with."""

    rows: tuple[Row, ...]
    oracle: str

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    def __str__(self) -> str:
        lines = [f"against {self.oracle}", f"{'':4} {'what':28} {'worst':>9} {'allowed':>9}  where"]
        for row in self.rows:
            verdict = "ok" if row.ok else "FAIL"
            lines.append(f"{verdict:4} {row.what:28} {row.worst:9.1e} {row.allowed:9.1e}  {row.where}")
        return "\n".join(lines)


def check_field(
    field: VectorField, z: Any = None, t: float = 0.7, theta: Any = None, *, rng: np.random.Generator | None = None
) -> FieldReport:
    """Compare what a field says of its derivatives with derivatives of the field itself.

    Parameters
    ----------
    field : object with n, m, __call__ and vjp; linearize, jvp and jacobian are checked where it brings them, and, once
        the VJP is right, jvp_vjp and linearize_divergence, for the exact trace and for probes
    z (B, n), t, theta (m,) : where to look; by default three random samples and random parameters, N(0, 1). Give your
        own where the field is not defined everywhere
    rng : draws those and the cotangents; default_rng(0) if None

    Returns a `FieldReport`. What the field raises becomes a row of it.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    z = real_array("z", rng.normal(size=(3, field.n)) if z is None else z, ("B", field.n))
    theta = real_array("theta", rng.normal(size=field.m) if theta is None else theta, (field.m,))
    a = real_array("a", rng.normal(size=z.shape))  # read-only, like z and theta: a field that writes to one raises
    probe = _Probe(field, z, float(real_array("t", t, ())), theta, a, rng)
    rows = []
    for what, compare in probe.comparisons():
        rows.append(_row(what, compare, probe.allowed))
        if what == "f: shape and dtype" and not rows[-1].ok:
            break  # nothing else can be said
    if all(row.ok for row in rows if row.what.startswith(("f:", "vjp:"))):
        rows += [_row(what, compare, probe.allowed_twice) for what, compare in probe.second_derivatives()]
    return FieldReport(tuple(rows), probe.oracle)


Comparison = tuple[Any, Array, str]  # got, want, the name of the array whose entry is at fault


def _row(what: str, compare: Callable[[], Comparison], allowed: float) -> Row:
    try:
        got, want, name = compare()
        got = np.asarray(got)
    except Exception as error:  # whatever a field of somebody else's may raise belongs in the report
        return Row(what, np.nan, allowed, f"raised {type(error).__name__}: {error}")
    if got.dtype.kind not in "iufc":
        return Row(what, np.nan, allowed, f"dtype {got.dtype}, expected {want.dtype}")
    if got.shape != want.shape:
        return Row(what, np.nan, allowed, f"shape {got.shape}, expected {want.shape}")
    if want.size == 0:
        return Row(what, 0.0, allowed, "empty")
    deviation = abs(got - want)
    worst = np.unravel_index(np.argmax(deviation), deviation.shape)
    index = f"[{', '.join(str(i) for i in worst)}]" if worst else ""
    scale = max(float(abs(want).max()), 1e-3)  # a block that is zero is held to an absolute error
    return Row(
        what, float(deviation[worst]) / scale, allowed, f"{name}{index}: {got[worst]:.6g}, expected {want[worst]:.6g}"
    )


class _Probe:
    """A field at one random point, and what each of its methods should say there."""

    def __init__(
        self, field: VectorField, z: Array, t: float, theta: Array, a: Array, rng: np.random.Generator
    ) -> None:
        self.field, self.z, self.t, self.theta, self.a = field, z, t, theta, a
        self.tangent = rng.normal(size=z.shape), float(rng.normal()), rng.normal(size=field.m)
        self.c, self.w = rng.normal(size=len(z)), rng.normal(size=z.shape)
        self.v, self.probes = rng.normal(size=z.shape), rng.normal(size=(2, *z.shape))
        self.analytic = self._carries_complex(field)
        self.oracle = "complex step" if self.analytic else "central differences"
        self.allowed = COMPLEX_TOLERANCE if self.analytic else DIFFERENCE_TOLERANCE

    @cached_property
    def analytic_twice(self) -> bool:
        """Whether the z block of the VJP carries complex numbers as well."""
        return self.analytic and self._carries_complex(lambda z, t, theta: self.field.vjp(z, t, theta, self.a)[0])

    @property
    def allowed_twice(self) -> float:
        return COMPLEX_TOLERANCE if self.analytic_twice else DIFFERENCE_TOLERANCE

    def _carries_complex(self, f: Callable[..., Array]) -> bool:
        """Whether complex step of f(z, t, θ) agrees with a central difference along one direction."""

        def along(s: Any) -> Any:
            dz, dt, dtheta = self.tangent
            return f(self.z + s * dz, self.t + s * dt, self.theta + s * dtheta)

        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                return bool(np.allclose(complex_step(along, 0.0), central_difference(along, 0.0), rtol=1e-5, atol=1e-6))
        except Exception:
            return False

    def gradient(self, f: Callable[[Any], Any], x: Any) -> Array:
        return complex_step(f, x) if self.analytic else richardson(f, x, DIFFERENCE_STEP)

    def comparisons(self) -> Iterator[tuple[str, Callable[[], Comparison]]]:
        field = self.field
        yield "f: shape and dtype", self._shape
        yield "f: batch = one by one", self._batch
        yield "vjp: a.df/dz", lambda: (self._vjp()[0], self._blocks()[0], "z")
        yield "vjp: a.df/dt", lambda: (self._vjp()[1], self._blocks()[1], "t")
        yield "vjp: a.df/dtheta", lambda: (self._vjp()[2], self._blocks()[2], "theta")
        if hasattr(field, "linearize"):
            yield "linearize: f", lambda: (self._linearize()[0], self._f(), "f")
            for block, name in enumerate(("z", "t", "theta")):
                yield f"linearize: a.df/d{name}", self._pullback(block, name)
        if hasattr(field, "jvp"):
            yield "jvp", self._jvp
        if hasattr(field, "jacobian"):
            yield "jacobian", self._jacobian

    def second_derivatives(self) -> Iterator[tuple[str, Callable[[], Comparison]]]:
        """What can be compared if the VJP is right."""
        if hasattr(self.field, "jvp_vjp"):
            for block, name in enumerate(("z", "t", "theta")):
                yield f"jvp_vjp: w.d(Jv)/d{name}", partial(self._jvp_vjp, block, name)
        if hasattr(self.field, "linearize_divergence"):
            for kind, probes in (("trace", None), ("probes", self.probes)):
                yield f"{kind}: f", partial(self._divergence, 0, probes)
                yield f"{kind}: tau", partial(self._divergence, 1, probes)
                for block, name in enumerate(("z", "t", "theta")):
                    yield f"{kind}: d/d{name}", partial(self._divergence_pullback, probes, block, name)

    def _f(self) -> Array:
        return self.field(self.z, self.t, self.theta)

    def _vjp(self) -> tuple[Array, Array, Array]:
        z_bar, t_bar, theta_bar = self.field.vjp(self.z, self.t, self.theta, self.a)  # three, not two or four
        return z_bar, t_bar, theta_bar

    def _linearize(self) -> Any:
        return self.field.linearize(self.z, self.t, self.theta)  # type: ignore[attr-defined]

    def _pullback(self, block: int, name: str) -> Callable[[], Comparison]:
        def compare() -> Comparison:
            _, pullback = self._linearize()
            pullback(self.a)  # what a pullback keeps must outlast its first use
            z_bar, t_bar, theta_bar = pullback(self.a)
            return (z_bar, t_bar, theta_bar)[block], self._blocks()[block], name

        return compare

    def _blocks(self) -> tuple[Array, Array, Array]:
        """∇(a·f) in z, t and θ, from f alone."""
        f, z, t, theta = self.field, self.z, self.t, self.theta
        return (
            self.gradient(lambda x: np.sum(self.a * f(x, t, theta)), z),
            self.gradient(lambda x: np.sum(self.a * f(z, x, theta)), t),
            self.gradient(lambda x: np.sum(self.a * f(z, t, x)), theta),
        )

    def _shape(self) -> Comparison:
        dz = np.asarray(self._f())
        if dz.dtype != np.float64:
            raise TypeError(f"f returned dtype {dz.dtype} for float64 arguments")
        return dz, dz if dz.shape == self.z.shape else np.empty(self.z.shape), "f"

    def _batch(self) -> Comparison:
        return self._f(), np.stack([field(z, self.t, self.theta) for field, z in self._alone()]), "f"

    def _gradient_twice(self, g: Callable[[Any, Any, Any], Any], block: int) -> Array:
        """One block of the gradient of the scalar g(z, t, θ), which is made of f and its VJP."""
        z, t, theta = self.z, self.t, self.theta
        of_block: Callable[[Any], Any] = (
            lambda x: g(x, t, theta), lambda x: g(z, x, theta), lambda x: g(z, t, x)
        )[block]  # fmt: skip
        x = (z, t, theta)[block]
        return complex_step(of_block, x) if self.analytic_twice else richardson(of_block, x, DIFFERENCE_STEP)

    def _jvp_vjp(self, block: int, name: str) -> Comparison:
        def paired(z: Any, t: Any, theta: Any) -> Any:  # w·J v
            return np.sum(self.field.vjp(z, t, theta, self.w)[0] * self.v)

        z_bar, t_bar, theta_bar = self.field.jvp_vjp(  # type: ignore[attr-defined]
            self.z, self.t, self.theta, self.v, self.w
        )
        return (z_bar, t_bar, theta_bar)[block], self._gradient_twice(paired, block), name

    def _divergence(self, part: int, probes: Array | None) -> Comparison:
        """f, and τ = κ Σ v·J v from f alone."""
        got = self.field.linearize_divergence(self.z, self.t, self.theta, probes)  # type: ignore[attr-defined]
        if part == 0:
            return got[0], self._f(), "f"
        V, weight = directions(self.z, probes)
        JV = self.gradient(lambda s: np.stack([self.field(self.z + s * v, self.t, self.theta) for v in V]), 0.0)
        return got[1], weight * np.sum(V * JV, axis=(0, -1)), "tau"

    def _divergence_pullback(self, probes: Array | None, block: int, name: str) -> Comparison:
        V, weight = directions(self.z, probes)

        def paired(z: Any, t: Any, theta: Any) -> Any:  # Σ a·f + Σ c τ
            samples, v = np.broadcast_to(z, V.shape).reshape(-1, z.shape[-1]), V.reshape(-1, z.shape[-1])
            J_v = self.field.vjp(samples, t, theta, v)[0] * v
            tau = weight * np.sum(J_v.reshape(V.shape), axis=(0, -1))
            return np.sum(self.a * self.field(z, t, theta)) + np.sum(self.c * tau)

        _, _, pullback = self.field.linearize_divergence(  # type: ignore[attr-defined]
            self.z, self.t, self.theta, probes
        )
        pullback(self.a, self.c)  # what a pullback keeps must outlast its first use
        z_bar, t_bar, theta_bar = pullback(self.a, self.c)
        return (z_bar, t_bar, theta_bar)[block], self._gradient_twice(paired, block), name

    def _alone(self) -> list[tuple[Any, Array]]:
        """Each sample and its field."""
        return [(of_sample(self.field, (i,)), z) for i, z in enumerate(self.z)]

    def _jvp(self) -> Comparison:
        dz, dt, dtheta = self.tangent
        got = self.field.jvp(self.z, self.t, self.theta, dz, dt, dtheta)  # type: ignore[attr-defined]
        want = self.gradient(lambda s: self.field(self.z + s * dz, self.t + s * dt, self.theta + s * dtheta), 0.0)
        return got, want, "f"

    def _jacobian(self) -> Comparison:
        got = self.field.jacobian(self.z, self.t, self.theta)  # type: ignore[attr-defined]
        want = [self.gradient(partial(_of_z, field, self.t, self.theta), z) for field, z in self._alone()]
        return got, np.stack(want), "jacobian"


def _of_z(field: VectorField, t: float, theta: Array, z: Array) -> Array:
    return field(z, t, theta)
