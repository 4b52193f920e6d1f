"""Samples against stated constants and densities, densities against their definitions, energies against Table 1."""

import re
import subprocess
import sys

import numpy as np
import pytest
from oracles import BATCHES
from scipy.special import expit
from scipy.stats import chi2, multivariate_normal

from refode.datasets import DATASETS, ENERGIES, LOGPDFS, image, image_logpdf, photograph, two_circles
from refode.finite_difference import complex_step

NOISY = ["two_moons", "two_circles", "eight_gaussians", "pinwheel", "two_spirals"]
SMOOTH = [name for name in NOISY if name != "pinwheel"]  # a curve or points, and Gaussian noise around them
NOISES = {"two_moons": 0.1, "two_circles": 0.08, "eight_gaussians": 0.125, "pinwheel": 0.1, "two_spirals": 0.1}
T = 3 * np.pi


def deviations(name, noise):
    """The stated population deviations before standardising."""
    variances = {
        "two_moons": [3 / 4, 9 / 16 - 1 / np.pi],
        "two_circles": [5 / 16, 5 / 16],
        "eight_gaussians": [1 / 2, 1 / 2],
        "two_spirals": [np.pi**2 / 4 + 1 / 12, np.pi**2 / 4 - 1 / 12],
    }
    return np.sqrt(np.array(variances[name]) + noise**2)


def correlation(name, noise):
    """The stated population correlation."""
    covariances = {"two_moons": 1 / 8 - 1 / np.pi, "two_spirals": np.pi / 6 - 1 / (36 * np.pi)}
    if name == "checkerboard":
        return (1 / 4) / (4 / 3)
    return covariances[name] / deviations(name, noise).prod() if name in covariances else 0.0


def default_and_noisy(names):
    return pytest.mark.parametrize(
        ("name", "noise"), [(name, noise) for name in names for noise in (NOISES[name], 0.3)]
    )


def refused(error, message, function, *args, **kwargs):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        function(*args, **kwargs)


