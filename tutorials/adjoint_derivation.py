# %% [markdown]
# # The adjoint method, derived and checked line by line
#
# You need: the note (sections 1 and 2), the chain rule, some NumPy.
# You get:  the gradient of an ODE's solution, by hand, and a reason to
#           believe every sign of it.
# Seconds:  about 10, on one core. `--figures DIR` draws the figures too.
#
# The note derives in a page how to differentiate through an ODE solve. Here
# each of its formulas is computed by two routes that share no code, and the
# difference is printed. A row begins with `ok` or `FAIL`, then names an item
# of the note: D for a displayed formula, P for a claim in its prose, E for an
# erratum, which is a place where our copy of the note (converted from its PDF
# by a machine) prints something that a computation refutes. Then come what
# was measured and what it should be. `python -m refode.where D13` leads from
# an item to the cell, the function, the test and the figure.
#
# Read with the note in one hand. Where the text says "predict first", write
# your guess down before you read on: a wrong guess that stands on paper
# teaches more than a right answer that one has read.
# %%
import argparse
import gc
import tracemalloc
import warnings
from pathlib import Path
from typing import NamedTuple
# %%
import numpy as np
from numpy.linalg import norm
from scipy.integrate import solve_ivp
from scipy.linalg import expm, expm_frechet

import refode
from refode import MLP, Linear, adjoint, solve
from refode.finite_difference import complex_solve, complex_step
from refode.finite_difference import richardson, slope
from refode.steps import Ledger
# %% [markdown]
# ## 0 How to read this, and the problem
#
# The notation is the note's, with three liberties: ∇₁, ∇₂, ∇₃ stand for its
# ∇§1, ∇§2, ∇§3, the derivatives in the first, second and third block of
# arguments; a₁, a₂, a₃ stand for a§1, a§2, a§3; and letters are not bold.
# Gradients of scalars are rows, Jacobians have outputs as rows. What is
# printed writes grad, eps and theta, since a terminal may not know the signs.
#
#     z (n,)   t ()   θ (m,)      state, time, parameters
#     f(z, t, θ)                  (n,)   the vector field, a small tanh net
#     L(z)                        ()     the loss, of the state at t1
# %%
class Problem(NamedTuple):
    f: MLP
    theta: np.ndarray  # (m,)
    z0: np.ndarray  # (n,)
    t0: float
    t1: float
    y: np.ndarray  # (n,): where the loss would like z(t1) to be

    @property
    def T(self):
        return self.t1 - self.t0

def L(p, z):
    return 0.5 * np.sum((z - p.y) ** 2) + np.sum(np.cos(z))

def grad_L(p, z):
    return z - p.y - np.sin(z)  # (n,), a row
# %% [markdown]
# The yardsticks are two. *Complex step*: for code that is analytic,
# Im g(x + ih)/h is the derivative of g, exact to rounding, because nothing is
# subtracted and h can be 1e-30. *Differences* with Richardson extrapolation,
# slower and coarser, but they assume nothing about the code. Under both lies
# an ODE solve by DOP853 at tolerance 1e-13, `complex_solve`, which accepts
# complex numbers in the state, in θ and in the times.
# %%
def at(p, t):
    """The state at time t, (n,)."""
    return complex_solve(p.f, p.z0, p.theta, [p.t0, t])[-1]

def end(p):
    return at(p, p.t1)

def grad(p, name):
    """Gradient of the loss in "z0", "theta", "t0" or "t1"."""
    return complex_step(lambda x: L(p, end(p._replace(**{name: x}))),
                        getattr(p, name))
# %%
def off(got, want, *sizes):
    """|got - want|, relative to |want| plus the other sizes given."""
    return norm(np.subtract(got, want)) / sum(map(norm, (want, *sizes)))
# %% [markdown]
# A random net often gives nearly straight paths, on which wrong formulas pass
# unseen: if ∇₁f is symmetric, a transposed Jacobian is no error at all. So we
# take the first net of a seeded sequence whose path turns by more than 1.5
# radians, with |J − Jᵀ| > 0.8 |J| on the way and a₁·f not small at the end.
# (Figure: vector_field.)
# %%
def interesting(p):
    ts = np.linspace(p.t0, p.t1, 30)
    z = solve(p.f, p.z0, p.theta, ts, rtol=1e-4).z
    v = np.array([p.f(*point, p.theta) for point in zip(z, ts)])
    turn = np.abs(np.diff(np.unwrap(np.arctan2(*v.T[::-1])))).sum()
    J = p.f.jacobian(z[15], ts[15], p.theta)
    return turn, norm(J - J.T) / norm(J), abs(grad_L(p, z[-1]) @ v[-1])
# %%
rng, net = np.random.default_rng(0), MLP([2, 4, 2], "tanh")
while True:
    theta, z0, y = net.init(rng, 1.5), *rng.normal(size=(2, 2))
    p = Problem(net, theta, z0, 0.2, 1.3, y)
    if all(np.array(interesting(p)) > (1.5, 0.8, 0.5)):
        break
n, m = net.n, net.m
print(f"n = {n}, m = {m}; path turns by %.2f rad, asymmetry %.2f, "
      "|a f| = %.2f" % interesting(p))
# %% [markdown]
# A claim about *every* smooth problem is a function of the problem, marked
# with `@step`, that returns what is left over when its two sides are
# subtracted. The mark runs it at once, at our p; the tests run it again over
# random networks, dimensions and time spans. `check` is for single numbers.
# %%
parser = argparse.ArgumentParser(description="The adjoint method, checked.")
parser.add_argument("--figures", metavar="DIR", help="save the figures there")
FIGURES = parser.parse_args().figures if __name__ == "__main__" else None
if FIGURES:
    from figures._files import writable

    writable(Path(FIGURES))  # made now: not to fail after all the work
ledger = Ledger("Sections 1 and 2 of the note")
check = ledger.check
# %%
def step(id, **how):
    def mark(function):
        ledger.run(ledger.step(id, **how)(function), p)
        return function
    return mark
# %% [markdown]
# A tolerance that was tuned until the row turned green says nothing. Ours are
# made of five parts, and each row's is the largest that it has, rounded up:
#
#     rounding     1e-16 times the operations of one f          1e-12
#     solver       1e-13 a step, some ten steps, amplified
#                  forward, and in a derivative once more       1e-9
#     solve back   the same, and back again (section 10)        1e-8
#     quadrature   40 Gauss nodes: exact to rounding for paths
#                  as smooth as these; then the solver's        1e-9
#     truncation   hᵖ of a difference or a method, stated there
#
# A solve amplifies errors by at most exp ∫|∇₁f| dt, printed below: 12 here,
# seldom more in the random fields, for which the marked bounds hold as well.
# Orders (kind="order") may come out up to 0.3 too small, since the next term
# of the series bends a measured slope; errors under the bound are rounding.
# %%
def integral(g, low, high):
    """int g dt by 40 Gauss-Legendre nodes."""
    x, w = np.polynomial.legendre.leggauss(40)
    ts = low + (high - low) * (x + 1) / 2
    return (high - low) / 2 * sum(wk * g(t) for wk, t in zip(w, ts))

size = integral(lambda t: norm(net.jacobian(at(p, t), t, theta), 2),
                p.t0, p.t1)
print(f"exp int |grad_1 f| dt = {np.exp(size):.1f}")
# %% [markdown]
# ## 1 From layers to an ODE      §1: D01, D02, P01, P02, P03, P19, E01
#
# A residual layer adds something to the state. Our copy prints the update
# without a step size and lets the number of layers go to infinity (D01, P02).
#
#     as printed    h_{k+1} = h_k +       f(h_k, kT/N, θ)
#     corrected     h_{k+1} = h_k + (T/N) f(h_k, kT/N, θ)        (E01)
#
# Predict first: with N = 64, 128, 256, 512 layers, what does the distance to
# the ODE's solution do in each of the two? What must shrink as N grows?
# %%
def layers(p, N, size):
    h = p.z0
    for k in range(N):
        h = h + size * p.f(h, p.t0 + k * p.T / N, p.theta)
    return h

LAYERS = np.array([64, 128, 256, 512])
grows = [norm(layers(p, N, 1.0) - end(p)) for N in LAYERS]
print("error without T/N:", np.array2string(np.array(grows), precision=1))
check("E01", "as printed: slope of the error", slope(LAYERS, grows), 1, 0.1)
# %%
@step("D01 P02 E01", kind="order", order=1, bound=1e-11)
def layers_become_the_ode(p):
    """corrected: error of N layers of step T/N, order in T/N"""
    return 1 / LAYERS, [norm(layers(p, N, p.T / N) - end(p)) for N in LAYERS]
# %% [markdown]
# Without the factor the state walks off as far as N steps of size one carry
# it: the error *grows* like N, to 658 at 512 layers. (Slope 1.05 and not yet
# 1, since the first steps do not lead straight away; hence 0.1.) With the
# factor it falls like 1/N, slope 1.00 in T/N: layers are steps of Euler's
# method. (Figure: resnet_limit.) A residual network also has its own θ in
# every layer; the ODE has one θ for all depths, and its f reads t instead.
#
# One layer over the whole span is not yet the ODE, so P01 is an analogy. What
# it misses is known to the last digit, Taylor's remainder:
#
#     z(t1) − z(t0) − T f(z0, t0, θ) = ∫ (t1 − t) z̈ dt,   z̈ = ∇₁f f + ∇₂f
# %%
def acceleration(t):
    z = at(p, t)
    return net.jvp(z, t, theta, net(z, t, theta), 1.0, 0 * theta)

