"""The density of every frame is that of its own time: against samples, against another solve, and by its mass."""

import numpy as np
import pytest

from figures import density_flow
from refode import ContinuousFlow, StandardNormal, WithLogDensity, solve

BINS = np.linspace(-3.2, 3.2, 25)
DRAWN = 20_000


@pytest.fixture(scope="module")
def full():
    return density_flow.data(0)


@pytest.fixture(scope="module")
def histogram(full):
    """Of many more samples than are shown, at a frame."""
    first = StandardNormal(2).rvs(DRAWN, np.random.default_rng(5))
    carried = solve(density_flow.NET, first, full["theta"], full["t"], **density_flow.TOLERANCES).z
    return lambda frame: np.histogram2d(*carried[frame].T, BINS)[0] / DRAWN


def binned(full, frame):
    """The mass in each bin, of the mesh's cells by their centres."""
    mesh, p = full["mesh"][frame], full["density"][frame]
    centres = (mesh[1:, 1:] + mesh[:-1, :-1] + mesh[1:, :-1] + mesh[:-1, 1:]) / 4
    return np.histogram2d(*centres.reshape(-1, 2).T, BINS, weights=density_flow.masses(mesh, p).ravel())[0]


def base_put_on_at(full, frame):
    """What a well-known animation draws: a grid at t1, carried back to t, with the base's density put on it there."""
    middle = (BINS[1:] + BINS[:-1]) / 2
    grid = np.stack(np.meshgrid(middle, middle, indexing="ij"), axis=-1)
    start = np.concatenate([grid, np.zeros((*grid.shape[:-1], 1))], axis=-1)
    times = [full["t"][-1], full["t"][frame]]
    back = solve(WithLogDensity(density_flow.NET), start, full["theta"], times, **density_flow.TOLERANCES).z[-1]
    return np.exp(StandardNormal(2).logpdf(back[..., :2]) - back[..., 2]) * (BINS[1] - BINS[0]) ** 2


def distance(one, other):
    """Total variation."""
    return np.abs(one - other).sum() / 2


def allowed(p):
    """The mean distance of a histogram of DRAWN samples from p, by normal bins; 0.04 for cells put into bins whole.

    A cell is 0.04 wide at t = 0 and a bin 0.27, so that a seventh of the mass lies in cells that a bin's side cuts;
    of each of these a quarter, on average, lies beyond the side, and half of that is made up by the next.
    """
    return np.sqrt(2 * p / np.pi / DRAWN).sum() / 2 + 0.04


@pytest.mark.parametrize("frame", [0, 10, 20, 30, 40])
def test_D56_the_density_is_that_of_the_samples_at_that_time(full, histogram, frame):
    p = binned(full, frame)
    assert distance(histogram(frame), p) < allowed(p)


@pytest.mark.parametrize("frame", [10, 20])
def test_a_density_of_another_time_would_be_found_out(full, histogram, frame):
    """Also that of the well-known animation, which is right at t0 alone, where it shows p at t1."""
    for wrong in (binned(full, 40), binned(full, 0), base_put_on_at(full, frame)):
        assert distance(histogram(frame), wrong) > 1.5 * allowed(wrong)
    assert distance(histogram(40), base_put_on_at(full, 0)) < allowed(binned(full, 40)) + 0.05  # one value for a bin


def test_D44_the_mass_of_every_frame_is_1(full, data):
    assert np.abs(full["mass"] - 1).max() < 1e-2
    # the mean of four corners is off by O(h²), and the coarse mesh has double the step
    assert (data("density_flow")["mass"][-1] - 1) / (full["mass"][-1] - 1) == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("frame", [10, 20, 40])
def test_P43_a_solve_for_this_frame_alone_says_the_same(full, frame):
    flow = ContinuousFlow(density_flow.NET, full["theta"], t1=full["t"][frame])
    some = np.random.default_rng(0).integers(0, density_flow.SIDE, (200, 2)).T
    # each solve is good to 1e-6 a step, for log p too, and there are tens of steps
    found = flow.logpdf(full["mesh"][frame][tuple(some)])
    assert found == pytest.approx(np.log(full["density"][frame][tuple(some)]), abs=1e-3)


def test_the_frames_show_the_frames(full):
    """The mesh and the samples that are drawn are those of the frame asked for."""
    for frame in density_flow.STILLS:
        left, right = density_flow.draw(full, frame=frame).axes
        assert np.array_equal(left.collections[0].get_coordinates(), full["mesh"][frame])
        assert np.array_equal(left.collections[0].get_array(), full["density"][frame])
        assert np.array_equal(right.lines[0].get_xydata(), full["samples_at"][frame])
        assert f"{full['t'][frame]:.2f}" in left.get_title()
