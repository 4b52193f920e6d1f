"""diffrax, jitted and warm, in float64: three solvers with checkpointed backpropagation, one solved back in time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from .cases import Answer, Case, Side, blocks, flat

jax.config.update("jax_enable_x64", True)


def sides(case: Case) -> dict[str, Side]:
    """The ways whose fastest counts as diffrax."""
    solvers = {"Tsit5": diffrax.Tsit5(), "Dopri5": diffrax.Dopri5(), "Dopri8": diffrax.Dopri8()}
    ways = {f"diffrax {name}": (solver, diffrax.RecursiveCheckpointAdjoint()) for name, solver in solvers.items()}
    ways["diffrax backsolve"] = (diffrax.Tsit5(), diffrax.BacksolveAdjoint(solver=diffrax.Tsit5()))
    return {name: Side(gradient(case, *way), partial(read, case)) for name, way in ways.items()}


def gradient(case: Case, solver: Any, adjoint: Any) -> Callable[[float], Callable[[], Any]]:
    """One function of (θ, z0, tol) for all tolerances, so that it is compiled once."""
    layers = [tuple(map(jnp.asarray, layer)) for layer in blocks(case.field, case.theta)]
    z0, times = jnp.asarray(case.z0), jnp.asarray(case.times)
    term = diffrax.ODETerm(lambda t, y, layers: net(layers, t, y) if case.data is not None else flow(layers, t, y))

    def loss(layers: Any, z0: Any, tol: Any) -> Any:
        start = z0 if case.data is not None else jnp.concatenate([z0, jnp.zeros((len(z0), 1))], axis=1)
        observed = diffrax.diffeqsolve(
            term, solver, times[0], times[-1], None, start, layers,
            saveat=diffrax.SaveAt(t1=True) if len(times) == 2 else diffrax.SaveAt(ts=times[1:]),
            stepsize_controller=diffrax.PIDController(rtol=tol, atol=tol), adjoint=adjoint,
        ).ys  # fmt: skip
        if case.data is not None:
            return 0.5 * jnp.sum((observed - case.data[1:]) ** 2)
        z, delta = observed[-1, :, :-1], observed[-1, :, -1]
        return -jnp.sum(0.5 * jnp.sum(z * z, axis=1) + 0.5 * z.shape[1] * np.log(2 * np.pi) + delta)

    jitted = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def at(tol: float) -> Callable[[], Any]:
        tolerance = jnp.asarray(tol)
        return lambda: jax.block_until_ready(jitted(layers, z0, tolerance))

    return at


def net(layers: Any, t: Any, z: Any) -> Any:
    """f: tanh between the layers, t fed to each where the case says so."""
    x = affine(layers[0], t, z)
    for layer in layers[1:]:
        x = affine(layer, t, jnp.tanh(x))
    return x


def affine(layer: Any, t: Any, x: Any) -> Any:
    W, b, *c = layer
    return x @ W + (b + c[0] * t if c else b)


def flow(layers: Any, t: Any, y: Any) -> Any:
    """(f, −τ), with refode's closed form of the trace for one hidden layer: tr ∇f = Σ_h σ′_h Σ_i W1_ih W2_hi."""
    first, second = layers
    x = jnp.tanh(affine(first, t, y[:, :-1]))
    tau = (1.0 - x * x) @ jnp.sum(first[0].T * second[0], axis=1)
    return jnp.concatenate([affine(second, t, x), -tau[:, None]], axis=1)


def read(case: Case, found: Any) -> Answer:
    value, (layers, z0_bar) = found
    return Answer(float(value), flat(case.field, layers), np.asarray(z0_bar))
