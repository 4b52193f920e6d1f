# %% [markdown]
# # Reverse mode of a small network, by hand
#
# You need: the chain rule, matrix products, some NumPy. No ODE until the end.
# You get:  the vector-Jacobian product (VJP) of a network, each backward line
#           beside its forward line; reasons to believe it; its price; and a
#           vector field of your own with a VJP that you wrote.
# Seconds:  about 1, on one core.
#
# The note spends two sentences of §2.2 on VJPs and goes on. If you have
# written one before, go on too, to `adjoint_derivation.py`. If not, this is
# the place: nothing in the adjoint method asks more of the chain rule.
#
# A row that begins with `ok` or `FAIL` is a check: what was computed, what it
# should be, how far off it may be. Items such as P22 or E17 are the note's.

# %%
import time

import numpy as np

from refode import MLP, SquaredError, adjoint, check_field, solve
from refode.finite_difference import CENTRAL_STEP, central_difference
from refode.finite_difference import complex_solve, complex_step
from refode.finite_difference import directional_complex_step
from refode.finite_difference import directional_difference, slope
from refode.steps import Ledger

ledger = Ledger("Reverse mode of a small network")
check = ledger.check
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1 One layer
#
# A layer takes an input x, mixes it, adds a bias and something proportional
# to time, and bends the result. Rows are samples, so x stands on the left.
#
#     u = x W + b + c t               x (2,)  W (2, 3)  b, c (3,)  t ()
#     y = tanh u                      u, y (3,)
#
# Somewhere downstream there is one number S, and somebody tells us ȳ = ∂S/∂y:
# how much S changes for each unit of each y. We want the same for everything
# that went in: x̄ = ∂S/∂x, W̄ = ∂S/∂W, and so on. *A bar has the shape of what
# it stands on*, which catches half of all slips before anything runs.
#
# Write the change of S for a small change of everything, and read off who is
# multiplied by what. First the bend, which acts on each entry alone:
#
#     dS = Σ_j ȳ_j dy_j,    dy_j = tanh′(u_j) du_j
#     hence    ū_j = ȳ_j tanh′(u_j) = ȳ_j (1 − y_j²)
#
# tanh′ can be had from y alone: the forward pass keeps y, and u is forgotten.
# Then the mixing, in which every product gives two terms:
#
#     dS = Σ_j ū_j du_j
#     du_j = Σ_i (dx_i W_ij + x_i dW_ij) + db_j + dc_j t + c_j dt
#
#     x̄_i  = Σ_j ū_j W_ij     x̄ = ū Wᵀ       (2,) = (3,)(3, 2)
#     W̄_ij = x_i ū_j          W̄ = xᵀ ū       (2, 3), an outer product
#     b̄_j  = ū_j              b̄ = ū
#     c̄_j  = t ū_j            c̄ = t ū
#     t̄    = Σ_j c_j ū_j      t̄ = c · ū      a number
#
# So *that* is where transposes come from: forward, row i of W carries x_i to
# all outputs; backward, the same row collects what all outputs say to x_i.
#
# Predict first: with x (2,) and W (2, 3), what would ū W be?

# %%
x, t = rng.normal(size=2), 0.7
W, b, c = rng.normal(size=(2, 3)), rng.normal(size=3), rng.normal(size=3)
y_bar = rng.normal(size=3)  # what downstream says


def layer(x, W, b, c, t):
    return np.tanh(x @ W + b + c * t)


# %% [markdown]
# Then the bars, in the order of the derivation: the bend, and the mixing.

# %%
y = layer(x, W, b, c, t)
u_bar = y_bar * (1 - y**2)  # ū = ȳ ∘ (1 − y²)
x_bar = u_bar @ W.T  # x̄ = ū Wᵀ
W_bar = np.outer(x, u_bar)  # W̄ = xᵀ ū
b_bar, c_bar = u_bar, t * u_bar  # b̄ = ū,  c̄ = t ū
t_bar = c @ u_bar  # t̄ = c · ū

