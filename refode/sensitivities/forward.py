"""Forward sensitivities: the derivative of the state carried along with the state, one direction at a time.

    S = ∂z_t/∂(z_{t0}, θ),    Ṡ_j = ∇§1 f S_j + ∇§3 f e_j,    S(t0) = [I, 0],    dL/d(z0, θ)_j = Σ_i dL_i · S_j(t_i)

One JVP for each of the n + m directions at every evaluation: for few parameters, and as a witness that shares nothing
with the adjoint. There is no reverse solve, hence no a(t), no reconstruction and no invariant.
"""

import numpy as np

from refode.fields import jvp
from refode.integrate import Integrator
from refode.sensitivities.sweep import Sweep, Task
from refode.types import Array


def forward(task: Task) -> Sweep:
    """Solve (z, S) from t0 to t1 and pair S with the cotangents. The sensitivities are held to atol as they are.

    Note: P23 (§2.2), E18, E21.
    """
    traj, field, theta = task.trajectory, task.trajectory.field, task.trajectory.theta
    shape, directions = traj.z[0].shape, field.n + field.m
    unit_z, unit_theta = np.eye(directions, field.n), np.eye(directions, field.m, k=-field.n)
    still = np.zeros(shape)

    def rhs(t: float, y: Array) -> Array:
        z, S = y[: still.size].reshape(shape), y[still.size :].reshape(directions, *shape)
        dS = [
            jvp(field, z, t, theta, S[j], 0.0, unit_theta[j]) for j in range(directions)
        ]  # Ṡ_j = ∇§1 f S_j + ∇§3 f e_j
        return np.concatenate([field(z, t, theta).ravel(), np.ravel(dS)])

    integrator = Integrator(rhs, task.solver, task.rtol, task.atol, task.max_nfev, "forward", task.options)
    y = np.concatenate([traj.z[0].ravel(), np.ravel([still + e for e in unit_z])])  # S(t0) = [I, 0]
    z_bar, theta_bar = np.zeros(shape), np.zeros(field.m)
    for i in range(1, len(traj.times)):
        y = integrator.solve((traj.times[i - 1], traj.times[i]), y).y_end
        paired = task.dL_dz[i] * y[still.size :].reshape(directions, *shape)  # dL_i · S_j, before any sum
        z_bar += np.moveaxis(paired[: field.n].sum(axis=-1), 0, -1)  # a direction of z0 concerns each sample alone
        theta_bar += paired[field.n :].sum(axis=tuple(range(1, paired.ndim)))  # one of θ all of them
    return Sweep(z_bar, theta_bar, nfev=integrator.nfev, nvjp=0)
