# %% [markdown]
# # Normalizing flows, discrete and continuous
#
# You need: the note, sections 3.1, 3.2, 3.4 and the beginning of 3.3; the
#           change of variables for densities; `adjoint_derivation.py` for the
#           solve map s_ε.
# You get:  every formula of those sections computed two ways; the logarithm
#           and the sum that our copy drops; Theorem 2, line by line; and the
#           continuous planar flow, whose section the note left empty.
# Seconds:  about 10, on one core.
#
# A row begins with `ok` or `FAIL` and the item of the note; the gradient of
# log p has a tutorial of its own, `likelihood_gradient.py`. Below, det stands
# for det ∇₁(s_ε[§1]), and τ for tr ∇₁f.

# %%
import argparse
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp, trapezoid

from refode import MLP, WithLogDensity, divergence
from refode.finite_difference import complex_solve, complex_step
from refode.finite_difference import richardson, slope
from refode.planar import ContinuousPlanar, PlanarFlow, planar_closed_form
from refode.steps import Ledger

argparse.ArgumentParser(description="Normalizing flows.").parse_args(
    None if __name__ == "__main__" else [])

ledger = Ledger("Section 3 of the note, up to p*")
check, step = ledger.check, ledger.step
norm = np.linalg.norm
rng = np.random.default_rng(0)


def log_normal(z):
    """log N(z; 0, I), for z (..., n)."""
    n = z.shape[-1]
    return -0.5 * np.sum(z**2, axis=-1) - 0.5 * n * np.log(2 * np.pi)


def log_abs_det(J):
    return np.linalg.slogdet(J)[1]


# %% [markdown]
# ## 1 One map, then several      §3.1: D36, D37, D38, D39, D40
#
# Errata met here: E23, E24.
#
# Take the planar map g(z) = z + u tanh(w·z + b), three of them (D36, D39).
# If z_0 has density p_0, z_1 = g(z_0) has
#
#     p_1(z_1) = p_0(z_0) |det ∇g_1(z_0)|⁻¹                        (D37)
#
# Our copy writes one p for both; but the base density *at z_1* is another
# number (E23). The Jacobian below is by complex step, and owes nothing to the
# library's formula for it.

# %%
flow = PlanarFlow(2, layers=3)
theta = flow.init(rng, 2.0)
one = PlanarFlow(2, layers=1)
z0 = rng.normal(size=2)
z1, log_det = one.forward(z0, theta[: one.m])
J1 = complex_step(lambda z: one.linearize(z, theta[: one.m])[0], z0)
check("D36", "z_0 from z_1 by the inverse map",
      one.inverse(z1, theta[: one.m]), z0, 1e-13)
check("D37 D38", "log p_1(z_1) = log p_0(z_0) - log |det|, library's det",
      log_normal(z0) - log_det, log_normal(z0) - log_abs_det(J1), 1e-13)
p1 = np.exp(one.logpdf(z1, theta[: one.m], log_normal))
check("E23", "corrected: p_1 is a density of its own: p_0(z_0)/|det|",
      p1, np.exp(log_normal(z0)) / abs(np.linalg.det(J1)), 1e-13)
check("E23", "as printed, one p: p_0 at z_1 differs, relative, by over 1 %",
      abs(np.exp(log_normal(z1)) / p1 - 1) > 0.01, 1, 0)

# %% [markdown]
# For three maps our copy's equation (1) sums |det| where log |det| belongs
# (E24). The whole composition has one Jacobian, which decides.
#
#     as printed    log p(z_k) = log p(z_0) − Σ_j |det ∇g_j(z_{j−1})|
#     corrected     log p(z_k) = log p(z_0) − Σ_j log |det ∇g_j(z_{j−1})|
#
# Predict first: three maps near the identity; by about how much is it off?

# %%
zk, sum_log = flow.forward(z0, theta)
J = complex_step(lambda z: flow.linearize(z, theta)[0], z0)


def layers(z):
    """z_1, z_2, z_3 and det of each layer's Jacobian, by complex step."""
    dets = []
    for t in theta.reshape(3, -1):
        dets.append(np.linalg.det(
            complex_step(lambda z, t=t: one.linearize(z, t)[0], z)))
        z = one.forward(z, t)[0]
    return z, np.array(dets)


