"""March: an explicit Runge-Kutta solve that writes a tape, for gradients by backpropagation through its steps.

It steps as SciPy's RK23, RK45 and DOP853 do, by the same tables, norm and control of the step size (Hairer, Nørsett and
Wanner, section II.4), and as our Euler and RK4. What differs: the first step is longer, an adaptive step ends at the
last observation within its reach and interpolates those before it (by DOP853, whose interpolant takes further slopes,
it ends at each), what is left before a stop is divided evenly once it is four steps or fewer, and what a stop cut short
is taken up again behind it. And every slope goes onto a tape, that of stage i of step k into slot S k + i; slot
S (k + 1) holds the slope at the end of step k, with which the next one begins.

All arrays are made once and written in place: the gradient of a small net is a few hundred array operations, and what
it costs is their overhead.
"""

from dataclasses import dataclass, field
from math import ceil, hypot, inf, isfinite, sqrt, ulp

import numpy as np
from scipy.integrate import DOP853, RK23, RK45, OdeSolver

from refode.steppers import RK4, Euler, FixedStep, Tsit5, tableau
from refode.tape import Tape
from refode.types import Array

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0  # SciPy's: of the ideal next step, and by how much it may change at most
FIRST = 2.0  # half of C^(−1/(q+1)), as below, in the median of random nets and classical fields
EVEN = 4  # steps left before a stop that are made even: their errors add up to less than of long ones and a short one
FAR = 1e50  # times beyond are left to `solve`: a tape takes t for an inner layer's unit too, squared, and times 0
MARCHING = (RK23, RK45, Tsit5, DOP853, Euler, RK4)


class Lost(Exception):
    """The march can't go on: f is not finite, the step vanishes, evaluations or memory are spent, t is too far."""


@dataclass
class Marched:
    """What a march did: the size of every accepted step, and where the observations lie."""

    h: list[float] = field(default_factory=list)
    at_end: dict[int, int] = field(default_factory=dict)  # steps done -> the observation there
    inside: dict[int, tuple[int, Array]] = field(default_factory=dict)  # step -> the first of those in it, and h w(x)
    nfev: int = 0


