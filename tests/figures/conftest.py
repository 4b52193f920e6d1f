"""Pictures are drawn without a window, in the light style, and closed after each test; data are computed once."""

from functools import cache

import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture
def light():
    """The context of the light theme at the default size; yields pyplot."""
    import matplotlib.pyplot as plt

    from figures._styles import style

    with style():
        yield plt
        plt.close("all")


@pytest.fixture(scope="session")
def data():
    """The data of a figure by its name, for seed 0, in the fast version."""
    from figures._registry import load

    return cache(lambda name: load(name).data(seed=0, fast=True))


@pytest.fixture(scope="session")
def kept():
    """The full data of a figure whose data are kept, by its name, for seed 0."""
    from figures._kept import kept

    return cache(kept)
