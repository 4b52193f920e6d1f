"""Densities in the plane to train on: seven to sample from, four given by their energies.

`name(size, rng, ...)` draws from each of the seven, and `name_logpdf(x, ...)` is its exact density, so that a fit can
be compared with the truth. The parameter `noise` is the standard deviation of the Gaussian noise, in the units of the
curve it is added to. Then the points are standardised, x = (y − mean)/deviation, by the population's constants, which
each docstring derives (here c, s are cos, sin of a uniform angle and σ is the noise), never by those of the sample:
every coordinate has mean 0 and variance 1 (a picture keeps its shape: the mean of its variances is 1), and the
density that is written down is that of the points.

The four energies, U1 to U4, are targets without samples: `logq` is known, its `log_Z` by integration.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.integrate import quad
from scipy.spatial.distance import cdist
from scipy.special import gamma, i0e

from refode.arguments import count, real_array, tolerance
from refode.types import Array

LEAST_NOISE = 0.01  # of a density; samples may do without noise
BLOCK = 2**20  # numbers of 8 bytes that a density may hold at a time


# ---- what all share ----------------------------------------------------------------------------------------------


def _arguments(size: Any, rng: Any, noise: Any = 0.0) -> tuple[int, float]:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, as default_rng(seed) makes one; got {rng!r}")
    return count("size", size), tolerance("noise", noise, 0.0)


def _points(x: Any) -> Array:
    return real_array("x", x, ("...", 2))


def _density_arguments(x: Any, noise: Any) -> tuple[Array, float]:
    return _points(x), tolerance("noise", noise, LEAST_NOISE)


def _noisy(y: Array, noise: float, rng: np.random.Generator) -> Array:
    return np.asarray(y + noise * rng.normal(size=y.shape))


def _unit(angle: Array) -> Array:
    """(cos φ, sin φ), (..., 2)."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _log_mixture(y: Array, centres: Array, weights: Array, noise: float) -> Array:
    """log Σ_k w_k N(y; c_k, σ²I) at y (..., 2), for centres (K, 2) and weights (K,)."""
    points, block = y.reshape(-1, 2), max(1, BLOCK // len(centres))
    out = np.empty(len(points))
    for start in range(0, len(points), block):
        u = cdist(points[start : start + block], centres, "sqeuclidean") / (2 * noise**2)
        least = u.min(axis=1)
        out[start : start + block] = np.log(np.exp(least[:, None] - u) @ weights) - least
    return np.asarray(out.reshape(y.shape[:-1]) - np.log(2 * np.pi * noise**2))


@cache
def _gauss_legendre(order: int) -> tuple[Array, Array]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = leggauss(order)
    return (nodes + 1) / 2, weights / 2


# ---- two moons ---------------------------------------------------------------------------------------------------


def two_moons(size: int, rng: np.random.Generator, noise: float = 0.1) -> Array:
    """Two interleaved half circles, each point on either with probability ½, plus noise; (size, 2), standardised.

    The upper moon is (c, s), φ uniform in [0, π], the lower (1 − c, ½ − s): its mirror image in the mean (½, ¼). With
    E c = E cs = 0, E s = 2/π, E c² = E s² = ½ the variances are ¾ + σ² and 9/16 − 1/π + σ², and the covariance is
    1/8 − 1/π before the scaling. Source of the shape: scikit-learn's make_moons.
    """
    size, noise = _arguments(size, rng, noise)
    upper = _unit(rng.uniform(0.0, np.pi, size))
    y = np.where(rng.random((size, 1)) < 0.5, upper, [1.0, 0.5] - upper)
    mean, deviation = _moons_frame(noise)
    return (_noisy(y, noise, rng) - mean) / deviation


def two_moons_logpdf(x: Any, noise: float = 0.1) -> Array:
    """log p (...) of `two_moons` at x (..., 2), noise at least 0.01: an integral over the angle.

    Within 1e-10 of the integral where both coordinates are at most 4.
    """
    x, noise = _density_arguments(x, noise)
    mean, deviation = _moons_frame(noise)
    y = mean + deviation * x
    both = np.logaddexp(_log_half_circle(y, noise), _log_half_circle([1.0, 0.5] - y, noise))
    return np.asarray(both - np.log(2.0) + np.log(deviation).sum())


def _moons_frame(noise: float) -> tuple[Array, Array]:
    return np.array([0.5, 0.25]), np.sqrt(np.array([0.75, 9 / 16 - 1 / np.pi]) + noise**2)


def _log_half_circle(y: Array, noise: float) -> Array:
    """log (1/π) ∫_0^π N(y; (cos φ, sin φ), σ²I) dφ.

    With y = ρ (cos α, sin α), δ = φ − α and κ = ρ/σ² the exponent is −(ρ − 1)²/2σ² + κ (cos δ − 1). Cut where δ is 0
    or π, the half circle is two arcs on which cos δ is monotone: |δ| in [0, α] and [0, π − α] for y above the
    diameter, in [|α|, π] and [π − |α|, π] below.
    """
    rho, alpha = np.hypot(y[..., 0], y[..., 1]), np.arctan2(y[..., 1], y[..., 0])
    ends = np.stack([abs(alpha), np.pi - abs(alpha)])
    above = alpha >= 0
    arcs = _log_arc(rho / noise**2, np.where(above, 0.0, ends), np.where(above, ends, np.pi))
    log_integral = np.logaddexp(arcs[0], arcs[1])
    return np.asarray(log_integral - (rho - 1) ** 2 / (2 * noise**2) - np.log(2 * np.pi**2 * noise**2))


def _log_arc(kappa: Array, near: Array, far: Array) -> Array:
    """log ∫ exp(κ (cos δ − 1)) dδ from near to far, 0 ≤ near ≤ far ≤ π; −∞ for an arc without length.

    The integrand is largest at `near`. 64 Gauss-Legendre nodes stand where it is above e⁻⁴⁰ of that, so κ may be any.
    """
    nodes, weights = _gauss_legendre(64)
    sine2 = np.sin(near / 2) ** 2
    # κ (cos near − cos δ) = 2κ (sin²(δ/2) − sin²(near/2)) = 40
    reach = 2 * np.arcsin(np.sqrt(np.minimum(1.0, sine2 + 20 / np.maximum(kappa, 1.0))))
    length = np.maximum(np.minimum(far, reach) - near, 0.0)
    u = length[..., None] * nodes
    fall = 2 * kappa[..., None] * np.sin(near[..., None] + u / 2) * np.sin(u / 2)  # κ (cos near − cos(near + u))
    with np.errstate(divide="ignore"):  # log 0
        return np.asarray(np.log(length * (np.exp(-fall) @ weights)) - 2 * kappa * sine2)


# ---- two circles -------------------------------------------------------------------------------------------------

RADII = np.array([1.0, 0.5])


def two_circles(size: int, rng: np.random.Generator, noise: float = 0.08) -> Array:
    """Two circles of radius R = 1 and ½, each point on either with probability ½, plus noise; (size, 2), standardised.

    Mean 0; both variances E R²/2 + σ² = 5/16 + σ², no covariance. Source of the shape: scikit-learn's make_circles;
    of the noise: the toy data of FFJORD (Grathwohl et al. 2019).
    """
    size, noise = _arguments(size, rng, noise)
    y = rng.choice(RADII, (size, 1)) * _unit(rng.uniform(0.0, 2 * np.pi, size))
    return np.asarray(_noisy(y, noise, rng) / np.sqrt(5 / 16 + noise**2))


def two_circles_logpdf(x: Any, noise: float = 0.08) -> Array:
    """log p (...) of `two_circles` at x (..., 2), noise at least 0.01.

    A circle's integral is a Bessel function: N averaged over it is exp(−(ρ² + R²)/2σ²) I₀(ρR/σ²)/2πσ².
    """
    x, noise = _density_arguments(x, noise)
    deviation = np.sqrt(5 / 16 + noise**2)
    rho = deviation * np.hypot(x[..., 0], x[..., 1])
    # i0e(κ) = e^−κ I₀(κ) is never small, and completes the square in the exponent
    outer, inner = (np.log(i0e(rho * R / noise**2)) - (rho - R) ** 2 / (2 * noise**2) for R in RADII)
    return np.asarray(np.logaddexp(outer, inner) - np.log(4 * np.pi * noise**2) + 2 * np.log(deviation))


# ---- eight Gaussians ---------------------------------------------------------------------------------------------

EIGHT = _unit(np.arange(8) * np.pi / 4)


def eight_gaussians(size: int, rng: np.random.Generator, noise: float = 0.125) -> Array:
    """Eight Gaussians of deviation `noise`, equally likely, on the unit circle; (size, 2), standardised.

    Mean 0; both variances ½ + σ², no covariance. Source, the ratio ⅛ of noise to radius too: FFJORD's toy data.
    """
    size, noise = _arguments(size, rng, noise)
    return np.asarray(_noisy(EIGHT[rng.integers(8, size=size)], noise, rng) / np.sqrt(0.5 + noise**2))


def eight_gaussians_logpdf(x: Any, noise: float = 0.125) -> Array:
    """log p (...) of `eight_gaussians` at x (..., 2), noise at least 0.01: the mixture itself."""
    x, noise = _density_arguments(x, noise)
    deviation = np.sqrt(0.5 + noise**2)
    return np.asarray(_log_mixture(deviation * x, EIGHT, np.full(8, 1 / 8), noise) + 2 * np.log(deviation))


# ---- pinwheel ----------------------------------------------------------------------------------------------------

ARMS, TWIST, RADIAL = 5, 0.4, 0.3


def pinwheel(size: int, rng: np.random.Generator, noise: float = 0.1) -> Array:
    """Five arms, equally likely: a Gaussian at (1, 0), deviations 0.3 along and `noise` across, turned and twisted.

    Arm k turns the point y by 2πk/5 + 0.4 |y|². Such a turn keeps |y|, so both variances are E|y|²/2 =
    (1 + 0.3² + σ²)/2, the mean and the covariance 0 (five-fold symmetry); and it keeps areas, so the density is the
    Gaussian's. The usual pinwheel (Johnson et al. 2016) twists by ¼ exp(y₁) instead, which looks the same, but keeps
    neither and has no density in closed form. (size, 2), standardised.
    """
    size, noise = _arguments(size, rng, noise)
    y = [1.0, 0.0] + rng.normal(size=(size, 2)) * [RADIAL, noise]
    turned = _turn(y, rng.integers(ARMS, size=size) * 2 * np.pi / ARMS + _twist(y))
    return turned / _pinwheel_deviation(noise)


def pinwheel_logpdf(x: Any, noise: float = 0.1) -> Array:
    """log p (...) of `pinwheel` at x (..., 2), noise at least 0.01: five Gaussians at the point turned back."""
    x, noise = _density_arguments(x, noise)
    deviation = _pinwheel_deviation(noise)
    arms = [_turn(deviation * x, -2 * np.pi * k / ARMS - _twist(deviation * x)) for k in range(ARMS)]
    log_arms = [-0.5 * ((y[..., 0] - 1) / RADIAL) ** 2 - 0.5 * (y[..., 1] / noise) ** 2 for y in arms]
    log_sum = np.logaddexp.reduce(log_arms)
    return np.asarray(log_sum - np.log(ARMS * 2 * np.pi * RADIAL * noise) + 2 * np.log(deviation))


def _pinwheel_deviation(noise: float) -> float:
    return float(np.sqrt((1 + RADIAL**2 + noise**2) / 2))


def _twist(y: Array) -> Array:
    return np.asarray(TWIST * (y**2).sum(axis=-1))


def _turn(y: Array, angle: Array) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * y[..., 0] - s * y[..., 1], s * y[..., 0] + c * y[..., 1]], axis=-1)


