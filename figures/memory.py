"""What a gradient holds in memory: something for each step, or not, and something for each layer of f, always."""

import gc
import tracemalloc
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from refode import MLP, Pendulum, adjoint, solve
from refode.fields import VectorField
from refode.sensitivities.discrete import CHECKPOINTS

from ._kept import kept
from ._roles import points, role
from ._text import beside, canvas, label, title

CLAIM = "Memory need not grow with the steps; with the layers of f it does"
CAPTION = (
    "Peak of tracemalloc over a whole gradient, forward solve and adjoint together. Left: {batch} undamped pendulums, "
    "one state of all of them {state_kb:.0f} kB, by RK45 over longer and longer spans. Backpropagation takes steps x "
    "state, times {per_step[1]:.1f} where the states of the steps are kept and {per_step[0]:.1f} where their stages "
    "are too; where they are computed again from {checkpoints} checkpoints, never more than {most[2]:.0f} states, and "
    "the note's solve back {most[3]:.0f}. Right: nets with hidden layers of width {width}, {batch} samples, by "
    "{rk4[0]} steps (circles) and {rk4[1]} steps (lines) of RK4. Each layer adds the {output_kb:.0f} kB that it puts "
    "out, times {per_layer[0]:.1f} in backpropagation, which holds the four stages of a step at once, and "
    "{per_layer[1]:.1f} on the way back, which holds one f at a time. Dotted: once."
)
ALT = (
    "Left, on logarithmic axes over the number of steps, two curves rise in proportion and two stay level. Right, over "
    "the number of layers, both curves rise in straight lines, and the circles of fewer steps lie on them."
)
NOTE_IDS = ("P05", "P25", "E19")
COST_S = 60.0
SIZES = ("beamer169", "beamer43", "ppt169", "text")
KEPT = "measurement"

BATCH, WIDTH = 1000, 32
SWING = np.array([1.0, 0.0])  # stiffness, and no damping, so that the pendulums can be solved back
WAYS = {  # name -> way to the gradient, what the forward solve keeps, role
    "stages kept": ("discrete", "stages", "forward"),
    "steps kept": ("discrete", "steps", "alternative"),
    "checkpoints": ("discrete", "times", "muted"),
    "solved back": ("backsolve", "observations", "adjoint"),
}
FLAT = ("checkpoints", "solved back")


def data(seed: int = 0, fast: bool = False) -> dict:
    """Return peaks of all WAYS over the steps (4, spans) in states, and of the FLAT over the layers (2, 2, nets).

    The latter with fewer and with more steps, in outputs of a layer.
    """
    rng = np.random.default_rng(seed)
    z0 = rng.standard_normal((BATCH, 2))
    spans, layers = 2.0 * 2 ** np.arange(4 if fast else 8), 2 ** np.arange(4 if fast else 6)
    rk4 = np.array([4, 16] if fast else [4, 64])
    steps, states = _over_steps(z0, spans)
    outputs = _over_layers(z0, layers, rk4, rng)
    return {
        "steps": steps,
        "states": states,
        "most": states.max(axis=1),
        "per_step": np.polyfit(steps, states.T, 1)[0],
        "layers": layers,
        "rk4": rk4,
        "outputs": outputs,
        "per_layer": np.polyfit(layers, outputs[:, -1].T, 1)[0],
        "state_kb": z0.nbytes / 1e3,
        "output_kb": BATCH * WIDTH * z0.itemsize / 1e3,
        **{"batch": BATCH, "width": WIDTH, "checkpoints": CHECKPOINTS},
    }


def _over_steps(z0: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the accepted steps (spans,) and the peaks (4, spans) in states."""
    field = Pendulum()
    peak(field, z0, SWING, 1.0, "backsolve", "observations")  # imports and caches are paid for once
    found = np.array([[peak(field, z0, SWING, span, way, keep) for span in spans] for way, keep, _ in WAYS.values()])
    return found[0, :, 1], found[..., 0] / z0.nbytes


def _over_layers(z0: np.ndarray, layers: np.ndarray, rk4: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the peaks (2, 2, nets) of the FLAT ways, for each number of steps, in outputs of a layer."""
    nets = [MLP([2] + [WIDTH] * count + [2]) for count in layers]
    thetas = [net.init(rng) for net in nets]
    peaks = np.empty((len(FLAT), len(rk4), len(nets)))
    for i, j, k in np.ndindex(peaks.shape):
        way, keep, _ = WAYS[FLAT[i]]
        peaks[i, j, k], _ = peak(nets[k], z0, thetas[k], 1.0, way, keep, method="RK4", step=1 / rk4[j])
    return peaks / (BATCH * WIDTH * z0.itemsize)


def peak(
    field: VectorField, z0: np.ndarray, theta: np.ndarray, span: float, way: str, keep: str, **options
) -> tuple[int, int]:
    """Return the bytes at the peak of a gradient, of half the squared end state, and the steps of the forward solve."""
    gc.collect()
    tracemalloc.start()
    trajectory = solve(field, z0, theta, [0.0, span], keep=keep, **options)
    adjoint(trajectory, np.stack([np.zeros_like(z0), trajectory.z[-1]]), method=way)
    _, at_peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return at_peak, trajectory.n_steps


compute = partial(kept, "memory")


def draw(data: dict | None = None, *, fig: FigureBase | None = None) -> FigureBase:
    """Draw the peaks over the steps beside those over the layers; return the figure."""
    data = compute() if data is None else data
    fig = canvas() if fig is None else fig
    left, right = fig.subplots(1, 2, width_ratios=(1.2, 1))
    _draw_steps(left, data)
    _draw_layers(right, data)
    title(fig, CLAIM)
    return fig


def _draw_steps(ax: Axes, data: dict) -> None:
    steps, states = data["steps"], data["states"]
    for (_, _, who), each in zip(WAYS.values(), states, strict=True):
        ax.loglog(steps, each, **role(who))
    a, b, k = *data["per_step"][:2], data["checkpoints"]
    label(ax, "solved back", (steps[-1], states[3, -1]), (0.0, -0.4), "adjoint", ha="right")
    beside(ax, f"stages: ${a:.0f}\\,N$", steps, states[0], "forward")
    beside(ax, f"steps: ${b:.0f}\\,N$", steps, states[1], "alternative", near=0.7)
    beside(ax, f"{k} checkpoints", steps, states[2], "muted", near=1.0)
    ax.set(xlabel="accepted steps $N$", ylabel="peak, in states", ylim=(states.min() / 3, None))


def _draw_layers(ax: Axes, data: dict) -> None:
    layers, end = data["layers"], data["layers"][-1]
    ax.plot(layers, layers, **role("reference"))
    for name, (fewer, more) in zip(FLAT, data["outputs"], strict=True):
        who = WAYS[name][2]
        ax.plot(layers, more, **role(who))
        ax.plot(layers, fewer, **points(who, filled=False))
    (_, recomputed), (_, back) = data["outputs"]
    first, second = data["per_layer"]
    label(ax, f"checkpoints: ${first:.1f}\\,\\ell$", (end, recomputed[-1]), (-3.0, 0.0), "muted")
    label(ax, f"back: ${second:.1f}\\,\\ell$", (end, back[-1]), (0.0, 0.8), "adjoint", ha="right")
    label(ax, r"$\ell$", (end, end), (0.0, 0.4))
    ax.set(xlabel=r"hidden layers $\ell$ of $f$", ylabel="peak, in outputs of a layer")
