"""Fitting a density to samples: Adam on minibatches, or a full batch through `scipy.optimize.minimize`.

Training takes fixed RK4 steps, whose exact gradient is the discrete way's. Their number is drawn anew in every
iteration: an optimiser that always sees the same grid learns to exploit its error, and scores above the true density
on that grid and far below it on a finer one. For the same reason nothing here is scored on the grid that trained it:
`ContinuousFlow` solves adaptively.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from refode.arguments import count, real_array, tolerance
from refode.files import load_arrays, save_arrays
from refode.flows import ContinuousFlow
from refode.types import Array


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba (2015): m and v, running means of the gradient and its square, put right for their start at 0."""

    m: Array
    v: Array
    k: int = 0  # steps taken

    @classmethod
    def start(cls, size: int) -> "Adam":
        return cls(np.zeros(size), np.zeros(size))

    def step(self, g: Array, rate: float, beta1: float = 0.9, beta2: float = 0.999) -> tuple["Adam", Array]:
        """The next state, and what to add to θ to descend along the gradient g."""
        k = self.k + 1
        m = beta1 * self.m + (1 - beta1) * g
        v = beta2 * self.v + (1 - beta2) * g * g
        return Adam(m, v, k), -rate * (m / (1 - beta1**k)) / (np.sqrt(v / (1 - beta2**k)) + 1e-8)


@dataclass(frozen=True)
class Recipe:
    """How a density is fitted by minibatches. Standardise the data first: noise and rates are in its units."""

    iterations: int = 8600
    batch: int = 256
    rate: tuple[float, float] = (1e-2, 1e-4)  # first and last, along a cosine
    clip: float = 1.0  # longest gradient
    noise: float = 0.07  # standard deviation of what is added to the data, anew in every iteration
    steps: tuple[int, int] = (6, 12)  # of RK4 over the span: fewest and most
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "batch"):
            count(name, getattr(self, name))
        fewest, most = self.steps
        if not 1 <= count("steps", fewest) <= count("steps", most):
            raise ValueError(f"steps must be the fewest and the most of a range, got {self.steps}")
        for name in ("clip", "noise"):
            tolerance(name, getattr(self, name), 0.0)

    def rate_at(self, k: int) -> float:
        first, last = self.rate
        return float(last + (first - last) * 0.5 * (1 + np.cos(np.pi * k / self.iterations)))


@dataclass(frozen=True)
class Progress:
    """Where a fit stands: what callbacks get, and what a checkpoint holds."""

    theta: Array
    adam: Adam
    rng: np.random.Generator
    k: int  # iterations done
    history: list[float] = field(default_factory=list)  # mean log-likelihood of each minibatch


Callback = Callable[[Progress], Any]


def fit(
    flow: ContinuousFlow,
    data: Any,
    recipe: Recipe | None = None,
    *,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
    every: int = 200,
    show: bool = True,
) -> ContinuousFlow:
    """Maximise the likelihood of data (N, n) by Adam; the fitted flow.

    Parameters
    ----------
    callback : called after every iteration; a true answer ends the fit
    checkpoint : a file to which the state goes every `every` iterations and at the end, atomically. If it exists, the
        fit goes on from it, and ends with the bits it would have had without the interruption
    show : a line on stderr every `every` iterations

    A likelihood that is not finite ends the fit with a warning line and the last good parameters; so does Ctrl-C.
    Raises TypeError or ValueError for bad data before any work.
    """
    recipe = recipe or Recipe()
    data = _data(data, flow.n)
    state = _resume(checkpoint, flow, recipe)
    start = time.perf_counter()
    try:
        while state.k < recipe.iterations:
            following = _iterate(flow, data, recipe, state)
            if following is None:
                _say(show, f"iteration {state.k}: the likelihood is not finite; kept the last good parameters")
                break
            state = following
            if state.k % every == 0 or state.k == recipe.iterations:
                seconds = time.perf_counter() - start
                mean = np.mean(state.history[-every:])
                _say(show, f"iteration {state.k:6d}  log-likelihood {mean:8.4f}  {seconds:6.1f} s")
                _keep(checkpoint, recipe, state)
            if callback is not None and callback(state):
                break
    except KeyboardInterrupt:
        _say(show, f"interrupted at iteration {state.k}")
    _keep(checkpoint, recipe, state)
    return flow.with_theta(state.theta)