# ---- checkerboard ------------------------------------------------------------------------------------------------

BOARD_DEVIATION = np.sqrt(4 / 3)


def checkerboard(size: int, rng: np.random.Generator) -> Array:
    """Uniform on eight squares of a 4 by 4 board, those of one colour; (size, 2), standardised.

    On [−2, 2]² with the square at the lower left taken: mean 0, both variances 4²/12 = 4/3, covariance ¼ before the
    scaling, as columns of even and odd number have means (−½, −½) and (½, ½). Standardised the board is [−√3, √3]².
    """
    size, _ = _arguments(size, rng)
    column = rng.integers(4, size=size)
    row = 2 * rng.integers(2, size=size) + column % 2
    y = np.stack([column, row], axis=-1) - 2 + rng.random((size, 2))
    return np.asarray(y / BOARD_DEVIATION)


def checkerboard_logpdf(x: Any) -> Array:
    """log p (...) of `checkerboard` at x (..., 2): −log 6 on the squares, whose area is 8/(4/3) = 6; −∞ elsewhere."""
    cell = np.floor(BOARD_DEVIATION * _points(x) + 2)
    taken = ((cell >= 0) & (cell < 4)).all(axis=-1) & (cell.sum(axis=-1) % 2 == 0)
    return np.where(taken, -np.log(6.0), -np.inf)