by_layers, dets = layers(z0)
check("D39", "composition of the maps, one by one", by_layers, zk, 1e-14)
truth = log_normal(z0) - log_abs_det(J)
check("D40 E24", "corrected: eq. (1), by layers",
      log_normal(z0) - np.log(np.abs(dets)).sum(), truth, 1e-12)
check("D40", "... and as the library has it", log_normal(z0) - sum_log,
      truth, 1e-12)
printed = log_normal(z0) - np.abs(dets).sum()
check("E24", "as printed: off by the sum of |det| - log |det|, over 2",
      printed - truth, -(np.abs(dets) - np.log(np.abs(dets))).sum(), 1e-12)
check("E24", "... which is at least 1 a layer", truth - printed >= 3, 1, 0)

# %% [markdown]
# A density integrates to one. On a grid of step 0.1 over [−8, 8]² the
# trapezoid rule is exact to 1e-9 for a smooth, decaying function; the printed
# formula, integrated over the same points, is not a density.

# %%
side = np.arange(-8, 8.05, 0.1)
grid = np.stack(np.meshgrid(side, side), -1)  # (161, 161, 2)
back = flow.inverse(grid, theta)
_, log_dets = flow.forward(back, theta)
mass = np.sum(np.exp(log_normal(back) - log_dets)) * 0.1**2
check("D40", "corrected: the density of z_k integrates to 1", mass, 1, 1e-6)
near = np.exp(log_normal(back) - 3 * np.exp(log_dets / 3)).sum() * 0.1**2
print(f"as printed, with three equal dets: {near:.4f}")
check("E24", "as printed: the mass is less than a tenth", near < 0.1, 1, 0)

# %% [markdown]
# ## 2 Likelihood, inversion, sampling      §3.1: D41, P26 to P30
#
# Errata met here: E25, E26, E27, E28, E29.
#
# The log-likelihood of N points in our copy lacks the logarithm again (E25)
# and the sum over i in its first term (E26):
#
#     1/N Σ_i log p(z_k⁽ⁱ⁾) = 1/N Σ_i log p(z_0⁽ⁱ⁾)
#                             − 1/N Σ_i Σ_j log |det ∇g_j(z_{j−1}⁽ⁱ⁾)|

# %%
points = rng.normal(size=(7, 2))
start = flow.inverse(points, theta)
per_layer = np.abs([layers(z)[1] for z in start])  # (7, 3)
truth = np.mean([log_normal(z) - log_abs_det(
    complex_step(lambda z: flow.linearize(z, theta)[0], z)) for z in start])
base = log_normal(start)
check("D41 P26", "corrected: mean log-likelihood of seven points",
      base.mean() - np.log(per_layer).sum() / 7, truth, 1e-12)
check("E25", "as printed, no log: off by the mean of |det| - log |det|",
      base.mean() - per_layer.sum() / 7 - truth,
      -(per_layer - np.log(per_layer)).sum() / 7, 1e-12)
check("E26", "as printed, one i for N: off by the other points' terms",
      base[0] / 7 - np.log(per_layer).sum() / 7 - truth,
      -base[1:].sum() / 7, 1e-12)

# %% [markdown]
# To find the hidden states, invert from the last map to the first (P27); our
# copy lists z_{k−1} twice (E27). "Probability" of a point is a density (P28,
# E29), and may exceed 1; and the data point is z_k, not p_k (E28).
#
# Predict first: the density at its centre of N(0, 0.1² I) in the plane?

# %%
first, second, third = theta.reshape(3, -1)
z2 = one.inverse(zk, third)
right = one.inverse(one.inverse(z2, second), first)
wrong = one.inverse(one.inverse(one.inverse(zk, first), second), third)
check("P27 E27", "corrected: inverses from the last to the first",
      right, z0, 1e-12)
check("E27", "... in the other order: not z_0, off by over 1 %",
      norm(wrong - z0) > 0.01 * norm(z0), 1, 0)
check("P28 E29", "density of 0.1 z at 0 is 1/(2 pi 0.01), over 1",
      np.exp(log_normal(np.zeros(2)) - 2 * np.log(0.1)),
      1 / (2 * np.pi * 0.01), 1e-12)
