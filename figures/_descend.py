"""Training as the figures show it: Adam on a loss and its gradient, and the loss before every step."""

from collections.abc import Callable

import numpy as np

from refode.training import Adam


def descend(
    value_and_gradient: Callable, theta: np.ndarray, iterations: int, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return theta after so many steps of Adam, and the losses (iterations + 1,) before, between and after them."""
    adam, losses = Adam.start(len(theta)), []
    for _ in range(iterations):
        value, g = value_and_gradient(theta)
        losses.append(value)
        adam, move = adam.step(g, rate)
        theta = theta + move
    return theta, np.array([*losses, value_and_gradient(theta)[0]])