# ---- two spirals -------------------------------------------------------------------------------------------------

TURNS = 3 * np.pi


def two_spirals(size: int, rng: np.random.Generator, noise: float = 0.1) -> Array:
    """Two spirals of one and a half turns, each the other turned by π, equally likely, plus noise; (size, 2).

    The arms are ±(t/3)(−cos t, sin t), t = T √u with u uniform in [0, 1] and T = 3π, so that the density along an arm
    is nearly uniform. Mean 0; E x², E y² and E xy are the integrals from 0 to T of (2t/T²)(t²/9) times cos² t, sin² t
    and −cos t sin t: the variances π²/4 ± 1/12 + σ² and the covariance π/6 − 1/(36π) before the scaling. Standardised.
    Source of the shape: FFJORD's toy data, without the uniform noise that is added there besides.
    """
    size, noise = _arguments(size, rng, noise)
    y = rng.choice([-1.0, 1.0], (size, 1)) * _spiral(TURNS * np.sqrt(rng.random(size)))
    return _noisy(y, noise, rng) / _spirals_deviation(noise)


def two_spirals_logpdf(x: Any, noise: float = 0.1) -> Array:
    """log p (...) of `two_spirals` at x (..., 2), noise at least 0.01: an integral along the arm.

    Within 1e-8 of the integral where both coordinates are at most 4. Time goes as 1/noise.
    """
    x, noise = _density_arguments(x, noise)
    # t = T (1 − s²) crowds the nodes at the outer end, where the integrand of a point outside falls off at once.
    panels = int(np.ceil(5 / noise)) + 5  # 9/noise + 9 changes log p by less than 1e-9
    nodes, weights = _gauss_legendre(16)
    s = ((np.arange(panels)[:, None] + nodes) / panels).ravel()
    t = TURNS * (1 - s**2)
    w = np.tile(weights / panels, panels) * (2 * t / TURNS**2) * (2 * TURNS * s)  # ds p(t) |dt/ds|
    arm, deviation = _spiral(t), _spirals_deviation(noise)
    log_raw = _log_mixture(deviation * x, np.concatenate([arm, -arm]), np.concatenate([w, w]) / 2, noise)
    return np.asarray(log_raw + np.log(deviation).sum())


