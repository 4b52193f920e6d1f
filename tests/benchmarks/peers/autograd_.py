"""autograd: `odeint` with the gradient that autograd gives it, an adjoint solved back by LSODA."""

from collections.abc import Callable
from functools import partial
from typing import Any

import autograd.numpy as np
from autograd import value_and_grad
from autograd.scipy.integrate import odeint

from .cases import Answer, Case, Side, blocks, flat

LARGEST = 20_000  # LSODA asks for (2 B n + m)² numbers of memory: 3 GB


def sides(case: Case) -> dict[str, Side]:
    """The one way there is, and none for a system that LSODA's memory cannot hold."""
    if 2 * case.z0.size + case.field.m > LARGEST:
        return {}
    return {"autograd odeint": Side(partial(gradient, case), partial(read, case))}


def gradient(case: Case, tol: float) -> Callable[[], Any]:
    """Value and gradient of a function of (layers, z0)."""
    layers = tuple(tuple(np.array(block) for block in layer) for layer in blocks(case.field, case.theta))

    def rhs(y: Any, t: Any, *layers: Any) -> Any:
        return (net if case.data is not None else flow)(layers, t, np.reshape(y, (len(case.z0), -1))).ravel()

    def loss(variables: Any) -> Any:
        layers, z0 = variables
        start = z0 if case.data is not None else np.concatenate([z0, np.zeros((len(z0), 1))], axis=1)
        observed = odeint(rhs, np.ravel(start), case.times, layers, rtol=tol, atol=tol, mxstep=100_000)
        observed = np.reshape(observed, (len(case.times), *start.shape))
        if case.data is not None:
            return 0.5 * np.sum((observed[1:] - case.data[1:]) ** 2)
        z, delta = observed[-1, :, :-1], observed[-1, :, -1]
        return -np.sum(0.5 * np.sum(z * z, axis=1) + 0.5 * z.shape[1] * np.log(2 * np.pi) + delta)

    with_gradient = value_and_grad(loss)
    return lambda: with_gradient((layers, case.z0))


def net(layers: Any, t: Any, z: Any) -> Any:
    """f: tanh between the layers, t fed to each where the case says so."""
    x = affine(layers[0], t, z)
    for layer in layers[1:]:
        x = affine(layer, t, np.tanh(x))
    return x


def affine(layer: Any, t: Any, x: Any) -> Any:
    b = layer[1] + layer[2] * t if len(layer) == 3 else layer[1]
    return np.dot(x, layer[0]) + b


def flow(layers: Any, t: Any, y: Any) -> Any:
    """(f, −τ), with tr ∇f = Σ_h σ′_h Σ_i W1_ih W2_hi."""
    first, second = layers
    x = np.tanh(affine(first, t, y[:, :-1]))
    tau = np.dot(1.0 - x * x, np.sum(first[0].T * second[0], axis=1))
    return np.concatenate([affine(second, t, x), -tau[:, None]], axis=1)


def read(case: Case, found: Any) -> Answer:
    value, (layers, z0_bar) = found
    return Answer(float(value), flat(case.field, layers), z0_bar)
