"""Checks of what callers hand in: every refusal names the argument, what came, and what was expected."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np

from refode.types import Array

LEAST_GAP = 1e-100  # below it the products of a step size underflow in the solvers


def real_array(name: str, value: Any, shape: tuple[int | str, ...] | None = None, *, booleans: bool = False) -> Array:
    """A read-only float64 copy of `value`, checked.

    `shape` says what is expected: an int is a length, "..." (first) any leading axes, any other word a free length.
    Raises TypeError for complex, object, text and, unless `booleans` says that they are 0 and 1, for booleans;
    ValueError for NaN, infinity and a wrong shape.
    """
    try:
        raw = np.asarray(value)
    except ValueError as error:  # a ragged nest of lists
        raise TypeError(f"{name} must be a rectangular array of real numbers: {error}") from None
    if raw.dtype.kind not in ("iufb" if booleans else "iuf"):
        raise TypeError(f"{name} must hold real numbers, got dtype {raw.dtype}")
    array = np.array(raw, dtype=np.float64, order="C")
    if shape is not None and not _fits(array.shape, shape):
        wanted = ", ".join(str(length) for length in shape) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")
    if not np.isfinite(array).all():
        where = tuple(np.argwhere(~np.isfinite(array))[0])
        at = f" at [{', '.join(str(i) for i in where)}]" if where else ""
        raise ValueError(f"{name} must be finite, got {array[where]}{at}")
    array.setflags(write=False)
    return array


def _fits(got: tuple[int, ...], shape: tuple[int | str, ...]) -> bool:
    if shape and shape[0] == "...":
        shape = shape[1:]
        got = got[len(got) - len(shape) :] if len(got) >= len(shape) else ()
    if len(got) != len(shape):
        return False
    return all(isinstance(want, str) or length == want for length, want in zip(got, shape, strict=True))


def observation_times(times: Any) -> Array:
    """Strictly monotone times, either way, (T,) with T at least 1."""
    array = real_array("times", times, ("T",))
    if array.size == 0:
        raise ValueError("times must hold at least t0, got an empty array")
    with np.errstate(over="ignore"):  # an infinite span is refused below
        steps, span = np.diff(array), array[-1] - array[0]
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"times must be strictly increasing or strictly decreasing, got {array}")
    if not np.isfinite(span):
        raise ValueError(f"times must span a finite interval, got {array[0]} to {array[-1]}")
    if (abs(steps) < LEAST_GAP).any():
        raise ValueError(f"times must lie at least {LEAST_GAP:g} apart, got {array}")
    return array


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """`value` if it is one of the known names; else ValueError with the nearest of them."""
    known = list(known)
    if isinstance(value, str) and value in known:
        return str(value)
    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(str(value).lower(), by_lower, n=1, cutoff=0.4)
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}{hint}")


def tolerance(name: str, value: Any, least: float) -> float:
    """A finite number of at least `least`; else ValueError."""
    number = float(real_array(name, value, ()))
    if number < least:
        raise ValueError(f"{name} must be at least {least:.3g}, got {number:.3g}")
    return number


def count(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`; else TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)