def _spiral(t: Array) -> Array:
    return np.stack([-np.cos(t), np.sin(t)], axis=-1) * t[:, None] / 3


def _spirals_deviation(noise: float) -> Array:
    return np.sqrt(np.array([1, -1]) / 12 + np.pi**2 / 4 + noise**2)


# ---- a picture ---------------------------------------------------------------------------------------------------


@cache
def photograph() -> Array:
    """Grace Hopper in grey, (600, 512) in [0, 1], first row on top: a sample image of matplotlib's (a U.S. Navy photo).

    Grey is 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601). FileNotFoundError if matplotlib came without its
    sample data.
    """
    from matplotlib.cbook import get_sample_data
    from matplotlib.image import imread

    grey = imread(get_sample_data("grace_hopper.jpg", asfileobj=False)) @ np.array([0.299, 0.587, 0.114]) / 255
    return real_array("photograph", grey)


def image(size: int, rng: np.random.Generator, grey: Any = None) -> Array:
    """Points of a picture, bright = dense: the density in grey looks like the picture; (size, 2).

    `grey` (H, W), not negative, first row on top; `photograph()` if None. A pixel is drawn with its brightness as
    weight, then a point uniform in it. The mean is 0; one scale for both coordinates, so that the picture keeps its
    shape, makes the mean of the variances 1. A pixel's own variance, 1/12, is among them. Raises TypeError and
    ValueError for other greys.
    """
    size, _ = _arguments(size, rng)
    p, mean, deviation = _picture(grey)
    row, column = np.divmod(rng.choice(p.size, size, p=p.ravel()), p.shape[1])
    y = np.stack([column, len(p) - 1 - row], axis=-1) + rng.random((size, 2))
    return np.asarray((y - mean) / deviation)