def _iterate(flow: ContinuousFlow, data: Array, recipe: Recipe, state: Progress) -> Progress | None:
    """One step of Adam; None if the likelihood or its gradient is not finite."""
    rng = _copy(state.rng)
    x = data[rng.integers(len(data), size=min(recipe.batch, len(data)))]
    x = x + recipe.noise * rng.normal(size=x.shape)
    steps = int(rng.integers(recipe.steps[0], recipe.steps[1] + 1))
    grid = {"method": "RK4", "step": abs(flow.t1 - flow.t0) / steps}
    try:
        found = replace(flow, theta=state.theta, options=grid).likelihood_gradient(x, method="discrete")
    except (FloatingPointError, RuntimeError):
        return None
    g = -found.theta / len(x)
    size = float(np.linalg.norm(g))
    if not np.isfinite(size) or not np.isfinite(found.value):
        return None
    adam, move = state.adam.step(g * min(1.0, recipe.clip / (size or 1.0)), recipe.rate_at(state.k))
    return Progress(state.theta + move, adam, rng, state.k + 1, [*state.history, found.value / len(x)])


def fit_full_batch(
    flow: ContinuousFlow, data: Any, *, show: bool = True, every: int = 10, **options: Any
) -> ContinuousFlow:
    """Maximise the likelihood of all of data (N, n) by `scipy.optimize.minimize`, L-BFGS-B by default."""
    data = _data(data, flow.n)
    found: list[float] = []

    def mean_nll(theta: Array) -> tuple[float, Array]:
        g = flow.with_theta(theta).likelihood_gradient(data, method="discrete")
        found.append(g.value / len(data))
        if len(found) % every == 0:
            _say(show, f"evaluation {len(found):5d}  log-likelihood {found[-1]:8.4f}")
        return -g.value / len(data), -g.theta / len(data)

    result = minimize(mean_nll, flow.theta, jac=True, **({"method": "L-BFGS-B"} | options))
    return flow.with_theta(result.x)


def _resume(checkpoint: str | Path | None, flow: ContinuousFlow, recipe: Recipe) -> Progress:
    """Where the fit begins: at the checkpoint if there is one, of the same recipe; else at the flow's parameters."""
    m = flow.field.m
    if checkpoint is None or not Path(checkpoint).exists():
        return Progress(flow.theta, Adam.start(m), np.random.Generator(np.random.PCG64(recipe.seed)), 0)
    shapes: dict[str, tuple[int | str, ...]] = {
        "theta": (m,),
        "m": (m,),
        "v": (m,),
        "history": ("k",),
        "rng": ("bytes",),
        "recipe": ("bytes",),
    }
    saved = load_arrays(checkpoint, "refode.training", shapes)
    if _text(saved["recipe"]) != repr(recipe):
        raise ValueError(f"{checkpoint} was made by another recipe: {_text(saved['recipe'])}")
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = json.loads(_text(saved["rng"]))
    k = len(saved["history"])
    return Progress(saved["theta"], Adam(saved["m"], saved["v"], k), rng, k, list(saved["history"]))


def _keep(checkpoint: str | Path | None, recipe: Recipe, state: Progress) -> None:
    if checkpoint is not None:
        save_arrays(
            checkpoint,
            "refode.training",
            theta=state.theta,
            m=state.adam.m,
            v=state.adam.v,
            history=np.array(state.history),
            rng=_bytes(json.dumps(state.rng.bit_generator.state)),
            recipe=_bytes(repr(recipe)),
        )


def _bytes(text: str) -> Array:
    return np.array(list(text.encode()), dtype=np.uint8)


def _text(numbers: Array) -> str:
    return bytes(numbers.astype(np.uint8)).decode()


def _data(data: Any, n: int) -> Array:
    data = real_array("data", data, ("N", n))
    if len(data) < 2:
        raise ValueError(f"data must hold at least two points, got {len(data)}")
    return data


def _copy(rng: np.random.Generator) -> np.random.Generator:
    """The same stream from the same place, so that an iteration that fails leaves no trace."""
    twin = np.random.Generator(np.random.PCG64())
    twin.bit_generator.state = rng.bit_generator.state
    return twin


def _say(show: bool, text: str) -> None:
    if show:
        print(text, file=sys.stderr, flush=True)
