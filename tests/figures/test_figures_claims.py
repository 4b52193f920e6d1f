"""What each figure claims, asserted on the numbers that it draws."""

from functools import cache

import numpy as np
import pytest

from figures import _demo, _registry


@cache
def data(name):
    return _registry.load(name).data(seed=0, fast=True)


@pytest.mark.parametrize("seed", range(3))
def test_the_demo_net_shows_what_it_has_to_show(seed):
    for demo, wanted in ((_demo.plane(seed), _demo.PLANE), (_demo.line(seed), _demo.LINE)):
        assert set(demo.measured) == set(wanted)
        assert all(low <= demo.measured[name] <= high for name, (low, high) in wanted.items())


def test_D01_E01_the_error_of_a_resnet_falls_like_its_step():
    """Euler's error is c/N + d/N² + ..., so its slope in N is -1 + O(1/N): the gap halves when N doubles."""
    drawn = data("resnet_limit")
    gap = np.diff(np.log2(drawn["error"])) + 1
    assert gap[-1] / gap[-2] == pytest.approx(0.5, abs=0.1)
    assert abs(drawn["slope"] + 1) <= abs(gap[-3])  # fitted to the last four errors
    assert drawn["slope_without"] > 0.9
    assert drawn["error_without"][-1] > 100 * drawn["error_without"][0]
    for N in (1, 2, 4, 8, 16):
        end = drawn[f"resnet_{N}"][-1]
        assert abs(end - drawn["exact"][-1]) == drawn["error"][np.log2(N).astype(int)]