def image_logpdf(x: Any, grey: Any = None) -> Array:
    """log p (...) of `image` at x (..., 2): constant on each pixel, −∞ where it is black or there is none."""
    x = _points(x)
    p, mean, deviation = _picture(grey)
    cell = np.floor(mean + deviation * x)
    inside = ((cell >= 0) & (cell < [p.shape[1], p.shape[0]])).all(axis=-1)
    index = np.where(inside[..., None], cell, 0).astype(int)
    with np.errstate(divide="ignore"):  # black
        log_p = np.log(p[len(p) - 1 - index[..., 1], index[..., 0]]) + 2 * np.log(deviation)
    return np.where(inside, log_p, -np.inf)


def _picture(grey: Any) -> tuple[Array, Array, float]:
    """Probabilities of the pixels, the mean, and the deviation, a pixel's side being 1 and the origin lower left."""
    grey = photograph() if grey is None else real_array("grey", grey, ("H", "W"))
    if grey.size == 0 or grey.min() < 0 or grey.max() <= 0:
        raise ValueError("grey must hold brightnesses of at least 0 and one above it")
    p = grey / grey.sum()
    marginals = p.sum(axis=0), p.sum(axis=1)[::-1]
    mean = np.array([m @ (np.arange(len(m)) + 0.5) for m in marginals])
    variances = [m @ (np.arange(len(m)) + 0.5 - c) ** 2 + 1 / 12 for m, c in zip(marginals, mean, strict=True)]
    return p, mean, float(np.sqrt(np.mean(variances)))


DATASETS: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {f.__name__: f for f in (two_moons, two_circles, eight_gaussians, pinwheel, checkerboard, two_spirals, image)}
)
"""Each data set's name and its sampler, f(size, rng, ...) -> (size, 2)."""

LOGPDFS: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        "two_moons": two_moons_logpdf,
        "two_circles": two_circles_logpdf,
        "eight_gaussians": eight_gaussians_logpdf,
        "pinwheel": pinwheel_logpdf,
        "checkerboard": checkerboard_logpdf,
        "two_spirals": two_spirals_logpdf,
        "image": image_logpdf,
    }
)
"""Each data set's name and its exact log density, f(x, ...) -> (...)."""


