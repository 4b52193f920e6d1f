# %% [markdown]
# # Choosing a gradient: six ways, what they cost, and when they fail
#
# You need: what a neural ODE is, and that its loss has a gradient by the
#           adjoint method (`adjoint_derivation.py` derives it).
# You get:  the solver as a box you can look into; the gradient in states,
#           parameters and times; six ways to it side by side, each broken
#           once on purpose; and a table to choose from.
# Seconds:  about 10, on one core. `--figures DIR` draws four figures.
#
# The note knows one way to the gradient of an ODE's solution. Practice knows
# six, and "which do I take?" is what users of every such library ask. Write
# down now which you would take for a state of two numbers and a network of 52
# parameters, and which for a state of a million numbers; then read on.
# %%
import argparse
import gc
import tracemalloc
import warnings
from functools import partial
from pathlib import Path
from textwrap import wrap
from time import perf_counter

import numpy as np
from numpy.linalg import norm
from scipy.integrate import solve_ivp

from refode import MLP, CubicSpiral, Linear, LotkaVolterra
from refode import ReconstructionWarning, SolveError, VanDerPol
from refode import adjoint, solve
from refode.finite_difference import complex_solve, complex_step
from refode.finite_difference import directional_difference, slope
from refode.steps import Ledger
# %% [markdown]
# A row that begins with `ok` or `FAIL` is a check: what came out, what it
# should be, how far off it may be. A yes is a 1, and an error is relative.
# %%
parser = argparse.ArgumentParser(description="Six ways to one gradient.")
parser.add_argument("--figures", metavar="DIR", help="draw figures there")
FIGURES = parser.parse_args().figures if __name__ == "__main__" else None
if FIGURES:
    from figures._files import writable
    writable(Path(FIGURES))  # made now: not to fail after all the work

ledger = Ledger("Choosing a gradient")
check = ledger.check

def off(got, want):
    """|got - want| / |want|, whatever the shapes."""
    return norm(np.subtract(got, want)) / norm(want)
# %% [markdown]
# The problem: a tanh net 2-8-2 that reads t, so 52 parameters, from one point
# over two units of time, with observations at four times. A random net often
# gives nearly straight paths, on which wrong formulas pass unseen; so the seed
# is the first whose path turns by more than 1.5 radians and whose Jacobian, in
# the middle, is far from symmetric.
# %%
net, times = MLP([2, 8, 2], "tanh"), np.array([0.0, 0.5, 1.1, 1.6, 2.0])
for seed in range(10):
    rng = np.random.default_rng(seed)
    theta, z0, y = net.init(rng, 1.5), *rng.normal(size=(2, 2))
    fine = solve(net, z0, theta, np.linspace(0, 2, 40))
    v = np.array([net(*p, theta) for p in zip(fine.z, fine.times)])
    turn = np.ptp(np.unwrap(np.arctan2(v[:, 1], v[:, 0])))
    J = net.jacobian(fine.z[20], 1.0, theta)
    if turn > 1.5 and norm(J - J.T) > norm(J):
        break
print(f"    seed {seed}: turns by {turn:.2f}, |J - J^T|/|J| = "
      f"{norm(J - J.T) / norm(J):.2f}, m = {net.m}")
# %% [markdown]
# ## 1 The solver is a box with a window
#
# *It calls f at times I never gave!* The solver chooses its steps by the error
# that it estimates, and calls f six times in each (RK45). The times that you
# ask for are read off an interpolant afterwards. Predict first: how many more
# calls do 200 observations cost than two?
# %%
class Recorded:
    """A field that notes down when it is called; it is only solved."""

    def __init__(self, field):
        self.field, self.n, self.m, self.calls = field, field.n, field.m, []

    def __call__(self, z, t, theta):
        self.calls.append(t)
        return self.field(z, t, theta)
# %% [markdown]
# The box is opened on Van der Pol's oscillator with μ = 3, which creeps and
# then jumps. Each column below is a sixtieth of the time: |f|, and how often f
# was called there.
# %%
mu, corner = np.array([3.0]), np.array([2.0, 0.0])
box = Recorded(VanDerPol())
wide = solve(box, corner, mu, np.linspace(0, 10, 200), rtol=1e-6)
cells = np.linspace(0, 10, 61)
speed = norm(box.field(wide.z, 0.0, mu), axis=-1)
speed = np.interp(cells[1:] - 1 / 12, wide.times, speed)
calls, _ = np.histogram(box.calls, cells)
for name, row in (("|f|", speed), ("calls", calls)):
    digits = "".join(f"{9 * x / row.max():.0f}" for x in row)
    print(f"    {name:6}{digits}  9 = {row.max():.3g}")