# %% [markdown]
# An impossible product: (3,) times (2, 3). The shapes would have told you.
#
# Is it right? *Complex step* knows no chain rule: Im S(x + ih) / h is ∂S/∂x,
# exact to rounding, as long as the code is analytic. Each of the five inputs
# is moved in its turn while the other four stay.

# %%
inputs = [x, W, b, c, np.array(t)]
bars = [x_bar, W_bar, b_bar, c_bar, t_bar]
for i, name in enumerate("xWbct"):

    def S(moved, i=i):
        return y_bar @ layer(*inputs[:i], moved, *inputs[i + 1 :])

    truth = complex_step(S, inputs[i])
    check("layer", f"bar of {name} and complex step", bars[i], truth, 1e-14)

# %% [markdown]
# ## 2 A batch: who is shared, is summed
#
# With B samples x is (B, 2), and so are u and y in their first axis. Each
# sample has an x of its own, but all of them use the *same* W, b, c and t.
# Moving one entry of W moves every sample, so S changes by the sum:
#
#     W̄_ij = Σ_s x_si ū_sj    W̄ = xᵀ ū       (2, 3) = (2, B)(B, 3)
#     b̄    = Σ_s ū_s          c̄ = t b̄        t̄ = c · b̄
#     x̄    = ū Wᵀ             no sum         (B, 2)
#
# One matrix product does the outer products and their sum at once. The sum is
# not a choice (a mean, a norm): it is what "shared" means. Should you want a
# mean over samples, say so in S, and 1/B arrives with ȳ.
#
# Predict first: which of the five shapes contain B?

# %%
X, Y_bar = rng.normal(size=(4, 2)), rng.normal(size=(4, 3))
U_bar = Y_bar * (1 - layer(X, W, b, c, t) ** 2)  # (4, 3)
W_bar = X.T @ U_bar  # W̄ = xᵀ ū, (2, 3)
one_by_one = sum(np.outer(x, u_bar) for x, u_bar in zip(X, U_bar))
check("batch", "bar of W = sum of outer products", W_bar, one_by_one, 1e-14)
truth = complex_step(lambda W: np.sum(Y_bar * layer(X, W, b, c, t)), W)
check("batch", "bar of W and complex step", W_bar, truth, 1e-14)

# %% [markdown]
# ## 3 Forward beside backward      §2.2: P22
#
# Now a network 2-3-2: two layers, the second without a bend. Read the left
# column down, then the right one up. Every line has its partner, and each
# partner uses only what its line had at hand.
#
#     forward, downward           backward, upward
#     x0 = z                      z̄  = x̄0
#     u1 = x0 W1 + b1 + c1 t      x̄0 = ū1 W1ᵀ   W̄1 = x0ᵀ ū1   t̄ += c1 · b̄1
#     x1 = tanh u1                ū1 = x̄1 ∘ (1 − x1²)
#     u2 = x1 W2 + b2 + c2 t      x̄1 = ū2 W2ᵀ   W̄2 = x1ᵀ ū2   t̄ += c2 · b̄2
#     f  = u2                     ū2 = a
#
# (b̄ and c̄ as in section 2; ∘ is the product entry by entry.) The number S is
# a·f, with a row a that somebody gives us: `a` is what the note calls the bar
# of f. t enters twice, so its bar has two terms.
#
# `net.layers(theta)` cuts the flat θ into (W, b, c) of each layer, as views:
# to write into a view is to write into θ. The backward pass uses it twice, to
# read θ and to fill θ̄.

# %%
net = MLP([2, 3, 2], "tanh")


def forward(z, t, theta):
    (W1, b1, c1), (W2, b2, c2) = net.layers(theta)
    x0 = z  # (B, 2)
    x1 = np.tanh(x0 @ W1 + b1 + c1 * t)  # (B, 3)
    f = x1 @ W2 + b2 + c2 * t  # (B, 2)
    return f, (x0, x1)


# %% [markdown]
# It returns f and what it keeps. Predict first: which of z, u1, x1, u2 does
# the backward pass need, and why not the others?