# ---- energies ----------------------------------------------------------------------------------------------------


class Energy(ABC):
    """U(z) and its gradient by hand, and the density exp(−U)/Z; z (..., 2), complex z too (complex step).

    `energy(z)` is U (...), `energy.grad(z)` is ∇U (..., 2). As a target: `logq` = −U, `score` = −∇U, `logpdf` =
    logq − `log_Z`. Raises TypeError or ValueError for a z that is not numbers of shape (..., 2).
    """

    @property
    @abstractmethod
    def log_Z(self) -> float:
        """log ∫ exp(−U) dz."""

    @abstractmethod
    def value_and_grad(self, z: Any) -> tuple[Array, Array]:
        """(U, ∇U), shapes (...) and (..., 2)."""

    def __call__(self, z: Any) -> Array:
        return self.value_and_grad(z)[0]

    def grad(self, z: Any) -> Array:
        """∇U (..., 2)."""
        return self.value_and_grad(z)[1]

    def logq(self, z: Any) -> Array:
        """The unnormalised log density −U (...)."""
        return -self(z)

    def score(self, z: Any) -> Array:
        """∇ log q = −∇U (..., 2)."""
        return -self.grad(z)

    def logpdf(self, z: Any) -> Array:
        """−U − log Z (...)."""
        return self.logq(z) - self.log_Z


def _coordinates(z: Any) -> tuple[Array, Array]:
    z = np.asarray(z)
    if z.dtype.kind not in "iufc":
        raise TypeError(f"z must hold numbers, got dtype {z.dtype}")
    if z.shape[-1:] != (2,):
        raise ValueError(f"z must have shape (..., 2), got {z.shape}")
    return z[..., 0], z[..., 1]


def _minus_log_sum(e: Array) -> tuple[Array, Array]:
    """−log Σ_k exp(−e_k²/2) (...) for e (K, ...), and its cotangent e_k exp(−e_k²/2)/Σ (K, ...)."""
    half = e * e / 2
    least = half.real.min(axis=0)  # subtracted and added: no derivative passes
    terms = np.exp(least - half)
    total = terms.sum(axis=0)
    return least - np.log(total), e * terms / total


class TwoModes(Energy):
    """½ ((|z| − 2)/0.4)² − log(exp(−½ ((z1 − 2)/0.6)²) + exp(−½ ((z1 + 2)/0.6)²)): a ring, bright at z1 = ±2.

    It decays in all directions. At z = 0 |z| has no gradient; 0, the mean of its limits, stands for it.
    """

    def value_and_grad(self, z: Any) -> tuple[Array, Array]:
        z1, z2 = _coordinates(z)
        r = np.sqrt(z1**2 + z2**2)
        radial = (r - 2) / 0.4
        modes, e_bar = _minus_log_sum(np.stack([z1 - 2, z1 + 2]) / 0.6)
        r_bar = radial / 0.4 / np.where(r == 0, 1, r)  # ∂r/∂z = z/r
        return radial**2 / 2 + modes, np.stack([r_bar * z1 + e_bar.sum(axis=0) / 0.6, r_bar * z2], axis=-1)

    @cached_property
    def log_Z(self) -> float:
        """log ∫∫ exp(−U) r dφ dr: equidistant angles, which a periodic integrand likes best, and QUADPACK in r."""
        angles = _unit(np.arange(256) * 2 * np.pi / 256)
        # exp(−½ (6/0.4)²) is e⁻¹¹²
        value, _ = quad(lambda r: r * 2 * np.pi * np.mean(np.exp(-self(r * angles))), 0, 8, epsabs=0, epsrel=1e-12)
        return float(np.log(value))


Curve = Callable[[Array], tuple[Array, Array]]  # z1 -> w, dw/dz1