two = solve(VanDerPol(), corner, mu, [0, 10], rtol=1e-6)
check("box", "nfev for 200 times, less that for 2", wide.nfev - two.nfev, 0, 0)
# %% [markdown]
# Where f changes fast the steps are short, at the start too, where the speed
# settles at rate 9. And 200 observations cost no more than two.
#
# ### Tolerance is not error
#
# rtol bounds the error that the solver *estimates* to make in *one step*. The
# error at the end is what became of all of them. Predict first: is it larger
# or smaller than rtol, and what does a thousandth of rtol cost?
# %%
exact = complex_solve(net, z0, theta, times)
rtols = 10.0 ** -np.arange(3, 10)
for solver, p in (("RK45", 5), ("DOP853", 8)):
    runs = [solve(net, z0, theta, times, method=solver, rtol=rtol,
                  atol=rtol / 100) for rtol in rtols]
    error = [off(tr.z[-1], exact[-1]) for tr in runs]
    nfev = [tr.nfev for tr in runs]
    print(f"    {solver:6} off by " + " ".join(f"{e:.0e}" for e in error))
    print("           nfev   " + " ".join(f"{k:5}" for k in nfev))
    check("box", f"{solver}: slope of the error in rtol",
          slope(rtols, error), 1, 0.25)
    check("box", f"{solver}: slope of nfev in rtol, from 1e-5",
          slope(rtols[2:], nfev[2:]), -1 / p, 0.05)
# %% [markdown]
# (rtol from 1e-3 to 1e-9.) The error is a half of rtol and less here, which is
# this problem's luck, and by and large proportional to it, hence ± 0.25. Calls
# go like rtol^(−1/p) with steps of order p, 5 and 8, once there are some: a
# thousandth costs RK45 three times as many, DOP853 twice as many.
#
# ### One flat vector
#
# SciPy's state is a vector; a matrix, say a batch of three points, is refused.
# Flatten and reshape in one place. `solve` does just that.
# %%
three = z0 + np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]])  # (3, 2)

def flat(t, y):
    return net(y.reshape(3, 2), t, theta).ravel()
# %%
try:
    solve_ivp(lambda t, z: net(z, t, theta), (0, 2), three)
except ValueError as reason:
    print(f"    ValueError: {reason}")
by_hand = solve_ivp(flat, (0, 2), three.ravel(), rtol=1e-6, atol=1e-8)
batch = solve(net, three, theta, [0, 2], rtol=1e-6, atol=1e-8)
check("shapes", "solve is solve_ivp, reshaped", batch.z[-1],
      by_hand.y[:, -1].reshape(3, 2), 1e-12)
# %% [markdown]
# ### Backward is not minus
#
# To solve back, give the span as (t1, t0), and the *same* f: the steps are
# negative then, and to negate f as well turns round twice. ż = −z/2, from z(2)
# = e⁻¹ back to z(0) = 1. Predict first: what does the mistake return?
# %%
half, rate = Linear(1), np.array([-0.5])
there = solve(half, np.ones(1), rate, [0, 2], rtol=1e-10).z[-1]
for name, r, want in (("same f", rate, 1), ("f negated", -rate, np.exp(-2))):
    back = solve(half, there, r, [2, 0], rtol=1e-10).z[-1]
    check("back", f"(2, 0) and {name}: z(0)", back[0], want, 1e-9)
# %% [markdown]
# e⁻², as if one had gone on for two more units of time.
#
# ### Depth is time, and a layer is a step
#
# *A ResNet has its own parameters in every layer; where are they?* There is
# one θ, and the net reads t. A step of Euler is such a layer,
# z ← z + h f(z, t, θ), and backpropagation through N of them is written in
# four lines. The "discrete" way is this, for any Runge-Kutta solver.
# %%
def resnet(N):
    """z_N, and the gradients of |z_N - y|^2 / 2 by backprop."""
    h, zs = 2 / N, [z0]
    for k in range(N):
        zs.append(zs[-1] + h * net(zs[-1], k * h, theta))
    a, g = zs[-1] - y, np.zeros_like(theta)
    for k in reversed(range(N)):
        a_z, _, a_theta = net.vjp(zs[k], k * h, theta, h * a)
        a, g = a + a_z, g + a_theta
    return zs[-1], a, g
