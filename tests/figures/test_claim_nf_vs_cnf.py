"""P27, P51: the layer folds and the flow does not, and each KL is that of the density it is printed for."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color

from figures import nf_vs_cnf
from figures._kept import is_current
from figures._roles import colour
from figures.nf_vs_cnf import TARGET, U, W
from refode import ContinuousFlow, solve
from refode.planar import ContinuousPlanar, PlanarFlow, planar_closed_form

UNIT = np.concatenate([U, W, [0.0]])
FLOW = ContinuousPlanar(2)


def determinant(image, z):
    """det of the Jacobian of `image` at z (..., 2), by complex step."""
    h = 1e-30
    columns = [np.imag(image(z + 1j * h * e)) / h for e in np.eye(2)]
    return columns[0][..., 0] * columns[1][..., 1] - columns[0][..., 1] * columns[1][..., 0]


def test_P27_the_drawn_determinants_are_those_of_the_drawn_maps(data):
    drawn = data("nf_vs_cnf")
    layer = PlanarFlow(2, 1, constrained=False)
    z, rounding = drawn["grid"], 1e-13
    assert drawn["layer"] == pytest.approx(z + np.tanh(z @ W)[..., None] * U, abs=rounding)
    assert drawn["det_layer"] == pytest.approx(determinant(lambda x: layer.linearize(x, UNIT)[0], z), abs=rounding)
    assert drawn["det_flow"] == pytest.approx(
        determinant(lambda x: planar_closed_form(x, 1.0, U, W, 0.0)[0], z), abs=rounding
    )
    # tolerance 1e-11 a step, grown by at most e^(|u||w|) = 24, on |z| ≤ 4
    path = solve(FLOW, z, UNIT, [0.0, 1.0], method="DOP853", rtol=1e-11, atol=1e-11).z[-1]
    assert drawn["flow"] == pytest.approx(path, abs=24 * 4e-11)


def test_P27_the_layer_folds_and_the_flow_cannot(data):
    drawn = data("nf_vs_cnf")
    assert drawn["kappa"] == -3
    assert drawn["least_layer"] == pytest.approx(-2, abs=1e-15)  # 1 + w·u, on the line w·z = 0, which is drawn
    # log det is the integral of the divergence κ/cosh² s, which lies between κ and 0
    assert drawn["least_flow"] >= np.exp(drawn["kappa"]) * (1 - 1e-13)
    assert drawn["det_flow"].max() <= 1
    assert np.ptp(drawn["layer_points"], axis=0).max() < 1e-14
    apart = np.linalg.norm(np.diff(drawn["flow_points"], axis=0), axis=1)
    assert apart.min() > 0.1 * np.linalg.norm(np.diff(drawn["points"], axis=0), axis=1).min()
    with pytest.raises(ValueError, match="no inverse"):
        PlanarFlow(2, 1, constrained=False).inverse(drawn["layer_points"], UNIT)
    back = solve(FLOW, drawn["flow_points"], UNIT, [1.0, 0.0], method="DOP853", rtol=1e-11, atol=1e-11).z[-1]
    assert back == pytest.approx(drawn["points"], abs=24 * 4e-11)


def test_what_is_red_is_what_is_folded(data, light):
    drawn = data("nf_vs_cnf")
    layer, flow, _ = nf_vs_cnf.draw(drawn).axes
    for ax, det in ((layer, drawn["det_layer"]), (flow, drawn["det_flow"])):
        red = [line.get_xydata() for line in ax.lines if same_color(line.get_color(), colour("adjoint"))]
        assert np.isfinite(red).all(axis=-1).sum() == (det < 0).sum()
    plt.close("all")


def logpdf(name, theta, x):
    """log p of the trained density, by the map back: what training has no part in."""
    if name == "layers":
        model = PlanarFlow(2, len(theta) // 5)
        base = ContinuousFlow(FLOW, UNIT).base
        return model.logpdf(x, theta, base.logpdf)
    return ContinuousFlow(ContinuousPlanar(2, len(theta) // 5), theta, options={"rtol": 1e-6, "atol": 1e-8}).logpdf(x)


@pytest.mark.parametrize("name", ["layers", "flow"])
def test_P28_E43_the_drawn_kl_is_the_integral_over_the_plane(kept, name):
    """∫ p = 1 and ∫ p log(p/q) by the midpoint rule, where the drawing has a mean over samples.

    The rule converges faster than any power for what is smooth and vanishes at the edges; left is the solver's 1e-6.
    """
    drawn = kept("nf_vs_cnf")
    side = 0.06 * (np.arange(200) - 99.5)
    x = np.stack(np.meshgrid(side, side), axis=-1)
    log_p = logpdf(name, drawn[f"theta_{name}"], x)
    p = np.exp(log_p)
    i = list(drawn["widths"]).index(drawn["shown"])
    assert p.sum() * 0.06**2 == pytest.approx(1, abs=1e-6)
    found = np.sum(p * (log_p - TARGET.logpdf(x))) * 0.06**2
    error = drawn["error"][i, ["layers", "flow"].index(name), 0]
    assert found == pytest.approx(drawn[f"kl_{name}"][i, 0], abs=4 * error + 1e-6)


def test_E43_more_units_come_nearer_and_the_flow_needs_fewer(kept):
    drawn = kept("nf_vs_cnf")
    medians = {name: np.median(drawn[f"kl_{name}"], axis=1) for name in ("layers", "flow")}
    for i, (name, median) in enumerate(medians.items()):
        assert np.all(drawn[f"kl_{name}"] >= -4 * drawn["error"][:, i])  # a KL is not negative
        assert np.all(np.diff(median) < 0)
        assert median[0] > np.log(2) > 10 * median[-1]
    assert np.all(medians["flow"][:-1] < medians["layers"][:-1])
    assert medians["flow"][-1] > medians["layers"][-1] / 3  # they "come close at the end"
    assert is_current("nf_vs_cnf")
