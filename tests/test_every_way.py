"""Every way to the gradient, at every corner of observation times, under every kind of loss, against complex step.

What comes out is the table of the README: `python -m tests.benchmarks.methods_table`.
"""

import pytest
from benchmarks.methods_table import REFUSALS, refusal
from corners import ALLOWED, BLOCKS, CORNERS, LOSSES, corner, errors

from refode.adjoint import LEAST_KEPT, WAYS


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("where", CORNERS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_at_every_corner_under_every_loss(way, where, loss):
    """Gradients in z0, θ and all times of a loss in z, with a running cost, and with θ in it besides."""
    got = errors(corner(where, loss), way)
    assert max(got.values()) <= ALLOWED, got


@pytest.mark.parametrize("where", CORNERS)
def test_the_corners_differ_and_no_block_vanishes(where):
    """Else a way that ignores something would pass."""
    wants = [corner(where, loss).want for loss in LOSSES]
    for block in BLOCKS:
        assert all(abs(want[block]).max() > 0.1 for want in wants)
    assert abs(wants[0]["theta"] - wants[1]["theta"]).max() > 0.1
    assert abs(wants[0]["theta"] - wants[2]["theta"]).max() > 0.1


@pytest.mark.parametrize(("way", "keep", "method"), REFUSALS)
def test_what_a_way_cannot_do_it_refuses_by_name(way, keep, method):
    said = refusal(way, keep, method)
    assert f'"{way}"' in said
    if method == "RK45":  # it names the `keep` that would do
        assert f'keep="{LEAST_KEPT[way]}"' in said
    else:  # it names a way that would do
        assert any(f'"{other}"' in said for other in WAYS if other != way)
