"""How the sides are timed: each at the loosest tolerance that is good enough, and then in turns.

On a busy machine a wall clock tells more of the neighbours than of the code, and a processor clock hardly notices
them; both are read.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter, process_time
from typing import Any

import numpy as np

from .cases import Answer, Side, error

LOOSEST, TIGHTEST = 1.0, 13.0  # tolerances tried, in decades
COARSE, FINE = 1 / 4, 1 / 12  # steps between them, in search of a target and around it
TURN = 0.02  # seconds that a turn lasts at least
BUDGET = 2.0  # seconds for all turns of a slow side, which gets fewer of them
FEWEST = 3


@dataclass(frozen=True)
class Setting:
    """A side at a tolerance, with the errors that it has there; or the reason why there is none."""

    tol: float
    error: float = np.nan  # of the gradient
    loss_error: float = np.nan
    failure: str = ""


def calibrate(side: Side, want: Answer, targets: list[float]) -> dict[float, Setting]:
    """For each target the loosest tolerance whose gradient error does not exceed it, from the loosest target on."""
    found: dict[float, Setting] = {}
    exponent, here = LOOSEST, attempt(side, want, 10.0**-LOOSEST)
    for target in sorted(targets, reverse=True):
        while not here.error <= target and exponent < TIGHTEST:
            exponent += COARSE
            here = attempt(side, want, 10.0**-exponent)
        between = (attempt(side, want, 10.0 ** -(exponent - COARSE + FINE * k)) for k in (1, 2))
        found[target] = next((setting for setting in between if setting.error <= target), here)
        if not here.error <= target:
            found[target] = replace(here, failure=here.failure or f"not reached: error {here.error:.1e}")
    return found


def attempt(side: Side, want: Answer, tol: float) -> Setting:
    """The errors of one call; NaN and the reason where it fails, which peers do in many ways."""
    try:
        got = side.read(side.at(tol)())
    except Exception as exception:
        return Setting(tol, failure=f"{type(exception).__name__}: {str(exception).strip()[:80]}")
    return Setting(tol, error(got, want), abs(got.value - want.value) / abs(want.value))


def take_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds by the wall and by the processor of each call, (rounds, 2), NaN where a slow one sat out.

    The order is drawn anew in each round, so that nobody always comes after the same one.
    """
    rng = np.random.default_rng(0)
    seconds = {name: np.full((rounds, 2), np.nan) for name in calls}
    plays = {name: schedule(call, rounds) for name, call in calls.items()}
    for k in range(rounds):
        for name in rng.permutation(list(calls)):
            if plays[name][k]:
                seconds[name][k] = turn(calls[name])
    return seconds


def schedule(call: Callable[[], Any], rounds: int) -> np.ndarray:
    """The rounds that a call plays in, (rounds,), evenly spread: all, if it is fast. It also warms up."""
    call()
    start = perf_counter()
    call()
    often = int(np.clip(BUDGET / (perf_counter() - start), min(FEWEST, rounds), rounds))
    return np.diff(np.arange(rounds + 1) * often // rounds) > 0


def turn(call: Callable[[], Any]) -> tuple[float, float]:
    """The median by the wall and the mean by the processor, over calls that fill a turn.

    The first of several does not count: it finds the caches full of somebody else's data.
    """
    first = timed(call)
    if first[0] >= TURN:
        return first
    seconds = np.array([timed(call) for _ in range(int(TURN / first[0]) + 1)])
    return float(np.median(seconds[:, 0])), float(np.mean(seconds[:, 1]))


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    cpu, wall = process_time(), perf_counter()
    call()
    return perf_counter() - wall, process_time() - cpu
