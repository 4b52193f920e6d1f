"""Pictures are drawn without a window, in the light style, and closed after each test."""

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
