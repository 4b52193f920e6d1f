"""The wrong equations do what they are said to do: each is known from the right one, or in closed form."""

import numpy as np
import pytest
from scipy.linalg import expm

from refode import MLP, ContinuousFlow, Linear
from refode.as_printed import VARIANTS, climb, likelihood_gradient
from refode.finite_difference import complex_solve, complex_step

TIGHT = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-13}
NET = MLP([2, 5, 2])
FLOW = ContinuousFlow(NET, NET.init(np.random.default_rng(0), 1.5), options=TIGHT)
X = np.random.default_rng(1).normal(size=(4, 2))


def near(got, want):
    """To 1e-8 of the largest entry: two solves of 1e-11 a step, and what becomes of that on the way."""
    return all(np.max(abs(g - w)) <= 1e-8 * np.max(abs(w)) for g, w in zip(got, want, strict=True))


def found(variant):
    return likelihood_gradient(FLOW, X, variant)


def sums(*terms):
    """Σ factor · (s, g) of variants, block by block."""
    return [sum(factor * found(name)[i] for factor, name in terms) for i in range(2)]


def test_the_corrected_system_is_the_adjoint_of_the_likelihood():
    right = FLOW.likelihood_gradient(X, method="backsolve")
    assert near(found("corrected"), (right.x, right.theta))


def test_theorem_1_literally_is_the_gradient_of_the_base_term():
    def base_term(x, theta):
        z0 = complex_solve(NET, x, theta, [FLOW.t1, FLOW.t0])[-1]
        return np.sum(-0.5 * z0 * z0)

    by_x, by_theta = (
        complex_step(lambda x: base_term(x, FLOW.theta), X),
        complex_step(lambda theta: base_term(X, theta), FLOW.theta),
    )
    assert near(found("Theorem 1 literally"), (by_x, by_theta))


def test_the_source_enters_linearly():
    """s and g are linear in (β, γ) at one α: what turns the source turns what it adds, and the blocks add up."""
    assert near(found("trace turned"), sums((2, "Theorem 1 literally"), (-1, "corrected")))
    parts = (1, "trace in block 2 only"), (1, "trace in block 3 only"), (-1, "Theorem 1 literally")
    assert near(found("corrected")[1:], sums(*parts)[1:])
    assert near(found("trace in block 2 only")[:1], found("corrected")[:1])
    assert near(found("trace in block 3 only")[:1], found("Theorem 1 literally")[:1])
    names = ("trace in block 2 only", "trace in block 3 only", "Theorem 1 literally")
    assert not any(near(found("corrected")[1:], found(name)[1:]) for name in names)


def test_E49_the_wrong_sign_carries_the_score_the_wrong_way():
    """f = A z, ∇§1 τ = 0: as printed s = s_0 e^{AT}, and not s_0 e^{−AT}; with the trace g has T vec(I) more."""
    A, T = np.array([[0.3, -0.8], [1.1, 0.2]]), 0.7
    flow = ContinuousFlow(Linear(2), A.ravel(), t1=T, options=TIGHT)
    s0 = -X @ expm(-T * A).T
    printed, turned = (likelihood_gradient(flow, X, name) for name in ("as printed", "all signs turned"))
    assert near([printed[0], turned[0]], 2 * [s0 @ expm(T * A)])
    assert near([turned[1] - printed[1]], [len(X) * T * np.eye(2).ravel()])
    assert near([likelihood_gradient(flow, X, "corrected")[0]], [s0 @ expm(-T * A)])


def test_climbing_begins_where_the_flow_is_and_moves_by_the_rate():
    """Adam's first step is the sign of the gradient, of length `rate` in every entry; along what a variant gives."""
    for name in VARIANTS:
        first, second = climb(FLOW, X, name, 1, rate=1e-3)
        assert np.array_equal(first, FLOW.theta)
        g = found(name)[1]
        large = abs(g) > 1e-3
        assert np.allclose((second - first)[large], 1e-3 * np.sign(g[large]), rtol=1e-3)


def test_an_unknown_variant_and_bad_points_are_refused():
    with pytest.raises(ValueError, match="variant must be one of"):
        likelihood_gradient(FLOW, X, "as printd")
    with pytest.raises(ValueError, match=r"x must have shape \(N, 2\)"):
        likelihood_gradient(FLOW, X[0], "corrected")
