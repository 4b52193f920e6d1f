"""Fitting a density to samples: Adam on minibatches, or a full batch through `scipy.optimize.minimize`.

Training takes fixed RK4 steps, whose exact gradient is the discrete way's. Their number is drawn anew in every
iteration: an optimiser that always sees the same grid learns to exploit its error, and scores above the true density
on that grid and far below it on a finer one. Random grids, clipping and a moderate rate make that rare, not impossible:
at a rate of 2e-2 two circles were cheated on 6 to 12 steps as well. Where in doubt train by a solver with a tolerance
(`steps=None`). What a fit shows as it goes is the likelihood of noisy minibatches on their grids, which is no score:
`ContinuousFlow.logpdf` solves adaptively.
"""

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from refode.arguments import count, real_array, tolerance
from refode.errors import SolveError
from refode.files import load_arrays, save_arrays
from refode.flows import ContinuousFlow, Likelihood, LikelihoodGradient
from refode.mlp import MLP
from refode.running_cost import RunningCost
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
    """How a density is fitted by minibatches. Standardise the data first: noise and rates are in its units.

    steps (fewest, most) trains on RK4 grids of that many steps over the span, and of the flow's options uses none:
    method, tolerances and step are those of the grid. None trains by the flow's own solver and all of its options. The
    rest of the recipe, the noise on the data too, holds for both; the flow that is returned has its options either way.

    Noise smooths the density that is fitted: with too little the fit follows single points, too much widens what is
    narrow. `along` adds noise where it widens little, where the data lie along something: that of a point has the
    covariance noise² I + along² (C − λ I), C that of the point and its nearest neighbours, λ the least eigenvalue of C
    (after Vincent and Bengio 2003, "Manifold Parzen windows").
    """

    iterations: int = 8600
    batch: int = 256
    rate: tuple[float, float] = (1e-2, 1e-4)  # first and last, along a cosine
    clip: float = 1.0  # longest gradient; inf for any
    noise: float = 0.07  # standard deviation of what is added to the data, anew in every iteration
    along: float = 0.0  # of what is added besides where a point's neighbourhood stretches, in units of its stretch
    neighbours: int = 100  # that make a neighbourhood, beside the point itself
    steps: tuple[int, int] | None = (6, 12)  # of a grid, drawn anew in every iteration
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "neighbours"):
            count(name, getattr(self, name))
        count("seed", self.seed, 0)
        fewest, most = (1, 1) if self.steps is None else self.steps
        if count("steps", fewest) > count("steps", most):
            raise ValueError(f"steps must be the fewest and the most of a range, got {self.steps}")
        first, last = self.rate
        if tolerance("rate", first, 0.0) == 0 or tolerance("rate", last, 0.0) > first:
            raise ValueError(f"rate must be positive and fall from the first to the last, got {self.rate}")
        tolerance("noise", self.noise, 0.0)
        tolerance("along", self.along, 0.0)
        if not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}")

    def rate_at(self, k: int) -> float:
        first, last = self.rate
        return float(last + (first - last) * 0.5 * (1 + np.cos(np.pi * k / self.iterations)))


@dataclass(frozen=True)
class Progress:
    """Where a fit stands: what callbacks get, and what a checkpoint holds."""

    theta: Array
    adam: Adam
    stream: Any  # where the random numbers stand: the state of a PCG64
    k: int  # iterations done
    history: list[float] = field(default_factory=list)  # mean log-likelihood of each minibatch


Callback = Callable[[Progress], Any]
Stopped = (SolveError, FloatingPointError)  # how a likelihood fails


def start(net: MLP, rng: np.random.Generator) -> Array:
    """θ (m,) to begin a fit to standardised data from: features of their scale, and a flow close to the identity.

    The first layer's W ~ N(0, 1.5²), b and c ~ N(0, 1); the last one's W ~ N(0, 0.3²/width), b = c = 0; what lies
    between is `MLP.init`'s.
    """
    theta = net.init(rng)
    layers = list(net.layers(theta))
    for block, scale in zip(layers[0], (1.5, 1.0, 1.0), strict=True):
        block[...] = rng.normal(0.0, scale, block.shape)
    for block, scale in zip(layers[-1], (0.3 / np.sqrt(len(layers[-1][0])), 0.0, 0.0), strict=True):
        block[...] = rng.normal(0.0, scale, block.shape)
    return theta