# %%
def backward(a, kept, t, theta):
    (x0, x1), theta_bar = kept, np.empty(net.m)
    (W1, _, c1), (W2, _, c2) = net.layers(theta)
    (W1_bar, b1_bar, c1_bar), (W2_bar, b2_bar, c2_bar) = net.layers(theta_bar)
    u2_bar = a  # f = u2
    W2_bar[...] = x1.T @ u2_bar  # u2 = x1 W2 + b2 + c2 t
    b2_bar[...] = u2_bar.sum(axis=0)
    c2_bar[...] = t * b2_bar
    x1_bar = u2_bar @ W2.T
    u1_bar = x1_bar * (1 - x1**2)  # x1 = tanh u1
    W1_bar[...] = x0.T @ u1_bar  # u1 = x0 W1 + b1 + c1 t
    b1_bar[...] = u1_bar.sum(axis=0)
    c1_bar[...] = t * b1_bar
    t_bar = c2 @ b2_bar + c1 @ b1_bar
    z_bar = u1_bar @ W1.T
    return z_bar, t_bar, theta_bar  # (B, 2), (), (m,)


# %% [markdown]
# z and x1: a product needs its other factor, and the bend needs its output.
# u1 and u2 would be dead weight. In general reverse mode keeps one array of
# size batch times width for each layer: its memory grows with the depth of f.
#
# `refode.MLP.linearize` is this code with a loop over layers: it returns f
# and a closure that pulls a row a back. All three blocks must agree.

# %%
theta = net.init(rng)  # (22,): 2*3 + 3 + 3, then 3*2 + 2 + 2
z, a = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
f, kept = forward(z, t, theta)
by_hand = backward(a, kept, t, theta)
f_refode, pullback = net.linearize(z, t, theta)
check("P22", "f by hand and by refode", f, f_refode, 1e-14)
for name, mine, theirs in zip(("z", "t", "theta"), by_hand, pullback(a)):
    check("P22", f"a.df/d{name} by hand and by refode", mine, theirs, 1e-14)

# %% [markdown]
# ## 4 Four reasons to believe it
#
# Two people who derive the same formula can make the same mistake, so the
# agreement above is the weakest of reasons. *First*, the pairing. Let J be
# the Jacobian of f in all its inputs at once. Forward mode computes J v, the
# change of f along a direction v = (δz, δt, δθ); reverse mode computes a J.
# Bracketed either way, a J v is the same number:
#
#     ⟨a, J v⟩ = ⟨a J, v⟩          for every a and every v
#
# If any entry of a J is wrong, a random v shows it (with probability one).
# J v comes from complex step, along v, so no chain rule is assumed.

# %%
B = len(z)


def f_of(q):  # q = (z, t, θ), flat
    return forward(q[: 2 * B].reshape(B, 2), q[2 * B], q[2 * B + 1 :])[0]


q = np.concatenate([z.ravel(), [t], theta])  # (2B + 1 + m,)
aJ = np.concatenate([by_hand[0].ravel(), [by_hand[1]], by_hand[2]])
v = rng.normal(size=q.shape)
Jv = directional_complex_step(f_of, q, v)  # (B, 2)
check("pairing", "<a, J v> - <a J, v>", np.sum(a * Jv) - aJ @ v, 0, 1e-13)

# %% [markdown]
# *Second*, complex step entry by entry, which also says *where* something is
# wrong. *Third*, central differences (S(q + h) − S(q − h)) / 2h: less sharp,
# but they work on any code, also where complex numbers do not.
#
# They have an error of their own: h² S‴/6 because the curve bends, and about
# eps |S| / h because S is rounded. Predict first: as h goes from 1e-1 down to
# 1e-12, what does the error do, and where is it least?

# %%
def S(q):
    return np.sum(a * f_of(q))


check("oracle", "a J against complex step", aJ, complex_step(S, q), 1e-13)
steps, truth = 10.0 ** -np.arange(1, 13), aJ @ v
error = [abs(directional_difference(S, q, v, h) - truth) for h in steps]
for h, e in zip(steps, error):
    print(f"    h = {h:.0e}   error {e:.1e}   " + "#" * int(13 + np.log10(e)))

# %% [markdown]
# Down with h², up with 1/h, like a V; least near eps^(1/3) = 6e-6, where it
# leaves ten digits. A gradient that agrees with differences to ten digits is
# as good as they can say; one that agrees to three is *wrong*, not "close".

