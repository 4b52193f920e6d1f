# %% [markdown]
# # Which gradient is the likelihood's?
#
# You need: `adjoint_derivation.py`, and section 3.3 of the note.
# You get:  the note's last differential equation, why it is wrong, what is
#           right, and three ways to be sure; and a training run that the
#           mistake destroys.
# Seconds:  about 10, on one core. `--figures DIR` draws the figure too.
#
# Section 3.3 wants the gradient of log p(x) in the parameters, for maximum
# likelihood. It takes Theorem 1, applies it to log p, and prints an equation
# for the score ∇₁ log p* and the gradient ∇₃ log p* along the flow (D62).
# That equation is wrong four times over. None of the four shows in a shape;
# mend one of them, the sign, and what you get points roughly the right way,
# to a cosine of 0.8, and still drives the likelihood down.
#
# Which θ-gradient is the likelihood's? is what learners ask here; section 4
# answers with a table of three, section 6 with three training runs.
# %%
import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.linalg import expm
from scipy.stats import multivariate_normal

from refode import MLP, Linear, WithLogDensity
from refode.as_printed import VARIANTS, climb, likelihood_gradient
from refode.datasets import two_moons, two_moons_logpdf
# %%
from refode.divergence import linearize_divergence
from refode.finite_difference import complex_solve, complex_step
from refode.finite_difference import directional_difference, richardson
from refode.flows import ContinuousFlow, forward_system, reverse_kl
from refode.steps import Ledger

parser = argparse.ArgumentParser(description="The likelihood's gradient.")
parser.add_argument("--figures", metavar="DIR", help="save the figure there")
FIGURES = parser.parse_args().figures if __name__ == "__main__" else None
if FIGURES:
    from figures._files import writable

    writable(Path(FIGURES))  # made now: not to fail after all the work
# %% [markdown]
# ## 0 How to read this
#
# A row begins with `ok` or `FAIL` and the item of the note. Notation: ∇₁, ∇₂
# and ∇₃ are the note's ∇§1, ∇§2, ∇§3, τ is tr ∇₁f, gradients are rows. A
# claim about every smooth field is a function marked with `@step`, run at
# once on our p and again by the tests on random nets; it returns what is left
# when its two sides are subtracted.
#
# Complex step is exact to rounding; what is left is the solver's error, by
# one of two solvers, times what the flow amplifies:
#
#     complex_solve    DOP853 at 1e-13                1e-10, and 1e-9 where
#                                                     two solves follow
#     the library      DOP853 at 1e-11, three solves  1e-8
#                      (back, forth, and a gradient)
# %%
ledger = Ledger("Section 3.3 of the note, from p* on")
check, norm = ledger.check, np.linalg.norm
rng = np.random.default_rng(1)

class Problem(NamedTuple):
    """A field, its parameters, and a point; the span is [0, 1]."""

    f: MLP
    theta: np.ndarray  # (m,)
    x: np.ndarray  # (n,)
# %%
net = MLP([2, 8, 2])
p = Problem(net, net.init(rng, 1.5), rng.normal(size=2))

def step(id, **how):
    def mark(function):
        ledger.run(ledger.step(id, **how)(function), p)
        return function
    return mark
# %% [markdown]
# ## 1 What p* is      §3.3: D59, D60, D61, P48
#
# Errata met here: E44, E45, E46, E47.
#
#     p*(z, t, θ) = density at the point z, at time t, of Z(t; ζ, θ), ζ ~ p_t0
#     ℓ(z, t, θ)  = log p*(z, t, θ)                                   ()
#
# Three *independent* arguments: hold z, move t, and the density at that point
# changes, because other points arrive there. Our copy writes p*(z_t, t, θ) =
# p(z_t), which hides that (E44): it looks as if nothing depended on t or θ.
#
# To compute ℓ, solve (z, Δ) from (z, 0) at t back to t0; then ℓ =
# log p_t0(z_t0) − Δ_t0. All of it takes complex numbers, so that every
# argument can be differentiated exactly.
#
# Predict first: at a fixed z, are the derivatives of ℓ in t and θ zero?
# %%
def log_base(z):
    return -0.5 * np.sum(z**2) - 0.5 * len(z) * np.log(2 * np.pi)