missing = integral(lambda t: (p.t1 - t) * acceleration(t), p.t0, p.t1)
check("P01", "one layer misses the ODE by Taylor's remainder",
      end(p) - layers(p, 1, p.T), missing, 1e-9)
print(f"which is {norm(missing):.2f}, on a way of {norm(end(p) - z0):.2f}")
# %% [markdown]
# What the limit satisfies is D02. The left side is the derivative of the
# solution in time, taken by moving the end of the solve to t1 + ih.
#
# "Any black-box solver" will do, says the note (P03, and again P19). It must
# be given an initial state and the derivative and, left unsaid, a time span
# and tolerances. SciPy's five general solvers share little code with each
# other. At rtol = atol = 1e-9, a hundred steps may leave 1e-7.
# %%
@step("D02", bound=1e-9)
def the_limit_solves_the_ode(p):
    """dz/dt = f(z, t, theta) along the solution, relative"""
    dz = complex_step(lambda t: at(p, t), p.t1)
    return off(dz, p.f(end(p), p.t1, p.theta))

for method in ("RK45", "DOP853", "Radau", "BDF", "LSODA"):
    tr = solve(net, z0, theta, [0.2, 1.3], method=method, rtol=1e-9, atol=1e-9)
    check("P03 P19", f"z(t1) by {method}", tr.z[-1], end(p), 1e-7)
# %% [markdown]
# ## 2 State and solve map      §2.1: D03, D04, D05, P07, P08, P09
# Errata met here: E02, E03, E04.
#
# Everything that a solve starts from is one flat vector (D03) of n + 1 + m
# numbers (P07): state, time, parameters. Flat, because SciPy's solvers know
# no other shape; packing (`join`) and unpacking (`split`) are written once.
#
#     r_t = R(t) = (z_t, t, θ)                            (n + 1 + m,)
#     s_Δt(z_t, t, θ) = ( z_t + ∫ f du ,  t + Δt ,  θ )   (n + 1 + m,)
#
# The solve map s moves the state, runs the clock, and leaves θ alone (P08).
# It takes complex numbers in every slot, so that it can be differentiated in
# every slot.
# %%
def join(z, t, theta):
    return np.concatenate([z, [t], theta])

def split(p, r):
    return r[: p.f.n], r[p.f.n], r[p.f.n + 1 :]

def s(p, dt, r):
    """The solve map s_dt on r = (z, t, theta), all (n + 1 + m,)."""
    z, t, theta = split(p, r)
    moved = complex_solve(p.f, z, theta, [t, t + dt])[-1]
    return join(moved, t + dt, theta)
# %%
def R(p, t):
    """r_t on the trajectory through z0."""
    return s(p, t - p.t0, join(p.z0, p.t0, p.theta))

r = R(p, 0.5)
parts = join(at(p, 0.5), 0.5, theta)
check("D03 P08", "R(t) is z_t, t, theta", r, parts, 1e-12)
# %% [markdown]
# ### A group of maps      §2.1: D04, P09, E02, E04
#
# Predict first: is s_.5 after s_.4 the same map as s_.9? And what is s_-.4
# after s_.4, if a solve may run backward?
#
# The middle form of D04 reads (z_{t+Δ}, t, θ) in our copy: its clock is not
# moved (E02). The second solve then starts with a clock that is .4 slow,
# which matters because f reads t. How far off that leads can be had without
# the printed form, as a solution of ż = f(z, u − .4, θ). And D04 asks for
# Δt ≥ 0 (P09), while the note's sections 2.2 and 3.3 run the solve backward:
# the maps form a group, with Δt of either sign (E04).
# %%
def s_printed(p, dt, r):
    return join(s(p, dt, r)[:n], r[n], theta)

twice = s_printed(p, 0.5, s_printed(p, 0.4, r))[:n]
slow = complex_solve(lambda z, u, x: net(z, u - 0.4, x), at(p, 0.9), theta,
                     [0.9, 1.4])[-1]
check("E02", "as printed: s_.5 s_.4 misses s_.9 as a slow clock does",
      norm(twice - at(p, 1.4)), norm(slow - at(p, 1.4)), 1e-9)
# %%
@step("D04 P09 E02 E04", bound=1e-9)
def solve_maps_form_a_group(p):
    """corrected: s_u s_v = s_(u+v) for either sign, relative"""
    r, pairs = R(p, p.t0), ((0.5, 0.4), (-0.4, 0.4), (-0.3, -0.2), (0.9, -0.6))
    return [off(s(p, u, s(p, v, r)), s(p, u + v, r))
            for u, v in np.multiply(p.T, pairs)]
# %%
@step("D04", bound=1e-9)
def solving_is_integrating(p):
    """z_(t+dt) = z_t + int f du, by quadrature, relative"""
    moved = integral(lambda t: p.f(at(p, t), t, p.theta), p.t0, p.t1)
    return off(p.z0 + moved, end(p), moved)
# %% [markdown]
# With the corrected slot s_.5 s_.4 is s_.9 to fourteen digits; with the
# printed one it misses by 0.49.
#
# ### Running to a fixed time      §2.1: D05, E03
#
# D05 runs until t1, s_→t1 = s_{t1−t}. Once there, running to t1 again must
# change nothing. As printed, its clock slot is t + Δt, but no Δt has been
# chosen here. With a Δt = .5 left over from somewhere, the state carries a
# clock that says t + .5, and the next run goes on from there (E03). The other
# route to the same number is the library's `solve` from the wrong time.
# %%
def to_t1(p, r):
    return s(p, p.t1 - r[p.f.n], r)

once = to_t1(p, r)
once[n] = r[n] + 0.5  # the printed slot
tr = solve(net, once[:n], theta, [1.0, p.t1], method="DOP853", rtol=1e-12)
check("E03", "as printed: the second run goes on from t + .5, moves z by",
      norm((to_t1(p, once) - once)[:n]), norm(tr.z[1] - tr.z[0]), 1e-9)
# %%
@step("D05 E03", bound=1e-12)
def run_to_t1_is_idempotent(p):
    """corrected: s_to_t1 twice is s_to_t1 once"""
    once = to_t1(p, R(p, p.t0))
    return norm(to_t1(p, once) - once)
# %% [markdown]
# ## 3 Loss-to-go and the adjoint      §2.1, §2.2: D06 to D12, P10 to P12
# Errata met here: E05, E06.
#
# The loss reads the state at t1 only (D06, P10; section 6 gives it θ too). As
# a function of where the solve starts, it is the loss-to-go (D07), and the
# adjoint is its gradient, taken along the trajectory (D09):
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
# %%
@step("D07 D17", bound=1e-9)
def loss_to_go_is_constant(p):
    """loss-to-go at six times of one trajectory, spread"""
    values = [loss_to_go(p, R(p, p.t0 + u * p.T)) for u in np.arange(6) / 5]
    return np.ptp(values) / max(1, np.max(np.abs(values)))
# %%
rows = np.array([a(p, t) for t in np.linspace(p.t0, p.t1, 6)])
print("|a(t)|:", np.array2string(norm(rows, axis=1), precision=4))
check("P07 P12", "entries of r, a(t)", [r.size, rows[0].size], n + 1 + m, 0)
dL = complex_step(lambda r: L(p, split(p, r)[0]), r)
check("D06 P10", "L alone: its gradient in t and theta", dL[n:], 0, 0)
# %% [markdown]
# ℒ is constant and a is not: its length falls from 7.4 to 2.6.
#
# Our copy then says "in other words, a(t) = ℒ(R(t))" (D10) and a = ℒ ∘ R
# (D11). The ∇ is missing (E05); and what D10 says to the letter, with its
# s_→t in place of s_→t1, is L(z_t), the loss of a state that has not arrived
# (E06), off by the integral of all that happens later.
#
#     as printed    a = ℒ ∘ R                          (), and constant
#     corrected     a = (∇ℒ) ∘ R                       (n + 1 + m,), moves
#                   a(t) = ∇L(s_→t1(r_t)) ∇s_→t1(r_t)
#
# The corrected form is held against differences: truncation h⁴ = 1e-10 times
# a fifth derivative, and rounding 1e-13/h, together 1e-8.
# %%
printed = [loss_to_go(p, R(p, t)) for t in (p.t0, 0.7, p.t1)]
check("E05 D10", "as printed: a(t) never moves", np.ptp(printed), 0, 1e-9)
fd = richardson(lambda r: loss_to_go(p, r), R(p, p.t0), 3e-3, 2)
check("D09 E05", "corrected: a = (grad L) o R, against differences, relative",
      off(fd, rows[0]), 0, 1e-8)
rate = integral(lambda t: grad_L(p, at(p, t)) @ net(at(p, t), t, theta),
                p.t0, p.t1)
early = L(p, z0) - printed[0]
check("E06", "as printed: off by -int grad L . f dt", early, -rate, 1e-9)
# %%
@step("D10 E06", bound=1e-9)
def adjoint_by_the_chain_rule(p):
    """corrected: a(t) = grad L(s(r)) grad s(r), relative"""
    r, n = R(p, p.t0), p.f.n
    inner = complex_step(lambda r: to_t1(p, r), r)  # (n+1+m, n+1+m)
    outer = grad_L(p, to_t1(p, r)[:n])  # (n,), as L reads z alone
    return off(outer @ inner[:n], a(p, p.t0))