# %%
end, a, g = resnet(8)
layers = solve(net, z0, theta, [0, 2], method="Euler", step=1 / 4,
               keep="steps")
by_way = adjoint(layers, [0 * z0, layers.z[-1] - y], method="discrete")
check("depth", "8 layers: z", end, layers.z[-1], 1e-13)
check("depth", "backprop through 8 layers: a and theta",
      [*a, *g], [*by_way.z0, *by_way.theta], 1e-13)
Ns = 2 ** np.arange(5, 10)
check("depth", "distance of N layers from the ODE: slope in N",
      slope(Ns, [off(resnet(N)[0], exact[-1]) for N in Ns]), -1, 0.1)
# %% [markdown]
# ## 2 Times and observations
#
# From here on the loss looks at four times, L = ½ Σ |z(t_i) − y|², and its
# gradient is wanted in z0, in θ and in all five times. The judge is complex
# step, Im L(x + ih)/h, through a solve at 1e-13: it knows no adjoint.
# %%
n, m = net.n, net.m

def loss(x):
    """Of (z0, theta, times), one vector; complex numbers are welcome."""
    z = complex_solve(net, x[:n], x[n : n + m], x[n + m :])
    return 0.5 * np.sum((z[1:] - y) ** 2)

truth = complex_step(loss, np.concatenate([z0, theta, times]))
true = dict(zip(("z0", "theta", "times"), np.split(truth, [n, n + m])))

def cotangents(trajectory):
    """dL/dz(t_i): the residual, and 0 at t0, where L does not look."""
    dL_dz = trajectory.z - y
    dL_dz[0] = 0
    return dL_dz
# %% [markdown]
# *Why are gradients added at an observation, why does the adjoint jump?* The
# loss reads z(t_i) directly *and* through all that follows, so dL/dz(t_i) is
# added to the a that arrives. Below, interval by interval; `jump` is what
# happens between two. Predict first: what does `=` in the place of `+=` give?
# %%
tight = {"rtol": 1e-10, "atol": 1e-12}
path = solve(net, z0, theta, times, **tight)
dL_dz = cotangents(path)

def by_intervals(jump):
    a = np.zeros(n)
    for i in (4, 3, 2, 1):
        a = jump(a, dL_dz[i])
        piece = solve(net, path.z[i - 1], theta, times[i - 1 : i + 1], **tight)
        a = adjoint(piece, [0 * a, a]).z0
    return a
# %%
only_first = dL_dz * (np.arange(5) == 1)[:, None]
for name, jump, want in (("+=", np.add, true["z0"]),
                         ("=", lambda a, dL: dL,
                          adjoint(path, only_first).z0)):
    check("jump", f"{name} at every observation: a(t0)",
          off(by_intervals(jump), want), 0, 1e-7)
back = adjoint(path, dL_dz)
for block in ("z0", "theta"):
    check("jump", f"all observations in one call: {block}",
          off(getattr(back, block), true[block]), 0, 1e-7)
# %% [markdown]
# The `=` forgets all observations but the first. (The tolerance, 1e-7: rtol
# 1e-10, some hundred steps there and back, and ten for what they amplify.)
#
# ### Gradients in times, and their signs
#
# *Does a_t start at −dL/dt1? Which sign has dL/dt0?* A later t_i lets z run on
# at its rate f_i: dL/dt_i = +dL/dz_i·f_i. A later t0 takes a piece of the way
# off, at the start: dL/dt0 = −a(t0)·f(z0, t0). And a·f + a_t = 0 all along:
# yes, a_t starts its way back at −dL/dt1, and not at 0 as a_θ does. How far
# the sum strays is `invariant_drift`. Predict first: an autonomous f does not
# know what time it is. What do its gradients in all times, t0 too, add up to?
# %%
check("times", "dL/dt0 and dL/dt_i", off(back.times, true["times"]), 0, 1e-7)
check("times", "drift of a f + a_t", back.invariant_drift, 0, 1e-7)
slow = solve(VanDerPol(), corner, mu, [0, 0.5, 1], **tight)
in_times = adjoint(slow, cotangents(slow)).times
print("    autonomous: " + " ".join(f"{g:+.6f}" for g in in_times))
print("    reads t:    " + " ".join(f"{g:+.6f}" for g in back.times))
check("times", "autonomous: their sum", in_times.sum(), 0, 1e-7)
# %% [markdown]
# To 0; so with one observation the two are equal and opposite, which puzzled
# many a reader. With t as an input they are not.
#
# Three more that got lost in other libraries: an observation *at* t0 adds its
# cotangent to the gradient in z0 alone; a loss that reads θ (weight decay)
# adds ∂L/∂θ, handed over as `dL_dtheta`; a parameter without effect has the
# gradient 0, and not None. (A start that depends on θ: see `fitting_data.py`.)
# %%
at_t0 = dL_dz + np.eye(5, 1) * (z0 - y)
more = adjoint(path, at_t0, dL_dtheta=0.1 * theta)
check("corners", "observed at t0: z0", off(more.z0, true["z0"] + z0 - y),
      0, 1e-7)
