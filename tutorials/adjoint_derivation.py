# %% [markdown]
# # The adjoint method, derived and checked line by line
#
# You need: the note (sections 1 and 2), the chain rule, some NumPy.
# You get:  the gradient of an ODE's solution, by hand, and the reasons to
#           believe every sign of it.
# Seconds:  about 15, on one core. `--figures DIR` draws the figures too.
#
# The note derives in a page how to differentiate through an ODE solve. Here
# each of its formulas is computed in two ways that share no code, and the
# difference is printed. A row begins with `ok` or `FAIL`, then the item of
# the note: D for a displayed formula, P for a claim in its prose, E for an
# erratum, a place where our copy of the note (converted from its PDF by a
# machine) prints something that a computation refutes. `python -m
# refode.where D13` leads from an item to cell, function, test and figure.
#
# Read with the note in one hand. Where a cell asks you to predict first, do:
# a wrong guess that you wrote down teaches more than a right one you read.

# %%
import argparse
import gc
import tracemalloc
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from refode import MLP, adjoint, solve
from refode.finite_difference import complex_solve, complex_step
from refode.finite_difference import richardson, slope
from refode.steps import Ledger

parser = argparse.ArgumentParser(description="The adjoint method, checked.")
parser.add_argument("--figures", metavar="DIR", help="save the figures there")
FIGURES = parser.parse_args().figures if __name__ == "__main__" else None

ledger = Ledger("Sections 1 and 2 of the note")
check, step = ledger.check, ledger.step
norm = np.linalg.norm

# %% [markdown]
# ## 0 How to read this, and the problem
#
# One notation, the note's, with three liberties: ∇₁, ∇₂, ∇₃ stand for its
# ∇§1, ∇§2, ∇§3 (derivatives in the first, second, third block of arguments);
# a₁, a₂, a₃ for a§1, a§2, a§3; and plain letters for bold ones. Gradients of
# scalars are rows, Jacobians have outputs as rows. The printed rows write
# grad, eps, theta, because a terminal may not know the letters.
#
#     z (n,)   t ()   θ (m,)      state, time, parameters
#     f(z, t, θ) (n,)             the vector field: a small tanh network
#     L(z) ()                     the loss, of the state at t1
#
# The yardsticks are two. *Complex step*: Im f(x + ih)/h is the derivative of
# analytic code, exact to rounding, since nothing is subtracted. And
# *differences* with Richardson extrapolation, which assume nothing. The solve
# under them is DOP853 at tolerance 1e-13; "solver tolerance" below means some
# hundred times that, 1e-11, and bounds say when they allow more.

# %%
class Problem(NamedTuple):
    """A field, its parameters, a start, a time span, and a target."""

    f: MLP
    theta: np.ndarray  # (m,)
    z0: np.ndarray  # (n,)
    t0: float
    t1: float
    y: np.ndarray  # (n,): where the loss would like z(t1) to be


def L(p, z):
    return 0.5 * np.sum((z - p.y) ** 2) + np.sum(np.cos(z))


def grad_L(p, z):
    return z - p.y - np.sin(z)  # (n,), a row


# %% [markdown]
# A random net often gives nearly straight paths, on which wrong formulas pass
# unseen: if ∇₁f is symmetric, a transposed Jacobian is no error at all. So
# the net is the first in a seeded sequence that turns its path by more than
# 1.5 radians, has |J - Jᵀ| > 0.8 |J|, depends on time, and has a₁·f not small.

# %%
def interesting(p):
    ts = np.linspace(p.t0, p.t1, 30)
    z = solve(p.f, p.z0, p.theta, ts, rtol=1e-4).z
    v = np.array([p.f(*at, p.theta) for at in zip(z, ts)])
    turn = np.abs(np.diff(np.unwrap(np.arctan2(v[:, 1], v[:, 0])))).sum()
    J = p.f.jacobian(z[15], ts[15], p.theta)
    power = abs(grad_L(p, z[-1]) @ v[-1])
    return turn, norm(J - J.T) / norm(J), power


rng = np.random.default_rng(0)
net = MLP([2, 4, 2], "tanh")
while True:
    theta, z0, y = net.init(rng, 1.5), *rng.normal(size=(2, 2))
    p = Problem(net, theta, z0, 0.2, 1.3, y)
    if all(np.array(interesting(p)) > (1.5, 0.8, 0.5)):
        break
n, m = net.n, net.m
print(f"n = {n}, m = {m}; path turns by %.2f rad, asymmetry %.2f, "
      "|a f| = %.2f" % interesting(p))

# %% [markdown]
# ## 1 From layers to an ODE      §1: D01, D02, P01, P02, P03, P19, E01
#
# A residual layer adds something to the state. Our copy prints the update
# without a step size and lets the number of steps go to infinity (D01, P02).
#
#     as printed    h_{k+1} = h_k +       f(h_k, kT/N, θ)
#     corrected     h_{k+1} = h_k + (T/N) f(h_k, kT/N, θ)        (E01)
#
# Predict first: with N = 64, 128, 256 layers, what does the distance to the
# ODE's solution do in each of the two? What must shrink with N?

# %%
def layers(p, N, scaled=True):
    """The state after N layers, with the step T/N or without it."""
    h, T = p.z0, p.t1 - p.t0
    for k in range(N):
        h = h + (T / N if scaled else 1.0) * p.f(h, p.t0 + k * T / N, p.theta)
    return h


def end(p):
    return complex_solve(p.f, p.z0, p.theta, [p.t0, p.t1])[-1]


@step("D01 P02 E01", kind="order", order=1, bound=1e-11)
def layers_become_the_ode(p):
    """corrected: error of N layers of step T/N, order in T/N"""
    N = np.array([64, 128, 256, 512])
    return 1 / N, [norm(layers(p, k) - end(p)) for k in N]


N = np.array([64, 128, 256, 512])
grows = [norm(layers(p, k, scaled=False) - end(p)) for k in N]
print("error without T/N:", np.array2string(np.array(grows), precision=1))
check("E01", "as printed: slope of the error in N", slope(N, grows), 1, 0.1)
ledger.run(layers_become_the_ode, p)

# %% [markdown]
# Without T/N the state walks off, about as far as N steps of size one reach.
# With it, the error falls like 1/N: layers are Euler steps. One layer, over
# the whole span, is not yet the ODE (P01: an analogy, not an identity): its
# error is what Euler's method leaves, ½T² z̈ and higher terms, not small.
#
# What the limit satisfies is D02. The derivative of the solution in time is
# taken by complex step, by moving the end of the solve to t + ih.

# %%
@step("D02", bound=1e-10)
def the_limit_solves_the_ode(p):
    """dz/dt = f(z, t, theta) along the solution, relative"""
    dz = complex_step(lambda t: end(p._replace(t1=t)), p.t1)
    f = p.f(end(p), p.t1, p.theta)
    return norm(dz - f) / norm(f)


ledger.run(the_limit_solves_the_ode, p)
one = layers(p, 1) - p.z0
check("P01", "one layer: error over distance travelled, not small",
      norm(layers(p, 1) - end(p)) / norm(one) > 0.05, 1, 0)

# %% [markdown]
# The note then says "any black-box solver" (P03, and again P19: it must be
# given a state and a derivative, and, left unsaid, a span and tolerances).
# SciPy's five general solvers agree as far as their tolerance promises. At
# rtol = atol = 1e-9 a solver may leave some hundred times that over a span.

# %%
methods = ["RK45", "DOP853", "Radau", "BDF", "LSODA"]
z1 = end(p)
for method in methods:
    got = solve(net, z0, theta, [p.t0, p.t1], method=method,
                rtol=1e-9, atol=1e-9).z[-1]
    check("P03 P19", f"z(t1) by {method}", got, z1, 1e-7)

# %% [markdown]
# ## 2 State and solve map      §2.1: D03, D04, D05, P07, P08, P09
#
# Errata met here: E02, E03, E04.
#
# Everything the solve starts from is one vector (D03), of n + 1 + m numbers
# (P07): the state, the time, the parameters.
#
#     r_t = R(t) = (z_t, t, θ)                          (n + 1 + m,)
#     s_Δt(z_t, t, θ) = ( z_t + ∫ f du ,  t + Δt ,  θ )
#
# `s` runs the clock and leaves θ alone (P08). It takes complex numbers in
# every slot, so that every slot can be differentiated.

# %%
def split(p, r):
    return r[: p.f.n], r[p.f.n], r[p.f.n + 1 :]