def _no_fork(z1: Array) -> tuple[Array, Array]:
    return np.zeros_like(z1), np.zeros_like(z1)


def _wave(z1: Array) -> tuple[Array, Array]:
    """w1 = sin(2π z1/4)."""
    k = np.pi / 2
    return np.sin(k * z1), k * np.cos(k * z1)


def _bump(z1: Array) -> tuple[Array, Array]:
    """w2 = 3 exp(−½ ((z1 − 1)/0.6)²)."""
    w2 = 3 * np.exp(-(((z1 - 1) / 0.6) ** 2) / 2)
    return w2, -w2 * (z1 - 1) / 0.36


def _step(z1: Array) -> tuple[Array, Array]:
    """w3 = 3 sigmoid((z1 − 1)/0.3), as sigmoid(x) = ½ (1 + tanh(x/2)) so that nothing overflows."""
    tanh = np.tanh((z1 - 1) / 0.6)
    return 1.5 * (1 + tanh), 1.5 * (1 - tanh**2) / 0.6


def _wall(z1: Array) -> tuple[Array, Array]:
    """(z1 − 4)⁴ right of 4, (z1 + 4)⁴ left of −4, 0 between: three continuous derivatives."""
    beyond = np.where(z1.real > 4, z1 - 4, np.where(z1.real < -4, z1 + 4, 0))
    return beyond**4, 4 * beyond**3


class Waves(Energy):
    """−log Σ_k exp(−½ ((z2 − w1(z1) + v_k(z1))/s_k)²) + wall(z1): ridges of width s_k along z2 = w1 − v_k.

    As published there is no wall, and exp(−U) does not decay in z1: the integral over z2 is √(2π) Σ s_k for every z1,
    so there is no Z. The wall is exactly 0 in |z1| ≤ 4, where pictures of it are drawn, and (|z1| − 4)⁴ outside, with
    three continuous derivatives. Then log Z is exact,

        Z = √(2π) Σ s_k ∫ exp(−wall) dz1 = √(2π) Σ s_k (8 + 2 Γ(5/4)).
    """

    def __init__(self, widths: tuple[float, ...], forks: tuple[Curve, ...]) -> None:
        self.widths, self.forks = np.array(widths), forks

    @cached_property
    def log_Z(self) -> float:
        """log Z, exact."""
        return float(np.log(np.sqrt(2 * np.pi) * self.widths.sum() * (8 + 2 * gamma(1.25))))

    def value_and_grad(self, z: Any) -> tuple[Array, Array]:
        z1, z2 = _coordinates(z)
        s = self.widths.reshape(-1, *(1,) * z1.ndim)
        (w1, w1_slope), (wall, wall_slope) = _wave(z1), _wall(z1)
        v, v_slope = (np.stack(each) for each in zip(*(fork(z1) for fork in self.forks), strict=True))
        ridges, e_bar = _minus_log_sum((z2 - w1 + v) / s)
        dz1 = (e_bar * (v_slope - w1_slope) / s).sum(axis=0) + wall_slope
        return ridges + wall, np.stack([dz1, (e_bar / s).sum(axis=0)], axis=-1)


ENERGIES: Mapping[str, Energy] = MappingProxyType(
    {
        "U1": TwoModes(),
        "U2": Waves((0.4,), (_no_fork,)),
        "U3": Waves((0.35, 0.35), (_no_fork, _bump)),
        "U4": Waves((0.4, 0.35), (_no_fork, _step)),
    }
)
"""The test energies of Rezende and Mohamed (2015), "Variational inference with normalizing flows", Table 1, by name.

U2 to U4 have a wall added, see `Waves`. With w1 = sin(2π z1/4), w2 = 3 exp(−½ ((z1 − 1)/0.6)²) and w3 =
3 sigmoid((z1 − 1)/0.3): U2 has the ridge w1; U3 w1 and w1 − w2; U4 w1 and w1 − w3, of widths 0.4 and 0.35.
"""
