"""torchdiffeq: its adjoint, and backpropagation through its solver, both by Dormand and Prince's fifth order."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torchdiffeq

from .cases import Answer, Case, Side, blocks, flat


def sides(case: Case) -> dict[str, Side]:
    """The two ways to a gradient that torchdiffeq has."""
    ways = {"torchdiffeq adjoint": torchdiffeq.odeint_adjoint, "torchdiffeq backprop": torchdiffeq.odeint}
    return {name: Side(partial(gradient, case, odeint), partial(read, case)) for name, odeint in ways.items()}


def gradient(case: Case, odeint: Any, tol: float) -> Callable[[], Any]:
    """Value and gradients by `torch.autograd.grad`, which leaves nothing to reset."""
    net = Net(case)
    z0, times = torch.tensor(case.z0, requires_grad=True), torch.tensor(case.times)
    data = None if case.data is None else torch.tensor(case.data[1:])

    def run() -> Any:
        start = z0 if data is not None else (z0, torch.zeros(len(z0), 1, dtype=z0.dtype))
        observed = odeint(net, start, times, rtol=tol, atol=tol, method="dopri5")
        if data is not None:
            loss = 0.5 * ((observed[1:] - data) ** 2).sum()
        else:
            z, delta = observed[0][-1], observed[1][-1]
            loss = -(0.5 * z * z + 0.5 * np.log(2 * np.pi)).sum() - delta.sum()
        return loss, torch.autograd.grad(loss, (z0, *net.parameters()))

    return run


class Net(torch.nn.Module):
    """f, tanh between the layers and t fed to each where the case says so; for a flow (f, −τ)."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.density = case.data is None
        self.layers = torch.nn.ModuleList(
            torch.nn.ParameterList(torch.nn.Parameter(torch.tensor(block)) for block in layer)
            for layer in blocks(case.field, case.theta)
        )

    def forward(self, t: Any, y: Any) -> Any:
        x = y[0] if self.density else y
        for k, layer in enumerate(self.layers):
            hidden = torch.tanh(x) if k else x
            x = torch.addmm(layer[1] + layer[2] * t if len(layer) == 3 else layer[1], hidden, layer[0])
        if not self.density:
            return x
        weights = (self.layers[0][0].T * self.layers[1][0]).sum(dim=1)  # tr ∇f = Σ_h σ′_h Σ_i W1_ih W2_hi
        return x, -((1.0 - hidden * hidden) @ weights)[:, None]


def read(case: Case, found: Any) -> Answer:
    loss, (z0_bar, *bars) = found
    numpy = iter(bar.numpy() for bar in bars)
    layers = [[next(numpy) for _ in layer] for layer in blocks(case.field, case.theta)]
    return Answer(loss.item(), flat(case.field, layers), z0_bar.numpy())