# %% [markdown]
# One might repair D11 as ∇(ℒ ∘ R), the gradient of the composite. That is no
# repair: ℒ ∘ R is constant, so that its derivative along the path is 0. This
# zero is worth keeping, though. Written out it ties two blocks together.
#
# The goal is the last block at t0 (D12), which is the gradient in θ (D08,
# P11). Complex step and differences lead there, one θ at a time: m solves and
# more. The rest of this text is about getting all of it from one.
# %%
@step("D11", bound=1e-9)
def no_change_along_the_path(p):
    """d(L o R)/dt = a_1 f + a_2 = 0, relative"""
    a1, a2, _ = split(p, a(p, p.t0))
    f = p.f(p.z0, p.t0, p.theta)
    return abs(a1 @ f + a2) / (norm(a1) * norm(f) + abs(a2))
# %%
@step("D12 P11", bound=1e-9)
def last_block_is_the_gradient(p):
    """a_3(t0) = gradient of the loss in theta, relative"""
    return off(split(p, a(p, p.t0))[2], grad(p, "theta"))

check("D08", "differences against complex step, relative",
      off(split(p, fd)[2], grad(p, "theta")), 0, 1e-8)
# %% [markdown]
# ## 4 Theorem 1, in six steps      §2.2: D13 to D27, P13, P14
# Errata met here: E07, E08, E09, E10, E11.
#
#               ⎡ ∇₁f  ∇₂f  ∇₃f ⎤   n rows
#     ȧ = −a M, ⎢  0    0    0  ⎥   1 row          (D13)
#               ⎣  0    0    0  ⎦   m rows
#
# A proof is a ladder, and a loose rung is found by standing on it. Each line
# of the note's proof is a step below. Exact lines leave the solver's error.
# Lines with an O(εᵖ) leave something that falls with slope p, measured at
# ε = .04, .02, .01, .005 of the span. (Figure: theorem1_slopes.)
#
# ### Step 1: ℒ does not change along the path      §2.2: D18, P14, E11
#
# It is the only property of ℒ that the proof uses. Our copy asks for ε > 0
# and t + ε < t1; that would give a one-sided derivative, and neither
# condition is needed (E11).
#
# Predict first: does ℒ = ℒ ∘ s_ε hold beyond t1, where the path has passed
# the point at which the loss is taken?
# %%
@step("D18 P14 E11 E04", bound=1e-9)
def invariance_for_either_sign(p):
    """L(s_eps(r)) = L(r), eps forward, backward, and past t1"""
    r = R(p, p.t0)
    here = loss_to_go(p, r)
    return [abs(loss_to_go(p, s(p, e * p.T, r)) - here) / max(1, abs(here))
            for e in (-0.3, 0.1, 0.35, 1.4)]
# %% [markdown]
# It does: from beyond t1 the run to t1 is a solve backward (section 2).
#
# ### Step 2: the chain rule      §2.2: D19, D20, D21
#
# Differentiate ℒ = ℒ ∘ s_ε in all n + 1 + m arguments. The note's three lines
# differ in how they name the point at t + ε: as s_ε(r), as z_{t+ε} read off
# the trajectory, as a(t + ε). ε is .3 of the span here: nothing is small yet.
#
#     ∇ℒ(r_t) = ∇ℒ(s_ε(r_t)) ∇s_ε(r_t)       a(t) = a(t + ε) ∇s_ε(r_t)
# %%
def grad_s(p, eps, r):
    """Jacobian of the solve map, (n + 1 + m, n + 1 + m), by complex step."""
    return complex_step(lambda r: s(p, eps, r), r)
# %%
@step("D19 D20 D21", bound=1e-9)
def pull_back_along_the_flow(p):
    """a(t) = a(t+eps) grad s_eps in its three spellings, relative"""
    eps, r = 0.3 * p.T, R(p, p.t0)
    points = s(p, eps, r), join(at(p, p.t0 + eps), p.t0 + eps, p.theta)
    rows = [complex_step(lambda r: loss_to_go(p, r), x) for x in points]
    J, now = grad_s(p, eps, r), a(p, p.t0)
    return [off(row @ J, now) for row in (*rows, a(p, p.t0 + eps))]
# %% [markdown]
# ### Step 3: Taylor      §2.2: D22, D23
#
#     s_ε(r) = r + ε (f, 1, 0) + O(ε²)                  (n + 1 + m,)
#
# Predict first: if ε halves, by what factor does the remainder shrink?
# %%
EPS = 0.04 * 2.0 ** -np.arange(4)

@step("D22 D23", kind="order", order=2, bound=1e-12)
def solve_map_to_first_order(p):
    """|s_eps(r) - r - eps (f, 1, 0)|, order in eps"""
    r, rate = R(p, p.t0), join(p.f(p.z0, p.t0, p.theta), 1, 0 * p.theta)
    return EPS, [norm(s(p, e, r) - r - e * rate) for e in EPS * p.T]
# %% [markdown]
# By four: the measured order is 2.01.
#
# ### Step 4: its Jacobian      §2.2: D24, E09, E10
#
#     ∇s_ε = I + ε M + O(ε²)                  (n + 1 + m, n + 1 + m)
#
# Here the note differentiates an O(ε²), which is not allowed in general
# (E10), and here sit the hypotheses that Theorem 1 does not state (E09). The
# left side is complex step through a solve; M is made of the hand-written
# VJPs of f, a row for each unit cotangent.
# %%
def M(p, z, t):
    """The matrix of Theorem 1, (n + 1 + m, n + 1 + m)."""
    rows = [join(*p.f.vjp(z, t, p.theta, e)) for e in np.eye(p.f.n)]
    return np.vstack([rows, np.zeros((1 + p.f.m, p.f.n + 1 + p.f.m))])
# %%
@step("D24", kind="order", order=2, bound=1e-12)
def jacobian_of_the_solve_map(p):
    """|grad s_eps - (I + eps M)|, order in eps"""
    r, M0 = R(p, p.t0), M(p, p.z0, p.t0)
    return EPS, [norm(grad_s(p, e, r) - np.eye(len(r)) - e * M0)
                 for e in EPS * p.T]
# %% [markdown]
# The line is true; its reason is not that an O(ε²) has a small derivative. It
# may have any: g(z) = z + ε² sin(z/ε²) stays within ε² of the identity, while
# its slope runs from 0 to 2, for ε as small as you like. (The 1001 points meet
# the extremes, so that only rounding is left.) What makes D24 true is the
# ODE. Differentiated in its start, it gives the Jacobian of the solve an ODE
# of its own, the variational equation, and integrating that once gives
# ∇₁s_ε = I + ε ∇₁f + O(ε²):
#
#     ∂/∂ε ∇₁s_ε = ∇₁f(s_ε) ∇₁s_ε,      ∇₁s_0 = I          (n, n)
#
# Its left side is extrapolated over four levels from h = .05 of the span, so
# that the truncation is h⁸ = 4e-11 times a ninth derivative: 1e-8.
# %%
def wiggle(z, e=0.01):
    return z + e**2 * np.sin(z / e**2)

zs = np.linspace(0, 4 * np.pi * 1e-4, 1001)
slopes = np.imag(wiggle(zs + 1e-30j)) / 1e-30
check("E10", "z + e^2 sin(z/e^2): distance to z, in e^2",
      np.max(np.abs(wiggle(zs) - zs)) * 1e4, 1, 1e-9)
check("E10", "... range of its slope", np.sort(slopes)[[0, -1]], [0, 2], 1e-9)
# %%
@step("E10", bound=1e-8)
def variational_equation(p):
    """corrected: d/d eps grad_1 s = grad_1 f(s) grad_1 s, relative"""
    def grad_1(t):  # (n, n)
        return complex_step(lambda z: at(p._replace(z0=z), t), p.z0)

    t = p.t0 + 0.5 * p.T
    left = richardson(grad_1, t, 0.05 * abs(p.T), levels=4)
    return off(left, p.f.jacobian(at(p, t), t, p.theta) @ grad_1(t), grad_1(t))
# %% [markdown]
# And the hypotheses (E09). Theorem 1 needs a continuous ∇f, the O(ε²) of D24
# needs f in C² (or ∇f Lipschitz). Two scalar fields show what breaks without:
# ż = |z| and ż = 1 + |z|^1.5, both started at 0, where they have a kink.
#
# Predict first: over time 1 the flow of |z| multiplies a positive start by e
# and a negative one by 1/e. What then is the derivative of ℒ at 0, L(z) = z?
#
# For the second field, z_t = t + O(t^2.5) and ∇₁s = exp ∫ 1.5 √z dt, which is
# 1 + ε^1.5 + ...: continuous, but the remainder has order 1.5, not 2.
# (The solves leave 1e-14/h = 1e-8 in these differences.)
# %%
def flow(field, start, T=1.0):
    run = solve_ivp(field, (0, T), [start], rtol=1e-12, atol=1e-14)
    return run.y[0, -1]

def soft(t, z):
    return 1 + np.abs(z) ** 1.5