ledger.text("E28", "the symbol p_k for a data point stands for z_k")

# %% [markdown]
# Samples go the other way (P29): E cos(z_k), over 40,000 base samples, against
# the same mean by quadrature of the density, within four standard errors (a
# seeded draw: it passes or not, forever). And P30: without structure, a
# determinant costs n³. Counted in an elimination written out.

# %%
samples = np.cos(flow.forward(rng.normal(size=(40_000, 2)), theta)[0][:, 0])
density = np.exp(log_normal(back) - log_dets)
quadrature = np.sum(np.cos(grid[..., 0]) * density) * 0.1**2
error = samples.std() / np.sqrt(len(samples))
check("P29", "mean of cos over samples, in standard errors from quadrature",
      (samples.mean() - quadrature) / error, 0, 4)


def operations_of_elimination(n):
    """Multiplications, divisions and subtractions of a plain LU."""
    return sum((n - k) + 2 * (n - k) ** 2 for k in range(1, n))


sizes = np.array([64, 128, 256])
check("P30", "operations of a generic determinant: slope in n",
      slope(sizes, [operations_of_elimination(n) for n in sizes]), 3, 0.05)

# %% [markdown]
# ## 3 From layers to a flow      §3.2, §3.4: D42, D43, P31, P51
#
# Errata met here: E30, E31, E53.
#
# z_{t+1} = z_t + f(z_t, t, θ) (D42) need not be invertible: with w·u = −3 a
# planar layer folds the plane, and its determinant goes through zero to −2.
# Our copy takes "the limit as t ← ∞" (P31); what goes to infinity is the
# number of steps, while the step T/N goes to zero (E30). And f is evaluated
# at z(t) (E31). For a planar field that limit is known in closed form, which
# is section 3.4, a heading without text in the note (E53):
#
#     ż = u tanh(w·z + b)        d log p(z_t)/dt = −tanh′(w·z_t + b) w·u

# %%
u, w = np.array([-3.0, 0.5]), np.array([1.0, 0.0])
fold = np.concatenate([u, w, [0.0]])
folding = PlanarFlow(2, layers=1, constrained=False)
J = complex_step(lambda z: folding.linearize(z, fold)[0], np.zeros(2))
check("D42", "w.u = -3: determinant of the layer where w.z + b = 0",
      np.linalg.det(J), -2, 1e-12)
field = ContinuousPlanar(2)
there = complex_solve(field, z0, fold, [0.0, 1.0])[-1]
check("D42", "... while the flow with the same u, w, b comes back",
      complex_solve(field, there, fold, [1.0, 0.0])[-1], z0, 1e-10)

# %%
u, w, b = np.array([0.8, -0.6]), np.array([1.1, 0.4]), 0.3
planar = np.concatenate([u, w, [b]])
exact_z, exact_change = planar_closed_form(z0, 1.0, u, w, b)
end = complex_solve(WithLogDensity(field), np.append(z0, 0), planar,
                    [0.0, 1.0])[-1]
check("P51 E53", "planar flow: z by the ODE against the closed form",
      end[:2], exact_z, 1e-11)
check("P51 E53", "planar flow: log p by the ODE against the closed form",
      end[2], exact_change, 1e-11)
rate = complex_step(lambda t: planar_closed_form(z0, t, u, w, b)[1], 0.7)
z_t = planar_closed_form(z0, 0.7, u, w, b)[0]
check("P51", "... and its rate is -h'(w.z + b) w.u",
      rate, -(1 - np.tanh(w @ z_t + b) ** 2) * (w @ u), 1e-12)

# %% [markdown]
# Predict first: with N layers of step T/N, which order in 1/N has the error
# of z, and which that of the log-determinant? Without the T/N?

# %%
def layered(N, scaled=True):
    """z and -log det after N planar layers of step T/N, or of step 1."""
    deep = PlanarFlow(2, layers=N, constrained=False)
    h = 1 / N if scaled else 1.0
    z, log_det = deep.forward(z0, np.tile(np.append(u * h, planar[2:]), N))
    return np.append(z, -log_det)


N = np.array([32, 64, 128, 256])
exact = np.append(exact_z, exact_change)
gaps = np.array([np.abs(layered(k) - exact) for k in N])
check("P31 E30 D43", "corrected: N layers of step T/N, error of z, slope",
      slope(N, norm(gaps[:, :2], axis=1)), -1, 0.1)