check("corners", "weight decay: theta",
      off(more.theta, true["theta"] + 0.1 * theta), 0, 1e-7)
prey = solve(LotkaVolterra(), [1.0, 0.0], [0.5, 1.0, 1.0, 1.0], [0, 1])
check("corners", "prey alone: rates of what is not there",
      adjoint(prey, cotangents(prey)).theta[1:], 0, 0)
# %% [markdown]
# ## 3 Six ways, one equation each
#
#     backsolve      (z, a, a_t, a_θ) in reverse, the note's; z solved again
#     checkpointed   the same, z put back on its way at k stored states
#     interpolating  ȧ = −a ∇₁f(z(t)), and a_θ, with z(t) from dense output
#     quadrature     ȧ alone in reverse;  a_θ = ∫ a ∇₃f dt, afterwards
#     discrete       backpropagation through the accepted steps
#     forward        Ṡ = ∇₁f S + ∇₃f, forward, n + m columns; no adjoint
#
# What a way needs of the forward solve is told to `solve`, by `keep`. A way
# that finds too little refuses, and says what it wants:
# %%
KEEP = {"backsolve": "observations", "checkpointed": "steps",
        "interpolating": "dense", "quadrature": "dense",
        "discrete": "steps", "forward": "observations"}
for way in KEEP:
    try:
        adjoint(path, dL_dz, method=way)
    except ValueError as reason:
        print(f"    {reason}")
# %% [markdown]
# One rtol, six ways. `nfev` and `nvjp` are the evaluations of f and of its VJP
# that the gradient took, the forward solve apart. Predict first: which is
# nearest to the truth at the same rtol, and which takes the fewest?
# %%
def gradient(way, times=times, **how):
    """Trajectory and gradient by a way, with rtol 1e-6 if nothing is said."""
    tol = {"rtol": 1e-6, "atol": 1e-8} | how
    tr = solve(net, z0, theta, times, keep=KEEP[way], **tol)
    return tr, adjoint(tr, cotangents(tr), method=way)

def truly_off(g):
    """The larger of the errors of the gradients in z0 and in theta."""
    return max(off(g.z0, true["z0"]), off(g.theta, true["theta"]))
# %%
at_1e6 = {}
print("    way           off by   nfev  nvjp     ms")
for way in KEEP:
    begin = perf_counter()
    g = gradient(way)[1]
    ms = 1e3 * (perf_counter() - begin)
    at_1e6[way] = truly_off(g)
    print(f"    {way:13} {at_1e6[way]:6.0e} {g.nfev:6} {g.nvjp:5} {ms:6.1f}")
for way in KEEP:
    check("six", f"{way} at rtol 1e-10", truly_off(gradient(way, **tight)[1]),
          0, 1e-7)
# %% [markdown]
# One gradient, to which all six converge. At 1e-6 five of them inherit the
# error of the forward solve; discrete has that error's derivative in it, which
# is larger here, and it takes the fewest. `forward` takes no VJPs, but 54
# Jacobian-vector products with each f. (ms: solve and gradient together.)
#
# ## 4 Which gradient is the right one?
#
# *My finite difference disagrees.* And: *the adjoint disagrees with
# backpropagation.* There are two right answers: the gradient of the ODE's
# solution, and that of the numbers a solver printed. Take RK4 with steps so
# wide that one can see the difference, and ask the printed numbers
# themselves, by central differences of the computed loss, which of the six
# they agree with.
# %%
ends = times[[0, 4]]

def computed(th, **how):
    """The loss as the solver computes it, at theta."""
    z = solve(net, z0, th, ends, **how).z[-1]
    return 0.5 * np.sum((z - y) ** 2)
v = np.random.default_rng(0).normal(size=m)
v /= norm(v)
# %%
coarse = {"method": "RK4", "step": 0.5}
asked = directional_difference(partial(computed, **coarse), theta, v)
along = {way: gradient(way, times=ends, **coarse)[1].theta @ v for way in KEEP}
for way, found in along.items():
    print(f"    {way:13} {found:+.9f}")