# %%
h = 1e-6
sides = [flow(lambda t, z: np.abs(z), x) / x for x in (-h, h)]
check("E09", "z' = |z|: left derivative of L at 0", sides[0], 1 / np.e, 1e-7)
check("E09", "z' = |z|: right derivative of L at 0", sides[1], np.e, 1e-7)
rest = [(flow(soft, h, e) - flow(soft, -h, e)) / (2 * h) - 1 for e in EPS / 4]
check("E09", "z' = 1 + |z|^1.5: order of |grad s - 1 - eps grad f|",
      slope(EPS, np.abs(rest)), 1.5, 0.02)
# %% [markdown]
# So a(t) is undefined there: 1/e from the left, e from the right. A ReLU net
# has such kinks; tanh and softplus have none.
#
# ### Steps 5 and 6: substitute, and the limit      §2.2: D16, D25 to D27, E07
#
#     a(t) = a(t+ε) + ε a(t+ε) M + O(ε²)                    (D25)
#     (a(t+ε) − a(t)) / ε = −a(t+ε) M + O(ε)                (D26)
#
# D26 is D25 over −ε, so one slope serves both. Our copy begins the proof with
# a plus in the difference quotient (D16). Predict first: what does that
# quotient do as ε goes to 0? (A row of kind "existence" compares what a
# printed formula yields with the size that its error is predicted to have.)
# %%
def quotients(p):
    """eps, a(t), a(t + eps) for each eps, and M at t."""
    later = np.array([a(p, p.t0 + e) for e in EPS * p.T])
    return EPS[:, None] * p.T, a(p, p.t0), later, M(p, p.z0, p.t0)

@step("D25 D26", kind="order", order=2, bound=1e-12)
def substitution(p):
    """|a(t) - a(t+eps) - eps a(t+eps) M|, order in eps (over eps: D26)"""
    eps, now, later, M0 = quotients(p)
    return EPS, norm(now - later - eps * later @ M0, axis=1)
# %%
@step("E07", kind="existence", bound=0.1)
def quotient_as_printed(p):
    """as printed: |(a(t+eps) + a(t))/eps| is 2|a|/eps"""
    eps, now, later, _ = quotients(p)
    size = norm(2 * now / eps, axis=1)
    return norm((later + now) / eps, axis=1) / max(size), size / max(size)
# %%
@step("D16 D27 E07", kind="order", order=1, bound=1e-10)
def quotient_with_a_minus(p):
    """corrected: |(a(t+eps) - a(t))/eps - (-a(t) M)|, order in eps"""
    eps, now, later, M0 = quotients(p)
    return EPS, norm((later - now) / eps + now @ M0, axis=1)
# %% [markdown]
# With the plus nothing cancels, and the quotient grows like 2|a|/ε: it has no
# limit. (Held to a tenth of its largest, at ε = .005: a(t+ε) differs from
# a(t) by O(ε).) With the minus it converges.
#
# ### Theorem 1 itself      §2.2: D13, D14, D15, D27, P13, E08
#
# As a derivative of a(t), by extrapolated differences, each of the blocks
# apart (P13), because a large block would hide an error in a small one. Three
# levels from h = .04 of the span: h⁶ = 4e-9 times a derivative, 1e-7. The
# note's "in particular" names blocks 1 and 3 (D14, D15) and passes over block
# 2, which gives the gradients in time (E08):
#
#     ȧ₁ = −a₁ ∇₁f  (n,)      ȧ₂ = −a₁ ∇₂f  ()      ȧ₃ = −a₁ ∇₃f  (m,)
# %%
@step("D13 D27 P13 E08", bound=1e-7)
def theorem_1(p):
    """da/dt + a M = 0 by extrapolated differences, each block, relative"""
    t = p.t0 + 0.5 * p.T
    left = richardson(lambda u: a(p, u), t, 0.04 * abs(p.T), levels=3)
    right = -a(p, t) @ M(p, at(p, t), t)
    return [norm(x - y) / (norm(right) + norm(a(p, t)))
            for x, y in zip(split(p, left), split(p, right))]
# %% [markdown]
# ## 5 What the minus sign means      §2.2: D14
#
# "The minus comes from going backward in time" is in circulation, and wrong:
# ȧ₁ = −a₁ ∇₁f is the equation in *forward* time. The minus comes from
# conservation. Move the start by δz: the path moves by δz(t), which obeys the
# variational equation, and the loss moves by a₁(t)·δz(t), which is the same
# number whenever it is asked. So
#
#     0 = d/dt (a₁·δz) = ȧ₁·δz + a₁·∇₁f δz     for every δz       ()
#
# Predict first: with a plus instead, is a₁·δz constant, growing or falling?
# By the product rule it must then change by 2 ∫ a₁·∇₁f δz dt, which the last
# slot of the state below accumulates. (Figure: minus_sign.)
# %%
def pairing(p, sign):
    """z, dz, a_1 at six times and int 2 a_1.J dz, from the true a_1(t0)."""
    def rate(t, q):
        z, dz, a1 = q[:-1].reshape(3, p.f.n)
        J = p.f.jacobian(z, t, p.theta)
        parts = p.f(z, t, p.theta), J @ dz, sign * a1 @ J, [2 * a1 @ J @ dz]
        return np.concatenate(parts)

    start = np.concatenate([p.z0, np.ones(p.f.n), grad(p, "z0"), [0]])
    q = solve_ivp(rate, (p.t0, p.t1), start, "DOP853",
                  np.linspace(p.t0, p.t1, 6), rtol=1e-12, atol=1e-13).y
    return *q[:-1].reshape(3, p.f.n, 6), q[-1]
# %%
@step("D14", bound=1e-8)
def pairing_is_conserved(p):
    """a_1.dz is the same at six times; forward, a_1 ends at grad L, rel."""
    z, dz, a1, _ = pairing(p, -1)
    products, g = np.sum(a1 * dz, axis=0), grad_L(p, z[:, -1])
    return np.ptp(products) / (abs(products[0]) + norm(g)), off(a1[:, -1], g)
# %%
for sign, name in ((-1, "minus:"), (1, "plus: ")):
    _, dz, a1, moved = pairing(p, sign)
    products = np.sum(a1 * dz, axis=0)
    print("a.dz with", name, np.array2string(products, precision=4))
grown = products[-1] - products[0]
check("D14", "with a plus: moves by 2 int a.J dz dt", grown, moved[-1], 1e-8)
# %% [markdown]
# With the minus the product is 2.1165 at all six times; with a plus it grows
# to 7.2193. The second number of `pairing_is_conserved` answers another
# question: why a *backward* ODE? Not because the equation needs it. Given the
# true a₁(t0), it runs forward and arrives at ∇L. It is started at t1 because
# that is where a₁ is known.
#
# ## 6 Boundary values      §2.2: D32, D33, P17, P18
# Errata met here: E08, E22.
#
# Where does a(t1) come from? From the loss alone: at t1 nothing is left to
# solve, and no ODE takes part (P18). Predict first: which of the three blocks
# starts at zero there?
#
#     a₁(t1) = ∇L(z_t1)                       (n,)  D32
#     a₂(t1) = −∇L(z_t1)·f(z_t1, t1, θ)       ()    **not 0**, E08
#     a₃(t1) = 0                              (m,)  D33: L has no θ, P17
#
# Block 2 is the one that people copy from block 3. Shift the clock at t1 and
# the run to t1 gets shorter, so that L loses ∇L·f. (The same follows from the
# zero of D11: a₁·f + a₂ = 0.)
# %%
@step("D32 D33 P17 P18 E08", bound=1e-9)
def values_at_t1(p):
    """a(t1) = (grad L, -grad L f, 0), each block, relative"""
    g, f = grad_L(p, end(p)), p.f(end(p), p.t1, p.theta)
    a1, a2, a3 = split(p, a(p, p.t1))
    return off(a1, g), abs(a2 + g @ f) / (norm(g) * norm(f)), norm(a3)
# %% [markdown]
# To see what a wrong start costs, solve back from t1 with any values of a₂
# and a₃. The rates are the library's `adjoint_dynamics`, one function for all
# of Theorem 1; `Blocks` packs (z, a₁, a₂, a₃) into the flat vector that SciPy
# wants, and unpacks it.
# %%
from refode.sensitivities.backsolve import Blocks, adjoint_dynamics

def solve_back(p, a2, a3):
    """(z, a_1, a_2, a_3) at t0, from a_2 and a_3 at t1."""
    q, z1 = Blocks((p.f.n,), p.f.m), end(p)

    def rate(t, y):
        z, a1, _, _ = q.unpack(y)
        return q.pack(*adjoint_dynamics(p.f, z, t, p.theta, a1))

    run = solve_ivp(rate, (p.t1, p.t0), q.pack(z1, grad_L(p, z1), a2, a3),
                    "DOP853", rtol=1e-12, atol=1e-13)
    return q.unpack(run.y[:, -1])
# %%
@step("D15 E08", bound=1e-8)
def library_dynamics_give_all_blocks(p):
    """a_1, a_2, a_3 at t0 by the library's dynamics, relative"""
    a2 = -grad_L(p, end(p)) @ p.f(end(p), p.t1, p.theta)
    got, want = solve_back(p, a2, 0 * p.theta)[1:], a(p, p.t0)
    return [norm(x - y) / norm(want) for x, y in zip(got, split(p, want))]