check("P31 E30", "corrected: error of the log-determinant, slope",
      slope(N, gaps[:, 2]), -1, 0.1)
grows = [norm(layered(k, scaled=False)[:2] - exact_z) for k in N]
check("E30", "as printed: without T/N, slope", slope(N, grows), 1, 0.1)


# %% [markdown]
# And D43 itself, dz/dt = f(z(t), t, θ), on a net that reads t, here and in
# the tests over random nets. The end of the solve is moved to t + ih.

# %%
class Problem(NamedTuple):
    """A field, its parameters and a point; the span is [0, 1]."""

    f: MLP
    theta: np.ndarray  # (m,)
    x: np.ndarray  # (n,)


def s(p, eps, t=0.0, z=None):
    """The state slot of the solve map, from z (or p.x) at t for eps."""
    z = p.x if z is None else z
    return complex_solve(p.f, z, p.theta, [t, t + eps])[-1]


def grad_s(p, eps):
    """grad_1 of that slot: n x n (E36), by complex step."""
    return complex_step(lambda z: s(p, eps, z=z), p.x)


def tau(p, z, t):
    return divergence(p.f, z, t, p.theta)


@step("D43", bound=1e-10)
def flow_solves_the_ode(p):
    """dz/dt = f(z(t), t, theta), relative"""
    dz = complex_step(lambda t: s(p, t), 0.6)
    return norm(dz - p.f(s(p, 0.6), 0.6, p.theta)) / norm(dz)


net = MLP([3, 7, 3])
p = Problem(net, net.init(rng, 1.5), rng.normal(size=3))
ledger.run(flow_solves_the_ode, p)
ledger.text("E31", "the symbol f(z, t, theta) stands for f(z(t), t, theta)")

# %% [markdown]
# ## 4 Theorem 2: what it says, what it needs      §3.2: D44, P32 to P35
#
# Errata met here: E32, E33, E34, E35.
#
#     d log p(z_t)/dt = −tr ∇₁f(z_t, t, θ)
#
# log p(z_t) is computed without any trace, from the determinant of the flow:
# log p_0(z_0) − log |det ∇s|. Its derivative in t by extrapolated differences.

# %%
def log_p_by_det(p, t):
    """log p(z_t), along the trajectory through p.x at 0, no trace."""
    return log_normal(p.x) - log_abs_det(grad_s(p, t))


@step("D44", bound=1e-7)
def theorem_2(p):
    """d log p(z_t)/dt + tr grad_1 f = 0, log p from determinants"""
    left = richardson(lambda t: log_p_by_det(p, t), 0.5, 0.05, levels=4)
    t_z = tau(p, s(p, 0.5), 0.5)
    return (left + t_z) / (1 + abs(t_z))


@step("D56 D57 D58 P45", bound=1e-9)
def integrated(p):
    """log p(x) by the trace, solved back from (x, 0), against determinants"""
    x = s(p, 1.0)
    back = complex_solve(WithLogDensity(p.f), np.append(x, 0), p.theta,
                         [1.0, 0.0])[-1]
    gap = log_normal(back[:-1]) - back[-1] - log_p_by_det(p, 1.0)
    return np.append(back[:-1] - p.x, gap)


ledger.run(theorem_2, p)

# %% [markdown]
# Hypotheses. Lipschitz in z gives a unique solution (P33): without it, ż =
# √|z| from 0 has two, z = 0 and z = t²/4. But Lipschitz does not make ∇₁f
# exist: for f = |z| the change of density at 0 has two one-sided rates, −1
# and +1, and the theorem's right-hand side is undefined (P32, E33).

# %%
ts = np.linspace(0, 2, 9)
check("P33", "z = t^2/4 solves z' = sqrt|z| from 0, beside z = 0",
      ts / 2, np.sqrt(ts**2 / 4), 1e-15)


def kink(start, eps):
    """log of d(end)/d(start) over eps for z' = |z|, one-sided at 0."""
    run = solve_ivp(lambda t, z: np.abs(z), (0, eps), [start], rtol=1e-12,
                    atol=1e-15)
    return np.log(run.y[0, -1] / start) / eps