# %%
check("oracle", "slope of the error over h = 1e-1, 1e-2, 1e-3",
      slope(steps[:3], error[:3]), 2, 0.1)
entries = central_difference(S, q)  # its step is eps^(1/3) max(1, |q_i|)
check("oracle", "a J against central differences", aJ, entries, 1e-9)
print(f"    its step {CENTRAL_STEP:.1e}, "
      f"largest error {abs(aJ - entries).max():.1e}")

# %% [markdown]
# *Fourth*, a test of the tests: do they see a mistake? Let us forget the
# transposes. Where W is (2, 3) the shapes refuse; where W is square nothing
# refuses, and only numbers can tell. So here is a net 2-2-2. Predict first:
# is the result a bit off, or altogether wrong?

# %%
square = MLP([2, 2, 2], "tanh", time=False)
(V1, d1, _), (V2, d2, _) = square.layers(square.init(rng))
h1 = np.tanh(z @ V1 + d1)
right = ((a @ V2.T) * (1 - h1**2)) @ V1.T
wrong = ((a @ V2) * (1 - h1**2)) @ V1  # no transposes
dz = rng.normal(size=z.shape)
Jdz = directional_complex_step(lambda z: np.tanh(z @ V1 + d1) @ V2, z, dz)
pairing = np.sum(a * Jdz)
for name, z_bar in (("with", right), ("without", wrong)):
    print(f"    {name} transposes: <a, J v> = {pairing:.4f}, "
          f"<a J, v> = {np.sum(z_bar * dz):.4f}")
check("mutant", "pairing, with transposes", np.sum(right * dz), pairing, 1e-13)
gap = np.linalg.norm(wrong - right) / np.linalg.norm(right)
check("mutant", "without them z_bar is off by > 0.1", gap > 0.1, 1, 0)

# %% [markdown]
# ## 5 A VJP is not a directional derivative      §2.2: P21, E17
#
# Our copy of the note calls VJPs "directional derivatives". The directional
# derivative of f along a direction v is J v: it answers "if z moves along v,
# how does f move?". The VJP a J answers another question, "along which
# direction of z does a·f grow fastest?": it is the gradient of the scalar a·f.
# Both take n numbers and give n numbers, so no shape tells one from the other.
#
# Predict first: for which J do a J and J a agree for every a?

# %%
point, row = z[0], a[0]
J = net.jacobian(point, t, theta)  # (2, 2), outputs as rows
aJ_1 = net.vjp(point, t, theta, row)[0]
Ja = net.jvp(point, t, theta, row, 0.0, np.zeros(net.m))
grad = complex_step(lambda z: row @ forward(z, t, theta)[0], point)
along = directional_complex_step(lambda z: forward(z, t, theta)[0], point, row)
print(f"    a J  = {aJ_1}     the gradient of a.f is {grad}")
print(f"    J a  = {Ja}     the derivative along a is {along}")

# %% [markdown]
# For symmetric J only: (a J − J a) is a times J − Jᵀ. Gradient fields have
# such a J, and a test problem that is one will never notice the difference.

# %%
apart = np.linalg.norm(aJ_1 - Ja) / np.linalg.norm(aJ_1)
predicted = np.linalg.norm(row @ (J - J.T)) / np.linalg.norm(row @ J)
check("P21 E17", "as printed: |a J - J a| / |a J|", apart, predicted, 1e-13)
check("P21 E17", "corrected: a J = grad(a.f)", aJ_1, grad, 1e-14)
check("P21 E17", "J a is the derivative along a", Ja, along, 1e-14)

# %% [markdown]
# ## 6 What it costs      §2.2: P22, E18
#
# A layer forward is one matrix product, x W, of B · in · out multiplications.
# Backward it is two of the same size: ū Wᵀ and xᵀ ū. Hence f and VJP together
# cost three times f, whatever n and m are. That is the whole reason why
# reverse mode is used. Do not take my word: let an array count its products.