def ell(p, z, t, theta):
    """log p*(z, t, theta), by the trace, for complex arguments too."""
    if t == 0:
        return log_base(z)
    start = np.append(z, 0.0)
    end = complex_solve(WithLogDensity(p.f), start, theta, [t, 0.0])[-1]
    return log_base(end[:-1]) - end[-1]
# %% [markdown]
# The size of the derivative in t can be predicted. The density at a fixed
# point changes by what compression adds, −τ, and by what drifts past:
#
#     ∇₂ℓ = −∇₁ℓ·f − τ                                            ()
# %%
@step("E44", kind="existence", bound=1e-9)
def density_moves_at_a_fixed_point(p):
    """as printed: no t in p*; but d log p*/dt at fixed z is -s f - tau"""
    moved = complex_step(lambda t: ell(p, p.x, t, p.theta), 1.0)
    s = complex_step(lambda z: ell(p, z, 1.0, p.theta), p.x)
    f, tau, _ = linearize_divergence(p.f, p.x, 1.0, p.theta)
    return moved, -s @ f - tau

in_theta = complex_step(lambda w: ell(p, p.x, 1.0, w), p.theta)
print(f"at fixed z: |d log p*/dtheta| = {norm(in_theta):.4f}")
# %% [markdown]
# Neither is zero. And to be sure of `ell` itself, there is the determinant
# formula of section 3.1, which uses no trace at all:
#
#     ℓ(x, 1, θ) = log p_t0(z_0(x)) + log |det ∂z_0/∂x|            ()
#
# Its Jacobian is by complex step: x and its n shifted copies are solved back
# together. The two ways to ℓ share the field and the solver, no formula.
#
# Predict first: to how many digits should they agree?
# %%
def by_determinant(p, theta):
    h, n = 1e-30, len(p.x)
    shifts = 1j * h * np.eye(n + 1, n, k=-1)  # row 0 is no shift
    ends = complex_solve(p.f, p.x + shifts, theta, [1.0, 0.0])[-1]
    J = ends[1:].imag / h  # (n, n), its transpose: det is the same
    return log_base(ends[0].real) + np.linalg.slogdet(J)[1]

@step("D59 E44", bound=1e-10)
def trace_and_determinant_agree(p):
    """corrected: log p* by the trace equals that by the determinant"""
    return ell(p, p.x, 1.0, p.theta) - by_determinant(p, p.theta)
# %% [markdown]
# To about twelve: the solver works to 1e-13 a step, takes a few dozen of
# them, and amplifies an early error by what the flow spreads. Agreement to
# fewer digits would be a wrong formula; to all sixteen, the same one twice.
#
# At t0 the density is the base's, and so is its score, the gradient of log p
# in the point (D60, P48; the note's ∇_81 is ∇_§1, E45, and its p(z_0) is
# p(z_t0), E46). Our copy writes the same for every t (D61, E47):
#
#     as printed    ∇₁ log p*(z_t, t, θ) = ∇p(z_t0)/p(z_t0)        (n,)
#     corrected     only at t = t0
#
# Predict first: is the score at t = ½ near the one at t0?
# %%
def path(p, t):
    """z_t on the path that ends at x at t = 1."""
    return complex_solve(p.f, p.x, p.theta, [1.0, t])[-1]

def score(p, t):
    return complex_step(lambda z: ell(p, z, t, p.theta), path(p, t))

half, start = score(p, 0.5), score(p, 0.0)
print("score at t = .5 and at t0:", half.round(4), start.round(4))
# %% [markdown]
# Not near. What it has gained on the way is an integral of −(s ∇₁f + ∇₁τ),
# where s is the score; section 3 derives that. Here it predicts the printed
# formula's error: ten Gauss nodes on half the span, whose quadrature error is
# below the solver's for so smooth a path.
# %%
def drift(p, t):
    """s grad_1 f + grad_1 tau on the path, s by complex step."""
    _, _, pullback = linearize_divergence(p.f, path(p, t), t, p.theta)
    return pullback(score(p, t), np.ones(()))[0]

nodes, weights = np.polynomial.legendre.leggauss(10)
gained = -sum(wk / 4 * drift(p, t)
              for t, wk in zip((nodes + 1) / 4, weights))