def s(p, dt, r):
    """The solve map s_dt on r = (z, t, theta), all (n + 1 + m,)."""
    z, t, theta = split(p, r)
    z_end = complex_solve(p.f, z, theta, [t, t + dt])[-1]
    return np.concatenate([z_end, [t + dt], theta])


def R(p, t):
    """r_t on the trajectory through z0."""
    return s(p, t - p.t0, np.concatenate([p.z0, [p.t0], p.theta]))


r = R(p, 0.5)
check("D03 P07", "length of r is n + 1 + m", len(r), n + 1 + m, 0)
check("P08", "clock slot of R(t) is t, and theta stays",
      [r[n] - 0.5, *(r[n + 1 :] - theta)], 0, 1e-15)

# %% [markdown]
# Predict first: is s_.5 after s_.4 the same as s_.9? And s_-.4 after s_.4?
#
# Our copy's middle form of D04 reads (z_{t+Δ}, t, θ): the clock is not moved.
# Then the second solve starts from the wrong time, which matters because f
# reads t. And it asks for Δt ≥ 0 (P09), while sections 2.2 and 3.3 run the
# solve backward: the maps form a group, for either sign (E04).

# %%
@step("D04 P09 E02 E04", bound=1e-9)
def solve_maps_form_a_group(p):
    """corrected: s_u s_v = s_(u+v) for either sign, relative"""
    T, r = p.t1 - p.t0, R(p, p.t0)
    pairs = [(0.5, 0.4), (-0.4, 0.4), (-0.3, -0.2), (0.9, -0.6)]
    return [norm(s(p, u * T, s(p, v * T, r)) - s(p, (u + v) * T, r)) / norm(r)
            for u, v in pairs]


def s_printed(p, dt, r):
    moved = s(p, dt, r)
    moved[p.f.n] = r[p.f.n]  # (z_{t+D}, t, theta): the clock stands still
    return moved