print(f"    {'differences':13} {asked:+.9f}")
for way in ("discrete", "forward"):
    check("which", f"{way} is the derivative of the computed loss",
          along[way] / asked, 1, 1e-8)
# %% [markdown]
# Discrete agrees because that is what it is; forward because sensitivities
# solved on the same steps *are* the derivatives of those steps. The others
# differentiate first and discretise then, and what they solve back are other
# steps: the gap is of the solver's order. (Differences of step 1e-5 are good
# to 1e-9.) Predict first: if the step halves, by what does the gap shrink?
# %%
steps = 0.25 / 2.0 ** np.arange(4)
gaps = []
for h in steps:
    two = [gradient(way, times=ends, method="RK4", step=h)[1].theta
           for way in ("backsolve", "discrete")]
    gaps.append(off(*two))
print("    gap of RK4, steps halved: " + " ".join(f"{g:.0e}" for g in gaps))
check("which", "its slope in the step", slope(steps, gaps), 4, 0.5)
# %% [markdown]
# By sixteen. An optimiser that walks on the computed loss wants that loss's
# gradient; whoever wants the ODE's takes smaller steps until the two agree.
#
# Through an *adaptive* solve a difference is as wrong as the solver. Predict
# first: by what step h is it cured?
# %%
at_end = gradient("discrete", times=ends, **tight)[1]
want = at_end.theta @ v
hs, worst = (1e-2, 1e-4, 1e-6), {}
print("    rtol  " + "".join(f"   h = {h:.0e}" for h in hs))
for rtol in (1e-3, 1e-6, 1e-9):
    f = partial(computed, rtol=rtol, atol=rtol / 100)
    found = [directional_difference(f, theta, v, h) for h in hs]
    worst[rtol] = np.abs(np.array(found) / want - 1)
    print(f"    {rtol:.0e} " + "".join(f"{e:12.0e}" for e in worst[rtol]))
check("which", "smallest h: slope of the error in rtol",
      slope(list(worst), [e[-1] for e in worst.values()]), 1, 0.3)
# %% [markdown]
# By none: what helps is a smaller rtol. The large h adds an error of its own,
# of order h²; the other columns show the solver's.
#
# ## 5 What they cost
#
# Count evaluations first, since they are the same on every machine. Predict
# first: with 40 observations in place of 4, which ways become expensive?
# %%
print("    evaluations of f and of the VJP; rtol 1e-6")
print("    observations     1            4           40")
spent = {}
for way in KEEP:
    for k in (1, 4, 40):
        g = gradient(way, times=np.linspace(0, 2, k + 1))[1]
        spent[way, k] = g.nfev, g.nvjp
    print(f"    {way:13}" + "  ".join(
        f"{a:4} + {b:<4}" for a, b in (spent[way, k] for k in (1, 4, 40))))
# %% [markdown]
# Whatever solves back starts anew at each observation, because a jumps there,
# and each start costs a careful first step. So does `forward`, which reads S
# there. Discrete walks over the steps that were taken, however many
# observations they hold: six VJPs a step, one more where an observation lies
# inside it, and f again, unless the stages were kept (keep="stages"). To this
# every way adds an f at each time, for the gradients in times, discrete one
# more there for a_t, and all but `forward` two VJPs to estimate the error.
# %%
steps = gradient("discrete", times=ends)[0].n_steps
check("cost", "discrete: VJPs a step, one observation",
      (spent["discrete", 1][1] - 2) / steps, 6, 0)
grown = {way: sum(spent[way, 40]) / sum(spent[way, 1]) for way in KEEP}
check("cost", "backsolve: 40 observations for over thrice one",
      grown["backsolve"] > 3, 1, 0)
# %% [markdown]
# ### Is the way back half the way forth?
#
# So says a well-known sentence. But what is solved back is larger, and its
# tolerance covers the adjoint too. Ask Adams' method, with which that was
# measured (LSODA has it), and RK45, with one observation, so that the way back
# starts once; then both again with an atol of 1e-2 for the way back.
# %%
for solver in ("LSODA", "RK45"):
    tr = solve(net, z0, theta, ends, method=solver, rtol=1e-5, atol=1e-7)
    for atol in (1e-7, 1e-2):
        with warnings.catch_warnings(action="ignore"):  # that z is lost
            g = adjoint(tr, cotangents(tr), atol=atol)
        print(f"    {solver:5} atol {atol:.0e}: {tr.nfev} forth, back "
              f"{(g.nfev - 2) / tr.nfev:.2f} of it, gradient off by "
              f"{off(g.theta, at_end.theta):.0e}")
