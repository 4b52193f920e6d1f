"""What is raised says where, survives a process pool, and bounds the work."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from refode import Linear, VanDerPol, adjoint, solve
from refode.arguments import real_array
from refode.errors import SolveError


def test_a_failure_survives_pickling():
    told = {"direction": "reverse", "t": 0.5, "step": 1e-3, "z_norm": 2.0, "f_norm": 3.0, "nfev": 7}
    error = SolveError("f is not finite", **told)
    twin = pickle.loads(pickle.dumps(error))
    assert str(twin) == str(error)
    assert vars(twin) == vars(error) == {"reason": "f is not finite", **told}


def test_steps_too_small_to_count_are_stopped_by_max_nfev():
    with pytest.raises(SolveError, match="max_nfev = 50 evaluations are spent"):
        solve(VanDerPol(), [2.0, 0.0], [1.0], [0.0, 1.0], method="Euler", step=1e-13, max_nfev=50)


def test_the_bound_of_the_forward_solve_is_that_of_the_reverse_one():
    trajectory = replace(solve(Linear(2), [2.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 1.0]), max_nfev=5)
    with pytest.raises(SolveError, match=r"^reverse solve .* max_nfev = 5 evaluations are spent"):
        adjoint(trajectory, np.ones((2, 2)))
    assert adjoint(trajectory, np.ones((2, 2)), max_nfev=10_000).nfev > 5


def test_arrays_come_out_in_rows_whatever_their_order():
    assert real_array("data", np.asfortranarray(np.ones((3, 2)))).flags.c_contiguous


def test_an_empty_batch_has_a_gradient_of_nothing_under_the_seminorm():
    trajectory = solve(Linear(2), np.empty((0, 2)), [0.0, 1.0, -1.0, 0.0], [0.0, 1.0])
    gradient = adjoint(trajectory, np.empty((2, 0, 2)), seminorm=True)
    assert gradient.z0.shape == (0, 2)
    assert not gradient.theta.any()