class March:
    """Solves by one method for states (B, n), one after another, in the same memory."""

    def __init__(self, tape: Tape, shape: tuple[int, int], method: type[OdeSolver]) -> None:
        table = tableau(method)
        assert table is not None
        self.tape, self.S = tape, table.stages
        S = self.S
        self.A = np.vstack([table.A[:S, :S], table.b[:S]])  # the new state is one more stage: z_S = y + h Σ b_j k_j
        self.weights = table.weights  # of the interpolant
        self.interpolates = len(table.b) <= S + 1  # by the slopes that a step has, not by further ones
        if not issubclass(method, FixedStep):
            self.exponent: float = -1.0 / (method.error_estimator_order + 1)
            self.E = np.stack([method.E5, method.E3] if issubclass(method, DOP853) else [method.E])
        # F = (y, k_0, ..., k_S), and the rows (1, h A_i0, ..., h A_i,i−1) of every stage
        self.F = np.zeros((S + 2, shape[0] * shape[1]))
        self.M = np.ones((S + 1, S + 1))
        self.hA = self.M[:, 1:]
        self.y, self.slopes, self.y_new = self.F[0], self.F[1:], np.empty_like(self.F[0])
        self.first, self.last = self.F[1], self.F[-1]  # the slopes at the two ends of a step
        self.k = [slope.reshape(shape) for slope in self.slopes]
        z = np.empty_like(self.y)
        self.stages = [
            (i, self.M[i, : i + 1], self.F[: i + 1], state, state.reshape(shape), float(c), self.k[i])
            for i, (c, state) in enumerate(zip([*table.c[:S], 1.0], [z] * S + [self.y_new], strict=True))
        ][1:]

    def solve(
        self, z0: Array, theta: Array, times: Array, rtol: float, atol: float, max_nfev: int, step: float | None = None
    ) -> tuple[Array, Marched]:
        """The states (T, B n) at `times`, and the steps; `step` is for methods without error control. Raises Lost."""
        self.rtol, self.atol, self.max_nfev = rtol, atol, max_nfev
        self.times, self.t, steps = times, times.tolist(), Marched(nfev=1)
        if max(abs(self.t[0]), abs(self.t[-1])) > FAR:
            raise Lost
        z = np.empty((len(times), self.y.size))
        z[0] = self.y[...] = z0
        self.tape.bind(theta)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            try:
                self.tape.linearize(0, self.y.reshape(self.k[0].shape), self.t[0], self.k[0])
                if step is None:
                    self._adaptive(z, steps)
                else:
                    self._equal(z, steps, step)
            except (ArithmeticError, MemoryError):  # the former of Python's floats, where NumPy's would be infinite
                raise Lost from None
        return z, steps

    def _equal(self, z: Array, steps: Marched, step: float) -> None:
        """⌈|span| / step⌉ equal steps, observed by the interpolant."""
        t, first = self.t, 1
        count = FixedStep.count(t[0], t[-1], step)
        for k in range(count):
            start, end = t[0] + (t[-1] - t[0]) * k / count, t[0] + (t[-1] - t[0]) * (k + 1) / count
            end = t[-1] if k + 1 == count else end  # to the bit, so that no observation lies behind it
            self._try(k, start, end - start, steps)
            if not isfinite(self.F.sum()):
                raise Lost
            first = self._observe(steps, k, start, end, first, z)
            self._accept(steps, end - start)
        z[-1] = self.y
        steps.at_end[count] = len(t) - 1

    def _adaptive(self, z: Array, steps: Marched) -> None:
        """Steps of estimated error below 1 in units of the tolerance; observation i is the next to be seen."""
        t, i, k, last = self.t, 1, 0, len(self.t) - 1
        now = t[0]
        sign, refused = (1.0 if t[-1] > now else -1.0), False
        size = np.abs(self.y)
        natural = self._first_step(now, sign, abs(t[-1] - now), size)
        steps.nfev += 1
        while i <= last:
            j = i  # the step ends at the last observation within its reach; those before it are interpolated
            while self.interpolates and j < last and abs(t[j + 1] - now) <= natural:
                j += 1
            distance = abs(t[j] - now)
            left = ceil(distance / natural)  # steps, if the natural one stays as it is
            way = distance / left if left <= EVEN else natural
            end = t[j] if left <= 1 else now + sign * way
            h = abs(end - now)
            if h <= 10 * ulp(now):
                raise Lost
            self._try(k, now, end - now, steps)
            new_size = np.abs(self.y_new)
            error = self._error(h, np.maximum(size, new_size))
            if not isfinite(error):
                raise Lost
            if error >= 1.0:
                natural, refused = h * max(SHRINK, SAFETY * error**self.exponent), True
                continue
            if h > SHRINK * natural:  # a step that a stop cut shorter than that tells nothing of the next
                ideal = h * SAFETY * error**self.exponent if error > 0 else GROW * h
                natural = min(ideal, natural if refused else max(natural, GROW * h))
            refused = False
            i = self._observe(steps, k, now, end, i, z)
            self._accept(steps, end - now)
            now, size, k = end, new_size, k + 1
            if end == t[i]:
                z[i] = self.y
                steps.at_end[k] = i
                i += 1

    def _try(self, k: int, t: float, h: float, steps: Marched) -> None:
        """The slopes k_1, ..., k_S and the new state of a step of size h from t."""
        steps.nfev += self.S
        if steps.nfev > self.max_nfev:
            raise Lost
        np.multiply(self.A, h, self.hA)
        slot, linearize = self.S * k, self.tape.linearize
        for i, row, F, state, z, c, slope in self.stages:
            row.dot(F, state)  # z_i = y + h Σ_{j<i} A_ij k_j
            linearize(slot + i, z, t + c * h, slope)

    def _accept(self, steps: Marched, h: float) -> None:
        self.y[...] = self.y_new
        self.first[...] = self.last
        steps.h.append(h)

    def _observe(self, steps: Marched, k: int, start: float, end: float, first: int, z: Array) -> int:
        """z(t_i) = y + h Σ_j w_j(x) k_j at the fractions x of the step where observations lie; the first beyond it."""
        beyond, h = first, end - start
        while (self.t[beyond] - end) * h < 0:
            beyond += 1
        if beyond > first:
            hw = h * self.weights((self.times[first:beyond] - start) / h)
            z[first:beyond] = hw.dot(self.slopes[: hw.shape[1]])
            z[first:beyond] += self.y
            steps.inside[k] = first, hw
        return beyond

    def _error(self, h: float, size: Array) -> float:
        """The embedded error in units of atol + rtol |y|, root mean square; DOP853 weighs two against each other.

        `size` (B n,), the larger |y|, is overwritten.
        """
        size *= self.rtol
        size += self.atol
        scaled = self.E.dot(self.slopes)
        scaled /= size
        if len(scaled) == 1:
            return h * _rms(scaled[0])
        fifth, third = h * _rms(scaled[0]), h * _rms(scaled[1])
        return fifth * (fifth / hypot(fifth, 0.1 * third)) if fifth else 0.0

    def _first_step(self, t: float, sign: float, span: float, size: Array) -> float:
        """A guess. One Euler step of h0 shows how fast f changes: |ÿ| ≈ |f(y + h0 ẏ) − ẏ| / h0, |·| as in `_error`.

        A step errs by C h^(q+1) |y^(q+1)|, which is 1 for h = (C |y^(q+1)|)^−p, p = 1/(q+1). If derivatives go on
        growing by λ = |ÿ|/|ẏ|, then |y^(q+1)| = λ^q |ẏ|; FIRST is half of C^−p. Where ẏ passes through 0 that is far
        too much: h is no less than Hairer, Nørsett and Wanner's (0.01 / max(|ẏ|, |ÿ|))^p, elsewhere an eighth of what
        would do. Where ÿ does it is too little: h is at most 100 h0. Their h0 is a hundredth of |y|/|ẏ|; here it is no
        longer than (0.01 / |ẏ|)^p, since the size of a y far from 0 says nothing of how fast f changes.
        """
        scale, p = self.atol + self.rtol * size, -self.exponent
        k0, k1 = self.slopes[0], self.slopes[1]
        d0, d1 = _rms(self.y / scale), _rms(k0 / scale)
        known = d0 >= 1e-5 and d1 >= 1e-5
        h0 = min(0.01 * d0 / d1, (0.01 / d1) ** p, span) if known else min(1e-6, span)
        self.y_new[...] = self.y + sign * h0 * k0
        self.tape.linearize(1, self.y_new.reshape(self.k[1].shape), t + sign * h0, self.k[1])
        d2 = _rms((k1 - k0) / scale) / h0
        if not isfinite(d1 + d2):
            raise Lost
        most = max(d1, d2)
        h1: float = (0.01 / most) ** p if most > 1e-15 else max(1e-6, h0 * 1e-3)
        if known:
            h1 = max(h1, FIRST * (d1 / d2) ** (1 - p) * d1**-p if d2 > 0 else inf)
        return min(100 * h0, h1, span)


def _rms(x: Array) -> float:
    return sqrt(x.dot(x) / x.size)