check("E47", "as printed: at t = .5 off by the integral of the drift",
      half - start, gained, 1e-9)
# %%
@step("D60 D61 P48 E47", bound=1e-10)
def score_at_the_start(p):
    """corrected: at t0 the score is grad p / p of the base"""
    z0 = path(p, 0.0)
    gradient = complex_step(lambda z: np.exp(log_base(z)), z0)
    return score(p, 0.0) - gradient / np.exp(log_base(z0))

ledger.text("E45", "the symbol grad_81 stands for grad_S1")
ledger.text("E46", "the symbol p(z_0) stands for p(z_t0)")
# %% [markdown]
# ## 2 Why Theorem 1 does not apply      §3.3: P49
#
# Errata met here: E48.
#
# Theorem 1 is about a loss of the *end* of a path. Start the solver anywhere
# on the path, at that point's own time, and it arrives at the same end: the
# loss is one number all along the path (D17). The proof uses that and nothing
# else. Now put log p* in its place, as our copy does ("Theorem 1 gives us",
# P49). Is log p* one number all along the path? Theorem 2, just proved, says
# that it is not: it changes at the rate −τ, since the points around ours
# spread or crowd together on the way. So the theorem says nothing of log p*
# (E48). But *how* log p* changes is known. Let Δ be the change since t0, dΔ/dt
# = −τ, and carry it along as one more component of the state. Then log p* − Δ
# is one number all along the path: the log-density with which the point
# started. Theorem 1 does apply to that, on the state (z, Δ), and the new
# component is where the terms ∇τ come from that our copy lacks.
#
# Predict first: of log p* and of log p* − Δ, which is flat along the path?
# %%
def along(p, ts):
    """log p* and Delta at times ts of the path through x."""
    ell_t = [ell(p, path(p, t), t, p.theta) for t in ts]
    start = np.append(path(p, 0.0), 0.0)
    field = WithLogDensity(p.f)
    delta = [complex_solve(field, start, p.theta, [0.0, t])[-1, -1]
             for t in ts]
    return np.array(ell_t), np.array(delta)
# %% [markdown]
# log p* is by solves *back* from each point, Δ by solves *forward* from the
# start: two routes, whose difference is flat only if Theorem 2 holds.
# %%
@step("E48", kind="existence", bound=1e-8)
def what_is_not(p):
    """as printed: log p* changes, by the integral of -tau"""
    ell_t, delta = along(p, np.array([0.1, 1.0]))
    return ell_t[1] - ell_t[0], delta[1] - delta[0]

@step("P49 E48", bound=1e-9)
def what_is_constant(p):
    """corrected: log p* - Delta is constant along a path, spread"""
    ell_t, delta = along(p, np.linspace(0.1, 1, 5))
    return np.ptp(ell_t - delta)
# %% [markdown]
# ## 3 The corrected system      §3.3: D62, D63, P50
#
# Errata met here: E49, E50, E51, E52.
#
#     ┌────────────────────────────────────────────────────────────┐
#     │        ⎡ z_t            ⎤   ⎡  f(z_t, t, θ)     ⎤     (n,) │
#     │  d/dt  ⎢ ∇₁ℓ(z_t, t, θ) ⎥ = ⎢ −∇₁ℓ ∇₁f  −  ∇₁τ  ⎥     (n,) │
#     │        ⎣ ∇₃ℓ(z_t, t, θ) ⎦   ⎣ −∇₁ℓ ∇₃f  −  ∇₃τ  ⎦     (m,) │
#     │                                                            │
#     │  from  ( z_t0,  ∇p(z_t0)/p(z_t0),  0 )  at t0,  on to t1   │
#     └────────────────────────────────────────────────────────────┘
#
#     ∇₁f (n, n)    ∇₃f (n, m)    ∇₁τ (n,)    ∇₃τ (m,)    2n + m in all
#
# *Derivation 1.* Theorem 2 holds along every path, and a path goes through
# every point; so, as an identity in all of (z, t, θ),
#
#     ∇₂ℓ + ∇₁ℓ·f + τ = 0                    (log-Liouville)       ()
#
# Differentiate it in z, at fixed t and θ:
#
#     ∇₂∇₁ℓ + fᵀ∇₁∇₁ℓ + ∇₁ℓ ∇₁f + ∇₁τ = 0                         (n,)
#
# The first two terms are d/dt of ∇₁ℓ(z_t, t, θ), by the chain rule, and so
# this is the second row of the box. Differentiate in θ in place of z, and it
# is the third row. The identity is tested at a point off our path.
# %%
@step("D62", bound=1e-9)
def log_liouville(p):
    """grad_2 l + grad_1 l f + tau = 0 at a point off the path"""
    z, t = p.x + 0.3, 0.7
    l_1 = complex_step(lambda z: ell(p, z, t, p.theta), z)
    l_2 = complex_step(lambda t: ell(p, z, t, p.theta), t)
    f, tau, _ = linearize_divergence(p.f, z, t, p.theta)
    return (l_2 + l_1 @ f + tau) / (1 + norm(l_1) * norm(f))
