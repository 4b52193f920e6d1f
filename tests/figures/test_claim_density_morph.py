"""P51: the drawn density is that of the flow, and no mass gets lost or crosses the line that stands still."""

import numpy as np
import pytest
from scipy.stats import norm

from figures import density_morph
from figures.density_morph import HALF, MESH, B, U, W
from refode import ContinuousFlow, solve
from refode.planar import ContinuousPlanar

THETA = np.concatenate([U, W, [B]])
TOL = 1e-11
GROWTH = np.exp(2 * np.linalg.norm(U) * np.linalg.norm(W) * 1.5)  # of an error, |∇f| ≤ |u| |w|, and its way back


def test_P51_the_mass_is_one_but_for_what_can_leave_the_window(data):
    """|f_i| ≤ |u_i|, so what is beyond h_i at t began beyond h_i − |u_i| t."""
    drawn = data("density_morph")
    for t, mass in zip(drawn["t"], drawn["mass"], strict=True):
        gone = 2 * norm.sf(HALF - np.abs(U) * t).sum()
        # the trapezoidal rule converges faster than any power for a smooth p that vanishes at the edges
        assert -1e-9 < 1 - mass <= gone + 1e-9
    assert drawn["lost"] < 5e-5  # all that is printed above the panels is 1.0000


def test_P51_the_mass_on_either_side_of_the_line_stays_there(data):
    drawn = data("density_morph")
    h, along = 0.05, np.arange(-8, 8, 0.1)
    normal = W / np.linalg.norm(W)
    across = h * (np.arange(200) + 0.5)  # the midpoint rule on the right of the line: error h² max|p′|/24
    x = -B * W / (W @ W) + across[:, None, None] * normal + along[:, None] * [-normal[1], normal[0]]
    for t in drawn["t"]:
        assert density_morph.density(x, t).sum() * h * 0.1 == pytest.approx(drawn["side"], abs=h**2 * 0.25 / 24)
    side = np.sign(drawn["particles_at"] @ W + B)
    assert np.all(side == side[0])
    assert set(side[0]) == {-1, 1}


def test_D56_the_density_is_that_of_the_ode(data):
    drawn = data("density_morph")
    grid = np.stack(np.meshgrid(drawn["x"][20:-20:7], drawn["y"][15:-15:7]), axis=-1)
    options = {"method": "DOP853", "rtol": TOL, "atol": TOL}
    for t, p in zip(drawn["t"][1:], drawn["density"][1:], strict=True):
        flow = ContinuousFlow(ContinuousPlanar(2), THETA, t1=t, options=options)
        assert p[15:-15:7, 20:-20:7] == pytest.approx(np.exp(flow.logpdf(grid)), rel=TOL * GROWTH * HALF.max())


def test_D55_the_mesh_and_the_particles_follow_the_ode(data):
    drawn = data("density_morph")
    for name in ("mesh", "particles_at"):
        path = solve(ContinuousPlanar(2), drawn[name][0], THETA, drawn["t"], method="DOP853", rtol=TOL, atol=TOL).z
        assert drawn[name] == pytest.approx(path, abs=TOL * GROWTH)
    assert np.diff(drawn["mesh"][0, :7, 0, 1]) == pytest.approx(MESH)
    moved = np.linalg.norm(drawn["particles_at"][-1] - drawn["particles_at"][0], axis=1)
    assert np.median(moved) > 1  # there is something to see