check("P32 E33", "f = |z|: rates of log det left and right of 0",
      [kink(-1e-3, 0.1), kink(1e-3, 0.1)], [-1, 1], 1e-6)
ledger.text("E32", "spelling; a 'finite continuous' variable: with a density")

# %% [markdown]
# "Because we assume that z_t is bounded" (P34): nowhere assumed, false for a
# Gaussian base, and not needed (E34). What a Lipschitz constant K gives is
# ‖∇s_ε‖ ≤ e^{Kε}. And s_ε is bijective for *every* ε, not for small ones
# (P35, E35): an ODE can be run back; only an Euler step needs hK < 1.

# %%
largest = [np.abs(rng.normal(size=k)).max() for k in (100, 10_000, 1_000_000)]
print("largest of 1e2, 1e4, 1e6 Gaussian samples:", np.round(largest, 2))
check("P34 E34", "as printed: bounded; but the largest sample keeps growing",
      np.diff(largest) > 0.3, 1, 0)


@step("E34", bound=1e-9)
def lipschitz_bound(p):
    """corrected: excess of log |grad s| over int |grad_1 f| dt, or 0"""
    ts, w = np.polynomial.legendre.leggauss(20)
    norms = [norm(p.f.jacobian(s(p, t), t, p.theta), 2) for t in (ts + 1) / 2]
    return max(0.0, np.log(norm(grad_s(p, 1.0), 2)) - w @ norms / 2)


@step("P35 E35", bound=1e-7)
def there_and_back(p):
    """corrected: out for 1, 2 and 3, and back: distance to the start"""
    return [norm(s(p, -T, T, s(p, T)) - p.x) / (1 + norm(p.x))
            for T in (1.0, 2.0, 3.0)]


ledger.run(lipschitz_bound, p)
ledger.run(there_and_back, p)

# %% [markdown]
# ## 5 The proof, line by line      §3.2: D45 to D53, P36 to P39
#
# Errata met here: E36, E37, E10.
#
# The proof writes det ∇§1 s_ε (D46), but s_ε has n + 1 + m outputs: that
# matrix is (n+1+m) × n and has no determinant. Meant is the block of its
# first output, ∇₁(s_ε[§1]), n × n (D45, E36).
#
#     log p(z_{t+ε}) = log p(z_t) − log |det ∇₁(s_ε[§1])|

# %%
def whole_map(z):
    """s_eps with all its outputs, (n + 1 + m,)."""
    return np.concatenate([s(p, 0.5, z=z), [0.5], p.theta])


tall = complex_step(whole_map, p.x)
check("E36", "as printed: the matrix is (n + 1 + m) x n, not square",
      tall.shape, (3 + 1 + net.m, 3), 0)
check("D45 E36", "corrected: its first n rows are the block meant",
      tall[:3], grad_s(p, 0.5), 1e-12)


@step("D46", bound=1e-9)
def change_of_variables(p):
    """log p(z_(t+eps)) - log p(z_t) by the trace = -log |det|"""
    start = np.append(p.x, 0.0)
    field = WithLogDensity(p.f)
    end = complex_solve(field, start, p.theta, [0.0, 0.5])[-1]
    return end[-1] + log_abs_det(grad_s(p, 0.5))


ledger.run(change_of_variables, p)

# %% [markdown]
# D47 is a difference quotient *along the trajectory*; our copy writes p(z),
# without the index (E37). At a fixed point the rate is −∇₁ℓ·f − τ, another
# number. Then L'Hospital (D48, D49, P38): the denominator appears because the
# logarithm is differentiated, not because one is lost.

# %%
EPS = 0.04 * 2.0 ** -np.arange(4)


@step("D47", kind="order", order=1, bound=1e-10)
def quotient(p):
    """|-log |det| / eps + tau|, order in eps"""
    rate = tau(p, p.x, 0.0)
    return EPS, [abs(log_abs_det(grad_s(p, e)) / e - rate) for e in EPS]


@step("D48 D49 P38", bound=1e-7)
def lhospital(p):
    """d/d eps log |det| = (d/d eps |det|) / |det|, at eps = .3"""
    log_rate = richardson(lambda e: log_abs_det(grad_s(p, e)), 0.3, 0.05, 4)
    rate = richardson(lambda e: np.linalg.det(grad_s(p, e)), 0.3, 0.05, 4)
    return log_rate - rate / np.linalg.det(grad_s(p, 0.3))