# %% [markdown]
# *Derivation 2.* Theorem 1, used where it holds: on the state (z, Δ). Solve
# it from (x, 0) at t1 back to t0, and let the loss be log p_t0(z_t0) − Δ_t0,
# which is log p(x). The solve *ends* at t0, so the adjoint starts there and
# runs the other way, forward to t1:
#
#     a_z(t0) = ∇ log p_t0(z_t0),   a_Δ = −1,   a_θ(t0) = 0
#     da_z/dt = −a_z ∇₁f − a_Δ ∇₁(−τ) = −a_z ∇₁f − ∇₁τ            (n,)
#
# The same row, and likewise for θ. The adjoint of the augmented solve *is*
# the score along the path.
#
# The library has both: `flow.likelihood_gradient` is derivation 2, by the one
# adjoint there is; `forward_system` integrates the box. Neither is the judge
# here: that is complex step of ℓ, and differences of the determinant formula.
#
# Predict first: the ordinary adjoint runs backward in time. Why not this one?
# %%
TIGHT = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-12}

def truth(p):
    """Score and theta-gradient of log p*(x, 1, theta), by complex step."""
    return (complex_step(lambda z: ell(p, z, 1.0, p.theta), p.x),
            complex_step(lambda theta: ell(p, p.x, 1.0, theta), p.theta))

def relative(got, want):
    return norm(np.subtract(got, want)) / norm(want)
# %%
@step("D62 D63 P50 E49 E50 E51 E52", bound=1e-8)
def corrected_system(p):
    """corrected: score and theta-gradient at t1, two routes, relative"""
    flow = ContinuousFlow(p.f, p.theta, options=TIGHT)
    s, g = truth(p)
    ways = forward_system(flow, p.x), flow.likelihood_gradient(p.x)
    return [relative(got, want) for way in ways
            for got, want in ((way.x, s), (way.theta, g))]
# %% [markdown]
# Because it follows a solve that itself ran backward, from t1 to t0. The sign
# in the equation is the same for either direction.
#
# And the judge is judged: differences, all m of them, of the formula without
# a trace. With h = 3e-3 and one extrapolation the truncation is of the order
# h⁴ = 1e-10, the rounding 1e-13/h = 1e-10.
# %%
s, g = truth(p)
fd = richardson(lambda w: by_determinant(p, w), p.theta, 3e-3, levels=2)
check("D62", "complex step of l against differences of the determinant",
      relative(g, fd), 0, 1e-8)
# %% [markdown]
# Now our copy, with plus signs and no trace terms (D62), and an initial
# condition without its third block (D63, E52):
#
#     as printed    d/dt (z, ∇₁ℓ, ∇₃ℓ) = (f, +∇₁ℓ ∇₁f, +∇₁ℓ ∇₃f)
#
# What remains of that equation when its faults are mended one at a time? Each
# line of the table is integrated, from the same start, on the same path.
#
# Predict first: mend only the sign. Is the cosine with the truth positive?
# %%
flow = ContinuousFlow(net, p.theta, options=TIGHT)
off = {}
print("variant                score off by  theta off by  cosine")
for variant in VARIANTS:
    s_v, g_v = likelihood_gradient(flow, p.x[None], variant)
    off[variant] = relative(s_v[0], s), relative(g_v, g)
    print(f"{variant:22} {off[variant][0]:12.1e} {off[variant][1]:13.1e}"
          f" {g_v @ g / (norm(g_v) * norm(g)):+7.3f}")