# %% [markdown]
# ### What a wrong start costs      §2.2: D33, E08, E22, P10
#
# a₂ does not enter its own equation, so that a wrong start 0 shifts all of a₂
# by +∇L·f, and dℒ/dt0 = a₂(t0) = −a₁(t0)·f(z0, t0) with it. At the other end
# there is no minus: dℒ/dt1 = +a₁(t1)·f(z1, t1), a later end is a longer path.
# (Figure: time_gradients.) The truth comes from complex step in t0 and t1.
# %%
z1, g1 = end(p), grad_L(p, end(p))
power = g1 @ net(z1, p.t1, theta)
dt0, dt1 = grad(p, "t0"), grad(p, "t1")
wrong, right = (solve_back(p, a2, 0 * theta) for a2 in (0.0, -power))
check("E08", "as printed (0 like block 3): dL/dt0 off by grad L f",
      wrong[2] - dt0, power, 1e-8)
check("E08", "corrected: a_2(t0) = dL/dt0", right[2], dt0, 1e-8)
check("E08", "corrected: -a_1(t0) f = dL/dt0",
      -right[1] @ net(z0, p.t0, theta), dt0, 1e-8)
check("E08", "corrected: +a_1(t1) f = dL/dt1", power, dt1, 1e-8)
# %% [markdown]
# And a₃: why may it start at 0, does it matter? Predict first: what comes out
# if it starts at some random c? Its rate does not contain a₃. It is an
# accumulator, and c is a pure offset. (Figure: theta_accumulation.) If L
# reads θ, say by a weight decay of .05|θ|², an offset is what is wanted:
# a₃(t1) = ∇₃L = .1 θ (E22). P10 and P17 rest on an L without θ.
# %%
def decayed(x):
    return L(p, end(p._replace(theta=x))) + 0.05 * np.sum(x**2)

c, want = rng.normal(size=m), complex_step(decayed, theta)
check("D33", "a_3 started at random c, minus c, is the gradient",
      solve_back(p, -power, c)[3] - c, grad(p, "theta"), 1e-8)
check("E22 P10", "as printed (start 0): misses the direct part .1 theta",
      want - right[3], 0.1 * theta, 1e-8)
check("E22", "corrected: a_3(t1) = .1 theta",
      solve_back(p, -power, 0.1 * theta)[3], want, 1e-8)
# %% [markdown]
# ## 7 One backward solve      §2.2: D28 to D35, P06, P15, P16, P20
# Errata met here: E12, E13, E14, E15, E16.
#
# A solver wants one flat state and its rate (P19), so the three unknowns of
# D28 are stacked. The note's q has no place for a₂; the library adds one.
#
#     q = (z, a₁ᵀ, a₃ᵀ)                     (n + n + m,)       P20
#
#             ⎡ f         ⎤  (n,)            as printed, blocks 2 and 3 are
#     dq/dt = ⎢ −(∇₁f)ᵀq₂ ⎥  (n,)            rows, −q₂ᵀ∇f, in a column: they
#             ⎣ −(∇₃f)ᵀq₂ ⎦  (m,)            do not stack (E16)
#
# Predict first: n = 2, m = 28. How long is q? How long is the state of the
# forward solve (P06)?
# %%
def dq_dt(t, q, p):
    """D35, written out: the whole method."""
    z, a1 = q[: 2 * p.f.n].reshape(2, p.f.n)  # a_3, the rest, is not read
    vjp_z, _, vjp_theta = p.f.vjp(z, t, p.theta, a1)
    return np.concatenate([p.f(z, t, p.theta), -vjp_z, -vjp_theta])
# %%
def backward(p):
    """Solve q from t1 to t0, with dense output for the integrals below."""
    q1 = np.concatenate([end(p), grad_L(p, end(p)), 0 * p.theta])  # D34
    return solve_ivp(dq_dt, (p.t1, p.t0), q1, "DOP853", dense_output=True,
                     args=(p,), rtol=1e-12, atol=1e-13)
# %%
@step("D28 D34 D35 P16", bound=1e-8)
def joint_backward_solve(p):
    """q(t0) against z0, grad_1 and grad_3 by complex step, relative"""
    z, a1, a3 = np.split(backward(p).y[:, -1], [p.f.n, 2 * p.f.n])
    size = grad(p, "z0")
    return off(z, p.z0, size), off(a1, size), off(a3, grad(p, "theta"), size)

back = backward(p)
sizes = [len(back.y), len(z1)]
check("P20 P06", "lengths: of q 2n + m, of z n", sizes, [2 * n + m, n], 0)
# %% [markdown]
# 32 and 2. Why carry a₁ along at all, when z0 is data and nobody asks for
# dL/dz0? Because a₁(t) is the integrand of the gradient in θ; dL/dz0 is its
# last value and comes free. Freeze a₁ at a₁(t1) and what comes out is the
# gradient with the *path* frozen: each moment's θ moves z(t1) directly, and
# nothing knows that it moves the rest of the path as well.
# %%
def on_path(x):
    return g1 @ integral(lambda t: net(back.sol(t)[:n], t, x), p.t0, p.t1)

frozen = integral(lambda t: net.vjp(back.sol(t)[:n], t, theta, g1)[2],
                  p.t0, p.t1)
check("D31", "a_1 frozen at t1: the gradient on a frozen path",
      frozen, complex_step(on_path, theta), 1e-9)
print(f"relative to the true gradient off by {off(frozen, right[3]):.2f}")
# %% [markdown]
# ### Three integrals      §2.2: D29, D30, D31, E13
#
# The same as integrals, by quadrature along the dense solution. In our copy
# the integrand reads a₁(z_t, t, θ), but a is a function of time alone, a₁(t)
# (E13). The sign before an integral from t1 to t0 is a minus; with a plus the
# result is wrong by twice the integral. Dense output interpolates with order
# 7 in between steps, so these rows are held to 1e-7 and not to 1e-8.
# %%
def integrals(p, run):
    """int from t1 to t0 of f, a_1 grad_1 f and a_1 grad_3 f, (2n + m,)."""
    def integrand(t):
        z, a1 = run.sol(t)[: 2 * p.f.n].reshape(2, p.f.n)
        vjp_z, _, vjp_theta = p.f.vjp(z, t, p.theta, a1)
        return np.concatenate([p.f(z, t, p.theta), vjp_z, vjp_theta])
    return integral(integrand, p.t1, p.t0)
# %%
@step("D29 D30 D31 E13", bound=1e-7)
def three_integrals(p):
    """q(t0) - q(t1) = int of (f, -a_1 grad_1 f, -a_1 grad_3 f), relative"""
    run = backward(p)
    change = integrals(p, run) * np.repeat([1, -1], [p.f.n, p.f.n + p.f.m])
    return off(run.y[:, 0] + change, run.y[:, -1])

total = integrals(p, back)[2 * n :]
check("D31", "with a plus: wrong by twice the integral, relative",
      norm(back.y[2 * n :, -1] - total) / norm(total), 2, 1e-7)
# %% [markdown]
# ### Shapes, as printed      §2.2: D34, E14, E15, E16
#
# D34 stacks z_t1, a column, over ∇(L)ᵀ, the transpose of a scalar and so
# still a row (E15); D35 puts rows under a column (E16). Blocks stack if they
# are equally wide. The TeX of D34 is damaged in our copy too, an artefact of
# the conversion with nothing to compute (E14).
# %%
def widths(*blocks):
    return len({np.shape(block)[1] for block in blocks})

column, row = z1[:, None], g1[None, :]  # (n, 1), (1, n)
vjp_theta = net.vjp(z1, p.t1, theta, g1)[2]
J3 = complex_step(lambda x: net(z1, p.t1, x), theta)  # (n, m)
check("E15 D34", "as printed: widths to stack", widths(column, row), 2, 0)
check("E15 D34", "corrected: with (grad L)^T", widths(column, row.T), 1, 0)
check("E16", "as printed: widths", widths(column, row, vjp_theta[None]), 3, 0)
check("E16", "corrected: the VJP is (grad_3 f)^T q_2, a column",
      vjp_theta[:, None], J3.T @ row.T, 1e-12)
ledger.text("E14", "TeX of D34 damaged in our copy: \\b, \\n, \\\\ lost")
# %% [markdown]
# ### Going back in SciPy      §2, §2.2: P15, P19, E12
#
# To integrate backward, give `solve_ivp` the *same* f and a span that runs
# from t1 to t0; its steps are then negative. Those who negate f as well have
# turned around twice. Predict first: ż = −z/2 takes 1 to e⁻¹ in two units of
# time. What do the two ways make of e⁻¹, on the way back?
# %%
def went_back(rate):
    run = solve_ivp(rate, (2, 0), [np.exp(-1)], rtol=1e-10, atol=1e-12)
    return run.y[0, -1]

same, both = went_back(lambda t, z: -z / 2), went_back(lambda t, z: z / 2)
check("P19 D29", "same f, span (2, 0): back at 1", same, 1, 1e-8)
check("P19 D29", "f negated too: on to e^-2", both, np.exp(-2), 1e-8)
# %% [markdown]
# Our copy says "neural SDE" where it means ODE (P15, E12). The difference is
# the method: what is to be solved back must be reversible. Add a kick σ√h ξ
# to each of N Euler steps, solve back without kicks, and z0 is not recovered.
# What stays away can be predicted: each kick, carried back to t0 by the
# linearised flow. The next term is of order σ, 1 % here, times curvature: 5 %.
# %%
def recover(sigma, N=1000):
    """z0 found again after N noisy Euler steps; the kicks, carried to t0."""
    noise, z, h = np.random.default_rng(1), z0, p.T / N
    moved, kicks = np.eye(n), np.zeros(n)
    for t in p.t0 + h * np.arange(N):
        kick = sigma * np.sqrt(h) * noise.normal(size=n)
        moved = moved + h * net.jacobian(z, t, theta) @ moved
        z = z + h * net(z, t, theta) + kick
        kicks = kicks + np.linalg.solve(moved, kick)
    return complex_solve(net, z, theta, [p.t1, p.t0])[-1], kicks