def fit(
    flow: ContinuousFlow,
    data: Any,
    recipe: Recipe | None = None,
    *,
    way: str = "discrete",
    running_cost: RunningCost | None = None,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
    every: int = 200,
    show: bool = True,
) -> ContinuousFlow:
    """Maximise the likelihood of data (N, n) by Adam; the fitted flow.

    Parameters
    ----------
    flow : where the fit starts; its field, base and span stay. Its options solve only if the recipe has no `steps`
    way : to the gradient, as `method` of `adjoint`; the default marches on a tape, and is exact for the grid
    running_cost : a cost of z whose integral along a sample's path is taken off its log-likelihood
    callback : called after every iteration; a true answer ends the fit
    checkpoint : a file to which the state goes every `every` iterations and at the end, atomically. If it exists, the
        fit goes on from it, and ends with the bits it would have had without the interruption. ValueError if it is
        of another fit: recipe, data, field, base, span, way or cost differ (by `repr`, or by the class where that has
        none of its own), or the options where they matter
    show : a line on stderr every `every` iterations

    A likelihood that is not finite ends the fit with a line on stderr and the last parameters at which it was; so does
    Ctrl-C, with the latest. Raises TypeError or ValueError for bad data before any work.
    """
    recipe = recipe or Recipe()
    data, every = _data(data, flow.n), count("every", every)
    begun, likelihood = time.perf_counter(), Likelihood(flow, method=way, running_cost=running_cost)
    made_by = _identity(flow, data, recipe, way, running_cost)
    state = good = _resume(checkpoint, flow, recipe, made_by)
    _keep(checkpoint, made_by, state)  # a file that cannot be written is known now
    spread = _spread(data, recipe)
    try:
        while state.k < recipe.iterations:
            good, state = state, _iterate(likelihood, flow, data, spread, recipe, state)
            if state.k % every == 0 or state.k == recipe.iterations:
                seconds, mean = time.perf_counter() - begun, np.mean(state.history[-every:])
                _say(show, f"iteration {state.k:6d}  log-likelihood {mean:8.4f}  {seconds:6.1f} s")
                _keep(checkpoint, made_by, state)
            if callback is not None and callback(state):
                break
    except KeyboardInterrupt:
        _say(show, f"interrupted at iteration {state.k}")
    except Stopped as reason:
        _say(show, f"stopped after iteration {state.k}, kept the parameters before it: {reason}")
        state = good
    _keep(checkpoint, made_by, state)
    return flow.with_theta(state.theta)


def _spread(data: Array, recipe: Recipe) -> Array:
    """S (N, n, n), by which each point's noise is S times that of N(0, I): S² = σ² I + h² (C − λ I)."""
    if recipe.along == 0:
        return np.broadcast_to(recipe.noise * np.eye(data.shape[1]), (len(data), *2 * data.shape[1:]))
    near = data[cKDTree(data).query(data, min(recipe.neighbours + 1, len(data)))[1]]
    near = near - near.mean(axis=1, keepdims=True)
    w, V = np.linalg.eigh(np.swapaxes(near, 1, 2) @ near / near.shape[1])  # C = V diag(w) Vᵀ, w[0] = λ
    deviation = np.sqrt(recipe.noise**2 + recipe.along**2 * (w - w[:, :1]))
    return np.asarray((V * deviation[:, None]) @ np.swapaxes(V, 1, 2))


def _iterate(
    likelihood: Likelihood, flow: ContinuousFlow, data: Array, spread: Array, recipe: Recipe, state: Progress
) -> Progress:
    """One step of Adam."""
    rng = _generator(state.stream)
    drawn = rng.integers(len(data), size=min(recipe.batch, len(data)))
    x = data[drawn]
    x = x + np.einsum("bij,bj->bi", spread[drawn], rng.normal(size=x.shape))
    trained = flow.with_theta(state.theta)
    if recipe.steps is not None:
        steps = int(rng.integers(recipe.steps[0], recipe.steps[1] + 1))
        trained = replace(trained, options={"method": "RK4", "step": abs(flow.t1 - flow.t0) / steps})
    found = _gradient(likelihood, trained, x)
    g = -found.theta / len(x)
    g = g * min(1.0, recipe.clip / (float(np.linalg.norm(g)) or 1.0))
    adam, move = state.adam.step(g, recipe.rate_at(state.k))
    history = [*state.history, found.value / len(x)]
    return Progress(state.theta + move, adam, dict(rng.bit_generator.state), state.k + 1, history)