# %% [markdown]
# As printed, the θ-gradient is off by more than its own length and points
# backward. With the sign mended the cosine is +0.8: a wrong gradient that
# looks right.
#
# What is that gradient, then? Without ∇τ the box is the ordinary adjoint of z
# for the loss log p_t0(z_t0), so it is the gradient of the *base term alone*,
# at fixed x, and not of the likelihood: E50 for the score, E51 for θ. Complex
# step of the base term is the other route.
# %%
def base_term(p, x, theta):
    return log_base(complex_solve(p.f, x, theta, [1.0, 0.0])[-1])

want_s = complex_step(lambda x: base_term(p, x, p.theta), p.x)
want_g = complex_step(lambda theta: base_term(p, p.x, theta), p.theta)
literal = likelihood_gradient(flow, p.x[None], "Theorem 1 literally")
# %%
check("E50", "as printed, sign mended: the score of the base term alone",
      literal[0][0], want_s, 1e-8)
check("E50", "corrected: the score by the same code, relative",
      off["corrected"][0], 0, 1e-8)
check("E51", "as printed, sign mended: the gradient of the base term alone",
      literal[1], want_g, 1e-8)
check("E51 D62", "as printed: theta-gradient off by more than itself",
      off["as printed"][1] > 1, 1, 0)
# %% [markdown]
# The sign by itself (E49) shows on a linear field, f = Az, where ∇₁τ = 0 and
# ∇₃τ = I, laid out like A. Then all of it can be written down: with z_0 =
# e^{−A} x and s_0 = −z_0,
#
#     as printed    s_t = s_0 e^{+At},   g = +∫ s_tᵀ z_tᵀ dt          (n, n)
#     corrected     s_t = s_0 e^{−At},   g = −∫ s_tᵀ z_tᵀ dt − I      (n, n)
#
# where z_t = e^{At} z_0. Matrix exponentials and 20 Gauss nodes, no solver;
# the library's solves leave 1e-9.
# %%
A = np.array([[0.3, 0.9], [-0.5, -0.2]])
linear = ContinuousFlow(Linear(2), A.ravel(), options=TIGHT)
z0 = expm(-A) @ p.x
nodes, weights = np.polynomial.legendre.leggauss(20)

def closed_form(sign):
    """s at t = 1, and g, with the sign of the equation; no trace."""
    g = sum(wk / 2 * np.outer(-z0 @ expm(sign * A * t), expm(A * t) @ z0)
            for t, wk in zip((nodes + 1) / 2, weights))
    return -z0 @ expm(sign * A), sign * g
# %%
printed = likelihood_gradient(linear, p.x[None], "as printed")
s_plus, g_plus = closed_form(+1)
check("E49", "as printed, linear field: the score is -z_0 e^(+A)",
      printed[0][0], s_plus, 1e-9)
check("D62", "as printed, linear field: the theta-gradient's closed form",
      printed[1].reshape(2, 2), g_plus, 1e-9)
# %%
s_minus, g_minus = closed_form(-1)
check("E49", "corrected, linear field: the score is -z_0 e^(-A)",
      linear.score(p.x), s_minus, 1e-9)
check("D62", "corrected, linear field: the theta-gradient, with -I",
      linear.likelihood_gradient(p.x).theta.reshape(2, 2),
      g_minus - np.eye(2), 1e-9)
# %% [markdown]
# Last, the third block. D63 starts a state of 2n numbers, and the equation
# has 2n + m; what is missing is m zeros, since the base is free of θ (E52).
# %%
check("E52 D63", "as printed: the initial state is short by m",
      2 * 2 + net.m - len(np.concatenate([p.x, s])), net.m, 0)