# %%
quiet = [recover(0, N)[0] for N in (500, 1000)]
check("P15", "an ODE: recovered to Euler's error, order in the step",
      slope([2, 1], [norm(z - z0) for z in quiet]), 1, 0.05)
noisy, kicks = recover(0.01)
check("E12", "as printed (an SDE): off by the kicks carried back, relative",
      off(noisy - quiet[1], kicks), 0, 0.05)
print(f"off by {norm(quiet[1] - z0):.1e}, with noise {norm(noisy - z0):.1e}")
# %% [markdown]
# ## 8 VJP, not Jacobian      §2, §2.2: P04, P05, P21, P22, P24, P25
# Errata met here: E17, E18, E19.
#
# Our copy calls the products in D35 "directional derivatives". They are not
# (E17). A directional derivative moves the argument; a VJP moves nothing, it
# is the gradient of the scalar a·f.
#
#     JVP   ∇₁f v   (n,)    column, how f changes along v
#     VJP   a ∇₁f   (n,)    row, gradient of a·f in z
#
# Predict first: for which Jacobians are the two the same numbers when v = aᵀ?
# %%
u, at0 = g1, (z0, p.t0, theta)
vjp, jvp = net.vjp(*at0, u)[0], net.jvp(*at0, u, 0.0, 0 * theta)
J = complex_step(lambda z: net(z, p.t0, theta), z0)  # (n, n)
check("E17", "as printed: VJP and JVP differ by u (J - J^T), relative",
      off(jvp, vjp), norm(u @ (J - J.T)) / norm(u @ J), 1e-12)
# %%
@step("P21 E17", bound=1e-12)
def vjp_is_a_gradient(p):
    """corrected: VJP = gradient of a.f, JVP = derivative along v, relative"""
    u, point = grad_L(p, p.z0), (p.t0, p.theta)
    gradient = complex_step(lambda z: u @ p.f(z, *point), p.z0)
    along_u = complex_step(lambda h: p.f(p.z0 + h * u, *point), 0.0)
    return (off(p.f.vjp(p.z0, *point, u)[0], gradient, u),
            off(p.f.jvp(p.z0, *point, u, 0.0, 0 * p.theta), along_u, u))
# %% [markdown]
# For symmetric ones: aJ − Ja = a (J − Jᵀ). In code, a is a row and the
# product is J.T @ a; who writes J @ a passes every test on a gradient field.
#
# The library's closed-form fields bring VJPs written by hand too. They are
# polynomials and sines, analytic, so rounding is all that may be left.
# %%
def vjp_twice(f, u):
    """Of a planar field in (z, theta): by hand, and by complex step."""
    x = rng.normal(size=2 + f.m)
    vjp_z, _, vjp_theta = f.vjp(x[:2], 0.3, x[2:], u)
    want = complex_step(lambda x: u @ f(x[:2], 0.3, x[2:]), x)
    return np.r_[vjp_z, vjp_theta], want

for f in (Linear(2), refode.LotkaVolterra(), refode.VanDerPol(),
          refode.CubicSpiral(), refode.Pendulum()):
    check("P21", f"VJP of {type(f).__name__}", *vjp_twice(f, g1), 1e-12)
# %% [markdown]
# ### What a VJP costs      §2.2: P22, P24, E18
#
# In matrix products rather than in seconds: an array that counts those it
# takes part in. All of one layer are equally dear, so ratios are exact.
#
# Predict first: a ∇₃f has m components. How many JVPs does it take? How many
# VJPs? Our copy says "forward-mode" where the method needs reverse (E18). A
# layer is one matrix product forward; going back takes two, one for the
# cotangent of its input and one for that of its weights, so that a VJP with
# its forward pass costs three f (P22). A JVP costs three as well, by the
# product rule, but yields one direction.
# %%
class Counted(np.ndarray):
    products = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        Counted.products += ufunc is np.matmul and np.ndim(inputs[0]) == 2
        plain = [np.asarray(x) for x in inputs]
        out = np.asarray(getattr(ufunc, method)(*plain, **options))
        return out.view(Counted)

def products(function, f):
    Counted.products = 0
    function(np.ones((8, f.n)).view(Counted), 0.3, np.ones(f.m).view(Counted))
    return Counted.products
# %%
def costs(f):
    """Matrix products of a VJP and of a JVP, in those of f."""
    vjp = products(lambda z, t, x: f.vjp(z, t, x, z), f)
    jvp = products(lambda z, t, x: f.jvp(z, t, x, z, 0.0, x), f)
    return np.array([vjp, jvp]) / products(f, f)

for f in (net, MLP([16, 128, 128, 16])):
    vjp, jvp = costs(f)
    print(f"m = {f.m}: a grad_3 f for {vjp:.0f} f, or {f.m * jvp:.0f} by JVPs")
    check("E18 P24", "as printed: by m JVPs, in m f", jvp, 3, 0)
    check("P22 P24 E18", "corrected: by one VJP, in f", vjp, 3, 0)
# %% [markdown]
# ### Memory: constant in what?      §2, §2.2: P04, P05, P24, P25, E19
#
# The note promises that memory does not depend "on the network's depth at
# all" (P25). Of which depth? Not on the number of *solver steps* (P05). But a
# VJP of f keeps, for each *layer of f*, the layer's input and the slope of
# its activation (E19): here two arrays of 400 x 32 numbers, 200 KiB. A JVP
# keeps none (P24; it is what forward mode would be good for).
# %%
def peak(function, *arguments):
    """Peak of memory while the function runs, KiB."""
    gc.collect()  # what an earlier cell left behind is not counted
    tracemalloc.start()
    function(*arguments)
    used = tracemalloc.get_traced_memory()[1] / 1024
    tracemalloc.stop()
    return used  # differs by some bytes from run to run
# %%
def memory_of(depth):
    """Peaks of a VJP and of a JVP, KiB, beyond what theta itself takes."""
    f, z = MLP([2, *[32] * depth, 2]), np.ones((400, 2))
    x = f.init(np.random.default_rng(3))
    return (peak(f.vjp, z, 0.3, x, z) - 8 * f.m / 1024,
            peak(f.jvp, z, 0.3, x, z, 0.0, x))
# %%
few, many = (np.round(memory_of(depth), -1) for depth in (16, 32))
print("KiB by VJP, JVP: 16 layers", few, "32 layers", many)
check("E19 P25", "VJP: KiB a layer of f", ((many - few) / 16)[0], 200, 5)
check("P24", "JVP: KiB a layer of f", ((many - few) / 16)[1], 0, 5)
# %% [markdown]
# (The 5 KiB leave room for Python's own lists.) And the solver's steps:
# backpropagation through them keeps at least the state at each, 8n bytes a
# sample (P04). RK4 keeps four slopes beside it: five such arrays a step, in
# memory that has up to an eighth to spare. The backward solve keeps none
# (P05). Predict first: how much then does its peak grow, a step?
# %%
def peak_of_gradient(steps, method, keep="observations"):
    """Of RK4 in so many steps, in states of 1000 samples."""
    def run():
        tr = solve(net, np.ones((1000, n)), theta, [0, 1.0], method="RK4",
                   step=1 / steps, keep=keep)
        adjoint(tr, np.ones(tr.z.shape), method=method)
    return peak(run) * 1024 / (8 * 1000 * n)
# %%
few, many = (peak_of_gradient(k, "discrete", "stages") for k in (100, 200))
# From 200 - 9/8 100 to 9/8 200 - 100 steps' worth, that is by 4.4 to 6.3.
check("P04", "backprop: states a step", round(many - few, -1) / 100, 5.35, 1)
few, many = (peak_of_gradient(k, "backsolve") for k in (100, 200))
check("P05 E19", "adjoint: states a step", round(many - few, -1) / 100, 0, 0.1)
# %% [markdown]
# ## 9 How sure are we?      §2.2: P23, D08
#
# "My finite difference disagrees" is the commonest question about such code.
# A central difference of the loss has truncation O(h²) and, beneath it, the
# solver's error over h: plotted over h, a V. Predict first: what sets the
# height of its lowest point, rounding or the solver's tolerance?
# (Figure: fd_vcurve.)
# %%
v, tols = np.random.default_rng(0).normal(size=m), (1e-4, 1e-7, 1e-10)
hs = 10.0 ** -np.arange(0.5, 7, 0.5)

def difference(h, tol):
    ends = [solve(net, z0, theta + sign * h * v, [p.t0, p.t1], rtol=tol,
                  atol=tol).z[-1] for sign in (1, -1)]
    return (L(p, ends[0]) - L(p, ends[1])) / (2 * h)
# %%
V = np.array([[difference(h, tol) for h in hs] for tol in tols])
V = abs(V / (grad(p, "theta") @ v) - 1)  # (tolerances, steps)
for tol, line in zip(tols, V):
    best = np.argmin(line)
    print(f"tol {tol:.0e}: best h {hs[best]:.0e}, error {line[best]:.0e}")