ledger.run(quotient, p)
ledger.run(lhospital, p)

# %% [markdown]
# The printed p(z), at a point that stays: complex step in t alone, and in z
# alone for the score. Together they give back the rate along the path.

# %%
def log_p_at(z, t):
    back = complex_solve(WithLogDensity(net), np.append(z, 0.0), p.theta,
                         [t, 0.0])[-1]
    return log_normal(back[:-1]) - back[-1]


z_half = s(p, 0.5)
fixed = complex_step(lambda t: log_p_at(z_half, t), 0.5)
score = complex_step(lambda z: log_p_at(z, 0.5), z_half)
minus_tau = -tau(p, z_half, 0.5)
check("E37", "as printed, at fixed z: the rate is -tau - score.f",
      fixed, minus_tau - score @ net(z_half, 0.5, p.theta), 1e-10)
check("E37", "... which differs from -tau, by over a tenth of it",
      abs(fixed - minus_tau) > 0.1 * abs(minus_tau), 1, 0)

# %% [markdown]
# The rest of the ladder: |det| → 1 (P36), the quotient of the limits (D50),
# det > 0, since it is the exponential of an integral (D51, P37), Jacobi's
# formula (D52), adj → I (P39), and the end (D53). That ∂_ε∇₁s → ∇₁f follows
# from the variational equation, not from "O(ε²) differentiated" (E10).

# %%
def adjugate(A):
    return np.linalg.det(A) * np.linalg.inv(A)


def rate_of(p, g, e):
    """dg(grad_1 s_eps)/d eps at e, by extrapolated differences."""
    return richardson(lambda x: g(grad_s(p, x)), e, 0.2 * e, levels=3)


@step("P36", kind="order", order=1, bound=1e-12)
def determinant_tends_to_one(p):
    """||det| - 1|, order in eps"""
    return EPS, [abs(abs(np.linalg.det(grad_s(p, e))) - 1) for e in EPS]


@step("D50", kind="order", order=1, bound=1e-8)
def rate_of_the_determinant(p):
    """|d|det|/d eps - tau|, order in eps"""
    t0 = tau(p, p.x, 0.0)
    return EPS, [abs(rate_of(p, np.linalg.det, e) - t0) for e in EPS]


@step("D51 P37", bound=0.0)
def determinant_stays_positive(p):
    """how far det falls below 0, up to T = 3"""
    dets = [np.linalg.det(grad_s(p, e)) for e in (0.5, 1.0, 2.0, 3.0)]
    return max(0.0, -min(dets))


# %%
@step("D52", bound=1e-7)
def jacobi(p):
    """d det/d eps = tr(adj(grad s) d grad s/d eps), at eps = .3"""
    left = rate_of(p, np.linalg.det, 0.3)
    J, dJ = grad_s(p, 0.3), rate_of(p, lambda A: A, 0.3)
    return left - np.trace(adjugate(J) @ dJ)


@step("P39", kind="order", order=1, bound=1e-12)
def adjugate_tends_to_one(p):
    """|adj(grad s) - I|, order in eps"""
    one = np.eye(len(p.x))
    return EPS, [norm(adjugate(grad_s(p, e)) - one) for e in EPS]


@step("D53", kind="order", order=1, bound=1e-8)
def rate_of_the_jacobian(p):
    """|d grad_1 s/d eps - grad_1 f|, order in eps"""
    J = p.f.jacobian(p.x, 0.0, p.theta)
    return EPS, [norm(rate_of(p, lambda A: A, e) - J) for e in EPS]


for function in (determinant_tends_to_one, rate_of_the_determinant,
                 determinant_stays_positive, jacobi, adjugate_tends_to_one,
                 rate_of_the_jacobian):
    ledger.run(function, p)

# %% [markdown]
# ## 6 What the trace costs      §3.2: D54, P40, P41, P42
#
# Errata met here: E38, E39, E40.
#
# D54 lists ∇f_1 twice in our copy (E38): adding up "the right components" of
# the printed list misses the second. "The best we can do" is n VJPs or JVPs
# for a generic f (P40, P41), but not for a network: with one hidden layer the
# exact trace is σ′(u)·μ, O(nh) once for μ and O(h) a sample (E39).
#
# Predict first: for n = 32, how many times f does the generic trace cost?