# %% [markdown]
# ## 4 Three gradients, all called ∇θ      §3.3: P47
#
# Errata met here: E43.
#
# | held fixed | what moves | use |
# |---|---|---|
# | the point x at t1 | z_t0 | **maximum likelihood** |
# | the base sample z_t0 | z_t1 | sampling, reverse KL |
# | x, in the base term alone | z_t0 | none |
#
# The data are given, so that maximum likelihood holds x and lets z_t0 move
# with θ. Whoever samples holds z_t0 and lets the image move. The third is
# what remains of the first without ∇τ. A finite difference perturbs one of
# them: write down which. By the chain rule, the first two differ by
#
#     ∇θ at fixed z_t0  =  ∇₃ℓ + ∇₁ℓ S,     S = ∂z_t1/∂θ     (m,)  (n, m)
#
# Predict first: what is the angle between the first two?
# %%
def at_fixed_base(p, theta):
    """log p at the image of a fixed base sample, (log p)(z_t1(theta))."""
    start = np.append(path(p, 0.0), 0.0)
    end = complex_solve(WithLogDensity(p.f), start, theta, [0.0, 1.0])[-1]
    return log_base(start[:-1]) + end[-1]

fixed = complex_step(lambda theta: at_fixed_base(p, theta), p.theta)
base_point = path(p, 0.0)
S = complex_step(lambda w: complex_solve(
    net, base_point, w, [0.0, 1.0])[-1], p.theta)
# %%
print(f"cosine of the first two: {fixed @ g / (norm(fixed) * norm(g)):+.3f}")
check("P47", "fixed z_t0 and fixed x: the gradients differ by s S",
      fixed - g, s @ S, 1e-9)
# %% [markdown]
# The library's `reverse_kl` is the second one. It runs *backward* from t1,
# and its source has the opposite sign, a_Δ = +1. With a flat target, log q =
# 0, its value is log p at the image and nothing else, so that its gradient is
# comparable with complex step.
# %%
class Flat:
    """log q = 0."""

    def logpdf(self, z):
        return np.zeros(len(z))

    def score(self, z):
        return np.zeros_like(z)
# %%
@step("P47 E43", bound=1e-8)
def gradient_at_fixed_base(p):
    """at fixed z_t0: reverse_kl's adjoint against complex step, relative"""
    flow = ContinuousFlow(p.f, p.theta, options=TIGHT)
    want = complex_step(lambda theta: at_fixed_base(p, theta), p.theta)
    _, got = reverse_kl(flow, Flat(), path(p, 0.0)[None])
    return norm(got - want) / (norm(want) + norm(truth(p)[1]))
# %% [markdown]
# In the state there is a slip of the same kind. Our copy writes ∇_{z_t}
# log p(z_t1), a gradient in a point of the path before its end; wanted is
# ∇_{z_t1}, the score (E43). The two are tied by the Jacobian of the solve:
#
#     ∇_{z_t0} = ∇_{z_t1} ∂z_t1/∂z_t0                                (n,)
#
# (To ∇_{z_t} log p(z_t1) Theorem 1 *does* apply: it is a function of the
# path's end. It is only not what one wants.)
# %%
def image(z):
    return complex_solve(net, z, p.theta, [0.0, 1.0])[-1]

J = complex_step(image, base_point)  # (n, n)
printed = complex_step(lambda z: ell(p, image(z), 1.0, p.theta), base_point)
print(f"gradient in z_t0 and score differ by {relative(printed, s):.2f}")
check("E43", "as printed: the gradient in z_t0 is the score times dz_t1/dz_t0",
      printed, s @ J, 1e-8)