check("D08", "V at tol 1e-10: slope of its truncation branch",
      slope(hs[2:5], V[2, 2:5]), 2, 0.1)
check("D08", "floor of the V (third lowest point): slope in the tolerance",
      slope(tols, np.sort(V)[:, 2]), 1, 1 / 3)
# %% [markdown]
# The tolerance: each thousandth of it lowers the floor by about a thousand.
# If the solver's error were noise, the least value of h² + tol/h would go like
# tol^⅔; as it is mostly smooth in h, it may go like tol. Hence 1 ± ⅓, and the
# third lowest point, so that luck counts for less. The first thing to do
# about a difference that disagrees is to tighten the solver.
#
# ### The agreement web      §2.2: P23, D08, D28
#
# Independent ways to one gradient, all pairs, in one matrix. The loss reads
# the state at t0 and two later times, and θ besides; the gradient is in z0, θ
# and all times, so that jumps, block 2 and ∇₃L take part. `backsolve` is this
# text's way; `discrete` is backpropagation by hand through the accepted
# steps; `forward` solves variational equations for all n + m directions;
# complex step and differences know of the loss alone.
# %%
def web(p):
    """Name -> gradient in (z0, theta, times), by ways that share little."""
    cuts, times = [p.f.n, p.f.n + p.f.m], p.t0 + p.T * np.array([0, 0.55, 1])
    tr = solve(p.f, p.z0, p.theta, times, rtol=1e-11, atol=1e-13, keep="steps")
    dL, ways = np.array([grad_L(p, z) for z in tr.z]), {}
    for way in ("backsolve", "discrete", "forward"):
        g = adjoint(tr, dL, method=way, dL_dtheta=0.1 * p.theta)
        ways[way] = np.r_[g.z0, g.theta, g.times]

    def loss(x):
        z0, theta, times = np.split(x, cuts)
        z = complex_solve(p.f, z0, theta, times)
        return sum(L(p, z_i) for z_i in z) + 0.05 * np.sum(theta**2)

    x = np.r_[p.z0, p.theta, times]
    return ways | {"complex step": complex_step(loss, x),
                   "differences": richardson(loss, x, 3e-3, levels=2)}
# %%
def disagreement(ways):
    """Relative distance of any two, as a matrix."""
    vectors = ways.values()
    return np.array([[off(x, y) for y in vectors] for x in vectors])

@step("P23", bound=1e-7)
def five_ways_agree(p):
    """backsolve, discrete, forward, complex step, differences: any two"""
    return disagreement(web(p)).max()
# %% [markdown]
# Tolerances: adaptive solves at rtol 1e-11, some hundred steps each way, and
# differences with truncation h⁴ = 1e-10 and rounding 1e-13/h. That is 1e-8 at
# the tutorial's numbers; the tests allow random fields ten times as much.
#
# For a linear field ż = Az even the closed form takes part: z(t) = e^{At} z0,
# whose derivative in A is the Fréchet derivative of the exponential.
# %%
def closed_form(p):
    A = p.theta.reshape(2, 2)
    total = np.r_[grad_L(p, p.z0), 0.1 * p.theta, 0, 0, 0]
    for t, which in ((0.55 * p.T, [1, 0]), (p.T, [0, 1])):
        E = expm(A * t)
        g, dz = grad_L(p, E @ p.z0), A @ E @ p.z0
        units = np.eye(4).reshape(4, 2, 2)  # of A, one entry each
        dE = [expm_frechet(A * t, unit * t)[1] for unit in units]
        total += np.r_[g @ E, dE @ p.z0 @ g, -g @ dz, g @ dz * np.array(which)]
    return total
# %%
q = p._replace(f=Linear(2), theta=rng.normal(size=4))
webs = web(p), web(q) | {"closed form": closed_form(q)}
for ways in webs:
    for name, line in zip(ways, disagreement(ways)):
        print(f"{name:>13}", *(f"{x:8.0e}" for x in line))
worst = [disagreement(ways).max() for ways in webs]
check("P23 D08", "the net: five ways, largest disagreement", worst[0], 0, 1e-8)
check("D08 D28", "linear field: six ways, likewise", worst[1], 0, 1e-8)
# %% [markdown]
# ## 10 When it fails, and the remedy      §2.2: E20, E21, P16, P23
#
# "We do not save any intermediate information" (P16) holds as long as the
# reversed ODE is stable. **A contracting field cannot be run back** (E20).
# ż = −λz forgets where it started; solved backward, a slip at t1 is
# multiplied by exp(−∫ ∇₁f dt), here e^{λT}. Tight tolerances make the slip
# smaller and leave the factor as it is; nor do adaptive steps help, for the
# amplification is the equation's own. (Figure: reverse_drift.)
#
# Predict first: at λ = 20 and rtol 1e-9, how many digits of z0 come back? The
# library measures it: a reverse solve reports how far from z0 it ended, and
# warns when that is too far.
# %%
def both_ways(p, **how):
    """The gradients by backsolve and by discrete; was there a warning?"""
    tr = solve(p.f, p.z0, p.theta, [p.t0, p.t1], keep="steps", **how)
    dL = np.array([0 * p.z0, grad_L(p, tr.z[1])])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", refode.ReconstructionWarning)
        g, d = adjoint(tr, dL), adjoint(tr, dL, method="discrete")
    return g, d, len(caught) > 0
# %%
def slip(x):
    """What a slip of 1 at t1 = 1 has become at t0, for z' = x z."""
    back = Problem(Linear(1), np.array([x]), np.ones(1), 1.0, 0.0, None)
    return complex_step(lambda z: end(back._replace(z0=z)), np.ones(1))[0, 0]
# %%
for rate in (5.0, 10.0, 20.0):
    check("E20 P16", "a slip at t1 = 1, at t0, over exp(lambda)",
          slip(-rate) / np.exp(rate), 1, 1e-9)
    q = Problem(Linear(1), np.array([-rate]), np.ones(1), 0.0, 1.0, np.ones(1))
    lost = both_ways(q, rtol=1e-9, atol=1e-11)[0].reconstruction_error
    print(f"lambda {rate:.0f}, rtol 1e-9: z0 off by {lost:.0e}")
# %% [markdown]
# At λ = 20 about three of the nine are left. Whether the *gradient* suffers
# depends on the field. Around a limit cycle it does: a shift along the cycle
# is never forgotten, so a(t) keeps its size while z goes astray. Van der Pol,
# μ = 3. Predict first: what does tightening rtol by a thousand buy at T = 5?
# And is backpropagation through the kept steps any better?
# %%
print("  T   rtol  z0 off by  gradient off by: backsolve  discrete")
mu, start = np.array([3.0]), np.array([2.0, 0.0])
for T, rtol in ((2.0, 1e-6), (4.0, 1e-6), (5.0, 1e-6), (5.0, 1e-9)):
    q = Problem(refode.VanDerPol(), mu, start, 0.0, T, np.ones(2))
    g, d, warned = both_ways(q, rtol=rtol, atol=rtol / 100)
    lost, good = (off(x.theta, grad(q, "theta")) for x in (g, d))
    print(f"{T:4.0f}  {rtol:.0e} {g.reconstruction_error:9.0e} {lost:27.0e}",
          f"{good:9.0e}")
    check("E20", "the library warned", warned, 1, 0)
    check("E20", "remedy: the discrete way, in rtol", good / rtol, 0, 100)
    if (T, rtol) == (4.0, 1e-6):
        check("E20", "backsolve off by over half", lost > 0.5, 1, 0)
# %% [markdown]
# A thousand times tighter, backsolve at T = 5 still has but a digit or two,
# while the discrete way has the solver's accuracy everywhere (a hundred steps
# may add up to 100 rtol). The price is memory: it keeps the steps.
#
# ### The gap to the discrete gradient      §2.2: E21, P23
#
# **The adjoint's gradient is not the gradient of what the solver computed.**
# "Any black-box solver" is true up to the solver's order p: differentiating
# first and discretising then, or the other way round, differ by O(hᵖ). With
# steps as large as training likes to take, an optimiser sees the difference.
# Predict first: which slope in h has the gap for Euler, and which for RK4?
# %%
def gap(p, method, N):
    """Backsolve against discrete on the same N fixed steps, relative."""
    g, d, _ = both_ways(p, method=method, step=abs(p.T) / N)
    return off(g.theta, d.theta, d.z0)