def _gradient(likelihood: Likelihood, flow: ContinuousFlow, x: Array) -> LikelihoodGradient:
    """The likelihood and its gradient; FloatingPointError if one of them is not finite."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = likelihood(flow, x)
    if not np.isfinite([found.value, found.cost, *found.theta]).all():
        raise FloatingPointError("the likelihood or its gradient is not finite")
    return found


def fit_full_batch(
    flow: ContinuousFlow,
    data: Any,
    *,
    way: str = "discrete",
    running_cost: RunningCost | None = None,
    show: bool = True,
    every: int = 10,
    **options: Any,
) -> ContinuousFlow:
    """Maximise the likelihood of all of data (N, n) by `scipy.optimize.minimize`, L-BFGS-B by default.

    Every evaluation solves as the flow does, adaptively unless its options say otherwise. The flow returned has the
    best parameters met, also after Ctrl-C or a solve that fails. `way` is the way to the gradient, as `method` of
    `adjoint`; options go to `minimize`, its `method` among them.
    """
    data, every = _data(data, flow.n), count("every", every)
    likelihood, values = Likelihood(flow, method=way, running_cost=running_cost), list[float]()
    best = [(-np.inf, flow.theta)]

    def mean_loss(theta: Array) -> tuple[float, Array]:
        g = _gradient(likelihood, flow.with_theta(theta), data)
        values.append((g.value - g.cost) / len(data))
        best[0] = max(best[0], (values[-1], theta.copy()), key=lambda pair: pair[0])
        if len(values) % every == 0:
            _say(show, f"evaluation {len(values):5d}  log-likelihood {g.value / len(data):8.4f}")
        return -values[-1], -g.theta / len(data)

    try:
        minimize(mean_loss, flow.theta, jac=True, **({"method": "L-BFGS-B"} | options))
    except (KeyboardInterrupt, *Stopped) as reason:
        _say(show, f"stopped at evaluation {len(values)}, kept the best parameters: {reason!r}")
    return flow.with_theta(best[0][1])


def _identity(
    flow: ContinuousFlow, data: Array, recipe: Recipe, way: str, running_cost: RunningCost | None
) -> dict[str, str]:
    """What makes a fit this one and no other, in words that another process finds too."""
    field = flow.field
    parts = {
        "recipe": recipe,
        "data": f"{len(data)} points, sha256 {hashlib.sha256(data.tobytes()).hexdigest()[:16]}",
        "field": f"{field!r} (n = {field.n}, m = {field.m})",
        "base": flow.base,
        "span": f"{flow.t0!r} to {flow.t1!r}",
        "way": way,
        "cost": running_cost,
        "options": dict(flow.options) if recipe.steps is None else "those of a grid",
    }
    return {name: re.sub(" at 0x[0-9A-Fa-f]+", "", str(part)) for name, part in parts.items()}


def _resume(checkpoint: str | Path | None, flow: ContinuousFlow, recipe: Recipe, made_by: dict[str, str]) -> Progress:
    """Where the fit begins: at the checkpoint if there is one, of the same fit; else at the flow's θ."""
    m = flow.field.m
    if checkpoint is None or not Path(checkpoint).exists():
        return Progress(flow.theta, Adam.start(m), dict(np.random.PCG64(recipe.seed).state), 0)
    was = json.loads(_text(load_arrays(checkpoint, "refode.training", {"made_by": ("bytes",)})["made_by"]))
    differ = [f"{name} {was.get(name)} there, {here} here" for name, here in made_by.items() if was.get(name) != here]
    if differ:
        raise ValueError(f"{checkpoint} is of another fit: {'; '.join(differ)}")
    shapes: dict[str, tuple[int | str, ...]] = {
        "theta": (m,),
        "m": (m,),
        "v": (m,),
        "history": ("k",),
        "stream": ("bytes",),
    }
    saved = load_arrays(checkpoint, "refode.training", shapes)
    k = len(saved["history"])
    adam, stream = Adam(saved["m"], saved["v"], k), json.loads(_text(saved["stream"]))
    return Progress(saved["theta"], adam, stream, k, list(saved["history"]))


def _keep(checkpoint: str | Path | None, made_by: dict[str, str], state: Progress) -> None:
    if checkpoint is not None:
        save_arrays(
            checkpoint,
            "refode.training",
            theta=state.theta,
            m=state.adam.m,
            v=state.adam.v,
            history=np.array(state.history),
            stream=_bytes(json.dumps(state.stream)),
            made_by=_bytes(json.dumps(made_by)),
        )


def _bytes(text: str) -> Array:
    return np.array(list(text.encode()), dtype=np.uint8)


def _text(numbers: Array) -> str:
    return bytes(numbers.astype(np.uint8)).decode()


def _data(data: Any, n: int) -> Array:
    points = real_array("data", data, ("N", n))
    if len(points) < 2:
        raise ValueError(f"data must hold at least two points, got {len(points)}")
    return points


def _generator(stream: Any) -> np.random.Generator:
    """Random numbers from where the stream stands; it is left there."""
    bits = np.random.PCG64()
    bits.state = stream
    return np.random.Generator(bits)


def _say(show: bool, text: str) -> None:
    if show:
        print(text, file=sys.stderr, flush=True)
