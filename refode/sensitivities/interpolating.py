"""Interpolating: z(t) is read from the forward solve's dense output, and the adjoint alone is solved in reverse.

    ȧ_§1 = −a_§1 ∇§1 f(z(t), t, θ),    ȧ_§2 = −a_§1 ∇§2 f,    ȧ_§3 = −a_§1 ∇§3 f,    z(t) interpolated

Nothing is lost on the way back of z, so a contracting field does no harm; memory grows with the accepted steps. An
interpolant is of lower order than the solve (4 to RK45's 5, 7 to DOP853's 8): for a gradient as accurate as z, solve
forward one to two decades tighter.
"""

from refode.sensitivities.sweep import Augmented, Blocks, Drift, Sweep, Task, dense, in_reverse
from refode.types import Array


def interpolating(task: Task) -> Sweep:
    """Solve (a_§1, a_§2, a_§3) from t1 to t0 along the interpolant; it needs the dense output kept.

    Note: D14, D15 (§2.2), D28-D33, E08, E20.
    """
    traj, field, theta = task.trajectory, task.trajectory.field, task.trajectory.theta
    z = dense(task, "interpolating")
    blocks = Blocks(traj.z[0].shape, field.m, with_z=False)

    def rhs(t: float, y: Array) -> Array:
        a_z, _, _ = blocks.unpack(y)
        az_f1, az_f2, az_f3 = field.vjp(z(t), t, theta, a_z)
        return -blocks.pack(az_f1, az_f2, az_f3)  # ȧ = −a M, of which z needs no more

    integrator, drift = task.integrator(rhs, *blocks.tolerances(task), keep="steps"), Drift()
    steps = integrator.steps

    def stretch(start: float, end: float, q: Augmented) -> Augmented:
        steps.t.clear()  # what was kept of the stretch before has been seen
        packed = blocks.pack(*q[1:])
        integrator.solve((start, end), packed)
        for t, y in zip(steps.t[1:], steps.y.taken(packed.shape)[1:], strict=True):
            a_z, a_t, a_theta = blocks.unpack(y)
            drift.visit(a_z, field(z(t), t, theta), a_t)
        return Augmented(z(end), a_z, a_t, a_theta)

    q = in_reverse(task, stretch, drift)
    return Sweep(q.a_z, q.a_theta, nfev=len(traj.times) + integrator.steps.n, nvjp=integrator.nfev, drift=drift)