@step("P23 E21", kind="order", order=1, bound=1e-10)
def gap_of_euler(p):
    """gap of Euler's adjoint to the gradient of Euler's steps, order"""
    return 8 / LAYERS, [gap(p, "Euler", N // 2) for N in LAYERS]
# %%
@step("P23 E21", kind="order", order=4, bound=1e-10)
def gap_of_rk4(p):
    """the same for RK4, order"""
    return 8 / LAYERS, [gap(p, "RK4", N // 8) for N in LAYERS]
# %% [markdown]
# One and four. The remedy is a tolerance below the accuracy wanted, as in the
# web above, where the two agree to 1e-10; or the discrete way. Two other
# regimes stand above: a field with a kink has no adjoint there (E09), and
# noise cannot be solved back (E12).
#
# ## 11 Planted errors, and exercises      §2.2: D28, D30, D33, D35, E08, E22
#
# A check that cannot fail proves nothing. Here is the method once more, for a
# batch of two paths observed at two times, with a knob for each mistake that
# public code has made. Several observations mean jumps: going backward past
# t_i, a₁ gains dL/dz(t_i), because the loss reads z(t_i) directly as well as
# through all that follows; what is added are the parts of one gradient. With
# it a₂ gains −dL/dz(t_i)·f, which keeps a₁·f + a₂ = 0. A batch has one θ, so
# that its blocks are summed over the samples. (Figure: adjoint_jumps.)
# %%
def sweep(z, times, dL, *, sign_a=-1, sign_g=-1, flip=1, start=1, a2=None,
          jump=np.add, clock=lambda t: t, vjp=net.vjp, over=1):
    """(z, a_1, a_2, a_3) at t0, from states and cotangents (3, 2, n)."""
    blocks, q = Blocks(z[0].shape, m), (z[-1], 0 * z[-1], 0.0, 0 * theta)

    def rate(t, q):
        z, a1, _, _ = blocks.unpack(q)
        v1, v2, v3 = vjp(z, clock(t), theta, a1)
        dz = net(z, clock(t), theta)
        return flip * blocks.pack(dz, sign_a * v1, -v2, sign_g * v3 / over)

    for i in (2, 1):
        power = np.sum(dL[i] * net(z[i], times[i], theta))
        power = power if a2 is None else a2
        q = blocks.pack(q[0], jump(q[1], start * dL[i]), q[2] - power, q[3])
        run = solve_ivp(rate, times[[i, i - 1]], q, "DOP853",
                        rtol=1e-11, atol=1e-12)
        q = blocks.unpack(run.y[:, -1])
    return q
# %% [markdown]
# The truth is complex step of the loss Σ dL_i·z(t_i), in every block, and
# that includes dℒ/dt0: two slips that cancel in one block show in another.
# %%
times = np.array([p.t0, 0.8, p.t1])
z0s = np.stack([z0, z0[::-1] + 0.3])  # (2, n), a batch
dL = np.random.default_rng(5).normal(size=(3, 2, n)) * [[[0]], [[1]], [[1]]]

def planted_loss(z0s=z0s, theta=theta, times=times):
    return np.sum(dL * complex_solve(net, z0s, theta, times))

zs = complex_solve(net, z0s, theta, times)
in_times = complex_step(lambda t: planted_loss(times=t), times)
truth = {"z0": z0s, "a_1": complex_step(planted_loss, z0s), "a_2": in_times[0],
         "a_3": complex_step(lambda x: planted_loss(theta=x), theta)}
# %%
def errors(**planted):
    """Relative error of each block, under a planted mistake."""
    got = zip(truth, sweep(zs, times, dL, **planted))
    return {name: off(block, truth[name]) for name, block in got}
# %%
for block, error in errors().items():
    check("D28 D35 E22", f"no mistake planted: {block}", error, 0, 1e-8)
g = adjoint(solve(net, z0s, theta, times, rtol=1e-10, atol=1e-12), dL)
check("D28", "the library: z0", off(g.z0, truth["a_1"]), 0, 1e-7)
check("D28", "the library: theta", off(g.theta, truth["a_3"]), 0, 1e-7)
check("E08", "the library: times", off(g.times, in_times), 0, 1e-7)
check("D11 E08", "the library: drift of zero", g.invariant_drift, 0, 1e-7)
# %% [markdown]
# Predict first, for each of the mistakes below: which blocks will it spoil,
# and which will be right all the same? (The third is the treacherous one.)
# Where the size of the damage can be derived it is: a wrong sign gives a
# relative error of 2, a mean over two samples in place of a sum ½, a₂ from 0
# the whole of a₂(t1). For the others, that they are seen at all: an error a
# thousandth of the block's size is a hundred thousand times the tolerance.
# %%
def jacobian_for_transpose(z, t, theta, a1):
    _, v2, v3 = net.vjp(z, t, theta, a1)
    return net.jvp(z, t, theta, a1, 0.0, 0 * theta), v2, v3
# %%
powers = np.sum(dL[1:] * [net(z, t, theta) for z, t in zip(zs[1:], times[1:])])
PLANTED = {  # mistake: knobs, a block that betrays it, its error if derived
    "sign of a": ({"sign_a": +1}, "a_1", None),
    "sign of g": ({"sign_g": +1}, "a_3", 2),
    "both: cotangent and g": ({"start": -1, "sign_g": +1}, "a_1", 2),
    "J a for a J": ({"vjp": jacobian_for_transpose}, "a_1", None),
    "jump replaces (= for +=)": ({"jump": lambda a1, d: d}, "a_1", None),
    "a_2 started at 0": ({"a2": 0.0}, "a_2", abs(powers / truth["a_2"])),
    "f negated and span reversed": ({"flip": -1}, "z0", None),
    "t frozen at t0 in f": ({"clock": lambda t: p.t0}, "z0", None),
    "batch mean for sum": ({"over": 2}, "a_3", 0.5)}
# %%
for mistake, (knobs, block, size) in PLANTED.items():
    found = errors(**knobs)
    print(f"{mistake:28}", {k: f"{v:.0e}" for k, v in found.items()})
    got, want = (found[block], size) if size else (found[block] > 1e-3, 1)
    check("D28 D35", f"planted: {mistake}: caught by {block}", got, want, 1e-8)
    if mistake.startswith("both"):
        check("D30", "... two slips cancel in a_3", found["a_3"], 0, 1e-8)
a3 = net.vjp(z0s, p.t0, theta, truth["a_1"])[2]
missing = off(a3, truth["a_3"]) > 1e-3
check("D31", "planted: integral missing: caught by a_3", missing, 1, 0)
# %% [markdown]
# The third is the reason for checking every block: with the wrong sign on the
# cotangent *and* on the gradient, a₃ is right to thirteen digits, and a₁ is
# minus the adjoint. Public code has had exactly this pair.
#
# ### Where the usual questions are answered
#
#     why a minus sign, why another ODE, why backward?       section 5
#     where does a(t1) come from; why a₃ = 0 and a₂ not?     section 6
#     the signs of dL/dt0 and dL/dt1                         section 6
#     row or column, a J or J a, VJP or JVP?                 sections 7, 8
#     why compute dL/dz0, when z0 is data?                   section 7
#     integrating backward in SciPy                          section 7
#     SciPy's flat state: pack and unpack                    sections 2, 6
#     θ shared over the depth, and the step T/N              section 1
#     constant memory, in what?                              section 8
#     my finite difference disagrees                         section 9
#     the backward solution explodes                         section 10
#     adjoint against backprop through the solver            section 10
#     several observations, a batch: why sums, why jumps?    section 11
#
# ### Exercises (solutions at the end of the file)
#
# 1. Why is a₃ not needed to compute a₁? What if θ were part of the state?
# 2. Show that dℒ/dt0 + Σ dℒ/dt_i = 0 if f does not read t.
# 3. The loss reads z at t0 as well. Which gradients change, and by what?
# 4. A gradient field has ∇₁f symmetric. Which planted error goes unseen?
# 5. Freeze a₁ at a₁(t1), as in section 7. For short spans, which power of
#    t1 − t0 is the error of the gradient in θ?
# 6. What must a VJP return for a parameter that f does not use?
# 7. Solve the pair (z, a₁) forward from t0. Is it stable when the backward
#    one is not?
# 8. With N Euler steps, write the discrete adjoint. At which time is its
#    Jacobian taken, and at which does backsolve take it?
# %%
if FIGURES:
    from figures._io import write

    for name in ("resnet_limit", "vector_field", "adjoint_jumps",
                 "minus_sign", "theorem1_slopes", "theta_accumulation",
                 "time_gradients", "fd_vcurve", "reverse_drift"):
        write(name, Path(FIGURES))
# %%
ledger.finish()
# %% [markdown]
# ### Solutions
#
# 1. Its own equation, ȧ₃ = −a₁∇₃f, is an integral: nothing reads a₃. With θ
#    as states θ̇ = 0, a₃ is their adjoint, and M has the same rows of zeros.
# 2. Then a₂ is constant between observations and gains −dL_i·f_i at each
#    going back, so that dℒ/dt0 = a₂(t0) = −Σ dL_i·f_i = −Σ dℒ/dt_i.
# 3. The gradient in z0 gains dL_0, and nothing else changes: z(t0) is z0
#    whatever θ and t0 are.
# 4. "J a for a J": the two products are the same numbers.
# 5. The second. a₁(t) = a₁(t1) + O(t1 − t), integrated once more; the
#    gradient itself is of first order, so its relative error is of first.
# 6. Exactly 0, in the right place.
# 7. By conservation of a₁·δz, a₁ forward grows where δz shrinks, and just
#    where the backward z is unstable the forward a₁ is. Nothing is gained.
# 8. a_k = a_{k+1} (I + h ∇₁f(z_k, t_k)): the Jacobian at the *start* of the
#    step. Euler's backsolve takes it at the step's end, t_{k+1}, and at a
#    state that it has solved back. That O(h) is the gap of section 10.
#
# ### Three questions, answered by number
#
# 1. Is the minus sign from going backward? No: a·δz is conserved in forward
#    time, 2.1165 at six times, to 4e-13 (section 5).
# 2. Does block 2 start at zero? No: at −∇L·f = −1.94 here, and a zero costs
#    all of it: dℒ/dt0 would be 4.84 in place of 2.91 (section 6).
# 3. Is memory constant in the depth? In the solver's steps: 0 further states
#    for 100 further steps. In the layers of f: no, 200 KiB each (section 8).