halved = adjoint(path, 0.5 * dL_dz)
check("cost", "half the loss: nfev, less that of all of it",
      halved.nfev - back.nfev, 0, 0)
# %% [markdown]
# The way back is the longer one, until atol is so large that the adjoint
# hardly counts: then two digits are right. The mean over a large batch, with
# tiny cotangents, makes an atol too large unasked; so refode scales it by the
# largest cotangent, and a loss in other units costs the same.
#
# ### Memory: O(1) in what?
#
# In the number of the solver's steps, and in nothing else: not in θ, nor in
# the batch, nor in the layers of f. Count, in states, what the forward solve
# keeps and the peak of the whole. keep="times" has `discrete` compute the
# states again, from 16 at once. Predict first: which ways grow with the steps?
# %%
def memory(way, keep, N):
    """What is kept of N steps of RK4, and the peak of all, in states."""
    start = np.ones((500, n))
    gc.collect()
    tracemalloc.start()
    tr = solve(net, start, theta, [0, 1], method="RK4", step=1 / N, keep=keep)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    adjoint(tr, np.ones_like(tr.z), method=way)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return np.array([kept, peak]) / start.nbytes
# %%
growth, MORE = {}, ("times", "stages")
for way, keep in (*KEEP.items(), *(("discrete", k) for k in MORE)):
    if way != "forward":
        few, many = (memory(way, keep, N) for N in (50, 100))
        growth[way, keep] = kept, peak = abs(many - few) / 50
        print(f"    {way:13} keep={keep:12} grows by {kept:4.1f} states kept "
              f"a step, {peak:4.1f} at the peak")
check("cost", "backsolve: states a step, kept and at the peak",
      growth["backsolve", "observations"], 0, 0.25)
for keep, states in (("steps", 1), ("stages", 5)):
    check("cost", f"discrete, {keep}: states kept a step",
          growth["discrete", keep][0], states, 0.25)
# %% [markdown]
# For two numbers and 8 steps all this is nothing; for images it is not.
#
# ### A batch is one solve
#
# *Mean or sum? Whose step size? Can samples have times of their own?* The
# samples share θ, so its gradient is the sum over them; a mean is the loss's
# business, by a factor in dL_dz. They share a step size too, one norm for
# all: one fast sample makes 63 calm ones work. Predict first: how much more?
# %%
many = 0.3 * np.random.default_rng(0).normal(size=(64, 2))
for far in (0.3, 10):
    many[0] = [far, 0]
    nfev = solve(CubicSpiral(), many, [-0.1, 2, -2, -0.1], [0, 1]).nfev
    print(f"    64 samples, the first at ({far}, 0): nfev {nfev}")
# %% [markdown]
# Thirty times as much: unlike samples are better off in batches of their own.
# Times of their own they get by one more state: let s run from 0 to 1 and τ be
# a sample's span, then t = sτ, and τ has the gradient of an initial state.
#
#     dz/ds = τ f(z),   dτ/ds = 0      VJP: (τ a∇f, a·f)
# %%
class OwnSpan:
    """(z, tau) with z' = tau f(z), for an f that does not read t."""

    def __init__(self, field):
        self.field, self.n, self.m = field, field.n + 1, field.m

    def __call__(self, x, t, theta):
        z, tau = x[..., :-1], x[..., -1:]
        dz = tau * self.field(z, t, theta)
        return np.concatenate([dz, np.zeros_like(tau)], axis=-1)

    def vjp(self, x, t, theta, a):
        z, tau, a = x[..., :-1], x[..., -1:], a[..., :-1]
        f = self.field(z, t, theta)
        a_z, a_t, a_theta = self.field.vjp(z, t, theta, tau * a)
        a_tau = np.sum(a * f, axis=-1, keepdims=True)
        return np.concatenate([a_z, a_tau], axis=-1), a_t, a_theta
# %%
spans, vdp = np.array([[0.5], [1.0], [1.5]]), VanDerPol()
own = solve(OwnSpan(vdp), np.concatenate([three, spans], axis=1), mu, [0, 1],
            **tight)
bar = np.zeros_like(own.z)
bar[1, :, :2] = own.z[1, :, :2] - y
g = adjoint(own, bar)
alone = [solve(vdp, z, mu, [0, span], **tight)
         for z, span in zip(three, spans[:, 0])]
