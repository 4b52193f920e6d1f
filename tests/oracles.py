"""What the tests compare with: random points, derivatives taken from f alone, and bounds on rounding."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from refode import MLP
from refode.activations import ACTIVATIONS
from refode.finite_difference import complex_step

# Two computations of one number differ by their roundings, each eps times a term of it. In five layers of width 8 a
# term meets at most 5 · (8 + 2 + 4) of them forward (a sum, b and c, an activation), as many backward, and 6 when a
# batch is summed: 150, doubled for complex arithmetic. 1e-12 = 4500 eps leaves a factor of ten or more.
TOL = 1e-12

BATCHES = [(), (3,), (2, 3)]
batches = st.sampled_from(BATCHES)
seeds = st.integers(0, 2**32 - 1)
widths = st.integers(1, 8)


@dataclass(frozen=True)
class Point:
    """Where a field is looked at, with a cotangent and a tangent there. Arrays are read-only: writing to one raises."""

    z: np.ndarray  # (..., n)
    t: complex
    theta: np.ndarray  # (m,)
    a: np.ndarray  # (..., n)
    tangent: tuple[np.ndarray, complex, np.ndarray]  # like (z, t, theta)

    @property
    def at(self):
        return self.z, self.t, self.theta


def point(field, batch, rng, theta=None, imaginary=0.0):
    """Entries uniform in [-2, 2], the imaginary parts in `imaginary` times that."""

    def draw(*shape):
        x = rng.uniform(-2, 2, shape)
        if imaginary:
            x = x + 1j * imaginary * rng.uniform(-2, 2, shape)
        return frozen(x) if shape else x[()]

    theta = draw(field.m) if theta is None else frozen(theta)
    shape = (*batch, field.n)
    return Point(draw(*shape), draw(), theta, draw(*shape), (draw(*shape), draw(), draw(field.m)))


def frozen(x):
    x.setflags(write=False)
    return x


@st.composite
def networks(draw):
    """An MLP of one to five layers, and a point. Hypothesis looks for sizes and a seed, the seed spreads the rest."""
    depth = draw(st.integers(1, 5))
    n, *hidden = draw(st.lists(widths, min_size=depth, max_size=depth))
    rng = np.random.default_rng(draw(seeds))
    field = MLP([n, *hidden, n], rng.choice(sorted(ACTIVATIONS)), time=rng.random() < 0.6)
    batch = BATCHES[rng.integers(len(BATCHES))]
    return field, point(field, batch, rng, field.init(rng))


def blocks(field, p):
    """The gradient of the scalar a·f in z, t and θ, from f alone."""
    z, t, theta = p.at
    return (
        complex_step(lambda x: np.sum(p.a * field(x, t, theta)), z),
        complex_step(lambda x: np.sum(p.a * field(z, x, theta)), t),
        complex_step(lambda x: np.sum(p.a * field(z, t, x)), theta),
    )


class Bounds(NamedTuple):
    """What the roundings of an MLP's f and of its three blocks are relative to, entry by entry."""

    f: np.ndarray
    blocks: tuple[np.ndarray, float, np.ndarray]


def majorant(field, p):
    """Every term by its modulus, every activation by |σ(u)| ≤ 1 + |u| and |σ′|, |σ″| ≤ 1.

    An error eps |u| in u is one of eps |u| |σ″| in σ′, hence the factor `largest` on the blocks.
    """
    x, t, a = abs(p.z).reshape(-1, field.n), abs(p.t), abs(p.a).reshape(-1, field.n)
    kept, largest = [], max(1.0, x.max())
    for W, b, c in field.layers(abs(p.theta)):
        kept.append((x, W, c))
        x = x @ W + b + c * t + 1
        largest = max(largest, x.max())
    f, t_bar, theta_bar = x.reshape(p.z.shape), 0.0, []
    for x, W, c in reversed(kept):
        bias = a.sum(axis=0)
        theta_bar = [(x.T @ a).ravel(), bias, *([t * bias] if field.time else []), *theta_bar]
        t_bar = t_bar + c @ bias
        a = a @ W.T
    return Bounds(f, (largest * a.reshape(p.z.shape), largest * t_bar, largest * np.concatenate(theta_bar)))


def close(got, want, bound):
    """Whether two computations of one array agree to rounding, every entry by its own bound."""
    return np.shape(got) == np.shape(want) and bool(np.all(abs(got - want) <= TOL * bound))


def pairing(blocks, tangent):
    """Σ over the three blocks of block · tangent."""
    return sum(np.sum(block * v) for block, v in zip(blocks, tangent, strict=True))


class OnlyVJP:
    """A field without the optional methods."""

    def __init__(self, field):
        self.field, self.n, self.m = field, field.n, field.m

    def __call__(self, z, t, theta):
        return self.field(z, t, theta)

    def vjp(self, z, t, theta, a):
        return self.field.vjp(z, t, theta, a)
