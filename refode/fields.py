"""What a vector field is here, what refode makes of one that says little, and the closed-form fields of the examples.

A field is any object with

    field.n, field.m                 state dimension and parameter count
    field(z, t, theta)               dz/dt;  z (..., n), t scalar, theta (m,)
    field.vjp(z, t, theta, a)        (a·∇§1 f, a·∇§2 f, a·∇§3 f), shapes (..., n), (), (m,)

§1, §2, §3 are the note's argument positions. t and θ are shared by a batch, so their blocks are summed over it. A
field may also bring `linearize`, `jvp` and `jacobian`; the functions of those names below use them, or make them from
the VJP. One that holds something a sample brings `of_sample`, one that has room of its own for a solve `tape`.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from refode.arguments import count
from refode.types import Array, Pullback, Scalar


class VectorField(Protocol):
    """The contract: f(z, t, θ) and its vector-Jacobian product, by hand. Note: D02 (§1), D35 (§2.2), E16, E17."""

    @property
    def n(self) -> int: ...

    @property
    def m(self) -> int: ...

    def __call__(self, z: Array, t: Scalar, theta: Array, /) -> Array: ...

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array, /) -> tuple[Array, Array, Array]: ...


def linearize(field: VectorField, z: Array, t: Scalar, theta: Array) -> tuple[Array, Pullback]:
    """dz/dt, and `pullback(a)`, the VJP at this point: `field.linearize` where there is one, else f and then `vjp`."""
    own = getattr(field, "linearize", None)
    if own is not None:
        return own(z, t, theta)  # type: ignore[no-any-return]
    return field(z, t, theta), lambda a: field.vjp(z, t, theta, a)


def jacobian(field: VectorField, z: Array, t: Scalar, theta: Array) -> Array:
    """∇§1 f, (..., n, n), outputs as rows: `field.jacobian` where there is one, else n pullbacks, e_i ↦ row i."""
    own = getattr(field, "jacobian", None)
    if own is not None:
        return own(z, t, theta)  # type: ignore[no-any-return]
    dz, pullback = linearize(field, z, t, theta)
    rows = [pullback(np.broadcast_to(e, dz.shape))[0] for e in np.eye(field.n)]  # e_i ∇§1 f
    return np.stack(rows, axis=-2)


def jvp(field: VectorField, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
    """∇§1 f·dz + ∇§2 f·dt + ∇§3 f·dθ, (..., n): `field.jvp` where there is one, else one VJP per sample and output.

    Component i of J v is (e_i J) v. The VJP sums the t and θ blocks over a batch, hence a sample at a time.
    """
    own = getattr(field, "jvp", None)
    if own is not None:
        return own(z, t, theta, dz, dt, dtheta)  # type: ignore[no-any-return]
    out: Array = np.empty(z.shape, dtype=np.result_type(z, theta, dz, dtheta, np.asarray(dt), np.asarray(t)))
    for sample in np.ndindex(z.shape[:-1]):
        _, pullback = linearize(of_sample(field, sample), z[sample], t, theta)
        for i, e in enumerate(np.eye(field.n)):
            a_z, a_t, a_theta = pullback(e)
            out[(*sample, i)] = a_z @ dz[sample] + a_t * dt + a_theta @ dtheta
    return out


def slopes(
    gradient: Callable[[tuple[int, ...]], tuple[Array, Array, Array]], dz: Array, dt: Scalar, dtheta: Array
) -> Array:
    """The slope along (dz, dt, dθ) of one number a sample, (...), by its gradient(sample) in three blocks.

    A VJP sums the t and θ blocks over a batch, hence a sample at a time.
    """
    found = []
    for sample in np.ndindex(dz.shape[:-1]):
        a_z, a_t, a_theta = gradient(sample)
        found.append(a_z @ dz[sample] + a_t * dt + a_theta @ dtheta)
    return np.reshape(found, dz.shape[:-1])


def of_sample(part: Any, sample: tuple[int, ...]) -> Any:
    """A field or a cost as sample z[sample] of a batch meets it: itself, unless it holds something a sample, as probes

    are, and says by a method `of_sample` what of it is whose.
    """
    own = getattr(part, "of_sample", None)
    return part if own is None else own(sample)


def checked_rate(rate: Any, shape: tuple[int, ...]) -> Array:
    """What a field returned for states of that shape; ValueError for another shape or for complex numbers."""
    dz: Array = np.asarray(rate)
    if dz.shape != shape or dz.dtype.kind != "f":
        raise ValueError(f"the field must return a real array of shape {shape}, got {dz.dtype} {dz.shape}")
    return dz


def check_blocks(blocks: tuple[Any, ...], shape: tuple[int, ...], m: int) -> None:
    """ValueError for blocks of other shapes than (..., n), (), (m,), or complex ones: a VJP is written by hand."""
    got, want = tuple(np.shape(block) for block in blocks), (shape, (), (m,))
    if got != want:
        raise ValueError(f"the field's vjp must return blocks of shapes {want}, got {got}")
    dtype = np.result_type(*blocks)
    if dtype.kind != "f":
        raise ValueError(f"the field's vjp must return real blocks, got {dtype}")


def _batch_sum(x: Array) -> Array:
    """Sum over all axes but the last."""
    total: Array = x.reshape(-1, x.shape[-1]).sum(axis=0)
    return total


class Linear:
    """f = A z, with θ = A row by row, m = n². The closed form is z(t) = expm(A t) z(0)."""

    def __init__(self, n: int) -> None:
        self.n = count("n", n)
        self.m = self.n**2

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        A = theta.reshape(self.n, self.n)
        return z @ A.T  # f_i = Σ_j A_ij z_j

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        A = theta.reshape(self.n, self.n)
        A_bar = a.reshape(-1, self.n).T @ z.reshape(-1, self.n)  # Ā_ij = Σ a_i z_j, over the batch
        return a @ A, np.zeros(()), A_bar.ravel()

    def jvp_vjp(self, z: Array, t: Scalar, theta: Array, v: Array, w: Array) -> tuple[Array, Array, Array]:
        """VJP, with cotangent w (..., n), of (z, t, θ) ↦ A v: only θ moves it, and Ā_ij = Σ w_i v_j."""
        A_bar = w.reshape(-1, self.n).T @ v.reshape(-1, self.n)
        return np.zeros_like(z), np.zeros(()), A_bar.ravel()


class LotkaVolterra:
    """Prey x and predator y, θ = (α, β, γ, δ), all rates a unit of time:  ẋ = α x − β x y,  ẏ = δ x y − γ y."""

    n, m = 2, 4

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        alpha, beta, gamma, delta = theta
        x, y = z[..., 0], z[..., 1]
        return np.stack([alpha * x - beta * x * y, delta * x * y - gamma * y], axis=-1)

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        alpha, beta, gamma, delta = theta
        x, y, a_x, a_y = z[..., 0], z[..., 1], a[..., 0], a[..., 1]
        x_bar = a_x * (alpha - beta * y) + a_y * delta * y
        y_bar = -a_x * beta * x + a_y * (delta * x - gamma)
        theta_bar = np.stack([a_x * x, -a_x * x * y, -a_y * y, a_y * x * y], axis=-1)
        return np.stack([x_bar, y_bar], axis=-1), np.zeros(()), _batch_sum(theta_bar)


class VanDerPol:
    """Oscillator with amplitude-dependent damping, θ = (μ,):  ẋ = v,  v̇ = μ (1 − x²) v − x.  Stiff for large μ."""

    n, m = 2, 1

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        x, v = z[..., 0], z[..., 1]
        return np.stack([v, theta[0] * (1.0 - x * x) * v - x], axis=-1)

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        x, v, a_x, a_v = z[..., 0], z[..., 1], a[..., 0], a[..., 1]
        x_bar = a_v * (-2.0 * theta[0] * x * v - 1.0)
        v_bar = a_x + a_v * theta[0] * (1.0 - x * x)
        mu_bar = (a_v * (1.0 - x * x) * v)[..., None]
        return np.stack([x_bar, v_bar], axis=-1), np.zeros(()), _batch_sum(mu_bar)


class CubicSpiral:
    """ẏ = y³ A with the cube elementwise and y a row, θ = A row by row (4,): torchdiffeq's demonstration problem."""

    n, m = 2, 4

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        return z**3 @ theta.reshape(2, 2)  # f_j = Σ_i y_i³ A_ij

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        z_bar = 3.0 * z**2 * (a @ theta.reshape(2, 2).T)  # z̄_i = 3 y_i² Σ_j A_ij a_j
        A_bar = (z**3).reshape(-1, 2).T @ a.reshape(-1, 2)  # Ā_ij = Σ y_i³ a_j, over the batch
        return z_bar, np.zeros(()), A_bar.ravel()