singly = [adjoint(tr, cotangents(tr)) for tr in alone]
check("batch", "theta: the sum over the samples", g.theta,
      sum(s.theta for s in singly), 1e-7)
check("batch", "a span: dL/dt1 of its sample", g.z0[:, 2],
      [s.times[1] for s in singly], 1e-7)
# %% [markdown]
# ## 6 When each fails
#
# *Forward and backward should agree!* u̇ = −21 u + e⁻ᵗ, from u(0) = 1 to t = 2
# and back again; there is no network in sight. Predict first: to how many
# digits does u(0) come back at rtol 1e-12?
# %%
class Forgetful:
    """u' = theta u + exp(-t); it is only solved."""

    n, m = 1, 1

    def __call__(self, u, t, theta):
        return theta[0] * u + np.exp(-t)
# %%
field, rate = Forgetful(), np.array([-21.0])
print(f"    a slip at t = 2 is multiplied by e^42 = {np.exp(42):.1e}")
for rtol in (1e-6, 1e-8, 1e-12):
    tol = {"rtol": rtol, "atol": rtol}
    end = solve(field, np.ones(1), rate, [0, 2], **tol).z[-1]
    u = solve(field, end, rate, [2, 0], **tol).z[-1]
    print(f"    rtol {rtol:.0e}: u(0) = {u[0]:.1e}, and it was 1")
check("fails", "at rtol 1e-12 u(0) is off by over 1e4", abs(u[0]) > 1e4, 1, 0)
# %% [markdown]
# To none: what was forgotten is not in the numbers any more. A way that solves
# z back inherits this. Six ways on a contracting field, Van der Pol's with μ =
# 3, from (2, 0) over six units of time, at rtol 1e-6. Predict first which of
# them survive. (Where others say "underflow in dt", a SolveError says more.)
# %%
def exactly(T):
    """The gradient in (z0, theta) of a solve over [0, T], (3,)."""
    return complex_step(lambda x: 0.5 * np.sum((complex_solve(
        vdp, x[:2], x[2:], [0, T])[1] - y) ** 2), np.append(corner, mu))

truth = exactly(6)
def on_van_der_pol(way, **how):
    """The larger error, and what was said."""
    tr = solve(vdp, corner, mu, [0, 6], rtol=1e-6, atol=1e-8, keep=KEEP[way])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ReconstructionWarning)
        try:
            g = adjoint(tr, cotangents(tr), method=way, **how)
        except SolveError as reason:
            return np.inf, str(reason)
    found = max(off(g.z0, truth[:2]), off(g.theta, truth[2:]))
    return found, "warned" if caught else ""
# %%
survived = {way: on_van_der_pol(way) for way in KEEP}
for way, (found, said) in survived.items():
    print(f"    {way:13} off by {found:6.0e}  {said.split(':')[0]}")
print(*wrap(survived["backsolve"][1], 70), sep="\n    ")
check("fails", "backsolve fails and says so",
      survived["backsolve"][0] > 0.1 and survived["backsolve"][1] != "", 1, 0)
for way in list(KEEP)[1:]:
    check("fails", f"{way} is right", survived[way][0], 0, 1e-3)
# %% [markdown]
# Between checkpoints z is solved back too, but not for long: with k of them a
# slip has a (k + 1)-th of the way to grow, and the exponent shrinks in that
# proportion. A checkpoint that changes nothing would be no checkpoint:
# %%
for k in (1, 2, 5, 10, 20, 40):
    found, said = on_van_der_pol("checkpointed", checkpoints=k)
    print(f"    checkpoints {k:2}: off by {found:6.0e}  {said.split(':')[0]}")
twenty = on_van_der_pol("checkpointed", checkpoints=20)[0]
check("fails", "20 checkpoints: right to 1e-3", twenty, 0, 1e-3)
# %% [markdown]
# Each of the others has a corner of its own. *Interpolating* and *quadrature*
# read z off an interpolant of lower order than the solve (4 for RK45's 5);
# where that shows, and it does not here, solve forward a decade tighter.
# *Forward* carries n + m columns, as much work as n + m solves: see its ms in
# section 3. *Discrete* needs an explicit Runge-Kutta solve:
# %%
stiff = solve(vdp, corner, mu, [0, 6], method="Radau", keep="steps")
try:
    adjoint(stiff, cotangents(stiff), method="discrete")
except ValueError as reason:
    print(f"    {reason}")
