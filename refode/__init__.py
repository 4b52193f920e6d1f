"""refode: Neural ODEs from the note, executable.

Every vector-Jacobian product is written by hand, feeds an adjoint dynamics function, and goes through
`scipy.integrate.solve_ivp` forward and in reverse. `python -m refode.where D13` leads from an item of the note to the
code that computes it and to the tests that check it.
"""

from refode.activations import Activation
from refode.adjoint import Gradient, adjoint
from refode.check_field import check_field
from refode.divergence import divergence, linearize_divergence
from refode.errors import ReconstructionWarning, SolveError
from refode.fields import (
    Augmented,
    CubicSpiral,
    Linear,
    LotkaVolterra,
    Pendulum,
    VanDerPol,
    VectorField,
    jacobian,
    jvp,
    linearize,
)
from refode.flows import ContinuousFlow, StandardNormal
from refode.log_density import WithLogDensity
from refode.losses import GaussianNLL, SquaredError, loss_and_gradient
from refode.memory import keep_freed_memory
from refode.mlp import MLP
from refode.running_cost import KineticEnergy, WithRunningCost
from refode.solve import Trajectory, solve
from refode.steppers import RK4, Euler, Tsit5

__version__ = "0.1.0"

keep_freed_memory()

__all__ = [
    "MLP",
    "RK4",
    "Activation",
    "Augmented",
    "ContinuousFlow",
    "CubicSpiral",
    "Euler",
    "GaussianNLL",
    "Gradient",
    "KineticEnergy",
    "Linear",
    "LotkaVolterra",
    "Pendulum",
    "ReconstructionWarning",
    "SolveError",
    "SquaredError",
    "StandardNormal",
    "Trajectory",
    "Tsit5",
    "VanDerPol",
    "VectorField",
    "WithLogDensity",
    "WithRunningCost",
    "adjoint",
    "check_field",
    "divergence",
    "jacobian",
    "jvp",
    "linearize",
    "linearize_divergence",
    "loss_and_gradient",
    "solve",
]