class Pendulum:
    """Angle q (rad) and velocity p, θ = (k, c), stiffness and damping:  q̇ = p,  ṗ = −k sin q − c p."""

    n, m = 2, 2

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        q, p = z[..., 0], z[..., 1]
        return np.stack([p, -theta[0] * np.sin(q) - theta[1] * p], axis=-1)

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        q, p, a_q, a_p = z[..., 0], z[..., 1], a[..., 0], a[..., 1]
        q_bar = -a_p * theta[0] * np.cos(q)
        p_bar = a_q - a_p * theta[1]
        theta_bar = np.stack([-a_p * np.sin(q), -a_p * p], axis=-1)
        return np.stack([q_bar, p_bar], axis=-1), np.zeros(()), _batch_sum(theta_bar)


class Augmented:
    """A field on (z, e), data z and `extra` more dimensions e that start at zero (Dupont et al. 2019, ANODE).

    The wrapped field has dimension n = n_data + extra. `lift` puts data into its state space, `project` reads it back;
    each is the other's transpose, so `lift` also turns a cotangent of the projection into one of the state. It carries
    no density: the data's would be one on a surface in the state space.
    """

    def __init__(self, field: VectorField, extra: int) -> None:
        self.extra = count("extra", extra)
        if self.extra >= field.n:
            raise ValueError(f"extra must be less than the field's dimension {field.n}, got {extra}")
        self.field, self.n, self.m = field, field.n, field.m

    def lift(self, z: Array) -> Array:
        """(..., n − extra) -> (..., n): zeros appended."""
        return np.concatenate([z, np.zeros((*z.shape[:-1], self.extra), dtype=z.dtype)], axis=-1)

    def project(self, z: Array) -> Array:
        """(..., n) -> (..., n − extra): the extra components dropped."""
        return z[..., : -self.extra]

    def __call__(self, z: Array, t: Scalar, theta: Array) -> Array:
        return self.field(z, t, theta)

    def linearize(self, z: Array, t: Scalar, theta: Array) -> tuple[Array, Pullback]:
        return linearize(self.field, z, t, theta)

    def vjp(self, z: Array, t: Scalar, theta: Array, a: Array) -> tuple[Array, Array, Array]:
        return self.field.vjp(z, t, theta, a)

    def jvp(self, z: Array, t: Scalar, theta: Array, dz: Array, dt: Scalar, dtheta: Array) -> Array:
        return jvp(self.field, z, t, theta, dz, dt, dtheta)

    def jacobian(self, z: Array, t: Scalar, theta: Array) -> Array:
        return jacobian(self.field, z, t, theta)