# %% [markdown]
# ## 7 How wrong is it?
#
# Each gradient but `forward`'s estimates its own relative error, in z0 and θ
# apart. For two VJPs: by how far from z0 a reverse solve of z ended, or how
# a·f + a_t strayed from 0. With error=True: by a second witness too, another
# way along the steps that were kept. Van der Pol again, over one to five units
# of time. Predict first: are they right within two, ten, a thousand?
# %%
said = []
print("    T  way           off by     free  witness  VJPs + its VJPs")
for T in (1, 2, 3, 4, 5):
    tr = solve(vdp, corner, mu, [0, T], rtol=1e-6, atol=1e-8, keep="dense")
    for way in ("backsolve", "checkpointed", "discrete"):
        with warnings.catch_warnings(action="ignore"):
            free, told = (adjoint(tr, cotangents(tr), method=way, error=e)
                          for e in (False, True))
        said.append([off(free.theta, exactly(T)[2:]), free.error.theta,
                     told.error.theta])
        print(f"    {T}  {way:12}" + "".join(f"{e:9.0e}" for e in said[-1]),
              f"{free.nvjp:7} + {told.nvjp - free.nvjp}")
# %%
found, *estimates = np.log10(said).T
for name, estimate in zip(("free", "witness"), estimates):
    check("error", f"{name}: share that is right within ten",
          np.mean(abs(estimate - found) <= 1), 1, 0.25)
    check("error", f"{name}: slope over the true error, in logarithms",
          np.polyfit(found, estimate, 1)[0], 1, 0.3)
# %% [markdown]
# Mostly within ten, and a lost gradient is called lost; bounds they are not.
# (A factor of ten at both ends of seven decades tilts a slope by 2/7.) Five
# hundred problems a way: `python -m tests.benchmarks.calibration`.
#
# ## 8 Which, then?
#
# What was measured above, in one table: the error at rtol 1e-6, evaluations
# (f and VJP) for one observation and for forty, states kept a step, and the
# error on the contracting field of section 6.
# %%
print("    way            off by    1 obs  40 obs  states  contracting")
for way, keep in KEEP.items():
    few, many = (sum(spent[way, k]) for k in (1, 40))
    states = growth.get((way, keep), [0])[0]
    print(f"    {way:13} {at_1e6[way]:7.0e} {few:8} {many:7} {states:7.1f} "
          f"{survived[way][0]:12.0e}")
# %% [markdown]
# - A network trained on data: `discrete`. It is cheap, exact for the numbers
#   that came back, never unstable, and holds a few states a step. (So `fit`
#   and `loss_and_gradient` take it, on a tape of all activations: more, fast.)
# - Memory is the limit: `discrete` from keep="times", at twice the f or more;
#   or `backsolve`, if the field does not contract much, with an eye on
#   `reconstruction_error`.
# - An implicit solve, which `discrete` does not take: `checkpointed` with a
#   few dozen of the steps, `interpolating`, or, where parameters are many,
#   `quadrature`, which keeps them out of the reverse solve.
# - A handful of parameters: `forward`, which shares nothing with the rest.
# - In doubt: two of them. They have to agree, to the tolerance.
#
# Seconds, beside other libraries': `python tests/benchmarks/bench_peers.py`.
#
# Where is the question that you came with? Calls at odd times, shapes, solving
# back, one θ for all layers: section 1. Jumps, gradients in times and their
# signs, t0, unused parameters: section 2. Which way computes what: section 3.
# Backprop or differences disagree: section 4. Backward nfev, O(1) memory,
# batches, own times: section 5. Explosions, "underflow", checkpoints without
# effect: section 6. How wrong it is: section 7. Probes: `continuous_flows.py`.
# %%
if FIGURES:
    from figures._io import write
    for name in ("otd_gap", "reverse_drift", "adjoint_jumps", "memory"):
        write(name, Path(FIGURES))
# %% [markdown]
# ## Three questions, answered by a number
#
# 1. A field contracts at rate 21 for two units of time. How many checkpoints
#    keep the growth of a slip between two of them below a hundred?
# 2. RK45, 50 steps, one observation, nothing kept but the steps: how many
#    VJPs does `discrete` take for the steps, and how many f?
# 3. A loss is half of what it was. What happens to nfev of `backsolve`?
#
# Answers: 1. e^(42/(k + 1)) < 100 needs k + 1 > 42/4.6 = 9.1, so 9. 2. 300 of
# each: six stages a step, none of which was kept. 3. Nothing, 0: the atol of
# the adjoint goes with the largest cotangent.
# %%
ledger.finish()