# ---- samples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_samples_are_float64_pairs_that_only_the_rng_decides(name):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for size in (1, 7):
        x, again, other = (DATASETS[name](size, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert x.shape == (size, 2)
        assert x.dtype == np.float64
        assert np.isfinite(x).all()
        assert np.array_equal(x, again)
        assert not np.isin(other, x).any()
    rng = np.random.default_rng(1)
    assert not np.isin(DATASETS[name](7, rng), DATASETS[name](7, rng)).any()
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("name", DATASETS)
def test_what_a_sampler_refuses(name):
    draw, rng = DATASETS[name], np.random.default_rng(0)
    refused(ValueError, "size must be at least 1, got 0", draw, 0, rng)
    refused(TypeError, "size must be a whole number, got 2.0", draw, 2.0, rng)
    for bad in (0, None, np.random.RandomState(0)):
        message = f"rng must be a numpy.random.Generator, as default_rng(seed) makes one; got {bad!r}"
        refused(TypeError, message, draw, 3, bad)


@pytest.mark.parametrize("name", NOISY)
def test_what_noise_must_be(name):
    draw, logpdf, rng = DATASETS[name], LOGPDFS[name], np.random.default_rng(0)
    refused(ValueError, "noise must be at least 0, got -0.1", draw, 3, rng, -0.1)
    refused(ValueError, "noise must be finite, got nan", draw, 3, rng, np.nan)
    refused(ValueError, "noise must be at least 0.01, got 0", logpdf, [0, 0], 0)
    refused(TypeError, "noise must hold real numbers, got dtype <U3", logpdf, [0, 0], "0.1")


@pytest.mark.parametrize("name", LOGPDFS)
def test_what_a_density_refuses_and_which_shapes_it_takes(name):
    logpdf = LOGPDFS[name]
    refused(ValueError, "x must have shape (..., 2), got (3,)", logpdf, np.zeros(3))
    refused(ValueError, "x must be finite, got nan at [0, 1]", logpdf, [[0, np.nan]])
    refused(TypeError, "x must hold real numbers, got dtype complex128", logpdf, [0j, 0])
    x = DATASETS[name](6, np.random.default_rng(0)).reshape(2, 3, 2)
    each = [[logpdf(x[i, j]) for j in range(3)] for i in range(2)]
    assert np.isfinite(each).all()
    # as many roundings of a log p of about 1 as there are terms in a sum of 2000
    np.testing.assert_allclose(logpdf(x), each, rtol=0, atol=1e-12)
    assert logpdf(x[0, 0]).shape == ()
    assert logpdf(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize(("name", "noise"), [*NOISES.items(), ("checkerboard", None), ("two_moons", 0.0)])
def test_mean_and_covariance_are_the_stated_ones(name, noise):
    N = 100_000
    x = DATASETS[name](N, np.random.default_rng(3), *([] if noise is None else [noise]))
    want = {(0,): 0.0, (1,): 0.0, (0, 0): 1.0, (1, 1): 1.0, (0, 1): correlation(name, noise)}
    for axes, value in want.items():
        product = x[:, axes].prod(axis=1)
        assert abs(product.mean() - value) < 5 * product.std() / np.sqrt(N), axes


def test_without_noise_the_points_lie_on_the_curve():
    rng, N = np.random.default_rng(4), 1000
    circles = two_circles(N, rng, 0.0) * deviations("two_circles", 0.0)
    radius = np.hypot(*circles.T)
    np.testing.assert_allclose(radius, np.where(radius > 0.75, 1, 0.5), rtol=1e-14)
    moons = [0.5, 0.25] + DATASETS["two_moons"](N, rng, 0.0) * deviations("two_moons", 0.0)
    lower = [1, 0.5] - moons
    on = [np.isclose(np.hypot(*y.T), 1, rtol=1e-14, atol=0) & (y[:, 1] >= -1e-15) for y in (moons, lower)]
    assert (on[0] ^ on[1]).all()
    t = 3 * np.hypot(*(spirals := DATASETS["two_spirals"](N, rng, 0.0) * deviations("two_spirals", 0.0)).T)
    assert t.max() < T
    # the arm and its opposite: |cos| and |sin| alone would allow the mirror image
    both = np.stack([-t * np.cos(t), t * np.sin(t)], axis=-1) / 3
    signs = np.sign((spirals * both).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(spirals, signs * both, rtol=0, atol=1e-13)
    assert 400 < (signs > 0).sum() < 600  # within 6 deviations of 500


# ---- densities -----------------------------------------------------------------------------------------------------


def moments(weights, x):
    """Total mass, means, variances and correlation under the weights (P,) of points (P, 2)."""
    return np.array([weights.sum(), *(weights @ x), *(weights @ x**2), weights @ x.prod(axis=-1)])


@default_and_noisy(SMOOTH)
def test_a_density_integrates_to_one_with_the_stated_moments(name, noise):
    # A density convolved with N(0, σ²): the equidistant sum of step h is off by about 2 exp(−2π²σ²/h²) = 1e-21 of the
    # largest moment. No curve leaves 2.1 deviations, and outside 8 σ more lies 1e-15.
    least, most = noise / deviations(name, noise).max(), noise / deviations(name, noise).min()
    edge = 2.1 + 8 * most
    g = np.linspace(-edge, edge, 1 + int(np.ceil(2 * edge / (0.6 * least))))
    x = np.stack(np.meshgrid(g, g), axis=-1).reshape(-1, 2)
    weights = np.exp(LOGPDFS[name](x, noise)) * (g[1] - g[0]) ** 2
    want = [1, 0, 0, 1, 1, correlation(name, noise)]
    np.testing.assert_allclose(moments(weights, x), want, rtol=0, atol=1e-11)


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_the_pinwheel_integrates_to_one_with_the_stated_moments(noise):
    # In polar coordinates: 600 equidistant angles, and Gauss-Legendre in the radius up to 1 + 9 deviations of the arm.
    nodes, weights = np.polynomial.legendre.leggauss(150)
    far = (1 + 9 * 0.3) / np.sqrt((1.09 + noise**2) / 2)
    r, w = (nodes + 1) * far / 2, weights * far / 2
    angle = np.arange(600) * 2 * np.pi / 600
    x = r[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    density = np.exp(LOGPDFS["pinwheel"](x, noise)) * (w * r)[:, None] * 2 * np.pi / 600
    np.testing.assert_allclose(moments(density.ravel(), x.reshape(-1, 2)), [1, 0, 0, 1, 1, 0], rtol=0, atol=1e-11)


def test_the_checkerboard_integrates_to_one_with_the_stated_moments():
    h = 2 * np.sqrt(3) / 16  # four cells a square; a cell's own variance, h²/12, is what midpoints miss
    g = -np.sqrt(3) + h * (np.arange(-4, 20) + 0.5)
    x = np.stack(np.meshgrid(g, g), axis=-1).reshape(-1, 2)
    log_p = LOGPDFS["checkerboard"](x)
    assert (log_p > -np.inf).sum() == 8 * 16
    got = moments(np.exp(log_p) * h**2, x)
    np.testing.assert_allclose(got, [1, 0, 0, 1 - h**2 / 12, 1 - h**2 / 12, 3 / 16], rtol=0, atol=1e-14)


def bin_masses(logpdf, edges, nodes):
    """∫ p over square bins, by Gauss-Legendre."""
    u, w = np.polynomial.legendre.leggauss(nodes)
    width = np.diff(edges)
    g = (edges[:-1, None] + width[:, None] * (u + 1) / 2).ravel()
    wg = (width[:, None] * w / 2).ravel()
    p = np.exp(logpdf(np.stack(np.meshgrid(g, g, indexing="ij"), axis=-1))) * wg[:, None] * wg
    return p.reshape(len(width), nodes, len(width), nodes).sum(axis=(1, 3))


def chi_square(x, masses, edges, least=10):
    """Pearson's statistic, all bins where fewer than `least` are expected in one; and what one sample in a million
    exceeds."""
    expected, observed = len(x) * masses, np.histogram2d(*x.T, bins=[edges, edges])[0]
    many = expected >= least
    expected, observed = (np.append(each[many], len(x) - each[many].sum()) for each in (expected, observed))
    if expected[-1] < least:
        assert observed[-1] < 5 * least
        expected, observed = expected[:-1], observed[:-1]
    return np.sum((observed - expected) ** 2 / expected), chi2.isf(1e-6, len(expected) - 1)


@default_and_noisy(NOISY)
def test_samples_follow_the_density(name, noise):
    edges = np.linspace(-2.4, 2.4, 25)
    x = DATASETS[name](50_000, np.random.default_rng(5), noise)
    # A bin of 0.2 is at most four deviations of the noise wide: six nodes err by about 1e-3 of the bin's share, where
    # a hundred points are expected, which scatter by 0.1.
    masses = bin_masses(lambda x: LOGPDFS[name](x, noise), edges, 6)
    statistic, threshold = chi_square(x, masses, edges)
    assert statistic < threshold
    for wrong in (x + np.array([0.1, 0.0]), x * [1.05, 1.0]):
        assert chi_square(wrong, masses, edges)[0] > threshold  # it can tell a tenth of a deviation, and 5 %


def test_samples_of_the_checkerboard_follow_the_density():
    x = DATASETS["checkerboard"](50_000, np.random.default_rng(5))
    assert np.array_equal(np.unique(LOGPDFS["checkerboard"](x)), [-np.log(6)])
    edges = np.linspace(-np.sqrt(3), np.sqrt(3), 17)
    statistic, threshold = chi_square(x, bin_masses(LOGPDFS["checkerboard"], edges, 1), edges)
    assert statistic < threshold


def fine_mixture(y, arms, density, end, noise):
    """log Σ over arms of ∫_0^end density(t) N(y; arm(t), noise²) dt, at points (P, 2), by 20 nodes on 2000 panels.

    The panels crowd at the ends, where the integrand of a far point falls like exp(−t |y|/σ²).
    """
    u, w = np.polynomial.legendre.leggauss(20)
    edges = end * np.sin(np.pi * np.arange(2001) / 4000) ** 2
    width = np.diff(edges)[:, None]
    t = (edges[:-1, None] + width * (u + 1) / 2).ravel()
    w = (width * w / 2).ravel() * density(t)
    out = []
    for point in y:
        exponents = [-np.sum((point - arm(t)) ** 2, axis=-1) / (2 * noise**2) for arm in arms]
        top = np.max(exponents)
        out.append(top + np.log(sum(np.exp(e - top) @ w for e in exponents) / (2 * np.pi * noise**2)))
    return np.array(out)


def circle(t):
    return np.stack([np.cos(t), np.sin(t)], axis=-1)


def spiral(t):
    return np.stack([-t * np.cos(t), t * np.sin(t)], axis=-1) / 3


# name: (mean, the arms with their weights as one density in t each, the end of t, the stated accuracy)
CURVES = {
    "two_moons": ([0.5, 0.25], [circle, lambda t: [1, 0.5] - circle(t)], lambda t: 1 / (2 * np.pi), np.pi, 1e-10),
    "two_circles": ([0, 0], [circle, lambda t: 0.5 * circle(t)], lambda t: 1 / (4 * np.pi), 2 * np.pi, 1e-10),
    "two_spirals": ([0, 0], [spiral, lambda t: -spiral(t)], lambda t: t / T**2, T, 1e-8),
}


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("name", CURVES)
def test_log_densities_are_the_integrals_they_say_as_accurately_as_they_say(name, noise):
    mean, arms, density, end, accuracy = CURVES[name]
    x = np.random.default_rng(6).uniform(-4, 4, (30, 2))
    x[0] = 0
    deviation = deviations(name, noise)
    x[1] = -np.array(mean) / deviation  # the centre of the upper moon, where all angles are equally near
    want = fine_mixture(mean + deviation * x, arms, density, end, noise) + np.log(deviation).sum()
    np.testing.assert_allclose(LOGPDFS[name](x, noise), want, rtol=0, atol=accuracy)


def test_eight_gaussians_against_scipy():
    x = np.random.default_rng(7).uniform(-4, 4, (50, 2))
    deviation = deviations("eight_gaussians", 0.2)
    each = [multivariate_normal(circle(np.pi * k / 4) / deviation, (0.2 / deviation) ** 2).logpdf(x) for k in range(8)]
    got = LOGPDFS["eight_gaussians"](x, 0.2)
    np.testing.assert_allclose(got, np.logaddexp.reduce(each) - np.log(8), rtol=0, atol=1e-11)


@pytest.mark.parametrize("radius", [1e3, 1e12, 1e20])
def test_far_points_have_a_log_density_too(radius):
    """Without a warning, which the settings of pytest turn into an error."""
    far = radius * circle(np.linspace(0, 2 * np.pi, 17))
    for name in NOISY:
        log_p = LOGPDFS[name](far, 0.01)
        assert np.isfinite(log_p).all(), name
        # every component is narrower than the whole, whose deviation is 1
        assert (log_p < -0.5 * radius**2).all(), name
    for name in ("checkerboard", "image"):
        assert np.array_equal(LOGPDFS[name](far), [-np.inf] * 17), name


# ---- a picture -----------------------------------------------------------------------------------------------------

PICTURE = np.array([[0, 1, 4], [2, 0, 3]], dtype=float)  # first row on top


def picture_frame(grey):
    """Centres of the pixels (H, W, 2), a side being 1; mean and deviation of the picture, all by numpy's own."""
    H, W = grey.shape
    centres = np.stack(np.meshgrid(np.arange(W) + 0.5, H - 0.5 - np.arange(H)), axis=-1)
    cov = np.cov(centres.reshape(-1, 2).T, aweights=grey.ravel(), ddof=0)
    return (
        centres,
        np.average(centres.reshape(-1, 2), axis=0, weights=grey.ravel()),
        np.sqrt(np.trace(cov) / 2 + 1 / 12),
    )


def test_a_pixel_has_its_brightness_as_density():
    centres, mean, deviation = picture_frame(PICTURE)
    with np.errstate(divide="ignore"):
        want = np.log(PICTURE / 10) + 2 * np.log(deviation)
    for shift in ([0, 0], [0.49, -0.49], [-0.49, 0.49]):  # within the pixel
        got = image_logpdf((centres + shift - mean) / deviation, PICTURE)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)
    outside = (np.array([[-0.01, 1], [3.01, 1], [1, -0.01], [1, 2.01]]) - mean) / deviation
    assert np.array_equal(image_logpdf(outside, PICTURE), [-np.inf] * 4)


def test_pixels_are_drawn_by_their_brightness_and_points_uniformly_in_them():
    N = 50_000
    x = image(N, np.random.default_rng(8), PICTURE)
    _, mean, deviation = picture_frame(PICTURE)
    y = mean + deviation * x
    counts = np.histogram2d(*y.T, bins=[np.arange(0, 3.1, 0.5), np.arange(0, 2.1, 0.5)])[0]
    expected = N * np.kron(PICTURE[::-1].T, np.ones((2, 2))) / 40  # quarters of pixels
    assert np.array_equal(counts == 0, expected == 0)
    lit = expected > 0
    assert np.sum((counts - expected)[lit] ** 2 / expected[lit]) < chi2.isf(1e-6, lit.sum() - 1)


def test_the_photograph_and_its_sample():
    grey = photograph()
    assert grey.shape == (600, 512)
    assert not grey.flags.writeable
    assert 0 <= grey.min() < 0.02
    assert 0.98 < grey.max() <= 1
    # The uniform is black, the wall grey, the shirt white; and the sample has the picture's own log p.
    assert grey[520, 60] < 0.1 < 0.3 < grey[100, 450] < 0.6 < 0.9 < grey[400, 230]
    N, p = 50_000, grey / grey.sum()
    x = image(N, np.random.default_rng(9))
    _, _, deviation = picture_frame(grey)
    log_p = image_logpdf(x)
    want = np.sum(p[p > 0] * np.log(p[p > 0])) + 2 * np.log(deviation)
    assert abs(log_p.mean() - want) < 5 * log_p.std() / np.sqrt(N)
    assert (abs(x.mean(axis=0)) < 5 * x.std(axis=0) / np.sqrt(N)).all()
    square = (x**2).sum(axis=1) / 2
    assert abs(square.mean() - 1) < 5 * square.std() / np.sqrt(N)


def test_what_a_picture_must_be():
    message = "grey must hold brightnesses of at least 0 and one above it"
    for bad in (np.zeros((2, 2)), [[1, -1]], np.zeros((0, 3))):
        for function in (
            lambda grey: image(3, np.random.default_rng(0), grey),
            lambda grey: image_logpdf([0, 0], grey),
        ):
            refused(ValueError, message, function, bad)
    refused(ValueError, "grey must have shape (H, W), got (2, 2, 3)", image_logpdf, [0, 0], np.ones((2, 2, 3)))


def test_matplotlib_is_not_imported_before_a_picture_is_wanted():
    code = "import sys, refode.datasets; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- energies ------------------------------------------------------------------------------------------------------

every_energy = pytest.mark.parametrize("name", ENERGIES)


def published(name, z):
    """Table 1 of Rezende and Mohamed (2015)."""
    z1, z2 = z[..., 0], z[..., 1]
    w1, w2 = np.sin(2 * np.pi * z1 / 4), 3 * np.exp(-0.5 * ((z1 - 1) / 0.6) ** 2)
    w3 = 3 * expit((z1 - 1) / 0.3)

    def log_sum(*e):
        return np.logaddexp.reduce([-0.5 * each**2 for each in e])

    if name == "U1":
        ring = 0.5 * ((np.linalg.norm(z, axis=-1) - 2) / 0.4) ** 2
        return ring - log_sum((z1 - 2) / 0.6, (z1 + 2) / 0.6)
    if name == "U2":
        return 0.5 * ((z2 - w1) / 0.4) ** 2
    if name == "U3":
        return -log_sum((z2 - w1) / 0.35, (z2 - w1 + w2) / 0.35)
    return -log_sum((z2 - w1) / 0.4, (z2 - w1 + w3) / 0.35)


@every_energy
def test_energies_are_the_published_ones_and_the_wall(name):
    z = np.random.default_rng(10).uniform(-7, 7, (500, 2))
    z[:3, 0] = -4, 4, 0
    wall = np.zeros(500) if name == "U1" else np.maximum(abs(z[:, 0]) - 4, 0) ** 4
    assert (wall == 0).sum() > 100
    assert np.array_equal(wall[:3], [0, 0, 0])
    # e² up to 31² and 3⁴: some roundings of 500
    np.testing.assert_allclose(ENERGIES[name](z), published(name, z) + wall, rtol=0, atol=1e-11)


@every_energy
@pytest.mark.parametrize("batch", BATCHES)
def test_gradients_of_energies_against_complex_step(name, batch):
    energy, rng = ENERGIES[name], np.random.default_rng(11)
    for _ in range(50):
        z = rng.uniform(-7, 7, (*batch, 2))
        c = rng.normal(size=batch)
        want = complex_step(lambda z, c=c: np.sum(c * energy(z)), z)
        # An exponent of up to 500 rounds by 1e-13, a relative error of e_bar/s < 100; and the wall's 108.
        np.testing.assert_allclose(c[..., None] * energy.grad(z), want, rtol=0, atol=1e-10)
        assert np.array_equal(energy.logq(z), -energy(z))
        assert np.array_equal(energy.score(z), -energy.grad(z))
        assert np.array_equal(energy.logpdf(z), -energy(z) - energy.log_Z)


@every_energy
def test_log_Z_against_an_equidistant_grid_and_against_gauss_legendre(name):
    """At |z1| = 4 the fourth derivative of the wall jumps; at 0 U1 has a cone, e^-17 of the largest.

    The first grid, of step h = s/7, errs by exp(-2π² 49) in z2, by little in z1, where nodes lie at the jumps, and by
    e^-17 h³ = 5e-12 at the cone. The other has panels that end at all three, and ten nodes on each 1.4 s.
    """
    nodes, weights = np.polynomial.legendre.leggauss(10)
    panels = (np.arange(-16, 16)[:, None] + (nodes + 1) / 2) / 2
    for g, w in [(np.arange(-160, 161) * 0.05, np.full(321, 0.05)), (panels.ravel(), np.tile(weights / 4, 32))]:
        p = np.exp(ENERGIES[name].logq(np.stack(np.meshgrid(g, g), axis=-1)))
        assert abs(ENERGIES[name].log_Z - np.log(w @ p @ w)) < 1e-11


@every_energy
def test_most_of_an_energys_mass_lies_where_the_wall_is_zero(name):
    g = np.arange(-80, 81) * 0.05
    inside = np.sum(np.exp(ENERGIES[name].logpdf(np.stack(np.meshgrid(g, g), axis=-1)))) * 0.05**2
    assert 0.8 < inside <= 1


def test_energies_take_integers_and_the_origin_and_far_points():
    for energy in ENERGIES.values():
        assert energy([1, 2]) == energy([1.0, 2.0])
        assert np.array_equal(energy.grad([1, 2]), energy.grad([1.0, 2.0]))
        far = np.array([[50.0, -50.0], [-50.0, 0.0], [0.0, 50.0]])
        assert np.isfinite(energy(far)).all()
        assert np.isfinite(energy.grad(far)).all()
    assert np.array_equal(ENERGIES["U1"].grad(np.zeros(2)), [0, 0])


@every_energy
def test_what_an_energy_refuses(name):
    energy = ENERGIES[name]
    for function in (energy, energy.grad, energy.logq, energy.score, energy.logpdf):
        refused(ValueError, "z must have shape (..., 2), got (3,)", function, np.zeros(3))
        refused(TypeError, "z must hold numbers, got dtype <U1", function, ["1", "2"])