# %%
J = p.f.jacobian(p.x, 0.0, p.theta)
rows = np.array([net.vjp(p.x, 0.0, p.theta, e)[0] for e in np.eye(3)])
check("D54 P41", "n VJPs, their right components added: the trace",
      sum(rows[i, i] for i in range(3)), tau(p, p.x, 0.0), 1e-13)
printed = rows[[0, 0, 2]]
check("E38", "as printed (f_1 twice): off by J[0, 1] - J[1, 1]",
      sum(printed[i, i] for i in range(3)) - np.trace(J),
      J[0, 1] - J[1, 1], 1e-13)

# %%
wide = MLP([32, 64, 32])
f_ops = 2 * 32 * 64 * 2  # multiply-adds of the two products, times two
generic = 32 * f_ops  # as many JVPs as dimensions, each at least one f
closed = 2 * 64  # sigma'(u).mu, after mu, once for all samples
print(f"n = 32: generic trace over f {generic / f_ops:.0f}, "
      f"closed form over f {closed / f_ops:.3f}")
zs, w_wide = rng.normal(size=(5, 32)), wide.init(rng)
traces = np.trace(wide.jacobian(zs, 0.3, w_wide), axis1=-2, axis2=-1)
check("P40 E39", "the closed form is the trace of the full Jacobian",
      divergence(wide, zs, 0.3, w_wide), traces, 1e-12)
(W1, b1, c1), (W2, _, _) = wide.layers(w_wide)
slopes = 1 - np.tanh(zs @ W1 + b1 + c1 * 0.3) ** 2
check("E39", "corrected: sigma'(u).mu, written out here",
      slopes @ np.einsum("ik,ki->k", W1, W2), traces, 1e-12)

# %% [markdown]
# Hutchinson's estimate v·∇₁f v, one JVP a probe (P42), is unbiased: averaged
# over all 2ⁿ sign vectors it *is* the trace. Frozen for a whole solve, it is
# unbiased for log p. For p itself it is not, by Jensen's inequality (E40).
#
# Predict first: is the mean of p̂ too large or too small?

# %%
signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T  # (8, 3)
estimates = [divergence(net, p.x, 0.0, p.theta, v[None]) for v in signs]
check("P42", "mean over all 2^n sign vectors is the trace",
      np.mean(estimates), tau(p, p.x, 0.0), 1e-13)
S = (J + J.T) / 2
check("P42", "variance by signs is 2 (|S|^2 - sum S_ii^2)",
      np.var(estimates), 2 * (norm(S) ** 2 - norm(np.diag(S)) ** 2), 1e-12)
changes = np.array([complex_solve(WithLogDensity(net, v[None]), np.append(
    p.x, 0.0), p.theta, [0.0, 1.0])[-1, -1] for v in signs])
exact = -log_abs_det(grad_s(p, 1.0))
check("E40", "log p, probe frozen: mean over the signs is exact",
      changes.mean(), exact, 1e-10)
bias = np.mean(np.exp(changes - exact))
print(f"probe's standard deviation {changes.std():.3f}, E[p^]/p {bias:.4f}")
check("E40", "p itself: E[p^]/p exceeds 1 by at least 0.3 of the variance",
      bias - 1 > 0.3 * changes.var(), 1, 0)

# %% [markdown]
# ## 7 A density from a flow      §3.3: D55 to D58, P43 to P45
#
# Errata met here: E41, E54, E55.
#
# Sampling is one forward solve from a base sample (P44); our copy's D55 has
# p for z: a scalar density plus a vector (E41). The density of a given point
# is one backward solve, from (z_t1, 0), which ends with −Δ's worth of log p
# (D56 to D58, P45). The base is fixed: ∇θ log p_t0 = 0 (P43).

# %%
ledger.run(integrated, p)
x, w20 = np.polynomial.legendre.leggauss(20)
moved = sum(wk * net(s(p, t), t, p.theta)
            for t, wk in zip((x + 1) / 2, w20 / 2, strict=True))