# %%
class Counting(np.ndarray):
    """An array that adds up the multiplications of its matrix products."""

    total = 0

    def __array_ufunc__(self, ufunc, method, *arrays, **more):
        plain = [np.asarray(array) for array in arrays]
        if ufunc is np.matmul:
            Counting.total += plain[0].size * (plain[1].size // len(plain[1]))
        result = getattr(ufunc, method)(*plain, **more)
        return np.asarray(result).view(Counting)


# %% [markdown]
# Whatever is computed from such an array is such an array, so the net's own
# code does the counting, line by line.


# %%
def multiplications(function, *arrays):
    Counting.total = 0
    function(*[np.asarray(array).view(Counting) for array in arrays])
    return Counting.total


# %% [markdown]
# The net is 2-64-64-2 with a batch of 256; m = 4612. Here is the question
# that E18 is about. The adjoint method wants a ∇₃f, m numbers. Reverse mode
# gives all of them in one go. Forward mode gives J v: all outputs, but *one*
# direction in θ. Predict first: how many JVPs does a ∇₃f take, and how many
# evaluations of f do they cost?

# %%
big = MLP([2, 64, 64, 2])
m, Theta = big.m, big.init(rng)
Z, A = rng.normal(size=(2, 256, 2))
dTheta = rng.normal(size=m)
cost_f = multiplications(lambda z, p: big(z, t, p), Z, Theta)
cost_vjp = multiplications(lambda z, p, a: big.vjp(z, t, p, a), Z, Theta, A)
cost_jvp = multiplications(
    lambda z, p, dz, dp: big.jvp(z, t, p, dz, 1.0, dp), Z, Theta, A, dTheta
)
check("P22", "multiplications of f and VJP over those of f",
      cost_vjp / cost_f, 3, 0.01)
check("P22", "multiplications of f and JVP over those of f",
      cost_jvp / cost_f, 3, 0.01)
check("E18", "as printed: a.df/dtheta by forward mode, in f",
      m * cost_jvp / cost_f, 3 * m, 0.01 * m)
check("E18", "corrected: by reverse mode, in f", cost_vjp / cost_f, 3, 0.01)

# %% [markdown]
# One JVP for each parameter. Each costs what a VJP costs, so the price of
# forward mode is m times that of reverse mode; our copy of the note names the
# wrong one of the two. On the small net we can afford to see that m JVPs give
# the same m numbers. (Forward mode wins in the opposite case, few inputs and
# many outputs, and it keeps nothing.)

# %%
still = np.zeros_like(z)  # z does not move
by_jvps = np.array([
    np.sum(a * net.jvp(z, t, theta, still, 0.0, e)) for e in np.eye(net.m)
])
check("E18", "22 JVPs = one VJP", by_jvps, by_hand[2], 1e-14)

# %% [markdown]
# Multiplications are not seconds: memory traffic, tanh and Python take their
# share. So measure, in turns (f, VJP, JVP, f, ...), because a machine that is
# busy for a moment is then busy for all three, and take the median of the
# ratios. Expect 2 to 3: tanh costs about as much as a product, and f and VJP
# together pay it once. `python -m tests.benchmarks.bench_vjp`, with one BLAS
# thread and more turns, is the careful version of this cell.


# %%
def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# %% [markdown]
# Half a second of turns, however long a turn takes on this machine:

# %%
turns, begin = [], time.perf_counter()
while time.perf_counter() - begin < 0.5:
    turns.append([
        seconds(lambda: big(Z, t, Theta)),
        seconds(lambda: big.vjp(Z, t, Theta, A)),
        seconds(lambda: big.jvp(Z, t, Theta, A, 1.0, dTheta)),
    ])
turns = np.array(turns)
for name, column in (("VJP", turns[:, 1]), ("JVP", turns[:, 2])):
    low, middle, high = np.quantile(column / turns[:, 0], [0.25, 0.5, 0.75])
    print(f"    {name} / f in seconds: {middle:.2f} ({low:.2f} to {high:.2f})")

# %% [markdown]
# ## 7 Reading a report
#
# `check_field` does for any field what section 4 did for ours: it compares
# each block with complex step, or with differences if the code refuses
# complex numbers. A field is any object with `n`, `m`, a call and a `vjp`;
# here is our own, and a copy of it with a slip: its c̄ has lost the factor t.


# %%
class ByHand:
    n, m = net.n, net.m

    def __call__(self, z, t, theta):
        return forward(z, t, theta)[0]

    def vjp(self, z, t, theta, a):
        return backward(a, forward(z, t, theta)[1], t, theta)


print(check_field(ByHand()))


# %% [markdown]
# Every row is `ok`. Now the slip:


# %%
class Slip(ByHand):
    def vjp(self, z, t, theta, a):
        z_bar, t_bar, theta_bar = super().vjp(z, t, theta, a)
        for _, b_bar, c_bar in net.layers(theta_bar):
            c_bar[...] = b_bar  # should be t * b_bar
        return z_bar, t_bar, theta_bar


report = check_field(Slip())
print(report)

# %% [markdown]
# Read it so. The rows are independent: z and t are right, so the backward
# pass runs through all layers as it should, and what is wrong is wrong in the
# last step, where a parameter's bar is made. `worst` is relative to the
# block's largest entry: 0.3 is a wrong formula; 1e-9 would be a constant that
# somebody typed with nine digits. The last column names the worst entry with
# both values, and their ratio is a clue: 1/0.7, at the default t = 0.7. Which
# parameter is it? Cut up the positions themselves:

# %%
rows = {row.what: row for row in report.rows}
index = int(rows["vjp: a.df/dtheta"].where.split("[")[1].split("]")[0])
for layer_number, blocks in enumerate(net.layers(np.arange(net.m)), start=1):
    for name, block in zip("Wbc", blocks):
        here = "   <- the report's entry" if index in block else ""
        print(f"    {name}{layer_number}: theta[{block.min()}] to "
              f"[{block.max()}]{here}")

# %% [markdown]
# A c, as it should be. The same as checks:

# %%
check("report", "the good field passes", check_field(ByHand()).ok, 1, 0)
failed = [what for what in rows if not rows[what].ok]
check("report", "of the other one row fails, theta's",
      failed == ["vjp: a.df/dtheta"], 1, 0)
in_c = any(index in c for _, _, c in net.layers(np.arange(net.m)))
check("report", "its worst entry belongs to a c", in_c, 1, 0)

# %% [markdown]
# A check sees what its point shows. Predict first: what does the report on
# the same slip say at t = 1? And what does it say of a field that takes the
# mean over the batch, where the sum belongs, if the batch is one sample?


# %%
class Mean(ByHand):
    def vjp(self, z, t, theta, a):
        z_bar, t_bar, theta_bar = super().vjp(z, t, theta, a)
        return z_bar, t_bar / len(z), theta_bar / len(z)


one_sample = {"z": rng.normal(size=(1, 2))}
for name, field, where in (("slip", Slip(), {"t": 1.0}),
                           ("mean", Mean(), one_sample)):
    seen = [check_field(field).ok, check_field(field, **where).ok]
    print(f"    {name}: passes by default {seen[0]}, there {seen[1]}")
    check("report", f"{name}: caught by default, not there", seen, [0, 1], 0)

# %% [markdown]
# That all is well, both times. So look where nothing is special: not at 0 or
# 1, not at one sample, not where things are symmetric. The defaults do.

# %% [markdown]
# ## 8 A field of your own
#
# Nothing so far was about networks: any computation can be read backward.
# Take an epidemic with seasonal contagion, x susceptible and y infected (as
# shares of a population), θ = (β, γ) in units of 1/year, t in years:
#
#     s(t) = 1 + 0.3 cos 2πt
#     flow = β s(t) x y                new infections a year
#     f    = (−flow, flow − γ y)
#
# Backward, the bottom line first. `flow` is used twice, so its bar has two
# terms; then each factor of the product gets the product of the others.
#
#     flow_bar = a_y − a_x
#     β̄ = Σ flow_bar s x y             γ̄ = −Σ a_y y         summed over batch
#     x̄ = flow_bar β s y               ȳ = flow_bar β s x − γ a_y
#     t̄ = Σ flow_bar β s′(t) x y       s′(t) = −0.6π sin 2πt


# %%
class Epidemic:
    n, m = 2, 2

    def __call__(self, z, t, theta):
        (x, y), (beta, gamma) = (z[..., 0], z[..., 1]), theta
        flow = beta * (1 + 0.3 * np.cos(2 * np.pi * t)) * x * y
        return np.stack([-flow, flow - gamma * y], axis=-1)

    def vjp(self, z, t, theta, a):
        (x, y), (beta, gamma) = (z[..., 0], z[..., 1]), theta
        s = 1 + 0.3 * np.cos(2 * np.pi * t)
        ds = -0.6 * np.pi * np.sin(2 * np.pi * t)
        flow_bar = a[..., 1] - a[..., 0]
        x_bar = flow_bar * beta * s * y
        y_bar = flow_bar * beta * s * x - gamma * a[..., 1]
        t_bar = np.sum(flow_bar * beta * ds * x * y)
        theta_bar = [np.sum(flow_bar * s * x * y), -np.sum(a[..., 1] * y)]
        return np.stack([x_bar, y_bar], -1), t_bar, np.array(theta_bar)


own = check_field(Epidemic())
print(own)
check("own", "check_field on the epidemic", own.ok, 1, 0)

# %% [markdown]
# Four things make it a good citizen: the last axis is the state and all axes
# before it are a batch; the blocks of t and θ are summed over that batch; it
# keeps nothing between calls; and it would carry complex numbers (no `abs`,
# no comparison), which buys the sharp check. `linearize`, `jvp` and
# `jacobian` are optional: what is missing is made from the VJP.
#
# That is all that solving and differentiating an ODE asks for. Some infected
# are counted each tenth of a year; the loss looks at y alone (weight 0 on x).
# `adjoint` turns the loss's own bars, dL/dz at each observation, into the
# gradient by the start, the parameters and the times.

# %%
times, rates = np.linspace(0.0, 1.0, 11), np.array([20.0, 8.0])
start = np.array([0.95, 0.05])
counted = 0.2 * np.exp(-0.5 * ((times - 0.25) / 0.15) ** 2)  # a bell
loss = SquaredError(np.outer(counted, [0, 1]), weights=np.array([0.0, 1.0]))
epidemic = solve(Epidemic(), start, rates, times, rtol=1e-10, atol=1e-12)
value, dL_dz = loss(epidemic)
gradient = adjoint(epidemic, dL_dz)
print(f"    L = {value:.4f}, dL/dbeta, dL/dgamma = {gradient.theta}")
print(f"    {epidemic.nfev} evaluations forward, {gradient.nvjp} VJPs back")

# %% [markdown]
# Complex step is the judge once more, now through the whole solve: an
# imaginary 1e-30 on one entry travels along all of it. `complex_solve` calls
# the field, but not its `vjp`, nor any of the code that made the gradient.
# The solver's tolerance, 1e-10 a step for some hundred steps, leaves 1e-8.

# %%
def L(z0, theta, times):
    y = complex_solve(Epidemic(), z0, theta, times)[:, 1]
    return 0.5 * np.sum((y - counted) ** 2)


truth = complex_step(lambda z0: L(z0, rates, times), start)
check("own", "dL/dz0 by adjoint and complex step", gradient.z0, truth, 1e-8)
truth = complex_step(lambda theta: L(start, theta, times), rates)
check("own", "dL/dtheta by both", gradient.theta, truth, 1e-8)
truth = complex_step(lambda times: L(start, rates, times), times)
check("own", "dL/dtimes by both", gradient.times, truth, 1e-8)

# %% [markdown]
# ## Three questions, answered by a number
#
# 1. By how much does the bar of W change if the same sample is put into the
#    batch twice?
# 2. f costs 1 ms, m = 4612 and n = 2. What does a ∇₃f cost by reverse mode,
#    and by forward mode, if only multiplications count?
# 3. A backward pass agrees with central differences of step 1e-5 to 3 digits.
#    How many digits should it have had, at the least?
#
# Answers: 1. By a factor 2 (section 2: a sum, no mean). 2. About 3 ms, and
# 4612 times 3 ms, which is 14 s (section 6). 3. Nine (section 4): look for a
# term that is small but missing.

# %%
ledger.finish()