twice = s_printed(p, 0.5, s_printed(p, 0.4, r)) - s_printed(p, 0.9, r)
# What a stopped clock predicts: the second field lags by 0.4.
lag = solve_ivp(lambda u, z: net(z, u - 0.4, theta), (0.9, 1.4),
                s(p, 0.4, r)[:n], "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
check("E02", "as printed: s_.5 s_.4 misses s_.9 by that of a lagging clock",
      norm(twice[:n]), norm(lag - s(p, 0.9, r)[:n]), 1e-9)
check("E02", "... and that is not small", norm(twice[:n]) > 1e-2, 1, 0)
ledger.run(solve_maps_form_a_group, p)

# %% [markdown]
# The integral form of D04 is checked by quadrature: 40 Gauss nodes, at each a
# state from a solve of its own.
#
# D05 runs to a fixed time: s_→t1 = s_{t1−t}. Once there, running to t1 again
# must change nothing. As printed its clock slot is t + Δt, but no Δt has been
# chosen here; with a Δt left over from somewhere, the state carries a clock
# that says it is not at t1, and the second run starts again (E03).

# %%
def integral(g, low, high):
    """int g dt by 40 Gauss-Legendre nodes: exact to rounding here."""
    x, w = np.polynomial.legendre.leggauss(40)
    ts = low + (high - low) * (x + 1) / 2
    return (high - low) / 2 * sum(wk * g(t) for wk, t in zip(w, ts))


@step("D04", bound=1e-9)
def solving_is_integrating(p):
    """z_(t+dt) = z_t + int f du, relative"""
    moved = integral(lambda t: p.f(R(p, t)[: p.f.n], t, p.theta), p.t0, p.t1)
    return norm(p.z0 + moved - end(p)) / (norm(p.z0) + norm(moved))


def to_t1(p, r):
    return s(p, p.t1 - r[p.f.n], r)


@step("D05 E03", bound=1e-12)
def run_to_t1_is_idempotent(p):
    """corrected: s_to_t1 twice is s_to_t1 once"""
    once = to_t1(p, R(p, p.t0))
    return norm(to_t1(p, once) - once)


ledger.run(solving_is_integrating, p)
once = to_t1(p, r)
once[n] = r[n] + 0.5  # the printed slot, with Dt = .5 left over
again = to_t1(p, once)
further = solve_ivp(lambda u, z: net(z, u, theta), (once[n], p.t1), once[:n],
                    "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
check("E03", "as printed: the second run goes on from t + .5, and moves z by",
      norm(again[:n] - once[:n]), norm(further - once[:n]), 1e-9)
check("E03", "... and that is not small",
      norm(again[:n] - once[:n]) > 1e-2, 1, 0)
ledger.run(run_to_t1_is_idempotent, p)

# %% [markdown]
# ## 3 Loss-to-go and the adjoint      §2.1, §2.2: D06 to D12, P10 to P12
#
# Errata met here: E05, E06.
#
# The loss reads the state at t1 (D06, P10; section 6 gives it θ as well). As
# a function of where the solve starts, it is the loss-to-go (D07):
#
#     ℒ(z_t, t, θ) = L( s_→t1(z_t, t, θ) )              ()
#     a(t) = ∇ℒ(z_t, t, θ)                              (n + 1 + m,), a row
#
# Predict first: along one trajectory, does ℒ change? Does a?

# %%
def loss_to_go(p, r):
    return L(p, to_t1(p, r)[: p.f.n])


def a(p, t):
    """The adjoint, by complex step in all n + 1 + m arguments (D09)."""
    return complex_step(lambda r: loss_to_go(p, r), R(p, t))


@step("D07 D17", bound=1e-9)
def loss_to_go_is_constant(p):
    """loss-to-go at six times of one trajectory, spread"""
    ts = np.linspace(p.t0, p.t1, 6)
    values = [loss_to_go(p, R(p, t)) for t in ts]
    return np.ptp(values) / max(1, np.max(np.abs(values)))


ledger.run(loss_to_go_is_constant, p)
ts = np.linspace(p.t0, p.t1, 6)
rows = np.array([a(p, t) for t in ts])  # (6, n + 1 + m)
check("D09 P12", "a(t) is a row of n + 1 + m", rows[0].size, n + 1 + m, 0)
check("D06", "gradient of L alone in t and theta is 0",
      complex_step(lambda r: L(p, r[:n]), once)[n:], 0, 0)

# %% [markdown]
# Our copy then says "in other words, a(t) = ℒ(R(t))" (D10) and a = ℒ ∘ R
# (D11): the ∇ is missing (E05), and the right-hand side of D10 reads, to the
# letter, L(z_t), the loss of a state that has not arrived (E06).
#
#     as printed    a = ℒ ∘ R                       a scalar, and constant
#     corrected     a = (∇ℒ) ∘ R                    a row, and it moves
#                   a(t) = ∇L(s_→t1(r_t)) ∇s_→t1(r_t)
#
# ∇(ℒ ∘ R) is no repair either: that derivative along the path is 0 (D11).

# %%
printed = [loss_to_go(p, R(p, t)) for t in ts]
print("|a(t)|:", np.array2string(norm(rows, axis=1), precision=4))
check("E05 D10", "as printed: a(t) never moves", np.ptp(printed), 0, 1e-9)
check("E05", "corrected: |a| moves, by over a tenth",
      np.ptp(norm(rows, axis=1)) / norm(rows[0]) > 0.1, 1, 0)
gap = L(p, R(p, p.t0)[:n]) - printed[0]
moved = integral(lambda t: grad_L(p, R(p, t)[:n])
                 @ net(R(p, t)[:n], t, theta), p.t0, p.t1)
check("E06", "as printed: L(z_t0) is off by -int grad L . f dt",
      gap, -moved, 1e-9)
check("E06", "... and that is not small", abs(gap) > 0.1, 1, 0)


@step("D10", bound=1e-9)
def adjoint_by_the_chain_rule(p):
    """corrected: a(t) = grad L(s(r)) grad s(r), relative"""
    r, n = R(p, p.t0), p.f.n
    outer = np.zeros(len(r))
    outer[:n] = grad_L(p, to_t1(p, r)[:n])
    inner = complex_step(lambda r: to_t1(p, r), r)  # (n+1+m, n+1+m)
    return norm(outer @ inner - a(p, p.t0)) / norm(a(p, p.t0))


ledger.run(adjoint_by_the_chain_rule, p)

# %% [markdown]
# The goal is the last block at t0 (D12), which is the gradient in θ (D08,
# P11). Complex step in θ alone, Richardson differences and the library's
# adjoint are three independent ways to it.

# %%
def gradient_in_theta(p):
    return complex_step(lambda x: L(p, end(p._replace(theta=x))), p.theta)


@step("D12 P11", bound=1e-10)
def last_block_is_the_gradient(p):
    """a_3(t0) = gradient of the loss in theta, relative"""
    g = gradient_in_theta(p)
    return norm(a(p, p.t0)[p.f.n + 1 :] - g) / norm(g)


@step("D08", bound=1e-7)
def library_gives_that_gradient(p):
    """refode.adjoint at rtol 1e-10 against complex step, relative"""
    tr = solve(p.f, p.z0, p.theta, [p.t0, p.t1], rtol=1e-10, atol=1e-12)
    g = adjoint(tr, [0 * p.z0, grad_L(p, tr.z[1])])
    want = gradient_in_theta(p)
    return norm(g.theta - want) / norm(want)


@step("D11", bound=1e-9)
def no_change_along_the_path(p):
    """d(L o R)/dt = a_1 f + a_2 = 0, relative"""
    at, f = a(p, p.t0), p.f(p.z0, p.t0, p.theta)
    return abs(at[: p.f.n] @ f + at[p.f.n]) / (norm(at) * norm(f) + norm(at))


for function in (last_block_is_the_gradient, library_gives_that_gradient,
                 no_change_along_the_path):
    ledger.run(function, p)
fd = richardson(lambda x: L(p, end(p._replace(theta=x))), theta, 3e-3, 2)
check("D08", "complex step against Richardson differences, relative",
      norm(fd - gradient_in_theta(p)) / norm(fd), 0, 1e-8)

# %% [markdown]
# ## 4 Theorem 1, in six steps      §2.2: D13 to D27, P13, P14
#
# Errata met here: E07, E08, E09, E10, E11.
#
#               ⎡ ∇₁f  ∇₂f  ∇₃f ⎤   n rows
#     ȧ = −a M, ⎢  0    0    0  ⎥   1 row          (D13)
#               ⎣  0    0    0  ⎦   m rows
#
# A proof is a ladder; a rung that is loose is found by standing on it. Each
# line of the note's proof is a function below that returns what is left over
# when its two sides are subtracted. Exact lines leave the solver's error.
# Lines with O(ε^p) leave something that falls with slope p, which is
# measured on ε = .04, .02, .01, .005: small enough for the next term of the
# series, large enough for rounding.
#
# **Step 1: ℒ does not change along the path** (D17, D18, P14). That is the
# only property of ℒ that the proof uses. Our copy asks for ε > 0 and
# t + ε < t1, which would give a one-sided derivative; neither is needed (E11).
#
# Predict first: does ℒ = ℒ ∘ s_ε hold beyond t1, where the path has passed
# the point at which the loss is taken?

# %%
@step("D18 P14 E11 E04", bound=1e-9)
def invariance_for_either_sign(p):
    """L(s_eps(r)) = L(r), eps forward, backward, and past t1"""
    T, r = p.t1 - p.t0, R(p, p.t0)
    here = loss_to_go(p, r)
    return [abs(loss_to_go(p, s(p, e * T, r)) - here) / max(1, abs(here))
            for e in (-0.3, 0.1, 0.35, 1.4)]


ledger.run(invariance_for_either_sign, p)

# %% [markdown]
# **Step 2: the chain rule** (D19 to D21). Differentiate ℒ = ℒ ∘ s_ε in all
# n + 1 + m arguments. The three lines of the note differ in how the point at
# t + ε is named: as s_ε(r), as z_{t+ε} read off the trajectory, as a(t + ε).
#
#     ∇ℒ(r_t) = ∇ℒ(s_ε(r_t)) ∇s_ε(r_t)       a(t) = a(t + ε) ∇s_ε(r_t)

# %%
def grad_s(p, eps, r):
    """Jacobian of the solve map, (n + 1 + m, n + 1 + m), by complex step."""
    return complex_step(lambda r: s(p, eps, r), r)


@step("D19 D20 D21", bound=1e-9)
def pull_back_along_the_flow(p):
    """a(t) = a(t+eps) grad s_eps in its three spellings, relative"""
    t, eps = p.t0, 0.3 * (p.t1 - p.t0)
    r, J = R(p, t), grad_s(p, eps, R(p, t))
    left = a(p, t)
    through_s = complex_step(lambda r: loss_to_go(p, r), s(p, eps, r)) @ J
    z, _, _ = split(p, R(p, t + eps))
    on_path = np.concatenate([z, [t + eps], p.theta])
    through_z = complex_step(lambda r: loss_to_go(p, r), on_path) @ J
    rights = (through_s, through_z, a(p, t + eps) @ J)
    return [norm(left - right) / norm(left) for right in rights]


ledger.run(pull_back_along_the_flow, p)

# %% [markdown]
# **Step 3: Taylor** (D22, D23). s_ε(r) = r + ε (f, 1, 0) + O(ε²).
#
# Predict first: if ε halves, by what factor does the remainder shrink?

# %%
EPS = 0.04 * 2.0 ** -np.arange(4)


def steps_of(p):
    """eps, in units in which the span is 1 and the field moves by O(1)."""
    return EPS * (p.t1 - p.t0)


@step("D22 D23", kind="order", order=2, bound=1e-12)
def solve_map_to_first_order(p):
    """|s_eps(r) - r - eps (f, 1, 0)|, order in eps"""
    r = R(p, p.t0)
    tangent = np.concatenate([p.f(p.z0, p.t0, p.theta), [1], 0 * p.theta])
    eps = steps_of(p)
    return abs(eps), [norm(s(p, e, r) - r - e * tangent) for e in eps]


ledger.run(solve_map_to_first_order, p)

# %% [markdown]
# **Step 4: its Jacobian** (D24). ∇s_ε = I + εM + O(ε²). This is where the
# note differentiates an O(ε²), which is not allowed in general (E10), and
# where the hypotheses sit that Theorem 1 does not state (E09).

# %%
def M(p, z, t):
    """The matrix of Theorem 1, (n + 1 + m, n + 1 + m), row by row VJPs."""
    n, out = p.f.n, np.zeros((p.f.n + 1 + p.f.m,) * 2)
    for i, e in enumerate(np.eye(n)):
        f1, f2, f3 = p.f.vjp(z, t, p.theta, e)  # row i of grad f
        out[i] = np.concatenate([f1, [f2], f3])
    return out


@step("D24", kind="order", order=2, bound=1e-12)
def jacobian_of_the_solve_map(p):
    """|grad s_eps - (I + eps M)|, order in eps"""
    r, M0, eps = R(p, p.t0), M(p, p.z0, p.t0), steps_of(p)
    one = np.eye(len(r))
    return abs(eps), [norm(grad_s(p, e, r) - one - e * M0) for e in eps]


ledger.run(jacobian_of_the_solve_map, p)

# %% [markdown]
# That an O(ε²) may have a derivative of any size: g(z) = z + ε² sin(z/ε²) is
# within ε² of the identity, and g′ = 1 + cos(z/ε²) goes from 0 to 2. What
# makes D24 true is not size but the ODE: differentiate it in z and the
# Jacobian of the solve has an ODE of its own, the variational equation
#
#     ∂/∂ε ∇₁s_ε = ∇₁f(s_ε) ∇₁s_ε,      ∇₁s_0 = I          (n, n)

# %%
e = 0.01
zs = np.linspace(0, 4 * np.pi * e**2, 1001)
check("E10", "z + e^2 sin(z/e^2): largest distance to z, in e^2",
      np.max(np.abs(e**2 * np.sin(zs / e**2))) / e**2, 1, 1e-4)
slopes = 1 + np.cos(zs / e**2)
check("E10", "... and the range of its slope", [min(slopes), max(slopes)],
      [0, 2], 1e-4)


@step("E10", bound=1e-8)
def variational_equation(p):
    """corrected: d/d eps grad_1 s = grad_1 f(s) grad_1 s, relative"""
    f, T = p.f, p.t1 - p.t0

    def grad_1(eps):  # (n, n)
        times = [p.t0, p.t0 + eps]
        return complex_step(
            lambda z: complex_solve(f, z, p.theta, times)[-1], p.z0)

    left = richardson(grad_1, 0.5 * T, 0.05 * abs(T), levels=4)
    z = split(p, R(p, p.t0 + 0.5 * T))[0]
    right = f.jacobian(z, p.t0 + 0.5 * T, p.theta) @ grad_1(0.5 * T)
    return norm(left - right) / (norm(right) + norm(left))


ledger.run(variational_equation, p)

# %% [markdown]
# And the hypotheses (E09). Theorem 1 needs ∇f continuous; the O(ε²) of D24
# needs f in C². Two scalar fields show what breaks, ż = |z| and
# ż = 1 + |z|^1.5, both started at 0 where their derivatives have a kink.
#
# Predict first: the flow of |z| over time 1 multiplies a positive start by e
# and a negative one by 1/e. What is then the derivative of ℒ at 0, L(z) = z?

# %%
def flow(field, start, T):
    run = solve_ivp(field, (0, T), [start], rtol=1e-12, atol=1e-14)
    return run.y[0, -1]


h = 1e-6
left = (flow(lambda t, z: np.abs(z), -h, 1)) / -h
right = (flow(lambda t, z: np.abs(z), h, 1)) / h
check("E09", "z' = |z|: left derivative of L at 0, 1/e",
      left, np.exp(-1), 1e-6)
check("E09", "z' = |z|: right derivative of L at 0, e", right, np.e, 1e-6)
# z' = 1 + |z|^1.5 from z_0: grad_1 s = exp(int 1.5 |z|^.5 sign(z) dt), and at
# z_0 = 0, where z_t = t + O(t^2.5), it is 1 + e^1.5 + ..., with grad f = 0.
eps = EPS / 4


def jac(T):
    return central(lambda x: flow(lambda t, z: 1 + np.abs(z) ** 1.5, x, T), T)


def central(g, T, h=1e-5):
    return (g(h) - g(-h)) / (2 * h)


check("E09", "z' = 1 + |z|^1.5: order of |grad s - 1 - eps grad f|",
      slope(eps, [abs(jac(e) - 1) for e in eps]), 1.5, 0.1)

# %% [markdown]
# **Step 5: substitute** (D25, D26), and **step 6: the limit** (D16, D27).
#
#     a(t) = a(t+ε) + ε a(t+ε) M + O(ε²)               (D25)
#     (a(t+ε) − a(t)) / ε = −a(t+ε) M + O(ε)            (D26)
#
# D26 is D25 divided by −ε, so one slope serves both: 2 for D25, 1 for D26.
# Our copy begins the proof with a plus in the difference quotient (D16): then
# nothing cancels and the quotient grows like 2|a|/ε (E07).

# %%
def quotients(p):
    """eps, a(t), a(t + eps) for each eps, and M at t."""
    eps = steps_of(p)
    later = [a(p, p.t0 + e) for e in eps]
    return eps, a(p, p.t0), later, M(p, p.z0, p.t0)


@step("D25 D26", kind="order", order=2, bound=1e-12)
def substitution(p):
    """|a(t) - a(t+eps) - eps a(t+eps) M|, order in eps (over eps: D26)"""
    eps, now, later, M0 = quotients(p)
    return abs(eps), [norm(now - b - e * b @ M0) for e, b in zip(eps, later)]


@step("D16 E07", kind="order", order=1, bound=1e-10)
def quotient_with_a_minus(p):
    """corrected: |(a(t+eps) - a(t))/eps - (-a(t) M)|, order in eps"""
    eps, now, later, M0 = quotients(p)
    return abs(eps), [norm((b - now) / e + now @ M0) for e, b in zip(eps, later)]


@step("E07", kind="existence", bound=0.1)
def quotient_as_printed(p):
    """as printed: |(a(t+eps) + a(t))/eps| is 2|a|/eps"""
    eps, now, later, _ = quotients(p)
    printed = [norm((b + now) / e) for e, b in zip(eps, later)]
    want = 2 * norm(now) / abs(eps)
    return np.array(printed) / max(printed), want / max(printed)


ledger.run(quotient_as_printed, p)
ledger.run(quotient_with_a_minus, p)
ledger.run(substitution, p)

# %% [markdown]
# Theorem 1 itself, once as a derivative (D13, D27: extrapolated differences
# of a(t), all three blocks apart, P13) and once integrated: the library's
# `adjoint_dynamics`, solved backward from t1, against complex step at t0.
#
# The note's "in particular" lists blocks 1 and 3 (D14, D15) and leaves out
# block 2, which gives the gradients in time (E08). All three:
#
#     ȧ₁ = −a₁ ∇₁f  (n,)      ȧ₂ = −a₁ ∇₂f  ()      ȧ₃ = −a₁ ∇₃f  (m,)

# %%
def blocks(p, row):
    return row[: p.f.n], row[p.f.n], row[p.f.n + 1 :]


@step("D13 D27 P13", bound=1e-7)
def theorem_1(p):
    """da/dt + a M = 0 by extrapolated differences, each block, relative"""
    t, T = p.t0 + 0.5 * (p.t1 - p.t0), p.t1 - p.t0
    left = richardson(lambda u: a(p, u), t, 0.04 * abs(T), levels=3)
    right = -a(p, t) @ M(p, R(p, t)[: p.f.n], t)
    scale = norm(right) + norm(a(p, t))
    return [norm(x - y) / scale
            for x, y in zip(blocks(p, left), blocks(p, right))]


ledger.run(theorem_1, p)

# %% [markdown]
# ## 5 What the minus sign means      D14
#
# "The minus comes from going backward in time" is in circulation, and wrong:
# ȧ₁ = −a₁ ∇₁f is the equation in *forward* time. It comes from conservation.
# Move the start by δz: the path moves by δz(t), with d/dt δz = ∇₁f δz, and
# the loss by a₁(t)·δz(t), the same number whenever it is asked. So
#
#     0 = d/dt (a₁·δz) = ȧ₁·δz + a₁·∇₁f δz     for every δz
#
# Predict first: with a plus in its place, is a₁·δz constant, growing, falling?
#
# Nor must the equation be run backward: given a₁(t0) it runs forward as well.
# It starts at t1 because there a₁ is known, from the loss alone.

# %%
def pair(p, sign):
    """Rates of (z, dz, a_1), each (n,), with sign -1 or +1 before a grad f."""
    n = p.f.n

    def rate(t, q):
        z, dz, a1 = q[:n], q[n : 2 * n], q[2 * n :]
        J = p.f.jacobian(z, t, p.theta)
        return np.concatenate([p.f(z, t, p.theta), J @ dz, sign * a1 @ J])

    return rate


def pairing(p, sign):
    """a_1.dz at six times, started from the true a_1(t0), forward."""
    a0 = complex_step(lambda z: L(p, end(p._replace(z0=z))), p.z0)
    start = np.concatenate([p.z0, np.ones(p.f.n), a0])
    ts = np.linspace(p.t0, p.t1, 6)
    q = solve_ivp(pair(p, sign), (p.t0, p.t1), start, "DOP853", ts,
                  rtol=1e-12, atol=1e-13).y
    n = p.f.n
    return np.sum(q[n : 2 * n] * q[2 * n :], axis=0), q[2 * n :, -1], q[:n, -1]


@step("D14", bound=1e-8)
def pairing_is_conserved(p):
    """a_1.dz is the same at six times; forward, a_1 ends at grad L, rel."""
    products, a1_end, z_end = pairing(p, -1)
    size = norm(grad_L(p, z_end))
    return [np.ptp(products) / (abs(products[0]) + size),
            norm(a1_end - grad_L(p, z_end)) / size]


ledger.run(pairing_is_conserved, p)
print("a.dz with minus:", np.array2string(pairing(p, -1)[0], precision=4))
plus = pairing(p, +1)[0]
print("a.dz with plus: ", np.array2string(plus, precision=4))
check("D14", "with a plus, a.dz moves by more than a tenth of itself",
      np.ptp(plus) > 0.1 * abs(plus[0]), 1, 0)

# %% [markdown]
# ## 6 Boundary values      §2.2: D32, D33, P17, P18
#
# Errata met here: E08, E22.
#
# Predict first: at t1, which of the three blocks starts at zero?
#
#     a₁(t1) = ∇L(z_t1)         (D32)      the loss alone, no ODE (P18)
#     a₃(t1) = 0                (D33)      L has no θ, and s_→t1 is the identity
#     a₂(t1) = −∇L(z_t1)·f(z_t1, t1, θ)    **not 0** (E08)
#
# Block 2 is the one that people copy from block 3. A later clock at t1 means
# that the path stops earlier: t1 − t shrinks, and L loses ∇L·f. Since
# d(ℒ∘R)/dt = 0 (D11), a₁·f + a₂ = 0 at every time, a test that costs nothing.

# %%
@step("D32 D33 P17 P18 E08", bound=1e-10)
def values_at_t1(p):
    """a(t1) = (grad L, -grad L f, 0), each block, relative"""
    z = end(p)
    g, f = grad_L(p, z), p.f(z, p.t1, p.theta)
    a1, a2, a3 = blocks(p, a(p, p.t1))
    scale = norm(g) * (1 + norm(f))
    return norm(a1 - g) / scale, abs(a2 + g @ f) / scale, norm(a3)


ledger.run(values_at_t1, p)

# %% [markdown]
# What the wrong start costs: a₂ does not enter its own equation, so a start
# of 0 shifts all of a₂ by +∇L·f, and dℒ/dt0 = a₂(t0) = −a₁(t0)·f(z0, t0)
# with it. The other end: dℒ/dt1 = +a₁(t1)·f(z1, t1).

# %%
def solve_back(p, a2_start, a3_start, rtol=1e-12):
    """(z, a_1, a_2, a_3) at t0, by the library's dynamics, from t1."""
    from refode.sensitivities.backsolve import Blocks, adjoint_dynamics

    z = end(p)
    q = Blocks(z.shape, p.f.m)  # packs the four blocks for SciPy

    def rate(t, y):
        z, a1, _, _ = q.unpack(y)
        return q.pack(*adjoint_dynamics(p.f, z, t, p.theta, a1))

    start = q.pack(z, grad_L(p, z), a2_start, a3_start)
    back = solve_ivp(rate, (p.t1, p.t0), start, "DOP853",
                     rtol=rtol, atol=rtol / 10)
    return q.unpack(back.y[:, -1])


z1 = end(p)
f1 = net(z1, p.t1, theta)
power = grad_L(p, z1) @ f1
dt0 = complex_step(lambda t: L(p, end(p._replace(t0=t))), p.t0)
dt1 = complex_step(lambda t: L(p, end(p._replace(t1=t))), p.t1)
wrong = solve_back(p, 0.0, np.zeros(m))[1:3]
right = solve_back(p, -power, np.zeros(m))
check("E08", "as printed (0 like block 3): dL/dt0 off by grad L f",
      wrong[1] - dt0, power, 1e-8)
check("E08", "corrected: a_2(t0) = dL/dt0", right[2], dt0, 1e-8)
check("E08", "corrected: -a_1(t0) f = dL/dt0",
      -right[1] @ net(z0, p.t0, theta), dt0, 1e-8)
check("E08", "corrected: +a_1(t1) f = dL/dt1", power, dt1, 1e-8)

# %% [markdown]
# Why may a₃ start at 0, and does it matter? Its right-hand side does not
# contain a₃: it is an accumulator, and a start value c is a pure offset.
# When L reads θ (weight decay λ|θ|², say), the offset is what is wanted:
# a₃(t1) = ∇₃L = 2λθ (E22; P10 and P17 rest on an L without θ).

# %%
c = rng.normal(size=m)
offset = solve_back(p, -power, c)[3] - c
check("D33", "a_3 started at random c, minus c, is the gradient",
      offset, right[3], 1e-9)


def decayed(x):
    return L(p, end(p._replace(theta=x))) + 0.05 * np.sum(x**2)


want = complex_step(decayed, theta)
check("E22 P10", "as printed (start 0): misses the direct part 2 lambda theta",
      norm(want - right[3]), norm(0.1 * theta), 1e-8)
check("E22", "corrected: a_3(t1) = 2 lambda theta",
      solve_back(p, -power, 0.1 * theta)[3], want, 1e-8)

# %% [markdown]
# ## 7 One backward solve      §2.2: D28 to D35, P06, P15, P16, P20
#
# Errata met here: E12, E13, E14, E15, E16.
#
# A solver wants one flat state and its rate (P19), so the three unknowns of
# D28 are stacked. The note's q has no room for a₂; the library adds it.
#
#     q = (z, a₁ᵀ, a₃ᵀ)                     (n + n + m,)       P20
#
#             ⎡ f         ⎤                  as printed, blocks 2 and 3 are
#     dq/dt = ⎢ −(∇₁f)ᵀq₂ ⎥   columns        rows, −q₂ᵀ∇f, in a column: they
#             ⎣ −(∇₃f)ᵀq₂ ⎦                  do not stack (E16)
#
# Predict first: n = 2, m = 28. How long is q? How long is the state of the
# forward solve (P06)?

# %%
def dq_dt(t, q, p):
    """D35, written out: 12 lines are the whole method."""
    n = p.f.n
    z, a1 = q[:n], q[n : 2 * n]  # a_3 = q[2n:] is not read
    vjp_z, _, vjp_theta = p.f.vjp(z, t, p.theta, a1)
    return np.concatenate([p.f(z, t, p.theta), -vjp_z, -vjp_theta])


def backward(p):
    """Solve q from t1 to t0, with dense output for the integrals below."""
    z = end(p)
    q1 = np.concatenate([z, grad_L(p, z), np.zeros(p.f.m)])  # D34
    return solve_ivp(dq_dt, (p.t1, p.t0), q1, "DOP853", dense_output=True,
                     args=(p,), rtol=1e-12, atol=1e-13)


@step("D28 D35 P16", bound=1e-8)
def joint_backward_solve(p):
    """q(t0) against z0, grad_1 and grad_3 by complex step, relative"""
    n, q = p.f.n, backward(p).y[:, -1]
    a1 = complex_step(lambda z: L(p, end(p._replace(z0=z))), p.z0)
    wants = (p.z0, a1, gradient_in_theta(p))
    gots = (q[:n], q[n : 2 * n], q[2 * n :])
    return [norm(g - w) / (norm(w) + norm(a1)) for g, w in zip(gots, wants)]


ledger.run(joint_backward_solve, p)
back = backward(p)
check("P20 P06", "length of q is 2n + m; forward it is n",
      [len(back.y), len(end(p))], [2 * n + m, n], 0)


@step("D15", bound=1e-8)
def library_dynamics_give_block_3(p):
    """a_3(t0), a_2(t0), a_1(t0) of the library's dynamics, relative"""
    z, want = end(p), blocks(p, a(p, p.t0))
    f = p.f(z, p.t1, p.theta)
    got = solve_back(p, -grad_L(p, z) @ f, np.zeros(p.f.m))[1:]
    scale = sum(norm(x) for x in want)
    return [norm(np.subtract(x, y)) / scale for x, y in zip(got, want)]


ledger.run(library_dynamics_give_block_3, p)

# %% [markdown]
# The same as three integrals (D29 to D31), evaluated by quadrature along the
# dense solution. In our copy the integrand reads a₁(z_t, t, θ), but a is a
# function of time alone: a₁(t) (E13). The sign before ∫ from t1 to t0 is a
# minus: with a plus, the integral's part is wrong by twice itself.
#
# Dense output is an interpolant of order 7, so these rows are held to 1e-7.

# %%
def along(p, sol):
    """The integrands (f, a_1 grad_1 f, a_1 grad_3 f) as a function of t."""
    n = p.f.n

    def integrand(t):
        z, a1 = sol(t)[:n], sol(t)[n : 2 * n]
        f1, _, f3 = p.f.vjp(z, t, p.theta, a1)
        return np.concatenate([p.f(z, t, p.theta), f1, f3])

    return integrand


@step("D29 D30 D31 E13", bound=1e-7)
def three_integrals(p):
    """q(t0) - q(t1) = int of (f, -a_1 grad_1 f, -a_1 grad_3 f), relative"""
    run, n = backward(p), p.f.n
    total = integral(along(p, run.sol), p.t1, p.t0)
    sign = np.concatenate([np.ones(n), -np.ones(n + p.f.m)])
    change = run.y[:, -1] - run.y[:, 0]
    return norm(change - sign * total) / norm(run.y[:, -1])


ledger.run(three_integrals, p)
total = integral(along(p, back.sol), p.t1, p.t0)[2 * n :]
check("D31", "with a plus: wrong by twice the integral, relative",
      norm(back.y[2 * n :, -1] - total) / norm(total), 2, 1e-6)

# %% [markdown]
# Shapes, as printed. D34 stacks z_t1, a column, over ∇(L)ᵀ, the transpose of
# a scalar and so still a row (E15); D35 puts rows under a column (E16). NumPy
# refuses both. (The TeX of D34 is damaged in our copy, a conversion artefact
# with nothing to compute: E14.)

# %%
def stacks(*parts):
    try:
        return len(np.vstack(parts))
    except ValueError:
        return 0


column, row = z1[:, None], grad_L(p, z1)[None, :]  # (n, 1), (1, n)
v1, _, v3 = net.vjp(z1, p.t1, theta, row[0])
check("E15 D34", "as printed: column over row does not stack",
      stacks(column, row, np.zeros((m, 1))), 0, 0)
check("E15 D34", "corrected: (grad L)^T stacks to 2n + m",
      stacks(column, row.T, np.zeros((m, 1))), 2 * n + m, 0)
check("E16", "as printed: f over -q_2^T grad f does not stack",
      stacks(f1[:, None], -v1[None], -v3[None]), 0, 0)
J3 = complex_step(lambda x: net(z1, p.t1, x), theta)  # (n, m)
check("E16", "corrected: (grad_3 f)^T q_2 is the VJP",
      J3.T @ row[0], v3, 1e-12)
ledger.text("E14", "TeX of D34 damaged in our copy: \\b, \\n, \\\\ lost")

# %% [markdown]
# Our copy says "neural SDE" where it means ODE (P15, E12). The difference is
# the method: what is solved back must be reversible. Add noise of size σ to
# an Euler solve, solve back without it, and the start is not recovered; what
# stays away is what the noise added, of size σ √T and more.
#
# And P16, "nothing is saved": true when the reversed ODE is stable. Section
# 10 shows what happens when it is not.

# %%
def recovery_error(sigma, N=2000):
    """|z recovered - z0| after N noisy Euler steps and a solve back."""
    noise = np.random.default_rng(1)
    z, h = z0, (p.t1 - p.t0) / N
    for k in range(N):
        kick = sigma * np.sqrt(h) * noise.normal(size=n)
        z = z + h * net(z, p.t0 + k * h, theta) + kick
    return norm(complex_solve(net, z, theta, [p.t1, p.t0])[-1] - z0)


errors = [recovery_error(sigma) for sigma in (0.0, 0.1, 0.2)]
print("recovery error, sigma = 0, .1, .2:", np.array(errors).round(5))
check("P15", "an ODE: recovered to Euler's error, order 1 in the step",
      slope([1 / 1000, 1 / 2000], [recovery_error(0, 1000), errors[0]]),
      1, 0.1)
check("E12", "as printed (an SDE): the error is the noise's, linear in sigma",
      slope([0.1, 0.2], errors[1:]), 1, 0.3)
check("E12", "... and dwarfs Euler's", errors[1] > 10 * errors[0], 1, 0)

# %% [markdown]
# ## 8 VJP, not Jacobian      §2, §2.2: P04, P05, P21, P22, P24, P25
#
# Errata met here: E17, E18, E19.
#
# Our copy calls the products in D35 "directional derivatives". They are not
# (E17). A directional derivative moves the argument; a VJP moves nothing: it
# is the gradient of the scalar a·f.
#
#     JVP   ∇₁f v   (n,)    column, how f changes along v
#     VJP   a ∇₁f   (n,)    row, gradient of a·f in z
#
# Predict first: for which Jacobians are the two the same numbers when v = aᵀ?

# %%
@step("P21 E17", bound=1e-12)
def vjp_is_a_gradient(p):
    """corrected: VJP = gradient of a.f, JVP = derivative along v, relative"""
    u = grad_L(p, p.z0)
    at = (p.t0, p.theta)
    vjp = p.f.vjp(p.z0, *at, u)[0]
    jvp = p.f.jvp(p.z0, *at, u, 0.0, 0 * p.theta)
    gradient = complex_step(lambda z: u @ p.f(z, *at), p.z0)
    along_u = complex_step(lambda h: p.f(p.z0 + h * u, *at), 0.0)
    return [norm(vjp - gradient) / (norm(u) + norm(gradient)),
            norm(jvp - along_u) / (norm(u) + norm(along_u))]


ledger.run(vjp_is_a_gradient, p)
u = grad_L(p, z0)
vjp = net.vjp(z0, p.t0, theta, u)[0]
jvp = net.jvp(z0, p.t0, theta, u, 0.0, 0 * theta)
J = complex_step(lambda z: net(z, p.t0, theta), z0)  # (n, n)
check("E17", "as printed: VJP and JVP differ, by u (J - J^T), relative",
      norm(vjp - jvp) / norm(vjp), norm(u @ (J - J.T)) / norm(u @ J), 1e-12)
check("E17", "... and that is not small",
      norm(vjp - jvp) > 0.3 * norm(vjp), 1, 0)

# %% [markdown]
# The cost of each, in arithmetic operations rather than in seconds: an array
# that counts them (two for each multiply-add of a matrix product).
#
# Predict first: a ∇₃f has m components. How many JVPs does it take? How many
# VJPs? Our copy says "forward-mode" where the method needs reverse (E18).

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


def operations(function, *arrays):
    Counted.operations = 0
    function(*(x.view(Counted) for x in arrays))
    return Counted.operations


wide = MLP([16, 64, 16])
zs, w = rng.normal(size=(8, 16)), wide.init(rng)  # a batch of 8
one_f = operations(lambda z, x: wide(z, 0.3, x), zs, w)
one_vjp = operations(lambda z, x: wide.vjp(z, 0.3, x, z), zs, w)
one_jvp = operations(lambda z, x: wide.jvp(z, 0.3, x, z, 0.0, x), zs, w)
print(f"operations: f {one_f}, VJP {one_vjp}, JVP {one_jvp}; m = {wide.m}")
check("P22", "VJP in z, t and theta over f", one_vjp / one_f, 3.0, 0.5)
check("E18 P24", "as printed: a grad_3 f by m JVPs, over f, exceeds m",
      wide.m * one_jvp / one_f > wide.m, 1, 0)
check("E18", "corrected: by one VJP, over f, does not grow with m",
      one_vjp / one_f < 4, 1, 0)

# %% [markdown]
# Memory. The note promises that it does not depend "on the network's depth at
# all" (P25). Of which depth? Not on the number of *solver steps* (P05). But
# a VJP of f keeps one activation per *layer of f* (E19). A JVP does not (P24,
# which is what forward mode would be good for).
#
# Predict first: of the two columns below, which grows with the layers?

# %%
def peak(function, *arguments):
    """Peak of memory while the function runs, KiB."""
    gc.collect()  # what an earlier cell left behind is not counted
    tracemalloc.start()
    function(*arguments)
    used = tracemalloc.get_traced_memory()[1] / 1024
    tracemalloc.stop()
    return used


def memory_of(deep):
    """Peaks of a VJP and of a JVP, KiB, beyond what theta itself takes."""
    w, z = deep.init(np.random.default_rng(3)), np.ones((400, deep.n))
    back = peak(deep.vjp, z, 0.3, w, z) - 8 * deep.m / 1024
    return back, peak(deep.jvp, z, 0.3, w, z, 0.0, w)


deep = np.array([8, 16, 32])
peaks = np.array([memory_of(MLP([2, *[32] * d, 2])) for d in deep])
print("layers", deep, "VJP", peaks[:, 0].round(), "JVP", peaks[:, 1].round())
check("E19 P25", "VJP: memory grows like the layers of f, slope",
      slope(deep, peaks[:, 0]), 1, 0.2)
check("P24", "JVP: it does not, slope", slope(deep, peaks[:, 1]), 0, 0.1)

# %% [markdown]
# And the solver's steps: backpropagation through N of them keeps at least
# the state at each, 8n bytes (P04); the backward solve keeps none (P05).

# %%
def memory_of_gradient(steps, keep, method):
    """Peak of a forward solve in `steps` steps and its gradient, KiB."""

    def run():
        tr = solve(net, np.ones((1000, n)), theta, [0, 1.0], method="RK4",
                   step=1 / steps, keep=keep)
        adjoint(tr, np.ones(tr.z.shape), method=method)

    return peak(run)


steps = np.array([100, 200, 400])
tape = [memory_of_gradient(k, "stages", "discrete") for k in steps]
back_ = [memory_of_gradient(k, "observations", "backsolve") for k in steps]
print("steps", steps, "backpropagation", np.round(tape), "adjoint",
      np.round(back_))
check("P04", "backpropagation: memory grows like N, slope",
      slope(steps, tape), 1, 0.15)
check("P05 E19", "adjoint: it does not, slope", slope(steps, back_), 0, 0.1)

# %% [markdown]
# ## 9 How sure are we?      §2.2: P23, D08
#
# "My finite difference disagrees" is the commonest question about such code.
# Predict first: what limits the best difference, the step h or the solver?
#
# A central difference of the loss has truncation O(h²) and, beneath it, the
# solver's error over h. The V's floor is set by the tolerance.

# %%
v = rng.normal(size=m)
want = gradient_in_theta(p) @ v
hs = 10.0 ** -np.arange(0.5, 7, 0.5)


def difference(h, tol):
    ends = [solve(net, z0, theta + sign * h * v, [p.t0, p.t1], rtol=tol,
                  atol=tol).z[-1] for sign in (1, -1)]
    return (L(p, ends[0]) - L(p, ends[1])) / (2 * h)


floors = []
for tol in (1e-4, 1e-7, 1e-10):
    V = [abs(difference(h, tol) / want - 1) for h in hs]
    floors.append(min(V))
    print(f"tol {tol:.0e}: best h {hs[np.argmin(V)]:.0e}, error {min(V):.0e}")
check("D08", "truncation branch of the V at tol 1e-10: slope in h",
      slope(hs[2:5], V[2:5]), 2, 0.1)
check("D08", "a thousand times the tolerance: at least ten times the floor",
      [b / a > 10 for a, b in zip(floors[1:], floors)], 1, 0)

# %% [markdown]
# The agreement web: independent ways to one gradient, all pairs. For a linear
# field ż = Az even the closed form takes part: z(t1) = e^{AT} z0, and its
# derivative in A is the Fréchet derivative of the matrix exponential.

# %%
from scipy.linalg import expm, expm_frechet

from refode import Linear


def web(p):
    """Name -> (dL/dz0, dL/dtheta), from ways that share little code."""
    times = [p.t0, p.t1]
    tr = solve(p.f, p.z0, p.theta, times, rtol=1e-10, atol=1e-12, keep="steps")
    dL = np.array([0 * p.z0, grad_L(p, tr.z[1])])
    ways = {}
    for method in ("backsolve", "discrete", "forward"):
        g = adjoint(tr, dL, method=method)
        ways[method] = np.concatenate([g.z0, g.theta])

    def loss(x):
        return L(p, end(p._replace(z0=x[: p.f.n], theta=x[p.f.n :])))

    x = np.concatenate([p.z0, p.theta])
    ways["complex step"] = complex_step(loss, x)
    ways["differences"] = richardson(loss, x, 3e-3, levels=2)
    return ways


def closed_form(p):
    A, T = p.theta.reshape(p.f.n, p.f.n), p.t1 - p.t0
    g = grad_L(p, expm(A * T) @ p.z0)
    units = np.eye(A.size).reshape(-1, *A.shape)
    dA = [g @ expm_frechet(A * T, E * T, compute_expm=False) @ p.z0
          for E in units]
    return np.concatenate([g @ expm(A * T), dA])


# %%
def largest_disagreement(ways, show=False):
    """Largest relative distance of any two; prints the matrix."""
    gap = np.array([[norm(x - y) / norm(y) for y in ways.values()]
                    for x in ways.values()])
    if show:
        for name, line in zip(ways, gap):
            print(f"{name:>13}", *(f"{x:8.0e}" for x in line))
    return gap.max()


@step("P23", bound=1e-7)
def five_ways_agree(p):
    """backsolve, discrete, forward, complex step, differences: any two"""
    return largest_disagreement(web(p))


linear = p._replace(f=Linear(2), theta=rng.normal(size=4))
ways = web(linear) | {"closed form": closed_form(linear)}
check("D08 D28", "linear field: six ways, largest disagreement of any two",
      largest_disagreement(ways, show=True), 0, 1e-8)
check("P23 D08", "the net: five ways, largest disagreement of any two",
      largest_disagreement(web(p), show=True), 0, 1e-8)

# %% [markdown]
# The rows above hold these at 1e-8 at the tutorial's numbers: differences with
# two levels of Richardson have truncation h⁴ = 1e-10 and rounding 1e-13/h.
# Over random fields the tests allow ten times that.
#
# ## 10 When it fails, and the remedy      §2.2: E20, E21, P16, P23
#
# **A contracting field cannot be run back** (E20, P16). ż = −λz + sin 3z
# forgets its start; backward, an error grows like e^{λT}, at any tolerance.
# A field of one's own is a class with n, m, `__call__` and `vjp`:

# %%
class Forgetful:
    """f = -lambda z + sin 3z, theta = (lambda,)."""

    n, m = 1, 1

    def __call__(self, z, t, theta):
        return -theta[0] * z + np.sin(3 * z)

    def vjp(self, z, t, theta, a):
        return (a * (-theta[0] + 3 * np.cos(3 * z)), np.zeros(()),
                np.array([-np.sum(a * z)]))


# %% [markdown]
# Predict first: at rtol 1e-9 and λ = 20, how many digits of z0 come back?
# (e^{20} is 5e8.) The library measures it, as `reconstruction_error`.

# %%
from refode import ReconstructionWarning, VanDerPol


def both_ways(f, theta, z0, T, rtol):
    """Reconstruction error, and errors of backsolve and discrete in theta."""
    q = Problem(f, theta, z0, 0.0, T, np.full(f.n, 0.5))
    tr = solve(f, z0, theta, [0, T], rtol=rtol, atol=rtol / 100, keep="steps")
    dL = np.array([0 * z0, grad_L(q, tr.z[1])])
    g, d, want = adjoint(tr, dL), adjoint(tr, dL, method="discrete"), (
        gradient_in_theta(q))
    off = [norm(x.theta - want) / norm(want) for x in (g, d)]
    return g.reconstruction_error, *off


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    lost = [both_ways(Forgetful(), np.array([x]), np.ones(1), 1.0, 1e-9)[0]
            for x in (5.0, 10.0, 20.0)]
print("lambda = 5, 10, 20: z0 recovered to", np.array(lost))
check("E20 P16", "recovery worsens by over a decade from lambda 10 to 20",
      lost[2] > 10 * lost[1], 1, 0)
check("E20", "... and the library warned of it",
      ReconstructionWarning in [w.category for w in caught], 1, 0)

# %% [markdown]
# Whether the gradient suffers depends on the field: here a(t) dies backward
# as fast as the error grows. Around a limit cycle it does not, since a shift
# along the cycle is never forgotten. Van der Pol, μ = 3, rtol 1e-6:
#
# Predict first: what does tightening rtol by a thousand buy at T = 5?

# %%
print("  T   rtol  z0 off by  gradient off by: backsolve  discrete")
for T, rtol in ((2.0, 1e-6), (4.0, 1e-6), (5.0, 1e-6), (5.0, 1e-9)):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReconstructionWarning)
        lost, *off = both_ways(VanDerPol(), np.array([3.0]),
                               np.array([2.0, 0.0]), T, rtol)
    print(f"{T:4.0f}  {rtol:.0e} {lost:9.0e} {off[0]:27.0e} {off[1]:9.0e}")
    if T == 4.0:
        check("E20", "T = 4: backsolve has lost the gradient",
              off[0] > 0.5, 1, 0)
    check("E20", f"T = {T:.0f}: remedy, the discrete way, at its tolerance",
          off[1], 0, 100 * rtol)

# %% [markdown]
# **The adjoint's gradient is not the gradient of what the solver computed**
# (E21, P23). "Any black-box solver" is true up to the solver's own order:
# differentiate-then-discretise and its reverse differ by O(hᵖ). With steps
# as large as training likes to take, an optimiser sees the difference.
#
# Predict first: which slope in h has the gap for Euler, which for RK4?

# %%
def gap(p, method, N):
    """|backsolve - discrete| / |discrete| on the same N fixed steps."""
    T = p.t1 - p.t0
    tr = solve(p.f, p.z0, p.theta, [p.t0, p.t1], method=method, step=abs(T) / N,
               keep="steps")
    dL = np.array([0 * p.z0, grad_L(p, tr.z[1])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReconstructionWarning)
        g, d = adjoint(tr, dL), adjoint(tr, dL, method="discrete")
    return norm(g.theta - d.theta) / (norm(d.theta) + norm(dL))


@step("P23 E21", kind="order", order=1, bound=1e-10)
def gap_of_euler(p):
    """gap of Euler's adjoint to the gradient of Euler's steps, order"""
    N = np.array([32, 64, 128, 256])
    return 1 / N, [gap(p, "Euler", k) for k in N]


@step("P23 E21", kind="order", order=4, bound=1e-10)
def gap_of_rk4(p):
    """the same for RK4, order"""
    N = np.array([8, 16, 32, 64])
    return 1 / N, [gap(p, "RK4", k) for k in N]


ledger.run(gap_of_euler, p)
ledger.run(gap_of_rk4, p)
check("E21", "remedy: a tolerance below the accuracy wanted (the web above)",
      largest_disagreement(web(p)), 0, 1e-8)

# %% [markdown]
# **A solution may not exist** for as long as asked: ż = z² from 1 ends at
# t = 1. No gradient method helps; what helps is an error that says where.
#
# The other regimes stand above: a field with a kink (E09), noise (E12), and
# memory, which is constant in the steps and in nothing else (E19).

# %%
from refode import SolveError


class Square:
    n, m = 1, 0

    def __call__(self, z, t, theta):
        return z**2

    def vjp(self, z, t, theta, a):
        return 2 * a * z, np.zeros(()), np.zeros(0)


try:
    solve(Square(), [1.0], [], [0, 2])
except SolveError as error:
    print(str(error).split(" (")[0])
    check("P19", "z' = z^2 from 1: SolveError at the end of existence",
          error.t, 1.0, 1e-3)

# %% [markdown]
# ## 11 Planted errors, and exercises      §2.2: D28, D30, D33, D35
#
# A check that cannot fail proves nothing. Here is the method once more, for a
# batch of two paths and two observation times, with a knob for each mistake
# that public code has made. Every mistake is named with the check it trips.

# %%
def sweep(f, theta, z, times, dL, *, sign_a=-1, sign_g=-1, flip=1, start=1,
          a2=None, jump=np.add, clock=lambda t: t, vjp=None, over=1):
    """(z, a_1, a_2, a_3) at t0 from states z and cotangents dL (T, B, n)."""
    vjp = vjp or f.vjp
    shape, size = z[0].shape, z[0].size

    def rate(t, q):
        zt, a1 = q[: 2 * size].reshape(2, *shape)
        v1, v2, v3 = vjp(zt, clock(t), theta, a1)
        parts = (f(zt, clock(t), theta), sign_a * v1, -v2, sign_g * v3 / over)
        return flip * np.concatenate([np.ravel(x) for x in parts])

    q = np.concatenate([z[-1].ravel(), np.zeros(size + 1 + f.m)])
    for i in range(len(times) - 1, 0, -1):
        a1 = q[size : 2 * size].reshape(shape)
        q[size : 2 * size] = jump(a1, start * dL[i]).ravel()
        power = np.sum(dL[i] * f(z[i], times[i], theta))
        q[2 * size] -= power if a2 is None else a2
        q = solve_ivp(rate, (times[i], times[i - 1]), q, "DOP853",
                      rtol=1e-11, atol=1e-12).y[:, -1]
    return [x.reshape(shape) for x in (q[:size], q[size : 2 * size])] + [
        q[2 * size], q[2 * size + 1 :]]


# %% [markdown]
# The truth is complex step of the loss Σ dL_i·z(t_i), in every block. And
# d𝓛/dt0, because two slips that cancel in one block show in another.

# %%
times = np.array([p.t0, 0.8, p.t1])
z0s = np.stack([z0, z0[::-1] + 0.3])  # (2, n), a batch of two
dL = np.random.default_rng(5).normal(size=(3, 2, n))
dL[0] = 0.0


def linear_loss(z0s, x, times):
    return np.sum(dL * complex_solve(net, z0s, x, times))


zs = complex_solve(net, z0s, theta, times)
truth = {
    "z0": z0s,
    "a_1": complex_step(lambda z: linear_loss(z, theta, times), z0s),
    "a_2": complex_step(
        lambda t: linear_loss(z0s, theta, np.array([t, *times[1:]])), p.t0),
    "a_3": complex_step(lambda x: linear_loss(z0s, x, times), theta),
}


def errors(**planted):
    """Relative error of each block, under a planted mistake."""
    got = sweep(net, theta, zs, times, dL, **planted)
    return {name: norm(np.subtract(g, want)) / norm(want)
            for g, (name, want) in zip(got, truth.items())}


for block, error in errors().items():
    check("D28 D35", f"no mistake planted: {block}", error, 0, 1e-8)

# %% [markdown]
# Predict first, for each of the ten: which blocks will it spoil, and which
# will be right all the same? (The third is the treacherous one.)

# %%
def jacobian_for_transpose(z, t, theta, a1):
    _, v2, v3 = net.vjp(z, t, theta, a1)
    return net.jvp(z, t, theta, a1, 0.0, 0 * theta), v2, v3


PLANTED = {  # mistake: (knobs, a block that betrays it)
    "sign of a": ({"sign_a": +1}, "a_1"),
    "sign of g": ({"sign_g": +1}, "a_3"),
    "both: cotangent and g": ({"start": -1, "sign_g": +1}, "a_1"),
    "J a for a J": ({"vjp": jacobian_for_transpose}, "a_1"),
    "jump replaces (= for +=)": ({"jump": lambda a1, d: d}, "a_1"),
    "a_2 started at 0": ({"a2": 0.0}, "a_2"),
    "f negated and span reversed": ({"flip": -1}, "z0"),
    "t frozen at t0 in f": ({"clock": lambda t: p.t0}, "z0"),
    "batch mean for sum": ({"over": 2}, "a_3"),
}
for mistake, (knobs, block) in PLANTED.items():
    found = errors(**knobs)
    print(f"{mistake:28}", {k: f"{v:.0e}" for k, v in found.items()})
    check("D28 D35", f"planted: {mistake}: caught by {block}",
          found[block] > 1e-3, 1, 0)
a3 = net.vjp(z0s, p.t0, theta, truth["a_1"])[2]
check("D31", "planted: integral missing, a_1 grad_3 f at t0: caught by a_3",
      norm(a3 - truth["a_3"]) > 1e-3 * norm(a3), 1, 0)
both = errors(**PLANTED["both: cotangent and g"][0])
check("D30", "two sign slips cancel in a_3, which alone finds nothing",
      both["a_3"], 0, 1e-8)
check("D30", "... while a_1 is minus the adjoint: relative error 2",
      both["a_1"], 2, 1e-8)

# %% [markdown]
# The two observations show the jump, too: a₁ just before t1' is a₁ just after
# it plus dL/dz there, because the loss reads z(t1') directly as well as
# through everything that follows.
#
# ### Exercises (solutions at the end of the file)
#
# 1. Why is a₃ not needed to compute a₁? What if f had θ as a state?
# 2. Show that dℒ/dt0 + Σ dℒ/dt_i = 0 if f does not read t.
# 3. The loss reads z at t0 as well. Which gradients change, and by what?
# 4. A gradient field has ∇₁f symmetric. Which of the planted errors passes?
# 5. Freeze a₁ at a₁(t1) in the integral for a₃. To first order in what is the
#    gradient still right?
# 6. What does a field that does not use a parameter return in its block?
# 7. Solve the pair (z, a₁) forward from t0. Is it stable when the backward
#    one is not?
# 8. With N Euler steps, write the discrete adjoint. At which time is its
#    Jacobian taken, and at which does backsolve take it?
#
# ### Three questions, answered by number
#
# Is the minus sign from going backward? No: a·δz is conserved in forward
# time, to 4e-13 (section 5). Does block 2 start at zero? No: at −∇L·f, and a
# zero costs all of ∇L·f (section 6). Is memory constant in the depth? In the
# solver's steps, slope 0; in the layers of f, slope 0.9 (section 8).

# %%
if FIGURES:
    from figures._io import write

    for name in ("resnet_limit", "vector_field", "adjoint_jumps",
                 "minus_sign", "theorem1_slopes", "theta_accumulation",
                 "time_gradients", "fd_vcurve", "reverse_drift"):
        write(name, Path(FIGURES))

# %% [markdown]
# ### The table

# %%
ledger.finish()

# %% [markdown]
# ### Solutions
#
# 1. Its own equation, ȧ₃ = −a₁∇₃f, is an integral: nothing reads a₃. With θ
#    as states θ̇ = 0, a₃ is their adjoint, and M has the same zero rows.
# 2. Then a₂ is constant between observations and jumps by −dL_i·f_i, so
#    a₂(t0) = −Σ dL_i·f_i. The tests hold it to the solver's tolerance.
# 3. ∂L/∂z0 gains dL_0, and nothing else: no path leads from z(t0) to itself.
#    dℒ/dt0 does not change, because z(t0) = z0 whatever t0 is.
# 4. "J a for a J": the two products are the same numbers.
# 5. To first order in t1 − t0: a₁(t) = a₁(t1) + O(t1 − t).
# 6. Exactly 0, in the right place. The tests ask for both.
# 7. a₁ forward is as stable as δz backward, by conservation of a₁·δz: where
#    the backward z is unstable, forward a₁ grows. Nothing is gained.
# 8. a_k = a_{k+1} (I + h ∇₁f(z_k, t_k)): the Jacobian at the *start* of the
#    step, the cotangent at its end. Backsolve takes both at t_{k+1}. That
#    difference, O(h), is the gap of section 10.