check("D55 E41 P44", "corrected: z_t1 = z_t0 + int f dt",
      p.x + moved, s(p, 1.0), 1e-9)
check("E41", "as printed: p_t0 + int f has n components, a density has one",
      np.size(np.exp(log_normal(p.x)) + moved) - 1, 3 - 1, 0)
check("P43", "the base density does not move with theta",
      complex_step(lambda w: log_normal(p.x) + 0 * w.sum(), p.theta), 0, 0)

# %% [markdown]
# Total mass is the test that finds a wrong sign of the trace. In one
# dimension, on a grid: with −tr it is 1, with + it is not, though every
# single value looks plausible.

# %%
line = MLP([1, 6, 1])
w1 = line.init(rng, 2.0)
xs = np.linspace(-9, 9, 1201)
ends = complex_solve(WithLogDensity(line), np.stack([xs, 0 * xs], -1), w1,
                     [1.0, 0.0], rtol=1e-10, atol=1e-10)[-1]
masses = [trapezoid(np.exp(log_normal(ends[:, :1]) - sign * ends[:, 1]),
                       xs) for sign in (1, -1)]
print("mass with the right and with the wrong sign:", np.round(masses, 6))
check("D57 D44", "mass of p_t1 with the trace's sign right", masses[0],
      1, 1e-6)
check("D44", "... and with it wrong: off by over a tenth",
      abs(masses[1] - 1) > 0.1, 1, 0)
ledger.text("E54", "a list bullet lost its first letter in our copy")
ledger.text("E55", "spelling, and letters with two meanings, throughout")

# %% [markdown]
# ## 8 A score counts only on another grid      §3.3: P26, P45
#
# Maximum likelihood (P26) raises the score by any means, an error of the
# solver among them. A contracting field ż = −λz, solved back in N steps of
# RK4, multiplies by R(λ/N)ᴺ, R the Taylor polynomial of degree 4, while its
# trace is integrated exactly. Since R(x) < eˣ, every point lands too near the
# centre of the base: with q = (R(λ/N) e^{−λ/N})ᴺ < 1 and true samples
# e^{−λ}ζ, the mean score beats the truth by ½ (1 − q²) mean |ζ|².
#
# Predict first: one flow, two grids, 8 and 512 steps: which scores higher?

# %%
from refode import Linear
from refode.flows import ContinuousFlow

LAM, zeta = 16.0, rng.normal(size=(2000, 2))
true_score = log_normal(zeta).mean() + 2 * LAM


def score_on_grid(steps):
    """Mean log p of true samples, by RK4 with that many steps."""
    contracting = ContinuousFlow(
        Linear(2), np.diag([-LAM, -LAM]).ravel(),
        options={"method": "RK4", "step": 1 / steps})
    return contracting.logpdf(np.exp(-LAM) * zeta).mean()


def predicted_gain(steps):
    x = LAM / steps
    R = 1 + x + x**2 / 2 + x**3 / 6 + x**4 / 24
    return 0.5 * (1 - (R * np.exp(-x)) ** (2 * steps)) * np.mean(
        np.sum(zeta**2, axis=-1))


# %%
for steps in (8, 512):
    gain = score_on_grid(steps) - true_score
    print(f"{steps:3d} steps: {gain:+.2e} nats above the true density")
    check("P26 P45", f"one flow on a grid of {steps}: its gain is the grid's",
          gain, predicted_gain(steps), 1e-9)
check("P26", "on 8 steps it beats the truth by over half a nat",
      score_on_grid(8) - true_score > 0.5, 1, 0)

# %% [markdown]
# An optimiser finds this by itself: trained and scored on one grid of 8
# steps, flows have beaten the true density of their data, and lost several
# nats when solved finely. So no score in this project is taken on the grid
# that trained it, and training draws the number of its steps anew each time.
#
# ### Three questions, answered by number
#
# What does eq. (1) lack? A logarithm: without it the density of three maps
# has a mass under a tenth (section 1). Must a continuous planar flow obey
# w·u ≥ −1? No: at w·u = −3 a layer folds, and the flow comes back to 1e-10
# (section 3). Is Hutchinson's estimate unbiased? For log p, yes, with the
# probe frozen; for p, no (section 6).

# %%
ledger.finish()
