"""How anything here is believed: derivatives that know nothing of the chain rule.

A hand-written derivative is compared with one of these. Central differences need only values; complex step
is exact to rounding where the code is analytic; Richardson's table squeezes more digits out of differences;
`slope` measures an order of convergence; `complex_solve` carries a complex z0, θ or time through an ODE.
Derivatives have the shape f(x).shape + x.shape: outputs first, as in the note's Jacobians.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp

Function = Callable[[Any], ArrayLike]
Array = NDArray[Any]

# Truncation h²|f‴|/6 and rounding eps|f|/h balance near h = eps^(1/3), for f and f‴ of one size.
CENTRAL_STEP = float(np.finfo(float).eps) ** (1 / 3)
# h² must vanish beside 1, and h times a derivative must not underflow.
COMPLEX_STEP = 1e-30
# solve_ivp raises a smaller rtol to 100 eps; asking for what it will not do is refused.
SMALLEST_RTOL = 100 * float(np.finfo(float).eps)
SOLVERS = ("RK45", "DOP853")


def central_difference(f: Function, x: ArrayLike, step: ArrayLike | None = None) -> Array:
    """(f(x + h e_i) − f(x − h e_i)) / 2h, entry by entry: error O(h²).

    Parameters
    ----------
    f : function of a real array like x, with a scalar or array value.
    x : ndarray of any shape, or a scalar; real and finite.
    step : h > 0, one for all or one an entry; by default eps^(1/3) max(1, |x_i|).

    Returns
    -------
    ndarray, shape f(x).shape + x.shape

    Raises
    ------
    TypeError for x that is not real; ValueError for x that is not finite, for a step that is not positive
    or has another shape than x.
    """
    x = _real("x", x)
    h = CENTRAL_STEP * np.maximum(1.0, np.abs(x)) if step is None else _steps(step, x)

    def column(index: tuple[int, ...]) -> Array:
        up, down = _moved(x, index, h[index]), _moved(x, index, -h[index])
        slope_i: Array = np.subtract(f(up), f(down)) / (up[index] - down[index])
        return slope_i

    return _columns(column, f, x)


def complex_step(f: Function, x: ArrayLike, step: float = COMPLEX_STEP) -> Array:
    """Im f(x + i h e_i) / h, entry by entry: exact to rounding where f is analytic code.

    Nothing is subtracted, so nothing cancels and h can be tiny. f must carry complex numbers through (no |x|,
    no comparison, no cast to real); an f that returns real numbers gets the derivative 0.

    Parameters and result as in `central_difference`; `step` is one number.
    """
    x = _real("x", x)
    h = float(_steps(step, np.zeros(()))[()])

    def column(index: tuple[int, ...]) -> Array:
        return np.imag(np.asarray(f(_moved(x, index, 1j * h)))) / h

    return _columns(column, f, x)


def directional_difference(f: Function, x: ArrayLike, v: ArrayLike, step: float | None = None) -> Array:
    """(f(x + h v) − f(x − h v)) / 2h: the directional derivative ∇f·v, shape f(x).shape.

    By default h moves the entry that moves most, on its scale max(1, |x_i|), by eps^(1/3).
    """
    x, v = _pair(x, v)
    speed = float(np.max(np.abs(v) / np.maximum(1.0, np.abs(x)), initial=0.0))
    h = CENTRAL_STEP / (speed or 1.0) if step is None else float(_steps(step, np.zeros(()))[()])
    difference: Array = np.subtract(f((x + h * v)[()]), f((x - h * v)[()]))
    return difference / (2 * h)


def directional_complex_step(f: Function, x: ArrayLike, v: ArrayLike, step: float = COMPLEX_STEP) -> Array:
    """Im f(x + i h v) / h: the directional derivative ∇f·v of analytic code, exact to rounding."""
    x, v = _pair(x, v)
    h = float(_steps(step, np.zeros(()))[()])
    return np.imag(np.asarray(f((x + 1j * h * v)[()]))) / h


def richardson(f: Function, x: ArrayLike, step: ArrayLike, levels: int = 3) -> Array:
    """Central differences with h, h/2, h/4, ... extrapolated to h = 0: error O(h^(2·levels)).

    The error of a central difference is a series in h², so each column of Neville's table removes one power,
    D ← D(h/2) + (D(h/2) − D(h)) / (4^k − 1): one level is the plain difference, two have order 4, three 6.
    Rounding grows as eps|f|/(h/2^(levels−1)): begin with a step that is not small.

    Parameters and result as in `central_difference`; `step` is required.
    """
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}")
    h = _steps(step, _real("x", x))
    table = [central_difference(f, x, h / 2**level) for level in range(levels)]
    for k in range(1, levels):
        table = [fine + (fine - rough) / (4**k - 1) for rough, fine in pairwise(table)]
    return table[0]


def slope(h: ArrayLike, error: ArrayLike) -> float:
    """The measured order of convergence: the least-squares slope of log(error) over log(h).

    h and error are sequences of one length, at least two, positive and finite; ValueError otherwise, since an
    error of 0 or NaN says that something other than convergence was measured.
    """
    h, error = np.asarray(h, dtype=float), np.asarray(error, dtype=float)
    if h.ndim != 1 or h.shape != error.shape or len(np.unique(h)) < 2:
        raise ValueError(f"slope needs at least two distinct h, an error for each; got {h}, {error}")
    for name, values in (("h", h), ("error", error)):
        if not np.all((values > 0) & np.isfinite(values)):
            raise ValueError(f"slope needs positive, finite numbers; {name} is {values}")
    log_h, log_error = np.log(h) - np.mean(np.log(h)), np.log(error)
    return float(log_h @ log_error / (log_h @ log_h))


def complex_solve(
    field: Callable[[Any, Any, Any], ArrayLike],
    z0: ArrayLike,
    theta: ArrayLike,
    times: ArrayLike,
    *,
    method: str = "DOP853",
    rtol: float = 1e-13,
    atol: float = 1e-13,
) -> Array:
    """Solve ż = f(z, t, θ), for complex z0, θ and times as well, so that complex step goes through an ODE.

    Each interval is rescaled to u in [0, 1]: dz/du = Δt f(z, t_i + u Δt, θ), Δt = t_{i+1} − t_i, so that a
    complex time is a complex factor and the ends of an interval can be differentiated too.

    Parameters
    ----------
    field : field(z, t, theta) -> dz/dt, as everywhere here; analytic code if anything is complex.
    z0 : ndarray, shape (..., n)
    theta : ndarray, shape (m,)
    times : ndarray, shape (T,); times[0] belongs to z0; any order, equal neighbours allowed.
    method : "RK45" or "DOP853", the solvers of SciPy that take complex states.
    rtol, atol : tolerances of SciPy; rtol not below 100 eps, where SciPy would raise it.

    Returns
    -------
    ndarray, shape (T, ..., n); complex if z0, theta or times are.

    Raises
    ------
    ValueError for unusable arguments, RuntimeError when the solver stops early or f is not finite.
    """
    if method not in SOLVERS:
        raise ValueError(f"method must be one of {', '.join(SOLVERS)}, got {method!r}")
    if not rtol >= SMALLEST_RTOL:
        raise ValueError(f"rtol must be at least 100 eps = {SMALLEST_RTOL:.1e}, got {rtol!r}")
    z0, theta, times = np.asarray(z0), np.asarray(theta), np.asarray(times)
    if z0.ndim < 1 or theta.ndim != 1 or times.ndim != 1 or times.size < 1:
        shapes = f"{z0.shape}, {theta.shape}, {times.shape}"
        raise ValueError(f"z0, theta, times must have shapes (..., n), (m,), (T,), got {shapes}")
    dtype = np.result_type(z0, theta, times, float)
    states = [z0.astype(dtype)]
    for t, t_next in pairwise(times):
        states.append(_interval(field, states[-1], theta, t, t_next, method=method, rtol=rtol, atol=atol))
    return np.stack(states)


def _interval(
    field: Callable[[Any, Any, Any], ArrayLike], z: Array, theta: Array, t: Any, t_next: Any, **options: Any
) -> Array:
    """Carry z from t to t_next."""
    if t == t_next or z.size == 0:
        return z

    def rescaled(u: float, y: Array) -> Array:
        t_u = t + u * (t_next - t)
        dz_dt = np.asarray(field(y.reshape(z.shape), t_u, theta))
        if not np.all(np.isfinite(dz_dt)):
            raise RuntimeError(f"field is not finite at t = {t_u}, where max|z| = {np.max(np.abs(y)):.3g}")
        dz_du: Array = (t_next - t) * dz_dt
        return dz_du.reshape(-1)

    # DOP853's error estimate is 0/0 when a tiny derivative underflows in it; the step is tried again, smaller.
    with np.errstate(invalid="ignore"):
        solution = solve_ivp(rescaled, (0.0, 1.0), z.reshape(-1), **options)
    if not solution.success:
        raise RuntimeError(f"the solve from t = {t} to {t_next} stopped: {solution.message}")
    return np.asarray(solution.y[:, -1]).reshape(z.shape)


def _columns(column: Callable[[tuple[int, ...]], Array], f: Function, x: Array) -> Array:
    """Lay one derivative an entry of x along the last axes: f(x).shape + x.shape."""
    columns = [column(index) for index in np.ndindex(x.shape)]
    if not columns:
        return np.zeros(np.shape(f(x)) + x.shape)
    return np.stack(columns, axis=-1).reshape(columns[0].shape + x.shape)


def _moved(x: Array, index: tuple[int, ...], h: complex) -> Any:
    """x with h added to one entry; a scalar stays a scalar."""
    moved = x.astype(np.result_type(x, type(h)))
    moved[index] += h
    return moved[()]


def _real(name: str, values: ArrayLike) -> Array:
    values = np.asarray(values)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be real, got dtype {values.dtype}")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{name} must be finite, got {values}")
    return values.astype(float)


def _pair(x: ArrayLike, v: ArrayLike) -> tuple[Array, Array]:
    x, v = _real("x", x), _real("v", v)
    if x.shape != v.shape:
        raise ValueError(f"v must have the shape of x, {x.shape}, got {v.shape}")
    return x, v


def _steps(step: ArrayLike, x: Array) -> Array:
    h = _real("step", step)
    if h.shape not in ((), x.shape) or not np.all(h > 0):
        raise ValueError(f"step must be positive, one number or one an entry of x {x.shape}, got {h}")
    return np.broadcast_to(h, x.shape)
