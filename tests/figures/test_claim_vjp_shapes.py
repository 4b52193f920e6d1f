"""The shapes are those of a real net's factors, and the counts those of the products that refode really forms."""

import numpy as np
import pytest

from figures import vjp_shapes
from refode import MLP


@pytest.fixture
def drawn(data):
    return data("vjp_shapes")


class Counted(np.ndarray):
    """An array that counts the multiplications of every matrix product it takes part in, in `Counted.total`.

    What is made of it counts too. A product of two vectors, as of c with the cotangent of b, is as long as a layer is
    wide and is not counted.
    """

    total = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(x) for x in inputs]
        if ufunc is np.matmul and max(x.ndim for x in plain) > 1:
            Counted.total += plain[0].size * (plain[1].shape[-1] if plain[1].ndim > 1 else 1)
        if out is not None:
            options["out"] = tuple(np.asarray(x) for x in out)
        made = getattr(ufunc, method)(*plain, **options)
        return made.view(Counted) if isinstance(made, np.ndarray) else made


@pytest.mark.parametrize("sizes", [*((n, 2 * n, n) for n in vjp_shapes.DIMENSIONS), (5, 7, 11, 5)])
def test_P22_the_counts_are_those_of_the_products_that_are_formed(sizes):
    net, rng = MLP(sizes), np.random.default_rng(0)
    theta, dtheta = (rng.standard_normal(net.m).view(Counted) for _ in range(2))
    z, a = (rng.standard_normal((1, net.n)).view(Counted) for _ in range(2))
    wanted = vjp_shapes.multiplications(sizes)
    for name, call in {
        "f": lambda: net(z, 0.3, theta),
        "vjp": lambda: net.vjp(z, 0.3, theta, a),
        "jvp": lambda: net.jvp(z, 0.3, theta, a, 1.0, dtheta),
        "jacobian": lambda: net.jacobian(z, 0.3, theta),
    }.items():
        Counted.total = 0
        call()
        assert Counted.total == wanted[name], name


def test_P22_a_vjp_costs_a_few_f_for_every_n_and_the_jacobian_n_of_them(drawn):
    assert drawn["vjp"] == pytest.approx(drawn["vjp_ratio"] * drawn["f"])
    assert drawn["jvp"] == pytest.approx(drawn["jvp_ratio"] * drawn["f"])
    assert drawn["vjp_ratio"] <= 3
    assert drawn["jacobian"] == pytest.approx((drawn["n"] + 1) * drawn["f"])


def test_E15_E16_the_drawn_shapes_are_those_of_the_factors_of_a_real_vjp(drawn):
    """a J_2, then times J_1, is the VJP of the net; J_2 J_1 its Jacobian."""
    n, hidden = drawn["n"][0], drawn["hidden"]
    net, rng = MLP([n, hidden, n]), np.random.default_rng(1)
    theta, z, a = net.init(rng), rng.standard_normal(n), rng.standard_normal((1, n))
    (W1, b1, c1), (W2, _, _) = net.layers(theta)
    J1 = W1.T / np.cosh(z @ W1 + b1 + 0.3 * c1)[:, None] ** 2  # tanh' = 1 / cosh²
    J2 = W2.T
    assert np.allclose(a @ J2 @ J1, net.vjp(z[None], 0.3, theta, a)[0], rtol=1e-12)
    assert np.allclose(J2 @ J1, net.jacobian(z, 0.3, theta), rtol=1e-12)
    assert [np.shape(each) for each in (a, J2, a @ J2, J1, a @ J2 @ J1)] == [tuple(shape) for shape in drawn["row"]]
    assert [np.shape(each) for each in (J2, J1, J2 @ J1)] == [tuple(shape) for shape in drawn["rows"]]


def test_the_bars_and_blocks_have_the_lengths_of_the_data(drawn, light):
    left, right = vjp_shapes.draw(drawn).axes
    lengths = [bar.get_width() for bar in right.patches]
    assert lengths == pytest.approx([1, drawn["vjp_ratio"], drawn["jvp_ratio"], *(drawn["jacobian"] / drawn["f"])])
    layers = [block for block in left.patches if block.get_height() >= 1]
    assert [(block.get_height(), block.get_width()) for block in layers] == [
        tuple(drawn[name][i]) for name, i in (("row", 1), ("row", 3), ("rows", 0), ("rows", 1))
    ]
    strips = [block.get_width() for block in left.patches if block.get_height() < 1]  # one for every row that is held
    wanted = [drawn["row"][0], drawn["row"][2], drawn["row"][4], drawn["rows"][2]]
    assert strips == pytest.approx([columns for rows, columns in wanted for _ in range(rows)])
    assert left.get_aspect() == 1