# %% [markdown]
# ## 5 "Surprisingly, it is easier"      §3.3: P46
#
# Errata met here: E42.
#
# The note finds the gradient of log p easier than log p (P46), since the
# sweep back carries z alone. But at every step forth it needs ∇τ, second
# derivatives (E42). We count arithmetic, for a net in n = 16 dimensions with
# three hidden layers, which has no closed form for its trace. The prediction,
# for K tangents beside the value, K = n for the exact trace:
#
#     f and τ            1 + K    products where f has one
#     with the gradient  3(1 + K)  since reverse mode adds two for each
#
# Predict first: f and τ with its gradient, in units of f, for K = 16?
# %%
class Counted(np.ndarray):
    """An array whose arithmetic is counted."""

    operations = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        plain = [np.asarray(x) for x in inputs]
        out = np.asarray(getattr(ufunc, method)(*plain, **options))
        inner = 2 * plain[0].shape[-1] if ufunc is np.matmul else 1
        Counted.operations += inner * max(out.size, plain[0].size // inner)
        return out.view(Counted)
# %%
def operations(function, *arrays):
    Counted.operations = 0
    function(*(x.view(Counted) for x in arrays))
    return Counted.operations

deep = MLP([16, 32, 32, 32, 16])
w, zs, ones = deep.init(rng), rng.normal(size=(4, 16)), np.ones(4)
probe = rng.choice([-1.0, 1.0], (1, 4, 16))
# %% [markdown]
# What is not a product (the activations, their two derivatives, sums) is some
# 5 % of f, more or less than 1 + K times: held to 10 %.
# %%
def f_and_tau(z, w, V):
    return linearize_divergence(deep, z, 0.3, w, V)

f_ops = operations(lambda z, w: deep(z, 0.3, w), zs, w)
for name, K, V in (("exact", 16, None), ("one probe", 1, probe)):
    tau = operations(lambda z, w, V=V: f_and_tau(z, w, V), zs, w) / f_ops
    both = operations(
        lambda z, w, V=V: f_and_tau(z, w, V)[2](z, ones), zs, w) / f_ops
    print(f"{name:10} f and tau {tau:.1f} f, with the gradient {both:.1f} f")
    check("P46", f"{name}: f and tau, in f over 1 + K", tau / (1 + K), 1, 0.1)
    check("P46 E42", f"as printed: easier; but {name}: gradient over value",
          both / tau, 3, 0.3)
# %% [markdown]
# The gradient is three times as dear, exactly or with a probe. With probes,
# frozen for the whole solve, the box is linear in τ, so that the gradient is
# unbiased: averaged over all 2ⁿ sign vectors it is exact. One probe alone is
# far off (for n = 2 always equally far: v and −v give the same estimate, and
# the two that remain lie on either side of the mean).
# %%
signs = np.array([[i, j] for i in (-1.0, 1.0) for j in (-1.0, 1.0)])
each = [flow.likelihood_gradient(p.x, probes=v[None]).theta for v in signs]
print("one probe off by", [f"{relative(e, g):.2f}" for e in each])
check("E42 D62", "mean over all sign vectors is the exact gradient, relative",
      relative(np.mean(each, axis=0), g), 0, 1e-8)
# %% [markdown]
# ## 6 What the mistake does to training      §3.3: P50, D62
#
# Two moons, 256 points, one net, one optimiser (Adam, 0.02), RK4 with 16
# steps, 120 iterations. Only the equation differs. The score is the mean log
# p of 500 held-out points by an adaptive solve, not on the grid that trained.
# %%
data, held_out = two_moons(256, rng), two_moons(500, rng)
small = MLP([2, 16, 2])
trained = ContinuousFlow(small, small.init(rng),
                         options={"method": "RK4", "step": 1 / 16})
best = multivariate_normal(data.mean(0), np.cov(data.T)).logpdf(held_out)
print(f"best single Gaussian {best.mean():.3f}, "
      f"the true density {two_moons_logpdf(held_out).mean():.3f}")
# %% [markdown]
# Before the runs, their first move. Along a direction d the mean log p of the
# data changes at the rate g·d, where g is its true gradient. The rate is
# measured by differences of log p itself, with d each variant's own gradient,
# normed; of the literal one it is less than of the corrected. An adaptive
# solve at 1e-11 and h = 1e-4 leave truncation h² = 1e-8 and 1e-11/h = 1e-7
# from the solver: 1e-6.
#
# Predict first: does a short step along the printed gradient go up or down?
# And along the literal one?
# %%
sharp = ContinuousFlow(small, trained.theta, options=TIGHT)
g_data = sharp.likelihood_gradient(data).theta / len(data)

def rate(direction):
    return directional_difference(
        lambda w: sharp.with_theta(w).logpdf(data).mean(),
        trained.theta, direction, 1e-4)
# %%
for variant, id in (("corrected", "P50"), ("as printed", "E49 D62"),
                    ("Theorem 1 literally", "E50 E51")):
    d = likelihood_gradient(sharp, data, variant)[1]
    d /= norm(d)
    print(f"{variant:20} cosine {d @ g_data / norm(g_data):+.3f}")
    check(id, f"{variant}: rate of the mean log p along its first move",
          rate(d), g_data @ d, 1e-6)
# %% [markdown]
# Predict first: which of the wrong two does better after one step? After 120?
# %%
runs = {}
for variant in ("corrected", "Theorem 1 literally", "as printed"):
    thetas = list(climb(trained, data, variant, 120))
    runs[variant] = [
        ContinuousFlow(small, thetas[k]).logpdf(held_out).mean()
        for k in (0, 1, 10, 40, 120)]
    print(f"{variant:20}", *(f"{x:11.3f}" for x in runs[variant]))
# %% [markdown]
# (Columns: after 0, 1, 10, 40, 120 iterations.) The single Gaussian of the
# data's own mean and covariance is the least that a flow should beat. The
# sign-mended equation starts uphill and ends below its own beginning: it
# drives every point to the centre of the base, where log p_t0 is highest, and
# nobody tells it what that does to volume. How far a wrong run falls has no
# formula; the rows hold what a reader would claim from the table, as the part
# by which the claim is missed.
# %%
ends = {variant: run[-1] for variant, run in runs.items()}
begin = runs["corrected"][0]
check("P50", "corrected: short of 0.1 over the best Gaussian, by",
      max(0, best.mean() + 0.1 - ends["corrected"]), 0, 0)
check("E48 E50 E51", "Theorem 1 literally: above where it began, by",
      max(0, ends["Theorem 1 literally"] - begin), 0, 0)
check("E49 D62", "as printed: above a hundred below its beginning, by",
      max(0, ends["as printed"] - begin + 100), 0, 0)
# %% [markdown]
# Test a gradient by its residual against differences, therefore, not by "the
# loss goes down".
#
# ### Exercises (solutions at the end of the file)
#
# 1. Add ∇₂ℓ to the box. What is its equation, and what its initial value?
# 2. The base is N(0, e^{2c} I), c a parameter. Which initial value changes?
# 3. Let f be divergence-free for every θ. Is Theorem 1 literally right then?
#    Is "as printed"?
# 4. One dimension, f = θz, on [0, 1]. Write down the three θ-gradients of
#    section 4. Where does ascent along each of them end, for data whose mean
#    square is v?
# %%
if FIGURES:
    from figures._io import write

    write("wrong_gradient", Path(FIGURES))
# %%
ledger.finish()
# %% [markdown]
# ### Solutions
#
# 1. Log-Liouville, differentiated in t at fixed z and θ: d/dt ∇₂ℓ = −∇₁ℓ ∇₂f
#    − ∇₂τ. At t0 it is not zero but −∇ log p_t0 · f − τ, by log-Liouville.
# 2. Both of the gradients: the score starts at −e^{−2c} z_t0, and the
#    component for c at ∂ log p_t0/∂c = e^{−2c} |z_t0|² − n, at fixed z_t0.
# 3. Yes: then τ = 0 for all (z, t, θ), so that ∇τ = 0, log p* is constant
#    along paths, and the proof of Theorem 1 goes through. As printed still
#    has the wrong sign.
# 4. With z_0 = e^{−θ} x, ℓ = −z_0²/2 − θ + const. Fixed x: z_0² − 1, whose
#    mean is zero at e^{2θ} = v, the right scale. Fixed z_0: −1, for ever: all
#    mass is crowded into a point, where the density is high. The base term:
#    z_0² > 0, for ever: θ grows, every datum goes to the base's centre. That
#    is what the run of "Theorem 1 literally" does.
#
# ### Three questions, answered by number
#
# 1. Is log p* constant along a path? No: from t = 0.1 to 1 it changed by
#    −0.0946, the integral of −τ; log p* − Δ is flat, to 1e-13 (section 2).
# 2. Is a cosine of 0.8 with the true gradient enough? No: the run that began
#    with 0.837 fell from −3.5 to −9.2, while the corrected one rose to −2.1
#    (section 6).
# 3. Is the gradient easier than log p? No: 50.4 f against 16.8 f with the
#    exact trace, 6.1 f against 2.0 f with one probe (section 5).
